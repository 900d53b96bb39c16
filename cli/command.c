/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "cli/command.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib/gi18n.h>
#include <stdio.h>

void command_add_common(GOptionContext *context, CliOptions *options)
{
    const GOptionEntry entries[] = {
        { "connect", 'c', 0, G_OPTION_ARG_STRING, &options->uri,
          N_("Where to connect [postcopy:///system]"), N_("URI") },
        { "version", 'V', 0, G_OPTION_ARG_NONE, &options->version, N_("Print the version and exit"),
          NULL },
        { 0 }
    };

    g_option_context_add_main_entries(context, entries, PACKAGE);
}

gboolean command_parse(const Command *command, CliOptions *options, const GOptionEntry *entries,
                       int argc, char **argv, int *ret_status)
{
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autofree char *program = g_strdup_printf("virt-postcopy %s", command->name);
    g_autoptr(GError) error = NULL;

    /* the first line of --help names the program by it */
    g_set_prgname(program);
    g_option_context_set_translation_domain(context, PACKAGE);
    g_option_context_set_summary(context, _(command->summary));
    g_option_context_add_main_entries(context, entries, PACKAGE);
    command_add_common(context, options);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        *ret_status = command_misused(error->message);
        return FALSE;
    }
    if (argc > 1) {
        g_autofree char *message = g_strdup_printf(_("unknown argument \"%1$s\""), argv[1]);

        *ret_status = command_misused(message);
        return FALSE;
    }
    if (options->version) {
        *ret_status = command_print_version();
        return FALSE;
    }
    return TRUE;
}

int command_print_version(void)
{
    printf("virt-postcopy (%s) %s\n", PACKAGE_NAME, PACKAGE_VERSION);
    return CLI_OK;
}

int command_misused(const char *message)
{
    fprintf(stderr, _("virt-postcopy: %1$s\nTry \"%2$s --help\".\n"), message, g_get_prgname());
    return CLI_USAGE;
}

int command_failed(const GError *error)
{
    fprintf(stderr, _("virt-postcopy: %1$s\n"), error->message);
    return CLI_FAILED;
}

gboolean command_print(const char *text, GError **error)
{
    if (fputs(text, stdout) >= 0 && fflush(stdout) == 0)
        return TRUE;
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                _("cannot write to standard output: %1$s"), g_strerror(errno));
    return FALSE;
}

const char *command_uri(const CliOptions *options)
{
    return options->uri ? options->uri : CLI_DEFAULT_URI;
}
