/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a destination's memory is mapped: with transparent huge pages or without, locked or not.
 * Post-copy needs pages that can be missing one by one. What the process had is looked up, changed
 * for as long as needed, and put back. */
#include "config.h"

#include "client/client_priv.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define SMAPS "/proc/self/smaps"
#define THP "/sys/kernel/mm/transparent_hugepage/"

/* ---- as it is ---- */

static bool has_flag(const char *flags, const char *flag)
{
    const char *at = strstr(flags, flag);

    /* Each is two letters, with a blank on either side of it. */
    return at && at[-1] == ' ' && (at[2] == ' ' || at[2] == '\n');
}

/* The part of a mapping that lies in a region, if there is one. Returns its bytes. */
static int add_part(PostcopyClient *client, unsigned region, uintptr_t from, uintptr_t to,
                    const char *flags)
{
    const Region *r = &client->regions[region];
    uintptr_t begin = (uintptr_t)r->address, end = begin + r->length;
    Mapping *more;

    if (from < begin)
        from = begin;
    if (to > end)
        to = end;
    if (from >= to || (r->flags & POSTCOPY_REGION_IGNORED))
        return 0;
    more = realloc(client->mappings, (client->n_mappings + 1) * sizeof *more);
    if (!more)
        return client_fail(client, ENOMEM, "Out of memory");
    client->mappings = more;
    more[client->n_mappings++] = (Mapping){
        .region = region,
        .address = r->address + (from - begin),
        .length = to - from,
        .has_thp = has_flag(flags, "hg"),
        .has_no_thp = has_flag(flags, "nh"),
        .is_locked = has_flag(flags, "lo"),
        .is_locked_on_fault = has_flag(flags, "lf"),
    };
    return 0;
}

static int read_mappings(PostcopyClient *client, FILE *smaps)
{
    unsigned long from = 0, to = 0, first, last;
    char *line = NULL;
    size_t size = 0;
    int ret = 0;

    errno = 0;
    while (ret == 0 && getline(&line, &size, smaps) > 0) {
        if (sscanf(line, "%lx-%lx ", &first, &last) == 2) {
            from = first;
            to = last;
        }
        if (strncmp(line, "VmFlags:", 8) != 0)
            continue;
        for (unsigned i = 0; i < client->n_regions && ret == 0; i++)
            ret = add_part(client, i, from, to, line + 8);
    }
    if (ret == 0 && ferror(smaps))
        ret = client_fail(client, errno, SMAPS ": %s", strerror(errno));
    free(line);
    return ret;
}

/* What is not known cannot be changed, nor put back. */
static int check_known(PostcopyClient *client)
{
    for (unsigned i = 0; i < client->n_regions; i++) {
        uint64_t known = 0;

        for (unsigned j = 0; j < client->n_mappings; j++)
            if (client->mappings[j].region == i)
                known += client->mappings[j].length;
        if (known != client->regions[i].length &&
            !(client->regions[i].flags & POSTCOPY_REGION_IGNORED))
            return client_fail(client, EFAULT, "Region %s is not mapped, says " SMAPS,
                               client->regions[i].name);
    }
    return 0;
}

/* The kernel walks all of the process's page tables for it, some 16 ms per GiB that is there:
 * once. */
static int find_mappings(PostcopyClient *client)
{
    FILE *smaps = fopen(SMAPS, "re");
    int ret;

    if (!smaps)
        return client_fail(client, errno, SMAPS ": %s", strerror(errno));
    ret = read_mappings(client, smaps);
    fclose(smaps);
    if (ret == 0)
        ret = check_known(client);
    if (ret < 0) {
        free(client->mappings);
        client->mappings = NULL;
        client->n_mappings = 0;
    }
    return ret;
}

/* ---- huge pages ---- */

/* What a file of the host's settings says gives huge pages to those who have asked, at most? */
static bool is_for_those_who_ask(const char *path)
{
    static const char *const words[] = { "never", "madvise", "advise", "inherit", "deny" };
    FILE *file = fopen(path, "re");
    char line[256] = "", *chosen;
    bool is = false;

    if (!file)
        return false;
    chosen = fgets(line, sizeof line, file) ? strchr(line, '[') : NULL;
    fclose(file);
    if (!chosen || !strchr(chosen, ']'))
        return false;
    *strchr(chosen, ']') = '\0';
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        is = is || strcmp(chosen + 1, words[i]) == 0;
    return is;
}

