/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/helper_process.h"

#include <errno.h>
#include <gio/gunixfdlist.h>
#include <glib/gi18n.h>
#include <string.h>
#include <sys/socket.h>

#include "driver/helper_summary.h"
#include "ram/postcopy-dbus.h"
#include "util/autofd.h"
#include "util/log.h"

#define OBJECT_PATH "/org/libvirt/Postcopy1/Migration"
#define HELPER_DBUS_FD 3

/* ConnectPeer answers after a TLS handshake with a far host; the helper has its own deadline. */
#define CALL_TIMEOUT_MS (60 * 1000)

struct HelperProcess {
    gatomicrefcount refs;
    GSubprocess *process;
    GSocketConnection *socket; /* until the D-Bus connection takes over */
    GDBusConnection *connection;
    PostcopyMigration *proxy;
    const HelperHandlers *handlers; /* NULL once disowned */
    gpointer data;
    gboolean process_gone;
    gboolean bus_gone; /* also when there never was a connection */
};

HelperProcess *helper_process_ref(HelperProcess *helper)
{
    g_atomic_ref_count_inc(&helper->refs);
    return helper;
}

void helper_process_unref(HelperProcess *helper)
{
    if (!helper || !g_atomic_ref_count_dec(&helper->refs))
        return;
    if (helper->proxy)
        g_signal_handlers_disconnect_by_data(helper->proxy, helper);
    if (helper->connection)
        g_signal_handlers_disconnect_by_data(helper->connection, helper);
    g_clear_object(&helper->proxy);
    g_clear_object(&helper->connection);
    g_clear_object(&helper->socket);
    g_clear_object(&helper->process);
    g_free(helper);
}

void helper_process_disown(HelperProcess *helper)
{
    helper->handlers = NULL;
    helper->data = NULL;
}

/* ---- the end of the process ---- */

static char *describe_end(GSubprocess *process)
{
    if (g_subprocess_get_if_signaled(process)) {
        int sig = g_subprocess_get_term_sig(process);

        return g_strdup_printf(_("signal %d (%s)"), sig, strsignal(sig));
    }
    return g_strdup_printf(_("exit status %d"), g_subprocess_get_exit_status(process));
}

/* What the helper said last is on its way while the kernel already reports its end: both the
 * process and its connection have to be through. */
static void report_end_when_complete(HelperProcess *helper)
{
    g_autofree char *how = NULL;

    if (!helper->process_gone || !helper->bus_gone || !helper->handlers ||
        !helper->handlers->exited)
        return;
    how = describe_end(helper->process);
    helper->handlers->exited(helper, g_subprocess_get_successful(helper->process), how,
                             helper->data);
}

static void on_process_end(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(HelperProcess) helper = data;
    g_autoptr(GError) error = NULL;

    if (!g_subprocess_wait_finish(G_SUBPROCESS(source), result, &error)) {
        log_warning(NULL, "waiting for a helper: %s", error->message);
        return;
    }
    helper->process_gone = TRUE;
    if (!helper->connection)
        helper->bus_gone = TRUE;
    report_end_when_complete(helper);
}

static void on_bus_closed(GDBusConnection *connection, gboolean remote_vanished, GError *error,
                          HelperProcess *helper)
{
    g_autoptr(HelperProcess) keep = helper_process_ref(helper);

    helper->bus_gone = TRUE;
    report_end_when_complete(keep);
}

/* ---- what it says ---- */

static void on_state_changed(PostcopyMigration *proxy, const char *state, const char *reason,
                             const char *ended_by, HelperProcess *helper)
{
    if (helper->handlers && helper->handlers->state_changed)
        helper->handlers->state_changed(helper, state, reason, ended_by, helper->data);
}

static void on_phase_changed(PostcopyMigration *proxy, const char *phase, HelperProcess *helper)
{
    if (helper->handlers && helper->handlers->phase_changed)
        helper->handlers->phase_changed(helper, phase, helper->data);
}

static void on_qemu_needed(PostcopyMigration *proxy, HelperProcess *helper)
{
    if (helper->handlers && helper->handlers->qemu_needed)
        helper->handlers->qemu_needed(helper, helper->data);
}

