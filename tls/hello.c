/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tls/hello.h"

#include <glib/gi18n.h>
#include <gnutls/gnutls.h>
#include <inttypes.h>
#include <string.h>

#include "util/bytes.h"

G_DEFINE_QUARK(hello-error-quark, hello_error)

/* Types of extensions. */
#define EXTENSION_RESUME 1

/* Room for a whole body of ours, so that what is secret in it is never moved and left behind. */
#define HELLO_SIZE (64 + HELLO_AUTH_MAX)

static const char *const error_names[HELLO_ERROR_MAX] = {
    [HELLO_ERROR_VERSION] = "version",   [HELLO_ERROR_SESSION] = "session",
    [HELLO_ERROR_TOKEN] = "token",       [HELLO_ERROR_TOKEN_USED] = "token-used",
    [HELLO_ERROR_KIND] = "kind",         [HELLO_ERROR_PROTOCOL] = "protocol",
    [HELLO_ERROR_QEMU] = "qemu",         [HELLO_ERROR_CANCELLED] = "cancelled",
    [HELLO_ERROR_INTERNAL] = "internal",
};

static const char *const kind_names[CHANNEL_KIND_MAX] = {
    [CHANNEL_MAIN] = "main",
    [CHANNEL_PREEMPT] = "preempt",
    [CHANNEL_BULK] = "bulk",
    [CHANNEL_DISKS] = "disks",
};

const char *hello_error_name(guint32 code)
{
    return code > 0 && code < HELLO_ERROR_MAX ? error_names[code] : "internal";
}

const char *channel_kind_name(ChannelKind kind)
{
    return kind < CHANNEL_KIND_MAX ? kind_names[kind] : "unknown";
}

static const char *const bulk_names[CHANNEL_BULK_MAX] = {
    "bulk-1", "bulk-2",  "bulk-3",  "bulk-4",  "bulk-5",  "bulk-6",  "bulk-7",  "bulk-8",
    "bulk-9", "bulk-10", "bulk-11", "bulk-12", "bulk-13", "bulk-14", "bulk-15", "bulk-16",
};

const char *channel_name(ChannelKind kind, guint16 number)
{
    if (kind == CHANNEL_BULK && number > 0 && number <= CHANNEL_BULK_MAX)
        return bulk_names[number - 1];
    return channel_kind_name(kind);
}

gboolean channel_from_name(const char *name, ChannelKind *ret_kind, guint16 *ret_number)
{
    for (guint i = 0; i < CHANNEL_BULK_MAX; i++) {
        if (g_str_equal(name, bulk_names[i])) {
            *ret_kind = CHANNEL_BULK;
            *ret_number = (guint16)(i + 1);
            return TRUE;
        }
    }
    for (guint i = 0; i < CHANNEL_KIND_MAX; i++) {
        if (i != CHANNEL_BULK && g_str_equal(name, kind_names[i])) {
            *ret_kind = (ChannelKind)i;
            *ret_number = 0;
            return TRUE;
        }
    }
    return FALSE;
}

void hello_body_clear(HelloBody *hello)
{
    explicit_bzero(hello->auth, sizeof hello->auth);
}

void error_body_clear(ErrorBody *body)
{
    g_clear_pointer(&body->text, g_free);
}

gboolean hello_auth_equal(const HelloBody *hello, const guint8 token[HELLO_TOKEN_LEN])
{
    /* The length is no secret; every byte of the content is. */
    return hello->auth_len == HELLO_TOKEN_LEN &&
           gnutls_memcmp(hello->auth, token, HELLO_TOKEN_LEN) == 0;
}

static void put_resume(GByteArray *out, gboolean resume, guint64 seq)
{
    if (!resume)
        return;
    bytes_put_u16(out, EXTENSION_RESUME);
    bytes_put_u16(out, sizeof seq);
    bytes_put_u64(out, seq);
}

GBytes *frame_new_hello(const HelloBody *hello)
{
    g_autoptr(GByteArray) out = g_byte_array_sized_new(HELLO_SIZE);
    GBytes *frame;

    g_assert(hello->auth_len <= HELLO_AUTH_MAX);
    bytes_put_u16(out, hello->version_min);
    bytes_put_u16(out, hello->version_max);
    bytes_put_u64(out, hello->features);
    g_byte_array_append(out, hello->session, HELLO_SESSION_LEN);
    bytes_put_u8(out, hello->kind);
    bytes_put_u8(out, 0);
    bytes_put_u16(out, hello->channel);
    bytes_put_u64(out, hello->window);
    bytes_put_u16(out, hello->auth_len);
    g_byte_array_append(out, hello->auth, hello->auth_len);
    put_resume(out, hello->resume, hello->resume_seq);

    frame = frame_new(FRAME_HELLO, 0, out->data, out->len);
    explicit_bzero(out->data, out->len);
    return frame;
}

GBytes *frame_new_hello_ack(const HelloAckBody *ack)
{
    g_autoptr(GByteArray) out = g_byte_array_new();

    bytes_put_u16(out, ack->version);
    bytes_put_u16(out, 0);
    bytes_put_u64(out, ack->features);
    bytes_put_u64(out, ack->window);
    put_resume(out, ack->resume, ack->resume_seq);
    return frame_new(FRAME_HELLO_ACK, 0, out->data, out->len);
}

