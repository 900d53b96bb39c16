/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Contents of the memory under test: made, compared and rewritten.
 */
#include "pages.h"

#include "cpu.h"

enum {
    BLOCKS = 8,
    BLOCK_WORDS = PAGE_WORDS / BLOCKS,
    MARKER_WORDS = sizeof PAGE_MARKER / 4,
    HEADER_WORDS = MARKER_WORDS + 2,

    /* A page is filled as if each block had been written in turn. */
    FIRST_GENERATION = BLOCKS + BLOCKS - 1,
};

static const union {
    char text[sizeof PAGE_MARKER];
    uint32_t words[MARKER_WORDS];
} marker = { PAGE_MARKER };

/* Makes the words of a block, one after the other. */
typedef struct BlockMaker {
    uint32_t page;
    uint32_t generation;
    uint32_t state;
    uint32_t compressible;
} BlockMaker;

static uint32_t
scramble(uint32_t x)
{
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

static BlockMaker
block_maker(const Pages *pages, uint32_t page, uint32_t generation)
{
    uint32_t seed = scramble(page * 0x9e3779b9u + scramble(generation));

    return (BlockMaker) { page, generation, seed ? seed : 1, pages->compressible };
}

static inline uint32_t
header_word(const BlockMaker *maker, uint32_t i)
{
    if (i < MARKER_WORDS)
        return marker.words[i];
    return i == MARKER_WORDS ? maker->page : maker->generation;
}

static inline uint32_t
next_word(BlockMaker *maker, uint32_t i)
{
    if (maker->compressible)
        return maker->state + (i & 7);
    maker->state ^= maker->state << 13;
    maker->state ^= maker->state >> 17;
    maker->state ^= maker->state << 5;
    return maker->state;
}

/* The generation in which @block was written, given the page's. */
static uint32_t
block_generation(uint32_t generation, uint32_t block)
{
    return generation - (generation - block) % BLOCKS;
}

static void
write_block(const Pages *pages, uint32_t page, uint32_t generation)
{
    BlockMaker maker = block_maker(pages, page, generation);
    volatile uint32_t *words = pages_words(pages, page) + generation % BLOCKS * BLOCK_WORDS;
    uint32_t i;

    for (i = 0; i < HEADER_WORDS; i++)
        words[i] = header_word(&maker, i);
    for (; i < BLOCK_WORDS; i++)
        words[i] = next_word(&maker, i);
    cpu_publish(words);
}

/* Notes the first wrong word only. */
static int
word_is(volatile uint32_t *words, uint32_t at, uint32_t want, Fault *fault)
{
    uint32_t got = words[at];

    if (got == want)
        return 1;
    if (!fault->wrong_blocks) {
        volatile uint32_t *header = words + at / BLOCK_WORDS * BLOCK_WORDS + MARKER_WORDS;

        *fault = (Fault) { at, want, got, 0, header[0], header[1] };
    }
    return 0;
}

static int
check_block(const Pages *pages, uint32_t page, uint32_t block, Fault *fault)
{
    uint32_t generation = block_generation(pages->generation[page], block);
    BlockMaker maker = block_maker(pages, page, generation);
    volatile uint32_t *words = pages_words(pages, page);
    uint32_t first = block * BLOCK_WORDS;
    uint32_t i;

    for (i = 0; i < HEADER_WORDS; i++)
        if (!word_is(words, first + i, header_word(&maker, i), fault))
            return 0;
    for (; i < BLOCK_WORDS; i++)
        if (!word_is(words, first + i, next_word(&maker, i), fault))
            return 0;
    return 1;
}

static int
check_zero(const Pages *pages, uint32_t page, Fault *fault)
{
    for (uint32_t i = 0; i < PAGE_WORDS; i++) {
        if (!word_is(pages_words(pages, page), i, 0, fault)) {
            fault->wrong_blocks = 1;
            return 0;
        }
    }
    return 1;
}

int
pages_check(const Pages *pages, uint32_t page, Fault *fault)
{
    *fault = (Fault) { 0 };
    if (pages->generation[page] == 0)
        return check_zero(pages, page, fault);
    for (uint32_t block = 0; block < BLOCKS; block++)
        if (!check_block(pages, page, block, fault))
            fault->wrong_blocks |= 1u << block;
    return fault->wrong_blocks == 0;
}

void
pages_advance(Pages *pages, uint32_t page)
{
    uint32_t generation = pages->generation[page];

    if (generation == 0)
        return;
    pages->generation[page] = ++generation;
    cpu_publish(&pages->generation[page]);
    write_block(pages, page, generation);
}

/* Memory the firmware left zero stays unwritten: a zero page of a real guest
 * has often never been there at all. */
static void
make_zero(const Pages *pages, uint32_t page)
{
    volatile uint32_t *words = pages_words(pages, page);

    for (uint32_t i = 0; i < PAGE_WORDS; i++)
        if (words[i] != 0)
            words[i] = 0;
}

void
pages_fill(Pages *pages, uint32_t page)
{
    if (page >= pages->hot && scramble(page) % 100 < pages->zero_percent) {
        pages->generation[page] = 0;
        make_zero(pages, page);
        return;
    }
    pages->generation[page] = FIRST_GENERATION;
    cpu_publish(&pages->generation[page]);
    for (uint32_t block = 0; block < BLOCKS; block++)
        write_block(pages, page, BLOCKS + block);
}

void
pages_init(Pages *pages, Span memory, const Options *options)
{
    const uint32_t pages_in_mib = 1024 * 1024 / PAGE_BYTES;
    uint32_t available = memory.bytes / PAGE_BYTES;
    uint32_t count = available;

    if (options->ram_mib && options->ram_mib < count / pages_in_mib)
        count = options->ram_mib * pages_in_mib;

    /* The ledger's own pages come first: four bytes for each page of the test. */
    uint32_t ledger = (count * 4 + PAGE_BYTES - 1) / PAGE_BYTES;

    if (count > available - ledger)
        count = available - ledger;

    *pages = (Pages) {
        .base = memory.base + ledger * PAGE_BYTES,
        .count = count,
        .hot = count,
        .zero_percent = options->zero_percent,
        .compressible = options->compressible,
        .generation = (uint32_t *) memory.base,
    };
    if (options->hot_mib && options->hot_mib < count / pages_in_mib)
        pages->hot = options->hot_mib * pages_in_mib;
}
