/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/job.h"

#include <gio/gunixfdlist.h>
#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

#include "ram/job_error.h"
#include "ram/job_options.h"
#include "ram/job_priv.h"
#include "ram/job_properties.h"
#include "ram/placed_look.h"
#include "util/autofd.h"

/* ---- what the daemon says ---- */

static gboolean refuse(GDBusMethodInvocation *call, JobError code, const char *message)
{
    g_dbus_method_invocation_return_error_literal(call, JOB_ERROR, code, message);
    return TRUE;
}

/* The one descriptor a call brings, the caller's now. Out of the list, not a copy: the message may
 * live longer than the socket should. */
static int steal_descriptor(GUnixFDList *list, gint32 index)
{
    gint n = 0;
    g_autofree int *fds = list ? g_unix_fd_list_steal_fds(list, &n) : NULL;
    int stolen = -1;

    for (gint i = 0; i < n; i++) {
        if (i == index)
            stolen = fds[i];
        else
            close(fds[i]);
    }
    return stolen;
}

static int take_socket_of_type(GDBusMethodInvocation *call, GUnixFDList *list, GVariant *handle,
                               int wanted)
{
    autofd fd = steal_descriptor(list, g_variant_get_handle(handle));
    socklen_t len = sizeof(int);
    int type = 0;

    if (fd < 0) {
        refuse(call, JOB_ERROR_INVALID_ARGUMENT, _("the socket's descriptor is missing"));
        return -1;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != wanted) {
        refuse(call, JOB_ERROR_INVALID_ARGUMENT,
               wanted == SOCK_STREAM ? _("the descriptor is no stream socket")
                                     : _("the descriptor is no socket of packets"));
        return -1;
    }
    return autofd_steal(&fd);
}

static int take_socket(GDBusMethodInvocation *call, GUnixFDList *list, GVariant *handle)
{
    return take_socket_of_type(call, list, handle, SOCK_STREAM);
}

static gboolean check_ready(Job *job, GDBusMethodInvocation *call)
{
    if (job->relay && !job->ended)
        return TRUE;
    refuse(call, JOB_ERROR_WRONG_STATE,
           job->ended ? _("the migration is over") : _("Configure must come first"));
    return FALSE;
}

static gboolean check_side(Job *job, GDBusMethodInvocation *call, SessionSide side)
{
    g_autofree char *text = NULL;

    if (!check_ready(job, call))
        return FALSE;
    if (job->side == side)
        return TRUE;
    text = g_strdup_printf(_("%s is for the %s only"),
                           g_dbus_method_invocation_get_method_name(call),
                           session_side_name(side));
    refuse(call, JOB_ERROR_WRONG_STATE, text);
    return FALSE;
}

static gboolean pass_on(Job *job, GDBusMethodInvocation *call, RelayCommandType type, int fd,
                        const char *text)
{
    g_ptr_array_add(job->calls, call);
    relay_command(job->relay, type, fd, text, call);
    return TRUE;
}

static gboolean pass_socket_on(Job *job, GDBusMethodInvocation *call, SessionSide side,
                               RelayCommandType type, GUnixFDList *list, GVariant *handle,
                               const char *text)
{
    int fd;

    if (!check_side(job, call, side))
        return TRUE;
    fd = take_socket(call, list, handle);
    return fd < 0 || pass_on(job, call, type, fd, text);
}

static gboolean on_connect_peer(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                                GUnixFDList *list, GVariant *socket, const char *host, Job *job)
{
    return pass_socket_on(job, call, SESSION_SOURCE, RELAY_CONNECT_PEER, list, socket, host);
}

/* A socket for the channel of that name. */
static gboolean pass_channel_on(Job *job, GDBusMethodInvocation *call, RelayCommandType type,
                                GUnixFDList *list, GVariant *handle, const char *host,
                                const char *name)
{
    g_autofree char *text = NULL;
    ChannelKind kind;
    guint16 number;
    int fd;

    if (!channel_from_name(name, &kind, &number) || kind == CHANNEL_DISKS ||
        (kind == CHANNEL_MAIN && type == RELAY_CONNECT_CHANNEL)) {
        text = g_strdup_printf(_("there is no channel \"%s\" to be connected so"), name);
        return refuse(call, JOB_ERROR_INVALID_ARGUMENT, text);
    }
    if (!check_side(job, call, SESSION_SOURCE))
        return TRUE;
    fd = take_socket(call, list, handle);
    if (fd < 0)
        return TRUE;
    g_ptr_array_add(job->calls, call);
    relay_channel_command(job->relay, type, kind, number, fd, host, call);
    return TRUE;
}

