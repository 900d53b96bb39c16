/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The daemon with a driver that has no opinion: sockets made and sockets passed, clients up to the
 * limit, new credentials, the end. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "driver/daemon.h"
#include "driver/driver.h"
#include "driver/listen_socket.h"
#include "tests/support/rpc-end.h"
#include "tests/support/tls-pair.h"
#include "util/autofd.h"

/* --- the driver --- */

struct Driver {
    guint calls;
};

Driver *driver_new(const Settings *settings, GError **error)
{
    return g_new0(Driver, 1);
}

void driver_free(Driver *driver)
{
    g_free(driver);
}

static gboolean on_call(Proxy *proxy, RpcFrame *frame, gpointer data)
{
    ((Driver *)data)->calls++;
    return FALSE;
}

const ProxyHooks *driver_hooks(void)
{
    static const ProxyHooks hooks = { .call = on_call };

    return &hooks;
}

/* --- the host --- */

typedef struct {
    char *dir;
    char *rw;
    char *ro;
    char *upstream_path;
    int upstream;
    Settings settings;
    GArray *passed;
    Daemon *daemon;
    guint stopped;
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);

    f->dir = pki_dir_new();
    f->rw = g_build_filename(f->dir, "virtpostcopyd-sock", NULL);
    f->ro = g_build_filename(f->dir, "virtpostcopyd-sock-ro", NULL);
    f->upstream_path = g_build_filename(f->dir, "libvirt-sock", NULL);
    f->upstream = listen_socket_unix(f->upstream_path, 0700, (gid_t)-1, NULL);
    f->passed = g_array_new(FALSE, FALSE, sizeof(int));
    f->settings.unix_sock_dir = f->dir;
    f->settings.unix_sock_rw_perms = 0700;
    f->settings.unix_sock_ro_perms = 0777;
    f->settings.max_clients = 10;
    f->settings.connect_timeout = 5;
    f->settings.listen_addr = (char *)"127.0.0.1";
    f->settings.tls_port = 1; /* no passed socket has these */
    f->settings.tcp_port = 2;
    *state = f;
    return 0;
}

static void on_stopped(gpointer data)
{
    ((Fixture *)data)->stopped++;
}

static gboolean is_stopped(gpointer data)
{
    return ((Fixture *)data)->stopped > 0;
}

static void stop(Fixture *f)
{
    if (!f->daemon)
        return;
    if (f->stopped == 0)
        daemon_stop(f->daemon, on_stopped, f);
    rpc_test_until(is_stopped, f);
    g_clear_pointer(&f->daemon, daemon_free);
}

static int teardown(void **state)
{
    Fixture *f = *state;
    gboolean clean;

    stop(f);
    clean = access(f->rw, F_OK) != 0 && access(f->ro, F_OK) != 0;
    autofd_clear(&f->upstream);
    g_array_unref(f->passed);
    pki_dir_remove(f->dir);
    g_free(f->rw);
    g_free(f->ro);
    g_free(f->upstream_path);
    g_free(f);
    return clean ? 0 : -1;
}

static void start(Fixture *f)
{
    g_autoptr(GError) error = NULL;

    f->daemon = daemon_new(&f->settings, f->passed, &error);
    if (!f->daemon)
        fail_msg("%s", error->message);
    daemon_start(f->daemon);
}

static char *start_error(Fixture *f)
{
    g_autoptr(GError) error = NULL;

    assert_null(daemon_new(&f->settings, f->passed, &error));
    assert_int_equal(f->passed->len, 0);
    return g_strdup(error->message);
}

static RpcEnd *connect_client(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return rpc_end_new(rpc_stream_new_socket(fd, TRUE));
}

typedef struct {
    int listening;
    int fd;
} Accepted;

static gboolean accept_upstream(gpointer data)
{
    Accepted *a = data;

    if (a->fd < 0)
        a->fd = accept4(a->listening, NULL, NULL, SOCK_CLOEXEC);
    return a->fd >= 0;
}

