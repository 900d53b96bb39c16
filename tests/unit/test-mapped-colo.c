/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Checkpoints between both machines of a mapped session, on real memory: both guests write, each
 * on its own, and after each commit the destination's memory is what the source's was. Then the
 * session is lost, wherever a checkpoint is: the destination goes on with one or the other, never
 * with a bit of both. MAPPED_SEEDS says how many runs. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "ram/mapped/frames.h"
#include "tests/support/mapped-pair.h"

#define PAGE 4096
#define SEEDS 10
#define WAIT_US (60 * G_USEC_PER_SEC)

static const TestRegion regions[] = {
    { "pc.ram", 600, TEST_MEMFD, 0 },
    { "private", 300, TEST_PRIVATE, 0 },
    { "pc.rom", 16, TEST_MEMFD, MEMORY_IGNORED },
};

/* More than is copied in one step. */
static const TestRegion large_regions[] = { { "pc.ram", 6000, TEST_MEMFD, 0 } };

typedef struct {
    TestMemory *source;
    TestMemory *destination;
    MappedPair pair;
    MemoryParams params;
    MemoryParams params_destination;
    MappedSetup setup;
    GRand *rand;
    guint8 **checkpoint; /* by region: the source's memory when it was stopped last */
    guint8 **mine;       /* the destination's, the last time that was looked at */
    guint stops;         /* seen of the source */
    guint runs;          /* seen of the destination */
    guint wanted;
    gboolean many; /* writes */
    gboolean still; /* no more of them at the destination */
} Run;

static gboolean is_moved(const TestMemory *memory, guint region)
{
    return !(memory->maps[region].region->flags & MEMORY_IGNORED);
}

static void copy(const TestMemory *memory, guint8 **to)
{
    for (guint i = 0; i < memory->n; i++)
        memcpy(to[i], memory->maps[i].at, memory->maps[i].length);
}

static gboolean is_same(const TestMemory *memory, guint8 **as)
{
    for (guint i = 0; i < memory->n; i++)
        if (is_moved(memory, i) && memcmp(memory->maps[i].at, as[i], memory->maps[i].length) != 0)
            return FALSE;
    return TRUE;
}

static void write_some(Run *run, TestMemory *memory, guint n)
{
    for (guint i = 0; i < n; i++) {
        guint region = (guint)g_rand_int_range(run->rand, 0, (gint32)memory->n);
        guint pages = (guint)(memory->maps[region].length / PAGE);
        gsize page = (gsize)g_rand_int_range(run->rand, 0, (gint32)pages);
        guint64 words[64] = { 0 };

        if (!is_moved(memory, region))
            continue;
        for (guint k = 0; k < 64 && g_rand_int_range(run->rand, 0, 6) > 0; k++)
            words[k] = g_rand_int(run->rand);
        test_memory_write(memory, region, page * PAGE, words, sizeof words);
    }
}

/* Everything is written to once. */
static void write_all(TestMemory *memory, guint64 what)
{
    for (guint i = 0; i < memory->n; i++)
        for (gsize at = 0; is_moved(memory, i) && at < memory->maps[i].length; at += PAGE) {
            guint64 word = what + at;

            test_memory_write(memory, i, at, &word, sizeof word);
        }
}

static guint8 **new_copy(const TestMemory *memory)
{
    guint8 **made = g_new0(guint8 *, memory->n);

    for (guint i = 0; i < memory->n; i++)
        made[i] = g_malloc0(memory->maps[i].length);
    return made;
}

static void free_copy(const TestMemory *memory, guint8 **made)
{
    for (guint i = 0; made && i < memory->n; i++)
        g_free(made[i]);
    g_free(made);
}

static void set_device(Run *run, guint number)
{
    GByteArray *device = run->pair.source.client->device;
    g_autofree char *text = g_strdup_printf("the devices, %u;", number);

    g_byte_array_set_size(device, 0);
    for (guint i = 0; i < 100; i++)
        g_byte_array_append(device, (const guint8 *)text, (guint)strlen(text));
}

static gboolean has_device(const Run *run, guint number)
{
    g_autofree char *text = g_strdup_printf("the devices, %u;", number);
    const GByteArray *device = run->pair.destination.client->device;

    return device->len == 100 * strlen(text) && memcmp(device->data, text, strlen(text)) == 0;
}

