/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The source's machine, each pair of state and event: it does what the table says, or what has no
 * row is passed on unread (QEMU's stream) or refused with both names (the peer's requests). */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "ram/page_frames.h"
#include "tests/support/engine-pair.h"

#define WINDOW (1024 * 1024)
#define SECTION 2
#define PAGES 70000

static const guint8 raw[] = "the bytes of the element";
static const ModelBlock no_blocks[] = { { "pc.ram", MODEL_PAGE, 1, 0 } };

/* ---- a machine with a peer that only receives ---- */

typedef struct {
    RamSource base;
    guint asked;
    EnginePair pair;
    ModelGuest guest;
    RamBlocks *blocks;
    Outgoing *outgoing;
} Bench;

static void on_request(RamSource *source, guint block, guint64 start, guint32 length)
{
    ((Bench *)source)->asked++;
}

static const RamSourceOps ops = { on_request };

static void bench_init(Bench *bench, gboolean with_lane)
{
    EngineSetup setup = { .window = WINDOW, .stage = WINDOW, .qemu_buffer = 1, .most = 1 };
    OutgoingConfig config = { .stage = WINDOW, .window = WINDOW };
    guint index;

    *bench = (Bench){ .base = { &ops } };
    model_guest_init(&bench->guest, no_blocks, 1, 1);
    engine_pair_init(&bench->pair, &setup, &bench->guest, 1);
    bench->blocks = ram_blocks_new();
    assert_true(ram_blocks_add(bench->blocks, (const guint8 *)"pc.ram", 6,
                               (guint64)PAGES * MODEL_PAGE, MODEL_PAGE, &index, NULL));
    bench->outgoing = outgoing_new(&config, bench->blocks, &bench->base,
                                   bench->pair.source.session);
    if (with_lane)
        outgoing_set_lane(bench->outgoing, bench->pair.source.lane);
}

static void bench_clear(Bench *bench)
{
    outgoing_free(bench->outgoing);
    ram_blocks_free(bench->blocks);
    engine_pair_clear(&bench->pair);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Bench, bench_clear)

static gboolean feed(Bench *bench, OutgoingEvent event, GError **error)
{
    static const guint8 data[MODEL_PAGE] = { 1 };
    QemuPage page = { .kind = QEMU_PAGE_RAW, .data = data, .data_len = sizeof data };
    PageRequest request = { 0, MODEL_PAGE, MODEL_PAGE };
    OutgoingInput in = {
        .raw = raw,
        .raw_len = sizeof raw,
        .page = &page,
        .request = &request,
        .text = event == OUTGOING_EV_UNKNOWN ? "what was not understood" : NULL,
        .section = SECTION,
        .now_us = 1,
    };

    return outgoing_event(bench->outgoing, event, &in, error);
}

#define PATH_MAX_EVENTS 8
#define END OUTGOING_EVENT_MAX

static const OutgoingEvent paths[OUTGOING_STATE_MAX][PATH_MAX_EVENTS] = {
    [OUTGOING_NONE] = { END },
    [OUTGOING_SETUP] = { OUTGOING_EV_HEADER, END },
    [OUTGOING_ACTIVE] = { OUTGOING_EV_HEADER, OUTGOING_EV_ADVISE, OUTGOING_EV_RAM_SETUP, END },
    [OUTGOING_DEVICE] = { OUTGOING_EV_HEADER, OUTGOING_EV_RAM_SETUP, OUTGOING_EV_DISCARD, END },
    [OUTGOING_POSTCOPY_ACTIVE] = { OUTGOING_EV_HEADER, OUTGOING_EV_RAM_SETUP, OUTGOING_EV_PACKAGE,
                                   OUTGOING_EV_PACKAGE_END, END },
    [OUTGOING_POSTCOPY_RECOVER] = { OUTGOING_EV_RESUMED, END },
    [OUTGOING_POSTCOPY_PAUSED] = { OUTGOING_EV_HEADER, OUTGOING_EV_RAM_SETUP, OUTGOING_EV_PACKAGE,
                                   OUTGOING_EV_PACKAGE_END, OUTGOING_EV_FAILED, END },
    [OUTGOING_COMPLETED] = { OUTGOING_EV_HEADER, OUTGOING_EV_COMPLETED, END },
    [OUTGOING_FAILED] = { OUTGOING_EV_HEADER, OUTGOING_EV_FAILED, END },
    [OUTGOING_CANCELLED] = { OUTGOING_EV_HEADER, OUTGOING_EV_CANCELLED, END },
};

