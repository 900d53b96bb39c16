/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From accept() to a proxy: finding upstream, the TLS handshake with libvirt's confirmation byte,
 * and what a client hears that cannot be served. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib/gstdio.h>
#include <gnutls/gnutls.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver/arrival.h"
#include "driver/listen_socket.h"
#include "driver/upstream.h"
#include "tests/support/rpc-end.h"
#include "tests/support/tls-pair.h"
#include "util/autofd.h"

typedef struct {
    char *dir;
    Settings settings;
    GCancellable *cancellable;
    guint arrived; /* how often that was heard: once for each arrival */
    RpcStream *client;
    RpcStream *upstream;
    char *who;
    char *dn;
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);

    f->dir = g_dir_make_tmp("test-arrival-XXXXXX", NULL);
    f->settings.unix_sock_dir = f->dir;
    f->settings.connect_timeout = 1;
    f->cancellable = g_cancellable_new();
    *state = f;
    return 0;
}

static void drop(RpcStream **stream)
{
    if (*stream)
        rpc_stream_close(*stream, FALSE);
    g_clear_pointer(stream, rpc_stream_unref);
}

static int teardown(void **state)
{
    Fixture *f = *state;
    int left = g_rmdir(f->dir); /* fails if a test left something */

    drop(&f->client);
    drop(&f->upstream);
    g_object_unref(f->cancellable);
    g_free(f->who);
    g_free(f->dn);
    g_free(f->dir);
    g_free(f);
    return left;
}

static void on_arrived(RpcStream *client, RpcStream *upstream, const ProxyPeer *peer,
                       gpointer data)
{
    Fixture *f = data;

    f->arrived++;
    f->client = client;
    f->upstream = upstream;
    f->who = arrival_describe(peer);
    f->dn = g_strdup(peer->dn);
}

static gboolean has_arrived(gpointer data)
{
    return ((Fixture *)data)->arrived > 0;
}

static void start(Fixture *f, int fd, gboolean read_only)
{
    arrival_start(fd, PROXY_CLIENT_UNIX, read_only, &f->settings, NULL, f->cancellable,
                  on_arrived, f);
}

/* A daemon that listens there; the caller removes it. */
static int listen_as(Fixture *f, const char *name, char **ret_path)
{
    *ret_path = g_build_filename(f->dir, name, NULL);
    return listen_socket_unix(*ret_path, 0700, (gid_t)-1, NULL);
}

static gboolean called(int listening)
{
    autofd fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);

    return fd >= 0;
}

/* --- upstream --- */

static void test_read_only_clients_get_the_read_only_socket(void **state)
{
    Fixture *f = *state;
    g_autofree char *path = NULL;
    autofd upstream = listen_as(f, "libvirt-sock-ro", &path);
    int fds[2];

    rpc_test_pair(fds);
    start(f, fds[0], TRUE);
    assert_true(rpc_test_until(has_arrived, f));
    assert_non_null(f->client);
    assert_true(called(upstream));
    assert_non_null(strstr(f->who, "read-only"));
    listen_socket_remove(upstream, path);
    close(fds[1]);
}

static void test_virtqemud_comes_before_libvirtd(void **state)
{
    Fixture *f = *state;
    g_autofree char *path = NULL, *other_path = NULL;
    autofd virtqemud = listen_as(f, "virtqemud-sock", &path);
    autofd libvirtd = listen_as(f, "libvirt-sock", &other_path);
    int fds[2];

    rpc_test_pair(fds);
    start(f, fds[0], FALSE);
    assert_true(rpc_test_until(has_arrived, f));
    assert_true(called(virtqemud));
    assert_false(called(libvirtd));
    listen_socket_remove(virtqemud, path);
    listen_socket_remove(libvirtd, other_path);
    close(fds[1]);
}

static void test_socket_nobody_listens_on_is_passed_over(void **state)
{
    Fixture *f = *state;
    g_autofree char *path = NULL, *other_path = NULL;
    autofd virtqemud = listen_as(f, "virtqemud-sock", &path);
    autofd libvirtd = listen_as(f, "libvirt-sock", &other_path);
    int fds[2];

    autofd_clear(&virtqemud);
    rpc_test_pair(fds);
    start(f, fds[0], FALSE);
    assert_true(rpc_test_until(has_arrived, f));
    assert_true(called(libvirtd));
    assert_int_equal(unlink(path), 0);
    listen_socket_remove(libvirtd, other_path);
    close(fds[1]);
}

