/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Connection URIs. The defaults (no transport, no host) are those of libvirt's remote driver, so
 * that a URI means the same to virsh and to this daemon. It is stricter where libvirt lets
 * things pass that would only fail later, or mean something else than they say. */
#include "config.h"

#include "xml/connect_uri.h"

#include <glib/gi18n.h>
#include <string.h>

#include "xml/migration_uri.h"

G_DEFINE_QUARK(connect-uri-error-quark, connect_uri_error)

#define SCHEME "postcopy"
#define SERVED_PATH "/system"
#define URI_MAX 8192
#define SOCKET_PATH_MAX 107 /* sockaddr_un.sun_path, less the terminator */

/* ext, libssh and libssh2 are libvirt's too, but would need its client library here. */
static const struct {
    const char *name;
    ConnectTransport transport;
} transports[] = {
    { "tls", CONNECT_TRANSPORT_TLS },
    { "tcp", CONNECT_TRANSPORT_TCP },
    { "unix", CONNECT_TRANSPORT_UNIX },
    { "ssh", CONNECT_TRANSPORT_SSH },
};

typedef enum { PARAM_TEXT, PARAM_PATH, PARAM_FLAG, PARAM_WORD } ParamType;

/* Path and text parameters are char *, flags gboolean. */
static const struct {
    const char *name;
    ParamType type;
    gsize offset;
    const char *words[4]; /* PARAM_WORD: what is allowed */
} params[] = {
    { "socket", PARAM_PATH, G_STRUCT_OFFSET(ConnectUri, socket) },
    { "command", PARAM_TEXT, G_STRUCT_OFFSET(ConnectUri, command) },
    { "keyfile", PARAM_TEXT, G_STRUCT_OFFSET(ConnectUri, keyfile) },
    { "no_verify", PARAM_FLAG, G_STRUCT_OFFSET(ConnectUri, no_verify) },
    { "no_tty", PARAM_FLAG, G_STRUCT_OFFSET(ConnectUri, no_tty) },
    { "netcat", PARAM_TEXT, G_STRUCT_OFFSET(ConnectUri, netcat) },
    { "mode", PARAM_WORD, G_STRUCT_OFFSET(ConnectUri, mode), { "auto", "direct", "legacy" } },
    { "proxy", PARAM_WORD, G_STRUCT_OFFSET(ConnectUri, proxy), { "auto", "netcat", "native" } },
    { "pkipath", PARAM_PATH, G_STRUCT_OFFSET(ConnectUri, pkipath) },
};

void connect_uri_clear(ConnectUri *uri)
{
    g_free(uri->user);
    g_free(uri->host);
    g_free(uri->socket);
    g_free(uri->command);
    g_free(uri->keyfile);
    g_free(uri->netcat);
    g_free(uri->mode);
    g_free(uri->proxy);
    g_free(uri->pkipath);
    memset(uri, 0, sizeof *uri);
}

static gboolean fail(GError **error, ConnectUriError code, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

static gboolean fail(GError **error, ConnectUriError code, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, CONNECT_URI_ERROR, code, _("connection URI: %s"), what);
    return FALSE;
}

/* "postcopy" or "postcopy+TRANSPORT" */
static gboolean parse_scheme(const char *scheme, gboolean has_host, ConnectTransport *ret_transport,
                             GError **error)
{
    const char *plus = strchr(scheme, '+');
    gsize len = plus ? (gsize)(plus - scheme) : strlen(scheme);

    if (len != strlen(SCHEME) || g_ascii_strncasecmp(scheme, SCHEME, len) != 0)
        return fail(error, CONNECT_URI_ERROR_SCHEME,
                    _("the scheme is \"%.32s\"; post-copy needs \"%s\" or \"%s+TRANSPORT\""),
                    scheme, SCHEME, SCHEME);
    if (!plus) {
        *ret_transport = has_host ? CONNECT_TRANSPORT_TLS : CONNECT_TRANSPORT_UNIX;
        return TRUE;
    }
    for (gsize i = 0; i < G_N_ELEMENTS(transports); i++) {
        if (g_ascii_strcasecmp(plus + 1, transports[i].name) == 0) {
            *ret_transport = transports[i].transport;
            return TRUE;
        }
    }
    return fail(error, CONNECT_URI_ERROR_TRANSPORT,
                _("the transport \"%.32s\" is not supported; use tls, tcp, ssh or unix"), plus + 1);
}

static gboolean has_control_character(const char *text)
{
    for (; *text; text++) {
        if (g_ascii_iscntrl(*text))
            return TRUE;
    }
    return FALSE;
}

static gboolean set_word(char **field, gsize row, const char *value, GError **error)
{
    g_autofree char *known = NULL;

    for (gsize i = 0; params[row].words[i]; i++) {
        if (g_str_equal(value, params[row].words[i])) {
            *field = g_strdup(value);
            return TRUE;
        }
    }
    known = g_strjoinv(", ", (char **)params[row].words);
    return fail(error, CONNECT_URI_ERROR_SYNTAX, _("%s is \"%.64s\"; it can be: %s"),
                params[row].name, value, known);
}

static gboolean set_flag(gboolean *field, gsize row, const char *value, GError **error)
{
    if (!g_str_equal(value, "0") && !g_str_equal(value, "1"))
        return fail(error, CONNECT_URI_ERROR_SYNTAX, _("%s is \"%.64s\"; it can be 0 or 1"),
                    params[row].name, value);
    *field = value[0] == '1';
    return TRUE;
}

