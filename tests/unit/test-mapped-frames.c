/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bodies of the frames of mapped sessions, and the received bitmaps that one of them tells of. */
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

#include "ram/mapped/frames.h"
#include "ram/mapped/received.h"
#include "util/bytes.h"

static GBytes *to_bytes(const GByteArray *body)
{
    return g_bytes_new(body->data, body->len);
}

static GBytes *from_text(const char *bytes, gsize len)
{
    return g_bytes_new(bytes, len);
}

static void assert_contains_text(const GError *error, const char *part)
{
    assert_non_null(error);
    if (!strstr(error->message, part))
        fail_msg("\"%s\" does not say \"%s\"", error->message, part);
}

/* ---- BLOCKS ---- */

static RamBlocks *two_blocks(void)
{
    RamBlocks *blocks = ram_blocks_new();

    assert_true(ram_blocks_add(blocks, (const guint8 *)"ram", 3, 1 << 20, 4096, NULL, NULL));
    assert_true(ram_blocks_add(blocks, (const guint8 *)"huge", 4, 4 << 20, 2 << 20, NULL, NULL));
    return blocks;
}

static void blocks_come_out_as_they_went_in(void **state)
{
    static const guint32 flags[] = { MEMORY_MIGRATABLE, MEMORY_SHARED | MEMORY_IGNORED };
    g_autoptr(RamBlocks) blocks = two_blocks();
    g_autoptr(RamBlocks) back = ram_blocks_new();
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_autoptr(GArray) back_flags = g_array_new(FALSE, FALSE, sizeof(guint32));
    g_autoptr(GBytes) bytes = NULL;
    MappedBeginning beginning;

    assert_false(mapped_blocks_body_encode(body, blocks, flags, MAPPED_RECOVERS, 58));
    assert_true(mapped_blocks_body_encode(body, blocks, flags, MAPPED_RECOVERS, 59));
    assert_int_equal(body->len, 59);
    bytes = to_bytes(body);
    assert_true(mapped_blocks_body_decode(bytes, back, back_flags, &beginning, NULL));
    assert_int_equal(beginning, MAPPED_RECOVERS);
    assert_int_equal(ram_blocks_count(back), 2);
    assert_string_equal(ram_blocks_get(back, 1)->name, "huge");
    assert_true(ram_blocks_get(back, 1)->page_size == 2 << 20);
    assert_int_equal(g_array_index(back_flags, guint32, 0), flags[0]);
    assert_int_equal(g_array_index(back_flags, guint32, 1), flags[1]);
}

static void every_truncation_of_blocks_is_refused(void **state)
{
    static const guint32 flags[] = { 0, 0 };
    g_autoptr(RamBlocks) blocks = two_blocks();
    g_autoptr(GByteArray) body = g_byte_array_new();

    assert_true(mapped_blocks_body_encode(body, blocks, flags, MAPPED_BEGINS, 1000));
    for (gsize len = 0; len < body->len; len++) {
        g_autoptr(RamBlocks) back = ram_blocks_new();
        g_autoptr(GArray) back_flags = g_array_new(FALSE, FALSE, sizeof(guint32));
        g_autoptr(GBytes) bytes = g_bytes_new(body->data, len);
        g_autoptr(GError) error = NULL;
        MappedBeginning beginning;

        assert_false(mapped_blocks_body_decode(bytes, back, back_flags, &beginning, &error));
        assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL));
    }
}

static void bad_blocks_are_refused_by_the_name_of_the_field(void **state)
{
    static const struct {
        guint32 beginning;
        guint64 length;
        guint32 flags;
        const char *says;
    } rows[] = {
        { 2, 4096, 0, "beginning 2 is out of range (0 to 1)" },
        { 0, 0, 0, "block 0 has no length" },
        { 0, 4096, 32, "flags of block 0 are 0x20" },
        { 0, 4095, 0, "must be a multiple" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GByteArray) body = g_byte_array_new();
        g_autoptr(RamBlocks) back = ram_blocks_new();
        g_autoptr(GArray) flags = g_array_new(FALSE, FALSE, sizeof(guint32));
        g_autoptr(GBytes) bytes = NULL;
        g_autoptr(GError) error = NULL;
        MappedBeginning beginning;

        bytes_put_u32(body, rows[i].beginning);
        bytes_put_u32(body, 4096);
        bytes_put_u16(body, 1);
        bytes_put_u64(body, rows[i].length);
        bytes_put_u64(body, 4096);
        bytes_put_u8(body, 1);
        bytes_put_u8(body, 'a');
        bytes_put_u32(body, rows[i].flags);
        bytes = to_bytes(body);
        assert_false(mapped_blocks_body_decode(bytes, back, flags, &beginning, &error));
        assert_contains_text(error, rows[i].says);
    }
}

