/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The messages of the hand-over: each is read as it was written, and nothing else is read. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <glib.h>

#include "client/handover.h"

static HandoverText text_of(const char *text)
{
    return handover_text(text, strlen(text));
}

static const HandoverParams some_params = {
    .max_bandwidth = 1, .max_postcopy_bandwidth = 2, .downtime_limit_ms = 3, .postcopy = 1,
    .pause_before_switchover = 1, .auto_converge = 1, .throttle_initial = 4,
    .throttle_increment = 5, .throttle_max = 99, .release_ram = 1, .xbzrle_cache = 64 << 20,
    .checkpoints = 1, .checkpoint_interval_ms = 500,
};

static void fill_setup(HandoverMessage *m)
{
    switch (m->type) {
    case HANDOVER_HELLO:
        m->hello.version = HANDOVER_VERSION;
        m->hello.role = HANDOVER_SOURCE;
        m->hello.recovers = 1;
        m->hello.bulk = 16;
        m->hello.compress = 2;
        m->hello.name = text_of("a guest, größer");
        m->hello.uri = text_of("postcopy:///?peer=b:1");
        break;
    case HANDOVER_WELCOME:
        m->welcome.uri = text_of("postcopy:///");
        m->welcome.session = text_of("0123456789abcdef0123456789abcdef");
        break;
    case HANDOVER_REGIONS:
        m->regions.n = 2;
        m->regions.regions[0] = (HandoverRegion){ text_of("pc.ram"), 1 << 20, 4096, 3, 0x7f0000000000,
                                                  1, 8192 };
        m->regions.regions[1] = (HandoverRegion){ text_of("rom"), 4096, 4096, 2, 0x10000, 0, 0 };
        break;
    case HANDOVER_MEMORY:
        m->memory.n_regions = 2;
        m->memory.target_page = 4096;
        m->memory.recovers = 1;
        m->memory.log = 2;
        m->memory.fds = HANDOVER_FD_MEM | HANDOVER_FD_UFFD;
        m->memory.params = some_params;
        break;
    }
}

static void fill(HandoverMessage *m)
{
    switch (m->type) {
    case HANDOVER_REFUSED:
    case HANDOVER_RESUME:
    case HANDOVER_STATE:
    case HANDOVER_FAILED:
        m->text = text_of("why");
        break;
    case HANDOVER_THROTTLE:
        m->percent = 99;
        break;
    case HANDOVER_DISCARD:
    case HANDOVER_FREE_HINTS:
        m->ranges.block = 7;
        m->ranges.n = 2;
        m->ranges.ranges[0] = (HandoverRange){ 0, 4096 };
        m->ranges.ranges[1] = (HandoverRange){ 8192, 1 << 30 };
        break;
    case HANDOVER_DEVICE:
        m->device.last = 1;
        m->device.bytes = (const uint8_t *)"\0state\xff";
        m->device.len = 7;
        break;
    case HANDOVER_END:
        m->end.outcome = 4;
        m->end.text = text_of("the link");
        break;
    case HANDOVER_PARAMS:
        m->params = some_params;
        break;
    case HANDOVER_SHARED:
        m->shared.id = 5;
        m->shared.n = 1;
        m->shared.mappings[0] = (HandoverMapping){ 1, 4096, 8192, 0x1000 };
        break;
    case HANDOVER_VCPUS:
        m->vcpus.n = 2;
        m->vcpus.threads[0] = 4711;
        m->vcpus.threads[1] = 0xfffffffe;
        break;
    case HANDOVER_UNSHARED:
        m->shared.id = 5;
        break;
    default:
        fill_setup(m);
    }
}

static gboolean exists(guint16 type)
{
    return strcmp(handover_type_name(type), "?") != 0;
}

