/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/daemon.h"

#include <glib/gi18n.h>

#include "driver/arrival.h"
#include "driver/driver.h"
#include "driver/listen_socket.h"
#include "driver/listener.h"
#include "util/autofd.h"
#include "util/log.h"

#define STOP_SECONDS 6u /* a stream has 5 to flush */

/* Remote clients between accept() and the end of their handshake. Anybody can begin one, so these
 * must not use up max_clients, which local clients need as well. */
#define REMOTE_ARRIVALS_MAX 64u

struct Daemon {
    const Settings *settings;
    Driver *driver;
    TlsCredentials *creds; /* NULL without a TLS listener */
    GPtrArray *listeners;
    GHashTable *proxies;
    guint clients;         /* arriving, served or being sent away */
    guint remote_arrivals; /* those of them that are arriving over TCP or TLS */
    gboolean started;
    GCancellable *cancellable;
    guint stop_id;
    GDestroyNotify stopped;
    gpointer stopped_data;
};

/* --- clients --- */

static void update_accepting(Daemon *d)
{
    gboolean room = d->started && d->clients < d->settings->max_clients;
    gboolean remote_room = room && d->remote_arrivals < REMOTE_ARRIVALS_MAX;

    for (guint i = 0; i < d->listeners->len; i++) {
        Listener *l = g_ptr_array_index(d->listeners, i);

        listener_set_accepting(l, listener_kind(l) == PROXY_CLIENT_UNIX ? room : remote_room);
    }
}

static void all_stopped(Daemon *d)
{
    GDestroyNotify stopped = d->stopped;

    g_clear_handle_id(&d->stop_id, g_source_remove);
    d->stopped = NULL;
    if (stopped)
        stopped(d->stopped_data);
}

static void client_gone(Daemon *d)
{
    d->clients--;
    if (d->started && d->clients + 1 == d->settings->max_clients)
        log_info(NULL, _("clients are accepted again"));
    update_accepting(d);
    if (d->clients == 0)
        all_stopped(d);
}

static gboolean proxy_call_hook(Proxy *proxy, RpcFrame *frame, gpointer data)
{
    Daemon *d = data;

    return driver_hooks()->call(proxy, frame, d->driver);
}

static gboolean proxy_message_hook(Proxy *proxy, RpcFrame *frame, gpointer data)
{
    Daemon *d = data;

    return driver_hooks()->message(proxy, frame, d->driver);
}

static void proxy_closed_hook(Proxy *proxy, gpointer data)
{
    Daemon *d = data;

    if (driver_hooks()->closed)
        driver_hooks()->closed(proxy, d->driver);
    g_hash_table_remove(d->proxies, proxy);
    client_gone(d);
}

static const ProxyHooks proxy_hooks = { .call = proxy_call_hook,
                                        .message = proxy_message_hook,
                                        .closed = proxy_closed_hook };

static void on_arrived(RpcStream *client, RpcStream *upstream, const ProxyPeer *peer,
                       gpointer data)
{
    Daemon *d = data;
    g_autofree char *who = NULL;
    LogContext ctx = { .channel = "rpc" };
    Proxy *proxy;

    if (peer->kind != PROXY_CLIENT_UNIX) {
        d->remote_arrivals--;
        update_accepting(d);
    }
    if (!client) {
        client_gone(d);
        return;
    }
    proxy = proxy_new(client, upstream, peer, &proxy_hooks, d);
    g_hash_table_add(d->proxies, proxy);
    who = arrival_describe(peer);
    ctx.client = proxy_name(proxy);
    log_info(&ctx, _("client connected: %1$s"), who);
    if (!d->started) /* it came while the daemon was stopping */
        proxy_close(proxy);
}

