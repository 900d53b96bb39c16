/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a TLS channel does with bytes once the peers know each other: it keeps what it took, loses
 * and doubles nothing across key updates, and tells an end from a cut. */
#include "config.h"

#include "tls/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <gnutls/crypto.h>

#include "tests/support/tls-pair.h"

#define RECORD_MAX 16384

/* The clock of this program, gnutls included, which takes more than 8 key updates in a second for
 * an attack: a test lets seconds go by between them. */
static gint64 clock_offset_s;

int clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    int ret = (int)syscall(SYS_clock_gettime, clock, ret_now);

    ret_now->tv_sec += clock_offset_s;
    return ret;
}

typedef struct {
    TlsCredentials *client;
    TlsCredentials *server;
} Credentials;

static int setup(void **state)
{
    g_autoptr(PkiIdentity) ca = pki_identity_new(&(PkiSpec){ .common_name = "CA", .ca = TRUE });
    g_autoptr(PkiIdentity) a = pki_identity_new(&(PkiSpec){ .common_name = "hostA", .issuer = ca });
    g_autoptr(PkiIdentity) b = pki_identity_new(&(PkiSpec){ .common_name = "hostB", .issuer = ca });
    g_autofree char *ca_pem = pki_cert_pem(ca);
    Credentials *creds = g_new0(Credentials, 1);

    creds->client = tls_pair_x509(TLS_ENDPOINT_CLIENT, ca_pem, a, NULL, NULL);
    creds->server = tls_pair_x509(TLS_ENDPOINT_SERVER, ca_pem, b, NULL, NULL);
    *state = creds;
    return creds->client && creds->server ? 0 : -1;
}

static int teardown(void **state)
{
    Credentials *creds = *state;

    tls_credentials_unref(creds->client);
    tls_credentials_unref(creds->server);
    g_free(creds);
    return 0;
}

/* Not shaken yet. */
static void pair_new(TlsPair *pair, const Credentials *creds)
{
    tls_pair_init(pair, creds->client,
                  (TlsChannelConfig){ .hostname = "hostB", .alpn = "virt-postcopy/1" },
                  creds->server, (TlsChannelConfig){ .alpn = "virt-postcopy/1" });
}

static void pair_open(TlsPair *pair, const Credentials *creds)
{
    pair_new(pair, creds);
    tls_pair_handshake(pair);
    if (!pair->client || !pair->server)
        fail_msg("%s / %s", pair->client_error ? pair->client_error->message : "open",
                 pair->server_error ? pair->server_error->message : "open");
}

static void assert_would_block(const GError *error)
{
    if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
        fail_msg("%s", error ? error->message : "no error");
}

static void assert_error(const GError *error, int code, const char *text)
{
    if (!g_error_matches(error, TLS_ERROR, code) || !strstr(error->message, text))
        fail_msg("code %d: %s", error ? error->code : 0, error ? error->message : "no error");
}

/* Writes and reads what fits into one record. */
static void say(TlsChannel *from, TlsChannel *to, const char *text)
{
    g_autoptr(GError) error = NULL;
    char buf[64] = "";
    gssize n = tls_channel_write(from, text, strlen(text), &error);

    if (n != (gssize)strlen(text))
        fail_msg("wrote %zd: %s", n, error ? error->message : "");
    n = tls_channel_read(to, buf, sizeof(buf) - 1, &error);
    if (n < 0)
        fail_msg("%s", error->message);
    assert_string_equal(buf, text);
}

static void read_must_wait(TlsChannel *channel)
{
    g_autoptr(GError) error = NULL;
    char buf[16];

    assert_int_equal(tls_channel_read(channel, buf, sizeof(buf), &error), -1);
    assert_would_block(error);
}

static void names_are_known_after_the_handshake(void **state)
{
    g_auto(TlsPair) pair = { NULL };

    pair_new(&pair, *state);
    assert_null(tls_channel_version(pair.client));
    assert_null(tls_channel_cipher(pair.client));
    assert_null(tls_channel_peer_name(pair.client));
    tls_pair_handshake(&pair);
    assert_string_equal(tls_channel_version(pair.client), "TLS1.3");
    assert_non_null(strstr(tls_channel_cipher(pair.server), "256"));
    assert_string_equal(tls_channel_peer_name(pair.client), "CN=hostB");
    assert_string_equal(tls_channel_peer_name(pair.server), "CN=hostA");
}

