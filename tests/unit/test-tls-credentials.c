/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Credentials: every bad file is refused when it is loaded, and the error names it. */
#include "config.h"

#include "tls/credentials.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/pki-gen.h"
#include "tls/credentials_priv.h"

/* What the log got: warnings are part of the behaviour here. */
static GString *logged;

static GLogWriterOutput log_to_string(GLogLevelFlags level, const GLogField *fields, gsize n,
                                      gpointer unused)
{
    for (gsize i = 0; i < n; i++) {
        if (g_str_equal(fields[i].key, "MESSAGE"))
            g_string_append_printf(logged, "%s\n", (const char *)fields[i].value);
    }
    return G_LOG_WRITER_HANDLED;
}

static int setup(void **state)
{
    *state = pki_dir_new();
    return 0;
}

static int teardown(void **state)
{
    pki_dir_remove(*state);
    return 0;
}

/* Writes and opens. */
static void add_file(TlsFiles *files, TlsFileKind kind, const char *dir, const char *name,
                     const char *text)
{
    g_autofree char *path = pki_dir_write(dir, name, text, -1);
    g_autoptr(GError) error = NULL;

    if (!tls_files_open(files, kind, path, FALSE, &error))
        fail_msg("%s", error->message);
}

static PkiIdentity *make_ca(const char *name)
{
    return pki_identity_new(&(PkiSpec){ .common_name = name, .ca = TRUE });
}

/* The files of a host: its CA's certificate, its own, its key. */
static void add_host(TlsFiles *files, const char *dir, const PkiIdentity *ca,
                     const PkiIdentity *host)
{
    g_autofree char *ca_pem = pki_cert_pem(ca);
    g_autofree char *cert_pem = pki_cert_pem(host);
    g_autofree char *key_pem = pki_key_pem(host);

    add_file(files, TLS_FILE_CA_CERT, dir, "cacert.pem", ca_pem);
    add_file(files, TLS_FILE_CERT, dir, "cert.pem", cert_pem);
    add_file(files, TLS_FILE_KEY, dir, "key.pem", key_pem);
}

static void assert_refused(const TlsCredentials *creds, const GError *error, int code,
                           const char *file, const char *text, const char *row)
{
    if (creds)
        fail_msg("%s: accepted", row);
    if (!g_error_matches(error, TLS_ERROR, code))
        fail_msg("%s: code %d: %s", row, error->code, error->message);
    if (!strstr(error->message, file) || !strstr(error->message, text))
        fail_msg("%s: '%s' does not say '%s' and '%s'", row, error->message, file, text);
}

#define CLIENT_PURPOSE { GNUTLS_KP_TLS_WWW_CLIENT }
#define SERVER_PURPOSE { GNUTLS_KP_TLS_WWW_SERVER }
#define DAY 86400