static void on_qemu_connected(PostcopyMigration *proxy, HelperProcess *helper)
{
    if (helper->handlers && helper->handlers->qemu_connected)
        helper->handlers->qemu_connected(helper, helper->data);
}

static void on_source_rate_wanted(PostcopyMigration *proxy, guint64 bytes_per_second,
                                  HelperProcess *helper)
{
    if (helper->handlers && helper->handlers->source_rate_wanted)
        helper->handlers->source_rate_wanted(helper, bytes_per_second, helper->data);
}

static void on_channel_refused(PostcopyMigration *proxy, const char *address, const char *reason,
                               HelperProcess *helper)
{
    if (helper->handlers && helper->handlers->channel_refused)
        helper->handlers->channel_refused(helper, address, reason, helper->data);
}

static void on_return_path(PostcopyMigration *proxy, GParamSpec *pspec, HelperProcess *helper)
{
    if (postcopy_migration_get_return_path_opened(proxy) && helper->handlers &&
        helper->handlers->return_path_opened)
        helper->handlers->return_path_opened(helper, helper->data);
}

/* ---- starting ---- */

/* The daemon's own end of the socket pair as a GIO stream; takes fd. */
static GSocketConnection *stream_for(int fd, GError **error)
{
    autofd owned = fd;
    g_autoptr(GSocket) socket = g_socket_new_from_fd(owned, error);

    if (!socket)
        return NULL;
    autofd_steal(&owned);
    return g_socket_connection_factory_create_connection(socket);
}

HelperProcess *helper_process_spawn(const Settings *settings, const char *user,
                                    const HelperHandlers *handlers, gpointer data, GError **error)
{
    g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_NONE);
    g_autoptr(GSocketConnection) socket = NULL;
    g_autoptr(GSubprocess) process = NULL;
    g_autofree char *dbus_fd = g_strdup_printf("--dbus-fd=%d", HELPER_DBUS_FD);
    g_autofree char *user_option = g_strdup_printf("--user=%s", user);
    g_autofree char *level = g_strdup_printf("--log-level=%u", settings->log_level);
    const char *argv[] = { settings->helper_path, dbus_fd, user_option, level, NULL };
    HelperProcess *helper;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(errno),
                    _("cannot make a socket pair for a helper: %s"), g_strerror(errno));
        return NULL;
    }
    g_subprocess_launcher_take_fd(launcher, pair[1], HELPER_DBUS_FD);
    socket = stream_for(pair[0], error);
    if (!socket)
        return NULL;
    /* The daemon's own business with systemd is not the helper's. */
    g_subprocess_launcher_unsetenv(launcher, "NOTIFY_SOCKET");
    g_subprocess_launcher_unsetenv(launcher, "LISTEN_PID");
    g_subprocess_launcher_unsetenv(launcher, "LISTEN_FDS");
    process = g_subprocess_launcher_spawnv(launcher, argv, error);
    if (!process) {
        g_prefix_error(error, _("cannot start the helper %s: "), settings->helper_path);
        return NULL;
    }

    helper = g_new0(HelperProcess, 1);
    g_atomic_ref_count_init(&helper->refs);
    helper->process = g_steal_pointer(&process);
    helper->socket = g_steal_pointer(&socket);
    helper->handlers = handlers;
    helper->data = data;
    g_subprocess_wait_async(helper->process, NULL, on_process_end, helper_process_ref(helper));
    return helper;
}

/* ---- configuring: connection, then proxy, then the call ---- */

typedef struct {
    char *side;
    GVariant *options;
    GVariant *files;
    GUnixFDList *fds;
} ConfigureJob;

static void configure_job_free(gpointer data)
{
    ConfigureJob *job = data;

    g_free(job->side);
    g_variant_unref(job->options);
    g_clear_pointer(&job->files, g_variant_unref);
    g_clear_object(&job->fds);
    g_free(job);
}

static HelperProcess *task_helper(GTask *task)
{
    return g_object_get_data(G_OBJECT(task), "helper");
}

static GTask *helper_task_new(HelperProcess *helper, GAsyncReadyCallback callback, gpointer data)
{
    GTask *task = g_task_new(NULL, NULL, callback, data);

    g_object_set_data_full(G_OBJECT(task), "helper", helper_process_ref(helper),
                           (GDestroyNotify)helper_process_unref);
    return task;
}

