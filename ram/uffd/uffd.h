/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A userfaultfd and its ioctls. All of them act on the process that opened it, whoever holds a
 * duplicate: addresses are that process's. Only uffd_open() is for that process itself. Stateless; any
 * thread. */
#pragma once

#include <glib.h>

#define UFFD_ERROR (uffd_error_quark())
GQuark uffd_error_quark(void);

typedef enum {
    UFFD_ERROR_UNSUPPORTED, /* by this kernel, or not allowed; the message tells what to do */
    UFFD_ERROR_GONE,        /* the process whose memory it is has ended */
    UFFD_ERROR_UNMAPPED,    /* there is no registered memory at the address (any more) */
    UFFD_ERROR_MEMORY,      /* the host has no memory, or no huge page, for it */
    UFFD_ERROR_FAILED,      /* anything else */
} UffdError;

/* Opens one, non-blocking and close-on-exec, by /dev/userfaultfd or the system call, and shakes hands with
 * the kernel. wanted: UFFD_FEATURE_* that must be there. user_mode_only: faults of system calls are not
 * handled (they fail there), which needs no privilege. *ret_features: what the kernel has, or NULL.
 * -1 on failure. */
int uffd_open(guint64 wanted, gboolean user_mode_only, guint64 *ret_features, GError **error);

/* Faults on missing pages of the range become messages. *ret_zeropage (or NULL): whether
 * uffd_zero() works there. A range of one mapping, multiples of its page. */
gboolean uffd_register(int uffd, guint64 address, guint64 length, gboolean *ret_zeropage,
                       GError **error);
/* Whoever waits for a page of it gets zeros, or what is there. */
gboolean uffd_unregister(int uffd, guint64 address, guint64 length, GError **error);
gboolean uffd_wake(int uffd, guint64 address, guint64 length, GError **error);

typedef enum {
    UFFD_PLACED,  /* all *ret_done bytes are in place, and who waited for them is awake */
    UFFD_EXISTED, /* after *ret_done bytes comes a page that was there already */
    UFFD_AGAIN,   /* after *ret_done bytes the kernel could not go on: the owner's mappings are changing, and
                   * its events may have to be read first */
    UFFD_FAILED,  /* the same, with error set */
} UffdPlaced;

/* Bytes of ours become pages of the owner's that were missing. source: aligned or not; all in pages. */
UffdPlaced uffd_copy(int uffd, guint64 address, const guint8 *source, guint64 length,
                     guint64 *ret_done, GError **error);
/* The same with zeros; not for UFFD_HUGETLB. */
UffdPlaced uffd_zero(int uffd, guint64 address, guint64 length, guint64 *ret_done, GError **error);