static void drive_to(Bench *bench, OutgoingState state)
{
    for (const OutgoingEvent *event = paths[state]; *event != END; event++)
        assert_true(feed(bench, *event, NULL));
    /* A recovery in which the blocks are known, up to what the destination has. */
    if (state == OUTGOING_POSTCOPY_RECOVER) {
        outgoing_on_bitmap_head(bench->outgoing, 0, PAGES);
        outgoing_on_bitmap(bench->outgoing, 0, 0, (const guint8 *)"\1", 1);
    }
    assert_int_equal(outgoing_state(bench->outgoing), state);
    assert_false(outgoing_is_transparent(bench->outgoing));
}

/* What the peer gets of all that is sent, as one run of bytes of DATA. */
static GByteArray *received_data(Bench *bench)
{
    Session *peer = bench->pair.destination.session;
    GByteArray *data = g_byte_array_new();
    FrameType type;
    GBytes *body;

    assert_true(outgoing_run(bench->outgoing, 2, NULL));
    engine_pair_move_links(&bench->pair);
    while ((body = session_received(peer, &type))) {
        if (type == FRAME_DATA)
            g_byte_array_append(data, g_bytes_get_data(body, NULL), g_bytes_get_size(body));
        session_consume(peer);
    }
    return data;
}

static void assert_contains_both(const char *text, OutgoingState state, OutgoingEvent event)
{
    assert_non_null(text);
    if (!strstr(text, outgoing_state_name(state)) || !strstr(text, outgoing_event_name(event)))
        fail_msg("\"%s\" names not both, %s in state %s", text, outgoing_event_name(event),
                 outgoing_state_name(state));
}

/* ---- the walk ---- */

static gboolean is_stream(OutgoingEvent event)
{
    return event < OUTGOING_EV_URGENT_OPENED;
}

static void check_row(Bench *bench, OutgoingState next, OutgoingEvent event)
{
    GError *error = NULL;

    if (!feed(bench, event, &error))
        fail_msg("%s: %s", outgoing_event_name(event), error->message);
    if (outgoing_state(bench->outgoing) != next)
        fail_msg("%s leads to %s instead of %s", outgoing_event_name(event),
                 outgoing_state_name(outgoing_state(bench->outgoing)), outgoing_state_name(next));
}

static void check_passed_on(Bench *bench, OutgoingState state, OutgoingEvent event)
{
    g_autoptr(GByteArray) data = NULL;

    assert_true(feed(bench, event, NULL));
    assert_int_equal(outgoing_state(bench->outgoing), state);
    assert_true(outgoing_is_transparent(bench->outgoing));
    assert_contains_both(outgoing_warning(bench->outgoing), state, event);
    data = received_data(bench);
    assert_in_range(data->len, sizeof raw, 1000);
    assert_memory_equal(data->data + data->len - sizeof raw, raw, sizeof raw);
}

static void check_refused(Bench *bench, OutgoingState state, OutgoingEvent event)
{
    g_autoptr(GError) error = NULL;

    if (event == OUTGOING_EV_REQUEST) {
        assert_false(feed(bench, event, &error));
        assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL));
        assert_contains_both(error->message, state, event);
        return;
    }
    assert_true(feed(bench, event, NULL));
    assert_false(outgoing_is_transparent(bench->outgoing));
    assert_int_equal(outgoing_state(bench->outgoing), state);
    if (event == OUTGOING_EV_URGENT_PAGE) {
        assert_false(outgoing_run(bench->outgoing, 2, &error));
        assert_non_null(strstr(error->message, outgoing_state_name(state)));
    }
}

static gboolean walk(OutgoingState state, OutgoingEvent event)
{
    g_auto(Bench) bench;
    OutgoingState next;

    bench_init(&bench, TRUE);
    drive_to(&bench, state);
    if (outgoing_has_row(state, event, &next)) {
        /* What cannot be from where the row begins is passed on instead, by its action: a section
         * before POSTCOPY_RESUME. */
        if (state == OUTGOING_POSTCOPY_RECOVER && event == OUTGOING_EV_FRAMING)
            assert_true(feed(&bench, OUTGOING_EV_RESUME, NULL));
        if (state == OUTGOING_DEVICE && event == OUTGOING_EV_PACKAGE_END)
            assert_true(feed(&bench, OUTGOING_EV_PACKAGE, NULL));
        check_row(&bench, next, event);
        return TRUE;
    }
    if (is_stream(event))
        check_passed_on(&bench, state, event);
    else
        check_refused(&bench, state, event);
    return FALSE;
}

static void every_pair_has_its_row_or_its_refusal(void **state)
{
    guint n_rows = 0;

    for (guint s = 0; s < OUTGOING_STATE_MAX; s++) {
        for (guint e = 0; e < OUTGOING_EVENT_MAX; e++)
            n_rows += walk(s, e);
    }
    assert_in_range(n_rows, 80, OUTGOING_STATE_MAX * OUTGOING_EVENT_MAX / 2);
}

