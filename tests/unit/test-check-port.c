/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A check of the migration port, both halves over loopback: what is said, and to whom. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "driver/check_dial.h"
#include "driver/check_port.h"
#include "driver/session_dial.h"
#include "tests/support/pki-gen.h"

#define ADDRESS "127.0.0.1"

/* Both hosts: the driver of the one that is asked, and the settings of both. */
typedef struct {
    char *dir;
    Settings *settings;
    Driver driver;
    guint16 port;
    guint done;
    gboolean good;
    CheckAnswer answer;
    GError *error;
} Fixture;

static void write_identity(Fixture *f, const char *name, const PkiIdentity *ca, const char *ip)
{
    g_autoptr(PkiIdentity) identity =
        pki_identity_new(&(PkiSpec){ .common_name = name, .issuer = ca, .ip = { ip } });
    g_autofree char *cert = pki_cert_pem(identity);
    g_autofree char *key = pki_key_pem(identity);
    g_autofree char *cert_name = g_strconcat(name, "cert.pem", NULL);
    g_autofree char *key_name = g_strconcat(name, "key.pem", NULL);

    g_free(pki_dir_write(f->dir, cert_name, cert, -1));
    g_free(pki_dir_write(f->dir, key_name, key, -1));
}

static void write_credentials(Fixture *f)
{
    g_autoptr(PkiIdentity) ca = pki_identity_new(&(PkiSpec){ .common_name = "CA", .ca = TRUE });
    g_autofree char *pem = pki_cert_pem(ca);

    g_free(pki_dir_write(f->dir, "cacert.pem", pem, -1));
    write_identity(f, "server", ca, ADDRESS);
    write_identity(f, "client", ca, NULL);
    write_identity(f, "elsewhere", ca, "192.0.2.9");
    g_free(pki_dir_write(f->dir, "keys.psk", "host:00112233445566778899aabbccddeeff\n", -1));
}

static guint16 free_port(void)
{
    g_autoptr(GSocketListener) listener = g_socket_listener_new();
    guint16 port = g_socket_listener_add_any_inet_port(listener, NULL, NULL);

    g_socket_listener_close(listener);
    return port;
}

static Settings *make_settings(const Fixture *f, const char *server, const char *more)
{
    g_autofree char *text = g_strdup_printf(
        "unix_sock_dir = '%1$s'\nhelper_user = '%2$s'\nca_file = '%1$s/cacert.pem'\n"
        "cert_file = '%1$s/%5$scert.pem'\nkey_file = '%1$s/%5$skey.pem'\n"
        "client_cert_file = '%1$s/clientcert.pem'\nclient_key_file = '%1$s/clientkey.pem'\n"
        "migration_address = '" ADDRESS "'\nmigration_port = %3$u\nconnect_timeout = 20\n%4$s",
        f->dir, getpwuid(getuid())->pw_name, f->port, more, server);
    g_autoptr(GError) error = NULL;
    Settings *settings = settings_parse(text, strlen(text), "f.conf", &error);

    if (!settings)
        fail_msg("%s", error->message);
    return settings;
}

static void on_call(int fd, SessionPurpose purpose, const char *address,
                    const guint8 session[MIGRATION_SESSION_LEN], gpointer data)
{
    Fixture *f = data;

    assert_int_equal(purpose, SESSION_FOR_CHECK);
    check_port_take(&f->driver, fd, address);
}

static Fixture *setup_with(const char *server, const char *more)
{
    Fixture *f = g_new0(Fixture, 1);
    g_autoptr(GError) error = NULL;

    f->dir = pki_dir_new();
    write_credentials(f);
    for (guint tries = 0; !f->driver.port && tries < 10; tries++) {
        g_clear_error(&error);
        g_clear_pointer(&f->driver.set, migration_set_free);
        g_clear_pointer(&f->settings, settings_free);
        f->port = free_port();
        f->settings = make_settings(f, server, more);
        f->driver.settings = f->settings;
        f->driver.set = migration_set_new(f->settings, &error);
        if (f->driver.set)
            f->driver.port = session_port_new(f->driver.set, on_call, f, &error);
    }
    if (!f->driver.port)
        fail_msg("%s", error->message);
    f->driver.stopped = g_cancellable_new();
    return f;
}

