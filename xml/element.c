/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "xml/element.h"

#include <glib/gi18n.h>
#include <string.h>

/* In messages nothing is longer: names of files may have any length. */
#define ABOUT_MAX 256

char *xml_attribute(const xmlNode *node, const char *name)
{
    xmlChar *found = xmlGetNoNsProp((xmlNode *)node, BAD_CAST name);
    char *value = found ? g_strdup((const char *)found) : NULL;

    xmlFree(found);
    return value;
}

/* The attribute that tells kinds of an element apart. */
static const char *find_kind(const xmlNode *node)
{
    static const char *const kinds[] = { "type", "model", "mode", "id", "name" };

    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (xmlHasProp((xmlNode *)node, BAD_CAST kinds[i]))
            return kinds[i];
    }
    return NULL;
}

/* Devices and cells come in numbers; what stands right below the domain does not. */
static gboolean is_counted(const xmlNode *node)
{
    return node->parent && (xmlStrEqual(node->parent->name, BAD_CAST "devices"));
}

static guint count(const xmlNode *node, const char *kind, const char *value)
{
    guint number = 1;

    for (const xmlNode *brother = node->prev; brother; brother = brother->prev) {
        if (brother->type == XML_ELEMENT_NODE && xmlStrEqual(brother->name, node->name) &&
            (!kind || xml_attribute_is(brother, kind, value)))
            number++;
    }
    return number;
}

/* What a peer wrote goes to logs and terminals. */
static void append_plain(GString *text, const char *from)
{
    const char *end = from + strnlen(from, ABOUT_MAX);

    for (const char *p = from; p < end;) {
        gunichar c = g_utf8_get_char_validated(p, end - p);

        if (c == (gunichar)-1 || c == (gunichar)-2)
            break;
        g_string_append_unichar(text, g_unichar_isprint(c) ? c : '?');
        p = g_utf8_next_char(p);
    }
}

char *xml_element_describe(const xmlNode *node, const char *about)
{
    g_autoptr(GString) text = g_string_new("<");
    const char *kind = find_kind(node);
    g_autofree char *value = kind ? xml_attribute(node, kind) : NULL;

    append_plain(text, (const char *)node->name);
    if (value) {
        g_string_append_printf(text, " %s='", kind);
        append_plain(text, value);
        g_string_append_c(text, '\'');
    }
    g_string_append_c(text, '>');
    if (is_counted(node))
        g_string_append_printf(text, _(" number %u"), count(node, kind, value));
    if (about && *about) {
        g_string_append(text, " (");
        append_plain(text, about);
        g_string_append_c(text, ')');
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}
