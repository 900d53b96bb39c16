/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory of hosts and domains, and the other host: every verdict from facts. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib/gstdio.h>

#include "preflight/domain_memory.h"
#include "preflight/memory.h"
#include "preflight/peer.h"
#include "tests/support/findings.h"

#define MIB (1024ull * 1024)

/* ---- locked memory ---- */

static GPtrArray *judge_memlock(MemlockFacts facts)
{
    GPtrArray *findings = findings_new();

    memlock_judge(findings, &facts);
    return findings;
}

static void test_memlock(void **state)
{
    g_autoptr(GPtrArray) unknown = judge_memlock((MemlockFacts){ .limit = 1, .needed = 2 });
    g_autoptr(GPtrArray) raises =
        judge_memlock((MemlockFacts){ .known = TRUE, .may_raise = TRUE, .limit = 1 });
    g_autoptr(GPtrArray) unlimited =
        judge_memlock((MemlockFacts){ .known = TRUE, .limit = MEMLOCK_UNLIMITED, .needed = MIB });
    g_autoptr(GPtrArray) low = judge_memlock((MemlockFacts){ .known = TRUE, .limit = 8 * MIB });
    g_autoptr(GPtrArray) enough =
        judge_memlock((MemlockFacts){ .known = TRUE, .limit = 8 * MIB, .needed = 8 * MIB });
    g_autoptr(GPtrArray) domain =
        judge_memlock((MemlockFacts){ .known = TRUE, .limit = 8 * MIB, .needed = 64 * MIB });

    assert_int_equal(unknown->len, 0);
    assert_passes(raises, CHECK_MEMLOCK);
    assert_passes(unlimited, CHECK_DOMAIN_MEMLOCK);
    assert_problem(low, PROBLEM_MEMLOCK_LIMIT, "8 MiB", "LimitMEMLOCK=infinity");
    assert_passes(enough, CHECK_DOMAIN_MEMLOCK);
    assert_problem(domain, PROBLEM_DOMAIN_MEMLOCK, "locks 64 MiB", "CAP_SYS_RESOURCE");
}

static void put(const char *root, const char *path, const char *text)
{
    g_autofree char *full = g_strconcat(root, path, NULL);
    g_autofree char *dir = g_path_get_dirname(full);

    assert_int_equal(g_mkdir_with_parents(dir, 0755), 0);
    assert_true(g_file_set_contents(full, text, -1, NULL));
}

static int setup(void **state)
{
    *state = g_dir_make_tmp("test-preflight-XXXXXX", NULL);
    return *state ? 0 : -1;
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *inner = g_build_filename(path, name, NULL);

        remove_tree(inner);
    }
    g_remove(path);
}

static int teardown(void **state)
{
    g_autofree char *root = *state;

    remove_tree(root);
    return 0;
}

#define LIMITS(hard)                                                                               \
    "Limit                     Soft Limit           Hard Limit           Units     \n"            \
    "Max locked memory         65536                " hard "              bytes     \n"            \
    "Max address space         unlimited            unlimited            bytes     \n"

static void test_memlock_of_a_process(void **state)
{
    static const struct {
        const char *status, *limits;
        MemlockFacts expected;
    } rows[] = {
        { "Name:\tlibvirtd\nCapEff:\t000001fffeffffff\n", LIMITS("8388608"), { TRUE, FALSE, 8 * MIB } },
        { "CapEff:\t000001ffffffffff\n", LIMITS("8388608"), { TRUE, TRUE, 8 * MIB } },
        { "CapEff:\t0\n", LIMITS("unlimited"), { TRUE, FALSE, MEMLOCK_UNLIMITED } },
        { "Name:\tCapEff\n", LIMITS("unlimited"), { FALSE } },
        { "CapEff:\t0\n", "", { FALSE } },
        { "CapEff:\t0\n", "Max locked memory\n", { TRUE, FALSE, 0 } },
    };
    const char *root = *state;
    MemlockFacts facts = { .known = TRUE };

    memlock_look(root, 42, &facts);
    assert_false(facts.known);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        facts = (MemlockFacts){ 0 };
        put(root, "/proc/42/status", rows[i].status);
        put(root, "/proc/42/limits", rows[i].limits);
        memlock_look(root, 42, &facts);
        assert_int_equal(facts.known, rows[i].expected.known);
        assert_int_equal(facts.may_raise, rows[i].expected.may_raise);
        assert_int_equal(facts.limit, rows[i].expected.limit);
    }
}

