/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A recursive descent without recursion: nothing nests in this syntax but strings in a list. */
#include "config.h"

#include "util/conf.h"

#include <glib/gi18n.h>
#include <string.h>

G_DEFINE_QUARK(conf-error-quark, conf_error)

typedef struct {
    const char *p;
    const char *end;
    guint line;
    const char *filename;
} Scanner;

static void conf_entry_free(gpointer data)
{
    ConfEntry *entry = data;

    g_free(entry->key);
    g_free(entry->string);
    g_strfreev(entry->list);
    g_free(entry);
}

const char *conf_type_name(ConfType type)
{
    switch (type) {
    case CONF_INTEGER:
        return _("an integer");
    case CONF_STRING:
        return _("a string");
    case CONF_LIST:
        return _("a list");
    }
    g_return_val_if_reached("");
}

static gboolean fail(const Scanner *s, GError **error, ConfError code, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

static gboolean fail(const Scanner *s, GError **error, ConfError code, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, CONF_ERROR, code, "%s:%u: %s", s->filename, s->line, what);
    return FALSE;
}

/* The next character, or NUL at the end (the text itself holds none). */
static char peek(const Scanner *s)
{
    return s->p < s->end ? *s->p : '\0';
}

static gboolean at_line_end(const Scanner *s)
{
    return peek(s) == '\n' || peek(s) == '\0';
}

static void skip_blanks(Scanner *s)
{
    while (peek(s) == ' ' || peek(s) == '\t' || peek(s) == '\r')
        s->p++;
}

static void skip_comment(Scanner *s)
{
    if (peek(s) != '#')
        return;
    while (!at_line_end(s))
        s->p++;
}

/* Blanks, comments and line ends. */
static void skip_space(Scanner *s)
{
    for (;;) {
        skip_blanks(s);
        skip_comment(s);
        if (peek(s) != '\n')
            return;
        s->line++;
        s->p++;
    }
}

static gboolean take_key(Scanner *s, char **ret_key, GError **error)
{
    const char *start = s->p;

    if (!g_ascii_isalpha(peek(s)))
        return fail(s, error, CONF_ERROR_SYNTAX,
                    _("a line must begin with the name of a key, or with # for a comment"));
    while (g_ascii_isalnum(peek(s)) || peek(s) == '_')
        s->p++;
    if (s->p - start > CONF_KEY_MAX)
        return fail(s, error, CONF_ERROR_LIMIT, _("the name of a key is longer than %d bytes"),
                    CONF_KEY_MAX);
    *ret_key = g_strndup(start, (gsize)(s->p - start));
    return TRUE;
}

static guint count_lines(const char *start, const char *end)
{
    guint n = 0;

    for (; start < end; start++)
        n += *start == '\n';
    return n;
}

/* Stands at three double quotes. */
static gboolean take_long_string(Scanner *s, char **ret_string, GError **error)
{
    const char *start = s->p + 3;
    const char *stop = g_strstr_len(start, s->end - start, "\"\"\"");

    if (!stop)
        return fail(s, error, CONF_ERROR_SYNTAX, _("a string that begins with \"\"\" has no end"));
    *ret_string = g_strndup(start, (gsize)(stop - start));
    s->line += count_lines(start, stop);
    s->p = stop + 3;
    return TRUE;
}

/* Stands at a quote of either kind. */
static gboolean take_string(Scanner *s, char **ret_string, GError **error)
{
    char quote = peek(s);
    const char *start = s->p + 1;

    if (s->end - s->p >= 3 && memcmp(s->p, "\"\"\"", 3) == 0)
        return take_long_string(s, ret_string, error);
    s->p++;
    while (!at_line_end(s) && peek(s) != quote)
        s->p++;
    if (at_line_end(s))
        return fail(s, error, CONF_ERROR_SYNTAX, _("a string has no closing %c"), quote);
    *ret_string = g_strndup(start, (gsize)(s->p - start));
    s->p++;
    return TRUE;
}

static gboolean take_integer(Scanner *s, gint64 *ret_integer, GError **error)
{
    const char *start = s->p;
    g_autofree char *digits = NULL;

    if (peek(s) == '-')
        s->p++;
    while (g_ascii_isdigit(peek(s)))
        s->p++;
    digits = g_strndup(start, (gsize)(s->p - start));
    if (!g_ascii_string_to_signed(digits, 10, G_MININT64, G_MAXINT64, ret_integer, NULL))
        return fail(s, error, CONF_ERROR_SYNTAX, _("\"%.32s\" is not an integer of 64 bits"),
                    digits);
    return TRUE;
}

