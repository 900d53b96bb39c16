/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pure parts of memory behind a userfaultfd: map, requests, waiting, the verdict on a host. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/userfaultfd.h>
#include <string.h>

#include "ram/blocks.h"
#include "ram/uffd/block_time.h"
#include "ram/uffd/requested.h"
#include "ram/uffd/support.h"

#define PAGE 4096

/* ---- map ---- */

static UffdMap *two_blocks(void)
{
    static const UffdRange ranges[] = {
        { 1, 0, 0x200000, 0x200000, 0x200000, UFFD_HUGETLB },
        { 0, 0, 0x10000, 4 * PAGE, PAGE, UFFD_ANON },
        { 0, 4 * PAGE, 0x8000, 2 * PAGE, PAGE, UFFD_ANON },
    };
    UffdMap *map = uffd_map_new();

    for (gsize i = 0; i < G_N_ELEMENTS(ranges); i++)
        assert_true(uffd_map_add(map, &ranges[i], NULL));
    return map;
}

static void an_address_is_a_page_of_a_block(void **state)
{
    static const struct {
        guint64 address;
        gboolean found;
        guint block;
        guint64 offset;
    } rows[] = {
        { 0x7fff, FALSE, 0, 0 },           { 0x8000, TRUE, 0, 4 * PAGE },
        { 0x9fff, TRUE, 0, 5 * PAGE },     { 0xa000, FALSE, 0, 0 },
        { 0x10001, TRUE, 0, 0 },           { 0x13fff, TRUE, 0, 3 * PAGE },
        { 0x14000, FALSE, 0, 0 },          { 0x3fffff, TRUE, 1, 0 },
        { 0x400000, FALSE, 0, 0 },         { G_MAXUINT64, FALSE, 0, 0 },
    };
    g_autoptr(UffdMap) map = two_blocks();

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        guint block = 0;
        guint64 offset = 0;

        assert_int_equal(uffd_map_page_of(map, rows[i].address, &block, &offset), rows[i].found);
        assert_int_equal(block, rows[i].block);
        assert_int_equal(offset, rows[i].offset);
    }
}

static void a_page_of_a_block_is_an_address(void **state)
{
    g_autoptr(UffdMap) map = two_blocks();

    assert_int_equal(uffd_map_at_offset(map, 0, 3 * PAGE)->address, 0x10000);
    assert_int_equal(uffd_map_at_offset(map, 0, 4 * PAGE)->address, 0x8000);
    assert_null(uffd_map_at_offset(map, 0, 6 * PAGE));
    assert_int_equal(uffd_map_at_offset(map, 1, 0)->address, 0x200000);
    assert_null(uffd_map_at_offset(map, 2, 0));
    assert_int_equal(uffd_map_get(map, 0)->address, 0x8000);
    assert_null(uffd_map_get(map, 3));
    uffd_map_remove_block(map, 0);
    assert_int_equal(uffd_map_count(map), 1);
    assert_null(uffd_map_at_address(map, 0x8000));
}

static void pieces_that_cannot_be_are_refused(void **state)
{
    static const UffdRange rows[] = {
        { 2, 0, 0x20000, 0, PAGE, UFFD_ANON },             /* empty */
        { 2, 0, 0x20000, PAGE, 0, UFFD_ANON },             /* no page size */
        { 2, 0, 0x20000, 3 * 1024, 3 * 1024, UFFD_ANON },  /* no power of two */
        { 2, 0, 0x20800, PAGE, PAGE, UFFD_ANON },          /* unaligned */
        { 2, 0x800, 0x20000, PAGE, PAGE, UFFD_ANON },
        { 2, 0, 0x20000, PAGE + 8, PAGE, UFFD_ANON },
        { 2, 0, 0x9000, PAGE, PAGE, UFFD_ANON },           /* overlap in addresses */
        { 2, 0, 0x7000, 0x20000, PAGE, UFFD_ANON },
        { 0, 5 * PAGE, 0x20000, 2 * PAGE, PAGE, UFFD_ANON }, /* and in the block */
        { 2, 0, G_MAXUINT64 - PAGE + 1, 2 * PAGE, PAGE, UFFD_ANON },
        { 2, 0, 0x20000, PAGE, PAGE, UFFD_BACKING_MAX },
    };
    g_autoptr(UffdMap) map = two_blocks();

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        assert_false(uffd_map_add(map, &rows[i], &error));
        assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_INVALID));
    }
    assert_int_equal(uffd_map_count(map), 3);
}

