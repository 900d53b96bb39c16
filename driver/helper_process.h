/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A running virt-postcopy-helper: started (or found, left by a daemon before this one), spoken to
 * over D-Bus, waited for.
 *
 * The helper is a child, but not a dependant: it goes on moving a running guest when this daemon
 * ends. Main thread only; nothing here blocks. */
#pragma once

#include <gio/gio.h>

#include "driver/settings.h"
#include "tls/credentials.h"

typedef struct HelperProcess HelperProcess;

/* Called from the main loop. Any may be NULL. */
typedef struct {
    void (*state_changed)(HelperProcess *helper, const char *state, const char *reason,
                          const char *ended_by, gpointer data);
    /* QEMU's word, see Phase in ram/org.libvirt.Postcopy1.xml */
    void (*phase_changed)(HelperProcess *helper, const char *phase, gpointer data);
    void (*qemu_needed)(HelperProcess *helper, gpointer data);
    void (*qemu_connected)(HelperProcess *helper, gpointer data);
    void (*return_path_opened)(HelperProcess *helper, gpointer data);
    void (*source_rate_wanted)(HelperProcess *helper, guint64 bytes_per_second, gpointer data);
    /* One has come up (again). */
    void (*channels_changed)(HelperProcess *helper, gpointer data);
    void (*channel_lost)(HelperProcess *helper, const char *kind, const char *reason,
                         gpointer data);
    void (*channel_resumed)(HelperProcess *helper, const char *kind, gpointer data);
    /* A disk connection needs its other end: helper_process_connect_disks() or _attach_disks(), or
     * helper_process_refuse_disks(). */
    void (*disks_wanted)(HelperProcess *helper, guint number, gpointer data);
    /* reason: "" if both QEMUs have ended it. */
    void (*disks_ended)(HelperProcess *helper, guint number, const char *reason, gpointer data);
    void (*channel_refused)(HelperProcess *helper, const char *address, const char *reason,
                            gpointer data);
    /* The process is gone and everything it said was heard; the last call. how: "exit status 0",
     * "signal 9 (Killed)". Of an adopted one only the end of its connection is seen, which is not
     * quite that of the process: success is what it has said. */
    void (*exited)(HelperProcess *helper, gboolean success, const char *how, gpointer data);
} HelperHandlers;

/* Starts the process; it drops to user ("UID:GID") by itself. listen_fd (a listening socket, where
 * a daemon that comes later finds it) and outcome_fd (the file that it keeps its outcome in) are
 * taken, also on error. handlers must outlive it; helper_process_disown() ends their being
 * called. */
HelperProcess *helper_process_spawn(const Settings *settings, const char *user, int listen_fd,
                                    int outcome_fd, const HelperHandlers *handlers, gpointer data,
                                    GError **error);
void helper_process_disown(HelperProcess *helper);

/* Takes over one that another daemon has started, by the socket that it listens on.
 * helper_process_finish() says whether it has answered (in 10 seconds); if so its status can be
 * asked for, and handlers are called from then on. G_IO_ERROR_CONNECTION_REFUSED, _NOT_FOUND,
 * _CLOSED: nobody is there (any more). Else somebody may be, who does not answer as a helper
 * does. */
HelperProcess *helper_process_adopt(const char *control_path, const HelperHandlers *handlers,
                                    gpointer data, GAsyncReadyCallback callback,
                                    gpointer callback_data);

/* What an adopted one says of itself; strings are the helper's, until its next signal. */
typedef struct {
    const char *state;
    const char *phase;
    const char *reason;
    const char *ended_by;
    gboolean return_path;
    guint qemu_wanted; /* QemuNeeded, unanswered */
    guint qemu_connections;
    guint64 source_rate;
    const char *const *channels_lost;
    const guint32 *disks_unanswered; /* numbers of DisksWanted */
    gsize n_disks_unanswered;
} HelperStatus;
void helper_process_status(HelperProcess *helper, HelperStatus *ret);

/* A channel that has come up; strings as above, empty where the helper does not know. FALSE: it has
 * not. */
typedef struct {
    const char *tls;    /* "TLS1.3" */
    const char *cipher; /* "AES-256-GCM" */
    const char *peer;
} HelperChannel;
gboolean helper_process_channel(HelperProcess *helper, const char *kind, HelperChannel *ret);

