/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether domains can be migrated with post-copy: the corpus, and what libvirt of today cannot
 * define. */
#include "config.h"

#include "xml/eligibility.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/corpus.h"
#include "xml/capabilities.h"
#include "xml/eligibility_rules.h"
#include "xml/ram_blocks.h"

#define DOMAIN_WITH(inner) \
    "<domain type='kvm'><name>x</name><memory unit='MiB'>1024</memory>" inner "</domain>"
#define DEVICE(inner) DOMAIN_WITH("<devices>" inner "</devices>")
#define BACKED(inner) DOMAIN_WITH("<memoryBacking>" inner "</memoryBacking>")
#define PLAIN " 1024M:anonymous"

/* What the memory rules can say; the others are rows of a table. */
static const char *const memory_ids[] = {
    "memory-file-backed", "memory-file-system", "memory-large-pages", "memory-locked",
    "memory-nvdimm", "memory-page-multiple", "memory-path", "memory-sgx-epc",
    "memory-virtio-pmem",
};

static const struct {
    const char *xml;
    const char *judgement;
} elsewhere[] = {
    { DEVICE(""), "pass -" PLAIN },
    { DOMAIN_WITH("<launchSecurity type='sev'/>"), "fail launch-security" PLAIN },
    { DOMAIN_WITH("<launchSecurity type='sev-snp'/>"), "fail launch-security" PLAIN },
    { DOMAIN_WITH("<launchSecurity type='tdx'/>"), "fail launch-security" PLAIN },
    { DOMAIN_WITH("<launchSecurity type='s390-pv'/>"), "warn launch-security-s390" PLAIN },
    { DOMAIN_WITH("<launchSecurity/>"), "fail launch-security" PLAIN },
    { DEVICE("<shmem name='a' role='peer'/>"), "fail shmem" PLAIN },
    { DEVICE("<shmem name='a' role='master'><model type='ivshmem'/></shmem>"),
      "fail shmem" PLAIN },
    { DEVICE("<shmem name='a' role='master'><model type='ivshmem-plain'/></shmem>"),
      "warn shmem-master" PLAIN },
    { DEVICE("<memory model='sgx-epc'><target><size unit='MiB'>64</size></target></memory>"),
      "fail memory-sgx-epc 960M:anonymous 64M:anonymous" },
    { DEVICE("<memory model='x-new'><source><path>/a</path></source><target><size unit='MiB'>64"
             "</size></target></memory>"),
      "fail memory-path 960M:anonymous 64M:path" },
    { DEVICE("<interface type='user'><backend type='passt'/></interface>"),
      "warn interface-user" PLAIN },
    { DEVICE("<disk type='vhostvdpa'><target dev='vda'/></disk>"), "fail disk-vhost-vdpa" PLAIN },
    { DEVICE("<disk type='file'><target dev='vda'/><mirror type='file' job='copy'/></disk>"),
      "fail disk-block-job" PLAIN },
    { DEVICE("<hostdev type='storage'/>"), "pass -" PLAIN },
    { DEVICE("<filesystem type='ram'><source usage='1'/><target dir='/x'/></filesystem>"),
      "pass -" PLAIN },
    /* what is not where it should be means nothing */
    { DOMAIN_WITH("<metadata><hostdev type='pci'/><shmem/></metadata>"), "pass -" PLAIN },
    { DOMAIN_WITH("<hostdev type='pci'/>"), "pass -" PLAIN },
    { DOMAIN_WITH("<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'/>"),
      "warn qemu-commandline" PLAIN },
    { DOMAIN_WITH("<q:commandline xmlns:q='http://example.test/'/>"), "pass -" PLAIN },
    { DOMAIN_WITH("<cpu><feature name='invtsc'/></cpu>"), "fail cpu-invtsc" PLAIN },
    { DOMAIN_WITH("<cpu><feature name='invtsc' policy='forbid'/></cpu>"), "pass -" PLAIN },
    /* memory */
    { BACKED("<source type='memfd'/><source type='file'/>"), "pass - 1024M:memfd:shared" },
    { BACKED("<hugepages><page size='16' unit='MiB'/></hugepages>"),
      "pass - 1024M:hugetlbfs:16384K" },
    { BACKED("<hugepages><page size='3' unit='MiB'/></hugepages>"),
      "fail memory-page-multiple 1024M:hugetlbfs:3072K" },
};

