/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* X.509: the same rungs as when the helpers load the files (tls/certificate.h), each with its
 * remedy, and without stopping at the first. */
#include "config.h"

#include <glib/gi18n.h>
#include <gnutls/x509.h>
#include <string.h>

#include "preflight/credentials_priv.h"
#include "tls/certificate.h"

#define DAY_SECONDS (24 * 60 * 60)

typedef struct {
    GPtrArray *findings;
    const CredentialFacts *facts;
    PreflightCheck check;
    TlsCertList cas;
    TlsCertList chain; /* ours first; none: it could not be read */
    gnutls_x509_privkey_t key;
    gnutls_x509_crl_t *crls;
    guint n_crls;
    guint failures; /* findings there were before */
} Ladder;

static void ladder_clear(Ladder *ladder)
{
    tls_cert_list_clear(&ladder->cas);
    tls_cert_list_clear(&ladder->chain);
    g_clear_pointer(&ladder->key, gnutls_x509_privkey_deinit);
    for (guint i = 0; i < ladder->n_crls; i++)
        gnutls_x509_crl_deinit(ladder->crls[i]);
    gnutls_free(ladder->crls);
    ladder->n_crls = 0;
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Ladder, ladder_clear)

/* remedy is taken. */
static void problem(Ladder *ladder, PreflightProblem which, const char *detail, char *remedy)
{
    preflight_problem(ladder->findings, ladder->check, which, g_strdup(detail), remedy);
}

static char *anew(const Ladder *ladder)
{
    gboolean server = ladder->facts->endpoint == TLS_ENDPOINT_SERVER;

    /* TRANSLATORS: the quoted words are lines of certtool's templates. */
    return g_strdup_printf(server ? _("have the authority issue %1$s anew, with \"tls_www_server\" "
                                      "and \"signing_key\" (README, \"Certificates\")")
                                  : _("have the authority issue %1$s anew, with \"tls_www_client\" "
                                      "and \"signing_key\" (README, \"Certificates\")"),
                           ladder->facts->cert.path);
}

static char *set_clock(void)
{
    return g_strdup(
        _("set this host's clock (\"timedatectl set-ntp true\"); if that is right, wait "
          "until the certificate is valid"));
}

/* ---- what the files hold ---- */

static void load_certs(Ladder *ladder, const CredentialFile *file, const char *what, gboolean sort,
                       TlsCertList *ret_list)
{
    g_autofree char *name = g_strdup_printf("%s %s", what, file->path);
    g_autoptr(GError) error = NULL;

    if (!credential_is_there(ladder->findings, ladder->facts, file, what) ||
        tls_cert_list_from_pem(ret_list, name, (const guint8 *)file->text, file->len, sort, &error))
        return;
    problem(ladder, PROBLEM_CREDENTIAL_MALFORMED, error->message,
            g_strdup_printf(_("put the certificate at %1$s again, in PEM form"), file->path));
}

