/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Checkpoints: a guest that runs on two hosts, with its memory in memfds, and the cache between
 * them. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ram/bitmap.h"
#include "ram/mapped/colo_cache.h"
#include "ram/mapped/pagemap_log.h"
#include "ram/xbzrle_encoder.h"
#include "tests/support/mapped-memory.h"

#define PAGE 4096
#define PAGES 512
#define BYTES (PAGES * PAGE)
#define BLOCKS 3 /* the last one is ignored */

/* ---- a log of what the destination's guest writes ---- */

typedef struct {
    DirtyLog base;
    Bitmap *written[BLOCKS];
} WriteLog;

static gboolean log_collect(DirtyLog *base, guint block, DirtyLogNote note, gpointer data,
                            GError **error)
{
    WriteLog *log = (WriteLog *)base;

    (void)error;
    for (guint64 page = bitmap_next(log->written[block], 0); page < PAGES;
         page = bitmap_next(log->written[block], page + 1))
        note(block, page, 1, data);
    return TRUE;
}

static gboolean log_clear(DirtyLog *base, guint block, guint64 first, guint64 n, DirtyLogNote note,
                          gpointer data, GError **error)
{
    WriteLog *log = (WriteLog *)base;

    (void)note;
    (void)data;
    (void)error;
    bitmap_clear_range(log->written[block], first, n);
    return TRUE;
}

static void log_free(DirtyLog *base)
{
    WriteLog *log = (WriteLog *)base;

    for (guint i = 0; i < BLOCKS; i++)
        bitmap_free(log->written[i]);
    g_free(log);
}

static const DirtyLogOps log_ops = {
    .collect = log_collect,
    .clear = log_clear,
    .free = log_free,
};

static WriteLog *write_log_new(void)
{
    WriteLog *log = g_new0(WriteLog, 1);

    log->base.ops = &log_ops;
    for (guint i = 0; i < BLOCKS; i++)
        log->written[i] = bitmap_new(PAGES);
    return log;
}

/* ---- both hosts ---- */

typedef struct {
    guint8 *primary[BLOCKS];   /* the source's guest */
    guint8 *sent[BLOCKS];      /* as of the checkpoint under way */
    guint8 *secondary[BLOCKS]; /* the destination's guest, its own mapping */
    MemoryLayout *layout;
    GuestMemory *memory;
    WriteLog *log;
    ColoCache *cache;
    GRand *rand;
} Hosts;

