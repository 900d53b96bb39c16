/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A TLS session that goes on over a new connection: with a ticket the handshake is short, and the
 * peer is judged as strictly as without. */
#include "config.h"

#include "tls/channel.h"

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

#include "tests/support/tls-pair.h"

#define ALPN "virt-postcopy/1"
#define HOUR 3600
#define PSK_LINE "hostA:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"

/* The clock of this program, gnutls included. */
static gint64 clock_offset_s;

int clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    int ret = (int)syscall(SYS_clock_gettime, clock, ret_now);

    ret_now->tv_sec += clock_offset_s;
    return ret;
}

time_t time(time_t *ret_now)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (ret_now)
        *ret_now = now.tv_sec;
    return now.tv_sec;
}

/* Two hosts, each with what it presents by certificate and by pre-shared key. */
typedef struct {
    PkiIdentity *ca;
    char *ca_pem;
    PkiIdentity *a;
    PkiIdentity *b;
} Hosts;

typedef struct {
    TlsCredentials *client;
    TlsCredentials *server;
} Credentials;

static int setup(void **state)
{
    Hosts *h = g_new0(Hosts, 1);

    h->ca = pki_identity_new(&(PkiSpec){ .common_name = "CA", .ca = TRUE,
                                         .ends_in_s = 100 * HOUR });
    h->ca_pem = pki_cert_pem(h->ca);
    h->a = pki_identity_new(&(PkiSpec){ .common_name = "hostA", .issuer = h->ca,
                                        .ends_in_s = 100 * HOUR });
    h->b = pki_identity_new(&(PkiSpec){ .common_name = "hostB", .issuer = h->ca,
                                        .ends_in_s = 100 * HOUR });
    *state = h;
    return 0;
}

static int teardown(void **state)
{
    Hosts *h = *state;

    pki_identity_free(h->ca);
    pki_identity_free(h->a);
    pki_identity_free(h->b);
    g_free(h->ca_pem);
    g_free(h);
    return 0;
}

static int reset_clock(void **state)
{
    clock_offset_s = 0;
    return 0;
}

static TlsCredentials *x509(const Hosts *h, TlsEndpoint endpoint, const PkiIdentity *own)
{
    g_autoptr(GError) error = NULL;
    TlsCredentials *creds = tls_pair_x509(endpoint, h->ca_pem, own, NULL, &error);

    if (!creds)
        fail_msg("%s", error->message);
    return creds;
}

static void credentials_init(Credentials *creds, const Hosts *h, gboolean psk)
{
    creds->client = psk ? tls_pair_psk(TLS_ENDPOINT_CLIENT, PSK_LINE)
                        : x509(h, TLS_ENDPOINT_CLIENT, h->a);
    creds->server = psk ? tls_pair_psk(TLS_ENDPOINT_SERVER, PSK_LINE)
                        : x509(h, TLS_ENDPOINT_SERVER, h->b);
}

static void credentials_clear(Credentials *creds)
{
    tls_credentials_unref(creds->client);
    tls_credentials_unref(creds->server);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Credentials, credentials_clear)

static TlsChannelConfig client_config(GBytes *ticket)
{
    return (TlsChannelConfig){ .hostname = "hostB", .alpn = ALPN, .tickets = TRUE,
                               .ticket = ticket };
}

static TlsChannelConfig server_config(void)
{
    return (TlsChannelConfig){ .alpn = ALPN, .tickets = TRUE };
}

static void assert_open(const TlsPair *pair)
{
    if (!pair->client || !pair->server)
        fail_msg("%s / %s", pair->client_error ? pair->client_error->message : "open",
                 pair->server_error ? pair->server_error->message : "open");
}

static void pair_open(TlsPair *pair, const Credentials *creds, GBytes *ticket)
{
    tls_pair_init(pair, creds->client, client_config(ticket), creds->server, server_config());
    tls_pair_handshake(pair);
    assert_open(pair);
}