static void nothing_flows_before_the_handshake(void **state)
{
    g_auto(TlsPair) pair = { NULL };
    guint8 key[32];
    char buf[4];

    pair_new(&pair, *state);
    for (int turn = 0; turn < 2; turn++) {
        g_autoptr(GError) reading = NULL;
        g_autoptr(GError) writing = NULL;
        g_autoptr(GError) exporting = NULL;
        g_autoptr(GError) updating = NULL;

        assert_int_equal(tls_channel_write(pair.client, "data", 4, &writing), -1);
        assert_error(writing, TLS_ERROR_HANDSHAKE, "not finished");
        assert_int_equal(tls_channel_read(pair.client, buf, 4, &reading), -1);
        assert_error(reading, TLS_ERROR_HANDSHAKE, "not finished");
        assert_false(tls_channel_export(pair.client, "EXPORTER-x", key, &exporting));
        assert_error(exporting, TLS_ERROR_HANDSHAKE, "not finished");
        assert_false(tls_channel_update_key(pair.client, &updating));
        assert_error(updating, TLS_ERROR_HANDSHAKE, "not finished");
        /* The second turn: in the middle. */
        assert_false(tls_channel_handshake(pair.client, NULL));
    }
    /* Such calls do no harm. */
    tls_channel_bye(pair.client);
    tls_pair_handshake(&pair);
    assert_non_null(pair.client);
    assert_non_null(pair.server);
    assert_true(tls_channel_handshake(pair.client, NULL));
    say(pair.client, pair.server, "data");
}

static void poll_events_say_what_to_wait_for(void **state)
{
    g_auto(TlsPair) pair = { NULL };

    pair_new(&pair, *state);
    assert_false(tls_channel_handshake(pair.server, NULL));
    assert_int_equal(tls_channel_poll_events(pair.server, FALSE, FALSE), POLLIN);
    assert_int_equal(tls_channel_poll_events(pair.server, FALSE, TRUE), POLLIN);
    tls_pair_handshake(&pair);
    assert_int_equal(tls_channel_poll_events(pair.client, FALSE, FALSE), 0);
    assert_int_equal(tls_channel_poll_events(pair.client, TRUE, FALSE), POLLIN);
    assert_int_equal(tls_channel_poll_events(pair.client, FALSE, TRUE), POLLOUT);
    assert_int_equal(tls_channel_poll_events(pair.client, TRUE, TRUE), POLLIN | POLLOUT);
    tls_channel_bye(pair.server);
    assert_int_equal(tls_channel_read(pair.client, (char[4]){ 0 }, 4, NULL), 0);
    assert_int_equal(tls_channel_poll_events(pair.client, TRUE, FALSE), 0);
}

/* A stream whose every byte tells its place. */
static guint8 stream_byte(guint64 offset)
{
    return (guint8)(offset ^ (offset >> 8) * 31 ^ (offset >> 16) * 7);
}

typedef struct {
    guint64 sent;
    guint64 received;
} Flow;

/* Offers a chunk and spoils it afterwards: the channel has its own. */
static gboolean flow_send(Flow *flow, TlsChannel *from, gsize len)
{
    g_autofree guint8 *chunk = g_malloc(len);
    g_autoptr(GError) error = NULL;
    gssize n;

    for (gsize i = 0; i < len; i++)
        chunk[i] = stream_byte(flow->sent + i);
    n = tls_channel_write(from, chunk, len, &error);
    memset(chunk, 0xee, len);
    if (n < 0) {
        assert_would_block(error);
        return FALSE;
    }
    assert_in_range(n, 1, MIN(len, RECORD_MAX));
    flow->sent += (guint64)n;
    return TRUE;
}

static gboolean flow_receive(Flow *flow, TlsChannel *to, gsize len)
{
    g_autofree guint8 *buf = g_malloc(len);
    g_autoptr(GError) error = NULL;
    gssize n = tls_channel_read(to, buf, len, &error);

    if (n < 0) {
        assert_would_block(error);
        return FALSE;
    }
    assert_in_range(n, 1, len);
    for (gsize i = 0; i < (gsize)n; i++) {
        if (buf[i] != stream_byte(flow->received + i))
            fail_msg("byte %" G_GUINT64_FORMAT " is wrong", flow->received + i);
    }
    flow->received += (guint64)n;
    return TRUE;
}

static void update_key(TlsChannel *channel)
{
    g_autoptr(GError) error = NULL;

    clock_offset_s += 6;
    if (!tls_channel_update_key(channel, &error))
        assert_would_block(error);
}

static void small_buffers(const TlsPair *pair)
{
    const int bytes = 8192;

    assert_int_equal(setsockopt(tls_channel_fd(pair->client), SOL_SOCKET, SO_SNDBUF, &bytes,
                                sizeof(bytes)), 0);
    assert_int_equal(setsockopt(tls_channel_fd(pair->server), SOL_SOCKET, SO_SNDBUF, &bytes,
                                sizeof(bytes)), 0);
}

/* Both ends at once or one of them, when the peers have caught up with the last time: the limit
 * of 8 is in the receiver's time, which stands still here between two updates. */
