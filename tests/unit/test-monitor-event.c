/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The driver's own monitor events: their details as JSON, which registrations let them through, and
 * their frames. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <json-glib/json-glib.h>
#include <libvirt/libvirt-qemu.h>
#include <string.h>

#include "driver/monitor_event.h"
#include "tests/support/monitor-calls.h"

#define ALL ((1u << MONITOR_EVENT_MAX) - 1)
#define REGEX VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX
#define NOCASE VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_NOCASE

/* ---- details ---- */

static MonitorDetails everything(void)
{
    return (MonitorDetails){ .side = "source",
                             .session = "0a1b2c3d",
                             .channel = "main",
                             .tls = "TLS1.3",
                             .cipher = "AES-256-GCM",
                             .peer = "CN=b",
                             .reason = "gone",
                             .lost_ms = 0,
                             .attempt = 3,
                             .will_retry = FALSE };
}

static void assert_json(MonitorEventKind kind, const MonitorDetails *details, const char *expected)
{
    g_autofree char *json = monitor_event_json(kind, details);

    assert_string_equal(json, expected);
}

static void test_each_event_has_its_fields_and_no_others(void **state)
{
    const MonitorDetails details = everything();
    static const char *const expected[] = {
        [MONITOR_EVENT_CHANNEL_OPENED] =
            "{\"side\":\"source\",\"session\":\"0a1b2c3d\",\"channel\":\"main\",\"tls\":\"TLS1.3\","
            "\"cipher\":\"AES-256-GCM\",\"peer\":\"CN=b\"}",
        [MONITOR_EVENT_LINK_LOST] = "{\"side\":\"source\",\"session\":\"0a1b2c3d\","
                                    "\"channel\":\"main\",\"reason\":\"gone\"}",
        [MONITOR_EVENT_LINK_RESTORED] = "{\"side\":\"source\",\"session\":\"0a1b2c3d\","
                                        "\"channel\":\"main\",\"lost-ms\":0}",
        [MONITOR_EVENT_RECOVERY_STARTED] =
            "{\"side\":\"source\",\"session\":\"0a1b2c3d\",\"attempt\":3}",
        [MONITOR_EVENT_RECOVERY_FAILED] = "{\"side\":\"source\",\"session\":\"0a1b2c3d\","
                                          "\"attempt\":3,\"reason\":\"gone\",\"will-retry\":false}",
        [MONITOR_EVENT_RECOVERY_DONE] =
            "{\"side\":\"source\",\"session\":\"0a1b2c3d\",\"attempt\":3}",
    };

    assert_int_equal(G_N_ELEMENTS(expected), MONITOR_EVENT_MAX);
    for (guint kind = 0; kind < MONITOR_EVENT_MAX; kind++)
        assert_json((MonitorEventKind)kind, &details, expected[kind]);
}

static void test_what_is_not_known_is_left_out(void **state)
{
    const MonitorDetails nothing = MONITOR_DETAILS_INIT;

    for (guint kind = 0; kind < MONITOR_EVENT_MAX; kind++)
        assert_json((MonitorEventKind)kind, &nothing, "{}");
}

/* Reads it back, as a consumer would. */
static void assert_reason_survives(const char *reason, const char *expected)
{
    MonitorDetails details = MONITOR_DETAILS_INIT;
    g_autoptr(JsonNode) root = NULL;
    g_autofree char *json = NULL;

    details.reason = reason;
    json = monitor_event_json(MONITOR_EVENT_LINK_LOST, &details);
    assert_null(strchr(json, '\n'));
    root = json_from_string(json, NULL);
    assert_non_null(root);
    assert_string_equal(json_object_get_string_member(json_node_get_object(root), "reason"),
                        expected);
}

static void test_text_of_any_kind_is_escaped(void **state)
{
    assert_reason_survives("a \"quoted\" word\\", "a \"quoted\" word\\");
    assert_reason_survives("two\nlines\tand\x01\x7f controls", "two\nlines\tand\x01\x7f controls");
    assert_reason_survives("schöner Grund", "schöner Grund");
    assert_reason_survives("cut in mid\xc3", "cut in mid\xef\xbf\xbd");
    assert_reason_survives("", "");
}

/* ---- filters ---- */

