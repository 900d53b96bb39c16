/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The migration as the daemon sees it: the object /org/libvirt/Postcopy1/Migration on the
 * connection to it, and a relay behind. Main thread only. */
#pragma once

#include <gio/gio.h>

#define JOB_OBJECT_PATH "/org/libvirt/Postcopy1/Migration"

typedef struct Job Job;

/* How it ended; also the helper's exit status. */
typedef enum {
    JOB_COMPLETED = 0,
    JOB_FAILED = 1,
    JOB_CANCELLED = 3,
} JobOutcome;

/* The relay has ended and its last state was told to the daemon. */
typedef void (*JobEndFunc)(JobOutcome outcome, gpointer data);

/* outcome_fd: checked by job_outcome_check() and written to until job_free(), or -1; stays the
 * caller's. */
Job *job_new(int outcome_fd, JobEndFunc func, gpointer data);
void job_free(Job *job);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Job, job_free)

/* The daemon is on this connection from here on, and on no other; NULL: there is none. A
 * failure leaves it as it was. */
gboolean job_set_connection(Job *job, GDBusConnection *connection, GError **error);

/* Ends a migration that is not active, and calls the end function when that is done. An active
 * one goes on, with a warning in the log: its guest may depend on it already. One that has lost a
 * channel is active. */
void job_give_up(Job *job, const char *reason);
