/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libpostcopy-client as a VMM uses it, against the helper's end of the hand-over: real memory, real
 * userfaultfd. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/handover.h"
#include "client/postcopy-client.h"
#include "ram/mapped/client_link.h"
#include "util/autofd.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define PAGE 4096
#define PAGES 64
#define LENGTH (PAGE * PAGES)

/* ---- a VMM, and a helper ---- */

typedef struct {
    PostcopySide side;
    PostcopyClient *client;
    guint8 *shared, *private;
    int memfd;

    ClientLink *link;
    GArray *events;
    GByteArray *device; /* that came from the client */
    char *text;         /* of the last event that had one */
    int uffd;
    guint32 threads[8]; /* MEMORY_EV_VCPUS */
    guint n_threads;

    GString *calls;     /* of callbacks, a word each */
    int prepare_ret, pause_ret, run_ret, stop_ret;
    guint8 *state;
    gsize state_len;
    GByteArray *ran_with;
} Vmm;

static int on_prepare(void *data)
{
    Vmm *vmm = data;

    g_string_append(vmm->calls, "prepare ");
    return vmm->prepare_ret;
}

static void on_state(void *data, const char *name)
{
    g_string_append_printf(((Vmm *)data)->calls, "state:%s ", name);
}

static int on_pause(void *data, const void **ret_state, size_t *ret_len)
{
    Vmm *vmm = data;

    g_string_append(vmm->calls, "pause ");
    *ret_state = vmm->state;
    *ret_len = vmm->state_len;
    return vmm->pause_ret;
}

static void on_resume(void *data, const char *reason)
{
    g_string_append_printf(((Vmm *)data)->calls, "resume:%s ", reason);
}

static void on_throttle(void *data, unsigned percent)
{
    g_string_append_printf(((Vmm *)data)->calls, "throttle:%u ", percent);
}

static int on_run(void *data, const void *state, size_t len)
{
    Vmm *vmm = data;

    g_string_append(vmm->calls, "run ");
    if (len > 0)
        g_byte_array_append(vmm->ran_with, state, (guint)len);
    return vmm->run_ret;
}

static int on_stop(void *data)
{
    Vmm *vmm = data;

    g_string_append(vmm->calls, "stop ");
    return vmm->stop_ret;
}

static int on_log_start(void *data)
{
    g_string_append(((Vmm *)data)->calls, "log_start ");
    return 0;
}

static int on_log_sync(void *data, unsigned region, uint64_t *bitmap, uint64_t n_pages)
{
    g_string_append_printf(((Vmm *)data)->calls, "log_sync:%u:%u ", region, (guint)n_pages);
    __atomic_fetch_or(&bitmap[0], G_GUINT64_CONSTANT(1) << (region + 3), __ATOMIC_SEQ_CST);
    return 0;
}

static void on_log_stop(void *data)
{
    g_string_append(((Vmm *)data)->calls, "log_stop ");
}

static const PostcopyCallbacks callbacks = {
    .size = sizeof(PostcopyCallbacks),
    .prepare = on_prepare,
    .state = on_state,
    .pause = on_pause,
    .resume = on_resume,
    .throttle = on_throttle,
    .run = on_run,
};

static void add_regions(Vmm *vmm)
{
    PostcopyRegion shared = { .name = "shared", .length = LENGTH, .page_size = PAGE,
                              .flags = POSTCOPY_REGION_MIGRATABLE, .fd_offset = PAGE };
    PostcopyRegion private = { .name = "private", .length = LENGTH, .page_size = PAGE,
                               .flags = POSTCOPY_REGION_MIGRATABLE, .fd = -1 };

    vmm->memfd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(vmm->memfd >= 0);
    assert_return_code(ftruncate(vmm->memfd, LENGTH + PAGE), errno);
    vmm->shared = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, vmm->memfd, PAGE);
    /* Where nobody else's memory comes to be by itself: a hole in it stays one. */
    vmm->private = mmap((gpointer)(gsize)0x10000000, LENGTH, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(vmm->shared != MAP_FAILED && vmm->private != MAP_FAILED);
    shared.address = vmm->shared;
    shared.fd = vmm->memfd;
    private.address = vmm->private;
    assert_int_equal(postcopy_client_add_region(vmm->client, &shared), -EINVAL);
    assert_non_null(strstr(postcopy_client_error(vmm->client), "F_SEAL_SHRINK"));
    assert_return_code(fcntl(vmm->memfd, F_ADD_SEALS, F_SEAL_SHRINK), errno);
    assert_int_equal(postcopy_client_add_region(vmm->client, &shared), 0);
    assert_int_equal(postcopy_client_add_region(vmm->client, &private), 0);
}

static Vmm *vmm_new_with(PostcopySide side, const PostcopyCallbacks *own)
{
    Vmm *vmm = g_new0(Vmm, 1);

    vmm->side = side;
    vmm->client = postcopy_client_new(side, "guest", own, vmm);
    assert_non_null(vmm->client);
    vmm->events = g_array_new(FALSE, FALSE, sizeof(MemoryEventType));
    vmm->device = g_byte_array_new();
    vmm->ran_with = g_byte_array_new();
    vmm->calls = g_string_new(NULL);
    vmm->uffd = -1;
    add_regions(vmm);
    return vmm;
}

static Vmm *vmm_new(PostcopySide side)
{
    return vmm_new_with(side, &callbacks);
}

static void vmm_free(Vmm *vmm)
{
    postcopy_client_free(vmm->client);
    client_link_free(vmm->link);
    autofd_clear(&vmm->uffd);
    autofd_clear(&vmm->memfd);
    munmap(vmm->shared, LENGTH);
    munmap(vmm->private, LENGTH);
    g_array_unref(vmm->events);
    g_byte_array_unref(vmm->device);
    g_byte_array_unref(vmm->ran_with);
    g_string_free(vmm->calls, TRUE);
    g_free(vmm->text);
    g_free(vmm);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Vmm, vmm_free)

static void send_message(int fd, HandoverMessage *m)
{
    g_autofree guint8 *bytes = g_malloc(HANDOVER_MESSAGE_MAX);
    size_t len = handover_encode(m, bytes);

    assert_true(len > 0);
    assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
}

static void welcome(int fd, PostcopySide side)
{
    g_autofree HandoverMessage *m = g_new0(HandoverMessage, 1);

    m->type = HANDOVER_WELCOME;
    m->welcome.session = handover_text("00112233445566778899aabbccddeeff", 32);
    if (side == POSTCOPY_DESTINATION)
        m->welcome.uri = handover_text("postcopy:///?x", 14);
    send_message(fd, m);
}

/* What the daemon reads. */
static void read_hello(int fd, PostcopySide side, gboolean recovers)
{
    g_autofree guint8 *bytes = g_malloc(HANDOVER_MESSAGE_MAX);
    g_autofree HandoverMessage *m = g_new0(HandoverMessage, 1);
    char error[HANDOVER_ERROR_MAX];
    gssize len = recv(fd, bytes, HANDOVER_MESSAGE_MAX, MSG_DONTWAIT);

    assert_true(len > 0);
    assert_true(handover_decode(bytes, (gsize)len, 0, m, error));
    assert_int_equal(m->type, HANDOVER_HELLO);
    assert_int_equal(m->hello.role, side);
    assert_int_equal(m->hello.recovers, recovers);
    assert_memory_equal(m->hello.name.bytes, "guest", 5);
}

static void on_event(MemoryEvent *event, gpointer data)
{
    Vmm *vmm = data;

    g_array_append_val(vmm->events, event->type);
    if (event->type == MEMORY_EV_DEVICE && event->len > 0)
        g_byte_array_append(vmm->device, event->bytes, (guint)event->len);
    if (event->type == MEMORY_EV_LISTENING)
        vmm->uffd = autofd_steal(&event->fd);
    if (event->type == MEMORY_EV_VCPUS) {
        assert_true(event->n_threads <= G_N_ELEMENTS(vmm->threads));
        vmm->n_threads = event->n_threads;
        for (guint i = 0; i < event->n_threads; i++)
            vmm->threads[i] = event->threads[i];
    }
    if (event->text) {
        g_free(vmm->text);
        vmm->text = g_strdup(event->text);
    }
}

static void link_run(Vmm *vmm)
{
    client_link_run(vmm->link, on_event, vmm);
}

/* Until neither has anything to say. Returns what dispatch did. */
static int settle(Vmm *vmm)
{
    int ret = 1;

    for (guint i = 0; i < 400; i++) {
        ret = postcopy_client_dispatch(vmm->client);
        link_run(vmm);
    }
    return ret;
}

static void vmm_connect(Vmm *vmm, gboolean recovers)
{
    const char *uri = vmm->side == POSTCOPY_SOURCE ? "postcopy:///?peer=b:1" : NULL;
    g_autoptr(GError) error = NULL;
    int fds[2];

    assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), errno);
    welcome(fds[1], vmm->side);
    if (postcopy_client_connect_fd(vmm->client, fds[0], uri) != 0)
        fail_msg("%s", postcopy_client_error(vmm->client));
    read_hello(fds[1], vmm->side, recovers);
    g_clear_pointer(&vmm->link, client_link_free);
    vmm->link = client_link_new(fds[1], vmm->side == POSTCOPY_SOURCE, &error);
    assert_non_null(vmm->link);
    link_run(vmm);
    if (!client_link_layout(vmm->link))
        fail_msg("%s", vmm->text);
}

static MemoryClient *ask(Vmm *vmm)
{
    return client_link_client(vmm->link);
}

