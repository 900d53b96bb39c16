/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "xml/peer_uri.h"

#include <glib/gi18n.h>
#include <string.h>

#include "xml/migration_uri.h"

/* In the order in which they are tried: the longer one first. */
static const char *const prefixes[] = { "tcp://", "tcp:", "postcopy://" };

void peer_uri_clear(PeerUri *uri)
{
    g_clear_pointer(&uri->host, g_free);
}

static const char *skip_prefix(const char *text)
{
    for (gsize i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        gsize len = strlen(prefixes[i]);

        if (g_ascii_strncasecmp(text, prefixes[i], len) == 0)
            return text + len;
    }
    return NULL;
}

/* The end of the host, which is copied without its brackets; NULL: it is none. */
static const char *take_host(const char *text, char **ret_host)
{
    gboolean brackets = *text == '[';
    const char *end = text + strcspn(text, brackets ? "]" : ":");
    g_autofree char *host = g_strndup(text + brackets, (gsize)(end - text) - brackets);

    if ((brackets && (*end != ']' || !strchr(host, ':'))) || !migration_uri_host_is_valid(host))
        return NULL;
    *ret_host = g_steal_pointer(&host);
    return end + brackets;
}

gboolean peer_uri_parse(const char *text, PeerUri *ret_uri, GError **error)
{
    g_auto(PeerUri) uri = { 0 };
    const char *p = skip_prefix(text);

    if (p)
        p = take_host(p, &uri.host);
    if (p && *p == ':' && migration_uri_port_parse(p + 1, strlen(p + 1), &uri.port))
        p += strlen(p);
    if (!p || *p) {
        /* What follows a question mark may be the token of one of the daemons' own. */
        g_autofree char *start = g_strndup(text, strcspn(text, "?"));
        g_autofree char *shown = g_strescape(start, NULL);

        g_set_error(error, MIGRATION_URI_ERROR, MIGRATION_URI_ERROR_SYNTAX,
                    _("the migration URI \"%.200s\" is none for this driver: it may be "
                      "tcp://HOST[:PORT] or postcopy://HOST[:PORT], and says which name and port "
                      "of the destination the source connects to; without --migrateuri it is the "
                      "name that the destination's virtpostcopyd.conf has as host_name"),
                    shown);
        return FALSE;
    }
    *ret_uri = uri;
    uri = (PeerUri){ 0 };
    return TRUE;
}
