/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/client_link_priv.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "ram/mapped/layout_check.h"

/* Messages in one run, and bytes that may wait for a client that does not read. */
#define RUN_MESSAGES_MAX 64
#define QUEUE_BYTES_MAX (MEMORY_DEVICE_MAX + 1024 * 1024)

ClientLink *client_link_new(int fd, gboolean source, GError **error)
{
    ClientLink *link;
    int type = 0;
    socklen_t len = sizeof type;

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET) {
        autofd_clear(&fd);
        g_set_error_literal(error, RAM_ERROR, RAM_ERROR_INVALID,
                            _("the memory client's descriptor is no SOCK_SEQPACKET socket"));
        return NULL;
    }
    link = g_new0(ClientLink, 1);
    link->fd = fd;
    link->source = source;
    link->client.ops = client_link_ops();
    link->regions = g_array_new(FALSE, TRUE, sizeof(MemoryRegion));
    link->bytes = g_malloc(HANDOVER_MESSAGE_MAX);
    link->message = g_new0(HandoverMessage, 1);
    link->request_bytes = g_malloc(HANDOVER_MESSAGE_MAX);
    link->request = g_new0(HandoverMessage, 1);
    link->files = g_array_new(FALSE, FALSE, sizeof(RegionFile));
    g_queue_init(&link->output);
    g_queue_init(&link->expected);
    return link;
}

static void free_regions(ClientLink *link)
{
    for (guint i = 0; link->regions && i < link->regions->len; i++) {
        MemoryRegion *r = &g_array_index(link->regions, MemoryRegion, i);

        g_free(r->name);
        if (!r->borrows_fd)
            autofd_clear(&r->fd);
    }
    g_clear_pointer(&link->regions, g_array_unref);
}

void client_link_free(ClientLink *link)
{
    if (!link)
        return;
    autofd_clear(&link->fd);
    free_regions(link);
    g_array_unref(link->files);
    memory_layout_free(link->layout);
    g_queue_clear_full(&link->output, (GDestroyNotify)g_bytes_unref);
    g_queue_clear(&link->expected);
    g_free(link->bytes);
    g_free(link->message);
    g_free(link->request_bytes);
    g_free(link->request);
    g_free(link->broken);
    g_free(link);
}

int client_link_fd(const ClientLink *link)
{
    return link->fd;
}

short client_link_poll_events(const ClientLink *link)
{
    gboolean waits = g_queue_is_empty((GQueue *)&link->output) && !link->broken;

    return (short)(POLLIN | (waits ? 0 : POLLOUT));
}

MemoryLayout *client_link_layout(const ClientLink *link)
{
    return link->layout;
}

MemoryClient *client_link_client(ClientLink *link)
{
    return &link->client;
}

gboolean client_link_is_drained(const ClientLink *link)
{
    return link->fd < 0 || g_queue_is_empty((GQueue *)&link->output);
}

gboolean client_link_is_read(const ClientLink *link)
{
    guint8 byte;

    return link->fd < 0 ||
           (recv(link->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN);
}

/* ---- out ---- */

/* FALSE: nobody is there any more; the reason is kept for the next run. */
static gboolean send_one(ClientLink *link)
{
    GBytes *bytes = g_queue_peek_head(&link->output);
    gsize len;
    gconstpointer data = g_bytes_get_data(bytes, &len);

    if (send(link->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        if (errno == EAGAIN || errno == EINTR)
            return FALSE;
        /* Whoever closes his end has closed both: reading finds the same, after what he said
         * last. Anything else would leave out what was to be said. */
        if (errno != EPIPE && errno != ECONNRESET && !link->broken)
            link->broken = g_strdup_printf(_("it cannot be told: %s"), g_strerror(errno));
        g_queue_clear_full(&link->output, (GDestroyNotify)g_bytes_unref);
        link->output_bytes = 0;
        return FALSE;
    }
    link->output_bytes -= len;
    g_bytes_unref(g_queue_pop_head(&link->output));
    return TRUE;
}

static void flush_output(ClientLink *link)
{
    while (link->fd >= 0 && !g_queue_is_empty(&link->output) && send_one(link))
        ;
}

void client_link_ask(ClientLink *link, HandoverType answer)
{
    gsize len;

    if (link->ended || link->fd < 0 || link->broken)
        return;
    len = handover_encode(link->request, link->request_bytes);
    g_assert(len > 0);
    if (link->output_bytes + len > QUEUE_BYTES_MAX) {
        link->broken = g_strdup(_("it does not read what it is asked"));
        return;
    }
    g_queue_push_tail(&link->output, g_bytes_new(link->request_bytes, len));
    link->output_bytes += len;
    if (answer)
        g_queue_push_tail(&link->expected, GUINT_TO_POINTER(answer));
    flush_output(link);
}

/* ---- in ---- */

typedef struct {
    int fds[HANDOVER_FDS_MAX];
    guint n_fds;
} Received;

static void received_clear(Received *received)
{
    for (guint i = 0; i < received->n_fds; i++)
        autofd_clear(&received->fds[i]);
    received->n_fds = 0;
}

static void take_descriptors(struct msghdr *msg, Received *received)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        gsize n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        n = MIN(n, HANDOVER_FDS_MAX - received->n_fds);
        memcpy(received->fds + received->n_fds, CMSG_DATA(c), n * sizeof(int));
        received->n_fds += (guint)n;
    }
}

