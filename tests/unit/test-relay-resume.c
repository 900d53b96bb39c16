/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two relays whose connections break, go silent, or are answered by somebody else: the streams
 * between the QEMUs pass all the same, or end as they must when nothing helps. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/relay-hosts.h"

static void assert_contains(const char *text, const char *part)
{
    if (!text || !strstr(text, part))
        fail_msg("\"%s\" does not contain \"%s\"", text ? text : "(null)", part);
}

/* Lays a new wire for whatever the source has lost, until both have ended. */
static gboolean mend(Hosts *h)
{
    for (ChannelKind kind = CHANNEL_MAIN; kind <= CHANNEL_BULK; kind++) {
        if (h->source->lost[kind] > h->source->resumed[kind] && !h->wires[kind])
            reconnect(h, kind);
    }
    return both_ended(h);
}

static gboolean on_tick(gpointer data)
{
    return G_SOURCE_CONTINUE;
}

static void streams_pass_over_cuts(guint32 seed)
{
    const EndSpec spec = {
        .key = 1, .token = 1, .timeouts = END_PATIENT, .features = SESSION_FEATURES_ALL, .bulk = 2
    };
    g_auto(Hosts) h = { 0 };
    guint tick = g_timeout_add(3, on_tick, NULL);
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    gint64 give_up = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    guint cuts = 0;
    Streams s;

    begin_active(&h, &spec);
    s = stream(&h, 48 * MIB + 17, 5 * MIB);
    while (!mend(&h)) {
        ChannelKind kind = (ChannelKind)g_rand_int_range(rand, CHANNEL_MAIN, CHANNEL_BULK + 1);

        g_main_context_iteration(NULL, TRUE);
        if (g_get_monotonic_time() > give_up)
            fail_msg("after %u cuts: source lost %u resumed %u, destination lost %u resumed %u",
                     cuts, h.source->lost[0], h.source->resumed[0], h.destination->lost[0],
                     h.destination->resumed[0]);
        if (h.wires[kind] && cuts < 60 && g_rand_int_range(rand, 0, 10) == 0) {
            cut(&h, kind);
            cuts++;
        }
        /* Its wire was cut, or it could not be laid to the end: then it is laid anew. */
        for (kind = CHANNEL_MAIN; kind <= CHANNEL_BULK; kind++) {
            if (h.wires[kind] && h.source->lost[kind] > h.source->resumed[kind] &&
                g_rand_int_range(rand, 0, 200) == 0)
                cut(&h, kind);
        }
    }
    g_source_remove(tick);
    assert_arrived(&h, &s);
    assert_true(h.source->stats.resumes > 0);
    assert_true(h.source->stats.window_high_water <= END_WINDOW);
}

/* RELAY_SEEDS: how many different ways of cutting are tried. */
static void streams_pass_over_connections_that_are_cut(void **state)
{
    const char *seeds = g_getenv("RELAY_SEEDS");
    guint n = seeds ? (guint)atoi(seeds) : 2;

    for (guint32 seed = 1; seed <= n; seed++)
        streams_pass_over_cuts(seed);
}

/* TLS_SOAK_MB: how much, each way. */
static void streams_pass_under_new_keys_all_the_time(void **state)
{
    const char *mib = g_getenv("TLS_SOAK_MB");
    guint64 len = (mib ? (guint64)atoi(mib) : 32) * MIB;
    const EndSpec spec = { .key = 1,
                           .token = 1,
                           .timeouts = END_PATIENT,
                           .features = SESSION_FEATURES_ALL,
                           .rekey_records = mib ? 1000 : 100 };
    g_auto(Hosts) h = { 0 };
    Streams s;

    begin_active(&h, &spec);
    s = stream(&h, len, len);
    while (!both_ended(&h))
        g_main_context_iteration(NULL, TRUE);
    assert_arrived(&h, &s);
    print_message("%u MiB each way: %u and %u new keys\n", (guint)(len / MIB),
                  (guint)h.source->stats.key_updates, (guint)h.destination->stats.key_updates);
    assert_true(h.source->stats.key_updates > 0 && h.destination->stats.key_updates > 0);
}

static void connection_lost_before_the_answer_is_made_again(void **state)
{
    const EndSpec spec = PATIENT_SPEC(SESSION_FEATURE_RESUME);
    g_auto(Hosts) h = { 0 };
    Streams s;

    begin(&h, &spec);
    connect_peer(&h);
    wait_until(needs_qemu, h.destination, "QemuNeeded");
    cut(&h, CHANNEL_MAIN);
    wait_until(lost_main, h.source, "ChannelLost");
    assert_int_equal(h.source->replies, 0);
    reconnect(&h, CHANNEL_MAIN);
    attach_destination(h.destination);
    wait_until(was_answered, h.source, "ConnectPeer's answer");
    assert_null(h.source->last_error);
    assert_false(lost_main(h.source));
    attach_both(&h);
    s = stream(&h, MIB, MIB);
    assert_arrived(&h, &s);
}

