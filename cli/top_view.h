/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The screen of `virt-postcopy top`: from data and a size to lines. Pure. */
#pragma once

#include <glib.h>

#include "cli/job.h"

typedef struct {
    const char *uri;
    const char *host;       /* its own name; NULL: not known */
    const char *clock;      /* "12:34:56" */
    const GPtrArray *jobs;  /* the newest answer; NULL before the first one */
    const char *trouble;    /* why there is no connection; NULL: there is one */
    guint silent;           /* seconds for which an answer has been overdue; 0: it is not */
} TopFrame;

typedef enum {
    TOP_LINE_PLAIN,
    TOP_LINE_HEADER,  /* of the screen */
    TOP_LINE_DOMAIN,  /* of a migration */
    TOP_LINE_TROUBLE, /* something is wrong */
} TopLineKind;

typedef struct {
    TopLineKind kind;
    char *text; /* never wider than asked for */
} TopLine;

/* A list of TopLine, no wider than columns and no more than rows (0: as many as it takes; what does
 * not fit is counted on the last line). */
GPtrArray *top_view(const TopFrame *frame, gsize columns, gsize rows);

/* "[####......]" of that many columns, brackets included; "" if there is no room for one. */
char *top_view_bar(double fraction, gsize columns);
