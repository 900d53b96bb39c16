/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/engine-pair.h"

#include <poll.h>
#include <string.h>

#define WORKER_WAIT_MS 10000

/* ---- pipes ---- */

static gsize pipe_len(const MemoryPipe *pipe)
{
    return pipe->bytes->len - pipe->done;
}

static void pipe_put(MemoryPipe *pipe, const guint8 *bytes, gsize len)
{
    g_byte_array_append(pipe->bytes, bytes, len);
}

static void pipe_taken(MemoryPipe *pipe, gsize len)
{
    pipe->done += len;
    if (pipe_len(pipe) == 0) {
        g_byte_array_set_size(pipe->bytes, 0);
        pipe->done = 0;
    }
}

/* ---- life ---- */

static guint64 features_of(const EngineSetup *setup)
{
    guint64 features = SESSION_FEATURES_ALL;

    if (setup->no_lane)
        return SESSION_FEATURE_RESUME;
    if (setup->methods)
        features = (features & ~SESSION_FEATURES_PACK) | setup->methods;
    return setup->bulk ? features : features & ~SESSION_FEATURE_BULK;
}

static void end_init(EnginePair *pair, EngineEnd *end, SessionSide side)
{
    const EngineSetup *setup = &pair->setup;
    SessionConfig config = {
        .side = side,
        .window = setup->window,
        .features = features_of(setup),
    };
    LaneConfig lane = {
        .side = side,
        .kind = CHANNEL_PREEMPT,
        .channel = 1,
        .window = setup->window,
        .features = config.features,
    };
    OutgoingConfig outgoing = {
        .stage = setup->stage,
        .window = setup->window,
        .compress = setup->compress,
        .worker = setup->worker,
    };

    *end = (EngineEnd){ .session = session_new(&config), .greeted = side == SESSION_SOURCE };
    if (!setup->no_lane)
        end->lane = end->lanes[PAIR_PREEMPT] = lane_new(&lane);
    lane.kind = CHANNEL_BULK;
    for (guint i = 0; i < setup->bulk; i++) {
        lane.channel = (guint16)(i + 1);
        end->lanes[PAIR_BULK + i] = lane_new(&lane);
    }
    end->engine = engine_new(end->session, side == SESSION_SOURCE ? &outgoing : NULL);
    for (guint i = 0; i < PAIR_CHANNELS; i++) {
        frame_reader_init(&end->reader[i], side == SESSION_DESTINATION);
        end->in[i].bytes = g_byte_array_new();
    }
    session_start(end->session, NULL);
}

static void end_clear(EngineEnd *end)
{
    engine_free(end->engine);
    session_free(end->session);
    for (guint i = 0; i < PAIR_CHANNELS; i++) {
        lane_free(end->lanes[i]);
        frame_reader_clear(&end->reader[i]);
        g_byte_array_unref(end->in[i].bytes);
    }
    g_free(end->error);
}

void engine_pair_move_links(EnginePair *pair)
{
    gboolean moved;

    do {
        moved = FALSE;
        for (guint step = STEP_SEND; step <= STEP_RECEIVE_BACK_BULK; step++)
            moved |= engine_pair_step(pair, step, G_MAXSIZE);
    } while (moved);
}

static void begin(EnginePair *pair)
{
    end_init(pair, &pair->source, SESSION_SOURCE);
    end_init(pair, &pair->destination, SESSION_DESTINATION);
    engine_pair_dial(pair);
    engine_pair_move_links(pair);
    session_on_qemu_attached(pair->destination.session, NULL);
    engine_pair_move_links(pair);
    session_on_qemu_attached(pair->source.session, NULL);
    pair->qemu_destination.attached[MODEL_MAIN] = TRUE;
}

void engine_pair_init(EnginePair *pair, const EngineSetup *setup, const ModelGuest *guest,
                      guint32 seed)
{
    *pair = (EnginePair){ .setup = *setup, .rand = g_rand_new_with_seed(seed), .now_us = 1000 };
    model_source_init(&pair->qemu_source, guest, seed + 1);
    model_destination_init(&pair->qemu_destination, guest, seed + 2);
    pair->qemu_source.preempt = pair->qemu_destination.preempt = setup->preempt;
    for (guint i = 0; i < 2; i++)
        pair->to_destination[i].bytes = g_byte_array_new();
    begin(pair);
}

