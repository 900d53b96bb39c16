/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virt-postcopy export: the migrations of a host for Prometheus. */
#include "config.h"

#include <gio/gio.h>
#include <glib-unix.h>
#include <glib/gi18n.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/metrics.h"
#include "cli/sample.h"
#include "cli/sampler.h"

#define MAX_INTERVAL 86400

typedef struct {
    char *textfile; /* NULL: standard output */
    int interval;   /* seconds; 0: once */
    gboolean completed;
} ExportOptions;

typedef struct {
    const ExportOptions *options;
    GMainLoop *loop;
    GError *error; /* why it ends */
} Export;

/* A reader finds the old file or the new one, whole, and readable for node_exporter's user. */
static gboolean put(const ExportOptions *options, const GPtrArray *jobs, GError **error)
{
    g_autofree char *text = metrics_text(jobs);

    if (!options->textfile)
        return command_print(text, error);
    return g_file_set_contents_full(options->textfile, text, -1, G_FILE_SET_CONTENTS_CONSISTENT,
                                    0644, error);
}

static gboolean export_once(const char *uri, const ExportOptions *options, GError **error)
{
    g_autoptr(virConnect) connection = connection_open(uri, TRUE, error);
    g_autoptr(GPtrArray) jobs = NULL;

    if (!connection)
        return FALSE;
    jobs = sample_jobs(connection, options->completed, /* memory= */ NULL, error);
    return jobs && put(options, jobs, error);
}

/* --- again and again --- */

static void on_sample(Sample *sample, gpointer data)
{
    Export *export = data;

    if (sample->trouble)
        fprintf(stderr, _("virt-postcopy: %1$s\n"), sample->trouble);
    if (!export->error && !put(export->options, sample->jobs, &export->error))
        g_main_loop_quit(export->loop);
    sample_free(sample);
}

static gboolean on_end(gpointer data)
{
    Export *export = data;

    g_main_loop_quit(export->loop);
    return G_SOURCE_CONTINUE;
}

/* A host that does not answer yet is waited for: libvirt_up tells. */
static gboolean export_for_ever(const char *uri, const ExportOptions *options, GError **error)
{
    Export export = { .options = options };
    Sampler *sampler;

    if (!connection_watch(error))
        return FALSE;
    export.loop = g_main_loop_new(NULL, FALSE);
    g_unix_signal_add(SIGINT, on_end, &export);
    g_unix_signal_add(SIGTERM, on_end, &export);
    g_unix_signal_add(SIGHUP, on_end, &export);
    sampler = sampler_new(NULL, uri, options->completed, (guint)options->interval * 1000, on_sample,
                          &export);
    g_main_loop_run(export.loop);
    if (!sampler_stop(sampler)) {
        fflush(NULL);
        _exit(export.error ? command_failed(export.error) : CLI_OK);
    }
    g_main_loop_unref(export.loop);
    if (!export.error)
        return TRUE;
    g_propagate_error(error, export.error);
    return FALSE;
}

static gboolean export_run(const char *uri, const ExportOptions *options, GError **error)
{
    if (options->interval > 0)
        return export_for_ever(uri, options, error);
    return export_once(uri, options, error);
}

static const char *check_options(const ExportOptions *options)
{
    if (options->interval < 0 || options->interval > MAX_INTERVAL)
        return _("--interval is from 1 to 86400 seconds");
    if (options->interval > 0 && !options->textfile)
        return _("--interval needs --textfile");
    return NULL;
}

static int run_export(const Command *command, CliOptions *options, int argc, char **argv)
{
    ExportOptions export = { .interval = 0 };
    const GOptionEntry entries[] = {
        { "textfile", 't', 0, G_OPTION_ARG_FILENAME, &export.textfile,
          N_("Write to FILE in place of standard output, for node_exporter's textfile collector"),
          N_("FILE") },
        { "interval", 'i', 0, G_OPTION_ARG_INT, &export.interval,
          N_("With --textfile: write it anew every so often, until a signal"), N_("SECONDS") },
        { "completed", 0, 0, G_OPTION_ARG_NONE, &export.completed,
          N_("Also what has ended, as far as the host still knows"), NULL },
        { 0 }
    };
    g_autofree char *textfile = NULL;
    g_autoptr(GError) error = NULL;
    const char *wrong;
    int status;

    if (!command_parse(command, options, entries, argc, argv, &status))
        return status;
    textfile = export.textfile;
    wrong = check_options(&export);
    if (wrong)
        return command_misused(wrong);
    if (!export_run(command_uri(options), &export, &error))
        return command_failed(error);
    return CLI_OK;
}

const Command command_export = {
    .name = "export",
    .summary = N_("Print the migrations of a host for Prometheus"),
    .run = run_export,
};
