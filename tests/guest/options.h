/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the loader tells the guest: which memory there is, and its command line.
 *
 *   ram=MIB        how much memory to use [all of it]
 *   hot=MIB        how much of that is touched at random, from its start [all]
 *   zero=PERCENT   share of the pages outside the hot part left zero [0]
 *   pattern=NAME   random: does not compress; text: compresses well [random]
 *   rate=N         touches per second [0: as many as possible]
 *   sweep=N        pages per second of the verifying sweep [40000; 0: as many as possible]
 *   seed=N         where the random choice begins [1]
 */
#pragma once

#include <stdint.h>

typedef struct Options {
    uint32_t ram_mib;                   /* 0: all */
    uint32_t hot_mib;                   /* 0: all */
    uint32_t zero_percent;
    uint32_t compressible;
    uint32_t rate;
    uint32_t sweep;
    uint32_t seed;
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
