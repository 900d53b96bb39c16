/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The engine of one side, as the relay drives it, of one of four kinds: the source QEMU and the outgoing
 * machine; the incoming machine and its sinks; or, for a memory client instead of a QEMU, the mapped
 * source or the mapped destination. Owns the machines; the session and the lane are the caller's. */
#pragma once

#include <poll.h>

#include "ram/incoming.h"
#include "ram/qemu_source.h"

typedef struct Engine Engine;

/* config: the source's; NULL for a destination. */
Engine *engine_new(Session *session, const OutgoingConfig *config);
/* The same for a memory client. */
Engine *engine_new_mapped(Session *session, const PageSenderConfig *config);
void engine_free(Engine *engine);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Engine, engine_free)

/* The preempt channel is open. */
void engine_set_lane(Engine *engine, Lane *lane);
/* One more bulk channel is. */
void engine_add_bulk(Engine *engine, Lane *lane);

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

/* ---- mapped: the memory client; with a QEMU there is none, and nothing to wait for ---- */

/* Its connection, which is taken; once. FALSE: there is one, or none is wanted. */
gboolean engine_attach_memory(Engine *engine, int fd, GError **error);
/* It has handed everything over: the session can be told that its "QEMU" is attached. */
gboolean engine_memory_is_ready(const Engine *engine);
/* It has not been told its end yet. */
gboolean engine_memory_is_parting(const Engine *engine);
/* And will not be. */
void engine_drop_memory(Engine *engine);

/* Descriptors to wait for: the client's connection, userfaultfds. Entries that are not needed now have the
 * descriptor -1. Their number does not change before engine_polled(). */
#define ENGINE_POLL_MAX 72
guint engine_poll(Engine *engine, struct pollfd ret_fds[ENGINE_POLL_MAX]);
/* What became of them. */
void engine_polled(Engine *engine, const struct pollfd *fds, guint n, gint64 now_us);
/* When engine_run() is due, whatever happens; monotonic, G_MAXINT64: it is not. */
gint64 engine_due_us(const Engine *engine);

/* Moves on what can be. FALSE: the peer broke a rule. */
gboolean engine_run(Engine *engine, gint64 now_us, GError **error);

/* Source: as outgoing_source_rate(). */
gboolean engine_source_rate(Engine *engine, gint64 now_us, guint64 *ret_rate);

/* Source: as outgoing_set_memory(); takes fd. A destination has nothing to read: an error. */
gboolean engine_set_memory(Engine *engine, int fd, const MemoryRange *ranges, gsize n_ranges,
                           GError **error);
/* Source: as outgoing_direct_state(); DIRECT_OFF at a destination. */
DirectState engine_direct_state(const Engine *engine, const char **ret_why);

/* Destination: as the functions of the same names of ram/incoming.h; they take the descriptors. A source has
 * nothing to place: an error. */
gboolean engine_set_record(Engine *engine, int fd, GError **error);
gboolean engine_set_placing(Engine *engine, int uffd, int record_fd, const PlacingRange *ranges,
                            gsize n, GError **error);
gboolean engine_refuse_placing(Engine *engine, const char *why, GError **error);
/* PLACING_OFF at a source. */
PlacingState engine_placing_state(const Engine *engine, const char **ret_why);
/* When engine_run() is to be called at the latest; G_MAXINT64: when something happens. */
gint64 engine_due(const Engine *engine);

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
