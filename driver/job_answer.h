/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a client is told of the job of a domain that this driver migrates: libvirt's answer
 * completed by postcopy.*, or one of our own where libvirt has none, or has none in time. Pure. */
#pragma once

#include "driver/job_figures.h"
#include "driver/rpc_frame.h"

/* DOMAIN_GET_JOB_INFO, DOMAIN_GET_JOB_STATS */
#define JOB_PROC_INFO 163
#define JOB_PROC_STATS 298

typedef struct {
    RpcHeader call;
    guint32 flags;            /* of the call; 0 for JOB_PROC_INFO */
    const RpcFrame *reply;    /* libvirtd's, good or bad; NULL: it has not answered */
    const RpcFrame *sample;   /* its last good one to such a call in this migration, or NULL */
    const JobFigures *figures;
} JobQuestion;

typedef struct {
    RpcFrame *frame;  /* NULL: libvirtd's reply is the answer (or is to be waited for) */
    gboolean cleared; /* the completed statistics have been read, and are not to be kept */
} JobAnswer;

JobAnswer job_answer(const JobQuestion *question);

/* DOMAIN_GET_JOB_STATS's answer without anything of libvirt's; type: virDomainJobType. NULL, and a line
 * in the log: it cannot be told. */
RpcFrame *job_own_stats(const RpcHeader *call, int type, const JobFigures *figures);

/* A reply that can stand for a later one: good, of a job that runs, and that is this migration. */
gboolean job_reply_is_sample(const RpcFrame *reply, MigrationSide side);

/* The job-completed event of a domain that left: event is taken, what is returned has postcopy.*
 * in it; one that is not understood, or is of another job or a later one, comes back as it is. */
RpcFrame *job_completed_event(RpcFrame *event, const JobFigures *figures);
/* The domain's name in it; NULL if it is not understood. */
char *job_completed_domain(const RpcFrame *event);
