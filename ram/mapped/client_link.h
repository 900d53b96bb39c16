/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The socket to a memory client (docs/handover.md), behind what the mapped machines see of it:
 * the MemoryClient that they ask, and MemoryEvents.
 *
 * First the client hands its memory over; when client_link_layout() is there, the machine can be
 * made. A client that says what it must not, or says it when it must not, is closed, and the
 * reason is in MEMORY_EV_GONE: of every answer that comes there was a request, and never two.
 * Non-blocking; one thread. Memory: the messages that wait to be sent, at most MEMORY_DEVICE_MAX
 * and a few; a client that reads none of them is closed. */
#pragma once

#include "ram/mapped/memory_client.h"

typedef struct ClientLink ClientLink;

/* Called with each event, in order; fd as MemoryEvent says. It must not free the link. */
typedef void (*ClientLinkFunc)(MemoryEvent *event, gpointer data);

/* Takes fd, a connected SOCK_SEQPACKET socket on which HELLO and WELCOME are through. source:
 * the client is the source's. Fails when fd is none. */
ClientLink *client_link_new(int fd, gboolean source, GError **error);
/* Closes it. What is not sent yet is lost: see client_link_is_drained(). */
void client_link_free(ClientLink *link);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ClientLink, client_link_free)

/* For poll(); -1 when it is closed. */
int client_link_fd(const ClientLink *link);
short client_link_poll_events(const ClientLink *link);
/* After poll(), whatever it said. Reads what is there, up to a number of messages, so that
 * others get their turn. Nothing comes after MEMORY_EV_GONE. */
void client_link_run(ClientLink *link, ClientLinkFunc func, gpointer data);

/* What the client said before now has been read: nothing waits in the socket. */
gboolean client_link_is_read(const ClientLink *link);

/* NULL until all is handed over. The link's, but its descriptors can be taken. Before it is
 * there, the only event is MEMORY_EV_GONE. */
MemoryLayout *client_link_layout(const ClientLink *link);
/* For the machine to ask. After the end it does nothing. */
MemoryClient *client_link_client(ClientLink *link);

/* Everything that was asked is in the socket, or there is nobody any more: after end() the link
 * can be freed. */
gboolean client_link_is_drained(const ClientLink *link);
