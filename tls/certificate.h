/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Checks of X.509 certificates: a ladder of small functions, each with one question.
 *
 * The same rungs serve our own files when they are loaded and the peer's certificate in the
 * handshake. "what" names the certificate in messages: "certificate /etc/pki/…" or
 * "certificate of the peer (CN=…)". All fail with TLS_ERROR_CERTIFICATE unless said. An
 * extension that is absent restricts nothing, as in libvirt and RFC 5280. Pure; any thread. */
#pragma once

#include <time.h>

#include "tls/credentials.h"

typedef struct {
    gnutls_x509_crt_t *certs; /* in gnutls_malloc'ed memory */
    guint count;
} TlsCertList;

void tls_cert_list_clear(TlsCertList *list);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(TlsCertList, tls_cert_list_clear)

/* At least one certificate. If sort, the first is ours and its issuers follow in order. */
gboolean tls_cert_list_from_pem(TlsCertList *ret_list, const char *what, const guint8 *data,
                                gsize len, gboolean sort, GError **error);
/* Of what a peer sent in its handshake, in its order. */
gboolean tls_cert_list_from_der(TlsCertList *ret_list, const char *what,
                                const gnutls_datum_t *ders, guint count, GError **error);

gboolean tls_certificate_check_dates(gnutls_x509_crt_t cert, const char *what, time_t now,
                                     GError **error);
gboolean tls_certificate_check_is_ca(gnutls_x509_crt_t cert, const char *what, GError **error);
gboolean tls_certificate_check_is_no_ca(gnutls_x509_crt_t cert, const char *what, GError **error);
/* May it sign handshakes (key usage)? */
gboolean tls_certificate_check_usage(gnutls_x509_crt_t cert, const char *what, GError **error);
/* Is it for the endpoint that presents it (extended key usage)? */
gboolean tls_certificate_check_purpose(gnutls_x509_crt_t cert, const char *what,
                                       TlsEndpoint presented_by, GError **error);
/* hostname is a DNS name or an IP address (without brackets). TLS_ERROR_HOSTNAME. */
gboolean tls_certificate_check_hostname(gnutls_x509_crt_t cert, const char *what,
                                        const char *hostname, GError **error);
/* Any of the glob patterns (libvirt's tls_allowed_dn_list); NULL or empty allows all.
 * TLS_ERROR_DN. */
gboolean tls_certificate_check_dn(gnutls_x509_crt_t cert, const char *what,
                                  const char *const *patterns, GError **error);

/* What gnutls says of a chain (gnutls_certificate_status_t bits; 0 is good). ca_name: the file
 * with the authorities. */
gboolean tls_certificate_check_status(guint status, const char *what, const char *ca_name,
                                      GError **error);

/* The subject as libvirt's allow lists write it ("CN=hostB,O=Example"); "" if it has none,
 * NULL if it is malformed. */
char *tls_certificate_dn(gnutls_x509_crt_t cert);
/* The same for messages: printable, never NULL. */
char *tls_certificate_display_name(gnutls_x509_crt_t cert);
