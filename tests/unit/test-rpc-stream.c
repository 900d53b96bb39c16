/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Streams over socket pairs: chunking, descriptors, limits, back-pressure, ends of all kinds. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/rpc-end.h"
#include "util/autofd.h"

typedef struct {
    RpcEnd *end; /* under test */
    int raw;     /* the other side, a bare blocking socket */
    guint fds_before;
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    int fds[2];

    rpc_test_settle(); /* the main loop opens a descriptor when it is first used */
    f->fds_before = rpc_test_open_fds();
    rpc_test_pair(fds);
    f->end = rpc_end_new(rpc_stream_new_socket(fds[0], TRUE));
    f->raw = fds[1];
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    guint before = f->fds_before;

    rpc_end_free(f->end);
    autofd_clear(&f->raw);
    g_free(f);
    /* No test may lose a descriptor. */
    return rpc_test_open_fds() == before ? 0 : -1;
}

static void raw_send(Fixture *f, const void *data, gsize len)
{
    assert_int_equal(send(f->raw, data, len, MSG_NOSIGNAL), len);
}

static void raw_send_frame(Fixture *f, const RpcFrame *frame)
{
    raw_send(f, frame->wire->data, frame->wire->len);
}

/* One byte that carries n descriptors. */
static void raw_send_fds(Fixture *f, const int *fds, guint n)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * 64)];
    } control = { 0 };
    char byte = 0;
    struct iovec iov = { &byte, 1 };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (n > 0) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n);
        CMSG_FIRSTHDR(&msg)->cmsg_level = SOL_SOCKET;
        CMSG_FIRSTHDR(&msg)->cmsg_type = SCM_RIGHTS;
        CMSG_FIRSTHDR(&msg)->cmsg_len = CMSG_LEN(sizeof(int) * n);
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fds, sizeof(int) * n);
    }
    assert_int_equal(sendmsg(f->raw, &msg, MSG_NOSIGNAL), 1);
}

/* --- reading --- */

static void test_frames_arrive_whole_however_they_are_cut(void **state)
{
    Fixture *f = *state;
    g_autoptr(GRand) rand = g_rand_new_with_seed(20);
    g_autoptr(GByteArray) wire = g_byte_array_new();
    g_autoptr(GPtrArray) sent =
        g_ptr_array_new_with_free_func((GDestroyNotify)rpc_frame_free);
    guint at = 0;

    for (guint32 i = 0; i < 200; i++) {
        RpcFrame *frame = rpc_test_frame(i % 4, 5, i, (gsize)g_rand_int_range(rand, 0, 700));

        g_ptr_array_add(sent, frame);
        g_byte_array_append(wire, frame->wire->data, frame->wire->len);
    }
    while (at < wire->len) {
        guint n = (guint)g_rand_int_range(rand, 1, 90);

        n = MIN(n, wire->len - at);
        raw_send(f, wire->data + at, n);
        at += n;
        rpc_test_settle();
    }
    assert_true(rpc_test_until_frames(f->end, 200));
    for (guint i = 0; i < 200; i++)
        assert_true(rpc_test_same(rpc_end_frame(f->end, i), g_ptr_array_index(sent, i)));
    assert_int_equal(f->end->closed, 0);
}

static void test_descriptors_come_with_their_frame(void **state)
{
    Fixture *f = *state;
    const guint8 count_3[] = { 0, 0, 0, 3 };
    g_autoptr(RpcFrame) with = rpc_test_frame(RPC_TYPE_REPLY_WITH_FDS, 7, 1, 8);
    g_autoptr(RpcFrame) after = rpc_test_frame(RPC_TYPE_REPLY, 7, 2, 8);
    int pipes[3][2];

    memcpy(with->wire->data + RPC_HEADER_LEN, count_3, sizeof count_3);
    raw_send_frame(f, with);
    for (guint i = 0; i < 3; i++) {
        assert_int_equal(pipe2(pipes[i], O_CLOEXEC), 0);
        raw_send_fds(f, &pipes[i][1], 1);
        autofd_clear(&pipes[i][1]);
    }
    raw_send_frame(f, after);

    assert_true(rpc_test_until_frames(f->end, 2));
    assert_int_equal(rpc_end_frame(f->end, 0)->n_fds, 3);
    assert_true(rpc_test_same(rpc_end_frame(f->end, 1), after));
    for (guint i = 0; i < 3; i++) {
        int fd = rpc_end_frame(f->end, 0)->fds[i];
        char got = 0;

        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(write(fd, &"abc"[i], 1), 1);
        assert_int_equal(read(pipes[i][0], &got, 1), 1);
        assert_int_equal(got, "abc"[i]);
        autofd_clear(&pipes[i][0]);
    }
}

