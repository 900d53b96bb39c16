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

static int
is_compressible(const Pages *pages, uint32_t page)
{
    return pages->pattern == PATTERN_TEXT || (pages->pattern == PATTERN_HALF && page % 2);
}

static BlockMaker
block_maker(const Pages *pages, uint32_t page, uint32_t generation)
{
    uint32_t seed = scramble(page * 0x9e3779b9u + scramble(generation));

    return (BlockMaker) { page, generation, seed ? seed : 1, is_compressible(pages, page) };
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

    cpu_forget(words);
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

static void
set_generation(Pages *pages, uint32_t page, uint32_t generation)
{
    cpu_forget(&pages->generation[page]);
    pages->generation[page] = generation;
}

void
pages_advance(Pages *pages, uint32_t page)
{
    uint32_t generation = pages->generation[page];

    if (generation == 0)
        return;
    set_generation(pages, page, ++generation);
    write_block(pages, page, generation);
}

/* Memory the firmware left zero stays unwritten: a zero page of a real guest
 * has often never been there at all. */
static void
make_zero(const Pages *pages, uint32_t page)
{
    volatile uint32_t *words = pages_words(pages, page);

    cpu_forget(words);
    for (uint32_t i = 0; i < PAGE_WORDS; i++)
        if (words[i] != 0)
            words[i] = 0;
}

void
pages_fill(Pages *pages, uint32_t page)
{
    if (page >= pages->hot && page < pages->first && scramble(page) % 100 < pages->zero_percent) {
        set_generation(pages, page, 0);
        make_zero(pages, page);
        return;
    }
    set_generation(pages, page, FIRST_GENERATION);
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
    uint32_t extra = options->extra_mib * pages_in_mib;
    uint32_t ledger = ((count + extra) * 4 + PAGE_BYTES - 1) / PAGE_BYTES;

    if (count > available - ledger)
        count = available - ledger;

    *pages = (Pages) {
        .base = memory.base + ledger * PAGE_BYTES,
        .count = count,
        .first = count,
        .extra = extra,
        .extra_start = options->extra_start,
        .hot = count,
        .zero_percent = options->zero_percent,
        .pattern = options->pattern,
        .generation = (uint32_t *) memory.base,
    };
    if (options->hot_mib && options->hot_mib < count / pages_in_mib)
        pages->hot = options->hot_mib * pages_in_mib;
}

uint64_t
pages_address(const Pages *pages, uint32_t page)
{
    if (page < pages->first)
        return pages->base + page * PAGE_BYTES;
    return pages->extra_start + (uint64_t) (page - pages->first) * PAGE_BYTES;
}

/* Where there is no memory nothing is kept. */
static int
keeps(volatile uint32_t *word)
{
    for (uint32_t sample = 0x5a5a5a5a; sample; sample = sample == 0x5a5a5a5a ? 0xa5a5a5a5 : 0) {
        *word = sample;
        if (*word != sample)
            return 0;
    }
    return 1;
}

int
pages_extra_is_there(const Pages *pages)
{
    uint32_t last = pages->first + pages->extra - 1;

    return keeps(pages_words(pages, pages->first)) && keeps(pages_words(pages, last));
}
