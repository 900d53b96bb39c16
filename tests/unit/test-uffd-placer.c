/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The thread that places pages of the background, in another process's memory: for real. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ram/uffd/faults.h"
#include "ram/uffd/pace.h"
#include "ram/uffd/placer.h"
#include "ram/uffd/sink.h"
#include "ram/uffd/uffd.h"
#include "tests/support/memory-owner.h"

#define PAGE 4096
#define SLOT_PAGES (UFFD_PLACER_SLOT / PAGE)
#define ROOM_PAGES (UFFD_PLACER_ROOM / PAGE)
#define N_PAGES (4 * ROOM_PAGES)
#define WAIT_MS 20000

typedef struct {
    Owner *owner;
    UffdRange range;
    UffdMap *map;
    UffdPlacer *placer;
    guint8 *data;    /* what all pages are to hold */
    guint8 *fresh;   /* by page: how often it was reported */
    guint8 *existed; /* the same, as one that was there */
    guint8 *noted;   /* and of both, by the thread */
} World;

static void on_placed(guint block, guint64 offset, guint64 length, gboolean existed, gpointer data)
{
    World *w = data;

    assert_int_equal(block, 0);
    assert_int_equal((offset | length) % PAGE, 0);
    assert_true(length > 0 && offset + length <= N_PAGES * PAGE);
    for (guint64 i = offset / PAGE; i < (offset + length) / PAGE; i++)
        (existed ? w->existed : w->fresh)[i]++;
}

static void on_noted(guint block, guint64 offset, guint64 length, gboolean existed, gpointer data)
{
    World *w = data;

    for (guint64 i = offset / PAGE; i < (offset + length) / PAGE; i++)
        w->noted[i]++;
}

static void world_init(World *w, guint64 features)
{
    OwnerConfig config = {
        .backing = UFFD_ANON, .page_size = PAGE, .n_pages = N_PAGES, .features = features,
        .memfd = -1
    };

    *w = (World){ .owner = owner_start(&config) };
    owner_range(w->owner, 0, &w->range);
    w->map = uffd_map_new();
    assert_true(uffd_map_add(w->map, &w->range, NULL));
    w->noted = g_malloc0(N_PAGES);
    w->placer = uffd_placer_new(w->owner->uffd, on_placed, on_noted, w, NULL);
    assert_non_null(w->placer);
    w->data = g_malloc(N_PAGES * PAGE);
    w->fresh = g_malloc0(N_PAGES);
    w->existed = g_malloc0(N_PAGES);
    for (guint i = 0; i < N_PAGES; i++)
        owner_fill(w->data + i * PAGE, PAGE, i);
}

static void world_clear(World *w)
{
    uffd_placer_free(w->placer);
    uffd_map_free(w->map);
    owner_free(w->owner);
    g_free(w->data);
    g_free(w->fresh);
    g_free(w->existed);
    g_free(w->noted);
}

static void wait_for(World *w)
{
    struct pollfd fd = { uffd_placer_fd(w->placer), POLLIN, 0 };

    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    assert_true(uffd_placer_collect(w->placer, NULL));
}

static void wait_idle(World *w)
{
    while (!uffd_placer_is_idle(w->placer))
        wait_for(w);
}

/* Pages [first, first + n), whatever that takes. */
static void submit(World *w, guint64 first, guint64 n, gboolean zeros)
{
    for (guint64 at = first * PAGE; at < (first + n) * PAGE;) {
        guint64 taken = uffd_placer_submit(w->placer, &w->range, at, (first + n) * PAGE - at,
                                           zeros ? NULL : w->data + at);

        assert_int_equal(taken % PAGE, 0);
        at += taken;
        if (taken == 0)
            wait_for(w);
    }
}

static gboolean are_reported(const guint8 *reported, guint64 first, guint64 n, guint8 times)
{
    for (guint64 i = first; i < first + n; i++) {
        if (reported[i] != times)
            return FALSE;
    }
    return TRUE;
}

static guint64 wrong_pages(World *w)
{
    owner_ask(w->owner, OWNER_TOUCH, 1, 0);
    return owner_ask(w->owner, OWNER_WAIT, 0, 0);
}

static UffdPlacerStats stats_of(World *w)
{
    UffdPlacerStats stats;

    uffd_placer_get_stats(w->placer, &stats);
    return stats;
}

/* ---- what is submitted ---- */

