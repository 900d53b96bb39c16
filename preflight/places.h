/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Directories, programs and users that a migration needs on its host. */
#pragma once

#include "preflight/access.h"
#include "preflight/problem.h"
#include "xml/capabilities.h"

typedef struct {
    const char *path;    /* borrowed */
    gboolean exists;
    gboolean is_dir;
    char *closed;        /* the first directory on the way that QEMU's user may not pass; or NULL */
    QemuOwner owner;     /* that user */
} RunDirFacts;

void run_dir_facts_clear(RunDirFacts *facts);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(RunDirFacts, run_dir_facts_clear)

/* The directories on the way to path, and itself, below root. */
void run_dir_look(const char *root, const char *path, const QemuOwner *owner,
                  RunDirFacts *ret_facts);
/* Pure. */
void run_dir_judge(GPtrArray *findings, const RunDirFacts *facts);

typedef struct {
    const char *path; /* borrowed */
    gboolean exists;
    gboolean is_file;
    mode_t mode;
    const char *user; /* borrowed */
    gboolean user_exists;
} HelperFacts;

/* user_known: it was found before. Else the user database is asked, which may take long. */
void helper_look(const char *root, const char *path, const char *user, gboolean user_known,
                 HelperFacts *ret_facts);
/* Pure. */
void helper_judge(GPtrArray *findings, const HelperFacts *facts);
