/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who gets the driver's own events, when, and what they tell: a client and a libvirtd that the test
 * plays itself, and migrations of a helper that it plays as well. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <string.h>

#include "driver/driver_events.h"
#include "driver/migration_priv.h"
#include "driver/rpc_error.h"
#include "tests/support/left-behind.h"
#include "tests/support/monitor-calls.h"
#include "tests/support/rpc-end.h"

#define LOOKUP 23
#define LIFECYCLE 318
#define CALLBACK 31 /* of the first registration */
#define SESSION "01010101"

typedef struct {
    Left *left;
    DriverEvents *events;
    Proxy *proxy;
    RpcEnd *client;
    RpcEnd *libvirtd;
    guint seen;     /* frames of libvirtd's that were answered */
    guint received; /* frames of the client's that were looked at */
    guint32 serial;
} Fixture;

static const guint8 uuid[REMOTE_UUID_LEN] = { 4, 2 };
static const guint8 other_uuid[REMOTE_UUID_LEN] = { 4, 3 };

static gboolean on_call(Proxy *proxy, RpcFrame *frame, gpointer data)
{
    Fixture *f = data;

    return frame->header.program == RPC_PROGRAM_QEMU &&
           driver_events_call(f->events, proxy, frame);
}

static void on_closed(Proxy *proxy, gpointer data)
{
    Fixture *f = data;

    driver_events_closed(f->events, proxy);
}

static const ProxyHooks hooks = { .call = on_call, .closed = on_closed };

static void on_notice(Migration *migration, MigrationNotice notice, const char *detail,
                      const char *reason, gpointer data)
{
    driver_events_notice(data, migration, notice, detail, reason);
}

static int setup(void **state)
{
    const ProxyPeer peer = { .kind = PROXY_CLIENT_UNIX };
    Fixture *f = g_new0(Fixture, 1);
    int client[2], upstream[2];
    void *left;

    if (left_setup(&left) < 0)
        return -1;
    f->left = left;
    rpc_test_pair(client);
    rpc_test_pair(upstream);
    f->client = rpc_end_new(rpc_stream_new_socket(client[0], TRUE));
    f->libvirtd = rpc_end_new(rpc_stream_new_socket(upstream[0], TRUE));
    f->proxy = proxy_ref(proxy_new(rpc_stream_new_socket(client[1], TRUE),
                                   rpc_stream_new_socket(upstream[1], TRUE), &peer, &hooks, f));
    *state = f;
    return 0;
}

/* As the daemon starts, with what is left in its directory. */
static void start(Fixture *f)
{
    left_start(f->left);
    f->events = driver_events_new(f->left->set);
    migration_set_on_notice(f->left->set, on_notice, f->events);
}

static int teardown(void **state)
{
    Fixture *f = *state;
    void *left = f->left;
    int result;

    proxy_close(f->proxy);
    rpc_test_settle();
    proxy_unref(f->proxy);
    rpc_end_free(f->client);
    rpc_end_free(f->libvirtd);
    driver_events_free(f->events);
    result = left_teardown(&left);
    g_free(f);
    return result;
}

/* ---- libvirtd's part ---- */

/* The next call that reaches it. */
static const RpcFrame *called(Fixture *f, guint32 program, gint32 procedure)
{
    const RpcFrame *frame;

    assert_true(rpc_test_until_frames(f->libvirtd, f->seen + 1));
    frame = rpc_end_frame(f->libvirtd, f->seen++);
    assert_int_equal(frame->header.program, program);
    assert_int_equal(frame->header.procedure, procedure);
    return frame;
}

static void not_called(Fixture *f)
{
    rpc_test_settle();
    assert_int_equal(f->libvirtd->frames->len, f->seen);
}

static void answer(Fixture *f, RpcFrame *reply)
{
    rpc_stream_send(f->libvirtd->stream, reply);
}

/* With no result. */
static void agree(Fixture *f, const RpcFrame *call)
{
    RpcHeader header = call->header;

    header.type = RPC_TYPE_REPLY;
    answer(f, rpc_frame_new(&header, NULL, 0));
}

static void refuse(Fixture *f, const RpcFrame *call, int code)
{
    answer(f, rpc_error_reply(&call->header, code, VIR_FROM_QEMU, "no"));
}