static void all_of_it_is_placed_and_reported_once(void **state)
{
    World w;

    world_init(&w, 0);
    submit(&w, 0, N_PAGES, FALSE);
    wait_idle(&w);
    assert_true(are_reported(w.fresh, 0, N_PAGES, 1));
    assert_true(are_reported(w.existed, 0, N_PAGES, 0));
    assert_int_equal(wrong_pages(&w), 0);
    world_clear(&w);
}

/* Its owner may use the memory again at once. */
static void what_is_submitted_is_copied(void **state)
{
    World w;

    world_init(&w, 0);
    for (guint64 i = 0; i < N_PAGES; i++) {
        submit(&w, i, 1, FALSE);
        memset(w.data + i * PAGE, 0xee, PAGE);
    }
    wait_idle(&w);
    assert_int_equal(wrong_pages(&w), 0);
    world_clear(&w);
}

static void zeros_are_one_slot(void **state)
{
    World w;

    world_init(&w, 0);
    assert_int_equal(uffd_placer_submit(w.placer, &w.range, 0, N_PAGES * PAGE, NULL),
                     N_PAGES * PAGE);
    wait_idle(&w);
    assert_true(are_reported(w.fresh, 0, N_PAGES, 1));
    assert_int_equal(owner_ask(w.owner, OWNER_LOOK, N_PAGES - 1, 0), 0);
    assert_int_equal(stats_of(&w).copies, 0);
    world_clear(&w);
}

static void larger_host_pages_are_not_taken(void **state)
{
    UffdRange range = { .length = 4 * 1024 * 1024, .page_size = 2 * 1024 * 1024 };

    assert_false(uffd_placer_takes(&range));
    range.page_size = UFFD_PLACER_SLOT;
    assert_true(uffd_placer_takes(&range));
}

static void a_page_that_is_there_is_reported_as_such(void **state)
{
    guint64 done;
    World w;

    world_init(&w, 0);
    for (guint i = 1; i < 64; i += 3)
        assert_int_equal(uffd_copy(w.owner->uffd, w.range.address + i * PAGE, w.data + i * PAGE,
                                   PAGE, &done, NULL),
                         UFFD_PLACED);
    submit(&w, 0, 64, FALSE);
    submit(&w, 0, 8, TRUE);
    submit(&w, 64, N_PAGES - 64, FALSE);
    wait_idle(&w);
    for (guint i = 0; i < 64; i++) {
        gboolean was_there = i % 3 == 1;

        assert_int_equal(w.fresh[i], !was_there);
        assert_int_equal(w.existed[i], was_there + (i < 8));
    }
    assert_int_equal(wrong_pages(&w), 0);
    world_clear(&w);
}

static void threads_that_wait_go_on(void **state)
{
    World w;

    world_init(&w, 0);
    owner_ask(w.owner, OWNER_TOUCH, 16, 0);
    submit(&w, 0, N_PAGES, FALSE);
    assert_int_equal(owner_ask(w.owner, OWNER_WAIT, 0, 0), 0);
    wait_idle(&w);
    world_clear(&w);
}

/* ---- before their turn ---- */

static gboolean is_in_place(World *w, guint64 page);

static void a_page_that_is_waited_for_goes_first(void **state)
{
    const guint first = 4 * SLOT_PAGES;
    World w;

    world_init(&w, 0);
    owner_ask(w.owner, OWNER_TOUCH, 1, 1 + first + 5);
    uffd_placer_hold(w.placer);
    submit(&w, 0, 8 * SLOT_PAGES, FALSE);
    assert_true(uffd_placer_has(w.placer, 0, (first + 5) * PAGE));
    assert_true(uffd_placer_place_now(w.placer, 0, (first + 5) * PAGE));
    assert_true(are_reported(w.fresh, first + 5, 1, 1));
    /* Who waited for it goes on; the others are where they were. */
    assert_int_equal(owner_ask(w.owner, OWNER_WAIT, 0, 0), 0);
    assert_true(are_reported(w.fresh, 0, first + 5, 0));
    /* Once is enough: the guest may have dropped it again. */
    assert_false(uffd_placer_place_now(w.placer, 0, (first + 5) * PAGE));
    uffd_placer_release(w.placer);
    wait_idle(&w);
    assert_int_equal(stats_of(&w).ahead, 1);
    assert_true(are_reported(w.fresh, 0, 8 * SLOT_PAGES, 1));
    assert_true(are_reported(w.existed, 0, 8 * SLOT_PAGES, 0));
    assert_false(uffd_placer_has(w.placer, 0, (first + 5) * PAGE));
    submit(&w, 8 * SLOT_PAGES, N_PAGES - 8 * SLOT_PAGES, FALSE);
    wait_idle(&w);
    assert_int_equal(wrong_pages(&w), 0);
    world_clear(&w);
}