/* Where ca or own are not said, they are good. */
static const struct {
    const char *row;
    TlsEndpoint endpoint;
    PkiSpec ca;
    PkiSpec own;
    const char *file;
    const char *text;
} bad_certificates[] = {
    { "expired", TLS_ENDPOINT_SERVER, { 0 },
      { .starts_in_s = -3 * DAY, .ends_in_s = -2 * DAY }, "certificate /",
      "/cert.pem expired on 20" },
    { "not yet valid", TLS_ENDPOINT_SERVER, { 0 },
      { .starts_in_s = DAY, .ends_in_s = 2 * DAY }, "/cert.pem", "is not valid before 20" },
    { "is a CA", TLS_ENDPOINT_CLIENT, { 0 },
      { .ca = TRUE, .key_usage = GNUTLS_KEY_DIGITAL_SIGNATURE }, "/cert.pem", "of an authority" },
    { "cannot sign", TLS_ENDPOINT_SERVER, { 0 },
      { .key_usage = GNUTLS_KEY_KEY_ENCIPHERMENT }, "/cert.pem", "digitalSignature" },
    { "client's on a server", TLS_ENDPOINT_SERVER, { 0 },
      { .purposes = CLIENT_PURPOSE }, "/cert.pem", "is not for a TLS server" },
    { "server's on a client", TLS_ENDPOINT_CLIENT, { 0 },
      { .purposes = SERVER_PURPOSE }, "/cert.pem", "is not for a TLS client" },
    { "for mail", TLS_ENDPOINT_CLIENT, { 0 },
      { .purposes = { GNUTLS_KP_EMAIL_PROTECTION } }, "/cert.pem", "is not for a TLS client" },
    { "short RSA key", TLS_ENDPOINT_SERVER, { 0 }, { .rsa_bits = 1024 }, "/cert.pem",
      "too short a key" },
    { "CA expired", TLS_ENDPOINT_SERVER, { .starts_in_s = -3 * DAY, .ends_in_s = -2 * DAY }, { 0 },
      "/cacert.pem", "expired on 20" },
    { "CA not yet valid", TLS_ENDPOINT_SERVER, { .starts_in_s = DAY, .ends_in_s = 2 * DAY }, { 0 },
      "/cacert.pem", "is not valid before 20" },
    { "CA without flag", TLS_ENDPOINT_SERVER,
      { .common_name = "no flag", .key_usage = GNUTLS_KEY_KEY_CERT_SIGN }, { 0 }, "/cacert.pem",
      "CA flag" },
    { "CA without constraints", TLS_ENDPOINT_SERVER, { .no_constraints = TRUE }, { 0 },
      "/cacert.pem", "CA flag" },
    { "CA that may not sign", TLS_ENDPOINT_SERVER,
      { .key_usage = GNUTLS_KEY_DIGITAL_SIGNATURE }, { 0 }, "/cacert.pem",
      "may not sign certificates" },
};

static void bad_certificates_are_named(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad_certificates); i++) {
        PkiSpec ca_spec = bad_certificates[i].ca;
        PkiSpec own_spec = bad_certificates[i].own;
        g_auto(TlsFiles) files = TLS_FILES_INIT;
        g_autoptr(PkiIdentity) ca = NULL;
        g_autoptr(PkiIdentity) own = NULL;
        g_autoptr(GError) error = NULL;
        g_autoptr(TlsCredentials) creds = NULL;

        /* A name in the row stands for "as written". */
        if (!ca_spec.common_name) {
            ca_spec.common_name = "Test CA";
            ca_spec.ca = TRUE;
        }
        ca = pki_identity_new(&ca_spec);
        own_spec.common_name = "host";
        own_spec.issuer = ca;
        own = pki_identity_new(&own_spec);
        add_host(&files, *state, ca, own);
        creds = tls_credentials_new_x509(bad_certificates[i].endpoint, &files, &error);
        assert_refused(creds, error, TLS_ERROR_CERTIFICATE, bad_certificates[i].file,
                       bad_certificates[i].text, bad_certificates[i].row);
    }
}

static void good_certificates_are_taken(void **state)
{
    static const struct {
        TlsEndpoint endpoint;
        PkiSpec own;
    } rows[] = {
        { TLS_ENDPOINT_SERVER, { 0 } },
        { TLS_ENDPOINT_CLIENT, { 0 } },
        { TLS_ENDPOINT_SERVER, { .purposes = SERVER_PURPOSE } },
        { TLS_ENDPOINT_CLIENT, { .purposes = CLIENT_PURPOSE } },
        { TLS_ENDPOINT_CLIENT, { .purposes = { GNUTLS_KP_TLS_WWW_SERVER,
                                               GNUTLS_KP_TLS_WWW_CLIENT } } },
        { TLS_ENDPOINT_SERVER, { .purposes = { GNUTLS_KP_ANY } } },
        { TLS_ENDPOINT_SERVER, { .key_usage = PKI_NO_KEY_USAGE, .no_constraints = TRUE } },
        { TLS_ENDPOINT_SERVER, { .rsa_bits = 2048 } },
    };
    g_autoptr(PkiIdentity) ca = make_ca("Test CA");

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        PkiSpec spec = rows[i].own;
        g_auto(TlsFiles) files = TLS_FILES_INIT;
        g_autoptr(PkiIdentity) own = NULL;
        g_autoptr(GError) error = NULL;
        g_autoptr(TlsCredentials) creds = NULL;

        spec.common_name = "host";
        spec.issuer = ca;
        own = pki_identity_new(&spec);
        add_host(&files, *state, ca, own);
        creds = tls_credentials_new_x509(rows[i].endpoint, &files, &error);
        if (!creds)
            fail_msg("row %zu: %s", i, error->message);
        assert_string_equal(tls_credentials_own_name(creds), "CN=host");
    }
}

