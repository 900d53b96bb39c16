/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The settings: defaults, every type of value, every way to get one wrong, and the
 * sample file, which has to say what the defaults are. */
#include "config.h"

#include "driver/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <glib/gstdio.h>

#include "util/conf.h"
#include "driver/settings_priv.h"
#include "ram/job_limits.h"

static Settings *parse(const char *text, GError **error)
{
    return settings_parse(text, strlen(text), "f.conf", error);
}

static void an_empty_file_gives_the_defaults(void **state)
{
    g_autoptr(Settings) s = parse("", NULL);

    assert_non_null(s);
    assert_string_equal(s->unix_sock_dir, RUNSTATEDIR "/libvirt");
    assert_null(s->unix_sock_group);
    assert_int_equal(s->unix_sock_ro_perms, 0777);
    assert_int_equal(s->unix_sock_rw_perms, 0700);
    assert_int_equal(s->max_clients, 5000);
    assert_int_equal(s->memory_max_migrations, 256);
    assert_int_equal(s->memory_max_migrations_per_user, 128);
    assert_false(s->listen_tls);
    assert_false(s->listen_tcp);
    assert_null(s->listen_addr);
    assert_int_equal(s->tls_port, 16514);
    assert_int_equal(s->tcp_port, 16555);
    assert_string_equal(s->ca_file, SYSCONFDIR "/pki/CA/cacert.pem");
    assert_string_equal(s->crl_file, SYSCONFDIR "/pki/CA/cacrl.pem");
    assert_false(s->crl_required);
    assert_null(s->tls_allowed_dn_list);
    assert_null(s->upstream_socket);
    assert_null(s->host_name);
    assert_string_equal(s->migration_address, "::");
    assert_int_equal(s->migration_port, 16515);
    assert_int_equal(s->migration_auth, MIGRATION_AUTH_X509);
    assert_null(s->migration_psk_file);
    assert_null(s->migration_psk_identity);
    assert_null(s->migration_allowed_dn_list);
    assert_int_equal(s->migration_window, 4 * 1024 * 1024);
    assert_int_equal(s->migration_stage, JOB_STAGE_DEFAULT);
    assert_int_equal(s->migration_compression, MIGRATION_COMPRESSION_AUTO);
    assert_int_equal(s->migration_compression_level, 1);
    assert_false(s->migration_pace_qemu);
    assert_true(s->migration_direct_reading);
    assert_true(s->migration_direct_placing);
    assert_int_equal(s->connect_timeout, 10);
    assert_int_equal(s->keepalive_interval, 2);
    assert_int_equal(s->keepalive_count, 4);
    assert_int_equal(s->reconnect_timeout, 60);
    assert_true(s->auto_recover);
    assert_int_equal(s->recover_timeout, 600);
    assert_int_equal(s->migration_rekey_records, 0);
    assert_false(s->allow_plain_destination);
    assert_string_equal(s->helper_path, LIBEXECDIR "/virt-postcopy-helper");
    assert_string_equal(s->helper_user, HELPER_USER);
    assert_string_equal(s->run_dir, RUNSTATEDIR "/libvirt/virtpostcopy");
    assert_int_equal(s->log_level, 2);
}

