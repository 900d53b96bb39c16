/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/memory_reader.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <inttypes.h>
#include <unistd.h>

#include "ram/blocks.h"
#include "util/autofd.h"

/* That nobody holds: for the pages that follow what was asked for. */
#define IDLE_MAX 4

struct MemoryReader {
    int fd;
    GQueue windows; /* of MemoryWindow, those used last first */
    guint64 bytes;
};

MemoryReader *memory_reader_new(int fd)
{
    MemoryReader *reader = g_new0(MemoryReader, 1);

    reader->fd = fd;
    g_queue_init(&reader->windows);
    return reader;
}

static void window_free(MemoryWindow *window)
{
    g_free(window->bytes);
    g_free(window);
}

void memory_reader_free(MemoryReader *reader)
{
    if (!reader)
        return;
    g_queue_clear_full(&reader->windows, (GDestroyNotify)window_free);
    autofd_clear(&reader->fd);
    g_free(reader);
}

/* ---- reading ---- */

static gboolean failed(GError **error, guint64 address, const char *why)
{
    g_set_error(error, RAM_ERROR, RAM_ERROR_STATE,
                _("the source QEMU's memory at 0x%" PRIx64 " cannot be read: %s"), address, why);
    return FALSE;
}

gboolean memory_reader_read(MemoryReader *reader, guint64 address, guint8 *buf, gsize len,
                            GError **error)
{
    if (address > G_MAXINT64 || len > G_MAXINT64 - address)
        return failed(error, address, g_strerror(EINVAL));
    while (len > 0) {
        ssize_t n = pread(reader->fd, buf, len, (off_t)address);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) /* 0: its memory is gone */
            return failed(error, address, g_strerror(n < 0 ? errno : ESRCH));
        reader->bytes += (gsize)n;
        address += (gsize)n;
        buf += n;
        len -= (gsize)n;
    }
    return TRUE;
}

/* ---- windows ---- */

static MemoryWindow *find(MemoryReader *reader, guint64 address, gsize len)
{
    for (GList *l = reader->windows.head; l; l = l->next) {
        MemoryWindow *window = l->data;

        if (address >= window->address && address - window->address <= window->len &&
            len <= window->len - (address - window->address)) {
            g_queue_unlink(&reader->windows, l);
            g_queue_push_head_link(&reader->windows, l);
            return window;
        }
    }
    return NULL;
}

/* One that nobody holds, if there are enough of them; its buffer has at least that size. */
static MemoryWindow *reuse(MemoryReader *reader, gsize len)
{
    GList *oldest = NULL;
    MemoryWindow *window;
    guint idle = 0;

    for (GList *l = reader->windows.head; l; l = l->next) {
        window = l->data;
        if (window->refs == 0) {
            oldest = l;
            idle++;
        }
    }
    if (idle < IDLE_MAX)
        return NULL;
    window = oldest->data;
    g_queue_delete_link(&reader->windows, oldest);
    if (window->len < len)
        window->bytes = g_realloc(window->bytes, len);
    return window;
}

static MemoryWindow *make(MemoryReader *reader, guint64 address, gsize len, GError **error)
{
    MemoryWindow *window = reuse(reader, len);

    if (!window) {
        window = g_new0(MemoryWindow, 1);
        window->bytes = g_malloc(len);
    }
    /* Also if its buffer is larger: what lies behind was not read. */
    window->address = address;
    window->len = len;
    if (!memory_reader_read(reader, address, window->bytes, len, error)) {
        window_free(window);
        return NULL;
    }
    g_queue_push_head(&reader->windows, window);
    return window;
}

MemoryWindow *memory_reader_get(MemoryReader *reader, guint64 address, gsize len, guint64 end,
                                GError **error)
{
    MemoryWindow *window = find(reader, address, len);

    if (!window) {
        gsize ahead = end > address + len ? (gsize)(end - address) : len;

        g_return_val_if_fail(len > 0 && ahead <= MEMORY_WINDOW_MAX, NULL);
        window = make(reader, address, ahead, error);
    }
    if (window)
        window->refs++;
    return window;
}

void memory_reader_put(MemoryReader *reader, MemoryWindow *window)
{
    g_return_if_fail(window->refs > 0);
    window->refs--;
}

guint64 memory_reader_bytes(const MemoryReader *reader)
{
    return reader->bytes;
}
