/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "xml/ram_blocks.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>

#include "xml/document.h"
#include "xml/element.h"

/* One <page>: which cells it is for is read once, not for each of them. */
typedef struct {
    const xmlNode *node;
    guint8 *cells; /* RAM_BLOCKS_MAX of them; NULL: it does not say */
} Page;

/* What the domain says of all of its memory: <memoryBacking>, and whether there are cells. */
typedef struct {
    const xmlNode *root;
    const xmlNode *backing; /* or NULL */
    const xmlNode *numa;    /* <numa>, or NULL */
    const char *source;     /* "anonymous", "file", "memfd" */
    char access[16];        /* "shared", "private" or "" */
    guint64 host_page;
    GArray *pages;          /* Page elements; NULL: no <hugepages> */
    GPtrArray *blocks;
} Reader;

static void ram_block_free(gpointer data)
{
    RamBlock *block = data;

    g_free(block->element);
    g_free(block->path);
    g_free(block);
}

/* ---- numbers ---- */

static gboolean unit_scale(const char *unit, guint64 *ret_scale)
{
    static const char letters[] = "kmgtpe";
    const char *letter;
    gsize power;

    if (!unit[0] || g_ascii_strcasecmp(unit, "b") == 0 || g_ascii_strcasecmp(unit, "bytes") == 0) {
        *ret_scale = 1;
        return TRUE;
    }
    letter = strchr(letters, g_ascii_tolower(unit[0]));
    if (!letter)
        return FALSE;
    power = (gsize)(letter - letters) + 1;
    *ret_scale = 1;
    if (!unit[1] || g_ascii_strcasecmp(unit + 1, "ib") == 0) {
        *ret_scale <<= 10 * power;
        return TRUE;
    }
    while (power-- > 0)
        *ret_scale *= 1000;
    return g_ascii_strcasecmp(unit + 1, "b") == 0;
}

/* Both as libvirt writes them; without a unit it means KiB */
static gboolean scaled(const char *number, const char *unit, const char *what, guint64 *ret_bytes,
                       GError **error)
{
    guint64 value, scale;

    if (!g_ascii_string_to_unsigned(number, 10, 0, G_MAXUINT64, &value, NULL)) {
        g_set_error(error, XML_ERROR, XML_ERROR_VALUE,
                    _("domain XML: %1$s: \"%2$.64s\" is no size of memory"), what, number);
        return FALSE;
    }
    if (!unit_scale(unit ? unit : "KiB", &scale)) {
        g_set_error(error, XML_ERROR, XML_ERROR_VALUE,
                    _("domain XML: %1$s: \"%2$.64s\" is no unit of memory"), what, unit);
        return FALSE;
    }
    if (!g_uint64_checked_mul(ret_bytes, value, scale)) {
        g_set_error(error, XML_ERROR, XML_ERROR_VALUE,
                    _("domain XML: %1$s: %2$.64s %3$.64s are too much"), what, number,
                    unit ? unit : "KiB");
        return FALSE;
    }
    return TRUE;
}

/* <what unit='MiB'>512</what> */
static gboolean read_size(const xmlNode *node, guint64 *ret_bytes, GError **error)
{
    g_autofree char *number = xml_text(node);
    g_autofree char *unit = xml_attribute(node, "unit");

    return scaled(number, unit, (const char *)node->name, ret_bytes, error);
}

/* "0-3,^2,5"; without cells of such numbers in the domain the rest means nothing. */
static guint8 *parse_nodeset(const char *nodeset)
{
    guint8 *cells = g_new0(guint8, RAM_BLOCKS_MAX);

    while (*nodeset) {
        gsize len = strcspn(nodeset, ",");
        g_autofree char *part = g_strndup(nodeset, len);
        const char *text = g_strstrip(part);
        gboolean minus = text[0] == '^';
        const char *dash = strchr(text, '-');
        guint64 first = g_ascii_strtoull(text + minus, NULL, 10);
        guint64 last = dash ? g_ascii_strtoull(dash + 1, NULL, 10) : first;

        last = MIN(last, RAM_BLOCKS_MAX - 1);
        if (first <= last)
            memset(cells + first, !minus, last - first + 1);
        nodeset += len + (nodeset[len] == ',');
    }
    return cells;
}

static void page_clear(gpointer data)
{
    g_free(((Page *)data)->cells);
}

