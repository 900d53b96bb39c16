/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/job_error.h"

static const GDBusErrorEntry entries[] = {
    { JOB_ERROR_FAILED, "org.libvirt.Postcopy1.Error.Failed" },
    { JOB_ERROR_INVALID_ARGUMENT, "org.libvirt.Postcopy1.Error.InvalidArgument" },
    { JOB_ERROR_WRONG_STATE, "org.libvirt.Postcopy1.Error.WrongState" },
    { JOB_ERROR_TLS, "org.libvirt.Postcopy1.Error.Tls" },
    { JOB_ERROR_REFUSED, "org.libvirt.Postcopy1.Error.Refused" },
    { JOB_ERROR_CANCELLED, "org.libvirt.Postcopy1.Error.Cancelled" },
};

G_STATIC_ASSERT(G_N_ELEMENTS(entries) == JOB_ERROR_MAX);

GQuark job_error_quark(void)
{
    static gsize quark;

    g_dbus_error_register_error_domain("postcopy-job-error-quark", &quark, entries,
                                       G_N_ELEMENTS(entries));
    return (GQuark)quark;
}