static void run_new(Run *run, const TestRegion *what, guint n, guint32 seed)
{
    *run = (Run){ .rand = g_rand_new_with_seed(seed) };
    run->source = test_memory_new(what, n);
    run->destination = test_memory_new(what, n);
    run->checkpoint = new_copy(run->source);
    run->mine = new_copy(run->source);
    run->params = (MemoryParams){ .downtime_limit_ms = 100, .checkpoints = TRUE };
    run->params_destination = (MemoryParams){ .checkpoints = TRUE };
    run->setup = (MappedSetup){
        .window = 1024 * 1024,
        .most = 8192,
        .features = SESSION_FEATURE_COLO | SESSION_FEATURE_XBZRLE,
        .params = &run->params,
        .params_destination = &run->params_destination,
    };
    write_some(run, run->source, 2000);
    write_some(run, run->destination, 500);
}

static void run_begin(Run *run)
{
    mapped_pair_init(&run->pair, &run->setup, run->source, run->destination, 1);
    set_device(run, 1);
}

static void run_clear(Run *run)
{
    mapped_pair_clear(&run->pair);
    free_copy(run->source, run->checkpoint);
    free_copy(run->source, run->mine);
    test_memory_free(run->source);
    test_memory_free(run->destination);
    g_rand_free(run->rand);
}

/* What both guests do, and whether a commit has made them the same. */
static void live(Run *run)
{
    TestClient *source = run->pair.source.client, *destination = run->pair.destination.client;

    if (source->paused && source->resumes + 1 > run->stops) {
        run->stops = source->resumes + 1;
        copy(run->source, run->checkpoint);
    }
    if (destination->runs > run->runs) {
        run->runs = destination->runs;
        assert_true(is_same(run->destination, run->checkpoint));
        assert_true(has_device(run, run->runs));
    }
    if (!source->paused && !source->ended) {
        write_some(run, run->source, run->many ? 20 : 3);
        set_device(run, run->stops + 1);
        if (mapped_outgoing_state(run->pair.outgoing) == MAPPED_OUT_COLO &&
            run->stops < run->wanted)
            test_client_say(source, MEMORY_EV_CHECKPOINT);
    }
    if (destination->running && !run->still) {
        write_some(run, run->destination, 2);
        copy(run->destination, run->mine);
    }
}

static gboolean until_enough(MappedPair *pair, gpointer data)
{
    Run *run = data;

    live(run);
    return run->runs >= run->wanted && pair->source.client->resumes >= run->wanted;
}

static void make_checkpoints(Run *run, guint n)
{
    run->wanted = n;
    if (!mapped_pair_run(&run->pair, until_enough, run))
        fail_msg("%s; source %s, destination %s, %u checkpoints",
                 mapped_pair_failure(&run->pair) ? mapped_pair_failure(&run->pair) : "stuck",
                 mapped_out_state_name(mapped_outgoing_state(run->pair.outgoing)),
                 mapped_incoming_state_name(mapped_incoming_state(run->pair.incoming)), run->runs);
}

/* ---- as it should be ---- */

static void try_seed(guint32 seed)
{
    RamStats sent, come;
    Run run;

    run_new(&run, regions, G_N_ELEMENTS(regions), seed);
    run.params.xbzrle_cache = g_rand_boolean(run.rand) ? 256 * PAGE : 0;
    run.setup.most = 1u << g_rand_int_range(run.rand, 9, 18);
    run.setup.n_bulk = (guint)g_rand_int_range(run.rand, 0, MAPPED_BULK_MAX + 1);
    if (run.setup.n_bulk > 0)
        run.setup.features |= SESSION_FEATURE_BULK;
    if (g_rand_boolean(run.rand))
        run.setup.features |= SESSION_FEATURE_RUNS;
    run_begin(&run);
    run.pair.cuts_left = g_rand_boolean(run.rand) ? (guint)g_rand_int_range(run.rand, 0, 12) : 0;
    make_checkpoints(&run, 6);
    assert_false(run.pair.source.client->gone_over);
    assert_false(run.pair.source.client->paused);
    assert_true(run.pair.destination.client->running);
    mapped_outgoing_get_stats(run.pair.outgoing, g_get_monotonic_time(), &sent);
    mapped_incoming_get_stats(run.pair.incoming, g_get_monotonic_time(), &come);
    assert_true(sent.checkpoints >= 6 && come.checkpoints >= sent.checkpoints);
    assert_true(come.diverged_pages > 0 && sent.downtime_us > 0);
    run_clear(&run);
}

