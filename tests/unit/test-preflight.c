/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Checks of a host: every verdict from facts, and facts from directory trees of the test's own. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <linux/userfaultfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preflight/confinement.h"
#include "preflight/places.h"
#include "preflight/qemu_conf.h"
#include "preflight/userfaultfd.h"
#include "preflight/versions.h"
#include "tests/support/findings.h"

#define ALL_FEATURES (UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MISSING_SHMEM)
#define QEMU 64055

/* ---- a host's files ---- */

static int setup(void **state)
{
    *state = g_dir_make_tmp("test-preflight-XXXXXX", NULL);
    return *state ? 0 : -1;
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_file_test(path, G_FILE_TEST_IS_SYMLINK) ? NULL
                                                                    : g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *inner = g_build_filename(path, name, NULL);

        remove_tree(inner);
    }
    assert_int_equal(g_remove(path), 0);
}

static int teardown(void **state)
{
    g_autofree char *root = *state;

    remove_tree(root);
    return 0;
}

static void put(const char *root, const char *path, const char *text)
{
    g_autofree char *full = g_strconcat(root, path, NULL);
    g_autofree char *dir = g_path_get_dirname(full);

    assert_int_equal(g_mkdir_with_parents(dir, 0755), 0);
    assert_true(g_file_set_contents(full, text, -1, NULL));
    assert_int_equal(g_chmod(full, 0644), 0);
}

static void put_dir(const char *root, const char *path, int mode)
{
    g_autofree char *full = g_strconcat(root, path, NULL);

    assert_int_equal(g_mkdir_with_parents(full, 0755), 0);
    assert_int_equal(g_chmod(full, mode), 0);
}

/* ---- ids ---- */

static void test_ids_are_unique_and_verdicts_no_pass(void **state)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (PreflightProblem problem = 0; problem < PROBLEM_MAX; problem++) {
        assert_non_null(preflight_problem_id(problem));
        assert_true(g_hash_table_add(seen, (char *)preflight_problem_id(problem)));
        assert_int_not_equal(preflight_problem_verdict(problem), FINDING_PASS);
    }
    for (PreflightCheck check = 0; check < CHECK_MAX; check++)
        assert_true(g_hash_table_add(seen, (char *)preflight_check_id(check)));
}

/* ---- access ---- */

static void test_mode_bits_are_read_as_the_kernel_does(void **state)
{
    static const struct {
        mode_t mode;
        uid_t owner;
        gid_t group;
        PreflightAccess expected; /* for uid and gid QEMU to read and write */
    } rows[] = {
        { 0600, 0, 0, ACCESS_NO },       { 0666, 0, 0, ACCESS_YES },
        { 0600, QEMU, 0, ACCESS_YES },   { 0066, QEMU, 0, ACCESS_NO },
        { 0060, 0, QEMU, ACCESS_YES },   { 0606, 0, QEMU, ACCESS_NO },
        { 0660, 0, 108, ACCESS_MAYBE },  { 0640, 0, 108, ACCESS_NO },
        { 0644, 0, 0, ACCESS_NO },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        assert_int_equal(preflight_access(rows[i].mode, rows[i].owner, rows[i].group, QEMU, QEMU,
                                          4 | 2),
                         rows[i].expected);
    assert_int_equal(preflight_access(0, 1, 1, 0, 0, 7), ACCESS_YES);
}

static void test_reading_is_for_regular_files_of_a_size(void **state)
{
    const char *root = *state;
    g_autofree char *fifo = g_strconcat(root, "/fifo", NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    mode_t mode = 0;
    gsize len = 0;

    put(root, "/file", "12345");
    assert_true(preflight_read(root, "/file", 5, &text, &len, &mode, NULL));
    assert_string_equal(text, "12345");
    assert_int_equal(len, 5);
    assert_int_equal(mode, 0644);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_false(preflight_read(root, "/file", 4, &text, &len, NULL, NULL));
    assert_false(preflight_read(root, "/fifo", 4, &text, &len, NULL, NULL));
    assert_false(preflight_read(root, "/", 4, &text, &len, NULL, NULL));
    assert_false(preflight_read(root, "/none", 4, &text, &len, NULL, &error));
    assert_true(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND));
    assert_string_equal(text, "12345");
}

/* ---- userfaultfd ---- */

static GPtrArray *judge_userfaultfd(UserfaultfdFacts facts)
{
    GPtrArray *findings = findings_new();

    userfaultfd_judge(findings, &facts);
    return findings;
}

#define FACTS(uid, qemu, sysctl, device, probe, features)                                          \
    ((UserfaultfdFacts){ { uid, uid }, qemu, sysctl, device, probe, features, FALSE })

static void test_userfaultfd_passes_where_qemu_may(void **state)
{
    const UserfaultfdFacts rows[] = {
        FACTS(QEMU, 7002000, 1, ACCESS_NO, 0, ALL_FEATURES),
        FACTS(QEMU, 7002000, 1, ACCESS_NO, USERFAULTFD_NOT_PROBED, 0),
        FACTS(0, 7002000, 1, ACCESS_NO, 0, ALL_FEATURES),
        FACTS(0, 7002000, -1, ACCESS_NO, 0, ALL_FEATURES),
        FACTS(0, 8000000, 0, ACCESS_YES, 0, ALL_FEATURES),
        FACTS(QEMU, 7002000, -1, ACCESS_NO, 0, ALL_FEATURES), /* a kernel that lets everybody */
        FACTS(QEMU, 8000000, 0, ACCESS_YES, 0, ALL_FEATURES),
        FACTS(QEMU, 0, 0, ACCESS_MAYBE, USERFAULTFD_NOT_PROBED, ALL_FEATURES),
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GPtrArray) findings = judge_userfaultfd(rows[i]);

        assert_passes(findings, CHECK_USERFAULTFD);
    }
}

