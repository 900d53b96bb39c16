/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The real try: what QEMU does when libvirt asks it whether it can be a post-copy destination. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/userfaultfd.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preflight/userfaultfd.h"
#include "util/autofd.h"

typedef struct {
    int error;
    guint64 features;
} Answer;

/* As that user's QEMU: the system call, else the device. -1 with errno of the first. */
static int open_userfaultfd(gboolean try_device)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    int err = errno;
#ifdef USERFAULTFD_IOC_NEW
    int device = fd < 0 && try_device ? open("/dev/userfaultfd", O_RDWR | O_CLOEXEC) : -1;

    if (device >= 0) {
        fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
        err = errno;
        close(device);
    }
#endif
    errno = err;
    return fd;
}

#define GROUPS_MAX 256

/* libvirt gives QEMU all groups that its user is in: the device may be open to one of them. */
static int find_groups(const QemuOwner *owner, gid_t groups[GROUPS_MAX])
{
    struct passwd entry, *found = NULL;
    char buffer[16384];
    int n = GROUPS_MAX;

    if (getpwuid_r(owner->uid, &entry, buffer, sizeof buffer, &found) == 0 && found &&
        getgrouplist(found->pw_name, owner->gid, groups, &n) >= 0)
        return n;
    groups[0] = owner->gid;
    return 1;
}

/* In the child: only calls that are safe after fork(). */
static Answer try_as(const UserfaultfdFacts *facts, const gid_t *groups, int n_groups)
{
    struct uffdio_api api = { .api = UFFD_API };
    QemuOwner owner = facts->owner;
    int fd;

    if (owner.uid != 0 && (setgroups((size_t)n_groups, groups) < 0 ||
                           setresgid(owner.gid, owner.gid, owner.gid) < 0 ||
                           setresuid(owner.uid, owner.uid, owner.uid) < 0))
        return (Answer){ errno, 0 };
    fd = open_userfaultfd(facts->device != ACCESS_NO);
    if (fd < 0)
        return (Answer){ errno, 0 };
    if (ioctl(fd, UFFDIO_API, &api) < 0)
        return (Answer){ errno, 0 };
    return (Answer){ 0, api.features };
}

void userfaultfd_probe(UserfaultfdFacts *facts)
{
    gid_t groups[GROUPS_MAX];
    int n_groups = find_groups(&facts->owner, groups);
    int ends[2];
    autofd reader = -1, writer = -1;
    Answer answer;
    pid_t child;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return;
    reader = ends[0];
    writer = ends[1];
    child = fork();
    if (child == 0) {
        answer = try_as(facts, groups, n_groups);
        _exit(write(writer, &answer, sizeof answer) == sizeof answer ? 0 : 1);
    }
    autofd_clear(&writer);
    if (child < 0)
        return;
    if (read(reader, &answer, sizeof answer) == sizeof answer) {
        facts->probe = answer.error;
        facts->features = answer.features;
    }
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
}
