/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The migration URI as users give it (--migrateuri): by which name and port the source is to call
 * the destination. One of
 *
 *     tcp://HOST[:PORT]    tcp:HOST[:PORT]    postcopy://HOST[:PORT]
 *
 * with an IPv6 address in brackets. Not to be confused with what the daemons say to each other
 * (xml/migration_uri.h). Pure. */
#pragma once

#include <gio/gio.h>

typedef struct {
    char *host;   /* name or address, IPv6 without brackets */
    guint16 port; /* 0: none was given */
} PeerUri;

void peer_uri_clear(PeerUri *uri);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(PeerUri, peer_uri_clear)

/* MIGRATION_URI_ERROR; the message has the forms that there are. ret_uri is untouched on failure.
 * */
gboolean peer_uri_parse(const char *text, PeerUri *ret_uri, GError **error);