static void test_userfaultfd_of_an_ordinary_user_needs_the_sysctl(void **state)
{
    g_autoptr(GPtrArray) old =
        judge_userfaultfd(FACTS(QEMU, 7002000, 0, ACCESS_NO, EPERM, ALL_FEATURES));
    g_autoptr(GPtrArray) old_device =
        judge_userfaultfd(FACTS(QEMU, 7002000, 0, ACCESS_YES, 0, ALL_FEATURES));
    g_autoptr(GPtrArray) newer =
        judge_userfaultfd(FACTS(QEMU, 8000000, 0, ACCESS_NO, EPERM, ALL_FEATURES));
    g_autoptr(GPtrArray) unknown = judge_userfaultfd(
        FACTS(QEMU, 0, 0, ACCESS_NO, USERFAULTFD_NOT_PROBED, ALL_FEATURES));

    assert_problem(old, PROBLEM_USERFAULTFD_FORBIDDEN, "uid 64055",
                   "vm.unprivileged_userfaultfd=1 >");
    assert_problem(old_device, PROBLEM_USERFAULTFD_FORBIDDEN, "uid 64055", "sysctl --system");
    assert_problem(newer, PROBLEM_USERFAULTFD_FORBIDDEN, "may not", "/dev/userfaultfd");
    assert_problem(unknown, PROBLEM_USERFAULTFD_FORBIDDEN, "may not", "/dev/userfaultfd");
}

static void test_userfaultfd_may_be_filtered_or_missing(void **state)
{
    g_autoptr(GPtrArray) filtered =
        judge_userfaultfd(FACTS(QEMU, 7002000, 1, ACCESS_NO, EPERM, ALL_FEATURES));
    g_autoptr(GPtrArray) root =
        judge_userfaultfd(FACTS(0, 7002000, 0, ACCESS_NO, EPERM, ALL_FEATURES));
    g_autoptr(GPtrArray) missing =
        judge_userfaultfd(FACTS(QEMU, 7002000, -1, ACCESS_NO, ENOSYS, ALL_FEATURES));
    g_autoptr(GPtrArray) poor = judge_userfaultfd(
        FACTS(QEMU, 7002000, 1, ACCESS_NO, 0, UFFD_FEATURE_MISSING_SHMEM));

    assert_problem(filtered, PROBLEM_USERFAULTFD_FILTERED, "refused", "seccomp");
    assert_problem(root, PROBLEM_USERFAULTFD_FILTERED, "uid 0", "CAP_SYS_PTRACE");
    assert_problem(missing, PROBLEM_USERFAULTFD_KERNEL, "no userfaultfd", "CONFIG_USERFAULTFD=y");
    assert_problem(poor, PROBLEM_USERFAULTFD_FEATURES, "ordinary memory", "4.11");
}

