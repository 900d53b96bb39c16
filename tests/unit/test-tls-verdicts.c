/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who is let in: one row for each fault of a certificate, and what either end says of it. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/support/tls-pair.h"

#define ALPN "virt-postcopy/1"
#define DAY 86400
#define ACCEPTED (-1)

/* The clock of this program, gnutls included: files are loaded while they are good, and the
 * peers meet later. */
static time_t clock_offset;

time_t time(time_t *ret_now)
{
    struct timespec now;
    time_t seconds;

    clock_gettime(CLOCK_REALTIME, &now);
    seconds = now.tv_sec + clock_offset;
    if (ret_now)
        *ret_now = seconds;
    return seconds;
}

typedef struct {
    PkiIdentity *ca;
    PkiIdentity *other_ca;
    char *ca_pem;
    char *other_pem;
    char *both_pem;
} Authorities;

static int setup(void **state)
{
    Authorities *a = g_new0(Authorities, 1);

    a->ca = pki_identity_new(&(PkiSpec){ .common_name = "Test CA", .ca = TRUE,
                                         .starts_in_s = -30 * DAY, .ends_in_s = 30 * DAY });
    a->other_ca = pki_identity_new(&(PkiSpec){ .common_name = "Other CA", .ca = TRUE,
                                               .starts_in_s = -30 * DAY, .ends_in_s = 30 * DAY });
    a->ca_pem = pki_cert_pem(a->ca);
    a->other_pem = pki_cert_pem(a->other_ca);
    a->both_pem = g_strconcat(a->ca_pem, a->other_pem, NULL);
    *state = a;
    return 0;
}

static int teardown(void **state)
{
    Authorities *a = *state;

    pki_identity_free(a->ca);
    pki_identity_free(a->other_ca);
    g_free(a->ca_pem);
    g_free(a->other_pem);
    g_free(a->both_pem);
    g_free(a);
    return 0;
}

/* One end of a row. Empty is a good one: CN=server or CN=client, of Test CA, which it trusts. */
typedef struct {
    PkiSpec cert;
    gboolean other_ca;         /* its certificate is Other CA's, and it trusts both */
    gboolean trusts_other;     /* it trusts Other CA alone */
    gboolean revoked;          /* by a list that the other end has */
    int loaded_in_s;           /* its files were loaded then */
    const char *allowed_dns[3];
    int code;                  /* its verdict: ACCEPTED or a TlsError */
    const char *text;          /* in its message */
} End;

#define GOOD { .code = ACCEPTED }

