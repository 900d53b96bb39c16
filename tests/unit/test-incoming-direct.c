/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The destination's machine where it places pages by itself, in the memory of another process: what goes there goes
 * on no stream, and what a helper has not lived to note does no harm. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ram/page_frames.h"
#include "ram/qemu_write.h"
#include "ram/uffd/uffd.h"
#include "tests/support/engine-pair.h"
#include "tests/support/memory-owner.h"
#include "tests/support/qemu-build.h"
#include "util/autofd.h"

#define WINDOW (1024 * 1024)
#define SECTION 2
#define N_PAGES 64
#define RECORD_SIZE (64 * 1024)

enum { BLOCK_RAM, BLOCK_ROM, BLOCK_TWIN };

/* The last two are alike: their pages come on the stream. */
static const ModelBlock blocks_used[] = {
    { "pc.ram", MODEL_PAGE, N_PAGES, 0 },
    { "rom", MODEL_PAGE, 8, 0 },
    { "twin", MODEL_PAGE, 8, 0 },
};

typedef struct {
    EnginePair pair;
    ModelGuest guest;
    Incoming *incoming;
    GByteArray *written; /* to QEMU */
    gint64 now_us;
} Bench;

/* QEMU's process and what it has, over several machines. */
typedef struct {
    Owner *owner;
    int record;
} Host;

static void host_init(Host *host)
{
    OwnerConfig config = { .backing = UFFD_ANON, .page_size = MODEL_PAGE, .n_pages = N_PAGES,
                           .memfd = -1 };

    host->owner = owner_start(&config);
    host->record = memfd_create("record", MFD_CLOEXEC);
    assert_int_equal(ftruncate(host->record, RECORD_SIZE), 0);
}

static void host_clear(Host *host)
{
    owner_free(host->owner);
    close(host->record);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Host, host_clear)

static void bench_init(Bench *bench)
{
    EngineSetup setup = { .window = WINDOW, .stage = WINDOW, .qemu_buffer = 1, .most = 1 };

    *bench = (Bench){ .now_us = 1, .written = g_byte_array_new() };
    model_guest_init(&bench->guest, blocks_used, G_N_ELEMENTS(blocks_used), 1);
    engine_pair_init(&bench->pair, &setup, &bench->guest, 1);
    bench->incoming = incoming_new(bench->pair.destination.session);
    incoming_set_lane(bench->incoming, bench->pair.destination.lane);
}

static void bench_clear(Bench *bench)
{
    incoming_free(bench->incoming);
    engine_pair_clear(&bench->pair);
    g_byte_array_unref(bench->written);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Bench, bench_clear)

/* ---- frames ---- */

static void put(Bench *bench, gboolean lane, FrameType type, const GByteArray *body)
{
    guint8 *buf = g_malloc(FRAME_HEADER_LEN + body->len);

    if (body->len)
        memcpy(buf + FRAME_HEADER_LEN, body->data, body->len);
    if (lane)
        lane_send(bench->pair.source.lane, type, buf, body->len);
    else
        session_send(bench->pair.source.session, type, buf, body->len);
    engine_pair_move_links(&bench->pair);
}

static void put_blocks(Bench *bench)
{
    g_autoptr(RamBlocks) blocks = model_guest_blocks(&bench->guest);
    g_autoptr(GByteArray) body = g_byte_array_new();

    blocks_body_encode(body, blocks, SECTION, FRAME_PAGES_MAX);
    put(bench, FALSE, FRAME_BLOCKS, body);
}

static void put_running(Bench *bench)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    phase_body_encode(body, RAM_PHASE_RUNNING);
    put(bench, FALSE, FRAME_PHASE, body);
}

