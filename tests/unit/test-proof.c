/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The proof that two channels belong together: the same at both ends, and another for whatever
 * differs. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <gnutls/crypto.h>
#include <string.h>

#include "tests/support/tls-pair.h"
#include "tls/proof.h"

#define PSK_LINES "host:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"

typedef struct {
    guint8 bytes[HELLO_PROOF_LEN];
} Proof;

static void pair_open(TlsPair *pair)
{
    g_autoptr(TlsCredentials) client = tls_pair_psk(TLS_ENDPOINT_CLIENT, PSK_LINES);
    g_autoptr(TlsCredentials) server = tls_pair_psk(TLS_ENDPOINT_SERVER, PSK_LINES);
    TlsChannelConfig config = { .alpn = "virt-postcopy/1" };

    tls_pair_init(pair, client, config, server, config);
    tls_pair_handshake(pair);
    assert_null(pair->client_error);
    assert_null(pair->server_error);
}

static Proof proof_of(TlsChannel *main_channel, TlsChannel *channel, ChannelKind kind,
                      guint16 number)
{
    g_autoptr(GError) error = NULL;
    guint8 key[CHANNEL_KEY_LEN];
    Proof proof;

    memset(&proof, 0, sizeof proof);
    if (!channel_key(main_channel, key, &error) ||
        !channel_proof(key, channel, kind, number, proof.bytes, &error))
        fail_msg("%s", error->message);
    return proof;
}

static void both_ends_have_the_same_proof(void **state)
{
    g_auto(TlsPair) main_pair, other;
    Proof client, server, zero = { { 0 } };

    pair_open(&main_pair);
    pair_open(&other);
    client = proof_of(main_pair.client, other.client, CHANNEL_PREEMPT, 1);
    server = proof_of(main_pair.server, other.server, CHANNEL_PREEMPT, 1);
    assert_memory_equal(&client, &server, sizeof client);
    assert_memory_not_equal(&client, &zero, sizeof client);
}

static void proof_is_the_one_of_the_protocol(void **state)
{
    g_auto(TlsPair) main_pair, other;
    guint8 key[32], text[35] = { CHANNEL_PREEMPT, 0x01, 0x02 };
    Proof proof, expected;

    pair_open(&main_pair);
    pair_open(&other);
    proof = proof_of(main_pair.client, other.client, CHANNEL_PREEMPT, 0x0102);
    assert_true(tls_channel_export(main_pair.server, "EXPORTER-virt-postcopy-channel", key, NULL));
    assert_true(tls_channel_export(other.server, "EXPORTER-virt-postcopy-channel", text + 3,
                                   NULL));
    assert_int_equal(gnutls_hmac_fast(GNUTLS_MAC_SHA256, key, 32, text, 35, expected.bytes), 0);
    assert_memory_equal(&proof, &expected, sizeof proof);
}

static void proof_differs_if_anything_does(void **state)
{
    g_auto(TlsPair) main_pair, other_main, channel, other_channel;
    Proof good, proofs[6];

    pair_open(&main_pair);
    pair_open(&other_main);
    pair_open(&channel);
    pair_open(&other_channel);
    good = proof_of(main_pair.client, channel.client, CHANNEL_PREEMPT, 1);
    proofs[0] = proof_of(main_pair.client, channel.client, CHANNEL_BULK, 1);
    proofs[1] = proof_of(main_pair.client, channel.client, CHANNEL_PREEMPT, 2);
    proofs[2] = proof_of(main_pair.client, channel.client, CHANNEL_PREEMPT, 0x100);
    proofs[3] = proof_of(other_main.client, channel.client, CHANNEL_PREEMPT, 1);
    /* Replayed on another connection. */
    proofs[4] = proof_of(main_pair.client, other_channel.client, CHANNEL_PREEMPT, 1);
    proofs[5] = proof_of(channel.client, main_pair.client, CHANNEL_PREEMPT, 1);
    for (gsize i = 0; i < G_N_ELEMENTS(proofs); i++)
        assert_memory_not_equal(&good, &proofs[i], sizeof good);
}

/* The session goes on, and each connection of it has a proof of its own. */
static void key_outlives_the_connection_it_is_from(void **state)
{
    g_auto(TlsPair) main_pair, again;
    guint8 client_key[CHANNEL_KEY_LEN], server_key[CHANNEL_KEY_LEN];
    Proof client, server, before;

    pair_open(&main_pair);
    assert_true(channel_key(main_pair.client, client_key, NULL));
    assert_true(channel_key(main_pair.server, server_key, NULL));
    assert_true(channel_proof(client_key, main_pair.client, CHANNEL_MAIN, 0, before.bytes, NULL));
    tls_pair_clear(&main_pair);
    pair_open(&again);
    assert_true(channel_proof(client_key, again.client, CHANNEL_MAIN, 0, client.bytes, NULL));
    assert_true(channel_proof(server_key, again.server, CHANNEL_MAIN, 0, server.bytes, NULL));
    assert_memory_equal(&client, &server, sizeof client);
    assert_memory_not_equal(&client, &before, sizeof client);
}

static void proof_needs_open_channels(void **state)
{
    g_autoptr(TlsCredentials) client = tls_pair_psk(TLS_ENDPOINT_CLIENT, PSK_LINES);
    g_autoptr(TlsCredentials) server = tls_pair_psk(TLS_ENDPOINT_SERVER, PSK_LINES);
    g_autoptr(GError) no_key = NULL;
    g_autoptr(GError) no_proof = NULL;
    guint8 key[CHANNEL_KEY_LEN] = { 1 }, proof[HELLO_PROOF_LEN];
    g_auto(TlsPair) closed;

    tls_pair_init(&closed, client, (TlsChannelConfig){ 0 }, server, (TlsChannelConfig){ 0 });
    assert_false(channel_key(closed.client, key, &no_key));
    assert_int_equal(no_key->domain, TLS_ERROR);
    assert_false(channel_proof(key, closed.client, CHANNEL_PREEMPT, 1, proof, &no_proof));
    assert_int_equal(no_proof->domain, TLS_ERROR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ends_have_the_same_proof),
        cmocka_unit_test(proof_is_the_one_of_the_protocol),
        cmocka_unit_test(proof_differs_if_anything_does),
        cmocka_unit_test(key_outlives_the_connection_it_is_from),
        cmocka_unit_test(proof_needs_open_channels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
