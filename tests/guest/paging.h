/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory above 4 GiB within reach: with physical address extension (PAE) it appears
 * right behind the memory from below, for a guest that was given such an extra part.
 * All other addresses stay what they are.
 *
 * Only 4 KiB entries are used, for the sake of cpu_forget(): QEMU's emulated processor
 * drops everything it has cached where a translation of a large page is dropped.
 */
#pragma once

#include <stdint.h>

#include "options.h"

/* Takes what the tables need for all of @memory and @extra_bytes from the front of
 * @memory; 0 if that is too much. */
int paging_reserve(Span *memory, uint64_t extra_bytes);

/* Fills the tables: @bytes of memory at @physical appear at @address. */
void paging_map(uint32_t address, uint64_t physical, uint32_t bytes);

/* From now on the tables are in force on this processor, if there are any. */
void paging_start(void);
