/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading and writing big-endian wire data with every length checked.
 *
 * A ByteReader walks a buffer it does not own. Each take either gives what was
 * asked for or leaves the reader where it was and sets an error that names the
 * field. Pure; no threads of its own. */
#pragma once

#include <gio/gio.h>

typedef struct {
    const guint8 *data;
    gsize len; /* bytes not yet taken */
} ByteReader;

#define BYTES_ERROR (bytes_error_quark())
GQuark bytes_error_quark(void);

typedef enum {
    BYTES_ERROR_SHORT,    /* the buffer ends before the field does */
    BYTES_ERROR_TRAILING, /* the buffer goes on after the last field */
} BytesError;

static inline ByteReader byte_reader(const void *data, gsize len)
{
    return (ByteReader){ data, len };
}

gboolean byte_reader_take(ByteReader *r, const char *field, gsize len, const guint8 **ret_bytes,
                          GError **error);
gboolean byte_reader_take_u8(ByteReader *r, const char *field, guint8 *ret, GError **error);
gboolean byte_reader_take_u16(ByteReader *r, const char *field, guint16 *ret, GError **error);
gboolean byte_reader_take_u32(ByteReader *r, const char *field, guint32 *ret, GError **error);
gboolean byte_reader_take_u64(ByteReader *r, const char *field, guint64 *ret, GError **error);

/* Fails with BYTES_ERROR_TRAILING unless everything was taken. */
gboolean byte_reader_end(const ByteReader *r, const char *what, GError **error);

void bytes_put_u8(GByteArray *out, guint8 v);
void bytes_put_u16(GByteArray *out, guint16 v);
void bytes_put_u32(GByteArray *out, guint32 v);
void bytes_put_u64(GByteArray *out, guint64 v);
