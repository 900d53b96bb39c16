/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Faults of another process's threads, served by what a destination is made of: for real. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ram/uffd/block_time.h"
#include "ram/uffd/clients.h"
#include "ram/uffd/requested.h"
#include "ram/uffd/sink.h"
#include "ram/uffd/support.h"
#include "ram/uffd/uffd.h"
#include "tests/support/memory-owner.h"

#define PAGE 4096
#define N_PAGES 256
#define DEADLINE_MS 30000

typedef struct {
    Owner *owner;
    RamBlocks *blocks;
    UffdMap *map;
    UffdSink *sink;
    Requested *requested;
    BlockTime *times;
    UffdClients *clients;
    guint8 *data;
    guint faults;
    guint asked; /* times a page was to be asked for */
} World;

static void drop(guint block, guint64 offset, gint64 since_us, gpointer data)
{
}

static void on_placed(guint block, guint64 offset, guint64 length, gboolean existed, gpointer data)
{
    World *w = data;

    requested_remove_range(w->requested, block, offset, length, drop, NULL);
    block_time_end_range(w->times, block, offset, length, g_get_monotonic_time());
    uffd_clients_wake(w->clients, block, offset, length);
}

static void world_init(World *w, const OwnerConfig *config)
{
    UffdRange range;

    *w = (World){ .owner = owner_start(config), .blocks = ram_blocks_new() };
    w->map = uffd_map_new();
    owner_range(w->owner, 0, &range);
    assert_true(uffd_map_add(w->map, &range, NULL));
    w->sink = uffd_sink_new(w->owner->uffd, w->map, w->blocks, on_placed, w);
    w->requested = requested_new();
    w->times = block_time_new();
    w->clients = uffd_clients_new();
    w->data = g_malloc(config->n_pages * PAGE);
    for (guint i = 0; i < config->n_pages; i++)
        owner_fill(w->data + i * PAGE, PAGE, i);
}

static void world_clear(World *w)
{
    uffd_clients_free(w->clients);
    block_time_free(w->times);
    requested_free(w->requested);
    uffd_sink_free(w->sink);
    uffd_map_free(w->map);
    ram_blocks_free(w->blocks);
    owner_free(w->owner);
    g_free(w->data);
}

static void start(World *w, UffdBacking backing)
{
    OwnerConfig config = { .backing = backing, .page_size = PAGE, .n_pages = N_PAGES, .memfd = -1 };

    world_init(w, &config);
}

static void place(World *w, guint64 offset)
{
    QemuPage page = { .kind = QEMU_PAGE_RAW, .offset = offset, .data = w->data + offset,
                      .data_len = PAGE };
    RamSink *sink = uffd_sink_base(w->sink);

    sink->ops->place(sink, &page);
    assert_true(sink->ops->flush(sink, NULL));
}

static void take_events(World *w, const UffdEvent *events, guint n)
{
    for (guint i = 0; i < n; i++) {
        assert_int_equal(events[i].type, UFFD_EV_FAULT);
        assert_int_equal(events[i].block, 0);
        assert_int_equal(events[i].offset % PAGE, 0);
        w->faults++;
        block_time_begin(w->times, events[i].thread, 0, events[i].offset, g_get_monotonic_time());
        w->asked += requested_add(w->requested, 0, events[i].offset, g_get_monotonic_time());
    }
}

static void wait_for(int fd)
{
    struct pollfd poll_fd = { fd, POLLIN, 0 };

    assert_int_equal(poll(&poll_fd, 1, DEADLINE_MS), 1);
}

static guint read_faults(World *w)
{
    UffdEvent events[UFFD_EVENTS_MAX];
    guint n;

    assert_true(uffd_read_events(w->owner->uffd, w->map, events, &n, NULL));
    take_events(w, events, n);
    return n;
}

/* ---- faults ---- */

