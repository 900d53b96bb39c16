/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bodies of the frames that open and end a channel: HELLO, HELLO_ACK, ERROR.
 *
 * HELLO                                    HELLO_ACK
 *     be16 lowest version spoken               be16 version chosen
 *     be16 highest version spoken              be16 reserved, 0
 *     be64 features offered                    be64 features both sides have
 *     16   session id                          be64 window of the answering side
 *     u8   channel kind                        ...  extensions
 *     u8   reserved, 0
 *     be16 channel number                  ERROR
 *     be64 window of the dialling side         be32 code
 *     be16 length of auth                      ...  text, UTF-8, one line
 *     ...  auth
 *     ...  extensions
 *
 * An extension is be16 type, be16 length, bytes; unknown types are skipped. Version 1 has one,
 * "resume" (1): be64, the next sequence its sender expects to receive. auth is the one-time token
 * on the first connection of the main channel; on all others a proof bound to a key that the first
 * one's TLS exporter gave (docs/protocol.md, tls/proof.h). Pure. */
#pragma once

#include "tls/frame.h"

#define HELLO_VERSION 1 /* the one this code speaks */
#define HELLO_SESSION_LEN 16
#define HELLO_TOKEN_LEN 32
#define HELLO_PROOF_LEN 32
#define HELLO_AUTH_MAX 64
#define HELLO_WINDOW_MIN FRAME_DATA_MAX /* bytes: one full DATA must fit */
#define HELLO_WINDOW_MAX (G_GUINT64_CONSTANT(1) << 30)

/* What RFC 8446's exporter is asked for, to prove that another connection belongs to the same
 * session. */
#define HELLO_EXPORTER_LABEL "EXPORTER-virt-postcopy-channel"

#define HELLO_ERROR (hello_error_quark())
GQuark hello_error_quark(void);

/* The codes of ERROR frames, and of GErrors of this domain: what a peer is told. Numbers are
 * part of the protocol. */
typedef enum {
    HELLO_ERROR_VERSION = 1,    /* no protocol version in common */
    HELLO_ERROR_SESSION = 2,    /* not the session of this helper */
    HELLO_ERROR_TOKEN = 3,      /* wrong token or proof */
    HELLO_ERROR_TOKEN_USED = 4, /* right token, but the session has its main channel */
    HELLO_ERROR_KIND = 5,       /* channel kind or number not offered */
    HELLO_ERROR_PROTOCOL = 6,   /* malformed or out of order; the text names the field */
    HELLO_ERROR_QEMU = 7,       /* QEMU at the sender's end cannot be reached or went away */
    HELLO_ERROR_CANCELLED = 8,  /* somebody ended the migration on purpose */
    HELLO_ERROR_INTERNAL = 9,   /* anything else; also what unknown codes are taken for */
    HELLO_ERROR_MAX,
} HelloError;

const char *hello_error_name(guint32 code);

typedef enum {
    CHANNEL_MAIN = 0,
    CHANNEL_PREEMPT = 1,
    CHANNEL_BULK = 2,
    CHANNEL_DISKS = 3,
    CHANNEL_KIND_MAX,
} ChannelKind;

const char *channel_kind_name(ChannelKind kind);

/* Bulk channels of a session: their numbers are 1 to this. */
#define CHANNEL_BULK_MAX 16

/* Of one channel, a static string: its kind, and of a bulk channel "bulk-1" and so on. */
const char *channel_name(ChannelKind kind, guint16 number);
/* FALSE: there is none of that name. *ret_number: of all but bulk channels 0. */
gboolean channel_from_name(const char *name, ChannelKind *ret_kind, guint16 *ret_number);

typedef struct {
    guint16 version_min;
    guint16 version_max;
    guint64 features;
    guint8 session[HELLO_SESSION_LEN];
    guint8 kind; /* ChannelKind, or a number this version does not know */
    guint16 channel;
    guint64 window; /* bytes of bodies the sender of this is ready to hold */
    guint16 auth_len;
    guint8 auth[HELLO_AUTH_MAX]; /* secret: wiped by clear */
    gboolean resume;    /* the channel was there before: this is another connection of it */
    guint64 resume_seq; /* the next sequence the sender expects; 0 if not resume */
} HelloBody;

typedef struct {
    guint16 version;
    guint64 features;
    guint64 window;
    gboolean resume; /* as in HelloBody: an answer has it if the HELLO had it */
    guint64 resume_seq;
} HelloAckBody;

typedef struct {
    guint32 code;
    char *text; /* valid UTF-8 without control characters */
} ErrorBody;

void hello_body_clear(HelloBody *hello);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HelloBody, hello_body_clear)
void error_body_clear(ErrorBody *body);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ErrorBody, error_body_clear)

/* Whole frames. frame_new_error() makes any text fit: cut at a character, control
 * characters turned into spaces. */
GBytes *frame_new_hello(const HelloBody *hello);
GBytes *frame_new_hello_ack(const HelloAckBody *ack);
GBytes *frame_new_error(guint32 code, const char *text);

/* Of a frame's body. ret_* is untouched on failure. Errors are HELLO_ERROR_PROTOCOL and name
 * the field; they never contain auth. */
gboolean hello_body_decode(GBytes *body, HelloBody *ret_hello, GError **error);
gboolean hello_ack_body_decode(GBytes *body, HelloAckBody *ret_ack, GError **error);
gboolean error_body_decode(GBytes *body, ErrorBody *ret_body, GError **error);

/* Whether the HELLO speaks our version and means this session and this channel. Errors are of the
 * code the dialling side is to be told. */
gboolean hello_judge(const HelloBody *hello, const guint8 session[HELLO_SESSION_LEN],
                     ChannelKind kind, guint16 channel, GError **error);
/* Decodes an answer to our HELLO, which may only choose what that has offered, and resumes if that
 * does. */
gboolean hello_ack_judge(GBytes *body, guint64 offered, gboolean resume, HelloAckBody *ret_ack,
                         GError **error);

/* Takes the same time whatever differs. */
gboolean hello_auth_equal(const HelloBody *hello, const guint8 token[HELLO_TOKEN_LEN]);
