/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A subcommand of virt-postcopy, and what all of them share: options, messages, exit statuses. */
#pragma once

#include <glib.h>

/* Exit statuses, as virt-postcopy(1) has them. */
enum {
    CLI_OK = 0,
    CLI_FAILED = 1, /* no connection, an answer that is an error, a check that failed */
    CLI_USAGE = 2,  /* an option or argument that there is not */
};

#define CLI_DEFAULT_URI "postcopy:///system"

/* The common options; main() owns it. */
typedef struct {
    char *uri; /* -c, --connect; NULL: not said */
    gboolean version;
} CliOptions;

typedef struct Command Command;
struct Command {
    const char *name;
    const char *summary; /* N_(), one line for the list of commands */
    /* argv[0] is the name; options is what stood before it. Returns an exit status. */
    int (*run)(const Command *command, CliOptions *options, int argc, char **argv);
};

/* The common options, which stand before the command or behind it, into options. */
void command_add_common(GOptionContext *context, CliOptions *options);

/* Parses what stands behind a command's name: its own entries (they end with { 0 }) and the common
 * ones; nothing else may be left over. --help prints and ends the program. FALSE: everything is
 * said, end with *ret_status. */
gboolean command_parse(const Command *command, CliOptions *options, const GOptionEntry *entries,
                       int argc, char **argv, int *ret_status);

/* --version; returns CLI_OK. */
int command_print_version(void);

/* Says on standard error what is wrong with the command line; returns CLI_USAGE. */
int command_misused(const char *message);

/* Says on standard error why the command failed; returns CLI_FAILED. */
int command_failed(const GError *error);

/* Writes text to standard output, at once. */
gboolean command_print(const char *text, GError **error);

/* The URI to connect to: the one given, or the default. */
const char *command_uri(const CliOptions *options);
