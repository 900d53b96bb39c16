/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Dirty logs and guest memory on real memory: private, memfd, huge pages. */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ram/mapped/client_log.h"
#include "ram/mapped/dirty_map.h"
#include "ram/mapped/guest_memory.h"
#include "ram/mapped/pagemap_log.h"
#include "tests/support/mapped-memory.h"

#define PAGE 4096
#define HUGE (2 * 1024 * 1024)
#define PAGES 256
#define LENGTH (PAGES * PAGE)

/* ---- what a log notes ---- */

static void note(guint block, guint64 first, guint64 n, gpointer data)
{
    bitmap_set_range(((Bitmap **)data)[block], first, n);
}

static Bitmap *collect(DirtyLog *log, guint64 pages)
{
    Bitmap *found = bitmap_new(pages);

    assert_true(log->ops->collect(log, 0, note, &found, NULL));
    return found;
}

static guint64 count_dirty(DirtyLog *log, guint64 pages)
{
    g_autoptr(Bitmap) found = collect(log, pages);

    return bitmap_count(found);
}

static void clear(DirtyLog *log, guint64 first, guint64 n, guint64 pages)
{
    g_autoptr(Bitmap) found = bitmap_new(pages);

    assert_true(log->ops->clear(log, 0, first, n, note, &found, NULL));
}

static void check_pagemap_log(MappedKind kind)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(kind, LENGTH, MAPPED_WRITE_LOG);
    g_autoptr(DirtyLog) log = pagemap_log_new(memory->layout, NULL);

    assert_non_null(log);
    assert_false(log->asks_client);
    memset(memory->at, 1, PAGES * PAGE);
    assert_int_equal(count_dirty(log, PAGES), PAGES);
    /* it was only looked at */
    assert_int_equal(count_dirty(log, PAGES), PAGES);
    clear(log, 0, PAGES, PAGES);
    assert_int_equal(count_dirty(log, PAGES), 0);

    memory->at[7 * PAGE] = 2;
    memory->at[200 * PAGE + 1] = 2;
    {
        g_autoptr(Bitmap) found = collect(log, PAGES);

        assert_int_equal(bitmap_count(found), 2);
        assert_true(bitmap_get(found, 7));
        assert_true(bitmap_get(found, 200));
    }
    clear(log, 0, 64, PAGES);
    assert_int_equal(count_dirty(log, PAGES), 1);
}

static void pages_that_were_written_are_noted_until_cleared(void **state)
{
    check_pagemap_log(MAPPED_PRIVATE);
}

static void the_same_of_a_memfd(void **state)
{
    check_pagemap_log(MAPPED_MEMFD);
}

/* More ranges than the kernel tells of in one call. */
static void every_other_page_is_noted_and_cleared(void **state)
{
    const guint64 pages = 4096;
    g_autoptr(MappedMemory) memory = mapped_memory_new(MAPPED_PRIVATE, pages * PAGE,
                                                       MAPPED_WRITE_LOG);
    g_autoptr(DirtyLog) log = pagemap_log_new(memory->layout, NULL);
    Bitmap *found = bitmap_new(pages);

    memset(memory->at, 1, pages * PAGE);
    clear(log, 0, pages, pages);
    for (guint64 i = 1; i < pages; i += 2)
        memory->at[i * PAGE] = 2;
    assert_int_equal(count_dirty(log, pages), pages / 2);
    assert_true(log->ops->clear(log, 0, 0, pages, note, &found, NULL));
    assert_int_equal(bitmap_count(found), pages / 2);
    for (guint64 i = 0; i < pages; i++)
        assert_int_equal(bitmap_get(found, i), i % 2);
    assert_int_equal(count_dirty(log, pages), 0);
    bitmap_free(found);
}

