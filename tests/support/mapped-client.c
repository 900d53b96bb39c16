/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/mapped-client.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ram/uffd/uffd.h"
#include "util/autofd.h"

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 0x0004U
#endif

#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

#define HUGE_FILE "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
#define DEVICE_PIECE 1000

/* ---- huge pages ---- */

static long huge_before = -1;

static long read_huge(void)
{
    g_autofree char *text = NULL;

    return g_file_get_contents(HUGE_FILE, &text, NULL, NULL) ? atol(text) : -1;
}

static void write_huge(long n)
{
    FILE *file = fopen(HUGE_FILE, "w");

    if (!file)
        return;
    fprintf(file, "%ld\n", n);
    fclose(file);
}

/* Others may have theirs: what is here is added to. */
gboolean test_huge_pages_reserve(guint n)
{
    long before = read_huge();

    if (before < 0)
        return FALSE;
    if (huge_before < 0)
        huge_before = before;
    write_huge(before + n);
    if (read_huge() >= before + (long)n)
        return TRUE;
    test_huge_pages_restore();
    return FALSE;
}

void test_huge_pages_restore(void)
{
    if (huge_before >= 0)
        write_huge(huge_before);
    huge_before = -1;
}

/* ---- memory ---- */

static int sealed_memfd(const char *name, gsize size, guint flags)
{
    int fd = memfd_create(name, MFD_ALLOW_SEALING | MFD_CLOEXEC | flags);

    if (fd < 0)
        return -1;
    if (ftruncate(fd, size) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static gboolean map_region(TestMapping *map, const TestRegion *region)
{
    int flags = MAP_SHARED;
    void *at;

    map->region = region;
    map->page_size = region->backing == TEST_HUGE ? TEST_HUGE_PAGE : 4096;
    map->length = region->n_pages * map->page_size;
    map->fd = -1;
    if (region->backing == TEST_PRIVATE)
        flags = MAP_PRIVATE | MAP_ANONYMOUS;
    else
        map->fd = sealed_memfd(region->name, map->length,
                               region->backing == TEST_HUGE ? MFD_HUGETLB : 0);
    if (region->backing != TEST_PRIVATE && map->fd < 0)
        return FALSE;
    at = mmap(NULL, map->length, PROT_READ | PROT_WRITE, flags, map->fd, 0);
    if (at == MAP_FAILED)
        return FALSE;
    map->at = at;
    if (region->backing == TEST_PRIVATE)
        madvise(at, map->length, MADV_NOHUGEPAGE);
    return TRUE;
}

static gsize bitmap_bytes(const TestMemory *memory)
{
    g_autoptr(MemoryLayout) layout = test_memory_layout(memory, FALSE, -1);

    return memory_layout_bitmaps_bytes(layout);
}

TestMemory *test_memory_new(const TestRegion *regions, guint n)
{
    g_autoptr(TestMemory) memory = g_new0(TestMemory, 1);

    memory->maps = g_new0(TestMapping, n);
    memory->received_fd = memory->dirty_fd = memory->watch_fd = -1;
    for (guint i = 0; i < n; i++) {
        memory->n = i + 1;
        if (!map_region(&memory->maps[i], &regions[i]))
            return NULL;
    }
    memory->bitmap_bytes = bitmap_bytes(memory);
    memory->received_fd = sealed_memfd("received", memory->bitmap_bytes, 0);
    memory->dirty_fd = sealed_memfd("dirty", memory->bitmap_bytes, 0);
    memory->dirty = g_malloc0(memory->bitmap_bytes);
    return g_steal_pointer(&memory);
}

void test_memory_free(TestMemory *memory)
{
    if (!memory)
        return;
    for (guint i = 0; i < memory->n; i++) {
        if (memory->maps[i].at)
            munmap(memory->maps[i].at, memory->maps[i].length);
        autofd_clear(&memory->maps[i].fd);
    }
    g_free(memory->maps);
    autofd_clear(&memory->received_fd);
    autofd_clear(&memory->dirty_fd);
    autofd_clear(&memory->watch_fd);
    g_free(memory->dirty);
    g_free(memory);
}

static int duplicate(int fd)
{
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

gboolean test_memory_watch(TestMemory *memory)
{
    struct uffdio_api api = { .api = UFFD_API,
                              .features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED };

    memory->watch_fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    if (memory->watch_fd < 0 || ioctl(memory->watch_fd, UFFDIO_API, &api) < 0)
        return FALSE;
    for (guint i = 0; i < memory->n; i++) {
        struct uffdio_register reg = {
            .range = { (guintptr)memory->maps[i].at, memory->maps[i].length },
            .mode = UFFDIO_REGISTER_MODE_WP,
        };

        if (memory->maps[i].fd < 0 && ioctl(memory->watch_fd, UFFDIO_REGISTER, &reg) < 0)
            return FALSE;
    }
    return TRUE;
}

MemoryLayout *test_memory_layout(const TestMemory *memory, gboolean recovers, int uffd)
{
    MemoryLayout *layout = memory_layout_new(memory->n);

    for (guint i = 0; i < memory->n; i++) {
        const TestMapping *map = &memory->maps[i];

        layout->regions[i] = (MemoryRegion){
            .name = g_strdup(map->region->name),
            .length = map->length,
            .page_size = map->page_size,
            .flags = map->region->flags | MEMORY_MIGRATABLE,
            .address = (guint64)(guintptr)map->at,
            .fd = duplicate(map->fd),
        };
    }
    layout->recovers = recovers;
    layout->log = MEMORY_LOG_CLIENT;
    layout->params = (MemoryParams){ .downtime_limit_ms = 300, .postcopy = TRUE };
    layout->mem_fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    layout->dirty_fd = duplicate(memory->dirty_fd);
    layout->received_fd = duplicate(memory->received_fd);
    layout->uffd = duplicate(uffd);
    if (memory->watch_fd >= 0)
        layout->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    return layout;
}

static gsize bitmap_offset(const TestMemory *memory, guint region)
{
    gsize offset = 0;

    for (guint i = 0; i < region; i++)
        offset += (memory->maps[i].length / 4096 + 63) / 64;
    return offset;
}

void test_memory_write(TestMemory *memory, guint region, gsize offset, gconstpointer bytes,
                       gsize len)
{
    guint64 page = offset / 4096;

    memcpy(memory->maps[region].at + offset, bytes, len);
    memory->dirty[bitmap_offset(memory, region) + page / 64] |= G_GUINT64_CONSTANT(1)
                                                                << (page % 64);
}

/* ---- what the client says ---- */

static TestEvent *put(TestClient *client, MemoryEventType type)
{
    TestEvent *said = g_new0(TestEvent, 1);

    said->event = (MemoryEvent){ .type = type, .fd = -1 };
    g_queue_push_tail(&client->events, said);
    return said;
}

static gboolean refuses(TestClient *client)
{
    TestEvent *said;

    if (!client->refuses)
        return FALSE;
    said = put(client, MEMORY_EV_FAILED);
    said->event.text = said->text = g_strdup("not today");
    return TRUE;
}

static void answer(MemoryClient *base, MemoryEventType type)
{
    TestClient *client = (TestClient *)base;

    if (!refuses(client))
        put(client, type);
}

void test_client_say(TestClient *client, MemoryEventType type)
{
    TestEvent *said = put(client, type);

    if (type == MEMORY_EV_GONE || type == MEMORY_EV_FAILED)
        said->event.text = said->text = g_strdup("gone fishing");
}

void test_client_hint(TestClient *client, guint block, const MemoryRange *ranges, guint n)
{
    TestEvent *said = put(client, MEMORY_EV_FREE_HINTS);

    said->ranges = g_memdup(ranges, n * sizeof *ranges);
    said->event.block = block;
    said->event.ranges = said->ranges;
    said->event.n_ranges = n;
}

void test_client_share(TestClient *client, guint32 id, guint block, const void *at, int uffd)
{
    TestEvent *said = put(client, MEMORY_EV_SHARED);

    said->mapping = (MemoryMapping){ block, 0, client->memory->maps[block].length,
                                     (guint64)(guintptr)at };
    said->event.id = id;
    said->event.fd = duplicate(uffd);
    said->event.mappings = &said->mapping;
    said->event.n_mappings = 1;
}

void test_client_unshare(TestClient *client, guint32 id)
{
    put(client, MEMORY_EV_UNSHARED)->event.id = id;
}

void test_client_vcpus(TestClient *client, const guint32 *threads, guint n)
{
    TestEvent *said = put(client, MEMORY_EV_VCPUS);

    said->event.threads = threads;
    said->event.n_threads = n;
}

TestEvent *test_client_next(TestClient *client)
{
    return g_queue_pop_head(&client->events);
}

void test_event_free(TestEvent *said)
{
    autofd_clear(&said->event.fd);
    if (said->bytes)
        g_bytes_unref(said->bytes);
    g_free(said->ranges);
    g_free(said->text);
    g_free(said);
}

/* ---- what it is asked ---- */

static void on_advise(MemoryClient *base)
{
    answer(base, MEMORY_EV_ADVISED);
}

static void on_pause(MemoryClient *base)
{
    TestClient *client = (TestClient *)base;

    if (refuses(client))
        return;
    client->paused = TRUE;
    put(client, MEMORY_EV_PAUSED);
    if (client->spare) {
        g_assert(client->running);
        client->running = FALSE;
        return;
    }
    for (guint at = 0;; at += DEVICE_PIECE) {
        gsize len = MIN(client->device->len - at, DEVICE_PIECE);
        TestEvent *said = put(client, MEMORY_EV_DEVICE);

        /* A client without devices has no data to add to: nothing of nothing. */
        said->bytes = g_bytes_new(len > 0 ? client->device->data + at : NULL, len);
        said->event.bytes = g_bytes_get_data(said->bytes, &said->event.len);
        said->event.last = at + len == client->device->len;
        if (said->event.last)
            return;
    }
}

static void on_throttle(MemoryClient *base, guint percent)
{
    ((TestClient *)base)->throttle = percent;
}

static void on_resume(MemoryClient *base, const char *reason)
{
    TestClient *client = (TestClient *)base;

    g_assert(client->paused || !client->spare);
    client->paused = FALSE;
    client->running = client->spare;
    client->resumes++;
}

static void on_no_return(MemoryClient *base)
{
    TestClient *client = (TestClient *)base;

    client->gone_over = TRUE;
    answer(base, MEMORY_EV_GIVEN_UP);
}

static void on_log_sync(MemoryClient *base)
{
    TestClient *client = (TestClient *)base;
    TestMemory *memory = client->memory;
    guint64 *words = mmap(NULL, memory->bitmap_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                          memory->dirty_fd, 0);

    g_assert(words != MAP_FAILED);
    for (gsize i = 0; i < memory->bitmap_bytes / sizeof *words; i++)
        __atomic_fetch_or(&words[i], memory->dirty[i], __ATOMIC_SEQ_CST);
    memset(memory->dirty, 0, memory->bitmap_bytes);
    munmap(words, memory->bitmap_bytes);
    answer(base, MEMORY_EV_SYNCED);
}

static void on_discard(MemoryClient *base, guint block, const MemoryRange *ranges, guint n_ranges)
{
    TestClient *client = (TestClient *)base;

    client->discards += n_ranges;
    for (guint i = 0; i < n_ranges; i++)
        g_assert(madvise(client->memory->maps[block].at + ranges[i].start, ranges[i].length,
                         MADV_DONTNEED) == 0);
    answer(base, MEMORY_EV_DISCARDED);
}

static void on_listen(MemoryClient *base)
{
    TestClient *client = (TestClient *)base;
    g_autoptr(GError) error = NULL;
    TestEvent *said;

    if (refuses(client))
        return;
    client->uffd = uffd_open(UFFD_FEATURE_THREAD_ID | client->uffd_features, FALSE, NULL, &error);
    for (guint i = 0; client->uffd >= 0 && i < client->memory->n; i++) {
        const TestMapping *map = &client->memory->maps[i];

        if (!(map->region->flags & MEMORY_IGNORED) &&
            !uffd_register(client->uffd, (guint64)(guintptr)map->at, map->length, NULL, &error))
            break;
    }
    if (error)
        g_error("userfaultfd: %s", error->message);
    said = put(client, MEMORY_EV_LISTENING);
    said->event.fd = duplicate(client->uffd);
}

static void on_device(MemoryClient *base, const guint8 *bytes, gsize len, gboolean last)
{
    TestClient *client = (TestClient *)base;

    if (client->spare && client->loaded) {
        g_byte_array_set_size(client->device, 0);
        client->device_whole = client->loaded = FALSE;
    }
    g_assert(!client->device_whole);
    g_byte_array_append(client->device, bytes, len);
    client->device_whole = last;
}

static void on_run(MemoryClient *base)
{
    TestClient *client = (TestClient *)base;

    g_assert(client->device_whole && !client->running);
    client->runs++;
    client->loaded = TRUE;
    if (!client->refuses)
        client->running = TRUE;
    if (client->spare)
        client->paused = FALSE;
    answer(base, MEMORY_EV_RUNNING);
}

static void on_state(MemoryClient *base, const char *name)
{
    TestClient *client = (TestClient *)base;

    g_string_append_printf(client->states, "%s ", name);
}

static void on_end(MemoryClient *base, MemoryEndOutcome outcome, const char *text)
{
    TestClient *client = (TestClient *)base;

    g_assert(!client->ended);
    client->ended = TRUE;
    client->outcome = outcome;
    client->text = g_strdup(text);
    if (outcome == MEMORY_END_PAUSED || client->uffd < 0)
        return;
    for (guint i = 0; i < client->memory->n; i++)
        uffd_unregister(client->uffd, (guint64)(guintptr)client->memory->maps[i].at,
                        client->memory->maps[i].length, NULL);
    autofd_clear(&client->uffd);
}

static const MemoryClientOps ops = {
    .advise = on_advise,
    .pause = on_pause,
    .throttle = on_throttle,
    .resume = on_resume,
    .no_return = on_no_return,
    .log_sync = on_log_sync,
    .discard = on_discard,
    .listen = on_listen,
    .device = on_device,
    .run = on_run,
    .state = on_state,
    .end = on_end,
};

TestClient *test_client_new(TestMemory *memory)
{
    TestClient *client = g_new0(TestClient, 1);

    client->base.ops = &ops;
    client->memory = memory;
    client->device = g_byte_array_new();
    client->states = g_string_new(NULL);
    client->uffd = -1;
    g_queue_init(&client->events);
    return client;
}

void test_client_free(TestClient *client)
{
    if (!client)
        return;
    g_queue_clear_full(&client->events, (GDestroyNotify)test_event_free);
    g_byte_array_unref(client->device);
    g_string_free(client->states, TRUE);
    autofd_clear(&client->uffd);
    g_free(client->text);
    g_free(client);
}
