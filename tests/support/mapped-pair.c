/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/mapped-pair.h"

#include <poll.h>
#include <string.h>

#include "ram/mapped/client_log.h"
#include "ram/uffd/clients.h"

/* Nothing moves for so long: then nothing will. */
#define IDLE_MS 15000

static const guint8 proof[HELLO_PROOF_LEN] = "the proof both ends can compute";

/* ---- pipes ---- */

static gsize pipe_len(const MappedPipe *pipe)
{
    return pipe->bytes->len - pipe->done;
}

static void pipe_taken(MappedPipe *pipe, gsize len)
{
    pipe->done += len;
    if (pipe_len(pipe) == 0) {
        g_byte_array_set_size(pipe->bytes, 0);
        pipe->done = 0;
    }
}

/* Nothing of the connection before is read any more. */
static void drop_input(MappedEnd *end, guint channel, gboolean hello_only)
{
    g_byte_array_set_size(end->in[channel].bytes, 0);
    end->in[channel].done = 0;
    frame_reader_clear(&end->reader[channel]);
    frame_reader_init(&end->reader[channel], hello_only);
}

/* ---- connections ---- */

static gboolean is_lost(const MappedEnd *end, guint channel)
{
    return channel ? lane_is_lost(end->lane[channel]) : session_is_lost(end->session);
}

static gboolean needs_dial(const MappedPair *pair, guint channel)
{
    const MappedEnd *source = &pair->source;

    if (channel ? lane_state(source->lane[channel]) == LANE_NONE
                : session_state(source->session) == SESSION_SETUP)
        return channel == 0 || session_features(source->session) != 0;
    return is_lost(source, channel) && source->noticed[channel];
}

static void dial_one(MappedPair *pair, guint channel)
{
    MappedEnd *source = &pair->source;
    g_autoptr(GError) error = NULL;
    gboolean ok;

    drop_input(source, channel, FALSE);
    drop_input(&pair->destination, channel, TRUE);
    source->cut[channel] = source->noticed[channel] = FALSE;
    /* What it says before it has read HELLO is said on the one before. */
    pair->destination.cut[channel] = TRUE;
    if (channel)
        ok = lane_on_channel_up(source->lane[channel], proof, &error);
    else
        ok = session_on_channel_up(source->session,
                                   session_wants_proof(source->session) ? proof : NULL, &error);
    if (!ok)
        g_error("dial: %s", error->message);
}

static gboolean dial(MappedPair *pair)
{
    gboolean any = FALSE;

    for (guint i = 0; i < pair->n_channels; i++) {
        if (needs_dial(pair, i)) {
            dial_one(pair, i);
            any = TRUE;
        }
    }
    return any;
}

static void greet(MappedPair *pair, guint channel, const Frame *frame)
{
    MappedEnd *at = &pair->destination;
    g_auto(HelloBody) hello = { 0 };
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) told = NULL;

    if (hello_body_decode(frame->body, &hello, &error) &&
        (channel ? lane_judge_hello(at->lane[channel], &hello, proof, &error) &&
                       lane_on_hello(at->lane[channel], &hello, &error)
                 : session_judge_hello(at->session, &hello, proof, &error) &&
                       session_on_hello(at->session, &hello, &error))) {
        at->cut[channel] = at->noticed[channel] = FALSE;
        return;
    }
    told = frame_new_error(error->code, error->message);
    g_byte_array_append(pair->source.in[channel].bytes, g_bytes_get_data(told, NULL),
                        g_bytes_get_size(told));
}

static gboolean cut(MappedPair *pair, guint channel)
{
    MappedEnd *ends[] = { &pair->source, &pair->destination };

    if (pair->cuts_left == 0 || pair->source.cut[channel])
        return FALSE;
    pair->cuts_left--;
    pair->cuts++;
    for (guint i = 0; i < 2; i++) {
        MappedPipe *in = &ends[i]->in[channel];

        ends[i]->cut[channel] = TRUE;
        g_byte_array_set_size(in->bytes,
                              g_rand_int_range(pair->rand, in->done, in->bytes->len + 1));
    }
    return TRUE;
}

