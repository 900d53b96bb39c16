/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The migration URI: what is written is read back, and all else is refused without
 * showing the token. */
#include "config.h"

#include "xml/migration_uri.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define SESSION "00112233445566778899aabbccddeeff"
#define TOKEN "deadbeefcafef00ddeadbeefcafef00ddeadbeefcafef00ddeadbeefcafef00d"
#define REST "&session=" SESSION "&token=" TOKEN
#define NAME_61 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghi"
#define NAME_63 NAME_61 "jk"

static void every_kind_of_peer_is_read_and_written_back(void **state)
{
    static const struct {
        const char *peer;
        const char *host;
        guint16 port;
    } rows[] = {
        { "hostb:16515", "hostb", 16515 },
        { "host-b.example.com:1", "host-b.example.com", 1 },
        { "host_b:65535", "host_b", 65535 },
        { "192.0.2.7:16515", "192.0.2.7", 16515 },
        { "[2001:db8::7]:16515", "2001:db8::7", 16515 },
        { "[::]:16515", "::", 16515 },
        { NAME_63 "." NAME_63 "." NAME_63 "." NAME_61 ":16515",
          NAME_63 "." NAME_63 "." NAME_63 "." NAME_61, 16515 },
    };
    static const guint8 session[] = { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                                      0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = g_strdup_printf("postcopy:///?peer=%s" REST, rows[i].peer);
        g_autofree char *written = NULL;
        g_auto(MigrationUri) uri = { 0 };
        g_autoptr(GError) error = NULL;

        assert_true(migration_uri_parse(text, &uri, &error));
        assert_string_equal(uri.host, rows[i].host);
        assert_int_equal(uri.port, rows[i].port);
        assert_memory_equal(uri.session, session, sizeof session);
        assert_memory_equal(uri.token, "\xde\xad\xbe\xef\xca\xfe\xf0\x0d", 8);
        written = migration_uri_format(&uri);
        assert_string_equal(written, text);
    }
}

static void order_and_case_do_not_matter(void **state)
{
    static const char *const rows[] = {
        "postcopy:///?token=" TOKEN "&peer=h:1&session=" SESSION,
        "POSTCOPY:///?session=" SESSION "&token=" TOKEN "&peer=h:1",
        ("postcopy:///?peer=h:1&session=00112233445566778899AABBCCDDEEFF&token=" TOKEN),
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(MigrationUri) uri = { 0 };

        assert_true(migration_uri_parse(rows[i], &uri, NULL));
        assert_string_equal(uri.host, "h");
        assert_int_equal(uri.session[15], 0xff);
        assert_int_equal(uri.token[0], 0xde);
    }
}

