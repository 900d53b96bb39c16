/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "cli/top_view.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>

#include "cli/text.h"
#include "cli/words.h"

#define INDENT 2
#define GAP 3
#define BAR_MIN 10
#define BAR_MAX 50

/* --- lines --- */

static void line_free(gpointer data)
{
    TopLine *line = data;

    g_free(line->text);
    g_free(line);
}

/* Takes text. */
static void add_line(GPtrArray *lines, TopLineKind kind, gsize columns, char *text)
{
    TopLine *line = g_new0(TopLine, 1);

    line->kind = kind;
    line->text = g_strchomp(text_fit(text, columns, FALSE));
    g_free(text);
    g_ptr_array_add(lines, line);
}

/* The items one behind the other, gap columns apart, on as many lines as they need; none is torn
 * unless it is wider than a line. Empty ones are left out. */
static void flow(GPtrArray *lines, TopLineKind kind, gsize columns, gsize indent, gsize gap,
                 char *const *items)
{
    g_autoptr(GString) line = g_string_new(NULL);
    gsize width = 0;

    for (; *items; items++) {
        gsize next = text_width(*items);

        if (next == 0)
            continue;
        if (width > 0 && width + gap + next > columns) {
            add_line(lines, kind, columns, g_strdup(line->str));
            g_string_truncate(line, 0);
            width = 0;
        }
        g_string_append_printf(line, "%*s%s", (int)(width > 0 ? gap : indent), "", *items);
        width += (width > 0 ? gap : indent) + next;
    }
    if (width > 0)
        add_line(lines, kind, columns, g_strdup(line->str));
}

char *top_view_bar(double fraction, gsize columns)
{
    gsize inside = columns > 2 ? columns - 2 : 0;
    gsize done = (gsize)(CLAMP(fraction, 0, 1) * (double)inside);
    g_autofree char *full = g_strnfill(done, '#'), *rest = g_strnfill(inside - done, '.');

    return inside > 0 ? g_strdup_printf("[%s%s]", full, rest) : g_strdup("");
}

/* --- one migration --- */

static char *describe_peer(const Job *job)
{
    g_autofree char *peer = words_peer(job);

    switch (job_text(job, "postcopy.peer") ? job_side(job) : JOB_SIDE_UNKNOWN) {
    case JOB_SIDE_SOURCE:
        return g_strdup_printf(_("to %1$s"), peer);
    case JOB_SIDE_DESTINATION:
        return g_strdup_printf(_("from %1$s"), peer);
    case JOB_SIDE_UNKNOWN:
        break;
    }
    return g_strdup("");
}

static void add_title(GPtrArray *lines, const Job *job, gsize columns)
{
    const char *tls = job_text(job, "postcopy.tls");
    g_auto(GStrv) items = g_new0(char *, 5);

    items[0] = text_fit(job->domain, MIN(text_width(job->domain), columns), FALSE);
    items[1] = g_strdup(words_side(job_side(job)));
    items[2] = describe_peer(job);
    items[3] = g_strdup(tls ? tls : "");
    flow(lines, TOP_LINE_DOMAIN, columns, 0, GAP, items);
}

static char *describe_eta(const Job *job)
{
    g_autofree char *duration = NULL;
    guint64 seconds;

    if (job_ended(job) || !job_eta(job, &seconds))
        return g_strdup("");
    duration = text_duration(seconds);
    return g_strdup_printf(_("ETA %1$s"), duration);
}

/* The bar takes what the rest of its line leaves. */
static void add_progress(GPtrArray *lines, const Job *job, gsize columns)
{
    g_auto(GStrv) items = g_new0(char *, 5);
    gsize rest, room;

    items[0] = words_phase(job);
    items[2] = words_percent(job_progress(job));
    items[3] = describe_eta(job);
    rest = INDENT + text_width(items[0]) + 2 * GAP + strlen("100%") + GAP + strlen("ETA 0:00:00");
    room = columns > rest ? columns - rest : 0;
    room = room < BAR_MIN ? MIN(columns > INDENT ? columns - INDENT : 0, BAR_MIN * 2) : room;
    items[1] = top_view_bar(job_progress(job), MIN(room, BAR_MAX));
    flow(lines, TOP_LINE_PLAIN, columns, INDENT, GAP, items);
}

