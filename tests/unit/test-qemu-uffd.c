/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A QEMU's userfaultfd, what is registered with it, and the files of what was placed there. This program, started again
 * with QEMU's arguments, stands for QEMU. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver/placed_file.h"
#include "driver/qemu_uffd.h"
#include "util/autofd.h"

#define PAGE 4096
#define DOMAIN "guest-1"

static char *dir;

/* ---- as QEMU ---- */

static int open_uffd(void)
{
    struct uffdio_api api = { .api = UFFD_API };
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

    return fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 ? fd : -1;
}

/* Two pieces, one of which is split by its protection. */
static void register_memory(int uffd)
{
    guint8 *memory = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    guint8 *shared = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register first = { { (guintptr)memory, 8 * PAGE }, UFFDIO_REGISTER_MODE_MISSING, 0 };
    struct uffdio_register second = { { (guintptr)shared, 3 * PAGE }, UFFDIO_REGISTER_MODE_MISSING, 0 };

    if (ioctl(uffd, UFFDIO_REGISTER, &first) < 0 || ioctl(uffd, UFFDIO_REGISTER, &second) < 0 ||
        mprotect(memory + 2 * PAGE, PAGE, PROT_READ) < 0)
        _exit(2);
}

static int be_qemu(int n_uffds)
{
    for (int i = 0; i < n_uffds; i++) {
        int fd = open_uffd();

        if (fd < 0)
            return 3;
        if (i == 0)
            register_memory(fd);
    }
    if (write(1, "x", 1) != 1)
        return 4;
    pause();
    return 0;
}

/* ---- the test's side ---- */

static pid_t start(const char *uffds)
{
    g_autofree char *path = g_strdup_printf("%s/" DOMAIN ".pid", dir);
    g_autofree char *text = NULL;
    int ready[2];
    char byte;
    pid_t pid;

    assert_int_equal(pipe(ready), 0);
    pid = fork();
    if (pid == 0) {
        dup2(ready[1], 1);
        execl("/proc/self/exe", "qemu", "-name", "guest=" DOMAIN, uffds, (char *)NULL);
        _exit(1);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    text = g_strdup_printf("%d\n", (int)pid);
    assert_true(g_file_set_contents(path, text, -1, NULL));
    return pid;
}

static void stop(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static QemuProcess *open_qemu(void)
{
    QemuProcess *qemu = qemu_process_open(dir, DOMAIN, NULL);

    assert_non_null(qemu);
    return qemu;
}

static const QemuRegistered *at(const GArray *ranges, guint i)
{
    return &g_array_index(ranges, QemuRegistered, i);
}

static void the_duplicate_is_of_the_other_processs_memory(void **state)
{
    pid_t pid = start("1");
    g_autoptr(QemuProcess) qemu = open_qemu();
    autofd fd = qemu_uffd_dup(qemu, NULL, NULL);
    g_autofree char *text = qemu_process_read_file(qemu, "smaps", NULL);
    g_autoptr(GArray) ranges = qemu_uffd_parse_smaps(text, NULL);
    const QemuRegistered *anonymous;
    guint8 page[PAGE] = { 1 };
    struct uffdio_copy copy = { .src = (guintptr)page, .len = PAGE };

    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(ranges->len, 2);
    anonymous = g_str_equal(at(ranges, 0)->backing, "anonymous") ? at(ranges, 0) : at(ranges, 1);
    assert_string_equal(anonymous->backing, "anonymous");
    assert_int_equal(anonymous->length, 8 * PAGE);
    assert_int_equal(anonymous->page_size, PAGE);
    copy.dst = anonymous->address + 7 * PAGE;
    assert_int_equal(ioctl(fd, UFFDIO_COPY, &copy), 0);
    stop(pid);
    /* What is left of it is not that process any more. */
    assert_int_equal(qemu_uffd_dup(qemu, NULL, NULL), -1);
}

static void none_or_several_are_none(void **state)
{
    g_autoptr(GError) error = NULL;
    gboolean several = TRUE;
    pid_t pid = start("0");
    QemuProcess *qemu = open_qemu();

    assert_int_equal(qemu_uffd_dup(qemu, &several, &error), -1);
    assert_true(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND));
    assert_false(several);
    qemu_process_free(qemu);
    stop(pid);
    g_clear_error(&error);

    pid = start("2");
    qemu = open_qemu();
    assert_int_equal(qemu_uffd_dup(qemu, &several, &error), -1);
    assert_true(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED));
    assert_true(several);
    qemu_process_free(qemu);
    stop(pid);
}

