/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/run_dir.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <glib/gstdio.h>
#include <gnutls/crypto.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "util/autofd.h"
#include "util/log.h"

#define QEMU_SOCKET "qemu"
#define PREFIX_IN "in-"
#define PREFIX_OUT "out-"
#define PREFIX_P2P "p2p-"

/* 128 bits in hexadecimal digits. */
#define UNIQUE_LEN 32

G_STATIC_ASSERT(sizeof(PREFIX_IN QEMU_SOCKET) < sizeof(((struct sockaddr_un *)0)->sun_path));

static gboolean fail_errno(GError **error, int err, const char *what, const char *path)
{
    g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(err), "%s %s: %s", what, path,
                g_strerror(err));
    return FALSE;
}

static char *random_name(void)
{
    guint8 bits[UNIQUE_LEN / 2];
    g_autoptr(GString) name = g_string_new(NULL);

    if (gnutls_rnd(GNUTLS_RND_NONCE, bits, sizeof bits) < 0)
        g_error("no random numbers");
    for (gsize i = 0; i < sizeof bits; i++)
        g_string_append_printf(name, "%02x", bits[i]);
    return g_string_free(g_steal_pointer(&name), FALSE);
}

gboolean run_dir_prepare(const char *path, GError **error)
{
    if (g_mkdir_with_parents(path, 0711) < 0)
        return fail_errno(error, errno, _("cannot make the directory"), path);
    if (chmod(path, 0711) < 0)
        return fail_errno(error, errno, _("cannot set the mode of"), path);
    return TRUE;
}

/* ---- what an earlier run left ---- */

static gboolean is_unique(const char *text, const char *suffix)
{
    return strspn(text, "0123456789abcdef") == UNIQUE_LEN &&
           g_str_equal(text + UNIQUE_LEN, suffix);
}

gboolean run_dir_owns(const char *path, const char *socket_path)
{
    const char *name;

    if (!g_str_has_prefix(socket_path, path) || socket_path[strlen(path)] != '/')
        return FALSE;
    name = socket_path + strlen(path) + 1;
    return (g_str_has_prefix(name, PREFIX_IN) &&
            is_unique(name + strlen(PREFIX_IN), "/" QEMU_SOCKET)) ||
           (g_str_has_prefix(name, PREFIX_OUT) && is_unique(name + strlen(PREFIX_OUT), ".sock"));
}

/* The path of the socket that this name is, or holds; NULL: it is no socket of ours. */
static char *socket_of(const char *dir, const char *name)
{
    if (g_str_has_prefix(name, PREFIX_IN))
        return g_build_filename(dir, name, QEMU_SOCKET, NULL);
    if (g_str_has_prefix(name, PREFIX_OUT) || g_str_has_prefix(name, PREFIX_P2P))
        return g_build_filename(dir, name, NULL);
    return NULL;
}

static gboolean has_record(const char *dir, const char *name)
{
    const char *unique = name + strlen(RUN_DIR_PREFIX_JOB);
    g_autofree char *record = NULL;

    if (!is_unique(unique, ".conf") && !is_unique(unique, ".sock") &&
        !is_unique(unique, ".outcome"))
        return FALSE;
    record = g_strdup_printf("%s/" RUN_DIR_PREFIX_JOB "%.*s.conf", dir, UNIQUE_LEN, unique);
    return g_file_test(record, G_FILE_TEST_EXISTS);
}

static gboolean is_kept(const GPtrArray *keep, const char *path)
{
    for (guint i = 0; i < keep->len; i++) {
        if (g_str_equal(g_ptr_array_index(keep, i), path))
            return TRUE;
    }
    return FALSE;
}

static void sweep_name(const char *dir, const char *name, const GPtrArray *keep)
{
    g_autofree char *path = socket_of(dir, name);

    if (!path && g_str_has_prefix(name, RUN_DIR_PREFIX_JOB) && !has_record(dir, name))
        path = g_build_filename(dir, name, NULL);
    if (!path || is_kept(keep, path))
        return;
    run_dir_remove(dir, path);
    log_info(NULL, "removed %s, left by an earlier run", path);
}

