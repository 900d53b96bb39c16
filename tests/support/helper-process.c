/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/helper-process.h"

#include <errno.h>
#include <gio/gunixfdlist.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ram/job_error.h"
#include "tests/support/sockets.h"

#define OBJECT_PATH "/org/libvirt/Postcopy1/Migration"
#define CALL_TIMEOUT_MS 60000

static void tell(HelperChild *child, const char *what)
{
    if (child->func)
        child->func(child, what, child->data);
}

/* ---- what it says ---- */

static void on_state_changed(PostcopyMigration *proxy, const char *state, const char *reason,
                             const char *ended_by, HelperChild *child)
{
    g_free(child->state);
    g_free(child->reason);
    child->state = g_strdup(state);
    child->reason = g_strdup(reason);
    g_string_append_printf(child->history, "%s%s", child->history->len ? " " : "", state);
    tell(child, "state");
}

static void on_phase_changed(PostcopyMigration *proxy, const char *phase, HelperChild *child)
{
    g_free(child->phase);
    child->phase = g_strdup(phase);
    g_string_append_printf(child->phases, "%s%s", child->phases->len ? " " : "", phase);
    tell(child, "phase");
}

static void on_qemu_needed(PostcopyMigration *proxy, HelperChild *child)
{
    child->qemu_needed++;
    tell(child, "qemu-needed");
}

static void on_qemu_connected(PostcopyMigration *proxy, HelperChild *child)
{
    child->qemu_connected++;
    tell(child, "qemu-connected");
}

static void on_channel_lost(PostcopyMigration *proxy, const char *kind, const char *reason,
                            HelperChild *child)
{
    g_ptr_array_add(child->lost, g_strdup_printf("%s: %s", kind, reason));
    tell(child, "channel-lost");
}

static void on_channel_resumed(PostcopyMigration *proxy, const char *kind, HelperChild *child)
{
    g_ptr_array_add(child->resumed, g_strdup(kind));
    tell(child, "channel-resumed");
}

static void on_channel_refused(PostcopyMigration *proxy, const char *address, const char *reason,
                               HelperChild *child)
{
    g_ptr_array_add(child->refused, g_strdup_printf("%s: %s", address, reason));
    tell(child, "channel-refused");
}

static void on_bus_closed(GDBusConnection *connection, gboolean vanished, GError *error,
                          HelperChild *child)
{
    child->bus_closed = TRUE;
    tell(child, "bus-closed");
}

static void on_process_end(GObject *source, GAsyncResult *result, gpointer data)
{
    HelperChild *child = data;

    if (!g_subprocess_wait_finish(child->process, result, NULL))
        return;
    child->exited = TRUE;
    child->status = g_subprocess_get_if_signaled(child->process)
                        ? 128 + g_subprocess_get_term_sig(child->process)
                        : g_subprocess_get_exit_status(child->process);
    tell(child, "exited");
}

/* ---- life ---- */

static void connect_proxy(HelperChild *child)
{
    const struct {
        const char *signal;
        GCallback handler;
    } handlers[] = {
        { "state-changed", G_CALLBACK(on_state_changed) },
        { "phase-changed", G_CALLBACK(on_phase_changed) },
        { "qemu-needed", G_CALLBACK(on_qemu_needed) },
        { "qemu-connected", G_CALLBACK(on_qemu_connected) },
        { "channel-lost", G_CALLBACK(on_channel_lost) },
        { "channel-resumed", G_CALLBACK(on_channel_resumed) },
        { "channel-refused", G_CALLBACK(on_channel_refused) },
    };

    child->proxy = postcopy_migration_proxy_new_sync(
        child->connection, G_DBUS_PROXY_FLAGS_NONE, NULL, OBJECT_PATH, NULL, NULL);
    if (!child->proxy)
        return;
    g_dbus_proxy_set_default_timeout(G_DBUS_PROXY(child->proxy), CALL_TIMEOUT_MS);
    for (gsize i = 0; i < G_N_ELEMENTS(handlers); i++)
        g_signal_connect(child->proxy, handlers[i].signal, handlers[i].handler, child);
}

/* Without a connection or a proxy afterwards it has ended already, or does not want us. */
static void connect_bus(HelperChild *child, int fd)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GSocket) socket = g_socket_new_from_fd(fd, &error);
    g_autofree char *guid = g_dbus_generate_guid();
    g_autoptr(GSocketConnection) stream = NULL;

    g_assert_no_error(error);
    stream = g_socket_connection_factory_create_connection(socket);
    child->connection = g_dbus_connection_new_sync(
        G_IO_STREAM(stream), guid, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_SERVER, NULL, NULL,
        NULL);
    if (!child->connection)
        return;
    g_signal_connect(child->connection, "closed", G_CALLBACK(on_bus_closed), child);
    connect_proxy(child);
}