static void test_configured_socket_is_the_only_one(void **state)
{
    Fixture *f = *state;
    g_auto(GStrv) rw = NULL, ro = NULL;

    f->settings.upstream_socket = (char *)"/x/sock";
    rw = upstream_candidates(&f->settings, FALSE);
    ro = upstream_candidates(&f->settings, TRUE);
    assert_int_equal(g_strv_length(rw), 1);
    assert_string_equal(rw[0], "/x/sock");
    assert_int_equal(g_strv_length(ro), 1);
    assert_string_equal(ro[0], "/x/sock-ro");
}

typedef struct {
    int fd;
    guint done;
    GError *error;
} Connected;

static void on_connected(GObject *source, GAsyncResult *result, gpointer data)
{
    Connected *c = data;

    c->fd = upstream_connect_finish(result, &c->error);
    c->done++;
}

static gboolean is_connected(gpointer data)
{
    return ((Connected *)data)->done > 0;
}

/* A listening socket with a backlog of 0 has room for one; the second has to wait. */
static void test_upstream_that_is_busy_is_tried_again(void **state)
{
    Fixture *f = *state;
    g_autofree char *path = g_build_filename(f->dir, "busy", NULL);
    const char *paths[] = { path, NULL };
    autofd upstream = listen_socket_unix(path, 0700, (gid_t)-1, NULL);
    Connected first = { 0 }, second = { 0 }, third = { 0 };

    assert_int_equal(listen(upstream, 0), 0);
    upstream_connect(paths, 1, NULL, on_connected, &first);
    assert_true(rpc_test_until(is_connected, &first));
    assert_true(first.fd >= 0);
    upstream_connect(paths, 10, NULL, on_connected, &second);
    rpc_test_settle();
    assert_int_equal(second.done, 0);
    assert_true(called(upstream));
    assert_true(rpc_test_until(is_connected, &second));
    assert_true(second.fd >= 0);

    upstream_connect(paths, 1, NULL, on_connected, &third);
    assert_true(rpc_test_until(is_connected, &third));
    assert_int_equal(third.fd, -1);
    assert_true(g_error_matches(third.error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT));
    assert_non_null(strstr(third.error->message, path));
    g_clear_error(&third.error);
    close(first.fd);
    close(second.fd);
    listen_socket_remove(upstream, path);
}

/* --- a client that cannot be served --- */

static void test_client_without_upstream_hears_why_for_every_call(void **state)
{
    Fixture *f = *state;
    g_autoptr(RpcEnd) client = NULL;
    int fds[2];

    rpc_test_pair(fds);
    client = rpc_end_new(rpc_stream_new_socket(fds[1], TRUE));
    start(f, fds[0], FALSE);
    rpc_stream_send(client->stream, rpc_test_frame(RPC_TYPE_CALL, 66, 0, 0));
    rpc_stream_send(client->stream, rpc_test_frame(RPC_TYPE_STREAM, 66, 0, 8));
    rpc_stream_send(client->stream, rpc_test_frame(RPC_TYPE_CALL, 1, 1, 24));
    assert_true(rpc_test_until_frames(client, 2));
    for (guint i = 0; i < 2; i++) {
        g_autofree char *message = rpc_test_error(rpc_end_frame(client, i));

        assert_int_equal(rpc_end_frame(client, i)->header.serial, i);
        assert_non_null(strstr(message, f->dir));
        assert_non_null(strstr(message, "virtqemud-sock: No such file"));
        assert_non_null(strstr(message, "libvirt-sock: No such file"));
    }
    assert_int_equal(f->arrived, 0);
    rpc_stream_close(client->stream, FALSE);
    assert_true(rpc_test_until(has_arrived, f));
    assert_null(f->client);
}

static void test_client_that_stays_is_closed_after_a_moment(void **state)
{
    Fixture *f = *state;
    g_autoptr(RpcEnd) client = NULL;
    int fds[2];

    rpc_test_pair(fds);
    client = rpc_end_new(rpc_stream_new_socket(fds[1], TRUE));
    start(f, fds[0], FALSE);
    assert_true(rpc_test_until_closed(client));
    assert_int_equal(f->arrived, 1);
}