static gboolean filter_of(const RpcFrame *call, MonitorFilter *ret, GError **error)
{
    g_auto(MonitorRegistration) wanted = { 0 };

    *ret = (MonitorFilter){ 0 };
    return monitor_registration_decode(call, &wanted, error) &&
           monitor_registration_filter(&wanted, ret, error);
}

static guint kinds_for(const char *event, guint flags)
{
    g_autoptr(RpcFrame) call = monitor_register_call(NULL, event, flags, 7);
    g_autoptr(GError) error = NULL;
    MonitorFilter filter;

    assert_true(filter_of(call, &filter, &error));
    assert_true(filter.any_domain);
    return filter.kinds;
}

static void test_registration_without_a_name_gets_all(void **state)
{
    assert_int_equal(kinds_for(NULL, 0), ALL);
    assert_int_equal(kinds_for(NULL, REGEX | NOCASE), ALL);
}

static void test_name_has_to_be_the_whole_name(void **state)
{
    for (guint kind = 0; kind < MONITOR_EVENT_MAX; kind++) {
        const char *name = monitor_event_name((MonitorEventKind)kind);
        g_autofree char *lower = g_ascii_strdown(name, -1);
        g_autofree char *part = g_strndup(name, strlen(name) - 1);

        assert_int_equal(kinds_for(name, 0), 1u << kind);
        assert_int_equal(kinds_for(lower, 0), 0);
        assert_int_equal(kinds_for(lower, NOCASE), 1u << kind);
        assert_int_equal(kinds_for(part, NOCASE), 0);
    }
    assert_int_equal(kinds_for("POSTCOPY_.*", 0), 0);
    assert_int_equal(kinds_for("", 0), 0);
    assert_int_equal(kinds_for("MIGRATION", 0), 0);
}

static void test_regular_expression_matches_anywhere(void **state)
{
    const guint link = 1u << MONITOR_EVENT_LINK_LOST | 1u << MONITOR_EVENT_LINK_RESTORED;

    assert_int_equal(kinds_for("LINK", REGEX), link);
    assert_int_equal(kinds_for("^POSTCOPY_LINK_(LOST|RESTORED)$", REGEX), link);
    assert_int_equal(kinds_for("link", REGEX), 0);
    assert_int_equal(kinds_for("link", REGEX | NOCASE), link);
    assert_int_equal(kinds_for("^LINK", REGEX), 0);
    assert_int_equal(kinds_for("", REGEX), ALL);
    assert_int_equal(kinds_for("STOP|RESUME", REGEX), 0);
}

/* Its first half is tried in 2 to the name's length ways before the second one would match. */
#define BACKTRACKS "^(.+)+[0-9]|^POSTCOPY_LINK_LOST$"

static void test_regular_expression_that_backtracks_for_long_matches_nothing(void **state)
{
    assert_int_equal(kinds_for(BACKTRACKS, REGEX), 0);
    assert_int_equal(kinds_for("(.+)+_LOST", REGEX), 1u << MONITOR_EVENT_LINK_LOST);
}

static void test_pattern_that_is_too_long_is_not_looked_at(void **state)
{
    g_autofree char *longest = g_strnfill(MONITOR_PATTERN_MAX, 'A');
    g_autofree char *longer = g_strnfill(MONITOR_PATTERN_MAX + 1, 'A');
    g_autoptr(RpcFrame) call = monitor_register_call(NULL, longer, REGEX, 7);
    g_autoptr(GError) error = NULL;
    MonitorFilter filter;

    assert_int_equal(kinds_for(longest, REGEX), 0);
    assert_false(filter_of(call, &filter, &error));
    assert_true(g_error_matches(error, RPC_XDR_ERROR, RPC_XDR_ERROR_DECODE));
}

static void test_domain_is_known_by_its_uuid(void **state)
{
    static const guint8 uuid[REMOTE_UUID_LEN] = { 1, 2, 3 }, other[REMOTE_UUID_LEN] = { 1, 2, 4 };
    g_autoptr(RpcFrame) call = monitor_register_call(uuid, "POSTCOPY_LINK_LOST", 0, 7);
    MonitorFilter filter;

    assert_true(filter_of(call, &filter, NULL));
    assert_false(filter.any_domain);
    assert_true(monitor_filter_fits(&filter, MONITOR_EVENT_LINK_LOST, uuid));
    assert_false(monitor_filter_fits(&filter, MONITOR_EVENT_LINK_LOST, other));
    assert_false(monitor_filter_fits(&filter, MONITOR_EVENT_LINK_RESTORED, uuid));
}

