/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The workload that shows whether memory has moved: that it notices what is wrong, above all. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "tests/workload/guest.h"

static const Contents some = { 7, CONTENTS_RANDOM };

/* ---- contents ---- */

static void stepping_a_page_makes_what_its_version_says(void **state)
{
    static const Contents kinds[] = { { 7, CONTENTS_RANDOM }, { 7, CONTENTS_TEXT } };
    guint zeros = 0;

    (void)state;
    for (gsize kind = 0; kind < G_N_ELEMENTS(kinds); kind++) {
        for (guint64 page = 0; page < 8; page++) {
            guint64 at[CONTENTS_PAGE / 8] = { 0 };
            guint8 *bytes = (guint8 *)at;

            for (guint32 version = 0; version < 300; version++) {
                assert_true(contents_check(&kinds[kind], page, version, bytes));
                assert_true(contents_check_tag(&kinds[kind], page, bytes));
                zeros += at[0] == 0;
                contents_step(&kinds[kind], page, version, bytes);
            }
        }
    }
    assert_true(zeros > 100); /* pages become zeros again */
}

static void every_byte_of_a_page_counts(void **state)
{
    guint64 words[CONTENTS_PAGE / 8];
    guint8 *at = (guint8 *)words;
    guint64 hash;

    (void)state;
    contents_make(&some, 3, 5, at);
    hash = contents_hash(at);
    assert_false(contents_check(&some, 4, 5, at));
    assert_false(contents_check(&some, 3, 6, at));
    assert_false(contents_check_tag(&some, 4, at));
    for (gsize i = 0; i < CONTENTS_PAGE; i++) {
        at[i] ^= 1;
        assert_false(contents_check(&some, 3, 5, at));
        assert_true(contents_hash(at) != hash);
        at[i] ^= 1;
    }
    assert_true(contents_check(&some, 3, 5, at));
}

static void a_wrong_page_is_told_by_name(void **state)
{
    guint64 words[CONTENTS_PAGE / 8] = { 0 };
    guint8 *at = (guint8 *)words;
    g_autofree char *zeros = contents_describe(&some, 100, at);
    g_autofree char *other = NULL;
    g_autofree char *torn = NULL;
    g_autofree char *foreign = NULL;

    (void)state;
    contents_make(&some, 12, 7, at);
    other = contents_describe(&some, 100, at);
    at[2000] ^= 1;
    torn = contents_describe(&some, 100, at);
    memset(at, 0xff, CONTENTS_PAGE);
    foreign = contents_describe(&some, 100, at);
    assert_string_equal(zeros, "zeros");
    assert_string_equal(other, "version 7 of page 12");
    assert_string_equal(torn, "version 7 of page 12, torn");
    assert_string_equal(foreign, "not of this memory");
}

/* ---- threads ---- */

typedef struct {
    Memory *memory;
    Guest *guest;
} World;

static void world_init(World *world, const char *spec, Pattern pattern, guint threads)
{
    const GuestConfig config = { pattern, threads, 0, 11, 60 };
    g_autoptr(GError) error = NULL;

    world->memory = memory_new();
    if (!memory_add(world->memory, spec, NULL, &error))
        fail_msg("%s", error->message);
    world->guest = guest_new(&config, world->memory);
}

static void world_clear(World *world)
{
    guest_free(world->guest);
    memory_free(world->memory);
}

static GuestProgress run_for(Guest *guest, guint64 touches)
{
    GuestProgress progress;

    guest_run(guest);
    do {
        g_usleep(1000);
        guest_get_progress(guest, &progress);
    } while (progress.touches < touches);
    guest_pause(guest);
    guest_get_progress(guest, &progress);
    return progress;
}

static void assert_whole(Guest *guest, guint64 pages)
{
    GuestVerdict verdict;

    guest_verify(guest, &verdict);
    if (verdict.bad > 0)
        fail_msg("%" G_GUINT64_FORMAT " bad pages: %s", verdict.bad, verdict.first_bad);
    assert_int_equal(verdict.pages, pages);
}

static void every_pattern_leaves_memory_that_verifies(void **state)
{
    (void)state;
    for (guint pattern = 0; pattern < PATTERN_MAX; pattern++) {
        World world;
        GuestProgress progress;

        world_init(&world, pattern % 2 == 0 ? "ram:anon:4" : "ram:shmem:4", (Pattern)pattern, 8);
        guest_fill(world.guest);
        assert_whole(world.guest, 1024);
        progress = run_for(world.guest, 20000);
        assert_true(progress.writes > 100 && progress.bad == 0);
        assert_whole(world.guest, 1024);
        world_clear(&world);
    }
}

/* The destination: its own memory, what it knows is what it was told. */
static void a_state_that_was_loaded_finds_each_wrong_page(void **state)
{
    World source, destination;
    g_autoptr(GBytes) saved = NULL;
    GuestVerdict verdict;

    (void)state;
    world_init(&source, "ram:anon:2", PATTERN_RANDOM, 4);
    world_init(&destination, "ram:shmem:2", PATTERN_RANDOM, 4);
    guest_fill(source.guest);
    run_for(source.guest, 3000);
    saved = guest_save(source.guest, TRUE);
    assert_true(guest_load(destination.guest, g_bytes_get_data(saved, NULL),
                           g_bytes_get_size(saved), NULL));
    memcpy(memory_page(destination.memory, 0), memory_page(source.memory, 0), 2 << 20);
    guest_verify(destination.guest, &verdict);
    assert_int_equal(verdict.bad, 0);
    assert_int_equal(verdict.unwritten, 512);

    memory_page(destination.memory, 100)[4095] ^= 0x10;
    memory_page(destination.memory, 511)[0] ^= 0x10;
    guest_verify(destination.guest, &verdict);
    assert_int_equal(verdict.bad, 2);
    assert_true(strstr(verdict.first_bad, "page 100 ") != NULL);
    g_free(verdict.first_bad);
    world_clear(&source);
    world_clear(&destination);
}

