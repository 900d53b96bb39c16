/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "util/log.h"

#include <stdio.h>
#include <unistd.h>

/* The level is the one thing here that outlives a call: GLib's log writer is
 * process-wide by design and takes its settings from a pointer given once. */
static gint log_threshold = LOG_LEVEL_INFO;

static const struct {
    LogLevel level;
    GLogLevelFlags glib;
    const char *name;
    const char *priority; /* syslog's number, for the journal */
} levels[] = {
    { LOG_LEVEL_DEBUG, G_LOG_LEVEL_DEBUG, "debug", "7" },
    { LOG_LEVEL_INFO, G_LOG_LEVEL_INFO, "info", "6" },
    { LOG_LEVEL_WARNING, G_LOG_LEVEL_WARNING, "warning", "4" },
    { LOG_LEVEL_ERROR, G_LOG_LEVEL_CRITICAL, "error", "3" },
};

/* Journal field -> word in the text line, in the order they are printed. */
static const struct {
    const char *field;
    const char *word;
} context_fields[] = {
    { "CLIENT", "client" }, { "MIGRATION", "migration" }, { "SIDE", "side" },
    { "PHASE", "phase" },   { "CHANNEL", "channel" },
};

static gsize level_index(GLogLevelFlags flags)
{
    for (gsize i = 0; i < G_N_ELEMENTS(levels); i++) {
        if (flags & levels[i].glib)
            return i;
    }
    /* GLib's own: g_message() is information, g_error() an error. */
    return flags & G_LOG_LEVEL_MESSAGE ? 1 : 3;
}

static const char *field_value(const GLogField *fields, gsize n_fields, const char *key)
{
    for (gsize i = 0; i < n_fields; i++) {
        if (g_str_equal(fields[i].key, key))
            return fields[i].value;
    }
    return NULL;
}

static void print_line(gsize level, const GLogField *fields, gsize n_fields)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *stamp = g_date_time_format(now, "%Y-%m-%d %H:%M:%S");
    g_autoptr(GString) line = g_string_new(NULL);
    const char *message = field_value(fields, n_fields, "MESSAGE");

    g_string_printf(line, "%s.%03d+0000: %d: %s :", stamp,
                    g_date_time_get_microsecond(now) / 1000, (int)getpid(), levels[level].name);
    for (gsize i = 0; i < G_N_ELEMENTS(context_fields); i++) {
        const char *value = field_value(fields, n_fields, context_fields[i].field);

        if (value)
            g_string_append_printf(line, " %s=%s", context_fields[i].word, value);
    }
    g_string_append_printf(line, "%s %s\n", line->str[line->len - 1] == ':' ? "" : " :",
                           message ? message : "");
    /* One write: lines of several processes share this stderr. */
    if (write(STDERR_FILENO, line->str, line->len) < 0)
        return;
}

/* What libraries tell of their own work is no news to whoever reads this program's log. */
static gboolean is_ours(const GLogField *fields, gsize n_fields)
{
    return g_strcmp0(field_value(fields, n_fields, "GLIB_DOMAIN"), G_LOG_DOMAIN) == 0;
}

static GLogWriterOutput log_writer(GLogLevelFlags flags, const GLogField *fields, gsize n_fields,
                                   gpointer opaque)
{
    gint *threshold = opaque;
    gsize level = level_index(flags);

    if ((gint)levels[level].level < g_atomic_int_get(threshold) ||
        (levels[level].level < LOG_LEVEL_WARNING && !is_ours(fields, n_fields)))
        return G_LOG_WRITER_HANDLED;
    if (g_log_writer_is_journald(STDERR_FILENO) &&
        g_log_writer_journald(flags, fields, n_fields, NULL) == G_LOG_WRITER_HANDLED)
        return G_LOG_WRITER_HANDLED;
    print_line(level, fields, n_fields);
    return G_LOG_WRITER_HANDLED;
}

void log_init(LogLevel level)
{
    log_set_level(level);
    g_log_set_writer_func(log_writer, &log_threshold, NULL);
}

void log_set_level(LogLevel level)
{
    g_atomic_int_set(&log_threshold, (gint)level);
}

void log_message(const LogContext *ctx, LogLevel level, const char *format, ...)
{
    const char *values[G_N_ELEMENTS(context_fields)] = { 0 };
    GLogField fields[G_N_ELEMENTS(context_fields) + 3];
    g_autofree char *text = NULL;
    gsize n = 0;
    va_list args;

    if ((gint)level < g_atomic_int_get(&log_threshold))
        return;
    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);

    fields[n++] = (GLogField){ "MESSAGE", text, -1 };
    fields[n++] = (GLogField){ "PRIORITY", levels[level - 1].priority, -1 };
    fields[n++] = (GLogField){ "GLIB_DOMAIN", G_LOG_DOMAIN, -1 };
    if (ctx) {
        values[0] = ctx->client;
        values[1] = ctx->migration;
        values[2] = ctx->side;
        values[3] = ctx->phase;
        values[4] = ctx->channel;
    }
    for (gsize i = 0; i < G_N_ELEMENTS(context_fields); i++) {
        if (values[i])
            fields[n++] = (GLogField){ context_fields[i].field, values[i], -1 };
    }
    g_log_structured_array(levels[level - 1].glib, fields, n);
}
