/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is looked at before a migration touches the guest. */
#pragma once

#include "driver/driver_priv.h"

/* Begin and a peer-to-peer Perform on the source: this host, the domain as it runs, which libvirtd
 * is asked for, and the XML that the user gives for the destination. Prepare on the destination:
 * the XML that it is to run, and whether there are huge pages for it. What would fail or lose the
 * guest is refused in the words of the finding (util/finding.h), what is doubtful is logged, and
 * then next gets the job. Takes the job.
 *
 * A resume is never held up, nor is an offline migration. What cannot be looked at is left to
 * libvirtd. */
void driver_preflight(DriverJob *job, DriverJobFunc next);

/* The destination's host (preflight/preflight.h), once it is known who its QEMU will run as: quick
 * looks at files, done when this returns. FALSE: it cannot take the guest in, and the error has the
 * remedy. driver_preflight() does the same for a source. */
gboolean driver_preflight_host(const DriverJob *job, const QemuOwner *owner, GError **error);
