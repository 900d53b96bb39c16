/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the JSON forms of the commands share. */
#pragma once

#include <json-glib/json-glib.h>

/* A member of the object being built: a string, with what is no UTF-8 replaced; null for NULL. */
void json_add_text(JsonBuilder *builder, const char *name, const char *text);

/* All that was built, indented, with a newline at its end. */
char *json_text(JsonBuilder *builder);
