/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory of a destination QEMU, for its helper to place pages in: a duplicate of the userfaultfd that QEMU
 * opens when it has got the package with the devices, and what is registered with it. Without it, or when it
 * does not fit, all pages come to QEMU on its stream: what fails here is a line in the log. */
#include "config.h"

#include <glib/gi18n.h>

#include "driver/migration_priv.h"
#include "driver/placed_file.h"
#include "driver/qemu_uffd.h"
#include "util/autofd.h"

/* QEMU needs a moment for the package, longer if devices touch memory that is not there yet. */
#define LOOK_EVERY_MS 10
#define LOOKS_MAX 900

/* See SetPlacing in ram/org.libvirt.Postcopy1.xml. */
#define RECORD_HEAD 24
#define RECORD_RANGE 304
#define RECORD_PAGE 4096

static guint64 record_size(const GArray *ranges)
{
    guint64 size = RECORD_HEAD;

    for (guint i = 0; i < ranges->len; i++) {
        guint64 pages = g_array_index(ranges, QemuRegistered, i).length / RECORD_PAGE;

        size += RECORD_RANGE + pages / 8 + 1;
    }
    return size;
}

static GVariant *ranges_of(const GArray *ranges)
{
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE("a(ttts)"));
    for (guint i = 0; i < ranges->len; i++) {
        const QemuRegistered *r = &g_array_index(ranges, QemuRegistered, i);

        g_variant_builder_add(&builder, "(ttts)", r->address, r->length, r->page_size, r->backing);
    }
    return g_variant_builder_end(&builder);
}

/* ---- offering it ---- */

/* FALSE with *ret_later TRUE: it may still come. */
static gboolean offer(Migration *migration, gboolean *ret_later, GError **error)
{
    g_autoptr(QemuProcess) qemu =
        qemu_process_open(QEMU_PROCESS_RUN_DIR, migration_domain(migration), error);
    g_autofree char *text = NULL;
    g_autoptr(GArray) ranges = NULL;
    autofd uffd = -1, record = -1;
    gboolean several = FALSE;

    *ret_later = FALSE;
    if (!qemu)
        return FALSE;
    uffd = qemu_uffd_dup(qemu, &several, error);
    *ret_later = uffd < 0 && !several;
    if (uffd < 0)
        return FALSE;
    text = qemu_process_read_file(qemu, "smaps", error);
    ranges = text ? qemu_uffd_parse_smaps(text, error) : NULL;
    if (!ranges)
        return FALSE;
    *ret_later = ranges->len == 0;
    if (ranges->len == 0) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                            _("QEMU has registered no memory"));
        return FALSE;
    }
    record = placed_file_make(migration->set->run_dir, qemu, record_size(ranges), error);
    if (record < 0)
        return FALSE;
    helper_process_set_placing(migration->helper, autofd_steal(&uffd), autofd_steal(&record),
                               ranges_of(ranges));
    log_debug(&migration->log, "the memory of QEMU, process %d, is offered to the helper",
              (int)qemu_process_pid(qemu));
    return TRUE;
}

/* ---- in a recovery ---- */

/* -1 with G_IO_ERROR_NOT_FOUND: nothing was placed before. */
static int open_placed(Migration *migration, GError **error)
{
    g_autoptr(QemuProcess) qemu =
        qemu_process_open(QEMU_PROCESS_RUN_DIR, migration_domain(migration), error);

    return qemu ? placed_file_open(migration->set->run_dir, qemu, error) : -1;
}

static gboolean has_placed(Migration *migration)
{
    autofd fd = migration->record->recovers ? open_placed(migration, NULL) : -1;

    return fd >= 0;
}

void migration_tell_placed(Migration *migration)
{
    g_autoptr(GError) error = NULL;
    int fd;

    if (!migration->record->recovers || !migration->set || migration_is_memory(migration))
        return;
    fd = open_placed(migration, &error);
    if (fd >= 0)
        helper_process_set_placed(migration->helper, fd);
    else if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND))
        log_warning(&migration->log, "what was placed in QEMU's memory: %s", error->message);
}

/* ---- looking for it ---- */

static gboolean on_look(gpointer data)
{
    Migration *migration = data;
    g_autoptr(GError) error = NULL;
    gboolean later;

    if (!migration->set || migration->over || migration->ended ||
        offer(migration, &later, &error))
        return G_SOURCE_REMOVE;
    if (later && ++migration->placing_looks < LOOKS_MAX)
        return G_SOURCE_CONTINUE;
    helper_process_refuse_placing(migration->helper, error->message);
    return G_SOURCE_REMOVE;
}

void migration_place_pages(Migration *migration, const char *phase)
{
    if (migration_side(migration) != MIGRATION_SIDE_DESTINATION ||
        migration_is_memory(migration) || !migration->set || migration->over ||
        migration->placing_looks > 0 || !g_str_equal(phase, "running") ||
        helper_process_places(migration->helper))
        return;
    /* What a session before this one has begun is gone on with, whatever the setting says now. */
    if (!migration->set->settings->migration_direct_placing && !has_placed(migration))
        return;
    migration->placing_looks = 1;
    g_timeout_add_full(G_PRIORITY_HIGH, LOOK_EVERY_MS, on_look, migration_ref(migration),
                       (GDestroyNotify)migration_unref);
}

void migration_forget_placed(Migration *migration)
{
    g_autoptr(QemuProcess) qemu = NULL;

    if (migration_side(migration) != MIGRATION_SIDE_DESTINATION || !migration->set)
        return;
    qemu = qemu_process_open(QEMU_PROCESS_RUN_DIR, migration_domain(migration), NULL);
    if (qemu && migration->completed)
        placed_file_remove(migration->set->run_dir, qemu);
    placed_file_sweep(migration->set->run_dir);
}
