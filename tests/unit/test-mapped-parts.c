/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts of the mapped source, one by one. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <gio/gio.h>
#include <string.h>

#include "ram/mapped/auto_converge.h"
#include "ram/mapped/dirty_map.h"
#include "ram/mapped/discard_plan.h"
#include "ram/mapped/downtime.h"
#include "ram/mapped/notifier.h"
#include "ram/mapped/rate_limit.h"
#include "ram/mapped/refusals.h"
#include "ram/mapped/release.h"
#include "ram/mapped/request_queue.h"
#include "ram/zero_page.h"

#define PAGE 4096
#define HUGE (2 * 1024 * 1024)
#define SECOND G_USEC_PER_SEC

/* A block "small" of so many pages, and one "huge" of so many pages of 2 MiB. */
static void add_block(RamBlocks *blocks, const char *name, guint64 pages, guint64 page_size)
{
    guint index;

    assert_true(ram_blocks_add(blocks, (const guint8 *)name, strlen(name), pages * page_size,
                               page_size, &index, NULL));
}

static RamBlocks *make_blocks(guint64 small, guint64 huge)
{
    RamBlocks *blocks = ram_blocks_new();

    add_block(blocks, "small", small, PAGE);
    if (huge > 0)
        add_block(blocks, "huge", huge, HUGE);
    return blocks;
}

/* ---- a log that is told what was written ---- */

typedef struct {
    DirtyLog log;
    Bitmap *written; /* of block 0 */
    guint clears;
    guint64 cleared_pages;
    gboolean fails;
} TestLog;

static void note_range(TestLog *log, guint64 first, guint64 n, DirtyLogNote note, gpointer data)
{
    guint64 page = first;

    while ((page = bitmap_next(log->written, page)) < first + n)
        note(0, page++, 1, data);
}

static gboolean test_collect(DirtyLog *base, guint block, DirtyLogNote note, gpointer data,
                             GError **error)
{
    TestLog *log = (TestLog *)base;

    if (log->fails) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "no log");
        return FALSE;
    }
    if (block == 0)
        note_range(log, 0, bitmap_pages(log->written), note, data);
    return TRUE;
}

static gboolean test_clear(DirtyLog *base, guint block, guint64 first, guint64 n, DirtyLogNote note,
                           gpointer data, GError **error)
{
    TestLog *log = (TestLog *)base;

    log->clears++;
    log->cleared_pages += n;
    if (block != 0)
        return TRUE;
    note_range(log, first, n, note, data);
    bitmap_clear_range(log->written, first, n);
    return TRUE;
}

static gboolean test_look(DirtyLog *base, guint block, guint64 first, guint64 n, DirtyLogNote note,
                          gpointer data, GError **error)
{
    if (block == 0)
        note_range((TestLog *)base, first, n, note, data);
    return TRUE;
}

static void log_free(DirtyLog *base)
{
}

static const DirtyLogOps test_ops = {
    .collect = test_collect,
    .clear = test_clear,
    .look = test_look,
    .free = log_free,
};

static void test_log_init(TestLog *log, guint64 pages)
{
    *log = (TestLog){ .log = { .ops = &test_ops }, .written = bitmap_new(pages) };
}

/* ---- O1: dirty bitmaps ---- */

static void everything_is_dirty_at_first(void **state)
{
    g_autoptr(RamBlocks) blocks = make_blocks(1000, 2);
    g_autoptr(DirtyMap) map = dirty_map_new(blocks, 6, NULL);

    assert_int_equal(dirty_map_count(map), 1000 + 1024);
    assert_int_equal(bitmap_count(dirty_map_bitmap(map, 0)), 1000);
}

static void the_count_stays_exact(void **state)
{
    g_autoptr(RamBlocks) blocks = make_blocks(1000, 1);
    g_autoptr(DirtyMap) map = dirty_map_new(blocks, 6, NULL);
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);

    for (guint i = 0; i < 2000; i++) {
        guint block = (guint)g_rand_int_range(rand, 0, 2);
        guint64 pages = bitmap_pages(dirty_map_bitmap(map, block));
        guint64 first = (guint64)g_rand_int_range(rand, 0, (gint32)pages);
        guint64 n = (guint64)g_rand_int_range(rand, 0, (gint32)(pages - first) + 1);

        if (g_rand_boolean(rand))
            dirty_map_set(map, block, first, n);
        else
            dirty_map_clear(map, block, first, n);
        first = bitmap_count_range(dirty_map_bitmap(map, 0), 0, 1000);
        assert_int_equal(dirty_map_count(map),
                         first + bitmap_count_range(dirty_map_bitmap(map, 1), 0, 512));
    }
}

