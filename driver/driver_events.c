/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From what happens to a migration to events, and from events to clients. What one client gets,
 * and when, is in event_client.c. */
#include "config.h"

#include "driver/driver_events.h"

#include "driver/event_client.h"
#include "util/log.h"

struct DriverEvents {
    guint refs; /* its owner's, and those of calls under way */
    MigrationSet *set; /* NULL once the owner has let go */
    GHashTable *clients; /* Proxy -> EventClient */
};

static void events_unref(DriverEvents *events)
{
    if (--events->refs > 0)
        return;
    g_hash_table_unref(events->clients);
    g_free(events);
}

DriverEvents *driver_events_new(MigrationSet *set)
{
    DriverEvents *events = g_new0(DriverEvents, 1);

    events->refs = 1;
    events->set = set;
    events->clients =
        g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)event_client_free);
    return events;
}

void driver_events_free(DriverEvents *events)
{
    if (!events)
        return;
    events->set = NULL;
    g_hash_table_remove_all(events->clients);
    events_unref(events);
}

void driver_events_closed(DriverEvents *events, Proxy *proxy)
{
    g_hash_table_remove(events->clients, proxy);
}

/* ---- registrations ---- */

typedef struct {
    DriverEvents *events;
    gint32 callback;            /* of one that ends */
    MonitorRegistration wanted; /* of one that begins */
} Watch;

static void watch_free(Watch *watch)
{
    events_unref(watch->events);
    monitor_registration_clear(&watch->wanted);
    g_free(watch);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Watch, watch_free)

static Watch *watch_new(DriverEvents *events)
{
    Watch *watch = g_new0(Watch, 1);

    watch->events = events;
    events->refs++;
    return watch;
}

/* What migrates already may be gone from here when the first event of it comes. */
static EventClient *add_client(DriverEvents *events, Proxy *proxy)
{
    EventClient *client = event_client_new(proxy);
    g_autoptr(GPtrArray) domains = migration_set_domains(events->set);

    g_hash_table_insert(events->clients, proxy, client);
    for (guint i = 0; i < domains->len; i++)
        event_client_learn(client, g_ptr_array_index(domains, i));
    return client;
}

static void take_registration(const Watch *watch, Proxy *proxy, const RpcFrame *reply)
{
    LogContext log = { .client = proxy_name(proxy) };
    EventClient *client = g_hash_table_lookup(watch->events->clients, proxy);
    g_autoptr(GError) error = NULL;
    MonitorFilter filter;
    gint32 callback;

    if (reply->header.status != RPC_STATUS_OK || !watch->events->set || proxy_is_closed(proxy))
        return;
    if (!monitor_callback_decode(reply, &callback, &error) ||
        !monitor_registration_filter(&watch->wanted, &filter, &error)) {
        log_warning(&log, "%s", error->message);
        return;
    }
    log_debug(&log, "monitor events: callback %d, for 0x%x of ours", callback, filter.kinds);
    if (filter.kinds == 0)
        return;
    if (!client)
        client = add_client(watch->events, proxy);
    event_client_add(client, callback, &filter);
}

static void on_registered(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    g_autoptr(Watch) watch = data;

    if (!reply)
        return;
    take_registration(watch, proxy, reply);
    proxy_reply(proxy, reply);
}

static void on_deregistered(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    g_autoptr(Watch) watch = data;
    EventClient *client = g_hash_table_lookup(watch->events->clients, proxy);

    if (!reply)
        return;
    if (client && reply->header.status == RPC_STATUS_OK)
        event_client_remove(client, watch->callback);
    proxy_reply(proxy, reply);
}

static gboolean watch_registration(DriverEvents *events, Proxy *proxy, RpcFrame *frame)
{
    LogContext log = { .client = proxy_name(proxy) };
    g_autoptr(Watch) watch = watch_new(events);
    g_autoptr(GError) error = NULL;

    if (!monitor_registration_decode(frame, &watch->wanted, &error)) {
        log_info(&log, "a registration for monitor events is left to libvirt: %s",
                 error->message);
        return FALSE;
    }
    proxy_forward_watched(proxy, frame, on_registered, g_steal_pointer(&watch));
    return TRUE;
}

static gboolean watch_deregistration(DriverEvents *events, Proxy *proxy, RpcFrame *frame)
{
    g_autoptr(Watch) watch = NULL;

    if (!g_hash_table_contains(events->clients, proxy))
        return FALSE;
    watch = watch_new(events);
    if (!monitor_callback_decode(frame, &watch->callback, NULL))
        return FALSE;
    proxy_forward_watched(proxy, frame, on_deregistered, g_steal_pointer(&watch));
    return TRUE;
}