/* A look-up of DOMAIN_NAME. */
static const RpcFrame *looked_up(Fixture *f)
{
    const RpcFrame *call = called(f, RPC_PROGRAM_REMOTE, LOOKUP);
    RPC_XDR_AUTO(remote_text_ret, args) = { 0 };
    gsize len;
    const guint8 *payload = rpc_frame_payload(call, &len);

    assert_true(rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_text_ret, &args, sizeof args,
                               "", NULL));
    assert_string_equal(args.text, DOMAIN_NAME);
    return call;
}

static void found_as(Fixture *f, const RpcFrame *call, const guint8 *id)
{
    remote_dom_ret ret = { .dom = { .name = (char *)DOMAIN_NAME, .id = 9 } };

    memcpy(ret.dom.uuid, id, sizeof ret.dom.uuid);
    answer(f, rpc_xdr_reply(&call->header, (xdrproc_t)xdr_remote_dom_ret, &ret, NULL));
}

static void found(Fixture *f)
{
    found_as(f, looked_up(f), uuid);
}

/* ---- the client's part ---- */

static const RpcFrame *received(Fixture *f)
{
    assert_true(rpc_test_until_frames(f->client, f->received + 1));
    return rpc_end_frame(f->client, f->received++);
}

static void received_nothing(Fixture *f)
{
    rpc_test_settle();
    assert_int_equal(f->client->frames->len, f->received);
}

static void registers_for(Fixture *f, const char *event, const guint8 *domain, gint32 callback)
{
    rpc_stream_send(f->client->stream, monitor_register_call(domain, event, 0, ++f->serial));
    answer(f, monitor_register_reply(
                  &called(f, RPC_PROGRAM_QEMU, PROC_MONITOR_EVENT_REGISTER)->header, callback));
    assert_int_equal(received(f)->header.serial, f->serial);
}

static void registers(Fixture *f)
{
    registers_for(f, NULL, NULL, CALLBACK);
}

/* Returns what libvirtd is to answer. */
static const RpcFrame *deregisters(Fixture *f, gint32 callback)
{
    rpc_stream_send(f->client->stream, monitor_deregister_call(callback, ++f->serial));
    return called(f, RPC_PROGRAM_QEMU, PROC_MONITOR_EVENT_DEREGISTER);
}

/* An event with these details ("" : any). Returns the domain's id. */
static gint32 hears(Fixture *f, gint32 callback, MonitorEventKind kind, const char *details)
{
    const RpcFrame *frame = received(f);
    remote_monitor_event event;
    gsize len;
    const guint8 *payload = rpc_frame_payload(frame, &len);
    gint32 id;

    assert_int_equal(frame->header.type, RPC_TYPE_MESSAGE);
    assert_int_equal(frame->header.program, RPC_PROGRAM_QEMU);
    assert_true(rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_monitor_event, &event,
                               sizeof event, "", NULL));
    assert_int_equal(event.callback, callback);
    assert_string_equal(event.event, monitor_event_name(kind));
    assert_string_equal(event.dom.name, DOMAIN_NAME);
    if (*details)
        assert_string_equal(*event.details, details);
    assert_true(g_get_real_time() / G_USEC_PER_SEC - event.seconds < 600);
    id = event.dom.id;
    rpc_xdr_free((xdrproc_t)xdr_remote_monitor_event, &event);
    return id;
}

static void happens(Fixture *f, MonitorEventKind kind, guint attempt)
{
    MonitorDetails details = MONITOR_DETAILS_INIT;

    details.attempt = attempt;
    driver_events_recovery(f->events, kind, DOMAIN_NAME, &details);
}

/* ---- registrations ---- */

static void test_event_goes_to_who_has_registered(void **state)
{
    Fixture *f = *state;

    start(f);
    happens(f, MONITOR_EVENT_RECOVERY_STARTED, 1);
    registers(f);
    received_nothing(f);
    happens(f, MONITOR_EVENT_RECOVERY_STARTED, 2);
    found(f);
    assert_int_equal(hears(f, CALLBACK, MONITOR_EVENT_RECOVERY_STARTED, "{\"attempt\":2}"), 9);
    received_nothing(f);
}

