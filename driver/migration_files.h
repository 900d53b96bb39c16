/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What this host proves itself with to the other host of a migration. */
#pragma once

#include "driver/settings.h"
#include "tls/credentials.h"

/* Opens the files that migration_auth needs, of a server (destination) or a client (source). */
gboolean migration_files_open(const Settings *settings, TlsEndpoint endpoint, TlsFiles *files,
                              GError **error);