static gboolean notice(MappedPair *pair, MappedEnd *end, guint channel)
{
    if (!end->cut[channel] || end->noticed[channel])
        return FALSE;
    /* One that has been dialled already is not lost with the one before. */
    if (end == &pair->destination && !pair->source.cut[channel])
        return FALSE;
    end->noticed[channel] = TRUE;
    drop_input(end, channel, end == &pair->destination);
    if (channel)
        lane_on_channel_lost(end->lane[channel], "cut");
    else
        session_on_channel_lost(end->session, "cut");
    return TRUE;
}

static gboolean random_link_step(MappedPair *pair)
{
    guint channel = g_rand_int_range(pair->rand, 0, pair->n_channels);
    MappedEnd *end = g_rand_boolean(pair->rand) ? &pair->source : &pair->destination;

    switch (g_rand_int_range(pair->rand, 0, 40)) {
    case 0:
        return cut(pair, channel);
    case 1:
    case 2:
    case 3:
        return notice(pair, end, channel);
    case 4:
    case 5:
        return dial(pair);
    default:
        return FALSE;
    }
}

static gboolean heal(MappedPair *pair)
{
    gboolean any = FALSE;

    for (guint i = 0; i < pair->n_channels; i++) {
        any |= notice(pair, &pair->source, i);
        any |= notice(pair, &pair->destination, i);
    }
    return dial(pair) || any;
}

/* ---- channels ---- */

static gboolean channel_send(MappedEnd *from, MappedEnd *to, guint channel, gsize most)
{
    Lane *lane = from->lane[channel];
    const guint8 *bytes;
    gsize len;

    if (lane)
        lane_settle(lane);
    else
        session_settle(from->session);
    len = MIN(lane ? lane_output(lane, &bytes) : session_output(from->session, &bytes), most);
    if (len == 0)
        return FALSE;
    if (!from->cut[channel])
        g_byte_array_append(to->in[channel].bytes, bytes, len);
    if (lane)
        lane_output_done(lane, len);
    else
        session_output_done(from->session, len);
    return TRUE;
}

static void take_frame(MappedPair *pair, MappedEnd *at, guint channel, const Frame *frame)
{
    if (frame->header.type == FRAME_HELLO)
        greet(pair, channel, frame);
    else if (channel)
        lane_on_frame(at->lane[channel], frame);
    else
        session_on_frame(at->session, frame);
}

static gboolean channel_receive(MappedPair *pair, MappedEnd *at, guint channel, gsize most)
{
    MappedPipe *pipe = &at->in[channel];
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
    return TRUE;
}

static gboolean move_links(MappedPair *pair, gsize most)
{
    gboolean moved = FALSE;

    for (guint i = 0; i < pair->n_channels; i++) {
        moved |= channel_send(&pair->source, &pair->destination, i, most);
        moved |= channel_send(&pair->destination, &pair->source, i, most);
        moved |= channel_receive(pair, &pair->destination, i, most);
        moved |= channel_receive(pair, &pair->source, i, most);
    }
    return moved;
}

/* ---- life ---- */

static void end_init(MappedPair *pair, MappedEnd *end, SessionSide side)
{
    SessionConfig config = {
        .side = side,
        .window = pair->setup.window,
        .features = SESSION_FEATURE_RAM | SESSION_FEATURE_MAPPED | SESSION_FEATURE_RESUME |
                    pair->setup.features,
    };

    end->session = session_new(&config);
    for (guint i = 0; i < pair->n_channels; i++) {
        LaneConfig lane = {
            .side = side,
            .kind = i == 1 ? CHANNEL_PREEMPT : CHANNEL_BULK,
            .channel = i == 1 ? 1 : i - 1,
            .window = config.window,
            .features = config.features,
        };

        if (i > 0)
            end->lane[i] = lane_new(&lane);
        frame_reader_init(&end->reader[i], side == SESSION_DESTINATION);
        end->in[i].bytes = g_byte_array_new();
    }
    end->cut[0] = end->attached = end->told_end = FALSE;
    session_start(end->session, NULL);
}

