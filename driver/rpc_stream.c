/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames over a transport, driven by one GSource.
 *
 * The source polls for what the stream wants at the moment; update() says what that is and is
 * called after every change. Handlers run only from its dispatch function. A peer that has hung up
 * while reading is paused would wake poll() for ever, so its descriptor is taken out of the poll
 * set then, and the stream ends after LINGER_SECONDS unless somebody reads the rest. */
#include "config.h"

#include "driver/rpc_stream.h"

#include <glib/gi18n.h>
#include <sys/socket.h>

#include "driver/rpc_transport.h"

/* Fairness: what one wake-up may read or write before the other connections have their turn. */
#define BATCH_FRAMES 64u
#define BATCH_BYTES (1024u * 1024u)

/* First allocation for a frame's body; doubled as the bytes come. */
#define FIRST_CHUNK 4096u

/* What a queued descriptor counts for in rpc_stream_queued(), so that the limit bounds them too. */
#define FD_WEIGHT (16u * 1024u)

#define LINGER_SECONDS 5

typedef enum {
    STREAM_OPEN,
    STREAM_CLOSING, /* only flushes what is queued */
    STREAM_ENDED,
} StreamState;

struct RpcStream {
    gint refs;
    StreamState state;
    RpcTransport *transport;
    gboolean can_pass_fds;
    gboolean has_creds;
    struct ucred creds;
    const RpcStreamHandlers *handlers; /* NULL before start() and after close() */
    gpointer data;

    GSource *source;
    gpointer fd_tag; /* NULL while the descriptor is out of the poll set */
    GIOCondition polled;
    gint64 deadline; /* monotonic; 0 for none */

    gboolean reading;
    gboolean hung_up; /* while reading was paused */
    guint8 word[4];
    guint word_len;
    GByteArray *wire; /* the frame that is coming in, word included */
    guint32 wire_total;
    gsize wire_have;
    RpcFrame *frame; /* complete but for its descriptors */
    guint fds_wanted;

    GQueue out;
    gsize out_offset; /* of the first frame's bytes */
    guint out_fd;     /* of its descriptors */
    gsize queued;
    gboolean unflushed; /* the transport still has some of what it took */
    gboolean over_limit;
    gboolean drained_due;
    gboolean look_due; /* writing has failed: what reading says is not known yet */
    GError *write_error;
};

typedef struct {
    GSource base;
    RpcStream *stream;
} StreamSource;

static gsize frame_weight(const RpcFrame *frame)
{
    return frame->wire->len + (gsize)frame->n_fds * FD_WEIGHT;
}

static gboolean wants_read(const RpcStream *s)
{
    return s->state == STREAM_OPEN && s->handlers && s->reading;
}

static gboolean wants_write(const RpcStream *s)
{
    return s->state != STREAM_ENDED && !s->write_error &&
           (s->out.length > 0 || s->unflushed);
}

/* --- polling --- */

static void set_polled(RpcStream *s, gboolean poll_fd, GIOCondition events)
{
    if (!poll_fd) {
        if (s->fd_tag)
            g_source_remove_unix_fd(s->source, s->fd_tag);
        s->fd_tag = NULL;
        return;
    }
    if (!s->fd_tag)
        s->fd_tag = g_source_add_unix_fd(s->source, s->transport->fd, events);
    else if (s->polled != events)
        g_source_modify_unix_fd(s->source, s->fd_tag, events);
    s->polled = events;
}

static void update(RpcStream *s)
{
    gboolean want_read = wants_read(s);
    gboolean want_write = wants_write(s);
    gint64 ready = s->deadline > 0 ? s->deadline : -1;

    if (!s->source || s->state == STREAM_ENDED)
        return;
    set_polled(s, !s->hung_up || want_write,
               s->transport->ops->events(s->transport, want_read, want_write));
    if ((s->drained_due && s->handlers) || (s->look_due && want_read) ||
        (want_read && s->transport->ops->pending(s->transport) > 0))
        ready = 0;
    g_source_set_ready_time(s->source, ready);
}

static void arm_linger(RpcStream *s)
{
    if (s->deadline == 0)
        s->deadline = g_get_monotonic_time() + LINGER_SECONDS * G_USEC_PER_SEC;
}

/* --- the end --- */