static void assert_resumed(const TlsPair *pair, gboolean resumed)
{
    assert_int_equal(tls_channel_is_resumed(pair->client), resumed);
    assert_int_equal(tls_channel_is_resumed(pair->server), resumed);
}

static void say(TlsChannel *from, TlsChannel *to)
{
    g_autoptr(GError) error = NULL;
    char buf[8];

    assert_int_equal(tls_channel_write(from, "word", 4, NULL), 4);
    if (tls_channel_read(to, buf, sizeof(buf), &error) != 4)
        fail_msg("%s", error ? error->message : "end");
    assert_memory_equal(buf, "word", 4);
}

/* Of a connection that works: it came before the first word. */
static GBytes *ticket_of(const TlsPair *pair)
{
    GBytes *ticket;

    say(pair->server, pair->client);
    ticket = tls_channel_ticket(pair->client);
    assert_non_null(ticket);
    return ticket;
}

static GBytes *first_ticket(const Credentials *creds)
{
    g_auto(TlsPair) pair = { NULL };

    pair_open(&pair, creds, NULL);
    assert_resumed(&pair, FALSE);
    return ticket_of(&pair);
}

/* Who is refused below is refused for the reason shown, and not because the ticket is no good. */
static void assert_good(const Credentials *creds, GBytes *ticket)
{
    g_auto(TlsPair) pair = { NULL };

    pair_open(&pair, creds, ticket);
    assert_resumed(&pair, TRUE);
}

static void assert_verdict(const GError *error, int code, const char *text)
{
    if (!g_error_matches(error, TLS_ERROR, code) || !strstr(error->message, text))
        fail_msg("code %d: %s", error ? error->code : 0, error ? error->message : "no error");
}

static void session_goes_on_over_new_connections(void **state)
{
    for (int psk = 0; psk < 2; psk++) {
        g_auto(Credentials) creds = { NULL };
        g_autoptr(GBytes) ticket = NULL;

        credentials_init(&creds, *state, psk);
        ticket = first_ticket(&creds);
        for (int i = 0; i < 3; i++) {
            g_auto(TlsPair) pair = { NULL };

            pair_open(&pair, &creds, ticket);
            assert_resumed(&pair, TRUE);
            assert_string_equal(tls_channel_peer_name(pair.client), psk ? "hostA" : "CN=hostB");
            assert_string_equal(tls_channel_peer_name(pair.server), psk ? "hostA" : "CN=hostA");
            assert_string_equal(tls_channel_version(pair.client), "TLS1.3");
            say(pair.client, pair.server);
            g_bytes_unref(ticket);
            ticket = ticket_of(&pair);
        }
    }
}

static void nothing_is_resumed_before_the_handshake(void **state)
{
    g_auto(Credentials) creds = { NULL };
    g_autoptr(GBytes) ticket = NULL;
    g_auto(TlsPair) pair = { NULL };

    credentials_init(&creds, *state, FALSE);
    ticket = first_ticket(&creds);
    tls_pair_init(&pair, creds.client, client_config(ticket), creds.server, server_config());
    assert_resumed(&pair, FALSE);
    assert_null(tls_channel_ticket(pair.client));
}

static void ticket_comes_with_the_first_read(void **state)
{
    g_auto(Credentials) creds = { NULL };
    g_autoptr(GBytes) ticket = NULL;
    g_autoptr(GError) error = NULL;
    g_auto(TlsPair) pair = { NULL };
    char buf[4];

    credentials_init(&creds, *state, FALSE);
    pair_open(&pair, &creds, NULL);
    assert_null(tls_channel_ticket(pair.client));
    assert_int_equal(tls_channel_read(pair.client, buf, sizeof(buf), &error), -1);
    assert_true(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK));
    ticket = tls_channel_ticket(pair.client);
    assert_non_null(ticket);
    assert_null(tls_channel_ticket(pair.server));
}

