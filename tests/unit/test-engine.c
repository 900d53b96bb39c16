/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Both RAM engines between two model QEMUs: whatever the order and the delays, every page is
 * delivered exactly once, host pages in one piece, no request is lost, and memory stays within its
 * limits. In the environment: ENGINE_SEEDS, how many random runs of each kind, for a longer search;
 * ENGINE_TEST, a pattern: which tests. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/engine-pair.h"

#define SEEDS 400
#define KIB 1024
#define MIB_BYTES (1024 * 1024)

static const ModelBlock small_blocks[] = {
    { "pc.ram", 4 * KIB, 300, 20 },
    { "/rom@etc/acpi/tables", 4 * KIB, 32, 50 },
    { "pc.rom", 4 * KIB, 3, 0 },
};
static const ModelBlock huge_blocks[] = {
    { "huge", 2 * MIB_BYTES, 3, 94 },
    { "pc.ram", 4 * KIB, 80, 20 },
    { "pc.rom", 4 * KIB, 5, 0 },
};
static const ModelBlock giant_blocks[] = {
    { "giant", 16 * MIB_BYTES, 2, 99 },
    { "huge", 2 * MIB_BYTES, 1, 95 },
    { "pc.ram", 4 * KIB, 20, 10 },
};

static guint seeds(guint divisor)
{
    const char *text = g_getenv("ENGINE_SEEDS");

    return MAX((text ? (guint)atoi(text) : SEEDS) / divisor, 1);
}

/* ---- one random run ---- */

typedef struct {
    const ModelBlock *blocks;
    guint n_blocks;
    ModelPreempt preempt;
    PageCompress compress;
    CompressWorker *worker;
    guint64 methods;
    guint recoveries;
    guint cuts; /* of connections, at most */
    guint64 *resumed; /* counts what took their place */
    guint duplicate_percent;
    gboolean foreign;
    gboolean in_section; /* that is where it comes */
    gboolean in_host_page;
    gboolean foreign_delta;
    guint delta_percent;
    gboolean no_lane;
    guint bulk;
} Kind;

static EngineSetup random_setup(const Kind *kind, GRand *rand)
{
    static const guint64 windows[] = { FRAME_PAGES_MAX, FRAME_PAGES_MAX + 100, 200 * KIB,
                                       MIB_BYTES };
    static const gsize stages[] = { 1, 20 * KIB, 100 * KIB, 64 * MIB_BYTES };
    static const guint buffers[] = { 1000, 16 * KIB, 200 * KIB };
    static const guint most[] = { 700, 5000, 20 * KIB, 100 * KIB };

    return (EngineSetup){
        .window = windows[g_rand_int_range(rand, 0, G_N_ELEMENTS(windows))],
        .stage = stages[g_rand_int_range(rand, 0, G_N_ELEMENTS(stages))],
        .compress = kind->compress,
        .worker = kind->worker,
        .methods = kind->methods,
        .preempt = kind->preempt,
        .no_lane = kind->no_lane,
        .bulk = kind->bulk,
        .qemu_buffer = buffers[g_rand_int_range(rand, 0, G_N_ELEMENTS(buffers))],
        .most = most[g_rand_int_range(rand, 0, G_N_ELEMENTS(most))],
    };
}

static void prepare(EnginePair *pair, const Kind *kind, GRand *rand)
{
    ModelSource *source = &pair->qemu_source;
    guint pages = source->guest->n_pages;

    source->precopy_pages = g_rand_int_range(rand, 0, 3) ? g_rand_int_range(rand, 0, 200) : 0;
    if (kind->delta_percent)
        source->precopy_pages = 300;
    source->delta_percent = kind->delta_percent;
    source->duplicate_percent = g_rand_boolean(rand) ? kind->duplicate_percent : 0;
    if (kind->foreign) {
        source->foreign_at = g_rand_int_range(rand, 1, MIN(pages, 250));
        source->foreign_between = !kind->in_section;
        source->foreign_in_host_page = kind->in_host_page;
        source->foreign_delta = kind->foreign_delta;
    }
    pair->cuts_left = kind->cuts ? g_rand_int_range(rand, 0, kind->cuts + 1) : 0;
    pair->qemu_destination.requests_left = g_rand_int_range(rand, 0, 60);
    pair->qemu_destination.vcpus = g_rand_int_range(rand, 1, MODEL_FAULTS_MAX);
}