static void descriptors_are_read_from_the_start_and_stay_open(void **state)
{
    g_autoptr(PkiIdentity) ca = make_ca("Test CA");
    g_autoptr(PkiIdentity) own = pki_identity_new(&(PkiSpec){ .common_name = "h", .issuer = ca });
    g_auto(TlsFiles) files = TLS_FILES_INIT;

    add_host(&files, *state, ca, own);
    assert_true(lseek(files.fds[TLS_FILE_KEY], 10, SEEK_SET) == 10);
    for (int i = 0; i < 2; i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(TlsCredentials) creds =
            tls_credentials_new_x509(TLS_ENDPOINT_SERVER, &files, &error);

        if (!creds)
            fail_msg("%s", error->message);
    }
    assert_true(lseek(files.fds[TLS_FILE_KEY], 0, SEEK_CUR) == 10);
    assert_true(fcntl(files.fds[TLS_FILE_KEY], F_GETFD) & FD_CLOEXEC);
}

/* With it one could read the other's tickets. */
static void secrets_are_no_two_alike(void **state)
{
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    g_autoptr(TlsCredentials) one = NULL;
    g_autoptr(TlsCredentials) two = NULL;
    const gnutls_datum_t *secret;

    add_file(&files, TLS_FILE_PSK, *state, "keys.psk", "host:00112233445566778899aabbccddeeff\n");
    one = tls_credentials_new_psk(TLS_ENDPOINT_SERVER, &files, NULL, NULL);
    two = tls_credentials_new_psk(TLS_ENDPOINT_SERVER, &files, NULL, NULL);
    assert_non_null(one);
    assert_non_null(two);
    secret = tls_credentials_secret(one);
    assert_true(secret->size >= 32);
    assert_int_equal(secret->size, tls_credentials_secret(two)->size);
    assert_memory_not_equal(secret->data, tls_credentials_secret(two)->data, secret->size);
}

static void unnamed_descriptors_are_called_by_their_kind(void **state)
{
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    g_autoptr(GError) error = NULL;
    g_autofree char *path = pki_dir_write(*state, "junk", "junk\n", -1);

    files.fds[TLS_FILE_CA_CERT] = open(path, O_RDONLY | O_CLOEXEC);
    assert_null(tls_credentials_new_x509(TLS_ENDPOINT_SERVER, &files, &error));
    assert_non_null(strstr(error->message, "CA certificate ca-cert"));
}

static void own_chain_may_hold_an_intermediate_authority(void **state)
{
    g_autoptr(PkiIdentity) root = make_ca("Root");
    g_autoptr(PkiIdentity) middle = pki_identity_new(
        &(PkiSpec){ .common_name = "Middle", .issuer = root, .ca = TRUE });
    g_autoptr(PkiIdentity) stale = pki_identity_new(&(PkiSpec){
        .common_name = "Stale", .issuer = root, .ca = TRUE, .ends_in_s = -60 });
    const PkiIdentity *const middles[] = { middle, stale };

    for (gsize i = 0; i < G_N_ELEMENTS(middles); i++) {
        g_autoptr(PkiIdentity) own = pki_identity_new(
            &(PkiSpec){ .common_name = "host", .issuer = middles[i] });
        g_autofree char *own_pem = pki_cert_pem(own);
        g_autofree char *middle_pem = pki_cert_pem(middles[i]);
        g_autofree char *chain = g_strconcat(own_pem, middle_pem, NULL);
        g_auto(TlsFiles) files = TLS_FILES_INIT;
        g_autoptr(GError) error = NULL;
        g_autoptr(TlsCredentials) creds = NULL;

        add_host(&files, *state, root, own);
        add_file(&files, TLS_FILE_CERT, *state, "chain.pem", chain);
        creds = tls_credentials_new_x509(TLS_ENDPOINT_SERVER, &files, &error);
        if (middles[i] == stale)
            assert_refused(creds, error, TLS_ERROR_CERTIFICATE, "/chain.pem (CN=Stale)", "expired",
                           "stale intermediate");
        else if (!creds)
            fail_msg("%s", error->message);
    }
}