static void a_fault_names_its_page_and_its_thread(void **state)
{
    UffdEvent events[UFFD_EVENTS_MAX];
    World w;
    guint n;

    start(&w, UFFD_ANON);
    assert_true(uffd_read_events(w.owner->uffd, w.map, events, &n, NULL));
    assert_int_equal(n, 0);
    owner_ask(w.owner, OWNER_TOUCH, 1, 1 + 17);
    wait_for(w.owner->uffd);
    assert_true(uffd_read_events(w.owner->uffd, w.map, events, &n, NULL));
    assert_int_equal(n, 1);
    assert_int_equal(events[0].offset, 17 * PAGE);
    assert_int_equal(events[0].address, w.owner->address + 17 * PAGE);
    assert_int_not_equal(events[0].thread, 0);
    assert_int_not_equal(events[0].thread, w.owner->pid);
    assert_false(events[0].is_write);
    place(&w, 17 * PAGE);
    assert_int_equal(owner_ask(w.owner, OWNER_WAIT, 0, 0), 0);
    world_clear(&w);
}

static void a_fault_outside_of_all_blocks_is_no_page(void **state)
{
    UffdEvent events[UFFD_EVENTS_MAX];
    World w;
    guint n;

    start(&w, UFFD_ANON);
    uffd_map_remove_block(w.map, 0);
    owner_ask(w.owner, OWNER_TOUCH, 1, 1 + 3);
    wait_for(w.owner->uffd);
    assert_true(uffd_read_events(w.owner->uffd, w.map, events, &n, NULL));
    assert_int_equal(n, 1);
    assert_int_equal(events[0].type, UFFD_EV_STRAY);
    assert_int_equal(events[0].address, w.owner->address + 3 * PAGE);
    world_clear(&w);
}

/* Until all that was asked for is there: each thread reads all pages, so every page is faulted on. */
static void serve_all(World *w)
{
    guint64 placed = 0;

    while (placed < N_PAGES) {
        UffdEvent events[UFFD_EVENTS_MAX];
        guint n;

        wait_for(w->owner->uffd);
        assert_true(uffd_read_events(w->owner->uffd, w->map, events, &n, NULL));
        take_events(w, events, n);
        for (guint i = 0; i < n; i++) {
            placed += requested_has(w->requested, 0, events[i].offset);
            place(w, events[i].offset);
        }
    }
}

static void faults_of_many_threads(UffdBacking backing)
{
    BlockTimeStats stats;
    World w;

    start(&w, backing);
    assert_int_equal(owner_ask(w.owner, OWNER_TOUCH, 64, 0), 64);
    serve_all(&w);
    /* Who ran into a page that was just placed is awake, whatever it did in between. */
    assert_int_equal(owner_ask(w.owner, OWNER_WAIT, 0, 0), 0);
    assert_int_equal(w.asked, N_PAGES);
    assert_true(w.faults >= N_PAGES);
    assert_int_equal(requested_count(w.requested), 0);
    block_time_get_stats(w.times, g_get_monotonic_time(), &stats);
    assert_in_range(stats.threads, 2, 64);
    assert_int_equal(stats.waiting, 0);
    assert_true(stats.any_us > 0 && stats.all_us <= stats.any_us &&
                stats.any_us <= stats.total_us);
    world_clear(&w);
}

static void faults_of_64_threads_are_all_served(void **state)
{
    faults_of_many_threads(UFFD_ANON);
    faults_of_many_threads(UFFD_SHMEM);
}

static void a_second_fault_on_a_page_in_flight_asks_for_nothing(void **state)
{
    BlockTimeStats stats;
    World w;

    start(&w, UFFD_ANON);
    owner_ask(w.owner, OWNER_TOUCH, 2, 1 + 9);
    while (w.faults < 2) {
        wait_for(w.owner->uffd);
        read_faults(&w);
    }
    assert_int_equal(w.asked, 1);
    block_time_get_stats(w.times, g_get_monotonic_time(), &stats);
    assert_int_equal(stats.waiting, 2);
    place(&w, 9 * PAGE);
    assert_int_equal(owner_ask(w.owner, OWNER_WAIT, 0, 0), 0);
    assert_int_equal(requested_count(w.requested), 0);
    world_clear(&w);
}

