/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The relay with its thread, sockets and TLS: two of them in one process, joined over loopback,
 * with threads that stand in for the QEMUs. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ram/job_error.h"
#include "ram/link.h"
#include "ram/relay.h"
#include "tests/support/raw-peer.h"
#include "tests/support/relay-end.h"
#include "tests/support/sockets.h"

#define WINDOW END_WINDOW
#define MIB (1024 * 1024)

static const RelayTimeouts patient = END_PATIENT;
static const RelayTimeouts hasty = { 200, 200, 200, 10000, 4, 20000 };

static void assert_contains(const char *text, const char *part)
{
    if (!text || !strstr(text, part))
        fail_msg("\"%s\" does not contain \"%s\"", text ? text : "(null)", part);
}

/* ---- the ordinary way ---- */

static void streams_pass_unchanged_both_ways(void **state)
{
    g_autoptr(End) source = good_end(SESSION_SOURCE);
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);
    StreamEnd *a, *b;

    activate(source, destination);
    a = stream_end_start(source->qemu, 1, 24 * MIB + 17, 2);
    b = stream_end_start(destination->qemu, 2, 3 * MIB, 1);
    source->qemu = destination->qemu = -1;
    wait_until(has_ended, source, "end of the source");
    wait_until(has_ended, destination, "end of the destination");
    stream_end_wait(a);
    stream_end_wait(b);

    assert_string_equal(source->history->str, "setup active completed");
    assert_string_equal(destination->history->str, "setup active completed");
    assert_true(stream_end_is_good(a, b->len) && stream_end_is_good(b, a->len));
    assert_true(source->return_path && destination->return_path);
    assert_string_equal(source->peer, "TLS1.3 test");

    assert_true(source->stats.stream_bytes == a->len);
    assert_true(destination->stats.stream_bytes == a->len);
    assert_true(source->stats.return_path_bytes == b->len);
    assert_true(destination->stats.return_path_bytes == b->len);
    /* TLS and frames cost a little, never much. */
    assert_true(source->stats.wire_bytes_sent > a->len);
    assert_true(source->stats.wire_bytes_sent < a->len + a->len / 20);
    assert_true(destination->stats.wire_bytes_received > a->len);
    assert_true(source->stats.window_high_water <= WINDOW);
    assert_true(source->stats.elapsed_us > 0);
    stream_end_free(a);
    stream_end_free(b);
}

static void half_close_passes_alone(void **state)
{
    g_autoptr(End) source = good_end(SESSION_SOURCE);
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);
    const char bytes[] = "no stream of QEMU's";
    char byte = 0;

    activate(source, destination);
    shutdown(destination->qemu, SHUT_WR);
    assert_true(socket_ends_within(source->qemu, 5000));
    /* The other direction lives. */
    assert_int_equal(send(source->qemu, bytes, sizeof bytes, MSG_NOSIGNAL), sizeof bytes);
    assert_int_equal(recv(destination->qemu, &byte, 1, 0), 1);
    assert_int_equal(byte, bytes[0]);
    assert_true(is_active(source) && is_active(destination));
    close(source->qemu);
    source->qemu = -1;
    wait_until(has_ended, source, "end");
    wait_until(has_ended, destination, "end");
    assert_string_equal(source->history->str, "setup active completed");
    assert_string_equal(destination->history->str, "setup active completed");
}

static void slow_reader_costs_one_window(void **state)
{
    g_autoptr(End) source = good_end(SESSION_SOURCE);
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);
    StreamEnd *a;

    activate(source, destination);
    /* Nobody reads at the destination: the writer gets stuck. */
    a = stream_end_start(source->qemu, 1, 64 * MIB, 2);
    source->qemu = -1;
    for (guint64 last = 0, same = 0; same < 3;) {
        source->stats.stream_bytes = 0;
        g_usleep(100000);
        relay_command(source->relay, RELAY_GET_STATS, -1, NULL, NULL);
        while (source->stats.stream_bytes == 0)
            g_main_context_iteration(NULL, TRUE);
        same = source->stats.stream_bytes == last ? same + 1 : 0;
        last = source->stats.stream_bytes;
    }
    assert_true(source->stats.window_high_water <= WINDOW);
    assert_true(source->stats.stream_bytes < 2 * WINDOW);
    stream_end_free(a);
}