/* The length of a message; 0: the end; -1: nothing there, or link->broken. */
static gssize receive(ClientLink *link, Received *received)
{
    /* Room for no more than that: what does not fit is closed by the kernel, which says so. */
    union {
        struct cmsghdr head;
        guint8 bytes[CMSG_SPACE(sizeof(int) * HANDOVER_FDS_MAX)];
    } control;
    struct iovec iov = { link->bytes, HANDOVER_MESSAGE_MAX };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                          .msg_controllen = sizeof control };
    gssize len = recvmsg(link->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (len < 0 && errno == ECONNRESET && !link->was_reset) {
        link->was_reset = TRUE;
        len = recvmsg(link->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    }
    if (len < 0) {
        if (errno != EAGAIN && errno != EINTR)
            link->broken = g_strdup_printf(_("its connection is lost: %s"), g_strerror(errno));
        return -1;
    }
    take_descriptors(&msg, received);
    if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        link->broken = g_strdup(msg.msg_flags & MSG_TRUNC
                                    ? _("it sent a message of more than 65536 bytes")
                                    : _("it sent more descriptors than can be taken"));
        return -1;
    }
    return len;
}

static void break_link(ClientLink *link, const char *what)
{
    if (!link->broken)
        link->broken = g_strdup_printf(_("it broke the protocol: %s"), what);
}

static void read_one(ClientLink *link, gsize len, Received *received, ClientLinkFunc func,
                     gpointer data)
{
    char problem[HANDOVER_ERROR_MAX];
    g_autoptr(GError) error = NULL;
    gboolean ok;

    if (!handover_decode(link->bytes, len, received->n_fds, link->message, problem)) {
        break_link(link, problem);
        return;
    }
    if (link->layout)
        ok = client_link_deliver(link, received->fds, func, data, &error);
    else
        ok = client_link_hand_over(link, received->fds, &error);
    if (!ok)
        break_link(link, error->message);
}

static void tell_gone(ClientLink *link, ClientLinkFunc func, gpointer data)
{
    MemoryEvent event = { .type = MEMORY_EV_GONE, .text = link->broken, .fd = -1 };

    autofd_clear(&link->fd);
    g_queue_clear_full(&link->output, (GDestroyNotify)g_bytes_unref);
    link->output_bytes = 0;
    func(&event, data);
}

void client_link_run(ClientLink *link, ClientLinkFunc func, gpointer data)
{
    gssize len = -1;

    if (link->fd < 0)
        return;
    flush_output(link);
    for (guint i = 0; i < RUN_MESSAGES_MAX && !link->broken; i++) {
        Received received = { .n_fds = 0 };

        len = receive(link, &received);
        if (len > 0)
            read_one(link, (gsize)len, &received, func, data);
        received_clear(&received);
        if (len <= 0)
            break;
    }
    if (len == 0 && !link->broken)
        link->broken = g_strdup(_("it closed its connection"));
    if (link->broken)
        tell_gone(link, func, data);
}