static const struct {
    const char *row;
    const char *hostname; /* that the client asks for */
    End client;
    End server;
} rows[] = {
    { "good", "server", GOOD, GOOD },
    { "server expired", "server",
      { .code = TLS_ERROR_CERTIFICATE,
        .text = "certificate of the peer (CN=server) expired on 20" },
      { .cert = { .starts_in_s = -3 * DAY, .ends_in_s = -DAY }, .loaded_in_s = -2 * DAY,
        .code = TLS_ERROR_HANDSHAKE,
        .text = "cert.pem, CN=server): it has expired or is not valid yet" } },
    { "client expired", "server",
      { .cert = { .starts_in_s = -3 * DAY, .ends_in_s = -DAY }, .loaded_in_s = -2 * DAY,
        .code = TLS_ERROR_HANDSHAKE,
        .text = "the peer refused our certificate (" },
      { .code = TLS_ERROR_CERTIFICATE,
        .text = "certificate of the peer (CN=client) expired on 20" } },
    { "server not yet valid", "server",
      { .code = TLS_ERROR_CERTIFICATE, .text = "(CN=server) is not valid before 20" },
      { .cert = { .starts_in_s = DAY, .ends_in_s = 3 * DAY }, .loaded_in_s = 2 * DAY,
        .code = TLS_ERROR_HANDSHAKE, .text = "not valid yet" } },
    { "client not yet valid", "server",
      { .cert = { .starts_in_s = DAY, .ends_in_s = 3 * DAY }, .loaded_in_s = 2 * DAY,
        .code = TLS_ERROR_HANDSHAKE, .text = "not valid yet" },
      { .code = TLS_ERROR_CERTIFICATE, .text = "(CN=client) is not valid before 20" } },
    { "server of an unknown CA", "server",
      { .code = TLS_ERROR_CERTIFICATE,
        .text = "certificate of the peer (CN=server) was signed by an unknown authority" },
      { .other_ca = TRUE, .code = TLS_ERROR_HANDSHAKE,
        .text = "an authority the peer does not know" } },
    { "client of an unknown CA", "server",
      { .other_ca = TRUE, .code = TLS_ERROR_HANDSHAKE,
        .text = "an authority the peer does not know" },
      { .code = TLS_ERROR_CERTIFICATE,
        .text = "certificate of the peer (CN=client) was signed by an unknown authority" } },
    { "both trust another CA than the peer's", "server",
      { .code = TLS_ERROR_CERTIFICATE, .text = "unknown authority" },
      { .other_ca = TRUE, .trusts_other = TRUE, .code = TLS_ERROR_HANDSHAKE,
        .text = "an authority the peer does not know" } },
    { "server revoked", "server",
      { .code = TLS_ERROR_CERTIFICATE,
        .text = "certificate of the peer (CN=server) has been revoked" },
      { .revoked = TRUE, .code = TLS_ERROR_HANDSHAKE, .text = "): it has been revoked" } },
    { "client revoked", "server",
      { .revoked = TRUE, .code = TLS_ERROR_HANDSHAKE, .text = "): it has been revoked" },
      { .code = TLS_ERROR_CERTIFICATE,
        .text = "certificate of the peer (CN=client) has been revoked" } },

    { "host name in no name", "elsewhere",
      { .code = TLS_ERROR_HOSTNAME,
        .text = "certificate of the peer (CN=server) is for CN=server, not for 'elsewhere'" },
      { .code = TLS_ERROR_HANDSHAKE, .text = "not for the host name the peer expects" } },
    { "host name in an alternative name", "alias", GOOD,
      { .cert = { .dns = { "server", "alias" } }, .code = ACCEPTED } },
    { "host name by wildcard", "b.example.org", GOOD,
      { .cert = { .dns = { "*.example.org" } }, .code = ACCEPTED } },
    { "alternative names hide the common name", "server",
      { .code = TLS_ERROR_HOSTNAME, .text = "is for alias, 10.0.0.2, fd00::2, not for 'server'" },
      { .cert = { .dns = { "alias" }, .ip = { "10.0.0.2", "fd00::2" } },
        .code = TLS_ERROR_HANDSHAKE, .text = "host name" } },
    { "IPv4 address", "10.0.0.2", GOOD,
      { .cert = { .ip = { "10.0.0.2" } }, .code = ACCEPTED } },
    { "IPv6 address in another spelling", "fd00:0:0::2", GOOD,
      { .cert = { .dns = { "x" }, .ip = { "10.0.0.2", "fd00::2" } }, .code = ACCEPTED } },
    { "another IP address", "10.0.0.3",
      { .code = TLS_ERROR_HOSTNAME, .text = "is for 10.0.0.2, not for '10.0.0.3'" },
      { .cert = { .ip = { "10.0.0.2" } }, .code = TLS_ERROR_HANDSHAKE, .text = "host name" } },
    { "line feed in a name", "elsewhere",
      { .code = TLS_ERROR_HOSTNAME, .text = "O=Evil?error : all is well" },
      { .cert = { .organization = "Evil\nerror : all is well" }, .code = TLS_ERROR_HANDSHAKE,
        .text = "O=Evil?error : all is well" } },

    { "client's name allowed", "server", { .cert = { .organization = "Ops" }, .code = ACCEPTED },
      { .allowed_dns = { "CN=nobody,*", "*O=Ops*" }, .code = ACCEPTED } },
    { "client's name exactly", "server", { .cert = { .organization = "Ops" }, .code = ACCEPTED },
      { .allowed_dns = { "CN=client,O=Ops" }, .code = ACCEPTED } },
    { "client's name not allowed", "server",
      { .code = TLS_ERROR_HANDSHAKE, .text = "not on the peer's list of allowed ones" },
      { .allowed_dns = { "CN=nobody", "CN=clien" }, .code = TLS_ERROR_DN,
        .text = "certificate of the peer (CN=client) verifies, but its name is not on the list" } },
    { "server's name not allowed", "server",
      { .allowed_dns = { "CN=hostB" }, .code = TLS_ERROR_DN, .text = "(CN=server)" },
      { .code = TLS_ERROR_HANDSHAKE, .text = "not on the peer's list" } },
    { "server's name allowed", "server",
      { .allowed_dns = { "CN=serv*" }, .code = ACCEPTED }, GOOD },
};

