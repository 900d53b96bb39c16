/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tls/certificate.h"

#include <arpa/inet.h>
#include <gio/gio.h>
#include <glib/gi18n.h>
#include <gnutls/x509.h>
#include <string.h>

/* Names of a certificate that an error lists before it says "…". */
#define NAMES_SHOWN_MAX 8
#define NAMES_LOOKED_AT_MAX 64

void tls_cert_list_clear(TlsCertList *list)
{
    for (guint i = 0; i < list->count; i++)
        gnutls_x509_crt_deinit(list->certs[i]);
    gnutls_free(list->certs);
    list->certs = NULL;
    list->count = 0;
}

gboolean tls_cert_list_from_pem(TlsCertList *ret_list, const char *what, const guint8 *data,
                                gsize len, gboolean sort, GError **error)
{
    const gnutls_datum_t pem = { (unsigned char *)data, (unsigned int)len };
    g_auto(TlsCertList) list = { NULL, 0 };
    int ret;

    ret = gnutls_x509_crt_list_import2(&list.certs, &list.count, &pem, GNUTLS_X509_FMT_PEM,
                                       sort ? GNUTLS_X509_CRT_LIST_SORT : 0);
    if (ret < 0)
        list = (TlsCertList){ NULL, 0 };
    if (ret == GNUTLS_E_NO_CERTIFICATE_FOUND || (ret >= 0 && list.count == 0)) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE,
                    _("%1$s holds no certificate in PEM form"), what);
        return FALSE;
    }
    if (ret < 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE, _("%1$s is malformed: %2$s"), what,
                    gnutls_strerror(ret));
        return FALSE;
    }
    *ret_list = list;
    list = (TlsCertList){ NULL, 0 };
    return TRUE;
}

gboolean tls_cert_list_from_der(TlsCertList *ret_list, const char *what,
                                const gnutls_datum_t *ders, guint count, GError **error)
{
    g_auto(TlsCertList) list = { NULL, 0 };

    list.certs = gnutls_calloc(count, sizeof(*list.certs));
    if (!list.certs)
        g_error("out of memory");
    for (guint i = 0; i < count; i++) {
        int ret = gnutls_x509_crt_init(&list.certs[i]);

        if (ret >= 0) {
            list.count++;
            ret = gnutls_x509_crt_import(list.certs[i], &ders[i], GNUTLS_X509_FMT_DER);
        }
        if (ret < 0) {
            g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE, _("%1$s is malformed: %2$s"),
                        what, gnutls_strerror(ret));
            return FALSE;
        }
    }
    *ret_list = list;
    list = (TlsCertList){ NULL, 0 };
    return TRUE;
}

static char *format_time(time_t when)
{
    g_autoptr(GDateTime) utc = g_date_time_new_from_unix_utc((gint64)when);

    return utc ? g_date_time_format(utc, "%Y-%m-%d %H:%M:%S UTC") : g_strdup("?");
}

gboolean tls_certificate_check_dates(gnutls_x509_crt_t cert, const char *what, time_t now,
                                     GError **error)
{
    time_t from = gnutls_x509_crt_get_activation_time(cert);
    time_t until = gnutls_x509_crt_get_expiration_time(cert);
    g_autofree char *clock = NULL;
    g_autofree char *limit = NULL;

    if (from == (time_t)-1 || until == (time_t)-1) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE, _("%1$s has malformed dates"), what);
        return FALSE;
    }
    if (until < now) {
        limit = format_time(until);
        g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE, _("%1$s expired on %2$s"), what,
                    limit);
        return FALSE;
    }
    if (from > now) {
        /* Mostly a clock that is wrong, here or where it was signed: show ours. */
        limit = format_time(from);
        clock = format_time(now);
        g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE,
                    _("%1$s is not valid before %2$s (this host's clock says %3$s)"), what, limit,
                    clock);
        return FALSE;
    }
    return TRUE;
}

/* The key usage bits; all of them if the certificate does not restrict them. */
static gboolean key_usage(gnutls_x509_crt_t cert, const char *what, guint *ret_usage,
                          GError **error)
{
    int ret = gnutls_x509_crt_get_key_usage(cert, ret_usage, NULL);

    if (ret == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE) {
        *ret_usage = G_MAXUINT;
        return TRUE;
    }
    if (ret < 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE, _("%1$s has a bad key usage: %2$s"),
                    what, gnutls_strerror(ret));
        return FALSE;
    }
    return TRUE;
}

