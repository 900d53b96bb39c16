/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Migrations that copy disks along (--copy-storage-all, --copy-storage-inc): what libvirt is told
 * of the way they take, and who on this host has to get at it. */
#include "config.h"

#include <glib/gi18n.h>

#include "driver/driver_priv.h"
#include "driver/rpc_xdr.h"

#define PROC_CONNECT_GET_CAPABILITIES 7
#define PROC_DOMAIN_GET_XML_DESC 14

/* Perform's: the way of the disks, and the URI if it is not there yet. */
#define PARAMS_ADDED 2u

static gboolean has_room(const MigrateCall *call)
{
    gboolean uri = migrate_call_text(call, MIGRATE_TEXT_URI) != NULL;

    return migrate_call_room(call) >= PARAMS_ADDED - (uri ? 1 : 0);
}

const char *driver_disks_problem(const MigrateCall *call)
{
    if (!migrate_call_copies_disks(call))
        return NULL;
    /* libvirt would only say that it wants a URI. */
    if (driver_disks_are_ours(call) && migrate_call_has_disks_port(call))
        return _("--disks-port alone is no way for the disks in a migration by this driver: leave "
                 "it out, and they go over TLS with the rest, or give --disks-uri "
                 "tcp://HOST:PORT");
    if (migrate_call_has_params(call) && driver_disks_are_ours(call) && !has_room(call))
        return _("the call has so many typed parameters that this driver cannot add the way of the "
                 "disks to them: leave some out");
    if (migrate_call_has_params(call))
        return NULL;
    return _("disks can be copied along only with typed parameters, in which this driver names "
             "their way to libvirt: let the client call virDomainMigrate3 or "
             "virDomainMigrateToURI3, as virsh does");
}

gboolean driver_disks_check(const MigrateCall *call, GError **error)
{
    const char *problem = driver_disks_problem(call);

    if (problem)
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, problem);
    return !problem;
}

gboolean driver_disks_are_ours(const MigrateCall *call)
{
    return migrate_call_copies_disks(call) && !migrate_call_text(call, MIGRATE_TEXT_DISKS_URI);
}

gboolean driver_find_owner(const char *domain_xml, const char *capabilities, QemuOwner *ret_owner,
                           GError **error)
{
    gboolean found = FALSE;

    if (!domain_xml_qemu_owner(domain_xml, &found, ret_owner, error))
        return FALSE;
    return found || capabilities_qemu_owner(capabilities, ret_owner, error);
}

/* ---- asking ---- */

static void go_on(DriverJob *job)
{
    job->next(job);
}

/* NULL: reply is no text; the job has ended. */
static char *take_text(DriverJob *job, RpcFrame *reply, const char *what)
{
    g_autoptr(RpcFrame) frame = reply;
    g_autoptr(GError) error = NULL;
    char *text;

    if (!frame) {
        driver_job_free(job);
        return NULL;
    }
    if (frame->header.status != RPC_STATUS_OK) {
        job->failed(job, _("libvirt does not tell who runs the domain's QEMU, which has to get at "
                           "the disks' connection"));
        return NULL;
    }
    text = rpc_xdr_reply_text(frame, what, &error);
    if (!text)
        job->failed(job, error->message);
    return text;
}

static void on_capabilities(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    DriverJob *job = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *text = take_text(job, reply, "the host's capabilities");

    if (!text)
        return;
    if (capabilities_qemu_owner(text, &job->owner, &error))
        go_on(job);
    else
        job->failed(job, error->message);
}

static void on_domain_xml(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    DriverJob *job = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *text = take_text(job, reply, "the domain's XML");
    gboolean found = FALSE;

    if (!text)
        return;
    if (!domain_xml_qemu_owner(text, &found, &job->owner, &error))
        job->failed(job, error->message);
    else if (found)
        go_on(job);
    else
        proxy_call(job->proxy, RPC_PROGRAM_REMOTE, PROC_CONNECT_GET_CAPABILITIES, NULL, 0,
                   on_capabilities, job);
}

void driver_disks_find_owner(DriverJob *job, DriverJobFunc next,
                             void (*failed)(DriverJob *job, const char *reason))
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) args = NULL;

    job->next = next;
    job->failed = failed;
    job->relays_disks = driver_disks_are_ours(job->call);
    if (!job->relays_disks) {
        go_on(job);
        return;
    }
    args = migrate_call_domain_args(job->call, 0, &error);
    if (args)
        proxy_call(job->proxy, RPC_PROGRAM_REMOTE, PROC_DOMAIN_GET_XML_DESC, args->data, args->len,
                   on_domain_xml, job);
    else
        failed(job, error->message);
}
