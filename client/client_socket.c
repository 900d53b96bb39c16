/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "client/client_priv.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* Longer than this no helper leaves a message on the socket, unless it is stopped. */
#define SEND_SECONDS 30

int client_open_socket(PostcopyClient *client, const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd, err;

    if (strlen(path) >= sizeof address.sun_path)
        return client_fail(client, ENAMETOOLONG, "%s: the path is too long for a socket", path);
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return client_fail(client, errno, "No socket: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        err = errno;
        close(fd);
        return client_fail(client, err,
                           "%s: %s; is virtpostcopyd running, and may this process use its socket?",
                           path, strerror(err));
    }
    return fd;
}

void client_use_socket(PostcopyClient *client, int fd)
{
    struct timeval limit = { .tv_sec = SEND_SECONDS };

    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    pthread_mutex_lock(&client->lock);
    client->fd = fd;
    pthread_mutex_unlock(&client->lock);
}

void client_set_may_tell(PostcopyClient *client, bool may)
{
    pthread_mutex_lock(&client->lock);
    client->may_tell = may;
    pthread_mutex_unlock(&client->lock);
}

void client_close(PostcopyClient *client)
{
    pthread_mutex_lock(&client->lock);
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
    client->may_tell = false;
    pthread_mutex_unlock(&client->lock);
}

/* ---- out ---- */

static int send_bytes(int socket, const uint8_t *bytes, size_t len, const int *fds, unsigned n_fds)
{
    union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(sizeof(int) * HANDOVER_FDS_MAX)];
    } control;
    struct iovec iov = { (uint8_t *)bytes, len };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    ssize_t sent;

    if (n_fds > 0) {
        memset(&control, 0, sizeof control);
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        control.head.cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(&control.head), fds, sizeof(int) * n_fds);
    }
    do
        sent = sendmsg(socket, &msg, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

/* tells: only as long as that may be. */
static int send_message(PostcopyClient *client, HandoverMessage *message, const int *fds,
                        bool tells)
{
    uint8_t *bytes = malloc(HANDOVER_MESSAGE_MAX);
    size_t len = bytes ? handover_encode(message, bytes) : 0;
    int ret;

    if (len == 0) {
        free(bytes);
        return bytes ? -EINVAL : -ENOMEM;
    }
    pthread_mutex_lock(&client->lock);
    if (client->fd < 0 || (tells && !client->may_tell))
        ret = -ENOTCONN;
    else
        ret = send_bytes(client->fd, bytes, len, fds, message->n_fds);
    pthread_mutex_unlock(&client->lock);
    free(bytes);
    return ret;
}

int client_send(PostcopyClient *client, HandoverMessage *message, const int *fds)
{
    return send_message(client, message, fds, false);
}

int client_tell(PostcopyClient *client, HandoverMessage *message, const int *fds)
{
    return send_message(client, message, fds, true);
}

/* ---- in ---- */

int client_wait(PostcopyClient *client, int wait_ms)
{
    struct pollfd p = { .fd = client->fd, .events = POLLIN };
    int ret;

    do
        ret = poll(&p, 1, wait_ms);
    while (ret < 0 && errno == EINTR);
    return ret < 0 ? client_fail(client, errno, "poll: %s", strerror(errno)) : ret;
}

int client_receive(PostcopyClient *client, int wait_ms, size_t *ret_len)
{
    struct iovec iov = { client->bytes, HANDOVER_MESSAGE_MAX };
    /* No room for descriptors: nobody sends us any. */
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    char problem[HANDOVER_ERROR_MAX];
    ssize_t len;
    int ret = client_wait(client, wait_ms);

    if (ret <= 0)
        return ret;
    len = recvmsg(client->fd, &msg, MSG_DONTWAIT);
    /* The other end has closed, and left something unread; what it said before is still there. */
    if (len < 0 && errno == ECONNRESET)
        len = recvmsg(client->fd, &msg, MSG_DONTWAIT);
    if (len < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (len <= 0)
        return client_fail(client, ECONNRESET,
                           "The connection to virtpostcopyd's helper was closed");
    if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        return client_fail(client, EPROTO, "A message is too long, or has descriptors");
    if (!handover_decode(client->bytes, (size_t)len, 0, client->message, problem))
        return client_fail(client, EPROTO, "%s", problem);
    *ret_len = (size_t)len;
    return 1;
}
