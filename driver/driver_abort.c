/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* domainAbortJob and domainAbortJobFlags: libvirtd's own business, but worth remembering, because the
 * failure that follows is then no failure. */
#include "config.h"

#include "driver/driver_priv.h"
#include "driver/rpc_xdr.h"

static void note_abort(Driver *driver, const char *domain)
{
    Migration *migration = migration_set_find_source(driver->set, domain);

    if (migration)
        migration_set_aborted(migration);
}

gboolean driver_abort_job(Driver *driver, Proxy *proxy, RpcFrame *frame)
{
    RPC_XDR_AUTO(remote_abort_job, args) = { 0 };
    gsize len;
    const guint8 *payload = rpc_frame_payload(frame, &len);

    if (rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_abort_job, &args, sizeof args,
                       "DOMAIN_ABORT_JOB", NULL))
        note_abort(driver, args.dom.name);
    return FALSE;
}

gboolean driver_abort_job_flags(Driver *driver, Proxy *proxy, RpcFrame *frame)
{
    RPC_XDR_AUTO(remote_abort_job_flags, args) = { 0 };
    gsize len;
    const guint8 *payload = rpc_frame_payload(frame, &len);

    /* With a flag it pauses a post-copy migration, which can go on later. */
    if (rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_abort_job_flags, &args, sizeof args,
                       "DOMAIN_ABORT_JOB_FLAGS", NULL) &&
        args.flags == 0)
        note_abort(driver, args.dom.name);
    return FALSE;
}