/* Upstream's end of the next connection that the daemon makes. */
static RpcEnd *next_upstream(Fixture *f)
{
    Accepted accepted = { f->upstream, -1 };

    assert_true(rpc_test_until(accept_upstream, &accepted));
    return rpc_end_new(rpc_stream_new_socket(accepted.fd, TRUE));
}

/* A call goes up and its answer comes back. */
static void assert_served(RpcEnd *client, RpcEnd *upstream)
{
    guint up = upstream->frames->len, down = client->frames->len;

    rpc_stream_send(client->stream, rpc_test_frame(RPC_TYPE_CALL, 66, 1, 0));
    assert_true(rpc_test_until_frames(upstream, up + 1));
    rpc_stream_send(upstream->stream, rpc_test_frame(RPC_TYPE_REPLY, 66, 1, 8));
    assert_true(rpc_test_until_frames(client, down + 1));
}

/* --- sockets --- */

static mode_t mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

static void test_both_sockets_are_made_and_serve(void **state)
{
    Fixture *f = *state;
    g_autoptr(RpcEnd) client = NULL, upstream = NULL;

    start(f);
    assert_int_equal(mode_of(f->rw), 0700);
    assert_int_equal(mode_of(f->ro), 0777);
    client = connect_client(f->rw);
    upstream = next_upstream(f);
    assert_served(client, upstream);
}

static void test_second_daemon_leaves_the_first_alone(void **state)
{
    Fixture *f = *state;
    g_autoptr(RpcEnd) client = NULL, upstream = NULL;
    g_autofree char *message = NULL;

    start(f);
    message = start_error(f);
    assert_non_null(strstr(message, "somebody else listens"));
    assert_non_null(strstr(message, f->rw));
    rpc_end_free(next_upstream(f)); /* the second's look at whether the first is there */
    client = connect_client(f->rw);
    upstream = next_upstream(f);
    assert_served(client, upstream);
}

static void test_group_that_does_not_exist_is_named(void **state)
{
    Fixture *f = *state;
    g_autofree char *message = NULL;

    f->settings.unix_sock_group = (char *)"no-such-group";
    message = start_error(f);
    assert_non_null(strstr(message, "no-such-group"));
}

static void pass(Fixture *f, int fd)
{
    assert_true(fd >= 0);
    g_array_append_val(f->passed, fd);
}

static void test_passed_socket_is_used_and_not_removed(void **state)
{
    Fixture *f = *state;
    g_autoptr(RpcEnd) client = NULL, upstream = NULL;
    struct stat before, after;

    pass(f, listen_socket_unix(f->rw, 0750, (gid_t)-1, NULL));
    assert_int_equal(stat(f->rw, &before), 0);
    start(f);
    assert_int_equal(f->passed->len, 0);
    assert_int_equal(stat(f->rw, &after), 0);
    assert_int_equal(after.st_ino, before.st_ino);
    assert_int_equal(mode_of(f->rw), 0750);
    assert_int_equal(mode_of(f->ro), 0777); /* was not passed: made */
    client = connect_client(f->rw);
    upstream = next_upstream(f);
    assert_served(client, upstream);
    stop(f);
    assert_int_equal(unlink(f->rw), 0);
}

static void test_passed_port_is_known_by_its_number(void **state)
{
    Fixture *f = *state;
    struct sockaddr_in address = { 0 };
    socklen_t len = sizeof address;
    g_autoptr(RpcEnd) client = NULL, upstream = NULL;
    int fd;

    assert_true(listen_socket_tcp(f->passed, "127.0.0.1", 0, NULL));
    assert_int_equal(getsockname(g_array_index(f->passed, int, 0), (struct sockaddr *)&address,
                                 &len),
                     0);
    f->settings.tcp_port = ntohs(address.sin_port);
    start(f);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, len), 0);
    client = rpc_end_new(rpc_stream_new_socket(fd, FALSE));
    upstream = next_upstream(f);
    assert_served(client, upstream);
}

