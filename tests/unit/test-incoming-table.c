/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The destination's machine, each pair of state and event: it does what the table says, or the
 * session ends with an error that names both; and frames that are well-formed on the wire and cannot
 * be. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "ram/page_frames.h"
#include "ram/qemu_write.h"
#include "tests/support/engine-pair.h"
#include "tests/support/qemu-build.h"

#define WINDOW (1024 * 1024)
#define SECTION 2
#define HUGE_SIZE (2 * 1024 * 1024)

enum { BLOCK_RAM, BLOCK_HUGE };

static const ModelBlock blocks_used[] = {
    { "pc.ram", MODEL_PAGE, 64, 0 },
    { "huge", HUGE_SIZE, 2, 0 },
};

/* ---- a machine whose peer says what a test wants ---- */

typedef struct {
    EnginePair pair;
    ModelGuest guest;
    Incoming *incoming;
    gint64 now_us;
} Bench;

static void bench_init(Bench *bench)
{
    EngineSetup setup = { .window = WINDOW, .stage = WINDOW, .qemu_buffer = 1, .most = 1 };

    *bench = (Bench){ .now_us = 1 };
    model_guest_init(&bench->guest, blocks_used, G_N_ELEMENTS(blocks_used), 1);
    engine_pair_init(&bench->pair, &setup, &bench->guest, 1);
    bench->incoming = incoming_new(bench->pair.destination.session);
    incoming_set_lane(bench->incoming, bench->pair.destination.lane);
}

static void bench_clear(Bench *bench)
{
    incoming_free(bench->incoming);
    engine_pair_clear(&bench->pair);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Bench, bench_clear)

static guint8 *with_header(const GByteArray *body)
{
    guint8 *buf = g_malloc(FRAME_HEADER_LEN + body->len);

    if (body->len)
        memcpy(buf + FRAME_HEADER_LEN, body->data, body->len);
    return buf;
}

static void put(Bench *bench, gboolean lane, FrameType type, const GByteArray *body)
{
    if (lane)
        lane_send(bench->pair.source.lane, type, with_header(body), body->len);
    else
        session_send(bench->pair.source.session, type, with_header(body), body->len);
    engine_pair_move_links(&bench->pair);
}

static void put_bytes(Bench *bench, FrameType type, const void *bytes, gsize len)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    g_byte_array_append(body, bytes, len);
    put(bench, FALSE, type, body);
}

/* Runs it, with a QEMU that takes all it is given (appended to written, unless NULL). */
static gboolean run_into(Bench *bench, GByteArray *written, GError **error)
{
    struct iovec iov[QEMU_SINK_IOV_MAX];
    QemuSink *sink = incoming_main_sink(bench->incoming);
    guint n;

    for (;;) {
        gsize total = 0;

        if (!incoming_run(bench->incoming, bench->now_us, error))
            return FALSE;
        n = qemu_sink_output(sink, iov);
        if (n == 0)
            return TRUE;
        for (guint i = 0; i < n; i++) {
            total += iov[i].iov_len;
            if (written)
                g_byte_array_append(written, iov[i].iov_base, iov[i].iov_len);
        }
        qemu_sink_written(sink, total);
    }
}

static gboolean run(Bench *bench, GError **error)
{
    return run_into(bench, NULL, error);
}

/* ---- frames ---- */

static void put_phase(Bench *bench, RamPhase phase)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    phase_body_encode(body, phase);
    put(bench, FALSE, FRAME_PHASE, body);
}

static void put_blocks(Bench *bench)
{
    g_autoptr(RamBlocks) blocks = model_guest_blocks(&bench->guest);
    g_autoptr(GByteArray) body = g_byte_array_new();

    blocks_body_encode(body, blocks, SECTION, FRAME_PAGES_MAX);
    put(bench, FALSE, FRAME_BLOCKS, body);
}

