/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The mapped source's machine, on real memory, against a model of a destination. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/mman.h>

#include "ram/mapped/outgoing_priv.h"
#include "tests/support/mapped-world.h"

#define PAGE WORLD_PAGE
#define PAGES 512
#define HUGE (2 * 1024 * 1024)

/* Every byte of a page tells which one it is, a quarter of them are zeros. */
static void fill(World *w)
{
    for (guint64 i = 0; i < w->setup.length / PAGE; i++)
        memset(w->memory->at + i * PAGE, i % 4 == 3 ? 0 : (int)(i % 251) + 1, PAGE);
}

static WorldSetup plain_setup(void)
{
    return (WorldSetup){
        .kind = MAPPED_MEMFD,
        .length = PAGES * PAGE,
        .log = MAPPED_WRITE_LOG,
        .params = { .downtime_limit_ms = 300, .postcopy = TRUE },
    };
}

static World *filled_world(const WorldSetup *setup)
{
    World *w = world_new(setup);

    assert_non_null(w);
    fill(w);
    return w;
}

/* As a guest writes with whichever log there is. */
static void guest_writes_some(World *w, guint64 page, guint8 byte, gsize n)
{
    memset(w->memory->at + page * PAGE + PAGE - n, byte, n);
    if (w->memory->dirty)
        __atomic_fetch_or(&w->memory->dirty[page / 64], G_GUINT64_CONSTANT(1) << (page % 64),
                          __ATOMIC_RELAXED);
}

static void guest_writes(World *w, guint64 page, guint8 byte)
{
    guest_writes_some(w, page, byte, PAGE);
}

static void start_postcopy(World *w)
{
    world_say(w, MEMORY_EV_START_POSTCOPY);
}

/* ---- pre-copy ---- */

static void all_memory_is_moved_before_the_guest_runs_there(void **state)
{
    const MappedKind kinds[] = { MAPPED_PRIVATE, MAPPED_MEMFD };
    const MappedLogKind logs[] = { MAPPED_WRITE_LOG, MAPPED_CLIENT_LOG };

    for (guint i = 0; i < 4; i++) {
        WorldSetup setup = plain_setup();
        g_autoptr(World) w = NULL;

        setup.kind = kinds[i / 2];
        setup.log = logs[i % 2];
        w = filled_world(&setup);
        world_expect_moved(w);
        assert_string_equal(w->seen->str, "blocks advise pages data running ram-end ");
        assert_string_equal(w->client.states->str, "setup active device completed ");
        assert_int_equal(w->pages, PAGES);
        assert_int_equal(w->zero_pages, PAGES / 4);
        assert_int_equal(w->device->len, strlen("the devices"));
    }
}

typedef struct {
    World *world;
    GRand *rand;
    guint each_turn;
    guint64 below; /* pages it writes to */
} Guest;

static void write_at_random(gpointer data)
{
    Guest *guest = data;

    for (guint i = 0; i < guest->each_turn; i++) {
        guint64 page = (guint64)g_rand_int_range(guest->rand, 0, (gint32)guest->below);
        guint8 byte = (guint8)g_rand_int(guest->rand);

        guest_writes_some(guest->world, page, byte, g_rand_boolean(guest->rand) ? PAGE : 3);
    }
}

static void what_the_guest_writes_meanwhile_is_moved_as_well(void **state)
{
    for (guint i = 0; i < 8; i++) {
        WorldSetup setup = plain_setup();
        g_autoptr(World) w = NULL;
        Guest guest = { NULL, g_rand_new_with_seed(i), 3, PAGES };
        RamStats stats;

        setup.kind = i % 2 ? MAPPED_PRIVATE : MAPPED_MEMFD;
        setup.log = i / 2 % 2 ? MAPPED_CLIENT_LOG : MAPPED_WRITE_LOG;
        setup.n_bulk = i / 4 ? 2 : 0;
        setup.window = 128 * 1024;
        w = filled_world(&setup);
        guest.world = w;
        w->guest_runs = write_at_random;
        w->guest_data = &guest;
        world_expect_moved(w);
        mapped_outgoing_get_stats(w->machine, w->now_us, &stats);
        assert_true(stats.dirty_syncs >= 2);
        assert_true(w->pages > PAGES);
        assert_true(i / 4 == 0 || w->bulk_pages > 0);
        g_rand_free(guest.rand);
    }
}

static void huge_pages_are_moved(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = NULL;

    setup.kind = MAPPED_HUGE;
    setup.length = 3 * HUGE;
    w = world_new(&setup);
    if (!w)
        skip();
    fill(w);
    world_run_until(w, MAPPED_OUT_ACTIVE);
    world_run(w, 2);
    guest_writes(w, 700, 0x77);
    world_expect_moved(w);
}

/* A log of the client's own knows single target pages of a huge one. */
static void of_a_huge_page_only_what_was_written_goes_before_the_switch(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = NULL;

    setup.kind = MAPPED_HUGE;
    setup.length = 2 * HUGE;
    setup.log = MAPPED_CLIENT_LOG;
    setup.params.downtime_limit_ms = 0;
    w = world_new(&setup);
    if (!w)
        skip();
    fill(w);
    world_run_until(w, MAPPED_OUT_ACTIVE);
    world_turn(w);
    guest_writes(w, 700, 0x77);
    guest_writes(w, 702, 0x78);
    world_expect_moved(w);
    assert_int_equal(w->pages, 2 * 512 + 2);
}

