/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libpostcopy-client: a VMM, or any process, has its memory moved to another host by
 * libvirt-postcopy.
 *
 * A process on each host makes a PostcopyClient, tells it where its memory is, and connects it
 * to the virtpostcopyd of its host, the destination first: it is told a URI, which is to be
 * brought to the source by whoever manages the two, over a way that is trusted (there is a
 * secret in it). From there on helpers of the daemons' move the memory, encrypted, while the
 * guest runs; the library asks the process for what only it can do, by callbacks from
 * postcopy_client_dispatch(). docs/handover.md has a whole one on a page.
 *
 * Threads: one at a time may use a PostcopyClient; the functions that say "any thread" may be
 * called beside it. The library makes no threads, installs no signal handlers and prints
 * nothing. All descriptors are closed on exec.
 *
 * Errors: functions return 0 or a negative errno value; postcopy_client_error() has a sentence
 * on the last one. */
#ifndef POSTCOPY_CLIENT_H
#define POSTCOPY_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct PostcopyClient PostcopyClient;

typedef enum { POSTCOPY_SOURCE = 1, POSTCOPY_DESTINATION = 2 } PostcopySide;

/* ---- memory ---- */

/* Most of each. */
#define POSTCOPY_REGIONS_MAX 4096
#define POSTCOPY_NAME_MAX 255
#define POSTCOPY_STATE_MAX (16 * 1024 * 1024)

/* Flags of a region. */
enum {
    POSTCOPY_REGION_SHARED = 1 << 0,     /* other processes have it mapped as well */
    POSTCOPY_REGION_MIGRATABLE = 1 << 1, /* may leave this host; else nothing is moved */
    POSTCOPY_REGION_PMEM = 1 << 2,       /* persistent memory; cannot be moved by post-copy */
    POSTCOPY_REGION_IGNORED = 1 << 4,    /* is not moved: both hosts have it */
    POSTCOPY_REGION_NO_THP = 1 << 16,    /* keep transparent huge pages off it when all is over */
};

/* At a destination the library changes how regions are mapped, from the return of prepare until
 * the outcome is another than POSTCOPY_RUNNING or _PAUSED, or the client is freed, and then puts
 * back what it found; the process changes none of it meanwhile.
 *
 * Transparent huge pages are kept away (MADV_NOHUGEPAGE) where madvise() has asked for them, or
 * the host gives them unasked. Linux has no way back to not having asked: in the latter case it is
 * MADV_HUGEPAGE afterwards.
 *
 * Memory that is locked (mlock(), mlock2(), mlockall()) is unlocked when the migration turns to
 * post-copy, because pages of it are going to be missing, and locked again in the same way; the
 * calling of postcopy_client_dispatch() at the end takes as long as mlock() does.
 * mlockall(MCL_FUTURE) stays as it is. Should it not be possible to lock it again
 * (RLIMIT_MEMLOCK), the guest runs on all the same, the outcome does not change, and with
 * POSTCOPY_COMPLETED postcopy_client_error() says so: the process can make room and lock it
 * itself. At a source memory may be locked, with Linux 5.18 or later. */

/* One piece of the guest's memory. Both sides have the same ones, by name, length and page size.
 * It must stay mapped at address until the migration has ended. */
typedef struct {
    const char *name;    /* one line of UTF-8, different from all others */
    void *address;       /* where it is mapped, readable and writable */
    uint64_t length;     /* bytes, a multiple of page_size */
    uint64_t page_size;  /* 4096; or that of the huge pages it is made of */
    uint32_t flags;
    int fd;              /* the memfd that is mapped there (MAP_SHARED), sealed with F_SEAL_SHRINK
                          * at least; or -1: private anonymous memory. Is duplicated */
    uint64_t fd_offset;  /* where in fd it begins */
} PostcopyRegion;

/* ---- what the process is asked ---- */

/* Returned by pause, run or stop: the answer comes later, by postcopy_client_answer(). Meanwhile
 * nothing else is asked; but should the helper die, resume may be called before the answer to
 * pause is given, which is then not wanted any more (-ENOTCONN). */
