/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the destination does about each frame of the main channel that brings no pages. */
#include "config.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>

#include "ram/incoming_priv.h"
#include "ram/ram_end.h"

/* 16 TiB in pages of 4 KiB: 512 MiB of bitmap, of which only what is written to is there. */
#define PAGES_MAX (G_GUINT64_CONSTANT(1) << 32)

PagesReader *incoming_make_reader(const Incoming *in)
{
    PagesReader *reader = pages_reader_new(ram_blocks_target_page(in->blocks));

    pages_reader_set_features(reader, session_features(in->session));
    return reader;
}

/* ---- frames that announce something ---- */

static gboolean take_phase(Incoming *in, GBytes *body, GError **error)
{
    static const IncomingEvent event_of[RAM_PHASE_MAX] = {
        [RAM_PHASE_ADVISE] = INCOMING_EV_ADVISE,
        [RAM_PHASE_DISCARD] = INCOMING_EV_DISCARD,
        [RAM_PHASE_RUNNING] = INCOMING_EV_RUNNING,
    };
    RamPhase phase;

    return phase_body_decode(body, &phase, error) && incoming_enter(in, event_of[phase], error);
}

/* In a recovery our QEMU has said what it has, and how large the block is; else nothing of this epoch is
 * here yet. */
static Bitmap *new_received(Incoming *in, guint block, GError **error)
{
    const RamBlock *b = ram_blocks_get(in->blocks, block);
    gsize target = ram_blocks_target_page(in->blocks);
    Bitmap *known = g_hash_table_lookup(in->resumed, b->name);
    gpointer name;

    if (!known && b->length == 0) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("BLOCKS: the length of %s is missing, and QEMU has not told it"), b->name);
        return NULL;
    }
    if (!known)
        return bitmap_new(b->length / target);
    g_hash_table_steal_extended(in->resumed, b->name, &name, NULL);
    g_free(name);
    if (bitmap_pages(known) < b->length / target)
        bitmap_grow(known, b->length / target);
    in->lengths_rounded |= b->length == 0;
    if (b->length == 0 &&
        !ram_blocks_add(in->blocks, (const guint8 *)b->name, strlen(b->name),
                        bitmap_pages(known) * target, 0, &block, error))
        g_clear_pointer(&known, bitmap_free);
    return known;
}

static gboolean check_block(const Incoming *in, guint block, guint64 *pages, GError **error)
{
    const RamBlock *b = ram_blocks_get(in->blocks, block);

    *pages += b->length / ram_blocks_target_page(in->blocks);
    if (*pages > PAGES_MAX) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("BLOCKS: more than %" PRIu64 " pages of RAM"), PAGES_MAX);
        return FALSE;
    }
    if (b->length % ram_blocks_host_page(in->blocks, block) != 0) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("BLOCKS: the length of %s, %" PRIu64
                      " bytes, is no multiple of its pages"),
                    b->name, b->length);
        return FALSE;
    }
    return TRUE;
}

static gboolean make_received(Incoming *in, GError **error)
{
    guint n = ram_blocks_count(in->blocks);
    guint64 pages = 0;

    in->received = g_new0(Bitmap *, n);
    for (guint i = 0; i < n; i++) {
        if (!check_block(in, i, &pages, error))
            return FALSE;
        in->received[i] = new_received(in, i, error);
        if (!in->received[i])
            return FALSE;
    }
    return TRUE;
}

/* What was discarded, or, in a recovery, what our QEMU has not. */
static void note_owed(Incoming *in, gboolean recovery)
{
    guint64 bytes = 0;

    in->owed_known = recovery || discards_bytes(in->discards, &bytes);
    in->pages_owed = bytes / ram_blocks_target_page(in->blocks);
    for (guint i = 0; recovery && i < ram_blocks_count(in->blocks); i++)
        in->pages_owed += bitmap_pages(in->received[i]) - bitmap_count(in->received[i]);
}

static gboolean take_blocks(Incoming *in, GBytes *body, GError **error)
{
    gboolean recovery = in->state == INCOMING_NONE;
    guint32 section;

    if (!in->lane) {
        g_set_error_literal(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                            _("BLOCKS before the preempt channel was opened"));
        return FALSE;
    }
    if (!incoming_enter(in, INCOMING_EV_BLOCKS, error) ||
        !blocks_body_decode(body, in->blocks, &section, error) || !make_received(in, error))
        return FALSE;
    note_owed(in, recovery);
    qemu_sink_set_section(in->sink, section);
    in->main.reader = incoming_make_reader(in);
    in->urgent.reader = incoming_make_reader(in);
    for (guint i = 0; i < in->n_bulk; i++)
        in->bulk[i].reader = incoming_make_reader(in);
    return TRUE;
}

static gboolean take_qemu_channel(Incoming *in, GBytes *body, GError **error)
{
    QemuChannelEvent event;

    if (!qemu_channel_body_decode(body, &event, error))
        return FALSE;
    if (event == QEMU_CHANNEL_OPENED)
        in->wants_preempt = TRUE;
    else if (event == QEMU_CHANNEL_EOS)
        in->preempt_eos = TRUE;
    else
        in->preempt_closed = TRUE;
    return TRUE;
}

/* ---- the end of RAM ---- */

static gboolean have_all_come(const Incoming *in, const RamEnd *end, gboolean *ret_all,
                              GError **error)
{
    const Lane *bulk[CHANNEL_BULK_MAX];

    for (guint i = 0; i < in->n_bulk; i++)
        bulk[i] = in->bulk[i].lane;
    if (!ram_end_have_all_come(end, in->lane, bulk, in->n_bulk, ret_all, error))
        return FALSE;
    *ret_all &= !incoming_is_placing(in);
    return TRUE;
}

/* TRUE with *ret_done FALSE: pages are still on their way. */
static gboolean take_ram_end(Incoming *in, GBytes *body, gboolean *ret_done, GError **error)
{
    gboolean all;
    RamEnd end;

    *ret_done = FALSE;
    if (!ram_end_body_decode(body, &end, error))
        return FALSE;
    if (in->state != INCOMING_RUNNING)
        return incoming_enter(in, INCOMING_EV_RAM_END, error);
    if (!have_all_come(in, &end, &all, error))
        return FALSE;
    if (!all)
        return TRUE;
    if (!ram_end_check_pages(&end, in->pages_placed, error))
        return FALSE;
    *ret_done = TRUE;
    qemu_sink_put_ram_end(in->sink);
    return incoming_enter(in, INCOMING_EV_RAM_END, error);
}

/* ---- all of them ---- */

static gboolean take_data(Incoming *in, GBytes *body, GError **error)
{
    gsize len;
    const guint8 *bytes = g_bytes_get_data(body, &len);

    if (in->state == INCOMING_DISCARD)
        discards_read(in->discards, bytes, len);
    qemu_sink_put(in->sink, bytes, len);
    return incoming_enter(in, INCOMING_EV_DATA, error);
}

gboolean incoming_take_frame(Incoming *in, FrameType type, GBytes *body, gboolean *ret_done,
                             GError **error)
{
    *ret_done = TRUE;
    switch (type) {
    case FRAME_DATA:
        return take_data(in, body, error);
    case FRAME_PHASE:
        return take_phase(in, body, error);
    case FRAME_BLOCKS:
        return take_blocks(in, body, error);
    case FRAME_QEMU_CHANNEL:
        return take_qemu_channel(in, body, error);
    case FRAME_RAM_END:
        return take_ram_end(in, body, ret_done, error);
    default:
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL, _("%s is not for the destination"),
                    frame_type_name(type));
        return FALSE;
    }
}
