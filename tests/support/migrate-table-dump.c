/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Prints the table of flags and parameters: as JSON for the tests that try each of them, or as the
 * table of docs/flags.md.
 *
 *     migrate-table-dump --json | --markdown */
#include "config.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "xml/migrate_table.h"

static void set_text(JsonBuilder *builder, const char *member, const char *text)
{
    json_builder_set_member_name(builder, member);
    if (text)
        json_builder_add_string_value(builder, text);
    else
        json_builder_add_null_value(builder);
}

static void add_row(JsonBuilder *builder, const MigrateRow *row)
{
    json_builder_begin_object(builder);
    set_text(builder, "name", row->name);
    json_builder_set_member_name(builder, "bit");
    if (row->bit == MIGRATE_NO_BIT)
        json_builder_add_null_value(builder);
    else
        json_builder_add_int_value(builder, row->bit);
    set_text(builder, "option", row->option);
    set_text(builder, "disposition", migrate_disposition_name(row->disposition));
    json_builder_set_member_name(builder, "code");
    json_builder_add_int_value(builder, row->code);
    set_text(builder, "words", row->words);
    json_builder_end_object(builder);
}

static void print_json(void)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();
    g_autoptr(JsonGenerator) generator = json_generator_new();
    g_autoptr(JsonNode) root = NULL;
    g_autofree char *text = NULL;

    json_builder_begin_array(builder);
    for (gsize i = 0; i < migrate_rows_len; i++)
        add_row(builder, &migrate_rows[i]);
    json_builder_end_array(builder);
    root = json_builder_get_root(builder);
    json_generator_set_root(generator, root);
    json_generator_set_pretty(generator, TRUE);
    text = json_generator_to_data(generator, NULL);
    g_print("%s\n", text);
}

static void print_kind(gboolean flags)
{
    g_print("| %s | virsh | | |\n|---|---|---|---|\n", flags ? "flag" : "parameter");
    for (gsize i = 0; i < migrate_rows_len; i++) {
        const MigrateRow *row = &migrate_rows[i];

        if ((row->bit != MIGRATE_NO_BIT) == flags)
            g_print("| `%s` | `%s` | %s | %s |\n", row->name, row->option,
                    migrate_disposition_name(row->disposition), row->words ? row->words : "");
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--json") == 0) {
        print_json();
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--markdown") == 0) {
        print_kind(TRUE);
        print_kind(FALSE);
        return 0;
    }
    g_printerr("usage: migrate-table-dump --json | --markdown\n");
    return 2;
}
