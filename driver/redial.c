/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/redial.h"

#include "driver/session_dial.h"
#include "util/autofd.h"

/* That the session is unknown is said in clear, by anybody on the way: so often in a row, so far
 * apart, is believed. */
#define UNKNOWN_BELIEVED 3
#define UNKNOWN_PAUSE_MS 1000

/* Where the pauses go on when a channel that has come back is lost again soon: a link that comes and goes
 * must not make a guest wait longer and longer for its pages. */
#define ATTEMPTS_WHEN_RESUMED 2

struct Redial {
    gatomicrefcount refs; /* its owner's, and that of a dial under way */
    const Settings *settings;
    const MigrationUri *uri;
    const char *kind;
    LogContext log;
    const RedialHandlers *handlers; /* NULL once it was freed */
    gpointer data;
    guint attempts;    /* since it was up for long */
    guint timer;       /* of the next one */
    gint64 resumed_at; /* monotonic, us; 0: not, since the last attempt */
    guint unknown;     /* answers in a row */
    gboolean dialling;
    gboolean given_up;
};

static gboolean on_pause_over(gpointer data);

guint redial_pause_ms(guint attempt)
{
    static const guint pauses[] = { 0, 100, 200, 500, 1000, 2000, 3000 };

    return pauses[MIN(attempt, G_N_ELEMENTS(pauses) - 1)];
}

static void redial_unref(Redial *redial)
{
    if (g_atomic_ref_count_dec(&redial->refs))
        g_free(redial);
}

Redial *redial_new(const Settings *settings, const MigrationUri *uri, const char *kind,
                   const LogContext *log, const RedialHandlers *handlers, gpointer data)
{
    Redial *redial = g_new0(Redial, 1);

    g_atomic_ref_count_init(&redial->refs);
    redial->settings = settings;
    redial->uri = uri;
    redial->kind = kind;
    redial->log = *log;
    redial->log.channel = kind;
    redial->handlers = handlers;
    redial->data = data;
    return redial;
}

void redial_free(Redial *redial)
{
    if (!redial)
        return;
    g_clear_handle_id(&redial->timer, g_source_remove);
    redial->handlers = NULL;
    redial_unref(redial);
}

static void on_unknown(Redial *redial, const GError *error)
{
    if (++redial->unknown < UNKNOWN_BELIEVED) {
        log_message(&redial->log, LOG_LEVEL_WARNING, "%s", error->message);
        redial->timer = g_timeout_add(UNKNOWN_PAUSE_MS, on_pause_over, redial);
        return;
    }
    redial->given_up = TRUE;
    redial->handlers->unknown(redial->kind, error->message, redial->data);
}

static void on_failed(Redial *redial, const GError *error)
{
    if (g_error_matches(error, SESSION_DIAL_ERROR, SESSION_DIAL_ERROR_UNKNOWN)) {
        on_unknown(redial, error);
        return;
    }
    redial->unknown = 0;
    /* One line in a row of failures is enough to read. */
    log_message(&redial->log, redial->attempts == 1 ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG, "%s",
                error->message);
    redial_lost(redial);
}

static void on_dialled(GObject *source, GAsyncResult *result, gpointer data)
{
    Redial *redial = data;
    g_autoptr(GError) error = NULL;
    autofd fd = session_dial_finish(result, &error);

    redial->dialling = FALSE;
    if (fd >= 0)
        redial->unknown = 0;
    if (redial->handlers) {
        if (fd >= 0)
            redial->handlers->connected(redial->kind, autofd_steal(&fd), redial->data);
        else
            on_failed(redial, error);
    }
    redial_unref(redial);
}

static gboolean on_pause_over(gpointer data)
{
    Redial *redial = data;

    redial->timer = 0;
    redial->attempts++;
    redial->dialling = TRUE;
    g_atomic_ref_count_inc(&redial->refs);
    session_dial(redial->settings, redial->uri, SESSION_FOR_CHANNEL, on_dialled, redial);
    return G_SOURCE_REMOVE;
}

void redial_lost(Redial *redial)
{
    if (redial->timer || redial->dialling || redial->given_up)
        return;
    if (redial->resumed_at &&
        g_get_monotonic_time() - redial->resumed_at >= REDIAL_STEADY_S * G_USEC_PER_SEC)
        redial->attempts = 0;
    redial->resumed_at = 0;
    redial->timer = g_timeout_add(redial_pause_ms(redial->attempts), on_pause_over, redial);
}

void redial_resumed(Redial *redial)
{
    g_clear_handle_id(&redial->timer, g_source_remove);
    redial->resumed_at = g_get_monotonic_time();
    redial->attempts = MIN(redial->attempts, ATTEMPTS_WHEN_RESUMED);
}

guint redial_attempts(const Redial *redial)
{
    return redial->attempts;
}
