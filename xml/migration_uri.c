/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads and writes the migration URI. Parsed in place, without a general URI parser: that
 * would leave copies of the token in freed memory. Values are never percent-encoded, none
 * of the characters that they may hold needs it. */
#include "config.h"

#include "xml/migration_uri.h"

#include <glib/gi18n.h>
#include <string.h>

G_DEFINE_QUARK(migration-uri-error-quark, migration_uri_error)

#define SCHEME "postcopy"
#define PREFIX SCHEME ":///?"

/* Far above what a well-formed URI needs (253 bytes of host name + 96 digits + keys). */
#define URI_MAX 1024
#define HOST_NAME_MAX_LEN 253

/* A piece of the text, not terminated. */
typedef struct {
    const char *start;
    gsize len;
} Span;

enum { KEY_PEER, KEY_SESSION, KEY_TOKEN, KEY_MAX };

static const char *const key_names[KEY_MAX] = { "peer", "session", "token" };

void migration_uri_clear(MigrationUri *uri)
{
    g_free(uri->host);
    explicit_bzero(uri, sizeof *uri);
}

static gboolean fail(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

static gboolean fail(GError **error, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, MIGRATION_URI_ERROR, MIGRATION_URI_ERROR_SYNTAX, _("migration URI: %s"),
                what);
    return FALSE;
}

gboolean migration_uri_is_ours(const char *text)
{
    const char *p;

    if (g_ascii_strncasecmp(text, SCHEME, strlen(SCHEME)) != 0)
        return FALSE;
    p = text + strlen(SCHEME);
    if (*p == '+') {
        do {
            p++;
        } while (g_ascii_isalnum(*p) || *p == '+' || *p == '-' || *p == '.');
    }
    return *p == ':';
}

gboolean migration_uri_host_is_valid(const char *host)
{
    gsize len = strlen(host);

    if (strchr(host, ':')) {
        g_autoptr(GInetAddress) address = g_inet_address_new_from_string(host);

        return address && !strchr(host, '%');
    }
    if (len == 0 || len > HOST_NAME_MAX_LEN || !g_ascii_isalnum(host[0]))
        return FALSE;
    for (gsize i = 0; i < len; i++) {
        if (!g_ascii_isalnum(host[i]) && host[i] != '.' && host[i] != '-' && host[i] != '_')
            return FALSE;
    }
    return TRUE;
}

gboolean migration_uri_port_parse(const char *text, gsize len, guint16 *ret_port)
{
    guint port = 0;

    if (len == 0 || len > 5 || text[0] == '0')
        return FALSE;
    for (gsize i = 0; i < len; i++) {
        if (!g_ascii_isdigit(text[i]))
            return FALSE;
        port = port * 10 + (guint)(text[i] - '0');
    }
    if (port > G_MAXUINT16)
        return FALSE;
    *ret_port = (guint16)port;
    return TRUE;
}

/* HOST:PORT or [IPv6]:PORT */
static gboolean parse_peer(Span value, char **ret_host, guint16 *ret_port, GError **error)
{
    const char *end = value.start + value.len;
    const char *colon = memrchr(value.start, ':', value.len);
    g_autofree char *host = NULL;
    Span name;

    if (!colon)
        return fail(error, _("peer has no port (HOST:PORT is needed)"));
    name = (Span){ value.start, (gsize)(colon - value.start) };
    if (name.len >= 2 && name.start[0] == '[' && name.start[name.len - 1] == ']') {
        host = g_strndup(name.start + 1, name.len - 2);
        if (!strchr(host, ':'))
            return fail(error, _("peer has something else than an IPv6 address in its brackets"));
    } else {
        host = g_strndup(name.start, name.len);
        if (strchr(host, ':'))
            return fail(error, _("an IPv6 address as peer needs brackets: [ADDRESS]:PORT"));
    }
    if (!migration_uri_host_is_valid(host))
        return fail(error, _("the host of peer is neither a host name nor an address"));
    if (!migration_uri_port_parse(colon + 1, (gsize)(end - colon - 1), ret_port))
        return fail(error, _("the port of peer is not a number from 1 to 65535"));
    *ret_host = g_steal_pointer(&host);
    return TRUE;
}