GBytes *frame_new_error(guint32 code, const char *text)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autofree char *clean = g_utf8_make_valid(text, -1);
    gsize len = strlen(clean);

    /* The C1 controls, U+0080 to U+009F, are two bytes each and become two spaces. */
    for (gsize i = 0; i < len; i++) {
        if (g_ascii_iscntrl(clean[i])) {
            clean[i] = ' ';
        } else if ((guint8)clean[i] == 0xc2 && (guint8)clean[i + 1] < 0xa0) {
            clean[i] = ' ';
            clean[i + 1] = ' ';
        }
    }
    if (len > FRAME_ERROR_TEXT_MAX)
        len = g_utf8_find_prev_char(clean, clean + FRAME_ERROR_TEXT_MAX + 1) - clean;

    bytes_put_u32(out, code);
    g_byte_array_append(out, (const guint8 *)clean, len);
    return frame_new(FRAME_ERROR, 0, out->data, out->len);
}

static gboolean bad_field(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static gboolean bad_field(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error)
        *error = g_error_new_valist(HELLO_ERROR, HELLO_ERROR_PROTOCOL, format, args);
    va_end(args);
    return FALSE;
}

/* Whatever a ByteReader said becomes this domain's, so that a peer can be told its code. */
static gboolean short_body(GError **error, GError *cause)
{
    bad_field(error, "%s", cause->message);
    g_error_free(cause);
    return FALSE;
}

static gboolean take_resume(const char *frame, const guint8 *bytes, gsize len, gboolean *resume,
                            guint64 *resume_seq, GError **error)
{
    ByteReader r = byte_reader(bytes, len);

    if (len != sizeof *resume_seq)
        return bad_field(error, _("%s: length of extension resume is %zu, must be %zu"), frame,
                         len, sizeof *resume_seq);
    if (*resume)
        return bad_field(error, _("%s: extension resume comes twice"), frame);
    *resume = TRUE;
    return byte_reader_take_u64(&r, "extension resume", resume_seq, error);
}

