/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One post-copy migration as this host's daemon sees it: its helper, its sockets, its names.
 *
 * A migration outlives the client that asked for it (facts: libvirt-rpc.md 4.1): it ends when its
 * helper ends. Main thread only. */
#pragma once

#include "driver/session_place.h"
#include "driver/settings.h"
#include "driver/speed_limit.h"
#include "xml/capabilities.h"
#include "xml/migrate_options.h"
#include "xml/migration_uri.h"

typedef struct Migration Migration;
typedef struct JobRecord JobRecord; /* driver/job_record.h */

/* All migrations of this host, and what they share. */
typedef struct MigrationSet MigrationSet;

typedef enum { MIGRATION_SIDE_SOURCE, MIGRATION_SIDE_DESTINATION } MigrationSide;

/* Channels, as the helpers name them; bulk channels are "bulk-1" and so on (tls/hello.h). */
#define MIGRATION_CHANNEL_MAIN "main"
#define MIGRATION_CHANNEL_PREEMPT "preempt"
#define MIGRATION_CHANNEL_DISKS "disks" /* of these there may be several */

/* Fails if helper_user is not a user of this host. settings must outlive it. */
MigrationSet *migration_set_new(const Settings *settings, GError **error);
/* Removes the sockets' names. Helpers that move a guest go on by themselves, others end. */
void migration_set_free(MigrationSet *set);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MigrationSet, migration_set_free)

const Settings *migration_set_settings(const MigrationSet *set);
const char *migration_set_run_dir(const MigrationSet *set);

/* The destination's migration of that session id, or NULL; not referenced. */
Migration *migration_set_lookup(MigrationSet *set, const guint8 session[MIGRATION_SESSION_LEN]);

/* The newest migration of that domain away from this host, or NULL; not referenced. */
Migration *migration_set_find_source(MigrationSet *set, const char *domain);

/* A destination: makes session id, token and QEMU's socket directory. In the set until it ends.
 * recovers: it resumes one that is paused. */
Migration *migration_new_destination(MigrationSet *set, const char *domain, const QemuOwner *owner,
                                     gboolean recovers, GError **error);

/* A source, from the URI that the destination made. limit: what the user said of the speed in
 * post-copy, as Perform has it. */
Migration *migration_new_source(MigrationSet *set, const char *domain, const MigrationUri *uri,
                                const SpeedLimit *limit);

/* One of a memory client's on either side, which its name is of; no libvirt and no QEMU takes part in it, and
 * a domain of that name is something else: migration_domain() begins with MEMORY_PREFIX. uri: the source's; NULL for a destination. uid: the client's. */
Migration *migration_new_memory(MigrationSet *set, MigrationSide side, const char *name,
                                const MigrationUri *uri, uid_t uid, gboolean recovers);
/* One more of a client of that user's: memory_max_migrations and memory_max_migrations_per_user. */
gboolean migration_set_has_memory_room(const MigrationSet *set, uid_t uid, GError **error);
/* Its session id, 32 hexadecimal digits; g_free(). */
char *migration_session_text(const Migration *migration);
gboolean migration_is_memory(const Migration *migration);
/* After migration_prepare() or migration_connect(): the helper speaks with the client from here on. Takes
 * fd. */
void migration_attach_memory(Migration *migration, int fd, GAsyncReadyCallback callback,
                             gpointer data);

/* Source, before migration_connect(): what the user asks of the session. */
void migration_set_wishes(Migration *migration, const MigrateWishes *wishes);

/* Destination, before migration_prepare(): where its session comes in, if it is another place than
 * virtpostcopyd.conf says. */
void migration_set_place(Migration *migration, const SessionPlace *place);
/* Whether a connection that has come in at that address of this host's is for it. */
gboolean migration_listens_at(const Migration *migration, const char *address);

/* ---- what a daemon that comes later, or a recovery, needs ---- */

/* Source: the call that began it, to be made again for a recovery (driver/recovery.h); args: its
 * XDR. */
void migration_set_perform(Migration *migration, gint32 procedure, GBytes *args);

/* The switch-over has begun: a failure from here on is libvirt's post-copy failure. */
gboolean migration_in_postcopy(const Migration *migration);
/* And its session lives. */
gboolean migration_is_moving(const Migration *migration);
/* Destination: the guest has stopped at the source, and its session lives. */
gboolean migration_is_switching(const Migration *migration);

/* Calls func, from the main loop, when the session of a source has ended badly after the
 * switch-over, and nobody wanted that: libvirt's post-copy failure follows. Also for those that a
 * daemon before this one has left so, the oldest of a domain first, and for one that had to make
 * room for a resume, which may fail. Once for each session, and never while the domain has one that
 * goes on. */