/* ---- PHASE, DISCARD, RECEIVED ---- */

static void every_phase_has_a_number_and_a_name(void **state)
{
    for (guint phase = 0; phase < MAPPED_PHASE_MAX + 2; phase++) {
        g_autoptr(GByteArray) body = g_byte_array_new();
        g_autoptr(GBytes) bytes = NULL;
        MappedPhase back;
        gboolean known = phase >= MAPPED_PHASE_ADVISE && phase < MAPPED_PHASE_MAX;

        mapped_phase_body_encode(body, phase);
        bytes = to_bytes(body);
        assert_int_equal(mapped_phase_body_decode(bytes, &back, NULL), known);
        assert_int_equal(strcmp(mapped_phase_name(phase), "invalid") != 0, known);
    }
}

static void discards_come_out_as_they_went_in(void **state)
{
    for (guint n = 1; n <= DISCARD_RANGES_MAX; n++) {
        DiscardBody discard = { .block = 7, .n_ranges = n }, back;
        g_autoptr(GByteArray) body = g_byte_array_new();
        g_autoptr(GBytes) bytes = NULL;

        for (guint i = 0; i < n; i++)
            discard.ranges[i] = (MemoryRange){ 4096 * i, G_GUINT64_CONSTANT(1) << (12 + i) };
        discard_body_encode(body, &discard);
        assert_int_equal(body->len, 4 + 16 * n);
        bytes = to_bytes(body);
        assert_true(discard_body_decode(bytes, &back, NULL));
        assert_memory_equal(&back, &discard, sizeof back);
        for (gsize len = 0; len < body->len; len++) {
            g_autoptr(GBytes) cut = g_bytes_new(body->data, len);

            assert_false(discard_body_decode(cut, &back, NULL));
        }
    }
}

#define U64(last) "\0\0\0\0\0\0\0" last
#define FULL "\xff\xff\xff\xff\xff\xff\xff\xff"

static void bad_discards_are_refused_by_the_name_of_the_field(void **state)
{
    static const struct {
        const char *bytes;
        gsize len;
        const char *says;
    } rows[] = {
        { "\0\1\0\0", 4, "number of ranges 0 is out of range (1 to 12)" },
        { "\0\1\0\15", 4, "number of ranges 13" },
        { "\0\1\0\1" U64("\0") U64("\0"), 20, "length is 0" },
        { "\0\1\0\1" U64("\2") FULL, 20, "has no end" },
        { "\0\1\0\1" U64("\0") U64("\1") "x", 21, "the last range" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GBytes) bytes = from_text(rows[i].bytes, rows[i].len);
        g_autoptr(GError) error = NULL;
        DiscardBody back;

        assert_false(discard_body_decode(bytes, &back, &error));
        assert_contains_text(error, "DISCARD: ");
        assert_contains_text(error, rows[i].says);
    }
}

static void bad_received_is_refused_by_the_name_of_the_field(void **state)
{
    static const struct {
        const char *bytes;
        gsize len;
        const char *says;
    } rows[] = {
        { "\0\1\0\1" U64("\0") "x", 13, "reserved field is 0x0001" },
        { "\0\1\0\0" U64("\4") "x", 13, "first page 4 is no multiple of 8" },
        { "\0\1\0\0" U64("\0"), 12, "0 bytes of bitmap" },
        { "\0\1\0\0", 4, "first page" },
    };
    g_autofree char *long_one = g_malloc0(12 + RECEIVED_BYTES_MAX + 1);
    g_autoptr(GBytes) too_long = g_bytes_new(long_one, 12 + RECEIVED_BYTES_MAX + 1);
    ReceivedBody back;

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GBytes) bytes = from_text(rows[i].bytes, rows[i].len);
        g_autoptr(GError) error = NULL;

        assert_false(received_body_decode(bytes, &back, &error));
        assert_contains_text(error, "RECEIVED: ");
        assert_contains_text(error, rows[i].says);
    }
    assert_false(received_body_decode(too_long, &back, NULL));
}