static void the_log_is_cleared_chunk_by_chunk_before_a_page_is_read(void **state)
{
    g_autoptr(RamBlocks) blocks = make_blocks(1000, 0);
    TestLog log;
    g_autoptr(DirtyMap) map = NULL;
    gboolean cleared;
    guint64 dirtied;

    test_log_init(&log, 1000);
    map = dirty_map_new(blocks, 6, &log.log);
    assert_true(dirty_map_prepare(map, 0, 10, 1, &cleared, NULL));
    assert_true(cleared);
    assert_int_equal(log.cleared_pages, 64);
    assert_true(dirty_map_prepare(map, 0, 63, 1, &cleared, NULL));
    assert_false(cleared);
    assert_true(dirty_map_prepare(map, 0, 63, 2, &cleared, NULL));
    assert_true(cleared);
    assert_int_equal(log.clears, 2);
    /* The last chunk is shorter. */
    assert_true(dirty_map_prepare(map, 0, 999, 1, &cleared, NULL));
    assert_int_equal(log.cleared_pages, 64 + 64 + 1000 % 64);
    /* What a sync finds has to be cleared again, and nothing else. */
    bitmap_set(log.written, 5);
    assert_true(dirty_map_sync(map, &dirtied, NULL));
    assert_true(dirty_map_prepare(map, 0, 70, 1, &cleared, NULL));
    assert_false(cleared);
    assert_true(dirty_map_prepare(map, 0, 7, 1, &cleared, NULL));
    assert_true(cleared);
    bitmap_free(log.written);
}

static void a_chunk_is_never_less_than_a_host_page_nor_more_than_the_block(void **state)
{
    g_autoptr(RamBlocks) blocks = make_blocks(64, 3);
    TestLog log;
    g_autoptr(DirtyMap) small = NULL;
    g_autoptr(DirtyMap) large = NULL;
    gboolean cleared;

    test_log_init(&log, 64);
    small = dirty_map_new(blocks, 6, &log.log);
    assert_true(dirty_map_prepare(small, 1, 600, 1, &cleared, NULL));
    assert_int_equal(log.cleared_pages, 512);
    log.cleared_pages = 0;
    large = dirty_map_new(blocks, 31, &log.log);
    assert_true(dirty_map_prepare(large, 1, 600, 1, &cleared, NULL));
    assert_int_equal(log.cleared_pages, 3 * 512);
    bitmap_free(log.written);
}

static void a_sync_counts_what_was_not_dirty_before(void **state)
{
    g_autoptr(RamBlocks) blocks = make_blocks(100, 0);
    TestLog log;
    g_autoptr(DirtyMap) map = NULL;
    guint64 dirtied;

    test_log_init(&log, 100);
    map = dirty_map_new(blocks, 6, &log.log);
    dirty_map_clear(map, 0, 0, 50);
    bitmap_set_range(log.written, 40, 20);
    assert_true(dirty_map_sync(map, &dirtied, NULL));
    assert_int_equal(dirtied, 10);
    assert_int_equal(dirty_map_count(map), 60);
    bitmap_free(log.written);
}

static void what_clearing_finds_is_dirty(void **state)
{
    g_autoptr(RamBlocks) blocks = make_blocks(100, 0);
    TestLog log;
    g_autoptr(DirtyMap) map = NULL;
    gboolean cleared;

    test_log_init(&log, 100);
    map = dirty_map_new(blocks, 6, &log.log);
    dirty_map_clear(map, 0, 0, 100);
    bitmap_set(log.written, 20);
    assert_true(dirty_map_prepare(map, 0, 1, 1, &cleared, NULL));
    assert_int_equal(dirty_map_count(map), 1);
    assert_true(bitmap_get(dirty_map_bitmap(map, 0), 20));
    bitmap_free(log.written);
}