static void end_clear(MappedPair *pair, MappedEnd *end)
{
    for (guint i = 0; i < pair->n_channels; i++) {
        lane_free(end->lane[i]);
        frame_reader_clear(&end->reader[i]);
        g_byte_array_unref(end->in[i].bytes);
        end->in[i].done = 0;
        end->cut[i] = end->noticed[i] = FALSE;
    }
    session_free(end->session);
    memory_layout_free(end->layout);
    g_clear_pointer(&end->error, g_free);
}

static void make_outgoing(MappedPair *pair, gboolean recovers)
{
    MappedOutgoingConfig config = { .sender = { .window = pair->setup.window } };
    MappedEnd *end = &pair->source;
    g_autoptr(GError) error = NULL;
    DirtyLog *log = NULL;

    end->layout = test_memory_layout(pair->source_memory, recovers, -1);
    if (pair->setup.params)
        end->layout->params = *pair->setup.params;
    if (pair->setup.scripted)
        return;
    pair->guest_memory = guest_memory_new(end->layout, &error);
    if (pair->guest_memory && !recovers)
        log = client_log_new(end->layout, &error);
    if (error)
        g_error("source: %s", error->message);
    pair->outgoing = mapped_outgoing_new(&config, pair->guest_memory, log, &end->client->base,
                                         end->session);
}

static void make_incoming(MappedPair *pair, gboolean recovers)
{
    MappedEnd *end = &pair->destination;
    g_autoptr(GError) error = NULL;

    end->layout = test_memory_layout(pair->destination_memory, recovers, end->client->uffd);
    if (pair->setup.params_destination)
        end->layout->params = *pair->setup.params_destination;
    end->client->spare = end->layout->params.checkpoints;
    pair->incoming = mapped_incoming_new(end->session);
    if (!mapped_incoming_attach(pair->incoming, end->layout, &end->client->base, &error))
        g_error("destination: %s", error->message);
}

static void set_lanes(MappedPair *pair)
{
    if (pair->outgoing)
        mapped_outgoing_set_lane(pair->outgoing, pair->source.lane[1]);
    mapped_incoming_set_lane(pair->incoming, pair->destination.lane[1]);
    for (guint i = 2; i < pair->n_channels; i++) {
        if (pair->outgoing)
            mapped_outgoing_add_bulk(pair->outgoing, pair->source.lane[i]);
        mapped_incoming_add_bulk(pair->incoming, pair->destination.lane[i]);
    }
}

static void begin(MappedPair *pair, gboolean recovers)
{
    end_init(pair, &pair->source, SESSION_SOURCE);
    end_init(pair, &pair->destination, SESSION_DESTINATION);
    make_outgoing(pair, recovers);
    make_incoming(pair, recovers);
    dial(pair);
    while (move_links(pair, G_MAXSIZE))
        ;
    session_on_qemu_attached(pair->destination.session, NULL);
    while (move_links(pair, G_MAXSIZE) || dial(pair))
        ;
    session_on_qemu_attached(pair->source.session, NULL);
    set_lanes(pair);
}

void mapped_pair_init(MappedPair *pair, const MappedSetup *setup, TestMemory *source,
                      TestMemory *destination, guint32 seed)
{
    *pair = (MappedPair){ .setup = *setup, .rand = g_rand_new_with_seed(seed) };
    pair->n_channels = 2 + setup->n_bulk;
    pair->source_memory = source;
    pair->destination_memory = destination;
    pair->source.client = test_client_new(source);
    pair->destination.client = test_client_new(destination);
    begin(pair, FALSE);
}

static void clear_session(MappedPair *pair)
{
    g_clear_pointer(&pair->outgoing, mapped_outgoing_free);
    g_clear_pointer(&pair->incoming, mapped_incoming_free);
    g_clear_pointer(&pair->guest_memory, guest_memory_free);
    end_clear(pair, &pair->source);
    end_clear(pair, &pair->destination);
}

