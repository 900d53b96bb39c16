/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* New keys while data flows: as often as wished, never more often than the peer bears, and no byte
 * lost or doubled. */
#include "config.h"

#include "tls/channel.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/tls-pair.h"

#define RECORD_MAX 16384
#define NS_PER_S G_GINT64_CONSTANT(1000000000)
#define PSK_LINE "host:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"
/* How many times as fast as the world's the clock of a short test with threads goes. */
#define SHORT_CLOCK_SPEED 20

/* The clock of this program, gnutls included, which takes more than 8 key updates in a second for
 * an attack. Set while there is one thread. */
static struct {
    gint64 offset_ns;
    int speed;
    struct timespec start[CLOCK_MONOTONIC + 1];
} fake_clock = { .speed = 1 };

int clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    int ret = (int)syscall(SYS_clock_gettime, clock, ret_now);
    const struct timespec *start;
    gint64 ns = fake_clock.offset_ns;

    if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC)
        return ret;
    start = &fake_clock.start[clock];
    if (fake_clock.speed > 1)
        ns += (fake_clock.speed - 1) * ((ret_now->tv_sec - start->tv_sec) * NS_PER_S +
                                        ret_now->tv_nsec - start->tv_nsec);
    ns += ret_now->tv_nsec;
    ret_now->tv_sec += ns / NS_PER_S;
    ret_now->tv_nsec = ns % NS_PER_S;
    return ret;
}

static void clock_set_speed(int speed)
{
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &fake_clock.start[CLOCK_REALTIME]);
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &fake_clock.start[CLOCK_MONOTONIC]);
    fake_clock.speed = speed;
}

static void pass_ms(gint64 ms)
{
    fake_clock.offset_ns += ms * 1000000;
}

static void pair_open(TlsPair *pair)
{
    g_autoptr(TlsCredentials) client = tls_pair_psk(TLS_ENDPOINT_CLIENT, PSK_LINE);
    g_autoptr(TlsCredentials) server = tls_pair_psk(TLS_ENDPOINT_SERVER, PSK_LINE);

    tls_pair_init(pair, client, (TlsChannelConfig){ 0 }, server, (TlsChannelConfig){ 0 });
    tls_pair_handshake(pair);
    if (!pair->client || !pair->server)
        fail_msg("no handshake");
}

