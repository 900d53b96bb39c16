/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Parts of the engine by themselves: frames that wait, sets of pages, and what is written to the
 * destination QEMU. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "ram/frame_queue.h"
#include "ram/page_set.h"
#include "ram/qemu_sink.h"
#include "tests/support/session-pair.h"

#define PAGE 4096

/* ---- page set ---- */

static void a_page_is_in_the_set_once_with_its_first_time(void **state)
{
    g_autoptr(PageSet) set = page_set_new();
    gint64 since;

    assert_true(page_set_add(set, 1, 5 * PAGE, 100));
    assert_false(page_set_add(set, 1, 5 * PAGE, 200));
    assert_true(page_set_add(set, 2, 5 * PAGE, 300));
    assert_int_equal(page_set_size(set), 2);
    assert_true(page_set_contains(set, 1, 5 * PAGE));
    assert_false(page_set_contains(set, 1, 6 * PAGE));
    assert_false(page_set_contains(set, 3, 5 * PAGE));
    assert_true(page_set_remove(set, 1, 5 * PAGE, &since));
    assert_int_equal(since, 100);
    assert_false(page_set_remove(set, 1, 5 * PAGE, &since));
    assert_false(page_set_contains(set, 1, 5 * PAGE));
    assert_int_equal(page_set_size(set), 1);
}

static void a_large_set_finds_all_its_pages(void **state)
{
    g_autoptr(PageSet) set = page_set_new();
    gint64 since;

    for (guint i = 0; i < 3000; i++)
        assert_true(page_set_add(set, i % 3, (guint64)(i / 3) << (12 + i % 3 * 10), i));
    for (guint i = 0; i < 3000; i++) {
        assert_true(page_set_remove(set, i % 3, (guint64)(i / 3) << (12 + i % 3 * 10), &since));
        assert_int_equal(since, i);
    }
    assert_int_equal(page_set_size(set), 0);
}

/* ---- frame queue ---- */

typedef struct {
    SessionPair pair;
    FrameQueue queue;
} Bench;

static void bench_init(Bench *bench)
{
    PairFeatures features = { SESSION_FEATURES_ALL, SESSION_FEATURES_ALL };

    session_pair_begin(&bench->pair, 2 * FRAME_PAGES_MAX, features);
    frame_queue_init(&bench->queue);
}

static void bench_clear(Bench *bench)
{
    frame_queue_clear(&bench->queue);
    session_pair_clear(&bench->pair);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Bench, bench_clear)

static void send_queue(Bench *bench)
{
    frame_queue_send(&bench->queue, bench->pair.source.session, NULL, 1);
    session_pair_drain(&bench->pair);
}

static void assert_arrives(Bench *bench, FrameType type, const char *body)
{
    FrameType got;
    GBytes *bytes = session_received(bench->pair.destination.session, &got);

    assert_non_null(bytes);
    assert_int_equal(got, type);
    assert_int_equal(g_bytes_get_size(bytes), strlen(body));
    assert_memory_equal(g_bytes_get_data(bytes, NULL), body, strlen(body));
    session_consume(bench->pair.destination.session);
}

static void put_text(Bench *bench, const char *text)
{
    frame_queue_put_data(&bench->queue, (const guint8 *)text, strlen(text));
}

static void assert_nothing_arrives(Bench *bench)
{
    FrameType got;

    assert_null(session_received(bench->pair.destination.session, &got));
}

static void bytes_of_the_stream_share_frames_and_keep_their_order(void **state)
{
    g_auto(Bench) bench;

    bench_init(&bench);
    assert_true(frame_queue_is_empty(&bench.queue));
    put_text(&bench, "one ");
    put_text(&bench, "two");
    frame_queue_put(&bench.queue, FRAME_PHASE, (const guint8 *)"\1", 1);
    put_text(&bench, "three");
    frame_queue_put_first(&bench.queue, FRAME_QEMU_CHANNEL, (const guint8 *)"\2", 1);
    assert_int_equal(bench.queue.bytes, 14);
    send_queue(&bench);
    assert_arrives(&bench, FRAME_QEMU_CHANNEL, "\2");
    assert_arrives(&bench, FRAME_DATA, "one two");
    assert_arrives(&bench, FRAME_PHASE, "\1");
    assert_arrives(&bench, FRAME_DATA, "three");
    assert_nothing_arrives(&bench);
    assert_true(frame_queue_is_empty(&bench.queue));
    assert_int_equal(bench.queue.bytes, 0);
}

