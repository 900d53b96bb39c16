/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an authenticated peer may send on the main channel: bytes into the frame reader, frames into
 * an active session. The first byte chooses the side, whether the features were agreed on, how QEMU
 * behaves, and whether a HELLO is another connection: at the destination it is that one's, and at
 * the source, which gets none, the moment when it has lost the one before and dials. */
#include "config.h"

#include <stdint.h>
#include <string.h>

#include "tls/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WINDOW FRAME_PAGES_MAX

static Session *active_session(gboolean source, guint64 features)
{
    SessionConfig config = { .side = source ? SESSION_SOURCE : SESSION_DESTINATION,
                             .window = WINDOW, .features = features };
    HelloBody hello = { .version_min = 1, .version_max = 1, .features = features,
                        .window = WINDOW };
    Session *s = session_new(&config);

    session_start(s, NULL);
    if (source) {
        HelloAckBody body = { 1, features, WINDOW, FALSE, 0 };
        g_autoptr(GBytes) whole = frame_new_hello_ack(&body);
        g_auto(Frame) ack = { { FRAME_HELLO_ACK, 0, 20 },
                              g_bytes_new_from_bytes(whole, FRAME_HEADER_LEN, 20) };

        session_on_channel_up(s, NULL, NULL);
        session_on_frame(s, &ack);
    } else {
        session_on_hello(s, &hello, NULL);
    }
    session_on_qemu_attached(s, NULL);
    return s;
}

/* Of somebody who has the token or can make the proof. */
static void another_connection(Session *s, const Frame *frame)
{
    static const guint8 proof[HELLO_PROOF_LEN];
    g_auto(HelloBody) hello = { 0 };

    if (session_side(s) == SESSION_SOURCE) {
        session_on_channel_lost(s, "lost");
        if (session_is_lost(s))
            g_assert(session_on_channel_up(s, session_wants_proof(s) ? proof : NULL, NULL));
        return;
    }
    if (!hello_body_decode(frame->body, &hello, NULL))
        return;
    memset(hello.session, 0, sizeof hello.session);
    memset(hello.auth, 0, sizeof hello.auth);
    hello.auth_len = HELLO_PROOF_LEN;
    hello.kind = CHANNEL_MAIN;
    hello.channel = 0;
    if (session_judge_hello(s, &hello, proof, NULL)) {
        g_assert(session_on_hello(s, &hello, NULL));
        g_assert(!session_is_lost(s));
    }
}

static void qemu_says(Session *s)
{
    g_assert(session_send_room(s) >= 100);
    session_send(s, FRAME_DATA, g_malloc0(FRAME_HEADER_LEN + 100), 100);
}

static void channel_takes(Session *s)
{
    const guint8 *bytes;
    gsize len;

    session_settle(s);
    while ((len = session_output(s, &bytes)) > 0)
        session_output_done(s, len);
}

static void qemu_takes(Session *s)
{
    FrameType type;
    GBytes *body = session_received(s, &type);

    if (!body)
        return;
    g_assert(type != FRAME_EOF && g_bytes_get_size(body) > 0);
    session_consume(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(Session) s = NULL;
    g_auto(FrameReader) reader = { 0 };
    gboolean deaf = FALSE;
    guint8 mode;

    if (size < 1)
        return 0;
    mode = *data++;
    size--;
    s = active_session(mode & 1, mode & 32 ? SESSION_FEATURES_ALL : 0);
    frame_reader_init(&reader, FALSE);
    if (mode & 2)
        qemu_says(s);
    if (mode & 4)
        session_on_qemu_eof(s, NULL);
    channel_takes(s);

    while (size > 0 && !deaf) {
        g_auto(Frame) frame = { 0 };
        g_autoptr(GError) error = NULL;
        gboolean complete;
        guint8 *space;
        gsize n = MIN(frame_reader_space(&reader, &space), size);

        memcpy(space, data, n);
        data += n;
        size -= n;
        if (!frame_reader_advance(&reader, n, &frame, &complete, &error)) {
            session_on_bad_frame(s, error);
            deaf = TRUE;
        } else if (complete && (mode & 64) && frame.header.type == FRAME_HELLO) {
            another_connection(s, &frame);
        } else if (complete) {
            session_on_frame(s, &frame);
        }
        if (mode & 8)
            qemu_takes(s);
        if (mode & 16)
            channel_takes(s);
    }
    /* Whatever came: bounded, and a failed session says why. */
    {
        SessionStats stats;

        session_get_stats(s, &stats);
        g_assert(stats.held_high <= WINDOW);
        g_assert(stats.in_flight_high <= WINDOW);
        g_assert(session_unsent_bytes(s) <= WINDOW);
        if (session_state(s) == SESSION_FAILED)
            g_assert(*session_reason(s));
        if (deaf)
            g_assert(session_state_is_end(session_state(s)));
    }
    session_take_actions(s);
    channel_takes(s);
    return 0;
}