static void leave_bus(HelperChild *child)
{
    if (child->proxy)
        g_signal_handlers_disconnect_by_data(child->proxy, child);
    if (child->connection)
        g_signal_handlers_disconnect_by_data(child->connection, child);
    g_clear_object(&child->proxy);
    g_clear_object(&child->connection);
}

HelperChild *helper_child_new(const char *program, const char *const *options)
{
    const HelperChildKept none = { -1, -1 };

    return helper_child_new_kept(program, options, &none);
}

static void add_descriptor(GSubprocessLauncher *launcher, GPtrArray *argv, const char *option,
                           int fd, int target)
{
    if (fd < 0)
        return;
    g_subprocess_launcher_take_fd(launcher, fd, target);
    g_ptr_array_add(argv, g_strdup_printf("%s=%d", option, target));
}

HelperChild *helper_child_new_kept(const char *program, const char *const *options,
                                   const HelperChildKept *kept)
{
    g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_NONE);
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    HelperChild *child = g_new0(HelperChild, 1);
    int pair[2];

    (void)JOB_ERROR; /* errors come back in this domain once it is known */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        g_error("socketpair: %s", g_strerror(errno));
    g_ptr_array_add(argv, g_strdup(program));
    add_descriptor(launcher, argv, "--dbus-fd", pair[1], 3);
    add_descriptor(launcher, argv, "--listen-fd", kept->listen_fd, 4);
    add_descriptor(launcher, argv, "--outcome-fd", kept->outcome_fd, 5);
    while (options && *options)
        g_ptr_array_add(argv, g_strdup(*options++));
    g_ptr_array_add(argv, NULL);

    child->state = g_strdup("none");
    child->reason = g_strdup("");
    child->phase = g_strdup("none");
    child->history = g_string_new(NULL);
    child->phases = g_string_new(NULL);
    child->lost = g_ptr_array_new_with_free_func(g_free);
    child->resumed = g_ptr_array_new_with_free_func(g_free);
    child->refused = g_ptr_array_new_with_free_func(g_free);
    child->process =
        g_subprocess_launcher_spawnv(launcher, (const char *const *)argv->pdata, &error);
    if (!child->process)
        g_error("%s: %s", program, error->message);
    /* The launcher keeps the helper's end open otherwise, and its end would never be seen. */
    g_clear_object(&launcher);
    g_subprocess_wait_async(child->process, NULL, on_process_end, child);
    connect_bus(child, pair[0]);
    return child;
}

gboolean helper_child_find(HelperChild *child, const char *path)
{
    /* Open until it is replaced: a helper in set-up ends otherwise. */
    GDBusConnection *before = child->connection ? g_object_ref(child->connection) : NULL;

    leave_bus(child);
    child->bus_closed = FALSE;
    connect_bus(child, sockets_unix_connect(path));
    g_clear_object(&before);
    if (!child->proxy)
        return FALSE;
    g_free(child->state);
    g_free(child->phase);
    g_free(child->reason);
    child->state = postcopy_migration_dup_state(child->proxy);
    child->phase = postcopy_migration_dup_phase(child->proxy);
    child->reason = postcopy_migration_dup_last_error(child->proxy);
    return TRUE;
}

/* What it said last, and answers that never come, may still be on their way through GDBus when
 * the process has gone. */
static gboolean is_through(gpointer data)
{
    HelperChild *child = data;

    return child->exited && child->answers == child->calls &&
           (child->bus_closed || !child->connection);
}

void helper_child_free(HelperChild *child)
{
    if (!child)
        return;
    child->func = NULL;
    if (!child->exited)
        g_subprocess_force_exit(child->process);
    wait_until(is_through, child, "the helper's end");
    leave_bus(child);
    g_object_unref(child->process);
    g_free(child->state);
    g_free(child->reason);
    g_free(child->phase);
    g_string_free(child->history, TRUE);
    g_string_free(child->phases, TRUE);
    g_ptr_array_unref(child->lost);
    g_ptr_array_unref(child->resumed);
    g_ptr_array_unref(child->refused);
    g_clear_error(&child->answer);
    g_free(child->answer_name);
    g_free(child);
}

int helper_child_pid(HelperChild *child)
{
    return (int)g_ascii_strtoll(g_subprocess_get_identifier(child->process), NULL, 10);
}

void helper_child_drop_bus(HelperChild *child)
{
    g_dbus_connection_close_sync(child->connection, NULL, NULL);
}

