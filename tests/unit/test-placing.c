/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which of QEMU's blocks are placed in directly, and the record of it. */
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

#include "ram/placed_look.h"
#include "ram/placing.h"
#include "ram/uffd/uffd.h"
#include "tests/support/memory-owner.h"
#include "util/autofd.h"

#define PAGE 4096
#define MIB (1024 * 1024)
#define RECORD_SIZE (256 * 1024)

static int record_file(gsize size)
{
    int fd = memfd_create("record", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    return fd;
}

static PlacedRecord *open_record(int fd)
{
    PlacedRecord *record = placed_record_open(fd, NULL);

    assert_non_null(record);
    return record;
}

static RamBlocks *blocks_of(const char *const *names, const guint64 *lengths,
                            const guint64 *page_sizes, guint n)
{
    RamBlocks *blocks = ram_blocks_new();

    for (guint i = 0; i < n; i++)
        assert_true(ram_blocks_add(blocks, (const guint8 *)names[i], strlen(names[i]), lengths[i],
                                   page_sizes ? page_sizes[i] : 0, NULL, NULL));
    return blocks;
}

static const char *const names[] = { "pc.ram", "vga.vram", "pc.bios", "pc.rom", "acpi" };
static const guint64 lengths[] = { 64 * MIB, 16 * MIB, 256 * 1024, 128 * 1024, 128 * 1024 };

/* As QEMU has them, in another order. */
static const PlacingRange ranges[] = {
    { 0x100000000, 128 * 1024, PAGE, UFFD_ANON }, { 0x200000000, 64 * MIB, PAGE, UFFD_SHMEM },
    { 0x300000000, 128 * 1024, PAGE, UFFD_ANON }, { 0x400000000, 256 * 1024, PAGE, UFFD_ANON },
    { 0x500000000, 16 * MIB, PAGE, UFFD_ANON },
};

static Placing *place(const RamBlocks *blocks, int fd, const PlacingRange *r, gsize n,
                      GError **error)
{
    g_autoptr(PlacedRecord) record = open_record(fd);
    Placing *placing = placing_new(blocks, FALSE, -1, record, r, n, error);

    if (placing)
        g_steal_pointer(&record);
    return placing;
}

/* ---- which blocks ---- */

static void blocks_of_a_length_of_their_own_are_found(void **state)
{
    g_autoptr(RamBlocks) blocks = blocks_of(names, lengths, NULL, 5);
    autofd fd = record_file(RECORD_SIZE);
    g_autoptr(Placing) placing = place(blocks, fd, ranges, 5, NULL);
    guint64 bytes;

    assert_non_null(placing);
    assert_int_equal(placing_blocks(placing, &bytes), 3);
    assert_int_equal(bytes, 80 * MIB + 256 * 1024);
    assert_true(placing_takes(placing, 0, 63 * MIB));
    assert_false(placing_takes(placing, 0, 64 * MIB));
    assert_true(placing_takes(placing, 1, 0));
    assert_true(placing_takes(placing, 2, 0));
    assert_false(placing_takes(placing, 3, 0));
    assert_false(placing_takes(placing, 4, 0));
}

static void refused(const PlacingRange *r, gsize n)
{
    g_autoptr(RamBlocks) blocks = blocks_of(names, lengths, NULL, 5);
    autofd fd = record_file(RECORD_SIZE);
    g_autoptr(GError) error = NULL;

    assert_null(place(blocks, fd, r, n, &error));
    assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_STATE));
}

static void memory_that_is_not_what_the_blocks_are_is_refused(void **state)
{
    PlacingRange other[6];

    refused(ranges, 0);
    refused(ranges, 4); /* one is missing */
    memcpy(other, ranges, sizeof ranges);
    other[1].length += PAGE; /* one has another length */
    refused(other, 5);
    memcpy(other, ranges, sizeof ranges);
    other[5] = (PlacingRange){ 0x600000000, MIB, PAGE, UFFD_ANON }; /* one too many */
    refused(other, 6);
    memcpy(other, ranges, sizeof ranges);
    other[0].length = 256 * 1024; /* the same number of them, and of kinds */
    refused(other, 5);
}

