/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The migrations that a client has begun, found again by domain: one connection may run several. */
#include "config.h"

#include "driver/driver_priv.h"

static void client_free(gpointer data)
{
    GPtrArray *migrations = data;

    for (guint i = 0; i < migrations->len; i++)
        migration_orphan(g_ptr_array_index(migrations, i));
    g_ptr_array_unref(migrations);
}

void driver_client_add(Proxy *proxy, Migration *migration)
{
    GPtrArray *migrations = proxy_get_data(proxy);

    if (!migrations) {
        migrations = g_ptr_array_new_with_free_func((GDestroyNotify)migration_unref);
        proxy_set_data(proxy, migrations, client_free);
    }
    g_ptr_array_add(migrations, migration_ref(migration));
}

Migration *driver_client_find(Proxy *proxy, MigrationSide side, const char *domain)
{
    GPtrArray *migrations = proxy_get_data(proxy);

    for (guint i = migrations && domain ? migrations->len : 0; i > 0; i--) {
        Migration *migration = g_ptr_array_index(migrations, i - 1);

        if (migration_side(migration) == side &&
            g_str_equal(migration_domain(migration), domain))
            return migration;
    }
    return NULL;
}
