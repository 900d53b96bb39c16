/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads the stream of a migrating QEMU, from whatever pieces it comes in.
 *
 * Pure: bytes go in, events come out, one for each element of the stream. Every byte that goes in
 * comes out again as the raw bytes of exactly one event, in order: who wants to pass the stream on
 * unchanged passes on the raw bytes of all events.
 *
 * It never fails. What it cannot delimit makes one QEMU_EV_UNKNOWN, with a text that says where and
 * why, and everything from there on is QEMU_EV_OPAQUE. Where that is normal (the device states at
 * the end of a migration that did not switch to post-copy), it is QEMU_EV_OPAQUE at once.
 *
 * Memory is bounded: an element that is not complete is kept, at most QEMU_STREAM_HELD_MAX bytes;
 * anything larger (packages, descriptions, opaque bytes) comes out in pieces.
 *
 * Understands QEMU 4.0 to 10.x, file version 3: docs/qemu-stream.md. */
#pragma once

#include "ram/blocks.h"

/* The largest element that is kept: a page record of the largest target page. */
#define QEMU_STREAM_HELD_MAX (RAM_TARGET_PAGE_MAX + 1024)

typedef enum {
    QEMU_EV_MORE,          /* all input is taken; the element under way is not complete. No raw bytes */
    QEMU_EV_HEADER,        /* magic and version; value: version */
    QEMU_EV_CONFIGURATION, /* with all its subsections; name: machine type */
    QEMU_EV_SECTION,       /* the head of a section: section. RAM: its records follow, FOOTER last */
    QEMU_EV_MEM_SIZE,      /* in RAM's START section; value: total bytes. BLOCKs follow */
    QEMU_EV_BLOCK,         /* one of the list; block. It is in the RamBlocks now */
    QEMU_EV_PAGE,          /* page */
    QEMU_EV_RECORD,        /* a RAM record without page: FULL, HOOK, MULTIFD_FLUSH; value: flags */
    QEMU_EV_EOS,           /* RAM's end-of-section record */
    QEMU_EV_FOOTER,        /* value: section id */
    QEMU_EV_COMMAND,       /* value: QemuCommand, payload. PACKAGED: package_len; its bytes follow */
    QEMU_EV_PACKAGE_DATA,  /* a piece of the package; last: it is complete */
    QEMU_EV_EOF,           /* the end-of-file mark */
    QEMU_EV_DESCRIPTION,   /* VMDESCRIPTION, head and pieces */
    QEMU_EV_OPAQUE,        /* not delimited */
    QEMU_EV_UNKNOWN,       /* text: what and where, for a warning. OPAQUE follows */
    QEMU_EV_MAX,
} QemuEventType;

const char *qemu_event_name(QemuEventType type);

typedef enum {
    QEMU_SECTION_START = 1,
    QEMU_SECTION_PART = 2,
    QEMU_SECTION_END = 3,
    QEMU_SECTION_FULL = 4,
} QemuSectionKind;

typedef enum {
    QEMU_CMD_OPEN_RETURN_PATH = 1,
    QEMU_CMD_PING = 2,
    QEMU_CMD_POSTCOPY_ADVISE = 3,
    QEMU_CMD_POSTCOPY_LISTEN = 4,
    QEMU_CMD_POSTCOPY_RUN = 5,
    QEMU_CMD_POSTCOPY_RAM_DISCARD = 6,
    QEMU_CMD_PACKAGED = 7,
    QEMU_CMD_ENABLE_COLO = 8,
    QEMU_CMD_POSTCOPY_RESUME = 9,
    QEMU_CMD_RECV_BITMAP = 10, /* block: adds it if it is new (a resumed stream names blocks so) */
    QEMU_CMD_SWITCHOVER_START = 11,
} QemuCommand;

/* Flags of a RAM record, the low 12 bits of its first word. */
enum {
    QEMU_RAM_FULL = 0x001,
    QEMU_RAM_ZERO = 0x002,
    QEMU_RAM_MEM_SIZE = 0x004,
    QEMU_RAM_PAGE = 0x008,
    QEMU_RAM_EOS = 0x010,
    QEMU_RAM_CONTINUE = 0x020,
    QEMU_RAM_XBZRLE = 0x040,
    QEMU_RAM_HOOK = 0x080,
    QEMU_RAM_COMPRESS_PAGE = 0x100,
    QEMU_RAM_MULTIFD_FLUSH = 0x200,
};

typedef enum {
    QEMU_PAGE_RAW,        /* data: the target page */
    QEMU_PAGE_ZERO,       /* every byte is fill; no data */
    QEMU_PAGE_XBZRLE,     /* data: the delta; only before post-copy */
    QEMU_PAGE_COMPRESSED, /* data: a zlib stream */
    QEMU_PAGE_KIND_MAX,
} QemuPageKind;

typedef struct {
    guint block;    /* index */
    guint64 offset; /* of the target page in its block, checked against the block */
    QemuPageKind kind;
    guint8 fill;
    const guint8 *data; /* as long as raw */
    gsize data_len;
} QemuPage;

typedef struct {
    QemuSectionKind kind;
    guint32 id;
    char name[256];   /* "" for PART and END */
    guint32 instance; /* START and FULL */
    guint32 version;
    gboolean is_ram; /* only then its body is read */
} QemuSection;

/* Only the fields that belong to the type are set. */
typedef struct {
    QemuEventType type;
    const guint8 *raw; /* valid until the next call, and while the input is */
    gsize raw_len;
    guint64 value;
    guint64 package_len;
    const guint8 *payload; /* of a command; points into raw */
    gsize payload_len;
    guint block; /* index */
    gboolean last;
    QemuPage page;
    QemuSection section;
    const char *name; /* owned by the stream */
    const char *text;
} QemuEvent;

typedef struct QemuStream QemuStream;

/* A main connection, new (it begins with a header) or resumed (it begins with a command). Blocks are
 * added to `blocks` as they become known; it must outlive the stream. */
QemuStream *qemu_stream_new(RamBlocks *blocks);
/* The second connection of postcopy-preempt: RAM records from the first byte on, without sections. */
QemuStream *qemu_stream_new_preempt(RamBlocks *blocks);
void qemu_stream_free(QemuStream *stream);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QemuStream, qemu_stream_free)

/* Reads up to the end of the next event; returns how many bytes it has taken. Call it with the rest
 * until the event is QEMU_EV_MORE (which is also what no bytes make). A page whose record lies in one
 * piece in the input is not copied: raw and data point into the input. */
gsize qemu_stream_read(QemuStream *stream, const guint8 *bytes, gsize len, QemuEvent *ret_event);

/* What is kept of an element that is not complete: the last bytes of a stream that has ended there. */
gsize qemu_stream_held(const QemuStream *stream, const guint8 **ret_bytes);

/* Of a stream that has been read so far: */
gboolean qemu_stream_is_resumed(const QemuStream *stream);
gboolean qemu_stream_is_opaque(const QemuStream *stream);
/* The id of RAM's section. FALSE: not known yet. In a resumed stream the first PART after
 * POSTCOPY_RESUME is RAM's (no other device has parts there). */
gboolean qemu_stream_ram_section(const QemuStream *stream, guint32 *ret_id);
/* For messages: bytes taken so far. */
guint64 qemu_stream_position(const QemuStream *stream);
