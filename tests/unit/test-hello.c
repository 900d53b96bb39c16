/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* HELLO, HELLO_ACK and ERROR: what is encoded is decoded, what is malformed is named. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "tls/features.h"
#include "tls/hello.h"

static HelloBody sample_hello(void)
{
    HelloBody hello = {
        .version_min = 1,
        .version_max = 3,
        .features = G_GUINT64_CONSTANT(0x8000000000000001),
        .kind = CHANNEL_BULK,
        .channel = 513,
        .window = 16 * 1024 * 1024,
        .auth_len = HELLO_TOKEN_LEN,
    };

    memset(hello.session, 0xab, sizeof hello.session);
    for (guint i = 0; i < HELLO_TOKEN_LEN; i++)
        hello.auth[i] = i;
    return hello;
}

/* The body of a frame (taken), with `extra` bytes after it. */
static GBytes *body_of(GBytes *frame, const void *extra, gsize extra_len)
{
    g_autoptr(GBytes) owned = frame;
    GByteArray *body = g_byte_array_new();
    gsize size;
    const guint8 *bytes = g_bytes_get_data(owned, &size);

    g_byte_array_append(body, bytes + FRAME_HEADER_LEN, size - FRAME_HEADER_LEN);
    if (extra_len)
        g_byte_array_append(body, extra, extra_len);
    return g_byte_array_free_to_bytes(body);
}

static GBytes *patched(GBytes *body, gsize at, const void *bytes, gsize len)
{
    gsize size;
    guint8 *copy = g_bytes_unref_to_data(body, &size);

    assert_true(at + len <= size);
    memcpy(copy + at, bytes, len);
    return g_bytes_new_take(copy, size);
}

static void hello_survives_the_wire(void **state)
{
    HelloBody hello = sample_hello();
    g_autoptr(GBytes) body = body_of(frame_new_hello(&hello), NULL, 0);
    HelloBody back;

    assert_true(hello_body_decode(body, &back, NULL));
    assert_int_equal(back.version_min, 1);
    assert_int_equal(back.version_max, 3);
    assert_true(back.features == hello.features);
    assert_int_equal(back.kind, CHANNEL_BULK);
    assert_int_equal(back.channel, 513);
    assert_true(back.window == hello.window);
    assert_memory_equal(back.session, hello.session, HELLO_SESSION_LEN);
    assert_int_equal(back.auth_len, HELLO_TOKEN_LEN);
    assert_memory_equal(back.auth, hello.auth, HELLO_TOKEN_LEN);
    assert_false(back.resume);
    assert_true(back.resume_seq == 0);
}

static void resume_survives_the_wire_between_other_extensions(void **state)
{
    static const guint8 unknown[] = { 0, 9, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 2, 0, 0 };
    static const guint64 seqs[] = { 0, 1, G_GUINT64_CONSTANT(0x0123456789abcdef), G_MAXUINT64 };

    for (gsize i = 0; i < G_N_ELEMENTS(seqs); i++) {
        HelloBody hello = sample_hello(), back;
        HelloAckBody ack = { 1, 0, HELLO_WINDOW_MIN, TRUE, seqs[i] }, ack_back;
        g_autoptr(GBytes) ack_body = body_of(frame_new_hello_ack(&ack), unknown, sizeof unknown);
        g_autoptr(GBytes) body = NULL;

        hello.resume = TRUE;
        hello.resume_seq = seqs[i];
        body = body_of(frame_new_hello(&hello), unknown, sizeof unknown);
        assert_true(hello_body_decode(body, &back, NULL));
        assert_true(back.resume && back.resume_seq == seqs[i]);
        assert_true(hello_ack_body_decode(ack_body, &ack_back, NULL));
        assert_true(ack_back.resume && ack_back.resume_seq == seqs[i]);
    }
}