/* --- TLS --- */

typedef struct {
    TlsChannel *channel;
    GError *error;
    gboolean welcome;
} TlsClient;

/* As libvirt's client does it: handshake, then wait for the byte. */
static gboolean advance_client(gpointer data)
{
    TlsClient *c = data;
    GError *error = NULL;
    guint8 byte = 0;
    gssize n = -1;

    if (c->welcome || c->error)
        return TRUE;
    if (tls_channel_handshake(c->channel, &error))
        n = tls_channel_read(c->channel, &byte, 1, &error);
    if (n == 1 && byte == 1)
        c->welcome = TRUE;
    else if (n >= 0)
        c->error = g_error_new_literal(TLS_ERROR, TLS_ERROR_IO, "closed, or a wrong byte");
    else if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
        g_clear_error(&error);
    else
        c->error = error;
    return c->welcome || c->error;
}

typedef struct {
    PkiIdentity *ca;
    PkiIdentity *server;
    PkiIdentity *client;
    char *ca_pem;
    TlsCredentials *server_creds;
    TlsCredentials *client_creds;
    int fds[2];
    TlsClient end;
} Tls;

static Tls *tls_new(void)
{
    Tls *t = g_new0(Tls, 1);
    TlsChannelConfig config = { .endpoint = TLS_ENDPOINT_CLIENT, .hostname = "hostB" };

    t->ca = pki_identity_new(&(PkiSpec){ .common_name = "ca", .ca = TRUE });
    t->server = pki_identity_new(
        &(PkiSpec){ .common_name = "hostB", .issuer = t->ca, .dns = { "hostB" } });
    t->client = pki_identity_new(&(PkiSpec){ .common_name = "hostA", .issuer = t->ca });
    t->ca_pem = pki_cert_pem(t->ca);
    t->server_creds = tls_pair_x509(TLS_ENDPOINT_SERVER, t->ca_pem, t->server, NULL, NULL);
    t->client_creds = tls_pair_x509(TLS_ENDPOINT_CLIENT, t->ca_pem, t->client, NULL, NULL);
    tls_pair_sockets(t->fds);
    t->end.channel = tls_channel_new(t->fds[1], t->client_creds, &config, NULL);
    return t;
}

static void tls_end(Tls *t)
{
    g_clear_pointer(&t->end.channel, tls_channel_free);
    g_clear_error(&t->end.error);
    tls_credentials_unref(t->server_creds);
    tls_credentials_unref(t->client_creds);
    pki_identity_free(t->ca);
    pki_identity_free(t->server);
    pki_identity_free(t->client);
    g_free(t->ca_pem);
    g_free(t);
}

static void start_tls(Fixture *f, Tls *t)
{
    arrival_start(t->fds[0], PROXY_CLIENT_TLS, FALSE, &f->settings, t->server_creds,
                  f->cancellable, on_arrived, f);
}

/* The client has no source of its own in the main loop. */
static gboolean tick(gpointer data)
{
    return G_SOURCE_CONTINUE;
}

static gboolean until_client(Tls *t)
{
    guint id = g_timeout_add(1, tick, NULL);
    gboolean done = rpc_test_until(advance_client, &t->end);

    g_source_remove(id);
    return done;
}

static void test_tls_client_is_welcomed_and_known_by_its_name(void **state)
{
    Fixture *f = *state;
    Tls *t = tls_new();
    g_autofree char *path = NULL;
    autofd upstream = listen_as(f, "libvirt-sock", &path);
    g_autoptr(RpcEnd) client = NULL, server = NULL;
    RpcFrame *large = rpc_test_frame(RPC_TYPE_STREAM, 1, 1, 3000000);
    g_autoptr(RpcFrame) copy = rpc_test_copy(large);

    start_tls(f, t);
    assert_true(until_client(t));
    assert_true(t->end.welcome);
    assert_true(rpc_test_until(has_arrived, f));
    assert_string_equal(f->dn, "CN=hostA");

    /* Frames pass, large ones and small ones. */
    server = rpc_end_new(g_steal_pointer(&f->client));
    client = rpc_end_new(rpc_stream_new_tls(g_steal_pointer(&t->end.channel)));
    rpc_stream_send(client->stream, rpc_test_frame(RPC_TYPE_CALL, 66, 0, 0));
    rpc_stream_send(client->stream, large);
    assert_true(rpc_test_until_frames(server, 2));
    assert_true(rpc_test_same(rpc_end_frame(server, 1), copy));
    for (guint32 i = 0; i < 100; i++)
        rpc_stream_send(server->stream, rpc_test_frame(RPC_TYPE_REPLY, 66, i, 9000));
    rpc_stream_close(server->stream, TRUE);
    assert_true(rpc_test_until_closed(client));
    assert_int_equal(client->frames->len, 100);
    assert_null(client->error);
    listen_socket_remove(upstream, path);
    tls_end(t);
}