/* ---- huge pages ---- */

static GArray *make_pools(guint n, const HugepagePool *pools)
{
    GArray *array = g_array_new(FALSE, FALSE, sizeof(HugepagePool));

    return n > 0 ? g_array_append_vals(array, pools, n) : array;
}

static GArray *make_needs(guint n, const HugepageNeed *needs)
{
    GArray *array = g_array_new(FALSE, FALSE, sizeof(HugepageNeed));

    return n > 0 ? g_array_append_vals(array, needs, n) : array;
}

static void put_pool(const char *root, const char *size, const char *name, const char *value)
{
    g_autofree char *path =
        g_strdup_printf("/sys/kernel/mm/hugepages/hugepages-%s/%s", size, name);

    put(root, path, value);
}

static void test_pools_are_read_from_sysfs(void **state)
{
    const char *root = *state;
    g_autoptr(GArray) none = hugepages_look(root);
    g_autoptr(GArray) pools = NULL;
    const HugepagePool *small, *big;

    assert_int_equal(none->len, 0);
    put_pool(root, "1048576kB", "nr_hugepages", "2\n");
    put_pool(root, "1048576kB", "free_hugepages", "1\n");
    put_pool(root, "2048kB", "nr_hugepages", "100\n");
    put_pool(root, "2048kB", "free_hugepages", "60\n");
    put_pool(root, "2048kB", "resv_hugepages", "10\n");
    put_pool(root, "2048kB", "nr_overcommit_hugepages", "7\n");
    put_pool(root, "2048kB", "surplus_hugepages", "3\n");
    put_pool(root, "nonsense", "nr_hugepages", "1\n");
    pools = hugepages_look(root);
    assert_int_equal(pools->len, 2);
    small = &g_array_index(pools, HugepagePool, 0);
    big = &g_array_index(pools, HugepagePool, 1);
    assert_int_equal(small->kib, 2048);
    assert_int_equal(small->total, 100);
    assert_int_equal(small->free, 60 - 10 + 7 - 3);
    assert_int_equal(big->kib, 1048576);
    assert_int_equal(big->free, 1);
}

static void test_default_size(void **state)
{
    const char *root = *state;

    assert_int_equal(hugepages_default_kib(root), 0);
    put(root, "/proc/meminfo", "MemTotal: 1 kB\nHugepagesize:       2048 kB\n");
    assert_int_equal(hugepages_default_kib(root), 2048);
}

static void test_host_pools_are_told(void **state)
{
    const HugepagePool pools[] = { { 2048, 100, 60 }, { 1048576, 0, 0 } };
    g_autoptr(GArray) array = make_pools(2, pools);
    g_autoptr(GPtrArray) findings = findings_new();

    hugepages_judge_host(findings, array);
    assert_passes(findings, CHECK_HUGEPAGES);
    assert_string_equal(findings_find(findings, "hugepages")->detail, "60 of 100 free of 2048 KiB");
}

static GPtrArray *judge_domain(guint n, const HugepagePool *there, guint n_needs,
                               const HugepageNeed *wanted)
{
    g_autoptr(GArray) pools = make_pools(n, there);
    g_autoptr(GArray) needs = make_needs(n_needs, wanted);
    GPtrArray *findings = findings_new();

    hugepages_judge_domain(findings, pools, needs, "hostb");
    return findings;
}