static void send_bad_descriptors(Fixture *f, guint on_one_byte)
{
    const guint8 count_1[] = { 0, 0, 0, 1 };
    g_autoptr(RpcFrame) with = rpc_test_frame(RPC_TYPE_CALL_WITH_FDS, 7, 1, 8);
    int fds[64];

    memcpy(with->wire->data + RPC_HEADER_LEN, count_1, sizeof count_1);
    raw_send_frame(f, with);
    for (guint i = 0; i < on_one_byte; i++)
        fds[i] = STDERR_FILENO;
    raw_send_fds(f, fds, on_one_byte);
    assert_true(rpc_test_until_closed(f->end));
    assert_true(g_error_matches(f->end->error, RPC_FRAME_ERROR, RPC_FRAME_ERROR_FDS));
    assert_int_equal(f->end->frames->len, 0);
}

/* teardown() sees whether the surplus was closed. */
static void test_byte_without_a_descriptor_ends_the_stream(void **state)
{
    send_bad_descriptors(*state, 0);
}

static void test_two_descriptors_on_a_byte_end_the_stream(void **state)
{
    send_bad_descriptors(*state, 2);
}

static void test_three_descriptors_on_a_byte_end_the_stream(void **state)
{
    send_bad_descriptors(*state, 3);
}

static void test_truncated_control_message_ends_the_stream(void **state)
{
    Fixture *f = *state;

    send_bad_descriptors(f, 60);
    assert_non_null(strstr(f->end->error->message, "cut short"));
}

static void test_end_before_the_descriptors_is_named(void **state)
{
    Fixture *f = *state;
    const guint8 count_2[] = { 0, 0, 0, 2 };
    const int one = STDERR_FILENO;
    g_autoptr(RpcFrame) with = rpc_test_frame(RPC_TYPE_CALL_WITH_FDS, 7, 1, 8);

    memcpy(with->wire->data + RPC_HEADER_LEN, count_2, sizeof count_2);
    raw_send_frame(f, with);
    raw_send_fds(f, &one, 1);
    autofd_clear(&f->raw);
    assert_true(rpc_test_until_closed(f->end));
    assert_true(g_error_matches(f->end->error, RPC_FRAME_ERROR, RPC_FRAME_ERROR_CLOSED));
    assert_non_null(strstr(f->end->error->message, "descriptors"));
}

static void test_descriptors_are_an_error_where_none_can_pass(void **state)
{
    Fixture *f = *state;
    g_autoptr(RpcFrame) with = rpc_test_frame(RPC_TYPE_CALL_WITH_FDS, 7, 1, 8);
    int fds[2];

    rpc_end_free(f->end);
    autofd_clear(&f->raw);
    rpc_test_pair(fds);
    f->end = rpc_end_new(rpc_stream_new_socket(fds[0], FALSE));
    f->raw = fds[1];
    raw_send_frame(f, with);
    assert_true(rpc_test_until_closed(f->end));
    assert_true(g_error_matches(f->end->error, RPC_FRAME_ERROR, RPC_FRAME_ERROR_FDS));
}

static void test_lengths_out_of_range_end_the_stream(void **state)
{
    static const guint8 words[][4] = {
        { 0, 0, 0, 0 }, { 0, 0, 0, 3 }, { 0, 0, 0, 4 }, { 0, 0, 0, 27 }, { 2, 0, 0, 5 },
        { 255, 255, 255, 255 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(words); i++) {
        Fixture *f;
        void *own = NULL;

        assert_int_equal(setup(&own), 0);
        f = own;
        raw_send(f, words[i], 4);
        assert_true(rpc_test_until_closed(f->end));
        assert_true(g_error_matches(f->end->error, RPC_FRAME_ERROR, RPC_FRAME_ERROR_LENGTH));
        assert_non_null(strstr(f->end->error->message, "length"));
        assert_int_equal(teardown(&own), 0);
    }
}

static void test_length_word_alone_costs_no_memory(void **state)
{
    Fixture *f = *state;
    const guint8 largest[] = { 2, 0, 0, 4 };
    struct mallinfo2 before = mallinfo2(), after;

    raw_send(f, largest, sizeof largest);
    rpc_test_settle();
    after = mallinfo2();
    assert_int_equal(f->end->closed, 0);
    assert_true(after.uordblks + after.hblkhd < before.uordblks + before.hblkhd + 128 * 1024);
}

static void test_end_between_frames_is_orderly(void **state)
{
    Fixture *f = *state;
    g_autoptr(RpcFrame) frame = rpc_test_frame(RPC_TYPE_CALL, 1, 0, 40);

    raw_send_frame(f, frame);
    autofd_clear(&f->raw);
    assert_true(rpc_test_until_closed(f->end));
    assert_int_equal(f->end->frames->len, 1);
    assert_null(f->end->error);
}

static void test_end_inside_a_frame_is_an_error(void **state)
{
    static const struct {
        gsize sent;
        const char *says;
    } rows[] = { { 1, "length" }, { 3, "length" }, { 4, "frame" }, { 27, "frame" },
                 { 67, "after 67 of 68 bytes" } };
    g_autoptr(RpcFrame) frame = rpc_test_frame(RPC_TYPE_CALL, 1, 0, 40);

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        Fixture *f;
        void *own = NULL;

        assert_int_equal(setup(&own), 0);
        f = own;
        raw_send(f, frame->wire->data, rows[i].sent);
        autofd_clear(&f->raw);
        assert_true(rpc_test_until_closed(f->end));
        assert_true(g_error_matches(f->end->error, RPC_FRAME_ERROR, RPC_FRAME_ERROR_CLOSED));
        assert_non_null(strstr(f->end->error->message, rows[i].says));
        assert_int_equal(teardown(&own), 0);
    }
}

