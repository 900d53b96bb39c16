/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The URI that Prepare returns and Perform gets back:
 *
 *     postcopy:///?peer=HOST:PORT&session=<32 hex digits>&token=<64 hex digits>
 *
 * It has no authority part on purpose: a source host without this driver takes an unknown
 * scheme for TCP, and would stream the guest's RAM in clear to the host it finds there;
 * like this it fails at once (facts: libvirt-rpc.md, "The migration URI"). Pure. */
#pragma once

#include <gio/gio.h>

#define MIGRATION_URI_ERROR (migration_uri_error_quark())
GQuark migration_uri_error_quark(void);

typedef enum {
    MIGRATION_URI_ERROR_SCHEME, /* not postcopy: */
    MIGRATION_URI_ERROR_SYNTAX, /* everything else that is wrong with it */
} MigrationUriError;

#define MIGRATION_SESSION_LEN 16
#define MIGRATION_TOKEN_LEN 32

typedef struct {
    char *host; /* name or address, IPv6 without brackets */
    guint16 port;
    guint8 session[MIGRATION_SESSION_LEN];
    guint8 token[MIGRATION_TOKEN_LEN]; /* secret: wiped by clear */
} MigrationUri;

void migration_uri_clear(MigrationUri *uri);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(MigrationUri, migration_uri_clear)

/* Parameters in any order, each once, no others; no percent-encoding. Messages never contain the
 * token. ret_uri is untouched on failure. */
gboolean migration_uri_parse(const char *text, MigrationUri *ret_uri, GError **error);

/* host must be valid as below. The result holds the token: wipe it when it is sent. */
char *migration_uri_format(const MigrationUri *uri);

/* TRUE if host can stand in a migration URI: a host name (letters, digits, '.', '-', '_'), an
 * IPv4 address or an IPv6 address without brackets and zone. */
gboolean migration_uri_host_is_valid(const char *host);

/* len bytes of text are a port: 1 to 65535, without zeros in front. */
gboolean migration_uri_port_parse(const char *text, gsize len, guint16 *ret_port);

/* TRUE if text has the scheme "postcopy" (with or without transport, in any case). */
gboolean migration_uri_is_ours(const char *text);