static void put_page(Bench *bench, gboolean lane, const QemuPage *page)
{
    g_auto(PagesBatch) batch = { 0 };
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_autofree guint8 *bytes = NULL;
    gsize len;

    pages_batch_init(&batch, 0);
    assert_true(pages_batch_add(&batch, page, MODEL_PAGE));
    bytes = pages_batch_finish(&batch, &len);
    g_byte_array_append(body, bytes, len);
    put(bench, lane, FRAME_PAGES, body);
}

static void put_zero(Bench *bench, gboolean lane, guint block, guint64 offset)
{
    put_page(bench, lane, &(QemuPage){ .block = block, .offset = offset, .kind = QEMU_PAGE_ZERO });
}

static void put_ram_end(Bench *bench, guint64 pages, guint64 preempt_seq)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    ram_end_body_encode(body, &(RamEnd){ .pages = pages, .preempt_seq = preempt_seq });
    put(bench, FALSE, FRAME_RAM_END, body);
}

static void say_request(Bench *bench, guint page)
{
    g_autoptr(RamBlocks) blocks = model_guest_blocks(&bench->guest);
    g_autoptr(GByteArray) message = g_byte_array_new();

    qemu_put_req_pages(message, ram_blocks_get(blocks, BLOCK_RAM), page * MODEL_PAGE,
                       MODEL_PAGE);
    incoming_on_qemu_data(bench->incoming, message->data, message->len, bench->now_us);
}

static void feed(Bench *bench, IncomingEvent event)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    switch (event) {
    case INCOMING_EV_DATA:
        put_bytes(bench, FRAME_DATA, "data", 4);
        break;
    case INCOMING_EV_ADVISE:
        put_phase(bench, RAM_PHASE_ADVISE);
        break;
    case INCOMING_EV_DISCARD:
        put_phase(bench, RAM_PHASE_DISCARD);
        break;
    case INCOMING_EV_RUNNING:
        put_phase(bench, RAM_PHASE_RUNNING);
        break;
    case INCOMING_EV_BLOCKS:
        put_blocks(bench);
        break;
    case INCOMING_EV_PAGES:
        put_zero(bench, FALSE, BLOCK_RAM, 0);
        break;
    case INCOMING_EV_URGENT_PAGES:
        put_zero(bench, TRUE, BLOCK_RAM, MODEL_PAGE);
        break;
    case INCOMING_EV_RAM_END:
        put_ram_end(bench, 0, 0);
        break;
    case INCOMING_EV_QEMU_CHANNEL:
        qemu_channel_body_encode(body, QEMU_CHANNEL_CLOSED);
        put(bench, FALSE, FRAME_QEMU_CHANNEL, body);
        break;
    case INCOMING_EV_REQUEST:
        say_request(bench, 5);
        break;
    case INCOMING_EVENT_MAX:
        break;
    }
}

#define END INCOMING_EVENT_MAX

static void drive_to(Bench *bench, IncomingState state)
{
    static const IncomingEvent paths[INCOMING_STATE_MAX][6] = {
        [INCOMING_NONE] = { END },
        [INCOMING_ADVISE] = { INCOMING_EV_ADVISE, END },
        [INCOMING_DISCARD] = { INCOMING_EV_ADVISE, INCOMING_EV_DISCARD, END },
        [INCOMING_LISTENING] = { INCOMING_EV_ADVISE, INCOMING_EV_DISCARD, INCOMING_EV_BLOCKS, END },
        [INCOMING_RUNNING] = { INCOMING_EV_BLOCKS, INCOMING_EV_RUNNING, END },
        [INCOMING_END] = { INCOMING_EV_BLOCKS, INCOMING_EV_RUNNING, INCOMING_EV_RAM_END, END },
    };

    for (const IncomingEvent *event = paths[state]; *event != END; event++) {
        feed(bench, *event);
        assert_true(run(bench, NULL));
    }
    assert_int_equal(incoming_state(bench->incoming), state);
}

/* ---- the walk ---- */

