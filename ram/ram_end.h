/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What RAM_END says was sent, beside what has come. For both machines of the destination. */
#pragma once

#include "ram/page_frames.h"
#include "tls/lane.h"

/* Whether the frames on all channels but the main one, which it comes on, are consumed. bulk: those there are, in any
 * order. *ret_all FALSE: some are still on their way. FALSE (RAM_ERROR_PROTOCOL): there is no such channel. */
gboolean ram_end_have_all_come(const RamEnd *end, const Lane *preempt, const Lane **bulk,
                               guint n_bulk, gboolean *ret_all, GError **error);
/* FALSE (RAM_ERROR_PROTOCOL): not as many pages have come as were sent. */
gboolean ram_end_check_pages(const RamEnd *end, guint64 come, GError **error);