/* ---- calls ---- */

static void on_answer(GObject *source, GAsyncResult *result, gpointer data)
{
    HelperChild *child = data;
    GError *error = NULL;
    GVariant *value =
        g_dbus_proxy_call_with_unix_fd_list_finish(G_DBUS_PROXY(source), NULL, result, &error);

    g_clear_pointer(&value, g_variant_unref);
    g_clear_error(&child->answer);
    g_clear_pointer(&child->answer_name, g_free);
    if (error && g_dbus_error_is_remote_error(error)) {
        child->answer_name = g_dbus_error_get_remote_error(error);
        g_dbus_error_strip_remote_error(error);
    }
    child->answer = error;
    child->answers++;
    tell(child, "answer");
}

static void call(HelperChild *child, const char *method, GVariant *args, GUnixFDList *fds)
{
    child->calls++;
    g_dbus_proxy_call_with_unix_fd_list(G_DBUS_PROXY(child->proxy), method, args,
                                        G_DBUS_CALL_FLAGS_NONE, -1, fds, NULL, on_answer, child);
}

static void call_with_fd(HelperChild *child, const char *method, GVariant *args, int fd)
{
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new_from_array(&fd, 1);

    call(child, method, args, fds);
}

void helper_options_init(GVariantBuilder *builder, guint8 session, guint8 token)
{
    guint8 id[16], secret[32];

    memset(id, session, sizeof id);
    memset(secret, token, sizeof secret);
    g_variant_builder_init(builder, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(builder, "{sv}", "session",
                          g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, id, sizeof id, 1));
    g_variant_builder_add(
        builder, "{sv}", "token",
        g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, secret, sizeof secret, 1));
    g_variant_builder_add(builder, "{sv}", "domain", g_variant_new_string("guest"));
    g_variant_builder_add(builder, "{sv}", "window", g_variant_new_uint64(4 * 1024 * 1024));
}

void helper_child_configure(HelperChild *child, const char *side, GVariant *options,
                            const TlsFiles *files)
{
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE("a(ssh)"));
    for (gint kind = 0; kind < TLS_FILE_MAX; kind++) {
        if (files->fds[kind] >= 0)
            g_variant_builder_add(&builder, "(ssh)", tls_file_kind_name(kind), files->names[kind],
                                  g_unix_fd_list_append(fds, files->fds[kind], NULL));
    }
    call(child, "Configure",
         g_variant_new("(s@a{sv}@a(ssh))", side, options, g_variant_builder_end(&builder)), fds);
}

void helper_child_connect_peer(HelperChild *child, int fd, const char *host)
{
    call_with_fd(child, "ConnectPeer", g_variant_new("(hs)", 0, host), fd);
}

void helper_child_connect_channel(HelperChild *child, int fd, const char *host, const char *kind)
{
    call_with_fd(child, "ConnectChannel", g_variant_new("(hss)", 0, host, kind), fd);
}

void helper_child_reconnect(HelperChild *child, int fd, const char *host, const char *kind)
{
    call_with_fd(child, "ReconnectChannel", g_variant_new("(hss)", 0, host, kind), fd);
}

void helper_child_abandon(HelperChild *child, const char *reason)
{
    call(child, "AbandonPeer", g_variant_new("(s)", reason), NULL);
}

void helper_child_accept_peer(HelperChild *child, int fd, const char *address)
{
    call_with_fd(child, "AcceptPeer", g_variant_new("(hs)", 0, address), fd);
}

void helper_child_listen_qemu(HelperChild *child, int fd)
{
    call_with_fd(child, "ListenQemu", g_variant_new("(h)", 0), fd);
}

void helper_child_attach_qemu(HelperChild *child, int fd)
{
    call_with_fd(child, "AttachQemu", g_variant_new("(h)", 0), fd);
}

/* With one range. */
void helper_child_set_reading(HelperChild *child, int fd, guint64 start, guint64 end)
{
    GVariantBuilder ranges;

    g_variant_builder_init(&ranges, G_VARIANT_TYPE("a(tt)"));
    g_variant_builder_add(&ranges, "(tt)", start, end);
    call_with_fd(child, "SetReading", g_variant_new("(ha(tt))", 0, &ranges), fd);
}

void helper_child_listen_disks(HelperChild *child, int fd)
{
    call_with_fd(child, "ListenDisks", g_variant_new("(h)", 0), fd);
}

void helper_child_connect_disks(HelperChild *child, int fd, const char *host, guint number)
{
    call_with_fd(child, "ConnectDisks", g_variant_new("(hsu)", 0, host, number), fd);
}

