/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/direct.h"

#include <glib/gi18n.h>

#include "util/autofd.h"

/* As much is read at a time, where there is so much to send: at memory speed that takes less time
 * than the way to the peer and back. */
#define READ_AHEAD (128 * 1024)
/* After a request the pages that follow it go first, so far. */
#define NEAR_PAGES 64

struct Direct {
    const RamBlocks *blocks;
    guint n;       /* entries in owed and addresses */
    Bitmap **owed; /* NULL: nothing of that block */
    guint64 *addresses;
    PageScan *scan; /* of what can be read */
    gboolean begun; /* the scan stands where the stream was */
    gboolean asked_only; /* what is owed is more than there is: see direct_owe_rest() */
    guint look_at;  /* the next block that may be proved; n: none */

    MemoryReader *reader; /* NULL: not offered, or failed */
    MemoryProof *proof;   /* from the first page after that on */
    MemoryRange *ranges;
    gsize n_ranges;
    guint n_proved;
    char *error;
};

const char *direct_state_name(DirectState state)
{
    static const char *const names[] = { "off", "proving", "reading", "unproved", "failed" };

    return names[state];
}

Direct *direct_new(const RamBlocks *blocks)
{
    Direct *d = g_new0(Direct, 1);

    d->blocks = blocks;
    d->scan = page_scan_new();
    return d;
}

void direct_free(Direct *d)
{
    if (!d)
        return;
    page_scan_free(d->scan);
    for (guint i = 0; i < d->n; i++)
        bitmap_free(d->owed[i]);
    g_free(d->owed);
    g_free(d->addresses);
    memory_proof_free(d->proof);
    memory_reader_free(d->reader);
    g_free(d->ranges);
    g_free(d->error);
    g_free(d);
}

/* ---- which pages ---- */

/* NULL: its length is not known. */
static Bitmap *owed_of(Direct *d, guint block)
{
    guint n = ram_blocks_count(d->blocks);
    const RamBlock *b = ram_blocks_get(d->blocks, block);

    if (d->n < n) {
        d->owed = g_renew(Bitmap *, d->owed, n);
        d->addresses = g_renew(guint64, d->addresses, n);
        for (d->look_at = n; d->n < n; d->n++) {
            d->owed[d->n] = NULL;
            d->addresses[d->n] = 0;
        }
    }
    if (!b || b->length == 0)
        return NULL;
    if (!d->owed[block])
        d->owed[block] = bitmap_new(b->length / ram_blocks_target_page(d->blocks));
    return d->owed[block];
}

static guint64 clamp(const Bitmap *pages, guint64 first, guint64 n)
{
    return first >= bitmap_pages(pages) ? 0 : MIN(n, bitmap_pages(pages) - first);
}

void direct_owe(Direct *d, guint block, guint64 first, guint64 n)
{
    Bitmap *owed = owed_of(d, block);

    if (owed && clamp(owed, first, n) > 0)
        bitmap_set_range(owed, first, clamp(owed, first, n));
}

void direct_owe_rest(Direct *d, guint block, const Bitmap *sent)
{
    Bitmap *owed = owed_of(d, block);

    d->asked_only = TRUE;
    if (!owed)
        return;
    for (guint64 i = 0; i < bitmap_pages(owed); i++) {
        if (!bitmap_get(sent, i))
            bitmap_set(owed, i);
    }
}

gboolean direct_has_background(const Direct *d)
{
    return !d->asked_only;
}

void direct_settle(Direct *d, guint block, guint64 first, guint64 n)
{
    Bitmap *owed = block < d->n ? d->owed[block] : NULL;

    if (owed && clamp(owed, first, n) > 0)
        bitmap_clear_range(owed, first, clamp(owed, first, n));
}

/* ---- the memory ---- */

void direct_give_up(Direct *d, const char *why)
{
    if (d->error)
        return;
    d->error = g_strdup(why);
    for (guint i = 0; i < d->n; i++)
        page_scan_remove(d->scan, i);
    g_clear_pointer(&d->proof, memory_proof_free);
}

gboolean direct_set_memory(Direct *d, int fd, const MemoryRange *ranges, gsize n_ranges,
                           GError **error)
{
    autofd owned = fd;

    if (d->reader) {
        g_set_error_literal(error, RAM_ERROR, RAM_ERROR_STATE,
                            _("the source QEMU's memory is there already"));
        return FALSE;
    }
    if (!memory_ranges_check(ranges, n_ranges, error))
        return FALSE;
    d->reader = memory_reader_new(autofd_steal(&owned));
    d->ranges = g_new(MemoryRange, MAX(n_ranges, 1));
    for (gsize i = 0; i < n_ranges; i++)
        d->ranges[i] = ranges[i];
    d->n_ranges = n_ranges;
    return TRUE;
}

