/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/disk_channel.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ram/disk_pump.h"
#include "util/autofd.h"

/* How old the counters may be. */
#define COUNT_INTERVAL_US (G_USEC_PER_SEC / 10)

struct DiskChannel {
    DiskChannelConfig config;
    DiskChannelHandlers handlers;
    gpointer data;
    GThread *thread;
    int stop_fd; /* eventfd: readable, and stays so, when it is to stop */
    /* the thread's, until it has ended */
    Link *link;
    int fd;
    GError *error;
    gboolean stopped;
    gint64 counted_us;
    /* anybody's */
    pthread_mutex_t lock;
    guint64 wire_sent;
    guint64 wire_received;
};

/* ---- waiting ---- */

static gboolean is_told_to_stop(DiskChannel *disk, short revents, GError **error)
{
    if (!revents)
        return FALSE;
    disk->stopped = TRUE;
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_CANCELLED, "");
    return TRUE;
}

static int left_ms(gint64 deadline_us)
{
    gint64 left = deadline_us - g_get_monotonic_time();

    return left <= 0 ? 0 : (int)(left / 1000 + 1);
}

static void poll_all(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    if (poll(fds, n, timeout_ms) >= 0)
        return;
    if (errno != EINTR)
        g_error("poll: %s", g_strerror(errno));
    for (nfds_t i = 0; i < n; i++)
        fds[i].revents = 0;
}

/* For the peer, while the channel is opened. */
static gboolean wait_for_peer(DiskChannel *disk, gboolean to_write, gint64 deadline_us,
                              GError **error)
{
    TlsChannel *channel = disk->link->channel;
    struct pollfd fds[] = {
        { .fd = disk->stop_fd, .events = POLLIN },
        { .fd = tls_channel_fd(channel),
          .events = tls_channel_poll_events(channel, !to_write, to_write) },
    };

    poll_all(fds, G_N_ELEMENTS(fds), left_ms(deadline_us));
    if (is_told_to_stop(disk, fds[0].revents, error))
        return FALSE;
    if (g_get_monotonic_time() < deadline_us)
        return TRUE;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT, _("the peer %s did not answer in time"),
                disk->link->address);
    return FALSE;
}

/* TRUE: to be tried again. Takes cause. */
static gboolean wait_after(DiskChannel *disk, GError *cause, gboolean to_write, gint64 deadline_us,
                           GError **error)
{
    if (!g_error_matches(cause, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK)) {
        g_propagate_error(error, cause);
        return FALSE;
    }
    g_error_free(cause);
    return wait_for_peer(disk, to_write, deadline_us, error);
}

static gint64 in_ms(guint ms)
{
    return g_get_monotonic_time() + (gint64)ms * 1000;
}

/* ---- opening ---- */

static gboolean shake_hands(DiskChannel *disk, GError **error)
{
    gint64 deadline_us = in_ms(disk->config.handshake_ms);
    GError *cause = NULL;

    while (!tls_channel_handshake(disk->link->channel, &cause)) {
        if (!wait_after(disk, g_steal_pointer(&cause), FALSE, deadline_us, error))
            return FALSE;
    }
    return TRUE;
}