static void a_hole_is_sent_as_zeros_and_stays_a_hole(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = world_new(&setup);

    memset(w->memory->at + 300 * PAGE, 1, PAGE);
    world_say(w, MEMORY_EV_START_POSTCOPY);
    world_run_until(w, MAPPED_OUT_COMPLETED);
    assert_int_equal(w->zero_pages, PAGES - 1);
    assert_int_equal(guest_memory_hole(w->guest, 0, 0), 300 * PAGE);
}

/* A tenth of it was written, and some of that with zeros; a part was read. What was not written is not
 * read, and goes in runs. */
static World *zero_heavy_world(WorldSetup *setup)
{
    World *w;

    setup->kind = MAPPED_PRIVATE;
    w = world_new(setup);
    madvise(w->memory->at, setup->length, MADV_NOHUGEPAGE);
    for (guint64 i = 0; i < PAGES; i++) {
        if (i % 7 == 3)
            (void)((volatile guint8 *)w->memory->at)[i * PAGE];
        if (i % 10 == 0)
            memset(w->memory->at + i * PAGE, i % 20 ? 0 : (int)(i % 251) + 1, PAGE);
    }
    return w;
}

static void pages_that_were_never_written_go_in_runs(void **state)
{
    for (guint i = 0; i < 4; i++) {
        WorldSetup setup = plain_setup();
        g_autoptr(World) w = NULL;

        setup.n_bulk = i / 2 ? 2 : 0;
        w = zero_heavy_world(&setup);
        if (i % 2)
            start_postcopy(w);
        world_expect_moved(w);
        assert_int_equal(w->pages, PAGES);
        assert_int_equal(w->zero_pages, PAGES - (PAGES + 19) / 20);
    }
}

/* What was looked at before is written meanwhile, and asked for out of turn. */
static void what_is_written_to_untouched_memory_meanwhile_is_moved_as_well(void **state)
{
    for (guint i = 0; i < 8; i++) {
        WorldSetup setup = plain_setup();
        g_autoptr(World) w = NULL;
        Guest guest = { NULL, g_rand_new_with_seed(i), 3, PAGES };

        setup.n_bulk = i % 2 ? 2 : 0;
        setup.window = 128 * 1024;
        setup.params.downtime_limit_ms = 0;
        w = zero_heavy_world(&setup);
        guest.world = w;
        w->guest_runs = write_at_random;
        w->guest_data = &guest;
        world_run_until(w, MAPPED_OUT_ACTIVE);
        world_run(w, 10 * i);
        start_postcopy(w);
        world_run_until(w, MAPPED_OUT_POSTCOPY_ACTIVE);
        w->guest_runs = NULL;
        world_ask(w, (PAGES / 2 + i) * PAGE, PAGE);
        world_ask(w, 11 * PAGE, 3 * PAGE);
        world_expect_moved(w);
        g_rand_free(guest.rand);
    }
}

static void differences_go_out_where_both_can_and_are_wanted(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = NULL;
    Guest guest = { NULL, g_rand_new_with_seed(5), 2, 16 };
    RamStats stats;

    setup.features = SESSION_FEATURE_XBZRLE;
    setup.params.xbzrle_cache = 64 * PAGE;
    setup.params.downtime_limit_ms = 0;
    w = filled_world(&setup);
    guest.world = w;
    w->guest_runs = write_at_random;
    w->guest_data = &guest;
    world_run_until(w, MAPPED_OUT_ACTIVE);
    for (guint i = 0; i < 100; i++)
        world_turn(w);
    /* Single bytes: differences are short. */
    w->guest_runs = NULL;
    for (guint i = 0; i < 20; i++) {
        w->memory->at[5 * PAGE + i]++;
        world_turn(w);
    }
    mapped_outgoing_get_stats(w->machine, w->now_us, &stats);
    world_expect_moved(w);
    g_rand_free(guest.rand);
    assert_true(w->differences > 0);
}

/* A cache of 0 while it runs: from there on pages are whole again. */
static void differences_end_when_they_are_not_wanted_any_more(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = NULL;
    Guest guest = { NULL, g_rand_new_with_seed(5), 2, 16 };
    MemoryEvent event = { .type = MEMORY_EV_PARAMS, .params = &setup.params, .fd = -1 };
    guint64 differences;

    setup.features = SESSION_FEATURE_XBZRLE;
    setup.params.xbzrle_cache = 512 * PAGE;
    setup.params.downtime_limit_ms = 0;
    w = filled_world(&setup);
    guest.world = w;
    w->guest_runs = write_at_random;
    w->guest_data = &guest;
    world_run_until(w, MAPPED_OUT_ACTIVE);
    for (guint i = 0; i < 100; i++)
        world_turn(w);
    assert_true(w->differences > 0);
    setup.params.xbzrle_cache = 0;
    mapped_outgoing_on_client(w->machine, &event, w->now_us);
    for (guint i = 0; i < 20; i++)
        world_turn(w); /* what was handed out before */
    differences = w->differences;
    for (guint i = 0; i < 100; i++)
        world_turn(w);
    assert_int_equal(w->differences, differences);
    w->guest_runs = NULL;
    world_expect_moved(w);
    g_rand_free(guest.rand);
}

