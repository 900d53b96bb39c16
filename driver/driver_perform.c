/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* domainMigratePerform3(Params) on the source: the helpers of both hosts agree first, and only then
 * is libvirtd told to stream, to a local socket. */
#include "config.h"

#include <glib/gi18n.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <unistd.h>

#include "driver/driver_preflight.h"
#include "driver/driver_priv.h"
#include "driver/p2p.h"
#include "driver/recovery.h"
#include "driver/recovery_uri.h"
#include "driver/run_dir.h"
#include "util/log.h"

/* ---- the answer ---- */

static void on_performed(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    if (reply)
        driver_job_answer(data, reply);
    else
        driver_job_free(data);
}

/* libvirtd holds a job of its own since Begin. Sent to a URI that leads nowhere it fails and cleans
 * up as after any failure, whatever its version; the user is told our reason. */
static void fail(DriverJob *job, const char *reason)
{
    g_autofree char *dead = run_dir_dead_uri(migration_set_run_dir(job->driver->set));
    LogContext log = { .client = proxy_name(job->proxy), .phase = "perform", .side = "source" };

    log_error(&log, "%s", reason);
    job->error = g_strdup(reason);
    driver_options_strip(job);
    migrate_call_set_text(job->call, MIGRATE_TEXT_URI, dead);
    /* It comes to its disks before it comes to the URI, and would copy them all first. */
    if (migrate_call_copies_disks(job->call) &&
        (!driver_disks_are_ours(job->call) || migrate_call_room(job->call) > 0))
        migrate_call_set_text(job->call, MIGRATE_TEXT_DISKS_URI, dead);
    driver_job_forward(job, on_performed);
}

static SpeedLimit speed_limit(const MigrateCall *call)
{
    return (SpeedLimit){ .user = migrate_call_postcopy_speed(call),
                         .again = (migrate_call_flags(call) & VIR_MIGRATE_POSTCOPY_RESUME) != 0 };
}

/* ---- direct ---- */

/* Kept with the migration: what resumes it, should it fail in post-copy. */
static gboolean keep_recovery(const DriverJob *job, GError **error)
{
    g_autoptr(GBytes) args = migrate_call_recovery(job->call, error);

    if (!args)
        return FALSE;
    migration_set_perform(job->migration, MIGRATE_CALL_RECOVERY, args);
    return TRUE;
}

static void on_connected(GObject *source, GAsyncResult *result, gpointer data)
{
    DriverJob *job = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *uri = NULL;
    g_autofree char *disks = NULL;

    if (!migration_finish(job->migration, result, &error)) {
        fail(job, error->message);
        return;
    }
    if (proxy_is_closed(job->proxy)) {
        migration_cancel(job->migration, _("the client left during Perform"));
        driver_job_free(job);
        return;
    }
    uri = migration_uri(job->migration);
    driver_options_strip(job);
    migrate_call_set_text(job->call, MIGRATE_TEXT_URI, uri);
    disks = migration_disks_uri(job->migration);
    if (disks)
        migrate_call_set_text(job->call, MIGRATE_TEXT_DISKS_URI, disks);
    driver_job_forward(job, on_performed);
}

static void connect_direct(DriverJob *job)
{
    const char *text = migrate_call_text(job->call, MIGRATE_TEXT_URI);
    const char *tls_name = migrate_call_text(job->call, MIGRATE_TEXT_TLS_DESTINATION);
    SpeedLimit limit = speed_limit(job->call);
    MigrateWishes wishes;
    g_auto(MigrationUri) uri = { 0 };
    g_autoptr(GError) error = NULL;

    if (!migration_uri_parse(text, &uri, &error)) {
        fail(job, error->message);
        return;
    }
    job->migration =
        migration_new_source(job->driver->set, migrate_call_domain(job->call), &uri, &limit);
    if (!keep_recovery(job, &error)) {
        fail(job, error->message);
        return;
    }
    driver_options_wishes(job->call, &wishes);
    migration_set_wishes(job->migration, &wishes);
    if (job->relays_disks)
        migration_relay_disks(job->migration, NULL, &job->owner);
    driver_client_add(job->proxy, job->migration);
    migration_connect(job->migration, tls_name, on_connected, job);
}

static void perform_direct(DriverJob *job)
{
    const char *text = migrate_call_text(job->call, MIGRATE_TEXT_URI);
    g_autoptr(GError) error = NULL;

    if (!text || !migration_uri_is_ours(text)) {
        if (driver_options_may_be_plain(job))
            driver_job_pass(job);
        else
            fail(job, _("the destination was not reached through its virtpostcopyd, so the guest's "
                        "memory would cross the network in clear: use a postcopy:// URI for the "
                        "destination"));
        return;
    }
    if (driver_disks_check(job->call, &error))
        driver_disks_find_owner(job, connect_direct, fail);
    else
        fail(job, error->message);
}

/* ---- peer-to-peer ---- */

/* The same answer that libvirtd has given to the recovery: no cookie. */
static RpcFrame *arrived_answer(const DriverJob *job)
{
    static const guint8 no_cookie[4];
    RpcHeader header = job->header;

    header.type = RPC_TYPE_REPLY;
    header.status = RPC_STATUS_OK;
    return rpc_frame_new(&header, no_cookie, sizeof no_cookie);
}

