/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The interrupt controller within each processor: it wakes the other ones, and
 * is their timer. A processor sees its own at this address.
 */
#pragma once

#define APIC_BASE 0xfee00000
#define APIC_END_OF_INTERRUPT 0xb0

/* What follows is of no use to the assembler. */
#ifndef __ASSEMBLER__

#include <stdint.h>

enum {
    APIC_SPURIOUS = 0xf0,
    APIC_COMMAND = 0x300,
    APIC_TIMER = 0x320,
    APIC_TIMER_START = 0x380,
    APIC_TIMER_DIVIDE = 0x3e0,

    APIC_ENABLE = 0x100,                /* in APIC_SPURIOUS */
    APIC_INIT_OTHERS = 0xc4500,         /* in APIC_COMMAND: reset all but this one */
    APIC_START_OTHERS = 0xc4600,        /* … and start them, at this page */
    APIC_PERIODIC = 0x20000,            /* in APIC_TIMER */
    APIC_DIVIDE_BY_1 = 0x0b,
};

static inline void
apic_write(uint32_t reg, uint32_t value)
{
    *(volatile uint32_t *) (APIC_BASE + reg) = value;
}

#endif
