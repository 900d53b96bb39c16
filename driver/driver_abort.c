/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* domainAbortJob and domainAbortJobFlags: libvirtd's own business, but worth remembering once it
 * has agreed, because the failure that follows is then no failure. */
#include "config.h"

#include <libvirt/libvirt.h>

#include "driver/driver_priv.h"
#include "driver/recovery.h"
#include "driver/rpc_xdr.h"

static void on_abort_answered(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    g_autoptr(Migration) migration = data;

    if (!reply)
        return;
    if (reply->header.status == RPC_STATUS_OK)
        migration_set_aborted(migration);
    proxy_reply(proxy, reply);
}

/* TRUE: frame was taken. libvirtd refuses to abort what is in post-copy, and that goes on. */
static gboolean watch_abort(Driver *driver, Proxy *proxy, RpcFrame *frame, const char *domain)
{
    Migration *migration = migration_set_find_source(driver->set, domain);

    if (!migration)
        return FALSE;
    proxy_forward_watched(proxy, frame, on_abort_answered, migration_ref(migration));
    return TRUE;
}

gboolean driver_abort_job(Driver *driver, Proxy *proxy, RpcFrame *frame)
{
    RPC_XDR_AUTO(remote_abort_job, args) = { 0 };
    gsize len;
    const guint8 *payload = rpc_frame_payload(frame, &len);

    return rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_abort_job, &args, sizeof args,
                          "DOMAIN_ABORT_JOB", NULL) &&
           watch_abort(driver, proxy, frame, args.dom.name);
}

/* ---- a pause of what is in post-copy, which can go on later ---- */

typedef struct {
    Driver *driver;
    Migration *migration;
} Pause;

static void on_pause_answered(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    g_autofree Pause *pause = data;
    g_autoptr(Migration) migration = pause->migration;

    /* Whether libvirtd has paused it is not known then: it was wanted. */
    if (!reply)
        return;
    if (reply->header.status == RPC_STATUS_OK)
        recovery_set_leave(pause->driver->recoveries, migration_domain(migration));
    else
        migration_set_paused(migration, FALSE);
    proxy_reply(proxy, reply);
}

/* Marked before libvirtd agrees: its QEMU may have closed the stream before the answer is here. */
static gboolean watch_pause(Driver *driver, Proxy *proxy, RpcFrame *frame, const char *domain)
{
    Migration *migration = migration_set_find_source(driver->set, domain);
    Pause *pause;

    if (!migration)
        return FALSE;
    migration_set_paused(migration, TRUE);
    pause = g_new0(Pause, 1);
    pause->driver = driver;
    pause->migration = migration_ref(migration);
    proxy_forward_watched(proxy, frame, on_pause_answered, pause);
    return TRUE;
}

gboolean driver_abort_job_flags(Driver *driver, Proxy *proxy, RpcFrame *frame)
{
    RPC_XDR_AUTO(remote_abort_job_flags, args) = { 0 };
    gsize len;
    const guint8 *payload = rpc_frame_payload(frame, &len);

    if (!rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_abort_job_flags, &args, sizeof args,
                        "DOMAIN_ABORT_JOB_FLAGS", NULL))
        return FALSE;
    return args.flags & VIR_DOMAIN_ABORT_JOB_POSTCOPY
               ? watch_pause(driver, proxy, frame, args.dom.name)
               : watch_abort(driver, proxy, frame, args.dom.name);
}