static void on_recovered(gboolean arrived, gpointer data)
{
    DriverJob *job = data;
    RpcFrame *theirs;

    if (proxy_is_closed(job->proxy)) {
        driver_job_free(job);
        return;
    }
    theirs = g_steal_pointer(&job->reply);
    if (arrived) {
        rpc_frame_free(theirs);
        theirs = arrived_answer(job);
    }
    driver_job_answer_now(job, theirs);
}

/* A failure that the daemons are mending is none for who waits for the guest to be there. */
static void on_peer_explained(Migration *migration, gpointer data)
{
    DriverJob *job = data;

    if (!recovery_set_wait(job->driver->recoveries, migration_domain(migration), job->proxy,
                           on_recovered, job))
        on_recovered(FALSE, job);
}

static void on_peer_performed(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    DriverJob *job = data;
    g_autoptr(P2p) p2p = NULL;

    if (!reply) {
        driver_job_free(job);
        return;
    }
    if (p2p_is_waiting(job->p2p) && driver_resume_again(job, reply, on_peer_performed))
        return;
    p2p = g_steal_pointer(&job->p2p);
    if (p2p_error(p2p))
        job->error = g_strdup(p2p_error(p2p));
    if (p2p_migration(p2p))
        job->migration = migration_ref(p2p_migration(p2p));
    if (reply->header.status == RPC_STATUS_OK)
        migration_set_forget(job->driver->set, MIGRATION_SIDE_SOURCE,
                             migrate_call_domain(job->call));
    if (reply->header.status != RPC_STATUS_OK && job->migration && !job->error &&
        !p2p_is_recovery(p2p))
        driver_job_when_explained(job, reply, on_peer_explained);
    else
        driver_job_answer(job, reply);
}

static void on_peer_open(GObject *source, GAsyncResult *result, gpointer data)
{
    DriverJob *job = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *disks = NULL;

    job->p2p = p2p_open_finish(result, &error);
    if (!job->p2p) {
        driver_job_refuse(job, VIR_ERR_OPERATION_FAILED, error->message);
        return;
    }
    if (proxy_is_closed(job->proxy)) {
        driver_job_free(job);
        return;
    }
    driver_options_strip(job);
    p2p_strip(job->call);
    migrate_call_set_text(job->call, MIGRATE_TEXT_DCONNURI, p2p_uri(job->p2p));
    disks = p2p_disks_uri(job->p2p);
    if (disks)
        migrate_call_set_text(job->call, MIGRATE_TEXT_DISKS_URI, disks);
    driver_job_forward(job, on_peer_performed);
}

static void dial_peer(DriverJob *job)
{
    SpeedLimit limit = speed_limit(job->call);

    driver_options_log(job);
    p2p_open(job->driver, job->proxy, job->call, &limit, job->relays_disks ? &job->owner : NULL,
             on_peer_open, job);
}

static void refuse_peer(DriverJob *job, const char *reason)
{
    driver_job_refuse(job, VIR_ERR_OPERATION_FAILED, reason);
}

static void open_peer(DriverJob *job)
{
    driver_disks_find_owner(job, dial_peer, refuse_peer);
}

/* A recovery ends what is there of its session, and needs nobody's password: it is this daemon's
 * alone. */
static gboolean is_our_own(const DriverJob *job)
{
    const ProxyPeer *peer = proxy_peer(job->proxy);

    return peer->kind == PROXY_CLIENT_UNIX && peer->has_creds && peer->pid == getpid() &&
           driver_job_is_resume(job);
}

static void recover_peer(DriverJob *job)
{
    if (is_our_own(job))
        open_peer(job);
    else
        driver_job_refuse(job, VIR_ERR_ARGUMENT_UNSUPPORTED,
                          _("postcopy+recover: URIs are for the daemon's own recoveries: to resume "
                            "a migration give the URI of the destination, such as "
                            "postcopy+tls://HOST/system"));
}

static void perform_peer(DriverJob *job)
{
    const char *dconnuri = migrate_call_text(job->call, MIGRATE_TEXT_DCONNURI);
    g_autoptr(GError) error = NULL;

    if (dconnuri && recovery_uri_is(dconnuri)) {
        recover_peer(job);
        return;
    }
    if (dconnuri && !migration_uri_is_ours(dconnuri) && driver_options_may_be_plain(job)) {
        driver_job_pass(job);
        return;
    }
    if (!driver_options_check(job, TRUE, &error) || !driver_disks_check(job->call, &error)) {
        driver_job_refuse_error(job, error);
        return;
    }
    if (!dconnuri || !migration_uri_is_ours(dconnuri)) {
        driver_job_refuse(job, VIR_ERR_ARGUMENT_UNSUPPORTED,
                          _("the destination of a post-copy migration by this driver is another "
                            "host's virtpostcopyd: use a postcopy:// URI for it"));
        return;
    }
    if (driver_job_is_resume(job))
        driver_resume_after(job, MIGRATION_SIDE_SOURCE, migrate_call_domain(job->call), open_peer);
    else
        driver_preflight(job, open_peer);
}

void driver_migrate_perform3(DriverJob *job)
{
    gboolean peer = (migrate_call_flags(job->call) & VIR_MIGRATE_PEER2PEER) != 0;
    g_autoptr(GError) error = NULL;

    if (driver_job_is_resume(job))
        migrate_call_forget_disks(job->call);
    if (!driver_options_check(job, FALSE, &error))
        (peer ? driver_job_refuse_error(job, error) : fail(job, error->message));
    else if (peer)
        perform_peer(job);
    else
        perform_direct(job);
}
