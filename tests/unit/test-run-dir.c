/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Socket paths: unguessable, owned by QEMU's user, gone in the end, and leftovers of an earlier run
 * removed without touching anything else. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib/gstdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "driver/run_dir.h"
#include "util/autofd.h"

static int setup(void **state)
{
    g_autofree char *base = g_dir_make_tmp("test-run-dir-XXXXXX", NULL);

    *state = g_build_filename(base, "run", NULL);
    return 0;
}

static int teardown(void **state)
{
    g_autofree char *dir = *state;
    g_autofree char *base = g_path_get_dirname(dir);

    g_rmdir(dir);
    return g_rmdir(base); /* fails if a test left something */
}

static void test_directory_is_made_for_passing_through_only(void **state)
{
    struct stat st;

    assert_true(run_dir_prepare(*state, NULL));
    assert_int_equal(stat(*state, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0711);
    assert_true(run_dir_prepare(*state, NULL));
}

static void test_paths_differ_and_fit(void **state)
{
    g_autofree char *a = run_dir_socket_path(*state, "out-");
    g_autofree char *b = run_dir_socket_path(*state, "out-");

    assert_string_not_equal(a, b);
    assert_int_equal(strlen(a), strlen(*state) + strlen("/out-.sock") + 32);
}

static void test_qemu_gets_a_directory_of_its_own(void **state)
{
    QemuOwner owner = { .uid = getuid(), .gid = getgid() };
    g_autofree char *path = NULL;
    g_autofree char *dir = NULL;
    struct stat st;

    assert_true(run_dir_prepare(*state, NULL));
    path = run_dir_make_for_qemu(*state, &owner, NULL);
    assert_non_null(path);
    dir = g_path_get_dirname(path);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(st.st_uid, owner.uid);
    run_dir_remove(*state, path);
    assert_int_equal(access(dir, F_OK), -1);
}

static void test_socket_is_private_and_removable(void **state)
{
    g_autofree char *path = run_dir_socket_path(*state, "out-");
    autofd fd = -1;
    struct stat st;

    assert_true(run_dir_prepare(*state, NULL));
    fd = run_dir_listen(path, NULL);
    assert_true(fd >= 0);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0600);
    run_dir_remove(*state, path);
    assert_int_equal(access(path, F_OK), -1);
    run_dir_remove(*state, path); /* a second time is no error */
}

static void test_socket_for_qemu_is_its_users_alone(void **state)
{
    g_autofree char *path = run_dir_socket_path(*state, "out-");
    const QemuOwner owner = { .uid = getuid() == 0 ? 4711 : getuid(),
                              .gid = getuid() == 0 ? 4712 : getgid() };
    g_autoptr(GError) error = NULL;
    struct stat st;
    autofd fd = -1;

    assert_true(run_dir_prepare(*state, NULL));
    fd = run_dir_listen_for_qemu(path, &owner, NULL);
    assert_true(fd >= 0);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_uid, owner.uid);
    assert_int_equal(st.st_gid, owner.gid);
    assert_true(run_dir_owns(*state, path));
    /* Nobody takes the place of one that is there. */
    assert_int_equal(run_dir_listen_for_qemu(path, &owner, &error), -1);
    assert_non_null(error);
    assert_int_equal(access(path, F_OK), 0);
    run_dir_remove(*state, path);
}

/* A connection to path; what the check says of it. */
static gboolean server_passes(const char *path, GError **error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    autofd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0 && strlen(path) < sizeof address.sun_path);
    memcpy(address.sun_path, path, strlen(path));
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return run_dir_check_server(fd, path, error);
}

static void test_only_the_directorys_user_may_listen_in_it(void **state)
{
    const QemuOwner self = { .uid = getuid(), .gid = getgid() };
    const QemuOwner other = { .uid = 4711, .gid = 4712 };
    g_autofree char *ours = NULL;
    g_autofree char *theirs = NULL;
    g_autoptr(GError) error = NULL;
    autofd fd = -1;

    assert_true(run_dir_prepare(*state, NULL));
    ours = run_dir_make_for_qemu(*state, &self, NULL);
    fd = run_dir_listen(ours, NULL);
    assert_true(fd >= 0);
    assert_true(server_passes(ours, NULL));
    if (getuid() == 0) { /* another user links from its own directory to a socket of root's */
        theirs = run_dir_make_for_qemu(*state, &other, NULL);
        assert_int_equal(symlink(ours, theirs), 0);
        assert_false(server_passes(theirs, &error));
        assert_non_null(strstr(error->message, "user 0 listens"));
        run_dir_remove(*state, theirs);
    }
    run_dir_remove(*state, ours);
}

/* A socket in the directory, and what is to be kept. */
static char *add_socket(const char *dir, const char *prefix)
{
    char *path = run_dir_socket_path(dir, prefix);
    autofd fd = run_dir_listen(path, NULL);

    assert_true(fd >= 0);
    return path;
}

static char *add_file(const char *dir, const char *name)
{
    char *path = g_build_filename(dir, name, NULL);

    assert_true(g_file_set_contents(path, "text", -1, NULL));
    return path;
}