static void test_descriptors_over_tls_are_an_error(void **state)
{
    Fixture *f = *state;
    Tls *t = tls_new();
    g_autofree char *path = NULL;
    autofd upstream = listen_as(f, "libvirt-sock", &path);
    g_autoptr(RpcEnd) server = NULL;
    g_autoptr(RpcFrame) bad = rpc_test_frame(RPC_TYPE_CALL_WITH_FDS, 66, 0, 8);

    start_tls(f, t);
    assert_true(until_client(t));
    assert_true(rpc_test_until(has_arrived, f));
    server = rpc_end_new(g_steal_pointer(&f->client));
    assert_int_equal(tls_channel_write(t->end.channel, bad->wire->data, bad->wire->len, NULL),
                     bad->wire->len);
    assert_true(rpc_test_until_closed(server));
    assert_true(g_error_matches(server->error, RPC_FRAME_ERROR, RPC_FRAME_ERROR_FDS));
    listen_socket_remove(upstream, path);
    tls_end(t);
}

static void test_tls_client_whose_name_is_not_allowed_gets_no_byte(void **state)
{
    static char *allowed[] = { (char *)"CN=other*", NULL };
    Fixture *f = *state;
    Tls *t = tls_new();

    f->settings.tls_allowed_dn_list = allowed;
    start_tls(f, t);
    assert_true(until_client(t));
    assert_false(t->end.welcome);
    assert_true(rpc_test_until(has_arrived, f));
    assert_null(f->client);
    tls_end(t);
}

static void test_noise_instead_of_a_handshake_is_sent_away(void **state)
{
    Fixture *f = *state;
    Tls *t = tls_new();
    g_autoptr(RpcFrame) plain = rpc_test_frame(RPC_TYPE_CALL, 66, 0, 0);

    start_tls(f, t);
    assert_int_equal(write(t->fds[1], plain->wire->data, plain->wire->len), plain->wire->len);
    assert_true(rpc_test_until(has_arrived, f));
    assert_null(f->client);
    tls_end(t);
}

static void test_stopping_ends_a_handshake_that_waits(void **state)
{
    Fixture *f = *state;
    Tls *t = tls_new();

    start_tls(f, t);
    rpc_test_settle();
    assert_int_equal(f->arrived, 0);
    g_cancellable_cancel(f->cancellable);
    assert_true(rpc_test_until(has_arrived, f));
    assert_null(f->client);
    tls_end(t);
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(test_read_only_clients_get_the_read_only_socket),
        WITH_FIXTURE(test_virtqemud_comes_before_libvirtd),
        WITH_FIXTURE(test_socket_nobody_listens_on_is_passed_over),
        WITH_FIXTURE(test_configured_socket_is_the_only_one),
        WITH_FIXTURE(test_upstream_that_is_busy_is_tried_again),
        WITH_FIXTURE(test_client_without_upstream_hears_why_for_every_call),
        WITH_FIXTURE(test_client_that_stays_is_closed_after_a_moment),
        WITH_FIXTURE(test_tls_client_is_welcomed_and_known_by_its_name),
        WITH_FIXTURE(test_descriptors_over_tls_are_an_error),
        WITH_FIXTURE(test_tls_client_whose_name_is_not_allowed_gets_no_byte),
        WITH_FIXTURE(test_noise_instead_of_a_handshake_is_sent_away),
        WITH_FIXTURE(test_stopping_ends_a_handshake_that_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