typedef void (*MigrationBrokenFunc)(MigrationSet *set, const JobRecord *record, gpointer data);
void migration_set_on_broken(MigrationSet *set, MigrationBrokenFunc func, gpointer data);

/* What happens to a migration, for who tells it to clients (driver_events.c) or keeps account of it.
 * Each comes once for each time that it happens, from the main loop. */
typedef enum {
    MIGRATION_NOTICE_CHANNEL_OPENED, /* detail: the kind of channel */
    MIGRATION_NOTICE_LINK_LOST,      /* detail: the kind of channel; reason */
    MIGRATION_NOTICE_LINK_RESTORED,  /* detail: the kind of channel */
    MIGRATION_NOTICE_STATE,          /* detail: State of the helper; reason */
    MIGRATION_NOTICE_PHASE,          /* detail: Phase of the helper */
    MIGRATION_NOTICE_ENDED,          /* its helper is gone; the last one */
} MigrationNotice;
typedef void (*MigrationNoticeFunc)(Migration *migration, MigrationNotice notice,
                                    const char *detail, const char *reason, gpointer data);
void migration_set_on_notice(MigrationSet *set, MigrationNoticeFunc func, gpointer data);

/* What is known of a channel at a notice of it; NULL and -1 are for what is not. The texts are the
 * helper's, until the main loop goes on. */
typedef struct {
    gboolean opened; /* it has been there, whether or not it is now */
    const char *tls;
    const char *cipher;
    const char *peer;
    gint64 lost_ms; /* how long it was away the last time that it came back */
} MigrationChannel;
void migration_channel(const Migration *migration, const char *kind, MigrationChannel *ret);

/* Calls func when nothing is left that a session of that domain on that side could be recovered
 * from. */
typedef void (*MigrationForgottenFunc)(MigrationSide side, const char *domain, gpointer data);
void migration_set_on_forgotten(MigrationSet *set, MigrationForgottenFunc func, gpointer data);

/* The names of the domains that migrate, or could be recovered. */
GPtrArray *migration_set_domains(MigrationSet *set);

/* The sessions of a migration that was recovered are one to who asks: what they have in common, kept
 * with the record of each. */
typedef struct {
    gint64 begun;     /* the first: microseconds since the epoch */
    guint recoveries;
    gint64 lost_us;   /* time without link, as far as it is over */
} MigrationHistory;

/* FALSE: this session has none yet, and it is what the one before has left, where this one recovers
 * it. */
gboolean migration_get_history(const Migration *migration, MigrationHistory *ret);
void migration_set_history(Migration *migration, const MigrationHistory *history);

/* Destination: bytes of RAM that the domain's XML speaks of, 0 if that is not known. */
void migration_set_expected_ram(Migration *migration, guint64 bytes);
guint64 migration_expected_ram(const Migration *migration);

/* It resumes one that broke in post-copy. */
gboolean migration_recovers(const Migration *migration);
gint64 migration_begun(const Migration *migration); /* as in JobRecord */

/* What its helper says of itself; see driver/helper_process.h. FALSE: nothing yet. */
struct HelperReport;
gboolean migration_report(const Migration *migration, struct HelperReport *ret);

/* Goes on with what a daemon before this one has left: helpers that live are taken over; of the
 * others the outcome is told, and the names they needed are removed. Once, before anybody is
 * served. */
void migration_set_adopt(MigrationSet *set);

/* The record of a session of that side, alive or broken, or NULL; not the caller's. */
const JobRecord *migration_set_find_record(MigrationSet *set, MigrationSide side,
                                           const guint8 session[MIGRATION_SESSION_LEN]);

/* The newest one of that domain that has broken, or NULL; not the caller's. */
const JobRecord *migration_set_find_broken(MigrationSet *set, MigrationSide side,
                                           const char *domain);

/* No recovery will need the broken sessions of that domain (any more). */
void migration_set_forget(MigrationSet *set, MigrationSide side, const char *domain);

/* Ends the sessions of that domain on that side that are in the way of a resume, and calls func
 * when they have ended (at once, later, if there is none; at the latest after some seconds). A
 * session that is not in post-copy is left alone, and one that streams on all its channels: there
 * is nothing to be resumed, and libvirt will say so. So is one begun after not_after (as in
 * JobRecord; G_MAXINT64: any time).
 * also_whole: the source itself says that its session is gone, whatever its channels look like. */
void migration_set_supersede(MigrationSet *set, MigrationSide side, const char *domain,
                             gboolean also_whole, gint64 not_after, GSourceFunc func,
                             gpointer data);