/* The other end's revocation list, if this end's certificate is to be on it. */
static char *crl_for(const Authorities *a, const End *end, const PkiIdentity *own)
{
    return end->revoked ? pki_crl_pem(a->ca, own, DAY) : NULL;
}

static PkiIdentity *end_identity(const Authorities *a, const End *end, const char *name)
{
    PkiSpec spec = end->cert;

    spec.common_name = name;
    spec.issuer = end->other_ca ? a->other_ca : a->ca;
    return pki_identity_new(&spec);
}

static TlsCredentials *end_credentials(const Authorities *a, const End *end, TlsEndpoint endpoint,
                                       const PkiIdentity *own, const char *crl, const char *row)
{
    const char *cas = end->trusts_other ? a->other_pem : end->other_ca ? a->both_pem : a->ca_pem;
    g_autoptr(GError) error = NULL;
    TlsCredentials *creds;

    clock_offset = end->loaded_in_s;
    creds = tls_pair_x509(endpoint, cas, own, crl, &error);
    clock_offset = 0;
    if (!creds)
        fail_msg("%s: %s", row, error->message);
    return creds;
}

static void check_verdict(const char *row, const char *who, const TlsChannel *channel,
                          const GError *error, int code, const char *text)
{
    if (code == ACCEPTED) {
        if (!channel)
            fail_msg("%s: the %s says: %s", row, who, error->message);
        return;
    }
    if (channel)
        fail_msg("%s: the %s accepts", row, who);
    if (!g_error_matches(error, TLS_ERROR, code) || !strstr(error->message, text) ||
        strchr(error->message, '\n'))
        fail_msg("%s: the %s says (code %d): %s", row, who, error->code, error->message);
}

static void each_end_gives_its_verdict(void **state)
{
    const Authorities *a = *state;

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        const End *client = &rows[i].client;
        const End *server = &rows[i].server;
        g_autoptr(PkiIdentity) client_id = end_identity(a, client, "client");
        g_autoptr(PkiIdentity) server_id = end_identity(a, server, "server");
        g_autofree char *client_crl = crl_for(a, server, server_id);
        g_autofree char *server_crl = crl_for(a, client, client_id);
        g_autoptr(TlsCredentials) client_creds = end_credentials(
            a, client, TLS_ENDPOINT_CLIENT, client_id, client_crl, rows[i].row);
        g_autoptr(TlsCredentials) server_creds = end_credentials(
            a, server, TLS_ENDPOINT_SERVER, server_id, server_crl, rows[i].row);
        g_auto(TlsPair) pair = { NULL };

        tls_pair_init(&pair, client_creds,
                      (TlsChannelConfig){ .hostname = rows[i].hostname, .alpn = ALPN,
                                          .allowed_dns = client->allowed_dns },
                      server_creds,
                      (TlsChannelConfig){ .alpn = ALPN, .allowed_dns = server->allowed_dns });
        tls_pair_handshake(&pair);
        check_verdict(rows[i].row, "client", pair.client, pair.client_error, client->code,
                      client->text);
        check_verdict(rows[i].row, "server", pair.server, pair.server_error, server->code,
                      server->text);
    }
}

