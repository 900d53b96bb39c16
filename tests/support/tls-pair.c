/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/tls-pair.h"

#include <sys/socket.h>

/* A handshake takes some four turns. */
#define TURNS_MAX 100

static void add_file(TlsFiles *files, TlsFileKind kind, const char *dir, const char *name,
                     const char *text)
{
    g_autofree char *path = pki_dir_write(dir, name, text, -1);
    g_autoptr(GError) error = NULL;

    if (!tls_files_open(files, kind, path, FALSE, &error))
        g_error("%s", error->message);
}

TlsCredentials *tls_pair_x509(TlsEndpoint endpoint, const char *cas, const PkiIdentity *own,
                              const char *crl, GError **error)
{
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    g_autofree char *cert = pki_cert_pem(own);
    g_autofree char *key = pki_key_pem(own);
    char *dir = pki_dir_new();
    TlsCredentials *creds;

    add_file(&files, TLS_FILE_CA_CERT, dir, "cacert.pem", cas);
    add_file(&files, TLS_FILE_CERT, dir, "cert.pem", cert);
    add_file(&files, TLS_FILE_KEY, dir, "key.pem", key);
    if (crl)
        add_file(&files, TLS_FILE_CA_CRL, dir, "crl.pem", crl);
    creds = tls_credentials_new_x509(endpoint, &files, error);
    pki_dir_remove(dir);
    return creds;
}

TlsCredentials *tls_pair_psk(TlsEndpoint endpoint, const char *lines)
{
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    g_autoptr(GError) error = NULL;
    char *dir = pki_dir_new();
    TlsCredentials *creds;

    add_file(&files, TLS_FILE_PSK, dir, "keys.psk", lines);
    creds = tls_credentials_new_psk(endpoint, &files, NULL, &error);
    if (!creds)
        g_error("%s", error->message);
    pki_dir_remove(dir);
    return creds;
}

void tls_pair_sockets(int ret_fds[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret_fds) < 0)
        g_error("socketpair: %m");
}

static TlsChannel *channel_new(int fd, TlsCredentials *creds, TlsChannelConfig config,
                               TlsEndpoint endpoint)
{
    g_autoptr(GError) error = NULL;
    TlsChannel *channel;

    config.endpoint = endpoint;
    channel = tls_channel_new(fd, creds, &config, &error);
    if (!channel)
        g_error("%s", error->message);
    return channel;
}

void tls_pair_init(TlsPair *pair, TlsCredentials *client_creds, TlsChannelConfig client,
                   TlsCredentials *server_creds, TlsChannelConfig server)
{
    int fds[2];

    tls_pair_sockets(fds);
    *pair = (TlsPair){
        .client = channel_new(fds[0], client_creds, client, TLS_ENDPOINT_CLIENT),
        .server = channel_new(fds[1], server_creds, server, TLS_ENDPOINT_SERVER),
    };
}

void tls_pair_clear(TlsPair *pair)
{
    g_clear_pointer(&pair->client, tls_channel_free);
    g_clear_pointer(&pair->server, tls_channel_free);
    g_clear_error(&pair->client_error);
    g_clear_error(&pair->server_error);
}

/* Notes a failure and closes; waiting is none. */
static void note(TlsChannel **end, GError **verdict, GError *error)
{
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK)) {
        g_error_free(error);
        return;
    }
    g_propagate_error(verdict, error);
    g_clear_pointer(end, tls_channel_free);
}

/* One turn; TRUE when this end is open. */
static gboolean shake(TlsChannel **end, GError **verdict)
{
    GError *error = NULL;

    if (!*end)
        return FALSE;
    if (tls_channel_handshake(*end, &error))
        return TRUE;
    note(end, verdict, error);
    return FALSE;
}

static void hear(TlsChannel **end, GError **verdict)
{
    GError *error = NULL;
    guint8 buf[64];

    if (tls_channel_read(*end, buf, sizeof(buf), &error) >= 0)
        g_error("a peer that failed has sent data");
    note(end, verdict, error);
}

void tls_pair_handshake(TlsPair *pair)
{
    for (int turn = 0; turn < TURNS_MAX; turn++) {
        gboolean client_open = shake(&pair->client, &pair->client_error);
        gboolean server_open = shake(&pair->server, &pair->server_error);

        if (client_open && server_open)
            return;
        if (!pair->client && !pair->server)
            return;
        if (client_open && !pair->server)
            hear(&pair->client, &pair->client_error);
        if (server_open && !pair->client)
            hear(&pair->server, &pair->server_error);
    }
    g_error("the handshake does not end");
}
