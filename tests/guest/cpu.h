/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The few machine instructions that C has no words for, and 64-bit division,
 * which a 32-bit program without the compiler's library must do itself.
 */
#pragma once

#include <stdint.h>

static inline void
port_write(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t
port_read(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint64_t
cpu_ticks(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t) high << 32 | low;
}

/*
 * Makes sure that what was stored in the page of @word is not missed by a
 * migration. QEMU's interpreter (TCG) remembers in its translation cache that a
 * page is known to be dirty; when a migration asks for the dirty pages in the
 * very moment in which it comes to that, later stores to the page go unnoticed.
 * So the translation is dropped, and the page stored to once more: by then
 * either the page still counts as dirty, or it is made so now, and either way
 * it is sent again with all that was stored before. Not needed, and harmless,
 * with hardware virtualisation.
 */
static inline void
cpu_publish(volatile uint32_t *word)
{
    __asm__ volatile("invlpg %0\n\torl $0, %0" : "+m"(*word) : : "memory", "cc");
}

/* Forgets every cached address translation.
 *
 * This works around a fault of QEMU's emulated processor (TCG; seen with 7.2), which
 * notes the first write to a page as a change and lets later ones pass unnoted. A
 * migration that takes the notes away must make the translations note again, but
 * QEMU leaves that out when every page noted was waiting to be sent anyhow. What
 * the guest writes to those pages from then on is lost: its stack and ledger first,
 * in up to four of five migrations of a busy machine. New translations note. */
static inline void
cpu_forget_translations(void)
{
    uint32_t cr4;

    __asm__ volatile("movl %%cr4, %0\n\t"
                     "xorl $0x10, %0\n\t"      /* page size extension: any change does it */
                     "movl %0, %%cr4" : "=&r"(cr4) : : "memory");
}

/* Two steps of the processor's 64/32 division: the first one's remainder is
 * less than @divisor, so the second cannot overflow. */
static inline uint64_t
divide(uint64_t number, uint32_t divisor)
{
    uint32_t high = (uint32_t) (number >> 32);
    uint32_t low = (uint32_t) number;
    uint32_t high_quotient = high / divisor;
    uint32_t rest = high % divisor;
    uint32_t quotient;

    __asm__("divl %2" : "=a"(quotient), "+d"(rest) : "r"(divisor), "0"(low) : "cc");
    return (uint64_t) high_quotient << 32 | quotient;
}
