/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pages into another process's memory, through the userfaultfd it has handed over: for real. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include "ram/uffd/faults.h"
#include "ram/uffd/sink.h"
#include "ram/uffd/uffd.h"
#include "tests/support/memory-owner.h"

#define PAGE 4096
#define HUGE_PAGE (2 * 1024 * 1024)

typedef struct {
    Owner *owner;
    RamBlocks *blocks;
    UffdMap *map;
    UffdSink *sink;
    RamSink *base;
    guint8 *data; /* what all pages are to hold */
    guint64 fresh; /* bytes, as the sink has told */
    guint64 existed;
} World;

static void on_placed(guint block, guint64 offset, guint64 length, gboolean existed, gpointer data)
{
    World *w = data;

    assert_int_equal(block, 0);
    assert_int_equal((offset | length) % w->owner->page_size, 0);
    if (existed)
        w->existed += length;
    else
        w->fresh += length;
}

static void world_init(World *w, const OwnerConfig *config)
{
    UffdRange range;

    *w = (World){ .owner = owner_start(config) };
    w->blocks = ram_blocks_new();
    assert_true(ram_blocks_add(w->blocks, (const guint8 *)"ram", 3,
                               config->page_size * config->n_pages, config->page_size, NULL, NULL));
    w->map = uffd_map_new();
    owner_range(w->owner, 0, &range);
    assert_true(uffd_map_add(w->map, &range, NULL));
    w->sink = uffd_sink_new(w->owner->uffd, w->map, w->blocks, on_placed, w);
    w->base = uffd_sink_base(w->sink);
    w->data = g_malloc(config->page_size * config->n_pages);
    for (guint i = 0; i < config->n_pages; i++)
        owner_fill(w->data + i * config->page_size, config->page_size, i);
}

static void world_clear(World *w)
{
    uffd_sink_free(w->sink);
    uffd_map_free(w->map);
    ram_blocks_free(w->blocks);
    owner_free(w->owner);
    g_free(w->data);
}

static void start(World *w, UffdBacking backing, gsize page_size, guint n_pages)
{
    OwnerConfig config = {
        .backing = backing, .page_size = page_size, .n_pages = n_pages, .memfd = -1
    };

    world_init(w, &config);
}

/* A target page. */
static void put(World *w, guint64 offset)
{
    QemuPage page = { .block = 0, .offset = offset, .kind = QEMU_PAGE_RAW,
                      .data = w->data + offset, .data_len = PAGE };

    assert_true(w->base->ops->room(w->base) > 0);
    w->base->ops->place(w->base, &page);
}

static void put_zero(World *w, guint64 offset)
{
    QemuPage page = { .block = 0, .offset = offset, .kind = QEMU_PAGE_ZERO };

    w->base->ops->place(w->base, &page);
}

static void put_all(World *w, guint64 from, guint64 to)
{
    for (guint64 offset = from; offset < to; offset += PAGE)
        put(w, offset);
}

static void flush(World *w)
{
    GError *error = NULL;

    assert_true(w->base->ops->flush(w->base, &error));
    assert_null(error);
    assert_true(w->base->ops->is_empty(w->base));
}

static GError *flush_fails(World *w)
{
    GError *error = NULL;

    assert_false(w->base->ops->flush(w->base, &error));
    assert_non_null(error);
    return error;
}

static guint64 wrong_pages(World *w)
{
    owner_ask(w->owner, OWNER_TOUCH, 1, 0);
    return owner_ask(w->owner, OWNER_WAIT, 0, 0);
}

/* ---- runs ---- */

static void run_goes_in_one_call(UffdBacking backing)
{
    UffdSinkStats stats;
    World w;

    start(&w, backing, PAGE, 64);
    put_all(&w, 0, 64 * PAGE);
    flush(&w);
    uffd_sink_get_stats(w.sink, &stats);
    assert_int_equal(stats.copies, 1);
    assert_int_equal(stats.bytes, 64 * PAGE);
    assert_int_equal(w.fresh, 64 * PAGE);
    assert_int_equal(wrong_pages(&w), 0);
    world_clear(&w);
}

