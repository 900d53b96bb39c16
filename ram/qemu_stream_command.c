/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Commands: two numbers of 16 bits, the command and the length of its payload. */
#include "config.h"

#include <glib/gi18n.h>

#include "ram/printable.h"
#include "ram/qemu_stream_priv.h"

#define RANGE_LEN 16 /* of a discard: start and length */

static const struct {
    const char *name;
    int len; /* of the payload; -1: checked by its function */
} commands[] = {
    [QEMU_CMD_OPEN_RETURN_PATH] = { "OPEN_RETURN_PATH", 0 },
    [QEMU_CMD_PING] = { "PING", 4 },
    [QEMU_CMD_POSTCOPY_ADVISE] = { "POSTCOPY_ADVISE", -1 },
    [QEMU_CMD_POSTCOPY_LISTEN] = { "POSTCOPY_LISTEN", 0 },
    [QEMU_CMD_POSTCOPY_RUN] = { "POSTCOPY_RUN", 0 },
    [QEMU_CMD_POSTCOPY_RAM_DISCARD] = { "POSTCOPY_RAM_DISCARD", -1 },
    [QEMU_CMD_PACKAGED] = { "PACKAGED", 4 },
    [QEMU_CMD_ENABLE_COLO] = { "ENABLE_COLO", 0 },
    [QEMU_CMD_POSTCOPY_RESUME] = { "POSTCOPY_RESUME", 0 },
    [QEMU_CMD_RECV_BITMAP] = { "RECV_BITMAP", -1 },
    [QEMU_CMD_SWITCHOVER_START] = { "SWITCHOVER_START", 0 },
};

static gboolean is_known(guint command)
{
    return command < G_N_ELEMENTS(commands) && commands[command].name;
}

static ParseResult bad_length(QemuStream *s, guint command, gsize len)
{
    return qemu_stream_bad(s, _("command %s with a payload of %zu bytes"),
                           commands[command].name, len);
}

/* 0 bytes where post-copy is for dirty bitmaps alone. */
static ParseResult parse_advise(QemuStream *s, QemuEvent *ev)
{
    GError *error = NULL;

    if (ev->payload_len == 0)
        return PARSE_DONE;
    if (ev->payload_len != 16)
        return bad_length(s, QEMU_CMD_POSTCOPY_ADVISE, ev->payload_len);
    if (!ram_blocks_set_target_page(s->blocks, load_be64(ev->payload + 8), &error))
        return qemu_stream_bad_error(s, error);
    s->page_sizes = load_be64(ev->payload);
    return PARSE_DONE;
}

static ParseResult unknown_block(QemuStream *s, guint command, const guint8 *name,
                                 gsize len)
{
    g_autofree char *text = printable(name, len);

    return qemu_stream_bad(s, _("command %s for the unknown RAM block '%s'"),
                           commands[command].name, text);
}

/* Version 0, a name, a 0, ranges. */
static ParseResult parse_discard(QemuStream *s, QemuEvent *ev)
{
    const guint8 *p = ev->payload;
    gsize name_len = ev->payload_len >= 2 ? p[1] : 0;

    if (ev->payload_len < 3 + name_len + RANGE_LEN ||
        (ev->payload_len - 3 - name_len) % RANGE_LEN != 0)
        return bad_length(s, QEMU_CMD_POSTCOPY_RAM_DISCARD, ev->payload_len);
    if (p[0] != 0 || p[2 + name_len] != 0)
        return qemu_stream_bad(s, _("POSTCOPY_RAM_DISCARD of an unknown version"));
    if (!ram_blocks_find(s->blocks, p + 2, name_len, &ev->block))
        return unknown_block(s, QEMU_CMD_POSTCOPY_RAM_DISCARD, p + 2, name_len);
    return PARSE_DONE;
}

static ParseResult parse_recv_bitmap(QemuStream *s, QemuEvent *ev)
{
    GError *error = NULL;

    if (ev->payload_len < 1 || ev->payload_len != 1U + ev->payload[0])
        return bad_length(s, QEMU_CMD_RECV_BITMAP, ev->payload_len);
    if (!ram_blocks_add(s->blocks, ev->payload + 1, ev->payload[0], 0, 0, &ev->block, &error))
        return qemu_stream_bad_error(s, error);
    return PARSE_DONE;
}

static ParseResult parse_packaged(QemuStream *s, QemuEvent *ev)
{
    ev->package_len = load_be32(ev->payload);
    if (ev->package_len == 0)
        return qemu_stream_bad(s, _("empty package"));
    s->piece_left = ev->package_len;
    s->postcopy = TRUE;
    s->state = STATE_PACKAGE;
    return PARSE_DONE;
}

static ParseResult parse_payload(QemuStream *s, QemuEvent *ev)
{
    switch (ev->value) {
    case QEMU_CMD_POSTCOPY_ADVISE:
        return parse_advise(s, ev);
    case QEMU_CMD_POSTCOPY_RAM_DISCARD:
        return parse_discard(s, ev);
    case QEMU_CMD_RECV_BITMAP:
        return parse_recv_bitmap(s, ev);
    case QEMU_CMD_PACKAGED:
        return parse_packaged(s, ev);
    case QEMU_CMD_POSTCOPY_RESUME:
        s->running = s->resumed;
        return PARSE_DONE;
    default:
        return PARSE_DONE;
    }
}

ParseResult qemu_stream_parse_command(QemuStream *s, Cursor *c, QemuEvent *ev)
{
    const guint8 *head;
    guint command;

    if (!cursor_take(c, 4, &head))
        return PARSE_MORE;
    command = load_be16(head);
    ev->payload_len = load_be16(head + 2);
    /* Said before the payload is there: a stream that is not one should not be waited for. */
    if (is_known(command) && commands[command].len >= 0 &&
        ev->payload_len != (gsize)commands[command].len)
        return bad_length(s, command, ev->payload_len);
    if (!cursor_take(c, ev->payload_len, &ev->payload))
        return PARSE_MORE;
    ev->type = QEMU_EV_COMMAND;
    ev->value = command;
    s->state = STATE_TOP;
    return parse_payload(s, ev);
}
