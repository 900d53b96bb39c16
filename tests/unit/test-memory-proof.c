/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where a block is, by pages that came; and reading memory ahead. With memory of this process. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ram/memory_proof.h"

#define PAGE 4096
#define MIB (1024 * 1024)
#define BLOCK (8 * MIB)
#define PAGES (BLOCK / PAGE)

typedef struct {
    guint8 *area; /* of three blocks, one behind the other */
    RamBlocks *blocks;
    MemoryReader *reader;
    MemoryProof *proof;
} Bench;

static MemoryReader *own_memory(void)
{
    return memory_reader_new(open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
}

static guint8 *map(gsize len)
{
    guint8 *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_true(at != MAP_FAILED);
    return at;
}

static void fill(guint8 *at, guint seed)
{
    for (guint i = 0; i < PAGES; i++) {
        guint32 word[2] = { seed, i + 1 };

        memset(at + (gsize)i * PAGE, (int)(i % 250), PAGE);
        memcpy(at + (gsize)i * PAGE, word, sizeof word);
    }
}

static void add_block(Bench *b, const char *name)
{
    guint index;

    assert_true(ram_blocks_add(b->blocks, (const guint8 *)name, strlen(name), BLOCK, 0, &index,
                               NULL));
}

/* The mappings as one run; the block could begin in it at the start of each. */
static void bench_init(Bench *b, guint n_blocks)
{
    static const char *const names[] = { "pc.ram", "vga.vram", "third" };

    b->area = map(3 * BLOCK);
    b->blocks = ram_blocks_new();
    for (guint i = 0; i < n_blocks; i++)
        add_block(b, names[i]);
    b->reader = own_memory();
    b->proof = NULL;
}

static void begin(Bench *b)
{
    guint64 at = (guintptr)b->area;
    MemoryRange ranges[] = {
        { at, at + BLOCK }, { at + BLOCK, at + 2 * BLOCK }, { at + 2 * BLOCK, at + 3 * BLOCK }
    };

    b->proof = memory_proof_new(b->blocks, b->reader, ranges, G_N_ELEMENTS(ranges), NULL);
    assert_non_null(b->proof);
}

static void bench_clear(Bench *b)
{
    memory_proof_free(b->proof);
    memory_reader_free(b->reader);
    ram_blocks_free(b->blocks);
    munmap(b->area, 3 * BLOCK);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Bench, bench_clear)

static gboolean feed(Bench *b, guint block, guint page, const guint8 *data)
{
    QemuPage record = { .block = block, .offset = (guint64)page * PAGE, .kind = QEMU_PAGE_RAW,
                        .data = data, .data_len = PAGE };

    return memory_proof_on_page(b->proof, &record);
}

/* All pages of the block whose memory is there, from the first on, until something is decided. */
static guint feed_all(Bench *b, guint block, const guint8 *memory, guint step)
{
    for (guint i = 0; i < PAGES; i += step) {
        if (feed(b, block, i, memory + (gsize)i * PAGE))
            return i;
    }
    return PAGES;
}

static void a_block_is_where_its_pages_are(void **state)
{
    g_auto(Bench) b;
    guint64 address = 0;
    guint fed;

    bench_init(&b, 1);
    fill(b.area, 1);
    fill(b.area + BLOCK, 2);
    fill(b.area + 2 * BLOCK, 3);
    begin(&b);
    assert_int_equal(memory_proof_verdict(b.proof, 0, &address), MEMORY_UNPROVED);
    fed = feed_all(&b, 0, b.area + BLOCK, 1);
    assert_int_equal(memory_proof_verdict(b.proof, 0, &address), MEMORY_PROVED);
    assert_true(address == (guintptr)(b.area + BLOCK));
    assert_true(memory_proof_is_over(b.proof));
    /* Not before as many came, so far from each other, and have had their time. */
    assert_in_range((guint64)fed * PAGE,
                    MEMORY_PROOF_LAG + (MEMORY_PROOF_ENOUGH - 1) * (guint64)MEMORY_PROOF_SPACING,
                    MEMORY_PROOF_LAG + MEMORY_PROOF_ENOUGH * (guint64)MEMORY_PROOF_SPACING);
}

static void one_page_that_differs_ends_it(void **state)
{
    g_auto(Bench) b;
    guint8 *copy = map(BLOCK);
    guint64 address;

    bench_init(&b, 1);
    fill(b.area, 1);
    fill(copy, 1);
    /* In the last page that would be compared, the last byte. */
    copy[(gsize)(MEMORY_PROOF_ENOUGH - 1) * MEMORY_PROOF_SPACING + PAGE - 1] ^= 1;
    begin(&b);
    feed_all(&b, 0, copy, 1);
    assert_int_equal(memory_proof_verdict(b.proof, 0, &address), MEMORY_NOWHERE);
    munmap(copy, BLOCK);
}

static void zeros_and_what_came_before_prove_nothing(void **state)
{
    g_auto(Bench) b;
    guint64 address;

    bench_init(&b, 1);
    begin(&b);
    assert_int_equal(feed_all(&b, 0, b.area, 1), PAGES);
    memset(b.area, 7, BLOCK);
    assert_int_equal(feed_all(&b, 0, b.area, 1), PAGES);
    assert_int_equal(memory_proof_verdict(b.proof, 0, &address), MEMORY_UNPROVED);
}

static void two_places_that_are_alike_are_none(void **state)
{
    g_auto(Bench) b;
    guint64 address;

    bench_init(&b, 1);
    fill(b.area, 1);
    fill(b.area + 2 * BLOCK, 1);
    begin(&b);
    assert_int_equal(feed_all(&b, 0, b.area, 1), PAGES);
    assert_int_equal(memory_proof_verdict(b.proof, 0, &address), MEMORY_UNPROVED);
}

static void the_first_page_in_which_they_differ_decides(void **state)
{
    g_auto(Bench) b;
    const guint64 at = 60 * (guint64)MEMORY_PROOF_SPACING;
    guint64 address;
    guint fed;

    bench_init(&b, 1);
    fill(b.area, 1);
    fill(b.area + 2 * BLOCK, 1);
    b.area[2 * BLOCK + at + 100] ^= 1;
    begin(&b);
    fed = feed_all(&b, 0, b.area, 1);
    assert_in_range((guint64)fed * PAGE, at, at + 2 * MEMORY_PROOF_LAG);
    assert_int_equal(memory_proof_verdict(b.proof, 0, &address), MEMORY_PROVED);
    assert_true(address == (guintptr)b.area);
}

static void two_blocks_cannot_be_at_one_place(void **state)
{
    g_auto(Bench) b;
    guint64 address;

    bench_init(&b, 2);
    fill(b.area, 1);
    begin(&b);
    feed_all(&b, 0, b.area, 1);
    feed_all(&b, 1, b.area, 1);
    assert_int_equal(memory_proof_verdict(b.proof, 0, &address), MEMORY_PROVED);
    assert_int_equal(memory_proof_verdict(b.proof, 1, &address), MEMORY_NOWHERE);
}

/* Its mapping has grown together with one before it. */
static void a_block_may_begin_within_a_mapping(void **state)
{
    g_auto(Bench) b;
    guint64 start, address = 0;
    guint8 *at;
    MemoryRange range;

    bench_init(&b, 1);
    at = b.area + 2 * MIB - (guintptr)b.area % (2 * MIB);
    fill(at, 4);
    start = (guintptr)at - 4 * PAGE;
    range = (MemoryRange){ start, start + BLOCK + 20 * PAGE };
    b.proof = memory_proof_new(b.blocks, b.reader, &range, 1, NULL);
    feed_all(&b, 0, at, 1);
    assert_int_equal(memory_proof_verdict(b.proof, 0, &address), MEMORY_PROVED);
    assert_true(address == (guintptr)at);
}

static void small_blocks_and_those_without_a_place_are_nowhere(void **state)
{
    g_auto(Bench) b;
    guint64 address;
    guint index;

    bench_init(&b, 1);
    assert_true(ram_blocks_add(b.blocks, (const guint8 *)"rom", 3, MIB, 0, &index, NULL));
    assert_true(ram_blocks_add(b.blocks, (const guint8 *)"large", 5, 4 * BLOCK, 0, &index, NULL));
    begin(&b);
    assert_int_equal(memory_proof_verdict(b.proof, 0, &address), MEMORY_UNPROVED);
    assert_int_equal(memory_proof_verdict(b.proof, 1, &address), MEMORY_NOWHERE);
    assert_int_equal(memory_proof_verdict(b.proof, 2, &address), MEMORY_NOWHERE);
}

/* Far more places than are looked at: the mapping that fits is among those all the same. */
static void the_mapping_that_fits_best_is_found_among_very_many(void **state)
{
    g_autofree MemoryRange *ranges = g_new(MemoryRange, MEMORY_RANGES_MAX);
    g_auto(Bench) b;
    guint64 start = 16 * MIB, address = 0;

    bench_init(&b, 1);
    fill(b.area + BLOCK, 2);
    for (guint i = 0; i < MEMORY_RANGES_MAX - 1; i++, start += PAGE)
        ranges[i] = (MemoryRange){ start, start + PAGE };
    assert_true(start < (guintptr)b.area);
    start = (guintptr)(b.area + BLOCK);
    ranges[MEMORY_RANGES_MAX - 1] = (MemoryRange){ start, start + BLOCK };
    b.proof = memory_proof_new(b.blocks, b.reader, ranges, MEMORY_RANGES_MAX, NULL);
    assert_non_null(b.proof);
    feed_all(&b, 0, b.area + BLOCK, 1);
    assert_int_equal(memory_proof_verdict(b.proof, 0, &address), MEMORY_PROVED);
    assert_true(address == start);
}

/* ---- reading ---- */

static void what_follows_is_read_ahead(void **state)
{
    g_autoptr(MemoryReader) reader = own_memory();
    guint8 *at = map(64 * PAGE);
    guint64 address = (guintptr)at;
    MemoryWindow *first, *second;

    memset(at, 3, 64 * PAGE);
    first = memory_reader_get(reader, address, PAGE, address + 16 * PAGE, NULL);
    assert_non_null(first);
    assert_int_equal(memory_reader_bytes(reader), 16 * PAGE);
    second = memory_reader_get(reader, address + 15 * PAGE, PAGE, address + 32 * PAGE, NULL);
    assert_ptr_equal(first, second);
    assert_int_equal(memory_reader_bytes(reader), 16 * PAGE);
    /* Half of it is not there. */
    second = memory_reader_get(reader, address + 15 * PAGE, 2 * PAGE, address + 32 * PAGE, NULL);
    assert_ptr_not_equal(first, second);
    assert_memory_equal(second->bytes, at + 15 * PAGE, 2 * PAGE);
    munmap(at, 64 * PAGE);
}

static void what_is_held_stays_as_it_is(void **state)
{
    g_autoptr(MemoryReader) reader = own_memory();
    guint8 *at = map(64 * PAGE);
    guint64 address = (guintptr)at;
    MemoryWindow *held;

    for (guint i = 0; i < 64; i++)
        memset(at + i * PAGE, (int)i, PAGE);
    held = memory_reader_get(reader, address, PAGE, address, NULL);
    for (guint i = 1; i < 64; i++) {
        MemoryWindow *w = memory_reader_get(reader, address + i * PAGE, PAGE, address, NULL);

        assert_int_equal(w->bytes[PAGE - 1], i);
        memory_reader_put(reader, w);
    }
    assert_int_equal(held->bytes[0], 0);
    assert_true(held->address == address);
    memory_reader_put(reader, held);
    munmap(at, 64 * PAGE);
}

static void memory_that_is_not_there_is_an_error(void **state)
{
    g_autoptr(MemoryReader) reader = own_memory();
    g_autoptr(GError) error = NULL;
    guint8 *at = map(2 * PAGE);
    guint8 buf[2 * PAGE];

    munmap(at + PAGE, PAGE);
    assert_true(memory_reader_read(reader, (guintptr)at, buf, PAGE, NULL));
    assert_false(memory_reader_read(reader, (guintptr)at, buf, 2 * PAGE, &error));
    assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_STATE));
    assert_null(memory_reader_get(reader, (guintptr)at, 2 * PAGE, 0, NULL));
    assert_false(memory_reader_read(reader, G_MAXUINT64 - PAGE, buf, PAGE, NULL));
    munmap(at, PAGE);
}

