/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virt-postcopy-helper when a connection between two of them is lost: what the daemons hear,
 * what they do about it, and that no byte of QEMU's is lost or comes twice. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ram/job_error.h"
#include "tests/support/helper-world.h"

/* More than any test takes, and an end for helpers whose test was killed. */
#define PATIENT "{'reconnect-timeout': <uint32 40>}"

/* Active, with both channels, and able to be cut. options: a{sv} as text. */
static void begin(void **state, HelperCouple *couple, const char *options)
{
    helper_couple_init_kept(state, couple, options);
    couple->keeps_wires = TRUE;
    helper_couple_activate(state, couple);
}

/* ---- bytes ---- */

/* As many bytes as do not fit in front of a QEMU that does not read. */
typedef struct {
    int fd; /* of the QEMU that sends */
    guint32 seed;
    gsize len;
    GThread *thread;
} Bytes;

static gpointer send_bytes(gpointer data)
{
    Bytes *bytes = data;
    g_autofree guint8 *buf = g_malloc(bytes->len);
    g_autoptr(GRand) rand = g_rand_new_with_seed(bytes->seed);
    gsize done = 0;

    for (gsize i = 0; i < bytes->len; i++)
        buf[i] = (guint8)g_rand_int(rand);
    while (done < bytes->len) {
        gssize n = send(bytes->fd, buf + done, bytes->len - done, MSG_NOSIGNAL);

        if (n < 0)
            break; /* get() will miss the rest */
        done += (gsize)n;
    }
    return NULL;
}

static void put(Bytes *bytes, int fd, guint32 seed, gsize len)
{
    *bytes = (Bytes){ fd, seed, len, NULL };
    bytes->thread = g_thread_new("bytes", send_bytes, bytes);
}

/* What was put arrives at that QEMU, and nothing else before. */
static void get(Bytes *bytes, int fd)
{
    g_autofree guint8 *buf = g_malloc(bytes->len);
    g_autoptr(GRand) rand = g_rand_new_with_seed(bytes->seed);
    const struct timeval limit = { .tv_sec = 20 };

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(recv(fd, buf, bytes->len, MSG_WAITALL), bytes->len);
    for (gsize i = 0; i < bytes->len; i++) {
        if (buf[i] != (guint8)g_rand_int(rand))
            fail_msg("byte %zu of %zu is wrong", i, bytes->len);
    }
    g_thread_join(bytes->thread);
}

static void pass(HelperCouple *couple)
{
    Bytes bytes;

    put(&bytes, couple->source_qemu, 1, MIB);
    get(&bytes, couple->destination_qemu);
}

/* Both QEMUs have nothing to say any more, and both helpers are content. */
static void end(HelperCouple *couple)
{
    char byte;

    assert_int_equal(shutdown(couple->source_qemu, SHUT_WR), 0);
    assert_int_equal(recv(couple->destination_qemu, &byte, 1, 0), 0);
    assert_int_equal(shutdown(couple->destination_qemu, SHUT_WR), 0);
    assert_int_equal(recv(couple->source_qemu, &byte, 1, 0), 0);
    assert_int_equal(helper_child_wait_exit(couple->source), 0);
    assert_int_equal(helper_child_wait_exit(couple->destination), 0);
    assert_string_equal(couple->source->history->str, "setup active completed");
    assert_string_equal(couple->destination->history->str, "setup active completed");
}

/* ---- it goes on ---- */

static void lose(HelperCouple *couple, ChannelKind kind)
{
    const char *name = channel_kind_name(kind);
    guint lost = couple->source->lost->len;

    helper_couple_cut(couple, kind);
    helper_child_wait_lost(couple->source, lost + 1);
    helper_child_wait_lost(couple->destination, lost + 1);
    assert_contains(couple->source->lost->pdata[lost], name);
    assert_contains(couple->destination->lost->pdata[lost], name);
    assert_true(helper_child_has_lost(couple->source, name));
    assert_true(helper_child_has_lost(couple->destination, name));
}

