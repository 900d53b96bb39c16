/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Both machines of a mapped session on real memory, at random: a guest that writes until it is
 * stopped, threads that read and write over there as soon as they may, links that break,
 * sessions that are lost and recovered. In the end every byte is what it should be. MAPPED_SEEDS
 * says how many runs. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/support/mapped-pair.h"

#define PAGE 4096
#define THREADS 8
#define TOUCHES 200 /* of each thread */
#define SEEDS 25

static const TestRegion small_regions[] = {
    { "pc.ram", 600, TEST_MEMFD, 0 },
    { "private", 300, TEST_PRIVATE, 0 },
    { "pc.rom", 16, TEST_MEMFD, MEMORY_IGNORED },
    { "vga", 70, TEST_MEMFD, 0 },
};

static const TestRegion huge_regions[] = {
    { "pc.ram", 3, TEST_HUGE, 0 },
    { "small", 200, TEST_MEMFD, 0 },
};

static const TestRegion zero_regions[] = {
    { "pc.ram", 5000, TEST_PRIVATE, 0 },
    { "hotplugged", 3000, TEST_MEMFD, 0 },
};

/* ---- one migration ---- */

typedef struct {
    TestMemory *memory;
    guint32 seed;
    guint64 mark; /* what it writes */
    gint *stop;   /* atomic */
    GArray *written; /* of Touch: once it has ended */
} Vcpu;

typedef struct {
    guint region;
    gsize offset;
} Touch;

typedef struct {
    TestMemory *source;
    TestMemory *destination;
    MappedPair pair;
    MemoryParams params;
    GRand *rand;
    gboolean postcopy;
    gint64 switch_us;  /* when post-copy is asked for */
    guint writes_left; /* of the guest, before it is stopped */
    guint8 **snapshot; /* by region: the memory when it was stopped */
    gboolean threads_run;
    Vcpu vcpus[THREADS];
    GThread *threads[THREADS];
    gint stop;
    guint recoveries_left;
} Run;

static gboolean is_moved(const TestMapping *map)
{
    return !(map->region->flags & MEMORY_IGNORED);
}

/* A page as guests have them: zeros, text, noise. */
static void fill_page(GRand *rand, guint8 *page)
{
    guint kind = g_rand_int_range(rand, 0, 4);

    if (kind == 0) {
        memset(page, 0, PAGE);
        return;
    }
    if (kind == 1)
        memset(page, g_rand_int_range(rand, 0, 256), PAGE);
    for (gsize at = 0; at < (kind == 1 ? 64 : PAGE); at += sizeof(guint32)) {
        guint32 word = g_rand_int(rand);

        memcpy(page + at, &word, sizeof word);
    }
}

/* share: how many of eight pages are touched at all. */
static void fill_memory(GRand *rand, TestMemory *memory, guint share)
{
    for (guint i = 0; i < memory->n; i++) {
        for (gsize at = 0; at < memory->maps[i].length; at += PAGE) {
            if ((guint)g_rand_int_range(rand, 0, 8) < share)
                fill_page(rand, memory->maps[i].at + at);
        }
    }
}

static gpointer vcpu_run(gpointer data)
{
    Vcpu *vcpu = data;
    g_autoptr(GRand) rand = g_rand_new_with_seed(vcpu->seed);

    for (guint i = 0; i < TOUCHES && !g_atomic_int_get(vcpu->stop); i++) {
        guint region = g_rand_int_range(rand, 0, vcpu->memory->n);
        const TestMapping *map = &vcpu->memory->maps[region];
        /* Each thread has words of its own in every page. */
        gsize offset = (gsize)g_rand_int_range(rand, 0, map->length / PAGE) * PAGE +
                       (vcpu->mark & 0xff) * sizeof(guint64);
        Touch touch = { region, offset };

        if (!is_moved(map))
            continue;
        if (g_rand_boolean(rand)) {
            memcpy(map->at + offset, &vcpu->mark, sizeof vcpu->mark);
            g_array_append_val(vcpu->written, touch);
        } else {
            ((volatile guint8 *)map->at)[offset]; /* brings the page */
        }
    }
    return NULL;
}

static void start_threads(Run *run)
{
    run->threads_run = TRUE;
    for (guint i = 0; i < THREADS; i++) {
        run->vcpus[i] = (Vcpu){
            .memory = run->destination,
            .seed = g_rand_int(run->rand),
            .mark = G_GUINT64_CONSTANT(0xfeedface00000000) + i,
            .stop = &run->stop,
            .written = g_array_new(FALSE, FALSE, sizeof(Touch)),
        };
        run->threads[i] = g_thread_new("vcpu", vcpu_run, &run->vcpus[i]);
    }
}

