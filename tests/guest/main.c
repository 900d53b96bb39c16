/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guest that watches its own memory: it fills every page with contents only
 * it can predict, then for ever touches pages at random, checks that each holds
 * what was last written there, changes it, and in between verifies all of the
 * memory page by page. How long each first access took is what a migration did
 * to it.
 */
#include "clock.h"
#include "cpu.h"
#include "options.h"
#include "pages.h"
#include "serial.h"
#include "stats.h"

enum {
    MULTIBOOT_MAGIC = 0x2badb002,
    BEHIND_MS = 10,                     /* what was missed longer ago is not made up for */
};

/* So many times a second, as evenly as the timer allows. */
typedef struct Pace {
    uint64_t step;                      /* in ticks; 0: as fast as possible */
    uint64_t due;
} Pace;

typedef struct Guest {
    Options options;
    Pages pages;
    Stats stats;
    Pace touches;
    Pace sweeping;
    uint32_t random;
} Guest;

extern char data_begin[], image_end[];

void guest_main(uint32_t magic, const void *info);
void *memset(void *to, int byte, unsigned long count);
void *memcpy(void *to, const void *from, unsigned long count);

/* The compiler calls these for large assignments. */
void *
memset(void *to, int byte, unsigned long count)
{
    void *at = to;

    __asm__ volatile("rep stosb" : "+D"(at), "+c"(count) : "a"(byte) : "memory");
    return to;
}

void *
memcpy(void *to, const void *from, unsigned long count)
{
    void *at = to;

    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(count) : : "memory");
    return to;
}

static uint32_t
next_random(Guest *guest)
{
    guest->random = guest->random * 1664525u + 1013904223u;
    return guest->random;
}

static void
verify(Guest *guest, uint32_t page)
{
    Fault fault;

    if (pages_check(&guest->pages, page, &fault))
        return;
    stats_bad(&guest->stats, &guest->pages, page, &fault);
    pages_fill(&guest->pages, page);    /* or every sweep would report it again */
}

static void
touch(Guest *guest)
{
    uint32_t page = (uint32_t) ((uint64_t) next_random(guest) * guest->pages.hot >> 32);
    uint32_t word = next_random(guest) >> 22;
    volatile uint32_t *words = pages_words(&guest->pages, page);
    uint64_t begin, end;

    begin = cpu_ticks();
    (void) words[word];
    end = cpu_ticks();
    stats_touch(&guest->stats, begin, end);
    verify(guest, page);
    pages_advance(&guest->pages, page);
}

static void
sweep(Guest *guest)
{
    Stats *stats = &guest->stats;

    verify(guest, stats->swept);
    if (++stats->swept == guest->pages.count) {
        stats->swept = 0;
        stats->sweeps++;
    }
}

static Pace
pace(uint32_t rate, uint64_t now)
{
    return (Pace) { rate ? divide((uint64_t) clock_khz() * 1000, rate) : 0, now };
}

/* Whether it is time again; 1 at most once for each time. */
static int
pace_take(Pace *pace, uint64_t now)
{
    if (now < pace->due)
        return 0;
    pace->due += pace->step;
    if (now > pace->due + (uint64_t) clock_khz() * BEHIND_MS)
        pace->due = now;
    return 1;
}

static void
fill(Guest *guest)
{
    const Pages *pages = &guest->pages;

    line_begin("PCG BOOT");
    line_field("khz", clock_khz());
    line_field("pages", pages->count);
    line_field("hot", pages->hot);
    line_text(" base=");
    line_hex(pages->base);
    line_end();
    for (uint32_t page = 0; page < pages->count; page++) {
        pages_fill(&guest->pages, page);
        serial_pump();
    }
    line_begin("PCG READY");
    line_field("pages", pages->count);
    line_end();
}

/* The guest's own variables and stack. */
static void
publish_own_data(void)
{
    for (char *page = data_begin; page < image_end; page += PAGE_BYTES)
        cpu_publish((volatile uint32_t *) page);
}

static void
run(Guest *guest)
{
    uint64_t now = cpu_ticks();

    guest->touches = pace(guest->options.rate, now);
    guest->sweeping = pace(guest->options.sweep, now);
    clock_start_timer();
    stats_init(&guest->stats, now);
    for (;;) {
        int worked = 0;

        now = cpu_ticks();
        serial_pump();
        stats_report(&guest->stats, now);
        if (pace_take(&guest->touches, now)) {
            touch(guest);
            worked = 1;
        }
        if (pace_take(&guest->sweeping, now)) {
            sweep(guest);
            worked = 1;
        }
        publish_own_data();
        if (!worked)
            clock_idle();
    }
}

void
guest_main(uint32_t magic, const void *info)
{
    static Guest guest;
    Span memory;

    serial_init();
    if (magic != MULTIBOOT_MAGIC) {
        line_begin("PCG ERROR not started by a multiboot loader");
        line_end();
        serial_flush();
        return;
    }
    clock_init();
    options_read(info, &guest.options);
    memory = options_memory(info, (uint32_t) image_end);
    if (memory.bytes < 1024 * 1024) {
        line_begin("PCG ERROR no memory to work in");
        line_end();
        serial_flush();
        return;
    }
    pages_init(&guest.pages, memory, &guest.options);
    guest.random = guest.options.seed;
    fill(&guest);
    run(&guest);
}
