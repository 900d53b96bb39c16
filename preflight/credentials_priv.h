/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files about credentials share. */
#pragma once

#include "preflight/credentials.h"

PreflightCheck credentials_check(const CredentialFacts *facts);

/* FALSE, and a finding if it should have been: there is nothing in it to look at. what: "private
 * key". */
gboolean credential_is_there(GPtrArray *findings, const CredentialFacts *facts,
                             const CredentialFile *file, const char *what);

/* A file with a secret: is it one? */
void credential_judge_mode(GPtrArray *findings, const CredentialFacts *facts,
                           const CredentialFile *file);

/* X.509: everything about the four files. */
void certificates_judge(GPtrArray *findings, const CredentialFacts *facts);
