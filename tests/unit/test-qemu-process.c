/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The QEMU of a domain: the right process or none. A shell stands for QEMU: it is found by its
 * arguments. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver/qemu_process.h"

static char *dir;

static void write_pid(const char *domain, const char *text)
{
    g_autofree char *path = g_strdup_printf("%s/%s.pid", dir, domain);

    assert_true(g_file_set_contents(path, text, -1, NULL));
}

/* Ready when it has said so: its arguments are its own then. */
static pid_t start(const char *name, int *ret_stdin)
{
    int ready[2], in[2];
    char byte;
    pid_t pid;

    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(in), 0);
    pid = fork();
    if (pid == 0) {
        dup2(ready[1], 1);
        close(ready[1]);
        dup2(in[0], 0);
        close(in[1]);
        execl("/bin/sh", "sh", "-c", "echo; exec 1>&-; read x; true", "-name", name, "-S",
              (char *)NULL);
        _exit(1);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(in[0]);
    *ret_stdin = in[1];
    return pid;
}

static void stop(pid_t pid)
{
    int status;

    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void is_found(const char *domain, const char *arg, gboolean found)
{
    int in;
    pid_t pid = start(arg, &in);
    g_autofree char *text = g_strdup_printf("%d\n", (int)pid);
    g_autoptr(QemuProcess) process = NULL;
    g_autoptr(GError) error = NULL;

    write_pid(domain, text);
    process = qemu_process_open(dir, domain, &error);
    if (!!process != found)
        fail_msg("domain %s, -name %s: %s", domain, arg, error ? error->message : "found");
    if (process)
        assert_int_equal(qemu_process_pid(process), pid);
    stop(pid);
    close(in);
    /* Held by its directory: there is nothing in it any more. */
    if (process)
        assert_null(qemu_process_read_file(process, "maps", NULL));
}

static void a_process_is_its_domains_by_its_arguments(void **state)
{
    is_found("one", "guest=one,debug-threads=on", TRUE);
    is_found("one", "guest=one", TRUE);
    is_found("one", "guest=one2", FALSE);
    is_found("one", "guest=on", FALSE);
    is_found("one", "one", FALSE);
    is_found("a,b", "guest=a,,b,debug-threads=on", TRUE);
    is_found("a", "guest=a,,b,debug-threads=on", FALSE);
}

static void what_is_no_process_is_an_error(void **state)
{
    static const char *const texts[] = { "", "x", "-1", "0", "99999999999", "2147483646" };

    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;

        write_pid("gone", texts[i]);
        assert_null(qemu_process_open(dir, "gone", &error));
        assert_non_null(error);
    }
    assert_null(qemu_process_open(dir, "never", NULL));
    assert_null(qemu_process_open(dir, "../x", NULL));
}

static const char maps[] =
    "55d0c8a00000-55d0c8b00000 r-xp 00001000 fd:01 1835 /usr/bin/qemu-system-x86_64\n"
    "7f0000000000-7f0020000000 rw-p 00000000 00:00 0 \n"
    "7f0020000000-7f0020200000 rw-s 00200000 00:01 2048 /memfd:pc.ram (deleted)\n"
    "7f0030000000-7f0030001000 rw-s 00000000 00:0e 77 anon_inode:kvm-vcpu:0\n"
    "7f0040000000-7f0040400000 rw-s 00000000 00:06 12 /dev/vfio/3\n"
    "7f0050000000-7f0050400000 rw-s 00000000 00:2a 13 /dev/hugepages/libvirt/qemu/1-x\n"
    "7f0060000000-7f0060001000 ---p 00000000 00:00 0\n";

static void maps_are_read_line_by_line(void **state)
{
    g_autoptr(GArray) all = qemu_process_parse_maps(maps, NULL);
    const QemuMapping *m;

    assert_non_null(all);
    assert_int_equal(all->len, 7);
    m = (const QemuMapping *)all->data;
    assert_true(m[0].readable && !m[0].writable && !m[0].shared && m[0].inode == 1835);
    assert_true(m[0].major == 0xfd && m[0].minor == 1 && m[0].offset == 0x1000);
    assert_true(m[1].readable && m[1].writable && !m[1].device && m[1].inode == 0);
    assert_true(m[1].start == 0x7f0000000000 && m[1].end == 0x7f0020000000);
    assert_true(m[2].shared && !m[2].device && m[2].offset == 0x200000);
    assert_true(m[3].device && m[4].device && !m[5].device);
    assert_false(m[6].readable);
}

static void lines_that_are_no_mappings_are_refused(void **state)
{
    static const char *const rows[] = {
        "x\n", "1000-2000\n", "2000-1000 rw-p 0 0:0 0\n", "1000-2000 rw 0 0:0 0\n",
        "1000-2000 rw-p 0 00 0\n",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        assert_null(qemu_process_parse_maps(rows[i], &error));
        assert_non_null(strstr(error->message, "maps"));
    }
}

static int make_dir(void **state)
{
    dir = g_dir_make_tmp("test-qemu-process-XXXXXX", NULL);
    return dir ? 0 : -1;
}

static int remove_dir(void **state)
{
    static const char *const names[] = { "one", "a,b", "a", "gone" };

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_strdup_printf("%s/%s.pid", dir, names[i]);

        g_unlink(path);
    }
    g_rmdir(dir);
    g_free(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_is_its_domains_by_its_arguments),
        cmocka_unit_test(what_is_no_process_is_an_error),
        cmocka_unit_test(maps_are_read_line_by_line),
        cmocka_unit_test(lines_that_are_no_mappings_are_refused),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
