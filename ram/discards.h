/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How much of RAM the source's QEMU has its destination discard at the switch-over: that is what
 * will come as pages. Read from the commands of its stream, in whatever pieces they come, from
 * the first POSTCOPY_RAM_DISCARD on. Pure; holds one command at most. */
#pragma once

#include <glib.h>

typedef struct Discards Discards;

Discards *discards_new(void);
void discards_free(Discards *discards);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Discards, discards_free)

void discards_read(Discards *discards, const guint8 *bytes, gsize len);

/* FALSE: something else was among them, so that it is not known. */
gboolean discards_bytes(const Discards *discards, guint64 *ret_bytes);
