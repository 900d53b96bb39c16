/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Job statistics as a host would answer with. */
#pragma once

#include <glib.h>

#include "cli/job.h"

typedef struct JobBuild JobBuild;

JobBuild *job_build_new(void);
void job_build_int(JobBuild *build, const char *field, int value);
void job_build_uint(JobBuild *build, const char *field, unsigned int value);
void job_build_number(JobBuild *build, const char *field, guint64 value);
void job_build_double(JobBuild *build, const char *field, double value);
void job_build_text(JobBuild *build, const char *field, const char *value);

/* Ends the build; NULL as job_new(). */
Job *job_build_end(JobBuild *build, const char *domain, int type);

/* A source in the midst of post-copy: 768 MiB of 2 GiB left, 64 MiB/s. */
JobBuild *job_build_source(void);
Job *job_source(const char *domain);

/* The other side of it, with 150 requests: 14 of up to 2 us, 90 of up to 1024, 46 of up to 4096. */
JobBuild *job_build_destination(void);
Job *job_destination(const char *domain);
