/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* release-ram: what the destination has acknowledged is given back to the host, once the guest
 * runs there. */
#include "config.h"

#include "ram/mapped/outgoing_priv.h"

static gboolean give_back(MappedOutgoing *o, const ReleaseRange *range, GError **error)
{
    if (guest_memory_can_discard(o->memory, range->block))
        return guest_memory_discard(o->memory, range->block, range->range.start,
                                    range->range.length, error);
    if (o->client_gone)
        return TRUE;
    o->client->ops->discard(o->client, range->block, &range->range, 1);
    o->discards_asked++;
    return TRUE;
}

/* The guest runs without it: what cannot be given back is a warning's worth, no failure. */
static void give_back_all(MappedOutgoing *o, const GArray *due)
{
    for (guint i = 0; i < due->len; i++) {
        g_autoptr(GError) error = NULL;

        if (give_back(o, &g_array_index(due, ReleaseRange, i), &error))
            continue;
        g_warning("release-ram ends here: %s", error->message);
        o->releases = FALSE;
        return;
    }
}

void mapped_out_release(MappedOutgoing *o)
{
    /* Should it never run there, it is whole here. */
    if (!mapped_out_is_releasing(o) || session_acked_bytes(o->session) < o->run_mark)
        return;
    if (release_list_is_waiting(&o->release) && o->discards_asked == 0 &&
        page_mark_is_acked(&o->release_mark, o->sender)) {
        g_autoptr(GArray) due = release_list_take(&o->release);

        give_back_all(o, due);
    }
    if (release_list_close(&o->release))
        page_mark_take(&o->release_mark, o->sender);
}
