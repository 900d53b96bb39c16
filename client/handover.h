/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The hand-over protocol: what a memory client says on the daemon's memory socket, and then to
 * the helper that the daemon passes the socket on to (docs/handover.md). Both ends use this one
 * codec.
 *
 * A message is one packet of a SOCK_SEQPACKET socket: u16 type, then the body; all numbers
 * big-endian; a text is u16 length and that many bytes without NUL. Descriptors come along by
 * SCM_RIGHTS, as many as the message says. Plain C: the client library has no use for GLib.
 * Pure; no I/O. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HANDOVER_VERSION 1
/* Below RUN_DIR, the daemon's. */
#define HANDOVER_SOCKET "virtpostcopyd-memory-sock"

/* Limits; more is refused by both ends. */
#define HANDOVER_MESSAGE_MAX 65536
#define HANDOVER_NAME_MAX 255
#define HANDOVER_TEXT_MAX 1024 /* of an error, and of a URI */
#define HANDOVER_REGIONS_MAX 64 /* in one message, and as many descriptors */
#define HANDOVER_RANGES_MAX 1024
#define HANDOVER_MAPPINGS_MAX 256
#define HANDOVER_VCPUS_MAX 4096
#define HANDOVER_DEVICE_PIECE_MAX 61440
#define HANDOVER_FDS_MAX HANDOVER_REGIONS_MAX
#define HANDOVER_ERROR_MAX 160

typedef enum {
    /* client → daemon, the first; the daemon reads no other */
    HANDOVER_HELLO = 1,
    /* daemon → client. WELCOME: what follows is read by the helper */
    HANDOVER_WELCOME = 2,
    HANDOVER_REFUSED = 3, /* the last */

    /* client → helper: the hand-over. REGIONS as often as it takes, then MEMORY once */
    HANDOVER_REGIONS = 16,
    HANDOVER_MEMORY = 17,

    /* helper → client: requests; the answer's name is the request's in its past; that
     * of NO_RETURN is GIVEN_UP */
    HANDOVER_ADVISE = 32,
    HANDOVER_PAUSE = 33,
    HANDOVER_THROTTLE = 34,
    HANDOVER_RESUME = 35,
    HANDOVER_LOG_SYNC = 36,
    HANDOVER_DISCARD = 37,
    HANDOVER_LISTEN = 38,
    HANDOVER_DEVICE = 39, /* either way */
    HANDOVER_RUN = 40,
    HANDOVER_STATE = 41,
    HANDOVER_END = 42, /* the last */
    HANDOVER_NO_RETURN = 43,

    /* client → helper: answers */
    HANDOVER_ADVISED = 48,
    HANDOVER_PAUSED = 49,
    HANDOVER_SYNCED = 50,
    HANDOVER_LISTENING = 51,
    HANDOVER_DISCARDED = 52,
    HANDOVER_RUNNING = 53,
    HANDOVER_FAILED = 54,
    HANDOVER_GIVEN_UP = 55,

    /* client → helper, at any time after MEMORY */
    HANDOVER_FREE_HINTS = 64,
    HANDOVER_START_POSTCOPY = 65,
    HANDOVER_CONTINUE = 66,
    HANDOVER_CANCEL = 67,
    HANDOVER_PARAMS = 68,
    HANDOVER_SHARED = 69,
    HANDOVER_UNSHARED = 70,
    HANDOVER_CHECKPOINT = 71,
    HANDOVER_FAILOVER = 72,
    HANDOVER_VCPUS = 73,
} HandoverType;

typedef enum { HANDOVER_SOURCE = 1, HANDOVER_DESTINATION = 2 } HandoverRole;

/* Not terminated by NUL; in the message's buffer. */
typedef struct {
    const char *bytes;
    uint16_t len;
} HandoverText;

/* The numbers are those of MemoryParams (ram/mapped/memory_client.h). */
typedef struct {
    uint64_t max_bandwidth;
    uint64_t max_postcopy_bandwidth;
    uint32_t downtime_limit_ms;
    uint8_t postcopy;
    uint8_t pause_before_switchover;
    uint8_t auto_converge;
    uint8_t throttle_initial;
    uint8_t throttle_increment;
    uint8_t throttle_max;
    uint8_t release_ram;
    uint64_t xbzrle_cache;
    uint8_t checkpoints;
    uint32_t checkpoint_interval_ms;
} HandoverParams;

