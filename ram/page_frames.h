/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bodies of the frames that carry RAM between two helpers: docs/protocol.md, section "RAM".
 *
 * All decoders are pure functions on a body; they check every length before it is used, and their
 * errors (RAM_ERROR_PROTOCOL) name the field.
 *
 * PAGES       u8 encoding (PagesEncoding), u8 0, be16 0, be32 plain length, then the records,
 *             encoded as a whole
 *   record    be16 block, u8 kind (QemuPageKind or PAGES_KIND_RUN), u8 fill, be64 offset in the block,
 *             and by kind:
 *               RAW: target page; ZERO: be32 number of target pages in a row;
 *               XBZRLE, COMPRESSED: be32 length, bytes;
 *               run: be32 number (at least 2) of target pages in a row, these pages
 * BLOCKS      be32 id of RAM's section, be32 target page, be16 number of blocks, each:
 *             be64 length (0: unknown), be64 host page (0: unknown), u8 n, name
 * PHASE       u8 RamPhase
 * RAM_END     be64 target pages sent since BLOCKS, be64 sequence after the last PAGES on the preempt channel,
 *             the same of each bulk channel
 * REQUEST     be16 block, be16 0, be32 length, be64 start
 * QEMU_CHANNEL u8 QemuChannelEvent
 */
#pragma once

#include <gio/gio.h>

#include "ram/qemu_stream.h"
#include "tls/hello.h"

/* Plain bytes of one PAGES: 16 pages of 4 KiB, and one of the largest target page. */
#define PAGES_PLAIN_MAX (RAM_TARGET_PAGE_MAX + 1024)
/* Target pages of one PAGES: what a few bytes of zero runs may make its receiver do. */
#define PAGES_TARGET_MAX 16384
#define PAGES_HEAD_LEN 8
#define PAGES_RECORD_HEAD_LEN 12

/* A record of several raw pages: with SESSION_FEATURE_RUNS. */
#define PAGES_KIND_RUN 4

/* Numbers are part of the protocol. */
typedef enum { PAGES_PLAIN = 0, PAGES_ZSTD = 1, PAGES_ZLIB = 2, PAGES_ENCODING_MAX } PagesEncoding;

/* "none", "zstd", "zlib" */
const char *pages_encoding_name(PagesEncoding encoding);
/* Of a method ("none" is not one); PAGES_ENCODING_MAX: there is none of that name. */
PagesEncoding pages_encoding_from_name(const char *name);
/* SESSION_FEATURE_*, 0 for PAGES_PLAIN; and the best that such features allow. */
guint64 pages_encoding_feature(PagesEncoding encoding);
PagesEncoding pages_encoding_choose(guint64 features);

/* How hard to compress, by PagesEncoding. */
typedef struct {
    int of[PAGES_ENCODING_MAX];
} PagesLevels;

/* RAM_ERROR_INVALID names the method and its range. */
gboolean pages_levels_check(const PagesLevels *levels, GError **error);

/* ---- writing ---- */

/* Records of one PAGES, as they are collected. */
typedef struct {
    guint8 *bytes; /* `reserve` bytes of room for the frame header, PAGES_HEAD_LEN, then records */
    gsize reserve;
    gsize len; /* of records */
    guint target_pages;
    /* the batch's own */
    gboolean runs;
    gsize capacity;    /* of bytes */
    gsize last_at;     /* the last record, from the first one on */
    guint32 last_count; /* pages of it, if more may follow in it; else 0 */
    QemuPage last;     /* what would follow in it; without data */
} PagesBatch;

/* reserve: bytes to leave free in front, for the frame's header. */
void pages_batch_init(PagesBatch *batch, gsize reserve);
/* RAW pages that follow each other become runs: if both sides have SESSION_FEATURE_RUNS. */
void pages_batch_use_runs(PagesBatch *batch);
/* Room for as many pages as may come, at once: else a page that is sent alone has a buffer of its size. */
void pages_batch_expect_many(PagesBatch *batch);
void pages_batch_clear(PagesBatch *batch);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(PagesBatch, pages_batch_clear)

/* FALSE: it does not fit any more (an empty batch takes any page). A ZERO page that follows the last
 * record's in the same block, with the same fill, makes that record longer. */
gboolean pages_batch_add(PagesBatch *batch, const QemuPage *page, gsize target_page);

/* The same with n ZERO pages in a row. Returns how many of them fit. */
guint pages_batch_add_zeros(PagesBatch *batch, const QemuPage *page, guint n, gsize target_page);

/* Ends a plain batch: returns the buffer (reserve, then the body), *ret_body_len without reserve. The
 * batch is empty then. */
