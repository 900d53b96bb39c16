/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The helper's end of the hand-over, against a client that says what it likes: real sockets, real
 * descriptors. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/handover.h"
#include "ram/mapped/client_link.h"
#include "util/autofd.h"

#define MIB (1024 * 1024)
#define ADDRESS G_GUINT64_CONSTANT(0x7f0000000000)

/* ---- a client by hand ---- */

typedef struct {
    ClientLink *link;
    int fd; /* the client's */
    HandoverMessage *m;
    guint8 *bytes;
    GArray *events; /* of MemoryEventType */
    MemoryEvent last;
    char *text;     /* of the last event */
    int kept_fd;    /* of the last event */
    void (*on_event)(MemoryEvent *event, gpointer pair);
} Pair;

static void note_event(MemoryEvent *event, gpointer data)
{
    Pair *pair = data;

    g_array_append_val(pair->events, event->type);
    g_free(pair->text);
    pair->text = g_strdup(event->text);
    pair->last = *event;
    autofd_clear(&pair->kept_fd);
    pair->kept_fd = autofd_steal(&event->fd);
    if (pair->on_event)
        pair->on_event(event, pair);
}

static Pair *pair_new(gboolean source)
{
    Pair *pair = g_new0(Pair, 1);
    g_autoptr(GError) error = NULL;
    int fds[2];

    assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), errno);
    pair->link = client_link_new(fds[0], source, &error);
    assert_non_null(pair->link);
    pair->fd = fds[1];
    pair->m = g_new0(HandoverMessage, 1);
    pair->bytes = g_malloc(HANDOVER_MESSAGE_MAX);
    pair->events = g_array_new(FALSE, FALSE, sizeof(MemoryEventType));
    pair->kept_fd = -1;
    return pair;
}

static void pair_free(Pair *pair)
{
    client_link_free(pair->link);
    autofd_clear(&pair->fd);
    autofd_clear(&pair->kept_fd);
    g_array_unref(pair->events);
    g_free(pair->m);
    g_free(pair->bytes);
    g_free(pair->text);
    g_free(pair);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Pair, pair_free)

static void pair_run(Pair *pair)
{
    client_link_run(pair->link, note_event, pair);
}

static MemoryEventType last_event(const Pair *pair)
{
    assert_true(pair->events->len > 0);
    return g_array_index(pair->events, MemoryEventType, pair->events->len - 1);
}

static void send_bytes(Pair *pair, gconstpointer bytes, gsize len, const int *fds, guint n_fds)
{
    guint8 control[CMSG_SPACE(sizeof(int) * 128)] = { 0 };
    struct iovec iov = { (gpointer)bytes, len };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (n_fds > 0) {
        struct cmsghdr *head = (struct cmsghdr *)control;

        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(head), fds, sizeof(int) * n_fds);
    }
    assert_int_equal(sendmsg(pair->fd, &msg, MSG_NOSIGNAL), len);
}

/* pair->m, with as many descriptors as it names or other_n; then lets the link have it. */
static void say_with(Pair *pair, const int *fds, guint n_fds)
{
    gsize len = handover_encode(pair->m, pair->bytes);

    assert_true(len > 0);
    send_bytes(pair, pair->bytes, len, fds, n_fds);
    memset(pair->m, 0, sizeof *pair->m);
    pair_run(pair);
}

static void say(Pair *pair, HandoverType type)
{
    pair->m->type = type;
    say_with(pair, NULL, 0);
}

/* What the link has asked: the type; 0: nothing. The message is in pair->m until the next. */
static guint16 asked(Pair *pair)
{
    char error[HANDOVER_ERROR_MAX];
    gssize len = recv(pair->fd, pair->bytes, HANDOVER_MESSAGE_MAX, MSG_DONTWAIT);

    if (len <= 0)
        return 0;
    if (!handover_decode(pair->bytes, (gsize)len, 0, pair->m, error))
        fail_msg("%s", error);
    return pair->m->type;
}

static void assert_gone(Pair *pair, const char *why)
{
    assert_int_equal(last_event(pair), MEMORY_EV_GONE);
    if (!pair->text || !strstr(pair->text, why))
        fail_msg("\"%s\" does not say \"%s\"", pair->text, why);
    assert_int_equal(client_link_fd(pair->link), -1);
    /* And no more. */
    g_array_set_size(pair->events, 0);
    pair_run(pair);
    assert_int_equal(pair->events->len, 0);
}

/* ---- what a good client has ---- */

