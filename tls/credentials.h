/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* TLS credentials: X.509 in libvirt's PKI file layout, or a pre-shared key.
 *
 * Two steps, because the process that may open the files (virtpostcopyd) is not the
 * one that speaks TLS with them (the helper): a TlsFiles is a set of open descriptors
 * with the names they were opened by, kept for messages; TlsCredentials are made
 * from it. Every certificate is checked when it is loaded (dates, CA flag, key usage,
 * purpose, chain), and an error names the file at fault and what is wrong with it.
 * File layout: https://libvirt.org/kbase/tlscerts.html */
#pragma once

#include <gio/gio.h>
#include <gnutls/gnutls.h>

#define TLS_ERROR (tls_error_quark())
GQuark tls_error_quark(void);

typedef enum {
    TLS_ERROR_FILE,        /* a credential file is missing or unreadable */
    TLS_ERROR_CERTIFICATE, /* ours or the peer's does not verify */
    TLS_ERROR_HOSTNAME,    /* the peer's certificate is for other names */
    TLS_ERROR_DN,          /* the peer's DN is not on the allow list */
    TLS_ERROR_HANDSHAKE,   /* no agreement: version, ALPN, alert, PSK */
    TLS_ERROR_IO,          /* the transport broke or ended in mid-record */
} TlsError;

typedef enum { TLS_ENDPOINT_CLIENT, TLS_ENDPOINT_SERVER } TlsEndpoint;

typedef enum {
    TLS_FILE_CA_CERT,
    TLS_FILE_CA_CRL,
    TLS_FILE_CERT,
    TLS_FILE_KEY,
    TLS_FILE_PSK,
    TLS_FILE_MAX,
} TlsFileKind;

/* "ca-cert", "ca-crl", "cert", "key", "psk": the words of the D-Bus interface. */
const char *tls_file_kind_name(TlsFileKind kind);
/* The kind of that name, or TLS_FILE_MAX. */
TlsFileKind tls_file_kind_from_name(const char *name);

/* Open files; an absent one has fd -1 and name NULL. Owned: tls_files_clear() closes. */
typedef struct {
    int fds[TLS_FILE_MAX];
    char *names[TLS_FILE_MAX];
} TlsFiles;

#define TLS_FILES_INIT { { -1, -1, -1, -1, -1 }, { NULL } }
void tls_files_clear(TlsFiles *files);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(TlsFiles, tls_files_clear)

/* Opens path for reading as that kind. A missing file is an error unless optional. */
gboolean tls_files_open(TlsFiles *files, TlsFileKind kind, const char *path, gboolean optional,
                        GError **error);

/* Reference counted, immutable once made, usable from several threads. */
typedef struct TlsCredentials TlsCredentials;

/* Reads the descriptors from their start. Needs CA_CERT, CERT and KEY; CA_CRL may be absent. */
TlsCredentials *tls_credentials_new_x509(TlsEndpoint endpoint, const TlsFiles *files,
                                         GError **error);

/* PSK file: lines "identity:hex key" as psktool writes them. A client presents identity
 * (NULL: the file's first); a server accepts every line. */
TlsCredentials *tls_credentials_new_psk(TlsEndpoint endpoint, const TlsFiles *files,
                                        const char *identity, GError **error);

TlsCredentials *tls_credentials_ref(TlsCredentials *creds);
void tls_credentials_unref(TlsCredentials *creds);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TlsCredentials, tls_credentials_unref)