void helper_child_attach_disks(HelperChild *child, int fd, guint number)
{
    call_with_fd(child, "AttachDisks", g_variant_new("(hu)", 0, number), fd);
}

void helper_child_refuse_disks(HelperChild *child, guint number, const char *reason)
{
    call(child, "RefuseDisks", g_variant_new("(us)", number, reason), NULL);
}

guint helper_child_unanswered_disks(HelperChild *child)
{
    GVariant *unanswered = postcopy_migration_get_disks_unanswered(child->proxy);
    guint32 number = 0;

    if (unanswered && g_variant_n_children(unanswered) > 0)
        g_variant_get_child(unanswered, 0, "u", &number);
    return number;
}

void helper_child_refuse_qemu(HelperChild *child, const char *reason)
{
    call(child, "RefuseQemu", g_variant_new("(s)", reason), NULL);
}

void helper_child_cancel(HelperChild *child, const char *reason)
{
    call(child, "Cancel", g_variant_new("(s)", reason), NULL);
}

/* ---- waiting ---- */

typedef struct {
    HelperChild *child;
    const char *state;
    guint n;
} Goal;

static gboolean answers_reached(gpointer data)
{
    Goal *goal = data;

    return goal->child->answers >= goal->n;
}

static gboolean state_reached(gpointer data)
{
    Goal *goal = data;

    return g_str_equal(goal->child->state, goal->state);
}

static gboolean phase_reached(gpointer data)
{
    Goal *goal = data;

    return g_str_equal(goal->child->phase, goal->state);
}

static gboolean qemu_is_needed(gpointer data)
{
    return ((HelperChild *)data)->qemu_needed > 0;
}

static gboolean qemu_is_connected(gpointer data)
{
    return ((HelperChild *)data)->qemu_connected > 0;
}

static gboolean lost_reached(gpointer data)
{
    Goal *goal = data;

    return goal->child->lost->len >= goal->n;
}

static gboolean resumed_reached(gpointer data)
{
    Goal *goal = data;

    return goal->child->resumed->len >= goal->n;
}

static gboolean refused_reached(gpointer data)
{
    Goal *goal = data;

    return goal->child->refused->len >= goal->n;
}

const GError *helper_child_wait_answer(HelperChild *child, guint n)
{
    Goal goal = { child, NULL, n };

    wait_until(answers_reached, &goal, "a call's answer");
    return child->answer;
}

void helper_child_wait_state(HelperChild *child, const char *state)
{
    Goal goal = { child, state, 0 };

    wait_until(state_reached, &goal, state);
}

void helper_child_wait_phase(HelperChild *child, const char *phase)
{
    Goal goal = { child, phase, 0 };

    wait_until(phase_reached, &goal, phase);
}

void helper_child_wait_qemu_needed(HelperChild *child)
{
    wait_until(qemu_is_needed, child, "QemuNeeded");
}

void helper_child_wait_qemu_connected(HelperChild *child)
{
    wait_until(qemu_is_connected, child, "QemuConnected");
}

void helper_child_wait_lost(HelperChild *child, guint n)
{
    Goal goal = { child, NULL, n };

    wait_until(lost_reached, &goal, "ChannelLost");
}

void helper_child_wait_resumed(HelperChild *child, guint n)
{
    Goal goal = { child, NULL, n };

    wait_until(resumed_reached, &goal, "ChannelResumed");
}

void helper_child_wait_refused(HelperChild *child, guint n)
{
    Goal goal = { child, NULL, n };

    wait_until(refused_reached, &goal, "ChannelRefused");
}

int helper_child_wait_exit(HelperChild *child)
{
    wait_until(is_through, child, "the helper's end");
    return child->status;
}

gboolean helper_child_wants_channel(HelperChild *child, const char *kind)
{
    const char *const *wanted = postcopy_migration_get_channels_wanted(child->proxy);

    return wanted && g_strv_contains(wanted, kind);
}

guint helper_child_channels(HelperChild *child)
{
    GVariant *channels = postcopy_migration_get_channels(child->proxy);

    return channels ? (guint)g_variant_n_children(channels) : 0;
}

gboolean helper_child_has_lost(HelperChild *child, const char *kind)
{
    const char *const *lost = postcopy_migration_get_channels_lost(child->proxy);

    return lost && g_strv_contains(lost, kind);
}

guint64 helper_child_counter(HelperChild *child, const char *name)
{
    GVariant *statistics = postcopy_migration_get_statistics(child->proxy);
    guint64 value = 0;

    if (statistics)
        g_variant_lookup(statistics, name, "t", &value);
    return value;
}