/* ---- post-copy ---- */

static void each_page_comes_once_after_the_switch(void **state)
{
    for (guint i = 0; i < 4; i++) {
        WorldSetup setup = plain_setup();
        g_autoptr(World) w = NULL;

        setup.n_bulk = i % 2 ? 2 : 0;
        setup.kind = i / 2 ? MAPPED_PRIVATE : MAPPED_MEMFD;
        w = filled_world(&setup);
        start_postcopy(w);
        world_expect_moved(w);
        assert_string_equal(w->client.states->str,
                            "setup active device postcopy-active completed ");
        assert_int_equal(w->pages, PAGES);
        assert_int_equal(w->discarded, PAGES);
        assert_true(i % 2 == 0 || w->bulk_pages > 0);
    }
}

/* Everything is sent once, and so much is written that it does not come to an end by itself. */
static World *world_in_a_later_round(WorldSetup *setup, Guest *guest)
{
    World *w;

    setup->params.downtime_limit_ms = 0;
    w = filled_world(setup);
    *guest = (Guest){ w, g_rand_new_with_seed(3), 4, 100 };
    w->guest_runs = write_at_random;
    w->guest_data = guest;
    world_run_until(w, MAPPED_OUT_ACTIVE);
    for (guint i = 0; i < 30; i++)
        world_turn(w);
    assert_int_equal(mapped_outgoing_state(w->machine), MAPPED_OUT_ACTIVE);
    assert_true(w->pages >= PAGES);
    return w;
}

static void what_was_sent_and_written_again_is_discarded_and_nothing_else(void **state)
{
    WorldSetup setup = plain_setup();
    Guest guest;
    g_autoptr(World) w = world_in_a_later_round(&setup, &guest);

    start_postcopy(w);
    world_expect_moved(w);
    g_rand_free(guest.rand);
    assert_in_range(w->discarded, 1, 100);
    assert_non_null(strstr(w->seen->str, "discard discards listen data running pages ram-end "));
}

static void a_huge_page_of_which_a_part_was_written_is_discarded_whole(void **state)
{
    WorldSetup setup = plain_setup();
    Guest guest;
    g_autoptr(World) w = NULL;

    setup.kind = MAPPED_HUGE;
    setup.length = 4 * HUGE;
    w = world_new(&setup);
    if (!w)
        skip();
    world_free(g_steal_pointer(&w));
    w = world_in_a_later_round(&setup, &guest);
    g_rand_free(guest.rand);
    w->guest_runs = NULL;
    world_turn(w);
    guest_writes(w, 512 + 7, 1);
    start_postcopy(w);
    world_expect_moved(w);
    assert_true(w->discarded == 512 || w->discarded == 1024);
}

static void world_until_postcopy(World *w)
{
    start_postcopy(w);
    world_run_until(w, MAPPED_OUT_POSTCOPY_ACTIVE);
    world_turn(w);
}

static void a_page_that_is_asked_for_goes_at_once_and_the_background_follows(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = NULL;
    RamStats stats;

    setup.window = 128 * 1024;
    w = filled_world(&setup);
    world_until_postcopy(w);
    world_ask(w, 400 * PAGE, PAGE);
    world_ask(w, 450 * PAGE, 2 * PAGE);
    world_expect_moved(w);
    assert_int_equal(w->urgent_pages, 3);
    assert_int_equal(g_array_index(w->urgent, guint64, 0), 400 * PAGE);
    assert_int_equal(g_array_index(w->urgent, guint64, 2), 451 * PAGE);
    mapped_outgoing_get_stats(w->machine, w->now_us, &stats);
    assert_int_equal(stats.requests, 3);
    assert_int_equal(stats.requests_late, 0);
}

static void a_page_that_was_sent_is_not_sent_again_when_it_is_asked_for(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = NULL;
    RamStats stats;

    setup.window = 128 * 1024;
    w = filled_world(&setup);
    world_until_postcopy(w);
    world_turn(w);
    assert_true(bitmap_get(w->present, 0));
    world_ask(w, 0, PAGE);
    world_ask(w, 500 * PAGE, PAGE);
    world_ask(w, 500 * PAGE, PAGE);
    world_expect_moved(w);
    mapped_outgoing_get_stats(w->machine, w->now_us, &stats);
    assert_true(stats.requests_late >= 1);
    assert_int_equal(w->urgent_pages, 1);
}

static void requests_that_cannot_be_end_the_session(void **state)
{
    const struct {
        guint64 start;
        guint32 length;
    } bad[] = { { PAGES * PAGE, PAGE }, { 1, PAGE }, { (PAGES - 1) * PAGE, 2 * PAGE } };

    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        WorldSetup setup = plain_setup();
        g_autoptr(World) w = NULL;

        setup.window = 128 * 1024;
        w = filled_world(&setup);
        world_until_postcopy(w);
        world_ask(w, bad[i].start, bad[i].length);
        world_run_until(w, MAPPED_OUT_POSTCOPY_PAUSED);
        assert_non_null(w->error);
        assert_int_equal(w->client.outcome, MEMORY_END_PAUSED);
        assert_null(w->client.resumed);
    }
}

