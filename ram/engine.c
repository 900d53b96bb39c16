/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/engine.h"

#include <glib/gi18n.h>

#include "ram/mapped/end.h"
#include "util/autofd.h"

/* One of the three is there. */
struct Engine {
    QemuSource *source;
    Incoming *incoming;
    MappedEnd *mapped; /* either side */
};

Engine *engine_new(Session *session, const OutgoingConfig *config)
{
    Engine *engine = g_new0(Engine, 1);

    if (session_side(session) == SESSION_SOURCE)
        engine->source = qemu_source_new(config, session);
    else
        engine->incoming = incoming_new(session);
    return engine;
}

Engine *engine_new_mapped(Session *session, const PageSenderConfig *config)
{
    Engine *engine = g_new0(Engine, 1);

    engine->mapped = mapped_end_new(session, config);
    return engine;
}

void engine_free(Engine *engine)
{
    if (!engine)
        return;
    mapped_end_free(engine->mapped);
    qemu_source_free(engine->source);
    incoming_free(engine->incoming);
    g_free(engine);
}

void engine_set_lane(Engine *engine, Lane *lane)
{
    if (engine->mapped)
        mapped_end_set_lane(engine->mapped, lane);
    else if (engine->source)
        outgoing_set_lane(qemu_source_outgoing(engine->source), lane);
    else
        incoming_set_lane(engine->incoming, lane);
}

void engine_add_bulk(Engine *engine, Lane *lane)
{
    if (engine->mapped)
        mapped_end_add_bulk(engine->mapped, lane);
    else if (engine->source)
        outgoing_add_bulk(qemu_source_outgoing(engine->source), lane);
    else
        incoming_add_bulk(engine->incoming, lane);
}

/* ---- QEMU's connections ---- */

gboolean engine_wants(const Engine *engine, QemuConnection connection)
{
    if (engine->mapped)
        return FALSE;
    if (engine->source)
        return qemu_source_wants(engine->source, connection);
    /* QEMU says nothing on its preempt connection, but may close it. */
    return connection == QEMU_PREEMPT || incoming_wants(engine->incoming);
}

void engine_on_opened(Engine *engine, QemuConnection connection, gint64 now_us)
{
    if (engine->source)
        qemu_source_on_opened(engine->source, connection, now_us);
    else if (engine->incoming && connection == QEMU_PREEMPT)
        incoming_on_preempt_attached(engine->incoming);
}

void engine_on_data(Engine *engine, QemuConnection connection, const guint8 *bytes, gsize len,
                    gint64 now_us)
{
    if (engine->source)
        qemu_source_on_data(engine->source, connection, bytes, len, now_us);
    else if (engine->incoming && connection == QEMU_MAIN)
        incoming_on_qemu_data(engine->incoming, bytes, len, now_us);
}

void engine_on_eof(Engine *engine, QemuConnection connection, gint64 now_us)
{
    if (engine->source)
        qemu_source_on_eof(engine->source, connection, now_us);
    else if (engine->incoming && connection == QEMU_MAIN)
        incoming_on_qemu_eof(engine->incoming);
}

gboolean engine_awaits_idle(const Engine *engine, QemuConnection connection)
{
    return engine->source && qemu_source_awaits_idle(engine->source, connection);
}

void engine_on_idle(Engine *engine, QemuConnection connection, gint64 now_us)
{
    if (engine->source)
        qemu_source_on_idle(engine->source, connection, now_us);
}

static QemuSink *sink_of(const Engine *engine, QemuConnection connection)
{
    return connection == QEMU_MAIN ? incoming_main_sink(engine->incoming)
                                   : incoming_preempt_sink(engine->incoming);
}

guint engine_output(Engine *engine, QemuConnection connection,
                    struct iovec ret_iov[QEMU_SINK_IOV_MAX])
{
    QemuSink *sink;
    const guint8 *bytes;
    gsize len;

