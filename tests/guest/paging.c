/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The page tables: four directories, then as many tables as are needed one after
 * the other, then the one with the interrupt controller.
 */
#include "paging.h"

#include "apic.h"
#include "cpu.h"
#include "pages.h"

enum {
    ENTRIES = 512,
    DIRECTORIES = 4,
    TABLE_BYTES = ENTRIES * PAGE_BYTES, /* what one table maps */

    PRESENT = 0x01,
    WRITABLE = 0x02,
    USED = 0x60,                        /* accessed and changed: the processor writes nothing */
};

/* The tables lie below this, and so does what they map. */
static const uint32_t limit = APIC_BASE - TABLE_BYTES;

static uint64_t roots[DIRECTORIES] __attribute__((aligned(32)));
static uint64_t *directories, *entries;
static uint32_t tables;

int
paging_reserve(Span *memory, uint64_t extra_bytes)
{
    uint64_t end = (uint64_t) memory->base + memory->bytes + extra_bytes;
    uint32_t bytes;

    if (end > limit)
        return 0;
    tables = ((uint32_t) end + TABLE_BYTES - 1) / TABLE_BYTES;
    bytes = (DIRECTORIES + tables + 1) * PAGE_BYTES;
    if (memory->bytes < bytes)
        return 0;
    directories = (uint64_t *) memory->base;
    entries = directories + DIRECTORIES * ENTRIES;
    memory->base += bytes;
    memory->bytes -= bytes;
    return 1;
}

static void
set_entry(uint64_t *entry, uint64_t address, uint32_t flags)
{
    *entry = address | flags;
    cpu_publish((volatile uint32_t *) entry);
}

void
paging_map(uint32_t address, uint64_t physical, uint32_t bytes)
{
    uint32_t apic_table = APIC_BASE / TABLE_BYTES;
    uint64_t *apic_entries = entries + tables * ENTRIES;

    for (uint32_t i = 0; i < DIRECTORIES * ENTRIES; i++)
        set_entry(&directories[i], i < tables ? (uint32_t) (entries + i * ENTRIES) : 0,
                  i < tables ? PRESENT | WRITABLE | USED : 0);
    set_entry(&directories[apic_table], (uint32_t) apic_entries, PRESENT | WRITABLE | USED);
    for (uint32_t i = 0; i < tables * ENTRIES; i++)
        set_entry(&entries[i], i * PAGE_BYTES, PRESENT | WRITABLE | USED);
    for (uint32_t at = 0; at < bytes; at += PAGE_BYTES)
        set_entry(&entries[(address + at) / PAGE_BYTES], physical + at, PRESENT | WRITABLE | USED);
    for (uint32_t i = 0; i < ENTRIES; i++)
        set_entry(&apic_entries[i], apic_table * TABLE_BYTES + i * PAGE_BYTES,
                  PRESENT | WRITABLE | USED);
    for (uint32_t i = 0; i < DIRECTORIES; i++)
        roots[i] = (uint32_t) (directories + i * ENTRIES) | PRESENT;
}

void
paging_start(void)
{
    uint32_t scratch;

    if (!entries)
        return;
    __asm__ volatile("movl %1, %%cr3\n\t"
                     "movl %%cr4, %0\n\t"
                     "orl $0x20, %0\n\t"        /* PAE */
                     "movl %0, %%cr4\n\t"
                     "movl %%cr0, %0\n\t"
                     "orl $0x80000000, %0\n\t"  /* paging */
                     "movl %0, %%cr0\n\t"
                     : "=&r"(scratch) : "r"(roots) : "memory", "cc");
}
