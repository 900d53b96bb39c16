/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/uffd/clients.h"

#include <glib/gi18n.h>

#include "ram/uffd/uffd.h"
#include "util/autofd.h"

typedef struct {
    guint id;
    char *name;
    int uffd;
    UffdMap *map;
    guint n_registered; /* pieces of the map */
} Client;

struct UffdClients {
    GPtrArray *list; /* of Client */
    guint last_id;
};

/* Who waits in a piece that is unregistered goes on; a process that is gone does not mind. */
static void client_free(gpointer data)
{
    Client *client = data;

    for (guint i = 0; i < client->n_registered; i++) {
        const UffdRange *range = uffd_map_get(client->map, i);

        uffd_unregister(client->uffd, range->address, range->length, NULL);
    }
    uffd_map_free(client->map);
    autofd_clear(&client->uffd);
    g_free(client->name);
    g_free(client);
}

UffdClients *uffd_clients_new(void)
{
    UffdClients *clients = g_new0(UffdClients, 1);

    clients->list = g_ptr_array_new_with_free_func(client_free);
    return clients;
}

void uffd_clients_free(UffdClients *clients)
{
    if (!clients)
        return;
    g_ptr_array_unref(clients->list);
    g_free(clients);
}

static gboolean register_all(Client *client, GError **error)
{
    for (guint i = 0; i < uffd_map_count(client->map); i++) {
        const UffdRange *range = uffd_map_get(client->map, i);

        if (range->backing == UFFD_ANON) {
            g_set_error(error, UFFD_ERROR, UFFD_ERROR_UNSUPPORTED,
                        _("%s: private memory cannot be shared: use a memfd"), client->name);
            return FALSE;
        }
        if (!uffd_register(client->uffd, range->address, range->length, NULL, error)) {
            g_prefix_error(error, "%s: ", client->name);
            return FALSE;
        }
        client->n_registered++;
    }
    return TRUE;
}

gboolean uffd_clients_add(UffdClients *clients, const char *name, int uffd, UffdMap *map,
                          guint *ret_id, GError **error)
{
    Client *client = g_new0(Client, 1);

    *client = (Client){ .name = g_strdup(name), .uffd = uffd, .map = map };
    if (clients->list->len >= UFFD_CLIENTS_MAX) {
        g_set_error(error, UFFD_ERROR, UFFD_ERROR_UNSUPPORTED,
                    _("%s: more than %d processes share the guest's memory"), name,
                    UFFD_CLIENTS_MAX);
        client_free(client);
        return FALSE;
    }
    if (!register_all(client, error)) {
        client_free(client);
        return FALSE;
    }
    *ret_id = client->id = ++clients->last_id;
    g_ptr_array_add(clients->list, client);
    return TRUE;
}

static Client *find(const UffdClients *clients, guint id, guint *ret_place)
{
    for (guint i = 0; i < clients->list->len; i++) {
        Client *client = clients->list->pdata[i];

        *ret_place = i;
        if (client->id == id)
            return client;
    }
    return NULL;
}

gboolean uffd_clients_remove(UffdClients *clients, guint id)
{
    guint place;

    if (!find(clients, id, &place))
        return FALSE;
    g_ptr_array_remove_index(clients->list, place);
    return TRUE;
}

guint uffd_clients_count(const UffdClients *clients)
{
    return clients->list->len;
}

int uffd_clients_fd(const UffdClients *clients, guint index, guint *ret_id)
{
    const Client *client = index < clients->list->len ? clients->list->pdata[index] : NULL;

    if (!client)
        return -1;
    *ret_id = client->id;
    return client->uffd;
}

const char *uffd_clients_name(const UffdClients *clients, guint id)
{
    guint place;
    const Client *client = find(clients, id, &place);

    return client ? client->name : NULL;
}

void uffd_clients_read(UffdClients *clients, guint id, UffdEvent ret_events[UFFD_EVENTS_MAX],
                       guint *ret_n)
{
    guint place;
    Client *client = find(clients, id, &place);

    *ret_n = 0;
    if (client && !uffd_read_events(client->uffd, client->map, ret_events, ret_n, NULL))
        g_ptr_array_remove_index(clients->list, place);
}

static void wake(const Client *client, guint block, guint64 offset, guint64 length)
{
    guint64 end = offset + length;

    for (guint i = 0; i < uffd_map_count(client->map); i++) {
        const UffdRange *range = uffd_map_get(client->map, i);
        guint64 from = MAX(offset, range->offset);
        guint64 to = MIN(end, range->offset + range->length);

        /* In a process that is gone nobody waits. */
        if (range->block == block && from < to)
            uffd_wake(client->uffd, range->address + (from - range->offset), to - from, NULL);
    }
}

void uffd_clients_wake(UffdClients *clients, guint block, guint64 offset, guint64 length)
{
    for (guint i = 0; i < clients->list->len; i++)
        wake(clients->list->pdata[i], block, offset, length);
}