static void bad_resume_is_refused_and_named(void **state)
{
    static const struct {
        gsize len;
        const char *bytes;
        const char *names;
    } rows[] = {
        { 4, "\0\1\0\0", "length of extension resume is 0, must be 8" },
        { 11, "\0\1\0\7abcdefg", "length of extension resume is 7, must be 8" },
        { 13, "\0\1\0\11abcdefghi", "length of extension resume is 9, must be 8" },
        { 24, "\0\1\0\10abcdefgh\0\1\0\10abcdefgh", "extension resume comes twice" },
        { 11, "\0\1\0\10abcdefg", "extension" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        HelloBody hello = sample_hello(), back = { .channel = 4711 };
        HelloAckBody ack = { 1, 0, HELLO_WINDOW_MIN, FALSE, 0 }, ack_back = { .version = 4711 };
        g_autoptr(GBytes) body = body_of(frame_new_hello(&hello), rows[i].bytes, rows[i].len);
        g_autoptr(GBytes) ack_body =
            body_of(frame_new_hello_ack(&ack), rows[i].bytes, rows[i].len);
        g_autoptr(GError) error = NULL;
        g_autoptr(GError) ack_error = NULL;

        assert_false(hello_body_decode(body, &back, &error));
        assert_true(g_error_matches(error, HELLO_ERROR, HELLO_ERROR_PROTOCOL));
        assert_non_null(strstr(error->message, rows[i].names));
        assert_int_equal(back.channel, 4711);
        assert_false(hello_ack_body_decode(ack_body, &ack_back, &ack_error));
        assert_true(g_error_matches(ack_error, HELLO_ERROR, HELLO_ERROR_PROTOCOL));
        assert_non_null(strstr(ack_error->message, "HELLO_ACK"));
        assert_non_null(strstr(ack_error->message, rows[i].names));
        assert_int_equal(ack_back.version, 4711);
    }
}

static void unknown_extensions_are_skipped(void **state)
{
    static const guint8 extensions[] = { 0, 9, 0, 3, 'a', 'b', 'c', 0xff, 0xff, 0, 0 };
    HelloBody hello = sample_hello();
    HelloAckBody ack = { 1, 0, HELLO_WINDOW_MIN, FALSE, 0 }, ack_back;
    g_autoptr(GBytes) body = body_of(frame_new_hello(&hello), extensions, sizeof extensions);
    g_autoptr(GBytes) ack_body =
        body_of(frame_new_hello_ack(&ack), extensions, sizeof extensions);
    HelloBody back;

    assert_true(hello_body_decode(body, &back, NULL));
    assert_true(hello_ack_body_decode(ack_body, &ack_back, NULL));
    assert_int_equal(ack_back.version, 1);
    assert_true(ack_back.window == HELLO_WINDOW_MIN);
}

static void truncated_hello_is_refused_at_every_byte(void **state)
{
    static const guint8 extension[] = { 0, 9, 0, 1, 'x' };
    HelloBody hello = sample_hello();
    g_autoptr(GBytes) body = body_of(frame_new_hello(&hello), extension, sizeof extension);
    gsize whole = g_bytes_get_size(body) - sizeof extension;

    for (gsize len = 0; len < g_bytes_get_size(body); len++) {
        /* A copy of its own, so that a read past the end is seen by the tools. */
        g_autoptr(GBytes) cut = g_bytes_new(g_bytes_get_data(body, NULL), len);
        g_autoptr(GError) error = NULL;
        HelloBody back = { .channel = 4711 };

        if (len == whole) {
            assert_true(hello_body_decode(cut, &back, &error));
            continue;
        }
        assert_false(hello_body_decode(cut, &back, &error));
        assert_true(g_error_matches(error, HELLO_ERROR, HELLO_ERROR_PROTOCOL));
        assert_non_null(strstr(error->message, "HELLO"));
        assert_int_equal(back.channel, 4711);
    }
}

static void bad_hello_field_is_named(void **state)
{
    static const struct {
        gsize at;
        gsize len;
        const char *bytes;
        const char *names;
    } rows[] = {
        { 0, 2, "\0\0", "HELLO versions 0 to 3" },
        { 0, 4, "\0\5\0\4", "HELLO versions 5 to 4" },
        { 29, 1, "\1", "HELLO reserved field is 0x01" },
        { 32, 8, "\0\0\0\0\0\0\0\0", "HELLO window 0 is out of range" },
        { 32, 8, "\0\0\0\0\0\0\xff\xff", "HELLO window 65535" },
        { 32, 8, "\0\0\0\0\x40\0\0\1", "HELLO window 1073741825" },
        { 32, 8, "\xff\xff\xff\xff\xff\xff\xff\xff", "HELLO window" },
        { 40, 2, "\0\x41", "HELLO auth length 65" },
        { 40, 2, "\xff\xff", "HELLO auth length 65535" },
        { 40, 2, "\0\x21", "HELLO auth needs 33 bytes" },
        { 40, 2, "\0\x1e", "extension" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        HelloBody hello = sample_hello(), back;
        g_autoptr(GError) error = NULL;
        g_autoptr(GBytes) body = patched(body_of(frame_new_hello(&hello), NULL, 0), rows[i].at,
                                         rows[i].bytes, rows[i].len);

        assert_false(hello_body_decode(body, &back, &error));
        if (!strstr(error->message, rows[i].names))
            fail_msg("row %zu: \"%s\" does not name \"%s\"", i, error->message, rows[i].names);
    }
}

static void bad_hello_ack_field_is_named(void **state)
{
    static const struct {
        gsize at;
        gsize len;
        const char *bytes;
        const char *names;
    } rows[] = {
        { 2, 2, "\0\2", "HELLO_ACK reserved field is 0x0002" },
        { 12, 8, "\0\0\0\0\0\0\0\0", "HELLO_ACK window 0" },
        { 12, 8, "\x80\0\0\0\0\0\0\0", "HELLO_ACK window" },
    };
    HelloAckBody ack = { 1, 0, HELLO_WINDOW_MIN, FALSE, 0 }, back;

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GBytes) body = patched(body_of(frame_new_hello_ack(&ack), NULL, 0), rows[i].at,
                                         rows[i].bytes, rows[i].len);

        assert_false(hello_ack_body_decode(body, &back, &error));
        assert_non_null(strstr(error->message, rows[i].names));
    }
    for (gsize len = 0; len < 20; len++) {
        g_autoptr(GBytes) body = body_of(frame_new_hello_ack(&ack), NULL, 0);
        g_autoptr(GBytes) cut = g_bytes_new_from_bytes(body, 0, len);
        g_autoptr(GError) error = NULL;

        assert_false(hello_ack_body_decode(cut, &back, &error));
        assert_non_null(strstr(error->message, "HELLO_ACK"));
    }
}