static void resume(HelperCouple *couple, ChannelKind kind)
{
    const char *name = channel_kind_name(kind);
    guint resumed = couple->source->resumed->len;

    helper_couple_rejoin(couple, kind);
    assert_null(helper_child_wait_answer(couple->source, couple->source->calls));
    helper_child_wait_resumed(couple->source, resumed + 1);
    helper_child_wait_resumed(couple->destination, resumed + 1);
    assert_string_equal(couple->source->resumed->pdata[resumed], name);
    assert_string_equal(couple->destination->resumed->pdata[resumed], name);
    assert_false(helper_child_has_lost(couple->source, name));
    assert_false(helper_child_has_lost(couple->destination, name));
}

static void stream_goes_on_after_every_cut_of_either_channel(void **state)
{
    g_auto(HelperCouple) couple;
    Bytes forth, back;

    begin(state, &couple, PATIENT);
    for (guint i = 0; i < 8; i++) {
        ChannelKind kind = i % 3 == 2 ? CHANNEL_PREEMPT : CHANNEL_MAIN;

        put(&forth, couple.source_qemu, i, 2 * MIB);
        put(&back, couple.destination_qemu, 100 + i, MIB);
        lose(&couple, kind);
        resume(&couple, kind);
        get(&forth, couple.destination_qemu);
        get(&back, couple.source_qemu);
    }
    assert_string_equal(couple.source->history->str, "setup active");
    assert_int_equal(helper_child_channels(couple.source), 2);
    assert_int_equal(helper_child_channels(couple.destination), 2);
    end(&couple);
    assert_int_equal(helper_child_counter(couple.source, "resumes"), 8);
    assert_int_equal(helper_child_counter(couple.destination, "resumes"), 8);
    assert_true(helper_child_counter(couple.source, "stream-bytes") == 16 * MIB);
}

/* While it is lost the source takes what fits in its window, and then leaves QEMU waiting. */
static void stream_that_begins_without_a_connection_passes_later(void **state)
{
    g_auto(HelperCouple) couple;
    StreamEnd *ends[2];

    begin(state, &couple, PATIENT);
    lose(&couple, CHANNEL_MAIN);
    lose(&couple, CHANNEL_PREEMPT);
    helper_couple_start_streams(&couple, 24 * MIB, MIB, ends);
    resume(&couple, CHANNEL_PREEMPT);
    resume(&couple, CHANNEL_MAIN);
    assert_int_equal(helper_child_wait_exit(couple.source), 0);
    assert_int_equal(helper_child_wait_exit(couple.destination), 0);
    assert_streams_good(ends);
    helper_streams_free(ends);
}

/* The socket that was given did not become the channel: another one is asked for. */
static void connection_that_leads_nowhere_is_lost_again(void **state)
{
    g_auto(HelperCouple) couple;
    int tcp[2];

    begin(state, &couple, PATIENT);
    lose(&couple, CHANNEL_MAIN);
    sockets_tcp_pair(tcp);
    close(tcp[1]);
    helper_child_reconnect(couple.source, tcp[0], "localhost", "main");
    assert_null(helper_child_wait_answer(couple.source, couple.source->calls));
    helper_child_wait_lost(couple.source, 2);
    assert_contains(couple.source->lost->pdata[1], "main: ");
    assert_true(helper_child_has_lost(couple.source, "main"));
    resume(&couple, CHANNEL_MAIN);
    pass(&couple);
    end(&couple);
}

static gboolean main_is_lost(gpointer data)
{
    return helper_child_has_lost(data, "main");
}