static void zeros_that_are_waited_for_go_first(void **state)
{
    World w;

    world_init(&w, 0);
    uffd_placer_hold(w.placer);
    submit(&w, 0, N_PAGES, TRUE);
    for (guint64 i = N_PAGES - 3; i < N_PAGES; i++)
        assert_true(uffd_placer_place_now(w.placer, 0, i * PAGE));
    assert_true(are_reported(w.fresh, N_PAGES - 3, 3, 1));
    assert_true(are_reported(w.fresh, 0, N_PAGES - 3, 0));
    uffd_placer_release(w.placer);
    wait_idle(&w);
    assert_true(are_reported(w.fresh, 0, N_PAGES, 1));
    assert_true(are_reported(w.existed, 0, N_PAGES, 0));
    world_clear(&w);
}

static void what_cannot_go_first_waits_for_its_turn(void **state)
{
    guint64 done;
    World w;

    world_init(&w, 0);
    submit(&w, 0, 8, FALSE);
    while (stats_of(&w).copies < 2)
        g_usleep(100);
    uffd_placer_hold(w.placer);
    /* in place, and not collected */
    assert_true(uffd_placer_has(w.placer, 0, 7 * PAGE));
    assert_false(uffd_placer_place_now(w.placer, 0, 7 * PAGE));
    assert_true(are_reported(w.fresh, 0, 8, 0));
    submit(&w, 8, 8, FALSE);
    uffd_placer_forget(w.placer, w.range.address + 9 * PAGE, PAGE);
    assert_false(uffd_placer_place_now(w.placer, 0, 9 * PAGE));
    /* that was never submitted, or is another block's */
    assert_false(uffd_placer_place_now(w.placer, 0, 16 * PAGE));
    assert_false(uffd_placer_place_now(w.placer, 1, 8 * PAGE));
    /* that has come another way meanwhile */
    assert_int_equal(uffd_copy(w.owner->uffd, w.range.address + 10 * PAGE, w.data + 10 * PAGE, PAGE,
                               &done, NULL),
                     UFFD_PLACED);
    assert_true(uffd_placer_place_now(w.placer, 0, 10 * PAGE));
    assert_true(are_reported(w.existed, 10, 1, 1));
    uffd_placer_release(w.placer);
    wait_idle(&w);
    for (guint i = 0; i < 16; i++)
        assert_int_equal(w.fresh[i], i != 9 && i != 10);
    assert_true(are_reported(w.existed, 10, 1, 1));
    assert_false(is_in_place(&w, 9));
    uffd_placer_stop(w.placer);
    assert_false(uffd_placer_place_now(w.placer, 0, 0));
    world_clear(&w);
}

/* ---- room ---- */

static void there_is_only_so_much_room(void **state)
{
    World w;

    world_init(&w, 0);
    uffd_placer_hold(w.placer);
    for (guint i = 0; i < UFFD_PLACER_ROOM / UFFD_PLACER_SLOT; i++)
        assert_int_equal(uffd_placer_submit(w.placer, &w.range, i * UFFD_PLACER_SLOT,
                                            UFFD_PLACER_SLOT + PAGE, w.data + i * UFFD_PLACER_SLOT),
                         UFFD_PLACER_SLOT);
    assert_int_equal(uffd_placer_submit(w.placer, &w.range, 0, PAGE, w.data), 0);
    /* Zeros take a slot, but none of it. */
    for (guint i = UFFD_PLACER_ROOM / UFFD_PLACER_SLOT; i < UFFD_PLACER_SLOTS; i++)
        assert_int_equal(uffd_placer_submit(w.placer, &w.range, (ROOM_PAGES + i) * PAGE, PAGE, NULL),
                         PAGE);
    assert_int_equal(uffd_placer_submit(w.placer, &w.range, 0, PAGE, NULL), 0);
    assert_int_equal(stats_of(&w).full, 2);
    uffd_placer_release(w.placer);
    wait_for(&w);
    assert_true(uffd_placer_submit(w.placer, &w.range, 0, PAGE, w.data) > 0);
    wait_idle(&w);
    assert_true(are_reported(w.fresh, 0, ROOM_PAGES, 1));
    assert_true(are_reported(w.existed, 0, 1, 1));
    world_clear(&w);
}