static gboolean came(const Vmm *vmm, MemoryEventType type)
{
    for (guint i = 0; i < vmm->events->len; i++)
        if (g_array_index(vmm->events, MemoryEventType, i) == type)
            return TRUE;
    return FALSE;
}

static void advise(Vmm *vmm)
{
    ask(vmm)->ops->advise(ask(vmm));
    assert_int_equal(settle(vmm), 1);
    if (!came(vmm, MEMORY_EV_ADVISED) && strstr(vmm->text, "No userfaultfd")) {
        print_message("%s\n", vmm->text);
        skip();
    }
    if (!came(vmm, MEMORY_EV_ADVISED))
        fail_msg("%s", vmm->text);
}

static Vmm *vmm_new_advised(PostcopySide side)
{
    Vmm *vmm = vmm_new(side);

    vmm_connect(vmm, FALSE);
    advise(vmm);
    return vmm;
}

static void set_state(Vmm *vmm, gsize len)
{
    vmm->state = g_malloc(MAX(len, 1));
    vmm->state_len = len;
    for (gsize i = 0; i < len; i++)
        vmm->state[i] = (guint8)(i * 13 + i / 256);
}

static void pause_it(Vmm *vmm)
{
    ask(vmm)->ops->pause(ask(vmm));
    settle(vmm);
    assert_true(came(vmm, MEMORY_EV_PAUSED));
}

/* The source's client knows that the other host may run it. */
static void give_up(Vmm *vmm)
{
    pause_it(vmm);
    ask(vmm)->ops->no_return(ask(vmm));
    settle(vmm);
    assert_true(came(vmm, MEMORY_EV_GIVEN_UP));
}

static void drop_link(Vmm *vmm)
{
    g_clear_pointer(&vmm->link, client_link_free);
}

static void assert_calls(const Vmm *vmm, const char *calls)
{
    assert_string_equal(vmm->calls->str, calls);
}

/* ---- handing over ---- */

static void memory_is_handed_over_as_it_was_added(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_SOURCE);
    const MemoryLayout *layout;
    guint8 page[PAGE], expected[PAGE];

    assert_int_equal(postcopy_client_set(vmm->client, POSTCOPY_MAX_BANDWIDTH, 1 << 30), 0);
    assert_int_equal(postcopy_client_set(vmm->client, POSTCOPY_XBZRLE_CACHE, 64 << 20), 0);
    vmm_connect(vmm, FALSE);
    layout = client_link_layout(vmm->link);
    assert_int_equal(layout->n_regions, 2);
    assert_string_equal(layout->regions[0].name, "shared");
    assert_string_equal(layout->regions[1].name, "private");
    assert_int_equal(layout->regions[1].address, (guint64)(guintptr)vmm->private);
    assert_int_equal(layout->regions[0].flags, MEMORY_MIGRATABLE | MEMORY_ZEROABLE);
    assert_int_equal(layout->params.max_bandwidth, 1 << 30);
    assert_int_equal(layout->params.downtime_limit_ms, 300);
    assert_int_equal(layout->params.xbzrle_cache, 64 << 20);
    assert_true(layout->params.postcopy);
    assert_int_equal(layout->regions[1].fd, -1);

    memset(expected, 0x5a, PAGE);
    memcpy(vmm->shared + PAGE, expected, PAGE);
    memcpy(vmm->private + PAGE, expected, PAGE);
    assert_int_equal(pread(layout->regions[0].fd, page, PAGE,
                           (off_t)layout->regions[0].fd_offset + PAGE), PAGE);
    assert_memory_equal(page, expected, PAGE);
    assert_int_equal(pread(layout->mem_fd, page, PAGE,
                           (off_t)layout->regions[1].address + PAGE), PAGE);
    assert_memory_equal(page, expected, PAGE);
    assert_string_equal(postcopy_client_session(vmm->client), "00112233445566778899aabbccddeeff");
}

static void a_destination_is_told_its_uri(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_DESTINATION);

    assert_null(postcopy_client_uri(vmm->client));
    vmm_connect(vmm, FALSE);
    assert_string_equal(postcopy_client_uri(vmm->client), "postcopy:///?x");
    assert_true(client_link_layout(vmm->link)->received_fd >= 0);
}

/* Its pages that were not touched are not zeros. */
static void memory_of_a_file_is_not_taken_for_private_memory(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_SOURCE);
    const int flags[] = { MAP_PRIVATE, MAP_SHARED };
    int fd = memfd_create("file", MFD_CLOEXEC);

    assert_return_code(ftruncate(fd, 65536), errno);
    for (guint i = 0; i < G_N_ELEMENTS(flags); i++) {
        void *at = mmap(NULL, 65536, PROT_READ | PROT_WRITE, flags[i], fd, 0);
        const PostcopyRegion region = { .name = "file",
                                        .address = at,
                                        .length = 65536,
                                        .page_size = 4096,
                                        .flags = POSTCOPY_REGION_MIGRATABLE,
                                        .fd = -1 };

        assert_true(at != MAP_FAILED);
        assert_int_equal(postcopy_client_add_region(vmm->client, &region), -EINVAL);
        assert_non_null(strstr(postcopy_client_error(vmm->client), "Region file"));
        munmap(at, 65536);
    }
    close(fd);
}

static void a_refusal_is_passed_on(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_DESTINATION);
    g_autofree HandoverMessage *m = g_new0(HandoverMessage, 1);
    int fds[2];

    assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), errno);
    m->type = HANDOVER_REFUSED;
    m->text = handover_text("too many migrations", 19);
    send_message(fds[1], m);
    assert_int_equal(postcopy_client_connect_fd(vmm->client, fds[0], NULL), -ECONNREFUSED);
    assert_string_equal(postcopy_client_error(vmm->client), "too many migrations");
    assert_int_equal(postcopy_client_fd(vmm->client), -1);
    close(fds[1]);
    /* It can be tried again. */
    vmm_connect(vmm, FALSE);
}

static void a_daemon_that_closes_or_says_nonsense_is_an_error(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_DESTINATION);
    int fds[2];

    assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), errno);
    close(fds[1]);
    assert_true(postcopy_client_connect_fd(vmm->client, fds[0], NULL) < 0);
    assert_true(strlen(postcopy_client_error(vmm->client)) > 0);
    assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), errno);
    assert_int_equal(send(fds[1], "hello", 5, 0), 5);
    assert_int_equal(postcopy_client_connect_fd(vmm->client, fds[0], NULL), -EPROTO);
    close(fds[1]);
    assert_int_equal(postcopy_client_connect(vmm->client, "/nonexistent/socket", NULL), -ENOENT);
    assert_non_null(strstr(postcopy_client_error(vmm->client), "virtpostcopyd"));
}

static gpointer accept_and_welcome(gpointer data)
{
    int fd = accept4(GPOINTER_TO_INT(data), NULL, NULL, SOCK_CLOEXEC);

    if (fd >= 0)
        welcome(fd, POSTCOPY_DESTINATION);
    return GINT_TO_POINTER(fd);
}

static void the_daemons_socket_is_found_by_its_path(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_DESTINATION);
    g_autofree char *dir = g_dir_make_tmp("test-client-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "sock", NULL);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    autofd listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    autofd accepted = -1;
    GThread *thread;

    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    assert_return_code(bind(listener, (struct sockaddr *)&address, sizeof address), errno);
    assert_return_code(listen(listener, 1), errno);
    thread = g_thread_new("daemon", accept_and_welcome, GINT_TO_POINTER(listener));
    assert_int_equal(postcopy_client_connect(vmm->client, path, NULL), 0);
    accepted = GPOINTER_TO_INT(g_thread_join(thread));
    read_hello(accepted, POSTCOPY_DESTINATION, FALSE);
    unlink(path);
    rmdir(dir);
}

/* ---- a source ---- */

static void a_source_goes_all_the_way(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_SOURCE);

    set_state(vmm, 200000);
    ask(vmm)->ops->state(ask(vmm), "active");
    ask(vmm)->ops->throttle(ask(vmm), 30);
    pause_it(vmm);
    assert_int_equal(vmm->device->len, vmm->state_len);
    assert_memory_equal(vmm->device->data, vmm->state, vmm->state_len);
    ask(vmm)->ops->no_return(ask(vmm));
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_COMPLETED, NULL);
    assert_int_equal(settle(vmm), 0);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_COMPLETED);
    assert_calls(vmm, "prepare state:active throttle:30 pause ");
    assert_int_equal(postcopy_client_fd(vmm->client), -1);
    g_free(vmm->state);
}

static void a_state_may_be_empty(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_SOURCE);

    pause_it(vmm);
    assert_true(came(vmm, MEMORY_EV_DEVICE));
    assert_int_equal(vmm->device->len, 0);
}

static void a_state_that_is_too_long_is_a_failure(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_SOURCE);

    vmm->state_len = POSTCOPY_STATE_MAX + 1;
    ask(vmm)->ops->pause(ask(vmm));
    assert_int_equal(settle(vmm), 1);
    assert_true(came(vmm, MEMORY_EV_FAILED));
    assert_non_null(strstr(vmm->text, "16777217"));
}

