/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How much is discarded at the switch-over: whatever pieces the commands come in, and nothing of
 * what is not one. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "ram/discards.h"
#include "util/bytes.h"

static void put_command(GByteArray *out, guint command, const GByteArray *payload)
{
    bytes_put_u8(out, 0x08);
    bytes_put_u16(out, (guint16)command);
    bytes_put_u16(out, (guint16)payload->len);
    g_byte_array_append(out, payload->data, payload->len);
}

static void put_discard(GByteArray *out, guint8 version, const char *name, guint n, guint64 length)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();

    bytes_put_u8(payload, version);
    bytes_put_u8(payload, (guint8)strlen(name));
    g_byte_array_append(payload, (const guint8 *)name, (guint)strlen(name) + 1);
    for (guint i = 0; i < n; i++) {
        bytes_put_u64(payload, i * 0x100000);
        bytes_put_u64(payload, length);
    }
    put_command(out, 6, payload);
}

static void put_ping(GByteArray *out)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();

    bytes_put_u32(payload, 3);
    put_command(out, 2, payload);
}

static gboolean read_in_pieces(const GByteArray *stream, gsize piece, guint64 *ret_bytes)
{
    g_autoptr(Discards) discards = discards_new();

    for (gsize at = 0; at < stream->len; at += piece)
        discards_read(discards, stream->data + at, MIN(piece, stream->len - at));
    return discards_bytes(discards, ret_bytes);
}

static void all_ranges_are_added_whatever_the_pieces(void **state)
{
    g_autoptr(GByteArray) stream = g_byte_array_new();

    put_discard(stream, 0, "pc.ram", 12, 4096);
    put_ping(stream);
    put_discard(stream, 0, "", 1, 65536);
    put_discard(stream, 0, "huge", 4000, 0x200000); /* nearly as long as a command can be */
    for (gsize piece = 1; piece < stream->len * 2; piece = piece * 3 + 1) {
        guint64 bytes = 0;

        assert_true(read_in_pieces(stream, piece, &bytes));
        assert_int_equal(bytes, 12 * 4096 + 65536 + G_GUINT64_CONSTANT(4000) * 0x200000);
    }
}

static void nothing_read_is_nothing_discarded(void **state)
{
    g_autoptr(GByteArray) stream = g_byte_array_new();
    guint64 bytes = 1;

    assert_true(read_in_pieces(stream, 1, &bytes));
    assert_int_equal(bytes, 0);
}

static void bad_section(GByteArray *out)
{
    bytes_put_u8(out, 0x02);
}

static void bad_version(GByteArray *out)
{
    put_discard(out, 1, "pc.ram", 1, 4096);
}

static void no_end_of_name(GByteArray *out)
{
    put_discard(out, 0, "pc.ram", 1, 4096);
    out->data[5 + 2 + 6] = 'x';
}

static void torn_range(GByteArray *out)
{
    put_discard(out, 0, "pc.ram", 1, 4096);
    out->data[4]--;
}

static void too_much(GByteArray *out)
{
    put_discard(out, 0, "pc.ram", 2, G_GUINT64_CONSTANT(1) << 63);
}

static void long_name(GByteArray *out)
{
    put_discard(out, 0, "pc.ram", 0, 0);
    out->data[6] = 255;
}

static void what_is_no_discard_makes_it_unknown(void **state)
{
    void (*const rows[])(GByteArray * out) = { bad_section, bad_version, no_end_of_name,
                                               torn_range,  too_much,    long_name };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GByteArray) stream = g_byte_array_new();
        guint64 bytes;

        rows[i](stream);
        put_ping(stream);
        assert_false(read_in_pieces(stream, 7, &bytes));
        assert_false(read_in_pieces(stream, stream->len, &bytes));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_ranges_are_added_whatever_the_pieces),
        cmocka_unit_test(nothing_read_is_nothing_discarded),
        cmocka_unit_test(what_is_no_discard_makes_it_unknown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
