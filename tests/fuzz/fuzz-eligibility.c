/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is read in a domain's XML before a migration: at the destination it comes from another
 * host. */
#include "config.h"

#include "xml/eligibility.h"

#include <stdint.h>
#include <string.h>

#include "xml/ram_blocks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All answers in turn, so that each way of a file-backed block is taken. */
static HostFiles files(const char *path, char **ret_name, gpointer data)
{
    guint *asked = data;

    *ret_name = g_strdup(path);
    return (HostFiles)((*asked)++ % 3);
}

static void check_words(const GPtrArray *findings)
{
    g_assert(findings->len > 0);
    for (guint i = 0; i < findings->len; i++) {
        const Finding *finding = g_ptr_array_index(findings, i);

        g_assert(finding->id && finding->what);
        if (finding->verdict == FINDING_PASS)
            continue;
        g_assert(finding->detail && finding->remedy);
        g_assert(g_utf8_validate(finding->detail, -1, NULL));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    guint asked = size > 0 ? data[size - 1] : 0;
    const HostFacts host = { "/dir", 4096, files, &asked };
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) blocks = ram_blocks_expected(text, 4096, &error);
    g_autoptr(GPtrArray) findings = eligibility_check(text, &host, NULL);
    g_autoptr(GPtrArray) unknown = eligibility_check(text, NULL, NULL);

    g_assert(!blocks == !!error);
    g_assert(!blocks == !findings && !blocks == !unknown);
    if (!blocks)
        return 0;
    for (guint i = 0; i < blocks->len; i++) {
        g_autofree char *words = ram_block_describe(g_ptr_array_index(blocks, i));

        g_assert(words[0] != '\0');
    }
    check_words(findings);
    check_words(unknown);
    return 0;
}
