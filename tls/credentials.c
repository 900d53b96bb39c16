/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tls/credentials.h"

#include <glib/gi18n.h>
#include <string.h>

#include "tls/credentials_priv.h"

/* TLS 1.3 alone; the profile asks of certificates what 112 bits of security need (RSA 2048). */
#define PRIORITY_X509 "NORMAL:-VERS-ALL:+VERS-TLS1.3:%PROFILE_MEDIUM"
/* With an ephemeral exchange beside the PSK always: forward secrecy. Keys of a PSK file go with
 * SHA-256 alone, where gnutls would otherwise choose the cipher that costs the most here. */
#define PRIORITY_PSK \
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK:+DHE-PSK:" \
    "-CIPHER-ALL:+AES-128-GCM:+CHACHA20-POLY1305:+AES-256-GCM:%PROFILE_MEDIUM"

struct TlsCredentials {
    gatomicrefcount refs;
    TlsEndpoint endpoint;
    TlsAuth auth;
    char *file_names[TLS_FILE_MAX];
    char *own_name;
    GPtrArray *psks; /* of a PSK server */
    gnutls_certificate_credentials_t x509;
    gnutls_psk_server_credentials_t psk_server;
    gnutls_psk_client_credentials_t psk_client;
    gnutls_datum_t secret;
};

static TlsCredentials *credentials_new(TlsEndpoint endpoint, TlsAuth auth, const TlsFiles *files,
                                       GError **error)
{
    TlsCredentials *creds = g_new0(TlsCredentials, 1);
    int ret;

    g_atomic_ref_count_init(&creds->refs);
    creds->endpoint = endpoint;
    creds->auth = auth;
    for (TlsFileKind kind = 0; kind < TLS_FILE_MAX; kind++)
        creds->file_names[kind] = g_strdup(tls_files_display_name(files, kind));
    ret = gnutls_session_ticket_key_generate(&creds->secret);
    if (ret < 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_HANDSHAKE, _("TLS cannot be set up: %1$s"),
                    gnutls_strerror(ret));
        g_clear_pointer(&creds, tls_credentials_unref);
    }
    return creds;
}

TlsCredentials *tls_credentials_new_x509(TlsEndpoint endpoint, const TlsFiles *files,
                                         GError **error)
{
    g_autoptr(TlsCredentials) creds = credentials_new(endpoint, TLS_AUTH_X509, files, error);

    if (!creds)
        return NULL;
    creds->x509 = tls_x509_load(endpoint, files, &creds->own_name, error);
    return creds->x509 ? g_steal_pointer(&creds) : NULL;
}

/* Of gnutls, for a server: the key of the identity that the peer presents. */
static int find_server_key(gnutls_session_t session, const gnutls_datum_t *identity,
                           gnutls_datum_t *ret_key)
{
    TlsSessionLink *link = gnutls_session_get_ptr(session);
    const TlsPskEntry *entry = tls_psk_find(link->creds->psks, identity->data, identity->size);

    if (!entry) {
        g_free(link->unknown_identity);
        link->unknown_identity = tls_psk_identity_text(identity->data, identity->size);
        /* gnutls goes on with a random key: the peer cannot tell an identity we do not have from
         * one it has a wrong key for. */
        return 1;
    }
    ret_key->data = gnutls_malloc(entry->key_len);
    if (!ret_key->data)
        return -1;
    memcpy(ret_key->data, entry->key, entry->key_len);
    ret_key->size = (unsigned int)entry->key_len;
    return 0;
}

static int fill_psk_client(TlsCredentials *creds, const TlsPskEntry *entry)
{
    const gnutls_datum_t identity = { entry->identity, (unsigned int)entry->identity_len };
    const gnutls_datum_t key = { entry->key, (unsigned int)entry->key_len };
    int ret = gnutls_psk_allocate_client_credentials(&creds->psk_client);

    creds->own_name = tls_psk_identity_text(entry->identity, entry->identity_len);
    if (ret >= 0)
        ret = gnutls_psk_set_client_credentials2(creds->psk_client, &identity, &key,
                                                 GNUTLS_PSK_KEY_RAW);
    return ret;
}

static int fill_psk_server(TlsCredentials *creds, GPtrArray *entries)
{
    int ret = gnutls_psk_allocate_server_credentials(&creds->psk_server);

    creds->psks = g_ptr_array_ref(entries);
    if (ret >= 0)
        gnutls_psk_set_server_credentials_function2(creds->psk_server, find_server_key);
    return ret;
}

