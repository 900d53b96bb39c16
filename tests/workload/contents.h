/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What stands in a page of the workload's memory: a function of the page and of how often it was
 * written (its version), so that whoever knows the version can tell whether every byte is right.
 *
 * Version 0 is a page of zeros. Sixteen versions follow each other by a few changed bytes each; then the
 * page is written anew as a whole, and now and then it is zeros again. Pure; any thread. */
#pragma once

#include <glib.h>

#define CONTENTS_PAGE 4096

typedef enum { CONTENTS_RANDOM, CONTENTS_TEXT } ContentsKind;

typedef struct {
    guint64 seed;
    ContentsKind kind;
} Contents;

/* page: its number over all of the memory. */
void contents_make(const Contents *contents, guint64 page, guint32 version, guint8 *out);
/* Makes a page of that version one of the next, in place, touching what changes. */
void contents_step(const Contents *contents, guint64 page, guint32 version, guint8 *at);
gboolean contents_check(const Contents *contents, guint64 page, guint32 version,
                        const guint8 *at);
/* Only the first bytes. The same for all versions, but for zeros: may be looked at while another
 * thread writes the page. */
gboolean contents_check_tag(const Contents *contents, guint64 page, const guint8 *at);
/* For messages: "zeros", "version 7 of page 12", "not of this memory". g_free(). */
char *contents_describe(const Contents *contents, guint64 pages, const guint8 *at);

guint64 contents_hash(const guint8 *at);
