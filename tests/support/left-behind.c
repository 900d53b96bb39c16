/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/left-behind.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <gio/gunixfdlist.h>
#include <glib/gstdio.h>
#include <unistd.h>

#include "driver/run_dir.h"
#include "ram/job_outcome.h"
#include "util/autofd.h"

int left_setup(void **state)
{
    Left *f = g_new0(Left, 1);
    g_autofree char *conf = NULL;

    f->dir = g_dir_make_tmp("test-migration-keep-XXXXXX", NULL);
    conf = g_strdup_printf("helper_user = 'root'\nrun_dir = '%s'\nrecover_timeout = 600\n", f->dir);
    f->settings = settings_parse(conf, strlen(conf), "conf", NULL);
    f->told = g_string_new(NULL);
    *state = f;
    return f->settings ? 0 : -1;
}

int left_teardown(void **state)
{
    Left *f = *state;
    g_autoptr(GDir) dir = NULL;
    const char *name;
    int left;

    migration_set_free(f->set);
    dir = g_dir_open(f->dir, 0, NULL);
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(f->dir, name, NULL);

        g_unlink(path);
    }
    left = g_rmdir(f->dir);
    settings_free(f->settings);
    g_string_free(f->told, TRUE);
    g_free(f->dir);
    g_free(f);
    return left;
}

gboolean left_on_wait_over(gpointer data)
{
    gboolean *over = data;

    *over = TRUE;
    return G_SOURCE_CONTINUE;
}

static void on_broken(MigrationSet *set, const JobRecord *record, gpointer data)
{
    Left *f = data;

    g_string_append_printf(f->told, "%x", record->uri.session[0]);
}

gboolean left_on_called(gpointer data)
{
    Left *f = data;

    f->calls++;
    return G_SOURCE_REMOVE;
}

JobRecord *left_make_record(MigrationSide side, guint8 number)
{
    JobRecord *record = job_record_new();

    record->side = side;
    record->domain = g_strdup(DOMAIN_NAME);
    record->uri.host = g_strdup("127.0.0.1");
    record->uri.port = 1;
    memset(record->uri.session, number, MIGRATION_SESSION_LEN);
    record->streaming = TRUE;
    record->postcopy = TRUE;
    record->begun = number;
    return record;
}

void left_save(Left *f, JobRecord *record)
{
    assert_true(job_record_save(record, f->dir, NULL));
    job_record_free(record);
}

void left_save_outcome(Left *f, guint8 number, const char *state, const char *phase)
{
    guint8 session[MIGRATION_SESSION_LEN];
    g_autofree char *text = job_outcome_text(state, phase, "", "as the test says");
    autofd fd = -1;

    memset(session, number, sizeof session);
    fd = job_record_make_outcome(f->dir, session, NULL);
    assert_true(fd >= 0);
    assert_true(job_outcome_write(fd, text, NULL));
}

const JobRecord *left_find(Left *f, MigrationSide side, guint8 number)
{
    guint8 session[MIGRATION_SESSION_LEN];

    memset(session, number, sizeof session);
    return migration_set_find_record(f->set, side, session);
}

guint left_count_files(Left *f)
{
    g_autoptr(GDir) dir = g_dir_open(f->dir, 0, NULL);
    guint n = 0;

    while (g_dir_read_name(dir))
        n++;
    return n;
}

gboolean left_has_files(Left *f)
{
    return left_count_files(f) > 0;
}

/* As the daemon starts. */
void left_start(Left *f)
{
    GError *error = NULL;

    f->set = migration_set_new(f->settings, &error);
    assert_non_null(f->set);
    migration_set_on_broken(f->set, on_broken, f);
    migration_set_adopt(f->set);
}

/* No helper is left: what is broken is told in the next turns of the loop, or not at all. */
void left_settle(Left *f)
{
    guint before = f->calls;

    migration_set_supersede(f->set, MIGRATION_SIDE_SOURCE, "nobody", FALSE, G_MAXINT64,
                            left_on_called, f);
    wait_until(f->calls == before + 1);
    while (g_main_context_iteration(NULL, FALSE))
        ;
}

/* ---- helpers that live ---- */

static void on_helper_connected(GObject *source, GAsyncResult *result, gpointer data)
{
    FakeHelper *helper = data;
    GError *error = NULL;

    helper->connection = g_dbus_connection_new_finish(result, &error);
    assert_non_null(helper->connection);
    assert_true(g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(helper->object),
                                                 helper->connection,
                                                 "/org/libvirt/Postcopy1/Migration", NULL));
    g_dbus_connection_start_message_processing(helper->connection);
}