static void test_leftovers_are_swept_and_others_kept(void **state)
{
    QemuOwner owner = { .uid = getuid(), .gid = getgid() };
    g_autoptr(GPtrArray) keep = g_ptr_array_new();
    g_autofree char *out = NULL;
    g_autofree char *p2p = NULL;
    g_autofree char *in = NULL;
    g_autofree char *other = NULL;
    autofd fd_in = -1;

    assert_true(run_dir_prepare(*state, NULL));
    out = add_socket(*state, "out-");
    p2p = add_socket(*state, "p2p-");
    other = add_file(*state, "notes");
    in = run_dir_make_for_qemu(*state, &owner, NULL);
    fd_in = run_dir_listen(in, NULL);
    assert_true(fd_in >= 0);

    run_dir_sweep(*state, keep);
    assert_int_equal(access(out, F_OK), -1);
    assert_int_equal(access(p2p, F_OK), -1);
    assert_int_equal(access(in, F_OK), -1);
    assert_int_equal(access(other, F_OK), 0);
    assert_int_equal(g_unlink(other), 0);
}

static void test_sockets_that_are_needed_are_kept(void **state)
{
    QemuOwner owner = { .uid = getuid(), .gid = getgid() };
    g_autoptr(GPtrArray) keep = g_ptr_array_new();
    g_autofree char *out = NULL;
    g_autofree char *in = NULL;
    g_autofree char *other = NULL;
    autofd fd_in = -1;

    assert_true(run_dir_prepare(*state, NULL));
    out = add_socket(*state, "out-");
    other = add_socket(*state, "out-");
    in = run_dir_make_for_qemu(*state, &owner, NULL);
    fd_in = run_dir_listen(in, NULL);
    assert_true(fd_in >= 0);

    g_ptr_array_add(keep, out);
    g_ptr_array_add(keep, in);
    run_dir_sweep(*state, keep);
    assert_int_equal(access(out, F_OK), 0);
    assert_int_equal(access(in, F_OK), 0);
    assert_int_equal(access(other, F_OK), -1);
    run_dir_remove(*state, out);
    run_dir_remove(*state, in);
}

#define SESSION_A "0123456789abcdef0123456789abcdef"
#define SESSION_B "fedcba9876543210fedcba9876543210"

static void test_files_of_a_session_are_kept_while_it_has_a_record(void **state)
{
    static const struct {
        const char *name;
        gboolean kept;
    } rows[] = {
        { "job-" SESSION_A ".conf", TRUE },
        { "job-" SESSION_A ".sock", TRUE },
        { "job-" SESSION_A ".outcome", TRUE },
        { "job-" SESSION_A ".conf.X4Y2Z1", FALSE },
        { "job-" SESSION_B ".sock", FALSE },
        { "job-" SESSION_B ".outcome", FALSE },
        { "job-0123.outcome", FALSE },
        { "job-", FALSE },
    };
    g_autoptr(GPtrArray) keep = g_ptr_array_new();

    assert_true(run_dir_prepare(*state, NULL));
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        g_free(add_file(*state, rows[i].name));
    run_dir_sweep(*state, keep);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_build_filename(*state, rows[i].name, NULL);

        if ((access(path, F_OK) == 0) != rows[i].kept)
            fail_msg("%s", rows[i].name);
        g_unlink(path);
    }
}

static void test_only_names_made_here_are_its_own(void **state)
{
    static const struct {
        const char *path;
        gboolean own;
    } rows[] = {
        { "/run/x/out-" SESSION_A ".sock", TRUE },
        { "/run/x/in-" SESSION_A "/qemu", TRUE },
        { "/run/x/p2p-" SESSION_A ".sock", FALSE },
        { "/run/xy/out-" SESSION_A ".sock", FALSE },
        { "/run/x/out-../passwd", FALSE },
        { "/run/x/in-" SESSION_A "/../../passwd", FALSE },
        { "/run/x/in-" SESSION_A, FALSE },
        { "/run/x/", FALSE },
        { "/run/x", FALSE },
        { "", FALSE },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (run_dir_owns("/run/x", rows[i].path) != rows[i].own)
            fail_msg("%s", rows[i].path);
    }
}

static void test_too_long_a_path_is_an_error_with_a_remedy(void **state)
{
    g_autofree char *name = g_strnfill(100, 'x');
    g_autofree char *path = g_build_filename("/run/somewhere", name, NULL);
    g_autoptr(GError) error = NULL;

    assert_int_equal(run_dir_listen(path, &error), -1);
    assert_true(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_FILENAME_TOO_LONG));
    assert_non_null(strstr(error->message, "run_dir"));
}

static void test_a_directory_that_cannot_be_made_is_named(void **state)
{
    g_autoptr(GError) error = NULL;

    assert_false(run_dir_prepare("/proc/no/such", &error));
    assert_non_null(strstr(error->message, "/proc/no/such"));
}

#define WITH_DIR(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DIR(test_directory_is_made_for_passing_through_only),
        WITH_DIR(test_paths_differ_and_fit),
        WITH_DIR(test_qemu_gets_a_directory_of_its_own),
        WITH_DIR(test_socket_is_private_and_removable),
        WITH_DIR(test_socket_for_qemu_is_its_users_alone),
        WITH_DIR(test_only_the_directorys_user_may_listen_in_it),
        WITH_DIR(test_leftovers_are_swept_and_others_kept),
        WITH_DIR(test_sockets_that_are_needed_are_kept),
        WITH_DIR(test_files_of_a_session_are_kept_while_it_has_a_record),
        cmocka_unit_test(test_only_names_made_here_are_its_own),
        cmocka_unit_test(test_too_long_a_path_is_an_error_with_a_remedy),
        cmocka_unit_test(test_a_directory_that_cannot_be_made_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