static void names_are_all_different(void **state)
{
    for (guint i = 0; i < OUTGOING_EVENT_MAX; i++) {
        for (guint k = 0; k < i; k++)
            assert_string_not_equal(outgoing_event_name(i), outgoing_event_name(k));
    }
    for (guint i = 0; i < OUTGOING_STATE_MAX; i++) {
        for (guint k = 0; k < i; k++)
            assert_string_not_equal(outgoing_state_name(i), outgoing_state_name(k));
    }
}

/* ---- transparent ---- */

static void nothing_is_taken_apart_any_more_once_it_is_transparent(void **state)
{
    for (guint event = 0; event < OUTGOING_EV_URGENT_OPENED; event++) {
        g_auto(Bench) bench;
        g_autoptr(GByteArray) data = NULL;

        bench_init(&bench, TRUE);
        drive_to(&bench, OUTGOING_ACTIVE);
        assert_true(feed(&bench, OUTGOING_EV_UNKNOWN, NULL));
        assert_string_equal(outgoing_warning(bench.outgoing), "what was not understood");
        g_byte_array_unref(received_data(&bench));
        assert_true(feed(&bench, event, NULL));
        assert_int_equal(outgoing_state(bench.outgoing), OUTGOING_ACTIVE);
        data = received_data(&bench);
        assert_int_equal(data->len, sizeof raw);
    }
}

static void without_a_lane_it_is_transparent_from_the_beginning(void **state)
{
    g_auto(Bench) bench;
    g_autoptr(GByteArray) data = NULL;

    bench_init(&bench, FALSE);
    for (guint i = 0; i < OUTGOING_EV_UNKNOWN; i++)
        assert_true(feed(&bench, i, NULL));
    assert_true(outgoing_is_transparent(bench.outgoing));
    assert_null(outgoing_warning(bench.outgoing));
    data = received_data(&bench);
    assert_int_equal(data->len, OUTGOING_EV_UNKNOWN * sizeof raw);
}

static void qemus_preempt_connection_without_a_lane_ends_the_session(void **state)
{
    g_auto(Bench) bench;
    g_autoptr(GError) error = NULL;

    bench_init(&bench, FALSE);
    assert_true(feed(&bench, OUTGOING_EV_URGENT_OPENED, NULL));
    assert_false(outgoing_run(bench.outgoing, 2, &error));
    assert_non_null(strstr(error->message, "preempt"));
}

static void a_recovery_that_does_not_tell_the_page_sizes_is_passed_on(void **state)
{
    g_auto(Bench) bench;

    bench_init(&bench, TRUE);
    assert_true(feed(&bench, OUTGOING_EV_RESUMED, NULL));
    assert_true(feed(&bench, OUTGOING_EV_RESUME, NULL));
    assert_true(outgoing_is_transparent(bench.outgoing));
    assert_non_null(strstr(outgoing_warning(bench.outgoing), "host pages"));
}

/* ---- QEMU's stream ends in the midst of an element ---- */

static void ends_after(OutgoingState state, gsize expected)
{
    g_autoptr(GByteArray) before = NULL, after = NULL;
    g_auto(Bench) bench;

    bench_init(&bench, TRUE);
    drive_to(&bench, state);
    before = received_data(&bench);
    assert_true(feed(&bench, OUTGOING_EV_QEMU_ENDED, NULL));
    after = received_data(&bench);
    assert_int_equal(after->len, expected);
    if (expected > 0)
        assert_memory_equal(after->data, raw, expected);
}

/* Outside of its section the beginning of a page, which is a zero, is the regular end of a stream. */
static void what_qemu_has_only_begun_goes_on_while_the_sections_are_its_own(void **state)
{
    ends_after(OUTGOING_ACTIVE, sizeof raw);
    ends_after(OUTGOING_DEVICE, sizeof raw);
    ends_after(OUTGOING_POSTCOPY_ACTIVE, 0);
}

/* ---- requests ---- */

static const struct {
    const char *name;
    PageRequest request;
    const char *says;
} bad_requests[] = {
    { "no such block", { 1, 0, MODEL_PAGE }, "no such block" },
    { "length 0", { 0, 0, 0 }, "no such block" },
    { "not aligned", { 0, 512, MODEL_PAGE }, "REQUEST: " },
    { "odd length", { 0, 0, 100 }, "REQUEST: " },
    { "behind the end", { 0, (guint64)PAGES * MODEL_PAGE, MODEL_PAGE }, "REQUEST: " },
    { "beyond the end", { 0, (PAGES - 1) * (guint64)MODEL_PAGE, 2 * MODEL_PAGE }, "REQUEST: " },
    { "wraps around", { 0, G_MAXUINT64 - MODEL_PAGE + 1, MODEL_PAGE }, "REQUEST: " },
};

