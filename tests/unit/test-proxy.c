/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The proxy between a client and an upstream that the test plays itself: order, watched and own
 * calls, limits, descriptors, and how it ends. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver/proxy.h"
#include "tests/support/rpc-end.h"
#include "util/autofd.h"

#define WATCHED_PROC 303
#define HELD_PROC 400
#define ANSWERED_PROC 401
#define TAKEN_EVENT 363
#define TWICE 364 /* what becomes of it */

typedef struct {
    Proxy *proxy;
    RpcStream *to_client;   /* the proxy's own streams: to look at their queues */
    RpcStream *to_upstream;
    RpcEnd *client;
    RpcEnd *upstream;
    GPtrArray *replies; /* what watchers heard; NULL for an end */
    GPtrArray *held;    /* calls of HELD_PROC */
    guint messages;     /* that hooks->message was asked about */
    guint told;         /* hooks->closed */
    guint destroyed;    /* the driver's data */
    gboolean explain;   /* a watcher that hears NULL answers with an error */
    RpcHeader explained;
} Fixture;

static void on_watched(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    Fixture *f = data;

    g_ptr_array_add(f->replies, reply);
    if (!reply && f->explain)
        proxy_reply_error(proxy, &f->explained, 38, 7, "upstream is gone");
}

static gboolean on_call(Proxy *proxy, RpcFrame *frame, gpointer data)
{
    Fixture *f = data;

    if (frame->header.procedure == WATCHED_PROC) {
        f->explained = frame->header;
        proxy_forward_watched(proxy, frame, on_watched, f);
        return TRUE;
    }
    if (frame->header.procedure == HELD_PROC) {
        g_ptr_array_add(f->held, frame);
        return TRUE;
    }
    if (frame->header.procedure == ANSWERED_PROC) {
        proxy_reply_error(proxy, &frame->header, 84, 10, "not here");
        rpc_frame_free(frame);
        return TRUE;
    }
    return FALSE;
}

static gboolean on_message(Proxy *proxy, RpcFrame *frame, gpointer data)
{
    Fixture *f = data;

    assert_int_equal(frame->header.type, RPC_TYPE_MESSAGE);
    f->messages++;
    if (frame->header.procedure != TAKEN_EVENT)
        return FALSE;
    for (guint i = 0; i < 2; i++)
        proxy_reply(proxy, rpc_test_frame(RPC_TYPE_MESSAGE, TWICE, 1, 8));
    rpc_frame_free(frame);
    return TRUE;
}

static void on_closed(Proxy *proxy, gpointer data)
{
    Fixture *f = data;

    assert_true(proxy_is_closed(proxy));
    f->told++;
}

static const ProxyHooks hooks = { .call = on_call, .message = on_message, .closed = on_closed };

static void on_destroy(gpointer data)
{
    Fixture *f = data;

    f->destroyed++;
}

static Fixture *fixture_new(gboolean client_fds, gboolean upstream_fds)
{
    const ProxyPeer peer = { .kind = PROXY_CLIENT_UNIX, .address = (char *)"here" };
    Fixture *f = g_new0(Fixture, 1);
    int client[2], upstream[2];

    rpc_test_pair(client);
    rpc_test_pair(upstream);
    f->replies = g_ptr_array_new_with_free_func((GDestroyNotify)rpc_frame_free);
    f->held = g_ptr_array_new_with_free_func((GDestroyNotify)rpc_frame_free);
    f->client = rpc_end_new(rpc_stream_new_socket(client[0], TRUE));
    f->upstream = rpc_end_new(rpc_stream_new_socket(upstream[0], TRUE));
    f->to_client = rpc_stream_new_socket(client[1], client_fds);
    f->to_upstream = rpc_stream_new_socket(upstream[1], upstream_fds);
    f->proxy = proxy_ref(proxy_new(f->to_client, f->to_upstream, &peer, &hooks, f));
    proxy_set_data(f->proxy, f, on_destroy);
    return f;
}

static int setup(void **state)
{
    *state = fixture_new(TRUE, TRUE);
    return 0;
}

