/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One thread of the workload. */
#include "config.h"

#include <time.h>
#include <unistd.h>

#include "tests/workload/guest_priv.h"

/* One touch of so many is of a page that another thread writes, and one own page of so many is
 * looked at to the last byte: the others by tag and version. */
#define OTHERS_EVERY 8
#define WHOLE_EVERY 8
/* Work between two pauses of a throttled thread. */
#define SLICE_NS 2000000
#define SLEEP_MIN_NS 1000000

static gint64 now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (gint64)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void sleep_ns(gint64 ns)
{
    struct timespec span = { ns / 1000000000, ns % 1000000000 };

    nanosleep(&span, NULL);
}

static guint64 random_below(Worker *worker, guint64 n)
{
    worker->random ^= worker->random << 13;
    worker->random ^= worker->random >> 7;
    worker->random ^= worker->random << 17;
    return worker->random % n;
}

/* ---- which page ---- */

/* Pages that this thread writes: every n-th. So each host page of a large kind has many threads. */
static guint64 own_pages(const Worker *worker)
{
    const Guest *guest = worker->guest;
    guint64 pages = guest->memory->pages;

    return (pages - worker->index + guest->config.threads - 1) / guest->config.threads;
}

static guint64 choose_own(Worker *worker)
{
    guint64 own = own_pages(worker);

    switch (worker->guest->config.pattern) {
    case PATTERN_SEQUENTIAL:
        return worker->cursor++ % own;
    case PATTERN_HOT:
        return random_below(worker, random_below(worker, 10) > 0 ? own / 10 + 1 : own);
    default:
        return random_below(worker, own);
    }
}

static guint64 choose(Worker *worker)
{
    const Guest *guest = worker->guest;

    if (guest->config.pattern == PATTERN_HERD) {
        guint64 step = ++worker->cursor * G_GUINT64_CONSTANT(0xd1342543de82ef95);

        return (guest->config.seed + (step >> 20)) % guest->memory->pages;
    }
    if (random_below(worker, OTHERS_EVERY) == 0)
        return random_below(worker, guest->memory->pages);
    return choose_own(worker) * guest->config.threads + worker->index;
}

/* ---- a touch ---- */

static void log_write(Guest *guest, guint64 page)
{
    guint64 *words = __atomic_load_n(&guest->written, __ATOMIC_ACQUIRE);

    /* After the write: a sync before it would let the page be read too early, and nothing tell. */
    if (words)
        __atomic_fetch_or(&words[page / 64], G_GUINT64_CONSTANT(1) << (page % 64),
                          __ATOMIC_RELEASE);
}

/* FALSE: the page is wrong. */
static gboolean touch_own(Worker *worker, guint64 page, guint8 *at, gboolean *ret_wrote)
{
    Guest *guest = worker->guest;
    guint32 version = __atomic_load_n(&guest->versions[page], __ATOMIC_RELAXED);

    if (random_below(worker, WHOLE_EVERY) == 0 &&
        !contents_check(&guest->contents, page, version, at))
        return FALSE;
    if (guest_writes_to(guest, page) && random_below(worker, 100) < guest->config.writes) {
        contents_step(&guest->contents, page, version, at);
        __atomic_store_n(&guest->versions[page], version + 1, __ATOMIC_RELAXED);
        log_write(guest, page);
        *ret_wrote = TRUE;
    }
    return TRUE;
}

static gboolean is_excluded(const Guest *guest, guint64 page)
{
    return __atomic_load_n(&guest->excluded[page], __ATOMIC_ACQUIRE);
}

static void touch(Worker *worker)
{
    Guest *guest = worker->guest;
    guint64 page = choose(worker);
    guint8 *at = memory_page(guest->memory, page);
    gboolean wrote = FALSE;
    gboolean right;
    gint64 began;
    guint64 took;

    if (is_excluded(guest, page))
        return;
    began = now_ns();
    right = contents_check_tag(&guest->contents, page, at); /* here it waits, if it must */
    took = (guint64)(now_ns() - began);
    if (right && page % guest->config.threads == worker->index)
        right = touch_own(worker, page, at, &wrote);
    /* It may have been dropped while it was waited for: zeros are right then. */
    right = right || is_excluded(guest, page);
    pthread_mutex_lock(&worker->lock);
    worker->counts.touches++;
    worker->counts.writes += wrote;
    worker->counts.bad += !right;
    stalls_add(&worker->counts.stalls, took);
    pthread_mutex_unlock(&worker->lock);
}

/* ---- its pace ---- */

static void keep_rate(Worker *worker)
{
    const GuestConfig *config = &worker->guest->config;
    gint64 ahead;

    if (config->rate == 0)
        return;
    worker->paced++;
    ahead = worker->began_ns +
            (gint64)((double)worker->paced * 1e9 * config->threads / (double)config->rate) -
            now_ns();
    if (ahead >= SLEEP_MIN_NS)
        sleep_ns(ahead);
}

static void keep_throttled(const Worker *worker, gint64 *slice_began)
{
    gint percent = g_atomic_int_get(&worker->guest->throttle);
    gint64 worked = now_ns() - *slice_began;

    if (worked < SLICE_NS)
        return;
    if (percent > 0)
        sleep_ns(worked * percent / (100 - percent));
    *slice_began = now_ns();
}

/* FALSE: it is all over. */
static gboolean may_go_on(Worker *worker)
{
    Guest *guest = worker->guest;
    gboolean waited = FALSE;
    gboolean goes_on;

    pthread_mutex_lock(&guest->lock);
    while (!guest->running && !guest->quit) {
        waited = TRUE;
        guest->parked++;
        pthread_cond_broadcast(&guest->changed);
        pthread_cond_wait(&guest->changed, &guest->lock);
        guest->parked--;
    }
    goes_on = !guest->quit;
    pthread_mutex_unlock(&guest->lock);
    if (waited || worker->began_ns == 0) {
        worker->began_ns = now_ns();
        worker->paced = 0;
    }
    return goes_on;
}

static void say_who_it_is(Worker *worker)
{
    pthread_mutex_lock(&worker->guest->lock);
    worker->id = (guint32)gettid();
    pthread_cond_broadcast(&worker->guest->changed);
    pthread_mutex_unlock(&worker->guest->lock);
}

gpointer worker_main(gpointer data)
{
    Worker *worker = data;
    gint64 slice_began = now_ns();

    say_who_it_is(worker);
    while (may_go_on(worker)) {
        touch(worker);
        keep_rate(worker);
        keep_throttled(worker, &slice_began);
    }
    return NULL;
}
