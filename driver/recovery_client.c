/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/recovery_client.h"

#include <glib/gi18n.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>

#include "driver/arrival.h"
#include "driver/job_record.h"
#include "util/log.h"

/* What the libvirtd of a source calls on its destination in a peer-to-peer migration, without the
 * phases. */
static const gint32 harmless[] = {
    1,   /* CONNECT_OPEN */
    2,   /* CONNECT_CLOSE */
    60,  /* CONNECT_SUPPORTS_FEATURE */
    66,  /* AUTH_LIST */
    110, /* CONNECT_GET_URI */
    360, /* CONNECT_REGISTER_CLOSE_CALLBACK */
    361, /* CONNECT_UNREGISTER_CLOSE_CALLBACK */
};

/* What a resume is asked for with, and what has no part in one (bit 20: ZEROCOPY, which libvirt 8.5
 * has no name for). */
#define FLAGS_NEEDED (VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_POSTCOPY_RESUME)
#define FLAGS_REFUSED                                                                              \
    (VIR_MIGRATE_OFFLINE | VIR_MIGRATE_TUNNELLED | VIR_MIGRATE_PARALLEL | (1u << 20))

typedef struct {
    Driver *driver; /* NULL once that is gone */
    Proxy *proxy;
    char *domain;
    guint8 session[MIGRATION_SESSION_LEN]; /* whose token was proved */
} RecoveryClient;

static gboolean is_harmless(gint32 procedure)
{
    for (gsize i = 0; i < G_N_ELEMENTS(harmless); i++) {
        if (harmless[i] == procedure)
            return TRUE;
    }
    return FALSE;
}

static const char *phase_problem(const RpcFrame *frame, const char *domain)
{
    g_autoptr(MigrateCall) call = migrate_call_decode(frame, NULL);
    g_autofree char *theirs = call ? driver_call_domain(call, NULL) : NULL;

    if (!call)
        return _("its arguments cannot be read");
    if ((migrate_call_flags(call) & FLAGS_NEEDED) != FLAGS_NEEDED ||
        (migrate_call_flags(call) & FLAGS_REFUSED))
        return _("it would begin a migration, not resume one");
    if (g_strcmp0(theirs, domain) != 0)
        return _("it is for another domain");
    return NULL;
}

static gboolean is_phase(gint32 procedure)
{
    return migrate_call_is_phase(procedure, MIGRATE_PHASE_PREPARE) ||
           migrate_call_is_phase(procedure, MIGRATE_PHASE_FINISH);
}

const char *recovery_call_problem(const RpcFrame *frame, const char *domain)
{
    if (frame->header.program != RPC_PROGRAM_REMOTE)
        return _("its program has no part in it");
    if (is_phase(frame->header.procedure))
        return phase_problem(frame, domain);
    return is_harmless(frame->header.procedure) ? NULL : _("it has no part in it");
}

/* The session may have been forgotten since the client came, because its guest has arrived or is
 * gone. What it has prepared before it may finish: that can take longer than the record is kept. */
static gboolean has_right(RecoveryClient *client, gint32 procedure)
{
    return migration_set_find_record(client->driver->set, MIGRATION_SIDE_DESTINATION,
                                     client->session) ||
           (migrate_call_is_phase(procedure, MIGRATE_PHASE_FINISH) &&
            driver_client_find(client->proxy, MIGRATION_SIDE_DESTINATION, client->domain));
}

static const char *problem_now(RecoveryClient *client, const RpcFrame *frame)
{
    const char *problem = recovery_call_problem(frame, client->domain);

    if (problem)
        return problem;
    if (!client->driver)
        return _("the daemon stops");
    if (is_phase(frame->header.procedure) && !has_right(client, frame->header.procedure))
        return _("the session it came with is not known any more");
    return NULL;
}

static gboolean on_call(Proxy *proxy, RpcFrame *frame, gpointer data)
{
    RecoveryClient *client = data;
    LogContext log = { .client = proxy_name(proxy) };
    const char *problem = problem_now(client, frame);
    g_autofree char *message = NULL;

    if (!problem)
        return driver_hooks()->call(proxy, frame, client->driver);
    message = g_strdup_printf(
        _("procedure %1$d is not for a connection that recovers domain %2$s: %3$s"),
        frame->header.procedure, client->domain, problem);
    log_warning(&log, "%s", message);
    proxy_reply_error(proxy, &frame->header, VIR_ERR_OPERATION_DENIED, VIR_FROM_RPC, message);
    rpc_frame_free(frame);
    return TRUE;
}

static void on_closed(Proxy *proxy, gpointer data)
{
    RecoveryClient *client = data;

    if (client->driver)
        g_ptr_array_remove_fast(client->driver->recovery_clients, client);
    g_free(client->domain);
    g_free(client);
}

static const ProxyHooks hooks = { .call = on_call, .closed = on_closed };

/* Whoever had one for that domain before is not there any more, or would not call again. */
static void close_earlier(Driver *driver, const char *domain)
{
    for (guint i = 0; i < driver->recovery_clients->len; i++) {
        RecoveryClient *client = g_ptr_array_index(driver->recovery_clients, i);

        if (g_str_equal(client->domain, domain))
            proxy_close(client->proxy);
    }
}

static gboolean on_superseded(gpointer data)
{
    return G_SOURCE_REMOVE;
}

void recovery_client_start(Driver *driver, RpcStream *stream, RpcStream *upstream,
                           const ProxyPeer *peer, const JobRecord *record)
{
    RecoveryClient *client = g_new0(RecoveryClient, 1);
    g_autofree char *who = arrival_describe(peer);
    LogContext log = { 0 };

    close_earlier(driver, record->domain);
    client->driver = driver;
    client->domain = g_strdup(record->domain);
    memcpy(client->session, record->uri.session, sizeof client->session);
    client->proxy = proxy_new(stream, upstream, peer, &hooks, client);
    g_ptr_array_add(driver->recovery_clients, client);
    log.client = proxy_name(client->proxy);
    log_info(&log, "%s recovers domain %s", who, client->domain);
    /* The source has given the session up, and a helper that waits for it still keeps both
     * libvirtds from seeing that: in a peer-to-peer migration the source's would not even begin. */
    migration_set_supersede(driver->set, MIGRATION_SIDE_DESTINATION, client->domain,
                            /* also_whole= */ TRUE, record->begun, on_superseded, NULL);
}

void recovery_clients_close(Driver *driver)
{
    for (guint i = 0; i < driver->recovery_clients->len; i++) {
        RecoveryClient *client = g_ptr_array_index(driver->recovery_clients, i);

        client->driver = NULL;
        proxy_close(client->proxy);
    }
    g_ptr_array_set_size(driver->recovery_clients, 0);
}
