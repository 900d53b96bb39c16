/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The frame codec: whole frames from any pieces, and a named field for each bad header. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "tls/frame.h"

static void frames_add(GPtrArray *frames, const Frame *frame)
{
    Frame *copy = g_new(Frame, 1);

    *copy = *frame;
    g_ptr_array_add(frames, copy);
}

/* Feeds bytes in pieces of at most `piece`; collects frames until one is refused. */
static GPtrArray *read_all(GBytes *bytes, gsize piece, gboolean hello_only, GError **error)
{
    g_auto(FrameReader) reader;
    g_autoptr(GPtrArray) frames = g_ptr_array_new();
    gsize left;
    const guint8 *p = g_bytes_get_data(bytes, &left);

    frame_reader_init(&reader, hello_only);
    while (left > 0) {
        Frame frame;
        gboolean complete;
        guint8 *space;
        gsize n = frame_reader_space(&reader, &space);

        assert_true(n > 0);
        n = MIN(MIN(n, piece), left);
        memcpy(space, p, n);
        p += n;
        left -= n;
        if (!frame_reader_advance(&reader, n, &frame, &complete, error))
            break;
        if (complete)
            frames_add(frames, &frame);
    }
    return g_steal_pointer(&frames);
}

static void frames_free(GPtrArray *frames)
{
    for (guint i = 0; i < frames->len; i++) {
        frame_clear(frames->pdata[i]);
        g_free(frames->pdata[i]);
    }
    g_ptr_array_unref(frames);
}

static void append(GByteArray *all, GBytes *frame)
{
    gsize size;
    const guint8 *data = g_bytes_get_data(frame, &size);

    g_byte_array_append(all, data, size);
    g_bytes_unref(frame);
}

static GBytes *some_stream(guint8 *payload, gsize len)
{
    GByteArray *all = g_byte_array_new();

    append(all, frame_new(FRAME_HELLO, 0, "hi", 2));
    append(all, frame_new(FRAME_DATA, 0, payload, len));
    append(all, frame_new_ack(&(FrameAck){ 7, 123456789 }));
    append(all, frame_new(FRAME_DATA, 1, payload, 1));
    append(all, frame_new_ping(FRAME_PING, G_MAXUINT64));
    append(all, frame_new(FRAME_EOF, G_MAXUINT64, NULL, 0));
    append(all, frame_new(FRAME_BYE, 0, NULL, 0));
    return g_byte_array_free_to_bytes(all);
}

static void frames_come_out_as_they_went_in_whatever_the_pieces(void **state)
{
    static const gsize pieces[] = { 1, 2, 7, 15, 16, 17, 1000, G_MAXSIZE };
    static const struct {
        FrameType type;
        guint64 seq;
        gsize len;
    } expected[] = {
        { FRAME_HELLO, 0, 2 }, { FRAME_DATA, 0, FRAME_DATA_MAX },
        { FRAME_ACK, 0, 16 },  { FRAME_DATA, 1, 1 },
        { FRAME_PING, 0, 8 },  { FRAME_EOF, G_MAXUINT64, 0 },
        { FRAME_BYE, 0, 0 },
    };
    g_autofree guint8 *payload = g_malloc(FRAME_DATA_MAX);
    g_autoptr(GBytes) stream = NULL;

    for (gsize i = 0; i < FRAME_DATA_MAX; i++)
        payload[i] = i * 31 >> 3;
    stream = some_stream(payload, FRAME_DATA_MAX);

    for (gsize p = 0; p < G_N_ELEMENTS(pieces); p++) {
        g_autoptr(GError) error = NULL;
        GPtrArray *frames = read_all(stream, pieces[p], TRUE, &error);
        Frame *data, *ack_frame;
        FrameAck ack;

        assert_null(error);
        assert_int_equal(frames->len, G_N_ELEMENTS(expected));
        for (guint i = 0; i < frames->len; i++) {
            Frame *frame = frames->pdata[i];

            assert_int_equal(frame->header.type, expected[i].type);
            assert_true(frame->header.seq == expected[i].seq);
            assert_int_equal(g_bytes_get_size(frame->body), expected[i].len);
        }
        data = frames->pdata[1];
        assert_memory_equal(g_bytes_get_data(data->body, NULL), payload, FRAME_DATA_MAX);
        ack_frame = frames->pdata[2];
        assert_true(frame_ack_decode(ack_frame->body, &ack, NULL));
        assert_true(ack.next_seq == 7 && ack.bytes == 123456789);
        frames_free(frames);
    }
}

