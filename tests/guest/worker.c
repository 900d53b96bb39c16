/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The endless work on one share of the pages.
 */
#include "worker.h"

#include "clock.h"
#include "cpu.h"

enum {
    BEHIND_MS = 10,                     /* what was missed longer ago is not made up for */
};

static uint32_t
next_random(Worker *worker)
{
    worker->random = worker->random * 1664525u + 1013904223u;
    return worker->random;
}

static void
verify(Worker *worker, uint32_t page)
{
    Fault fault;

    if (pages_check(worker->pages, page, &fault))
        return;
    stats_bad(&worker->stats, worker->pages, page, &fault);
    pages_fill(worker->pages, page);    /* or every sweep would report it again */
}

/* One of this worker's pages: of the hot ones, or of those that came later. */
static uint32_t
random_page(Worker *worker)
{
    const Pages *pages = worker->pages;
    uint32_t choice = pages->hot + pages->count - pages->first;
    uint32_t page = (uint32_t) ((uint64_t) next_random(worker) * choice >> 32);
    uint32_t end = pages->hot;

    if (page >= pages->hot) {
        page += pages->first - pages->hot;
        end = pages->count;
    }
    page += worker->number - page % worker->workers;
    return page < end ? page : page - worker->workers;
}

static void
touch(Worker *worker)
{
    uint32_t page = random_page(worker);
    uint32_t word = next_random(worker) >> 22;
    volatile uint32_t *words = pages_words(worker->pages, page);
    uint64_t begin, end;

    begin = cpu_ticks();
    (void) words[word];
    end = cpu_ticks();
    stats_touch(&worker->stats, begin, end);
    verify(worker, page);
    pages_advance(worker->pages, page);
}

static void
sweep(Worker *worker)
{
    Stats *stats = &worker->stats;

    verify(worker, stats->swept * worker->workers + worker->number);
    stats->swept++;
    if (stats->swept * worker->workers + worker->number >= worker->pages->count) {
        stats->swept = 0;
        stats->sweeps++;
    }
}

static Pace
pace(uint32_t rate, uint32_t workers, uint64_t now)
{
    return (Pace) { rate ? divide((uint64_t) clock_khz() * 1000 * workers, rate) : 0, now };
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

void
worker_init(Worker *worker, uint32_t number, uint32_t workers, Pages *pages,
            const Options *options)
{
    uint64_t now = cpu_ticks();

    *worker = (Worker) {
        .number = number,
        .workers = workers,
        .random = options->seed + number * 0x9e3779b9u,
        .pages = pages,
        .touches = pace(options->rate, workers, now),
        .sweeping = pace(options->sweep, workers,
                         now + (uint64_t) clock_khz() * 1000 * options->rest),
    };
    stats_init(&worker->stats, now);
}

int
worker_step(Worker *worker, uint32_t sweeps, uint64_t now)
{
    int worked = 0;

    if (pace_take(&worker->touches, now)) {
        touch(worker);
        worked = 1;
    }
    if (worker->stats.sweeps == sweeps && pace_take(&worker->sweeping, now)) {
        sweep(worker);
        worked = 1;
    }
    return worked;
}

void
worker_publish(Worker *worker)
{
    char *end = (char *) (worker + 1);

    for (char *page = (char *) worker; page < end; page += PAGE_BYTES)
        cpu_publish((volatile uint32_t *) page);
}
