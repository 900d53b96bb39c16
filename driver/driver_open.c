/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/driver_open.h"

#include <glib/gi18n.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>

#include "driver/identity.h"
#include "driver/rpc_xdr.h"
#include "util/log.h"

#define OUR_SCHEME "postcopy:"
#define UPSTREAM_SCHEME "qemu:"
#define UPSTREAM_URI "qemu:///system"

/* ---- CONNECT_OPEN ---- */

static void on_identity_set(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    g_autoptr(RpcFrame) open_reply = data;
    g_autoptr(RpcFrame) answer = reply;
    LogContext log = { .client = proxy_name(proxy) };

    if (!answer)
        return;
    if (answer->header.status == RPC_STATUS_OK) {
        proxy_reply(proxy, g_steal_pointer(&open_reply));
        return;
    }
    /* Without it libvirtd would take the client for this daemon's own user, which may do all. */
    log_error(&log, "libvirt does not take the client's identity");
    proxy_reply_error(proxy, &open_reply->header, VIR_ERR_AUTH_FAILED, VIR_FROM_RPC,
                      _("libvirt does not take the client's identity from virtpostcopyd"));
}

/* Upstream sees this daemon, so it is told who the client is before the client can do anything. A
 * read-only connection may not say it and needs it least. */
static void on_opened(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    const ProxyPeer *peer = proxy_peer(proxy);
    g_autoptr(GByteArray) identity = NULL;

    if (!reply)
        return;
    if (reply->header.status == RPC_STATUS_OK && !peer->read_only &&
        !(peer->has_creds && peer->uid == 0))
        identity = identity_encode(peer);
    if (!identity) {
        proxy_reply(proxy, reply);
        return;
    }
    proxy_call(proxy, RPC_PROGRAM_REMOTE, IDENTITY_PROCEDURE, identity->data, identity->len,
               on_identity_set, reply);
}

/* The words libvirt has for a URI it has no driver for, or that names what it has not. */
static char *refusal(const char *name, int *ret_code)
{
    const char *path;

    if (!name || !g_str_has_prefix(name, OUR_SCHEME "//")) {
        *ret_code = VIR_ERR_NO_CONNECT;
        return g_strdup_printf(_("no connection driver available for %s"), name ? name : "(null)");
    }
    *ret_code = VIR_ERR_INTERNAL_ERROR;
    path = name + strlen(OUR_SCHEME "//");
    /* libvirt's words begin with its name for the code. */
    return g_strdup_printf(_("internal error: unexpected postcopy URI path '%s', try %s"), path,
                           DRIVER_URI);
}

static RpcFrame *open_upstream(RpcFrame *frame, remote_connect_open *args, gboolean read_only,
                               GError **error)
{
    remote_text upstream = (char *)UPSTREAM_URI;
    remote_connect_open ours = { .name = &upstream, .flags = args->flags };
    g_autoptr(GByteArray) payload = NULL;

    if (read_only)
        ours.flags |= VIR_CONNECT_RO;
    payload = rpc_xdr_encode((xdrproc_t)xdr_remote_connect_open, &ours, "CONNECT_OPEN", error);
    return payload ? rpc_frame_new_with_payload(frame, payload->data, payload->len) : NULL;
}

gboolean driver_connect_open(Driver *driver, Proxy *proxy, RpcFrame *frame)
{
    g_autoptr(RpcFrame) call = frame;
    RPC_XDR_AUTO(remote_connect_open, args) = { 0 };
    g_autoptr(GError) error = NULL;
    g_autofree char *message = NULL;
    RpcFrame *ours = NULL;
    gsize len;
    const guint8 *payload = rpc_frame_payload(call, &len);
    int code = VIR_ERR_RPC;

    if (!rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_connect_open, &args, sizeof args,
                        "CONNECT_OPEN", &error))
        message = g_strdup(error->message);
    else if (!args.name || !g_str_equal(*args.name, DRIVER_URI))
        message = refusal(args.name ? *args.name : NULL, &code);
    else if (!(ours = open_upstream(call, &args, proxy_peer(proxy)->read_only, &error)))
        message = g_strdup(error->message);
    if (message) {
        proxy_reply_error(proxy, &call->header, code,
                          code == VIR_ERR_NO_CONNECT ? VIR_FROM_NONE : VIR_FROM_QEMU, message);
        return TRUE;
    }
    proxy_forward_watched(proxy, ours, on_opened, NULL);
    return TRUE;
}

/* ---- CONNECT_GET_URI ---- */

static void on_uri(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    g_autoptr(RpcFrame) theirs = reply;
    g_autofree char *text = NULL;
    g_autofree char *uri = NULL;
    RpcFrame *ours = NULL;

    if (!theirs)
        return;
    if (theirs->header.status == RPC_STATUS_OK)
        text = rpc_xdr_reply_text(theirs, "CONNECT_GET_URI", NULL);
    if (text && g_str_has_prefix(text, UPSTREAM_SCHEME)) {
        remote_text_ret mine;

        uri = g_strconcat(OUR_SCHEME, text + strlen(UPSTREAM_SCHEME), NULL);
        mine.text = uri;
        ours = rpc_xdr_reply(&theirs->header, (xdrproc_t)xdr_remote_text_ret, &mine, NULL);
    }
    proxy_reply(proxy, ours ? ours : g_steal_pointer(&theirs));
}

gboolean driver_connect_get_uri(Driver *driver, Proxy *proxy, RpcFrame *frame)
{
    proxy_forward_watched(proxy, frame, on_uri, NULL);
    return TRUE;
}