/* What libvirt is to start, unless qemu.conf says otherwise: to the kernel an ordinary user. */
static void test_userfaultfd_of_root_without_capabilities(void **state)
{
    UserfaultfdFacts capable = FACTS(0, 7002000, 0, ACCESS_NO, USERFAULTFD_NOT_PROBED, 0);
    g_autoptr(GPtrArray) doubtful = judge_userfaultfd(capable);
    g_autoptr(GPtrArray) tried =
        judge_userfaultfd(FACTS(0, 7002000, 0, ACCESS_YES, 0, ALL_FEATURES));
    g_autoptr(GPtrArray) kept = NULL;

    capable.capable = TRUE;
    kept = judge_userfaultfd(capable);
    assert_problem(doubtful, PROBLEM_USERFAULTFD_ROOT, "capabilities", "sysctl --system");
    assert_problem(tried, PROBLEM_USERFAULTFD_ROOT, "may not", "unprivileged_userfaultfd=1");
    assert_passes(kept, CHECK_USERFAULTFD);
}

static void test_userfaultfd_is_looked_up_in_files(void **state)
{
    const char *root = *state;
    QemuOwner owner = { QEMU, QEMU };
    UserfaultfdFacts facts;

    userfaultfd_look(root, &owner, 7002000, &facts);
    assert_int_equal(facts.sysctl, -1);
    assert_int_equal(facts.device, ACCESS_NO);
    assert_int_equal(facts.probe, USERFAULTFD_NOT_PROBED);
    put(root, "/proc/sys/vm/unprivileged_userfaultfd", "0\n");
    put(root, "/dev/userfaultfd", "");
    userfaultfd_look(root, &owner, 7002000, &facts);
    assert_int_equal(facts.sysctl, 0);
    assert_int_equal(facts.device, ACCESS_NO);
    put(root, "/proc/sys/vm/unprivileged_userfaultfd", "1\n");
    userfaultfd_look(root, &owner, 7002000, &facts);
    assert_int_equal(facts.sysctl, 1);
    assert_false(facts.capable);
    put(root, LIBVIRT_QEMU_CONF, "#x\nclear_emulator_capabilities = 0\n");
    put(root, "/proc/sys/vm/unprivileged_userfaultfd", "x");
    userfaultfd_look(root, &owner, 7002000, &facts);
    assert_int_equal(facts.sysctl, 0);
    assert_true(facts.capable);
}

/* Whatever it says: the child has said it, and this process is who it was. */
static void test_the_probe_leaves_this_process_alone(void **state)
{
    QemuOwner owner = { geteuid() == 0 ? 65534 : geteuid(), geteuid() == 0 ? 65534 : getegid() };
    uid_t uid = geteuid();
    UserfaultfdFacts facts;

    userfaultfd_look("", &owner, 0, &facts);
    userfaultfd_probe(&facts);
    assert_int_not_equal(facts.probe, USERFAULTFD_NOT_PROBED);
    assert_int_equal(geteuid(), uid);
}

/* ---- versions ---- */

