/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Connection URIs of destinations: libvirt's defaults, and a named error for all that
 * this daemon cannot dial. */
#include "config.h"

#include "xml/connect_uri.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void assert_same_text(const char *found, const char *expected)
{
    if (g_strcmp0(found, expected) != 0)
        fail_msg("\"%s\" instead of \"%s\"", found ? found : "(null)",
                 expected ? expected : "(null)");
}

static void transports_and_their_defaults_are_libvirts(void **state)
{
    static const struct {
        const char *text;
        ConnectTransport transport;
        const char *user;
        const char *host;
        guint16 port;
    } rows[] = {
        { "postcopy:///system", CONNECT_TRANSPORT_UNIX, NULL, NULL, 0 },
        { "postcopy+unix:///system", CONNECT_TRANSPORT_UNIX, NULL, NULL, 0 },
        { "postcopy://hostb/system", CONNECT_TRANSPORT_TLS, NULL, "hostb", 0 },
        { "postcopy+tls://hostb/system", CONNECT_TRANSPORT_TLS, NULL, "hostb", 0 },
        { "postcopy+tls://hostb:1/system", CONNECT_TRANSPORT_TLS, NULL, "hostb", 1 },
        { "postcopy+tls:///system", CONNECT_TRANSPORT_TLS, NULL, "localhost", 0 },
        { "postcopy+tcp://192.0.2.7:16555/system", CONNECT_TRANSPORT_TCP, NULL, "192.0.2.7",
          16555 },
        { "postcopy+tcp://[2001:db8::7]:65535/system", CONNECT_TRANSPORT_TCP, NULL, "2001:db8::7",
          65535 },
        { "postcopy+ssh://root@host-b.example.com/system", CONNECT_TRANSPORT_SSH, "root",
          "host-b.example.com", 0 },
        { "postcopy+ssh://hostb:2222/system", CONNECT_TRANSPORT_SSH, NULL, "hostb", 2222 },
        { "POSTCOPY+TLS://HostB/system", CONNECT_TRANSPORT_TLS, NULL, "HostB", 0 },
        { "postcopy://hostb/system?", CONNECT_TRANSPORT_TLS, NULL, "hostb", 0 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(ConnectUri) uri = { 0 };
        g_autoptr(GError) error = NULL;

        if (!connect_uri_parse(rows[i].text, &uri, &error))
            fail_msg("%s: %s", rows[i].text, error->message);
        assert_int_equal(uri.transport, rows[i].transport);
        assert_same_text(uri.user, rows[i].user);
        assert_same_text(uri.host, rows[i].host);
        assert_int_equal(uri.port, rows[i].port);
    }
}

static void parameters_are_decoded_after_they_are_cut(void **state)
{
    g_auto(ConnectUri) uri = { 0 };
    g_autoptr(GError) error = NULL;

    assert_true(connect_uri_parse("postcopy+ssh://u@h/system?socket=/run/a%26b%3d/s"
                                  "&command=/opt/my%20ssh&keyfile=/root/k&no_verify=1;no_tty=0"
                                  "&netcat=/bin/nc&mode=direct&proxy=native&pkipath=/etc/pki/x",
                                  &uri, &error));
    assert_string_equal(uri.socket, "/run/a&b=/s");
    assert_string_equal(uri.command, "/opt/my ssh");
    assert_string_equal(uri.keyfile, "/root/k");
    assert_true(uri.no_verify);
    assert_false(uri.no_tty);
    assert_string_equal(uri.netcat, "/bin/nc");
    assert_string_equal(uri.mode, "direct");
    assert_string_equal(uri.proxy, "native");
    assert_string_equal(uri.pkipath, "/etc/pki/x");
}

static void parameters_that_are_not_given_stay_unset(void **state)
{
    g_auto(ConnectUri) uri = { 0 };

    assert_true(connect_uri_parse("postcopy+unix:///system?socket=/s", &uri, NULL));
    assert_string_equal(uri.socket, "/s");
    assert_null(uri.command);
    assert_null(uri.keyfile);
    assert_null(uri.netcat);
    assert_null(uri.mode);
    assert_null(uri.proxy);
    assert_null(uri.pkipath);
    assert_false(uri.no_verify);
    assert_false(uri.no_tty);
}

static const struct {
    const char *uri;
    ConnectUriError code;
    const char *what;
} bad_rows[] = {
    { "", CONNECT_URI_ERROR_SYNTAX, "scheme" },
    { "/system", CONNECT_URI_ERROR_SYNTAX, "scheme" },
    { "hostb", CONNECT_URI_ERROR_SYNTAX, "scheme" },
    { "qemu+tls://hostb/system", CONNECT_URI_ERROR_SCHEME, "qemu+tls" },
    { "qemu:///system", CONNECT_URI_ERROR_SCHEME, "qemu" },
    { "postcop://hostb/system", CONNECT_URI_ERROR_SCHEME, "postcop" },
    { "postcopyd://hostb/system", CONNECT_URI_ERROR_SCHEME, "postcopyd" },
    { "postcopy+ext:///system", CONNECT_URI_ERROR_TRANSPORT, "\"ext\"" },
    { "postcopy+libssh://hostb/system", CONNECT_URI_ERROR_TRANSPORT, "\"libssh\"" },
    { "postcopy+libssh2://hostb/system", CONNECT_URI_ERROR_TRANSPORT, "\"libssh2\"" },
    { "postcopy+rdma://hostb/system", CONNECT_URI_ERROR_TRANSPORT, "\"rdma\"" },
    { "postcopy+://hostb/system", CONNECT_URI_ERROR_TRANSPORT, "\"\"" },
    { "postcopy+tls+tcp://hostb/system", CONNECT_URI_ERROR_TRANSPORT, "\"tls+tcp\"" },
    { "postcopy://hostb", CONNECT_URI_ERROR_PATH, "the path is \"\"" },
    { "postcopy://hostb/", CONNECT_URI_ERROR_PATH, "the path is \"/\"" },
    { "postcopy://hostb/session", CONNECT_URI_ERROR_PATH, "/session" },
    { "postcopy:///session", CONNECT_URI_ERROR_PATH, "/session" },
    { "postcopy://hostb/system/", CONNECT_URI_ERROR_PATH, "/system/" },
    { "postcopy://hostb//system", CONNECT_URI_ERROR_PATH, "//system" },
    { "postcopy:system", CONNECT_URI_ERROR_PATH, "the path is \"system\"" },
    { "postcopy://hostb/system#x", CONNECT_URI_ERROR_SYNTAX, "fragment" },
    { "postcopy+unix://hostb/system", CONNECT_URI_ERROR_SYNTAX, "unix socket has no host" },
    { "postcopy+unix://root@/system", CONNECT_URI_ERROR_SYNTAX, "unix socket has no host" },
    { "postcopy+ssh://-oProxyCommand=x/system", CONNECT_URI_ERROR_SYNTAX, "neither a host name" },
    { "postcopy+ssh://-l@hostb/system", CONNECT_URI_ERROR_SYNTAX, "user name" },
    { "postcopy+ssh://@hostb/system", CONNECT_URI_ERROR_SYNTAX, "user name" },
    { "postcopy+ssh://a%0ab@hostb/system", CONNECT_URI_ERROR_SYNTAX, "user name" },
    { "postcopy+ssh://u:secret@hostb/system", CONNECT_URI_ERROR_SYNTAX, "password" },
    { "postcopy+tls://ho%20st/system", CONNECT_URI_ERROR_SYNTAX, "neither a host name" },
    { "postcopy+tls://[fe80::1%25eth0]/system", CONNECT_URI_ERROR_SYNTAX, "" },
    { "postcopy+tls://hostb:x/system", CONNECT_URI_ERROR_SYNTAX, "" },
    { "postcopy+tls://hostb:65536/system", CONNECT_URI_ERROR_SYNTAX, "" },
    { "postcopy+tls://hostb:-1/system", CONNECT_URI_ERROR_SYNTAX, "" },
    { "postcopy+tls://[::1/system", CONNECT_URI_ERROR_SYNTAX, "" },
    { "postcopy://hostb/system?socket=/%zz", CONNECT_URI_ERROR_SYNTAX, "" },
    { "postcopy://hostb/system?socket=/%00", CONNECT_URI_ERROR_SYNTAX, "" },
    { "postcopy://hostb/system?socket=/%ff", CONNECT_URI_ERROR_SYNTAX, "" },
    { "postcopy://hostb/system?socket", CONNECT_URI_ERROR_SYNTAX, "" },
    { "postcopy://hostb/system?colour=red", CONNECT_URI_ERROR_SYNTAX, "\"colour\"" },
    { "postcopy://hostb/system?name=qemu:///system", CONNECT_URI_ERROR_SYNTAX, "\"name\"" },
    { "postcopy://hostb/system?mode=direct&mode=auto", CONNECT_URI_ERROR_SYNTAX, "mode is given" },
    { "postcopy://hostb/system?mode=direct&MODE=auto", CONNECT_URI_ERROR_SYNTAX, "mode is given" },
    { "postcopy://hostb/system?mode=", CONNECT_URI_ERROR_SYNTAX, "mode is empty" },
    { "postcopy://hostb/system?mode=fast", CONNECT_URI_ERROR_SYNTAX, "auto, direct, legacy" },
    { "postcopy://hostb/system?proxy=fast", CONNECT_URI_ERROR_SYNTAX, "auto, netcat, native" },
    { "postcopy://hostb/system?no_verify=yes", CONNECT_URI_ERROR_SYNTAX, "no_verify is \"yes\"" },
    { "postcopy://hostb/system?no_tty=", CONNECT_URI_ERROR_SYNTAX, "no_tty is \"\"" },
    { "postcopy://hostb/system?socket=run/s", CONNECT_URI_ERROR_SYNTAX, "socket is not an" },
    { "postcopy://hostb/system?pkipath=pki", CONNECT_URI_ERROR_SYNTAX, "pkipath is not an" },
    { "postcopy://hostb/system?command=a%0ab", CONNECT_URI_ERROR_SYNTAX, "command holds" },
};

static void bad_uris_are_refused_by_name_and_change_nothing(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad_rows); i++) {
        ConnectUri uri, before;
        g_autoptr(GError) error = NULL;

        memset(&before, 0x5a, sizeof before);
        memcpy(&uri, &before, sizeof uri);
        if (connect_uri_parse(bad_rows[i].uri, &uri, &error))
            fail_msg("accepted: %s", bad_rows[i].uri);
        assert_memory_equal(&uri, &before, sizeof uri);
        if (!g_error_matches(error, CONNECT_URI_ERROR, (gint)bad_rows[i].code) ||
            !strstr(error->message, bad_rows[i].what))
            fail_msg("%s: unexpected error %d: %s", bad_rows[i].uri, error->code, error->message);
        assert_null(strstr(error->message, "secret"));
    }
}

