/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Words of eight bytes: the tag (whose page it is), the version, then the body of its generation
 * with the changes since. */
#include "config.h"

#include "tests/workload/contents.h"

#include <string.h>

#define WORDS (CONTENTS_PAGE / 8)
#define HEAD_WORDS 2
#define VERSIONS_PER_GENERATION 16
/* One generation in that many is zeros. */
#define ZERO_GENERATIONS 8

static guint64 mix(guint64 value)
{
    value += G_GUINT64_CONSTANT(0x9e3779b97f4a7c15);
    value = (value ^ value >> 30) * G_GUINT64_CONSTANT(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * G_GUINT64_CONSTANT(0x94d049bb133111eb);
    return value ^ value >> 31;
}

/* Never 0, so that it tells a page from zeros. */
static guint64 tag_of(const Contents *contents, guint64 page)
{
    return mix(contents->seed ^ mix(page)) | 1;
}

static guint32 generation_of(guint32 version)
{
    return (version - 1) / VERSIONS_PER_GENERATION;
}

static guint64 key_of(const Contents *contents, guint64 page, guint32 generation)
{
    return mix(tag_of(contents, page) + generation);
}

static gboolean is_zero(const Contents *contents, guint64 page, guint32 version)
{
    guint32 generation;

    if (version == 0)
        return TRUE;
    generation = generation_of(version);
    return generation > 0 && key_of(contents, page, generation) % ZERO_GENERATIONS == 0;
}

static guint64 body_word(const Contents *contents, guint64 key, guint i)
{
    static const char text[][8] = { "postcopy", "migrate ", "a guest ", "of pages", "a fault ",
                                    "the link", "requests", "        " };
    guint64 word;

    if (contents->kind == CONTENTS_RANDOM)
        return mix(key + i);
    memcpy(&word, text[mix(key + i) % G_N_ELEMENTS(text)], sizeof(word));
    return word;
}

/* The n-th change within a generation. */
static void apply_change(guint64 key, guint n, guint64 *words)
{
    guint64 change = mix(key ^ ((guint64)n << 32));

    words[HEAD_WORDS + change % (WORDS - HEAD_WORDS)] = mix(change);
}

void contents_make(const Contents *contents, guint64 page, guint32 version, guint8 *out)
{
    guint64 words[WORDS];
    guint64 key;

    if (is_zero(contents, page, version)) {
        memset(out, 0, CONTENTS_PAGE);
        return;
    }
    key = key_of(contents, page, generation_of(version));
    words[0] = tag_of(contents, page);
    words[1] = version;
    for (guint i = HEAD_WORDS; i < WORDS; i++)
        words[i] = body_word(contents, key, i);
    for (guint n = 1; n <= (version - 1) % VERSIONS_PER_GENERATION; n++)
        apply_change(key, n, words);
    memcpy(out, words, sizeof(words));
}

/* The tag is read by other threads at any time. */
static void put(guint8 *at, const guint8 *made)
{
    guint64 tag;

    memcpy(&tag, made, sizeof(tag));
    memcpy(at + sizeof(tag), made + sizeof(tag), CONTENTS_PAGE - sizeof(tag));
    __atomic_store_n((guint64 *)(gpointer)at, tag, __ATOMIC_RELAXED);
}

void contents_step(const Contents *contents, guint64 page, guint32 version, guint8 *at)
{
    guint32 next = version + 1;
    guint64 *words = (guint64 *)(gpointer)at;

    if (version == 0 || generation_of(next) != generation_of(version)) {
        guint8 made[CONTENTS_PAGE];

        contents_make(contents, page, next, made);
        put(at, made);
    } else if (!is_zero(contents, page, next)) {
        words[1] = next;
        apply_change(key_of(contents, page, generation_of(next)),
                     (next - 1) % VERSIONS_PER_GENERATION, words);
    }
}

gboolean contents_check(const Contents *contents, guint64 page, guint32 version, const guint8 *at)
{
    guint8 made[CONTENTS_PAGE];

    contents_make(contents, page, version, made);
    return memcmp(made, at, CONTENTS_PAGE) == 0;
}

static guint64 read_tag(const guint8 *at)
{
    return __atomic_load_n((const guint64 *)(gconstpointer)at, __ATOMIC_RELAXED);
}

gboolean contents_check_tag(const Contents *contents, guint64 page, const guint8 *at)
{
    guint64 tag = read_tag(at);

    return tag == 0 || tag == tag_of(contents, page);
}

char *contents_describe(const Contents *contents, guint64 pages, const guint8 *at)
{
    guint64 tag = read_tag(at);
    guint64 version;

    memcpy(&version, at + sizeof(tag), sizeof(version));
    if (tag == 0)
        return g_strdup("zeros");
    for (guint64 page = 0; page < pages; page++)
        if (tag == tag_of(contents, page))
            return g_strdup_printf("version %" G_GUINT64_FORMAT " of page %" G_GUINT64_FORMAT
                                   "%s", version, page,
                                   contents_check(contents, page, (guint32)version, at)
                                       ? "" : ", torn");
    return g_strdup("not of this memory");
}

guint64 contents_hash(const guint8 *at)
{
    guint64 hash = 0;

    for (guint i = 0; i < WORDS; i++) {
        guint64 word;

        memcpy(&word, at + i * sizeof(word), sizeof(word));
        hash = (hash ^ word) * G_GUINT64_CONSTANT(0x9fb21c651e98df25);
        hash ^= hash >> 29;
    }
    return hash;
}
