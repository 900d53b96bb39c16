/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What this host's qemu.conf and file systems say of guests' memory. */
#include "config.h"

#include "driver/host_look.h"

#include <glib/gstdio.h>
#include <linux/magic.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/vfs.h>

#include <cmocka.h>

#define DEFAULT_DIR "/var/lib/libvirt/qemu/ram"

static char *write_conf(const char *text)
{
    char *path = g_strdup_printf("%s/test-host-look-XXXXXX", g_get_tmp_dir());
    int fd = g_mkstemp(path);

    assert_true(fd >= 0);
    close(fd);
    assert_true(g_file_set_contents(path, text, -1, NULL));
    return path;
}

static void the_backing_directory_is_what_qemu_conf_says(void **state)
{
    static const struct {
        const char *text, *dir;
        gboolean warns;
    } rows[] = {
        { "", DEFAULT_DIR, FALSE },
        { "# memory_backing_dir = \"/x\"\nuser = \"root\"\n", DEFAULT_DIR, FALSE },
        { "memory_backing_dir = \"/dev/shm\"\n", "/dev/shm", FALSE },
        { "namespaces = [ ]\nmax_files = 32768\nmemory_backing_dir='/x y'", "/x y", FALSE },
        { "memory_backing_dir = 5\n", DEFAULT_DIR, FALSE },
        { "memory_backing_dir = \"/x\"\nuser = \n", DEFAULT_DIR, TRUE },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = write_conf(rows[i].text);
        g_autofree char *warning = NULL;
        g_autoptr(HostLook) look = host_look_new(path, &warning);

        assert_string_equal(host_look_facts(look)->memory_backing_dir, rows[i].dir);
        assert_int_equal(warning != NULL, rows[i].warns);
        if (warning)
            assert_non_null(strstr(warning, path));
        g_unlink(path);
    }
}

static void without_a_qemu_conf_libvirts_default_holds(void **state)
{
    g_autofree char *warning = NULL;
    g_autoptr(HostLook) look = host_look_new("/nonexistent/qemu.conf", &warning);

    assert_string_equal(host_look_facts(look)->memory_backing_dir, DEFAULT_DIR);
    assert_null(warning);
    assert_true(host_look_facts(look)->page_size >= 4096);
}

static HostFiles look_at(const char *path, char **ret_name)
{
    g_autofree char *warning = NULL;
    g_autoptr(HostLook) look = host_look_new("/nonexistent/qemu.conf", &warning);
    const HostFacts *facts = host_look_facts(look);

    return facts->files(path, ret_name, facts->data);
}

static void only_memory_is_memory(void **state)
{
    static const char *const paths[] = { "/", "/proc/self", "/sys", "/dev/shm", "/tmp",
                                         "/usr/share", "/dev" };

    for (gsize i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autofree char *name = NULL;
        HostFiles files = look_at(paths[i], &name);
        struct statfs fs;

        assert_int_equal(statfs(paths[i], &fs), 0);
        assert_int_equal(files, fs.f_type == TMPFS_MAGIC ? HOST_FILES_MEMORY : HOST_FILES_DISK);
        assert_non_null(name);
    }
}

static void a_file_that_is_not_there_yet_is_where_its_directory_is(void **state)
{
    g_autofree char *name = NULL, *parent = NULL;

    assert_int_equal(look_at("/proc/self/no/such/thing", &name), look_at("/proc", &parent));
    assert_string_equal(name, parent);
}

/* /dev is a tmpfs by its type, and what a device holds is none. */
static void a_device_is_no_memory(void **state)
{
    g_autofree char *name = NULL;

    assert_int_equal(look_at("/dev/null", &name), HOST_FILES_DISK);
    assert_string_equal(name, "a device");
}

static void what_cannot_be_looked_at_is_not_known(void **state)
{
    g_autofree char *name = NULL;

    assert_int_equal(look_at("relative", &name), HOST_FILES_UNKNOWN);
    assert_int_equal(look_at("", &name), HOST_FILES_UNKNOWN);
    assert_int_equal(look_at("/dev/null/below", &name), HOST_FILES_UNKNOWN);
    assert_null(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_backing_directory_is_what_qemu_conf_says),
        cmocka_unit_test(without_a_qemu_conf_libvirts_default_holds),
        cmocka_unit_test(only_memory_is_memory),
        cmocka_unit_test(a_file_that_is_not_there_yet_is_where_its_directory_is),
        cmocka_unit_test(a_device_is_no_memory),
        cmocka_unit_test(what_cannot_be_looked_at_is_not_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
