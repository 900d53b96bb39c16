/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A process of its own with memory behind a userfaultfd, as a VMM has it: it maps, opens and registers, and
 * hands the descriptor over by SCM_RIGHTS; its threads touch pages and look whether they hold what they
 * should. A test may only ask it. */
#pragma once

#include <glib.h>
#include <sys/types.h>

#include "ram/uffd/map.h"

typedef struct {
    UffdBacking backing;
    gsize page_size;
    guint n_pages;
    guint64 features;     /* UFFD_FEATURE_* it opens its userfaultfd with */
    gboolean user_mode_only;
    gboolean unregistered; /* the test registers it, or does not */
    gboolean huge;         /* MADV_HUGEPAGE */
    int memfd;             /* UFFD_SHMEM, UFFD_HUGETLB: of another owner, shared; -1: one of its own */
} OwnerConfig;

typedef struct {
    pid_t pid;
    int fd;        /* to it */
    int uffd;      /* duplicates */
    int memfd;     /* -1: none */
    guint64 address;
    gsize page_size;
    guint n_pages;
    UffdBacking backing;
} Owner;

/* Fails the test if that is not possible. */
Owner *owner_start(const OwnerConfig *config);
void owner_free(Owner *owner); /* ends it */

/* What page i is to hold: its first bytes, repeated; never zero. */
void owner_fill(guint8 *page, gsize page_size, guint i);
/* As a piece of a map, of that block. */
void owner_range(const Owner *owner, guint block, UffdRange *ret_range);

typedef enum {
    OWNER_TOUCH = 1, /* a: threads, b: 1 + page of a single one. Each thread reads all pages, from a place of its own */
    OWNER_WAIT,      /* until they are done; returns how many pages were not right */
    OWNER_LOOK,      /* a page, without threads: its first 8 bytes */
    OWNER_DISCARD,   /* a: page, b: how many: MADV_DONTNEED, or a hole in its memfd */
    OWNER_UNMAP,     /* a: page, b: how many */
    OWNER_UNMAP_LATE, /* the same by a thread, answered before */
    OWNER_PROTECT,   /* a: page: gives it another mapping, PROT_READ */
    OWNER_LOCK,      /* all of it */
    OWNER_UNLOCK,
    OWNER_THP_OFF,
    OWNER_WRITE,     /* a: page */
} OwnerWord;

guint64 owner_ask(const Owner *owner, OwnerWord word, guint64 a, guint64 b);
