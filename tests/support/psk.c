/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/psk.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void psk_files(guint8 seed, TlsFiles *ret_files)
{
    g_autoptr(GString) text = g_string_new("test:");
    int fd = memfd_create("psk", MFD_CLOEXEC);

    for (guint i = 0; i < 32; i++)
        g_string_append_printf(text, "%02x", (seed * 7 + i) & 0xff);
    g_string_append_c(text, '\n');
    if (fd < 0 || write(fd, text->str, text->len) != (ssize_t)text->len)
        g_error("cannot make a key file in memory");

    *ret_files = (TlsFiles)TLS_FILES_INIT;
    ret_files->fds[TLS_FILE_PSK] = fd;
    ret_files->names[TLS_FILE_PSK] = g_strdup("psk-in-memory");
}

TlsCredentials *psk_credentials(TlsEndpoint endpoint, guint8 seed)
{
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    g_autoptr(GError) error = NULL;
    TlsCredentials *creds;

    psk_files(seed, &files);
    creds = tls_credentials_new_psk(endpoint, &files, NULL, &error);
    if (!creds)
        g_error("%s", error->message);
    return creds;
}
