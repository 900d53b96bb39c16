/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Locked memory and huge pages: what a host gives, what a domain needs. */
#pragma once

#include "preflight/access.h"
#include "preflight/problem.h"

#define MEMLOCK_UNLIMITED G_MAXUINT64

/* Of the process that starts QEMU: it raises QEMU's limit for a guest with <locked/>. */
typedef struct {
    gboolean known;         /* the process could be looked at */
    gboolean may_raise;     /* it has CAP_SYS_RESOURCE */
    guint64 limit;          /* bytes it may give, if it may not raise */
    guint64 needed;         /* bytes of the domain with <locked/>; 0: no domain, or not locked */
} MemlockFacts;

/* Pure. */
void memlock_judge(GPtrArray *findings, const MemlockFacts *facts);

/* From /proc/PID/status and limits below root; needed stays. */
void memlock_look(const char *root, pid_t pid, MemlockFacts *facts);

/* One size of huge pages. */
typedef struct {
    guint64 kib;
    guint64 total;
    guint64 free;
} HugepagePool;

/* The pools of this host (HugepagePool elements), from /sys below root, by size. */
GArray *hugepages_look(const char *root);

/* Of the size that a guest gets which does not say (Hugepagesize in /proc/meminfo); 0: not known.
 */
guint64 hugepages_default_kib(const char *root);

/* Pure: a line for the host. */
void hugepages_judge_host(GPtrArray *findings, const GArray *pools);

/* What a domain takes of one size. */
typedef struct {
    guint64 kib; /* of a page */
    guint64 bytes;
    gboolean unsaid; /* the XML names no size, so that it may be another if there are none of it */
} HugepageNeed;

/* Pure: are there as many free as the domain takes? host: "hostb". Nothing if needs is empty. */
void hugepages_judge_domain(GPtrArray *findings, const GArray *pools, const GArray *needs,
                            const char *host);
