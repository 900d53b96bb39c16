/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/job_outcome.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The other keys and values need a fraction of the rest, and escaping doubles a text at most. */
#define REASON_MAX 1536

static char *shorten(const char *reason)
{
    g_autofree char *valid = g_utf8_make_valid(reason, -1);
    const char *end = valid + MIN(strlen(valid), REASON_MAX);

    /* Not within a character. */
    while ((*end & 0xc0) == 0x80)
        end--;
    return g_strndup(valid, (gsize)(end - valid));
}

char *job_outcome_text(const char *state, const char *phase, const char *ended_by,
                       const char *reason)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autofree char *short_reason = shorten(reason);
    g_autofree char *data = NULL;
    char *text;
    gsize len;

    g_key_file_set_string(file, JOB_OUTCOME_GROUP, JOB_OUTCOME_STATE, state);
    g_key_file_set_string(file, JOB_OUTCOME_GROUP, JOB_OUTCOME_PHASE, phase);
    g_key_file_set_string(file, JOB_OUTCOME_GROUP, JOB_OUTCOME_ENDED_BY, ended_by);
    g_key_file_set_string(file, JOB_OUTCOME_GROUP, JOB_OUTCOME_REASON, short_reason);
    g_key_file_set_boolean(file, JOB_OUTCOME_GROUP, JOB_OUTCOME_COMPLETE, TRUE);
    data = g_key_file_to_data(file, &len, NULL);
    g_assert(len <= JOB_OUTCOME_LEN);

    text = g_malloc(JOB_OUTCOME_LEN + 1);
    memset(text, '\n', JOB_OUTCOME_LEN);
    memcpy(text, data, len);
    text[JOB_OUTCOME_LEN] = '\0';
    return text;
}

gboolean job_outcome_check(int fd, GError **error)
{
    struct stat info;
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fstat(fd, &info) < 0) {
        int err = errno;

        g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(err),
                    _("descriptor %d (--outcome-fd): %s"), fd, g_strerror(err));
        return FALSE;
    }
    if (S_ISREG(info.st_mode) && (flags & O_ACCMODE) != O_RDONLY && !(flags & O_APPEND))
        return TRUE;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                _("descriptor %d (--outcome-fd) is no regular file open for writing"), fd);
    return FALSE;
}

gboolean job_outcome_write(int fd, const char *text, GError **error)
{
    ssize_t n;
    int err;

    do
        n = pwrite(fd, text, JOB_OUTCOME_LEN, 0);
    while (n < 0 && errno == EINTR);
    if (n == JOB_OUTCOME_LEN)
        return TRUE;
    err = n < 0 ? errno : ENOSPC;
    g_set_error_literal(error, G_IO_ERROR, (gint)g_io_error_from_errno(err), g_strerror(err));
    return FALSE;
}