#define POSTCOPY_LATER 1

/* Called from postcopy_client_dispatch() and postcopy_client_answer(), in their thread, with the
 * data of postcopy_client_new(). Those that return an int return 0, or a negative errno value,
 * which ends the migration: the guest then runs on at the source, as long as the destination was
 * not told to run it. NULL: not needed, unless it says otherwise. */
typedef struct {
    size_t size; /* sizeof(PostcopyCallbacks) */

    /* Both, first: last chance to say no. */
    int (*prepare)(void *data);
    /* Both: QEMU's word for what it does now ("active", "postcopy-active", "listening"…), for
     * people. */
    void (*state)(void *data, const char *name);

    /* Source, required: stop the guest, and give all there is to know of it but its memory:
     * valid until the next call of the library. At most POSTCOPY_STATE_MAX bytes. */
    int (*pause)(void *data, const void **ret_state, size_t *ret_len);
    /* Source, required: the migration has failed or was cancelled after pause, the guest is to
     * go on here; or a checkpoint is complete. Destination, required with POSTCOPY_CHECKPOINTS:
     * see stop. */
    void (*resume)(void *data, const char *reason);
    /* Source: let the guest's processors run that much less of the time, 0 to 99 percent. */
    void (*throttle)(void *data, unsigned percent);

    /* Source, all three or none: the process has a log of its own of what its guest writes
     * (KVM's; needed when others write, too: vhost-user back ends, devices). Without them the
     * library finds out by userfaultfd, for which the kernel must be 6.7 or later, and only what
     * this process writes.
     * log_start: begin to log, empty. log_sync: or what was written since into bitmap, a bit for
     * each 4096 bytes of the region, least significant first, and forget it; words must be
     * written atomically (__atomic_fetch_or): the helper takes bits out at the same time. */
    int (*log_start)(void *data);
    int (*log_sync)(void *data, unsigned region, uint64_t *bitmap, uint64_t n_pages);
    void (*log_stop)(void *data);

    /* Destination, required: load what pause gave, and let the guest run. In post-copy most of
     * the memory is not there yet: whoever touches it waits for it. The source has given its guest
     * up by now. An error ends it as POSTCOPY_FAILED here: no guest runs here, none must later, and
     * the source, which is left POSTCOPY_PAUSED, still has all of its own: see
     * postcopy_client_take_back(). state: valid until this has been answered. */
    int (*run)(void *data, const void *state, size_t len);

    /* Destination, required with POSTCOPY_CHECKPOINTS: stop the guest, which writes no memory
     * until run, with the devices of the checkpoint that its memory is then of, or resume, which
     * lets it go on as it was. */
    int (*stop)(void *data);
} PostcopyCallbacks;

/* ---- a client ---- */

/* name: of the guest, for people and for recovery, the same on both hosts. callbacks are copied.
 * NULL: out of memory, or one of the arguments cannot be. */
PostcopyClient *postcopy_client_new(PostcopySide side, const char *name,
                                    const PostcopyCallbacks *callbacks, void *data);
/* Ends a migration that is on its way, as when the process dies. A destination that is paused,
 * or whose guest runs without all of its memory, must have killed its guest before: to threads
 * that wait for memory, zeros would come. */
void postcopy_client_free(PostcopyClient *client);

/* Before connecting. Regions are numbered from 0 as they are added. Memory without a descriptor must be mapped already,
 * private and anonymous: of a file's, the part that was not touched would be taken for zeros. */
int postcopy_client_add_region(PostcopyClient *client, const PostcopyRegion *region);

