/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Defaults and values of the file go the same way: through the row of their key. */
#include "config.h"

#include "driver/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "driver/settings_priv.h"
#include "util/autofd.h"
#include "util/conf.h"
#include "xml/migration_uri.h"

G_DEFINE_QUARK(settings-error-quark, settings_error)

#define RUN_DIR_NAME "virtpostcopy"
#define DEFAULT_RUN_DIR DEFAULT_SOCK_DIR "/" RUN_DIR_NAME

#define SOCKET_PATH_MAX 107 /* sockaddr_un.sun_path, less the terminator */
#define LONGEST_SOCKET_NAME "/virtpostcopyd-sock-ro"
/* run_dir.h: a prefix, 128 bits in hex, a suffix. */
#define LONGEST_RUN_SOCKET_NAME "/refused-00112233445566778899aabbccddeeff.sock"

static void *field_of(Settings *settings, const SettingRow *row)
{
    return G_STRUCT_MEMBER_P(settings, row->offset);
}

const char *settings_host_name(const Settings *settings)
{
    return settings->host_name ? settings->host_name : g_get_host_name();
}

void settings_free(Settings *settings)
{
    if (!settings)
        return;
    for (gsize i = 0; i < setting_rows_len; i++) {
        switch (setting_rows[i].type) {
        case SETTING_TEXT:
        case SETTING_PATH:
        case SETTING_ADDRESS:
        case SETTING_HOST:
            g_free(*(char **)field_of(settings, &setting_rows[i]));
            break;
        case SETTING_LIST:
            g_strfreev(*(char ***)field_of(settings, &setting_rows[i]));
            break;
        case SETTING_BOOL:
        case SETTING_UINT:
        case SETTING_BYTES:
        case SETTING_PORT:
        case SETTING_MODE:
        case SETTING_WORD:
            break;
        }
    }
    g_free(settings);
}