static void what_is_written_is_seen_by_way_of_the_kernel(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_SOURCE);
    /* What linux/fs.h has from 6.7 on: struct pm_scan_arg and page_region. */
    struct {
        guint64 size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted,
            category_mask, category_anyof_mask, return_mask;
    } scan;
    struct {
        guint64 start, end, categories;
    } found[PAGES];
    const guint64 wp_matching = 1, check_wpasync = 2, is_written = 2;
    guint8 *areas[] = { vmm->shared, vmm->private };

    for (guint i = 0; i < 2; i++)
        for (guint round = 0; round < 2; round++) {
            memset(found, 0, sizeof found);
            memset(&scan, 0, sizeof scan);
            scan.size = sizeof scan;
            scan.flags = wp_matching | check_wpasync;
            scan.start = (guint64)(guintptr)areas[i];
            scan.end = scan.start + LENGTH;
            scan.vec = (guint64)(guintptr)found;
            scan.vec_len = PAGES;
            scan.category_mask = scan.return_mask = is_written;
            /* PAGEMAP_SCAN */
            int n = ioctl(client_link_layout(vmm->link)->pagemap_fd,
                          _IOWR('f', 16, guint8[sizeof scan]), &scan);

            assert_return_code(n, errno);
            if (round == 0) {
                areas[i][5 * PAGE] = 1;
                continue;
            }
            assert_int_equal(n, 1);
            assert_int_equal(found[0].start, (guint64)(guintptr)areas[i] + 5 * PAGE);
            assert_int_equal(found[0].end, found[0].start + PAGE);
        }
}

static PostcopyCallbacks with_log(void)
{
    PostcopyCallbacks own = callbacks;

    own.log_start = on_log_start;
    own.log_sync = on_log_sync;
    own.log_stop = on_log_stop;
    return own;
}

static void a_log_of_ones_own_is_written_where_the_helper_reads(void **state)
{
    PostcopyCallbacks own = with_log();
    g_autoptr(Vmm) vmm = vmm_new_with(POSTCOPY_SOURCE, &own);
    const MemoryLayout *layout;
    guint64 words[2];

    vmm_connect(vmm, FALSE);
    layout = client_link_layout(vmm->link);
    assert_int_equal(layout->log, MEMORY_LOG_CLIENT);
    assert_int_equal(layout->pagemap_fd, -1);
    advise(vmm);
    ask(vmm)->ops->log_sync(ask(vmm));
    settle(vmm);
    assert_true(came(vmm, MEMORY_EV_SYNCED));
    assert_int_equal(pread(layout->dirty_fd, words, sizeof words, 0), sizeof words);
    assert_int_equal(words[0], 1 << 3);
    assert_int_equal(words[1], 1 << 4);
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_CANCELLED, NULL);
    assert_int_equal(settle(vmm), 0);
    assert_calls(vmm, "prepare log_start log_sync:0:64 log_sync:1:64 log_stop ");
}

static void a_failure_before_the_switch_over_lets_the_guest_go_on(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_SOURCE);

    pause_it(vmm);
    ask(vmm)->ops->resume(ask(vmm), "no room there");
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_FAILED, "no room there");
    assert_int_equal(settle(vmm), 0);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_FAILED);
    assert_string_equal(postcopy_client_error(vmm->client), "no room there");
    /* Once. */
    assert_calls(vmm, "prepare pause resume:no room there ");
}

static void a_helper_that_dies_lets_the_guest_go_on(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_SOURCE);
    g_autoptr(Vmm) not_paused = vmm_new_advised(POSTCOPY_SOURCE);

    pause_it(vmm);
    drop_link(vmm);
    assert_true(postcopy_client_dispatch(vmm->client) < 0);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_FAILED);
    assert_non_null(strstr(vmm->calls->str, "pause resume:"));
    drop_link(not_paused);
    assert_true(postcopy_client_dispatch(not_paused->client) < 0);
    assert_calls(not_paused, "prepare ");
}

static void after_the_point_of_no_return_the_guest_never_runs_here(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_SOURCE);

    give_up(vmm);
    drop_link(vmm);
    assert_int_equal(postcopy_client_dispatch(vmm->client), 0);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_PAUSED);
    assert_calls(vmm, "prepare pause ");
}

/* It has been told to pause and to go on, and the helper has gone before it has done either. */
static void last_words_count_though_nobody_hears_the_answers(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_SOURCE);

    ask(vmm)->ops->pause(ask(vmm));
    ask(vmm)->ops->resume(ask(vmm), "no way");
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_FAILED, "no way");
    drop_link(vmm);
    assert_int_equal(postcopy_client_dispatch(vmm->client), 0);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_FAILED);
    assert_string_equal(postcopy_client_error(vmm->client), "no way");
    assert_calls(vmm, "prepare pause resume:no way ");
}

/* What stands unread in its socket: the helper had no answer, so that nothing runs over there. */
static void a_point_of_no_return_that_was_not_answered_is_none(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_SOURCE);

    pause_it(vmm);
    ask(vmm)->ops->no_return(ask(vmm));
    assert_false(came(vmm, MEMORY_EV_GIVEN_UP));
    drop_link(vmm);
    assert_true(postcopy_client_dispatch(vmm->client) < 0);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_FAILED);
    assert_non_null(strstr(vmm->calls->str, "pause resume:"));
}

/* The destination was not told to run it after all. */
static void the_helper_can_take_the_point_of_no_return_back(void **state)
{
    for (guint i = 0; i < 2; i++) {
        g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_SOURCE);
        const MemoryRange beyond = { LENGTH, PAGE };

        give_up(vmm);
        if (i == 1) {
            ask(vmm)->ops->discard(ask(vmm), 1, &beyond, 1);
            settle(vmm);
            assert_true(came(vmm, MEMORY_EV_FAILED));
        }
        ask(vmm)->ops->resume(ask(vmm), "no room there");
        ask(vmm)->ops->end(ask(vmm), MEMORY_END_FAILED, "no room there");
        assert_int_equal(settle(vmm), i == 1 ? -ERANGE : 0);
        assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_FAILED);
        assert_calls(vmm, "prepare pause resume:no room there ");
    }
}

static void a_guest_that_runs_nowhere_can_be_taken_back(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_SOURCE);
    g_autoptr(Vmm) destination = vmm_new(POSTCOPY_DESTINATION);

    assert_int_equal(postcopy_client_take_back(vmm->client), -EINVAL);
    give_up(vmm);
    assert_int_equal(postcopy_client_take_back(vmm->client), -EINVAL);
    drop_link(vmm);
    assert_int_equal(postcopy_client_dispatch(vmm->client), 0);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_PAUSED);
    assert_int_equal(postcopy_client_take_back(vmm->client), 0);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_FAILED);
    assert_calls(vmm, "prepare pause resume:The destination has no guest ");
    assert_int_equal(postcopy_client_take_back(vmm->client), -EINVAL);
    assert_int_equal(postcopy_client_take_back(destination->client), -EINVAL);
    /* It can be moved again, as any other. */
    vmm_connect(vmm, FALSE);
    advise(vmm);
}

static void a_source_recovers_without_a_log(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_SOURCE);

    pause_it(vmm);
    ask(vmm)->ops->no_return(ask(vmm));
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_PAUSED, "the link");
    assert_int_equal(settle(vmm), 0);
    vmm_connect(vmm, TRUE);
    assert_true(client_link_layout(vmm->link)->recovers);
    assert_int_equal(client_link_layout(vmm->link)->log, MEMORY_LOG_NONE);
    drop_link(vmm);
    assert_int_equal(postcopy_client_dispatch(vmm->client), 0);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_PAUSED);
    assert_calls(vmm, "prepare pause ");
}

static void a_vmm_may_refuse(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_SOURCE);

    vmm->prepare_ret = -EBUSY;
    vmm_connect(vmm, FALSE);
    ask(vmm)->ops->advise(ask(vmm));
    settle(vmm);
    assert_true(came(vmm, MEMORY_EV_FAILED));
    assert_non_null(strstr(vmm->text, "prepare"));
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_FAILED, vmm->text);
    assert_int_equal(settle(vmm), -EBUSY);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_FAILED);
}

static void a_guest_that_cannot_be_paused_goes_on(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_SOURCE);

    vmm->pause_ret = -EIO;
    ask(vmm)->ops->pause(ask(vmm));
    settle(vmm);
    assert_true(came(vmm, MEMORY_EV_FAILED));
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_FAILED, "pause");
    assert_int_equal(settle(vmm), -EIO);
    assert_calls(vmm, "prepare pause resume:pause ");
}

static void an_answer_may_come_later_and_requests_wait_for_it(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_SOURCE);

    vmm->pause_ret = POSTCOPY_LATER;
    ask(vmm)->ops->pause(ask(vmm));
    ask(vmm)->ops->state(ask(vmm), "device");
    assert_int_equal(settle(vmm), 1);
    assert_false(came(vmm, MEMORY_EV_PAUSED));
    assert_calls(vmm, "prepare pause ");
    assert_int_equal(postcopy_client_answer(vmm->client, 0, "xyz", 3), 0);
    assert_int_equal(settle(vmm), 1);
    assert_true(came(vmm, MEMORY_EV_PAUSED));
    assert_int_equal(vmm->device->len, 3);
    assert_calls(vmm, "prepare pause state:device ");
    assert_int_equal(postcopy_client_answer(vmm->client, 0, NULL, 0), -EINVAL);
}

static gpointer tell_from_another_thread(gpointer data)
{
    Vmm *vmm = data;

    assert_int_equal(postcopy_client_start_postcopy(vmm->client), 0);
    assert_int_equal(postcopy_client_continue(vmm->client), 0);
    assert_int_equal(postcopy_client_free_hint(vmm->client, 1, PAGE, PAGE), 0);
    assert_int_equal(postcopy_client_fail(vmm->client, "enough\nof it"), 0);
    assert_int_equal(postcopy_client_cancel(vmm->client), 0);
    return NULL;
}

