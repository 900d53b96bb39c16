/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libvirt's documents: domain XML comes from another host, by way of a client. */
#include "config.h"

#include "xml/capabilities.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autofree char *name = domain_xml_name(text, NULL);
    g_autoptr(GError) error = NULL;
    QemuOwner owner;
    gboolean found = FALSE;

    g_assert(!name || name[0] != '\0');
    if (!domain_xml_qemu_owner(text, &found, &owner, &error))
        g_assert(error);
    capabilities_qemu_owner(text, &owner, NULL);
    return 0;
}