typedef struct {
    HandoverText name;
    uint64_t length;
    uint64_t page_size;
    uint32_t flags;
    uint64_t address;
    uint8_t fd; /* 0: none; else the message's n-th, from 1: regions may share one */
    uint64_t fd_offset;
} HandoverRegion;

typedef struct {
    uint64_t start;
    uint64_t length;
} HandoverRange;

typedef struct {
    uint16_t block;
    uint64_t offset;
    uint64_t length;
    uint64_t address;
} HandoverMapping;

/* Which descriptors come with MEMORY, in this order. */
enum {
    HANDOVER_FD_MEM = 1 << 0,
    HANDOVER_FD_PAGEMAP = 1 << 1,
    HANDOVER_FD_DIRTY = 1 << 2,
    HANDOVER_FD_RECEIVED = 1 << 3,
    HANDOVER_FD_UFFD = 1 << 4,
    HANDOVER_FD_ALL = (1 << 5) - 1,
};

/* What stands in the union for which type; the others have no body. */
typedef struct {
    uint16_t type; /* HandoverType */
    unsigned n_fds; /* as the body says; decoding compares */
    union {
        struct {
            uint32_t version;  /* another than HANDOVER_VERSION: the rest was not read */
            uint8_t role;     /* HandoverRole */
            uint8_t recovers; /* a paused migration goes on */
            uint16_t bulk;    /* source: channels for the background wanted beside the main one */
            uint8_t compress; /* 0: as the daemon is set, 1: on, 2: off */
            HandoverText name; /* of the guest; for people: the same on both hosts */
            HandoverText uri;  /* source: what the destination was told; destination: empty */
        } hello;
        struct {
            HandoverText uri;     /* destination: for the source's client */
            HandoverText session; /* 32 hex digits */
        } welcome;
        struct {
            uint16_t n;
            HandoverRegion regions[HANDOVER_REGIONS_MAX];
        } regions;
        struct {
            uint16_t n_regions; /* in all */
            uint32_t target_page;
            uint8_t recovers;
            uint8_t log; /* MemoryLog */
            uint8_t fds; /* HANDOVER_FD_… */
            HandoverParams params;
        } memory;
        HandoverText text; /* REFUSED, RESUME, STATE, FAILED */
        uint8_t percent;   /* THROTTLE */
        struct {           /* DISCARD, FREE_HINTS */
            uint16_t block;
            uint16_t n;
            HandoverRange ranges[HANDOVER_RANGES_MAX];
        } ranges;
        struct { /* DEVICE */
            uint8_t last;
            const uint8_t *bytes;
            size_t len;
        } device;
        struct { /* END */
            uint8_t outcome; /* MemoryEndOutcome */
            HandoverText text;
        } end;
        HandoverParams params; /* PARAMS */
        struct {               /* SHARED, UNSHARED: only the id */
            uint32_t id;
            uint16_t n;
            HandoverMapping mappings[HANDOVER_MAPPINGS_MAX];
        } shared;
        struct { /* VCPUS */
            uint16_t n;
            uint32_t threads[HANDOVER_VCPUS_MAX];
        } vcpus;
    };
} HandoverMessage;

/* "ADVISE", for errors; "?" for a number that is no message. */
const char *handover_type_name(uint16_t type);

/* Writes message to ret_bytes (HANDOVER_MESSAGE_MAX) and returns its length; 0: it breaks a limit.
 * Sets n_fds. */
size_t handover_encode(HandoverMessage *message, uint8_t *ret_bytes);

/* n_fds: how many came along. False: ret_error names the message and the field. Texts and bytes
 * of ret_message point into bytes. Checked: limits, that texts are one line of UTF-8, ranges
 * that are empty or wrap, enumerations, numbers of descriptors, nothing behind the end. Not
 * checked: what depends on other messages. */
bool handover_decode(const uint8_t *bytes, size_t len, unsigned n_fds, HandoverMessage *ret_message,
                     char ret_error[HANDOVER_ERROR_MAX]);

static inline HandoverText handover_text(const char *text, size_t len)
{
    return (HandoverText){ text, (uint16_t)len };
}
