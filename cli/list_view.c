/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "cli/list_view.h"

#include <glib/gi18n.h>

#include "cli/text.h"
#include "cli/words.h"

typedef char *(*Cell)(const Job *job);

static char *cell_domain(const Job *job)
{
    return g_strdup(job->domain);
}

static char *cell_side(const Job *job)
{
    return g_strdup(words_side(job_side(job)));
}

static char *cell_phase(const Job *job)
{
    return words_phase(job);
}

static char *cell_progress(const Job *job)
{
    return words_percent(job_progress(job));
}

static char *cell_remaining(const Job *job)
{
    return text_bytes(job_remaining(job));
}

static char *cell_rate(const Job *job)
{
    return words_if(job_rate(job), text_rate);
}

static char *cell_link(const Job *job)
{
    return words_link(job);
}

static char *cell_requests(const Job *job)
{
    return g_strdup_printf("%" G_GUINT64_FORMAT, job_number(job, "postcopy.requests"));
}

static char *cell_p50(const Job *job)
{
    return words_if(job_number(job, "postcopy.latency_p50"), text_us);
}

static char *cell_p99(const Job *job)
{
    return words_if(job_number(job, "postcopy.latency_p99"), text_us);
}

static char *cell_peer(const Job *job)
{
    return words_peer(job);
}

static const struct {
    const char *heading;
    Cell cell;
    gboolean right;
} columns[] = {
    { N_("Domain"), cell_domain, FALSE },
    { N_("Side"), cell_side, FALSE },
    { N_("Phase"), cell_phase, FALSE },
    { N_("Progress"), cell_progress, TRUE },
    { N_("Remaining"), cell_remaining, TRUE },
    { N_("Rate"), cell_rate, TRUE },
    { N_("Link"), cell_link, FALSE },
    { N_("Requests"), cell_requests, TRUE },
    { N_("p50"), cell_p50, TRUE },
    { N_("p99"), cell_p99, TRUE },
    { N_("Peer"), cell_peer, FALSE },
};

/* All cells, row by row; the first row is the headings. */
static GPtrArray *make_cells(const GPtrArray *jobs)
{
    GPtrArray *cells = g_ptr_array_new_with_free_func(g_free);

    for (gsize column = 0; column < G_N_ELEMENTS(columns); column++)
        g_ptr_array_add(cells, g_strdup(_(columns[column].heading)));
    for (guint i = 0; i < jobs->len; i++) {
        for (gsize column = 0; column < G_N_ELEMENTS(columns); column++)
            g_ptr_array_add(cells, columns[column].cell(jobs->pdata[i]));
    }
    return cells;
}

char *list_view_table(const GPtrArray *jobs)
{
    g_autoptr(GPtrArray) cells = make_cells(jobs);
    gsize widths[G_N_ELEMENTS(columns)] = { 0 };
    GString *out = g_string_new(NULL);

    for (guint i = 0; i < cells->len; i++) {
        gsize column = i % G_N_ELEMENTS(columns);

        widths[column] = MAX(widths[column], text_width(cells->pdata[i]));
    }
    for (guint i = 0; i < cells->len; i++) {
        gsize column = i % G_N_ELEMENTS(columns);
        gboolean last = column + 1 == G_N_ELEMENTS(columns);
        g_autofree char *cell = text_fit(cells->pdata[i], widths[column], columns[column].right);

        if (last)
            g_strchomp(cell);
        g_string_append_printf(out, "%s%s", cell, last ? "\n" : "  ");
    }
    return g_string_free(out, FALSE);
}