/* Exactly 2 * len hex digits. The message tells lengths only: the value may be secret. */
static gboolean parse_hex(const char *key, Span value, guint8 *bytes, gsize len, GError **error)
{
    if (value.len != 2 * len)
        return fail(error, _("%s has %zu characters instead of %zu hex digits"), key, value.len,
                    2 * len);
    for (gsize i = 0; i < len; i++) {
        int high = g_ascii_xdigit_value(value.start[2 * i]);
        int low = g_ascii_xdigit_value(value.start[2 * i + 1]);

        if (high < 0 || low < 0)
            return fail(error, _("%s has a character that is not a hex digit"), key);
        bytes[i] = (guint8)(high << 4 | low);
    }
    return TRUE;
}

static gsize key_index(Span key)
{
    for (gsize i = 0; i < KEY_MAX; i++) {
        if (key.len == strlen(key_names[i]) && memcmp(key.start, key_names[i], key.len) == 0)
            return i;
    }
    return KEY_MAX;
}

/* Cuts "peer=...&session=...&token=..." into its values, in any order, each once. */
static gboolean split_query(const char *query, Span values[KEY_MAX], GError **error)
{
    const char *p = query;

    for (;;) {
        gsize len = strcspn(p, "&");
        const char *equals = memchr(p, '=', len);
        gsize key;

        if (!equals)
            return fail(error, _("a parameter without a value (character %zu)"),
                        (gsize)(p - query) + strlen(PREFIX));
        key = key_index((Span){ p, (gsize)(equals - p) });
        if (key == KEY_MAX)
            return fail(error, _("an unknown parameter (character %zu)"),
                        (gsize)(p - query) + strlen(PREFIX));
        if (values[key].start)
            return fail(error, _("%s is given twice"), key_names[key]);
        values[key] = (Span){ equals + 1, len - (gsize)(equals + 1 - p) };
        if (p[len] == '\0')
            break;
        p += len + 1;
    }
    for (gsize i = 0; i < KEY_MAX; i++) {
        if (!values[i].start)
            return fail(error, _("%s is missing"), key_names[i]);
    }
    return TRUE;
}

gboolean migration_uri_parse(const char *text, MigrationUri *ret_uri, GError **error)
{
    Span values[KEY_MAX] = { { NULL, 0 } };
    g_auto(MigrationUri) uri = { 0 };

    if (!migration_uri_is_ours(text)) {
        g_set_error(error, MIGRATION_URI_ERROR, MIGRATION_URI_ERROR_SCHEME,
                    _("migration URI: the scheme is not \"%s\""), SCHEME);
        return FALSE;
    }
    if (strnlen(text, URI_MAX + 1) > URI_MAX)
        return fail(error, _("longer than %d bytes"), URI_MAX);
    /* With an authority part it would not be what a destination of this driver returns. */
    if (g_ascii_strncasecmp(text, PREFIX, strlen(PREFIX)) != 0)
        return fail(error, _("it does not begin with \"%s\""), PREFIX);
    if (!split_query(text + strlen(PREFIX), values, error) ||
        !parse_peer(values[KEY_PEER], &uri.host, &uri.port, error) ||
        !parse_hex(key_names[KEY_SESSION], values[KEY_SESSION], uri.session, sizeof uri.session,
                   error) ||
        !parse_hex(key_names[KEY_TOKEN], values[KEY_TOKEN], uri.token, sizeof uri.token, error))
        return FALSE;
    *ret_uri = uri;
    uri.host = NULL; /* handed over; the rest is wiped */
    return TRUE;
}

static void append_hex(GString *out, const guint8 *bytes, gsize len)
{
    for (gsize i = 0; i < len; i++)
        g_string_append_printf(out, "%02x", bytes[i]);
}

char *migration_uri_format(const MigrationUri *uri)
{
    /* Sized for the longest: no reallocation leaves a piece of the token behind. */
    GString *out = g_string_sized_new(URI_MAX);
    gboolean brackets = strchr(uri->host, ':') != NULL;

    g_string_append_printf(out, "%s%s=%s%s%s:%u&%s=", PREFIX, key_names[KEY_PEER],
                           brackets ? "[" : "", uri->host, brackets ? "]" : "", uri->port,
                           key_names[KEY_SESSION]);
    append_hex(out, uri->session, sizeof uri->session);
    g_string_append_printf(out, "&%s=", key_names[KEY_TOKEN]);
    append_hex(out, uri->token, sizeof uri->token);
    return g_string_free(out, FALSE);
}