static void test_passed_socket_nobody_knows_is_an_error(void **state)
{
    Fixture *f = *state;
    g_autofree char *path = g_build_filename(f->dir, "other", NULL);
    g_autofree char *message = NULL;
    guint before = rpc_test_open_fds();

    pass(f, listen_socket_unix(path, 0700, (gid_t)-1, NULL));
    message = start_error(f);
    assert_non_null(strstr(message, path));
    assert_int_equal(rpc_test_open_fds(), before);
}

static void test_passed_descriptor_that_does_not_listen_is_an_error(void **state)
{
    Fixture *f = *state;
    g_autofree char *message = NULL;

    pass(f, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    message = start_error(f);
    assert_non_null(strstr(message, "not a listening stream socket"));
}

/* --- clients --- */

static void test_clients_over_the_limit_wait_their_turn(void **state)
{
    Fixture *f = *state;
    g_autoptr(RpcEnd) one = NULL, two = NULL, three = NULL;
    g_autoptr(RpcEnd) up_one = NULL, up_two = NULL, up_three = NULL;

    f->settings.max_clients = 2;
    start(f);
    one = connect_client(f->rw);
    up_one = next_upstream(f);
    two = connect_client(f->rw);
    up_two = next_upstream(f);
    assert_served(two, up_two);
    three = connect_client(f->rw);
    for (guint i = 0; i < 5; i++)
        rpc_test_settle();
    assert_int_equal(accept4(f->upstream, NULL, NULL, SOCK_CLOEXEC), -1);
    assert_served(one, up_one);

    g_clear_pointer(&two, rpc_end_free);
    up_three = next_upstream(f);
    assert_served(three, up_three);
}

static void test_stop_closes_every_client_and_says_so_once(void **state)
{
    Fixture *f = *state;
    g_autoptr(RpcEnd) one = NULL, two = NULL, up_one = NULL;

    start(f);
    one = connect_client(f->rw);
    up_one = next_upstream(f);
    two = connect_client(f->ro); /* for which there is no upstream */
    rpc_test_settle();
    daemon_stop(f->daemon, on_stopped, f);
    assert_int_equal(f->stopped, 0);
    assert_true(rpc_test_until(is_stopped, f));
    assert_true(rpc_test_until_closed(one));
    assert_true(rpc_test_until_closed(two));
    assert_true(rpc_test_until_closed(up_one));
    assert_int_equal(f->stopped, 1);
}

static void test_stop_without_clients_is_heard_of_as_well(void **state)
{
    Fixture *f = *state;

    start(f);
    daemon_stop(f->daemon, on_stopped, f);
    assert_true(rpc_test_until(is_stopped, f));
}

/* --- TLS --- */

static void write_server(Fixture *f, const PkiIdentity *ca, const char *name)
{
    g_autoptr(PkiIdentity) server =
        pki_identity_new(&(PkiSpec){ .common_name = name, .issuer = ca, .dns = { name } });
    g_autofree char *ca_pem = pki_cert_pem(ca);
    g_autofree char *cert = pki_cert_pem(server);
    g_autofree char *key = pki_key_pem(server);

    g_free(f->settings.ca_file);
    g_free(f->settings.cert_file);
    g_free(f->settings.key_file);
    g_free(f->settings.crl_file);
    f->settings.ca_file = pki_dir_write(f->dir, "ca.pem", ca_pem, -1);
    f->settings.cert_file = pki_dir_write(f->dir, "cert.pem", cert, -1);
    f->settings.key_file = pki_dir_write(f->dir, "key.pem", key, -1);
    f->settings.crl_file = g_build_filename(f->dir, "crl.pem", NULL);
}

static void free_files(Fixture *f)
{
    g_free(f->settings.ca_file);
    g_free(f->settings.cert_file);
    g_free(f->settings.key_file);
    g_free(f->settings.crl_file);
}

/* The name in the certificate of whoever listens on that port. */
static char *server_name(Fixture *f, TlsCredentials *creds, const char *hostname)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(f->settings.tls_port),
                                   .sin_addr = { htonl(INADDR_LOOPBACK) } };
    TlsChannelConfig config = { .endpoint = TLS_ENDPOINT_CLIENT, .hostname = hostname };
    g_autoptr(TlsChannel) channel = NULL;
    g_autoptr(GError) error = NULL;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    gint64 deadline = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;

    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_true(g_unix_set_fd_nonblocking(fd, TRUE, NULL));
    channel = tls_channel_new(fd, creds, &config, NULL);
    while (!tls_channel_handshake(channel, &error)) {
        if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
            return NULL;
        g_clear_error(&error);
        assert_true(g_get_monotonic_time() < deadline);
        g_usleep(1000);
        rpc_test_settle();
    }
    return g_strdup(tls_channel_peer_name(channel));
}

