/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/p2p.h"

#include <errno.h>
#include <glib-unix.h>
#include <glib/gi18n.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <sys/socket.h>

#include "driver/connect_dial.h"
#include "driver/job_record.h"
#include "driver/recovery.h"
#include "driver/recovery_dial.h"
#include "driver/recovery_uri.h"
#include "driver/rpc_xdr.h"
#include "driver/run_dir.h"
#include "driver/session_dial.h"
#include "util/autofd.h"
#include "util/log.h"

/* Shared by its owner, its inner proxy and calls under way. */
struct P2p {
    gatomicrefcount refs;
    Driver *driver;
    Proxy *outer;
    Proxy *inner; /* NULL until libvirtd has connected */
    RpcStream *peer; /* the destination, until the inner proxy has it */
    char *domain;
    char *tls_name;
    SpeedLimit limit;
    MigrateWishes wishes;
    GBytes *recovery; /* the call that resumes this migration, if it fails in post-copy */
    char *disks_path; /* where the source QEMU connects for its disks; or NULL */
    QemuOwner disks_owner;
    gboolean users_disks; /* disks go a way that the user has named */
    char *migrate_uri;    /* the user's, for the destination alone; or NULL */
    gboolean offline;     /* no memory is to go, so Prepare may answer without a URI */
    gboolean recovers;
    gboolean users_resume;
    guint8 session[MIGRATION_SESSION_LEN]; /* of the broken one, in a recovery */
    char *path;
    char *uri;
    int listener;
    guint watch;
    Migration *migration;
    char *error;
};

static P2p *p2p_ref(P2p *p2p)
{
    g_atomic_ref_count_inc(&p2p->refs);
    return p2p;
}

static void stop_listening(P2p *p2p)
{
    if (p2p->watch)
        g_source_remove(p2p->watch);
    p2p->watch = 0;
    autofd_clear(&p2p->listener);
    if (p2p->path)
        run_dir_remove(migration_set_run_dir(p2p->driver->set), p2p->path);
    g_clear_pointer(&p2p->path, g_free);
}

static void p2p_unref(P2p *p2p)
{
    if (!g_atomic_ref_count_dec(&p2p->refs))
        return;
    stop_listening(p2p);
    if (p2p->peer)
        rpc_stream_close(p2p->peer, FALSE);
    g_clear_pointer(&p2p->peer, rpc_stream_unref);
    g_clear_pointer(&p2p->inner, proxy_unref);
    proxy_unref(p2p->outer);
    migration_unref(p2p->migration);
    g_clear_pointer(&p2p->recovery, g_bytes_unref);
    g_free(p2p->domain);
    g_free(p2p->tls_name);
    g_free(p2p->uri);
    g_free(p2p->disks_path);
    g_free(p2p->migrate_uri);
    g_free(p2p->error);
    g_free(p2p);
}

void p2p_free(P2p *p2p)
{
    if (!p2p)
        return;
    stop_listening(p2p);
    p2p_unref(p2p);
}

const char *p2p_uri(const P2p *p2p)
{
    return p2p->uri;
}

/* A URI of the user's means the destination's side of the session. libvirtd, if ever it came to use
 * it, would stream there in clear: it falls back on it when Prepare answers none. */
void p2p_strip(MigrateCall *perform)
{
    migrate_call_set_text(perform, MIGRATE_TEXT_URI, NULL);
}

char *p2p_disks_uri(const P2p *p2p)
{
    return p2p->disks_path ? g_strdup_printf("unix://%s", p2p->disks_path) : NULL;
}

Migration *p2p_migration(const P2p *p2p)
{
    return p2p->migration;
}

const char *p2p_error(const P2p *p2p)
{
    return p2p->error;
}

gboolean p2p_is_recovery(const P2p *p2p)
{
    return p2p->recovers;
}

gboolean p2p_is_waiting(const P2p *p2p)
{
    return !p2p->inner;
}

/* ---- Prepare on the inner connection ---- */

typedef struct {
    P2p *p2p;
    RpcHeader header;
    RpcFrame *reply;
} InnerPrepare;

