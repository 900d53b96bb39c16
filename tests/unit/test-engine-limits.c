/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What both engines promise when the link is slower than the source QEMU: a page that is waited for
 * passes the staged ones, and what is staged is within its limit. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/support/engine-pair.h"

#define MIB_BYTES (1024 * 1024)
#define GUEST_PAGES 4096
#define LINK_BYTES 4096 /* of the main channel, in a turn */

static const ModelBlock blocks[] = { { "pc.ram", MODEL_PAGE, GUEST_PAGES, 0 } };
static const ModelBlock huge[] = { { "pc.ram", 2 * MIB_BYTES, 8, 90 } };
/* A host page that is larger than the stage and all that may be on top of it. */
static const ModelBlock gigantic[] = { { "pc.ram", 32 * MIB_BYTES, 2, 30 } };

static void pair_init(EnginePair *pair, const ModelGuest *guest, gsize stage, ModelPreempt preempt)
{
    EngineSetup setup = {
        .window = MIB_BYTES,
        .stage = stage,
        .preempt = preempt,
        .qemu_buffer = 64 * 1024,
        .most = 64 * 1024,
    };

    engine_pair_init(pair, &setup, guest, 7);
    pair->qemu_destination.vcpus = MODEL_FAULTS_MAX;
}

/* Everything is fast but the main channel of the source. */
static gboolean slow_turn(EnginePair *pair)
{
    gboolean moved = FALSE;

    for (guint i = 0; i < 16; i++)
        moved |= engine_pair_step(pair, STEP_QEMU_WRITE, 0);
    for (guint step = 0; step < STEP_MAX; step++)
        moved |= engine_pair_step(pair, step,
                                  step == STEP_SEND ? LINK_BYTES : pair->setup.most);
    pair->now_us += 100;
    if (engine_pair_failure(pair))
        fail_msg("%s", engine_pair_failure(pair));
    return moved;
}

static RamStats source_stats(const EnginePair *pair)
{
    RamStats stats;

    engine_get_stats(pair->source.engine, pair->now_us, &stats);
    return stats;
}

static void fill_stage(EnginePair *pair, gsize bytes)
{
    while (!pair->qemu_destination.listening || source_stats(pair).stage_bytes < bytes) {
        if (!slow_turn(pair))
            fail_msg("the stage does not fill");
    }
}

/* How many pages were placed from the request on, up to the one that was asked for. */
static guint pages_until_answer(EnginePair *pair)
{
    ModelDestination *qemu = &pair->qemu_destination;
    guint page, before = qemu->placed[MODEL_MAIN] + qemu->placed[MODEL_URGENT];

    if (!model_destination_find_absent(qemu, &page))
        fail_msg("nothing to ask for");
    model_destination_fault(qemu, page);
    while (qemu->n_faults > 0) {
        if (!slow_turn(pair))
            fail_msg("the request is not answered");
    }
    return qemu->placed[MODEL_MAIN] + qemu->placed[MODEL_URGENT] - before;
}

static void finish(EnginePair *pair)
{
    engine_pair_run(pair, NULL);
    if (engine_pair_failure(pair))
        fail_msg("%s", engine_pair_failure(pair));
    assert_true(engine_pair_is_complete(pair));
}

static void a_staged_page_that_is_waited_for_passes_the_others(void **state)
{
    ModelGuest guest;
    g_auto(EnginePair) pair;

    model_guest_init(&guest, blocks, 1, 1);
    pair_init(&pair, &guest, 64 * MIB_BYTES, MODEL_PREEMPT_NONE);
    fill_stage(&pair, 4 * MIB_BYTES);
    for (guint i = 0; i < 100; i++)
        assert_in_range(pages_until_answer(&pair), 1, 20);
    assert_in_range(source_stats(&pair).requests_staged, 50, 100);
    assert_in_range(source_stats(&pair).pages_urgent, 90, 100);
    finish(&pair);
}

/* It comes behind what QEMU's socket holds, and passes the stage. */
static void a_page_that_is_not_staged_passes_the_stage(void **state)
{
    ModelGuest guest;
    g_auto(EnginePair) pair;

    model_guest_init(&guest, blocks, 1, 1);
    pair_init(&pair, &guest, 2 * MIB_BYTES, MODEL_PREEMPT_NONE);
    fill_stage(&pair, 2 * MIB_BYTES);
    for (guint i = 0; i < 100; i++)
        assert_in_range(pages_until_answer(&pair), 1, 20);
    assert_in_range(source_stats(&pair).requests_asked, 50, 100);
    finish(&pair);
}

static void qemus_preempt_connection_passes_the_stage(void **state)
{
    ModelGuest guest;
    g_auto(EnginePair) pair;

    model_guest_init(&guest, blocks, 1, 1);
    pair_init(&pair, &guest, 2 * MIB_BYTES, MODEL_PREEMPT_NEW);
    fill_stage(&pair, 2 * MIB_BYTES);
    for (guint i = 0; i < 100; i++)
        assert_in_range(pages_until_answer(&pair), 1, 20);
    finish(&pair);
    assert_in_range(pair.qemu_destination.placed[MODEL_URGENT], 50, GUEST_PAGES);
}

/* One huge page on the preempt channel, beside at most one under way on the other. */
static void a_huge_page_that_is_waited_for_passes_the_others(void **state)
{
    ModelGuest guest;
    g_auto(EnginePair) pair;

    model_guest_init(&guest, huge, 1, 1);
    pair_init(&pair, &guest, 64 * MIB_BYTES, MODEL_PREEMPT_NONE);
    fill_stage(&pair, MIB_BYTES);
    assert_in_range(pages_until_answer(&pair), 512, 2 * 512);
    finish(&pair);
}

static void the_stage_keeps_its_limit(void **state)
{
    ModelGuest guest;
    g_auto(EnginePair) pair;

    model_guest_init(&guest, blocks, 1, 1);
    pair_init(&pair, &guest, 2 * MIB_BYTES, MODEL_PREEMPT_NONE);
    while (slow_turn(&pair) && !engine_pair_is_complete(&pair))
        ;
    assert_true(engine_pair_is_complete(&pair));
    /* What one read from QEMU brings more. */
    assert_in_range(pair.stage_high, 2 * MIB_BYTES - 64 * 1024, 2 * MIB_BYTES + 80 * 1024);
}

static void a_host_page_larger_than_the_stage_goes_through(void **state)
{
    ModelGuest guest;
    g_auto(EnginePair) pair;

    model_guest_init(&guest, gigantic, 1, 1);
    pair_init(&pair, &guest, MIB_BYTES, MODEL_PREEMPT_NONE);
    finish(&pair);
    assert_in_range(pair.stage_high, MIB_BYTES, 33 * MIB_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_staged_page_that_is_waited_for_passes_the_others),
        cmocka_unit_test(a_page_that_is_not_staged_passes_the_stage),
        cmocka_unit_test(qemus_preempt_connection_passes_the_stage),
        cmocka_unit_test(a_huge_page_that_is_waited_for_passes_the_others),
        cmocka_unit_test(the_stage_keeps_its_limit),
        cmocka_unit_test(a_host_page_larger_than_the_stage_goes_through),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
