/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Connected sockets, and threads that stand in for QEMU on them. Whatever fails here is a fault of
 * the test: it aborts with a message. */
#pragma once

#include <glib.h>

/* Loopback TCP, connected to each other. */
void sockets_tcp_pair(int ret_fds[2]);
void sockets_unix_pair(int ret_fds[2]);

/* A listening unix socket at path, and a connection to it. */
int sockets_unix_listen(const char *path);
int sockets_unix_connect(const char *path);

/* Sends len bytes made from send_seed on fd, then shuts down its writing side, in a thread; reads
 * until the end in another, and compares with what receive_seed makes. */
typedef struct {
    int fd;
    guint32 send_seed;
    guint32 receive_seed;
    guint64 len;
    GThread *writer;
    GThread *reader;
    guint64 received;
    gboolean write_broke;
    gboolean read_broke; /* the end was no orderly one */
    gboolean wrong;      /* other bytes came than were sent */
} StreamEnd;

/* Takes fd. */
StreamEnd *stream_end_start(int fd, guint32 send_seed, guint64 len, guint32 receive_seed);
/* Waits for both threads: afterwards the results can be read. */
void stream_end_wait(StreamEnd *end);
void stream_end_free(StreamEnd *end);
/* Everything sent, expected bytes received, nothing broke. */
gboolean stream_end_is_good(const StreamEnd *end, guint64 expected);

/* Turns the default main context until *done, or aborts with `what` after 20 seconds. */
void wait_until(gboolean (*done)(gpointer), gpointer data, const char *what);

/* Waits until fd reports its end (orderly or not); FALSE if it has not after that time. */
gboolean socket_ends_within(int fd, guint ms);
