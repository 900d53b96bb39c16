/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory of a source QEMU, for its helper to read once the guest has stopped. Without it, or
 * when it turns out not to be the guest's, everything comes on QEMU's stream: what fails here is a
 * line in the log. */
#include "config.h"

#include <fcntl.h>

#include "driver/migration_priv.h"
#include "driver/qemu_process.h"
#include "util/autofd.h"

/* RAM is readable and writable; a device is left alone. */
static GVariant *ranges_of(const GArray *mappings)
{
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE("a(tt)"));
    for (guint i = 0; i < mappings->len; i++) {
        const QemuMapping *m = &g_array_index(mappings, QemuMapping, i);

        if (m->readable && m->writable && !m->device)
            g_variant_builder_add(&builder, "(tt)", m->start, m->end);
    }
    return g_variant_builder_end(&builder);
}

static gboolean offer(Migration *migration, GError **error)
{
    g_autoptr(QemuProcess) qemu =
        qemu_process_open(QEMU_PROCESS_RUN_DIR, migration_domain(migration), error);
    g_autofree char *text = NULL;
    g_autoptr(GArray) mappings = NULL;
    autofd fd = -1;

    if (!qemu)
        return FALSE;
    fd = qemu_process_open_file(qemu, "mem", O_RDONLY, error);
    if (fd < 0)
        return FALSE;
    text = qemu_process_read_file(qemu, "maps", error);
    mappings = text ? qemu_process_parse_maps(text, error) : NULL;
    if (!mappings)
        return FALSE;
    helper_process_set_reading(migration->helper, autofd_steal(&fd), ranges_of(mappings));
    log_debug(&migration->log, "the memory of QEMU, process %d, is offered to the helper",
              (int)qemu_process_pid(qemu));
    return TRUE;
}

/* What the recoveries of a guest would come to again, and fail for again. */
gboolean migration_reading_failed(const Migration *migration)
{
    const JobRecord *record = migration->record;
    const JobRecord *before = NULL;

    if (record->side != MIGRATION_SIDE_SOURCE)
        return FALSE;
    if (record->recovers)
        before = migration_set_find_broken(migration->set, record->side, record->domain);
    return (before && before->reading_failed) ||
           (migration->helper && helper_process_reading_failed(migration->helper));
}

/* Its guest has stopped, and does not run here again unless the migration fails. */
static gboolean has_stopped(const char *phase)
{
    return g_str_equal(phase, "device") || g_str_equal(phase, "postcopy-active") ||
           g_str_equal(phase, "postcopy-recover");
}

void migration_offer_memory(Migration *migration, const char *phase)
{
    g_autoptr(GError) error = NULL;

    if (migration_side(migration) != MIGRATION_SIDE_SOURCE || migration_is_memory(migration) ||
        !migration->set || !migration->set->settings->migration_direct_reading ||
        migration->memory_offered || !has_stopped(phase) || migration->over)
        return;
    migration->memory_offered = TRUE;
    /* It is QEMU that keeps to it. */
    if (migration->record->speed_limit.user > 0) {
        log_info(&migration->log,
                 "QEMU's memory is not read: --postcopy-bandwidth is for its stream");
        return;
    }
    if (migration_reading_failed(migration)) {
        log_info(&migration->log, "QEMU's memory is not read: that failed before this recovery");
        return;
    }
    /* One that was taken over may have it since the daemon before this one. */
    if (helper_process_reads(migration->helper))
        return;
    if (!offer(migration, &error))
        log_warning(&migration->log, "QEMU's memory is not read, its pages come on its stream: %s",
                    error->message);
}
