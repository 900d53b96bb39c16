/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cache of pages as they were sent, and the encoder on it. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "ram/blocks.h"
#include "ram/page_cache.h"
#include "ram/xbzrle_encoder.h"

#define PAGE 4096

static PageCache *cache_of(guint64 pages)
{
    PageCache *cache = page_cache_new(pages * PAGE, PAGE, NULL);

    assert_non_null(cache);
    return cache;
}

static gboolean insert(PageCache *cache, guint block, guint64 page, guint8 fill, guint64 round)
{
    guint8 data[PAGE];

    memset(data, fill, PAGE);
    return page_cache_insert(cache, block, page * PAGE, data, round);
}

static void assert_filled(const guint8 *page, guint8 fill)
{
    assert_non_null(page);
    assert_int_equal(page[0], fill);
    assert_int_equal(page[PAGE - 1], fill);
}

/* ---- size ---- */

static void the_size_is_the_power_of_two_below(void **state)
{
    static const guint64 rows[][2] = { { 1, 1 },   { 2, 2 },   { 3, 2 },
                                       { 1023, 512 }, { 1024, 1024 } };

    (void)state;
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(PageCache) cache = cache_of(rows[i][0]);

        assert_int_equal(page_cache_capacity(cache), rows[i][1]);
    }
}

static void a_size_without_room_for_a_page_or_beyond_memory_is_refused(void **state)
{
    static const guint64 sizes[] = { 0, PAGE - 1, G_MAXUINT64, G_GUINT64_CONSTANT(1) << 62 };

    (void)state;
    for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autoptr(GError) error = NULL;

        assert_null(page_cache_new(sizes[i], PAGE, &error));
        assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_INVALID));
    }
}

/* ---- pages ---- */

static void a_page_is_found_by_block_and_offset(void **state)
{
    g_autoptr(PageCache) cache = cache_of(64);

    (void)state;
    assert_true(insert(cache, 0, 7, 0xa0, 0));
    assert_true(insert(cache, 1, 7, 0xa1, 0));
    assert_filled(page_cache_get(cache, 0, 7 * PAGE, 0), 0xa0);
    assert_filled(page_cache_get(cache, 1, 7 * PAGE, 0), 0xa1);
    assert_null(page_cache_get(cache, 2, 7 * PAGE, 0));
    assert_null(page_cache_get(cache, 0, 8 * PAGE, 0));
    page_cache_drop(cache, 0, 7 * PAGE);
    assert_null(page_cache_get(cache, 0, 7 * PAGE, 0));
    assert_int_equal(page_cache_pages(cache), 1);
}

static void a_young_page_keeps_its_place(void **state)
{
    g_autoptr(PageCache) cache = cache_of(1);

    (void)state;
    assert_true(insert(cache, 0, 0, 1, 0));
    assert_false(insert(cache, 0, 1, 2, 0));
    assert_false(insert(cache, 0, 1, 2, PAGE_CACHE_LIFETIME - 1));
    assert_filled(page_cache_get(cache, 0, 0, PAGE_CACHE_LIFETIME - 1), 1);
    /* that was a use: it is young again */
    assert_false(insert(cache, 0, 1, 2, PAGE_CACHE_LIFETIME));
    assert_true(insert(cache, 0, 1, 2, 2 * PAGE_CACHE_LIFETIME));
    assert_null(page_cache_get(cache, 0, 0, 4));
    assert_filled(page_cache_get(cache, 0, PAGE, 4), 2);
}

/* Eight pages share the one set there is. */
static void the_page_used_least_recently_makes_room(void **state)
{
    g_autoptr(PageCache) cache = cache_of(8);

    (void)state;
    for (guint64 i = 0; i < 8; i++)
        assert_true(insert(cache, 0, i, (guint8)i, 0));
    for (guint64 i = 0; i < 8; i++)
        if (i != 5)
            assert_non_null(page_cache_get(cache, 0, i * PAGE, 0));
    assert_true(insert(cache, 0, 100, 100, 2));
    assert_null(page_cache_get(cache, 0, 5 * PAGE, 2));
    for (guint64 i = 0; i < 8; i++)
        if (i != 5)
            assert_non_null(page_cache_get(cache, 0, i * PAGE, 2));
    assert_int_equal(page_cache_pages(cache), 8);
}

