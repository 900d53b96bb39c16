/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of tls/ share about credentials; preflight/ looks at the same files before they are used. */
#pragma once

#include "tls/credentials.h"

/* No certificate, key, revocation list or PSK file is near this; /dev/zero is above. */
#define TLS_FILE_SIZE_MAX (1024 * 1024)

typedef enum { TLS_AUTH_X509, TLS_AUTH_PSK } TlsAuth;

/* The contents of one file. It may be a key, so the memory is wiped before it is freed. */
typedef struct {
    guint8 *data; /* a NUL follows the last byte */
    gsize len;
} TlsBlob;

void tls_blob_clear(TlsBlob *blob);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(TlsBlob, tls_blob_clear)

/* Reads the whole file of that kind from its start; the descriptor's offset stays as it is.
 * TLS_ERROR_FILE if it is absent, empty, too big or unreadable. */
gboolean tls_files_read(const TlsFiles *files, TlsFileKind kind, TlsBlob *ret_blob,
                        GError **error);

/* The name a file was opened by, or a word for its kind if it has none: for messages. */
const char *tls_files_display_name(const TlsFiles *files, TlsFileKind kind);

/* X.509 credentials from checked files, in gnutls' form; ret_own_name is our certificate's DN. */
gnutls_certificate_credentials_t tls_x509_load(TlsEndpoint endpoint, const TlsFiles *files,
                                               char **ret_own_name, GError **error);

/* One line of a PSK file. */
typedef struct {
    guint8 *identity; /* not text for certain: the file may give it in hex */
    gsize identity_len;
    guint8 *key;
    gsize key_len;
} TlsPskEntry;

/* Entries of a PSK file in its order, at least one, no identity twice. file_name is for messages,
 * which name the line and never quote a key. Elements are owned by the array. */
GPtrArray *tls_psk_parse(const char *file_name, const char *text, gsize len, GError **error);
const TlsPskEntry *tls_psk_find(const GPtrArray *entries, const void *identity, gsize len);
/* Something printable for messages. */
char *tls_psk_identity_text(const void *identity, gsize len);

/* What the gnutls pointer of each session (gnutls_session_get_ptr) points to. */
typedef struct {
    const TlsCredentials *creds;
    char *unknown_identity; /* set when the peer asked for a PSK that the file does not have */
} TlsSessionLink;

TlsAuth tls_credentials_auth(const TlsCredentials *creds);
TlsEndpoint tls_credentials_endpoint(const TlsCredentials *creds);
const char *tls_credentials_file_name(const TlsCredentials *creds, TlsFileKind kind);
/* Our certificate's DN, or the identity a PSK client presents (NULL on a PSK server). */
const char *tls_credentials_own_name(const TlsCredentials *creds);
/* Random, of this object alone and gone with it: a server's key for its tickets, and a client's
 * seal on those it got. */
const gnutls_datum_t *tls_credentials_secret(const TlsCredentials *creds);

/* Sets credentials and priorities (TLS 1.3 alone) on a session, which must not outlive creds. */
gboolean tls_credentials_attach(const TlsCredentials *creds, gnutls_session_t session,
                                GError **error);
