/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the client says once its memory is handed over. */
#include "config.h"

#include <glib/gi18n.h>
#include <inttypes.h>

#include "ram/mapped/client_link_priv.h"
#include "ram/mapped/layout_check.h"

static gboolean refuse(GError **error, RamError code, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

static gboolean refuse(GError **error, RamError code, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, RAM_ERROR, code, text);
    return FALSE;
}

/* ---- who may say what ---- */

typedef struct {
    HandoverType message;
    MemoryEventType event;
    gboolean is_answer;
    gboolean source, destination; /* whose client says it */
} Row;

static const Row rows[] = {
    { HANDOVER_ADVISED, MEMORY_EV_ADVISED, TRUE, TRUE, TRUE },
    { HANDOVER_PAUSED, MEMORY_EV_PAUSED, TRUE, TRUE, TRUE },
    { HANDOVER_DEVICE, MEMORY_EV_DEVICE, TRUE, TRUE, FALSE },
    { HANDOVER_SYNCED, MEMORY_EV_SYNCED, TRUE, TRUE, TRUE },
    { HANDOVER_GIVEN_UP, MEMORY_EV_GIVEN_UP, TRUE, TRUE, FALSE },
    { HANDOVER_LISTENING, MEMORY_EV_LISTENING, TRUE, FALSE, TRUE },
    { HANDOVER_DISCARDED, MEMORY_EV_DISCARDED, TRUE, TRUE, TRUE },
    { HANDOVER_RUNNING, MEMORY_EV_RUNNING, TRUE, FALSE, TRUE },
    { HANDOVER_FAILED, MEMORY_EV_FAILED, FALSE, TRUE, TRUE },
    { HANDOVER_FREE_HINTS, MEMORY_EV_FREE_HINTS, FALSE, TRUE, FALSE },
    { HANDOVER_START_POSTCOPY, MEMORY_EV_START_POSTCOPY, FALSE, TRUE, FALSE },
    { HANDOVER_CONTINUE, MEMORY_EV_CONTINUE, FALSE, TRUE, FALSE },
    { HANDOVER_CANCEL, MEMORY_EV_CANCEL, FALSE, TRUE, TRUE },
    { HANDOVER_PARAMS, MEMORY_EV_PARAMS, FALSE, TRUE, FALSE },
    { HANDOVER_SHARED, MEMORY_EV_SHARED, FALSE, FALSE, TRUE },
    { HANDOVER_UNSHARED, MEMORY_EV_UNSHARED, FALSE, FALSE, TRUE },
    { HANDOVER_CHECKPOINT, MEMORY_EV_CHECKPOINT, FALSE, TRUE, FALSE },
    { HANDOVER_FAILOVER, MEMORY_EV_FAILOVER, FALSE, TRUE, TRUE },
    { HANDOVER_VCPUS, MEMORY_EV_VCPUS, FALSE, FALSE, TRUE },
};

static const Row *find_row(const ClientLink *link, HandoverType message)
{
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++)
        if (rows[i].message == message &&
            (link->source ? rows[i].source : rows[i].destination))
            return &rows[i];
    return NULL;
}

/* ---- what is in it ---- */

static gboolean check_answer(ClientLink *link, GError **error)
{
    const HandoverMessage *m = link->message;
    HandoverType expected = GPOINTER_TO_UINT(g_queue_peek_head(&link->expected));

    if (m->type != expected)
        return expected ? refuse(error, RAM_ERROR_STATE, _("%s, where %s is awaited"),
                                 handover_type_name(m->type),
                                 handover_type_name((guint16)expected))
                        : refuse(error, RAM_ERROR_STATE, _("%s, where no answer is awaited"),
                                 handover_type_name(m->type));
    if (m->type != HANDOVER_DEVICE || m->device.last)
        g_queue_pop_head(&link->expected);
    return TRUE;
}

static gboolean take_device(ClientLink *link, MemoryEvent *event, GError **error)
{
    const HandoverMessage *m = link->message;

    link->device_bytes += m->device.len;
    if (link->device_bytes > MEMORY_DEVICE_MAX)
        return refuse(error, RAM_ERROR_INVALID, _("the device state is longer than %d bytes"),
                      MEMORY_DEVICE_MAX);
    if (m->device.len == 0 && !m->device.last)
        return refuse(error, RAM_ERROR_INVALID, _("a piece of the device state is empty"));
    event->bytes = m->device.bytes;
    event->len = m->device.len;
    event->last = m->device.last;
    return TRUE;
}

