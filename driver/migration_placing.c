/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory of a destination QEMU, for its helper to place pages in: a duplicate of the userfaultfd that QEMU
 * opens when it has got the package with the devices, and what is registered with it. Without it, or when it
 * does not fit, all pages come to QEMU on its stream: what fails here is a line in the log. */
#include "config.h"

#include <fcntl.h>
#include <glib/gi18n.h>

#include "driver/migration_priv.h"
#include "driver/placed_file.h"
#include "driver/qemu_uffd.h"
#include "util/autofd.h"

/* QEMU needs a moment for the package, longer if devices touch memory that is not there yet. */
#define LOOK_EVERY_MS 10
#define LOOKS_MAX 900
/* That many looks in a row see its one userfaultfd before what is registered with it is read: for a moment it may be
 * another one, with which QEMU finds out what the kernel can do, and while QEMU still registers the reading would be
 * in its way, as both need the lock of its memory. */
#define LOOKS_ALONE 3
/* More than one is believed at the second look. */
#define LOOKS_SEVERAL 2
/* And that often it is read until two readings are the same. */
#define READINGS_MAX 5

typedef struct {
    Migration *migration;
    QemuProcess *qemu; /* from the first look on: it is never another. While it is read, of the thread that reads */
    gboolean again;    /* a session before this one has placed pages there: all is registered */
    guint looks;
    guint alone;   /* looks in a row that have seen one userfaultfd ... */
    guint several; /* ... or several */
    guint readings;
    GArray *registered; /* of QemuRegistered, as it was read last; or NULL */
} Look;

static void look_free(Look *look)
{
    g_clear_pointer(&look->registered, g_array_unref);
    qemu_process_free(look->qemu);
    migration_unref(look->migration);
    g_free(look);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Look, look_free)

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

/* ---- in a recovery ---- */

/* A kernel need not have it. An empty file then. */
static int open_pagemap(const Migration *migration, const QemuProcess *qemu)
{
    g_autoptr(GError) error = NULL;
    int fd = qemu_process_open_file(qemu, "pagemap", O_RDONLY, &error);

    if (fd >= 0)
        return fd;
    log_warning(&migration->log, "what is in place in QEMU's memory: %s", error->message);
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* -1 with G_IO_ERROR_NOT_FOUND: nothing was placed before. ret_pagemap: of QEMU, or NULL. */
static int open_placed(Migration *migration, int *ret_pagemap, GError **error)
{
    g_autoptr(QemuProcess) qemu =
        qemu_process_open(QEMU_PROCESS_RUN_DIR, migration_domain(migration), error);
    int fd = qemu ? placed_file_open(migration->set->run_dir, qemu, error) : -1;

    if (fd >= 0 && ret_pagemap)
        *ret_pagemap = open_pagemap(migration, qemu);
    return fd;
}

static gboolean has_placed(Migration *migration)
{
    autofd fd = migration->record->recovers ? open_placed(migration, NULL, NULL) : -1;

    return fd >= 0;
}

void migration_tell_placed(Migration *migration)
{
    g_autoptr(GError) error = NULL;
    autofd pagemap = -1;
    autofd fd = -1;

    if (!migration->record->recovers || !migration->set || migration_is_memory(migration))
        return;
    fd = open_placed(migration, &pagemap, &error);
    if (fd >= 0 && pagemap >= 0)
        helper_process_set_placed(migration->helper, autofd_steal(&fd), autofd_steal(&pagemap));
    else if (error && !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND))
        log_warning(&migration->log, "what was placed in QEMU's memory: %s", error->message);
}

/* ---- offering it ---- */

/* Takes uffd. */
static gboolean offer(const Look *look, int uffd, GError **error)
{
    Migration *migration = look->migration;
    autofd owned = uffd;
    autofd record = -1;
    guint64 size;

    if (!placed_file_size(look->registered, &size, error))
        return FALSE;
    record = placed_file_make(migration->set->run_dir, look->qemu, size, error);
    if (record < 0)
        return FALSE;
    helper_process_set_placing(migration->helper, autofd_steal(&owned), autofd_steal(&record),
                               ranges_of(look->registered));
    log_debug(&migration->log, "the memory of QEMU, process %d, is offered to the helper",
              (int)qemu_process_pid(look->qemu));
    return TRUE;
}

/* ---- reading what is registered ---- */

static void look_later(Look *look);

static gboolean is_in_vain(const Look *look)
{
    const Migration *migration = look->migration;

    return !migration->set || migration->over || migration->ended;
}

