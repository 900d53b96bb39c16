/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a source knows of where there is nothing: on memory that was never touched, read, written
 * with zeros and written, in whatever order it is asked. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "ram/mapped/hole_look.h"
#include "tests/support/mapped-memory.h"

#define PAGE 4096
#define PAGES 8192

typedef enum { UNTOUCHED, WAS_READ, ZEROS, DATA } Kind;

/* In stretches of all lengths. */
static Kind *touch(MappedMemory *memory, GRand *rand)
{
    Kind *kinds = g_new0(Kind, PAGES);
    guint left = 0;
    Kind kind = UNTOUCHED;

    for (guint i = 0; i < PAGES; i++, left--) {
        volatile guint8 *at = memory->at + (gsize)i * PAGE;

        if (left == 0) {
            left = 1 << g_rand_int_range(rand, 0, 9);
            kind = (Kind)g_rand_int_range(rand, UNTOUCHED, DATA + 1);
        }
        kinds[i] = kind;
        if (kind == WAS_READ)
            (void)at[17];
        else if (kind == ZEROS || kind == DATA)
            at[17] = kind == DATA;
    }
    return kinds;
}

/* A file has no page to be read where there is a hole. */
static gboolean may_be_hole(const MappedMemory *memory, Kind kind)
{
    return kind == UNTOUCHED || (kind == WAS_READ && memory->kind == MAPPED_PRIVATE);
}

/* Returns how many pages are dealt with. */
static guint64 check_at(const MappedMemory *memory, HoleLook *look, const Kind *kinds, guint64 page)
{
    guint64 zeros = hole_look_zeros(look, 0, page * PAGE);
    guint64 n;

    assert_int_equal(zeros % PAGE, 0);
    for (guint64 i = 0; i < zeros / PAGE; i++)
        assert_true(may_be_hole(memory, kinds[page + i]) || kinds[page + i] == WAS_READ);
    if (zeros > 0)
        return zeros / PAGE;
    assert_false(may_be_hole(memory, kinds[page]));
    n = hole_look_data(look, 0, page * PAGE);
    assert_true(n >= PAGE && n % PAGE == 0 && n <= (PAGES - page) * PAGE);
    return n / PAGE;
}

static void check_all(MappedKind kind)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(kind, PAGES * PAGE, MAPPED_WRITE_LOG);
    g_autoptr(GuestMemory) guest = guest_memory_new(memory->layout, NULL);
    g_autoptr(HoleLook) look = hole_look_new(guest);
    GRand *rand = g_rand_new_with_seed(7);
    g_autofree Kind *kinds = NULL;

    /* A huge page that comes by itself is there as a whole. */
    madvise(memory->at, memory->length, MADV_NOHUGEPAGE);
    kinds = touch(memory, rand);
    for (guint64 page = 0; page < PAGES; page += check_at(memory, look, kinds, page))
        ;
    /* While others jump about. */
    for (guint64 page = 0; page < PAGES; page += check_at(memory, look, kinds, page)) {
        for (guint i = g_rand_int_range(rand, 0, 3); i > 0; i--)
            check_at(memory, look, kinds, g_rand_int_range(rand, 0, PAGES));
    }
    g_rand_free(rand);
}

static void what_was_never_written_is_found_wherever_it_is_asked(void **state)
{
    check_all(MAPPED_PRIVATE);
    check_all(MAPPED_MEMFD);
}

static void nothing_at_all_is_found_in_a_few_looks(void **state)
{
    g_autoptr(MappedMemory) memory =
        mapped_memory_new(MAPPED_PRIVATE, PAGES * PAGE, MAPPED_WRITE_LOG);
    g_autoptr(GuestMemory) guest = guest_memory_new(memory->layout, NULL);
    g_autoptr(HoleLook) look = hole_look_new(guest);
    guint64 at = 0;
    guint looks = 0;

    for (; at < PAGES * PAGE; at += hole_look_zeros(look, 0, at))
        looks++;
    assert_int_equal(at, PAGES * PAGE);
    assert_true(looks <= 12);
}

