/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Certificates made at run time, good ones and ones with a chosen fault, for unit tests.
 *
 * Keys are ECDSA P-256, so that a test makes dozens in no time. Whatever fails here is a fault of
 * the test: it aborts with a message. */
#pragma once

#include <glib.h>
#include <gnutls/x509.h>

/* A key and the certificate for it. */
typedef struct PkiIdentity PkiIdentity;

#define PKI_NAMES_MAX 4
#define PKI_NO_KEY_USAGE G_MAXUINT

/* All zero but the name: a good certificate that signs itself. */
typedef struct {
    const char *common_name;
    const char *organization;               /* NULL: none */
    const PkiIdentity *issuer;              /* NULL: itself */
    const char *dns[PKI_NAMES_MAX];         /* subject alternative names */
    const char *ip[PKI_NAMES_MAX];
    const char *purposes[PKI_NAMES_MAX];    /* extended key usage, GNUTLS_KP_…; none: absent */
    guint key_usage;                        /* GNUTLS_KEY_…; 0: what fits; PKI_NO_KEY_USAGE */
    gboolean ca;                            /* the CA flag */
    gboolean no_constraints;                /* no basic constraints at all */
    int starts_in_s;                        /* from now; 0: an hour ago */
    int ends_in_s;                          /* from now; 0: tomorrow */
    int rsa_bits;                           /* 0: ECDSA */
} PkiSpec;

PkiIdentity *pki_identity_new(const PkiSpec *spec);
void pki_identity_free(PkiIdentity *identity);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PkiIdentity, pki_identity_free)

/* PEM text, to be freed with g_free(). */
char *pki_cert_pem(const PkiIdentity *identity);
char *pki_key_pem(const PkiIdentity *identity);
/* A list by ca that revokes one certificate; the next is due in next_update_s from now. */
char *pki_crl_pem(const PkiIdentity *ca, const PkiIdentity *revoked, int next_update_s);

/* For a peer that is gnutls alone and checks nothing. */
gnutls_x509_crt_t pki_cert(const PkiIdentity *identity);
gnutls_x509_privkey_t pki_key(const PkiIdentity *identity);

/* A directory of files that goes away with the test. */
char *pki_dir_new(void);
void pki_dir_remove(char *dir); /* frees dir */
/* Writes text under that name with mode 0600 and returns the path (g_free()). */
char *pki_dir_write(const char *dir, const char *name, const char *text, gssize len);