/* Unknown ones are skipped. */
static gboolean take_extensions(ByteReader *r, const char *frame, gboolean *resume,
                                guint64 *resume_seq, GError **error)
{
    while (r->len > 0) {
        GError *cause = NULL;
        const guint8 *bytes;
        guint16 type, len;

        if (!byte_reader_take_u16(r, "extension type", &type, &cause) ||
            !byte_reader_take_u16(r, "extension length", &len, &cause) ||
            !byte_reader_take(r, "extension", len, &bytes, &cause)) {
            g_prefix_error(&cause, "%s: ", frame);
            return short_body(error, cause);
        }
        if (type == EXTENSION_RESUME &&
            !take_resume(frame, bytes, len, resume, resume_seq, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean check_window(const char *frame, guint64 window, GError **error)
{
    if (window >= HELLO_WINDOW_MIN && window <= HELLO_WINDOW_MAX)
        return TRUE;
    return bad_field(error,
                     _("%s window %" PRIu64 " is out of range (%d to %" PRIu64
                       ")"),
                     frame, window, HELLO_WINDOW_MIN, HELLO_WINDOW_MAX);
}

static gboolean check_hello(const HelloBody *hello, guint8 reserved, GError **error)
{
    if (hello->version_min == 0 || hello->version_min > hello->version_max)
        return bad_field(error, _("HELLO versions %u to %u are no range"), hello->version_min,
                         hello->version_max);
    if (reserved != 0)
        return bad_field(error, _("HELLO reserved field is 0x%02x, must be 0"), reserved);
    return check_window("HELLO", hello->window, error);
}

static gboolean take_auth(ByteReader *r, HelloBody *hello, GError **error)
{
    GError *cause = NULL;
    const guint8 *bytes;

    if (!byte_reader_take_u16(r, "HELLO auth length", &hello->auth_len, &cause))
        return short_body(error, cause);
    if (hello->auth_len > HELLO_AUTH_MAX)
        return bad_field(error, _("HELLO auth length %u is out of range (0 to %d)"),
                         hello->auth_len, HELLO_AUTH_MAX);
    if (!byte_reader_take(r, "HELLO auth", hello->auth_len, &bytes, &cause))
        return short_body(error, cause);
    memcpy(hello->auth, bytes, hello->auth_len);
    return TRUE;
}

gboolean hello_body_decode(GBytes *body, HelloBody *ret_hello, GError **error)
{
    ByteReader r = byte_reader(g_bytes_get_data(body, NULL), g_bytes_get_size(body));
    g_auto(HelloBody) hello = { 0 };
    GError *cause = NULL;
    const guint8 *session;
    guint8 reserved;

    if (!byte_reader_take_u16(&r, "HELLO lowest version", &hello.version_min, &cause) ||
        !byte_reader_take_u16(&r, "HELLO highest version", &hello.version_max, &cause) ||
        !byte_reader_take_u64(&r, "HELLO features", &hello.features, &cause) ||
        !byte_reader_take(&r, "HELLO session id", HELLO_SESSION_LEN, &session, &cause) ||
        !byte_reader_take_u8(&r, "HELLO channel kind", &hello.kind, &cause) ||
        !byte_reader_take_u8(&r, "HELLO reserved field", &reserved, &cause) ||
        !byte_reader_take_u16(&r, "HELLO channel number", &hello.channel, &cause) ||
        !byte_reader_take_u64(&r, "HELLO window", &hello.window, &cause))
        return short_body(error, cause);
    memcpy(hello.session, session, HELLO_SESSION_LEN);

    if (!check_hello(&hello, reserved, error) || !take_auth(&r, &hello, error) ||
        !take_extensions(&r, "HELLO", &hello.resume, &hello.resume_seq, error))
        return FALSE;
    *ret_hello = hello;
    return TRUE;
}

gboolean hello_ack_body_decode(GBytes *body, HelloAckBody *ret_ack, GError **error)
{
    ByteReader r = byte_reader(g_bytes_get_data(body, NULL), g_bytes_get_size(body));
    HelloAckBody ack = { 0 };
    GError *cause = NULL;
    guint16 reserved;

    if (!byte_reader_take_u16(&r, "HELLO_ACK version", &ack.version, &cause) ||
        !byte_reader_take_u16(&r, "HELLO_ACK reserved field", &reserved, &cause) ||
        !byte_reader_take_u64(&r, "HELLO_ACK features", &ack.features, &cause) ||
        !byte_reader_take_u64(&r, "HELLO_ACK window", &ack.window, &cause))
        return short_body(error, cause);

    if (reserved != 0)
        return bad_field(error, _("HELLO_ACK reserved field is 0x%04x, must be 0"), reserved);
    if (!check_window("HELLO_ACK", ack.window, error) ||
        !take_extensions(&r, "HELLO_ACK", &ack.resume, &ack.resume_seq, error))
        return FALSE;
    *ret_ack = ack;
    return TRUE;
}

gboolean hello_judge(const HelloBody *hello, const guint8 session[HELLO_SESSION_LEN],
                     ChannelKind kind, guint16 channel, GError **error)
{
    if (hello->version_min > HELLO_VERSION || hello->version_max < HELLO_VERSION) {
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_VERSION,
                    _("protocol versions %u to %u are not spoken here, only %d"),
                    hello->version_min, hello->version_max, HELLO_VERSION);
        return FALSE;
    }
    if (memcmp(hello->session, session, HELLO_SESSION_LEN) != 0) {
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_SESSION, _("unknown session id"));
        return FALSE;
    }
    if (hello->kind != kind) {
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_KIND,
                    _("channel kind %u (%s) is not offered"), hello->kind,
                    channel_kind_name(hello->kind));
        return FALSE;
    }
    if (hello->channel != channel) {
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_KIND,
                    _("channel number %u is not offered, the %s channel is %u"), hello->channel,
                    channel_kind_name(kind), channel);
        return FALSE;
    }
    return TRUE;
}

gboolean hello_ack_judge(GBytes *body, guint64 offered, gboolean resume, HelloAckBody *ret_ack,
                         GError **error)
{
    HelloAckBody ack;

    if (!hello_ack_body_decode(body, &ack, error))
        return FALSE;
    if (ack.version != HELLO_VERSION)
        return bad_field(error, _("HELLO_ACK version %u was not offered"), ack.version);
    if (ack.features & ~offered)
        return bad_field(error,
                         _("HELLO_ACK features 0x%" PRIx64 " were not offered"),
                         ack.features & ~offered);
    if (ack.resume && !resume)
        return bad_field(error, _("HELLO_ACK resumes, which HELLO did not"));
    if (resume && !ack.resume)
        return bad_field(error, _("HELLO_ACK does not resume, which HELLO did"));
    *ret_ack = ack;
    return TRUE;
}

static gboolean text_is_one_line(const char *text, gsize len)
{
    if (!g_utf8_validate_len(text, len, NULL))
        return FALSE;
    for (const char *p = text; p < text + len; p = g_utf8_next_char(p)) {
        if (g_unichar_iscntrl(g_utf8_get_char(p)))
            return FALSE;
    }
    return TRUE;
}

gboolean error_body_decode(GBytes *body, ErrorBody *ret_body, GError **error)
{
    ByteReader r = byte_reader(g_bytes_get_data(body, NULL), g_bytes_get_size(body));
    GError *cause = NULL;
    guint32 code;

    if (!byte_reader_take_u32(&r, "ERROR code", &code, &cause))
        return short_body(error, cause);
    if (code == 0)
        return bad_field(error, _("ERROR code is 0"));
    /* The text ends up in logs and in front of a user. */
    if (!text_is_one_line((const char *)r.data, r.len))
        return bad_field(error, _("ERROR text is not one line of UTF-8"));

    ret_body->code = code;
    ret_body->text = g_strndup((const char *)r.data, r.len);
    return TRUE;
}