static void silence_is_found_and_mended(void **state)
{
    const EndSpec spec = { .key = 1,
                           .token = 1,
                           .timeouts = { 10000, 10000, 2000, 50, 4, 20000 },
                           .features = SESSION_FEATURES_ALL };
    g_auto(Hosts) h = { 0 };
    Streams s;

    begin_active(&h, &spec);
    g_atomic_int_set(&h.wires[CHANNEL_MAIN]->silent, TRUE);
    wait_until(lost_main, h.source, "ChannelLost");
    assert_contains(h.source->lost_why, "has said nothing for");
    reconnect(&h, CHANNEL_MAIN);
    wait_until(has_main, h.source, "ChannelResumed");
    wait_until(has_main, h.destination, "ChannelResumed");
    g_atomic_int_set(&h.wires[CHANNEL_PREEMPT]->silent, TRUE);
    wait_until(lost_preempt, h.source, "ChannelLost");
    reconnect(&h, CHANNEL_PREEMPT);
    wait_until(has_preempt, h.source, "ChannelResumed");
    wait_until(has_preempt, h.destination, "ChannelResumed");
    s = stream(&h, MIB, MIB);
    assert_arrived(&h, &s);
}

/* The destination never hears that the old connection is dead. */
static void new_connection_takes_the_place_of_a_half_open_one(void **state)
{
    const EndSpec hasty = { .key = 1,
                            .token = 1,
                            .timeouts = { 10000, 10000, 2000, 50, 4, 20000 },
                            .features = SESSION_FEATURE_RESUME };
    const EndSpec calm = PATIENT_SPEC(SESSION_FEATURE_RESUME);
    g_auto(Hosts) h = { .source = end_new(SESSION_SOURCE, &hasty),
                        .destination = end_new(SESSION_DESTINATION, &calm) };
    Wire *old;
    Streams s;

    connect_peer(&h);
    wait_until(needs_qemu, h.destination, "QemuNeeded");
    attach_destination(h.destination);
    wait_until(was_answered, h.source, "ConnectPeer's answer");
    attach_both(&h);
    old = g_steal_pointer(&h.wires[CHANNEL_MAIN]);
    g_atomic_int_set(&old->silent, TRUE);
    wait_until(lost_main, h.source, "ChannelLost");
    assert_int_equal(h.destination->lost[CHANNEL_MAIN], 0);
    reconnect(&h, CHANNEL_MAIN);
    wait_until(has_main, h.source, "ChannelResumed");
    s = stream(&h, MIB, MIB);
    assert_arrived(&h, &s);
    assert_int_equal(h.destination->lost[CHANNEL_MAIN], 0);
    wire_free(old);
}

static void somebody_else_who_answers_ends_nothing(void **state)
{
    const EndSpec spec = PATIENT_SPEC(SESSION_FEATURE_RESUME);
    const EndSpec stranger_spec = { .key = 2,
                                    .token = 1,
                                    .timeouts = END_PATIENT,
                                    .features = SESSION_FEATURE_RESUME };
    g_auto(Hosts) h = { 0 };
    g_autoptr(End) stranger = end_new(SESSION_DESTINATION, &stranger_spec);
    Wire *wire;
    Streams s;

    begin_active(&h, &spec);
    cut(&h, CHANNEL_MAIN);
    wait_until(lost_main, h.source, "ChannelLost");
    wire = lay(&h, CHANNEL_MAIN);
    relay_command(stranger->relay, RELAY_ACCEPT_PEER, wire->outer[1], "127.0.0.1", NULL);
    relay_channel_command(h.source->relay, RELAY_RECONNECT_CHANNEL, CHANNEL_MAIN, 0,
                          wire->outer[0], "localhost", NULL);
    wait_until(has_refused, stranger, "the stranger's refusal");
    while (h.source->lost[CHANNEL_MAIN] < 2)
        g_main_context_iteration(NULL, TRUE);
    assert_true(is_active(h.source));
    reconnect(&h, CHANNEL_MAIN);
    s = stream(&h, MIB, MIB);
    assert_arrived(&h, &s);
}

/* ---- when nothing helps ---- */

static void both_sides_give_up_in_the_end(void **state)
{
    const EndSpec spec = { .key = 1,
                           .token = 1,
                           .timeouts = { 10000, 10000, 2000, 10000, 4, 1000 },
                           .features = SESSION_FEATURES_ALL };
    g_auto(Hosts) h = { 0 };

    begin_active(&h, &spec);
    cut(&h, CHANNEL_MAIN);
    wait_until(lost_main, h.source, "ChannelLost");
    wait_until(lost_main, h.destination, "ChannelLost");
    assert_true(is_active(h.source) && is_active(h.destination));
    wait_until(both_ended, &h, "the end of both");
    assert_string_equal(h.source->history->str, "setup active failed");
    assert_string_equal(h.destination->history->str, "setup active failed");
    assert_contains(h.source->reason, "it did not come back within 1 second");
    assert_contains(h.destination->reason, "it did not come back within 1 second");
    assert_true(socket_ends_within(h.source->qemu, 1000));
    assert_true(socket_ends_within(h.destination->qemu, 1000));
}