static void test_registration_that_libvirt_refuses_is_none(void **state)
{
    Fixture *f = *state;

    start(f);
    rpc_stream_send(f->client->stream, monitor_register_call(NULL, NULL, 0, 1));
    refuse(f, called(f, RPC_PROGRAM_QEMU, PROC_MONITOR_EVENT_REGISTER), VIR_ERR_OPERATION_DENIED);
    assert_int_equal(received(f)->header.status, RPC_STATUS_ERROR);
    happens(f, MONITOR_EVENT_RECOVERY_STARTED, 1);
    not_called(f);
}

static void test_each_registration_has_its_own_number_and_filter(void **state)
{
    Fixture *f = *state;

    start(f);
    registers_for(f, "POSTCOPY_RECOVERY_DONE", NULL, 5);
    registers_for(f, "POSTCOPY_RECOVERY_STARTED", NULL, 6);
    registers_for(f, NULL, uuid, 7);
    registers_for(f, NULL, other_uuid, 8);
    registers_for(f, "MIGRATION", NULL, 9);
    happens(f, MONITOR_EVENT_RECOVERY_STARTED, 1);
    found(f);
    hears(f, 6, MONITOR_EVENT_RECOVERY_STARTED, "");
    hears(f, 7, MONITOR_EVENT_RECOVERY_STARTED, "");
    happens(f, MONITOR_EVENT_RECOVERY_DONE, 1);
    found_as(f, looked_up(f), other_uuid);
    hears(f, 5, MONITOR_EVENT_RECOVERY_DONE, "");
    hears(f, 8, MONITOR_EVENT_RECOVERY_DONE, "");
    received_nothing(f);
}

static void test_client_that_wants_none_of_ours_costs_nothing(void **state)
{
    Fixture *f = *state;

    start(f);
    registers_for(f, "MIGRATION", NULL, 5);
    happens(f, MONITOR_EVENT_RECOVERY_DONE, 1);
    not_called(f);
}

static void test_deregistered_callback_hears_nothing(void **state)
{
    Fixture *f = *state;
    const RpcFrame *call;

    start(f);
    registers_for(f, NULL, NULL, 5);
    registers_for(f, NULL, NULL, 6);
    call = deregisters(f, 6);
    agree(f, call);
    received(f);
    happens(f, MONITOR_EVENT_RECOVERY_STARTED, 1);
    found(f);
    hears(f, 5, MONITOR_EVENT_RECOVERY_STARTED, "");
    /* also if the event was under way already */
    happens(f, MONITOR_EVENT_RECOVERY_DONE, 1);
    call = looked_up(f);
    agree(f, deregisters(f, 5));
    received(f);
    found_as(f, call, uuid);
    received_nothing(f);
    happens(f, MONITOR_EVENT_RECOVERY_STARTED, 2);
    not_called(f);
}

static void test_deregistration_that_libvirt_refuses_ends_nothing(void **state)
{
    Fixture *f = *state;

    start(f);
    registers(f);
    refuse(f, deregisters(f, CALLBACK), VIR_ERR_INVALID_ARG);
    received(f);
    happens(f, MONITOR_EVENT_RECOVERY_STARTED, 1);
    found(f);
    hears(f, CALLBACK, MONITOR_EVENT_RECOVERY_STARTED, "");
}

/* It is libvirtd that tells the client what is wrong with it. */
static void test_regular_expression_that_is_none_costs_nothing(void **state)
{
    Fixture *f = *state;
    const guint flags = VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX;

    start(f);
    rpc_stream_send(f->client->stream, monitor_register_call(NULL, "(", flags, 1));
    answer(f, monitor_register_reply(
                  &called(f, RPC_PROGRAM_QEMU, PROC_MONITOR_EVENT_REGISTER)->header, 5));
    received(f);
    happens(f, MONITOR_EVENT_RECOVERY_DONE, 1);
    not_called(f);
}