/* ---- what goes wrong at the start ---- */

static void wrong_token_is_told_to_both_sides(void **state)
{
    const EndSpec other = { .key = 1, .token = 99, .timeouts = patient };
    g_autoptr(End) source = end_new(SESSION_SOURCE, &other);
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);
    g_autoptr(End) right = good_end(SESSION_SOURCE);

    join(source, destination);
    wait_until(has_ended, source, "end");
    assert_true(g_error_matches(source->last_error, JOB_ERROR, JOB_ERROR_REFUSED));
    assert_string_equal(source->last_error->message, "the destination refused: wrong token");
    assert_string_equal(source->history->str, "setup failed");
    wait_until(has_refused, destination, "ChannelRefused");
    assert_string_equal(destination->refused->pdata[0], "wrong token");
    /* The destination waits on for the right one. */
    activate(right, destination);
}

static void second_channel_with_the_token_is_refused(void **state)
{
    g_autoptr(End) source = good_end(SESSION_SOURCE);
    g_autoptr(End) thief = good_end(SESSION_SOURCE);
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);

    activate(source, destination);
    join(thief, destination);
    wait_until(has_ended, thief, "end");
    assert_string_equal(thief->reason, "the destination refused: token already used");
    wait_until(has_refused, destination, "ChannelRefused");
    assert_true(is_active(source) && is_active(destination));
}

static void wrong_key_fails_the_handshake(void **state)
{
    const EndSpec other = { .key = 2, .token = 1, .timeouts = patient };
    g_autoptr(End) source = end_new(SESSION_SOURCE, &other);
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);

    join(source, destination);
    wait_until(has_ended, source, "end");
    assert_non_null(source->last_error);
    assert_string_equal(source->history->str, "setup failed");
    wait_until(has_refused, destination, "ChannelRefused");
    assert_int_equal(destination->state, SESSION_SETUP);
}

static void refused_qemu_is_told_to_the_source(void **state)
{
    g_autoptr(End) source = good_end(SESSION_SOURCE);
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);

    join(source, destination);
    wait_until(needs_qemu, destination, "QemuNeeded");
    assert_int_equal(source->replies, 0);
    relay_command(destination->relay, RELAY_REFUSE_QEMU, -1, "connect: no such file", NULL);
    wait_until(has_ended, source, "end");
    wait_until(has_ended, destination, "end");
    assert_true(g_error_matches(source->last_error, JOB_ERROR, JOB_ERROR_REFUSED));
    assert_string_equal(source->reason, "the destination refused: connect: no such file");
    assert_string_equal(destination->history->str, "setup failed");
}

static void cancel_before_active_reaches_the_peer(void **state)
{
    g_autoptr(End) source = good_end(SESSION_SOURCE);
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);

    join(source, destination);
    wait_until(needs_qemu, destination, "QemuNeeded");
    relay_command(source->relay, RELAY_GIVE_UP, -1, "client left", NULL);
    wait_until(has_ended, source, "end");
    wait_until(has_ended, destination, "end");
    assert_string_equal(source->history->str, "setup cancelled");
    assert_string_equal(destination->history->str, "setup cancelled");
    assert_true(g_error_matches(source->last_error, JOB_ERROR, JOB_ERROR_CANCELLED));
    assert_string_equal(destination->reason, "the source cancelled the migration: client left");
}

/* What a daemon keeps of a session it decides when that ends. The first commands are for the thread
 * to be busy, so that it takes the last two in one turn. */
static void reading_is_told_before_the_end(void **state)
{
    g_autoptr(End) source = good_end(SESSION_SOURCE);
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);
    MemoryRange range = { 4096, 8192 };

    activate(source, destination);
    for (guint i = 0; i < 1000; i++)
        relay_command(source->relay, RELAY_GET_STATS, -1, NULL, NULL);
    relay_set_reading(source->relay, open("/proc/self/mem", O_RDONLY | O_CLOEXEC), &range, 1, NULL);
    relay_command(source->relay, RELAY_CANCEL, -1, "user", NULL);
    wait_until(has_ended, source, "end");
    assert_string_equal(source->reading, "proving");
    assert_int_equal(source->reading_before, SESSION_ACTIVE);
    assert_string_equal(source->history->str, "setup active cancelled");
}

