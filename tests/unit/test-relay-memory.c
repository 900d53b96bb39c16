/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The relay with a memory client in the place of a QEMU: who gets together with whom, and what becomes of clients
 * that leave or talk nonsense. Whole migrations are in tests/e2e/test_workload.py. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/handover.h"
#include "ram/job_error.h"
#include "ram/relay.h"
#include "tests/support/relay-end.h"
#include "tests/support/sockets.h"

#define MAPPED (SESSION_FEATURE_RAM | SESSION_FEATURE_MAPPED | SESSION_FEATURE_RESUME)

static End *memory_end(SessionSide side)
{
    const EndSpec spec = { .key = 1,
                           .token = 1,
                           .timeouts = END_PATIENT,
                           .features = MAPPED,
                           .required = SESSION_FEATURE_RAM | SESSION_FEATURE_MAPPED,
                           .memory = TRUE };

    return end_new(side, &spec);
}

static End *qemu_end(SessionSide side)
{
    const EndSpec spec = { .key = 1,
                           .token = 1,
                           .timeouts = END_PATIENT,
                           .features = MAPPED & ~SESSION_FEATURE_MAPPED };

    return end_new(side, &spec);
}

/* Returns the client's end of its socket. */
static int attach(End *end)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    end->replies = 0;
    relay_command(end->relay, RELAY_ATTACH_MEMORY, pair[0], NULL, end);
    wait_until(was_answered, end, "the answer to ATTACH_MEMORY");
    return pair[1];
}

static void assert_contains(const char *text, const char *part)
{
    if (!text || !strstr(text, part))
        fail_msg("\"%s\" does not contain \"%s\"", text ? text : "(null)", part);
}

/* The END that the client hears last. */
static void assert_told_end(int fd, const char *part)
{
    g_autofree guint8 *bytes = g_malloc(HANDOVER_MESSAGE_MAX);
    g_autofree HandoverMessage *message = g_new0(HandoverMessage, 1);
    char why[HANDOVER_ERROR_MAX];
    g_autofree char *text = NULL;
    ssize_t n;

    do {
        n = recv(fd, bytes, HANDOVER_MESSAGE_MAX, 0);
        assert_true(n > 0);
        assert_true(handover_decode(bytes, (gsize)n, 0, message, why));
    } while (message->type != HANDOVER_END);
    text = g_strndup(message->end.text.bytes, message->end.text.len);
    assert_contains(text, part);
}

/* ---- who gets together with whom ---- */

static void a_memory_source_is_no_match_for_a_qemu(void **state)
{
    g_autoptr(End) source = memory_end(SESSION_SOURCE);
    g_autoptr(End) destination = qemu_end(SESSION_DESTINATION);

    join(source, destination);
    wait_until(needs_qemu, destination, "HELLO");
    attach_destination(destination);
    wait_until(was_answered, source, "the answer to CONNECT_PEER");
    assert_non_null(source->last_error);
    assert_contains(source->last_error->message, "mapped");
    wait_until(has_ended, source, "the source's end");
}

static void a_qemu_is_no_match_for_a_memory_destination(void **state)
{
    g_autoptr(End) source = qemu_end(SESSION_SOURCE);
    g_autoptr(End) destination = memory_end(SESSION_DESTINATION);

    join(source, destination);
    wait_until(was_answered, source, "the answer to CONNECT_PEER");
    assert_non_null(source->last_error);
    assert_contains(source->last_error->message, "mapped");
    /* It waits on: a better one may come. */
    wait_until(has_refused, destination, "the refusal");
    assert_int_equal(destination->state, SESSION_SETUP);
    assert_false(destination->qemu_needed);
}

static void a_relay_takes_one_memory_client(void **state)
{
    g_autoptr(End) end = memory_end(SESSION_DESTINATION);
    int first = attach(end), second;

    assert_null(end->last_error);
    second = attach(end);
    assert_true(g_error_matches(end->last_error, JOB_ERROR, JOB_ERROR_WRONG_STATE));
    assert_int_equal(recv(second, &(char){ 0 }, 1, 0), 0);
    close(first);
    close(second);
}

static void one_for_a_qemu_takes_none(void **state)
{
    g_autoptr(End) end = qemu_end(SESSION_DESTINATION);
    int fd = attach(end);

    assert_true(g_error_matches(end->last_error, JOB_ERROR, JOB_ERROR_WRONG_STATE));
    close(fd);
}

/* ---- clients that do not get far ---- */

static void a_client_that_leaves_before_the_peer_comes_ends_it(void **state)
{
    g_autoptr(End) end = memory_end(SESSION_DESTINATION);

    close(attach(end));
    wait_until(has_ended, end, "the end");
    assert_string_equal(end->history->str, "setup cancelled");
    assert_contains(end->reason, "memory client");
}

static void a_client_that_leaves_while_the_peer_waits_is_told_to_it(void **state)
{
    g_autoptr(End) source = memory_end(SESSION_SOURCE);
    g_autoptr(End) destination = memory_end(SESSION_DESTINATION);
    int fd = attach(destination);

    join(source, destination);
    /* It is not answered before the client has handed its memory over. */
    g_usleep(50000);
    assert_int_equal(source->replies, 0);
    close(fd);
    wait_until(was_answered, source, "the answer to CONNECT_PEER");
    assert_contains(source->last_error->message, "memory client");
    wait_until(has_ended, destination, "the end");
}

static void nonsense_ends_it_and_is_named(void **state)
{
    g_autoptr(End) end = memory_end(SESSION_DESTINATION);
    int fd = attach(end);

    assert_int_equal(send(fd, "\0\x10nonsense", 10, MSG_NOSIGNAL), 10);
    wait_until(has_ended, end, "the end");
    assert_contains(end->reason, "REGIONS");
    close(fd);
}

static void a_client_hears_of_a_cancellation(void **state)
{
    g_autoptr(End) end = memory_end(SESSION_DESTINATION);
    int fd = attach(end);

    relay_command(end->relay, RELAY_CANCEL, -1, "somebody wants it so", NULL);
    wait_until(has_ended, end, "the end");
    assert_told_end(fd, "somebody wants it so");
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_memory_source_is_no_match_for_a_qemu),
        cmocka_unit_test(a_qemu_is_no_match_for_a_memory_destination),
        cmocka_unit_test(a_relay_takes_one_memory_client),
        cmocka_unit_test(one_for_a_qemu_takes_none),
        cmocka_unit_test(a_client_that_leaves_before_the_peer_comes_ends_it),
        cmocka_unit_test(a_client_that_leaves_while_the_peer_waits_is_told_to_it),
        cmocka_unit_test(nonsense_ends_it_and_is_named),
        cmocka_unit_test(a_client_hears_of_a_cancellation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