static void update_some_keys(const TlsPair *pair, GRand *rand, const Flow *up, const Flow *down,
                             guint64 marks[2])
{
    int which = g_rand_int_range(rand, 0, 3);

    if (up->received < marks[0] || down->received < marks[1])
        return;
    if (which != 1)
        update_key(pair->client);
    if (which != 2)
        update_key(pair->server);
    marks[0] = up->sent + 1;
    marks[1] = down->sent + 1;
}

/* Everything a full-duplex migration does, in an order that a seed decides. */
static void data_survives_key_updates_in_both_directions(void **state)
{
    const guint64 total = 6 * 1024 * 1024;

    for (guint32 seed = 1; seed <= 3; seed++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        g_auto(TlsPair) pair = { NULL };
        Flow up = { 0 }, down = { 0 };
        guint64 marks[2] = { 0 };

        pair_open(&pair, *state);
        small_buffers(&pair);
        while (up.received < total || down.received < total) {
            gsize len = (gsize)g_rand_int_range(rand, 1, 40000);

            switch (g_rand_int_range(rand, 0, 6)) {
            case 0:
                update_some_keys(&pair, rand, &up, &down, marks);
                break;
            case 1:
                flow_send(&up, pair.client, len);
                break;
            case 2:
                flow_send(&down, pair.server, len);
                break;
            case 3:
                flow_receive(&up, pair.server, len);
                break;
            case 4:
                flow_receive(&down, pair.client, len);
                break;
            default:
                tls_channel_flush(g_rand_boolean(rand) ? pair.client : pair.server, NULL);
                break;
            }
        }
        while (up.received < up.sent) {
            tls_channel_flush(pair.client, NULL);
            flow_receive(&up, pair.server, 65536);
        }
        read_must_wait(pair.server);
    }
}

/* gnutls sends a record twice if it must be offered again after a key update was asked for. */
static void key_update_asked_for_while_the_socket_is_full_doubles_nothing(void **state)
{
    for (int by_client = 0; by_client < 2; by_client++) {
        g_auto(TlsPair) pair = { NULL };
        TlsChannel *asker, *sender;
        Flow flow = { 0 }, back = { 0 };

        pair_open(&pair, *state);
        small_buffers(&pair);
        asker = by_client ? pair.client : pair.server;
        sender = by_client ? pair.server : pair.client;
        while (flow_send(&flow, sender, RECORD_MAX))
            ;
        assert_true(tls_channel_unsent(sender) > 0);
        update_key(asker);
        assert_true(flow_send(&back, asker, 100));
        assert_true(flow_receive(&back, sender, 100));
        assert_false(flow_send(&flow, sender, RECORD_MAX));
        for (int i = 0; i < 200; i++) {
            flow_receive(&flow, asker, RECORD_MAX);
            flow_send(&flow, sender, 5000);
        }
        while (flow.received < flow.sent) {
            tls_channel_flush(sender, NULL);
            flow_receive(&flow, asker, RECORD_MAX);
        }
        read_must_wait(asker);
    }
}

static void key_updates_without_pause_do_not_end_the_connection(void **state)
{
    g_auto(TlsPair) pair = { NULL };

    pair_open(&pair, *state);
    for (int i = 0; i < 50; i++) {
        assert_true(tls_channel_update_key(pair.client, NULL));
        assert_true(tls_channel_update_key(pair.server, NULL));
        say(pair.client, pair.server, "there");
        say(pair.server, pair.client, "back");
    }
}

static void full_socket_takes_one_record_more_and_then_none(void **state)
{
    g_auto(TlsPair) pair = { NULL };
    Flow flow = { 0 };
    guint64 sent;

    pair_open(&pair, *state);
    small_buffers(&pair);
    assert_int_equal(tls_channel_unsent(pair.client), 0);
    while (flow_send(&flow, pair.client, RECORD_MAX))
        ;
    sent = flow.sent;
    assert_in_range(tls_channel_unsent(pair.client), 1, RECORD_MAX + 256);
    /* It waits for room although nobody wants to write. */
    assert_int_equal(tls_channel_poll_events(pair.client, FALSE, FALSE), POLLOUT);
    for (int i = 0; i < 3; i++) {
        g_autoptr(GError) error = NULL;

        assert_false(tls_channel_flush(pair.client, &error));
        assert_would_block(error);
        assert_false(flow_send(&flow, pair.client, 1));
    }
    assert_true(flow.sent == sent);

    while (flow.received < sent) {
        flow_receive(&flow, pair.server, 3000);
        tls_channel_flush(pair.client, NULL);
    }
    assert_int_equal(tls_channel_unsent(pair.client), 0);
    assert_true(tls_channel_flush(pair.client, NULL));
    assert_int_equal(tls_channel_poll_events(pair.client, FALSE, FALSE), 0);
    read_must_wait(pair.server);
}

