/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Dialling a session's peer, once and again. */
#include "config.h"

#include "driver/redial.h"
#include "driver/session_dial.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/fake-port.h"
#include "util/autofd.h"

#define WAIT_S 10

static const LogContext log_context = { .migration = "test" };

typedef struct {
    Settings *settings;
    MigrationUri uri;
    guint connected;
    guint unknown;
    guint dialled;
    int fd;
    GError *error;
} Fixture;

static int setup(void **state)
{
    static const char conf[] = "connect_timeout = 1\n";
    Fixture *f = g_new0(Fixture, 1);

    f->settings = settings_parse(conf, strlen(conf), "conf", NULL);
    f->uri.host = g_strdup("127.0.0.1");
    memset(f->uri.session, 0x5a, MIGRATION_SESSION_LEN);
    f->fd = -1;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;

    autofd_clear(&f->fd);
    g_clear_error(&f->error);
    migration_uri_clear(&f->uri);
    settings_free(f->settings);
    g_free(f);
    return 0;
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

/* ---- once ---- */

static void on_dialled(GObject *source, GAsyncResult *result, gpointer data)
{
    Fixture *f = data;

    autofd_clear(&f->fd);
    g_clear_error(&f->error);
    f->fd = session_dial_finish(result, &f->error);
    f->dialled++;
}

static void dial(Fixture *f, FakePort *port, SessionPurpose purpose)
{
    guint before = f->dialled;

    f->uri.port = port->port;
    session_dial(f->settings, &f->uri, purpose, on_dialled, f);
    wait_until(f->dialled == before + 1);
}

static void the_preamble_says_what_the_connection_is_for(void **state)
{
    Fixture *f = *state;
    g_auto(FakePort) port = { 0 };

    fake_port_init(&port, "\001");
    dial(f, &port, SESSION_FOR_CHANNEL);
    assert_true(f->fd >= 0);
    assert_memory_equal(port.preamble, "virt-postcopy/1\n", SESSION_PREAMBLE_MAGIC_LEN);
    assert_memory_equal(port.preamble + SESSION_PREAMBLE_MAGIC_LEN, f->uri.session,
                        MIGRATION_SESSION_LEN);
    dial(f, &port, SESSION_FOR_RPC);
    assert_true(f->fd >= 0);
    assert_memory_equal(port.preamble, "virt-postcopy/1r", SESSION_PREAMBLE_MAGIC_LEN);
}

static void only_an_unknown_session_is_final(void **state)
{
    static const struct {
        const char *answer;
        SessionDialError code;
        const char *message;
    } rows[] = {
        { "\002", SESSION_DIAL_ERROR_UNKNOWN, "does not know this session" },
        { "\003", SESSION_DIAL_ERROR_FAILED, "too busy" },
        { "\004", SESSION_DIAL_ERROR_FAILED, "is not virtpostcopyd" },
        { "-", SESSION_DIAL_ERROR_FAILED, "closed the connection" },
    };
    Fixture *f = *state;

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(FakePort) port = { 0 };

        fake_port_init(&port, rows[i].answer);
        dial(f, &port, SESSION_FOR_CHANNEL);
        assert_int_equal(f->fd, -1);
        assert_true(g_error_matches(f->error, SESSION_DIAL_ERROR, (gint)rows[i].code));
        assert_non_null(strstr(f->error->message, rows[i].message));
        assert_non_null(strstr(f->error->message, "127.0.0.1"));
    }
}

static void nobody_there_is_not_final(void **state)
{
    Fixture *f = *state;
    FakePort port = { 0 };

    fake_port_init(&port, "\001");
    fake_port_clear(&port);
    dial(f, &port, SESSION_FOR_CHANNEL);
    assert_true(g_error_matches(f->error, SESSION_DIAL_ERROR, SESSION_DIAL_ERROR_FAILED));
}

static void one_who_never_answers_is_not_waited_for_for_ever(void **state)
{
    Fixture *f = *state;
    g_autoptr(GSocketListener) listener = g_socket_listener_new();
    FakePort silent = { 0 };
    g_autoptr(GError) error = NULL;

    /* The kernel accepts for it. */
    silent.port = g_socket_listener_add_any_inet_port(listener, NULL, &error);
    assert_int_not_equal(silent.port, 0);
    dial(f, &silent, SESSION_FOR_CHANNEL);
    assert_true(g_error_matches(f->error, SESSION_DIAL_ERROR, SESSION_DIAL_ERROR_FAILED));
    assert_non_null(strstr(f->error->message, "no answer within 1 seconds"));
}

/* ---- again ---- */

static void on_connected(const char *kind, int fd, gpointer data)
{
    Fixture *f = data;

    assert_string_equal(kind, "main");
    autofd_clear(&f->fd);
    f->fd = fd;
    f->connected++;
}

static void on_unknown(const char *kind, const char *reason, gpointer data)
{
    Fixture *f = data;

    assert_string_equal(kind, "main");
    f->unknown++;
}