static void values_of_the_file_replace_the_defaults(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Settings) s = parse("unix_sock_dir = '/tmp/x'\n"
                                  "unix_sock_group = 'libvirt'\n"
                                  "unix_sock_rw_perms = '0770'\n"
                                  "listen_tls = 1\n"
                                  "listen_addr = '192.0.2.7'\n"
                                  "tls_port = '17000'\n"
                                  "tcp_port = 17001\n"
                                  "migration_port = '17002'\n"
                                  "crl_file = '/crl'\n"
                                  "tls_allowed_dn_list = [ 'CN=a', 'CN=b' ]\n"
                                  "host_name = '2001:db8::7'\n"
                                  "migration_auth = 'psk'\n"
                                  "migration_psk_file = '/keys'\n"
                                  "migration_window = 65536\n"
                                  "migration_stage = 1099511627776\n"
                                  "migration_compression = 'off'\n"
                                  "migration_compression_level = 19\n"
                                  "migration_pace_qemu = 1\n"
                                  "migration_direct_reading = 0\n"
                                  "migration_direct_placing = 0\n"
                                  "reconnect_timeout = 0\n"
                                  "auto_recover = 0\n"
                                  "recover_timeout = 604800\n"
                                  "migration_rekey_records = 16777216\n"
                                  "log_level = 4\n",
                                  &error);

    if (!s)
        fail_msg("%s", error->message);
    assert_string_equal(s->unix_sock_dir, "/tmp/x");
    assert_string_equal(s->run_dir, "/tmp/x/virtpostcopy");
    assert_string_equal(s->unix_sock_group, "libvirt");
    assert_int_equal(s->unix_sock_rw_perms, 0770);
    assert_true(s->listen_tls);
    assert_string_equal(s->listen_addr, "192.0.2.7");
    assert_int_equal(s->tls_port, 17000);
    assert_int_equal(s->tcp_port, 17001);
    assert_int_equal(s->migration_port, 17002);
    assert_string_equal(s->crl_file, "/crl");
    assert_true(s->crl_required);
    assert_int_equal(g_strv_length(s->tls_allowed_dn_list), 2);
    assert_string_equal(s->tls_allowed_dn_list[1], "CN=b");
    assert_string_equal(s->host_name, "2001:db8::7");
    assert_int_equal(s->migration_auth, MIGRATION_AUTH_PSK);
    assert_string_equal(s->migration_psk_file, "/keys");
    assert_int_equal(s->migration_window, 65536);
    assert_true(s->migration_stage == G_GUINT64_CONSTANT(1099511627776));
    assert_int_equal(s->migration_compression, MIGRATION_COMPRESSION_OFF);
    assert_int_equal(s->migration_compression_level, 19);
    assert_true(s->migration_pace_qemu);
    assert_false(s->migration_direct_reading);
    assert_false(s->migration_direct_placing);
    assert_int_equal(s->reconnect_timeout, 0);
    assert_false(s->auto_recover);
    assert_int_equal(s->recover_timeout, 604800);
    assert_int_equal(s->migration_rekey_records, 16777216);
    assert_int_equal(s->log_level, 4);
}

static void an_empty_string_unsets_what_has_no_default(void **state)
{
    g_autoptr(Settings) s = parse("unix_sock_group = ''\nupstream_socket = ''\nhost_name = ''\n"
                                  "listen_addr = ''\nrun_dir = ''\nmigration_psk_file = ''\n",
                                  NULL);

    assert_non_null(s);
    assert_null(s->unix_sock_group);
    assert_null(s->upstream_socket);
    assert_null(s->host_name);
    assert_null(s->listen_addr);
    assert_null(s->migration_psk_file);
    assert_string_equal(s->run_dir, RUNSTATEDIR "/libvirt/virtpostcopy");
}

#define PATH_61 "/234567890123456789012345678901234567890123456789012345678901"
#define PATH_85 PATH_61 "234567890123456789012345"

