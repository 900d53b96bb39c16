/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "cli/sampler.h"

#include "cli/connection.h"
#include "cli/sample.h"

/* What an answer that is under way is waited for at the end. */
#define STOP_MS 300

struct Sampler {
    GThread *thread;
    char *uri;
    gboolean completed;
    guint interval_ms;
    SamplerFunc func;
    gpointer data;
    /* The thread's alone: */
    virConnect *connection; /* NULL while there is none */
    SampleMemory *memory;   /* of this connection */

    GMutex lock; /* of what follows */
    GCond changed;
    gboolean asked;
    gboolean stopping;
    gboolean ended; /* the thread touches nothing any more */
    Sample *newest; /* on its way to func; NULL: nothing is */
};

void sample_free(Sample *sample)
{
    g_clear_pointer(&sample->jobs, g_ptr_array_unref);
    g_free(sample->host);
    g_free(sample->trouble);
    g_free(sample);
}

/* --- the thread --- */

static void drop_connection(Sampler *sampler)
{
    g_clear_pointer(&sampler->memory, sample_memory_free);
    g_clear_pointer(&sampler->connection, virConnectClose);
}

static Sample *ask(Sampler *sampler)
{
    Sample *sample = g_new0(Sample, 1);
    g_autoptr(GError) error = NULL;

    if (!sampler->connection)
        sampler->connection = connection_open(sampler->uri, /* may_ask= */ FALSE, &error);
    if (!sampler->memory)
        sampler->memory = sample_memory_new();
    if (sampler->connection)
        sample->jobs =
            sample_jobs(sampler->connection, sampler->completed, sampler->memory, &error);
    if (sample->jobs) {
        sample->host = connection_host(sampler->connection);
    } else {
        sample->trouble = g_strdup(error->message);
        drop_connection(sampler);
    }
    return sample;
}

/* In the main context. What was on its way when the sampler stopped is dropped. */
static gboolean on_delivery(gpointer data)
{
    Sampler *sampler = data;
    g_autoptr(Sample) sample = NULL;
    gboolean stopping;

    g_mutex_lock(&sampler->lock);
    stopping = sampler->stopping;
    sample = g_steal_pointer(&sampler->newest);
    g_mutex_unlock(&sampler->lock);
    if (!stopping)
        sampler->func(g_steal_pointer(&sample), sampler->data);
    return G_SOURCE_REMOVE;
}

/* Takes the place of one that the owner, who may wait for a terminal, has not fetched. */
static void deliver(Sampler *sampler, Sample *sample)
{
    g_autoptr(Sample) older = NULL;

    g_mutex_lock(&sampler->lock);
    older = sampler->newest;
    sampler->newest = sample;
    g_mutex_unlock(&sampler->lock);
    if (!older)
        g_idle_add_full(G_PRIORITY_DEFAULT, on_delivery, sampler, NULL);
}

/* Returns FALSE when the sampler stops. */
static gboolean wait_for_turn(Sampler *sampler)
{
    gint64 until = g_get_monotonic_time() + (gint64)sampler->interval_ms * G_TIME_SPAN_MILLISECOND;
    gboolean go_on;

    g_mutex_lock(&sampler->lock);
    while (!sampler->stopping && !sampler->asked) {
        if (!g_cond_wait_until(&sampler->changed, &sampler->lock, until))
            break;
    }
    sampler->asked = FALSE;
    go_on = !sampler->stopping;
    g_mutex_unlock(&sampler->lock);
    return go_on;
}

static gpointer run(gpointer data)
{
    Sampler *sampler = data;

    do
        deliver(sampler, ask(sampler));
    while (wait_for_turn(sampler));
    drop_connection(sampler);
    g_mutex_lock(&sampler->lock);
    sampler->ended = TRUE;
    g_cond_broadcast(&sampler->changed);
    g_mutex_unlock(&sampler->lock);
    return NULL;
}

/* --- the owner --- */

Sampler *sampler_new(virConnect *connection, const char *uri, gboolean completed,
                     guint interval_ms, SamplerFunc func, gpointer data)
{
    Sampler *sampler = g_new0(Sampler, 1);

    sampler->connection = connection;
    sampler->uri = g_strdup(uri);
    sampler->completed = completed;
    sampler->interval_ms = interval_ms;
    sampler->func = func;
    sampler->data = data;
    g_mutex_init(&sampler->lock);
    g_cond_init(&sampler->changed);
    sampler->thread = g_thread_new("sampler", run, sampler);
    return sampler;
}

void sampler_ask_now(Sampler *sampler)
{
    g_mutex_lock(&sampler->lock);
    sampler->asked = TRUE;
    g_cond_broadcast(&sampler->changed);
    g_mutex_unlock(&sampler->lock);
}

static gboolean wait_for_end(Sampler *sampler)
{
    gint64 until = g_get_monotonic_time() + STOP_MS * G_TIME_SPAN_MILLISECOND;
    gboolean ended;

    g_mutex_lock(&sampler->lock);
    sampler->stopping = TRUE;
    g_cond_broadcast(&sampler->changed);
    while (!sampler->ended && g_cond_wait_until(&sampler->changed, &sampler->lock, until))
        continue;
    ended = sampler->ended;
    g_mutex_unlock(&sampler->lock);
    return ended;
}

static void drop_deliveries(void)
{
    while (g_main_context_iteration(NULL, FALSE))
        continue;
}

gboolean sampler_stop(Sampler *sampler)
{
    if (!wait_for_end(sampler))
        return FALSE;
    g_thread_join(sampler->thread);
    drop_deliveries();
    g_mutex_clear(&sampler->lock);
    g_cond_clear(&sampler->changed);
    g_free(sampler->uri);
    g_free(sampler);
    return TRUE;
}
