/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Time in the guest: the processor's tick counter, measured once against the
 * machine's timer. It stands still while the guest is stopped, so what it
 * counts is what the guest felt.
 */
#pragma once

#include <stdint.h>

/* The interrupt that stands for none. */
#define CLOCK_SPURIOUS_VECTOR 0x3f

/* Measures the counter; takes 50 ms. */
void clock_init(void);

/* Ticks in a millisecond. */
uint32_t clock_khz(void);

/* Microseconds in @ticks, UINT32_MAX if it is longer than that can say. */
uint32_t clock_us(uint64_t ticks);

/* Lets the timer wake clock_idle() once in a millisecond: on the first processor. */
void clock_start_timer(void);

/* The same on any other one, once the first has its timer. */
void clock_start_local_timer(void);

/* Halts the processor until the timer's next tick. */
void clock_idle(void);
