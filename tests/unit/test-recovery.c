/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When a recovery is tried, by way of what, and when it ends: against a daemon that answers as the test
 * wants. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib-unix.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver/driver_events.h"
#include "driver/listen_socket.h"
#include "driver/migration_priv.h"
#include "driver/recovery.h"
#include "driver/recovery_uri.h"
#include "driver/rpc_error.h"
#include "driver/rpc_xdr.h"
#include "tests/support/monitor-calls.h"
#include "tests/support/pki-gen.h"
#include "tests/support/rpc-end.h"

#define DOMAIN "vm1"

enum { OPEN = 1, LOOKUP = 23, AUTH_LIST = 66, GET_STATE = 212, PERFORM = 305 };

typedef struct {
    char *dir;
    char *path;
    int listener;
    guint watch;
    GPtrArray *ends; /* RpcEnd, a connection each */
    Settings *settings;
    Driver driver; /* only what a recovery needs */
} Fixture;

static gboolean on_connection(gint fd, GIOCondition condition, gpointer data)
{
    Fixture *f = data;
    int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

    assert_true(connection >= 0);
    g_ptr_array_add(f->ends, rpc_end_new(rpc_stream_new_socket(connection, TRUE)));
    return G_SOURCE_CONTINUE;
}

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    f->dir = pki_dir_new();
    f->path = g_build_filename(f->dir, DRIVER_SOCKET, NULL);
    f->listener = listen_socket_unix(f->path, 0700, (gid_t)-1, &error);
    assert_true(f->listener >= 0);
    f->watch = g_unix_fd_add(f->listener, G_IO_IN, on_connection, f);
    f->ends = g_ptr_array_new_with_free_func((GDestroyNotify)rpc_end_free);
    text = g_strdup_printf("unix_sock_dir = '%s'\nhelper_user = '%s'\n", f->dir,
                           getpwuid(getuid())->pw_name);
    f->settings = settings_parse(text, strlen(text), "f.conf", &error);
    if (!f->settings)
        fail_msg("%s", error->message);
    f->driver.settings = f->settings;
    f->driver.set = migration_set_new(f->settings, &error);
    assert_non_null(f->driver.set);
    f->driver.events = driver_events_new(f->driver.set);
    f->driver.recoveries = recovery_set_new(&f->driver);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;

    recovery_set_free(f->driver.recoveries);
    rpc_test_settle();
    g_ptr_array_unref(f->ends);
    driver_events_free(f->driver.events);
    migration_set_free(f->driver.set);
    g_source_remove(f->watch);
    listen_socket_remove(f->listener, f->path);
    close(f->listener);
    settings_free(f->settings);
    pki_dir_remove(f->dir);
    g_free(f->path);
    g_free(f);
    return 0;
}

/* ---- a session that breaks ---- */

static const guint8 uuid[16] = { 4, 2 };

static GBytes *perform_args(void)
{
    remote_perform3_params args = { .dom = { .name = (char *)DOMAIN, .id = 7 }, .flags = 0x88108 };
    GByteArray *xdr;

    memcpy(args.dom.uuid, uuid, sizeof uuid);
    xdr = rpc_xdr_encode((xdrproc_t)xdr_remote_perform3_params, &args, "", NULL);
    return g_byte_array_free_to_bytes(xdr);
}

/* Which began that long ago, and ended that long ago. */
static void broke(Fixture *f, guint8 session, guint began_s, guint ended_s)
{
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    JobRecord *record = job_record_new();
    MigrationSet *set = f->driver.set;

    record->side = MIGRATION_SIDE_SOURCE;
    record->domain = g_strdup(DOMAIN);
    record->uri.host = g_strdup("b.test");
    record->uri.port = 1;
    memset(record->uri.session, session, sizeof record->uri.session);
    record->perform_procedure = PERFORM;
    record->perform_args = perform_args();
    record->begun = (now - began_s) * G_USEC_PER_SEC;
    record->broken = now - ended_s;
    g_ptr_array_add(set->broken, record);
    set->broken_func(set, record, set->broken_data);
}

