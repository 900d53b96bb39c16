/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Listening sockets: modes and group, stale files, somebody else's, those that were passed, and
 * accepting; and the lock of the pid file. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver/listen_socket.h"
#include "driver/listener.h"
#include "driver/pid_file.h"
#include "tests/support/rpc-end.h"
#include "util/autofd.h"

typedef struct {
    char *dir;
    char *path;
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);

    f->dir = g_dir_make_tmp("test-listener-XXXXXX", NULL);
    f->path = g_build_filename(f->dir, "sock", NULL);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    int left = g_rmdir(f->dir); /* fails if a test left something */

    g_free(f->path);
    g_free(f->dir);
    g_free(f);
    return left;
}

static int connect_unix(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    autofd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return -1;
    return autofd_steal(&fd);
}

/* --- unix --- */

static void test_socket_has_the_mode_that_was_asked_for(void **state)
{
    static const mode_t modes[] = { 0700, 0777, 0770, 0600 };
    Fixture *f = *state;

    for (gsize i = 0; i < G_N_ELEMENTS(modes); i++) {
        autofd fd = listen_socket_unix(f->path, modes[i], getgid(), NULL);
        struct stat st;

        assert_true(fd >= 0);
        assert_int_equal(lstat(f->path, &st), 0);
        assert_int_equal(st.st_mode & 07777, modes[i]);
        assert_int_equal(st.st_gid, getgid());
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
        listen_socket_remove(fd, f->path);
        assert_int_equal(lstat(f->path, &st), -1);
    }
}

static void test_stale_socket_is_replaced(void **state)
{
    Fixture *f = *state;
    autofd second = -1;
    autofd client = -1;
    int first = listen_socket_unix(f->path, 0700, (gid_t)-1, NULL);

    close(first); /* as a daemon that was killed */
    second = listen_socket_unix(f->path, 0700, (gid_t)-1, NULL);
    assert_true(second >= 0);
    client = connect_unix(f->path);
    assert_true(client >= 0);
    listen_socket_remove(second, f->path);
}

static void test_socket_somebody_listens_on_is_left_alone(void **state)
{
    Fixture *f = *state;
    autofd first = listen_socket_unix(f->path, 0700, (gid_t)-1, NULL);
    autofd client = -1;
    g_autoptr(GError) error = NULL;

    assert_int_equal(listen_socket_unix(f->path, 0700, (gid_t)-1, &error), -1);
    assert_true(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_ADDRESS_IN_USE));
    assert_non_null(strstr(error->message, f->path));
    client = connect_unix(f->path);
    assert_true(client >= 0);
    listen_socket_remove(first, f->path);
}

static void test_successors_socket_is_not_removed(void **state)
{
    Fixture *f = *state;
    autofd first = listen_socket_unix(f->path, 0700, (gid_t)-1, NULL);
    autofd second = -1;

    assert_int_equal(unlink(f->path), 0);
    second = listen_socket_unix(f->path, 0700, (gid_t)-1, NULL);
    listen_socket_remove(first, f->path);
    assert_int_equal(access(f->path, F_OK), 0);
    listen_socket_remove(second, f->path);
    assert_int_equal(access(f->path, F_OK), -1);
}

static void test_file_that_is_no_socket_is_left_alone(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;

    assert_true(g_file_set_contents(f->path, "precious", -1, NULL));
    assert_int_equal(listen_socket_unix(f->path, 0700, (gid_t)-1, &error), -1);
    assert_non_null(strstr(error->message, "not a socket"));
    assert_int_equal(unlink(f->path), 0);
}

static void test_paths_that_cannot_be_are_refused_by_name(void **state)
{
    Fixture *f = *state;
    g_autofree char *name = g_strnfill(120, 'x');
    g_autofree char *too_long = g_build_filename(f->dir, name, NULL);
    g_autofree char *nowhere = g_build_filename(f->dir, "missing", "sock", NULL);
    const char *paths[] = { too_long, nowhere };

    for (gsize i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autoptr(GError) error = NULL;

        assert_int_equal(listen_socket_unix(paths[i], 0700, (gid_t)-1, &error), -1);
        assert_non_null(strstr(error->message, i == 0 ? name : "missing"));
    }
}

