/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/helper_process.h"

#include <errno.h>
#include <gio/gunixfdlist.h>
#include <glib/gi18n.h>
#include <string.h>
#include <sys/socket.h>

#include "driver/helper_process_priv.h"
#include "util/autofd.h"
#include "util/log.h"

#define HELPER_DBUS_FD 3
#define HELPER_LISTEN_FD 4
#define HELPER_OUTCOME_FD 5

#define CALL_TIMEOUT_MS (60 * 1000)

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
    g_free(helper->cancel_reason);
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

/* The outcome of one that is not a child, whose exit status nobody here gets to know. */
static gboolean said_completed(HelperProcess *helper)
{
    return g_strcmp0(postcopy_migration_get_state(helper->proxy), "completed") == 0;
}

/* What the helper said last is on its way while the kernel already reports its end: both the
 * process and its connection have to be through. */
static void report_end_when_complete(HelperProcess *helper)
{
    g_autofree char *how = NULL;

    if (!helper->process_gone || !helper->bus_gone || !helper->handlers ||
        !helper->handlers->exited)
        return;
    /* Of one that could not be adopted helper_process_finish() tells. */
    if (!helper->process && !helper->proxy)
        return;
    if (!helper->process) {
        helper->handlers->exited(helper, said_completed(helper), _("its connection ended"),
                                 helper->data);
        return;
    }
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

static void on_channels(PostcopyMigration *proxy, GParamSpec *pspec, HelperProcess *helper)
{
    if (helper->handlers && helper->handlers->channels_changed)
        helper->handlers->channels_changed(helper, helper->data);
}

static void on_channel_lost(PostcopyMigration *proxy, const char *kind, const char *reason,
                            HelperProcess *helper)
{
    if (helper->handlers && helper->handlers->channel_lost)
        helper->handlers->channel_lost(helper, kind, reason, helper->data);
}

static void on_channel_resumed(PostcopyMigration *proxy, const char *kind, HelperProcess *helper)
{
    if (helper->handlers && helper->handlers->channel_resumed)
        helper->handlers->channel_resumed(helper, kind, helper->data);
}

static void on_disks_wanted(PostcopyMigration *proxy, guint number, HelperProcess *helper)
{
    if (helper->handlers && helper->handlers->disks_wanted)
        helper->handlers->disks_wanted(helper, number, helper->data);
}

static void on_disks_ended(PostcopyMigration *proxy, guint number, const char *reason,
                           HelperProcess *helper)
{
    if (helper->handlers && helper->handlers->disks_ended)
        helper->handlers->disks_ended(helper, number, reason, helper->data);
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

void helper_listen_to(HelperProcess *helper)
{
    const struct {
        const char *signal;
        GCallback handler;
    } handlers[] = {
        { "state-changed", G_CALLBACK(on_state_changed) },
        { "phase-changed", G_CALLBACK(on_phase_changed) },
        { "qemu-needed", G_CALLBACK(on_qemu_needed) },
        { "qemu-connected", G_CALLBACK(on_qemu_connected) },
        { "source-rate-wanted", G_CALLBACK(on_source_rate_wanted) },
        { "channel-lost", G_CALLBACK(on_channel_lost) },
        { "channel-resumed", G_CALLBACK(on_channel_resumed) },
        { "channel-refused", G_CALLBACK(on_channel_refused) },
        { "notify::channels", G_CALLBACK(on_channels) },
        { "disks-wanted", G_CALLBACK(on_disks_wanted) },
        { "disks-ended", G_CALLBACK(on_disks_ended) },
        { "notify::return-path-opened", G_CALLBACK(on_return_path) },
    };

    g_dbus_proxy_set_default_timeout(G_DBUS_PROXY(helper->proxy), CALL_TIMEOUT_MS);
    for (gsize i = 0; i < G_N_ELEMENTS(handlers); i++)
        g_signal_connect(helper->proxy, handlers[i].signal, handlers[i].handler, helper);
}

void helper_take_connection(HelperProcess *helper, GDBusConnection *connection)
{
    helper->connection = connection;
    g_signal_connect(connection, "closed", G_CALLBACK(on_bus_closed), helper);
    if (g_dbus_connection_is_closed(connection))
        helper->bus_gone = TRUE;
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

HelperProcess *helper_alloc(const HelperHandlers *handlers, gpointer data)
{
    HelperProcess *helper = g_new0(HelperProcess, 1);

    g_atomic_ref_count_init(&helper->refs);
    helper->handlers = handlers;
    helper->data = data;
    return helper;
}

static GSubprocess *launch(const Settings *settings, const char *user, int dbus_fd, int listen_fd,
                           int outcome_fd, GError **error)
{
    g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_NONE);
    g_autofree char *dbus_option = g_strdup_printf("--dbus-fd=%d", HELPER_DBUS_FD);
    g_autofree char *listen_option = g_strdup_printf("--listen-fd=%d", HELPER_LISTEN_FD);
    g_autofree char *outcome_option = g_strdup_printf("--outcome-fd=%d", HELPER_OUTCOME_FD);
    g_autofree char *user_option = g_strdup_printf("--user=%s", user);
    g_autofree char *level = g_strdup_printf("--log-level=%u", settings->log_level);
    const char *argv[] = { settings->helper_path, dbus_option, listen_option, outcome_option,
                           user_option,           level,       NULL };
    GSubprocess *process;

    g_subprocess_launcher_take_fd(launcher, dbus_fd, HELPER_DBUS_FD);
    g_subprocess_launcher_take_fd(launcher, listen_fd, HELPER_LISTEN_FD);
    g_subprocess_launcher_take_fd(launcher, outcome_fd, HELPER_OUTCOME_FD);
    /* The daemon's own business with systemd is not the helper's. */
    g_subprocess_launcher_unsetenv(launcher, "NOTIFY_SOCKET");
    g_subprocess_launcher_unsetenv(launcher, "LISTEN_PID");
    g_subprocess_launcher_unsetenv(launcher, "LISTEN_FDS");
    process = g_subprocess_launcher_spawnv(launcher, argv, error);
    if (!process)
        g_prefix_error(error, _("cannot start the helper %s: "), settings->helper_path);
    return process;
}

HelperProcess *helper_process_spawn(const Settings *settings, const char *user, int listen_fd,
                                    int outcome_fd, const HelperHandlers *handlers, gpointer data,
                                    GError **error)
{
    autofd listener = listen_fd;
    autofd outcome = outcome_fd;
    autofd theirs = -1;
    g_autoptr(GSocketConnection) socket = NULL;
    GSubprocess *process;
    HelperProcess *helper;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(errno),
                    _("cannot make a socket pair for a helper: %s"), g_strerror(errno));
        return NULL;
    }
    theirs = pair[1];
    socket = stream_for(pair[0], error);
    if (!socket)
        return NULL;
    process = launch(settings, user, autofd_steal(&theirs), autofd_steal(&listener),
                     autofd_steal(&outcome), error);
    if (!process)
        return NULL;
    helper = helper_alloc(handlers, data);
    helper->process = process;
    helper->socket = g_steal_pointer(&socket);
    g_subprocess_wait_async(helper->process, NULL, on_process_end, helper_process_ref(helper));
    return helper;
}