static void threads_notice_a_page_that_is_wrong(void **state)
{
    World world;

    (void)state;
    world_init(&world, "ram:anon:1", PATTERN_SEQUENTIAL, 2);
    guest_fill(world.guest);
    for (guint64 page = 0; page < 256; page++)
        memory_page(world.memory, page)[0] ^= 2;
    assert_true(run_for(world.guest, 500).bad > 100);
    world_clear(&world);
}

static void a_state_of_another_workload_is_refused(void **state)
{
    World one, other;
    g_autoptr(GBytes) saved = NULL;
    g_autoptr(GError) error = NULL;
    gsize len;
    const void *bytes;

    (void)state;
    world_init(&one, "ram:anon:1", PATTERN_RANDOM, 1);
    world_init(&other, "ram:anon:2", PATTERN_RANDOM, 1);
    saved = guest_save(one.guest, FALSE);
    bytes = g_bytes_get_data(saved, &len);
    assert_false(guest_load(other.guest, bytes, len, &error));
    assert_non_null(error);
    assert_false(guest_load(one.guest, bytes, len - 1, NULL));
    assert_false(guest_load(one.guest, bytes, 3, NULL));
    assert_true(guest_load(one.guest, bytes, len, NULL));
    world_clear(&one);
    world_clear(&other);
}

/* What is written is in the log, and a page that is not in it was not written. */
static void the_log_has_every_page_that_was_written(void **state)
{
    World world;
    guint64 bitmap[256 / 64] = { 0 };
    g_autofree guint8 *before = g_malloc(1 << 20);
    guint logged = 0;

    (void)state;
    world_init(&world, "ram:anon:1", PATTERN_RANDOM, 2);
    guest_fill(world.guest);
    guest_log_start(world.guest);
    memcpy(before, memory_page(world.memory, 0), 1 << 20);
    run_for(world.guest, 300);
    guest_log_sync(world.guest, 0, bitmap, 256);
    for (guint64 page = 0; page < 256; page++) {
        gboolean changed = memcmp(before + page * CONTENTS_PAGE, memory_page(world.memory, page),
                                  CONTENTS_PAGE) != 0;
        gboolean is_logged = (bitmap[page / 64] >> page % 64 & 1) != 0;

        logged += is_logged;
        assert_true(is_logged || !changed);
    }
    assert_true(logged > 0);
    memset(bitmap, 0, sizeof(bitmap));
    guest_log_sync(world.guest, 0, bitmap, 256);
    for (gsize i = 0; i < G_N_ELEMENTS(bitmap); i++)
        assert_int_equal(bitmap[i], 0);
    world_clear(&world);
}

static void specs_that_are_no_region_are_refused(void **state)
{
    static const char *const specs[] = { "", "ram", "ram:anon", "ram:paper:4", "ram:anon:0",
                                         "ram:anon:x", "ram:anon:-1" };

    (void)state;
    for (gsize i = 0; i < G_N_ELEMENTS(specs); i++) {
        g_autoptr(Memory) memory = memory_new();
        g_autoptr(GError) error = NULL;

        assert_false(memory_add(memory, specs[i], NULL, &error));
        assert_non_null(error);
    }
}

/* ---- stalls ---- */

static void stalls_are_told_to_an_eighth(void **state)
{
    Stalls stalls = { 0 };

    (void)state;
    stalls_add(&stalls, STALL_MIN_NS - 1);
    assert_int_equal(stalls.count, 0);
    assert_int_equal(stalls_percentile(&stalls, 0.5), 0);
    for (guint64 us = 100; us < 1100; us++)
        stalls_add(&stalls, us * 1000);
    assert_int_equal(stalls.count, 1000);
    assert_in_range(stalls_percentile(&stalls, 0.5), 600000, 600000 * 9 / 8);
    assert_in_range(stalls_percentile(&stalls, 0.99), 1090000 * 7 / 8, 1099000);
    assert_int_equal(stalls_percentile(&stalls, 1.0), 1099000);
    assert_int_equal(stalls.max_ns, 1099000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stepping_a_page_makes_what_its_version_says),
        cmocka_unit_test(every_byte_of_a_page_counts),
        cmocka_unit_test(a_wrong_page_is_told_by_name),
        cmocka_unit_test(every_pattern_leaves_memory_that_verifies),
        cmocka_unit_test(a_state_that_was_loaded_finds_each_wrong_page),
        cmocka_unit_test(threads_notice_a_page_that_is_wrong),
        cmocka_unit_test(a_state_of_another_workload_is_refused),
        cmocka_unit_test(the_log_has_every_page_that_was_written),
        cmocka_unit_test(specs_that_are_no_region_are_refused),
        cmocka_unit_test(stalls_are_told_to_an_eighth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
