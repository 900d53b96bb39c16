/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A recovery's connection, both halves over loopback: who is let in, and what may be said there. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <netinet/in.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver/listen_socket.h"
#include "driver/migration_priv.h"
#include "driver/recovery_client.h"
#include "driver/recovery_dial.h"
#include "driver/recovery_port.h"
#include "driver/recovery_tls.h"
#include "driver/rpc_error.h"
#include "driver/rpc_xdr.h"
#include "driver/session_dial.h"
#include "tests/support/rpc-end.h"
#include "tests/support/tls-pair.h"
#include "util/autofd.h"

#define DOMAIN "vm1"

/* ---- two hosts in one: the destination's driver, and a migration port in front of it ---- */

typedef struct {
    char *dir; /* credentials and libvirtd's socket */
    Settings *settings;
    Driver driver; /* of the destination: only what a recovery needs */
    MigrationUri uri; /* as the source knows it */
    char *upstream_path;
    int upstream;
    RpcStream *client; /* the source's, once it is in */
    GError *error;     /* or why not */
    guint done;
} Fixture;

static void write_identity(Fixture *f, const char *name, const PkiIdentity *identity)
{
    g_autofree char *cert = pki_cert_pem(identity);
    g_autofree char *key = pki_key_pem(identity);
    g_autofree char *cert_name = g_strconcat(name, "cert.pem", NULL);
    g_autofree char *key_name = g_strconcat(name, "key.pem", NULL);

    g_free(pki_dir_write(f->dir, cert_name, cert, -1));
    g_free(pki_dir_write(f->dir, key_name, key, -1));
}

static void write_credentials(Fixture *f)
{
    g_autoptr(PkiIdentity) ca =
        pki_identity_new(&(PkiSpec){ .common_name = "test CA", .ca = TRUE });
    g_autoptr(PkiIdentity) server = pki_identity_new(&(PkiSpec){
        .common_name = "b.test", .issuer = ca, .dns = { "b.test" }, .ip = { "127.0.0.1" } });
    g_autoptr(PkiIdentity) client =
        pki_identity_new(&(PkiSpec){ .common_name = "a.test", .issuer = ca, .dns = { "a.test" } });
    g_autofree char *ca_cert = pki_cert_pem(ca);

    g_free(pki_dir_write(f->dir, "cacert.pem", ca_cert, -1));
    write_identity(f, "server", server);
    write_identity(f, "client", client);
    g_free(pki_dir_write(f->dir, "keys.psk", "host:00112233445566778899aabbccddeeff\n", -1));
}

static Settings *make_settings(const Fixture *f, const char *more)
{
    g_autofree char *text = g_strdup_printf(
        "unix_sock_dir = '%1$s'\nupstream_socket = '%2$s'\nhelper_user = '%3$s'\n"
        "ca_file = '%1$s/cacert.pem'\ncert_file = '%1$s/servercert.pem'\n"
        "key_file = '%1$s/serverkey.pem'\nclient_cert_file = '%1$s/clientcert.pem'\n"
        "client_key_file = '%1$s/clientkey.pem'\nmigration_address = '127.0.0.1'\n"
        "connect_timeout = 20\n%4$s",
        f->dir, f->upstream_path, getpwuid(getuid())->pw_name, more);
    g_autoptr(GError) error = NULL;
    Settings *settings = settings_parse(text, strlen(text), "f.conf", &error);

    if (!settings)
        fail_msg("%s", error->message);
    return settings;
}

static void on_rpc(int fd, SessionPurpose purpose, const char *address,
                   const guint8 session[MIGRATION_SESSION_LEN], gpointer data)
{
    Fixture *f = data;

    recovery_port_take(&f->driver, fd, address, session);
}

/* A port that was free a moment ago. */
static guint16 free_port(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof address;
    autofd fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    return ntohs(address.sin_port);
}

static void listen_on_loopback(Fixture *f)
{
    g_autoptr(GError) error = NULL;

    for (guint tries = 0; !f->driver.port && tries < 10; tries++) {
        g_clear_error(&error);
        f->settings->migration_port = f->uri.port = free_port();
        f->driver.port = session_port_new(f->driver.set, on_rpc, f, &error);
    }
    if (!f->driver.port)
        fail_msg("%s", error->message);
    f->uri.host = g_strdup("127.0.0.1");
}