static void authority_that_expired_meanwhile_vouches_for_nobody(void **state)
{
    g_autoptr(PkiIdentity) ca = pki_identity_new(&(PkiSpec){
        .common_name = "Old CA", .ca = TRUE, .starts_in_s = -3 * DAY, .ends_in_s = -DAY });
    g_autoptr(PkiIdentity) server_id = pki_identity_new(&(PkiSpec){
        .common_name = "server", .issuer = ca, .starts_in_s = -3 * DAY });
    g_autoptr(PkiIdentity) client_id = pki_identity_new(&(PkiSpec){
        .common_name = "client", .issuer = ca, .starts_in_s = -3 * DAY });
    g_autofree char *ca_pem = pki_cert_pem(ca);
    g_autoptr(TlsCredentials) client = NULL;
    g_autoptr(TlsCredentials) server = NULL;
    g_auto(TlsPair) pair = { NULL };

    clock_offset = -2 * DAY;
    client = tls_pair_x509(TLS_ENDPOINT_CLIENT, ca_pem, client_id, NULL, NULL);
    server = tls_pair_x509(TLS_ENDPOINT_SERVER, ca_pem, server_id, NULL, NULL);
    clock_offset = 0;
    assert_non_null(client);
    assert_non_null(server);
    tls_pair_init(&pair, client, (TlsChannelConfig){ .hostname = "server" }, server,
                  (TlsChannelConfig){ 0 });
    tls_pair_handshake(&pair);
    check_verdict("CA", "client", pair.client, pair.client_error, TLS_ERROR_CERTIFICATE,
                  "(CN=server) was signed by an authority whose certificate has expired");
    check_verdict("CA", "server", pair.server, pair.server_error, TLS_ERROR_HANDSHAKE,
                  "the peer refused our certificate");
}

/* A peer that is gnutls alone: it sends what our own side would not load, and tells which alert
 * it gets. */
typedef struct {
    const char *row;
    TlsEndpoint endpoint;    /* of the raw peer */
    PkiSpec cert;            /* its own; no name: it has none */
    gboolean fake_authority; /* signed by a certificate of Test CA that is no CA */
    const char *priority;    /* NULL: TLS 1.3 */
    const char *alpn;
    int code;                /* our verdict */
    const char *text;
    int alert;               /* what the peer gets */
} RawRow;

#define TLS12 "NORMAL:-VERS-ALL:+VERS-TLS1.2"
#define SERVER TLS_ENDPOINT_SERVER
#define CLIENT TLS_ENDPOINT_CLIENT

