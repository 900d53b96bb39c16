/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files migration*.c share of a Migration. */
#pragma once

#include "driver/helper_process.h"
#include "driver/job_record.h"
#include "driver/migration.h"
#include "driver/qemu_speed.h"
#include "driver/redial.h"
#include "tls/hello.h"
#include "util/log.h"

/* QEMU's stream, and its preempt connection. */
#define QEMU_CONNECTIONS_MAX 2

struct MigrationSet {
    const Settings *settings;
    char *run_dir;
    char *helper_user; /* "UID:GID" */
    char *host_name;   /* the name peers reach this host by */
    GPtrArray *migrations; /* Migration, a reference each, until their helpers have ended */
    GPtrArray *broken;     /* JobRecord, oldest first: ended in post-copy, may be recovered */
    MigrationBrokenFunc broken_func;
    gpointer broken_data;
    MigrationForgottenFunc forgotten_func;
    gpointer forgotten_data;
    MigrationNoticeFunc notice_func;
    gpointer notice_data;
    guint adopting; /* migrations whose helpers have not answered yet */
    guint adopted_id;
};

typedef struct {
    const char *kind;
    gboolean opened;
    gint64 lost_at; /* monotonic, us; 0: it is there */
    gint64 lost_ms; /* the last time, or -1 */
    Redial *redial; /* source, once it was lost; or NULL */
} Channel;

struct Migration {
    gatomicrefcount refs;
    MigrationSet *set; /* NULL after the set is gone */
    JobRecord *record;
    gboolean recorded; /* and that is on disk */
    char *id;
    HelperProcess *helper;
    MigrateWishes wishes;  /* source: what the user asks of the session */
    QemuSpeed *speed;      /* source, once the helper had a wish, while it runs; or NULL */
    Channel channels[2 + CHANNEL_BULK_MAX]; /* main, preempt, then bulk channels */
    guint n_connected;     /* source: of the channels that the helpers have agreed to have */
    QemuOwner disks_owner; /* source, with record->disks_path: who connects there */
    gboolean adopting;     /* left by a daemon before this one; not known yet whether it lives */
    gboolean ended;        /* the helper is gone, or never was */
    gboolean over;         /* the helper has told its last state */
    gboolean completed;    /* and that was success */
    gboolean return_path;  /* the destination QEMU has said something */
    gboolean cancelled;
    gboolean superseded;
    gboolean switching;       /* destination: the guest has stopped at the source */
    gboolean memory_offered;  /* source: QEMU's, to the helper */
    gboolean placing_begun;   /* destination: QEMU's userfaultfd is looked for, or was */
    gboolean postcopy_active; /* source: the QEMUs have agreed on what is missing */
    gboolean aborted;
    gboolean own_attempt;
    char *recovered_id; /* NULL before its first channel */
    char *error;
    char *disks_error; /* why a disk's copying failed; see migration_error() */
    MigrationEndedBy ended_by;
    GPtrArray *waiters;
    LogContext log;
};

/* Takes the record, which has its side, domain and session. */
Migration *migration_alloc(MigrationSet *set, JobRecord *record);

/* ---- migration_notice.c ---- */

/* Of the two sides' agreement on a channel; tells it the first time. */
void migration_channel_opened(Migration *migration, const char *kind);
/* Those that the helper has now were opened before anybody listened: nothing is told. */
void migration_channels_adopted(Migration *migration);
/* NULL, and a line in the log: it is of no known kind. */
Channel *migration_find_channel(Migration *migration, const char *kind);

/* Tells the set's listener. reason: NULL where there is none. */
void migration_notify(Migration *migration, MigrationNotice notice, const char *detail,
                      const char *reason);

const char *migration_side_name(const Migration *migration);
gboolean migration_has_lost_channel(const Migration *migration);

/* Spawns and configures the helper with this host's credentials of that side. */
void migration_start_helper(Migration *migration, GAsyncReadyCallback callback, gpointer data);
gboolean migration_start_helper_finish(Migration *migration, GAsyncResult *result, GError **error);