static void old_authority_beside_the_new_one_is_only_a_warning(void **state)
{
    g_autoptr(PkiIdentity) new_ca = make_ca("New");
    g_autoptr(PkiIdentity) old_ca = pki_identity_new(&(PkiSpec){
        .common_name = "Old", .ca = TRUE, .starts_in_s = -2 * DAY, .ends_in_s = -DAY });
    g_autoptr(PkiIdentity) own = pki_identity_new(
        &(PkiSpec){ .common_name = "host", .issuer = new_ca });
    g_autofree char *old_pem = pki_cert_pem(old_ca);
    g_autofree char *new_pem = pki_cert_pem(new_ca);
    g_autofree char *both = g_strconcat(old_pem, new_pem, NULL);
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    g_autoptr(GError) error = NULL;
    g_autoptr(TlsCredentials) creds = NULL;

    add_host(&files, *state, new_ca, own);
    add_file(&files, TLS_FILE_CA_CERT, *state, "both.pem", both);
    g_string_truncate(logged, 0);
    creds = tls_credentials_new_x509(TLS_ENDPOINT_SERVER, &files, &error);
    if (!creds)
        fail_msg("%s", error->message);
    assert_non_null(strstr(logged->str, "both.pem (CN=Old) expired on"));
}

static void certificate_of_another_authority_is_refused(void **state)
{
    g_autoptr(PkiIdentity) ca = make_ca("Test CA");
    g_autoptr(PkiIdentity) other = make_ca("Other CA");
    g_autoptr(PkiIdentity) own = pki_identity_new(
        &(PkiSpec){ .common_name = "h", .issuer = other });
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    g_autoptr(GError) error = NULL;
    g_autoptr(TlsCredentials) creds = NULL;

    add_host(&files, *state, ca, own);
    creds = tls_credentials_new_x509(TLS_ENDPOINT_SERVER, &files, &error);
    assert_refused(creds, error, TLS_ERROR_CERTIFICATE, "/cert.pem", "unknown authority", "other");
    assert_non_null(strstr(error->message, "/cacert.pem"));
}

static void key_of_another_certificate_is_refused(void **state)
{
    g_autoptr(PkiIdentity) ca = make_ca("Test CA");
    g_autoptr(PkiIdentity) own = pki_identity_new(&(PkiSpec){ .common_name = "a", .issuer = ca });
    g_autoptr(PkiIdentity) other = pki_identity_new(&(PkiSpec){ .common_name = "b", .issuer = ca });
    g_autofree char *key = pki_key_pem(other);
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    g_autoptr(GError) error = NULL;
    g_autoptr(TlsCredentials) creds = NULL;

    add_host(&files, *state, ca, own);
    add_file(&files, TLS_FILE_KEY, *state, "other-key.pem", key);
    creds = tls_credentials_new_x509(TLS_ENDPOINT_SERVER, &files, &error);
    assert_refused(creds, error, TLS_ERROR_CERTIFICATE, "/other-key.pem", "/cert.pem", "key");
}

static void key_with_a_password_is_refused(void **state)
{
    g_autoptr(PkiIdentity) ca = make_ca("Test CA");
    g_autoptr(PkiIdentity) own = pki_identity_new(&(PkiSpec){ .common_name = "a", .issuer = ca });
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    g_autoptr(GError) error = NULL;
    g_autoptr(TlsCredentials) creds = NULL;
    gnutls_datum_t pem;
    g_autofree char *text = NULL;

    assert_int_equal(gnutls_x509_privkey_export2_pkcs8(pki_key(own), GNUTLS_X509_FMT_PEM, "secret",
                                                       GNUTLS_PKCS_PBES2_AES_256, &pem), 0);
    text = g_strndup((const char *)pem.data, pem.size);
    gnutls_free(pem.data);
    add_host(&files, *state, ca, own);
    add_file(&files, TLS_FILE_KEY, *state, "locked.pem", text);
    creds = tls_credentials_new_x509(TLS_ENDPOINT_SERVER, &files, &error);
    assert_refused(creds, error, TLS_ERROR_FILE, "/locked.pem", "password", "password");
}

