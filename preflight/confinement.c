/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "preflight/confinement.h"

#include <glib/gi18n.h>
#include <string.h>

#define APPARMOR_ENABLED "/sys/module/apparmor/parameters/enabled"
#define APPARMOR_PROFILES "/sys/kernel/security/apparmor/profiles"
#define APPARMOR_RULES "/etc/apparmor.d/local/abstractions/libvirt-qemu"
#define SELINUX_ENFORCE "/sys/fs/selinux/enforce"
#define QEMU_CONF "/etc/libvirt/qemu.conf"

#define TEXT_MAX (256 * 1024)

void confinement_facts_clear(ConfinementFacts *facts)
{
    g_clear_pointer(&facts->rules, g_free);
}

static char *read_text(const char *root, const char *path)
{
    char *text = NULL;
    gsize len;

    return preflight_read(root, path, TEXT_MAX, &text, &len, NULL, NULL) ? text : NULL;
}

static gboolean is_on(const char *root, const char *path, char yes)
{
    g_autofree char *text = read_text(root, path);

    return text && text[0] == yes;
}

/* Profiles of guests come and go with them, libvirtd's own stays: with it enforced, guests get
 * theirs. */
static gboolean confines_qemu(const char *root)
{
    g_autofree char *text = read_text(root, APPARMOR_PROFILES);
    g_auto(GStrv) lines = text ? g_strsplit(text, "\n", -1) : NULL;

    for (char **line = lines; line && *line; line++) {
        if (g_str_has_suffix(*line, "(enforce)") &&
            (g_str_has_prefix(*line, "libvirtd ") || g_str_has_prefix(*line, "virtqemud ") ||
             g_str_has_prefix(*line, "libvirt-") || g_str_has_prefix(*line, "/usr/sbin/libvirtd ") ||
             g_str_has_prefix(*line, "/usr/sbin/virtqemud ")))
            return TRUE;
    }
    return FALSE;
}

/* security_driver = "none" (or in a list without the other) turns it off for guests. */
static gboolean driver_is_off(const char *root, const char *module)
{
    g_autofree char *text = read_text(root, QEMU_CONF);
    g_auto(GStrv) lines = text ? g_strsplit(text, "\n", -1) : NULL;

    for (char **line = lines; line && *line; line++) {
        char *word = g_strstrip(*line);

        if (g_str_has_prefix(word, "security_driver"))
            return strstr(word, module) == NULL;
    }
    return FALSE;
}

void confinement_look(const char *root, const char *run_dir, ConfinementFacts *ret_facts)
{
    *ret_facts = (ConfinementFacts){ .run_dir = run_dir };
    ret_facts->apparmor = is_on(root, APPARMOR_ENABLED, 'Y') && confines_qemu(root) &&
                          !driver_is_off(root, "apparmor");
    if (ret_facts->apparmor)
        ret_facts->rules = read_text(root, APPARMOR_RULES);
    ret_facts->selinux = is_on(root, SELINUX_ENFORCE, '1') && !driver_is_off(root, "selinux");
}

/* A path as AppArmor's rules write it may have alternatives of its beginning. */
static gboolean line_allows(const char *line, const char *run_dir, const char *name)
{
    g_autofree char *tail = g_strconcat(run_dir, name, NULL);
    const char *run = g_str_has_prefix(tail, "/run/") ? tail + strlen("/") : tail;
    g_auto(GStrv) words = NULL;

    if (line[0] == '#' || !strstr(line, run))
        return FALSE;
    words = g_strsplit_set(line, " \t,", -1);
    for (char **word = words; *word; word++) {
        if (g_str_has_suffix(*word, run))
            continue;
        if (strchr(*word, 'r') && strchr(*word, 'w') && strspn(*word, "rwkla") == strlen(*word))
            return TRUE;
    }
    return FALSE;
}

static gboolean rules_allow(const char *rules, const char *run_dir, const char *name)
{
    g_auto(GStrv) lines = g_strsplit(rules, "\n", -1);

    for (char **line = lines; *line; line++) {
        if (line_allows(g_strstrip(*line), run_dir, name))
            return TRUE;
    }
    return FALSE;
}

static void judge_apparmor(GPtrArray *findings, const ConfinementFacts *facts)
{
    const char *dir = facts->run_dir;

    if (facts->rules && rules_allow(facts->rules, dir, "/in-*/qemu") &&
        rules_allow(facts->rules, dir, "/out-*.sock")) {
        preflight_pass(findings, CHECK_APPARMOR, APPARMOR_RULES);
        return;
    }
    preflight_problem(
        findings, CHECK_APPARMOR, PROBLEM_APPARMOR_RULE,
        g_strdup_printf(_("AppArmor confines QEMU, and %1$s does not let it reach its sockets in "
                          "%2$s"),
                        APPARMOR_RULES, dir),
        g_strdup_printf(_("append the lines \"%1$s/in-*/qemu rw,\" and \"%1$s/out-*.sock rw,\" to "
                          "%2$s"),
                        dir, APPARMOR_RULES));
}

void confinement_judge(GPtrArray *findings, const ConfinementFacts *facts)
{
    if (facts->apparmor)
        judge_apparmor(findings, facts);
    else
        preflight_pass(findings, CHECK_APPARMOR, _("does not confine QEMU"));
    if (!facts->selinux) {
        preflight_pass(findings, CHECK_SELINUX, _("not enforcing"));
        return;
    }
    preflight_problem(
        findings, CHECK_SELINUX, PROBLEM_SELINUX_ENFORCING,
        g_strdup_printf(_("SELinux is enforcing, and the policy has no rules for sockets of QEMU in "
                          "%s"),
                        facts->run_dir),
        g_strdup_printf(_("migrate once in permissive mode (\"setenforce 0\"), make a module of what "
                          "\"ausearch -m avc -ts recent | audit2allow\" says of svirt_t and %s, load "
                          "it with semodule, and run \"setenforce 1\""),
                        facts->run_dir));
}