static void a_run_goes_in_one_call(void **state)
{
    run_goes_in_one_call(UFFD_ANON);
    run_goes_in_one_call(UFFD_SHMEM);
}

static void a_gap_ends_a_run(void **state)
{
    UffdSinkStats stats;
    World w;

    start(&w, UFFD_ANON, PAGE, 64);
    put_all(&w, 0, 8 * PAGE);
    put_all(&w, 9 * PAGE, 64 * PAGE);
    put(&w, 8 * PAGE);
    flush(&w);
    uffd_sink_get_stats(w.sink, &stats);
    assert_int_equal(stats.copies, 3);
    assert_int_equal(wrong_pages(&w), 0);
    world_clear(&w);
}

static void zero_run_goes_in_one_call(UffdBacking backing)
{
    UffdSinkStats stats;
    World w;

    start(&w, backing, PAGE, 512);
    for (guint i = 0; i < 500; i++)
        put_zero(&w, i * PAGE);
    put_all(&w, 500 * PAGE, 512 * PAGE);
    flush(&w);
    uffd_sink_get_stats(w.sink, &stats);
    assert_int_equal(stats.zeropages, 1);
    assert_int_equal(stats.copies, 1);
    assert_int_equal(owner_ask(w.owner, OWNER_LOOK, 499, 0), 0);
    assert_int_equal(wrong_pages(&w), 500);
    world_clear(&w);
}

static void zero_pages_go_in_one_call(void **state)
{
    zero_run_goes_in_one_call(UFFD_ANON);
    zero_run_goes_in_one_call(UFFD_SHMEM);
}

static void put_page_kinds(World *w)
{
    guint8 packed[PAGE];
    uLongf len = sizeof packed;
    QemuPage page = { .block = 0, .offset = 0, .kind = QEMU_PAGE_COMPRESSED, .data = packed };

    assert_int_equal(compress(packed, &len, w->data, PAGE), Z_OK);
    page.data_len = len;
    w->base->ops->place(w->base, &page);
    page = (QemuPage){ .block = 0, .offset = PAGE, .kind = QEMU_PAGE_ZERO, .fill = 0x5c };
    w->base->ops->place(w->base, &page);
    put(w, 2 * PAGE);
}

static void pages_of_qemus_own_kinds_are_unpacked(void **state)
{
    World w;

    start(&w, UFFD_ANON, PAGE, 3);
    put_page_kinds(&w);
    flush(&w);
    assert_int_equal(wrong_pages(&w), 1);
    assert_int_equal(owner_ask(w.owner, OWNER_LOOK, 1, 0), 0x5c5c5c5c5c5c5c5c);
    world_clear(&w);
}

static void a_compressed_page_that_is_none_is_refused(void **state)
{
    guint8 junk[32] = { 1, 2, 3 };
    QemuPage page = { .block = 0, .kind = QEMU_PAGE_COMPRESSED, .data = junk,
                      .data_len = sizeof junk };
    g_autoptr(GError) error = NULL;
    World w;

    start(&w, UFFD_ANON, PAGE, 1);
    w.base->ops->place(w.base, &page);
    error = flush_fails(&w);
    assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL));
    world_clear(&w);
}

/* ---- pages that are there ---- */

static void existing_pages_are_left(UffdBacking backing, gboolean zero)
{
    World w;

    start(&w, backing, PAGE, 16);
    put(&w, 5 * PAGE);
    put(&w, 15 * PAGE);
    flush(&w);
    for (guint i = 0; i < 16; i++) {
        if (zero)
            put_zero(&w, i * PAGE);
        else
            put(&w, i * PAGE);
    }
    flush(&w);
    assert_int_equal(w.existed, 2 * PAGE);
    assert_int_equal(w.fresh, 16 * PAGE);
    assert_int_equal(wrong_pages(&w), zero ? 14 : 0);
    world_clear(&w);
}

