/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads a stream in pieces of any size and writes down the events, a line each, to be compared. */
#pragma once

#include "ram/qemu_stream.h"

typedef struct {
    RamBlocks *blocks;
    QemuStream *stream;
    GString *events;  /* a line each */
    GByteArray *raw;  /* of all events */
    GString *unknown; /* texts */
    QemuEventType last; /* to make one of pieces that follow each other */
} Reader;

/* preempt: the second connection; pc.ram and pc.rom are known then. */
Reader *reader_new(gboolean preempt);
void reader_free(Reader *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Reader, reader_free)

/* One input, in memory of just its size: reading beyond it is noticed. */
void reader_feed(Reader *r, const guint8 *bytes, gsize len);
/* What has come out and what is kept are what went in. */
void reader_assert_complete(Reader *r, const guint8 *bytes, gsize len);
/* piece 0: of random sizes. */
Reader *reader_of_pieces(const GByteArray *b, gsize piece, gboolean preempt);
Reader *reader_of_whole(const GByteArray *b);
/* "PAGE b:o" alone stands for a raw page with the data of its offset. */
void reader_assert_events(Reader *r, const char *expected);
