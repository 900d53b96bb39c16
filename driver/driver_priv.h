/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the driver share: driver.c is the table, driver_*.c the entries. */
#pragma once

#include "driver/driver.h"
#include "driver/migrate_call.h"
#include "driver/migration.h"
#include "driver/session_port.h"

struct Driver {
    const Settings *settings;
    MigrationSet *set;
    struct DriverEvents *events;         /* driver/driver_events.h */
    struct DriverStats *stats;           /* driver/driver_stats.h */
    struct MigrationAccounts *accounts;  /* driver/migration_account.h */
    struct MigrationAccounts *memory_accounts; /* those of memory clients */
    SessionPort *port;
    struct MemoryPort *memory;      /* driver/memory_port.h */
    struct RecoverySet *recoveries; /* driver/recovery.h */
    GPtrArray *recovery_clients;    /* driver/recovery_client.h */
    guint recovery_callers;         /* driver/recovery_port.h: not let in yet */
    guint check_callers;            /* driver/check_port.h */
    guint looks;                    /* driver/driver_preflight.c: under way, */
    GQueue looks_waiting;           /* and those that are not */
    GCancellable *stopped;          /* cancelled when it goes */
};

/* An entry of the table. TRUE: it took the frame. FALSE: the frame is to be forwarded as it is. */
typedef gboolean (*DriverFunc)(Driver *driver, Proxy *proxy, RpcFrame *frame);

gboolean driver_abort_job(Driver *driver, Proxy *proxy, RpcFrame *frame);
gboolean driver_abort_job_flags(Driver *driver, Proxy *proxy, RpcFrame *frame);

/* A call that is held while something else is done for it. */
typedef struct DriverJob {
    Driver *driver;
    Proxy *proxy;
    RpcFrame *frame;      /* the call as it came; NULL once sent on */
    RpcHeader header;     /* of the call */
    MigrateCall *call;
    Migration *migration; /* or NULL */
    struct P2p *p2p;      /* or NULL */
    RpcFrame *reply;      /* held as well, or NULL */
    char *error;          /* what to tell the user instead of libvirtd's own words, or NULL */
    gint64 try_until;     /* see driver_resume_again(); 0: not tried yet */
    ProxyReplyFunc again;
    void (*next)(struct DriverJob *job); /* of driver_resume_after(), driver_preflight()... */
    void (*failed)(struct DriverJob *job, const char *reason); /* see driver_disks_find_owner() */
    guint64 expected_ram;  /* Prepare: of the domain, in bytes; 0: not known */
    gboolean relays_disks; /* and owner is known */
    QemuOwner owner;       /* who runs the domain's QEMU on this host */
} DriverJob;

/* An entry for a call of a post-copy migration, decoded already; takes the job. */
typedef void (*DriverJobFunc)(DriverJob *job);

void driver_migrate_begin3(DriverJob *job);
void driver_migrate_prepare3(DriverJob *job);
void driver_migrate_perform3(DriverJob *job);
void driver_migrate_finish3(DriverJob *job);
void driver_migrate_confirm3(DriverJob *job);

/* Decodes frame and takes it, or answers it with an error (frame taken, NULL returned). */
DriverJob *driver_job_new(Driver *driver, Proxy *proxy, RpcFrame *frame);
void driver_job_free(DriverJob *job);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DriverJob, driver_job_free)

/* TRUE if the call is ours to deal with: it asks for post-copy, or for a tunnel, which we
 * refuse. */
gboolean driver_job_is_ours(const DriverJob *job);

/* Gives the frame back unchanged to be forwarded by the caller of the hook: forwards it itself and
 * frees the job. */
void driver_job_pass(DriverJob *job);

/* Answers the call with an error of libvirt's and frees the job. */
void driver_job_refuse(DriverJob *job, int code, const char *message);