static void pages_of_another_size_are_qemus(void **state)
{
    static const guint64 sizes[] = { 2 * MIB, 0, 0, 0, 0 };
    g_autoptr(RamBlocks) blocks = blocks_of(names, lengths, sizes, 5);
    PlacingRange other[5];
    autofd fd = record_file(RECORD_SIZE), second = record_file(RECORD_SIZE);
    g_autoptr(Placing) small = place(blocks, fd, ranges, 5, NULL);
    g_autoptr(Placing) huge = NULL;

    assert_false(placing_takes(small, 0, 0));
    assert_true(placing_takes(small, 1, 0));
    memcpy(other, ranges, sizeof ranges);
    other[1].page_size = 2 * MIB;
    other[1].backing = UFFD_HUGETLB;
    huge = place(blocks, second, other, 5, NULL);
    assert_true(placing_takes(huge, 0, 0));
}

static void lengths_that_are_rounded_match_their_ranges(void **state)
{
    guint64 rounded[] = { 64 * MIB, 16 * MIB, 256 * 1024, 256 * 1024, 256 * 1024 };
    g_autoptr(RamBlocks) blocks = blocks_of(names, rounded, NULL, 5);
    autofd fd = record_file(RECORD_SIZE);
    PlacedRecord *record = open_record(fd);
    g_autoptr(Placing) placing = placing_new(blocks, TRUE, -1, record, ranges, 5, NULL);

    assert_non_null(placing);
    assert_true(placing_takes(placing, 0, 0));
    assert_true(placing_takes(placing, 1, 0));
    assert_false(placing_takes(placing, 2, 0));
}

/* ---- what was placed before ---- */

static void a_recovery_finds_the_same_blocks_by_the_record(void **state)
{
    g_autoptr(RamBlocks) blocks = blocks_of(names, lengths, NULL, 5);
    autofd fd = record_file(RECORD_SIZE);
    Placing *first = place(blocks, fd, ranges, 5, NULL);
    g_autoptr(Placing) second = NULL;
    PlacingRange other[5];
    guint64 bytes;

    placing_note(first, 0, 5 * PAGE, 2 * PAGE);
    placing_free(first);
    memcpy(other, ranges, sizeof ranges);
    other[0].length = 99 * PAGE; /* of what is not placed in nothing is asked */
    second = place(blocks, fd, other, 5, NULL);
    assert_non_null(second);
    assert_int_equal(placing_blocks(second, &bytes), 3);
    other[1].address += PAGE;
    assert_null(place(blocks, fd, other, 5, NULL));
}

static void what_was_placed_is_added_to_a_bitmap(void **state)
{
    g_autoptr(RamBlocks) blocks = blocks_of(names, lengths, NULL, 5);
    autofd fd = record_file(RECORD_SIZE);
    g_autoptr(PlacedRecord) empty = open_record(fd);
    g_autoptr(Placing) placing = place(blocks, fd, ranges, 5, NULL);
    g_autoptr(PlacedRecord) record = NULL;
    guint8 bytes[8] = { 0x10, 0, 0, 0, 0, 0, 0, 0x80 };
    guint8 last[4] = { 0 };
    guint index;

    assert_true(placed_record_is_empty(empty));
    placing_note(placing, 2, 0, PAGE);
    placing_note(placing, 2, 6 * PAGE, 20 * PAGE);
    placing_note(placing, 2, 63 * PAGE, PAGE);
    /* Another process, later. */
    record = open_record(fd);
    assert_false(placed_record_is_empty(record));
    assert_false(placed_record_find(record, "pc.rom", &index));
    assert_true(placed_record_find(record, "pc.bios", &index));
    placed_record_merge(record, index, 0, bytes, sizeof bytes);
    assert_memory_equal(bytes, ((guint8[]){ 0xd1, 0xff, 0xff, 0x03, 0, 0, 0, 0x80 }), 8);
    placed_record_merge(record, index, 6, last, sizeof last);
    assert_memory_equal(last, ((guint8[]){ 0, 0x80, 0, 0 }), 4);
}

