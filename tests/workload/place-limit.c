/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* place-limit MIB [PAGES-IN-A-RUN [MIB-BESIDE]]: how fast this kernel places pages in memory that has not been
 * touched, which no post-copy can exceed. MIB-BESIDE: of other memory that is filled before, as the guest at the
 * source is: of what the machine has at hand it takes its share. Prints {"bytes": n, "seconds": t, "mib_per_s": r}. Exit
 * status 77: there is no userfaultfd here. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define MIB (1024 * 1024)
#define SKIPPED 77

static int open_userfaultfd(void)
{
    struct uffdio_api api = { .api = UFFD_API };
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0)
        return fd;
    fprintf(stderr, "place-limit: userfaultfd: %s\n", g_strerror(errno));
    exit(SKIPPED);
}

static void *map(gsize length)
{
    void *at = mmap(NULL, length, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (at == MAP_FAILED) {
        perror("place-limit: mmap");
        exit(1);
    }
    return at;
}

/* Pages of data that stay in the cache, as those do that have just been decrypted. */
static void *make_source(gsize length)
{
    guint32 *words = map(length);

    for (gsize i = 0; i < length / sizeof(*words); i++)
        words[i] = g_random_int();
    return words;
}

static double place_all(int fd, guint8 *at, gsize length, const void *source, gsize run)
{
    struct timespec began, ended;

    clock_gettime(CLOCK_MONOTONIC, &began);
    for (gsize done = 0; done < length; done += run) {
        struct uffdio_copy copy = { .dst = (guintptr)at + done,
                                    .src = (guintptr)source,
                                    .len = MIN(run, length - done) };

        if (ioctl(fd, UFFDIO_COPY, &copy) != 0) {
            perror("place-limit: UFFDIO_COPY");
            exit(1);
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    return (double)(ended.tv_sec - began.tv_sec) + (double)(ended.tv_nsec - began.tv_nsec) / 1e9;
}

/* As a VMM has it: in huge pages, where there are any. */
static void fill(gsize length)
{
    guint8 *at = length > 0 ? map(length) : NULL;

    if (at)
        madvise(at, length, MADV_HUGEPAGE);
    for (gsize i = 0; i < length; i += PAGE)
        at[i] = 1;
}

int main(int argc, char **argv)
{
    gsize length = (gsize)(argc > 1 ? strtoul(argv[1], NULL, 10) : 0) * MIB;
    gsize run = (gsize)(argc > 2 ? strtoul(argv[2], NULL, 10) : 64) * PAGE;
    gsize beside = (gsize)(argc > 3 ? strtoul(argv[3], NULL, 10) : 0) * MIB;
    struct uffdio_register area = { .mode = UFFDIO_REGISTER_MODE_MISSING };
    int fd;
    guint8 *at;
    double took;

    if (length == 0 || run == 0) {
        fprintf(stderr, "usage: place-limit MIB [PAGES-IN-A-RUN [MIB-BESIDE]]\n");
        return 2;
    }
    fd = open_userfaultfd();
    fill(beside);
    at = map(length);
    madvise(at, length, MADV_NOHUGEPAGE);
    area.range.start = (guintptr)at;
    area.range.len = length;
    if (ioctl(fd, UFFDIO_REGISTER, &area) != 0) {
        perror("place-limit: UFFDIO_REGISTER");
        return 1;
    }
    took = place_all(fd, at, length, make_source(run), run);
    printf("{\"bytes\": %zu, \"seconds\": %.6f, \"mib_per_s\": %.1f}\n", length, took,
           (double)length / MIB / took);
    return 0;
}
