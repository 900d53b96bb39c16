/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/driver_stats.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>

#include "driver/job_answer.h"
#include "driver/rpc_error.h"
#include "driver/rpc_xdr.h"

#define PROC_JOB_COMPLETED 363

#define FLAGS_KNOWN (VIR_DOMAIN_JOB_STATS_COMPLETED | VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED)

struct DriverStats {
    MigrationAccounts *accounts;
    GHashTable *clients; /* Proxy -> Client */
};

typedef struct {
    DriverStats *stats;
    Proxy *proxy; /* its own key: no reference */
    GPtrArray *asks;
    guint calling;
} Client;

/* What a client wants to know again and again: at most one call of ours at a time. */
typedef struct {
    gint refs;
    Client *client; /* NULL: it is gone */
    gint32 procedure;
    guint32 flags;
    char *domain;
    GByteArray *payload; /* of the call */
    gboolean calling;
    gboolean refused; /* libvirtd has said that it has none of a domain that comes in */
    RpcFrame *sample;
    gint64 sample_of; /* the migration's begun_us */
    gint64 called_in; /* the same, of the call under way */
    GPtrArray *waiters;
} Ask;

typedef struct {
    Ask *ask;
    RpcHeader call;
    guint timer; /* 0: it waits for libvirtd however long that takes */
} Waiter;

static void waiter_free(gpointer data)
{
    Waiter *waiter = data;

    g_clear_handle_id(&waiter->timer, g_source_remove);
    g_free(waiter);
}

static void ask_unref(gpointer data)
{
    Ask *ask = data;

    if (--ask->refs > 0)
        return;
    g_ptr_array_unref(ask->waiters);
    g_clear_pointer(&ask->sample, rpc_frame_free);
    g_byte_array_unref(ask->payload);
    g_free(ask->domain);
    g_free(ask);
}

/* Their waiters are nobody any more. */
static void client_free(gpointer data)
{
    Client *client = data;

    for (guint i = 0; i < client->asks->len; i++) {
        Ask *ask = g_ptr_array_index(client->asks, i);

        ask->client = NULL;
        g_ptr_array_set_size(ask->waiters, 0);
    }
    g_ptr_array_unref(client->asks);
    g_free(client);
}

DriverStats *driver_stats_new(MigrationAccounts *accounts)
{
    DriverStats *stats = g_new0(DriverStats, 1);

    stats->accounts = accounts;
    stats->clients = g_hash_table_new_full(NULL, NULL, NULL, client_free);
    return stats;
}

void driver_stats_free(DriverStats *stats)
{
    if (!stats)
        return;
    g_hash_table_unref(stats->clients);
    g_free(stats);
}

void driver_stats_closed(DriverStats *stats, Proxy *proxy)
{
    g_hash_table_remove(stats->clients, proxy);
}

/* ---- answers ---- */

/* TRUE: it was answered. reply: libvirtd's, or NULL. */
static gboolean answer(Ask *ask, const RpcHeader *call, const RpcFrame *reply)
{
    DriverStats *stats = ask->client->stats;
    g_auto(JobFigures) figures = { 0 };
    JobQuestion question = { *call, ask->flags, reply, NULL, &figures };
    JobAnswer ours = { NULL, FALSE };

    if (migration_accounts_figures(stats->accounts, ask->domain, &figures)) {
        /* libvirt's numbers count from an earlier time than ours: they must not fall at the end. */
        if (ask->sample_of == figures.begun_us && (figures.outcome == JOB_OUTCOME_NONE ||
                                                   figures.outcome == JOB_OUTCOME_COMPLETED))
            question.sample = ask->sample;
        ours = job_answer(&question);
    }
    if (ours.cleared)
        migration_accounts_clear(stats->accounts, ask->domain);
    if (!ours.frame)
        return FALSE;
    proxy_reply(ask->client->proxy, ours.frame);
    return TRUE;
}

static RpcFrame *theirs_for(const RpcHeader *call, const RpcFrame *reply)
{
    RpcHeader header = reply->header;
    gsize len;
    const guint8 *payload = rpc_frame_payload(reply, &len);

    header.serial = call->serial;
    return rpc_frame_new(&header, payload, len);
}

/* libvirtd has answered: whoever still waits gets that, with what we have to add. Where the first
 * one's reading clears it, there is nothing to add for the others. */