static void a_request_before_the_switch_is_refused(void **state)
{
    WorldSetup setup = plain_setup();
    Guest guest;
    g_autoptr(World) w = world_in_a_later_round(&setup, &guest);

    world_ask(w, 0, PAGE);
    world_run_until(w, MAPPED_OUT_FAILED);
    g_rand_free(guest.rand);
    assert_non_null(strstr(w->error, "REQUEST is not expected in state active"));
}

/* ---- rates ---- */

static void the_background_keeps_to_the_rate_and_requests_do_not(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = NULL;
    guint64 before;
    gint64 began;
    RamStats stats;

    setup.params.max_postcopy_bandwidth = 400 * 1000;
    w = filled_world(&setup);
    world_until_postcopy(w);
    before = w->pages;
    began = w->now_us;
    for (guint i = 0; i < 1000; i++)
        world_turn(w);
    /* 400 kB/s for a second: about 97 pages; a quarter of pages are zeros, which cost nearly
     * nothing */
    assert_in_range(w->pages - before, 60, 200);
    mapped_outgoing_get_stats(w->machine, w->now_us, &stats);
    assert_in_range(stats.page_rate, 60, 200);
    assert_true(w->now_us - began >= G_USEC_PER_SEC);
    before = w->urgent_pages;
    world_ask(w, 400 * PAGE, 50 * PAGE);
    world_run(w, 3);
    assert_int_equal(w->urgent_pages - before, 50);
    assert_true(mapped_outgoing_wake_us(w->machine) < G_MAXINT64);
    world_expect_moved(w);
}

static void the_guest_stops_when_the_rest_fits_into_the_limit_and_not_before(void **state)
{
    WorldSetup setup = plain_setup();
    Guest guest = { NULL, g_rand_new_with_seed(9), 20, PAGES };
    g_autoptr(World) w = NULL;
    MemoryParams params;
    MemoryEvent event = { .type = MEMORY_EV_PARAMS, .params = &params, .fd = -1 };

    setup.params.max_bandwidth = 4 * 1000 * 1000;
    setup.params.downtime_limit_ms = 1;
    w = filled_world(&setup);
    guest.world = w;
    w->guest_runs = write_at_random;
    w->guest_data = &guest;
    for (guint i = 0; i < 2000; i++)
        world_turn(w);
    assert_int_equal(mapped_outgoing_state(w->machine), MAPPED_OUT_ACTIVE);
    params = setup.params;
    params.downtime_limit_ms = 2000;
    mapped_outgoing_on_client(w->machine, &event, w->now_us);
    world_expect_moved(w);
    g_rand_free(guest.rand);
}

static void a_guest_that_writes_too_fast_is_slowed_down_and_let_go(void **state)
{
    WorldSetup setup = plain_setup();
    Guest guest = { NULL, g_rand_new_with_seed(9), 50, PAGES };
    g_autoptr(World) w = NULL;

    setup.params.downtime_limit_ms = 0;
    setup.params.auto_converge = TRUE;
    setup.params.throttle_initial = 30;
    setup.params.throttle_increment = 40;
    setup.params.throttle_max = 90;
    setup.window = 128 * 1024;
    w = filled_world(&setup);
    guest.world = w;
    w->guest_runs = write_at_random;
    w->guest_data = &guest;
    for (guint i = 0; i < 2000 && w->client.throttle < 90; i++)
        world_turn(w);
    assert_int_equal(w->client.throttle, 90);
    world_say(w, MEMORY_EV_CANCEL);
    world_run_until(w, MAPPED_OUT_CANCELLED);
    assert_int_equal(w->client.throttle, 0);
    g_rand_free(guest.rand);
}

/* ---- hints, release ---- */

static void lift_limit(World *w)
{
    MemoryParams params = w->setup.params;
    MemoryEvent event = { .type = MEMORY_EV_PARAMS, .params = &params, .fd = -1 };

    params.max_bandwidth = 0;
    mapped_outgoing_on_client(w->machine, &event, w->now_us);
}

static void free_pages_are_not_sent(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = NULL;
    const MemoryRange ranges[] = { { 100 * PAGE, 50 * PAGE }, { 400 * PAGE, 10 * PAGE } };
    MemoryEvent event = { .type = MEMORY_EV_FREE_HINTS, .ranges = ranges, .n_ranges = 2, .fd = -1 };
    RamStats stats;

    setup.window = 128 * 1024;
    setup.params.max_bandwidth = 100 * 1000;
    w = filled_world(&setup);
    world_run_until(w, MAPPED_OUT_ACTIVE);
    mapped_memory_protect(w->memory, ranges[0].start, ranges[0].length);
    mapped_memory_protect(w->memory, ranges[1].start, ranges[1].length);
    guest_writes(w, 403, 0x44); /* in use again, before that is read */
    mapped_outgoing_on_client(w->machine, &event, w->now_us);
    guest_writes(w, 405, 0x33); /* and after it */
    lift_limit(w);
    world_run_until(w, MAPPED_OUT_COMPLETED);
    assert_null(w->wrong ? strstr(w->wrong, "RAM_END") : NULL);
    mapped_outgoing_get_stats(w->machine, w->now_us, &stats);
    assert_int_equal(stats.hinted_pages, 59);
    assert_int_equal(w->pages, PAGES - 60 + 2);
    assert_int_equal(w->copy[403 * PAGE], 0x44);
    assert_false(bitmap_get(w->present, 120));
    assert_int_equal(w->copy[405 * PAGE], 0x33);
}

