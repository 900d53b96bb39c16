/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A point in what a page sender sends: everything that was done() before it was taken. Reached
 * when the peer has acknowledged that much. Pure. */
#pragma once

#include "ram/page_sender.h"

/* Of one channel. */
typedef struct {
    guint64 jobs; /* the compressor's, that have to be sent before the bytes are known */
    gboolean known;
    guint64 bytes;
} PageMarkChannel;

typedef struct {
    PageMarkChannel channels[1 + CHANNEL_BULK_MAX]; /* as the sender has them */
    guint n_channels;
    guint64 lane_bytes;
} PageMark;

void page_mark_take(PageMark *mark, const PageSender *sender);
gboolean page_mark_is_acked(PageMark *mark, const PageSender *sender);