void mapped_pair_clear(MappedPair *pair)
{
    clear_session(pair);
    test_client_free(pair->source.client);
    test_client_free(pair->destination.client);
    g_rand_free(pair->rand);
}

/* ---- machines ---- */

static void tell_end(MappedPair *pair, MappedEnd *end)
{
    SessionState state = session_state(end->session);

    if (!session_state_is_end(state) || end->told_end)
        return;
    end->told_end = TRUE;
    if (end == &pair->destination)
        mapped_incoming_on_session_end(pair->incoming, state, session_reason(end->session));
    else if (pair->outgoing)
        mapped_outgoing_on_session_end(pair->outgoing, state, g_get_monotonic_time());
}

static gboolean run(MappedPair *pair, MappedEnd *end)
{
    gint64 now_us = g_get_monotonic_time();
    g_autoptr(GError) error = NULL;
    guint64 sent = session_sent_bytes(end->session);
    gboolean ok = TRUE;

    session_take_actions(end->session);
    tell_end(pair, end);
    if (!session_state_is_active(session_state(end->session)))
        return FALSE;
    if (end == &pair->destination)
        ok = mapped_incoming_run(pair->incoming, now_us, &error);
    else if (pair->outgoing)
        ok = mapped_outgoing_run(pair->outgoing, now_us, &error);
    if (!ok) {
        end->error = g_strdup(error->message);
        session_on_bad_frame(end->session, error);
    }
    tell_end(pair, end);
    return session_sent_bytes(end->session) != sent;
}

static gboolean deliver(MappedPair *pair, MappedEnd *end)
{
    gint64 now_us = g_get_monotonic_time();
    TestEvent *said = end->told_end ? NULL : test_client_next(end->client);

    if (!said)
        return FALSE;
    if (end == &pair->destination)
        mapped_incoming_on_client(pair->incoming, &said->event, now_us);
    else if (pair->outgoing)
        mapped_outgoing_on_client(pair->outgoing, &said->event, now_us);
    test_event_free(said);
    return TRUE;
}

static gboolean read_faults(MappedPair *pair)
{
    int fds[2 + UFFD_CLIENTS_MAX];
    guint n = mapped_incoming_poll_fds(pair->incoming, fds, G_N_ELEMENTS(fds));
    gboolean any = FALSE;

    for (guint i = 0; i < n && !pair->deaf; i++) {
        struct pollfd fd = { fds[i], POLLIN, 0 };

        if (poll(&fd, 1, 0) != 1)
            continue;
        mapped_incoming_on_readable(pair->incoming, fds[i], g_get_monotonic_time());
        any = TRUE;
    }
    return any;
}

/* ---- moving on ---- */

/* What the destination's thread is at is on its way as well. */
static gboolean await_placing(MappedPair *pair)
{
    int fds[2 + UFFD_CLIENTS_MAX];
    struct pollfd polled[G_N_ELEMENTS(fds)];
    guint n = mapped_incoming_poll_fds(pair->incoming, fds, G_N_ELEMENTS(fds));

    if (n == 0 || !mapped_incoming_is_placing(pair->incoming))
        return FALSE;
    for (guint i = 0; i < n; i++)
        polled[i] = (struct pollfd){ fds[i], POLLIN, 0 };
    g_assert_cmpint(poll(polled, n, 20000), >, 0);
    return read_faults(pair);
}

gboolean mapped_pair_turn(MappedPair *pair)
{
    gboolean moved = move_links(pair, pair->setup.most);

    moved |= read_faults(pair);
    moved |= deliver(pair, &pair->source);
    moved |= deliver(pair, &pair->destination);
    moved |= run(pair, &pair->source);
    moved |= run(pair, &pair->destination);
    return moved || await_placing(pair);
}

