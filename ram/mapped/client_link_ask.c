/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include <string.h>

#include "ram/mapped/client_link_priv.h"
#include "util/one_line.h"

G_STATIC_ASSERT(HANDOVER_RANGES_MAX == MEMORY_RANGES_MAX);

static ClientLink *link_of(MemoryClient *client)
{
    return (ClientLink *)client;
}

static void ask(MemoryClient *client, HandoverType request, HandoverType answer)
{
    ClientLink *link = link_of(client);

    link->request->type = request;
    client_link_ask(link, answer);
}

static HandoverText line_of(const char *text, char **ret_owned)
{
    *ret_owned = one_line(text, HANDOVER_TEXT_MAX);
    return handover_text(*ret_owned, strlen(*ret_owned));
}

static void ask_with_text(MemoryClient *client, HandoverType request, const char *text)
{
    ClientLink *link = link_of(client);
    g_autofree char *line = NULL;

    link->request->type = request;
    link->request->text = line_of(text, &line);
    client_link_ask(link, 0);
}

static void ask_advise(MemoryClient *client)
{
    ask(client, HANDOVER_ADVISE, HANDOVER_ADVISED);
}

static void ask_pause(MemoryClient *client)
{
    ClientLink *link = link_of(client);

    ask(client, HANDOVER_PAUSE, HANDOVER_PAUSED);
    if (!link->source)
        return;
    link->device_bytes = 0;
    g_queue_push_tail(&link->expected, GUINT_TO_POINTER(HANDOVER_DEVICE));
}

static void ask_throttle(MemoryClient *client, guint percent)
{
    ClientLink *link = link_of(client);

    link->request->type = HANDOVER_THROTTLE;
    link->request->percent = (guint8)MIN(percent, 99);
    client_link_ask(link, 0);
}

static void ask_resume(MemoryClient *client, const char *reason)
{
    ask_with_text(client, HANDOVER_RESUME, reason);
}

static void ask_no_return(MemoryClient *client)
{
    ask(client, HANDOVER_NO_RETURN, HANDOVER_GIVEN_UP);
}

static void ask_log_sync(MemoryClient *client)
{
    ask(client, HANDOVER_LOG_SYNC, HANDOVER_SYNCED);
}

static void ask_discard(MemoryClient *client, guint block, const MemoryRange *ranges,
                        guint n_ranges)
{
    ClientLink *link = link_of(client);

    link->request->type = HANDOVER_DISCARD;
    link->request->ranges.block = (guint16)block;
    link->request->ranges.n = (guint16)MIN(n_ranges, MEMORY_RANGES_MAX);
    for (guint i = 0; i < link->request->ranges.n; i++)
        link->request->ranges.ranges[i] = (HandoverRange){ ranges[i].start, ranges[i].length };
    client_link_ask(link, HANDOVER_DISCARDED);
}

static void ask_listen(MemoryClient *client)
{
    ask(client, HANDOVER_LISTEN, HANDOVER_LISTENING);
}

static void ask_device(MemoryClient *client, const guint8 *bytes, gsize len, gboolean last)
{
    ClientLink *link = link_of(client);
    gsize piece;

    do {
        piece = MIN(len, HANDOVER_DEVICE_PIECE_MAX);
        link->request->type = HANDOVER_DEVICE;
        link->request->device.last = last && piece == len;
        link->request->device.bytes = bytes;
        link->request->device.len = piece;
        client_link_ask(link, 0);
        len -= piece;
        if (len > 0)
            bytes += piece;
    } while (len > 0);
}

static void ask_run(MemoryClient *client)
{
    ask(client, HANDOVER_RUN, HANDOVER_RUNNING);
}

static void ask_state(MemoryClient *client, const char *name)
{
    ask_with_text(client, HANDOVER_STATE, name);
}

static void ask_end(MemoryClient *client, MemoryEndOutcome outcome, const char *text)
{
    ClientLink *link = link_of(client);
    g_autofree char *line = NULL;

    link->request->type = HANDOVER_END;
    link->request->end.outcome = (guint8)outcome;
    link->request->end.text = line_of(text, &line);
    client_link_ask(link, 0);
    link->ended = TRUE;
}

const MemoryClientOps *client_link_ops(void)
{
    static const MemoryClientOps ops = {
        .advise = ask_advise,
        .pause = ask_pause,
        .throttle = ask_throttle,
        .resume = ask_resume,
        .no_return = ask_no_return,
        .log_sync = ask_log_sync,
        .discard = ask_discard,
        .listen = ask_listen,
        .device = ask_device,
        .run = ask_run,
        .state = ask_state,
        .end = ask_end,
    };

    return &ops;
}
