/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "cli/sample.h"

#include <stdlib.h>

#include "cli/connection.h"
#include "driver/memory_list.h"

/* So that others who ask for what has completed get it, too. */
#define COMPLETED (VIR_DOMAIN_JOB_STATS_COMPLETED | VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED)

/* How long an end is remembered. */
#define REMEMBERED_US (60 * G_TIME_SPAN_SECOND)

struct SampleMemory {
    GHashTable *seen; /* UUID -> Seen */
};

typedef struct {
    virDomain *domain;
    gint64 running_at; /* monotonic; when it was seen last */
} Seen;

static void seen_free(gpointer data)
{
    Seen *seen = data;

    virDomainFree(seen->domain);
    g_free(seen);
}

SampleMemory *sample_memory_new(void)
{
    SampleMemory *memory = g_new0(SampleMemory, 1);

    memory->seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, seen_free);
    return memory;
}

void sample_memory_free(SampleMemory *memory)
{
    g_hash_table_unref(memory->seen);
    g_free(memory);
}

gboolean sample_is_domains_own(int code, gboolean alive)
{
    return alive && code != VIR_ERR_NO_SUPPORT;
}

/* Takes libvirt's last error, which asking after the connection would clear; so does asking for it. */
static gboolean passes_over(virConnect *connection, GError **error)
{
    g_autoptr(GError) reason = NULL;

    connection_error(&reason);
    if (sample_is_domains_own(reason->code, virConnectIsAlive(connection) == 1))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&reason));
    return FALSE;
}

static gboolean ask(virDomain *domain, unsigned int flags, Job **ret_job, GError **error)
{
    virConnect *connection = virDomainGetConnect(domain);
    char uuid[VIR_UUID_STRING_BUFLEN];
    virTypedParameterPtr params = NULL;
    int n_params = 0, type = VIR_DOMAIN_JOB_NONE;

    if (virDomainGetUUIDString(domain, uuid) < 0) {
        connection_error(error);
        return FALSE;
    }
    if (virDomainGetJobStats(domain, &type, &params, &n_params, flags) < 0) {
        *ret_job = NULL;
        return passes_over(connection, error);
    }
    *ret_job = job_new(virDomainGetName(domain), uuid, type, params, n_params);
    return TRUE;
}

static void remember(SampleMemory *memory, virDomain *domain, const Job *job)
{
    Seen *seen = g_new0(Seen, 1);

    virDomainRef(domain);
    seen->domain = domain;
    seen->running_at = g_get_monotonic_time();
    g_hash_table_replace(memory->seen, g_strdup(job->uuid), seen);
}

static gboolean has_job(const GPtrArray *jobs, const char *uuid)
{
    for (guint i = 0; i < jobs->len; i++) {
        if (g_str_equal(((const Job *)jobs->pdata[i])->uuid, uuid))
            return TRUE;
    }
    return FALSE;
}

/* Asks after what is remembered and does not run any more. */
static gboolean recall(SampleMemory *memory, GPtrArray *jobs, GError **error)
{
    gint64 now = g_get_monotonic_time();
    GHashTableIter iter;
    gpointer uuid, value;

    g_hash_table_iter_init(&iter, memory->seen);
    while (g_hash_table_iter_next(&iter, &uuid, &value)) {
        const Seen *seen = value;
        Job *job = NULL;

        if (has_job(jobs, uuid))
            continue;
        if (!ask(seen->domain, COMPLETED, &job, error))
            return FALSE;
        if (job)
            g_ptr_array_add(jobs, job);
        if (now - seen->running_at > REMEMBERED_US)
            g_hash_table_iter_remove(&iter);
    }
    return TRUE;
}

/* What goes on now; only a domain without that is asked for what has ended. */
static gboolean sample_one(virDomain *domain, gboolean runs, gboolean completed,
                           SampleMemory *memory, GPtrArray *jobs, GError **error)
{
    Job *job = NULL;

    if (runs && !ask(domain, 0, &job, error))
        return FALSE;
    if (job && memory)
        remember(memory, domain, job);
    if (!job && completed && !ask(domain, COMPLETED, &job, error))
        return FALSE;
    if (job)
        g_ptr_array_add(jobs, job);
    return TRUE;
}

static int by_domain(gconstpointer a, gconstpointer b)
{
    const Job *left = *(Job *const *)a, *right = *(Job *const *)b;

    return g_strcmp0(left->domain, right->domain);
}

static gboolean sample_domains(virConnect *connection, gboolean completed, SampleMemory *memory,
                               GPtrArray *jobs, GError **error)
{
    unsigned int which = completed ? 0 : VIR_CONNECT_LIST_DOMAINS_ACTIVE;
    virDomainPtr *domains = NULL;
    gboolean good = TRUE;
    int n = virConnectListAllDomains(connection, &domains, which);

    if (n < 0)
        connection_error(error);
    for (int i = 0; i < n; i++) {
        good = good && sample_one(domains[i], virDomainIsActive(domains[i]) == 1, completed,
                                  memory, jobs, error);
        virDomainFree(domains[i]);
    }
    free(domains);
    return n >= 0 && good;
}

/* A daemon that is older, and libvirt's own, have none and refuse to tell. */
static gboolean sample_memory_clients(virConnect *connection, gboolean completed,
                                      SampleMemory *memory, GPtrArray *jobs, GError **error)
{
    virDomainPtr *clients = NULL;
    gboolean good = TRUE;
    int n = virConnectListAllDomains(connection, &clients, MEMORY_LIST_FLAG);

    if (n < 0)
        return passes_over(connection, error);
    for (int i = 0; i < n; i++) {
        good = good && sample_one(clients[i], TRUE, completed, memory, jobs, error);
        virDomainFree(clients[i]);
    }
    free(clients);
    return good;
}

GPtrArray *sample_jobs(virConnect *connection, gboolean completed, SampleMemory *memory,
                       GError **error)
{
    g_autoptr(GPtrArray) jobs = g_ptr_array_new_with_free_func((GDestroyNotify)job_free);

    if (!sample_domains(connection, completed, memory, jobs, error) ||
        !sample_memory_clients(connection, completed, memory, jobs, error) ||
        (memory && !recall(memory, jobs, error)))
        return NULL;
    g_ptr_array_sort(jobs, by_domain);
    return g_steal_pointer(&jobs);
}