static void giving_up_leaves_an_active_migration_alone(void **state)
{
    g_autoptr(End) source = good_end(SESSION_SOURCE);
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);

    activate(source, destination);
    source->replies = 0;
    relay_command(source->relay, RELAY_GIVE_UP, -1, "daemon gone", source);
    wait_until(was_answered, source, "answer");
    assert_true(is_active(source));
    relay_command(source->relay, RELAY_CANCEL, -1, "user", source);
    wait_until(has_ended, source, "end");
    wait_until(has_ended, destination, "end");
    assert_string_equal(destination->history->str, "setup active cancelled");
    assert_true(socket_ends_within(destination->qemu, 1000));
}

/* ---- candidates ---- */

static void silent_peer_is_dropped_at_its_deadline(void **state)
{
    const EndSpec spec = { .key = 1, .token = 1, .timeouts = hasty };
    g_autoptr(End) destination = end_new(SESSION_DESTINATION, &spec);
    int tcp[2];

    sockets_tcp_pair(tcp);
    relay_command(destination->relay, RELAY_ACCEPT_PEER, tcp[1], "10.0.0.1", NULL);
    wait_until(has_refused, destination, "ChannelRefused");
    assert_string_equal(destination->refused->pdata[0], "the TLS handshake took too long");
    assert_true(socket_ends_within(tcp[0], 1000));
    assert_int_equal(destination->state, SESSION_SETUP);
    close(tcp[0]);
}

static void silent_destination_fails_the_source(void **state)
{
    const EndSpec spec = { .key = 1, .token = 1, .timeouts = hasty };
    g_autoptr(End) source = end_new(SESSION_SOURCE, &spec);
    int tcp[2];

    sockets_tcp_pair(tcp);
    relay_command(source->relay, RELAY_CONNECT_PEER, tcp[0], "hostB", source);
    wait_until(has_ended, source, "end");
    assert_string_equal(source->last_error->message,
                        "the peer hostB did not answer the TLS handshake in time");
    close(tcp[1]);
}

static void answer_to_hello_has_a_deadline(void **state)
{
    const EndSpec spec = { .key = 1, .token = 1, .timeouts = { 10000, 200, 200, 10000, 4, 20000 } };
    g_autoptr(End) source = end_new(SESSION_SOURCE, &spec);
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);

    join(source, destination);
    wait_until(has_ended, source, "end");
    assert_string_equal(source->last_error->message, "the peer localhost did not answer in time");
    wait_until(has_ended, destination, "end");
    assert_string_equal(destination->history->str, "setup failed");
}