/* ---- smaps ---- */

#define HUGE_ENTRY                                                                             \
    "7f0000000000-7f0000400000 rw-s 00000000 00:0f 77 /dev/hugepages/x (deleted)\n"            \
    "Size:               4096 kB\n"                                                            \
    "KernelPageSize:     2048 kB\n"                                                            \
    "MMUPageSize:        2048 kB\n"                                                            \
    "Private_Hugetlb:       0 kB\n"                                                            \
    "THPeligible:           0\n"                                                               \
    "VmFlags: rd wr sh mr mw me ms de ht um \n"
#define PLAIN_ENTRY                                                                            \
    "7f0000500000-7f0000501000 rw-p 00000000 00:00 0 [heap]\n"                                 \
    "KernelPageSize:        4 kB\n"                                                            \
    "VmFlags: rd wr mr mw me ac \n"

static void only_what_is_registered_counts(void **state)
{
    g_autoptr(GArray) ranges = qemu_uffd_parse_smaps(PLAIN_ENTRY HUGE_ENTRY PLAIN_ENTRY, NULL);

    assert_int_equal(ranges->len, 1);
    assert_string_equal(at(ranges, 0)->backing, "hugetlb");
    assert_int_equal(at(ranges, 0)->address, 0x7f0000000000);
    assert_int_equal(at(ranges, 0)->length, 4 << 20);
    assert_int_equal(at(ranges, 0)->page_size, 2 << 20);
}

static void what_cannot_be_understood_is_said(void **state)
{
    g_autoptr(GError) error = NULL;

    assert_null(qemu_uffd_parse_smaps("nonsense\n", &error));
    assert_non_null(strstr(error->message, "nonsense"));
    assert_null(qemu_uffd_parse_smaps("7f01-7f00 rw-p 0 0:0 0\n", NULL));
}

static void readings_are_compared(void **state)
{
    g_autoptr(GArray) one = qemu_uffd_parse_smaps(HUGE_ENTRY, NULL);
    g_autoptr(GArray) same = qemu_uffd_parse_smaps(PLAIN_ENTRY HUGE_ENTRY, NULL);
    g_autoptr(GArray) none = qemu_uffd_parse_smaps(PLAIN_ENTRY, NULL);

    assert_true(qemu_uffd_is_same(one, same));
    assert_false(qemu_uffd_is_same(one, none));
    assert_false(qemu_uffd_is_same(none, one));
    assert_true(qemu_uffd_is_same(none, none));
    g_array_index(same, QemuRegistered, 0).length -= 2 << 20;
    assert_false(qemu_uffd_is_same(one, same));
}

/* ---- files ---- */

static void add_range(GArray *ranges, guint64 length)
{
    QemuRegistered range = { 4096, length, 4096, "anonymous" };

    g_array_append_val(ranges, range);
}

static void more_than_a_guest_has_is_refused(void **state)
{
    g_autoptr(GArray) ranges = g_array_new(FALSE, FALSE, sizeof(QemuRegistered));
    g_autoptr(GError) error = NULL;
    guint64 size;

    add_range(ranges, 16 * 4096);
    assert_true(placed_file_size(ranges, &size, NULL));
    assert_int_equal(size, 24 + 304 + 2 + 1);
    for (guint i = 1; i < 4096; i++)
        add_range(ranges, 4096);
    assert_true(placed_file_size(ranges, &size, NULL));
    add_range(ranges, 4096);
    assert_false(placed_file_size(ranges, &size, &error));
    assert_true(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED));
    /* All of the addresses that there are, several times. */
    for (guint i = 1; i <= 4; i++) {
        g_clear_error(&error);
        g_array_set_size(ranges, 0);
        for (guint k = 0; k < i; k++)
            add_range(ranges, G_MAXUINT64 - 4095);
        assert_false(placed_file_size(ranges, &size, &error));
        assert_non_null(error);
    }
}

static off_t size_of(int fd)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    return st.st_size;
}

