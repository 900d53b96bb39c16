/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a source knows of where there is no memory behind its guest's pages, so that it reads what
 * may be something else than zeros and nothing more: one look of the kernel's goes a long way
 * ahead, and is kept.
 *
 * What was found stands for what was there when it was looked at. So whoever writes must be
 * logged, or stopped, before the look: else it has to be forgotten. One thread. */
#pragma once

#include "ram/mapped/guest_memory.h"

typedef struct HoleLook HoleLook;

/* memory: borrowed. */
HoleLook *hole_look_new(GuestMemory *memory);
void hole_look_free(HoleLook *look);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HoleLook, hole_look_free)

/* Nothing is known any more. */
void hole_look_forget(HoleLook *look);

/* How many bytes from offset on are zeros; there may be more. 0: none, or it is not known. */
guint64 hole_look_zeros(HoleLook *look, guint block, guint64 offset);
/* Where that was 0: how many bytes it is worth reading at once before it is asked again. Not 0, and
 * within the block. */
guint64 hole_look_data(HoleLook *look, guint block, guint64 offset);
