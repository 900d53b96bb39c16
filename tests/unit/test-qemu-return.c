/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* QEMU's return path, read whole and in pieces: what each message says, that no byte is lost, and
 * what happens to a path that cannot be. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "ram/qemu_write.h"

typedef struct {
    QemuReturn *reader;
    GString *said;   /* a line for each event; neighbours that are one piece of data are joined */
    GByteArray *raw; /* of all events */
    QemuReturnEventType last;
    guint64 run; /* bytes of the line under way, if it is of data */
} Transcript;

static void transcript_init(Transcript *t)
{
    *t = (Transcript){ qemu_return_new(), g_string_new(NULL), g_byte_array_new(), 0, 0 };
}

static void transcript_clear(Transcript *t)
{
    qemu_return_free(t->reader);
    g_string_free(t->said, TRUE);
    g_byte_array_unref(t->raw);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Transcript, transcript_clear)

static void end_run(Transcript *t)
{
    if (t->run)
        g_string_append_printf(t->said, "%" G_GUINT64_FORMAT "\n", t->run);
    t->run = 0;
}

/* Data comes in whatever pieces: only its sum is told. */
static void note_data(Transcript *t, const QemuReturnEvent *event)
{
    if (event->type != t->last)
        g_string_append_printf(t->said, "%s ", qemu_return_event_name(event->type));
    if (event->type == QEMU_RETURN_BITMAP_DATA)
        assert_true(event->start == t->run);
    assert_true(event->raw_len > 0);
    t->run += event->raw_len;
}

static void note_event(Transcript *t, const QemuReturnEvent *event)
{
    const char *name = qemu_return_event_name(event->type);

    if (event->type == QEMU_RETURN_BITMAP_DATA || event->type == QEMU_RETURN_OPAQUE) {
        note_data(t, event);
        return;
    }
    end_run(t);
    if (event->name)
        assert_int_equal(strlen(event->name), event->name_len);
    switch (event->type) {
    case QEMU_RETURN_REQ_PAGES:
        g_string_append_printf(t->said, "%s %s %#" G_GINT64_MODIFIER "x+%#" G_GINT64_MODIFIER "x\n",
                               name, event->name, event->start, event->length);
        break;
    case QEMU_RETURN_BITMAP:
        g_string_append_printf(t->said, "%s %s %" G_GUINT64_FORMAT "\n", name, event->name,
                               event->length);
        break;
    case QEMU_RETURN_BITMAP_END:
        g_string_append_printf(t->said, "%s %s\n", name, event->name);
        break;
    case QEMU_RETURN_UNKNOWN:
        g_string_append_printf(t->said, "%s: %s\n", name, event->text);
        break;
    default:
        g_string_append_printf(t->said, "%s %" G_GUINT64_FORMAT "\n", name, event->value);
    }
}

/* A copy of its own, so that a read past the end is seen by the tools. */
static void feed(Transcript *t, const guint8 *bytes, gsize len)
{
    g_autofree guint8 *copy = g_malloc(MAX(len, 1));
    gsize at = 0;
    QemuReturnEvent event;

    if (len > 0)
        memcpy(copy, bytes, len);
    do {
        gsize taken;
        const guint8 *held;

        taken = qemu_return_read(t->reader, copy + at, len - at, &event);
        assert_true(taken <= len - at);
        at += taken;
        if (event.type == QEMU_RETURN_MORE) {
            assert_int_equal(event.raw_len, 0);
            break;
        }
        note_event(t, &event);
        t->last = event.type;
        g_byte_array_append(t->raw, event.raw, event.raw_len);
        assert_int_equal(qemu_return_held(t->reader, &held), 0);
    } while (TRUE);
    assert_int_equal(at, len);
}

/* What has come out, and what is still held, is what went in. */
static void check_raw(Transcript *t, const GByteArray *in)
{
    const guint8 *held;
    gsize held_len = qemu_return_held(t->reader, &held);

    end_run(t);
    assert_true(held_len <= 4 + QEMU_RETURN_MESSAGE_MAX + 8);
    g_byte_array_append(t->raw, held, held_len);
    assert_int_equal(t->raw->len, in->len);
    if (in->len > 0)
        assert_memory_equal(t->raw->data, in->data, in->len);
}