static void discard_queue(RpcStream *s)
{
    g_queue_clear_full(&s->out, (GDestroyNotify)rpc_frame_free);
    s->out_offset = 0;
    s->out_fd = 0;
    s->queued = 0;
    s->unflushed = FALSE;
}

/* Lets go of everything but the memory of the stream itself. */
static void shut(RpcStream *s)
{
    if (s->state == STREAM_ENDED)
        return;
    s->state = STREAM_ENDED;
    if (s->source) {
        g_source_destroy(s->source);
        g_clear_pointer(&s->source, g_source_unref);
    }
    s->fd_tag = NULL;
    discard_queue(s);
    g_clear_pointer(&s->wire, g_byte_array_unref);
    g_clear_pointer(&s->frame, rpc_frame_free);
    s->transport->ops->close(s->transport);
    s->transport = NULL;
}

static void end(RpcStream *s, const GError *error)
{
    const RpcStreamHandlers *handlers = s->handlers;

    shut(s);
    s->handlers = NULL;
    if (handlers)
        handlers->closed(s, error, s->data);
}

/* --- writing --- */

static void sent(RpcStream *s)
{
    RpcFrame *frame = g_queue_pop_head(&s->out);

    s->queued -= frame_weight(frame);
    s->out_offset = 0;
    s->out_fd = 0;
    rpc_frame_free(frame);
}

/* One write of the first frame's bytes, or one of its descriptors. */
static gboolean write_step(RpcStream *s, gsize *ret_bytes, GError **error)
{
    RpcTransport *t = s->transport;
    RpcFrame *frame = g_queue_peek_head(&s->out);

    if (s->out_offset < frame->wire->len) {
        gssize n = t->ops->write(t, frame->wire->data + s->out_offset,
                                 frame->wire->len - s->out_offset, error);

        if (n < 0)
            return FALSE;
        s->out_offset += (gsize)n;
        *ret_bytes += (gsize)n;
        s->unflushed = TRUE;
    } else if (!t->ops->write_fd(t, frame->fds[s->out_fd], error)) {
        return FALSE;
    } else {
        s->out_fd++;
    }
    if (s->out_offset == frame->wire->len && s->out_fd == frame->n_fds)
        sent(s);
    return TRUE;
}

/* A peer that reads no more may still have said something: what it sent is read for a while. */
static void write_failed(RpcStream *s, GError *error)
{
    discard_queue(s);
    s->write_error = error;
    s->look_due = TRUE;
    arm_linger(s);
}