static void a_record_that_is_too_small_is_refused(void **state)
{
    g_autoptr(RamBlocks) blocks = blocks_of(names, lengths, NULL, 5);
    autofd fd = record_file(PLACED_RECORD_HEAD + 3 * PLACED_RECORD_ENTRY + 16);
    g_autoptr(GError) error = NULL;

    assert_null(place(blocks, fd, ranges, 5, &error));
    assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_INVALID));
}

static void a_record_that_lies_is_refused(void **state)
{
    static const struct {
        gsize at;
        guint8 bytes[8];
        gsize len;
    } rows[] = {
        { 0, { 'x' }, 1 },                               /* magic */
        { 16, { 0, 1, 0, 0 }, 4 },                       /* target page */
        { 16, { 0, 0, 0x20, 0 }, 4 },
        { 20, { 0, 0, 0, 0 }, 4 },                       /* blocks: none */
        { 20, { 0xff, 0xff, 0xff, 0x7f }, 4 },           /* too many */
        { 24, { 0 }, 1 },                                /* a name of nothing */
        { 24 + 256, { 1 }, 1 },                          /* address */
        { 24 + 256, { 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff }, 8 },
        { 24 + 264, { 0, 0, 0, 0, 0, 0, 0, 0 }, 8 },     /* length */
        { 24 + 264, { 0, 0, 0, 0, 0, 0, 0x10, 0 }, 8 },
        { 24 + 272, { 0, 0, 0, 0 }, 4 },                 /* page */
        { 24 + 272, { 0, 4, 0, 0 }, 4 },
        { 24 + 280, { 0, 0, 0, 0, 0, 0, 0, 0 }, 8 },     /* bits */
        { 24 + 280, { 0, 0, 0, 0, 0, 0, 0, 0xff }, 8 },
        { 24 + 288, { 9 }, 1 },                          /* backing */
    };
    g_autoptr(RamBlocks) blocks = blocks_of(names, lengths, NULL, 5);

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        autofd fd = record_file(RECORD_SIZE);
        g_autoptr(GError) error = NULL;

        placing_free(place(blocks, fd, ranges, 5, NULL));
        assert_int_equal(pwrite(fd, rows[i].bytes, rows[i].len, (off_t)rows[i].at), rows[i].len);
        assert_null(placed_record_open(fd, &error));
        assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_INVALID));
    }
}

static void a_record_must_be_a_file(void **state)
{
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    assert_null(placed_record_open(ends[0], NULL));
    assert_null(placed_record_open(-1, NULL));
    close(ends[0]);
    close(ends[1]);
}

/* ---- for real ---- */

static void on_placed(guint block, guint64 offset, guint64 length, gboolean existed, gpointer data)
{
    placing_note(data, block, offset, length);
}

static void what_is_placed_is_there_and_in_the_record(void **state)
{
    OwnerConfig config = { .backing = UFFD_ANON, .page_size = PAGE, .n_pages = 16, .memfd = -1 };
    const char *name = "pc.ram";
    guint64 length = 16 * PAGE;
    g_autoptr(RamBlocks) blocks = blocks_of(&name, &length, NULL, 1);
    autofd fd = record_file(RECORD_SIZE);
    Owner *owner = owner_start(&config);
    PlacingRange range = { owner->address, length, PAGE, UFFD_ANON };
    Placing *placing =
        placing_new(blocks, FALSE, dup(owner->uffd), open_record(fd), &range, 1, NULL);
    UffdSink *sink = placing_new_sink(placing, on_placed, placing);
    RamSink *base = uffd_sink_base(sink);
    g_autofree guint8 *data = g_malloc(PAGE);
    QemuPage page = { .kind = QEMU_PAGE_RAW, .offset = 3 * PAGE, .data = data, .data_len = PAGE };
    g_autoptr(PlacedRecord) record = NULL;
    guint8 bits[2] = { 0 };

    owner_fill(data, PAGE, 3);
    base->ops->place(base, &page);
    assert_true(base->ops->flush(base, NULL));
    owner_ask(owner, OWNER_TOUCH, 1, 1 + 3);
    assert_int_equal(owner_ask(owner, OWNER_WAIT, 0, 0), 0);
    record = open_record(fd);
    placed_record_merge(record, 0, 0, bits, sizeof bits);
    assert_int_equal(bits[0], 1 << 3);
    assert_int_equal(bits[1], 0);
    uffd_sink_free(sink);
    placing_free(placing);
    owner_free(owner);
}

