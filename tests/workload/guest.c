/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/workload/guest.h"

#include <string.h>

#include "tests/workload/guest_priv.h"

/* One page of so many has data with PATTERN_ZERO. */
#define ZERO_HEAVY 10
#define STATE_MAGIC G_GUINT64_CONSTANT(0x776f726b6c6f6164)

Pattern pattern_from_name(const char *name)
{
    static const char *const names[] = { "sequential", "random", "hot", "zero", "text", "herd" };
    guint i;

    G_STATIC_ASSERT(G_N_ELEMENTS(names) == PATTERN_MAX);
    for (i = 0; i < PATTERN_MAX && strcmp(name, names[i]) != 0; i++)
        continue;
    return (Pattern)i;
}

/* ---- life ---- */

Guest *guest_new(const GuestConfig *config, Memory *memory)
{
    Guest *guest = g_new0(Guest, 1);

    guest->config = *config;
    guest->contents.seed = config->seed;
    guest->contents.kind = config->pattern == PATTERN_TEXT ? CONTENTS_TEXT : CONTENTS_RANDOM;
    guest->memory = memory;
    guest->versions = g_new0(guint32, memory->pages);
    guest->excluded = g_new0(guint8, memory->pages);
    pthread_mutex_init(&guest->lock, NULL);
    pthread_cond_init(&guest->changed, NULL);
    guest->workers = g_array_new(FALSE, TRUE, sizeof(Worker));
    g_array_set_size(guest->workers, config->threads);
    for (guint i = 0; i < config->threads; i++) {
        Worker *worker = &g_array_index(guest->workers, Worker, i);

        worker->guest = guest;
        worker->index = i;
        worker->random = config->seed * 2 + i * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15) + 1;
        pthread_mutex_init(&worker->lock, NULL);
    }
    return guest;
}

void guest_free(Guest *guest)
{
    if (!guest)
        return;
    pthread_mutex_lock(&guest->lock);
    guest->quit = TRUE;
    pthread_cond_broadcast(&guest->changed);
    pthread_mutex_unlock(&guest->lock);
    for (guint i = 0; i < guest->workers->len; i++) {
        Worker *worker = &g_array_index(guest->workers, Worker, i);

        if (worker->started)
            pthread_join(worker->thread, NULL);
        pthread_mutex_destroy(&worker->lock);
    }
    g_array_unref(guest->workers);
    pthread_mutex_destroy(&guest->lock);
    pthread_cond_destroy(&guest->changed);
    g_free(guest->versions);
    g_free(guest->hashes);
    g_free(guest->loaded);
    g_free(guest->excluded);
    g_free(guest->written);
    g_free(guest);
}

gboolean guest_writes_to(const Guest *guest, guint64 page)
{
    return guest->config.pattern != PATTERN_ZERO ||
           (page * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15) >> 32) % ZERO_HEAVY == 0;
}

void guest_fill(Guest *guest)
{
    for (guint64 page = 0; page < guest->memory->pages; page++) {
        if (!guest_writes_to(guest, page))
            continue;
        contents_make(&guest->contents, page, 1, memory_page(guest->memory, page));
        guest->versions[page] = 1;
    }
}

/* ---- running ---- */

void guest_run(Guest *guest)
{
    pthread_mutex_lock(&guest->lock);
    guest->running = TRUE;
    pthread_cond_broadcast(&guest->changed);
    pthread_mutex_unlock(&guest->lock);
    for (guint i = 0; i < guest->workers->len; i++) {
        Worker *worker = &g_array_index(guest->workers, Worker, i);

        if (worker->started)
            continue;
        if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0)
            g_error("no more threads than %u", i);
        worker->started = TRUE;
    }
}

static guint started(const Guest *guest)
{
    guint n = 0;

    for (guint i = 0; i < guest->workers->len; i++)
        n += g_array_index(guest->workers, Worker, i).started;
    return n;
}

guint32 *guest_get_threads(Guest *guest, guint *ret_n)
{
    guint32 *ids = g_new0(guint32, guest->workers->len + 1);

    *ret_n = started(guest);
    pthread_mutex_lock(&guest->lock);
    for (guint i = 0; i < *ret_n; i++) {
        const Worker *worker = &g_array_index(guest->workers, Worker, i);

        while (worker->id == 0)
            pthread_cond_wait(&guest->changed, &guest->lock);
        ids[i] = worker->id;
    }
    pthread_mutex_unlock(&guest->lock);
    return ids;
}

void guest_pause(Guest *guest)
{
    pthread_mutex_lock(&guest->lock);
    guest->running = FALSE;
    while (guest->parked < started(guest))
        pthread_cond_wait(&guest->changed, &guest->lock);
    pthread_mutex_unlock(&guest->lock);
}

gboolean guest_is_running(const Guest *guest)
{
    return guest->running; /* only this thread changes it */
}

void guest_throttle(Guest *guest, guint percent)
{
    g_atomic_int_set(&guest->throttle, (gint)percent);
}

