/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the workload can be told while it runs, a line each:
 *
 *   connect [URI]          says "connected" (the destination: with its uri) or "refused"
 *   start-postcopy, continue, cancel, fail REASON, checkpoint, failover
 *   set NAME=VALUE         an option of the library: max-bandwidth=1048576
 *   hint REGION START LENGTH
 *   stop, go               the guest's threads, here
 *   verify                 stops the guest, looks at every byte, says "verified"
 *   stats                  says "stats"
 *   unmap REGION START LENGTH    takes that memory away, as if by a bug
 *   forget REGION START LENGTH   gives its pages back to the kernel, as a balloon does
 *   touch REGION START LENGTH    reads a byte of each page in a thread of its own; says "touched"
 *   quit
 *
 * Each is answered: what says nothing of its own says "done" or "error". */
#pragma once

#include "tests/workload/options.h"

typedef struct {
    Options options;
    Guest *guest;
    PostcopyClient *client;
    gboolean connected;
    GBytes *saved;   /* device state, until the library has taken it */
    GString *input;  /* read and not a line yet */
} World;

/* Reads what there is, and does it. FALSE: it is to end. */
gboolean commands_read(World *world);
/* FALSE: there is no such option; said. */
gboolean commands_set(World *world, const char *assignment);