static void test_domain_takes_whole_pages_of_its_size(void **state)
{
    const HugepagePool pool = { 2048, 100, 32 };
    const HugepageNeed fits = { 2048, 64 * MIB }, over = { 2048, 64 * MIB + 1 },
                       other = { 1048576, 64 * MIB }, no_size = { 0, 64 * MIB };
    g_autoptr(GPtrArray) none = judge_domain(1, &pool, 0, NULL);
    g_autoptr(GPtrArray) good = judge_domain(1, &pool, 1, &fits);
    g_autoptr(GPtrArray) missing = judge_domain(1, &pool, 1, &over);
    g_autoptr(GPtrArray) big = judge_domain(1, &pool, 1, &other);
    g_autoptr(GPtrArray) empty = judge_domain(0, NULL, 1, &fits);
    g_autoptr(GPtrArray) unknown = judge_domain(1, &pool, 1, &no_size);

    assert_int_equal(none->len, 0);
    assert_passes(good, CHECK_DOMAIN_HUGEPAGES);
    assert_problem(missing, PROBLEM_DOMAIN_HUGEPAGES, "33 huge pages of 2048 KiB, and hostb has 32",
                   "at least 1 more");
    assert_problem(big, PROBLEM_DOMAIN_HUGEPAGES, "1 huge pages of 1048576 KiB",
                   "hugepages-1048576kB/nr_hugepages");
    assert_problem(empty, PROBLEM_DOMAIN_HUGEPAGES, "has 0 free", "at least 32 more");
    assert_passes(unknown, CHECK_DOMAIN_HUGEPAGES);
}

/* What has no size goes where libvirt finds huge pages at all. */
static void test_pages_of_no_size_may_be_others(void **state)
{
    const HugepagePool some = { 2048, 100, 32 }, none = { 2048, 0, 0 }, used = { 2048, 100, 0 };
    const HugepageNeed fits = { 2048, 64 * MIB, TRUE }, over = { 2048, 64 * MIB + 1, TRUE };
    g_autoptr(GPtrArray) good = judge_domain(1, &some, 1, &fits);
    g_autoptr(GPtrArray) missing = judge_domain(1, &some, 1, &over);
    g_autoptr(GPtrArray) taken = judge_domain(1, &used, 1, &fits);
    g_autoptr(GPtrArray) other = judge_domain(1, &none, 1, &fits);
    g_autoptr(GPtrArray) no_pool = judge_domain(0, NULL, 1, &fits);

    assert_passes(good, CHECK_DOMAIN_HUGEPAGES);
    assert_problem(missing, PROBLEM_DOMAIN_HUGEPAGES, "33 huge pages", "at least 1 more");
    assert_problem(taken, PROBLEM_DOMAIN_HUGEPAGES, "has 0 free", "at least 32 more");
    assert_problem(other, PROBLEM_DOMAIN_HUGEPAGES_SIZE, "64 MiB of huge pages", "<page size=");
    assert_problem(no_pool, PROBLEM_DOMAIN_HUGEPAGES_SIZE, "hostb has none", "on hostb");
    assert_int_equal(findings_verdict(other), FINDING_WARN);
}

/* ---- domains ---- */

#define DOMAIN(backing)                                                                            \
    "<domain type='qemu'><name>x</name><memory unit='MiB'>64</memory>" backing                     \
    "<os><type>hvm</type></os></domain>"

static void test_locked_memory_of_a_domain(void **state)
{
    g_autoptr(GError) error = NULL;
    guint64 bytes = 1;

    assert_true(domain_memory_locked(DOMAIN(""), &bytes, NULL));
    assert_int_equal(bytes, 0);
    assert_true(domain_memory_locked(DOMAIN("<memoryBacking><locked/></memoryBacking>"), &bytes, NULL));
    assert_int_equal(bytes, 64 * MIB);
    assert_false(domain_memory_locked("<domain>", &bytes, &error));
    assert_non_null(error);
}

