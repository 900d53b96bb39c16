/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* --migrateuri and --listen-address: where a session comes in. The addresses are those that every
 * host has. */
#include "config.h"

#include "driver/session_place.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <libvirt/virterror.h>

#include "xml/migrate_options.h"
#include "xml/migration_uri.h"

static Settings *settings_with(const char *migration_address)
{
    g_autofree char *conf = g_strdup_printf("migration_address = '%s'\nhost_name = 'hostb.test'\n",
                                            migration_address);
    Settings *settings = settings_parse(conf, strlen(conf), "conf", NULL);

    assert_non_null(settings);
    return settings;
}

static void a_place_is_what_the_user_says(void **state)
{
    static const struct {
        const char *uri, *listen_address; /* as they come */
        const char *host;
        guint16 port;
        const char *only_at;
    } rows[] = {
        { NULL, NULL, NULL, 0, NULL },
        { "tcp://b.example.com", NULL, "b.example.com", 0, NULL },
        { "postcopy://b.example.com:1234", NULL, "b.example.com", 1234, NULL },
        { NULL, "127.0.0.1", "127.0.0.1", 0, "127.0.0.1" },
        { "tcp:b.example.com:1", "127.0.0.1", "b.example.com", 1, "127.0.0.1" },
        { NULL, "0.0.0.0", NULL, 0, NULL },
        { NULL, "::", NULL, 0, NULL },
    };
    g_autoptr(Settings) settings = settings_with("::");

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(SessionPlace) place = { 0 };

        assert_true(session_place_parse(rows[i].uri, rows[i].listen_address, settings, &place,
                                        NULL));
        assert_int_equal(g_strcmp0(place.host, rows[i].host), 0);
        assert_int_equal(place.port, rows[i].port);
        assert_int_equal(g_strcmp0(place.listen_address, rows[i].only_at), 0);
    }
}

static void a_place_that_is_not_here_is_refused(void **state)
{
    static const struct {
        const char *migration_address;
        const char *listen_address;
        const char *words;
    } rows[] = {
        { "::", "192.0.2.99", "none of the addresses of the destination, hostb.test" },
        { "::", "hostb.test", "hostb.test is no address" },
        { "::", "", "is no address" },
        { "::", "127.0.0.1/8", "is no address" },
        { "127.0.0.2", "127.0.0.1", "migration_address in its virtpostcopyd.conf is 127.0.0.2" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Settings) settings = settings_with(rows[i].migration_address);
        g_auto(SessionPlace) place = { 0 };
        g_autoptr(GError) error = NULL;

        assert_false(session_place_parse("tcp://b", rows[i].listen_address, settings, &place,
                                         &error));
        assert_true(g_error_matches(error, MIGRATE_OPTIONS_ERROR, VIR_ERR_INVALID_ARG));
        if (!strstr(error->message, rows[i].words))
            fail_msg("%s", error->message);
        assert_null(place.host);
    }
}

static void the_ports_own_address_is_a_place(void **state)
{
    static const char *const addresses[] = { "127.0.0.1", "0.0.0.0" };

    for (gsize i = 0; i < G_N_ELEMENTS(addresses); i++) {
        g_autoptr(Settings) settings = settings_with(addresses[i]);
        g_auto(SessionPlace) place = { 0 };

        assert_true(session_place_parse(NULL, "127.0.0.1", settings, &place, NULL));
        assert_string_equal(place.listen_address, "127.0.0.1");
    }
}

static void a_uri_of_another_kind_is_refused(void **state)
{
    g_autoptr(Settings) settings = settings_with("::");
    g_auto(SessionPlace) place = { 0 };
    g_autoptr(GError) error = NULL;

    assert_false(session_place_parse("rdma://b", "127.0.0.1", settings, &place, &error));
    assert_int_equal(error->domain, MIGRATION_URI_ERROR);
    assert_null(place.listen_address);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_place_is_what_the_user_says),
        cmocka_unit_test(a_place_that_is_not_here_is_refused),
        cmocka_unit_test(the_ports_own_address_is_a_place),
        cmocka_unit_test(a_uri_of_another_kind_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