static gboolean bad_value(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

static gboolean bad_value(GError **error, const char *format, ...)
{
    va_list args;

    if (error) {
        va_start(args, format);
        *error = g_error_new_valist(SETTINGS_ERROR, SETTINGS_ERROR_VALUE, format, args);
        va_end(args);
    }
    return FALSE;
}

/* Values that are numbers. */

static gboolean set_bytes(guint64 *field, gint64 value, guint64 min, guint64 max, GError **error)
{
    if (value < (gint64)min || value > (gint64)max)
        return bad_value(error, _("%" PRId64 " is not from %" PRIu64 " to %" PRIu64), value, min,
                         max);
    *field = (guint64)value;
    return TRUE;
}

static gboolean set_uint(guint *field, gint64 value, guint64 min, guint64 max, GError **error)
{
    guint64 wide = 0;

    g_assert(max <= G_MAXUINT);
    if (!set_bytes(&wide, value, min, max, error))
        return FALSE;
    *field = (guint)wide;
    return TRUE;
}

static gboolean set_port(guint16 *field, gint64 value, GError **error)
{
    guint port = 0;

    if (!set_uint(&port, value, 1, G_MAXUINT16, error))
        return FALSE;
    *field = (guint16)port;
    return TRUE;
}

static gboolean set_integer(Settings *settings, const SettingRow *row, gint64 value, GError **error)
{
    void *field = field_of(settings, row);

    switch (row->type) {
    case SETTING_BOOL:
        return set_uint(field, value, 0, 1, error);
    case SETTING_UINT:
        return set_uint(field, value, row->min, row->max, error);
    case SETTING_BYTES:
        return set_bytes(field, value, row->min, row->max, error);
    case SETTING_PORT:
        return set_port(field, value, error);
    default:
        g_return_val_if_reached(FALSE);
    }
}

/* Values that are strings. */

static gboolean set_mode(guint *field, const char *value, GError **error)
{
    guint64 mode;

    if (!g_ascii_string_to_unsigned(value, 8, 0, 0777, &mode, NULL))
        return bad_value(error, _("\"%.32s\" is not a mode from \"0000\" to \"0777\""), value);
    *field = (guint)mode;
    return TRUE;
}

static gboolean set_word(guint *field, const SettingRow *row, const char *value, GError **error)
{
    g_autofree char *known = NULL;

    for (guint i = 0; row->words[i]; i++) {
        if (g_str_equal(row->words[i], value)) {
            *field = i;
            return TRUE;
        }
    }
    known = g_strjoinv("\", \"", (char **)row->words);
    return bad_value(error, _("\"%.64s\" is not one of \"%s\""), value, known);
}

static gboolean check_text(const char *value, GError **error)
{
    for (; *value; value++) {
        if (g_ascii_iscntrl(*value))
            return bad_value(error, _("it holds a control character"));
    }
    return TRUE;
}

static gboolean check_address(const char *value, GError **error)
{
    g_autoptr(GInetAddress) address = g_inet_address_new_from_string(value);

    return address || bad_value(error, _("\"%.64s\" is not an IP address"), value);
}

/* "" unsets what has no default, and is wrong for all else. */
static gboolean check_string(const SettingRow *row, const char *value, GError **error)
{
    if (value[0] == '\0')
        return row->fallback[0] == '\0' || bad_value(error, _("it must not be empty"));
    if (!check_text(value, error))
        return FALSE;
    switch (row->type) {
    case SETTING_PATH:
        return value[0] == '/' || bad_value(error, _("\"%.64s\" is not an absolute path"), value);
    case SETTING_ADDRESS:
        return check_address(value, error);
    case SETTING_HOST:
        return migration_uri_host_is_valid(value) ||
               bad_value(error, _("\"%.64s\" is neither a host name nor an IP address"), value);
    default:
        return TRUE;
    }
}

static gboolean set_port_string(guint16 *field, const char *value, GError **error)
{
    guint64 port;

    if (!g_ascii_string_to_unsigned(value, 10, 1, G_MAXUINT16, &port, NULL))
        return bad_value(error, _("\"%.32s\" is not a port from 1 to %u"), value, G_MAXUINT16);
    *field = (guint16)port;
    return TRUE;
}

static gboolean set_string(Settings *settings, const SettingRow *row, const char *value,
                           GError **error)
{
    void *field = field_of(settings, row);

    switch (row->type) {
    case SETTING_PORT:
        return set_port_string(field, value, error);
    case SETTING_MODE:
        return set_mode(field, value, error);
    case SETTING_WORD:
        return set_word(field, row, value, error);
    default:
        break;
    }
    if (!check_string(row, value, error))
        return FALSE;
    g_free(*(char **)field);
    *(char **)field = value[0] == '\0' ? NULL : g_strdup(value);
    return TRUE;
}

/* An empty list would read as "nobody" to one and as "no list, so everybody" to another. */
static gboolean set_list(Settings *settings, const SettingRow *row, char **value, GError **error)
{
    if (!value[0])
        return bad_value(error, _("the list is empty; leave the key out to have no list"));
    for (gsize i = 0; value[i]; i++) {
        if (value[i][0] == '\0')
            return bad_value(error, _("an item of the list is empty"));
        if (!check_text(value[i], error))
            return FALSE;
    }
    *(char ***)field_of(settings, row) = g_strdupv(value);
    return TRUE;
}

/* The type a value is expected to have in the file. */
static ConfType conf_type_of(SettingType type)
{
    switch (type) {
    case SETTING_BOOL:
    case SETTING_UINT:
    case SETTING_BYTES:
        return CONF_INTEGER;
    case SETTING_LIST:
        return CONF_LIST;
    default:
        return CONF_STRING;
    }
}

static gboolean set_entry(Settings *settings, const SettingRow *row, const ConfEntry *entry,
                          GError **error)
{
    gboolean either = row->type == SETTING_PORT && entry->type == CONF_INTEGER;

    if (entry->type != conf_type_of(row->type) && !either) {
        g_set_error(error, SETTINGS_ERROR, SETTINGS_ERROR_TYPE, _("it must be %s, not %s"),
                    conf_type_name(conf_type_of(row->type)), conf_type_name(entry->type));
        return FALSE;
    }
    switch (entry->type) {
    case CONF_INTEGER:
        return set_integer(settings, row, entry->integer, error);
    case CONF_STRING:
        return set_string(settings, row, entry->string, error);
    case CONF_LIST:
        return set_list(settings, row, entry->list, error);
    }
    g_return_val_if_reached(FALSE);
}

static Settings *settings_new(void)
{
    Settings *settings = g_new0(Settings, 1);

    for (gsize i = 0; i < setting_rows_len; i++) {
        const SettingRow *row = &setting_rows[i];
        g_autoptr(GError) error = NULL;
        gboolean ok = TRUE;

        if (conf_type_of(row->type) == CONF_INTEGER)
            ok = set_integer(settings, row, g_ascii_strtoll(row->fallback, NULL, 10), &error);
        else if (row->type != SETTING_LIST)
            ok = set_string(settings, row, row->fallback, &error);
        if (!ok)
            g_error("the default of %s: %s", row->key, error->message); /* fix the table */
    }
    return settings;
}

/* Unknown keys. */

/* Levenshtein's distance; keys are short. */
static guint edit_distance(const char *a, const char *b)
{
    gsize len_b = strlen(b);
    guint row[CONF_KEY_MAX + 1];

    g_assert(len_b <= CONF_KEY_MAX);
    for (gsize j = 0; j <= len_b; j++)
        row[j] = (guint)j;
    for (gsize i = 0; a[i]; i++) {
        guint diagonal = row[0];

        row[0] = (guint)i + 1;
        for (gsize j = 0; j < len_b; j++) {
            guint replaced = diagonal + (a[i] != b[j]);

            diagonal = row[j + 1];
            row[j + 1] = MIN(replaced, MIN(diagonal, row[j]) + 1);
        }
    }
    return row[len_b];
}

/* A key that looks like a slip of the pen away (a third of its letters at most), or NULL. */
static const char *nearest_key(const char *key)
{
    const char *nearest = NULL;
    guint best = (guint)strlen(key) / 3 + 1;

    for (gsize i = 0; i < setting_rows_len; i++) {
        guint distance = edit_distance(key, setting_rows[i].key);

        if (distance < best) {
            best = distance;
            nearest = setting_rows[i].key;
        }
    }
    return nearest;
}

static void set_unknown_key(GError **error, const char *filename, const ConfEntry *entry)
{
    const char *nearest = nearest_key(entry->key);

    if (nearest)
        g_set_error(error, SETTINGS_ERROR, SETTINGS_ERROR_UNKNOWN,
                    _("%s:%u: there is no key %s; did you mean %s?"), filename, entry->line,
                    entry->key, nearest);
    else
        g_set_error(error, SETTINGS_ERROR, SETTINGS_ERROR_UNKNOWN,
                    _("%s:%u: there is no key %s; virtpostcopyd.conf(5) lists them"), filename,
                    entry->line, entry->key);
}

/* What only shows when every key is known. */

static gboolean conflict(GError **error, const char *filename, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

static gboolean conflict(GError **error, const char *filename, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, SETTINGS_ERROR, SETTINGS_ERROR_CONFLICT, "%s: %s", filename, what);
    return FALSE;
}

static gboolean check_auth(const Settings *s, const char *filename, GError **error)
{
    if (s->migration_auth != MIGRATION_AUTH_PSK)
        return TRUE;
    if (!s->migration_psk_file)
        return conflict(error, filename,
                        _("migration_auth = \"psk\" needs migration_psk_file to be set"));
    /* Whoever wrote the list relies on it; with keys instead of certificates it cannot work. */
    if (s->migration_allowed_dn_list)
        return conflict(error, filename,
                        _("migration_allowed_dn_list needs migration_auth = \"x509\""));
    return TRUE;
}

static gboolean check_ports(const Settings *s, const char *filename, GError **error)
{
    if (s->listen_tls && s->listen_tcp && s->tls_port == s->tcp_port)
        return conflict(error, filename, _("tls_port and tcp_port are both %u"), s->tls_port);
    if (s->listen_tls && s->tls_port == s->migration_port)
        return conflict(error, filename, _("tls_port and migration_port are both %u"),
                        s->tls_port);
    if (s->listen_tcp && s->tcp_port == s->migration_port)
        return conflict(error, filename, _("tcp_port and migration_port are both %u"),
                        s->tcp_port);
    return TRUE;
}

/* Not of the defaults: in a build for a deep prefix they are too long, and all else must work. */
static gboolean check_socket_paths(const Settings *s, const char *filename, GError **error)
{
    gboolean own_dir = !g_str_equal(s->unix_sock_dir, DEFAULT_SOCK_DIR);
    gboolean own_run_dir = !g_str_equal(s->run_dir, DEFAULT_RUN_DIR);
    gsize dir_max = SOCKET_PATH_MAX - strlen(LONGEST_SOCKET_NAME);
    gsize run_dir_max = SOCKET_PATH_MAX - strlen(LONGEST_RUN_SOCKET_NAME);
    gsize upstream_max = SOCKET_PATH_MAX - strlen("-ro");

    if (own_dir && strlen(s->unix_sock_dir) > dir_max)
        return conflict(error, filename,
                        _("unix_sock_dir is longer than %zu bytes, too long for a socket in it"),
                        dir_max);
    if (own_run_dir && strlen(s->run_dir) > run_dir_max)
        return conflict(error, filename,
                        _("run_dir (%s) is longer than %zu bytes, too long for the sockets in it"),
                        s->run_dir, run_dir_max);
    if (s->upstream_socket && strlen(s->upstream_socket) > upstream_max)
        return conflict(error, filename,
                        _("upstream_socket is longer than %zu bytes, too long for a socket"),
                        upstream_max);
    return TRUE;
}

static gboolean is_set(const GPtrArray *entries, const char *key)
{
    for (guint i = 0; i < entries->len; i++) {
        const ConfEntry *entry = g_ptr_array_index(entries, i);

        if (g_str_equal(entry->key, key))
            return TRUE;
    }
    return FALSE;
}

static gboolean apply_entries(Settings *settings, const GPtrArray *entries, const char *filename,
                              GError **error)
{
    for (guint i = 0; i < entries->len; i++) {
        const ConfEntry *entry = g_ptr_array_index(entries, i);
        gsize r = 0;

        while (r < setting_rows_len && !g_str_equal(setting_rows[r].key, entry->key))
            r++;
        if (r == setting_rows_len) {
            set_unknown_key(error, filename, entry);
            return FALSE;
        }
        if (!set_entry(settings, &setting_rows[r], entry, error)) {
            g_prefix_error(error, "%s:%u: %s (%s): ", filename, entry->line, entry->key,
                           _(setting_rows[r].help));
            return FALSE;
        }
    }
    return TRUE;
}

Settings *settings_parse(const char *text, gsize len, const char *filename, GError **error)
{
    g_autoptr(GPtrArray) entries = conf_parse(text, len, filename, error);
    g_autoptr(Settings) settings = NULL;

    if (!entries)
        return NULL;
    settings = settings_new();
    if (!apply_entries(settings, entries, filename, error))
        return NULL;
    settings->crl_required = is_set(entries, "crl_file");
    if (!settings->run_dir)
        settings->run_dir = g_build_filename(settings->unix_sock_dir, RUN_DIR_NAME, NULL);
    if (!check_auth(settings, filename, error) || !check_ports(settings, filename, error) ||
        !check_socket_paths(settings, filename, error))
        return NULL;
    return g_steal_pointer(&settings);
}

/* Reads at most one byte more than the parser takes, so that it can say so. */
static GByteArray *read_file(const char *path, int fd, GError **error)
{
    g_autoptr(GByteArray) text = g_byte_array_new();
    guint8 chunk[4096];

    while (text->len <= CONF_TEXT_MAX) {
        gssize n = read(fd, chunk, sizeof chunk);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            g_set_error(error, SETTINGS_ERROR, SETTINGS_ERROR_FILE, _("cannot read %s: %s"), path,
                        g_strerror(errno));
            return NULL;
        }
        if (n == 0)
            break;
        g_byte_array_append(text, chunk, (guint)n);
    }
    return g_steal_pointer(&text);
}

Settings *settings_load(const char *path, GError **error)
{
    const char *name = path ? path : SETTINGS_DEFAULT_PATH;
    g_autoptr(GByteArray) text = NULL;
    autofd fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0 && errno == ENOENT && !path)
        return settings_parse("", 0, name, error);
    if (fd < 0) {
        g_set_error(error, SETTINGS_ERROR, SETTINGS_ERROR_FILE, _("cannot open %s: %s"), name,
                    g_strerror(errno));
        return NULL;
    }
    text = read_file(name, fd, error);
    if (!text)
        return NULL;
    /* An empty array has no memory to point at. */
    return settings_parse(text->len ? (const char *)text->data : "", text->len, name, error);
}