static void breaks(Fixture *f, guint8 session)
{
    broke(f, session, 0, 0);
}

static gboolean is_known(Fixture *f, guint8 session)
{
    guint8 id[MIGRATION_SESSION_LEN];

    memset(id, session, sizeof id);
    return migration_set_find_record(f->driver.set, MIGRATION_SIDE_SOURCE, id) != NULL;
}

/* ---- the daemon's answers ---- */

typedef struct {
    Fixture *f;
    guint connection;
} Wanted;

static gboolean is_connected(gpointer data)
{
    Wanted *wanted = data;

    return wanted->f->ends->len > wanted->connection;
}

static RpcEnd *connection(Fixture *f, guint n)
{
    Wanted wanted = { f, n };

    assert_true(rpc_test_until(is_connected, &wanted));
    assert_int_equal(f->ends->len, n + 1);
    return g_ptr_array_index(f->ends, n);
}

/* The nth call on it, which must be that one. */
static const RpcFrame *call(RpcEnd *end, guint n, gint32 procedure)
{
    assert_true(rpc_test_until_frames(end, n + 1));
    assert_int_equal(rpc_end_frame(end, n)->header.procedure, procedure);
    return rpc_end_frame(end, n);
}

static void answer(RpcEnd *end, const RpcFrame *frame, xdrproc_t proc, void *result)
{
    RpcHeader header = frame->header;

    header.type = RPC_TYPE_REPLY;
    rpc_stream_send(end->stream, proc ? rpc_xdr_reply(&frame->header, proc, result, NULL)
                                      : rpc_frame_new(&header, NULL, 0));
}

static void refuse(RpcEnd *end, const RpcFrame *frame, int code)
{
    rpc_stream_send(end->stream, rpc_error_reply(&frame->header, code, VIR_FROM_QEMU, "no"));
}

static RpcEnd *opened(Fixture *f, guint n)
{
    RpcEnd *end = connection(f, n);

    answer(end, call(end, 0, AUTH_LIST), NULL, NULL);
    answer(end, call(end, 1, OPEN), NULL, NULL);
    return end;
}

/* Its nth call, with a domain whose UUID begins so. */
static void found(RpcEnd *end, guint n, guint8 first)
{
    remote_dom_ret dom = { .dom = { .name = (char *)DOMAIN, .id = 7 } };

    memcpy(dom.dom.uuid, uuid, sizeof uuid);
    dom.dom.uuid[0] = first;
    answer(end, call(end, n, LOOKUP), (xdrproc_t)xdr_remote_dom_ret, &dom);
}

static RpcEnd *in_state(Fixture *f, guint n, int state, int reason)
{
    remote_get_state_ret ret = { state, reason };
    RpcEnd *end = opened(f, n);

    found(end, 2, uuid[0]);
    answer(end, call(end, 3, GET_STATE), (xdrproc_t)xdr_remote_get_state_ret, &ret);
    return end;
}

/* Until its Perform, which must be by way of that session. */
static const RpcFrame *performs(Fixture *f, guint n, guint8 session)
{
    RPC_XDR_AUTO(remote_perform3_params, args) = { 0 };
    g_autofree char *uri = NULL;
    guint8 id[MIGRATION_SESSION_LEN];
    RpcEnd *end = in_state(f, n, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_POSTCOPY_FAILED);
    const RpcFrame *frame = call(end, 4, PERFORM);
    gsize len;
    const guint8 *payload = rpc_frame_payload(frame, &len);

    memset(id, session, sizeof id);
    uri = recovery_uri_format(id);
    assert_true(rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_perform3_params, &args,
                               sizeof args, "", NULL));
    assert_string_equal(args.dom.name, DOMAIN);
    assert_int_equal(args.flags, 0x88108);
    assert_string_equal(*args.dconnuri, uri);
    return frame;
}

static RpcEnd *end_of(Fixture *f, guint n)
{
    return g_ptr_array_index(f->ends, n);
}

static gboolean never(gpointer data)
{
    return *(gboolean *)data;
}

static gboolean stop_waiting(gpointer data)
{
    *(gboolean *)data = TRUE;
    return G_SOURCE_REMOVE;
}

