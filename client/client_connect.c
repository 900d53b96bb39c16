/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Connecting: the daemon is told what is wanted, and its helper what there is. */
#include "config.h"

#include "client/client_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEFAULT_SOCKET RUNSTATEDIR "/libvirt/virtpostcopy/" HANDOVER_SOCKET
/* The daemon starts a helper, and at the source calls the other host. */
#define WELCOME_MS 60000

static char *copy_text(HandoverText text)
{
    return text.len > 0 ? strndup(text.bytes, text.len) : NULL;
}

static int wait_for_welcome(PostcopyClient *client)
{
    size_t len;
    int ret = client_receive(client, WELCOME_MS, &len);

    if (ret < 0)
        return ret;
    if (ret == 0)
        return client_fail(client, ETIMEDOUT, "virtpostcopyd does not answer");
    if (client->message->type == HANDOVER_REFUSED)
        return client_fail(client, ECONNREFUSED, "%.*s", (int)client->message->text.len,
                           client->message->text.bytes);
    if (client->message->type != HANDOVER_WELCOME)
        return client_fail(client, EPROTO, "%s, where WELCOME is awaited",
                           handover_type_name(client->message->type));
    client->uri = copy_text(client->message->welcome.uri);
    client->session = copy_text(client->message->welcome.session);
    if (!client->session || (client->side == POSTCOPY_DESTINATION && !client->uri))
        return client_fail(client, EPROTO, "WELCOME without a session, or without its URI");
    return 0;
}

static int say_hello(PostcopyClient *client, const char *uri, bool recovers)
{
    HandoverMessage message = { .type = HANDOVER_HELLO };
    int ret;

    message.hello.version = HANDOVER_VERSION;
    message.hello.role = client->side == POSTCOPY_SOURCE ? HANDOVER_SOURCE : HANDOVER_DESTINATION;
    message.hello.recovers = recovers;
    message.hello.bulk = client->bulk;
    message.hello.compress = client->compress;
    message.hello.name = handover_text(client->name, strlen(client->name));
    message.hello.uri = handover_text(uri, uri ? strlen(uri) : 0);
    ret = client_send(client, &message, NULL);
    if (ret < 0)
        return client_fail(client, -ret, "HELLO: %s", strerror(-ret));
    return wait_for_welcome(client);
}

/* ---- the hand-over ---- */

static uint32_t flags_of(const Region *region)
{
    uint32_t flags = region->flags & ~(uint32_t)POSTCOPY_REGION_NO_THP;

    /* Zero pages are placed in pages of the usual size alone; Linux has none of huge ones. */
    return region->page_size == 4096 ? flags | 1 << 3 : flags;
}

/* Which of the message's descriptors it is, from 1: several regions may lie in one memfd. */
static uint8_t nth_fd(int fd, int *fds, uint8_t *n_fds)
{
    if (fd < 0)
        return 0;
    for (uint8_t i = 0; i < *n_fds; i++)
        if (fds[i] == fd)
            return (uint8_t)(i + 1);
    fds[*n_fds] = fd;
    return ++*n_fds;
}

static int send_regions(PostcopyClient *client, unsigned first)
{
    HandoverMessage message = { .type = HANDOVER_REGIONS };
    int fds[HANDOVER_FDS_MAX];
    uint8_t n_fds = 0;
    unsigned n = client->n_regions - first;
    int ret;

    message.regions.n = (uint16_t)(n < HANDOVER_REGIONS_MAX ? n : HANDOVER_REGIONS_MAX);
    for (unsigned i = 0; i < message.regions.n; i++) {
        const Region *region = &client->regions[first + i];

        message.regions.regions[i] = (HandoverRegion){
            .name = handover_text(region->name, strlen(region->name)),
            .length = region->length,
            .page_size = region->page_size,
            .flags = flags_of(region),
            .address = (uintptr_t)region->address,
            .fd = nth_fd(region->fd, fds, &n_fds),
            .fd_offset = region->fd_offset,
        };
    }
    ret = client_send(client, &message, fds);
    return ret < 0 ? ret : message.regions.n;
}

static bool has_private_memory(const PostcopyClient *client)
{
    for (unsigned i = 0; i < client->n_regions; i++)
        if (client->regions[i].fd < 0 && !(client->regions[i].flags & POSTCOPY_REGION_IGNORED))
            return true;
    return false;
}

/* The descriptors that go with MEMORY, in its order. What was opened for it alone is in `own`. */
typedef struct {
    int fds[5];
    unsigned n;
    int own[2];
    unsigned n_own;
    uint8_t which;
} Descriptors;

static int add_file(PostcopyClient *client, Descriptors *d, uint8_t which, const char *path,
                    int flags)
{
    int fd = open(path, flags | O_CLOEXEC);

    if (fd < 0)
        return client_fail(client, errno, "%s: %s", path, strerror(errno));
    d->own[d->n_own++] = d->fds[d->n++] = fd;
    d->which |= which;
    return 0;
}

