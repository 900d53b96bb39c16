/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Dials a lost channel of a session again, until it is back or will never be.
 *
 * At once at first, then with a growing pause. When to give up is not decided here: the helper has
 * the time-out. One for each channel, for as long as its migration. Main thread only. */
#pragma once

#include "driver/settings.h"
#include "util/log.h"
#include "xml/migration_uri.h"

typedef struct Redial Redial;

typedef struct {
    /* A connected socket, which is the callee's now. */
    void (*connected)(const char *kind, int fd, gpointer data);
    /* The other daemon has said, several times in a row, that the session is not there: nothing is
     * dialled any more. */
    void (*unknown)(const char *kind, const char *reason, gpointer data);
} RedialHandlers;

/* uri, handlers, log's strings and settings must outlive it; kind is a static string. */
Redial *redial_new(const Settings *settings, const MigrationUri *uri, const char *kind,
                   const LogContext *log, const RedialHandlers *handlers, gpointer data);
/* No handler is called any more. */
void redial_free(Redial *redial);

/* Another connection is needed, for the first time or again. Nothing while one is being made. */
void redial_lost(Redial *redial);

/* It is back: the next loss finds no pause, if it comes after REDIAL_STEADY_S, else a short one: it
 * may be the connection that breaks each time. */
#define REDIAL_STEADY_S 5
void redial_resumed(Redial *redial);

/* Connections that were tried since it was up for long. */
guint redial_attempts(const Redial *redial);

/* The pause before that attempt, counted from 0, in milliseconds. */
guint redial_pause_ms(guint attempt);