static void make_region(Hosts *hosts, guint i)
{
    MemoryRegion *region = &hosts->layout->regions[i];

    region->name = g_strdup_printf("ram%u", i);
    region->length = BYTES;
    region->page_size = PAGE;
    region->flags = MEMORY_MIGRATABLE | (i == BLOCKS - 1 ? MEMORY_IGNORED : 0);
    region->address = G_GUINT64_CONSTANT(0x100000000) * (i + 1);
    region->fd = memfd_create(region->name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(region->fd >= 0 && ftruncate(region->fd, BYTES) == 0);
    assert_int_equal(fcntl(region->fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    hosts->secondary[i] = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, region->fd, 0);
    assert_true(hosts->secondary[i] != MAP_FAILED);
    hosts->primary[i] = g_malloc0(BYTES);
    hosts->sent[i] = g_malloc0(BYTES);
}

static void scribble(Hosts *hosts, guint8 *page)
{
    switch (g_rand_int_range(hosts->rand, 0, 3)) {
    case 0:
        memset(page, 0, PAGE);
        return;
    case 1:
        page[g_rand_int_range(hosts->rand, 0, PAGE)] = (guint8)g_rand_int(hosts->rand);
        return;
    default:
        for (gsize i = 0; i < PAGE; i++)
            page[i] = (guint8)g_rand_int(hosts->rand);
    }
}

/* Both guests are the same, and some of their pages have never been touched. */
static Hosts *hosts_new(guint32 seed)
{
    Hosts *hosts = g_new0(Hosts, 1);

    hosts->rand = g_rand_new_with_seed(seed);
    hosts->layout = memory_layout_new(BLOCKS);
    hosts->layout->target_page = PAGE;
    for (guint i = 0; i < BLOCKS; i++) {
        make_region(hosts, i);
        for (guint page = 0; page < PAGES; page++) {
            if (page / 64 % 2 != 0)
                continue;
            scribble(hosts, hosts->primary[i] + page * PAGE);
            memcpy(hosts->secondary[i] + page * PAGE, hosts->primary[i] + page * PAGE, PAGE);
        }
        memcpy(hosts->sent[i], hosts->primary[i], BYTES);
    }
    hosts->memory = guest_memory_new(hosts->layout, NULL);
    assert_non_null(hosts->memory);
    hosts->log = write_log_new();
    hosts->cache = colo_cache_new(hosts->memory, &hosts->log->base, NULL);
    assert_non_null(hosts->cache);
    return hosts;
}

static void hosts_free(Hosts *hosts)
{
    colo_cache_free(hosts->cache);
    dirty_log_free(&hosts->log->base);
    guest_memory_free(hosts->memory);
    memory_layout_free(hosts->layout);
    for (guint i = 0; i < BLOCKS; i++) {
        munmap(hosts->secondary[i], BYTES);
        g_free(hosts->primary[i]);
        g_free(hosts->sent[i]);
    }
    g_rand_free(hosts->rand);
    g_free(hosts);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Hosts, hosts_free)

static void fill(Hosts *hosts)
{
    gboolean done = FALSE;
    guint steps = 0;

    while (!done) {
        assert_true(colo_cache_fill(hosts->cache, 128 * 1024, &done, NULL));
        steps++;
    }
    assert_true(steps > 4);
    assert_int_equal(colo_cache_state(hosts->cache), COLO_CACHE_LOADING);
}

static void flush(Hosts *hosts)
{
    gboolean done = FALSE;

    while (!done)
        assert_true(colo_cache_flush(hosts->cache, 16 * PAGE, &done, NULL));
}

/* The destination's guest goes its own way. */
static void diverge(Hosts *hosts, guint n)
{
    while (n-- > 0) {
        guint block = (guint)g_rand_int_range(hosts->rand, 0, BLOCKS);
        guint page = (guint)g_rand_int_range(hosts->rand, 0, PAGES);

        scribble(hosts, hosts->secondary[block] + page * PAGE);
        bitmap_set(hosts->log->written[block], page);
    }
}

static void load(Hosts *hosts, guint block, guint page, QemuPageKind kind, const guint8 *data,
                 gsize len)
{
    QemuPage record = { .block = block,
                        .offset = page * (guint64)PAGE,
                        .kind = kind,
                        .data = data,
                        .data_len = len };

    assert_true(colo_cache_load(hosts->cache, &record, NULL));
}

/* The source's guest writes a page, and it goes over: as a difference, as zeros, or as it is. */
static void write_and_send(Hosts *hosts, guint block, guint page)
{
    guint8 *now = hosts->primary[block] + page * PAGE;
    guint8 *was = hosts->sent[block] + page * PAGE;
    guint8 delta[PAGE];
    gsize len;

    scribble(hosts, now);
    if (now[0] == 0 && memcmp(now, now + 1, PAGE - 1) == 0)
        load(hosts, block, page, QEMU_PAGE_ZERO, NULL, 0);
    else if (xbzrle_encode(was, now, PAGE, delta, PAGE - 1, &len) == XBZRLE_DELTA)
        load(hosts, block, page, QEMU_PAGE_XBZRLE, delta, len);
    else
        load(hosts, block, page, QEMU_PAGE_RAW, now, PAGE);
    memcpy(was, now, PAGE);
}

static void run_source(Hosts *hosts, guint n)
{
    while (n-- > 0)
        write_and_send(hosts, (guint)g_rand_int_range(hosts->rand, 0, BLOCKS - 1),
                       (guint)g_rand_int_range(hosts->rand, 0, PAGES));
}

static void assert_is_checkpoint(Hosts *hosts)
{
    for (guint i = 0; i < BLOCKS - 1; i++)
        for (guint page = 0; page < PAGES; page++)
            if (memcmp(hosts->secondary[i] + page * PAGE, hosts->sent[i] + page * PAGE, PAGE) != 0)
                fail_msg("page %u of block %u is not the checkpoint's", page, i);
}

static char *hash_of(guint8 *const *blocks)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);

    for (guint i = 0; i < BLOCKS; i++)
        g_checksum_update(sum, blocks[i], BYTES);
    return g_strdup(g_checksum_get_string(sum));
}

