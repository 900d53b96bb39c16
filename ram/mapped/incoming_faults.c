/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who waits for a page, the guest's threads and those of other processes that share its memory,
 * and how the source hears of it. */
#include "config.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "ram/mapped/incoming_priv.h"
#include "ram/uffd/uffd.h"
#include "util/autofd.h"

/* The kernel could not place a page just now: when to try again. */
#define AGAIN_US 500
/* Bytes of zeros that are given along with a page of zeros that somebody has run into. */
#define FILL_AHEAD (16 * 4096)

/* ---- the map ---- */

static UffdBacking backing_of(const MemoryRegion *region)
{
    if (region->page_size > (guint64)sysconf(_SC_PAGESIZE))
        return UFFD_HUGETLB;
    return region->fd < 0 ? UFFD_ANON : UFFD_SHMEM;
}

static gboolean make_map(MappedIncoming *in, GError **error)
{
    in->map = uffd_map_new();
    for (guint i = 0; i < ram_blocks_count(in->blocks); i++) {
        const MemoryRegion *region = &in->layout->regions[in->region_of[i]];
        UffdRange range = {
            .block = i,
            .address = region->address,
            .length = region->length,
            .page_size = region->page_size,
            .backing = backing_of(region),
        };

        if (!mapped_incoming_is_ignored(in, i) && !uffd_map_add(in->map, &range, error))
            return FALSE;
    }
    return TRUE;
}

static UffdSink *make_sink(MappedIncoming *in)
{
    return uffd_sink_new(in->uffd, in->map, in->blocks, mapped_incoming_placed, in);
}

/* UffdWaitedFunc */
static guint64 next_waited(guint block, guint64 offset, guint64 end, gpointer data)
{
    const MappedIncoming *in = data;

    return requested_count(in->requested) > 0 ? requested_next(in->requested, block, offset, end)
                                              : end;
}

void mapped_incoming_add_sink(MappedIncoming *in, MappedFeed *feed)
{
    if (!in->placer || feed->sink)
        return;
    feed->sink = make_sink(in);
    /* A frame is acknowledged when nothing of it is with its sink any more; what is with the placer then is lost
     * with the helper. */
    if (feed != &in->urgent && !in->is_only_copy)
        uffd_sink_set_placer(feed->sink, in->placer, next_waited);
}

/* Threads that wait since before a recovery have told somebody who is gone: they are to say it
 * again. */
static gboolean wake_all(const MappedIncoming *in, GError **error)
{
    for (guint i = 0; i < uffd_map_count(in->map); i++) {
        const UffdRange *range = uffd_map_get(in->map, i);

        if (!uffd_wake(in->uffd, range->address, range->length, error))
            return FALSE;
    }
    return TRUE;
}

/* By the thread, some time ago. The guest may have dropped a page since, and run into it before it was known to
 * have been there: nobody answers that, so whoever waits runs into it again. */
static void on_placed_by_thread(guint block, guint64 offset, guint64 length, gboolean existed,
                                gpointer data)
{
    MappedIncoming *in = data;
    const UffdRange *range = uffd_map_at_offset(in->map, block, offset);
    guint before = requested_count(in->requested);

    mapped_incoming_placed(block, offset, length, existed, in);
    if (requested_count(in->requested) < before)
        uffd_wake(in->uffd, range->address + (offset - range->offset), length, NULL);
}

static void add_shared(MappedIncoming *in, SharedClient *shared);

gboolean mapped_incoming_listen(MappedIncoming *in, int uffd, GError **error)
{
    in->uffd = uffd;
    if (uffd < 0) {
        g_set_error_literal(error, RAM_ERROR, RAM_ERROR_STATE,
                            _("the memory client listens without a userfaultfd"));
        return FALSE;
    }
    if (!make_map(in, error) || (in->recovers && !wake_all(in, error)))
        return FALSE;
    in->placer = uffd_placer_new(uffd, on_placed_by_thread, NULL, in, error);
    if (!in->placer)
        return FALSE;
    in->postcopy = TRUE;
    in->fill = make_sink(in);
    mapped_incoming_add_sink(in, &in->main);
    mapped_incoming_add_sink(in, &in->urgent);
    for (guint i = 0; i < in->bulk->len; i++)
        mapped_incoming_add_sink(in, in->bulk->pdata[i]);
    for (guint i = 0; i < in->shared->len; i++)
        add_shared(in, in->shared->pdata[i]);
    return TRUE;
}