static void clearing_notes_what_was_written_since_the_last_look(void **state)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(MAPPED_MEMFD, LENGTH, MAPPED_WRITE_LOG);
    g_autoptr(DirtyLog) log = pagemap_log_new(memory->layout, NULL);
    g_autoptr(Bitmap) found = bitmap_new(PAGES);

    memset(memory->at, 1, PAGES * PAGE);
    clear(log, 0, PAGES, PAGES);
    memory->at[30 * PAGE] = 2;
    assert_true(log->ops->clear(log, 0, 0, PAGES, note, &found, NULL));
    assert_int_equal(bitmap_count(found), 1);
    assert_true(bitmap_get(found, 30));
    assert_int_equal(count_dirty(log, PAGES), 0);
}

static void a_page_that_is_written_for_the_first_time_is_noted(void **state)
{
    const MappedKind kinds[] = { MAPPED_PRIVATE, MAPPED_MEMFD };

    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autoptr(MappedMemory) memory = mapped_memory_new(kinds[i], LENGTH, MAPPED_WRITE_LOG);
        g_autoptr(DirtyLog) log = pagemap_log_new(memory->layout, NULL);

        clear(log, 0, PAGES, PAGES);
        memory->at[9 * PAGE] = 1;
        {
            g_autoptr(Bitmap) found = collect(log, PAGES);

            assert_true(bitmap_get(found, 9));
        }
    }
}

/* Reclaim takes a memfd's pages out of the page table: whether they were written is not known
 * then. */
static void what_has_left_the_page_table_counts_as_written(void **state)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(MAPPED_MEMFD, LENGTH, MAPPED_WRITE_LOG);
    g_autoptr(DirtyLog) log = pagemap_log_new(memory->layout, NULL);

    memset(memory->at, 1, PAGES * PAGE);
    clear(log, 0, PAGES, PAGES);
    memory->at[50 * PAGE] = 2;
    assert_int_equal(madvise(memory->at + 50 * PAGE, PAGE, MADV_DONTNEED), 0);
    {
        g_autoptr(Bitmap) found = collect(log, PAGES);

        assert_true(bitmap_get(found, 50));
    }
}

static void huge_pages_are_noted_whole(void **state)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(MAPPED_HUGE, 4 * HUGE, MAPPED_WRITE_LOG);
    g_autoptr(DirtyLog) log = NULL;
    guint64 pages = 4 * HUGE / PAGE;

    if (!memory)
        skip();
    log = pagemap_log_new(memory->layout, NULL);
    memset(memory->at, 1, 4 * HUGE);
    assert_int_equal(count_dirty(log, pages), pages);
    clear(log, 0, pages, pages);
    assert_int_equal(count_dirty(log, pages), 0);
    memory->at[2 * HUGE + 5] = 2;
    {
        g_autoptr(Bitmap) found = collect(log, pages);

        assert_int_equal(bitmap_count(found), HUGE / PAGE);
        assert_int_equal(bitmap_next(found, 0), 2 * HUGE / PAGE);
    }
}

static void memory_that_is_not_registered_is_refused_by_name(void **state)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(MAPPED_MEMFD, LENGTH, MAPPED_NO_LOG);
    g_autoptr(DirtyLog) log = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(Bitmap) found = bitmap_new(PAGES);

    mapped_memory_open_pagemap(memory);
    /* A client registers its memory when it is asked to get ready, which is later. */
    log = pagemap_log_new(memory->layout, NULL);
    assert_non_null(log);
    assert_false(log->ops->collect(log, 0, note, &found, &error));
    assert_non_null(strstr(error->message, "\"ram\""));
    assert_non_null(strstr(error->message, "write protection"));
    g_clear_error(&error);
    assert_false(log->ops->clear(log, 0, 0, PAGES, note, &found, &error));
    assert_int_equal(bitmap_count(found), 0);
}

/* ---- with a dirty map, whose guest writes on ---- */

typedef struct {
    MappedMemory *memory;
    int stop;
} Writer;

static gpointer write_on(gpointer data)
{
    Writer *writer = data;
    guint64 n = 0;

    while (!g_atomic_int_get(&writer->stop)) {
        guint64 page = g_random_int_range(0, PAGES);

        n++;
        __atomic_store_n((guint64 *)(gpointer)(writer->memory->at + page * PAGE), n,
                         __ATOMIC_RELAXED);
    }
    return NULL;
}