static void who_only_reads_flushes_as_well(void **state)
{
    g_auto(TlsPair) pair = { NULL };
    Flow flow = { 0 };

    pair_open(&pair, *state);
    small_buffers(&pair);
    while (flow_send(&flow, pair.client, RECORD_MAX))
        ;
    while (flow.received < flow.sent) {
        flow_receive(&flow, pair.server, RECORD_MAX);
        read_must_wait(pair.client);
    }
}

static void pending_counts_what_poll_does_not_see(void **state)
{
    g_auto(TlsPair) pair = { NULL };
    Flow flow = { 0 };

    pair_open(&pair, *state);
    assert_true(flow_send(&flow, pair.client, 1000));
    assert_int_equal(tls_channel_pending(pair.server), 0);
    assert_true(flow_receive(&flow, pair.server, 300));
    assert_int_equal(tls_channel_pending(pair.server), 700);
    assert_true(flow_receive(&flow, pair.server, 1000));
    assert_int_equal(tls_channel_pending(pair.server), 0);
    assert_int_equal(flow.received, 1000);
}

/* Several records wait for one flush, come at once, and are all told of. */
static void a_busy_channel_gathers_and_reads_ahead(void **state)
{
    g_auto(TlsPair) pair = { NULL };
    Flow flow = { 0 };

    pair_open(&pair, *state);
    tls_channel_set_busy(pair.client);
    tls_channel_set_busy(pair.server);
    for (int i = 0; i < 3; i++)
        assert_true(flow_send(&flow, pair.client, 1000));
    assert_true(tls_channel_unsent(pair.client) > 3000);
    assert_int_equal(tls_channel_poll_events(pair.client, FALSE, FALSE), POLLOUT);
    read_must_wait(pair.server);
    assert_true(tls_channel_flush(pair.client, NULL));
    assert_int_equal(tls_channel_unsent(pair.client), 0);

    assert_true(flow_receive(&flow, pair.server, 1000));
    assert_true(tls_channel_pending(pair.server) > 2000);
    assert_true(flow_receive(&flow, pair.server, 1000));
    assert_true(flow_receive(&flow, pair.server, 1000));
    read_must_wait(pair.server);
    assert_int_equal(tls_channel_pending(pair.server), 0);
    assert_int_equal(flow.received, 3000);
}

static void a_busy_channel_keeps_no_more_than_its_share(void **state)
{
    g_auto(TlsPair) pair = { NULL };
    Flow flow = { 0 };

    pair_open(&pair, *state);
    tls_channel_set_busy(pair.client);
    tls_channel_set_busy(pair.server);
    small_buffers(&pair);
    for (int i = 0; i < 20; i++) {
        while (flow_send(&flow, pair.client, RECORD_MAX))
            ;
        assert_in_range(tls_channel_unsent(pair.client), 1, 64 * 1024 + RECORD_MAX + 256);
        flow_receive(&flow, pair.server, 5000);
        tls_channel_flush(pair.client, NULL);
    }
    while (flow.received < flow.sent) {
        flow_receive(&flow, pair.server, RECORD_MAX);
        tls_channel_flush(pair.client, NULL);
    }
    assert_int_equal(tls_channel_unsent(pair.client), 0);
}

static void bye_is_an_end_and_leaves_the_other_direction_open(void **state)
{
    g_auto(TlsPair) pair = { NULL };
    g_autoptr(GError) error = NULL;
    char buf[16];

    pair_open(&pair, *state);
    assert_int_equal(tls_channel_write(pair.client, "last", 4, NULL), 4);
    tls_channel_bye(pair.client);
    tls_channel_bye(pair.client);
    assert_int_equal(tls_channel_read(pair.server, buf, sizeof(buf), NULL), 4);
    for (int i = 0; i < 2; i++)
        assert_int_equal(tls_channel_read(pair.server, buf, sizeof(buf), NULL), 0);
    say(pair.server, pair.client, "still here");
    assert_int_equal(tls_channel_write(pair.client, "x", 1, &error), -1);
    assert_error(error, TLS_ERROR_IO, "closed for writing");
    tls_channel_bye(pair.server);
    assert_int_equal(tls_channel_read(pair.client, buf, sizeof(buf), NULL), 0);
}