/* Of every type, one that is good. Returns its length. */
static size_t write_good(guint16 type, HandoverMessage *m, guint8 *bytes)
{
    size_t len;

    memset(m, 0, sizeof *m);
    m->type = type;
    fill(m);
    len = handover_encode(m, bytes);
    assert_true(len >= 2);
    return len;
}

static void every_message_is_read_as_it_was_written(void **state)
{
    g_autofree guint8 *bytes = g_malloc(HANDOVER_MESSAGE_MAX);
    g_autofree guint8 *again = g_malloc(HANDOVER_MESSAGE_MAX);
    g_autofree HandoverMessage *m = g_new0(HandoverMessage, 1), *back = g_new0(HandoverMessage, 1);
    char error[HANDOVER_ERROR_MAX] = "";
    guint n = 0;

    for (guint type = 0; type < 256; type++) {
        size_t len;

        if (!exists((guint16)type))
            continue;
        len = write_good((guint16)type, m, bytes);
        if (!handover_decode(bytes, len, m->n_fds, back, error))
            fail_msg("%s: %s", handover_type_name((guint16)type), error);
        assert_int_equal(back->type, type);
        assert_int_equal(back->n_fds, m->n_fds);
        assert_int_equal(handover_encode(back, again), len);
        assert_memory_equal(bytes, again, len);
        n++;
    }
    assert_int_equal(n, 35);
}

static void fields_are_where_they_belong(void **state)
{
    g_autofree guint8 *bytes = g_malloc(HANDOVER_MESSAGE_MAX);
    g_autofree HandoverMessage *m = g_new0(HandoverMessage, 1), *back = g_new0(HandoverMessage, 1);
    char error[HANDOVER_ERROR_MAX];
    size_t len = write_good(HANDOVER_REGIONS, m, bytes);

    assert_true(handover_decode(bytes, len, 1, back, error));
    assert_int_equal(back->regions.n, 2);
    assert_memory_equal(back->regions.regions[0].name.bytes, "pc.ram", 6);
    assert_int_equal(back->regions.regions[0].length, 1 << 20);
    assert_int_equal(back->regions.regions[0].address, 0x7f0000000000);
    assert_int_equal(back->regions.regions[0].fd_offset, 8192);
    assert_int_equal(back->regions.regions[1].fd, 0);
    len = write_good(HANDOVER_MEMORY, m, bytes);
    assert_true(handover_decode(bytes, len, 2, back, error));
    assert_memory_equal(&back->memory.params, &some_params, sizeof some_params);
}

static void every_truncation_is_refused(void **state)
{
    g_autofree guint8 *bytes = g_malloc(HANDOVER_MESSAGE_MAX);
    g_autofree HandoverMessage *m = g_new0(HandoverMessage, 1), *back = g_new0(HandoverMessage, 1);
    char error[HANDOVER_ERROR_MAX];

    for (guint type = 0; type < 256; type++) {
        size_t len;

        if (!exists((guint16)type))
            continue;
        len = write_good((guint16)type, m, bytes);
        for (size_t cut = 0; cut < len; cut++) {
            /* What of a device state is there is all that can be. */
            if (type == HANDOVER_DEVICE && cut >= 3)
                continue;
            error[0] = '\0';
            assert_false(handover_decode(bytes, cut, m->n_fds, back, error));
            assert_true(strlen(error) > 0);
        }
        bytes[len] = 0;
        if (type != HANDOVER_DEVICE)
            assert_false(handover_decode(bytes, len + 1, m->n_fds, back, error));
    }
}

static void the_number_of_descriptors_must_be_the_one_named(void **state)
{
    g_autofree guint8 *bytes = g_malloc(HANDOVER_MESSAGE_MAX);
    g_autofree HandoverMessage *m = g_new0(HandoverMessage, 1), *back = g_new0(HandoverMessage, 1);
    char error[HANDOVER_ERROR_MAX];

    for (guint type = 0; type < 256; type++) {
        size_t len;

        if (!exists((guint16)type))
            continue;
        len = write_good((guint16)type, m, bytes);
        assert_false(handover_decode(bytes, len, m->n_fds + 1, back, error));
        assert_non_null(strstr(error, "descriptors"));
        if (m->n_fds > 0)
            assert_false(handover_decode(bytes, len, m->n_fds - 1, back, error));
    }
}