/* The same bad contents in the place of each file. */
static void bad_contents_name_the_file(void **state)
{
    static const struct {
        const char *text;
        const char *why;
    } rows[] = {
        { "", "is empty" },
        { "this is no PEM\n", "PEM" },
        { "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", "" },
        { "-----BEGIN CERTIFICATE-----\nMIIBAAAA\n-----END CERTIFICATE-----\n", "" },
        { "-----BEGIN CERTIFICATE-----\nMIIB", "" },
    };
    static const TlsFileKind kinds[] = { TLS_FILE_CA_CERT, TLS_FILE_CERT, TLS_FILE_KEY,
                                         TLS_FILE_CA_CRL };
    g_autoptr(PkiIdentity) ca = make_ca("Test CA");
    g_autoptr(PkiIdentity) own = pki_identity_new(&(PkiSpec){ .common_name = "h", .issuer = ca });

    for (gsize i = 0; i < G_N_ELEMENTS(rows) * G_N_ELEMENTS(kinds); i++) {
        const char *text = rows[i / G_N_ELEMENTS(kinds)].text;
        TlsFileKind kind = kinds[i % G_N_ELEMENTS(kinds)];
        g_auto(TlsFiles) files = TLS_FILES_INIT;
        g_autoptr(GError) error = NULL;

        add_host(&files, *state, ca, own);
        add_file(&files, kind, *state, "bad.pem", text);
        if (tls_credentials_new_x509(TLS_ENDPOINT_SERVER, &files, &error))
            fail_msg("'%s' taken as %s", text, tls_file_kind_name(kind));
        assert_true(error->domain == TLS_ERROR);
        if (!strstr(error->message, "/bad.pem") ||
            !strstr(error->message, rows[i / G_N_ELEMENTS(kinds)].why))
            fail_msg("%s", error->message);
    }
}

static void absent_files_are_named_by_kind(void **state)
{
    static const struct {
        TlsFileKind kind;
        const char *text;
    } rows[] = {
        { TLS_FILE_CA_CERT, "no CA certificate was given" },
        { TLS_FILE_CERT, "no certificate was given" },
        { TLS_FILE_KEY, "no private key was given" },
    };
    g_autoptr(PkiIdentity) ca = make_ca("Test CA");
    g_autoptr(PkiIdentity) own = pki_identity_new(&(PkiSpec){ .common_name = "h", .issuer = ca });

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(TlsFiles) files = TLS_FILES_INIT;
        g_autoptr(GError) error = NULL;
        g_autoptr(TlsCredentials) creds = NULL;

        add_host(&files, *state, ca, own);
        close(files.fds[rows[i].kind]);
        files.fds[rows[i].kind] = -1;
        creds = tls_credentials_new_x509(TLS_ENDPOINT_CLIENT, &files, &error);
        assert_refused(creds, error, TLS_ERROR_FILE, "", rows[i].text, "absent");
    }
}

static void own_revoked_certificate_is_refused(void **state)
{
    g_autoptr(PkiIdentity) ca = make_ca("Test CA");
    g_autoptr(PkiIdentity) own = pki_identity_new(&(PkiSpec){ .common_name = "h", .issuer = ca });
    g_autofree char *crl = pki_crl_pem(ca, own, DAY);
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    g_autoptr(GError) error = NULL;
    g_autoptr(TlsCredentials) creds = NULL;

    add_host(&files, *state, ca, own);
    add_file(&files, TLS_FILE_CA_CRL, *state, "crl.pem", crl);
    creds = tls_credentials_new_x509(TLS_ENDPOINT_SERVER, &files, &error);
    assert_refused(creds, error, TLS_ERROR_CERTIFICATE, "/cert.pem", "revoked", "revoked");
}

