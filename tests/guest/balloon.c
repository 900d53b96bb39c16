/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finds the device on the first PCI bus, gives it one queue, and sends the numbers
 * of the pages, one buffer of them at a time.
 */
#include "balloon.h"

#include <stddef.h>

#include "clock.h"
#include "cpu.h"
#include "lowmem.h"
#include "pages.h"

enum {
    PCI_ADDRESS = 0xcf8,
    PCI_DATA = 0xcfc,
    PCI_DEVICES = 32,
    PCI_ENABLE = 0x80000000,
    PCI_COMMAND = 0x04,
    PCI_COMMAND_IO = 0x01,
    PCI_COMMAND_MASTER = 0x04,
    PCI_BAR0 = 0x10,
    BALLOON_ID = 0x10021af4,            /* device and vendor */

    FEATURES = 0x04,                    /* the driver's */
    QUEUE_PAGE = 0x08,
    QUEUE_ENTRIES = 0x0c,
    QUEUE_SELECT = 0x0e,
    QUEUE_NOTIFY = 0x10,
    STATUS = 0x12,
    ACTUAL = 0x18,                      /* in the device's own part: pages given back */

    STATUS_SEEN = 1,
    STATUS_DRIVER = 2,
    STATUS_READY = 4,

    QUEUE_MAX = 256,                    /* what there is room for below */
    NUMBERS = PAGE_BYTES / 4,           /* of pages in one buffer */
    ANSWER_MS = 1000,
};

typedef struct Descriptor {
    uint64_t address;
    uint32_t bytes;
    uint16_t flags;
    uint16_t next;
} Descriptor;

typedef struct Ring {                   /* both rings begin so */
    uint16_t flags;
    uint16_t index;
    uint16_t entries[];
} Ring;

typedef struct Queue {
    uint16_t io;
    uint32_t entries;
    volatile Descriptor *descriptors;
    volatile Ring *available;
    volatile Ring *used;
    volatile uint32_t *numbers;
} Queue;

static uint16_t
pci_address(uint32_t device, uint32_t reg)
{
    port_write32(PCI_ADDRESS, PCI_ENABLE | device << 11 | reg);
    return PCI_DATA;
}

/* The device's I/O ports, 0 if there is none. */
static uint16_t
find_device(void)
{
    for (uint32_t device = 0; device < PCI_DEVICES; device++) {
        uint32_t bar;

        if (port_read32(pci_address(device, 0)) != BALLOON_ID)
            continue;
        bar = port_read32(pci_address(device, PCI_BAR0));
        if (!(bar & 1))
            return 0;
        port_write16(pci_address(device, PCI_COMMAND), PCI_COMMAND_IO | PCI_COMMAND_MASTER);
        return bar & 0xfffc;
    }
    return 0;
}

static const char *
start_device(Queue *queue)
{
    uint16_t io = find_device();
    uint32_t rings;

    if (!io)
        return "no balloon with a legacy interface";
    port_write(io + STATUS, 0);
    port_write(io + STATUS, STATUS_SEEN | STATUS_DRIVER);
    port_write32(io + FEATURES, 0);
    port_write16(io + QUEUE_SELECT, 0); /* the one that inflates */
    *queue = (Queue) { .io = io, .entries = port_read16(io + QUEUE_ENTRIES) };
    if (queue->entries == 0 || queue->entries > QUEUE_MAX)
        return "the balloon's queue has an odd size";
    rings = (LOWMEM_BALLOON + queue->entries * sizeof(Descriptor));
    queue->descriptors = (volatile Descriptor *) LOWMEM_BALLOON;
    queue->available = (volatile Ring *) rings;
    rings += sizeof(Ring) + (queue->entries + 1) * sizeof(uint16_t);
    rings = (rings + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1u);
    queue->used = (volatile Ring *) rings;
    queue->numbers = (volatile uint32_t *) (LOWMEM_BALLOON + 3 * PAGE_BYTES);
    for (uint32_t at = LOWMEM_BALLOON; at < LOWMEM_BALLOON + 4 * PAGE_BYTES; at += 4)
        *(volatile uint32_t *) at = 0;
    port_write32(io + QUEUE_PAGE, LOWMEM_BALLOON / PAGE_BYTES);
    port_write(io + STATUS, STATUS_SEEN | STATUS_DRIVER | STATUS_READY);
    return NULL;
}

/* Sends @count numbers and waits until the device has taken them. */
static int
send_numbers(Queue *queue, uint32_t count)
{
    uint64_t end = cpu_ticks() + (uint64_t) clock_khz() * ANSWER_MS;
    uint16_t index = queue->available->index;

    queue->descriptors[0].address = (uint32_t) queue->numbers;
    queue->descriptors[0].bytes = count * 4;
    queue->available->entries[index % queue->entries] = 0;
    queue->available->index = ++index;
    port_write16(queue->io + QUEUE_NOTIFY, 0);
    while (queue->used->index != index)
        if (cpu_ticks() > end)
            return 0;
    return 1;
}

const char *
balloon_inflate(Span memory)
{
    uint32_t first = memory.base / PAGE_BYTES, count = memory.bytes / PAGE_BYTES;
    Queue queue;
    const char *problem = start_device(&queue);

    if (problem)
        return problem;
    for (uint32_t page = 0; page < count;) {
        uint32_t n = 0;

        for (; n < NUMBERS && page < count; n++, page++) {
            /* each has been written to, as a page that is given back has in general */
            *(volatile uint32_t *) ((first + page) * PAGE_BYTES) = page;
            queue.numbers[n] = first + page;
        }
        if (!send_numbers(&queue, n))
            return "the balloon does not answer";
    }
    port_write32(queue.io + ACTUAL, count);
    return NULL;
}