static void free_pages_come_as_zeros_after_the_switch(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = NULL;
    const MemoryRange range = { 100 * PAGE, 50 * PAGE };
    MemoryEvent event = { .type = MEMORY_EV_FREE_HINTS, .ranges = &range, .n_ranges = 1, .fd = -1 };

    setup.params.max_bandwidth = 100 * 1000;
    w = filled_world(&setup);
    world_run_until(w, MAPPED_OUT_ACTIVE);
    mapped_memory_protect(w->memory, range.start, range.length);
    mapped_outgoing_on_client(w->machine, &event, w->now_us);
    world_until_postcopy(w);
    world_run_until(w, MAPPED_OUT_COMPLETED);
    assert_null(w->wrong);
    assert_int_equal(bitmap_count(w->present), PAGES);
    assert_int_equal(w->copy[120 * PAGE], 0);
    assert_memory_equal(w->copy + 160 * PAGE, w->memory->at + 160 * PAGE, 100 * PAGE);
}

static void what_is_acknowledged_is_given_back_and_not_before(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = NULL;
    g_autofree guint8 *before = NULL;
    RamStats stats;

    setup.params.release_ram = TRUE;
    setup.window = 128 * 1024;
    w = filled_world(&setup);
    before = g_malloc(setup.length);
    memcpy(before, w->memory->at, setup.length);
    start_postcopy(w);
    world_run_until(w, MAPPED_OUT_POSTCOPY_ACTIVE);
    w->holds = TRUE;
    world_run(w, 50);
    assert_memory_equal(before, w->memory->at, setup.length);
    w->holds = FALSE;
    world_run(w, 100);
    world_expect_moved(w);
    assert_memory_equal(before, w->copy, setup.length);
    mapped_outgoing_get_stats(w->machine, w->now_us, &stats);
    assert_true(stats.released_bytes >= setup.length / 2);
    assert_true(guest_memory_hole(w->guest, 0, 0) > 0);
}

static void private_memory_is_given_back_by_the_client(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = NULL;

    setup.kind = MAPPED_PRIVATE;
    setup.params.release_ram = TRUE;
    setup.window = 128 * 1024;
    w = filled_world(&setup);
    start_postcopy(w);
    world_expect_moved(w);
    assert_true(w->client.n_discards > 0);
}

/* Should PHASE running never get there, the guest goes on here, with all of its memory. */
static void nothing_is_given_back_before_the_guest_runs_there(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = NULL;
    g_autofree guint8 *before = NULL;

    setup.params.release_ram = TRUE;
    setup.window = 128 * 1024;
    w = filled_world(&setup);
    before = g_malloc(setup.length);
    memcpy(before, w->memory->at, setup.length);
    start_postcopy(w);
    w->stuck_at = MAPPED_PHASE_RUNNING;
    /* Nothing goes but what is asked for, which is acknowledged. */
    world_run_until(w, MAPPED_OUT_DEVICE);
    for (guint64 i = 0; i < PAGES; i += 2)
        world_ask(w, i * PAGE, PAGE);
    world_run_until(w, MAPPED_OUT_POSTCOPY_ACTIVE);
    for (guint i = 0; i < 100; i++)
        world_turn(w);
    assert_true(w->urgent_pages > 0);
    assert_false(w->runs);
    assert_memory_equal(before, w->memory->at, setup.length);
    w->stuck_at = 0;
    world_expect_moved(w);
    assert_memory_equal(before, w->copy, setup.length);
}

/* ---- switch-over ---- */

static void the_guest_is_kept_until_the_destination_listens(void **state)
{
    for (guint i = 0; i < 4; i++) {
        WorldSetup setup = plain_setup();
        g_autoptr(World) w = filled_world(&setup);

        w->client.has_no_devices = i / 2;
        w->stuck_at = MAPPED_PHASE_LISTEN;
        start_postcopy(w);
        world_run_until(w, MAPPED_OUT_DEVICE);
        world_run(w, 50);
        assert_int_equal(mapped_outgoing_state(w->machine), MAPPED_OUT_DEVICE);
        assert_true(w->client.paused);
        assert_null(strstr(w->client.asked->str, "no-return"));
        if (i % 2) {
            w->stuck_at = 0;
            world_expect_moved(w);
            continue;
        }
        session_on_qemu_broken(w->destination.session, "no userfaultfd here", NULL);
        world_run_until(w, MAPPED_OUT_FAILED);
        assert_int_equal(w->client.outcome, MEMORY_END_FAILED);
        assert_non_null(w->client.resumed);
        assert_non_null(strstr(w->client.end_text, "no userfaultfd here"));
        assert_false(w->runs);
    }
}

static void nothing_runs_there_before_the_client_has_given_its_guest_up(void **state)
{
    for (guint i = 0; i < 6; i++) {
        WorldSetup setup = plain_setup();
        g_autoptr(World) w = filled_world(&setup);

        if (i % 2)
            start_postcopy(w);
        w->client.keeps_guest = TRUE;
        world_run_until(w, MAPPED_OUT_DEVICE);
        world_run(w, 50);
        assert_non_null(strstr(w->client.asked->str, "no-return"));
        assert_null(strstr(w->seen->str, "running"));
        assert_int_equal(mapped_outgoing_state(w->machine), MAPPED_OUT_DEVICE);
        if (i / 2 == 0) {
            world_say(w, MEMORY_EV_GIVEN_UP);
            world_expect_moved(w);
            continue;
        }
        if (i / 2 == 1)
            world_lose(w, "the network is gone");
        else
            world_say(w, MEMORY_EV_CANCEL);
        world_run_until(w, i / 2 == 1 ? MAPPED_OUT_FAILED : MAPPED_OUT_CANCELLED);
        assert_non_null(w->client.resumed);
        assert_false(w->runs);
    }
}

