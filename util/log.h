/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Structured log lines that name the migration, the side, the phase and the channel.
 *
 * A LogContext is the set of names; it is passed, never global. Lines go to GLib's
 * structured log, so that under systemd the names are journal fields
 * (MIGRATION=, SIDE=, PHASE=, CHANNEL=, CLIENT=); elsewhere the writer below prints
 *
 *     2026-11-21 10:00:00.123+0000: 4711: info : migration=ab12 side=source phase=perform : text
 *
 * on stderr, as libvirt's daemons do. Secrets (tokens, keys, page contents) are never logged.
 * Safe in every thread. */
#pragma once

#include <glib.h>

typedef struct {
    const char *client;    /* which connection, or NULL */
    const char *migration; /* short id, or NULL */
    const char *side;      /* "source" or "destination", or NULL */
    const char *phase;     /* begin, prepare, perform, finish, confirm, stream, or NULL */
    const char *channel;   /* "main", "preempt", "rpc", or NULL */
} LogContext;

/* The levels are libvirt's: 1 debug, 2 info, 3 warning, 4 error. */
typedef enum {
    LOG_LEVEL_DEBUG = 1,
    LOG_LEVEL_INFO = 2,
    LOG_LEVEL_WARNING = 3,
    LOG_LEVEL_ERROR = 4,
} LogLevel;

/* Installs the writer; call once, first thing in main(). Lines below level are dropped. */
void log_init(LogLevel level);

/* Changes the level later (after the configuration was read). */
void log_set_level(LogLevel level);

/* ctx may be NULL. */
void log_message(const LogContext *ctx, LogLevel level, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

#define log_debug(ctx, ...) log_message(ctx, LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(ctx, ...) log_message(ctx, LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warning(ctx, ...) log_message(ctx, LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_error(ctx, ...) log_message(ctx, LOG_LEVEL_ERROR, __VA_ARGS__)