static void load_key(Ladder *ladder)
{
    const CredentialFile *file = &ladder->facts->key;
    gnutls_datum_t pem = { (unsigned char *)file->text, (unsigned int)file->len };
    g_autofree char *detail = NULL;
    int ret;

    if (!credential_is_there(ladder->findings, ladder->facts, file, _("private key")))
        return;
    credential_judge_mode(ladder->findings, ladder->facts, file);
    ret = gnutls_x509_privkey_init(&ladder->key);
    if (ret >= 0)
        ret = gnutls_x509_privkey_import2(ladder->key, &pem, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (ret >= 0)
        return;
    g_clear_pointer(&ladder->key, gnutls_x509_privkey_deinit);
    detail = g_strdup_printf(_("private key %1$s is malformed, or protected by a password: %2$s"),
                             file->path, gnutls_strerror(ret));
    problem(ladder, PROBLEM_CREDENTIAL_MALFORMED, detail,
            g_strdup_printf(_("put the key at %1$s again, in PEM form and without a password"),
                            file->path));
}

static void load_crl(Ladder *ladder)
{
    const CredentialFile *file = &ladder->facts->crl;
    gnutls_datum_t pem = { (unsigned char *)file->text, (unsigned int)file->len };
    g_autofree char *detail = NULL;
    int ret;

    if (!credential_is_there(ladder->findings, ladder->facts, file,
                             _("certificate revocation list")))
        return;
    ret =
        gnutls_x509_crl_list_import2(&ladder->crls, &ladder->n_crls, &pem, GNUTLS_X509_FMT_PEM, 0);
    if (ret >= 0 && ladder->n_crls > 0)
        return;
    ladder->crls = NULL;
    ladder->n_crls = 0;
    detail = g_strdup_printf(_("%1$s is not a revocation list in PEM form: %2$s"), file->path,
                             gnutls_strerror(ret));
    problem(
        ladder, PROBLEM_CRL_INVALID, detail,
        g_strdup_printf(_("get the list from its authority again, or remove %1$s"), file->path));
}

/* ---- the authority ---- */

static gboolean issued_ours(const Ladder *ladder, gnutls_x509_crt_t ca)
{
    for (guint i = 0; i < ladder->chain.count; i++) {
        if (gnutls_x509_crt_check_issuer(ladder->chain.certs[i], ca) == 1)
            return TRUE;
    }
    return FALSE;
}

/* Of one that vouches for us. */
static void judge_ca_dates(Ladder *ladder, gnutls_x509_crt_t ca, const char *what)
{
    g_autoptr(GError) error = NULL;

    if (tls_certificate_check_dates(ca, what, ladder->facts->now, &error))
        return;
    if (gnutls_x509_crt_get_activation_time(ca) > ladder->facts->now)
        problem(ladder, PROBLEM_CERTIFICATE_EARLY, error->message, set_clock());
    else
        problem(
            ladder, PROBLEM_CA_EXPIRED, error->message,
            g_strdup_printf(_("make the authority's certificate anew, and put it at %1$s on all "
                              "hosts"),
                            ladder->facts->ca.path));
}

static void judge_cas(Ladder *ladder)
{
    for (guint i = 0; i < ladder->cas.count; i++) {
        gnutls_x509_crt_t ca = ladder->cas.certs[i];
        g_autofree char *subject = tls_certificate_display_name(ca);
        g_autofree char *what =
            g_strdup_printf(_("CA certificate %1$s (%2$s)"), ladder->facts->ca.path, subject);
        g_autoptr(GError) error = NULL;

        if (!tls_certificate_check_is_ca(ca, what, &error))
            problem(
                ladder, PROBLEM_CA_INVALID, error->message,
                g_strdup_printf(_("put the certificate of the authority at %1$s, made with \"ca\" "
                                  "and \"cert_signing_key\""),
                                ladder->facts->ca.path));
        else if (issued_ours(ladder, ca))
            judge_ca_dates(ladder, ca, what);
    }
}

static void judge_crls(Ladder *ladder)
{
    const CredentialFile *file = &ladder->facts->crl;

    for (guint i = 0; i < ladder->n_crls; i++) {
        time_t next = gnutls_x509_crl_get_next_update(ladder->crls[i]);
        guint status = 0;
        int ret = gnutls_x509_crl_verify(ladder->crls[i], ladder->cas.certs, (int)ladder->cas.count,
                                         0, &status);
        g_autofree char *detail = NULL;

        if (ret < 0 || (status & ~(guint)(GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED |
                                          GNUTLS_CERT_INVALID)) != 0) {
            detail = g_strdup_printf(_("the revocation list %1$s is not of an authority in %2$s"),
                                     file->path, ladder->facts->ca.path);
            problem(ladder, PROBLEM_CRL_INVALID, detail,
                    g_strdup_printf(_("get the list from its authority again, or remove %1$s"),
                                    file->path));
        } else if (next != (time_t)-1 && next < ladder->facts->now) {
            detail = g_strdup_printf(_("the revocation list %1$s is outdated"), file->path);
            problem(ladder, PROBLEM_CRL_OUTDATED, detail,
                    g_strdup_printf(_("get the next list from its authority, and put it at %1$s"),
                                    file->path));
        }
    }
}

/* ---- ours ---- */

static void judge_soon(Ladder *ladder, gnutls_x509_crt_t cert, const char *what)
{
    gint64 left = (gint64)gnutls_x509_crt_get_expiration_time(cert) - (gint64)ladder->facts->now;
    gint64 days = left / DAY_SECONDS;
    g_autofree char *detail = NULL;

    if (days >= CREDENTIAL_SOON_DAYS)
        return;
    detail = g_strdup_printf(ngettext("%1$s expires in %2$d day", "%1$s expires in %2$d days",
                                      (gulong)days),
                             what, (int)days);
    problem(ladder, PROBLEM_CERTIFICATE_EXPIRES_SOON, detail, anew(ladder));
}

static void judge_dates(Ladder *ladder, gnutls_x509_crt_t cert, const char *what)
{
    g_autoptr(GError) error = NULL;

    if (tls_certificate_check_dates(cert, what, ladder->facts->now, &error))
        judge_soon(ladder, cert, what);
    else if (gnutls_x509_crt_get_activation_time(cert) > ladder->facts->now)
        problem(ladder, PROBLEM_CERTIFICATE_EARLY, error->message, set_clock());
    else
        problem(ladder, PROBLEM_CERTIFICATE_EXPIRED, error->message, anew(ladder));
}

static void judge_purpose(Ladder *ladder, gnutls_x509_crt_t cert, const char *what)
{
    g_autoptr(GError) error = NULL;

    if (!tls_certificate_check_is_no_ca(cert, what, &error) ||
        !tls_certificate_check_usage(cert, what, &error) ||
        !tls_certificate_check_purpose(cert, what, ladder->facts->endpoint, &error))
        problem(ladder, PROBLEM_CERTIFICATE_PURPOSE, error->message, anew(ladder));
}

static void judge_name(Ladder *ladder, gnutls_x509_crt_t cert, const char *what)
{
    const char *hostname = ladder->facts->hostname;
    g_autoptr(GError) error = NULL;

    if (!hostname || tls_certificate_check_hostname(cert, what, hostname, &error))
        return;
    problem(
        ladder, PROBLEM_CERTIFICATE_NAME, error->message,
        g_strdup_printf(_("set host_name in virtpostcopyd.conf to a name in the certificate, or "
                          "have %1$s issued with dns_name = \"%2$s\""),
                        ladder->facts->cert.path, hostname));
}

static void judge_trust(Ladder *ladder, const char *what)
{
    guint status = 0;
    int ret = gnutls_x509_crt_list_verify(
        ladder->chain.certs, (int)ladder->chain.count, ladder->cas.certs, (int)ladder->cas.count,
        ladder->crls, (int)ladder->n_crls,
        GNUTLS_PROFILE_TO_VFLAGS(GNUTLS_PROFILE_MEDIUM) | GNUTLS_VERIFY_DISABLE_TIME_CHECKS,
        &status);
    g_autoptr(GError) error = NULL;

    /* No verdict at all is none in its favour. */
    if (ret < 0)
        status = GNUTLS_CERT_INVALID;
    if (tls_certificate_check_status(status, what, ladder->facts->ca.path, &error))
        return;
    problem(
        ladder,
        status & GNUTLS_CERT_REVOKED ? PROBLEM_CERTIFICATE_REVOKED : PROBLEM_CERTIFICATE_UNTRUSTED,
        error->message,
        status & GNUTLS_CERT_REVOKED
            ? anew(ladder)
            : g_strdup_printf(_("put the certificate of the authority that signed it into %1$s on "
                                "both hosts, or have %2$s issued by the one that is there"),
                              ladder->facts->ca.path, ladder->facts->cert.path));
}

static gboolean same_key(const Ladder *ladder)
{
    guint8 ours[64], theirs[64];
    size_t ours_len = sizeof ours, theirs_len = sizeof theirs;

    return gnutls_x509_crt_get_key_id(ladder->chain.certs[0], GNUTLS_KEYID_USE_SHA256, ours,
                                      &ours_len) == 0 &&
           gnutls_x509_privkey_get_key_id(ladder->key, GNUTLS_KEYID_USE_SHA256, theirs,
                                          &theirs_len) == 0 &&
           ours_len == theirs_len && memcmp(ours, theirs, ours_len) == 0;
}

static void judge_key(Ladder *ladder)
{
    const CredentialFacts *facts = ladder->facts;
    g_autofree char *detail = NULL;

    if (!ladder->key || same_key(ladder))
        return;
    detail = g_strdup_printf(_("private key %1$s does not belong to certificate %2$s"),
                             facts->key.path, facts->cert.path);
    problem(ladder, PROBLEM_KEY_MISMATCH, detail,
            g_strdup_printf(_("put the key that the certificate was made with at %1$s, or have a "
                              "certificate made for this one"),
                            facts->key.path));
}

static void judge_ours(Ladder *ladder)
{
    gnutls_x509_crt_t cert = ladder->chain.certs[0];
    g_autofree char *what = g_strdup_printf(_("certificate %1$s"), ladder->facts->cert.path);

    for (guint i = 0; i < ladder->chain.count; i++)
        judge_dates(ladder, ladder->chain.certs[i], what);
    judge_purpose(ladder, cert, what);
    if (ladder->cas.count > 0)
        judge_trust(ladder, what);
    judge_key(ladder);
    judge_name(ladder, cert, what);
}

static void pass(const Ladder *ladder)
{
    g_autofree char *name = tls_certificate_display_name(ladder->chain.certs[0]);
    time_t until = gnutls_x509_crt_get_expiration_time(ladder->chain.certs[0]);
    g_autoptr(GDateTime) when = g_date_time_new_from_unix_utc((gint64)until);
    g_autofree char *day = when ? g_date_time_format(when, "%Y-%m-%d") : g_strdup("?");
    g_autofree char *detail = g_strdup_printf(_("%1$s, until %2$s"), name, day);

    preflight_pass(ladder->findings, ladder->check, detail);
}

void certificates_judge(GPtrArray *findings, const CredentialFacts *facts)
{
    g_auto(Ladder) ladder = { .findings = findings,
                              .facts = facts,
                              .check = credentials_check(facts),
                              .failures = findings->len };

    load_certs(&ladder, &facts->ca, _("CA certificate"), FALSE, &ladder.cas);
    load_certs(&ladder, &facts->cert, _("certificate"), TRUE, &ladder.chain);
    load_key(&ladder);
    load_crl(&ladder);
    judge_cas(&ladder);
    if (ladder.cas.count > 0)
        judge_crls(&ladder);
    if (ladder.chain.count > 0)
        judge_ours(&ladder);
    if (ladder.chain.count > 0 && findings->len == ladder.failures)
        pass(&ladder);
}
