/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/fake-port.h"

#include <string.h>

static void on_preamble(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GSocketConnection) connection = data;
    FakePort *port = g_object_get_data(G_OBJECT(connection), "port");
    GOutputStream *out = g_io_stream_get_output_stream(G_IO_STREAM(connection));
    guint last = (guint)strlen(port->answers) - 1;
    const char *answer = &port->answers[MIN(port->callers, last)];

    g_input_stream_read_all_finish(G_INPUT_STREAM(source), result, NULL, NULL);
    port->callers++;
    if (*answer != '-')
        g_output_stream_write_all(out, answer, 1, NULL, NULL, NULL);
}

static gboolean on_caller(GSocketService *service, GSocketConnection *connection, GObject *source,
                          gpointer data)
{
    FakePort *port = data;

    g_object_set_data(G_OBJECT(connection), "port", port);
    g_input_stream_read_all_async(g_io_stream_get_input_stream(G_IO_STREAM(connection)),
                                  port->preamble, sizeof port->preamble, G_PRIORITY_DEFAULT, NULL,
                                  on_preamble, g_object_ref(connection));
    return TRUE;
}

void fake_port_init(FakePort *port, const char *answers)
{
    g_autoptr(GInetAddress) host = g_inet_address_new_loopback(G_SOCKET_FAMILY_IPV4);
    g_autoptr(GSocketAddress) address = g_inet_socket_address_new(host, 0);
    g_autoptr(GSocketAddress) bound = NULL;
    g_autoptr(GError) error = NULL;

    *port = (FakePort){ .answers = g_strdup(answers) };
    port->service = g_socket_service_new();
    if (!g_socket_listener_add_address(G_SOCKET_LISTENER(port->service), address,
                                       G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_TCP, NULL, &bound,
                                       &error))
        g_error("%s", error->message);
    port->port = g_inet_socket_address_get_port(G_INET_SOCKET_ADDRESS(bound));
    g_signal_connect(port->service, "incoming", G_CALLBACK(on_caller), port);
}

void fake_port_clear(FakePort *port)
{
    if (port->service) {
        g_socket_service_stop(port->service);
        g_socket_listener_close(G_SOCKET_LISTENER(port->service));
        g_object_unref(port->service);
    }
    g_free(port->answers);
}