static void assert_bounds(const EnginePair *pair)
{
    const Session *sessions[] = { pair->source.session, pair->destination.session };

    if (pair->stage_high > pair->setup.stage + OUTGOING_EXCESS_MAX)
        fail_msg("stage: %zu bytes, limit %zu", pair->stage_high, pair->setup.stage);
    for (guint i = 0; i < 2; i++) {
        SessionStats stats;

        session_get_stats(sessions[i], &stats);
        assert_in_range(stats.in_flight_high, 0, pair->setup.window);
        assert_in_range(stats.held_high, 0, pair->setup.window);
    }
}

static gboolean pages_flow(EnginePair *pair)
{
    return pair->qemu_destination.listening && pair->qemu_source.phase >= MODEL_POSTCOPY &&
           !pair->qemu_destination.is_paused && !pair->qemu_destination.closed &&
           g_rand_int_range(pair->rand, 0, 100) == 0;
}

static void assert_fine(const EnginePair *pair, const char *what, guint seed)
{
    const char *failure = engine_pair_failure(pair);

    if (failure)
        fail_msg("%s, seed %u: %s", what, seed, failure);
    assert_bounds(pair);
}

static void assert_complete(const EnginePair *pair, const char *what, guint seed)
{
    RamStats source, destination;

    assert_fine(pair, what, seed);
    if (!engine_pair_is_complete(pair))
        fail_msg("%s, seed %u: stands still: %s %s, %s %s; QEMU %d, %u faults, %u dirty", what,
                 seed, session_state_name(session_state(pair->source.session)),
                 engine_phase(pair->source.engine),
                 session_state_name(session_state(pair->destination.session)),
                 engine_phase(pair->destination.engine), pair->qemu_source.phase,
                 pair->qemu_destination.n_faults, pair->qemu_source.n_dirty);
    if (pair->qemu_destination.n_faults > 0)
        fail_msg("%s, seed %u: %u requests without an answer", what, seed,
                 pair->qemu_destination.n_faults);
    engine_get_stats(pair->source.engine, pair->now_us, &source);
    engine_get_stats(pair->destination.engine, pair->now_us, &destination);
    if (pair->qemu_source.duplicate_percent == 0) {
        assert_int_equal(source.stage_bytes, 0);
        assert_int_equal(source.requests_outstanding, 0);
    }
    assert_int_equal(destination.requests_outstanding, 0);
    assert_int_equal(source.ram_remaining_bytes, 0);
    assert_int_equal(destination.ram_remaining_bytes, 0);
    if (destination.ram_bytes != 0)
        assert_int_equal(source.ram_bytes, destination.ram_bytes);
}

static void count_resumes(const EnginePair *pair, guint64 *resumed)
{
    SessionStats stats;

    session_get_stats(pair->destination.session, &stats);
    *resumed += stats.resumes;
    for (guint i = PAIR_PREEMPT; i < PAIR_CHANNELS; i++) {
        if (!pair->destination.lanes[i])
            continue;
        lane_get_stats(pair->destination.lanes[i], &stats);
        *resumed += stats.resumes;
    }
}

static void run_seed(const Kind *kind, const char *what, guint seed,
                     void (*check)(const EnginePair *pair, const char *what, guint seed))
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    EngineSetup setup = random_setup(kind, rand);
    g_auto(EnginePair) pair;
    ModelGuest guest;

    model_guest_init(&guest, kind->blocks, kind->n_blocks, seed);
    guest.compressed = g_rand_int_range(rand, 0, 3) == 0;
    engine_pair_init(&pair, &setup, &guest, seed);
    prepare(&pair, kind, rand);
    for (guint i = 0; i < kind->recoveries; i++) {
        engine_pair_run(&pair, pages_flow);
        assert_fine(&pair, what, seed);
        if (!pages_flow(&pair) && engine_pair_is_complete(&pair))
            break;
        if (pair.qemu_destination.listening && !pair.qemu_destination.closed)
            engine_pair_recover(&pair);
        pair.cuts_left = kind->cuts;
    }
    engine_pair_run(&pair, NULL);
    check(&pair, what, seed);
    if (kind->resumed)
        count_resumes(&pair, kind->resumed);
}

static void run_kind(const Kind *kind, const char *what, guint n)
{
    for (guint seed = 1; seed <= n; seed++)
        run_seed(kind, what, seed * 1000, assert_complete);
}

