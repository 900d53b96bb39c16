/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One end of a session, and words put into its peer's mouth, frame by frame. Everything a test does
 * not expect fails it. */
#pragma once

#include "tls/session.h"

#define LONE_WINDOW (256 * 1024)
#define LONE_FEATURES (SESSION_FEATURES_ALL & ~SESSION_FEATURES_OF_MAPPED)

extern const guint8 lone_proof[HELLO_PROOF_LEN];

/* In setup. */
Session *lone_new(SessionSide side, guint64 window, guint64 features);
/* With both QEMUs; what belongs to the opening is sent, and no action is left. */
Session *lone_active(SessionSide side);
/* Both directions have ended; everything is handed on and acknowledged. */
Session *lone_completed(SessionSide side);

void lone_expect_state(const Session *s, SessionState expected);

/* ---- the peer's words ---- */

HelloBody lone_token_hello(void);
HelloBody lone_resume_hello(guint64 seq);
/* frame: whole, taken */
void lone_feed(Session *s, GBytes *frame);
void lone_feed_hello_ack(Session *s, gboolean resume, guint64 seq);
void lone_feed_ack(Session *s, guint64 next_seq, guint64 bytes);
/* One byte. */
void lone_feed_data(Session *s, guint64 seq);
/* Another connection, up to the answer: seq is what the peer expects. */
void lone_resume(Session *s, guint64 seq);
void lone_lose_and_resume(Session *s, guint64 seq);
void lone_expect_refused(const Session *s, const HelloBody *hello, HelloError code,
                         const char *names);

/* ---- what it says ---- */

/* The next frame it sends, whole; type 0: none. */
Frame lone_sent(Session *s);
void lone_expect_sent(Session *s, FrameType type);
void lone_expect_sent_seq(Session *s, FrameType type, guint64 seq);
void lone_expect_nothing(Session *s);
void lone_send_all(Session *s);

/* ---- QEMU ---- */

/* len bytes, all of them the number of bytes said before (modulo 256). */
void lone_say(Session *s, gsize len);
void lone_consume_all(Session *s);
