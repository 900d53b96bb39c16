/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/page_mark.h"

#include "ram/page_sender_priv.h"

static guint64 sent_bytes(const PageSender *sender, guint channel)
{
    const Lane *lane = sender->channels[channel].lane;

    return lane ? lane_sent_bytes(lane) : session_sent_bytes(sender->session);
}

void page_mark_take(PageMark *mark, const PageSender *sender)
{
    *mark = (PageMark){
        .n_channels = sender->n_channels,
        .lane_bytes = sender->lane ? lane_sent_bytes(sender->lane) : 0,
    };
    for (guint i = 0; i < mark->n_channels; i++)
        mark->channels[i].jobs = sender->channels[i].jobs_sent + sender->channels[i].jobs;
}

static gboolean channel_is_acked(PageMarkChannel *mark, const PageSender *sender, guint channel)
{
    if (!mark->known) {
        if (sender->channels[channel].jobs_sent < mark->jobs)
            return FALSE;
        mark->bytes = sent_bytes(sender, channel);
        mark->known = TRUE;
    }
    return page_channel_acked(sender, &sender->channels[channel]) >= mark->bytes;
}

gboolean page_mark_is_acked(PageMark *mark, const PageSender *sender)
{
    for (guint i = 0; i < mark->n_channels; i++) {
        if (!channel_is_acked(&mark->channels[i], sender, i))
            return FALSE;
    }
    return !sender->lane || lane_acked_bytes(sender->lane) >= mark->lane_bytes;
}