/* Again and again across the end of the ring. */
static void pieces_of_all_sizes_find_room(void **state)
{
    for (guint stride = 3; stride <= SLOT_PAGES; stride++) {
        guint64 n = 1;
        World w;

        world_init(&w, 0);
        for (guint64 at = 0; at < N_PAGES; at += n) {
            n = MIN((at * 7 + stride) % stride + 1, N_PAGES - at);
            submit(&w, at, n, FALSE);
        }
        wait_idle(&w);
        assert_true(are_reported(w.fresh, 0, N_PAGES, 1));
        assert_int_equal(wrong_pages(&w), 0);
        world_clear(&w);
    }
}

/* The thread may be through before the owner finds that there was no room. */
static void who_finds_no_room_is_told_of_it_in_any_case(void **state)
{
    struct pollfd fd = { .events = POLLIN };
    World w;

    world_init(&w, 0);
    for (guint i = 0; i < UFFD_PLACER_SLOTS; i++)
        assert_true(uffd_placer_submit(w.placer, &w.range, i * PAGE, PAGE, w.data) > 0);
    fd.fd = uffd_placer_fd(w.placer);
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    assert_int_equal(uffd_placer_submit(w.placer, &w.range, 0, PAGE, w.data), 0);
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    wait_idle(&w);
    assert_int_equal(poll(&fd, 1, 0), 0);
    world_clear(&w);
}

/* ---- events ---- */

static void nothing_is_placed_while_it_is_held(void **state)
{
    World w;

    world_init(&w, 0);
    uffd_placer_hold(w.placer);
    submit(&w, 0, 64, FALSE);
    g_usleep(20000);
    assert_int_equal(stats_of(&w).copies, 0);
    assert_true(uffd_placer_collect(w.placer, NULL));
    assert_true(are_reported(w.fresh, 0, 64, 0));
    uffd_placer_release(w.placer);
    wait_idle(&w);
    assert_true(are_reported(w.fresh, 0, 64, 1));
    world_clear(&w);
}

static void what_is_forgotten_stays_missing(void **state)
{
    guint64 done;
    World w;

    world_init(&w, 0);
    uffd_placer_hold(w.placer);
    submit(&w, 0, 3 * SLOT_PAGES, FALSE);
    uffd_placer_forget(w.placer, w.range.address + 3 * PAGE, 2 * PAGE);
    uffd_placer_forget(w.placer, w.range.address + (SLOT_PAGES - 1) * PAGE, 2 * PAGE);
    uffd_placer_forget(w.placer, w.range.address + (3 * SLOT_PAGES - 1) * PAGE, 64 * PAGE);
    uffd_placer_release(w.placer);
    wait_idle(&w);
    for (guint i = 0; i < 3 * SLOT_PAGES; i++) {
        gboolean forgotten = i == 3 || i == 4 || i == SLOT_PAGES - 1 || i == SLOT_PAGES ||
                             i == 3 * SLOT_PAGES - 1;

        assert_int_equal(w.fresh[i], !forgotten);
        assert_int_equal(w.existed[i], 0);
        if (forgotten)
            assert_int_equal(uffd_zero(w.owner->uffd, w.range.address + i * PAGE, PAGE, &done, NULL),
                             UFFD_PLACED);
    }
    world_clear(&w);
}

static gpointer discard(gpointer data)
{
    World *w = data;

    return GSIZE_TO_POINTER(owner_ask(w->owner, OWNER_DISCARD, 16, 32));
}

