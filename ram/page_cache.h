/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pages that were sent last, as they were sent: what differences (ram/xbzrle.h) are made to.
 *
 * A power of two of pages, in sets of a few. A page that finds its set full takes the place of the
 * one that was used least recently, but only if that one has aged: if it was used neither in this
 * round nor in the one before. So a guest that writes to more memory than the cache holds does not
 * turn it over in each round and never meet a page again. One thread. */
#pragma once

#include <gio/gio.h>

/* A use protects a page in that many rounds: its own, and the next. */
#define PAGE_CACHE_LIFETIME 2

typedef struct PageCache PageCache;

/* More than anybody has, and few enough to be counted. */
#define PAGE_CACHE_BYTES_MAX (G_GUINT64_CONSTANT(1) << 40)

/* bytes: rounded down to a power of two of pages; RAM_ERROR_INVALID below one page, beyond the
 * maximum, or when there is no memory. page_size: a power of two. The memory is taken as pages come
 * in. */
PageCache *page_cache_new(guint64 bytes, gsize page_size, GError **error);
void page_cache_free(PageCache *cache);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PageCache, page_cache_free)

guint64 page_cache_capacity(const PageCache *cache); /* in pages, a power of two */
guint64 page_cache_pages(const PageCache *cache);    /* that are in it */

/* The page as it was sent last (page_size bytes, to be overwritten with what is sent now), or NULL.
 * Counts as a use in that round. Good until the next insert, resize or drop. */
guint8 *page_cache_get(PageCache *cache, guint block, guint64 offset, guint64 round);

/* A copy of data for a page that is not in it. FALSE: no room, those that are there are young. */
gboolean page_cache_insert(PageCache *cache, guint block, guint64 offset, const guint8 *data,
                           guint64 round);

/* Forgets a page; nothing if it is not there. */
void page_cache_drop(PageCache *cache, guint block, guint64 offset);

/* Pages stay as far as the new size has room for them, the youngest first. Errors as new's, with
 * the cache as it was. */
gboolean page_cache_resize(PageCache *cache, guint64 bytes, GError **error);
