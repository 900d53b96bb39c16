/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a check of a host, a domain or a peer has found: one line of `virt-postcopy check`, and the
 * words of the error when the same thing is in the way of a migration. Pure. */
#pragma once

#include <glib.h>

typedef enum {
    FINDING_PASS,
    FINDING_WARN, /* works, but not as well as it could, or not for every guest */
    FINDING_FAIL, /* a migration would fail, or lose the guest */
} FindingVerdict;

typedef struct {
    FindingVerdict verdict;
    char *id;     /* stable, for scripts: "userfaultfd", "memory-file-backed", ... */
    char *what;   /* translated: what was looked at, "userfaultfd for QEMU's user" */
    char *detail; /* translated: what was seen; NULL for a pass that needs no words */
    char *remedy; /* translated: what to do, an imperative; NULL unless warn or fail */
} Finding;

/* A list of findings frees them with itself. */
GPtrArray *findings_new(void);

/* Adds one; the strings are copied. what, detail and remedy as above. */
void findings_add(GPtrArray *findings, FindingVerdict verdict, const char *id, const char *what,
                  const char *detail, const char *remedy);

/* Moves those of more behind those of findings; more is freed. */
void findings_take(GPtrArray *findings, GPtrArray *more);

/* The same, with failures as warnings: what is not certain, or not what was asked about. */
void findings_take_as_warnings(GPtrArray *findings, GPtrArray *more);

/* The worst verdict in it; FINDING_PASS if it is empty. */
FindingVerdict findings_verdict(const GPtrArray *findings);

/* "DETAIL: REMEDY" of the first failure, for an error message, or NULL without one. */
char *findings_error(const GPtrArray *findings);

/* "pass", "warn", "fail": for JSON; not translated. */
const char *finding_verdict_name(FindingVerdict verdict);