/* Lost in the three ways a connection is lost. */
static void ticket_outlives_a_failed_channel(void **state)
{
    static const guint8 forged[5 + 32] = { 0x17, 3, 3, 0, 32, 1, 2, 3 };

    for (int way = 0; way < 3; way++) {
        g_auto(Credentials) creds = { NULL };
        g_auto(TlsPair) lost = { NULL };
        g_auto(TlsPair) pair = { NULL };
        g_autoptr(GBytes) ticket = NULL;
        g_autoptr(GError) error = NULL;
        char buf[4];

        credentials_init(&creds, *state, FALSE);
        pair_open(&lost, &creds, NULL);
        if (way == 0)
            shutdown(tls_channel_fd(lost.client), SHUT_RD);
        if (way == 1)
            assert_int_equal(write(tls_channel_fd(lost.server), forged, sizeof(forged)),
                             sizeof(forged));
        g_clear_pointer(&lost.server, tls_channel_free);
        if (way == 2)
            assert_int_equal(tls_channel_write(lost.client, "data", 4, NULL), -1);
        assert_int_equal(tls_channel_read(lost.client, buf, sizeof(buf), &error), -1);
        assert_true(error->domain == TLS_ERROR);
        ticket = tls_channel_ticket(lost.client);
        assert_non_null(ticket);
        pair_open(&pair, &creds, ticket);
        assert_resumed(&pair, TRUE);
    }
}

static void tickets_are_for_those_who_want_them(void **state)
{
    for (int who = 0; who < 3; who++) {
        for (int psk = 0; psk < 2; psk++) {
            g_auto(Credentials) creds = { NULL };
            g_autoptr(GBytes) ticket = NULL;
            g_auto(TlsPair) pair = { NULL };
            TlsChannelConfig client, server = server_config();

            credentials_init(&creds, *state, psk);
            ticket = first_ticket(&creds);
            client = client_config(ticket);
            client.tickets = who == 1;
            server.tickets = who == 2;
            tls_pair_init(&pair, creds.client, client, creds.server, server);
            tls_pair_handshake(&pair);
            assert_open(&pair);
            assert_resumed(&pair, FALSE);
            say(pair.server, pair.client);
            say(pair.client, pair.server);
            assert_null(tls_channel_ticket(pair.client));
        }
    }
}

/* RFC 8446, section 4.2.9: with it a client says that it takes tickets. */
static int note_psk_modes(void *ctx, unsigned int type, const unsigned char *data,
                          unsigned int len)
{
    gboolean *found = ctx;

    *found = *found || type == 45;
    return 0;
}

static void client_says_whether_it_takes_tickets(void **state)
{
    for (int tickets = 0; tickets < 2; tickets++) {
        g_auto(Credentials) creds = { NULL };
        g_auto(TlsPair) pair = { NULL };
        gboolean found = FALSE;
        guint8 hello[2048];
        gnutls_datum_t body;
        ssize_t len;

        credentials_init(&creds, *state, FALSE);
        tls_pair_init(&pair, creds.client, (TlsChannelConfig){ .tickets = tickets }, creds.server,
                      server_config());
        assert_false(tls_channel_handshake(pair.client, NULL));
        len = recv(tls_channel_fd(pair.server), hello, sizeof(hello), 0);
        assert_in_range(len, 100, sizeof(hello) - 1);
        /* Behind the headers of the record and of the message. */
        body = (gnutls_datum_t){ hello + 9, (unsigned int)len - 9 };
        assert_int_equal(gnutls_ext_raw_parse(&found, note_psk_modes, &body,
                                              GNUTLS_EXT_RAW_FLAG_TLS_CLIENT_HELLO), 0);
        assert_int_equal(found, tickets);
    }
}

