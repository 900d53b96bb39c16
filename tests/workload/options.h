/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The workload's command line. */
#pragma once

#include "client/postcopy-client.h"
#include "tests/workload/guest.h"

typedef struct {
    PostcopySide side;
    char *name;
    char *socket; /* NULL: the library's */
    GuestConfig guest;
    Memory *memory;
    GArray *region_flags; /* uint32_t, by region */
    gboolean hashes;      /* of every page in the device state */
    gboolean own_log;     /* instead of the library's */
    gboolean idle;        /* the source's threads do not run before the migration either */
    char **settings;      /* NAME=VALUE, as of the command "set" */
} Options;

gboolean options_parse(int argc, char **argv, Options *ret_options, GError **error);
void options_clear(Options *options);
