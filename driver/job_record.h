/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a daemon that comes later has to know of a migration, on disk.
 *
 *     RUN_DIR/job-SESSION.conf     the record: a key file, mode 0600 (it holds the token)
 *     RUN_DIR/job-SESSION.sock     where the helper listens for a daemon that comes later
 *     RUN_DIR/job-SESSION.outcome  what the helper says of itself at each change, which has it open
 *
 * SESSION is the session id, 32 hex digits. A record is there from before the helper starts until
 * the migration has completed, or failed before the switch-over, or its guest needs it no more.
 * Each save replaces the file as a whole.
 *
 * A daemon of another release may come later: keys that it does not know are passed over, and what
 * is missing, but for what makes it a record, has a default. So a new key needs no new version,
 * which is for keys that change their meaning. Main thread only. */
#pragma once

#include "driver/migration.h"

struct JobRecord {
    MigrationSide side;
    char *domain;
    MigrationUri uri; /* session, token, and the destination's host and port */
    char *listen_address; /* destination: its session comes in at that one alone; NULL: at any */
    char *tls_name;   /* source: as migration_connect() has it; or NULL */
    pid_t helper_pid; /* 0: none was started */
    char *socket_path; /* of QEMU's connections, while its name is needed; or NULL */
    char *disks_path; /* the same of its connections for disks; or NULL */
    guint qemu_connections;
    gboolean streaming;
    gboolean postcopy;   /* the switch-over has begun: a failure is libvirt's post-copy failure */
    gboolean on_purpose; /* somebody has cancelled or paused it */
    gboolean recovers; /* resumes one that is paused */
    gboolean reading_failed; /* source, broken: what recovers it shall not read QEMU's memory */
    gboolean memory;   /* of a memory client (driver/memory_job.h), not of libvirt's */
    uid_t memory_uid;  /* that client's */
    SpeedLimit speed_limit;
    gint32 perform_procedure; /* source: the call that began it, 0: none */
    GBytes *perform_args;     /* its arguments in XDR, without TLS flags; or NULL */
    gint64 begun;  /* microseconds since the epoch */
    guint64 expected_ram; /* destination: see migration_set_expected_ram() */
    MigrationHistory history; /* begun is 0: nobody has kept one */
    gint64 broken; /* seconds: of its end, if that is still to be recovered from; 0: it goes on */
    gboolean told; /* not on disk: that it broke; see migration_set_on_broken() */
};

/* What the helper has said last. */
typedef struct {
    char *state; /* as the property State */
    char *phase;
    char *ended_by;
    char *reason;
} JobOutcomeText;

JobRecord *job_record_new(void);
/* The first digits of its session, as in log lines; g_free(). */
char *job_record_id(const JobRecord *record);
JobRecord *job_record_copy(const JobRecord *record);
void job_record_free(JobRecord *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(JobRecord, job_record_free)

/* Whether a connection that has come in at that address of this host's is for its session. */
gboolean job_record_listens_at(const JobRecord *record, const char *address);

char *job_record_control_path(const char *run_dir, const guint8 session[MIGRATION_SESSION_LEN]);
char *job_record_outcome_path(const char *run_dir, const guint8 session[MIGRATION_SESSION_LEN]);

/* An empty file, mode 0600, for the helper to say its outcome in; must not exist yet. -1 on
 * error. */
int job_record_make_outcome(const char *run_dir, const guint8 session[MIGRATION_SESSION_LEN],
                            GError **error);

gboolean job_record_save(const JobRecord *record, const char *run_dir, GError **error);
/* Leaves the record alone; what it is worth must be in there by now. */
void job_record_helper_ended(const char *run_dir, const guint8 session[MIGRATION_SESSION_LEN]);
/* Removes all three files. */
void job_record_remove(const char *run_dir, const guint8 session[MIGRATION_SESSION_LEN]);

/* All that can be read (of JobRecord), oldest first; each that cannot is logged and left where it
 * is. Only regular files of this process's user that nobody else may read or write are believed. */
GPtrArray *job_record_load_all(const char *run_dir);

/* FALSE: there is none, or it is not complete. To be asked when the helper is gone. */
gboolean job_record_load_outcome(const char *run_dir, const guint8 session[MIGRATION_SESSION_LEN],
                                 JobOutcomeText *ret_outcome);
void job_outcome_text_clear(JobOutcomeText *outcome);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(JobOutcomeText, job_outcome_text_clear)
