/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The configuration: syntax, then meaning. A file comes from the administrator, but may come to
 * this host in any state. */
#include "config.h"

#include "driver/settings.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Settings) settings = settings_parse((const char *)data, size, "fuzz.conf", &error);

    /* Exactly one of the two, and no setting that must be there is missing. */
    g_assert((settings != NULL) == (error == NULL));
    g_assert(!settings || (settings->run_dir && settings->unix_sock_dir && settings->tls_port));
    return 0;
}
