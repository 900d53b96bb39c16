/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "cli/connection.h"

#include <glib/gi18n.h>
#include <stdlib.h>

#define KEEPALIVE_INTERVAL 5 /* seconds */
#define KEEPALIVE_COUNT 3

G_DEFINE_QUARK(libvirt-error-quark, libvirt_error)

void connection_error(GError **error)
{
    const virError *last = virGetLastError();

    if (last && last->message)
        g_set_error_literal(error, LIBVIRT_ERROR, last->code, last->message);
    else
        g_set_error_literal(error, LIBVIRT_ERROR, VIR_ERR_INTERNAL_ERROR,
                            _("libvirt failed without saying why"));
}

/* libvirt's own event loop carries its keepalive; nothing else in this program uses it. */
static gpointer run_events(gpointer data)
{
    while (virEventRunDefaultImpl() == 0)
        continue;
    g_warning("libvirt's event loop has failed");
    return NULL;
}

gboolean connection_watch(GError **error)
{
    GThread *thread;

    if (virEventRegisterDefaultImpl() < 0) {
        connection_error(error);
        return FALSE;
    }
    thread = g_thread_try_new("libvirt-events", run_events, NULL, error);
    if (!thread)
        return FALSE;
    g_thread_unref(thread); /* it lives as long as the process */
    return TRUE;
}

virConnect *connection_open(const char *uri, gboolean may_ask, GError **error)
{
    virConnectAuthPtr ask = may_ask ? virConnectAuthPtrDefault : NULL;
    g_autoptr(GError) reason = NULL;
    virConnect *connection = virConnectOpenAuth(uri, ask, VIR_CONNECT_RO);

    if (connection) {
        /* Without connection_watch(), or with a transport that has none, there is no keepalive:
         * then TCP's own patience is what limits a call. */
        virConnectSetKeepAlive(connection, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT);
        return connection;
    }
    connection_error(&reason);
    g_set_error(error, LIBVIRT_ERROR, reason->code, _("cannot connect to %1$s: %2$s"), uri,
                reason->message);
    return NULL;
}

char *connection_host(virConnect *connection)
{
    char *name = virConnectGetHostname(connection);
    char *host = name ? g_utf8_make_valid(name, -1) : NULL;

    free(name);
    return host;
}