/* A page that is discarded is missing again, and its next fault is a new request. */
static void a_discarded_page_is_asked_for_again(void **state)
{
    OwnerConfig config = { .backing = UFFD_ANON, .page_size = PAGE, .n_pages = N_PAGES,
                           .memfd = -1 };
    World w;

    world_init(&w, &config);
    place(&w, 4 * PAGE);
    assert_int_equal(owner_ask(w.owner, OWNER_DISCARD, 4, 1), 0);
    owner_ask(w.owner, OWNER_TOUCH, 1, 1 + 4);
    wait_for(w.owner->uffd);
    assert_int_equal(read_faults(&w), 1);
    place(&w, 4 * PAGE);
    assert_int_equal(owner_ask(w.owner, OWNER_WAIT, 0, 0), 0);
    world_clear(&w);
}

static void who_waits_in_memory_that_is_unregistered_goes_on(void **state)
{
    World w;

    start(&w, UFFD_ANON);
    owner_ask(w.owner, OWNER_TOUCH, 1, 1 + 5);
    wait_for(w.owner->uffd);
    assert_true(uffd_unregister(w.owner->uffd, w.owner->address, N_PAGES * PAGE, NULL));
    /* It found zeros. */
    assert_int_equal(owner_ask(w.owner, OWNER_WAIT, 0, 0), 1);
    world_clear(&w);
}

/* ---- other processes with the same memory ---- */

static Owner *start_client(World *w, guint *ret_id)
{
    OwnerConfig config = { .backing = UFFD_SHMEM, .page_size = PAGE, .n_pages = N_PAGES,
                           .unregistered = TRUE, .memfd = w->owner->memfd };
    Owner *client = owner_start(&config);
    UffdMap *map = uffd_map_new();
    UffdRange range;

    owner_range(client, 0, &range);
    assert_true(uffd_map_add(map, &range, NULL));
    assert_true(uffd_clients_add(w->clients, "vhost-user", dup(client->uffd), map, ret_id, NULL));
    return client;
}

static void a_fault_of_a_shared_client_is_served_by_the_owners_memory(void **state)
{
    UffdEvent events[UFFD_EVENTS_MAX];
    Owner *client;
    World w;
    guint id, same, n;

    start(&w, UFFD_SHMEM);
    client = start_client(&w, &id);
    owner_ask(client, OWNER_TOUCH, 1, 1 + 30);
    wait_for(uffd_clients_fd(w.clients, 0, &same));
    assert_int_equal(same, id);
    uffd_clients_read(w.clients, id, events, &n);
    assert_int_equal(n, 1);
    take_events(&w, events, n);
    assert_int_equal(events[0].offset, 30 * PAGE);
    place(&w, 30 * PAGE);
    assert_int_equal(owner_ask(client, OWNER_WAIT, 0, 0), 0);
    owner_free(client);
    world_clear(&w);
}

static void a_shared_client_can_leave_while_it_waits(void **state)
{
    Owner *client;
    World w;
    guint id;

    start(&w, UFFD_SHMEM);
    client = start_client(&w, &id);
    owner_ask(client, OWNER_TOUCH, 1, 1 + 30);
    wait_for(uffd_clients_fd(w.clients, 0, &id));
    assert_true(uffd_clients_remove(w.clients, id));
    assert_false(uffd_clients_remove(w.clients, id));
    assert_int_equal(uffd_clients_count(w.clients), 0);
    assert_int_equal(owner_ask(client, OWNER_WAIT, 0, 0), 1);
    owner_free(client);
    world_clear(&w);
}

static void a_shared_client_that_dies_stands_in_nobodys_way(void **state)
{
    UffdEvent events[UFFD_EVENTS_MAX];
    World w;
    guint id, n;

    start(&w, UFFD_SHMEM);
    owner_free(start_client(&w, &id));
    place(&w, 0);
    assert_int_equal(owner_ask(w.owner, OWNER_TOUCH, 1, 1 + 0), 1);
    assert_int_equal(owner_ask(w.owner, OWNER_WAIT, 0, 0), 0);
    uffd_clients_read(w.clients, id, events, &n);
    assert_int_equal(n, 0);
    assert_true(uffd_clients_remove(w.clients, id));
    world_clear(&w);
}

