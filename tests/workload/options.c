/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/workload/options.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define THREADS_MAX 1024

/* As they stand on the command line. */
typedef struct {
    gboolean source;
    gboolean destination;
    char **regions;
    char *pattern;
    gint threads;
    gint64 rate;
    gint64 seed;
    gint writes;
} Words;

static void words_clear(Words *words)
{
    g_strfreev(words->regions);
    g_free(words->pattern);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Words, words_clear)

static gboolean refuse(const char *what, GError **error)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, "%s", what);
    return FALSE;
}

/* What is done to a region's memory, beside what it is said to be. */
typedef struct {
    gboolean locked;
    gboolean thp;
} Treatment;

static gboolean take_treatment(const char *word, Treatment *treatment)
{
    if (strcmp(word, "locked") == 0)
        treatment->locked = TRUE;
    else if (strcmp(word, "thp") == 0)
        treatment->thp = TRUE;
    else
        return FALSE;
    return TRUE;
}

static gboolean treat(const Region *region, const Treatment *treatment, GError **error)
{
    if (treatment->thp && madvise(region->address, region->length, MADV_HUGEPAGE) < 0)
        return refuse(g_strerror(errno), error);
    if (treatment->locked && mlock(region->address, region->length) < 0)
        return refuse(g_strerror(errno), error);
    return TRUE;
}

static gboolean flags_of(const char *words, uint32_t *ret_flags, Treatment *ret_treatment,
                         GError **error)
{
    static const struct {
        const char *name;
        uint32_t flag;
    } known[] = { { "shared", POSTCOPY_REGION_SHARED },
                  { "pmem", POSTCOPY_REGION_PMEM },
                  { "ignored", POSTCOPY_REGION_IGNORED },
                  { "stays", 0 } };
    g_auto(GStrv) names = g_strsplit(words, ",", -1);

    *ret_flags = POSTCOPY_REGION_MIGRATABLE;
    *ret_treatment = (Treatment){ 0 };
    for (guint i = 0; names[i]; i++) {
        guint k;

        if (take_treatment(names[i], ret_treatment))
            continue;
        for (k = 0; k < G_N_ELEMENTS(known) && strcmp(names[i], known[k].name) != 0; k++)
            continue;
        if (k == G_N_ELEMENTS(known))
            return refuse("a region's flags are shared, pmem, ignored, stays (not migratable), "
                          "locked (mlock), thp (MADV_HUGEPAGE)", error);
        if (known[k].flag == 0)
            *ret_flags &= ~(uint32_t)POSTCOPY_REGION_MIGRATABLE;
        *ret_flags |= known[k].flag;
    }
    return TRUE;
}

static gboolean add_regions(Options *options, char **regions, GError **error)
{
    for (guint i = 0; regions && regions[i]; i++) {
        g_autofree char *words = NULL;
        const Region *region;
        uint32_t flags;
        Treatment treatment;

        if (!memory_add(options->memory, regions[i], &words, error) ||
            !flags_of(words, &flags, &treatment, error))
            return FALSE;
        region = memory_region(options->memory, i);
        if (!treat(region, &treatment, error))
            return FALSE;
        if (region->fd >= 0)
            flags |= POSTCOPY_REGION_SHARED;
        g_array_append_val(options->region_flags, flags);
    }
    return TRUE;
}

static gboolean take(const Words *words, Options *options, GError **error)
{
    GuestConfig *guest = &options->guest;

    if (words->source == words->destination || !words->regions)
        return refuse("say --source or --destination, and --region at least once", error);
    if (words->threads < 1 || words->threads > THREADS_MAX || words->rate < 0 ||
        words->writes < 0 || words->writes > 100)
        return refuse("--threads is 1 to 1024, --rate 0 or more, --writes 0 to 100", error);
    options->side = words->source ? POSTCOPY_SOURCE : POSTCOPY_DESTINATION;
    guest->pattern = pattern_from_name(words->pattern ? words->pattern : "random");
    if (guest->pattern == PATTERN_MAX)
        return refuse("--pattern is sequential, random, hot, zero, text or herd", error);
    guest->threads = (guint)words->threads;
    guest->rate = (guint64)words->rate;
    guest->seed = (guint64)words->seed;
    guest->writes = (guint)words->writes;
    if (!options->name)
        options->name = g_strdup("workload");
    return add_regions(options, words->regions, error);
}

gboolean options_parse(int argc, char **argv, Options *ret_options, GError **error)
{
    g_auto(Words) words = { .threads = 4, .rate = 20000, .seed = 1, .writes = 50 };
    Options *o = ret_options;
    const GOptionEntry entries[] = {
        { "source", 0, 0, G_OPTION_ARG_NONE, &words.source, "the guest begins here", NULL },
        { "destination", 0, 0, G_OPTION_ARG_NONE, &words.destination, "it comes here", NULL },
        { "name", 0, 0, G_OPTION_ARG_STRING, &o->name, "of the guest [workload]", "NAME" },
        { "socket", 0, 0, G_OPTION_ARG_FILENAME, &o->socket, "of the daemon", "PATH" },
        { "region", 0, 0, G_OPTION_ARG_STRING_ARRAY, &words.regions,
          "NAME:anon|shmem|huge:MIB[:FLAG,…], again for each", "SPEC" },
        { "pattern", 0, 0, G_OPTION_ARG_STRING, &words.pattern, "of the touches [random]", "NAME" },
        { "threads", 0, 0, G_OPTION_ARG_INT, &words.threads, "[4]", "N" },
        { "rate", 0, 0, G_OPTION_ARG_INT64, &words.rate,
          "touches a second, 0: no limit [20000]", "N" },
        { "writes", 0, 0, G_OPTION_ARG_INT, &words.writes, "percent of them [50]", "N" },
        { "seed", 0, 0, G_OPTION_ARG_INT64, &words.seed, "[1]", "N" },
        { "hashes", 0, 0, G_OPTION_ARG_NONE, &o->hashes, "move a hash of each page", NULL },
        { "own-log", 0, 0, G_OPTION_ARG_NONE, &o->own_log, "log writes in this process", NULL },
        { "idle", 0, 0, G_OPTION_ARG_NONE, &o->idle, "no threads at the source", NULL },
        { "set", 0, 0, G_OPTION_ARG_STRING_ARRAY, &o->settings, "as the command", "NAME=VALUE" },
        { 0 },
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);

    *o = (Options){ .memory = memory_new() };
    o->region_flags = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    g_option_context_add_main_entries(context, entries, NULL);
    return g_option_context_parse(context, &argc, &argv, error) && take(&words, o, error);
}

void options_clear(Options *options)
{
    g_free(options->name);
    g_free(options->socket);
    g_strfreev(options->settings);
    memory_free(options->memory);
    g_array_unref(options->region_flags);
}
