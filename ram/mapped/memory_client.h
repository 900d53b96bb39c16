/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A memory client: a process (a VMM) that has handed over its guest's memory, as the mapped
 * machines see it. They ask it for things by MemoryClientOps, which never block and never call
 * back; what the client says comes later, as a MemoryEvent. The real one is
 * ram/mapped/client_link.h, behind a socket (docs/handover.md); tests have others.
 *
 * Requests are carried out in their order, and the answers come in that order too. A request
 * that an answer is named for is answered by it once, or by MEMORY_EV_FAILED, after which only
 * end() is of use. One thread. */
#pragma once

#include <glib.h>

#include "ram/blocks.h"

/* ---- what was handed over ---- */

#define MEMORY_REGIONS_MAX RAM_BLOCKS_MAX
/* All of the device state, as a post-copy package of QEMU's: it is held in memory. */
#define MEMORY_DEVICE_MAX (16 * 1024 * 1024)
/* Ranges in one request or event. */
#define MEMORY_RANGES_MAX 1024

/* Flags of a region; as in BLOCKS on the wire. */
enum {
    MEMORY_SHARED = 1 << 0,     /* other processes have it mapped as well */
    MEMORY_MIGRATABLE = 1 << 1, /* without it, it may not leave this host */
    MEMORY_PMEM = 1 << 2,
    MEMORY_ZEROABLE = 1 << 3,   /* the kernel can place zero pages in it */
    MEMORY_IGNORED = 1 << 4,    /* listed, but its pages are not moved */
    MEMORY_FLAGS_ALL = (1 << 5) - 1,
};

/* One RAM block. Checked when it is handed over: name and length as RamBlock has them, length
 * and address are multiples of page_size, fd is long enough and sealed against shrinking,
 * nothing overlaps. */
typedef struct {
    char *name;
    guint64 length;    /* bytes */
    guint64 page_size; /* host page: 4 KiB, or that of its huge pages */
    guint32 flags;
    guint64 address;   /* in the client: what its userfaultfd and pagemap speak of */
    int fd;            /* memfd, or -1: private memory, reached by MemoryLayout.mem_fd */
    guint64 fd_offset; /* where it begins in fd */
    gboolean borrows_fd; /* fd is a region's before it, which lies in the same memfd */
} MemoryRegion;

/* What the client wants of a source; it may change them at any time (MEMORY_EV_PARAMS). */
typedef struct {
    guint64 max_bandwidth;          /* bytes a second, 0: no limit */
    guint64 max_postcopy_bandwidth; /* the same, after the switch-over */
    guint32 downtime_limit_ms;
    gboolean postcopy;              /* may be switched to */
    gboolean pause_before_switchover; /* wait for MEMORY_EV_CONTINUE */
    gboolean auto_converge;
    guint8 throttle_initial;        /* percent */
    guint8 throttle_increment;
    guint8 throttle_max;
    gboolean release_ram;
    guint64 xbzrle_cache;           /* bytes, a power of two; 0: no XBZRLE */
    /* Either side, from the beginning on: the guest does not move; the destination follows it by
     * checkpoints. A destination hands over a dirty log for it. */
    gboolean checkpoints;
    guint32 checkpoint_interval_ms; /* source: from one to the next; 0: when it is asked for */
} MemoryParams;

typedef enum {
    MEMORY_LOG_NONE,    /* destination without checkpoints, or a source that was stopped before */
    MEMORY_LOG_PAGEMAP, /* write protection in async mode, read by PAGEMAP_SCAN on pagemap_fd */
    MEMORY_LOG_CLIENT,  /* the client's own, or-ed into dirty_fd at log_sync() */
} MemoryLog;

typedef struct {
    MemoryRegion *regions; /* in the order of the client's; the index is the block */
    guint n_regions;
    gsize target_page;  /* bytes */
    gboolean recovers;  /* a paused migration goes on: the bitmap in received_fd counts */
    MemoryLog log;
    MemoryParams params;
    /* -1: there is none. They belong to the layout; take one with autofd_steal(). */
    int mem_fd;      /* the client's /proc/self/mem, read and write */
    int pagemap_fd;  /* its /proc/self/pagemap */
    int dirty_fd;    /* memfd of memory_layout_bitmaps_bytes(), sealed against shrinking: both write,
                      * so words are taken by atomic exchange */
    int received_fd; /* destination: the same, for the received bitmaps; outlives the helper */
    int uffd;        /* destination that recovers: its userfaultfd, registered. Else it comes with
                      * MEMORY_EV_LISTENING */
} MemoryLayout;

/* regions: n of them, zeroed but for fd -1. */
MemoryLayout *memory_layout_new(guint n_regions);
void memory_layout_free(MemoryLayout *layout); /* closes what was not taken */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MemoryLayout, memory_layout_free)

/* Where the bitmap of a block begins in dirty_fd and received_fd, in bytes: blocks follow each
 * other, each on a multiple of 8. One bit for each target page, in native words of 64 bits,
 * least significant first (on the little-endian machines we run on: QEMU's wire form). */
gsize memory_layout_bitmap_offset(const MemoryLayout *layout, guint block);
gsize memory_layout_bitmaps_bytes(const MemoryLayout *layout);

/* ---- what the client is asked ---- */

typedef struct {
    guint64 start; /* bytes from the beginning of the block; multiples of its host page */
    guint64 length;
} MemoryRange;

