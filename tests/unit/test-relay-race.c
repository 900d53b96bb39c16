/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two relays, with every byte between them passed on by hand: what comes late, together, or too late. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/relay-hosts.h"

/* A connection: the source's end, seen from the network, and the destination's. */
typedef struct {
    int source;
    int destination;
} Line;

/* ---- by hand ---- */

static void settle(guint ms)
{
    for (guint i = 0; i < ms / 5; i++) {
        g_usleep(5000);
        while (g_main_context_iteration(NULL, FALSE))
            ;
    }
}

static void one_way(int from, int to)
{
    struct pollfd p = { from, POLLIN, 0 };

    poll(&p, 1, 200);
    copy(from, to);
    settle(20);
}

/* Until the destination has read HELLO. */
static void pass_hello(Hosts *h, Line line)
{
    for (guint i = 0; i < 8 && !h->destination->qemu_needed; i++) {
        one_way(line.source, line.destination);
        one_way(line.destination, line.source);
    }
    wait_until(needs_qemu, h->destination, "QemuNeeded");
}

static Line line_new(Hosts *h, gboolean again)
{
    int a[2];
    int b[2];

    sockets_tcp_pair(a);
    sockets_tcp_pair(b);
    relay_command(h->destination->relay, RELAY_ACCEPT_PEER, b[0], "127.0.0.1", NULL);
    if (again)
        relay_channel_command(h->source->relay, RELAY_RECONNECT_CHANNEL, CHANNEL_MAIN, 0, a[0],
                              "localhost", NULL);
    else
        relay_command(h->source->relay, RELAY_CONNECT_PEER, a[0], "localhost", h->source);
    return (Line){ a[1], b[1] };
}

static void line_close(Line line)
{
    close(line.source);
    close(line.destination);
}

/* Dials until both have ended, or so often. */
static void dial_until_ended(Hosts *h, guint times)
{
    for (guint dials = 0; !both_ended(h) && dials < times;) {
        if (lost_main(h->source)) {
            dials++;
            reconnect(h, CHANNEL_MAIN);
        }
        settle(200);
    }
}

/* ---- tests ---- */

static void answer_and_end_of_the_connection_come_together(void **state)
{
    const EndSpec spec = PATIENT_SPEC(SESSION_FEATURES_ALL);
    g_auto(Hosts) h = { 0 };
    guint8 buf[64 * 1024];
    Line line;
    gssize n;

    begin(&h, &spec);
    line = line_new(&h, FALSE);
    pass_hello(&h, line);
    one_way(line.destination, line.source);
    attach_destination(h.destination);
    settle(50);
    n = recv(line.destination, buf, sizeof buf, MSG_DONTWAIT);
    assert_true(n > 0);
    assert_int_equal(send(line.source, buf, (gsize)n, MSG_NOSIGNAL), n);
    shutdown(line.source, SHUT_WR);
    wait_until(lost_main, h.source, "the loss");
    wait_until(was_answered, h.source, "ConnectPeer's answer");
    assert_null(h.source->last_error);
    line_close(line);
    reconnect(&h, CHANNEL_MAIN);
    wait_until(has_main, h.source, "ChannelResumed");
}

static void hello_of_a_connection_that_was_given_up_changes_nothing(void **state)
{
    const EndSpec spec = PATIENT_SPEC(SESSION_FEATURES_ALL);
    g_auto(Hosts) h = { 0 };
    Line first, second;

    begin(&h, &spec);
    first = line_new(&h, FALSE);
    one_way(first.source, first.destination);
    one_way(first.destination, first.source);
    settle(100); /* HELLO waits on the network */
    shutdown(first.source, SHUT_WR);
    wait_until(lost_main, h.source, "the first loss");
    second = line_new(&h, TRUE);
    pass_hello(&h, second);
    attach_destination(h.destination);
    settle(50);
    one_way(second.destination, second.source);
    wait_until(was_answered, h.source, "ConnectPeer's answer");
    assert_null(h.source->last_error);
    copy(first.source, first.destination);
    wait_until(has_refused, h.destination, "the late HELLO");
    line_close(first);
    line_close(second);
    wait_until(lost_main, h.source, "the loss");
    reconnect(&h, CHANNEL_MAIN);
    wait_until(has_main, h.source, "ChannelResumed");
}

static void completed_source_comes_back_to_say_so(void **state)
{
    const EndSpec spec = PATIENT_SPEC(SESSION_FEATURE_RESUME);
    g_auto(Hosts) h = { 0 };
    Line line;

    begin(&h, &spec);
    line = line_new(&h, FALSE);
    pass_hello(&h, line);
    attach_destination(h.destination);
    settle(50);
    one_way(line.destination, line.source);
    one_way(line.source, line.destination);
    attach_source(h.source);
    settle(50);
    shutdown(h.source->qemu, SHUT_WR);
    settle(50);
    one_way(line.source, line.destination);
    one_way(line.destination, line.source);
    shutdown(h.destination->qemu, SHUT_WR);
    settle(50);
    one_way(line.destination, line.source);
    settle(100);
    assert_string_equal(h.source->history->str, "setup active completed");
    assert_string_equal(h.destination->history->str, "setup active");
    line_close(line); /* with the source's last words on it */
    dial_until_ended(&h, 3);
    assert_true(both_ended(&h));
    assert_string_equal(h.destination->history->str, "setup active completed");
}

/* Eight that say nothing, and have no key, cannot keep the source out. */
static void strangers_do_not_keep_the_peer_out(void **state)
{
    const EndSpec spec = PATIENT_SPEC(SESSION_FEATURE_RESUME);
    g_auto(Hosts) h = { 0 };
    int strangers[RELAY_CANDIDATES_MAX][2];

    begin_active(&h, &spec);
    cut(&h, CHANNEL_MAIN);
    wait_until(lost_main, h.source, "ChannelLost");
    for (guint i = 0; i < RELAY_CANDIDATES_MAX; i++) {
        sockets_tcp_pair(strangers[i]);
        relay_command(h.destination->relay, RELAY_ACCEPT_PEER, strangers[i][1], "stranger", NULL);
    }
    reconnect(&h, CHANNEL_MAIN);
    wait_until(has_main, h.source, "ChannelResumed");
    for (guint i = 0; i < RELAY_CANDIDATES_MAX; i++)
        close(strangers[i][0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answer_and_end_of_the_connection_come_together),
        cmocka_unit_test(hello_of_a_connection_that_was_given_up_changes_nothing),
        cmocka_unit_test(completed_source_comes_back_to_say_so),
        cmocka_unit_test(strangers_do_not_keep_the_peer_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
