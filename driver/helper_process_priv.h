/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What helper_process.c (its life, what it says), helper_adopt.c (found again) and helper_call.c
 * (what it is told) share. */
#pragma once

#include "driver/helper_process.h"
#include "ram/postcopy-dbus.h"

#define HELPER_OBJECT_PATH "/org/libvirt/Postcopy1/Migration"

/* One that is stopped or stuck must not keep what depends on it waiting. */
#define HELPER_ANSWER_TIMEOUT_S 10

struct HelperProcess {
    gatomicrefcount refs;
    GSubprocess *process;      /* NULL: started by a daemon before this one */
    GSocketConnection *socket; /* until the D-Bus connection takes over */
    GDBusConnection *connection;
    PostcopyMigration *proxy;
    const HelperHandlers *handlers; /* NULL once disowned */
    gpointer data;
    gboolean process_gone; /* also when it is not our child */
    gboolean bus_gone;     /* also when there never was a connection */
    char *cancel_reason;   /* adopted: to be cancelled as soon as it can be told; or NULL */
};

HelperProcess *helper_alloc(const HelperHandlers *handlers, gpointer data);

/* Takes the reference. */
void helper_take_connection(HelperProcess *helper, GDBusConnection *connection);
/* Its proxy is there: its signals become calls of the handlers. */
void helper_listen_to(HelperProcess *helper);

/* late is cancelled after HELPER_ANSWER_TIMEOUT_S. */
typedef struct {
    GCancellable *late;
    guint timer;
} HelperDeadline;
void helper_deadline_start(HelperDeadline *deadline);
void helper_deadline_clear(HelperDeadline *deadline);

/* A task that holds the helper, for what ends in helper_process_finish(). */
GTask *helper_task_new(HelperProcess *helper, GAsyncReadyCallback callback, gpointer data);
HelperProcess *helper_task_helper(GTask *task);

/* error is taken; a remote error's text goes without GDBus's decoration. */
void helper_task_return_dbus_error(GTask *task, GError *error);