static void test_what_cannot_be_read_is_libvirts_to_refuse(void **state)
{
    Fixture *f = *state;
    const RpcHeader header = { RPC_PROGRAM_QEMU, 1, PROC_MONITOR_EVENT_REGISTER, RPC_TYPE_CALL, 7,
                               RPC_STATUS_OK };

    start(f);
    rpc_stream_send(f->client->stream, rpc_frame_new(&header, "no", 2));
    assert_int_equal(called(f, RPC_PROGRAM_QEMU, PROC_MONITOR_EVENT_REGISTER)->header.serial, 7);
}

/* ---- order ---- */

static void test_events_come_in_order_and_behind_libvirts(void **state)
{
    Fixture *f = *state;
    const RpcFrame *first;

    start(f);
    registers(f);
    happens(f, MONITOR_EVENT_RECOVERY_STARTED, 1);
    happens(f, MONITOR_EVENT_RECOVERY_FAILED, 1);
    happens(f, MONITOR_EVENT_RECOVERY_STARTED, 2);
    first = looked_up(f);
    not_called(f); /* one after the other: libvirtd answers calls in any order */
    answer(f, rpc_test_frame(RPC_TYPE_MESSAGE, LIFECYCLE, 1, 40));
    found_as(f, first, uuid);
    assert_int_equal(received(f)->header.procedure, LIFECYCLE);
    hears(f, CALLBACK, MONITOR_EVENT_RECOVERY_STARTED, "{\"attempt\":1}");
    found(f);
    hears(f, CALLBACK, MONITOR_EVENT_RECOVERY_FAILED, "{\"attempt\":1}");
    found(f);
    hears(f, CALLBACK, MONITOR_EVENT_RECOVERY_STARTED, "{\"attempt\":2}");
}

static void test_queue_is_bounded(void **state)
{
    Fixture *f = *state;
    const guint bound = 512;

    start(f);
    registers(f);
    for (guint i = 1; i <= bound + 100; i++)
        happens(f, MONITOR_EVENT_RECOVERY_STARTED, i);
    for (guint i = 1; i <= bound; i++) {
        g_autofree char *details = g_strdup_printf("{\"attempt\":%u}", i);

        found(f);
        hears(f, CALLBACK, MONITOR_EVENT_RECOVERY_STARTED, details);
    }
    not_called(f);
    happens(f, MONITOR_EVENT_RECOVERY_DONE, 1);
    found(f);
    hears(f, CALLBACK, MONITOR_EVENT_RECOVERY_DONE, "");
}

/* ---- domains ---- */

static void test_domain_that_was_known_is_told_of_when_it_is_gone(void **state)
{
    Fixture *f = *state;

    start(f);
    registers_for(f, NULL, uuid, CALLBACK);
    happens(f, MONITOR_EVENT_RECOVERY_STARTED, 1);
    found(f);
    assert_int_equal(hears(f, CALLBACK, MONITOR_EVENT_RECOVERY_STARTED, ""), 9);
    happens(f, MONITOR_EVENT_RECOVERY_DONE, 1);
    refuse(f, looked_up(f), VIR_ERR_NO_DOMAIN);
    assert_int_equal(hears(f, CALLBACK, MONITOR_EVENT_RECOVERY_DONE, ""), -1);
}

static void test_domain_that_a_client_may_not_see_is_not_told_of(void **state)
{
    Fixture *f = *state;

    start(f);
    registers(f);
    happens(f, MONITOR_EVENT_RECOVERY_STARTED, 1);
    refuse(f, looked_up(f), VIR_ERR_ACCESS_DENIED);
    happens(f, MONITOR_EVENT_RECOVERY_STARTED, 2);
    refuse(f, looked_up(f), VIR_ERR_NO_DOMAIN);
    received_nothing(f);
}

/* Registered in the middle of a migration: at the first event the domain may be gone from here. */
static void test_who_registers_late_knows_what_migrates(void **state)
{
    Fixture *f = *state;
    g_auto(FakeHelper) helper = { 0 };

    fake_helper_init(&helper, f->left, 1);
    left_save(f->left, left_make_record(MIGRATION_SIDE_SOURCE, 1));
    start(f);
    wait_until(helper.connection != NULL);
    registers(f);
    found(f);
    received_nothing(f);
    happens(f, MONITOR_EVENT_RECOVERY_DONE, 1);
    refuse(f, looked_up(f), VIR_ERR_NO_DOMAIN);
    assert_int_equal(hears(f, CALLBACK, MONITOR_EVENT_RECOVERY_DONE, ""), -1);
    wait_until(migration_is_reachable(left_source_of(f->left)));
    fake_helper_end(&helper, "completed", "");
    wait_until(!left_has_files(f->left));
}