/* Whoever drops pages waits until that is read, and the kernel places nothing in between. */
static void a_page_that_is_dropped_meanwhile_does_not_come_back(void **state)
{
    UffdEvent events[UFFD_EVENTS_MAX];
    struct pollfd fd = { .events = POLLIN };
    GThread *thread;
    guint n;
    World w;

    world_init(&w, UFFD_FEATURE_EVENT_REMOVE);
    fd.fd = w.owner->uffd;
    thread = g_thread_new("balloon", discard, &w);
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    submit(&w, 0, 64, FALSE);
    while (stats_of(&w).again == 0)
        g_usleep(1000);
    uffd_placer_hold(w.placer);
    assert_true(uffd_read_events(w.owner->uffd, w.map, events, &n, NULL));
    assert_int_equal(n, 1);
    assert_int_equal(events[0].type, UFFD_EV_REMOVED);
    uffd_placer_forget(w.placer, events[0].address, events[0].length);
    uffd_placer_release(w.placer);
    g_thread_join(thread);
    wait_idle(&w);
    assert_true(are_reported(w.fresh, 0, 16, 1) && are_reported(w.fresh, 48, 16, 1));
    assert_true(are_reported(w.fresh, 16, 32, 0) && are_reported(w.existed, 16, 32, 0));
    submit(&w, 16, 32, TRUE);
    wait_idle(&w);
    assert_int_equal(owner_ask(w.owner, OWNER_LOOK, 20, 0), 0);
    world_clear(&w);
}

/* ---- what goes wrong ---- */

static GError *wait_for_failure(World *w)
{
    struct pollfd fd = { uffd_placer_fd(w->placer), POLLIN, 0 };
    GError *error = NULL;

    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    while (uffd_placer_collect(w->placer, &error))
        assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    assert_non_null(error);
    return error;
}

static void a_process_that_has_ended_is_said_to_have(void **state)
{
    g_autoptr(GError) error = NULL;
    World w;

    world_init(&w, 0);
    kill(w.owner->pid, SIGKILL);
    waitpid(w.owner->pid, NULL, 0);
    submit(&w, 0, 64, FALSE);
    error = wait_for_failure(&w);
    assert_true(g_error_matches(error, UFFD_ERROR, UFFD_ERROR_GONE));
    assert_false(uffd_placer_collect(w.placer, NULL));
    assert_true(are_reported(w.fresh, 0, 64, 0));
    world_clear(&w);
}

static void what_was_placed_before_a_failure_is_reported(void **state)
{
    g_autoptr(GError) error = NULL;
    World w;

    world_init(&w, 0);
    assert_int_equal(owner_ask(w.owner, OWNER_UNMAP, SLOT_PAGES + 4, 4), 0);
    submit(&w, 0, 2 * SLOT_PAGES, FALSE);
    error = wait_for_failure(&w);
    assert_true(g_error_matches(error, UFFD_ERROR, UFFD_ERROR_UNMAPPED));
    assert_false(uffd_placer_collect(w.placer, NULL));
    assert_true(are_reported(w.fresh, 0, SLOT_PAGES + 4, 1));
    assert_true(are_reported(w.fresh, SLOT_PAGES + 4, SLOT_PAGES - 4, 0));
    world_clear(&w);
}

static void a_mapping_that_was_split_is_no_failure(void **state)
{
    World w;

    world_init(&w, 0);
    assert_int_equal(owner_ask(w.owner, OWNER_PROTECT, 5, 0), 0);
    submit(&w, 0, 64, FALSE);
    wait_idle(&w);
    assert_true(are_reported(w.fresh, 0, 64, 1));
    world_clear(&w);
}

static void it_can_be_freed_in_the_midst_of_it(void **state)
{
    for (guint i = 0; i < 20; i++) {
        World w;

        world_init(&w, 0);
        submit(&w, 0, ROOM_PAGES, FALSE);
        world_clear(&w);
    }
}

/* ---- the end ---- */

static gboolean is_in_place(World *w, guint64 page)
{
    guint64 done;

    return uffd_copy(w->owner->uffd, w->range.address + page * PAGE, w->data + page * PAGE, PAGE,
                     &done, NULL) == UFFD_EXISTED;
}

static void what_is_in_place_is_noted_before_it_is_collected(void **state)
{
    struct pollfd fd = { .events = POLLIN };
    World w;

    world_init(&w, 0);
    submit(&w, 3, 1, FALSE);
    wait_idle(&w);
    uffd_placer_hold(w.placer);
    submit(&w, 0, 40, FALSE);
    submit(&w, 40, 600, TRUE);
    uffd_placer_release(w.placer);
    fd.fd = uffd_placer_fd(w.placer);
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    g_clear_pointer(&w.placer, uffd_placer_free);
    assert_true(are_reported(w.fresh, 0, 3, 0) && are_reported(w.fresh, 4, 636, 0));
    assert_true(are_reported(w.noted, 0, 3, 1) && are_reported(w.noted, 4, 636, 1));
    assert_int_equal(w.noted[3], 2);
    world_clear(&w);
}