static gboolean on_connect_channel(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                                   GUnixFDList *list, GVariant *socket, const char *host,
                                   const char *name, Job *job)
{
    return pass_channel_on(job, call, RELAY_CONNECT_CHANNEL, list, socket, host, name);
}

static gboolean on_reconnect_channel(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                                     GUnixFDList *list, GVariant *socket, const char *host,
                                     const char *name, Job *job)
{
    return pass_channel_on(job, call, RELAY_RECONNECT_CHANNEL, list, socket, host, name);
}

static gboolean on_abandon_peer(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                                const char *reason, Job *job)
{
    return !check_ready(job, call) || pass_on(job, call, RELAY_ABANDON_PEER, -1, reason);
}

static gboolean on_accept_peer(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                               GUnixFDList *list, GVariant *socket, const char *address, Job *job)
{
    return pass_socket_on(job, call, SESSION_DESTINATION, RELAY_ACCEPT_PEER, list, socket,
                          address);
}

static gboolean on_listen_qemu(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                               GUnixFDList *list, GVariant *socket, Job *job)
{
    return pass_socket_on(job, call, SESSION_SOURCE, RELAY_LISTEN_QEMU, list, socket, NULL);
}

static gboolean on_attach_qemu(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                               GUnixFDList *list, GVariant *socket, Job *job)
{
    int fd;

    if (!check_side(job, call, SESSION_DESTINATION))
        return TRUE;
    fd = take_socket(call, list, socket);
    if (fd < 0)
        return TRUE;
    job_properties_qemu_answered(job->skeleton);
    return pass_on(job, call, RELAY_ATTACH_QEMU, fd, NULL);
}

static gboolean on_refuse_qemu(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                               const char *reason, Job *job)
{
    if (!check_side(job, call, SESSION_DESTINATION))
        return TRUE;
    job_properties_qemu_answered(job->skeleton);
    return pass_on(job, call, RELAY_REFUSE_QEMU, -1, reason);
}

static gboolean on_attach_memory(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                                 GUnixFDList *list, GVariant *socket, Job *job)
{
    int fd;

    if (!check_ready(job, call))
        return TRUE;
    fd = take_socket_of_type(call, list, socket, SOCK_SEQPACKET);
    return fd < 0 || pass_on(job, call, RELAY_ATTACH_MEMORY, fd, NULL);
}

/* ---- the source QEMU's memory ---- */

static GArray *parse_ranges(GVariant *array)
{
    GArray *ranges = g_array_new(FALSE, FALSE, sizeof(MemoryRange));
    GVariantIter iter;
    MemoryRange range;

    g_variant_iter_init(&iter, array);
    while (g_variant_iter_next(&iter, "(tt)", &range.start, &range.end))
        g_array_append_val(ranges, range);
    return ranges;
}

static gboolean on_set_reading(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                               GUnixFDList *list, GVariant *memory, GVariant *array, Job *job)
{
    g_autoptr(GArray) ranges = NULL;
    autofd fd = -1;

    if (!check_side(job, call, SESSION_SOURCE))
        return TRUE;
    fd = steal_descriptor(list, g_variant_get_handle(memory));
    if (fd < 0)
        return refuse(call, JOB_ERROR_INVALID_ARGUMENT, _("the memory's descriptor is missing"));
    ranges = parse_ranges(array);
    g_ptr_array_add(job->calls, call);
    relay_set_reading(job->relay, autofd_steal(&fd), (const MemoryRange *)ranges->data, ranges->len,
                      call);
    return TRUE;
}

/* ---- the destination QEMU's memory ---- */