static void test_huge_pages_of_a_domain(void **state)
{
    g_autoptr(GArray) none = domain_memory_hugepages(DOMAIN(""), 2048, NULL);
    g_autoptr(GArray) plain = domain_memory_hugepages(
        DOMAIN("<memoryBacking><hugepages/></memoryBacking>"), 2048, NULL);
    g_autoptr(GArray) sized = domain_memory_hugepages(
        DOMAIN("<memoryBacking><hugepages><page size='1' unit='G'/></hugepages></memoryBacking>"),
        2048, NULL);

    assert_int_equal(none->len, 0);
    assert_int_equal(plain->len, 1);
    assert_int_equal(g_array_index(plain, HugepageNeed, 0).kib, 2048);
    assert_int_equal(g_array_index(plain, HugepageNeed, 0).bytes, 64 * MIB);
    assert_int_equal(sized->len, 1);
    assert_int_equal(g_array_index(sized, HugepageNeed, 0).kib, 1048576);
    assert_true(g_array_index(plain, HugepageNeed, 0).unsaid);
    assert_false(g_array_index(sized, HugepageNeed, 0).unsaid);
    assert_null(domain_memory_hugepages("garbage", 2048, NULL));
}

#define VIRTIO_MEM(inner)                                                                          \
    "<domain><memoryBacking><hugepages><page size='2048'/></hugepages></memoryBacking>"            \
    "<cpu><numa><cell id='0' memory='1' unit='GiB'/></numa></cpu>"                                 \
    "<devices><memory model='virtio-mem'><target><size unit='GiB'>256</size>"                      \
    "<node>0</node>" inner "</target></memory></devices></domain>"

static void test_of_virtio_mem_only_what_the_guest_has_is_taken(void **state)
{
    static const struct {
        const char *xml;
        guint64 gib;
    } rows[] = {
        { VIRTIO_MEM("<requested unit='GiB'>4</requested>"), 5 },
        { VIRTIO_MEM("<requested unit='GiB'>4</requested><current unit='GiB'>6</current>"), 7 },
        { VIRTIO_MEM("<requested unit='GiB'>4</requested><current unit='GiB'>2</current>"), 5 },
        { VIRTIO_MEM("<requested>0</requested>"), 1 },
        { VIRTIO_MEM(""), 1 },
        { VIRTIO_MEM("<requested unit='GiB'>300</requested>"), 257 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GArray) needs = domain_memory_hugepages(rows[i].xml, 2048, NULL);

        assert_non_null(needs);
        assert_int_equal(needs->len, 1);
        assert_int_equal(g_array_index(needs, HugepageNeed, 0).bytes, rows[i].gib * 1024 * MIB);
    }
    assert_null(domain_memory_hugepages(VIRTIO_MEM("<requested>x</requested>"), 2048, NULL));
}

/* ---- the other host ---- */

static void test_each_step_to_the_other_host_has_its_remedy(void **state)
{
    static const struct {
        PeerStep step;
        PreflightProblem problem;
        const char *remedy;
    } rows[] = {
        { PEER_STEP_URI, PROBLEM_PEER_URI, "postcopy+tls://HOST/system" },
        { PEER_STEP_NAME, PROBLEM_PEER_NAME, "add hostb to the DNS" },
        { PEER_STEP_PORT, PROBLEM_PEER_RPC_PORT, "open port 16514" },
        { PEER_STEP_TLS, PROBLEM_PEER_RPC_TLS, "virt-postcopy check" },
        { PEER_STEP_AUTH, PROBLEM_PEER_RPC_AUTH, "let this user" },
        { PEER_STEP_DRIVER, PROBLEM_PEER_RPC_DRIVER, "install libvirt-postcopy on hostb" },
        { PEER_STEP_OTHER, PROBLEM_PEER_RPC_FAILED, "journalctl" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GPtrArray) findings = findings_new();

        peer_judge_open(findings, &(PeerOpenFacts){ "uri", "hostb", 16514, rows[i].step, "it says" });
        assert_problem(findings, rows[i].problem, "it says", rows[i].remedy);
    }
    {
        g_autoptr(GPtrArray) findings = findings_new();

        peer_judge_open(findings, &(PeerOpenFacts){ "uri", "hostb", 16514, PEER_STEP_DONE, NULL });
        assert_passes(findings, CHECK_PEER);
    }
}