void engine_pair_clear(EnginePair *pair)
{
    end_clear(&pair->source);
    end_clear(&pair->destination);
    model_source_clear(&pair->qemu_source);
    model_destination_clear(&pair->qemu_destination);
    for (guint i = 0; i < 2; i++)
        g_byte_array_unref(pair->to_destination[i].bytes);
    g_rand_free(pair->rand);
}

/* ---- the session's wishes ---- */

static gboolean act(EngineEnd *end)
{
    SessionActions actions = session_take_actions(end->session);

    if (actions & SESSION_DO_SHUT_QEMU)
        end->shut = TRUE;
    if (actions & SESSION_DO_CLOSE_QEMU)
        end->closed = TRUE;
    for (guint i = PAIR_PREEMPT; i < PAIR_CHANNELS; i++) {
        if (!end->lanes[i] || end->has_lane[i] || lane_state(end->lanes[i]) != LANE_OPEN)
            continue;
        end->has_lane[i] = TRUE;
        if (i == PAIR_PREEMPT)
            engine_set_lane(end->engine, end->lanes[i]);
        else
            engine_add_bulk(end->engine, end->lanes[i]);
    }
    return actions != 0;
}

/* ---- channels ---- */

static gboolean channel_send(EngineEnd *from, EngineEnd *to, guint channel, gsize most)
{
    Lane *lane = from->lanes[channel];
    const guint8 *bytes;
    gsize len;

    if (channel != PAIR_MAIN && !lane)
        return FALSE;
    if (lane)
        lane_settle(lane);
    else
        session_settle(from->session);
    len = lane ? lane_output(lane, &bytes) : session_output(from->session, &bytes);
    len = MIN(len, most);
    if (len == 0)
        return act(from);
    if (!from->cut[channel])
        pipe_put(&to->in[channel], bytes, len);
    if (lane)
        lane_output_done(lane, len);
    else
        session_output_done(from->session, len);
    act(from);
    return TRUE;
}

static void take_frame(EnginePair *pair, EngineEnd *at, guint channel, const Frame *frame)
{
    if (frame->header.type == FRAME_HELLO)
        engine_pair_greet(pair, channel, frame);
    else if (at->lanes[channel])
        lane_on_frame(at->lanes[channel], frame);
    else
        session_on_frame(at->session, frame);
}

static gboolean channel_receive(EnginePair *pair, EngineEnd *at, guint channel, gsize most)
{
    MemoryPipe *pipe = &at->in[channel];
    gsize left = MIN(pipe_len(pipe), most);

    if (left == 0)
        return FALSE;
    while (left > 0) {
        g_auto(Frame) frame = { 0 };
        g_autoptr(GError) error = NULL;
        gboolean complete;
        guint8 *space;
        gsize len = MIN(frame_reader_space(&at->reader[channel], &space), left);

        memcpy(space, pipe->bytes->data + pipe->done, len);
        pipe_taken(pipe, len);
        left -= len;
        if (!frame_reader_advance(&at->reader[channel], len, &frame, &complete, &error))
            g_error("frame: %s", error->message);
        if (complete)
            take_frame(pair, at, channel, &frame);
    }
    act(at);
    return TRUE;
}

static gboolean bulk_send(EngineEnd *from, EngineEnd *to, gsize most)
{
    gboolean moved = FALSE;

    for (guint i = PAIR_BULK; i < PAIR_CHANNELS; i++)
        moved |= channel_send(from, to, i, most);
    return moved;
}

static gboolean bulk_receive(EnginePair *pair, EngineEnd *at, gsize most)
{
    gboolean moved = FALSE;

    for (guint i = PAIR_BULK; i < PAIR_CHANNELS; i++)
        moved |= channel_receive(pair, at, i, most);
    return moved;
}

/* ---- engines ---- */

static guint64 sent_bytes(const EngineEnd *end)
{
    guint64 sent = session_sent_bytes(end->session);

    for (guint i = PAIR_BULK; i < PAIR_CHANNELS; i++)
        sent += end->lanes[i] ? lane_sent_bytes(end->lanes[i]) : 0;
    return sent;
}