/* Who was let in once is not let in for ever. */
static void allowed_names_are_those_of_the_day(void **state)
{
    static const char *const nobody[] = { "CN=nobody", NULL };

    for (int by_client = 0; by_client < 2; by_client++) {
        g_auto(Credentials) creds = { NULL };
        g_autoptr(GBytes) ticket = NULL;
        g_auto(TlsPair) pair = { NULL };
        TlsChannelConfig client, server = server_config();

        credentials_init(&creds, *state, FALSE);
        ticket = first_ticket(&creds);
        assert_good(&creds, ticket);
        client = client_config(ticket);
        if (by_client)
            client.allowed_dns = nobody;
        else
            server.allowed_dns = nobody;
        tls_pair_init(&pair, creds.client, client, creds.server, server);
        tls_pair_handshake(&pair);
        assert_verdict(by_client ? pair.client_error : pair.server_error, TLS_ERROR_DN,
                       by_client ? "(CN=hostB)" : "(CN=hostA)");
        assert_verdict(by_client ? pair.server_error : pair.client_error, TLS_ERROR_HANDSHAKE,
                       "not on the peer's list of allowed ones");
    }
}

static void certificate_that_expired_meanwhile_is_refused(void **state)
{
    const Hosts *h = *state;

    for (int client_expires = 0; client_expires < 2; client_expires++) {
        g_autoptr(PkiIdentity) brief = pki_identity_new(&(PkiSpec){
            .common_name = "hostB", .issuer = h->ca, .ends_in_s = HOUR });
        g_auto(Credentials) creds = {
            x509(h, TLS_ENDPOINT_CLIENT, client_expires ? brief : h->a),
            x509(h, TLS_ENDPOINT_SERVER, client_expires ? h->b : brief),
        };
        g_autoptr(GBytes) ticket = first_ticket(&creds);
        g_auto(TlsPair) pair = { NULL };

        assert_good(&creds, ticket);
        clock_offset_s = 2 * HOUR;
        tls_pair_init(&pair, creds.client, client_config(ticket), creds.server, server_config());
        tls_pair_handshake(&pair);
        assert_verdict(client_expires ? pair.server_error : pair.client_error,
                       TLS_ERROR_CERTIFICATE, "(CN=hostB) expired on 20");
        assert_verdict(client_expires ? pair.client_error : pair.server_error,
                       TLS_ERROR_HANDSHAKE, "it has expired or is not valid yet");
        clock_offset_s = 0;
    }
}

static void protocol_is_agreed_on_again(void **state)
{
    /* The server's now; without one it says nothing of it. */
    static const char *const others[] = { "virt-postcopy/2", NULL };

    for (gsize i = 0; i < G_N_ELEMENTS(others); i++) {
        g_auto(Credentials) creds = { NULL };
        g_autoptr(GBytes) ticket = NULL;
        g_auto(TlsPair) pair = { NULL };
        TlsChannelConfig server = server_config();

        credentials_init(&creds, *state, FALSE);
        ticket = first_ticket(&creds);
        assert_good(&creds, ticket);
        server.alpn = others[i];
        tls_pair_init(&pair, creds.client, client_config(ticket), creds.server, server);
        tls_pair_handshake(&pair);
        assert_verdict(pair.client_error, TLS_ERROR_HANDSHAKE, "application protocol");
        assert_null(pair.server);
    }
}

/* Shows it where it is no good: the handshake is a full one and succeeds. */
static void assert_passed_over(const Credentials *creds, GBytes *ticket)
{
    g_auto(TlsPair) pair = { NULL };
    g_autoptr(GBytes) next = NULL;

    pair_open(&pair, creds, ticket);
    assert_resumed(&pair, FALSE);
    say(pair.client, pair.server);
    next = ticket_of(&pair);
}

static void ticket_of_another_server_is_passed_over(void **state)
{
    const Hosts *h = *state;

    for (int psk = 0; psk < 2; psk++) {
        g_auto(Credentials) creds = { NULL };
        g_auto(Credentials) others = { NULL };
        g_autoptr(GBytes) ticket = NULL;

        credentials_init(&creds, h, psk);
        credentials_init(&others, h, psk);
        ticket = first_ticket(&creds);
        /* A server that was started anew, and a client that was. */
        assert_passed_over(&(Credentials){ creds.client, others.server }, ticket);
        assert_passed_over(&(Credentials){ others.client, creds.server }, ticket);
    }
}