/* A good message, in which one byte is another: it must be refused, and the text has a word of
 * why. */
static void what_cannot_be_is_refused(void **state)
{
    static const struct {
        guint16 type;
        gssize at; /* negative: from the end */
        guint8 value;
        const char *why;
    } rows[] = {
        { HANDOVER_HELLO, 6, 0, "role" },
        { HANDOVER_HELLO, 6, 3, "role" },
        { HANDOVER_HELLO, 6, HANDOVER_DESTINATION, "uri" },
        { HANDOVER_HELLO, 7, 2, "recovers" },
        { HANDOVER_HELLO, 9, 17, "bulk" },
        { HANDOVER_HELLO, 10, 3, "compress" },
        { HANDOVER_HELLO, 13, '\n', "UTF-8" },
        { HANDOVER_HELLO, 13, 0, "UTF-8" },
        { HANDOVER_HELLO, 13, 0xff, "UTF-8" },
        { HANDOVER_HELLO, 13, 0x80, "UTF-8" },
        { HANDOVER_WELCOME, 2, 0x10, "uri" },
        { HANDOVER_REGIONS, 3, 0, "number of regions" },
        { HANDOVER_REGIONS, 3, 65, "number of regions" },
        { HANDOVER_REGIONS, 5, 0, "region name" },
        { HANDOVER_MEMORY, 8, 2, "recovers" },
        { HANDOVER_MEMORY, 9, 3, "log" },
        { HANDOVER_MEMORY, 10, 0xff, "descriptors" },
        { HANDOVER_MEMORY, -6, 1, "power of two" },
        { HANDOVER_MEMORY, -5, 2, "checkpoints" },
        { HANDOVER_PARAMS, -17, 100, "throttle" },
        { HANDOVER_THROTTLE, 2, 100, "percent" },
        { HANDOVER_DISCARD, 4, 5, "number of ranges" },
        { HANDOVER_FREE_HINTS, 34, 0, "empty" },
        { HANDOVER_DEVICE, 2, 2, "last" },
        { HANDOVER_END, 2, 5, "outcome" },
        { HANDOVER_SHARED, 7, 0, "mappings" },
        { HANDOVER_SHARED, 6, 2, "mappings" },
        { HANDOVER_STATE, 3, 200, "text" },
    };
    g_autofree guint8 *bytes = g_malloc(HANDOVER_MESSAGE_MAX);
    g_autofree HandoverMessage *m = g_new0(HandoverMessage, 1), *back = g_new0(HandoverMessage, 1);
    char error[HANDOVER_ERROR_MAX];

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        size_t len = write_good(rows[i].type, m, bytes);
        guint8 *at = rows[i].at < 0 ? bytes + len + rows[i].at : bytes + rows[i].at;

        *at = rows[i].value;
        if (handover_decode(bytes, len, m->n_fds, back, error))
            fail_msg("row %u: accepted", i);
        if (!strstr(error, rows[i].why))
            fail_msg("row %u: \"%s\" does not say \"%s\"", i, error, rows[i].why);
    }
}

static void of_another_version_only_the_number_is_read(void **state)
{
    static const guint8 bytes[] = { 0, HANDOVER_HELLO, 0, 0, 0, 2, 0xff };
    g_autofree HandoverMessage *back = g_new0(HandoverMessage, 1);
    char error[HANDOVER_ERROR_MAX];

    assert_true(handover_decode(bytes, sizeof bytes, 0, back, error));
    assert_int_equal(back->hello.version, 2);
    assert_int_equal(back->hello.name.len, 0);
}