static void each_commit_makes_the_destination_what_the_source_was(void **state)
{
    const char *text = g_getenv("MAPPED_SEEDS");
    guint seeds = text ? (guint)atoi(text) : SEEDS;

    for (guint32 seed = 1; seed <= seeds; seed++)
        try_seed(seed);
}

static gboolean until_third(MappedPair *pair, gpointer data)
{
    Run *run = data;

    live(run);
    return run->runs >= 3;
}

static void checkpoints_are_made_at_intervals(void **state)
{
    Run run;

    run_new(&run, regions, G_N_ELEMENTS(regions), 1);
    run.params.checkpoint_interval_ms = 30;
    run_begin(&run);
    assert_true(mapped_pair_run(&run.pair, until_third, &run));
    run_clear(&run);
}

/* ---- the session is lost ---- */

/* One turn after the other, so that nothing is passed over. */
static void go_to(Run *run, MappedIncomingState state)
{
    gint64 deadline_us = g_get_monotonic_time() + WAIT_US;

    while (mapped_incoming_state(run->pair.incoming) != state) {
        live(run);
        mapped_pair_turn(&run->pair);
        if (g_get_monotonic_time() > deadline_us)
            fail_msg("never %s", mapped_incoming_state_name(state));
    }
}

/* Two checkpoints are complete; the third is under way when the session is lost. */
static void lose_in(Run *run, MappedIncomingState state, gsize most)
{
    run_begin(run);
    run->many = TRUE;
    make_checkpoints(run, 2);
    run->still = TRUE;
    copy(run->destination, run->mine);
    write_all(run->source, 77);
    run->wanted = 3;
    run->pair.setup.most = (guint)most;
    test_client_say(run->pair.source.client, MEMORY_EV_CHECKPOINT);
    go_to(run, state);
    if (state == MAPPED_INCOMING_FLUSH) {
        /* It has begun, and is not through. */
        mapped_pair_turn(&run->pair);
        assert_int_equal(mapped_incoming_state(run->pair.incoming), MAPPED_INCOMING_FLUSH);
        assert_false(is_same(run->destination, run->mine));
        assert_false(is_same(run->destination, run->checkpoint));
    }
    mapped_pair_lose(&run->pair);
}

/* What holds whatever has been lost. */
static void check_failover(const Run *run)
{
    assert_true(run->pair.destination.client->ended);
    assert_int_equal(run->pair.destination.client->outcome, MEMORY_END_FAILED_OVER);
    assert_true(run->pair.destination.client->running);
    assert_int_equal(run->pair.source.client->outcome, MEMORY_END_FAILED);
    assert_false(run->pair.source.client->paused);
    assert_false(run->pair.source.client->gone_over);
}

static void lose_before_commit(MappedIncomingState state, gsize most)
{
    Run run;

    run_new(&run, regions, G_N_ELEMENTS(regions), 3);
    lose_in(&run, state, most);
    check_failover(&run);
    /* The guest has what it had, down to what it has written itself. */
    assert_true(is_same(run.destination, run.mine));
    assert_true(has_device(&run, 2));
    assert_int_equal(run.pair.destination.client->runs, 2);
    assert_int_equal(run.pair.destination.client->resumes, state == MAPPED_INCOMING_STOP);
    run_clear(&run);
}

static void a_session_lost_between_checkpoints_leaves_the_last(void **state)
{
    Run run;

    run_new(&run, regions, G_N_ELEMENTS(regions), 2);
    run_begin(&run);
    make_checkpoints(&run, 2);
    copy(run.destination, run.mine);
    mapped_pair_lose(&run.pair);
    check_failover(&run);
    assert_true(is_same(run.destination, run.mine));
    assert_true(has_device(&run, 2));
    run_clear(&run);
}

static void a_checkpoint_that_is_not_complete_is_dropped(void **state)
{
    lose_before_commit(MAPPED_INCOMING_CHECKPOINT, 8192);
    lose_before_commit(MAPPED_INCOMING_CHECKPOINT_DEVICE, 512);
}

static void a_guest_that_was_stopped_for_a_commit_goes_on(void **state)
{
    lose_before_commit(MAPPED_INCOMING_STOP, 8192);
}