static void ticket_does_not_lend_a_name(void **state)
{
    const Hosts *h = *state;
    g_autoptr(PkiIdentity) c = pki_identity_new(
        &(PkiSpec){ .common_name = "hostC", .dns = { "hostB" }, .issuer = h->ca });
    g_autoptr(TlsCredentials) client_c = x509(h, TLS_ENDPOINT_CLIENT, c);
    g_autoptr(TlsCredentials) server_c = x509(h, TLS_ENDPOINT_SERVER, c);
    g_auto(Credentials) creds = { NULL };
    g_autoptr(GBytes) ticket = NULL;

    credentials_init(&creds, h, FALSE);
    ticket = first_ticket(&creds);
    for (int client = 0; client < 2; client++) {
        const Credentials mixed = { client ? client_c : creds.client,
                                    client ? creds.server : server_c };
        g_auto(TlsPair) pair = { NULL };

        pair_open(&pair, &mixed, ticket);
        assert_resumed(&pair, FALSE);
        assert_string_equal(tls_channel_peer_name(pair.server), client ? "CN=hostC" : "CN=hostA");
        assert_string_equal(tls_channel_peer_name(pair.client), client ? "CN=hostB" : "CN=hostC");
    }
}

static void ticket_for_another_host_name_is_passed_over(void **state)
{
    const Hosts *h = *state;
    g_autoptr(PkiIdentity) b = pki_identity_new(
        &(PkiSpec){ .common_name = "hostB", .dns = { "hostB", "alias" }, .issuer = h->ca });
    g_auto(Credentials) creds = { x509(h, TLS_ENDPOINT_CLIENT, h->a),
                                  x509(h, TLS_ENDPOINT_SERVER, b) };
    g_autoptr(GBytes) ticket = first_ticket(&creds);
    TlsChannelConfig client = client_config(ticket);
    g_auto(TlsPair) pair = { NULL };

    client.hostname = "alias";
    tls_pair_init(&pair, creds.client, client, creds.server, server_config());
    tls_pair_handshake(&pair);
    assert_open(&pair);
    assert_resumed(&pair, FALSE);
}

static void damaged_ticket_is_passed_over(void **state)
{
    for (int psk = 0; psk < 2; psk++) {
        g_auto(Credentials) creds = { NULL };
        g_autoptr(GBytes) ticket = NULL;
        g_autoptr(GBytes) empty = g_bytes_new(NULL, 0);
        g_autoptr(GBytes) zeroes = g_bytes_new_take(g_malloc0(500), 500);
        gsize len;

        credentials_init(&creds, *state, psk);
        ticket = first_ticket(&creds);
        len = g_bytes_get_size(ticket);
        assert_passed_over(&creds, empty);
        assert_passed_over(&creds, zeroes);
        for (gsize at = 0; at < len; at += 1 + len / 24) {
            g_autoptr(GBytes) cut = g_bytes_new_from_bytes(ticket, 0, at);
            gsize n;
            guint8 *bytes = g_bytes_unref_to_data(g_bytes_ref(ticket), &n);
            g_autoptr(GBytes) flipped = NULL;

            bytes[at] ^= 0x10;
            flipped = g_bytes_new_take(bytes, n);
            assert_passed_over(&creds, cut);
            assert_passed_over(&creds, flipped);
        }
    }
}

static void old_ticket_is_passed_over(void **state)
{
    /* The last: a clock was set back. */
    static const gint64 ages_s[] = { 7 * HOUR, 30 * HOUR, -HOUR };

    for (int psk = 0; psk < 2; psk++) {
        for (gsize i = 0; i < G_N_ELEMENTS(ages_s); i++) {
            g_auto(Credentials) creds = { NULL };
            g_autoptr(GBytes) ticket = NULL;

            clock_offset_s = 2 * HOUR;
            credentials_init(&creds, *state, psk);
            ticket = first_ticket(&creds);
            clock_offset_s += ages_s[i];
            assert_passed_over(&creds, ticket);
        }
    }
}

