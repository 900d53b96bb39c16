/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a helper is told. Of helper_process.h. */
#include "config.h"

#include <gio/gunixfdlist.h>
#include <signal.h>

#include "driver/helper_process_priv.h"
#include "driver/helper_summary.h"
#include "util/log.h"

/* Puts fd, which is taken, into a list of its own; its index is 0. */
static GUnixFDList *fd_list_of(int fd)
{
    return g_unix_fd_list_new_from_array(&fd, 1);
}

/* ---- asked ---- */

static void on_answered(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    GError *error = NULL;
    g_autoptr(GVariant) answer =
        g_dbus_proxy_call_with_unix_fd_list_finish(G_DBUS_PROXY(source), NULL, result, &error);

    if (!answer)
        helper_task_return_dbus_error(task, error);
    else
        g_task_return_boolean(task, TRUE);
}

/* timeout_ms: -1 for the usual one. */
static void ask(HelperProcess *helper, const char *method, GVariant *args, int fd, int timeout_ms,
                GAsyncReadyCallback callback, gpointer data)
{
    g_autoptr(GUnixFDList) fds = fd_list_of(fd);

    g_dbus_proxy_call_with_unix_fd_list(G_DBUS_PROXY(helper->proxy), method, args,
                                        G_DBUS_CALL_FLAGS_NONE, timeout_ms, fds, NULL, on_answered,
                                        helper_task_new(helper, callback, data));
}

void helper_process_connect_peer(HelperProcess *helper, int fd, const char *host,
                                 GAsyncReadyCallback callback, gpointer data)
{
    ask(helper, "ConnectPeer", g_variant_new("(hs)", 0, host), fd, G_MAXINT, callback, data);
}

const char *helper_process_channel_wanted(HelperProcess *helper, guint i)
{
    const char *const *wanted = postcopy_migration_get_channels_wanted(helper->proxy);

    return wanted && i < g_strv_length((char **)wanted) ? wanted[i] : NULL;
}

void helper_process_connect_channel(HelperProcess *helper, int fd, const char *host,
                                    const char *kind, GAsyncReadyCallback callback, gpointer data)
{
    ask(helper, "ConnectChannel", g_variant_new("(hss)", 0, host, kind), fd, G_MAXINT, callback,
        data);
}

void helper_process_listen_qemu(HelperProcess *helper, int fd, GAsyncReadyCallback callback,
                                gpointer data)
{
    ask(helper, "ListenQemu", g_variant_new("(h)", 0), fd, -1, callback, data);
}

void helper_process_attach_memory(HelperProcess *helper, int fd, GAsyncReadyCallback callback,
                                  gpointer data)
{
    ask(helper, "AttachMemory", g_variant_new("(h)", 0), fd, -1, callback, data);
}

void helper_process_listen_disks(HelperProcess *helper, int fd, GAsyncReadyCallback callback,
                                 gpointer data)
{
    ask(helper, "ListenDisks", g_variant_new("(h)", 0), fd, -1, callback, data);
}

gboolean helper_process_finish(HelperProcess *helper, GAsyncResult *result, GError **error)
{
    return g_task_propagate_boolean(G_TASK(result), error);
}

/* ---- told ---- */

/* The answer to a call nobody waits for: worth a line in the log, no more. */
static void on_told(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GVariant) answer = NULL;
    g_autoptr(GError) error = NULL;

    answer = g_dbus_proxy_call_with_unix_fd_list_finish(G_DBUS_PROXY(source), NULL, result, &error);
    if (!answer && !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CLOSED))
        log_warning(NULL, "helper: %s: %s", (const char *)data, error->message);
}

static void tell(HelperProcess *helper, const char *method, GVariant *args, GUnixFDList *fds)
{
    if (!helper->proxy) {
        g_variant_unref(g_variant_ref_sink(args));
        return;
    }
    g_dbus_proxy_call_with_unix_fd_list(G_DBUS_PROXY(helper->proxy), method, args,
                                        G_DBUS_CALL_FLAGS_NONE, -1, fds, NULL, on_told,
                                        (gpointer)method);
}

void helper_process_accept_peer(HelperProcess *helper, int fd, const char *address)
{
    g_autoptr(GUnixFDList) fds = fd_list_of(fd);

    tell(helper, "AcceptPeer", g_variant_new("(hs)", 0, address), fds);
}

void helper_process_attach_qemu(HelperProcess *helper, int fd)
{
    g_autoptr(GUnixFDList) fds = fd_list_of(fd);

    tell(helper, "AttachQemu", g_variant_new("(h)", 0), fds);
}

void helper_process_refuse_qemu(HelperProcess *helper, const char *reason)
{
    tell(helper, "RefuseQemu", g_variant_new("(s)", reason), NULL);
}

void helper_process_set_reading(HelperProcess *helper, int fd, GVariant *ranges)
{
    g_autoptr(GUnixFDList) fds = fd_list_of(fd);

    tell(helper, "SetReading", g_variant_new("(h@a(tt))", 0, ranges), fds);
}

void helper_process_set_placing(HelperProcess *helper, int uffd, int record, GVariant *ranges)
{
    int both[] = { uffd, record };
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new_from_array(both, 2);

    tell(helper, "SetPlacing", g_variant_new("(hh@a(ttts))", 0, 1, ranges), fds);
}

