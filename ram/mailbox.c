/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mailbox.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib/gi18n.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct Mailbox {
    pthread_mutex_t lock;
    GQueue messages;
    GDestroyNotify free_message;
    int fd;
};

Mailbox *mailbox_new(GDestroyNotify free_message, GError **error)
{
    Mailbox *box;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0) {
        g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(errno),
                    _("cannot make an eventfd: %s"), g_strerror(errno));
        return NULL;
    }
    box = g_new0(Mailbox, 1);
    pthread_mutex_init(&box->lock, NULL);
    g_queue_init(&box->messages);
    box->free_message = free_message;
    box->fd = fd;
    return box;
}

void mailbox_free(Mailbox *box)
{
    if (!box)
        return;
    g_queue_clear_full(&box->messages, box->free_message);
    pthread_mutex_destroy(&box->lock);
    close(box->fd);
    g_free(box);
}

int mailbox_fd(const Mailbox *box)
{
    return box->fd;
}

/* The descriptor is written and read under the lock: it is readable exactly while the queue is
 * not empty, so no wake-up is lost and none is left over. */
void mailbox_post(Mailbox *box, gpointer message)
{
    pthread_mutex_lock(&box->lock);
    g_queue_push_tail(&box->messages, message);
    if (box->messages.length == 1 && eventfd_write(box->fd, 1) < 0)
        g_error("eventfd: %s", g_strerror(errno));
    pthread_mutex_unlock(&box->lock);
}

gpointer mailbox_receive(Mailbox *box)
{
    gpointer message;
    eventfd_t count;

    pthread_mutex_lock(&box->lock);
    message = g_queue_pop_head(&box->messages);
    if (message && box->messages.length == 0 && eventfd_read(box->fd, &count) < 0)
        g_error("eventfd: %s", g_strerror(errno));
    pthread_mutex_unlock(&box->lock);
    return message;
}