static void ticket_is_good_for_hours(void **state)
{
    for (int psk = 0; psk < 2; psk++) {
        g_auto(Credentials) creds = { NULL };
        g_autoptr(GBytes) ticket = NULL;
        g_autoptr(GBytes) later = NULL;
        g_auto(TlsPair) pair = { NULL };

        clock_offset_s = 0;
        credentials_init(&creds, *state, psk);
        ticket = first_ticket(&creds);
        clock_offset_s = 5 * HOUR;
        assert_good(&creds, ticket);
        pair_open(&pair, &creds, ticket);
        later = ticket_of(&pair);
        /* Of the session, however often it was resumed. */
        clock_offset_s = 7 * HOUR;
        assert_passed_over(&creds, later);
    }
}

static void exported_keys_of_a_resumed_session_are_new(void **state)
{
    for (int psk = 0; psk < 2; psk++) {
        g_auto(Credentials) creds = { NULL };
        g_autoptr(GBytes) ticket = NULL;
        guint8 keys[4][32], server[32];

        credentials_init(&creds, *state, psk);
        for (int i = 0; i < 4; i++) {
            g_auto(TlsPair) pair = { NULL };

            /* The last two by the same ticket. */
            pair_open(&pair, &creds, ticket);
            assert_resumed(&pair, i > 0);
            assert_true(tls_channel_export(pair.client, "EXPORTER-x", keys[i], NULL));
            assert_true(tls_channel_export(pair.server, "EXPORTER-x", server, NULL));
            assert_memory_equal(keys[i], server, 32);
            for (int j = 0; j < i; j++)
                assert_memory_not_equal(keys[i], keys[j], 32);
            if (i < 2) {
                g_clear_pointer(&ticket, g_bytes_unref);
                ticket = ticket_of(&pair);
            }
        }
    }
}

static void channels_side_by_side_have_their_own_tickets(void **state)
{
    g_auto(Credentials) creds = { NULL };
    TlsPair pairs[2] = { { NULL }, { NULL } };
    g_autoptr(GBytes) one = NULL;
    g_autoptr(GBytes) two = NULL;

    credentials_init(&creds, *state, FALSE);
    pair_open(&pairs[0], &creds, NULL);
    pair_open(&pairs[1], &creds, NULL);
    one = ticket_of(&pairs[0]);
    two = ticket_of(&pairs[1]);
    assert_false(g_bytes_equal(one, two));
    tls_pair_clear(&pairs[1]);
    pair_open(&pairs[1], &creds, two);
    assert_resumed(&pairs[1], TRUE);
    tls_pair_clear(&pairs[0]);
    pair_open(&pairs[0], &creds, one);
    assert_resumed(&pairs[0], TRUE);
    say(pairs[1].client, pairs[1].server);
    tls_pair_clear(&pairs[0]);
    tls_pair_clear(&pairs[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(session_goes_on_over_new_connections),
        cmocka_unit_test(nothing_is_resumed_before_the_handshake),
        cmocka_unit_test(ticket_comes_with_the_first_read),
        cmocka_unit_test(ticket_outlives_a_failed_channel),
        cmocka_unit_test(tickets_are_for_those_who_want_them),
        cmocka_unit_test(client_says_whether_it_takes_tickets),
        cmocka_unit_test(allowed_names_are_those_of_the_day),
        cmocka_unit_test_teardown(certificate_that_expired_meanwhile_is_refused, reset_clock),
        cmocka_unit_test(protocol_is_agreed_on_again),
        cmocka_unit_test(ticket_of_another_server_is_passed_over),
        cmocka_unit_test(ticket_does_not_lend_a_name),
        cmocka_unit_test(ticket_for_another_host_name_is_passed_over),
        cmocka_unit_test(damaged_ticket_is_passed_over),
        cmocka_unit_test_teardown(old_ticket_is_passed_over, reset_clock),
        cmocka_unit_test_teardown(ticket_is_good_for_hours, reset_clock),
        cmocka_unit_test(exported_keys_of_a_resumed_session_are_new),
        cmocka_unit_test(channels_side_by_side_have_their_own_tickets),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
