/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libvirt's own post-copy resume, run by the daemons themselves when a session has broken for good
 * after the switch-over.
 *
 * The source's daemon calls libvirtd's Perform as a peer-to-peer migration with POSTCOPY_RESUME,
 * with the flags and parameters the migration began with; libvirtd does its five phases, and a
 * fresh pair of helpers is made on the way by the same code that serves `virsh migrate --postcopy
 * --postcopy-resume --p2p` (driver/p2p.h). The connection to the destination's daemon is made over
 * the migration port (driver/recovery_dial.h), because in a migration that a client has managed
 * nobody but the client knows another way.
 *
 * Tried again with a growing pause, until it succeeds, the domain is gone, a user resumes it, or
 * recover_timeout is over. One recovery for a domain at a time. Main thread only. */
#pragma once

#include "driver/driver_priv.h"

typedef struct RecoverySet RecoverySet;

/* Takes care of what migration_set_on_broken() tells, if settings say auto_recover. */
RecoverySet *recovery_set_new(Driver *driver);
void recovery_set_free(RecoverySet *set);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RecoverySet, recovery_set_free)

/* A user resumes (or pauses) that domain's migration: leaves it to them, and nobody waits any
 * longer. An attempt that was handed over goes on, and is the last; another one is dropped. */
void recovery_set_leave(RecoverySet *set, const char *domain);

/* A user is about to resume that domain's migration: the next attempt leaves them the time for
 * it. */
void recovery_set_users_turn(RecoverySet *set, const char *domain);

/* There is no such session any more: it is of no use for another attempt. */
void recovery_set_session_gone(RecoverySet *set, const guint8 session[MIGRATION_SESSION_LEN]);

/* The same, as the destination's daemon says it (SESSION_DIAL_ERROR_UNKNOWN): believed when it has
 * been said of the newest one several times in a row. */
void recovery_set_session_unknown(RecoverySet *set, const guint8 session[MIGRATION_SESSION_LEN]);

/* libvirtd calls the destination for an attempt for that domain, and this cannot be taken back.
 * FALSE: there is none (any more). */
gboolean recovery_set_hand_over(RecoverySet *set, const char *domain);

/* libvirtd is at an attempt for that domain. */
gboolean recovery_set_is_trying(RecoverySet *set, const char *domain);

/* Once, from the main loop: how the recovery of that domain has ended. */
typedef void (*RecoveryFunc)(gboolean arrived, gpointer data);

/* For the client of that proxy; once that is closed func is called early, with FALSE. FALSE: there
 * is no recovery of that domain, and func will not be called. */
gboolean recovery_set_wait(RecoverySet *set, const char *domain, Proxy *proxy, RecoveryFunc func,
                           gpointer data);
