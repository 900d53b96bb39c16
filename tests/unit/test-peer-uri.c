/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Migration URIs as users give them: the forms there are, and nothing else. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "xml/migration_uri.h"
#include "xml/peer_uri.h"

static void test_forms_that_are_understood(void **state)
{
    static const struct {
        const char *text;
        const char *host;
        guint16 port;
    } rows[] = {
        { "tcp://hostb.test", "hostb.test", 0 },
        { "tcp://hostb.test:1234", "hostb.test", 1234 },
        { "tcp:hostb.test", "hostb.test", 0 },
        { "tcp:192.0.2.2:65535", "192.0.2.2", 65535 },
        { "postcopy://192.0.2.2:1", "192.0.2.2", 1 },
        { "TCP://[2001:db8::2]", "2001:db8::2", 0 },
        { "tcp:[2001:db8::2]:49152", "2001:db8::2", 49152 },
        { "PostCopy://host_b", "host_b", 0 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(PeerUri) uri = { 0 };

        if (!peer_uri_parse(rows[i].text, &uri, NULL))
            fail_msg("refused: %s", rows[i].text);
        assert_string_equal(uri.host, rows[i].host);
        assert_int_equal(uri.port, rows[i].port);
    }
}

static void test_everything_else_is_refused(void **state)
{
    static const char *const rows[] = {
        "", "tcp", "tcp:", "tcp://", "hostb.test", "tcp://:1234", "tcp://hostb.test:",
        "tcp://hostb.test:0", "tcp://hostb.test:65536", "tcp://hostb.test:12a", "tcp://hostb.test/",
        "tcp://hostb.test?x=y", "tcp://user@hostb.test", "tcp://2001:db8::2", "tcp://[2001:db8::2",
        "tcp://[hostb.test]", "tcp://[]", "tcp://[2001:db8::2]x", "tcp://[fe80::1%eth0]",
        "postcopy:hostb.test", "postcopy:///system", "postcopy+tcp://hostb.test",
        "rdma://hostb.test", "unix:///run/x", "unix:///run/x?y", "tcp://host b", "tcp:///",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(PeerUri) uri = { 0 };
        g_autoptr(GError) error = NULL;

        if (peer_uri_parse(rows[i], &uri, &error))
            fail_msg("accepted: %s", rows[i]);
        assert_null(uri.host);
        assert_true(g_error_matches(error, MIGRATION_URI_ERROR, MIGRATION_URI_ERROR_SYNTAX));
        assert_non_null(strstr(error->message, "tcp://HOST[:PORT]"));
    }
}

static void test_a_token_is_not_shown(void **state)
{
    g_auto(PeerUri) uri = { 0 };
    g_autoptr(GError) error = NULL;

    assert_false(peer_uri_parse("postcopy:///?peer=b:1&token=secret", &uri, &error));
    assert_null(strstr(error->message, "secret"));
    assert_non_null(strstr(error->message, "\"postcopy:///\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms_that_are_understood),
        cmocka_unit_test(test_everything_else_is_refused),
        cmocka_unit_test(test_a_token_is_not_shown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