static void on_connection(Listener *listener, int fd, gpointer data)
{
    Daemon *d = data;

    d->clients++;
    if (listener_kind(listener) != PROXY_CLIENT_UNIX)
        d->remote_arrivals++;
    if (d->clients == d->settings->max_clients)
        log_warning(NULL, _("%1$u clients are connected (max_clients): others have to wait"),
                    d->clients);
    update_accepting(d);
    arrival_start(fd, listener_kind(listener), listener_read_only(listener), d->settings,
                  d->creds, d->cancellable, on_arrived, d);
}

/* --- TLS --- */

static TlsCredentials *load_credentials(const Settings *s, GError **error)
{
    g_auto(TlsFiles) files = TLS_FILES_INIT;

    if (!tls_files_open(&files, TLS_FILE_CA_CERT, s->ca_file, FALSE, error) ||
        !tls_files_open(&files, TLS_FILE_CA_CRL, s->crl_file, !s->crl_required, error) ||
        !tls_files_open(&files, TLS_FILE_CERT, s->cert_file, FALSE, error) ||
        !tls_files_open(&files, TLS_FILE_KEY, s->key_file, FALSE, error))
        return NULL;
    return tls_credentials_new_x509(TLS_ENDPOINT_SERVER, &files, error);
}

gboolean daemon_reload(Daemon *d, GError **error)
{
    TlsCredentials *creds;

    if (!d->creds)
        return TRUE;
    creds = load_credentials(d->settings, error);
    if (!creds)
        return FALSE;
    tls_credentials_unref(d->creds);
    d->creds = creds;
    return TRUE;
}

/* --- listeners --- */

static void add_listener(Daemon *d, int fd, ProxyClientKind kind, gboolean read_only,
                         const char *path)
{
    Listener *listener = listener_new(fd, kind, read_only, path, on_connection, d);

    g_ptr_array_add(d->listeners, listener);
    log_info(NULL, _("listening on %1$s%2$s"), listener_address(listener),
             kind == PROXY_CLIENT_TLS ? " (TLS)" : "");
}

/* Moves a passed descriptor out of the array. */
static int take_passed(GArray *passed, guint i)
{
    int fd = g_array_index(passed, int, i);

    g_array_remove_index(passed, i);
    return fd;
}

static gboolean listen_unix(Daemon *d, gboolean read_only, GArray *passed, GError **error)
{
    const Settings *s = d->settings;
    guint mode = read_only ? s->unix_sock_ro_perms : s->unix_sock_rw_perms;
    g_autofree char *path =
        g_strconcat(s->unix_sock_dir, "/" DRIVER_SOCKET, read_only ? "-ro" : "", NULL);
    gid_t group;
    int fd;

    for (guint i = 0; i < passed->len; i++) {
        if (listen_socket_is_unix(g_array_index(passed, int, i), path)) {
            add_listener(d, take_passed(passed, i), PROXY_CLIENT_UNIX, read_only, NULL);
            return TRUE;
        }
    }
    if (!read_only && (mode & 0007))
        log_warning(NULL, _("unix_sock_rw_perms is %1$04o: libvirt sees every client of %2$s as "
                            "this daemon while it connects, so no password or polkit question "
                            "keeps local users out"),
                    mode, path);
    if (!listen_socket_group("unix_sock_group", s->unix_sock_group, &group, error))
        return FALSE;
    fd = listen_socket_unix(path, mode, group, error);
    if (fd < 0)
        return FALSE;
    add_listener(d, fd, PROXY_CLIENT_UNIX, read_only, path);
    return TRUE;
}

static gboolean listen_port(Daemon *d, ProxyClientKind kind, gboolean wanted, guint16 port,
                            GArray *passed, GError **error)
{
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));

    for (guint i = passed->len; i > 0; i--) {
        if (listen_socket_is_port(g_array_index(passed, int, i - 1), port)) {
            int fd = take_passed(passed, i - 1);

            g_array_append_val(fds, fd);
        }
    }
    if (fds->len == 0 && wanted &&
        !listen_socket_tcp(fds, d->settings->listen_addr, port, error))
        return FALSE;
    for (guint i = 0; i < fds->len; i++)
        add_listener(d, g_array_index(fds, int, i), kind, FALSE, NULL);
    if (fds->len > 0 && kind == PROXY_CLIENT_TLS) {
        d->creds = load_credentials(d->settings, error);
        return d->creds != NULL;
    }
    if (fds->len > 0)
        log_warning(NULL, _("plain TCP is on: whoever reaches port %1$u has full control of this "
                            "host, and all of it passes in clear"),
                    port);
    return TRUE;
}

