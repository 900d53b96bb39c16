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
read_number(const char *text)
{
    uint32_t number = 0;

    for (; *text >= '0' && *text <= '9'; text++)
        number = number * 10 + (uint32_t) (*text - '0');
    return number;
}

static uint32_t
number_or(const char *line, const char *key, uint32_t otherwise)
{
    const char *text = find_value(line, key);

    return text ? read_number(text) : otherwise;
}

/* START:MIB */
static void
read_extra(const char *text, Options *options)
{
    uint64_t start = 0;

    if (!text)
        return;
    for (; *text && *text != ' ' && *text != ':'; text++)
        start = start << 4 | (uint32_t) (*text <= '9' ? *text - '0' : (*text | 0x20) - 'a' + 10);
    if (*text != ':')
        return;
    options->extra_start = start;
    options->extra_mib = read_number(text + 1);
}

/* By its first letter. */
static Pattern
pattern_or_random(const char *name)
{
    if (name && *name == 't')
        return PATTERN_TEXT;
    return name && *name == 'h' ? PATTERN_HALF : PATTERN_RANDOM;
}

void
options_read(const void *data, Options *options)
{
    const MultibootInfo *info = data;
    const char *line = info->flags & INFO_CMDLINE ? (const char *) info->cmdline : "";

    *options = (Options) {
        .ram_mib = number_or(line, "ram", 0),
        .hot_mib = number_or(line, "hot", 0),
        .zero_percent = number_or(line, "zero", 0),
        .pattern = pattern_or_random(find_value(line, "pattern")),
        .rate = number_or(line, "rate", 0),
        .sweep = number_or(line, "sweep", 40000),
        .rest = number_or(line, "rest", 0),
        .seed = number_or(line, "seed", 1),
        .report_ms = number_or(line, "report", 500),
        .cpus = number_or(line, "cpus", 1),
        .balloon_mib = number_or(line, "balloon", 0),
    };
    read_extra(find_value(line, "extra"), options);
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
