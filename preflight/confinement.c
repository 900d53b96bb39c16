/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "preflight/confinement.h"

#include <glib/gi18n.h>
#include <string.h>

#include "preflight/qemu_conf.h"

#define APPARMOR_ENABLED "/sys/module/apparmor/parameters/enabled"
#define APPARMOR_PROFILES "/sys/kernel/security/apparmor/profiles"
#define APPARMOR_RULES "/etc/apparmor.d/local/abstractions/libvirt-qemu"
#define SELINUX_ENFORCE "/sys/fs/selinux/enforce"

#define APPARMOR_ABSTRACTIONS "/etc/apparmor.d/abstractions/libvirt-qemu"

/* Names like those of the driver's sockets: 128 bits that nobody knows. */
#define IN_NAME "/in-0123456789abcdef0123456789abcdef/qemu"
#define OUT_NAME "/out-0123456789abcdef0123456789abcdef.sock"

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
             g_str_has_prefix(*line, "libvirt-") ||
             g_str_has_prefix(*line, "/usr/sbin/libvirtd ") ||
             g_str_has_prefix(*line, "/usr/sbin/virtqemud ")))
            return TRUE;
    }
    return FALSE;
}

/* security_driver = "none" (or in a list without the other) turns it off for guests. */
static gboolean driver_is_off(const char *root, const char *module)
{
    g_autofree char *text = read_text(root, LIBVIRT_QEMU_CONF);
    g_auto(GStrv) lines = text ? g_strsplit(text, "\n", -1) : NULL;

    for (char **line = lines; line && *line; line++) {
        char *word = g_strstrip(*line);

        if (g_str_has_prefix(word, "security_driver"))
            return strstr(word, module) == NULL;
    }
    return FALSE;
}

static void append_text(GString *out, const char *root, const char *path)
{
    g_autofree char *text = read_text(root, path);

    if (text)
        g_string_append_printf(out, "%s\n", text);
}

/* Everything that distributions include for QEMU: the abstraction, what sites add to it, and its
 * directory. */
static char *read_rules(const char *root)
{
    GString *out = g_string_new(NULL);
    g_autofree char *top = g_strconcat(root, APPARMOR_ABSTRACTIONS ".d", NULL);
    g_autoptr(GDir) dir = g_dir_open(top, 0, NULL);
    const char *name;

    append_text(out, root, APPARMOR_RULES);
    append_text(out, root, APPARMOR_ABSTRACTIONS);
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(APPARMOR_ABSTRACTIONS ".d", name, NULL);

        append_text(out, root, path);
    }
    return g_string_free(out, FALSE);
}

void confinement_look(const char *root, const char *run_dir, ConfinementFacts *ret_facts)
{
    *ret_facts = (ConfinementFacts){ .run_dir = run_dir };
    ret_facts->apparmor = is_on(root, APPARMOR_ENABLED, 'Y') && confines_qemu(root) &&
                          !driver_is_off(root, "apparmor");
    if (ret_facts->apparmor)
        ret_facts->rules = read_rules(root);
    ret_facts->selinux = is_on(root, SELINUX_ENFORCE, '1') && !driver_is_off(root, "selinux");
}

/* A path of AppArmor's as a regular expression. Variables other than @{run} are taken for anything.
 */
static char *path_regex(const char *pattern)
{
    GString *regex = g_string_new("^");
    guint depth = 0;

    for (const char *p = pattern; *p; p++) {
        if (g_str_has_prefix(p, "@{")) {
            g_string_append(regex, g_str_has_prefix(p, "@{run}") ? "(/var)?/run" : ".*");
            p += strcspn(p, "}");
            if (!*p) { /* it does not end */
                g_string_append(regex, "(?!)");
                break;
            }
        } else if (g_str_has_prefix(p, "**")) {
            g_string_append(regex, ".*");
            p++;
        } else if (*p == '*' || *p == '?') {
            g_string_append(regex, *p == '*' ? "[^/]*" : "[^/]");
        } else if (*p == '{' || (*p == '}' && depth > 0)) {
            depth += *p == '{' ? 1 : (guint)-1;
            g_string_append_c(regex, *p == '{' ? '(' : ')');
        } else if (*p == ',' && depth > 0) {
            g_string_append_c(regex, '|');
        } else {
            g_autofree char *plain = g_regex_escape_string(p, 1);

            g_string_append(regex, plain);
        }
    }
    g_string_append_c(regex, '$');
    return g_string_free(regex, FALSE);
}

