/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/cut-link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

static const guint8 proof[HELLO_PROOF_LEN] = "the proof both ends can compute";

/* ---- the two kinds of machines ---- */

static gsize end_output(CutEnd *end, const guint8 **ret_bytes)
{
    if (end->session) {
        session_settle(end->session);
        return session_output(end->session, ret_bytes);
    }
    lane_settle(end->lane);
    return lane_output(end->lane, ret_bytes);
}

static void end_output_done(CutEnd *end, gsize len)
{
    if (end->session)
        session_output_done(end->session, len);
    else
        lane_output_done(end->lane, len);
}

static void end_frame(CutEnd *end, const Frame *frame)
{
    if (end->session)
        session_on_frame(end->session, frame);
    else
        lane_on_frame(end->lane, frame);
}

static gboolean end_hello(CutEnd *end, const HelloBody *hello, GError **error)
{
    if (end->session)
        return session_judge_hello(end->session, hello, proof, error) &&
               session_on_hello(end->session, hello, error);
    return lane_judge_hello(end->lane, hello, proof, error) &&
           lane_on_hello(end->lane, hello, error);
}

static void end_lost(CutEnd *end)
{
    if (end->session)
        session_on_channel_lost(end->session, "cut");
    else
        lane_on_channel_lost(end->lane, "cut");
}

static gboolean end_is_lost(const CutEnd *end)
{
    return end->session ? session_is_lost(end->session) : lane_is_lost(end->lane);
}

static gboolean end_is_new(const CutEnd *end)
{
    return end->session ? session_state(end->session) == SESSION_SETUP
                        : lane_state(end->lane) == LANE_NONE;
}

static void end_dial(CutEnd *end)
{
    g_autoptr(GError) error = NULL;
    gboolean ok;

    if (end->session)
        ok = session_on_channel_up(end->session,
                                   session_wants_proof(end->session) ? proof : NULL, &error);
    else
        ok = lane_on_channel_up(end->lane, proof, &error);
    if (!ok)
        fail_msg("dial: %s", error->message);
}

/* Whether it wants to be without a connection from here on. */
static gboolean end_closes(CutEnd *end)
{
    if (end->session)
        return (session_take_actions(end->session) & SESSION_DO_CLOSE_CHANNEL) != 0;
    return lane_is_through(end->lane);
}

/* ---- connections ---- */

static void connection_free(gpointer data)
{
    CutConnection *c = data;

    for (int side = 0; side < SESSION_SIDE_MAX; side++) {
        g_byte_array_unref(c->to[side].bytes);
        frame_reader_clear(&c->to[side].reader);
    }
    g_free(c);
}

static void init(CutLink *link, CutEnd source, CutEnd destination, GRand *rand)
{
    *link = (CutLink){
        .end = { source, destination },
        .connections = g_ptr_array_new_with_free_func(connection_free),
        .rand = rand,
    };
}

void cut_link_init_sessions(CutLink *link, Session *source, Session *destination, GRand *rand)
{
    init(link, (CutEnd){ .session = source }, (CutEnd){ .session = destination }, rand);
}

void cut_link_init_lanes(CutLink *link, Lane *source, Lane *destination, GRand *rand)
{
    init(link, (CutEnd){ .lane = source }, (CutEnd){ .lane = destination }, rand);
}

void cut_link_clear(CutLink *link)
{
    for (int side = 0; side < SESSION_SIDE_MAX; side++) {
        session_free(link->end[side].session);
        lane_free(link->end[side].lane);
    }
    g_ptr_array_unref(link->connections);
}

static SessionSide other(SessionSide side)
{
    return side == SESSION_SOURCE ? SESSION_DESTINATION : SESSION_SOURCE;
}

static gsize under_way(const CutWay *way)
{
    return way->bytes->len - way->done;
}

static void leave(CutConnection *c, SessionSide side)
{
    c->left[side] = TRUE;
    c->to[other(side)].closed = TRUE;
    frame_reader_clear(&c->to[side].reader);
}

gboolean cut_link_dial(CutLink *link)
{
    CutEnd *source = &link->end[SESSION_SOURCE];
    CutConnection *c;

    if (source->uses || !(end_is_new(source) || end_is_lost(source)))
        return FALSE;
    if (link->end[SESSION_DESTINATION].gone) {
        if (source->session)
            session_on_channel_gone(source->session, "unknown session");
        else
            lane_on_channel_gone(source->lane, "unknown session");
        return TRUE;
    }
    c = g_new0(CutConnection, 1);
    for (int side = 0; side < SESSION_SIDE_MAX; side++) {
        c->to[side].bytes = g_byte_array_new();
        frame_reader_init(&c->to[side].reader, side == SESSION_DESTINATION);
    }
    g_ptr_array_add(link->connections, c);
    source->uses = c;
    end_dial(source);
    return TRUE;
}

