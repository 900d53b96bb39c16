/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Taking over a helper that a daemon before this one has started: socket, connection, proxy. Of
 * helper_process.h. */
#include "config.h"

#include "driver/helper_process.h"

#include <gio/gunixsocketaddress.h>
#include <glib/gi18n.h>

#include "driver/helper_process_priv.h"

static void deadline_free(gpointer data)
{
    helper_deadline_clear(data);
    g_free(data);
}

static void adopt_failed(GTask *task, GError *error)
{
    g_autoptr(GError) owned = error;

    if (g_error_matches(owned, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_TIMED_OUT,
                                _("no answer within %d seconds"), HELPER_ANSWER_TIMEOUT_S);
    else
        g_task_return_error(task, g_steal_pointer(&owned));
}

static void on_adopted_proxy(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    HelperProcess *helper = helper_task_helper(task);
    HelperDeadline *deadline = g_task_get_task_data(task);
    GError *error = NULL;

    helper->proxy = postcopy_migration_proxy_new_finish(result, &error);
    /* A proxy is made also if there was no answer, and then knows nothing. */
    if (helper->proxy && (helper->bus_gone || !postcopy_migration_get_state(helper->proxy))) {
        g_clear_object(&helper->proxy);
        if (!g_cancellable_set_error_if_cancelled(deadline->late, &error))
            error = g_error_new_literal(G_IO_ERROR, G_IO_ERROR_CLOSED, _("it has just ended"));
    }
    if (!helper->proxy) {
        adopt_failed(task, error);
        return;
    }
    helper_listen_to(helper);
    if (helper->cancel_reason)
        helper_process_cancel(helper, helper->cancel_reason);
    g_task_return_boolean(task, TRUE);
}

static void on_adopted_connection(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    HelperProcess *helper = helper_task_helper(task);
    HelperDeadline *deadline = g_task_get_task_data(task);
    GError *error = NULL;
    GDBusConnection *connection = g_dbus_connection_new_finish(result, &error);

    if (!connection) {
        adopt_failed(task, error);
        return;
    }
    helper_take_connection(helper, connection);
    postcopy_migration_proxy_new(helper->connection, G_DBUS_PROXY_FLAGS_NONE, NULL,
                                 HELPER_OBJECT_PATH, deadline->late, on_adopted_proxy,
                                 g_steal_pointer(&task));
}

static void on_control_connected(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    HelperDeadline *deadline = g_task_get_task_data(task);
    g_autofree char *guid = g_dbus_generate_guid();
    GError *error = NULL;
    g_autoptr(GSocketConnection) socket =
        g_socket_client_connect_finish(G_SOCKET_CLIENT(source), result, &error);

    if (!socket) {
        adopt_failed(task, error);
        return;
    }
    g_dbus_connection_new(G_IO_STREAM(socket), guid,
                          G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_SERVER, NULL, deadline->late,
                          on_adopted_connection, g_steal_pointer(&task));
}

HelperProcess *helper_process_adopt(const char *control_path, const HelperHandlers *handlers,
                                    gpointer data, GAsyncReadyCallback callback,
                                    gpointer callback_data)
{
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(control_path);
    HelperProcess *helper = helper_alloc(handlers, data);
    HelperDeadline *deadline = g_new0(HelperDeadline, 1);
    GTask *task = helper_task_new(helper, callback, callback_data);

    helper->process_gone = TRUE;
    helper_deadline_start(deadline);
    g_task_set_task_data(task, deadline, deadline_free);
    g_socket_client_set_enable_proxy(client, FALSE);
    g_socket_client_connect_async(client, G_SOCKET_CONNECTABLE(address), deadline->late,
                                  on_control_connected, task);
    return helper;
}

void helper_process_status(HelperProcess *helper, HelperStatus *ret)
{
    /* Not there in a helper of an older release. */
    GVariant *disks = postcopy_migration_get_disks_unanswered(helper->proxy);

    *ret = (HelperStatus){
        .state = postcopy_migration_get_state(helper->proxy),
        .phase = postcopy_migration_get_phase(helper->proxy),
        .reason = postcopy_migration_get_last_error(helper->proxy),
        .ended_by = postcopy_migration_get_ended_by(helper->proxy),
        .return_path = postcopy_migration_get_return_path_opened(helper->proxy),
        .qemu_wanted = postcopy_migration_get_qemu_wanted(helper->proxy),
        .qemu_connections = postcopy_migration_get_qemu_connections(helper->proxy),
        .source_rate = postcopy_migration_get_source_rate(helper->proxy),
        .channels_lost = postcopy_migration_get_channels_lost(helper->proxy),
    };
    if (disks)
        ret->disks_unanswered =
            g_variant_get_fixed_array(disks, &ret->n_disks_unanswered, sizeof(guint32));
}
