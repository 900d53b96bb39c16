/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A migration's figures as libvirt's typed parameters, with those of this driver, "postcopy.*",
 * which virt-postcopy-stats(7) describes. Pure. */
#pragma once

#include "driver/job_figures.h"
#include "driver/remote.h"

/* Parameters in one array whose strings belong to it. */
typedef struct {
    remote_param *params;
    guint n;
    GPtrArray *texts;
} JobParams;

void job_params_clear(JobParams *params);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(JobParams, job_params_clear)

/* Those that are libvirt's own, made from what the helper knows, for where libvirt has none; and
 * postcopy.*, both in their order. Nothing is added beyond libvirt's limit (REMOTE_PARAMS_MAX). */
void job_params_add_base(JobParams *params, const JobFigures *figures);
void job_params_add_postcopy(JobParams *params, const JobFigures *figures);
/* What libvirt has told; its strings must outlive params. */
void job_params_add_theirs(JobParams *params, const remote_params *theirs);

/* The names of postcopy.*, in their order; NULL after the last. */
const char *job_field_name(guint i);
