/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/migration_files.h"

gboolean migration_files_open(const Settings *s, TlsEndpoint endpoint, TlsFiles *files,
                              GError **error)
{
    gboolean server = endpoint == TLS_ENDPOINT_SERVER;

    if (s->migration_auth == MIGRATION_AUTH_PSK)
        return tls_files_open(files, TLS_FILE_PSK, s->migration_psk_file, FALSE, error);
    return tls_files_open(files, TLS_FILE_CA_CERT, s->ca_file, FALSE, error) &&
           tls_files_open(files, TLS_FILE_CA_CRL, s->crl_file, !s->crl_required, error) &&
           tls_files_open(files, TLS_FILE_CERT, server ? s->cert_file : s->client_cert_file, FALSE,
                          error) &&
           tls_files_open(files, TLS_FILE_KEY, server ? s->key_file : s->client_key_file, FALSE,
                          error);
}