static void take_snapshot(Run *run)
{
    run->snapshot = g_new0(guint8 *, run->source->n);
    for (guint i = 0; i < run->source->n; i++)
        run->snapshot[i] = g_memdup(run->source->maps[i].at, run->source->maps[i].length);
}

/* A few writes of the guest: more often than not to pages it has written before. */
static void guest_writes(Run *run)
{
    for (guint i = 0; i < 8 && run->writes_left > 0; i++) {
        guint region = g_rand_int_range(run->rand, 0, run->source->n);
        const TestMapping *map = &run->source->maps[region];
        guint pages = map->length / PAGE;
        guint page = g_rand_int_range(run->rand, 0, g_rand_boolean(run->rand) ? pages
                                                                              : pages / 8 + 1);
        guint8 bytes[PAGE];
        gboolean whole = g_rand_boolean(run->rand);

        fill_page(run->rand, bytes);
        test_memory_write(run->source, region, (gsize)page * PAGE + (whole ? 0 : 128), bytes,
                          whole ? PAGE : 64);
        run->writes_left--;
    }
}

/* Pages that the guest says it has no use for, until it writes to them again: what is in them
 * does not matter any more, and a guest that gives pages back reads zeros from them. */
static void guest_hints(Run *run)
{
    guint region = g_rand_int_range(run->rand, 0, run->source->n);
    const TestMapping *map = &run->source->maps[region];
    guint pages = map->length / map->page_size;
    guint first = g_rand_int_range(run->rand, 0, pages);
    guint n = g_rand_int_range(run->rand, 1, MIN(pages - first, 20) + 1);
    MemoryRange range = { first * map->page_size, n * map->page_size };

    if (!is_moved(map) || g_rand_int_range(run->rand, 0, 4))
        return;
    memset(map->at + range.start, 0, range.length);
    for (gsize at = range.start; at < range.start + range.length; at += PAGE) {
        guint64 zero = 0;

        test_memory_write(run->source, region, at, &zero, sizeof zero);
    }
    test_client_hint(run->pair.source.client, region, &range, 1);
}

static gboolean go_on(MappedPair *pair, gpointer data)
{
    Run *run = data;
    TestClient *source = pair->source.client, *destination = pair->destination.client;

    if (!source->paused && !run->snapshot) {
        if (run->writes_left > 0)
            guest_hints(run);
        guest_writes(run);
    }
    if (source->paused && !run->snapshot)
        take_snapshot(run);
    if (run->postcopy && run->switch_us && g_get_monotonic_time() > run->switch_us &&
        mapped_outgoing_state(pair->outgoing) == MAPPED_OUT_ACTIVE) {
        run->switch_us = 0;
        test_client_say(source, MEMORY_EV_START_POSTCOPY);
    }
    if (destination->running && !run->threads_run)
        start_threads(run);
    /* Somewhere in post-copy. */
    if (run->recoveries_left > 0 && run->postcopy && destination->running &&
        mapped_incoming_state(pair->incoming) == MAPPED_INCOMING_RUNNING &&
        g_rand_int_range(run->rand, 0, 6) == 0) {
        run->recoveries_left--;
        mapped_pair_recover(pair);
    }
    return mapped_pair_is_complete(pair);
}

/* ---- what must hold ---- */

static void apply_touches(Run *run)
{
    for (guint i = 0; i < THREADS; i++) {
        const Vcpu *vcpu = &run->vcpus[i];

        for (guint k = 0; k < vcpu->written->len; k++) {
            const Touch *touch = &g_array_index(vcpu->written, Touch, k);

            memcpy(run->snapshot[touch->region] + touch->offset, &vcpu->mark, sizeof vcpu->mark);
        }
    }
}

static void compare(const Run *run, guint32 seed)
{
    for (guint i = 0; i < run->source->n; i++) {
        const TestMapping *map = &run->destination->maps[i];

        for (gsize at = 0; is_moved(map) && at < map->length; at += PAGE) {
            if (memcmp(map->at + at, run->snapshot[i] + at, PAGE) != 0)
                fail_msg("seed %u: page %zu of %s is not what it was", seed, at / PAGE,
                         map->region->name);
        }
    }
}

static void run_begin(Run *run, const TestRegion *regions, guint n, guint32 seed)
{
    *run = (Run){ .rand = g_rand_new_with_seed(seed) };
    run->source = test_memory_new(regions, n);
    run->destination = test_memory_new(regions, n);
    assert_true(run->source && run->destination);
    if (seed % 2)
        assert_true(test_memory_watch(run->source));
    fill_memory(run->rand, run->source, 5);
    /* What is there before is of no use to anybody. */
    fill_memory(run->rand, run->destination, 2);
}