static void test_versions(void **state)
{
    static const struct {
        gboolean qemu;
        gulong version;
        PreflightProblem problem; /* PROBLEM_MAX: none */
        const char *detail, *remedy;
    } rows[] = {
        { FALSE, 8004000, PROBLEM_LIBVIRT_OLD, "8.4.0", "8.5" },
        { FALSE, 0, PROBLEM_LIBVIRT_OLD, "0.0.0", "8.5" },
        { FALSE, 8005000, PROBLEM_MAX, NULL, NULL },
        { FALSE, 11002000, PROBLEM_MAX, NULL, NULL },
        { FALSE, 11003000, PROBLEM_LIBVIRT_RESUME_CRASH, "11.3.0", "11.4" },
        { FALSE, 11003001, PROBLEM_LIBVIRT_RESUME_CRASH, "crash", "11.4" },
        { FALSE, 11004000, PROBLEM_MAX, NULL, NULL },
        { TRUE, 0, PROBLEM_QEMU_MISSING, "no QEMU", "install QEMU" },
        { TRUE, 6002000, PROBLEM_QEMU_UNTRIED, "6.2.0", "7.2" },
        { TRUE, 7002000, PROBLEM_MAX, NULL, NULL },
        { TRUE, 10000002, PROBLEM_MAX, NULL, NULL },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GPtrArray) findings = findings_new();

        if (rows[i].qemu)
            versions_judge_qemu(findings, CHECK_QEMU, rows[i].version);
        else
            versions_judge_libvirt(findings, CHECK_PEER_LIBVIRT, rows[i].version);
        if (rows[i].problem == PROBLEM_MAX)
            assert_passes(findings, rows[i].qemu ? CHECK_QEMU : CHECK_PEER_LIBVIRT);
        else
            assert_problem(findings, rows[i].problem, rows[i].detail, rows[i].remedy);
    }
}

/* ---- qemu.conf ---- */

static GPtrArray *judge_conf(const char *text)
{
    GPtrArray *findings = findings_new();

    qemu_conf_judge(findings, text, strlen(text), "/etc/libvirt/qemu.conf");
    return findings;
}

static void test_migrate_tls_force_is_found(void **state)
{
    g_autoptr(GPtrArray) on = judge_conf("user = \"root\"\nmigrate_tls_force = 1\n");
    g_autoptr(GPtrArray) off = judge_conf("migrate_tls_force = 0\n");
    g_autoptr(GPtrArray) comment = judge_conf("#migrate_tls_force = 1\n");
    g_autoptr(GPtrArray) empty = judge_conf("");
    g_autoptr(GPtrArray) garbled = judge_conf("migrate_tls_force = = 1\n");

    assert_problem(on, PROBLEM_QEMU_TLS_FORCE, "/etc/libvirt/qemu.conf", "migrate_tls_force = 0");
    assert_passes(off, CHECK_QEMU_CONF);
    assert_passes(comment, CHECK_QEMU_CONF);
    assert_passes(empty, CHECK_QEMU_CONF);
    assert_problem(garbled, PROBLEM_QEMU_CONF_UNREADABLE, "qemu.conf:1", "correct");
}

static void test_qemu_conf_may_be_missing(void **state)
{
    const char *root = *state;
    g_autoptr(GPtrArray) none = findings_new();
    g_autoptr(GPtrArray) dir = findings_new();

    qemu_conf_look(none, root);
    assert_passes(none, CHECK_QEMU_CONF);
    put_dir(root, LIBVIRT_QEMU_CONF, 0755);
    qemu_conf_look(dir, root);
    assert_problem(dir, PROBLEM_QEMU_CONF_UNREADABLE, "not a regular file", "correct");
}

/* ---- places ---- */

static GPtrArray *look_at_run_dir(const char *root, uid_t uid)
{
    QemuOwner owner = { uid, uid };
    g_auto(RunDirFacts) facts = { NULL };
    GPtrArray *findings = findings_new();

    run_dir_look(root, "/run/libvirt/virtpostcopy", &owner, &facts);
    run_dir_judge(findings, &facts);
    return findings;
}

static void test_run_dir_must_be_passable(void **state)
{
    const char *root = *state;
    uid_t other = getuid() + 1;
    g_autoptr(GPtrArray) none = look_at_run_dir(root, other);

    assert_problem(none, PROBLEM_RUN_DIR_MISSING, "not there", "systemctl restart virtpostcopyd");
    put_dir(root, "/run/libvirt/virtpostcopy", 0711);
    {
        g_autoptr(GPtrArray) good = look_at_run_dir(root, other);

        assert_passes(good, CHECK_RUN_DIR);
    }
    put_dir(root, "/run/libvirt/virtpostcopy", 0700);
    {
        g_autoptr(GPtrArray) closed = look_at_run_dir(root, other);
        g_autoptr(GPtrArray) as_root = look_at_run_dir(root, 0);

        assert_problem(closed, PROBLEM_RUN_DIR_ACCESS, "/run/libvirt/virtpostcopy",
                       "chmod o+x /run/libvirt/virtpostcopy\"");
        assert_passes(as_root, CHECK_RUN_DIR);
    }
    put_dir(root, "/run/libvirt/virtpostcopy", 0711);
    put_dir(root, "/run/libvirt", 0700);
    {
        g_autoptr(GPtrArray) above = look_at_run_dir(root, other);

        assert_problem(above, PROBLEM_RUN_DIR_ACCESS, "through /run/libvirt ",
                       "chmod o+x /run/libvirt\"");
    }
    put_dir(root, "/run/libvirt", 0755);
}