#define SMALL .blocks = small_blocks, .n_blocks = G_N_ELEMENTS(small_blocks)
#define HUGE .blocks = huge_blocks, .n_blocks = G_N_ELEMENTS(huge_blocks)
#define ONE .blocks = small_blocks, .n_blocks = 1
#define GIANT .blocks = giant_blocks, .n_blocks = G_N_ELEMENTS(giant_blocks)

static void every_page_comes_once_whatever_the_order(void **state)
{
    run_kind(&(Kind){ SMALL }, "small pages", seeds(1));
    run_kind(&(Kind){ HUGE }, "huge pages", seeds(8));
    run_kind(&(Kind){ GIANT }, "giant pages", seeds(40));
}

static void a_preempt_connection_of_qemu_is_served(void **state)
{
    run_kind(&(Kind){ SMALL, .preempt = MODEL_PREEMPT_OLD }, "small, 7.2", seeds(2));
    run_kind(&(Kind){ SMALL, .preempt = MODEL_PREEMPT_NEW }, "small, 8.0", seeds(2));
    run_kind(&(Kind){ HUGE, .preempt = MODEL_PREEMPT_OLD }, "huge, 7.2", seeds(10));
    run_kind(&(Kind){ HUGE, .preempt = MODEL_PREEMPT_NEW }, "huge, 8.0", seeds(10));
    run_kind(&(Kind){ GIANT, .preempt = MODEL_PREEMPT_OLD }, "giant, 7.2", seeds(50));
    run_kind(&(Kind){ GIANT, .preempt = MODEL_PREEMPT_NEW }, "giant, 8.0", seeds(50));
}

static void bulk_channels_carry_pages_once_each(void **state)
{
    run_kind(&(Kind){ SMALL, .bulk = 1 }, "small, one bulk channel", seeds(2));
    run_kind(&(Kind){ SMALL, .bulk = PAIR_BULK_MAX }, "small, bulk channels", seeds(1));
    run_kind(&(Kind){ HUGE, .bulk = 3 }, "huge, bulk channels", seeds(8));
    run_kind(&(Kind){ GIANT, .bulk = 2 }, "giant, bulk channels", seeds(40));
    run_kind(&(Kind){ SMALL, .bulk = 2, .preempt = MODEL_PREEMPT_OLD }, "small, bulk, 7.2",
             seeds(4));
    run_kind(&(Kind){ HUGE, .bulk = 2, .preempt = MODEL_PREEMPT_NEW }, "huge, bulk, 8.0",
             seeds(10));
    run_kind(&(Kind){ SMALL, .bulk = 3, .recoveries = 2 }, "small, bulk, recovery", seeds(4));
}

static void bulk_channels_are_cut_and_go_on(void **state)
{
    guint64 resumed = 0;

    run_kind(&(Kind){ SMALL, .bulk = 3, .cuts = 20, .resumed = &resumed }, "small, bulk, cuts",
             seeds(2));
    run_kind(&(Kind){ HUGE, .bulk = 3, .cuts = 20, .resumed = &resumed }, "huge, bulk, cuts",
             seeds(8));
    assert_true(resumed > 0);
}

static void pages_that_qemu_sends_twice_are_delivered_once(void **state)
{
    run_kind(&(Kind){ SMALL, .duplicate_percent = 30 }, "small, twice", seeds(2));
    run_kind(&(Kind){ SMALL, .duplicate_percent = 30, .preempt = MODEL_PREEMPT_OLD },
             "small, twice, preempt", seeds(2));
    run_kind(&(Kind){ HUGE, .duplicate_percent = 30, .preempt = MODEL_PREEMPT_NEW },
             "huge, twice, preempt", seeds(10));
}

static void recoveries_go_on_where_they_were(void **state)
{
    run_kind(&(Kind){ SMALL, .recoveries = 3 }, "small, recovery", seeds(2));
    run_kind(&(Kind){ HUGE, .recoveries = 2 }, "huge, recovery", seeds(8));
}

/* A recovery that does not show how large the host pages are is passed on unread, and what comes on
 * QEMU's preempt connection cannot be: that ends the session before anything is lost. */
static void assert_complete_or_refused(const EnginePair *pair, const char *what, guint seed)
{
    const char *failure = engine_pair_failure(pair);

    if (!failure || !strstr(failure, "cannot be passed on"))
        assert_complete(pair, what, seed);
    assert_null(pair->qemu_destination.failure);
}