static void what_has_begun_to_be_copied_is_finished(void **state)
{
    Run run;

    run_new(&run, large_regions, 1, 4);
    run.setup.most = 256 * 1024;
    lose_in(&run, MAPPED_INCOMING_FLUSH, 256 * 1024);
    check_failover(&run);
    assert_true(is_same(run.destination, run.checkpoint));
    assert_true(has_device(&run, 3));
    assert_int_equal(run.pair.destination.client->runs, 3);
    run_clear(&run);
}

static void a_checkpoint_that_is_being_started_counts(void **state)
{
    Run run;

    run_new(&run, regions, G_N_ELEMENTS(regions), 5);
    lose_in(&run, MAPPED_INCOMING_RESTART, 8192);
    check_failover(&run);
    assert_true(is_same(run.destination, run.checkpoint));
    assert_true(has_device(&run, 3));
    run_clear(&run);
}

static void without_a_first_checkpoint_there_is_no_guest(void **state)
{
    static const MappedIncomingState states[] = {
        MAPPED_INCOMING_ADVISE, MAPPED_INCOMING_FILL, MAPPED_INCOMING_FLUSH,
    };

    for (guint i = 0; i < G_N_ELEMENTS(states); i++) {
        Run run;

        run_new(&run, large_regions, 1, 6);
        run.setup.most = 256 * 1024;
        run_begin(&run);
        go_to(&run, states[i]);
        /* It does not stand still while all of the memory is copied over there. */
        assert_int_equal(run.pair.source.client->paused, states[i] == MAPPED_INCOMING_FLUSH);
        mapped_pair_lose(&run.pair);
        assert_int_equal(run.pair.destination.client->outcome, MEMORY_END_FAILED);
        assert_int_equal(run.pair.destination.client->runs, 0);
        assert_int_equal(run.pair.source.client->outcome, MEMORY_END_FAILED);
        assert_false(run.pair.source.client->paused);
        run_clear(&run);
    }
}

/* ---- on purpose ---- */

static gboolean until_ended(MappedPair *pair, gpointer data)
{
    Run *run = data;

    live(run);
    return pair->source.client->ended && pair->destination.client->ended;
}

static void go_to_the_end(Run *run)
{
    mapped_pair_run(&run->pair, until_ended, run);
    mapped_pair_turn(&run->pair);
    mapped_pair_turn(&run->pair);
    assert_true(until_ended(&run->pair, run));
}

static void the_source_can_give_its_guest_up(void **state)
{
    Run run;

    run_new(&run, regions, G_N_ELEMENTS(regions), 7);
    run_begin(&run);
    make_checkpoints(&run, 2);
    test_client_say(run.pair.source.client, MEMORY_EV_FAILOVER);
    go_to_the_end(&run);
    assert_int_equal(run.pair.source.client->outcome, MEMORY_END_COMPLETED);
    assert_true(run.pair.source.client->gone_over);
    assert_int_equal(run.pair.destination.client->outcome, MEMORY_END_FAILED_OVER);
    assert_true(run.pair.destination.client->running);
    assert_true(is_same(run.destination, run.mine));
    run_clear(&run);
}

static void a_source_that_gives_up_in_a_checkpoint_leaves_the_one_before(void **state)
{
    Run run;

    run_new(&run, regions, G_N_ELEMENTS(regions), 8);
    run.setup.n_bulk = 2;
    run.setup.features |= SESSION_FEATURE_BULK;
    run_begin(&run);
    make_checkpoints(&run, 2);
    write_all(run.source, 5);
    test_client_say(run.pair.source.client, MEMORY_EV_CHECKPOINT);
    run.wanted = 3;
    go_to(&run, MAPPED_INCOMING_CHECKPOINT);
    test_client_say(run.pair.source.client, MEMORY_EV_FAILOVER);
    go_to_the_end(&run);
    assert_int_equal(run.pair.source.client->outcome, MEMORY_END_COMPLETED);
    assert_int_equal(run.pair.destination.client->outcome, MEMORY_END_FAILED_OVER);
    assert_int_equal(run.pair.destination.client->runs, 2);
    assert_true(is_same(run.destination, run.mine));
    run_clear(&run);
}

