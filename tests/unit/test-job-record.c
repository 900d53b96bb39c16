/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The record of a migration on disk: what was saved is loaded, and nothing else is believed. */
#include "config.h"

#include "driver/job_record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ram/job_outcome.h"
#include "util/autofd.h"

#define HEX_SESSION "11111111111111111111111111111111"
#define HEX_UNIQUE "0123456789abcdef0123456789abcdef"

static int setup(void **state)
{
    *state = g_dir_make_tmp("test-job-record-XXXXXX", NULL);
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    g_autofree char *dir = *state;

    return g_rmdir(dir); /* fails if a test left something */
}

static JobRecord *make_record(const char *dir)
{
    JobRecord *record = job_record_new();

    record->side = MIGRATION_SIDE_SOURCE;
    record->domain = g_strdup(" gast; #1\nü");
    record->uri.host = g_strdup("hostb.example.com");
    record->uri.port = 16515;
    memset(record->uri.session, 0x11, MIGRATION_SESSION_LEN);
    memset(record->uri.token, 0xa5, MIGRATION_TOKEN_LEN);
    record->listen_address = g_strdup("2001:db8::2");
    record->tls_name = g_strdup("other.example.com");
    record->helper_pid = 4711;
    record->socket_path = g_strdup_printf("%s/out-" HEX_UNIQUE ".sock", dir);
    record->disks_path = g_strdup_printf("%s/in-" HEX_UNIQUE "/qemu", dir);
    record->qemu_connections = 1;
    record->streaming = TRUE;
    record->postcopy = TRUE;
    record->on_purpose = TRUE;
    record->speed_limit = (SpeedLimit){ .user = 77, .again = TRUE };
    record->recovers = TRUE;
    record->reading_failed = TRUE;
    record->memory = TRUE;
    record->memory_uid = 4000000000;
    record->perform_procedure = 305;
    record->perform_args = g_bytes_new("\0args\xff", 6);
    record->begun = 1700000000123456;
    record->broken = 1700000100;
    return record;
}

static char *record_path(const char *dir)
{
    return g_build_filename(dir, "job-" HEX_SESSION ".conf", NULL);
}

static void assert_same(const JobRecord *a, const JobRecord *b)
{
    assert_int_equal(a->side, b->side);
    assert_string_equal(a->domain, b->domain);
    assert_string_equal(a->uri.host, b->uri.host);
    assert_int_equal(a->uri.port, b->uri.port);
    assert_memory_equal(a->uri.session, b->uri.session, MIGRATION_SESSION_LEN);
    assert_memory_equal(a->uri.token, b->uri.token, MIGRATION_TOKEN_LEN);
    assert_int_equal(g_strcmp0(a->listen_address, b->listen_address), 0);
    assert_int_equal(g_strcmp0(a->tls_name, b->tls_name), 0);
    assert_int_equal(a->helper_pid, b->helper_pid);
    assert_int_equal(g_strcmp0(a->socket_path, b->socket_path), 0);
    assert_int_equal(g_strcmp0(a->disks_path, b->disks_path), 0);
    assert_int_equal(a->qemu_connections, b->qemu_connections);
    assert_int_equal(a->streaming, b->streaming);
    assert_int_equal(a->postcopy, b->postcopy);
    assert_int_equal(a->on_purpose, b->on_purpose);
    assert_int_equal(a->speed_limit.user, b->speed_limit.user);
    assert_int_equal(a->speed_limit.again, b->speed_limit.again);
    assert_int_equal(a->recovers, b->recovers);
    assert_int_equal(a->reading_failed, b->reading_failed);
    assert_int_equal(a->memory, b->memory);
    assert_int_equal(a->memory_uid, b->memory_uid);
    assert_int_equal(a->perform_procedure, b->perform_procedure);
    assert_int_equal(a->perform_args != NULL, b->perform_args != NULL);
    if (a->perform_args)
        assert_true(g_bytes_equal(a->perform_args, b->perform_args));
    assert_int_equal(a->begun, b->begun);
    assert_int_equal(a->broken, b->broken);
}

static guint count_loaded(const char *dir)
{
    g_autoptr(GPtrArray) records = job_record_load_all(dir);

    return records->len;
}

