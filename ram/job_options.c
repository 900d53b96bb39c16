/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/job_options.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>

#include "ram/job_error.h"
#include "ram/job_limits.h"

void job_options_clear(JobOptions *options)
{
    explicit_bzero(options->session.token, sizeof options->session.token);
    g_clear_pointer(&options->domain, g_free);
    g_clear_pointer(&options->allowed_dns, g_strfreev);
    g_clear_pointer(&options->psk_identity, g_free);
}

static gboolean invalid(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static gboolean invalid(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error)
        *error = g_error_new_valist(JOB_ERROR, JOB_ERROR_INVALID_ARGUMENT, format, args);
    va_end(args);
    return FALSE;
}

/* ---- one function per option ---- */

static gboolean take_bytes(const char *name, GVariant *value, guint8 *ret, gsize len,
                           GError **error)
{
    gsize got;
    const guint8 *bytes = g_variant_get_fixed_array(value, &got, 1);

    if (got != len)
        return invalid(error, _("option \"%s\" has %zu bytes, must have %zu"), name, got, len);
    memcpy(ret, bytes, len);
    return TRUE;
}

static gboolean take_session(GVariant *value, JobOptions *o, GError **error)
{
    return take_bytes("session", value, o->session.id, HELLO_SESSION_LEN, error);
}

static gboolean take_token(GVariant *value, JobOptions *o, GError **error)
{
    return take_bytes("token", value, o->session.token, HELLO_TOKEN_LEN, error);
}

static gboolean take_domain(GVariant *value, JobOptions *o, GError **error)
{
    o->domain = g_variant_dup_string(value, NULL);
    return TRUE;
}

static gboolean take_window(GVariant *value, JobOptions *o, GError **error)
{
    guint64 window = g_variant_get_uint64(value);

    if (window < HELLO_WINDOW_MIN || window > HELLO_WINDOW_MAX)
        return invalid(error,
                       _("option \"window\" is %" PRIu64
                         ", must be from %d to %" PRIu64),
                       window, HELLO_WINDOW_MIN, HELLO_WINDOW_MAX);
    o->session.window = window;
    return TRUE;
}

static gboolean take_allowed_dns(GVariant *value, JobOptions *o, GError **error)
{
    o->allowed_dns = g_variant_dup_strv(value, NULL);
    return TRUE;
}

static gboolean take_auth(GVariant *value, JobOptions *o, GError **error)
{
    const char *auth = g_variant_get_string(value, NULL);

    o->psk = g_str_equal(auth, "psk");
    if (!o->psk && !g_str_equal(auth, "x509"))
        return invalid(error, _("option \"auth\" is \"%s\", must be \"x509\" or \"psk\""), auth);
    return TRUE;
}

static gboolean take_psk_identity(GVariant *value, JobOptions *o, GError **error)
{
    o->psk_identity = g_variant_dup_string(value, NULL);
    return TRUE;
}

static gboolean take_stage(GVariant *value, JobOptions *o, GError **error)
{
    guint64 stage = g_variant_get_uint64(value);

    if (stage < JOB_STAGE_MIN || stage > JOB_STAGE_MAX)
        return invalid(error,
                       _("option \"stage\" is %" PRIu64
                         ", must be from %" PRIu64 " to %" PRIu64),
                       stage, (guint64)JOB_STAGE_MIN, (guint64)JOB_STAGE_MAX);
    o->stage = stage;
    return TRUE;
}

static gboolean take_recovers(GVariant *value, JobOptions *o, GError **error)
{
    o->recovers = g_variant_get_boolean(value);
    return TRUE;
}

static gboolean take_memory(GVariant *value, JobOptions *o, GError **error)
{
    o->memory = g_variant_get_boolean(value);
    return TRUE;
}

static gboolean take_paced(GVariant *value, JobOptions *o, GError **error)
{
    o->paced = g_variant_get_boolean(value);
    return TRUE;
}

static gboolean take_compression(GVariant *value, JobOptions *o, GError **error)
{
    static const char *const words[RELAY_COMPRESSION_MAX] = {
        [RELAY_COMPRESSION_AUTO] = "auto",
        [RELAY_COMPRESSION_ON] = "on",
        [RELAY_COMPRESSION_OFF] = "off",
    };
    const char *word = g_variant_get_string(value, NULL);

    for (gint i = 0; i < RELAY_COMPRESSION_MAX; i++) {
        if (g_str_equal(word, words[i])) {
            o->compression = (RelayCompression)i;
            return TRUE;
        }
    }
    return invalid(
        error, _("option \"compression\" is \"%s\", must be \"auto\", \"on\" or \"off\""), word);
}

static gboolean take_compression_methods(GVariant *value, JobOptions *o, GError **error)
{
    g_autofree const char **names = g_variant_get_strv(value, NULL);

    for (gsize i = 0; names[i]; i++) {
        PagesEncoding encoding = pages_encoding_from_name(names[i]);

        if (encoding == PAGES_ENCODING_MAX)
            return invalid(error,
                           _("option \"compression-methods\" has \"%s\", may have \"zstd\" and "
                             "\"zlib\""),
                           names[i]);
        o->methods |= pages_encoding_feature(encoding);
    }
    return TRUE;
}