static void a_page_that_is_there_is_a_duplicate_and_the_rest_of_its_run_is_placed(void **state)
{
    existing_pages_are_left(UFFD_ANON, FALSE);
    existing_pages_are_left(UFFD_SHMEM, FALSE);
    existing_pages_are_left(UFFD_ANON, TRUE);
    existing_pages_are_left(UFFD_SHMEM, TRUE);
}

/* What is written into a memfd wakes nobody; placing it again does. */
static void who_waits_for_a_page_that_is_there_is_woken(void **state)
{
    struct pollfd poll_fd = { .events = POLLIN };
    World w;

    start(&w, UFFD_SHMEM, PAGE, 4);
    owner_ask(w.owner, OWNER_TOUCH, 1, 1 + 2);
    poll_fd.fd = w.owner->uffd;
    assert_int_equal(poll(&poll_fd, 1, 10000), 1);
    assert_int_equal(pwrite(w.owner->memfd, w.data + 2 * PAGE, PAGE, 2 * PAGE), PAGE);
    put(&w, 2 * PAGE);
    flush(&w);
    assert_int_equal(w.existed, PAGE);
    assert_int_equal(owner_ask(w.owner, OWNER_WAIT, 0, 0), 0);
    world_clear(&w);
}

/* ---- mappings that are not what they were ---- */

static void a_split_mapping_takes_pages_one_by_one(void **state)
{
    World w;

    start(&w, UFFD_ANON, PAGE, 16);
    assert_int_equal(owner_ask(w.owner, OWNER_PROTECT, 7, 0), 0);
    put_all(&w, 0, 16 * PAGE);
    flush(&w);
    assert_int_equal(w.fresh, 16 * PAGE);
    assert_int_equal(wrong_pages(&w), 0);
    world_clear(&w);
}

static void memory_that_is_unmapped_is_named(void **state)
{
    g_autoptr(GError) error = NULL;
    World w;

    start(&w, UFFD_ANON, PAGE, 16);
    assert_int_equal(owner_ask(w.owner, OWNER_UNMAP, 8, 8), 0);
    put_all(&w, 0, 16 * PAGE);
    error = flush_fails(&w);
    assert_true(g_error_matches(error, UFFD_ERROR, UFFD_ERROR_UNMAPPED));
    assert_int_equal(w.fresh, 8 * PAGE);
    world_clear(&w);
}

static void a_process_that_has_ended_is_said_to_have(void **state)
{
    g_autoptr(GError) error = NULL;
    World w;

    start(&w, UFFD_ANON, PAGE, 16);
    kill(w.owner->pid, SIGKILL);
    waitpid(w.owner->pid, NULL, 0);
    put_all(&w, 0, 16 * PAGE);
    error = flush_fails(&w);
    assert_true(g_error_matches(error, UFFD_ERROR, UFFD_ERROR_GONE));
    world_clear(&w);
}

/* An owner that waits for its event to be read lets nothing be placed meanwhile. */
static void what_the_kernel_cannot_take_now_is_kept(void **state)
{
    OwnerConfig config = {
        .backing = UFFD_ANON, .page_size = PAGE, .n_pages = 16,
        .features = UFFD_FEATURE_EVENT_UNMAP, .memfd = -1
    };
    UffdEvent events[UFFD_EVENTS_MAX];
    struct pollfd poll_fd = { .events = POLLIN };
    UffdSinkStats stats;
    guint n;
    World w;

    world_init(&w, &config);
    owner_ask(w.owner, OWNER_UNMAP_LATE, 15, 1);
    poll_fd.fd = w.owner->uffd;
    assert_int_equal(poll(&poll_fd, 1, 10000), 1);
    put_all(&w, 0, 8 * PAGE);
    put(&w, 12 * PAGE);
    assert_true(w.base->ops->flush(w.base, NULL));
    assert_false(w.base->ops->is_empty(w.base));
    assert_int_equal(w.base->ops->room(w.base), 0);
    assert_int_equal(w.fresh, 0);

    assert_true(uffd_read_events(w.owner->uffd, w.map, events, &n, NULL));
    assert_int_equal(n, 1);
    assert_int_equal(events[0].type, UFFD_EV_UNMAPPED);
    assert_int_equal(events[0].address, w.owner->address + 15 * PAGE);
    assert_int_equal(events[0].length, PAGE);
    owner_ask(w.owner, OWNER_WAIT, 0, 0);
    flush(&w);
    assert_int_equal(w.fresh, 9 * PAGE);
    assert_true(w.base->ops->room(w.base) > 0);
    uffd_sink_get_stats(w.sink, &stats);
    assert_true(stats.again > 0);
    world_clear(&w);
}

