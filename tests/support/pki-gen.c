/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/pki-gen.h"

#include <arpa/inet.h>
#include <glib/gstdio.h>
#include <gnutls/crypto.h>
#include <string.h>
#include <time.h>

struct PkiIdentity {
    gnutls_x509_crt_t cert;
    gnutls_x509_privkey_t key;
};

#define must(call)                                                      \
    G_STMT_START {                                                      \
        int must_ret = (call);                                          \
        if (must_ret < 0)                                               \
            g_error("%s: %s", #call, gnutls_strerror(must_ret));        \
    } G_STMT_END

static void set_serial(gnutls_x509_crt_t cert)
{
    guint8 serial[8];

    must(gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof(serial)));
    serial[0] = (serial[0] & 0x3f) | 0x40; /* positive, and always as long */
    must(gnutls_x509_crt_set_serial(cert, serial, sizeof(serial)));
}

static void set_subject(gnutls_x509_crt_t cert, const PkiSpec *spec)
{
    if (spec->common_name)
        must(gnutls_x509_crt_set_dn_by_oid(cert, GNUTLS_OID_X520_COMMON_NAME, 0,
                                           spec->common_name, strlen(spec->common_name)));
    if (spec->organization)
        must(gnutls_x509_crt_set_dn_by_oid(cert, GNUTLS_OID_X520_ORGANIZATION_NAME, 0,
                                           spec->organization, strlen(spec->organization)));
}

static void set_alt_names(gnutls_x509_crt_t cert, const PkiSpec *spec)
{
    for (gsize i = 0; i < PKI_NAMES_MAX && spec->dns[i]; i++)
        must(gnutls_x509_crt_set_subject_alt_name(cert, GNUTLS_SAN_DNSNAME, spec->dns[i],
                                                  strlen(spec->dns[i]), GNUTLS_FSAN_APPEND));
    for (gsize i = 0; i < PKI_NAMES_MAX && spec->ip[i]; i++) {
        gboolean v6 = strchr(spec->ip[i], ':') != NULL;
        guint8 raw[16];

        if (inet_pton(v6 ? AF_INET6 : AF_INET, spec->ip[i], raw) != 1)
            g_error("%s is no IP address", spec->ip[i]);
        must(gnutls_x509_crt_set_subject_alt_name(cert, GNUTLS_SAN_IPADDRESS, raw, v6 ? 16 : 4,
                                                  GNUTLS_FSAN_APPEND));
    }
}

static void set_extensions(gnutls_x509_crt_t cert, const PkiSpec *spec)
{
    guint usage = spec->key_usage;

    if (!spec->no_constraints)
        must(gnutls_x509_crt_set_basic_constraints(cert, spec->ca, -1));
    if (usage == 0)
        usage = spec->ca ? GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN
                         : GNUTLS_KEY_DIGITAL_SIGNATURE;
    if (usage != PKI_NO_KEY_USAGE)
        must(gnutls_x509_crt_set_key_usage(cert, usage));
    for (gsize i = 0; i < PKI_NAMES_MAX && spec->purposes[i]; i++)
        must(gnutls_x509_crt_set_key_purpose_oid(cert, spec->purposes[i], 1));
}

static void set_key_ids(gnutls_x509_crt_t cert, gnutls_x509_crt_t issuer)
{
    guint8 id[64];
    size_t len = sizeof(id);

    must(gnutls_x509_crt_get_key_id(cert, 0, id, &len));
    must(gnutls_x509_crt_set_subject_key_id(cert, id, len));
    len = sizeof(id);
    must(gnutls_x509_crt_get_key_id(issuer, 0, id, &len));
    must(gnutls_x509_crt_set_authority_key_id(cert, id, len));
}