static gboolean path_matches(const char *pattern, const char *path)
{
    g_autofree char *text = path_regex(pattern);
    g_autoptr(GRegex) regex = g_regex_new(text, 0, 0, NULL);

    return regex && g_regex_match(regex, path, 0, NULL);
}

static gboolean is_access(const char *word)
{
    return strchr(word, 'r') && strchr(word, 'w') && strspn(word, "rwklam") == strlen(word);
}

/* "PATH rw," or "rw PATH,", perhaps with "owner" in front, or a comment behind. */
static gboolean line_allows(char *line, const char *path)
{
    g_auto(GStrv) words = NULL;
    gboolean access = FALSE, matches = FALSE;
    gsize len;

    line[strcspn(line, "#")] = '\0';
    g_strchomp(line);
    len = strlen(line);
    if (len == 0 || line[len - 1] != ',')
        return FALSE;
    if (g_str_equal(line, "file,")) /* anything */
        return TRUE;
    line[len - 1] = '\0';
    words = g_strsplit_set(line, " \t\"", -1);
    if (g_strv_contains((const char *const *)words, "deny"))
        return FALSE;
    for (char **word = words; *word; word++) {
        if (**word == '/' || **word == '@' || **word == '{')
            matches = matches || path_matches(*word, path);
        else
            access = access || is_access(*word);
    }
    return access && matches;
}

static gboolean rules_allow_path(const char *rules, const char *path)
{
    g_auto(GStrv) lines = g_strsplit(rules, "\n", -1);

    for (char **line = lines; *line; line++) {
        if (line_allows(g_strstrip(*line), path))
            return TRUE;
    }
    return FALSE;
}

/* AppArmor sees where a path leads: from /var/run to /run. */
static const char *resolved(const char *path)
{
    return g_str_has_prefix(path, "/var/run/") ? path + strlen("/var") : path;
}

static gboolean rules_allow(const char *rules, const char *run_dir, const char *name)
{
    g_autofree char *valid = g_utf8_make_valid(rules, -1);
    g_autofree char *path = g_strconcat(run_dir, name, NULL);

    return rules_allow_path(valid, path) || rules_allow_path(valid, resolved(path));
}

static void judge_apparmor(GPtrArray *findings, const ConfinementFacts *facts)
{
    const char *dir = facts->run_dir;

    if (facts->rules && rules_allow(facts->rules, dir, IN_NAME) &&
        rules_allow(facts->rules, dir, OUT_NAME)) {
        preflight_pass(findings, CHECK_APPARMOR, APPARMOR_RULES);
        return;
    }
    preflight_problem(
        findings, CHECK_APPARMOR, PROBLEM_APPARMOR_RULE,
        g_strdup_printf(_("AppArmor confines QEMU, and %1$s has no rules that let it reach its "
                          "sockets in %2$s"),
                        APPARMOR_RULES, dir),
        g_strdup_printf(_("unless other files have such rules, append the lines "
                          "\"%1$s/in-*/qemu rw,\" and \"%1$s/out-*.sock rw,\" to %2$s"),
                        resolved(dir), APPARMOR_RULES));
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
        g_strdup_printf(
            _("SELinux is enforcing, and the policy has no rules for sockets of QEMU in "
              "%s"),
            facts->run_dir),
        g_strdup_printf(
            _("migrate once in permissive mode (\"setenforce 0\"), make a module of what "
              "\"ausearch -m avc -ts recent | audit2allow\" says of svirt_t and %s, load "
              "it with semodule, and run \"setenforce 1\""),
            facts->run_dir));
}
