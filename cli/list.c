/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virt-postcopy list: the migrations of a host, once. */
#include "config.h"

#include <glib/gi18n.h>

#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/list_view.h"
#include "cli/sample.h"

static char *describe(virConnect *connection, const char *uri, const GPtrArray *jobs,
                      gboolean json)
{
    g_autofree char *host = NULL;

    if (!json)
        return list_view_table(jobs);
    host = connection_host(connection);
    return list_view_json(uri, host, jobs);
}

static gboolean list(const char *uri, gboolean completed, gboolean json, GError **error)
{
    g_autoptr(virConnect) connection = connection_open(uri, TRUE, error);
    g_autoptr(GPtrArray) jobs = NULL;
    g_autofree char *text = NULL;

    if (!connection)
        return FALSE;
    jobs = sample_jobs(connection, completed, /* memory= */ NULL, error);
    if (!jobs)
        return FALSE;
    text = describe(connection, uri, jobs, json);
    return command_print(text, error);
}

static int run_list(const Command *command, CliOptions *options, int argc, char **argv)
{
    gboolean json = FALSE, completed = FALSE;
    const GOptionEntry entries[] = {
        { "json", 'j', 0, G_OPTION_ARG_NONE, &json, N_("Print JSON, with every field"), NULL },
        { "completed", 0, 0, G_OPTION_ARG_NONE, &completed,
          N_("Also what has ended, as far as the host still knows"), NULL },
        { 0 }
    };
    g_autoptr(GError) error = NULL;
    int status;

    if (!command_parse(command, options, entries, argc, argv, &status))
        return status;
    if (!list(command_uri(options), completed, json, &error))
        return command_failed(error);
    return CLI_OK;
}

const Command command_list = {
    .name = "list",
    .summary = N_("Show the migrations of a host, on either side of them"),
    .run = run_list,
};
