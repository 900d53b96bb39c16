/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads the multiboot information: command line and memory map.
 */
#include "options.h"

#include <stddef.h>

enum {
    INFO_CMDLINE = 1 << 2,
    INFO_MEMORY_MAP = 1 << 6,
    MEMORY_AVAILABLE = 1,
};

/* The fields before the ones used here are kept for their place alone. */
typedef struct MultibootInfo {
    uint32_t flags;
    uint32_t memory_low, memory_high;
    uint32_t boot_device;
    uint32_t cmdline;
    uint32_t modules[2];
    uint32_t symbols[4];
    uint32_t map_bytes;
    uint32_t map;
} MultibootInfo;

typedef struct __attribute__((packed)) MapEntry {
    uint32_t size;                      /* of what follows */
    uint64_t base;
    uint64_t bytes;
    uint32_t type;
} MapEntry;

/* What follows "key=" if a word of @line begins so, else NULL. */
static const char *
find_value(const char *line, const char *key)
{
    while (*line) {
        const char *k = key;

        while (*line == ' ')
            line++;
        while (*k && *line == *k) {
            line++;
            k++;
        }
        if (!*k && *line == '=')
            return line + 1;
        while (*line && *line != ' ')
            line++;
    }
    return NULL;
}

static uint32_t
number_or(const char *line, const char *key, uint32_t otherwise)
{
    const char *text = find_value(line, key);
    uint32_t number = 0;

    if (!text)
        return otherwise;
    for (; *text >= '0' && *text <= '9'; text++)
        number = number * 10 + (uint32_t) (*text - '0');
    return number;
}

void
options_read(const void *data, Options *options)
{
    const MultibootInfo *info = data;
    const char *line = info->flags & INFO_CMDLINE ? (const char *) info->cmdline : "";
    const char *pattern = find_value(line, "pattern");

    *options = (Options) {
        .ram_mib = number_or(line, "ram", 0),
        .hot_mib = number_or(line, "hot", 0),
        .zero_percent = number_or(line, "zero", 0),
        .compressible = pattern && *pattern == 't',
        .rate = number_or(line, "rate", 0),
        .sweep = number_or(line, "sweep", 40000),
        .seed = number_or(line, "seed", 1),
    };
}

static Span
span_between(uint64_t base, uint64_t end, uint32_t start)
{
    const uint64_t limit = 0xfffff000u;
    Span span = { 0, 0 };

    if (base < start)
        base = start;
    if (end > limit)
        end = limit;
    base = (base + 4095) & ~4095ull;
    end &= ~4095ull;
    if (base < end)
        span = (Span) { (uint32_t) base, (uint32_t) (end - base) };
    return span;
}

Span
options_memory(const void *data, uint32_t start)
{
    const MultibootInfo *info = data;
    Span largest = { 0, 0 };
    uint32_t at = info->map;

    if (!(info->flags & INFO_MEMORY_MAP))
        return largest;
    while (at < info->map + info->map_bytes) {
        const MapEntry *entry = (const MapEntry *) at;
        Span span = span_between(entry->base, entry->base + entry->bytes, start);

        if (entry->type == MEMORY_AVAILABLE && span.bytes > largest.bytes)
            largest = span;
        at += entry->size + sizeof entry->size;
    }
    return largest;
}