static const struct {
    const char *text;
    SettingsError code;
    const char *message;
} bad_rows[] = {
    { "\nlisten_tsl = 1", SETTINGS_ERROR_UNKNOWN,
      "f.conf:2: there is no key listen_tsl; did you mean listen_tls?" },
    { "unix_sock_rwperms = '0700'", SETTINGS_ERROR_UNKNOWN, "did you mean unix_sock_rw_perms?" },
    { "LISTEN_TLS = 1", SETTINGS_ERROR_UNKNOWN,
      "there is no key LISTEN_TLS; virtpostcopyd.conf(5)" },
    { "tls_no_verify_certificate = 1", SETTINGS_ERROR_UNKNOWN, "virtpostcopyd.conf(5)" },
    { "x = 1", SETTINGS_ERROR_UNKNOWN, "f.conf:1: there is no key x; virtpostcopyd.conf(5)" },
    { "\n\nlisten_tls = 'yes'", SETTINGS_ERROR_TYPE,
      "f.conf:3: listen_tls (accept TLS connections): it must be an integer, not a string" },
    { "listen_addr = 1", SETTINGS_ERROR_TYPE, "it must be a string, not an integer" },
    { "ca_file = [ '/a' ]", SETTINGS_ERROR_TYPE, "it must be a string, not a list" },
    { "tls_port = []", SETTINGS_ERROR_TYPE, "it must be a string, not a list" },
    { "unix_sock_ro_perms = 0777", SETTINGS_ERROR_TYPE, "it must be a string, not an integer" },
    { "tls_allowed_dn_list = 'CN=a'", SETTINGS_ERROR_TYPE, "it must be a list, not a string" },
    { "listen_tls = 2", SETTINGS_ERROR_VALUE, "2 is not from 0 to 1" },
    { "listen_tls = -1", SETTINGS_ERROR_VALUE, "-1 is not from 0 to 1" },
    { "max_clients = 0", SETTINGS_ERROR_VALUE, "0 is not from 1 to 100000" },
    { "max_clients = 100001", SETTINGS_ERROR_VALUE, "100001 is not from" },
    { "max_clients = 4294967297", SETTINGS_ERROR_VALUE, "4294967297 is not from" },
    { "memory_max_migrations = 0", SETTINGS_ERROR_VALUE, "0 is not from 1 to 10000" },
    { "memory_max_migrations_per_user = 10001", SETTINGS_ERROR_VALUE, "10001 is not from" },
    { "migration_window = 65535", SETTINGS_ERROR_VALUE, "65535 is not from 65536 to 1073741824" },
    { "migration_window = 1073741825", SETTINGS_ERROR_VALUE, "1073741825 is not from" },
    { "migration_stage = 16777215", SETTINGS_ERROR_VALUE,
      "16777215 is not from 16777216 to 1099511627776" },
    { "migration_stage = 1099511627777", SETTINGS_ERROR_VALUE, "1099511627777 is not from" },
    { "migration_stage = -1", SETTINGS_ERROR_VALUE, "-1 is not from" },
    { "migration_stage = '256M'", SETTINGS_ERROR_TYPE, "it must be an integer, not a string" },
    { "migration_compression = 'zstd'", SETTINGS_ERROR_VALUE,
      "\"zstd\" is not one of \"auto\", \"on\", \"off\"" },
    { "migration_compression = 1", SETTINGS_ERROR_TYPE, "it must be a string, not an integer" },
    { "migration_compression_level = 0", SETTINGS_ERROR_VALUE, "0 is not from 1 to 19" },
    { "migration_compression_level = 20", SETTINGS_ERROR_VALUE, "20 is not from 1 to 19" },
    { "migration_pace_qemu = 2", SETTINGS_ERROR_VALUE, "2 is not from 0 to 1" },
    { "connect_timeout = 0", SETTINGS_ERROR_VALUE, "0 is not from 1 to 600" },
    { "keepalive_interval = 32768", SETTINGS_ERROR_VALUE, "32768 is not from 1 to 32767" },
    { "keepalive_count = 128", SETTINGS_ERROR_VALUE, "128 is not from 1 to 127" },
    { "reconnect_timeout = -1", SETTINGS_ERROR_VALUE, "-1 is not from 0 to 604800" },
    { "reconnect_timeout = 604801", SETTINGS_ERROR_VALUE, "604801 is not from 0 to 604800" },
    { "auto_recover = 2", SETTINGS_ERROR_VALUE, "2 is not from 0 to 1" },
    { "recover_timeout = 604801", SETTINGS_ERROR_VALUE, "604801 is not from 0 to 604800" },
    { "migration_rekey_records = 16777217", SETTINGS_ERROR_VALUE,
      "16777217 is not from 0 to 16777216" },
    { "log_level = 0", SETTINGS_ERROR_VALUE, "0 is not from 1 to 4" },
    { "log_level = 5", SETTINGS_ERROR_VALUE, "5 is not from 1 to 4" },
    { "tls_port = ''", SETTINGS_ERROR_VALUE, "\"\" is not a port from 1 to 65535" },
    { "tls_port = '0'", SETTINGS_ERROR_VALUE, "\"0\" is not a port" },
    { "tls_port = '65536'", SETTINGS_ERROR_VALUE, "\"65536\" is not a port" },
    { "tls_port = 'https'", SETTINGS_ERROR_VALUE, "\"https\" is not a port" },
    { "migration_port = 0", SETTINGS_ERROR_VALUE, "0 is not from 1 to 65535" },
    { "migration_port = 65536", SETTINGS_ERROR_VALUE, "65536 is not from 1 to 65535" },
    { "unix_sock_rw_perms = '0888'", SETTINGS_ERROR_VALUE, "\"0888\" is not a mode" },
    { "unix_sock_rw_perms = '1777'", SETTINGS_ERROR_VALUE, "\"1777\" is not a mode" },
    { "unix_sock_rw_perms = ''", SETTINGS_ERROR_VALUE, "\"\" is not a mode" },
    { "unix_sock_rw_perms = 'rwx'", SETTINGS_ERROR_VALUE, "\"rwx\" is not a mode" },
    { "unix_sock_dir = ''", SETTINGS_ERROR_VALUE, "it must not be empty" },
    { "unix_sock_dir = 'run'", SETTINGS_ERROR_VALUE, "\"run\" is not an absolute path" },
    { "helper_user = ''", SETTINGS_ERROR_VALUE, "it must not be empty" },
    { "key_file = ''", SETTINGS_ERROR_VALUE, "it must not be empty" },
    { "helper_path = './helper'", SETTINGS_ERROR_VALUE, "is not an absolute path" },
    { "ca_file = \"\"\"/a\nb\"\"\"", SETTINGS_ERROR_VALUE, "control character" },
    { "listen_addr = 'hostb'", SETTINGS_ERROR_VALUE, "\"hostb\" is not an IP address" },
    { "migration_address = ''", SETTINGS_ERROR_VALUE, "it must not be empty" },
    { "migration_address = '300.0.0.1'", SETTINGS_ERROR_VALUE, "is not an IP address" },
    { "host_name = '-x'", SETTINGS_ERROR_VALUE, "neither a host name nor an IP address" },
    { "host_name = 'a b'", SETTINGS_ERROR_VALUE, "neither a host name nor an IP address" },
    { "host_name = '[::1]'", SETTINGS_ERROR_VALUE, "neither a host name nor an IP address" },
    { "migration_auth = 'none'", SETTINGS_ERROR_VALUE, "\"none\" is not one of \"x509\", \"psk\"" },
    { "migration_auth = ''", SETTINGS_ERROR_VALUE, "\"\" is not one of" },
    { "tls_allowed_dn_list = []", SETTINGS_ERROR_VALUE, "the list is empty" },
    { "tls_allowed_dn_list = ['']", SETTINGS_ERROR_VALUE, "an item of the list is empty" },
    { "tls_allowed_dn_list = ['CN=a\t']", SETTINGS_ERROR_VALUE, "control character" },
    { "migration_auth = 'psk'", SETTINGS_ERROR_CONFLICT,
      "f.conf: migration_auth = \"psk\" needs migration_psk_file" },
    { "migration_auth = 'psk'\nmigration_psk_file = '/k'\nmigration_allowed_dn_list = ['CN=a']",
      SETTINGS_ERROR_CONFLICT, "migration_allowed_dn_list needs migration_auth = \"x509\"" },
    { "listen_tls = 1\nlisten_tcp = 1\ntcp_port = '16514'", SETTINGS_ERROR_CONFLICT,
      "tls_port and tcp_port are both 16514" },
    { "listen_tls = 1\ntls_port = '16515'", SETTINGS_ERROR_CONFLICT,
      "tls_port and migration_port are both 16515" },
    { "listen_tcp = 1\nmigration_port = 16555", SETTINGS_ERROR_CONFLICT,
      "tcp_port and migration_port are both 16555" },
    { "run_dir = '" PATH_61 "2'", SETTINGS_ERROR_CONFLICT, "is longer than 61 bytes" },
    { "unix_sock_dir = '" PATH_61 "'", SETTINGS_ERROR_CONFLICT, "01/virtpostcopy) is longer" },
    { "unix_sock_dir = '" PATH_85 "6'\nrun_dir = '/r'", SETTINGS_ERROR_CONFLICT,
      "unix_sock_dir is longer than 85 bytes" },
    { "upstream_socket = '" PATH_85 PATH_85 "'", SETTINGS_ERROR_CONFLICT,
      "upstream_socket is longer than 104 bytes" },
};

