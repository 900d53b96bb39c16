/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Descriptors from the service manager, good and bad, and what it is told. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "driver/systemd.h"
#include "util/autofd.h"

/* High above what else is open: LISTEN_FDS counts from here. */
#define FIRST 700

static void set_env(const char *pid, const char *fds)
{
    g_autofree char *own = g_strdup_printf("%d", (int)getpid());

    g_unsetenv("LISTEN_PID");
    g_unsetenv("LISTEN_FDS");
    if (pid)
        g_setenv("LISTEN_PID", g_str_equal(pid, "own") ? own : pid, TRUE);
    if (fds)
        g_setenv("LISTEN_FDS", fds, TRUE);
    g_setenv("LISTEN_FDNAMES", "a:b", TRUE);
}

static void test_environment_decides_what_is_taken(void **state)
{
    static const struct {
        const char *pid;
        const char *fds;
        int n; /* -1: an error */
        const char *says;
    } rows[] = {
        { NULL, NULL, 0 },
        { NULL, "2", 0 },
        { "own", NULL, 0 },
        { "1", "2", 0 }, /* for another process */
        { "own", "0", 0 },
        { "own", "1", 1 },
        { "own", "2", 2 },
        { "own", "3", -1, "descriptor 702" },
        { "own", "65", -1, "LISTEN_FDS is \"65\"" },
        { "own", "-1", -1, "LISTEN_FDS is \"-1\"" },
        { "own", "2x", -1, "LISTEN_FDS is \"2x\"" },
        { "own", "", -1, "LISTEN_FDS is \"\"" },
        { "own", "99999999999999999999", -1, "LISTEN_FDS" },
        { "abc", "2", -1, "LISTEN_PID is \"abc\"" },
        { "0", "2", -1, "LISTEN_PID is \"0\"" },
        { "-5", "2", -1, "LISTEN_PID is \"-5\"" },
    };

    assert_int_equal(dup2(STDERR_FILENO, FIRST), FIRST);
    assert_int_equal(dup2(STDERR_FILENO, FIRST + 1), FIRST + 1);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GArray) fds = NULL;

        set_env(rows[i].pid, rows[i].fds);
        fds = systemd_take_fds(FIRST, &error);
        assert_int_equal(fds ? (int)fds->len : -1, rows[i].n);
        if (rows[i].says && !strstr(error->message, rows[i].says))
            fail_msg("row %zu: %s", i, error->message);
        for (guint k = 0; fds && k < fds->len; k++) {
            assert_int_equal(g_array_index(fds, int, k), FIRST + k);
            assert_true(fcntl(FIRST + (int)k, F_GETFD) & FD_CLOEXEC);
        }
        assert_null(g_getenv("LISTEN_PID"));
        assert_null(g_getenv("LISTEN_FDS"));
        assert_null(g_getenv("LISTEN_FDNAMES"));
    }
    close(FIRST);
    close(FIRST + 1);
}

static int bind_notify(const char *name, gboolean abstract)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    gsize len = strlen(name);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    memcpy(address.sun_path, name, len);
    if (abstract)
        address.sun_path[0] = '\0';
    assert_int_equal(bind(fd, (struct sockaddr *)&address,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + !abstract)),
                     0);
    return fd;
}

static void assert_notified(int fd, const char *state)
{
    char got[100] = "";
    ssize_t n = recv(fd, got, sizeof got - 1, 0);

    assert_int_equal(n, strlen(state));
    assert_string_equal(got, state);
}

static void test_manager_hears_on_a_path_and_on_an_abstract_name(void **state)
{
    g_autofree char *dir = g_dir_make_tmp("test-systemd-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "notify", NULL);
    g_autofree char *name = g_strdup_printf("@test-systemd-%d", (int)getpid());
    autofd by_path = bind_notify(path, FALSE);
    autofd by_name = bind_notify(name, TRUE);

    g_setenv("NOTIFY_SOCKET", path, TRUE);
    systemd_notify("READY=1");
    assert_notified(by_path, "READY=1");
    g_setenv("NOTIFY_SOCKET", name, TRUE);
    systemd_notify("STOPPING=1\nSTATUS=bye");
    assert_notified(by_name, "STOPPING=1\nSTATUS=bye");
    g_unlink(path);
    g_rmdir(dir);
}

static void test_bad_notify_sockets_do_no_harm(void **state)
{
    g_autofree char *long_name = g_strnfill(200, 'a');
    const char *names[] = { "", "relative", "/", "@", "/nobody/is/here", long_name };

    long_name[0] = '/';
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_setenv("NOTIFY_SOCKET", names[i], TRUE);
        systemd_notify("READY=1");
    }
    g_unsetenv("NOTIFY_SOCKET");
    systemd_notify("READY=1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_environment_decides_what_is_taken),
        cmocka_unit_test(test_manager_hears_on_a_path_and_on_an_abstract_name),
        cmocka_unit_test(test_bad_notify_sockets_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