static gboolean run(EnginePair *pair, EngineEnd *end)
{
    guint64 sent = sent_bytes(end);
    g_autoptr(GError) error = NULL;
    SessionState before = session_state(end->session);
    FrameType type;
    GBytes *front = session_received(end->session, &type);
    RamStats stats;

    if (!session_state_is_active(before))
        return act(end);
    if (!engine_run(end->engine, pair->now_us, &error)) {
        if (!end->error)
            end->error = g_strdup(error->message);
        session_on_bad_frame(end->session, error);
    }
    engine_get_stats(end->engine, pair->now_us, &stats);
    pair->stage_high = MAX(pair->stage_high, stats.stage_high_water);
    if (engine_needs(end->engine, QEMU_PREEMPT) && !end->opened) {
        end->opened = pair->qemu_destination.attached[MODEL_URGENT] = TRUE;
        engine_on_opened(end->engine, QEMU_PREEMPT, pair->now_us);
    }
    return act(end) || sent_bytes(end) != sent ||
           session_state(end->session) != before || session_received(end->session, &type) != front;
}

/* ---- the source QEMU ---- */

static gboolean open_preempt(EnginePair *pair)
{
    EngineEnd *end = &pair->source;

    if (!pair->qemu_source.writer[MODEL_URGENT].open || end->opened || end->closed)
        return FALSE;
    end->opened = TRUE;
    engine_on_opened(end->engine, QEMU_PREEMPT, pair->now_us);
    return TRUE;
}

static gboolean read_source(EnginePair *pair, guint connection, gsize most)
{
    EngineEnd *end = &pair->source;
    const guint8 *bytes;
    gsize len = MIN(model_source_output(&pair->qemu_source, connection, &bytes), most);

    if (end->closed || end->qemu_eof[connection] || !engine_wants(end->engine, connection) ||
        !session_state_is_active(session_state(end->session)))
        return FALSE;
    if (connection == MODEL_URGENT && !end->opened)
        return open_preempt(pair);
    /* A destination of 7.2 reads nothing before it has both: a full socket would never be empty. */
    if (pair->setup.preempt == MODEL_PREEMPT_OLD && !end->opened)
        return FALSE;
    if (len > 0) {
        engine_on_data(end->engine, connection, bytes, len, pair->now_us);
        model_source_taken(&pair->qemu_source, connection, len);
        return TRUE;
    }
    if (!model_source_at_eof(&pair->qemu_source, connection)) {
        gboolean awaited = engine_awaits_idle(end->engine, connection);

        engine_on_idle(end->engine, connection, pair->now_us);
        return awaited;
    }
    end->qemu_eof[connection] = TRUE;
    engine_on_eof(end->engine, connection, pair->now_us);
    return TRUE;
}

static gboolean write_model(EnginePair *pair)
{
    const guint8 *bytes;
    gsize waiting = model_source_output(&pair->qemu_source, MODEL_MAIN, &bytes) +
                    model_source_output(&pair->qemu_source, MODEL_URGENT, &bytes);

    return waiting < pair->setup.qemu_buffer && model_source_step(&pair->qemu_source);
}

static gboolean write_return(EnginePair *pair, gsize most)
{
    struct iovec iov[QEMU_SINK_IOV_MAX];
    gsize len;

    if (pair->source.closed || engine_output(pair->source.engine, QEMU_MAIN, iov) == 0)
        return FALSE;
    len = MIN(iov[0].iov_len, most);
    model_source_on_data(&pair->qemu_source, iov[0].iov_base, len);
    engine_written(pair->source.engine, QEMU_MAIN, len);
    return TRUE;
}

/* ---- the destination QEMU ---- */

static gboolean write_destination(EnginePair *pair, guint connection, gsize most)
{
    EngineEnd *end = &pair->destination;
    MemoryPipe *pipe = &pair->to_destination[connection];
    struct iovec iov[QEMU_SINK_IOV_MAX];
    guint n = end->closed ? 0 : engine_output(end->engine, connection, iov);
    gsize room = pair->setup.qemu_buffer - MIN(pipe_len(pipe), pair->setup.qemu_buffer);
    gsize written = 0;

    for (guint i = 0; i < n && written < MIN(room, most); i++) {
        gsize len = MIN(iov[i].iov_len, MIN(room, most) - written);

        pipe_put(pipe, iov[i].iov_base, len);
        written += len;
    }
    if (written == 0)
        return FALSE;
    engine_written(end->engine, connection, written);
    return TRUE;
}

