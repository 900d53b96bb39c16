/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One end of a mapped session: a memory client behind its socket, and the machine of this side, which is made
 * when the client has handed its memory over. For ram/engine.c; one thread. */
#pragma once

#include <poll.h>

#include "ram/page_sender.h"

typedef struct MappedEnd MappedEnd;

/* config: the source's; NULL for a destination. The session is the caller's and must outlive it. */
MappedEnd *mapped_end_new(Session *session, const PageSenderConfig *config);
void mapped_end_free(MappedEnd *end);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MappedEnd, mapped_end_free)

/* The preempt channel. */
void mapped_end_set_lane(MappedEnd *end, Lane *lane);
/* One more bulk channel, open. */
void mapped_end_add_bulk(MappedEnd *end, Lane *lane);

/* ---- the client; as the functions of ram/engine.h ---- */

gboolean mapped_end_attach(MappedEnd *end, int fd, GError **error);
gboolean mapped_end_is_ready(const MappedEnd *end);
gboolean mapped_end_is_parting(const MappedEnd *end);
void mapped_end_drop(MappedEnd *end);

/* max: at least 2. */
guint mapped_end_poll(const MappedEnd *end, struct pollfd *fds, guint max);
void mapped_end_polled(MappedEnd *end, const struct pollfd *fds, guint n, gint64 now_us);
gint64 mapped_end_due_us(const MappedEnd *end);

/* ---- the machine ---- */

gboolean mapped_end_run(MappedEnd *end, gint64 now_us, GError **error);
gboolean mapped_end_waits_for_worker(const MappedEnd *end);
gboolean mapped_end_is_recovering(const MappedEnd *end);
void mapped_end_on_session_end(MappedEnd *end, SessionState state, gint64 now_us);
const char *mapped_end_phase(const MappedEnd *end);
void mapped_end_get_stats(const MappedEnd *end, gint64 now_us, RamStats *ret_stats);
