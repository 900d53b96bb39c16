/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What guest.c (the whole) and worker.c (one thread of it) share. POSIX's threads rather than
 * GLib's: ThreadSanitizer knows these. */
#pragma once

#include <pthread.h>

#include "tests/workload/guest.h"

typedef struct {
    Guest *guest;
    guint index;
    pthread_t thread;
    gboolean started;
    guint32 id;       /* as gettid() has it; 0: not known yet. Guest's lock */
    guint64 random;   /* state of its generator */
    guint64 cursor;   /* sequential, herd */
    gint64 began_ns;  /* of the touches that are counted against the rate */
    guint64 paced;
    pthread_mutex_t lock;      /* of the counts */
    GuestProgress counts;
} Worker;

struct Guest {
    GuestConfig config;
    Contents contents;
    Memory *memory;
    guint32 *versions;  /* by page; written by the page's thread, atomically */
    guint64 *hashes;    /* as loaded; NULL: there are none */
    guint32 *loaded;    /* versions as loaded; NULL with hashes */
    guint8 *excluded;   /* by page, atomic */
    guint64 *written;   /* own log: a bit for each page, atomic; NULL: none */
    GArray *workers;    /* Worker */
    gint throttle;      /* percent, atomic */
    pthread_mutex_t lock;        /* of what follows */
    pthread_cond_t changed;
    gboolean running;
    gboolean quit;
    guint parked;
};

/* Whether a page is one that the pattern writes to. */
gboolean guest_writes_to(const Guest *guest, guint64 page);
gpointer worker_main(gpointer worker);