static int memfd_of(gsize bytes, guint seals)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_return_code(ftruncate(fd, (off_t)bytes), errno);
    if (seals)
        assert_return_code(fcntl(fd, F_ADD_SEALS, seals), errno);
    return fd;
}

/* A region of a mebibyte in a memfd. */
static HandoverRegion good_region(void)
{
    return (HandoverRegion){ handover_text("ram", 3), MIB, 4096, MEMORY_MIGRATABLE, ADDRESS, 1, 0 };
}

static void say_region(Pair *pair, HandoverRegion region, int fd)
{
    pair->m->type = HANDOVER_REGIONS;
    pair->m->regions.n = 1;
    pair->m->regions.regions[0] = region;
    say_with(pair, &fd, fd >= 0 ? 1 : 0);
}

static void say_memory(Pair *pair, gboolean source, guint n_regions)
{
    autofd pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    autofd bitmaps = memfd_of(MIB / 4096 / 8 * MAX(n_regions, 1), F_SEAL_SHRINK);
    int fd = source ? pagemap : bitmaps;

    pair->m->type = HANDOVER_MEMORY;
    pair->m->memory.n_regions = (guint16)n_regions;
    pair->m->memory.target_page = 4096;
    pair->m->memory.log = source ? 1 : 0;
    pair->m->memory.fds = source ? HANDOVER_FD_PAGEMAP : HANDOVER_FD_RECEIVED;
    pair->m->memory.params.postcopy = 1;
    say_with(pair, &fd, 1);
}

static Pair *pair_new_open(gboolean source)
{
    Pair *pair = pair_new(source);
    autofd fd = memfd_of(MIB, F_SEAL_SHRINK);

    say_region(pair, good_region(), fd);
    say_memory(pair, source, 1);
    assert_int_equal(pair->events->len, 0);
    assert_non_null(client_link_layout(pair->link));
    return pair;
}

static int open_uffd(gboolean with_handshake)
{
    struct uffdio_api api = { .api = UFFD_API };
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

    if (fd < 0)
        skip();
    if (with_handshake)
        assert_return_code(ioctl(fd, UFFDIO_API, &api), errno);
    return fd;
}

/* ---- the hand-over ---- */

static void the_layout_is_what_was_handed_over(void **state)
{
    g_autoptr(Pair) pair = pair_new_open(TRUE);
    const MemoryLayout *layout = client_link_layout(pair->link);

    assert_int_equal(layout->n_regions, 1);
    assert_string_equal(layout->regions[0].name, "ram");
    assert_int_equal(layout->regions[0].length, MIB);
    assert_int_equal(layout->regions[0].address, ADDRESS);
    assert_true(layout->regions[0].fd >= 0);
    assert_int_equal(layout->log, MEMORY_LOG_PAGEMAP);
    assert_true(layout->pagemap_fd >= 0);
    assert_true(layout->params.postcopy);
    assert_int_equal(memory_layout_bitmaps_bytes(layout), 32);
}

static void regions_may_come_in_many_messages(void **state)
{
    g_autoptr(Pair) pair = pair_new(FALSE);
    autofd fd = memfd_of(MIB, F_SEAL_SHRINK);
    char names[200][8];

    for (guint i = 0; i < 200; i++) {
        HandoverRegion region = good_region();

        region.name = handover_text(names[i], (gsize)g_snprintf(names[i], 8, "r%u", i));
        region.address += i * MIB;
        say_region(pair, region, fd);
    }
    say_memory(pair, FALSE, 200);
    assert_int_equal(pair->events->len, 0);
    assert_int_equal(client_link_layout(pair->link)->n_regions, 200);
    assert_string_equal(client_link_layout(pair->link)->regions[199].name, "r199");
}

static guint count_descriptors(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    guint n = 0;

    while (g_dir_read_name(dir))
        n++;
    return n;
}