static void assert_says(const GError *error, const char *what, const char *part)
{
    if (!error)
        fail_msg("%s: not refused", what);
    if (!g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL))
        fail_msg("%s: \"%s\" is no protocol error", what, error->message);
    if (!strstr(error->message, part))
        fail_msg("%s: \"%s\" does not contain \"%s\"", what, error->message, part);
}

static gboolean sends_request(Bench *bench)
{
    FrameType type;

    engine_pair_move_links(&bench->pair);
    return lane_received(bench->pair.source.lane, &type) != NULL;
}

static gboolean passes_on(Bench *bench)
{
    FrameType type;

    engine_pair_move_links(&bench->pair);
    return session_received(bench->pair.source.session, &type) != NULL;
}

static void check_row(Bench *bench, IncomingState next, IncomingEvent event)
{
    g_autoptr(GError) error = NULL;

    feed(bench, event);
    if (!run(bench, &error))
        fail_msg("%s: %s", incoming_event_name(event), error->message);
    assert_int_equal(incoming_state(bench->incoming), next);
    if (event == INCOMING_EV_REQUEST) {
        assert_true(sends_request(bench));
        assert_false(passes_on(bench));
    }
}

static void check_refused(Bench *bench, IncomingState state, IncomingEvent event)
{
    g_autoptr(GError) error = NULL;
    FrameType type;

    feed(bench, event);
    if (event == INCOMING_EV_REQUEST) {
        /* QEMU's, not the peer's: not for the engine, so the source QEMU is to see to it. */
        assert_true(run(bench, NULL));
        assert_false(sends_request(bench));
        assert_true(passes_on(bench));
        return;
    }
    if (event == INCOMING_EV_URGENT_PAGES && state < INCOMING_RUNNING) {
        /* Another channel: what comes before it on the main one is perhaps on its way. */
        assert_true(run(bench, NULL));
        assert_int_equal(incoming_state(bench->incoming), state);
        assert_non_null(lane_received(bench->pair.destination.lane, &type));
        return;
    }
    run(bench, &error);
    assert_says(error, incoming_event_name(event), incoming_event_name(event));
    assert_says(error, incoming_event_name(event), incoming_state_name(state));
    assert_int_equal(incoming_state(bench->incoming), state);
}

static void every_pair_has_its_row_or_its_refusal(void **state)
{
    guint n_rows = 0;

    for (guint s = 0; s < INCOMING_STATE_MAX; s++) {
        for (guint e = 0; e < INCOMING_EVENT_MAX; e++) {
            g_auto(Bench) bench;
            IncomingState next;

            bench_init(&bench);
            drive_to(&bench, s);
            if (incoming_has_row(s, e, &next)) {
                check_row(&bench, next, e);
                n_rows++;
            } else {
                check_refused(&bench, s, e);
            }
        }
    }
    assert_in_range(n_rows, 20, INCOMING_STATE_MAX * INCOMING_EVENT_MAX - 1);
}

static void urgent_pages_that_come_early_wait_for_the_switch(void **state)
{
    g_auto(Bench) bench;
    RamStats stats;

    bench_init(&bench);
    feed(&bench, INCOMING_EV_URGENT_PAGES);
    assert_true(run(&bench, NULL));
    drive_to(&bench, INCOMING_RUNNING);
    incoming_get_stats(bench.incoming, 0, &stats);
    assert_int_equal(stats.pages_urgent, 1);
}

/* ---- what cannot be ---- */

static void bad_phase(Bench *bench)
{
    put_bytes(bench, FRAME_PHASE, "\x09", 1);
}

static void long_phase(Bench *bench)
{
    put_bytes(bench, FRAME_PHASE, "\x01\x00", 2);
}

static void bad_channel_event(Bench *bench)
{
    put_bytes(bench, FRAME_QEMU_CHANNEL, "\x07", 1);
}

static void cut_blocks(Bench *bench)
{
    put_bytes(bench, FRAME_BLOCKS, "\x00\x00\x00\x02\x00\x00\x10\x00\x00\x01", 10);
}

