/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What job.c (what the daemon says) and job_report.c (what the relay says) share. */
#pragma once

#include "ram/job.h"
#include "ram/postcopy-dbus.h"
#include "ram/relay.h"
#include "util/log.h"

struct Job {
    PostcopyMigration *skeleton;
    GDBusConnection *connection; /* where it is exported, or NULL */
    JobEndFunc func;
    gpointer data;
    SessionSide side;
    Relay *relay;     /* NULL before Configure */
    GPtrArray *calls; /* of GDBusMethodInvocation that the relay has not answered */
    SessionState state;
    gboolean ended; /* the relay's thread is through */
    guint stats_timer;
    int outcome_fd; /* or -1 */
    gboolean outcome_failed; /* and that was logged */
    char migration[9];
    LogContext log;
};

/* A RelayReportFunc. */
void job_on_report(const RelayReport *report, gpointer job);