/* However it came along, a memfd costs the helper one descriptor. */
static void regions_of_one_memfd_share_a_descriptor(void **state)
{
    g_autoptr(Pair) pair = pair_new(FALSE);
    autofd fd = memfd_of(200 * MIB, F_SEAL_SHRINK);
    autofd read_only = -1;
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    const MemoryRegion *regions;
    guint before = count_descriptors();

    for (guint i = 0; i < 200; i++) {
        g_autofree char *name = g_strdup_printf("r%u", i);
        HandoverRegion region = good_region();

        region.name = handover_text(name, strlen(name));
        region.address += i * MIB;
        region.fd_offset = i * MIB;
        say_region(pair, region, fd);
    }
    assert_int_equal(count_descriptors(), before + 1);
    say_memory(pair, FALSE, 200);
    assert_non_null(client_link_layout(pair->link));
    regions = client_link_layout(pair->link)->regions;
    assert_false(regions[0].borrows_fd);
    assert_true(regions[199].borrows_fd);
    assert_int_equal(regions[199].fd, regions[0].fd);
    g_clear_pointer(&pair, pair_free);

    /* One that may be read only is not the same; another memfd even less. */
    pair = pair_new(TRUE);
    read_only = open(path, O_RDONLY | O_CLOEXEC);
    before = count_descriptors();
    for (guint i = 0; i < 3; i++) {
        autofd other = memfd_of(MIB, F_SEAL_SHRINK);
        const int fds[] = { fd, read_only, other };
        const char *const names[] = { "a", "b", "c" };
        HandoverRegion region = good_region();

        region.name = handover_text(names[i], 1);
        region.address += i * MIB;
        say_region(pair, region, fds[i]);
    }
    assert_int_equal(count_descriptors(), before + 3);
}

static void there_are_only_so_many_regions(void **state)
{
    g_autoptr(Pair) pair = pair_new(FALSE);

    for (guint n = 0; n <= MEMORY_REGIONS_MAX; n += HANDOVER_REGIONS_MAX) {
        assert_int_equal(pair->events->len, 0);
        pair->m->type = HANDOVER_REGIONS;
        pair->m->regions.n = HANDOVER_REGIONS_MAX;
        for (guint i = 0; i < HANDOVER_REGIONS_MAX; i++) {
            pair->m->regions.regions[i] = good_region();
            pair->m->regions.regions[i].fd = 0;
        }
        say_with(pair, NULL, 0);
    }
    assert_gone(pair, "more than 4096 regions");
}

typedef struct {
    const char *why;
    void (*spoil)(HandoverRegion *region);
    guint seals;
    gsize bytes; /* of the memfd */
} BadRegion;

static void spoil_page_size(HandoverRegion *r)
{
    r->page_size = 6000;
}
static void spoil_small_page(HandoverRegion *r)
{
    r->page_size = 512;
}
static void spoil_length(HandoverRegion *r)
{
    r->length = MIB - 1;
}
static void spoil_no_length(HandoverRegion *r)
{
    r->length = 0;
}
static void spoil_address(HandoverRegion *r)
{
    r->address += 1;
}
static void spoil_offset(HandoverRegion *r)
{
    r->fd_offset = 8;
}
static void spoil_end(HandoverRegion *r)
{
    r->address = G_MAXUINT64 - 4095;
}
static void spoil_flags(HandoverRegion *r)
{
    r->flags = 1u << 31;
}
static void spoil_room(HandoverRegion *r)
{
    r->fd_offset = 4096;
}
static void spoil_fd(HandoverRegion *r)
{
    r->fd = 0;
}
static void spoil_nothing(HandoverRegion *r)
{
}

static void a_region_that_cannot_be_is_refused_by_name(void **state)
{
    static const BadRegion rows[] = {
        { "page size of 6000", spoil_page_size, F_SEAL_SHRINK, MIB },
        { "page size of 512", spoil_small_page, F_SEAL_SHRINK, MIB },
        { "no multiple", spoil_length, F_SEAL_SHRINK, MIB },
        { "no multiple", spoil_no_length, F_SEAL_SHRINK, MIB },
        { "no multiple", spoil_address, F_SEAL_SHRINK, MIB },
        { "no multiple", spoil_offset, F_SEAL_SHRINK, MIB },
        { "end of addresses", spoil_end, F_SEAL_SHRINK, MIB },
        { "no flags 0x80000000", spoil_flags, F_SEAL_SHRINK, MIB },
        { "are needed", spoil_room, F_SEAL_SHRINK, MIB },
        { "are needed", spoil_nothing, F_SEAL_SHRINK, MIB / 2 },
        { "/proc/self/mem", spoil_fd, F_SEAL_SHRINK, MIB },
        { "sealed against shrinking", spoil_nothing, 0, MIB },
        { "sealed against shrinking", spoil_nothing, F_SEAL_GROW, MIB },
        { "sealed against writing", spoil_nothing, F_SEAL_SHRINK | F_SEAL_WRITE, MIB },
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Pair) pair = pair_new(FALSE);
        autofd fd = memfd_of(rows[i].bytes, rows[i].seals);
        HandoverRegion region = good_region();

        rows[i].spoil(&region);
        say_region(pair, region, region.fd ? fd : -1);
        say_memory(pair, FALSE, 1);
        assert_null(client_link_layout(pair->link));
        assert_non_null(strstr(pair->text, "ram"));
        assert_gone(pair, rows[i].why);
    }
}

