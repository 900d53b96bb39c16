/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The domains of tests/corpus/domain and what is expected of them; for unit tests, and for a
 * program that says the same of what libvirt makes of such a domain. */
#pragma once

#include "xml/host_facts.h"

#include <gio/gio.h>

/* "NAME VERDICT IDS BLOCKS…", as in EXPECTED. */
typedef struct {
    char *name;
    char *judgement; /* what corpus_judge() must say */
} CorpusRow;

GPtrArray *corpus_rows(void);

/* The document of that name, without .xml. */
char *corpus_document(const char *name);

/* The host that EXPECTED is about: made up, as it says. */
const HostFacts *corpus_host(void);

/* "fail memory-file-backed,shmem 1024M:file:shared": verdict, ids that warn or fail in the order of
 * the alphabet (or "-"), and the blocks of RAM. NULL and an error if there is no telling. */
char *corpus_judge(const char *xml, GError **error);
