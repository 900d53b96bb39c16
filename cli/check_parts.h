/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts of `virt-postcopy check`, each of which adds its findings. They wait: for libvirt, for
 * the other host, within the settings' connect_timeout. For root. */
#pragma once

#include <sys/types.h>

#include "cli/connection.h"
#include "driver/settings.h"
#include "util/finding.h"
#include "xml/capabilities.h"

/* What a host is to be in migrations. */
typedef enum {
    CHECK_ROLE_WHOLE, /* what fails is a failure */
    CHECK_ROLE_ASIDE, /* it is not what was asked about: a failure is a warning */
    CHECK_ROLE_NONE,  /* not looked at */
} CheckRole;

typedef struct {
    const Settings *settings;
    GPtrArray *findings;
    CheckRole source;
    CheckRole destination;
    virConnect *libvirt;    /* of this host, without this driver in between; NULL: not to be had */
    pid_t libvirt_pid;      /* who answered on its socket; 0: nobody */
    char *capabilities;     /* its XML, or NULL */
    gulong qemu_version;    /* 0: not known */
    gboolean has_owner;
    QemuOwner owner;        /* who QEMU runs as, unless a domain says otherwise */
    virConnect *peer;       /* --to, once it is open */
    char *peer_name;        /* what it calls itself */
} Check;

/* This host: what files show, libvirt, the daemon and its ports. */
void check_host(Check *check);

/* The ports of this host's daemon; daemon_runs: it has just been reached. */
void check_ports(Check *check, gboolean daemon_runs);

/* The other host; migrate_uri: as for `virsh migrate --migrateuri`, or NULL. */
void check_peer(Check *check, const char *uri, const char *migrate_uri);

/* A domain of this host; the other one, if it is open, must have room. FALSE: there is no such
 * domain, or libvirt cannot be asked. */
gboolean check_domain(Check *check, const char *name, GError **error);

/* HugepagePool elements of what libvirt knows there. */
GArray *check_host_hugepages(virConnect *connection, const char *capabilities);

void check_clear(Check *check);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Check, check_clear)