void guest_exclude(Guest *guest, guint64 first_page, guint64 n)
{
    for (guint64 page = first_page; page < first_page + n; page++)
        __atomic_store_n(&guest->excluded[page], 1, __ATOMIC_RELAXED);
}

/* ---- device state: the head, versions, what is excluded, hashes ---- */

typedef struct {
    guint64 magic;
    guint64 pages;
    guint64 n_hashes; /* pages, or 0 */
} StateHead;

GBytes *guest_save(Guest *guest, gboolean with_hashes)
{
    guint64 pages = guest->memory->pages;
    StateHead head = { STATE_MAGIC, pages, with_hashes ? pages : 0 };
    GByteArray *out = g_byte_array_new();

    g_byte_array_append(out, (const guint8 *)&head, sizeof(head));
    g_byte_array_append(out, (const guint8 *)guest->versions, (guint)(pages * sizeof(guint32)));
    g_byte_array_append(out, guest->excluded, (guint)pages);
    for (guint64 page = 0; page < head.n_hashes; page++) {
        guint64 hash = contents_hash(memory_page(guest->memory, page));

        g_byte_array_append(out, (const guint8 *)&hash, sizeof(hash));
    }
    return g_byte_array_free_to_bytes(out);
}

gboolean guest_load(Guest *guest, const void *bytes, gsize len, GError **error)
{
    guint64 pages = guest->memory->pages;
    gsize versions_len = pages * sizeof(guint32);
    const guint8 *at = (const guint8 *)bytes + sizeof(StateHead);
    StateHead head = { 0 };

    if (len >= sizeof(head))
        memcpy(&head, bytes, sizeof(head));
    if (head.magic != STATE_MAGIC || head.pages != pages ||
        (head.n_hashes != 0 && head.n_hashes != pages) ||
        len != sizeof(head) + versions_len + pages + head.n_hashes * sizeof(guint64)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "%" G_GSIZE_FORMAT " bytes of device state are not of a workload of %"
                    G_GUINT64_FORMAT " pages", len, pages);
        return FALSE;
    }
    memcpy(guest->versions, at, versions_len);
    at += versions_len;
    memcpy(guest->excluded, at, pages);
    at += pages;
    if (head.n_hashes > 0) {
        /* Of the checkpoint before. */
        g_free(guest->hashes);
        g_free(guest->loaded);
        guest->hashes = g_new(guint64, pages);
        memcpy(guest->hashes, at, pages * sizeof(guint64));
        guest->loaded = g_new(guint32, pages);
        memcpy(guest->loaded, guest->versions, versions_len);
    }
    return TRUE;
}

/* ---- its own log ---- */

void guest_log_start(Guest *guest)
{
    if (!guest->written)
        __atomic_store_n(&guest->written, g_new0(guint64, guest->memory->pages / 64 + 1),
                         __ATOMIC_RELEASE);
}

void guest_log_sync(Guest *guest, guint region, guint64 *bitmap, guint64 n_pages)
{
    /* Regions are whole MiBs, so each begins with a word. */
    guint64 *words = guest->written + memory_region(guest->memory, region)->first_page / 64;

    for (guint64 i = 0; i < n_pages / 64; i++) {
        guint64 word = __atomic_exchange_n(&words[i], 0, __ATOMIC_ACQ_REL);

        if (word != 0)
            __atomic_fetch_or(&bitmap[i], word, __ATOMIC_ACQ_REL);
    }
}

/* ---- what became of it ---- */

void guest_get_progress(Guest *guest, GuestProgress *ret_progress)
{
    memset(ret_progress, 0, sizeof(*ret_progress));
    for (guint i = 0; i < guest->workers->len; i++) {
        Worker *worker = &g_array_index(guest->workers, Worker, i);

        pthread_mutex_lock(&worker->lock);
        ret_progress->touches += worker->counts.touches;
        ret_progress->writes += worker->counts.writes;
        ret_progress->bad += worker->counts.bad;
        stalls_merge(&ret_progress->stalls, &worker->counts.stalls);
        pthread_mutex_unlock(&worker->lock);
    }
}

static void verify_page(const Guest *guest, guint64 page, GuestVerdict *verdict)
{
    const guint8 *at = memory_page(guest->memory, page);
    gboolean right = contents_check(&guest->contents, page, guest->versions[page], at);
    g_autofree char *found = NULL;

    verdict->pages++;
    if (guest->hashes && guest->versions[page] == guest->loaded[page]) {
        verdict->unwritten++;
        right = right && contents_hash(at) == guest->hashes[page];
    }
    if (right)
        return;
    if (verdict->bad++ > 0)
        return;
    found = contents_describe(&guest->contents, guest->memory->pages, at);
    verdict->first_bad = g_strdup_printf("page %" G_GUINT64_FORMAT " is to be version %u, is %s",
                                         page, guest->versions[page], found);
}

void guest_verify(Guest *guest, GuestVerdict *ret_verdict)
{
    *ret_verdict = (GuestVerdict){ 0 };
    for (guint64 page = 0; page < guest->memory->pages; page++)
        if (!guest->excluded[page])
            verify_page(guest, page, ret_verdict);
}