/* ---- the bitmaps ---- */

static MemoryLayout *layout_with(int fd, gboolean recovers)
{
    MemoryLayout *layout = memory_layout_new(2);

    layout->regions[0].length = 100 * 4096;
    layout->regions[1].length = 64 * 4096;
    layout->received_fd = fd;
    layout->recovers = recovers;
    return layout;
}

static void a_page_is_received_once_and_forgotten_once(void **state)
{
    g_autoptr(MemoryLayout) layout = layout_with(-1, FALSE);
    g_autoptr(ReceivedMap) map = received_map_new(layout, NULL);

    assert_false(received_map_get(map, 0, 99));
    assert_int_equal(received_map_set(map, 0, 60, 40), 40);
    assert_int_equal(received_map_set(map, 0, 50, 20), 10);
    assert_int_equal(received_map_count(map, 0), 50);
    assert_int_equal(received_map_count(map, 1), 0);
    assert_int_equal(received_map_next(map, 0, 0, TRUE), 50);
    assert_int_equal(received_map_next(map, 0, 50, FALSE), 100);
    assert_int_equal(received_map_clear(map, 0, 63, 2), 2);
    assert_int_equal(received_map_clear(map, 0, 63, 2), 0);
    assert_int_equal(received_map_next(map, 0, 50, FALSE), 63);
    assert_int_equal(received_map_next(map, 0, 63, TRUE), 65);
    assert_int_equal(received_map_next(map, 1, 0, FALSE), 0);
    assert_int_equal(received_map_next(map, 1, 0, TRUE), 64);
}

static void what_one_helper_has_noted_the_next_one_finds(void **state)
{
    int fd = memfd_create("received", MFD_ALLOW_SEALING);
    guint8 wire[16];

    assert_int_equal(ftruncate(fd, 24), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    for (guint turn = 0; turn < 3; turn++) {
        /* The first one begins, and what was in the memory is nothing. */
        g_autoptr(MemoryLayout) layout = layout_with(dup(fd), turn == 1);
        g_autoptr(ReceivedMap) map = received_map_new(layout, NULL);

        assert_int_equal(received_map_count(map, 0), turn == 1 ? 3 : 0);
        received_map_set(map, 0, 0, 1);
        received_map_set(map, 0, 65, 2);
        assert_int_equal(received_map_wire(map, 0, 0, wire, sizeof wire), 13);
        assert_int_equal(wire[0], 1);
        assert_int_equal(wire[8], 6);
        assert_int_equal(received_map_wire(map, 0, 64, wire, sizeof wire), 5);
        assert_int_equal(wire[0], 6);
        assert_int_equal(received_map_wire(map, 0, 0, wire, 8), 8);
    }
    close(fd);
}

static void memory_that_could_be_taken_away_is_refused(void **state)
{
    int fds[] = { memfd_create("short", MFD_ALLOW_SEALING), memfd_create("unsealed", 0),
                  open("/dev/null", O_RDWR) };

    assert_int_equal(ftruncate(fds[0], 16), 0);
    assert_int_equal(fcntl(fds[0], F_ADD_SEALS, F_SEAL_SHRINK), 0);
    assert_int_equal(ftruncate(fds[1], 4096), 0);
    for (gsize i = 0; i < G_N_ELEMENTS(fds); i++) {
        g_autoptr(MemoryLayout) layout = layout_with(fds[i], FALSE);
        g_autoptr(GError) error = NULL;

        assert_null(received_map_new(layout, &error));
        assert_contains_text(error, "memfd of at least 24 bytes, sealed against shrinking");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_come_out_as_they_went_in),
        cmocka_unit_test(every_truncation_of_blocks_is_refused),
        cmocka_unit_test(bad_blocks_are_refused_by_the_name_of_the_field),
        cmocka_unit_test(every_phase_has_a_number_and_a_name),
        cmocka_unit_test(discards_come_out_as_they_went_in),
        cmocka_unit_test(bad_discards_are_refused_by_the_name_of_the_field),
        cmocka_unit_test(bad_received_is_refused_by_the_name_of_the_field),
        cmocka_unit_test(a_page_is_received_once_and_forgotten_once),
        cmocka_unit_test(what_one_helper_has_noted_the_next_one_finds),
        cmocka_unit_test(memory_that_could_be_taken_away_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
