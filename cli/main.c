/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virt-postcopy: the table of subcommands, and what stands before a subcommand's name. */
#include "config.h"

#include <glib/gi18n.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>

#include "cli/commands.h"

static const Command *const commands[] = {
    &command_check,
    &command_list,
    &command_top,
    &command_export,
};

/* Errors are said once, where they are known best: not by libvirt as well. */
static void on_libvirt_error(void *data, virErrorPtr error)
{
}

static char *describe_commands(void)
{
    GString *text = g_string_new(_("Commands:"));

    for (gsize i = 0; i < G_N_ELEMENTS(commands); i++)
        g_string_append_printf(text, "\n  %-10s %s", commands[i]->name, _(commands[i]->summary));
    g_string_append_printf(text, "\n\n%s",
                           _("\"virt-postcopy COMMAND --help\" tells the options of a command.\n"
                             "Exit status: 0 done, 1 failed, 2 wrong usage."));
    return g_string_free(text, FALSE);
}

/* Only as far as the first word that is no option: what follows is the command's. */
static gboolean parse_options(int *argc, char ***argv, CliOptions *options, GError **error)
{
    g_autoptr(GOptionContext) context = g_option_context_new(_("COMMAND [OPTION…]"));
    g_autofree char *description = describe_commands();

    g_option_context_set_translation_domain(context, PACKAGE);
    g_option_context_set_strict_posix(context, TRUE);
    g_option_context_set_summary(context, _("Look at post-copy migrations of libvirt's guests"));
    g_option_context_set_description(context, description);
    command_add_common(context, options);
    return g_option_context_parse(context, argc, argv, error);
}

static const Command *find_command(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (g_str_equal(commands[i]->name, name))
            return commands[i];
    }
    return NULL;
}

static int run(int argc, char **argv, CliOptions *options)
{
    g_autoptr(GError) error = NULL;
    const Command *command;

    g_set_prgname("virt-postcopy");
    if (!parse_options(&argc, &argv, options, &error))
        return command_misused(error->message);
    if (options->version)
        return command_print_version();
    if (argc < 2)
        return command_misused(_("a command is missing"));
    command = find_command(argv[1]);
    if (!command) {
        g_autofree char *message = g_strdup_printf(_("there is no command \"%1$s\""), argv[1]);

        return command_misused(message);
    }
    return command->run(command, options, argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    CliOptions options = { 0 };
    int status;

    setlocale(LC_ALL, "");
    bindtextdomain(PACKAGE, LOCALEDIR);
    bind_textdomain_codeset(PACKAGE, "UTF-8");
    textdomain(PACKAGE);
    signal(SIGPIPE, SIG_IGN);
    if (virInitialize() < 0) {
        fputs(_("virt-postcopy: libvirt's library does not start\n"), stderr);
        return CLI_FAILED;
    }
    virSetErrorFunc(NULL, on_libvirt_error);
    status = run(argc, argv, &options);
    g_free(options.uri);
    return status;
}
