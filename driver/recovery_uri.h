/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What stands in a recovery's Perform in the place of the destination's URI:
 *
 *     postcopy+recover:///system?session=<32 hex digits>
 *
 * It means the destination of a migration that has broken, of which this daemon has a record;
 * libvirtd never sees it (driver/p2p.h). Pure. */
#pragma once

#include "xml/migration_uri.h"

char *recovery_uri_format(const guint8 session[MIGRATION_SESSION_LEN]);

/* TRUE if it is meant to be one. */
gboolean recovery_uri_is(const char *text);

/* FALSE: it is none that recovery_uri_format() has made. */
gboolean recovery_uri_parse(const char *text, guint8 ret_session[MIGRATION_SESSION_LEN]);