static gboolean random_channel_step(MappedPair *pair)
{
    guint channel = g_rand_int_range(pair->rand, 0, pair->n_channels);
    gsize most = g_rand_int_range(pair->rand, 0, 8) ? pair->setup.most
                                                     : (guint)g_rand_int_range(pair->rand, 1, 100);

    switch (g_rand_int_range(pair->rand, 0, 4)) {
    case 0:
        return channel_send(&pair->source, &pair->destination, channel, most);
    case 1:
        return channel_send(&pair->destination, &pair->source, channel, most);
    case 2:
        return channel_receive(pair, &pair->source, channel, most);
    default:
        return channel_receive(pair, &pair->destination, channel, most);
    }
}

gboolean mapped_pair_random(MappedPair *pair)
{
    MappedEnd *end = g_rand_boolean(pair->rand) ? &pair->source : &pair->destination;

    if (pair->cuts_left > 0 || pair->cuts > 0)
        random_link_step(pair);
    switch (g_rand_int_range(pair->rand, 0, 8)) {
    case 0:
        return run(pair, end);
    case 1:
        return deliver(pair, end);
    case 2:
        return read_faults(pair);
    default:
        return random_channel_step(pair);
    }
}

gboolean mapped_pair_run(MappedPair *pair, gboolean (*until)(MappedPair *pair, gpointer data),
                         gpointer data)
{
    gint64 moved_us = g_get_monotonic_time();

    while (!until(pair, data)) {
        gboolean moved = FALSE;

        if (mapped_pair_failure(pair))
            return FALSE;
        for (guint i = 0; i < 200; i++)
            moved |= mapped_pair_random(pair);
        if (!moved)
            moved = mapped_pair_turn(pair) || heal(pair);
        if (moved)
            moved_us = g_get_monotonic_time();
        else if (g_get_monotonic_time() - moved_us > IDLE_MS * 1000)
            return FALSE;
        else
            g_usleep(100);
    }
    return TRUE;
}

/* ---- recovery ---- */

void mapped_pair_lose(MappedPair *pair)
{
    session_on_channel_gone(pair->source.session, "the link is gone");
    session_on_channel_gone(pair->destination.session, "the link is gone");
    tell_end(pair, &pair->source);
    tell_end(pair, &pair->destination);
}

static void client_recovers(TestClient *client)
{
    TestEvent *said;

    while ((said = test_client_next(client)))
        test_event_free(said);
    client->ended = FALSE;
    g_clear_pointer(&client->text, g_free);
}

void mapped_pair_recover(MappedPair *pair)
{
    mapped_pair_lose(pair);
    clear_session(pair);
    client_recovers(pair->source.client);
    client_recovers(pair->destination.client);
    begin(pair, TRUE);
}

/* ---- a source that a test plays ---- */

void mapped_pair_send(MappedPair *pair, guint channel, FrameType type, const GByteArray *body)
{
    guint8 *buf = g_malloc(FRAME_HEADER_LEN + body->len);

    if (body->len > 0)
        memcpy(buf + FRAME_HEADER_LEN, body->data, body->len);
    if (channel)
        lane_send(pair->source.lane[channel], type, buf, body->len);
    else
        session_send(pair->source.session, type, buf, body->len);
}

/* ---- asking ---- */

const char *mapped_pair_failure(const MappedPair *pair)
{
    const MappedEnd *ends[] = { &pair->destination, &pair->source };

    for (guint i = 0; i < 2; i++) {
        SessionState state = session_state(ends[i]->session);

        if (ends[i]->error)
            return ends[i]->error;
        if (session_state_is_end(state) && state != SESSION_COMPLETED)
            return session_reason(ends[i]->session);
        for (guint k = 1; k < pair->n_channels; k++) {
            if (lane_state(ends[i]->lane[k]) == LANE_FAILED)
                return lane_reason(ends[i]->lane[k]);
        }
    }
    return NULL;
}

gboolean mapped_pair_is_complete(const MappedPair *pair)
{
    return session_state(pair->source.session) == SESSION_COMPLETED &&
           session_state(pair->destination.session) == SESSION_COMPLETED;
}
