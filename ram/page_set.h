/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Host pages that somebody waits for, each with the time since when. Pure. */
#pragma once

#include <glib.h>

typedef struct PageSet PageSet;

PageSet *page_set_new(void);
void page_set_free(PageSet *set);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PageSet, page_set_free)

/* offset: of the host page. FALSE: it is in the set already (its time stays). */
gboolean page_set_add(PageSet *set, guint block, guint64 offset, gint64 since_us);
gboolean page_set_contains(const PageSet *set, guint block, guint64 offset);
/* FALSE: it was not in the set. */
gboolean page_set_remove(PageSet *set, guint block, guint64 offset, gint64 *ret_since_us);
/* Calls func for each page of a block; it must not change the set. */
typedef void (*PageSetFunc)(guint block, guint64 offset, gpointer data);
void page_set_each(const PageSet *set, guint block, PageSetFunc func, gpointer data);
guint page_set_size(const PageSet *set);
