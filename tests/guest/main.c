/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guest that watches its own memory: it fills every page with contents only
 * it can predict, then for ever touches pages at random, checks that each holds
 * what was last written there, changes it, and in between verifies all of the
 * memory page by page. How long each first access took is what a migration did
 * to it.
 */
#include "balloon.h"
#include "clock.h"
#include "cpu.h"
#include "options.h"
#include "pages.h"
#include "paging.h"
#include "serial.h"
#include "smp.h"
#include "stats.h"
#include "worker.h"

enum {
    MULTIBOOT_MAGIC = 0x2badb002,
    BYTES_IN_MIB = 1024 * 1024,
    LOOK_MS = 100,                      /* between two looks whether memory is there */
};

typedef struct Guest {
    Options options;
    Pages pages;
    Reporter reporter;
    uint64_t look_for_extra;            /* when next */
    volatile uint32_t at_work;          /* the other processors may begin */
} Guest;

static Guest guest;
static Worker workers[SMP_MAX] __attribute__((section(".bss.others")));

extern char data_begin[], others_begin[], image_end[];

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

/* Ends the guest. */
static void
fail(const char *why)
{
    line_begin("PCG ERROR ");
    line_text(why);
    line_end();
    serial_flush();
}

static void
fill_pages(uint32_t begin, uint32_t end, const char *what)
{
    for (uint32_t page = begin; page < end; page++) {
        pages_fill(&guest.pages, page);
        serial_pump();
    }
    line_begin("PCG ");
    line_text(what);
    line_field("pages", end - begin);
    line_end();
}

static void
say_boot(void)
{
    line_begin("PCG BOOT");
    line_field("khz", clock_khz());
    line_field("pages", guest.pages.count);
    line_field("hot", guest.pages.hot);
    line_text(" base=");
    line_hex(guest.pages.base);
    line_field("cpus", guest.options.cpus);
    line_end();
}

/* Takes the extra memory into use once it is there. */
static void
look_for_extra(uint64_t now)
{
    Pages *pages = &guest.pages;

    if (pages->count == pages->first + pages->extra || now < guest.look_for_extra)
        return;
    guest.look_for_extra = now + (uint64_t) clock_khz() * LOOK_MS;
    if (!pages_extra_is_there(pages))
        return;
    fill_pages(pages->first, pages->first + pages->extra, "EXTRA");
    pages->count = pages->first + pages->extra;
}

static void
publish(char *begin, char *end)
{
    for (char *page = begin; page < end; page += PAGE_BYTES)
        cpu_publish((volatile uint32_t *) page);
}

void
smp_main(uint32_t number)
{
    Worker *worker = &workers[number];

    paging_start();
    clock_start_local_timer();
    while (!guest.at_work)
        clock_idle();
    for (;;) {
        int worked = worker_step(worker, reporter_sweeps(&guest.reporter), cpu_ticks());

        worker_publish(worker);
        publish(smp_stack(number), smp_stack(number) + SMP_STACK_BYTES);
        if (!worked)
            clock_idle();
    }
}

/* The first processor also speaks for all. */
static void
run(void)
{
    for (;;) {
        uint64_t now = cpu_ticks();
        int worked;

        serial_pump();
        reporter_run(&guest.reporter, now);
        look_for_extra(now);
        worked = worker_step(&workers[0], reporter_sweeps(&guest.reporter), now);
        worker_publish(&workers[0]);
        publish(data_begin, others_begin);
        if (!worked)
            clock_idle();
    }
}

static int
start_all(void)
{
    uint32_t cpus;

    clock_start_timer();
    cpus = smp_start(guest.options.cpus);
    if (cpus != guest.options.cpus) {
        fail("the other processors do not start");
        return 0;
    }
    reporter_init(&guest.reporter, &guest.pages, &guest.options, cpu_ticks());
    for (uint32_t i = 0; i < cpus; i++) {
        worker_init(&workers[i], i, cpus, &guest.pages, &guest.options);
        guest.reporter.stats[i] = &workers[i].stats;
    }
    guest.reporter.count = cpus;
    guest.at_work = 1;
    return 1;
}

static int
give_back(Span *memory)
{
    uint32_t bytes = guest.options.balloon_mib * BYTES_IN_MIB;
    const char *problem = "more to be given back than there is";

    if (bytes == 0)
        return 1;
    if (bytes < memory->bytes) {
        memory->bytes -= bytes;
        problem = balloon_inflate((Span) { memory->base + memory->bytes, bytes });
    }
    if (problem) {
        fail(problem);
        return 0;
    }
    line_begin("PCG BALLOON");
    line_field("pages", bytes / PAGE_BYTES);
    line_end();
    return 1;
}

static int
lay_out(const void *info)
{
    const Options *options = &guest.options;
    Span memory = options_memory(info, (uint32_t) image_end);

    if (!give_back(&memory))
        return 0;
    if (options->extra_mib &&
        !paging_reserve(&memory, (uint64_t) options->extra_mib * BYTES_IN_MIB)) {
        fail("more memory than can be mapped");
        return 0;
    }
    if (memory.bytes < BYTES_IN_MIB) {
        fail("no memory to work in");
        return 0;
    }
    pages_init(&guest.pages, memory, options);
    if (options->extra_mib)
        paging_map(guest.pages.base + guest.pages.first * PAGE_BYTES, options->extra_start,
                   options->extra_mib * BYTES_IN_MIB);
    paging_start();
    return 1;
}

void
guest_main(uint32_t magic, const void *info)
{
    serial_init();
    if (magic != MULTIBOOT_MAGIC) {
        fail("not started by a multiboot loader");
        return;
    }
    clock_init();
    options_read(info, &guest.options);
    if (!lay_out(info))
        return;
    say_boot();
    fill_pages(0, guest.pages.first, "READY");
    if (start_all())
        run();
}