static gboolean take_level(const char *name, GVariant *value, int min, int max, int *ret,
                           GError **error)
{
    gint32 level = g_variant_get_int32(value);

    if (level < min || level > max)
        return invalid(error, _("option \"%s\" is %d, must be from %d to %d"), name, level, min,
                       max);
    *ret = level;
    return TRUE;
}

static gboolean take_compression_level(GVariant *value, JobOptions *o, GError **error)
{
    return take_level("compression-level", value, JOB_ZSTD_LEVEL_MIN, JOB_ZSTD_LEVEL_MAX,
                      &o->levels.of[PAGES_ZSTD], error);
}

static gboolean take_compression_zlib_level(GVariant *value, JobOptions *o, GError **error)
{
    return take_level("compression-zlib-level", value, JOB_ZLIB_LEVEL_MIN, JOB_ZLIB_LEVEL_MAX,
                      &o->levels.of[PAGES_ZLIB], error);
}

static gboolean take_uint32(const char *name, GVariant *value, guint32 min, guint32 max, guint *ret,
                            GError **error)
{
    guint32 number = g_variant_get_uint32(value);

    if (number < min || number > max)
        return invalid(error, _("option \"%s\" is %u, must be from %u to %u"), name, number, min,
                       max);
    *ret = number;
    return TRUE;
}

static gboolean take_compression_threads(GVariant *value, JobOptions *o, GError **error)
{
    return take_uint32("compression-threads", value, 1, JOB_COMPRESSION_THREADS_MAX,
                       &o->compression_threads, error);
}

static gboolean take_bulk(GVariant *value, JobOptions *o, GError **error)
{
    return take_uint32("bulk", value, 0, JOB_BULK_MAX, &o->bulk, error);
}

static gboolean take_reconnect_timeout(GVariant *value, JobOptions *o, GError **error)
{
    return take_uint32("reconnect-timeout", value, 0, JOB_RECONNECT_MAX, &o->reconnect_timeout,
                       error);
}

static gboolean take_heartbeat_interval(GVariant *value, JobOptions *o, GError **error)
{
    return take_uint32("heartbeat-interval", value, 1, JOB_HEARTBEAT_MAX, &o->heartbeat_interval,
                       error);
}

static gboolean take_heartbeat_count(GVariant *value, JobOptions *o, GError **error)
{
    return take_uint32("heartbeat-count", value, 1, JOB_HEARTBEATS_MAX, &o->heartbeat_count,
                       error);
}

static gboolean take_rekey_records(GVariant *value, JobOptions *o, GError **error)
{
    return take_uint32("rekey-records", value, 0, JOB_REKEY_MAX, &o->rekey_records, error);
}

static const struct {
    const char *name;
    const char *type;
    gboolean required;
    gboolean (*take)(GVariant *value, JobOptions *o, GError **error);
} known[] = {
    { "session", "ay", TRUE, take_session },
    { "token", "ay", TRUE, take_token },
    { "domain", "s", FALSE, take_domain },
    { "window", "t", FALSE, take_window },
    { "allowed-dns", "as", FALSE, take_allowed_dns },
    { "auth", "s", FALSE, take_auth },
    { "psk-identity", "s", FALSE, take_psk_identity },
    { "stage", "t", FALSE, take_stage },
    { "paced", "b", FALSE, take_paced },
    { "compression", "s", FALSE, take_compression },
    { "compression-methods", "as", FALSE, take_compression_methods },
    { "compression-level", "i", FALSE, take_compression_level },
    { "compression-zlib-level", "i", FALSE, take_compression_zlib_level },
    { "compression-threads", "u", FALSE, take_compression_threads },
    { "bulk", "u", FALSE, take_bulk },
    { "reconnect-timeout", "u", FALSE, take_reconnect_timeout },
    { "heartbeat-interval", "u", FALSE, take_heartbeat_interval },
    { "heartbeat-count", "u", FALSE, take_heartbeat_count },
    { "recovers", "b", FALSE, take_recovers },
    { "memory", "b", FALSE, take_memory },
    { "rekey-records", "u", FALSE, take_rekey_records },
};

G_STATIC_ASSERT(G_N_ELEMENTS(known) <= 32);
G_STATIC_ASSERT(JOB_BULK_MAX == CHANNEL_BULK_MAX);

static gboolean take_option(const char *name, GVariant *value, guint32 *seen, JobOptions *o,
                            GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(known); i++) {
        if (!g_str_equal(name, known[i].name))
            continue;
        if (*seen & (1u << i))
            return invalid(error, _("option \"%s\" is given twice"), name);
        if (!g_variant_is_of_type(value, G_VARIANT_TYPE(known[i].type)))
            return invalid(error, _("option \"%s\" has type \"%s\", must have \"%s\""), name,
                           g_variant_get_type_string(value), known[i].type);
        *seen |= 1u << i;
        return known[i].take(value, o, error);
    }
    return invalid(error, _("unknown option \"%s\""), name);
}