/* A guest that writes to twice what the cache holds, in order, again and again. */
static void a_sweep_larger_than_the_cache_does_not_turn_it_over(void **state)
{
    enum { CAPACITY = 256, SWEEP = 512, ROUNDS = 6 };
    g_autoptr(PageCache) cache = cache_of(CAPACITY);

    (void)state;
    for (guint64 round = 0; round < ROUNDS; round++) {
        guint hits = 0;

        for (guint64 page = 0; page < SWEEP; page++) {
            if (page_cache_get(cache, 0, page * PAGE, round))
                hits++;
            else
                insert(cache, 0, page, (guint8)page, round);
        }
        if (round > 0)
            assert_true(hits > CAPACITY * 9 / 10);
    }
}

/* ---- resizing ---- */

static void larger_keeps_every_page(void **state)
{
    g_autoptr(PageCache) cache = cache_of(64);
    guint64 had;
    guint found = 0;

    (void)state;
    for (guint64 i = 0; i < 64; i++)
        insert(cache, 0, i, (guint8)i, 0);
    had = page_cache_pages(cache);
    assert_true(page_cache_resize(cache, 4096 * PAGE, NULL));
    assert_int_equal(page_cache_capacity(cache), 4096);
    assert_int_equal(page_cache_pages(cache), had);
    for (guint64 i = 0; i < 64; i++) {
        guint8 *page = page_cache_get(cache, 0, i * PAGE, 0);

        if (page) {
            assert_filled(page, (guint8)i);
            found++;
        }
    }
    assert_int_equal(found, had);
}

static void smaller_keeps_the_youngest(void **state)
{
    g_autoptr(PageCache) cache = cache_of(1024);

    (void)state;
    for (guint64 i = 0; i < 512; i++)
        insert(cache, 0, i, (guint8)i, 0);
    assert_non_null(page_cache_get(cache, 0, 3 * PAGE, 0));
    assert_true(page_cache_resize(cache, 8 * PAGE, NULL));
    assert_int_equal(page_cache_pages(cache), 8);
    assert_filled(page_cache_get(cache, 0, 3 * PAGE, 0), 3);
    /* Of the others those that came last, as far as they were let in. */
    assert_null(page_cache_get(cache, 0, 0, 0));
}

static void a_size_that_is_refused_changes_nothing(void **state)
{
    g_autoptr(PageCache) cache = cache_of(16);
    g_autoptr(GError) error = NULL;

    (void)state;
    insert(cache, 0, 1, 9, 0);
    assert_false(page_cache_resize(cache, 10, &error));
    assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_INVALID));
    assert_int_equal(page_cache_capacity(cache), 16);
    assert_filled(page_cache_get(cache, 0, PAGE, 0), 9);
}

/* ---- the encoder ---- */

/* A source's pages and what a destination made of what it was sent. */
typedef struct {
    XbzrleEncoder *encoder;
    guint8 source[8][PAGE];
    guint8 destination[8][PAGE];
} Pair;

static Pair *pair_new(guint64 cache_pages)
{
    Pair *pair = g_new0(Pair, 1);

    pair->encoder = xbzrle_encoder_new(cache_pages * PAGE, PAGE, NULL);
    assert_non_null(pair->encoder);
    return pair;
}

static void pair_free(Pair *pair)
{
    xbzrle_encoder_free(pair->encoder);
    g_free(pair);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Pair, pair_free)

static XbzrleResult pair_send(Pair *pair, guint page, guint64 round)
{
    const guint8 *data = NULL;
    gsize len = 0;
    XbzrleResult result = xbzrle_encoder_page(pair->encoder, 0, page * (guint64)PAGE,
                                              pair->source[page], round, &data, &len);

    if (result == XBZRLE_DELTA)
        assert_true(xbzrle_decode(data, len, pair->destination[page], PAGE, NULL));
    else if (result == XBZRLE_OVERFLOW)
        memcpy(pair->destination[page], data, len);
    assert_memory_equal(pair->source[page], pair->destination[page], PAGE);
    return result;
}

static XbzrleStats stats_of(Pair *pair)
{
    XbzrleStats stats;

    xbzrle_encoder_end_period(pair->encoder);
    xbzrle_encoder_stats(pair->encoder, &stats);
    return stats;
}