static gboolean read_model(EnginePair *pair, guint connection, gsize most)
{
    ModelDestination *qemu = &pair->qemu_destination;
    MemoryPipe *pipe = &pair->to_destination[connection];
    gsize len = MIN(pipe_len(pipe), most);

    if (qemu->closed || !model_destination_wants(qemu, connection))
        return FALSE;
    if (len > 0) {
        model_destination_on_data(qemu, connection, pipe->bytes->data + pipe->done, len);
        pipe_taken(pipe, len);
        return TRUE;
    }
    if (connection == MODEL_URGENT || !pair->destination.shut)
        return FALSE;
    model_destination_on_eof(qemu);
    return TRUE;
}

static gboolean read_return(EnginePair *pair, gsize most)
{
    ModelDestination *qemu = &pair->qemu_destination;
    EngineEnd *end = &pair->destination;
    gsize len = MIN(qemu->out->len - qemu->out_done, most);

    if (end->closed || end->qemu_eof[MODEL_MAIN] || !engine_wants(end->engine, QEMU_MAIN))
        return FALSE;
    if (len > 0) {
        engine_on_data(end->engine, QEMU_MAIN, qemu->out->data + qemu->out_done, len,
                       pair->now_us);
        qemu->out_done += len;
        return TRUE;
    }
    if (!qemu->closed)
        return FALSE;
    end->qemu_eof[MODEL_MAIN] = TRUE;
    engine_on_eof(end->engine, QEMU_MAIN, pair->now_us);
    return TRUE;
}

/* ---- steps ---- */

gboolean engine_pair_step(EnginePair *pair, EngineStep step, gsize most)
{
    EngineEnd *source = &pair->source, *destination = &pair->destination;

    switch (step) {
    case STEP_SEND:
    case STEP_SEND_LANE:
        return channel_send(source, destination, step - STEP_SEND, most);
    case STEP_SEND_BULK:
        return bulk_send(source, destination, most);
    case STEP_SEND_BACK:
    case STEP_SEND_BACK_LANE:
        return channel_send(destination, source, step - STEP_SEND_BACK, most);
    case STEP_SEND_BACK_BULK:
        return bulk_send(destination, source, most);
    case STEP_RECEIVE:
    case STEP_RECEIVE_LANE:
        return channel_receive(pair, destination, step - STEP_RECEIVE, most);
    case STEP_RECEIVE_BULK:
        return bulk_receive(pair, destination, most);
    case STEP_RECEIVE_BACK:
    case STEP_RECEIVE_BACK_LANE:
        return channel_receive(pair, source, step - STEP_RECEIVE_BACK, most);
    case STEP_RECEIVE_BACK_BULK:
        return bulk_receive(pair, source, most);
    case STEP_RUN_SOURCE:
        return run(pair, source);
    case STEP_RUN_DESTINATION:
        return run(pair, destination);
    case STEP_QEMU_WRITE:
        return write_model(pair);
    case STEP_READ_QEMU:
    case STEP_READ_PREEMPT:
        return read_source(pair, step - STEP_READ_QEMU, most);
    case STEP_WRITE_RETURN:
        return write_return(pair, most);
    case STEP_WRITE_QEMU:
    case STEP_WRITE_PREEMPT:
        return write_destination(pair, step - STEP_WRITE_QEMU, most);
    case STEP_QEMU_READ:
    case STEP_QEMU_READ_PREEMPT:
        return read_model(pair, step - STEP_QEMU_READ, most);
    case STEP_QEMU_ASK:
        return model_destination_step(&pair->qemu_destination,
                                      pipe_len(&pair->to_destination[MODEL_URGENT]));
    case STEP_READ_RETURN:
        return read_return(pair, most);
    case STEP_MAX:
        break;
    }
    return FALSE;
}

gboolean engine_pair_turn(EnginePair *pair, gsize most)
{
    gboolean moved = FALSE;

    for (guint step = 0; step < STEP_MAX; step++)
        moved |= engine_pair_step(pair, step, most);
    pair->now_us += 10;
    return moved;
}