/* At whatever it was. */
static void what_is_in_place_when_it_is_stopped_is_reported(void **state)
{
    for (guint i = 0; i < 20; i++) {
        guint64 n = ROOM_PAGES;
        World w;

        world_init(&w, 0);
        uffd_placer_hold(w.placer);
        submit(&w, 0, n, FALSE);
        uffd_placer_release(w.placer);
        g_usleep(i * 20);
        uffd_placer_stop(w.placer);
        assert_true(uffd_placer_is_idle(w.placer));
        assert_int_equal(uffd_placer_fd(w.placer), -1);
        assert_int_equal(uffd_placer_submit(w.placer, &w.range, n * PAGE, PAGE, w.data), 0);
        assert_true(uffd_placer_collect(w.placer, NULL));
        for (guint64 page = 0; page < n; page++) {
            gboolean there = is_in_place(&w, page);

            assert_int_equal(w.fresh[page], there);
            assert_int_equal(w.noted[page], there);
        }
        world_clear(&w);
    }
}

/* ---- behind a sink ---- */

static guint64 nobody_waits(guint block, guint64 offset, guint64 end, gpointer data)
{
    return end;
}

/* For each page from 700 on. */
static guint64 many_wait(guint block, guint64 offset, guint64 end, gpointer data)
{
    return MIN(MAX(offset, 700 * PAGE), end);
}

static void a_sink_of_the_background_leaves_it_to_the_placer(void **state)
{
    g_autoptr(RamBlocks) blocks = ram_blocks_new();
    guint64 next = 0;
    UffdSinkStats stats;
    UffdSink *sink;
    RamSink *base;
    World w;

    world_init(&w, 0);
    assert_true(ram_blocks_add(blocks, (const guint8 *)"ram", 3, N_PAGES * PAGE, PAGE, NULL, NULL));
    sink = uffd_sink_new(w.owner->uffd, w.map, blocks, on_placed, &w);
    base = uffd_sink_base(sink);
    uffd_sink_set_placer(sink, w.placer, nobody_waits);
    while (next < N_PAGES || !base->ops->is_empty(base)) {
        if (next < N_PAGES && base->ops->room(base) > 0) {
            base->ops->place(base, &(QemuPage){ .offset = next * PAGE, .kind = QEMU_PAGE_RAW,
                                                .data = w.data + next * PAGE, .data_len = PAGE });
            next++;
            continue;
        }
        assert_true(base->ops->flush(base, NULL));
        if (base->ops->is_empty(base))
            continue;
        assert_true(uffd_sink_awaits_placer(sink));
        wait_for(&w);
    }
    wait_idle(&w);
    uffd_sink_get_stats(sink, &stats);
    assert_int_equal(stats.copies, 0);
    assert_true(are_reported(w.fresh, 0, N_PAGES, 1));
    assert_int_equal(wrong_pages(&w), 0);
    uffd_sink_free(sink);
    world_clear(&w);
}

static RamSink *sink_with_placer(World *w, RamBlocks *blocks)
{
    UffdSink *sink;

    assert_true(ram_blocks_add(blocks, (const guint8 *)"ram", 3, N_PAGES * PAGE, PAGE, NULL, NULL));
    sink = uffd_sink_new(w->owner->uffd, w->map, blocks, on_placed, w);
    uffd_sink_set_placer(sink, w->placer, nobody_waits);
    return uffd_sink_base(sink);
}

static void put(World *w, RamSink *base, guint64 page)
{
    base->ops->place(base, &(QemuPage){ .offset = page * PAGE, .kind = QEMU_PAGE_RAW,
                                        .data = w->data + page * PAGE, .data_len = PAGE });
}

