/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "xml/migrate_options.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "xml/migrate_table.h"

G_DEFINE_QUARK(migrate-options-error-quark, migrate_options_error)

/* libvirt's words for the methods. mt is what QEMU had before zlib went over its parallel channels:
 * the same algorithm. */
#define METHOD_MT "mt"

/* The values that a parameter of the session's may have. */
static const struct {
    const char *name;
    gint64 min, max;
} ranges[] = {
    { VIR_MIGRATE_PARAM_COMPRESSION_MT_LEVEL, 0, 9 },
    { VIR_MIGRATE_PARAM_COMPRESSION_MT_THREADS, 1, 255 },
    { VIR_MIGRATE_PARAM_COMPRESSION_MT_DTHREADS, 1, 255 },
    { "compression.zlib.level", 0, 9 },
    { "compression.zstd.level", 0, 20 },
    { VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS, 1, 255 },
};

/* ---- what is there ---- */

static gboolean is_method(const MigrateParam *param, const char *method)
{
    return param->type == MIGRATE_PARAM_TEXT &&
           g_str_equal(param->name, VIR_MIGRATE_PARAM_COMPRESSION) &&
           g_str_equal(param->text, method);
}

static gboolean has_method(const MigrateAsked *asked, const char *method)
{
    for (gsize i = 0; i < asked->n_params; i++) {
        if (is_method(&asked->params[i], method))
            return TRUE;
    }
    return FALSE;
}

static gboolean has_param(const MigrateAsked *asked, const char *name)
{
    for (gsize i = 0; i < asked->n_params; i++) {
        if (g_str_equal(asked->params[i].name, name))
            return TRUE;
    }
    return FALSE;
}

/* What the session calls a method of libvirt's; NULL: it has none such. */
static const char *session_method(const MigrateParam *param)
{
    if (is_method(param, MIGRATE_METHOD_ZSTD))
        return MIGRATE_METHOD_ZSTD;
    if (is_method(param, MIGRATE_METHOD_ZLIB) || is_method(param, METHOD_MT))
        return MIGRATE_METHOD_ZLIB;
    return NULL;
}

/* -1: it is not said. */
static gint64 number_of(const MigrateAsked *asked, const char *name)
{
    for (gsize i = 0; i < asked->n_params; i++) {
        const MigrateParam *param = &asked->params[i];

        if (g_str_equal(param->name, name) && param->type == MIGRATE_PARAM_NUMBER)
            return param->number;
    }
    return -1;
}

/* ---- what libvirtd is not to see ---- */

static gboolean leaves_a_method(const MigrateAsked *asked)
{
    for (gsize i = 0; i < asked->n_params; i++) {
        if (g_str_equal(asked->params[i].name, VIR_MIGRATE_PARAM_COMPRESSION) &&
            !session_method(&asked->params[i]))
            return TRUE;
    }
    return FALSE;
}

guint64 migrate_options_flags_taken(const MigrateAsked *asked)
{
    guint64 taken = 0;

    for (gsize i = 0; i < migrate_rows_len; i++) {
        const MigrateRow *row = &migrate_rows[i];

        if (row->bit != MIGRATE_NO_BIT && row->taking == MIGRATE_TAKEN)
            taken |= G_GUINT64_CONSTANT(1) << row->bit;
    }
    /* Alone it would mean xbzrle. */
    if (has_param(asked, VIR_MIGRATE_PARAM_COMPRESSION) && !leaves_a_method(asked))
        taken |= VIR_MIGRATE_COMPRESSED;
    return taken & asked->flags;
}

gboolean migrate_options_param_taken(const MigrateAsked *asked, const MigrateParam *param)
{
    const MigrateRow *row = migrate_table_param(param->name);

    switch (row ? row->taking : MIGRATE_KEPT) {
    case MIGRATE_KEPT:
    case MIGRATE_TAKEN_BY_PREPARE:
        return FALSE;
    case MIGRATE_TAKEN:
        return TRUE;
    case MIGRATE_TAKEN_UNLESS_PEER:
        return !asked->peer_perform;
    case MIGRATE_TAKEN_BY_PARALLEL:
        return (asked->flags & VIR_MIGRATE_PARALLEL) != 0;
    case MIGRATE_TAKEN_METHODS:
        return session_method(param) != NULL;
    case MIGRATE_TAKEN_BY_MT:
        return has_method(asked, METHOD_MT);
    case MIGRATE_TAKEN_BY_ZLIB:
        return has_method(asked, MIGRATE_METHOD_ZLIB);
    case MIGRATE_TAKEN_BY_ZSTD:
        return has_method(asked, MIGRATE_METHOD_ZSTD);
    }
    g_assert_not_reached();
}