static void an_ignored_block_is_never_dirty(void **state)
{
    g_autoptr(RamBlocks) blocks = make_blocks(100, 1);
    TestLog log;
    g_autoptr(DirtyMap) map = NULL;
    guint64 dirtied;

    test_log_init(&log, 100);
    map = dirty_map_new(blocks, 6, &log.log);
    dirty_map_ignore(map, 0);
    bitmap_set(log.written, 3);
    assert_true(dirty_map_sync(map, &dirtied, NULL));
    dirty_map_set(map, 0, 0, 10);
    assert_int_equal(dirty_map_count(map), 512);
    bitmap_free(log.written);
}

static void a_log_that_fails_fails_the_sync(void **state)
{
    g_autoptr(RamBlocks) blocks = make_blocks(100, 0);
    TestLog log;
    g_autoptr(DirtyMap) map = NULL;
    g_autoptr(GError) error = NULL;
    guint64 dirtied;

    test_log_init(&log, 100);
    map = dirty_map_new(blocks, 6, &log.log);
    log.fails = TRUE;
    assert_false(dirty_map_sync(map, &dirtied, &error));
    assert_string_equal(error->message, "no log");
    bitmap_free(log.written);
}

/* O12 */
static void what_was_not_received_is_dirty(void **state)
{
    g_autoptr(RamBlocks) blocks = make_blocks(200, 0);
    g_autoptr(DirtyMap) map = dirty_map_new(blocks, 6, NULL);
    g_autoptr(Bitmap) received = bitmap_new(200);

    bitmap_set_range(received, 0, 10);
    bitmap_set_range(received, 60, 70);
    bitmap_set(received, 199);
    dirty_map_clear(map, 0, 0, 200);
    dirty_map_set_received(map, 0, received);
    assert_int_equal(dirty_map_count(map), 200 - 81);
    for (guint64 i = 0; i < 200; i++)
        assert_int_equal(bitmap_get(dirty_map_bitmap(map, 0), i), !bitmap_get(received, i));
}

/* ---- O5: discards ---- */

static void a_host_page_that_is_partly_dirty_becomes_wholly_dirty(void **state)
{
    g_autoptr(RamBlocks) blocks = make_blocks(10, 4);
    g_autoptr(DirtyMap) map = dirty_map_new(blocks, 6, NULL);

    dirty_map_clear(map, 0, 0, 10);
    dirty_map_clear(map, 1, 0, 4 * 512);
    dirty_map_set(map, 0, 3, 1);
    dirty_map_set(map, 1, 511, 2);      /* the end of one and the beginning of the next */
    dirty_map_set(map, 1, 3 * 512, 512); /* one that is whole */
    assert_int_equal(discard_plan_canonicalise(map, blocks), 2 * 512 - 2);
    assert_int_equal(dirty_map_count(map), 1 + 3 * 512);
    assert_int_equal(bitmap_count_range(dirty_map_bitmap(map, 1), 2 * 512, 512), 0);
}

static void what_is_dirty_is_discarded_in_ranges(void **state)
{
    g_autoptr(RamBlocks) blocks = make_blocks(100, 0);
    g_autoptr(DirtyMap) map = dirty_map_new(blocks, 6, NULL);
    guint64 page = 0;
    guint64 start;
    guint64 length;

    dirty_map_clear(map, 0, 0, 100);
    dirty_map_set(map, 0, 0, 2);
    dirty_map_set(map, 0, 50, 1);
    dirty_map_set(map, 0, 90, 10);
    assert_true(discard_plan_next(map, blocks, 0, &page, &start, &length));
    assert_true(start == 0 && length == 2 * PAGE);
    assert_true(discard_plan_next(map, blocks, 0, &page, &start, &length));
    assert_true(start == 50 * PAGE && length == PAGE);
    assert_true(discard_plan_next(map, blocks, 0, &page, &start, &length));
    assert_true(start == 90 * PAGE && length == 10 * PAGE);
    assert_false(discard_plan_next(map, blocks, 0, &page, &start, &length));
}

/* ---- O4: requests ---- */