static void a_page_of_no_memory_is_refused(void **state)
{
    g_autoptr(GError) error = NULL;
    QemuPage page = { .block = 3, .kind = QEMU_PAGE_ZERO };
    World w;

    start(&w, UFFD_ANON, PAGE, 1);
    w.base->ops->place(w.base, &page);
    error = flush_fails(&w);
    assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL));
    world_clear(&w);
}

/* ---- huge pages ---- */

#define NR_HUGE "/proc/sys/vm/nr_hugepages"

static gint64 huge_pages(void)
{
    g_autofree char *text = NULL;

    return g_file_get_contents(NR_HUGE, &text, NULL, NULL) ? g_ascii_strtoll(text, NULL, 10) : 0;
}

/* By how many there were before: others may have theirs. */
static gint64 change_huge_pages(gint64 by)
{
    gint64 before = huge_pages();
    FILE *file = fopen(NR_HUGE, "w");

    if (!file)
        return 0;
    fprintf(file, "%" G_GINT64_FORMAT "\n", before + by);
    fclose(file);
    return huge_pages() - before;
}

static void huge_pages_are_put_together(void **state)
{
    gint64 got = change_huge_pages(3);
    UffdSinkStats stats;
    World w;

    if (got < 3) {
        change_huge_pages(-got);
        print_message("no huge pages to be had\n");
        skip();
    }
    start(&w, UFFD_HUGETLB, HUGE_PAGE, 3);
    put_all(&w, 0, HUGE_PAGE - PAGE);
    flush(&w);
    assert_true(uffd_sink_in_host_page(w.sink));
    assert_int_equal(w.fresh, 0);
    put(&w, HUGE_PAGE - PAGE);
    flush(&w);
    assert_int_equal(w.fresh, HUGE_PAGE);
    /* Zeros in front of data, and behind it. */
    for (guint64 at = HUGE_PAGE; at < 2 * HUGE_PAGE; at += PAGE)
        (at == HUGE_PAGE + 7 * PAGE ? put : put_zero)(&w, at);
    for (guint64 at = 2 * HUGE_PAGE; at < 3 * HUGE_PAGE; at += PAGE)
        put_zero(&w, at);
    flush(&w);
    uffd_sink_get_stats(w.sink, &stats);
    assert_int_equal(stats.copies, 3);
    assert_int_equal(stats.zeropages, 0);
    assert_int_equal(w.fresh, 3 * HUGE_PAGE);
    assert_int_equal(owner_ask(w.owner, OWNER_LOOK, 1, 0), 0);
    assert_int_equal(owner_ask(w.owner, OWNER_LOOK, 2, 0), 0);
    assert_int_equal(wrong_pages(&w), 2);
    world_clear(&w);
    change_huge_pages(-got);
}

/* Host pages of 16 KiB: no memory of theirs is needed to say no. */
static GError *torn(guint64 first, guint64 second)
{
    GError *error;
    World w;

    start(&w, UFFD_ANON, 4 * PAGE, 4);
    put(&w, first);
    if (second != G_MAXUINT64)
        put(&w, second);
    error = flush_fails(&w);
    assert_int_equal(w.fresh, 0);
    world_clear(&w);
    return error;
}

