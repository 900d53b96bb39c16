/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The source QEMU's speed in post-copy: what number it gets, and how libvirtd is told, one call at
 * a time, by a libvirtd that may be slow, unwilling or gone. */
#include "config.h"

#include "driver/qemu_speed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <libvirt/libvirt.h>

#include "driver/rpc_error.h"
#include "driver/rpc_xdr.h"
#include "driver/speed_limit.h"
#include "tests/support/rpc-end.h"

#define MIB ((guint64)1 << 20)
#define MIB_MAX (((guint64)1 << 43) - 1)

/* ---- the number ---- */

static const struct {
    guint64 bytes;
    guint64 mib;
} mib_rows[] = {
    { 0, 0 },
    { 1, 1 },
    { MIB - 1, 1 },
    { MIB, 1 },
    { MIB + 1, 2 },
    { 62500000, 60 },
    { G_MAXINT64, MIB_MAX },
    { G_MAXUINT64, MIB_MAX },
};

static void bytes_are_rounded_up_to_whole_mebibytes(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(mib_rows); i++)
        assert_true(speed_limit_mib(mib_rows[i].bytes) == mib_rows[i].mib);
}

static const struct {
    guint64 user;
    guint64 wanted; /* MiB/s */
    guint64 result;
} least_rows[] = {
    { 0, 0, 0 }, { 0, 7, 7 }, { 7, 0, 7 }, { 7, 9, 7 }, { 9, 7, 7 }, { 7, 7, 7 },
};

static void the_lesser_of_wish_and_users_limit_counts(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(least_rows); i++) {
        SpeedLimit limit = { .user = least_rows[i].user };

        assert_true(speed_limit_for(&limit, least_rows[i].wanted * MIB) == least_rows[i].result);
    }
}

static void what_stands_there_and_was_not_set_here_is_the_users(void **state)
{
    SpeedLimit limit = { 0 };

    speed_limit_seen(&limit, 50);
    assert_true(limit.user == 50);
    speed_limit_was_set(&limit, 20);
    speed_limit_seen(&limit, 20);
    assert_true(limit.user == 50);
    speed_limit_seen(&limit, 10);
    assert_true(limit.user == 10);
    speed_limit_seen(&limit, 0);
    assert_true(limit.user == 0);
}

static void what_an_earlier_try_left_is_not_the_users(void **state)
{
    SpeedLimit limit = { .user = 30, .again = TRUE };

    speed_limit_seen(&limit, 3);
    assert_true(limit.user == 30);
    speed_limit_seen(&limit, 5);
    assert_true(limit.user == 5);
}

/* ---- a libvirtd ---- */

typedef struct {
    char *dir;
    char *path;
    Settings *settings;
    int listener;
    guint watch;
    GPtrArray *ends; /* RpcEnd, a connection each */
    QemuSpeed *speed;
} Fixture;

static gboolean on_connection(gint fd, GIOCondition condition, gpointer data)
{
    Fixture *f = data;
    int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

    assert_true(connection >= 0);
    g_ptr_array_add(f->ends, rpc_end_new(rpc_stream_new_socket(connection, TRUE)));
    return G_SOURCE_CONTINUE;
}

static void start_listening(Fixture *f)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    g_strlcpy(address.sun_path, f->path, sizeof address.sun_path);
    f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(f->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(f->listener, 5), 0);
    f->watch = g_unix_fd_add(f->listener, G_IO_IN, on_connection, f);
}

static void stop_listening(Fixture *f)
{
    if (f->listener < 0)
        return;
    g_source_remove(f->watch);
    close(f->listener);
    g_unlink(f->path);
    f->listener = -1;
}