static void revocation_list_of_another_authority_is_refused(void **state)
{
    g_autoptr(PkiIdentity) ca = make_ca("Test CA");
    g_autoptr(PkiIdentity) other = make_ca("Other CA");
    g_autoptr(PkiIdentity) own = pki_identity_new(&(PkiSpec){ .common_name = "h", .issuer = ca });
    g_autofree char *crl = pki_crl_pem(other, own, DAY);
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    g_autoptr(GError) error = NULL;
    g_autoptr(TlsCredentials) creds = NULL;

    add_host(&files, *state, ca, own);
    add_file(&files, TLS_FILE_CA_CRL, *state, "crl.pem", crl);
    creds = tls_credentials_new_x509(TLS_ENDPOINT_SERVER, &files, &error);
    assert_refused(creds, error, TLS_ERROR_CERTIFICATE, "/crl.pem", "unknown authority",
                   "foreign list");
}

static void outdated_revocation_list_is_only_a_warning(void **state)
{
    g_autoptr(PkiIdentity) ca = make_ca("Test CA");
    g_autoptr(PkiIdentity) own = pki_identity_new(&(PkiSpec){ .common_name = "h", .issuer = ca });
    g_autoptr(PkiIdentity) bad = pki_identity_new(&(PkiSpec){ .common_name = "b", .issuer = ca });
    g_autofree char *crl = pki_crl_pem(ca, bad, -3600);
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    g_autoptr(GError) error = NULL;
    g_autoptr(TlsCredentials) creds = NULL;

    add_host(&files, *state, ca, own);
    add_file(&files, TLS_FILE_CA_CRL, *state, "crl.pem", crl);
    g_string_truncate(logged, 0);
    creds = tls_credentials_new_x509(TLS_ENDPOINT_SERVER, &files, &error);
    if (!creds)
        fail_msg("%s", error->message);
    assert_non_null(strstr(logged->str, "crl.pem is outdated"));
}

static void missing_file_is_an_error_unless_optional(void **state)
{
    g_autofree char *path = g_build_filename(*state, "none.pem", NULL);
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    g_autoptr(GError) error = NULL;

    assert_true(tls_files_open(&files, TLS_FILE_CA_CRL, path, TRUE, &error));
    assert_int_equal(files.fds[TLS_FILE_CA_CRL], -1);
    assert_null(files.names[TLS_FILE_CA_CRL]);

    assert_false(tls_files_open(&files, TLS_FILE_CERT, path, FALSE, &error));
    assert_true(g_error_matches(error, TLS_ERROR, TLS_ERROR_FILE));
    assert_non_null(strstr(error->message, path));
    assert_non_null(strstr(error->message, "No such file"));
    assert_non_null(strstr(error->message, "tlscerts.html"));
    assert_int_equal(files.fds[TLS_FILE_CERT], -1);
}

static void file_that_is_no_file_is_refused_without_waiting(void **state)
{
    g_autofree char *fifo = g_build_filename(*state, "fifo", NULL);
    const char *const paths[] = { fifo, *state, "/dev/zero" };

    assert_int_equal(mkfifo(fifo, 0600), 0);
    for (gsize i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_auto(TlsFiles) files = TLS_FILES_INIT;
        g_autoptr(GError) error = NULL;

        assert_false(tls_files_open(&files, TLS_FILE_CERT, paths[i], TRUE, &error));
        assert_true(g_error_matches(error, TLS_ERROR, TLS_ERROR_FILE));
        assert_non_null(strstr(error->message, paths[i]));
        assert_non_null(strstr(error->message, "is not a regular file"));
    }
}

static void oversize_file_is_refused(void **state)
{
    g_autofree char *path = pki_dir_write(*state, "big.pem", "x", 1);
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    g_autoptr(GError) opening = NULL;
    g_autoptr(GError) reading = NULL;

    /* At the limit it is opened; one byte more is not, nor read if it grew since. */
    assert_int_equal(truncate(path, TLS_FILE_SIZE_MAX), 0);
    assert_true(tls_files_open(&files, TLS_FILE_CA_CERT, path, FALSE, NULL));
    assert_int_equal(truncate(path, TLS_FILE_SIZE_MAX + 1), 0);
    assert_null(tls_credentials_new_x509(TLS_ENDPOINT_SERVER, &files, &reading));
    assert_non_null(strstr(reading->message, "is bigger than 1048576 bytes"));
    assert_false(tls_files_open(&files, TLS_FILE_CA_CERT, path, FALSE, &opening));
    assert_true(g_error_matches(opening, TLS_ERROR, TLS_ERROR_FILE));
    assert_non_null(strstr(opening->message, path));
    assert_non_null(strstr(opening->message, "1048577 bytes"));
}