/* Of which the writer may be writing the first word. */
static void copy_page(guint8 *to, const guint8 *from)
{
    guint64 first = __atomic_load_n((const guint64 *)(gconstpointer)from, __ATOMIC_RELAXED);

    memcpy(to, &first, sizeof first);
    memcpy(to + sizeof first, from + sizeof first, PAGE - sizeof first);
}

/* Takes what is dirty as a source does: prepared, then read. */
static void copy_dirty(DirtyMap *map, const guint8 *from, guint8 *to)
{
    const Bitmap *dirty = dirty_map_bitmap(map, 0);
    guint64 page = 0;
    gboolean cleared;

    while ((page = bitmap_next(dirty, page)) < PAGES) {
        assert_true(dirty_map_prepare(map, 0, page, 1, &cleared, NULL));
        dirty_map_clear(map, 0, page, 1);
        copy_page(to + page * PAGE, from + page * PAGE);
        page++;
    }
}

static void nothing_that_a_running_guest_writes_is_lost(void **state)
{
    for (guint i = 0; i < 4; i++) {
        g_autoptr(MappedMemory) memory =
            mapped_memory_new(i % 2 ? MAPPED_MEMFD : MAPPED_PRIVATE, LENGTH, MAPPED_WRITE_LOG);
        g_autoptr(DirtyLog) log = pagemap_log_new(memory->layout, NULL);
        g_autoptr(GuestMemory) guest = guest_memory_new(memory->layout, NULL);
        g_autoptr(DirtyMap) map = dirty_map_new(guest_memory_blocks(guest), 6, log);
        g_autofree guint8 *copy = g_malloc0(PAGES * PAGE);
        Writer writer = { memory, 0 };
        GThread *thread = g_thread_new("guest", write_on, &writer);
        guint64 dirtied;

        for (guint round = 0; round < 50; round++) {
            copy_dirty(map, memory->at, copy);
            assert_true(dirty_map_sync(map, &dirtied, NULL));
        }
        g_atomic_int_set(&writer.stop, 1);
        g_thread_join(thread);
        assert_true(dirty_map_sync(map, &dirtied, NULL));
        copy_dirty(map, memory->at, copy);
        assert_memory_equal(copy, memory->at, PAGES * PAGE);
    }
}

/* ---- free pages, whose guest takes them into use again ---- */

typedef struct {
    MappedMemory *memory;
    DirtyLog *log;
    GuestMemory *guest;
    DirtyMap *map;
} Hinted;

static void hinted_init(Hinted *h, MappedKind kind)
{
    h->memory = mapped_memory_new(kind, LENGTH, MAPPED_WRITE_LOG);
    memset(h->memory->at, 1, LENGTH);
    h->log = pagemap_log_new(h->memory->layout, NULL);
    h->guest = guest_memory_new(h->memory->layout, NULL);
    h->map = dirty_map_new(guest_memory_blocks(h->guest), 6, h->log);
}

static void hinted_clear(Hinted *h)
{
    dirty_map_free(h->map);
    guest_memory_free(h->guest);
    dirty_log_free(h->log);
    mapped_memory_free(h->memory);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Hinted, hinted_clear)

/* A page whose guest has written it last is sent, now or after the next sync. */
static void expect_sent_in_the_end(Hinted *h, guint64 page)
{
    guint64 dirtied;

    if (bitmap_get(dirty_map_bitmap(h->map, 0), page))
        return;
    assert_true(dirty_map_sync(h->map, &dirtied, NULL));
    assert_true(bitmap_get(dirty_map_bitmap(h->map, 0), page));
}

/* The client has said that it is free, and its guest has written it; before the one is read,
 * another page of the chunk is sent, which takes the other out of the log. */
