/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Connection URIs as libvirt's remote driver reads them, for the destination of a
 * peer-to-peer migration: postcopy[+transport]://[user@]host[:port]/system[?params].
 * Reference: https://libvirt.org/uri.html and facts libvirt-rpc.md 1.1. Pure. */
#pragma once

#include <gio/gio.h>

#define CONNECT_URI_ERROR (connect_uri_error_quark())
GQuark connect_uri_error_quark(void);

typedef enum {
    CONNECT_URI_ERROR_SYNTAX,
    CONNECT_URI_ERROR_SCHEME,    /* not postcopy */
    CONNECT_URI_ERROR_TRANSPORT, /* a transport this daemon cannot dial */
    CONNECT_URI_ERROR_PATH,      /* not /system */
} ConnectUriError;

typedef enum {
    CONNECT_TRANSPORT_TLS, /* also for no transport and a host */
    CONNECT_TRANSPORT_TCP,
    CONNECT_TRANSPORT_UNIX, /* also for no transport and no host */
    CONNECT_TRANSPORT_SSH,
} ConnectTransport;

typedef struct {
    ConnectTransport transport;
    char *user; /* or NULL */
    char *host; /* NULL: unix. "localhost" if the others give none */
    guint16 port; /* 0: the transport's default */
    /* parameters, each NULL unless given */
    char *socket;
    char *command;
    char *keyfile;
    gboolean no_verify; /* ssh: no_verify=1, do not check the host key */
    gboolean no_tty;
    char *netcat;
    char *mode; /* "auto", "direct", "legacy" */
    char *proxy; /* "auto", "netcat", "native" */
    char *pkipath;
} ConnectUri;

void connect_uri_clear(ConnectUri *uri);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ConnectUri, connect_uri_clear)

/* Unknown and repeated parameters, a fragment and a password are refused by name; so are user and
 * host that begin with a dash (they become arguments of ssh). ret_uri is untouched on failure. */
gboolean connect_uri_parse(const char *text, ConnectUri *ret_uri, GError **error);
