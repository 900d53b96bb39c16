/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* domainMigratePrepare3(Params) on the destination: a helper and a socket for QEMU first, then
 * libvirtd's own work, then our URI in its answer. */
#include "config.h"

#include <glib/gi18n.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "driver/driver_preflight.h"
#include "driver/driver_priv.h"
#include "driver/job_record.h"
#include "driver/rpc_error.h"
#include "driver/rpc_xdr.h"
#include "util/log.h"

#define PROC_CONNECT_GET_CAPABILITIES 7

static void on_replied(Proxy *proxy, RpcFrame *reply, gpointer data);

static void fail(DriverJob *job, const char *message)
{
    if (job->migration)
        migration_cancel(job->migration, message);
    driver_job_refuse(job, VIR_ERR_OPERATION_FAILED, message);
}

static void on_helper_ready(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(DriverJob) job = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *uri = NULL;
    g_autofree char *disks = NULL;

    if (!migration_finish(job->migration, result, &error)) {
        fail(g_steal_pointer(&job), error->message);
        return;
    }
    if (proxy_is_closed(job->proxy)) {
        migration_cancel(job->migration, _("the client left during Prepare"));
        return;
    }
    uri = migration_qemu_uri(job->migration);
    driver_options_strip(job);
    migrate_call_set_text(job->call, MIGRATE_TEXT_URI, uri);
    disks = migration_disks_uri(job->migration);
    if (disks)
        migrate_call_set_text(job->call, MIGRATE_TEXT_DISKS_URI, disks);
    driver_client_add(job->proxy, job->migration);
    driver_job_forward(g_steal_pointer(&job), on_replied);
}

/* The answer has libvirtd's cookie and, for a unix: URI, none of its own. */
static RpcFrame *answer_with_uri(const DriverJob *job, const RpcFrame *reply, GError **error)
{
    RPC_XDR_AUTO(remote_prepare3_ret, ret) = { 0 };
    g_autofree char *uri = migration_uri(job->migration);
    remote_prepare3_ret ours;
    remote_text text = uri;
    gsize len;
    const guint8 *payload = rpc_frame_payload(reply, &len);

    if (!rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_prepare3_ret, &ret, sizeof ret,
                        "Prepare's answer", error))
        return NULL;
    ours = ret;
    ours.uri_out = &text;
    return rpc_xdr_reply(&job->header, (xdrproc_t)xdr_remote_prepare3_ret, &ours, error);
}

static void on_replied(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    g_autoptr(DriverJob) job = data;
    g_autoptr(RpcFrame) theirs = reply;
    g_autoptr(GError) error = NULL;
    RpcFrame *ours;

    if (!theirs) {
        migration_cancel(job->migration, _("the client left during Prepare"));
        return;
    }
    if (driver_resume_again(job, theirs, on_replied)) {
        g_steal_pointer(&theirs);
        g_steal_pointer(&job);
        return;
    }
    if (theirs->header.status != RPC_STATUS_OK) {
        if (driver_job_is_resume(job) && rpc_error_code(theirs) == VIR_ERR_NO_DOMAIN)
            migration_set_forget(job->driver->set, MIGRATION_SIDE_DESTINATION,
                                 migration_domain(job->migration));
        migration_cancel(job->migration, _("libvirt refused to prepare the domain"));
        proxy_reply(proxy, g_steal_pointer(&theirs));
        return;
    }
    /* A domain of that name which began anew is none that waits to be resumed. */
    if (!driver_job_is_resume(job))
        migration_set_forget(job->driver->set, MIGRATION_SIDE_DESTINATION,
                             migration_domain(job->migration));
    ours = answer_with_uri(job, theirs, &error);
    if (!ours) {
        fail(g_steal_pointer(&job), error->message);
        return;
    }
    proxy_reply(proxy, ours);
}

/* What the call says of it; a resume that says nothing goes where the broken session went. */
static gboolean find_place(const DriverJob *job, const char *domain, SessionPlace *ret_place,
                           GError **error)
{
    const char *uri = migrate_call_text(job->call, MIGRATE_TEXT_URI);
    const char *listen_address = migrate_call_text(job->call, MIGRATE_TEXT_LISTEN_ADDRESS);
    const JobRecord *broken = NULL;

    if (driver_job_is_resume(job) && !uri && !listen_address)
        broken = migration_set_find_broken(job->driver->set, MIGRATION_SIDE_DESTINATION, domain);
    if (!broken)
        return session_place_parse(uri, listen_address, job->driver->settings, ret_place, error);
    *ret_place = (SessionPlace){ .host = g_strdup(broken->uri.host),
                                 .port = broken->uri.port,
                                 .listen_address = g_strdup(broken->listen_address) };
    return TRUE;
}