static void answer_all(Ask *ask, const RpcFrame *reply)
{
    g_autoptr(GPtrArray) waiters = g_ptr_array_new_with_free_func(waiter_free);

    while (ask->waiters->len > 0)
        g_ptr_array_add(waiters, g_ptr_array_steal_index(ask->waiters, 0));
    for (guint i = 0; i < waiters->len && ask->client; i++) {
        const Waiter *waiter = g_ptr_array_index(waiters, i);

        if (!answer(ask, &waiter->call, reply))
            proxy_reply(ask->client->proxy, theirs_for(&waiter->call, reply));
    }
}

/* ---- calls ---- */

static void on_reply(Proxy *proxy, RpcFrame *reply, gpointer data);

/* 0: there is none. */
static gint64 current_migration(const Ask *ask, MigrationSide *ret_side)
{
    g_auto(JobFigures) figures = { 0 };

    if (!migration_accounts_figures(ask->client->stats->accounts, ask->domain, &figures))
        return 0;
    *ret_side = figures.side;
    return figures.begun_us;
}

static void call_upstream(Ask *ask)
{
    MigrationSide side;

    if (ask->calling || ask->client->calling >= DRIVER_STATS_CALLS_MAX)
        return;
    ask->called_in = current_migration(ask, &side);
    ask->calling = TRUE;
    ask->client->calling++;
    ask->refs++;
    proxy_call(ask->client->proxy, RPC_PROGRAM_REMOTE, ask->procedure, ask->payload->data,
               ask->payload->len, on_reply, ask);
}

/* There was no room for their calls. */
static void call_for_others(Client *client)
{
    for (guint i = 0; i < client->asks->len; i++) {
        Ask *ask = g_ptr_array_index(client->asks, i);

        if (ask->waiters->len > 0)
            call_upstream(ask);
    }
}

/* An error says nothing of the job. */
static void keep_sample(Ask *ask, RpcFrame *reply)
{
    g_autoptr(RpcFrame) frame = reply;
    MigrationSide side;
    gint64 now;

    if (frame->header.status != RPC_STATUS_OK)
        return;
    now = current_migration(ask, &side);
    g_clear_pointer(&ask->sample, rpc_frame_free);
    if (!now || now != ask->called_in || !job_reply_is_sample(frame, side))
        return;
    ask->sample = g_steal_pointer(&frame);
    ask->sample_of = now;
}

static void hear(Ask *ask, RpcFrame *reply)
{
    answer_all(ask, reply);
    ask->refused = rpc_error_code(reply) == VIR_ERR_OPERATION_UNSUPPORTED;
    keep_sample(ask, reply);
}

static void on_reply(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    Ask *ask = data;

    ask->calling = FALSE;
    if (ask->client)
        ask->client->calling--;
    if (ask->client && reply) {
        hear(ask, reply);
        call_for_others(ask->client);
    } else {
        rpc_frame_free(reply);
        g_ptr_array_set_size(ask->waiters, 0);
    }
    ask_unref(ask);
}

/* libvirtd has not answered in time. Where nothing can be said without it, it is waited for. */
static gboolean on_late(gpointer data)
{
    Waiter *waiter = data;
    Ask *ask = waiter->ask;

    waiter->timer = 0;
    if (answer(ask, &waiter->call, NULL))
        g_ptr_array_remove(ask->waiters, waiter);
    else
        call_upstream(ask);
    return G_SOURCE_REMOVE;
}

static Client *client_of(DriverStats *stats, Proxy *proxy)
{
    Client *client = g_hash_table_lookup(stats->clients, proxy);

    if (client)
        return client;
    client = g_new0(Client, 1);
    client->stats = stats;
    client->proxy = proxy;
    client->asks = g_ptr_array_new_with_free_func(ask_unref);
    g_hash_table_insert(stats->clients, proxy, client);
    return client;
}

static gboolean is_question(const Ask *ask, gint32 procedure, const char *domain, guint32 flags)
{
    return ask->procedure == procedure && ask->flags == flags && g_str_equal(ask->domain, domain);
}