/* Of a run that finds no room, and of the page that is held behind it. */
static void pages_that_are_dropped_before_they_are_submitted_are_not(void **state)
{
    static const guint8 expected[] = { 0, 1, 1, 0, 0, 1, 0, 0, 0, 1 };

    for (guint drops_held = 0; drops_held < 2; drops_held++) {
        g_autoptr(RamBlocks) blocks = ram_blocks_new();
        UffdSink *sink;
        RamSink *base;
        World w;

        world_init(&w, 0);
        base = sink_with_placer(&w, blocks);
        sink = (UffdSink *)base;
        uffd_placer_hold(w.placer);
        for (guint i = 0; i < UFFD_PLACER_SLOTS; i++)
            assert_int_equal(uffd_placer_submit(w.placer, &w.range, (2 * ROOM_PAGES + i) * PAGE, PAGE,
                                                w.data),
                             PAGE);
        for (guint64 i = 100; i < 107; i++)
            put(&w, base, i);
        put(&w, base, 109);
        assert_int_equal(base->ops->room(base), 0);
        uffd_sink_forget(sink, 0, 103 * PAGE, 2 * PAGE);
        uffd_sink_forget(sink, 0, 106 * PAGE, 2 * PAGE);
        uffd_sink_forget(sink, 0, 100 * PAGE, PAGE);
        uffd_sink_forget(sink, 1, 101 * PAGE, 9 * PAGE);
        if (drops_held)
            uffd_sink_forget(sink, 0, 109 * PAGE, PAGE);
        uffd_placer_release(w.placer);
        while (assert_true(base->ops->flush(base, NULL)), !base->ops->is_empty(base))
            wait_for(&w);
        wait_idle(&w);
        assert_memory_equal(w.fresh + 100, expected, drops_held ? 9 : 10);
        for (guint64 i = 100; i < 110; i++)
            assert_int_equal(is_in_place(&w, i), w.fresh[i]);
        assert_int_equal(w.fresh[109], !drops_held);
        /* That was of what was there then. */
        put(&w, base, 200);
        put(&w, base, 103 + 200);
        assert_true(base->ops->flush(base, NULL));
        wait_idle(&w);
        assert_true(w.fresh[200] && w.fresh[303]);
        uffd_sink_free(sink);
        world_clear(&w);
    }
}

/* Behind half a ring of others. */
static void what_is_waited_for_when_it_comes_goes_first(void **state)
{
    g_autoptr(RamBlocks) blocks = ram_blocks_new();
    UffdSink *sink;
    RamSink *base;
    World w;

    world_init(&w, 0);
    base = sink_with_placer(&w, blocks);
    sink = (UffdSink *)base;
    uffd_sink_set_placer(sink, w.placer, many_wait);
    submit(&w, 0, ROOM_PAGES / 2, FALSE);
    for (guint64 i = 696; i < 704; i++)
        put(&w, base, i);
    assert_true(base->ops->flush(base, NULL));
    for (guint64 i = 700; i < 704; i++)
        assert_true(is_in_place(&w, i));
    wait_idle(&w);
    assert_true(are_reported(w.fresh, 696, 8, 1));
    uffd_sink_free(sink);
    world_clear(&w);
}

static void note_pace(World *w, gint64 page_ns)
{
    for (guint i = 0; i < PACE_SAMPLES_MIN; i++)
        uffd_placer_note_pace(w->placer, PAGE, page_ns);
}

static guint64 flush_zeros(World *w, RamSink *base, guint64 n)
{
    guint64 before = stats_of(w).zeropages;

    for (guint64 i = 0; i < n; i++)
        base->ops->place(base, &(QemuPage){ .offset = i * PAGE, .kind = QEMU_PAGE_ZERO });
    assert_true(base->ops->flush(base, NULL));
    wait_idle(w);
    return stats_of(w).zeropages - before;
}

/* The placer is for a kernel that is slow, and for many zeros however quick it is. */
static void a_quick_kernel_needs_no_placer(void **state)
{
    const guint64 many = UFFD_PLACER_ZEROS / PAGE;
    g_autoptr(RamBlocks) blocks = ram_blocks_new();
    UffdSink *sink;
    RamSink *base;
    World w;

    world_init(&w, 0);
    base = sink_with_placer(&w, blocks);
    sink = (UffdSink *)base;
    assert_false(uffd_placer_is_quick(w.placer));
    assert_true(flush_zeros(&w, base, many) > 0);
    note_pace(&w, PACE_QUICK_NS / 2);
    assert_true(uffd_placer_is_quick(w.placer));
    assert_int_equal(flush_zeros(&w, base, many), 0);
    assert_true(flush_zeros(&w, base, many + 1) > 0);
    note_pace(&w, PACE_SLOW_NS * 2);
    assert_false(uffd_placer_is_quick(w.placer));
    assert_true(flush_zeros(&w, base, many) > 0);
    uffd_sink_free(sink);
    world_clear(&w);
}

/* ---- the pace ---- */

