/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The TCP ports of this host's daemon: tried as a caller would. */
#include "config.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib/gi18n.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "cli/check_parts.h"
#include "driver/session_preamble.h"
#include "preflight/problem.h"
#include "util/autofd.h"

#define ANSWER_SECONDS 5

/* Where something that listens there is reached from this host itself. */
static GSocketAddress *local_address(const char *listens_on, guint16 port)
{
    g_autoptr(GInetAddress) address =
        g_inet_address_new_from_string(listens_on ? listens_on : "::");
    g_autoptr(GInetAddress) loopback = NULL;

    if (!address)
        return NULL;
    if (!g_inet_address_get_is_any(address))
        return g_inet_socket_address_new(address, port);
    /* "::" takes IPv4 as well, and a host need not have IPv6. */
    loopback = g_inet_address_new_loopback(G_SOCKET_FAMILY_IPV4);
    return g_inet_socket_address_new(loopback, port);
}

static GSocketConnection *connect_to(GSocketAddress *address, GError **error)
{
    g_autoptr(GSocketClient) client = g_socket_client_new();

    g_socket_client_set_timeout(client, ANSWER_SECONDS);
    g_socket_client_set_enable_proxy(client, FALSE);
    return g_socket_client_connect(client, G_SOCKET_CONNECTABLE(address), NULL, error);
}

/* ---- migrations ---- */

/* 0, or why a daemon could not listen there. */
static int try_to_listen(const Settings *settings)
{
    g_autoptr(GSocketAddress) address = g_inet_socket_address_new_from_string(
        settings->migration_address, settings->migration_port);
    struct sockaddr_storage raw;
    int on = 1;
    autofd fd = -1;

    if (!address || !g_socket_address_to_native(address, &raw, sizeof raw, NULL))
        return EADDRNOTAVAIL;
    fd = socket(raw.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&raw, (socklen_t)g_socket_address_get_native_size(address)) <
            0 ||
        listen(fd, 1) < 0)
        return errno;
    return 0;
}

/* Does virtpostcopyd answer? */
static gboolean is_ours(GSocketConnection *connection)
{
    GOutputStream *out = g_io_stream_get_output_stream(G_IO_STREAM(connection));
    GInputStream *in = g_io_stream_get_input_stream(G_IO_STREAM(connection));
    guint8 preamble[SESSION_PREAMBLE_LEN] = { 0 };
    guint8 answer = 0;

    memcpy(preamble, SESSION_PREAMBLE_MAGIC_CHECK, SESSION_PREAMBLE_MAGIC_LEN);
    return g_output_stream_write_all(out, preamble, sizeof preamble, NULL, NULL, NULL) &&
           g_input_stream_read(in, &answer, 1, NULL, NULL) == 1 &&
           (answer == SESSION_ANSWER_GO || answer == SESSION_ANSWER_BUSY);
}

static void nobody_listens(Check *check, gboolean daemon_runs)
{
    const Settings *settings = check->settings;
    int reason = try_to_listen(settings);

    if (reason != 0)
        preflight_problem(check->findings, CHECK_MIGRATION_PORT, PROBLEM_MIGRATION_ADDRESS,
                          g_strdup_printf(_("virtpostcopyd cannot listen on %1$s, port %2$u: %3$s"),
                                          settings->migration_address, settings->migration_port,
                                          g_strerror(reason)),
                          g_strdup(_("set migration_address in virtpostcopyd.conf to an address of "
                                     "this host, or to \"::\" for all of them, and restart "
                                     "virtpostcopyd")));
    else if (daemon_runs)
        preflight_problem(
            check->findings, CHECK_MIGRATION_PORT, PROBLEM_MIGRATION_PORT_SILENT,
            g_strdup_printf(_("virtpostcopyd runs, but nobody answers on %1$s, port "
                              "%2$u"),
                            settings->migration_address, settings->migration_port),
            g_strdup(_("run \"systemctl restart virtpostcopyd\" if virtpostcopyd.conf "
                       "has changed since it started, and let the host's firewall pass "
                       "its own connections")));
    else
        preflight_pass(check->findings, CHECK_MIGRATION_PORT, _("free for virtpostcopyd"));
}

static void check_migration_port(Check *check, gboolean daemon_runs)
{
    const Settings *settings = check->settings;
    g_autoptr(GSocketAddress) address =
        local_address(settings->migration_address, settings->migration_port);
    g_autoptr(GSocketConnection) connection = address ? connect_to(address, NULL) : NULL;

    if (!connection)
        nobody_listens(check, daemon_runs);
    else if (is_ours(connection))
        preflight_pass(check->findings, CHECK_MIGRATION_PORT, NULL);
    else
        preflight_problem(
            check->findings, CHECK_MIGRATION_PORT, PROBLEM_MIGRATION_PORT_TAKEN,
            g_strdup_printf(_("what listens on port %u is not virtpostcopyd"),
                            settings->migration_port),
            g_strdup_printf(_("stop it (\"ss -tlnp sport = %u\" says what it is), or set "
                              "another migration_port in virtpostcopyd.conf; then "
                              "restart virtpostcopyd"),
                            settings->migration_port));
}

/* ---- clients ---- */

static void check_tls_port(Check *check)
{
    const Settings *settings = check->settings;
    g_autoptr(GSocketAddress) address = local_address(settings->listen_addr, settings->tls_port);
    g_autoptr(GSocketConnection) connection = address ? connect_to(address, NULL) : NULL;

    if (connection)
        preflight_pass(check->findings, CHECK_TLS_PORT, NULL);
    else
        preflight_problem(
            check->findings, CHECK_TLS_PORT, PROBLEM_TLS_PORT_CLOSED,
            g_strdup_printf(_("nobody listens on port %u, so guests come to this host "
                              "over postcopy+ssh:// only"),
                            settings->tls_port),
            g_strdup(_("run \"systemctl enable --now virtpostcopyd-tls.socket\", or set "
                       "listen_tls = 1 in virtpostcopyd.conf and restart "
                       "virtpostcopyd")));
}

void check_ports(Check *check, gboolean daemon_runs)
{
    check_migration_port(check, daemon_runs);
    check_tls_port(check);
}
