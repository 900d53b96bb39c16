/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* domainMigrateBegin3, Finish3 and Confirm3 (with and without Params): the ends of a migration. */
#include "config.h"

#include <glib/gi18n.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "driver/driver_preflight.h"
#include "driver/driver_priv.h"
#include "driver/recovery.h"
#include "driver/rpc_error.h"
#include "util/log.h"

/* The destination QEMU answers a resume at once when the stream has reached it; a source that cannot
 * get through is noticed by then. */
#define RESUME_WAIT_MS 10000

/* From QEMU's first word on the return path to libvirtd having read the change of state that goes
 * with it on the monitor: the two are different sockets, and Finish fails if it overtakes. */
#define RESUME_SETTLE_MS 100

/* How long a Finish that gives up waits for the session's end, or for it to have switched over. */
#define GIVE_UP_WAIT_S 10u

/* How long the answer to a Finish that gives up waits for the helper to have ended. */
#define GIVEN_UP_WAIT_MS 2000

/* ---- Begin ---- */

/* A user's own: a recovery's resume is peer-to-peer, and has no Begin. */
static void on_resume_begun(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    DriverJob *job = data;

    if (!reply) {
        driver_job_free(job);
        return;
    }
    if (driver_resume_again(job, reply, on_resume_begun))
        return;
    if (reply->header.status == RPC_STATUS_OK)
        recovery_set_leave(job->driver->recoveries, migrate_call_domain(job->call));
    driver_job_answer(job, reply);
}

static void begin_resume(DriverJob *job)
{
    driver_job_forward(job, on_resume_begun);
}

static void begin_anew(DriverJob *job)
{
    driver_job_forward(job, NULL);
}

/* Refused later, after libvirtd has begun its job, a call has to be failed by libvirtd. Where it is
 * not known yet whose migration it will be, Prepare and Perform decide. */
static gboolean check_begin(const DriverJob *job, GError **error)
{
    gboolean plain = driver_options_may_be_plain(job);

    return driver_options_check(job, !plain, error) &&
           (plain || driver_job_is_resume(job) || driver_disks_check(job->call, error));
}

void driver_migrate_begin3(DriverJob *job)
{
    g_autoptr(GError) error = NULL;

    if (!check_begin(job, &error)) {
        driver_job_refuse_error(job, error);
        return;
    }
    driver_options_log(job);
    driver_options_strip(job);
    if (driver_job_is_resume(job))
        driver_resume_after(job, MIGRATION_SIDE_SOURCE, migrate_call_domain(job->call),
                            begin_resume);
    else
        driver_preflight(job, begin_anew);
}

/* ---- Confirm ---- */

static void on_confirmed(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    g_autoptr(DriverJob) job = data;

    if (!reply)
        return;
    if (reply->header.status == RPC_STATUS_OK && !migrate_call_cancelled(job->call))
        migration_set_forget(job->driver->set, MIGRATION_SIDE_SOURCE,
                             migrate_call_domain(job->call));
    proxy_reply(proxy, reply);
}

/* The client has heard from the destination that the migration failed, and would have libvirtd note
 * it. A recovery that has begun meanwhile has taken that note over, and must not be disturbed by
 * another. */
static void answer_failed(DriverJob *job)
{
    RpcHeader header = job->header;

    header.type = RPC_TYPE_REPLY;
    header.status = RPC_STATUS_OK;
    proxy_reply(job->proxy, rpc_frame_new(&header, NULL, 0));
    driver_job_free(job);
}

void driver_migrate_confirm3(DriverJob *job)
{
    const char *domain = migrate_call_domain(job->call);
    Migration *migration = driver_client_find(job->proxy, MIGRATION_SIDE_SOURCE, domain);

    if (migration)
        migration_set_phase(migration, "confirm");
    if (migrate_call_cancelled(job->call) &&
        recovery_set_is_trying(job->driver->recoveries, domain)) {
        answer_failed(job);
        return;
    }
    driver_options_strip(job);
    driver_job_forward(job, on_confirmed);
}

/* ---- Finish ---- */

/* libvirt's clients take an error of this Finish for a better reason than the one they have, except
 * for code MIGRATE_FINISH_OK. It is one only if the trouble began here: a destination QEMU that
 * complains of its stream's end, because the source or the link went, hides the real reason. */