static void error_text_fits_and_is_one_line(void **state)
{
    g_autofree char *many_a = g_strnfill(3000, 'a');
    g_autoptr(GString) wide = g_string_new("x");

    for (gsize i = 0; i < 1000; i++)
        g_string_append(wide, "€");

    const struct {
        const char *text;
        const char *expected; /* NULL: a start of text */
    } rows[] = {
        { "token already used", "token already used" },
        { "", "" },
        { "two\nlines\tand \x1b[1m", "two lines and  [1m" },
        { "next\xc2\x85line", "next  line" },
        { "bad \xff utf-8", "bad \xef\xbf\xbd utf-8" },
        { many_a, NULL },
        { wide->str, NULL },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GBytes) body =
            body_of(frame_new_error(HELLO_ERROR_TOKEN_USED, rows[i].text), NULL, 0);
        g_auto(ErrorBody) back = { 0 };
        g_autoptr(GError) error = NULL;

        assert_true(g_bytes_get_size(body) <= 4 + FRAME_ERROR_TEXT_MAX);
        assert_true(error_body_decode(body, &back, &error));
        assert_int_equal(back.code, HELLO_ERROR_TOKEN_USED);
        if (rows[i].expected) {
            assert_string_equal(back.text, rows[i].expected);
        } else {
            assert_true(strlen(back.text) > FRAME_ERROR_TEXT_MAX - 4);
            assert_memory_equal(back.text, rows[i].text, strlen(back.text));
        }
    }
}

