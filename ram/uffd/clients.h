/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Other processes that share the guest's memory (vhost-user back ends), each with a userfaultfd of its own:
 * a page that is missing is missing for them, too. Their faults are requests like the owner's; a page that
 * is placed in the owner's memory is there in theirs, but who waits there has to be woken.
 *
 * For memory that is shared (UFFD_SHMEM, UFFD_HUGETLB of one file). One thread. */
#pragma once

#include "ram/uffd/faults.h"

#define UFFD_CLIENTS_MAX 64

typedef struct UffdClients UffdClients;

UffdClients *uffd_clients_new(void);
/* Unregisters all that are left. */
void uffd_clients_free(UffdClients *clients);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(UffdClients, uffd_clients_free)

/* Registers the pieces of map (addresses of that process) with its userfaultfd. Takes uffd and map, on failure
 * as well. name is for messages. *ret_id is for the calls below. */
gboolean uffd_clients_add(UffdClients *clients, const char *name, int uffd, UffdMap *map,
                          guint *ret_id, GError **error);
/* While pages are missing, too: it goes away, and whoever waits there goes on. FALSE: there is none. */
gboolean uffd_clients_remove(UffdClients *clients, guint id);

guint uffd_clients_count(const UffdClients *clients);
/* For poll(): *ret_id and the descriptor, by place; -1: there is none. */
int uffd_clients_fd(const UffdClients *clients, guint index, guint *ret_id);
const char *uffd_clients_name(const UffdClients *clients, guint id);

/* As uffd_read_events(), of one client; one that fails is removed, and *ret_n is 0. That a process has ended
 * does not show here: it costs nothing, and who has added it removes it. */
void uffd_clients_read(UffdClients *clients, guint id, UffdEvent ret_events[UFFD_EVENTS_MAX],
                       guint *ret_n);
/* [offset, offset + length) of a block is in place. */
void uffd_clients_wake(UffdClients *clients, guint block, guint64 offset, guint64 length);
