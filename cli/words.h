/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What list and top call the same thing, translated. Pure. All but words_side() are to be freed. */
#pragma once

#include <glib.h>

#include "cli/job.h"

const char *words_side(JobSide side);
char *words_phase(const Job *job); /* the helper's phase; of a job that has ended, how */
char *words_percent(double fraction); /* "100%" only of all of it */
char *words_peer(const Job *job);  /* a certificate's common name where the peer is a whole one */
char *words_link(const Job *job);  /* "up", "lost" */

/* "-" in place of what is not known. */
char *words_if(guint64 number, char *(*format)(guint64 number));
char *words_or_none(const char *text);
