/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A connection to libvirt, and libvirt's errors as GErrors. Calls block until they are answered. */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

/* Codes are libvirt's (virErrorNumber). */
#define LIBVIRT_ERROR (libvirt_error_quark())
GQuark libvirt_error_quark(void);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virConnect, virConnectClose)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, virDomainFree)

/* From now on this process notices a host that does not answer any more. Before the first
 * connection; not to be undone. */
gboolean connection_watch(GError **error);

/* Read-only, so that whoever may look at guests may look at migrations. may_ask: for a password, on
 * the terminal, where the URI needs one. */
virConnect *connection_open(const char *uri, gboolean may_ask, GError **error);

/* This thread's last libvirt error. */
void connection_error(GError **error);

/* The host's own name; NULL if it does not tell. */
char *connection_host(virConnect *connection);
