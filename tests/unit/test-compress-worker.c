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

static CompressConfig config_of(guint threads, int zstd_level)
{
    return (CompressConfig){ .levels = { { [PAGES_ZSTD] = zstd_level, [PAGES_ZLIB] = 1 } },
                             .threads = threads,
                             .reserve = RESERVE };
}

static CompressWorker *worker_new(guint threads, int zstd_level)
{
    const CompressConfig config = config_of(threads, zstd_level);
    g_autoptr(GError) error = NULL;
    CompressWorker *worker = compress_worker_new(&config, &error);

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

static gboolean submit_as(CompressWorker *worker, PagesEncoding encoding, guint number,
                          gboolean random)
{
    gsize len;
    guint8 *bytes = some_batch(number, random, &len);
    gboolean taken = compress_worker_submit(worker, encoding, bytes, len, number);

    if (!taken)
        g_free(bytes);
    return taken;
}

static gboolean submit(CompressWorker *worker, guint number, gboolean random)
{
    return submit_as(worker, PAGES_ZSTD, number, random);
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

/* Whether job is batch `number`, packed so or (random) not at all; frees it. */
static void assert_job_as(CompressJob *job, PagesEncoding encoding, guint number, gboolean random)
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
    assert_int_equal(job->encoding, random ? PAGES_PLAIN : encoding);
    assert_int_equal(job->bytes[RESERVE], job->encoding);
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

static void assert_job(CompressJob *job, guint number, gboolean random)
{
    assert_job_as(job, PAGES_ZSTD, number, random);
}

static PagesEncoding encoding_of(guint number)
{
    return number % 5 < 2 ? PAGES_ZLIB : PAGES_ZSTD;
}

/* Some of the jobs take ten times as long as others, so that threads get ahead of each other. */
static void jobs_come_out_in_their_order(void **state)
{
    static const guint threads[] = { 1, 2, 3, COMPRESS_THREADS_MAX };

    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++) {
        g_autoptr(CompressWorker) worker = worker_new(threads[i], 9);
        guint submitted = 0, taken = 0;

        while (taken < 200) {
            CompressJob job;

            while (submitted < 200 && submit_as(worker, encoding_of(submitted), submitted,
                                                submitted % 3 == 0))
                submitted++;
            assert_int_equal(compress_worker_pending(worker), submitted - taken);
            take(worker, &job);
            assert_job_as(&job, encoding_of(taken), taken, taken % 3 == 0);
            taken++;
        }
        assert_int_equal(compress_worker_pending(worker), 0);
    }
}

/* Threads of this process that compress. */
static guint count_threads(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/task", 0, NULL);
    const char *name;
    guint n = 0;

    assert_non_null(dir);
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename("/proc/self/task", name, "comm", NULL);
        g_autofree char *text = NULL;

        if (g_file_get_contents(path, &text, NULL, NULL) && g_str_equal(text, "compress\n"))
            n++;
    }
    return n;
}

/* Each of them works: as many jobs as threads, and each comes back. */
static void there_are_as_many_threads_as_asked_for(void **state)
{
    for (guint threads = 1; threads <= COMPRESS_THREADS_MAX; threads++) {
        g_autoptr(CompressWorker) worker = worker_new(threads, 1);
        CompressJob job;

        for (guint i = 0; i < threads; i++)
            assert_true(submit(worker, i, FALSE));
        for (guint i = 0; i < threads; i++) {
            take(worker, &job);
            assert_job(&job, i, FALSE);
        }
        assert_int_equal(count_threads(), threads);
    }
    assert_int_equal(count_threads(), 0);
}

static void nothing_beyond_the_limit_is_taken(void **state)
{
    for (guint threads = 1; threads <= 4; threads++) {
        g_autoptr(CompressWorker) worker = worker_new(threads, 1);
        guint most = compress_worker_jobs_max(worker);
        CompressJob job;

        assert_true(most > threads);
        for (guint i = 0; i < most; i++)
            assert_true(submit(worker, i, FALSE));
        assert_false(submit(worker, most, FALSE));
        assert_int_equal(compress_worker_pending(worker), most);

        /* Done is not yet taken. */
        assert_true(is_readable(worker, 10000));
        assert_false(submit(worker, most, FALSE));
        take(worker, &job);
        assert_job(&job, 0, FALSE);
        assert_true(submit(worker, most, FALSE));
    }
}

