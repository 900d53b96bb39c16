/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages from one thread to another, in order, with a descriptor to poll.
 *
 * A message belongs to whoever holds it: the sender until posted, the mailbox, then the
 * receiver. Its own pthread mutex, not GLib's queues, so that ThreadSanitizer follows the
 * handing over. Any thread may post; one receives. */
#pragma once

#include <glib.h>

typedef struct Mailbox Mailbox;

/* NULL with errno's text in error if there is no eventfd. */
Mailbox *mailbox_new(GDestroyNotify free_message, GError **error);
/* Frees what was not received. No thread may use it any more. */
void mailbox_free(Mailbox *box);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Mailbox, mailbox_free)

void mailbox_post(Mailbox *box, gpointer message);

/* Readable while there are messages. Owned by the mailbox. */
int mailbox_fd(const Mailbox *box);

/* The oldest message, or NULL. */
gpointer mailbox_receive(Mailbox *box);
