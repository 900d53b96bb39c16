/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads the memory of another process by its /proc/PID/mem, ahead of what is asked for.
 *
 * What was read is kept in windows, each as long as somebody holds it or nothing newer needs its
 * place. Nothing is read twice to find out whether it has changed: for memory that does not change
 * any more. The descriptor belongs to the memory it was opened for: when that process has ended,
 * nothing can be read, also if another one has its number. One thread. */
#pragma once

#include <glib.h>

/* A host page larger than this cannot be read. */
#define MEMORY_WINDOW_MAX (4 * 1024 * 1024)

typedef struct MemoryReader MemoryReader;

/* A piece of memory that was read. Only looked at. */
typedef struct {
    guint64 address;
    gsize len;
    guint8 *bytes;
    guint refs;
} MemoryWindow;

/* Takes fd. */
MemoryReader *memory_reader_new(int fd);
void memory_reader_free(MemoryReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MemoryReader, memory_reader_free)

/* All of it, or an error (RAM_ERROR_STATE): the process is gone, or nothing is there. */
gboolean memory_reader_read(MemoryReader *reader, guint64 address, guint8 *buf, gsize len,
                            GError **error);

/* A window that holds [address, address + len), and at least up to `end` if it is made now (both
 * within MEMORY_WINDOW_MAX). Give it back with memory_reader_put(). NULL: as memory_reader_read().
 * */
MemoryWindow *memory_reader_get(MemoryReader *reader, guint64 address, gsize len, guint64 end,
                                GError **error);
void memory_reader_put(MemoryReader *reader, MemoryWindow *window);

/* Bytes that were read so far, windows and all. */
guint64 memory_reader_bytes(const MemoryReader *reader);
