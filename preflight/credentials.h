/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The certificates and keys that a host proves itself with in a migration: will the other host
 * believe them, now and in a month? */
#pragma once

#include <time.h>

#include "preflight/access.h"
#include "preflight/problem.h"
#include "tls/credentials.h"

#define CREDENTIAL_SOON_DAYS 30

/* One file, and what is in it. */
typedef struct {
    const char *path;   /* borrowed; NULL: not used */
    gboolean optional;  /* may be missing */
    char *text;         /* NULL: could not be read */
    gsize len;
    mode_t mode;
    char *error;        /* why it could not be read; NULL and no text: it is missing, and may be */
} CredentialFile;

typedef struct {
    TlsEndpoint endpoint;
    gboolean psk;            /* the first file alone, with a pre-shared key */
    CredentialFile psk_file;
    const char *psk_identity; /* borrowed; NULL: the file's first */
    CredentialFile ca, crl, cert, key;
    const char *hostname;    /* what other hosts call this one, for a server; NULL: not looked at */
    time_t now;
} CredentialFacts;

void credential_facts_clear(CredentialFacts *facts);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CredentialFacts, credential_facts_clear)

/* Reads the files whose paths are set. */
void credentials_read(const char *root, CredentialFacts *facts);

/* Pure. Everything that is wrong, not only the first. */
void credentials_judge(GPtrArray *findings, const CredentialFacts *facts);