static void descriptor_is_readable_while_the_oldest_job_is_done(void **state)
{
    g_autoptr(CompressWorker) worker = worker_new(2, 1);
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
    g_autoptr(CompressWorker) worker = worker_new(1, 3);
    gsize len;
    guint8 *bytes = some_batch(9, TRUE, &len);
    CompressJob job;

    assert_true(compress_worker_submit(worker, PAGES_ZSTD, bytes, len, 9));
    take(worker, &job);
    assert_ptr_equal(job.bytes, bytes);
    assert_job(&job, 9, TRUE);
}

static void worker_can_be_freed_with_jobs_under_way(void **state)
{
    for (guint round = 0; round < 20; round++) {
        g_autoptr(CompressWorker) worker = worker_new(1 + round % 3, round % 2 ? 19 : 1);
        guint jobs = round % (compress_worker_jobs_max(worker) + 1);

        for (guint i = 0; i < jobs; i++)
            assert_true(submit(worker, i, i % 2));
        if (jobs > 2) { /* some of them done and not taken */
            CompressJob job;

            take(worker, &job);
            assert_job(&job, 0, FALSE);
        }
    }
}

static void bad_configuration_is_refused_by_name(void **state)
{
    static const struct {
        int zstd_level;
        int zlib_level;
        guint threads;
        const char *names;
    } rows[] = {
        { -1, 1, 1, "zstd level -1 is out of range (0 to 22)" },
        { 23, 1, 1, "zstd level 23" },
        { G_MAXINT, 1, 1, "zstd level 2147483647" },
        { 1, -2, 1, "zlib level -2 is out of range (-1 to 9)" },
        { 1, 10, 1, "zlib level 10" },
        { 1, 1, 0, "0 threads" },
        { 1, 1, COMPRESS_THREADS_MAX + 1, "17 threads" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        CompressConfig config = config_of(rows[i].threads, rows[i].zstd_level);
        g_autoptr(GError) error = NULL;

        config.levels.of[PAGES_ZLIB] = rows[i].zlib_level;
        assert_null(compress_worker_new(&config, &error));
        assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_INVALID));
        if (!strstr(error->message, rows[i].names))
            fail_msg("\"%s\" does not name \"%s\"", error->message, rows[i].names);
    }
}

static void every_level_compresses(void **state)
{
    for (int level = 0; level <= 22; level++) {
        g_autoptr(CompressWorker) worker = worker_new(1, level);
        CompressJob job;

        assert_true(submit(worker, 3, FALSE));
        take(worker, &job);
        assert_job(&job, 3, FALSE);
    }
    for (int level = -1; level <= 9; level++) {
        CompressConfig config = config_of(1, 1);
        g_autoptr(CompressWorker) worker = NULL;
        CompressJob job;

        config.levels.of[PAGES_ZLIB] = level;
        worker = compress_worker_new(&config, NULL);
        assert_true(submit_as(worker, PAGES_ZLIB, 3, FALSE));
        take(worker, &job);
        if (level == 0) { /* zlib's "as it is": comes back as it was */
            assert_int_equal(job.encoding, PAGES_PLAIN);
            g_free(job.bytes);
        } else {
            assert_job_as(&job, PAGES_ZLIB, 3, FALSE);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_come_out_in_their_order),
        cmocka_unit_test(there_are_as_many_threads_as_asked_for),
        cmocka_unit_test(nothing_beyond_the_limit_is_taken),
        cmocka_unit_test(descriptor_is_readable_while_the_oldest_job_is_done),
        cmocka_unit_test(what_does_not_get_smaller_comes_back_as_it_was),
        cmocka_unit_test(worker_can_be_freed_with_jobs_under_way),
        cmocka_unit_test(bad_configuration_is_refused_by_name),
        cmocka_unit_test(every_level_compresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
