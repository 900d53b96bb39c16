/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One attempt of a recovery: this daemon, as a client of its own, has libvirtd resume a migration
 * that failed in post-copy. Main thread only. */
#pragma once

#include "driver/job_record.h"
#include "driver/settings.h"

typedef struct RecoveryAttempt RecoveryAttempt;

typedef enum {
    RECOVERY_ARRIVED,         /* the guest is on the destination, whole */
    RECOVERY_FAILED,          /* another attempt may do better */
    RECOVERY_NO_DOMAIN,       /* this host has no such domain any more, or another of that name */
    RECOVERY_NO_DOMAIN_THERE, /* this host has, the destination has not */
    RECOVERY_NOT_FAILED,      /* this host has, but not with a migration that failed in post-copy */
} RecoveryOutcome;

/* Once, from the main loop. The attempt may be freed in it. */
typedef void (*RecoveryAttemptFunc)(RecoveryOutcome outcome, const char *reason, gpointer data);

/* By way of the session of record, which has perform_args. Lasts as long as the rest of the
 * migration. */
RecoveryAttempt *recovery_attempt_new(const Settings *settings, const JobRecord *record,
                                      RecoveryAttemptFunc func, gpointer data);

/* libvirtd has been asked to resume. */
gboolean recovery_attempt_is_under_way(const RecoveryAttempt *attempt);

/* What libvirtd has begun goes on; func is not called any more. */
void recovery_attempt_free(RecoveryAttempt *attempt);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RecoveryAttempt, recovery_attempt_free)
