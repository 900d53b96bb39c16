/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "preflight/qemu_conf.h"

#include <glib/gi18n.h>

#include "preflight/access.h"
#include "util/conf.h"

static gboolean is_set(const GPtrArray *entries, const char *key, gboolean otherwise)
{
    for (guint i = 0; i < entries->len; i++) {
        const ConfEntry *entry = g_ptr_array_index(entries, i);

        if (g_str_equal(entry->key, key))
            return entry->type == CONF_INTEGER && entry->integer != 0;
    }
    return otherwise;
}

static void unreadable(GPtrArray *findings, const char *detail, const char *path)
{
    preflight_problem(findings, CHECK_QEMU_CONF, PROBLEM_QEMU_CONF_UNREADABLE, g_strdup(detail),
                      g_strdup_printf(_("correct %s, which libvirt reads when it starts"), path));
}

void qemu_conf_judge(GPtrArray *findings, const char *text, gsize len, const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) entries = conf_parse(text, len, path, &error);

    if (!entries)
        unreadable(findings, error->message, path);
    else if (is_set(entries, "migrate_tls_force", FALSE))
        preflight_problem(
            findings, CHECK_QEMU_CONF, PROBLEM_QEMU_TLS_FORCE,
            g_strdup_printf(_("migrate_tls_force is set in %s: libvirt would refuse "
                              "the helpers' local sockets, as if they were a network"),
                            path),
            g_strdup_printf(_("set migrate_tls_force = 0 in %s and restart libvirtd or "
                              "virtqemud; this driver encrypts every migration"),
                            path));
    else
        preflight_pass(findings, CHECK_QEMU_CONF, path);
}

void qemu_conf_look(GPtrArray *findings, const char *root)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    gsize len;

    if (preflight_read(root, LIBVIRT_QEMU_CONF, CONF_TEXT_MAX, &text, &len, NULL, &error))
        qemu_conf_judge(findings, text, len, LIBVIRT_QEMU_CONF);
    else if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND))
        preflight_pass(findings, CHECK_QEMU_CONF, _("libvirt's defaults"));
    else
        unreadable(findings, error->message, LIBVIRT_QEMU_CONF);
}

gboolean qemu_conf_clears_capabilities(const char *root)
{
    g_autofree char *text = NULL;
    g_autoptr(GPtrArray) entries = NULL;
    gsize len;

    if (preflight_read(root, LIBVIRT_QEMU_CONF, CONF_TEXT_MAX, &text, &len, NULL, NULL))
        entries = conf_parse(text, len, LIBVIRT_QEMU_CONF, NULL);
    return !entries || is_set(entries, "clear_emulator_capabilities", TRUE);
}
