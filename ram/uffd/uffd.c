/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/uffd/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/autofd.h"

#define DEVICE "/dev/userfaultfd"

/* Since Linux 6.1. */
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

G_DEFINE_QUARK(uffd-error-quark, uffd_error)

/* ---- errors ---- */

static UffdError code_of(int err)
{
    switch (err) {
    case ESRCH:
        return UFFD_ERROR_GONE;
    case ENOENT:
        return UFFD_ERROR_UNMAPPED;
    case ENOMEM:
    case ENOSPC:
        return UFFD_ERROR_MEMORY;
    default:
        return UFFD_ERROR_FAILED;
    }
}

static const char *meaning_of(UffdError code)
{
    switch (code) {
    case UFFD_ERROR_GONE:
        return _("the process whose memory it is has ended");
    case UFFD_ERROR_UNMAPPED:
        return _("that memory is not there, or not registered, any more");
    case UFFD_ERROR_MEMORY:
        return _("this host has no memory, or no huge page, left for it");
    default:
        return NULL;
    }
}

static gboolean failed(const char *what, guint64 address, guint64 length, int err, GError **error)
{
    UffdError code = code_of(err);
    const char *meaning = meaning_of(code);

    g_set_error(error, UFFD_ERROR, code, _("%s of %" PRIu64 " bytes at 0x%" PRIx64 ": %s"), what,
                length, address, meaning ? meaning : g_strerror(err));
    return FALSE;
}

/* ---- opening ---- */

/* The system call needs a privilege or a sysctl; the device needs an owner or an ACL. */
static int open_any(gboolean user_mode_only)
{
    int flags = O_CLOEXEC | O_NONBLOCK | (user_mode_only ? UFFD_USER_MODE_ONLY : 0);
    int fd = (int)syscall(SYS_userfaultfd, flags);
    autofd device = -1;
    int err = errno;

    if (fd >= 0 || err != EPERM)
        return fd;
    device = open(DEVICE, O_RDWR | O_CLOEXEC);
    if (device >= 0)
        fd = ioctl(device, USERFAULTFD_IOC_NEW, flags);
    if (fd < 0)
        errno = err;
    return fd;
}

static int open_said(gboolean user_mode_only, GError **error)
{
    int fd = open_any(user_mode_only);

    if (fd >= 0)
        return fd;
    g_set_error(error, UFFD_ERROR, UFFD_ERROR_UNSUPPORTED, _("userfaultfd: %s: %s"),
                g_strerror(errno),
                errno == EPERM
                    ? _("allow it with vm.unprivileged_userfaultfd=1, or give access to /dev/userfaultfd")
                    : _("a kernel with CONFIG_USERFAULTFD is needed"));
    return -1;
}

static gboolean shake_hands(int fd, guint64 features, guint64 *ret_features, GError **error)
{
    struct uffdio_api api = { .api = UFFD_API, .features = features };

    if (ioctl(fd, UFFDIO_API, &api) < 0) {
        g_set_error(error, UFFD_ERROR, UFFD_ERROR_UNSUPPORTED,
                    _("userfaultfd: the kernel refuses features 0x%" PRIx64 ": %s"), features,
                    g_strerror(errno));
        return FALSE;
    }
    *ret_features = api.features;
    return TRUE;
}

int uffd_open(guint64 wanted, gboolean user_mode_only, guint64 *ret_features, GError **error)
{
    guint64 has = 0, same;
    autofd fd = open_said(user_mode_only, error);

    /* A kernel refuses what it does not know, and can be asked only once what it knows. */
    if (fd < 0 || !shake_hands(fd, 0, &has, error))
        return -1;
    if (wanted & ~has) {
        g_set_error(error, UFFD_ERROR, UFFD_ERROR_UNSUPPORTED,
                    _("userfaultfd: this kernel has features 0x%" PRIx64 ", 0x%" PRIx64
                      " are needed: use a newer one"),
                    has, wanted);
        return -1;
    }
    autofd_clear(&fd);
    fd = open_said(user_mode_only, error);
    if (fd < 0 || !shake_hands(fd, wanted | (has & UFFD_FEATURE_THREAD_ID), &same, error))
        return -1;
    if (ret_features)
        *ret_features = has;
    return autofd_steal(&fd);
}

/* ---- ranges ---- */

gboolean uffd_register(int uffd, guint64 address, guint64 length, gboolean *ret_zeropage,
                       GError **error)
{
    struct uffdio_register reg = {
        .range = { address, length },
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };

    if (ioctl(uffd, UFFDIO_REGISTER, &reg) < 0)
        return failed("UFFDIO_REGISTER", address, length, errno, error);
    if (ret_zeropage)
        *ret_zeropage = (reg.ioctls & (G_GUINT64_CONSTANT(1) << _UFFDIO_ZEROPAGE)) != 0;
    return TRUE;
}

gboolean uffd_wake(int uffd, guint64 address, guint64 length, GError **error)
{
    struct uffdio_range range = { address, length };

    return ioctl(uffd, UFFDIO_WAKE, &range) == 0 ||
           failed("UFFDIO_WAKE", address, length, errno, error);
}

gboolean uffd_unregister(int uffd, guint64 address, guint64 length, GError **error)
{
    struct uffdio_range range = { address, length };

    if (ioctl(uffd, UFFDIO_UNREGISTER, &range) < 0)
        return failed("UFFDIO_UNREGISTER", address, length, errno, error);
    /* The kernel wakes who waits before it takes the range out, and a fault that holds only its mapping's lock
     * may begin to wait in between. */
    return uffd_wake(uffd, address, length, error);
}

/* ---- placing ---- */

/* What one ioctl came to. done: what the kernel has put into the structure; -errno without any progress. A part
 * that is done is an EAGAIN, whatever stopped it. */
static UffdPlaced judge(int err, gint64 done, gboolean *ret_more, guint64 *ret_done)
{
    *ret_more = done > 0 && err == EAGAIN;
    if (done > 0)
        *ret_done += (guint64)done;
    if (err == 0)
        return UFFD_PLACED;
    if (err == EEXIST)
        return UFFD_EXISTED;
    return err == EAGAIN ? UFFD_AGAIN : UFFD_FAILED;
}

UffdPlaced uffd_copy(int uffd, guint64 address, const guint8 *source, guint64 length,
                     guint64 *ret_done, GError **error)
{
    UffdPlaced placed;
    gboolean more;
    int err;

    *ret_done = 0;
    do {
        struct uffdio_copy copy = {
            .dst = address + *ret_done,
            .src = (guintptr)(source + *ret_done),
            .len = length - *ret_done,
        };

        err = ioctl(uffd, UFFDIO_COPY, &copy) < 0 ? errno : 0;
        placed = judge(err, copy.copy, &more, ret_done);
    } while (more && *ret_done < length);
    if (placed == UFFD_FAILED)
        failed("UFFDIO_COPY", address + *ret_done, length - *ret_done, err, error);
    return placed;
}

UffdPlaced uffd_zero(int uffd, guint64 address, guint64 length, guint64 *ret_done, GError **error)
{
    UffdPlaced placed;
    gboolean more;
    int err;

    *ret_done = 0;
    do {
        struct uffdio_zeropage zero = {
            .range = { address + *ret_done, length - *ret_done },
        };

        err = ioctl(uffd, UFFDIO_ZEROPAGE, &zero) < 0 ? errno : 0;
        placed = judge(err, zero.zeropage, &more, ret_done);
    } while (more && *ret_done < length);
    if (placed == UFFD_FAILED)
        failed("UFFDIO_ZEROPAGE", address + *ret_done, length - *ret_done, err, error);
    return placed;
}
