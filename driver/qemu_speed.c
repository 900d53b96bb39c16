/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/qemu_speed.h"

#include <libvirt/libvirt.h>
#include <string.h>
#include <unistd.h>

#include "driver/rpc_client.h"
#include "driver/upstream.h"

#define UPSTREAM_URI "qemu:///system"

enum {
    PROC_CONNECT_OPEN = 1,
    PROC_DOMAIN_LOOKUP_BY_NAME = 23,
    PROC_AUTH_LIST = 66,
    PROC_DOMAIN_MIGRATE_SET_MAX_DOWNTIME = 166,
    PROC_DOMAIN_MIGRATE_SET_MAX_SPEED = 207,
    PROC_DOMAIN_MIGRATE_GET_MAX_SPEED = 242,
};

/* Milliseconds: the least that libvirt accepts. */
#define DOWNTIME_IN_POSTCOPY 1

/* libvirtd may just be restarting. */
#define RECONNECT_MS 1000

struct QemuSpeed {
    gint refs; /* the owner's, and that of a connect under way */
    char **paths;
    guint timeout;
    char *domain;
    LogContext log;
    SpeedLimit limit;
    guint64 wanted;
    gboolean waiting; /* wanted is not passed on yet */
    gboolean shorten; /* the last round is to be shortened, and was not yet */
    gboolean shortened; /* or it was refused: once is enough */
    gboolean busy;    /* connecting, or a call is under way */
    gboolean warned;
    gboolean told;    /* the first setting is worth a line in the log */
    GCancellable *cancel;
    guint retry_id;
    RpcClient *client;  /* NULL while there is no connection */
    remote_dom_ret dom; /* of this connection */
};

static void go_on(QemuSpeed *speed);

static void speed_unref(QemuSpeed *speed)
{
    if (--speed->refs > 0)
        return;
    g_object_unref(speed->cancel);
    g_strfreev(speed->paths);
    g_free(speed->domain);
    g_free(speed);
}

static void disconnect(QemuSpeed *speed)
{
    g_clear_pointer(&speed->client, rpc_client_free);
    rpc_xdr_free((xdrproc_t)xdr_remote_dom_ret, &speed->dom);
    memset(&speed->dom, 0, sizeof speed->dom);
}

/* ---- failures ---- */

static gboolean on_retry(gpointer data)
{
    QemuSpeed *speed = data;

    speed->retry_id = 0;
    go_on(speed);
    return G_SOURCE_REMOVE;
}

static void warn(QemuSpeed *speed, const GError *error)
{
    log_message(&speed->log, speed->warned ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING,
                "cannot set QEMU's speed in post-copy: %s", error->message);
    speed->warned = TRUE;
}

/* Without a connection that can be used: the wish waits for another. */
static void connection_failed(QemuSpeed *speed, const GError *error)
{
    warn(speed, error);
    disconnect(speed);
    speed->busy = FALSE;
    if ((speed->waiting || speed->shorten) && !speed->retry_id)
        speed->retry_id = g_timeout_add(RECONNECT_MS, on_retry, speed);
}

/* The wish is dropped if libvirtd does not want to hear it: the next one may be another matter. */
static void call_failed(QemuSpeed *speed, const GError *error)
{
    if (error->domain != RPC_CLIENT_ERROR || error->code != RPC_CLIENT_ERROR_REFUSED) {
        speed->waiting = TRUE;
        connection_failed(speed, error);
        return;
    }
    warn(speed, error);
    speed->busy = FALSE;
    go_on(speed);
}

/* ---- a wish: what does libvirt have, and what shall it have ---- */

static void on_set(RpcClient *client, const RpcFrame *reply, const GError *error, gpointer data)
{
    QemuSpeed *speed = data;

    if (error) {
        speed->limit.known = FALSE;
        speed->limit.again = TRUE; /* it may have been set all the same */
        call_failed(speed, error);
        return;
    }
    speed->busy = FALSE;
    go_on(speed);
}

static void set(QemuSpeed *speed)
{
    guint64 mib = speed_limit_for(&speed->limit, speed->wanted);
    remote_set_max_speed args = { .dom = speed->dom.dom,
                                  .bandwidth = mib,
                                  .flags = VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY };

    speed->waiting = FALSE;
    if (mib == speed->limit.set) {
        speed->busy = FALSE;
        return;
    }
    log_message(&speed->log, speed->told ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO,
                "QEMU's speed in post-copy: %" G_GUINT64_FORMAT " MiB/s%s", mib,
                mib == 0 ? ", which is no limit" : "");
    speed->told = TRUE;
    speed_limit_was_set(&speed->limit, mib);
    rpc_client_call(speed->client, PROC_DOMAIN_MIGRATE_SET_MAX_SPEED,
                    (xdrproc_t)xdr_remote_set_max_speed, &args, on_set, speed);
}

static void on_got(RpcClient *client, const RpcFrame *reply, const GError *error, gpointer data)
{
    QemuSpeed *speed = data;
    g_autoptr(GError) problem = NULL;
    remote_get_max_speed_ret ret;
    const guint8 *payload;
    gsize len;

    if (error) {
        speed->waiting = FALSE;
        call_failed(speed, error);
        return;
    }
    payload = rpc_frame_payload(reply, &len);
    if (!rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_get_max_speed_ret, &ret, sizeof ret,
                        "DOMAIN_MIGRATE_GET_MAX_SPEED", &problem)) {
        connection_failed(speed, problem);
        return;
    }
    speed_limit_seen(&speed->limit, ret.bandwidth);
    set(speed);
}