/* Many processes want the same stale socket at once: exactly one gets it. */
static void test_one_of_many_that_start_at_once_wins(void **state)
{
    enum { RIVALS = 8 };
    Fixture *f = *state;
    pid_t pids[RIVALS];
    int ready[2], winners = 0;
    char byte;

    close(listen_socket_unix(f->path, 0700, (gid_t)-1, NULL));
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    for (guint i = 0; i < RIVALS; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            int fd;

            close(ready[1]);
            fd = read(ready[0], &byte, 1) == 0 ? listen_socket_unix(f->path, 0700, (gid_t)-1, NULL)
                                               : -1;
            if (fd >= 0)
                g_usleep(G_USEC_PER_SEC / 2); /* listens while the others look */
            _exit(fd >= 0);
        }
    }
    close(ready[0]);
    close(ready[1]);
    for (guint i = 0; i < RIVALS; i++) {
        int status;

        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        winners += WEXITSTATUS(status);
    }
    assert_int_equal(winners, 1);
    unlink(f->path);
}

/* --- TCP, and sockets that were passed --- */

static guint16 port_of(int fd)
{
    struct sockaddr_storage storage = { 0 };
    socklen_t len = sizeof storage;

    assert_int_equal(getsockname(fd, (struct sockaddr *)&storage, &len), 0);
    return ntohs(((struct sockaddr_in *)&storage)->sin_port);
}

static void test_tcp_sockets_are_known_by_their_port(void **state)
{
    Fixture *f = *state;
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_autofree char *address = NULL;
    g_autofree char *expected = NULL;
    guint16 port;
    int fd;

    assert_true(listen_socket_tcp(fds, "127.0.0.1", 0, NULL));
    assert_int_equal(fds->len, 1);
    fd = g_array_index(fds, int, 0);
    port = port_of(fd);
    assert_true(listen_socket_check(fd, NULL));
    assert_true(listen_socket_is_port(fd, port));
    assert_false(listen_socket_is_port(fd, port + 1));
    assert_false(listen_socket_is_unix(fd, f->path));
    address = listen_socket_address(fd, FALSE);
    expected = g_strdup_printf("127.0.0.1:%u", port);
    assert_string_equal(address, expected);
    close(fd);
}

static void test_port_in_use_is_named_and_nothing_is_left_open(void **state)
{
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_autoptr(GError) error = NULL;
    g_autofree char *port_text = NULL;
    guint before;
    guint16 port;

    assert_true(listen_socket_tcp(fds, "127.0.0.1", 0, NULL));
    port = port_of(g_array_index(fds, int, 0));
    before = rpc_test_open_fds();
    assert_false(listen_socket_tcp(fds, NULL, port, &error));
    port_text = g_strdup_printf("port %u", port);
    assert_non_null(strstr(error->message, port_text));
    assert_int_equal(fds->len, 1);
    assert_int_equal(rpc_test_open_fds(), before);
    close(g_array_index(fds, int, 0));
}

static void test_address_that_is_not_ours_is_named(void **state)
{
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_autoptr(GError) error = NULL;

    assert_false(listen_socket_tcp(fds, "192.0.2.77", 16999, &error));
    assert_non_null(strstr(error->message, "192.0.2.77"));
}

static void test_passed_socket_is_known_by_any_name_of_its_path(void **state)
{
    Fixture *f = *state;
    g_autofree char *other = g_build_filename(f->dir, ".", "sock", NULL);
    autofd fd = listen_socket_unix(f->path, 0700, (gid_t)-1, NULL);

    assert_true(listen_socket_check(fd, NULL));
    assert_true(listen_socket_is_unix(fd, f->path));
    assert_true(listen_socket_is_unix(fd, other));
    assert_false(listen_socket_is_unix(fd, "/run/other"));
    assert_false(listen_socket_is_port(fd, 16514));
    listen_socket_remove(fd, f->path);
}

static void test_passed_descriptors_that_do_not_listen_are_refused(void **state)
{
    int pair[2];
    int fds[] = {
        socket(AF_UNIX, SOCK_STREAM, 0),       /* does not listen */
        socket(AF_INET, SOCK_DGRAM, 0),        /* no stream */
        open("/dev/null", O_RDONLY),           /* no socket */
        -1,
    };

    rpc_test_pair(pair);
    fds[3] = pair[0];
    for (gsize i = 0; i < G_N_ELEMENTS(fds); i++) {
        g_autoptr(GError) error = NULL;

        assert_false(listen_socket_check(fds[i], &error));
        assert_non_null(strstr(error->message, "not a listening stream socket"));
        close(fds[i]);
    }
    close(pair[1]);
}

