/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* domainAbortJob and domainAbortJobFlags: libvirtd's own business, but worth remembering once it has
 * agreed, because the failure that follows is then no failure. */
#include "config.h"

#include "driver/driver_priv.h"
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

gboolean driver_abort_job_flags(Driver *driver, Proxy *proxy, RpcFrame *frame)
{
    RPC_XDR_AUTO(remote_abort_job_flags, args) = { 0 };
    gsize len;
    const guint8 *payload = rpc_frame_payload(frame, &len);

    /* With a flag it pauses a post-copy migration, which can go on later. */
    return rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_abort_job_flags, &args, sizeof args,
                          "DOMAIN_ABORT_JOB_FLAGS", NULL) &&
           args.flags == 0 && watch_abort(driver, proxy, frame, args.dom.name);
}
