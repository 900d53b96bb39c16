/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From gnutls' return codes and the peer's alerts to sentences an administrator can act on. */
#include "config.h"

#include <glib/gi18n.h>

#include "tls/channel_priv.h"

#define NOTHING_IN_COMMON \
    N_("the peer and we have nothing in common: both need TLS 1.3, and either certificates " \
       "or pre-shared keys")

/* Alerts that say what the peer dislikes about the certificate we sent. */
static const struct {
    gnutls_alert_description_t alert;
    const char *text;
} certificate_alerts[] = {
    { GNUTLS_A_BAD_CERTIFICATE, N_("it cannot verify it") },
    { GNUTLS_A_UNSUPPORTED_CERTIFICATE, N_("it is not for this purpose") },
    { GNUTLS_A_CERTIFICATE_REVOKED, N_("it has been revoked") },
    { GNUTLS_A_CERTIFICATE_EXPIRED, N_("it has expired or is not valid yet") },
    { GNUTLS_A_CERTIFICATE_UNKNOWN, N_("it is not for the host name the peer expects") },
    { GNUTLS_A_UNKNOWN_CA, N_("it was signed by an authority the peer does not know") },
    { GNUTLS_A_ACCESS_DENIED, N_("its name is not on the peer's list of allowed ones") },
    { GNUTLS_A_CERTIFICATE_REQUIRED, N_("it got none") },
};

/* Other alerts of a handshake with a likely cause that can be named. */
static const struct {
    gnutls_alert_description_t alert;
    const char *text;
} handshake_alerts[] = {
    { GNUTLS_A_PROTOCOL_VERSION, N_("the peer does not speak TLS 1.3") },
    { GNUTLS_A_NO_APPLICATION_PROTOCOL,
      N_("the peer does not offer the application protocol we ask for (ALPN)") },
    { GNUTLS_A_HANDSHAKE_FAILURE, NOTHING_IN_COMMON },
    { GNUTLS_A_INSUFFICIENT_SECURITY, NOTHING_IN_COMMON },
};

static const char *alert_name(gnutls_alert_description_t alert)
{
    const char *name = gnutls_alert_get_name(alert);

    return name ? name : "?";
}

static GError *psk_refused(const TlsErrorContext *ctx, gnutls_alert_description_t alert)
{
    const char *identity = tls_credentials_own_name(ctx->creds);

    return g_error_new(TLS_ERROR, TLS_ERROR_HANDSHAKE,
                       _("the peer refused our pre-shared key: it does not know the identity "
                         "'%1$s' or has another key for it (alert: %2$s)"),
                       identity ? identity : "?", alert_name(alert));
}

static GError *certificate_refused(const TlsErrorContext *ctx, const char *why)
{
    return g_error_new(TLS_ERROR, TLS_ERROR_HANDSHAKE,
                       _("the peer refused our certificate (%1$s, %2$s): %3$s"),
                       tls_credentials_file_name(ctx->creds, TLS_FILE_CERT),
                       tls_credentials_own_name(ctx->creds), why);
}

static GError *alert_error(const TlsErrorContext *ctx)
{
    gnutls_alert_description_t alert = gnutls_alert_get(ctx->session);
    TlsAuth auth = tls_credentials_auth(ctx->creds);

    for (gsize i = 0; i < G_N_ELEMENTS(certificate_alerts) && auth == TLS_AUTH_X509; i++) {
        if (certificate_alerts[i].alert == alert)
            return certificate_refused(ctx, _(certificate_alerts[i].text));
    }
    for (gsize i = 0; i < G_N_ELEMENTS(handshake_alerts) && !ctx->talked; i++) {
        if (handshake_alerts[i].alert == alert && auth == TLS_AUTH_X509)
            return g_error_new(TLS_ERROR, TLS_ERROR_HANDSHAKE, _("%1$s (alert: %2$s)"),
                               _(handshake_alerts[i].text), alert_name(alert));
    }
    if (!ctx->talked && auth == TLS_AUTH_PSK && alert != GNUTLS_A_NO_APPLICATION_PROTOCOL &&
        alert != GNUTLS_A_PROTOCOL_VERSION)
        return psk_refused(ctx, alert);
    return g_error_new(TLS_ERROR, ctx->talked ? TLS_ERROR_IO : TLS_ERROR_HANDSHAKE,
                       _("the peer ended the connection (alert: %1$s)"), alert_name(alert));
}

