/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Differences of pages: bytes as QEMU writes them, every pair of pages there and back, broken ones. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "ram/blocks.h"
#include "ram/xbzrle.h"

#define PAGE 4096

typedef struct {
    guint8 before[PAGE];
    guint8 now[PAGE];
    guint8 delta[PAGE];
    gsize len;
} Pages;

static XbzrleResult encode(Pages *pages)
{
    pages->len = 0;
    return xbzrle_encode(pages->before, pages->now, PAGE, pages->delta, PAGE - 1, &pages->len);
}

static void assert_there_and_back(Pages *pages)
{
    guint8 page[PAGE];

    memcpy(page, pages->before, PAGE);
    assert_true(xbzrle_decode(pages->delta, pages->len, page, PAGE, NULL));
    assert_memory_equal(page, pages->now, PAGE);
}

/* ---- the bytes ---- */

static void assert_delta(Pages *pages, const guint8 *expected, gsize len)
{
    assert_int_equal(encode(pages), XBZRLE_DELTA);
    assert_int_equal(pages->len, len);
    assert_memory_equal(pages->delta, expected, len);
    assert_there_and_back(pages);
}

static void a_change_at_the_start_has_no_unchanged_bytes_before_it(void **state)
{
    g_autofree Pages *pages = g_new0(Pages, 1);
    static const guint8 expected[] = { 0, 2, 0xaa, 0xbb };

    (void)state;
    pages->now[0] = 0xaa;
    pages->now[1] = 0xbb;
    assert_delta(pages, expected, sizeof(expected));
}

static void counts_from_128_on_take_two_bytes(void **state)
{
    g_autofree Pages *pages = g_new0(Pages, 1);
    /* 127 unchanged, 1 changed, 128 unchanged, 1 changed, 4096 - 257 - 1 unchanged, the last
     * changed */
    static const guint8 expected[] = { 127, 1, 5, 0x80, 0x01, 1, 6, 0xfe, 0x1d, 1, 7 };

    (void)state;
    pages->now[127] = 5;
    pages->now[256] = 6;
    pages->now[PAGE - 1] = 7;
    assert_delta(pages, expected, sizeof(expected));
}

static void a_page_that_is_as_it_was_sends_nothing(void **state)
{
    g_autofree Pages *pages = g_new0(Pages, 1);

    (void)state;
    memset(pages->before, 0x55, PAGE);
    memset(pages->now, 0x55, PAGE);
    assert_int_equal(encode(pages), XBZRLE_UNCHANGED);
}

static void a_page_that_is_all_different_overflows(void **state)
{
    g_autofree Pages *pages = g_new0(Pages, 1);

    (void)state;
    memset(pages->now, 0xff, PAGE);
    assert_int_equal(encode(pages), XBZRLE_OVERFLOW);
}

/* Every other byte differs: the counts make it three times as long as the change. */
static void a_difference_that_is_longer_than_the_page_overflows(void **state)
{
    g_autofree Pages *pages = g_new0(Pages, 1);

    (void)state;
    for (gsize i = 0; i < PAGE; i += 2)
        pages->now[i] = 1;
    assert_int_equal(encode(pages), XBZRLE_OVERFLOW);
}

static void a_difference_takes_no_byte_more_than_it_may(void **state)
{
    guint8 before[16] = { 0 };
    guint8 now[16] = { 0 };
    guint8 out[8];
    gsize len;

    (void)state;
    now[3] = now[4] = now[9] = 1; /* 3 2 x x, 4 1 x: seven bytes */
    for (gsize max = 0; max < 7; max++) {
        memset(out, 0xcc, sizeof(out));
        assert_int_equal(xbzrle_encode(before, now, 16, out, max, &len), XBZRLE_OVERFLOW);
        for (gsize i = max; i < sizeof(out); i++)
            assert_int_equal(out[i], 0xcc);
    }
    assert_int_equal(xbzrle_encode(before, now, 16, out, 7, &len), XBZRLE_DELTA);
    assert_int_equal(len, 7);
}

/* ---- any two pages ---- */

static void change_some(Pages *pages, GRand *rand)
{
    gint runs = g_rand_int_range(rand, 0, 40);

    for (gint i = 0; i < runs; i++) {
        guint at = (guint)g_rand_int_range(rand, 0, PAGE);
        guint len = (guint)g_rand_int_range(rand, 1, g_rand_boolean(rand) ? 8 : 200);

        for (guint at_end = MIN(at + len, PAGE); at < at_end; at++)
            pages->now[at] = (guint8)g_rand_int(rand);
    }
}