static int setup(void **state)
{
    static const LogContext log = { .side = "source" };
    Fixture *f = g_new0(Fixture, 1);
    SpeedLimit limit = { 0 };
    g_autofree char *text = NULL;

    f->dir = g_dir_make_tmp("test-qemu-speed-XXXXXX", NULL);
    f->path = g_build_filename(f->dir, "libvirt-sock", NULL);
    text = g_strdup_printf("upstream_socket = '%s'\n", f->path);
    f->settings = settings_parse(text, strlen(text), "f.conf", NULL);
    f->ends = g_ptr_array_new_with_free_func((GDestroyNotify)rpc_end_free);
    f->speed = qemu_speed_new(f->settings, "vm1", &limit, &log);
    start_listening(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;

    qemu_speed_free(f->speed);
    rpc_test_settle();
    g_ptr_array_unref(f->ends);
    stop_listening(f);
    g_rmdir(f->dir);
    settings_free(f->settings);
    g_free(f->dir);
    g_free(f->path);
    g_free(f);
    return 0;
}

typedef struct {
    Fixture *f;
    guint connection;
} Wanted;

static gboolean is_connected(gpointer data)
{
    Wanted *wanted = data;

    return wanted->f->ends->len > wanted->connection;
}

static RpcEnd *connection(Fixture *f, guint n)
{
    Wanted wanted = { f, n };

    assert_true(rpc_test_until(is_connected, &wanted));
    return g_ptr_array_index(f->ends, n);
}

/* The nth call on it, which must be that one. */
static const RpcFrame *call(RpcEnd *end, guint n, gint32 procedure)
{
    assert_true(rpc_test_until_frames(end, n + 1));
    assert_int_equal(end->frames->len, n + 1);
    assert_int_equal(rpc_end_frame(end, n)->header.procedure, procedure);
    assert_int_equal(rpc_end_frame(end, n)->header.type, RPC_TYPE_CALL);
    return rpc_end_frame(end, n);
}

static void answer(RpcEnd *end, const RpcFrame *frame, xdrproc_t proc, void *result)
{
    RpcHeader header = frame->header;

    header.type = RPC_TYPE_REPLY;
    rpc_stream_send(end->stream, proc ? rpc_xdr_reply(&frame->header, proc, result, NULL)
                                      : rpc_frame_new(&header, NULL, 0));
}

static void refuse(RpcEnd *end, const RpcFrame *frame)
{
    rpc_stream_send(end->stream, rpc_error_reply(&frame->header, 55, 10, "no job is active"));
}

static void answer_get(RpcEnd *end, guint n, guint64 mib)
{
    const RpcFrame *frame = call(end, n, 242);
    remote_get_max_speed args;
    remote_get_max_speed_ret ret = { .bandwidth = mib };
    gsize len;
    const guint8 *payload = rpc_frame_payload(frame, &len);

    assert_true(rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_get_max_speed, &args,
                               sizeof args, "", NULL));
    assert_string_equal(args.dom.name, "vm1");
    assert_int_equal(args.flags, VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY);
    rpc_xdr_free((xdrproc_t)xdr_remote_get_max_speed, &args);
    answer(end, frame, (xdrproc_t)xdr_remote_get_max_speed_ret, &ret);
}

static const RpcFrame *call_set(RpcEnd *end, guint n, guint64 mib)
{
    const RpcFrame *frame = call(end, n, 207);
    remote_set_max_speed args;
    gsize len;
    const guint8 *payload = rpc_frame_payload(frame, &len);

    assert_true(rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_set_max_speed, &args,
                               sizeof args, "", NULL));
    assert_string_equal(args.dom.name, "vm1");
    assert_memory_equal(args.dom.uuid, "0123456789abcdef", 16);
    assert_true(args.bandwidth == mib);
    assert_int_equal(args.flags, VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY);
    rpc_xdr_free((xdrproc_t)xdr_remote_set_max_speed, &args);
    return frame;
}

static void answer_set(RpcEnd *end, guint n, guint64 mib)
{
    answer(end, call_set(end, n, mib), NULL, NULL);
}

/* Three calls until it has found the domain. */
#define OPENED 3

static RpcEnd *opened(Fixture *f, guint n)
{
    remote_dom_ret dom = { .dom = { .name = (char *)"vm1", .id = 7 } };
    RpcEnd *end = connection(f, n);

    memcpy(dom.dom.uuid, "0123456789abcdef", 16);
    answer(end, call(end, 0, 66), NULL, NULL);
    answer(end, call(end, 1, 1), NULL, NULL);
    answer(end, call(end, 2, 23), (xdrproc_t)xdr_remote_dom_ret, &dom);
    return end;
}

/* ---- telling it ---- */

static void a_wish_becomes_one_call_on_a_connection_of_its_own(void **state)
{
    Fixture *f = *state;
    RpcEnd *end;

    rpc_test_settle();
    assert_int_equal(f->ends->len, 0);
    qemu_speed_want(f->speed, 62500000);
    end = opened(f, 0);
    answer_get(end, OPENED, 0);
    answer_set(end, OPENED + 1, 60);
    qemu_speed_want(f->speed, 0);
    answer_get(end, OPENED + 2, 60);
    answer_set(end, OPENED + 3, 0);
}

static void the_newest_wish_counts_while_a_call_is_under_way(void **state)
{
    Fixture *f = *state;
    RpcEnd *end;
    const RpcFrame *frame;

    qemu_speed_want(f->speed, 10 * MIB);
    end = opened(f, 0);
    answer_get(end, OPENED, 0);
    frame = call_set(end, OPENED + 1, 10);
    for (guint64 mib = 20; mib <= 40; mib += 10)
        qemu_speed_want(f->speed, mib * MIB);
    rpc_test_settle();
    assert_int_equal(end->frames->len, OPENED + 2);
    answer(end, frame, NULL, NULL);
    answer_get(end, OPENED + 2, 10);
    answer_set(end, OPENED + 3, 40);
    rpc_test_settle();
    assert_int_equal(end->frames->len, OPENED + 4);
}