static void a_vmm_may_speak_first_in_any_thread(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_SOURCE);

    g_thread_join(g_thread_new("teller", tell_from_another_thread, vmm));
    assert_int_equal(postcopy_client_set(vmm->client, POSTCOPY_DOWNTIME_LIMIT, 500), 0);
    settle(vmm);
    assert_true(came(vmm, MEMORY_EV_START_POSTCOPY));
    assert_true(came(vmm, MEMORY_EV_CONTINUE));
    assert_true(came(vmm, MEMORY_EV_FREE_HINTS));
    assert_true(came(vmm, MEMORY_EV_CANCEL));
    assert_true(came(vmm, MEMORY_EV_PARAMS));
    assert_string_equal(vmm->text, "enough");
    assert_int_equal(postcopy_client_free_hint(vmm->client, 1, 1, PAGE), -EINVAL);
    assert_int_equal(postcopy_client_free_hint(vmm->client, 1, PAGE, LENGTH), -EINVAL);
    assert_int_equal(postcopy_client_free_hint(vmm->client, 2, 0, PAGE), -EINVAL);
    drop_link(vmm);
    postcopy_client_dispatch(vmm->client);
    assert_int_equal(postcopy_client_cancel(vmm->client), -ENOTCONN);
}

static gpointer hint_on(gpointer data)
{
    Vmm *vmm = data;
    int ret;

    do {
        ret = postcopy_client_free_hint(vmm->client, 1, 0, LENGTH);
        g_usleep(50); /* no more than is read */
    } while (ret == 0);
    return GINT_TO_POINTER(ret);
}

/* The userfaultfd is not closed below the hands of who hints. */
static void a_hint_and_the_end_may_meet(void **state)
{
    for (guint i = 0; i < 20; i++) {
        g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_SOURCE);
        GThread *thread = g_thread_new("hinter", hint_on, vmm);

        while (!came(vmm, MEMORY_EV_FREE_HINTS))
            settle(vmm);
        ask(vmm)->ops->end(ask(vmm), MEMORY_END_CANCELLED, "enough");
        while (settle(vmm) == 1)
            ;
        assert_int_equal(GPOINTER_TO_INT(g_thread_join(thread)), -ENOTCONN);
    }
}

/* Told before, told again, and told anew when it has connected again. */
static void a_destination_tells_which_threads_are_the_guests(void **state)
{
    g_autoptr(Vmm) source = vmm_new(POSTCOPY_SOURCE);
    g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_DESTINATION);
    const guint32 threads[] = { 4711, 4712, 4713 };

    assert_int_equal(postcopy_client_set_vcpus(source->client, threads, 1), -EINVAL);
    assert_int_equal(postcopy_client_set_vcpus(vmm->client, (guint32[]){ 1, 0 }, 2), -EINVAL);
    assert_int_equal(postcopy_client_set_vcpus(vmm->client, threads, 2), 0);
    vmm_connect(vmm, FALSE);
    settle(vmm);
    assert_true(came(vmm, MEMORY_EV_VCPUS));
    assert_int_equal(vmm->n_threads, 2);
    assert_int_equal(vmm->threads[1], 4712);
    assert_int_equal(postcopy_client_set_vcpus(vmm->client, threads, 3), 0);
    settle(vmm);
    assert_int_equal(vmm->n_threads, 3);
    assert_int_equal(postcopy_client_set_vcpus(vmm->client, NULL, 0), 0);
    settle(vmm);
    assert_int_equal(vmm->n_threads, 0);
}

static void pages_are_dropped_when_asked(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_DESTINATION);
    const MemoryRange range = { PAGE, 2 * PAGE };

    memset(vmm->shared, 1, LENGTH);
    memset(vmm->private, 1, LENGTH);
    for (guint block = 0; block < 2; block++)
        ask(vmm)->ops->discard(ask(vmm), block, &range, 1);
    settle(vmm);
    assert_true(came(vmm, MEMORY_EV_DISCARDED));
    for (guint i = 0; i < 4; i++) {
        assert_int_equal(vmm->shared[i * PAGE], i == 0 || i == 3);
        assert_int_equal(vmm->private[i * PAGE], i == 0 || i == 3);
    }
}

static void a_discard_beyond_the_end_is_a_failure(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_DESTINATION);
    const MemoryRange range = { LENGTH - PAGE, 2 * PAGE };

    ask(vmm)->ops->discard(ask(vmm), 1, &range, 1);
    settle(vmm);
    assert_true(came(vmm, MEMORY_EV_FAILED));
    assert_non_null(strstr(vmm->text, "beyond"));
}

static void a_request_of_the_other_side_is_a_failure(void **state)
{
    g_autoptr(Vmm) source = vmm_new_advised(POSTCOPY_SOURCE);
    g_autoptr(Vmm) destination = vmm_new_advised(POSTCOPY_DESTINATION);

    ask(source)->ops->run(ask(source));
    settle(source);
    assert_true(came(source, MEMORY_EV_FAILED));
    ask(destination)->ops->pause(ask(destination));
    settle(destination);
    assert_true(came(destination, MEMORY_EV_FAILED));
    assert_calls(destination, "prepare ");
}

/* ---- a destination ---- */

static void listen_for_faults(Vmm *vmm)
{
    ask(vmm)->ops->listen(ask(vmm));
    settle(vmm);
    if (!came(vmm, MEMORY_EV_LISTENING)) {
        print_message("%s\n", vmm->text);
        skip();
    }
}

/* valgrind does not run a process that others wait for in a page fault. */
static gboolean is_under_valgrind(void)
{
    const char *preload = g_getenv("LD_PRELOAD");

    if (!preload || !strstr(preload, "vgpreload"))
        return FALSE;
    print_message("not under valgrind\n"); /* skip() would leave everything behind */
    return TRUE;
}

/* Somebody waits for a byte: another process, so that the test itself never does. */
static pid_t begin_to_read(const guint8 *at)
{
    pid_t owner = getpid(), child;
    guint8 byte = 0;
    struct iovec to = { &byte, 1 }, from = { (guint8 *)at, 1 };

    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    child = fork();
    assert_return_code(child, errno);
    if (child == 0) {
        /* Or nobody would see the end of a connection. */
        close_range(3, G_MAXUINT, 0);
        _exit(process_vm_readv(owner, &to, 1, &from, 1, 0) == 1 ? byte : 1);
    }
    return child;
}

static int what_was_read(pid_t child)
{
    int status;

    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* As the helper does. Returns the address that is waited for. */
static guint64 next_fault(int uffd)
{
    struct pollfd p = { .fd = uffd, .events = POLLIN };
    struct uffd_msg msg;

    assert_int_equal(poll(&p, 1, 30000), 1);
    assert_int_equal(read(uffd, &msg, sizeof msg), sizeof msg);
    assert_int_equal(msg.event, UFFD_EVENT_PAGEFAULT);
    return msg.arg.pagefault.address & ~(guint64)(PAGE - 1);
}

static void place(int uffd, guint64 address, guint8 byte)
{
    guint8 *page = g_malloc(PAGE);
    struct uffdio_copy copy = { .dst = address, .src = (guint64)(guintptr)page, .len = PAGE };

    memset(page, byte, PAGE);
    assert_return_code(ioctl(uffd, UFFDIO_COPY, &copy), errno);
    g_free(page);
}

static void faults_of_a_destination_come_to_the_helper(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_DESTINATION);
    guint8 *areas[] = { vmm->shared, vmm->private };

    if (is_under_valgrind())
        return;
    listen_for_faults(vmm);
    for (guint i = 0; i < 2; i++) {
        pid_t reader = begin_to_read(areas[i] + 3 * PAGE);

        assert_int_equal(next_fault(vmm->uffd), (guint64)(guintptr)areas[i] + 3 * PAGE);
        place(vmm->uffd, (guint64)(guintptr)areas[i] + 3 * PAGE, (guint8)(0x40 + i));
        assert_int_equal(what_was_read(reader), 0x40 + i);
    }
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_COMPLETED, NULL);
    assert_int_equal(settle(vmm), 0);
    /* Registered no more: nobody is asked. */
    assert_int_equal(vmm->private[9 * PAGE], 0);
}

static void the_guest_runs_with_what_it_was(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_DESTINATION);

    set_state(vmm, 300000);
    ask(vmm)->ops->device(ask(vmm), vmm->state, 100000, FALSE);
    ask(vmm)->ops->device(ask(vmm), vmm->state + 100000, 200000, TRUE);
    ask(vmm)->ops->run(ask(vmm));
    settle(vmm);
    assert_true(came(vmm, MEMORY_EV_RUNNING));
    assert_int_equal(vmm->ran_with->len, 300000);
    assert_memory_equal(vmm->ran_with->data, vmm->state, 300000);
    g_free(vmm->state);
}

static void a_guest_that_cannot_run_is_a_failure(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_DESTINATION);

    vmm->run_ret = -ENOSYS;
    ask(vmm)->ops->run(ask(vmm));
    settle(vmm);
    assert_true(came(vmm, MEMORY_EV_FAILED));
    assert_false(came(vmm, MEMORY_EV_RUNNING));
    /* What the helper says of a guest that was to run: it does not know whether it does. */
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_PAUSED, vmm->text);
    assert_int_equal(settle(vmm), -ENOSYS);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_FAILED);
    assert_non_null(strstr(postcopy_client_error(vmm->client), "run"));
    /* There is nothing to recover. */
    vmm->run_ret = 0;
    vmm_connect(vmm, FALSE);
}