static void a_write_after_a_hint_that_waits_to_be_read_is_not_lost(void **state)
{
    for (guint kind = MAPPED_PRIVATE; kind <= MAPPED_MEMFD; kind++) {
        g_auto(Hinted) h = { 0 };
        gboolean cleared;

        hinted_init(&h, kind);
        mapped_memory_protect(h.memory, 10 * PAGE, 4 * PAGE);
        h.memory->at[11 * PAGE] = 2;
        assert_true(dirty_map_prepare(h.map, 0, 3, 1, &cleared, NULL));
        assert_true(cleared);
        dirty_map_clear(h.map, 0, 3, 1);
        assert_true(dirty_map_drop(h.map, 0, 10, 4, NULL));
        expect_sent_in_the_end(&h, 11);
        /* The others were dropped, for nobody has written them. */
        assert_true(dirty_map_is_dropped(h.map, 0, 10));
        assert_true(dirty_map_is_dropped(h.map, 0, 12));
        assert_false(dirty_map_is_dropped(h.map, 0, 11));
    }
}

/* The same page free, written, free, written, before the first is read. */
static void a_write_after_the_second_of_two_hints_is_not_lost(void **state)
{
    for (guint kind = MAPPED_PRIVATE; kind <= MAPPED_MEMFD; kind++) {
        g_auto(Hinted) h = { 0 };

        hinted_init(&h, kind);
        for (guint i = 0; i < 2; i++) {
            mapped_memory_protect(h.memory, 10 * PAGE, PAGE);
            h.memory->at[10 * PAGE] = (guint8)(2 + i);
        }
        assert_true(dirty_map_drop(h.map, 0, 10, 1, NULL));
        assert_true(dirty_map_drop(h.map, 0, 10, 1, NULL));
        expect_sent_in_the_end(&h, 10);
    }
}

/* It was written after it was sent, and is found by the next sync, before which everything is
 * acknowledged: not while the first of it may be on its way. */
static void a_hint_makes_no_page_dirty(void **state)
{
    g_auto(Hinted) h = { 0 };
    gboolean cleared;
    guint64 before;

    hinted_init(&h, MAPPED_PRIVATE);
    assert_true(dirty_map_prepare(h.map, 0, 10, 1, &cleared, NULL));
    dirty_map_clear(h.map, 0, 10, 1);
    dirty_map_forget_noted(h.map);
    before = dirty_map_count(h.map);
    h.memory->at[10 * PAGE] = 2;
    assert_true(dirty_map_drop(h.map, 0, 10, 1, NULL));
    assert_false(bitmap_get(dirty_map_bitmap(h.map, 0), 10));
    assert_int_equal(dirty_map_count(h.map), before);
    expect_sent_in_the_end(&h, 10);
}

/* What was said before the log was cleared has all been heard: hints count again. */
static void pages_can_be_dropped_again_once_the_client_was_heard(void **state)
{
    g_auto(Hinted) h = { 0 };
    gboolean cleared;

    hinted_init(&h, MAPPED_PRIVATE);
    assert_true(dirty_map_prepare(h.map, 0, 3, 1, &cleared, NULL));
    mapped_memory_protect(h.memory, 10 * PAGE, PAGE);
    assert_true(dirty_map_drop(h.map, 0, 10, 1, NULL));
    assert_false(dirty_map_is_dropped(h.map, 0, 10));
    dirty_map_forget_noted(h.map);
    assert_true(dirty_map_drop(h.map, 0, 10, 1, NULL));
    assert_true(dirty_map_is_dropped(h.map, 0, 10));
    assert_false(bitmap_get(dirty_map_bitmap(h.map, 0), 10));
}

/* ---- the client's own log ---- */

static void the_clients_bits_are_taken_once(void **state)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(MAPPED_MEMFD, LENGTH, MAPPED_CLIENT_LOG);
    g_autoptr(DirtyLog) log = client_log_new(memory->layout, NULL);

    assert_true(log->asks_client);
    assert_null(log->ops->clear);
    memory->dirty[0] = 0x8000000000000001;
    memory->dirty[1] = G_MAXUINT64;
    memory->dirty[3] = 0x70;
    {
        g_autoptr(Bitmap) found = collect(log, PAGES);

        assert_int_equal(bitmap_count(found), 2 + 64 + 3);
        assert_true(bitmap_get(found, 0));
        assert_true(bitmap_get(found, 63));
        assert_int_equal(bitmap_count_range(found, 64, 64), 64);
        assert_int_equal(bitmap_count_range(found, 196, 3), 3);
    }
    assert_int_equal(count_dirty(log, PAGES), 0);
    assert_int_equal(memory->dirty[1], 0);
}