static void the_destination_can_go_on_alone(void **state)
{
    Run run;

    run_new(&run, regions, G_N_ELEMENTS(regions), 9);
    run_begin(&run);
    make_checkpoints(&run, 2);
    test_client_say(run.pair.destination.client, MEMORY_EV_FAILOVER);
    go_to_the_end(&run);
    assert_int_equal(run.pair.destination.client->outcome, MEMORY_END_FAILED_OVER);
    assert_true(run.pair.destination.client->running);
    assert_int_equal(run.pair.source.client->outcome, MEMORY_END_CANCELLED);
    run_clear(&run);
}

static void a_cancel_leaves_the_guest_at_the_source_alone(void **state)
{
    Run run;

    run_new(&run, regions, G_N_ELEMENTS(regions), 10);
    run_begin(&run);
    make_checkpoints(&run, 1);
    test_client_say(run.pair.source.client, MEMORY_EV_CANCEL);
    go_to_the_end(&run);
    assert_int_equal(run.pair.source.client->outcome, MEMORY_END_CANCELLED);
    assert_int_equal(run.pair.destination.client->outcome, MEMORY_END_CANCELLED);
    assert_false(run.pair.source.client->paused);
    assert_false(run.pair.source.client->gone_over);
    run_clear(&run);
}

static void a_spare_that_fails_is_none(void **state)
{
    Run run;

    run_new(&run, regions, G_N_ELEMENTS(regions), 11);
    run_begin(&run);
    make_checkpoints(&run, 1);
    run.pair.destination.client->refuses = TRUE;
    test_client_say(run.pair.source.client, MEMORY_EV_CHECKPOINT);
    go_to_the_end(&run);
    assert_int_equal(run.pair.destination.client->outcome, MEMORY_END_FAILED);
    assert_int_equal(run.pair.source.client->outcome, MEMORY_END_FAILED);
    assert_false(run.pair.source.client->paused);
    run_clear(&run);
}

/* ---- what is refused ---- */

static void expect_refusal(Run *run, const char *text)
{
    go_to_the_end(run);
    assert_int_equal(run->pair.source.client->outcome, MEMORY_END_FAILED);
    assert_int_equal(run->pair.destination.client->outcome, MEMORY_END_FAILED);
    if (!strstr(run->pair.source.client->text, text))
        fail_msg("\"%s\" is not in: %s", text, run->pair.source.client->text);
    assert_false(run->pair.source.client->paused);
}

static void both_have_to_want_checkpoints(void **state)
{
    Run run;

    run_new(&run, regions, G_N_ELEMENTS(regions), 12);
    run.setup.params_destination = NULL;
    run_begin(&run);
    expect_refusal(&run, "has not asked for them");
    run_clear(&run);
}

static void both_have_to_know_checkpoints(void **state)
{
    Run run;

    run_new(&run, regions, G_N_ELEMENTS(regions), 13);
    run.setup.features &= ~SESSION_FEATURE_COLO;
    run_begin(&run);
    expect_refusal(&run, "takes no checkpoints");
    run_clear(&run);
}

static void what_the_source_says_too_early_is_refused(void **state)
{
    static const struct {
        MemoryEventType said;
        gboolean checkpoints;
        const char *text;
    } cases[] = {
        { MEMORY_EV_FAILOVER, TRUE, "not expected in state" },
        { MEMORY_EV_CHECKPOINT, FALSE, "do not allow" },
        { MEMORY_EV_START_POSTCOPY, TRUE, "do not allow" },
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        Run run;

        run_new(&run, regions, G_N_ELEMENTS(regions), 14);
        run.params.checkpoints = run.params_destination.checkpoints = cases[i].checkpoints;
        run_begin(&run);
        test_client_say(run.pair.source.client, cases[i].said);
        expect_refusal(&run, cases[i].text);
        run_clear(&run);
    }
}

static void send_phase(Run *run, MappedPhase phase)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    mapped_phase_body_encode(body, phase);
    mapped_pair_send(&run->pair, 0, FRAME_PHASE, body);
}

static void begin_blocks(Run *run)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_autofree guint32 *flags = g_new0(guint32, G_N_ELEMENTS(regions));
    g_autoptr(GError) error = NULL;
    GuestMemory *memory;

    memory = guest_memory_new(run->pair.source.layout, &error);
    assert_non_null(memory);
    for (guint i = 0; i < G_N_ELEMENTS(regions); i++)
        flags[i] = guest_memory_region(memory, i)->flags;
    mapped_blocks_body_encode(body, guest_memory_blocks(memory), flags, MAPPED_BEGINS,
                              FRAME_PAGES_MAX);
    mapped_pair_send(&run->pair, 0, FRAME_BLOCKS, body);
    guest_memory_free(memory);
}