static gboolean on_incoming(GSocketService *service, GSocketConnection *connection,
                            GObject *source, gpointer data)
{
    g_dbus_connection_new(G_IO_STREAM(connection), NULL,
                          G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                              G_DBUS_CONNECTION_FLAGS_DELAY_MESSAGE_PROCESSING,
                          NULL, NULL, on_helper_connected, data);
    return TRUE;
}

static gboolean on_cancel(PostcopyMigration *object, GDBusMethodInvocation *call,
                          const char *reason, gpointer data)
{
    FakeHelper *helper = data;

    g_string_append(helper->calls, "cancel ");
    postcopy_migration_complete_cancel(object, call);
    return TRUE;
}

static gboolean on_refuse(PostcopyMigration *object, GDBusMethodInvocation *call,
                          const char *reason, gpointer data)
{
    FakeHelper *helper = data;

    g_string_append(helper->calls, "refuse ");
    postcopy_migration_complete_refuse_qemu(object, call);
    return TRUE;
}

static gboolean on_abandon(PostcopyMigration *object, GDBusMethodInvocation *call,
                           const char *reason, gpointer data)
{
    FakeHelper *helper = data;

    g_string_append(helper->calls, "abandon ");
    postcopy_migration_complete_abandon_peer(object, call);
    return TRUE;
}

static gboolean on_reconnect(PostcopyMigration *object, GDBusMethodInvocation *call,
                             GUnixFDList *fds, GVariant *handle, const char *host,
                             const char *kind, gpointer data)
{
    FakeHelper *helper = data;

    g_string_append_printf(helper->calls, "%s@%s ", kind, host);
    autofd_clear(&helper->fd);
    helper->fd = g_unix_fd_list_get(fds, 0, NULL);
    postcopy_migration_complete_reconnect_channel(object, call, NULL);
    return TRUE;
}

void fake_helper_init(FakeHelper *helper, Left *f, guint8 number)
{
    static const char *const none[] = { NULL };
    guint8 session[MIGRATION_SESSION_LEN];
    g_autofree char *path = NULL;
    g_autoptr(GSocket) socket = NULL;

    memset(session, number, sizeof session);
    path = job_record_control_path(f->dir, session);
    socket = g_socket_new_from_fd(run_dir_listen(path, NULL), NULL);
    assert_non_null(socket);
    helper->fd = -1;
    helper->calls = g_string_new(NULL);
    helper->service = g_socket_service_new();
    assert_true(g_socket_listener_add_socket(G_SOCKET_LISTENER(helper->service), socket, NULL,
                                             NULL));
    g_signal_connect(helper->service, "incoming", G_CALLBACK(on_incoming), helper);
    helper->object = postcopy_migration_skeleton_new();
    g_object_set(helper->object, "state", "active", "phase", "postcopy-active", "last-error", "",
                 "ended-by", "", "tls-version", "", "tls-cipher", "", "peer-name", "",
                 "channels-lost", none, NULL);
    g_signal_connect(helper->object, "handle-cancel", G_CALLBACK(on_cancel), helper);
    g_signal_connect(helper->object, "handle-refuse-qemu", G_CALLBACK(on_refuse), helper);
    g_signal_connect(helper->object, "handle-abandon-peer", G_CALLBACK(on_abandon), helper);
    g_signal_connect(helper->object, "handle-reconnect-channel", G_CALLBACK(on_reconnect), helper);
}

/* As if it had ended. */
void fake_helper_leave(FakeHelper *helper)
{
    if (helper->connection)
        g_dbus_connection_close_sync(helper->connection, NULL, NULL);
    g_clear_object(&helper->connection);
}

void fake_helper_end(FakeHelper *helper, const char *state, const char *reason)
{
    postcopy_migration_set_state(helper->object, state);
    g_dbus_interface_skeleton_flush(G_DBUS_INTERFACE_SKELETON(helper->object));
    postcopy_migration_emit_state_changed(helper->object, state, reason, "");
    g_dbus_connection_flush_sync(helper->connection, NULL, NULL);
    fake_helper_leave(helper);
}

void fake_helper_clear(FakeHelper *helper)
{
    fake_helper_leave(helper);
    g_socket_service_stop(helper->service);
    g_socket_listener_close(G_SOCKET_LISTENER(helper->service));
    g_object_unref(helper->service);
    g_object_unref(helper->object);
    g_string_free(helper->calls, TRUE);
    autofd_clear(&helper->fd);
}
void left_start_with(Left *f, FakeHelper *helper, JobRecord *record)
{
    fake_helper_init(helper, f, record->uri.session[0]);
    left_save(f, record);
    left_start(f);
}

Migration *left_source_of(Left *f)
{
    return migration_set_find_source(f->set, DOMAIN_NAME);
}