static void bad_candidates_do_not_disturb_the_good_one(void **state)
{
    g_autoptr(End) source = good_end(SESSION_SOURCE);
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);
    int bad[RELAY_CANDIDATES_MAX][2];
    int one_more[2];

    /* Seven that say nothing or garbage; the eighth place is for the good one. */
    for (guint i = 0; i < RELAY_CANDIDATES_MAX - 1; i++) {
        sockets_tcp_pair(bad[i]);
        relay_command(destination->relay, RELAY_ACCEPT_PEER, bad[i][1], "bad", NULL);
    }
    activate(source, destination);
    assert_int_equal(send(bad[0][0], "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL), 18);
    wait_until(has_refused, destination, "ChannelRefused");
    close(bad[1][0]);
    while (destination->refused->len < 2)
        g_main_context_iteration(NULL, TRUE);

    /* Three more fill it again; for the third the oldest makes room. */
    sockets_tcp_pair(bad[7]);
    relay_command(destination->relay, RELAY_ACCEPT_PEER, bad[7][1], "bad", NULL);
    for (guint i = 0; i < 3; i++) {
        sockets_tcp_pair(one_more);
        relay_command(destination->relay, RELAY_ACCEPT_PEER, one_more[1], "bad", NULL);
        if (i == 2) {
            assert_true(socket_ends_within(bad[2][0], 2000));
            close(bad[2][0]);
        }
        bad[i][0] = one_more[0];
    }
    while (destination->refused->len < 3)
        g_main_context_iteration(NULL, TRUE);
    assert_string_equal(destination->refused->pdata[2], "too many channels are being set up");
    assert_true(is_active(source) && is_active(destination));
    for (guint i = 0; i < RELAY_CANDIDATES_MAX; i++)
        close(bad[i][0]);
}

static GBytes *hello_with(guint8 kind, guint16 version, guint8 token, guint64 window)
{
    HelloBody hello = { .version_min = version,
                        .version_max = version,
                        .kind = kind,
                        .window = window,
                        .auth_len = HELLO_TOKEN_LEN };

    memset(hello.auth, token, HELLO_TOKEN_LEN);
    return frame_new_hello(&hello);
}

static GBytes *bytes_of_row(guint row)
{
    static const guint8 oversized[16] = { 0x7f, 0xff, 0xff, 0xff, FRAME_HELLO };

    switch (row) {
    case 0:
        return g_bytes_new_static("GET / HTTP/1.1\r\nHost: b\r\n\r\n", 27);
    case 1:
        return g_bytes_new_static(oversized, sizeof oversized);
    case 2:
        return frame_new(FRAME_DATA, 0, "x", 1);
    case 3:
        return hello_with(CHANNEL_PREEMPT, 1, 1, WINDOW);
    case 4:
        return hello_with(CHANNEL_MAIN, 9, 1, WINDOW);
    case 5:
        return hello_with(CHANNEL_MAIN, 1, 7, WINDOW);
    case 6:
        return hello_with(CHANNEL_MAIN, 1, 1, 5);
    default:
        return frame_new(FRAME_HELLO, 0, "short", 5);
    }
}

static void bad_hello_is_answered_and_closed_alone(void **state)
{
    static const char *const answers[] = {
        "protocol: unknown frame type 47",
        "protocol: frame length 2147483647 is out of range for HELLO (17 to 4112)",
        "protocol: frame type is DATA, the first frame must be HELLO",
        "kind: channel kind 1 (preempt) is not offered",
        "version: protocol versions 9 to 9 are not spoken here, only 1",
        "token: wrong token",
        "protocol: HELLO window 5 is out of range (65536 to 1073741824)",
        "protocol: HELLO features needs 8 bytes, only 1 are left",
    };
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);
    g_autoptr(End) source = good_end(SESSION_SOURCE);

    for (guint i = 0; i < G_N_ELEMENTS(answers); i++) {
        g_autoptr(TlsChannel) channel = raw_peer(destination);
        g_autoptr(GBytes) bytes = bytes_of_row(i);
        g_autofree char *answer = NULL;
        gsize len;
        const guint8 *data = g_bytes_get_data(bytes, &len);

        assert_int_equal(tls_channel_write(channel, data, len, NULL), len);
        answer = raw_answer(channel);
        assert_non_null(answer);
        assert_string_equal(answer, answers[i]);
        while (destination->refused->len <= i)
            g_main_context_iteration(NULL, TRUE);
        assert_non_null(strstr(answers[i], destination->refused->pdata[i]));
        assert_int_equal(destination->state, SESSION_SETUP);
    }
    activate(source, destination);
}

/* Closing with it unread would reset the connection. */
static void take_ticket(TlsChannel *channel)
{
    struct pollfd p = { tls_channel_fd(channel), POLLIN, 0 };
    guint8 byte;

    assert_int_equal(poll(&p, 1, 10000), 1);
    assert_int_equal(tls_channel_read(channel, &byte, 1, NULL), -1);
}

static void peer_that_leaves_before_hello_is_forgotten(void **state)
{
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);
    g_autoptr(GBytes) hello = hello_with(CHANNEL_MAIN, 1, 1, WINDOW);

    for (gsize cut = 0; cut < 40; cut += 13) {
        TlsChannel *channel = raw_peer(destination);
        guint before = destination->refused->len;

        if (cut)
            assert_int_equal(
                tls_channel_write(channel, g_bytes_get_data(hello, NULL), cut, NULL), cut);
        take_ticket(channel);
        tls_channel_bye(channel);
        tls_channel_free(channel);
        while (destination->refused->len == before)
            g_main_context_iteration(NULL, TRUE);
        assert_contains(destination->refused->pdata[before],
                        cut ? "in the middle of HELLO" : "before HELLO");
    }
    assert_int_equal(destination->state, SESSION_SETUP);
}