static void get(QemuSpeed *speed)
{
    remote_get_max_speed args = { .dom = speed->dom.dom,
                                  .flags = VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY };

    rpc_client_call(speed->client, PROC_DOMAIN_MIGRATE_GET_MAX_SPEED,
                    (xdrproc_t)xdr_remote_get_max_speed, &args, on_got, speed);
}

/* ---- the last round ---- */

static void on_shortened(RpcClient *client, const RpcFrame *reply, const GError *error,
                         gpointer data)
{
    QemuSpeed *speed = data;

    if (error && (error->domain != RPC_CLIENT_ERROR ||
                  error->code != RPC_CLIENT_ERROR_REFUSED)) {
        connection_failed(speed, error);
        return;
    }
    if (error)
        log_warning(&speed->log, "cannot shorten QEMU's last round: %s", error->message);
    speed->shorten = speed->busy = FALSE;
    speed->shortened = TRUE;
    go_on(speed);
}

static void shorten(QemuSpeed *speed)
{
    /* The arguments have the same shape. */
    remote_set_max_speed args = { .dom = speed->dom.dom, .bandwidth = DOWNTIME_IN_POSTCOPY };

    rpc_client_call(speed->client, PROC_DOMAIN_MIGRATE_SET_MAX_DOWNTIME,
                    (xdrproc_t)xdr_remote_set_max_speed, &args, on_shortened, speed);
}

static void next_call(QemuSpeed *speed)
{
    if (speed->shorten)
        shorten(speed);
    else
        get(speed);
}

/* ---- connecting ---- */

static void on_found(RpcClient *client, const RpcFrame *reply, const GError *error, gpointer data)
{
    QemuSpeed *speed = data;
    g_autoptr(GError) problem = NULL;
    const guint8 *payload;
    gsize len;

    if (error) {
        connection_failed(speed, error);
        return;
    }
    payload = rpc_frame_payload(reply, &len);
    if (rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_dom_ret, &speed->dom, sizeof speed->dom,
                       "DOMAIN_LOOKUP_BY_NAME", &problem))
        next_call(speed);
    else
        connection_failed(speed, problem);
}

static void on_open(RpcClient *client, const RpcFrame *reply, const GError *error, gpointer data)
{
    QemuSpeed *speed = data;
    remote_text_ret args = { .text = speed->domain };

    if (error)
        connection_failed(speed, error);
    else
        rpc_client_call(client, PROC_DOMAIN_LOOKUP_BY_NAME, (xdrproc_t)xdr_remote_text_ret, &args,
                        on_found, speed);
}

static void on_auth(RpcClient *client, const RpcFrame *reply, const GError *error, gpointer data)
{
    QemuSpeed *speed = data;
    remote_text uri = (char *)UPSTREAM_URI;
    remote_connect_open args = { .name = &uri };

    if (error)
        connection_failed(speed, error);
    else
        rpc_client_call(client, PROC_CONNECT_OPEN, (xdrproc_t)xdr_remote_connect_open, &args,
                        on_open, speed);
}

/* libvirtd lets root in without further proof, but only if it asks for what proof there is. */
static void on_connected(GObject *source, GAsyncResult *result, gpointer data)
{
    QemuSpeed *speed = data;
    g_autoptr(GError) error = NULL;
    int fd = upstream_connect_finish(result, &error);

    if (g_cancellable_is_cancelled(speed->cancel)) {
        if (fd >= 0)
            close(fd);
    } else if (fd < 0) {
        connection_failed(speed, error);
    } else {
        speed->client = rpc_client_new(rpc_stream_new_socket(fd, TRUE));
        rpc_client_call(speed->client, PROC_AUTH_LIST, NULL, NULL, on_auth, speed);
    }
    speed_unref(speed);
}

static void go_on(QemuSpeed *speed)
{
    if (speed->busy || speed->retry_id || !(speed->waiting || speed->shorten))
        return;
    speed->busy = TRUE;
    if (speed->client) {
        next_call(speed);
        return;
    }
    speed->refs++;
    upstream_connect((const char *const *)speed->paths, speed->timeout, speed->cancel,
                     on_connected, speed);
}

/* ---- the interface ---- */

QemuSpeed *qemu_speed_new(const Settings *settings, const char *domain, const SpeedLimit *limit,
                          const LogContext *log)
{
    QemuSpeed *speed = g_new0(QemuSpeed, 1);

    speed->refs = 1;
    speed->paths = upstream_candidates(settings, /* read_only= */ FALSE);
    speed->timeout = settings->connect_timeout;
    speed->domain = g_strdup(domain);
    speed->limit = *limit;
    speed->log = *log;
    speed->cancel = g_cancellable_new();
    return speed;
}

void qemu_speed_free(QemuSpeed *speed)
{
    if (!speed)
        return;
    g_cancellable_cancel(speed->cancel);
    g_clear_handle_id(&speed->retry_id, g_source_remove);
    disconnect(speed);
    speed_unref(speed);
}

void qemu_speed_want(QemuSpeed *speed, guint64 bytes_per_second)
{
    speed->wanted = bytes_per_second;
    speed->waiting = TRUE;
    go_on(speed);
}

void qemu_speed_shorten_last_round(QemuSpeed *speed)
{
    speed->shorten = !speed->shortened;
    go_on(speed);
}