/* Leaves only the memory of f: everything else must go by itself once both sides are gone. */
static gboolean fixture_end(Fixture *f)
{
    gboolean clean;

    g_clear_pointer(&f->client, rpc_end_free);
    g_clear_pointer(&f->upstream, rpc_end_free);
    proxy_close(f->proxy);
    for (guint i = 0; i < 5; i++)
        rpc_test_settle();
    clean = f->told == 1 && f->destroyed == 0;
    proxy_unref(f->proxy);
    clean = clean && f->destroyed == 1;
    g_ptr_array_unref(f->replies);
    g_ptr_array_unref(f->held);
    g_free(f);
    return clean;
}

static int teardown(void **state)
{
    return fixture_end(*state) ? 0 : -1;
}

static void from_client(Fixture *f, RpcFrame *frame)
{
    rpc_stream_send(f->client->stream, frame);
}

static void from_upstream(Fixture *f, RpcFrame *frame)
{
    rpc_stream_send(f->upstream->stream, frame);
}

/* --- passing through --- */

static void test_frames_of_every_kind_pass_unchanged_and_in_order(void **state)
{
    Fixture *f = *state;
    const RpcHeader ping = { RPC_PROGRAM_KEEPALIVE, 1, 1, RPC_TYPE_MESSAGE, 0, RPC_STATUS_OK };
    const RpcHeader foreign = { 0x12345678, 9, -5, RPC_TYPE_CALL, 77, RPC_STATUS_OK };
    g_autoptr(GPtrArray) sent = g_ptr_array_new_with_free_func((GDestroyNotify)rpc_frame_free);

    for (guint32 i = 0; i < 300; i++) {
        static const guint32 types[] = { RPC_TYPE_CALL, RPC_TYPE_STREAM, RPC_TYPE_STREAM_HOLE,
                                         RPC_TYPE_MESSAGE, RPC_TYPE_REPLY };

        g_ptr_array_add(sent, rpc_test_frame(types[i % 5], 20, i, i * 37 % 5000));
    }
    g_ptr_array_add(sent, rpc_frame_new(&ping, NULL, 0));
    g_ptr_array_add(sent, rpc_frame_new(&foreign, "abc", 3));
    for (guint i = 0; i < sent->len; i++) {
        from_client(f, rpc_test_copy(g_ptr_array_index(sent, i)));
        from_upstream(f, rpc_test_copy(g_ptr_array_index(sent, i)));
    }
    assert_true(rpc_test_until_frames(f->client, sent->len));
    assert_true(rpc_test_until_frames(f->upstream, sent->len));
    for (guint i = 0; i < sent->len; i++) {
        assert_true(rpc_test_same(rpc_end_frame(f->client, i), g_ptr_array_index(sent, i)));
        assert_true(rpc_test_same(rpc_end_frame(f->upstream, i), g_ptr_array_index(sent, i)));
    }
}

static RpcFrame *frame_with_fd(guint32 type, gint32 procedure, int *ret_other_end)
{
    RpcFrame *frame = rpc_test_frame(type, procedure, 8, 12);
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    frame->wire->data[RPC_HEADER_LEN + 3] = 1;
    frame->fds[0] = ends[1];
    frame->n_fds = 1;
    *ret_other_end = ends[0];
    return frame;
}

static void test_descriptors_pass_both_ways(void **state)
{
    Fixture *f = *state;
    int up, down;

    from_client(f, frame_with_fd(RPC_TYPE_CALL_WITH_FDS, 7, &up));
    from_upstream(f, frame_with_fd(RPC_TYPE_REPLY_WITH_FDS, 7, &down));
    assert_true(rpc_test_until_frames(f->client, 1));
    assert_true(rpc_test_until_frames(f->upstream, 1));
    assert_int_equal(rpc_end_frame(f->client, 0)->n_fds, 1);
    assert_int_equal(rpc_end_frame(f->upstream, 0)->n_fds, 1);
    autofd_clear(&up);
    autofd_clear(&down);
}

/* Nobody has the writing end of that pipe any more. */
static void assert_fd_was_closed(int other_end)
{
    char byte;

    assert_int_equal(read(other_end, &byte, 1), 0);
    autofd_clear(&other_end);
}