static void a_recovery_loses_no_page_of_a_preempt_connection(void **state)
{
    Kind kinds[] = {
        { SMALL, .recoveries = 3, .preempt = MODEL_PREEMPT_OLD },
        { SMALL, .recoveries = 3, .preempt = MODEL_PREEMPT_NEW },
        { SMALL, .recoveries = 2, .preempt = MODEL_PREEMPT_NEW, .duplicate_percent = 20 },
    };

    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
        run_kind(&kinds[i], "small, recovery, preempt", seeds(4));
    for (guint seed = 1; seed <= seeds(20); seed++) {
        run_seed(&(Kind){ HUGE, .recoveries = 1, .preempt = MODEL_PREEMPT_OLD }, "huge, 7.2", seed,
                 assert_complete_or_refused);
        run_seed(&(Kind){ HUGE, .recoveries = 1, .preempt = MODEL_PREEMPT_NEW }, "huge, 8.0", seed,
                 assert_complete_or_refused);
    }
}

static CompressWorker *worker_of(guint threads)
{
    const CompressConfig config = { .levels = { { [PAGES_ZSTD] = 1, [PAGES_ZLIB] = 1 } },
                                    .threads = threads,
                                    .reserve = FRAME_HEADER_LEN };

    return compress_worker_new(&config, NULL);
}

static void bulk_channels_take_what_is_compressed(void **state)
{
    g_autoptr(CompressWorker) worker = worker_of(2);

    assert_non_null(worker);
    run_kind(&(Kind){ SMALL, .bulk = 3, .compress = PAGE_COMPRESS_ON, .worker = worker },
             "small, bulk, zstd", seeds(4));
    run_kind(&(Kind){ HUGE, .bulk = 2, .compress = PAGE_COMPRESS_AUTO, .worker = worker },
             "huge, bulk, zstd at times", seeds(20));
    run_kind(&(Kind){ SMALL, .bulk = 3, .cuts = 20, .compress = PAGE_COMPRESS_ON,
                      .worker = worker }, "small, bulk, zstd, cuts", seeds(8));
}

static void compressed_background_pages_arrive(void **state)
{
    g_autoptr(CompressWorker) worker = worker_of(1);

    run_kind(&(Kind){ SMALL, .compress = PAGE_COMPRESS_ON, .worker = worker }, "small, zstd",
             seeds(10));
    run_kind(&(Kind){ SMALL, .compress = PAGE_COMPRESS_AUTO, .worker = worker },
             "small, zstd at times", seeds(10));
    run_kind(&(Kind){ HUGE, .compress = PAGE_COMPRESS_ON, .worker = worker }, "huge, zstd",
             seeds(20));
    run_kind(&(Kind){ HUGE, .compress = PAGE_COMPRESS_AUTO, .worker = worker,
                      .preempt = MODEL_PREEMPT_NEW }, "huge, zstd at times, preempt", seeds(40));
    run_kind(&(Kind){ SMALL, .compress = PAGE_COMPRESS_ON, .worker = worker, .recoveries = 2 },
             "small, zstd, recovery", seeds(10));
}

static void both_sides_count_what_was_compressed_alike(const EnginePair *pair, const char *what,
                                                       guint seed)
{
    RamStats source, destination;

    assert_complete(pair, what, seed);
    engine_get_stats(pair->source.engine, pair->now_us, &source);
    engine_get_stats(pair->destination.engine, pair->now_us, &destination);
    assert_true(source.compressed_frames == destination.compressed_frames);
    assert_true(source.plain_bytes == destination.plain_bytes);
    assert_true(source.encoded_bytes == destination.encoded_bytes);
    assert_int_equal(source.encoding, destination.encoding);
    assert_int_equal(source.encoding, !source.compressed_frames ? PAGES_PLAIN
                                      : pair->setup.methods     ? PAGES_ZLIB
                                                                : PAGES_ZSTD);
}