pid_t helper_process_pid(HelperProcess *helper)
{
    const char *pid = helper->process ? g_subprocess_get_identifier(helper->process) : NULL;

    return pid ? (pid_t)g_ascii_strtoll(pid, NULL, 10) : 0;
}

/* ---- the time that it has to answer ---- */

static gboolean on_deadline(gpointer data)
{
    HelperDeadline *deadline = data;

    deadline->timer = 0;
    g_cancellable_cancel(deadline->late);
    return G_SOURCE_REMOVE;
}

void helper_deadline_start(HelperDeadline *deadline)
{
    deadline->late = g_cancellable_new();
    deadline->timer = g_timeout_add_seconds(HELPER_ANSWER_TIMEOUT_S, on_deadline, deadline);
}

void helper_deadline_clear(HelperDeadline *deadline)
{
    g_clear_handle_id(&deadline->timer, g_source_remove);
    g_clear_object(&deadline->late);
}

/* ---- configuring: connection, then proxy, then the call ---- */

typedef struct {
    HelperDeadline deadline; /* of the connection */
    char *side;
    GVariant *options;
    GVariant *files;
    GUnixFDList *fds;
} ConfigureJob;

static void configure_job_free(gpointer data)
{
    ConfigureJob *job = data;

    helper_deadline_clear(&job->deadline);
    g_free(job->side);
    g_variant_unref(job->options);
    g_clear_pointer(&job->files, g_variant_unref);
    g_clear_object(&job->fds);
    g_free(job);
}