gboolean cut_link_cut(CutLink *link)
{
    CutConnection *c = link->end[SESSION_SOURCE].uses;

    if (!c || c->dead)
        return FALSE;
    c->dead = TRUE;
    for (int side = 0; side < SESSION_SIDE_MAX; side++) {
        gsize arrives = g_rand_int_range(link->rand, 0, under_way(&c->to[side]) + 1);

        g_byte_array_set_size(c->to[side].bytes, c->to[side].done + arrives);
    }
    link->cuts++;
    return TRUE;
}

gboolean cut_link_notice(CutLink *link, SessionSide side)
{
    CutEnd *end = &link->end[side];
    CutConnection *c = end->uses;

    if (!c || !(c->dead || (c->to[side].closed && under_way(&c->to[side]) == 0)))
        return FALSE;
    leave(c, side);
    end->uses = NULL;
    end_lost(end);
    return TRUE;
}

/* ---- bytes ---- */

gboolean cut_link_send(CutLink *link, SessionSide side, gsize most)
{
    CutEnd *end = &link->end[side];
    CutConnection *c = end->uses;
    const guint8 *bytes;
    gsize len;

    if (!c) {
        /* A side without a connection has nothing to say, but last words that nobody hears. */
        if (end_is_lost(end))
            assert_int_equal(end_output(end, &bytes), 0);
        return FALSE;
    }
    len = MIN(end_output(end, &bytes), most);
    if (len == 0)
        return FALSE;
    if (!c->dead && !c->left[other(side)])
        g_byte_array_append(c->to[other(side)].bytes, bytes, len);
    end_output_done(end, len);
    return TRUE;
}

static void greet(CutLink *link, CutConnection *c, const Frame *frame)
{
    CutEnd *end = &link->end[SESSION_DESTINATION];
    g_auto(HelloBody) hello = { 0 };
    g_autoptr(GError) error = NULL;

    if (hello_body_decode(frame->body, &hello, &error) && end_hello(end, &hello, &error)) {
        if (end->uses)
            leave(end->uses, SESSION_DESTINATION);
        end->uses = c;
        return;
    }
    link->refused++;
    if (!c->dead) {
        g_autoptr(GBytes) told = frame_new_error(error->code, error->message);

        g_byte_array_append(c->to[SESSION_SOURCE].bytes, g_bytes_get_data(told, NULL),
                            g_bytes_get_size(told));
    }
    leave(c, SESSION_DESTINATION);
}

static gboolean receive_on(CutLink *link, SessionSide side, CutConnection *c, gsize most)
{
    CutEnd *end = &link->end[side];
    CutWay *way = &c->to[side];
    g_auto(Frame) frame = { 0 };
    g_autoptr(GError) error = NULL;
    gboolean complete;
    guint8 *space;
    gsize len = MIN(MIN(frame_reader_space(&way->reader, &space), most), under_way(way));

    if (len == 0)
        return FALSE;
    memcpy(space, way->bytes->data + way->done, len);
    way->done += len;
    if (!frame_reader_advance(&way->reader, len, &frame, &complete, &error))
        fail_msg("%s", error->message);
    if (!complete)
        return TRUE;
    if (c != end->uses)
        greet(link, c, &frame);
    else
        end_frame(end, &frame);
    if (end->uses && end_closes(end)) {
        leave(end->uses, side);
        end->uses = NULL;
    }
    return TRUE;
}

gboolean cut_link_receive(CutLink *link, SessionSide side, gsize most)
{
    guint count = link->connections->len;
    guint first;

    if (side == SESSION_SOURCE)
        return link->end[side].uses && receive_on(link, side, link->end[side].uses, most);
    if (count == 0 || link->end[side].gone)
        return FALSE;
    /* In any order: one that was given up may be read after the one that took its place. */
    first = g_rand_int_range(link->rand, 0, count);
    for (guint i = 0; i < count; i++) {
        CutConnection *c = link->connections->pdata[(first + i) % count];

        if (!c->left[side] && receive_on(link, side, c, most))
            return TRUE;
    }
    return FALSE;
}

void cut_link_run(CutLink *link)
{
    while (cut_link_dial(link) || cut_link_send(link, SESSION_SOURCE, G_MAXSIZE) ||
           cut_link_send(link, SESSION_DESTINATION, G_MAXSIZE) ||
           cut_link_receive(link, SESSION_SOURCE, G_MAXSIZE) ||
           cut_link_receive(link, SESSION_DESTINATION, G_MAXSIZE))
        ;
}