static void pieces_of_a_host_page_that_are_not_in_order_are_refused(void **state)
{
    static const guint64 rows[][2] = {
        { PAGE, G_MAXUINT64 }, /* not from its start */
        { 0, 2 * PAGE },       /* a gap */
        { 0, 0 },              /* again */
        { 0, 4 * PAGE },       /* another one's */
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = torn(rows[i][0], rows[i][1]);

        assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL));
    }
}

static void a_host_page_can_begin_again(void **state)
{
    World w;

    start(&w, UFFD_ANON, 4 * PAGE, 1);
    put(&w, 0);
    put(&w, PAGE);
    uffd_sink_drop_host_page(w.sink);
    put_all(&w, 0, 4 * PAGE);
    flush(&w);
    assert_int_equal(w.fresh, 4 * PAGE);
    assert_int_equal(wrong_pages(&w), 0);
    world_clear(&w);
}

/* ---- memory that is not as it must be ---- */

/* A page is written into memory that huge pages come to by themselves: all the others are not missing any more.
 * That is why they are kept away. */
static void huge_pages_that_come_by_themselves_are_kept_away(void **state)
{
    OwnerConfig config = { .backing = UFFD_ANON, .page_size = PAGE, .n_pages = 512, .huge = TRUE,
                           .unregistered = TRUE, .memfd = -1 };
    World w;

    world_init(&w, &config);
    assert_int_equal(owner_ask(w.owner, OWNER_THP_OFF, 0, 0), 0);
    owner_ask(w.owner, OWNER_WRITE, 0, 0);
    assert_true(uffd_register(w.owner->uffd, w.owner->address, 512 * PAGE, NULL, NULL));
    put_all(&w, PAGE, 512 * PAGE);
    flush(&w);
    assert_int_equal(w.existed, 0);
    assert_int_equal(wrong_pages(&w), 0);
    world_clear(&w);
}

static void locked_memory_has_missing_pages_once_it_is_unlocked(void **state)
{
    World w;

#ifdef SANITIZERS
    /* They make mlock() do nothing. */
    skip();
#endif
    start(&w, UFFD_ANON, PAGE, 4);
    put_all(&w, 0, 4 * PAGE);
    flush(&w);
    assert_int_equal(owner_ask(w.owner, OWNER_LOCK, 0, 0), 0);
    assert_int_not_equal(owner_ask(w.owner, OWNER_DISCARD, 0, 4), 0);
    assert_int_equal(owner_ask(w.owner, OWNER_UNLOCK, 0, 0), 0);
    assert_int_equal(owner_ask(w.owner, OWNER_DISCARD, 0, 4), 0);
    w.fresh = 0;
    put_all(&w, 0, 4 * PAGE);
    flush(&w);
    assert_int_equal(w.fresh, 4 * PAGE);
    assert_int_equal(owner_ask(w.owner, OWNER_LOCK, 0, 0), 0);
    world_clear(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_goes_in_one_call),
        cmocka_unit_test(a_gap_ends_a_run),
        cmocka_unit_test(zero_pages_go_in_one_call),
        cmocka_unit_test(pages_of_qemus_own_kinds_are_unpacked),
        cmocka_unit_test(a_compressed_page_that_is_none_is_refused),
        cmocka_unit_test(a_page_that_is_there_is_a_duplicate_and_the_rest_of_its_run_is_placed),
        cmocka_unit_test(who_waits_for_a_page_that_is_there_is_woken),
        cmocka_unit_test(a_split_mapping_takes_pages_one_by_one),
        cmocka_unit_test(memory_that_is_unmapped_is_named),
        cmocka_unit_test(a_process_that_has_ended_is_said_to_have),
        cmocka_unit_test(what_the_kernel_cannot_take_now_is_kept),
        cmocka_unit_test(a_page_of_no_memory_is_refused),
        cmocka_unit_test(huge_pages_are_put_together),
        cmocka_unit_test(pieces_of_a_host_page_that_are_not_in_order_are_refused),
        cmocka_unit_test(a_host_page_can_begin_again),
        cmocka_unit_test(huge_pages_that_come_by_themselves_are_kept_away),
        cmocka_unit_test(locked_memory_has_missing_pages_once_it_is_unlocked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
