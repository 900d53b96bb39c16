/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The kernel tells userfaultfd, and so QEMU, of missing pages only in anonymous memory, tmpfs and
 * hugetlbfs. QEMU up to 8.0 finds out at the switch-over, when the guest cannot go back. */
#include "config.h"

#include "xml/eligibility_memory.h"

#include <glib/gi18n.h>
#include <inttypes.h>

#include "xml/element.h"
#include "xml/ram_blocks.h"

/* From this size on a guest notices each page that it has to wait for. */
#define LARGE_PAGE (256ull << 20)

static const char what_memory[] = N_("the guest's memory");

typedef struct {
    GPtrArray *findings;
    const HostFacts *facts; /* or NULL */
} Memory;

static void add(const Memory *memory, FindingVerdict verdict, const char *id, const RamBlock *block,
                const char *seen, const char *remedy)
{
    g_autofree char *detail = g_strdup_printf("%s: %s", block->element, seen);

    findings_add(memory->findings, verdict, id, _(what_memory), detail, remedy);
}

static HostFiles look(const Memory *memory, const char *path, char **ret_name)
{
    if (!memory->facts || !memory->facts->files || !path)
        return HOST_FILES_UNKNOWN;
    return memory->facts->files(path, ret_name, memory->facts->data);
}

/* Elsewhere it may be otherwise: the destination looks for itself, and refuses. */
static gboolean is_destination(const Memory *memory)
{
    return memory->facts && memory->facts->destination;
}

/* ---- by what holds the block ---- */

static void file_on_disk(const Memory *memory, const RamBlock *block, const char *name)
{
    const char *dir = memory->facts->memory_backing_dir;
    g_autofree char *seen = NULL;

    if (is_destination(memory)) {
        seen = g_strdup_printf(_("it is a file in %1$s, because of %2$s, and that is on %3$s: "
                                 "QEMU cannot handle page faults there, and the guest would be "
                                 "lost at the switch-over"),
                               dir, block->cause, name);
        add(memory, FINDING_FAIL, "memory-file-backed", block, seen,
            _("start the guest anew with <source type='memfd'/> in <memoryBacking>, or set "
              "memory_backing_dir in /etc/libvirt/qemu.conf of the destination to a tmpfs; or "
              "migrate without --postcopy"));
        return;
    }
    seen = g_strdup_printf(_("it is a file in %1$s, because of %2$s, and that is on %3$s here: a "
                             "destination where it is on no tmpfs either will refuse it"),
                           dir, block->cause, name);
    add(memory, FINDING_WARN, "memory-file-backed", block, seen,
        _("see that memory_backing_dir in /etc/libvirt/qemu.conf of the destination is on a "
          "tmpfs"));
}

static void check_file(const Memory *memory, const RamBlock *block)
{
    const char *dir = memory->facts ? memory->facts->memory_backing_dir : NULL;
    g_autofree char *name = NULL;
    HostFiles files = look(memory, dir, &name);

    if (files == HOST_FILES_UNKNOWN)
        add(memory, FINDING_WARN, "memory-file-system", block,
            _("it is a file, and it is not known here what file system that is on"),
            _("see that memory_backing_dir in /etc/libvirt/qemu.conf of the destination is on a "
              "tmpfs"));
    else if (files == HOST_FILES_DISK)
        file_on_disk(memory, block, name ? name : _("no tmpfs"));
}

static const char *path_id(const RamBlock *block)
{
    switch (block->kind) {
    case RAM_BLOCK_NVDIMM:
        return "memory-nvdimm";
    case RAM_BLOCK_VIRTIO_PMEM:
        return "memory-virtio-pmem";
    default:
        return "memory-path";
    }
}

static void path_on_disk(const Memory *memory, const RamBlock *block, const char *name)
{
    g_autofree char *seen = NULL;

    if (is_destination(memory)) {
        seen = g_strdup_printf(_("its file is on %s: QEMU cannot handle page faults there, and "
                                 "the guest would be lost at the switch-over"),
                               name);
        add(memory, FINDING_FAIL, path_id(block), block, seen,
            _("take it out of the domain and start the guest anew, or migrate without "
              "--postcopy"));
        return;
    }
    seen = g_strdup_printf(_("its file is on %s here: a destination where it is on no tmpfs "
                             "either will refuse it"),
                           name);
    add(memory, FINDING_WARN, path_id(block), block, seen,
        _("see that it is on a tmpfs on the destination, or migrate without --postcopy"));
}