static void write_some(RpcStream *s)
{
    g_autoptr(GError) error = NULL;
    gsize bytes = 0;

    for (guint i = 0; i < BATCH_FRAMES && bytes < BATCH_BYTES; i++) {
        if (s->out.length == 0 || !write_step(s, &bytes, &error))
            break;
    }
    if (!error && s->unflushed && s->transport->ops->flush(s->transport, &error))
        s->unflushed = FALSE;
    if (error && !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
        write_failed(s, g_steal_pointer(&error));
    if (s->over_limit && s->queued < RPC_STREAM_QUEUE_LIMIT / 2) {
        s->over_limit = FALSE;
        s->drained_due = TRUE;
    }
}

/* --- reading --- */

/* Reads into buf at *have, up to want. FALSE with error NULL: the peer has closed. */
static gboolean read_bytes(RpcStream *s, guint8 *buf, gsize *have, gsize want, GError **error)
{
    gssize n = s->transport->ops->read(s->transport, buf + *have, want - *have, error);

    if (n <= 0)
        return FALSE;
    *have += (gsize)n;
    return TRUE;
}

static gboolean closed_inside(GError **error, const char *part, gsize have, gsize want)
{
    if (error && !*error)
        g_set_error(error, RPC_FRAME_ERROR, RPC_FRAME_ERROR_CLOSED,
                    _("RPC frame: the connection ended inside the %1$s, "
                      "after %2$zu of %3$zu bytes"),
                    part, have, want);
    return FALSE;
}

/* FALSE with error NULL: the orderly end, between two frames. */
static gboolean read_word(RpcStream *s, GError **error)
{
    gsize have = s->word_len;

    if (!read_bytes(s, s->word, &have, sizeof s->word, error))
        return have > 0 ? closed_inside(error, _("length"), have, sizeof s->word) : FALSE;
    s->word_len = (guint)have;
    if (have < sizeof s->word)
        return TRUE;
    if (!rpc_frame_parse_length(s->word, &s->wire_total, error))
        return FALSE;
    s->wire = g_byte_array_new();
    g_byte_array_append(s->wire, s->word, sizeof s->word);
    s->wire_have = sizeof s->word;
    return TRUE;
}

static gboolean frame_complete(RpcStream *s, GError **error)
{
    s->frame = rpc_frame_new_from_wire(g_steal_pointer(&s->wire), &s->fds_wanted, error);
    if (!s->frame)
        return FALSE;
    if (rpc_frame_has_fds(s->frame) && !rpc_stream_can_pass_fds(s)) {
        g_set_error(error, RPC_FRAME_ERROR, RPC_FRAME_ERROR_FDS,
                    _("RPC frame: type %1$u (procedure %2$d) needs descriptors, "
                      "which this connection cannot carry"),
                    s->frame->header.type, s->frame->header.procedure);
        return FALSE;
    }
    return TRUE;
}

static gboolean read_body(RpcStream *s, GError **error)
{
    gsize have = s->wire_have;

    if (have == s->wire->len)
        g_byte_array_set_size(s->wire, MIN(s->wire_total, MAX(FIRST_CHUNK, s->wire->len * 2)));
    if (!read_bytes(s, s->wire->data, &have, s->wire->len, error))
        return closed_inside(error, _("frame"), have, s->wire_total);
    s->wire_have = have;
    return have < s->wire_total || frame_complete(s, error);
}

static gboolean read_descriptor(RpcStream *s, GError **error)
{
    RpcFrame *frame = s->frame;

    if (!s->transport->ops->read_fd(s->transport, &frame->fds[frame->n_fds], error))
        return FALSE;
    frame->n_fds++;
    return TRUE;
}

/* Reads a bit more, and hands on a frame if that was the last of it. */
static gboolean read_step(RpcStream *s, guint *frames, GError **error)
{
    RpcFrame *frame;

    if (s->frame ? !read_descriptor(s, error)
                 : s->wire ? !read_body(s, error) : !read_word(s, error))
        return FALSE;
    if (!s->frame || s->frame->n_fds < s->fds_wanted)
        return TRUE;
    frame = g_steal_pointer(&s->frame);
    s->word_len = 0;
    (*frames)++;
    s->handlers->frame(s, frame, s->data);
    return TRUE;
}

static void read_some(RpcStream *s)
{
    guint frames = 0;
    gsize bytes = 0;

    while (wants_read(s) && frames < BATCH_FRAMES && bytes < BATCH_BYTES) {
        g_autoptr(GError) error = NULL;
        gsize before = s->wire_have;

        if (!read_step(s, &frames, &error)) {
            if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
                end(s, error);
            return;
        }
        bytes += s->wire_have > before ? s->wire_have - before : 0;
    }
}

/* --- the source --- */

static void finish_closing(RpcStream *s)
{
    shut(s);
    rpc_stream_unref(s); /* rpc_stream_close() took it */
}

static void dispatch_closing(RpcStream *s)
{
    write_some(s);
    if (!wants_write(s) || g_get_monotonic_time() >= s->deadline)
        finish_closing(s);
}

static void dispatch_open(RpcStream *s, GIOCondition seen)
{
    if (wants_write(s))
        write_some(s);
    if (wants_read(s)) {
        s->look_due = FALSE;
        read_some(s);
    }
    if (s->drained_due && s->handlers) {
        s->drained_due = FALSE;
        s->handlers->drained(s, s->data);
    }
    if (s->state != STREAM_OPEN)
        return;
    if ((seen & (G_IO_HUP | G_IO_ERR)) && !wants_read(s)) {
        s->hung_up = TRUE;
        arm_linger(s);
    }
    if (s->deadline > 0 && g_get_monotonic_time() >= s->deadline) {
        g_autoptr(GError) error = g_steal_pointer(&s->write_error);

        if (!error)
            error = g_error_new_literal(RPC_FRAME_ERROR, RPC_FRAME_ERROR_CLOSED,
                                        _("the connection was closed before all of it was read"));
        end(s, error);
    }
}

static gboolean dispatch(GSource *source, GSourceFunc callback, gpointer user_data)
{
    g_autoptr(RpcStream) s = rpc_stream_ref(((StreamSource *)source)->stream);
    GIOCondition seen = s->fd_tag ? g_source_query_unix_fd(source, s->fd_tag) : 0;

    if (s->state == STREAM_CLOSING)
        dispatch_closing(s);
    else
        dispatch_open(s, seen);
    update(s);
    return G_SOURCE_CONTINUE;
}

static void ensure_source(RpcStream *s)
{
    static GSourceFuncs funcs = { .dispatch = dispatch };

    if (s->source)
        return;
    s->source = g_source_new(&funcs, sizeof(StreamSource));
    g_source_set_name(s->source, "rpc-stream");
    ((StreamSource *)s->source)->stream = s;
    g_source_attach(s->source, NULL);
}

/* --- the interface --- */

static RpcStream *stream_new(RpcTransport *transport)
{
    RpcStream *s = g_new0(RpcStream, 1);

    s->refs = 1;
    s->transport = transport;
    s->can_pass_fds = transport->ops->write_fd != NULL;
    s->reading = TRUE;
    g_queue_init(&s->out);
    return s;
}

RpcStream *rpc_stream_new_socket(int fd, gboolean can_pass_fds)
{
    RpcStream *s = stream_new(rpc_transport_new_socket(fd, can_pass_fds));
    socklen_t len = sizeof s->creds;

    s->has_creds =
        can_pass_fds && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &s->creds, &len) == 0;
    return s;
}