/* ---- processes that share the memory ---- */

void mapped_incoming_shared_free(gpointer data)
{
    SharedClient *shared = data;

    autofd_clear(&shared->fd);
    g_array_unref(shared->mappings);
    g_free(shared);
}

static gboolean map_shared(const MappedIncoming *in, const SharedClient *shared, UffdMap *map,
                           GError **error)
{
    for (guint i = 0; i < shared->mappings->len; i++) {
        const MemoryMapping *mapping = &g_array_index(shared->mappings, MemoryMapping, i);
        const MemoryRegion *region = &in->layout->regions[mapping->block];
        UffdRange range = {
            .block = in->block_of[mapping->block],
            .offset = mapping->offset,
            .address = mapping->address,
            .length = mapping->length,
            .page_size = region->page_size,
            .backing = backing_of(region),
        };

        if (!uffd_map_add(map, &range, error))
            return FALSE;
    }
    return TRUE;
}

static void add_shared(MappedIncoming *in, SharedClient *shared)
{
    g_autoptr(UffdMap) map = uffd_map_new();
    g_autoptr(GError) error = NULL;
    g_autofree char *name = g_strdup_printf(_("client %u of the shared memory"), shared->id);

    if (!map_shared(in, shared, map, &error) ||
        !uffd_clients_add(in->clients, name, autofd_steal(&shared->fd), g_steal_pointer(&map),
                          &shared->handle, &error))
        mapped_incoming_fail(in, error->message);
    else
        shared->added = TRUE;
}

void mapped_incoming_share(MappedIncoming *in, MemoryEvent *event)
{
    SharedClient *shared = g_new0(SharedClient, 1);

    shared->id = event->id;
    shared->fd = autofd_steal(&event->fd);
    shared->mappings = g_array_new(FALSE, FALSE, sizeof(MemoryMapping));
    g_array_append_vals(shared->mappings, event->mappings, event->n_mappings);
    g_ptr_array_add(in->shared, shared);
    if (in->map && !in->unwatched)
        add_shared(in, shared);
}

void mapped_incoming_unshare(MappedIncoming *in, guint32 id)
{
    for (guint i = 0; i < in->shared->len; i++) {
        const SharedClient *shared = in->shared->pdata[i];

        if (shared->id != id)
            continue;
        if (shared->added)
            uffd_clients_remove(in->clients, shared->handle);
        g_ptr_array_remove_index(in->shared, i);
        return;
    }
}

/* ---- the end ---- */

static gboolean has_begun(const MappedFeed *feed)
{
    return feed->in_body && feed->sink;
}

/* Be it a duplicate: to place it where nobody watches any more would fail. */
static gboolean is_any_on_its_way(const MappedIncoming *in)
{
    gboolean begun = has_begun(&in->main) || has_begun(&in->urgent);
    RamSink *fill = uffd_sink_base(in->fill);

    for (guint i = 0; i < in->bulk->len; i++)
        begun |= has_begun(in->bulk->pdata[i]);
    return begun || !fill->ops->is_empty(fill) || in->fills.length > 0 ||
           mapped_incoming_is_placing(in);
}

/* Who waits goes on. A range that stays registered, for whatever reason, is served as before. */
void mapped_incoming_end_watch(MappedIncoming *in)
{
    if (in->unwatched || !in->placer || in->missing > 0 || is_any_on_its_way(in))
        return;
    in->unwatched = TRUE;
    for (guint i = 0; i < uffd_map_count(in->map); i++) {
        const UffdRange *range = uffd_map_get(in->map, i);

        if (uffd_unregister(in->uffd, range->address, range->length, NULL))
            block_time_end_range(in->times, range->block, range->offset, range->length,
                                 in->now_us);
    }
    for (guint i = 0; i < in->shared->len; i++) {
        SharedClient *shared = in->shared->pdata[i];

        if (shared->added)
            uffd_clients_remove(in->clients, shared->handle);
        shared->added = FALSE;
    }
}

/* ---- faults ---- */

static void put(GQueue *queue, guint block, guint64 offset, guint64 host)
{
    PageRequest *request = g_new(PageRequest, 1);

    *request = (PageRequest){ block, offset, host };
    g_queue_push_tail(queue, request);
}

