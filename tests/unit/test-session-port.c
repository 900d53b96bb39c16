/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The migration port: whom it lets through to what. Both ends run here. */
#include "config.h"

#include "driver/session_port.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <glib/gstdio.h>
#include <unistd.h>

#include "driver/job_record.h"
#include "driver/run_dir.h"
#include "driver/session_dial.h"
#include "util/autofd.h"

#define WAIT_S 10
#define KNOWN 7

typedef struct {
    char *dir;
    Settings *settings;
    MigrationSet *set;
    SessionPort *port;
    gboolean dialled;
    int fd;
    GError *error;
    guint rpc_calls;
    SessionPurpose purpose;
    guint8 rpc_session[MIGRATION_SESSION_LEN];
} Fixture;

/* One that was free a moment ago. */
static guint16 free_port(void)
{
    g_autoptr(GSocketListener) listener = g_socket_listener_new();
    guint16 port = g_socket_listener_add_any_inet_port(listener, NULL, NULL);

    g_socket_listener_close(listener);
    return port;
}

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    g_autofree char *conf = NULL;

    f->dir = g_dir_make_tmp("test-session-port-XXXXXX", NULL);
    conf = g_strdup_printf("helper_user = 'root'\nrun_dir = '%s'\nmigration_port = %u\n"
                           "migration_address = '127.0.0.1'\n",
                           f->dir, free_port());
    f->settings = settings_parse(conf, strlen(conf), "conf", NULL);
    f->fd = -1;
    *state = f;
    return f->settings ? 0 : -1;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    guint8 session[MIGRATION_SESSION_LEN];
    int left;

    session_port_free(f->port);
    migration_set_free(f->set);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    memset(session, KNOWN, sizeof session);
    job_record_remove(f->dir, session);
    left = g_rmdir(f->dir);
    autofd_clear(&f->fd);
    g_clear_error(&f->error);
    settings_free(f->settings);
    g_free(f->dir);
    g_free(f);
    return left;
}

static gboolean on_wait_over(gpointer data)
{
    gboolean *over = data;

    *over = TRUE;
    return G_SOURCE_CONTINUE;
}

