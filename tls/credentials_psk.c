/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pre-shared key files, as psktool(1) writes them: a line "identity:hexkey" for each peer.
 *
 * An identity with characters that would confuse the format is written "#hex:hexkey". Empty lines
 * are skipped, and so is every other line that begins with '#'. */
#include "config.h"

#include <glib/gi18n.h>
#include <string.h>

#include "tls/credentials_priv.h"

/* gnutls takes no longer identity from a peer. */
#define PSK_IDENTITY_MAX 128
/* A PSK is all the entropy there is: no passwords (RFC 9257, section 6). */
#define PSK_KEY_MIN 16
#define PSK_KEY_MAX 512

static void psk_entry_free(gpointer data)
{
    TlsPskEntry *entry = data;

    if (entry->key)
        gnutls_memset(entry->key, 0, entry->key_len);
    g_free(entry->key);
    g_free(entry->identity);
    g_free(entry);
}

/* Exactly len hex digits to len / 2 bytes; FALSE if they are not that. */
static gboolean decode_hex(const char *hex, gsize len, guint8 **ret_bytes, gsize *ret_len)
{
    guint8 *bytes = g_malloc0(len / 2 + 1);

    for (gsize i = 0; i < len; i++) {
        int digit = g_ascii_xdigit_value(hex[i]);

        if (digit < 0 || len % 2 != 0) {
            gnutls_memset(bytes, 0, len / 2);
            g_free(bytes);
            return FALSE;
        }
        bytes[i / 2] = (guint8)(bytes[i / 2] << 4 | digit);
    }
    *ret_bytes = bytes;
    *ret_len = len / 2;
    return TRUE;
}

static gboolean is_comment(const char *line, const char *colon)
{
    if (line[0] != '#')
        return FALSE;
    if (!colon || colon == line + 1)
        return TRUE;
    for (const char *p = line + 1; p < colon; p++) {
        if (!g_ascii_isxdigit(*p))
            return TRUE;
    }
    return FALSE;
}

static gboolean parse_identity(TlsPskEntry *entry, const char *text, gsize len,
                               const char **ret_why)
{
    if (len > 0 && text[0] == '#') {
        if (!decode_hex(text + 1, len - 1, &entry->identity, &entry->identity_len)) {
            *ret_why = _("its identity has an odd number of hexadecimal digits");
            return FALSE;
        }
    } else {
        entry->identity = g_memdup(text, (guint)len);
        entry->identity_len = len;
    }
    if (entry->identity_len == 0 || entry->identity_len > PSK_IDENTITY_MAX) {
        *ret_why = _("an identity has 1 to 128 bytes");
        return FALSE;
    }
    return TRUE;
}

static gboolean parse_key(TlsPskEntry *entry, const char *text, gsize len, const char **ret_why)
{
    if (!decode_hex(text, len, &entry->key, &entry->key_len)) {
        *ret_why = _("its key is not pairs of hexadecimal digits");
        return FALSE;
    }
    if (entry->key_len < PSK_KEY_MIN || entry->key_len > PSK_KEY_MAX) {
        *ret_why = _("a key has 16 to 512 bytes (32 to 1024 hexadecimal digits)");
        return FALSE;
    }
    return TRUE;
}

/* Adds the line to entries; FALSE with a reason. */
static gboolean parse_line(GPtrArray *entries, const char *line, gsize len, const char **ret_why)
{
    /* The last one: a hex key has none, an identity (an IPv6 address) may. */
    const char *colon = len ? memrchr(line, ':', len) : NULL;
    TlsPskEntry *entry;

    if (len == 0 || is_comment(line, colon))
        return TRUE;
    if (!colon) {
        *ret_why = _("it is not of the form identity:key");
        return FALSE;
    }
    entry = g_new0(TlsPskEntry, 1);
    if (!parse_identity(entry, line, (gsize)(colon - line), ret_why) ||
        !parse_key(entry, colon + 1, (gsize)(line + len - colon - 1), ret_why)) {
        psk_entry_free(entry);
        return FALSE;
    }
    if (tls_psk_find(entries, entry->identity, entry->identity_len)) {
        *ret_why = _("its identity was there before");
        psk_entry_free(entry);
        return FALSE;
    }
    g_ptr_array_add(entries, entry);
    return TRUE;
}

GPtrArray *tls_psk_parse(const char *file_name, const char *text, gsize len, GError **error)
{
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func(psk_entry_free);
    const char *end = text + len;
    guint number = 0;

    while (text < end) {
        const char *newline = memchr(text, '\n', (gsize)(end - text));
        const char *line_end = newline ? newline : end;
        const char *next = newline ? newline + 1 : end;
        const char *why = NULL;

        number++;
        while (line_end > text && g_ascii_isspace(line_end[-1]))
            line_end--;
        if (!parse_line(entries, text, (gsize)(line_end - text), &why)) {
            g_set_error(error, TLS_ERROR, TLS_ERROR_FILE,
                        _("pre-shared key file %1$s, line %2$u is wrong: %3$s"), file_name, number,
                        why);
            return NULL;
        }
        text = next;
    }
    if (entries->len == 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_FILE,
                    _("pre-shared key file %1$s holds no key; add one with psktool"), file_name);
        return NULL;
    }
    return g_steal_pointer(&entries);
}

const TlsPskEntry *tls_psk_find(const GPtrArray *entries, const void *identity, gsize len)
{
    for (guint i = 0; i < entries->len; i++) {
        const TlsPskEntry *entry = g_ptr_array_index(entries, i);

        if (entry->identity_len == len && memcmp(entry->identity, identity, len) == 0)
            return entry;
    }
    return NULL;
}

char *tls_psk_identity_text(const void *identity, gsize len)
{
    g_autoptr(GString) text = g_string_new(NULL);
    const guint8 *bytes = identity;

    for (gsize i = 0; i < len && i < PSK_IDENTITY_MAX; i++) {
        if (g_ascii_isprint((char)bytes[i]) && bytes[i] != '\\')
            g_string_append_c(text, (char)bytes[i]);
        else
            g_string_append_printf(text, "\\x%02x", bytes[i]);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}