static void requests_are_served_page_by_page_in_their_order(void **state)
{
    g_autoptr(RamBlocks) blocks = make_blocks(100, 4);
    g_autoptr(RequestQueue) queue = request_queue_new(blocks);
    guint block;
    guint64 offset;

    assert_true(request_queue_add(queue, 0, 5 * PAGE, NULL));
    assert_true(request_queue_add(queue, 0, 6 * PAGE, NULL));
    assert_true(request_queue_add(queue, 1, HUGE, NULL));
    assert_true(request_queue_add(queue, 0, 7 * PAGE, NULL));
    assert_int_equal(request_queue_size(queue), 4);
    assert_true(request_queue_take(queue, &block, &offset) && block == 0 && offset == 5 * PAGE);
    assert_true(request_queue_take(queue, &block, &offset) && block == 0 && offset == 6 * PAGE);
    assert_true(request_queue_take(queue, &block, &offset) && block == 1 && offset == HUGE);
    assert_true(request_queue_take(queue, &block, &offset) && block == 0 && offset == 7 * PAGE);
    assert_false(request_queue_take(queue, &block, &offset));
    assert_int_equal(request_queue_size(queue), 0);
}

static void a_request_grows_to_whole_host_pages(void **state)
{
    g_autoptr(RamBlocks) blocks = make_blocks(100, 4);
    g_autoptr(RequestQueue) queue = request_queue_new(blocks);
    PageRequest request = { .block = 1, .start = HUGE - PAGE, .length = 2 * PAGE };
    guint64 start;
    guint64 end;

    assert_true(request_queue_check(queue, &request, &start, &end, NULL));
    assert_true(start == 0 && end == 2 * HUGE);
}

static void requests_that_cannot_be_are_refused(void **state)
{
    const struct {
        PageRequest request;
        const char *says;
    } bad[] = {
        { { 2, 0, PAGE }, "block 2" },
        { { 0, 0, 0 }, "\"small\"" },
        { { 0, 100 * PAGE, PAGE }, "\"small\"" },
        { { 0, 99 * PAGE, 2 * PAGE }, "\"small\"" },
        { { 0, 1, PAGE }, "\"small\"" },
        { { 0, 0, PAGE + 1 }, "\"small\"" },
        { { 0, G_MAXUINT64 - PAGE + 1, PAGE }, "\"small\"" },
    };
    g_autoptr(RamBlocks) blocks = make_blocks(100, 1);
    g_autoptr(RequestQueue) queue = request_queue_new(blocks);

    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        guint64 start;
        guint64 end;

        assert_false(request_queue_check(queue, &bad[i].request, &start, &end, &error));
        assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL));
        assert_non_null(strstr(error->message, bad[i].says));
    }
}

static void more_requests_than_the_limit_are_refused_and_emptying_makes_room(void **state)
{
    g_autoptr(RamBlocks) blocks = make_blocks(REQUEST_QUEUE_MAX + 1, 0);
    g_autoptr(RequestQueue) queue = request_queue_new(blocks);
    g_autoptr(GError) error = NULL;
    guint block;
    guint64 offset;

    for (guint i = 0; i < REQUEST_QUEUE_MAX; i++)
        assert_true(request_queue_add(queue, 0, (guint64)i * PAGE, NULL));
    assert_false(request_queue_add(queue, 0, (guint64)REQUEST_QUEUE_MAX * PAGE, &error));
    assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL));
    request_queue_empty(queue);
    assert_int_equal(request_queue_size(queue), 0);
    assert_false(request_queue_take(queue, &block, &offset));
    assert_true(request_queue_add(queue, 0, 0, NULL));
}

/* ---- O7: auto-converge ---- */

static void a_guest_that_writes_too_much_twice_in_a_row_is_slowed_down(void **state)
{
    AutoConverge converge = { 0 };

    auto_converge_init(&converge, 30, 25, 80);
    assert_false(auto_converge_on_period(&converge, 51, 100));
    assert_false(auto_converge_on_period(&converge, 50, 100)); /* no more than half: begins anew */
    assert_false(auto_converge_on_period(&converge, 51, 100));
    assert_true(auto_converge_on_period(&converge, 51, 100));
    assert_int_equal(converge.percent, 30);
    assert_false(auto_converge_on_period(&converge, 100, 100));
    assert_true(auto_converge_on_period(&converge, 100, 100));
    assert_int_equal(converge.percent, 55);
    assert_false(auto_converge_on_period(&converge, 100, 100));
    assert_true(auto_converge_on_period(&converge, 100, 100));
    assert_int_equal(converge.percent, 80);
    assert_false(auto_converge_on_period(&converge, 100, 100));
    assert_true(auto_converge_on_period(&converge, 100, 100) == FALSE); /* no further */
    assert_int_equal(converge.percent, 80);
    assert_true(auto_converge_stop(&converge));
    assert_false(auto_converge_stop(&converge));
}