static void check_path(const Memory *memory, const RamBlock *block)
{
    g_autofree char *name = NULL;

    switch (look(memory, block->path, &name)) {
    case HOST_FILES_MEMORY:
        return;
    case HOST_FILES_UNKNOWN:
        add(memory, FINDING_WARN, path_id(block), block,
            _("it is not known here what file system its file is on"),
            _("see that it is on a tmpfs on the destination, or migrate without --postcopy"));
        return;
    case HOST_FILES_DISK:
        path_on_disk(memory, block, name ? name : _("no tmpfs"));
    }
}

static void check_pages(const Memory *memory, const RamBlock *block)
{
    g_autofree char *seen = NULL;

    if (!block->huge || block->page_size == 0 || block->backing == RAM_BACKING_PATH)
        return;
    if (block->size % block->page_size != 0) {
        seen = g_strdup_printf(_("its %1$" PRIu64 " KiB are no multiple of its pages of %2$" PRIu64
                                 " KiB, which QEMU wants for post-copy"),
                               block->size >> 10, block->page_size >> 10);
        add(memory, FINDING_FAIL, "memory-page-multiple", block, seen,
            _("change the size of the memory or of the pages, and start the guest anew; or migrate "
              "without --postcopy"));
    } else if (block->page_size >= LARGE_PAGE) {
        seen = g_strdup_printf(_("a page of %" PRIu64 " MiB arrives as a whole, and the "
                                 "guest waits for that wherever it touches one"),
                               block->page_size >> 20);
        add(memory, FINDING_WARN, "memory-large-pages", block, seen,
            _("use huge pages of 2 MiB, or have a fast network"));
    }
}

static void check_block(const Memory *memory, const RamBlock *block)
{
    if (block->kind == RAM_BLOCK_SGX_EPC)
        add(memory, FINDING_FAIL, "memory-sgx-epc", block,
            _("enclaves are encrypted with a key of this host's processor"),
            _("take it out of the domain and start the guest anew, or migrate with the guest shut "
              "down"));
    else if (block->backing == RAM_BACKING_FILE)
        check_file(memory, block);
    else if (block->backing == RAM_BACKING_PATH)
        check_path(memory, block);
    check_pages(memory, block);
}

/* ---- all of it ---- */

static void check_locked(const Memory *memory, const xmlNode *domain)
{
    const xmlNode *backing = xml_element(domain->children, "memoryBacking");

    if (backing && xml_element(backing->children, "locked"))
        findings_add(memory->findings, FINDING_WARN, "memory-locked", _(what_memory),
                     _("<locked>: QEMU unlocks the memory for as long as it arrives, and locks it "
                       "then"),
                     _("see that the limit of locked memory is high enough on both hosts "
                       "(<memtune> <hard_limit>)"));
}

static void add_pass(GPtrArray *findings, const GPtrArray *blocks)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < blocks->len; i++) {
        g_autofree char *block = ram_block_describe(g_ptr_array_index(blocks, i));

        g_string_append_printf(text, "%s%s", i ? "; " : "", block);
    }
    findings_add(findings, FINDING_PASS, "memory", _(what_memory), text->str, NULL);
}

void eligibility_memory(GPtrArray *findings, const GPtrArray *blocks, const xmlNode *domain,
                        const HostFacts *facts)
{
    g_autoptr(GPtrArray) own = findings_new();
    Memory memory = { own, facts };

    for (guint i = 0; i < blocks->len; i++)
        check_block(&memory, g_ptr_array_index(blocks, i));
    check_locked(&memory, domain);
    if (findings_verdict(own) == FINDING_PASS)
        add_pass(own, blocks);
    findings_take(findings, g_steal_pointer(&own));
}
