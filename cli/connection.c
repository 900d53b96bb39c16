/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "cli/connection.h"

#include <glib/gi18n.h>

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

virConnect *connection_open(const char *uri, GError **error)
{
    g_autoptr(GError) reason = NULL;
    virConnect *connection = virConnectOpenAuth(uri, virConnectAuthPtrDefault, VIR_CONNECT_RO);

    if (connection)
        return connection;
    connection_error(&reason);
    g_set_error(error, LIBVIRT_ERROR, reason->code, _("cannot connect to %1$s: %2$s"), uri,
                reason->message);
    return NULL;
}
