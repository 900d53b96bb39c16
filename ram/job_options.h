/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The arguments of Configure (ram/org.libvirt.Postcopy1.xml), checked one by one. Errors are
 * JOB_ERROR_INVALID_ARGUMENT and name the option; they never contain the token. */
#pragma once

#include "ram/relay.h"

#define JOB_WINDOW_DEFAULT (16 * 1024 * 1024)

typedef struct {
    SessionConfig session; /* the token in it is secret: wiped by clear */
    char *domain;          /* or NULL */
    char **allowed_dns;    /* or NULL */
    char *psk_identity;    /* or NULL: the file's first */
    gboolean psk;
    gboolean paced;
    gboolean recovers;
    gboolean memory; /* a memory client's, not a QEMU's: the session's features say so as well */
    guint64 stage;
    RelayCompression compression; /* off: the session's features are without any method */
    guint64 methods;              /* features: those asked for; 0: none was named */
    PagesLevels levels;
    guint compression_threads;
    guint bulk; /* channels; 0: the session's features are without them at the source */
    guint reconnect_timeout;  /* seconds */
    guint heartbeat_interval; /* seconds */
    guint heartbeat_count;
    guint rekey_records;
} JobOptions;

void job_options_clear(JobOptions *options);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(JobOptions, job_options_clear)

/* dict: a{sv}. ret_options is untouched on failure. */
gboolean job_options_parse(const char *side, GVariant *dict, JobOptions *ret_options,
                           GError **error);

/* files: a(ssh) with its descriptors, NULL if there are none. Descriptors are duplicated. */
gboolean job_files_parse(GVariant *files, const int *fds, gint n_fds, TlsFiles *ret_files,
                         GError **error);
