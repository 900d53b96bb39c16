/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What eligibility (xml/eligibility.h) has to know of a host: a look outside that the caller
 * makes, so that the rules stay pure. driver/host_look.h makes it for this host. */
#pragma once

#include <glib.h>

/* Whether the kernel hands page faults on files of a file system to userfaultfd. */
typedef enum {
    HOST_FILES_UNKNOWN, /* nobody could look */
    HOST_FILES_MEMORY,  /* tmpfs or hugetlbfs: it does */
    HOST_FILES_DISK,    /* any other, and devices: it does not */
} HostFiles;

typedef struct {
    /* Where libvirt makes the files of file-backed guests; NULL: not known. */
    const char *memory_backing_dir;
    guint64 page_size; /* of the host's ordinary pages, in bytes */
    /* What holds the file, or will when it is made. *ret_name: how to call that, "ext4", to be
     * freed by the caller; NULL if it has no name. May block. */
    HostFiles (*files)(const char *path, char **ret_name, gpointer data);
    gpointer data;
    /* The domain is to arrive here: it is the destination that has to handle page faults. Of
     * another host its files may be where they are not on this one. */
    gboolean destination;
} HostFacts;
