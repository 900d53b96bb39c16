/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/blocks.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>

#include "ram/printable.h"

/* More than any address space; sums of two of them do not wrap. */
#define ADDRESS_MAX (G_GUINT64_CONSTANT(1) << 56)
#define TARGET_PAGE_MIN 1024

struct RamBlocks {
    gsize target_page;
    GPtrArray *list;     /* of RamBlock: they stay where they are when more are added */
    GHashTable *by_name; /* name -> index; names belong to the blocks */
};

G_DEFINE_QUARK(ram-error-quark, ram_error)

static void block_free(gpointer data)
{
    RamBlock *block = data;

    g_free(block->name);
    g_free(block);
}

RamBlocks *ram_blocks_new(void)
{
    RamBlocks *blocks = g_new0(RamBlocks, 1);

    blocks->target_page = RAM_TARGET_PAGE_DEFAULT;
    blocks->list = g_ptr_array_new_with_free_func(block_free);
    blocks->by_name = g_hash_table_new(g_str_hash, g_str_equal);
    return blocks;
}

void ram_blocks_free(RamBlocks *blocks)
{
    if (!blocks)
        return;
    g_hash_table_unref(blocks->by_name);
    g_ptr_array_unref(blocks->list);
    g_free(blocks);
}

static gboolean is_power_of_two(guint64 v)
{
    return v != 0 && (v & (v - 1)) == 0;
}

gsize ram_blocks_target_page(const RamBlocks *blocks)
{
    return blocks->target_page;
}

gboolean ram_blocks_set_target_page(RamBlocks *blocks, guint64 size, GError **error)
{
    if (!is_power_of_two(size) || size < TARGET_PAGE_MIN || size > RAM_TARGET_PAGE_MAX) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                    _("target page of %" PRIu64
                      " bytes: must be a power of two from %d to %d"),
                    size, TARGET_PAGE_MIN, RAM_TARGET_PAGE_MAX);
        return FALSE;
    }
    /* The blocks were checked against the page size that was known then. */
    if (size != blocks->target_page && blocks->list->len > 0) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_STATE,
                    _("target page of %" PRIu64
                      " bytes: the RAM blocks that are known have pages of %zu"),
                    size, blocks->target_page);
        return FALSE;
    }
    blocks->target_page = size;
    return TRUE;
}

guint ram_blocks_count(const RamBlocks *blocks)
{
    return blocks->list->len;
}

const RamBlock *ram_blocks_get(const RamBlocks *blocks, guint index)
{
    return index < blocks->list->len ? blocks->list->pdata[index] : NULL;
}

gboolean ram_blocks_find(const RamBlocks *blocks, const guint8 *name, gsize len, guint *ret_index)
{
    char key[RAM_BLOCK_NAME_MAX + 1];
    gpointer index;

    if (len == 0 || len > RAM_BLOCK_NAME_MAX || memchr(name, 0, len))
        return FALSE;
    memcpy(key, name, len);
    key[len] = '\0';
    if (!g_hash_table_lookup_extended(blocks->by_name, key, NULL, &index))
        return FALSE;
    *ret_index = GPOINTER_TO_UINT(index);
    return TRUE;
}

static gboolean check_name(const guint8 *name, gsize len, GError **error)
{
    if (len > 0 && len <= RAM_BLOCK_NAME_MAX && !memchr(name, 0, len))
        return TRUE;
    g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                _("RAM block name of %zu bytes: must have 1 to %d, none of them NUL"), len,
                RAM_BLOCK_NAME_MAX);
    return FALSE;
}

static gboolean check_sizes(const RamBlocks *blocks, const char *name, guint64 length,
                            guint64 page_size, GError **error)
{
    if (length % blocks->target_page != 0 || length > ADDRESS_MAX) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                    _("RAM block '%s': length %" PRIu64
                      " must be a multiple of %zu and at most 2^56"),
                    name, length, blocks->target_page);
        return FALSE;
    }
    if (page_size != 0 && (!is_power_of_two(page_size) || page_size < blocks->target_page ||
                           page_size > RAM_HOST_PAGE_MAX)) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                    _("RAM block '%s': page size %" PRIu64
                      " must be a power of two from %zu to %" PRIu64),
                    name, page_size, blocks->target_page, RAM_HOST_PAGE_MAX);
        return FALSE;
    }
    return TRUE;
}

static gboolean append(RamBlocks *blocks, const guint8 *name, gsize len, guint *ret_index,
                       GError **error)
{
    RamBlock *block;

    if (blocks->list->len >= RAM_BLOCKS_MAX) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID, _("more than %d RAM blocks"),
                    RAM_BLOCKS_MAX);
        return FALSE;
    }
    block = g_new0(RamBlock, 1);
    block->name = g_strndup((const char *)name, len);
    *ret_index = blocks->list->len;
    g_ptr_array_add(blocks->list, block);
    g_hash_table_insert(blocks->by_name, block->name, GUINT_TO_POINTER(*ret_index));
    return TRUE;
}

gboolean ram_blocks_add(RamBlocks *blocks, const guint8 *name, gsize len, guint64 length,
                        guint64 page_size, guint *ret_index, GError **error)
{
    g_autofree char *text = NULL;
    RamBlock *block;
    guint index;

    if (!check_name(name, len, error))
        return FALSE;
    text = printable(name, len);
    if (!check_sizes(blocks, text, length, page_size, error))
        return FALSE;
    if (!ram_blocks_find(blocks, name, len, &index) && !append(blocks, name, len, &index, error))
        return FALSE;
    block = blocks->list->pdata[index];
    if (length != 0)
        block->length = length;
    if (page_size != 0)
        block->page_size = page_size;
    if (ret_index)
        *ret_index = index;
    return TRUE;
}

guint64 ram_blocks_host_page(const RamBlocks *blocks, guint index)
{
    const RamBlock *block = ram_blocks_get(blocks, index);

    return block && block->page_size != 0 ? block->page_size : blocks->target_page;
}

static void set_range_error(const RamBlocks *blocks, const RamBlock *block, guint64 offset,
                            guint64 length, GError **error)
{
    g_autofree char *name = printable(block->name, strlen(block->name));

    if ((offset | length) & (blocks->target_page - 1))
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                    _("%" PRIu64 " bytes at offset 0x%" PRIx64
                      " of RAM block '%s': both must be multiples of %zu"),
                    length, offset, name, blocks->target_page);
    else
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                    _("%" PRIu64 " bytes at offset 0x%" PRIx64
                      " are outside of RAM block '%s' (%" PRIu64 " bytes)"),
                    length, offset, name, block->length != 0 ? block->length : ADDRESS_MAX);
}

guint64 ram_blocks_bytes(const RamBlocks *blocks)
{
    guint64 bytes = 0;

    for (guint i = 0; i < ram_blocks_count(blocks); i++)
        bytes += ram_blocks_get(blocks, i)->length;
    return bytes;
}

gboolean ram_blocks_check_range(const RamBlocks *blocks, guint index, guint64 offset,
                                guint64 length, GError **error)
{
    const RamBlock *block = ram_blocks_get(blocks, index);
    guint64 end;

    if (!block) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID, _("there is no RAM block %u"), index);
        return FALSE;
    }
    end = block->length != 0 ? block->length : ADDRESS_MAX;
    if (((offset | length) & (blocks->target_page - 1)) == 0 && offset <= end &&
        length <= end - offset)
        return TRUE;
    set_range_error(blocks, block, offset, length, error);
    return FALSE;
}