/* Longer than any pause that a first few attempts have between them. */
static void nothing_more_comes(Fixture *f, guint connections)
{
    gboolean over = FALSE;

    g_timeout_add(1500, stop_waiting, &over);
    rpc_test_until(never, &over);
    assert_int_equal(f->ends->len, connections);
}

static void succeed(Fixture *f, guint n)
{
    RpcEnd *end = end_of(f, n);

    answer(end, call(end, 4, PERFORM), NULL, NULL);
    assert_true(rpc_test_until_closed(end));
}

static void fails(Fixture *f, guint n, int code)
{
    RpcEnd *end = end_of(f, n);

    refuse(end, call(end, 4, PERFORM), code);
    assert_true(rpc_test_until_closed(end));
}

/* ---- the course of it ---- */

static void test_first_attempt_that_succeeds_is_the_last(void **state)
{
    Fixture *f = *state;

    breaks(f, 1);
    performs(f, 0, 1);
    succeed(f, 0);
    assert_false(is_known(f, 1));
    nothing_more_comes(f, 1);
}

static void test_attempt_that_fails_is_followed_by_another(void **state)
{
    Fixture *f = *state;

    breaks(f, 1);
    performs(f, 0, 1);
    fails(f, 0, VIR_ERR_OPERATION_FAILED);
    performs(f, 1, 1);
    fails(f, 1, VIR_ERR_OPERATION_INVALID);
    assert_true(is_known(f, 1));
    performs(f, 2, 1);
    succeed(f, 2);
    assert_false(is_known(f, 1));
}

static void test_connection_that_is_lost_is_followed_by_another_attempt(void **state)
{
    Fixture *f = *state;

    breaks(f, 1);
    performs(f, 0, 1);
    rpc_stream_close(end_of(f, 0)->stream, FALSE);
    performs(f, 1, 1);
}

static void test_break_of_an_attempt_is_recovered_by_way_of_its_own_session(void **state)
{
    Fixture *f = *state;

    breaks(f, 1);
    performs(f, 0, 1);
    breaks(f, 2);
    fails(f, 0, VIR_ERR_OPERATION_FAILED);
    performs(f, 1, 2);
    succeed(f, 1);
    assert_false(is_known(f, 1));
    assert_false(is_known(f, 2));
    nothing_more_comes(f, 2);
}

static void test_session_the_destination_does_not_know_gives_way_to_the_one_before(void **state)
{
    guint8 second[MIGRATION_SESSION_LEN];
    Fixture *f = *state;

    memset(second, 2, sizeof second);
    breaks(f, 1);
    performs(f, 0, 1);
    breaks(f, 2);
    fails(f, 0, VIR_ERR_OPERATION_FAILED);
    for (guint n = 1; n <= 3; n++) { /* said once, anybody may have said it */
        performs(f, n, 2);
        recovery_set_session_unknown(f->driver.recoveries, second);
        fails(f, n, VIR_ERR_OPERATION_FAILED);
    }
    performs(f, 4, 1);
}

static void test_session_that_is_gone_here_gives_way_at_once(void **state)
{
    guint8 second[MIGRATION_SESSION_LEN];
    Fixture *f = *state;

    memset(second, 2, sizeof second);
    breaks(f, 1);
    breaks(f, 2);
    performs(f, 0, 2);
    recovery_set_session_gone(f->driver.recoveries, second);
    fails(f, 0, VIR_ERR_OPERATION_FAILED);
    performs(f, 1, 1);
}

static void test_without_a_session_the_destination_knows_it_is_given_up(void **state)
{
    guint8 first[MIGRATION_SESSION_LEN];
    Fixture *f = *state;

    memset(first, 1, sizeof first);
    breaks(f, 1);
    performs(f, 0, 1);
    recovery_set_session_gone(f->driver.recoveries, first);
    fails(f, 0, VIR_ERR_OPERATION_FAILED);
    nothing_more_comes(f, 1);
    breaks(f, 2); /* what breaks later is a matter of its own */
    performs(f, 1, 2);
}