/* ---- the end ---- */

static void test_client_that_leaves_is_forgotten(void **state)
{
    Fixture *f = *state;

    start(f);
    registers(f);
    happens(f, MONITOR_EVENT_RECOVERY_STARTED, 1);
    happens(f, MONITOR_EVENT_RECOVERY_FAILED, 1);
    looked_up(f);
    rpc_stream_close(f->client->stream, FALSE);
    assert_true(rpc_test_until_closed(f->libvirtd));
    happens(f, MONITOR_EVENT_RECOVERY_STARTED, 2);
    rpc_test_settle();
    happens(f, MONITOR_EVENT_RECOVERY_STARTED, 3);
}

static void test_client_that_leaves_in_a_registration_gets_none(void **state)
{
    Fixture *f = *state;

    start(f);
    rpc_stream_send(f->client->stream, monitor_register_call(NULL, NULL, 0, 1));
    called(f, RPC_PROGRAM_QEMU, PROC_MONITOR_EVENT_REGISTER);
    rpc_stream_close(f->client->stream, FALSE);
    assert_true(rpc_test_until_closed(f->libvirtd));
    rpc_test_settle();
    happens(f, MONITOR_EVENT_RECOVERY_STARTED, 1);
}

static void test_daemon_that_stops_waits_for_nobody(void **state)
{
    Fixture *f = *state;

    start(f);
    registers(f);
    happens(f, MONITOR_EVENT_RECOVERY_STARTED, 1);
    looked_up(f);
    migration_set_on_notice(f->left->set, NULL, NULL);
    g_clear_pointer(&f->events, driver_events_free);
    f->events = driver_events_new(f->left->set);
    proxy_close(f->proxy);
    rpc_test_settle();
}

/* ---- what migrations say ---- */

static void set_channels(FakeHelper *helper, gboolean preempt)
{
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE("a(sss)"));
    g_variant_builder_add(&builder, "(sss)", "main", "TLS1.3", "AES-256-GCM");
    if (preempt)
        g_variant_builder_add(&builder, "(sss)", "preempt", "TLS1.3", "CHACHA20-POLY1305");
    postcopy_migration_set_channels(helper->object, g_variant_builder_end(&builder));
    postcopy_migration_set_peer_name(helper->object, "CN=a");
    g_dbus_interface_skeleton_flush(G_DBUS_INTERFACE_SKELETON(helper->object));
}

/* A daemon that finds a destination's helper again, with its main channel, and a client that has
 * registered since. */
static void start_with(Fixture *f, FakeHelper *helper, gboolean recovers)
{
    JobRecord *record = left_make_record(MIGRATION_SIDE_DESTINATION, 1);

    record->recovers = recovers;
    fake_helper_init(helper, f->left, 1);
    set_channels(helper, FALSE);
    left_save(f->left, record);
    start(f);
    wait_until(helper->connection &&
               migration_is_reachable(migration_set_lookup(
                   f->left->set, left_find(f->left, MIGRATION_SIDE_DESTINATION, 1)->uri.session)));
    registers(f);
    found(f);
}

static void end_with(Fixture *f, FakeHelper *helper, const char *state)
{
    fake_helper_end(helper, state, "so be it");
    wait_until(f->left->set->migrations->len == 0);
}

static void test_channels_are_told_of_once(void **state)
{
    Fixture *f = *state;
    g_auto(FakeHelper) helper = { 0 };

    start_with(f, &helper, FALSE);
    received_nothing(f);
    set_channels(&helper, TRUE);
    found(f);
    hears(f, CALLBACK, MONITOR_EVENT_CHANNEL_OPENED,
          "{\"side\":\"destination\",\"session\":\"" SESSION "\",\"channel\":\"preempt\","
          "\"tls\":\"TLS1.3\",\"cipher\":\"CHACHA20-POLY1305\",\"peer\":\"CN=a\"}");
    set_channels(&helper, FALSE); /* it is made anew: that is told of as a link restored */
    set_channels(&helper, TRUE);
    received_nothing(f);
    end_with(f, &helper, "completed");
    not_called(f);
}