    if (engine->mapped)
        return 0;
    if (!engine->source) {
        sink = sink_of(engine, connection);
        return sink ? qemu_sink_output(sink, ret_iov) : 0;
    }
    len = connection == QEMU_MAIN ? qemu_source_output(engine->source, &bytes) : 0;
    if (len == 0)
        return 0;
    ret_iov[0] = (struct iovec){ (guint8 *)bytes, len };
    return 1;
}

void engine_written(Engine *engine, QemuConnection connection, gsize len)
{
    if (engine->source)
        qemu_source_written(engine->source, len);
    else if (engine->incoming)
        qemu_sink_written(sink_of(engine, connection), len);
}

gboolean engine_needs(const Engine *engine, QemuConnection connection)
{
    return connection == QEMU_PREEMPT && engine->incoming &&
           incoming_wants_preempt(engine->incoming);
}

gboolean engine_preempt_is_over(const Engine *engine)
{
    return engine->incoming && incoming_preempt_is_over(engine->incoming);
}

gboolean engine_run(Engine *engine, gint64 now_us, GError **error)
{
    if (engine->mapped)
        return mapped_end_run(engine->mapped, now_us, error);
    return engine->source ? qemu_source_run(engine->source, now_us, error)
                          : incoming_run(engine->incoming, now_us, error);
}

gboolean engine_source_rate(Engine *engine, gint64 now_us, guint64 *ret_rate)
{
    return engine->source &&
           outgoing_source_rate(qemu_source_outgoing(engine->source), now_us, ret_rate);
}

gboolean engine_set_memory(Engine *engine, int fd, const MemoryRange *ranges, gsize n_ranges,
                           GError **error)
{
    autofd owned = fd;

    if (engine->source)
        return outgoing_set_memory(qemu_source_outgoing(engine->source), autofd_steal(&owned),
                                   ranges, n_ranges, error);
    g_set_error_literal(error, RAM_ERROR, RAM_ERROR_STATE, "nothing is read here");
    return FALSE;
}

DirectState engine_direct_state(const Engine *engine, const char **ret_why)
{
    *ret_why = NULL;
    return engine->source
               ? outgoing_direct_state(qemu_source_outgoing(engine->source), ret_why)
               : DIRECT_OFF;
}

/* ---- the destination QEMU's memory ---- */

static gboolean has_incoming(const Engine *engine, GError **error)
{
    if (engine->incoming)
        return TRUE;
    g_set_error_literal(error, RAM_ERROR, RAM_ERROR_STATE, "nothing is placed here");
    return FALSE;
}

gboolean engine_set_record(Engine *engine, int fd, GError **error)
{
    autofd owned = fd;

    return has_incoming(engine, error) &&
           incoming_set_record(engine->incoming, autofd_steal(&owned), error);
}

gboolean engine_set_placing(Engine *engine, int uffd, int record_fd, const PlacingRange *ranges,
                            gsize n, GError **error)
{
    autofd owned = uffd, owned_record = record_fd;

    return has_incoming(engine, error) &&
           incoming_set_placing(engine->incoming, autofd_steal(&owned),
                                autofd_steal(&owned_record), ranges, n, error);
}

gboolean engine_refuse_placing(Engine *engine, const char *why, GError **error)
{
    if (!has_incoming(engine, error))
        return FALSE;
    incoming_refuse_placing(engine->incoming, why);
    return TRUE;
}

PlacingState engine_placing_state(const Engine *engine, const char **ret_why)
{
    *ret_why = NULL;
    return engine->incoming ? incoming_placing_state(engine->incoming, ret_why) : PLACING_OFF;
}

gint64 engine_due(const Engine *engine)
{
    return engine->incoming ? incoming_due(engine->incoming) : G_MAXINT64;
}

OutgoingEnd engine_end_here(const Engine *engine)
{
    return engine->source ? outgoing_end_here(qemu_source_outgoing(engine->source))
                          : OUTGOING_END_WHOLE;
}