/* For who asks how far it is, before QEMU's stream says it. A resume is not looked at. */
static guint64 expected_ram(const DriverJob *job, const char *domain)
{
    const JobRecord *broken;

    if (!driver_job_is_resume(job))
        return job->expected_ram;
    broken = migration_set_find_broken(job->driver->set, MIGRATION_SIDE_DESTINATION, domain);
    return broken ? broken->expected_ram : 0;
}

static Migration *make_migration(const DriverJob *job, const char *capabilities, GError **error)
{
    const char *xml = migrate_call_text(job->call, MIGRATE_TEXT_DOMAIN_XML);
    g_autofree char *name = driver_call_domain(job->call, error);
    g_auto(SessionPlace) place = { 0 };
    g_autoptr(Migration) migration = NULL;
    QemuOwner owner;

    if (!name)
        return NULL;
    if (!xml) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("Prepare came without the domain's XML"));
        return NULL;
    }
    if (!find_place(job, name, &place, error) ||
        !driver_find_owner(xml, capabilities, &owner, error))
        return NULL;
    if (!driver_job_is_resume(job) && !driver_preflight_host(job, &owner, error))
        return NULL;
    migration = migration_new_destination(job->driver->set, name, &owner,
                                          driver_job_is_resume(job), error);
    if (!migration ||
        (driver_disks_are_ours(job->call) && !migration_serve_disks(migration, &owner, error)))
        return NULL;
    migration_set_place(migration, &place);
    migration_set_expected_ram(migration, expected_ram(job, name));
    return g_steal_pointer(&migration);
}

static void on_capabilities(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    g_autoptr(DriverJob) job = data;
    g_autoptr(RpcFrame) frame = reply;
    g_autoptr(GError) error = NULL;
    RPC_XDR_AUTO(remote_text_ret, ret) = { 0 };
    const guint8 *payload;
    gsize len;

    if (!frame)
        return;
    payload = rpc_frame_payload(frame, &len);
    if (frame->header.status != RPC_STATUS_OK) {
        fail(g_steal_pointer(&job), _("libvirt does not tell the host's capabilities"));
        return;
    }
    if (!rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_text_ret, &ret, sizeof ret,
                        "the host's capabilities", &error) ||
        !(job->migration = make_migration(job, ret.text, &error))) {
        fail(g_steal_pointer(&job), error->message);
        return;
    }
    migration_prepare(job->migration, on_helper_ready, job);
    g_steal_pointer(&job);
}

static void ask_capabilities(DriverJob *job)
{
    proxy_call(job->proxy, RPC_PROGRAM_REMOTE, PROC_CONNECT_GET_CAPABILITIES, NULL, 0,
               on_capabilities, job);
}

/* The helper of the session before may still wait for its peer: until it has ended QEMU believes in
 * it. */
static void prepare_resume(DriverJob *job)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *name = driver_call_domain(job->call, &error);

    if (name)
        driver_resume_after(job, MIGRATION_SIDE_DESTINATION, name, ask_capabilities);
    else
        fail(job, error->message);
}

static gboolean check(const DriverJob *job, GError **error)
{
    g_auto(SessionPlace) place = { 0 };

    return driver_options_check(job, TRUE, error) &&
           session_place_parse(migrate_call_text(job->call, MIGRATE_TEXT_URI),
                               migrate_call_text(job->call, MIGRATE_TEXT_LISTEN_ADDRESS),
                               job->driver->settings, &place, error);
}

static void prepare(DriverJob *job)
{
    g_autoptr(GError) error = NULL;
    const char *problem;

    if (driver_job_is_resume(job))
        migrate_call_forget_disks(job->call);
    problem = driver_disks_problem(job->call);
    if (!check(job, &error))
        driver_job_refuse_error(job, error);
    else if (problem)
        driver_job_refuse(job, VIR_ERR_ARGUMENT_UNSUPPORTED, problem);
    else if (driver_job_is_resume(job))
        prepare_resume(job);
    else
        driver_preflight(job, ask_capabilities);
}

void driver_migrate_prepare3(DriverJob *job)
{
    if (migrate_call_flags(job->call) & VIR_MIGRATE_OFFLINE) {
        driver_options_strip(job);
        driver_job_forward(job, NULL);
    } else {
        driver_listen_resolve(job, prepare);
    }
}