static void bad_settings_are_refused_with_file_line_and_key(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad_rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Settings) s = parse(bad_rows[i].text, &error);

        if (s)
            fail_msg("accepted: %s", bad_rows[i].text);
        if (!g_error_matches(error, SETTINGS_ERROR, (gint)bad_rows[i].code) ||
            !strstr(error->message, bad_rows[i].message) ||
            !g_str_has_prefix(error->message, "f.conf:"))
            fail_msg("%s: unexpected error %d: %s", bad_rows[i].text, error->code, error->message);
    }
}

static void settings_that_are_only_almost_in_conflict_are_accepted(void **state)
{
    static const char *const rows[] = {
        /* ports that nobody listens on do not matter */
        "tls_port = '16515'\ntcp_port = '16515'",
        "listen_tcp = 1\ntls_port = '16555'",
        "migration_psk_file = '/k'",
        "migration_auth = 'x509'\nmigration_allowed_dn_list = ['CN=a']",
        "unix_sock_dir = '" PATH_85 "'\nrun_dir = '" PATH_61 "'",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Settings) s = parse(rows[i], &error);

        if (!s)
            fail_msg("%s: %s", rows[i], error->message);
    }
}

static void a_syntax_error_is_passed_on(void **state)
{
    g_autoptr(GError) error = NULL;

    assert_null(parse("listen_tls", &error));
    assert_true(g_error_matches(error, CONF_ERROR, CONF_ERROR_SYNTAX));
}

