/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/rpc-end.h"

#include <string.h>
#include <sys/socket.h>

#include "driver/rpc_error.h"

#define PATIENCE_US (60 * G_USEC_PER_SEC) /* valgrind on a busy machine */

static void on_frame(RpcStream *stream, RpcFrame *frame, gpointer data)
{
    RpcEnd *end = data;

    g_ptr_array_add(end->frames, frame);
}

static void on_drained(RpcStream *stream, gpointer data)
{
    RpcEnd *end = data;

    end->drained++;
}

static void on_closed(RpcStream *stream, const GError *error, gpointer data)
{
    RpcEnd *end = data;

    end->closed++;
    end->error = error ? g_error_copy(error) : NULL;
}

static const RpcStreamHandlers handlers = {
    .frame = on_frame,
    .drained = on_drained,
    .closed = on_closed,
};

RpcEnd *rpc_end_new(RpcStream *stream)
{
    RpcEnd *end = g_new0(RpcEnd, 1);

    end->stream = stream;
    end->frames = g_ptr_array_new_with_free_func((GDestroyNotify)rpc_frame_free);
    rpc_stream_start(stream, &handlers, end);
    return end;
}

void rpc_end_free(RpcEnd *end)
{
    if (!end)
        return;
    rpc_stream_close(end->stream, FALSE);
    rpc_stream_unref(end->stream);
    g_ptr_array_unref(end->frames);
    g_clear_error(&end->error);
    g_free(end);
}

RpcFrame *rpc_end_frame(const RpcEnd *end, guint i)
{
    g_assert_cmpuint(i, <, end->frames->len);
    return g_ptr_array_index(end->frames, i);
}

RpcFrame *rpc_test_frame(guint32 type, gint32 procedure, guint32 serial, gsize len)
{
    RpcHeader header = { .program = RPC_PROGRAM_REMOTE,
                         .version = 1,
                         .procedure = procedure,
                         .type = type,
                         .serial = serial };
    g_autofree guint8 *payload = g_malloc(len + 1);

    for (gsize i = 0; i < len; i++)
        payload[i] = (guint8)(serial + i * 7);
    return rpc_frame_new(&header, payload, len);
}

RpcFrame *rpc_test_copy(const RpcFrame *frame)
{
    gsize len;
    const guint8 *payload = rpc_frame_payload(frame, &len);

    return rpc_frame_new(&frame->header, payload, len);
}

gboolean rpc_test_same(const RpcFrame *a, const RpcFrame *b)
{
    return a->wire->len == b->wire->len && memcmp(a->wire->data, b->wire->data, a->wire->len) == 0;
}

char *rpc_test_error(const RpcFrame *reply)
{
    g_auto(RpcError) e = { 0 };
    gsize len;
    const guint8 *payload = rpc_frame_payload(reply, &len);

    g_assert_cmpuint(reply->header.type, ==, RPC_TYPE_REPLY);
    g_assert_cmpuint(reply->header.status, ==, RPC_STATUS_ERROR);
    g_assert_true(rpc_error_decode(payload, len, &e, NULL));
    return g_steal_pointer(&e.message);
}

void rpc_test_pair(int fds[2])
{
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
}

static gboolean time_up(gpointer data)
{
    *(gboolean *)data = TRUE;
    return G_SOURCE_REMOVE;
}

gboolean rpc_test_until(gboolean (*condition)(gpointer), gpointer data)
{
    gboolean late = FALSE;
    guint timer = g_timeout_add(PATIENCE_US / 1000, time_up, &late);

    while (!condition(data) && !late)
        g_main_context_iteration(NULL, TRUE);
    if (!late)
        g_source_remove(timer);
    return condition(data);
}

typedef struct {
    RpcEnd *end;
    guint n;
} Wanted;

static gboolean have_frames(gpointer data)
{
    Wanted *wanted = data;

    return wanted->end->frames->len >= wanted->n;
}

gboolean rpc_test_until_frames(RpcEnd *end, guint n)
{
    Wanted wanted = { end, n };

    return rpc_test_until(have_frames, &wanted);
}

static gboolean is_closed(gpointer data)
{
    RpcEnd *end = data;

    return end->closed > 0;
}

gboolean rpc_test_until_closed(RpcEnd *end)
{
    return rpc_test_until(is_closed, end);
}

void rpc_test_settle(void)
{
    for (guint i = 0; i < 200; i++) {
        if (!g_main_context_iteration(NULL, FALSE))
            return;
    }
}

guint rpc_test_open_fds(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    guint n = 0;

    while (g_dir_read_name(dir))
        n++;
    return n;
}
