/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading X.509 credentials from their files, and every check that can be made of them before
 * a peer is there. */
#include "config.h"

#include <glib/gi18n.h>
#include <gnutls/x509.h>
#include <time.h>

#include "tls/certificate.h"
#include "tls/credentials_priv.h"
#include "util/log.h"

/* What is read from the files. */
typedef struct {
    TlsCertList cas;
    TlsCertList chain; /* ours first */
    gnutls_x509_privkey_t key;
    gnutls_x509_crl_t *crls; /* in gnutls_malloc'ed memory */
    guint n_crls;
} X509Parts;

static void x509_parts_clear(X509Parts *parts)
{
    tls_cert_list_clear(&parts->cas);
    tls_cert_list_clear(&parts->chain);
    g_clear_pointer(&parts->key, gnutls_x509_privkey_deinit);
    for (guint i = 0; i < parts->n_crls; i++)
        gnutls_x509_crl_deinit(parts->crls[i]);
    gnutls_free(parts->crls);
    parts->n_crls = 0;
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(X509Parts, x509_parts_clear)

/* "certificate /etc/pki/…": how messages call a file of ours. */
static char *describe(const TlsFiles *files, TlsFileKind kind)
{
    const char *name = tls_files_display_name(files, kind);

    switch (kind) {
    case TLS_FILE_CA_CERT:
        return g_strdup_printf(_("CA certificate %s"), name);
    case TLS_FILE_CA_CRL:
        return g_strdup_printf(_("certificate revocation list %s"), name);
    case TLS_FILE_KEY:
        return g_strdup_printf(_("private key %s"), name);
    default:
        return g_strdup_printf(_("certificate %s"), name);
    }
}

static gboolean load_certs(const TlsFiles *files, TlsFileKind kind, TlsCertList *ret_list,
                           GError **error)
{
    g_auto(TlsBlob) blob = { NULL, 0 };
    g_autofree char *what = describe(files, kind);

    return tls_files_read(files, kind, &blob, error) &&
           tls_cert_list_from_pem(ret_list, what, blob.data, blob.len, kind == TLS_FILE_CERT,
                                  error);
}

static gboolean load_key(const TlsFiles *files, gnutls_x509_privkey_t *ret_key, GError **error)
{
    g_auto(TlsBlob) blob = { NULL, 0 };
    g_autofree char *what = describe(files, TLS_FILE_KEY);
    gnutls_x509_privkey_t key = NULL;
    gnutls_datum_t pem;
    int ret;

    if (!tls_files_read(files, TLS_FILE_KEY, &blob, error))
        return FALSE;
    pem = (gnutls_datum_t){ blob.data, (unsigned int)blob.len };
    ret = gnutls_x509_privkey_init(&key);
    if (ret >= 0)
        ret = gnutls_x509_privkey_import2(key, &pem, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (ret >= 0) {
        *ret_key = key;
        return TRUE;
    }
    g_clear_pointer(&key, gnutls_x509_privkey_deinit);
    if (ret == GNUTLS_E_DECRYPTION_FAILED)
        g_set_error(error, TLS_ERROR, TLS_ERROR_FILE,
                    _("%1$s is protected by a password: store it without one"), what);
    else
        g_set_error(error, TLS_ERROR, TLS_ERROR_FILE,
                    _("%1$s is not a private key in PEM form: %2$s"), what, gnutls_strerror(ret));
    return FALSE;
}

static gboolean load_crls(const TlsFiles *files, X509Parts *parts, GError **error)
{
    g_auto(TlsBlob) blob = { NULL, 0 };
    g_autofree char *what = describe(files, TLS_FILE_CA_CRL);
    gnutls_datum_t pem;
    int ret;

    if (files->fds[TLS_FILE_CA_CRL] < 0)
        return TRUE;
    if (!tls_files_read(files, TLS_FILE_CA_CRL, &blob, error))
        return FALSE;
    pem = (gnutls_datum_t){ blob.data, (unsigned int)blob.len };
    ret = gnutls_x509_crl_list_import2(&parts->crls, &parts->n_crls, &pem, GNUTLS_X509_FMT_PEM, 0);
    if (ret >= 0 && parts->n_crls > 0)
        return TRUE;
    parts->crls = NULL;
    parts->n_crls = 0;
    g_set_error(error, TLS_ERROR, TLS_ERROR_FILE,
                _("%1$s is not a revocation list in PEM form: %2$s"), what, gnutls_strerror(ret));
    return FALSE;
}

static gboolean issued_ours(const X509Parts *parts, gnutls_x509_crt_t ca)
{
    for (guint i = 0; i < parts->chain.count; i++) {
        if (gnutls_x509_crt_check_issuer(parts->chain.certs[i], ca) == 1)
            return TRUE;
    }
    return FALSE;
}

static gboolean check_cas(const X509Parts *parts, const char *file, time_t now, GError **error)
{
    for (guint i = 0; i < parts->cas.count; i++) {
        gnutls_x509_crt_t ca = parts->cas.certs[i];
        g_autofree char *subject = tls_certificate_display_name(ca);
        g_autofree char *what = g_strdup_printf("%s (%s)", file, subject);
        g_autoptr(GError) stale = NULL;

        if (!tls_certificate_check_is_ca(ca, what, error))
            return FALSE;
        if (tls_certificate_check_dates(ca, what, now, &stale))
            continue;
        /* While a site changes its authority the file holds the old one as well. It vouches
         * for nobody any more, but that is no reason not to start. */
        if (issued_ours(parts, ca)) {
            g_propagate_error(error, g_steal_pointer(&stale));
            return FALSE;
        }
        log_warning(NULL, "%s", stale->message);
    }
    return TRUE;
}

static gboolean check_chain(const X509Parts *parts, TlsEndpoint endpoint, const char *file,
                            time_t now, GError **error)
{
    gnutls_x509_crt_t ours = parts->chain.certs[0];

    if (!tls_certificate_check_dates(ours, file, now, error) ||
        !tls_certificate_check_is_no_ca(ours, file, error) ||
        !tls_certificate_check_usage(ours, file, error) ||
        !tls_certificate_check_purpose(ours, file, endpoint, error))
        return FALSE;
    for (guint i = 1; i < parts->chain.count; i++) {
        g_autofree char *subject = tls_certificate_display_name(parts->chain.certs[i]);
        g_autofree char *what = g_strdup_printf("%s (%s)", file, subject);

        if (!tls_certificate_check_dates(parts->chain.certs[i], what, now, error) ||
            !tls_certificate_check_is_ca(parts->chain.certs[i], what, error))
            return FALSE;
    }
    return TRUE;
}

/* A list that is not its authority's would silently revoke nothing. */
static gboolean check_crls(const X509Parts *parts, const char *file, const char *ca_name,
                           time_t now, GError **error)
{
    for (guint i = 0; i < parts->n_crls; i++) {
        time_t next = gnutls_x509_crl_get_next_update(parts->crls[i]);
        guint status = 0;
        int ret = gnutls_x509_crl_verify(parts->crls[i], parts->cas.certs, (int)parts->cas.count,
                                         0, &status);

        if (ret < 0) {
            g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE,
                        _("%1$s cannot be verified: %2$s"), file, gnutls_strerror(ret));
            return FALSE;
        }
        /* An old list is better than none, and its authority may be late. */
        if (next != (time_t)-1 && next < now)
            log_warning(NULL, _("%s is outdated: get the next one from its authority"), file);
        if (status == (GNUTLS_CERT_INVALID | GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED))
            continue;
        if (!tls_certificate_check_status(status, file, ca_name, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean check_trust(const X509Parts *parts, const char *file, const char *ca_name,
                            GError **error)
{
    guint status = 0;
    int ret;

    ret = gnutls_x509_crt_list_verify(parts->chain.certs, (int)parts->chain.count,
                                      parts->cas.certs, (int)parts->cas.count, parts->crls,
                                      (int)parts->n_crls,
                                      GNUTLS_PROFILE_TO_VFLAGS(GNUTLS_PROFILE_MEDIUM), &status);
    if (ret < 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE, _("%1$s cannot be verified: %2$s"),
                    file, gnutls_strerror(ret));
        return FALSE;
    }
    return tls_certificate_check_status(status, file, ca_name, error);
}

static gboolean check_parts(const X509Parts *parts, TlsEndpoint endpoint, const TlsFiles *files,
                            GError **error)
{
    g_autofree char *ca_file = describe(files, TLS_FILE_CA_CERT);
    g_autofree char *crl_file = describe(files, TLS_FILE_CA_CRL);
    g_autofree char *cert_file = describe(files, TLS_FILE_CERT);
    const char *ca_name = tls_files_display_name(files, TLS_FILE_CA_CERT);
    time_t now = time(NULL);

    return check_cas(parts, ca_file, now, error) &&
           check_crls(parts, crl_file, ca_name, now, error) &&
           check_chain(parts, endpoint, cert_file, now, error) &&
           check_trust(parts, cert_file, ca_name, error);
}

/* gnutls copies the parts. */
static gnutls_certificate_credentials_t fill(const X509Parts *parts, const TlsFiles *files,
                                             GError **error)
{
    const char *cert_name = tls_files_display_name(files, TLS_FILE_CERT);
    const char *key_name = tls_files_display_name(files, TLS_FILE_KEY);
    gnutls_certificate_credentials_t x509 = NULL;
    int ret = gnutls_certificate_allocate_credentials(&x509);

    if (ret >= 0)
        ret = gnutls_certificate_set_x509_trust(x509, parts->cas.certs, (int)parts->cas.count);
    if (ret >= 0 && parts->n_crls > 0)
        ret = gnutls_certificate_set_x509_crl(x509, parts->crls, (int)parts->n_crls);
    if (ret >= 0)
        ret = gnutls_certificate_set_x509_key(x509, parts->chain.certs, (int)parts->chain.count,
                                              parts->key);
    if (ret >= 0)
        return x509;
    if (ret == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
        g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE,
                    _("private key %1$s does not belong to certificate %2$s"), key_name,
                    cert_name);
    else
        g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE,
                    _("certificate %1$s and private key %2$s cannot be used: %3$s"), cert_name,
                    key_name, gnutls_strerror(ret));
    g_clear_pointer(&x509, gnutls_certificate_free_credentials);
    return NULL;
}

gnutls_certificate_credentials_t tls_x509_load(TlsEndpoint endpoint, const TlsFiles *files,
                                               char **ret_own_name, GError **error)
{
    gnutls_certificate_credentials_t x509;
    g_auto(X509Parts) parts = { { NULL, 0 } };

    if (!load_certs(files, TLS_FILE_CA_CERT, &parts.cas, error) ||
        !load_certs(files, TLS_FILE_CERT, &parts.chain, error) ||
        !load_key(files, &parts.key, error) || !load_crls(files, &parts, error) ||
        !check_parts(&parts, endpoint, files, error))
        return NULL;

    x509 = fill(&parts, files, error);
    if (!x509)
        return NULL;
    *ret_own_name = tls_certificate_display_name(parts.chain.certs[0]);
    return x509;
}