static void what_was_saved_is_loaded(void **state)
{
    g_autoptr(JobRecord) record = make_record(*state);
    g_autoptr(JobRecord) copy = job_record_copy(record);
    g_autoptr(GPtrArray) loaded = NULL;
    g_autofree char *path = record_path(*state);
    struct stat st;

    assert_true(job_record_save(record, *state, NULL));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    loaded = job_record_load_all(*state);
    assert_int_equal(loaded->len, 1);
    assert_same(g_ptr_array_index(loaded, 0), record);
    assert_same(copy, record);
    job_record_remove(*state, record->uri.session);
}

static void a_record_without_the_optional_is_loaded(void **state)
{
    g_autoptr(JobRecord) record = make_record(*state);
    g_autoptr(GPtrArray) loaded = NULL;

    record->side = MIGRATION_SIDE_DESTINATION;
    g_clear_pointer(&record->listen_address, g_free);
    g_clear_pointer(&record->tls_name, g_free);
    g_clear_pointer(&record->socket_path, g_free);
    g_clear_pointer(&record->disks_path, g_free);
    g_clear_pointer(&record->perform_args, g_bytes_unref);
    assert_true(job_record_save(record, *state, NULL));
    loaded = job_record_load_all(*state);
    assert_int_equal(loaded->len, 1);
    assert_same(g_ptr_array_index(loaded, 0), record);
    job_record_remove(*state, record->uri.session);
}

static void a_later_save_replaces_the_earlier(void **state)
{
    g_autoptr(JobRecord) record = make_record(*state);
    g_autoptr(GPtrArray) loaded = NULL;

    assert_true(job_record_save(record, *state, NULL));
    record->qemu_connections = 2;
    g_clear_pointer(&record->socket_path, g_free);
    g_clear_pointer(&record->disks_path, g_free);
    assert_true(job_record_save(record, *state, NULL));
    loaded = job_record_load_all(*state);
    assert_int_equal(loaded->len, 1);
    assert_same(g_ptr_array_index(loaded, 0), record);
    job_record_remove(*state, record->uri.session);
}

static void the_oldest_comes_first(void **state)
{
    static const gint64 begun[] = { 30, 10, 20 };
    g_autoptr(JobRecord) record = make_record(*state);
    g_autoptr(GPtrArray) loaded = NULL;

    for (guint8 i = 0; i < G_N_ELEMENTS(begun); i++) {
        record->uri.session[0] = i;
        record->begun = begun[i];
        assert_true(job_record_save(record, *state, NULL));
    }
    loaded = job_record_load_all(*state);
    assert_int_equal(loaded->len, 3);
    for (guint i = 0; i < loaded->len; i++) {
        const JobRecord *each = g_ptr_array_index(loaded, i);

        assert_int_equal(each->begun, (i + 1) * 10);
        job_record_remove(*state, each->uri.session);
    }
}

/* ---- what is not believed ---- */

static void put_record(const char *dir)
{
    g_autoptr(JobRecord) record = make_record(dir);

    assert_true(job_record_save(record, dir, NULL));
}

static char *saved_text(const char *dir, gsize *ret_len)
{
    g_autofree char *path = record_path(dir);
    char *text = NULL;

    put_record(dir);
    assert_true(g_file_get_contents(path, &text, ret_len, NULL));
    return text;
}

static void put(const char *dir, const char *text, gsize len)
{
    g_autofree char *path = record_path(dir);

    assert_true(g_file_set_contents_full(path, text, (gssize)len, G_FILE_SET_CONTENTS_CONSISTENT,
                                         0600, NULL));
}

static void a_record_that_was_cut_off_is_refused(void **state)
{
    gsize len;
    g_autofree char *text = saved_text(*state, &len);
    g_autofree char *path = record_path(*state);

    for (gsize cut = 0; cut < len - 1; cut++) { /* without the last newline it is whole */
        put(*state, text, cut);
        if (count_loaded(*state) != 0)
            fail_msg("cut at %zu of %zu", cut, len);
    }
    assert_int_equal(access(path, F_OK), 0); /* left where it is */
    assert_int_equal(g_unlink(path), 0);
}

static void replace(const char *dir, const char *text, const char *from, const char *to)
{
    g_auto(GStrv) parts = g_strsplit(text, from, 2);
    g_autofree char *changed = NULL;

    assert_non_null(parts[1]);
    changed = g_strjoin(to, parts[0], parts[1], NULL);
    put(dir, changed, strlen(changed));
}

