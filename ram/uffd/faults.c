/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/uffd/faults.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <linux/userfaultfd.h>
#include <unistd.h>

#include "ram/uffd/uffd.h"

static void take_fault(const struct uffd_msg *msg, const UffdMap *map, UffdEvent *ret_event)
{
    *ret_event = (UffdEvent){
        .type = UFFD_EV_FAULT,
        .address = msg->arg.pagefault.address,
        .thread = msg->arg.pagefault.feat.ptid,
        .is_write = (msg->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0,
    };
    if (!uffd_map_page_of(map, ret_event->address, &ret_event->block, &ret_event->offset))
        ret_event->type = UFFD_EV_STRAY;
}

/* FALSE: of no interest. */
static gboolean take_message(const struct uffd_msg *msg, const UffdMap *map, UffdEvent *ret_event)
{
    *ret_event = (UffdEvent){ .type = UFFD_EV_REMOVED };
    switch (msg->event) {
    case UFFD_EVENT_PAGEFAULT:
        if (msg->arg.pagefault.flags & (UFFD_PAGEFAULT_FLAG_WP | UFFD_PAGEFAULT_FLAG_MINOR))
            return FALSE;
        take_fault(msg, map, ret_event);
        return TRUE;
    case UFFD_EVENT_FORK:
        ret_event->type = UFFD_EV_FORKED;
        ret_event->to = msg->arg.fork.ufd;
        return TRUE;
    case UFFD_EVENT_REMAP:
        ret_event->type = UFFD_EV_MOVED;
        ret_event->address = msg->arg.remap.from;
        ret_event->to = msg->arg.remap.to;
        ret_event->length = msg->arg.remap.len;
        return TRUE;
    case UFFD_EVENT_UNMAP:
        ret_event->type = UFFD_EV_UNMAPPED;
        G_GNUC_FALLTHROUGH;
    case UFFD_EVENT_REMOVE:
        ret_event->address = msg->arg.remove.start;
        ret_event->length = msg->arg.remove.end - msg->arg.remove.start;
        return TRUE;
    default:
        return FALSE;
    }
}

gboolean uffd_read_events(int uffd, const UffdMap *map, UffdEvent ret_events[UFFD_EVENTS_MAX],
                          guint *ret_n, GError **error)
{
    struct uffd_msg messages[UFFD_EVENTS_MAX];
    gssize len = read(uffd, messages, sizeof messages);
    gsize n = len > 0 ? (gsize)len / sizeof messages[0] : 0;

    *ret_n = 0;
    if (len < 0 && errno != EAGAIN && errno != EINTR) {
        g_set_error(error, UFFD_ERROR, UFFD_ERROR_FAILED, _("reading the userfaultfd: %s"),
                    g_strerror(errno));
        return FALSE;
    }
    for (gsize i = 0; i < n; i++)
        *ret_n += take_message(&messages[i], map, &ret_events[*ret_n]) ? 1 : 0;
    return TRUE;
}