/* The helper is gone before the process has said so; or another one is there. */
static void a_guest_that_turns_out_not_to_run_is_a_failure(void **state)
{
    for (guint i = 0; i < 3; i++) {
        g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_DESTINATION);

        listen_for_faults(vmm);
        vmm->run_ret = POSTCOPY_LATER;
        ask(vmm)->ops->device(ask(vmm), (const guint8 *)"abc", 3, TRUE);
        ask(vmm)->ops->run(ask(vmm));
        settle(vmm);
        drop_link(vmm);
        assert_int_equal(postcopy_client_dispatch(vmm->client), 0);
        assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_PAUSED);
        if (i == 0) {
            assert_int_equal(postcopy_client_answer(vmm->client, -EIO, NULL, 0), -ENOTCONN);
        } else {
            vmm_connect(vmm, TRUE);
            assert_int_equal(postcopy_client_answer(vmm->client, i == 1 ? -EIO : 0, NULL, 0),
                             i == 1 ? -EIO : 0);
            settle(vmm);
            assert_true(came(vmm, MEMORY_EV_FAILED) == (i == 1));
            ask(vmm)->ops->end(ask(vmm), MEMORY_END_PAUSED, "the link");
            settle(vmm);
        }
        assert_int_equal(postcopy_client_outcome(vmm->client),
                         i == 2 ? POSTCOPY_PAUSED : POSTCOPY_FAILED);
    }
}

/* Here another userfaultfd has the memory already. */
static void a_destination_that_cannot_listen_says_so_before_anything_moves(void **state)
{
    if (is_under_valgrind())
        return;
    for (guint allowed = 0; allowed < 2; allowed++) {
        g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_DESTINATION);
        struct uffdio_api api = { .api = UFFD_API };
        struct uffdio_register r = { .mode = UFFDIO_REGISTER_MODE_MISSING };
        autofd other = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

        assert_true(other >= 0);
        assert_return_code(ioctl(other, UFFDIO_API, &api), errno);
        r.range.start = (guint64)(guintptr)vmm->private;
        r.range.len = LENGTH;
        assert_return_code(ioctl(other, UFFDIO_REGISTER, &r), errno);
        assert_int_equal(postcopy_client_set(vmm->client, POSTCOPY_ALLOWED, allowed), 0);
        vmm_connect(vmm, FALSE);
        ask(vmm)->ops->advise(ask(vmm));
        settle(vmm);
        assert_true(came(vmm, MEMORY_EV_ADVISED) == !allowed);
        if (!allowed)
            continue;
        assert_non_null(strstr(vmm->text, "Post-copy would not work here: Region private"));
        ask(vmm)->ops->end(ask(vmm), MEMORY_END_FAILED, vmm->text);
        assert_int_equal(settle(vmm), -EBUSY);
        assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_FAILED);
    }
}

/* ---- how its memory is mapped ---- */

/* Lines of smaps. Where sanitizers have terabytes mapped the kernel takes its time for them. */
static char **read_smaps(void)
{
    g_autofree char *text = NULL;

    assert_true(g_file_get_contents("/proc/self/smaps", &text, NULL, NULL));
    return g_strsplit(text, "\n", -1);
}

/* The rest of the line that begins so, of the mapping with that address. */
static const char *mapping_says(char **smaps, const void *address, const char *name)
{
    unsigned long from = 0, to = 0, first, last;

    for (guint i = 0; smaps[i]; i++) {
        if (sscanf(smaps[i], "%lx-%lx ", &first, &last) == 2) {
            from = first;
            to = last;
        }
        if (from <= (guintptr)address && (guintptr)address < to &&
            g_str_has_prefix(smaps[i], name))
            return smaps[i] + strlen(name);
    }
    fail_msg("%p is not mapped", address);
    return NULL;
}

static gboolean has_flag(char **smaps, const void *address, const char *flag)
{
    g_auto(GStrv) words = g_strsplit(mapping_says(smaps, address, "VmFlags:"), " ", -1);

    return g_strv_contains((const char *const *)words, flag);
}

static guint64 locked_kib(char **smaps, const void *address)
{
    return g_ascii_strtoull(mapping_says(smaps, address, "Locked:"), NULL, 10);
}

/* "hg", "nh" or "". */
static const char *huge_pages_of(char **smaps, const void *address)
{
    return has_flag(smaps, address, "hg") ? "hg" : has_flag(smaps, address, "nh") ? "nh" : "";
}

static guint resident_pages(const guint8 *address, guint n)
{
    g_autofree guchar *there = g_new0(guchar, n);
    guint pages = 0;

    assert_return_code(mincore((gpointer)address, n * PAGE, there), errno);
    for (guint i = 0; i < n; i++)
        pages += there[i] & 1;
    return pages;
}

/* Whether the host gives them to private memory that has not asked. */
static gboolean huge_pages_come_unasked(void)
{
    static const char dir[] = "/sys/kernel/mm/transparent_hugepage";
    g_autoptr(GDir) list = g_dir_open(dir, 0, NULL);
    const char *name;

    for (name = ""; list && name; name = g_dir_read_name(list)) {
        g_autofree char *path = g_build_filename(dir, name, "enabled", NULL);
        g_autofree char *text = NULL;

        if (g_file_get_contents(path, &text, NULL, NULL) && strstr(text, "[always]"))
            return TRUE;
    }
    return FALSE;
}

static void ask_for_huge_pages(Vmm *vmm)
{
    if (madvise(vmm->private, 16 * PAGE, MADV_HUGEPAGE) < 0)
        skip();
    assert_return_code(madvise(vmm->private + 16 * PAGE, 16 * PAGE, MADV_NOHUGEPAGE), errno);
    assert_return_code(madvise(vmm->shared, LENGTH, MADV_HUGEPAGE), errno);
}

static void assert_huge_pages(const Vmm *vmm, const char *asked, const char *unasked,
                              const char *shared)
{
    g_auto(GStrv) smaps = read_smaps();

    assert_string_equal(huge_pages_of(smaps, vmm->private), asked);
    assert_string_equal(huge_pages_of(smaps, vmm->private + 16 * PAGE), "nh");
    assert_string_equal(huge_pages_of(smaps, vmm->private + 32 * PAGE), unasked);
    assert_string_equal(huge_pages_of(smaps, vmm->private + LENGTH - PAGE), unasked);
    assert_string_equal(huge_pages_of(smaps, vmm->shared), shared);
}

static void huge_pages_are_kept_away_and_come_back_to_whom_had_them(void **state)
{
    static const MemoryEndOutcome ends[] = { MEMORY_END_COMPLETED, MEMORY_END_FAILED,
                                      MEMORY_END_CANCELLED };
    gboolean unasked = huge_pages_come_unasked();

    for (guint i = 0; i < G_N_ELEMENTS(ends); i++) {
        g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_DESTINATION);

        ask_for_huge_pages(vmm);
        vmm_connect(vmm, FALSE);
        assert_huge_pages(vmm, "hg", "", "hg");
        advise(vmm);
        assert_huge_pages(vmm, "nh", unasked ? "nh" : "", "nh");
        listen_for_faults(vmm);
        if (ends[i] == MEMORY_END_COMPLETED)
            ask(vmm)->ops->run(ask(vmm));
        ask(vmm)->ops->end(ask(vmm), ends[i], "enough");
        settle(vmm);
        /* There is no way to say that one does not ask any more. */
        assert_huge_pages(vmm, "hg", unasked ? "hg" : "", "hg");
    }
}

static void huge_pages_come_back_after_a_recovery(void **state)
{
    const char *unasked = huge_pages_come_unasked() ? "nh" : "";
    g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_DESTINATION);

    ask_for_huge_pages(vmm);
    vmm_connect(vmm, FALSE);
    advise(vmm);
    listen_for_faults(vmm);
    ask(vmm)->ops->run(ask(vmm));
    settle(vmm);
    drop_link(vmm);
    assert_int_equal(postcopy_client_dispatch(vmm->client), 0);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_PAUSED);
    vmm_connect(vmm, TRUE);
    settle(vmm);
    assert_huge_pages(vmm, "nh", unasked, "nh");
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_COMPLETED, NULL);
    settle(vmm);
    assert_huge_pages(vmm, "hg", *unasked ? "hg" : "", "hg");
}

static void huge_pages_stay_away_if_that_is_wanted(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_DESTINATION);
    guint8 *memory = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    PostcopyRegion region = { .name = "small pages", .address = memory, .length = LENGTH,
                              .page_size = PAGE, .fd = -1,
                              .flags = POSTCOPY_REGION_MIGRATABLE | POSTCOPY_REGION_NO_THP };
    g_auto(GStrv) smaps = NULL;

    assert_true(memory != MAP_FAILED);
    if (madvise(memory, LENGTH / 2, MADV_HUGEPAGE) < 0)
        skip();
    assert_int_equal(postcopy_client_add_region(vmm->client, &region), 0);
    vmm_connect(vmm, FALSE);
    advise(vmm);
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_CANCELLED, "enough");
    settle(vmm);
    smaps = read_smaps();
    assert_string_equal(huge_pages_of(smaps, memory), "nh");
    assert_string_equal(huge_pages_of(smaps, memory + LENGTH - PAGE), "nh");
    munmap(memory, LENGTH);
}

static void skip_without_locks(void)
{
#ifdef SANITIZERS
    /* They make mlock() do nothing. */
    skip();
#endif
    /* It has no mlock2(). */
    if (is_under_valgrind())
        skip();
}