/* A session of the destination that has broken. */
static void add_record(Fixture *f)
{
    JobRecord *record = job_record_new();

    record->side = MIGRATION_SIDE_DESTINATION;
    record->domain = g_strdup(DOMAIN);
    record->begun = g_get_real_time();
    record->broken = record->begun / G_USEC_PER_SEC;
    memset(record->uri.session, 7, sizeof record->uri.session);
    memset(record->uri.token, 9, sizeof record->uri.token);
    memcpy(f->uri.session, record->uri.session, sizeof f->uri.session);
    memcpy(f->uri.token, record->uri.token, sizeof f->uri.token);
    g_ptr_array_add(f->driver.set->broken, record);
}

static Fixture *setup_with(const char *more)
{
    Fixture *f = g_new0(Fixture, 1);
    g_autoptr(GError) error = NULL;

    f->dir = pki_dir_new();
    f->upstream_path = g_build_filename(f->dir, "libvirt-sock", NULL);
    f->upstream = listen_socket_unix(f->upstream_path, 0700, (gid_t)-1, &error);
    assert_true(f->upstream >= 0);
    write_credentials(f);
    f->settings = make_settings(f, more);
    f->driver.settings = f->settings;
    f->driver.set = migration_set_new(f->settings, &error);
    assert_non_null(f->driver.set);
    f->driver.stopped = g_cancellable_new();
    f->driver.recovery_clients = g_ptr_array_new();
    add_record(f);
    listen_on_loopback(f);
    return f;
}

static int setup(void **state)
{
    *state = setup_with("");
    return 0;
}

static int setup_psk(void **state)
{
    Fixture *f = setup_with("migration_auth = 'psk'\nmigration_psk_file = '/nowhere'\n");

    g_free(f->settings->migration_psk_file);
    f->settings->migration_psk_file = g_build_filename(f->dir, "keys.psk", NULL);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;

    if (f->client)
        rpc_stream_close(f->client, FALSE);
    g_clear_pointer(&f->client, rpc_stream_unref);
    g_cancellable_cancel(f->driver.stopped);
    session_port_free(f->driver.port);
    recovery_clients_close(&f->driver);
    rpc_test_settle();
    migration_set_free(f->driver.set);
    g_ptr_array_unref(f->driver.recovery_clients);
    g_object_unref(f->driver.stopped);
    listen_socket_remove(f->upstream, f->upstream_path);
    close(f->upstream);
    settings_free(f->settings);
    migration_uri_clear(&f->uri);
    g_clear_error(&f->error);
    pki_dir_remove(f->dir);
    g_free(f->upstream_path);
    g_free(f);
    return 0;
}

static void on_dialled(GObject *source, GAsyncResult *result, gpointer data)
{
    Fixture *f = data;

    f->client = recovery_dial_finish(result, &f->error);
    f->done++;
}

static gboolean is_done(gpointer data)
{
    return ((Fixture *)data)->done > 0;
}

static gboolean nobody_waits(gpointer data)
{
    return ((Fixture *)data)->driver.recovery_callers == 0;
}

static void dial(Fixture *f, const char *tls_name)
{
    recovery_dial(f->settings, &f->uri, tls_name, on_dialled, f);
    assert_true(rpc_test_until(is_done, f));
    assert_true((f->client != NULL) == (f->error == NULL));
}

static gboolean has_connection(gpointer data)
{
    fd_set set;
    struct timeval now = { 0 };
    int fd = ((Fixture *)data)->upstream;

    FD_ZERO(&set);
    FD_SET(fd, &set);
    return select(fd + 1, &set, NULL, NULL, &now) == 1;
}

