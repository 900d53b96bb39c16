/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The workload itself: threads that touch, write and verify memory as a guest's processors do. What
 * they know of it (the version of each page) is not in that memory: it is the guest's device state,
 * and moves as such.
 *
 * Each page has one thread that writes it; all of them look at any. */
#pragma once

#include <gio/gio.h>

#include "tests/workload/contents.h"
#include "tests/workload/memory.h"
#include "tests/workload/stalls.h"

typedef enum {
    PATTERN_SEQUENTIAL, /* each thread through its pages, over and over */
    PATTERN_RANDOM,
    PATTERN_HOT,        /* nine touches of ten in a tenth of the memory */
    PATTERN_ZERO,       /* nine pages of ten are zeros and are only looked at */
    PATTERN_TEXT,       /* at random, and memory that can be compressed */
    PATTERN_HERD,       /* all threads touch the same pages in the same order */
    PATTERN_MAX,
} Pattern;

/* PATTERN_MAX: there is none of that name. */
Pattern pattern_from_name(const char *name);

typedef struct {
    Pattern pattern;
    guint threads;
    guint64 rate; /* touches a second of all threads together; 0: as fast as they can */
    guint64 seed;
    guint writes; /* percent of the touches of own pages that write */
} GuestConfig;

typedef struct Guest Guest;

/* memory: borrowed. No thread runs yet; all pages are version 0, and none is touched. */
Guest *guest_new(const GuestConfig *config, Memory *memory);
/* Ends the threads: those that wait for memory that never comes make it wait, too. */
void guest_free(Guest *guest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Guest, guest_free)

/* Writes what the pattern begins with. */
void guest_fill(Guest *guest);

void guest_run(Guest *guest);
/* Of the threads that run, or have run, as gettid() has them; *ret_n of them. Free with g_free(). */
guint32 *guest_get_threads(Guest *guest, guint *ret_n);
/* Returns when every thread stands still. */
void guest_pause(Guest *guest);
gboolean guest_is_running(const Guest *guest);
void guest_throttle(Guest *guest, guint percent);

/* The device state; the guest is paused. with_hashes: of every page, too. */
GBytes *guest_save(Guest *guest, gboolean with_hashes);
/* Does not touch the memory. */
gboolean guest_load(Guest *guest, const void *bytes, gsize len, GError **error);

/* From here on they are not touched, and not verified; nor after it has moved. */
void guest_exclude(Guest *guest, guint64 first_page, guint64 n);

/* A log of its own of what is written, a bit for each page, all clear at first. Takes out a
 * region's bits, or-ing them into bitmap. */
void guest_log_start(Guest *guest);
void guest_log_sync(Guest *guest, guint region, guint64 *bitmap, guint64 n_pages);

typedef struct {
    guint64 touches;
    guint64 writes;
    guint64 bad;   /* pages seen to be wrong while it ran */
    Stalls stalls; /* since guest_load(), or from the beginning */
} GuestProgress;

void guest_get_progress(Guest *guest, GuestProgress *ret_progress);

typedef struct {
    guint64 pages;     /* that were looked at */
    guint64 unwritten; /* of them compared by hash: not written since guest_load() */
    guint64 bad;
    char *first_bad;   /* what is wrong with the first one, or NULL; g_free() */
} GuestVerdict;

/* Looks at every byte. The guest is paused. */
void guest_verify(Guest *guest, GuestVerdict *ret_verdict);
