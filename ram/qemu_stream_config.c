/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The configuration: machine type, and subsections that change how the rest is written. */
#include "config.h"

#include <glib/gi18n.h>

#include "ram/printable.h"
#include "ram/qemu_stream_priv.h"

#define SUBSECTION 0x05
#define SUBSECTION_VERSION 1
#define CAPABILITIES_MAX 64
#define UUID_LEN 16

typedef struct {
    guint seen; /* bit i: subsections[i] */
    gboolean ignore_shared;
    guint32 page_bits;
} Configuration;

static ParseResult parse_capabilities(QemuStream *s, Cursor *c, Configuration *conf)
{
    const guint8 *name;
    guint32 n;
    guint8 len;

    if (!cursor_take_u32(c, &n))
        return PARSE_MORE;
    if (n > CAPABILITIES_MAX)
        return qemu_stream_bad(s, _("configuration with %u capabilities, at most %d are known"),
                               n, CAPABILITIES_MAX);
    for (guint32 i = 0; i < n; i++) {
        if (!cursor_take_name(c, &name, &len))
            return PARSE_MORE;
        /* Only capabilities that change the stream are listed: one that is not known matters. */
        if (!name_is(name, len, "x-ignore-shared")) {
            g_autofree char *text = printable(name, len);

            return qemu_stream_bad(s, _("unknown capability '%s' in the configuration"), text);
        }
        conf->ignore_shared = TRUE;
    }
    return PARSE_DONE;
}

static ParseResult parse_page_bits(QemuStream *s, Cursor *c, Configuration *conf)
{
    if (!cursor_take_u32(c, &conf->page_bits))
        return PARSE_MORE;
    if (conf->page_bits >= 32)
        return qemu_stream_bad(s, _("target pages of 2^%u bytes"), conf->page_bits);
    return PARSE_DONE;
}

static ParseResult parse_uuid(QemuStream *s, Cursor *c, Configuration *conf)
{
    const guint8 *uuid;

    return cursor_take(c, UUID_LEN, &uuid) ? PARSE_DONE : PARSE_MORE;
}

static const struct {
    const char *name;
    ParseResult (*parse)(QemuStream *s, Cursor *c, Configuration *conf);
} subsections[] = {
    { "configuration/capabilities", parse_capabilities },
    { "configuration/target-page-bits", parse_page_bits },
    { "configuration/uuid", parse_uuid },
};

static ParseResult parse_subsection(QemuStream *s, Cursor *c, Configuration *conf)
{
    const guint8 *name;
    guint32 version;
    guint8 len;

    if (!cursor_take_name(c, &name, &len) || !cursor_take_u32(c, &version))
        return PARSE_MORE;
    for (guint i = 0; i < G_N_ELEMENTS(subsections); i++) {
        if (!name_is(name, len, subsections[i].name))
            continue;
        if (version != SUBSECTION_VERSION || conf->seen & 1U << i)
            return qemu_stream_bad(s, _("subsection %s: version %u, or it comes twice"),
                                   subsections[i].name, version);
        conf->seen |= 1U << i;
        return subsections[i].parse(s, c, conf);
    }
    {
        g_autofree char *text = printable(name, len);

        return qemu_stream_bad(s, _("unknown subsection '%s'"), text);
    }
}

/* There is no count: whether a subsection follows is told by the byte after the last one. */
static ParseResult parse_subsections(QemuStream *s, Cursor *c, Configuration *conf)
{
    const guint8 *p;

    for (;;) {
        ParseResult result;

        if (!cursor_peek(c, 1, &p))
            return PARSE_MORE;
        if (p[0] != SUBSECTION)
            return PARSE_DONE;
        c->pos++;
        result = parse_subsection(s, c, conf);
        if (result != PARSE_DONE)
            return result;
    }
}

ParseResult qemu_stream_parse_configuration(QemuStream *s, Cursor *c, QemuEvent *ev)
{
    Configuration conf = { 0 };
    GError *error = NULL;
    const guint8 *name;
    ParseResult result;
    guint32 len;

    if (!cursor_take_u32(c, &len))
        return PARSE_MORE;
    if (len >= sizeof s->machine)
        return qemu_stream_bad(s, _("machine type with a name of %u bytes"), len);
    if (!cursor_take(c, len, &name))
        return PARSE_MORE;
    result = parse_subsections(s, c, &conf);
    if (result != PARSE_DONE)
        return result;
    if (conf.page_bits != 0 &&
        !ram_blocks_set_target_page(s->blocks, G_GUINT64_CONSTANT(1) << conf.page_bits, &error))
        return qemu_stream_bad_error(s, error);
    s->ignore_shared = conf.ignore_shared;
    memcpy(s->machine, name, len);
    s->machine[len] = '\0';
    s->state = STATE_TOP;
    ev->type = QEMU_EV_CONFIGURATION;
    ev->name = s->machine;
    return PARSE_DONE;
}