static void the_users_limit_is_not_exceeded(void **state)
{
    Fixture *f = *state;
    RpcEnd *end;

    qemu_speed_want(f->speed, 60 * MIB);
    end = opened(f, 0);
    answer_get(end, OPENED, 20);
    rpc_test_settle();
    assert_int_equal(end->frames->len, OPENED + 1); /* 20 it is */
    qemu_speed_want(f->speed, 15 * MIB);
    answer_get(end, OPENED + 1, 20);
    answer_set(end, OPENED + 2, 15);
    qemu_speed_want(f->speed, 60 * MIB);
    answer_get(end, OPENED + 3, 30); /* the user has changed it meanwhile */
    rpc_test_settle();
    assert_int_equal(end->frames->len, OPENED + 4);
}

static void a_refusal_is_not_the_end(void **state)
{
    Fixture *f = *state;
    RpcEnd *end;

    qemu_speed_want(f->speed, 10 * MIB);
    end = opened(f, 0);
    refuse(end, call(end, OPENED, 242));
    rpc_test_settle();
    assert_int_equal(end->frames->len, OPENED + 1);
    qemu_speed_want(f->speed, 20 * MIB);
    answer_get(end, OPENED + 1, 0);
    refuse(end, call_set(end, OPENED + 2, 20));
    rpc_test_settle();
    qemu_speed_want(f->speed, 20 * MIB);
    answer_get(end, OPENED + 3, 20); /* it was set all the same: that is not the user's */
    rpc_test_settle();
    qemu_speed_want(f->speed, 30 * MIB);
    answer_get(end, OPENED + 4, 20);
    answer_set(end, OPENED + 5, 30);
}

static void a_lost_connection_is_opened_again_for_the_wish_that_waits(void **state)
{
    Fixture *f = *state;
    RpcEnd *end;

    qemu_speed_want(f->speed, 10 * MIB);
    end = opened(f, 0);
    answer_get(end, OPENED, 0);
    call_set(end, OPENED + 1, 10);
    rpc_stream_close(end->stream, FALSE);
    end = opened(f, 1);
    answer_get(end, OPENED, 0);
    answer_set(end, OPENED + 1, 10);
    rpc_stream_close(end->stream, FALSE); /* while nothing is under way */
    rpc_test_settle();
    qemu_speed_want(f->speed, 20 * MIB);
    end = opened(f, 2);
    answer_get(end, OPENED, 10);
    answer_set(end, OPENED + 1, 20);
}

static void a_libvirtd_that_is_not_there_is_tried_again(void **state)
{
    Fixture *f = *state;

    stop_listening(f);
    qemu_speed_want(f->speed, 10 * MIB);
    rpc_test_settle();
    start_listening(f);
    answer_get(opened(f, 0), OPENED, 0);
}

static void the_end_may_come_at_any_time(void **state)
{
    Fixture *f = *state;
    SpeedLimit limit = { 0 };
    static const LogContext log = { .side = "source" };

    for (guint step = 0; step < 4; step++) {
        RpcEnd *end;

        qemu_speed_want(f->speed, 10 * MIB);
        if (step > 0) {
            end = connection(f, f->ends->len);
            call(end, 0, 66);
            if (step > 1)
                answer(end, call(end, 0, 66), NULL, NULL);
            if (step > 2)
                call(end, 1, 1);
        }
        qemu_speed_free(f->speed);
        f->speed = qemu_speed_new(f->settings, "vm1", &limit, &log);
        rpc_test_settle();
    }
}

int main(void)
{
#define WITH_LIBVIRTD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_rounded_up_to_whole_mebibytes),
        cmocka_unit_test(the_lesser_of_wish_and_users_limit_counts),
        cmocka_unit_test(what_stands_there_and_was_not_set_here_is_the_users),
        cmocka_unit_test(what_an_earlier_try_left_is_not_the_users),
        WITH_LIBVIRTD(a_wish_becomes_one_call_on_a_connection_of_its_own),
        WITH_LIBVIRTD(the_newest_wish_counts_while_a_call_is_under_way),
        WITH_LIBVIRTD(the_users_limit_is_not_exceeded),
        WITH_LIBVIRTD(a_refusal_is_not_the_end),
        WITH_LIBVIRTD(a_lost_connection_is_opened_again_for_the_wish_that_waits),
        WITH_LIBVIRTD(a_libvirtd_that_is_not_there_is_tried_again),
        WITH_LIBVIRTD(the_end_may_come_at_any_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
