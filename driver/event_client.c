/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/event_client.h"

#include <glib/gi18n.h>
#include <libvirt/virterror.h>
#include <string.h>

#include "driver/rpc_error.h"
#include "util/log.h"

#define PROC_DOMAIN_LOOKUP_BY_NAME 23

/* Events that wait for a libvirtd that does not answer, or a client that does not read; more are
 * dropped. */
#define QUEUE_MAX 512u

/* Domains remembered, of which all but a few are long gone: then they are forgotten. */
#define KNOWN_MAX 256u

typedef struct {
    gint32 callback;
    MonitorFilter filter;
} Registration;

typedef struct {
    char *domain;
    gboolean learns; /* there is no event */
    MonitorEvent event;
    char *json;
} Item;

typedef struct {
    guint8 uuid[REMOTE_UUID_LEN];
} Known;

struct EventClient {
    guint refs; /* its owner's, and that of a look-up under way */
    Proxy *proxy; /* NULL once the owner has let go */
    GArray *registrations;
    GQueue queue; /* Item; of the first one the domain is being looked up */
    gboolean asking;
    gboolean dropping;
    GHashTable *known; /* name -> Known */
};

static void item_free(gpointer data)
{
    Item *item = data;

    g_free(item->domain);
    g_free(item->json);
    g_free(item);
}

static void client_unref(EventClient *client)
{
    if (--client->refs > 0)
        return;
    g_queue_clear_full(&client->queue, item_free);
    g_array_unref(client->registrations);
    g_hash_table_unref(client->known);
    g_free(client);
}

EventClient *event_client_new(Proxy *proxy)
{
    EventClient *client = g_new0(EventClient, 1);

    client->refs = 1;
    client->proxy = proxy_ref(proxy);
    client->registrations = g_array_new(FALSE, FALSE, sizeof(Registration));
    client->known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_queue_init(&client->queue);
    return client;
}

void event_client_free(EventClient *client)
{
    if (!client)
        return;
    g_clear_pointer(&client->proxy, proxy_unref);
    client_unref(client);
}

/* ---- registrations ---- */

void event_client_add(EventClient *client, gint32 callback, const MonitorFilter *filter)
{
    Registration registration = { callback, *filter };

    event_client_remove(client, callback);
    g_array_append_val(client->registrations, registration);
}

void event_client_remove(EventClient *client, gint32 callback)
{
    for (guint i = 0; i < client->registrations->len; i++) {
        if (g_array_index(client->registrations, Registration, i).callback == callback) {
            g_array_remove_index(client->registrations, i);
            return;
        }
    }
}

/* ---- sending ---- */

static void send_to(EventClient *client, gint32 callback, const Item *item, const remote_dom *dom)
{
    LogContext log = { .client = proxy_name(client->proxy) };
    g_autoptr(GError) error = NULL;
    RpcFrame *frame = monitor_event_frame(&item->event, callback, dom, &error);

    if (frame)
        proxy_reply(client->proxy, frame);
    else
        log_warning(&log, "%s", error->message);
}

static void deliver(EventClient *client, const Item *item, const remote_dom *dom)
{
    const guint8 *uuid = (const guint8 *)dom->uuid;

    for (guint i = 0; !item->learns && i < client->registrations->len; i++) {
        const Registration *r = &g_array_index(client->registrations, Registration, i);

        if (monitor_filter_fits(&r->filter, item->event.kind, uuid))
            send_to(client, r->callback, item, dom);
    }
}

static void remember(EventClient *client, const Item *item, const remote_dom *dom)
{
    Known *known = g_new(Known, 1);

    if (g_hash_table_size(client->known) >= KNOWN_MAX)
        g_hash_table_remove_all(client->known);
    memcpy(known->uuid, dom->uuid, sizeof known->uuid);
    g_hash_table_replace(client->known, g_strdup(item->domain), known);
}

/* As libvirt's own last events of a domain: with the id of one that does not run. */
static void deliver_gone(EventClient *client, const Item *item)
{
    const Known *known = g_hash_table_lookup(client->known, item->domain);
    remote_dom dom = { .name = item->domain, .id = -1 };

    if (!known)
        return;
    memcpy(dom.uuid, known->uuid, sizeof known->uuid);
    deliver(client, item, &dom);
}

/* A client that may not see the domain is told nothing of it. */
static void take_answer(EventClient *client, const Item *item, const RpcFrame *reply)
{
    RPC_XDR_AUTO(remote_dom_ret, ret) = { 0 };
    LogContext log = { .client = proxy_name(client->proxy) };
    g_autoptr(GError) error = NULL;
    gsize len;
    const guint8 *payload = rpc_frame_payload(reply, &len);

    if (rpc_error_code(reply) == VIR_ERR_NO_DOMAIN) {
        deliver_gone(client, item);
    } else if (reply->header.status != RPC_STATUS_OK) {
        log_debug(&log, "no event of domain %s: libvirt does not let the client see it",
                  item->domain);
    } else if (!rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_dom_ret, &ret, sizeof ret,
                               "DOMAIN_LOOKUP_BY_NAME", &error)) {
        log_warning(&log, "%s", error->message);
    } else {
        remember(client, item, &ret.dom);
        deliver(client, item, &ret.dom);
    }
}

/* ---- asking ---- */

static void ask(EventClient *client);

static void on_answer(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    EventClient *client = data;
    g_autoptr(RpcFrame) owned = reply;
    Item *item = g_queue_pop_head(&client->queue);

    client->asking = FALSE;
    if (owned && client->proxy) {
        take_answer(client, item, owned);
        ask(client);
    }
    item_free(item);
    client_unref(client);
}

static void ask(EventClient *client)
{
    Item *item = g_queue_peek_head(&client->queue);
    remote_text_ret args;
    g_autoptr(GByteArray) payload = NULL;
    g_autoptr(GError) error = NULL;

    if (!item) {
        client->dropping = FALSE;
        return;
    }
    args.text = item->domain;
    payload = rpc_xdr_encode((xdrproc_t)xdr_remote_text_ret, &args, "DOMAIN_LOOKUP_BY_NAME",
                             &error);
    g_assert(payload); /* the name came in a smaller message */
    client->asking = TRUE;
    client->refs++;
    proxy_call(client->proxy, RPC_PROGRAM_REMOTE, PROC_DOMAIN_LOOKUP_BY_NAME, payload->data,
               payload->len, on_answer, client);
}

/* Takes item. */
static void push(EventClient *client, Item *item)
{
    LogContext log = { .client = proxy_name(client->proxy) };

    if (proxy_is_closed(client->proxy) || client->queue.length >= QUEUE_MAX) {
        if (!client->dropping && !proxy_is_closed(client->proxy))
            log_warning(&log, _("events are dropped: %1$u wait for an answer of libvirt's"),
                        QUEUE_MAX);
        client->dropping = TRUE;
        item_free(item);
        return;
    }
    g_queue_push_tail(&client->queue, item);
    if (!client->asking)
        ask(client);
}

void event_client_push(EventClient *client, const char *domain, const MonitorEvent *event)
{
    Item *item;

    if (client->registrations->len == 0)
        return;
    item = g_new0(Item, 1);
    item->domain = g_strdup(domain);
    item->event = *event;
    item->json = g_strdup(event->json);
    item->event.json = item->json;
    push(client, item);
}

void event_client_learn(EventClient *client, const char *domain)
{
    Item *item = g_new0(Item, 1);

    item->domain = g_strdup(domain);
    item->learns = TRUE;
    push(client, item);
}