/* len, type, flags, reserved, seq, and what the message must name */
static const struct {
    guint32 length;
    guint8 type;
    guint8 flags;
    guint16 reserved;
    guint64 seq;
    const char *names;
} bad_headers[] = {
    { 16, 0, 0, 0, 0, "unknown frame type 0" },
    { 16, 19, 0, 0, 0, "unknown frame type 19" },
    { 16, 255, 0, 0, 0, "unknown frame type 255" },
    { 0, FRAME_DATA, 0, 0, 0, "frame length 0" },
    { 15, FRAME_BYE, 0, 0, 0, "frame length 15" },
    { 17, FRAME_BYE, 0, 0, 0, "frame length 17" },
    { 16, FRAME_DATA, 0, 0, 0, "frame length 16" },
    { 16 + FRAME_DATA_MAX + 1, FRAME_DATA, 0, 0, 0, "frame length 65553" },
    { G_MAXUINT32, FRAME_DATA, 0, 0, 0, "frame length 4294967295" },
    { 16 + FRAME_HELLO_MAX + 1, FRAME_HELLO, 0, 0, 0, "frame length 4113" },
    { 16, FRAME_HELLO, 0, 0, 0, "frame length 16" },
    { 16 + FRAME_HELLO_MAX + 1, FRAME_HELLO_ACK, 0, 0, 0, "HELLO_ACK" },
    { 16 + 3, FRAME_ERROR, 0, 0, 0, "frame length 19" },
    { 16 + 4 + FRAME_ERROR_TEXT_MAX + 1, FRAME_ERROR, 0, 0, 0, "ERROR" },
    { 17, FRAME_EOF, 0, 0, 0, "EOF" },
    { 17, FRAME_RESET, 0, 0, 0, "RESET" },
    { 31, FRAME_ACK, 0, 0, 0, "ACK" },
    { 33, FRAME_ACK, 0, 0, 0, "ACK" },
    { 23, FRAME_PING, 0, 0, 0, "PING" },
    { 25, FRAME_PONG, 0, 0, 0, "PONG" },
    { 16, FRAME_PHASE, 0, 0, 0, "PHASE (17 to 80)" },
    { 81, FRAME_PHASE, 0, 0, 0, "PHASE (17 to 80)" },
    { 16, FRAME_BLOCKS, 0, 0, 0, "BLOCKS" },
    { 16 + FRAME_PAGES_MAX + 1, FRAME_BLOCKS, 0, 0, 0, "BLOCKS" },
    { 16, FRAME_PAGES, 0, 0, 0, "PAGES" },
    { 16 + FRAME_PAGES_MAX + 1, FRAME_PAGES, 0, 0, 0, "PAGES (17 to 67600)" },
    { 31, FRAME_RAM_END, 0, 0, 0, "RAM_END (32 to 160)" },
    { 161, FRAME_RAM_END, 0, 0, 0, "RAM_END (32 to 160)" },
    { 16, FRAME_QEMU_CHANNEL, 0, 0, 0, "QEMU_CHANNEL (17 to 80)" },
    { 81, FRAME_QEMU_CHANNEL, 0, 0, 0, "QEMU_CHANNEL (17 to 80)" },
    { 31, FRAME_REQUEST, 0, 0, 0, "REQUEST (32 to 80)" },
    { 81, FRAME_REQUEST, 0, 0, 0, "REQUEST (32 to 80)" },
    { 35, FRAME_DISCARD, 0, 0, 0, "DISCARD (36 to 272)" },
    { 273, FRAME_DISCARD, 0, 0, 0, "DISCARD (36 to 272)" },
    { 28, FRAME_RECEIVED, 0, 0, 0, "RECEIVED (29 to 67600)" },
    { 17, FRAME_PAGES, 2, 0, 7, "frame flags of PAGES are 0x02" },
    { 17, FRAME_DATA, 1, 0, 0, "frame flags of DATA are 0x01" },
    { 17, FRAME_DATA, 0, 0x8000, 0, "frame reserved field of DATA is 0x8000" },
    { 32, FRAME_ACK, 0, 0, 5, "frame sequence of ACK is 5" },
    { 16, FRAME_BYE, 0, 0, 1, "frame sequence of BYE is 1" },
};