/* Threads that are through in another order than they began. */
static void compressed_pages_arrive_whatever_method_and_threads(void **state)
{
    static const guint64 methods[] = { 0, SESSION_FEATURE_ZLIB };
    static const guint threads[] = { 1, 2, 7 };

    for (guint i = 0; i < G_N_ELEMENTS(methods) * G_N_ELEMENTS(threads); i++) {
        g_autoptr(CompressWorker) worker = worker_of(threads[i / 2]);
        const Kind kinds[] = {
            { SMALL, .compress = PAGE_COMPRESS_ON, .worker = worker },
            { HUGE, .compress = PAGE_COMPRESS_ON, .worker = worker },
            { HUGE, .compress = PAGE_COMPRESS_AUTO, .worker = worker,
              .preempt = MODEL_PREEMPT_OLD },
            { SMALL, .compress = PAGE_COMPRESS_ON, .worker = worker, .cuts = 20 },
        };

        for (guint k = 0; k < G_N_ELEMENTS(kinds); k++) {
            Kind kind = kinds[k];

            kind.methods = methods[i % 2];
            for (guint seed = 1; seed <= seeds(80); seed++)
                run_seed(&kind, "zstd or zlib, threads", seed * 1000 + i,
                         both_sides_count_what_was_compressed_alike);
        }
    }
}

/* What is left of the pre-copy round has every difference in it, each once and in its place. */
static void assert_differences_are_in_place(const EnginePair *pair, const char *what, guint seed)
{
    const ModelSource *source = &pair->qemu_source;
    const ModelDestination *destination = &pair->qemu_destination;

    assert_complete(pair, what, seed);
    assert_true(source->deltas > 0);
    for (guint i = 0; i < source->guest->n_pages; i++) {
        if (destination->have[i] == MODEL_OLD &&
            source->precopied[i] != destination->precopied[i])
            fail_msg("%s, seed %u: page %u is of generation %u, at the source %u", what, seed, i,
                     destination->precopied[i], source->precopied[i]);
    }
}