static void test_descriptors_for_a_remote_client_become_an_error(void **state)
{
    Fixture *f = fixture_new(FALSE, TRUE);
    g_autofree char *message = NULL;
    int other_end;

    from_upstream(f, frame_with_fd(RPC_TYPE_REPLY_WITH_FDS, 7, &other_end));
    assert_true(rpc_test_until_frames(f->client, 1));
    message = rpc_test_error(rpc_end_frame(f->client, 0));
    assert_non_null(strstr(message, "descriptors"));
    assert_int_equal(rpc_end_frame(f->client, 0)->header.serial, 8);
    assert_int_equal(rpc_end_frame(f->client, 0)->header.procedure, 7);
    assert_fd_was_closed(other_end);
    assert_true(fixture_end(f));
}

static void test_descriptors_for_a_remote_upstream_become_an_error(void **state)
{
    Fixture *f = fixture_new(TRUE, FALSE);
    g_autofree char *message = NULL;
    int other_end;

    from_client(f, frame_with_fd(RPC_TYPE_CALL_WITH_FDS, 7, &other_end));
    assert_true(rpc_test_until_frames(f->client, 1));
    message = rpc_test_error(rpc_end_frame(f->client, 0));
    assert_non_null(strstr(message, "descriptors"));
    assert_fd_was_closed(other_end);

    /* A watcher hears it like any other reply. */
    from_client(f, frame_with_fd(RPC_TYPE_CALL_WITH_FDS, WATCHED_PROC, &other_end));
    for (guint i = 0; i < 5; i++)
        rpc_test_settle();
    assert_int_equal(f->replies->len, 1);
    assert_non_null(f->replies->pdata[0]);
    assert_fd_was_closed(other_end);
    assert_int_equal(f->upstream->frames->len, 0);
    assert_true(fixture_end(f));
}

/* --- the driver's hand --- */

static void test_watched_reply_goes_to_the_watcher_alone(void **state)
{
    Fixture *f = *state;

    from_client(f, rpc_test_frame(RPC_TYPE_CALL, WATCHED_PROC, 5, 8));
    assert_true(rpc_test_until_frames(f->upstream, 1));
    /* Not its reply: an event and stream data of that serial, and another procedure's reply. */
    from_upstream(f, rpc_test_frame(RPC_TYPE_MESSAGE, WATCHED_PROC, 5, 8));
    from_upstream(f, rpc_test_frame(RPC_TYPE_STREAM, WATCHED_PROC, 5, 8));
    from_upstream(f, rpc_test_frame(RPC_TYPE_REPLY, WATCHED_PROC + 1, 5, 8));
    from_upstream(f, rpc_test_frame(RPC_TYPE_REPLY, WATCHED_PROC, 5, 16));
    from_upstream(f, rpc_test_frame(RPC_TYPE_REPLY, WATCHED_PROC, 5, 20));
    assert_true(rpc_test_until_frames(f->client, 4));
    assert_int_equal(f->replies->len, 1);
    assert_int_equal(((RpcFrame *)f->replies->pdata[0])->wire->len, RPC_HEADER_LEN + 16);
    assert_int_equal(rpc_end_frame(f->client, 3)->wire->len, RPC_HEADER_LEN + 20);
}

static void test_own_call_is_hidden_from_the_client(void **state)
{
    Fixture *f = *state;
    guint32 serial;

    proxy_call(f->proxy, RPC_PROGRAM_REMOTE, 419, "args", 4, on_watched, f);
    assert_true(rpc_test_until_frames(f->upstream, 1));
    serial = rpc_end_frame(f->upstream, 0)->header.serial;
    assert_int_equal(rpc_end_frame(f->upstream, 0)->header.procedure, 419);
    assert_true(serial >= 0xff000000);
    from_upstream(f, rpc_test_frame(RPC_TYPE_REPLY, 418, serial, 0)); /* nonsense: dropped */
    from_upstream(f, rpc_test_frame(RPC_TYPE_REPLY, 419, serial, 0));
    from_upstream(f, rpc_test_frame(RPC_TYPE_REPLY, 20, 1, 0));
    assert_true(rpc_test_until_frames(f->client, 1));
    assert_int_equal(f->replies->len, 1);
    assert_non_null(f->replies->pdata[0]);
    assert_int_equal(rpc_end_frame(f->client, 0)->header.procedure, 20);
    assert_int_equal(f->client->frames->len, 1);
}

