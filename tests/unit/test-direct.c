/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pages that are read from the source QEMU's memory: two engines between two model QEMUs, the first
 * of which has its guest's memory in this process, where it is read by /proc/self/mem. In the
 * environment: ENGINE_SEEDS, how many random runs in all. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/engine-pair.h"

#define KIB 1024
#define MIB (1024 * 1024)
#define SEEDS 24

static const ModelBlock small_blocks[] = {
    { "pc.rom", 4 * KIB, 32, 10 },
    { "pc.ram", 4 * KIB, 2048, 20 },
    { "vga.vram", 4 * KIB, 1024, 60 },
};
static const ModelBlock huge_blocks[] = {
    { "huge", 2 * MIB, 5, 70 },
    { "pc.ram", 4 * KIB, 1024, 20 },
};
/* The second cannot be told from zeros. */
static const ModelBlock empty_blocks[] = {
    { "pc.ram", 4 * KIB, 2048, 20 },
    { "empty", 4 * KIB, 1024, 100 },
};

/* ---- the memory ---- */

typedef struct {
    EnginePair pair; /* first: what a run's function is given */
    ModelGuest guest;
    guint8 *block[MODEL_BLOCKS_MAX];
    guint8 *decoy[MODEL_BLOCKS_MAX]; /* of the same size, with something else in it */
    guint8 *dirty; /* release: as the source had it last */
} World;

static gsize block_len(const ModelBlock *b)
{
    return b->host_page * b->host_pages;
}

