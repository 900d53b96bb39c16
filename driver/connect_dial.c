/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/connect_dial.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gunixsocketaddress.h>
#include <glib/gi18n.h>
#include <sys/socket.h>

#include "driver/connection_fd.h"
#include "driver/driver.h"
#include "driver/tls_steps.h"
#include "util/autofd.h"

typedef struct {
    const Settings *settings;
    TlsCredentials *creds; /* for TLS, else NULL */
    char *host;
    guint16 port;
} Dial;

static void dial_free(gpointer data)
{
    Dial *dial = data;

    g_clear_pointer(&dial->creds, tls_credentials_unref);
    g_free(dial->host);
    g_free(dial);
}

static void dial_fail(GTask *task, GError *error)
{
    Dial *dial = g_task_get_task_data(task);

    g_prefix_error(&error, _("cannot connect to virtpostcopyd on %s: "),
                   dial->host ? dial->host : _("this host"));
    g_task_return_error(task, error);
}

/* ---- TLS ---- */

/* libvirt's server sends one byte inside TLS once it has accepted the client. */
static gboolean read_confirmation(TlsChannel *channel, GError **error)
{
    guint8 byte = 0;
    gssize n = tls_channel_read(channel, &byte, 1, error);

    if (n == 1 && byte == 1)
        return TRUE;
    if (n >= 0)
        g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE,
                    _("the server refused our certificate or address"));
    return FALSE;
}

static gboolean shake_hands(TlsChannel *channel, gpointer data, GError **error)
{
    return tls_channel_handshake(channel, error) && read_confirmation(channel, error);
}

static void on_tls(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    GError *error = NULL;
    TlsChannel *channel = tls_steps_finish(result, &error);

    if (channel)
        g_task_return_pointer(task, rpc_stream_new_tls(channel),
                              (GDestroyNotify)rpc_stream_unref);
    else
        dial_fail(task, error);
}

static void tls_begin(GTask *task, int fd)
{
    Dial *dial = g_task_get_task_data(task);
    TlsChannelConfig config = { .endpoint = TLS_ENDPOINT_CLIENT, .hostname = dial->host };
    GError *error = NULL;
    TlsChannel *channel = tls_channel_new(fd, dial->creds, &config, &error);

    if (channel)
        tls_steps(channel, shake_hands, NULL, NULL, dial->settings->connect_timeout, NULL, on_tls,
                  g_object_ref(task));
    else
        dial_fail(task, error);
}

static TlsCredentials *client_credentials(const Settings *settings, const char *pkipath,
                                          GError **error)
{
    static const struct {
        TlsFileKind kind;
        const char *name;
        gboolean optional;
    } rows[] = {
        { TLS_FILE_CA_CERT, "cacert.pem", FALSE },
        { TLS_FILE_CA_CRL, "cacrl.pem", TRUE },
        { TLS_FILE_CERT, "clientcert.pem", FALSE },
        { TLS_FILE_KEY, "clientkey.pem", FALSE },
    };
    const char *configured[TLS_FILE_MAX] = {
        [TLS_FILE_CA_CERT] = settings->ca_file,
        [TLS_FILE_CA_CRL] = settings->crl_file,
        [TLS_FILE_CERT] = settings->client_cert_file,
        [TLS_FILE_KEY] = settings->client_key_file,
    };
    gboolean crl_required = settings->crl_required && !pkipath;
    g_auto(TlsFiles) files = TLS_FILES_INIT;

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = pkipath ? g_build_filename(pkipath, rows[i].name, NULL)
                                        : g_strdup(configured[rows[i].kind]);

        if (!tls_files_open(&files, rows[i].kind, path, rows[i].optional && !crl_required, error))
            return NULL;
    }
    return tls_credentials_new_x509(TLS_ENDPOINT_CLIENT, &files, error);
}

/* ---- TCP, unix ---- */

static void on_socket(GTask *task, GSocketConnection *connection, GError *error)
{
    Dial *dial = g_task_get_task_data(task);
    autofd fd = -1;

    if (!connection) {
        dial_fail(task, error);
        return;
    }
    fd = connection_dup_fd(connection);
    if (fd < 0)
        dial_fail(task, g_error_new(G_IO_ERROR, G_IO_ERROR_FAILED, "%s", g_strerror(errno)));
    else if (dial->creds)
        tls_begin(task, autofd_steal(&fd));
    else
        g_task_return_pointer(task, rpc_stream_new_socket(autofd_steal(&fd), dial->host == NULL),
                              (GDestroyNotify)rpc_stream_unref);
}

static void on_host_connected(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    GError *error = NULL;
    g_autoptr(GSocketConnection) connection =
        g_socket_client_connect_to_host_finish(G_SOCKET_CLIENT(source), result, &error);

    on_socket(task, connection, error);
}

static void on_unix_connected(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    GError *error = NULL;
    g_autoptr(GSocketConnection) connection =
        g_socket_client_connect_finish(G_SOCKET_CLIENT(source), result, &error);

    on_socket(task, connection, error);
}

static void dial_unix(GTask *task, GSocketClient *client, const ConnectUri *uri)
{
    Dial *dial = g_task_get_task_data(task);
    g_autofree char *path = uri->socket ? g_strdup(uri->socket)
                                        : g_build_filename(dial->settings->unix_sock_dir,
                                                           DRIVER_SOCKET, NULL);
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);

    g_socket_client_connect_async(client, G_SOCKET_CONNECTABLE(address), NULL, on_unix_connected,
                                  g_object_ref(task));
}

/* ---- ssh ---- */