static void set_buffers(const TlsPair *pair, int bytes)
{
    setsockopt(tls_channel_fd(pair->client), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    setsockopt(tls_channel_fd(pair->server), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static void send_word(TlsChannel *from)
{
    g_autoptr(GError) error = NULL;

    if (tls_channel_write(from, "word", 4, &error) != 4)
        fail_msg("%s", error->message);
}

/* All that has come; the number of words. */
static guint take_words(TlsChannel *to)
{
    g_autoptr(GError) error = NULL;
    char buf[4];
    guint n = 0;

    while (tls_channel_read(to, buf, sizeof(buf), &error) == 4) {
        assert_memory_equal(buf, "word", 4);
        n++;
    }
    if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
        fail_msg("after %u words: %s", n, error ? error->message : "end");
    return n;
}

static void say(TlsChannel *from, TlsChannel *to)
{
    send_word(from);
    assert_int_equal(take_words(to), 1);
}

static void keys_change_after_so_many_records(void **state)
{
    g_auto(TlsPair) pair = { NULL };

    pair_open(&pair);
    tls_channel_set_rekey(pair.client, 5);
    for (guint i = 1; i <= 100; i++) {
        pass_ms(100);
        say(pair.client, pair.server);
        say(pair.server, pair.client);
        /* With the record after the fifth, and by request in the other direction too. */
        assert_int_equal(tls_channel_key_updates(pair.client), (i - 1) / 5);
        assert_int_equal(tls_channel_key_updates(pair.server), (i - 1) / 5);
    }
}

static void server_changes_its_own_keys_alone(void **state)
{
    g_auto(TlsPair) pair = { NULL };

    pair_open(&pair);
    tls_channel_set_rekey(pair.server, 10);
    for (guint i = 1; i <= 100; i++) {
        pass_ms(600);
        say(pair.server, pair.client);
        say(pair.client, pair.server);
        assert_int_equal(tls_channel_key_updates(pair.server), (i - 1) / 10);
    }
    assert_int_equal(tls_channel_key_updates(pair.client), 0);
}

static void keys_stay_without_a_wish(void **state)
{
    g_auto(TlsPair) pair = { NULL };

    pair_open(&pair);
    tls_channel_set_rekey(pair.client, 1);
    tls_channel_set_rekey(pair.client, 0);
    for (guint i = 0; i < 50; i++) {
        pass_ms(1000);
        say(pair.client, pair.server);
        say(pair.server, pair.client);
    }
    assert_int_equal(tls_channel_key_updates(pair.client), 0);
    assert_int_equal(tls_channel_key_updates(pair.server), 0);
}

/* Both wish for new keys with each record; the answer is what the clock allows. */
static void wish_for_more_than_the_peer_bears_is_not_granted(void **state)
{
    const guint seconds = 20, steps = 50;
    g_auto(TlsPair) pair = { NULL };
    guint64 updates;

    pair_open(&pair);
    tls_channel_set_rekey(pair.client, 1);
    tls_channel_set_rekey(pair.server, 1);
    for (guint i = 0; i < seconds * steps; i++) {
        pass_ms(1000 / steps);
        say(pair.client, pair.server);
        say(pair.server, pair.client);
    }
    for (int end = 0; end < 2; end++) {
        updates = tls_channel_key_updates(end ? pair.server : pair.client);
        if (updates < 2 * seconds || updates > 3 * seconds + 2)
            fail_msg("%s: %" G_GUINT64_FORMAT " updates", end ? "server" : "client", updates);
    }
}

/* What one end says to a peer that hears it all at once, half a minute later. */
static void peer_that_stalls_survives_the_updates_it_missed(void **state)
{
    for (int by_server = 0; by_server < 2; by_server++) {
        g_auto(TlsPair) pair = { NULL };
        TlsChannel *talker, *sleeper;

        pair_open(&pair);
        set_buffers(&pair, 1024 * 1024);
        talker = by_server ? pair.server : pair.client;
        sleeper = by_server ? pair.client : pair.server;
        tls_channel_set_rekey(pair.client, 1);
        tls_channel_set_rekey(pair.server, 1);
        say(sleeper, talker);
        for (guint i = 0; i < 300; i++) {
            pass_ms(100);
            send_word(talker);
            assert_int_equal(take_words(talker), 0);
        }
        /* Nor does it give up to change its key. */
        assert_true(tls_channel_key_updates(talker) >= 2);
        assert_int_equal(take_words(sleeper), 300);
        for (guint i = 0; i < 20; i++) {
            say(sleeper, talker);
            say(talker, sleeper);
        }
    }
}

/* Each direction by itself delivers at once, or stands still for up to ten seconds and then
 * delivers all. */
static void updates_that_the_network_held_up_are_not_too_many(void **state)
{
    for (guint32 seed = 1; seed <= 10; seed++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        g_auto(TlsPair) pair = { NULL };
        guint stands[2] = { 0 };

        pair_open(&pair);
        set_buffers(&pair, 1024 * 1024);
        tls_channel_set_rekey(pair.client, 1);
        tls_channel_set_rekey(pair.server, 1);
        for (guint step = 0; step < 3000; step++) {
            pass_ms(50);
            send_word(pair.client);
            send_word(pair.server);
            for (int i = 0; i < 2; i++) {
                if (stands[i] > 0)
                    stands[i]--;
                else
                    take_words(i ? pair.server : pair.client);
                if (stands[i] == 0 && g_rand_int_range(rand, 0, 60) == 0)
                    stands[i] = (guint)g_rand_int_range(rand, 1, 200);
            }
        }
        assert_true(tls_channel_key_updates(pair.client) >= 20);
        assert_true(tls_channel_key_updates(pair.server) >= 20);
    }
}

/* A stream whose every byte tells its place. */
static guint8 stream_byte(guint64 offset)
{
    return (guint8)(offset ^ (offset >> 8) * 31 ^ (offset >> 16) * 7);
}

/* One end of a transfer in both directions. Its functions abort: they run in threads, too. */
typedef struct {
    TlsChannel *channel;
    guint64 total; /* to send, and to receive */
    guint64 sent;
    guint64 received;
} End;

static gboolean end_waits(GError *error, const End *end)
{
    gboolean waits = g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);

    if (!waits)
        g_error("sent %" G_GUINT64_FORMAT ", received %" G_GUINT64_FORMAT ": %s", end->sent,
                end->received, error ? error->message : "the end");
    g_error_free(error);
    return waits;
}

/* Offers a chunk and spoils it afterwards: the channel has its own. */
static gboolean end_send(End *end, gsize len)
{
    guint8 chunk[RECORD_MAX];
    GError *error = NULL;
    gssize n;

    len = MIN(MIN(len, sizeof(chunk)), end->total - end->sent);
    if (len == 0)
        return FALSE;
    for (gsize i = 0; i < len; i++)
        chunk[i] = stream_byte(end->sent + i);
    n = tls_channel_write(end->channel, chunk, len, &error);
    memset(chunk, 0xee, len);
    if (n < 0)
        return !end_waits(error, end);
    end->sent += (guint64)n;
    /* New keys, if it was time for them, and a record. */
    if (tls_channel_unsent(end->channel) > RECORD_MAX + 512)
        g_error("%zu bytes kept", tls_channel_unsent(end->channel));
    return TRUE;
}

static gboolean end_receive(End *end)
{
    guint8 buf[RECORD_MAX];
    GError *error = NULL;
    gssize n = tls_channel_read(end->channel, buf, sizeof(buf), &error);

    if (n <= 0)
        return !end_waits(error, end);
    for (gsize i = 0; i < (gsize)n; i++) {
        if (buf[i] != stream_byte(end->received + i))
            g_error("byte %" G_GUINT64_FORMAT " is wrong", end->received + i);
    }
    end->received += (guint64)n;
    return TRUE;
}

static gboolean end_is_done(const End *end)
{
    return end->sent == end->total && end->received == end->total &&
           tls_channel_unsent(end->channel) == 0;
}

static void ends_init(End ends[2], const TlsPair *pair, guint64 total, guint records)
{
    for (int i = 0; i < 2; i++) {
        ends[i] = (End){ .channel = i ? pair->server : pair->client, .total = total };
        tls_channel_set_rekey(ends[i].channel, records);
    }
}

/* In one thread, in an order that a seed decides, with a socket that is always full. */
static void new_keys_find_no_room_and_lose_nothing(void **state)
{
    for (guint32 seed = 1; seed <= 4; seed++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        g_auto(TlsPair) pair = { NULL };
        guint full = 0; /* times that new keys went into no socket */
        End ends[2];

        pair_open(&pair);
        set_buffers(&pair, 4096);
        ends_init(ends, &pair, 2 * 1024 * 1024, seed);
        while (!end_is_done(&ends[0]) || !end_is_done(&ends[1])) {
            End *end = &ends[g_rand_int_range(rand, 0, 2)];
            guint64 updates = tls_channel_key_updates(end->channel);

            pass_ms(20);
            switch (g_rand_int_range(rand, 0, 3)) {
            case 0:
                end_send(end, (gsize)g_rand_int_range(rand, 1, 40000));
                break;
            case 1:
                end_receive(end);
                break;
            default:
                tls_channel_flush(end->channel, NULL);
                break;
            }
            if (tls_channel_key_updates(end->channel) > updates &&
                tls_channel_unsent(end->channel) > 0)
                full++;
        }
        assert_true(full > 0);
        assert_true(tls_channel_key_updates(pair.client) > 1);
        assert_true(tls_channel_key_updates(pair.server) > 1);
    }
}

static gpointer run_end(gpointer data)
{
    End *end = data;

    while (!end_is_done(end)) {
        struct pollfd pfd = {
            .fd = tls_channel_fd(end->channel),
            .events = tls_channel_poll_events(end->channel, end->received < end->total,
                                              end->sent < end->total),
        };

        if (poll(&pfd, 1, 60000) <= 0)
            g_error("sent %" G_GUINT64_FORMAT ", received %" G_GUINT64_FORMAT
                    ": nothing moves any more", end->sent, end->received);
        for (int i = 0; i < 4 && end->received < end->total && end_receive(end); i++)
            ;
        if (end->sent < end->total)
            end_send(end, RECORD_MAX);
        else
            tls_channel_flush(end->channel, NULL);
    }
    return NULL;
}

/* Two programs, as it were. TLS_SOAK_MB makes it that many MiB each way instead of a few, with new
 * keys every 1000 records and by the world's clock. */
static void full_load_in_both_directions_with_new_keys(void **state)
{
    const char *soak = g_getenv("TLS_SOAK_MB");
    guint64 total = (soak ? g_ascii_strtoull(soak, NULL, 10) : 8) * 1024 * 1024;
    static const int buffers[] = { 4096, 1024 * 1024 };

    clock_set_speed(soak ? 1 : SHORT_CLOCK_SPEED);
    for (gsize i = 0; i < G_N_ELEMENTS(buffers); i++) {
        g_auto(TlsPair) pair = { NULL };
        GThread *threads[2];
        End ends[2];

        pair_open(&pair);
        set_buffers(&pair, buffers[i]);
        ends_init(ends, &pair, total, soak ? 1000 : 20);
        for (int end = 0; end < 2; end++)
            threads[end] = g_thread_new("end", run_end, &ends[end]);
        for (int end = 0; end < 2; end++)
            g_thread_join(threads[end]);
        print_message("%" G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT " updates\n",
                      tls_channel_key_updates(pair.client), tls_channel_key_updates(pair.server));
        assert_true(tls_channel_key_updates(pair.client) > 0);
        assert_true(tls_channel_key_updates(pair.server) > 0);
    }
    clock_set_speed(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_change_after_so_many_records),
        cmocka_unit_test(server_changes_its_own_keys_alone),
        cmocka_unit_test(keys_stay_without_a_wish),
        cmocka_unit_test(wish_for_more_than_the_peer_bears_is_not_granted),
        cmocka_unit_test(peer_that_stalls_survives_the_updates_it_missed),
        cmocka_unit_test(updates_that_the_network_held_up_are_not_too_many),
        cmocka_unit_test(new_keys_find_no_room_and_lose_nothing),
        cmocka_unit_test(full_load_in_both_directions_with_new_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