static void every_document_of_the_corpus_is_judged_as_expected(void **state)
{
    g_autoptr(GPtrArray) rows = corpus_rows();

    assert_true(rows->len >= 40);
    for (guint i = 0; i < rows->len; i++) {
        const CorpusRow *row = g_ptr_array_index(rows, i);
        g_autofree char *xml = corpus_document(row->name);
        g_autoptr(GError) error = NULL;
        g_autofree char *judgement = corpus_judge(xml, &error);

        if (!judgement)
            fail_msg("%s: %s", row->name, error->message);
        if (!g_str_equal(judgement, row->judgement))
            fail_msg("%s: %s, not %s", row->name, judgement, row->judgement);
    }
}

static void what_libvirt_of_other_versions_has_is_judged(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(elsewhere); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *judgement = corpus_judge(elsewhere[i].xml, &error);

        if (!judgement)
            fail_msg("%s: %s", elsewhere[i].xml, error->message);
        if (!g_str_equal(judgement, elsewhere[i].judgement))
            fail_msg("%s: %s, not %s", elsewhere[i].xml, judgement, elsewhere[i].judgement);
    }
}

/* ---- the table ---- */

static gboolean is_judged_somewhere(const char *id, const GPtrArray *rows)
{
    g_autofree char *word = g_strdup_printf("(^|[ ,])%s([ ,]|$)", id);
    g_autoptr(GRegex) regex = g_regex_new(word, 0, 0, NULL);

    for (guint i = 0; i < rows->len; i++) {
        const CorpusRow *row = g_ptr_array_index(rows, i);

        if (g_regex_match(regex, row->judgement, 0, NULL))
            return TRUE;
    }
    for (gsize i = 0; i < G_N_ELEMENTS(elsewhere); i++) {
        if (g_regex_match(regex, elsewhere[i].judgement, 0, NULL))
            return TRUE;
    }
    return FALSE;
}

static void every_rule_has_a_domain_that_it_judges(void **state)
{
    g_autoptr(GPtrArray) rows = corpus_rows();
    gsize n;
    const EligibilityRule *rules = eligibility_rules(&n);

    for (gsize i = 0; i < n; i++) {
        if (!is_judged_somewhere(rules[i].id, rows))
            fail_msg("no domain for %s", rules[i].id);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(memory_ids); i++) {
        /* only where the host is not known */
        if (!g_str_equal(memory_ids[i], "memory-file-system") &&
            !is_judged_somewhere(memory_ids[i], rows))
            fail_msg("no domain for %s", memory_ids[i]);
    }
}

static void assert_documented(const char *text, const char *id, FindingVerdict verdict)
{
    g_autofree char *row = g_strdup_printf("| `%s` | %s |", id, finding_verdict_name(verdict));

    if (!strstr(text, row))
        fail_msg("docs/eligibility.md has no line with %s", row);
}

static void every_rule_is_documented(void **state)
{
    g_autofree char *text = NULL;
    gsize n;
    const EligibilityRule *rules = eligibility_rules(&n);

    assert_true(g_file_get_contents(CORPUS_DIR "/../../../docs/eligibility.md", &text, NULL, NULL));
    for (gsize i = 0; i < n; i++)
        assert_documented(text, rules[i].id, rules[i].verdict);
    for (gsize i = 0; i < G_N_ELEMENTS(memory_ids); i++) {
        g_autofree char *cell = g_strdup_printf("| `%s` |", memory_ids[i]);

        if (!strstr(text, cell))
            fail_msg("docs/eligibility.md has no line with %s", cell);
    }
}

/* ---- words ---- */

static const Finding *find(const GPtrArray *findings, const char *id)
{
    for (guint i = 0; i < findings->len; i++) {
        const Finding *finding = g_ptr_array_index(findings, i);

        if (g_str_equal(finding->id, id))
            return finding;
    }
    fail_msg("no finding %s", id);
    return NULL;
}

static GPtrArray *check(const char *xml, const HostFacts *facts)
{
    g_autoptr(GError) error = NULL;
    GPtrArray *findings = eligibility_check(xml, facts, &error);

    if (!findings)
        fail_msg("%s", error->message);
    return findings;
}

