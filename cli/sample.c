/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "cli/sample.h"

#include <stdlib.h>

#include "cli/connection.h"

/* So that others who ask for what has completed get it, too. */
#define COMPLETED (VIR_DOMAIN_JOB_STATS_COMPLETED | VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED)

/* Domains that go between the list and the question, that do not run, whose libvirt says nothing of
 * guests that arrive: all of that is no migration. What is left is the connection's. */
static gboolean is_domains_own(void)
{
    switch (virGetLastErrorCode()) {
    case VIR_ERR_NO_DOMAIN:
    case VIR_ERR_OPERATION_INVALID:
    case VIR_ERR_OPERATION_UNSUPPORTED:
    case VIR_ERR_OPERATION_TIMEOUT:
    case VIR_ERR_OPERATION_FAILED:
        return TRUE;
    default:
        return FALSE;
    }
}

static gboolean ask(virDomain *domain, unsigned int flags, Job **ret_job, GError **error)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    virTypedParameterPtr params = NULL;
    int n_params = 0, type = VIR_DOMAIN_JOB_NONE;

    if (virDomainGetUUIDString(domain, uuid) < 0) {
        connection_error(error);
        return FALSE;
    }
    if (virDomainGetJobStats(domain, &type, &params, &n_params, flags) < 0) {
        *ret_job = NULL;
        if (is_domains_own())
            return TRUE;
        connection_error(error);
        return FALSE;
    }
    *ret_job = job_new(virDomainGetName(domain), uuid, type, params, n_params);
    return TRUE;
}

/* What goes on now; only a domain without that is asked for what has ended. */
static gboolean sample_domain(virDomain *domain, gboolean completed, GPtrArray *jobs,
                              GError **error)
{
    Job *job = NULL;

    if (virDomainIsActive(domain) == 1 && !ask(domain, 0, &job, error))
        return FALSE;
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

GPtrArray *sample_jobs(virConnect *connection, gboolean completed, GError **error)
{
    g_autoptr(GPtrArray) jobs = g_ptr_array_new_with_free_func((GDestroyNotify)job_free);
    unsigned int which = completed ? 0 : VIR_CONNECT_LIST_DOMAINS_ACTIVE;
    virDomainPtr *domains = NULL;
    gboolean good = TRUE;
    int n = virConnectListAllDomains(connection, &domains, which);

    if (n < 0) {
        connection_error(error);
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        good = good && sample_domain(domains[i], completed, jobs, error);
        virDomainFree(domains[i]);
    }
    free(domains);
    if (!good)
        return NULL;
    g_ptr_array_sort(jobs, by_domain);
    return g_steal_pointer(&jobs);
}