static void test_run_dir_must_be_a_directory(void **state)
{
    const char *root = *state;
    g_autoptr(GPtrArray) findings = NULL;

    put(root, "/run/libvirt/virtpostcopy", "");
    findings = look_at_run_dir(root, getuid() + 1);
    assert_problem(findings, PROBLEM_RUN_DIR_MISSING, "not a directory", "run_dir");
}

static GPtrArray *look_at_helper(const char *root, const char *user)
{
    GPtrArray *findings = findings_new();
    HelperFacts facts;

    helper_look(root, "/usr/libexec/helper", user, FALSE, &facts);
    helper_judge(findings, &facts);
    return findings;
}

static void test_helper_must_be_a_program(void **state)
{
    const char *root = *state;
    g_autofree char *path = g_strconcat(root, "/usr/libexec/helper", NULL);
    g_autoptr(GPtrArray) none = look_at_helper(root, "root");

    assert_problem(none, PROBLEM_HELPER_MISSING, "not there", "helper_path");
    put(root, "/usr/libexec/helper", "");
    {
        g_autoptr(GPtrArray) data = look_at_helper(root, "root");

        assert_problem(data, PROBLEM_HELPER_MODE, "not executable", "chmod 755");
    }
    assert_int_equal(g_chmod(path, 0755), 0);
    {
        g_autoptr(GPtrArray) good = look_at_helper(root, "root");

        assert_passes(good, CHECK_HELPER);
        assert_passes(good, CHECK_HELPER_USER);
    }
    assert_int_equal(g_remove(path), 0);
    put_dir(root, "/usr/libexec/helper", 0755);
    {
        g_autoptr(GPtrArray) dir = look_at_helper(root, "root");

        assert_problem(dir, PROBLEM_HELPER_MODE, "not a program", "helper_path");
    }
}

static void test_helper_user_must_exist(void **state)
{
    const HelperFacts facts = { .path = "/h", .exists = TRUE, .is_file = TRUE, .mode = 0755,
                                .user = "nobody-has-this-name" };
    g_autoptr(GPtrArray) findings = findings_new();

    helper_judge(findings, &facts);
    assert_problem(findings, PROBLEM_HELPER_USER, "nobody-has-this-name", "useradd --system");
}

static void test_helper_user_that_is_known_is_not_looked_for(void **state)
{
    const char *root = *state;
    HelperFacts facts;

    helper_look(root, "/usr/libexec/helper", "nobody-has-this-name", FALSE, &facts);
    assert_false(facts.user_exists);
    helper_look(root, "/usr/libexec/helper", "nobody-has-this-name", TRUE, &facts);
    assert_true(facts.user_exists);
}

/* ---- AppArmor and SELinux ---- */

#define RULES "/etc/apparmor.d/local/abstractions/libvirt-qemu"
#define SHIPPED                                                                                    \
    "  # a comment\n  /{,var/}run/libvirt/virtpostcopy/in-*/qemu rw,\n"                            \
    "  /{,var/}run/libvirt/virtpostcopy/out-*.sock rw,\n"

static GPtrArray *look_at_confinement_of(const char *root, const char *run_dir)
{
    g_auto(ConfinementFacts) facts = { NULL };
    GPtrArray *findings = findings_new();

    confinement_look(root, run_dir, &facts);
    confinement_judge(findings, &facts);
    return findings;
}

static GPtrArray *look_at_confinement(const char *root)
{
    return look_at_confinement_of(root, "/run/libvirt/virtpostcopy");
}