static void a_kernel_is_quick_when_that_is_known(void **state)
{
    Pace pace = { 0 };

    for (guint i = 0; i < PACE_SAMPLES_MIN - 1; i++) {
        pace_note(&pace, 4096, 1);
        assert_false(pace.quick);
        assert_true(pace_is_due(&pace));
    }
    pace_note(&pace, 4095, 1); /* no page */
    assert_false(pace.quick);
    pace_note(&pace, 4096, 1);
    assert_true(pace.quick);
}

/* In between it stays what it was. */
static void one_slow_call_is_no_slow_kernel(void **state)
{
    Pace pace = { 0 };

    for (guint i = 0; i < PACE_SAMPLES_MIN; i++)
        pace_note(&pace, 64 * 1024, 16 * 1000);
    assert_true(pace.quick);
    pace_note(&pace, 4096, 8 * PACE_SLOW_NS);
    assert_true(pace.quick);
    for (guint i = 0; i < 64; i++)
        pace_note(&pace, 4096, (PACE_QUICK_NS + PACE_SLOW_NS) / 2);
    assert_true(pace.quick);
    for (guint i = 0; i < 64; i++)
        pace_note(&pace, 4096, 2 * PACE_SLOW_NS);
    assert_false(pace.quick);
    for (guint i = 0; i < 64; i++)
        pace_note(&pace, 4096, (PACE_QUICK_NS + PACE_SLOW_NS) / 2);
    assert_false(pace.quick);
    for (guint i = 0; i < 64; i++)
        pace_note(&pace, 4096, PACE_QUICK_NS / 2);
    assert_true(pace.quick);
}

static void of_the_calls_few_are_measured(void **state)
{
    Pace pace = { .samples = PACE_SAMPLES_MIN };
    guint due = 0;

    for (guint i = 0; i < 10 * PACE_EVERY; i++)
        due += pace_is_due(&pace);
    assert_int_equal(due, 10);
}

/* As the kernel does when it has to write memory out before it has some. */
static void a_call_that_sleeps_takes_all_of_that_time(void **state)
{
    guint8 bytes[PAGE];
    PaceMark mark;

    pace_begin(&mark);
    g_usleep(20000);
    assert_true(pace_took(&mark) >= 20 * 1000 * 1000);
    pace_begin(&mark);
    for (guint i = 0; i < 100; i++)
        owner_fill(bytes, PAGE, i);
    assert_true(pace_took(&mark) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_it_is_placed_and_reported_once),
        cmocka_unit_test(what_is_submitted_is_copied),
        cmocka_unit_test(zeros_are_one_slot),
        cmocka_unit_test(larger_host_pages_are_not_taken),
        cmocka_unit_test(a_page_that_is_there_is_reported_as_such),
        cmocka_unit_test(threads_that_wait_go_on),
        cmocka_unit_test(a_page_that_is_waited_for_goes_first),
        cmocka_unit_test(zeros_that_are_waited_for_go_first),
        cmocka_unit_test(what_cannot_go_first_waits_for_its_turn),
        cmocka_unit_test(there_is_only_so_much_room),
        cmocka_unit_test(pieces_of_all_sizes_find_room),
        cmocka_unit_test(who_finds_no_room_is_told_of_it_in_any_case),
        cmocka_unit_test(nothing_is_placed_while_it_is_held),
        cmocka_unit_test(what_is_forgotten_stays_missing),
        cmocka_unit_test(a_page_that_is_dropped_meanwhile_does_not_come_back),
        cmocka_unit_test(a_process_that_has_ended_is_said_to_have),
        cmocka_unit_test(what_was_placed_before_a_failure_is_reported),
        cmocka_unit_test(a_mapping_that_was_split_is_no_failure),
        cmocka_unit_test(it_can_be_freed_in_the_midst_of_it),
        cmocka_unit_test(what_is_in_place_is_noted_before_it_is_collected),
        cmocka_unit_test(what_is_in_place_when_it_is_stopped_is_reported),
        cmocka_unit_test(a_sink_of_the_background_leaves_it_to_the_placer),
        cmocka_unit_test(pages_that_are_dropped_before_they_are_submitted_are_not),
        cmocka_unit_test(what_is_waited_for_when_it_comes_goes_first),
        cmocka_unit_test(a_quick_kernel_needs_no_placer),
        cmocka_unit_test(a_kernel_is_quick_when_that_is_known),
        cmocka_unit_test(one_slow_call_is_no_slow_kernel),
        cmocka_unit_test(of_the_calls_few_are_measured),
        cmocka_unit_test(a_call_that_sleeps_takes_all_of_that_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