/* ---- what must hold ---- */

static void a_commit_makes_the_guest_the_checkpoint_whatever_either_has_written(void **state)
{
    ColoCacheStats stats;

    (void)state;
    for (guint32 seed = 0; seed < 10; seed++) {
        g_autoptr(Hosts) hosts = hosts_new(seed);

        fill(hosts);
        for (guint round = 0; round < 8; round++) {
            diverge(hosts, 100);
            run_source(hosts, 200);
            diverge(hosts, 100);
            assert_true(colo_cache_commit(hosts->cache, NULL));
            flush(hosts);
            assert_is_checkpoint(hosts);
        }
        colo_cache_get_stats(hosts->cache, &stats);
        assert_int_equal(stats.checkpoints, 8);
        assert_int_equal(stats.pages_loaded, 8 * 200);
        assert_int_equal(stats.pages_pending, 0);
        assert_true(stats.pages_diverged > 0 && stats.pages_flushed > stats.pages_diverged);
        /* Only what either has written is copied. */
        assert_true(stats.pages_flushed <= 8 * 400);
    }
}

/* One region and the kernel's own log of what this process writes to it. */
static void check_with_the_kernels_log(MappedKind kind, GRand *rand)
{
    g_autoptr(MappedMemory) mapped = mapped_memory_new(kind, BYTES, MAPPED_WRITE_LOG);
    g_autoptr(GuestMemory) memory = guest_memory_new(mapped->layout, NULL);
    g_autoptr(DirtyLog) log = pagemap_log_new(mapped->layout, NULL);
    g_autoptr(ColoCache) cache = colo_cache_new(memory, log, NULL);
    g_autofree guint8 *source = g_malloc0(BYTES);
    ColoCacheStats stats;
    gboolean done = FALSE;

    while (!done)
        assert_true(colo_cache_fill(cache, BYTES / 4, &done, NULL));
    for (guint round = 0; round < 10; round++) {
        for (guint i = 0; i < 50; i++) {
            guint64 page = (guint64)g_rand_int_range(rand, 0, PAGES);
            QemuPage record = { .offset = page * PAGE,
                                .data = source + page * PAGE,
                                .data_len = PAGE };

            mapped->at[(guint64)g_rand_int_range(rand, 0, BYTES)] ^= 0x5a;
            source[page * PAGE + i] = (guint8)g_rand_int(rand);
            record.kind = QEMU_PAGE_RAW;
            assert_true(colo_cache_load(cache, &record, NULL));
        }
        assert_true(colo_cache_commit(cache, NULL));
        for (done = FALSE; !done;)
            assert_true(colo_cache_flush(cache, BYTES / 8, &done, NULL));
        assert_memory_equal(mapped->at, source, BYTES);
    }
    colo_cache_get_stats(cache, &stats);
    assert_true(stats.pages_diverged > 100 && stats.pages_flushed < 10 * PAGES);
}

static void what_the_guest_has_written_is_learnt_from_the_kernel(void **state)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(21);

    (void)state;
    check_with_the_kernels_log(MAPPED_PRIVATE, rand);
    check_with_the_kernels_log(MAPPED_MEMFD, rand);
}

static void nothing_of_a_checkpoint_shows_before_its_commit(void **state)
{
    g_autoptr(Hosts) hosts = hosts_new(3);
    g_autofree char *before = NULL;
    g_autofree char *after = NULL;

    (void)state;
    fill(hosts);
    diverge(hosts, 50);
    before = hash_of(hosts->secondary);
    run_source(hosts, 300);
    after = hash_of(hosts->secondary);
    assert_string_equal(before, after);
}

static void a_failover_leaves_the_destinations_guest_as_it_is(void **state)
{
    g_autoptr(Hosts) hosts = hosts_new(4);
    g_autofree char *before = NULL;
    g_autofree char *after = NULL;

    (void)state;
    fill(hosts);
    run_source(hosts, 100);
    assert_true(colo_cache_commit(hosts->cache, NULL));
    flush(hosts);
    run_source(hosts, 100); /* of a checkpoint that is never complete */
    diverge(hosts, 70);
    before = hash_of(hosts->secondary);
    colo_cache_free(g_steal_pointer(&hosts->cache));
    after = hash_of(hosts->secondary);
    assert_string_equal(before, after);
}