static void run_end(Run *run)
{
    mapped_pair_clear(&run->pair);
    for (guint i = 0; run->snapshot && i < run->source->n; i++)
        g_free(run->snapshot[i]);
    for (guint i = 0; i < THREADS; i++) {
        if (run->vcpus[i].written)
            g_array_unref(run->vcpus[i].written);
    }
    g_free(run->snapshot);
    test_memory_free(run->source);
    test_memory_free(run->destination);
    g_rand_free(run->rand);
}

static void join_threads(Run *run)
{
    for (guint i = 0; run->threads_run && i < THREADS; i++)
        g_thread_join(run->threads[i]);
}

static void migrate(Run *run, MappedSetup *setup, guint32 seed)
{
    GRand *rand = run->rand;

    run->writes_left = g_rand_int_range(rand, 0, 1500);
    run->switch_us = g_get_monotonic_time() + g_rand_int_range(rand, 0, 60000);
    run->params = (MemoryParams){
        .downtime_limit_ms = 100,
        .postcopy = run->postcopy,
        .release_ram = g_rand_boolean(rand),
        .xbzrle_cache = g_rand_boolean(rand) ? 256 * PAGE : 0,
        .auto_converge = g_rand_boolean(rand),
        .throttle_initial = 20,
        .throttle_increment = 10,
        .throttle_max = 99,
    };
    setup->params = &run->params;
    setup->window = 512 * 1024 << g_rand_int_range(rand, 0, 3);
    setup->most = 1 << g_rand_int_range(rand, 9, 18);
    setup->features = SESSION_FEATURE_XBZRLE;
    if (g_rand_boolean(rand))
        setup->features |= SESSION_FEATURE_RUNS;
    setup->n_bulk = g_rand_int_range(rand, 0, MAPPED_BULK_MAX + 1);
    if (setup->n_bulk > 0)
        setup->features |= SESSION_FEATURE_BULK;
    mapped_pair_init(&run->pair, setup, run->source, run->destination, seed);
    run->pair.source.client->device = g_byte_array_append(run->pair.source.client->device,
                                                          (const guint8 *)"the devices", 11);
    run->pair.cuts_left = g_rand_boolean(rand) ? g_rand_int_range(rand, 0, 12) : 0;
    if (!mapped_pair_run(&run->pair, go_on, run))
        fail_msg("seed %u: %s; source %s, destination %s", seed,
                 mapped_pair_failure(&run->pair) ? mapped_pair_failure(&run->pair) : "stuck",
                 mapped_out_state_name(mapped_outgoing_state(run->pair.outgoing)),
                 mapped_incoming_state_name(mapped_incoming_state(run->pair.incoming)));
    /* Both clients are told, and the threads have what they waited for. */
    mapped_pair_turn(&run->pair);
    join_threads(run);
    assert_int_equal(run->pair.source.client->outcome, MEMORY_END_COMPLETED);
    assert_int_equal(run->pair.destination.client->outcome, MEMORY_END_COMPLETED);
    assert_true(run->pair.source.client->gone_over);
    assert_int_equal(run->pair.destination.client->device->len, 11);
    apply_touches(run);
    compare(run, seed);
}

static guint seeds(void)
{
    const char *text = g_getenv("MAPPED_SEEDS");

    return text ? (guint)atoi(text) : SEEDS;
}

static void try_seeds(const TestRegion *regions, guint n, gboolean postcopy, guint recoveries,
                      guint times)
{
    for (guint32 seed = 1; seed <= times; seed++) {
        MappedSetup setup = { 0 };
        Run run;

        run_begin(&run, regions, n, seed);
        run.postcopy = postcopy;
        run.recoveries_left = recoveries ? g_rand_int_range(run.rand, 1, recoveries + 1) : 0;
        migrate(&run, &setup, seed);
        run_end(&run);
    }
}

/* ---- a destination that cannot ---- */

static gboolean refuse_to_listen(MappedPair *pair, gpointer data)
{
    Run *run = data;

    if (mapped_incoming_state(pair->incoming) == MAPPED_INCOMING_ADVISE && run->switch_us) {
        run->switch_us = 0;
        pair->destination.client->refuses = TRUE;
        test_client_say(pair->source.client, MEMORY_EV_START_POSTCOPY);
    }
    return pair->source.client->ended && pair->destination.client->ended;
}

/* ---- tests ---- */