/* A block in which nothing is owed has nothing to be read. */
static gboolean take_block(Direct *d, guint block)
{
    if (page_scan_has(d->scan, block) || block >= d->n || !d->owed[block] ||
        memory_proof_verdict(d->proof, block, &d->addresses[block]) != MEMORY_PROVED)
        return FALSE;
    page_scan_add(d->scan, block, d->owed[block],
                  ram_blocks_host_page(d->blocks, block) / ram_blocks_target_page(d->blocks));
    d->n_proved++;
    return TRUE;
}

void direct_on_page(Direct *d, const QemuPage *page)
{
    if (!d->reader || d->error)
        return;
    if (!d->proof)
        d->proof = memory_proof_new(d->blocks, d->reader, d->ranges, d->n_ranges, NULL);
    if (!d->proof || memory_proof_is_over(d->proof))
        return;
    if (!d->begun)
        page_scan_go_to(d->scan, page->block, page->offset / ram_blocks_target_page(d->blocks));
    if (memory_proof_on_page(d->proof, page))
        d->look_at = 0;
}

gboolean direct_next_proved(Direct *d, guint *ret_block)
{
    while (d->proof && d->look_at < d->n) {
        *ret_block = d->look_at++;
        if (take_block(d, *ret_block)) {
            d->begun = TRUE;
            return TRUE;
        }
    }
    return FALSE;
}

gboolean direct_can_read(const Direct *d, guint block)
{
    return page_scan_has(d->scan, block);
}

guint64 direct_left(const Direct *d)
{
    return d->asked_only ? 0 : page_scan_count(d->scan);
}

gboolean direct_next(Direct *d, ScanPage *ret_page)
{
    return !d->asked_only && page_scan_next(d->scan, ret_page);
}

gboolean direct_next_near(Direct *d, ScanPage *ret_page)
{
    return !d->asked_only && page_scan_next_near(d->scan, ret_page);
}

void direct_go_near(Direct *d, guint block, guint64 page)
{
    if (page_scan_has(d->scan, block))
        page_scan_set_near(d->scan, block, page,
                           MAX(NEAR_PAGES, 2 * ram_blocks_host_page(d->blocks, block) /
                                               ram_blocks_target_page(d->blocks)));
}

/* ---- reading ---- */

/* What is owed from here on without a gap, up to READ_AHEAD: what was sent is not read again. */
static guint64 ahead(const Direct *d, guint block, guint64 page, guint64 n)
{
    const Bitmap *owed = d->owed[block];
    guint64 most = READ_AHEAD / ram_blocks_target_page(d->blocks);
    guint64 end = page + n;

    while (end < page + most && bitmap_get(owed, end))
        end++;
    return end;
}

MemoryWindow *direct_read(Direct *d, guint block, guint64 page, guint64 n, gboolean alone)
{
    gsize target = ram_blocks_target_page(d->blocks);
    guint64 base = d->addresses[block];
    guint64 end = alone ? page + n : ahead(d, block, page, n);
    g_autoptr(GError) error = NULL;
    MemoryWindow *window = memory_reader_get(d->reader, base + page * target, n * target,
                                             base + end * target, &error);

    if (!window)
        direct_give_up(d, error->message);
    return window;
}

const guint8 *direct_bytes(const Direct *d, const MemoryWindow *window, guint block, guint64 page)
{
    return window->bytes +
           (d->addresses[block] + page * ram_blocks_target_page(d->blocks) - window->address);
}

void direct_put(Direct *d, MemoryWindow *window)
{
    memory_reader_put(d->reader, window);
}

/* ---- asking ---- */

DirectState direct_state(const Direct *d)
{
    if (!d->reader)
        return DIRECT_OFF;
    if (d->error)
        return DIRECT_FAILED;
    if (d->n_proved > 0)
        return DIRECT_READING;
    return d->proof && memory_proof_is_over(d->proof) ? DIRECT_UNPROVED : DIRECT_PROVING;
}

const char *direct_error(const Direct *d)
{
    return d->error;
}

guint64 direct_bytes_read(const Direct *d)
{
    return d->reader ? memory_reader_bytes(d->reader) : 0;
}
