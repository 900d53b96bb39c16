/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/memory-owner.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ram/uffd/uffd.h"

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 0x0004U
#endif

typedef struct {
    guint64 word;
    guint64 a;
    guint64 b;
} Question;

typedef struct {
    guint64 address;
    gboolean has_memfd;
} Hello;

/* ---- inside of the process ---- */

typedef struct {
    OwnerConfig config;
    guint8 *memory;
    int memfd;
    GPtrArray *threads;
} World;

typedef struct {
    const World *world;
    guint first;
    guint n;
} Walk;

void owner_fill(guint8 *page, gsize page_size, guint i)
{
    guint64 word = G_GUINT64_CONSTANT(0x9e3779b97f4a7c15) * (i + 1) | 1;

    for (gsize at = 0; at < page_size; at += sizeof word)
        memcpy(page + at, &word, sizeof word);
}

static gboolean is_right(const World *w, guint i)
{
    gsize size = w->config.page_size;
    g_autofree guint8 *expected = g_malloc(size);

    owner_fill(expected, size, i);
    return memcmp(w->memory + (gsize)i * size, expected, size) == 0;
}

static gpointer walk(gpointer data)
{
    g_autofree Walk *task = data;
    guint n_pages = task->world->config.n_pages;
    guint bad = 0;

    for (guint i = 0; i < task->n; i++)
        bad += is_right(task->world, (task->first + i) % n_pages) ? 0 : 1;
    return GUINT_TO_POINTER(bad);
}

static guint64 touch(World *w, guint64 threads, guint64 single)
{
    for (guint64 i = 0; i < threads; i++) {
        Walk *task = g_new(Walk, 1);

        *task = single ? (Walk){ w, (guint)single - 1, 1 }
                       : (Walk){ w, (guint)(i * w->config.n_pages / threads), w->config.n_pages };
        g_ptr_array_add(w->threads, g_thread_new("vcpu", walk, task));
    }
    return threads;
}

static guint64 wait_all(World *w)
{
    guint64 bad = 0;

    for (guint i = 0; i < w->threads->len; i++)
        bad += GPOINTER_TO_UINT(g_thread_join(w->threads->pdata[i]));
    g_ptr_array_set_size(w->threads, 0);
    return bad;
}

typedef struct {
    gpointer address;
    gsize length;
} Piece;

static gpointer unmap_thread(gpointer data)
{
    g_autofree Piece *piece = data;

    munmap(piece->address, piece->length);
    return NULL;
}

static guint64 discard(World *w, guint64 page, guint64 n)
{
    gsize size = w->config.page_size;

    if (w->memfd >= 0)
        return (guint64)fallocate(w->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                  (off_t)(page * size), (off_t)(n * size));
    return (guint64)madvise(w->memory + page * size, n * size, MADV_DONTNEED);
}

static guint64 answer(World *w, const Question *q)
{
    gsize size = w->config.page_size, all = size * w->config.n_pages;
    guint8 *at = w->memory + q->a * size;
    guint64 value = 0;

    switch ((OwnerWord)q->word) {
    case OWNER_TOUCH:
        return touch(w, q->a, q->b);
    case OWNER_WAIT:
        return wait_all(w);
    case OWNER_LOOK:
        memcpy(&value, at, sizeof value);
        return value;
    case OWNER_DISCARD:
        return discard(w, q->a, q->b);
    case OWNER_UNMAP:
        return (guint64)munmap(at, q->b * size);
    case OWNER_UNMAP_LATE: {
        Piece *piece = g_new(Piece, 1);

        *piece = (Piece){ at, q->b * size };
        g_ptr_array_add(w->threads, g_thread_new("unmap", unmap_thread, piece));
        return 0;
    }
    case OWNER_PROTECT:
        return (guint64)mprotect(at, size, PROT_READ);
    case OWNER_LOCK:
        return (guint64)mlock(w->memory, all);
    case OWNER_UNLOCK:
        return (guint64)munlock(w->memory, all);
    case OWNER_THP_OFF:
        return (guint64)madvise(w->memory, all, MADV_NOHUGEPAGE);
    case OWNER_WRITE:
        owner_fill(at, size, (guint)q->a);
        return 0;
    }
    return G_MAXUINT64;
}