/* What runs on the far host: libvirt's own helper finds our socket by the name of the URI; where
 * it is not installed netcat is pointed at the socket. */
static char *remote_command(const Settings *settings, const ConnectUri *uri)
{
    g_autofree char *socket = uri->socket
                                  ? g_strdup(uri->socket)
                                  : g_build_filename(settings->unix_sock_dir, DRIVER_SOCKET, NULL);
    g_autofree char *quoted = g_shell_quote(socket);
    g_autofree char *netcat = g_shell_quote(uri->netcat ? uri->netcat : "nc");
    g_autofree char *script = NULL;
    g_autofree char *outer = NULL;

    if (uri->socket || uri->netcat || g_strcmp0(uri->proxy, "netcat") == 0)
        script = g_strdup_printf("exec %s -U %s", netcat, quoted);
    else if (g_strcmp0(uri->proxy, "native") == 0)
        script = g_strdup("exec virt-ssh-helper postcopy:///system");
    else
        script = g_strdup_printf("if command -v virt-ssh-helper >/dev/null 2>&1; then "
                                 "exec virt-ssh-helper postcopy:///system; else exec %s -U %s; fi",
                                 netcat, quoted);
    outer = g_shell_quote(script);
    return g_strdup_printf("sh -c %s", outer);
}

static char **ssh_argv(const Settings *settings, const ConnectUri *uri)
{
    /* BatchMode: a daemon has nobody to ask for a password. */
    static const char *const fixed[] = { "-T", "-e", "none", "-o", "BatchMode=yes" };
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);

    g_ptr_array_add(argv, g_strdup(uri->command ? uri->command : "ssh"));
    for (gsize i = 0; i < G_N_ELEMENTS(fixed); i++)
        g_ptr_array_add(argv, g_strdup(fixed[i]));
    g_ptr_array_add(argv, g_strdup("-o"));
    g_ptr_array_add(argv, g_strdup_printf("ConnectTimeout=%u", settings->connect_timeout));
    if (uri->port) {
        g_ptr_array_add(argv, g_strdup("-p"));
        g_ptr_array_add(argv, g_strdup_printf("%u", uri->port));
    }
    if (uri->user) {
        g_ptr_array_add(argv, g_strdup("-l"));
        g_ptr_array_add(argv, g_strdup(uri->user));
    }
    if (uri->keyfile) {
        g_ptr_array_add(argv, g_strdup("-i"));
        g_ptr_array_add(argv, g_strdup(uri->keyfile));
    }
    if (uri->no_verify) {
        g_ptr_array_add(argv, g_strdup("-o"));
        g_ptr_array_add(argv, g_strdup("StrictHostKeyChecking=no"));
    }
    g_ptr_array_add(argv, g_strdup("--"));
    g_ptr_array_add(argv, g_strdup(uri->host));
    g_ptr_array_add(argv, remote_command(settings, uri));
    g_ptr_array_add(argv, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&argv), FALSE);
}

/* ssh's own words go to our log (its stderr is ours); what the far side says on the connection
 * decides whether it works, so there is nothing to wait for here. */
static void dial_ssh(GTask *task, const ConnectUri *uri)
{
    Dial *dial = g_task_get_task_data(task);
    g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_NONE);
    g_auto(GStrv) argv = ssh_argv(dial->settings, uri);
    g_autoptr(GSubprocess) process = NULL;
    GError *error = NULL;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        dial_fail(task, g_error_new(G_IO_ERROR, (gint)g_io_error_from_errno(errno),
                                    _("no socket pair for ssh: %s"), g_strerror(errno)));
        return;
    }
    g_subprocess_launcher_take_stdin_fd(launcher, fcntl(pair[1], F_DUPFD_CLOEXEC, 0));
    g_subprocess_launcher_take_stdout_fd(launcher, pair[1]);
    process = g_subprocess_launcher_spawnv(launcher, (const char *const *)argv, &error);
    if (!process) {
        close(pair[0]);
        dial_fail(task, error);
        return;
    }
    g_task_return_pointer(task, rpc_stream_new_socket(pair[0], FALSE),
                          (GDestroyNotify)rpc_stream_unref);
}

/* ---- all of them ---- */

void connect_dial(const Settings *settings, const ConnectUri *uri, GAsyncReadyCallback callback,
                  gpointer data)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, callback, data);
    g_autoptr(GSocketClient) client = g_socket_client_new();
    Dial *dial = g_new0(Dial, 1);
    GError *error = NULL;

    dial->settings = settings;
    dial->host = g_strdup(uri->host);
    g_task_set_task_data(task, dial, dial_free);
    g_socket_client_set_enable_proxy(client, FALSE);
    g_socket_client_set_timeout(client, settings->connect_timeout);
    switch (uri->transport) {
    case CONNECT_TRANSPORT_UNIX:
        dial_unix(task, client, uri);
        return;
    case CONNECT_TRANSPORT_SSH:
        dial_ssh(task, uri);
        return;
    case CONNECT_TRANSPORT_TLS:
        dial->port = uri->port ? uri->port : settings->tls_port;
        dial->creds = client_credentials(settings, uri->pkipath, &error);
        if (!dial->creds) {
            dial_fail(task, error);
            return;
        }
        break;
    case CONNECT_TRANSPORT_TCP:
        dial->port = uri->port ? uri->port : settings->tcp_port;
        break;
    }
    g_socket_client_connect_to_host_async(client, uri->host, dial->port, NULL, on_host_connected,
                                          g_object_ref(task));
}

RpcStream *connect_dial_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}
