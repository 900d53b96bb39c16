/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sessions and lanes over connections that are cut at random bytes, at any moment: whatever
 * happens, every byte arrives once and in order, both sides complete, and what is kept has a
 * limit. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "tests/support/cut-link.h"
#include "tests/support/session-pair.h"

#define CUTS_MAX 60
#define STEPS_MAX 2000000

/* One direction of what is carried: a stream of bytes made from a seed. */
typedef struct {
    guint32 seed;
    guint64 len;
    guint64 sent;
    gboolean sent_eof;
    guint64 received;
} Stream;

typedef struct {
    CutLink link;
    GRand *rand;
    Stream from[SESSION_SIDE_MAX];
    gboolean closed[SESSION_SIDE_MAX]; /* QEMU, by the session */
    gsize window;
    guint cuts_left;
    guint pongs;
} World;

static void world_clear(World *w)
{
    cut_link_clear(&w->link);
    g_rand_free(w->rand);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(World, world_clear)

static guint64 any_len(GRand *rand)
{
    static const gint most[] = { 1, 100, 20000, 600000 };

    return g_rand_int_range(rand, 0, most[g_rand_int_range(rand, 0, G_N_ELEMENTS(most))]);
}

static void world_init(World *w, guint32 seed)
{
    static const gsize windows[] = { HELLO_WINDOW_MIN, FRAME_PAGES_MAX, 300000 };

    memset(w, 0, sizeof *w);
    w->rand = g_rand_new_with_seed(seed);
    w->window = windows[seed % G_N_ELEMENTS(windows)];
    w->cuts_left = g_rand_int_range(w->rand, 0, CUTS_MAX);
    for (int side = 0; side < SESSION_SIDE_MAX; side++)
        w->from[side] = (Stream){ .seed = seed + side, .len = any_len(w->rand) };
}

/* ---- content ---- */

static guint8 *fill(Stream *stream, gsize len)
{
    guint8 *buf = g_malloc(FRAME_HEADER_LEN + len);

    for (gsize i = 0; i < len; i++)
        buf[FRAME_HEADER_LEN + i] = pair_byte(stream->seed, stream->sent + i);
    stream->sent += len;
    return buf;
}

static void check(Stream *stream, GBytes *body)
{
    gsize size;
    const guint8 *bytes = g_bytes_get_data(body, &size);

    assert_true(stream->received + size <= stream->sent);
    for (gsize i = 0; i < size; i++) {
        if (bytes[i] != pair_byte(stream->seed, stream->received + i))
            fail_msg("byte %" G_GUINT64_FORMAT " is wrong", stream->received + i);
    }
    stream->received += size;
}

static void check_stats(const World *w, const SessionStats *stats)
{
    assert_true(stats->in_flight_high <= w->window);
    assert_true(stats->held_high <= w->window);
}

/* ---- the link's steps ---- */

static gboolean link_step(World *w)
{
    SessionSide side = g_rand_int_range(w->rand, 0, SESSION_SIDE_MAX);
    gsize most = 1 + any_len(w->rand);

    switch (g_rand_int_range(w->rand, 0, 9)) {
    case 0:
    case 1:
    case 2:
        return cut_link_send(&w->link, side, most);
    case 3:
    case 4:
    case 5:
        return cut_link_receive(&w->link, side, most);
    case 6:
        return cut_link_dial(&w->link);
    case 7:
        return cut_link_notice(&w->link, side);
    default:
        if (w->cuts_left == 0 || g_rand_int_range(w->rand, 0, 8))
            return FALSE;
        w->cuts_left--;
        return cut_link_cut(&w->link);
    }
}

/* ---- a session ---- */

static Session *session_of(World *w, SessionSide side)
{
    SessionConfig config = { .side = side, .window = w->window, .features = SESSION_FEATURES_ALL };
    Session *s;

    memset(config.id, 0x11, sizeof config.id);
    memset(config.token, 0x22, sizeof config.token);
    s = session_new(&config);
    session_start(s, NULL);
    return s;
}

/* Both QEMUs come when they like. */
static void attach_step(World *w, SessionSide side)
{
    Session *s = w->link.end[side].session;

    if (session_state(s) == SESSION_AWAIT_QEMU && g_rand_int_range(w->rand, 0, 4) == 0)
        assert_true(session_on_qemu_attached(s, NULL));
}

static FrameType any_type(World *w, SessionSide side)
{
    Session *s = w->link.end[side].session;

    if (side == SESSION_SOURCE && (session_features(s) & SESSION_FEATURE_RAM) &&
        g_rand_boolean(w->rand))
        return FRAME_PAGES;
    return FRAME_DATA;
}

static void qemu_says_step(World *w, SessionSide side)
{
    Session *s = w->link.end[side].session;
    Stream *stream = &w->from[side];
    gsize room = MIN(session_send_room(s), FRAME_DATA_MAX);
    gsize wanted = 1 + any_len(w->rand);
    gsize len = MIN(MIN(wanted, room), stream->len - stream->sent);
    /* The destination's QEMU does not end before the source's has come. */
    gboolean may_end =
        side == SESSION_SOURCE ||
        session_state_is_active(session_state(w->link.end[SESSION_SOURCE].session));

    if (len > 0) {
        guint8 *buf = fill(stream, len);

        session_send(s, any_type(w, side), buf, len);
    } else if (stream->sent == stream->len && may_end && !stream->sent_eof &&
               session_state_is_active(session_state(s))) {
        stream->sent_eof = TRUE;
        assert_true(session_on_qemu_eof(s, NULL));
    }
}

static void qemu_takes_step(World *w, SessionSide side)
{
    Session *s = w->link.end[side].session;
    FrameType type;
    GBytes *body = session_received(s, &type);

    if (!body)
        return;
    check(&w->from[!side], body);
    session_consume(s);
}

static void ping_step(World *w, SessionSide side)
{
    Session *s = w->link.end[side].session;
    guint64 cookie;

    if (session_ping(s, w->pongs))
        assert_false(session_is_lost(s));
    if (session_take_pong(s, &cookie))
        w->pongs++;
}

static void session_step(World *w)
{
    SessionSide side = g_rand_int_range(w->rand, 0, SESSION_SIDE_MAX);

    switch (g_rand_int_range(w->rand, 0, 4)) {
    case 0:
        attach_step(w, side);
        break;
    case 1:
        qemu_says_step(w, side);
        break;
    case 2:
        qemu_takes_step(w, side);
        break;
    default:
        ping_step(w, side);
    }
}

static gboolean session_is_done(const CutEnd *end)
{
    return session_state(end->session) == SESSION_COMPLETED && !end->uses &&
           !session_is_lost(end->session);
}

/* A completed side whose peer has completed and gone, its BYE lost, waits in vain. */
static void give_up_step(World *w)
{
    CutEnd *source = &w->link.end[SESSION_SOURCE];
    CutEnd *destination = &w->link.end[SESSION_DESTINATION];

    destination->gone = session_is_done(destination);
    if (session_is_done(source) && session_is_lost(destination->session)) {
        assert_int_equal(session_state(destination->session), SESSION_COMPLETED);
        session_on_channel_gone(destination->session, "nobody came");
    }
}

static void sessions_end_well(World *w)
{
    for (guint step = 0; step < STEPS_MAX; step++) {
        CutEnd *end = w->link.end;

        link_step(w);
        session_step(w);
        give_up_step(w);
        if (session_is_done(&end[0]) && session_is_done(&end[1]))
            return;
        for (int side = 0; side < SESSION_SIDE_MAX; side++) {
            if (session_state(end[side].session) == SESSION_FAILED)
                fail_msg("the %s failed: %s", session_side_name(side),
                         session_reason(end[side].session));
        }
    }
    fail_msg("%s and %s after %u cuts", session_state_name(session_state(w->link.end[0].session)),
             session_state_name(session_state(w->link.end[1].session)), w->link.cuts);
}

static void sessions_carry_every_byte_once_whatever_is_cut(void **state)
{
    guint cuts = 0;
    guint64 resumes = 0, again = 0;

    for (guint32 seed = 0; seed < 600; seed++) {
        g_auto(World) w;

        world_init(&w, seed);
        cut_link_init_sessions(&w.link, session_of(&w, SESSION_SOURCE),
                               session_of(&w, SESSION_DESTINATION), w.rand);
        sessions_end_well(&w);
        for (int side = 0; side < SESSION_SIDE_MAX; side++) {
            SessionStats stats;

            assert_true(w.from[side].received == w.from[side].len);
            session_get_stats(w.link.end[side].session, &stats);
            check_stats(&w, &stats);
            assert_true(stats.bytes_sent == w.from[side].len);
            assert_true(stats.bytes_received == w.from[!side].len);
            resumes += stats.resumes;
            again += stats.bytes_sent_again;
        }
        cuts += w.link.cuts;
    }
    /* It was worth the name. */
    assert_true(cuts > 2000 && resumes > 1000 && again > 1000000);
}

/* ---- a lane ---- */

static Lane *lane_of(World *w, SessionSide side)
{
    LaneConfig config = {
        .side = side,
        .kind = CHANNEL_PREEMPT,
        .channel = 1,
        .window = MAX(w->window, FRAME_PAGES_MAX),
        .features = SESSION_FEATURES_ALL,
    };

    memset(config.id, 0x11, sizeof config.id);
    w->window = config.window;
    return lane_new(&config);
}

static void lane_says_step(World *w, SessionSide side)
{
    Lane *lane = w->link.end[side].lane;
    Stream *stream = &w->from[side];
    gboolean is_source = side == SESSION_SOURCE;
    gsize left = stream->len - stream->sent;
    gsize len = is_source ? 1 + any_len(w->rand) : 16 + any_len(w->rand) % 48;

    len = MIN(MIN(len, lane_send_room(lane)), left);
    if (len < (is_source ? 1 : 16))
        return;
    lane_send(lane, is_source ? FRAME_PAGES : FRAME_REQUEST, fill(stream, len), len);
}

static void lane_takes_step(World *w, SessionSide side)
{
    Lane *lane = w->link.end[side].lane;
    FrameType type;
    GBytes *body = lane_received(lane, &type);

    if (!body)
        return;
    check(&w->from[!side], body);
    lane_consume(lane);
}

static gboolean all_is_carried(const World *w)
{
    const Stream *pages = &w->from[SESSION_SOURCE], *requests = &w->from[SESSION_DESTINATION];

    return lane_state(w->link.end[0].lane) >= LANE_OPEN &&
           lane_state(w->link.end[1].lane) >= LANE_OPEN && pages->received == pages->len &&
           requests->received == requests->sent &&
           requests->len - requests->sent < 16;
}

static void lane_step(World *w)
{
    SessionSide side = g_rand_int_range(w->rand, 0, SESSION_SIDE_MAX);
    Lane *lane = w->link.end[side].lane;

    switch (g_rand_int_range(w->rand, 0, 4)) {
    case 0:
        lane_says_step(w, side);
        break;
    case 1:
        lane_takes_step(w, side);
        break;
    case 2:
        lane_ping(lane, 1);
        break;
    default:
        /* The session ends, at one side first. */
        if (all_is_carried(w))
            lane_finish(lane);
    }
}

static void lanes_end_well(World *w)
{
    for (guint step = 0; step < STEPS_MAX; step++) {
        CutEnd *end = w->link.end;

        link_step(w);
        lane_step(w);
        if (lane_is_through(end[0].lane) && lane_is_through(end[1].lane))
            return;
    }
    fail_msg("%s and %s after %u cuts", lane_state_name(lane_state(w->link.end[0].lane)),
             lane_state_name(lane_state(w->link.end[1].lane)), w->link.cuts);
}

static void lanes_carry_every_byte_once_whatever_is_cut(void **state)
{
    guint cuts = 0;
    guint64 resumes = 0, again = 0;

    for (guint32 seed = 0; seed < 600; seed++) {
        g_auto(World) w;

        world_init(&w, seed);
        w.from[SESSION_DESTINATION].len %= 20000;
        cut_link_init_lanes(&w.link, lane_of(&w, SESSION_SOURCE),
                            lane_of(&w, SESSION_DESTINATION), w.rand);
        lanes_end_well(&w);
        assert_true(all_is_carried(&w));
        for (int side = 0; side < SESSION_SIDE_MAX; side++) {
            SessionStats stats;

            assert_int_equal(lane_state(w.link.end[side].lane), LANE_ENDED);
            lane_get_stats(w.link.end[side].lane, &stats);
            check_stats(&w, &stats);
            resumes += stats.resumes;
            again += stats.bytes_sent_again;
        }
        cuts += w.link.cuts;
    }
    assert_true(cuts > 2000 && resumes > 1000 && again > 1000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_carry_every_byte_once_whatever_is_cut),
        cmocka_unit_test(lanes_carry_every_byte_once_whatever_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
