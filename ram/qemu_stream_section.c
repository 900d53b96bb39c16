/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What stands between the sections, and their heads. */
#include "config.h"

#include <glib/gi18n.h>

#include "ram/printable.h"
#include "ram/qemu_stream_priv.h"

#define FILE_MAGIC 0x5145564d /* "QEVM" */
#define FILE_VERSION 3
#define RAM_SECTION_VERSION 4

enum {
    ELEMENT_EOF = 0x00,
    ELEMENT_START = QEMU_SECTION_START,
    ELEMENT_PART = QEMU_SECTION_PART,
    ELEMENT_END = QEMU_SECTION_END,
    ELEMENT_FULL = QEMU_SECTION_FULL,
    ELEMENT_DESCRIPTION = 0x06,
    ELEMENT_CONFIGURATION = 0x07,
    ELEMENT_COMMAND = 0x08,
    ELEMENT_FOOTER = 0x7e,
};

static const char *const kind_names[] = {
    [QEMU_SECTION_START] = "START",
    [QEMU_SECTION_PART] = "PART",
    [QEMU_SECTION_END] = "END",
    [QEMU_SECTION_FULL] = "FULL",
};

static ParseResult parse_header(QemuStream *s, Cursor *c, QemuEvent *ev)
{
    guint32 magic, version;

    if (!cursor_take_u32(c, &magic))
        return PARSE_MORE;
    if (magic != FILE_MAGIC)
        return qemu_stream_bad(s, _("does not begin as a migration stream, but with 0x%08x"),
                               magic);
    if (!cursor_take_u32(c, &version))
        return PARSE_MORE;
    if (version != FILE_VERSION)
        return qemu_stream_bad(s, _("file version %u, only %d is known"), version, FILE_VERSION);
    ev->type = QEMU_EV_HEADER;
    ev->value = version;
    s->state = STATE_TOP;
    s->after_header = TRUE;
    return PARSE_DONE;
}

ParseResult qemu_stream_parse_begin(QemuStream *s, Cursor *c, QemuEvent *ev)
{
    const guint8 *p;

    if (!cursor_peek(c, 1, &p))
        return PARSE_MORE;
    if (p[0] != ELEMENT_COMMAND)
        return parse_header(s, c, ev);
    s->resumed = s->postcopy = TRUE;
    s->state = STATE_TOP;
    return qemu_stream_parse_top(s, c, ev);
}

/* A section whose body does not say where it ends. After RAM's last section that is how a migration
 * without post-copy goes on; before, or in post-copy, pages would be missed from here on. */
static ParseResult parse_foreign(QemuStream *s, const QemuSection *section)
{
    g_autofree char *name = printable(section->name, strlen(section->name));

    if (s->ram_ended && !s->postcopy)
        return PARSE_OPAQUE;
    return qemu_stream_bad(s, _("section %s %u%s%s is not RAM's, its end cannot be found"),
                           kind_names[section->kind], section->id, *name ? " " : "", name);
}

static ParseResult begin_ram(QemuStream *s, QemuEvent *ev)
{
    ev->type = QEMU_EV_SECTION;
    ev->section.is_ram = TRUE;
    s->kind = ev->section.kind;
    s->ram_known = TRUE;
    s->ram_id = ev->section.id;
    s->state = STATE_RECORDS;
    return PARSE_DONE;
}

static ParseResult parse_named_section(QemuStream *s, Cursor *c, QemuEvent *ev)
{
    QemuSection *section = &ev->section;
    const guint8 *name;
    guint8 len;

    if (!cursor_take_u32(c, &section->id) || !cursor_take_name(c, &name, &len) ||
        !cursor_take_u32(c, &section->instance) || !cursor_take_u32(c, &section->version))
        return PARSE_MORE;
    memcpy(section->name, name, len);
    section->name[len] = '\0';
    if (section->kind != QEMU_SECTION_START || !name_is(name, len, "ram") || section->instance != 0)
        return parse_foreign(s, section);
    if (section->version != RAM_SECTION_VERSION)
        return qemu_stream_bad(s, _("RAM section of version %u, only %d is known"),
                               section->version, RAM_SECTION_VERSION);
    if (s->ram_known || s->resumed)
        return qemu_stream_bad(s, _("second START of RAM"));
    return begin_ram(s, ev);
}

static ParseResult parse_later_section(QemuStream *s, Cursor *c, QemuEvent *ev)
{
    if (!cursor_take_u32(c, &ev->section.id))
        return PARSE_MORE;
    ev->section.name[0] = '\0';
    if (s->ram_known ? ev->section.id == s->ram_id : s->running)
        return begin_ram(s, ev);
    return parse_foreign(s, &ev->section);
}

static ParseResult parse_footer(QemuStream *s, Cursor *c, QemuEvent *ev, gboolean expected)
{
    guint32 id;

    if (!expected)
        return qemu_stream_bad(s, _("section footer without a section"));
    if (!cursor_take_u32(c, &id))
        return PARSE_MORE;
    if (id != s->ram_id)
        return qemu_stream_bad(s, _("footer of section %u after section %u"), id, s->ram_id);
    ev->type = QEMU_EV_FOOTER;
    ev->value = id;
    s->state = STATE_TOP;
    return PARSE_DONE;
}

static ParseResult parse_eof(QemuStream *s, QemuEvent *ev)
{
    ev->type = QEMU_EV_EOF;
    s->eof = TRUE;
    s->state = STATE_TOP;
    return PARSE_DONE;
}

static ParseResult parse_description(QemuStream *s, Cursor *c, QemuEvent *ev)
{
    guint32 len;

    if (!cursor_take_u32(c, &len))
        return PARSE_MORE;
    ev->type = QEMU_EV_DESCRIPTION;
    ev->last = len == 0;
    s->piece_left = len;
    s->state = len == 0 ? STATE_TOP : STATE_DESCRIPTION;
    return PARSE_DONE;
}

/* What may not stand where it does is as unknown as what never may. */
static ParseResult parse_element(QemuStream *s, Cursor *c, QemuEvent *ev, guint8 type)
{
    gboolean after_header = s->after_header;

    switch (type) {
    case ELEMENT_EOF:
        return parse_eof(s, ev);
    case ELEMENT_START:
    case ELEMENT_FULL:
        ev->section.kind = type;
        return parse_named_section(s, c, ev);
    case ELEMENT_PART:
    case ELEMENT_END:
        ev->section.kind = type;
        return parse_later_section(s, c, ev);
    case ELEMENT_COMMAND:
        return qemu_stream_parse_command(s, c, ev);
    case ELEMENT_CONFIGURATION:
        if (after_header)
            return qemu_stream_parse_configuration(s, c, ev);
        break;
    default:
        break;
    }
    return qemu_stream_bad(s, _("unknown element type 0x%02x between sections"), type);
}

ParseResult qemu_stream_parse_top(QemuStream *s, Cursor *c, QemuEvent *ev)
{
    ParseResult result;
    guint8 type;

    if (!cursor_take_u8(c, &type))
        return PARSE_MORE;
    if (s->eof) {
        if (type == ELEMENT_DESCRIPTION)
            return parse_description(s, c, ev);
        return qemu_stream_bad(s, _("element of type 0x%02x after the end"), type);
    }
    if (type == ELEMENT_FOOTER)
        return parse_footer(s, c, ev, s->state == STATE_FOOTER);
    result = parse_element(s, c, ev, type);
    if (result == PARSE_DONE)
        s->after_header = FALSE;
    return result;
}