static void secrets_that_others_can_read_are_warned_of(void **state)
{
    static const TlsFileKind kinds[] = { TLS_FILE_KEY, TLS_FILE_PSK, TLS_FILE_CERT };
    g_autofree char *path = pki_dir_write(*state, "open.pem", "x", 1);

    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_auto(TlsFiles) files = TLS_FILES_INIT;

        g_string_truncate(logged, 0);
        assert_int_equal(chmod(path, 0600), 0);
        assert_true(tls_files_open(&files, kinds[i], path, FALSE, NULL));
        assert_string_equal(logged->str, "");
        assert_int_equal(chmod(path, 0640), 0);
        assert_true(tls_files_open(&files, kinds[i], path, FALSE, NULL));
        if (kinds[i] == TLS_FILE_CERT)
            assert_string_equal(logged->str, "");
        else
            assert_non_null(strstr(logged->str, "open.pem can be used by others"));
    }
}

static void kinds_have_the_names_of_the_interface(void **state)
{
    for (TlsFileKind kind = 0; kind < TLS_FILE_MAX; kind++)
        assert_int_equal(tls_file_kind_from_name(tls_file_kind_name(kind)), kind);
    assert_int_equal(tls_file_kind_from_name("crt"), TLS_FILE_MAX);
    assert_int_equal(tls_file_kind_from_name(""), TLS_FILE_MAX);
    assert_int_equal(tls_file_kind_from_name(NULL), TLS_FILE_MAX);
}

#define KEY32 "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static void psk_lines_are_read(void **state)
{
    static const char text[] = "# hosts\n"
                               "\n"
                               "hostA:" KEY32 "\r\n"
                               "#comment: with a colon\n"
                               "fd00::1:" KEY32 "\n"
                               "#c3a9ff:00112233445566778899AABBccddeeff";
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) entries = tls_psk_parse("f", text, strlen(text), &error);
    const TlsPskEntry *entry;

    if (!entries)
        fail_msg("%s", error->message);
    assert_int_equal(entries->len, 3);
    entry = tls_psk_find(entries, "hostA", 5);
    assert_non_null(entry);
    assert_int_equal(entry->key_len, 32);
    assert_int_equal(entry->key[31], 0x1f);
    assert_non_null(tls_psk_find(entries, "fd00::1", 7));
    entry = tls_psk_find(entries, "\xc3\xa9\xff", 3);
    assert_non_null(entry);
    assert_int_equal(entry->key_len, 16);
    assert_int_equal(entry->key[10], 0xaa);
    assert_null(tls_psk_find(entries, "host", 4));
}