static void a_log_that_could_shrink_is_refused(void **state)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(MAPPED_MEMFD, LENGTH, MAPPED_NO_LOG);
    g_autoptr(GError) error = NULL;

    memory->layout->dirty_fd = memfd_create("log", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    assert_int_equal(ftruncate(memory->layout->dirty_fd, PAGE), 0);
    assert_null(client_log_new(memory->layout, &error));
    assert_non_null(strstr(error->message, "F_SEAL_SHRINK"));
}

static void a_log_that_is_too_short_is_refused(void **state)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(MAPPED_MEMFD, LENGTH, MAPPED_NO_LOG);
    g_autoptr(GError) error = NULL;

    memory->layout->dirty_fd = memfd_create("log", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    assert_int_equal(ftruncate(memory->layout->dirty_fd, 8), 0);
    assert_int_equal(fcntl(memory->layout->dirty_fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    assert_null(client_log_new(memory->layout, &error));
    assert_non_null(strstr(error->message, "shorter"));
}

/* ---- guest memory ---- */

static void check_memory(MappedKind kind, gsize page)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(kind, 4 * page, MAPPED_NO_LOG);
    g_autoptr(GuestMemory) guest = NULL;
    const guint8 *seen;
    guint block;
    guint64 offset;

    if (!memory)
        skip();
    guest = guest_memory_new(memory->layout, NULL);
    assert_non_null(guest);
    memset(memory->at + page, 0x5a, PAGE);
    assert_true(guest_memory_peek(guest, 0, page, PAGE, &seen, NULL));
    assert_int_equal(seen[0], 0x5a);
    assert_int_equal(seen[PAGE - 1], 0x5a);
    assert_true(guest_memory_peek(guest, 0, 3 * page, PAGE, &seen, NULL));
    assert_int_equal(seen[17], 0);
    assert_true(guest_memory_write(guest, 0, 2 * page + 8, (const guint8 *)"written", 7, NULL));
    assert_memory_equal(memory->at + 2 * page + 8, "written", 7);
    assert_true(guest_memory_find(guest, memory->layout->regions[0].address + page + 3, &block,
                                  &offset));
    assert_int_equal(block, 0);
    assert_int_equal(offset, page + 3);
    assert_false(guest_memory_find(guest, memory->layout->regions[0].address + 4 * page, &block,
                                   &offset));
}

static void memory_of_each_kind_is_read_and_written(void **state)
{
    check_memory(MAPPED_PRIVATE, PAGE);
    check_memory(MAPPED_MEMFD, PAGE);
}

static void memory_in_huge_pages_is_read_and_written(void **state)
{
    check_memory(MAPPED_HUGE, HUGE);
}

static void a_hole_is_found_and_not_filled_by_reading(void **state)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(MAPPED_MEMFD, LENGTH, MAPPED_NO_LOG);
    g_autoptr(GuestMemory) guest = guest_memory_new(memory->layout, NULL);
    const guint8 *seen;

    memory->at[100 * PAGE] = 1;
    assert_int_equal(guest_memory_hole(guest, 0, 0), 100 * PAGE);
    assert_int_equal(guest_memory_hole(guest, 0, 100 * PAGE), 0);
    assert_int_equal(guest_memory_hole(guest, 0, 101 * PAGE), (PAGES - 101) * PAGE);
    assert_true(guest_memory_peek(guest, 0, 0, GUEST_MEMORY_PEEK_MAX, &seen, NULL));
    assert_int_equal(guest_memory_hole(guest, 0, 0), 100 * PAGE);
}