static void a_descriptor_that_is_no_memfd_is_refused(void **state)
{
    const char *const paths[] = { "/dev/zero", "/proc/self/maps", "/tmp" };

    for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autoptr(Pair) pair = pair_new(FALSE);
        autofd fd = open(paths[i], O_RDONLY | O_CLOEXEC);

        say_region(pair, good_region(), fd);
        say_memory(pair, FALSE, 1);
        assert_gone(pair, "is no memfd");
    }
}

static void a_memfd_that_may_not_be_written_is_refused_at_the_destination(void **state)
{
    g_autoptr(Pair) pair = pair_new(FALSE);
    autofd fd = memfd_of(MIB, F_SEAL_SHRINK);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    autofd readable = open(path, O_RDONLY | O_CLOEXEC);

    say_region(pair, good_region(), readable);
    say_memory(pair, FALSE, 1);
    assert_gone(pair, "not open for reading and writing");
}

static void regions_that_overlap_or_share_a_name_are_refused(void **state)
{
    for (guint i = 0; i < 2; i++) {
        g_autoptr(Pair) pair = pair_new(FALSE);
        autofd fd = memfd_of(MIB, F_SEAL_SHRINK);
        HandoverRegion region = good_region();

        say_region(pair, region, fd);
        if (i == 0)
            region.name = handover_text("other", 5);
        region.address += i == 0 ? MIB / 2 : MIB;
        say_region(pair, region, fd);
        say_memory(pair, FALSE, 2);
        assert_gone(pair, i == 0 ? "overlap" : "two regions called ram");
    }
}

static void the_rest_of_the_hand_over_is_judged_as_well(void **state)
{
    static const struct {
        gboolean source;
        guint8 log, fds, recovers;
        guint32 target_page;
        guint16 n_regions;
        gsize bitmaps;
        const char *why;
    } rows[] = {
        { FALSE, 0, 0, 0, 4096, 1, 32, "needs a received bitmap" },
        { FALSE, 0, HANDOVER_FD_RECEIVED, 0, 4096, 1, 24, "received bitmap" },
        { FALSE, 1, HANDOVER_FD_RECEIVED, 0, 4096, 1, 32, "dirty log" },
        { FALSE, 0, HANDOVER_FD_RECEIVED, 1, 4096, 1, 32, "userfaultfd" },
        { FALSE, 0, HANDOVER_FD_RECEIVED, 0, 8192, 1, 32, "8192" },
        { FALSE, 0, HANDOVER_FD_RECEIVED, 0, 4096, 2, 32, "1 regions came" },
        { FALSE, 0, HANDOVER_FD_RECEIVED | HANDOVER_FD_MEM, 0, 4096, 1, 32, "/proc/self/mem" },
        { FALSE, 0, HANDOVER_FD_RECEIVED | HANDOVER_FD_UFFD, 1, 4096, 1, 32, "no userfaultfd" },
        { TRUE, 0, 0, 0, 4096, 1, 32, "needs a dirty log" },
        { TRUE, 1, 0, 0, 4096, 1, 32, "pagemap" },
        { TRUE, 1, HANDOVER_FD_PAGEMAP, 0, 4096, 1, 32, "no file of /proc" },
        { TRUE, 2, 0, 0, 4096, 1, 32, "dirty bitmap" },
        { TRUE, 2, HANDOVER_FD_DIRTY, 0, 4096, 1, 16, "dirty bitmap" },
        { TRUE, 1, HANDOVER_FD_PAGEMAP, 1, 4096, 1, 32, "not recovering" },
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Pair) pair = pair_new(rows[i].source);
        autofd fd = memfd_of(MIB, F_SEAL_SHRINK);
        autofd bitmaps = memfd_of(rows[i].bitmaps, F_SEAL_SHRINK);
        int fds[] = { bitmaps, bitmaps, bitmaps };

        say_region(pair, good_region(), fd);
        pair->m->type = HANDOVER_MEMORY;
        pair->m->memory.n_regions = rows[i].n_regions;
        pair->m->memory.target_page = rows[i].target_page;
        pair->m->memory.log = rows[i].log;
        pair->m->memory.recovers = rows[i].recovers;
        pair->m->memory.fds = rows[i].fds;
        say_with(pair, fds, (guint)__builtin_popcount(rows[i].fds));
        assert_null(client_link_layout(pair->link));
        assert_gone(pair, rows[i].why);
    }
}