static void memory_that_is_not_mapped_is_named_before_anything_moves(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_DESTINATION);

    assert_return_code(munmap(vmm->private + LENGTH / 2, PAGE), errno);
    vmm_connect(vmm, FALSE);
    ask(vmm)->ops->advise(ask(vmm));
    settle(vmm);
    assert_true(came(vmm, MEMORY_EV_FAILED));
    assert_non_null(strstr(vmm->text, "Region private is not mapped"));
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_FAILED, vmm->text);
    assert_int_equal(settle(vmm), -EFAULT);
}

/* All of the shared memory; of the private the first half, and a quarter when it is touched. */
static void lock_memory(Vmm *vmm)
{
    if (mlock(vmm->shared, LENGTH) < 0 || mlock(vmm->private, LENGTH / 2) < 0 ||
        mlock2(vmm->private + LENGTH / 2, LENGTH / 4, MLOCK_ONFAULT) < 0)
        skip();
}

static void assert_locked(const Vmm *vmm)
{
    g_auto(GStrv) smaps = read_smaps();

    assert_int_equal(locked_kib(smaps, vmm->shared), LENGTH / 1024);
    assert_int_equal(locked_kib(smaps, vmm->private), LENGTH / 2 / 1024);
    assert_false(has_flag(smaps, vmm->private, "lf"));
    assert_true(has_flag(smaps, vmm->private + LENGTH / 2, "lo"));
    assert_true(has_flag(smaps, vmm->private + LENGTH / 2, "lf"));
    assert_false(has_flag(smaps, vmm->private + LENGTH - PAGE, "lo"));
}

static void assert_unlocked(const Vmm *vmm)
{
    g_auto(GStrv) smaps = read_smaps();

    for (guint i = 0; i < PAGES; i += PAGES / 4) {
        assert_false(has_flag(smaps, vmm->shared + i * PAGE, "lo"));
        assert_false(has_flag(smaps, vmm->private + i * PAGE, "lo"));
    }
}

/* Wholly; the kernel may have merged its mapping with others of that kind. */
static void assert_all_locked(const void *address, gsize length)
{
    g_auto(GStrv) smaps = read_smaps();

    assert_true(has_flag(smaps, address, "lo"));
    assert_true(locked_kib(smaps, address) >= length / 1024);
}

static void memory_that_was_locked_is_locked_again(void **state)
{
    static const MemoryEndOutcome ends[] = { MEMORY_END_COMPLETED, MEMORY_END_FAILED,
                                      MEMORY_END_CANCELLED };
    const MemoryRange range = { 0, LENGTH };

    skip_without_locks();
    for (guint i = 0; i < G_N_ELEMENTS(ends); i++) {
        g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_DESTINATION);

        lock_memory(vmm);
        vmm_connect(vmm, FALSE);
        advise(vmm);
        assert_locked(vmm);
        ask(vmm)->ops->discard(ask(vmm), 1, &range, 1);
        settle(vmm);
        assert_true(came(vmm, MEMORY_EV_DISCARDED));
        assert_unlocked(vmm);
        assert_int_equal(resident_pages(vmm->private, PAGES), 0);
        listen_for_faults(vmm);
        assert_unlocked(vmm);
        if (ends[i] == MEMORY_END_COMPLETED)
            ask(vmm)->ops->run(ask(vmm));
        ask(vmm)->ops->end(ask(vmm), ends[i], "enough");
        settle(vmm);
        assert_locked(vmm);
        /* The quarter that is locked when it is touched was not touched, nor the last one. */
        assert_int_equal(resident_pages(vmm->private, PAGES), PAGES / 2);
    }
}

static void memory_is_locked_again_after_a_recovery(void **state)
{
    g_autoptr(Vmm) vmm = NULL;

    skip_without_locks();
    vmm = vmm_new(POSTCOPY_DESTINATION);
    lock_memory(vmm);
    vmm_connect(vmm, FALSE);
    advise(vmm);
    listen_for_faults(vmm);
    ask(vmm)->ops->run(ask(vmm));
    settle(vmm);
    drop_link(vmm);
    assert_int_equal(postcopy_client_dispatch(vmm->client), 0);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_PAUSED);
    assert_unlocked(vmm);
    vmm_connect(vmm, TRUE);
    assert_unlocked(vmm);
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_COMPLETED, NULL);
    settle(vmm);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_COMPLETED);
    assert_locked(vmm);
}

static void memory_stays_locked_where_none_is_missing(void **state)
{
    g_autoptr(Vmm) vmm = NULL;

    skip_without_locks();
    vmm = vmm_new(POSTCOPY_DESTINATION);
    lock_memory(vmm);
    vmm_connect(vmm, FALSE);
    advise(vmm);
    ask(vmm)->ops->run(ask(vmm));
    settle(vmm);
    assert_locked(vmm);
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_COMPLETED, NULL);
    settle(vmm);
    assert_locked(vmm);
}

static void memory_of_a_client_that_is_freed_is_locked_again(void **state)
{
    Vmm *vmm;

    skip_without_locks();
    vmm = vmm_new(POSTCOPY_DESTINATION);
    lock_memory(vmm);
    vmm_connect(vmm, FALSE);
    advise(vmm);
    listen_for_faults(vmm);
    assert_unlocked(vmm);
    postcopy_client_free(vmm->client);
    vmm->client = NULL;
    assert_locked(vmm);
    vmm_free(vmm);
}

/* With mlockall(MCL_FUTURE) memory is locked that the library maps, too. */
static void a_process_that_locks_all_it_will_have_goes_on_doing_so(void **state)
{
    g_autoptr(Vmm) vmm = NULL;
    guint8 *later;

    skip_without_locks();
    if (mlockall(MCL_FUTURE) < 0)
        skip();
    vmm = vmm_new(POSTCOPY_DESTINATION);
    assert_all_locked(vmm->private, LENGTH);
    vmm_connect(vmm, FALSE);
    advise(vmm);
    listen_for_faults(vmm);
    assert_unlocked(vmm);
    ask(vmm)->ops->run(ask(vmm));
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_COMPLETED, NULL);
    settle(vmm);
    assert_all_locked(vmm->private, LENGTH);
    assert_all_locked(vmm->shared, LENGTH);
    later = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(later != MAP_FAILED);
    assert_all_locked(later, PAGE);
    munmap(later, PAGE);
    munlockall();
}

/* Of this thread: CAP_IPC_LOCK knows no limit. */
static void set_may_lock(gboolean may)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2];
    guint32 bit = 1u << CAP_IPC_LOCK;

    assert_return_code(syscall(SYS_capget, &header, data), errno);
    data[0].effective = may ? data[0].effective | (data[0].permitted & bit)
                            : data[0].effective & ~bit;
    assert_return_code(syscall(SYS_capset, &header, data), errno);
}

static void a_guest_whose_memory_may_not_be_locked_again_runs_on(void **state)
{
    g_autoptr(Vmm) vmm = NULL;
    struct rlimit before, too_small;

    skip_without_locks();
    vmm = vmm_new(POSTCOPY_DESTINATION);
    lock_memory(vmm);
    vmm_connect(vmm, FALSE);
    advise(vmm);
    listen_for_faults(vmm);
    ask(vmm)->ops->run(ask(vmm));
    settle(vmm);
    assert_return_code(getrlimit(RLIMIT_MEMLOCK, &before), errno);
    too_small = (struct rlimit){ PAGE, before.rlim_max };
    assert_return_code(setrlimit(RLIMIT_MEMLOCK, &too_small), errno);
    set_may_lock(FALSE);
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_COMPLETED, NULL);
    assert_int_equal(settle(vmm), 0);
    set_may_lock(TRUE);
    assert_return_code(setrlimit(RLIMIT_MEMLOCK, &before), errno);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_COMPLETED);
    assert_calls(vmm, "prepare run ");
    assert_unlocked(vmm);
    assert_non_null(strstr(postcopy_client_error(vmm->client), " is not locked as it was: mlock"));
    assert_non_null(strstr(postcopy_client_error(vmm->client), "4096 bytes (RLIMIT_MEMLOCK)"));
}

/* Source: what has arrived is given back. */
static void memory_that_is_locked_is_dropped_all_the_same(void **state)
{
    for (PostcopySide side = POSTCOPY_SOURCE; side <= POSTCOPY_DESTINATION; side++) {
        g_autoptr(Vmm) vmm = vmm_new(side);
        const MemoryRange range = { PAGE, 2 * PAGE };

        if (mlock(vmm->private, LENGTH) < 0)
            skip();
        memset(vmm->private, 1, LENGTH);
        vmm_connect(vmm, FALSE);
        advise(vmm);
        ask(vmm)->ops->discard(ask(vmm), 1, &range, 1);
        settle(vmm);
        if (!came(vmm, MEMORY_EV_DISCARDED))
            fail_msg("%s", vmm->text);
        for (guint i = 0; i < 4; i++)
            assert_int_equal(vmm->private[i * PAGE], i == 0 || i == 3);
    }
}

static void a_destination_whose_helper_dies_early_has_no_guest(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_DESTINATION);

    drop_link(vmm);
    assert_true(postcopy_client_dispatch(vmm->client) < 0);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_FAILED);
}

/* ---- a destination that follows by checkpoints ---- */

static Vmm *vmm_new_following(void)
{
    PostcopyCallbacks own = callbacks;
    Vmm *vmm;

    own.stop = on_stop;
    vmm = vmm_new_with(POSTCOPY_DESTINATION, &own);
    assert_int_equal(postcopy_client_set(vmm->client, POSTCOPY_CHECKPOINTS, 1), 0);
    vmm_connect(vmm, FALSE);
    advise(vmm);
    return vmm;
}