/* what: a word of the message that must name the thing. */
static const struct {
    const char *uri;
    MigrationUriError code;
    const char *what;
} bad_rows[] = {
    { "", MIGRATION_URI_ERROR_SCHEME, "scheme" },
    { "tcp://hostb:49152", MIGRATION_URI_ERROR_SCHEME, "scheme" },
    { "unix:///run/x", MIGRATION_URI_ERROR_SCHEME, "scheme" },
    { "postcop:///?peer=h:1" REST, MIGRATION_URI_ERROR_SCHEME, "scheme" },
    { "postcopyx:///?peer=h:1" REST, MIGRATION_URI_ERROR_SCHEME, "scheme" },
    { "postcopy", MIGRATION_URI_ERROR_SCHEME, "scheme" },
    { "postcopy:", MIGRATION_URI_ERROR_SYNTAX, "begin" },
    { "postcopy:///", MIGRATION_URI_ERROR_SYNTAX, "begin" },
    { "postcopy://hostb/?peer=h:1" REST, MIGRATION_URI_ERROR_SYNTAX, "begin" },
    { "postcopy://hostb:16515?peer=h:1" REST, MIGRATION_URI_ERROR_SYNTAX, "begin" },
    { "postcopy+tls:///?peer=h:1" REST, MIGRATION_URI_ERROR_SYNTAX, "begin" },
    { "postcopy:///system?peer=h:1" REST, MIGRATION_URI_ERROR_SYNTAX, "begin" },
    { "postcopy:///?", MIGRATION_URI_ERROR_SYNTAX, "without a value" },
    { "postcopy:///?peer=h:1" REST "&", MIGRATION_URI_ERROR_SYNTAX, "without a value" },
    { "postcopy:///?&peer=h:1" REST, MIGRATION_URI_ERROR_SYNTAX, "without a value" },
    { "postcopy:///?peer" REST, MIGRATION_URI_ERROR_SYNTAX, "without a value" },
    { "postcopy:///?peer=h:1" REST "&more=1", MIGRATION_URI_ERROR_SYNTAX, "unknown" },
    { "postcopy:///?Peer=h:1" REST, MIGRATION_URI_ERROR_SYNTAX, "unknown" },
    { "postcopy:///?peer=h:1" REST "&peer=g:1", MIGRATION_URI_ERROR_SYNTAX, "peer is given twice" },
    { "postcopy:///?peer=h:1" REST "&token=" TOKEN, MIGRATION_URI_ERROR_SYNTAX,
      "token is given twice" },
    { "postcopy:///?session=" SESSION "&token=" TOKEN, MIGRATION_URI_ERROR_SYNTAX,
      "peer is missing" },
    { "postcopy:///?peer=h:1&token=" TOKEN, MIGRATION_URI_ERROR_SYNTAX, "session is missing" },
    { "postcopy:///?peer=h:1&session=" SESSION, MIGRATION_URI_ERROR_SYNTAX, "token is missing" },
    { "postcopy:///?peer=" REST, MIGRATION_URI_ERROR_SYNTAX, "peer has no port" },
    { "postcopy:///?peer=h" REST, MIGRATION_URI_ERROR_SYNTAX, "peer has no port" },
    { "postcopy:///?peer=:1" REST, MIGRATION_URI_ERROR_SYNTAX, "host of peer" },
    { "postcopy:///?peer=" NAME_63 "." NAME_63 "." NAME_63 "." NAME_61 "j:1" REST,
      MIGRATION_URI_ERROR_SYNTAX, "host of peer" },
    { "postcopy:///?peer=-o:1" REST, MIGRATION_URI_ERROR_SYNTAX, "host of peer" },
    { "postcopy:///?peer=h h:1" REST, MIGRATION_URI_ERROR_SYNTAX, "host of peer" },
    { "postcopy:///?peer=h%20:1" REST, MIGRATION_URI_ERROR_SYNTAX, "host of peer" },
    { "postcopy:///?peer=h/x:1" REST, MIGRATION_URI_ERROR_SYNTAX, "host of peer" },
    { "postcopy:///?peer=h\n:1" REST, MIGRATION_URI_ERROR_SYNTAX, "host of peer" },
    { "postcopy:///?peer=\xc3\xa4:1" REST, MIGRATION_URI_ERROR_SYNTAX, "host of peer" },
    { "postcopy:///?peer=h:" REST, MIGRATION_URI_ERROR_SYNTAX, "port of peer" },
    { "postcopy:///?peer=h:0" REST, MIGRATION_URI_ERROR_SYNTAX, "port of peer" },
    { "postcopy:///?peer=h:01" REST, MIGRATION_URI_ERROR_SYNTAX, "port of peer" },
    { "postcopy:///?peer=h:65536" REST, MIGRATION_URI_ERROR_SYNTAX, "port of peer" },
    { "postcopy:///?peer=h:99999999999" REST, MIGRATION_URI_ERROR_SYNTAX, "port of peer" },
    { "postcopy:///?peer=h:-1" REST, MIGRATION_URI_ERROR_SYNTAX, "port of peer" },
    { "postcopy:///?peer=h:1x" REST, MIGRATION_URI_ERROR_SYNTAX, "port of peer" },
    { "postcopy:///?peer=2001:db8::7:16515" REST, MIGRATION_URI_ERROR_SYNTAX, "needs brackets" },
    { "postcopy:///?peer=[2001:db8::7]" REST, MIGRATION_URI_ERROR_SYNTAX, "brackets" },
    { "postcopy:///?peer=[2001:db8::g]:1" REST, MIGRATION_URI_ERROR_SYNTAX, "host of peer" },
    { "postcopy:///?peer=[fe80::1%25eth0]:1" REST, MIGRATION_URI_ERROR_SYNTAX, "host of peer" },
    { "postcopy:///?peer=[fe80::1%eth0]:1" REST, MIGRATION_URI_ERROR_SYNTAX, "host of peer" },
    { "postcopy:///?peer=[]:1" REST, MIGRATION_URI_ERROR_SYNTAX, "brackets" },
    { "postcopy:///?peer=[hostb]:1" REST, MIGRATION_URI_ERROR_SYNTAX, "brackets" },
    { "postcopy:///?peer=h:1&session=&token=" TOKEN, MIGRATION_URI_ERROR_SYNTAX,
      "session has 0 characters instead of 32" },
    { "postcopy:///?peer=h:1&session=" SESSION "0&token=" TOKEN, MIGRATION_URI_ERROR_SYNTAX,
      "session has 33" },
    { "postcopy:///?peer=h:1&session=g0112233445566778899aabbccddeeff&token=" TOKEN,
      MIGRATION_URI_ERROR_SYNTAX, "session has a character" },
    { "postcopy:///?peer=h:1&session=" SESSION "&token=" TOKEN "0", MIGRATION_URI_ERROR_SYNTAX,
      "token has 65" },
    { "postcopy:///?peer=h:1&session=" SESSION "&token=", MIGRATION_URI_ERROR_SYNTAX,
      "token has 0" },
    { "postcopy:///?peer=h:1" REST "#x", MIGRATION_URI_ERROR_SYNTAX, "token has 66" },
};

