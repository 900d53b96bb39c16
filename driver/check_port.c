/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/check_port.h"

#include <string.h>
#include <unistd.h>

#include "driver/check_answer.h"
#include "driver/recovery_tls.h"
#include "driver/tls_steps.h"
#include "util/log.h"

/* Anybody can begin one. */
#define CALLERS_MAX 8
#define CALLER_SECONDS 10

typedef struct {
    Driver *driver; /* valid while its cancellable is not cancelled */
    GCancellable *stopped;
    char *address;
    char *host; /* what is told of this one */
    guint16 port;
    gboolean handshaken;
    char *answer; /* NULL until the caller has proved itself */
    gsize sent;
} Caller;

static void caller_free(Caller *caller)
{
    if (!g_cancellable_is_cancelled(caller->stopped))
        caller->driver->check_callers--;
    g_object_unref(caller->stopped);
    g_free(caller->address);
    g_free(caller->host);
    g_free(caller->answer);
    g_free(caller);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Caller, caller_free)

static gboolean tell(TlsChannel *channel, gpointer data, GError **error)
{
    Caller *caller = data;

    if (!caller->handshaken && !tls_channel_handshake(channel, error))
        return FALSE;
    caller->handshaken = TRUE;
    if (!caller->answer) {
        CheckAnswer answer = {
            .version = (char *)PACKAGE_VERSION,
            .time_ms = g_get_real_time() / 1000,
            .host = caller->host,
            .port = caller->port,
        };

        caller->answer = check_answer_encode(&answer);
    }
    while (caller->sent < strlen(caller->answer)) {
        gssize n = tls_channel_write(channel, caller->answer + caller->sent,
                                     strlen(caller->answer) - caller->sent, error);

        if (n < 0)
            return FALSE;
        caller->sent += (gsize)n;
    }
    return tls_channel_flush(channel, error);
}

static void on_told(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(Caller) caller = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(TlsChannel) channel = tls_steps_finish(result, &error);

    if (!channel) {
        log_warning(NULL, "migration port: %s checks it: %s", caller->address, error->message);
        return;
    }
    tls_channel_bye(channel);
    log_info(NULL, "migration port: %s (%s) has checked it", caller->address,
             tls_channel_peer_name(channel));
}

void check_port_take(Driver *driver, int fd, const char *address)
{
    const Settings *settings = driver->settings;
    g_autoptr(Caller) caller = NULL;
    g_autoptr(GError) error = NULL;
    TlsChannel *channel;

    if (driver->check_callers >= CALLERS_MAX) {
        log_warning(NULL, "migration port: %s refused: too many checks at once", address);
        close(fd);
        return;
    }
    caller = g_new0(Caller, 1);
    caller->driver = driver;
    caller->stopped = g_object_ref(driver->stopped);
    caller->address = g_strdup(address);
    caller->host = g_strdup(settings_host_name(settings));
    caller->port = (guint16)settings->migration_port;
    driver->check_callers++;
    channel = recovery_channel_new(driver->settings, TLS_ENDPOINT_SERVER, fd, NULL,
                                   CHECK_ALPN, &error);
    if (!channel) {
        log_error(NULL, "migration port: %s checks it: %s", address, error->message);
        return;
    }
    tls_steps(channel, tell, caller, NULL, CALLER_SECONDS, driver->stopped, on_told, caller);
    g_steal_pointer(&caller);
}