static void whatever_warns_or_fails_names_the_element_and_says_what_to_do(void **state)
{
    g_autoptr(GPtrArray) rows = corpus_rows();

    for (guint i = 0; i < rows->len; i++) {
        const CorpusRow *row = g_ptr_array_index(rows, i);
        g_autofree char *xml = corpus_document(row->name);
        g_autoptr(GPtrArray) findings = check(xml, corpus_host());

        for (guint j = 0; j < findings->len; j++) {
            const Finding *finding = g_ptr_array_index(findings, j);

            assert_non_null(finding->what);
            if (finding->verdict == FINDING_PASS)
                continue;
            assert_int_equal(finding->detail[0], '<');
            assert_non_null(strstr(finding->detail, ">"));
            assert_true(strlen(finding->remedy) > 10);
        }
    }
}

static void the_element_is_the_one_that_is_meant(void **state)
{
    static const struct {
        const char *name, *id, *begin;
    } rows[] = {
        { "nvdimm-file", "memory-nvdimm",
          "<memory model='nvdimm'> number 1 (/var/lib/libvirt/images/nvdimm.raw): its file is on "
          "ext4" },
        { "file-private", "memory-file-backed",
          "<memory>: it is a file in /var/lib/libvirt/qemu/ram, because of <source type='file'/>, "
          "and that is on ext4" },
        { "numa-memaccess-one", "memory-file-backed",
          "<cell id='1'>: it is a file in /var/lib/libvirt/qemu/ram, because of "
          "memAccess='shared'," },
        { "access-private", "memory-file-backed",
          "<memory>: it is a file in /var/lib/libvirt/qemu/ram, because of <access "
          "mode='private'/>," },
        { "dimm-shared", "memory-file-backed",
          "<memory model='dimm'> number 1: it is a file in /var/lib/libvirt/qemu/ram, because of "
          "access='shared'," },
        { "hugepages-odd", "memory-page-multiple", "<cell id='1'>: its 1572864 KiB" },
        { "disk-vhost-user", "disk-vhost-user", "<disk type='vhostuser'> number 1 (vda): " },
        { "hostdev-mdev", "hostdev-mdev",
          "<hostdev type='mdev'> number 1 (c2177883-f1bb-47f0-914d-32a22e3a8804): " },
        { "hostdev-pci", "hostdev-pci",
          "<hostdev type='pci'> number 1 (0x0000 0x06 0x02 0x0): " },
        { "disk-transient", "disk-transient", "<disk type='file'> number 1 (vda): " },
        { "virtiofs", "filesystem-virtiofs", "<filesystem type='mount'> number 1 (share): " },
        { "shmem-plain", "shmem", "<shmem name='shared'> number 1 (shared): " },
        { "cpu-invtsc", "cpu-invtsc", "<feature name='invtsc'>: " },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *xml = corpus_document(rows[i].name);
        g_autoptr(GPtrArray) findings = check(xml, corpus_host());
        const Finding *finding = find(findings, rows[i].id);

        if (!g_str_has_prefix(finding->detail, rows[i].begin))
            fail_msg("%s: %s", rows[i].name, finding->detail);
    }
}

static void elements_are_counted_among_their_kind(void **state)
{
    static const char xml[] =
        DEVICE("<hostdev type='usb'/>x<!-- --><hostdev type='pci'/><disk/><hostdev type='pci'/>");
    g_autoptr(GPtrArray) findings = check(xml, NULL);
    guint seen = 0;

    for (guint i = 0; i < findings->len; i++) {
        const Finding *finding = g_ptr_array_index(findings, i);

        if (!g_str_equal(finding->id, "hostdev-pci"))
            continue;
        seen++;
        assert_true(g_str_has_prefix(finding->detail, seen == 1
                                                          ? "<hostdev type='pci'> number 1: "
                                                          : "<hostdev type='pci'> number 2: "));
    }
    assert_int_equal(seen, 2);
}

