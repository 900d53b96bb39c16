/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls that are held: decoding, refusing, sending on, and the words of an error. */
#include "config.h"

#include <glib/gi18n.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "driver/driver_priv.h"
#include "driver/migration_account.h"
#include "driver/p2p.h"
#include "driver/rpc_error.h"
#include "util/log.h"

/* How long an error waits for the helper to say why. */
#define EXPLAIN_WAIT_MS 2000

DriverJob *driver_job_new(Driver *driver, Proxy *proxy, RpcFrame *frame)
{
    g_autoptr(GError) error = NULL;
    MigrateCall *call = migrate_call_decode(frame, &error);
    DriverJob *job;

    if (!call) {
        log_warning(&(LogContext){ .client = proxy_name(proxy) }, "%s", error->message);
        proxy_reply_error(proxy, &frame->header, VIR_ERR_RPC, VIR_FROM_RPC, error->message);
        rpc_frame_free(frame);
        return NULL;
    }
    job = g_new0(DriverJob, 1);
    job->driver = driver;
    job->proxy = proxy_ref(proxy);
    job->frame = frame;
    job->header = frame->header;
    job->call = call;
    return job;
}

void driver_job_free(DriverJob *job)
{
    if (!job)
        return;
    rpc_frame_free(job->frame);
    rpc_frame_free(job->reply);
    migrate_call_free(job->call);
    migration_unref(job->migration);
    p2p_free(job->p2p);
    proxy_unref(job->proxy);
    g_free(job->error);
    g_free(job);
}

gboolean driver_job_is_ours(const DriverJob *job)
{
    return (migrate_call_flags(job->call) & (VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_TUNNELLED)) != 0;
}

/* What is told of the last migration would else be told of this one. */
static void forget_the_last(const DriverJob *job)
{
    MigratePhase phase = migrate_call_phase(job->call);
    g_autofree char *domain = NULL;

    if (phase != MIGRATE_PHASE_PREPARE && phase != MIGRATE_PHASE_PERFORM)
        return;
    domain = driver_call_domain(job->call, NULL);
    if (domain)
        migration_accounts_forget(job->driver->accounts, domain);
}

void driver_job_pass(DriverJob *job)
{
    forget_the_last(job);
    proxy_forward(job->proxy, g_steal_pointer(&job->frame));
    driver_job_free(job);
}

void driver_job_refuse(DriverJob *job, int code, const char *message)
{
    LogContext log = { .client = proxy_name(job->proxy),
                       .phase = migrate_phase_name(migrate_call_phase(job->call)) };

    log_warning(&log, "%s refused: %s", migrate_call_name(job->call), message);
    proxy_reply_error(job->proxy, &job->header, code, VIR_FROM_QEMU, message);
    driver_job_free(job);
}

void driver_job_refuse_error(DriverJob *job, const GError *error)
{
    driver_job_refuse(job,
                      error->domain == MIGRATE_OPTIONS_ERROR ? error->code
                                                             : VIR_ERR_ARGUMENT_UNSUPPORTED,
                      error->message);
}

void driver_job_forward(DriverJob *job, ProxyReplyFunc func)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(RpcFrame) held = g_steal_pointer(&job->frame);
    RpcFrame *frame = held ? migrate_call_encode(job->call, held, &error)
                           : migrate_call_encode_again(job->call, &job->header, &error);

    if (!frame) {
        driver_job_refuse(job, VIR_ERR_RPC, error->message);
        return;
    }
    if (func) {
        proxy_forward_watched(job->proxy, frame, func, job);
        return;
    }
    proxy_forward(job->proxy, frame);
    driver_job_free(job);
}

char *driver_call_domain(const MigrateCall *call, GError **error)
{
    const char *name = migrate_call_domain(call);
    const char *xml = migrate_call_text(call, MIGRATE_TEXT_DOMAIN_XML);

    if (name)
        return g_strdup(name);
    if (xml)
        return domain_xml_name(xml, error);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                _("Prepare came without the domain's XML"));
    return NULL;
}

/* An abort that the user asked for needs no explanation. Otherwise the reason that this driver
 * knows comes first: libvirtd only saw a socket close. */
static RpcFrame *explain_error(RpcFrame *reply, const DriverJob *job)
{
    g_auto(RpcError) theirs = { 0 };
    g_autofree char *text = NULL;
    const char *reason = job->error;
    const guint8 *payload;
    gsize len;

    if (!reason && job->migration)
        reason = migration_error(job->migration);
    payload = rpc_frame_payload(reply, &len);
    if (!rpc_error_decode(payload, len, &theirs, NULL) ||
        theirs.code == VIR_ERR_OPERATION_ABORTED)
        return reply;
    /* QEMU may notice its closed socket before it notices that it was told to cancel. */
    if (job->migration && migration_is_aborted(job->migration)) {
        rpc_frame_free(reply);
        return rpc_error_reply(&job->header, VIR_ERR_OPERATION_ABORTED, VIR_FROM_QEMU,
                               _("operation aborted: migration out job: canceled by client"));
    }
    if (!reason)
        return reply;
    if (!job->error && theirs.message)
        text = g_strdup_printf("%s (%s)", reason, theirs.message);
    rpc_frame_free(reply);
    return rpc_error_reply(&job->header, VIR_ERR_OPERATION_FAILED, VIR_FROM_QEMU,
                           text ? text : reason);
}

void driver_job_answer_now(DriverJob *job, RpcFrame *reply)
{
    gboolean failed = reply->header.status != RPC_STATUS_OK;

    proxy_reply(job->proxy, failed ? explain_error(reply, job) : reply);
    driver_job_free(job);
}

static void on_explained(Migration *migration, gpointer data)
{
    DriverJob *job = data;

    driver_job_answer_now(job, g_steal_pointer(&job->reply));
}

void driver_job_when_explained(DriverJob *job, RpcFrame *reply, MigrationFunc func)
{
    job->reply = reply;
    migration_give_up(job->migration, _("libvirt failed before its stream began"));
    migration_when_ended(job->migration, EXPLAIN_WAIT_MS, func, job);
}

void driver_job_answer(DriverJob *job, RpcFrame *reply)
{
    /* Else the reason is on its way from the helper: both saw the same socket close. */
    if (reply->header.status == RPC_STATUS_OK || job->error || !job->migration)
        driver_job_answer_now(job, reply);
    else
        driver_job_when_explained(job, reply, on_explained);
}