static void nothing_is_said_before_the_hand_over_and_nothing_of_it_after(void **state)
{
    g_autoptr(Pair) early = pair_new(TRUE);
    g_autoptr(Pair) late = pair_new_open(TRUE);
    g_autoptr(Pair) empty = pair_new(TRUE);
    autofd fd = memfd_of(MIB, F_SEAL_SHRINK);

    say(early, HANDOVER_START_POSTCOPY);
    assert_gone(early, "before its memory");
    say_region(late, good_region(), fd);
    assert_gone(late, "REGIONS is not for");
    say_memory(empty, TRUE, 0);
    assert_gone(empty, "0 regions");
}

/* ---- bytes that are no message ---- */

static void nonsense_ends_it(void **state)
{
    g_autofree guint8 *large = g_malloc0(HANDOVER_MESSAGE_MAX + 1);
    static const struct {
        gsize len;
        guint8 bytes[4];
        const char *why;
    } rows[] = {
        { 1, { 0 }, "too short" },
        { 2, { 0xff, 0xff }, "type 65535" },
        { 3, { 0, HANDOVER_ADVISED, 0 }, "ADVISED: end" },
        { 2, { 0, HANDOVER_REGIONS }, "cut off" },
        { HANDOVER_MESSAGE_MAX + 1, { 0 }, "65536" },
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Pair) pair = pair_new(TRUE);

        memcpy(large, rows[i].bytes, 4);
        send_bytes(pair, large, rows[i].len, NULL, 0);
        pair_run(pair);
        assert_gone(pair, rows[i].why);
    }
}

static guint open_descriptors(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    guint n = 0;

    while (g_dir_read_name(dir))
        n++;
    return n;
}

static void descriptors_that_nobody_wants_are_closed(void **state)
{
    guint before = open_descriptors();
    int fds[100];

    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        fds[i] = STDIN_FILENO;
    for (guint n = 1; n <= G_N_ELEMENTS(fds); n += 33) {
        Pair *pair = pair_new_open(TRUE);

        pair->m->type = HANDOVER_CANCEL;
        say_with(pair, fds, n);
        assert_gone(pair, "descriptors");
        pair_free(pair);
        assert_int_equal(open_descriptors(), before);
    }
}

/* ---- requests and answers ---- */

static void requests_are_answered_in_their_order(void **state)
{
    g_autoptr(Pair) pair = pair_new_open(TRUE);
    MemoryClient *client = client_link_client(pair->link);

    client->ops->advise(client);
    client->ops->state(client, "setup");
    client->ops->throttle(client, 20);
    assert_int_equal(asked(pair), HANDOVER_ADVISE);
    assert_int_equal(asked(pair), HANDOVER_STATE);
    assert_memory_equal(pair->m->text.bytes, "setup", 5);
    assert_int_equal(asked(pair), HANDOVER_THROTTLE);
    assert_int_equal(pair->m->percent, 20);
    assert_int_equal(asked(pair), 0);
    say(pair, HANDOVER_ADVISED);
    assert_int_equal(last_event(pair), MEMORY_EV_ADVISED);

    client->ops->pause(client);
    assert_int_equal(asked(pair), HANDOVER_PAUSE);
    say(pair, HANDOVER_PAUSED);
    assert_int_equal(last_event(pair), MEMORY_EV_PAUSED);
    pair->m->device.bytes = (const guint8 *)"abc";
    pair->m->device.len = 3;
    say(pair, HANDOVER_DEVICE);
    assert_int_equal(last_event(pair), MEMORY_EV_DEVICE);
    assert_int_equal(pair->last.len, 3);
    assert_false(pair->last.last);
    pair->m->device.last = 1;
    say(pair, HANDOVER_DEVICE);
    assert_true(pair->last.last);

    client->ops->no_return(client);
    assert_int_equal(asked(pair), HANDOVER_NO_RETURN);
    say(pair, HANDOVER_GIVEN_UP);
    assert_int_equal(last_event(pair), MEMORY_EV_GIVEN_UP);
    client->ops->end(client, MEMORY_END_COMPLETED, "two\nlines");
    assert_int_equal(asked(pair), HANDOVER_END);
    assert_int_equal(pair->m->end.outcome, MEMORY_END_COMPLETED);
    assert_memory_equal(pair->m->end.text.bytes, "two?lines", 9);
    assert_true(client_link_is_drained(pair->link));
    client->ops->advise(client);
    assert_int_equal(asked(pair), 0);
}