static void long_data_is_cut_and_waits_for_the_window(void **state)
{
    g_autofree guint8 *bytes = g_malloc0(3 * FRAME_DATA_MAX + 5);
    g_auto(Bench) bench;

    bench_init(&bench);
    frame_queue_put_data(&bench.queue, bytes, 3 * FRAME_DATA_MAX + 5);
    assert_int_equal(bench.queue.bytes, 3 * FRAME_DATA_MAX + 5);
    send_queue(&bench);
    assert_int_equal(bench.queue.bytes, FRAME_DATA_MAX + 5);
    session_consume(bench.pair.destination.session);
    session_pair_drain(&bench.pair);
    send_queue(&bench);
    assert_int_equal(bench.queue.bytes, 0);
}

static void nothing_passes_a_barrier(void **state)
{
    g_auto(Bench) bench;

    bench_init(&bench);
    put_text(&bench, "before");
    assert_false(frame_queue_at_barrier(&bench.queue));
    frame_queue_put_barrier(&bench.queue);
    put_text(&bench, "after");
    assert_false(frame_queue_at_barrier(&bench.queue));
    send_queue(&bench);
    assert_true(frame_queue_at_barrier(&bench.queue));
    assert_false(frame_queue_is_empty(&bench.queue));
    assert_arrives(&bench, FRAME_DATA, "before");
    assert_nothing_arrives(&bench);
    frame_queue_pass_barrier(&bench.queue);
    send_queue(&bench);
    assert_arrives(&bench, FRAME_DATA, "after");
    assert_true(frame_queue_is_empty(&bench.queue));
}

static void a_queue_can_be_dropped_with_all_that_waits(void **state)
{
    g_auto(Bench) bench;

    bench_init(&bench);
    put_text(&bench, "never sent");
    frame_queue_put_barrier(&bench.queue);
    put_text(&bench, "never sent either");
}

static void the_in_flight_limit_is_kept(void **state)
{
    FlowConfig config = { .max = 2 * FRAME_PAGES_MAX };
    g_autoptr(Flow) flow = flow_new(&config);
    g_auto(Bench) bench;
    guint64 room = flow_room(flow);

    bench_init(&bench);
    flow_on_sent(flow, room, 1);
    put_text(&bench, "waits");
    frame_queue_send(&bench.queue, bench.pair.source.session, flow, 2);
    assert_false(frame_queue_is_empty(&bench.queue));
    flow_on_acked(flow, room, 3);
    frame_queue_send(&bench.queue, bench.pair.source.session, flow, 4);
    assert_true(frame_queue_is_empty(&bench.queue));
}

/* ---- QEMU's sink ---- */

static RamBlocks *two_blocks(void)
{
    RamBlocks *blocks = ram_blocks_new();
    guint index;

    assert_true(ram_blocks_add(blocks, (const guint8 *)"a", 1, 100 * PAGE, PAGE, &index, NULL));
    assert_true(ram_blocks_add(blocks, (const guint8 *)"b", 1, 100 * PAGE, PAGE, &index, NULL));
    return blocks;
}

static void place_zero(QemuSink *sink, guint block, guint64 offset)
{
    RamSink *base = qemu_sink_base(sink);
    QemuPage page = { .block = block, .offset = offset, .kind = QEMU_PAGE_ZERO };

    base->ops->place(base, &page);
}

/* Takes the output, most bytes at a time. */
static GByteArray *take(QemuSink *sink, gsize most)
{
    GByteArray *all = g_byte_array_new();
    struct iovec iov[QEMU_SINK_IOV_MAX];

    while (qemu_sink_output(sink, iov) > 0) {
        gsize len = MIN(iov[0].iov_len, most);

        g_byte_array_append(all, iov[0].iov_base, len);
        qemu_sink_written(sink, len);
    }
    assert_true(qemu_sink_is_idle(sink));
    return all;
}

#define PART "\2\0\0\0\7"
#define EOS_FOOTER "\0\0\0\0\0\0\0\x10\x7e\0\0\0\7"
#define ZERO_A_1 "\0\0\0\0\0\0\x10\2\1a\0"
#define ZERO_SAME_2 "\0\0\0\0\0\0\x20\x22\0"
#define ZERO_B_3 "\0\0\0\0\0\0\x30\2\1b\0"
#define END_SECTION "\3\0\0\0\7" EOS_FOOTER

static void assert_takes(QemuSink *sink, gsize most, const char *expected, gsize len)
{
    g_autoptr(GByteArray) got = take(sink, most);

    assert_int_equal(got->len, len);
    assert_memory_equal(got->data, expected, len);
}
#define ASSERT_TAKES(sink, most, text) assert_takes(sink, most, text, sizeof(text) - 1)

