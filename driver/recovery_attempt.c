/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/recovery_attempt.h"

#include <glib/gi18n.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>
#include <unistd.h>

#include "driver/driver.h"
#include "driver/migrate_call.h"
#include "driver/recovery_uri.h"
#include "driver/rpc_client.h"
#include "driver/upstream.h"

/* For all that comes before libvirtd's own work. */
#define BEGIN_SECONDS 30

enum {
    PROC_CONNECT_OPEN = 1,
    PROC_DOMAIN_LOOKUP_BY_NAME = 23,
    PROC_AUTH_LIST = 66,
    PROC_DOMAIN_GET_STATE = 212,
};

struct RecoveryAttempt {
    gint refs; /* the owner's, and that of a connect under way */
    char *domain;
    GBytes *perform;
    char *dconnuri;
    GCancellable *cancel;
    guint timer;
    RpcClient *client;
    gboolean under_way;
    RecoveryAttemptFunc func;
    gpointer data;
};

static void attempt_unref(RecoveryAttempt *attempt)
{
    if (--attempt->refs > 0)
        return;
    g_object_unref(attempt->cancel);
    g_bytes_unref(attempt->perform);
    g_free(attempt->domain);
    g_free(attempt->dconnuri);
    g_free(attempt);
}

/* Last thing that is done with it: func may free it. */
static void end(RecoveryAttempt *attempt, RecoveryOutcome outcome, const char *reason)
{
    RecoveryAttemptFunc func = attempt->func;

    g_clear_handle_id(&attempt->timer, g_source_remove);
    attempt->func = NULL;
    if (func)
        func(outcome, reason, attempt->data);
}

static gboolean says_no_domain(const RecoveryAttempt *attempt, const GError *error)
{
    return g_error_matches(error, RPC_CLIENT_ERROR, RPC_CLIENT_ERROR_REFUSED) &&
           rpc_client_refusal_code(attempt->client) == VIR_ERR_NO_DOMAIN;
}

static void end_refused(RecoveryAttempt *attempt, const GError *error)
{
    end(attempt, says_no_domain(attempt, error) ? RECOVERY_NO_DOMAIN : RECOVERY_FAILED,
        error->message);
}

static void look_up(RecoveryAttempt *attempt, RpcClientFunc func)
{
    remote_text_ret args = { .text = attempt->domain };

    rpc_client_call(attempt->client, PROC_DOMAIN_LOOKUP_BY_NAME, (xdrproc_t)xdr_remote_text_ret,
                    &args, func, attempt);
}

static gboolean decode_perform(const RecoveryAttempt *attempt, remote_perform3_params *ret,
                               GError **error)
{
    gsize len;
    const void *xdr = g_bytes_get_data(attempt->perform, &len);

    return rpc_xdr_decode(xdr, len, (xdrproc_t)xdr_remote_perform3_params, ret, sizeof *ret,
                          "DOMAIN_MIGRATE_PERFORM3_PARAMS", error);
}

/* What a look-up has found. FALSE: it was not the domain that migrates, and the attempt has
 * ended. */
static gboolean take_domain(RecoveryAttempt *attempt, const RpcFrame *reply, remote_dom_ret *ret)
{
    RPC_XDR_AUTO(remote_perform3_params, args) = { 0 };
    g_autoptr(GError) error = NULL;
    gsize len;
    const guint8 *payload = rpc_frame_payload(reply, &len);

    if (!rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_dom_ret, ret, sizeof *ret,
                        "DOMAIN_LOOKUP_BY_NAME", &error) ||
        !decode_perform(attempt, &args, &error)) {
        end(attempt, RECOVERY_FAILED, error->message);
        return FALSE;
    }
    if (memcmp(ret->dom.uuid, args.dom.uuid, sizeof args.dom.uuid) != 0) {
        end(attempt, RECOVERY_NO_DOMAIN, _("the domain of that name is another one now"));
        return FALSE;
    }
    return TRUE;
}

/* ---- Perform ---- */

static void on_still_here(RpcClient *client, const RpcFrame *reply, const GError *error,
                          gpointer data)
{
    RecoveryAttempt *attempt = data;
    RPC_XDR_AUTO(remote_dom_ret, ret) = { 0 };

    if (error)
        end_refused(attempt, error);
    else if (take_domain(attempt, reply, &ret))
        end(attempt, RECOVERY_NO_DOMAIN_THERE, _("libvirt has no such domain there"));
}

/* Either host may have said that it has no such domain. */
static void on_performed(RpcClient *client, const RpcFrame *reply, const GError *error,
                         gpointer data)
{
    RecoveryAttempt *attempt = data;

    if (!error)
        end(attempt, RECOVERY_ARRIVED, NULL);
    else if (says_no_domain(attempt, error))
        look_up(attempt, on_still_here);
    else
        end(attempt, RECOVERY_FAILED, error->message);
}

static void perform(RecoveryAttempt *attempt)
{
    RPC_XDR_AUTO(remote_perform3_params, args) = { 0 };
    g_autoptr(GError) error = NULL;
    remote_text dconnuri = attempt->dconnuri;

    if (!decode_perform(attempt, &args, &error)) {
        end(attempt, RECOVERY_FAILED, error->message);
        return;
    }
    attempt->under_way = TRUE;
    g_clear_handle_id(&attempt->timer, g_source_remove);
    args.dconnuri = &dconnuri; /* it was made without one */
    rpc_client_call(attempt->client, MIGRATE_CALL_RECOVERY,
                    (xdrproc_t)xdr_remote_perform3_params, &args, on_performed, attempt);
    args.dconnuri = NULL;
}