static gboolean set_param(ConnectUri *uri, gsize row, const char *value, GError **error)
{
    gpointer field = G_STRUCT_MEMBER_P(uri, params[row].offset);

    if (has_control_character(value))
        return fail(error, CONNECT_URI_ERROR_SYNTAX, _("%s holds a control character"),
                    params[row].name);
    if (params[row].type == PARAM_FLAG)
        return set_flag(field, row, value, error);
    if (value[0] == '\0')
        return fail(error, CONNECT_URI_ERROR_SYNTAX, _("%s is empty"), params[row].name);
    if (params[row].type == PARAM_WORD)
        return set_word(field, row, value, error);
    if (params[row].type == PARAM_PATH && value[0] != '/')
        return fail(error, CONNECT_URI_ERROR_SYNTAX, _("%s is not an absolute path"),
                    params[row].name);
    *(char **)field = g_strdup(value);
    return TRUE;
}

static gboolean parse_params(ConnectUri *uri, const char *query, GError **error)
{
    gboolean seen[G_N_ELEMENTS(params)] = { FALSE };
    g_autoptr(GError) syntax = NULL;
    GUriParamsIter iter;
    char *name_out, *value_out;

    g_uri_params_iter_init(&iter, query, -1, "&;", G_URI_PARAMS_NONE);
    while (g_uri_params_iter_next(&iter, &name_out, &value_out, &syntax)) {
        g_autofree char *name = name_out;
        g_autofree char *value = value_out;
        gsize row = 0;

        while (row < G_N_ELEMENTS(params) && g_ascii_strcasecmp(name, params[row].name) != 0)
            row++;
        if (row == G_N_ELEMENTS(params))
            return fail(error, CONNECT_URI_ERROR_SYNTAX, _("unknown parameter \"%.64s\""), name);
        if (seen[row])
            return fail(error, CONNECT_URI_ERROR_SYNTAX, _("%s is given twice"), params[row].name);
        seen[row] = TRUE;
        if (!set_param(uri, row, value, error))
            return FALSE;
    }
    if (syntax)
        return fail(error, CONNECT_URI_ERROR_SYNTAX, "%s", syntax->message);
    if (uri->socket && strlen(uri->socket) > SOCKET_PATH_MAX)
        return fail(error, CONNECT_URI_ERROR_SYNTAX, _("socket is longer than %d bytes"),
                    SOCKET_PATH_MAX);
    return TRUE;
}

/* Neither may begin with '-': they become arguments of ssh. */
static gboolean parse_authority(ConnectUri *uri, const char *user, const char *host, int port,
                                GError **error)
{
    if (uri->transport == CONNECT_TRANSPORT_UNIX) {
        if (host || user || port > 0)
            return fail(error, CONNECT_URI_ERROR_SYNTAX,
                        _("a unix socket has no host, user or port"));
        return TRUE;
    }
    if (host && !migration_uri_host_is_valid(host))
        return fail(error, CONNECT_URI_ERROR_SYNTAX,
                    _("\"%.64s\" is neither a host name nor an address"), host);
    if (user && strchr(user, ':'))
        return fail(error, CONNECT_URI_ERROR_SYNTAX, _("a password cannot be given in it"));
    if (user && (user[0] == '\0' || user[0] == '-' || has_control_character(user)))
        return fail(error, CONNECT_URI_ERROR_SYNTAX, _("\"%.64s\" is not a user name"), user);
    uri->user = g_strdup(user);
    uri->host = g_strdup(host ? host : "localhost");
    uri->port = port > 0 ? (guint16)port : 0;
    return TRUE;
}

gboolean connect_uri_parse(const char *text, ConnectUri *ret_uri, GError **error)
{
    g_autofree char *scheme = NULL, *user = NULL, *host = NULL, *path = NULL, *query = NULL,
                    *fragment = NULL;
    g_auto(ConnectUri) uri = { 0 };
    g_autoptr(GError) syntax = NULL;
    int port;

    if (strnlen(text, URI_MAX + 1) > URI_MAX)
        return fail(error, CONNECT_URI_ERROR_SYNTAX, _("longer than %d bytes"), URI_MAX);
    /* The query stays encoded until it is cut: a value may hold an encoded '&'. */
    if (!g_uri_split(text, G_URI_FLAGS_ENCODED_QUERY, &scheme, &user, &host, &port, &path, &query,
                     &fragment, &syntax))
        return fail(error, CONNECT_URI_ERROR_SYNTAX, "%s", syntax->message);
    if (!scheme)
        return fail(error, CONNECT_URI_ERROR_SYNTAX, _("it has no scheme"));
    if (host && host[0] == '\0')
        g_clear_pointer(&host, g_free);
    if (!parse_scheme(scheme, host != NULL, &uri.transport, error))
        return FALSE;
    if (g_strcmp0(path, SERVED_PATH) != 0)
        return fail(error, CONNECT_URI_ERROR_PATH, _("the path is \"%.64s\"; only %s is served"),
                    path, SERVED_PATH);
    if (fragment)
        return fail(error, CONNECT_URI_ERROR_SYNTAX, _("it has a fragment (\"#...\")"));
    if (!parse_authority(&uri, user, host, port, error) ||
        (query && !parse_params(&uri, query, error)))
        return FALSE;
    *ret_uri = uri;
    memset(&uri, 0, sizeof uri); /* handed over */
    return TRUE;
}