static void test_what_is_no_registration_is_refused(void **state)
{
    static const guint8 uuid[REMOTE_UUID_LEN] = { 9 };
    g_autoptr(RpcFrame) good = monitor_register_call(uuid, "MIGRATION", 0, 7);
    g_autoptr(RpcFrame) regex = monitor_register_call(NULL, "(", REGEX, 7);
    g_autoptr(RpcFrame) no_limit =
        monitor_register_call(NULL, "(*LIMIT_MATCH=4000000000)" BACKTRACKS, REGEX, 7);
    g_autoptr(RpcFrame) no_text = monitor_register_call(NULL, "\xff", REGEX, 7);
    g_autoptr(GError) error = NULL;
    MonitorFilter filter;
    gsize len;
    const guint8 *payload = rpc_frame_payload(good, &len);

    for (gsize cut = 0; cut < len; cut++) {
        g_autoptr(RpcFrame) frame = rpc_frame_new(&good->header, payload, cut);

        assert_false(filter_of(frame, &filter, NULL));
        assert_int_equal(filter.kinds, 0);
    }
    assert_false(filter_of(no_limit, &filter, NULL));
    assert_int_equal(filter.kinds, 0);
    assert_false(filter_of(regex, &filter, &error));
    assert_non_null(error);
    assert_false(filter_of(no_text, &filter, NULL));
}

static void test_number_of_a_callback_is_all_there_is(void **state)
{
    g_autoptr(RpcFrame) good = monitor_deregister_call(-5, 7);
    g_autoptr(RpcFrame) empty = rpc_frame_new(&good->header, NULL, 0);
    g_autoptr(RpcFrame) more = rpc_frame_new(&good->header, "12345678", 8);
    gint32 callback = 0;

    assert_true(monitor_callback_decode(good, &callback, NULL));
    assert_int_equal(callback, -5);
    assert_false(monitor_callback_decode(empty, &callback, NULL));
    assert_false(monitor_callback_decode(more, &callback, NULL));
}

/* ---- frames ---- */

static void test_frame_is_like_one_of_libvirtds(void **state)
{
    const MonitorEvent event = { MONITOR_EVENT_LINK_LOST, 1234567890123456, "{}" };
    remote_dom dom = { .name = (char *)"vm1", .uuid = "0123456789abcde", .id = 4 };
    static const guint8 expected[] =
        "\0\0\0\x2a" "\0\0\0\x03vm1\0" "0123456789abcde\0" "\0\0\0\x04"
        "\0\0\0\x12POSTCOPY_LINK_LOST\0\0" "\0\0\0\0\x49\x96\x02\xd2" "\0\x01\xe2\x40"
        "\0\0\0\x01" "\0\0\0\x02{}\0";
    g_autoptr(RpcFrame) frame = monitor_event_frame(&event, 42, &dom, NULL);
    gsize len;
    const guint8 *payload;

    assert_non_null(frame);
    payload = rpc_frame_payload(frame, &len);
    assert_int_equal(frame->header.program, RPC_PROGRAM_QEMU);
    assert_int_equal(frame->header.version, 1);
    assert_int_equal(frame->header.procedure, 6);
    assert_int_equal(frame->header.type, RPC_TYPE_MESSAGE);
    assert_int_equal(frame->header.serial, 1);
    assert_int_equal(frame->header.status, RPC_STATUS_OK);
    assert_int_equal(len, sizeof expected);
    assert_memory_equal(payload, expected, len);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_event_has_its_fields_and_no_others),
        cmocka_unit_test(test_what_is_not_known_is_left_out),
        cmocka_unit_test(test_text_of_any_kind_is_escaped),
        cmocka_unit_test(test_registration_without_a_name_gets_all),
        cmocka_unit_test(test_name_has_to_be_the_whole_name),
        cmocka_unit_test(test_regular_expression_matches_anywhere),
        cmocka_unit_test(test_regular_expression_that_backtracks_for_long_matches_nothing),
        cmocka_unit_test(test_pattern_that_is_too_long_is_not_looked_at),
        cmocka_unit_test(test_domain_is_known_by_its_uuid),
        cmocka_unit_test(test_what_is_no_registration_is_refused),
        cmocka_unit_test(test_number_of_a_callback_is_all_there_is),
        cmocka_unit_test(test_frame_is_like_one_of_libvirtds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