static void bye_comes_after_what_was_accepted(void **state)
{
    g_auto(TlsPair) pair = { NULL };
    Flow flow = { 0 };
    char buf[16];

    pair_open(&pair, *state);
    small_buffers(&pair);
    while (flow_send(&flow, pair.client, 700))
        ;
    while (flow.received < flow.sent / 2)
        assert_true(flow_receive(&flow, pair.server, 700));
    /* There is room again, but not first for the farewell. */
    assert_true(tls_channel_unsent(pair.client) > 0);
    tls_channel_bye(pair.client);
    while (flow.received < flow.sent) {
        tls_channel_flush(pair.client, NULL);
        flow_receive(&flow, pair.server, RECORD_MAX);
    }
    assert_true(tls_channel_flush(pair.client, NULL));
    assert_int_equal(tls_channel_read(pair.server, buf, sizeof(buf), NULL), 0);
}

static void close_without_bye_is_an_error_after_the_data(void **state)
{
    g_auto(TlsPair) pair = { NULL };
    Flow flow = { 0 };

    pair_open(&pair, *state);
    assert_true(flow_send(&flow, pair.client, 500));
    g_clear_pointer(&pair.client, tls_channel_free);
    assert_true(flow_receive(&flow, pair.server, RECORD_MAX));
    for (int i = 0; i < 2; i++) {
        g_autoptr(GError) error = NULL;
        char buf[16];

        assert_int_equal(tls_channel_read(pair.server, buf, sizeof(buf), &error), -1);
        assert_error(error, TLS_ERROR_IO, "cut short");
    }
    assert_int_equal(tls_channel_poll_events(pair.server, TRUE, FALSE), 0);
    /* For the log line about it. */
    assert_string_equal(tls_channel_peer_name(pair.server), "CN=hostA");
}

static void close_inside_a_record_is_an_error(void **state)
{
    g_auto(TlsPair) pair = { NULL };
    g_autoptr(GError) error = NULL;
    Flow flow = { 0 };

    pair_open(&pair, *state);
    small_buffers(&pair);
    while (flow_send(&flow, pair.client, RECORD_MAX))
        ;
    g_clear_pointer(&pair.client, tls_channel_free);
    for (;;) {
        g_autofree guint8 *buf = g_malloc(RECORD_MAX);

        if (tls_channel_read(pair.server, buf, RECORD_MAX, &error) < 0)
            break;
        assert_null(error);
    }
    assert_error(error, TLS_ERROR_IO, "cut short");
}

static void forged_record_is_an_error(void **state)
{
    g_auto(TlsPair) pair = { NULL };
    g_autoptr(GError) error = NULL;
    static const guint8 record[5 + 32] = { 0x17, 3, 3, 0, 32, 1, 2, 3 };
    char buf[16];

    pair_open(&pair, *state);
    assert_int_equal(write(tls_channel_fd(pair.client), record, sizeof(record)), sizeof(record));
    assert_int_equal(tls_channel_read(pair.server, buf, sizeof(buf), &error), -1);
    assert_error(error, TLS_ERROR_IO, "TLS with the peer failed");
    g_clear_error(&error);
    assert_int_equal(tls_channel_write(pair.server, "x", 1, &error), -1);
    assert_error(error, TLS_ERROR_IO, "TLS with the peer failed");
    /* The other end is told. */
    g_clear_error(&error);
    assert_int_equal(tls_channel_read(pair.client, buf, sizeof(buf), &error), -1);
    assert_error(error, TLS_ERROR_HANDSHAKE, "alert");
}

/* A write that fails because the peer has gone: what it said before is not lost. */
static void data_before_a_broken_write_can_still_be_read(void **state)
{
    g_auto(TlsPair) pair = { NULL };
    g_autoptr(GError) error = NULL;
    char buf[64] = "";

    pair_open(&pair, *state);
    assert_int_equal(tls_channel_write(pair.server, "the reason", 10, NULL), 10);
    tls_channel_bye(pair.server);
    g_clear_pointer(&pair.server, tls_channel_free);
    for (int i = 0; i < 3; i++) {
        g_clear_error(&error);
        assert_int_equal(tls_channel_write(pair.client, "data", 4, &error), -1);
        assert_error(error, TLS_ERROR_IO, "the connection to the peer broke: Broken pipe");
    }
    assert_int_equal(tls_channel_pending(pair.client), 10);
    assert_int_equal(tls_channel_read(pair.client, buf, 4, NULL), 4);
    assert_int_equal(tls_channel_read(pair.client, buf + 4, sizeof(buf) - 5, NULL), 6);
    assert_string_equal(buf, "the reason");
    assert_int_equal(tls_channel_read(pair.client, buf, sizeof(buf), NULL), 0);
    assert_int_equal(tls_channel_poll_events(pair.client, TRUE, FALSE), 0);
}