extern const HelperHandlers migration_helper_handlers;
void migration_hear_phase(Migration *migration, const char *phase);
/* The process is gone. */
void migration_helper_ended(Migration *migration, gboolean success, const char *how);

/* ---- migration_reading.c ---- */

/* The source's QEMU is in that phase: from when its guest has stopped the helper may read its memory. */
void migration_offer_memory(Migration *migration, const char *phase);
/* In this session, or in one that it recovers from: QEMU's memory is not to be read any more. */
gboolean migration_reading_failed(const Migration *migration);

/* ---- migration_placing.c ---- */

/* Destination: its QEMU is in that phase; from "running" on the helper may place pages in its memory. */
void migration_place_pages(Migration *migration, const char *phase);
/* Destination: before anything else the helper of a recovery is told what those before it have placed. */
void migration_tell_placed(Migration *migration);
/* It is over. */
void migration_forget_placed(Migration *migration);

/* ---- migration_adopt.c ---- */

/* The helper that a daemon before this one has started; migration->adopting until that is
 * decided. */
void migration_adopt_helper(Migration *migration);

/* The connection to it has ended. TRUE: it is one that was taken over, and is not dead for that;
 * migration->adopting again. */
gboolean migration_look_again(Migration *migration);

/* ---- migration.c ---- */

/* While there is a set. */
void migration_remove_socket(Migration *migration);

/* One more connection of QEMU is there; after the last one the socket's name goes. */
void migration_count_connection(Migration *migration);

void migration_wake_waiters(Migration *migration);

/* Ends what waits for its peer, because a new try is coming. */
void migration_supersede(Migration *migration);

/* ---- migration_keep.c: on disk ---- */

/* Makes the record's files; what the helper is to have of them is the caller's. FALSE: nothing is
 * left of it. */
gboolean migration_make_record(Migration *migration, int *ret_listener, int *ret_outcome,
                               GError **error);
/* After each change of the record; nothing before migration_make_record(). FALSE: it is not on
 * disk. */
gboolean migration_save(Migration *migration);
void migration_remove_record(Migration *migration);
void migration_set_on_purpose(Migration *migration, gboolean on_purpose);

/* QEMU's phase, as the helper has it, is one from which on a failure is libvirt's post-copy
 * failure. */
gboolean migration_phase_is_postcopy(const Migration *migration, const char *phase);

/* The helper is gone: the record is removed, or kept for a recovery, and whoever recovers is
 * told. */
void migration_keep_or_remove(Migration *migration);

/* The id of the newest broken session of that domain, or NULL; g_free(). */
char *migration_set_newest_broken(MigrationSet *set, MigrationSide side, const char *domain);

/* Every helper that was left has answered, or will not. */
void migration_set_adopted(MigrationSet *set);

/* ---- migration_source.c ---- */

/* Source: the helper wants QEMU to send at most that much. */
void migration_want_speed(Migration *migration, guint64 bytes_per_second);
/* Source: the guest has stopped for the switch to post-copy. */
void migration_switched_over(Migration *migration);

/* Source: dials for that channel until it is back. */
void migration_redial(Migration *migration, Channel *channel);
void migration_stop_redialling(Migration *migration);

/* ---- migration_disks.c ---- */

/* The helper has one end of a disk connection, and is given the other. */
void migration_want_disks(Migration *migration, guint number);
void migration_disks_ended(Migration *migration, guint number, const char *reason);
/* Source: both sides have agreed. FALSE: but not on disks, which are wanted. */
gboolean migration_check_disks(Migration *migration, GError **error);
/* Source: the listening socket, or -1. */
int migration_listen_for_disks(Migration *migration, GError **error);
/* Its name goes. */
void migration_remove_disks(Migration *migration);

/* ---- migration_source.c ---- */

/* Source: the name that the peer's certificate must have. */
const char *migration_name_to_expect(const Migration *migration);

/* ---- migration_destination.c ---- */

/* Destination: connect to QEMU for the helper. */
void migration_attach_qemu(Migration *migration);
