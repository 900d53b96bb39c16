/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The frames of the session protocol: a fixed header of 16 bytes, then a body.
 *
 *     be32 length     of the whole frame, header included
 *     u8   type       FrameType
 *     u8   flags      0 in version 1
 *     be16 reserved   0
 *     be64 sequence   counts sequenced frames per channel and direction from 0; 0 in all others
 *
 * Here is only the shape: each header is checked by itself, before a byte of its body is
 * stored. What may follow what is tls/session.h. Layout and limits: docs/protocol.md. Pure. */
#pragma once

#include <gio/gio.h>

#define FRAME_HEADER_LEN 16
#define FRAME_HELLO_MAX 4096       /* body of HELLO and of HELLO_ACK */
#define FRAME_ERROR_TEXT_MAX 1024  /* bytes of UTF-8 after the code */
#define FRAME_DATA_MAX (64 * 1024) /* bytes of QEMU's stream in one DATA */
#define FRAME_PAGES_MAX (FRAME_DATA_MAX + 2048) /* body of PAGES and of BLOCKS */

#define FRAME_ERROR_DOMAIN (frame_error_quark())
GQuark frame_error_quark(void);

typedef enum {
    FRAME_ERROR_HEADER, /* a field of the header is wrong; the message names it */
    FRAME_ERROR_BODY,   /* the same for the body */
} FrameErrorCode;

typedef enum {
    FRAME_HELLO = 1,     /* dialling side, first: HelloBody (tls/hello.h) */
    FRAME_HELLO_ACK = 2, /* the answer: HelloAckBody */
    FRAME_ERROR = 3,     /* either side, last: ErrorBody */
    FRAME_DATA = 4,      /* bytes of QEMU's stream */
    FRAME_EOF = 5,       /* this direction of QEMU's stream has ended */
    FRAME_RESET = 6,     /* QEMU's end broke: close yours */
    FRAME_ACK = 7,       /* FrameAck */
    FRAME_PING = 8,      /* 8 bytes the PONG repeats */
    FRAME_PONG = 9,
    FRAME_BYE = 10, /* everything is done, the channel closes */
    /* with the feature SESSION_FEATURE_RAM; bodies are ram/page_frames.h's business */
    FRAME_PHASE = 11,        /* main, from the source: the destination's next state */
    FRAME_BLOCKS = 12,       /* main, from the source: what PAGES and REQUEST refer to */
    FRAME_PAGES = 13,        /* main or preempt, from the source: RAM */
    FRAME_RAM_END = 14,      /* main, from the source: no PAGES follow */
    FRAME_QEMU_CHANNEL = 15, /* main, from the source: about QEMU's own second connection */
    FRAME_REQUEST = 16,      /* preempt, from the destination: a page the guest waits for */
    /* with SESSION_FEATURE_MAPPED; bodies are ram/mapped/frames.h's business */
    FRAME_DISCARD = 17,  /* main, from the source: pages that the destination is to forget */
    FRAME_RECEIVED = 18, /* main, from the destination: pages that it has */
    FRAME_TYPE_MAX,
} FrameType;

/* "HELLO", "DATA"...; "unknown" for anything else. */
const char *frame_type_name(FrameType type);
/* TRUE for the frames that carry a sequence number and are acknowledged. */
gboolean frame_type_is_sequenced(FrameType type);

typedef struct {
    FrameType type;
    guint64 seq;
    gsize body_len;
} FrameHeader;

/* The length must be within the type's limits. */
void frame_header_encode(const FrameHeader *header, guint8 ret[FRAME_HEADER_LEN]);
gboolean frame_header_decode(const guint8 bytes[FRAME_HEADER_LEN], FrameHeader *ret_header,
                             GError **error);

/* A whole frame, header included. As above. */
GBytes *frame_new(FrameType type, guint64 seq, gconstpointer body, gsize body_len);

/* The sender of this has handed on (to its QEMU, or to whatever it was for) everything below
 * next_seq: `bytes` bytes of bodies since the channel was opened. */
typedef struct {
    guint64 next_seq;
    guint64 bytes;
} FrameAck;

GBytes *frame_new_ack(const FrameAck *ack);
GBytes *frame_new_ping(FrameType ping_or_pong, guint64 cookie);
gboolean frame_ack_decode(GBytes *body, FrameAck *ret_ack, GError **error);
gboolean frame_ping_decode(GBytes *body, guint64 *ret_cookie, GError **error);

typedef struct {
    FrameHeader header;
    GBytes *body; /* never NULL in a complete frame, may be empty */
} Frame;

void frame_clear(Frame *frame);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Frame, frame_clear)

/* Puts frames together from bytes as they come. It says where the next bytes belong, so
 * that they are read straight into the body they are part of: nothing is copied, nothing is
 * allocated beyond the one body that is under way. */
typedef struct {
    guint8 head[FRAME_HEADER_LEN];
    FrameHeader header;
    guint8 *body; /* allocated once the header is known */
    gsize have;   /* bytes so far, header included */
    gboolean hello_only; /* until the first frame is complete */
} FrameReader;

/* hello_only: the first frame must be a HELLO (what an accepted channel begins with): any
 * other type is refused by its header, so an unknown peer costs 4 KiB at most. */
void frame_reader_init(FrameReader *reader, gboolean hello_only);
void frame_reader_clear(FrameReader *reader);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FrameReader, frame_reader_clear)

/* Returns how many bytes (> 0) may be stored at *ret_space. */
gsize frame_reader_space(FrameReader *reader, guint8 **ret_space);

/* len bytes were stored. On success *ret_complete says whether ret_frame holds a frame
 * (then it is the caller's). After an error the reader must not be used but to clear it. */
gboolean frame_reader_advance(FrameReader *reader, gsize len, Frame *ret_frame,
                              gboolean *ret_complete, GError **error);

/* TRUE if the bytes so far end in the middle of a frame. */
gboolean frame_reader_in_frame(const FrameReader *reader);