static void hostile_error_text_is_refused(void **state)
{
    static const struct {
        const char *body;
        gsize len;
        const char *names;
    } rows[] = {
        { "\0\0\0", 3, "ERROR code" },
        { "\0\0\0\0text", 8, "ERROR code is 0" },
        { "\0\0\0\3two\nlines", 13, "ERROR text" },
        { "\0\0\0\3nul\0", 8, "ERROR text" },
        { "\0\0\0\3\xff\xfe", 6, "ERROR text" },
        { "\0\0\0\3\x1b[2J", 8, "ERROR text" },
        { "\0\0\0\3cut \xe2\x82", 10, "ERROR text" },
        { "\0\0\0\3\xc2\x85", 6, "ERROR text" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GBytes) body = g_bytes_new(rows[i].body, rows[i].len);
        g_autoptr(GError) error = NULL;
        ErrorBody back = { 0 };

        assert_false(error_body_decode(body, &back, &error));
        if (!strstr(error->message, rows[i].names))
            fail_msg("row %zu: \"%s\" does not name \"%s\"", i, error->message, rows[i].names);
        assert_null(back.text);
    }
}

static void unknown_error_code_is_internal(void **state)
{
    assert_string_equal(hello_error_name(HELLO_ERROR_TOKEN), "token");
    assert_string_equal(hello_error_name(0), "internal");
    assert_string_equal(hello_error_name(HELLO_ERROR_MAX), "internal");
    assert_string_equal(hello_error_name(G_MAXUINT32), "internal");
    assert_string_equal(channel_kind_name(CHANNEL_PREEMPT), "preempt");
    assert_string_equal(channel_kind_name(77), "unknown");
}

static void token_differs_if_any_byte_does(void **state)
{
    HelloBody hello = sample_hello();
    guint8 token[HELLO_TOKEN_LEN];

    memcpy(token, hello.auth, sizeof token);
    assert_true(hello_auth_equal(&hello, token));
    for (gsize i = 0; i < sizeof token; i++) {
        token[i] ^= 1;
        assert_false(hello_auth_equal(&hello, token));
        token[i] ^= 1;
    }
    hello.auth_len--;
    assert_false(hello_auth_equal(&hello, token));
    hello.auth_len = 0;
    assert_false(hello_auth_equal(&hello, token));
}

static void answer_may_choose_only_what_was_offered(void **state)
{
    static const struct {
        guint64 offered;
        gboolean resume;
        HelloAckBody ack;
        const char *names; /* NULL: fine */
    } rows[] = {
        { 0, FALSE, { 1, 0, HELLO_WINDOW_MIN, FALSE, 0 }, NULL },
        { 3, FALSE, { 1, 2, HELLO_WINDOW_MIN, FALSE, 0 }, NULL },
        { 3, FALSE, { 1, 7, HELLO_WINDOW_MIN, FALSE, 0 }, "HELLO_ACK features 0x4 were not" },
        { 0, FALSE, { 2, 0, HELLO_WINDOW_MIN, FALSE, 0 }, "HELLO_ACK version 2 was not offered" },
        { 0, FALSE, { 1, 0, HELLO_WINDOW_MIN - 1, FALSE, 0 }, "HELLO_ACK window 65535" },
        { 4, TRUE, { 1, 4, HELLO_WINDOW_MIN, TRUE, 7 }, NULL },
        { 4, FALSE, { 1, 4, HELLO_WINDOW_MIN, TRUE, 7 }, "resumes, which HELLO did not" },
        { 4, TRUE, { 1, 4, HELLO_WINDOW_MIN, FALSE, 0 }, "does not resume, which HELLO did" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GBytes) body = body_of(frame_new_hello_ack(&rows[i].ack), NULL, 0);
        g_autoptr(GError) error = NULL;
        HelloAckBody back = { .version = 4711 };
        gboolean ok = hello_ack_judge(body, rows[i].offered, rows[i].resume, &back, &error);

        assert_int_equal(ok, rows[i].names == NULL);
        assert_int_equal(back.version, ok ? 1 : 4711);
        if (ok)
            assert_true(back.features == rows[i].ack.features);
        else
            assert_non_null(strstr(error->message, rows[i].names));
    }
}