static void put_apparmor(const char *root)
{
    put(root, "/sys/module/apparmor/parameters/enabled", "Y\n");
    put(root, "/sys/kernel/security/apparmor/profiles",
        "/usr/bin/man (enforce)\nvirt-aa-helper (enforce)\nlibvirtd (enforce)\n");
}

static void test_apparmor_needs_both_rules(void **state)
{
    static const char *const bad[] = {
        "",
        "  # /run/libvirt/virtpostcopy/in-*/qemu rw,\n  # /run/libvirt/virtpostcopy/out-*.sock rw,\n",
        "  /run/libvirt/virtpostcopy/in-*/qemu rw,\n",
        "  /run/libvirt/virtpostcopy/out-*.sock rw,\n",
        "  /run/libvirt/virtpostcopy/in-*/qemu r,\n  /run/libvirt/virtpostcopy/out-*.sock r,\n",
        "  /run/other/in-*/qemu rw,\n  /run/other/out-*.sock rw,\n",
        "\xff\xfe rw,",
        "  deny /run/libvirt/virtpostcopy/** rw,\n",
        "  audit deny /run/libvirt/virtpostcopy/** rw,\n",
        "  file, /run/libvirt/virtpostcopy/** r,\n",
        "  /run/libvirt/* rw,\n",
        "  /run/libvirt/virtpostcopy/** r,\n",
        "  /run/libvirt/virtpostcopy/** rw\n", /* a line that does not end */
        "  @{run rw,\n  /run/{a rw,\n  /run/[ rw,\n",
    };
    static const char *const good[] = {
        SHIPPED,
        "/run/libvirt/virtpostcopy/in-*/qemu rw,\n/run/libvirt/virtpostcopy/out-*.sock rwk,\n",
        "  owner @{run}/libvirt/virtpostcopy/** rwk,\n",
        "\t\"/run/libvirt/**\" rw,",
        "@{run}/libvirt/virtpostcopy/in-*/qemu rw,\n@{run}/libvirt/virtpostcopy/out-*.sock rw, # x\n",
        "/run/libvirt/virtpostcopy/** rw,\n",
        "  file,\n",
        "rw /{,var/}run/libvirt/virtpostcopy/{in-*/qemu,out-*.sock},\n",
    };
    const char *root = *state;

    put_apparmor(root);
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GPtrArray) findings = NULL;

        put(root, RULES, bad[i]);
        findings = look_at_confinement(root);
        assert_problem(findings, PROBLEM_APPARMOR_RULE, RULES,
                       "\"/run/libvirt/virtpostcopy/in-*/qemu rw,\"");
    }
    for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autoptr(GPtrArray) findings = NULL;

        put(root, RULES, good[i]);
        findings = look_at_confinement(root);
        assert_passes(findings, CHECK_APPARMOR);
    }
}

/* The remedy, done to the letter. */
static void test_apparmor_remedy_helps(void **state)
{
    const char *root = *state;
    g_autoptr(GPtrArray) before = NULL;
    g_autoptr(GPtrArray) after = NULL;
    g_auto(GStrv) parts = NULL;
    g_autofree char *rules = NULL;
    const char *remedy;

    put_apparmor(root); /* and no file of local rules */
    before = look_at_confinement(root);
    remedy = findings_find(before, preflight_problem_id(PROBLEM_APPARMOR_RULE))->remedy;
    parts = g_strsplit(remedy, "\"", -1);
    rules = g_strdup_printf("%s\n%s\n", parts[1], parts[3]);
    put(root, RULES, rules);
    after = look_at_confinement(root);
    assert_passes(after, CHECK_APPARMOR);
}

static void test_apparmor_rules_may_stand_in_other_files(void **state)
{
    const char *root = *state;
    g_autoptr(GPtrArray) findings = NULL;

    put_apparmor(root);
    put(root, "/etc/apparmor.d/abstractions/libvirt-qemu", "  /run/libvirt/virtpostcopy/in-*/qemu rw,\n");
    put(root, "/etc/apparmor.d/abstractions/libvirt-qemu.d/site",
        "  /run/libvirt/virtpostcopy/out-*.sock rw,\n");
    findings = look_at_confinement(root);
    assert_passes(findings, CHECK_APPARMOR);
}