#define wait_until(condition)                                               \
    do {                                                                    \
        gboolean over_ = FALSE;                                             \
        guint timer_ = g_timeout_add_seconds(WAIT_S, on_wait_over, &over_); \
        while (!(condition) && !over_)                                      \
            g_main_context_iteration(NULL, TRUE);                           \
        g_source_remove(timer_);                                            \
        if (!(condition))                                                   \
            fail_msg("not in %d seconds: %s", WAIT_S, #condition);          \
    } while (0)

static void on_call(int fd, SessionPurpose purpose, const char *address,
                    const guint8 session[MIGRATION_SESSION_LEN], gpointer data)
{
    Fixture *f = data;

    assert_true(fd >= 0);
    close(fd);
    memcpy(f->rpc_session, session, MIGRATION_SESSION_LEN);
    f->purpose = purpose;
    f->rpc_calls++;
}

static void save_record_at(Fixture *f, MigrationSide side, gboolean broken,
                           const char *listen_address)
{
    g_autoptr(JobRecord) record = job_record_new();

    record->side = side;
    record->domain = g_strdup("guest");
    record->uri.host = g_strdup("127.0.0.1");
    record->listen_address = g_strdup(listen_address);
    memset(record->uri.session, KNOWN, MIGRATION_SESSION_LEN);
    record->streaming = TRUE;
    record->postcopy = TRUE;
    record->broken = broken ? g_get_real_time() / G_USEC_PER_SEC : 0;
    assert_true(job_record_save(record, f->dir, NULL));
}

static void save_record(Fixture *f, MigrationSide side, gboolean broken)
{
    save_record_at(f, side, broken, NULL);
}

static void start(Fixture *f)
{
    GError *error = NULL;

    f->set = migration_set_new(f->settings, &error);
    assert_non_null(f->set);
    f->port = session_port_new(f->set, on_call, f, &error);
    if (!f->port)
        fail_msg("%s", error->message);
    migration_set_adopt(f->set);
}

static void on_dialled(GObject *source, GAsyncResult *result, gpointer data)
{
    Fixture *f = data;

    f->fd = session_dial_finish(result, &f->error);
    f->dialled = TRUE;
}

static void dial(Fixture *f, guint8 session, SessionPurpose purpose)
{
    MigrationUri uri = { .host = (char *)"127.0.0.1", .port = f->settings->migration_port };

    memset(uri.session, session, MIGRATION_SESSION_LEN);
    f->dialled = FALSE;
    autofd_clear(&f->fd);
    g_clear_error(&f->error);
    session_dial(f->settings, &uri, purpose, on_dialled, f);
    wait_until(f->dialled);
}

static void assert_refused(const Fixture *f, SessionDialError code)
{
    assert_int_equal(f->fd, -1);
    assert_true(g_error_matches(f->error, SESSION_DIAL_ERROR, (gint)code));
}

static void a_session_that_is_not_here_is_unknown(void **state)
{
    Fixture *f = *state;

    start(f);
    dial(f, KNOWN, SESSION_FOR_CHANNEL);
    assert_refused(f, SESSION_DIAL_ERROR_UNKNOWN);
    dial(f, KNOWN, SESSION_FOR_RPC);
    assert_refused(f, SESSION_DIAL_ERROR_UNKNOWN);
    assert_int_equal(f->rpc_calls, 0);
}

static void a_broken_session_can_be_recovered_and_has_no_channels(void **state)
{
    Fixture *f = *state;
    guint8 session[MIGRATION_SESSION_LEN];

    memset(session, KNOWN, sizeof session);
    save_record(f, MIGRATION_SIDE_DESTINATION, TRUE);
    start(f);
    dial(f, KNOWN, SESSION_FOR_RPC);
    assert_true(f->fd >= 0);
    wait_until(f->rpc_calls == 1);
    assert_memory_equal(f->rpc_session, session, sizeof session);
    dial(f, KNOWN, SESSION_FOR_CHANNEL);
    assert_refused(f, SESSION_DIAL_ERROR_UNKNOWN);
    dial(f, KNOWN + 1, SESSION_FOR_RPC);
    assert_refused(f, SESSION_DIAL_ERROR_UNKNOWN);
}

static void a_session_comes_in_at_its_address_alone(void **state)
{
    Fixture *f = *state;

    save_record_at(f, MIGRATION_SIDE_DESTINATION, TRUE, "127.0.0.2");
    start(f);
    dial(f, KNOWN, SESSION_FOR_RPC); /* at 127.0.0.1 */
    assert_refused(f, SESSION_DIAL_ERROR_FAILED); /* it is not said to be gone */
    assert_non_null(strstr(f->error->message, "--listen-address"));
    assert_int_equal(f->rpc_calls, 0);
}

static void a_session_comes_in_at_its_address(void **state)
{
    Fixture *f = *state;

    save_record_at(f, MIGRATION_SIDE_DESTINATION, TRUE, "127.0.0.1");
    start(f);
    dial(f, KNOWN, SESSION_FOR_RPC);
    assert_true(f->fd >= 0);
    wait_until(f->rpc_calls == 1);
}

static void a_session_that_left_from_here_cannot_be_recovered_here(void **state)
{
    Fixture *f = *state;

    save_record(f, MIGRATION_SIDE_SOURCE, TRUE);
    start(f);
    dial(f, KNOWN, SESSION_FOR_RPC);
    assert_refused(f, SESSION_DIAL_ERROR_UNKNOWN);
}

static void who_comes_while_the_helper_is_being_found_may_come_again(void **state)
{
    Fixture *f = *state;
    guint8 session[MIGRATION_SESSION_LEN];
    g_autofree char *path = NULL;
    autofd mute = -1;

    memset(session, KNOWN, sizeof session);
    path = job_record_control_path(f->dir, session);
    mute = run_dir_listen(path, NULL); /* a helper that does not answer yet */
    assert_true(mute >= 0);
    save_record(f, MIGRATION_SIDE_DESTINATION, FALSE);
    start(f);
    dial(f, KNOWN, SESSION_FOR_CHANNEL);
    assert_refused(f, SESSION_DIAL_ERROR_FAILED);
    dial(f, KNOWN, SESSION_FOR_RPC);
    assert_true(f->fd >= 0);
}

#define WITH(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(a_session_that_is_not_here_is_unknown),
        WITH(a_broken_session_can_be_recovered_and_has_no_channels),
        WITH(a_session_comes_in_at_its_address),
        WITH(a_session_comes_in_at_its_address_alone),
        WITH(a_session_that_left_from_here_cannot_be_recovered_here),
        WITH(who_comes_while_the_helper_is_being_found_may_come_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
