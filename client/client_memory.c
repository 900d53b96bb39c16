/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The process's own memory: userfaultfd, bitmaps, discarding. */
#include "config.h"

#include "client/client_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Younger than the kernel headers we build with. */
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

#define WRITE_PROTECTION \
    (UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_HUGETLBFS_SHMEM)

/* ---- private memory ---- */

/* One line of /proc/self/maps: whether it has a part of the region, and whether that is private anonymous memory. */
static bool is_other_memory(const char *line, uintptr_t begin, uintptr_t end)
{
    unsigned long from, to, inode;
    char permissions[5];
    int name = 0;

    if (sscanf(line, "%lx-%lx %4s %*x %*x:%*x %lu %n", &from, &to, permissions, &inode, &name) < 4 ||
        from >= end || to <= begin)
        return false;
    return permissions[3] != 'p' ||
           (inode != 0 && strncmp(line + name, "/anon_hugepage", strlen("/anon_hugepage")) != 0);
}

int client_check_private(PostcopyClient *client, const PostcopyRegion *region)
{
    uintptr_t begin = (uintptr_t)region->address;
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    bool is_other = false;

    if (!maps)
        return client_fail(client, errno, "/proc/self/maps: %s", strerror(errno));
    while (!is_other && fgets(line, sizeof line, maps))
        is_other = is_other_memory(line, begin, begin + region->length);
    fclose(maps);
    if (is_other)
        return client_fail(client, EINVAL,
                           "Region %s is shared, or a file's: hand its descriptor over as well",
                           region->name);
    return 0;
}

/* ---- userfaultfd ---- */

/* The device first: it grants faults of the kernel's, which the system call gives to the
 * privileged alone. */
static int open_userfaultfd(bool user_faults_will_do)
{
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd = -1;

    if (device >= 0) {
        fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
        close(device);
    }
    if (fd < 0)
        fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && user_faults_will_do)
        fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    return fd;
}

static int open_checked(PostcopyClient *client, bool user_faults_will_do)
{
    int fd = open_userfaultfd(user_faults_will_do);

    if (fd >= 0)
        return fd;
    return client_fail(client, errno,
                       "No userfaultfd: %s; let this process open /dev/userfaultfd",
                       strerror(errno));
}

/* A userfaultfd shakes hands once, so that one is used up to see what the kernel has. */
static int find_features(PostcopyClient *client, bool user_faults_will_do, uint64_t *ret_features)
{
    struct uffdio_api api = { .api = UFFD_API };
    int fd = open_checked(client, user_faults_will_do), err;

    if (fd < 0)
        return fd;
    err = ioctl(fd, UFFDIO_API, &api) < 0 ? errno : 0;
    close(fd);
    if (err)
        return client_fail(client, err, "userfaultfd's handshake: %s", strerror(err));
    *ret_features = api.features;
    return 0;
}

static int open_with(PostcopyClient *client, bool user_faults_will_do, uint64_t needed,
                     uint64_t wanted)
{
    struct uffdio_api api = { .api = UFFD_API };
    uint64_t there = 0;
    int fd, err, ret = find_features(client, user_faults_will_do, &there);

    if (ret < 0)
        return ret;
    if ((there & needed) != needed)
        return client_fail(client, ENOTSUP,
                           "This kernel's userfaultfd cannot do what is needed (features 0x%llx "
                           "are missing)", (unsigned long long)(needed & ~there));
    fd = open_checked(client, user_faults_will_do);
    if (fd < 0)
        return fd;
    api.features = there & (needed | wanted);
    if (ioctl(fd, UFFDIO_API, &api) == 0)
        return fd;
    err = errno;
    close(fd);
    return client_fail(client, err, "userfaultfd's handshake: %s", strerror(err));
}

/* With the lock. */
static int register_all(PostcopyClient *client, uint64_t mode)
{
    for (unsigned i = 0; i < client->n_regions; i++) {
        Region *region = &client->regions[i];
        struct uffdio_register r = {
            .range = { (uintptr_t)region->address, region->length },
            .mode = mode,
        };

        if (region->flags & POSTCOPY_REGION_IGNORED)
            continue;
        if (ioctl(client->uffd, UFFDIO_REGISTER, &r) < 0)
            return client_fail(client, errno, "Region %s cannot be registered with userfaultfd: %s",
                               region->name, strerror(errno));
        region->is_registered = true;
    }
    return 0;
}

static int open_and_register(PostcopyClient *client, bool user_faults_will_do, uint64_t needed,
                             uint64_t wanted, uint64_t mode)
{
    int ret;

    client_unregister(client);
    ret = open_with(client, user_faults_will_do, needed, wanted);
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&client->lock);
    client->uffd = ret;
    ret = register_all(client, mode);
    pthread_mutex_unlock(&client->lock);
    if (ret < 0)
        client_unregister(client);
    return ret;
}

int client_register_write_protection(PostcopyClient *client)
{
    /* In async mode the kernel resolves the faults, whoever's they are. */
    return open_and_register(client, true, WRITE_PROTECTION, 0, UFFDIO_REGISTER_MODE_WP);
}

