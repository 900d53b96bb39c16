/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The law, once for each round (the time in which all that was in flight at its start is
 * acknowledged):
 *
 *     bdp   = in flight when a frame was sent * rtt_min / its round trip (the round's largest)
 *     limit goes half the way to   bdp + the frame + the queue aimed at
 *
 * The frame with the largest product is the one that met the shortest queue: wake-ups that come
 * late lengthen some round trips of a round, seldom all. With the frame itself added, the queue
 * aimed at is what still stands at the bottleneck when the next frame gets there: just enough that
 * it does not run dry. Everything is relative to what was in flight, so a change of rate needs no
 * detection, and a link that lets a burst pass misleads for a few rounds only.
 *
 * The limit doubles each round at first, and grows ever faster when no queue shows for several
 * rounds. rtt_min would creep up with a queue that never drains: so when it has not been seen for a
 * while, the queue is drained for a few frames. */
#include "config.h"

#include "ram/flow.h"

#define LIMIT_START (64 * 1024)

/* The queue aimed at by default: bytes, but at least this time's worth of the link (what a wake-up
 * costs does not become less on a faster link), and more when wake-ups are seen to be later. */
#define QUEUE_TARGET (16 * 1024)
#define QUEUE_TARGET_US 150
#define QUEUE_TARGET_US_MAX 1000
#define LATE_FACTOR 2

/* Rounds without a queue before the limit grows faster than one step a round. */
#define PATIENCE 2

/* rtt_min is measured anew when it was not seen for this long, or for that many round trips. */
#define PROBE_INTERVAL_US G_USEC_PER_SEC
#define PROBE_INTERVAL_RTTS 250
/* Frames to measure it with, one at a time; fewer on a link where that takes longer. */
#define PROBE_FRAMES 4
#define PROBE_MAX_US 2000

/* The rate is the highest of that many intervals of at least that length. */
#define RATE_INTERVALS 8
#define RATE_INTERVAL_US (10 * 1000)

/* Frames whose sending is remembered; more in flight are measured less often. */
#define SENT_MAX 1024

typedef struct {
    guint64 end;       /* bytes sent, with this frame */
    guint64 in_flight; /* with this frame */
    gsize len;
    gint64 time;
} Sent;

typedef enum {
    PROBE_NONE,
    PROBE_DRAIN,   /* nothing is sent until nothing is in flight */
    PROBE_MEASURE, /* one frame at a time */
} ProbeState;

struct Flow {
    guint64 max;
    guint64 queue_target; /* 0: the default */
    guint64 limit;
    gboolean starting; /* the limit doubles */
    guint quiet_rounds; /* in a row, without a queue */

    guint64 sent;
    guint64 acked;
    guint64 idle_until; /* frames up to there were sent when there was little to send */
    Sent ring[SENT_MAX];
    guint ring_first;
    guint ring_len;

    /* the round */
    guint64 round_end; /* over when this much is acknowledged */
    guint64 round_bdp; /* largest so far, with its frame's values */
    guint64 round_in_flight;
    gsize round_len;
    double round_pace;

    double pace;    /* of the last round's best frame: its round trip / what was in flight */
    double late_us; /* smoothed: how much longer others take than at that pace */

    gint64 rtt_us; /* smoothed; 0: none yet */
    gint64 rtt_min_us;
    gint64 rtt_min_time; /* when it was last seen */
    ProbeState probe;
    gint64 probe_start;
    gint64 probe_min_us; /* what the frames of the probe took; the shortest */
    gsize probe_len;
    guint probe_frames;

    guint64 rates[RATE_INTERVALS]; /* bytes/s */
    guint rates_next;
    gint64 rate_start;  /* of the interval under way */
    guint64 rate_acked; /* at its start; 0: none is under way */
    gboolean rate_idle;
};

Flow *flow_new(const FlowConfig *config)
{
    Flow *flow = g_new0(Flow, 1);

    flow->max = MAX(config->max, 1);
    flow->queue_target = config->queue_target;
    flow->limit = MIN(LIMIT_START, flow->max);
    flow->starting = TRUE;
    return flow;
}

void flow_free(Flow *flow)
{
    g_free(flow);
}

static guint64 in_flight(const Flow *flow)
{
    return flow->sent - flow->acked;
}

/* a * b / c without overflow for any bytes and microseconds there are; c > 0. */
static guint64 scale(guint64 a, gint64 b, gint64 c)
{
    return (guint64)((double)a * (double)b / (double)c);
}

/* ---- rate ---- */

static guint64 highest_rate(const Flow *flow)
{
    guint64 highest = 0;

    for (guint i = 0; i < RATE_INTERVALS; i++)
        highest = MAX(highest, flow->rates[i]);
    return highest;
}

/* An interval in which the sender had nothing to send says that the link is at least so fast. */
static void finish_rate_interval(Flow *flow, gint64 us)
{
    guint64 rate = scale(flow->acked - flow->rate_acked, G_USEC_PER_SEC, us);

    if (flow->rate_idle && rate <= highest_rate(flow))
        return;
    flow->rates[flow->rates_next] = rate;
    flow->rates_next = (flow->rates_next + 1) % RATE_INTERVALS;
}

static void measure_rate(Flow *flow, gint64 now_us)
{
    gint64 us = now_us - flow->rate_start;

    if (flow->rate_acked > 0 && us < MAX(RATE_INTERVAL_US, flow->rtt_us))
        return;
    if (flow->rate_acked > 0)
        finish_rate_interval(flow, us);
    flow->rate_start = now_us;
    flow->rate_acked = flow->acked;
    flow->rate_idle = FALSE;
}

static guint64 queue_target(const Flow *flow)
{
    gint64 us = CLAMP((gint64)(LATE_FACTOR * flow->late_us), QUEUE_TARGET_US, QUEUE_TARGET_US_MAX);

    if (flow->queue_target > 0)
        return flow->queue_target;
    return MAX(QUEUE_TARGET, scale(highest_rate(flow), us, G_USEC_PER_SEC));
}

/* What a frame of that length takes on the link by itself; 0: not known. */
static gint64 own_time(const Flow *flow, gsize len)
{
    guint64 rate = highest_rate(flow);

    return rate > 0 ? (gint64)scale(len, G_USEC_PER_SEC, (gint64)rate) : 0;
}

/* ---- the limit ---- */

static void set_limit(Flow *flow, guint64 limit)
{
    flow->limit = MIN(MAX(limit, FLOW_LIMIT_MIN), flow->max);
}

/* want: what the round's best frame says. */
static void steer(Flow *flow, guint64 want)
{
    guint64 step;

    if (want < flow->limit) {
        flow->quiet_rounds = 0;
        set_limit(flow, want + (flow->limit - want) / 2);
        return;
    }
    step = (want - flow->limit) / 2;
    if (flow->quiet_rounds > PATIENCE)
        step <<= MIN(flow->quiet_rounds - PATIENCE, 16);
    set_limit(flow, flow->limit + MIN(step, flow->limit));
}

static void finish_round(Flow *flow)
{
    guint64 target = queue_target(flow);
    guint64 queue = flow->round_in_flight - flow->round_bdp;
    guint64 doubt = flow->starting ? flow->round_in_flight / 8 : 0; /* rtt_min is from few frames */
    gboolean is_queue = queue > flow->round_len + MAX(target / 2, doubt);
    guint64 want = flow->round_bdp + flow->round_len + target;

    flow->pace = flow->round_pace;
    flow->quiet_rounds = is_queue ? 0 : flow->quiet_rounds + 1;
    /* Little was in flight: without a queue that says nothing of more. */
    if (!is_queue && want < flow->limit)
        return;
    if (flow->starting && !is_queue) {
        set_limit(flow, flow->limit * 2);
    } else if (flow->starting) {
        flow->starting = FALSE;
        set_limit(flow, MIN(want, flow->limit));
    } else {
        steer(flow, want);
    }
}

static void begin_round(Flow *flow)
{
    flow->round_end = flow->sent;
    flow->round_bdp = 0;
    flow->round_in_flight = 0;
}

static void count_for_round(Flow *flow, const Sent *frame, gint64 rtt)
{
    guint64 bdp = MIN(scale(frame->in_flight, flow->rtt_min_us, rtt), frame->in_flight);
    double late = (double)rtt - flow->pace * (double)frame->in_flight;

    if (flow->pace > 0)
        flow->late_us += (MAX(late, 0) - flow->late_us) / 16;
    if (bdp <= flow->round_bdp)
        return;
    flow->round_bdp = bdp;
    flow->round_in_flight = frame->in_flight;
    flow->round_len = frame->len;
    flow->round_pace = (double)rtt / (double)frame->in_flight;
}

/* ---- the shortest round trip ---- */

static void end_probe(Flow *flow, gint64 now_us)
{
    /* What the frame itself takes is no reason for a longer one: the old one may be from a shorter
     * frame, or one that passed in a burst. And a few frames do not meet the shortest exactly. */
    if (flow->probe_min_us - own_time(flow, flow->probe_len) >
        flow->rtt_min_us + flow->rtt_min_us / 4)
        flow->rtt_min_us = flow->probe_min_us;
    flow->rtt_min_time = now_us;
    flow->probe = PROBE_NONE;
    begin_round(flow);
}

static void run_probe(Flow *flow, const Sent *frame, gint64 rtt, gint64 now_us)
{
    gint64 interval = MAX(PROBE_INTERVAL_US, PROBE_INTERVAL_RTTS * flow->rtt_min_us);

    switch (flow->probe) {
    case PROBE_NONE:
        if (now_us - flow->rtt_min_time > interval)
            flow->probe = PROBE_DRAIN;
        break;
    case PROBE_DRAIN:
        break;
    case PROBE_MEASURE:
        if (rtt < flow->probe_min_us) {
            flow->probe_min_us = rtt;
            flow->probe_len = frame->len;
        }
        flow->probe_frames++;
        if (flow->probe_frames >= PROBE_FRAMES || now_us - flow->probe_start > PROBE_MAX_US)
            end_probe(flow, now_us);
        break;
    }
    if (flow->probe == PROBE_DRAIN && in_flight(flow) == 0) {
        flow->probe = PROBE_MEASURE;
        flow->probe_start = now_us;
        flow->probe_min_us = G_MAXINT64;
        flow->probe_frames = 0;
    }
}

static void measure_rtt(Flow *flow, gint64 rtt, gint64 now_us)
{
    flow->rtt_us = flow->rtt_us == 0 ? rtt : flow->rtt_us + (rtt - flow->rtt_us) / 8;
    if (flow->rtt_min_us == 0 || rtt <= flow->rtt_min_us) {
        flow->rtt_min_us = rtt;
        flow->rtt_min_time = now_us;
    }
}

/* ---- events ---- */

guint64 flow_room(const Flow *flow)
{
    guint64 used = in_flight(flow);

    if (flow->probe != PROBE_NONE)
        return used > 0 ? 0 : MIN(FLOW_LIMIT_MIN, flow->max);
    return used < flow->limit ? flow->limit - used : 0;
}

void flow_on_sent(Flow *flow, gsize len, gint64 now_us)
{
    Sent *frame;

    if (len == 0)
        return;
    flow->sent += len;
    if (flow->ring_len == SENT_MAX)
        return;
    frame = &flow->ring[(flow->ring_first + flow->ring_len++) % SENT_MAX];
    frame->end = flow->sent;
    frame->in_flight = in_flight(flow);
    frame->len = len;
    frame->time = now_us;
}

void flow_on_idle(Flow *flow)
{
    flow->idle_until = flow->sent;
    flow->rate_idle = TRUE;
}

/* Takes the acknowledged frames out; the newest one is the one whose acknowledgement did not wait
 * for others to be acknowledged with. FALSE: there was none. */
static gboolean take_acked(Flow *flow, Sent *ret_newest)
{
    gboolean found = FALSE;

    while (flow->ring_len > 0 && flow->ring[flow->ring_first].end <= flow->acked) {
        *ret_newest = flow->ring[flow->ring_first];
        flow->ring_first = (flow->ring_first + 1) % SENT_MAX;
        flow->ring_len--;
        found = TRUE;
    }
    return found;
}

void flow_on_acked(Flow *flow, guint64 acked_total, gint64 now_us)
{
    Sent newest;
    gint64 rtt;

    if (acked_total <= flow->acked)
        return;
    flow->acked = MIN(acked_total, flow->sent);
    measure_rate(flow, now_us);
    if (!take_acked(flow, &newest))
        return;
    rtt = MAX(now_us - newest.time, 1);
    measure_rtt(flow, rtt, now_us);
    if (flow->probe == PROBE_NONE && newest.end > flow->idle_until)
        count_for_round(flow, &newest, rtt);
    run_probe(flow, &newest, rtt, now_us);
    if (flow->acked >= flow->round_end) {
        if (flow->round_bdp > 0)
            finish_round(flow);
        begin_round(flow);
    }
}

void flow_get_stats(const Flow *flow, FlowStats *ret_stats)
{
    *ret_stats = (FlowStats){
        .limit = flow->limit,
        .in_flight = in_flight(flow),
        .rate = highest_rate(flow),
        .rtt_us = (guint64)flow->rtt_us,
        .rtt_min_us = (guint64)flow->rtt_min_us,
    };
}
