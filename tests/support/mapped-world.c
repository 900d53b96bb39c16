/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/mapped-world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "ram/mapped/client_log.h"
#include "ram/mapped/pagemap_log.h"
#include "ram/xbzrle.h"

#define TURN_US 1000
#define FEATURES                                                                               \
    (SESSION_FEATURE_RAM | SESSION_FEATURE_MAPPED | SESSION_FEATURE_RUNS)

static const guint8 proof[HELLO_PROOF_LEN] = "the proof both ends can compute";

static void break_rule(World *w, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void break_rule(World *w, const char *format, ...)
{
    va_list args;

    if (w->wrong)
        return;
    va_start(args, format);
    w->wrong = g_strdup_vprintf(format, args);
    va_end(args);
}

/* ---- the client ---- */

static WorldClient *client_of(MemoryClient *client)
{
    return (WorldClient *)client;
}

static void asked(MemoryClient *client, const char *what)
{
    g_string_append_printf(client_of(client)->asked, "%s ", what);
}

static void answer(MemoryClient *client, MemoryEventType type)
{
    g_queue_push_tail(&client_of(client)->answers, GUINT_TO_POINTER(type));
}

static void client_advise(MemoryClient *client)
{
    asked(client, "advise");
    answer(client, MEMORY_EV_ADVISED);
}

static void client_pause(MemoryClient *client)
{
    asked(client, "pause");
    answer(client, MEMORY_EV_PAUSED);
    answer(client, MEMORY_EV_DEVICE);
}

static void client_throttle(MemoryClient *client, guint percent)
{
    asked(client, "throttle");
    client_of(client)->throttle = percent;
}

static void client_resume(MemoryClient *client, const char *reason)
{
    asked(client, "resume");
    client_of(client)->paused = FALSE;
    client_of(client)->resumed = g_strdup(reason);
}

static void client_log_sync(MemoryClient *client)
{
    asked(client, "log-sync");
    answer(client, MEMORY_EV_SYNCED);
}

static void client_discard(MemoryClient *client, guint block, const MemoryRange *ranges, guint n)
{
    asked(client, "discard");
    client_of(client)->n_discards += n;
    answer(client, MEMORY_EV_DISCARDED);
}

static void client_state(MemoryClient *client, const char *name)
{
    g_string_append_printf(client_of(client)->states, "%s ", name);
}

static void client_no_return(MemoryClient *client)
{
    asked(client, "no-return");
    if (!client_of(client)->keeps_guest)
        answer(client, MEMORY_EV_GIVEN_UP);
}

static void client_end(MemoryClient *client, MemoryEndOutcome outcome, const char *text)
{
    asked(client, "end");
    client_of(client)->outcome = outcome;
    client_of(client)->end_text = g_strdup(text);
}

static const MemoryClientOps client_ops = {
    .advise = client_advise,
    .pause = client_pause,
    .throttle = client_throttle,
    .resume = client_resume,
    .log_sync = client_log_sync,
    .discard = client_discard,
    .state = client_state,
    .no_return = client_no_return,
    .end = client_end,
};

static void client_init(WorldClient *client)
{
    client->client.ops = &client_ops;
    client->asked = g_string_new(NULL);
    client->states = g_string_new(NULL);
    g_queue_init(&client->answers);
}

static void client_clear(WorldClient *client)
{
    g_string_free(client->asked, TRUE);
    g_string_free(client->states, TRUE);
    g_queue_clear(&client->answers);
    g_free(client->end_text);
    g_free(client->resumed);
    *client = (WorldClient){ 0 };
}

void world_say(World *w, MemoryEventType type)
{
    MemoryEvent event = { .type = type, .fd = -1 };

    if (type == MEMORY_EV_PAUSED)
        w->client.paused = TRUE;
    if (type == MEMORY_EV_GIVEN_UP)
        w->client.no_return = TRUE;
    if (type == MEMORY_EV_DEVICE) {
        event.bytes = (const guint8 *)"the devices";
        event.len = w->client.has_no_devices ? 0 : strlen("the devices");
        event.last = TRUE;
    }
    mapped_outgoing_on_client(w->machine, &event, w->now_us);
}

static gboolean say_next(World *w)
{
    if (w->client.mute || g_queue_is_empty(&w->client.answers))
        return FALSE;
    world_say(w, GPOINTER_TO_UINT(g_queue_pop_head(&w->client.answers)));
    return TRUE;
}

/* ---- the links ---- */

static void take_frame(World *w, WorldEnd *at, guint channel, const Frame *frame)
{
    g_auto(HelloBody) hello = { 0 };

    if (frame->header.type == FRAME_HELLO) {
        assert_true(hello_body_decode(frame->body, &hello, NULL));
        assert_true(channel == WORLD_MAIN ? session_on_hello(at->session, &hello, NULL)
                                          : lane_on_hello(at->lanes[channel], &hello, NULL));
    } else if (channel == WORLD_MAIN) {
        session_on_frame(at->session, frame);
    } else {
        lane_on_frame(at->lanes[channel], frame);
    }
}

static gsize output(WorldEnd *from, guint channel, const guint8 **ret_bytes)
{
    if (channel == WORLD_MAIN) {
        session_settle(from->session);
        return session_output(from->session, ret_bytes);
    }
    lane_settle(from->lanes[channel]);
    return lane_output(from->lanes[channel], ret_bytes);
}

static gboolean move(World *w, WorldEnd *from, WorldEnd *to, guint channel)
{
    const guint8 *bytes;
    gsize len;
    gboolean any = FALSE;

    if (channel != WORLD_MAIN && !from->lanes[channel])
        return FALSE;
    while ((len = output(from, channel, &bytes)) > 0) {
        for (gsize done = 0; done < len;) {
            g_auto(Frame) frame = { 0 };
            gboolean complete;
            guint8 *space;
            gsize n = MIN(frame_reader_space(&to->readers[channel], &space), len - done);

            memcpy(space, bytes + done, n);
            done += n;
            assert_true(frame_reader_advance(&to->readers[channel], n, &frame, &complete, NULL));
            if (complete)
                take_frame(w, to, channel, &frame);
        }
        if (channel == WORLD_MAIN)
            session_output_done(from->session, len);
        else
            lane_output_done(from->lanes[channel], len);
        any = TRUE;
    }
    return any;
}

static gboolean move_all(World *w)
{
    gboolean any = FALSE;

    for (guint channel = 0; channel < WORLD_CHANNELS; channel++) {
        any |= move(w, &w->source, &w->destination, channel);
        any |= move(w, &w->destination, &w->source, channel);
    }
    return any;
}

static void end_init(World *w, WorldEnd *end, SessionSide side)
{
    guint64 window = w->setup.window ? w->setup.window : 1024 * 1024;
    SessionConfig config = {
        .side = side,
        .window = window,
        .features = FEATURES | w->setup.features | (w->setup.n_bulk > 0 ? SESSION_FEATURE_BULK : 0),
    };

    end->session = session_new(&config);
    session_start(end->session, NULL);
    for (guint i = 0; i < WORLD_CHANNELS; i++) {
        LaneConfig lane = {
            .side = side,
            .kind = i == WORLD_PREEMPT ? CHANNEL_PREEMPT : CHANNEL_BULK,
            .channel = i == WORLD_PREEMPT ? 1 : (guint16)(i - WORLD_BULK + 1),
            .window = window,
            .features = config.features,
        };

        frame_reader_init(&end->readers[i], side == SESSION_DESTINATION);
        if (i == WORLD_PREEMPT || (i >= WORLD_BULK && i - WORLD_BULK < w->setup.n_bulk))
            end->lanes[i] = lane_new(&lane);
    }
}

static void end_clear(WorldEnd *end)
{
    session_free(end->session);
    for (guint i = 0; i < WORLD_CHANNELS; i++) {
        lane_free(end->lanes[i]);
        frame_reader_clear(&end->readers[i]);
    }
    *end = (WorldEnd){ 0 };
}

/* ---- the destination ---- */

static void note(World *w, const char *what)
{
    g_autofree char *last = g_strdup_printf("%s ", what);

    if (!g_str_has_suffix(w->seen->str, last))
        g_string_append(w->seen, last);
}

static void apply(World *w, const QemuPage *page)
{
    guint8 *at = w->copy + page->offset;
    guint64 number = page->offset / WORLD_PAGE;

    if (w->runs && bitmap_get(w->present, number))
        break_rule(w, "page %u came twice after the switch-over", (guint)number);
    w->pages++;
    bitmap_set(w->present, number);
    switch (page->kind) {
    case QEMU_PAGE_ZERO:
        w->zero_pages++;
        memset(at, page->fill, WORLD_PAGE);
        break;
    case QEMU_PAGE_XBZRLE:
        w->differences++;
        if (w->discarding || !xbzrle_decode(page->data, page->data_len, at, WORLD_PAGE, NULL))
            break_rule(w, "a difference that cannot be");
        break;
    default:
        memcpy(at, page->data, WORLD_PAGE);
        break;
    }
}

static void take_pages(World *w, GBytes *body, guint channel)
{
    g_autoptr(GError) error = NULL;
    guint64 before = w->pages;
    gboolean more = TRUE;

    note(w, channel == WORLD_MAIN ? "pages" : channel == WORLD_PREEMPT ? "urgent" : "bulk");
    if (!pages_reader_begin(w->reader, body, &error))
        break_rule(w, "PAGES: %s", error->message);
    while (!w->wrong && more) {
        QemuPage page = { 0 };

        if (!pages_reader_next(w->reader, w->blocks, &page, &more, &error)) {
            break_rule(w, "PAGES: %s", error->message);
            return;
        }
        if (more && channel == WORLD_PREEMPT)
            g_array_append_val(w->urgent, page.offset);
        if (more)
            apply(w, &page);
    }
    if (channel == WORLD_PREEMPT)
        w->urgent_pages += w->pages - before;
    if (channel >= WORLD_BULK)
        w->bulk_pages += w->pages - before;
}

static void take_blocks(World *w, GBytes *body)
{
    g_autoptr(GArray) flags = g_array_new(FALSE, FALSE, sizeof(guint32));
    MappedBeginning beginning;

    note(w, "blocks");
    g_clear_pointer(&w->blocks, ram_blocks_free);
    w->blocks = ram_blocks_new();
    assert_true(mapped_blocks_body_decode(body, w->blocks, flags, &beginning, NULL));
    assert_int_equal(beginning, (w->setup.recovers ? MAPPED_RECOVERS : MAPPED_BEGINS) |
                                    (w->setup.params.release_ram ? MAPPED_RELEASES : 0));
    assert_int_equal(ram_blocks_get(w->blocks, 0)->length, w->setup.length);
    g_clear_pointer(&w->reader, pages_reader_free);
    w->reader = pages_reader_new(WORLD_PAGE);
    pages_reader_set_features(w->reader, session_features(w->destination.session));
    if (w->setup.recovers)
        world_send_received(w);
}

static void take_discard(World *w, GBytes *body)
{
    guint64 host = ram_blocks_host_page(w->blocks, 0);
    DiscardBody discard;

    note(w, "discards");
    assert_true(discard_body_decode(body, &discard, NULL));
    if (!w->discarding || w->runs)
        break_rule(w, "DISCARD at a wrong time");
    for (guint i = 0; i < discard.n_ranges; i++) {
        const MemoryRange *range = &discard.ranges[i];

        if (range->start % host || range->length % host)
            break_rule(w, "DISCARD of a part of a host page");
        memset(w->copy + range->start, 0, range->length);
        bitmap_clear_range(w->present, range->start / WORLD_PAGE, range->length / WORLD_PAGE);
        w->discarded += range->length / WORLD_PAGE;
    }
}

static void take_phase(World *w, GBytes *body)
{
    MappedPhase phase;

    assert_true(mapped_phase_body_decode(body, &phase, NULL));
    note(w, mapped_phase_name(phase));
    if (phase == MAPPED_PHASE_DISCARD)
        w->discarding = TRUE;
    if (phase != MAPPED_PHASE_RUNNING)
        return;
    w->runs = TRUE;
    if (!w->setup.recovers && (!w->client.paused || !w->client.no_return))
        break_rule(w, "the guest runs on both sides");
    if (!w->discarding && !w->setup.recovers && memcmp(w->copy, w->memory->at, w->setup.length))
        break_rule(w, "the guest runs with other memory than it had");
}

static void take_ram_end(World *w, GBytes *body)
{
    RamEnd end;

    note(w, "ram-end");
    assert_true(ram_end_body_decode(body, &end, NULL));
    if (end.pages != w->pages)
        break_rule(w, "RAM_END says %u pages, %u came", (guint)end.pages, (guint)w->pages);
    if ((w->discarding || w->setup.recovers) &&
        bitmap_count(w->present) != bitmap_pages(w->present))
        break_rule(w, "pages are missing at RAM_END");
    w->ram_ended = TRUE;
    session_on_qemu_eof(w->destination.session, NULL);
}

static void take_main(World *w, FrameType type, GBytes *body)
{
    switch (type) {
    case FRAME_BLOCKS:
        take_blocks(w, body);
        break;
    case FRAME_PHASE:
        take_phase(w, body);
        break;
    case FRAME_DISCARD:
        take_discard(w, body);
        break;
    case FRAME_DATA:
        note(w, "data");
        g_byte_array_append(w->device, g_bytes_get_data(body, NULL), (guint)g_bytes_get_size(body));
        break;
    case FRAME_PAGES:
        take_pages(w, body, WORLD_MAIN);
        break;
    case FRAME_RAM_END:
        take_ram_end(w, body);
        break;
    default:
        break_rule(w, "%s on the main channel", frame_type_name(type));
    }
}

static gboolean destination_runs(World *w)
{
    gboolean any = FALSE;
    FrameType type;
    GBytes *body;

    if (w->holds)
        return FALSE;
    /* The others first: RAM_END comes when they are through. */
    for (guint i = WORLD_PREEMPT; i < WORLD_CHANNELS; i++) {
        Lane *lane = w->destination.lanes[i];

        while (lane && w->blocks && (body = lane_received(lane, &type))) {
            take_pages(w, body, i);
            lane_consume(lane);
            any = TRUE;
        }
    }
    while ((body = session_received(w->destination.session, &type))) {
        if (w->stuck_at && type == FRAME_PHASE &&
            *(const guint8 *)g_bytes_get_data(body, NULL) == w->stuck_at)
            break;
        take_main(w, type, body);
        session_consume(w->destination.session);
        any = TRUE;
    }
    return any;
}

void world_send_received(World *w)
{
    guint64 pages = bitmap_pages(w->present);

    for (guint64 first = 0; first < pages; first += RECEIVED_BYTES_MAX * 8) {
        g_autoptr(GByteArray) body = g_byte_array_new();
        g_autofree guint8 *bits = g_malloc0(RECEIVED_BYTES_MAX);
        guint64 n = MIN(pages - first, RECEIVED_BYTES_MAX * 8);
        ReceivedBody received = { 0, first, bits, (n + 7) / 8 };
        guint8 *buf;

        for (guint64 i = 0; i < n; i++) {
            if (bitmap_get(w->present, first + i))
                bits[i / 8] |= (guint8)(1u << (i % 8));
        }
        received_body_encode(body, &received);
        buf = g_malloc(FRAME_HEADER_LEN + body->len);
        memcpy(buf + FRAME_HEADER_LEN, body->data, body->len);
        session_send(w->destination.session, FRAME_RECEIVED, buf, body->len);
    }
}

void world_ask(World *w, guint64 start, guint32 length)
{
    PageRequest request = { 0, start, length };
    g_autoptr(GByteArray) body = g_byte_array_new();
    guint8 *buf;

    request_body_encode(body, &request);
    buf = g_malloc(FRAME_HEADER_LEN + body->len);
    memcpy(buf + FRAME_HEADER_LEN, body->data, body->len);
    lane_send(w->destination.lanes[WORLD_PREEMPT], FRAME_REQUEST, buf, body->len);
}

/* ---- life ---- */

static DirtyLog *make_log(World *w)
{
    if (w->setup.log == MAPPED_WRITE_LOG)
        return pagemap_log_new(w->memory->layout, NULL);
    if (w->setup.log == MAPPED_CLIENT_LOG)
        return client_log_new(w->memory->layout, NULL);
    return NULL;
}

static void begin(World *w)
{
    MappedOutgoingConfig config = {
        .sender = { .window = w->setup.window ? w->setup.window : 1024 * 1024 },
        .clear_shift = MAPPED_CLEAR_SHIFT_MIN,
    };

    end_init(w, &w->source, SESSION_SOURCE);
    end_init(w, &w->destination, SESSION_DESTINATION);
    w->memory->layout->recovers = w->setup.recovers;
    w->memory->layout->params = w->setup.params;
    w->machine = mapped_outgoing_new(&config, w->guest, make_log(w), &w->client.client,
                                     w->source.session);
    session_on_channel_up(w->source.session, NULL, NULL);
    move_all(w);
    session_on_qemu_attached(w->destination.session, NULL);
    move_all(w);
    session_on_qemu_attached(w->source.session, NULL);
    for (guint i = WORLD_PREEMPT; i < WORLD_CHANNELS; i++) {
        if (w->source.lanes[i])
            lane_on_channel_up(w->source.lanes[i], proof, NULL);
    }
    move_all(w);
    mapped_outgoing_set_lane(w->machine, w->source.lanes[WORLD_PREEMPT]);
    for (guint i = 0; i < w->setup.n_bulk; i++)
        mapped_outgoing_add_bulk(w->machine, w->source.lanes[WORLD_BULK + i]);
}

World *world_new(const WorldSetup *setup)
{
    g_autoptr(World) w = g_new0(World, 1);

    w->setup = *setup;
    w->now_us = G_USEC_PER_SEC;
    w->memory = mapped_memory_new(setup->kind, setup->length, setup->log);
    if (!w->memory)
        return NULL;
    w->guest = guest_memory_new(w->memory->layout, NULL);
    w->copy = g_malloc0(setup->length);
    w->present = bitmap_new(setup->length / WORLD_PAGE);
    w->seen = g_string_new(NULL);
    w->device = g_byte_array_new();
    w->urgent = g_array_new(FALSE, FALSE, sizeof(guint64));
    client_init(&w->client);
    begin(w);
    return g_steal_pointer(&w);
}

static void clear_ends(World *w)
{
    mapped_outgoing_free(w->machine);
    w->machine = NULL;
    if (w->source.session)
        end_clear(&w->source);
    if (w->destination.session)
        end_clear(&w->destination);
}

void world_recover(World *w)
{
    clear_ends(w);
    client_clear(&w->client);
    client_init(&w->client);
    w->client.paused = TRUE;
    w->setup.recovers = TRUE;
    w->setup.log = MAPPED_NO_LOG;
    w->pages = 0;
    w->ended = FALSE;
    w->runs = FALSE;
    g_string_truncate(w->seen, 0);
    begin(w);
}

void world_free(World *w)
{
    if (!w)
        return;
    clear_ends(w);
    client_clear(&w->client);
    guest_memory_free(w->guest);
    mapped_memory_free(w->memory);
    ram_blocks_free(w->blocks);
    pages_reader_free(w->reader);
    bitmap_free(w->present);
    g_free(w->copy);
    g_string_free(w->seen, TRUE);
    g_byte_array_unref(w->device);
    g_array_unref(w->urgent);
    g_free(w->wrong);
    g_free(w->error);
    g_free(w);
}

/* ---- running ---- */

static void act(World *w)
{
    SessionActions actions = session_take_actions(w->source.session);

    session_take_actions(w->destination.session);
    if ((actions & SESSION_DO_REPORT) && session_state_is_end(session_state(w->source.session)) &&
        !w->ended) {
        w->ended = TRUE;
        mapped_outgoing_on_session_end(w->machine, session_state(w->source.session), w->now_us);
    }
}

void world_lose(World *w, const char *reason)
{
    session_on_channel_gone(w->source.session, reason);
    act(w);
}

gboolean world_turn(World *w)
{
    g_autoptr(GError) error = NULL;
    gboolean any = FALSE;

    w->now_us += TURN_US;
    if (w->guest_runs && !w->client.paused)
        w->guest_runs(w->guest_data);
    if (!w->error && !w->ended && !mapped_outgoing_run(w->machine, w->now_us, &error)) {
        w->error = g_strdup(error->message);
        session_on_bad_frame(w->source.session, error);
    }
    any |= move_all(w);
    any |= destination_runs(w);
    any |= move_all(w);
    any |= say_next(w);
    act(w);
    return any;
}

void world_run(World *w, guint turns)
{
    guint idle = 0;

    while (turns-- > 0 && idle < 5) {
        gboolean waits = mapped_outgoing_wake_us(w->machine) != G_MAXINT64;

        idle = world_turn(w) || waits ? 0 : idle + 1;
    }
}

void world_run_until(World *w, MappedOutState state)
{
    for (guint i = 0; i < 5000 && mapped_outgoing_state(w->machine) != state; i++)
        world_turn(w);
    if (mapped_outgoing_state(w->machine) != state)
        fail_msg("the machine is in %s, not in %s; seen: %s; %s",
                 mapped_out_state_name(mapped_outgoing_state(w->machine)),
                 mapped_out_state_name(state), w->seen->str,
                 session_reason(w->source.session));
}

void world_expect_moved(World *w)
{
    if (w->wrong)
        fail_msg("%s (seen: %s)", w->wrong, w->seen->str);
    if (w->error)
        fail_msg("%s", w->error);
    world_run_until(w, MAPPED_OUT_COMPLETED);
    if (w->wrong)
        fail_msg("%s (seen: %s)", w->wrong, w->seen->str);
    assert_int_equal(session_state(w->source.session), SESSION_COMPLETED);
    assert_true(w->ram_ended);
    assert_int_equal(w->client.outcome, MEMORY_END_COMPLETED);
    if (!w->setup.params.release_ram)
        assert_memory_equal(w->copy, w->memory->at, w->setup.length);
}
