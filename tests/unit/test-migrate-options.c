/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is refused, what libvirtd is not to see, and what the session is asked to do: by flags and
 * parameters of one call. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>

#include "xml/migrate_features.h"
#include "xml/migrate_options.h"

#define TEXT(field, value) { .name = field, .type = MIGRATE_PARAM_TEXT, .text = value }
#define NUMBER(field, value) { .name = field, .type = MIGRATE_PARAM_NUMBER, .number = value }
#define METHOD(value) TEXT(VIR_MIGRATE_PARAM_COMPRESSION, value)
#define END { .name = NULL }
#define PARAMS_MAX 8

static MigrateAsked asked_of(guint64 flags, const MigrateParam *params)
{
    MigrateAsked asked = { .flags = flags | VIR_MIGRATE_POSTCOPY, .params = params };

    while (params[asked.n_params].name)
        asked.n_params++;
    return asked;
}

/* ---- refusals ---- */

static void test_what_makes_no_sense_is_refused(void **state)
{
    static const struct {
        guint64 flags;
        MigrateParam params[PARAMS_MAX];
        int code;
        const char *words;
    } rows[] = {
        { VIR_MIGRATE_TUNNELLED, { END }, VIR_ERR_ARGUMENT_UNSUPPORTED, "--tunnelled" },
        { 1u << 20, { END }, VIR_ERR_ARGUMENT_UNSUPPORTED, "--zerocopy" },
        { VIR_MIGRATE_PARALLEL | 1u << 20, { END }, VIR_ERR_ARGUMENT_UNSUPPORTED, "--zerocopy" },
        { 0, { METHOD("zstd"), METHOD("zstd"), END }, VIR_ERR_INVALID_ARG,
          "'zstd' is named twice" },
        { 0, { METHOD("mt"), NUMBER("compression.mt.level", 10), END }, VIR_ERR_INVALID_ARG,
          "--comp-mt-level (compression.mt.level) is 10: give a number from 0 to 9" },
        { 0, { METHOD("mt"), NUMBER("compression.mt.level", -1), END }, VIR_ERR_INVALID_ARG,
          "is -1" },
        { 0, { NUMBER("compression.mt.threads", 0), METHOD("mt"), END }, VIR_ERR_INVALID_ARG,
          "from 1 to 255" },
        { 0, { METHOD("mt"), NUMBER("compression.mt.dthreads", 256), END }, VIR_ERR_INVALID_ARG,
          "--comp-mt-dthreads" },
        { 0, { METHOD("zlib"), TEXT("compression.zlib.level", "9"), END }, VIR_ERR_INVALID_ARG,
          "is no number" },
        { 0, { METHOD("mt"), NUMBER("compression.mt.level", 1), NUMBER("compression.mt.level", 1),
               END }, VIR_ERR_INVALID_ARG, "'compression.mt.level' is given twice" },
        { 0, { TEXT("listen_address", "::1"), TEXT("bandwidth", "1"), TEXT("listen_address", "::1"),
               END }, VIR_ERR_INVALID_ARG, "'listen_address' is given twice" },
        { 0, { NUMBER("migrate_uri", 7), END }, VIR_ERR_INVALID_ARG, "'migrate_uri' is no text" },
        { 0, { NUMBER("tls.destination", 7), END }, VIR_ERR_INVALID_ARG, "is no text" },
        { 0, { METHOD("zstd"), NUMBER("compression.zstd.level", 21), END }, VIR_ERR_INVALID_ARG,
          "from 0 to 20" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        MigrateAsked asked = asked_of(rows[i].flags, rows[i].params);
        g_autoptr(GError) error = NULL;

        assert_false(migrate_options_check(&asked, &error));
        assert_int_equal(error->domain, MIGRATE_OPTIONS_ERROR);
        assert_int_equal(error->code, rows[i].code);
        if (!strstr(error->message, rows[i].words))
            fail_msg("row %zu: %s", i, error->message);
    }
}

/* Tuning of a method that is not on, and what the table does not know, is libvirtd's to judge. */
static void test_what_libvirtd_judges_is_not_refused(void **state)
{
    static const MigrateParam rows[][PARAMS_MAX] = {
        { NUMBER("compression.mt.level", 99), END },
        { NUMBER("compression.zlib.level", 99), METHOD("zstd"), END },
        { METHOD("lz77"), END },
        { METHOD("xbzrle"), METHOD("xbzrle"), END },
        { { .name = "compression", .type = MIGRATE_PARAM_NUMBER, .number = 1 }, END },
        { TEXT("nobody.has.this", ""), END },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        MigrateAsked asked = asked_of(G_GUINT64_CONSTANT(1) << 40, rows[i]);

        assert_true(migrate_options_check(&asked, NULL));
        for (gsize k = 0; k < asked.n_params; k++) {
            if (migrate_options_param_taken(&asked, &rows[i][k]) !=
                (rows[i][k].type == MIGRATE_PARAM_TEXT && g_str_equal(rows[i][k].text, "zstd")))
                fail_msg("row %zu: %s", i, rows[i][k].name);
        }
        assert_int_equal(migrate_options_flags_taken(&asked), 0);
    }
}

/* ---- what libvirtd is not to see ---- */

static void test_what_is_not_libvirtds_is_taken_out(void **state)
{
    static const struct {
        guint64 flags;
        guint64 taken;
        MigrateParam params[PARAMS_MAX];
        const char *kept; /* the parameters, by a letter each that tells its place */
    } rows[] = {
        { VIR_MIGRATE_TLS | VIR_MIGRATE_LIVE, VIR_MIGRATE_TLS,
          { TEXT("tls.destination", "b"), TEXT("destination_name", "x"), END }, "b" },
        { VIR_MIGRATE_PARALLEL | VIR_MIGRATE_RDMA_PIN_ALL,
          VIR_MIGRATE_PARALLEL | VIR_MIGRATE_RDMA_PIN_ALL,
          { NUMBER("parallel.connections", 4), NUMBER("bandwidth", 4), END }, "b" },
        { 0, 0, { NUMBER("parallel.connections", 4), END }, "a" },
        { VIR_MIGRATE_COMPRESSED, 0, { END }, "" },
        { VIR_MIGRATE_COMPRESSED, 0,
          { METHOD("xbzrle"), NUMBER("compression.xbzrle.cache", 1 << 20), END }, "ab" },
        { VIR_MIGRATE_COMPRESSED, VIR_MIGRATE_COMPRESSED,
          { METHOD("zstd"), NUMBER("compression.zstd.level", 3), METHOD("zlib"),
            NUMBER("compression.zlib.level", 3), END }, "" },
        { VIR_MIGRATE_COMPRESSED, VIR_MIGRATE_COMPRESSED,
          { METHOD("mt"), NUMBER("compression.mt.level", 3), NUMBER("compression.mt.threads", 3),
            NUMBER("compression.mt.dthreads", 3), END }, "" },
        { VIR_MIGRATE_COMPRESSED, 0, { METHOD("mt"), METHOD("xbzrle"), END }, "b" },
        { VIR_MIGRATE_COMPRESSED, 0, { METHOD("zstd"), METHOD("lz77"), END }, "b" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        MigrateAsked asked = asked_of(rows[i].flags, rows[i].params);
        g_autoptr(GString) kept = g_string_new(NULL);

        assert_true(migrate_options_check(&asked, NULL));
        for (gsize k = 0; k < asked.n_params; k++) {
            if (!migrate_options_param_taken(&asked, &asked.params[k]))
                g_string_append_c(kept, (char)('a' + k));
        }
        assert_string_equal(kept->str, rows[i].kept);
        assert_int_equal(migrate_options_flags_taken(&asked), rows[i].taken);
    }
}

/* libvirtd at the source hands it to the destination's daemon. */
static void test_listen_address_is_left_to_a_peer_to_peer_perform_alone(void **state)
{
    static const MigrateParam params[] = { TEXT("listen_address", "::1"), END };
    MigrateAsked asked = asked_of(VIR_MIGRATE_PEER2PEER, params);

    assert_true(migrate_options_param_taken(&asked, &params[0]));
    asked.peer_perform = TRUE;
    assert_false(migrate_options_param_taken(&asked, &params[0]));
}

/* ---- what the session is to do ---- */

static void test_session_is_asked_to_compress(void **state)
{
    static const struct {
        guint64 flags;
        MigrateParam params[PARAMS_MAX];
        MigrateCompressionWish wish;
        const char *methods;
        int zstd_level;
        int zlib_level;
        guint threads;
    } rows[] = {
        { 0, { END }, MIGRATE_COMPRESSION_UNSAID, "", 0, 0, 0 },
        { VIR_MIGRATE_COMPRESSED, { END }, MIGRATE_COMPRESSION_ASKED, "zstd", 0, 0, 0 },
        { VIR_MIGRATE_COMPRESSED, { METHOD("xbzrle"), END }, MIGRATE_COMPRESSION_UNSAID, "", 0, 0,
          0 },
        { 0, { METHOD("zstd"), END }, MIGRATE_COMPRESSION_ASKED, "zstd", 0, 0, 0 },
        { 0, { METHOD("zstd"), METHOD("xbzrle"), NUMBER("compression.zstd.level", 20), END },
          MIGRATE_COMPRESSION_ASKED, "zstd", 20, 0, 0 },
        { 0, { METHOD("mt"), NUMBER("compression.mt.level", 7), NUMBER("compression.mt.threads", 4),
               END }, MIGRATE_COMPRESSION_ASKED, "zlib", 0, 7, 4 },
        { 0, { METHOD("zlib"), METHOD("mt"), NUMBER("compression.mt.level", 7),
               NUMBER("compression.zlib.level", 2), END }, MIGRATE_COMPRESSION_ASKED, "zlib", 0, 2,
          0 },
        { 0, { METHOD("mt"), METHOD("zlib"), NUMBER("compression.mt.level", 7), END },
          MIGRATE_COMPRESSION_ASKED, "zlib", 0, 7, 0 },
        { 0, { METHOD("zlib"), METHOD("zstd"), NUMBER("compression.zstd.level", 5),
               NUMBER("compression.zlib.level", 3), END }, MIGRATE_COMPRESSION_ASKED, "zlib,zstd",
          5, 3, 0 },
        { 0, { METHOD("zlib"), NUMBER("compression.zlib.level", 0), END }, MIGRATE_COMPRESSION_NONE,
          "", 0, 0, 0 },
        { 0, { METHOD("zlib"), METHOD("zstd"), NUMBER("compression.zlib.level", 0), END },
          MIGRATE_COMPRESSION_ASKED, "zstd", 0, 0, 0 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        MigrateAsked asked = asked_of(rows[i].flags, rows[i].params);
        MigrateWishes wishes;
        const MigrateCompression *c = &wishes.compression;
        g_autofree char *methods = NULL;

        migrate_options_wishes(&asked, &wishes);
        methods = g_strjoinv(",", (char **)c->methods);
        assert_int_equal(c->wish, rows[i].wish);
        assert_string_equal(methods, rows[i].methods);
        assert_int_equal(c->zstd_level, rows[i].zstd_level);
        assert_int_equal(c->zlib_level, rows[i].zlib_level);
        assert_int_equal(c->threads, rows[i].threads);
    }
}

/* ---- features ---- */

static char *features_of(guint64 flags, const char *method, gboolean by_default)
{
    const MigrateParam params[] = { METHOD(method), END };
    MigrateAsked asked = asked_of(flags, params);
    g_autofree const char **names = NULL;
    MigrateWishes wishes;

    if (!method)
        asked.n_params = 0;
    migrate_options_wishes(&asked, &wishes);
    names = migrate_features_asked(&wishes, by_default);
    return g_strjoinv(",", (char **)names);
}

static void test_features_that_are_asked_for(void **state)
{
    g_autofree char *plain = features_of(0, NULL, FALSE);
    g_autofree char *by_default = features_of(0, NULL, TRUE);
    g_autofree char *zlib = features_of(VIR_MIGRATE_PARALLEL, "mt", TRUE);

    assert_string_equal(plain, "ram,resume");
    assert_string_equal(by_default, "ram,resume,zstd");
    assert_string_equal(zlib, "ram,resume,zlib,bulk");
}

static void test_disks_without_a_way_of_their_own_are_asked_for(void **state)
{
    static const struct {
        guint64 flags;
        MigrateParam params[PARAMS_MAX];
        gboolean disks;
    } rows[] = {
        { 0, { END }, FALSE },
        { VIR_MIGRATE_NON_SHARED_DISK, { END }, TRUE },
        { VIR_MIGRATE_NON_SHARED_INC, { TEXT("migrate_disks", "vda"), END }, TRUE },
        { 0, { TEXT("migrate_disks", "vda"), END }, TRUE },
        { VIR_MIGRATE_NON_SHARED_DISK, { TEXT("disks_uri", "tcp://b"), END }, FALSE },
        { VIR_MIGRATE_NON_SHARED_DISK | VIR_MIGRATE_POSTCOPY_RESUME, { END }, FALSE },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        MigrateAsked asked = asked_of(rows[i].flags, rows[i].params);
        g_autofree const char **names = NULL;
        MigrateWishes wishes;

        migrate_options_wishes(&asked, &wishes);
        names = migrate_features_asked(&wishes, FALSE);
        assert_int_equal(g_strv_contains(names, "disks"), rows[i].disks);
    }
}

static void test_features_that_are_not_to_be_had_are_told(void **state)
{
    static const char *const asked[] = { "ram", "zlib", "bulk", NULL };
    static const char *const all[] = { "ram", "zlib", "bulk", "zstd", NULL };
    static const char *const few[] = { "ram", "zstd", NULL };
    static const char *const none[] = { NULL };
    g_autofree char *complete = migrate_features_describe(asked, all);
    g_autofree char *some = migrate_features_describe(asked, few);
    g_autofree char *nothing = migrate_features_describe(asked, none);

    assert_string_equal(complete, "ram, zlib, bulk, zstd");
    assert_string_equal(some, "ram, zstd; asked for and not to be had: zlib, bulk");
    assert_string_equal(nothing, "none; asked for and not to be had: ram, zlib, bulk");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_makes_no_sense_is_refused),
        cmocka_unit_test(test_what_libvirtd_judges_is_not_refused),
        cmocka_unit_test(test_what_is_not_libvirtds_is_taken_out),
        cmocka_unit_test(test_listen_address_is_left_to_a_peer_to_peer_perform_alone),
        cmocka_unit_test(test_session_is_asked_to_compress),
        cmocka_unit_test(test_features_that_are_asked_for),
        cmocka_unit_test(test_disks_without_a_way_of_their_own_are_asked_for),
        cmocka_unit_test(test_features_that_are_not_to_be_had_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