/* A client of TLS 1.3 may write before it knows that it was refused. */
static void refusal_is_the_error_of_a_write_too(void **state)
{
    const Credentials *creds = *state;
    static const char *const nobody[] = { "CN=nobody", NULL };
    g_auto(TlsPair) pair = { NULL };
    g_autoptr(GError) refusal = NULL;
    gboolean open = FALSE;

    tls_pair_init(&pair, creds->client, (TlsChannelConfig){ .hostname = "hostB" }, creds->server,
                  (TlsChannelConfig){ .allowed_dns = nobody });
    for (int turn = 0; turn < 10 && pair.server; turn++) {
        g_autoptr(GError) error = NULL;

        open = tls_channel_handshake(pair.client, NULL);
        if (!tls_channel_handshake(pair.server, &error) &&
            error->domain == TLS_ERROR)
            g_clear_pointer(&pair.server, tls_channel_free);
    }
    assert_null(pair.server);
    assert_true(open);
    assert_int_equal(tls_channel_write(pair.client, "data", 4, &refusal), -1);
    assert_error(refusal, TLS_ERROR_HANDSHAKE, "the peer refused our certificate");
}

/* Runs one end against bytes on the socket; close_after: and then the end of them. */
static void assert_handshake_fails(const Credentials *creds, TlsEndpoint endpoint,
                                   const void *bytes, gsize len, int code, const char *text)
{
    const TlsChannelConfig config = { .endpoint = endpoint, .hostname = "hostB" };
    g_autoptr(TlsChannel) channel = NULL;
    int fds[2];

    tls_pair_sockets(fds);
    channel = tls_channel_new(fds[0], endpoint == TLS_ENDPOINT_CLIENT ? creds->client
                                                                      : creds->server,
                              &config, NULL);
    if (len)
        assert_int_equal(send(fds[1], bytes, len, MSG_NOSIGNAL), len);
    shutdown(fds[1], SHUT_WR);
    for (int i = 0; i < 2; i++) {
        g_autoptr(GError) error = NULL;

        assert_false(tls_channel_handshake(channel, &error));
        assert_error(error, code, text);
    }
    close(fds[1]);
}

static void what_is_no_handshake_is_refused(void **state)
{
    static const struct {
        const char *bytes;
        gsize len;
        int code;
        const char *text;
    } rows[] = {
        { "", 0, TLS_ERROR_IO, "the peer closed the connection during the TLS handshake" },
        { "GET / HTTP/1.1\r\n\r\n", 18, TLS_ERROR_HANDSHAKE, "is no TLS handshake" },
        { "\0\0\0\x1c\x20\0\x80\x86\0\0\0\x01\0\0\0\x42\0\0\0\0\0\0\0\x01\0\0\0\0", 28,
          TLS_ERROR_HANDSHAKE, "TLS handshake" },
        { "\x16\x03\x01\xff\xff____________", 17, TLS_ERROR_HANDSHAKE, "is no TLS handshake" },
        { "\x16\x03\x01\0\x10\x01\0\0", 8, TLS_ERROR_IO, "closed the connection during" },
        { "\x16\x03\x01\0\x04\x01\0\0\0", 9, TLS_ERROR_HANDSHAKE, "TLS handshake" },
        { "\x17\x03\x03\0\x04""data", 9, TLS_ERROR_HANDSHAKE, "TLS handshake" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows) * 2; i++)
        assert_handshake_fails(*state, i % 2 ? TLS_ENDPOINT_CLIENT : TLS_ENDPOINT_SERVER,
                               rows[i / 2].bytes, rows[i / 2].len, rows[i / 2].code,
                               rows[i / 2].text);
}

