/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Guest memory of a test, for real: memfds, private memory and huge pages that this process has
 * mapped, and the memory client that has handed it over. The client answers when the test says
 * so. */
#pragma once

#include "ram/mapped/memory_client.h"

#define TEST_HUGE_PAGE (2 * 1024 * 1024)

typedef enum { TEST_MEMFD, TEST_PRIVATE, TEST_HUGE } TestBacking;

typedef struct {
    const char *name;
    guint n_pages; /* host pages */
    TestBacking backing;
    guint32 flags;
} TestRegion;

typedef struct {
    guint8 *at;
    gsize length;
    gsize page_size;
    int fd;
    const TestRegion *region;
} TestMapping;

typedef struct {
    TestMapping *maps;
    guint n;
    int received_fd;
    int dirty_fd;
    guint64 *dirty; /* what the guest has written since the last log_sync, as in dirty_fd */
    gsize bitmap_bytes;
    int watch_fd; /* -1, or a userfaultfd: the pagemap is handed over as well */
} TestMemory;

/* NULL: there are no huge pages to be had. regions must outlive it. */
TestMemory *test_memory_new(const TestRegion *regions, guint n);
void test_memory_free(TestMemory *memory);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TestMemory, test_memory_free)

/* Private regions are registered for write protection (nothing is protected): a source sees by the
 * pagemap what of them was never touched. FALSE: this kernel cannot. */
gboolean test_memory_watch(TestMemory *memory);

/* Enough huge pages for so many; what was there is put back by test_huge_pages_restore(). */
gboolean test_huge_pages_reserve(guint n);
void test_huge_pages_restore(void);

/* As it is handed over: duplicates of all descriptors. uffd: -1, or what a recovery has
 * (duplicated). */
MemoryLayout *test_memory_layout(const TestMemory *memory, gboolean recovers, int uffd);

/* A guest's write: of len bytes (within a page), noted as dirty. */
void test_memory_write(TestMemory *memory, guint region, gsize offset, gconstpointer bytes,
                       gsize len);

/* ---- the client ---- */

typedef struct {
    MemoryClient base;
    TestMemory *memory;
    GQueue events;      /* of TestEvent: answers that wait for test_client_next() */
    GByteArray *device; /* destination: what it was sent; source: what it sends */
    gboolean device_whole;
    gboolean paused;    /* source: its guest stands still */
    gboolean gone_over; /* source: the guest is the destination's */
    gboolean running;   /* destination: it was told to run */
    guint discards;     /* ranges it was asked to drop */
    guint throttle;
    GString *states;    /* "setup advise ..." */
    gboolean ended;
    MemoryEndOutcome outcome;
    char *text;
    int uffd;           /* its own, once it listens */
    guint64 uffd_features; /* UFFD_FEATURE_* that it has besides thread ids */
    gboolean spare;     /* destination: checkpoints are loaded into it */
    gboolean loaded;    /* run, with the device state that is here */
    guint runs;         /* destination: how often it was told to run */
    guint resumes;
    gboolean refuses;   /* fails whatever it is asked next */
} TestClient;

typedef struct {
    MemoryEvent event;
    GBytes *bytes;
    MemoryRange *ranges;
    MemoryMapping mapping;
    char *text;
} TestEvent;

TestClient *test_client_new(TestMemory *memory);
void test_client_free(TestClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TestClient, test_client_free)

/* Something it says of its own accord, after what it has not said yet. */
void test_client_say(TestClient *client, MemoryEventType type);
/* The same, with ranges of a block. */
void test_client_hint(TestClient *client, guint block, const MemoryRange *ranges, guint n);
/* Another process, id, has all of a memfd's region mapped at that address; its userfaultfd is
 * duplicated. And that one leaves. */
void test_client_share(TestClient *client, guint32 id, guint block, const void *at, int uffd);
void test_client_unshare(TestClient *client, guint32 id);
/* These threads are the guest's; they stay the caller's until that was heard. */
void test_client_vcpus(TestClient *client, const guint32 *threads, guint n);
/* The next thing it says, or NULL; free with test_event_free(). */
TestEvent *test_client_next(TestClient *client);
void test_event_free(TestEvent *event);
