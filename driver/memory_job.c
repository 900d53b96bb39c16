/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/memory_job.h"

#include <errno.h>
#include <glib-unix.h>
#include <glib/gi18n.h>
#include <string.h>
#include <sys/socket.h>

#include "util/autofd.h"
#include "util/log.h"
#include "util/one_line.h"

typedef struct {
    Migration *migration;
    int fd;
    guint watch;   /* for a client that leaves */
    gboolean left; /* it has */
} MemoryJob;

static void memory_job_free(MemoryJob *job)
{
    g_clear_handle_id(&job->watch, g_source_remove);
    autofd_clear(&job->fd);
    migration_unref(job->migration);
    g_free(job);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MemoryJob, memory_job_free)

/* ---- what it is told ---- */

/* Its socket is empty, so that it takes a message at once, or it is gone. */
static gboolean send_message(int fd, HandoverMessage *message, GError **error)
{
    g_autofree guint8 *buf = g_malloc(HANDOVER_MESSAGE_MAX);
    gsize len = handover_encode(message, buf);

    if (len == 0) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    _("the memory client cannot be told: %s breaks a limit"),
                    handover_type_name(message->type));
        return FALSE;
    }
    if (send(fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (gssize)len)
        return TRUE;
    g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(errno),
                _("the memory client cannot be told: %s"), g_strerror(errno));
    return FALSE;
}

void memory_job_refuse(int fd, const char *text)
{
    g_autofree HandoverMessage *message = g_new0(HandoverMessage, 1);
    g_autofree char *line = one_line(text, HANDOVER_TEXT_MAX);

    message->type = HANDOVER_REFUSED;
    message->text = handover_text(line, strlen(line));
    (void)send_message(fd, message, NULL); /* one that has left need not hear it */
}

static gboolean welcome(const MemoryJob *job, GError **error)
{
    g_autofree HandoverMessage *message = g_new0(HandoverMessage, 1);
    g_autofree char *session = migration_session_text(job->migration);
    g_autofree char *uri = NULL;
    gboolean done;

    message->type = HANDOVER_WELCOME;
    message->welcome.session = handover_text(session, strlen(session));
    if (migration_side(job->migration) == MIGRATION_SIDE_DESTINATION)
        uri = migration_uri(job->migration);
    message->welcome.uri = handover_text(uri ? uri : "", uri ? strlen(uri) : 0);
    done = send_message(job->fd, message, error);
    if (uri)
        explicit_bzero(uri, strlen(uri));
    return done;
}

/* ---- step by step ---- */

static void on_attached(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(MemoryJob) job = data;
    g_autoptr(GError) error = NULL;

    if (!migration_finish(job->migration, result, &error))
        migration_cancel(job->migration, error->message);
}

static void on_ready(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(MemoryJob) job = data;
    Migration *migration = job->migration;
    g_autoptr(GError) error = NULL;

    g_clear_handle_id(&job->watch, g_source_remove);
    if (!migration_finish(migration, result, &error)) {
        memory_job_refuse(job->fd, error->message);
        return;
    }
    if (job->left || !welcome(job, &error)) {
        migration_cancel(migration, error ? error->message : _("the memory client has left"));
        return;
    }
    migration_attach_memory(migration, autofd_steal(&job->fd), on_attached, job);
    g_steal_pointer(&job);
}

static gboolean on_left(gint fd, GIOCondition condition, gpointer data)
{
    MemoryJob *job = data;

    job->watch = 0;
    job->left = TRUE;
    migration_cancel(job->migration, _("the memory client has left"));
    return G_SOURCE_REMOVE;
}

static void set_wishes(Migration *migration, const HandoverMessage *hello)
{
    MigrateWishes wishes = { 0 };

    wishes.bulk = hello->hello.bulk;
    if (hello->hello.compress)
        wishes.compression.wish = hello->hello.compress == 1 ? MIGRATE_COMPRESSION_ASKED
                                                             : MIGRATE_COMPRESSION_NONE;
    migration_set_wishes(migration, &wishes);
}

/* NULL: its URI is of no use, or there are too many. */
static Migration *make_migration(MigrationSet *set, uid_t uid, const HandoverMessage *hello,
                                 GError **error)
{
    g_autofree char *name = g_strndup(hello->hello.name.bytes, hello->hello.name.len);
    g_autofree char *text = g_strndup(hello->hello.uri.bytes, hello->hello.uri.len);
    g_auto(MigrationUri) uri = { 0 };
    gboolean recovers = hello->hello.recovers != 0;
    Migration *migration;

    if (!migration_set_has_memory_room(set, uid, error))
        return NULL;
    if (hello->hello.role == HANDOVER_DESTINATION)
        return migration_new_memory(set, MIGRATION_SIDE_DESTINATION, name, NULL, uid, recovers);
    if (!migration_uri_parse(text, &uri, error))
        return NULL;
    migration = migration_new_memory(set, MIGRATION_SIDE_SOURCE, name, &uri, uid, recovers);
    set_wishes(migration, hello);
    return migration;
}

void memory_job_begin(MigrationSet *set, int fd, uid_t uid, const char *who,
                      const HandoverMessage *hello)
{
    g_autoptr(GError) error = NULL;
    MemoryJob *job = g_new0(MemoryJob, 1);

    job->fd = fd;
    job->migration = make_migration(set, uid, hello, &error);
    if (!job->migration) {
        log_warning(NULL, "memory client (%s): %s", who, error->message);
        memory_job_refuse(fd, error->message);
        memory_job_free(job);
        return;
    }
    log_info(NULL, "memory client (%s): %s, the %s of session %s", who,
             migration_domain(job->migration),
             migration_side(job->migration) == MIGRATION_SIDE_SOURCE ? "source" : "destination",
             migration_id(job->migration));
    job->watch = g_unix_fd_add(fd, G_IO_HUP, on_left, job);
    if (migration_side(job->migration) == MIGRATION_SIDE_DESTINATION)
        migration_prepare(job->migration, on_ready, job);
    else
        migration_connect(job->migration, NULL, on_ready, job);
}