TlsCredentials *tls_credentials_new_psk(TlsEndpoint endpoint, const TlsFiles *files,
                                        const char *identity, GError **error)
{
    g_auto(TlsBlob) blob = { NULL, 0 };
    g_autoptr(GPtrArray) entries = NULL;
    g_autoptr(TlsCredentials) creds = NULL;
    const TlsPskEntry *entry;
    int ret;

    if (!tls_files_read(files, TLS_FILE_PSK, &blob, error))
        return NULL;
    creds = credentials_new(endpoint, TLS_AUTH_PSK, files, error);
    if (!creds)
        return NULL;
    entries = tls_psk_parse(creds->file_names[TLS_FILE_PSK], (const char *)blob.data, blob.len,
                            error);
    if (!entries)
        return NULL;
    if (identity && endpoint == TLS_ENDPOINT_CLIENT)
        entry = tls_psk_find(entries, identity, strlen(identity));
    else
        entry = g_ptr_array_index(entries, 0);
    if (!entry) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_FILE,
                    _("pre-shared key file %1$s has no line for the identity '%2$s'"),
                    creds->file_names[TLS_FILE_PSK], identity);
        return NULL;
    }
    ret = endpoint == TLS_ENDPOINT_CLIENT ? fill_psk_client(creds, entry)
                                          : fill_psk_server(creds, entries);
    if (ret < 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_FILE,
                    _("pre-shared key file %1$s cannot be used: %2$s"),
                    creds->file_names[TLS_FILE_PSK], gnutls_strerror(ret));
        return NULL;
    }
    return g_steal_pointer(&creds);
}

TlsCredentials *tls_credentials_ref(TlsCredentials *creds)
{
    g_atomic_ref_count_inc(&creds->refs);
    return creds;
}

void tls_credentials_unref(TlsCredentials *creds)
{
    if (!creds || !g_atomic_ref_count_dec(&creds->refs))
        return;
    g_clear_pointer(&creds->x509, gnutls_certificate_free_credentials);
    g_clear_pointer(&creds->psk_server, gnutls_psk_free_server_credentials);
    g_clear_pointer(&creds->psk_client, gnutls_psk_free_client_credentials);
    g_clear_pointer(&creds->psks, g_ptr_array_unref);
    for (TlsFileKind kind = 0; kind < TLS_FILE_MAX; kind++)
        g_free(creds->file_names[kind]);
    g_free(creds->own_name);
    if (creds->secret.data)
        gnutls_memset(creds->secret.data, 0, creds->secret.size);
    gnutls_free(creds->secret.data);
    g_free(creds);
}

TlsAuth tls_credentials_auth(const TlsCredentials *creds)
{
    return creds->auth;
}

TlsEndpoint tls_credentials_endpoint(const TlsCredentials *creds)
{
    return creds->endpoint;
}

const char *tls_credentials_file_name(const TlsCredentials *creds, TlsFileKind kind)
{
    return creds->file_names[kind];
}

const char *tls_credentials_own_name(const TlsCredentials *creds)
{
    return creds->own_name;
}

const gnutls_datum_t *tls_credentials_secret(const TlsCredentials *creds)
{
    return &creds->secret;
}

gboolean tls_credentials_attach(const TlsCredentials *creds, gnutls_session_t session,
                                GError **error)
{
    const char *priority = creds->auth == TLS_AUTH_X509 ? PRIORITY_X509 : PRIORITY_PSK;
    int ret = gnutls_priority_set_direct(session, priority, NULL);

    if (ret >= 0 && creds->auth == TLS_AUTH_X509)
        ret = gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, creds->x509);
    else if (ret >= 0)
        ret = gnutls_credentials_set(session, GNUTLS_CRD_PSK,
                                     creds->endpoint == TLS_ENDPOINT_CLIENT
                                         ? (void *)creds->psk_client
                                         : (void *)creds->psk_server);
    if (ret < 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_HANDSHAKE, _("TLS cannot be set up: %1$s"),
                    gnutls_strerror(ret));
        return FALSE;
    }
    if (creds->auth == TLS_AUTH_X509 && creds->endpoint == TLS_ENDPOINT_SERVER)
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
    return TRUE;
}