/* In the midst of a flush neither checkpoint is there: it goes on without the source. */
static void a_flush_is_finished_without_the_source(void **state)
{
    g_autoptr(Hosts) hosts = hosts_new(5);
    gboolean done = TRUE;

    (void)state;
    fill(hosts);
    run_source(hosts, 200);
    diverge(hosts, 200);
    assert_true(colo_cache_commit(hosts->cache, NULL));
    assert_true(colo_cache_flush(hosts->cache, PAGE, &done, NULL));
    assert_false(done);
    assert_int_equal(colo_cache_state(hosts->cache), COLO_CACHE_FLUSHING);
    flush(hosts);
    assert_is_checkpoint(hosts);
}

/* The region that is ignored has no copy: the guest keeps what it wrote there. */
static void ignored_regions_are_left_alone(void **state)
{
    g_autoptr(Hosts) hosts = hosts_new(6);
    QemuPage page = { .block = BLOCKS - 1, .kind = QEMU_PAGE_ZERO };
    g_autoptr(GError) error = NULL;

    (void)state;
    fill(hosts);
    memset(hosts->secondary[BLOCKS - 1], 0x5a, PAGE);
    assert_false(colo_cache_load(hosts->cache, &page, &error));
    assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL));
    assert_true(colo_cache_commit(hosts->cache, NULL));
    flush(hosts);
    assert_int_equal(hosts->secondary[BLOCKS - 1][PAGE - 1], 0x5a);
}

static void pages_that_cannot_be_are_refused(void **state)
{
    static const guint8 broken[] = { 5, 0 };
    const QemuPage pages[] = {
        { .block = BLOCKS, .kind = QEMU_PAGE_ZERO },
        { .block = 0, .offset = BYTES, .kind = QEMU_PAGE_ZERO },
        { .block = 0, .offset = 100, .kind = QEMU_PAGE_ZERO },
        { .block = 0, .kind = QEMU_PAGE_COMPRESSED, .data = broken, .data_len = 2 },
        { .block = 0, .kind = QEMU_PAGE_XBZRLE, .data = broken, .data_len = 2 },
    };
    g_autoptr(Hosts) hosts = hosts_new(7);

    (void)state;
    fill(hosts);
    for (gsize i = 0; i < G_N_ELEMENTS(pages); i++) {
        g_autoptr(GError) error = NULL;

        assert_false(colo_cache_load(hosts->cache, &pages[i], &error));
        assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL));
    }
    assert_true(colo_cache_commit(hosts->cache, NULL));
    flush(hosts);
    assert_is_checkpoint(hosts);
}

static void what_is_out_of_turn_is_refused(void **state)
{
    g_autoptr(Hosts) hosts = hosts_new(8);
    const QemuPage page = { .kind = QEMU_PAGE_ZERO };
    gboolean done;

    (void)state;
    assert_false(colo_cache_load(hosts->cache, &page, NULL));
    assert_false(colo_cache_commit(hosts->cache, NULL));
    assert_false(colo_cache_flush(hosts->cache, PAGE, &done, NULL));
    fill(hosts);
    assert_false(colo_cache_fill(hosts->cache, PAGE, &done, NULL));
    assert_false(colo_cache_flush(hosts->cache, PAGE, &done, NULL));
    assert_true(colo_cache_commit(hosts->cache, NULL));
    assert_false(colo_cache_load(hosts->cache, &page, NULL));
    assert_false(colo_cache_commit(hosts->cache, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_commit_makes_the_guest_the_checkpoint_whatever_either_has_written),
        cmocka_unit_test(what_the_guest_has_written_is_learnt_from_the_kernel),
        cmocka_unit_test(nothing_of_a_checkpoint_shows_before_its_commit),
        cmocka_unit_test(a_failover_leaves_the_destinations_guest_as_it_is),
        cmocka_unit_test(a_flush_is_finished_without_the_source),
        cmocka_unit_test(ignored_regions_are_left_alone),
        cmocka_unit_test(pages_that_cannot_be_are_refused),
        cmocka_unit_test(what_is_out_of_turn_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
