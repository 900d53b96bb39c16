/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The stage of host pages: order, completeness, accounting; random calls against a naive model. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "ram/stage.h"

#define TARGET 4096
#define HUGE_PAGE (8 * TARGET)

/* ---- pages ---- */

/* Contents that tell which page it is. */
static void fill_page(guint8 *data, guint block, guint64 offset)
{
    memset(data, (int)(block * 31 + offset / TARGET), TARGET);
    memcpy(data, &offset, sizeof(offset));
}

static StagePut put_raw(Stage *stage, guint block, guint64 offset, guint64 host_page)
{
    guint8 data[TARGET];
    QemuPage page = { .block = block, .offset = offset, .kind = QEMU_PAGE_RAW, .data = data,
                      .data_len = sizeof(data) };
    StagePut put;

    fill_page(data, block, offset);
    put = stage_put(stage, &page, host_page, NULL);
    memset(data, 0xee, sizeof(data)); /* the stage has a copy */
    return put;
}

static StagePut put_zero(Stage *stage, guint block, guint64 offset, guint64 host_page)
{
    QemuPage page = { .block = block, .offset = offset, .kind = QEMU_PAGE_ZERO, .fill = 7 };

    return stage_put(stage, &page, host_page, NULL);
}

static void assert_record(const StagedPage *page, guint i)
{
    const StagedRecord *record = &page->records[i];
    guint8 data[TARGET];

    if (record->kind == QEMU_PAGE_ZERO) {
        assert_int_equal(record->fill, 7);
        assert_null(record->data);
        return;
    }
    assert_int_equal(record->kind, QEMU_PAGE_RAW);
    assert_int_equal(record->data_len, TARGET);
    fill_page(data, page->block, page->offset + (guint64)i * TARGET);
    assert_memory_equal(record->data, data, TARGET);
}

static void take_first(Stage *stage)
{
    StagedPage *page = stage_first(stage);

    assert_non_null(page);
    stage_take(stage, page);
    staged_page_free(page);
}

/* ---- rows ---- */

static void ready_pages_come_oldest_first(void **state)
{
    static const guint64 offsets[] = { 5 * TARGET, 0, 9 * TARGET };
    g_autoptr(Stage) stage = stage_new(TARGET, 1 << 20);

    assert_null(stage_first(stage));
    for (gsize i = 0; i < G_N_ELEMENTS(offsets); i++)
        assert_int_equal(put_raw(stage, 2, offsets[i], TARGET), STAGE_PUT_READY);
    assert_int_equal(stage_ready_pages(stage), 3);
    for (gsize i = 0; i < G_N_ELEMENTS(offsets); i++) {
        g_autoptr(StagedPage) page = stage_first(stage);

        stage_take(stage, page);
        assert_int_equal(page->offset, offsets[i]);
        assert_int_equal(page->block, 2);
        assert_true(page->records == &page->single);
        assert_record(page, 0);
    }
    assert_null(stage_first(stage));
    assert_int_equal(stage_bytes(stage), 0);
}

static void one_from_the_middle_can_be_taken(void **state)
{
    g_autoptr(Stage) stage = stage_new(TARGET, 1 << 20);
    g_autoptr(StagedPage) middle = NULL;

    for (guint i = 0; i < 3; i++)
        put_raw(stage, 0, (guint64)i * TARGET, TARGET);
    middle = stage_find(stage, 0, TARGET + 100, TARGET);
    assert_non_null(middle);
    stage_take(stage, middle);
    assert_null(stage_find(stage, 0, TARGET, TARGET));
    assert_int_equal(stage_first(stage)->offset, 0);
    take_first(stage);
    assert_int_equal(stage_first(stage)->offset, 2 * TARGET);
    /* It may come again once it is out. */
    assert_int_equal(put_raw(stage, 0, TARGET, TARGET), STAGE_PUT_READY);
    take_first(stage);
    assert_int_equal(stage_first(stage)->offset, TARGET);
}

static void blocks_are_kept_apart(void **state)
{
    g_autoptr(Stage) stage = stage_new(TARGET, 1 << 20);

    put_raw(stage, 1, TARGET, TARGET);
    assert_null(stage_find(stage, 0, TARGET, TARGET));
    assert_non_null(stage_find(stage, 1, TARGET, TARGET));
    assert_int_equal(put_raw(stage, 0, TARGET, TARGET), STAGE_PUT_READY);
}

