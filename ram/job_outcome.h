/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a helper says of itself to a daemon that will find it dead: a file that the daemon has
 * made, rewritten in place at each change of state or phase.
 *
 *     [outcome]
 *     state=active
 *     phase=postcopy-active
 *     ended-by=
 *     reason=
 *     complete=true
 *
 * A key file for GKeyFile, filled up with newlines to JOB_OUTCOME_LEN bytes. It always has that
 * length, or none while nothing has been said: each write is one call that replaces all of it,
 * needs no more room on the disk than the first, and leaves no rest of a longer text. One
 * without the last key, or of another length, was not written to its end. It is to be read when
 * its helper is gone; a living one is asked over D-Bus. */
#pragma once

#include <gio/gio.h>

/* A page: the kernel writes that much without a signal in between. */
#define JOB_OUTCOME_LEN 4096

#define JOB_OUTCOME_GROUP "outcome"
/* As the properties State, Phase, EndedBy and LastError. */
#define JOB_OUTCOME_STATE "state"
#define JOB_OUTCOME_PHASE "phase"
#define JOB_OUTCOME_ENDED_BY "ended-by"
#define JOB_OUTCOME_REASON "reason" /* possibly cut short */
#define JOB_OUTCOME_COMPLETE "complete" /* true, and the last one */

/* What the file says then, JOB_OUTCOME_LEN bytes. All four: UTF-8. */
char *job_outcome_text(const char *state, const char *phase, const char *ended_by,
                       const char *reason);

/* A regular file, open for writing and not for appending? The error names what it is not. */
gboolean job_outcome_check(int fd, GError **error);
gboolean job_outcome_write(int fd, const char *text, GError **error);