static const RawRow raw_rows[] = {
    { "good server", SERVER, { .common_name = "server" }, .alpn = ALPN, .code = ACCEPTED },
    { "good client", CLIENT, { .common_name = "client" }, .alpn = ALPN, .code = ACCEPTED },
    { "client's certificate on a server", SERVER,
      { .common_name = "server", .purposes = { GNUTLS_KP_TLS_WWW_CLIENT } }, .alpn = ALPN,
      .code = TLS_ERROR_CERTIFICATE, .text = "(CN=server) is not for a TLS server",
      .alert = GNUTLS_A_UNSUPPORTED_CERTIFICATE },
    { "server's certificate on a client", CLIENT,
      { .common_name = "client", .purposes = { GNUTLS_KP_TLS_WWW_SERVER } }, .alpn = ALPN,
      .code = TLS_ERROR_CERTIFICATE, .text = "(CN=client) is not for a TLS client",
      .alert = GNUTLS_A_UNSUPPORTED_CERTIFICATE },
    { "server signed by a host", SERVER, { .common_name = "server" }, TRUE, .alpn = ALPN,
      .code = TLS_ERROR_CERTIFICATE, .text = "(CN=server) ", .alert = GNUTLS_A_UNKNOWN_CA },
    { "client signed by a host", CLIENT, { .common_name = "client" }, TRUE, .alpn = ALPN,
      .code = TLS_ERROR_CERTIFICATE, .text = "(CN=client) ", .alert = GNUTLS_A_UNKNOWN_CA },
    { "expired server", SERVER, { .common_name = "server", .ends_in_s = -60 }, .alpn = ALPN,
      .code = TLS_ERROR_CERTIFICATE, .text = "expired on", .alert = GNUTLS_A_CERTIFICATE_EXPIRED },
    { "no client certificate", CLIENT, { 0 }, .alpn = ALPN, .code = TLS_ERROR_CERTIFICATE,
      .text = "the peer presented no certificate", .alert = GNUTLS_A_CERTIFICATE_REQUIRED },
    { "TLS 1.2 client", CLIENT, { .common_name = "client" }, .priority = TLS12, .alpn = ALPN,
      .code = TLS_ERROR_HANDSHAKE, .text = "nothing in common: both need TLS 1.3",
      .alert = GNUTLS_A_HANDSHAKE_FAILURE },
    { "TLS 1.2 server", SERVER, { .common_name = "server" }, .priority = TLS12, .alpn = ALPN,
      .code = TLS_ERROR_HANDSHAKE, .text = "nothing in common: both need TLS 1.3",
      .alert = 0 /* it is the one to refuse */ },
    { "other ALPN, client", CLIENT, { .common_name = "client" }, .alpn = "virt-postcopy/2",
      .code = TLS_ERROR_HANDSHAKE, .text = "application protocol 'virt-postcopy/1'",
      .alert = GNUTLS_A_NO_APPLICATION_PROTOCOL },
    { "other ALPN, server", SERVER, { .common_name = "server" }, .alpn = "h2",
      .code = TLS_ERROR_HANDSHAKE, .text = "application protocol 'virt-postcopy/1'",
      .alert = GNUTLS_A_NO_APPLICATION_PROTOCOL },
    { "no ALPN, client", CLIENT, { .common_name = "client" }, .code = TLS_ERROR_HANDSHAKE,
      .text = "application protocol 'virt-postcopy/1'",
      .alert = GNUTLS_A_NO_APPLICATION_PROTOCOL },
    { "no ALPN, server", SERVER, { .common_name = "server" }, .code = TLS_ERROR_HANDSHAKE,
      .text = "application protocol 'virt-postcopy/1'",
      .alert = GNUTLS_A_NO_APPLICATION_PROTOCOL },
};

typedef struct {
    gnutls_session_t session;
    gnutls_certificate_credentials_t creds;
    gboolean open;
    int alert; /* it got, or 0 */
    gboolean over;
} RawPeer;

/* Its certificate, and in between one that claims to be an authority. */
static void raw_set_certificate(RawPeer *raw, const RawRow *row, const Authorities *a)
{
    g_autoptr(PkiIdentity) fake = pki_identity_new(
        &(PkiSpec){ .common_name = "some host", .issuer = a->ca });
    PkiSpec spec = row->cert;
    g_autoptr(PkiIdentity) own = NULL;
    gnutls_x509_crt_t chain[2];

    spec.issuer = row->fake_authority ? fake : a->ca;
    own = pki_identity_new(&spec);
    chain[0] = pki_cert(own);
    chain[1] = pki_cert(fake);
    assert_int_equal(gnutls_certificate_set_x509_key(raw->creds, chain, row->fake_authority ? 2 : 1,
                                                     pki_key(own)), 0);
}