gboolean tls_certificate_check_is_ca(gnutls_x509_crt_t cert, const char *what, GError **error)
{
    guint usage = 0;

    if (gnutls_x509_crt_get_ca_status(cert, NULL) <= 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE,
                    _("%1$s is not the certificate of an authority (its basic constraints lack "
                      "the CA flag)"),
                    what);
        return FALSE;
    }
    if (!key_usage(cert, what, &usage, error))
        return FALSE;
    if (!(usage & GNUTLS_KEY_KEY_CERT_SIGN)) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE,
                    _("%1$s may not sign certificates (its key usage forbids it)"), what);
        return FALSE;
    }
    return TRUE;
}

gboolean tls_certificate_check_is_no_ca(gnutls_x509_crt_t cert, const char *what, GError **error)
{
    if (gnutls_x509_crt_get_ca_status(cert, NULL) <= 0)
        return TRUE;
    g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE,
                _("%1$s is the certificate of an authority, not of a host or a user"), what);
    return FALSE;
}

gboolean tls_certificate_check_usage(gnutls_x509_crt_t cert, const char *what, GError **error)
{
    guint usage = 0;

    if (!key_usage(cert, what, &usage, error))
        return FALSE;
    /* TLS 1.3 proves the key by a signature and never encrypts to it. */
    if (!(usage & GNUTLS_KEY_DIGITAL_SIGNATURE)) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE,
                    _("%1$s may not make signatures (its key usage lacks digitalSignature, "
                      "\"signing_key\" in certtool)"),
                    what);
        return FALSE;
    }
    return TRUE;
}

gboolean tls_certificate_check_purpose(gnutls_x509_crt_t cert, const char *what,
                                       TlsEndpoint presented_by, GError **error)
{
    gboolean server = presented_by == TLS_ENDPOINT_SERVER;

    /* Without flags gnutls takes no list, and "any purpose" in it, for a yes. */
    if (gnutls_x509_crt_check_key_purpose(
            cert, server ? GNUTLS_KP_TLS_WWW_SERVER : GNUTLS_KP_TLS_WWW_CLIENT, 0))
        return TRUE;
    g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE,
                server ? _("%1$s is not for a TLS server (its extended key usage forbids it)")
                       : _("%1$s is not for a TLS client (its extended key usage forbids it)"),
                what);
    return FALSE;
}

