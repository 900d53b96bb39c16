/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/session_place.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <ifaddrs.h>
#include <libvirt/virterror.h>
#include <netinet/in.h>

#include "xml/migrate_options.h"
#include "xml/peer_uri.h"

void session_place_clear(SessionPlace *place)
{
    g_clear_pointer(&place->host, g_free);
    g_clear_pointer(&place->listen_address, g_free);
}

static gsize native_len(const struct sockaddr *address)
{
    if (address && address->sa_family == AF_INET)
        return sizeof(struct sockaddr_in);
    return address && address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : 0;
}

static gboolean is_address(const struct sockaddr *native, GInetAddress *wanted)
{
    gsize len = native_len(native);
    g_autoptr(GSocketAddress) address =
        len > 0 ? g_socket_address_new_from_native((gpointer)native, len) : NULL;

    return address && g_inet_address_equal(g_inet_socket_address_get_address(
                                               G_INET_SOCKET_ADDRESS(address)), wanted);
}

gboolean session_place_is_here(GInetAddress *wanted)
{
    struct ifaddrs *all;
    gboolean found = FALSE;

    if (getifaddrs(&all) < 0)
        return FALSE;
    for (const struct ifaddrs *one = all; one && !found; one = one->ifa_next)
        found = is_address(one->ifa_addr, wanted);
    freeifaddrs(all);
    return found;
}

/* Whether the port, which listens on migration_address, hears what comes in at the wanted one. */
static gboolean is_covered(const char *migration_address, GInetAddress *wanted)
{
    g_autoptr(GInetAddress) address = g_inet_address_new_from_string(migration_address);

    if (!address)
        return FALSE;
    if (!g_inet_address_get_is_any(address))
        return g_inet_address_equal(address, wanted);
    return g_inet_address_get_family(address) == G_SOCKET_FAMILY_IPV6 ||
           g_inet_address_get_family(wanted) == G_SOCKET_FAMILY_IPV4;
}

static gboolean fail(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static gboolean fail(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error)
        *error = g_error_new_valist(MIGRATE_OPTIONS_ERROR, VIR_ERR_INVALID_ARG, format, args);
    va_end(args);
    return FALSE;
}

static gboolean parse_listen_address(const char *text, const Settings *settings, char **ret_address,
                                     GError **error)
{
    g_autoptr(GInetAddress) address = g_inet_address_new_from_string(text);
    const char *host = settings_host_name(settings);

    if (!address)
        return fail(error, _("--listen-address %s is no address: give one of the destination's, or "
                             "leave it out"), text);
    if (g_inet_address_get_is_any(address))
        return TRUE;
    if (!session_place_is_here(address))
        return fail(error, _("--listen-address %s is none of the addresses of the destination, %s: "
                             "give one that it has, or leave it out"), text, host);
    if (!is_covered(settings->migration_address, address))
        return fail(error, _("--listen-address %s is not where %s listens for migrations: "
                             "migration_address in its virtpostcopyd.conf is %s; leave out "
                             "--listen-address, or set migration_address to \"::\" there"),
                    text, host, settings->migration_address);
    *ret_address = g_inet_address_to_string(address);
    return TRUE;
}

gboolean session_place_parse(const char *uri, const char *listen_address, const Settings *settings,
                             SessionPlace *ret_place, GError **error)
{
    g_auto(SessionPlace) place = { 0 };
    g_auto(PeerUri) peer = { 0 };

    if (uri && !peer_uri_parse(uri, &peer, error))
        return FALSE;
    if (listen_address &&
        !parse_listen_address(listen_address, settings, &place.listen_address, error))
        return FALSE;
    place.host = g_strdup(peer.host ? peer.host : place.listen_address);
    place.port = peer.port;
    *ret_place = place;
    place = (SessionPlace){ 0 };
    return TRUE;
}
