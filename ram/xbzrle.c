/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs are found eight bytes at a time where they are long; most of a page that changed a little is
 * one long unchanged run. */
#include "config.h"

#include "ram/xbzrle.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <gio/gio.h>
#include <string.h>

#include "ram/blocks.h"

/* A count below 128 is one byte, others two. */
#define COUNT_ONE_BYTE 0x80

/* ---- writing ---- */

static guint64 load(const guint8 *bytes)
{
    guint64 word;

    memcpy(&word, bytes, sizeof(word));
    return word;
}

static gsize unchanged_run(const guint8 *before, const guint8 *now, gsize len)
{
    gsize n = 0;

    while (len - n >= sizeof(guint64) && load(before + n) == load(now + n))
        n += sizeof(guint64);
    while (n < len && before[n] == now[n])
        n++;
    return n;
}

/* Whether some byte of the word is zero. */
static gboolean has_zero_byte(guint64 word)
{
    return ((word - G_GUINT64_CONSTANT(0x0101010101010101)) & ~word &
            G_GUINT64_CONSTANT(0x8080808080808080)) != 0;
}

static gsize changed_run(const guint8 *before, const guint8 *now, gsize len)
{
    gsize n = 0;

    while (len - n >= sizeof(guint64) && !has_zero_byte(load(before + n) ^ load(now + n)))
        n += sizeof(guint64);
    while (n < len && before[n] != now[n])
        n++;
    return n;
}

static gsize count_len(gsize count)
{
    return count < COUNT_ONE_BYTE ? 1 : 2;
}

static gsize put_count(guint8 *out, gsize count)
{
    if (count < COUNT_ONE_BYTE) {
        out[0] = (guint8)count;
        return 1;
    }
    out[0] = (guint8)(count | COUNT_ONE_BYTE);
    out[1] = (guint8)(count >> 7);
    return 2;
}

XbzrleResult xbzrle_encode(const guint8 *before, const guint8 *now, gsize len, guint8 *out,
                           gsize max, gsize *ret_len)
{
    gsize at = 0;
    gsize used = 0;

    g_return_val_if_fail(len <= XBZRLE_PAGE_MAX, XBZRLE_OVERFLOW);
    for (;;) {
        gsize same = unchanged_run(before + at, now + at, len - at);
        gsize changed;

        if (at + same == len)
            break;
        changed = changed_run(before + at + same, now + at + same, len - at - same);
        if (count_len(same) + count_len(changed) + changed > max - used)
            return XBZRLE_OVERFLOW;
        used += put_count(out + used, same);
        used += put_count(out + used, changed);
        memcpy(out + used, now + at + same, changed);
        used += changed;
        at += same + changed;
    }
    if (used == 0)
        return XBZRLE_UNCHANGED;
    *ret_len = used;
    return XBZRLE_DELTA;
}

/* ---- reading ---- */

/* What is left of a delta, and where in the page it stands. */
typedef struct {
    const guint8 *delta;
    gsize delta_len;
    gsize at; /* in delta */
    gsize page_at;
    gsize page_len;
} Walk;

static gboolean broken(const Walk *walk, const char *what, GError **error)
{
    g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                _("difference of a page (XBZRLE), byte %zu of %zu: %s"),
                walk->at, walk->delta_len, what);
    return FALSE;
}

static gboolean take_count(Walk *walk, gsize *ret_count, GError **error)
{
    const guint8 *bytes = walk->delta + walk->at;
    gsize left = walk->delta_len - walk->at;

    if (left < 1)
        return broken(walk, "a count is missing", error);
    if (bytes[0] < COUNT_ONE_BYTE) {
        *ret_count = bytes[0];
        walk->at++;
        return TRUE;
    }
    if (left < 2)
        return broken(walk, "a count is cut off", error);
    if (bytes[1] >= COUNT_ONE_BYTE || bytes[1] == 0)
        return broken(walk, "a count is not one that is written in two bytes", error);
    *ret_count = (gsize)(bytes[0] & (COUNT_ONE_BYTE - 1)) | (gsize)bytes[1] << 7;
    walk->at += 2;
    return TRUE;
}

/* The next pair; the changed bytes stand at walk->delta + walk->at then, for page_at. */
static gboolean take_pair(Walk *walk, gsize *ret_changed, GError **error)
{
    gboolean first = walk->at == 0;
    gsize same;
    gsize changed;

    if (!take_count(walk, &same, error))
        return FALSE;
    if (same == 0 && !first)
        return broken(walk, "no unchanged bytes between two changed runs", error);
    if (same > walk->page_len - walk->page_at)
        return broken(walk, "unchanged bytes go beyond the page", error);
    if (!take_count(walk, &changed, error))
        return FALSE;
    if (changed == 0)
        return broken(walk, "a changed run of no bytes", error);
    if (changed > walk->page_len - walk->page_at - same)
        return broken(walk, "changed bytes go beyond the page", error);
    if (changed > walk->delta_len - walk->at)
        return broken(walk, "changed bytes are missing", error);
    walk->page_at += same;
    *ret_changed = changed;
    return TRUE;
}

/* page NULL: only looks. */
static gboolean apply(const guint8 *delta, gsize delta_len, guint8 *page, gsize len,
                      GError **error)
{
    Walk walk = { delta, delta_len, 0, 0, len };

    do {
        gsize changed;

        if (!take_pair(&walk, &changed, error))
            return FALSE;
        if (page)
            memcpy(page + walk.page_at, delta + walk.at, changed);
        walk.at += changed;
        walk.page_at += changed;
    } while (walk.at < delta_len);
    return TRUE;
}

gboolean xbzrle_decode(const guint8 *delta, gsize delta_len, guint8 *page, gsize len,
                       GError **error)
{
    return apply(delta, delta_len, NULL, len, error) && apply(delta, delta_len, page, len, NULL);
}