static void begin_script(Run *run)
{
    run->setup.scripted = TRUE;
    run_begin(run);
    begin_blocks(run);
    send_phase(run, MAPPED_PHASE_ADVISE);
}

static void a_source_that_says_it_out_of_order_is_refused(void **state)
{
    static const struct {
        MappedPhase phases[4]; /* 0: the end */
        const char *text;
    } cases[] = {
        { { MAPPED_PHASE_COMMIT }, "PHASE commit of the first checkpoint is not expected" },
        { { MAPPED_PHASE_FAILOVER }, "PHASE failover is not expected in state advise" },
        { { MAPPED_PHASE_CHECKPOINT, MAPPED_PHASE_FAILOVER }, "before the first checkpoint" },
        { { MAPPED_PHASE_CHECKPOINT, MAPPED_PHASE_CHECKPOINT }, "PHASE checkpoint is not expected" },
        { { MAPPED_PHASE_CHECKPOINT, MAPPED_PHASE_RUNNING }, "PHASE running is not expected" },
        { { MAPPED_PHASE_CHECKPOINT, MAPPED_PHASE_DISCARD }, "PHASE discard is not expected" },
        { { MAPPED_PHASE_CHECKPOINT, MAPPED_PHASE_COMMIT, MAPPED_PHASE_COMMIT },
          "PHASE commit is not expected in state colo" },
        { { MAPPED_PHASE_CHECKPOINT, MAPPED_PHASE_COMMIT, MAPPED_PHASE_RUNNING },
          "PHASE running is not expected in state colo" },
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        gint64 deadline_us = g_get_monotonic_time() + WAIT_US;
        Run run;

        run_new(&run, regions, G_N_ELEMENTS(regions), 15);
        begin_script(&run);
        for (guint k = 0; k < 4 && cases[i].phases[k]; k++)
            send_phase(&run, cases[i].phases[k]);
        while (!run.pair.destination.error && g_get_monotonic_time() < deadline_us)
            mapped_pair_turn(&run.pair);
        assert_non_null(run.pair.destination.error);
        if (!strstr(run.pair.destination.error, cases[i].text))
            fail_msg("%u: \"%s\" is not in: %s", i, cases[i].text, run.pair.destination.error);
        run_clear(&run);
    }
}

/* The main channel's frames, and what they are in the table; *_COMMIT: of the one that comes first. */
static const struct {
    FrameType type;
    guint phase;
    MappedIncomingEvent event;
} frames[] = {
    { FRAME_PHASE, MAPPED_PHASE_ADVISE, MAPPED_INCOMING_EV_ADVISE },
    { FRAME_PHASE, MAPPED_PHASE_DISCARD, MAPPED_INCOMING_EV_PHASE_DISCARD },
    { FRAME_PHASE, MAPPED_PHASE_RUNNING, MAPPED_INCOMING_EV_RUNNING },
    { FRAME_PHASE, MAPPED_PHASE_CHECKPOINT, MAPPED_INCOMING_EV_PHASE_CHECKPOINT },
    { FRAME_PHASE, MAPPED_PHASE_COMMIT, MAPPED_INCOMING_EV_COMMIT },
    { FRAME_PHASE, MAPPED_PHASE_FAILOVER, MAPPED_INCOMING_EV_PHASE_FAILOVER },
    { FRAME_DATA, 0, MAPPED_INCOMING_EV_DATA },
    { FRAME_BLOCKS, 0, MAPPED_INCOMING_EV_BLOCKS },
};

static void send_data(Run *run)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    g_byte_array_append(body, (const guint8 *)"devices", 7);
    mapped_pair_send(&run->pair, 0, FRAME_DATA, body);
}

static void settle(Run *run)
{
    for (guint idle = 0; idle < 5 && !run->pair.destination.error;)
        idle = mapped_pair_turn(&run->pair) ? 0 : idle + 1;
}