/* Files. */

typedef struct {
    char *dir;
    char *path;
} TmpFile;

static int tmp_file_setup(void **state)
{
    TmpFile *tmp = g_new0(TmpFile, 1);

    tmp->dir = g_dir_make_tmp("test-settings-XXXXXX", NULL);
    tmp->path = g_build_filename(tmp->dir, "virtpostcopyd.conf", NULL);
    *state = tmp;
    return tmp->dir ? 0 : -1;
}

static int tmp_file_teardown(void **state)
{
    TmpFile *tmp = *state;

    g_unlink(tmp->path);
    g_rmdir(tmp->dir);
    g_free(tmp->path);
    g_free(tmp->dir);
    g_free(tmp);
    return 0;
}

static void a_file_is_loaded(void **state)
{
    TmpFile *tmp = *state;
    g_autoptr(Settings) s = NULL;

    assert_true(g_file_set_contents(tmp->path, "log_level = 1\n", -1, NULL));
    s = settings_load(tmp->path, NULL);
    assert_non_null(s);
    assert_int_equal(s->log_level, 1);
}

static void an_empty_file_is_loaded(void **state)
{
    TmpFile *tmp = *state;
    g_autoptr(Settings) s = NULL;

    assert_true(g_file_set_contents(tmp->path, "", 0, NULL));
    s = settings_load(tmp->path, NULL);
    assert_non_null(s);
}

static void a_file_that_was_asked_for_must_exist(void **state)
{
    TmpFile *tmp = *state;
    g_autoptr(GError) error = NULL;

    assert_null(settings_load(tmp->path, &error));
    assert_true(g_error_matches(error, SETTINGS_ERROR, SETTINGS_ERROR_FILE));
    assert_non_null(strstr(error->message, tmp->path));
}

static void a_directory_is_no_file(void **state)
{
    TmpFile *tmp = *state;
    g_autoptr(GError) error = NULL;

    assert_null(settings_load(tmp->dir, &error));
    assert_true(g_error_matches(error, SETTINGS_ERROR, SETTINGS_ERROR_FILE));
}