static void put_one_block(Bench *bench, guint64 length, guint64 host_page)
{
    g_autoptr(RamBlocks) blocks = ram_blocks_new();
    g_autoptr(GByteArray) body = g_byte_array_new();
    guint index;

    assert_true(ram_blocks_add(blocks, (const guint8 *)"x", 1, length, host_page, &index, NULL));
    blocks_body_encode(body, blocks, SECTION, FRAME_PAGES_MAX);
    put(bench, FALSE, FRAME_BLOCKS, body);
}

static void block_without_length(Bench *bench)
{
    put_one_block(bench, 0, MODEL_PAGE);
}

static void block_of_odd_length(Bench *bench)
{
    put_one_block(bench, HUGE_SIZE + MODEL_PAGE, HUGE_SIZE);
}

static void block_too_large(Bench *bench)
{
    put_one_block(bench, G_GUINT64_CONSTANT(1) << 50, MODEL_PAGE);
}

static void page_of_no_block(Bench *bench)
{
    put_zero(bench, FALSE, 2, 0);
}

static void page_behind_the_end(Bench *bench)
{
    put_zero(bench, FALSE, BLOCK_RAM, 64 * MODEL_PAGE);
}

static void urgent_page_behind_the_end(Bench *bench)
{
    put_zero(bench, TRUE, BLOCK_RAM, 64 * MODEL_PAGE);
}

static void page_that_is_not_aligned(Bench *bench)
{
    put_zero(bench, FALSE, BLOCK_RAM, 100);
}

static void no_records(Bench *bench)
{
    put_bytes(bench, FRAME_PAGES, "\0\0\0\0\0\0\0\x10", 8);
}

static void torn_host_page(Bench *bench)
{
    put_zero(bench, FALSE, BLOCK_HUGE, 0);
    put_zero(bench, FALSE, BLOCK_HUGE, HUGE_SIZE);
}

static void urgent_torn_host_page(Bench *bench)
{
    put_zero(bench, TRUE, BLOCK_HUGE, HUGE_SIZE);
    put_zero(bench, TRUE, BLOCK_HUGE, 0);
}

static void overlong_compressed_page(Bench *bench)
{
    static const guint8 data[2 * MODEL_PAGE];

    put_page(bench, FALSE, &(QemuPage){ .block = BLOCK_HUGE, .kind = QEMU_PAGE_COMPRESSED,
                                        .data = data, .data_len = sizeof data });
}

static void overlong_compressed_small_page(Bench *bench)
{
    static const guint8 data[2 * MODEL_PAGE];

    put_page(bench, FALSE, &(QemuPage){ .block = BLOCK_RAM, .kind = QEMU_PAGE_COMPRESSED,
                                        .data = data, .data_len = sizeof data });
}

static void too_many_at_the_end(Bench *bench)
{
    put_ram_end(bench, 1, 0);
}

static void too_few_at_the_end(Bench *bench)
{
    put_zero(bench, FALSE, BLOCK_RAM, 0);
    put_ram_end(bench, 0, 0);
}

static void long_ram_end(Bench *bench)
{
    put_bytes(bench, FRAME_RAM_END, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 17);
}

static void end_of_no_bulk_channel(Bench *bench)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    ram_end_body_encode(body, &(RamEnd){ .n_bulk = 2, .bulk_seq = { 0, 5 } });
    put(bench, FALSE, FRAME_RAM_END, body);
}

