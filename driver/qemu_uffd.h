/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The userfaultfd that a destination QEMU opens when post-copy begins, and the memory that it has registered with
 * it. */
#pragma once

#include "driver/qemu_process.h"

/* Memory that is registered: a mapping, or several in a row. */
typedef struct {
    guint64 address;
    guint64 length;
    guint64 page_size;
    const char *backing; /* "anonymous", "shmem", "hugetlb" */
} QemuRegistered;

/* A duplicate, close-on-exec. -1: there is none (yet), or several, of which some are of other processes that share
 * its memory; *ret_several (or NULL) tells them apart. */
int qemu_uffd_dup(const QemuProcess *process, gboolean *ret_several, GError **error);

/* Of QemuRegistered, by address; from the text of its smaps. What cannot be understood is an error. Pure. */
GArray *qemu_uffd_parse_smaps(const char *text, GError **error);
/* Two of those say the same. */
gboolean qemu_uffd_is_same(const GArray *a, const GArray *b);