static void bad_uris_are_refused_by_name_and_change_nothing(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad_rows); i++) {
        MigrationUri uri, before;
        g_autoptr(GError) error = NULL;

        memset(&before, 0x5a, sizeof before);
        memcpy(&uri, &before, sizeof uri);
        if (migration_uri_parse(bad_rows[i].uri, &uri, &error))
            fail_msg("accepted: %s", bad_rows[i].uri);
        assert_memory_equal(&uri, &before, sizeof uri);
        if (!g_error_matches(error, MIGRATION_URI_ERROR, (gint)bad_rows[i].code) ||
            !strstr(error->message, bad_rows[i].what))
            fail_msg("%s: unexpected error %d: %s", bad_rows[i].uri, error->code, error->message);
    }
}

static void every_truncation_is_refused(void **state)
{
    static const char whole[] = "postcopy:///?peer=[2001:db8::7]:16515" REST;

    for (gsize len = 0; len < strlen(whole); len++) {
        g_autofree char *cut = g_strndup(whole, len);
        g_auto(MigrationUri) uri = { 0 };
        g_autoptr(GError) error = NULL;

        assert_false(migration_uri_parse(cut, &uri, &error));
        assert_non_null(error);
    }
}

static void oversized_uris_are_refused(void **state)
{
    g_autofree char *filler = g_strnfill(1024 * 1024, 'a');
    g_autofree char *text = g_strdup_printf("postcopy:///?peer=%s:1" REST, filler);
    g_auto(MigrationUri) uri = { 0 };
    g_autoptr(GError) error = NULL;

    assert_false(migration_uri_parse(text, &uri, &error));
    assert_non_null(strstr(error->message, "longer than 1024 bytes"));
}

static void no_message_contains_the_token(void **state)
{
    static const char *const rows[] = {
        "postcopy:///?peer=h:1&session=" SESSION "&token=" TOKEN "00",
        "postcopy:///?peer=h:1&session=" SESSION "&token=x" TOKEN,
        "postcopy:///?peer=h:1&session=" TOKEN "&token=" SESSION,
        "postcopy:///?peer=" TOKEN "&session=" SESSION,
        "postcopy:///?peer=h:x" TOKEN REST,
        "postcopy:///?" TOKEN "=1" REST,
        "postcopy:///?" TOKEN,
        "postcopy://" TOKEN,
        TOKEN,
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(MigrationUri) uri = { 0 };
        g_autoptr(GError) error = NULL;

        assert_false(migration_uri_parse(rows[i], &uri, &error));
        assert_null(strstr(error->message, "deadbeef"));
    }
}

static void clearing_wipes_the_token(void **state)
{
    static const guint8 zero[sizeof(MigrationUri)];
    MigrationUri uri = { 0 };

    assert_true(migration_uri_parse("postcopy:///?peer=h:1" REST, &uri, NULL));
    migration_uri_clear(&uri);
    assert_memory_equal(&uri, zero, sizeof uri);
}

static void our_scheme_is_told_from_others(void **state)
{
    static const struct {
        const char *text;
        gboolean ours;
    } rows[] = {
        { "postcopy:///system", TRUE },
        { "postcopy://host/system", TRUE },
        { "postcopy+tls://host/system", TRUE },
        { "PostCopy+TCP://host/system", TRUE },
        { "postcopy:", TRUE },
        { "postcopy", FALSE },
        { "postcopy+tls", FALSE },
        { "postcopy+/x:", FALSE },
        { "postcopyd://host", FALSE },
        { "qemu+tls://host/system", FALSE },
        { "qemu:///system?postcopy:", FALSE },
        { " postcopy:///system", FALSE },
        { "", FALSE },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        assert_int_equal(migration_uri_is_ours(rows[i].text), rows[i].ours);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_peer_is_read_and_written_back),
        cmocka_unit_test(order_and_case_do_not_matter),
        cmocka_unit_test(bad_uris_are_refused_by_name_and_change_nothing),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(oversized_uris_are_refused),
        cmocka_unit_test(no_message_contains_the_token),
        cmocka_unit_test(clearing_wipes_the_token),
        cmocka_unit_test(our_scheme_is_told_from_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