/* 0: not our child. */
pid_t helper_process_pid(HelperProcess *helper);

HelperProcess *helper_process_ref(HelperProcess *helper);
void helper_process_unref(HelperProcess *helper);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HelperProcess, helper_process_unref)

/* Connects to it and makes its Configure call (see ram/org.libvirt.Postcopy1.xml); options is
 * floating and taken, files stay the caller's. One that does not answer is killed. */
void helper_process_configure(HelperProcess *helper, const char *side, GVariant *options,
                              const TlsFiles *files, GAsyncReadyCallback callback, gpointer data);

/* These take fd. The callback is given helper_process_finish()'s GAsyncResult. The first two have
 * no time-out: the helper has its own, and may be given other connections meanwhile. */
void helper_process_connect_peer(HelperProcess *helper, int fd, const char *host,
                                 GAsyncReadyCallback callback, gpointer data);
void helper_process_connect_channel(HelperProcess *helper, int fd, const char *host,
                                    const char *kind, GAsyncReadyCallback callback, gpointer data);
void helper_process_listen_qemu(HelperProcess *helper, int fd, GAsyncReadyCallback callback,
                                gpointer data);
/* fd: a SOCK_SEQPACKET socket. */
void helper_process_attach_memory(HelperProcess *helper, int fd, GAsyncReadyCallback callback,
                                  gpointer data);
/* After connect_peer, if both sides can (helper_process_features()). */
void helper_process_listen_disks(HelperProcess *helper, int fd, GAsyncReadyCallback callback,
                                 gpointer data);
gboolean helper_process_finish(HelperProcess *helper, GAsyncResult *result, GError **error);

/* After connect_peer has succeeded: the channels that are to be connected as well, one after the other, from 0
 * on. NULL: there is none any more. */
const char *helper_process_channel_wanted(HelperProcess *helper, guint i);

/* Told, not asked: a failure of these is heard of through the handlers. They take fd. */
void helper_process_accept_peer(HelperProcess *helper, int fd, const char *address);
void helper_process_attach_qemu(HelperProcess *helper, int fd);
void helper_process_refuse_qemu(HelperProcess *helper, const char *reason);
/* ranges: a(ttts), floating. Both descriptors are taken. */
void helper_process_set_placing(HelperProcess *helper, int uffd, int record, GVariant *ranges);
void helper_process_set_placed(HelperProcess *helper, int record, int pagemap);
void helper_process_refuse_placing(HelperProcess *helper, const char *reason);
/* It was told one of the first and the last, by whichever daemon. */
gboolean helper_process_places(HelperProcess *helper);
/* ranges: a(tt), floating. */
void helper_process_set_reading(HelperProcess *helper, int fd, GVariant *ranges);
/* It has been told that, by whichever daemon. */
gboolean helper_process_reads(HelperProcess *helper);
/* As the property Reading, also when it has ended. */
gboolean helper_process_reading_failed(HelperProcess *helper);
void helper_process_reconnect_channel(HelperProcess *helper, int fd, const char *host,
                                      const char *kind);
void helper_process_connect_disks(HelperProcess *helper, int fd, const char *host, guint number);
void helper_process_attach_disks(HelperProcess *helper, int fd, guint number);
void helper_process_refuse_disks(HelperProcess *helper, guint number, const char *reason);
void helper_process_abandon_peer(HelperProcess *helper, const char *reason);
void helper_process_cancel(HelperProcess *helper, const char *reason);

/* What the two sides can both do, by the names of tls/features.h; empty: not agreed on yet. The helper's, until
 * its next signal. */
const char *const *helper_process_features(HelperProcess *helper);
/* Also after its end. Strings are the helper's, until its next signal; so is statistics, which is NULL if
 * it never told any. */
typedef struct HelperReport {
    const char *state;
    const char *phase;
    const char *tls_version;
    const char *tls_cipher;
    const char *peer;
    const char *const *features;
    guint channels; /* that have come up */
    GVariant *statistics;
} HelperReport;
/* FALSE: nothing was heard of it yet. */
gboolean helper_process_report(HelperProcess *helper, HelperReport *ret);

/* Fields for a line of the log: TLS version, cipher, peer, features, phase, counters. Free with g_free(). */
char *helper_process_summary(HelperProcess *helper);