static void test_domain_that_is_gone_needs_no_recovery(void **state)
{
    Fixture *f = *state;
    RpcEnd *end;

    breaks(f, 1);
    end = opened(f, 0);
    refuse(end, call(end, 2, LOOKUP), VIR_ERR_NO_DOMAIN);
    assert_true(rpc_test_until_closed(end));
    assert_false(is_known(f, 1));
    nothing_more_comes(f, 1);
}

static void test_domain_that_is_not_in_postcopy_is_left_alone(void **state)
{
    Fixture *f = *state;

    breaks(f, 1);
    for (guint n = 0; n < 3; n++)
        assert_true(rpc_test_until_closed(in_state(f, n, VIR_DOMAIN_RUNNING, 1)));
    nothing_more_comes(f, 3);
}

static void test_domain_that_has_another_uuid_now_needs_no_recovery(void **state)
{
    Fixture *f = *state;
    RpcEnd *end;

    breaks(f, 1);
    end = opened(f, 0);
    found(end, 2, 9);
    assert_true(rpc_test_until_closed(end));
    assert_int_equal(end->frames->len, 3);
    assert_false(is_known(f, 1));
    nothing_more_comes(f, 1);
}

static void test_guest_that_the_destination_has_lost_is_left_as_it_is(void **state)
{
    Fixture *f = *state;

    breaks(f, 1);
    performs(f, 0, 1);
    refuse(end_of(f, 0), call(end_of(f, 0), 4, PERFORM), VIR_ERR_NO_DOMAIN);
    found(end_of(f, 0), 5, uuid[0]);
    assert_true(rpc_test_until_closed(end_of(f, 0)));
    assert_false(is_known(f, 1));
    nothing_more_comes(f, 1);
}

static void test_domain_that_goes_in_the_middle_of_it_needs_no_recovery(void **state)
{
    Fixture *f = *state;
    RpcEnd *end;

    breaks(f, 1);
    performs(f, 0, 1);
    end = end_of(f, 0);
    refuse(end, call(end, 4, PERFORM), VIR_ERR_NO_DOMAIN);
    refuse(end, call(end, 5, LOOKUP), VIR_ERR_NO_DOMAIN);
    assert_true(rpc_test_until_closed(end));
    assert_false(is_known(f, 1));
    nothing_more_comes(f, 1);
}

static void test_user_who_takes_over_ends_it(void **state)
{
    Fixture *f = *state;

    breaks(f, 1);
    performs(f, 0, 1);
    fails(f, 0, VIR_ERR_OPERATION_FAILED);
    recovery_set_leave(f->driver.recoveries, DOMAIN);
    nothing_more_comes(f, 1);
}

static void test_user_who_is_about_to_resume_is_not_overtaken(void **state)
{
    Fixture *f = *state;

    breaks(f, 1);
    recovery_set_users_turn(f->driver.recoveries, DOMAIN);
    nothing_more_comes(f, 0);
    performs(f, 0, 1);
    succeed(f, 0);
}

static void test_attempt_not_handed_over_is_dropped_when_a_user_takes_over(void **state)
{
    Fixture *f = *state;

    breaks(f, 1);
    performs(f, 0, 1);
    recovery_set_leave(f->driver.recoveries, DOMAIN);
    assert_true(rpc_test_until_closed(end_of(f, 0)));
    assert_false(recovery_set_hand_over(f->driver.recoveries, DOMAIN));
    nothing_more_comes(f, 1);
}

static void test_attempt_handed_over_is_the_last_when_a_user_takes_over(void **state)
{
    Fixture *f = *state;

    breaks(f, 1);
    assert_false(recovery_set_hand_over(f->driver.recoveries, DOMAIN));
    performs(f, 0, 1);
    assert_true(recovery_set_hand_over(f->driver.recoveries, DOMAIN));
    recovery_set_leave(f->driver.recoveries, DOMAIN);
    rpc_test_settle();
    assert_int_equal(end_of(f, 0)->closed, 0);
    fails(f, 0, VIR_ERR_OPERATION_FAILED);
    nothing_more_comes(f, 1);
}