/* It goes to logs and terminals. */
static void what_the_document_says_is_quoted_without_control_characters(void **state)
{
    static const char xml[] = DEVICE("<shmem name='a&#10;&#x9b;2J&#x202e;b'/>");
    g_autoptr(GPtrArray) findings = check(xml, NULL);
    const Finding *finding = find(findings, "shmem");

    for (const char *p = finding->detail; *p; p = g_utf8_next_char(p))
        assert_true(g_unichar_isprint(g_utf8_get_char(p)));
}

static void a_name_of_any_length_is_cut(void **state)
{
    g_autofree char *name = g_strnfill(100000, 'a');
    g_autofree char *xml = g_strdup_printf(DEVICE("<shmem name='%s'/>"), name);
    g_autoptr(GPtrArray) findings = check(xml, NULL);

    assert_true(strlen(find(findings, "shmem")->detail) < 1000);
}

static void a_domain_that_passes_says_what_its_memory_is(void **state)
{
    static const struct {
        const char *name, *words;
    } rows[] = {
        { "minimal", "1024 MiB, anonymous memory" },
        { "hugepages-2m-shared", "1024 MiB, a file on hugetlbfs, shared, huge pages of 2048 KiB" },
        { "hugepages-default", "1024 MiB, a file on hugetlbfs, huge pages" },
        { "numa-memaccess-memfd", "512 MiB, memfd, shared; 512 MiB, memfd" },
        { "nvdimm-tmpfs", "1024 MiB, anonymous memory; 512 MiB, /dev/shm/nvdimm.raw" },
        { "units", "976562 KiB, anonymous memory" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *xml = corpus_document(rows[i].name);
        g_autoptr(GPtrArray) findings = check(xml, corpus_host());

        assert_string_equal(find(findings, "memory")->detail, rows[i].words);
        assert_int_equal(find(findings, "memory")->verdict, FINDING_PASS);
        find(findings, "devices");
        find(findings, "domain");
    }
}

/* ---- the host ---- */

static HostFiles all_memory(const char *path, char **ret_name, gpointer data)
{
    *ret_name = g_strdup("tmpfs");
    return HOST_FILES_MEMORY;
}

static HostFiles cannot_look(const char *path, char **ret_name, gpointer data)
{
    return HOST_FILES_UNKNOWN;
}

static void file_backed_memory_depends_on_the_file_system(void **state)
{
    static const char *const names[] = { "file-private", "file-shared", "numa-memaccess",
                                         "dimm-shared",  "nvdimm-file", "virtio-pmem" };
    static const HostFacts memory = { "/dev/shm", 4096, all_memory, NULL };
    static const HostFacts unknown = { "/dev/shm", 4096, cannot_look, NULL };
    static const HostFacts no_dir = { NULL, 4096, cannot_look, NULL };

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *xml = corpus_document(names[i]);
        g_autoptr(GPtrArray) passes = check(xml, &memory);
        g_autoptr(GPtrArray) warns = check(xml, &unknown);
        g_autoptr(GPtrArray) warns_too = check(xml, &no_dir);
        g_autoptr(GPtrArray) warns_as_well = check(xml, NULL);

        assert_int_equal(findings_verdict(passes), FINDING_PASS);
        assert_int_equal(findings_verdict(warns), FINDING_WARN);
        assert_int_equal(findings_verdict(warns_too), FINDING_WARN);
        assert_int_equal(findings_verdict(warns_as_well), FINDING_WARN);
    }
}

static HostFiles all_disk(const char *path, char **ret_name, gpointer data)
{
    *ret_name = g_strdup("ext4");
    return HOST_FILES_DISK;
}

/* A destination may have on a tmpfs what its source has on a disk. */
static void only_a_destinations_disk_fails(void **state)
{
    static const char *const rows[][2] = {
        { "file-private", "memory-file-backed" }, { "access-shared", "memory-file-backed" },
        { "dimm-shared", "memory-file-backed" },  { "nvdimm-file", "memory-nvdimm" },
        { "virtio-pmem", "memory-virtio-pmem" },
    };
    static const HostFacts source = { .memory_backing_dir = "/ram", .files = all_disk };
    static const HostFacts destination = { .memory_backing_dir = "/ram", .files = all_disk,
                                           .destination = TRUE };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *xml = corpus_document(rows[i][0]);
        g_autoptr(GPtrArray) here = check(xml, &source);
        g_autoptr(GPtrArray) there = check(xml, &destination);
        const Finding *warned = find(here, rows[i][1]);
        const Finding *failed = find(there, rows[i][1]);

        assert_int_equal(warned->verdict, FINDING_WARN);
        assert_non_null(strstr(warned->detail, "is on ext4 here: a destination where"));
        assert_non_null(strstr(warned->remedy, "the destination"));
        assert_int_equal(findings_verdict(here), FINDING_WARN);
        assert_int_equal(failed->verdict, FINDING_FAIL);
        assert_non_null(strstr(failed->detail, "would be lost at the switch-over"));
    }
}