static void bad_values_are_refused(void **state)
{
    static const struct {
        const char *from;
        const char *to;
    } rows[] = {
        { "side=source", "side=middle" },
        { "side=source", "" },
        { "port=16515", "port=65536" },
        { "port=16515", "port=-1" },
        { "port=16515", "port=" },
        { "session=11", "session=" },
        { "session=11", "session=1111" },
        { "session=11", "session=1g" },
        { "session=11", "session=22" }, /* not that of the name */
        { "token=a5", "token=" },
        { "token=a5", "token=a5a5" },
        { "helper-pid=4711", "helper-pid=-4711" },
        { "helper-pid=4711", "helper-pid=4711 " },
        { "streaming=true", "streaming=yes" },
        { "begun-us=1700000000123456", "begun-us=soon" },
        { "version=1", "version=2" },
        { "version=1", "version=one" },
        { "domain=", "doman=" },
        { "host=hostb", "hast=hostb" },
        { "token=a5", "taken=a5" },
        { "complete=true", "" },
        { "/out-", "/../out-" },
        { "out-" HEX_UNIQUE, "out-" },
        { "disks-path=/", "disks-path=/tmp/" },
        { "[job]", "[other]" },
        { "complete=true", "complete=false" },
        { "domain=", "domain=\xff" },
    };
    gsize len;
    g_autofree char *text = saved_text(*state, &len);
    g_autofree char *path = record_path(*state);

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        replace(*state, text, rows[i].from, rows[i].to);
        if (count_loaded(*state) != 0)
            fail_msg("accepted: %s instead of %s", rows[i].to, rows[i].from);
    }
    put(*state, text, len);
    assert_int_equal(count_loaded(*state), 1);
    assert_int_equal(g_unlink(path), 0);
}

static void keys_of_other_releases_do_no_harm(void **state)
{
    gsize len;
    g_autofree char *text = saved_text(*state, &len);
    g_autofree char *path = record_path(*state);
    g_autoptr(JobRecord) expected = make_record(*state);
    g_autoptr(GPtrArray) loaded = NULL;

    replace(*state, text, "complete=true", "unheard-of=1\ncomplete=true");
    loaded = job_record_load_all(*state);
    assert_int_equal(loaded->len, 1);
    assert_same(g_ptr_array_index(loaded, 0), expected);
    g_ptr_array_unref(loaded);

    replace(*state, text, "recovers=true\n", "");
    loaded = job_record_load_all(*state);
    assert_int_equal(loaded->len, 1);
    expected->recovers = FALSE;
    assert_same(g_ptr_array_index(loaded, 0), expected);
    g_ptr_array_unref(loaded);

    replace(*state, text, "begun-us=", "begun=");
    loaded = job_record_load_all(*state);
    assert_int_equal(loaded->len, 1);
    expected->recovers = TRUE;
    expected->begun = 0;
    assert_same(g_ptr_array_index(loaded, 0), expected);

    replace(*state, text, "version=1\n", "");
    assert_int_equal(count_loaded(*state), 1);
    assert_int_equal(g_unlink(path), 0);
}

static void a_file_that_others_can_read_or_write_is_refused(void **state)
{
    static const mode_t modes[] = { 0640, 0604, 0620, 0602, 0601 };
    g_autofree char *path = record_path(*state);

    put_record(*state);
    for (gsize i = 0; i < G_N_ELEMENTS(modes); i++) {
        assert_int_equal(g_chmod(path, modes[i]), 0);
        assert_int_equal(count_loaded(*state), 0);
    }
    assert_int_equal(g_chmod(path, 0600), 0);
    assert_int_equal(count_loaded(*state), 1);
    assert_int_equal(g_unlink(path), 0);
}

static void a_file_of_somebody_else_is_refused(void **state)
{
    g_autofree char *path = record_path(*state);

    if (geteuid() != 0)
        skip();
    put_record(*state);
    assert_int_equal(chown(path, 65534, 65534), 0);
    assert_int_equal(count_loaded(*state), 0);
    assert_int_equal(g_unlink(path), 0);
}

