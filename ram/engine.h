/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The engine of one side, as the relay drives it: the source QEMU and the outgoing machine, or the
 * incoming machine and its sinks. Owns the machines; the session and the lane are the caller's. */
#pragma once

#include "ram/incoming.h"
#include "ram/qemu_source.h"

typedef struct Engine Engine;

/* config: the source's; NULL for a destination. */
Engine *engine_new(Session *session, const OutgoingConfig *config);
void engine_free(Engine *engine);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Engine, engine_free)

/* The preempt channel is open. */
void engine_set_lane(Engine *engine, Lane *lane);

/* ---- QEMU's connections ---- */

gboolean engine_wants(const Engine *engine, QemuConnection connection);
/* It is there. */
void engine_on_opened(Engine *engine, QemuConnection connection, gint64 now_us);
void engine_on_data(Engine *engine, QemuConnection connection, const guint8 *bytes, gsize len,
                    gint64 now_us);
void engine_on_eof(Engine *engine, QemuConnection connection, gint64 now_us);
/* Source: the connection has to be read, whether poll() says something of it or not, until there is
 * nothing on it; and that there is nothing. */
gboolean engine_awaits_idle(const Engine *engine, QemuConnection connection);
void engine_on_idle(Engine *engine, QemuConnection connection, gint64 now_us);
/* What to write; the number of entries, 0: nothing. Valid until the next call. */
guint engine_output(Engine *engine, QemuConnection connection,
                    struct iovec ret_iov[QEMU_SINK_IOV_MAX]);
void engine_written(Engine *engine, QemuConnection connection, gsize len);
/* Destination: a connection to QEMU is needed that is not there. */
gboolean engine_needs(const Engine *engine, QemuConnection connection);
/* Destination: nothing more will be written to QEMU's preempt connection. */
gboolean engine_preempt_is_over(const Engine *engine);

/* Moves on what can be. FALSE: the peer broke a rule. */
gboolean engine_run(Engine *engine, gint64 now_us, GError **error);

/* Source: as outgoing_source_rate(). */
gboolean engine_source_rate(Engine *engine, gint64 now_us, guint64 *ret_rate);

/* Source: as outgoing_set_memory(); takes fd. A destination has nothing to read: an error. */
gboolean engine_set_memory(Engine *engine, int fd, const MemoryRange *ranges, gsize n_ranges,
                           GError **error);
/* Source: as outgoing_direct_state(); DIRECT_OFF at a destination. */
DirectState engine_direct_state(const Engine *engine, const char **ret_why);

/* As outgoing_end_here(); a destination's stream is always whole. */
OutgoingEnd engine_end_here(const Engine *engine);

/* In a session that recovers a paused migration: its QEMUs may not have agreed yet on what is missing. */
gboolean engine_is_recovering(const Engine *engine);

/* Source: the compressor's next result would be sent at once. */
gboolean engine_waits_for_worker(const Engine *engine);

/* The session has ended. */
void engine_on_session_end(Engine *engine, SessionState state, gint64 now_us);

/* ---- asking ---- */

/* QEMU's word for the state, a static string. */
const char *engine_phase(const Engine *engine);
/* NULL, or what the log is to be told, once it is there it stays. */
const char *engine_warning(const Engine *engine);
void engine_get_stats(const Engine *engine, gint64 now_us, RamStats *ret_stats);