/* The same, with the code of MIGRATE_OPTIONS_ERROR, or "argument unsupported". */
void driver_job_refuse_error(DriverJob *job, const GError *error);

/* Sends the call on with its present values, a second time too. With func, the reply comes there
 * with the job as data; without, the job is freed. A call that cannot be encoded is answered with
 * an error. */
void driver_job_forward(DriverJob *job, ProxyReplyFunc func);

/* ---- what was asked for: driver_options.c ---- */

/* FALSE: the call's flags and parameters cannot be had here (xml/migrate_table.h). given_uri: its
 * migration URI is the user's, not one of the daemons' own. */
gboolean driver_options_check(const DriverJob *job, gboolean given_uri, GError **error);

/* Once for each migration, at its source: what is done otherwise than it was asked for. */
void driver_options_log(const DriverJob *job);

/* The destination need not be reached through a virtpostcopyd: then the migration is libvirt's own,
 * and so is what it makes of its URI and its disks. */
gboolean driver_options_may_be_plain(const DriverJob *job);

/* What the session is to do in libvirtd's place. */
void driver_options_wishes(const MigrateCall *call, MigrateWishes *ret);

/* And what, therefore, must not reach libvirtd, of any of the five calls. */
void driver_options_strip(DriverJob *job);

/* Prepare: looks --listen-address up if it is a name, puts the address in its place, and calls next. */
void driver_listen_resolve(DriverJob *job, DriverJobFunc next);

/* The domain's name on the host the call is for, also where only its XML says it. */
char *driver_call_domain(const MigrateCall *call, GError **error);

/* ---- resuming what failed in post-copy: driver_resume.c ---- */

gboolean driver_job_is_resume(const DriverJob *job);

/* A resume takes the place of what is left of the session before: next comes when that has
 * ended. */
void driver_resume_after(DriverJob *job, MigrationSide side, const char *domain,
                         DriverJobFunc next);

/* TRUE: libvirtd has only refused to resume because it has not learned yet from QEMU that the
 * migration failed. reply is freed, the call will be sent on once more, and the answer to that
 * comes to func as before. FALSE: the answer counts. */
gboolean driver_resume_again(DriverJob *job, RpcFrame *reply, ProxyReplyFunc func);

/* ---- disks that are copied along: driver_disks.c ---- */

/* NULL, or why they cannot be relayed with this call: a sentence for the user. */
const char *driver_disks_problem(const MigrateCall *call);
/* The same: FALSE, with that in error. */
gboolean driver_disks_check(const MigrateCall *call, GError **error);
/* They are to be relayed: the user has named no way for them. */
gboolean driver_disks_are_ours(const MigrateCall *call);
/* Who runs the domain's QEMU: what its XML says, else the host's capabilities, as texts. */
gboolean driver_find_owner(const char *domain_xml, const char *capabilities, QemuOwner *ret_owner,
                           GError **error);
/* Perform: asks libvirtd for both if the disks are to be relayed; then job->owner is known, and
 * next comes. Else at once. failed, if it does not tell. A client that has left ends the job. */
void driver_disks_find_owner(DriverJob *job, DriverJobFunc next,
                             void (*failed)(DriverJob *job, const char *reason));

/* The migrations that a client has begun. */
void driver_client_add(Proxy *proxy, Migration *migration);
/* The newest one of that side and domain, or NULL; not referenced. */
Migration *driver_client_find(Proxy *proxy, MigrationSide side, const char *domain);

/* Answers the call with libvirtd's reply; takes both. An error is held until the helper has said
 * why (or a moment has passed), and gets the reason that this driver knows put in front. */
void driver_job_answer(DriverJob *job, RpcFrame *reply);
/* Without waiting. */
void driver_job_answer_now(DriverJob *job, RpcFrame *reply);
/* The wait alone, for an error: job->reply is reply, and func gets the job. job has a migration. */
void driver_job_when_explained(DriverJob *job, RpcFrame *reply, MigrationFunc func);