/* ---- requests ---- */

static void add_up(guint block, guint64 offset, gint64 since_us, gpointer data)
{
    GString *text = data;

    g_string_append_printf(text, "%u:%u@%d ", block, (guint)(offset / PAGE), (gint)since_us);
}

static void a_page_is_asked_for_once_until_it_is_there(void **state)
{
    Requested *requested = requested_new();
    gint64 since;

    assert_true(requested_add(requested, 1, PAGE, 100));
    assert_false(requested_add(requested, 1, PAGE, 200));
    assert_true(requested_add(requested, 2, PAGE, 200));
    assert_int_equal(requested_count(requested), 2);
    assert_true(requested_remove(requested, 1, PAGE, &since));
    assert_int_equal(since, 100);
    assert_false(requested_remove(requested, 1, PAGE, &since));
    assert_true(requested_add(requested, 1, PAGE, 300));
    requested_free(requested);
}

static void a_range_takes_its_requests_and_no_others(void **state)
{
    g_autoptr(GString) gone = g_string_new(NULL), left = g_string_new(NULL);
    Requested *requested = requested_new();

    for (guint i = 0; i < 40; i += 2)
        requested_add(requested, i % 4 ? 1 : 0, ((i * 7) % 40) * PAGE, i);
    assert_int_equal(requested_next(requested, 0, 0, 100 * PAGE), 0);
    assert_int_equal(requested_next(requested, 0, 5 * PAGE, 100 * PAGE), 8 * PAGE);
    assert_int_equal(requested_next(requested, 0, 8 * PAGE, 9 * PAGE), 8 * PAGE);
    assert_int_equal(requested_next(requested, 0, PAGE, 3 * PAGE), 3 * PAGE);
    assert_int_equal(requested_next(requested, 7, PAGE, 5 * PAGE), 5 * PAGE);
    assert_int_equal(requested_remove_range(requested, 0, 8 * PAGE, 8 * PAGE, add_up, gone), 2);
    assert_string_equal(gone->str, "0:8@24 0:12@36 ");
    assert_int_equal(requested_remove_range(requested, 0, 8 * PAGE, 8 * PAGE, add_up, gone), 0);
    assert_int_equal(requested_remove_range(requested, 7, 0, G_MAXUINT64, NULL, NULL), 0);
    assert_int_equal(requested_remove_range(requested, 1, 0, G_MAXUINT64, NULL, NULL), 10);
    requested_foreach(requested, add_up, left);
    assert_string_equal(left->str, "0:0@0 0:4@12 0:16@8 0:20@20 0:24@32 0:28@4 0:32@16 0:36@28 ");
    requested_free(requested);
}

/* ---- waiting ---- */

static BlockTimeStats stats_at(const BlockTime *times, gint64 now_us)
{
    BlockTimeStats stats;

    block_time_get_stats(times, now_us, &stats);
    return stats;
}

static guint64 waited_of(const BlockTime *times, guint32 id, gint64 now_us)
{
    BlockTimeThread threads[8];
    guint n = block_time_longest(times, now_us, threads, G_N_ELEMENTS(threads));

    for (guint i = 0; i < n; i++)
        if (threads[i].id == id)
            return threads[i].waited_us;
    return 0;
}