static void pages_sent_as_differences_before_the_switch_stay_in_order(void **state)
{
    g_autoptr(CompressWorker) worker = worker_of(2);
    const Kind kinds[] = {
        { SMALL, .delta_percent = 80 },
        { HUGE, .delta_percent = 80 },
        { SMALL, .delta_percent = 80, .preempt = MODEL_PREEMPT_OLD },
        { SMALL, .delta_percent = 80, .preempt = MODEL_PREEMPT_NEW, .cuts = 20 },
        { SMALL, .delta_percent = 80, .compress = PAGE_COMPRESS_ON, .worker = worker,
          .methods = SESSION_FEATURE_ZLIB },
        { SMALL, .delta_percent = 80, .no_lane = TRUE },
        { SMALL, .delta_percent = 80, .recoveries = 2 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        for (guint seed = 1; seed <= seeds(8); seed++)
            run_seed(&kinds[i], "differences", seed * 1000 + i, assert_differences_are_in_place);
    }
}

/* Neither QEMU notices. */
static void cut_connections_lose_no_page_and_place_none_twice(void **state)
{
    g_autoptr(CompressWorker) worker = worker_of(1);
    guint64 resumed = 0;
    guint64 runs = 0;
    const struct {
        Kind kind;
        const char *what;
        guint divisor;
    } rows[] = {
        { { SMALL, .cuts = 20 }, "small, cuts", 2 },
        { { SMALL, .cuts = 200 }, "small, many cuts", 8 },
        { { HUGE, .cuts = 20 }, "huge, cuts", 8 },
        { { GIANT, .cuts = 20 }, "giant, cuts", 40 },
        { { SMALL, .cuts = 20, .preempt = MODEL_PREEMPT_OLD }, "small, cuts, 7.2", 4 },
        { { HUGE, .cuts = 20, .preempt = MODEL_PREEMPT_NEW }, "huge, cuts, 8.0", 20 },
        { { SMALL, .cuts = 20, .recoveries = 2 }, "small, cuts, recovery", 4 },
        { { SMALL, .cuts = 20, .compress = PAGE_COMPRESS_ON, .worker = worker },
          "small, cuts, zstd", 10 },
        { { SMALL, .cuts = 20, .no_lane = TRUE }, "small, cuts, transparent", 4 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        Kind kind = rows[i].kind;

        kind.resumed = &resumed;
        run_kind(&kind, rows[i].what, seeds(rows[i].divisor));
        runs += seeds(rows[i].divisor);
    }
    assert_true(resumed > runs);
}

/* ---- what is not understood ---- */

static void assert_passed_on(const EnginePair *pair, const char *what, guint seed)
{
    const ModelSource *source = &pair->qemu_source;
    const ModelDestination *destination = &pair->qemu_destination;
    guint pages = source->guest->n_pages;

    assert_fine(pair, what, seed);
    if (!engine_pair_is_complete(pair))
        fail_msg("%s, seed %u: stands still", what, seed);
    if (source->foreign->len == 0)
        return; /* it had ended before */
    assert_non_null(engine_warning(pair->source.engine));
    if (source->foreign->len != destination->foreign->len ||
        memcmp(source->foreign->data, destination->foreign->data, source->foreign->len) != 0)
        fail_msg("%s, seed %u: not all bytes came through", what, seed);
    for (guint i = 0; i < pages; i++) {
        if (!source->dirty[i] && !destination->have[i])
            fail_msg("%s, seed %u: page %u was sent before and is missing", what, seed, i);
    }
    if (source->foreign_block >= 0 && source->foreign_block != destination->last_block)
        fail_msg("%s, seed %u: it refers to block %d, the last one was %d", what, seed,
                 source->foreign_block, destination->last_block);
}

/* Where that would do harm, the session ends, and QEMU pauses. */
static void assert_passed_on_or_refused(const EnginePair *pair, const char *what, guint seed)
{
    const char *failure = engine_pair_failure(pair);

    if (failure && strstr(failure, "cannot be passed on")) {
        assert_string_equal(pair->qemu_destination.failure ? pair->qemu_destination.failure : "",
                            "");
        return;
    }
    assert_passed_on(pair, what, seed);
}

static void run_foreign(const Kind *kind, const char *what, guint n)
{
    gboolean harmless = kind->n_blocks == 1 || !kind->in_section;

    for (guint seed = 1; seed <= n; seed++)
        run_seed(kind, what, seed * 1000,
                 harmless && !kind->in_host_page ? assert_passed_on : assert_passed_on_or_refused);
}

static void what_is_not_understood_is_passed_on_after_the_pages(void **state)
{
    run_foreign(&(Kind){ SMALL, .foreign = TRUE }, "small, unknown element", seeds(2));
    run_foreign(&(Kind){ HUGE, .foreign = TRUE }, "huge, unknown element", seeds(10));
    run_foreign(&(Kind){ ONE, .foreign = TRUE, .in_section = TRUE }, "one block, unknown record",
                seeds(4));
    run_foreign(&(Kind){ SMALL, .foreign = TRUE, .in_section = TRUE }, "small, unknown record",
                seeds(4));
    run_foreign(&(Kind){ HUGE, .foreign = TRUE, .in_section = TRUE, .in_host_page = TRUE },
                "huge, unknown record", seeds(10));
}

/* QEMU does not do that. If one did, the page it is a difference to must not come after it. */
static void a_difference_after_the_switch_is_passed_on_after_the_pages(void **state)
{
    run_foreign(&(Kind){ ONE, .foreign = TRUE, .in_section = TRUE, .foreign_delta = TRUE },
                "one block, difference", seeds(4));
    run_foreign(&(Kind){ SMALL, .foreign = TRUE, .in_section = TRUE, .foreign_delta = TRUE },
                "small, difference", seeds(4));
}

static void without_a_preempt_channel_everything_is_passed_on(void **state)
{
    run_kind(&(Kind){ SMALL, .no_lane = TRUE }, "small, transparent", seeds(4));
    run_kind(&(Kind){ HUGE, .no_lane = TRUE, .recoveries = 1 }, "huge, transparent", seeds(20));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_page_comes_once_whatever_the_order),
        cmocka_unit_test(a_preempt_connection_of_qemu_is_served),
        cmocka_unit_test(bulk_channels_carry_pages_once_each),
        cmocka_unit_test(bulk_channels_are_cut_and_go_on),
        cmocka_unit_test(bulk_channels_take_what_is_compressed),
        cmocka_unit_test(pages_that_qemu_sends_twice_are_delivered_once),
        cmocka_unit_test(recoveries_go_on_where_they_were),
        cmocka_unit_test(a_recovery_loses_no_page_of_a_preempt_connection),
        cmocka_unit_test(compressed_background_pages_arrive),
        cmocka_unit_test(compressed_pages_arrive_whatever_method_and_threads),
        cmocka_unit_test(pages_sent_as_differences_before_the_switch_stay_in_order),
        cmocka_unit_test(cut_connections_lose_no_page_and_place_none_twice),
        cmocka_unit_test(what_is_not_understood_is_passed_on_after_the_pages),
        cmocka_unit_test(a_difference_after_the_switch_is_passed_on_after_the_pages),
        cmocka_unit_test(without_a_preempt_channel_everything_is_passed_on),
    };

    cmocka_set_test_filter(g_getenv("ENGINE_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