/* Pages of a block, as the owner is to find them. */
static void put_pages(Bench *bench, gboolean lane, guint block, guint first, guint n)
{
    g_auto(PagesBatch) batch = { 0 };
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_autofree guint8 *bytes = NULL;
    guint8 data[MODEL_PAGE];
    gsize len;

    pages_batch_init(&batch, 0);
    for (guint i = first; i < first + n; i++) {
        QemuPage page = { .block = block, .offset = (guint64)i * MODEL_PAGE,
                          .kind = QEMU_PAGE_RAW, .data = data, .data_len = MODEL_PAGE };

        owner_fill(data, MODEL_PAGE, i);
        assert_true(pages_batch_add(&batch, &page, MODEL_PAGE));
    }
    bytes = pages_batch_finish(&batch, &len);
    g_byte_array_append(body, bytes, len);
    put(bench, lane, FRAME_PAGES, body);
}

static void put_ram_end(Bench *bench, guint64 pages, guint64 preempt_seq)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    ram_end_body_encode(body, &(RamEnd){ .pages = pages, .preempt_seq = preempt_seq });
    put(bench, FALSE, FRAME_RAM_END, body);
}

static gboolean await_placing(const Bench *bench)
{
    struct pollfd fd = { incoming_placing_fd(bench->incoming), POLLIN, 0 };

    if (!incoming_is_placing(bench->incoming))
        return FALSE;
    assert_int_equal(poll(&fd, 1, 20000), 1);
    return TRUE;
}

/* With a QEMU that takes all it is given. */
static void run(Bench *bench)
{
    QemuSink *sink = incoming_main_sink(bench->incoming);
    struct iovec iov[QEMU_SINK_IOV_MAX];
    guint n;

    do {
        gsize total = 0;

        assert_true(incoming_run(bench->incoming, bench->now_us, NULL));
        n = qemu_sink_output(sink, iov);
        for (guint i = 0; i < n; i++) {
            total += iov[i].iov_len;
            g_byte_array_append(bench->written, iov[i].iov_base, iov[i].iov_len);
        }
        qemu_sink_written(sink, total);
    } while (n > 0 || incoming_due(bench->incoming) == INCOMING_DUE_NOW || await_placing(bench));
}

static void begin(Bench *bench)
{
    put_blocks(bench);
    put_running(bench);
    run(bench);
    assert_int_equal(incoming_state(bench->incoming), INCOMING_RUNNING);
    g_byte_array_set_size(bench->written, 0);
}

static gboolean offer(Bench *bench, const Host *host, GError **error)
{
    const PlacingRange ranges[] = {
        { 0x1000, 8 * MODEL_PAGE, MODEL_PAGE, UFFD_ANON },
        { host->owner->address, N_PAGES * MODEL_PAGE, MODEL_PAGE, UFFD_ANON },
        { 0x100000, 8 * MODEL_PAGE, MODEL_PAGE, UFFD_ANON },
    };

    return incoming_set_placing(bench->incoming, dup(host->owner->uffd), dup(host->record), ranges,
                                G_N_ELEMENTS(ranges), error);
}

static RamStats stats_of(const Bench *bench)
{
    RamStats stats;

    incoming_get_stats(bench->incoming, bench->now_us, &stats);
    return stats;
}

static guint64 wrong_pages(const Host *host)
{
    owner_ask(host->owner, OWNER_TOUCH, 1, 0);
    return owner_ask(host->owner, OWNER_WAIT, 0, 0);
}

static void assert_placing(const Bench *bench, PlacingState expected)
{
    const char *why;

    assert_int_equal(incoming_placing_state(bench->incoming, &why), expected);
    assert_true((why != NULL) == (expected == PLACING_REFUSED));
}

/* ---- a migration ---- */

static void what_is_placed_goes_on_no_stream(void **state)
{
    g_auto(Host) host = { 0 };
    g_auto(Bench) bench = { 0 };

    host_init(&host);
    bench_init(&bench);
    begin(&bench);
    assert_placing(&bench, PLACING_OFF);
    assert_true(offer(&bench, &host, NULL));
    assert_placing(&bench, PLACING_ON);
    for (guint i = 0; i < N_PAGES; i += 8)
        put_pages(&bench, i % 16 != 0, BLOCK_RAM, i, 8);
    run(&bench);
    assert_int_equal(bench.written->len, 0);
    assert_int_equal(wrong_pages(&host), 0);
    assert_int_equal(stats_of(&bench).pages_direct, N_PAGES);
    assert_int_equal(stats_of(&bench).pages_urgent, N_PAGES / 2);
    /* All that came counts for the end. */
    put_ram_end(&bench, N_PAGES, 0);
    run(&bench);
    assert_int_equal(incoming_state(bench.incoming), INCOMING_END);
}