/* A port that is free now; nothing else here listens. */
static guint16 free_port(void)
{
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    struct sockaddr_in address = { 0 };
    socklen_t len = sizeof address;

    assert_true(listen_socket_tcp(fds, "127.0.0.1", 0, NULL));
    assert_int_equal(getsockname(g_array_index(fds, int, 0), (struct sockaddr *)&address, &len), 0);
    close(g_array_index(fds, int, 0));
    return ntohs(address.sin_port);
}

static void test_reload_takes_new_credentials_or_keeps_the_old(void **state)
{
    Fixture *f = *state;
    g_autoptr(PkiIdentity) ca = pki_identity_new(&(PkiSpec){ .common_name = "ca", .ca = TRUE });
    g_autoptr(PkiIdentity) own =
        pki_identity_new(&(PkiSpec){ .common_name = "client", .issuer = ca });
    g_autofree char *ca_pem = pki_cert_pem(ca);
    TlsCredentials *creds = tls_pair_x509(TLS_ENDPOINT_CLIENT, ca_pem, own, NULL, NULL);
    g_autofree char *first = NULL, *kept = NULL, *second = NULL;
    g_autoptr(GError) error = NULL;

    write_server(f, ca, "first");
    f->settings.listen_tls = TRUE;
    f->settings.tls_port = free_port();
    start(f);
    first = server_name(f, creds, "first");
    assert_string_equal(first, "CN=first");

    assert_true(g_file_set_contents(f->settings.cert_file, "no certificate", -1, NULL));
    assert_false(daemon_reload(f->daemon, &error));
    assert_non_null(strstr(error->message, f->settings.cert_file));
    kept = server_name(f, creds, "first");
    assert_string_equal(kept, "CN=first");

    write_server(f, ca, "second");
    assert_true(daemon_reload(f->daemon, NULL));
    second = server_name(f, creds, "second");
    assert_string_equal(second, "CN=second");
    tls_credentials_unref(creds);
    free_files(f);
}

static void test_tls_without_a_certificate_names_the_file(void **state)
{
    Fixture *f = *state;
    g_autoptr(PkiIdentity) ca = pki_identity_new(&(PkiSpec){ .common_name = "ca", .ca = TRUE });
    g_autofree char *message = NULL;

    write_server(f, ca, "first");
    assert_int_equal(unlink(f->settings.key_file), 0);
    f->settings.listen_tls = TRUE;
    f->settings.tls_port = free_port();
    message = start_error(f);
    assert_non_null(strstr(message, f->settings.key_file));
    free_files(f);
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(test_both_sockets_are_made_and_serve),
        WITH_FIXTURE(test_second_daemon_leaves_the_first_alone),
        WITH_FIXTURE(test_group_that_does_not_exist_is_named),
        WITH_FIXTURE(test_passed_socket_is_used_and_not_removed),
        WITH_FIXTURE(test_passed_port_is_known_by_its_number),
        WITH_FIXTURE(test_passed_socket_nobody_knows_is_an_error),
        WITH_FIXTURE(test_passed_descriptor_that_does_not_listen_is_an_error),
        WITH_FIXTURE(test_clients_over_the_limit_wait_their_turn),
        WITH_FIXTURE(test_stop_closes_every_client_and_says_so_once),
        WITH_FIXTURE(test_stop_without_clients_is_heard_of_as_well),
        WITH_FIXTURE(test_reload_takes_new_credentials_or_keeps_the_old),
        WITH_FIXTURE(test_tls_without_a_certificate_names_the_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
