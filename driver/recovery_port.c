/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/recovery_port.h"

#include <glib/gi18n.h>
#include <gnutls/gnutls.h>
#include <string.h>
#include <unistd.h>

#include "driver/job_record.h"
#include "driver/recovery_client.h"
#include "driver/recovery_tls.h"
#include "driver/tls_steps.h"
#include "driver/upstream.h"
#include "util/log.h"

/* Until the proof has come. Anybody can begin one. */
#define CALLERS_MAX 8
#define PROOF_SECONDS 10

typedef struct {
    Driver *driver; /* valid while its cancellable is not cancelled */
    GCancellable *stopped;
    ProxyPeer peer;
    char *domain;
    guint8 session[MIGRATION_SESSION_LEN];
    guint8 token[MIGRATION_TOKEN_LEN];
    gboolean handshaken;
    gboolean proven;
    gboolean welcomed;
    guint8 proof[RECOVERY_PROOF_LEN];
    gsize received;
    RpcStream *client; /* NULL until it is in */
} Caller;

static void caller_free(Caller *caller)
{
    if (!g_cancellable_is_cancelled(caller->stopped))
        caller->driver->recovery_callers--;
    g_object_unref(caller->stopped);
    if (caller->client)
        rpc_stream_close(caller->client, FALSE);
    g_clear_pointer(&caller->client, rpc_stream_unref);
    proxy_peer_clear(&caller->peer);
    explicit_bzero(caller->token, sizeof caller->token);
    g_free(caller->domain);
    g_free(caller);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Caller, caller_free)

/* ---- the proof ---- */

static gboolean receive_proof(Caller *caller, TlsChannel *channel, GError **error)
{
    while (caller->received < sizeof caller->proof) {
        gssize n = tls_channel_read(channel, caller->proof + caller->received,
                                    sizeof caller->proof - caller->received, error);

        if (n == 0)
            g_set_error(error, TLS_ERROR, TLS_ERROR_HANDSHAKE, _("it left before its proof"));
        if (n <= 0)
            return FALSE;
        caller->received += (gsize)n;
    }
    return TRUE;
}

static gboolean check_proof(Caller *caller, TlsChannel *channel, GError **error)
{
    guint8 expected[RECOVERY_PROOF_LEN];

    if (!recovery_proof(channel, caller->token, expected, error))
        return FALSE;
    caller->proven = gnutls_memcmp(expected, caller->proof, sizeof expected) == 0;
    explicit_bzero(expected, sizeof expected);
    if (caller->proven)
        return TRUE;
    tls_channel_bye(channel); /* which is all the answer it gets */
    g_set_error(error, TLS_ERROR, TLS_ERROR_HANDSHAKE,
                _("its proof of the session's token is wrong"));
    return FALSE;
}

static gboolean let_in(TlsChannel *channel, gpointer data, GError **error)
{
    static const guint8 welcome = RECOVERY_WELCOME;
    Caller *caller = data;

    if (!caller->handshaken && !tls_channel_handshake(channel, error))
        return FALSE;
    caller->handshaken = TRUE;
    if (!caller->proven &&
        (!receive_proof(caller, channel, error) || !check_proof(caller, channel, error)))
        return FALSE;
    if (!caller->welcomed && tls_channel_write(channel, &welcome, 1, error) < 0)
        return FALSE;
    caller->welcomed = TRUE;
    return tls_channel_flush(channel, error);
}

/* ---- from the proof to a proxy ---- */

/* It may have been forgotten since the caller came. */
static const JobRecord *find_record(const Caller *caller)
{
    const JobRecord *record = migration_set_find_record(
        caller->driver->set, MIGRATION_SIDE_DESTINATION, caller->session);

    if (!record)
        log_warning(NULL, "migration port: %s wants to recover domain %s: that session is gone",
                    caller->peer.address, caller->domain);
    return record;
}

static void start_client(Caller *caller, int upstream)
{
    const JobRecord *record = find_record(caller);

    if (record)
        recovery_client_start(caller->driver, g_steal_pointer(&caller->client),
                              rpc_stream_new_socket(upstream, TRUE), &caller->peer, record);
    else
        close(upstream);
}

static void on_upstream(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(Caller) caller = data;
    g_autoptr(GError) error = NULL;
    int fd = upstream_connect_finish(result, &error);

    if (g_cancellable_is_cancelled(caller->stopped)) {
        if (fd >= 0)
            close(fd);
    } else if (fd < 0) {
        log_error(NULL, "migration port: %s wants to recover domain %s: %s", caller->peer.address,
                  caller->domain, error->message);
    } else {
        start_client(caller, fd);
    }
}

static void on_proven(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(Caller) caller = data;
    g_auto(GStrv) paths = NULL;
    g_autoptr(GError) error = NULL;
    TlsChannel *channel = tls_steps_finish(result, &error);
    const Settings *settings;

    if (!channel) {
        log_warning(NULL, "migration port: %s wants to recover domain %s: %s",
                    caller->peer.address, caller->domain, error->message);
        return;
    }
    caller->client = rpc_stream_new_tls(channel);
    if (g_cancellable_is_cancelled(caller->stopped) || !find_record(caller))
        return;
    settings = caller->driver->settings;
    /* Of a shared key there is only a name that is no distinguished one. */
    if (settings->migration_auth == MIGRATION_AUTH_X509)
        caller->peer.dn = g_strdup(tls_channel_peer_name(channel));
    paths = upstream_candidates(settings, /* read_only= */ FALSE);
    upstream_connect((const char *const *)paths, settings->connect_timeout, caller->stopped,
                     on_upstream, caller);
    g_steal_pointer(&caller);
}

void recovery_port_take(Driver *driver, int fd, const char *address,
                        const guint8 session[MIGRATION_SESSION_LEN])
{
    const JobRecord *record =
        migration_set_find_record(driver->set, MIGRATION_SIDE_DESTINATION, session);
    g_autoptr(Caller) caller = NULL;
    g_autoptr(GError) error = NULL;
    TlsChannel *channel;

    if (!record || driver->recovery_callers >= CALLERS_MAX) {
        log_warning(NULL, "migration port: %s refused: %s", address,
                    record ? "too many recoveries are being set up"
                           : "the session it would recover is gone");
        close(fd);
        return;
    }
    caller = g_new0(Caller, 1);
    caller->driver = driver;
    caller->stopped = g_object_ref(driver->stopped);
    caller->peer.kind = PROXY_CLIENT_RECOVERY;
    caller->peer.address = g_strdup(address);
    caller->domain = g_strdup(record->domain);
    memcpy(caller->session, session, sizeof caller->session);
    memcpy(caller->token, record->uri.token, sizeof caller->token);
    driver->recovery_callers++;
    channel = recovery_channel_new(driver->settings, TLS_ENDPOINT_SERVER, fd, NULL,
                                   RECOVERY_ALPN, &error);
    if (!channel) {
        log_error(NULL, "migration port: %s: %s", address, error->message);
        return;
    }
    tls_steps(channel, let_in, caller, NULL, PROOF_SECONDS, driver->stopped, on_proven, caller);
    g_steal_pointer(&caller);
}