static void a_page_of_the_hosts_ordinary_size_is_not_huge(void **state)
{
    static const HostFacts host = { "/dev/shm", 65536, all_memory, NULL };
    g_autofree char *xml = corpus_document("hugepages-ordinary"); /* of 4 KiB */
    g_autoptr(GPtrArray) there = check(xml, &host);

    assert_string_equal(find(there, "memory")->detail,
                        "1024 MiB, a file on hugetlbfs, huge pages of 4 KiB");
}

/* ---- documents that are wrong ---- */

static const struct {
    const char *xml;
    XmlError code;
    const char *what;
} bad[] = {
    { "", XML_ERROR_SYNTAX, "domain XML" },
    { "<domain>", XML_ERROR_SYNTAX, "domain XML" },
    { "<network/>", XML_ERROR_SYNTAX, "<network>" },
    { "<!DOCTYPE d><domain/>", XML_ERROR_SYNTAX, "document type" },
    { "<domain/>", XML_ERROR_MISSING, "no memory" },
    { "<domain><memory/></domain>", XML_ERROR_VALUE, "\"\" is no size" },
    { "<domain><memory>-1</memory></domain>", XML_ERROR_VALUE, "\"-1\" is no size" },
    { "<domain><memory>1.5</memory></domain>", XML_ERROR_VALUE, "\"1.5\" is no size" },
    { "<domain><memory unit='parsec'>1</memory></domain>", XML_ERROR_VALUE,
      "\"parsec\" is no unit" },
    { "<domain><memory unit='KiBs'>1</memory></domain>", XML_ERROR_VALUE, "\"KiBs\" is no unit" },
    { "<domain><memory unit='EiB'>16</memory></domain>", XML_ERROR_VALUE, "too much" },
    { "<domain><memory>18446744073709551615</memory></domain>", XML_ERROR_VALUE, "too much" },
    { "<domain><memory>18446744073709551616</memory></domain>", XML_ERROR_VALUE, "no size" },
    { "<domain><cpu><numa><cell id='x' memory='1'/></numa></cpu></domain>", XML_ERROR_VALUE,
      "\"x\" is no number" },
    { "<domain><cpu><numa><cell memory='x'/></numa></cpu></domain>", XML_ERROR_VALUE, "\"x\"" },
    { BACKED("<hugepages><page size='x'/></hugepages>"), XML_ERROR_VALUE, "\"x\"" },
    { DEVICE("<memory model='dimm'><target><node>x</node></target></memory>"), XML_ERROR_VALUE,
      "\"x\"" },
    { DEVICE("<memory model='dimm'><target><size>x</size></target></memory>"), XML_ERROR_VALUE,
      "\"x\"" },
    { DEVICE("<memory model='dimm'><source><pagesize>x</pagesize></source></memory>"),
      XML_ERROR_VALUE, "\"x\"" },
};

static void a_document_that_is_wrong_is_an_error(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        assert_null(eligibility_check(bad[i].xml, corpus_host(), &error));
        if (!g_error_matches(error, XML_ERROR, (int)bad[i].code) ||
            !strstr(error->message, bad[i].what))
            fail_msg("%s: %s", bad[i].xml, error->message);
    }
}

static void more_cells_than_there_can_be_are_an_error(void **state)
{
    g_autoptr(GString) xml = g_string_new("<domain><cpu><numa>");
    g_autoptr(GError) error = NULL;

    for (int i = 0; i <= RAM_BLOCKS_MAX; i++)
        g_string_append(xml, "<cell memory='4'/>");
    g_string_append(xml, "</numa></cpu></domain>");
    assert_null(ram_blocks_expected(xml->str, 4096, &error));
    assert_true(g_error_matches(error, XML_ERROR, XML_ERROR_VALUE));
}