void helper_process_set_placed(HelperProcess *helper, int record, int pagemap)
{
    int both[] = { record, pagemap };
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new_from_array(both, 2);

    tell(helper, "SetPlaced", g_variant_new("(hh)", 0, 1), fds);
}

void helper_process_refuse_placing(HelperProcess *helper, const char *reason)
{
    tell(helper, "RefusePlacing", g_variant_new("(s)", reason), NULL);
}

gboolean helper_process_places(HelperProcess *helper)
{
    const char *placing = helper->proxy ? postcopy_migration_get_placing(helper->proxy) : NULL;

    return placing && !g_str_equal(placing, "off");
}

gboolean helper_process_reads(HelperProcess *helper)
{
    const char *reading = helper->proxy ? postcopy_migration_get_reading(helper->proxy) : NULL;

    return reading && !g_str_equal(reading, "off");
}

gboolean helper_process_reading_failed(HelperProcess *helper)
{
    const char *reading = helper->proxy ? postcopy_migration_get_reading(helper->proxy) : NULL;

    return reading && g_str_equal(reading, "failed");
}

void helper_process_reconnect_channel(HelperProcess *helper, int fd, const char *host,
                                      const char *kind)
{
    g_autoptr(GUnixFDList) fds = fd_list_of(fd);

    tell(helper, "ReconnectChannel", g_variant_new("(hss)", 0, host, kind), fds);
}

void helper_process_connect_disks(HelperProcess *helper, int fd, const char *host, guint number)
{
    g_autoptr(GUnixFDList) fds = fd_list_of(fd);

    tell(helper, "ConnectDisks", g_variant_new("(hsu)", 0, host, number), fds);
}

void helper_process_attach_disks(HelperProcess *helper, int fd, guint number)
{
    g_autoptr(GUnixFDList) fds = fd_list_of(fd);

    tell(helper, "AttachDisks", g_variant_new("(hu)", 0, number), fds);
}

void helper_process_refuse_disks(HelperProcess *helper, guint number, const char *reason)
{
    tell(helper, "RefuseDisks", g_variant_new("(us)", number, reason), NULL);
}

void helper_process_abandon_peer(HelperProcess *helper, const char *reason)
{
    tell(helper, "AbandonPeer", g_variant_new("(s)", reason), NULL);
}

void helper_process_cancel(HelperProcess *helper, const char *reason)
{
    if (helper->proxy) {
        tell(helper, "Cancel", g_variant_new("(s)", reason), NULL);
    } else if (helper->process) {
        g_subprocess_send_signal(helper->process, SIGTERM);
    } else if (helper->cancel_reason != reason) {
        g_free(helper->cancel_reason);
        helper->cancel_reason = g_strdup(reason);
    }
}

gboolean helper_process_channel(HelperProcess *helper, const char *kind, HelperChannel *ret)
{
    GVariant *channels = helper->proxy ? postcopy_migration_get_channels(helper->proxy) : NULL;
    GVariantIter iter;
    const char *name;

    if (!channels)
        return FALSE;
    g_variant_iter_init(&iter, channels);
    while (g_variant_iter_next(&iter, "(&s&s&s)", &name, &ret->tls, &ret->cipher)) {
        if (g_str_equal(name, kind)) {
            ret->peer = postcopy_migration_get_peer_name(helper->proxy);
            return TRUE;
        }
    }
    return FALSE;
}

const char *const *helper_process_features(HelperProcess *helper)
{
    static const char *const none[] = { NULL };
    const char *const *features =
        helper->proxy ? postcopy_migration_get_features(helper->proxy) : NULL;

    return features ? features : none;
}

gboolean helper_process_report(HelperProcess *helper, HelperReport *ret)
{
    PostcopyMigration *proxy = helper->proxy;
    GVariant *channels;

    if (!proxy || !postcopy_migration_get_state(proxy))
        return FALSE;
    channels = postcopy_migration_get_channels(proxy);
    *ret = (HelperReport){
        .state = postcopy_migration_get_state(proxy),
        .phase = postcopy_migration_get_phase(proxy),
        .tls_version = postcopy_migration_get_tls_version(proxy),
        .tls_cipher = postcopy_migration_get_tls_cipher(proxy),
        .peer = postcopy_migration_get_peer_name(proxy),
        .features = helper_process_features(helper),
        .channels = channels ? (guint)g_variant_n_children(channels) : 0,
        .statistics = postcopy_migration_get_statistics(proxy),
    };
    return TRUE;
}

char *helper_process_summary(HelperProcess *helper)
{
    g_autofree char *features = g_strjoinv(",", (char **)helper_process_features(helper));
    g_autoptr(GString) text = g_string_new(NULL);
    GVariant *statistics;

    if (!helper->proxy)
        return g_strdup("");
    g_string_append_printf(text, "tls=%s cipher=%s peer=\"%s\" features=%s phase=%s",
                           postcopy_migration_get_tls_version(helper->proxy),
                           postcopy_migration_get_tls_cipher(helper->proxy),
                           postcopy_migration_get_peer_name(helper->proxy), features,
                           postcopy_migration_get_phase(helper->proxy));
    statistics = postcopy_migration_get_statistics(helper->proxy);
    if (statistics)
        helper_summary_add_statistics(text, statistics);
    return g_string_free(g_steal_pointer(&text), FALSE);
}