gboolean driver_events_call(DriverEvents *events, Proxy *proxy, RpcFrame *frame)
{
    if (frame->header.type != RPC_TYPE_CALL)
        return FALSE;
    if (frame->header.procedure == PROC_MONITOR_EVENT_REGISTER)
        return watch_registration(events, proxy, frame);
    if (frame->header.procedure == PROC_MONITOR_EVENT_DEREGISTER)
        return watch_deregistration(events, proxy, frame);
    return FALSE;
}

/* ---- events ---- */

static void emit(DriverEvents *events, MonitorEventKind kind, const char *domain,
                 const MonitorDetails *details)
{
    g_autofree char *json = monitor_event_json(kind, details);
    MonitorEvent event = { .kind = kind, .at = g_get_real_time(), .json = json };
    GHashTableIter iter;
    gpointer client;

    g_hash_table_iter_init(&iter, events->clients);
    while (g_hash_table_iter_next(&iter, NULL, &client))
        event_client_push(client, domain, &event);
}

void driver_events_recovery(DriverEvents *events, MonitorEventKind kind, const char *domain,
                            const MonitorDetails *details)
{
    emit(events, kind, domain, details);
}

/* ---- what migrations say ---- */

static MonitorDetails details_of(Migration *migration)
{
    MonitorDetails details = MONITOR_DETAILS_INIT;

    details.side = migration_side(migration) == MIGRATION_SIDE_SOURCE ? "source" : "destination";
    details.session = migration_id(migration);
    return details;
}

/* A session that resumes another one, if it is not for recovery.c to tell of: one that a user has
 * asked for, and each at the destination. */
static void tell_recovery(DriverEvents *events, Migration *migration, MonitorEventKind kind,
                          const char *reason)
{
    MonitorDetails details = details_of(migration);
    MigrationChannel first;

    migration_channel(migration, MIGRATION_CHANNEL_MAIN, &first);
    if (!migration_recovered_id(migration) || migration_is_own_attempt(migration) ||
        !first.opened)
        return;
    details.session = migration_recovered_id(migration);
    details.reason = reason;
    emit(events, kind, migration_domain(migration), &details);
}

static void tell_channel(DriverEvents *events, Migration *migration, MonitorEventKind kind,
                         const char *channel, const char *reason)
{
    MonitorDetails details = details_of(migration);
    MigrationChannel now;

    migration_channel(migration, channel, &now);
    details.channel = channel;
    details.tls = now.tls;
    details.cipher = now.cipher;
    details.peer = now.peer;
    details.lost_ms = now.lost_ms;
    details.reason = reason;
    emit(events, kind, migration_domain(migration), &details);
}

static void tell_opened(DriverEvents *events, Migration *migration, const char *channel)
{
    if (g_str_equal(channel, MIGRATION_CHANNEL_MAIN))
        tell_recovery(events, migration, MONITOR_EVENT_RECOVERY_STARTED, NULL);
    tell_channel(events, migration, MONITOR_EVENT_CHANNEL_OPENED, channel, NULL);
}

static void tell_state(DriverEvents *events, Migration *migration, const char *state,
                       const char *reason)
{
    if (g_str_equal(state, "completed"))
        tell_recovery(events, migration, MONITOR_EVENT_RECOVERY_DONE, NULL);
    else if (g_str_equal(state, "failed") || g_str_equal(state, "cancelled"))
        tell_recovery(events, migration, MONITOR_EVENT_RECOVERY_FAILED, reason);
}

void driver_events_notice(DriverEvents *events, Migration *migration, MigrationNotice notice,
                          const char *detail, const char *reason)
{
    switch (notice) {
    case MIGRATION_NOTICE_CHANNEL_OPENED:
        tell_opened(events, migration, detail);
        break;
    case MIGRATION_NOTICE_LINK_LOST:
        tell_channel(events, migration, MONITOR_EVENT_LINK_LOST, detail, reason);
        break;
    case MIGRATION_NOTICE_LINK_RESTORED:
        tell_channel(events, migration, MONITOR_EVENT_LINK_RESTORED, detail, NULL);
        break;
    case MIGRATION_NOTICE_STATE:
        tell_state(events, migration, detail, reason);
        break;
    default:
        break;
    }
}