static void a_file_with_nothing_in_it_grows(void **state)
{
    pid_t pid = start("0");
    g_autoptr(QemuProcess) qemu = open_qemu();
    int fd = placed_file_make(dir, qemu, 100, NULL);

    assert_int_equal(size_of(fd), 100);
    close(fd);
    fd = placed_file_make(dir, qemu, 20000, NULL);
    assert_int_equal(size_of(fd), 20000);
    assert_int_equal(pwrite(fd, "x", 1, 3), 1);
    close(fd);
    fd = placed_file_make(dir, qemu, 40000, NULL);
    assert_int_equal(size_of(fd), 20000);
    close(fd);
    placed_file_remove(dir, qemu);
    stop(pid);
}

static void a_file_is_the_processs_and_goes_with_it(void **state)
{
    g_autoptr(GError) error = NULL;
    pid_t pid = start("0");
    g_autoptr(QemuProcess) qemu = open_qemu();
    struct stat st;
    int fd;

    assert_int_equal(placed_file_open(dir, qemu, &error), -1);
    assert_true(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND));
    fd = placed_file_make(dir, qemu, 10000, NULL);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 10000);
    assert_true(st.st_blocks * 512 >= 10000);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(pwrite(fd, "x", 1, 0), 1);
    close(fd);
    /* The same one again, with what is in it. */
    fd = placed_file_make(dir, qemu, 20, NULL);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 10000);
    close(fd);
    placed_file_sweep(dir);
    fd = placed_file_open(dir, qemu, NULL);
    assert_true(fd >= 0);
    close(fd);
    placed_file_remove(dir, qemu);
    assert_int_equal(placed_file_open(dir, qemu, NULL), -1);
    close(placed_file_make(dir, qemu, 100, NULL));
    stop(pid);
    placed_file_sweep(dir);
}

static gboolean has_placed_files(void)
{
    g_autoptr(GDir) list = g_dir_open(dir, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(list))) {
        if (g_str_has_prefix(name, "placed-"))
            return TRUE;
    }
    return FALSE;
}

static void files_of_processes_that_are_gone_are_swept(void **state)
{
    g_autofree char *gone = g_strdup_printf("%s/placed-%d-1", dir, (int)getpid());
    g_autofree char *other = g_strdup_printf("%s/placed-notes", dir);

    assert_false(has_placed_files());
    assert_true(g_file_set_contents(gone, "", 0, NULL));
    assert_true(g_file_set_contents(other, "", 0, NULL));
    placed_file_sweep(dir);
    assert_false(g_file_test(gone, G_FILE_TEST_EXISTS));
    assert_true(g_file_test(other, G_FILE_TEST_EXISTS));
    g_unlink(other);
}

static void a_file_that_others_may_write_is_not_believed(void **state)
{
    pid_t pid = start("0");
    g_autoptr(QemuProcess) qemu = open_qemu();
    int fd = placed_file_make(dir, qemu, 100, NULL);

    assert_int_equal(fchmod(fd, 0666), 0);
    close(fd);
    assert_int_equal(placed_file_open(dir, qemu, NULL), -1);
    assert_int_equal(placed_file_make(dir, qemu, 100, NULL), -1);
    placed_file_remove(dir, qemu);
    stop(pid);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_duplicate_is_of_the_other_processs_memory),
        cmocka_unit_test(none_or_several_are_none),
        cmocka_unit_test(only_what_is_registered_counts),
        cmocka_unit_test(what_cannot_be_understood_is_said),
        cmocka_unit_test(readings_are_compared),
        cmocka_unit_test(more_than_a_guest_has_is_refused),
        cmocka_unit_test(a_file_with_nothing_in_it_grows),
        cmocka_unit_test(a_file_is_the_processs_and_goes_with_it),
        cmocka_unit_test(files_of_processes_that_are_gone_are_swept),
        cmocka_unit_test(a_file_that_others_may_write_is_not_believed),
    };
    g_autofree char *path = NULL;
    int status, probe;

    if (argc == 4 && g_str_equal(argv[1], "-name"))
        return be_qemu(atoi(argv[3]));
    probe = open_uffd();
    if (probe < 0)
        return 77;
    close(probe);
    dir = g_dir_make_tmp("test-qemu-uffd-XXXXXX", NULL);
    status = cmocka_run_group_tests(tests, NULL, NULL);
    path = g_strdup_printf("%s/" DOMAIN ".pid", dir);
    g_unlink(path);
    g_rmdir(dir);
    g_free(dir);
    return status;
}