static void the_time_of_each_thread_and_of_all_is_counted(void **state)
{
    static const guint32 vcpus[] = { 11, 12 };
    g_autoptr(BlockTime) times = block_time_new();
    BlockTimeThread longest[2];

    block_time_set_vcpus(times, vcpus, 2, 50);
    block_time_begin(times, 11, 0, 0, 100);
    block_time_begin(times, 11, 0, 0, 110); /* the same again */
    block_time_begin(times, 99, 0, 0, 120); /* no vCPU */
    assert_int_equal(stats_at(times, 130).all_us, 0);
    block_time_begin(times, 12, 0, PAGE, 150);
    assert_int_equal(stats_at(times, 160).all_us, 10);
    assert_int_equal(block_time_end(times, 0, 0, 200), 2);
    assert_int_equal(stats_at(times, 250).all_us, 50);
    assert_int_equal(block_time_end(times, 0, PAGE, 300), 1);
    assert_int_equal(block_time_end(times, 0, PAGE, 300), 0);

    assert_int_equal(waited_of(times, 11, 999), 100);
    assert_int_equal(waited_of(times, 12, 999), 150);
    assert_int_equal(waited_of(times, 99, 999), 80);
    assert_int_equal(waited_of(times, 1, 999), 0);
    assert_int_equal(stats_at(times, 999).any_us, 200);
    assert_int_equal(stats_at(times, 999).total_us, 330);
    assert_int_equal(stats_at(times, 999).latency.count, 3);
    assert_int_equal(block_time_longest(times, 999, longest, 2), 2);
    assert_int_equal(longest[0].id, 12);
    assert_int_equal(longest[0].waited_us, 150);
    assert_int_equal(longest[1].id, 11);
}

static void without_vcpus_all_are_those_that_have_waited(void **state)
{
    g_autoptr(BlockTime) times = block_time_new();

    block_time_begin(times, 1, 0, 0, 0);
    block_time_begin(times, 2, 0, PAGE, 10); /* so far "all" was one */
    assert_int_equal(block_time_end_range(times, 0, 0, 2 * PAGE, 30), 2);
    assert_int_equal(stats_at(times, 99).all_us, 30);
    block_time_begin(times, 1, 0, 0, 40);
    block_time_begin(times, 1, 0, PAGE, 50); /* woken, and on to the next */
    assert_int_equal(stats_at(times, 60).waiting, 1);
    assert_int_equal(stats_at(times, 60).all_us, 30);
    assert_int_equal(waited_of(times, 1, 60), 50);
}

/* They may be named while some of them wait. */
static void which_threads_are_the_guests_may_be_told_later(void **state)
{
    static const guint32 vcpus[] = { 1, 2 };
    g_autoptr(BlockTime) times = block_time_new();

    block_time_begin(times, 1, 0, 0, 0);
    block_time_begin(times, 9, 0, PAGE, 0);
    block_time_set_vcpus(times, vcpus, 2, 10); /* so far all have waited: two */
    assert_int_equal(stats_at(times, 30).all_us, 10);
    block_time_begin(times, 2, 0, 2 * PAGE, 40);
    assert_int_equal(stats_at(times, 45).all_us, 15);
    block_time_end(times, 0, PAGE, 50);
    assert_int_equal(stats_at(times, 60).all_us, 30);
    block_time_set_vcpus(times, vcpus, 1, 60);
    block_time_end(times, 0, 2 * PAGE, 70);
    block_time_end(times, 0, 0, 80);
    assert_int_equal(stats_at(times, 99).all_us, 50);
    block_time_set_vcpus(times, NULL, 0, 100);
    block_time_begin(times, 1, 0, 0, 100);
    assert_int_equal(stats_at(times, 110).all_us, 50);
}

static void threads_without_end_are_one(void **state)
{
    g_autoptr(BlockTime) times = block_time_new();

    for (guint32 i = 1; i < 3 * BLOCK_TIME_THREADS_MAX; i++) {
        block_time_begin(times, i, 0, 0, i);
        block_time_end(times, 0, 0, i + 1);
    }
    assert_int_equal(stats_at(times, 0).threads, BLOCK_TIME_THREADS_MAX + 1);
    assert_int_equal(stats_at(times, 0).total_us, 3 * BLOCK_TIME_THREADS_MAX - 1);
}

/* ---- the verdict ---- */

#define GOOD                                                                                   \
    {                                                                                          \
        .features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MISSING_HUGETLBFS,               \
        .thread_ids = TRUE,                                                                    \
        .works = { TRUE, TRUE, TRUE },                                                         \
    }

static const Finding *last(const GPtrArray *findings)
{
    assert_true(findings->len > 0);
    return findings->pdata[findings->len - 1];
}

