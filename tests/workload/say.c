/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/workload/say.h"

#include <stdio.h>

JsonBuilder *say_begin(const char *event)
{
    JsonBuilder *builder = json_builder_new();

    json_builder_begin_object(builder);
    say_text(builder, "event", event);
    json_builder_set_member_name(builder, "t");
    json_builder_add_double_value(builder, (double)g_get_monotonic_time() / 1e6);
    return builder;
}

void say_text(JsonBuilder *builder, const char *name, const char *text)
{
    json_builder_set_member_name(builder, name);
    if (text)
        json_builder_add_string_value(builder, text);
    else
        json_builder_add_null_value(builder);
}

void say_number(JsonBuilder *builder, const char *name, guint64 number)
{
    json_builder_set_member_name(builder, name);
    json_builder_add_int_value(builder, (gint64)number);
}

void say_end(JsonBuilder *builder)
{
    g_autoptr(JsonGenerator) generator = json_generator_new();
    g_autoptr(JsonNode) root = NULL;
    g_autofree char *text = NULL;

    json_builder_end_object(builder);
    root = json_builder_get_root(builder);
    json_generator_set_root(generator, root);
    text = json_generator_to_data(generator, NULL);
    puts(text);
    fflush(stdout);
    g_object_unref(builder);
}

void say(const char *event, const char *name, const char *text)
{
    JsonBuilder *builder = say_begin(event);

    if (name)
        say_text(builder, name, text);
    say_end(builder);
}