static void bad_requests_are_refused_by_what_is_wrong(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad_requests); i++) {
        OutgoingInput in = { .request = &bad_requests[i].request };
        g_autoptr(GError) error = NULL;
        g_auto(Bench) bench;

        bench_init(&bench, TRUE);
        drive_to(&bench, OUTGOING_POSTCOPY_ACTIVE);
        if (outgoing_event(bench.outgoing, OUTGOING_EV_REQUEST, &in, &error))
            fail_msg("%s: not refused", bad_requests[i].name);
        assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL));
        if (!strstr(error->message, bad_requests[i].says))
            fail_msg("%s: %s", bad_requests[i].name, error->message);
        assert_int_equal(bench.asked, 0);
    }
}

static void a_request_that_is_no_request_is_refused(void **state)
{
    g_auto(Bench) bench;
    g_autoptr(GError) error = NULL;

    bench_init(&bench, TRUE);
    drive_to(&bench, OUTGOING_POSTCOPY_ACTIVE);
    lane_send(bench.pair.destination.lane, FRAME_REQUEST, g_malloc0(FRAME_HEADER_LEN + 16), 16);
    engine_pair_move_links(&bench.pair);
    assert_false(outgoing_run(bench.outgoing, 2, &error));
    assert_non_null(strstr(error->message, "REQUEST"));
}

static void there_are_so_many_requests_at_a_time(void **state)
{
    g_auto(Bench) bench;
    g_autoptr(GError) error = NULL;

    bench_init(&bench, TRUE);
    drive_to(&bench, OUTGOING_POSTCOPY_ACTIVE);
    for (guint i = 0; i <= OUTGOING_REQUESTS_MAX; i++) {
        PageRequest request = { 0, (guint64)i * MODEL_PAGE, MODEL_PAGE };
        OutgoingInput in = { .request = &request };
        gboolean taken = outgoing_event(bench.outgoing, OUTGOING_EV_REQUEST, &in, &error);

        assert_int_equal(taken, i < OUTGOING_REQUESTS_MAX);
    }
    assert_int_equal(bench.asked, OUTGOING_REQUESTS_MAX);
    assert_non_null(strstr(error->message, "65536"));
}

/* Of what is passed on unread nothing tells when a page has come. */
static void requests_go_on_when_the_stream_is_passed_on_unread(void **state)
{
    g_auto(Bench) bench;
    RamStats stats;

    bench_init(&bench, TRUE);
    drive_to(&bench, OUTGOING_POSTCOPY_ACTIVE);
    assert_true(feed(&bench, OUTGOING_EV_UNKNOWN, NULL));
    for (guint i = 0; i < PAGES; i++) {
        PageRequest request = { 0, (guint64)i * MODEL_PAGE, MODEL_PAGE };
        OutgoingInput in = { .request = &request };

        assert_true(outgoing_event(bench.outgoing, OUTGOING_EV_REQUEST, &in, NULL));
    }
    assert_int_equal(bench.asked, PAGES);
    outgoing_get_stats(bench.outgoing, &stats);
    assert_int_equal(stats.requests_outstanding, 0);
}

/* A request may be for a range of pages. */
static void a_long_request_cannot_pass_the_limit(void **state)
{
    PageRequest request = { 0, 0, PAGES * (guint32)MODEL_PAGE };
    OutgoingInput in = { .request = &request };
    RamStats stats;
    g_auto(Bench) bench;

    bench_init(&bench, TRUE);
    drive_to(&bench, OUTGOING_POSTCOPY_ACTIVE);
    assert_false(outgoing_event(bench.outgoing, OUTGOING_EV_REQUEST, &in, NULL));
    outgoing_get_stats(bench.outgoing, &stats);
    assert_in_range(stats.requests_outstanding, 0, OUTGOING_REQUESTS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_has_its_row_or_its_refusal),
        cmocka_unit_test(names_are_all_different),
        cmocka_unit_test(nothing_is_taken_apart_any_more_once_it_is_transparent),
        cmocka_unit_test(without_a_lane_it_is_transparent_from_the_beginning),
        cmocka_unit_test(qemus_preempt_connection_without_a_lane_ends_the_session),
        cmocka_unit_test(a_recovery_that_does_not_tell_the_page_sizes_is_passed_on),
        cmocka_unit_test(what_qemu_has_only_begun_goes_on_while_the_sections_are_its_own),
        cmocka_unit_test(bad_requests_are_refused_by_what_is_wrong),
        cmocka_unit_test(a_request_that_is_no_request_is_refused),
        cmocka_unit_test(there_are_so_many_requests_at_a_time),
        cmocka_unit_test(requests_go_on_when_the_stream_is_passed_on_unread),
        cmocka_unit_test(a_long_request_cannot_pass_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
