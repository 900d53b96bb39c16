/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A running virt-postcopy-helper: started, spoken to over D-Bus, waited for.
 *
 * The helper is a child, but not a dependant: it goes on moving a running guest when this
 * daemon ends. Main thread only; nothing here blocks. */
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
    void (*channel_refused)(HelperProcess *helper, const char *address, const char *reason,
                            gpointer data);
    /* The process is gone and everything it said was heard; the last call. how: "exit status 0",
     * "signal 9 (Killed)". */
    void (*exited)(HelperProcess *helper, gboolean success, const char *how, gpointer data);
} HelperHandlers;

/* Starts the process; it drops to user ("UID:GID") by itself. handlers must outlive it;
 * helper_process_disown() ends their being called. */
HelperProcess *helper_process_spawn(const Settings *settings, const char *user,
                                    const HelperHandlers *handlers, gpointer data, GError **error);
void helper_process_disown(HelperProcess *helper);

HelperProcess *helper_process_ref(HelperProcess *helper);
void helper_process_unref(HelperProcess *helper);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HelperProcess, helper_process_unref)

/* Connects to it and makes its Configure call (see ram/org.libvirt.Postcopy1.xml); options is
 * floating and taken, files stay the caller's. */
void helper_process_configure(HelperProcess *helper, const char *side, GVariant *options,
                              const TlsFiles *files, GAsyncReadyCallback callback, gpointer data);

/* These take fd. The callback is given helper_process_finish()'s GAsyncResult. */
void helper_process_connect_peer(HelperProcess *helper, int fd, const char *host,
                                 GAsyncReadyCallback callback, gpointer data);
void helper_process_connect_channel(HelperProcess *helper, int fd, const char *host,
                                    const char *kind, GAsyncReadyCallback callback, gpointer data);
void helper_process_listen_qemu(HelperProcess *helper, int fd, GAsyncReadyCallback callback,
                                gpointer data);
gboolean helper_process_finish(HelperProcess *helper, GAsyncResult *result, GError **error);

/* After connect_peer has succeeded: whether a channel of that kind is to be connected as well. */
gboolean helper_process_wants_channel(HelperProcess *helper, const char *kind);

/* Told, not asked: a failure of these is heard of through the handlers. They take fd. */
void helper_process_accept_peer(HelperProcess *helper, int fd, const char *address);
void helper_process_attach_qemu(HelperProcess *helper, int fd);
void helper_process_refuse_qemu(HelperProcess *helper, const char *reason);
void helper_process_cancel(HelperProcess *helper, const char *reason);

/* Fields for a line of the log: TLS version, cipher, peer, phase, counters. Free with g_free(). */
char *helper_process_summary(HelperProcess *helper);
