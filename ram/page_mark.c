/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/page_mark.h"

#include "ram/page_sender_priv.h"

void page_mark_take(PageMark *mark, const PageSender *sender)
{
    *mark = (PageMark){ .jobs = sender->jobs_sent + page_sender_jobs(sender) };
}

gboolean page_mark_is_acked(PageMark *mark, const PageSender *sender)
{
    if (!mark->known) {
        if (sender->jobs_sent < mark->jobs)
            return FALSE;
        mark->main_bytes = session_sent_bytes(sender->session);
        mark->lane_bytes = sender->lane ? lane_sent_bytes(sender->lane) : 0;
        mark->known = TRUE;
    }
    return session_acked_bytes(sender->session) >= mark->main_bytes &&
           (!sender->lane || lane_acked_bytes(sender->lane) >= mark->lane_bytes);
}