/* ---- what breaks on the way ---- */

/* Joined by hand to a destination: HELLO is accepted, QEMU attached. */
static TlsChannel *raw_active(End *destination)
{
    TlsChannel *channel = raw_peer(destination);
    g_autoptr(GBytes) hello = hello_with(CHANNEL_MAIN, 1, 1, WINDOW);
    guint8 ack[FRAME_HEADER_LEN + 20];
    gsize len;
    const guint8 *data = g_bytes_get_data(hello, &len);

    assert_int_equal(tls_channel_write(channel, data, len, NULL), len);
    wait_until(needs_qemu, destination, "QemuNeeded");
    attach_destination(destination);
    wait_until(is_active, destination, "active");
    /* Closing with HELLO_ACK unread would reset the connection. */
    raw_read(channel, ack, sizeof ack);
    return channel;
}

static void violation_closes_qemu_and_is_answered(void **state)
{
    static const struct {
        const char *bytes;
        gsize len;
        const char *names;
    } rows[] = {
        { "\0\0\0\x11\4\0\0\0\0\0\0\0\0\0\0\5x", 17, "frame sequence of DATA is 5, expected 0" },
        { "\0\1\0\x11\4\0\0\0\0\0\0\0\0\0\0\0", 16, "frame length 65553 is out of range" },
        { "\0\0\0\x10\x63\0\0\0\0\0\0\0\0\0\0\0", 16, "unknown frame type 99" },
        { "\0\0\0\x10\xa\0\0\0\0\0\0\0\0\0\0\0", 16, "BYE is not expected in state active" },
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(End) destination = good_end(SESSION_DESTINATION);
        g_autoptr(TlsChannel) channel = raw_active(destination);
        g_autofree char *answer = NULL;

        assert_int_equal(tls_channel_write(channel, rows[i].bytes, rows[i].len, NULL),
                         rows[i].len);
        answer = raw_answer(channel);
        assert_contains(answer, rows[i].names);
        assert_true(socket_ends_within(destination->qemu, 2000));
        wait_until(has_ended, destination, "end");
        assert_string_equal(destination->history->str, "setup active failed");
        assert_contains(destination->reason, rows[i].names);
    }
}

static void truncated_frame_fails_the_session(void **state)
{
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);
    TlsChannel *channel = raw_active(destination);

    assert_int_equal(tls_channel_write(channel, "\0\0\0\x20\4\0\0\0\0", 9, NULL), 9);
    tls_channel_bye(channel);
    tls_channel_free(channel);
    wait_until(has_ended, destination, "end");
    assert_contains(destination->reason, "in the middle of a frame");
    assert_true(socket_ends_within(destination->qemu, 2000));
}

static void vanished_peer_closes_qemu_at_once(void **state)
{
    for (int which = 0; which < 2; which++) {
        g_autoptr(End) source = good_end(SESSION_SOURCE);
        g_autoptr(End) destination = good_end(SESSION_DESTINATION);
        End *left = which ? source : destination;
        End *gone = which ? destination : source;

        activate(source, destination);
        /* The thread is stopped and the sockets are closed, with no goodbye. */
        relay_free(gone->relay);
        gone->relay = NULL;
        assert_true(socket_ends_within(left->qemu, 2000));
        wait_until(has_ended, left, "end");
        assert_string_equal(left->history->str, "setup active failed");
        assert_contains(left->reason, "lost the peer");
    }
}

static void broken_qemu_closes_the_other_qemu(void **state)
{
    g_autoptr(End) source = good_end(SESSION_SOURCE);
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);

    activate(source, destination);
    /* Closing with bytes unread is what a killed process does: a reset. */
    assert_int_equal(send(source->qemu, "page", 4, MSG_NOSIGNAL), 4);
    while (recv(destination->qemu, &(char){ 0 }, 1, MSG_PEEK | MSG_DONTWAIT) < 0)
        g_usleep(1000);
    close(destination->qemu);
    destination->qemu = -1;
    assert_true(socket_ends_within(source->qemu, 2000));
    wait_until(has_ended, source, "end");
    wait_until(has_ended, destination, "end");
    assert_contains(destination->reason, "the connection to QEMU broke");
    assert_contains(source->reason, "QEMU on the destination broke");
}