/* A remote error's text without GDBus's decoration. */
static void return_dbus_error(GTask *task, GError *error)
{
    g_dbus_error_strip_remote_error(error);
    g_task_return_error(task, error);
}

static void on_configured(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    GError *error = NULL;

    if (!postcopy_migration_call_configure_finish(POSTCOPY_MIGRATION(source), NULL, result,
                                                  &error))
        return_dbus_error(task, error);
    else
        g_task_return_boolean(task, TRUE);
}

static void on_proxy(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    HelperProcess *helper = task_helper(task);
    ConfigureJob *job = g_task_get_task_data(task);
    GError *error = NULL;

    helper->proxy = postcopy_migration_proxy_new_finish(result, &error);
    if (!helper->proxy) {
        g_prefix_error(&error, _("the helper does not answer: "));
        return_dbus_error(task, error);
        return;
    }
    g_dbus_proxy_set_default_timeout(G_DBUS_PROXY(helper->proxy), CALL_TIMEOUT_MS);
    g_signal_connect(helper->proxy, "state-changed", G_CALLBACK(on_state_changed), helper);
    g_signal_connect(helper->proxy, "phase-changed", G_CALLBACK(on_phase_changed), helper);
    g_signal_connect(helper->proxy, "qemu-needed", G_CALLBACK(on_qemu_needed), helper);
    g_signal_connect(helper->proxy, "qemu-connected", G_CALLBACK(on_qemu_connected), helper);
    g_signal_connect(helper->proxy, "source-rate-wanted", G_CALLBACK(on_source_rate_wanted),
                     helper);
    g_signal_connect(helper->proxy, "channel-refused", G_CALLBACK(on_channel_refused), helper);
    g_signal_connect(helper->proxy, "notify::return-path-opened", G_CALLBACK(on_return_path),
                     helper);
    postcopy_migration_call_configure(helper->proxy, job->side, job->options, job->files, job->fds,
                                      NULL, on_configured, g_steal_pointer(&task));
}

static void on_connection(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    HelperProcess *helper = task_helper(task);
    GError *error = NULL;

    helper->connection = g_dbus_connection_new_finish(result, &error);
    if (!helper->connection) {
        g_prefix_error(&error,
                       _("the helper ended before it answered; its reason is in the log of "
                         "virtpostcopyd: "));
        g_task_return_error(task, error);
        return;
    }
    g_signal_connect(helper->connection, "closed", G_CALLBACK(on_bus_closed), helper);
    if (g_dbus_connection_is_closed(helper->connection))
        helper->bus_gone = TRUE;
    postcopy_migration_proxy_new(helper->connection, G_DBUS_PROXY_FLAGS_NONE, NULL, OBJECT_PATH,
                                 NULL, on_proxy, g_steal_pointer(&task));
}

/* The credential files as a(ssh) and the descriptors it points into. */
static gboolean pack_files(const TlsFiles *files, ConfigureJob *job, GError **error)
{
    g_auto(GVariantBuilder) builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(ssh)"));

    job->fds = g_unix_fd_list_new();
    for (gint kind = 0; kind < TLS_FILE_MAX; kind++) {
        gint index;

        if (files->fds[kind] < 0)
            continue;
        index = g_unix_fd_list_append(job->fds, files->fds[kind], error);
        if (index < 0)
            return FALSE;
        g_variant_builder_add(&builder, "(ssh)", tls_file_kind_name(kind), files->names[kind],
                              index);
    }
    job->files = g_variant_ref_sink(g_variant_builder_end(&builder));
    return TRUE;
}

void helper_process_configure(HelperProcess *helper, const char *side, GVariant *options,
                              const TlsFiles *files, GAsyncReadyCallback callback, gpointer data)
{
    g_autoptr(GTask) task = helper_task_new(helper, callback, data);
    g_autofree char *guid = g_dbus_generate_guid();
    ConfigureJob *job = g_new0(ConfigureJob, 1);
    g_autoptr(GSocketConnection) socket = g_steal_pointer(&helper->socket);
    GError *error = NULL;

    job->side = g_strdup(side);
    job->options = g_variant_ref_sink(options);
    g_task_set_task_data(task, job, configure_job_free);
    if (!pack_files(files, job, &error)) {
        g_task_return_error(task, error);
        return;
    }
    g_dbus_connection_new(G_IO_STREAM(socket), guid,
                          G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_SERVER, NULL, NULL,
                          on_connection, g_steal_pointer(&task));
}

