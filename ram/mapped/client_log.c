/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/client_log.h"

#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gi18n.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define WORD_BITS 64

typedef struct {
    DirtyLog log;
    const MemoryLayout *layout;
    guint64 *words; /* shared with the client */
    gsize bytes;
} ClientLog;

/* Notes the runs of ones. */
static void note_word(guint block, guint64 first, guint64 word, DirtyLogNote note, gpointer data)
{
    while (word != 0) {
        guint begin = (guint)__builtin_ctzll(word);
        guint64 rest = ~(word >> begin);
        guint n = rest == 0 ? WORD_BITS : (guint)__builtin_ctzll(rest);

        note(block, first + begin, n, data);
        if (begin + n >= WORD_BITS)
            return;
        word &= G_MAXUINT64 << (begin + n);
    }
}

static gboolean client_collect(DirtyLog *log, guint block, DirtyLogNote note, gpointer data,
                               GError **error)
{
    ClientLog *self = (ClientLog *)log;
    guint64 *words = self->words + memory_layout_bitmap_offset(self->layout, block) / 8;
    guint64 pages = self->layout->regions[block].length / self->layout->target_page;

    for (guint64 first = 0; first < pages; first += WORD_BITS, words++) {
        /* The client may be writing it: most are 0, and need no exchange. */
        if (__atomic_load_n(words, __ATOMIC_RELAXED) == 0)
            continue;
        note_word(block, first, __atomic_exchange_n(words, 0, __ATOMIC_ACQ_REL), note, data);
    }
    return TRUE;
}

static void client_free(DirtyLog *log)
{
    ClientLog *self = (ClientLog *)log;

    if (self->words)
        munmap(self->words, self->bytes);
    g_free(self);
}

static const DirtyLogOps client_ops = { .collect = client_collect, .free = client_free };

static gboolean refuse(GError **error, const char *what)
{
    g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID, _("the dirty log's descriptor: %s"), what);
    return FALSE;
}

static gboolean map_bitmaps(ClientLog *self, GError **error)
{
    int fd = self->layout->dirty_fd;
    int seals = fcntl(fd, F_GET_SEALS);
    struct stat st;
    void *at;

    self->bytes = memory_layout_bitmaps_bytes(self->layout);
    if (seals < 0)
        return refuse(error, _("it is not a memfd"));
    if (!(seals & F_SEAL_SHRINK))
        return refuse(error, _("it is not sealed against shrinking (F_SEAL_SHRINK)"));
    if (fstat(fd, &st) < 0)
        return refuse(error, g_strerror(errno));
    if ((guint64)st.st_size < self->bytes)
        return refuse(error, _("it is shorter than the bitmaps of all regions"));
    at = mmap(NULL, self->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return refuse(error, g_strerror(errno));
    self->words = at;
    return TRUE;
}

DirtyLog *client_log_new(const MemoryLayout *layout, GError **error)
{
    ClientLog *self = g_new0(ClientLog, 1);

    self->log.ops = &client_ops;
    self->log.asks_client = TRUE;
    self->layout = layout;
    if (map_bitmaps(self, error))
        return &self->log;
    client_free(&self->log);
    return NULL;
}
