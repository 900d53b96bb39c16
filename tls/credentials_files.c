/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening credential files under their libvirt names, and reading them later, perhaps in another
 * process. What is opened is checked to be a regular file of sane size, so that a wrong path in
 * the configuration (a directory, a FIFO, a disk image) fails here and says so. */
#include "config.h"

#include "tls/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "tls/credentials_priv.h"
#include "util/autofd.h"
#include "util/log.h"

G_DEFINE_QUARK(tls-error-quark, tls_error)

static const struct {
    const char *name; /* in the D-Bus interface */
    const char *text; /* in messages */
    gboolean secret;
} kinds[] = {
    [TLS_FILE_CA_CERT] = { "ca-cert", N_("CA certificate"), FALSE },
    [TLS_FILE_CA_CRL] = { "ca-crl", N_("certificate revocation list"), FALSE },
    [TLS_FILE_CERT] = { "cert", N_("certificate"), FALSE },
    [TLS_FILE_KEY] = { "key", N_("private key"), TRUE },
    [TLS_FILE_PSK] = { "psk", N_("pre-shared key file"), TRUE },
};
G_STATIC_ASSERT(G_N_ELEMENTS(kinds) == TLS_FILE_MAX);

const char *tls_file_kind_name(TlsFileKind kind)
{
    g_return_val_if_fail(kind < TLS_FILE_MAX, NULL);
    return kinds[kind].name;
}

TlsFileKind tls_file_kind_from_name(const char *name)
{
    for (TlsFileKind kind = 0; kind < TLS_FILE_MAX; kind++) {
        if (g_strcmp0(name, kinds[kind].name) == 0)
            return kind;
    }
    return TLS_FILE_MAX;
}

static void close_one(TlsFiles *files, TlsFileKind kind)
{
    autofd_clear(&files->fds[kind]);
    g_clear_pointer(&files->names[kind], g_free);
}

void tls_files_clear(TlsFiles *files)
{
    for (TlsFileKind kind = 0; kind < TLS_FILE_MAX; kind++)
        close_one(files, kind);
}

static const char *open_hint(TlsFileKind kind, int err)
{
    if (err == EACCES || err == EPERM)
        return _("let the user this process runs as read it");
    if (err != ENOENT && err != ENOTDIR)
        return _("name another file in the configuration");
    if (kind == TLS_FILE_PSK)
        return _("make it with psktool, or name another file in the configuration");
    return _("make it (see https://libvirt.org/kbase/tlscerts.html), "
             "or name another file in the configuration");
}

static gboolean check_opened(int fd, TlsFileKind kind, const char *path, GError **error)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_FILE, _("%1$s %2$s cannot be examined: %3$s"),
                    _(kinds[kind].text), path, g_strerror(errno));
        return FALSE;
    }
    if (!S_ISREG(st.st_mode)) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_FILE, _("%1$s %2$s is not a regular file"),
                    _(kinds[kind].text), path);
        return FALSE;
    }
    if (st.st_size > TLS_FILE_SIZE_MAX) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_FILE,
                    _("%1$s %2$s is too big: %3$" PRId64 " bytes, at most %4$d"),
                    _(kinds[kind].text), path, (gint64)st.st_size, TLS_FILE_SIZE_MAX);
        return FALSE;
    }
    if (kinds[kind].secret && (st.st_mode & (S_IRWXG | S_IRWXO)))
        log_warning(NULL, _("%1$s %2$s can be used by others than its owner (mode %3$04o): "
                            "chmod 600 is advised"),
                    _(kinds[kind].text), path, (unsigned int)(st.st_mode & 07777));
    return TRUE;
}

gboolean tls_files_open(TlsFiles *files, TlsFileKind kind, const char *path, gboolean optional,
                        GError **error)
{
    autofd fd = -1;

    g_return_val_if_fail(kind < TLS_FILE_MAX, FALSE);
    /* O_NONBLOCK: a FIFO must not hold us up; regular files do not care. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        int err = errno;

        if (optional && err == ENOENT) {
            close_one(files, kind);
            return TRUE;
        }
        g_set_error(error, TLS_ERROR, TLS_ERROR_FILE, _("%1$s %2$s cannot be opened: %3$s; %4$s"),
                    _(kinds[kind].text), path, g_strerror(err), open_hint(kind, err));
        return FALSE;
    }
    if (!check_opened(fd, kind, path, error))
        return FALSE;

    close_one(files, kind);
    files->fds[kind] = autofd_steal(&fd);
    files->names[kind] = g_strdup(path);
    return TRUE;
}

const char *tls_files_display_name(const TlsFiles *files, TlsFileKind kind)
{
    return files->names[kind] ? files->names[kind] : kinds[kind].name;
}

void tls_blob_clear(TlsBlob *blob)
{
    if (blob->data)
        gnutls_memset(blob->data, 0, blob->len);
    g_clear_pointer(&blob->data, g_free);
    blob->len = 0;
}

/* Fills at most len bytes; returns how many there were, or -1 with errno. */
static gssize pread_all(int fd, guint8 *buf, gsize len)
{
    gsize done = 0;

    while (done < len) {
        ssize_t n = pread(fd, buf + done, len - done, (off_t)done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (gsize)n;
    }
    return (gssize)done;
}

gboolean tls_files_read(const TlsFiles *files, TlsFileKind kind, TlsBlob *ret_blob, GError **error)
{
    /* The descriptor may come from another process and its file may have grown since: what is
     * read decides, not what fstat() said. All of it is one allocation, so that no copy of a
     * key stays behind in memory given back. */
    const gsize room = TLS_FILE_SIZE_MAX + 1;
    g_auto(TlsBlob) blob = { NULL, room };
    const char *name = tls_files_display_name(files, kind);
    gssize n;

    if (files->fds[kind] < 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_FILE, _("no %1$s was given"), _(kinds[kind].text));
        return FALSE;
    }
    blob.data = g_malloc0(room);
    n = pread_all(files->fds[kind], blob.data, room);
    if (n < 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_FILE, _("%1$s %2$s cannot be read: %3$s"),
                    _(kinds[kind].text), name, g_strerror(errno));
        return FALSE;
    }
    if (n == 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_FILE, _("%1$s %2$s is empty"),
                    _(kinds[kind].text), name);
        return FALSE;
    }
    if ((gsize)n == room) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_FILE, _("%1$s %2$s is bigger than %3$d bytes"),
                    _(kinds[kind].text), name, TLS_FILE_SIZE_MAX);
        return FALSE;
    }
    ret_blob->data = g_steal_pointer(&blob.data);
    ret_blob->len = (gsize)n;
    blob.len = 0;
    return TRUE;
}