/* While the placer is held. */
static void take_fault(MappedIncoming *in, const UffdEvent *event)
{
    guint64 host = ram_blocks_host_page(in->blocks, event->block);
    gsize target = mapped_incoming_target(in);

    in->stats.requests++;
    /* Zeros may have been taken for granted, or the guest has dropped the page since; if it is
     * there after all, the kernel says so, and who waits is woken. */
    if (received_map_get(in->received, in->region_of[event->block], event->offset / target))
        put(&in->fills, event->block, event->offset, host);
    else if (!uffd_placer_place_now(in->placer, event->block, event->offset) &&
             requested_add(in->requested, event->block, event->offset, in->now_us))
        put(&in->requests, event->block, event->offset, host);
}

/* What has come, and did not go to the kernel yet, because that could not go on or the placer had no room. */
static void forget_in_sinks(MappedIncoming *in, guint block, guint64 offset, guint64 length)
{
    uffd_sink_forget(in->main.sink, block, offset, length);
    uffd_sink_forget(in->urgent.sink, block, offset, length);
    for (guint i = 0; i < in->bulk->len; i++)
        uffd_sink_forget(((MappedFeed *)in->bulk->pdata[i])->sink, block, offset, length);
}

/* The guest has dropped pages: they are zeros from here on, wherever the source's copy of them
 * is. */
static void take_removed(MappedIncoming *in, const UffdEvent *event)
{
    for (guint64 at = event->address; at < event->address + event->length;) {
        const UffdRange *range = uffd_map_at_address(in->map, at);
        guint64 offset, n;

        if (!range) {
            at += (guint64)sysconf(_SC_PAGESIZE);
            continue;
        }
        offset = range->offset + (at - range->address);
        n = MIN(event->address + event->length - at, range->address + range->length - at);
        uffd_placer_forget(in->placer, at, n);
        forget_in_sinks(in, range->block, offset, n);
        mapped_incoming_placed(range->block, offset, n, FALSE, in);
        /* Who waits for one of them runs into it again, and gets zeros then. */
        uffd_wake(in->uffd, at, n, NULL);
        at += n;
    }
}

static void refuse_event(MappedIncoming *in, const UffdEvent *event)
{
    g_autofree char *text = g_strdup_printf(
        event->type == UFFD_EV_STRAY
            ? _("a thread of the memory client waits at 0x%" PRIx64
                ", which is in none of its regions")
            : _("the memory client has changed its mapping at 0x%" PRIx64
                " while pages are missing"),
        event->address);

    mapped_incoming_fail(in, text);
}

static void take_event(MappedIncoming *in, const UffdEvent *event)
{
    switch (event->type) {
    case UFFD_EV_FAULT:
        block_time_begin(in->times, event->thread, event->block, event->offset, in->now_us);
        take_fault(in, event);
        return;
    case UFFD_EV_REMOVED:
        take_removed(in, event);
        return;
    case UFFD_EV_FORKED:
        /* A child that is not the guest: it sees the memory as it would without us. */
        close((int)event->to);
        return;
    default:
        refuse_event(in, event);
    }
}

/* Who drops pages goes on as soon as that is read: before the placer does. */
static void read_owner(MappedIncoming *in)
{
    UffdEvent events[UFFD_EVENTS_MAX];
    g_autoptr(GError) error = NULL;
    guint n = 0;

    uffd_placer_hold(in->placer);
    if (!uffd_read_events(in->uffd, in->map, events, &n, &error))
        mapped_incoming_fail(in, error->message);
    for (guint i = 0; i < n; i++)
        take_event(in, &events[i]);
    uffd_placer_release(in->placer);
}

/* Their threads are no vCPUs: nothing is counted as the guest's. */
static void read_shared(MappedIncoming *in, int fd)
{
    UffdEvent events[UFFD_EVENTS_MAX];
    guint id, n;

    for (guint i = 0; i < uffd_clients_count(in->clients); i++) {
        if (uffd_clients_fd(in->clients, i, &id) != fd)
            continue;
        uffd_clients_read(in->clients, id, events, &n);
        uffd_placer_hold(in->placer);
        for (guint k = 0; k < n; k++) {
            if (events[k].type == UFFD_EV_FAULT)
                take_fault(in, &events[k]);
            else if (events[k].type == UFFD_EV_FORKED)
                close((int)events[k].to);
        }
        uffd_placer_release(in->placer);
        return;
    }
}

/* ---- serving them ---- */

