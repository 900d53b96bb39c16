/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A client from inside: what the process told (client.c), the socket (client_socket.c),
 * connecting and the hand-over (client_connect.c), what is asked (client_dispatch.c), what the
 * process says by itself (client_tell.c), and its own memory: userfaultfd and bitmaps
 * (client_memory.c), huge pages and locks (client_mappings.c). */
#pragma once

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "client/handover.h"
#include "client/postcopy-client.h"

#define EXPORT __attribute__((visibility("default")))

/* A request that came while the process owes an answer. */
typedef struct Deferred {
    struct Deferred *next;
    size_t len;
    uint8_t bytes[];
} Deferred;

typedef struct {
    char *name;
    uint8_t *address;
    uint64_t length;
    uint64_t page_size;
    uint32_t flags;
    int fd;
    uint64_t fd_offset;
    bool borrows_fd;    /* fd is a region's before it, which lies in the same memfd */
    bool is_registered; /* with the userfaultfd; lock */
} Region;

/* Memory of a region that was mapped alike, before we changed it. */
typedef struct {
    unsigned region;
    uint8_t *address;
    uint64_t length;
    bool has_thp, has_no_thp; /* by madvise(); neither: as the host is configured */
    bool is_locked, is_locked_on_fault;
    bool thp_is_off, is_unlocked; /* by us */
} Mapping;

struct PostcopyClient {
    PostcopySide side;
    char *name;
    PostcopyCallbacks callbacks;
    void *data;

    Region *regions;
    unsigned n_regions;
    HandoverParams params;
    uint16_t bulk;
    uint8_t compress;
    bool user_faults_only;

    /* The connection. Other threads send, and hint: they hold the lock, so that it is not closed
     * meanwhile, nor the userfaultfd. */
    pthread_mutex_t lock;
    int fd;
    bool may_tell;      /* the memory is handed over, and the end has not come */
    bool is_paused;     /* source: pause was called, and resume was not */
    bool may_not_run;   /* source: the guest may run on the other host */
    bool runs;          /* destination: run was called */
    char *uri;
    char *session;
    PostcopyOutcome outcome;
    int failure;       /* here: negative, and the end is awaited */
    char error[HANDOVER_TEXT_MAX + 1];

    HandoverMessage *message; /* the one just read, of bytes */
    uint8_t *bytes;

    /* What the process owes: the request's type, or 0; and what came since. */
    uint16_t owes;
    bool owes_run_still; /* since a connection that has ended */
    Deferred *deferred, **deferred_tail;

    uint8_t *state; /* destination: the device state so far */
    size_t state_len;
    bool state_is_loaded; /* by run: what comes next is another */

    uint32_t *vcpus; /* destination: the guest's threads */
    unsigned n_vcpus;

    /* Its memory. */
    int uffd;           /* lock; source: write protection; destination: missing pages; -1 */
    int bitmaps_fd;     /* dirty (own log) or received; -1 */
    uint64_t *bitmaps;  /* the first, mapped; or NULL */
    size_t bitmaps_len;
    bool log_is_on;
    Mapping *mappings; /* destination: as they were when it began; NULL: they are so now */
    unsigned n_mappings;
    bool expects_missing;
};

/* ---- client.c ---- */

/* Remembers the sentence and returns -err. */
int client_fail(PostcopyClient *client, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool client_has_own_log(const PostcopyClient *client);
/* For HANDOVER: one line of it, as much as fits. */
HandoverText client_line(const char *text);

/* ---- client_socket.c ---- */

/* Waits at most half a minute until it is sent. Any thread; says nothing in client->error. */
int client_send(PostcopyClient *client, HandoverMessage *message, const int *fds);
/* The same while the memory is handed over and the end has not come; else -ENOTCONN. */
int client_tell(PostcopyClient *client, HandoverMessage *message, const int *fds);
/* As poll(); -1: for ever. Something came: 1. */
int client_wait(PostcopyClient *client, int wait_ms);
/* 1: client->message, whose texts and bytes are valid until the next; its bytes' length; 0:
 * there is none, after so many milliseconds. Negative: there is nobody any more, or what came
 * was no message. */
int client_receive(PostcopyClient *client, int wait_ms, size_t *ret_len);
int client_open_socket(PostcopyClient *client, const char *path);
/* fd is what messages go over from here on, and is taken. */
void client_use_socket(PostcopyClient *client, int fd);
void client_set_may_tell(PostcopyClient *client, bool may);
void client_close(PostcopyClient *client);

/* ---- client_dispatch.c ---- */

void client_drop_deferred(PostcopyClient *client);

/* ---- client_tell.c ---- */

int client_tell_vcpus(PostcopyClient *client);

/* ---- client_memory.c ---- */

/* Memory that is handed over without a descriptor is private and anonymous? */
int client_check_private(PostcopyClient *client, const PostcopyRegion *region);
/* Source: write protection of everything; destination: missing pages of everything. */
int client_register_write_protection(PostcopyClient *client);
int client_register_missing(PostcopyClient *client);
/* Whether that can be done later on; nothing is registered. */
int client_check_missing(PostcopyClient *client);
/* What is written there from here on is noted by the log. Source, registered or not. */
void client_protect(PostcopyClient *client, unsigned region, uint64_t start, uint64_t length);
/* Everybody who waits for a page asks anew: who was to bring it may be gone. */
void client_wake_all(PostcopyClient *client);
void client_unregister(PostcopyClient *client);
/* Makes the memfd for dirty or received bitmaps, once. */
int client_make_bitmaps(PostcopyClient *client);
/* Where the bitmap of a region begins, in words, and how many pages it has. */
size_t client_bitmap_at(const PostcopyClient *client, unsigned region, uint64_t *ret_pages);
void client_free_bitmaps(PostcopyClient *client);
int client_discard(PostcopyClient *client, unsigned region, uint64_t start, uint64_t length);

/* ---- client_mappings.c ---- */

/* A destination's memory is going to be filled: huge pages are kept away from it until
 * client_restore_mappings(). */
int client_prepare_mappings(PostcopyClient *client);
/* Pages of it are going to be missing: it is unlocked, too. */
int client_expect_missing(PostcopyClient *client);
/* As it was; locked memory is all there then, wherever it comes from. Negative: what could not be
 * put back is in client->error, the rest has been. */
int client_restore_mappings(PostcopyClient *client);