static void a_host_page_is_ready_when_all_of_it_is_there(void **state)
{
    static const guint order[] = { 3, 0, 1, 7, 6, 5, 2 };
    g_autoptr(Stage) stage = stage_new(TARGET, 1 << 20);
    StagedPage *page;

    for (gsize i = 0; i < G_N_ELEMENTS(order); i++) {
        guint64 offset = HUGE_PAGE + (guint64)order[i] * TARGET;

        assert_int_equal(i % 2 ? put_raw(stage, 0, offset, HUGE_PAGE)
                               : put_zero(stage, 0, offset, HUGE_PAGE), STAGE_PUT_PARTIAL);
        assert_int_equal(put_raw(stage, 0, offset, HUGE_PAGE), STAGE_PUT_DUPLICATE);
        assert_null(stage_first(stage));
    }
    page = stage_find(stage, 0, 2 * HUGE_PAGE - 1, HUGE_PAGE);
    assert_non_null(page);
    assert_false(page->ready);
    assert_int_equal(page->n_present, 7);
    assert_int_equal(stage_partial_pages(stage), 1);

    assert_int_equal(put_raw(stage, 0, HUGE_PAGE + 4 * TARGET, HUGE_PAGE), STAGE_PUT_READY);
    assert_true(page->ready);
    assert_ptr_equal(stage_first(stage), page);
    assert_int_equal(stage_partial_pages(stage), 0);
    for (guint i = 0; i < page->n_records; i++)
        assert_record(page, i);
}

static void a_duplicate_changes_nothing(void **state)
{
    g_autoptr(Stage) stage = stage_new(TARGET, 1 << 20);
    gsize bytes;

    put_zero(stage, 0, 0, TARGET);
    put_raw(stage, 0, TARGET, TARGET);
    bytes = stage_bytes(stage);
    assert_int_equal(put_raw(stage, 0, 0, TARGET), STAGE_PUT_DUPLICATE);
    assert_int_equal(put_zero(stage, 0, TARGET, TARGET), STAGE_PUT_DUPLICATE);
    assert_int_equal(stage_bytes(stage), bytes);
    assert_int_equal(stage_ready_pages(stage), 2);
    assert_record(stage_first(stage), 0);
    assert_int_equal(stage_first(stage)->single.kind, QEMU_PAGE_ZERO);
}

static void book_keeping_counts(void **state)
{
    g_autoptr(Stage) stage = stage_new(TARGET, 3 * TARGET);
    gsize two;

    put_zero(stage, 0, 0, TARGET);
    assert_true(stage_bytes(stage) >= sizeof(StagedPage));
    assert_true(stage_bytes(stage) < 512);
    put_raw(stage, 0, 2 * TARGET, TARGET);
    put_raw(stage, 0, 3 * TARGET, TARGET);
    assert_false(stage_is_full(stage));
    two = stage_bytes(stage);
    put_raw(stage, 0, 4 * TARGET, TARGET);
    assert_true(stage_is_full(stage));
    assert_true(stage_bytes(stage) > 3 * TARGET + 4 * sizeof(StagedPage));
    assert_int_equal(stage_limit(stage), 3 * TARGET);

    take_first(stage);
    take_first(stage);
    assert_false(stage_is_full(stage));
    assert_true(stage_high_water(stage) > two);
    assert_true(stage_bytes(stage) < two);
}

static void what_is_left_is_freed_with_the_stage(void **state)
{
    Stage *stage = stage_new(TARGET, 1 << 20);

    put_raw(stage, 0, 0, TARGET);
    put_raw(stage, 0, HUGE_PAGE, HUGE_PAGE);
    put_zero(stage, 0, HUGE_PAGE + TARGET, HUGE_PAGE);
    stage_free(stage); /* leaks are valgrind's and ASan's to find */
    stage_free(NULL);
    staged_page_free(NULL);
}

/* ---- against a model ---- */

#define MODEL_BLOCKS 2
#define MODEL_PAGES 6 /* host pages of a block; block 0 has small ones, block 1 huge ones */

typedef struct {
    gboolean present[MODEL_BLOCKS][MODEL_PAGES][8];
    guint order[64]; /* ready ones, oldest first: block * MODEL_PAGES + host page */
    guint n_ready;
} Model;

static guint64 model_host_page(guint block)
{
    return block == 0 ? TARGET : HUGE_PAGE;
}

static guint model_present(const Model *model, guint block, guint host)
{
    guint n = 0;

    for (guint i = 0; i < model_host_page(block) / TARGET; i++)
        n += model->present[block][host][i] ? 1 : 0;
    return n;
}

static StagePut model_put(Model *model, guint block, guint host, guint i)
{
    if (model->present[block][host][i])
        return STAGE_PUT_DUPLICATE;
    model->present[block][host][i] = TRUE;
    if (model_present(model, block, host) < model_host_page(block) / TARGET)
        return STAGE_PUT_PARTIAL;
    model->order[model->n_ready++] = block * MODEL_PAGES + host;
    return STAGE_PUT_READY;
}