static void test_deadline_ends_it(void **state)
{
    Fixture *f = *state;

    f->settings->recover_timeout = 1;
    breaks(f, 1);
    performs(f, 0, 1);
    fails(f, 0, VIR_ERR_OPERATION_FAILED);
    nothing_more_comes(f, 1);
}

static void test_attempts_that_break_soon_do_not_put_the_deadline_off(void **state)
{
    Fixture *f = *state;

    f->settings->recover_timeout = 1;
    breaks(f, 1);
    performs(f, 0, 1);
    breaks(f, 2);
    fails(f, 0, VIR_ERR_OPERATION_FAILED);
    nothing_more_comes(f, 1);
}

static void test_attempt_that_went_on_for_long_begins_the_time_anew(void **state)
{
    Fixture *f = *state;

    f->settings->recover_timeout = 3600;
    broke(f, 1, 7300, 7200);
    performs(f, 0, 1);
    broke(f, 2, 31, 0);
    fails(f, 0, VIR_ERR_OPERATION_FAILED);
    performs(f, 1, 2);
    fails(f, 1, VIR_ERR_OPERATION_FAILED);
    performs(f, 2, 2);
}

static void test_what_broke_long_ago_is_tried_once(void **state)
{
    Fixture *f = *state;

    f->settings->recover_timeout = 3600;
    broke(f, 1, 7300, 7200);
    performs(f, 0, 1);
    fails(f, 0, VIR_ERR_OPERATION_FAILED);
    nothing_more_comes(f, 1);
}

static void test_only_the_newest_sessions_are_gone_by(void **state)
{
    Fixture *f = *state;
    guint8 id[MIGRATION_SESSION_LEN];

    for (guint8 session = 1; session <= 6; session++)
        breaks(f, session);
    performs(f, 0, 6);
    for (guint8 session = 2; session <= 6; session++) {
        memset(id, session, sizeof id);
        recovery_set_session_gone(f->driver.recoveries, id);
    }
    fails(f, 0, VIR_ERR_OPERATION_FAILED);
    nothing_more_comes(f, 1); /* not even the first */
}

static void test_nothing_is_tried_if_it_is_not_wanted(void **state)
{
    Fixture *f = *state;

    f->settings->auto_recover = FALSE;
    breaks(f, 1);
    nothing_more_comes(f, 0);
}

/* ---- who waits ---- */

typedef struct {
    guint calls;
    gboolean arrived;
} Ended;

/* A client. */
typedef struct {
    RpcEnd *ends[2];
    Proxy *proxy;
} Client;

static const ProxyHooks no_hooks = { 0 };

static Client client_new(const ProxyHooks *hooks, gpointer data)
{
    ProxyPeer peer = { .kind = PROXY_CLIENT_UNIX };
    RpcStream *streams[2];
    Client client;

    for (guint i = 0; i < 2; i++) {
        int fds[2];

        rpc_test_pair(fds);
        client.ends[i] = rpc_end_new(rpc_stream_new_socket(fds[0], TRUE));
        streams[i] = rpc_stream_new_socket(fds[1], TRUE);
    }
    client.proxy = proxy_ref(proxy_new(streams[0], streams[1], &peer, hooks, data));
    return client;
}

static void client_leave(Client *client)
{
    proxy_close(client->proxy);
    rpc_test_settle();
    for (guint i = 0; i < 2; i++)
        g_clear_pointer(&client->ends[i], rpc_end_free);
}

