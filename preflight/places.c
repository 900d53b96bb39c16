/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "preflight/places.h"

#include <glib/gi18n.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

void run_dir_facts_clear(RunDirFacts *facts)
{
    g_clear_pointer(&facts->closed, g_free);
}

static gboolean is_closed(const char *root, const char *path, const QemuOwner *owner)
{
    return preflight_access_file(root, path, owner->uid, owner->gid, 1) == ACCESS_NO;
}

/* "/run/libvirt" of "/run/libvirt/virtpostcopy", and so on; the first that stops QEMU's user. */
static char *find_closed(const char *root, const char *path, const QemuOwner *owner)
{
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        g_autofree char *parent = g_strndup(path, (gsize)(slash - path));

        if (is_closed(root, parent, owner))
            return g_steal_pointer(&parent);
    }
    return is_closed(root, path, owner) ? g_strdup(path) : NULL;
}

void run_dir_look(const char *root, const char *path, const QemuOwner *owner,
                  RunDirFacts *ret_facts)
{
    g_autofree char *full = g_strconcat(root, path, NULL);
    struct stat st;

    *ret_facts = (RunDirFacts){ .path = path, .owner = *owner };
    ret_facts->exists = stat(full, &st) == 0;
    ret_facts->is_dir = ret_facts->exists && S_ISDIR(st.st_mode);
    if (ret_facts->is_dir)
        ret_facts->closed = find_closed(root, path, owner);
}

void run_dir_judge(GPtrArray *findings, const RunDirFacts *facts)
{
    if (!facts->is_dir) {
        preflight_problem(
            findings, CHECK_RUN_DIR, PROBLEM_RUN_DIR_MISSING,
            g_strdup_printf(facts->exists ? _("%s is not a directory")
                                          : _("the directory %s is not there"),
                            facts->path),
            g_strdup(_("run \"systemctl restart virtpostcopyd\", which makes it; if it "
                       "cannot be made, set run_dir in virtpostcopyd.conf")));
    } else if (facts->closed) {
        preflight_problem(
            findings, CHECK_RUN_DIR, PROBLEM_RUN_DIR_ACCESS,
            g_strdup_printf(_("QEMU's user (uid %1$u) may not pass through %2$s to its sockets in "
                              "%3$s"),
                            (guint)facts->owner.uid, facts->closed, facts->path),
            g_strdup_printf(_("run \"chmod o+x %s\""), facts->closed));
    } else {
        preflight_pass(findings, CHECK_RUN_DIR, facts->path);
    }
}

/* ---- the helper ---- */

static gboolean has_user(const char *user)
{
    g_autofree char *buffer = g_malloc(16384);
    struct passwd entry, *found = NULL;

    return getpwnam_r(user, &entry, buffer, 16384, &found) == 0 && found != NULL;
}

void helper_look(const char *root, const char *path, const char *user, gboolean user_known,
                 HelperFacts *ret_facts)
{
    g_autofree char *full = g_strconcat(root, path, NULL);
    struct stat st;

    *ret_facts = (HelperFacts){ .path = path, .user = user };
    if (stat(full, &st) == 0) {
        ret_facts->exists = TRUE;
        ret_facts->is_file = S_ISREG(st.st_mode);
        ret_facts->mode = st.st_mode & 07777;
    }
    ret_facts->user_exists = user_known || has_user(user);
}

static void judge_program(GPtrArray *findings, const HelperFacts *facts)
{
    if (!facts->exists)
        preflight_problem(findings, CHECK_HELPER, PROBLEM_HELPER_MISSING,
                          g_strdup_printf(_("%s is not there"), facts->path),
                          g_strdup(_("install libvirt-postcopy completely, or set helper_path in "
                                     "virtpostcopyd.conf to where virt-postcopy-helper is")));
    else if (!facts->is_file || (facts->mode & 0111) == 0)
        preflight_problem(findings, CHECK_HELPER, PROBLEM_HELPER_MODE,
                          g_strdup_printf(facts->is_file ? _("%s is not executable")
                                                         : _("%s is not a program"),
                                          facts->path),
                          facts->is_file ? g_strdup_printf(_("run \"chmod 755 %s\""), facts->path)
                                         : g_strdup(_("set helper_path in virtpostcopyd.conf to "
                                                      "where virt-postcopy-helper is")));
    else
        preflight_pass(findings, CHECK_HELPER, facts->path);
}

void helper_judge(GPtrArray *findings, const HelperFacts *facts)
{
    judge_program(findings, facts);
    if (facts->user_exists)
        preflight_pass(findings, CHECK_HELPER_USER, facts->user);
    else
        preflight_problem(
            findings, CHECK_HELPER_USER, PROBLEM_HELPER_USER,
            g_strdup_printf(_("this host has no user \"%s\""), facts->user),
            g_strdup_printf(_("run \"systemd-sysusers\" or \"useradd --system "
                              "--no-create-home --shell /usr/sbin/nologin %s\", or set "
                              "helper_user in virtpostcopyd.conf"),
                            facts->user));
}
