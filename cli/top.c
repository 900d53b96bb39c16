/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virt-postcopy top: the migrations of a host as they go on. */
#include "config.h"

#include <gio/gio.h>
#include <glib-unix.h>
#include <glib/gi18n.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/sampler.h"
#include "cli/terminal.h"
#include "cli/top_view.h"

#define DEFAULT_DELAY 2.0
#define MIN_DELAY 0.1
#define MAX_DELAY 3600.0
#define BATCH_COLUMNS 80

/* Answers are overdue after two delays, and not before this. */
#define PATIENCE_US (3 * G_TIME_SPAN_SECOND)

#define KEY_CTRL_C 0x03
#define KEY_CTRL_L 0x0c
#define KEY_CTRL_Z 0x1a

typedef struct {
    double delay;
    gboolean batch;
    gboolean once;
    int count; /* 0: for ever */
} TopOptions;

typedef struct {
    const char *uri;
    const TopOptions *options;
    GMainLoop *loop;
    Sampler *sampler;
    Terminal *terminal; /* NULL: batch */
    Sample *sample;     /* the newest; NULL before the first */
    gint64 answered;    /* when it came, monotonic */
    int shown;          /* batch: how many have been printed */
    int status;
} Top;

/* --- showing --- */

static guint overdue_seconds(const Top *top)
{
    gint64 silent = g_get_monotonic_time() - top->answered;
    gint64 patience = MAX((gint64)(2 * top->options->delay * G_USEC_PER_SEC), PATIENCE_US);

    return silent > patience ? (guint)(silent / G_USEC_PER_SEC) : 0;
}

static GPtrArray *make_lines(const Top *top, gsize columns, gsize rows)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    g_autofree char *clock = g_date_time_format(now, "%H:%M:%S");
    TopFrame frame = {
        .uri = top->uri,
        .clock = clock,
        .silent = overdue_seconds(top),
    };

    if (top->sample) {
        frame.host = top->sample->host;
        frame.jobs = top->sample->jobs;
        frame.trouble = top->sample->trouble;
    }
    return top_view(&frame, columns, rows);
}

static void draw(Top *top)
{
    g_autoptr(GPtrArray) lines = NULL;
    gsize columns, rows;

    terminal_size(top->terminal, &columns, &rows);
    lines = make_lines(top, columns, rows);
    terminal_draw(top->terminal, lines);
}

static gsize batch_columns(void)
{
    const char *text = g_getenv("COLUMNS");
    guint64 columns;

    if (text && g_ascii_string_to_unsigned(text, 10, 1, 10000, &columns, NULL))
        return (gsize)columns;
    return BATCH_COLUMNS;
}

static void print(Top *top)
{
    g_autoptr(GPtrArray) lines = make_lines(top, batch_columns(), 0);
    g_autoptr(GString) text = g_string_new(top->shown > 0 ? "\n" : "");
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < lines->len; i++)
        g_string_append_printf(text, "%s\n", ((const TopLine *)lines->pdata[i])->text);
    top->status = top->sample->trouble ? CLI_FAILED : CLI_OK;
    top->shown++;
    if (!command_print(text->str, &error)) {
        top->status = command_failed(error);
        g_main_loop_quit(top->loop);
    } else if (top->shown == top->options->count) {
        g_main_loop_quit(top->loop);
    }
}

/* --- what happens --- */

/* What a host said last stays on the screen while it does not answer. */
static void on_sample(Sample *sample, gpointer data)
{
    Top *top = data;

    if (sample->trouble && top->sample) {
        sample->jobs = g_steal_pointer(&top->sample->jobs);
        sample->host = g_steal_pointer(&top->sample->host);
    }
    g_clear_pointer(&top->sample, sample_free);
    top->sample = sample;
    top->answered = g_get_monotonic_time();
    if (top->terminal)
        draw(top);
    else if (top->options->count == 0 || top->shown < top->options->count)
        print(top);
}

/* The clock, and how long there has been no answer. */
static gboolean on_second(gpointer data)
{
    draw(data);
    return G_SOURCE_CONTINUE;
}

static gboolean on_resize(gpointer data)
{
    draw(data);
    return G_SOURCE_CONTINUE;
}

static gboolean on_end(gpointer data)
{
    Top *top = data;

    g_main_loop_quit(top->loop);
    return G_SOURCE_CONTINUE;
}

