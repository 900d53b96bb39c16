/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disk channels: two relays in one process, joined over loopback, with threads that stand in for a
 * QEMU that copies its disk and the one that serves it. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ram/job_error.h"
#include "tests/support/raw-peer.h"
#include "tests/support/sockets.h"
#include "tls/proof.h"

#define MIB (1024 * 1024)

static const EndSpec good = { .key = 1,
                              .token = 1,
                              .timeouts = END_PATIENT,
                              .features = SESSION_FEATURE_DISKS };

static void assert_contains(const char *text, const char *part)
{
    if (!text || !strstr(text, part))
        fail_msg("\"%s\" does not contain \"%s\"", text ? text : "(null)", part);
}

/* ---- steps ---- */

static gboolean wants_disks(gpointer data)
{
    return ((End *)data)->disks_wanted > 0;
}

static gboolean has_lost_disks(gpointer data)
{
    return ((End *)data)->disks_ended > 0;
}

static guint take_number(End *end)
{
    guint number;

    wait_until(wants_disks, end, "DisksWanted");
    number = end->disks_wanted;
    end->disks_wanted = 0;
    return number;
}

static GError *call(End *end, RelayCommandType type, guint number, int fd, const char *text)
{
    end->replies = 0;
    relay_disks_command(end->relay, type, (guint16)number, fd, text, end);
    wait_until(was_answered, end, "the answer");
    return end->last_error;
}

static char *disks_path(void)
{
    return g_strdup_printf("%s/disks-test-%d", g_get_tmp_dir(), (int)getpid());
}

/* Where the source's QEMU can connect. */
static void listen_for_disks(End *source)
{
    g_autofree char *path = disks_path();

    source->replies = 0;
    relay_command(source->relay, RELAY_LISTEN_DISKS, sockets_unix_listen(path), NULL, source);
    wait_until(was_answered, source, "ListenDisks' answer");
}

static void begin(End *source, End *destination)
{
    activate(source, destination);
    listen_for_disks(source);
    assert_null(source->last_error);
}

typedef struct {
    int qemu;   /* the source QEMU's end */
    int server; /* the destination QEMU's */
    int wire;   /* a descriptor of the connection between, to cut it by */
    guint number;
} Disk;

static int connect_disk(void)
{
    g_autofree char *path = disks_path();

    return sockets_unix_connect(path);
}

/* Up to where the destination has to find its QEMU. */
static void dial_disk(End *source, End *destination, Disk *disk)
{
    int tcp[2];

    disk->qemu = connect_disk();
    disk->number = take_number(source);
    sockets_tcp_pair(tcp);
    disk->wire = dup(tcp[0]);
    relay_command(destination->relay, RELAY_ACCEPT_PEER, tcp[1], "127.0.0.1", NULL);
    assert_null(call(source, RELAY_CONNECT_DISKS, disk->number, tcp[0], "localhost"));
    assert_int_equal(take_number(destination), disk->number);
}

static Disk open_disk(End *source, End *destination)
{
    Disk disk;
    int pair[2];

    dial_disk(source, destination, &disk);
    sockets_unix_pair(pair);
    assert_null(call(destination, RELAY_ATTACH_DISKS, disk.number, pair[0], NULL));
    disk.server = pair[1];
    return disk;
}

/* Both ends have told of so many ends. */
static void wait_for_ends(End *source, End *destination, guint n)
{
    while (source->disks_ended < n || destination->disks_ended < n)
        g_main_context_iteration(NULL, TRUE);
}

static void read_exactly(int fd, const char *expected)
{
    char buf[64];

    assert_int_equal(recv(fd, buf, strlen(expected), MSG_WAITALL), strlen(expected));
    assert_memory_equal(buf, expected, strlen(expected));
}