/* libvirt kills the source QEMU when the destination has everything, read or not. */
static void source_qemu_that_leaves_its_return_path_unread_is_no_failure(void **state)
{
    g_autoptr(End) source = good_end(SESSION_SOURCE);
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);

    activate(source, destination);
    assert_int_equal(send(source->qemu, "page", 4, MSG_NOSIGNAL), 4);
    assert_int_equal(recv(destination->qemu, (char[4]){ 0 }, 4, MSG_WAITALL), 4);
    assert_int_equal(send(destination->qemu, "SHUT", 4, MSG_NOSIGNAL), 4);
    while (recv(source->qemu, &(char){ 0 }, 1, MSG_PEEK | MSG_DONTWAIT) < 0)
        g_usleep(1000);
    /* What the first SHUT leaves unread makes the next one EPIPE, and the end ECONNRESET. */
    close(source->qemu);
    source->qemu = -1;
    send(destination->qemu, "SHUT", 4, MSG_NOSIGNAL);
    close(destination->qemu);
    destination->qemu = -1;
    wait_until(has_ended, source, "end");
    wait_until(has_ended, destination, "end");
    assert_int_equal(source->state, SESSION_COMPLETED);
    assert_int_equal(destination->state, SESSION_COMPLETED);
}

static void relay_can_be_freed_in_mid_stream(void **state)
{
    for (int i = 0; i < 5; i++) {
        g_autoptr(End) source = good_end(SESSION_SOURCE);
        g_autoptr(End) destination = good_end(SESSION_DESTINATION);
        StreamEnd *a, *b;

        activate(source, destination);
        a = stream_end_start(source->qemu, 1, 64 * MIB, 2);
        b = stream_end_start(destination->qemu, 2, MIB, 1);
        source->qemu = destination->qemu = -1;
        g_usleep(i * 5000);
        relay_free(i & 1 ? source->relay : destination->relay);
        *(i & 1 ? &source->relay : &destination->relay) = NULL;
        stream_end_free(a);
        stream_end_free(b);
    }
}

static void calls_out_of_order_are_refused(void **state)
{
    g_autoptr(End) source = good_end(SESSION_SOURCE);
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);
    int pair[2];

    sockets_unix_pair(pair);
    relay_command(destination->relay, RELAY_ATTACH_QEMU, pair[0], NULL, destination);
    wait_until(was_answered, destination, "answer");
    assert_true(g_error_matches(destination->last_error, JOB_ERROR, JOB_ERROR_WRONG_STATE));
    assert_string_equal(destination->last_error->message,
                        "QEMU cannot be attached in state setup");
    /* The refused descriptor is closed. */
    assert_true(socket_ends_within(pair[1], 1000));
    close(pair[1]);

    destination->replies = 0;
    relay_command(destination->relay, RELAY_REFUSE_QEMU, -1, "why", destination);
    wait_until(was_answered, destination, "answer");
    assert_true(g_error_matches(destination->last_error, JOB_ERROR, JOB_ERROR_WRONG_STATE));

    activate(source, destination);
    source->replies = 0;
    sockets_unix_pair(pair);
    relay_command(source->relay, RELAY_CONNECT_PEER, pair[0], "again", source);
    wait_until(was_answered, source, "answer");
    assert_true(g_error_matches(source->last_error, JOB_ERROR, JOB_ERROR_WRONG_STATE));
    close(pair[1]);
    assert_true(is_active(source) && is_active(destination));
}

/* ---- figures, printed and not judged ---- */

