/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A migration between memory clients: what is different from one of libvirt's. */
#include "config.h"

#include <glib/gi18n.h>
#include <gnutls/crypto.h>

#include "driver/memory_list.h"
#include "driver/migration.h"
#include "driver/migration_priv.h"
#include "util/autofd.h"

static void make_uri(MigrationSet *set, JobRecord *record)
{
    record->uri.host = g_strdup(set->host_name);
    record->uri.port = set->settings->migration_port;
    if (gnutls_rnd(GNUTLS_RND_NONCE, record->uri.session, MIGRATION_SESSION_LEN) < 0 ||
        gnutls_rnd(GNUTLS_RND_KEY, record->uri.token, MIGRATION_TOKEN_LEN) < 0)
        g_error("no random numbers");
}

Migration *migration_new_memory(MigrationSet *set, MigrationSide side, const char *name,
                                const MigrationUri *uri, uid_t uid, gboolean recovers)
{
    JobRecord *record = job_record_new();

    record->side = side;
    record->domain = g_strconcat(MEMORY_PREFIX, name, NULL);
    record->memory = TRUE;
    record->memory_uid = uid;
    record->recovers = recovers;
    if (uri) {
        record->uri = *uri;
        record->uri.host = g_strdup(uri->host);
    } else {
        make_uri(set, record);
    }
    return migration_alloc(set, record);
}

gboolean migration_set_has_memory_room(const MigrationSet *set, uid_t uid, GError **error)
{
    const Settings *s = set->settings;
    guint all = 0, own = 0;

    for (guint i = 0; i < set->migrations->len; i++) {
        const JobRecord *record = ((const Migration *)set->migrations->pdata[i])->record;

        all += record->memory;
        own += record->memory && record->memory_uid == uid;
    }
    if (all >= s->memory_max_migrations)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_BUSY,
                    _("%u migrations of memory clients are under way on this host, and "
                      "memory_max_migrations allows no more: try again later"),
                    all);
    else if (own >= s->memory_max_migrations_per_user)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_BUSY,
                    _("%u migrations of memory clients of user %u are under way on this host, and "
                      "memory_max_migrations_per_user allows no more: try again later"),
                    own, (guint)uid);
    else
        return TRUE;
    return FALSE;
}

char *migration_session_text(const Migration *migration)
{
    GString *hex = g_string_new(NULL);

    for (gsize i = 0; i < MIGRATION_SESSION_LEN; i++)
        g_string_append_printf(hex, "%02x", migration->record->uri.session[i]);
    return g_string_free(hex, FALSE);
}

gboolean migration_is_memory(const Migration *migration)
{
    return migration->record->memory;
}

static void on_attached(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Migration *migration = g_task_get_task_data(task);
    GError *error = NULL;

    if (helper_process_finish(migration->helper, result, &error))
        g_task_return_boolean(task, TRUE);
    else
        g_task_return_error(task, error);
}

void migration_attach_memory(Migration *migration, int fd, GAsyncReadyCallback callback,
                             gpointer data)
{
    GTask *task = g_task_new(NULL, NULL, callback, data);

    g_task_set_task_data(task, migration_ref(migration), (GDestroyNotify)migration_unref);
    migration_set_phase(migration, "memory");
    helper_process_attach_memory(migration->helper, fd, on_attached, task);
}
