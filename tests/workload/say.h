/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the workload tells whoever started it: objects of JSON, one a line, on standard output. */
#pragma once

#include <json-glib/json-glib.h>

/* Begins {"event": event, "t": seconds of CLOCK_MONOTONIC; say_end() ends and writes it. */
JsonBuilder *say_begin(const char *event);
void say_text(JsonBuilder *builder, const char *name, const char *text); /* NULL: null */
void say_number(JsonBuilder *builder, const char *name, guint64 number);
void say_end(JsonBuilder *builder);

/* An event with one text, or none (name NULL). */
void say(const char *event, const char *name, const char *text);