static void inner_prepare_free(InnerPrepare *job)
{
    rpc_frame_free(job->reply);
    p2p_unref(job->p2p);
    g_free(job);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(InnerPrepare, inner_prepare_free)

/* Gives libvirtd the destination's answer with uri (NULL: none) in place of the URI in it. */
static void inner_answer(InnerPrepare *job, const char *uri)
{
    RPC_XDR_AUTO(remote_prepare3_ret, ret) = { 0 };
    g_autoptr(GError) error = NULL;
    remote_prepare3_ret ours;
    remote_text text = (char *)uri;
    RpcFrame *frame = NULL;
    gsize len;
    const guint8 *payload = rpc_frame_payload(job->reply, &len);

    if (rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_prepare3_ret, &ret, sizeof ret,
                       "Prepare's answer", &error)) {
        ours = ret;
        ours.uri_out = uri ? &text : NULL;
        frame = rpc_xdr_reply(&job->header, (xdrproc_t)xdr_remote_prepare3_ret, &ours,
                                    &error);
    }
    if (frame)
        proxy_reply(job->p2p->inner, frame);
    else
        proxy_reply_error(job->p2p->inner, &job->header, VIR_ERR_RPC, VIR_FROM_RPC, error->message);
}

/* libvirtd's migration fails at a dead URI and it cleans up; the reason is told on its Perform. */
static void inner_fail(InnerPrepare *job, const char *reason)
{
    g_autofree char *dead = run_dir_dead_uri(migration_set_run_dir(job->p2p->driver->set));

    if (!job->p2p->error)
        job->p2p->error = g_strdup(reason);
    /* Before it came to that URI it would copy the disks, for nothing. Without any it gives up: the
     * user's own was kept from it (p2p_strip()). */
    inner_answer(job, job->p2p->users_disks ? NULL : dead);
}

static void on_connected(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(InnerPrepare) job = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *uri = NULL;

    if (!migration_finish(job->p2p->migration, result, &error)) {
        inner_fail(job, error->message);
        return;
    }
    uri = migration_uri(job->p2p->migration);
    if (proxy_is_closed(job->p2p->inner))
        migration_cancel(job->p2p->migration, _("libvirt left during Prepare"));
    else
        inner_answer(job, uri);
}

/* FALSE if the answer is not one that this driver has to do something about. Without an address of
 * the session's nothing may be streamed. */
static gboolean take_uri(InnerPrepare *job, MigrationUri *ret_uri, gboolean *ret_ok, GError **error)
{
    RPC_XDR_AUTO(remote_prepare3_ret, ret) = { 0 };
    gsize len;
    const guint8 *payload = rpc_frame_payload(job->reply, &len);

    *ret_ok = FALSE;
    if (job->reply->header.status != RPC_STATUS_OK)
        return FALSE;
    if (!rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_prepare3_ret, &ret, sizeof ret,
                        "Prepare's answer", error))
        return TRUE;
    if (ret.uri_out)
        *ret_ok = migration_uri_parse(*ret.uri_out, ret_uri, error);
    else if (job->p2p->offline)
        return FALSE;
    else
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                            _("the destination has prepared the domain without naming its "
                              "session, so the guest's memory would cross the network in clear"));
    return TRUE;
}

static void on_inner_prepared(Proxy *inner, RpcFrame *reply, gpointer data)
{
    g_autoptr(InnerPrepare) job = data;
    g_auto(MigrationUri) uri = { 0 };
    g_autoptr(GError) error = NULL;
    P2p *p2p = job->p2p;
    gboolean ok;

    if (!reply)
        return;
    job->reply = reply;
    if (!take_uri(job, &uri, &ok, &error)) {
        proxy_reply(inner, g_steal_pointer(&job->reply));
        return;
    }
    if (!ok) {
        inner_fail(job, error->message);
        return;
    }
    migration_unref(p2p->migration);
    p2p->migration = migration_new_source(p2p->driver->set, p2p->domain, &uri, &p2p->limit);
    if (p2p->recovers)
        migration_set_own_attempt(p2p->migration);
    migration_set_wishes(p2p->migration, &p2p->wishes);
    migration_set_perform(p2p->migration, MIGRATE_CALL_RECOVERY, p2p->recovery);
    if (p2p->disks_path)
        migration_relay_disks(p2p->migration, p2p->disks_path, &p2p->disks_owner);
    driver_client_add(inner, p2p->migration);
    migration_connect(p2p->migration, p2p->tls_name, on_connected, job);
    g_steal_pointer(&job);
}

/* The path that libvirtd was told for the disks is one of this host's: the destination is to make
 * one of its own. The user's migration URI, which libvirtd was not told, is for the destination.
 * Takes frame; NULL: it was answered. */
