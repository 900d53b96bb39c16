/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One message of libvirt's RPC protocol, as it is on the wire.
 *
 *     offset 0 length (itself included), 4 program, 8 version, 12 procedure, 16 type,
 *     20 serial, 24 status, 28 payload; all big-endian (facts: libvirt-rpc.md 2).
 *
 * A frame keeps its bytes, so that one nobody has an opinion on is forwarded as it came.
 * Descriptors that travel with a frame (types call-with-fds and reply-with-fds) belong to it.
 * Pure, but for closing descriptors. */
#pragma once

#include <gio/gio.h>

#define RPC_HEADER_LEN 28u
#define RPC_FRAME_MAX 33554436u /* 32 MiB and the length word, libvirt's own limit */
#define RPC_FDS_MAX 32u

#define RPC_PROGRAM_REMOTE 0x20008086u
#define RPC_PROGRAM_QEMU 0x20008087u
#define RPC_PROGRAM_LXC 0x00068000u
#define RPC_PROGRAM_KEEPALIVE 0x6b656570u

typedef enum {
    RPC_TYPE_CALL = 0,
    RPC_TYPE_REPLY = 1,
    RPC_TYPE_MESSAGE = 2, /* event */
    RPC_TYPE_STREAM = 3,
    RPC_TYPE_CALL_WITH_FDS = 4,
    RPC_TYPE_REPLY_WITH_FDS = 5,
    RPC_TYPE_STREAM_HOLE = 6,
} RpcType;

typedef enum { RPC_STATUS_OK = 0, RPC_STATUS_ERROR = 1, RPC_STATUS_CONTINUE = 2 } RpcStatus;

#define RPC_FRAME_ERROR (rpc_frame_error_quark())
GQuark rpc_frame_error_quark(void);

typedef enum {
    RPC_FRAME_ERROR_LENGTH, /* shorter than a header, or longer than RPC_FRAME_MAX */
    RPC_FRAME_ERROR_TYPE,   /* unknown type or status */
    RPC_FRAME_ERROR_FDS,    /* more descriptors announced than RPC_FDS_MAX, or none came */
    RPC_FRAME_ERROR_CLOSED, /* the connection ended inside a frame */
} RpcFrameError;

typedef struct {
    guint32 program;
    guint32 version;
    gint32 procedure;
    guint32 type;   /* RpcType */
    guint32 serial;
    guint32 status; /* RpcStatus */
} RpcHeader;

typedef struct {
    RpcHeader header;
    GByteArray *wire; /* the whole frame, length word included */
    int fds[RPC_FDS_MAX];
    guint n_fds;
} RpcFrame;

/* Checks the length word; ret_len is the whole frame's length. */
gboolean rpc_frame_parse_length(const guint8 word[4], guint32 *ret_len, GError **error);

/* Takes wire (a whole frame, length checked against its length word). The payload of a frame with
 * descriptors must announce at most RPC_FDS_MAX: ret_n_fds tells how many follow it. */
RpcFrame *rpc_frame_new_from_wire(GByteArray *wire, guint *ret_n_fds, GError **error);

/* Makes a frame from a header and a payload (copied). */
RpcFrame *rpc_frame_new(const RpcHeader *header, const void *payload, gsize len);

/* The same header and descriptors with another payload; frame gives up its descriptors. */
RpcFrame *rpc_frame_new_with_payload(RpcFrame *frame, const void *payload, gsize len);

/* The bytes behind the header. For frames with descriptors: behind their count. */
const guint8 *rpc_frame_payload(const RpcFrame *frame, gsize *ret_len);

gboolean rpc_frame_has_fds(const RpcFrame *frame); /* by its type */

/* Closes the descriptors it still has. */
void rpc_frame_free(RpcFrame *frame);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RpcFrame, rpc_frame_free)