/* Also once pages of zeros were put there by reading, and not where a page was written. */
static void private_memory_that_was_not_touched_is_a_hole(void **state)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(MAPPED_PRIVATE, LENGTH, MAPPED_WRITE_LOG);
    g_autoptr(GuestMemory) guest = guest_memory_new(memory->layout, NULL);
    const guint8 *seen;

    memory->at[100 * PAGE] = 1;
    memory->at[102 * PAGE] = 0;
    assert_int_equal(guest_memory_hole(guest, 0, 0), 100 * PAGE);
    assert_int_equal(guest_memory_hole(guest, 0, 100 * PAGE), 0);
    assert_int_equal(guest_memory_hole(guest, 0, 101 * PAGE), PAGE);
    assert_int_equal(guest_memory_hole(guest, 0, 103 * PAGE), (PAGES - 103) * PAGE);
    assert_true(guest_memory_peek(guest, 0, 0, GUEST_MEMORY_PEEK_MAX, &seen, NULL));
    assert_int_equal(guest_memory_hole(guest, 0, 0), 100 * PAGE);
    memory->at[10 * PAGE] = 1;
    assert_int_equal(guest_memory_hole(guest, 0, 0), 10 * PAGE);
}

/* Whoever reads it hears that it is gone; zeros would be taken for the guest's. */
static void private_memory_that_is_gone_is_no_hole(void **state)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(MAPPED_PRIVATE, LENGTH, MAPPED_WRITE_LOG);
    g_autoptr(GuestMemory) guest = guest_memory_new(memory->layout, NULL);
    g_autoptr(GError) error = NULL;
    const guint8 *seen;

    assert_int_equal(munmap(memory->at + 64 * PAGE, 16 * PAGE), 0);
    assert_int_equal(guest_memory_hole(guest, 0, 64 * PAGE), 0);
    assert_int_equal(guest_memory_hole(guest, 0, 0), 0);
    assert_false(guest_memory_peek(guest, 0, 64 * PAGE, PAGE, &seen, &error));
    assert_non_null(error);
}

/* What stands where the log was cleared is not known: less is found, and never a page that was
 * written. */
static void a_hole_that_the_log_has_covered_is_not_taken_for_more_than_it_is(void **state)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(MAPPED_PRIVATE, LENGTH, MAPPED_WRITE_LOG);
    g_autoptr(DirtyLog) log = pagemap_log_new(memory->layout, NULL);
    g_autoptr(GuestMemory) guest = guest_memory_new(memory->layout, NULL);

    memory->at[100 * PAGE] = 1;
    clear(log, 0, PAGES, PAGES);
    for (guint64 page = 0; page < PAGES; page++)
        assert_true(page * PAGE + guest_memory_hole(guest, 0, page * PAGE) <= 100 * PAGE ||
                    page >= 100);
    assert_int_equal(guest_memory_hole(guest, 0, 100 * PAGE), 0);
}

static void what_is_discarded_reads_as_zeros_and_is_a_hole(void **state)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(MAPPED_MEMFD, LENGTH, MAPPED_NO_LOG);
    g_autoptr(GuestMemory) guest = guest_memory_new(memory->layout, NULL);

    memset(memory->at, 1, PAGES * PAGE);
    assert_true(guest_memory_can_discard(guest, 0));
    assert_true(guest_memory_discard(guest, 0, 8 * PAGE, 4 * PAGE, NULL));
    assert_int_equal(guest_memory_hole(guest, 0, 8 * PAGE), 4 * PAGE);
    assert_int_equal(memory->at[8 * PAGE], 0);
    assert_int_equal(memory->at[12 * PAGE], 1);
}

static void private_memory_cannot_be_discarded_from_here(void **state)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(MAPPED_PRIVATE, LENGTH, MAPPED_NO_LOG);
    g_autoptr(GuestMemory) guest = guest_memory_new(memory->layout, NULL);

    assert_false(guest_memory_can_discard(guest, 0));
    assert_int_equal(guest_memory_hole(guest, 0, 0), 0);
}

