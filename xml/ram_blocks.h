/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The blocks of RAM that QEMU will have for a domain, as far as its XML decides that: each with
 * what holds it, because that is what post-copy depends on. The rules are libvirt's: what it makes
 * a memory-backend-ram, -memfd or -file of. Pure. */
#pragma once

#include <gio/gio.h>

typedef enum {
    RAM_BLOCK_MEMORY,      /* all of the guest's memory, in a domain without NUMA cells */
    RAM_BLOCK_CELL,        /* the memory of one NUMA cell */
    RAM_BLOCK_DIMM,        /* the rest are <memory> devices, by model */
    RAM_BLOCK_NVDIMM,
    RAM_BLOCK_VIRTIO_MEM,
    RAM_BLOCK_VIRTIO_PMEM,
    RAM_BLOCK_SGX_EPC,
    RAM_BLOCK_OTHER, /* a model that this driver does not know */
} RamBlockKind;

typedef enum {
    RAM_BACKING_ANONYMOUS,
    RAM_BACKING_MEMFD,
    RAM_BACKING_FILE,      /* a file that libvirt makes in memory_backing_dir */
    RAM_BACKING_HUGETLBFS, /* a file that libvirt makes where huge pages of that size are mounted */
    RAM_BACKING_PATH,      /* a file or device that the domain names */
} RamBacking;

typedef struct {
    RamBlockKind kind;
    char *element;     /* how to find it: "<memory model='nvdimm'> number 1 (/x/y)" */
    RamBacking backing;
    const char *cause; /* what in the XML made it a RAM_BACKING_FILE; else NULL */
    char *path;        /* RAM_BACKING_PATH only; else NULL */
    gboolean shared;   /* changes are seen by others who map it */
    gboolean huge;     /* of huge pages, */
    guint64 page_size; /* of so many bytes; 0: the host's default size, of huge pages or others */
    guint64 size;      /* in bytes */
    guint64 taken;     /* so many of them QEMU takes when it starts: all, but with virtio-mem */
    int node;          /* the guest's NUMA cell, -1 if there are none */
} RamBlock;

#define RAM_BLOCKS_MAX 4096 /* cells and memory devices of a domain */
#define RAM_PAGES_MAX 64    /* sizes of huge pages, each for some cells */

/* RamBlock pointers: cells or the whole memory first, then devices in the order of the document.
 * page_size is that of the host's ordinary pages, which <page size=…> may ask for as well. Errors
 * are of XML_ERROR. g_ptr_array_unref() frees them. */
GPtrArray *ram_blocks_expected(const char *domain_xml, guint64 page_size, GError **error);

/* "1024 MiB of memfd, shared, huge pages of 2048 KiB", translated. */
char *ram_block_describe(const RamBlock *block);