/* Of their own accord, of any size? If in doubt they may. */
static bool huge_pages_may_come(bool is_shared)
{
    glob_t found = { 0 };
    bool may;

    if (!is_shared && prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) > 0)
        return false;
    may = glob(is_shared ? THP "{,hugepages-*/}shmem_enabled" : THP "{,hugepages-*/}enabled",
               GLOB_BRACE, NULL, &found) != 0;
    for (size_t i = 0; i < found.gl_pathc && !may; i++)
        may = !is_for_those_who_ask(found.gl_pathv[i]);
    globfree(&found);
    return may;
}

static int keep_huge_pages_away(PostcopyClient *client)
{
    bool may_come[2] = { huge_pages_may_come(false), huge_pages_may_come(true) };

    for (unsigned i = 0; i < client->n_mappings; i++) {
        Mapping *m = &client->mappings[i];
        const Region *r = &client->regions[m->region];

        if (r->page_size != 4096 || m->has_no_thp || m->thp_is_off ||
            !(m->has_thp || may_come[r->fd >= 0] || (r->flags & POSTCOPY_REGION_NO_THP)))
            continue;
        /* A kernel without them refuses, and has none then. */
        if (madvise(m->address, m->length, MADV_NOHUGEPAGE) < 0 && errno != EINVAL)
            return client_fail(client, errno,
                               "Huge pages cannot be kept away from region %s: %s", r->name,
                               strerror(errno));
        m->thp_is_off = true;
    }
    return 0;
}

int client_prepare_mappings(PostcopyClient *client)
{
    int ret = client->mappings ? 0 : find_mappings(client);

    return ret < 0 ? ret : keep_huge_pages_away(client);
}

/* ---- locked memory ---- */

int client_expect_missing(PostcopyClient *client)
{
    /* The host's settings may have changed since. */
    int ret = client->expects_missing ? 0 : keep_huge_pages_away(client);

    if (ret < 0)
        return ret;
    client->expects_missing = true;
    for (unsigned i = 0; i < client->n_mappings; i++) {
        Mapping *m = &client->mappings[i];

        if (!m->is_locked || m->is_unlocked)
            continue;
        if (munlock(m->address, m->length) < 0)
            return client_fail(client, errno, "Region %s cannot be unlocked: %s",
                               client->regions[m->region].name, strerror(errno));
        m->is_unlocked = true;
    }
    return 0;
}

static int cannot_lock(PostcopyClient *client, const Mapping *m, int err)
{
    const char *name = client->regions[m->region].name;
    struct rlimit limit;

    if ((err != ENOMEM && err != EPERM) || getrlimit(RLIMIT_MEMLOCK, &limit) < 0 ||
        limit.rlim_cur == RLIM_INFINITY)
        return client_fail(client, err, "Region %s is not locked as it was: mlock: %s", name,
                           strerror(err));
    return client_fail(client, err,
                       "Region %s is not locked as it was: mlock: %s; this process may lock %llu "
                       "bytes (RLIMIT_MEMLOCK)", name, strerror(err),
                       (unsigned long long)limit.rlim_cur);
}

/* ---- as it was ---- */

/* A mapping that had asked neither for huge pages nor for none cannot be made so again:
 * MADV_HUGEPAGE is next to what it had, for it was changed only because the host gives them to
 * everybody. */
static int restore_huge_pages(PostcopyClient *client, const Mapping *m)
{
    const Region *r = &client->regions[m->region];

    if (!m->thp_is_off || (r->flags & POSTCOPY_REGION_NO_THP) ||
        madvise(m->address, m->length, MADV_HUGEPAGE) == 0 || errno == EINVAL)
        return 0;
    return client_fail(client, errno, "Region %s has no huge pages as it had: %s", r->name,
                       strerror(errno));
}

static int restore_lock(PostcopyClient *client, const Mapping *m)
{
    int ret = 0;

    if (m->is_unlocked && m->is_locked_on_fault)
        ret = mlock2(m->address, m->length, MLOCK_ONFAULT);
    else if (m->is_unlocked)
        ret = mlock(m->address, m->length);
    return ret < 0 ? cannot_lock(client, m, errno) : 0;
}

int client_restore_mappings(PostcopyClient *client)
{
    int ret = 0;

    for (unsigned i = 0; i < client->n_mappings; i++) {
        int huge = restore_huge_pages(client, &client->mappings[i]);
        int lock = restore_lock(client, &client->mappings[i]);

        ret = lock < 0 ? lock : huge < 0 ? huge : ret;
    }
    free(client->mappings);
    client->mappings = NULL;
    client->n_mappings = 0;
    client->expects_missing = false;
    return ret;
}