static void put(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* ---- the ordinary way ---- */

static void stream_disk(const EndSpec *spec, guint64 there, guint64 back)
{
    g_autoptr(End) source = end_new(SESSION_SOURCE, spec);
    g_autoptr(End) destination = end_new(SESSION_DESTINATION, spec);
    StreamEnd *a, *b;
    Disk disk;

    begin(source, destination);
    disk = open_disk(source, destination);
    a = stream_end_start(disk.qemu, 1, there, 2);
    b = stream_end_start(disk.server, 2, back, 1);
    stream_end_wait(a);
    stream_end_wait(b);
    assert_true(stream_end_is_good(a, back) && stream_end_is_good(b, there));
    wait_for_ends(source, destination, 1);
    assert_string_equal(source->disks_why, "");
    assert_string_equal(destination->disks_why, "");
    assert_true(is_active(source) && is_active(destination));

    /* Those of an earlier report may have been read in the midst of it. */
    source->stats.disk_channels = 0;
    relay_command(source->relay, RELAY_GET_STATS, -1, NULL, NULL);
    while (source->stats.disk_channels == 0)
        g_main_context_iteration(NULL, TRUE);
    assert_true(source->stats.wire_disks_sent > there);
    assert_true(source->stats.wire_disks_received > back);
    stream_end_free(a);
    stream_end_free(b);
    close(disk.wire);
}

static void disk_passes_unchanged_both_ways(void **state)
{
    stream_disk(&good, 48 * MIB + 17, 21 * MIB + 5);
}

static void disk_passes_under_new_keys(void **state)
{
    EndSpec spec = good;

    spec.rekey_records = 20;
    stream_disk(&spec, 16 * MIB, 16 * MIB);
}

static void server_may_speak_first(void **state)
{
    g_autoptr(End) source = end_new(SESSION_SOURCE, &good);
    g_autoptr(End) destination = end_new(SESSION_DESTINATION, &good);
    Disk disk;

    begin(source, destination);
    disk = open_disk(source, destination);
    put(disk.server, "NBDMAGIC");
    read_exactly(disk.qemu, "NBDMAGIC");
    put(disk.qemu, "IHAVEOPT");
    read_exactly(disk.server, "IHAVEOPT");
    close(disk.qemu);
    close(disk.server);
    close(disk.wire);
}

/* first: who ends its direction first. */
static void half_close(gboolean server_first)
{
    g_autoptr(End) source = end_new(SESSION_SOURCE, &good);
    g_autoptr(End) destination = end_new(SESSION_DESTINATION, &good);
    int first, other;
    Disk disk;

    begin(source, destination);
    disk = open_disk(source, destination);
    first = server_first ? disk.server : disk.qemu;
    other = server_first ? disk.qemu : disk.server;
    put(first, "the last word");
    shutdown(first, SHUT_WR);
    read_exactly(other, "the last word");
    assert_true(socket_ends_within(other, 5000));
    /* The other direction lives. */
    put(other, "not yet");
    read_exactly(first, "not yet");
    assert_int_equal(source->disks_ended + destination->disks_ended, 0);
    shutdown(other, SHUT_WR);
    assert_true(socket_ends_within(first, 5000));
    wait_for_ends(source, destination, 1);
    assert_string_equal(source->disks_why, "");
    assert_string_equal(destination->disks_why, "");
    close(disk.qemu);
    close(disk.server);
    close(disk.wire);
}

static void each_direction_ends_by_itself(void **state)
{
    half_close(FALSE);
    half_close(TRUE);
}

/* A QEMU that closes while more comes for it is no failure of the connection. */
static void qemu_that_leaves_ends_the_connection(void **state)
{
    g_autoptr(End) source = end_new(SESSION_SOURCE, &good);
    g_autoptr(End) destination = end_new(SESSION_DESTINATION, &good);
    StreamEnd *b;
    Disk disk;

    begin(source, destination);
    disk = open_disk(source, destination);
    b = stream_end_start(disk.server, 2, 8 * MIB, 1);
    read_exactly(disk.qemu, ""); /* nothing */
    close(disk.qemu);
    stream_end_wait(b);
    wait_for_ends(source, destination, 1);
    assert_string_equal(source->disks_why, "");
    assert_string_equal(destination->disks_why, "");
    assert_int_equal(b->received, 0);
    stream_end_free(b);
    close(disk.wire);
}

static void many_disks_at_once(void **state)
{
    enum { N = 12 };
    g_autoptr(End) source = end_new(SESSION_SOURCE, &good);
    g_autoptr(End) destination = end_new(SESSION_DESTINATION, &good);
    StreamEnd *a[N], *b[N];

    begin(source, destination);
    for (guint i = 0; i < N; i++) {
        Disk disk = open_disk(source, destination);

        a[i] = stream_end_start(disk.qemu, 2 * i, 2 * MIB + i, 2 * i + 1);
        b[i] = stream_end_start(disk.server, 2 * i + 1, 3 * MIB + i, 2 * i);
        close(disk.wire);
    }
    for (guint i = 0; i < N; i++) {
        stream_end_wait(a[i]);
        stream_end_wait(b[i]);
        assert_true(stream_end_is_good(a[i], b[i]->len) && stream_end_is_good(b[i], a[i]->len));
        stream_end_free(a[i]);
        stream_end_free(b[i]);
    }
    wait_for_ends(source, destination, N);
}

/* ---- the peer ---- */

static void cut_connection_closes_both_ends_alone(void **state)
{
    g_autoptr(End) source = end_new(SESSION_SOURCE, &good);
    g_autoptr(End) destination = end_new(SESSION_DESTINATION, &good);
    Disk disk, other;

    begin(source, destination);
    disk = open_disk(source, destination);
    other = open_disk(source, destination);
    shutdown(disk.wire, SHUT_RDWR);
    assert_true(socket_ends_within(disk.qemu, 5000));
    assert_true(socket_ends_within(disk.server, 5000));
    wait_for_ends(source, destination, 1);
    assert_string_not_equal(source->disks_why, "");
    assert_string_not_equal(destination->disks_why, "");
    /* Neither the session nor the other disk has to do with it. */
    put(other.qemu, "still here");
    read_exactly(other.server, "still here");
    assert_true(is_active(source) && is_active(destination));
    close(disk.qemu);
    close(disk.server);
    close(disk.wire);
    close(other.qemu);
    close(other.server);
    close(other.wire);
}

static void end_of_the_session_closes_disks(void **state)
{
    g_autoptr(End) source = end_new(SESSION_SOURCE, &good);
    g_autoptr(End) destination = end_new(SESSION_DESTINATION, &good);
    int waits;
    Disk disk;

    begin(source, destination);
    disk = open_disk(source, destination);
    waits = connect_disk();
    take_number(source);
    relay_command(source->relay, RELAY_CANCEL, -1, "user", NULL);
    assert_true(socket_ends_within(disk.qemu, 5000));
    assert_true(socket_ends_within(disk.server, 5000));
    assert_true(socket_ends_within(waits, 5000));
    wait_until(has_ended, source, "end");
    wait_until(has_ended, destination, "end");
    close(disk.qemu);
    close(disk.server);
    close(disk.wire);
    close(waits);
}

static void relay_can_be_freed_with_disks_open(void **state)
{
    for (guint i = 0; i < 8; i++) {
        g_autoptr(End) source = end_new(SESSION_SOURCE, &good);
        g_autoptr(End) destination = end_new(SESSION_DESTINATION, &good);
        StreamEnd *a, *b;
        Disk disk;

        begin(source, destination);
        disk = open_disk(source, destination);
        a = stream_end_start(disk.qemu, 1, 64 * MIB, 2);
        b = stream_end_start(disk.server, 2, MIB, 1);
        g_usleep(i * 3000);
        relay_free(i & 1 ? source->relay : destination->relay);
        *(i & 1 ? &source->relay : &destination->relay) = NULL;
        stream_end_free(a);
        stream_end_free(b);
        close(disk.wire);
    }
}

/* ---- what goes wrong before it is open ---- */

static void refused_server_is_told_to_the_source(void **state)
{
    g_autoptr(End) source = end_new(SESSION_SOURCE, &good);
    g_autoptr(End) destination = end_new(SESSION_DESTINATION, &good);
    Disk disk;

    begin(source, destination);
    dial_disk(source, destination, &disk);
    assert_null(call(destination, RELAY_REFUSE_DISKS, disk.number, -1, "no such file"));
    assert_true(socket_ends_within(disk.qemu, 5000));
    wait_for_ends(source, destination, 1);
    assert_string_equal(source->disks_why, "the destination refused: no such file");
    assert_string_equal(destination->disks_why, "no such file");
    assert_true(is_active(source) && is_active(destination));
    close(disk.qemu);
    close(disk.wire);
}

static void peer_that_cannot_be_dialled_closes_qemu(void **state)
{
    g_autoptr(End) source = end_new(SESSION_SOURCE, &good);
    g_autoptr(End) destination = end_new(SESSION_DESTINATION, &good);
    guint number;
    int qemu;

    begin(source, destination);
    qemu = connect_disk();
    number = take_number(source);
    assert_null(call(source, RELAY_REFUSE_DISKS, number, -1, "no route to host"));
    assert_true(socket_ends_within(qemu, 5000));
    wait_until(has_lost_disks, source, "DisksEnded");
    assert_string_equal(source->disks_why, "no route to host");
    /* It is not waited for any more. */
    assert_true(g_error_matches(call(source, RELAY_REFUSE_DISKS, number, -1, "again"), JOB_ERROR,
                                JOB_ERROR_WRONG_STATE));
    close(qemu);
}

static void nobody_is_waited_for_for_ever(void **state)
{
    const EndSpec hasty = { .key = 1,
                            .token = 1,
                            .timeouts = { 10000, 300, 2000, 10000, 4, 20000 },
                            .features = SESSION_FEATURE_DISKS };
    g_autoptr(End) source = end_new(SESSION_SOURCE, &hasty);
    g_autoptr(End) destination = end_new(SESSION_DESTINATION, &good);
    int qemu;
    Disk disk;

    begin(source, destination);
    qemu = connect_disk();
    assert_true(socket_ends_within(qemu, 10000));
    wait_until(has_lost_disks, source, "DisksEnded");
    assert_string_equal(source->disks_why, "its other end was not there in time");
    close(qemu);

    /* Nor a destination that does not find its server. */
    source->disks_wanted = source->disks_ended = 0;
    dial_disk(source, destination, &disk);
    assert_true(socket_ends_within(disk.qemu, 10000));
    wait_until(has_lost_disks, source, "DisksEnded");
    assert_string_equal(source->disks_why, "the peer localhost did not answer in time");
    close(disk.qemu);
    close(disk.wire);
}

static void one_connection_too_many_is_closed(void **state)
{
    g_autoptr(End) source = end_new(SESSION_SOURCE, &good);
    g_autoptr(End) destination = end_new(SESSION_DESTINATION, &good);
    int fds[RELAY_DISKS_MAX];
    int more;

    begin(source, destination);
    for (guint i = 0; i < RELAY_DISKS_MAX; i++) {
        fds[i] = connect_disk();
        assert_int_equal(take_number(source), i + 1);
    }
    more = connect_disk();
    assert_true(socket_ends_within(more, 5000));
    wait_until(has_lost_disks, source, "DisksEnded");
    assert_contains(source->disks_why, "64 disk connections are open already");
    close(more);
    for (guint i = 0; i < RELAY_DISKS_MAX; i++)
        close(fds[i]);
}

static void disks_need_the_feature_on_both_sides(void **state)
{
    const EndSpec without = { .key = 1, .token = 1, .timeouts = END_PATIENT };
    g_autoptr(End) source = end_new(SESSION_SOURCE, &good);
    g_autoptr(End) destination = end_new(SESSION_DESTINATION, &without);

    activate(source, destination);
    listen_for_disks(source);
    assert_true(g_error_matches(source->last_error, JOB_ERROR, JOB_ERROR_WRONG_STATE));
    assert_contains(source->last_error->message, "disks cannot be listened for");
}

/* ---- HELLO ---- */

/* A source that is the test's own, so that it can prove what it wants. */
typedef struct {
    TlsChannel *main;
    guint8 key[CHANNEL_KEY_LEN];
} RawSource;

static RawSource raw_source(End *destination)
{
    HelloBody hello = { .version_min = 1,
                        .version_max = 1,
                        .features = SESSION_FEATURE_DISKS,
                        .window = END_WINDOW,
                        .auth_len = HELLO_TOKEN_LEN };
    guint8 ack[FRAME_HEADER_LEN + 20];
    RawSource source = { .main = raw_peer(destination) };

    assert_true(channel_key(source.main, source.key, NULL));
    memset(hello.auth, 1, HELLO_TOKEN_LEN);
    raw_write(source.main, frame_new_hello(&hello));
    wait_until(needs_qemu, destination, "QemuNeeded");
    attach_destination(destination);
    raw_read(source.main, ack, sizeof ack);
    assert_int_equal(ack[4], FRAME_HELLO_ACK);
    wait_until(is_active, destination, "active");
    return source;
}

/* proved_*: what the proof is for. */
static TlsChannel *raw_disk(End *destination, const RawSource *source, const HelloBody *like,
                            guint8 proved_kind, guint16 proved_number)
{
    TlsChannel *channel = raw_peer(destination);
    g_auto(HelloBody) hello = *like;

    hello.auth_len = HELLO_PROOF_LEN;
    assert_true(channel_proof(source->key, channel, proved_kind, proved_number, hello.auth, NULL));
    raw_write(channel, frame_new_hello(&hello));
    return channel;
}

static void bad_hello_is_answered_and_closed_alone(void **state)
{
    static const HelloBody right = { .version_min = 1,
                                     .version_max = 1,
                                     .features = SESSION_FEATURE_DISKS,
                                     .kind = CHANNEL_DISKS,
                                     .channel = 1,
                                     .window = END_WINDOW };
    const struct {
        gsize offset; /* what is wrong */
        guint8 value;
        guint8 proved_kind;
        guint16 proved_number;
        const char *answer;
    } rows[] = {
        { offsetof(HelloBody, version_max), 1, CHANNEL_DISKS, 2, "token: wrong proof" },
        { offsetof(HelloBody, version_max), 1, CHANNEL_PREEMPT, 1, "token: wrong proof" },
        { offsetof(HelloBody, channel), 0, CHANNEL_DISKS, 0, "kind: channel number 0" },
        { offsetof(HelloBody, features), 0, CHANNEL_DISKS, 1, "protocol: HELLO features" },
        { offsetof(HelloBody, resume), 1, CHANNEL_DISKS, 1, "protocol: HELLO resumes" },
        { offsetof(HelloBody, session), 7, CHANNEL_DISKS, 1, "session: unknown session id" },
        { offsetof(HelloBody, kind), CHANNEL_BULK, CHANNEL_BULK, 1, "kind: channel kind 2" },
    };
    g_autoptr(End) destination = end_new(SESSION_DESTINATION, &good);
    RawSource source = raw_source(destination);
    g_autoptr(TlsChannel) first = NULL;
    g_autoptr(TlsChannel) second = NULL;
    g_autofree char *used = NULL;

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        HelloBody hello = right;
        g_autoptr(TlsChannel) channel = NULL;
        g_autofree char *answer = NULL;

        *((guint8 *)&hello + rows[i].offset) = rows[i].value;
        channel = raw_disk(destination, &source, &hello, rows[i].proved_kind,
                           rows[i].proved_number);
        answer = raw_answer(channel);
        assert_contains(answer, rows[i].answer);
        assert_true(is_active(destination));
    }
    assert_int_equal(destination->disks_wanted, 0);

    /* The right one is taken, and only once. */
    first = raw_disk(destination, &source, &right, CHANNEL_DISKS, 1);
    assert_int_equal(take_number(destination), 1);
    second = raw_disk(destination, &source, &right, CHANNEL_DISKS, 1);
    used = raw_answer(second);
    assert_contains(used, "token-used: the session has its disks channel 1");
    tls_channel_free(source.main);
}

