/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Certificates and keys before they are used: each thing that can be wrong is found, alone, with its
 * remedy. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "preflight/credentials.h"
#include "tests/support/findings.h"
#include "tests/support/pki-gen.h"

#define DAY (24 * 60 * 60)
#define HOST "hostb.test"

/* A host's four files, good ones. */
typedef struct {
    PkiIdentity *ca;
    PkiSpec spec;
    CredentialFacts facts;
} Host;

static void set_text(CredentialFile *file, const char *path, char *text)
{
    g_free(file->text);
    file->path = path;
    file->text = text;
    file->len = strlen(text);
    file->mode = 0600;
}

static void issue(Host *host)
{
    g_autoptr(PkiIdentity) identity = pki_identity_new(&host->spec);

    set_text(&host->facts.cert, "/pki/cert.pem", pki_cert_pem(identity));
    set_text(&host->facts.key, "/pki/key.pem", pki_key_pem(identity));
}

static void host_init(Host *host)
{
    *host = (Host){ .ca = pki_identity_new(&(PkiSpec){
                        .common_name = "CA", .ca = TRUE, .ends_in_s = 400 * DAY }) };
    host->spec = (PkiSpec){ .common_name = HOST,
                            .issuer = host->ca,
                            .dns = { HOST },
                            .ends_in_s = 100 * DAY,
                            .purposes = { GNUTLS_KP_TLS_WWW_SERVER } };
    host->facts = (CredentialFacts){ .endpoint = TLS_ENDPOINT_SERVER,
                                     .hostname = HOST,
                                     .crl = { .path = "/pki/crl.pem", .optional = TRUE },
                                     .now = time(NULL) };
    set_text(&host->facts.ca, "/pki/ca.pem", pki_cert_pem(host->ca));
    issue(host);
}

static void host_clear(Host *host)
{
    credential_facts_clear(&host->facts);
    pki_identity_free(host->ca);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Host, host_clear)

static GPtrArray *judge(const Host *host)
{
    GPtrArray *findings = findings_new();

    credentials_judge(findings, &host->facts);
    return findings;
}

static void expect(const Host *host, PreflightProblem problem, const char *detail,
                   const char *remedy)
{
    g_autoptr(GPtrArray) findings = judge(host);

    assert_problem(findings, problem, detail, remedy);
}

static void test_good_files_pass_on_both_ends(void **state)
{
    g_auto(Host) host = { 0 };

    host_init(&host);
    {
        g_autoptr(GPtrArray) findings = judge(&host);

        assert_passes(findings, CHECK_SERVER_CREDENTIALS);
        assert_non_null(strstr(findings_find(findings, "server-credentials")->detail, HOST));
    }
    host.facts.endpoint = TLS_ENDPOINT_CLIENT;
    host.facts.hostname = NULL;
    host.spec.purposes[0] = GNUTLS_KP_TLS_WWW_CLIENT;
    issue(&host);
    {
        g_autoptr(GPtrArray) findings = judge(&host);

        assert_passes(findings, CHECK_CLIENT_CREDENTIALS);
    }
}

static void test_dates(void **state)
{
    g_auto(Host) host = { 0 };

    host_init(&host);
    host.spec.starts_in_s = -10 * DAY;
    host.spec.ends_in_s = -DAY;
    issue(&host);
    expect(&host, PROBLEM_CERTIFICATE_EXPIRED, "/pki/cert.pem expired on", "issue /pki/cert.pem anew");
    host.spec.starts_in_s = DAY;
    host.spec.ends_in_s = 100 * DAY;
    issue(&host);
    expect(&host, PROBLEM_CERTIFICATE_EARLY, "this host's clock", "timedatectl set-ntp true");
    host.spec.starts_in_s = 0;
    host.spec.ends_in_s = 29 * DAY + 60;
    issue(&host);
    expect(&host, PROBLEM_CERTIFICATE_EXPIRES_SOON, "expires in 29 days", "tls_www_server");
    host.spec.ends_in_s = 30 * DAY + 60;
    issue(&host);
    {
        g_autoptr(GPtrArray) findings = judge(&host);

        assert_passes(findings, CHECK_SERVER_CREDENTIALS);
    }
}