static void a_guest_stays_where_it_is_when_the_destination_cannot_listen(void **test)
{
    for (guint i = 0; i < 2; i++) {
        MappedSetup setup = { .window = 1024 * 1024, .most = 65536, .n_bulk = i };
        MemoryParams params = { .postcopy = TRUE, .max_bandwidth = 1 };
        Run run;

        setup.features = i ? SESSION_FEATURE_BULK : 0;
        setup.params = &params;
        run_begin(&run, small_regions, G_N_ELEMENTS(small_regions), i + 1);
        take_snapshot(&run);
        run.switch_us = 1;
        mapped_pair_init(&run.pair, &setup, run.source, run.destination, i + 1);
        mapped_pair_run(&run.pair, refuse_to_listen, &run);
        for (guint turn = 0; turn < 100 && !refuse_to_listen(&run.pair, &run); turn++)
            mapped_pair_turn(&run.pair);
        assert_int_equal(run.pair.source.client->outcome, MEMORY_END_FAILED);
        assert_int_equal(run.pair.source.client->resumes, 1);
        assert_false(run.pair.source.client->paused);
        assert_false(run.pair.source.client->gone_over);
        assert_int_equal(run.pair.destination.client->outcome, MEMORY_END_FAILED);
        assert_int_equal(run.pair.destination.client->runs, 0);
        assert_non_null(strstr(run.pair.source.client->text, "not today"));
        for (guint k = 0; k < run.source->n; k++)
            assert_memory_equal(run.source->maps[k].at, run.snapshot[k],
                                run.source->maps[k].length);
        run_end(&run);
    }
}

static void a_guest_arrives_whole_before_the_switch(void **test)
{
    try_seeds(small_regions, G_N_ELEMENTS(small_regions), FALSE, 0, seeds());
}

static void a_guest_arrives_whole_by_post_copy(void **test)
{
    try_seeds(small_regions, G_N_ELEMENTS(small_regions), TRUE, 0, 2 * seeds());
}

static void a_guest_arrives_whole_when_sessions_are_lost_and_recovered(void **test)
{
    try_seeds(small_regions, G_N_ELEMENTS(small_regions), TRUE, 3, 3 * seeds());
}

/* A tenth has data. Of the rest most was never touched, some was read and some was written with zeros, in
 * stretches of all lengths. */
static void fill_zero_heavy(GRand *rand, TestMemory *memory)
{
    for (guint i = 0; i < memory->n; i++) {
        const TestMapping *map = &memory->maps[i];
        guint left = 0, kind = 0;

        madvise(map->at, map->length, MADV_NOHUGEPAGE);
        for (gsize at = 0; at < map->length; at += PAGE, left--) {
            if (left == 0) {
                left = 1 << g_rand_int_range(rand, 0, 7);
                kind = g_rand_int_range(rand, 0, 10);
            }
            if (kind == 0)
                memset(map->at + at, g_rand_int_range(rand, 1, 256), PAGE);
            else if (kind == 1)
                ((volatile guint8 *)map->at)[at];
            else if (kind == 2)
                memset(map->at + at, 0, PAGE);
        }
    }
}

static void a_guest_that_is_mostly_zeros_arrives_whole(void **test)
{
    for (guint32 seed = 1; seed <= MAX(seeds() / 3, 4); seed++) {
        MappedSetup setup = { 0 };
        Run run = { .rand = g_rand_new_with_seed(seed) };

        run.source = test_memory_new(zero_regions, G_N_ELEMENTS(zero_regions));
        run.destination = test_memory_new(zero_regions, G_N_ELEMENTS(zero_regions));
        assert_true(test_memory_watch(run.source));
        fill_zero_heavy(run.rand, run.source);
        run.postcopy = seed % 4 != 0;
        run.recoveries_left = seed % 4 == 1 ? 2 : 0;
        migrate(&run, &setup, seed);
        run_end(&run);
    }
}

static void a_guest_with_huge_pages_arrives_whole(void **test)
{
    if (!test_huge_pages_reserve(8))
        skip();
    try_seeds(huge_regions, G_N_ELEMENTS(huge_regions), FALSE, 0, 2);
    try_seeds(huge_regions, G_N_ELEMENTS(huge_regions), TRUE, 0, MAX(seeds() / 5, 1));
    try_seeds(huge_regions, G_N_ELEMENTS(huge_regions), TRUE, 2, MAX(seeds() / 5, 1));
}

static int restore_huge_pages(void **test)
{
    test_huge_pages_restore();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guest_arrives_whole_before_the_switch),
        cmocka_unit_test(a_guest_arrives_whole_by_post_copy),
        cmocka_unit_test(a_guest_stays_where_it_is_when_the_destination_cannot_listen),
        cmocka_unit_test(a_guest_arrives_whole_when_sessions_are_lost_and_recovered),
        cmocka_unit_test(a_guest_that_is_mostly_zeros_arrives_whole),
        cmocka_unit_test_teardown(a_guest_with_huge_pages_arrives_whole, restore_huge_pages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