RpcStream *rpc_stream_new_tls(TlsChannel *channel)
{
    return stream_new(rpc_transport_new_tls(channel));
}

void rpc_stream_start(RpcStream *s, const RpcStreamHandlers *handlers, gpointer data)
{
    if (s->state != STREAM_OPEN)
        return;
    s->handlers = handlers;
    s->data = data;
    ensure_source(s);
    update(s);
}

void rpc_stream_send(RpcStream *s, RpcFrame *frame)
{
    gboolean idle = !wants_write(s);

    if (s->state != STREAM_OPEN || s->write_error) {
        rpc_frame_free(frame);
        return;
    }
    if (rpc_frame_has_fds(frame) && !rpc_stream_can_pass_fds(s)) {
        g_critical("a frame with descriptors was sent on a stream that cannot pass them");
        rpc_frame_free(frame);
        return;
    }
    s->queued += frame_weight(frame);
    g_queue_push_tail(&s->out, frame);
    if (s->queued > RPC_STREAM_QUEUE_LIMIT)
        s->over_limit = TRUE;
    if (idle)
        write_some(s); /* else somebody waits for POLLOUT already */
    update(s);
}

gsize rpc_stream_queued(const RpcStream *s)
{
    return s->queued;
}

gboolean rpc_stream_can_pass_fds(const RpcStream *s)
{
    return s->can_pass_fds;
}

gboolean rpc_stream_peer_creds(const RpcStream *s, pid_t *ret_pid, uid_t *ret_uid)
{
    if (!s->has_creds)
        return FALSE;
    *ret_pid = s->creds.pid;
    *ret_uid = s->creds.uid;
    return TRUE;
}

void rpc_stream_set_reading(RpcStream *s, gboolean reading)
{
    if (s->state != STREAM_OPEN || s->reading == reading)
        return;
    s->reading = reading;
    if (reading && s->hung_up) {
        s->hung_up = FALSE;
        if (!s->write_error)
            s->deadline = 0;
    }
    update(s);
}

void rpc_stream_close(RpcStream *s, gboolean flush)
{
    s->handlers = NULL;
    if (s->state == STREAM_CLOSING && !flush)
        finish_closing(s);
    if (s->state != STREAM_OPEN)
        return;
    if (!flush || !wants_write(s)) {
        shut(s);
        return;
    }
    s->state = STREAM_CLOSING;
    s->deadline = g_get_monotonic_time() + LINGER_SECONDS * G_USEC_PER_SEC;
    rpc_stream_ref(s); /* until it is flushed: dispatch_closing() */
    ensure_source(s);
    update(s);
}

RpcStream *rpc_stream_ref(RpcStream *s)
{
    g_atomic_int_inc(&s->refs);
    return s;
}

void rpc_stream_unref(RpcStream *s)
{
    if (!s || !g_atomic_int_dec_and_test(&s->refs))
        return;
    shut(s);
    g_clear_error(&s->write_error);
    g_free(s);
}