static const struct {
    const char *name;
    IncomingState state;
    void (*put)(Bench *bench);
    const char *says;
} bad_frames[] = {
    { "phase 9", INCOMING_NONE, bad_phase, "PHASE" },
    { "a phase of two bytes", INCOMING_NONE, long_phase, "PHASE" },
    { "channel event 7", INCOMING_NONE, bad_channel_event, "QEMU_CHANNEL" },
    { "cut blocks", INCOMING_NONE, cut_blocks, "BLOCKS" },
    { "no length", INCOMING_NONE, block_without_length, "BLOCKS: the length of x is missing" },
    { "odd length", INCOMING_NONE, block_of_odd_length, "no multiple of its pages" },
    { "too large", INCOMING_NONE, block_too_large, "BLOCKS: more than" },
    { "no such block", INCOMING_RUNNING, page_of_no_block, "PAGES" },
    { "behind the end", INCOMING_RUNNING, page_behind_the_end, "PAGES" },
    { "urgent, behind the end", INCOMING_RUNNING, urgent_page_behind_the_end, "PAGES" },
    { "not aligned", INCOMING_RUNNING, page_that_is_not_aligned, "PAGES" },
    { "no records", INCOMING_RUNNING, no_records, "PAGES" },
    { "torn", INCOMING_RUNNING, torn_host_page,
      "PAGES on the main channel: offset 0x200000 of huge" },
    { "urgent torn", INCOMING_RUNNING, urgent_torn_host_page,
      "PAGES on the preempt channel: offset 0x0 of huge" },
    { "overlong", INCOMING_RUNNING, overlong_compressed_page, "8192 bytes for a page of 4096" },
    { "overlong small", INCOMING_RUNNING, overlong_compressed_small_page,
      "8192 bytes for a page of 4096" },
    { "more pages sent", INCOMING_RUNNING, too_many_at_the_end,
      "RAM_END: 1 pages were sent, 0 have come" },
    { "fewer pages sent", INCOMING_RUNNING, too_few_at_the_end,
      "RAM_END: 0 pages were sent, 1 have come" },
    { "long end", INCOMING_RUNNING, long_ram_end, "RAM_END" },
    { "no bulk channel", INCOMING_RUNNING, end_of_no_bulk_channel,
      "RAM_END: there is no bulk channel 2" },
};

static void frames_that_cannot_be_are_refused_by_what_is_wrong(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad_frames); i++) {
        g_autoptr(GError) error = NULL;
        g_auto(Bench) bench;

        bench_init(&bench);
        drive_to(&bench, bad_frames[i].state);
        bad_frames[i].put(&bench);
        run(&bench, &error);
        assert_says(error, bad_frames[i].name, bad_frames[i].says);
    }
}

static void blocks_need_a_preempt_channel(void **state)
{
    g_autoptr(GError) error = NULL;
    g_auto(Bench) bench;

    bench_init(&bench);
    incoming_set_lane(bench.incoming, NULL);
    put_blocks(&bench);
    run(&bench, &error);
    assert_says(error, "BLOCKS", "before the preempt channel");
}

/* ---- the end ---- */

static void the_end_waits_for_pages_on_the_preempt_channel(void **state)
{
    g_auto(Bench) bench;

    bench_init(&bench);
    drive_to(&bench, INCOMING_RUNNING);
    put_ram_end(&bench, 1, 1);
    assert_true(run(&bench, NULL));
    assert_int_equal(incoming_state(bench.incoming), INCOMING_RUNNING);
    put_zero(&bench, TRUE, BLOCK_RAM, 0);
    assert_true(run(&bench, NULL));
    assert_int_equal(incoming_state(bench.incoming), INCOMING_END);
}

static void a_page_that_came_is_not_placed_again(void **state)
{
    g_auto(Bench) bench;
    g_autoptr(GByteArray) once = g_byte_array_new();
    g_autoptr(GByteArray) again = g_byte_array_new();
    RamStats stats;

    bench_init(&bench);
    drive_to(&bench, INCOMING_RUNNING);
    put_zero(&bench, FALSE, BLOCK_RAM, 0);
    assert_true(run_into(&bench, once, NULL));
    assert_true(once->len > 0);
    put_zero(&bench, FALSE, BLOCK_RAM, 0);
    put_zero(&bench, TRUE, BLOCK_RAM, 0);
    assert_true(run_into(&bench, again, NULL));
    assert_int_equal(again->len, 0);
    incoming_get_stats(bench.incoming, 0, &stats);
    assert_int_equal(stats.duplicates, 2);
}