static void test_paused_stream_takes_nothing(void **state)
{
    Fixture *f = *state;
    g_autoptr(RpcFrame) frame = rpc_test_frame(RPC_TYPE_CALL, 1, 0, 40);

    rpc_stream_set_reading(f->end->stream, FALSE);
    raw_send_frame(f, frame);
    autofd_clear(&f->raw);
    for (guint i = 0; i < 5; i++)
        rpc_test_settle();
    assert_int_equal(f->end->frames->len, 0);
    assert_int_equal(f->end->closed, 0);
    /* A peer that has hung up must not keep the loop awake meanwhile. */
    assert_false(g_main_context_pending(NULL));

    rpc_stream_set_reading(f->end->stream, TRUE);
    assert_true(rpc_test_until_closed(f->end));
    assert_int_equal(f->end->frames->len, 1);
    assert_null(f->end->error);
}

/* --- writing --- */

static gsize raw_read_some(Fixture *f, gsize max)
{
    g_autofree guint8 *buf = g_malloc(max);
    gssize n = recv(f->raw, buf, max, MSG_DONTWAIT);

    return n > 0 ? (gsize)n : 0;
}

static gboolean raw_is_drained(gpointer data)
{
    Fixture *f = data;

    while (raw_read_some(f, 65536) > 0)
        continue;
    return rpc_stream_queued(f->end->stream) == 0;
}

static void test_queue_tells_when_it_has_room_again(void **state)
{
    Fixture *f = *state;

    while (rpc_stream_queued(f->end->stream) <= RPC_STREAM_QUEUE_LIMIT)
        rpc_stream_send(f->end->stream, rpc_test_frame(RPC_TYPE_STREAM, 1, 1, 65536));
    assert_true(rpc_stream_queued(f->end->stream) < RPC_STREAM_QUEUE_LIMIT + 70000);
    rpc_test_settle();
    assert_int_equal(f->end->drained, 0);

    assert_true(rpc_test_until(raw_is_drained, f));
    rpc_test_settle();
    assert_int_equal(f->end->drained, 1);
}

static void test_queued_descriptors_count_for_the_limit(void **state)
{
    Fixture *f = *state;
    guint frames = 0;

    while (rpc_stream_queued(f->end->stream) <= RPC_STREAM_QUEUE_LIMIT) {
        RpcFrame *frame = rpc_test_frame(RPC_TYPE_REPLY_WITH_FDS, 1, 1, 8);

        frame->wire->data[RPC_HEADER_LEN + 3] = RPC_FDS_MAX;
        for (; frame->n_fds < RPC_FDS_MAX; frame->n_fds++)
            frame->fds[frame->n_fds] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
        rpc_stream_send(f->end->stream, frame);
        assert_true(++frames < 100);
    }
}

static void test_close_writes_what_is_queued(void **state)
{
    Fixture *f = *state;
    gsize want = 0, got = 0;
    gint64 deadline = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

    for (guint i = 0; i < 40; i++) {
        rpc_stream_send(f->end->stream, rpc_test_frame(RPC_TYPE_STREAM, 1, i, 65536 - 28));
        want += 65536;
    }
    rpc_stream_close(f->end->stream, TRUE);
    while (got < want && g_get_monotonic_time() < deadline) {
        rpc_test_settle();
        got += raw_read_some(f, 65536);
    }
    assert_int_equal(got, want);
    assert_int_equal(recv(f->raw, &got, 1, 0), 0);
    assert_int_equal(f->end->closed, 0);
}