static void the_counters_say_what_became_of_each_page(void **state)
{
    g_autoptr(Pair) pair = pair_new(64);
    XbzrleStats stats;

    (void)state;
    for (guint page = 0; page < 4; page++) {
        memset(pair->source[page], 0x11, PAGE);
        assert_int_equal(pair_send(pair, page, 0), XBZRLE_OVERFLOW);
    }
    stats = stats_of(pair);
    assert_int_equal(stats.cache_bytes, 64 * PAGE);
    assert_int_equal(stats.misses, 4);
    assert_true(stats.miss_rate == 1.0 && stats.encoding_rate == 0.0);

    pair->source[0][5] = 1; /* 5 1 x: three bytes */
    assert_int_equal(pair_send(pair, 0, 1), XBZRLE_DELTA);
    assert_int_equal(pair_send(pair, 1, 1), XBZRLE_UNCHANGED);
    memset(pair->source[2], 0x22, PAGE);
    assert_int_equal(pair_send(pair, 2, 1), XBZRLE_OVERFLOW);
    assert_int_equal(pair_send(pair, 4, 1), XBZRLE_OVERFLOW);
    stats = stats_of(pair);
    assert_int_equal(stats.pages, 2);
    assert_int_equal(stats.bytes, 3);
    assert_int_equal(stats.overflow, 1);
    assert_int_equal(stats.misses, 5);
    assert_true(stats.miss_rate == 0.25);
    assert_true(stats.encoding_rate == 3.0 * PAGE / (PAGE + 3));

    stats = stats_of(pair); /* a period with nothing in it */
    assert_true(stats.miss_rate == 0.0 && stats.encoding_rate == 0.0 && stats.pages == 2);
}

static void a_zero_page_is_what_the_next_difference_is_to(void **state)
{
    g_autoptr(Pair) pair = pair_new(64);

    (void)state;
    memset(pair->source[0], 0x11, PAGE);
    pair_send(pair, 0, 0);
    memset(pair->source[0], 0, PAGE);
    memset(pair->destination[0], 0, PAGE);
    xbzrle_encoder_zero_page(pair->encoder, 0, 0, 1);
    pair->source[0][0] = 1;
    assert_int_equal(pair_send(pair, 0, 2), XBZRLE_DELTA);
    assert_int_equal(stats_of(pair).bytes, 3);
}

static void a_page_that_was_forgotten_is_sent_whole(void **state)
{
    g_autoptr(Pair) pair = pair_new(64);

    (void)state;
    pair->source[0][0] = 1;
    pair_send(pair, 0, 0);
    memset(pair->destination[0], 0x77, PAGE); /* as if it had been discarded */
    xbzrle_encoder_forget(pair->encoder, 0, 0);
    assert_int_equal(pair_send(pair, 0, 1), XBZRLE_OVERFLOW);
}

static void the_cache_changes_size_in_the_midst_of_rounds(void **state)
{
    static const guint64 sizes[] = { 64, 1, 2, 64, 8, 1024 };
    g_autoptr(Pair) pair = pair_new(4);
    g_autoptr(GRand) rand = g_rand_new_with_seed(5);

    (void)state;
    for (guint64 round = 0; round < 300; round++) {
        for (guint page = 0; page < 8; page++) {
            pair->source[page][g_rand_int_range(rand, 0, PAGE)] = (guint8)g_rand_int(rand);
            pair_send(pair, page, round);
            if (g_rand_int_range(rand, 0, 16) == 0)
                assert_true(xbzrle_encoder_resize(
                    pair->encoder,
                    sizes[g_rand_int_range(rand, 0, G_N_ELEMENTS(sizes))] * PAGE, NULL));
        }
    }
    assert_true(stats_of(pair).pages > 300);
}

static void pages_too_large_to_be_counted_are_refused(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_null(xbzrle_encoder_new(1 << 20, 16384, &error));
    assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_INVALID));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_size_is_the_power_of_two_below),
        cmocka_unit_test(a_size_without_room_for_a_page_or_beyond_memory_is_refused),
        cmocka_unit_test(a_page_is_found_by_block_and_offset),
        cmocka_unit_test(a_young_page_keeps_its_place),
        cmocka_unit_test(the_page_used_least_recently_makes_room),
        cmocka_unit_test(a_sweep_larger_than_the_cache_does_not_turn_it_over),
        cmocka_unit_test(larger_keeps_every_page),
        cmocka_unit_test(smaller_keeps_the_youngest),
        cmocka_unit_test(a_size_that_is_refused_changes_nothing),
        cmocka_unit_test(the_counters_say_what_became_of_each_page),
        cmocka_unit_test(a_zero_page_is_what_the_next_difference_is_to),
        cmocka_unit_test(a_page_that_was_forgotten_is_sent_whole),
        cmocka_unit_test(the_cache_changes_size_in_the_midst_of_rounds),
        cmocka_unit_test(pages_too_large_to_be_counted_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