/* Before anything else, and in clear. */
static void alert_for_a_hello_is_named(void **state)
{
    static const struct {
        const char *bytes;
        const char *text;
    } rows[] = {
        { "\x15\x03\x03\0\x02\x02\x28", "nothing in common" },
        { "\x15\x03\x03\0\x02\x02\x46", "the peer does not speak TLS 1.3" },
        { "\x15\x03\x03\0\x02\x02\x50", "(alert: Internal error)" },
        { "\x15\x03\x03\0\x02\x02\xfe", "(alert: ?)" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        assert_handshake_fails(*state, TLS_ENDPOINT_CLIENT, rows[i].bytes, 7, TLS_ERROR_HANDSHAKE,
                               rows[i].text);
}

/* Every prefix of what a good client says, and then nothing. */
static void peer_that_closes_in_the_handshake_is_an_io_error(void **state)
{
    const Credentials *creds = *state;
    g_auto(TlsPair) pair = { NULL };
    guint8 hello[2048];
    gssize len;

    pair_new(&pair, creds);
    assert_false(tls_channel_handshake(pair.client, NULL));
    len = recv(tls_channel_fd(pair.server), hello, sizeof(hello), 0);
    assert_in_range(len, 100, sizeof(hello) - 1);
    for (gssize cut = 0; cut <= len; cut += 1 + len / 16)
        assert_handshake_fails(creds, TLS_ENDPOINT_SERVER, hello, (gsize)cut, TLS_ERROR_IO,
                               "the peer closed the connection during the TLS handshake");
}

static void exported_keys_belong_to_one_connection(void **state)
{
    g_auto(TlsPair) one = { NULL };
    g_auto(TlsPair) two = { NULL };
    guint8 client[32], server[32], label[32], other[32];

    pair_open(&one, *state);
    pair_open(&two, *state);
    assert_true(tls_channel_export(one.client, "EXPORTER-a", client, NULL));
    assert_true(tls_channel_export(one.server, "EXPORTER-a", server, NULL));
    assert_true(tls_channel_export(one.client, "EXPORTER-b", label, NULL));
    assert_true(tls_channel_export(two.client, "EXPORTER-a", other, NULL));
    assert_memory_equal(client, server, 32);
    assert_memory_not_equal(client, label, 32);
    assert_memory_not_equal(client, other, 32);
    /* New traffic keys do not change it. */
    update_key(one.client);
    say(one.client, one.server, "x");
    assert_true(tls_channel_export(one.server, "EXPORTER-a", server, NULL));
    assert_memory_equal(client, server, 32);
}

static void channel_takes_the_descriptor_in_every_case(void **state)
{
    const Credentials *creds = *state;
    const TlsChannelConfig config = { .endpoint = TLS_ENDPOINT_SERVER };
    g_autoptr(GError) error = NULL;
    TlsChannel *channel;
    int fds[2];

    tls_pair_sockets(fds);
    assert_null(tls_channel_new(fds[0], creds->client, &config, &error));
    assert_error(error, TLS_ERROR_HANDSHAKE, "the other end");
    assert_int_equal(fcntl(fds[0], F_GETFD), -1);
    channel = tls_channel_new(fds[1], creds->server, &config, NULL);
    assert_int_equal(tls_channel_fd(channel), fds[1]);
    tls_channel_free(channel);
    assert_int_equal(fcntl(fds[1], F_GETFD), -1);
    tls_channel_free(NULL);
}

/* A gnutls client without our layer, with good credentials of its own. */
typedef struct {
    gnutls_session_t session;
    gnutls_psk_client_credentials_t psk;
} RawClient;

#define PSK_HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static TlsChannel *server_for_raw(RawClient *raw, int *ret_fd)
{
    const gnutls_datum_t key = { (unsigned char *)PSK_HEX, strlen(PSK_HEX) };
    const TlsChannelConfig config = { .endpoint = TLS_ENDPOINT_SERVER };
    g_autoptr(TlsCredentials) creds = tls_pair_psk(TLS_ENDPOINT_SERVER, "raw:" PSK_HEX "\n");
    TlsChannel *channel;
    gboolean open = FALSE, raw_open = FALSE;
    int fds[2];

    tls_pair_sockets(fds);
    gnutls_psk_allocate_client_credentials(&raw->psk);
    gnutls_psk_set_client_credentials(raw->psk, "raw", &key, GNUTLS_PSK_KEY_HEX);
    gnutls_init(&raw->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK);
    gnutls_priority_set_direct(raw->session, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+ECDHE-PSK", NULL);
    gnutls_credentials_set(raw->session, GNUTLS_CRD_PSK, raw->psk);
    gnutls_transport_set_int(raw->session, fds[0]);
    channel = tls_channel_new(fds[1], creds, &config, NULL);
    for (int turn = 0; turn < 20 && !(open && raw_open); turn++) {
        raw_open = raw_open || gnutls_handshake(raw->session) == 0;
        open = tls_channel_handshake(channel, NULL);
    }
    assert_true(open && raw_open);
    *ret_fd = fds[0];
    return channel;
}

static void raw_clear(RawClient *raw, int fd)
{
    gnutls_deinit(raw->session);
    gnutls_psk_free_client_credentials(raw->psk);
    close(fd);
}

/* RFC 8446, section 5.2: a record of nothing but its type, 23, which gnutls itself never sends. */
static void send_empty_record(gnutls_session_t session, int fd)
{
    guint8 record[5 + 1 + 16] = { 0x17, 3, 3, 0, 1 + 16 };
    const guint8 type = 23;
    gnutls_datum_t iv, key;
    gnutls_aead_cipher_hd_t aead;
    guint8 seq[8], nonce[12];
    size_t len = 1 + 16;

    assert_int_equal(gnutls_record_get_state(session, 0, NULL, &iv, &key, seq), 0);
    assert_int_equal(iv.size, sizeof(nonce));
    memcpy(nonce, iv.data, sizeof(nonce));
    for (int i = 0; i < 8; i++)
        nonce[4 + i] ^= seq[i];
    assert_int_equal(gnutls_aead_cipher_init(&aead, gnutls_cipher_get(session), &key), 0);
    assert_int_equal(gnutls_aead_cipher_encrypt(aead, nonce, sizeof(nonce), record, 5, 16, &type, 1,
                                                record + 5, &len), 0);
    gnutls_aead_cipher_deinit(aead);
    assert_int_equal(write(fd, record, sizeof(record)), sizeof(record));
    seq[7]++;
    assert_int_equal(gnutls_record_set_state(session, 0, seq), 0);
}

static void empty_record_is_no_end_of_stream(void **state)
{
    RawClient raw = { NULL };
    int fd;
    g_autoptr(TlsChannel) channel = server_for_raw(&raw, &fd);
    char buf[8];

    send_empty_record(raw.session, fd);
    read_must_wait(channel);
    for (int i = 0; i < 100; i++)
        send_empty_record(raw.session, fd);
    assert_int_equal(gnutls_record_send(raw.session, "x", 1), 1);
    for (int i = 0;; i++) {
        g_autoptr(GError) error = NULL;
        gssize n = tls_channel_read(channel, buf, sizeof(buf), &error);

        if (n == 1)
            break;
        assert_int_equal(n, -1);
        assert_would_block(error);
        assert_int_not_equal(i, 20);
    }
    raw_clear(&raw, fd);
}

static void peer_may_ask_for_our_keys_whenever_it_likes(void **state)
{
    RawClient raw = { NULL };
    int fd;
    g_autoptr(TlsChannel) channel = server_for_raw(&raw, &fd);
    char buf[64];

    for (int i = 0; i < 20; i++) {
        clock_offset_s += 2;
        assert_int_equal(gnutls_session_key_update(raw.session, GNUTLS_KU_PEER), 0);
        read_must_wait(channel);
        assert_int_equal(tls_channel_write(channel, "pong", 4, NULL), 4);
        update_key(channel);
        assert_int_equal(tls_channel_write(channel, "pong", 4, NULL), 4);
        for (int got = 0; got < 8;) {
            ssize_t n = gnutls_record_recv(raw.session, buf, sizeof(buf));

            assert_true(n > 0 || n == GNUTLS_E_AGAIN);
            got += n > 0 ? (int)n : 0;
        }
    }
    raw_clear(&raw, fd);
}

static void too_many_key_updates_are_an_error_not_a_hang(void **state)
{
    RawClient raw = { NULL };
    int fd;
    g_autoptr(TlsChannel) channel = server_for_raw(&raw, &fd);
    g_autoptr(GError) error = NULL;
    char buf[8];

    for (int i = 0; i < 20; i++)
        gnutls_session_key_update(raw.session, 0);
    assert_int_equal(tls_channel_read(channel, buf, sizeof(buf), &error), -1);
    assert_error(error, TLS_ERROR_IO, "TLS with the peer failed");
    raw_clear(&raw, fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_known_after_the_handshake),
        cmocka_unit_test(nothing_flows_before_the_handshake),
        cmocka_unit_test(poll_events_say_what_to_wait_for),
        cmocka_unit_test(data_survives_key_updates_in_both_directions),
        cmocka_unit_test(key_update_asked_for_while_the_socket_is_full_doubles_nothing),
        cmocka_unit_test(key_updates_without_pause_do_not_end_the_connection),
        cmocka_unit_test(full_socket_takes_one_record_more_and_then_none),
        cmocka_unit_test(who_only_reads_flushes_as_well),
        cmocka_unit_test(pending_counts_what_poll_does_not_see),
        cmocka_unit_test(a_busy_channel_gathers_and_reads_ahead),
        cmocka_unit_test(a_busy_channel_keeps_no_more_than_its_share),
        cmocka_unit_test(bye_is_an_end_and_leaves_the_other_direction_open),
        cmocka_unit_test(bye_comes_after_what_was_accepted),
        cmocka_unit_test(close_without_bye_is_an_error_after_the_data),
        cmocka_unit_test(close_inside_a_record_is_an_error),
        cmocka_unit_test(forged_record_is_an_error),
        cmocka_unit_test(data_before_a_broken_write_can_still_be_read),
        cmocka_unit_test(refusal_is_the_error_of_a_write_too),
        cmocka_unit_test(what_is_no_handshake_is_refused),
        cmocka_unit_test(alert_for_a_hello_is_named),
        cmocka_unit_test(peer_that_closes_in_the_handshake_is_an_io_error),
        cmocka_unit_test(exported_keys_belong_to_one_connection),
        cmocka_unit_test(channel_takes_the_descriptor_in_every_case),
        cmocka_unit_test(empty_record_is_no_end_of_stream),
        cmocka_unit_test(peer_may_ask_for_our_keys_whenever_it_likes),
        cmocka_unit_test(too_many_key_updates_are_an_error_not_a_hang),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