static gboolean send_request(MappedIncoming *in)
{
    g_autoptr(GByteArray) body = NULL;
    g_autofree PageRequest *request = NULL;
    guint8 *buf;

    if (!in->lane || g_queue_is_empty(&in->requests) || mapped_incoming_is_recovering(in) ||
        lane_send_room(in->lane) < FRAME_HEADER_LEN)
        return FALSE;
    request = g_queue_pop_head(&in->requests);
    body = g_byte_array_new();
    request_body_encode(body, request);
    buf = g_malloc(FRAME_HEADER_LEN + body->len);
    memcpy(buf + FRAME_HEADER_LEN, body->data, body->len);
    lane_send(in->lane, FRAME_REQUEST, buf, body->len);
    return TRUE;
}

/* Who goes through fresh memory is not to stop at each page. Up to the first one that is there,
 * which the kernel tells. */
static void fill_ahead(const MappedIncoming *in, const PageRequest *request)
{
    const UffdRange *range = uffd_map_at_offset(in->map, request->block, request->start);
    gsize target = mapped_incoming_target(in);
    guint64 begin = request->start + request->length, end = begin, done;
    guint64 most = MIN(begin + FILL_AHEAD, range->offset + range->length);

    if (range->backing != UFFD_ANON)
        return;
    while (end < most &&
           received_map_get(in->received, in->region_of[request->block], end / target))
        end += target;
    if (end > begin)
        uffd_zero(in->uffd, range->address + (begin - range->offset), end - begin, &done, NULL);
}

/* FALSE with error, or the sink is stuck: later. */
static gboolean fill_page(MappedIncoming *in, const PageRequest *request, GError **error)
{
    RamSink *sink = uffd_sink_base(in->fill);
    QemuPage page = { .block = request->block, .kind = QEMU_PAGE_ZERO };

    for (page.offset = request->start; page.offset < request->start + request->length;
         page.offset += mapped_incoming_target(in))
        sink->ops->place(sink, &page);
    if (!sink->ops->flush(sink, error))
        return FALSE;
    if (sink->ops->is_empty(sink))
        fill_ahead(in, request);
    return sink->ops->is_empty(sink);
}

static gboolean is_fill_stuck(const MappedIncoming *in)
{
    const RamSink *sink = in->fill ? uffd_sink_base(in->fill) : NULL;

    return sink && !sink->ops->is_empty(sink);
}

static gboolean flush_fill(MappedIncoming *in, GError **error)
{
    RamSink *sink = uffd_sink_base(in->fill);

    return sink->ops->flush(sink, error);
}

gboolean mapped_incoming_serve(MappedIncoming *in, GError **error)
{
    GError *cause = NULL;

    if (in->deaf)
        return TRUE;
    while (send_request(in))
        ;
    if (is_fill_stuck(in) && !flush_fill(in, error))
        return FALSE;
    while (!g_queue_is_empty(&in->fills)) {
        g_autofree PageRequest *request = NULL;

        if (is_fill_stuck(in))
            break;
        request = g_queue_pop_head(&in->fills);
        if (!fill_page(in, request, &cause) && cause) {
            g_propagate_error(error, cause);
            return FALSE;
        }
    }
    if (is_fill_stuck(in))
        mapped_incoming_wake_at(in, in->now_us + AGAIN_US);
    return TRUE;
}

/* ---- descriptors ---- */

gboolean mapped_incoming_is_placing(const MappedIncoming *in)
{
    return in->placer && !uffd_placer_is_idle(in->placer);
}

guint mapped_incoming_poll_fds(const MappedIncoming *in, int *fds, guint max)
{
    guint n = 0, id;

    if (in->over || in->deaf || !in->placer)
        return 0;
    if (n < max)
        fds[n++] = in->uffd;
    if (n < max)
        fds[n++] = uffd_placer_fd(in->placer);
    for (guint i = 0; i < uffd_clients_count(in->clients) && n < max; i++)
        fds[n++] = uffd_clients_fd(in->clients, i, &id);
    return n;
}

void mapped_incoming_on_readable(MappedIncoming *in, int fd, gint64 now_us)
{
    GError *cause = NULL;

    if (in->over || !in->placer)
        return;
    in->now_us = now_us;
    if (fd == in->uffd)
        read_owner(in);
    else if (fd != uffd_placer_fd(in->placer))
        read_shared(in, fd);
    if (!in->over &&
        (!uffd_placer_collect(in->placer, &cause) || !mapped_incoming_serve(in, &cause))) {
        mapped_incoming_fail(in, cause->message);
        g_error_free(cause);
    }
}
