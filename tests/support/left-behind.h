/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a daemon has left in its directory, for tests of the one that comes next: records, and
 * helpers that live (an object of the test's own process behind the same socket). */
#pragma once

#include "driver/job_record.h"
#include "driver/migration.h"

#include <gio/gio.h>

#include "ram/postcopy-dbus.h"

#define LEFT_WAIT_S 20
#define DOMAIN_NAME "guest"

typedef struct {
    char *dir;
    Settings *settings;
    MigrationSet *set;
    GString *told; /* first digits of the sessions that broke, in order */
    guint calls;   /* of left_on_called() */
} Left;

int left_setup(void **state);
int left_teardown(void **state);

/* A GSourceFunc that counts. */
gboolean left_on_called(gpointer data);

/* What a daemon has written of a migration in post-copy; number becomes its session id and its
 * age. */
JobRecord *left_make_record(MigrationSide side, guint8 number);
/* Takes the record. */
void left_save(Left *f, JobRecord *record);
void left_save_outcome(Left *f, guint8 number, const char *state, const char *phase);

/* As the daemon starts. */
void left_start(Left *f);

/* No helper is left: what is broken is told in the next turns of the loop, or not at all. */
void left_settle(Left *f);

const JobRecord *left_find(Left *f, MigrationSide side, guint8 number);
Migration *left_source_of(Left *f);
guint left_count_files(Left *f);
gboolean left_has_files(Left *f);

typedef struct {
    GSocketService *service;
    GDBusConnection *connection;
    PostcopyMigration *object;
    GString *calls;
    int fd; /* of the last call, or -1 */
} FakeHelper;

void fake_helper_init(FakeHelper *helper, Left *f, guint8 number);
/* As if it had ended. */
void fake_helper_leave(FakeHelper *helper);
/* The same, with a last word. */
void fake_helper_end(FakeHelper *helper, const char *state, const char *reason);
void fake_helper_clear(FakeHelper *helper);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FakeHelper, fake_helper_clear)

/* A helper of that record lives when the daemon starts. */
void left_start_with(Left *f, FakeHelper *helper, JobRecord *record);

gboolean left_on_wait_over(gpointer data);
#define wait_until(condition)                                                   \
    do {                                                                        \
        gboolean over_ = FALSE;                                                 \
        guint timer_ = g_timeout_add_seconds(LEFT_WAIT_S, left_on_wait_over, &over_);     \
        while (!(condition) && !over_)                                          \
            g_main_context_iteration(NULL, TRUE);                               \
        g_source_remove(timer_);                                                \
        if (!(condition))                                                       \
            fail_msg("not in %d seconds: %s", LEFT_WAIT_S, #condition);              \
    } while (0)