static void throttling_has_defaults_and_stops_below_100(void **state)
{
    AutoConverge converge = { 0 };

    auto_converge_init(&converge, 0, 0, 100);
    for (guint i = 0; i < 40; i++)
        auto_converge_on_period(&converge, 100, 100);
    assert_int_equal(converge.percent, 99);
    auto_converge_init(&converge, 0, 0, 0);
    assert_int_equal(converge.initial, THROTTLE_INITIAL_DEFAULT);
    assert_int_equal(converge.percent, 99); /* new parameters do not let it go */
}

/* ---- O9: rate and downtime ---- */

static void no_more_than_the_rate_is_sent_in_a_period(void **state)
{
    RateLimit limit = { 0 };
    gint64 now = 5 * SECOND;

    rate_limit_set(&limit, 1000 * 1000);
    assert_int_equal(rate_limit_room(&limit, now), 100 * 1000);
    rate_limit_on_sent(&limit, 60 * 1000);
    assert_int_equal(rate_limit_room(&limit, now + 50 * 1000), 40 * 1000);
    rate_limit_on_sent(&limit, 40 * 1000);
    assert_int_equal(rate_limit_room(&limit, now + 99 * 1000), 0);
    assert_int_equal(rate_limit_wake_us(&limit), now + 100 * 1000);
    assert_int_equal(rate_limit_room(&limit, now + 100 * 1000), 100 * 1000);
}

static void what_was_sent_too_much_is_taken_off_later(void **state)
{
    RateLimit limit = { 0 };
    gint64 now = SECOND;

    rate_limit_set(&limit, 1000 * 1000);
    rate_limit_room(&limit, now);
    rate_limit_on_sent(&limit, 350 * 1000);
    assert_int_equal(rate_limit_room(&limit, now), 0);
    assert_int_equal(rate_limit_wake_us(&limit), now + 300 * 1000);
    assert_int_equal(rate_limit_room(&limit, now + 300 * 1000), 50 * 1000);
    /* Time without sending is not saved up. */
    assert_int_equal(rate_limit_room(&limit, now + 60 * SECOND), 100 * 1000);
}

static void no_rate_is_no_limit(void **state)
{
    RateLimit limit = { 0 };

    assert_true(rate_limit_room(&limit, SECOND) == G_MAXUINT64);
    rate_limit_on_sent(&limit, 1 << 30);
    assert_true(rate_limit_room(&limit, SECOND) == G_MAXUINT64);
}

static void the_threshold_is_what_the_link_does_in_the_limit(void **state)
{
    Downtime downtime = { 0 };

    assert_int_equal(downtime_threshold(&downtime, 300, 0), 0);
    assert_true(downtime_expected_us(&downtime, 1) == G_MAXUINT64);
    assert_int_equal(downtime_expected_us(&downtime, 0), 0);
    downtime_update(&downtime, 0, SECOND);
    downtime_update(&downtime, 10 * 1000 * 1000, SECOND + 100 * 1000);
    assert_int_equal(downtime_threshold(&downtime, 300, 0), 30 * 1000 * 1000);
    assert_int_equal(downtime_threshold(&downtime, 300, 50 * 1000 * 1000), 15 * 1000 * 1000);
    assert_int_equal(downtime_expected_us(&downtime, 50 * 1000 * 1000), SECOND / 2);
}

static void a_short_round_is_a_measure_if_there_is_none(void **state)
{
    Downtime downtime = { 0 };

    downtime_update(&downtime, 0, SECOND);
    downtime_on_drained(&downtime, 40 * 1000, SECOND + 1000);
    assert_int_equal(downtime.rate, 40 * 1000 * 1000);
    /* But it does not replace a better one. */
    downtime_update(&downtime, 40 * 1000, 2 * SECOND);
    downtime_on_drained(&downtime, 41 * 1000, 2 * SECOND + 1000);
    assert_int_equal(downtime.rate, 40 * 1000 * 1000);
}

/* ---- O6: release ---- */

static RamBlocks *two_blocks(guint64 host)
{
    RamBlocks *blocks = ram_blocks_new();

    assert_true(ram_blocks_set_target_page(blocks, PAGE, NULL));
    for (guint i = 0; i < 2; i++)
        assert_true(ram_blocks_add(blocks, (const guint8 *)(i ? "b" : "a"), 1, 64 * PAGE, host, NULL,
                                   NULL));
    return blocks;
}

