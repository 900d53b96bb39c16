/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One migration of a domain on one side as who asks for its statistics sees it: from its begin
 * to its end, over all sessions that it took if it was recovered, and for a while after that.
 *
 * Kept from what happens to the migrations of a set. A daemon that starts anew goes on with what
 * the record has: begin, recoveries and time without link; what helpers of earlier sessions have
 * counted is lost then. Main thread only. */
#pragma once

#include "driver/job_figures.h"
#include "driver/migration.h"

/* Those that have ended, at most, and how long. */
#define MIGRATION_ACCOUNTS_MAX 64
#define MIGRATION_ACCOUNT_KEEP_S (24 * 60 * 60)

typedef struct MigrationAccounts MigrationAccounts;

MigrationAccounts *migration_accounts_new(void);
void migration_accounts_free(MigrationAccounts *accounts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MigrationAccounts, migration_accounts_free)

/* A MigrationNoticeFunc's arguments. */
void migration_accounts_notice(MigrationAccounts *accounts, Migration *migration,
                               MigrationNotice notice, const char *detail);

/* key: the domain's name; of a memory client's the session, as migration_session_text() has it, since
 * each of its sessions is a migration of its own. FALSE: there is none. */
gboolean migration_accounts_figures(MigrationAccounts *accounts, const char *key,
                                    JobFigures *ret);
/* All that are kept, the newest last. */
typedef void (*MigrationAccountFunc)(const char *key, const char *domain, gpointer data);
void migration_accounts_each(MigrationAccounts *accounts, MigrationAccountFunc func, gpointer data);

/* Its completed statistics are not to be told again. */
void migration_accounts_clear(MigrationAccounts *accounts, const char *domain);
/* libvirt migrates the domain by itself: nothing more is told of the last migration here, if that
 * is over. */
void migration_accounts_forget(MigrationAccounts *accounts, const char *domain);
/* What has broken on that side will not be recovered any more: a MigrationForgottenFunc's
 * arguments. */
void migration_accounts_give_up(MigrationAccounts *accounts, MigrationSide side,
                                const char *domain);