/* Takes the frame. */
static gboolean say(DiskChannel *disk, GBytes *owned, GError **error)
{
    g_autoptr(GBytes) frame = owned;
    gint64 deadline_us = in_ms(disk->config.answer_ms);
    gsize left;
    const guint8 *bytes = g_bytes_get_data(frame, &left);
    GError *cause = NULL;

    while (left > 0) {
        gssize n = tls_channel_write(disk->link->channel, bytes, left, &cause);

        if (n > 0) {
            bytes += n;
            left -= n;
        } else if (!wait_after(disk, g_steal_pointer(&cause), TRUE, deadline_us, error)) {
            return FALSE;
        }
    }
    while (!tls_channel_flush(disk->link->channel, &cause)) {
        if (!wait_after(disk, g_steal_pointer(&cause), TRUE, deadline_us, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean say_hello(DiskChannel *disk, GError **error)
{
    const DiskChannelConfig *config = &disk->config;
    g_auto(HelloBody) hello = {
        .version_min = HELLO_VERSION,
        .version_max = HELLO_VERSION,
        .features = config->features,
        .kind = CHANNEL_DISKS,
        .channel = config->number,
        .window = config->window,
        .auth_len = HELLO_PROOF_LEN,
    };

    memcpy(hello.session, config->session, sizeof hello.session);
    return channel_proof(config->key, disk->link->channel, CHANNEL_DISKS, config->number,
                         hello.auth, error) &&
           say(disk, frame_new_hello(&hello), error);
}

static gboolean say_hello_ack(DiskChannel *disk, GError **error)
{
    const HelloAckBody ack = {
        .version = HELLO_VERSION,
        .features = disk->config.features,
        .window = disk->config.window,
    };

    return say(disk, frame_new_hello_ack(&ack), error);
}

static gboolean judge_answer(DiskChannel *disk, const Frame *frame, GError **error)
{
    g_auto(ErrorBody) refused = { 0 };
    HelloAckBody ack;

    if (frame->header.type == FRAME_HELLO_ACK)
        return hello_ack_judge(frame->body, disk->config.features, FALSE, &ack, error);
    if (frame->header.type != FRAME_ERROR) {
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_PROTOCOL,
                    _("a frame of type %u is no answer to HELLO"), frame->header.type);
        return FALSE;
    }
    if (error_body_decode(frame->body, &refused, error))
        g_set_error(error, HELLO_ERROR, (gint)refused.code, _("the destination refused: %s"),
                    refused.text);
    return FALSE;
}

static gboolean hear_answer(DiskChannel *disk, GError **error)
{
    gint64 deadline_us = in_ms(disk->config.answer_ms);
    FrameReader *reader = &disk->link->reader;

    for (;;) {
        g_auto(Frame) frame = { 0 };
        GError *cause = NULL;
        gboolean complete = FALSE;
        guint8 *space;
        gsize room = frame_reader_space(reader, &space);
        gssize n = tls_channel_read(disk->link->channel, space, room, &cause);

        if (n == 0) {
            g_set_error_literal(error, TLS_ERROR, TLS_ERROR_IO,
                                _("it closed the channel before it answered"));
            return FALSE;
        }
        if (n < 0 && !wait_after(disk, cause, FALSE, deadline_us, error))
            return FALSE;
        if (n > 0 && !frame_reader_advance(reader, n, &frame, &complete, error))
            return FALSE;
        if (complete)
            return judge_answer(disk, &frame, error);
    }
}

static gboolean open_channel(DiskChannel *disk, GError **error)
{
    if (disk->config.side == SESSION_DESTINATION)
        return say_hello_ack(disk, error);
    return shake_hands(disk, error) && say_hello(disk, error) && hear_answer(disk, error);
}

/* ---- pumping ---- */

static void count(DiskChannel *disk)
{
    guint64 sent, received;

    disk->counted_us = g_get_monotonic_time();
    link_wire_bytes(disk->link, &sent, &received);
    sent += link_wire_unsent(disk->link);
    pthread_mutex_lock(&disk->lock);
    disk->wire_sent = sent;
    disk->wire_received = received;
    pthread_mutex_unlock(&disk->lock);
}

void disk_channel_wire_bytes(DiskChannel *disk, guint64 *ret_sent, guint64 *ret_received)
{
    pthread_mutex_lock(&disk->lock);
    *ret_sent = disk->wire_sent;
    *ret_received = disk->wire_received;
    pthread_mutex_unlock(&disk->lock);
}

static gboolean pump_until_end(DiskChannel *disk, GError **error)
{
    g_auto(DiskPump) pump;

    disk_pump_init(&pump, disk->link->channel, disk->fd);
    for (;;) {
        struct pollfd fds[3] = { { .fd = disk->stop_fd, .events = POLLIN } };
        gboolean more;

        if (!disk_pump_turn(&pump, &more, error))
            return FALSE;
        if (disk_pump_is_over(&pump))
            return TRUE;
        if (g_get_monotonic_time() - disk->counted_us >= COUNT_INTERVAL_US)
            count(disk);
        disk_pump_poll(&pump, &fds[1], &fds[2]);
        poll_all(fds, G_N_ELEMENTS(fds), more ? 0 : -1);
        if (is_told_to_stop(disk, fds[0].revents, error))
            return FALSE;
    }
}

/* ---- the thread ---- */

static gpointer disk_thread(gpointer data)
{
    DiskChannel *disk = data;

    if (open_channel(disk, &disk->error)) {
        disk->handlers.opened(disk, disk->link, disk->data);
        pump_until_end(disk, &disk->error);
    }
    count(disk);
    /* QEMU is to know at once. */
    autofd_clear(&disk->fd);
    g_clear_pointer(&disk->link, link_free);
    disk->handlers.ended(disk, disk->data);
    return NULL;
}

DiskChannel *disk_channel_new(const DiskChannelConfig *config, Link *link, int fd,
                              const DiskChannelHandlers *handlers, gpointer data, GError **error)
{
    g_autoptr(DiskChannel) disk = g_new0(DiskChannel, 1);

    disk->config = *config;
    disk->handlers = *handlers;
    disk->data = data;
    disk->link = link;
    disk->fd = fd;
    pthread_mutex_init(&disk->lock, NULL);
    disk->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (disk->stop_fd < 0) {
        g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(errno),
                    _("cannot make an eventfd: %s"), g_strerror(errno));
        return NULL;
    }
    disk->thread = g_thread_try_new("disk", disk_thread, disk, error);
    return disk->thread ? g_steal_pointer(&disk) : NULL;
}

void disk_channel_stop(DiskChannel *disk)
{
    if (eventfd_write(disk->stop_fd, 1) < 0)
        g_error("eventfd: %s", g_strerror(errno));
}

void disk_channel_free(DiskChannel *disk)
{
    if (!disk)
        return;
    if (disk->thread) {
        disk_channel_stop(disk);
        g_thread_join(disk->thread);
    }
    autofd_clear(&disk->stop_fd);
    autofd_clear(&disk->fd);
    link_free(disk->link);
    g_clear_error(&disk->error);
    explicit_bzero(&disk->config, sizeof disk->config);
    pthread_mutex_destroy(&disk->lock);
    g_free(disk);
}

guint16 disk_channel_number(const DiskChannel *disk)
{
    return disk->config.number;
}

const char *disk_channel_reason(const DiskChannel *disk)
{
    return disk->error && !disk->stopped ? disk->error->message : NULL;
}
