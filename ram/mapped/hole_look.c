/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private memory is looked at from one place to the next in larger and larger steps. The
 * background has a look of its own beside that of the pages that are asked for: who jumps about
 * looks at little, and spoils nothing.
 *
 * Of a file only the next place with data can be asked for (the end of data would be looked for
 * page by page, however far it is), which is quick. So data is read in larger and larger pieces
 * until there is a hole. */
#include "config.h"

#include "ram/mapped/hole_look.h"

/* The longest look takes less than a millisecond. */
#define LOOK_MIN (64 * 1024)
#define LOOK_MAX (64 * 1024 * 1024)
#define LOOKS 2
#define ZEROS_MAX 1024

typedef struct {
    guint block;
    guint64 start;
    guint64 end;    /* looked at as far as here; start: not at all */
    guint64 length; /* that was to be looked at */
    guint n;        /* of what is zeros, in order */
    guint at;       /* the first one that did not end before what was asked last */
    MemoryRange zeros[ZEROS_MAX];
} Look;

typedef struct {
    guint block;
    guint64 asked; /* what was found there last */
    guint64 zeros;
    gboolean is_known;
    guint64 data_end; /* data is read up to here, in pieces of data_length */
    guint64 data_length;
} FileLook;

struct HoleLook {
    GuestMemory *memory;
    Look looks[LOOKS];
    guint last; /* the one that was used last */
    FileLook file;
};

HoleLook *hole_look_new(GuestMemory *memory)
{
    HoleLook *look = g_new0(HoleLook, 1);

    look->memory = memory;
    return look;
}

void hole_look_free(HoleLook *look)
{
    g_free(look);
}

void hole_look_forget(HoleLook *look)
{
    for (guint i = 0; i < LOOKS; i++)
        look->looks[i].start = look->looks[i].end = 0;
    look->file.is_known = FALSE;
}

/* ---- private memory ---- */

static void look_at(HoleLook *self, Look *look, guint block, guint64 offset, guint64 length)
{
    guint64 left = guest_memory_region(self->memory, block)->length - offset;

    *look = (Look){ .block = block, .start = offset, .length = length };
    length = MIN(length, left);
    look->end = offset + guest_memory_find_zeros(self->memory, block, offset, length, look->zeros,
                                                 ZEROS_MAX, &look->n);
    /* Then it is read. */
    if (look->end == offset)
        look->end = offset + length;
}

static gboolean has(const Look *look, guint block, guint64 offset)
{
    return look->block == block && offset >= look->start && offset < look->end;
}

static Look *find_look(HoleLook *self, guint block, guint64 offset)
{
    Look *look;

    for (guint i = 0; i < LOOKS; i++) {
        look = &self->looks[i];
        if (has(look, block, offset)) {
            self->last = i;
            return look;
        }
        if (look->end > look->start && look->block == block && look->end == offset) {
            self->last = i;
            look_at(self, look, block, offset, MIN(2 * look->length, (guint64)LOOK_MAX));
            return look;
        }
    }
    self->last = (self->last + 1) % LOOKS;
    look = &self->looks[self->last];
    look_at(self, look, block, offset, LOOK_MIN);
    return look;
}

/* The first range of zeros that ends behind offset; NULL: none. */
static const MemoryRange *next_zeros(Look *look, guint64 offset)
{
    if (look->at > 0 && look->zeros[look->at - 1].start + look->zeros[look->at - 1].length > offset)
        look->at = 0;
    while (look->at < look->n &&
           look->zeros[look->at].start + look->zeros[look->at].length <= offset)
        look->at++;
    return look->at < look->n ? &look->zeros[look->at] : NULL;
}

/* ---- files ---- */

static gboolean is_file(const HoleLook *self, guint block)
{
    return guest_memory_region(self->memory, block)->fd >= 0;
}

static guint64 file_zeros(HoleLook *self, guint block, guint64 offset)
{
    FileLook *file = &self->file;

    if (file->block != block)
        *file = (FileLook){ .block = block };
    if (!file->is_known || file->asked != offset)
        file->zeros = guest_memory_hole(self->memory, block, offset);
    file->asked = offset;
    file->is_known = TRUE;
    return file->zeros;
}

static guint64 file_data(HoleLook *self, guint block, guint64 offset)
{
    guint64 left = guest_memory_region(self->memory, block)->length - offset;
    FileLook *file = &self->file;
    gboolean goes_on = file->data_length > 0 && file->block == block && file->data_end == offset;

    file->data_length = goes_on ? MIN(2 * file->data_length, (guint64)GUEST_MEMORY_PEEK_MAX)
                                : guest_memory_layout(self->memory)->target_page;
    file->data_end = offset + file->data_length;
    return MIN(file->data_length, left);
}

/* ---- asking ---- */

guint64 hole_look_zeros(HoleLook *self, guint block, guint64 offset)
{
    const MemoryRange *zeros;

    if (is_file(self, block))
        return file_zeros(self, block, offset);
    zeros = next_zeros(find_look(self, block, offset), offset);
    return zeros && zeros->start <= offset ? zeros->start + zeros->length - offset : 0;
}

guint64 hole_look_data(HoleLook *self, guint block, guint64 offset)
{
    const MemoryRange *zeros;
    Look *look;

    if (is_file(self, block))
        return file_data(self, block, offset);
    look = find_look(self, block, offset);
    zeros = next_zeros(look, offset);
    return (zeros ? zeros->start : look->end) - offset;
}