static gboolean read_pages(Reader *reader, GError **error)
{
    const xmlNode *pages = reader->backing
                               ? xml_element(reader->backing->children, "hugepages") : NULL;

    if (!pages)
        return TRUE;
    reader->pages = g_array_new(FALSE, FALSE, sizeof(Page));
    g_array_set_clear_func(reader->pages, page_clear);
    for (const xmlNode *node = xml_element(pages->children, "page"); node;
         node = xml_element(node->next, "page")) {
        g_autofree char *nodeset = xml_attribute(node, "nodeset");
        Page page = { node, nodeset ? parse_nodeset(nodeset) : NULL };

        g_array_append_val(reader->pages, page);
        if (reader->pages->len > RAM_PAGES_MAX) {
            g_set_error(error, XML_ERROR, XML_ERROR_VALUE,
                        _("domain XML: more than %d sizes of huge pages"), RAM_PAGES_MAX);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean is_for(const Page *page, int node)
{
    return node >= 0 && node < RAM_BLOCKS_MAX && page->cells[node];
}

/* ---- what holds a block ---- */

/* Ordinary pages asked for by size are none that are huge. */
static void set_page(const Reader *reader, RamBlock *block, guint64 size)
{
    if (size == reader->host_page)
        return;
    block->huge = TRUE;
    block->page_size = size;
}

/* <hugepages><page size='2' unit='MiB' nodeset='0'/></hugepages>: that for the block's cell, or
 * that for all of them; none at all means the default size. */
static gboolean find_page(const Reader *reader, RamBlock *block, GError **error)
{
    const xmlNode *chosen = NULL;
    guint64 size = 0;

    if (!reader->pages)
        return TRUE;
    if (reader->pages->len == 0) {
        set_page(reader, block, 0);
        return TRUE;
    }
    for (guint i = 0; i < reader->pages->len; i++) {
        const Page *page = &g_array_index(reader->pages, Page, i);

        /* without cells libvirt takes the first, whatever it is for */
        if (page->cells && reader->numa ? is_for(page, block->node) : !chosen)
            chosen = page->node;
        if (chosen == page->node && page->cells)
            break;
    }
    if (chosen) {
        g_autofree char *number = xml_attribute(chosen, "size");
        g_autofree char *unit = xml_attribute(chosen, "unit");

        if (number && !scaled(number, unit, "page", &size, error))
            return FALSE;
        set_page(reader, block, size);
    }
    return TRUE;
}

static const char *file_cause(const Reader *reader, const RamBlock *block, const char *own_access)
{
    if (g_str_equal(reader->source, "file"))
        return "<source type='file'/>";
    if (!own_access || !*own_access)
        return block->shared ? "<access mode='shared'/>" : "<access mode='private'/>";
    if (block->kind == RAM_BLOCK_CELL)
        return block->shared ? "memAccess='shared'" : "memAccess='private'";
    return block->shared ? "access='shared'" : "access='private'";
}

/* Sharing asked for makes a file of what would be anonymous: only files can be shared. */
static void set_backing(const Reader *reader, RamBlock *block, const char *own_access)
{
    const char *access = own_access && *own_access ? own_access : reader->access;

    block->shared = g_str_equal(access, "shared");
    if (block->path) {
        block->backing = RAM_BACKING_PATH;
    } else if (g_str_equal(reader->source, "memfd")) {
        block->backing = RAM_BACKING_MEMFD;
        block->shared = !g_str_equal(access, "private"); /* as QEMU does when nothing is said */
    } else if (block->huge) {
        block->backing = RAM_BACKING_HUGETLBFS;
    } else if (*access || g_str_equal(reader->source, "file")) {
        block->backing = RAM_BACKING_FILE;
        block->cause = file_cause(reader, block, own_access);
    } else {
        block->backing = RAM_BACKING_ANONYMOUS;
    }
}

/* ---- the guest's own memory ---- */

static RamBlock *add_block(Reader *reader, const xmlNode *node, RamBlockKind kind, GError **error)
{
    RamBlock *block;

    if (reader->blocks->len >= RAM_BLOCKS_MAX) {
        g_set_error(error, XML_ERROR, XML_ERROR_VALUE,
                    _("domain XML: more than %d cells and memory devices"), RAM_BLOCKS_MAX);
        return NULL;
    }
    block = g_new0(RamBlock, 1);
    block->kind = kind;
    block->node = -1;
    block->element = xml_element_describe(node, NULL);
    g_ptr_array_add(reader->blocks, block);
    return block;
}

static gboolean add_cell(Reader *reader, const xmlNode *cell, int number, GError **error)
{
    g_autofree char *memory = xml_attribute(cell, "memory");
    g_autofree char *unit = xml_attribute(cell, "unit");
    g_autofree char *id = xml_attribute(cell, "id");
    g_autofree char *access = xml_attribute(cell, "memAccess");
    RamBlock *block = add_block(reader, cell, RAM_BLOCK_CELL, error);
    gint64 node = number;

    if (!block)
        return FALSE;
    if (id && !g_ascii_string_to_signed(id, 10, 0, G_MAXINT, &node, NULL)) {
        g_set_error(error, XML_ERROR, XML_ERROR_VALUE,
                    _("domain XML: \"%.64s\" is no number of a NUMA cell"), id);
        return FALSE;
    }
    block->node = (int)node;
    if (memory && !scaled(memory, unit, "cell", &block->size, error))
        return FALSE;
    if (!find_page(reader, block, error))
        return FALSE;
    set_backing(reader, block, access);
    block->taken = block->size;
    return TRUE;
}

static gboolean add_cells(Reader *reader, GError **error)
{
    int number = 0;

    for (const xmlNode *cell = xml_element(reader->numa->children, "cell"); cell;
         cell = xml_element(cell->next, "cell")) {
        guint added = reader->blocks->len;
        const RamBlock *block;

        if (!add_cell(reader, cell, number++, error))
            return FALSE;
        /* a cell of processors alone has no block */
        block = g_ptr_array_index(reader->blocks, added);
        if (block->size == 0)
            g_ptr_array_remove_index(reader->blocks, added);
    }
    return TRUE;
}

static gboolean add_memory(Reader *reader, GError **error)
{
    const xmlNode *memory = xml_element(reader->root->children, "memory");
    RamBlock *block;

    if (!memory) {
        g_set_error(error, XML_ERROR, XML_ERROR_MISSING, _("domain XML: it has no memory"));
        return FALSE;
    }
    block = add_block(reader, memory, RAM_BLOCK_MEMORY, error);
    if (!block || !read_size(memory, &block->size, error) || !find_page(reader, block, error))
        return FALSE;
    set_backing(reader, block, NULL);
    block->taken = block->size;
    return TRUE;
}

/* ---- <memory> devices ---- */

static RamBlockKind model_kind(const xmlNode *device)
{
    static const char *const models[] = {
        [RAM_BLOCK_DIMM] = "dimm",
        [RAM_BLOCK_NVDIMM] = "nvdimm",
        [RAM_BLOCK_VIRTIO_MEM] = "virtio-mem",
        [RAM_BLOCK_VIRTIO_PMEM] = "virtio-pmem",
        [RAM_BLOCK_SGX_EPC] = "sgx-epc",
    };

    for (gsize i = RAM_BLOCK_DIMM; i < G_N_ELEMENTS(models); i++) {
        if (xml_attribute_is(device, "model", models[i]))
            return (RamBlockKind)i;
    }
    return RAM_BLOCK_OTHER;
}

static gboolean read_target(const xmlNode *device, RamBlock *block, GError **error)
{
    const xmlNode *target = xml_element(device->children, "target");
    const xmlNode *size = target ? xml_element(target->children, "size") : NULL;
    const xmlNode *node = target ? xml_element(target->children, "node") : NULL;
    g_autofree char *number = node ? xml_text(node) : NULL;
    gint64 cell = -1;

    if (number && !g_ascii_string_to_signed(number, 10, 0, G_MAXINT, &cell, NULL)) {
        g_set_error(error, XML_ERROR, XML_ERROR_VALUE,
                    _("domain XML: \"%.64s\" is no number of a NUMA cell"), number);
        return FALSE;
    }
    block->node = (int)cell;
    return !size || read_size(size, &block->size, error);
}

/* The rest of a virtio-mem is nothing but addresses: QEMU takes what the guest is to have, or has
 * not given back yet. */
static gboolean read_taken(const xmlNode *device, RamBlock *block, GError **error)
{
    const xmlNode *target = xml_element(device->children, "target");
    const xmlNode *requested = target ? xml_element(target->children, "requested") : NULL;
    const xmlNode *current = target ? xml_element(target->children, "current") : NULL;
    guint64 wanted = 0, had = 0;

    block->taken = block->size;
    if (block->kind != RAM_BLOCK_VIRTIO_MEM)
        return TRUE;
    if ((requested && !read_size(requested, &wanted, error)) ||
        (current && !read_size(current, &had, error)))
        return FALSE;
    block->taken = MIN(MAX(wanted, had), block->size);
    return TRUE;
}

static const xmlNode *find_cell(const Reader *reader, int number)
{
    int position = 0;

    if (!reader->numa || number < 0)
        return NULL;
    for (const xmlNode *cell = xml_element(reader->numa->children, "cell"); cell;
         cell = xml_element(cell->next, "cell"), position++) {
        g_autofree char *id = xml_attribute(cell, "id");

        if (id ? g_ascii_strtoull(id, NULL, 10) == (guint64)number : position == number)
            return cell;
    }
    return NULL;
}

static gboolean add_device(Reader *reader, const xmlNode *device, GError **error)
{
    RamBlock *block = add_block(reader, device, model_kind(device), error);
    const xmlNode *source = xml_element(device->children, "source");
    const xmlNode *page = source ? xml_element(source->children, "pagesize") : NULL;
    const xmlNode *path = source ? xml_element(source->children, "path") : NULL;
    g_autofree char *access = xml_attribute(device, "access");
    const xmlNode *cell;
    guint64 page_size;

    if (!block || !read_target(device, block, error) || !read_taken(device, block, error))
        return FALSE;
    if (path) {
        block->path = xml_text(path);
        g_free(block->element);
        block->element = xml_element_describe(device, block->path);
    } else if (page) {
        if (!read_size(page, &page_size, error))
            return FALSE;
        set_page(reader, block, page_size);
    } else if (!find_page(reader, block, error)) {
        return FALSE;
    }
    cell = find_cell(reader, block->node);
    if (!access && cell)
        access = xml_attribute(cell, "memAccess");
    set_backing(reader, block, access);
    return TRUE;
}

static gboolean add_devices(Reader *reader, GError **error)
{
    const xmlNode *devices = xml_element(reader->root->children, "devices");

    for (const xmlNode *device = devices ? xml_element(devices->children, "memory") : NULL; device;
         device = xml_element(device->next, "memory")) {
        if (!add_device(reader, device, error))
            return FALSE;
    }
    return TRUE;
}

/* <memory> counts the devices, too. */
static void subtract_devices(GPtrArray *blocks)
{
    RamBlock *memory = g_ptr_array_index(blocks, 0);

    if (memory->kind != RAM_BLOCK_MEMORY)
        return;
    for (guint i = 1; i < blocks->len; i++) {
        const RamBlock *device = g_ptr_array_index(blocks, i);

        if (device->size < memory->size)
            memory->size -= device->size;
    }
    memory->taken = memory->size;
}

/* ---- all of it ---- */

static const char *source_type(const Reader *reader)
{
    const xmlNode *source = reader->backing
                                ? xml_element(reader->backing->children, "source") : NULL;

    if (source && xml_attribute_is(source, "type", "memfd"))
        return "memfd";
    return source && xml_attribute_is(source, "type", "file") ? "file" : "anonymous";
}

static void read_root(Reader *reader, xmlDoc *doc)
{
    const xmlNode *cpu, *access;
    g_autofree char *mode = NULL;

    reader->root = xmlDocGetRootElement(doc);
    reader->backing = xml_element(reader->root->children, "memoryBacking");
    cpu = xml_element(reader->root->children, "cpu");
    reader->numa = cpu ? xml_element(cpu->children, "numa") : NULL;
    if (reader->numa && !xml_element(reader->numa->children, "cell"))
        reader->numa = NULL;
    reader->source = source_type(reader);
    access = reader->backing ? xml_element(reader->backing->children, "access") : NULL;
    mode = access ? xml_attribute(access, "mode") : NULL;
    g_strlcpy(reader->access, mode ? mode : "", sizeof reader->access);
}

static gboolean read_blocks(Reader *reader, GError **error)
{
    return read_pages(reader, error) &&
           (reader->numa ? add_cells(reader, error) : add_memory(reader, error)) &&
           add_devices(reader, error);
}

GPtrArray *ram_blocks_expected(const char *domain_xml, guint64 page_size, GError **error)
{
    g_autoptr(xmlDoc) doc = xml_document_parse(domain_xml, "domain", error);
    g_autoptr(GPtrArray) blocks = g_ptr_array_new_with_free_func(ram_block_free);
    Reader reader = { .host_page = page_size, .blocks = blocks };
    gboolean good;

    if (!doc)
        return NULL;
    read_root(&reader, doc);
    good = read_blocks(&reader, error);
    g_clear_pointer(&reader.pages, g_array_unref);
    if (!good)
        return NULL;
    if (blocks->len > 0)
        subtract_devices(blocks);
    return g_steal_pointer(&blocks);
}

static const char *backing_name(const RamBlock *block)
{
    switch (block->backing) {
    case RAM_BACKING_ANONYMOUS:
        return _("anonymous memory");
    case RAM_BACKING_MEMFD:
        return _("memfd");
    case RAM_BACKING_FILE:
        return _("a file of libvirt's");
    case RAM_BACKING_HUGETLBFS:
        return _("a file on hugetlbfs");
    case RAM_BACKING_PATH:
        break;
    }
    return block->path;
}

char *ram_block_describe(const RamBlock *block)
{
    g_autoptr(GString) text = g_string_new(NULL);

    if (block->size % (1 << 20) == 0)
        g_string_append_printf(text, "%" PRIu64 " MiB", block->size >> 20);
    else
        g_string_append_printf(text, "%" PRIu64 " KiB", block->size >> 10);
    g_string_append_printf(text, ", %s", backing_name(block));
    if (block->shared)
        g_string_append_printf(text, ", %s", _("shared"));
    if (block->huge && block->page_size == 0)
        g_string_append_printf(text, ", %s", _("huge pages"));
    else if (block->huge)
        g_string_append_printf(text, _(", huge pages of %" PRIu64 " KiB"),
                               block->page_size >> 10);
    return g_string_free(g_steal_pointer(&text), FALSE);
}
