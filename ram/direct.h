/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an outgoing machine reads from the source QEMU's memory once the guest has stopped, instead
 * of waiting for it on the stream: which pages are still owed, where their blocks are
 * (ram/memory_proof.h), and their bytes, read ahead (ram/memory_reader.h).
 *
 * Of a block that is not proved, and after the first read that fails, nothing is read: its pages
 * come on the stream. One thread. */
#pragma once

#include "ram/memory_proof.h"
#include "ram/page_scan.h"

typedef enum {
    DIRECT_OFF,     /* nobody has offered the memory */
    DIRECT_PROVING, /* no block is proved yet */
    DIRECT_READING,
    DIRECT_UNPROVED, /* no block is where it could be: all comes on the stream */
    DIRECT_FAILED,   /* a read failed, or it was given up: from then on all comes on the stream */
} DirectState;

/* "off", "proving", "reading", "unproved", "failed" */
const char *direct_state_name(DirectState state);

typedef struct Direct Direct;

/* blocks must outlive it, and be complete when the first page comes. */
Direct *direct_new(const RamBlocks *blocks);
void direct_free(Direct *direct);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Direct, direct_free)

/* ---- which pages ---- */

/* These are owed, in target pages: before the first is sent. More than once adds up. */
void direct_owe(Direct *direct, guint block, guint64 first, guint64 n);
/* In a recovery: the same of all that are not set. Among them is what no QEMU will send, the unplugged parts of a
 * virtio-mem device and what a balloon has: to read it would give it memory at the source, to send it at the
 * destination. So from then on only what somebody waits for is read, and direct_next() has nothing. */
void direct_owe_rest(Direct *direct, guint block, const Bitmap *sent);
/* FALSE: it was a recovery, so only what is asked for is read. */
gboolean direct_has_background(const Direct *direct);
/* They are on their way, wherever they came from. */
void direct_settle(Direct *direct, guint block, guint64 first, guint64 n);

/* ---- the memory ---- */

/* Takes fd, of /proc/PID/mem. FALSE: the ranges cannot be (RAM_ERROR_INVALID), or there is one
 * already (RAM_ERROR_STATE). */
gboolean direct_set_memory(Direct *direct, int fd, const MemoryRange *ranges, gsize n_ranges,
                           GError **error);

/* A page has come on the stream after the switch-over. */
void direct_on_page(Direct *direct, const QemuPage *page);
/* TRUE: another block is proved by that, *ret_block. Ask until it is FALSE. */
gboolean direct_next_proved(Direct *direct, guint *ret_block);

gboolean direct_can_read(const Direct *direct, guint block);
/* Target pages that direct_next() has still to come to. */
guint64 direct_left(const Direct *direct);

/* The next page, as page_scan_next() and, near the last direct_go_near(), page_scan_next_near(). */
gboolean direct_next(Direct *direct, ScanPage *ret_page);
gboolean direct_next_near(Direct *direct, ScanPage *ret_page);
void direct_go_near(Direct *direct, guint block, guint64 page);

/* The bytes of a host page, n target pages from `page` on. alone: what follows it is not wanted
 * soon. Give it back with direct_put(). NULL: it cannot be read, and neither can any other from now
 * on. */
MemoryWindow *direct_read(Direct *direct, guint block, guint64 page, guint64 n, gboolean alone);
/* Nothing is read any more, for that reason, nor shall be in a recovery. The first one counts. */
void direct_give_up(Direct *direct, const char *why);
/* Target page number `page` in it. */
const guint8 *direct_bytes(const Direct *direct, const MemoryWindow *window, guint block,
                           guint64 page);
void direct_put(Direct *direct, MemoryWindow *window);

/* ---- asking ---- */

DirectState direct_state(const Direct *direct);
/* Why, if it failed; NULL else. */
const char *direct_error(const Direct *direct);
guint64 direct_bytes_read(const Direct *direct);