static void test_event_is_forwarded_or_replaced_in_its_place(void **state)
{
    Fixture *f = *state;
    const gint32 came[] = { 318, TWICE, TWICE, 359, 20, 318 };

    from_upstream(f, rpc_test_frame(RPC_TYPE_MESSAGE, 318, 1, 40));
    from_upstream(f, rpc_test_frame(RPC_TYPE_MESSAGE, TAKEN_EVENT, 1, 40));
    from_upstream(f, rpc_test_frame(RPC_TYPE_MESSAGE, 359, 1, 40));
    from_upstream(f, rpc_test_frame(RPC_TYPE_REPLY, 20, 3, 0));
    from_upstream(f, rpc_test_frame(RPC_TYPE_MESSAGE, 318, 1, 40));
    assert_true(rpc_test_until_frames(f->client, G_N_ELEMENTS(came)));
    for (guint i = 0; i < G_N_ELEMENTS(came); i++)
        assert_int_equal(rpc_end_frame(f->client, i)->header.procedure, came[i]);
    assert_int_equal(f->messages, 4);
}

static void test_clients_messages_are_not_events(void **state)
{
    Fixture *f = *state;

    from_client(f, rpc_test_frame(RPC_TYPE_MESSAGE, TAKEN_EVENT, 1, 40));
    assert_true(rpc_test_until_frames(f->upstream, 1));
    assert_int_equal(f->messages, 0);
}

static void test_client_that_uses_our_serial_is_closed(void **state)
{
    Fixture *f = *state;

    proxy_call(f->proxy, RPC_PROGRAM_REMOTE, 419, NULL, 0, on_watched, f);
    assert_true(rpc_test_until_frames(f->upstream, 1));
    from_client(f, rpc_test_frame(RPC_TYPE_STREAM, 20,
                                  rpc_end_frame(f->upstream, 0)->header.serial, 0));
    assert_true(rpc_test_until_closed(f->client));
    assert_int_equal(f->replies->len, 1);
    assert_null(f->replies->pdata[0]);
}

static void test_client_that_repeats_a_watched_serial_is_closed(void **state)
{
    Fixture *f = *state;

    from_client(f, rpc_test_frame(RPC_TYPE_CALL, WATCHED_PROC, 5, 8));
    from_client(f, rpc_test_frame(RPC_TYPE_CALL, WATCHED_PROC, 5, 8));
    assert_true(rpc_test_until_closed(f->client));
    assert_true(rpc_test_until_closed(f->upstream));
    assert_int_equal(f->upstream->frames->len, 1);
    assert_int_equal(f->replies->len, 1);
}

static void test_client_that_repeats_a_held_serial_is_closed(void **state)
{
    Fixture *f = *state;

    from_client(f, rpc_test_frame(RPC_TYPE_CALL, HELD_PROC, 5, 8));
    from_client(f, rpc_test_frame(RPC_TYPE_CALL, HELD_PROC, 5, 8));
    assert_true(rpc_test_until_closed(f->client));
    assert_int_equal(f->held->len, 1);
}

/* --- limits --- */

static void test_slow_upstream_stops_the_client(void **state)
{
    Fixture *f = *state;

    rpc_stream_set_reading(f->upstream->stream, FALSE);
    for (guint32 i = 0; i < 500; i++)
        from_client(f, rpc_test_frame(RPC_TYPE_STREAM, 20, i, 20000));
    for (guint i = 0; i < 20; i++)
        rpc_test_settle();
    assert_true(rpc_stream_queued(f->to_upstream) > RPC_STREAM_QUEUE_LIMIT);
    assert_true(rpc_stream_queued(f->to_upstream) < RPC_STREAM_QUEUE_LIMIT + 30000);
    rpc_stream_set_reading(f->upstream->stream, TRUE);
    assert_true(rpc_test_until_frames(f->upstream, 500));
    assert_int_equal(rpc_end_frame(f->upstream, 499)->header.serial, 499);
}

static void test_slow_client_stops_upstream(void **state)
{
    Fixture *f = *state;

    rpc_stream_set_reading(f->client->stream, FALSE);
    for (guint32 i = 0; i < 500; i++)
        from_upstream(f, rpc_test_frame(RPC_TYPE_MESSAGE, 20, i, 20000));
    for (guint i = 0; i < 20; i++)
        rpc_test_settle();
    assert_true(rpc_stream_queued(f->to_client) > RPC_STREAM_QUEUE_LIMIT);
    assert_true(rpc_stream_queued(f->to_client) < RPC_STREAM_QUEUE_LIMIT + 30000);
    rpc_stream_set_reading(f->client->stream, TRUE);
    assert_true(rpc_test_until_frames(f->client, 500));
}