static void more_sizes_of_pages_than_there_can_be_are_an_error(void **state)
{
    for (int n = RAM_PAGES_MAX; n <= RAM_PAGES_MAX + 1; n++) {
        g_autoptr(GString) xml = g_string_new("<domain><memoryBacking><hugepages>");
        g_autoptr(GPtrArray) blocks = NULL;
        g_autoptr(GError) error = NULL;

        for (int i = 0; i < n; i++)
            g_string_append_printf(xml, "<page size='2048' nodeset='%d'/>", i);
        g_string_append(xml, "</hugepages></memoryBacking><memory>1</memory></domain>");
        blocks = ram_blocks_expected(xml->str, 4096, &error);
        if (n <= RAM_PAGES_MAX)
            assert_non_null(blocks);
        else
            assert_true(g_error_matches(error, XML_ERROR, XML_ERROR_VALUE));
    }
}

static void of_many_devices_some_are_named(void **state)
{
    g_autoptr(GString) xml = g_string_new("<domain><memory>1</memory><devices>");
    g_autoptr(GPtrArray) findings = NULL;

    for (int i = 0; i < 20000; i++)
        g_string_append(xml, "<hostdev type='pci'/>");
    g_string_append(xml, "</devices></domain>");
    findings = check(xml->str, NULL);
    assert_int_equal(findings_verdict(findings), FINDING_FAIL);
    assert_true(findings->len < 100);
}

static void cells_take_the_pages_that_are_for_them(void **state)
{
    static const struct {
        const char *nodeset;
        gboolean first, second;
    } rows[] = {
        { "0", TRUE, FALSE },   { "1", FALSE, TRUE },     { "0-1", TRUE, TRUE },
        { "0,1", TRUE, TRUE },  { "0-3,^1", TRUE, FALSE }, { " 0 , 7-9", TRUE, FALSE },
        { "2", FALSE, FALSE },  { "^0", FALSE, FALSE },
        { "0-99999999999", TRUE, TRUE }, { "5-1", FALSE, FALSE }, { "4096,1", FALSE, TRUE },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *xml = g_strdup_printf(
            "<domain><memoryBacking><hugepages><page size='2048' nodeset='%s'/></hugepages>"
            "</memoryBacking><cpu><numa><cell memory='2048'/><cell memory='2048'/></numa></cpu>"
            "</domain>", rows[i].nodeset);
        g_autoptr(GPtrArray) blocks = ram_blocks_expected(xml, 4096, NULL);
        const RamBlock *first = g_ptr_array_index(blocks, 0);
        const RamBlock *second = g_ptr_array_index(blocks, 1);

        if (first->huge != rows[i].first || second->huge != rows[i].second)
            fail_msg("nodeset \"%s\"", rows[i].nodeset);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_document_of_the_corpus_is_judged_as_expected),
        cmocka_unit_test(what_libvirt_of_other_versions_has_is_judged),
        cmocka_unit_test(every_rule_has_a_domain_that_it_judges),
        cmocka_unit_test(every_rule_is_documented),
        cmocka_unit_test(whatever_warns_or_fails_names_the_element_and_says_what_to_do),
        cmocka_unit_test(the_element_is_the_one_that_is_meant),
        cmocka_unit_test(elements_are_counted_among_their_kind),
        cmocka_unit_test(what_the_document_says_is_quoted_without_control_characters),
        cmocka_unit_test(a_name_of_any_length_is_cut),
        cmocka_unit_test(a_domain_that_passes_says_what_its_memory_is),
        cmocka_unit_test(file_backed_memory_depends_on_the_file_system),
        cmocka_unit_test(only_a_destinations_disk_fails),
        cmocka_unit_test(a_page_of_the_hosts_ordinary_size_is_not_huge),
        cmocka_unit_test(a_document_that_is_wrong_is_an_error),
        cmocka_unit_test(more_cells_than_there_can_be_are_an_error),
        cmocka_unit_test(more_sizes_of_pages_than_there_can_be_are_an_error),
        cmocka_unit_test(of_many_devices_some_are_named),
        cmocka_unit_test(cells_take_the_pages_that_are_for_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