/* As the relay's machine will find it. What is wrong with the record that says. */
static void look_for_placed(const Job *job, int record_fd, int pagemap)
{
    g_autoptr(PlacedRecord) record = placed_record_open(record_fd, NULL);
    guint64 found = record ? placed_look(record, pagemap) : 0;

    if (found > 0)
        log_info(&job->log, "%" PRIu64 " pages are in place in QEMU's memory that nobody has noted",
                 found);
}

static gboolean on_set_placed(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                              GUnixFDList *list, GVariant *record, GVariant *pagemap, Job *job)
{
    autofd pagemap_fd = -1;
    gint n = 0;
    g_autofree int *fds = NULL;

    if (!check_side(job, call, SESSION_DESTINATION))
        return TRUE;
    if (!list || g_unix_fd_list_get_length(list) != 2 || g_variant_get_handle(record) != 0 ||
        g_variant_get_handle(pagemap) != 1)
        return refuse(call, JOB_ERROR_INVALID_ARGUMENT, _("two descriptors are needed"));
    fds = g_unix_fd_list_steal_fds(list, &n);
    pagemap_fd = fds[1];
    look_for_placed(job, fds[0], pagemap_fd);
    return pass_on(job, call, RELAY_SET_RECORD, fds[0], NULL);
}

static gboolean parse_placing(GVariant *array, GArray *ranges)
{
    GVariantIter iter;
    PlacingRange range;
    const char *backing;

    g_variant_iter_init(&iter, array);
    while (g_variant_iter_next(&iter, "(ttt&s)", &range.address, &range.length, &range.page_size,
                               &backing)) {
        for (range.backing = 0; range.backing < UFFD_BACKING_MAX; range.backing++) {
            if (g_str_equal(backing, uffd_backing_name(range.backing)))
                break;
        }
        if (range.backing == UFFD_BACKING_MAX)
            return FALSE;
        g_array_append_val(ranges, range);
    }
    return TRUE;
}

static gboolean on_set_placing(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                               GUnixFDList *list, GVariant *uffd, GVariant *record,
                               GVariant *array, Job *job)
{
    g_autoptr(GArray) ranges = g_array_new(FALSE, TRUE, sizeof(PlacingRange));
    gint n = 0;
    g_autofree int *fds = NULL;

    if (!check_side(job, call, SESSION_DESTINATION))
        return TRUE;
    if (!list || g_unix_fd_list_get_length(list) != 2 || g_variant_get_handle(uffd) != 0 ||
        g_variant_get_handle(record) != 1)
        return refuse(call, JOB_ERROR_INVALID_ARGUMENT, _("two descriptors are needed"));
    if (!parse_placing(array, ranges))
        return refuse(call, JOB_ERROR_INVALID_ARGUMENT, _("a range is of no known memory"));
    fds = g_unix_fd_list_steal_fds(list, &n);
    g_ptr_array_add(job->calls, call);
    relay_set_placing(job->relay, fds[0], fds[1], (const PlacingRange *)ranges->data, ranges->len,
                      call);
    return TRUE;
}

static gboolean on_refuse_placing(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                                  const char *reason, Job *job)
{
    return !check_side(job, call, SESSION_DESTINATION) ||
           pass_on(job, call, RELAY_REFUSE_PLACING, -1, reason);
}

/* ---- disks ---- */

static gboolean pass_disks_on(Job *job, GDBusMethodInvocation *call, RelayCommandType type, int fd,
                              const char *text, guint number)
{
    autofd owned = fd;

    if (number == 0 || number > G_MAXUINT16)
        return refuse(call, JOB_ERROR_INVALID_ARGUMENT, _("there is no such number"));
    job_properties_disks_answered(job->skeleton, (guint16)number);
    g_ptr_array_add(job->calls, call);
    relay_disks_command(job->relay, type, (guint16)number, autofd_steal(&owned), text, call);
    return TRUE;
}

static gboolean pass_disks_socket_on(Job *job, GDBusMethodInvocation *call, SessionSide side,
                                     RelayCommandType type, GUnixFDList *list, GVariant *handle,
                                     const char *text, guint number)
{
    int fd;

    if (!check_side(job, call, side))
        return TRUE;
    fd = take_socket(call, list, handle);
    return fd < 0 || pass_disks_on(job, call, type, fd, text, number);
}