static void lost_preempt_channel_ends_both_in_the_end(void **state)
{
    const EndSpec spec = { .key = 1,
                           .token = 1,
                           .timeouts = { 10000, 10000, 2000, 10000, 4, 1000 },
                           .features = SESSION_FEATURES_ALL };
    g_auto(Hosts) h = { 0 };

    begin_active(&h, &spec);
    cut(&h, CHANNEL_PREEMPT);
    wait_until(both_ended, &h, "the end of both");
    assert_string_equal(h.source->history->str, "setup active failed");
    assert_string_equal(h.destination->history->str, "setup active failed");
    assert_contains(h.source->reason, "preempt channel");
}

/* Not before the QEMUs have agreed on what is missing. */
static void recovery_is_not_given_up(void **state)
{
    const EndSpec spec = { .key = 1,
                           .token = 1,
                           .timeouts = { 10000, 10000, 2000, 10000, 4, 200 },
                           .features = SESSION_FEATURES_ALL,
                           .recovers = TRUE };
    g_auto(Hosts) h = { 0 };
    gint64 until;
    Streams s;

    begin_active(&h, &spec);
    cut(&h, CHANNEL_MAIN);
    wait_until(lost_main, h.source, "ChannelLost");
    wait_until(lost_main, h.destination, "ChannelLost");
    for (until = g_get_monotonic_time() + G_USEC_PER_SEC; g_get_monotonic_time() < until;) {
        g_main_context_iteration(NULL, FALSE);
        g_usleep(10000);
    }
    assert_true(is_active(h.source) && is_active(h.destination));
    reconnect(&h, CHANNEL_MAIN);
    wait_until(has_main, h.source, "ChannelResumed");
    s = stream(&h, MIB, MIB);
    assert_arrived(&h, &s);
}

static void peer_that_is_known_to_be_gone_is_not_waited_for(void **state)
{
    const EndSpec spec = PATIENT_SPEC(SESSION_FEATURES_ALL);
    g_auto(Hosts) h = { 0 };

    begin_active(&h, &spec);
    cut(&h, CHANNEL_MAIN);
    wait_until(lost_main, h.source, "ChannelLost");
    relay_command(h.source->relay, RELAY_ABANDON_PEER, -1, "the session is unknown there", NULL);
    wait_until(has_ended, h.source, "the end");
    assert_string_equal(h.source->history->str, "setup active failed");
    assert_contains(h.source->reason, "the session is unknown there");
    assert_true(socket_ends_within(h.source->qemu, 1000));
    /* The other side would wait on. */
    assert_true(is_active(h.destination));
    relay_command(h.destination->relay, RELAY_CANCEL, -1, "a resume was asked for", NULL);
    wait_until(has_ended, h.destination, "the end");
    assert_string_equal(h.destination->history->str, "setup active cancelled");
}

static void end_is_told_on_the_channel_that_is_left(void **state)
{
    const EndSpec spec = PATIENT_SPEC(SESSION_FEATURES_ALL);
    g_auto(Hosts) h = { 0 };

    begin_active(&h, &spec);
    cut(&h, CHANNEL_MAIN);
    wait_until(lost_main, h.source, "ChannelLost");
    wait_until(lost_main, h.destination, "ChannelLost");
    relay_command(h.source->relay, RELAY_CANCEL, -1, "nobody wants it", NULL);
    wait_until(both_ended, &h, "the end of both");
    assert_string_equal(h.destination->history->str, "setup active failed");
    assert_contains(h.destination->reason, "nobody wants it");
}

static void without_the_feature_a_loss_is_the_end(void **state)
{
    const EndSpec with = PATIENT_SPEC(SESSION_FEATURES_ALL);
    const EndSpec without = PATIENT_SPEC(SESSION_FEATURE_RAM);
    g_auto(Hosts) h = { .source = end_new(SESSION_SOURCE, &with),
                        .destination = end_new(SESSION_DESTINATION, &without) };

    connect_peer(&h);
    wait_until(needs_qemu, h.destination, "QemuNeeded");
    attach_destination(h.destination);
    wait_until(was_answered, h.source, "ConnectPeer's answer");
    open_preempt(&h);
    attach_both(&h);
    cut(&h, CHANNEL_MAIN);
    wait_until(both_ended, &h, "the end of both");
    assert_string_equal(h.source->history->str, "setup active failed");
    assert_string_equal(h.destination->history->str, "setup active failed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_pass_over_connections_that_are_cut),
        cmocka_unit_test(streams_pass_under_new_keys_all_the_time),
        cmocka_unit_test(connection_lost_before_the_answer_is_made_again),
        cmocka_unit_test(silence_is_found_and_mended),
        cmocka_unit_test(new_connection_takes_the_place_of_a_half_open_one),
        cmocka_unit_test(somebody_else_who_answers_ends_nothing),
        cmocka_unit_test(both_sides_give_up_in_the_end),
        cmocka_unit_test(lost_preempt_channel_ends_both_in_the_end),
        cmocka_unit_test(recovery_is_not_given_up),
        cmocka_unit_test(peer_that_is_known_to_be_gone_is_not_waited_for),
        cmocka_unit_test(end_is_told_on_the_channel_that_is_left),
        cmocka_unit_test(without_the_feature_a_loss_is_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
