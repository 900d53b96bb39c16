/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which page goes next: against a naive search. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ram/page_scan.h"

static void assert_page(const ScanPage *page, guint block, guint64 first, guint64 n)
{
    assert_int_equal(page->block, block);
    assert_int_equal(page->page, first);
    assert_int_equal(page->n, n);
}

static void it_goes_on_where_it_left_off_and_round(void **state)
{
    g_autoptr(PageScan) scan = page_scan_new();
    g_autoptr(Bitmap) a = bitmap_new(100), b = bitmap_new(1000);
    ScanPage page;

    page_scan_add(scan, 0, a, 1);
    page_scan_add(scan, 2, b, 1);
    assert_false(page_scan_next(scan, &page));
    bitmap_set(a, 5);
    bitmap_set(a, 99);
    bitmap_set(b, 700);
    page_scan_go_to(scan, 0, 6);
    assert_int_equal(page_scan_count(scan), 3);
    assert_true(page_scan_next(scan, &page));
    assert_page(&page, 0, 99, 1);
    assert_true(page_scan_next(scan, &page)); /* it was not cleared */
    assert_page(&page, 0, 99, 1);
    bitmap_clear(a, 99);
    assert_true(page_scan_next(scan, &page));
    assert_page(&page, 2, 700, 1);
    bitmap_clear(b, 700);
    assert_true(page_scan_next(scan, &page));
    assert_page(&page, 0, 5, 1);
    bitmap_clear(a, 5);
    assert_false(page_scan_next(scan, &page));
}

static void a_large_host_page_is_found_by_any_of_its_pages(void **state)
{
    g_autoptr(PageScan) scan = page_scan_new();
    g_autoptr(Bitmap) pages = bitmap_new(8 * 3 + 2);
    ScanPage page;

    page_scan_add(scan, 1, pages, 8);
    bitmap_set(pages, 13);
    assert_true(page_scan_next(scan, &page));
    assert_page(&page, 1, 8, 8);
    bitmap_clear(pages, 13);
    bitmap_set(pages, 25);
    assert_true(page_scan_next(scan, &page));
    assert_page(&page, 1, 24, 2);
}

static void near_goes_so_far_and_no_further(void **state)
{
    g_autoptr(PageScan) scan = page_scan_new();
    g_autoptr(Bitmap) pages = bitmap_new(1000);
    ScanPage page;

    page_scan_add(scan, 0, pages, 1);
    bitmap_set_range(pages, 0, 1000);
    assert_false(page_scan_next_near(scan, &page));
    page_scan_set_near(scan, 0, 500, 3);
    for (guint64 i = 500; i < 503; i++) {
        assert_true(page_scan_next_near(scan, &page));
        assert_page(&page, 0, i, 1);
        bitmap_clear(pages, i);
    }
    assert_false(page_scan_next_near(scan, &page));
    /* The scan as a whole is where it was. */
    assert_true(page_scan_next(scan, &page));
    assert_page(&page, 0, 0, 1);
    page_scan_set_near(scan, 0, 999, G_MAXUINT64);
    assert_true(page_scan_next_near(scan, &page));
    assert_page(&page, 0, 999, 1);
    bitmap_clear(pages, 999);
    assert_false(page_scan_next_near(scan, &page));
}

static void a_block_that_is_taken_out_is_not_looked_at(void **state)
{
    g_autoptr(PageScan) scan = page_scan_new();
    g_autoptr(Bitmap) pages = bitmap_new(10);
    ScanPage page;

    bitmap_set(pages, 3);
    assert_false(page_scan_has(scan, 4));
    page_scan_add(scan, 4, pages, 1);
    assert_true(page_scan_has(scan, 4));
    page_scan_set_near(scan, 4, 0, 10);
    page_scan_remove(scan, 4);
    page_scan_remove(scan, 9);
    assert_false(page_scan_has(scan, 4));
    assert_false(page_scan_next(scan, &page));
    assert_false(page_scan_next_near(scan, &page));
    assert_int_equal(page_scan_count(scan), 0);
}

/* Whatever is set and wherever it begins: each host page once, none left. */
static void random_bits_are_all_found_once(void **state)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(11);

    for (guint round = 0; round < 200; round++) {
        g_autoptr(PageScan) scan = page_scan_new();
        Bitmap *pages[3];
        guint64 left = 0;
        ScanPage page;

        for (guint i = 0; i < 3; i++) {
            pages[i] = bitmap_new(g_rand_int_range(rand, 1, 400));
            for (guint k = 0; k < 40; k++)
                bitmap_set(pages[i], g_rand_int_range(rand, 0, bitmap_pages(pages[i])));
            page_scan_add(scan, i, pages[i], 1u << g_rand_int_range(rand, 0, 5));
            left += bitmap_count(pages[i]);
        }
        page_scan_go_to(scan, g_rand_int_range(rand, 0, 4), g_rand_int_range(rand, 0, 500));
        while (page_scan_next(scan, &page)) {
            guint64 n = bitmap_count_range(pages[page.block], page.page, page.n);

            assert_in_range(n, 1, page.n);
            left -= n;
            bitmap_clear_range(pages[page.block], page.page, page.n);
            if (g_rand_int_range(rand, 0, 5) == 0)
                page_scan_go_to(scan, g_rand_int_range(rand, 0, 3), g_rand_int_range(rand, 0, 400));
        }
        assert_int_equal(left, 0);
        for (guint i = 0; i < 3; i++)
            bitmap_free(pages[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_goes_on_where_it_left_off_and_round),
        cmocka_unit_test(a_large_host_page_is_found_by_any_of_its_pages),
        cmocka_unit_test(near_goes_so_far_and_no_further),
        cmocka_unit_test(a_block_that_is_taken_out_is_not_looked_at),
        cmocka_unit_test(random_bits_are_all_found_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