/* A lost channel does not make an active migration one that ends with its daemon. */
static void later_daemon_finds_what_is_lost_and_dials(void **state)
{
    g_auto(HelperCouple) couple;
    g_autofree char *source = helper_world_path(state, "source", ".sock");
    g_autofree char *destination = helper_world_path(state, "destination", ".sock");
    Bytes bytes;

    begin(state, &couple, PATIENT);
    put(&bytes, couple.source_qemu, 1, MIB);
    helper_child_drop_bus(couple.source);
    helper_couple_cut(&couple, CHANNEL_MAIN);
    helper_child_wait_lost(couple.destination, 1);
    helper_child_drop_bus(couple.destination);

    assert_true(helper_child_find(couple.source, source));
    assert_true(helper_child_find(couple.destination, destination));
    wait_until(main_is_lost, couple.source, "the loss at the source");
    assert_true(helper_child_has_lost(couple.destination, "main"));
    resume(&couple, CHANNEL_MAIN);
    get(&bytes, couple.destination_qemu);
    end(&couple);
}

/* The first HELLO was not answered: the second one has the token again. */
static void connection_lost_in_set_up_is_made_again(void **state)
{
    g_auto(HelperCouple) couple;
    Bytes bytes;

    helper_couple_init_kept(state, &couple, PATIENT);
    couple.keeps_wires = TRUE;
    helper_couple_join_main(&couple);
    helper_child_wait_qemu_needed(couple.destination);
    helper_couple_cut(&couple, CHANNEL_MAIN);
    helper_child_wait_lost(couple.source, 1);
    assert_string_equal(couple.source->state, "setup");
    helper_couple_rejoin(&couple, CHANNEL_MAIN);
    couple.destination_qemu = helper_give_qemu(couple.destination);
    assert_null(helper_child_wait_answer(couple.source, couple.source->calls));
    helper_couple_join_preempt(&couple);
    couple.source_qemu = helper_connect_qemu(state, couple.source);
    put(&bytes, couple.source_qemu, 1, MIB);
    get(&bytes, couple.destination_qemu);
    end(&couple);
}

/* A peer that says nothing while its connection stands. */
static void silence_is_noticed_and_the_peer_found_again(void **state)
{
    g_auto(HelperCouple) couple;
    Bytes bytes;

    begin(state, &couple,
          "{'reconnect-timeout': <uint32 40>, 'heartbeat-interval': <uint32 1>,"
          " 'heartbeat-count': <uint32 2>}");
    put(&bytes, couple.source_qemu, 1, MIB);
    kill(helper_child_pid(couple.destination), SIGSTOP);
    helper_child_wait_lost(couple.source, 2);
    assert_contains(couple.source->lost->pdata[0], "it has said nothing for");
    assert_true(helper_child_has_lost(couple.source, "main"));
    assert_true(helper_child_has_lost(couple.source, "preempt"));
    kill(helper_child_pid(couple.destination), SIGCONT);
    helper_couple_rejoin(&couple, CHANNEL_MAIN);
    helper_couple_rejoin(&couple, CHANNEL_PREEMPT);
    helper_child_wait_resumed(couple.source, 2);
    get(&bytes, couple.destination_qemu);
    end(&couple);
}

static void quiet_peers_hear_of_each_other_and_stay(void **state)
{
    g_auto(HelperCouple) couple;

    begin(state, &couple,
          "{'heartbeat-interval': <uint32 1>, 'heartbeat-count': <uint32 2>}");
    /* Longer than the silence that would be too long. */
    assert_false(socket_ends_within(couple.source_qemu, 3500));
    pass(&couple);
    end(&couple);
    assert_int_equal(couple.source->lost->len, 0);
    assert_int_equal(couple.destination->lost->len, 0);
}

/* ---- it does not ---- */

static void assert_failed(HelperChild *child, int *qemu, const char *why)
{
    assert_int_equal(helper_child_wait_exit(child), 1);
    assert_string_equal(child->history->str, "setup active failed");
    assert_contains(child->reason, why);
    assert_string_equal(postcopy_migration_get_ended_by(child->proxy), "channel");
    assert_false(helper_child_has_lost(child, "main"));
    assert_true(socket_ends_within(*qemu, 1000));
}

static void peer_that_does_not_come_back_in_time_is_a_failure_at_both(void **state)
{
    g_auto(HelperCouple) couple;

    begin(state, &couple, "{'reconnect-timeout': <uint32 1>}");
    lose(&couple, CHANNEL_MAIN);
    assert_failed(couple.source, &couple.source_qemu, "it did not come back within 1 second");
    assert_failed(couple.destination, &couple.destination_qemu,
                  "it did not come back within 1 second");
}

