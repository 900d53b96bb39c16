/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The RAM of a guest that two model QEMUs migrate: its blocks, and what is in each page, made from
 * a seed. Each page has two versions: what the pre-copy round sees, and what the guest has written
 * since.
 *
 * Target pages are numbered through all blocks. */
#pragma once

#include "ram/qemu_stream.h"

#define MODEL_PAGE 4096
#define MODEL_BLOCKS_MAX 8

typedef struct {
    const char *name;
    guint64 host_page;
    guint host_pages;
    guint zero_percent; /* of the target pages */
} ModelBlock;

typedef struct {
    const ModelBlock *blocks;
    guint n_blocks;
    guint first[MODEL_BLOCKS_MAX]; /* number of a block's first target page */
    guint n_pages;                 /* target pages */
    guint32 seed;
    gboolean compressed; /* some pages come as COMPRESSED records */
} ModelGuest;

/* Versions. */
enum { MODEL_ABSENT, MODEL_OLD, MODEL_NEW };

/* blocks must outlive it. */
void model_guest_init(ModelGuest *guest, const ModelBlock *blocks, guint n_blocks, guint32 seed);

/* The blocks as QEMU tells of them, in an order of its own. */
RamBlocks *model_guest_blocks(const ModelGuest *guest);
guint64 model_guest_page_sizes(const ModelGuest *guest);

guint model_guest_block_of(const ModelGuest *guest, guint page);
guint64 model_guest_offset(const ModelGuest *guest, guint page);
/* The first target page of its host page, and how many that has. */
guint model_guest_host(const ModelGuest *guest, guint page, guint *ret_n);
gboolean model_guest_find(const ModelGuest *guest, const char *name, gsize len, guint64 offset,
                          guint *ret_page);

/* The record of that page; buf: of MODEL_RECORD_MAX bytes, for its data. block is the index in
 * model_guest_blocks(). */
#define MODEL_RECORD_MAX (MODEL_PAGE + 64)
void model_guest_record(const ModelGuest *guest, guint page, guint version, guint8 *buf,
                        QemuPage *ret_record);
/* The same as a difference to that page before (XBZRLE): from generation `from` of it, counted from the last time it
 * was sent whole, to the next one. And what such a record is a difference to: FALSE, it is not of that page. */
void model_guest_delta(const ModelGuest *guest, guint page, guint8 from, guint8 *buf,
                       QemuPage *ret_record);
gboolean model_guest_is_delta(const ModelGuest *guest, guint page, const QemuPage *record,
                              guint8 *ret_from);
/* Whether a record has what is in that page. */
gboolean model_guest_is(const ModelGuest *guest, guint page, guint version, const QemuPage *record);
