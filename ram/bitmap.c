/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bit i of word w is page 64 * w + i. Bits beyond the end are always clear, so whole words can be
 * counted and searched. */
#include "config.h"

#include "ram/bitmap.h"

#include <string.h>

#define WORD_BITS 64

struct Bitmap {
    guint64 *words;
    guint64 pages;
    guint64 count;
};

/* Without the sum that could overflow. */
static guint64 words_of(guint64 pages)
{
    return pages / WORD_BITS + (pages % WORD_BITS != 0);
}

Bitmap *bitmap_new(guint64 pages)
{
    Bitmap *bitmap = g_new0(Bitmap, 1);

    bitmap->pages = pages;
    bitmap->words = g_new0(guint64, words_of(pages));
    return bitmap;
}

void bitmap_free(Bitmap *bitmap)
{
    if (!bitmap)
        return;
    g_free(bitmap->words);
    g_free(bitmap);
}

guint64 bitmap_pages(const Bitmap *bitmap)
{
    return bitmap->pages;
}

guint64 bitmap_count(const Bitmap *bitmap)
{
    return bitmap->count;
}

/* ---- single pages ---- */

static guint64 bit_of(guint64 page)
{
    return G_GUINT64_CONSTANT(1) << (page % WORD_BITS);
}

gboolean bitmap_get(const Bitmap *bitmap, guint64 page)
{
    return page < bitmap->pages && (bitmap->words[page / WORD_BITS] & bit_of(page)) != 0;
}

gboolean bitmap_set(Bitmap *bitmap, guint64 page)
{
    guint64 *word;

    g_return_val_if_fail(page < bitmap->pages, FALSE);
    word = &bitmap->words[page / WORD_BITS];
    if (*word & bit_of(page))
        return FALSE;
    *word |= bit_of(page);
    bitmap->count++;
    return TRUE;
}

gboolean bitmap_clear(Bitmap *bitmap, guint64 page)
{
    guint64 *word;

    g_return_val_if_fail(page < bitmap->pages, FALSE);
    word = &bitmap->words[page / WORD_BITS];
    if (!(*word & bit_of(page)))
        return FALSE;
    *word &= ~bit_of(page);
    bitmap->count--;
    return TRUE;
}

/* ---- ranges ---- */

/* What is left of a range, word by word. */
typedef struct {
    guint64 page;
    guint64 left;
} Range;

/* The next word that the range touches, and which of its bits; FALSE: the range is through. */
static gboolean range_next(Range *range, guint64 *ret_word, guint64 *ret_mask)
{
    guint shift = range->page % WORD_BITS;
    guint64 n = MIN(range->left, (guint64)WORD_BITS - shift);

    if (n == 0)
        return FALSE;
    *ret_word = range->page / WORD_BITS;
    *ret_mask = (G_MAXUINT64 >> (WORD_BITS - n)) << shift;
    range->page += n;
    range->left -= n;
    return TRUE;
}

static gboolean range_within(const Bitmap *bitmap, guint64 first, guint64 n)
{
    return first <= bitmap->pages && n <= bitmap->pages - first;
}

void bitmap_set_range(Bitmap *bitmap, guint64 first, guint64 n)
{
    Range range = { first, n };
    guint64 word;
    guint64 mask;

    g_return_if_fail(range_within(bitmap, first, n));
    while (range_next(&range, &word, &mask)) {
        bitmap->count += (guint)__builtin_popcountll(mask & ~bitmap->words[word]);
        bitmap->words[word] |= mask;
    }
}

void bitmap_clear_range(Bitmap *bitmap, guint64 first, guint64 n)
{
    Range range = { first, n };
    guint64 word;
    guint64 mask;

    g_return_if_fail(range_within(bitmap, first, n));
    while (range_next(&range, &word, &mask)) {
        bitmap->count -= (guint)__builtin_popcountll(mask & bitmap->words[word]);
        bitmap->words[word] &= ~mask;
    }
}

guint64 bitmap_count_range(const Bitmap *bitmap, guint64 first, guint64 n)
{
    Range range = { first, n };
    guint64 count = 0;
    guint64 word;
    guint64 mask;

    g_return_val_if_fail(range_within(bitmap, first, n), 0);
    while (range_next(&range, &word, &mask))
        count += (guint)__builtin_popcountll(mask & bitmap->words[word]);
    return count;
}

guint64 bitmap_next(const Bitmap *bitmap, guint64 from)
{
    guint64 n_words = words_of(bitmap->pages);
    guint64 i = from / WORD_BITS;
    guint64 word;

    if (from >= bitmap->pages)
        return bitmap->pages;
    word = bitmap->words[i] & (G_MAXUINT64 << (from % WORD_BITS));
    while (word == 0 && ++i < n_words)
        word = bitmap->words[i];
    return word == 0 ? bitmap->pages : i * WORD_BITS + (guint)__builtin_ctzll(word);
}

guint64 bitmap_next_clear(const Bitmap *bitmap, guint64 from)
{
    guint64 n_words = words_of(bitmap->pages);
    guint64 i = from / WORD_BITS;
    guint64 word;

    if (from >= bitmap->pages)
        return bitmap->pages;
    word = ~bitmap->words[i] & (G_MAXUINT64 << (from % WORD_BITS));
    while (word == 0 && ++i < n_words)
        word = ~bitmap->words[i];
    if (word == 0)
        return bitmap->pages;
    return MIN(i * WORD_BITS + (guint)__builtin_ctzll(word), bitmap->pages);
}

/* ---- the whole ---- */

void bitmap_invert(Bitmap *bitmap)
{
    Range range = { 0, bitmap->pages };
    guint64 word;
    guint64 mask;

    while (range_next(&range, &word, &mask))
        bitmap->words[word] ^= mask;
    bitmap->count = bitmap->pages - bitmap->count;
}

void bitmap_grow(Bitmap *bitmap, guint64 pages)
{
    guint64 had = words_of(bitmap->pages);
    guint64 has = words_of(pages);

    if (pages <= bitmap->pages)
        return;
    bitmap->words = g_renew(guint64, bitmap->words, has);
    memset(bitmap->words + had, 0, (has - had) * sizeof(guint64));
    bitmap->pages = pages;
}

/* Up to eight bytes of the wire form, as a word. */
static guint64 read_le(const guint8 *bytes, gsize len)
{
    guint64 word = 0;

    for (gsize i = 0; i < len; i++)
        word |= (guint64)bytes[i] << (8 * i);
    return word;
}

void bitmap_merge_wire(Bitmap *bitmap, guint64 first, const guint8 *bytes, gsize len)
{
    Range range;
    guint64 word;
    guint64 mask;

    g_return_if_fail(first % 8 == 0);
    if (first >= bitmap->pages)
        return;
    range = (Range){ first, bitmap->pages - first };
    if (len < range.left / 8 + (range.left % 8 != 0))
        range.left = (guint64)len * 8;
    while (range_next(&range, &word, &mask)) {
        guint shift = (guint)__builtin_ctzll(mask);
        gsize n = MIN(len, (WORD_BITS - shift) / 8);
        guint64 set = (read_le(bytes, n) << shift) & mask;

        bitmap->count += (guint)__builtin_popcountll(set & ~bitmap->words[word]);
        bitmap->words[word] |= set;
        bytes += n;
        len -= n;
    }
}
