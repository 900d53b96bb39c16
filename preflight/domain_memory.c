/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "preflight/domain_memory.h"

#include <unistd.h>

#include "xml/document.h"
#include "xml/ram_blocks.h"

static GPtrArray *find_blocks(const char *domain_xml, GError **error)
{
    return ram_blocks_expected(domain_xml, (guint64)sysconf(_SC_PAGESIZE), error);
}

static gboolean is_locked(const char *domain_xml, gboolean *ret_locked, GError **error)
{
    g_autoptr(xmlDoc) doc = xml_document_parse(domain_xml, "domain", error);
    const xmlNode *backing;

    if (!doc)
        return FALSE;
    backing = xml_element(xmlDocGetRootElement(doc)->children, "memoryBacking");
    *ret_locked = backing && xml_element(backing->children, "locked");
    return TRUE;
}

gboolean domain_memory_locked(const char *domain_xml, guint64 *ret_bytes, GError **error)
{
    g_autoptr(GPtrArray) blocks = NULL;
    gboolean locked = FALSE;
    guint64 bytes = 0;

    if (!is_locked(domain_xml, &locked, error))
        return FALSE;
    if (locked) {
        blocks = find_blocks(domain_xml, error);
        if (!blocks)
            return FALSE;
    }
    for (guint i = 0; blocks && i < blocks->len; i++)
        bytes += ((const RamBlock *)g_ptr_array_index(blocks, i))->size;
    *ret_bytes = bytes;
    return TRUE;
}

static void add_need(GArray *needs, HugepageNeed need)
{

    for (guint i = 0; i < needs->len; i++) {
        HugepageNeed *there = &g_array_index(needs, HugepageNeed, i);

        if (there->kib == need.kib && there->unsaid == need.unsaid) {
            there->bytes += need.bytes;
            return;
        }
    }
    g_array_append_val(needs, need);
}

GArray *domain_memory_hugepages(const char *domain_xml, guint64 default_kib, GError **error)
{
    g_autoptr(GPtrArray) blocks = find_blocks(domain_xml, error);
    GArray *needs;

    if (!blocks)
        return NULL;
    needs = g_array_new(FALSE, FALSE, sizeof(HugepageNeed));
    for (guint i = 0; i < blocks->len; i++) {
        const RamBlock *block = g_ptr_array_index(blocks, i);

        if (block->huge && block->taken > 0)
            add_need(needs, (HugepageNeed){
                                .kib = block->page_size ? block->page_size / 1024 : default_kib,
                                .bytes = block->taken,
                                .unsaid = block->page_size == 0 });
    }
    return needs;
}