void run_dir_sweep(const char *path, const GPtrArray *keep)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDir) dir = g_dir_open(path, 0, &error);
    const char *name;

    if (!dir)
        log_warning(NULL, "%s", error->message);
    while (dir && (name = g_dir_read_name(dir)))
        sweep_name(path, name, keep);
}

/* ---- sockets ---- */

char *run_dir_socket_path(const char *path, const char *prefix)
{
    g_autofree char *unique = random_name();

    return g_strdup_printf("%s/%s%s.sock", path, prefix, unique);
}

char *run_dir_dead_uri(const char *path)
{
    g_autofree char *nobody = run_dir_socket_path(path, "refused-");

    return g_strdup_printf("unix://%s", nobody);
}

char *run_dir_make_for_qemu(const char *path, const QemuOwner *owner, GError **error)
{
    g_autofree char *unique = random_name();
    g_autofree char *dir = g_strdup_printf("%s/" PREFIX_IN "%s", path, unique);

    if (mkdir(dir, 0700) < 0) {
        fail_errno(error, errno, _("cannot make the directory"), dir);
        return NULL;
    }
    if (chown(dir, owner->uid, owner->gid) < 0) {
        fail_errno(error, errno, _("cannot give to QEMU's user the directory"), dir);
        rmdir(dir);
        return NULL;
    }
    return g_build_filename(dir, QEMU_SOCKET, NULL);
}

gboolean run_dir_check_server(int fd, const char *socket_path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(socket_path);
    struct ucred peer;
    socklen_t len = sizeof peer;
    struct stat owner;

    if (lstat(dir, &owner) < 0) {
        fail_errno(error, errno, _("cannot look at the directory"), dir);
        return FALSE;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0) {
        fail_errno(error, errno, _("cannot tell who listens at"), socket_path);
        return FALSE;
    }
    if (peer.uid == owner.st_uid)
        return TRUE;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
                _("user %u listens at %s, and not QEMU's user, %u"), (guint)peer.uid, socket_path,
                (guint)owner.st_uid);
    return FALSE;
}

void run_dir_remove(const char *path, const char *socket_path)
{
    g_autofree char *dir = g_path_get_dirname(socket_path);

    if (unlink(socket_path) < 0 && errno != ENOENT)
        log_warning(NULL, "cannot remove %s: %s", socket_path, g_strerror(errno));
    if (g_str_equal(dir, path))
        return;
    if (rmdir(dir) < 0 && errno != ENOENT)
        log_warning(NULL, "cannot remove %s: %s", dir, g_strerror(errno));
}

int run_dir_listen(const char *socket_path, GError **error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    autofd fd = -1;

    if (strlen(socket_path) >= sizeof address.sun_path) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FILENAME_TOO_LONG,
                    _("the path %s is too long for a socket; set a shorter run_dir"), socket_path);
        return -1;
    }
    memcpy(address.sun_path, socket_path, strlen(socket_path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        fail_errno(error, errno, _("cannot make a socket for"), socket_path);
        return -1;
    }
    /* bind() makes the file with the mode of the open socket: no moment in which it is open to all. */
    if (fchmod(fd, 0600) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4) < 0) {
        fail_errno(error, errno, _("cannot listen on"), socket_path);
        return -1;
    }
    return autofd_steal(&fd);
}

int run_dir_listen_for_qemu(const char *socket_path, const QemuOwner *owner, GError **error)
{
    autofd fd = run_dir_listen(socket_path, error);

    if (fd < 0)
        return -1;
    if (chown(socket_path, owner->uid, owner->gid) < 0) {
        fail_errno(error, errno, _("cannot give to QEMU's user the socket"), socket_path);
        unlink(socket_path);
        return -1;
    }
    return autofd_steal(&fd);
}
