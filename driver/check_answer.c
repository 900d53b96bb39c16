/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/check_answer.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>

#define VERSION_NAME "version "
#define TIME_NAME "time-ms "
#define HOST_NAME "host "
#define PORT_NAME "port "
#define VERSION_TEXT_MAX 64
#define HOST_TEXT_MAX 255

void check_answer_clear(CheckAnswer *answer)
{
    g_clear_pointer(&answer->version, g_free);
    g_clear_pointer(&answer->host, g_free);
}

char *check_answer_encode(const CheckAnswer *answer)
{
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, VERSION_NAME "%s\n" TIME_NAME "%" PRId64 "\n", answer->version,
                           answer->time_ms);
    if (answer->host)
        g_string_append_printf(text, HOST_NAME "%s\n", answer->host);
    if (answer->port)
        g_string_append_printf(text, PORT_NAME "%u\n", answer->port);
    return g_string_free(text, FALSE);
}

static gboolean is_word(const char *text, gsize max)
{
    gsize len = strlen(text);

    for (gsize i = 0; i < len; i++) {
        if (!g_ascii_isgraph(text[i]))
            return FALSE;
    }
    return len > 0 && len <= max;
}

static gboolean take_word(const char *value, gsize max, char **word)
{
    if (!is_word(value, max))
        return FALSE;
    g_free(*word);
    *word = g_strdup(value);
    return TRUE;
}

/* FALSE: a value of ours that makes no sense. */
static gboolean decode_line(const char *line, CheckAnswer *answer, gboolean *ret_has_time)
{
    guint64 port;

    if (g_str_has_prefix(line, VERSION_NAME))
        return take_word(line + strlen(VERSION_NAME), VERSION_TEXT_MAX, &answer->version);
    if (g_str_has_prefix(line, HOST_NAME))
        return take_word(line + strlen(HOST_NAME), HOST_TEXT_MAX, &answer->host);
    if (g_str_has_prefix(line, PORT_NAME)) {
        if (!g_ascii_string_to_unsigned(line + strlen(PORT_NAME), 10, 1, G_MAXUINT16, &port, NULL))
            return FALSE;
        answer->port = (guint16)port;
    } else if (g_str_has_prefix(line, TIME_NAME)) {
        const char *value = line + strlen(TIME_NAME);

        if (!g_ascii_string_to_signed(value, 10, 0, G_MAXINT64, &answer->time_ms, NULL))
            return FALSE;
        *ret_has_time = TRUE;
    }
    return TRUE;
}

gboolean check_answer_decode(const char *text, gsize len, CheckAnswer *ret_answer, GError **error)
{
    g_auto(CheckAnswer) answer = { NULL };
    g_autofree char *copy = NULL;
    g_auto(GStrv) lines = NULL;
    gboolean good = len <= CHECK_ANSWER_MAX && (len == 0 || !memchr(text, '\0', len));
    gboolean has_time = FALSE;

    if (good) {
        copy = len > 0 ? g_strndup(text, len) : g_strdup("");
        lines = g_strsplit(copy, "\n", -1);
    }
    for (char **line = lines; good && line && *line; line++)
        good = decode_line(*line, &answer, &has_time);
    if (!good || !answer.version || !has_time) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    _("what it says of itself makes no sense (%zu bytes)"), len);
        return FALSE;
    }
    *ret_answer = answer;
    answer.version = NULL;
    answer.host = NULL;
    return TRUE;
}