static RpcFrame *for_destination(const P2p *p2p, Proxy *inner, RpcFrame *frame)
{
    g_autoptr(RpcFrame) owned = frame;
    g_autoptr(GError) error = NULL;
    g_autoptr(MigrateCall) call = migrate_call_decode(owned, &error);
    RpcFrame *ours = NULL;

    if (call) {
        if (p2p->disks_path)
            migrate_call_set_text(call, MIGRATE_TEXT_DISKS_URI, NULL);
        if (p2p->migrate_uri)
            migrate_call_set_text(call, MIGRATE_TEXT_URI, p2p->migrate_uri);
        ours = migrate_call_encode(call, owned, &error);
    }
    if (!ours)
        proxy_reply_error(inner, &owned->header, VIR_ERR_RPC, VIR_FROM_RPC, error->message);
    return ours;
}

static gboolean inner_call(Proxy *inner, RpcFrame *frame, gpointer data)
{
    const P2p *p2p = data;
    InnerPrepare *job;

    if (frame->header.program != RPC_PROGRAM_REMOTE ||
        !migrate_call_is_phase(frame->header.procedure, MIGRATE_PHASE_PREPARE))
        return FALSE;
    if (p2p->disks_path || p2p->migrate_uri)
        frame = for_destination(p2p, inner, frame);
    if (!frame)
        return TRUE;
    job = g_new0(InnerPrepare, 1);
    job->p2p = p2p_ref(data);
    job->header = frame->header;
    proxy_forward_watched(inner, frame, on_inner_prepared, job);
    return TRUE;
}

static void inner_closed(Proxy *inner, gpointer data)
{
    p2p_unref(data);
}

static const ProxyHooks inner_hooks = { .call = inner_call, .closed = inner_closed };

/* ---- the local socket ---- */

/* Only the libvirtd behind the outer connection may come in. Its socket may have been opened by
 * systemd, so that the pid known of it is init's. */
static gboolean is_our_libvirtd(const P2p *p2p, int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    pid_t pid;
    uid_t uid;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ||
        !proxy_upstream_creds(p2p->outer, &pid, &uid))
        return FALSE;
    return peer.uid == uid && (peer.pid == pid || pid <= 1);
}

static gboolean on_libvirtd(gint listener, GIOCondition condition, gpointer data)
{
    P2p *p2p = data;
    autofd fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    ProxyPeer peer = { .kind = PROXY_CLIENT_INNER };

    if (fd < 0) {
        log_warning(NULL, "peer-to-peer: accept: %m");
        return G_SOURCE_CONTINUE;
    }
    if (!is_our_libvirtd(p2p, fd)) {
        log_warning(NULL, "peer-to-peer: refused a process that is not the libvirt daemon");
        return G_SOURCE_CONTINUE;
    }
    if (p2p->recovers && !recovery_set_hand_over(p2p->driver->recoveries, p2p->domain)) {
        log_info(NULL, "peer-to-peer: the recovery of domain %s was left to a user", p2p->domain);
        return G_SOURCE_CONTINUE;
    }
    p2p->watch = 0;
    p2p->inner = proxy_ref(proxy_new(rpc_stream_new_socket(autofd_steal(&fd), TRUE),
                                     g_steal_pointer(&p2p->peer), &peer, &inner_hooks,
                                     p2p_ref(p2p)));
    stop_listening(p2p);
    /* It would not call if it had not agreed to resume. */
    if (p2p->users_resume)
        recovery_set_leave(p2p->driver->recoveries, p2p->domain);
    return G_SOURCE_REMOVE;
}

static gboolean listen_locally(P2p *p2p, GError **error)
{
    p2p->path = run_dir_socket_path(migration_set_run_dir(p2p->driver->set), "p2p-");
    p2p->listener = run_dir_listen(p2p->path, error);
    if (p2p->listener < 0) {
        g_clear_pointer(&p2p->path, g_free);
        return FALSE;
    }
    p2p->uri = g_strdup_printf("postcopy+unix:///system?socket=%s", p2p->path);
    p2p->watch = g_unix_fd_add(p2p->listener, G_IO_IN, on_libvirtd, p2p);
    return TRUE;
}

/* ---- the way to the destination ---- */