static void assert_due(const GArray *due, guint i, guint block, guint64 first, guint64 n)
{
    const ReleaseRange *range = &g_array_index(due, ReleaseRange, i);

    assert_int_equal(range->block, block);
    assert_int_equal(range->range.start, first * PAGE);
    assert_int_equal(range->range.length, n * PAGE);
}

/* Their pieces are acknowledged before the destination can place them. */
static void only_whole_host_pages_become_due(void **state)
{
    g_autoptr(RamBlocks) blocks = two_blocks(4 * PAGE);
    ReleaseList list;
    GArray *due;

    release_list_init(&list, blocks);
    release_list_add(&list, 0, 4 * PAGE, 3 * PAGE);
    assert_false(release_list_close(&list));
    release_list_add(&list, 0, 7 * PAGE, 2 * PAGE);
    assert_true(release_list_close(&list)); /* 4 to 7; 8 stays */
    due = release_list_take(&list);
    assert_int_equal(due->len, 1);
    assert_due(due, 0, 0, 4, 4);
    g_array_unref(due);
    assert_false(release_list_close(&list));
    release_list_add(&list, 0, 9 * PAGE, PAGE);
    /* Another one in between: neither half of the first is given back. */
    release_list_add(&list, 1, 0, 4 * PAGE);
    release_list_add(&list, 0, 10 * PAGE, 2 * PAGE);
    assert_true(release_list_close(&list));
    due = release_list_take(&list);
    assert_int_equal(due->len, 1);
    assert_due(due, 0, 1, 0, 4);
    assert_int_equal(list.bytes, 8 * PAGE);
    g_array_unref(due);
    release_list_clear(&list);
}

static void ranges_become_due_in_batches(void **state)
{
    g_autoptr(RamBlocks) blocks = two_blocks(PAGE);
    ReleaseList list;
    GArray *due;

    release_list_init(&list, blocks);
    assert_false(release_list_close(&list));
    release_list_add(&list, 0, 0, PAGE);
    release_list_add(&list, 0, PAGE, PAGE);
    release_list_add(&list, 1, 2 * PAGE, PAGE);
    assert_true(release_list_close(&list));
    release_list_add(&list, 0, 9 * PAGE, PAGE);
    assert_false(release_list_close(&list)); /* one waits */
    due = release_list_take(&list);
    assert_int_equal(due->len, 2);
    assert_int_equal(g_array_index(due, ReleaseRange, 0).range.length, 2 * PAGE);
    assert_int_equal(list.bytes, 3 * PAGE);
    g_array_unref(due);
    assert_true(release_list_close(&list));
    release_list_clear(&list);
}

/* ---- O13: refusals ---- */

static void what_post_copy_cannot_take_is_refused_by_name(void **state)
{
    const struct {
        guint32 flags;
        guint64 length;
        gboolean postcopy;
        const char *says; /* NULL: it can */
    } cases[] = {
        { MEMORY_MIGRATABLE, HUGE, TRUE, NULL },
        { MEMORY_MIGRATABLE | MEMORY_PMEM, HUGE, FALSE, NULL },
        { MEMORY_MIGRATABLE | MEMORY_PMEM, HUGE, TRUE, "persistent" },
        { MEMORY_SHARED, HUGE, FALSE, "not migratable" },
        { MEMORY_SHARED, HUGE, TRUE, "not migratable" },
        { MEMORY_SHARED | MEMORY_PMEM | MEMORY_IGNORED, HUGE, TRUE, NULL },
        { MEMORY_MIGRATABLE, HUGE + PAGE, FALSE, NULL },
        { MEMORY_MIGRATABLE, HUGE + PAGE, TRUE, "host page" },
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(MemoryLayout) layout = memory_layout_new(1);
        g_autoptr(GError) error = NULL;

        layout->regions[0].name = g_strdup("the-block");
        layout->regions[0].page_size = HUGE;
        layout->regions[0].length = cases[i].length;
        layout->regions[0].flags = cases[i].flags;
        assert_int_equal(memory_refusals_check(layout, cases[i].postcopy, &error),
                         cases[i].says == NULL);
        if (cases[i].says) {
            assert_non_null(strstr(error->message, cases[i].says));
            assert_non_null(strstr(error->message, "\"the-block\""));
        }
    }
}

