/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One side of one migration, as virDomainGetJobStats() tells it. Pure.
 *
 * Fields keep the names libvirt and virtpostcopyd give them; a field that is not there reads as 0
 * or NULL, since each version and each side knows others. */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>

/* virtpostcopyd's fields begin so; a job without any is not one of its migrations. */
#define JOB_POSTCOPY_PREFIX "postcopy."

typedef enum {
    JOB_SIDE_UNKNOWN,
    JOB_SIDE_SOURCE,
    JOB_SIDE_DESTINATION,
} JobSide;

/* So many requests took at most that long, and longer than the bucket before. */
typedef struct {
    guint64 le_us;
    guint64 count;
} JobBucket;

typedef struct {
    char *domain;
    char *uuid;
    int type;                      /* virDomainJobType */
    virTypedParameterPtr params;   /* everything libvirt said */
    int n_params;
} Job;

/* Takes params, also when it fails. NULL: not a migration of virtpostcopyd's. */
Job *job_new(const char *domain, const char *uuid, int type, virTypedParameterPtr params,
             int n_params);
void job_free(Job *job);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Job, job_free)

gboolean job_has(const Job *job, const char *field);
guint64 job_number(const Job *job, const char *field); /* of any integer type; negative: 0 */
double job_double(const Job *job, const char *field);
const char *job_text(const Job *job, const char *field);

gboolean job_is_memory(const Job *job);      /* a memory client's, not a domain's */
JobSide job_side(const Job *job);
gboolean job_ended(const Job *job);          /* completed, failed or cancelled */
const char *job_side_name(JobSide side);     /* "source", ...: for programs */
const char *job_type_name(int type);         /* "running", "completed", ...: for programs */

guint64 job_total(const Job *job); /* bytes, of memory and disks */
guint64 job_remaining(const Job *job);
guint64 job_transferred(const Job *job); /* on the wire, all channels */
double job_progress(const Job *job);                    /* 0 to 1; 1 when nothing is left */
guint64 job_rate(const Job *job);                       /* bytes a second; 0: not known */
gboolean job_eta(const Job *job, guint64 *ret_seconds); /* FALSE: not known */

/* Of JobBucket, by le_us; empty if there is no histogram or it is not one. */
GArray *job_latencies(const Job *job);