static gboolean check_passed(GArray *passed, GError **error)
{
    for (guint i = 0; i < passed->len; i++) {
        if (!listen_socket_check(g_array_index(passed, int, i), error))
            return FALSE;
    }
    return TRUE;
}

static gboolean listen_all(Daemon *d, GArray *passed, GError **error)
{
    const Settings *s = d->settings;
    g_autofree char *unknown = NULL;

    if (!check_passed(passed, error) || !listen_unix(d, FALSE, passed, error) ||
        !listen_unix(d, TRUE, passed, error) ||
        !listen_port(d, PROXY_CLIENT_TLS, s->listen_tls, s->tls_port, passed, error) ||
        !listen_port(d, PROXY_CLIENT_TCP, s->listen_tcp, s->tcp_port, passed, error))
        return FALSE;
    if (passed->len == 0)
        return TRUE;
    unknown = listen_socket_address(g_array_index(passed, int, 0), FALSE);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                _("the service manager passed a socket for %1$s, which is neither in unix_sock_dir "
                  "nor at tls_port or tcp_port"),
                unknown);
    return FALSE;
}

/* --- the whole --- */

Daemon *daemon_new(const Settings *settings, GArray *passed, GError **error)
{
    g_autoptr(Daemon) d = g_new0(Daemon, 1);
    gboolean listening;

    d->settings = settings;
    d->listeners = g_ptr_array_new_with_free_func((GDestroyNotify)listener_free);
    d->proxies = g_hash_table_new(NULL, NULL);
    d->cancellable = g_cancellable_new();
    listening = listen_all(d, passed, error);
    for (guint i = 0; i < passed->len; i++)
        autofd_clear(&g_array_index(passed, int, i));
    g_array_set_size(passed, 0);
    if (!listening)
        return NULL;
    /* Only now: the driver takes over what is in its run directory, which may be a running
     * daemon's. */
    d->driver = driver_new(settings, error);
    return d->driver ? g_steal_pointer(&d) : NULL;
}

void daemon_free(Daemon *d)
{
    if (!d)
        return;
    g_clear_handle_id(&d->stop_id, g_source_remove);
    g_ptr_array_unref(d->listeners);
    g_hash_table_unref(d->proxies);
    g_clear_pointer(&d->driver, driver_free);
    g_clear_pointer(&d->creds, tls_credentials_unref);
    g_object_unref(d->cancellable);
    g_free(d);
}

void daemon_start(Daemon *d)
{
    d->started = TRUE;
    update_accepting(d);
}

static gboolean stop_now(gpointer data)
{
    Daemon *d = data;

    log_warning(NULL, _("%1$u clients are still there: not waiting any longer"), d->clients);
    d->stop_id = 0;
    all_stopped(d);
    return G_SOURCE_REMOVE;
}

static gboolean nobody_there(gpointer data)
{
    Daemon *d = data;

    d->stop_id = 0;
    all_stopped(d);
    return G_SOURCE_REMOVE;
}

void daemon_stop(Daemon *d, GDestroyNotify stopped, gpointer data)
{
    g_autoptr(GList) proxies = g_hash_table_get_keys(d->proxies);

    d->started = FALSE;
    d->stopped = stopped;
    d->stopped_data = data;
    update_accepting(d);
    g_cancellable_cancel(d->cancellable);
    for (GList *item = proxies; item; item = item->next)
        proxy_close(item->data);
    d->stop_id = d->clients > 0 ? g_timeout_add_seconds(STOP_SECONDS, stop_now, d)
                                : g_idle_add(nobody_there, d);
}