static void raw_init(RawPeer *raw, const RawRow *row, const Authorities *a, int fd)
{
    gboolean server = row->endpoint == TLS_ENDPOINT_SERVER;
    const gnutls_datum_t alpn = { (unsigned char *)row->alpn,
                                  row->alpn ? (unsigned int)strlen(row->alpn) : 0 };

    assert_int_equal(gnutls_certificate_allocate_credentials(&raw->creds), 0);
    if (row->cert.common_name)
        raw_set_certificate(raw, row, a);
    assert_int_equal(gnutls_init(&raw->session, (server ? GNUTLS_SERVER : GNUTLS_CLIENT) |
                                                    GNUTLS_NONBLOCK | GNUTLS_FORCE_CLIENT_CERT |
                                                    GNUTLS_NO_SIGNAL), 0);
    assert_int_equal(gnutls_priority_set_direct(
                         raw->session, row->priority ? row->priority : "NORMAL", NULL), 0);
    gnutls_credentials_set(raw->session, GNUTLS_CRD_CERTIFICATE, raw->creds);
    if (server)
        gnutls_certificate_server_set_request(raw->session, GNUTLS_CERT_REQUEST);
    if (row->alpn)
        gnutls_alpn_set_protocols(raw->session, &alpn, 1, 0);
    gnutls_transport_set_int(raw->session, fd);
}

/* One turn of its handshake, or of listening when that is done. */
static void raw_step(RawPeer *raw)
{
    guint8 buf[64];
    int ret;

    if (raw->over)
        return;
    ret = raw->open ? (int)gnutls_record_recv(raw->session, buf, sizeof(buf))
                    : gnutls_handshake(raw->session);
    if (ret == 0 && !raw->open) {
        raw->open = TRUE;
    } else if (ret == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        raw->alert = gnutls_alert_get(raw->session);
        raw->over = TRUE;
    } else if (ret == 0 || gnutls_error_is_fatal(ret)) {
        if (!raw->open)
            gnutls_alert_send_appropriate(raw->session, ret);
        raw->over = TRUE;
    }
}

/* The verdict of our end, which is closed if it is bad. */
static void meet_raw(TlsChannel **ours, RawPeer *raw, GError **ret_error)
{
    gboolean open = FALSE;

    for (int turn = 0; turn < 100; turn++) {
        if (*ours && !open) {
            g_autoptr(GError) error = NULL;

            open = tls_channel_handshake(*ours, &error);
            if (!open && !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK)) {
                g_propagate_error(ret_error, g_steal_pointer(&error));
                g_clear_pointer(ours, tls_channel_free);
            }
        }
        raw_step(raw);
        if ((open && raw->open) || (!*ours && raw->over))
            return;
    }
    fail_msg("the handshake does not end");
}

static void faulty_peers_get_the_alert_that_fits(void **state)
{
    const Authorities *a = *state;
    g_autoptr(PkiIdentity) own = pki_identity_new(
        &(PkiSpec){ .common_name = "ours", .issuer = a->ca });

    for (gsize i = 0; i < G_N_ELEMENTS(raw_rows); i++) {
        const RawRow *row = &raw_rows[i];
        TlsEndpoint endpoint = row->endpoint == CLIENT ? SERVER : CLIENT;
        g_autoptr(TlsCredentials) creds = tls_pair_x509(endpoint, a->ca_pem, own, NULL, NULL);
        g_autoptr(TlsChannel) channel = NULL;
        g_autoptr(GError) error = NULL;
        RawPeer raw = { NULL };
        int fds[2];

        tls_pair_sockets(fds);
        raw_init(&raw, row, a, fds[0]);
        channel = tls_channel_new(fds[1], creds,
                                  &(TlsChannelConfig){ .endpoint = endpoint, .alpn = ALPN,
                                                       .hostname = endpoint == CLIENT ? "server"
                                                                                      : NULL },
                                  NULL);
        assert_non_null(channel);
        meet_raw(&channel, &raw, &error);
        check_verdict(row->row, "channel", channel, error, row->code, row->text);
        if (raw.alert != row->alert)
            fail_msg("%s: the peer got alert %d", row->row, raw.alert);
        gnutls_deinit(raw.session);
        gnutls_certificate_free_credentials(raw.creds);
        close(fds[0]);
    }
}

