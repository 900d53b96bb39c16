/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What migration.c and the two sides share of a Migration. */
#pragma once

#include "driver/helper_process.h"
#include "driver/migration.h"
#include "driver/qemu_speed.h"
#include "util/log.h"

/* QEMU's stream, and its preempt connection. */
#define QEMU_CONNECTIONS_MAX 2

struct MigrationSet {
    const Settings *settings;
    char *run_dir;
    char *helper_user; /* "UID:GID" */
    char *host_name;   /* the name peers reach this host by */
    GPtrArray *migrations; /* Migration, a reference each, until their helpers have ended */
};

struct Migration {
    gatomicrefcount refs;
    MigrationSet *set; /* NULL after the set is gone */
    MigrationSide side;
    MigrationUri uri; /* session, token, and the destination's host and port */
    char *id;
    char *domain;
    char *socket_path;      /* out-X.sock or in-X/qemu; NULL once removed */
    guint qemu_connections; /* made with it, of at most QEMU_CONNECTIONS_MAX */
    HelperProcess *helper;
    SpeedLimit speed_limit; /* source */
    QemuSpeed *speed;       /* source, once the helper had a wish, while it runs; or NULL */
    gboolean ended;        /* the helper is gone, or never was */
    gboolean streaming;    /* QEMU's stream has connected on this side */
    gboolean over;         /* the helper has told its last state */
    gboolean return_path;  /* the destination QEMU has said something */
    gboolean cancelled;
    gboolean aborted;
    char *error;
    MigrationEndedBy ended_by;
    GPtrArray *waiters;
    LogContext log;
};

Migration *migration_alloc(MigrationSet *set, MigrationSide side, const char *domain,
                           const guint8 session[MIGRATION_SESSION_LEN]);

/* Spawns and configures the helper with this host's credentials of that side. */
void migration_start_helper(Migration *migration, GAsyncReadyCallback callback, gpointer data);
gboolean migration_start_helper_finish(Migration *migration, GAsyncResult *result, GError **error);

void migration_remove_socket(Migration *migration);

/* One more connection of QEMU is there; after the last one the socket's name goes. */
void migration_count_connection(Migration *migration);

/* Source: the helper wants QEMU to send at most that much. */
void migration_want_speed(Migration *migration, guint64 bytes_per_second);
/* Source: the guest has stopped for the switch to post-copy. */
void migration_switched_over(Migration *migration);

/* Destination: connect to QEMU for the helper. */
void migration_attach_qemu(Migration *migration);
