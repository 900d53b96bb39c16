/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether this host, and the memory at hand, can take a post-copy migration: each reason against it with a remedy
 * (util/finding.h). Tries it for real, on pages of its own of each kind that is asked about. */
#pragma once

#include "ram/uffd/map.h"
#include "util/finding.h"

typedef struct {
    guint64 features;           /* UFFD_FEATURE_* of the kernel; 0: no userfaultfd */
    gboolean thread_ids;        /* faults say whose they are */
    gboolean user_mode_only;    /* faults of system calls cannot be handled by this process */
    gboolean works[UFFD_BACKING_MAX]; /* a page of that kind was missing, and placed */
} UffdSupport;

/* What a region of guest memory is like. */
typedef struct {
    const char *name;
    guint64 length;
    guint64 page_size;
    UffdBacking backing;
    gboolean is_file; /* on a disk: pages of it are never missing */
    gboolean locked;
} UffdRegionFacts;

/* huge_page: the size to try UFFD_HUGETLB with, 0: not asked about. */
void uffd_support_look(guint64 huge_page, UffdSupport *ret_support);

/* Adds to findings (ids "userfaultfd", "userfaultfd-shmem", "userfaultfd-hugetlb", "userfaultfd-region");
 * FALSE: there is a failure among them. Pure. */
gboolean uffd_support_judge(const UffdSupport *support, const UffdRegionFacts *regions, guint n,
                            GPtrArray *findings);