static void hello_beyond_the_limit_is_refused(void **state)
{
    g_autoptr(End) destination = end_new(SESSION_DESTINATION, &good);
    RawSource source = raw_source(destination);
    HelloBody hello = { .version_min = 1,
                        .version_max = 1,
                        .features = SESSION_FEATURE_DISKS,
                        .kind = CHANNEL_DISKS,
                        .window = END_WINDOW };
    g_autoptr(GPtrArray) channels =
        g_ptr_array_new_with_free_func((GDestroyNotify)tls_channel_free);
    g_autofree char *answer = NULL;

    for (guint i = 1; i <= RELAY_DISKS_MAX + 1; i++) {
        hello.channel = (guint16)i;
        g_ptr_array_add(channels, raw_disk(destination, &source, &hello, CHANNEL_DISKS, i));
        if (i <= RELAY_DISKS_MAX)
            assert_int_equal(take_number(destination), i);
    }
    answer = raw_answer(channels->pdata[RELAY_DISKS_MAX]);
    assert_contains(answer, "kind: no other disks channel is offered");
    tls_channel_free(source.main);
}

/* The end of TCP without close_notify may be anybody's: what QEMU reads must not look complete. */
static void end_without_close_notify_is_a_loss(void **state)
{
    static const HelloBody hello = { .version_min = 1,
                                     .version_max = 1,
                                     .features = SESSION_FEATURE_DISKS,
                                     .kind = CHANNEL_DISKS,
                                     .channel = 1,
                                     .window = END_WINDOW };
    g_autoptr(End) destination = end_new(SESSION_DESTINATION, &good);
    RawSource source = raw_source(destination);
    g_autoptr(TlsChannel) channel = raw_disk(destination, &source, &hello, CHANNEL_DISKS, 1);
    guint8 ack[FRAME_HEADER_LEN + 20];
    int pair[2];

    take_number(destination);
    sockets_unix_pair(pair);
    assert_null(call(destination, RELAY_ATTACH_DISKS, 1, pair[0], NULL));
    raw_read(channel, ack, sizeof ack);
    assert_int_equal(ack[4], FRAME_HELLO_ACK);
    raw_write(channel, g_bytes_new_static("half a request", 14));
    read_exactly(pair[1], "half a request");
    shutdown(tls_channel_fd(channel), SHUT_WR);
    assert_true(socket_ends_within(pair[1], 5000));
    wait_until(has_lost_disks, destination, "DisksEnded");
    assert_string_not_equal(destination->disks_why, "");
    close(pair[1]);
    tls_channel_free(source.main);
}

static int remove_socket(void **state)
{
    g_autofree char *path = disks_path();

    unlink(path);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(disk_passes_unchanged_both_ways),
        cmocka_unit_test(disk_passes_under_new_keys),
        cmocka_unit_test(server_may_speak_first),
        cmocka_unit_test(each_direction_ends_by_itself),
        cmocka_unit_test(qemu_that_leaves_ends_the_connection),
        cmocka_unit_test(many_disks_at_once),
        cmocka_unit_test(cut_connection_closes_both_ends_alone),
        cmocka_unit_test(end_of_the_session_closes_disks),
        cmocka_unit_test(relay_can_be_freed_with_disks_open),
        cmocka_unit_test(refused_server_is_told_to_the_source),
        cmocka_unit_test(peer_that_cannot_be_dialled_closes_qemu),
        cmocka_unit_test(nobody_is_waited_for_for_ever),
        cmocka_unit_test(one_connection_too_many_is_closed),
        cmocka_unit_test(disks_need_the_feature_on_both_sides),
        cmocka_unit_test(bad_hello_is_answered_and_closed_alone),
        cmocka_unit_test(hello_beyond_the_limit_is_refused),
        cmocka_unit_test(end_without_close_notify_is_a_loss),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, remove_socket);
}