static void blocks_that_are_alike_and_pages_before_come_on_the_stream(void **state)
{
    g_auto(Host) host = { 0 };
    g_auto(Bench) bench = { 0 };

    host_init(&host);
    bench_init(&bench);
    begin(&bench);
    put_pages(&bench, FALSE, BLOCK_RAM, 0, 4);
    run(&bench);
    assert_true(bench.written->len > 4 * MODEL_PAGE);
    g_byte_array_set_size(bench.written, 0);
    assert_true(offer(&bench, &host, NULL));
    put_pages(&bench, FALSE, BLOCK_ROM, 0, 8);
    put_pages(&bench, FALSE, BLOCK_RAM, 4, 4);
    put_pages(&bench, TRUE, BLOCK_TWIN, 0, 2);
    run(&bench);
    assert_in_range(bench.written->len, 10 * MODEL_PAGE, 11 * MODEL_PAGE);
    assert_int_equal(stats_of(&bench).pages_direct, 4);
    assert_int_equal(stats_of(&bench).pages_normal, 18);
}

/* A stream that QEMU does not read does not keep what is placed waiting. */
static void a_stuck_stream_holds_up_nothing_that_is_placed(void **state)
{
    g_auto(Host) host = { 0 };
    g_auto(Bench) bench = { 0 };

    host_init(&host);
    bench_init(&bench);
    begin(&bench);
    assert_true(offer(&bench, &host, NULL));
    put_pages(&bench, FALSE, BLOCK_ROM, 0, 2);
    assert_true(incoming_run(bench.incoming, bench.now_us, NULL));
    put_pages(&bench, TRUE, BLOCK_RAM, 7, 1);
    assert_true(incoming_run(bench.incoming, bench.now_us, NULL));
    assert_int_equal(stats_of(&bench).pages_direct, 1);
    owner_ask(host.owner, OWNER_TOUCH, 1, 1 + 7);
    assert_int_equal(owner_ask(host.owner, OWNER_WAIT, 0, 0), 0);
}

static void a_page_on_both_channels_is_placed_once(void **state)
{
    g_auto(Host) host = { 0 };
    g_auto(Bench) bench = { 0 };

    host_init(&host);
    bench_init(&bench);
    begin(&bench);
    assert_true(offer(&bench, &host, NULL));
    put_pages(&bench, FALSE, BLOCK_RAM, 0, 8);
    put_pages(&bench, TRUE, BLOCK_RAM, 3, 1);
    run(&bench);
    assert_int_equal(stats_of(&bench).pages_direct, 8);
    assert_int_equal(stats_of(&bench).duplicates, 1);
}

static void a_request_ends_when_its_page_is_in_place(void **state)
{
    g_auto(Host) host = { 0 };
    g_auto(Bench) bench = { 0 };
    g_autoptr(RamBlocks) blocks = NULL;
    g_autoptr(GByteArray) message = g_byte_array_new();

    host_init(&host);
    bench_init(&bench);
    begin(&bench);
    assert_true(offer(&bench, &host, NULL));
    blocks = model_guest_blocks(&bench.guest);
    qemu_put_req_pages(message, ram_blocks_get(blocks, BLOCK_RAM), 9 * MODEL_PAGE, MODEL_PAGE);
    incoming_on_qemu_data(bench.incoming, message->data, message->len, bench.now_us);
    run(&bench);
    assert_int_equal(stats_of(&bench).requests_outstanding, 1);
    bench.now_us += 500;
    put_pages(&bench, TRUE, BLOCK_RAM, 9, 1);
    run(&bench);
    assert_int_equal(stats_of(&bench).requests_outstanding, 0);
    assert_int_equal(stats_of(&bench).request_latency.max_us, 500);
    /* QEMU's question may come when the page is there: it is not passed on. */
    incoming_on_qemu_data(bench.incoming, message->data, message->len, bench.now_us);
    run(&bench);
    assert_int_equal(stats_of(&bench).requests_outstanding, 0);
}