static void test_what_a_peer_said_before_it_left_is_heard(void **state)
{
    Fixture *f = *state;
    g_autoptr(RpcFrame) last = rpc_test_frame(RPC_TYPE_REPLY, 1, 0, 40);

    raw_send_frame(f, last);
    autofd_clear(&f->raw);
    rpc_stream_send(f->end->stream, rpc_test_frame(RPC_TYPE_CALL, 2, 1, 40));
    /* No handler runs from inside send(), whatever it found out. */
    assert_int_equal(f->end->frames->len, 0);
    assert_int_equal(f->end->closed, 0);
    assert_true(rpc_test_until_closed(f->end));
    assert_int_equal(f->end->frames->len, 1);
    rpc_stream_send(f->end->stream, rpc_test_frame(RPC_TYPE_CALL, 2, 1, 40));
    assert_int_equal(rpc_stream_queued(f->end->stream), 0);
}

static void test_largest_frame_passes(void **state)
{
    Fixture *f = *state;
    g_autoptr(RpcEnd) other = rpc_end_new(rpc_stream_new_socket(autofd_steal(&f->raw), TRUE));
    RpcFrame *frame = rpc_test_frame(RPC_TYPE_STREAM, 1, 1, RPC_FRAME_MAX - RPC_HEADER_LEN);
    g_autoptr(RpcFrame) copy = rpc_test_copy(frame);

    rpc_stream_send(f->end->stream, frame);
    rpc_stream_send(f->end->stream, rpc_test_frame(RPC_TYPE_STREAM, 1, 2, 0));
    assert_true(rpc_test_until_frames(other, 2));
    assert_true(rpc_test_same(rpc_end_frame(other, 0), copy));
    assert_int_equal(rpc_end_frame(other, 1)->header.serial, 2);
}

static void test_descriptors_are_sent_one_by_one(void **state)
{
    Fixture *f = *state;
    g_autoptr(RpcEnd) other = rpc_end_new(rpc_stream_new_socket(autofd_steal(&f->raw), TRUE));
    RpcFrame *frame = rpc_test_frame(RPC_TYPE_REPLY_WITH_FDS, 1, 1, 16);
    int ends[2];
    char got = 0;

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    frame->wire->data[RPC_HEADER_LEN + 3] = 2;
    frame->fds[0] = ends[1];
    frame->fds[1] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    frame->n_fds = 2;
    rpc_stream_send(f->end->stream, frame);
    rpc_stream_send(f->end->stream, rpc_test_frame(RPC_TYPE_REPLY, 1, 2, 16));
    assert_true(rpc_test_until_frames(other, 2));
    assert_int_equal(rpc_end_frame(other, 0)->n_fds, 2);
    assert_int_equal(write(rpc_end_frame(other, 0)->fds[0], "x", 1), 1);
    assert_int_equal(read(ends[0], &got, 1), 1);
    assert_int_equal(got, 'x');
    assert_int_equal(rpc_end_frame(other, 1)->n_fds, 0);
    autofd_clear(&ends[0]);
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(test_frames_arrive_whole_however_they_are_cut),
        WITH_FIXTURE(test_descriptors_come_with_their_frame),
        WITH_FIXTURE(test_byte_without_a_descriptor_ends_the_stream),
        WITH_FIXTURE(test_two_descriptors_on_a_byte_end_the_stream),
        WITH_FIXTURE(test_three_descriptors_on_a_byte_end_the_stream),
        WITH_FIXTURE(test_truncated_control_message_ends_the_stream),
        WITH_FIXTURE(test_end_before_the_descriptors_is_named),
        WITH_FIXTURE(test_descriptors_are_an_error_where_none_can_pass),
        cmocka_unit_test(test_lengths_out_of_range_end_the_stream),
        WITH_FIXTURE(test_length_word_alone_costs_no_memory),
        WITH_FIXTURE(test_end_between_frames_is_orderly),
        cmocka_unit_test(test_end_inside_a_frame_is_an_error),
        WITH_FIXTURE(test_paused_stream_takes_nothing),
        WITH_FIXTURE(test_queue_tells_when_it_has_room_again),
        WITH_FIXTURE(test_queued_descriptors_count_for_the_limit),
        WITH_FIXTURE(test_close_writes_what_is_queued),
        WITH_FIXTURE(test_what_a_peer_said_before_it_left_is_heard),
        WITH_FIXTURE(test_largest_frame_passes),
        WITH_FIXTURE(test_descriptors_are_sent_one_by_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
