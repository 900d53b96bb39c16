/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether the certificate chain that a peer presented is good enough to talk to it. */
#include "config.h"

#include <glib/gi18n.h>
#include <gnutls/x509.h>

#include "tls/certificate.h"
#include "tls/channel_priv.h"

typedef struct {
    gnutls_session_t session;
    const TlsPeerRules *rules;
    TlsCertList chain; /* the peer's own first */
    char *what;        /* its name in messages */
} Judgement;

static gboolean check_dates(const Judgement *j, GError **error)
{
    time_t now = time(NULL);

    if (!tls_certificate_check_dates(j->chain.certs[0], j->what, now, error))
        return FALSE;
    for (guint i = 1; i < j->chain.count; i++) {
        g_autofree char *name = tls_certificate_display_name(j->chain.certs[i]);
        g_autofree char *what =
            g_strdup_printf(_("authority's certificate of the peer (%s)"), name);

        if (!tls_certificate_check_dates(j->chain.certs[i], what, now, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean check_usage(const Judgement *j, GError **error)
{
    return tls_certificate_check_usage(j->chain.certs[0], j->what, error) &&
           tls_certificate_check_purpose(j->chain.certs[0], j->what, j->rules->peer_endpoint,
                                         error);
}

static gboolean check_hostname(const Judgement *j, GError **error)
{
    return !j->rules->hostname ||
           tls_certificate_check_hostname(j->chain.certs[0], j->what, j->rules->hostname, error);
}

static gboolean check_dn(const Judgement *j, GError **error)
{
    return tls_certificate_check_dn(j->chain.certs[0], j->what, j->rules->allowed_dns, error);
}

/* In this order: who is not known at all is told nothing else. */
static const struct {
    gboolean (*check)(const Judgement *j, GError **error);
    gnutls_alert_description_t alert; /* RFC 8446, section 6.2 */
} rungs[] = {
    { check_usage, GNUTLS_A_UNSUPPORTED_CERTIFICATE },
    { check_hostname, GNUTLS_A_CERTIFICATE_UNKNOWN },
    { check_dn, GNUTLS_A_ACCESS_DENIED },
};

static gnutls_alert_description_t status_alert(guint status)
{
    if (status & GNUTLS_CERT_REVOKED)
        return GNUTLS_A_CERTIFICATE_REVOKED;
    if (status & (GNUTLS_CERT_SIGNER_NOT_FOUND | GNUTLS_CERT_SIGNER_NOT_CA))
        return GNUTLS_A_UNKNOWN_CA;
    if (status & (GNUTLS_CERT_EXPIRED | GNUTLS_CERT_NOT_ACTIVATED))
        return GNUTLS_A_CERTIFICATE_EXPIRED;
    return GNUTLS_A_BAD_CERTIFICATE;
}

/* The chain up to an authority of ours, revocation lists included. */
static gboolean check_trust(const Judgement *j, gnutls_alert_description_t *ret_alert,
                            GError **error)
{
    guint status = 0;
    int ret = gnutls_certificate_verify_peers2(j->session, &status);

    if (ret < 0) {
        *ret_alert = GNUTLS_A_BAD_CERTIFICATE;
        g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE, _("%1$s cannot be verified: %2$s"),
                    j->what, gnutls_strerror(ret));
        return FALSE;
    }
    *ret_alert = status_alert(status);
    /* Of several things that are wrong a date is the one to hear of: it tells what to do. */
    if ((status & (GNUTLS_CERT_EXPIRED | GNUTLS_CERT_NOT_ACTIVATED)) &&
        !(status & (GNUTLS_CERT_SIGNER_NOT_FOUND | GNUTLS_CERT_REVOKED)) &&
        !check_dates(j, error))
        return FALSE;
    return tls_certificate_check_status(status, j->what, j->rules->ca_name, error);
}

static gboolean judge(const Judgement *j, gnutls_alert_description_t *ret_alert, GError **error)
{
    if (!check_trust(j, ret_alert, error))
        return FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(rungs); i++) {
        *ret_alert = rungs[i].alert;
        if (!rungs[i].check(j, error))
            return FALSE;
    }
    return TRUE;
}

gboolean tls_peer_verify(gnutls_session_t session, const TlsPeerRules *rules, char **ret_name,
                         gnutls_alert_description_t *ret_alert, GError **error)
{
    Judgement j = { .session = session, .rules = rules };
    const gnutls_datum_t *ders = NULL;
    guint count = 0;
    gboolean good;

    *ret_name = NULL;
    *ret_alert = GNUTLS_A_BAD_CERTIFICATE;
    if (gnutls_certificate_type_get(session) == GNUTLS_CRT_X509)
        ders = gnutls_certificate_get_peers(session, &count);
    if (!ders || count == 0) {
        *ret_alert = GNUTLS_A_CERTIFICATE_REQUIRED;
        g_set_error(error, TLS_ERROR, TLS_ERROR_CERTIFICATE,
                    _("the peer presented no certificate"));
        return FALSE;
    }
    if (!tls_cert_list_from_der(&j.chain, _("certificate of the peer"), ders, count, error))
        return FALSE;
    *ret_name = tls_certificate_display_name(j.chain.certs[0]);
    j.what = g_strdup_printf(_("certificate of the peer (%s)"), *ret_name);
    good = judge(&j, ret_alert, error);
    g_free(j.what);
    tls_cert_list_clear(&j.chain);
    return good;
}