/* ---- what is refused ---- */

static void memory_that_does_not_fit_leaves_the_stream(void **state)
{
    const PlacingRange wrong = { 0x1000, MODEL_PAGE, MODEL_PAGE, UFFD_ANON };
    g_auto(Host) host = { 0 };
    g_auto(Bench) bench = { 0 };
    g_autoptr(GError) error = NULL;

    host_init(&host);
    bench_init(&bench);
    assert_false(offer(&bench, &host, NULL)); /* not yet */
    bench_clear(&bench);
    bench_init(&bench);
    begin(&bench);
    assert_false(incoming_set_placing(bench.incoming, dup(host.owner->uffd), dup(host.record),
                                      &wrong, 1, &error));
    assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_STATE));
    assert_placing(&bench, PLACING_REFUSED);
    assert_false(offer(&bench, &host, NULL)); /* once */
    put_pages(&bench, FALSE, BLOCK_RAM, 0, 4);
    run(&bench);
    assert_true(bench.written->len > 4 * MODEL_PAGE);
}

/* A QEMU that has its own preempt connection may wait at the end for what it has asked for. */
static void a_preempt_connection_of_qemus_is_against_it(void **state)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_auto(Host) host = { 0 };
    g_auto(Bench) bench = { 0 };

    host_init(&host);
    bench_init(&bench);
    qemu_channel_body_encode(body, QEMU_CHANNEL_OPENED);
    put(&bench, FALSE, FRAME_QEMU_CHANNEL, body);
    begin(&bench);
    assert_false(offer(&bench, &host, NULL));
    assert_placing(&bench, PLACING_REFUSED);
}

static void a_process_that_has_ended_ends_the_session(void **state)
{
    g_auto(Host) host = { 0 };
    g_auto(Bench) bench = { 0 };
    g_autoptr(GError) error = NULL;
    Owner *gone;

    host_init(&host);
    bench_init(&bench);
    begin(&bench);
    assert_true(offer(&bench, &host, NULL));
    gone = host.owner;
    host.owner = NULL;
    owner_free(gone);
    put_pages(&bench, FALSE, BLOCK_RAM, 0, 4);
    assert_true(incoming_run(bench.incoming, bench.now_us, &error));
    assert_true(await_placing(&bench));
    assert_false(incoming_run(bench.incoming, bench.now_us, &error));
    assert_true(g_error_matches(error, UFFD_ERROR, UFFD_ERROR_GONE));
}

/* ---- recoveries ---- */

/* A QEMU that has pages 0 to 3 of its RAM says so. */
static void say_bitmap(Bench *bench)
{
    g_autoptr(RamBlocks) blocks = model_guest_blocks(&bench->guest);
    g_autoptr(GByteArray) message = g_byte_array_new();
    guint8 bits[N_PAGES / 8] = { 0x0f };

    qemu_put_recv_bitmap(message, ram_blocks_get(blocks, BLOCK_RAM), bits, N_PAGES);
    incoming_on_qemu_data(bench->incoming, message->data, message->len, bench->now_us);
    run(bench);
}

/* Whether those bytes are in what the source is told. */
static gboolean source_is_told(Bench *bench, const guint8 *bits, gsize len)
{
    FrameType type;
    GBytes *body;
    gboolean found = FALSE;

    engine_pair_move_links(&bench->pair);
    while ((body = session_received(bench->pair.source.session, &type))) {
        gsize size;
        const guint8 *data = g_bytes_get_data(body, &size);

        found |= type == FRAME_DATA && memmem(data, size, bits, len) != NULL;
        session_consume(bench->pair.source.session);
    }
    return found;
}

