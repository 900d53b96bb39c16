/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Resuming what failed in post-copy: the session before gives way, and both libvirtds get the time
 * to learn from their QEMU that it has. */
#include "config.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "driver/driver_priv.h"
#include "driver/recovery.h"
#include "driver/rpc_error.h"

/* QEMU tells of the end of its stream within a few tenths of a second. */
#define AGAIN_MS 200
#define AGAIN_FOR_US (3 * G_USEC_PER_SEC)

gboolean driver_job_is_resume(const DriverJob *job)
{
    return (migrate_call_flags(job->call) & VIR_MIGRATE_POSTCOPY_RESUME) != 0;
}

static gboolean on_superseded(gpointer data)
{
    DriverJob *job = data;

    if (migrate_call_phase(job->call) != MIGRATE_PHASE_PREPARE)
        recovery_set_users_turn(job->driver->recoveries, migrate_call_domain(job->call));
    job->next(job);
    return G_SOURCE_REMOVE;
}

void driver_resume_after(DriverJob *job, MigrationSide side, const char *domain,
                         DriverJobFunc next)
{
    job->next = next;
    migration_set_supersede(job->driver->set, side, domain, /* also_whole= */ FALSE, G_MAXINT64,
                            on_superseded, job);
}

/* libvirtd has one code, and words of its own language, for "has not failed", "is not in post-copy
 * phase" and "is being monitored by another thread". */
static gboolean is_too_early(const RpcFrame *reply)
{
    return rpc_error_code(reply) == VIR_ERR_OPERATION_INVALID;
}

static gboolean on_again(gpointer data)
{
    DriverJob *job = data;

    driver_job_forward(job, job->again);
    return G_SOURCE_REMOVE;
}

gboolean driver_resume_again(DriverJob *job, RpcFrame *reply, ProxyReplyFunc func)
{
    gint64 now = g_get_monotonic_time();

    if (!driver_job_is_resume(job) || !is_too_early(reply))
        return FALSE;
    if (job->try_until == 0)
        job->try_until = now + AGAIN_FOR_US;
    if (now >= job->try_until || proxy_is_closed(job->proxy))
        return FALSE;
    rpc_frame_free(reply);
    job->again = func;
    g_timeout_add(AGAIN_MS, on_again, job);
    return TRUE;
}