static void add_fd(Descriptors *d, uint8_t which, int fd)
{
    d->fds[d->n++] = fd;
    d->which |= which;
}

static int collect(PostcopyClient *client, bool recovers, Descriptors *d)
{
    bool logs = client->side == POSTCOPY_SOURCE && !recovers;
    bool follows = client->side == POSTCOPY_DESTINATION && client->params.checkpoints;
    int ret = 0;

    if (has_private_memory(client))
        ret = add_file(client, d, HANDOVER_FD_MEM, "/proc/self/mem", O_RDWR);
    if (ret == 0 && (follows || (logs && !client_has_own_log(client))))
        ret = add_file(client, d, HANDOVER_FD_PAGEMAP, "/proc/self/pagemap", O_RDONLY);
    if (ret < 0)
        return ret;
    if (client->side == POSTCOPY_DESTINATION || (logs && client_has_own_log(client))) {
        ret = client_make_bitmaps(client);
        if (ret < 0)
            return ret;
        add_fd(d, logs ? HANDOVER_FD_DIRTY : HANDOVER_FD_RECEIVED, client->bitmaps_fd);
    }
    if (client->side == POSTCOPY_DESTINATION && recovers) {
        client_wake_all(client);
        add_fd(d, HANDOVER_FD_UFFD, client->uffd);
    }
    return 0;
}

static int send_memory(PostcopyClient *client, bool recovers, const Descriptors *d)
{
    HandoverMessage message = { .type = HANDOVER_MEMORY };

    message.memory.n_regions = (uint16_t)client->n_regions;
    message.memory.target_page = 4096;
    message.memory.recovers = recovers;
    if (client->side == POSTCOPY_SOURCE && !recovers)
        message.memory.log = client_has_own_log(client) ? 2 : 1;
    else if (client->params.checkpoints)
        message.memory.log = 1;
    message.memory.fds = d->which;
    message.memory.params = client->params;
    return client_send(client, &message, d->fds);
}

static int hand_over(PostcopyClient *client, bool recovers)
{
    Descriptors d = { .n = 0 };
    int ret = collect(client, recovers, &d);

    for (unsigned i = 0; ret >= 0 && i < client->n_regions; i += (unsigned)ret) {
        ret = send_regions(client, i);
        if (ret < 0)
            client_fail(client, -ret, "The memory cannot be handed over: %s", strerror(-ret));
    }
    if (ret >= 0) {
        ret = send_memory(client, recovers, &d);
        if (ret < 0)
            client_fail(client, -ret, "The memory cannot be handed over: %s", strerror(-ret));
    }
    for (unsigned i = 0; i < d.n_own; i++)
        close(d.own[i]);
    return ret < 0 ? ret : 0;
}

/* ---- connecting ---- */

static int may_connect(PostcopyClient *client, const char *uri)
{
    if (client->fd >= 0)
        return client_fail(client, EISCONN, "Connected already");
    if (client->n_regions == 0)
        return client_fail(client, EINVAL, "There are no regions");
    if ((client->side == POSTCOPY_SOURCE) != (uri != NULL))
        return client_fail(client, EINVAL,
                           "A source is given the destination's URI, a destination none");
    if (client->outcome == POSTCOPY_COMPLETED)
        return client_fail(client, EALREADY, "The migration is completed");
    if (client->outcome == POSTCOPY_FAILED_OVER)
        return client_fail(client, EALREADY, "The guest runs here");
    return 0;
}

static void forget_last_time(PostcopyClient *client, bool recovers)
{
    free(client->uri);
    free(client->session);
    client->uri = client->session = NULL;
    /* run may still be loading it. */
    if (!client->owes_run_still) {
        free(client->state);
        client->state = NULL;
        client->state_len = 0;
    }
    client->failure = 0;
    client->owes = 0;
    client_drop_deferred(client);
    if (!recovers)
        client->is_paused = client->may_not_run = client->runs = client->owes_run_still = false;
}

EXPORT int postcopy_client_connect_fd(PostcopyClient *client, int fd, const char *uri)
{
    bool recovers = client->outcome == POSTCOPY_PAUSED;
    int ret = may_connect(client, uri);

    if (ret < 0) {
        if (fd >= 0)
            close(fd);
        return ret;
    }
    forget_last_time(client, recovers);
    client_use_socket(client, fd);
    ret = say_hello(client, uri, recovers);
    if (ret == 0)
        ret = hand_over(client, recovers);
    if (ret < 0) {
        client_close(client);
        return ret;
    }
    client->outcome = POSTCOPY_RUNNING;
    client->error[0] = '\0';
    client_set_may_tell(client, true);
    return client->n_vcpus > 0 ? client_tell_vcpus(client) : 0;
}

EXPORT int postcopy_client_connect(PostcopyClient *client, const char *socket, const char *uri)
{
    int fd, ret = may_connect(client, uri);

    if (ret < 0)
        return ret;
    fd = client_open_socket(client, socket ? socket : DEFAULT_SOCKET);
    return fd < 0 ? fd : postcopy_client_connect_fd(client, fd, uri);
}