/* Reads it whole, byte by byte and in random pieces; returns what was said, the same each time. */
static char *read_in_all_ways(const GByteArray *in)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(in->len);
    char *said = NULL;

    for (guint most = 0; most < 12; most++) {
        g_auto(Transcript) t;
        gsize at = 0;

        transcript_init(&t);
        while (at < in->len) {
            gsize left = in->len - at, n = left;

            if (most > 0)
                n = g_rand_int_range(rand, 1, most * 3 - 1);
            n = MIN(n, left);
            feed(&t, in->data + at, n);
            at += n;
        }
        check_raw(&t, in);
        if (said)
            assert_string_equal(t.said->str, said);
        else
            said = g_strdup(t.said->str);
    }
    return said;
}

static void append(GByteArray *out, const char *bytes, gsize len)
{
    g_byte_array_append(out, (const guint8 *)bytes, len);
}
#define APPEND(out, literal) append(out, literal, sizeof literal - 1)

/* Written out by hand, as QEMU sends it. */
static GByteArray *sample(void)
{
    GByteArray *out = g_byte_array_new();

    APPEND(out, "\0\2\0\4\0\0\0\1"); /* PONG */
    APPEND(out, "\0\3\0\23\0\0\0\0\7\xf0\x10\0\0\0\x10\0\6pc.ram"); /* REQ_PAGES_ID */
    APPEND(out, "\0\4\0\14\0\0\0\0\0\x20\0\0\0\x20\0\0"); /* REQ_PAGES */
    APPEND(out, "\0\5\0\7\6pc.rom\0\0\0\0\0\0\0\x10"); /* RECV_BITMAP, its bits and its end */
    APPEND(out, "\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0");
    APPEND(out, "\1\x23\x45\x67\x89\xab\xcd\xef");
    APPEND(out, "\0\6\0\4\0\0\0\1"); /* RESUME_ACK */
    APPEND(out, "\0\4\0\14\0\0\0\0\0\0\0\0\0\0\x10\0"); /* REQ_PAGES */
    APPEND(out, "\0\7\0\0"); /* SWITCHOVER_ACK */
    APPEND(out, "\0\1\0\4\0\0\0\0"); /* SHUT */
    return out;
}

static const char sample_said[] =
    "PONG 1\n"
    "REQ_PAGES pc.ram 0x7f01000+0x1000\n"
    "REQ_PAGES pc.ram 0x200000+0x200000\n"
    "BITMAP pc.rom 16\n"
    "BITMAP_DATA 16\n"
    "BITMAP_END pc.rom\n"
    "RESUME_ACK 1\n"
    "REQ_PAGES pc.ram 0+0x1000\n"
    "OTHER 7\n"
    "SHUT 0\n";

static void messages_are_read_however_they_are_cut(void **state)
{
    g_autoptr(GByteArray) in = sample();
    g_autofree char *said = read_in_all_ways(in);

    assert_string_equal(said, sample_said);
}

static void path_cut_anywhere_gives_what_was_whole(void **state)
{
    g_autoptr(GByteArray) whole = sample();

    for (guint len = 0; len < whole->len; len++) {
        g_autoptr(GByteArray) in = g_byte_array_new();
        g_autofree char *said = NULL;

        g_byte_array_append(in, whole->data, len);
        said = read_in_all_ways(in);
        assert_false(strstr(said, "UNKNOWN"));
        /* The last line may be of data that has come in part. */
        if (strstr(said, "BITMAP_DATA ") && !strstr(said, "BITMAP_END"))
            *strstr(said, "BITMAP_DATA ") = 0;
        assert_true(g_str_has_prefix(sample_said, said));
    }
}