static void a_socket_path_must_fit_its_address(void **state)
{
    g_autofree char *longest = g_strnfill(106, 's');
    g_autofree char *fits = g_strdup_printf("postcopy:///system?socket=/%s", longest);
    g_autofree char *too_long = g_strdup_printf("postcopy:///system?socket=/%ss", longest);
    g_auto(ConnectUri) uri = { 0 };
    g_autoptr(GError) error = NULL;

    assert_false(connect_uri_parse(too_long, &uri, &error));
    assert_non_null(strstr(error->message, "socket is longer than 107 bytes"));
    assert_true(connect_uri_parse(fits, &uri, NULL));
}

static void oversized_uris_are_refused(void **state)
{
    g_autofree char *filler = g_strnfill(8192, 'a');
    g_autofree char *text = g_strdup_printf("postcopy:///system?command=%s", filler);
    g_auto(ConnectUri) uri = { 0 };
    g_autoptr(GError) error = NULL;

    assert_false(connect_uri_parse(text, &uri, &error));
    assert_non_null(strstr(error->message, "longer than 8192 bytes"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transports_and_their_defaults_are_libvirts),
        cmocka_unit_test(parameters_are_decoded_after_they_are_cut),
        cmocka_unit_test(parameters_that_are_not_given_stay_unset),
        cmocka_unit_test(bad_uris_are_refused_by_name_and_change_nothing),
        cmocka_unit_test(a_socket_path_must_fit_its_address),
        cmocka_unit_test(oversized_uris_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
