/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The memory under test. Each 4 KiB page is eight blocks; block b of a page in
 * generation g was last written in the newest generation up to g that leaves
 * the remainder b, so one number per page, kept in a ledger elsewhere in memory,
 * tells every byte the page must hold. A block is a marker, the page's number,
 * the block's generation, and words made from both.
 *
 * A part of the memory may come later, and from above 4 GiB: it then appears behind
 * the first part (paging.h).
 */
#pragma once

#include <stdint.h>

#include "options.h"

/* In every block, so that a look at network traffic or a dump finds guest memory. */
#define PAGE_MARKER "PostcopyGuestPg"

enum {
    PAGE_BYTES = 4096,
    PAGE_WORDS = PAGE_BYTES / 4,
};

typedef struct Pages {
    uint32_t base;                      /* address of page 0 */
    volatile uint32_t count;            /* of the pages there are now */
    uint32_t first;                     /* of those that were there from the start */
    uint32_t extra;                     /* of those that come later */
    uint64_t extra_start;               /* the physical address of these */
    uint32_t hot;                       /* pages 0 to hot-1 are touched, and all extra ones */
    uint32_t zero_percent;
    Pattern pattern;
    uint32_t *generation;               /* one per page; 0: the page is zero */
} Pages;

/* How a page is not as it must be: its first wrong word, and what its blocks say
 * they are, which tells a lost write from another page's contents. */
typedef struct Fault {
    uint32_t word;
    uint32_t want;
    uint32_t got;
    uint32_t wrong_blocks;              /* a bit for each */
    uint32_t found_page;                /* as the first wrong block has it */
    uint32_t found_generation;
} Fault;

/* Lays ledger and pages out in @memory; nothing is written yet. */
void pages_init(Pages *pages, Span memory, const Options *options);

/* Whether the extra pages can be used by now: they may be in memory that is plugged in
 * while the guest runs. */
int pages_extra_is_there(const Pages *pages);

/* The physical address of a page. */
uint64_t pages_address(const Pages *pages, uint32_t page);

/* Gives a page its first contents, also after a fault in it was reported. */
void pages_fill(Pages *pages, uint32_t page);

/* Compares the whole page; 1 if it is as it must be, else *@fault is set. A zero
 * page has one block. */
int pages_check(const Pages *pages, uint32_t page, Fault *fault);

/* Rewrites one block and notes the new generation. A zero page stays zero. */
void pages_advance(Pages *pages, uint32_t page);

static inline volatile uint32_t *
pages_words(const Pages *pages, uint32_t page)
{
    return (volatile uint32_t *) (pages->base + page * PAGE_BYTES);
}
