/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A memory client that says what it likes, in any order: packets of u8 descriptors, u16 length, bytes. Every
 * fourth packet something is asked of it before. The descriptors are a memfd that would do. */
#include "config.h"

#include <stdint.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/handover.h"
#include "ram/mapped/client_link.h"
#include "util/autofd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FDS_MAX 6

typedef struct {
    ClientLink *link;
    gboolean is_gone;
    guint requests;
} World;

static void on_event(MemoryEvent *event, gpointer data)
{
    World *world = data;

    g_assert(!world->is_gone);
    g_assert((guint)event->type < MEMORY_EVENT_MAX);
    g_assert(event->type == MEMORY_EV_GONE || client_link_layout(world->link));
    g_assert(event->len <= HANDOVER_DEVICE_PIECE_MAX);
    for (guint i = 0; i < event->n_ranges; i++) {
        const MemoryRegion *r = &client_link_layout(world->link)->regions[event->block];

        g_assert(event->ranges[i].start < r->length);
        g_assert(event->ranges[i].length <= r->length - event->ranges[i].start);
    }
    world->is_gone = event->type == MEMORY_EV_GONE;
}

static void ask_something(World *world)
{
    MemoryClient *client = client_link_client(world->link);

    switch (world->requests++ % 5) {
    case 0:
        client->ops->advise(client);
        break;
    case 1:
        client->ops->pause(client);
        break;
    case 2:
        client->ops->listen(client);
        break;
    case 3:
        client->ops->run(client);
        break;
    default:
        client->ops->log_sync(client);
    }
}

static void send_packet(int fd, int memfd, guint n_fds, const guint8 *bytes, gsize len)
{
    guint8 control[CMSG_SPACE(sizeof(int) * FDS_MAX)] = { 0 };
    struct iovec iov = { (guint8 *)bytes, len };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    struct cmsghdr *head = (struct cmsghdr *)control;
    int fds[FDS_MAX];

    if (n_fds > 0) {
        for (guint i = 0; i < n_fds; i++)
            fds[i] = memfd;
        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(head), fds, sizeof(int) * n_fds);
    }
    /* Nobody may be there any more. */
    (void)!sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void play(World *world, int fd, int memfd, const guint8 *data, gsize size)
{
    guint n = 0;

    while (size >= 3 && !world->is_gone) {
        gsize len = MIN((gsize)data[1] << 8 | data[2], size - 3);

        send_packet(fd, memfd, data[0] % (FDS_MAX + 1), data + 3, len);
        if (n++ % 4 == 0)
            ask_something(world);
        client_link_run(world->link, on_event, world);
        data += 3 + len;
        size -= 3 + len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autofd memfd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    autofd client = -1;
    World world = { 0 };
    int fds[2];

    if (size < 1 || memfd < 0 || ftruncate(memfd, 1 << 20) < 0 ||
        fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return 0;
    client = fds[1];
    world.link = client_link_new(fds[0], data[0] & 1, NULL);
    g_assert(world.link);
    play(&world, client, memfd, data + 1, size - 1);
    autofd_clear(&client);
    client_link_run(world.link, on_event, &world);
    while (!world.is_gone)
        client_link_run(world.link, on_event, &world);
    client_link_free(world.link);
    return 0;
}
