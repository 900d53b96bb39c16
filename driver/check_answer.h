/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a daemon says of itself to one that checks the way to it (docs/protocol.md, "Checks"): lines
 * of a name, a space, a value. Names that are not known are skipped. Pure. */
#pragma once

#include <gio/gio.h>

#define CHECK_ALPN "virt-postcopy-check/1"
#define CHECK_ANSWER_MAX 1024

typedef struct {
    char *version;  /* of the daemon; printable ASCII */
    gint64 time_ms; /* its clock, since 1970 */
    char *host;     /* where it has migrations come in; NULL: it does not say */
    guint16 port;   /* 0: it does not say */
} CheckAnswer;

void check_answer_clear(CheckAnswer *answer);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CheckAnswer, check_answer_clear)

char *check_answer_encode(const CheckAnswer *answer);

/* text need not be terminated. ret_answer is untouched on failure (G_IO_ERROR_INVALID_DATA). */
gboolean check_answer_decode(const char *text, gsize len, CheckAnswer *ret_answer, GError **error);