static void test_client_that_reads_no_answers_is_not_asked_for_more(void **state)
{
    Fixture *f = *state;

    rpc_stream_set_reading(f->client->stream, FALSE);
    for (guint32 i = 0; i < 60000; i++)
        from_client(f, rpc_test_frame(RPC_TYPE_CALL, ANSWERED_PROC, i, 0));
    for (guint i = 0; i < 100; i++)
        rpc_test_settle();
    assert_true(rpc_stream_queued(f->to_client) > RPC_STREAM_QUEUE_LIMIT);
    assert_true(rpc_stream_queued(f->to_client) < RPC_STREAM_QUEUE_LIMIT + 30000);
    rpc_stream_set_reading(f->client->stream, TRUE);
    assert_true(rpc_test_until_frames(f->client, 60000));
}

static void test_held_calls_are_bounded(void **state)
{
    Fixture *f = *state;

    for (guint32 i = 0; i < 200; i++)
        from_client(f, rpc_test_frame(RPC_TYPE_CALL, HELD_PROC, i, 0));
    for (guint i = 0; i < 20; i++)
        rpc_test_settle();
    assert_int_equal(f->held->len, 64);
    for (guint32 i = 0; i < 200; i++) {
        g_autoptr(RpcFrame) call = g_ptr_array_steal_index(f->held, 0);

        if (i % 2)
            proxy_forward(f->proxy, g_steal_pointer(&call));
        else
            proxy_reply_error(f->proxy, &call->header, 84, 10, "no");
        for (guint j = 0; j < 5; j++)
            rpc_test_settle();
    }
    assert_true(rpc_test_until_frames(f->client, 100));
    assert_true(rpc_test_until_frames(f->upstream, 100));
}

/* --- ends --- */

static void test_watchers_hear_of_the_end_once(void **state)
{
    Fixture *f = *state;

    from_client(f, rpc_test_frame(RPC_TYPE_CALL, WATCHED_PROC, 5, 8));
    proxy_call(f->proxy, RPC_PROGRAM_REMOTE, 419, NULL, 0, on_watched, f);
    assert_true(rpc_test_until_frames(f->upstream, 2));
    g_clear_pointer(&f->upstream, rpc_end_free);
    assert_true(rpc_test_until_closed(f->client));
    assert_int_equal(f->replies->len, 2);
    assert_null(f->replies->pdata[0]);
    assert_null(f->replies->pdata[1]);
    assert_int_equal(f->told, 1);

    /* Too late, but heard of as well. */
    proxy_call(f->proxy, RPC_PROGRAM_REMOTE, 419, NULL, 0, on_watched, f);
    assert_int_equal(f->replies->len, 2);
    rpc_test_settle();
    assert_int_equal(f->replies->len, 3);
    assert_int_equal(f->told, 1);
}

static void test_watcher_can_tell_the_client_why(void **state)
{
    Fixture *f = *state;
    g_autofree char *message = NULL;

    f->explain = TRUE;
    from_client(f, rpc_test_frame(RPC_TYPE_CALL, WATCHED_PROC, 5, 8));
    assert_true(rpc_test_until_frames(f->upstream, 1));
    g_clear_pointer(&f->upstream, rpc_end_free);
    assert_true(rpc_test_until_closed(f->client));
    assert_int_equal(f->client->frames->len, 1);
    message = rpc_test_error(rpc_end_frame(f->client, 0));
    assert_string_equal(message, "upstream is gone");
}

static void test_calls_of_a_client_that_left_still_reach_upstream(void **state)
{
    Fixture *f = *state;

    rpc_stream_set_reading(f->upstream->stream, FALSE);
    for (guint32 i = 0; i < 40; i++)
        from_client(f, rpc_test_frame(RPC_TYPE_CALL, 20, i, 20000));
    while (rpc_stream_queued(f->client->stream) > 0)
        rpc_test_settle();
    g_clear_pointer(&f->client, rpc_end_free);
    for (guint i = 0; i < 5; i++)
        rpc_test_settle();
    assert_int_equal(f->told, 1);
    rpc_stream_set_reading(f->upstream->stream, TRUE);
    assert_true(rpc_test_until_closed(f->upstream));
    assert_int_equal(f->upstream->frames->len, 40);
    assert_null(f->upstream->error);
}