/* A checkpoint of that state is complete. */
static void commit(Vmm *vmm, const char *devices)
{
    g_byte_array_set_size(vmm->ran_with, 0);
    ask(vmm)->ops->device(ask(vmm), (const guint8 *)devices, strlen(devices), TRUE);
    ask(vmm)->ops->run(ask(vmm));
    settle(vmm);
    assert_true(came(vmm, MEMORY_EV_RUNNING));
    assert_int_equal(vmm->ran_with->len, strlen(devices));
    assert_memory_equal(vmm->ran_with->data, devices, strlen(devices));
}

static void each_checkpoint_stops_the_guest_and_runs_it_with_what_came(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_following();

    assert_int_equal(client_link_layout(vmm->link)->log, MEMORY_LOG_PAGEMAP);
    assert_true(client_link_layout(vmm->link)->params.checkpoints);
    commit(vmm, "the first devices");
    pause_it(vmm);
    assert_false(came(vmm, MEMORY_EV_DEVICE));
    commit(vmm, "others");
    ask(vmm)->ops->pause(ask(vmm));
    ask(vmm)->ops->resume(ask(vmm), "not this time");
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_FAILED_OVER, "the source is lost");
    assert_int_equal(settle(vmm), 0);
    assert_calls(vmm, "prepare run stop run stop resume:not this time ");
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_FAILED_OVER);
    assert_string_equal(postcopy_client_error(vmm->client), "the source is lost");
    /* Nobody writes into the memory of a guest that runs. */
    assert_int_equal(postcopy_client_connect_fd(vmm->client, -1, NULL), -EALREADY);
}

static void a_guest_may_take_its_time_to_stop(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_following();

    commit(vmm, "devices");
    vmm->stop_ret = POSTCOPY_LATER;
    ask(vmm)->ops->pause(ask(vmm));
    settle(vmm);
    assert_false(came(vmm, MEMORY_EV_PAUSED));
    assert_int_equal(postcopy_client_answer(vmm->client, 0, NULL, 0), 0);
    settle(vmm);
    assert_true(came(vmm, MEMORY_EV_PAUSED));
    assert_false(came(vmm, MEMORY_EV_DEVICE));
}

static void a_guest_whose_helper_dies_goes_on_alone(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_following();

    commit(vmm, "devices");
    drop_link(vmm);
    assert_int_equal(postcopy_client_dispatch(vmm->client), 0);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_FAILED_OVER);
    assert_calls(vmm, "prepare run ");
}

/* The helper may have been copying. */
static void a_guest_that_stands_still_when_its_helper_dies_is_none(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_following();

    commit(vmm, "devices");
    pause_it(vmm);
    drop_link(vmm);
    assert_true(postcopy_client_dispatch(vmm->client) < 0);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_FAILED);
    assert_calls(vmm, "prepare run stop ");
}

/* What it asks for last is done, though nobody hears the answers any more. */
static void last_wishes_of_a_helper_are_carried_out(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_following();

    commit(vmm, "devices");
    pause_it(vmm);
    ask(vmm)->ops->device(ask(vmm), (const guint8 *)"finished", 8, TRUE);
    ask(vmm)->ops->run(ask(vmm));
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_FAILED_OVER, "the source is lost");
    drop_link(vmm);
    assert_int_equal(postcopy_client_dispatch(vmm->client), 0);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_FAILED_OVER);
    assert_string_equal(postcopy_client_error(vmm->client), "the source is lost");
    assert_calls(vmm, "prepare run stop run ");
}

static void who_cancels_has_no_guest_at_the_destination(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_following();

    commit(vmm, "devices");
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_CANCELLED, "enough");
    assert_int_equal(settle(vmm), 0);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_CANCELLED);
}

static void a_source_makes_checkpoints_and_gives_its_guest_up(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_SOURCE);

    assert_int_equal(postcopy_client_checkpoint(vmm->client), -EINVAL);
    assert_int_equal(postcopy_client_set(vmm->client, POSTCOPY_CHECKPOINTS, 1), 0);
    assert_int_equal(postcopy_client_set(vmm->client, POSTCOPY_CHECKPOINT_INTERVAL, 250), 0);
    vmm_connect(vmm, FALSE);
    assert_int_equal(client_link_layout(vmm->link)->params.checkpoint_interval_ms, 250);
    advise(vmm);
    assert_int_equal(postcopy_client_set(vmm->client, POSTCOPY_CHECKPOINTS, 0), -EBUSY);
    for (guint i = 0; i < 2; i++) {
        assert_int_equal(postcopy_client_checkpoint(vmm->client), 0);
        settle(vmm);
        assert_true(came(vmm, MEMORY_EV_CHECKPOINT));
        pause_it(vmm);
        ask(vmm)->ops->resume(ask(vmm), "done");
        settle(vmm);
    }
    assert_calls(vmm, "prepare pause resume:done pause resume:done ");
    assert_int_equal(postcopy_client_failover(vmm->client), 0);
    settle(vmm);
    assert_true(came(vmm, MEMORY_EV_FAILOVER));
    ask(vmm)->ops->no_return(ask(vmm));
    settle(vmm);
    /* Nobody says what became of it: the guest is the destination's all the same. */
    drop_link(vmm);
    postcopy_client_dispatch(vmm->client);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_COMPLETED);
    assert_calls(vmm, "prepare pause resume:done pause resume:done ");
}

static void who_cannot_stop_cannot_follow(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_DESTINATION);

    assert_int_equal(postcopy_client_set(vmm->client, POSTCOPY_CHECKPOINTS, 1), -EINVAL);
    assert_non_null(strstr(postcopy_client_error(vmm->client), "stop"));
    vmm_connect(vmm, FALSE);
    advise(vmm);
    assert_int_equal(postcopy_client_failover(vmm->client), -EINVAL);
    ask(vmm)->ops->pause(ask(vmm));
    settle(vmm);
    assert_true(came(vmm, MEMORY_EV_FAILED));
}

/* ---- recovery ---- */

static void who_waits_for_a_page_asks_the_next_helper(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_DESTINATION);
    guint64 address = (guint64)(guintptr)vmm->private + 7 * PAGE;
    pid_t reader;
    guint8 received = 0x81;

    if (is_under_valgrind())
        return;
    listen_for_faults(vmm);
    ask(vmm)->ops->run(ask(vmm));
    settle(vmm);
    assert_int_equal(pwrite(client_link_layout(vmm->link)->received_fd, &received, 1, 0), 1);
    reader = begin_to_read(vmm->private + 7 * PAGE);
    assert_int_equal(next_fault(vmm->uffd), address);
    autofd_clear(&vmm->uffd);
    drop_link(vmm);
    assert_int_equal(postcopy_client_dispatch(vmm->client), 0);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_PAUSED);

    vmm_connect(vmm, TRUE);
    received = 0;
    assert_int_equal(pread(client_link_layout(vmm->link)->received_fd, &received, 1, 0), 1);
    assert_int_equal(received, 0x81);
    assert_int_equal(next_fault(client_link_layout(vmm->link)->uffd), address);
    place(client_link_layout(vmm->link)->uffd, address, 0x77);
    assert_int_equal(what_was_read(reader), 0x77);
    ask(vmm)->ops->end(ask(vmm), MEMORY_END_COMPLETED, NULL);
    assert_int_equal(settle(vmm), 0);
    assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_COMPLETED);
}

static void a_recovery_that_fails_loses_nothing(void **state)
{
    g_autoptr(Vmm) source = vmm_new_advised(POSTCOPY_SOURCE);
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_DESTINATION);
    guint64 address = (guint64)(guintptr)vmm->private + 7 * PAGE;
    pid_t reader;

    if (is_under_valgrind())
        return;
    listen_for_faults(vmm);
    ask(vmm)->ops->run(ask(vmm));
    settle(vmm);
    reader = begin_to_read(vmm->private + 7 * PAGE);
    assert_int_equal(next_fault(vmm->uffd), address);
    for (guint i = 0; i < 3; i++) {
        ask(vmm)->ops->end(ask(vmm), i == 1 ? MEMORY_END_CANCELLED : MEMORY_END_FAILED, "no way");
        assert_int_equal(settle(vmm), 0);
        assert_int_equal(postcopy_client_outcome(vmm->client), POSTCOPY_PAUSED);
        assert_string_equal(postcopy_client_error(vmm->client), "no way");
        vmm_connect(vmm, TRUE);
    }
    assert_int_equal(next_fault(client_link_layout(vmm->link)->uffd), address);
    place(client_link_layout(vmm->link)->uffd, address, 0x77);
    assert_int_equal(what_was_read(reader), 0x77);

    pause_it(source);
    ask(source)->ops->no_return(ask(source));
    ask(source)->ops->end(ask(source), MEMORY_END_FAILED, "no way");
    assert_int_equal(settle(source), 0);
    assert_int_equal(postcopy_client_outcome(source->client), POSTCOPY_PAUSED);
    assert_calls(source, "prepare pause ");
}