static void refuse(const Look *look, const GError *error)
{
    helper_process_refuse_placing(look->migration->helper, error->message);
}

/* The kernel goes through all page tables for it: seconds for a large guest. */
static void read_registered(GTask *task, gpointer source, gpointer qemu, GCancellable *cancellable)
{
    GError *error = NULL;
    g_autofree char *text = qemu_process_read_file(qemu, "smaps", &error);
    GArray *ranges = text ? qemu_uffd_parse_smaps(text, &error) : NULL;

    if (ranges)
        g_task_return_pointer(task, ranges, (GDestroyNotify)g_array_unref);
    else
        g_task_return_error(task, error);
}

/* Takes ranges. TRUE: that is what QEMU has registered. */
static gboolean is_settled(Look *look, GArray *ranges)
{
    g_autoptr(GArray) before = look->registered;

    look->registered = ranges;
    return ranges->len > 0 && (look->again || (before && qemu_uffd_is_same(before, ranges)));
}

static void on_registered(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(Look) look = data;
    g_autoptr(GError) error = NULL;
    GArray *ranges = g_task_propagate_pointer(G_TASK(result), &error);
    gboolean settled = ranges && is_settled(look, ranges);
    autofd uffd = -1;

    if (is_in_vain(look))
        return;
    /* Else QEMU has ended, or has another one for the moment. */
    if (settled)
        uffd = qemu_uffd_dup(look->qemu, NULL, NULL);
    if (uffd >= 0 && offer(look, autofd_steal(&uffd), &error))
        return;
    if (!error && ++look->readings < READINGS_MAX) {
        look_later(g_steal_pointer(&look));
        return;
    }
    if (!error)
        g_set_error_literal(&error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                            ranges->len == 0 ? _("QEMU has registered no memory")
                                             : _("what QEMU has registered changes"));
    refuse(look, error);
}

/* Takes it. */
static void start_reading(Look *look)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, on_registered, look);

    g_task_set_priority(task, G_PRIORITY_HIGH);
    g_task_set_task_data(task, look->qemu, NULL);
    g_task_run_in_thread(task, read_registered);
}

/* ---- looking for it ---- */

/* FALSE with error: it will not come. */
static gboolean look_for_uffd(Look *look, GError **error)
{
    g_autoptr(GError) none = NULL;
    gboolean several = FALSE;
    autofd uffd = -1;

    if (!look->qemu)
        look->qemu = qemu_process_open(QEMU_PROCESS_RUN_DIR, migration_domain(look->migration),
                                       error);
    if (!look->qemu)
        return FALSE;
    uffd = qemu_uffd_dup(look->qemu, &several, &none);
    look->alone = uffd >= 0 ? look->alone + 1 : 0;
    look->several = several ? look->several + 1 : 0;
    if (uffd >= 0 || (look->several < LOOKS_SEVERAL && ++look->looks < LOOKS_MAX))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&none));
    return FALSE;
}

static gboolean on_look(gpointer data)
{
    g_autoptr(Look) look = data;
    g_autoptr(GError) error = NULL;

    if (is_in_vain(look))
        return G_SOURCE_REMOVE;
    if (!look_for_uffd(look, &error)) {
        refuse(look, error);
        return G_SOURCE_REMOVE;
    }
    if (look->alone >= (look->again ? 1 : LOOKS_ALONE)) {
        start_reading(g_steal_pointer(&look));
        return G_SOURCE_REMOVE;
    }
    look = NULL;
    return G_SOURCE_CONTINUE;
}

/* Takes it. */
static void look_later(Look *look)
{
    g_timeout_add_full(G_PRIORITY_HIGH, LOOK_EVERY_MS, on_look, look, NULL);
}

void migration_place_pages(Migration *migration, const char *phase)
{
    gboolean again;
    Look *look;

    if (migration_side(migration) != MIGRATION_SIDE_DESTINATION ||
        migration_is_memory(migration) || !migration->set || migration->over ||
        migration->placing_begun || !g_str_equal(phase, "running") ||
        helper_process_places(migration->helper))
        return;
    /* What a session before this one has begun is gone on with, whatever the setting says now. */
    again = has_placed(migration);
    if (!migration->set->settings->migration_direct_placing && !again)
        return;
    migration->placing_begun = TRUE;
    look = g_new0(Look, 1);
    look->migration = migration_ref(migration);
    look->again = again;
    look_later(look);
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