static void test_replies_of_an_upstream_that_left_still_reach_the_client(void **state)
{
    Fixture *f = *state;

    rpc_stream_set_reading(f->client->stream, FALSE);
    for (guint32 i = 0; i < 40; i++)
        from_upstream(f, rpc_test_frame(RPC_TYPE_REPLY, 20, i, 20000));
    while (rpc_stream_queued(f->upstream->stream) > 0)
        rpc_test_settle();
    g_clear_pointer(&f->upstream, rpc_end_free);
    for (guint i = 0; i < 5; i++)
        rpc_test_settle();
    rpc_stream_set_reading(f->client->stream, TRUE);
    assert_true(rpc_test_until_closed(f->client));
    assert_int_equal(f->client->frames->len, 40);
}

static void test_closing_tells_nobody_from_inside_the_call(void **state)
{
    Fixture *f = *state;

    from_client(f, rpc_test_frame(RPC_TYPE_CALL, WATCHED_PROC, 5, 8));
    assert_true(rpc_test_until_frames(f->upstream, 1));
    proxy_close(f->proxy);
    assert_true(proxy_is_closed(f->proxy));
    assert_int_equal(f->told, 0);
    assert_int_equal(f->replies->len, 0);
    assert_true(rpc_test_until_closed(f->client));
    assert_true(rpc_test_until_closed(f->upstream));
    assert_int_equal(f->told, 1);
    assert_int_equal(f->replies->len, 1);
}

static void test_malformed_frame_closes_both_sides(void **state)
{
    Fixture *f = *state;
    RpcFrame *bad = rpc_test_frame(RPC_TYPE_CALL, 20, 1, 0);

    bad->wire->data[19] = 9; /* type */
    from_client(f, bad);
    assert_true(rpc_test_until_closed(f->client));
    assert_true(rpc_test_until_closed(f->upstream));
    assert_int_equal(f->upstream->frames->len, 0);
}

static void test_upstreams_process_is_known(void **state)
{
    Fixture *f = *state;
    pid_t pid = 0;
    uid_t uid = (uid_t)-1;

    assert_true(proxy_upstream_creds(f->proxy, &pid, &uid));
    assert_int_equal(pid, getpid());
    assert_int_equal(uid, getuid());
    assert_string_equal(proxy_peer(f->proxy)->address, "here");
    assert_true(g_str_has_prefix(proxy_name(f->proxy), "unix-"));
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(test_frames_of_every_kind_pass_unchanged_and_in_order),
        WITH_FIXTURE(test_descriptors_pass_both_ways),
        cmocka_unit_test(test_descriptors_for_a_remote_client_become_an_error),
        cmocka_unit_test(test_descriptors_for_a_remote_upstream_become_an_error),
        WITH_FIXTURE(test_watched_reply_goes_to_the_watcher_alone),
        WITH_FIXTURE(test_own_call_is_hidden_from_the_client),
        WITH_FIXTURE(test_event_is_forwarded_or_replaced_in_its_place),
        WITH_FIXTURE(test_clients_messages_are_not_events),
        WITH_FIXTURE(test_client_that_uses_our_serial_is_closed),
        WITH_FIXTURE(test_client_that_repeats_a_watched_serial_is_closed),
        WITH_FIXTURE(test_client_that_repeats_a_held_serial_is_closed),
        WITH_FIXTURE(test_slow_upstream_stops_the_client),
        WITH_FIXTURE(test_slow_client_stops_upstream),
        WITH_FIXTURE(test_client_that_reads_no_answers_is_not_asked_for_more),
        WITH_FIXTURE(test_held_calls_are_bounded),
        WITH_FIXTURE(test_watchers_hear_of_the_end_once),
        WITH_FIXTURE(test_watcher_can_tell_the_client_why),
        WITH_FIXTURE(test_calls_of_a_client_that_left_still_reach_upstream),
        WITH_FIXTURE(test_replies_of_an_upstream_that_left_still_reach_the_client),
        WITH_FIXTURE(test_closing_tells_nobody_from_inside_the_call),
        WITH_FIXTURE(test_malformed_frame_closes_both_sides),
        WITH_FIXTURE(test_upstreams_process_is_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