static void model_take(Model *model, guint at)
{
    guint key = model->order[at];

    memset(model->present[key / MODEL_PAGES][key % MODEL_PAGES], 0,
           sizeof(model->present[0][0]));
    model->n_ready--;
    memmove(&model->order[at], &model->order[at + 1],
            (model->n_ready - at) * sizeof(model->order[0]));
}

static void assert_model(const Model *model, const Stage *stage)
{
    guint partial = 0;

    for (guint block = 0; block < MODEL_BLOCKS; block++) {
        for (guint host = 0; host < MODEL_PAGES; host++) {
            guint64 size = model_host_page(block);
            StagedPage *page = stage_find(stage, block, host * size + size / 2, size);
            guint present = model_present(model, block, host);

            assert_int_equal(page != NULL, present > 0);
            if (!page)
                continue;
            assert_int_equal(page->n_present, present);
            assert_int_equal(page->ready, present == size / TARGET);
            partial += page->ready ? 0 : 1;
        }
    }
    assert_int_equal(stage_ready_pages(stage), model->n_ready);
    assert_int_equal(stage_partial_pages(stage), partial);
}

static void random_put(Model *model, Stage *stage, GRand *rand)
{
    guint block = (guint)g_rand_int_range(rand, 0, MODEL_BLOCKS);
    guint host = (guint)g_rand_int_range(rand, 0, MODEL_PAGES);
    guint64 size = model_host_page(block);
    guint i = (guint)g_rand_int_range(rand, 0, (gint32)(size / TARGET));
    guint64 offset = host * size + (guint64)i * TARGET;

    assert_int_equal(g_rand_boolean(rand) ? put_raw(stage, block, offset, size)
                                          : put_zero(stage, block, offset, size),
                     model_put(model, block, host, i));
}

static void random_take(Model *model, Stage *stage, GRand *rand)
{
    guint at = g_rand_boolean(rand) ? 0 : (guint)g_rand_int_range(rand, 0, (gint32)model->n_ready);
    guint block = model->order[at] / MODEL_PAGES;
    guint64 size = model_host_page(block);
    g_autoptr(StagedPage) page = NULL;

    page = at == 0 ? stage_first(stage)
                   : stage_find(stage, block, (model->order[at] % MODEL_PAGES) * size, size);
    stage_take(stage, page);
    assert_int_equal(page->block, block);
    assert_int_equal(page->offset, (model->order[at] % MODEL_PAGES) * size);
    for (guint i = 0; i < page->n_records; i++)
        assert_record(page, i);
    model_take(model, at);
}

static void behaves_like_a_naive_model(void **state)
{
    GRand *rand = g_rand_new_with_seed(3);

    for (guint run = 0; run < 10; run++) {
        g_autoptr(Stage) stage = stage_new(TARGET, 1 << 20);
        Model model = { 0 };

        for (guint i = 0; i < 600; i++) {
            if (model.n_ready > 0 && g_rand_int_range(rand, 0, 4) == 0)
                random_take(&model, stage, rand);
            else
                random_put(&model, stage, rand);
            assert_model(&model, stage);
        }
        while (model.n_ready > 0)
            random_take(&model, stage, rand);
        assert_null(stage_first(stage));
    }
    g_rand_free(rand);
}

/* Not a measurement, but a list that is searched would take minutes here. With STAGE_TRACE set it
 * tells the time of one page through the stage. */
static void many_pages_go_through_quickly(void **state)
{
    const guint n = 16384;
    g_autoptr(Stage) stage = stage_new(TARGET, 1 << 20);
    gint64 start = g_get_monotonic_time();

    for (guint i = 0; i < n; i++)
        assert_int_equal(put_raw(stage, 0, (guint64)i * TARGET, TARGET), STAGE_PUT_READY);
    for (guint i = n; i-- > 0;) {
        g_autoptr(StagedPage) page = stage_find(stage, 0, (guint64)i * TARGET, TARGET);

        assert_non_null(page);
        stage_take(stage, page);
    }
    if (g_getenv("STAGE_TRACE"))
        printf("%.3f us a page\n", (double)(g_get_monotonic_time() - start) / n);
    assert_int_equal(stage_bytes(stage), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ready_pages_come_oldest_first),
        cmocka_unit_test(one_from_the_middle_can_be_taken),
        cmocka_unit_test(blocks_are_kept_apart),
        cmocka_unit_test(a_host_page_is_ready_when_all_of_it_is_there),
        cmocka_unit_test(a_duplicate_changes_nothing),
        cmocka_unit_test(book_keeping_counts),
        cmocka_unit_test(what_is_left_is_freed_with_the_stage),
        cmocka_unit_test(behaves_like_a_naive_model),
        cmocka_unit_test(many_pages_go_through_quickly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