/* ---- is there anything to recover ---- */

static void on_state(RpcClient *client, const RpcFrame *reply, const GError *error, gpointer data)
{
    RecoveryAttempt *attempt = data;
    remote_get_state_ret ret = { 0 };
    g_autoptr(GError) problem = NULL;
    const guint8 *payload;
    gsize len;

    if (error) {
        end_refused(attempt, error);
        return;
    }
    payload = rpc_frame_payload(reply, &len);
    if (!rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_get_state_ret, &ret, sizeof ret,
                        "DOMAIN_GET_STATE", &problem))
        end(attempt, RECOVERY_FAILED, problem->message);
    /* "post-copy" becomes "post-copy failed" a moment later. */
    else if (ret.state == VIR_DOMAIN_PAUSED && (ret.reason == VIR_DOMAIN_PAUSED_POSTCOPY ||
                                                ret.reason == VIR_DOMAIN_PAUSED_POSTCOPY_FAILED))
        perform(attempt);
    else if (ret.state == VIR_DOMAIN_SHUTOFF && ret.reason == VIR_DOMAIN_SHUTOFF_MIGRATED)
        end(attempt, RECOVERY_ARRIVED, NULL); /* libvirt has completed it without being asked */
    else
        end(attempt, RECOVERY_NOT_FAILED, _("the domain is not paused in a post-copy migration"));
}

static void on_found(RpcClient *client, const RpcFrame *reply, const GError *error, gpointer data)
{
    RecoveryAttempt *attempt = data;
    RPC_XDR_AUTO(remote_dom_ret, ret) = { 0 };
    remote_get_max_speed args = { 0 };

    if (error) {
        end_refused(attempt, error);
        return;
    }
    if (!take_domain(attempt, reply, &ret))
        return;
    args.dom = ret.dom;
    rpc_client_call(client, PROC_DOMAIN_GET_STATE, (xdrproc_t)xdr_remote_get_max_speed, &args,
                    on_state, attempt);
}

/* ---- connecting ---- */

static void on_open(RpcClient *client, const RpcFrame *reply, const GError *error, gpointer data)
{
    RecoveryAttempt *attempt = data;

    if (error)
        end(attempt, RECOVERY_FAILED, error->message);
    else
        look_up(attempt, on_found);
}

static void on_auth(RpcClient *client, const RpcFrame *reply, const GError *error, gpointer data)
{
    RecoveryAttempt *attempt = data;
    remote_text uri = (char *)DRIVER_URI;
    remote_connect_open args = { .name = &uri };

    if (error)
        end(attempt, RECOVERY_FAILED, error->message);
    else
        rpc_client_call(client, PROC_CONNECT_OPEN, (xdrproc_t)xdr_remote_connect_open, &args,
                        on_open, attempt);
}

static void on_connected(GObject *source, GAsyncResult *result, gpointer data)
{
    RecoveryAttempt *attempt = data;
    g_autoptr(GError) error = NULL;
    int fd = upstream_connect_finish(result, &error);

    if (!attempt->func || g_cancellable_is_cancelled(attempt->cancel)) {
        if (fd >= 0)
            close(fd);
    } else if (fd < 0) {
        end(attempt, RECOVERY_FAILED, error->message);
    } else {
        attempt->client = rpc_client_new(rpc_stream_new_socket(fd, TRUE));
        rpc_client_call(attempt->client, PROC_AUTH_LIST, NULL, NULL, on_auth, attempt);
    }
    attempt_unref(attempt);
}

static gboolean on_begin_timeout(gpointer data)
{
    RecoveryAttempt *attempt = data;

    attempt->timer = 0;
    g_clear_pointer(&attempt->client, rpc_client_free);
    end(attempt, RECOVERY_FAILED, _("libvirt does not answer"));
    return G_SOURCE_REMOVE;
}

RecoveryAttempt *recovery_attempt_new(const Settings *settings, const JobRecord *record,
                                      RecoveryAttemptFunc func, gpointer data)
{
    g_autofree char *socket = g_build_filename(settings->unix_sock_dir, DRIVER_SOCKET, NULL);
    const char *paths[] = { socket, NULL };
    RecoveryAttempt *attempt = g_new0(RecoveryAttempt, 1);

    attempt->refs = 2;
    attempt->domain = g_strdup(record->domain);
    attempt->perform = g_bytes_ref(record->perform_args);
    attempt->dconnuri = recovery_uri_format(record->uri.session);
    attempt->cancel = g_cancellable_new();
    attempt->func = func;
    attempt->data = data;
    attempt->timer = g_timeout_add_seconds(BEGIN_SECONDS, on_begin_timeout, attempt);
    upstream_connect(paths, settings->connect_timeout, attempt->cancel, on_connected, attempt);
    return attempt;
}

gboolean recovery_attempt_is_under_way(const RecoveryAttempt *attempt)
{
    return attempt->under_way;
}

void recovery_attempt_free(RecoveryAttempt *attempt)
{
    if (!attempt)
        return;
    g_cancellable_cancel(attempt->cancel);
    attempt->func = NULL;
    g_clear_handle_id(&attempt->timer, g_source_remove);
    g_clear_pointer(&attempt->client, rpc_client_free);
    attempt_unref(attempt);
}