/* Stands at '['. Each round takes one string and what follows it. */
static gboolean take_list(Scanner *s, char ***ret_list, GError **error)
{
    g_autoptr(GPtrArray) items = g_ptr_array_new_with_free_func(g_free);
    guint first_line = s->line;

    s->p++;
    skip_space(s);
    while (peek(s) != ']') {
        char *item;

        if (peek(s) == '\0')
            return fail(s, error, CONF_ERROR_SYNTAX,
                        _("the list that begins in line %u has no end"), first_line);
        if (items->len == CONF_LIST_MAX)
            return fail(s, error, CONF_ERROR_LIMIT, _("a list has more than %d items"),
                        CONF_LIST_MAX);
        if (peek(s) != '"' && peek(s) != '\'')
            return fail(s, error, CONF_ERROR_SYNTAX, _("a list can hold strings only"));
        if (!take_string(s, &item, error))
            return FALSE;
        g_ptr_array_add(items, item);
        skip_space(s);
        if (peek(s) == ',') {
            s->p++;
            skip_space(s);
        } else if (peek(s) != ']' && peek(s) != '\0') {
            return fail(s, error, CONF_ERROR_SYNTAX,
                        _("a comma is missing between two list items"));
        }
    }
    s->p++;
    g_ptr_array_add(items, NULL);
    *ret_list = (char **)g_ptr_array_free(g_steal_pointer(&items), FALSE);
    return TRUE;
}

static gboolean take_value(Scanner *s, ConfEntry *entry, GError **error)
{
    char c = peek(s);

    if (c == '"' || c == '\'') {
        entry->type = CONF_STRING;
        return take_string(s, &entry->string, error);
    }
    if (c == '[') {
        entry->type = CONF_LIST;
        return take_list(s, &entry->list, error);
    }
    if (c == '-' || g_ascii_isdigit(c)) {
        entry->type = CONF_INTEGER;
        return take_integer(s, &entry->integer, error);
    }
    if (at_line_end(s) || c == '#')
        return fail(s, error, CONF_ERROR_SYNTAX, _("%s has no value"), entry->key);
    return fail(s, error, CONF_ERROR_SYNTAX,
                _("the value of %s must be an integer, a quoted string or a list"), entry->key);
}

static gboolean take_entry(Scanner *s, ConfEntry *entry, GError **error)
{
    entry->line = s->line;
    if (!take_key(s, &entry->key, error))
        return FALSE;
    skip_blanks(s);
    if (peek(s) != '=')
        return fail(s, error, CONF_ERROR_SYNTAX, _("%s is not followed by \"=\""), entry->key);
    s->p++;
    skip_blanks(s);
    if (!take_value(s, entry, error))
        return FALSE;
    skip_blanks(s);
    skip_comment(s);
    if (!at_line_end(s))
        return fail(s, error, CONF_ERROR_SYNTAX, _("something follows the value of %s"),
                    entry->key);
    return TRUE;
}

static gboolean check_text(Scanner *s, GError **error)
{
    const char *valid_end;

    if (s->end - s->p > CONF_TEXT_MAX)
        return fail(s, error, CONF_ERROR_LIMIT, _("the file is larger than %d bytes"),
                    CONF_TEXT_MAX);
    if (g_utf8_validate_len(s->p, (gsize)(s->end - s->p), &valid_end))
        return TRUE;
    s->line += count_lines(s->p, valid_end);
    return fail(s, error, CONF_ERROR_SYNTAX, _("a byte that is not UTF-8 text"));
}

GPtrArray *conf_parse(const char *text, gsize len, const char *filename, GError **error)
{
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func(conf_entry_free);
    g_autoptr(GHashTable) lines = g_hash_table_new(g_str_hash, g_str_equal);
    Scanner s = { text, text + len, 1, filename };

    if (!check_text(&s, error))
        return NULL;
    for (skip_space(&s); s.p < s.end; skip_space(&s)) {
        ConfEntry *entry = g_new0(ConfEntry, 1);
        guint before;

        g_ptr_array_add(entries, entry);
        if (entries->len > CONF_ENTRIES_MAX) {
            fail(&s, error, CONF_ERROR_LIMIT, _("more than %d keys"), CONF_ENTRIES_MAX);
            return NULL;
        }
        if (!take_entry(&s, entry, error))
            return NULL;
        before = GPOINTER_TO_UINT(g_hash_table_lookup(lines, entry->key));
        if (before) {
            s.line = entry->line;
            fail(&s, error, CONF_ERROR_DUPLICATE, _("%s was set already in line %u"), entry->key,
                 before);
            return NULL;
        }
        g_hash_table_insert(lines, entry->key, GUINT_TO_POINTER(entry->line));
    }
    return g_steal_pointer(&entries);
}