static void an_answer_that_was_not_asked_for_ends_it(void **state)
{
    static const struct {
        gboolean source;
        HandoverType type;
    } rows[] = {
        { TRUE, HANDOVER_ADVISED },   { TRUE, HANDOVER_PAUSED },     { TRUE, HANDOVER_DEVICE },
        { TRUE, HANDOVER_SYNCED },    { FALSE, HANDOVER_DISCARDED }, { FALSE, HANDOVER_RUNNING },
        { FALSE, HANDOVER_ADVISED },  { TRUE, HANDOVER_GIVEN_UP },
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Pair) pair = pair_new_open(rows[i].source);

        say(pair, rows[i].type);
        assert_int_equal(pair->events->len, 1);
        assert_gone(pair, "where no answer is awaited");
    }
}

static void an_answer_to_another_request_ends_it(void **state)
{
    g_autoptr(Pair) pair = pair_new_open(TRUE);
    g_autoptr(Pair) twice = pair_new_open(TRUE);
    MemoryClient *client = client_link_client(pair->link);

    client->ops->advise(client);
    client->ops->log_sync(client);
    say(pair, HANDOVER_SYNCED);
    assert_gone(pair, "SYNCED, where ADVISED is awaited");
    client = client_link_client(twice->link);
    client->ops->advise(client);
    say(twice, HANDOVER_ADVISED);
    say(twice, HANDOVER_ADVISED);
    assert_gone(twice, "where no answer is awaited");
}

static void what_is_the_other_sides_to_say_ends_it(void **state)
{
    static const HandoverType to_source[] = { HANDOVER_RUNNING, HANDOVER_UNSHARED };
    static const HandoverType to_destination[] = { HANDOVER_CHECKPOINT, HANDOVER_START_POSTCOPY,
                                                   HANDOVER_CONTINUE, HANDOVER_PARAMS };
    static const HandoverType to_nobody[] = { HANDOVER_ADVISE, HANDOVER_WELCOME, HANDOVER_RUN,
                                              HANDOVER_END };

    for (guint i = 0; i < G_N_ELEMENTS(to_source); i++) {
        g_autoptr(Pair) pair = pair_new_open(TRUE);

        say(pair, to_source[i]);
        assert_gone(pair, "is not for the source's client");
    }
    for (guint i = 0; i < G_N_ELEMENTS(to_destination); i++) {
        g_autoptr(Pair) pair = pair_new_open(FALSE);

        say(pair, to_destination[i]);
        assert_gone(pair, "is not for the destination's client");
    }
    for (guint i = 0; i < G_N_ELEMENTS(to_nobody); i++) {
        g_autoptr(Pair) pair = pair_new_open(TRUE);

        say(pair, to_nobody[i]);
        assert_gone(pair, "is not for the source's client");
    }
}

/* The machine asks for more while it is told: what it is told must stay. */
static void ask_more(MemoryEvent *event, gpointer data)
{
    Pair *pair = data;
    MemoryClient *client = client_link_client(pair->link);

    client->ops->state(client, "device");
    assert_memory_equal(event->bytes, "abc", 3);
}

static void asking_while_told_spoils_nothing(void **state)
{
    g_autoptr(Pair) pair = pair_new_open(TRUE);
    MemoryClient *client = client_link_client(pair->link);

    client->ops->pause(client);
    say(pair, HANDOVER_PAUSED);
    pair->on_event = ask_more;
    pair->m->device.last = 1;
    pair->m->device.bytes = (const guint8 *)"abc";
    pair->m->device.len = 3;
    say(pair, HANDOVER_DEVICE);
    assert_int_equal(asked(pair), HANDOVER_PAUSE);
    assert_int_equal(asked(pair), HANDOVER_STATE);
}

static void a_device_state_has_a_limit(void **state)
{
    g_autoptr(Pair) pair = pair_new_open(TRUE);
    g_autofree guint8 *piece = g_malloc0(HANDOVER_DEVICE_PIECE_MAX);
    MemoryClient *client = client_link_client(pair->link);
    guint n = 0;

    client->ops->pause(client);
    say(pair, HANDOVER_PAUSED);
    while (last_event(pair) != MEMORY_EV_GONE) {
        pair->m->device.bytes = piece;
        pair->m->device.len = HANDOVER_DEVICE_PIECE_MAX;
        say(pair, HANDOVER_DEVICE);
        n++;
    }
    assert_int_equal(n, MEMORY_DEVICE_MAX / HANDOVER_DEVICE_PIECE_MAX + 1);
    assert_gone(pair, "longer than");
}