guint8 *pages_batch_finish(PagesBatch *batch, gsize *ret_body_len);

/* The same body compressed, again with reserve bytes in front; NULL if it would not become at least
 * 1/16 smaller. encoding: not PAGES_PLAIN. plain_body: made by pages_batch_finish(). Any thread; each has
 * a compressor of its own. */
typedef struct PagesCompressor PagesCompressor;
PagesCompressor *pages_compressor_new(const PagesLevels *levels);
void pages_compressor_free(PagesCompressor *compressor);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PagesCompressor, pages_compressor_free)
guint8 *pages_compress(PagesCompressor *compressor, PagesEncoding encoding,
                       const guint8 *plain_body, gsize plain_body_len, gsize reserve,
                       gsize *ret_body_len);

/* ---- reading ---- */

typedef struct PagesReader PagesReader;

/* Keeps the buffer that compressed bodies are unpacked into. Takes every encoding, and every kind of record
 * but XBZRLE, until it is told which. */
PagesReader *pages_reader_new(gsize target_page);
void pages_reader_free(PagesReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PagesReader, pages_reader_free)

/* From here on only what the two sides have agreed on: SESSION_FEATURE_*. */
void pages_reader_set_features(PagesReader *reader, guint64 features);

/* Begins a body (a reference is taken until the next begin): unpacks it if need be. */
gboolean pages_reader_begin(PagesReader *reader, GBytes *body, GError **error);
/* Of the body begun last: how it was encoded, and the length of the plain body it stands for. */
PagesEncoding pages_reader_encoding(const PagesReader *reader, gsize *ret_plain_body_len);
/* The next target page; the pages of a run come out one by one, their data one behind the other. TRUE with
 * *ret_more FALSE: the body is through. data points into the body or the reader's buffer until the next
 * begin. Blocks and offsets are checked against blocks. */
gboolean pages_reader_next(PagesReader *reader, const RamBlocks *blocks, QemuPage *ret_page,
                           gboolean *ret_more, GError **error);

/* How many pages of the same record follow the one that came out last; and leaves out n of these:
 * the caller has dealt with them all at once. */
guint pages_reader_run_left(const PagesReader *reader);
void pages_reader_skip(PagesReader *reader, guint n);

/* ---- the others ---- */

/* The states of the destination, QEMU's own words, as the source reads them off the stream. */
typedef enum {
    RAM_PHASE_ADVISE = 1, /* POSTCOPY_ADVISE follows */
    RAM_PHASE_DISCARD = 2, /* the first RAM_DISCARD follows */
    RAM_PHASE_RUNNING = 3, /* the package (or, in a recovery, POSTCOPY_RESUME) is complete: pages follow */
    RAM_PHASE_MAX,
} RamPhase;

typedef enum {
    QEMU_CHANNEL_OPENED = 1, /* the source QEMU has opened its preempt connection */
    QEMU_CHANNEL_EOS = 2,    /* and ended its records */
    QEMU_CHANNEL_CLOSED = 3, /* and closed it */
    QEMU_CHANNEL_EVENT_MAX,
} QemuChannelEvent;

typedef struct {
    guint64 pages;
    guint64 preempt_seq;
    guint n_bulk; /* bulk channels, from number 1 on */
    guint64 bulk_seq[CHANNEL_BULK_MAX];
} RamEnd;

typedef struct {
    guint block;
    guint64 start;
    guint32 length;
} PageRequest;

/* Encoders append to body. blocks_encode: FALSE if it would not fit into max bytes. */
gboolean blocks_body_encode(GByteArray *body, const RamBlocks *blocks, guint32 section, gsize max);
void phase_body_encode(GByteArray *body, RamPhase phase);
void ram_end_body_encode(GByteArray *body, const RamEnd *end);
void request_body_encode(GByteArray *body, const PageRequest *request);
void qemu_channel_body_encode(GByteArray *body, QemuChannelEvent event);

/* Adds to blocks (which must be empty) and sets its target page. */
gboolean blocks_body_decode(GBytes *body, RamBlocks *blocks, guint32 *ret_section, GError **error);
gboolean phase_body_decode(GBytes *body, RamPhase *ret_phase, GError **error);
gboolean ram_end_body_decode(GBytes *body, RamEnd *ret_end, GError **error);
/* Shape only: the block is checked by who knows the blocks. */
gboolean request_body_decode(GBytes *body, PageRequest *ret_request, GError **error);
gboolean qemu_channel_body_decode(GBytes *body, QemuChannelEvent *ret_event, GError **error);