/* A result of the compressor is time passing, too. */
static gboolean wait_for_worker(EnginePair *pair)
{
    struct pollfd fd = { .events = POLLIN };
    guint pending;

    /* The oldest may be of a channel that cannot send it: then it is the next one's turn. */
    while (pair->setup.worker && engine_waits_for_worker(pair->source.engine) &&
           session_state_is_active(session_state(pair->source.session))) {
        pending = compress_worker_pending(pair->setup.worker);
        fd.fd = compress_worker_fd(pair->setup.worker);
        if (poll(&fd, 1, WORKER_WAIT_MS) == 1 && run(pair, &pair->source))
            return TRUE;
        if (compress_worker_pending(pair->setup.worker) == pending)
            return FALSE;
    }
    return FALSE;
}

static gboolean random_steps(EnginePair *pair)
{
    guint step = g_rand_int_range(pair->rand, 0, STEP_MAX);
    guint times = g_rand_int_range(pair->rand, 0, 4) ? 3 : 60;
    gsize most = g_rand_int_range(pair->rand, 0, 8) ? pair->setup.most
                                                     : (guint)g_rand_int_range(pair->rand, 1, 100);
    gboolean any = FALSE;

    if (pair->cuts_left > 0 || pair->cuts > 0)
        any = engine_pair_link_step(pair);
    while (times-- && engine_pair_step(pair, step, most))
        any = TRUE;
    pair->now_us += g_rand_int_range(pair->rand, 1, 300);
    return any;
}

void engine_pair_run(EnginePair *pair, gboolean (*until)(EnginePair *pair))
{
    gboolean moved = TRUE;

    while (moved) {
        guint idle = 0;

        while (idle < 40) {
            if (engine_pair_failure(pair) || (until && until(pair)))
                return;
            idle = random_steps(pair) ? 0 : idle + 1;
        }
        /* What an engine makes in the first is moved in the second. */
        moved = engine_pair_turn(pair, pair->setup.most) ||
                engine_pair_turn(pair, pair->setup.most) || engine_pair_heal(pair) ||
                wait_for_worker(pair);
    }
}

/* ---- recovery ---- */

static void lose(EngineEnd *end, gint64 now_us)
{
    session_on_channel_gone(end->session, "the link is gone");
    engine_on_session_end(end->engine, session_state(end->session), now_us);
}

static void drop_compressed(CompressWorker *worker)
{
    CompressJob job;

    while (worker && compress_worker_pending(worker) > 0) {
        struct pollfd fd = { compress_worker_fd(worker), POLLIN, 0 };

        if (poll(&fd, 1, WORKER_WAIT_MS) == 1 && compress_worker_take(worker, &job))
            g_free(job.bytes);
    }
}

void engine_pair_recover(EnginePair *pair)
{
    gboolean read_rest = g_rand_boolean(pair->rand);

    lose(&pair->source, pair->now_us);
    lose(&pair->destination, pair->now_us);
    if (!pair->setup.no_lane)
        g_assert_cmpstr(engine_phase(pair->source.engine), ==, "postcopy-paused");
    end_clear(&pair->source);
    end_clear(&pair->destination);
    drop_compressed(pair->setup.worker);
    /* What a socket holds is still read before its end, if the machine is alive. */
    for (guint i = 0; i < 2; i++) {
        while (read_rest && read_model(pair, i, pair->setup.most))
            ;
        pipe_taken(&pair->to_destination[i], pipe_len(&pair->to_destination[i]));
    }
    model_source_resume(&pair->qemu_source);
    model_destination_pause(&pair->qemu_destination);
    begin(pair);
}

/* ---- asking ---- */

const char *engine_pair_failure(const EnginePair *pair)
{
    const EngineEnd *ends[] = { &pair->source, &pair->destination };

    for (guint i = 0; i < 2; i++) {
        const Session *session = ends[i]->session;

        if (ends[i]->error)
            return ends[i]->error;
        if (session_state_is_end(session_state(session)) &&
            session_state(session) != SESSION_COMPLETED)
            return session_reason(session);
        for (guint channel = PAIR_PREEMPT; channel < PAIR_CHANNELS; channel++) {
            const Lane *lane = ends[i]->lanes[channel];

            if (lane && lane_state(lane) == LANE_FAILED)
                return lane_reason(lane);
        }
    }
    return pair->qemu_destination.failure ? pair->qemu_destination.failure
                                          : pair->qemu_source.failure;
}

gboolean engine_pair_is_complete(const EnginePair *pair)
{
    return session_state(pair->source.session) == SESSION_COMPLETED &&
           session_state(pair->destination.session) == SESSION_COMPLETED;
}