char *tls_certificate_dn(gnutls_x509_crt_t cert)
{
    gnutls_datum_t dn = { NULL, 0 };
    char *text = NULL;
    int ret = gnutls_x509_crt_get_dn2(cert, &dn);

    if (ret == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
        return g_strdup("");
    if (ret < 0)
        return NULL;
    /* A name with a NUL inside would look like another, shorter one. */
    if (memchr(dn.data, '\0', dn.size) == NULL)
        text = g_strndup((const char *)dn.data, dn.size);
    gnutls_free(dn.data);
    return text;
}

/* Valid UTF-8 without control characters, so that no certificate writes log lines. */
static char *printable(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    g_autoptr(GString) out = g_string_new(NULL);

    for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        g_string_append_unichar(out, g_unichar_isprint(c) ? c : '?');
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

char *tls_certificate_display_name(gnutls_x509_crt_t cert)
{
    g_autofree char *dn = tls_certificate_dn(cert);

    if (!dn)
        return g_strdup(_("malformed subject"));
    if (!*dn)
        return g_strdup(_("no subject"));
    return printable(dn);
}

/* One subject alternative name as text, or NULL if it is of a kind that names no host. */
static char *alt_name_text(int type, const guint8 *data, gsize len)
{
    char ip[INET6_ADDRSTRLEN];

    if (type == GNUTLS_SAN_DNSNAME) {
        g_autofree char *name = g_strndup((const char *)data, len);

        return printable(name);
    }
    if (type == GNUTLS_SAN_IPADDRESS && (len == 4 || len == 16) &&
        inet_ntop(len == 4 ? AF_INET : AF_INET6, data, ip, sizeof(ip)))
        return g_strdup(ip);
    return NULL;
}

/* "hostB, 10.0.0.2": what the certificate is good for. */
static char *host_names(gnutls_x509_crt_t cert)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    guint8 data[256];

    for (guint i = 0; i < NAMES_LOOKED_AT_MAX && names->len < NAMES_SHOWN_MAX; i++) {
        size_t len = sizeof(data);
        int type = gnutls_x509_crt_get_subject_alt_name(cert, i, data, &len, NULL);
        char *text;

        if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            break;
        text = type < 0 ? NULL : alt_name_text(type, data, len);
        if (text)
            g_ptr_array_add(names, text);
    }
    if (names->len == 0)
        g_ptr_array_add(names, tls_certificate_display_name(cert));
    else if (names->len == NAMES_SHOWN_MAX)
        g_ptr_array_add(names, g_strdup("…"));
    g_ptr_array_add(names, NULL);
    return g_strjoinv(", ", (char **)names->pdata);
}

gboolean tls_certificate_check_hostname(gnutls_x509_crt_t cert, const char *what,
                                        const char *hostname, GError **error)
{
    g_autofree char *names = NULL;

    if (gnutls_x509_crt_check_hostname2(cert, hostname, 0))
        return TRUE;
    names = host_names(cert);
    g_set_error(error, TLS_ERROR, TLS_ERROR_HOSTNAME, _("%1$s is for %2$s, not for '%3$s'"), what,
                names, hostname);
    return FALSE;
}

gboolean tls_certificate_check_dn(gnutls_x509_crt_t cert, const char *what,
                                  const char *const *patterns, GError **error)
{
    g_autofree char *dn = NULL;

    if (!patterns || !patterns[0])
        return TRUE;
    dn = tls_certificate_dn(cert);
    for (gsize i = 0; dn && patterns[i]; i++) {
        if (g_pattern_match_simple(patterns[i], dn))
            return TRUE;
    }
    g_set_error(error, TLS_ERROR, TLS_ERROR_DN,
                _("%1$s verifies, but its name is not on the list of allowed ones"), what);
    return FALSE;
}

/* The first bit that is set decides the text: causes before their effects. The dates of what the
 * peer sent were looked at before, so those bits are left for the authority's own. */
static const struct {
    guint bit;
    const char *text;
} status_texts[] = {
    { GNUTLS_CERT_REVOKED, N_("has been revoked") },
    { GNUTLS_CERT_SIGNER_NOT_CA, N_("was signed by a certificate that is not an authority's") },
    { GNUTLS_CERT_SIGNER_NOT_FOUND, N_("was signed by an unknown authority") },
    { GNUTLS_CERT_SIGNATURE_FAILURE,
      N_("has a wrong signature: the known authority of that name did not make it") },
    { GNUTLS_CERT_SIGNER_CONSTRAINTS_FAILURE, N_("breaks the constraints of its authority") },
    { GNUTLS_CERT_INSECURE_ALGORITHM,
      N_("or one that signed it has an insecure algorithm or too short a key") },
    { GNUTLS_CERT_EXPIRED, N_("was signed by an authority whose certificate has expired") },
    { GNUTLS_CERT_NOT_ACTIVATED,
      N_("was signed by an authority whose certificate is not valid yet") },
    { GNUTLS_CERT_PURPOSE_MISMATCH, N_("is not for this purpose") },
};

gboolean tls_certificate_check_status(guint status, const char *what, const char *ca_name,
                                      GError **error)
{
    gnutls_datum_t print = { NULL, 0 };
    const char *text = NULL;

    if (status == 0)
        return TRUE;
    for (gsize i = 0; !text && i < G_N_ELEMENTS(status_texts); i++) {
        if (status & status_texts[i].bit)
            text = _(status_texts[i].text);
    }
    if (!text &&
        gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &print, 0) == 0)
        text = (const char *)print.data;
    /* TRANSLATORS: "certificate X was signed by an unknown authority (known ones: FILE)" */
    g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE, _("%1$s %2$s (known authorities: %3$s)"),
                what, text ? text : _("is not trusted"), ca_name);
    gnutls_free(print.data);
    return FALSE;
}