static void it_waits_to_be_told_to_go_on(void **state)
{
    for (guint postcopy = 0; postcopy < 2; postcopy++) {
        WorldSetup setup = plain_setup();
        g_autoptr(World) w = NULL;

        setup.params.pause_before_switchover = TRUE;
        w = filled_world(&setup);
        if (postcopy)
            start_postcopy(w);
        world_run_until(w, MAPPED_OUT_PRE_SWITCHOVER);
        world_run(w, 100);
        assert_int_equal(mapped_outgoing_state(w->machine), MAPPED_OUT_PRE_SWITCHOVER);
        assert_true(w->client.paused);
        assert_null(strstr(w->seen->str, "data"));
        world_say(w, MEMORY_EV_CONTINUE);
        world_expect_moved(w);
    }
}

static void pages_wait_until_the_destination_is_ready(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = filled_world(&setup);

    w->holds = TRUE;
    world_run(w, 50);
    assert_int_equal(mapped_outgoing_state(w->machine), MAPPED_OUT_SETUP);
    assert_int_equal(w->pages, 0);
    w->holds = FALSE;
    world_expect_moved(w);
}

static void post_copy_has_to_be_allowed(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = NULL;

    setup.params.postcopy = FALSE;
    w = filled_world(&setup);
    start_postcopy(w);
    world_run_until(w, MAPPED_OUT_FAILED);
    assert_non_null(strstr(w->client.end_text, "post-copy"));
}

static void memory_that_cannot_be_moved_is_refused_at_the_beginning(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = filled_world(&setup);

    w->memory->layout->regions[0].flags |= MEMORY_PMEM;
    world_run_until(w, MAPPED_OUT_FAILED);
    assert_non_null(strstr(w->client.end_text, "\"ram\""));
    assert_null(strstr(w->client.asked->str, "advise"));
    assert_string_equal(w->seen->str, "");
}

/* ---- notifiers ---- */

static gboolean write_down(NotifyPhase phase, gpointer data, GError **error)
{
    g_string_append_printf(data, "%s ", notify_phase_name(phase));
    return TRUE;
}

static gboolean veto(NotifyPhase phase, gpointer data, GError **error)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "a device that cannot be moved");
    return FALSE;
}

static void notifiers_follow_the_phases(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = filled_world(&setup);
    g_autoptr(GString) heard = g_string_new(NULL);

    notifier_list_add(mapped_outgoing_notifiers(w->machine), "test", write_down, heard);
    start_postcopy(w);
    world_expect_moved(w);
    assert_string_equal(heard->str, "probe advise before-sync after-sync listen end ");
}

static void a_veto_ends_it_before_it_has_begun(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = filled_world(&setup);

    notifier_list_add(mapped_outgoing_notifiers(w->machine), "vfio", veto, NULL);
    world_run_until(w, MAPPED_OUT_FAILED);
    assert_string_equal(w->client.end_text, "vfio: a device that cannot be moved");
    assert_string_equal(w->client.asked->str, "end ");
}

/* ---- ends ---- */

static void what_fails_before_the_switch_lets_the_guest_go_on(void **state)
{
    for (guint how = 0; how < 4; how++) {
        WorldSetup setup = plain_setup();
        g_autoptr(World) w = NULL;

        setup.params.pause_before_switchover = TRUE;
        w = filled_world(&setup);
        world_run_until(w, MAPPED_OUT_PRE_SWITCHOVER);
        if (how == 0)
            world_say(w, MEMORY_EV_FAILED);
        else if (how == 1)
            world_lose(w, "the network is gone");
        else if (how == 2)
            session_on_qemu_broken(w->destination.session, "no memory left", NULL);
        else
            world_say(w, MEMORY_EV_CANCEL);
        world_run_until(w, how == 3 ? MAPPED_OUT_CANCELLED : MAPPED_OUT_FAILED);
        assert_int_equal(w->client.outcome,
                         how == 3 ? MEMORY_END_CANCELLED : MEMORY_END_FAILED);
        assert_non_null(w->client.resumed);
        assert_false(w->runs);
    }
}

static void a_client_that_is_gone_is_asked_nothing(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = NULL;

    setup.params.pause_before_switchover = TRUE;
    w = filled_world(&setup);
    world_run_until(w, MAPPED_OUT_PRE_SWITCHOVER);
    g_string_truncate(w->client.asked, 0);
    world_say(w, MEMORY_EV_GONE);
    world_run_until(w, MAPPED_OUT_FAILED);
    assert_string_equal(w->client.asked->str, "");
    assert_int_equal(session_state(w->destination.session), SESSION_FAILED);
}