static guint8 *map(gsize len)
{
    guint8 *at = mmap(NULL, len + 2 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    guint8 *aligned = at + MIB - (gsize)at % MIB;

    assert_true(at != MAP_FAILED);
    assert_int_equal(mprotect(aligned, len, PROT_READ | PROT_WRITE), 0);
    return aligned;
}

static void fill_page(const ModelGuest *guest, guint page, guint8 *at)
{
    guint8 buf[MODEL_RECORD_MAX];
    QemuPage record;

    model_guest_record(guest, page, MODEL_NEW, buf, &record);
    if (record.kind == QEMU_PAGE_ZERO)
        memset(at, record.fill, MODEL_PAGE);
    else
        memcpy(at, record.data, MODEL_PAGE);
}

static void fill_block(World *w, guint i)
{
    const ModelGuest *guest = &w->guest;
    gsize len = block_len(&guest->blocks[i]);

    w->block[i] = map(len);
    w->decoy[i] = map(len);
    memset(w->decoy[i], 7, len);
    for (gsize at = 0; at < len; at += MODEL_PAGE)
        fill_page(guest, guest->first[i] + (guint)(at / MODEL_PAGE), w->block[i] + at);
}

static void world_init(World *w, const ModelBlock *blocks, guint n, guint seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    EngineSetup setup = {
        .window = g_rand_boolean(rand) ? FRAME_PAGES_MAX : MIB,
        .stage = g_rand_boolean(rand) ? 100 * KIB : 64 * MIB,
        .qemu_buffer = g_rand_boolean(rand) ? 16 * KIB : 200 * KIB,
        .most = 100 * KIB,
    };

    memset(w, 0, sizeof *w);
    model_guest_init(&w->guest, blocks, n, seed);
    engine_pair_init(&w->pair, &setup, &w->guest, seed);
    for (guint i = 0; i < n; i++)
        fill_block(w, i);
    w->pair.qemu_source.precopy_pages = g_rand_int_range(rand, 0, 300);
    w->pair.qemu_destination.requests_left = g_rand_int_range(rand, 0, 200);
    w->pair.qemu_destination.vcpus = g_rand_int_range(rand, 1, MODEL_FAULTS_MAX);
}

static void world_clear(World *w)
{
    engine_pair_clear(&w->pair);
    for (guint i = 0; i < w->guest.n_blocks; i++) {
        gsize len = block_len(&w->guest.blocks[i]);

        munmap(w->block[i], len);
        munmap(w->decoy[i], len);
    }
    g_free(w->dirty);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(World, world_clear)

static gint by_start(gconstpointer a, gconstpointer b)
{
    const MemoryRange *x = a, *y = b;

    return x->start < y->start ? -1 : x->start > y->start;
}

/* with: the blocks themselves; the decoys are always among it. */
static void offer(World *w, gboolean with)
{
    g_autoptr(GArray) ranges = g_array_new(FALSE, FALSE, sizeof(MemoryRange));
    GError *error = NULL;

    for (guint i = 0; i < w->guest.n_blocks; i++) {
        guint64 len = block_len(&w->guest.blocks[i]);
        MemoryRange real = { (guintptr)w->block[i], (guintptr)w->block[i] + len };
        MemoryRange decoy = { (guintptr)w->decoy[i], (guintptr)w->decoy[i] + len };

        g_array_append_val(ranges, decoy);
        if (with)
            g_array_append_val(ranges, real);
    }
    g_array_sort(ranges, by_start);
    if (!engine_set_memory(w->pair.source.engine, open("/proc/self/mem", O_RDONLY | O_CLOEXEC),
                           (MemoryRange *)ranges->data, ranges->len, &error))
        fail_msg("%s", error->message);
}

/* ---- what must be at the end ---- */

static void assert_complete(World *w, guint seed, RamStats *ret_stats)
{
    const char *failure = engine_pair_failure(&w->pair);

    if (failure)
        fail_msg("seed %u: %s", seed, failure);
    if (!engine_pair_is_complete(&w->pair))
        fail_msg("seed %u: stands still: %s, %s; %u faults, %u dirty", seed,
                 engine_phase(w->pair.source.engine), engine_phase(w->pair.destination.engine),
                 w->pair.qemu_destination.n_faults, w->pair.qemu_source.n_dirty);
    assert_int_equal(w->pair.qemu_destination.n_faults, 0);
    engine_get_stats(w->pair.source.engine, w->pair.now_us, ret_stats);
    assert_int_equal(ret_stats->requests_outstanding, 0);
    assert_int_equal(ret_stats->stage_bytes, 0);
    assert_int_equal(ret_stats->ram_remaining_bytes, 0);
}

static const char *reading(const World *w)
{
    const char *why;

    return direct_state_name(engine_direct_state(w->pair.source.engine, &why));
}

static guint seeds(guint divisor)
{
    const char *text = g_getenv("ENGINE_SEEDS");

    return MAX((text ? (guint)atoi(text) : SEEDS) / divisor, 1);
}

static void runs_through(const ModelBlock *blocks, guint n, guint seed)
{
    g_auto(World) w;
    RamStats stats;

    world_init(&w, blocks, n, seed);
    offer(&w, TRUE);
    engine_pair_run(&w.pair, NULL);
    assert_complete(&w, seed, &stats);
    assert_string_equal(reading(&w), "reading");
    assert_in_range(stats.pages_read, 1, w.guest.n_pages);
    assert_int_equal(stats.pages_read, stats.pages_dropped);
    assert_int_equal(stats.duplicates, 0);
}

static void what_is_proved_is_read_and_all_arrives_once(void **state)
{
    for (guint seed = 1; seed <= seeds(1); seed++)
        runs_through(small_blocks, G_N_ELEMENTS(small_blocks), seed);
}

static void huge_pages_are_read_whole(void **state)
{
    for (guint seed = 1; seed <= seeds(4); seed++)
        runs_through(huge_blocks, G_N_ELEMENTS(huge_blocks), seed);
}

static void a_block_of_zeros_proves_nothing(void **state)
{
    g_auto(World) w;
    RamStats stats;

    world_init(&w, empty_blocks, G_N_ELEMENTS(empty_blocks), 3);
    offer(&w, TRUE);
    engine_pair_run(&w.pair, NULL);
    assert_complete(&w, 3, &stats);
    assert_in_range(stats.pages_read, 1, 2048);
}

static void wrong_candidates_are_never_read(void **state)
{
    for (guint seed = 1; seed <= seeds(4); seed++) {
        g_auto(World) w;
        RamStats stats;

        world_init(&w, small_blocks, G_N_ELEMENTS(small_blocks), seed);
        offer(&w, FALSE);
        engine_pair_run(&w.pair, NULL);
        assert_complete(&w, seed, &stats);
        assert_string_equal(reading(&w), "unproved");
        assert_int_equal(stats.pages_read, 0);
    }
}

/* ---- memory that goes away ---- */

static gboolean is_reading(EnginePair *pair)
{
    RamStats stats;

    engine_get_stats(pair->source.engine, pair->now_us, &stats);
    return stats.pages_read > 0;
}

/* A file without a byte stands there: nothing else of this process can come to. */
static void take_away(guint8 *at, gsize len)
{
    int fd = memfd_create("nothing", MFD_CLOEXEC);

    assert_true(mmap(at, len, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == at);
    close(fd);
}

static void a_read_that_fails_falls_back_to_the_stream(void **state)
{
    guint failed = 0;

    for (guint seed = 1; seed <= seeds(1); seed++) {
        g_auto(World) w;
        RamStats stats;

        world_init(&w, small_blocks, G_N_ELEMENTS(small_blocks), seed);
        offer(&w, TRUE);
        engine_pair_run(&w.pair, is_reading);
        for (guint i = 0; i < w.guest.n_blocks; i++)
            take_away(w.block[i], block_len(&w.guest.blocks[i]));
        engine_pair_run(&w.pair, NULL);
        assert_complete(&w, seed, &stats);
        failed += g_str_equal(reading(&w), "failed");
    }
    /* In the others what was still to be read had been read ahead, or came on the stream. */
    assert_in_range(failed, 1, seeds(1));
}

/* release-ram: what QEMU has written is not in its memory any more. */
static gboolean release_what_was_written(EnginePair *pair)
{
    World *w = (World *)pair;
    const ModelSource *source = &pair->qemu_source;

    if (source->phase < MODEL_POSTCOPY)
        return FALSE;
    if (!w->dirty) {
        w->dirty = g_memdup(source->dirty, w->guest.n_pages);
        return FALSE;
    }
    for (guint i = 0; i < w->guest.n_pages; i++) {
        guint block = model_guest_block_of(&w->guest, i);

        if (w->dirty[i] && !source->dirty[i])
            memset(w->block[block] + model_guest_offset(&w->guest, i), 0, MODEL_PAGE);
        w->dirty[i] = source->dirty[i];
    }
    return FALSE;
}

static void memory_that_is_given_back_as_it_is_sent_is_never_read(void **state)
{
    for (guint seed = 1; seed <= seeds(8); seed++) {
        g_auto(World) w;
        RamStats stats;

        world_init(&w, small_blocks, G_N_ELEMENTS(small_blocks), seed);
        offer(&w, TRUE);
        engine_pair_run(&w.pair, release_what_was_written);
        assert_complete(&w, seed, &stats);
        assert_int_equal(stats.pages_read, 0);
        assert_string_equal(reading(&w), "unproved");
    }
}

/* ---- recovery ---- */

/* What the destination lacks may be what the source has not got, either: nothing is read unasked. */
static void a_recovery_proves_again_and_reads_what_is_asked_for(void **state)
{
    guint64 read = 0;
    guint proved = 0;

    for (guint seed = 1; seed <= seeds(1); seed++) {
        g_auto(World) w;
        RamStats stats;

        world_init(&w, small_blocks, G_N_ELEMENTS(small_blocks), seed);
        offer(&w, TRUE);
        engine_pair_run(&w.pair, is_reading);
        assert_null(engine_pair_failure(&w.pair));
        engine_pair_recover(&w.pair);
        offer(&w, TRUE);
        engine_pair_run(&w.pair, NULL);
        assert_complete(&w, seed, &stats);
        assert_in_range(stats.pages_read, 0, stats.requests);
        read += stats.pages_read;
        proved += g_str_equal(reading(&w), "reading");
    }
    assert_in_range(proved, 1, seeds(1));
    assert_true(read > 0 || seeds(1) < SEEDS);
}

/* ---- what is not understood ---- */

static void send_foreign(World *w)
{
    ModelSource *source = &w->pair.qemu_source;

    g_byte_array_set_size(source->foreign, 0);
    source->foreign_between = TRUE;
    source->foreign_at = source->sent + 1;
}

static gboolean ends_at_foreign(World *w, guint seed)
{
    const char *failure;

    send_foreign(w);
    engine_pair_run(&w->pair, NULL);
    failure = engine_pair_failure(&w->pair);
    if (w->pair.qemu_source.foreign->len == 0)
        return FALSE; /* it had sent all before */
    if (!failure || !strstr(failure, "cannot be passed on"))
        fail_msg("seed %u: %s", seed, failure ? failure : "no failure");
    assert_string_equal(reading(w), "failed");
    return TRUE;
}

static void assert_passed_on(World *w, guint seed)
{
    const GByteArray *sent = w->pair.qemu_source.foreign;
    const GByteArray *came = w->pair.qemu_destination.foreign;
    const char *failure = engine_pair_failure(&w->pair);

    if (failure)
        fail_msg("seed %u: %s", seed, failure);
    if (!engine_pair_is_complete(&w->pair))
        fail_msg("seed %u: stands still", seed);
    assert_int_equal(came->len, sent->len);
    assert_memory_equal(came->data, sent->data, sent->len);
}

/* The source comes to the same in the recovery, whose helper has not been given the memory. */
static void what_is_not_understood_after_reading_is_passed_on_by_a_recovery(void **state)
{
    guint ended = 0;

    for (guint seed = 1; seed <= seeds(1); seed++) {
        g_auto(World) w;

        world_init(&w, small_blocks, G_N_ELEMENTS(small_blocks), seed);
        offer(&w, TRUE);
        engine_pair_run(&w.pair, is_reading);
        if (!ends_at_foreign(&w, seed))
            continue;
        ended++;
        engine_pair_recover(&w.pair);
        send_foreign(&w);
        engine_pair_run(&w.pair, NULL);
        assert_passed_on(&w, seed);
        assert_string_equal(reading(&w), "off");
    }
    assert_in_range(ended, 1, seeds(1));
}

/* Before anything was read that is no more than a stream that goes on unread. */
static void what_is_not_understood_before_reading_is_passed_on(void **state)
{
    for (guint seed = 1; seed <= seeds(4); seed++) {
        g_auto(World) w;

        world_init(&w, small_blocks, G_N_ELEMENTS(small_blocks), seed);
        offer(&w, FALSE);
        send_foreign(&w);
        engine_pair_run(&w.pair, NULL);
        assert_passed_on(&w, seed);
        assert_string_not_equal(reading(&w), "failed");
    }
}

/* ---- requests ---- */

static void what_is_asked_for_is_read_and_not_asked_of_qemu(void **state)
{
    g_auto(World) w;
    RamStats before, stats;

    world_init(&w, small_blocks, 2, 5);
    w.pair.qemu_destination.requests_left = 0;
    offer(&w, TRUE);
    engine_pair_run(&w.pair, is_reading);
    engine_get_stats(w.pair.source.engine, w.pair.now_us, &before);
    w.pair.qemu_destination.requests_left = 100;
    engine_pair_run(&w.pair, NULL);
    assert_complete(&w, 5, &stats);
    assert_in_range(stats.requests_read, 1, 100);
    /* But of the block that is too small to be proved. */
    assert_in_range(stats.requests_asked, 0, w.guest.blocks[0].host_pages);
}

/* The memory is there once. */
static void it_can_be_offered_once(void **state)
{
    MemoryRange range = { 4096, 8192 };
    g_autoptr(GError) error = NULL;
    g_auto(World) w;

    world_init(&w, small_blocks, 2, 5);
    offer(&w, TRUE);
    assert_false(engine_set_memory(w.pair.source.engine, open("/proc/self/mem", O_RDONLY),
                                   &range, 1, &error));
    assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_STATE));
    g_clear_error(&error);
    assert_false(engine_set_memory(w.pair.destination.engine, open("/proc/self/mem", O_RDONLY),
                                   &range, 1, &error));
}

static void ranges_that_cannot_be_are_refused(void **state)
{
    static const struct {
        MemoryRange ranges[2];
        gsize n;
    } rows[] = {
        { { { 4096, 4096 } }, 1 },
        { { { 8192, 4096 } }, 1 },
        { { { 4096, 8191 } }, 1 },
        { { { 4097, 8192 } }, 1 },
        { { { 4096, 12288 }, { 8192, 16384 } }, 2 },
        { { { 0, G_MAXUINT64 - 4095 } }, 1 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        assert_false(memory_ranges_check(rows[i].ranges, rows[i].n, &error));
        assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_INVALID));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_proved_is_read_and_all_arrives_once),
        cmocka_unit_test(huge_pages_are_read_whole),
        cmocka_unit_test(a_block_of_zeros_proves_nothing),
        cmocka_unit_test(wrong_candidates_are_never_read),
        cmocka_unit_test(a_read_that_fails_falls_back_to_the_stream),
        cmocka_unit_test(memory_that_is_given_back_as_it_is_sent_is_never_read),
        cmocka_unit_test(a_recovery_proves_again_and_reads_what_is_asked_for),
        cmocka_unit_test(what_is_not_understood_after_reading_is_passed_on_by_a_recovery),
        cmocka_unit_test(what_is_not_understood_before_reading_is_passed_on),
        cmocka_unit_test(what_is_asked_for_is_read_and_not_asked_of_qemu),
        cmocka_unit_test(it_can_be_offered_once),
        cmocka_unit_test(ranges_that_cannot_be_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
