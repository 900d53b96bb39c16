/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "util/bytes.h"

#include <glib/gi18n.h>
#include <string.h>

G_DEFINE_QUARK(bytes-error-quark, bytes_error)

gboolean byte_reader_take(ByteReader *r, const char *field, gsize len, const guint8 **ret_bytes,
                          GError **error)
{
    if (r->len < len) {
        g_set_error(error, BYTES_ERROR, BYTES_ERROR_SHORT,
                    _("%s needs %zu bytes, only %zu are left"), field, len, r->len);
        return FALSE;
    }
    *ret_bytes = r->data;
    r->data += len;
    r->len -= len;
    return TRUE;
}

gboolean byte_reader_take_u8(ByteReader *r, const char *field, guint8 *ret, GError **error)
{
    const guint8 *p;

    if (!byte_reader_take(r, field, 1, &p, error))
        return FALSE;
    *ret = p[0];
    return TRUE;
}

gboolean byte_reader_take_u16(ByteReader *r, const char *field, guint16 *ret, GError **error)
{
    const guint8 *p;
    guint16 v;

    if (!byte_reader_take(r, field, sizeof v, &p, error))
        return FALSE;
    memcpy(&v, p, sizeof v);
    *ret = GUINT16_FROM_BE(v);
    return TRUE;
}

gboolean byte_reader_take_u32(ByteReader *r, const char *field, guint32 *ret, GError **error)
{
    const guint8 *p;
    guint32 v;

    if (!byte_reader_take(r, field, sizeof v, &p, error))
        return FALSE;
    memcpy(&v, p, sizeof v);
    *ret = GUINT32_FROM_BE(v);
    return TRUE;
}

gboolean byte_reader_take_u64(ByteReader *r, const char *field, guint64 *ret, GError **error)
{
    const guint8 *p;
    guint64 v;

    if (!byte_reader_take(r, field, sizeof v, &p, error))
        return FALSE;
    memcpy(&v, p, sizeof v);
    *ret = GUINT64_FROM_BE(v);
    return TRUE;
}

gboolean byte_reader_end(const ByteReader *r, const char *what, GError **error)
{
    if (r->len == 0)
        return TRUE;
    g_set_error(error, BYTES_ERROR, BYTES_ERROR_TRAILING, _("%zu bytes too many after %s"), r->len,
                what);
    return FALSE;
}

void bytes_put_u8(GByteArray *out, guint8 v)
{
    g_byte_array_append(out, &v, sizeof v);
}

void bytes_put_u16(GByteArray *out, guint16 v)
{
    v = GUINT16_TO_BE(v);
    g_byte_array_append(out, (const guint8 *)&v, sizeof v);
}

void bytes_put_u32(GByteArray *out, guint32 v)
{
    v = GUINT32_TO_BE(v);
    g_byte_array_append(out, (const guint8 *)&v, sizeof v);
}

void bytes_put_u64(GByteArray *out, guint64 v)
{
    v = GUINT64_TO_BE(v);
    g_byte_array_append(out, (const guint8 *)&v, sizeof v);
}
