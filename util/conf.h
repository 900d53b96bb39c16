/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libvirt's configuration syntax, as in libvirtd.conf:
 *
 *     # a comment
 *     key = "text"            or 'text': no escapes, so no quote of the same kind inside
 *     key = """text"""        may hold quotes and line ends
 *     key = 42                decimal, may be negative
 *     key = [ "a", "b", ]     strings; may span lines and hold comments
 *
 * Pure: text in, entries out. What the keys mean is for settings.h. */
#pragma once

#include <gio/gio.h>

#define CONF_ERROR (conf_error_quark())
GQuark conf_error_quark(void);

typedef enum {
    CONF_ERROR_SYNTAX,    /* not the syntax above */
    CONF_ERROR_DUPLICATE, /* a key that was set before */
    CONF_ERROR_LIMIT,     /* one of the limits below */
} ConfError;

#define CONF_TEXT_MAX (1024 * 1024)
#define CONF_ENTRIES_MAX 1024
#define CONF_LIST_MAX 4096
#define CONF_KEY_MAX 64

typedef enum { CONF_INTEGER, CONF_STRING, CONF_LIST } ConfType;

typedef struct {
    char *key;
    guint line; /* where the key stands, from 1 */
    ConfType type;
    gint64 integer; /* CONF_INTEGER */
    char *string;   /* CONF_STRING */
    char **list;    /* CONF_LIST, NULL terminated */
} ConfEntry;

/* ConfEntry pointers in the order of the text; g_ptr_array_unref() frees them. filename is only
 * for messages, which begin with "filename:line: ". text need not be terminated; it must be
 * UTF-8 without NUL. */
GPtrArray *conf_parse(const char *text, gsize len, const char *filename, GError **error);

/* "an integer", "a string", "a list": for messages. */
const char *conf_type_name(ConfType type);
