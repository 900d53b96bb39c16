/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/host_look.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "util/conf.h"

/* libvirt's own, for a privileged daemon. */
#define DEFAULT_MEMORY_BACKING_DIR "/var/lib/libvirt/qemu/ram"

struct HostLook {
    char *memory_backing_dir;
    HostFacts facts;
};

/* Names for messages; no decision depends on the table. */
static const struct {
    guint32 magic;
    const char *name;
} file_systems[] = {
    { TMPFS_MAGIC, "tmpfs" },          { HUGETLBFS_MAGIC, "hugetlbfs" },
    { EXT4_SUPER_MAGIC, "ext4" },      { XFS_SUPER_MAGIC, "xfs" },
    { BTRFS_SUPER_MAGIC, "btrfs" },    { F2FS_SUPER_MAGIC, "f2fs" },
    { NFS_SUPER_MAGIC, "nfs" },        { OVERLAYFS_SUPER_MAGIC, "overlayfs" },
    { FUSE_SUPER_MAGIC, "fuse" },      { CEPH_SUPER_MAGIC, "ceph" },
    { RAMFS_MAGIC, "ramfs" },          { 0x01161970, "gfs2" },
    { 0x2fc12fc1, "zfs" },
};

static char *file_system_name(guint32 magic)
{
    for (gsize i = 0; i < G_N_ELEMENTS(file_systems); i++) {
        if (file_systems[i].magic == magic)
            return g_strdup(file_systems[i].name);
    }
    return g_strdup_printf(_("a file system of type 0x%x"), magic);
}

/* What is not there yet will be made in the nearest directory above that is. */
static gboolean find_file_system(const char *path, guint32 *ret_magic)
{
    g_autofree char *at = g_strdup(path);
    struct statfs fs;

    while (statfs(at, &fs) != 0) {
        char *parent;

        if (errno != ENOENT || g_str_equal(at, "/") || g_str_equal(at, "."))
            return FALSE;
        parent = g_path_get_dirname(at);
        g_free(at);
        at = parent;
    }
    *ret_magic = (guint32)fs.f_type;
    return TRUE;
}

/* A device has the file system of /dev, which calls itself tmpfs. */
static gboolean is_device(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode));
}

static HostFiles look_at(const char *path, char **ret_name, gpointer data)
{
    guint32 magic;

    if (!g_path_is_absolute(path))
        return HOST_FILES_UNKNOWN;
    if (is_device(path)) {
        *ret_name = g_strdup(_("a device"));
        return HOST_FILES_DISK;
    }
    if (!find_file_system(path, &magic))
        return HOST_FILES_UNKNOWN;
    *ret_name = file_system_name(magic);
    return magic == TMPFS_MAGIC || magic == HUGETLBFS_MAGIC ? HOST_FILES_MEMORY
                                                            : HOST_FILES_DISK;
}

static char *conf_string(const char *text, gsize len, const char *filename, const char *key,
                         GError **error)
{
    g_autoptr(GPtrArray) entries = conf_parse(text, len, filename, error);

    for (guint i = 0; entries && i < entries->len; i++) {
        const ConfEntry *entry = g_ptr_array_index(entries, i);

        if (g_str_equal(entry->key, key) && entry->type == CONF_STRING)
            return g_strdup(entry->string);
    }
    return NULL;
}

static char *find_backing_dir(const char *qemu_conf, char **ret_warning)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    char *dir = NULL;
    gsize len;

    if (g_file_get_contents(qemu_conf, &text, &len, &error))
        dir = conf_string(text, len, qemu_conf, "memory_backing_dir", &error);
    if (error && !g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT))
        *ret_warning = g_strdup_printf(_("%1$s; memory_backing_dir is taken to be %2$s"),
                                       error->message, DEFAULT_MEMORY_BACKING_DIR);
    return dir ? dir : g_strdup(DEFAULT_MEMORY_BACKING_DIR);
}

HostLook *host_look_new(const char *qemu_conf, char **ret_warning)
{
    HostLook *look = g_new0(HostLook, 1);

    *ret_warning = NULL;
    look->memory_backing_dir = find_backing_dir(qemu_conf, ret_warning);
    look->facts = (HostFacts){ .memory_backing_dir = look->memory_backing_dir,
                               .page_size = (guint64)sysconf(_SC_PAGESIZE),
                               .files = look_at };
    return look;
}

void host_look_free(HostLook *look)
{
    if (!look)
        return;
    g_free(look->memory_backing_dir);
    g_free(look);
}

const HostFacts *host_look_facts(const HostLook *look)
{
    return &look->facts;
}