static void every_feature_has_its_bit_and_its_name(void **state)
{
    static const struct {
        guint64 bit; /* part of the protocol */
        const char *name;
    } rows[] = { { 1, "ram" },     { 2, "zstd" },     { 4, "resume" },  { 8, "zlib" },
                 { 16, "disks" },  { 32, "runs" },    { 64, "bulk" },   { 128, "mapped" },
                 { 256, "xbzrle" }, { 512, "colo" } };
    g_autofree const char **all = session_feature_names(G_MAXUINT64);
    g_autofree const char **none = session_feature_names(0);

    assert_int_equal(g_strv_length((char **)all), G_N_ELEMENTS(rows));
    assert_null(none[0]);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree const char **one = session_feature_names(rows[i].bit);

        assert_string_equal(all[i], rows[i].name);
        assert_string_equal(one[0], rows[i].name);
        assert_null(one[1]);
        assert_true(session_feature_from_name(rows[i].name) == rows[i].bit);
    }
    assert_true(session_feature_from_name("lz4") == 0);
    assert_true(session_feature_from_name("") == 0);
}

static void every_channel_has_a_name(void **state)
{
    static const struct {
        ChannelKind kind;
        guint16 number;
        const char *name;
    } rows[] = {
        { CHANNEL_MAIN, 0, "main" },     { CHANNEL_PREEMPT, 0, "preempt" },
        { CHANNEL_DISKS, 0, "disks" },   { CHANNEL_BULK, 1, "bulk-1" },
        { CHANNEL_BULK, 9, "bulk-9" },   { CHANNEL_BULK, CHANNEL_BULK_MAX, "bulk-16" },
    };
    ChannelKind kind;
    guint16 number;

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        assert_string_equal(channel_name(rows[i].kind, rows[i].number), rows[i].name);
        assert_true(channel_from_name(rows[i].name, &kind, &number));
        assert_int_equal(kind, rows[i].kind);
        assert_int_equal(number, rows[i].number);
    }
    assert_string_equal(channel_name(CHANNEL_BULK, 0), "bulk");
    assert_string_equal(channel_name(CHANNEL_BULK, CHANNEL_BULK_MAX + 1), "bulk");
    assert_string_equal(channel_name(CHANNEL_KIND_MAX, 1), "unknown");
    assert_false(channel_from_name("bulk", &kind, &number));
    assert_false(channel_from_name("bulk-0", &kind, &number));
    assert_false(channel_from_name("bulk-17", &kind, &number));
    assert_false(channel_from_name("", &kind, &number));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_survives_the_wire),
        cmocka_unit_test(resume_survives_the_wire_between_other_extensions),
        cmocka_unit_test(bad_resume_is_refused_and_named),
        cmocka_unit_test(unknown_extensions_are_skipped),
        cmocka_unit_test(truncated_hello_is_refused_at_every_byte),
        cmocka_unit_test(bad_hello_field_is_named),
        cmocka_unit_test(bad_hello_ack_field_is_named),
        cmocka_unit_test(error_text_fits_and_is_one_line),
        cmocka_unit_test(hostile_error_text_is_refused),
        cmocka_unit_test(unknown_error_code_is_internal),
        cmocka_unit_test(token_differs_if_any_byte_does),
        cmocka_unit_test(answer_may_choose_only_what_was_offered),
        cmocka_unit_test(every_feature_has_its_bit_and_its_name),
        cmocka_unit_test(every_channel_has_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
