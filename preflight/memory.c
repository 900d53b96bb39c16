/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "preflight/memory.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>

#define PROC_MAX (64 * 1024)
#define POOLS "/sys/kernel/mm/hugepages"
#define POOL_PREFIX "hugepages-"
#define CAP_SYS_RESOURCE 24

/* ---- locked memory ---- */

/* What follows the name at the beginning of a line. */
static const char *find_line(const char *text, const char *name)
{
    const char *p = g_str_has_prefix(text, name) ? text : NULL;
    g_autofree char *inner = g_strconcat("\n", name, NULL);

    if (!p) {
        p = strstr(text, inner);
        p = p ? p + 1 : NULL;
    }
    return p ? p + strlen(name) : NULL;
}

static guint64 parse_limit(const char *line)
{
    /* soft, then hard: libvirtd gives as much as the hard one. */
    g_auto(GStrv) words = NULL;
    g_autofree char *only = g_strndup(line, strcspn(line, "\n"));
    g_autoptr(GPtrArray) values = g_ptr_array_new();

    words = g_strsplit(only, " ", -1);
    for (char **word = words; *word; word++) {
        if (**word)
            g_ptr_array_add(values, *word);
    }
    if (values->len < 2)
        return 0;
    if (g_str_equal(g_ptr_array_index(values, 1), "unlimited"))
        return MEMLOCK_UNLIMITED;
    return g_ascii_strtoull(g_ptr_array_index(values, 1), NULL, 10);
}

void memlock_look(const char *root, pid_t pid, MemlockFacts *facts)
{
    g_autofree char *status_path = g_strdup_printf("/proc/%d/status", (int)pid);
    g_autofree char *limits_path = g_strdup_printf("/proc/%d/limits", (int)pid);
    g_autofree char *status = NULL;
    g_autofree char *limits = NULL;
    const char *caps, *limit;
    gsize len;

    facts->known = FALSE;
    if (!preflight_read(root, status_path, PROC_MAX, &status, &len, NULL, NULL) ||
        !preflight_read(root, limits_path, PROC_MAX, &limits, &len, NULL, NULL))
        return;
    caps = find_line(status, "CapEff:");
    limit = find_line(limits, "Max locked memory");
    if (!caps || !limit)
        return;
    facts->known = TRUE;
    facts->may_raise = (g_ascii_strtoull(caps, NULL, 16) >> CAP_SYS_RESOURCE & 1) !=
                       0; /* leading blanks skipped */
    facts->limit = parse_limit(limit);
}

static void memlock_problem(GPtrArray *findings, const MemlockFacts *facts)
{
    guint64 mib = facts->limit >> 20;
    char *remedy =
        g_strdup(_("start libvirtd or virtqemud with LimitMEMLOCK=infinity in its unit, or "
                   "with CAP_SYS_RESOURCE"));

    if (facts->needed)
        preflight_problem(findings, CHECK_DOMAIN_MEMLOCK, PROBLEM_DOMAIN_MEMLOCK,
                          g_strdup_printf(_("the domain locks %1$" PRIu64 " MiB, and libvirt can "
                                            "give QEMU no more than %2$" PRIu64),
                                          facts->needed >> 20, mib),
                          remedy);
    else
        preflight_problem(findings, CHECK_MEMLOCK, PROBLEM_MEMLOCK_LIMIT,
                          g_strdup_printf(_("libvirt can give a QEMU with <locked/> no more than "
                                            "%" PRIu64 " MiB of locked memory"),
                                          mib),
                          remedy);
}

void memlock_judge(GPtrArray *findings, const MemlockFacts *facts)
{
    if (!facts->known)
        return;
    if (!facts->may_raise && facts->limit != MEMLOCK_UNLIMITED &&
        (facts->needed == 0 || facts->limit < facts->needed))
        memlock_problem(findings, facts);
    else
        preflight_pass(findings, facts->needed ? CHECK_DOMAIN_MEMLOCK : CHECK_MEMLOCK, NULL);
}

/* ---- huge pages ---- */

static guint64 read_number(const char *root, const char *dir, const char *name)
{
    g_autofree char *path = g_strdup_printf(POOLS "/%s/%s", dir, name);
    g_autofree char *text = NULL;
    gsize len;

    if (!preflight_read(root, path, 64, &text, &len, NULL, NULL))
        return 0;
    return g_ascii_strtoull(text, NULL, 10);
}

/* Those that are free and promised to nobody, and those that the kernel may add by itself. */
static guint64 available(const char *root, const char *dir)
{
    guint64 free = read_number(root, dir, "free_hugepages");
    guint64 promised = read_number(root, dir, "resv_hugepages");
    guint64 most = read_number(root, dir, "nr_overcommit_hugepages");
    guint64 added = read_number(root, dir, "surplus_hugepages");

    return free - MIN(free, promised) + most - MIN(most, added);
}