/* ---- calls ---- */

/* Puts fd, which is taken, into a list of its own; its index is 0. */
static GUnixFDList *fd_list_of(int fd)
{
    return g_unix_fd_list_new_from_array(&fd, 1);
}

static void on_peer_connected(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    GError *error = NULL;

    if (!postcopy_migration_call_connect_peer_finish(POSTCOPY_MIGRATION(source), NULL, result,
                                                     &error))
        return_dbus_error(task, error);
    else
        g_task_return_boolean(task, TRUE);
}

void helper_process_connect_peer(HelperProcess *helper, int fd, const char *host,
                                 GAsyncReadyCallback callback, gpointer data)
{
    g_autoptr(GUnixFDList) fds = fd_list_of(fd);

    postcopy_migration_call_connect_peer(helper->proxy, g_variant_new_handle(0), host, fds, NULL,
                                         on_peer_connected,
                                         helper_task_new(helper, callback, data));
}

gboolean helper_process_wants_channel(HelperProcess *helper, const char *kind)
{
    const char *const *wanted = postcopy_migration_get_channels_wanted(helper->proxy);

    return wanted && g_strv_contains(wanted, kind);
}

static void on_channel_connected(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    GError *error = NULL;

    if (!postcopy_migration_call_connect_channel_finish(POSTCOPY_MIGRATION(source), NULL, result,
                                                        &error))
        return_dbus_error(task, error);
    else
        g_task_return_boolean(task, TRUE);
}

void helper_process_connect_channel(HelperProcess *helper, int fd, const char *host,
                                    const char *kind, GAsyncReadyCallback callback, gpointer data)
{
    g_autoptr(GUnixFDList) fds = fd_list_of(fd);

    postcopy_migration_call_connect_channel(helper->proxy, g_variant_new_handle(0), host, kind, fds,
                                            NULL, on_channel_connected,
                                            helper_task_new(helper, callback, data));
}

static void on_listening(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    GError *error = NULL;

    if (!postcopy_migration_call_listen_qemu_finish(POSTCOPY_MIGRATION(source), NULL, result,
                                                    &error))
        return_dbus_error(task, error);
    else
        g_task_return_boolean(task, TRUE);
}

void helper_process_listen_qemu(HelperProcess *helper, int fd, GAsyncReadyCallback callback,
                                gpointer data)
{
    g_autoptr(GUnixFDList) fds = fd_list_of(fd);

    postcopy_migration_call_listen_qemu(helper->proxy, g_variant_new_handle(0), fds, NULL,
                                        on_listening, helper_task_new(helper, callback, data));
}

gboolean helper_process_finish(HelperProcess *helper, GAsyncResult *result, GError **error)
{
    return g_task_propagate_boolean(G_TASK(result), error);
}

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

void helper_process_cancel(HelperProcess *helper, const char *reason)
{
    if (helper->proxy)
        tell(helper, "Cancel", g_variant_new("(s)", reason), NULL);
    else
        g_subprocess_send_signal(helper->process, SIGTERM);
}

char *helper_process_summary(HelperProcess *helper)
{
    g_autoptr(GString) text = g_string_new(NULL);
    GVariant *statistics;

    if (!helper->proxy)
        return g_strdup("");
    g_string_append_printf(text, "tls=%s cipher=%s peer=\"%s\" phase=%s",
                           postcopy_migration_get_tls_version(helper->proxy),
                           postcopy_migration_get_tls_cipher(helper->proxy),
                           postcopy_migration_get_peer_name(helper->proxy),
                           postcopy_migration_get_phase(helper->proxy));
    statistics = postcopy_migration_get_statistics(helper->proxy);
    if (statistics)
        helper_summary_add_statistics(text, statistics);
    return g_string_free(g_steal_pointer(&text), FALSE);
}
