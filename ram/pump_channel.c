/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The channels' half of the pump. */
#include "config.h"

#include <glib/gi18n.h>

#include "ram/pump.h"

/* A turn's share: a page that is waited for waits for a turn of everything else. */
#define TURN_READS_MAX 16
#define TURN_BYTES_MAX (96 * 1024)

/* ---- the channel's machine ---- */

void pump_channel_lose(PumpChannel *c, const char *reason)
{
    g_free(c->lost_why);
    c->lost_why = g_strdup(reason);
    if (c->lane)
        lane_on_channel_lost(c->lane, reason);
    else
        session_on_channel_lost(c->session, reason);
}

void pump_channel_give_up(PumpChannel *c, const char *reason)
{
    if (c->lane)
        lane_on_channel_gone(c->lane, reason);
    else
        session_on_channel_gone(c->session, reason);
}

gboolean pump_channel_is_lost(const PumpChannel *c)
{
    return c->lane ? lane_is_lost(c->lane) : session_is_lost(c->session);
}

void pump_channel_ping(PumpChannel *c)
{
    if (c->lane)
        lane_ping(c->lane, 0);
    else
        session_ping(c->session, 0);
}

void pump_channel_clear(PumpChannel *c)
{
    g_clear_pointer(&c->link, link_free);
    g_clear_pointer(&c->lost_why, g_free);
}

static void machine_bad_frame(const PumpChannel *c, const GError *cause)
{
    if (c->lane)
        lane_on_bad_frame(c->lane, cause);
    else
        session_on_bad_frame(c->session, cause);
}

static void machine_frame(const PumpChannel *c, const Frame *frame)
{
    if (c->lane)
        lane_on_frame(c->lane, frame);
    else
        session_on_frame(c->session, frame);
}

static gsize machine_output(const PumpChannel *c, const guint8 **ret_bytes)
{
    return c->lane ? lane_output(c->lane, ret_bytes) : session_output(c->session, ret_bytes);
}

static void machine_output_done(const PumpChannel *c, gsize len)
{
    if (c->lane)
        lane_output_done(c->lane, len);
    else
        session_output_done(c->session, len);
}

gboolean pump_channel_has_output(const PumpChannel *c)
{
    const guint8 *bytes;

    return machine_output(c, &bytes) > 0;
}

/* ---- the channel ---- */

static void channel_lost(PumpChannel *c, const char *why)
{
    g_autofree char *reason = g_strdup_printf(_("lost the peer %s: %s"), c->link->address, why);

    if (c->link->is_lost)
        return;
    c->link->is_lost = TRUE;
    pump_channel_lose(c, reason);
}

/* In TLS 1.3 a client hears only after its own handshake that the server refuses it. Whoever has not shown
 * that it is the peer must not end a session that is under way: there that is one more loss. */
static void channel_failed(PumpChannel *c, const GError *error)
{
    if (error->domain != TLS_ERROR || error->code == TLS_ERROR_IO || c->link->resumes ||
        c->link->is_lost) {
        channel_lost(c, error->message);
        return;
    }
    c->link->is_lost = TRUE;
    c->link->tls_refused = TRUE;
    pump_channel_give_up(c, error->message);
}

static void take_bytes(PumpChannel *c, gsize len)
{
    g_autoptr(GError) error = NULL;
    g_auto(Frame) frame = { 0 };
    gboolean complete;

    if (!frame_reader_advance(&c->link->reader, len, &frame, &complete, &error)) {
        c->link->deaf = TRUE;
        machine_bad_frame(c, error);
    } else if (complete) {
        machine_frame(c, &frame);
    }
}

gboolean pump_channel_in(PumpChannel *c)
{
    gint64 now_us = g_get_monotonic_time();

    for (guint i = 0; i < TURN_READS_MAX; i++) {
        g_autoptr(GError) error = NULL;
        guint8 *space;
        gsize room;
        gssize n;

        if (c->link->deaf) {
            if (!link_drop_input(c->link))
                channel_lost(c, _("closed"));
            return FALSE;
        }
        room = frame_reader_space(&c->link->reader, &space);
        n = tls_channel_read(c->link->channel, space, room, &error);
        if (n < 0) {
            if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
                channel_failed(c, error);
            return FALSE;
        }
        if (n == 0) {
            channel_lost(c, frame_reader_in_frame(&c->link->reader)
                                ? _("it closed the channel in the middle of a frame")
                                : _("it closed the channel before the end"));
            return FALSE;
        }
        c->link->heard_us = now_us;
        take_bytes(c, n);
    }
    return TRUE;
}

/* A peer that went away has perhaps said why before, and that is the better reason. */
static void write_failed(PumpChannel *c, const GError *error)
{
    pump_channel_in(c);
    channel_failed(c, error);
}

gboolean pump_channel_out(PumpChannel *c)
{
    g_autoptr(GError) error = NULL;
    gsize moved = 0;

    while (moved < TURN_BYTES_MAX) {
        const guint8 *bytes;
        gsize len = machine_output(c, &bytes);
        gssize n;

        if (len == 0)
            break;
        n = tls_channel_write(c->link->channel, bytes, len, &error);
        if (n < 0) {
            if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
                write_failed(c, error);
            return FALSE;
        }
        machine_output_done(c, n);
        moved += n;
    }
    if (tls_channel_unsent(c->link->channel) > 0 &&
        !tls_channel_flush(c->link->channel, &error) &&
        !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
        write_failed(c, error);
    return moved >= TURN_BYTES_MAX;
}