/* --- accepting --- */

static void on_accepted(Listener *listener, int fd, gpointer data)
{
    GArray *fds = data;

    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    g_array_append_val(fds, fd);
}

static void test_connections_wait_until_they_are_accepted(void **state)
{
    Fixture *f = *state;
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    Listener *listener =
        listener_new(listen_socket_unix(f->path, 0700, (gid_t)-1, NULL), PROXY_CLIENT_UNIX, TRUE,
                     f->path, on_accepted, fds);
    autofd first = connect_unix(f->path);
    autofd second = connect_unix(f->path);

    assert_true(first >= 0 && second >= 0);
    rpc_test_settle();
    assert_int_equal(fds->len, 0);
    listener_set_accepting(listener, TRUE);
    rpc_test_settle();
    assert_int_equal(fds->len, 2);
    listener_set_accepting(listener, FALSE);
    autofd_clear(&first);
    first = connect_unix(f->path);
    rpc_test_settle();
    assert_int_equal(fds->len, 2);
    assert_true(listener_read_only(listener));
    assert_string_equal(listener_address(listener), f->path);
    listener_free(listener);
    assert_int_equal(access(f->path, F_OK), -1);
    for (guint i = 0; i < fds->len; i++)
        close(g_array_index(fds, int, i));
}

/* --- pid file --- */

static void test_pid_file_is_held_by_one(void **state)
{
    Fixture *f = *state;
    g_autofree char *text = NULL;
    int fd = pid_file_acquire(f->path, NULL);
    int status;
    pid_t child;

    assert_true(fd >= 0);
    assert_true(g_file_get_contents(f->path, &text, NULL, NULL));
    assert_int_equal(atoi(text), getpid());
    child = fork();
    if (child == 0) {
        g_autoptr(GError) error = NULL;
        g_autofree char *holder = g_strdup_printf("process %d", (int)getppid());

        _exit(pid_file_acquire(f->path, &error) < 0 && strstr(error->message, holder) ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    pid_file_release(fd, f->path);
    assert_int_equal(access(f->path, F_OK), -1);
}

static void test_left_over_pid_file_is_taken_over(void **state)
{
    Fixture *f = *state;
    g_autofree char *text = NULL;
    int fd;

    assert_true(g_file_set_contents(f->path, "123456789\n", -1, NULL));
    fd = pid_file_acquire(f->path, NULL);
    assert_true(fd >= 0);
    assert_true(g_file_get_contents(f->path, &text, NULL, NULL));
    assert_int_equal(atoi(text), getpid());
    pid_file_release(fd, f->path);
}

static void test_pid_file_is_no_way_to_other_files(void **state)
{
    Fixture *f = *state;
    g_autofree char *target = g_build_filename(f->dir, "target", NULL);
    g_autoptr(GError) error = NULL;

    assert_int_equal(symlink(target, f->path), 0);
    assert_int_equal(pid_file_acquire(f->path, &error), -1);
    assert_non_null(strstr(error->message, f->path));
    assert_int_equal(access(target, F_OK), -1);
    unlink(f->path);
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(test_socket_has_the_mode_that_was_asked_for),
        WITH_FIXTURE(test_stale_socket_is_replaced),
        WITH_FIXTURE(test_socket_somebody_listens_on_is_left_alone),
        WITH_FIXTURE(test_successors_socket_is_not_removed),
        WITH_FIXTURE(test_file_that_is_no_socket_is_left_alone),
        WITH_FIXTURE(test_paths_that_cannot_be_are_refused_by_name),
        WITH_FIXTURE(test_one_of_many_that_start_at_once_wins),
        WITH_FIXTURE(test_tcp_sockets_are_known_by_their_port),
        WITH_FIXTURE(test_port_in_use_is_named_and_nothing_is_left_open),
        WITH_FIXTURE(test_address_that_is_not_ours_is_named),
        WITH_FIXTURE(test_passed_socket_is_known_by_any_name_of_its_path),
        WITH_FIXTURE(test_passed_descriptors_that_do_not_listen_are_refused),
        WITH_FIXTURE(test_connections_wait_until_they_are_accepted),
        WITH_FIXTURE(test_pid_file_is_held_by_one),
        WITH_FIXTURE(test_left_over_pid_file_is_taken_over),
        WITH_FIXTURE(test_pid_file_is_no_way_to_other_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