static void client_clear(Client *client)
{
    if (client->ends[0])
        client_leave(client);
    g_clear_pointer(&client->proxy, proxy_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Client, client_clear)

static void on_ended(gboolean arrived, gpointer data)
{
    Ended *ended = data;

    ended->calls++;
    ended->arrived = arrived;
}

static void test_who_waits_hears_that_the_guest_has_arrived(void **state)
{
    Fixture *f = *state;
    g_auto(Client) client = client_new(&no_hooks, NULL);
    Ended ended = { 0 };

    breaks(f, 1);
    assert_true(recovery_set_wait(f->driver.recoveries, DOMAIN, client.proxy, on_ended, &ended));
    performs(f, 0, 1);
    fails(f, 0, VIR_ERR_OPERATION_FAILED);
    assert_int_equal(ended.calls, 0);
    performs(f, 1, 1);
    succeed(f, 1);
    assert_int_equal(ended.calls, 1);
    assert_true(ended.arrived);
}

static void test_who_waits_hears_that_libvirt_has_completed_it_by_itself(void **state)
{
    Fixture *f = *state;
    g_auto(Client) client = client_new(&no_hooks, NULL);
    Ended ended = { 0 };

    breaks(f, 1);
    assert_true(recovery_set_wait(f->driver.recoveries, DOMAIN, client.proxy, on_ended, &ended));
    in_state(f, 0, VIR_DOMAIN_SHUTOFF, VIR_DOMAIN_SHUTOFF_MIGRATED);
    assert_true(rpc_test_until_closed(end_of(f, 0)));
    assert_true(ended.arrived);
    assert_false(is_known(f, 1));
}

static void test_who_waits_hears_of_it_at_once_when_a_user_takes_over(void **state)
{
    Fixture *f = *state;
    g_auto(Client) client = client_new(&no_hooks, NULL);
    Ended ended = { 0 };

    breaks(f, 1);
    assert_true(recovery_set_wait(f->driver.recoveries, DOMAIN, client.proxy, on_ended, &ended));
    performs(f, 0, 1);
    assert_true(recovery_set_hand_over(f->driver.recoveries, DOMAIN));
    recovery_set_leave(f->driver.recoveries, DOMAIN);
    assert_int_equal(ended.calls, 1);
    assert_false(ended.arrived);
    assert_false(recovery_set_wait(f->driver.recoveries, DOMAIN, client.proxy, on_ended, &ended));
    succeed(f, 0);
    assert_int_equal(ended.calls, 1);
}

static void test_client_that_leaves_is_not_kept_waiting(void **state)
{
    Fixture *f = *state;
    g_auto(Client) client = client_new(&no_hooks, NULL);
    Ended ended = { 0 };

    breaks(f, 1);
    assert_true(recovery_set_wait(f->driver.recoveries, DOMAIN, client.proxy, on_ended, &ended));
    client_leave(&client);
    performs(f, 0, 1);
    assert_int_equal(ended.calls, 1);
    assert_false(recovery_set_wait(f->driver.recoveries, DOMAIN, client.proxy, on_ended, &ended));
}

static void test_who_waits_hears_that_it_was_given_up(void **state)
{
    Fixture *f = *state;
    g_auto(Client) client = client_new(&no_hooks, NULL);
    Ended ended = { 0 };

    breaks(f, 1);
    assert_true(recovery_set_wait(f->driver.recoveries, DOMAIN, client.proxy, on_ended, &ended));
    recovery_set_leave(f->driver.recoveries, DOMAIN);
    assert_int_equal(ended.calls, 1);
    assert_false(ended.arrived);
}

static void test_without_a_recovery_nobody_waits(void **state)
{
    Fixture *f = *state;
    g_auto(Client) client = client_new(&no_hooks, NULL);
    Ended ended = { 0 };

    assert_false(recovery_set_wait(f->driver.recoveries, DOMAIN, client.proxy, on_ended, &ended));
    breaks(f, 1);
    assert_false(recovery_set_wait(f->driver.recoveries, "vm2", client.proxy, on_ended, &ended));
    assert_int_equal(ended.calls, 0);
}

/* ---- what clients are told of it ---- */

#define BROKEN "{\"side\":\"source\",\"session\":\"01010101\""

static gboolean on_watching_call(Proxy *proxy, RpcFrame *frame, gpointer data)
{
    return driver_events_call(data, proxy, frame);
}

static void on_watching_closed(Proxy *proxy, gpointer data)
{
    driver_events_closed(data, proxy);
}

/* A client that has registered for everything. */
static Client watching(Fixture *f)
{
    static const ProxyHooks hooks = { .call = on_watching_call, .closed = on_watching_closed };
    Client client = client_new(&hooks, f->driver.events);

    rpc_stream_send(client.ends[0]->stream, monitor_register_call(NULL, NULL, 0, 1));
    assert_true(rpc_test_until_frames(client.ends[1], 1));
    rpc_stream_send(client.ends[1]->stream,
                    monitor_register_reply(&rpc_end_frame(client.ends[1], 0)->header, 1));
    assert_true(rpc_test_until_frames(client.ends[0], 1));
    return client;
}

/* The client's nth event, once its libvirtd has been asked for the domain. */
static void is_told(Client *client, guint n, MonitorEventKind kind, const char *details)
{
    remote_dom_ret ret = { .dom = { .name = (char *)DOMAIN, .id = 7 } };
    remote_monitor_event event;
    const guint8 *payload;
    gsize len;

    assert_true(rpc_test_until_frames(client->ends[1], n + 1));
    rpc_stream_send(client->ends[1]->stream,
                    rpc_xdr_reply(&rpc_end_frame(client->ends[1], n)->header,
                                  (xdrproc_t)xdr_remote_dom_ret, &ret, NULL));
    assert_true(rpc_test_until_frames(client->ends[0], n + 1));
    payload = rpc_frame_payload(rpc_end_frame(client->ends[0], n), &len);
    assert_true(rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_monitor_event, &event,
                               sizeof event, "", NULL));
    assert_string_equal(event.event, monitor_event_name(kind));
    assert_true(g_str_has_prefix(*event.details, BROKEN ",\"attempt\":"));
    assert_non_null(strstr(*event.details, details));
    rpc_xdr_free((xdrproc_t)xdr_remote_monitor_event, &event);
}

