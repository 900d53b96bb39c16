/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table behind settings.h. Only for settings*.c and for tests, which compare it with the manual
 * page and with the sample file. */
#pragma once

#include "driver/settings.h"

#define DEFAULT_SOCK_DIR RUNSTATEDIR "/libvirt"

/* What a value may be, and the type of its field in Settings. */
typedef enum {
    SETTING_BOOL,    /* 0 or 1; gboolean */
    SETTING_UINT,    /* min to max; guint */
    SETTING_BYTES,   /* min to max; guint64 */
    SETTING_PORT,    /* 1 to 65535, as a string (libvirt's way) or an integer; guint16 */
    SETTING_MODE,    /* octal digits in a string; guint */
    SETTING_TEXT,    /* a string without control characters; char * */
    SETTING_PATH,    /* an absolute path; char * */
    SETTING_ADDRESS, /* an IP address; char * */
    SETTING_HOST,    /* a host name or address that peers can use; char * */
    SETTING_WORD,    /* one of words; an enum in the order of words */
    SETTING_LIST,    /* strings, at least one; char ** */
} SettingType;

typedef struct {
    const char *key;
    SettingType type;
    /* As it would be written in the file, without quotes. "" (not for numbers and words): unset,
     * the field is NULL, and "" is allowed in the file as well. */
    const char *fallback;
    gsize offset;      /* in Settings */
    const char *help;  /* a few words, for messages; translatable */
    guint64 min, max;  /* SETTING_UINT, SETTING_BYTES; at most G_MAXINT64 */
    const char *words[4]; /* SETTING_WORD */
} SettingRow;

extern const SettingRow setting_rows[];
extern const gsize setting_rows_len;