/* The descriptor is of the memory, not of the number. */
static void memory_of_a_process_that_has_ended_is_an_error(void **state)
{
    g_autoptr(MemoryReader) reader = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *path = NULL;
    guint8 *at = map(PAGE);
    guint8 buf[PAGE];
    int status;
    pid_t pid;

    at[7] = 1;
    pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    path = g_strdup_printf("/proc/%d/mem", (int)pid);
    reader = memory_reader_new(open(path, O_RDONLY | O_CLOEXEC));
    assert_true(memory_reader_read(reader, (guintptr)at, buf, PAGE, NULL));
    assert_int_equal(buf[7], 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_false(memory_reader_read(reader, (guintptr)at, buf, PAGE, &error));
    assert_non_null(strstr(error->message, "cannot be read"));
    munmap(at, PAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_is_where_its_pages_are),
        cmocka_unit_test(one_page_that_differs_ends_it),
        cmocka_unit_test(zeros_and_what_came_before_prove_nothing),
        cmocka_unit_test(two_places_that_are_alike_are_none),
        cmocka_unit_test(the_first_page_in_which_they_differ_decides),
        cmocka_unit_test(two_blocks_cannot_be_at_one_place),
        cmocka_unit_test(a_block_may_begin_within_a_mapping),
        cmocka_unit_test(small_blocks_and_those_without_a_place_are_nowhere),
        cmocka_unit_test(the_mapping_that_fits_best_is_found_among_very_many),
        cmocka_unit_test(what_follows_is_read_ahead),
        cmocka_unit_test(what_is_held_stays_as_it_is),
        cmocka_unit_test(memory_that_is_not_there_is_an_error),
        cmocka_unit_test(memory_of_a_process_that_has_ended_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