static void test_purpose(void **state)
{
    g_auto(Host) host = { 0 };

    host_init(&host);
    host.spec.purposes[0] = GNUTLS_KP_TLS_WWW_CLIENT;
    issue(&host);
    expect(&host, PROBLEM_CERTIFICATE_PURPOSE, "not for a TLS server", "tls_www_server");
    host.facts.endpoint = TLS_ENDPOINT_CLIENT;
    host.spec.purposes[0] = GNUTLS_KP_TLS_WWW_SERVER;
    issue(&host);
    expect(&host, PROBLEM_CERTIFICATE_PURPOSE, "not for a TLS client", "tls_www_client");
    host.spec.purposes[0] = NULL;
    host.spec.key_usage = GNUTLS_KEY_KEY_ENCIPHERMENT;
    issue(&host);
    expect(&host, PROBLEM_CERTIFICATE_PURPOSE, "signatures", "signing_key");
    host.spec.key_usage = 0;
    host.spec.ca = TRUE;
    issue(&host);
    expect(&host, PROBLEM_CERTIFICATE_PURPOSE, "authority, not of a host", "anew");
}

static void test_name(void **state)
{
    g_auto(Host) host = { 0 };

    host_init(&host);
    host.facts.hostname = "elsewhere.test";
    expect(&host, PROBLEM_CERTIFICATE_NAME, "is for hostb.test, not for 'elsewhere.test'",
           "dns_name = \"elsewhere.test\"");
    host.facts.hostname = NULL;
    {
        g_autoptr(GPtrArray) findings = judge(&host);

        assert_passes(findings, CHECK_SERVER_CREDENTIALS);
    }
}

static void test_another_authority(void **state)
{
    g_autoptr(PkiIdentity) other =
        pki_identity_new(&(PkiSpec){ .common_name = "Other", .ca = TRUE, .ends_in_s = 400 * DAY });
    g_auto(Host) host = { 0 };

    host_init(&host);
    set_text(&host.facts.ca, "/pki/ca.pem", pki_cert_pem(other));
    expect(&host, PROBLEM_CERTIFICATE_UNTRUSTED, "unknown authority", "into /pki/ca.pem");
}

static void test_an_authority_must_be_one(void **state)
{
    g_autoptr(PkiIdentity) fake = pki_identity_new(&(PkiSpec){ .common_name = "CA" });
    g_auto(Host) host = { 0 };
    g_autoptr(GPtrArray) findings = NULL;

    host_init(&host);
    set_text(&host.facts.ca, "/pki/ca.pem", pki_cert_pem(fake));
    findings = judge(&host);
    assert_int_equal(findings_count(findings, "ca-invalid"), 1);
    assert_int_equal(findings_count(findings, "certificate-untrusted"), 1);
    assert_non_null(strstr(findings_find(findings, "ca-invalid")->remedy, "cert_signing_key"));
}

static void test_an_authority_that_has_expired_matters_if_it_is_ours(void **state)
{
    g_autoptr(PkiIdentity) old = pki_identity_new(&(PkiSpec){
        .common_name = "Old", .ca = TRUE, .starts_in_s = -10 * DAY, .ends_in_s = -DAY });
    g_autofree char *old_pem = pki_cert_pem(old);
    g_auto(Host) host = { 0 };
    g_autofree char *both = NULL;

    host_init(&host);
    both = g_strconcat(host.facts.ca.text, old_pem, NULL);
    set_text(&host.facts.ca, "/pki/ca.pem", g_strdup(both));
    {
        g_autoptr(GPtrArray) findings = judge(&host);

        assert_passes(findings, CHECK_SERVER_CREDENTIALS);
    }
    host.spec.issuer = old;
    issue(&host);
    expect(&host, PROBLEM_CA_EXPIRED, "(CN=Old) expired on", "authority's certificate anew");
}

static void test_an_authority_of_tomorrow_means_a_wrong_clock(void **state)
{
    g_autoptr(PkiIdentity) early = pki_identity_new(
        &(PkiSpec){ .common_name = "Early", .ca = TRUE, .starts_in_s = DAY, .ends_in_s = 9 * DAY });
    g_auto(Host) host = { 0 };

    host_init(&host);
    set_text(&host.facts.ca, "/pki/ca.pem", pki_cert_pem(early));
    host.spec.issuer = early;
    issue(&host);
    expect(&host, PROBLEM_CERTIFICATE_EARLY, "CA certificate /pki/ca.pem", "timedatectl");
}