static void there_are_no_other_types(void **state)
{
    g_autofree HandoverMessage *back = g_new0(HandoverMessage, 1);
    char error[HANDOVER_ERROR_MAX];

    for (guint type = 0; type <= G_MAXUINT16; type++) {
        guint8 bytes[] = { (guint8)(type >> 8), (guint8)type };

        if (exists((guint16)type))
            continue;
        assert_false(handover_decode(bytes, 2, 0, back, error));
        assert_non_null(strstr(error, "type"));
    }
}

static void what_breaks_a_limit_is_not_written(void **state)
{
    g_autofree guint8 *bytes = g_malloc(HANDOVER_MESSAGE_MAX);
    g_autofree char *longer = g_strnfill(HANDOVER_TEXT_MAX + 1, 'a');
    g_autofree guint8 *state_bytes = g_malloc0(HANDOVER_DEVICE_PIECE_MAX + 1);
    g_autofree HandoverMessage *m = g_new0(HandoverMessage, 1);

    m->type = HANDOVER_FAILED;
    m->text = handover_text(longer, HANDOVER_TEXT_MAX + 1);
    assert_int_equal(handover_encode(m, bytes), 0);
    m->text.len = HANDOVER_TEXT_MAX;
    assert_int_equal(handover_encode(m, bytes), 4 + HANDOVER_TEXT_MAX);
    m->text = text_of("two\nlines");
    assert_int_equal(handover_encode(m, bytes), 0);
    m->type = HANDOVER_DEVICE;
    m->device.last = 0;
    m->device.bytes = state_bytes;
    m->device.len = HANDOVER_DEVICE_PIECE_MAX + 1;
    assert_int_equal(handover_encode(m, bytes), 0);
    m->device.len = HANDOVER_DEVICE_PIECE_MAX;
    assert_int_equal(handover_encode(m, bytes), 3 + HANDOVER_DEVICE_PIECE_MAX);
    m->type = HANDOVER_DISCARD;
    m->ranges.n = HANDOVER_RANGES_MAX + 1;
    assert_int_equal(handover_encode(m, bytes), 0);
}

static void the_largest_of_each_fits(void **state)
{
    g_autofree guint8 *bytes = g_malloc(HANDOVER_MESSAGE_MAX);
    g_autofree char *name = g_strnfill(HANDOVER_NAME_MAX, 'n');
    g_autofree HandoverMessage *m = g_new0(HandoverMessage, 1);

    m->type = HANDOVER_REGIONS;
    m->regions.n = HANDOVER_REGIONS_MAX;
    for (guint i = 0; i < HANDOVER_REGIONS_MAX; i++)
        m->regions.regions[i] = (HandoverRegion){ .name = text_of(name), .fd = (guint8)(i + 1) };
    assert_true(handover_encode(m, bytes) > 0);
    assert_int_equal(m->n_fds, HANDOVER_FDS_MAX);
    m->type = HANDOVER_DISCARD;
    m->ranges.n = HANDOVER_RANGES_MAX;
    for (guint i = 0; i < HANDOVER_RANGES_MAX; i++)
        m->ranges.ranges[i] = (HandoverRange){ i, 1 };
    assert_true(handover_encode(m, bytes) > 0);
    m->type = HANDOVER_SHARED;
    m->shared.n = HANDOVER_MAPPINGS_MAX;
    for (guint i = 0; i < HANDOVER_MAPPINGS_MAX; i++)
        m->shared.mappings[i] = (HandoverMapping){ 1, i, 1, 1 };
    assert_true(handover_encode(m, bytes) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_is_read_as_it_was_written),
        cmocka_unit_test(fields_are_where_they_belong),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(the_number_of_descriptors_must_be_the_one_named),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(of_another_version_only_the_number_is_read),
        cmocka_unit_test(there_are_no_other_types),
        cmocka_unit_test(what_breaks_a_limit_is_not_written),
        cmocka_unit_test(the_largest_of_each_fits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