static void a_host_that_can_is_told_so(void **state)
{
    g_autoptr(GPtrArray) findings = findings_new();
    UffdSupport good = GOOD;
    UffdRegionFacts region = { "ram", 4 * PAGE, PAGE, UFFD_SHMEM, FALSE, FALSE };

    assert_true(uffd_support_judge(&good, &region, 1, findings));
    assert_int_equal(findings->len, 2);
    assert_int_equal(findings_verdict(findings), FINDING_PASS);
}

static void each_reason_against_a_host_has_a_remedy(void **state)
{
    const struct {
        UffdSupport support;
        UffdRegionFacts region;
        const char *id;
        FindingVerdict verdict;
    } rows[] = {
        { { .features = 0 }, { "r", PAGE, PAGE, UFFD_ANON, FALSE, FALSE }, "userfaultfd",
          FINDING_FAIL },
        { { .features = 0 }, { "r", PAGE, PAGE, UFFD_SHMEM, FALSE, FALSE }, "userfaultfd",
          FINDING_FAIL },
        { { .features = 1, .thread_ids = TRUE }, { "r", PAGE, PAGE, UFFD_ANON, FALSE, FALSE },
          "userfaultfd", FINDING_FAIL },
        { { .features = 1, .thread_ids = TRUE, .works = { TRUE }, .user_mode_only = TRUE },
          { "r", PAGE, PAGE, UFFD_ANON, FALSE, FALSE }, "userfaultfd", FINDING_WARN },
        { { .features = 1, .works = { TRUE } }, { "r", PAGE, PAGE, UFFD_ANON, FALSE, FALSE },
          "userfaultfd", FINDING_WARN },
        { { .features = 1, .thread_ids = TRUE, .works = { TRUE } },
          { "r", PAGE, PAGE, UFFD_SHMEM, FALSE, FALSE }, "userfaultfd-shmem", FINDING_FAIL },
        { { .features = UFFD_FEATURE_MISSING_HUGETLBFS, .thread_ids = TRUE, .works = { TRUE } },
          { "r", PAGE, PAGE, UFFD_HUGETLB, FALSE, FALSE }, "userfaultfd-hugetlb", FINDING_FAIL },
        { GOOD, { "r", PAGE + 1, PAGE, UFFD_ANON, FALSE, FALSE }, "userfaultfd-region",
          FINDING_FAIL },
        { GOOD, { "r", PAGE, 0, UFFD_ANON, FALSE, FALSE }, "userfaultfd-region", FINDING_FAIL },
        { GOOD, { "r", PAGE, PAGE, UFFD_SHMEM, TRUE, FALSE }, "userfaultfd-region", FINDING_FAIL },
        { GOOD, { "r", PAGE, PAGE, UFFD_ANON, FALSE, TRUE }, "userfaultfd-region", FINDING_WARN },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GPtrArray) findings = findings_new();
        gboolean good = uffd_support_judge(&rows[i].support, &rows[i].region, 1, findings);

        assert_int_equal(good, rows[i].verdict != FINDING_FAIL);
        assert_int_equal(findings_verdict(findings), rows[i].verdict);
        assert_string_equal(last(findings)->id, rows[i].id);
        assert_non_null(last(findings)->detail);
        assert_non_null(last(findings)->remedy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_is_a_page_of_a_block),
        cmocka_unit_test(a_page_of_a_block_is_an_address),
        cmocka_unit_test(pieces_that_cannot_be_are_refused),
        cmocka_unit_test(a_page_is_asked_for_once_until_it_is_there),
        cmocka_unit_test(a_range_takes_its_requests_and_no_others),
        cmocka_unit_test(the_time_of_each_thread_and_of_all_is_counted),
        cmocka_unit_test(without_vcpus_all_are_those_that_have_waited),
        cmocka_unit_test(which_threads_are_the_guests_may_be_told_later),
        cmocka_unit_test(threads_without_end_are_one),
        cmocka_unit_test(a_host_that_can_is_told_so),
        cmocka_unit_test(each_reason_against_a_host_has_a_remedy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
