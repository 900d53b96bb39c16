/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames: what is refused and with which words, and that what is sent has libvirt's layout. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "driver/rpc_frame.h"

typedef struct {
    const char *what;
    guint8 bytes[40];
    guint len;
    gint code;
    const char *says;
} Row;

/* length, program, version, procedure, type, serial, status */
#define HEADER(length, type, status)                                                               \
    0, 0, 0, length, 0x20, 0, 0x80, 0x86, 0, 0, 0, 1, 0, 0, 0, 60, 0, 0, 0, type, 0, 0, 0, 9,      \
        0, 0, 0, status

static const Row bad_rows[] = {
    { "no bytes", { 0 }, 0, RPC_FRAME_ERROR_LENGTH, "0 bytes are shorter than a header" },
    { "half a header", { 0, 0, 0, 14 }, 14, RPC_FRAME_ERROR_LENGTH, "14 bytes" },
    { "length 27", { HEADER(27, 0, 0) }, 28, RPC_FRAME_ERROR_LENGTH, "length 27" },
    { "length longer than what came",
      { HEADER(32, 0, 0) },
      28,
      RPC_FRAME_ERROR_LENGTH,
      "length 32, but 28 bytes" },
    { "length shorter than what came",
      { HEADER(28, 0, 0) },
      32,
      RPC_FRAME_ERROR_LENGTH,
      "length 28, but 32 bytes" },
    { "type 7", { HEADER(28, 7, 0) }, 28, RPC_FRAME_ERROR_TYPE, "unknown type 7 (procedure 60" },
    { "type 255", { HEADER(28, 255, 0) }, 28, RPC_FRAME_ERROR_TYPE, "unknown type 255" },
    { "status 3", { HEADER(28, 1, 3) }, 28, RPC_FRAME_ERROR_TYPE, "unknown status 3" },
    { "33 descriptors",
      { HEADER(32, 4, 0), 0, 0, 0, 33 },
      32,
      RPC_FRAME_ERROR_FDS,
      "33 descriptors announced, the limit is 32" },
    { "4 billion descriptors",
      { HEADER(32, 5, 0), 255, 255, 255, 255 },
      32,
      RPC_FRAME_ERROR_FDS,
      "4294967295 descriptors" },
};

static void test_malformed_frames_are_refused_by_name(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad_rows); i++) {
        const Row *row = &bad_rows[i];
        g_autoptr(GError) error = NULL;
        GByteArray *wire = g_byte_array_new();
        guint n_fds = 99;

        g_byte_array_append(wire, row->bytes, row->len);
        if (rpc_frame_new_from_wire(wire, &n_fds, &error))
            fail_msg("accepted: %s", row->what);
        if (!g_error_matches(error, RPC_FRAME_ERROR, row->code) ||
            !strstr(error->message, row->says))
            fail_msg("%s: %s", row->what, error->message);
        assert_int_equal(n_fds, 99);
    }
}

static void test_frame_without_room_for_its_count_is_refused(void **state)
{
    const guint8 bytes[] = { HEADER(30, 4, 0), 0, 0 };
    g_autoptr(GError) error = NULL;
    GByteArray *wire = g_byte_array_new();
    guint n_fds;

    g_byte_array_append(wire, bytes, sizeof bytes);
    assert_null(rpc_frame_new_from_wire(wire, &n_fds, &error));
    assert_non_null(strstr(error->message, "number of descriptors"));
}

static void test_length_word_has_libvirts_limits(void **state)
{
    static const struct {
        guint8 word[4];
        gboolean ok;
        guint32 len;
    } rows[] = {
        { { 0, 0, 0, 0 }, FALSE },
        { { 0, 0, 0, 3 }, FALSE },
        { { 0, 0, 0, 4 }, FALSE },
        { { 0, 0, 0, 27 }, FALSE },
        { { 0, 0, 0, 28 }, TRUE, 28 },
        { { 2, 0, 0, 4 }, TRUE, 33554436 },
        { { 2, 0, 0, 5 }, FALSE },
        { { 255, 255, 255, 255 }, FALSE },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        guint32 len = 7;

        assert_int_equal(rpc_frame_parse_length(rows[i].word, &len, &error), rows[i].ok);
        assert_int_equal(len, rows[i].ok ? rows[i].len : 7);
        assert_int_equal(error == NULL, rows[i].ok);
        assert_true(rows[i].ok || strstr(error->message, "length"));
    }
}

static void test_frame_that_was_made_is_read_back(void **state)
{
    const RpcHeader header = { RPC_PROGRAM_QEMU, 1, -2, RPC_TYPE_REPLY, 0xfffffffe,
                               RPC_STATUS_ERROR };
    g_autoptr(RpcFrame) made = rpc_frame_new(&header, "payload", 7);
    g_autoptr(RpcFrame) read = NULL;
    guint n_fds = 99;
    gsize len;

    assert_int_equal(made->wire->len, 35);
    read = rpc_frame_new_from_wire(g_byte_array_ref(made->wire), &n_fds, NULL);
    assert_non_null(read);
    assert_int_equal(n_fds, 0);
    assert_memory_equal(&read->header, &header, sizeof header);
    assert_memory_equal(rpc_frame_payload(read, &len), "payload", 7);
    assert_int_equal(len, 7);
    assert_false(rpc_frame_has_fds(read));
}

static void test_new_payload_keeps_header_and_descriptors(void **state)
{
    const RpcHeader header = { RPC_PROGRAM_QEMU, 1, 7, RPC_TYPE_CALL_WITH_FDS, 3, RPC_STATUS_OK };
    g_autoptr(RpcFrame) old = rpc_frame_new(&header, "abcd", 4);
    g_autoptr(RpcFrame) new = NULL;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    gsize len;
    guint n_fds;

    old->fds[old->n_fds++] = fd;
    new = rpc_frame_new_with_payload(old, "other", 5);
    assert_int_equal(old->n_fds, 0);
    assert_int_equal(new->n_fds, 1);
    assert_int_equal(new->fds[0], fd);
    assert_memory_equal(rpc_frame_payload(new, &len), "other", 5);
    assert_int_equal(len, 5);

    /* On the wire the payload starts with the number of them. */
    old = (rpc_frame_free(old), rpc_frame_new_from_wire(g_byte_array_ref(new->wire), &n_fds, NULL));
    assert_int_equal(n_fds, 1);
    assert_int_equal(old->header.serial, 3);
    rpc_frame_free(g_steal_pointer(&new));
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed_frames_are_refused_by_name),
        cmocka_unit_test(test_frame_without_room_for_its_count_is_refused),
        cmocka_unit_test(test_length_word_has_libvirts_limits),
        cmocka_unit_test(test_frame_that_was_made_is_read_back),
        cmocka_unit_test(test_new_payload_keeps_header_and_descriptors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