static void pages_become_records_in_a_section(void **state)
{
    g_autoptr(RamBlocks) blocks = two_blocks();

    for (gsize most = 1; most < 80; most += 13) {
        g_autoptr(QemuSink) sink = qemu_sink_new(blocks, TRUE);

        qemu_sink_set_section(sink, 7);
        assert_true(qemu_sink_is_idle(sink));
        place_zero(sink, 0, PAGE);
        place_zero(sink, 0, 2 * PAGE);
        assert_false(qemu_sink_is_idle(sink));
        ASSERT_TAKES(sink, most, PART ZERO_A_1 ZERO_SAME_2);
        /* The section is still open. */
        place_zero(sink, 1, 3 * PAGE);
        ASSERT_TAKES(sink, most, ZERO_B_3);
        qemu_sink_put(sink, (const guint8 *)"raw", 3);
        ASSERT_TAKES(sink, most, EOS_FOOTER "raw");
        /* What went between may have records of its own: the block is named again. */
        place_zero(sink, 0, PAGE);
        ASSERT_TAKES(sink, most, PART ZERO_A_1);
        qemu_sink_put_ram_end(sink);
        ASSERT_TAKES(sink, most, EOS_FOOTER END_SECTION);
    }
}

static void without_pages_there_is_no_section(void **state)
{
    g_autoptr(RamBlocks) blocks = two_blocks();
    g_autoptr(QemuSink) sink = qemu_sink_new(blocks, TRUE);

    qemu_sink_set_section(sink, 7);
    qemu_sink_put(sink, (const guint8 *)"raw", 3);
    ASSERT_TAKES(sink, 100, "raw");
    qemu_sink_put(sink, (const guint8 *)"", 0);
    qemu_sink_written(sink, 0);
    assert_true(qemu_sink_is_idle(sink));
    qemu_sink_put_ram_end(sink);
    ASSERT_TAKES(sink, 100, END_SECTION);
}

static void a_preempt_connection_has_records_alone(void **state)
{
    g_autoptr(RamBlocks) blocks = two_blocks();
    g_autoptr(QemuSink) sink = qemu_sink_new(blocks, FALSE);

    place_zero(sink, 0, PAGE);
    place_zero(sink, 0, 2 * PAGE);
    ASSERT_TAKES(sink, 5, ZERO_A_1 ZERO_SAME_2);
    qemu_sink_put_eos(sink);
    ASSERT_TAKES(sink, 5, "\0\0\0\0\0\0\0\x10");
}

static void the_queue_in_front_of_qemu_is_short(void **state)
{
    g_autoptr(RamBlocks) blocks = two_blocks();
    g_autoptr(QemuSink) sink = qemu_sink_new(blocks, TRUE);
    RamSink *base = qemu_sink_base(sink);
    g_autofree guint8 *data = g_malloc0(PAGE);
    struct iovec iov[QEMU_SINK_IOV_MAX];

    for (guint i = 0; i < QEMU_SINK_PAGES; i++) {
        QemuPage page = { .block = i % 2, .offset = i * PAGE, .data = data, .data_len = PAGE };

        assert_int_equal(base->ops->room(base), QEMU_SINK_PAGES - i);
        base->ops->place(base, &page);
    }
    assert_int_equal(base->ops->room(base), 0);
    assert_false(base->ops->is_empty(base));
    assert_int_equal(qemu_sink_output(sink, iov), 2 * QEMU_SINK_PAGES);
    assert_ptr_equal(iov[1].iov_base, data);
    g_byte_array_unref(take(sink, PAGE));
    assert_true(base->ops->is_empty(base));
    assert_int_equal(base->ops->room(base), QEMU_SINK_PAGES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_is_in_the_set_once_with_its_first_time),
        cmocka_unit_test(a_large_set_finds_all_its_pages),
        cmocka_unit_test(bytes_of_the_stream_share_frames_and_keep_their_order),
        cmocka_unit_test(long_data_is_cut_and_waits_for_the_window),
        cmocka_unit_test(nothing_passes_a_barrier),
        cmocka_unit_test(a_queue_can_be_dropped_with_all_that_waits),
        cmocka_unit_test(the_in_flight_limit_is_kept),
        cmocka_unit_test(pages_become_records_in_a_section),
        cmocka_unit_test(without_pages_there_is_no_section),
        cmocka_unit_test(a_preempt_connection_has_records_alone),
        cmocka_unit_test(the_queue_in_front_of_qemu_is_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