static void test_link_is_told_of_when_it_goes_and_comes(void **state)
{
    Fixture *f = *state;
    g_auto(FakeHelper) helper = { 0 };

    start_with(f, &helper, FALSE);
    postcopy_migration_emit_channel_lost(helper.object, "main", "no word for 8 s");
    found(f);
    hears(f, CALLBACK, MONITOR_EVENT_LINK_LOST,
          "{\"side\":\"destination\",\"session\":\"" SESSION "\",\"channel\":\"main\","
          "\"reason\":\"no word for 8 s\"}");
    postcopy_migration_emit_channel_lost(helper.object, "main", "still nothing");
    postcopy_migration_emit_channel_resumed(helper.object, "preempt"); /* was never lost */
    received_nothing(f);
    postcopy_migration_emit_channel_resumed(helper.object, "main");
    found(f);
    hears(f, CALLBACK, MONITOR_EVENT_LINK_RESTORED, "");
    end_with(f, &helper, "completed");
    not_called(f);
}

#define RECOVERS "{\"side\":\"destination\",\"session\":\"" SESSION "\""

static void test_resumed_session_that_completes_is_a_recovery_done(void **state)
{
    Fixture *f = *state;
    g_auto(FakeHelper) helper = { 0 };

    start_with(f, &helper, TRUE);
    end_with(f, &helper, "completed");
    found(f);
    hears(f, CALLBACK, MONITOR_EVENT_RECOVERY_DONE, RECOVERS "}");
}

static void test_resumed_session_that_breaks_is_a_recovery_failed(void **state)
{
    Fixture *f = *state;
    g_auto(FakeHelper) helper = { 0 };

    start_with(f, &helper, TRUE);
    end_with(f, &helper, "failed");
    found(f);
    hears(f, CALLBACK, MONITOR_EVENT_RECOVERY_FAILED, RECOVERS ",\"reason\":\"so be it\"}");
    migration_set_forget(f->left->set, MIGRATION_SIDE_DESTINATION, DOMAIN_NAME);
}

static void test_resumed_session_whose_helper_dies_is_a_recovery_failed(void **state)
{
    Fixture *f = *state;
    g_auto(FakeHelper) helper = { 0 };

    start_with(f, &helper, TRUE);
    fake_helper_leave(&helper);
    wait_until(f->left->set->migrations->len == 0);
    found(f);
    hears(f, CALLBACK, MONITOR_EVENT_RECOVERY_FAILED, "");
    received_nothing(f);
    migration_set_forget(f->left->set, MIGRATION_SIDE_DESTINATION, DOMAIN_NAME);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_event_goes_to_who_has_registered),
        TEST(test_registration_that_libvirt_refuses_is_none),
        TEST(test_each_registration_has_its_own_number_and_filter),
        TEST(test_client_that_wants_none_of_ours_costs_nothing),
        TEST(test_deregistered_callback_hears_nothing),
        TEST(test_deregistration_that_libvirt_refuses_ends_nothing),
        TEST(test_regular_expression_that_is_none_costs_nothing),
        TEST(test_what_cannot_be_read_is_libvirts_to_refuse),
        TEST(test_events_come_in_order_and_behind_libvirts),
        TEST(test_queue_is_bounded),
        TEST(test_domain_that_was_known_is_told_of_when_it_is_gone),
        TEST(test_domain_that_a_client_may_not_see_is_not_told_of),
        TEST(test_who_registers_late_knows_what_migrates),
        TEST(test_client_that_leaves_is_forgotten),
        TEST(test_client_that_leaves_in_a_registration_gets_none),
        TEST(test_daemon_that_stops_waits_for_nobody),
        TEST(test_channels_are_told_of_once),
        TEST(test_link_is_told_of_when_it_goes_and_comes),
        TEST(test_resumed_session_that_completes_is_a_recovery_done),
        TEST(test_resumed_session_that_breaks_is_a_recovery_failed),
        TEST(test_resumed_session_whose_helper_dies_is_a_recovery_failed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
