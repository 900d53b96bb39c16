/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/driver_memory.h"

#include <glib/gi18n.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>

#include "driver/job_answer.h"
#include "driver/memory_list.h"
#include "driver/rpc_xdr.h"
#include "util/log.h"

#define PROC_LIST_ALL_DOMAINS 273

G_STATIC_ASSERT(REMOTE_UUID_LEN == MIGRATION_SESSION_LEN);

/* ---- the session as UUID ---- */

static char *to_key(const char uuid[REMOTE_UUID_LEN])
{
    GString *key = g_string_new(NULL);

    for (gsize i = 0; i < REMOTE_UUID_LEN; i++)
        g_string_append_printf(key, "%02x", (guint8)uuid[i]);
    return g_string_free(key, FALSE);
}

static void to_uuid(const char *key, char ret_uuid[REMOTE_UUID_LEN])
{
    for (gsize i = 0; i < REMOTE_UUID_LEN; i++)
        ret_uuid[i] = (char)(g_ascii_xdigit_value(key[2 * i]) << 4 |
                             g_ascii_xdigit_value(key[2 * i + 1]));
}

/* ---- answers ---- */

/* NULL: it cannot be told. */
static void answer(Proxy *proxy, const RpcHeader *call, RpcFrame *reply, int code,
                   const char *complaint)
{
    if (reply)
        proxy_reply(proxy, reply);
    else
        proxy_reply_error(proxy, call, code, VIR_FROM_QEMU, complaint);
}

static void add_domain(const char *key, const char *domain, gpointer data)
{
    remote_dom dom = { .name = (char *)domain, .id = -1 };

    to_uuid(key, dom.uuid);
    g_array_append_val((GArray *)data, dom);
}

static gboolean list(MigrationAccounts *accounts, Proxy *proxy, const RpcFrame *frame)
{
    RPC_XDR_AUTO(remote_list_domains, args) = { 0 };
    g_autoptr(GArray) domains = g_array_new(FALSE, FALSE, sizeof(remote_dom));
    remote_list_domains_ret ret = { 0 };
    gsize len;
    const guint8 *payload = rpc_frame_payload(frame, &len);

    if (!rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_list_domains, &args, sizeof args,
                        "CONNECT_LIST_ALL_DOMAINS", NULL) ||
        args.flags != MEMORY_LIST_FLAG)
        return FALSE;
    migration_accounts_each(accounts, add_domain, domains);
    ret.n = MIN(domains->len, REMOTE_DOMAINS_MAX);
    if (args.need_results) {
        ret.domains.domains_len = ret.n;
        ret.domains.domains_val = (remote_dom *)(gpointer)domains->data;
    }
    answer(proxy, &frame->header,
           rpc_xdr_reply(&frame->header, (xdrproc_t)xdr_remote_list_domains_ret, &ret, NULL),
           VIR_ERR_RPC, _("the migrations of memory clients cannot be told"));
    return TRUE;
}

/* What has ended is kept for who asks for what has completed, however it ended. */
static int job_type(const JobFigures *figures, gboolean completed)
{
    static const int ends[] = {
        [JOB_OUTCOME_COMPLETED] = VIR_DOMAIN_JOB_COMPLETED,
        [JOB_OUTCOME_FAILED] = VIR_DOMAIN_JOB_FAILED,
        [JOB_OUTCOME_CANCELLED] = VIR_DOMAIN_JOB_CANCELLED,
    };

    if ((figures->outcome != JOB_OUTCOME_NONE) != completed)
        return VIR_DOMAIN_JOB_NONE;
    return completed ? ends[figures->outcome] : VIR_DOMAIN_JOB_UNBOUNDED;
}

static gboolean tell(MigrationAccounts *accounts, Proxy *proxy, const RpcFrame *frame)
{
    RPC_XDR_AUTO(remote_abort_job_flags, args) = { 0 };
    g_auto(JobFigures) figures = { 0 };
    g_autofree char *key = NULL;
    RpcFrame *reply = NULL;
    gsize len;
    const guint8 *payload = rpc_frame_payload(frame, &len);

    if (!rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_abort_job_flags, &args, sizeof args,
                        "DOMAIN_GET_JOB_STATS", NULL) ||
        !g_str_has_prefix(args.dom.name, MEMORY_PREFIX))
        return FALSE;
    key = to_key(args.dom.uuid);
    if (migration_accounts_figures(accounts, key, &figures))
        reply = job_own_stats(&frame->header,
                              job_type(&figures, args.flags & VIR_DOMAIN_JOB_STATS_COMPLETED),
                              &figures);
    answer(proxy, &frame->header, reply, VIR_ERR_NO_DOMAIN,
           _("there is no such migration of a memory client"));
    return TRUE;
}

gboolean driver_memory_call(MigrationAccounts *accounts, Proxy *proxy, RpcFrame *frame)
{
    gboolean done = FALSE;

    if (frame->header.program != RPC_PROGRAM_REMOTE || frame->header.type != RPC_TYPE_CALL)
        return FALSE;
    if (frame->header.procedure == PROC_LIST_ALL_DOMAINS)
        done = list(accounts, proxy, frame);
    else if (frame->header.procedure == JOB_PROC_STATS)
        done = tell(accounts, proxy, frame);
    if (done)
        rpc_frame_free(frame);
    return done;
}