static void add_amounts(GPtrArray *lines, const Job *job, gsize columns)
{
    g_autofree char *sent = text_bytes(job_transferred(job));
    g_autofree char *left = text_bytes(job_remaining(job));
    g_autofree char *total = text_bytes(job_total(job));
    g_autofree char *rate = words_if(job_rate(job), text_rate);
    guint64 rtt_us = job_number(job, "postcopy.rtt"); /* the source measures it */
    g_autofree char *rtt = text_us(rtt_us);
    g_auto(GStrv) items = g_new0(char *, 6);

    items[0] = g_strdup_printf(_("transferred %1$s"), sent);
    items[1] = g_strdup_printf(_("remaining %1$s"), left);
    items[2] = g_strdup_printf(_("total %1$s"), total);
    items[3] = g_strdup_printf(_("rate %1$s"), rate);
    items[4] = rtt_us > 0 ? g_strdup_printf(_("round trip %1$s"), rtt) : g_strdup("");
    flow(lines, TOP_LINE_PLAIN, columns, INDENT, GAP, items);
}

static char *describe_requests(const Job *job)
{
    guint64 all = job_number(job, "postcopy.requests");
    guint64 waiting = job_number(job, "postcopy.requests_outstanding");

    if (waiting == 0)
        return g_strdup_printf(_("requests %1$" PRIu64), all);
    return g_strdup_printf(_("requests %1$" PRIu64 " (%2$" PRIu64 " waiting)"), all, waiting);
}

/* How long the guest has waited for its pages: the destination knows. */
static void add_requests(GPtrArray *lines, const Job *job, gsize columns)
{
    static const struct {
        const char *field, *label;
    } stalls[] = {
        { "postcopy.latency_avg", N_("avg") },
        { "postcopy.latency_p50", N_("p50") },
        { "postcopy.latency_p99", N_("p99") },
        { "postcopy.latency_max", N_("max") },
    };
    g_auto(GStrv) items = g_new0(char *, G_N_ELEMENTS(stalls) + 3);
    gsize n = 0;

    items[n++] = describe_requests(job);
    for (gsize i = 0; i < G_N_ELEMENTS(stalls); i++) {
        g_autofree char *value = words_if(job_number(job, stalls[i].field), text_us);

        if (job_has(job, stalls[i].field))
            items[n++] = g_strdup_printf("%s %s", _(stalls[i].label), value);
    }
    if (job_has(job, "postcopy.block_time")) {
        g_autofree char *blocked = text_ms(job_number(job, "postcopy.block_time"));

        items[n++] = g_strdup_printf(_("blocked %1$s"), blocked);
    }
    flow(lines, TOP_LINE_PLAIN, columns, INDENT, GAP, items);
}

static char *describe_link(const Job *job)
{
    guint64 lost = job_number(job, "postcopy.link_lost_time");
    g_autofree char *link = words_link(job), *time = text_ms(lost);

    if (lost == 0)
        return g_strdup_printf(_("link %1$s"), link);
    return g_strdup_printf(_("link %1$s, lost for %2$s"), link, time);
}

static void add_link(GPtrArray *lines, const Job *job, gsize columns)
{
    gboolean lost = g_strcmp0(job_text(job, "postcopy.link"), "lost") == 0 && !job_ended(job);
    double ratio = job_double(job, "postcopy.compression_ratio");
    g_auto(GStrv) items = g_new0(char *, 5);

    items[0] = describe_link(job);
    items[1] = g_strdup_printf(_("resumes %1$" PRIu64), job_number(job, "postcopy.resumes"));
    items[2] = g_strdup_printf(_("recoveries %1$" PRIu64), job_number(job, "postcopy.recoveries"));
    items[3] = ratio > 0 ? g_strdup_printf(_("compression %1$.2f"), ratio) : g_strdup("");
    flow(lines, lost ? TOP_LINE_TROUBLE : TOP_LINE_PLAIN, columns, INDENT, GAP, items);
}