/* ---- whether it can be had ---- */

static gboolean refused(const MigrateAsked *asked, GError **error)
{
    for (gsize i = 0; i < migrate_rows_len; i++) {
        const MigrateRow *row = &migrate_rows[i];

        if (row->disposition == MIGRATE_REFUSED && row->bit != MIGRATE_NO_BIT &&
            (asked->flags >> row->bit & 1)) {
            g_set_error_literal(error, MIGRATE_OPTIONS_ERROR, row->code, _(row->words));
            return TRUE;
        }
    }
    return FALSE;
}

static gboolean check_methods(const MigrateAsked *asked, GError **error)
{
    for (gsize i = 0; i < asked->n_params; i++) {
        for (gsize k = i + 1; session_method(&asked->params[i]) && k < asked->n_params; k++) {
            if (!is_method(&asked->params[k], asked->params[i].text))
                continue;
            g_set_error(error, MIGRATE_OPTIONS_ERROR, VIR_ERR_INVALID_ARG,
                        _("compression method '%s' is named twice: name each once"),
                        asked->params[i].text);
            return FALSE;
        }
    }
    return TRUE;
}

/* libvirtd would have seen to this for those that it does not get to see. */
static gboolean check_once(const MigrateAsked *asked, gsize index, GError **error)
{
    const MigrateParam *param = &asked->params[index];

    for (gsize i = index + 1; i < asked->n_params; i++) {
        if (!g_str_equal(asked->params[i].name, param->name))
            continue;
        g_set_error(error, MIGRATE_OPTIONS_ERROR, VIR_ERR_INVALID_ARG,
                    _("parameter '%s' is given twice: give it once"), param->name);
        return FALSE;
    }
    return TRUE;
}

static gboolean has_range(const MigrateParam *param)
{
    for (gsize i = 0; i < G_N_ELEMENTS(ranges); i++) {
        if (g_str_equal(param->name, ranges[i].name))
            return TRUE;
    }
    return FALSE;
}

static gboolean check_text(const MigrateParam *param, GError **error)
{
    if (param->type == MIGRATE_PARAM_TEXT)
        return TRUE;
    g_set_error(error, MIGRATE_OPTIONS_ERROR, VIR_ERR_INVALID_ARG,
                _("parameter '%s' is no text: give it as one"), param->name);
    return FALSE;
}

/* Those that the driver reads, but for the methods of compression, of which there may be several.
 * */
static gboolean check_consumed(const MigrateAsked *asked, GError **error)
{
    for (gsize i = 0; i < asked->n_params; i++) {
        const MigrateParam *param = &asked->params[i];
        const MigrateRow *row = migrate_table_param(param->name);

        if (!row || row->disposition != MIGRATE_CONSUMED)
            continue;
        if (!check_once(asked, i, error) || (!has_range(param) && !check_text(param, error)))
            return FALSE;
    }
    return TRUE;
}

static gboolean check_range(const MigrateParam *param, gint64 min, gint64 max, GError **error)
{
    const char *option = migrate_table_param(param->name)->option;

    if (param->type == MIGRATE_PARAM_NUMBER && param->number >= min && param->number <= max)
        return TRUE;
    if (param->type == MIGRATE_PARAM_NUMBER)
        g_set_error(error, MIGRATE_OPTIONS_ERROR, VIR_ERR_INVALID_ARG,
                    _("%s (%s) is %" PRId64 ": give a number from %" PRId64
                      " to %" PRId64),
                    option, param->name, param->number, min, max);
    else
        g_set_error(error, MIGRATE_OPTIONS_ERROR, VIR_ERR_INVALID_ARG,
                    _("%s (%s) is no number: give one from %" PRId64
                      " to %" PRId64),
                    option, param->name, min, max);
    return FALSE;
}