static gint by_size(gconstpointer a, gconstpointer b)
{
    const HugepagePool *left = a, *right = b;

    return left->kib < right->kib ? -1 : left->kib > right->kib;
}

GArray *hugepages_look(const char *root)
{
    GArray *pools = g_array_new(FALSE, FALSE, sizeof(HugepagePool));
    g_autofree char *top = g_strconcat(root, POOLS, NULL);
    g_autoptr(GDir) dir = g_dir_open(top, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        HugepagePool pool = { 0 };

        if (!g_str_has_prefix(name, POOL_PREFIX))
            continue;
        pool.kib = g_ascii_strtoull(name + strlen(POOL_PREFIX), NULL, 10);
        pool.total = read_number(root, name, "nr_hugepages");
        pool.free = available(root, name);
        if (pool.kib > 0)
            g_array_append_val(pools, pool);
    }
    g_array_sort(pools, by_size);
    return pools;
}

guint64 hugepages_default_kib(const char *root)
{
    g_autofree char *text = NULL;
    const char *size;
    gsize len;

    if (!preflight_read(root, "/proc/meminfo", PROC_MAX, &text, &len, NULL, NULL))
        return 0;
    size = find_line(text, "Hugepagesize:");
    return size ? g_ascii_strtoull(size, NULL, 10) : 0;
}

void hugepages_judge_host(GPtrArray *findings, const GArray *pools)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < pools->len; i++) {
        const HugepagePool *pool = &g_array_index(pools, HugepagePool, i);

        if (pool->total == 0)
            continue;
        g_string_append_printf(text, _("%1$s%2$" PRIu64 " of %3$" PRIu64 " free of %4$" PRIu64
                                       " KiB"),
                               text->len > 0 ? ", " : "", pool->free, pool->total, pool->kib);
    }
    preflight_pass(findings, CHECK_HUGEPAGES, text->len > 0 ? text->str : _("none set aside"));
}

static HugepagePool find_pool(const GArray *pools, guint64 kib)
{
    for (guint i = 0; i < pools->len; i++) {
        const HugepagePool *pool = &g_array_index(pools, HugepagePool, i);

        if (pool->kib == kib)
            return *pool;
    }
    return (HugepagePool){ .kib = kib };
}

static guint64 pages_of(const HugepageNeed *need)
{
    guint64 size = need->kib * 1024;

    return size > 0 ? need->bytes / size + (need->bytes % size != 0) : 0;
}

/* libvirt takes the default size if that is mounted, else any that is. */
static void pages_of_any_size(GPtrArray *findings, const HugepageNeed *need, const char *host)
{
    preflight_problem(
        findings, CHECK_DOMAIN_HUGEPAGES, PROBLEM_DOMAIN_HUGEPAGES_SIZE,
        g_strdup_printf(_("the domain takes %1$" PRIu64 " MiB of huge pages and does not say of "
                          "what size, and %2$s has none of the kernel's default of %3$" PRIu64
                          " KiB"),
                        need->bytes >> 20, host, need->kib),
        g_strdup_printf(_("see that hugetlbfs is mounted on %s for a size that it has, or name "
                          "the size in the domain (<page size='…'/>)"),
                        host));
}

void hugepages_judge_domain(GPtrArray *findings, const GArray *pools, const GArray *needs,
                            const char *host)
{
    guint failed = 0;

    for (guint i = 0; i < needs->len; i++) {
        const HugepageNeed *need = &g_array_index(needs, HugepageNeed, i);
        HugepagePool pool = find_pool(pools, need->kib);
        guint64 pages = pages_of(need), there = pool.free;

        if (pages <= there)
            continue;
        failed++;
        if (need->unsaid && there == 0 && pool.total == 0) {
            pages_of_any_size(findings, need, host);
            continue;
        }
        preflight_problem(
            findings, CHECK_DOMAIN_HUGEPAGES, PROBLEM_DOMAIN_HUGEPAGES,
            g_strdup_printf(_("the domain takes %1$" PRIu64 " huge pages of %2$" PRIu64 " KiB, and "
                              "%3$s has %4$" PRIu64 " free"),
                            pages, need->kib, host, there),
            g_strdup_printf(_("set at least %1$" PRIu64 " more of them aside on %2$s (add to "
                              "/sys/kernel/mm/hugepages/hugepages-%3$" PRIu64 "kB/nr_hugepages)"),
                            pages - there, host, need->kib));
    }
    if (needs->len > 0 && failed == 0)
        preflight_pass(findings, CHECK_DOMAIN_HUGEPAGES, NULL);
}