Migration *migration_ref(Migration *migration);
void migration_unref(Migration *migration);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Migration, migration_unref)

/* Destination: starts the helper. */
void migration_prepare(Migration *migration, GAsyncReadyCallback callback, gpointer data);

/* Source: starts the helper, dials the peer, waits until both helpers agree, listens for QEMU. No
 * byte of the guest has left before this succeeds. tls_name: name to expect in the peer's
 * certificate, NULL for the host of the URI. */
void migration_connect(Migration *migration, const char *tls_name, GAsyncReadyCallback callback,
                       gpointer data);

/* Disks that are copied along are relayed, too. Destination: makes a place for QEMU's NBD server;
 * before migration_prepare(). Source: whoever copies is QEMU, of that owner; path: where, or NULL
 * for a new one; before migration_connect(). */
gboolean migration_serve_disks(Migration *migration, const QemuOwner *owner, GError **error);
void migration_relay_disks(Migration *migration, const char *path, const QemuOwner *owner);
/* "unix://" and the path for libvirt to give to QEMU; NULL: no disks are relayed. */
char *migration_disks_uri(const Migration *migration);

gboolean migration_finish(Migration *migration, GAsyncResult *result, GError **error);

/* FALSE: its helper is just being taken over from a daemon before this one. */
gboolean migration_is_reachable(const Migration *migration);

/* Destination: a connection on the migration port named this session; it is reachable. Takes fd. */
void migration_accept_peer(Migration *migration, int fd, const char *address);

/* Destination: the URI for Prepare to return. Source: "unix://" and the path to stream to. */
char *migration_uri(const Migration *migration);
/* Destination: "unix://" and the path on which QEMU shall listen. */
char *migration_qemu_uri(const Migration *migration);

MigrationSide migration_side(const Migration *migration);
const char *migration_domain(const Migration *migration);
const char *migration_id(const Migration *migration); /* short, for log lines */

/* The session, as above, that this one resumes, from its first channel on; NULL if it resumes none.
 * Its own if the one before is not known here. */
const char *migration_recovered_id(const Migration *migration);
/* Source: it belongs to a recovery of this daemon's own (driver/recovery.h). */
void migration_set_own_attempt(Migration *migration);
gboolean migration_is_own_attempt(const Migration *migration);

/* Why it failed by itself, or NULL. */
const char *migration_error(const Migration *migration);

/* Where the end began, once it has ended (see EndedBy in ram/org.libvirt.Postcopy1.xml). */
typedef enum {
    MIGRATION_ENDED_BY_HELPER, /* it died, or never told */
    MIGRATION_ENDED_BY_QEMU,   /* this host's QEMU */
    MIGRATION_ENDED_BY_OTHERS, /* the peer, the link between, or a cancellation */
} MigrationEndedBy;
MigrationEndedBy migration_ended_by(const Migration *migration);

/* libvirt has agreed to abort it: what fails from now on was aborted. */
void migration_set_aborted(Migration *migration);
gboolean migration_is_aborted(const Migration *migration);

/* The phase named in log lines from here on; a static string. */
void migration_set_phase(Migration *migration, const char *phase);

/* Source: a user is about to pause it: no recovery then. FALSE: it was refused, also if it has
 * broken meanwhile. */
void migration_set_paused(Migration *migration, gboolean paused);

/* Ends it on this side. A guest that is on its way is not lost by that: QEMU on both sides sees its
 * stream break, as on a broken link. */
void migration_cancel(Migration *migration, const char *reason);

/* Cancels it unless QEMU's stream has begun: then it ends by itself, with the stream. One that has
 * lost its peer before the switch-over is cancelled all the same. */
void migration_give_up(Migration *migration, const char *reason);

/* Its client is gone. What moves goes on; what never came to streaming is cancelled after a
 * while. */
void migration_orphan(Migration *migration);

typedef void (*MigrationFunc)(Migration *migration, gpointer data);

/* Calls func once, later: when the migration has ended, or at the time-out. */
void migration_when_ended(Migration *migration, guint timeout_ms, MigrationFunc func,
                          gpointer data);

/* The same for: it has switched over, or its session has ended. */
void migration_when_decided(Migration *migration, guint timeout_ms, MigrationFunc func,
                            gpointer data);

/* The same for: the destination QEMU has said something on its return path, or it ended. */
void migration_when_return_path(Migration *migration, guint timeout_ms, MigrationFunc func,
                                gpointer data);

/* The same for: it is reachable, or it ended. */
void migration_when_reachable(Migration *migration, guint timeout_ms, MigrationFunc func,
                              gpointer data);
