/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two clocks run while all, and while any, of the threads wait; each thread has one of its own. */
#include "config.h"

#include "ram/uffd/block_time.h"

#include <string.h>

typedef struct {
    guint32 id;
    gboolean is_vcpu;
    gboolean waits;
    guint block; /* for what */
    guint64 offset;
    gint64 since_us;
    guint64 total_us;
} Thread;

struct BlockTime {
    GHashTable *threads;  /* id -> Thread */
    GPtrArray *waiting;   /* of Thread */
    gboolean knows_vcpus;
    guint n_counted;      /* threads that "all" means */
    guint n_waiting;      /* of these */
    gint64 all_since_us;  /* while all of them wait */
    gint64 any_since_us;  /* while waiting is not empty */
    guint64 all_us;
    guint64 any_us;
    guint64 total_us;
    Histogram latency;
};

BlockTime *block_time_new(void)
{
    BlockTime *times = g_new0(BlockTime, 1);

    times->threads = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, g_free);
    times->waiting = g_ptr_array_new();
    return times;
}

void block_time_free(BlockTime *times)
{
    if (!times)
        return;
    g_ptr_array_unref(times->waiting);
    g_hash_table_unref(times->threads);
    g_free(times);
}

static guint64 span(gint64 from_us, gint64 to_us)
{
    return to_us > from_us ? (guint64)(to_us - from_us) : 0;
}

/* ---- who counts ---- */

static gboolean all_wait(const BlockTime *times)
{
    return times->n_waiting > 0 && times->n_waiting == times->n_counted;
}

static gboolean counts(const BlockTime *times, const Thread *thread)
{
    return !times->knows_vcpus || thread->is_vcpu;
}

static Thread *thread_of(BlockTime *times, guint32 id)
{
    Thread *thread = g_hash_table_lookup(times->threads, GUINT_TO_POINTER(id));

    if (thread)
        return thread;
    /* Who makes threads without end is one of them. */
    if (id != 0 && g_hash_table_size(times->threads) >= BLOCK_TIME_THREADS_MAX)
        return thread_of(times, 0);
    thread = g_new0(Thread, 1);
    thread->id = id;
    g_hash_table_insert(times->threads, GUINT_TO_POINTER(id), thread);
    if (!times->knows_vcpus)
        times->n_counted++;
    return thread;
}

static void count_again(BlockTime *times)
{
    GHashTableIter iter;
    gpointer value;

    times->n_counted = times->n_waiting = 0;
    g_hash_table_iter_init(&iter, times->threads);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Thread *thread = value;

        times->n_counted += counts(times, thread);
        times->n_waiting += counts(times, thread) && thread->waits;
    }
}

void block_time_set_vcpus(BlockTime *times, const guint32 *threads, guint n, gint64 now_us)
{
    GHashTableIter iter;
    gpointer value;

    if (all_wait(times))
        times->all_us += span(times->all_since_us, now_us);
    g_hash_table_iter_init(&iter, times->threads);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        ((Thread *)value)->is_vcpu = FALSE;
    for (guint i = 0; i < n; i++)
        thread_of(times, threads[i])->is_vcpu = TRUE;
    times->knows_vcpus = n > 0;
    count_again(times);
    times->all_since_us = now_us;
}

/* ---- waiting ---- */

static void start(BlockTime *times, Thread *thread, gint64 now_us)
{
    thread->waits = TRUE;
    thread->since_us = now_us;
    if (times->waiting->len == 0)
        times->any_since_us = now_us;
    g_ptr_array_add(times->waiting, thread);
    if (!counts(times, thread))
        return;
    times->n_waiting++;
    if (all_wait(times))
        times->all_since_us = now_us;
}

static void stop(BlockTime *times, guint place, gint64 now_us)
{
    Thread *thread = times->waiting->pdata[place];
    guint64 waited = span(thread->since_us, now_us);

    thread->waits = FALSE;
    thread->total_us += waited;
    times->total_us += waited;
    histogram_add(&times->latency, (gint64)waited);
    if (counts(times, thread)) {
        if (all_wait(times))
            times->all_us += span(times->all_since_us, now_us);
        times->n_waiting--;
    }
    g_ptr_array_remove_index_fast(times->waiting, place);
    if (times->waiting->len == 0)
        times->any_us += span(times->any_since_us, now_us);
}

static void stop_thread(BlockTime *times, Thread *thread, gint64 now_us)
{
    guint place;

    if (g_ptr_array_find(times->waiting, thread, &place))
        stop(times, place, now_us);
}

void block_time_begin(BlockTime *times, guint32 thread, guint block, guint64 offset, gint64 now_us)
{
    gboolean was_all = all_wait(times);
    Thread *t = thread_of(times, thread);

    if (t->waits && t->block == block && t->offset == offset)
        return;
    /* One more thread, that does not wait yet. */
    if (was_all && !all_wait(times))
        times->all_us += span(times->all_since_us, now_us);
    if (t->waits)
        stop_thread(times, t, now_us);
    t->block = block;
    t->offset = offset;
    start(times, t, now_us);
}

guint block_time_end_range(BlockTime *times, guint block, guint64 offset, guint64 length,
                           gint64 now_us)
{
    guint n = 0;

    for (guint i = times->waiting->len; i-- > 0;) {
        const Thread *thread = times->waiting->pdata[i];

        if (thread->block != block || thread->offset - offset >= length)
            continue;
        stop(times, i, now_us);
        n++;
    }
    return n;
}

guint block_time_end(BlockTime *times, guint block, guint64 offset, gint64 now_us)
{
    return block_time_end_range(times, block, offset, 1, now_us);
}

/* ---- asking ---- */

void block_time_get_stats(const BlockTime *times, gint64 now_us, BlockTimeStats *ret_stats)
{
    *ret_stats = (BlockTimeStats){
        .threads = g_hash_table_size(times->threads),
        .waiting = times->waiting->len,
        .total_us = times->total_us,
        .all_us = times->all_us,
        .any_us = times->any_us,
        .latency = times->latency,
    };
    for (guint i = 0; i < times->waiting->len; i++)
        ret_stats->total_us += span(((const Thread *)times->waiting->pdata[i])->since_us, now_us);
    if (all_wait(times))
        ret_stats->all_us += span(times->all_since_us, now_us);
    if (times->waiting->len > 0)
        ret_stats->any_us += span(times->any_since_us, now_us);
}

static gint compare_waits(gconstpointer a, gconstpointer b)
{
    const BlockTimeThread *x = a, *y = b;

    if (x->waited_us != y->waited_us)
        return x->waited_us > y->waited_us ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

guint block_time_longest(const BlockTime *times, gint64 now_us, BlockTimeThread *ret_threads,
                         guint max)
{
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(BlockTimeThread));
    GHashTableIter iter;
    gpointer value;
    guint n;

    g_hash_table_iter_init(&iter, times->threads);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Thread *thread = value;
        BlockTimeThread one = { thread->id, thread->total_us };

        if (thread->waits)
            one.waited_us += span(thread->since_us, now_us);
        g_array_append_val(all, one);
    }
    g_array_sort(all, compare_waits);
    n = MIN(all->len, max);
    if (n > 0)
        memcpy(ret_threads, all->data, n * sizeof *ret_threads);
    return n;
}
