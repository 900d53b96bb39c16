/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The thread that compresses PAGES: order, limits, and what it gives back. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <poll.h>
#include <string.h>

#include "ram/compress_worker.h"

#define PAGE 4096
#define PAGES 15
#define RESERVE 16

static CompressWorker *worker_new(int level)
{
    g_autoptr(GError) error = NULL;
    CompressWorker *worker = compress_worker_new(level, RESERVE, &error);

    if (!worker)
        fail_msg("%s", error->message);
    return worker;
}

/* The number is found again in the first page's offset. */
static guint8 *some_batch(guint number, gboolean random, gsize *ret_body_len)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(number);
    g_auto(PagesBatch) batch;
    guint8 data[PAGE];

    pages_batch_init(&batch, RESERVE);
    for (guint i = 0; i < PAGES; i++) {
        const QemuPage page = { .offset = (number + i) * PAGE, .kind = QEMU_PAGE_RAW,
                                .data = data, .data_len = PAGE };

        for (guint k = 0; k < PAGE; k++)
            data[k] = random ? g_rand_int(rand) : number + k / 64;
        assert_true(pages_batch_add(&batch, &page, PAGE));
    }
    return pages_batch_finish(&batch, ret_body_len);
}

static gboolean submit(CompressWorker *worker, guint number, gboolean random)
{
    gsize len;
    guint8 *bytes = some_batch(number, random, &len);
    gboolean taken = compress_worker_submit(worker, bytes, len, number);

    if (!taken)
        g_free(bytes);
    return taken;
}

static gboolean is_readable(const CompressWorker *worker, int timeout_ms)
{
    struct pollfd fd = { .fd = compress_worker_fd(worker), .events = POLLIN };

    return poll(&fd, 1, timeout_ms) == 1;
}

static void take(CompressWorker *worker, CompressJob *ret_job)
{
    assert_true(is_readable(worker, 10000));
    assert_true(compress_worker_take(worker, ret_job));
}

/* Whether job is batch `number`, unpacked or not; frees it. */
static void assert_job(CompressJob *job, guint number, gboolean random)
{
    g_autoptr(RamBlocks) blocks = ram_blocks_new();
    g_autoptr(PagesReader) reader = pages_reader_new(PAGE);
    g_autoptr(GBytes) body = g_bytes_new(job->bytes + RESERVE, job->body_len);
    g_autofree guint8 *want = NULL;
    gboolean more;
    gsize want_len;
    QemuPage page;
    guint index;

    assert_int_equal(job->target_pages, number);
    assert_int_equal(job->compressed, !random);
    want = some_batch(number, random, &want_len);
    assert_int_equal(job->plain_len, want_len);
    if (random) {
        assert_int_equal(job->body_len, want_len);
        assert_memory_equal(job->bytes + RESERVE, want + RESERVE, want_len);
    } else {
        assert_true(job->body_len < want_len / 2);
    }

    assert_true(ram_blocks_add(blocks, (const guint8 *)"ram", 3, 0, 0, &index, NULL));
    assert_true(pages_reader_begin(reader, body, NULL));
    assert_true(pages_reader_next(reader, blocks, &page, &more, NULL));
    assert_true(more);
    assert_true(page.offset == number * (guint64)PAGE);
    g_free(job->bytes);
}

static void jobs_come_out_in_their_order(void **state)
{
    g_autoptr(CompressWorker) worker = worker_new(1);
    guint submitted = 0, taken = 0;

    while (taken < 200) {
        CompressJob job;

        while (submitted < 200 && submit(worker, submitted, submitted % 3 == 0))
            submitted++;
        assert_int_equal(compress_worker_pending(worker), submitted - taken);
        take(worker, &job);
        assert_job(&job, taken, taken % 3 == 0);
        taken++;
    }
    assert_int_equal(compress_worker_pending(worker), 0);
}

static void nothing_beyond_the_limit_is_taken(void **state)
{
    g_autoptr(CompressWorker) worker = worker_new(1);
    CompressJob job;

    for (guint i = 0; i < COMPRESS_JOBS_MAX; i++)
        assert_true(submit(worker, i, FALSE));
    assert_false(submit(worker, COMPRESS_JOBS_MAX, FALSE));
    assert_int_equal(compress_worker_pending(worker), COMPRESS_JOBS_MAX);

    /* Done is not yet taken. */
    assert_true(is_readable(worker, 10000));
    assert_false(submit(worker, COMPRESS_JOBS_MAX, FALSE));
    take(worker, &job);
    assert_job(&job, 0, FALSE);
    assert_true(submit(worker, COMPRESS_JOBS_MAX, FALSE));
}

static void descriptor_is_readable_while_the_oldest_job_is_done(void **state)
{
    g_autoptr(CompressWorker) worker = worker_new(1);
    CompressJob job;

    assert_false(is_readable(worker, 0));
    assert_false(compress_worker_take(worker, &job));
    assert_true(submit(worker, 5, FALSE));
    take(worker, &job);
    assert_job(&job, 5, FALSE);
    assert_false(is_readable(worker, 0));
    assert_false(compress_worker_take(worker, &job));
}

static void what_does_not_get_smaller_comes_back_as_it_was(void **state)
{
    g_autoptr(CompressWorker) worker = worker_new(3);
    gsize len;
    guint8 *bytes = some_batch(9, TRUE, &len);
    CompressJob job;

    assert_true(compress_worker_submit(worker, bytes, len, 9));
    take(worker, &job);
    assert_ptr_equal(job.bytes, bytes);
    assert_job(&job, 9, TRUE);
}

static void worker_can_be_freed_with_jobs_under_way(void **state)
{
    for (guint round = 0; round < 20; round++) {
        g_autoptr(CompressWorker) worker = worker_new(round % 2 ? 19 : 1);
        guint jobs = round % (COMPRESS_JOBS_MAX + 1);

        for (guint i = 0; i < jobs; i++)
            assert_true(submit(worker, i, i % 2));
        if (jobs > 2) { /* some of them done and not taken */
            CompressJob job;

            take(worker, &job);
            assert_job(&job, 0, FALSE);
        }
    }
}

static void level_out_of_range_is_refused(void **state)
{
    static const int levels[] = { -1, 0, 20, G_MAXINT };

    for (gsize i = 0; i < G_N_ELEMENTS(levels); i++) {
        g_autoptr(GError) error = NULL;

        assert_null(compress_worker_new(levels[i], RESERVE, &error));
        assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_INVALID));
        assert_non_null(strstr(error->message, "zstd level"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_come_out_in_their_order),
        cmocka_unit_test(nothing_beyond_the_limit_is_taken),
        cmocka_unit_test(descriptor_is_readable_while_the_oldest_job_is_done),
        cmocka_unit_test(what_does_not_get_smaller_comes_back_as_it_was),
        cmocka_unit_test(worker_can_be_freed_with_jobs_under_way),
        cmocka_unit_test(level_out_of_range_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