static void test_apparmor_knows_run_by_both_names(void **state)
{
    static const char *const rules[] = {
        SHIPPED,
        "  /run/libvirt/virtpostcopy/** rw,\n",
        "  @{run}/libvirt/virtpostcopy/** rw,\n",
        "  /var/run/libvirt/virtpostcopy/** rw,\n",
    };
    const char *root = *state;
    g_autoptr(GPtrArray) none = NULL;

    put_apparmor(root);
    for (gsize i = 0; i < G_N_ELEMENTS(rules); i++) {
        g_autoptr(GPtrArray) findings = NULL;

        put(root, RULES, rules[i]);
        findings = look_at_confinement_of(root, "/var/run/libvirt/virtpostcopy");
        assert_passes(findings, CHECK_APPARMOR);
    }
    put(root, RULES, "");
    none = look_at_confinement_of(root, "/var/run/libvirt/virtpostcopy");
    assert_problem(none, PROBLEM_APPARMOR_RULE, "/var/run/libvirt",
                   "\"/run/libvirt/virtpostcopy/in-*/qemu rw,\"");
}

static void test_apparmor_that_confines_no_qemu_is_none(void **state)
{
    const char *root = *state;
    g_autoptr(GPtrArray) other = NULL;
    g_autoptr(GPtrArray) off = NULL;
    g_autoptr(GPtrArray) complain = NULL;

    put_apparmor(root);
    put(root, "/sys/kernel/security/apparmor/profiles", "/usr/bin/man (enforce)\n");
    other = look_at_confinement(root);
    put(root, "/sys/kernel/security/apparmor/profiles", "libvirtd (complain)\n");
    complain = look_at_confinement(root);
    put_apparmor(root);
    put(root, "/etc/libvirt/qemu.conf", "#x\nsecurity_driver = \"none\"\n");
    off = look_at_confinement(root);
    assert_passes(other, CHECK_APPARMOR);
    assert_passes(complain, CHECK_APPARMOR);
    assert_passes(off, CHECK_APPARMOR);
}

static void test_selinux_enforcing_is_a_warning(void **state)
{
    const char *root = *state;
    g_autoptr(GPtrArray) enforcing = NULL;
    g_autoptr(GPtrArray) permissive = NULL;

    put(root, "/sys/fs/selinux/enforce", "1");
    enforcing = look_at_confinement(root);
    put(root, "/sys/fs/selinux/enforce", "0");
    permissive = look_at_confinement(root);
    assert_problem(enforcing, PROBLEM_SELINUX_ENFORCING, "enforcing", "audit2allow");
    assert_passes(permissive, CHECK_SELINUX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids_are_unique_and_verdicts_no_pass),
        cmocka_unit_test(test_mode_bits_are_read_as_the_kernel_does),
        cmocka_unit_test_setup_teardown(test_reading_is_for_regular_files_of_a_size, setup, teardown),
        cmocka_unit_test(test_userfaultfd_passes_where_qemu_may),
        cmocka_unit_test(test_userfaultfd_of_an_ordinary_user_needs_the_sysctl),
        cmocka_unit_test(test_userfaultfd_may_be_filtered_or_missing),
        cmocka_unit_test_setup_teardown(test_userfaultfd_is_looked_up_in_files, setup, teardown),
        cmocka_unit_test(test_userfaultfd_of_root_without_capabilities),
        cmocka_unit_test(test_the_probe_leaves_this_process_alone),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_migrate_tls_force_is_found),
        cmocka_unit_test_setup_teardown(test_qemu_conf_may_be_missing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_run_dir_must_be_passable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_run_dir_must_be_a_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_helper_must_be_a_program, setup, teardown),
        cmocka_unit_test(test_helper_user_must_exist),
        cmocka_unit_test_setup_teardown(test_helper_user_that_is_known_is_not_looked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(test_apparmor_needs_both_rules, setup, teardown),
        cmocka_unit_test_setup_teardown(test_apparmor_remedy_helps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_apparmor_rules_may_stand_in_other_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_apparmor_knows_run_by_both_names, setup, teardown),
        cmocka_unit_test_setup_teardown(test_apparmor_that_confines_no_qemu_is_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_selinux_enforcing_is_a_warning, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