static void what_was_found_stands_until_it_is_forgotten(void **state)
{
    g_autoptr(MappedMemory) memory =
        mapped_memory_new(MAPPED_PRIVATE, PAGES * PAGE, MAPPED_WRITE_LOG);
    g_autoptr(GuestMemory) guest = guest_memory_new(memory->layout, NULL);
    g_autoptr(HoleLook) look = hole_look_new(guest);

    assert_true(hole_look_zeros(look, 0, 0) > 8 * PAGE);
    memory->at[8 * PAGE] = 1;
    assert_true(hole_look_zeros(look, 0, 0) > 8 * PAGE);
    hole_look_forget(look);
    assert_int_equal(hole_look_zeros(look, 0, 0), 8 * PAGE);
    assert_int_equal(hole_look_zeros(look, 0, 8 * PAGE), 0);
    assert_int_equal(hole_look_data(look, 0, 8 * PAGE), PAGE);
}

/* Whoever reads it hears that it is gone. And what is not registered for a log may be anything: a
 * file's, or memory that is missing to its own process as well. */
static void memory_that_is_gone_or_not_registered_is_no_zeros(void **state)
{
    g_autoptr(MappedMemory) gone =
        mapped_memory_new(MAPPED_PRIVATE, PAGES * PAGE, MAPPED_WRITE_LOG);
    g_autoptr(GuestMemory) guest = guest_memory_new(gone->layout, NULL);
    g_autoptr(HoleLook) look = hole_look_new(guest);
    g_autoptr(MappedMemory) other = mapped_memory_new(MAPPED_PRIVATE, PAGES * PAGE, MAPPED_NO_LOG);
    g_autoptr(GuestMemory) other_guest = NULL;
    g_autoptr(HoleLook) other_look = NULL;

    assert_int_equal(munmap(gone->at + 4 * PAGE, 4 * PAGE), 0);
    assert_int_equal(hole_look_zeros(look, 0, 0), 4 * PAGE);
    assert_int_equal(hole_look_zeros(look, 0, 4 * PAGE), 0);
    assert_int_equal(hole_look_data(look, 0, 4 * PAGE), 4 * PAGE);
    assert_true(hole_look_zeros(look, 0, 8 * PAGE) > 0);

    mapped_memory_open_pagemap(other);
    other_guest = guest_memory_new(other->layout, NULL);
    other_look = hole_look_new(other_guest);
    for (guint64 at = 0; at < PAGES * PAGE; at += hole_look_data(other_look, 0, at))
        assert_int_equal(hole_look_zeros(other_look, 0, at), 0);
}

static void without_a_pagemap_all_is_read(void **state)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(MAPPED_PRIVATE, PAGES * PAGE, MAPPED_NO_LOG);
    g_autoptr(GuestMemory) guest = guest_memory_new(memory->layout, NULL);
    g_autoptr(HoleLook) look = hole_look_new(guest);

    assert_int_equal(hole_look_zeros(look, 0, 0), 0);
    assert_true(hole_look_data(look, 0, 0) >= PAGE);
    assert_int_equal(hole_look_data(look, 0, (PAGES - 1) * PAGE), PAGE);
}

/* Of a file it is not known how far data goes: it is read in pieces that grow. */
static void data_of_a_file_is_read_in_larger_and_larger_pieces(void **state)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(MAPPED_MEMFD, PAGES * PAGE, MAPPED_NO_LOG);
    g_autoptr(GuestMemory) guest = guest_memory_new(memory->layout, NULL);
    g_autoptr(HoleLook) look = hole_look_new(guest);
    guint64 at = 0;

    memset(memory->at, 1, PAGES * PAGE);
    for (guint64 want = PAGE; want <= GUEST_MEMORY_PEEK_MAX; want *= 2) {
        assert_int_equal(hole_look_zeros(look, 0, at), 0);
        assert_int_equal(hole_look_data(look, 0, at), want);
        at += want;
    }
    assert_int_equal(hole_look_data(look, 0, at), GUEST_MEMORY_PEEK_MAX);
    assert_int_equal(hole_look_data(look, 0, 0), PAGE);
    assert_int_equal(hole_look_data(look, 0, (PAGES - 1) * PAGE), PAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_never_written_is_found_wherever_it_is_asked),
        cmocka_unit_test(nothing_at_all_is_found_in_a_few_looks),
        cmocka_unit_test(what_was_found_stands_until_it_is_forgotten),
        cmocka_unit_test(memory_that_is_gone_or_not_registered_is_no_zeros),
        cmocka_unit_test(without_a_pagemap_all_is_read),
        cmocka_unit_test(data_of_a_file_is_read_in_larger_and_larger_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