static void every_difference_gives_the_page_back(void **state)
{
    g_autofree Pages *pages = g_new0(Pages, 1);
    g_autoptr(GRand) rand = g_rand_new_with_seed(11);
    guint deltas = 0;

    (void)state;
    for (guint round = 0; round < 3000; round++) {
        for (gsize i = 0; i < PAGE; i++)
            pages->before[i] = (guint8)g_rand_int(rand);
        memcpy(pages->now, pages->before, PAGE);
        change_some(pages, rand);
        switch (encode(pages)) {
        case XBZRLE_DELTA:
            deltas++;
            assert_true(pages->len < PAGE);
            assert_there_and_back(pages);
            break;
        case XBZRLE_UNCHANGED:
            assert_memory_equal(pages->before, pages->now, PAGE);
            break;
        case XBZRLE_OVERFLOW:
            break;
        }
    }
    assert_true(deltas > 2000);
}

/* Runs of each length at each of eight alignments: the eight bytes at a time see no border wrongly. */
static void runs_of_each_length_and_place_come_through(void **state)
{
    g_autofree Pages *pages = g_new0(Pages, 1);

    (void)state;
    for (gsize at = 0; at < 9; at++) {
        for (gsize len = 1; len < 40; len++) {
            memset(pages->now, 0, PAGE);
            memset(pages->now + at, 0x80, len);
            memset(pages->now + PAGE - len, 0x01, len);
            assert_int_equal(encode(pages), XBZRLE_DELTA);
            assert_there_and_back(pages);
        }
    }
}

/* ---- broken ones ---- */

typedef struct {
    const char *what;
    guint8 delta[8];
    gsize len;
} Broken;

static const Broken broken[] = {
    { "a count is missing", { 0 }, 0 },
    { "a count is cut off", { 0x80 }, 1 },
    { "not one that is written in two bytes", { 0x80, 0x80, 1, 1 }, 4 },
    { "not one that is written in two bytes", { 0x85, 0x00, 1, 1 }, 4 },
    { "a count is missing", { 5 }, 1 },
    { "a count is cut off", { 5, 0x80 }, 2 },
    { "a changed run of no bytes", { 5, 0 }, 2 },
    { "changed bytes are missing", { 5, 2, 1 }, 3 },
    { "no unchanged bytes between", { 5, 1, 1, 0, 1, 1 }, 6 },
    { "unchanged bytes go beyond the page", { 0x81, 0x20, 1, 1 }, 4 },
    { "changed bytes go beyond the page", { 0x80, 0x20, 1, 1 }, 4 },
    { "a count is missing", { 0, 1, 1, 5 }, 4 },
};

static void a_broken_difference_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    for (gsize i = 0; i < G_N_ELEMENTS(broken); i++) {
        g_autoptr(GError) error = NULL;
        guint8 page[PAGE];
        guint8 was[PAGE];

        memset(page, 0x33, PAGE);
        memset(was, 0x33, PAGE);
        assert_false(xbzrle_decode(broken[i].delta, broken[i].len, page, PAGE, &error));
        assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL));
        if (!strstr(error->message, broken[i].what))
            fail_msg("row %zu: %s", i, error->message);
        assert_memory_equal(page, was, PAGE);
    }
}

/* The changed bytes end with the page, to the byte. */
static void a_change_up_to_the_last_byte_is_taken(void **state)
{
    static const guint8 delta[] = { 0xff, 0x1f, 1, 9 }; /* 4095 unchanged */
    guint8 page[PAGE] = { 0 };

    (void)state;
    assert_true(xbzrle_decode(delta, sizeof(delta), page, PAGE, NULL));
    assert_int_equal(page[PAGE - 1], 9);
}

static void every_truncation_is_refused(void **state)
{
    g_autofree Pages *pages = g_new0(Pages, 1);

    (void)state;
    pages->now[1] = pages->now[2] = 1;
    pages->now[500] = 2;
    assert_int_equal(encode(pages), XBZRLE_DELTA);
    for (gsize len = 0; len < pages->len; len++) {
        guint8 page[PAGE] = { 0 };

        if (len == 4) /* the first pair alone is whole */
            continue;
        assert_false(xbzrle_decode(pages->delta, len, page, PAGE, NULL));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_at_the_start_has_no_unchanged_bytes_before_it),
        cmocka_unit_test(counts_from_128_on_take_two_bytes),
        cmocka_unit_test(a_page_that_is_as_it_was_sends_nothing),
        cmocka_unit_test(a_page_that_is_all_different_overflows),
        cmocka_unit_test(a_difference_that_is_longer_than_the_page_overflows),
        cmocka_unit_test(a_difference_takes_no_byte_more_than_it_may),
        cmocka_unit_test(every_difference_gives_the_page_back),
        cmocka_unit_test(runs_of_each_length_and_place_come_through),
        cmocka_unit_test(a_broken_difference_is_refused_and_changes_nothing),
        cmocka_unit_test(a_change_up_to_the_last_byte_is_taken),
        cmocka_unit_test(every_truncation_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
