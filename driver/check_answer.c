/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/check_answer.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>

#define VERSION_NAME "version "
#define TIME_NAME "time-ms "
#define VERSION_TEXT_MAX 64

void check_answer_clear(CheckAnswer *answer)
{
    g_clear_pointer(&answer->version, g_free);
}

char *check_answer_encode(const CheckAnswer *answer)
{
    return g_strdup_printf(VERSION_NAME "%s\n" TIME_NAME "%" PRId64 "\n", answer->version,
                           answer->time_ms);
}

static gboolean is_version(const char *text)
{
    gsize len = strlen(text);

    for (gsize i = 0; i < len; i++) {
        if (!g_ascii_isgraph(text[i]))
            return FALSE;
    }
    return len > 0 && len <= VERSION_TEXT_MAX;
}

/* FALSE: a value of ours that makes no sense. */
static gboolean decode_line(const char *line, CheckAnswer *answer, gboolean *ret_has_time)
{
    if (g_str_has_prefix(line, VERSION_NAME)) {
        const char *value = line + strlen(VERSION_NAME);

        if (!is_version(value))
            return FALSE;
        g_free(answer->version);
        answer->version = g_strdup(value);
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
    return TRUE;
}