static void test_each_attempt_is_told_of(void **state)
{
    Fixture *f = *state;
    g_auto(Client) client = watching(f);

    breaks(f, 1);
    performs(f, 0, 1);
    is_told(&client, 1, MONITOR_EVENT_RECOVERY_STARTED, "\"attempt\":1}");
    fails(f, 0, VIR_ERR_OPERATION_FAILED);
    is_told(&client, 2, MONITOR_EVENT_RECOVERY_FAILED, "\"will-retry\":true}");
    performs(f, 1, 1);
    is_told(&client, 3, MONITOR_EVENT_RECOVERY_STARTED, "\"attempt\":2}");
    succeed(f, 1);
    is_told(&client, 4, MONITOR_EVENT_RECOVERY_DONE, "\"attempt\":2}");
}

static void test_attempt_that_is_the_last_says_so(void **state)
{
    Fixture *f = *state;
    g_auto(Client) client = watching(f);
    RpcEnd *end;

    breaks(f, 1);
    end = opened(f, 0);
    is_told(&client, 1, MONITOR_EVENT_RECOVERY_STARTED, "\"attempt\":1}");
    refuse(end, call(end, 2, LOOKUP), VIR_ERR_NO_DOMAIN);
    is_told(&client, 2, MONITOR_EVENT_RECOVERY_FAILED, "\"will-retry\":false}");
}

static void test_recovery_that_is_given_up_is_told_of(void **state)
{
    Fixture *f = *state;
    g_auto(Client) client = watching(f);

    f->settings->recover_timeout = 1;
    breaks(f, 1);
    performs(f, 0, 1);
    is_told(&client, 1, MONITOR_EVENT_RECOVERY_STARTED, "\"attempt\":1}");
    g_usleep(G_USEC_PER_SEC);
    fails(f, 0, VIR_ERR_OPERATION_FAILED);
    is_told(&client, 2, MONITOR_EVENT_RECOVERY_FAILED, "\"will-retry\":true}");
    is_told(&client, 3, MONITOR_EVENT_RECOVERY_FAILED, "\"will-retry\":false}");
}

static void test_attempt_that_a_user_takes_over_has_failed(void **state)
{
    Fixture *f = *state;
    g_auto(Client) client = watching(f);

    breaks(f, 1);
    performs(f, 0, 1);
    is_told(&client, 1, MONITOR_EVENT_RECOVERY_STARTED, "\"attempt\":1}");
    recovery_set_leave(f->driver.recoveries, DOMAIN);
    is_told(&client, 2, MONITOR_EVENT_RECOVERY_FAILED, "\"will-retry\":false}");
}

