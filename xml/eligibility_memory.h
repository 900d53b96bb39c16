/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the guest's blocks of RAM mean for post-copy. For the files of this folder. */
#pragma once

#include "util/finding.h"
#include "xml/document.h"
#include "xml/host_facts.h"

/* Adds what there is to say, "memory" at least; blocks as of ram_blocks_expected(). */
void eligibility_memory(GPtrArray *findings, const GPtrArray *blocks, const xmlNode *domain,
                        const HostFacts *facts);