static void a_device_state_goes_out_in_pieces_as_the_client_reads(void **state)
{
    g_autoptr(Pair) pair = pair_new_open(FALSE);
    g_autofree guint8 *bytes = g_malloc(MEMORY_DEVICE_MAX);
    g_autoptr(GByteArray) got = g_byte_array_new();
    MemoryClient *client = client_link_client(pair->link);
    gboolean last = FALSE;

    for (gsize i = 0; i < MEMORY_DEVICE_MAX; i++)
        bytes[i] = (guint8)(i * 7 + i / 251);
    client->ops->device(client, bytes, MEMORY_DEVICE_MAX, TRUE);
    assert_true(client_link_poll_events(pair->link) & POLLOUT);
    assert_false(client_link_is_drained(pair->link));
    while (!last) {
        guint16 type = asked(pair);

        if (type == 0) {
            pair_run(pair);
            continue;
        }
        assert_int_equal(type, HANDOVER_DEVICE);
        g_byte_array_append(got, pair->m->device.bytes, (guint)pair->m->device.len);
        last = pair->m->device.last;
    }
    assert_int_equal(got->len, MEMORY_DEVICE_MAX);
    assert_memory_equal(got->data, bytes, MEMORY_DEVICE_MAX);
    assert_true(client_link_is_drained(pair->link));
    assert_int_equal(pair->events->len, 0);
}

static void a_client_that_reads_nothing_is_given_up(void **state)
{
    g_autoptr(Pair) pair = pair_new_open(FALSE);
    MemoryClient *client = client_link_client(pair->link);
    guint n = 0;

    while (pair->events->len == 0) {
        client->ops->state(client, "none");
        if (++n % 1024 == 0)
            pair_run(pair);
        assert_true(n < 10000000);
    }
    assert_gone(pair, "does not read");
}

static void hints_and_mappings_are_within_the_regions(void **state)
{
    static const struct {
        guint16 block;
        guint64 start, length;
        const char *why;
    } rows[] = {
        { 1, 0, 4096, "no region 1" },
        { 0, 2048, 4096, "no whole pages of region ram" },
        { 0, 0, 100, "no whole pages" },
        { 0, MIB, 4096, "no whole pages" },
        { 0, 4096, MIB, "no whole pages" },
        { 0, G_MAXUINT64 - 8191, 4096, "no whole pages" },
    };
    g_autoptr(Pair) good = pair_new_open(TRUE);

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Pair) pair = pair_new_open(TRUE);

        pair->m->ranges.block = rows[i].block;
        pair->m->ranges.n = 1;
        pair->m->ranges.ranges[0] = (HandoverRange){ rows[i].start, rows[i].length };
        say(pair, HANDOVER_FREE_HINTS);
        assert_gone(pair, rows[i].why);
    }
    good->m->ranges.n = 1;
    good->m->ranges.ranges[0] = (HandoverRange){ 4096, MIB - 4096 };
    say(good, HANDOVER_FREE_HINTS);
    assert_int_equal(last_event(good), MEMORY_EV_FREE_HINTS);
    assert_int_equal(good->last.n_ranges, 1);
    assert_int_equal(good->last.ranges[0].length, MIB - 4096);
}

static void what_is_no_userfaultfd_is_not_taken_for_one(void **state)
{
    autofd raw = open_uffd(FALSE);
    int fds[] = { STDIN_FILENO, raw };

    for (guint i = 0; i < G_N_ELEMENTS(fds); i++) {
        g_autoptr(Pair) pair = pair_new_open(FALSE);
        MemoryClient *client = client_link_client(pair->link);

        client->ops->listen(client);
        pair->m->type = HANDOVER_LISTENING;
        say_with(pair, &fds[i], 1);
        assert_gone(pair, "no userfaultfd");
    }
}

static void a_userfaultfd_is_handed_on_and_does_not_block(void **state)
{
    autofd uffd = open_uffd(TRUE); /* first: it may skip */
    g_autoptr(Pair) pair = pair_new_open(FALSE);
    MemoryClient *client = client_link_client(pair->link);

    client->ops->listen(client);
    assert_int_equal(asked(pair), HANDOVER_LISTEN);
    pair->m->type = HANDOVER_LISTENING;
    say_with(pair, &uffd, 1);
    assert_int_equal(last_event(pair), MEMORY_EV_LISTENING);
    assert_true(pair->kept_fd >= 0);
    assert_true(fcntl(pair->kept_fd, F_GETFL) & O_NONBLOCK);

    pair->m->type = HANDOVER_SHARED;
    pair->m->shared.id = 9;
    pair->m->shared.n = 1;
    pair->m->shared.mappings[0] = (HandoverMapping){ 0, 4096, 8192, 0x10000 };
    say_with(pair, &uffd, 1);
    assert_int_equal(last_event(pair), MEMORY_EV_SHARED);
    assert_int_equal(pair->last.id, 9);
    assert_int_equal(pair->last.mappings[0].length, 8192);
}

