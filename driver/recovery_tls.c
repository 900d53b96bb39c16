/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/recovery_tls.h"

#include <glib/gi18n.h>
#include <gnutls/crypto.h>
#include <string.h>
#include <unistd.h>

#include "driver/migration_files.h"

static TlsCredentials *credentials_new(const Settings *s, TlsEndpoint endpoint, GError **error)
{
    g_auto(TlsFiles) files = TLS_FILES_INIT;

    if (!migration_files_open(s, endpoint, &files, error))
        return NULL;
    if (s->migration_auth == MIGRATION_AUTH_PSK)
        return tls_credentials_new_psk(endpoint, &files, s->migration_psk_identity, error);
    return tls_credentials_new_x509(endpoint, &files, error);
}

TlsChannel *recovery_channel_new(const Settings *settings, TlsEndpoint endpoint, int fd,
                                 const char *hostname, const char *alpn, GError **error)
{
    TlsChannelConfig config = {
        .endpoint = endpoint,
        .hostname = settings->migration_auth == MIGRATION_AUTH_PSK ? NULL : hostname,
        .alpn = alpn,
        .allowed_dns = (const char *const *)settings->migration_allowed_dn_list,
    };
    g_autoptr(TlsCredentials) creds = credentials_new(settings, endpoint, error);

    if (!creds) {
        close(fd);
        return NULL;
    }
    return tls_channel_new(fd, creds, &config, error);
}

gboolean recovery_proof(TlsChannel *channel, const guint8 token[MIGRATION_TOKEN_LEN],
                        guint8 ret_proof[RECOVERY_PROOF_LEN], GError **error)
{
    guint8 binding[32];
    int ret;

    if (!tls_channel_export(channel, RECOVERY_EXPORTER_LABEL, binding, error))
        return FALSE;
    ret = gnutls_hmac_fast(GNUTLS_MAC_SHA256, token, MIGRATION_TOKEN_LEN, binding, sizeof binding,
                           ret_proof);
    explicit_bzero(binding, sizeof binding);
    if (ret < 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_HANDSHAKE, _("no proof can be made: %s"),
                    gnutls_strerror(ret));
        return FALSE;
    }
    return TRUE;
}
