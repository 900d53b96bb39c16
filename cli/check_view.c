/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "cli/check_view.h"

#include <glib/gi18n.h>

#include "cli/json.h"
#include "cli/text.h"

#define COLUMN_MAX 60

static const char *verdict_word(FindingVerdict verdict)
{
    static const char *const words[] = { N_("PASS"), N_("WARN"), N_("FAIL") };

    return _(words[verdict]);
}

static gsize column_width(const GPtrArray *findings)
{
    gsize widest = 0;

    for (guint i = 0; i < findings->len; i++) {
        const Finding *finding = g_ptr_array_index(findings, i);

        widest = MAX(widest, text_width(finding->what));
    }
    return MIN(widest, COLUMN_MAX);
}

static void add_line(GString *out, const Finding *finding, gsize width)
{
    g_autofree char *what = text_fit(finding->what, width, FALSE);

    g_string_append_printf(out, "%s : %s", what, verdict_word(finding->verdict));
    if (finding->detail)
        g_string_append_printf(out, " (%s)", finding->detail);
    g_string_append_c(out, '\n');
    if (finding->remedy)
        g_string_append_printf(out, "    %s\n", finding->remedy);
}

char *check_view_table(const GPtrArray *findings)
{
    GString *out = g_string_new(NULL);
    gsize width = column_width(findings);

    for (guint i = 0; i < findings->len; i++)
        add_line(out, g_ptr_array_index(findings, i), width);
    return g_string_free(out, FALSE);
}

static void add_finding(JsonBuilder *builder, const Finding *finding)
{
    json_builder_begin_object(builder);
    json_add_text(builder, "verdict", finding_verdict_name(finding->verdict));
    json_add_text(builder, "id", finding->id);
    json_add_text(builder, "what", finding->what);
    json_add_text(builder, "detail", finding->detail);
    json_add_text(builder, "remedy", finding->remedy);
    json_builder_end_object(builder);
}

char *check_view_json(const GPtrArray *findings)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();

    json_builder_begin_object(builder);
    json_add_text(builder, "verdict", finding_verdict_name(findings_verdict(findings)));
    json_builder_set_member_name(builder, "findings");
    json_builder_begin_array(builder);
    for (guint i = 0; i < findings->len; i++)
        add_finding(builder, g_ptr_array_index(findings, i));
    json_builder_end_array(builder);
    json_builder_end_object(builder);
    return json_text(builder);
}
