/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the loader tells the guest: which memory there is, and its command line.
 *
 *   ram=MIB        how much memory to use [all of it]
 *   hot=MIB        how much of that is touched at random, from its start [all]
 *   zero=PERCENT   share of the pages outside the hot part left zero [0]
 *   pattern=NAME   random: does not compress; text: compresses well; half: every other page is
 *                  text [random]
 *   rate=N         touches per second [0: as many as possible]
 *   sweep=N        pages per second of the verifying sweep [40000; 0: as many as possible]
 *   rest=SECONDS   time before the sweep begins [0]
 *   seed=N         where the random choice begins [1]
 *   cpus=N         processors to use [1]
 *   balloon=MIB    memory at the end that is given back to the host by its balloon [0]
 *   extra=START:MIB  more memory to use, above 4 GiB, from an address in hexadecimal;
 *                  waits for it if it is not there yet [none]
 *   report=MS      time between two reports [500]
 */
#pragma once

#include <stdint.h>

typedef enum Pattern {
    PATTERN_RANDOM,
    PATTERN_TEXT,
    PATTERN_HALF,                       /* pages with odd numbers are text, the others random */
} Pattern;

typedef struct Options {
    uint32_t ram_mib;                   /* 0: all */
    uint32_t hot_mib;                   /* 0: all */
    uint32_t zero_percent;
    Pattern pattern;
    uint32_t rate;
    uint32_t sweep;
    uint32_t rest;
    uint32_t seed;
    uint32_t report_ms;
    uint32_t cpus;
    uint32_t balloon_mib;
    uint64_t extra_start;
    uint32_t extra_mib;                 /* 0: none */
} Options;

/* A run of free memory. */
typedef struct Span {
    uint32_t base;
    uint32_t bytes;
} Span;

/* @info is the multiboot information. */
void options_read(const void *info, Options *options);

/* The largest run of memory below 4 GiB and after @start; 0 bytes if none. */
Span options_memory(const void *info, uint32_t start);