static void throughput_is_printed(void **state)
{
    g_autoptr(End) source = good_end(SESSION_SOURCE);
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);
    const guint64 len = g_getenv("RELAY_BENCH") ? 2048 * (guint64)MIB : 64 * (guint64)MIB;
    StreamEnd *a, *b;
    gint64 begin;

    activate(source, destination);
    begin = g_get_monotonic_time();
    a = stream_end_start(source->qemu, 1, len, 2);
    b = stream_end_start(destination->qemu, 2, 0, 1);
    source->qemu = destination->qemu = -1;
    wait_until(has_ended, source, "end");
    stream_end_wait(b);
    print_message("%" G_GUINT64_FORMAT " MiB, %.2f Gbit/s, %" G_GUINT64_FORMAT
                  " frames\n",
                  len / MIB, len * 8.0 / 1000 / (g_get_monotonic_time() - begin),
                  source->stats.frames_sent);
    assert_true(stream_end_is_good(b, len));
    stream_end_free(a);
    stream_end_free(b);
}

static void round_trip_is_printed(void **state)
{
    g_autoptr(End) source = good_end(SESSION_SOURCE);
    g_autoptr(End) destination = good_end(SESSION_DESTINATION);
    const guint rounds = 2000;
    const char junk[8] = { 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x' };
    char out[sizeof junk];
    gint64 begin;

    activate(source, destination);
    /* Both directions are opaque from here on: a byte is not kept for the element it might begin. */
    assert_int_equal(send(source->qemu, junk, sizeof junk, MSG_NOSIGNAL), sizeof junk);
    assert_int_equal(recv(destination->qemu, out, sizeof out, MSG_WAITALL), sizeof out);
    assert_int_equal(send(destination->qemu, junk, sizeof junk, MSG_NOSIGNAL), sizeof junk);
    assert_int_equal(recv(source->qemu, out, sizeof out, MSG_WAITALL), sizeof out);
    begin = g_get_monotonic_time();
    for (guint i = 0; i < rounds; i++) {
        char byte = (char)i;

        assert_int_equal(send(source->qemu, &byte, 1, MSG_NOSIGNAL), 1);
        assert_int_equal(recv(destination->qemu, &byte, 1, 0), 1);
        assert_int_equal(send(destination->qemu, &byte, 1, MSG_NOSIGNAL), 1);
        assert_int_equal(recv(source->qemu, &byte, 1, 0), 1);
        assert_int_equal(byte, (char)i);
    }
    print_message("round trip of one byte: %.1f us\n",
                  (double)(g_get_monotonic_time() - begin) / rounds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_pass_unchanged_both_ways),
        cmocka_unit_test(half_close_passes_alone),
        cmocka_unit_test(slow_reader_costs_one_window),
        cmocka_unit_test(wrong_token_is_told_to_both_sides),
        cmocka_unit_test(second_channel_with_the_token_is_refused),
        cmocka_unit_test(wrong_key_fails_the_handshake),
        cmocka_unit_test(refused_qemu_is_told_to_the_source),
        cmocka_unit_test(cancel_before_active_reaches_the_peer),
        cmocka_unit_test(reading_is_told_before_the_end),
        cmocka_unit_test(giving_up_leaves_an_active_migration_alone),
        cmocka_unit_test(silent_peer_is_dropped_at_its_deadline),
        cmocka_unit_test(silent_destination_fails_the_source),
        cmocka_unit_test(answer_to_hello_has_a_deadline),
        cmocka_unit_test(bad_candidates_do_not_disturb_the_good_one),
        cmocka_unit_test(bad_hello_is_answered_and_closed_alone),
        cmocka_unit_test(peer_that_leaves_before_hello_is_forgotten),
        cmocka_unit_test(violation_closes_qemu_and_is_answered),
        cmocka_unit_test(truncated_frame_fails_the_session),
        cmocka_unit_test(vanished_peer_closes_qemu_at_once),
        cmocka_unit_test(broken_qemu_closes_the_other_qemu),
        cmocka_unit_test(source_qemu_that_leaves_its_return_path_unread_is_no_failure),
        cmocka_unit_test(relay_can_be_freed_in_mid_stream),
        cmocka_unit_test(calls_out_of_order_are_refused),
        cmocka_unit_test(throughput_is_printed),
        cmocka_unit_test(round_trip_is_printed),
    };
    const struct CMUnitTest figures[] = {
        cmocka_unit_test(throughput_is_printed),
        cmocka_unit_test(round_trip_is_printed),
    };

    signal(SIGPIPE, SIG_IGN);
    if (g_getenv("RELAY_BENCH"))
        return cmocka_run_group_tests(figures, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