static void what_fails_after_the_switch_stays_paused(void **state)
{
    for (guint how = 0; how < 3; how++) {
        WorldSetup setup = plain_setup();
        g_autoptr(World) w = NULL;

        setup.window = 128 * 1024;
        w = filled_world(&setup);
        world_until_postcopy(w);
        if (how == 0)
            world_say(w, MEMORY_EV_FAILED);
        else if (how == 1)
            world_lose(w, "the network is gone");
        else
            world_say(w, MEMORY_EV_CANCEL);
        world_run_until(w, MAPPED_OUT_POSTCOPY_PAUSED);
        assert_int_equal(w->client.outcome, MEMORY_END_PAUSED);
        assert_null(w->client.resumed);
    }
}

static void an_answer_to_nothing_is_refused(void **state)
{
    const MemoryEventType types[] = { MEMORY_EV_SYNCED, MEMORY_EV_PAUSED, MEMORY_EV_DEVICE,
                                      MEMORY_EV_DISCARDED, MEMORY_EV_LISTENING, MEMORY_EV_RUNNING,
                                      MEMORY_EV_GIVEN_UP };

    for (guint i = 0; i < G_N_ELEMENTS(types); i++) {
        WorldSetup setup = plain_setup();
        Guest guest;
        g_autoptr(World) w = world_in_a_later_round(&setup, &guest);

        world_say(w, types[i]);
        world_run_until(w, MAPPED_OUT_FAILED);
        g_rand_free(guest.rand);
        assert_non_null(w->client.end_text);
    }
}

/* ---- recovery ---- */

static void a_recovery_sends_what_the_destination_does_not_have(void **state)
{
    for (guint i = 0; i < 4; i++) {
        WorldSetup setup = plain_setup();
        g_autoptr(World) w = NULL;
        guint64 had;

        setup.window = 128 * 1024;
        setup.n_bulk = i % 2;
        w = filled_world(&setup);
        world_until_postcopy(w);
        for (guint turn = 0; turn < i; turn++)
            world_turn(w);
        had = bitmap_count(w->present);
        assert_in_range(had, 1, PAGES - 1);
        world_lose(w, "the network is gone");
        world_recover(w);
        assert_true(mapped_outgoing_is_recovering(w->machine));
        world_expect_moved(w);
        assert_int_equal(w->pages, PAGES - had);
        assert_string_equal(w->client.states->str, "postcopy-recover postcopy-active completed ");
        assert_null(strstr(w->client.asked->str, "advise"));
    }
}

static void a_recovery_that_breaks_is_recovered_again(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = NULL;

    setup.window = 128 * 1024;
    w = filled_world(&setup);
    world_until_postcopy(w);
    for (guint i = 0; i < 3; i++) {
        world_lose(w, "the network is gone");
        assert_int_equal(mapped_outgoing_state(w->machine), MAPPED_OUT_POSTCOPY_PAUSED);
        world_recover(w);
        world_turn(w);
        if (i > 0)
            world_turn(w);
    }
    world_expect_moved(w);
}

/* ---- at random ---- */

static WorldSetup random_setup(GRand *rand)
{
    const MappedKind kinds[] = { MAPPED_PRIVATE, MAPPED_MEMFD };
    WorldSetup setup = plain_setup();

    setup.kind = kinds[g_rand_int_range(rand, 0, 2)];
    setup.log = g_rand_boolean(rand) ? MAPPED_WRITE_LOG : MAPPED_CLIENT_LOG;
    setup.n_bulk = (guint)g_rand_int_range(rand, 0, WORLD_BULK_MAX + 1);
    setup.window = (guint64)g_rand_int_range(rand, 128, 300) * 1024;
    setup.params.downtime_limit_ms = (guint32)g_rand_int_range(rand, 0, 2);
    setup.params.auto_converge = g_rand_boolean(rand);
    if (g_rand_boolean(rand)) {
        setup.features = SESSION_FEATURE_XBZRLE;
        setup.params.xbzrle_cache = 128 * PAGE;
    }
    return setup;
}

/* Requests of pages that are not there, as faults are. */
static void fault(World *w, GRand *rand)
{
    guint64 page = (guint64)g_rand_int_range(rand, 0, PAGES);

    if (mapped_outgoing_state(w->machine) == MAPPED_OUT_POSTCOPY_ACTIVE && w->runs &&
        !bitmap_get(w->present, page) && !w->ram_ended)
        world_ask(w, page * PAGE, PAGE);
}

static void move_at_random(guint32 seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    WorldSetup setup = random_setup(rand);
    g_autoptr(World) w = filled_world(&setup);
    guint each_turn = (guint)g_rand_int_range(rand, 0, 5);
    Guest guest = { w, rand, each_turn, (guint64)g_rand_int_range(rand, 1, PAGES) };
    guint until_postcopy = (guint)g_rand_int_range(rand, 1, 20);
    guint losses = (guint)g_rand_int_range(rand, 0, 3);

    w->guest_runs = write_at_random;
    w->guest_data = &guest;
    for (guint turn = 0; turn < 4000 && !w->ram_ended; turn++) {
        if (turn == until_postcopy && !w->setup.recovers)
            world_say(w, MEMORY_EV_START_POSTCOPY);
        w->holds = g_rand_int_range(rand, 0, 4) == 0;
        fault(w, rand);
        if (losses > 0 && w->runs && w->discarding && !w->ended && g_rand_int(rand) % 4 == 0) {
            losses--;
            world_lose(w, "cut");
            world_recover(w);
        }
        world_turn(w);
    }
    w->holds = FALSE;
    if (w->wrong || w->error)
        fail_msg("seed %u: %s (seen: %s)", seed, w->wrong ? w->wrong : w->error, w->seen->str);
    world_expect_moved(w);
}