static void bad_header_is_refused_by_the_name_of_its_field(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad_headers); i++) {
        g_autoptr(GError) error = NULL;
        guint8 bytes[FRAME_HEADER_LEN] = { 0 };
        guint32 length = GUINT32_TO_BE(bad_headers[i].length);
        guint16 reserved = GUINT16_TO_BE(bad_headers[i].reserved);
        guint64 seq = GUINT64_TO_BE(bad_headers[i].seq);
        FrameHeader header = { .body_len = 4711 };

        memcpy(bytes, &length, 4);
        bytes[4] = bad_headers[i].type;
        bytes[5] = bad_headers[i].flags;
        memcpy(bytes + 6, &reserved, 2);
        memcpy(bytes + 8, &seq, 8);

        assert_false(frame_header_decode(bytes, &header, &error));
        assert_true(g_error_matches(error, FRAME_ERROR_DOMAIN, FRAME_ERROR_HEADER));
        if (!strstr(error->message, bad_headers[i].names))
            fail_msg("row %zu: \"%s\" does not name \"%s\"", i, error->message,
                     bad_headers[i].names);
        assert_int_equal(header.body_len, 4711);
    }
}

static void limits_themselves_are_accepted(void **state)
{
    static const struct {
        FrameType type;
        gsize len;
    } rows[] = {
        { FRAME_DATA, 1 },
        { FRAME_DATA, FRAME_DATA_MAX },
        { FRAME_HELLO, FRAME_HELLO_MAX },
        { FRAME_HELLO_ACK, FRAME_HELLO_MAX },
        { FRAME_ERROR, 4 },
        { FRAME_ERROR, 4 + FRAME_ERROR_TEXT_MAX },
        { FRAME_PHASE, 1 },
        { FRAME_PHASE, 64 },
        { FRAME_BLOCKS, 1 },
        { FRAME_BLOCKS, FRAME_PAGES_MAX },
        { FRAME_PAGES, 1 },
        { FRAME_PAGES, FRAME_PAGES_MAX },
        { FRAME_RAM_END, 16 },
        { FRAME_RAM_END, 144 },
        { FRAME_QEMU_CHANNEL, 1 },
        { FRAME_QEMU_CHANNEL, 64 },
        { FRAME_REQUEST, 16 },
        { FRAME_REQUEST, 64 },
        { FRAME_DISCARD, 20 },
        { FRAME_DISCARD, 256 },
        { FRAME_RECEIVED, 13 },
        { FRAME_RECEIVED, FRAME_PAGES_MAX },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        FrameHeader header = { rows[i].type, 0, rows[i].len };
        guint8 bytes[FRAME_HEADER_LEN];
        FrameHeader back;

        frame_header_encode(&header, bytes);
        assert_true(frame_header_decode(bytes, &back, NULL));
        assert_int_equal(back.type, rows[i].type);
        assert_int_equal(back.body_len, rows[i].len);
    }
}