/* ---- what is counted ---- */

static RamStats stats_at(Bench *bench, gint64 now_us)
{
    RamStats stats;

    bench->now_us = now_us;
    incoming_get_stats(bench->incoming, now_us, &stats);
    return stats;
}

static void page_comes(Bench *bench, guint page, gint64 now_us)
{
    bench->now_us = now_us;
    put_zero(bench, TRUE, BLOCK_RAM, page * MODEL_PAGE);
    assert_true(run(bench, NULL));
}

static void asks(Bench *bench, guint page, gint64 now_us)
{
    bench->now_us = now_us;
    say_request(bench, page);
}

static void blocked_time_is_that_with_any_request_unanswered(void **state)
{
    g_auto(Bench) bench;

    bench_init(&bench);
    drive_to(&bench, INCOMING_RUNNING);
    assert_int_equal(stats_at(&bench, 1000).blocked_us, 0);
    asks(&bench, 5, 1000);
    asks(&bench, 6, 1300); /* at the same time */
    asks(&bench, 5, 1400); /* again: it is waited for already */
    assert_int_equal(stats_at(&bench, 1500).blocked_us, 500);
    page_comes(&bench, 5, 2000);
    assert_int_equal(stats_at(&bench, 2100).blocked_us, 1100);
    page_comes(&bench, 6, 3000);
    page_comes(&bench, 7, 3500); /* nobody waits for it */
    assert_int_equal(stats_at(&bench, 10000).blocked_us, 2000);
    asks(&bench, 6, 11000); /* it is here */
    asks(&bench, 8, 12000);
    page_comes(&bench, 8, 12010);
    assert_int_equal(stats_at(&bench, 20000).blocked_us, 2010);
    assert_int_equal(stats_at(&bench, 20000).requests_outstanding, 0);
}

static void what_was_discarded_remains_until_it_comes(void **state)
{
    g_auto(Bench) bench;
    g_autoptr(GByteArray) discard = g_byte_array_new();

    bench_init(&bench);
    drive_to(&bench, INCOMING_DISCARD);
    assert_int_equal(stats_at(&bench, 1).ram_bytes, 0);
    build_discard(discard, blocks_used[BLOCK_RAM].name, 0, 2 * MODEL_PAGE);
    build_discard(discard, blocks_used[BLOCK_HUGE].name, 0, HUGE_SIZE);
    put_bytes(&bench, FRAME_DATA, discard->data, discard->len);
    feed(&bench, INCOMING_EV_BLOCKS);
    feed(&bench, INCOMING_EV_RUNNING);
    assert_true(run(&bench, NULL));
    assert_int_equal(stats_at(&bench, 1).ram_bytes, 64 * MODEL_PAGE + 2 * HUGE_SIZE);
    assert_int_equal(stats_at(&bench, 1).ram_remaining_bytes, 2 * MODEL_PAGE + HUGE_SIZE);
    page_comes(&bench, 1, 2);
    page_comes(&bench, 1, 2); /* again */
    assert_int_equal(stats_at(&bench, 2).ram_remaining_bytes, MODEL_PAGE + HUGE_SIZE);
    put_ram_end(&bench, 1, 2);
    assert_true(run(&bench, NULL));
    assert_int_equal(stats_at(&bench, 2).ram_remaining_bytes, 0);
}


int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_has_its_row_or_its_refusal),
        cmocka_unit_test(urgent_pages_that_come_early_wait_for_the_switch),
        cmocka_unit_test(frames_that_cannot_be_are_refused_by_what_is_wrong),
        cmocka_unit_test(blocks_need_a_preempt_channel),
        cmocka_unit_test(the_end_waits_for_pages_on_the_preempt_channel),
        cmocka_unit_test(a_page_that_came_is_not_placed_again),
        cmocka_unit_test(blocked_time_is_that_with_any_request_unanswered),
        cmocka_unit_test(what_was_discarded_remains_until_it_comes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