static gboolean on_listen_disks(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                                GUnixFDList *list, GVariant *socket, Job *job)
{
    return pass_socket_on(job, call, SESSION_SOURCE, RELAY_LISTEN_DISKS, list, socket, NULL);
}

static gboolean on_connect_disks(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                                 GUnixFDList *list, GVariant *socket, const char *host,
                                 guint number, Job *job)
{
    return pass_disks_socket_on(job, call, SESSION_SOURCE, RELAY_CONNECT_DISKS, list, socket, host,
                                number);
}

static gboolean on_attach_disks(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                                GUnixFDList *list, GVariant *socket, guint number, Job *job)
{
    return pass_disks_socket_on(job, call, SESSION_DESTINATION, RELAY_ATTACH_DISKS, list, socket,
                                NULL, number);
}

static gboolean on_refuse_disks(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                                guint number, const char *reason, Job *job)
{
    return !check_ready(job, call) ||
           pass_disks_on(job, call, RELAY_REFUSE_DISKS, -1, reason, number);
}

static gboolean on_cancel(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                          const char *reason, Job *job)
{
    /* One that could not be configured has nothing to end but itself. */
    if (!job->relay) {
        postcopy_migration_complete_cancel(skeleton, call);
        job->func(JOB_CANCELLED, job->data);
        return TRUE;
    }
    if (!check_ready(job, call))
        return TRUE;
    return pass_on(job, call, RELAY_CANCEL, -1, reason);
}

/* ---- Configure ---- */

static TlsCredentials *load_credentials(const JobOptions *options, const TlsFiles *files,
                                        GError **error)
{
    TlsEndpoint endpoint =
        options->session.side == SESSION_SOURCE ? TLS_ENDPOINT_CLIENT : TLS_ENDPOINT_SERVER;
    GError *cause = NULL;
    TlsCredentials *creds;

    creds = options->psk
                ? tls_credentials_new_psk(endpoint, files, options->psk_identity, &cause)
                : tls_credentials_new_x509(endpoint, files, &cause);
    if (!creds) {
        g_set_error_literal(error, JOB_ERROR, JOB_ERROR_TLS, cause->message);
        g_error_free(cause);
    }
    return creds;
}

static void start_log(Job *job, const JobOptions *options)
{
    const guint8 *id = options->session.id;

    g_snprintf(job->migration, sizeof job->migration, "%02x%02x%02x%02x", id[0], id[1], id[2],
               id[3]);
    job->log = (LogContext){
        .migration = job->migration,
        .side = session_side_name(options->session.side),
        .phase = "stream",
        .channel = "main",
    };
    log_info(&job->log, "domain %s", options->domain ? options->domain : "-");
}

static gboolean configure(Job *job, const char *side, GVariant *dict, GVariant *array,
                          GUnixFDList *list, GError **error)
{
    g_auto(JobOptions) options = { 0 };
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    g_autoptr(TlsCredentials) creds = NULL;
    gint n_fds = 0;
    const int *fds = list ? g_unix_fd_list_peek_fds(list, &n_fds) : NULL;
    RelayConfig config = { .timeouts = RELAY_TIMEOUTS_DEFAULT };

    if (!job_options_parse(side, dict, &options, error) ||
        !job_files_parse(array, fds, n_fds, &files, error))
        return FALSE;
    creds = load_credentials(&options, &files, error);
    if (!creds)
        return FALSE;

    config.session = options.session;
    config.timeouts.heartbeat_ms = options.heartbeat_interval * 1000;
    config.timeouts.heartbeats = options.heartbeat_count;
    config.timeouts.reconnect_ms = options.reconnect_timeout * 1000;
    config.rekey_records = options.rekey_records;
    config.recovers = options.recovers;
    config.memory = options.memory;
    config.creds = creds;
    config.check_host = !options.psk;
    config.allowed_dns = (const char *const *)options.allowed_dns;
    config.stage = options.stage;
    config.paced = options.paced;
    config.compression = options.compression;
    config.levels = options.levels;
    config.compression_threads = options.compression_threads;
    config.bulk = options.bulk;
    start_log(job, &options);
    job->side = options.session.side;
    job->relay = relay_new(&config, job_on_report, job, error);
    explicit_bzero(&config.session, sizeof config.session);
    return job->relay != NULL;
}