static void on_key(Top *top, char key)
{
    switch (key) {
    case 'q':
    case 'Q':
    case KEY_CTRL_C:
        g_main_loop_quit(top->loop);
        break;
    case ' ':
    case KEY_CTRL_L:
        sampler_ask_now(top->sampler);
        break;
    case KEY_CTRL_Z:
        terminal_suspend(top->terminal);
        break;
    default:
        break;
    }
}

static gboolean on_input(int fd, GIOCondition condition, gpointer data)
{
    Top *top = data;
    char keys[64];
    gssize n = read(fd, keys, sizeof(keys));

    if (n <= 0) { /* the terminal is gone */
        g_main_loop_quit(top->loop);
        return G_SOURCE_REMOVE;
    }
    for (gssize i = 0; i < n; i++)
        on_key(top, keys[i]);
    draw(top);
    return G_SOURCE_CONTINUE;
}

/* --- the whole --- */

static void loop(Top *top)
{
    g_unix_signal_add(SIGINT, on_end, top);
    g_unix_signal_add(SIGTERM, on_end, top);
    g_unix_signal_add(SIGHUP, on_end, top);
    if (top->terminal) {
        g_unix_signal_add(SIGWINCH, on_resize, top);
        g_unix_fd_add(STDIN_FILENO, G_IO_IN | G_IO_HUP | G_IO_ERR, on_input, top);
        g_timeout_add_seconds(1, on_second, top);
        draw(top);
    }
    g_main_loop_run(top->loop);
}

static gboolean top_run(Top *top, GError **error)
{
    virConnect *connection;
    gboolean stopped;

    if (!connection_watch(error))
        return FALSE;
    connection = connection_open(top->uri, TRUE, error);
    if (!connection)
        return FALSE;
    if (!top->options->batch && !(top->terminal = terminal_new(error))) {
        virConnectClose(connection);
        return FALSE;
    }
    top->loop = g_main_loop_new(NULL, FALSE);
    top->answered = g_get_monotonic_time();
    top->sampler = sampler_new(connection, top->uri, FALSE, (guint)(top->options->delay * 1000),
                               on_sample, top);
    loop(top);
    stopped = sampler_stop(top->sampler);
    g_clear_pointer(&top->terminal, terminal_free);
    if (!stopped) {
        fflush(NULL);
        _exit(top->status);
    }
    g_clear_pointer(&top->sample, sample_free);
    g_main_loop_unref(top->loop);
    return TRUE;
}

static const char *check_options(TopOptions *options)
{
    if (options->once) {
        options->batch = TRUE;
        options->count = 1;
    }
    if (!(options->delay >= MIN_DELAY && options->delay <= MAX_DELAY))
        return _("--delay is from 0.1 to 3600 seconds");
    if (options->count < 0)
        return _("--iterations is 1 or more");
    if (options->count > 0 && !options->batch)
        return _("--iterations needs --batch");
    return NULL;
}

static int run_top(const Command *command, CliOptions *options, int argc, char **argv)
{
    TopOptions top_options = { .delay = DEFAULT_DELAY };
    const GOptionEntry entries[] = {
        { "delay", 'd', 0, G_OPTION_ARG_DOUBLE, &top_options.delay,
          N_("How often to ask, at most [2]"), N_("SECONDS") },
        { "batch", 'b', 0, G_OPTION_ARG_NONE, &top_options.batch,
          N_("Print one text after the other, for files and pipes"), NULL },
        { "iterations", 'n', 0, G_OPTION_ARG_INT, &top_options.count,
          N_("With --batch: end after so many"), N_("N") },
        { "once", '1', 0, G_OPTION_ARG_NONE, &top_options.once, N_("The same as --batch -n 1"),
          NULL },
        { 0 }
    };
    g_autoptr(GError) error = NULL;
    Top top = { .uri = NULL, .options = &top_options };
    const char *wrong;
    int status;

    if (!command_parse(command, options, entries, argc, argv, &status))
        return status;
    wrong = check_options(&top_options);
    if (wrong)
        return command_misused(wrong);
    top.uri = command_uri(options);
    if (!top_run(&top, &error))
        return command_failed(error);
    return top.status;
}

const Command command_top = {
    .name = "top",
    .summary = N_("Watch the migrations of a host"),
    .run = run_top,
};