/* ---- the URI ---- */

static void test_uri_names_a_session_and_is_read_back(void **state)
{
    static const guint8 session[MIGRATION_SESSION_LEN] = { 0x00, 0x9a, 0xff, 0x10 };
    guint8 read[MIGRATION_SESSION_LEN];
    g_autofree char *uri = recovery_uri_format(session);

    assert_string_equal(uri, "postcopy+recover:///system?session=009aff10000000000000000000000000");
    assert_true(recovery_uri_is(uri));
    assert_true(recovery_uri_parse(uri, read));
    assert_memory_equal(read, session, sizeof session);
}

static void test_other_uris_are_not_taken_for_it(void **state)
{
    static const char *const rows[] = {
        "postcopy+recover:///system",
        "postcopy+recover:///system?session=",
        "postcopy+recover:///system?session=009aff1000000000000000000000000",
        "postcopy+recover:///system?session=009aff100000000000000000000000000",
        "postcopy+recover:///system?session=009aff1000000000000000000000000g",
        "postcopy+recover://b/system?session=009aff10000000000000000000000000",
        "postcopy+recover:///session?session=009aff10000000000000000000000000",
    };
    guint8 session[MIGRATION_SESSION_LEN];

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        assert_true(recovery_uri_is(rows[i]));
        assert_false(recovery_uri_parse(rows[i], session));
    }
    assert_true(recovery_uri_is("POSTCOPY+RECOVER:///system"));
    assert_false(recovery_uri_is("postcopy+tcp://b/system"));
    assert_false(recovery_uri_is("postcopy:///system"));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_first_attempt_that_succeeds_is_the_last),
        CASE(test_attempt_that_fails_is_followed_by_another),
        CASE(test_connection_that_is_lost_is_followed_by_another_attempt),
        CASE(test_break_of_an_attempt_is_recovered_by_way_of_its_own_session),
        CASE(test_session_the_destination_does_not_know_gives_way_to_the_one_before),
        CASE(test_session_that_is_gone_here_gives_way_at_once),
        CASE(test_without_a_session_the_destination_knows_it_is_given_up),
        CASE(test_domain_that_is_gone_needs_no_recovery),
        CASE(test_domain_that_has_another_uuid_now_needs_no_recovery),
        CASE(test_domain_that_is_not_in_postcopy_is_left_alone),
        CASE(test_guest_that_the_destination_has_lost_is_left_as_it_is),
        CASE(test_domain_that_goes_in_the_middle_of_it_needs_no_recovery),
        CASE(test_user_who_takes_over_ends_it),
        CASE(test_user_who_is_about_to_resume_is_not_overtaken),
        CASE(test_attempt_not_handed_over_is_dropped_when_a_user_takes_over),
        CASE(test_attempt_handed_over_is_the_last_when_a_user_takes_over),
        CASE(test_deadline_ends_it),
        CASE(test_attempts_that_break_soon_do_not_put_the_deadline_off),
        CASE(test_attempt_that_went_on_for_long_begins_the_time_anew),
        CASE(test_what_broke_long_ago_is_tried_once),
        CASE(test_only_the_newest_sessions_are_gone_by),
        CASE(test_nothing_is_tried_if_it_is_not_wanted),
        CASE(test_who_waits_hears_that_the_guest_has_arrived),
        CASE(test_who_waits_hears_that_libvirt_has_completed_it_by_itself),
        CASE(test_who_waits_hears_of_it_at_once_when_a_user_takes_over),
        CASE(test_client_that_leaves_is_not_kept_waiting),
        CASE(test_who_waits_hears_that_it_was_given_up),
        CASE(test_without_a_recovery_nobody_waits),
        CASE(test_each_attempt_is_told_of),
        CASE(test_attempt_that_is_the_last_says_so),
        CASE(test_recovery_that_is_given_up_is_told_of),
        CASE(test_attempt_that_a_user_takes_over_has_failed),
        cmocka_unit_test(test_uri_names_a_session_and_is_read_back),
        cmocka_unit_test(test_other_uris_are_not_taken_for_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
