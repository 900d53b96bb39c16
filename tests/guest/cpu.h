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

static inline void
port_write16(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline void
port_write32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint16_t
port_read16(uint16_t port)
{
    uint16_t value;

    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint32_t
port_read32(uint16_t port)
{
    uint32_t value;

    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint64_t
cpu_ticks(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t) high << 32 | low;
}

/* Two halves of one remedy, before and after storing to the page of @word, without
 * which a migration may miss what was stored.
 *
 * QEMU's emulated processor (TCG; seen with 7.2) notes the first store to a page as
 * a change and lets later ones pass through a cached translation. A migration that
 * takes the notes away must make the translations note again, but QEMU leaves that
 * out when each noted page was waiting to be sent anyhow; what is stored in those
 * pages from then on is lost, in up to four of five migrations of a busy machine.
 *
 * So the translation is dropped, and the next store is noted: all that a single store
 * needs. After several of them it is dropped again and the page stored to once more,
 * as the notes may have been taken away in between: the new note then comes after all
 * that is to be sent. Each processor has translations of its own, so each does this for
 * what it has stored; the lock is for words that others change. Harmless with hardware
 * virtualisation. */
static inline void
cpu_forget(volatile uint32_t *word)
{
    __asm__ volatile("invlpg %0" : : "m"(*word) : "memory");
}

static inline void
cpu_publish(volatile uint32_t *word)
{
    __asm__ volatile("invlpg %0\n\tlock orl $0, %0" : "+m"(*word) : : "memory", "cc");
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