static void a_link_is_refused(void **state)
{
    g_autofree char *path = record_path(*state);
    g_autofree char *elsewhere = g_build_filename(*state, "elsewhere", NULL);

    put_record(*state);
    assert_int_equal(g_rename(path, elsewhere), 0);
    assert_int_equal(symlink(elsewhere, path), 0);
    assert_int_equal(count_loaded(*state), 0);
    assert_int_equal(g_unlink(path), 0);
    assert_int_equal(g_unlink(elsewhere), 0);
}

static void a_pipe_does_not_hold_up_the_start(void **state)
{
    g_autofree char *path = record_path(*state);

    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(count_loaded(*state), 0);
    assert_int_equal(g_unlink(path), 0);
}

static void a_directory_that_is_missing_has_no_records(void **state)
{
    assert_int_equal(count_loaded("/proc/no/such"), 0);
}

/* ---- outcomes ---- */

static const guint8 session[MIGRATION_SESSION_LEN] = { 0x11, 0x11, 0x11, 0x11, 0x11, 0x11,
                                                       0x11, 0x11, 0x11, 0x11, 0x11, 0x11,
                                                       0x11, 0x11, 0x11, 0x11 };

static void an_outcome_is_loaded_when_the_helper_has_written_one(void **state)
{
    g_auto(JobOutcomeText) outcome = { 0 };
    g_autofree char *text =
        job_outcome_text("failed", "postcopy-paused", "peer", "gone; \nfür immer");
    autofd fd = job_record_make_outcome(*state, session, NULL);

    assert_true(fd >= 0);
    assert_true(job_outcome_check(fd, NULL));
    assert_false(job_record_load_outcome(*state, session, &outcome));
    assert_true(job_outcome_write(fd, text, NULL));
    assert_true(job_record_load_outcome(*state, session, &outcome));
    assert_string_equal(outcome.state, "failed");
    assert_string_equal(outcome.phase, "postcopy-paused");
    assert_string_equal(outcome.ended_by, "peer");
    assert_string_equal(outcome.reason, "gone; \nfür immer");
    job_record_remove(*state, session);
}

static void an_outcome_that_was_cut_off_is_none(void **state)
{
    g_auto(JobOutcomeText) outcome = { 0 };
    g_autofree char *text = job_outcome_text("active", "device", "", "");
    gsize said = strlen(g_strchomp(text));
    autofd fd = job_record_make_outcome(*state, session, NULL);

    assert_true(fd >= 0);
    for (gsize cut = 0; cut < said; cut++) {
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, text, cut, 0), (ssize_t)cut);
        if (job_record_load_outcome(*state, session, &outcome))
            fail_msg("cut at %zu of %zu", cut, said);
    }
    job_record_remove(*state, session);
    assert_false(job_record_load_outcome(*state, session, &outcome));
}

static void an_outcome_file_is_made_once_and_private(void **state)
{
    g_autofree char *path = job_record_outcome_path(*state, session);
    g_autoptr(GError) error = NULL;
    autofd fd = job_record_make_outcome(*state, session, NULL);
    struct stat st;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(job_record_make_outcome(*state, session, &error), -1);
    assert_non_null(strstr(error->message, path));
    job_record_remove(*state, session);
    assert_int_equal(access(path, F_OK), -1);
}

#define WITH_DIR(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DIR(what_was_saved_is_loaded),
        WITH_DIR(a_record_without_the_optional_is_loaded),
        WITH_DIR(a_later_save_replaces_the_earlier),
        WITH_DIR(the_oldest_comes_first),
        WITH_DIR(a_record_that_was_cut_off_is_refused),
        WITH_DIR(bad_values_are_refused),
        WITH_DIR(keys_of_other_releases_do_no_harm),
        WITH_DIR(a_file_that_others_can_read_or_write_is_refused),
        WITH_DIR(a_file_of_somebody_else_is_refused),
        WITH_DIR(a_link_is_refused),
        WITH_DIR(a_pipe_does_not_hold_up_the_start),
        cmocka_unit_test(a_directory_that_is_missing_has_no_records),
        WITH_DIR(an_outcome_is_loaded_when_the_helper_has_written_one),
        WITH_DIR(an_outcome_that_was_cut_off_is_none),
        WITH_DIR(an_outcome_file_is_made_once_and_private),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