static void first_frame_of_an_accepted_channel_must_be_hello(void **state)
{
    g_autoptr(GBytes) data = frame_new(FRAME_DATA, 0, "x", 1);
    g_autoptr(GError) error = NULL;
    GPtrArray *frames = read_all(data, 1, TRUE, &error);

    assert_int_equal(frames->len, 0);
    assert_non_null(error);
    assert_string_equal(error->message, "frame type is DATA, the first frame must be HELLO");
    frames_free(frames);

    g_clear_error(&error);
    frames = read_all(data, 1, FALSE, &error);
    assert_null(error);
    assert_int_equal(frames->len, 1);
    frames_free(frames);
}

static void garbage_is_refused_after_sixteen_bytes(void **state)
{
    static const char http[] = "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";
    g_autoptr(GBytes) bytes = g_bytes_new_static(http, sizeof http);
    g_autoptr(GError) error = NULL;
    GPtrArray *frames = read_all(bytes, 1, TRUE, &error);

    assert_int_equal(frames->len, 0);
    assert_non_null(error);
    frames_free(frames);
}

static void truncated_frame_is_seen_as_one(void **state)
{
    g_autoptr(GBytes) frame = frame_new(FRAME_DATA, 0, "hello", 5);
    const guint8 *bytes = g_bytes_get_data(frame, NULL);

    for (gsize len = 0; len <= g_bytes_get_size(frame); len++) {
        g_auto(FrameReader) reader;
        g_auto(Frame) out = { 0 };
        gboolean complete = FALSE;

        frame_reader_init(&reader, FALSE);
        for (gsize i = 0; i < len; i++) {
            guint8 *space;

            frame_reader_space(&reader, &space);
            *space = bytes[i];
            assert_true(frame_reader_advance(&reader, 1, &out, &complete, NULL));
        }
        assert_int_equal(complete, len == g_bytes_get_size(frame));
        assert_int_equal(frame_reader_in_frame(&reader),
                         len > 0 && len < g_bytes_get_size(frame));
    }
}

static void bodies_of_wrong_size_are_refused(void **state)
{
    for (gsize len = 0; len < 24; len++) {
        g_autofree guint8 *zeros = g_malloc0(len + 1);
        g_autoptr(GBytes) body = g_bytes_new(zeros, len);
        g_autoptr(GError) ack_error = NULL;
        g_autoptr(GError) ping_error = NULL;
        FrameAck ack;
        guint64 cookie;

        assert_int_equal(frame_ack_decode(body, &ack, &ack_error), len == 16);
        assert_int_equal(ack_error == NULL, len == 16);
        assert_int_equal(frame_ping_decode(body, &cookie, &ping_error), len == 8);
        assert_int_equal(ping_error == NULL, len == 8);
    }
}

static void frames_of_the_stream_and_of_ram_are_sequenced(void **state)
{
    for (guint type = 0; type < FRAME_TYPE_MAX + 3; type++) {
        gboolean expected = type == FRAME_DATA || type == FRAME_EOF || type == FRAME_RESET ||
                            (type >= FRAME_PHASE && type <= FRAME_RECEIVED);

        assert_int_equal(frame_type_is_sequenced(type), expected);
    }
    assert_string_equal(frame_type_name(FRAME_HELLO_ACK), "HELLO_ACK");
    assert_string_equal(frame_type_name(99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_out_as_they_went_in_whatever_the_pieces),
        cmocka_unit_test(bad_header_is_refused_by_the_name_of_its_field),
        cmocka_unit_test(limits_themselves_are_accepted),
        cmocka_unit_test(first_frame_of_an_accepted_channel_must_be_hello),
        cmocka_unit_test(garbage_is_refused_after_sixteen_bytes),
        cmocka_unit_test(truncated_frame_is_seen_as_one),
        cmocka_unit_test(bodies_of_wrong_size_are_refused),
        cmocka_unit_test(frames_of_the_stream_and_of_ram_are_sequenced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