static int setup(void **state)
{
    *state = setup_with("server", "");
    return 0;
}

static int setup_elsewhere(void **state)
{
    *state = setup_with("elsewhere", "");
    return 0;
}

static int setup_psk(void **state)
{
    Fixture *f = setup_with("server", "migration_auth = 'psk'\nmigration_psk_file = '/nowhere'\n");

    g_free(f->settings->migration_psk_file);
    f->settings->migration_psk_file = g_build_filename(f->dir, "keys.psk", NULL);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;

    while (f->driver.check_callers > 0)
        g_main_context_iteration(NULL, TRUE);
    g_cancellable_cancel(f->driver.stopped);
    session_port_free(f->driver.port);
    migration_set_free(f->driver.set);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    g_object_unref(f->driver.stopped);
    settings_free(f->settings);
    check_answer_clear(&f->answer);
    g_clear_error(&f->error);
    pki_dir_remove(f->dir);
    g_free(f);
    return 0;
}

static void on_dialled(GObject *source, GAsyncResult *result, gpointer data)
{
    Fixture *f = data;

    f->good = check_dial_finish(result, &f->answer, &f->error);
    f->done++;
}

static void dial(Fixture *f, guint16 port)
{
    check_dial(f->settings, ADDRESS, port, on_dialled, f);
    while (f->done == 0)
        g_main_context_iteration(NULL, TRUE);
    assert_true(f->good == (f->error == NULL));
}

static void test_version_and_clock_are_told(void **state)
{
    Fixture *f = *state;
    gint64 before = g_get_real_time() / 1000;

    dial(f, f->port);
    if (f->error)
        fail_msg("%s", f->error->message);
    assert_string_equal(f->answer.version, PACKAGE_VERSION);
    assert_string_equal(f->answer.host, g_get_host_name());
    assert_int_equal(f->answer.port, f->port);
    assert_in_range(f->answer.time_ms, before, g_get_real_time() / 1000);
}

static void test_closed_port_is_told_apart(void **state)
{
    Fixture *f = *state;

    session_port_free(g_steal_pointer(&f->driver.port));
    dial(f, f->port);
    assert_int_equal(f->error->domain, SESSION_DIAL_ERROR);
}

static void test_certificate_of_another_host_is_no_good(void **state)
{
    Fixture *f = *state;

    dial(f, f->port);
    assert_true(g_error_matches(f->error, TLS_ERROR, TLS_ERROR_HOSTNAME));
}

static void test_who_is_not_on_the_list_hears_nothing(void **state)
{
    static char *list[] = { (char *)"CN=server", NULL };
    Fixture *f = *state;

    /* Good for the one who asks: the other is called so. */
    f->settings->migration_allowed_dn_list = list;
    dial(f, f->port);
    f->settings->migration_allowed_dn_list = NULL;
    assert_false(f->good);
    assert_int_not_equal(f->error->domain, SESSION_DIAL_ERROR);
    assert_null(f->answer.version);
}

static void test_too_many_at_once_are_refused(void **state)
{
    Fixture *f = *state;

    f->driver.check_callers = 8;
    dial(f, f->port);
    f->driver.check_callers = 0;
    assert_false(f->good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_version_and_clock_are_told, setup, teardown),
        { "test_version_and_clock_are_told_psk", test_version_and_clock_are_told, setup_psk, teardown,
          NULL },
        cmocka_unit_test_setup_teardown(test_closed_port_is_told_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_certificate_of_another_host_is_no_good, setup_elsewhere,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_who_is_not_on_the_list_hears_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_at_once_are_refused, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