static GPtrArray *migration_lines(const Job *job, gsize columns)
{
    GPtrArray *lines = g_ptr_array_new_with_free_func(line_free);

    add_title(lines, job, columns);
    add_progress(lines, job, columns);
    add_amounts(lines, job, columns);
    add_requests(lines, job, columns);
    add_link(lines, job, columns);
    return lines;
}

/* --- the screen --- */

static guint count_running(const GPtrArray *jobs)
{
    guint n = 0;

    for (guint i = 0; jobs && i < jobs->len; i++)
        n += job_ended(jobs->pdata[i]) ? 0 : 1;
    return n;
}

static void add_header(GPtrArray *lines, const TopFrame *frame, gsize columns)
{
    guint n = count_running(frame->jobs);
    g_auto(GStrv) items = g_new0(char *, 5);

    items[0] = g_strdup(frame->host ? frame->host : "");
    items[1] = g_strdup(frame->uri);
    items[2] = g_strdup(frame->clock);
    if (frame->jobs)
        items[3] = g_strdup_printf(ngettext("%u migration", "%u migrations", n), n);
    flow(lines, TOP_LINE_HEADER, columns, 0, GAP, items);
}

/* Word by word: the end of an error is often what matters. */
static void add_trouble(GPtrArray *lines, const TopFrame *frame, gsize columns)
{
    g_autofree char *text = NULL, *valid = NULL;
    g_auto(GStrv) words = NULL;

    if (frame->trouble)
        text = g_strdup_printf(_("The connection is lost, trying again: %1$s"), frame->trouble);
    else if (frame->silent > 0)
        text = g_strdup_printf(ngettext("No answer for %u second", "No answer for %u seconds",
                                        frame->silent),
                               frame->silent);
    else
        return;
    valid = g_utf8_make_valid(text, -1);
    words = g_strsplit(valid, " ", -1);
    flow(lines, TOP_LINE_TROUBLE, columns, 0, 1, words);
}

static void add_more(GPtrArray *lines, guint hidden, gsize columns)
{
    add_line(lines, TOP_LINE_TROUBLE, columns,
             g_strdup_printf(ngettext("%u more migration does not fit here",
                                      "%u more migrations do not fit here", hidden),
                             hidden));
}

/* Whole migrations, as many as fit; one line is kept for the count of the others. */
static void add_migrations(GPtrArray *lines, const GPtrArray *jobs, gsize columns, gsize rows)
{
    for (guint i = 0; i < jobs->len; i++) {
        g_autoptr(GPtrArray) block = migration_lines(jobs->pdata[i], columns);
        gsize needed = lines->len + 1 + block->len + (i + 1 < jobs->len ? 1 : 0);

        if (rows > 0 && needed > rows) {
            add_more(lines, jobs->len - i, columns);
            return;
        }
        add_line(lines, TOP_LINE_PLAIN, columns, g_strdup(""));
        g_ptr_array_extend_and_steal(lines, g_steal_pointer(&block));
    }
}

GPtrArray *top_view(const TopFrame *frame, gsize columns, gsize rows)
{
    GPtrArray *lines = g_ptr_array_new_with_free_func(line_free);

    add_header(lines, frame, columns);
    add_trouble(lines, frame, columns);
    if (frame->jobs && count_running(frame->jobs) == 0)
        add_line(lines, TOP_LINE_PLAIN, columns, g_strdup(_("No migration is running.")));
    if (frame->jobs)
        add_migrations(lines, frame->jobs, columns, rows);
    if (rows > 0 && lines->len > rows)
        g_ptr_array_set_size(lines, (gint)rows);
    return lines;
}