/* The helper was killed after pages 8 to 15: the last two of them it has not noted. */
static void first_session(Host *host)
{
    g_auto(Bench) bench = { 0 };
    guint64 done;
    guint8 data[MODEL_PAGE];

    bench_init(&bench);
    begin(&bench);
    assert_true(offer(&bench, host, NULL));
    put_pages(&bench, FALSE, BLOCK_RAM, 8, 6);
    run(&bench);
    for (guint i = 14; i < 16; i++) {
        owner_fill(data, MODEL_PAGE, i);
        assert_int_equal(uffd_copy(host->owner->uffd, host->owner->address + i * MODEL_PAGE, data,
                                   MODEL_PAGE, &done, NULL),
                         UFFD_PLACED);
    }
}

static void a_recovery_asks_for_nothing_that_was_placed(void **state)
{
    static const guint8 told[] = { 0x0f, 0x3f, 0, 0, 0, 0, 0, 0 };
    g_auto(Host) host = { 0 };
    g_auto(Bench) bench = { 0 };

    host_init(&host);
    first_session(&host);
    bench_init(&bench);
    assert_true(incoming_set_record(bench.incoming, dup(host.record), NULL));
    say_bitmap(&bench);
    assert_true(source_is_told(&bench, told, sizeof told));
    begin(&bench);
    /* Until the memory is there again nothing goes on the stream: page 14 is in place already. */
    put_pages(&bench, FALSE, BLOCK_RAM, 14, 2);
    put_pages(&bench, TRUE, BLOCK_RAM, 4, 4);
    assert_true(incoming_run(bench.incoming, bench.now_us, NULL));
    assert_int_equal(bench.written->len, 0);
    assert_int_equal(stats_of(&bench).pages_direct, 0);
    assert_true(incoming_due(bench.incoming) < G_MAXINT64);
    assert_true(offer(&bench, &host, NULL));
    put_pages(&bench, FALSE, BLOCK_RAM, 16, 8);
    run(&bench);
    assert_int_equal(bench.written->len, 0);
    assert_int_equal(stats_of(&bench).pages_direct, 14);
    put_ram_end(&bench, 14, 0);
    run(&bench);
    assert_int_equal(incoming_state(bench.incoming), INCOMING_END);
}

static gboolean is_noted(const Host *host, guint page)
{
    g_autoptr(PlacedRecord) record = placed_record_open(dup(host->record), NULL);
    guint8 bits[N_PAGES / 8] = { 0 };
    guint index;

    assert_non_null(record);
    assert_true(placed_record_find(record, "pc.ram", &index));
    placed_record_merge(record, index, 0, bits, sizeof bits);
    return bits[page / 8] >> page % 8 & 1;
}

static gboolean is_in_place(const Host *host, guint page)
{
    guint8 data[MODEL_PAGE];
    guint64 done;

    owner_fill(data, MODEL_PAGE, page);
    return uffd_copy(host->owner->uffd, host->owner->address + page * MODEL_PAGE, data, MODEL_PAGE,
                     &done, NULL) == UFFD_EXISTED;
}

/* QEMU takes a page for an error that comes on its stream, should the next session not be given its memory. */
static void what_is_in_place_at_the_end_is_in_the_record(void **state)
{
    g_auto(Host) host = { 0 };
    g_auto(Bench) bench = { 0 };

    host_init(&host);
    bench_init(&bench);
    begin(&bench);
    assert_true(offer(&bench, &host, NULL));
    for (guint i = 0; i < N_PAGES; i += 8)
        put_pages(&bench, FALSE, BLOCK_RAM, i, 7);
    assert_true(incoming_run(bench.incoming, bench.now_us, NULL));
    incoming_on_session_end(bench.incoming);
    assert_false(incoming_is_placing(bench.incoming));
    /* Nobody collects any more: poll() would never wait. */
    assert_int_equal(incoming_placing_fd(bench.incoming), -1);
    for (guint i = 0; i < N_PAGES; i++)
        assert_int_equal(is_noted(&host, i), is_in_place(&host, i));
}

