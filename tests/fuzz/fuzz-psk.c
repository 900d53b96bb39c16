/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The reader of PSK files, for both ends. */
#include "config.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tls/credentials.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const identities[] = { NULL, "hosts" };
    g_auto(TlsFiles) files = TLS_FILES_INIT;

    files.fds[TLS_FILE_PSK] = memfd_create("psk", MFD_CLOEXEC);
    files.names[TLS_FILE_PSK] = g_strdup("psk");
    if (files.fds[TLS_FILE_PSK] < 0 || write(files.fds[TLS_FILE_PSK], data, size) != (ssize_t)size)
        abort();
    for (gsize i = 0; i < G_N_ELEMENTS(identities); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(TlsCredentials) client =
            tls_credentials_new_psk(TLS_ENDPOINT_CLIENT, &files, identities[i], &error);

        /* An error or credentials, never both and never neither. */
        if (!client == !error)
            abort();
    }
    tls_credentials_unref(tls_credentials_new_psk(TLS_ENDPOINT_SERVER, &files, NULL, NULL));
    return 0;
}
