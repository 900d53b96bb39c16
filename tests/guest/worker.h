/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What each processor does: touch its share of the pages at random, and verify
 * them in turn. Of n processors the one with number i has the pages whose numbers
 * leave the remainder i, so two never work on one page, but on every few pages.
 */
#pragma once

#include <stdint.h>

#include "options.h"
#include "pages.h"
#include "stats.h"

/* So many times a second, as evenly as the timer allows. */
typedef struct Pace {
    uint64_t step;                      /* in ticks; 0: as fast as possible */
    uint64_t due;
} Pace;

/* In pages of its own, which only its processor writes to. */
typedef struct __attribute__((aligned(PAGE_BYTES))) Worker {
    uint32_t number;
    uint32_t workers;                   /* how many there are */
    uint32_t random;
    Pages *pages;
    Pace touches;
    Pace sweeping;
    Stats stats;
} Worker;

void worker_init(Worker *worker, uint32_t number, uint32_t workers, Pages *pages,
                 const Options *options);

/* Does what is due, and nothing twice; 0 if nothing was. @sweeps is how often all
 * workers have verified their shares: none begins anew before the others are done. */
int worker_step(Worker *worker, uint32_t sweeps, uint64_t now);

/* Makes the worker's own variables safe from what cpu.h tells. */
void worker_publish(Worker *worker);