static void what_a_helper_that_is_killed_has_placed_is_in_the_record(void **state)
{
    g_auto(Host) host = { 0 };
    g_auto(Bench) bench = { 0 };

    host_init(&host);
    bench_init(&bench);
    begin(&bench);
    assert_true(offer(&bench, &host, NULL));
    put_pages(&bench, FALSE, BLOCK_RAM, 8, 8);
    assert_true(incoming_run(bench.incoming, bench.now_us, NULL));
    for (guint i = 0; i < 2000 && !is_noted(&host, 15); i++)
        g_usleep(10000);
    /* Nobody has collected it. */
    assert_true(incoming_is_placing(bench.incoming));
    for (guint i = 0; i < N_PAGES; i++)
        assert_int_equal(is_noted(&host, i), i >= 8 && i < 16);
}

static void without_the_memory_a_recovery_goes_on_by_the_stream(void **state)
{
    g_auto(Host) host = { 0 };
    g_auto(Bench) bench = { 0 };

    host_init(&host);
    first_session(&host);
    bench_init(&bench);
    assert_true(incoming_set_record(bench.incoming, dup(host.record), NULL));
    begin(&bench);
    put_pages(&bench, FALSE, BLOCK_RAM, 16, 2);
    assert_true(incoming_run(bench.incoming, bench.now_us, NULL));
    assert_int_equal(bench.written->len, 0);
    incoming_refuse_placing(bench.incoming, "no");
    run(&bench);
    assert_true(bench.written->len > 2 * MODEL_PAGE);
    assert_placing(&bench, PLACING_REFUSED);
}

static void nobody_is_waited_for_for_ever(void **state)
{
    g_auto(Host) host = { 0 };
    g_auto(Bench) bench = { 0 };

    host_init(&host);
    first_session(&host);
    bench_init(&bench);
    assert_true(incoming_set_record(bench.incoming, dup(host.record), NULL));
    begin(&bench);
    put_pages(&bench, FALSE, BLOCK_RAM, 16, 2);
    assert_true(incoming_run(bench.incoming, bench.now_us, NULL));
    assert_int_equal(bench.written->len, 0);
    bench.now_us = incoming_due(bench.incoming);
    run(&bench);
    assert_true(bench.written->len > 2 * MODEL_PAGE);
}

static void a_record_comes_first_or_not_at_all(void **state)
{
    g_auto(Host) host = { 0 };
    g_auto(Bench) bench = { 0 };
    g_autoptr(GError) error = NULL;

    host_init(&host);
    bench_init(&bench);
    begin(&bench);
    assert_false(incoming_set_record(bench.incoming, dup(host.record), &error));
    assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_STATE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_placed_goes_on_no_stream),
        cmocka_unit_test(blocks_that_are_alike_and_pages_before_come_on_the_stream),
        cmocka_unit_test(a_stuck_stream_holds_up_nothing_that_is_placed),
        cmocka_unit_test(a_page_on_both_channels_is_placed_once),
        cmocka_unit_test(a_request_ends_when_its_page_is_in_place),
        cmocka_unit_test(memory_that_does_not_fit_leaves_the_stream),
        cmocka_unit_test(a_preempt_connection_of_qemus_is_against_it),
        cmocka_unit_test(a_process_that_has_ended_ends_the_session),
        cmocka_unit_test(a_recovery_asks_for_nothing_that_was_placed),
        cmocka_unit_test(what_is_in_place_at_the_end_is_in_the_record),
        cmocka_unit_test(what_a_helper_that_is_killed_has_placed_is_in_the_record),
        cmocka_unit_test(without_the_memory_a_recovery_goes_on_by_the_stream),
        cmocka_unit_test(nobody_is_waited_for_for_ever),
        cmocka_unit_test(a_record_comes_first_or_not_at_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
