/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads QEMU's return path (destination to source), with the same contract as ram/qemu_stream.h:
 * every byte in is a raw byte of one event out, in order; it never fails; memory is bounded.
 * Facts: docs/qemu-stream.md, return path. Pure. */
#pragma once

#include "ram/blocks.h"

#define QEMU_RETURN_MESSAGE_MAX 512 /* payload; QEMU's own limit */

typedef enum {
    QEMU_RP_SHUT = 1,
    QEMU_RP_PONG = 2,
    QEMU_RP_REQ_PAGES_ID = 3,
    QEMU_RP_REQ_PAGES = 4,
    QEMU_RP_RECV_BITMAP = 5,
    QEMU_RP_RESUME_ACK = 6,
    QEMU_RP_SWITCHOVER_ACK = 7,
} QemuReturnType;

typedef enum {
    QEMU_RETURN_MORE,        /* all input is taken, no raw bytes */
    QEMU_RETURN_SHUT,        /* value */
    QEMU_RETURN_PONG,        /* value */
    QEMU_RETURN_REQ_PAGES,   /* both kinds; name, start, length. Aligned to the target page, length > 0 */
    QEMU_RETURN_BITMAP,      /* the head of RECV_BITMAP; name, length: bytes of bitmap that follow */
    QEMU_RETURN_BITMAP_DATA, /* name; start: offset in the bitmap; raw: these bytes of it */
    QEMU_RETURN_BITMAP_END,  /* name */
    QEMU_RETURN_RESUME_ACK,  /* value */
    QEMU_RETURN_OTHER,       /* SWITCHOVER_ACK, or a type that is not known: value */
    QEMU_RETURN_OPAQUE,      /* not understood any more */
    QEMU_RETURN_UNKNOWN,     /* text: why everything from here on is OPAQUE */
    QEMU_RETURN_MAX,
} QemuReturnEventType;

const char *qemu_return_event_name(QemuReturnEventType type);

typedef struct {
    QemuReturnEventType type;
    const guint8 *raw;
    gsize raw_len;
    guint64 value;
    const char *name; /* of a block; owned by the reader, until the next call */
    gsize name_len;
    guint64 start;
    guint64 length;
    const char *text;
} QemuReturnEvent;

typedef struct QemuReturn QemuReturn;

QemuReturn *qemu_return_new(void);
void qemu_return_free(QemuReturn *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QemuReturn, qemu_return_free)

gsize qemu_return_read(QemuReturn *reader, const guint8 *bytes, gsize len, QemuReturnEvent *ret_event);
gsize qemu_return_held(const QemuReturn *reader, const guint8 **ret_bytes);
/* TRUE between two messages: where another message may be put into the stream. */
gboolean qemu_return_at_boundary(const QemuReturn *reader);
gboolean qemu_return_is_opaque(const QemuReturn *reader);