static void an_oversized_file_is_refused_without_being_read_to_its_end(void **state)
{
    g_autoptr(GError) error = NULL;

    /* It has no end. */
    assert_null(settings_load("/dev/zero", &error));
    assert_true(g_error_matches(error, CONF_ERROR, CONF_ERROR_LIMIT));
}

/* The sample file. */

/* Takes the # off "#key = value"; prose has a blank after it. */
static char *sample_text(gboolean lists)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents(SAMPLE_CONF, &text, NULL, &error))
        fail_msg("%s", error->message);
    lines = g_strsplit(text, "\n", -1);
    for (gsize i = 0; lines[i]; i++) {
        if (lines[i][0] == '#' && g_ascii_islower(lines[i][1]) && (lists || !strchr(lines[i], '[')))
            lines[i][0] = ' ';
    }
    return g_strjoinv("\n", lines);
}

static gboolean same_field(const SettingRow *row, Settings *a, Settings *b)
{
    gconstpointer in_a = G_STRUCT_MEMBER_P(a, row->offset);
    gconstpointer in_b = G_STRUCT_MEMBER_P(b, row->offset);

    switch (row->type) {
    case SETTING_BOOL:
    case SETTING_UINT:
    case SETTING_MODE:
    case SETTING_WORD:
        return *(const guint *)in_a == *(const guint *)in_b;
    case SETTING_BYTES:
        return *(const guint64 *)in_a == *(const guint64 *)in_b;
    case SETTING_PORT:
        return *(const guint16 *)in_a == *(const guint16 *)in_b;
    case SETTING_LIST:
        return *(char **const *)in_a == *(char **const *)in_b;
    default:
        return g_strcmp0(*(char *const *)in_a, *(char *const *)in_b) == 0;
    }
}

static void the_sample_says_what_the_defaults_are(void **state)
{
    g_autofree char *text = sample_text(FALSE);
    g_autoptr(GError) error = NULL;
    g_autoptr(Settings) sample = parse(text, &error);
    g_autoptr(Settings) defaults = parse("", NULL);

    if (!sample)
        fail_msg("%s", error->message);
    for (gsize i = 0; i < setting_rows_len; i++) {
        if (!same_field(&setting_rows[i], sample, defaults))
            fail_msg("%s has another default in " SAMPLE_CONF, setting_rows[i].key);
    }
}

static void the_sample_has_every_key(void **state)
{
    g_autofree char *text = sample_text(TRUE);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) entries = conf_parse(text, strlen(text), SAMPLE_CONF, &error);
    g_autoptr(Settings) settings = parse(text, NULL);

    if (!entries)
        fail_msg("%s", error->message);
    assert_non_null(settings); /* so that each of its keys is one of ours */
    assert_int_equal(entries->len, setting_rows_len);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_file_gives_the_defaults),
        cmocka_unit_test(values_of_the_file_replace_the_defaults),
        cmocka_unit_test(an_empty_string_unsets_what_has_no_default),
        cmocka_unit_test(bad_settings_are_refused_with_file_line_and_key),
        cmocka_unit_test(settings_that_are_only_almost_in_conflict_are_accepted),
        cmocka_unit_test(a_syntax_error_is_passed_on),
        cmocka_unit_test_setup_teardown(a_file_is_loaded, tmp_file_setup, tmp_file_teardown),
        cmocka_unit_test_setup_teardown(an_empty_file_is_loaded, tmp_file_setup,
                                        tmp_file_teardown),
        cmocka_unit_test_setup_teardown(a_file_that_was_asked_for_must_exist, tmp_file_setup,
                                        tmp_file_teardown),
        cmocka_unit_test_setup_teardown(a_directory_is_no_file, tmp_file_setup,
                                        tmp_file_teardown),
        cmocka_unit_test(an_oversized_file_is_refused_without_being_read_to_its_end),
        cmocka_unit_test(the_sample_says_what_the_defaults_are),
        cmocka_unit_test(the_sample_has_every_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