static const RedialHandlers handlers = { .connected = on_connected, .unknown = on_unknown };

static Redial *redial_for(Fixture *f, FakePort *port)
{
    f->uri.port = port->port;
    return redial_new(f->settings, &f->uri, "main", &log_context, &handlers, f);
}

static void the_pause_grows_to_three_seconds(void **state)
{
    static const guint pauses[] = { 0, 100, 200, 500, 1000, 2000, 3000, 3000 };

    for (guint i = 0; i < G_N_ELEMENTS(pauses); i++)
        assert_int_equal(redial_pause_ms(i), pauses[i]);
    assert_int_equal(redial_pause_ms(G_MAXUINT), 3000);
}

static void it_is_dialled_until_there_is_an_answer(void **state)
{
    Fixture *f = *state;
    g_auto(FakePort) port = { 0 };
    Redial *redial;

    fake_port_init(&port, "-\003\001");
    redial = redial_for(f, &port);
    redial_lost(redial);
    redial_lost(redial); /* said twice is dialled once */
    wait_until(f->connected == 1);
    assert_true(f->fd >= 0);
    assert_int_equal(port.callers, 3);
    assert_int_equal(redial_attempts(redial), 3);
    redial_free(redial);
}

static void a_channel_that_was_back_for_a_while_is_dialled_at_once_the_next_time(void **state)
{
    Fixture *f = *state;
    g_auto(FakePort) port = { 0 };
    Redial *redial;

    fake_port_init(&port, "\001");
    redial = redial_for(f, &port);
    redial_lost(redial);
    wait_until(f->connected == 1);
    redial_lost(redial); /* the connection was in vain */
    wait_until(f->connected == 2);
    assert_int_equal(redial_attempts(redial), 2);
    redial_resumed(redial);
    g_usleep((REDIAL_STEADY_S + 1) * G_USEC_PER_SEC);
    redial_lost(redial);
    wait_until(f->connected == 3);
    assert_int_equal(redial_attempts(redial), 1);
    redial_free(redial);
}

static void one_that_comes_back_only_to_be_lost_is_dialled_after_a_short_pause(void **state)
{
    Fixture *f = *state;
    g_auto(FakePort) port = { 0 };
    Redial *redial;

    fake_port_init(&port, "\001");
    redial = redial_for(f, &port);
    for (guint i = 1; i <= 4; i++) {
        redial_lost(redial);
        wait_until(f->connected == i);
        redial_resumed(redial);
        assert_int_equal(redial_attempts(redial), MIN(i, 2));
    }
    assert_true(redial_pause_ms(2) > 0);
    redial_free(redial);
}

static void a_session_that_is_not_known_is_dialled_no_more(void **state)
{
    Fixture *f = *state;
    g_auto(FakePort) port = { 0 };
    Redial *redial;

    fake_port_init(&port, "\002\002\002\001");
    redial = redial_for(f, &port);
    redial_lost(redial);
    wait_until(f->unknown == 1);
    redial_lost(redial);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    assert_int_equal(port.callers, 3);
    assert_int_equal(f->connected, 0);
    redial_free(redial);
}

static void that_it_is_not_known_is_believed_only_if_it_is_said_again(void **state)
{
    Fixture *f = *state;
    g_auto(FakePort) port = { 0 };
    Redial *redial;

    fake_port_init(&port, "\002\002\003\002\001\002\001");
    redial = redial_for(f, &port);
    redial_lost(redial);
    wait_until(f->connected == 1);
    redial_lost(redial);
    wait_until(f->connected == 2);
    assert_int_equal(f->unknown, 0);
    assert_int_equal(port.callers, 7);
    redial_free(redial);
}

static void one_that_was_freed_while_it_dialled_is_silent(void **state)
{
    Fixture *f = *state;
    g_auto(FakePort) port = { 0 };
    Redial *redial;

    fake_port_init(&port, "\001");
    redial = redial_for(f, &port);
    redial_lost(redial);
    wait_until(redial_attempts(redial) == 1);
    redial_free(redial);
    dial(f, &port, SESSION_FOR_CHANNEL); /* which comes later */
    wait_until(port.callers == 2);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    assert_int_equal(f->connected, 0);
}

#define WITH(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(the_preamble_says_what_the_connection_is_for),
        WITH(only_an_unknown_session_is_final),
        WITH(nobody_there_is_not_final),
        WITH(one_who_never_answers_is_not_waited_for_for_ever),
        cmocka_unit_test(the_pause_grows_to_three_seconds),
        WITH(it_is_dialled_until_there_is_an_answer),
        WITH(a_channel_that_was_back_for_a_while_is_dialled_at_once_the_next_time),
        WITH(one_that_comes_back_only_to_be_lost_is_dialled_after_a_short_pause),
        WITH(a_session_that_is_not_known_is_dialled_no_more),
        WITH(that_it_is_not_known_is_believed_only_if_it_is_said_again),
        WITH(one_that_was_freed_while_it_dialled_is_silent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