void client_protect(PostcopyClient *client, unsigned region, uint64_t start, uint64_t length)
{
    const Region *r = &client->regions[region];
    struct uffdio_writeprotect protect = {
        .range = { (uintptr_t)r->address + start, length },
        .mode = UFFDIO_WRITEPROTECT_MODE_WP,
    };

    /* If it fails, or there is no log of the kernel's, the pages count as written. */
    pthread_mutex_lock(&client->lock);
    if (r->is_registered)
        ioctl(client->uffd, UFFDIO_WRITEPROTECT, &protect);
    pthread_mutex_unlock(&client->lock);
}

int client_register_missing(PostcopyClient *client)
{
    uint64_t needed = 0;

    for (unsigned i = 0; i < client->n_regions; i++) {
        if (client->regions[i].page_size > 4096)
            needed |= UFFD_FEATURE_MISSING_HUGETLBFS;
        else if (client->regions[i].fd >= 0)
            needed |= UFFD_FEATURE_MISSING_SHMEM;
    }
    return open_and_register(client, client->user_faults_only, needed, UFFD_FEATURE_THREAD_ID,
                             UFFDIO_REGISTER_MODE_MISSING);
}

int client_check_missing(PostcopyClient *client)
{
    char text[sizeof client->error];
    int ret = client_register_missing(client);

    client_unregister(client);
    if (ret == 0)
        return 0;
    memcpy(text, client->error, sizeof text);
    return client_fail(client, -ret, "Post-copy would not work here: %.*s",
                       (int)sizeof text - 32, text);
}

void client_wake_all(PostcopyClient *client)
{
    for (unsigned i = 0; i < client->n_regions; i++) {
        struct uffdio_range range = { (uintptr_t)client->regions[i].address,
                                      client->regions[i].length };

        if (client->regions[i].is_registered)
            ioctl(client->uffd, UFFDIO_WAKE, &range);
    }
}

void client_unregister(PostcopyClient *client)
{
    pthread_mutex_lock(&client->lock);
    for (unsigned i = 0; i < client->n_regions; i++) {
        struct uffdio_range range = { (uintptr_t)client->regions[i].address,
                                      client->regions[i].length };

        /* The process may have unmapped it: then it is registered no more. */
        if (client->regions[i].is_registered) {
            ioctl(client->uffd, UFFDIO_UNREGISTER, &range);
            /* The kernel has woken who waited before it took the range out: a thread may have begun to
             * wait in between, and the helper holds this userfaultfd as well. */
            ioctl(client->uffd, UFFDIO_WAKE, &range);
        }
        client->regions[i].is_registered = false;
    }
    if (client->uffd >= 0)
        close(client->uffd);
    client->uffd = -1;
    pthread_mutex_unlock(&client->lock);
}

/* ---- bitmaps ---- */

size_t client_bitmap_at(const PostcopyClient *client, unsigned region, uint64_t *ret_pages)
{
    size_t at = 0;

    for (unsigned i = 0; i < region; i++)
        at += (client->regions[i].length / 4096 + 63) / 64;
    if (ret_pages)
        *ret_pages = client->regions[region].length / 4096;
    return at;
}

int client_make_bitmaps(PostcopyClient *client)
{
    uint64_t pages;
    size_t words;
    int err;

    if (client->bitmaps_fd >= 0)
        return 0;
    words = client_bitmap_at(client, client->n_regions - 1, &pages) + (pages + 63) / 64;
    client->bitmaps_len = words * 8;
    client->bitmaps_fd = memfd_create("postcopy-bitmaps", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (client->bitmaps_fd >= 0 && ftruncate(client->bitmaps_fd, (off_t)client->bitmaps_len) == 0 &&
        fcntl(client->bitmaps_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        client->bitmaps = mmap(NULL, client->bitmaps_len, PROT_READ | PROT_WRITE, MAP_SHARED,
                               client->bitmaps_fd, 0);
    if (client->bitmaps && client->bitmaps != MAP_FAILED)
        return 0;
    err = errno;
    client->bitmaps = NULL;
    client_free_bitmaps(client);
    return client_fail(client, err, "No memory for bitmaps: %s", strerror(err));
}

void client_free_bitmaps(PostcopyClient *client)
{
    if (client->bitmaps)
        munmap(client->bitmaps, client->bitmaps_len);
    client->bitmaps = NULL;
    if (client->bitmaps_fd >= 0)
        close(client->bitmaps_fd);
    client->bitmaps_fd = -1;
}

/* ---- pages ---- */

/* A source's memory may be locked; kernels since 5.18 drop it all the same. */
static int drop_private(uint8_t *at, uint64_t length)
{
    if (madvise(at, length, MADV_DONTNEED) == 0)
        return 0;
    return errno == EINVAL ? madvise(at, length, MADV_DONTNEED_LOCKED) : -1;
}

int client_discard(PostcopyClient *client, unsigned region, uint64_t start, uint64_t length)
{
    const Region *r = &client->regions[region];
    int ret;

    if (region >= client->n_regions || start > r->length || length > r->length - start)
        return client_fail(client, ERANGE, "DISCARD beyond the end of a region");
    if (r->fd >= 0)
        ret = fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        (off_t)(r->fd_offset + start), (off_t)length);
    else
        ret = drop_private(r->address + start, length);
    if (ret == 0)
        return 0;
    return client_fail(client, errno, "Region %s: pages cannot be dropped: %s", r->name,
                       strerror(errno));
}
