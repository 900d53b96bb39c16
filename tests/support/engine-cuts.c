/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The connections between two engines, and what becomes of them. */
#include "config.h"

#include "tests/support/engine-pair.h"

static const guint8 proof[HELLO_PROOF_LEN] = "the proof both ends can compute";

static gboolean is_lost(const EngineEnd *end, gboolean lane)
{
    return lane ? lane_is_lost(end->lane) : session_is_lost(end->session);
}

/* Nothing of the connection before is read any more. */
static void drop_input(EngineEnd *end, gboolean lane, gboolean hello_only)
{
    g_byte_array_set_size(end->in[lane].bytes, 0);
    end->in[lane].done = 0;
    frame_reader_clear(&end->reader[lane]);
    frame_reader_init(&end->reader[lane], hello_only);
}

static gboolean needs_dial(const EnginePair *pair, gboolean lane)
{
    const EngineEnd *source = &pair->source;

    if (lane && !source->lane)
        return FALSE;
    if (lane ? lane_state(source->lane) == LANE_NONE
             : session_state(source->session) == SESSION_SETUP)
        return TRUE;
    return is_lost(source, lane) && source->noticed[lane];
}

static void dial(EnginePair *pair, gboolean lane)
{
    EngineEnd *source = &pair->source;
    g_autoptr(GError) error = NULL;
    gboolean ok;

    drop_input(source, lane, FALSE);
    drop_input(&pair->destination, lane, TRUE);
    source->cut[lane] = source->noticed[lane] = FALSE;
    /* What it says before it has read HELLO is said on the one before. */
    pair->destination.cut[lane] = TRUE;
    if (lane)
        ok = lane_on_channel_up(source->lane, proof, &error);
    else
        ok = session_on_channel_up(source->session,
                                   session_wants_proof(source->session) ? proof : NULL, &error);
    if (!ok)
        g_error("dial: %s", error->message);
}

gboolean engine_pair_dial(EnginePair *pair)
{
    gboolean any = FALSE;

    for (guint lane = 0; lane < 2; lane++) {
        if (needs_dial(pair, lane)) {
            dial(pair, lane);
            any = TRUE;
        }
    }
    return any;
}

gboolean engine_pair_greet(EnginePair *pair, gboolean lane, const Frame *frame)
{
    EngineEnd *at = &pair->destination;
    g_auto(HelloBody) hello = { 0 };
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) told = NULL;

    if (hello_body_decode(frame->body, &hello, &error) &&
        (lane ? lane_judge_hello(at->lane, &hello, proof, &error) &&
                    lane_on_hello(at->lane, &hello, &error)
              : session_judge_hello(at->session, &hello, proof, &error) &&
                    session_on_hello(at->session, &hello, &error))) {
        at->cut[lane] = at->noticed[lane] = FALSE;
        return TRUE;
    }
    told = frame_new_error(error->code, error->message);
    g_byte_array_append(pair->source.in[lane].bytes, g_bytes_get_data(told, NULL),
                        g_bytes_get_size(told));
    return FALSE;
}

static gboolean cut(EnginePair *pair, gboolean lane)
{
    EngineEnd *ends[] = { &pair->source, &pair->destination };

    if (pair->cuts_left == 0 || pair->source.cut[lane])
        return FALSE;
    pair->cuts_left--;
    pair->cuts++;
    for (guint i = 0; i < 2; i++) {
        MemoryPipe *in = &ends[i]->in[lane];

        ends[i]->cut[lane] = TRUE;
        g_byte_array_set_size(in->bytes,
                              g_rand_int_range(pair->rand, in->done, in->bytes->len + 1));
    }
    return TRUE;
}

static gboolean notice(EnginePair *pair, EngineEnd *end, gboolean lane)
{
    if (!end->cut[lane] || end->noticed[lane])
        return FALSE;
    /* One that has been dialled already is not lost with the one before. */
    if (end == &pair->destination && !pair->source.cut[lane])
        return FALSE;
    end->noticed[lane] = TRUE;
    drop_input(end, lane, end == &pair->destination);
    if (lane)
        lane_on_channel_lost(end->lane, "cut");
    else
        session_on_channel_lost(end->session, "cut");
    return TRUE;
}

gboolean engine_pair_link_step(EnginePair *pair)
{
    gboolean lane = pair->source.lane && g_rand_boolean(pair->rand);
    EngineEnd *end = g_rand_boolean(pair->rand) ? &pair->source : &pair->destination;

    switch (g_rand_int_range(pair->rand, 0, 40)) {
    case 0:
        return cut(pair, lane);
    case 1:
    case 2:
    case 3:
        return notice(pair, end, lane);
    case 4:
    case 5:
        return engine_pair_dial(pair);
    default:
        return FALSE;
    }
}

gboolean engine_pair_heal(EnginePair *pair)
{
    gboolean any = FALSE;

    for (guint lane = 0; lane < (pair->source.lane ? 2 : 1); lane++) {
        any |= notice(pair, &pair->source, lane);
        any |= notice(pair, &pair->destination, lane);
    }
    return engine_pair_dial(pair) || any;
}