static gboolean check_ranges(const MigrateAsked *asked, GError **error)
{
    for (gsize i = 0; i < asked->n_params; i++) {
        for (gsize k = 0; k < G_N_ELEMENTS(ranges); k++) {
            if (g_str_equal(asked->params[i].name, ranges[k].name) &&
                migrate_options_param_taken(asked, &asked->params[i]) &&
                !check_range(&asked->params[i], ranges[k].min, ranges[k].max, error))
                return FALSE;
        }
    }
    return TRUE;
}

gboolean migrate_options_check(const MigrateAsked *asked, GError **error)
{
    return !refused(asked, error) && check_methods(asked, error) && check_consumed(asked, error) &&
           check_ranges(asked, error);
}

/* ---- what is asked of the session ---- */

/* zlib's own level goes before that of mt, which is only another name for it here. */
static gint64 level_of(const MigrateAsked *asked, const char *method)
{
    gint64 level = -1;

    if (g_str_equal(method, MIGRATE_METHOD_ZSTD))
        return number_of(asked, "compression.zstd.level");
    if (has_method(asked, MIGRATE_METHOD_ZLIB))
        level = number_of(asked, "compression.zlib.level");
    if (level < 0 && has_method(asked, METHOD_MT))
        level = number_of(asked, VIR_MIGRATE_PARAM_COMPRESSION_MT_LEVEL);
    return level;
}

/* level: -1 if none is said; 0, which is no compression at all, takes the method away. */
static void add_method(MigrateCompression *c, const char *method, gint64 level)
{
    gint *place = g_str_equal(method, MIGRATE_METHOD_ZSTD) ? &c->zstd_level : &c->zlib_level;
    gsize n = g_strv_length((char **)c->methods);

    if (g_strv_contains(c->methods, method))
        return;
    if (level == 0) {
        if (n == 0)
            c->wish = MIGRATE_COMPRESSION_NONE;
        return;
    }
    g_assert(n < MIGRATE_METHODS_MAX);
    c->wish = MIGRATE_COMPRESSION_ASKED;
    c->methods[n] = method;
    *place = (gint)MAX(level, 0);
}

static MigrateCompression compression_of(const MigrateAsked *asked)
{
    MigrateCompression c = { .wish = MIGRATE_COMPRESSION_UNSAID };

    for (gsize i = 0; i < asked->n_params; i++) {
        const char *method = session_method(&asked->params[i]);

        if (method)
            add_method(&c, method, level_of(asked, method));
    }
    if ((asked->flags & VIR_MIGRATE_COMPRESSED) && !has_param(asked, VIR_MIGRATE_PARAM_COMPRESSION))
        add_method(&c, MIGRATE_METHOD_ZSTD, -1);
    if (has_method(asked, METHOD_MT))
        c.threads = (guint)MAX(number_of(asked, VIR_MIGRATE_PARAM_COMPRESSION_MT_THREADS), 0);
    return c;
}

/* libvirt takes a list of disks for a wish to copy them. A resume copies none. */
static gboolean wants_disks(const MigrateAsked *asked)
{
    gboolean copies =
        (asked->flags & (VIR_MIGRATE_NON_SHARED_DISK | VIR_MIGRATE_NON_SHARED_INC)) != 0 ||
        has_param(asked, VIR_MIGRATE_PARAM_MIGRATE_DISKS);

    return copies && !(asked->flags & VIR_MIGRATE_POSTCOPY_RESUME) &&
           !has_param(asked, VIR_MIGRATE_PARAM_DISKS_URI);
}

/* As many as libvirt takes where nothing is said. */
#define PARALLEL_DEFAULT 2

static guint bulk_of(const MigrateAsked *asked)
{
    gint64 said = number_of(asked, VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS);

    if (!(asked->flags & VIR_MIGRATE_PARALLEL))
        return 0;
    return said > 0 ? (guint)MIN(said, G_MAXUINT8) : PARALLEL_DEFAULT;
}

void migrate_options_wishes(const MigrateAsked *asked, MigrateWishes *ret)
{
    *ret = (MigrateWishes){ .compression = compression_of(asked),
                            .bulk = bulk_of(asked),
                            .disks = wants_disks(asked) };
}
