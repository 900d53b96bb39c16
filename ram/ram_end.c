/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/ram_end.h"

#include <glib/gi18n.h>
#include <inttypes.h>

static const Lane *find_bulk(const Lane **bulk, guint n_bulk, guint number)
{
    for (guint i = 0; i < n_bulk; i++) {
        if (lane_number(bulk[i]) == number)
            return bulk[i];
    }
    return NULL;
}

gboolean ram_end_have_all_come(const RamEnd *end, const Lane *preempt, const Lane **bulk,
                               guint n_bulk, gboolean *ret_all, GError **error)
{
    *ret_all = lane_consumed_seq(preempt) >= end->preempt_seq;
    for (guint i = 0; i < end->n_bulk; i++) {
        const Lane *lane = find_bulk(bulk, n_bulk, i + 1);

        if (!lane && end->bulk_seq[i] > 0) {
            g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                        _("RAM_END: there is no bulk channel %u"), i + 1);
            return FALSE;
        }
        *ret_all &= !lane || lane_consumed_seq(lane) >= end->bulk_seq[i];
    }
    return TRUE;
}

gboolean ram_end_check_pages(const RamEnd *end, guint64 come, GError **error)
{
    if (come == end->pages)
        return TRUE;
    g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                _("RAM_END: %" PRIu64 " pages were sent, %" PRIu64 " have come"), end->pages, come);
    return FALSE;
}