static gboolean on_configure(PostcopyMigration *skeleton, GDBusMethodInvocation *call,
                             GUnixFDList *list, const char *side, GVariant *options,
                             GVariant *files, Job *job)
{
    GError *error = NULL;

    if (job->relay)
        return refuse(call, JOB_ERROR_WRONG_STATE, _("Configure was called already"));
    if (configure(job, side, options, files, list, &error)) {
        relay_dispatch(job->relay); /* the answer comes after "setup" */
        postcopy_migration_complete_configure(skeleton, call, NULL);
    } else {
        log_warning(&job->log, "cannot be configured: %s", error->message);
        g_dbus_method_invocation_take_error(call, error);
    }
    return TRUE;
}

/* ---- life ---- */

static void connect_handlers(Job *job)
{
    const struct {
        const char *signal;
        GCallback handler;
    } handlers[] = {
        { "handle-configure", G_CALLBACK(on_configure) },
        { "handle-connect-peer", G_CALLBACK(on_connect_peer) },
        { "handle-connect-channel", G_CALLBACK(on_connect_channel) },
        { "handle-accept-peer", G_CALLBACK(on_accept_peer) },
        { "handle-reconnect-channel", G_CALLBACK(on_reconnect_channel) },
        { "handle-abandon-peer", G_CALLBACK(on_abandon_peer) },
        { "handle-listen-qemu", G_CALLBACK(on_listen_qemu) },
        { "handle-attach-qemu", G_CALLBACK(on_attach_qemu) },
        { "handle-refuse-qemu", G_CALLBACK(on_refuse_qemu) },
        { "handle-attach-memory", G_CALLBACK(on_attach_memory) },
        { "handle-set-reading", G_CALLBACK(on_set_reading) },
        { "handle-set-placed", G_CALLBACK(on_set_placed) },
        { "handle-set-placing", G_CALLBACK(on_set_placing) },
        { "handle-refuse-placing", G_CALLBACK(on_refuse_placing) },
        { "handle-listen-disks", G_CALLBACK(on_listen_disks) },
        { "handle-connect-disks", G_CALLBACK(on_connect_disks) },
        { "handle-attach-disks", G_CALLBACK(on_attach_disks) },
        { "handle-refuse-disks", G_CALLBACK(on_refuse_disks) },
        { "handle-cancel", G_CALLBACK(on_cancel) },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(handlers); i++)
        g_signal_connect(job->skeleton, handlers[i].signal, handlers[i].handler, job);
}

Job *job_new(int outcome_fd, JobEndFunc func, gpointer data)
{
    Job *job = g_new0(Job, 1);

    job->outcome_fd = outcome_fd;
    job->func = func;
    job->data = data;
    job->state = SESSION_NONE;
    job->calls = g_ptr_array_new();
    job->skeleton = postcopy_migration_skeleton_new();
    job_properties_init(job->skeleton);
    connect_handlers(job);
    return job;
}

gboolean job_set_connection(Job *job, GDBusConnection *connection, GError **error)
{
    GDBusInterfaceSkeleton *skeleton = G_DBUS_INTERFACE_SKELETON(job->skeleton);

    if (connection &&
        !g_dbus_interface_skeleton_export(skeleton, connection, JOB_OBJECT_PATH, error))
        return FALSE;
    if (job->connection)
        g_dbus_interface_skeleton_unexport_from_connection(skeleton, job->connection);
    g_set_object(&job->connection, connection);
    return TRUE;
}

void job_free(Job *job)
{
    if (!job)
        return;
    if (job->stats_timer)
        g_source_remove(job->stats_timer);
    relay_free(job->relay);
    job_set_connection(job, NULL, NULL);
    g_signal_handlers_disconnect_by_data(job->skeleton, job);
    g_object_unref(job->skeleton);
    g_ptr_array_unref(job->calls);
    g_free(job);
}

void job_give_up(Job *job, const char *reason)
{
    if (session_state_is_active(job->state))
        log_warning(&job->log, "%s; the migration is active and goes on", reason);
    if (!job->relay)
        job->func(JOB_CANCELLED, job->data);
    else
        relay_command(job->relay, RELAY_GIVE_UP, -1, reason, NULL);
}