static void private_memory_cannot_be_shared(void **state)
{
    g_autoptr(UffdClients) clients = uffd_clients_new();
    OwnerConfig config = { .backing = UFFD_ANON, .page_size = PAGE, .n_pages = 1,
                           .unregistered = TRUE, .memfd = -1 };
    g_autoptr(GError) error = NULL;
    UffdMap *map = uffd_map_new();
    Owner *owner = owner_start(&config);
    UffdRange range;
    guint id;

    owner_range(owner, 0, &range);
    assert_true(uffd_map_add(map, &range, NULL));
    assert_false(uffd_clients_add(clients, "back end", dup(owner->uffd), map, &id, &error));
    assert_non_null(strstr(error->message, "back end"));
    owner_free(owner);
}

/* ---- the host ---- */

static void this_host_can_place_what_it_says_it_can(void **state)
{
    g_autoptr(GPtrArray) findings = findings_new();
    UffdRegionFacts regions[] = {
        { "ram", N_PAGES * PAGE, PAGE, UFFD_ANON, FALSE, FALSE },
        { "shared", N_PAGES * PAGE, PAGE, UFFD_SHMEM, FALSE, FALSE },
    };
    UffdSupport support;

    uffd_support_look(0, &support);
    assert_int_not_equal(support.features, 0);
    assert_true(support.works[UFFD_ANON] && support.works[UFFD_SHMEM]);
    assert_false(support.works[UFFD_HUGETLB]);
    assert_true(uffd_support_judge(&support, regions, G_N_ELEMENTS(regions), findings));
}

static void user_mode_alone_needs_no_privilege(void **state)
{
    OwnerConfig config = { .backing = UFFD_ANON, .page_size = PAGE, .n_pages = N_PAGES,
                           .user_mode_only = TRUE, .memfd = -1 };
    World w;

    world_init(&w, &config);
    owner_ask(w.owner, OWNER_TOUCH, 1, 1 + 2);
    wait_for(w.owner->uffd);
    read_faults(&w);
    place(&w, 2 * PAGE);
    assert_int_equal(owner_ask(w.owner, OWNER_WAIT, 0, 0), 0);
    world_clear(&w);
}

static void a_feature_that_no_kernel_has_is_named(void **state)
{
    g_autoptr(GError) error = NULL;

    assert_int_equal(uffd_open(G_GUINT64_CONSTANT(1) << 62, FALSE, NULL, &error), -1);
    assert_true(g_error_matches(error, UFFD_ERROR, UFFD_ERROR_UNSUPPORTED));
    assert_non_null(strstr(error->message, "0x4000000000000000"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fault_names_its_page_and_its_thread),
        cmocka_unit_test(a_fault_outside_of_all_blocks_is_no_page),
        cmocka_unit_test(faults_of_64_threads_are_all_served),
        cmocka_unit_test(a_second_fault_on_a_page_in_flight_asks_for_nothing),
        cmocka_unit_test(a_discarded_page_is_asked_for_again),
        cmocka_unit_test(who_waits_in_memory_that_is_unregistered_goes_on),
        cmocka_unit_test(a_fault_of_a_shared_client_is_served_by_the_owners_memory),
        cmocka_unit_test(a_shared_client_can_leave_while_it_waits),
        cmocka_unit_test(a_shared_client_that_dies_stands_in_nobodys_way),
        cmocka_unit_test(private_memory_cannot_be_shared),
        cmocka_unit_test(this_host_can_place_what_it_says_it_can),
        cmocka_unit_test(user_mode_alone_needs_no_privilege),
        cmocka_unit_test(a_feature_that_no_kernel_has_is_named),
    };

    /* Without the right to open one there is nothing to test. */
    if (close(uffd_open(0, FALSE, NULL, NULL)) < 0)
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