HelperProcess *helper_task_helper(GTask *task)
{
    return g_object_get_data(G_OBJECT(task), "helper");
}

GTask *helper_task_new(HelperProcess *helper, GAsyncReadyCallback callback, gpointer data)
{
    GTask *task = g_task_new(NULL, NULL, callback, data);

    g_object_set_data_full(G_OBJECT(task), "helper", helper_process_ref(helper),
                           (GDestroyNotify)helper_process_unref);
    return task;
}

void helper_task_return_dbus_error(GTask *task, GError *error)
{
    g_dbus_error_strip_remote_error(error);
    g_task_return_error(task, error);
}

/* One that does not answer would not hear either that it is to end. */
static void kill_if_late(HelperProcess *helper, const GError *error)
{
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
        g_error_matches(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT))
        g_subprocess_force_exit(helper->process);
}

static void on_configured(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    GError *error = NULL;

    if (postcopy_migration_call_configure_finish(POSTCOPY_MIGRATION(source), NULL, result,
                                                 &error)) {
        g_task_return_boolean(task, TRUE);
        return;
    }
    kill_if_late(helper_task_helper(task), error);
    helper_task_return_dbus_error(task, error);
}

static void on_proxy(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    HelperProcess *helper = helper_task_helper(task);
    ConfigureJob *job = g_task_get_task_data(task);
    GError *error = NULL;

    helper->proxy = postcopy_migration_proxy_new_finish(result, &error);
    if (!helper->proxy) {
        g_prefix_error(&error, _("the helper does not answer: "));
        helper_task_return_dbus_error(task, error);
        return;
    }
    helper_listen_to(helper);
    postcopy_migration_call_configure(helper->proxy, job->side, job->options, job->files, job->fds,
                                      NULL, on_configured, g_steal_pointer(&task));
}

/* Takes the error. */
static void connection_failed(GTask *task, GError *error)
{
    g_autoptr(GError) owned = error;

    kill_if_late(helper_task_helper(task), owned);
    if (g_error_matches(owned, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_TIMED_OUT,
                                _("the helper does not answer: nothing within %d seconds"),
                                HELPER_ANSWER_TIMEOUT_S);
        return;
    }
    g_prefix_error(&owned, _("the helper ended before it answered; its reason is in the log of "
                             "virtpostcopyd: "));
    g_task_return_error(task, g_steal_pointer(&owned));
}

static void on_connection(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    HelperProcess *helper = helper_task_helper(task);
    ConfigureJob *job = g_task_get_task_data(task);
    GDBusConnection *connection;
    GError *error = NULL;

    connection = g_dbus_connection_new_finish(result, &error);
    helper_deadline_clear(&job->deadline);
    if (!connection) {
        connection_failed(task, error);
        return;
    }
    helper_take_connection(helper, connection);
    postcopy_migration_proxy_new(helper->connection, G_DBUS_PROXY_FLAGS_NONE, NULL,
                                 HELPER_OBJECT_PATH, NULL, on_proxy, g_steal_pointer(&task));
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
    helper_deadline_start(&job->deadline);
    g_dbus_connection_new(G_IO_STREAM(socket), guid,
                          G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_SERVER, NULL, job->deadline.late,
                          on_connection, g_steal_pointer(&task));
}