static void boundary_is_between_messages_only(void **state)
{
    g_autoptr(GByteArray) in = sample();
    g_autoptr(GString) found = g_string_new(NULL);
    g_auto(Transcript) t;

    transcript_init(&t);
    for (guint i = 0; i < in->len; i++) {
        if (qemu_return_at_boundary(t.reader))
            g_string_append_printf(found, "%u ", i);
        feed(&t, in->data + i, 1);
    }
    assert_true(qemu_return_at_boundary(t.reader));
    assert_string_equal(found->str, "0 8 31 47 90 98 114 118 ");

    feed(&t, (const guint8 *)"\xff\xff\xff\xff", 4);
    assert_true(qemu_return_is_opaque(t.reader));
    assert_false(qemu_return_at_boundary(t.reader));
}

static void message_in_one_piece_is_not_copied(void **state)
{
    g_autoptr(QemuReturn) reader = qemu_return_new();
    g_autoptr(GByteArray) in = sample();
    gsize at = 0;

    while (at < in->len) {
        QemuReturnEvent event;
        gsize taken = qemu_return_read(reader, in->data + at, in->len - at, &event);

        assert_ptr_equal(event.raw, in->data + at);
        assert_int_equal(event.raw_len, taken);
        at += taken;
    }
}

static void type_of_tomorrow_is_passed_on(void **state)
{
    g_autoptr(GByteArray) in = g_byte_array_new();
    g_autofree char *said = NULL;
    guint8 much[QEMU_RETURN_MESSAGE_MAX] = { 0 };

    APPEND(in, "\0\11\2\0");
    g_byte_array_append(in, much, sizeof much);
    APPEND(in, "\0\0\0\0");
    APPEND(in, "\xff\xff\0\1x");
    qemu_put_pong(in, 5);
    said = read_in_all_ways(in);
    assert_string_equal(said, "OTHER 9\nOTHER 0\nOTHER 65535\nPONG 5\n");
}

#define ROW(bytes, text) { bytes, sizeof bytes - 1, text }

static void what_cannot_be_is_named_and_passed_on(void **state)
{
    static const struct {
        const char *bytes;
        gsize len;
        const char *names;
    } rows[] = {
        ROW("\0\1\0\5", "SHUT has 5 bytes"),
        ROW("\0\2\0\0", "PONG has 0 bytes"),
        ROW("\0\3\0\14", "REQ_PAGES_ID has 12 bytes"),
        ROW("\0\3\0\15", "REQ_PAGES_ID has 13 bytes"),
        ROW("\0\3\1\15", "REQ_PAGES_ID has 269 bytes"),
        ROW("\0\4\0\15", "REQ_PAGES has 13 bytes"),
        ROW("\0\5\0\1", "RECV_BITMAP has 1 bytes"),
        ROW("\0\5\1\1", "RECV_BITMAP has 257 bytes"),
        ROW("\0\6\0\3", "RESUME_ACK has 3 bytes"),
        ROW("\0\7\0\1", "SWITCHOVER_ACK has 1 bytes"),
        ROW("\0\11\2\1", "type 9 has 513 bytes"),
        ROW("\xff\xff\xff\xff", "type 65535 has 65535 bytes"),
        ROW("\0\3\0\16\0\0\0\0\0\0\0\0\0\0\x10\0\2x", "name in REQ_PAGES_ID has 2 bytes"),
        ROW("\0\3\0\17\0\0\0\0\0\0\0\0\0\0\x10\0\1xx", "name in REQ_PAGES_ID has 1 bytes"),
        ROW("\0\3\0\16\0\0\0\0\0\0\0\0\0\0\0\0\1x", "request for 0 bytes at 0x0"),
        ROW("\0\3\0\16\0\0\0\0\0\0\0\0\0\0\x18\0\1x", "request for 6144 bytes"),
        ROW("\0\3\0\16\0\0\0\0\0\0\1\0\0\0\x10\0\1x", "request for 4096 bytes at 0x100"),
        ROW("\0\3\0\16\xff\xff\xff\xff\xff\xff\xf0\0\0\0\x10\0\1x", "0xfffffffffffff000"),
        ROW("\0\4\0\14\0\0\0\0\0\0\0\0\0\0\x10\0", "without an earlier REQ_PAGES_ID"),
        ROW("\0\5\0\2\2x\0\0\0\0\0\0\0\10", "name in RECV_BITMAP has 2 bytes"),
        ROW("\0\5\0\2\1x\0\0\0\0\0\0\0\0", "bitmap of 0 bytes"),
        ROW("\0\5\0\2\1x\0\0\0\0\0\0\0\11", "bitmap of 9 bytes"),
        ROW("\0\5\0\2\1x\0\0\2\0\0\0\0\10", "bitmap of 2199023255560 bytes"),
        ROW("\0\5\0\2\1x\0\0\0\0\0\0\0\10........\1\x23\x45\x67\x89\xab\xcd\xee", "mark of"),
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GByteArray) in = g_byte_array_new();
        g_autofree char *said = NULL;
        const char *unknown;

        qemu_put_pong(in, i);
        append(in, rows[i].bytes, rows[i].len);
        qemu_put_pong(in, 0xdead);
        said = read_in_all_ways(in);
        unknown = strstr(said, "UNKNOWN: ");
        if (!unknown || !strstr(unknown, rows[i].names))
            fail_msg("row %zu: \"%s\" does not name \"%s\"", i, said, rows[i].names);
        assert_non_null(strstr(unknown, "byte "));
        assert_true(g_str_has_prefix(said, "PONG "));
        assert_true(g_str_has_suffix(said, "\nOPAQUE 8\n"));
    }
}

