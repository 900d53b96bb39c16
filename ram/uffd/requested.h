/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Host pages that are waited for: asked of the peer once, until they are in place, and again in a new session.
 * Ordered by block and offset; each with the time since when. Pure; one thread. */
#pragma once

#include <glib.h>

typedef struct Requested Requested;

Requested *requested_new(void);
void requested_free(Requested *requested);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Requested, requested_free)

/* TRUE: it is to be asked for now. FALSE: it was asked for already (its time stays). offset: of the host
 * page. */
gboolean requested_add(Requested *requested, guint block, guint64 offset, gint64 now_us);
/* FALSE: nobody waits for it. *ret_since_us: when the first one began to. */
gboolean requested_remove(Requested *requested, guint block, guint64 offset, gint64 *ret_since_us);
/* All of [offset, offset + length); how many there were. func (or NULL) gets each one. */
typedef void (*RequestedFunc)(guint block, guint64 offset, gint64 since_us, gpointer data);
guint requested_remove_range(Requested *requested, guint block, guint64 offset, guint64 length,
                             RequestedFunc func, gpointer data);
/* The first one in [offset, end) of the block; end: there is none. */
guint64 requested_next(const Requested *requested, guint block, guint64 offset, guint64 end);
gboolean requested_has(const Requested *requested, guint block, guint64 offset);
guint requested_count(const Requested *requested);
/* In order; func must not change the set. For a new session, whose peer has not heard of them. */
void requested_foreach(const Requested *requested, RequestedFunc func, gpointer data);
