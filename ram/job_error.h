/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The errors of the job interface, as they cross D-Bus: org.libvirt.Postcopy1.Error.*.
 *
 * Used by both ends: once job_error_quark() was called in a process, GDBus turns a GError of this
 * domain into its D-Bus name, and the name back into the same domain and code. */
#pragma once

#include <gio/gio.h>

#define JOB_ERROR (job_error_quark())
GQuark job_error_quark(void);

typedef enum {
    JOB_ERROR_FAILED,           /* anything without a code of its own */
    JOB_ERROR_INVALID_ARGUMENT, /* the call itself is wrong; the text names the argument */
    JOB_ERROR_WRONG_STATE,      /* not in this state of the migration */
    JOB_ERROR_TLS,              /* credentials or handshake: certificate, name, key, version */
    JOB_ERROR_REFUSED,          /* the peer has refused or given up; its reason is the text */
    JOB_ERROR_CANCELLED,        /* the migration was ended on purpose meanwhile */
    JOB_ERROR_MAX,
} JobError;