static void test_keys(void **state)
{
    g_autoptr(PkiIdentity) other = pki_identity_new(&(PkiSpec){ .common_name = "x" });
    g_auto(Host) host = { 0 };

    host_init(&host);
    host.facts.key.mode = 0644;
    expect(&host, PROBLEM_KEY_PERMISSIONS, "0644", "chmod 600 /pki/key.pem");
    set_text(&host.facts.key, "/pki/key.pem", pki_key_pem(other));
    expect(&host, PROBLEM_KEY_MISMATCH, "does not belong", "put the key");
    set_text(&host.facts.key, "/pki/key.pem", g_strdup("-----BEGIN PRIVATE KEY-----\nxx\n"));
    expect(&host, PROBLEM_CREDENTIAL_MALFORMED, "private key /pki/key.pem", "without a password");
}

static void test_files_that_are_missing_or_garbled(void **state)
{
    g_auto(Host) host = { 0 };

    host_init(&host);
    set_text(&host.facts.cert, "/pki/cert.pem", g_strdup("hello"));
    expect(&host, PROBLEM_CREDENTIAL_MALFORMED, "/pki/cert.pem holds no certificate", "PEM form");
    g_clear_pointer(&host.facts.cert.text, g_free);
    host.facts.cert.error = g_strdup("/pki/cert.pem: No such file or directory");
    expect(&host, PROBLEM_CREDENTIAL_FILE, "No such file", "put it at /pki/cert.pem");
    g_clear_pointer(&host.facts.cert.error, g_free);
    issue(&host);
    set_text(&host.facts.ca, "/pki/ca.pem", g_strdup(""));
    expect(&host, PROBLEM_CREDENTIAL_MALFORMED, "/pki/ca.pem holds no certificate", "/pki/ca.pem");
}

static void test_revocation(void **state)
{
    g_autoptr(PkiIdentity) other = pki_identity_new(&(PkiSpec){ .common_name = "x", .ca = TRUE });
    g_auto(Host) host = { 0 };
    g_autoptr(PkiIdentity) revoked = NULL;

    host_init(&host);
    revoked = pki_identity_new(&host.spec);
    set_text(&host.facts.crl, "/pki/crl.pem", pki_crl_pem(host.ca, revoked, DAY));
    {
        g_autoptr(GPtrArray) findings = judge(&host);

        assert_passes(findings, CHECK_SERVER_CREDENTIALS);
    }
    set_text(&host.facts.crl, "/pki/crl.pem", g_strdup("garbage"));
    expect(&host, PROBLEM_CRL_INVALID, "not a revocation list", "remove /pki/crl.pem");
    set_text(&host.facts.crl, "/pki/crl.pem", pki_crl_pem(other, revoked, DAY));
    expect(&host, PROBLEM_CRL_INVALID, "not of an authority", "remove /pki/crl.pem");
    set_text(&host.facts.crl, "/pki/crl.pem", pki_crl_pem(host.ca, revoked, -60));
    expect(&host, PROBLEM_CRL_OUTDATED, "outdated", "next list");
    set_text(&host.facts.crl, "/pki/crl.pem", pki_crl_pem(host.ca, revoked, DAY));
    set_text(&host.facts.cert, "/pki/cert.pem", pki_cert_pem(revoked));
    set_text(&host.facts.key, "/pki/key.pem", pki_key_pem(revoked));
    expect(&host, PROBLEM_CERTIFICATE_REVOKED, "revoked", "anew");
}

static void test_all_that_is_wrong_is_told(void **state)
{
    g_auto(Host) host = { 0 };
    g_autoptr(GPtrArray) findings = NULL;

    host_init(&host);
    host.spec.ends_in_s = -60;
    host.spec.starts_in_s = -DAY;
    host.spec.purposes[0] = GNUTLS_KP_TLS_WWW_CLIENT;
    issue(&host);
    host.facts.hostname = "elsewhere.test";
    host.facts.key.mode = 0640;
    findings = judge(&host);
    assert_int_equal(findings->len, 4);
    assert_int_equal(findings_count(findings, "certificate-expired"), 1);
    assert_int_equal(findings_count(findings, "certificate-purpose"), 1);
    assert_int_equal(findings_count(findings, "certificate-name"), 1);
    assert_int_equal(findings_count(findings, "key-permissions"), 1);
}