static void whatever_happens_all_memory_is_moved(void **state)
{
    for (guint32 seed = 1; seed <= 100; seed++)
        move_at_random(seed);
}

/* ---- the table ---- */

static void transitions_that_are_not_in_the_table_are_refused(void **state)
{
    WorldSetup setup = plain_setup();
    g_autoptr(World) w = filled_world(&setup);

    for (MappedOutState from = 0; from < MAPPED_OUT_STATE_MAX; from++) {
        for (MappedOutEvent event = 0; event < MAPPED_OUT_EVENT_MAX; event++) {
            MappedOutInput in = { .now_us = 1 };
            g_autoptr(GError) error = NULL;
            MappedOutState next;

            if (mapped_out_has_row(from, event, &next))
                continue;
            w->machine->state = from;
            assert_false(mapped_out_event(w->machine, event, &in, &error));
            assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_STATE));
            assert_non_null(strstr(error->message, mapped_out_state_name(from)));
            assert_non_null(strstr(error->message, mapped_out_event_name(event)));
            assert_int_equal(w->machine->state, from);
        }
    }
}

static void an_end_has_no_way_out(void **state)
{
    const MappedOutState ends[] = { MAPPED_OUT_POSTCOPY_PAUSED, MAPPED_OUT_COMPLETED,
                                    MAPPED_OUT_FAILED, MAPPED_OUT_CANCELLED };

    for (guint i = 0; i < G_N_ELEMENTS(ends); i++) {
        for (MappedOutEvent event = 0; event < MAPPED_OUT_EVENT_MAX; event++) {
            MappedOutState next;

            assert_true(!mapped_out_has_row(ends[i], event, &next) || next == ends[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_memory_is_moved_before_the_guest_runs_there),
        cmocka_unit_test(what_the_guest_writes_meanwhile_is_moved_as_well),
        cmocka_unit_test(huge_pages_are_moved),
        cmocka_unit_test(of_a_huge_page_only_what_was_written_goes_before_the_switch),
        cmocka_unit_test(a_hole_is_sent_as_zeros_and_stays_a_hole),
        cmocka_unit_test(pages_that_were_never_written_go_in_runs),
        cmocka_unit_test(what_is_written_to_untouched_memory_meanwhile_is_moved_as_well),
        cmocka_unit_test(differences_go_out_where_both_can_and_are_wanted),
        cmocka_unit_test(differences_end_when_they_are_not_wanted_any_more),
        cmocka_unit_test(each_page_comes_once_after_the_switch),
        cmocka_unit_test(what_was_sent_and_written_again_is_discarded_and_nothing_else),
        cmocka_unit_test(a_huge_page_of_which_a_part_was_written_is_discarded_whole),
        cmocka_unit_test(a_page_that_is_asked_for_goes_at_once_and_the_background_follows),
        cmocka_unit_test(a_page_that_was_sent_is_not_sent_again_when_it_is_asked_for),
        cmocka_unit_test(requests_that_cannot_be_end_the_session),
        cmocka_unit_test(a_request_before_the_switch_is_refused),
        cmocka_unit_test(the_background_keeps_to_the_rate_and_requests_do_not),
        cmocka_unit_test(the_guest_stops_when_the_rest_fits_into_the_limit_and_not_before),
        cmocka_unit_test(a_guest_that_writes_too_fast_is_slowed_down_and_let_go),
        cmocka_unit_test(free_pages_are_not_sent),
        cmocka_unit_test(free_pages_come_as_zeros_after_the_switch),
        cmocka_unit_test(what_is_acknowledged_is_given_back_and_not_before),
        cmocka_unit_test(private_memory_is_given_back_by_the_client),
        cmocka_unit_test(nothing_is_given_back_before_the_guest_runs_there),
        cmocka_unit_test(the_guest_is_kept_until_the_destination_listens),
        cmocka_unit_test(nothing_runs_there_before_the_client_has_given_its_guest_up),
        cmocka_unit_test(it_waits_to_be_told_to_go_on),
        cmocka_unit_test(pages_wait_until_the_destination_is_ready),
        cmocka_unit_test(post_copy_has_to_be_allowed),
        cmocka_unit_test(memory_that_cannot_be_moved_is_refused_at_the_beginning),
        cmocka_unit_test(notifiers_follow_the_phases),
        cmocka_unit_test(a_veto_ends_it_before_it_has_begun),
        cmocka_unit_test(what_fails_before_the_switch_lets_the_guest_go_on),
        cmocka_unit_test(a_client_that_is_gone_is_asked_nothing),
        cmocka_unit_test(what_fails_after_the_switch_stays_paused),
        cmocka_unit_test(an_answer_to_nothing_is_refused),
        cmocka_unit_test(a_recovery_sends_what_the_destination_does_not_have),
        cmocka_unit_test(a_recovery_that_breaks_is_recovered_again),
        cmocka_unit_test(whatever_happens_all_memory_is_moved),
        cmocka_unit_test(transitions_that_are_not_in_the_table_are_refused),
        cmocka_unit_test(an_end_has_no_way_out),
    };

    return cmocka_run_group_tests(tests, mapped_memory_reserve_huge, mapped_memory_return_huge);
}