static void test_equal_uuids(void **state)
{
    g_autoptr(GPtrArray) same = findings_new();
    g_autoptr(GPtrArray) other = findings_new();

    peer_judge_uuid(same, "u-1", "u-1");
    peer_judge_uuid(other, "u-1", "u-2");
    assert_problem(same, PROBLEM_PEER_UUID, "u-1", "host_uuid");
    assert_passes(other, CHECK_PEER_UUID);
}

static void test_sizes_of_huge_pages_on_both_hosts(void **state)
{
    const HugepagePool both[] = { { 2048, 10, 10 }, { 1048576, 0, 0 } }, small = { 2048, 0, 0 },
                       big = { 1048576, 0, 0 };
    g_autoptr(GArray) ours = make_pools(2, both);
    g_autoptr(GArray) same = make_pools(1, &small);
    g_autoptr(GArray) lacking = make_pools(1, &big);
    g_autoptr(GPtrArray) good = findings_new();
    g_autoptr(GPtrArray) bad = findings_new();

    peer_judge_hugepages(good, ours, same); /* none of the big ones are set aside here */
    peer_judge_hugepages(bad, ours, lacking);
    assert_passes(good, CHECK_PEER_HUGEPAGES);
    assert_problem(bad, PROBLEM_PEER_HUGEPAGE_SIZES, "2048 KiB", "hugepagesz=2048K");
}

static GPtrArray *judge_port(PeerPortFacts facts)
{
    GPtrArray *findings = findings_new();

    facts.host = "hostb";
    facts.port = 16515;
    peer_judge_port(findings, &facts);
    return findings;
}

static void test_the_other_migration_port(void **state)
{
    g_autoptr(GPtrArray) closed = judge_port((PeerPortFacts){ .error = "refused" });
    g_autoptr(GPtrArray) tls = judge_port((PeerPortFacts){ .connected = TRUE, .error = "expired" });
    g_autoptr(GPtrArray) good =
        judge_port((PeerPortFacts){ .connected = TRUE, .version = "1", .clock_ms = -60000 });
    g_autoptr(GPtrArray) ahead =
        judge_port((PeerPortFacts){ .connected = TRUE, .version = "1", .clock_ms = 60001 });
    g_autoptr(GPtrArray) behind =
        judge_port((PeerPortFacts){ .connected = TRUE, .version = "1", .clock_ms = -7200000 });

    assert_problem(closed, PROBLEM_PEER_PORT_CLOSED, "refused", "open port 16515 of hostb");
    assert_problem(tls, PROBLEM_PEER_PORT_TLS, "expired", "virt-postcopy check\" on hostb");
    assert_passes(good, CHECK_PEER_PORT);
    assert_passes(good, CHECK_PEER_CLOCK);
    assert_problem(ahead, PROBLEM_PEER_CLOCK, "60 s ahead", "timedatectl set-ntp true");
    assert_problem(behind, PROBLEM_PEER_CLOCK, "7200 s behind", "timedatectl");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memlock),
        cmocka_unit_test_setup_teardown(test_memlock_of_a_process, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pools_are_read_from_sysfs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_default_size, setup, teardown),
        cmocka_unit_test(test_host_pools_are_told),
        cmocka_unit_test(test_domain_takes_whole_pages_of_its_size),
        cmocka_unit_test(test_locked_memory_of_a_domain),
        cmocka_unit_test(test_huge_pages_of_a_domain),
        cmocka_unit_test(test_of_virtio_mem_only_what_the_guest_has_is_taken),
        cmocka_unit_test(test_pages_of_no_size_may_be_others),
        cmocka_unit_test(test_each_step_to_the_other_host_has_its_remedy),
        cmocka_unit_test(test_equal_uuids),
        cmocka_unit_test(test_sizes_of_huge_pages_on_both_hosts),
        cmocka_unit_test(test_the_other_migration_port),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