/* Of domains that are not asked for any more, and of what was another domain of that name. */
static void drop_idle(Client *client, gint32 procedure, const char *domain, guint32 flags)
{
    for (guint i = client->asks->len; i > 0; i--) {
        const Ask *ask = g_ptr_array_index(client->asks, i - 1);
        g_auto(JobFigures) figures = { 0 };

        if (!ask->calling && ask->waiters->len == 0 &&
            (is_question(ask, procedure, domain, flags) ||
             !migration_accounts_figures(client->stats->accounts, ask->domain, &figures)))
            g_ptr_array_remove_index(client->asks, i - 1);
    }
}

static Ask *ask_of(Client *client, const RpcFrame *frame, const char *domain, guint32 flags)
{
    gsize len;
    const guint8 *payload = rpc_frame_payload(frame, &len);
    Ask *ask;

    for (guint i = 0; i < client->asks->len; i++) {
        ask = g_ptr_array_index(client->asks, i);
        if (ask->procedure == frame->header.procedure && ask->payload->len == len &&
            memcmp(ask->payload->data, payload, len) == 0)
            return ask;
    }
    drop_idle(client, frame->header.procedure, domain, flags);
    ask = g_new0(Ask, 1);
    ask->refs = 1;
    ask->client = client;
    ask->procedure = frame->header.procedure;
    ask->flags = flags;
    ask->domain = g_strdup(domain);
    ask->payload = g_byte_array_append(g_byte_array_new(), payload, (guint)len);
    ask->waiters = g_ptr_array_new_with_free_func(waiter_free);
    g_ptr_array_add(client->asks, ask);
    return ask;
}

static gboolean decode(const RpcFrame *frame, char **ret_domain, guint32 *ret_flags)
{
    RPC_XDR_AUTO(remote_abort_job, info) = { 0 };
    RPC_XDR_AUTO(remote_abort_job_flags, args) = { 0 };
    gsize len;
    const guint8 *payload = rpc_frame_payload(frame, &len);

    if (frame->header.procedure == JOB_PROC_INFO) {
        if (!rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_abort_job, &info, sizeof info,
                            "DOMAIN_GET_JOB_INFO", NULL))
            return FALSE;
        *ret_domain = g_strdup(info.dom.name);
        *ret_flags = 0;
        return TRUE;
    }
    if (!rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_abort_job_flags, &args, sizeof args,
                        "DOMAIN_GET_JOB_STATS", NULL))
        return FALSE;
    *ret_domain = g_strdup(args.dom.name);
    *ret_flags = args.flags;
    return TRUE;
}

/* libvirtd, which notes each such question in its log as an error, has let this client ask, and
 * has nothing to say before the migration's end. */
static gboolean needs_no_asking(const Ask *ask, const JobFigures *figures)
{
    return ask->refused && figures->side == MIGRATION_SIDE_DESTINATION && figures->connected;
}

gboolean driver_stats_call(DriverStats *stats, Proxy *proxy, RpcFrame *frame)
{
    g_auto(JobFigures) figures = { 0 };
    g_autofree char *domain = NULL;
    guint32 flags;
    Waiter *waiter;
    Ask *ask;

    if (frame->header.type != RPC_TYPE_CALL || !decode(frame, &domain, &flags) ||
        (flags & ~(guint32)FLAGS_KNOWN) ||
        !migration_accounts_figures(stats->accounts, domain, &figures))
        return FALSE;
    ask = ask_of(client_of(stats, proxy), frame, domain, flags);
    if (needs_no_asking(ask, &figures) && answer(ask, &frame->header, NULL)) {
        rpc_frame_free(frame);
        return TRUE;
    }
    waiter = g_new0(Waiter, 1);
    waiter->ask = ask;
    waiter->call = frame->header;
    waiter->timer = g_timeout_add(DRIVER_STATS_WAIT_MS, on_late, waiter);
    g_ptr_array_add(ask->waiters, waiter);
    rpc_frame_free(frame);
    call_upstream(ask);
    return TRUE;
}

/* ---- the event ---- */

gboolean driver_stats_message(DriverStats *stats, Proxy *proxy, RpcFrame *frame)
{
    g_auto(JobFigures) figures = { 0 };
    g_autofree char *domain = NULL;

    if (frame->header.program != RPC_PROGRAM_REMOTE ||
        frame->header.procedure != PROC_JOB_COMPLETED)
        return FALSE;
    domain = job_completed_domain(frame);
    if (!domain || !migration_accounts_figures(stats->accounts, domain, &figures))
        return FALSE;
    proxy_reply(proxy, job_completed_event(frame, &figures));
    return TRUE;
}