static void memory_that_was_unmapped_is_an_error_with_its_name(void **state)
{
    g_autoptr(MappedMemory) memory = mapped_memory_new(MAPPED_PRIVATE, LENGTH, MAPPED_NO_LOG);
    g_autoptr(GuestMemory) guest = guest_memory_new(memory->layout, NULL);
    g_autoptr(GError) error = NULL;
    const guint8 *seen;

    assert_int_equal(munmap(memory->at + 8 * PAGE, PAGE), 0);
    assert_false(guest_memory_peek(guest, 0, 7 * PAGE, 2 * PAGE, &seen, &error));
    assert_non_null(strstr(error->message, "\"ram\", offset 32768"));
}

static void regions_that_are_no_use_are_refused_by_name(void **state)
{
    const struct {
        int seals;
        gsize length;
        const char *says;
    } bad[] = {
        { 0, PAGES * PAGE, "F_SEAL_SHRINK" },
        { F_SEAL_SHRINK, PAGES * PAGE - 1, "shorter" },
    };

    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(MappedMemory) memory =
            mapped_memory_new(MAPPED_MEMFD, LENGTH, MAPPED_NO_LOG);
        g_autoptr(GError) error = NULL;
        MemoryRegion *region = &memory->layout->regions[0];

        close(region->fd);
        region->fd = memfd_create("bad", MFD_ALLOW_SEALING | MFD_CLOEXEC);
        assert_int_equal(ftruncate(region->fd, (off_t)bad[i].length), 0);
        assert_int_equal(fcntl(region->fd, F_ADD_SEALS, bad[i].seals), 0);
        assert_null(guest_memory_new(memory->layout, &error));
        assert_non_null(strstr(error->message, bad[i].says));
        assert_non_null(strstr(error->message, "\"ram\""));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_that_were_written_are_noted_until_cleared),
        cmocka_unit_test(the_same_of_a_memfd),
        cmocka_unit_test(every_other_page_is_noted_and_cleared),
        cmocka_unit_test(clearing_notes_what_was_written_since_the_last_look),
        cmocka_unit_test(a_page_that_is_written_for_the_first_time_is_noted),
        cmocka_unit_test(what_has_left_the_page_table_counts_as_written),
        cmocka_unit_test(huge_pages_are_noted_whole),
        cmocka_unit_test(memory_that_is_not_registered_is_refused_by_name),
        cmocka_unit_test(nothing_that_a_running_guest_writes_is_lost),
        cmocka_unit_test(a_write_after_a_hint_that_waits_to_be_read_is_not_lost),
        cmocka_unit_test(a_write_after_the_second_of_two_hints_is_not_lost),
        cmocka_unit_test(a_hint_makes_no_page_dirty),
        cmocka_unit_test(pages_can_be_dropped_again_once_the_client_was_heard),
        cmocka_unit_test(the_clients_bits_are_taken_once),
        cmocka_unit_test(a_log_that_could_shrink_is_refused),
        cmocka_unit_test(a_log_that_is_too_short_is_refused),
        cmocka_unit_test(memory_of_each_kind_is_read_and_written),
        cmocka_unit_test(memory_in_huge_pages_is_read_and_written),
        cmocka_unit_test(a_hole_is_found_and_not_filled_by_reading),
        cmocka_unit_test(private_memory_that_was_not_touched_is_a_hole),
        cmocka_unit_test(private_memory_that_is_gone_is_no_hole),
        cmocka_unit_test(a_hole_that_the_log_has_covered_is_not_taken_for_more_than_it_is),
        cmocka_unit_test(what_is_discarded_reads_as_zeros_and_is_a_hole),
        cmocka_unit_test(private_memory_cannot_be_discarded_from_here),
        cmocka_unit_test(memory_that_was_unmapped_is_an_error_with_its_name),
        cmocka_unit_test(regions_that_are_no_use_are_refused_by_name),
    };

    return cmocka_run_group_tests(tests, mapped_memory_reserve_huge, mapped_memory_return_huge);
}
