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
    BEHIND_MS = 10,                     /* touches missed longer ago are not made up for */
};

typedef struct Guest {
    Options options;
    Pages pages;
    Stats stats;
    uint32_t random;
    uint32_t sweep_wait;                /* touches until the sweep goes on */
} Guest;

extern char image_end[];

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

    if (guest->options.sweep == 0 || --guest->sweep_wait)
        return;
    guest->sweep_wait = guest->options.sweep;
    verify(guest, stats->swept);
    if (++stats->swept == guest->pages.count) {
        stats->swept = 0;
        stats->sweeps++;
    }
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

static void
run(Guest *guest)
{
    uint32_t rate = guest->options.rate;
    uint64_t step = rate ? divide((uint64_t) clock_khz() * 1000, rate) : 0;
    uint64_t due = cpu_ticks();

    if (rate)
        clock_start_timer();
    stats_init(&guest->stats, due);
    for (;;) {
        uint64_t now = cpu_ticks();

        serial_pump();
        stats_report(&guest->stats, now);
        if (now < due) {
            clock_idle();
            continue;
        }
        due += step;
        if (now > due + (uint64_t) clock_khz() * BEHIND_MS)
            due = now;
        touch(guest);
        sweep(guest);
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
    guest.sweep_wait = guest.options.sweep;
    fill(&guest);
    run(&guest);
}