/* The source QEMU sends its first page when it knows that the destination's is ready for it. */
gboolean engine_is_recovering(const Engine *engine)
{
    OutgoingState state;

    if (engine->mapped)
        return mapped_end_is_recovering(engine->mapped);
    if (engine->source) {
        state = outgoing_state(qemu_source_outgoing(engine->source));
        return (state == OUTGOING_NONE || state == OUTGOING_POSTCOPY_RECOVER) &&
               !outgoing_warning(qemu_source_outgoing(engine->source));
    }
    return incoming_state(engine->incoming) != INCOMING_END &&
           !incoming_has_pages(engine->incoming);
}

gboolean engine_waits_for_worker(const Engine *engine)
{
    if (engine->mapped)
        return mapped_end_waits_for_worker(engine->mapped);
    return engine->source && outgoing_waits_for_worker(qemu_source_outgoing(engine->source));
}

void engine_on_session_end(Engine *engine, SessionState state, gint64 now_us)
{
    OutgoingInput in = { .now_us = now_us };
    OutgoingEvent event = state == SESSION_COMPLETED   ? OUTGOING_EV_COMPLETED
                          : state == SESSION_CANCELLED ? OUTGOING_EV_CANCELLED
                                                       : OUTGOING_EV_FAILED;

    if (engine->mapped)
        mapped_end_on_session_end(engine->mapped, state, now_us);
    else if (engine->source)
        outgoing_event(qemu_source_outgoing(engine->source), event, &in, NULL);
    else if (engine->incoming)
        incoming_on_session_end(engine->incoming);
}

/* ---- mapped ---- */

gboolean engine_attach_memory(Engine *engine, int fd, GError **error)
{
    if (engine->mapped)
        return mapped_end_attach(engine->mapped, fd, error);
    close(fd);
    g_set_error_literal(error, RAM_ERROR, RAM_ERROR_STATE,
                        _("this migration is a QEMU's, not a memory client's"));
    return FALSE;
}

gboolean engine_memory_is_ready(const Engine *engine)
{
    return engine->mapped && mapped_end_is_ready(engine->mapped);
}

gboolean engine_memory_is_parting(const Engine *engine)
{
    return engine->mapped && mapped_end_is_parting(engine->mapped);
}

void engine_drop_memory(Engine *engine)
{
    if (engine->mapped)
        mapped_end_drop(engine->mapped);
}

guint engine_poll(Engine *engine, struct pollfd ret_fds[ENGINE_POLL_MAX])
{
    if (engine->mapped)
        return mapped_end_poll(engine->mapped, ret_fds, ENGINE_POLL_MAX);
    if (!engine->incoming)
        return 0;
    ret_fds[0] = (struct pollfd){ .fd = incoming_placing_fd(engine->incoming), .events = POLLIN };
    return 1;
}

void engine_polled(Engine *engine, const struct pollfd *fds, guint n, gint64 now_us)
{
    if (engine->mapped)
        mapped_end_polled(engine->mapped, fds, n, now_us);
}

gint64 engine_due_us(const Engine *engine)
{
    return engine->mapped ? mapped_end_due_us(engine->mapped) : G_MAXINT64;
}

/* ---- asking ---- */

const char *engine_phase(const Engine *engine)
{
    if (engine->mapped)
        return mapped_end_phase(engine->mapped);
    return engine->source
               ? outgoing_state_name(outgoing_state(qemu_source_outgoing(engine->source)))
               : incoming_state_name(incoming_state(engine->incoming));
}

const char *engine_warning(const Engine *engine)
{
    if (engine->mapped)
        return NULL;
    return engine->source ? outgoing_warning(qemu_source_outgoing(engine->source))
                          : incoming_warning(engine->incoming);
}

void engine_get_stats(const Engine *engine, gint64 now_us, RamStats *ret_stats)
{
    if (engine->mapped)
        mapped_end_get_stats(engine->mapped, now_us, ret_stats);
    else if (engine->source)
        outgoing_get_stats(qemu_source_outgoing(engine->source), ret_stats);
    else
        incoming_get_stats(engine->incoming, now_us, ret_stats);
}