static void killed_helper_is_waited_for_and_then_given_up(void **state)
{
    for (int which = 0; which < 2; which++) {
        g_auto(HelperCouple) couple;

        begin(state, &couple, "{'reconnect-timeout': <uint32 1>}");
        /* The test's copies would keep the connections. */
        helper_couple_forget_wires(&couple);
        kill(helper_child_pid(which ? couple.source : couple.destination), SIGKILL);
        assert_failed(which ? couple.destination : couple.source,
                      which ? &couple.destination_qemu : &couple.source_qemu,
                      "it did not come back within 1 second");
    }
}

static void abandoned_peer_is_a_failure_at_once(void **state)
{
    g_auto(HelperCouple) couple;

    begin(state, &couple, "{'reconnect-timeout': <uint32 0>}");
    helper_child_abandon(couple.source, "too early");
    assert_null(helper_child_wait_answer(couple.source, couple.source->calls));
    pass(&couple);
    assert_string_equal(couple.source->state, "active");

    lose(&couple, CHANNEL_MAIN);
    helper_child_abandon(couple.source, "the destination does not know it");
    helper_child_abandon(couple.destination, "the source has gone");
    assert_failed(couple.source, &couple.source_qemu, "the destination does not know it");
    assert_failed(couple.destination, &couple.destination_qemu, "the source has gone");
}

static void cancelled_while_it_is_lost_ends_at_once(void **state)
{
    g_auto(HelperCouple) couple;

    begin(state, &couple, PATIENT);
    lose(&couple, CHANNEL_MAIN);
    lose(&couple, CHANNEL_PREEMPT);
    helper_child_cancel(couple.source, "enough");
    helper_child_cancel(couple.destination, "enough");
    assert_int_equal(helper_child_wait_exit(couple.source), 3);
    assert_int_equal(helper_child_wait_exit(couple.destination), 3);
    assert_false(helper_child_has_lost(couple.source, "main"));
}

static void channel_that_is_not_lost_needs_no_connection(void **state)
{
    g_auto(HelperCouple) couple;
    int tcp[2];

    begin(state, &couple, PATIENT);
    sockets_tcp_pair(tcp);
    helper_child_reconnect(couple.source, tcp[0], "localhost", "main");
    helper_child_wait_answer(couple.source, couple.source->calls);
    assert_true(g_error_matches(couple.source->answer, JOB_ERROR, JOB_ERROR_WRONG_STATE));
    close(tcp[1]);

    sockets_tcp_pair(tcp);
    helper_child_reconnect(couple.destination, tcp[0], "localhost", "main");
    helper_child_wait_answer(couple.destination, couple.destination->calls);
    assert_string_equal(couple.destination->answer->message,
                        "ReconnectChannel is for the source only");
    close(tcp[1]);

    pass(&couple);
    end(&couple);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream_goes_on_after_every_cut_of_either_channel),
        cmocka_unit_test(stream_that_begins_without_a_connection_passes_later),
        cmocka_unit_test(connection_that_leads_nowhere_is_lost_again),
        cmocka_unit_test(later_daemon_finds_what_is_lost_and_dials),
        cmocka_unit_test(connection_lost_in_set_up_is_made_again),
        cmocka_unit_test(silence_is_noticed_and_the_peer_found_again),
        cmocka_unit_test(quiet_peers_hear_of_each_other_and_stay),
        cmocka_unit_test(peer_that_does_not_come_back_in_time_is_a_failure_at_both),
        cmocka_unit_test(killed_helper_is_waited_for_and_then_given_up),
        cmocka_unit_test(abandoned_peer_is_a_failure_at_once),
        cmocka_unit_test(cancelled_while_it_is_lost_ends_at_once),
        cmocka_unit_test(channel_that_is_not_lost_needs_no_connection),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, helper_world_setup, helper_world_teardown);
}