/* Its libvirtd's end. */
static RpcEnd *upstream_end(Fixture *f)
{
    int fd;

    assert_true(rpc_test_until(has_connection, f));
    fd = accept4(f->upstream, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    return rpc_end_new(rpc_stream_new_socket(fd, TRUE));
}

/* ---- who is let in ---- */

static void calls_of_who_has_the_token_reach_libvirt(Fixture *f, const char *tls_name)
{
    g_autoptr(RpcEnd) source = NULL, upstream = NULL;
    g_autoptr(RpcFrame) call = rpc_test_frame(RPC_TYPE_CALL, 66, 0, 0);
    g_autoptr(RpcFrame) reply = rpc_test_frame(RPC_TYPE_REPLY, 66, 0, 4);

    dial(f, tls_name);
    if (f->error)
        fail_msg("%s", f->error->message);
    source = rpc_end_new(g_steal_pointer(&f->client));
    upstream = upstream_end(f);
    rpc_stream_send(source->stream, rpc_test_copy(call));
    assert_true(rpc_test_until_frames(upstream, 1));
    assert_true(rpc_test_same(rpc_end_frame(upstream, 0), call));
    rpc_stream_send(upstream->stream, rpc_test_copy(reply));
    assert_true(rpc_test_until_frames(source, 1));
    assert_true(rpc_test_same(rpc_end_frame(source, 0), reply));
    assert_int_equal(f->driver.recovery_callers, 0);
}

static void test_who_has_the_token_is_joined_to_libvirt(void **state)
{
    calls_of_who_has_the_token_reach_libvirt(*state, "b.test");
}

static void test_without_a_name_the_certificate_is_for_the_host(void **state)
{
    calls_of_who_has_the_token_reach_libvirt(*state, NULL);
}

static void test_who_has_the_token_is_joined_with_a_shared_key(void **state)
{
    calls_of_who_has_the_token_reach_libvirt(*state, "b.test");
}

static void test_wrong_token_is_refused(void **state)
{
    Fixture *f = *state;

    f->uri.token[31] ^= 1;
    dial(f, "b.test");
    assert_non_null(f->error);
    assert_non_null(strstr(f->error->message, "refused the proof"));
    assert_true(rpc_test_until(nobody_waits, f));
    assert_false(has_connection(f));
}

static void test_certificate_for_another_host_is_refused(void **state)
{
    Fixture *f = *state;

    dial(f, "c.test");
    assert_true(g_error_matches(f->error, TLS_ERROR, TLS_ERROR_HOSTNAME));
    assert_true(rpc_test_until(nobody_waits, f));
}

static void test_name_that_is_not_on_the_list_is_refused(void **state)
{
    static char *list[] = { (char *)"CN=z.test", NULL };
    Fixture *f = *state;
    char **before = f->settings->migration_allowed_dn_list;

    f->settings->migration_allowed_dn_list = list;
    dial(f, "b.test");
    f->settings->migration_allowed_dn_list = before;
    assert_true(g_error_matches(f->error, TLS_ERROR, TLS_ERROR_DN));
}

static void test_unknown_session_is_told_apart(void **state)
{
    Fixture *f = *state;

    f->uri.session[0] ^= 1;
    dial(f, "b.test");
    assert_true(g_error_matches(f->error, SESSION_DIAL_ERROR, SESSION_DIAL_ERROR_UNKNOWN));
    assert_int_equal(f->driver.recovery_callers, 0);
}

static void test_who_dials_again_takes_the_place_of_the_one_before(void **state)
{
    Fixture *f = *state;
    g_autoptr(RpcEnd) first = NULL, second = NULL, first_upstream = NULL, second_upstream = NULL;

    dial(f, "b.test");
    first = rpc_end_new(g_steal_pointer(&f->client));
    first_upstream = upstream_end(f);
    f->done = 0;
    dial(f, "b.test");
    second = rpc_end_new(g_steal_pointer(&f->client));
    second_upstream = upstream_end(f);
    assert_true(rpc_test_until_closed(first));
    assert_true(rpc_test_until_closed(first_upstream));
    rpc_test_settle();
    assert_int_equal(second->closed, 0);
    assert_int_equal(second_upstream->closed, 0);
}

/* ---- what may be said ---- */

static void test_call_that_has_no_part_in_a_recovery_is_answered_with_an_error(void **state)
{
    Fixture *f = *state;
    g_autoptr(RpcEnd) source = NULL, upstream = NULL;
    g_auto(RpcError) answer = { 0 };
    const guint8 *payload;
    gsize len;

    dial(f, "b.test");
    source = rpc_end_new(g_steal_pointer(&f->client));
    upstream = upstream_end(f);
    rpc_stream_send(source->stream, rpc_test_frame(RPC_TYPE_CALL, 12, 5, 0)); /* DOMAIN_DESTROY */
    assert_true(rpc_test_until_frames(source, 1));
    payload = rpc_frame_payload(rpc_end_frame(source, 0), &len);
    assert_true(rpc_error_decode(payload, len, &answer, NULL));
    assert_int_equal(answer.code, VIR_ERR_OPERATION_DENIED);
    assert_non_null(strstr(answer.message, "procedure 12 "));
    rpc_test_settle();
    assert_int_equal(upstream->frames->len, 0);
    assert_int_equal(source->closed, 0);
}

static RpcFrame *call_frame(gint32 procedure, xdrproc_t proc, void *args)
{
    RpcHeader header = { .program = RPC_PROGRAM_REMOTE, .version = 1, .procedure = procedure };
    g_autoptr(GByteArray) payload = rpc_xdr_encode(proc, args, "", NULL);

    return rpc_frame_new(&header, payload->data, payload->len);
}

static RpcFrame *prepare(const char *dname, const char *xml, guint flags)
{
    remote_param params[2] = { { .field = (char *)"destination_xml" },
                               { .field = (char *)"destination_name" } };
    remote_prepare3_params args = { .params = { 0, params }, .flags = flags };

    params[0].value.type = params[1].value.type = REMOTE_PARAM_STRING;
    params[0].value.remote_param_value_u.s = (char *)xml;
    params[1].value.remote_param_value_u.s = (char *)dname;
    args.params.remote_params_len = dname ? 2 : 1;
    return call_frame(303, (xdrproc_t)xdr_remote_prepare3_params, &args);
}

static RpcFrame *finish(const char *dname, guint flags)
{
    remote_param param = { .field = (char *)"destination_name" };
    remote_finish3_params args = { .params = { 1, &param }, .flags = flags };

    param.value.type = REMOTE_PARAM_STRING;
    param.value.remote_param_value_u.s = (char *)dname;
    return call_frame(306, (xdrproc_t)xdr_remote_finish3_params, &args);
}

#define RESUME (VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_POSTCOPY_RESUME)
#define XML(name) "<domain><name>" name "</name></domain>"

static gboolean may(RpcFrame *frame)
{
    g_autoptr(RpcFrame) call = frame;

    return recovery_call_problem(call, DOMAIN) == NULL;
}

static void test_only_a_resume_of_its_own_domain_may_be_prepared_and_finished(void **state)
{
    assert_true(may(prepare(NULL, XML(DOMAIN), RESUME)));
    assert_true(may(prepare(DOMAIN, XML("other"), RESUME)));
    assert_false(may(prepare("other", XML(DOMAIN), RESUME)));
    assert_false(may(prepare(NULL, XML("other"), RESUME)));
    assert_false(may(prepare(NULL, "no XML", RESUME)));
    assert_false(may(prepare(NULL, XML(DOMAIN), VIR_MIGRATE_POSTCOPY)));
    assert_false(may(prepare(NULL, XML(DOMAIN), VIR_MIGRATE_POSTCOPY_RESUME)));
    assert_false(may(prepare(NULL, XML(DOMAIN), RESUME | VIR_MIGRATE_OFFLINE)));
    assert_false(may(prepare(NULL, XML(DOMAIN), RESUME | VIR_MIGRATE_TUNNELLED)));
    assert_false(may(prepare(NULL, XML(DOMAIN), RESUME | VIR_MIGRATE_PARALLEL)));
    assert_false(may(prepare(NULL, XML(DOMAIN), RESUME | 1u << 20))); /* ZEROCOPY */
    assert_true(may(prepare(NULL, XML(DOMAIN),
                            RESUME | VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER |
                                VIR_MIGRATE_PERSIST_DEST | VIR_MIGRATE_CHANGE_PROTECTION)));
    assert_false(may(prepare(NULL, XML(DOMAIN), 0)));
    assert_true(may(finish(DOMAIN, RESUME)));
    assert_false(may(finish("other", RESUME)));
    assert_false(may(finish(DOMAIN, VIR_MIGRATE_POSTCOPY)));
    assert_false(may(finish(DOMAIN, VIR_MIGRATE_POSTCOPY_RESUME)));
    assert_false(may(finish(DOMAIN, RESUME | VIR_MIGRATE_OFFLINE)));
}

static void refused(RpcEnd *source, guint n, const char *words)
{
    g_auto(RpcError) answer = { 0 };
    const guint8 *payload;
    gsize len;

    assert_true(rpc_test_until_frames(source, n + 1));
    payload = rpc_frame_payload(rpc_end_frame(source, n), &len);
    assert_true(rpc_error_decode(payload, len, &answer, NULL));
    assert_int_equal(answer.code, VIR_ERR_OPERATION_DENIED);
    assert_non_null(strstr(answer.message, words));
}

static void test_right_ends_with_the_session(void **state)
{
    Fixture *f = *state;
    g_autoptr(RpcEnd) source = NULL, upstream = NULL;

    dial(f, "b.test");
    source = rpc_end_new(g_steal_pointer(&f->client));
    upstream = upstream_end(f);
    migration_set_forget(f->driver.set, MIGRATION_SIDE_DESTINATION, DOMAIN);
    rpc_stream_send(source->stream, prepare(NULL, XML(DOMAIN), RESUME));
    refused(source, 0, "not known any more");
    rpc_stream_send(source->stream, finish(DOMAIN, RESUME));
    refused(source, 1, "not known any more");
    rpc_test_settle();
    assert_int_equal(upstream->frames->len, 0);
}

static void test_truncated_phase_is_refused(void **state)
{
    RpcHeader header = { .program = RPC_PROGRAM_REMOTE, .version = 1, .procedure = 303 };

    assert_false(may(rpc_frame_new(&header, "abcd", 4)));
}

static void test_nothing_else_is_let_through(void **state)
{
    static const gint32 allowed[] = { 1, 2, 60, 66, 110, 360, 361 };
    RpcHeader header = { .program = RPC_PROGRAM_REMOTE, .version = 1 };
    guint n = 0;

    for (header.procedure = -1; header.procedure < 1000; header.procedure++)
        n += may(rpc_frame_new(&header, NULL, 0));
    assert_int_equal(n, G_N_ELEMENTS(allowed));
    for (gsize i = 0; i < G_N_ELEMENTS(allowed); i++) {
        header.procedure = allowed[i];
        assert_true(may(rpc_frame_new(&header, NULL, 0)));
    }
    header.program = RPC_PROGRAM_QEMU;
    header.procedure = 1;
    assert_false(may(rpc_frame_new(&header, NULL, 0)));
}

/* ---- the proof ---- */

static void test_proof_is_of_the_token_and_of_the_connection(void **state)
{
    g_autoptr(PkiIdentity) ca =
        pki_identity_new(&(PkiSpec){ .common_name = "test CA", .ca = TRUE });
    g_autoptr(PkiIdentity) server = pki_identity_new(
        &(PkiSpec){ .common_name = "b.test", .issuer = ca, .dns = { "b.test" } });
    g_autofree char *cas = pki_cert_pem(ca);
    g_autoptr(TlsCredentials) client_creds =
        tls_pair_x509(TLS_ENDPOINT_CLIENT, cas, server, NULL, NULL);
    g_autoptr(TlsCredentials) server_creds =
        tls_pair_x509(TLS_ENDPOINT_SERVER, cas, server, NULL, NULL);
    TlsChannelConfig client = { .hostname = "b.test", .alpn = RECOVERY_ALPN };
    TlsChannelConfig config = { .alpn = RECOVERY_ALPN };
    guint8 token[MIGRATION_TOKEN_LEN] = { 1 }, other[MIGRATION_TOKEN_LEN] = { 2 };
    guint8 proofs[4][RECOVERY_PROOF_LEN];
    g_auto(TlsPair) one = { 0 }, two = { 0 };

    tls_pair_init(&one, client_creds, client, server_creds, config);
    tls_pair_init(&two, client_creds, client, server_creds, config);
    tls_pair_handshake(&one);
    tls_pair_handshake(&two);
    assert_true(recovery_proof(one.client, token, proofs[0], NULL));
    assert_true(recovery_proof(one.server, token, proofs[1], NULL));
    assert_true(recovery_proof(one.server, other, proofs[2], NULL));
    assert_true(recovery_proof(two.server, token, proofs[3], NULL));
    assert_memory_equal(proofs[0], proofs[1], RECOVERY_PROOF_LEN);
    assert_memory_not_equal(proofs[0], proofs[2], RECOVERY_PROOF_LEN);
    assert_memory_not_equal(proofs[0], proofs[3], RECOVERY_PROOF_LEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_who_has_the_token_is_joined_to_libvirt, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_without_a_name_the_certificate_is_for_the_host, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_who_has_the_token_is_joined_with_a_shared_key,
                                        setup_psk, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_token_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_certificate_for_another_host_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_name_that_is_not_on_the_list_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_unknown_session_is_told_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_dials_again_takes_the_place_of_the_one_before,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_call_that_has_no_part_in_a_recovery_is_answered_with_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(test_right_ends_with_the_session, setup, teardown),
        cmocka_unit_test(test_only_a_resume_of_its_own_domain_may_be_prepared_and_finished),
        cmocka_unit_test(test_truncated_phase_is_refused),
        cmocka_unit_test(test_nothing_else_is_let_through),
        cmocka_unit_test(test_proof_is_of_the_token_and_of_the_connection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