static GError *transport_error(const TlsErrorContext *ctx)
{
    int err = ctx->transport->recv_errno ? ctx->transport->recv_errno : ctx->transport->send_errno;

    return g_error_new(TLS_ERROR, TLS_ERROR_IO,
                       ctx->handshake
                           ? _("the connection to the peer broke during the TLS handshake: %1$s")
                           : _("the connection to the peer broke: %1$s"),
                       g_strerror(err));
}

static GError *truncation_error(const TlsErrorContext *ctx)
{
    return g_error_new_literal(
        TLS_ERROR, TLS_ERROR_IO,
        ctx->handshake ? _("the peer closed the connection during the TLS handshake")
                       : _("the peer closed the connection without taking leave: "
                           "the data may be cut short"));
}

/* A PSK server hears of a wrong identity and of a wrong key by the same code. */
static GError *psk_server_error(const TlsErrorContext *ctx, int ret)
{
    if (ctx->unknown_identity)
        return g_error_new(TLS_ERROR, TLS_ERROR_HANDSHAKE,
                           _("the peer presented the identity '%1$s', which is not in %2$s"),
                           ctx->unknown_identity,
                           tls_credentials_file_name(ctx->creds, TLS_FILE_PSK));
    return g_error_new(TLS_ERROR, TLS_ERROR_HANDSHAKE,
                       _("the peer has no pre-shared key of %1$s, or a different one: %2$s"),
                       tls_credentials_file_name(ctx->creds, TLS_FILE_PSK), gnutls_strerror(ret));
}

static GError *handshake_error(const TlsErrorContext *ctx, int ret)
{
    switch (ret) {
    case GNUTLS_E_NO_CERTIFICATE_FOUND:
    case GNUTLS_E_CERTIFICATE_REQUIRED:
        return g_error_new_literal(TLS_ERROR, TLS_ERROR_CERTIFICATE,
                                   _("the peer presented no certificate"));
    case GNUTLS_E_UNSUPPORTED_VERSION_PACKET:
        return g_error_new_literal(TLS_ERROR, TLS_ERROR_HANDSHAKE,
                                   _("the peer does not speak TLS 1.3"));
    case GNUTLS_E_NO_CIPHER_SUITES:
    case GNUTLS_E_INSUFFICIENT_CREDENTIALS:
        return g_error_new_literal(TLS_ERROR, TLS_ERROR_HANDSHAKE,
                                   _(NOTHING_IN_COMMON));
    case GNUTLS_E_NO_APPLICATION_PROTOCOL:
        return g_error_new(TLS_ERROR, TLS_ERROR_HANDSHAKE,
                           _("the peer does not offer the application protocol '%1$s' (ALPN)"),
                           ctx->alpn ? ctx->alpn : "");
    case GNUTLS_E_UNEXPECTED_PACKET:
    case GNUTLS_E_UNEXPECTED_PACKET_LENGTH:
    case GNUTLS_E_RECORD_OVERFLOW:
    case GNUTLS_E_UNEXPECTED_HANDSHAKE_PACKET:
        return g_error_new(TLS_ERROR, TLS_ERROR_HANDSHAKE,
                           _("what the peer sent is no TLS handshake: %1$s"),
                           gnutls_strerror(ret));
    default:
        return g_error_new(TLS_ERROR, TLS_ERROR_HANDSHAKE, _("the TLS handshake failed: %1$s"),
                           gnutls_strerror(ret));
    }
}

static gboolean is_psk_refusal(const TlsErrorContext *ctx, int ret)
{
    return ctx->handshake && tls_credentials_auth(ctx->creds) == TLS_AUTH_PSK &&
           tls_credentials_endpoint(ctx->creds) == TLS_ENDPOINT_SERVER &&
           (ctx->unknown_identity || ret == GNUTLS_E_RECEIVED_ILLEGAL_PARAMETER);
}

GError *tls_channel_error_new(const TlsErrorContext *ctx, int ret)
{
    switch (ret) {
    case GNUTLS_E_FATAL_ALERT_RECEIVED:
        return alert_error(ctx);
    case GNUTLS_E_PREMATURE_TERMINATION:
        return truncation_error(ctx);
    case GNUTLS_E_PULL_ERROR:
    case GNUTLS_E_PUSH_ERROR:
        return transport_error(ctx);
    default:
        break;
    }
    /* An end inside a record is a bad length to gnutls. */
    if (ctx->transport->ended)
        return truncation_error(ctx);
    if (is_psk_refusal(ctx, ret))
        return psk_server_error(ctx, ret);
    if (ctx->handshake)
        return handshake_error(ctx, ret);
    return g_error_new(TLS_ERROR, TLS_ERROR_IO, _("TLS with the peer failed: %1$s"),
                       gnutls_strerror(ret));
}
