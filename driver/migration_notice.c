/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What happens to a migration, for who listens: notices, and what is known at one. */
#include "config.h"

#include "driver/migration_priv.h"

void migration_set_on_notice(MigrationSet *set, MigrationNoticeFunc func, gpointer data)
{
    set->notice_func = func;
    set->notice_data = data;
}

void migration_notify(Migration *migration, MigrationNotice notice, const char *detail,
                      const char *reason)
{
    MigrationSet *set = migration->set;

    if (set && set->notice_func)
        set->notice_func(migration, notice, detail, reason, set->notice_data);
}

/* ---- channels ---- */

Channel *migration_find_channel(Migration *migration, const char *kind)
{
    for (gsize i = 0; i < G_N_ELEMENTS(migration->channels); i++) {
        if (g_str_equal(migration->channels[i].kind, kind))
            return &migration->channels[i];
    }
    log_warning(&migration->log, "the helper names a channel that is not known: %s", kind);
    return NULL;
}

static void find_recovered(Migration *migration)
{
    const JobRecord *record = migration->record;
    const char *id = migration->id;
    g_autofree char *broken = NULL;

    if (!record->recovers || migration->recovered_id)
        return;
    broken = migration_set_newest_broken(migration->set, record->side, record->domain);
    migration->recovered_id = g_strdup(broken ? broken : id);
}

void migration_channel_opened(Migration *migration, const char *kind)
{
    Channel *channel = migration_find_channel(migration, kind);

    if (!channel || channel->opened || !migration->set)
        return;
    channel->opened = TRUE;
    find_recovered(migration);
    migration_notify(migration, MIGRATION_NOTICE_CHANNEL_OPENED, channel->kind, NULL);
}

void migration_channels_adopted(Migration *migration)
{
    for (gsize i = 0; i < G_N_ELEMENTS(migration->channels); i++) {
        Channel *channel = &migration->channels[i];
        HelperChannel known;

        channel->opened = helper_process_channel(migration->helper, channel->kind, &known);
    }
    if (migration->channels[0].opened)
        find_recovered(migration);
}

void migration_channel(const Migration *migration, const char *kind, MigrationChannel *ret)
{
    HelperChannel known;

    *ret = (MigrationChannel){ .lost_ms = -1 };
    for (gsize i = 0; i < G_N_ELEMENTS(migration->channels); i++) {
        const Channel *channel = &migration->channels[i];

        if (g_str_equal(channel->kind, kind)) {
            ret->opened = channel->opened;
            ret->lost_ms = channel->lost_ms;
        }
    }
    if (!migration->helper || !helper_process_channel(migration->helper, kind, &known))
        return;
    ret->tls = known.tls;
    ret->cipher = known.cipher;
    ret->peer = known.peer;
}

/* ---- recoveries ---- */

const char *migration_recovered_id(const Migration *migration)
{
    return migration->recovered_id;
}

void migration_set_own_attempt(Migration *migration)
{
    migration->own_attempt = TRUE;
}

gboolean migration_is_own_attempt(const Migration *migration)
{
    return migration->own_attempt;
}