/* ---- B8: notifiers ---- */

typedef struct {
    GString *said;
    const char *name;
    gboolean refuses;
} Listener;

static gboolean listen_in(NotifyPhase phase, gpointer data, GError **error)
{
    Listener *listener = data;

    g_string_append_printf(listener->said, "%s:%s ", listener->name, notify_phase_name(phase));
    if (listener->refuses)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "not now");
    return !listener->refuses;
}

static void notifiers_are_told_in_order_and_may_veto(void **state)
{
    g_autoptr(NotifierList) list = notifier_list_new();
    g_autoptr(GString) said = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    Listener first = { said, "a", FALSE };
    Listener second = { said, "b", TRUE };
    Listener third = { said, "c", FALSE };
    guint id;

    notifier_list_add(list, "first", listen_in, &first);
    id = notifier_list_add(list, "second", listen_in, &second);
    notifier_list_add(list, "third", listen_in, &third);
    assert_false(notifier_list_tell(list, NOTIFY_PROBE, &error));
    assert_string_equal(error->message, "second: not now");
    assert_string_equal(said->str, "a:probe b:probe ");
    /* The end cannot be refused: all of them hear it. */
    g_string_truncate(said, 0);
    assert_true(notifier_list_tell(list, NOTIFY_END, NULL));
    assert_true(notifier_list_tell(list, NOTIFY_BEFORE_SYNC, NULL));
    assert_string_equal(said->str, "a:end b:end c:end a:before-sync b:before-sync c:before-sync ");
    notifier_list_remove(list, id);
    g_string_truncate(said, 0);
    assert_true(notifier_list_tell(list, NOTIFY_LISTEN, NULL));
    assert_string_equal(said->str, "a:listen c:listen ");
}

/* ---- zero pages ---- */

static void a_page_is_zero_only_if_every_byte_is(void **state)
{
    g_autofree guint8 *page = g_malloc0(PAGE);

    assert_true(zero_page_check(page, PAGE));
    for (gsize i = 0; i < PAGE; i++) {
        page[i] = 1;
        assert_false(zero_page_check(page, PAGE));
        page[i] = 0;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_dirty_at_first),
        cmocka_unit_test(the_count_stays_exact),
        cmocka_unit_test(the_log_is_cleared_chunk_by_chunk_before_a_page_is_read),
        cmocka_unit_test(a_chunk_is_never_less_than_a_host_page_nor_more_than_the_block),
        cmocka_unit_test(a_sync_counts_what_was_not_dirty_before),
        cmocka_unit_test(what_clearing_finds_is_dirty),
        cmocka_unit_test(an_ignored_block_is_never_dirty),
        cmocka_unit_test(a_log_that_fails_fails_the_sync),
        cmocka_unit_test(what_was_not_received_is_dirty),
        cmocka_unit_test(a_host_page_that_is_partly_dirty_becomes_wholly_dirty),
        cmocka_unit_test(what_is_dirty_is_discarded_in_ranges),
        cmocka_unit_test(requests_are_served_page_by_page_in_their_order),
        cmocka_unit_test(a_request_grows_to_whole_host_pages),
        cmocka_unit_test(requests_that_cannot_be_are_refused),
        cmocka_unit_test(more_requests_than_the_limit_are_refused_and_emptying_makes_room),
        cmocka_unit_test(a_guest_that_writes_too_much_twice_in_a_row_is_slowed_down),
        cmocka_unit_test(throttling_has_defaults_and_stops_below_100),
        cmocka_unit_test(no_more_than_the_rate_is_sent_in_a_period),
        cmocka_unit_test(what_was_sent_too_much_is_taken_off_later),
        cmocka_unit_test(no_rate_is_no_limit),
        cmocka_unit_test(the_threshold_is_what_the_link_does_in_the_limit),
        cmocka_unit_test(a_short_round_is_a_measure_if_there_is_none),
        cmocka_unit_test(ranges_become_due_in_batches),
        cmocka_unit_test(only_whole_host_pages_become_due),
        cmocka_unit_test(what_post_copy_cannot_take_is_refused_by_name),
        cmocka_unit_test(notifiers_are_told_in_order_and_may_veto),
        cmocka_unit_test(a_page_is_zero_only_if_every_byte_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
