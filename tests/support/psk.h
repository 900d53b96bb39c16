/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pre-shared keys for tests: no files, no time. */
#pragma once

#include "tls/credentials.h"

/* ret_files: a key file in memory, "test:<64 hex digits made from seed>". Clear it. */
void psk_files(guint8 seed, TlsFiles *ret_files);
TlsCredentials *psk_credentials(TlsEndpoint endpoint, guint8 seed);
