/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asks a host about its migrations again and again, in a thread of its own, so that whoever shows
 * the answers never waits for one. A lost connection is opened again. */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>

typedef struct Sampler Sampler;

/* One answer, or why there is none. */
typedef struct {
    char *host;      /* NULL: not known */
    GPtrArray *jobs; /* of Job; NULL when the connection is lost */
    char *trouble;   /* why it is; NULL when it is not */
} Sample;

/* Called in the default main context; the sample is the callee's (sample_free). */
typedef void (*SamplerFunc)(Sample *sample, gpointer data);

void sample_free(Sample *sample);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Sample, sample_free)

/* Begins at once, with a connection that it takes, and goes on interval_ms after each answer.
 * completed: as for sample_jobs(); what has been seen running stays for a while in any case. */
Sampler *sampler_new(virConnect *connection, const char *uri, gboolean completed,
                     guint interval_ms, SamplerFunc func, gpointer data);
void sampler_ask_now(Sampler *sampler);

/* No call of func follows. FALSE: the thread hangs in a call to a host that does not answer; it is
 * left to itself, and the process should end by _exit(). */
gboolean sampler_stop(Sampler *sampler);
