/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* --listen-address may be a name, as libvirt has it: the destination looks it up, and goes on with
 * the address. */
#include "config.h"

#include <gio/gio.h>
#include <glib/gi18n.h>
#include <libvirt/virterror.h>

#include "driver/driver_priv.h"

typedef struct {
    DriverJob *job;
    DriverJobFunc next;
} Lookup;

/* Of several the one that this host has; if it has none, whoever judges it will say so. */
static char *choose(GList *addresses)
{
    for (GList *one = addresses; one; one = one->next) {
        if (session_place_is_here(one->data))
            return g_inet_address_to_string(one->data);
    }
    return g_inet_address_to_string(addresses->data);
}

static void on_looked_up(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autofree Lookup *lookup = data;
    DriverJob *job = lookup->job;
    g_autoptr(GError) error = NULL;
    GList *addresses = g_resolver_lookup_by_name_finish(G_RESOLVER(source), result, &error);
    g_autofree char *address = addresses ? choose(addresses) : NULL;

    g_resolver_free_addresses(addresses);
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED) || proxy_is_closed(job->proxy)) {
        driver_job_free(job);
        return;
    }
    if (!address) {
        g_autofree char *message = g_strdup_printf(
            _("--listen-address %s is neither an address nor a name that the destination knows: "
              "%s"),
            migrate_call_text(job->call, MIGRATE_TEXT_LISTEN_ADDRESS), error->message);

        driver_job_refuse(job, VIR_ERR_INVALID_ARG, message);
        return;
    }
    migrate_call_set_text(job->call, MIGRATE_TEXT_LISTEN_ADDRESS, address);
    lookup->next(job);
}

void driver_listen_resolve(DriverJob *job, DriverJobFunc next)
{
    const char *text = migrate_call_text(job->call, MIGRATE_TEXT_LISTEN_ADDRESS);
    g_autoptr(GResolver) resolver = NULL;
    Lookup *lookup;

    if (!text || g_hostname_is_ip_address(text) || !migration_uri_host_is_valid(text)) {
        next(job);
        return;
    }
    resolver = g_resolver_get_default();
    lookup = g_new0(Lookup, 1);
    lookup->job = job;
    lookup->next = next;
    g_resolver_lookup_by_name_async(resolver, text, job->driver->stopped, on_looked_up, lookup);
}