static void bad_psk_lines_are_named_by_number(void **state)
{
    static const struct {
        const char *text;
        gsize len; /* 0: strlen */
        const char *why;
    } rows[] = {
        { "\n# nothing\n", 0, "holds no key" },
        { "a:" KEY32 "\nhostA\n", 0, "line 2 is wrong: it is not of the form" },
        { ":" KEY32 "\n", 0, "line 1 is wrong: an identity has 1 to 128" },
        { "a:\n", 0, "line 1 is wrong: a key has 16" },
        { "a:00112233\n", 0, "a key has 16" },
        { "a:0" KEY32 "\n", 0, "not pairs" },
        { "a:secret" KEY32 "\n", 0, "not pairs" },
        { "a:" KEY32 "\n\nb:" KEY32 "\na:" KEY32, 0, "line 4 is wrong: its identity was" },
        { "#abc:" KEY32 "\n", 0, "odd number" },
        { "a:" KEY32 "\0" KEY32, sizeof("a:" KEY32 "\0" KEY32) - 1, "not pairs" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        gsize len = rows[i].len ? rows[i].len : strlen(rows[i].text);
        g_autoptr(GError) error = NULL;

        if (tls_psk_parse("/etc/psk", rows[i].text, len, &error))
            fail_msg("row %zu accepted", i);
        assert_true(g_error_matches(error, TLS_ERROR, TLS_ERROR_FILE));
        if (!strstr(error->message, "/etc/psk") || !strstr(error->message, rows[i].why))
            fail_msg("row %zu: %s", i, error->message);
        assert_null(strstr(error->message, "0011"));
        assert_null(strstr(error->message, "0001"));
    }
}

static void psk_identity_and_key_have_limits(void **state)
{
    for (gsize over = 0; over < 2; over++) {
        g_autofree char *identity = g_strnfill(128 + over, 'i');
        g_autofree char *key = g_strnfill(1024 + 2 * over, 'f');
        g_autofree char *long_identity = g_strdup_printf("%s:%s", identity, KEY32);
        g_autofree char *long_key = g_strdup_printf("a:%s", key);
        g_autoptr(GPtrArray) by_identity = tls_psk_parse("f", long_identity,
                                                         strlen(long_identity), NULL);
        g_autoptr(GPtrArray) by_key = tls_psk_parse("f", long_key, strlen(long_key), NULL);

        assert_true((by_identity == NULL) == (over == 1));
        assert_true((by_key == NULL) == (over == 1));
    }
}

static void psk_client_presents_the_identity_it_is_told(void **state)
{
    static const struct {
        const char *identity;
        const char *presented;
    } rows[] = { { NULL, "first" }, { "second", "second" }, { "third", NULL } };
    g_auto(TlsFiles) files = TLS_FILES_INIT;

    add_file(&files, TLS_FILE_PSK, *state, "keys.psk", "first:" KEY32 "\nsecond:" KEY32 "\n");
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(TlsCredentials) creds =
            tls_credentials_new_psk(TLS_ENDPOINT_CLIENT, &files, rows[i].identity, &error);

        if (rows[i].presented)
            assert_string_equal(tls_credentials_own_name(creds), rows[i].presented);
        else
            assert_refused(creds, error, TLS_ERROR_FILE, "/keys.psk", "'third'", "third");
    }
}

static void references_keep_credentials_alive(void **state)
{
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    TlsCredentials *creds;

    add_file(&files, TLS_FILE_PSK, *state, "keys.psk", "first:" KEY32 "\n");
    creds = tls_credentials_new_psk(TLS_ENDPOINT_CLIENT, &files, NULL, NULL);
    assert_ptr_equal(tls_credentials_ref(creds), creds);
    tls_credentials_unref(creds);
    assert_string_equal(tls_credentials_own_name(creds), "first");
    tls_credentials_unref(creds);
    tls_credentials_unref(NULL);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(bad_certificates_are_named),
        test(good_certificates_are_taken),
        test(descriptors_are_read_from_the_start_and_stay_open),
        test(secrets_are_no_two_alike),
        test(unnamed_descriptors_are_called_by_their_kind),
        test(own_chain_may_hold_an_intermediate_authority),
        test(old_authority_beside_the_new_one_is_only_a_warning),
        test(certificate_of_another_authority_is_refused),
        test(key_of_another_certificate_is_refused),
        test(key_with_a_password_is_refused),
        test(bad_contents_name_the_file),
        test(absent_files_are_named_by_kind),
        test(own_revoked_certificate_is_refused),
        test(revocation_list_of_another_authority_is_refused),
        test(outdated_revocation_list_is_only_a_warning),
        test(missing_file_is_an_error_unless_optional),
        test(file_that_is_no_file_is_refused_without_waiting),
        test(oversize_file_is_refused),
        test(secrets_that_others_can_read_are_warned_of),
        cmocka_unit_test(kinds_have_the_names_of_the_interface),
        cmocka_unit_test(psk_lines_are_read),
        cmocka_unit_test(bad_psk_lines_are_named_by_number),
        cmocka_unit_test(psk_identity_and_key_have_limits),
        test(psk_client_presents_the_identity_it_is_told),
        test(references_keep_credentials_alive),
    };
    int failed;

    logged = g_string_new(NULL);
    g_log_set_writer_func(log_to_string, NULL, NULL);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    g_string_free(logged, TRUE);
    return failed;
}