typedef enum {
    MEMORY_END_COMPLETED, /* the guest runs on the other host, all its memory is there */
    MEMORY_END_FAILED,    /* source: the guest runs on here. Destination: there is no guest */
    MEMORY_END_CANCELLED, /* the same, on purpose */
    MEMORY_END_PAUSED,    /* interrupted: each side keeps what it has, and can recover */
    MEMORY_END_FAILED_OVER, /* destination, checkpoints: its guest goes on alone, from the last one */
} MemoryEndOutcome;

typedef struct MemoryClient MemoryClient;

typedef struct {
    /* Both: get ready. Source: log what is written from here on. Destination: no transparent
     * huge pages. A client that does not want refuses with FAILED. → ADVISED */
    void (*advise)(MemoryClient *client);

    /* ---- source ---- */
    /* Stop the guest and save its devices. → PAUSED, then DEVICE until its last piece; after
     * that the client writes no memory, so that the next sync is the final one. Each checkpoint
     * asks for it anew. Destination, checkpoints: stop the guest; → PAUSED, and no DEVICE. */
    void (*pause)(MemoryClient *client);
    /* Let vCPUs run that much less, 0 to 99 %; no answer. */
    void (*throttle)(MemoryClient *client, guint percent);
    /* The guest goes on here, reason tells why; no answer. Never once PHASE running is queued; it
     * takes no_return() back. After each checkpoint. Destination, checkpoints: it goes on as it was stopped. */
    void (*resume)(MemoryClient *client, const char *reason);
    /* The guest may run on the other host soon, and must not run here any more, whatever becomes
     * of this helper, unless it says resume(). PHASE running is queued when the client has
     * answered, not before. → GIVEN_UP */
    void (*no_return)(MemoryClient *client);
    /* Or what was written since the last time into dirty_fd, and begin anew; MEMORY_LOG_CLIENT
     * only. → SYNCED */
    void (*log_sync)(MemoryClient *client);

    /* ---- both ---- */
    /* Drop these pages: memory without a memfd cannot be dropped from here. ranges: at most
     * MEMORY_RANGES_MAX, the caller's. Source (release-ram): the same. → DISCARDED */
    void (*discard)(MemoryClient *client, guint block, const MemoryRange *ranges, guint n_ranges);

    /* ---- destination ---- */
    /* Open a userfaultfd, register every region that is not ignored for missing pages. →
     * LISTENING */
    void (*listen)(MemoryClient *client);
    /* The next piece of the device state, the caller's; last: there are no more, len may be 0.
     * At most MEMORY_DEVICE_MAX in all. No answer. */
    void (*device)(MemoryClient *client, const guint8 *bytes, gsize len, gboolean last);
    /* Load the devices and let the guest run; device() begins anew then. → RUNNING */
    void (*run)(MemoryClient *client);

    /* ---- both ---- */
    /* QEMU's word for the state, for people. */
    void (*state)(MemoryClient *client, const char *name);
    /* It is over: a destination unregisters its userfaultfd unless it is paused. The last
     * request; the events that still come are to be ignored. text: one line, or NULL. */
    void (*end)(MemoryClient *client, MemoryEndOutcome outcome, const char *text);
} MemoryClientOps;

struct MemoryClient {
    const MemoryClientOps *ops;
};

/* ---- what it says ---- */

typedef enum {
    /* answers */
    MEMORY_EV_ADVISED,
    MEMORY_EV_PAUSED,
    MEMORY_EV_DEVICE,    /* bytes, len, last */
    MEMORY_EV_SYNCED,
    MEMORY_EV_GIVEN_UP,
    MEMORY_EV_LISTENING, /* fd: the userfaultfd, O_NONBLOCK, with UFFD_FEATURE_THREAD_ID if known */
    MEMORY_EV_DISCARDED,
    MEMORY_EV_RUNNING,
    MEMORY_EV_FAILED,    /* text: it cannot do what it was asked, or does not want any more */
    /* of its own accord, at any time */
    MEMORY_EV_FREE_HINTS,     /* block, ranges: the guest does not use them */
    MEMORY_EV_START_POSTCOPY,
    MEMORY_EV_CONTINUE,       /* from pause-before-switchover */
    MEMORY_EV_CANCEL,
    MEMORY_EV_PARAMS,         /* params */
    MEMORY_EV_SHARED,         /* another process's userfaultfd: fd, id, mappings */
    MEMORY_EV_UNSHARED,       /* id */
    MEMORY_EV_CHECKPOINT,     /* source: now; as often as it likes */
    MEMORY_EV_FAILOVER,       /* either: the destination's guest goes on alone, the source's does not */
    MEMORY_EV_VCPUS,          /* destination: threads, the guest's; again: these instead */
    MEMORY_EV_GONE,           /* it closed, broke the protocol (text) or died; the last event */
    MEMORY_EVENT_MAX,
} MemoryEventType;

/* "paused", "free-hints"… */
const char *memory_event_name(MemoryEventType type);

/* Where another process has a piece of a block mapped: in its userfaultfd's addresses. */
typedef struct {
    guint block;
    guint64 offset;  /* in the block */
    guint64 length;
    guint64 address; /* in that process */
} MemoryMapping;

/* Borrowed until the call that brings it returns, except for fd: who keeps it takes it by
 * autofd_steal(); else it is closed. Blocks and ranges are within the layout. */
typedef struct {
    MemoryEventType type;
    const guint8 *bytes;
    gsize len;
    gboolean last;
    guint block;
    const MemoryRange *ranges;
    guint n_ranges;
    int fd;
    guint32 id;
    const MemoryMapping *mappings;
    guint n_mappings;
    const guint32 *threads; /* ids as the client's gettid() has them; n_threads of them may be 0 */
    guint n_threads;
    const MemoryParams *params;
    const char *text;
} MemoryEvent;