#define KEY_A "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define KEY_B "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static void pre_shared_keys_must_match(void **state)
{
    static const struct {
        const char *row;
        const char *client;
        const char *server;
        int code;
        const char *client_text;
        const char *server_text;
    } psk_rows[] = {
        { "good", "hostA:" KEY_A "\n", "hostA:" KEY_A "\n", ACCEPTED, NULL, NULL },
        { "second line", "hostA:" KEY_A "\n", "hostB:" KEY_B "\nhostA:" KEY_A "\n", ACCEPTED, NULL,
          NULL },
        { "wrong key", "hostA:" KEY_A "\n", "hostA:" KEY_B "\n", TLS_ERROR_HANDSHAKE,
          "it does not know the identity 'hostA' or has another key for it",
          "or a different one" },
        { "unknown identity", "hostC:" KEY_A "\n", "hostA:" KEY_A "\n", TLS_ERROR_HANDSHAKE,
          "it does not know the identity 'hostC' or has another key for it",
          "identity 'hostC', which is not in " },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(psk_rows); i++) {
        g_autoptr(TlsCredentials) client = tls_pair_psk(CLIENT, psk_rows[i].client);
        g_autoptr(TlsCredentials) server = tls_pair_psk(SERVER, psk_rows[i].server);
        g_auto(TlsPair) pair = { NULL };

        tls_pair_init(&pair, client, (TlsChannelConfig){ .alpn = ALPN }, server,
                      (TlsChannelConfig){ .alpn = ALPN });
        tls_pair_handshake(&pair);
        check_verdict(psk_rows[i].row, "client", pair.client, pair.client_error, psk_rows[i].code,
                      psk_rows[i].client_text);
        check_verdict(psk_rows[i].row, "server", pair.server, pair.server_error, psk_rows[i].code,
                      psk_rows[i].server_text);
        if (pair.server)
            assert_string_equal(tls_channel_peer_name(pair.server), "hostA");
    }
}

static void a_key_and_a_certificate_do_not_meet(void **state)
{
    const Authorities *a = *state;
    g_autoptr(PkiIdentity) own = pki_identity_new(
        &(PkiSpec){ .common_name = "server", .issuer = a->ca });

    for (int psk_client = 0; psk_client < 2; psk_client++) {
        g_autoptr(TlsCredentials) client =
            psk_client ? tls_pair_psk(CLIENT, "hostA:" KEY_A "\n")
                       : tls_pair_x509(CLIENT, a->ca_pem, own, NULL, NULL);
        g_autoptr(TlsCredentials) server =
            psk_client ? tls_pair_x509(SERVER, a->ca_pem, own, NULL, NULL)
                       : tls_pair_psk(SERVER, "hostA:" KEY_A "\n");
        g_auto(TlsPair) pair = { NULL };

        tls_pair_init(&pair, client, (TlsChannelConfig){ .hostname = "server" }, server,
                      (TlsChannelConfig){ 0 });
        tls_pair_handshake(&pair);
        check_verdict("mixed", "client", pair.client, pair.client_error, TLS_ERROR_HANDSHAKE,
                      "nothing in common");
        check_verdict("mixed", "server", pair.server, pair.server_error, TLS_ERROR_HANDSHAKE,
                      "nothing in common");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_end_gives_its_verdict),
        cmocka_unit_test(authority_that_expired_meanwhile_vouches_for_nobody),
        cmocka_unit_test(faulty_peers_get_the_alert_that_fits),
        cmocka_unit_test(pre_shared_keys_must_match),
        cmocka_unit_test(a_key_and_a_certificate_do_not_meet),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