/* ---- pre-shared keys ---- */

#define KEYS "a:00112233445566778899aabbccddeeff\nb:00112233445566778899aabbccddeeff\n"

static void test_pre_shared_keys(void **state)
{
    g_auto(CredentialFacts) facts = { .endpoint = TLS_ENDPOINT_CLIENT, .psk = TRUE,
                                      .now = time(NULL) };
    static const struct {
        TlsEndpoint endpoint;
        const char *text, *identity;
        mode_t mode;
        PreflightProblem problem;
        const char *detail, *remedy;
    } rows[] = {
        { TLS_ENDPOINT_CLIENT, KEYS, NULL, 0600, PROBLEM_MAX, NULL, NULL },
        { TLS_ENDPOINT_CLIENT, KEYS, "b", 0400, PROBLEM_MAX, NULL, NULL },
        { TLS_ENDPOINT_SERVER, KEYS, "c", 0600, PROBLEM_MAX, NULL, NULL },
        { TLS_ENDPOINT_CLIENT, KEYS, "c", 0600, PROBLEM_PSK_IDENTITY, "identity \"c\"",
          "psktool -u c -p /keys" },
        { TLS_ENDPOINT_CLIENT, KEYS, "a", 0644, PROBLEM_KEY_PERMISSIONS, "0644", "chmod 600 /keys" },
        { TLS_ENDPOINT_SERVER, "a\n", NULL, 0600, PROBLEM_CREDENTIAL_MALFORMED, "/keys", "psktool" },
        { TLS_ENDPOINT_SERVER, "", NULL, 0600, PROBLEM_CREDENTIAL_MALFORMED, "/keys", "psktool" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GPtrArray) findings = findings_new();

        set_text(&facts.psk_file, "/keys", g_strdup(rows[i].text));
        facts.psk_file.mode = rows[i].mode;
        facts.psk_identity = rows[i].identity;
        facts.endpoint = rows[i].endpoint;
        credentials_judge(findings, &facts);
        if (rows[i].problem == PROBLEM_MAX)
            assert_passes(findings, rows[i].endpoint == TLS_ENDPOINT_SERVER
                                        ? CHECK_SERVER_CREDENTIALS
                                        : CHECK_CLIENT_CREDENTIALS);
        else
            assert_problem(findings, rows[i].problem, rows[i].detail, rows[i].remedy);
    }
}

/* ---- files ---- */

static void test_files_are_read_below_a_root(void **state)
{
    char *dir = pki_dir_new();
    g_auto(Host) host = { 0 };
    g_auto(CredentialFacts) facts = { .endpoint = TLS_ENDPOINT_SERVER,
                                      .ca = { .path = "/ca.pem" },
                                      .crl = { .path = "/crl.pem", .optional = TRUE },
                                      .cert = { .path = "/cert.pem" },
                                      .key = { .path = "/key.pem" },
                                      .now = time(NULL) };
    g_autoptr(GPtrArray) findings = findings_new();

    host_init(&host);
    g_free(pki_dir_write(dir, "ca.pem", host.facts.ca.text, -1));
    g_free(pki_dir_write(dir, "cert.pem", host.facts.cert.text, -1));
    credentials_read(dir, &facts);
    credentials_judge(findings, &facts);
    assert_problem(findings, PROBLEM_CREDENTIAL_FILE, "/key.pem: No such file", "/key.pem");
    assert_null(facts.crl.error);
    pki_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_files_pass_on_both_ends),
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_purpose),
        cmocka_unit_test(test_name),
        cmocka_unit_test(test_another_authority),
        cmocka_unit_test(test_an_authority_must_be_one),
        cmocka_unit_test(test_an_authority_that_has_expired_matters_if_it_is_ours),
        cmocka_unit_test(test_an_authority_of_tomorrow_means_a_wrong_clock),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_files_that_are_missing_or_garbled),
        cmocka_unit_test(test_revocation),
        cmocka_unit_test(test_all_that_is_wrong_is_told),
        cmocka_unit_test(test_pre_shared_keys),
        cmocka_unit_test(test_files_are_read_below_a_root),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
