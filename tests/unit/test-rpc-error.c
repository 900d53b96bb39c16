/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libvirt's error object: its bytes, what is refused, and changing the message of a reply. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "driver/rpc_error.h"

static void test_object_has_libvirts_layout(void **state)
{
    static const guint8 expected[] = {
        0, 0, 0, 74,  0, 0, 0, 10,                     /* code, domain */
        0, 0, 0, 1,   0, 0, 0, 2, 'n', 'o', 0, 0,      /* message */
        0, 0, 0, 2,   0, 0, 0, 0,                      /* level, no domain */
        0, 0, 0, 1,   0, 0, 0, 2, '%', 's', 0, 0,      /* str1 */
        0, 0, 0, 1,   0, 0, 0, 2, 'n', 'o', 0, 0,      /* str2 */
        0, 0, 0, 0,                                    /* str3 */
        255, 255, 255, 255, 255, 255, 255, 255,        /* int1, int2 */
        0, 0, 0, 0,                                    /* no network */
    };
    g_autoptr(GByteArray) object = rpc_error_encode(74, 10, "no");

    assert_int_equal(object->len, sizeof expected);
    assert_memory_equal(object->data, expected, sizeof expected);
}

static void test_every_length_is_padded_to_four(void **state)
{
    static const char *const messages[] = { "", "a", "ab", "abc", "abcd", "abcde" };

    for (gsize i = 0; i < G_N_ELEMENTS(messages); i++) {
        g_autoptr(GByteArray) object = rpc_error_encode(1, 7, messages[i]);
        g_auto(RpcError) e = { 0 };

        assert_int_equal(object->len % 4, 0);
        assert_true(rpc_error_decode(object->data, object->len, &e, NULL));
        assert_int_equal(e.code, 1);
        assert_int_equal(e.domain, 7);
        assert_string_equal(e.message, messages[i]);
    }
}

static void test_object_without_message_is_read(void **state)
{
    g_autoptr(GByteArray) object = rpc_error_encode(42, 10, NULL);
    g_auto(RpcError) e = { 0 };

    assert_true(rpc_error_decode(object->data, object->len, &e, NULL));
    assert_int_equal(e.code, 42);
    assert_null(e.message);
}

static void test_malformed_objects_are_refused_by_name(void **state)
{
    static const struct {
        guint8 bytes[24];
        gsize len;
        const char *says;
    } rows[] = {
        { { 0 }, 0, "error code" },
        { { 0 }, 3, "error code" },
        { { 0 }, 7, "error domain" },
        { { 0 }, 8, "error message flag" },
        { { [11] = 2 }, 12, "flag is 2" },
        { { [11] = 1 }, 14, "error message length" },
        { { [11] = 1, [15] = 9 }, 24, "error message needs 12" },
        { { [11] = 1, [12] = 255, 255, 255, 255 }, 24, "length 4294967295 is over" },
        { { [11] = 1, [12] = 0, 64, 0, 1 }, 24, "length 4194305 is over" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        RpcError e = { .code = 5 };

        assert_false(rpc_error_decode(rows[i].bytes, rows[i].len, &e, &error));
        if (!strstr(error->message, rows[i].says))
            fail_msg("row %zu: %s", i, error->message);
        assert_int_equal(e.code, 5);
    }
}

static RpcFrame *reply_with(const char *message)
{
    const RpcHeader call = { RPC_PROGRAM_REMOTE, 1, 305, RPC_TYPE_CALL_WITH_FDS, 9, RPC_STATUS_OK };

    return rpc_error_reply(&call, 78, 10, message);
}

static char *message_of(const RpcFrame *reply, gsize *ret_rest)
{
    g_auto(RpcError) e = { 0 };
    gsize len;
    const guint8 *payload = rpc_frame_payload(reply, &len);

    assert_true(rpc_error_decode(payload, len, &e, NULL));
    assert_int_equal(e.code, 78);
    assert_int_equal(e.domain, 10);
    *ret_rest = len - 16 - ((strlen(e.message) + 3) & ~3u);
    return g_steal_pointer(&e.message);
}

static void test_reply_answers_its_call(void **state)
{
    g_autoptr(RpcFrame) reply = reply_with("x");

    assert_int_equal(reply->header.type, RPC_TYPE_REPLY);
    assert_int_equal(reply->header.status, RPC_STATUS_ERROR);
    assert_int_equal(reply->header.serial, 9);
    assert_int_equal(reply->header.procedure, 305);
}

static void test_message_is_replaced_and_the_rest_kept(void **state)
{
    g_autoptr(RpcFrame) old = reply_with("operation aborted");
    g_autoptr(RpcFrame) new = rpc_error_replace_message(reply_with("operation aborted"), "why");
    g_autofree char *before = NULL, *after = NULL;
    gsize rest_before, rest_after, len;

    before = message_of(old, &rest_before);
    after = message_of(new, &rest_after);
    assert_string_equal(after, "why");
    assert_int_equal(rest_after, rest_before);
    assert_memory_equal(rpc_frame_payload(new, &len) + len - rest_after,
                        old->wire->data + old->wire->len - rest_before, rest_before);
}

static void test_text_is_put_behind_the_message(void **state)
{
    g_autoptr(RpcFrame) reply = rpc_error_append_message(reply_with("aborted"), "link lost");
    g_autofree char *message = NULL;
    gsize rest;

    message = message_of(reply, &rest);
    assert_string_equal(message, "aborted: link lost");
}

static void test_reply_that_cannot_be_read_comes_back_as_it_is(void **state)
{
    const RpcHeader header = { RPC_PROGRAM_REMOTE, 1, 5, RPC_TYPE_REPLY, 1, RPC_STATUS_ERROR };
    const RpcHeader good = { RPC_PROGRAM_REMOTE, 1, 5, RPC_TYPE_REPLY, 1, RPC_STATUS_OK };
    RpcFrame *broken = rpc_frame_new(&header, "abc", 3);
    RpcFrame *no_error = rpc_frame_new(&good, NULL, 0);

    assert_ptr_equal(rpc_error_replace_message(broken, "x"), broken);
    assert_ptr_equal(rpc_error_append_message(no_error, "x"), no_error);
    rpc_frame_free(broken);
    rpc_frame_free(no_error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_object_has_libvirts_layout),
        cmocka_unit_test(test_every_length_is_padded_to_four),
        cmocka_unit_test(test_object_without_message_is_read),
        cmocka_unit_test(test_malformed_objects_are_refused_by_name),
        cmocka_unit_test(test_reply_answers_its_call),
        cmocka_unit_test(test_message_is_replaced_and_the_rest_kept),
        cmocka_unit_test(test_text_is_put_behind_the_message),
        cmocka_unit_test(test_reply_that_cannot_be_read_comes_back_as_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