static int pagemap_of(const Owner *owner)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/pagemap", (int)owner->pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

/* More than one read of the kernel's table; pages at its ends are among those that nobody noted. */
static void what_a_killed_helper_has_not_noted_is_found(void **state)
{
    enum { N = 20000 };
    static const guint placed[] = { 0, 7, 8191, 8192, N - 1 };
    static const UffdBacking kinds[] = { UFFD_ANON, UFFD_SHMEM };
    const char *name = "pc.ram";
    guint64 length = (guint64)N * PAGE, done;

    for (gsize k = 0; k < G_N_ELEMENTS(kinds); k++) {
        OwnerConfig config = { .backing = kinds[k], .page_size = PAGE, .n_pages = N, .memfd = -1 };
        g_autoptr(RamBlocks) blocks = blocks_of(&name, &length, NULL, 1);
        autofd fd = record_file(RECORD_SIZE);
        autofd nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
        autofd pagemap = -1;
        Owner *owner = owner_start(&config);
        PlacingRange range = { owner->address, length, PAGE, kinds[k] };
        g_autoptr(Placing) placing =
            placing_new(blocks, FALSE, dup(owner->uffd), open_record(fd), &range, 1, NULL);
        g_autoptr(PlacedRecord) record = open_record(fd);
        g_autofree guint8 *data = g_malloc(PAGE);

        for (gsize i = 0; i < G_N_ELEMENTS(placed); i++) {
            owner_fill(data, PAGE, placed[i]);
            assert_int_equal(uffd_copy(owner->uffd, owner->address + (guint64)placed[i] * PAGE,
                                       data, PAGE, &done, NULL),
                             UFFD_PLACED);
        }
        placing_note(placing, 0, 7 * PAGE, PAGE);
        pagemap = pagemap_of(owner);
        assert_int_equal(placed_look(record, nothing), 0);
        assert_int_equal(placed_look(record, pagemap), G_N_ELEMENTS(placed) - 1);
        for (guint i = 0, next = 0; i < N; i++) {
            gboolean there = next < G_N_ELEMENTS(placed) && placed[next] == i;

            assert_int_equal(placed_record_has(record, 0, i), there);
            next += there;
        }
        assert_int_equal(placed_look(record, pagemap), 0);
        owner_free(owner);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_of_a_length_of_their_own_are_found),
        cmocka_unit_test(memory_that_is_not_what_the_blocks_are_is_refused),
        cmocka_unit_test(pages_of_another_size_are_qemus),
        cmocka_unit_test(lengths_that_are_rounded_match_their_ranges),
        cmocka_unit_test(a_recovery_finds_the_same_blocks_by_the_record),
        cmocka_unit_test(what_was_placed_is_added_to_a_bitmap),
        cmocka_unit_test(a_record_that_is_too_small_is_refused),
        cmocka_unit_test(a_record_that_lies_is_refused),
        cmocka_unit_test(a_record_must_be_a_file),
        cmocka_unit_test(what_is_placed_is_there_and_in_the_record),
        cmocka_unit_test(what_a_killed_helper_has_not_noted_is_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