static gboolean map_memory(World *w)
{
    const OwnerConfig *config = &w->config;
    gsize all = config->page_size * config->n_pages;
    guint flags = config->backing == UFFD_HUGETLB ? MFD_HUGETLB : 0;
    guint8 *reserve;

    w->memfd = -1;
    if (config->backing != UFFD_ANON) {
        w->memfd = config->memfd >= 0 ? config->memfd : memfd_create("owner", flags);
        if (w->memfd < 0 || ftruncate(w->memfd, (off_t)all) < 0)
            return FALSE;
        w->memory = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_SHARED, w->memfd, 0);
        return w->memory != MAP_FAILED;
    }
    /* Where huge pages could be put, if they come by themselves. */
    reserve = mmap(NULL, all + 4 * 1024 * 1024, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    w->memory = (guint8 *)(((guintptr)reserve + 0x1fffff) & ~(guintptr)0x1fffff);
    w->memory = mmap(w->memory, all, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return w->memory != MAP_FAILED &&
           (!config->huge || madvise(w->memory, all, MADV_HUGEPAGE) == 0);
}

static void send_hello(int fd, const World *w, int uffd)
{
    Hello hello = { (guintptr)w->memory, w->memfd >= 0 };
    int fds[2] = { uffd, w->memfd };
    gsize len = sizeof(int) * (w->memfd >= 0 ? 2 : 1);
    union {
        char bytes[CMSG_SPACE(sizeof fds)];
        struct cmsghdr align;
    } control = { .bytes = { 0 } };
    struct iovec iov = { &hello, sizeof hello };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
                          .msg_controllen = CMSG_SPACE(len) };
    struct cmsghdr *head = CMSG_FIRSTHDR(&msg);

    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(head), fds, len);
    if (sendmsg(fd, &msg, 0) < 0)
        _exit(2);
}

static G_GNUC_NORETURN void owner_main(int fd, const OwnerConfig *config)
{
    World w = { .config = *config, .threads = g_ptr_array_new() };
    g_autoptr(GError) error = NULL;
    Question q;
    int uffd;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    uffd = uffd_open(config->features, config->user_mode_only, NULL, &error);
    if (uffd < 0 || !map_memory(&w) ||
        (!config->unregistered && !uffd_register(uffd, (guintptr)w.memory,
                                                 config->page_size * config->n_pages, NULL,
                                                 &error))) {
        fprintf(stderr, "owner: %s\n", error ? error->message : g_strerror(errno));
        _exit(1);
    }
    send_hello(fd, &w, uffd);
    while (recv(fd, &q, sizeof q, 0) == sizeof q) {
        guint64 value = answer(&w, &q);

        if (send(fd, &value, sizeof value, MSG_NOSIGNAL) < 0)
            break;
    }
    _exit(0);
}

/* ---- from outside ---- */

static void take_hello(Owner *owner)
{
    Hello hello;
    int fds[2] = { -1, -1 };
    union {
        char bytes[CMSG_SPACE(sizeof fds)];
        struct cmsghdr align;
    } control;
    struct iovec iov = { &hello, sizeof hello };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
                          .msg_controllen = sizeof control.bytes };
    gssize len = recvmsg(owner->fd, &msg, MSG_CMSG_CLOEXEC);
    struct cmsghdr *head = CMSG_FIRSTHDR(&msg);

    assert_int_equal(len, sizeof hello);
    assert_non_null(head);
    memcpy(fds, CMSG_DATA(head), MIN(sizeof fds, head->cmsg_len - CMSG_LEN(0)));
    owner->uffd = fds[0];
    owner->memfd = hello.has_memfd ? fds[1] : -1;
    owner->address = hello.address;
}

Owner *owner_start(const OwnerConfig *config)
{
    Owner *owner = g_new0(Owner, 1);
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    owner->page_size = config->page_size;
    owner->n_pages = config->n_pages;
    owner->backing = config->backing;
    owner->pid = fork();
    if (owner->pid == 0) {
        close(pair[0]);
        owner_main(pair[1], config);
    }
    close(pair[1]);
    owner->fd = pair[0];
    take_hello(owner);
    return owner;
}

void owner_free(Owner *owner)
{
    if (!owner)
        return;
    kill(owner->pid, SIGKILL);
    waitpid(owner->pid, NULL, 0);
    close(owner->fd);
    close(owner->uffd);
    if (owner->memfd >= 0)
        close(owner->memfd);
    g_free(owner);
}

void owner_range(const Owner *owner, guint block, UffdRange *ret_range)
{
    *ret_range = (UffdRange){
        .block = block,
        .address = owner->address,
        .length = owner->page_size * owner->n_pages,
        .page_size = owner->page_size,
        .backing = owner->backing,
    };
}

guint64 owner_ask(const Owner *owner, OwnerWord word, guint64 a, guint64 b)
{
    Question q = { word, a, b };
    guint64 value;

    assert_int_equal(send(owner->fd, &q, sizeof q, MSG_NOSIGNAL), sizeof q);
    assert_int_equal(recv(owner->fd, &value, sizeof value, 0), sizeof value);
    return value;
}
