/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A client link from inside: the socket (client_link.c), the hand-over (client_link_layout.c),
 * what is asked (client_link_ask.c), what comes (client_link_deliver.c). */
#pragma once

#include "client/handover.h"
#include "ram/mapped/client_link.h"
#include "util/autofd.h"

/* A memfd that one region has the descriptor of, and others may lie in. */
typedef struct {
    guint64 device, inode;
    int mode; /* O_ACCMODE */
    int fd;
} RegionFile;

struct ClientLink {
    MemoryClient client; /* first: its ops get it */
    int fd;              /* -1: closed */
    gboolean source;
    gboolean ended;      /* end() was asked */
    char *broken;        /* why the next run ends it */

    GArray *regions;      /* of MemoryRegion, while they come; NULL after that */
    GArray *files;        /* of RegionFile */
    MemoryLayout *layout; /* when they are all there */
    MemoryParams params;

    GQueue output;   /* of GBytes, a message each */
    gsize output_bytes;
    GQueue expected; /* of HandoverType: the answers, in order */
    gsize device_bytes; /* that came so far */

    guint8 *bytes;            /* the message just read, and decoded */
    HandoverMessage *message;
    /* The one to be written: the machine asks while it is told of another. */
    guint8 *request_bytes;
    HandoverMessage *request;
    gboolean was_reset; /* the client left messages unread; its own may still be there */
    MemoryRange ranges[MEMORY_RANGES_MAX];
    MemoryMapping mappings[HANDOVER_MAPPINGS_MAX];
};

/* Sends link->request, or keeps it until it can be; answer: 0, or what is expected then. */
void client_link_ask(ClientLink *link, HandoverType answer);
const MemoryClientOps *client_link_ops(void);

/* link->message was read, and fds came along: it takes those that it keeps. FALSE: it must not
 * be. */
gboolean client_link_hand_over(ClientLink *link, int *fds, GError **error);
gboolean client_link_deliver(ClientLink *link, int *fds, ClientLinkFunc func, gpointer data,
                             GError **error);

void client_link_take_params(const HandoverParams *from, MemoryParams *ret_params);
