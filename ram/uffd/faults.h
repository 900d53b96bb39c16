/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads what a userfaultfd has to say. There is no thread for it: the relay's thread has the descriptor in its
 * poll(), as a fault ends as bytes on a channel that this thread alone may touch, and as handing it over
 * would cost more than the reading. */
#pragma once

#include "ram/uffd/map.h"

#define UFFD_EVENTS_MAX 64 /* of one read */

typedef enum {
    UFFD_EV_FAULT,   /* block, offset, thread, is_write */
    UFFD_EV_STRAY,   /* address: a fault at an address that is in no block; thread */
    UFFD_EV_REMOVED, /* address, length: MADV_DONTNEED and the like: reads as zero, must not be placed again */
    UFFD_EV_UNMAPPED, /* address, length */
    UFFD_EV_MOVED,   /* address -> to, length */
    UFFD_EV_FORKED,  /* to: the new process's userfaultfd, which the caller owns */
} UffdEventType;

typedef struct {
    UffdEventType type;
    guint block;
    guint64 offset; /* of the host page */
    guint64 address;
    guint64 length;
    guint64 to;
    guint32 thread; /* the owner's thread id; 0 without UFFD_FEATURE_THREAD_ID */
    gboolean is_write;
} UffdEvent;

/* As many as there are, up to UFFD_EVENTS_MAX; *ret_n 0: none now. FALSE (UFFD_ERROR_*): no more will
 * come. */
gboolean uffd_read_events(int uffd, const UffdMap *map, UffdEvent ret_events[UFFD_EVENTS_MAX],
                          guint *ret_n, GError **error);