static void other_processes_can_take_part(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new_advised(POSTCOPY_DESTINATION);
    PostcopyMapping mapping = { .region = 0, .offset = PAGE, .length = PAGE, .address = 0x10000 };

    listen_for_faults(vmm);
    assert_int_equal(postcopy_client_share(vmm->client, 4, vmm->uffd, &mapping, 1), 0);
    assert_int_equal(postcopy_client_unshare(vmm->client, 4), 0);
    settle(vmm);
    assert_true(came(vmm, MEMORY_EV_SHARED));
    assert_true(came(vmm, MEMORY_EV_UNSHARED));
    mapping.offset = LENGTH;
    assert_int_equal(postcopy_client_share(vmm->client, 4, vmm->uffd, &mapping, 1), -EINVAL);
    assert_int_equal(postcopy_client_share(vmm->client, 4, vmm->uffd, &mapping, 257), -EINVAL);
}

/* ---- what cannot be asked for ---- */

static void clients_that_cannot_be_are_not_made(void **state)
{
    PostcopyCallbacks own = callbacks;
    PostcopyCallbacks with_half_a_log = callbacks;

    assert_null(postcopy_client_new(POSTCOPY_SOURCE, "", &callbacks, NULL));
    assert_null(postcopy_client_new(POSTCOPY_SOURCE, NULL, &callbacks, NULL));
    assert_null(postcopy_client_new((PostcopySide)3, "a", &callbacks, NULL));
    own.pause = NULL;
    assert_null(postcopy_client_new(POSTCOPY_SOURCE, "a", &own, NULL));
    own.run = NULL;
    assert_null(postcopy_client_new(POSTCOPY_DESTINATION, "a", &own, NULL));
    with_half_a_log.log_sync = on_log_sync;
    assert_null(postcopy_client_new(POSTCOPY_SOURCE, "a", &with_half_a_log, NULL));
    own = callbacks;
    own.size = 4;
    assert_null(postcopy_client_new(POSTCOPY_SOURCE, "a", &own, NULL));
}

static void regions_that_cannot_be_are_refused(void **state)
{
    static const struct {
        const char *name;
        guint64 length, page_size;
        guintptr address;
        int ret;
    } rows[] = {
        { "", LENGTH, PAGE, 0x10000, -EINVAL },
        { "shared", LENGTH, PAGE, 0x10000, -EEXIST },
        { "a", 0, PAGE, 0x10000, -EINVAL },
        { "a", 100, PAGE, 0x10000, -EINVAL },
        { "a", LENGTH, 1024, 0x10000, -EINVAL },
        { "a", LENGTH, 12288, 0x10000, -EINVAL },
        { "a", LENGTH, PAGE, 0x10001, -EINVAL },
    };
    g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_SOURCE);

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        PostcopyRegion region = { .name = rows[i].name, .address = (void *)rows[i].address,
                                  .length = rows[i].length, .page_size = rows[i].page_size,
                                  .fd = -1 };

        assert_int_equal(postcopy_client_add_region(vmm->client, &region), rows[i].ret);
        assert_true(strlen(postcopy_client_error(vmm->client)) > 0);
    }
}

static void options_that_cannot_be_are_refused(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_SOURCE);

    assert_int_equal(postcopy_client_set(vmm->client, (PostcopyOption)0, 0), -ERANGE);
    assert_int_equal(postcopy_client_set(vmm->client, (PostcopyOption)99, 0), -ERANGE);
    assert_int_equal(postcopy_client_set(vmm->client, (PostcopyOption)-1, 0), -ERANGE);
    assert_int_equal(postcopy_client_set(vmm->client, POSTCOPY_ALLOWED, 2), -ERANGE);
    assert_int_equal(postcopy_client_set(vmm->client, POSTCOPY_THROTTLE_MAX, 100), -ERANGE);
    assert_int_equal(postcopy_client_set(vmm->client, POSTCOPY_XBZRLE_CACHE, 3), -ERANGE);
    assert_int_equal(postcopy_client_set(vmm->client, POSTCOPY_BULK_CHANNELS, 17), -ERANGE);
    assert_int_equal(postcopy_client_set(vmm->client, POSTCOPY_BULK_CHANNELS, 16), 0);
    vmm_connect(vmm, FALSE);
    assert_int_equal(postcopy_client_set(vmm->client, POSTCOPY_COMPRESS, 1), -EBUSY);
}

static void connecting_needs_regions_and_the_right_uri(void **state)
{
    g_autoptr(Vmm) vmm = vmm_new(POSTCOPY_SOURCE);
    PostcopyClient *empty = postcopy_client_new(POSTCOPY_SOURCE, "a", &callbacks, NULL);

    assert_int_equal(postcopy_client_connect(empty, "/x", "postcopy:///"), -EINVAL);
    assert_int_equal(postcopy_client_connect(vmm->client, "/x", NULL), -EINVAL);
    postcopy_client_free(empty);
    vmm_connect(vmm, FALSE);
    assert_int_equal(postcopy_client_connect(vmm->client, "/x", "postcopy:///"), -EISCONN);
    assert_int_equal(postcopy_client_cancel(vmm->client), 0);
}

static void free_of_nothing_is_nothing(void **state)
{
    postcopy_client_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_handed_over_as_it_was_added),
        cmocka_unit_test(a_destination_is_told_its_uri),
        cmocka_unit_test(memory_of_a_file_is_not_taken_for_private_memory),
        cmocka_unit_test(a_refusal_is_passed_on),
        cmocka_unit_test(a_daemon_that_closes_or_says_nonsense_is_an_error),
        cmocka_unit_test(the_daemons_socket_is_found_by_its_path),
        cmocka_unit_test(a_source_goes_all_the_way),
        cmocka_unit_test(a_state_may_be_empty),
        cmocka_unit_test(a_state_that_is_too_long_is_a_failure),
        cmocka_unit_test(what_is_written_is_seen_by_way_of_the_kernel),
        cmocka_unit_test(a_log_of_ones_own_is_written_where_the_helper_reads),
        cmocka_unit_test(a_failure_before_the_switch_over_lets_the_guest_go_on),
        cmocka_unit_test(a_helper_that_dies_lets_the_guest_go_on),
        cmocka_unit_test(after_the_point_of_no_return_the_guest_never_runs_here),
        cmocka_unit_test(last_words_count_though_nobody_hears_the_answers),
        cmocka_unit_test(a_point_of_no_return_that_was_not_answered_is_none),
        cmocka_unit_test(the_helper_can_take_the_point_of_no_return_back),
        cmocka_unit_test(a_guest_that_runs_nowhere_can_be_taken_back),
        cmocka_unit_test(a_source_recovers_without_a_log),
        cmocka_unit_test(a_vmm_may_refuse),
        cmocka_unit_test(a_guest_that_cannot_be_paused_goes_on),
        cmocka_unit_test(an_answer_may_come_later_and_requests_wait_for_it),
        cmocka_unit_test(a_vmm_may_speak_first_in_any_thread),
        cmocka_unit_test(a_hint_and_the_end_may_meet),
        cmocka_unit_test(a_destination_tells_which_threads_are_the_guests),
        cmocka_unit_test(pages_are_dropped_when_asked),
        cmocka_unit_test(a_discard_beyond_the_end_is_a_failure),
        cmocka_unit_test(a_request_of_the_other_side_is_a_failure),
        cmocka_unit_test(faults_of_a_destination_come_to_the_helper),
        cmocka_unit_test(the_guest_runs_with_what_it_was),
        cmocka_unit_test(a_guest_that_cannot_run_is_a_failure),
        cmocka_unit_test(a_guest_that_turns_out_not_to_run_is_a_failure),
        cmocka_unit_test(a_destination_that_cannot_listen_says_so_before_anything_moves),
        cmocka_unit_test(huge_pages_are_kept_away_and_come_back_to_whom_had_them),
        cmocka_unit_test(huge_pages_come_back_after_a_recovery),
        cmocka_unit_test(huge_pages_stay_away_if_that_is_wanted),
        cmocka_unit_test(memory_that_is_not_mapped_is_named_before_anything_moves),
        cmocka_unit_test(memory_that_was_locked_is_locked_again),
        cmocka_unit_test(memory_is_locked_again_after_a_recovery),
        cmocka_unit_test(memory_stays_locked_where_none_is_missing),
        cmocka_unit_test(memory_of_a_client_that_is_freed_is_locked_again),
        cmocka_unit_test(a_process_that_locks_all_it_will_have_goes_on_doing_so),
        cmocka_unit_test(a_guest_whose_memory_may_not_be_locked_again_runs_on),
        cmocka_unit_test(memory_that_is_locked_is_dropped_all_the_same),
        cmocka_unit_test(a_destination_whose_helper_dies_early_has_no_guest),
        cmocka_unit_test(each_checkpoint_stops_the_guest_and_runs_it_with_what_came),
        cmocka_unit_test(a_guest_may_take_its_time_to_stop),
        cmocka_unit_test(a_guest_whose_helper_dies_goes_on_alone),
        cmocka_unit_test(a_guest_that_stands_still_when_its_helper_dies_is_none),
        cmocka_unit_test(last_wishes_of_a_helper_are_carried_out),
        cmocka_unit_test(who_cancels_has_no_guest_at_the_destination),
        cmocka_unit_test(a_source_makes_checkpoints_and_gives_its_guest_up),
        cmocka_unit_test(who_cannot_stop_cannot_follow),
        cmocka_unit_test(who_waits_for_a_page_asks_the_next_helper),
        cmocka_unit_test(a_recovery_that_fails_loses_nothing),
        cmocka_unit_test(other_processes_can_take_part),
        cmocka_unit_test(clients_that_cannot_be_are_not_made),
        cmocka_unit_test(regions_that_cannot_be_are_refused),
        cmocka_unit_test(options_that_cannot_be_are_refused),
        cmocka_unit_test(connecting_needs_regions_and_the_right_uri),
        cmocka_unit_test(free_of_nothing_is_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