/* Takes peer and error. */
static void on_peer(GTask *owned, RpcStream *peer, GError *error)
{
    g_autoptr(GTask) task = owned;
    P2p *p2p = g_task_get_task_data(task);

    p2p->peer = peer;
    if (!p2p->peer || !listen_locally(p2p, &error)) {
        g_task_return_error(task, error);
        return;
    }
    g_task_return_pointer(task, p2p_ref(p2p), (GDestroyNotify)p2p_free);
}

static void on_dialled(GObject *source, GAsyncResult *result, gpointer data)
{
    GError *error = NULL;
    RpcStream *peer = connect_dial_finish(result, &error);

    on_peer(data, peer, error);
}

static void on_recovery_dialled(GObject *source, GAsyncResult *result, gpointer data)
{
    P2p *p2p = g_task_get_task_data(data);
    GError *error = NULL;
    RpcStream *peer = recovery_dial_finish(result, &error);

    if (g_error_matches(error, SESSION_DIAL_ERROR, SESSION_DIAL_ERROR_UNKNOWN))
        recovery_set_session_unknown(p2p->driver->recoveries, p2p->session);
    on_peer(data, peer, error);
}

/* To the destination of a migration that has broken, with what its record says. */
static gboolean dial_recovery(GTask *task, const char *dconnuri, GError **error)
{
    P2p *p2p = g_task_get_task_data(task);
    gboolean parsed = recovery_uri_parse(dconnuri, p2p->session);
    const JobRecord *record = NULL;

    if (parsed)
        record = migration_set_find_record(p2p->driver->set, MIGRATION_SIDE_SOURCE, p2p->session);
    if (parsed && !record)
        recovery_set_session_gone(p2p->driver->recoveries, p2p->session);
    if (!record || !record->broken || !g_str_equal(record->domain, p2p->domain)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    _("%s means no broken migration of domain %s that virtpostcopyd knows of"),
                    dconnuri, p2p->domain);
        return FALSE;
    }
    g_free(p2p->tls_name);
    p2p->tls_name = g_strdup(record->tls_name);
    recovery_dial(p2p->driver->settings, &record->uri, record->tls_name, on_recovery_dialled,
                  g_object_ref(task));
    return TRUE;
}

static gboolean dial(GTask *task, const char *dconnuri, GError **error)
{
    P2p *p2p = g_task_get_task_data(task);
    g_auto(ConnectUri) uri = { 0 };

    if (recovery_uri_is(dconnuri))
        return dial_recovery(task, dconnuri, error);
    if (!connect_uri_parse(dconnuri, &uri, error))
        return FALSE;
    connect_dial(p2p->driver->settings, &uri, on_dialled, g_object_ref(task));
    return TRUE;
}

void p2p_open(Driver *driver, Proxy *outer, const MigrateCall *perform, const SpeedLimit *limit,
              const QemuOwner *disks_owner, GAsyncReadyCallback callback, gpointer data)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, callback, data);
    const char *dconnuri = migrate_call_text(perform, MIGRATE_TEXT_DCONNURI);
    P2p *p2p = g_new0(P2p, 1);
    GError *error = NULL;

    g_atomic_ref_count_init(&p2p->refs);
    p2p->driver = driver;
    p2p->outer = proxy_ref(outer);
    p2p->domain = g_strdup(migrate_call_domain(perform));
    p2p->tls_name = g_strdup(migrate_call_text(perform, MIGRATE_TEXT_TLS_DESTINATION));
    p2p->limit = *limit;
    driver_options_wishes(perform, &p2p->wishes);
    p2p->listener = -1;
    p2p->users_disks = migrate_call_copies_disks(perform) && !disks_owner;
    if (disks_owner) {
        p2p->disks_path = run_dir_socket_path(migration_set_run_dir(driver->set), "out-");
        p2p->disks_owner = *disks_owner;
    }
    p2p->migrate_uri = g_strdup(migrate_call_text(perform, MIGRATE_TEXT_URI));
    p2p->offline = (migrate_call_flags(perform) & VIR_MIGRATE_OFFLINE) != 0;
    p2p->recovers = recovery_uri_is(dconnuri);
    p2p->users_resume = (migrate_call_flags(perform) & VIR_MIGRATE_POSTCOPY_RESUME) &&
                        !p2p->recovers;
    g_task_set_task_data(task, p2p, (GDestroyNotify)p2p_unref);
    p2p->recovery = migrate_call_recovery(perform, &error);
    if (!p2p->recovery || !dial(task, dconnuri, &error))
        g_task_return_error(task, error);
}

P2p *p2p_open_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}
