/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The connections between two engines, and what becomes of them. */
#include "config.h"

#include "tests/support/engine-pair.h"

static const guint8 proof[HELLO_PROOF_LEN] = "the proof both ends can compute";

static gboolean is_lost(const EngineEnd *end, guint channel)
{
    return channel == PAIR_MAIN ? session_is_lost(end->session)
                                : lane_is_lost(end->lanes[channel]);
}

/* Nothing of the connection before is read any more. */
static void drop_input(EngineEnd *end, guint channel, gboolean hello_only)
{
    g_byte_array_set_size(end->in[channel].bytes, 0);
    end->in[channel].done = 0;
    frame_reader_clear(&end->reader[channel]);
    frame_reader_init(&end->reader[channel], hello_only);
}

static gboolean needs_dial(const EnginePair *pair, guint channel)
{
    const EngineEnd *source = &pair->source;

    if (channel != PAIR_MAIN && !source->lanes[channel])
        return FALSE;
    if (channel == PAIR_MAIN ? session_state(source->session) == SESSION_SETUP
                             : lane_state(source->lanes[channel]) == LANE_NONE)
        return TRUE;
    return is_lost(source, channel) && source->noticed[channel];
}

static void dial(EnginePair *pair, guint channel)
{
    EngineEnd *source = &pair->source;
    g_autoptr(GError) error = NULL;
    gboolean ok;

    drop_input(source, channel, FALSE);
    drop_input(&pair->destination, channel, TRUE);
    source->cut[channel] = source->noticed[channel] = FALSE;
    /* What it says before it has read HELLO is said on the one before. */
    pair->destination.cut[channel] = TRUE;
    if (channel != PAIR_MAIN)
        ok = lane_on_channel_up(source->lanes[channel], proof, &error);
    else
        ok = session_on_channel_up(source->session,
                                   session_wants_proof(source->session) ? proof : NULL, &error);
    if (!ok)
        g_error("dial: %s", error->message);
}

gboolean engine_pair_dial(EnginePair *pair)
{
    gboolean any = FALSE;

    for (guint channel = 0; channel < PAIR_CHANNELS; channel++) {
        if (needs_dial(pair, channel)) {
            dial(pair, channel);
            any = TRUE;
        }
    }
    return any;
}

gboolean engine_pair_greet(EnginePair *pair, guint channel, const Frame *frame)
{
    EngineEnd *at = &pair->destination;
    g_auto(HelloBody) hello = { 0 };
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) told = NULL;

    if (hello_body_decode(frame->body, &hello, &error) &&
        (channel != PAIR_MAIN ? lane_judge_hello(at->lanes[channel], &hello, proof, &error) &&
                    lane_on_hello(at->lanes[channel], &hello, &error)
              : session_judge_hello(at->session, &hello, proof, &error) &&
                    session_on_hello(at->session, &hello, &error))) {
        at->cut[channel] = at->noticed[channel] = FALSE;
        return TRUE;
    }
    told = frame_new_error(error->code, error->message);
    g_byte_array_append(pair->source.in[channel].bytes, g_bytes_get_data(told, NULL),
                        g_bytes_get_size(told));
    return FALSE;
}

static gboolean cut(EnginePair *pair, guint channel)
{
    EngineEnd *ends[] = { &pair->source, &pair->destination };

    if (pair->cuts_left == 0 || pair->source.cut[channel])
        return FALSE;
    pair->cuts_left--;
    pair->cuts++;
    for (guint i = 0; i < 2; i++) {
        MemoryPipe *in = &ends[i]->in[channel];

        ends[i]->cut[channel] = TRUE;
        g_byte_array_set_size(in->bytes,
                              g_rand_int_range(pair->rand, in->done, in->bytes->len + 1));
    }
    return TRUE;
}

static gboolean notice(EnginePair *pair, EngineEnd *end, guint channel)
{
    if (!end->cut[channel] || end->noticed[channel])
        return FALSE;
    /* One that has been dialled already is not lost with the one before. */
    if (end == &pair->destination && !pair->source.cut[channel])
        return FALSE;
    end->noticed[channel] = TRUE;
    drop_input(end, channel, end == &pair->destination);
    if (channel != PAIR_MAIN)
        lane_on_channel_lost(end->lanes[channel], "cut");
    else
        session_on_channel_lost(end->session, "cut");
    return TRUE;
}

static guint random_channel(EnginePair *pair)
{
    guint n = pair->source.lane ? PAIR_BULK + pair->setup.bulk : 1;

    return n == 1 ? PAIR_MAIN : (guint)g_rand_int_range(pair->rand, 0, (gint)n);
}

gboolean engine_pair_link_step(EnginePair *pair)
{
    guint channel = random_channel(pair);
    EngineEnd *end = g_rand_boolean(pair->rand) ? &pair->source : &pair->destination;

    switch (g_rand_int_range(pair->rand, 0, 40)) {
    case 0:
        return cut(pair, channel);
    case 1:
    case 2:
    case 3:
        return notice(pair, end, channel);
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

    for (guint channel = 0; channel < PAIR_CHANNELS; channel++) {
        if (channel != PAIR_MAIN && !pair->source.lanes[channel])
            continue;
        any |= notice(pair, &pair->source, channel);
        any |= notice(pair, &pair->destination, channel);
    }
    return engine_pair_dial(pair) || any;
}