typedef enum {
    /* Source, before and while it runs. */
    POSTCOPY_MAX_BANDWIDTH = 1,      /* bytes a second; 0, as it is: no limit */
    POSTCOPY_MAX_POSTCOPY_BANDWIDTH, /* the same, once the guest runs on the destination */
    POSTCOPY_DOWNTIME_LIMIT,         /* milliseconds the guest may stand still; 300 */
    /* 0 or 1: post-copy may be switched to; 1. Destination, before: whether it will be can only
     * be known at the source; with 1 the migration is refused at once, before anything moves, where
     * userfaultfd cannot do it for this memory. */
    POSTCOPY_ALLOWED,
    POSTCOPY_PAUSE_BEFORE_SWITCHOVER, /* 0 or 1: wait for postcopy_client_continue() */
    POSTCOPY_AUTO_CONVERGE,          /* 0 or 1: throttle a guest that writes too fast */
    POSTCOPY_THROTTLE_INITIAL,       /* percent: 20 */
    POSTCOPY_THROTTLE_INCREMENT,     /* percent: 10 */
    POSTCOPY_THROTTLE_MAX,           /* percent: 99 */
    POSTCOPY_RELEASE_RAM,            /* 0 or 1: free pages once they have arrived. Before it begins, or is recovered */
    POSTCOPY_XBZRLE_CACHE,           /* bytes, a power of two: send differences; 0: do not */
    /* Source, before. */
    POSTCOPY_BULK_CHANNELS,          /* 0 to 16 connections beside the main one */
    POSTCOPY_COMPRESS,               /* 0: as the host is configured, 1: on, 2: off */
    /* Both, before. */
    POSTCOPY_USER_FAULTS_ONLY,       /* 0 or 1: only code of this process touches the memory,
                                      * not the kernel for it (KVM, vhost, system calls):
                                      * userfaultfd without privileges will do */
    POSTCOPY_CHECKPOINTS,            /* 0 or 1, the same on both sides: the guest is not moved,
                                      * the destination follows it by checkpoints, see
                                      * postcopy_client_checkpoint() */
    /* Source, before. */
    POSTCOPY_CHECKPOINT_INTERVAL,    /* milliseconds from one to the next; 0: when asked */
} PostcopyOption;

int postcopy_client_set(PostcopyClient *client, PostcopyOption option, uint64_t value);

/* Connects to the daemon (socket: path; NULL: where it is usually) and hands the memory over.
 * Returns when the daemon has agreed: at most a minute. uri: source, what the destination was
 * told; destination: NULL. After POSTCOPY_PAUSED it begins the recovery: again the destination
 * first, and a new URI. */
int postcopy_client_connect(PostcopyClient *client, const char *socket, const char *uri);
/* The same on a SOCK_SEQPACKET socket that somebody else has connected; takes fd, also on error. */
int postcopy_client_connect_fd(PostcopyClient *client, int fd, const char *uri);

/* Destination, once connected: what the source has to be told. NULL: nothing yet. */
const char *postcopy_client_uri(const PostcopyClient *client);
/* 32 hex digits, by which virt-postcopy knows this migration. NULL: none yet. */
const char *postcopy_client_session(const PostcopyClient *client);

/* ---- while it runs ---- */

/* To be polled for POLLIN; then call postcopy_client_dispatch(). -1: not connected. Changes with
 * each connecting. */
int postcopy_client_fd(const PostcopyClient *client);
/* Does what was asked of the process, and returns when there is no more. 1: it goes on; 0: it
 * has ended, see postcopy_client_outcome(); negative: it has ended because something here went
 * wrong. */
int postcopy_client_dispatch(PostcopyClient *client);
/* For those without an event loop: until it has ended. 0 or negative as dispatch. */
int postcopy_client_run(PostcopyClient *client);

/* The answer to a callback that returned POSTCOPY_LATER. state, len: pause's. */
int postcopy_client_answer(PostcopyClient *client, int result, const void *state, size_t len);

/* These seven may be called in any thread while the client is connected. -ENOTCONN: it is not
 * (any more). */

