/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where a session comes in, as the user says it: --migrateuri and --listen-address. */
#pragma once

#include <gio/gio.h>

#include "driver/settings.h"

typedef struct {
    char *host;           /* that the source calls; NULL: this host's name */
    guint16 port;         /* 0: migration_port */
    char *listen_address; /* of this host, the only one it comes in at; NULL: any */
} SessionPlace;

void session_place_clear(SessionPlace *place);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(SessionPlace, session_place_clear)

gboolean session_place_is_here(GInetAddress *address);

/* Either may be NULL. Fails with what is wrong with them: MIGRATION_URI_ERROR,
 * MIGRATE_OPTIONS_ERROR. An address has to be one of this host's, and one that migration_address
 * covers. ret_place is untouched on failure. */
gboolean session_place_parse(const char *uri, const char *listen_address, const Settings *settings,
                             SessionPlace *ret_place, GError **error);