static gboolean take_side(const char *side, JobOptions *o, GError **error)
{
    if (g_str_equal(side, "source"))
        o->session.side = SESSION_SOURCE;
    else if (g_str_equal(side, "destination"))
        o->session.side = SESSION_DESTINATION;
    else
        return invalid(error, _("side is \"%s\", must be \"source\" or \"destination\""), side);
    return TRUE;
}

/* What is asked for by name is done, whatever "compression" says. */
static void settle_compression(JobOptions *o)
{
    guint64 methods = o->session.side == SESSION_SOURCE ? SESSION_FEATURE_ZSTD
                                                        : SESSION_FEATURES_PACK;

    if (o->methods) {
        o->compression = RELAY_COMPRESSION_ON;
        methods = o->methods;
    } else if (o->compression == RELAY_COMPRESSION_OFF) {
        methods = 0;
    }
    o->session.features = (o->session.features & ~SESSION_FEATURES_PACK) | methods;
}

static void settle_bulk(JobOptions *o)
{
    if (o->session.side == SESSION_SOURCE && o->bulk == 0)
        o->session.features &= ~SESSION_FEATURE_BULK;
}

/* A session is between two QEMUs or between two memory clients. The latter have no disks. */
static void settle_memory(JobOptions *o)
{
    if (!o->memory) {
        o->session.features &= ~SESSION_FEATURES_OF_MAPPED;
        return;
    }
    o->session.features &= ~SESSION_FEATURE_DISKS;
    o->session.required = SESSION_FEATURE_RAM | SESSION_FEATURE_MAPPED;
}

gboolean job_options_parse(const char *side, GVariant *dict, JobOptions *ret_options,
                           GError **error)
{
    g_auto(JobOptions) o = { .session.window = JOB_WINDOW_DEFAULT,
                             .session.features = SESSION_FEATURES_ALL,
                             .stage = JOB_STAGE_DEFAULT,
                             .compression = RELAY_COMPRESSION_AUTO,
                             .levels = { { [PAGES_ZSTD] = JOB_COMPRESSION_LEVEL_DEFAULT,
                                           [PAGES_ZLIB] = JOB_ZLIB_LEVEL_DEFAULT } },
                             .compression_threads = JOB_COMPRESSION_THREADS_DEFAULT,
                             .reconnect_timeout = JOB_RECONNECT_DEFAULT,
                             .heartbeat_interval = JOB_HEARTBEAT_DEFAULT,
                             .heartbeat_count = JOB_HEARTBEATS_DEFAULT };
    GVariantIter iter;
    const char *name;
    GVariant *child;
    guint32 seen = 0;

    if (!take_side(side, &o, error))
        return FALSE;
    g_variant_iter_init(&iter, dict);
    while (g_variant_iter_next(&iter, "{&sv}", &name, &child)) {
        g_autoptr(GVariant) value = child;

        if (!take_option(name, value, &seen, &o, error))
            return FALSE;
    }
    for (gsize i = 0; i < G_N_ELEMENTS(known); i++) {
        if (known[i].required && !(seen & (1u << i)))
            return invalid(error, _("option \"%s\" is missing"), known[i].name);
    }
    settle_compression(&o);
    settle_bulk(&o);
    settle_memory(&o);
    *ret_options = o;
    o = (JobOptions){ 0 };
    return TRUE;
}

/* ---- files ---- */

static gboolean take_file(const char *kind_name, const char *name, gint32 handle, const int *fds,
                          gint n_fds, TlsFiles *files, GError **error)
{
    TlsFileKind kind = tls_file_kind_from_name(kind_name);

    if (kind == TLS_FILE_MAX)
        return invalid(error, _("unknown kind of TLS file \"%s\" (%s)"), kind_name, name);
    if (files->fds[kind] >= 0)
        return invalid(error, _("TLS file \"%s\" is given twice"), kind_name);
    if (handle < 0 || handle >= n_fds)
        return invalid(error, _("TLS file \"%s\" (%s) comes without its descriptor"), kind_name,
                       name);
    files->fds[kind] = fcntl(fds[handle], F_DUPFD_CLOEXEC, 3);
    if (files->fds[kind] < 0)
        return invalid(error, _("the descriptor of TLS file \"%s\" (%s): %s"), kind_name, name,
                       g_strerror(errno));
    files->names[kind] = g_strdup(name);
    return TRUE;
}

gboolean job_files_parse(GVariant *array, const int *fds, gint n_fds, TlsFiles *ret_files,
                         GError **error)
{
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    GVariantIter iter;
    const char *kind, *name;
    gint32 handle;

    g_variant_iter_init(&iter, array);
    while (g_variant_iter_next(&iter, "(&s&sh)", &kind, &name, &handle)) {
        if (!take_file(kind, name, handle, fds, n_fds, &files, error))
            return FALSE;
    }
    *ret_files = files;
    files = (TlsFiles)TLS_FILES_INIT;
    return TRUE;
}
