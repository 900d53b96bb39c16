/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The page bitmap against a plain array of booleans. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "ram/bitmap.h"

/* ---- a naive model ---- */

typedef struct {
    Bitmap *bitmap;
    guint8 *model; /* a byte for each page */
    guint64 pages;
} Pair;

static void pair_init(Pair *pair, guint64 pages)
{
    pair->bitmap = bitmap_new(pages);
    pair->model = g_malloc0(pages + 1);
    pair->pages = pages;
}

static void pair_clear(Pair *pair)
{
    bitmap_free(pair->bitmap);
    g_free(pair->model);
}

static guint64 model_count(const Pair *pair, guint64 first, guint64 n)
{
    guint64 count = 0;

    for (guint64 i = first; i < first + n; i++)
        count += pair->model[i];
    return count;
}

static void assert_same(const Pair *pair)
{
    guint64 next = pair->pages;

    assert_int_equal(bitmap_pages(pair->bitmap), pair->pages);
    assert_int_equal(bitmap_count(pair->bitmap), model_count(pair, 0, pair->pages));
    assert_int_equal(bitmap_next(pair->bitmap, pair->pages), pair->pages);
    for (guint64 i = pair->pages; i-- > 0;) {
        if (pair->model[i])
            next = i;
        assert_int_equal(bitmap_get(pair->bitmap, i), pair->model[i]);
        assert_int_equal(bitmap_next(pair->bitmap, i), next);
    }
}

static void random_range(GRand *rand, guint64 pages, guint64 *ret_first, guint64 *ret_n)
{
    *ret_first = (guint64)g_rand_int_range(rand, 0, (gint32)pages + 1);
    *ret_n = (guint64)g_rand_int_range(rand, 0, (gint32)(pages - *ret_first) + 1);
}

static void merge_random_wire(Pair *pair, GRand *rand)
{
    guint8 wire[40];
    gsize len = (gsize)g_rand_int_range(rand, 0, sizeof(wire) + 1);
    guint64 first = 8 * (guint64)g_rand_int_range(rand, 0, (gint32)pair->pages / 8 + 2);

    for (gsize i = 0; i < len; i++)
        wire[i] = (guint8)g_rand_int(rand);
    bitmap_merge_wire(pair->bitmap, first, wire, len);
    for (guint64 i = 0; i < len * 8 && first + i < pair->pages; i++)
        pair->model[first + i] |= (wire[i / 8] >> (i % 8)) & 1;
}

static void do_something(Pair *pair, GRand *rand)
{
    guint64 first;
    guint64 n;

    random_range(rand, pair->pages, &first, &n);
    switch (g_rand_int_range(rand, 0, 6)) {
    case 0:
        bitmap_set_range(pair->bitmap, first, n);
        memset(pair->model + first, 1, n);
        break;
    case 1:
        bitmap_clear_range(pair->bitmap, first, n);
        memset(pair->model + first, 0, n);
        break;
    case 2:
        if (first < pair->pages) {
            assert_int_equal(bitmap_set(pair->bitmap, first), !pair->model[first]);
            pair->model[first] = 1;
        }
        break;
    case 3:
        if (first < pair->pages) {
            assert_int_equal(bitmap_clear(pair->bitmap, first), pair->model[first]);
            pair->model[first] = 0;
        }
        break;
    case 4:
        merge_random_wire(pair, rand);
        break;
    default:
        assert_int_equal(bitmap_count_range(pair->bitmap, first, n), model_count(pair, first, n));
    }
}

static void behaves_like_an_array_of_booleans(void **state)
{
    static const guint64 sizes[] = { 0, 1, 7, 8, 63, 64, 65, 128, 200 };
    GRand *rand = g_rand_new_with_seed(1);

    for (gsize s = 0; s < G_N_ELEMENTS(sizes); s++) {
        Pair pair;

        pair_init(&pair, sizes[s]);
        for (guint i = 0; i < 300; i++) {
            do_something(&pair, rand);
            assert_same(&pair);
        }
        pair_clear(&pair);
    }
    g_rand_free(rand);
}

/* ---- rows ---- */

static void a_page_beyond_the_end_is_not_set(void **state)
{
    g_autoptr(Bitmap) bitmap = bitmap_new(10);

    bitmap_set_range(bitmap, 0, 10);
    assert_true(bitmap_get(bitmap, 9));
    assert_false(bitmap_get(bitmap, 10));
    assert_false(bitmap_get(bitmap, G_MAXUINT64));
    assert_int_equal(bitmap_next(bitmap, G_MAXUINT64), 10);
}

static void new_pages_are_clear_when_it_grows(void **state)
{
    static const guint64 from[] = { 0, 1, 63, 64, 65 };

    for (gsize i = 0; i < G_N_ELEMENTS(from); i++) {
        g_autoptr(Bitmap) bitmap = bitmap_new(from[i]);

        bitmap_set_range(bitmap, 0, from[i]);
        bitmap_grow(bitmap, 300);
        assert_int_equal(bitmap_pages(bitmap), 300);
        assert_int_equal(bitmap_count(bitmap), from[i]);
        assert_int_equal(bitmap_count_range(bitmap, from[i], 300 - from[i]), 0);
        assert_true(bitmap_set(bitmap, 299));
        assert_int_equal(bitmap_next(bitmap, from[i]), 299);
    }
}

static void growing_to_less_changes_nothing(void **state)
{
    g_autoptr(Bitmap) bitmap = bitmap_new(100);

    bitmap_set(bitmap, 99);
    bitmap_grow(bitmap, 5);
    assert_int_equal(bitmap_pages(bitmap), 100);
    assert_true(bitmap_get(bitmap, 99));
}

static void the_wire_form_is_least_significant_bit_first(void **state)
{
    static const guint8 wire[] = { 0x01, 0x80, 0x00, 0xff };
    g_autoptr(Bitmap) bitmap = bitmap_new(60);

    bitmap_set(bitmap, 40);
    bitmap_merge_wire(bitmap, 40, wire, sizeof(wire));
    /* Page 40 was set already; 55 is bit 7 of the second byte; the rest lies beyond the end. */
    assert_int_equal(bitmap_count(bitmap), 2);
    assert_true(bitmap_get(bitmap, 40));
    assert_true(bitmap_get(bitmap, 55));
    bitmap_merge_wire(bitmap, 64, wire, sizeof(wire));
    assert_int_equal(bitmap_count(bitmap), 2);
}

static void holds_the_pages_of_a_large_guest(void **state)
{
    guint64 pages = G_GUINT64_CONSTANT(1) << 28; /* 1 TiB of 4 KiB pages */
    g_autoptr(Bitmap) bitmap = bitmap_new(pages);

    assert_true(bitmap_set(bitmap, pages - 1));
    assert_int_equal(bitmap_next(bitmap, 0), pages - 1);
    assert_int_equal(bitmap_count_range(bitmap, pages / 2, pages / 2), 1);
    assert_int_equal(bitmap_count(bitmap), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behaves_like_an_array_of_booleans),
        cmocka_unit_test(a_page_beyond_the_end_is_not_set),
        cmocka_unit_test(new_pages_are_clear_when_it_grows),
        cmocka_unit_test(growing_to_less_changes_nothing),
        cmocka_unit_test(the_wire_form_is_least_significant_bit_first),
        cmocka_unit_test(holds_the_pages_of_a_large_guest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
