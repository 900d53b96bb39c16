/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where a page sender (ram/page_sender.h) gets its pages from: what a source QEMU has written
 * (ram/outgoing_stage.c), or memory that the helper reads itself.
 *
 * The sender asks, the supply answers, and never the other way round: a supply must not call its sender
 * from within an op. Nothing is copied by asking: a supply that has the bytes in memory hands out where
 * they are. One thread. */
#pragma once

#include "ram/qemu_stream.h"

typedef struct PageSupply PageSupply;

/* A host page, or several in a row with nothing but zeros, from the moment it is handed out until
 * done(). */
typedef struct {
    guint block;
    guint64 offset;  /* of the first host page in its block */
    guint n_records; /* target pages in all; of a host page may be fewer at the end of a block */
    gpointer own;    /* the supply's; the sender keeps it and does not look */
} SupplyPage;

typedef struct {
    /* The next one to go in the background: the supply decides the order (near the last request first). It
     * is the sender's then: it is not handed out again, here or by next_urgent(), until it is given back by
     * page_sender_recall(). FALSE: none now; it is asked again by the next page_sender_send().
     * Several may be handed out and not done(), one for each channel. */
    gboolean (*next)(PageSupply *supply, SupplyPage *ret_page);
    /* The same of those that somebody waits for, the longest waiting first. */
    gboolean (*next_urgent)(PageSupply *supply, SupplyPage *ret_page);
    /* Target page i of it, which is asked for in ascending order; the same i may be asked for again, if it
     * did not fit into a frame, and the answer must be as before. data is valid until the next op and is
     * not kept. FALSE: this one is not sent (before the switch-over: it is clean). Block and offset of
     * *ret_page are set by the sender: fill in the others. */
    gboolean (*record)(PageSupply *supply, const SupplyPage *page, guint i, QemuPage *ret_page);
    /* All that is sent of it is in frames, in order, on one channel; it may be changed or freed. A frame
     * is not acknowledged by that, nor on the way yet if it is being compressed. */
    void (*done)(PageSupply *supply, SupplyPage *page, gboolean urgent);
    /* record() has just said that target page i is zeros: how many from there on are, with that one,
     * and are all sent, as far as is known without looking at each. NULL: it does not know. */
    guint (*zeros)(PageSupply *supply, const SupplyPage *page, guint i);
} PageSupplyOps;

struct PageSupply {
    const PageSupplyOps *ops;
};