PkiIdentity *pki_identity_new(const PkiSpec *spec)
{
    PkiIdentity *identity = g_new0(PkiIdentity, 1);
    const PkiIdentity *issuer = spec->issuer ? spec->issuer : identity;
    time_t now = time(NULL);

    must(gnutls_x509_privkey_init(&identity->key));
    if (spec->rsa_bits)
        must(gnutls_x509_privkey_generate(identity->key, GNUTLS_PK_RSA,
                                          (unsigned int)spec->rsa_bits, 0));
    else
        must(gnutls_x509_privkey_generate(identity->key, GNUTLS_PK_ECDSA,
                                          GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
    must(gnutls_x509_crt_init(&identity->cert));
    must(gnutls_x509_crt_set_version(identity->cert, 3));
    must(gnutls_x509_crt_set_key(identity->cert, identity->key));
    must(gnutls_x509_crt_set_activation_time(
        identity->cert, now + (spec->starts_in_s ? spec->starts_in_s : -3600)));
    must(gnutls_x509_crt_set_expiration_time(
        identity->cert, now + (spec->ends_in_s ? spec->ends_in_s : 86400)));
    set_serial(identity->cert);
    set_subject(identity->cert, spec);
    set_alt_names(identity->cert, spec);
    set_extensions(identity->cert, spec);
    set_key_ids(identity->cert, issuer->cert);
    must(gnutls_x509_crt_sign2(identity->cert, issuer->cert, issuer->key, GNUTLS_DIG_SHA256, 0));
    return identity;
}

void pki_identity_free(PkiIdentity *identity)
{
    if (!identity)
        return;
    gnutls_x509_crt_deinit(identity->cert);
    gnutls_x509_privkey_deinit(identity->key);
    g_free(identity);
}

static char *steal_datum(gnutls_datum_t *datum)
{
    char *text = g_strndup((const char *)datum->data, datum->size);

    gnutls_free(datum->data);
    return text;
}

char *pki_cert_pem(const PkiIdentity *identity)
{
    gnutls_datum_t pem;

    must(gnutls_x509_crt_export2(identity->cert, GNUTLS_X509_FMT_PEM, &pem));
    return steal_datum(&pem);
}

char *pki_key_pem(const PkiIdentity *identity)
{
    gnutls_datum_t pem;

    must(gnutls_x509_privkey_export2(identity->key, GNUTLS_X509_FMT_PEM, &pem));
    return steal_datum(&pem);
}

char *pki_crl_pem(const PkiIdentity *ca, const PkiIdentity *revoked, int next_update_s)
{
    gnutls_x509_crl_t crl;
    gnutls_datum_t pem;
    guint8 number = 1;
    time_t now = time(NULL);

    must(gnutls_x509_crl_init(&crl));
    must(gnutls_x509_crl_set_version(crl, 2));
    must(gnutls_x509_crl_set_this_update(crl, now - 7200));
    must(gnutls_x509_crl_set_next_update(crl, now + next_update_s));
    must(gnutls_x509_crl_set_crt(crl, revoked->cert, now - 7200));
    must(gnutls_x509_crl_set_number(crl, &number, 1));
    must(gnutls_x509_crl_sign2(crl, ca->cert, ca->key, GNUTLS_DIG_SHA256, 0));
    must(gnutls_x509_crl_export2(crl, GNUTLS_X509_FMT_PEM, &pem));
    gnutls_x509_crl_deinit(crl);
    return steal_datum(&pem);
}

gnutls_x509_crt_t pki_cert(const PkiIdentity *identity)
{
    return identity->cert;
}

gnutls_x509_privkey_t pki_key(const PkiIdentity *identity)
{
    return identity->key;
}

char *pki_dir_new(void)
{
    g_autoptr(GError) error = NULL;
    char *dir = g_dir_make_tmp("tls-test-XXXXXX", &error);

    if (!dir)
        g_error("no temporary directory: %s", error->message);
    return dir;
}

void pki_dir_remove(char *dir)
{
    g_autoptr(GDir) list = g_dir_open(dir, 0, NULL);
    const char *name;

    while (list && (name = g_dir_read_name(list))) {
        g_autofree char *path = g_build_filename(dir, name, NULL);

        g_remove(path);
    }
    g_rmdir(dir);
    g_free(dir);
}

char *pki_dir_write(const char *dir, const char *name, const char *text, gssize len)
{
    g_autoptr(GError) error = NULL;
    char *path = g_build_filename(dir, name, NULL);

    if (!g_file_set_contents_full(path, text, len, G_FILE_SET_CONTENTS_NONE, 0600, &error))
        g_error("%s: %s", path, error->message);
    return path;
}