/* The second checkpoint: there is a guest to go on. */
static void go_to_settled(Run *run, MappedIncomingState state)
{
    begin_script(run);
    send_phase(run, MAPPED_PHASE_CHECKPOINT);
    send_phase(run, MAPPED_PHASE_COMMIT);
    if (state != MAPPED_INCOMING_COLO)
        send_phase(run, MAPPED_PHASE_CHECKPOINT);
    if (state == MAPPED_INCOMING_CHECKPOINT_DEVICE)
        send_data(run);
    settle(run);
    assert_int_equal(mapped_incoming_state(run->pair.incoming), state);
}

static void every_frame_in_every_state_has_a_row_or_is_refused_by_name(void **test)
{
    static const MappedIncomingState states[] = {
        MAPPED_INCOMING_CHECKPOINT, MAPPED_INCOMING_CHECKPOINT_DEVICE, MAPPED_INCOMING_COLO,
    };

    for (guint i = 0; i < G_N_ELEMENTS(states); i++) {
        for (guint k = 0; k < G_N_ELEMENTS(frames); k++) {
            g_autofree char *says = g_strdup_printf("%s is not expected in state %s",
                                                    mapped_incoming_event_name(frames[k].event),
                                                    mapped_incoming_state_name(states[i]));
            MappedIncomingState next;
            Run run;

            run_new(&run, regions, G_N_ELEMENTS(regions), 16);
            go_to_settled(&run, states[i]);
            if (frames[k].type == FRAME_PHASE)
                send_phase(&run, (MappedPhase)frames[k].phase);
            else if (frames[k].type == FRAME_DATA)
                send_data(&run);
            else
                begin_blocks(&run);
            settle(&run);
            if (mapped_incoming_has_row(states[i], frames[k].event, &next))
                assert_null(run.pair.destination.error);
            else if (!run.pair.destination.error || !strstr(run.pair.destination.error, says))
                fail_msg("\"%s\" is not in: %s", says, run.pair.destination.error);
            run_clear(&run);
        }
    }
}

/* While one is made the guest's, what comes after it waits. */
static void what_is_inside_of_a_commit_has_no_frames(void **test)
{
    static const MappedIncomingState inside[] = {
        MAPPED_INCOMING_FILL, MAPPED_INCOMING_STOP, MAPPED_INCOMING_FLUSH, MAPPED_INCOMING_RESTART,
    };
    static const MappedIncomingEvent events[] = {
        MAPPED_INCOMING_EV_FILLED, MAPPED_INCOMING_EV_STOPPED, MAPPED_INCOMING_EV_FLUSHED,
        MAPPED_INCOMING_EV_RESTARTED,
    };
    MappedIncomingState next;

    for (guint i = 0; i < G_N_ELEMENTS(inside); i++)
        for (guint event = 0; event < MAPPED_INCOMING_EVENT_MAX; event++)
            assert_int_equal(mapped_incoming_has_row(inside[i], (MappedIncomingEvent)event, &next),
                             event == events[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_commit_makes_the_destination_what_the_source_was),
        cmocka_unit_test(checkpoints_are_made_at_intervals),
        cmocka_unit_test(a_session_lost_between_checkpoints_leaves_the_last),
        cmocka_unit_test(a_checkpoint_that_is_not_complete_is_dropped),
        cmocka_unit_test(a_guest_that_was_stopped_for_a_commit_goes_on),
        cmocka_unit_test(what_has_begun_to_be_copied_is_finished),
        cmocka_unit_test(a_checkpoint_that_is_being_started_counts),
        cmocka_unit_test(without_a_first_checkpoint_there_is_no_guest),
        cmocka_unit_test(the_source_can_give_its_guest_up),
        cmocka_unit_test(a_source_that_gives_up_in_a_checkpoint_leaves_the_one_before),
        cmocka_unit_test(the_destination_can_go_on_alone),
        cmocka_unit_test(a_cancel_leaves_the_guest_at_the_source_alone),
        cmocka_unit_test(a_spare_that_fails_is_none),
        cmocka_unit_test(both_have_to_want_checkpoints),
        cmocka_unit_test(both_have_to_know_checkpoints),
        cmocka_unit_test(what_the_source_says_too_early_is_refused),
        cmocka_unit_test(a_source_that_says_it_out_of_order_is_refused),
        cmocka_unit_test(every_frame_in_every_state_has_a_row_or_is_refused_by_name),
        cmocka_unit_test(what_is_inside_of_a_commit_has_no_frames),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