/* [start, start + length) is made of whole host pages of the block. */
static gboolean check_range(const ClientLink *link, guint block, guint64 start, guint64 length,
                            GError **error)
{
    const MemoryRegion *r;

    if (block >= link->layout->n_regions)
        return refuse(error, RAM_ERROR_INVALID, _("there is no region %u"), block);
    r = &link->layout->regions[block];
    if (start % r->page_size != 0 || length % r->page_size != 0 || start > r->length ||
        length > r->length - start)
        return refuse(error, RAM_ERROR_INVALID,
                      _("0x%" PRIx64 " and 0x%" PRIx64 " bytes from there are no whole pages of "
                        "region %s"),
                      start, length, r->name);
    return TRUE;
}

static gboolean take_hints(ClientLink *link, MemoryEvent *event, GError **error)
{
    const HandoverMessage *m = link->message;

    for (guint i = 0; i < m->ranges.n; i++) {
        link->ranges[i] = (MemoryRange){ m->ranges.ranges[i].start, m->ranges.ranges[i].length };
        if (!check_range(link, m->ranges.block, link->ranges[i].start, link->ranges[i].length,
                         error))
            return FALSE;
    }
    event->block = m->ranges.block;
    event->ranges = link->ranges;
    event->n_ranges = m->ranges.n;
    return TRUE;
}

static gboolean take_shared(ClientLink *link, MemoryEvent *event, GError **error)
{
    const HandoverMessage *m = link->message;

    for (guint i = 0; i < m->shared.n; i++) {
        const HandoverMapping *from = &m->shared.mappings[i];

        if (!check_range(link, from->block, from->offset, from->length, error))
            return FALSE;
        if (from->address % link->layout->regions[from->block].page_size != 0)
            return refuse(error, RAM_ERROR_INVALID,
                          _("a mapping of region %s does not begin at a page"),
                          link->layout->regions[from->block].name);
        link->mappings[i] = (MemoryMapping){ from->block, from->offset, from->length,
                                             from->address };
    }
    event->id = m->shared.id;
    event->mappings = link->mappings;
    event->n_mappings = m->shared.n;
    return layout_check_uffd(event->fd, link->mappings[0].address, error);
}

static gboolean fill_event(ClientLink *link, MemoryEvent *event, GError **error)
{
    switch (event->type) {
    case MEMORY_EV_DEVICE:
        return take_device(link, event, error);
    case MEMORY_EV_LISTENING:
        return layout_check_uffd(event->fd, link->layout->regions[0].address, error);
    case MEMORY_EV_FREE_HINTS:
        return take_hints(link, event, error);
    case MEMORY_EV_PARAMS:
        client_link_take_params(&link->message->params, &link->params);
        event->params = &link->params;
        return TRUE;
    case MEMORY_EV_SHARED:
        return take_shared(link, event, error);
    case MEMORY_EV_VCPUS:
        event->threads = link->message->vcpus.threads;
        event->n_threads = link->message->vcpus.n;
        return TRUE;
    case MEMORY_EV_UNSHARED:
        event->id = link->message->shared.id;
        return TRUE;
    default:
        return TRUE;
    }
}

gboolean client_link_deliver(ClientLink *link, int *fds, ClientLinkFunc func, gpointer data,
                             GError **error)
{
    const Row *row = find_row(link, (HandoverType)link->message->type);
    MemoryEvent event = { .fd = link->message->n_fds > 0 ? fds[0] : -1 };
    g_autofree char *text = NULL;

    if (!row)
        return refuse(error, RAM_ERROR_STATE,
                      link->source ? _("%s is not for the source's client to say here")
                                   : _("%s is not for the destination's client to say here"),
                      handover_type_name(link->message->type));
    event.type = row->event;
    if (row->is_answer && !check_answer(link, error))
        return FALSE;
    if (row->event == MEMORY_EV_FAILED)
        event.text = text = g_strndup(link->message->text.bytes, link->message->text.len);
    if (!fill_event(link, &event, error))
        return FALSE;
    func(&event, data);
    if (link->message->n_fds > 0)
        fds[0] = event.fd;
    return TRUE;
}