/* ---- dying ---- */

static void a_client_that_dies_is_gone(void **state)
{
    g_autoptr(Pair) before = pair_new(TRUE);
    g_autoptr(Pair) after = pair_new_open(TRUE);

    autofd_clear(&before->fd);
    pair_run(before);
    assert_gone(before, "closed its connection");
    autofd_clear(&after->fd);
    pair_run(after);
    assert_gone(after, "closed its connection");
}

static void last_words_are_heard_though_requests_were_left_unread(void **state)
{
    g_autoptr(Pair) pair = pair_new_open(TRUE);
    MemoryClient *client = client_link_client(pair->link);
    gsize len;

    client->ops->advise(client);
    pair->m->type = HANDOVER_FAILED;
    pair->m->text = handover_text("the disk is full", 16);
    len = handover_encode(pair->m, pair->bytes);
    send_bytes(pair, pair->bytes, len, NULL, 0);
    autofd_clear(&pair->fd);
    pair_run(pair);
    assert_int_equal(pair->events->len, 2);
    assert_int_equal(g_array_index(pair->events, MemoryEventType, 0), MEMORY_EV_FAILED);
    assert_gone(pair, "closed its connection");
}

static void asking_one_who_is_gone_does_nothing(void **state)
{
    g_autoptr(Pair) pair = pair_new_open(TRUE);
    MemoryClient *client = client_link_client(pair->link);

    autofd_clear(&pair->fd);
    client->ops->advise(client);
    client->ops->end(client, MEMORY_END_FAILED, NULL);
    assert_true(client_link_is_drained(pair->link));
    pair_run(pair);
    assert_gone(pair, "closed its connection");
}

static void only_seqpacket_sockets_will_do(void **state)
{
    g_autoptr(GError) error = NULL;
    int fds[2];

    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), errno);
    assert_null(client_link_new(fds[0], TRUE, &error));
    assert_non_null(strstr(error->message, "SOCK_SEQPACKET"));
    assert_int_equal(fcntl(fds[0], F_GETFD), -1);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_layout_is_what_was_handed_over),
        cmocka_unit_test(regions_may_come_in_many_messages),
        cmocka_unit_test(regions_of_one_memfd_share_a_descriptor),
        cmocka_unit_test(there_are_only_so_many_regions),
        cmocka_unit_test(a_region_that_cannot_be_is_refused_by_name),
        cmocka_unit_test(a_descriptor_that_is_no_memfd_is_refused),
        cmocka_unit_test(a_memfd_that_may_not_be_written_is_refused_at_the_destination),
        cmocka_unit_test(regions_that_overlap_or_share_a_name_are_refused),
        cmocka_unit_test(the_rest_of_the_hand_over_is_judged_as_well),
        cmocka_unit_test(nothing_is_said_before_the_hand_over_and_nothing_of_it_after),
        cmocka_unit_test(nonsense_ends_it),
        cmocka_unit_test(descriptors_that_nobody_wants_are_closed),
        cmocka_unit_test(requests_are_answered_in_their_order),
        cmocka_unit_test(an_answer_that_was_not_asked_for_ends_it),
        cmocka_unit_test(an_answer_to_another_request_ends_it),
        cmocka_unit_test(what_is_the_other_sides_to_say_ends_it),
        cmocka_unit_test(asking_while_told_spoils_nothing),
        cmocka_unit_test(a_device_state_has_a_limit),
        cmocka_unit_test(a_device_state_goes_out_in_pieces_as_the_client_reads),
        cmocka_unit_test(a_client_that_reads_nothing_is_given_up),
        cmocka_unit_test(hints_and_mappings_are_within_the_regions),
        cmocka_unit_test(what_is_no_userfaultfd_is_not_taken_for_one),
        cmocka_unit_test(a_userfaultfd_is_handed_on_and_does_not_block),
        cmocka_unit_test(a_client_that_dies_is_gone),
        cmocka_unit_test(last_words_are_heard_though_requests_were_left_unread),
        cmocka_unit_test(asking_one_who_is_gone_does_nothing),
        cmocka_unit_test(only_seqpacket_sockets_will_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