/* Source: do not wait any longer, let the guest run on the destination with what it has. */
int postcopy_client_start_postcopy(PostcopyClient *client);
/* Source: go on from the pause before the switch-over. */
int postcopy_client_continue(PostcopyClient *client);
/* Either: end it. Once the guest runs on the destination, refused by the other end. */
int postcopy_client_cancel(PostcopyClient *client);
/* Either: end it, for a reason of the process's own (one line); the other end is told. */
int postcopy_client_fail(PostcopyClient *client, const char *reason);
/* Source: the guest does not use this part of a region, until it writes there; it must not write
 * there before this has returned. A multiple of the page size. */
int postcopy_client_free_hint(PostcopyClient *client, unsigned region, uint64_t start,
                              uint64_t length);

/* With POSTCOPY_CHECKPOINTS. The first checkpoint is what a migration would switch over at; after
 * it the guest goes on here (resume), and runs at the destination as well (run), where nobody may
 * see it: it is a spare. Each further checkpoint stops both, and makes the destination's what the
 * source's is. */

/* Source: a checkpoint now, or right after the one that is being made. The state "colo" says when
 * it is complete. */
int postcopy_client_checkpoint(PostcopyClient *client);
/* The destination's guest goes on alone from the last complete checkpoint, and the source's must
 * not run any more: the source's process has stopped it before it calls this; who calls it at the
 * destination has made sure that the source's host does not run it (fencing). Not before the first
 * checkpoint. */
int postcopy_client_failover(PostcopyClient *client);

/* Destination: another process (a vhost-user back end) has pieces of the memory mapped, and has
 * registered them with a userfaultfd of its own, uffd (stays the caller's). What it waits for is
 * fetched, and it is woken. */
typedef struct {
    unsigned region;
    uint64_t offset;  /* in the region */
    uint64_t length;
    uint64_t address; /* in the other process */
} PostcopyMapping;

/* id: the caller's choice. At most 256 mappings. */
int postcopy_client_share(PostcopyClient *client, uint32_t id, int uffd,
                          const PostcopyMapping *mappings, unsigned n_mappings);
int postcopy_client_unshare(PostcopyClient *client, uint32_t id);

/* Destination, before it connects or while it is connected (from run, too): the threads that run the guest,
 * as gettid() has them; at most 4096, 0: forget them. "All of them wait" then means these, and not whoever
 * has waited so far (blocked-all in the statistics). */
int postcopy_client_set_vcpus(PostcopyClient *client, const uint32_t *threads,
                              unsigned n_threads);

/* ---- afterwards ---- */

typedef enum {
    POSTCOPY_RUNNING,   /* not ended, or not begun */
    POSTCOPY_COMPLETED, /* source: the guest is gone; destination: all of it is here */
    POSTCOPY_FAILED,    /* the guest is at the source, and the destination has none. Destination:
                         * should the source be POSTCOPY_PAUSED, it can take its guest back */
    POSTCOPY_CANCELLED, /* the same, on purpose */
    POSTCOPY_PAUSED,    /* the guest has moved, not all of its memory: connect both again. Source:
                         * it may have moved; see postcopy_client_take_back() */
    POSTCOPY_FAILED_OVER, /* destination, checkpoints: the source is lost, or has said so; the guest
                           * runs here, from the last one. Is the source's not running any more? */
} PostcopyOutcome;

/* Source, after POSTCOPY_PAUSED, when the destination's outcome is POSTCOPY_FAILED or _CANCELLED: no
 * guest has run there. The guest goes on here (resume), and the outcome is POSTCOPY_FAILED. Whoever calls
 * this has seen that outcome at the destination: nothing here knows it. A destination that is gone
 * without one may have run the guest. -EINVAL: it is not paused. */
int postcopy_client_take_back(PostcopyClient *client);

PostcopyOutcome postcopy_client_outcome(const PostcopyClient *client);
/* Why it has failed, or what was wrong with the last call; one line, "" if nothing was. Once it
 * has ended with POSTCOPY_COMPLETED: "", or what of the memory is not mapped as it was before.
 * Valid until the next call. */
const char *postcopy_client_error(const PostcopyClient *client);

#ifdef __cplusplus
}
#endif

#endif