static RpcFrame *given_up_answer(const DriverJob *job, RpcFrame *reply)
{
    g_autoptr(RpcFrame) theirs = reply;

    switch (migration_ended_by(job->migration)) {
    case MIGRATION_ENDED_BY_HELPER:
        if (migration_error(job->migration))
            return rpc_error_reply(&job->header, VIR_ERR_OPERATION_FAILED, VIR_FROM_QEMU,
                                   migration_error(job->migration));
        break;
    case MIGRATION_ENDED_BY_OTHERS:
        return rpc_error_reply(&job->header, VIR_ERR_MIGRATE_FINISH_OK, VIR_FROM_QEMU,
                               _("the domain was killed on the destination, as was asked for"));
    case MIGRATION_ENDED_BY_QEMU:
        break;
    }
    return g_steal_pointer(&theirs);
}

static void on_given_up(Migration *migration, gpointer data)
{
    g_autoptr(DriverJob) job = data;

    if (job->reply->header.status == RPC_STATUS_OK)
        proxy_reply(job->proxy, g_steal_pointer(&job->reply));
    else
        proxy_reply(job->proxy, given_up_answer(job, g_steal_pointer(&job->reply)));
}

static void on_finished(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    DriverJob *job = data;

    if (!reply) {
        driver_job_free(job);
        return;
    }
    if (!migrate_call_cancelled(job->call)) {
        if (reply->header.status == RPC_STATUS_OK)
            migration_set_forget(job->driver->set, MIGRATION_SIDE_DESTINATION,
                                 migrate_call_domain(job->call));
        driver_job_answer(job, reply);
        return;
    }
    migration_give_up(job->migration, _("the migration was given up"));
    job->reply = reply;
    migration_when_ended(job->migration, GIVEN_UP_WAIT_MS, on_given_up, job);
}

static gboolean on_settled(gpointer data)
{
    driver_job_forward(data, on_finished);
    return G_SOURCE_REMOVE;
}

static void on_return_path(Migration *migration, gpointer data)
{
    g_timeout_add(RESUME_SETTLE_MS, on_settled, data);
}

/* A client that has lost the source gives the migration up here, and libvirtd would destroy the
 * guest. But from the switch-over on it is here that the guest runs, or is about to, and the source has
 * let go of it: as long as the helpers are at it nothing is to be given up. */
static void hold_on(Migration *migration, gpointer data)
{
    DriverJob *job = data;
    LogContext log = { .client = proxy_name(job->proxy), .phase = "finish", .side = "destination" };

    if (!migration_is_moving(migration)) {
        driver_job_forward(job, on_finished);
        return;
    }
    log_warning(&log,
                "the client gives up the migration of domain %s, which has switched over: it goes on",
                migration_domain(job->migration));
    migrate_call_clear_cancelled(job->call);
    driver_job_forward(job, on_finished);
}

/* A migration that is given up at its source as well ends within this time, unless the link is
 * away. */
static guint give_up_wait_ms(const DriverJob *job)
{
    return (job->driver->settings->reconnect_timeout + GIVE_UP_WAIT_S) * 1000;
}

void driver_migrate_finish3(DriverJob *job)
{
    Migration *migration = driver_client_find(job->proxy, MIGRATION_SIDE_DESTINATION,
                                              migrate_call_domain(job->call));

    driver_options_strip(job);
    if (!migration) {
        driver_job_forward(job, NULL);
        return;
    }
    job->migration = migration_ref(migration);
    migration_set_phase(migration, "finish");
    /* The source libvirtd's connection ends at the local helper, so its Perform returns before the
     * destination QEMU has the new stream: a Finish that comes first would find it paused still. */
    if (driver_job_is_resume(job) && !migrate_call_cancelled(job->call))
        migration_when_return_path(migration, RESUME_WAIT_MS, on_return_path, job);
    else if (!driver_job_is_resume(job) && migrate_call_cancelled(job->call) &&
             migration_is_switching(migration))
        migration_when_decided(migration, give_up_wait_ms(job), hold_on, job);
    else
        driver_job_forward(job, on_finished);
}