static void place_of_what_cannot_be_is_told(void **state)
{
    g_autoptr(GByteArray) in = sample();
    g_autofree char *said = NULL;

    APPEND(in, "\0\2\0\5");
    said = read_in_all_ways(in);
    assert_non_null(strstr(said, "byte 126: PONG has 5 bytes"));
}

static void flipped_bits_lose_no_byte(void **state)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(42);
    guint changed = 0;

    for (guint i = 0; i < 500; i++) {
        g_autoptr(GByteArray) in = sample();
        g_autofree char *said = NULL;

        for (gint n = g_rand_int_range(rand, 1, 4); n > 0; n--)
            in->data[g_rand_int_range(rand, 0, in->len)] ^= 1 << g_rand_int_range(rand, 0, 8);
        said = read_in_all_ways(in);
        changed += strcmp(said, sample_said) != 0;
    }
    assert_true(changed > 250);
}

static void longest_name_fits(void **state)
{
    g_autofree char *name = g_strnfill(RAM_BLOCK_NAME_MAX, 'n');
    const RamBlock block = { name, 0, 0 };
    const guint8 bits[1] = { 0xff };
    g_autoptr(GByteArray) in = g_byte_array_new();
    g_autofree char *said = NULL, *expected = NULL;

    qemu_put_req_pages(in, &block, 0x3000, 0x1000);
    qemu_put_recv_bitmap(in, &block, bits, 1);
    said = read_in_all_ways(in);
    expected = g_strdup_printf("REQ_PAGES %s 0x3000+0x1000\nBITMAP %s 8\nBITMAP_DATA 8\n"
                               "BITMAP_END %s\n", name, name, name);
    assert_string_equal(said, expected);
}

static void every_event_has_a_name(void **state)
{
    for (guint i = 0; i < QEMU_RETURN_MAX; i++)
        assert_non_null(qemu_return_event_name(i));
    assert_string_equal(qemu_return_event_name(QEMU_RETURN_MAX), "unknown");
    qemu_return_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_read_however_they_are_cut),
        cmocka_unit_test(path_cut_anywhere_gives_what_was_whole),
        cmocka_unit_test(boundary_is_between_messages_only),
        cmocka_unit_test(message_in_one_piece_is_not_copied),
        cmocka_unit_test(type_of_tomorrow_is_passed_on),
        cmocka_unit_test(what_cannot_be_is_named_and_passed_on),
        cmocka_unit_test(place_of_what_cannot_be_is_told),
        cmocka_unit_test(flipped_bits_lose_no_byte),
        cmocka_unit_test(longest_name_fits),
        cmocka_unit_test(every_event_has_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
