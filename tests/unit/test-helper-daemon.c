/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virt-postcopy-helper when its daemon goes and another one comes: the socket on which it is
 * found, and the file that says how far it came. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ram/job_outcome.h"
#include "tests/support/helper-world.h"
#include "util/autofd.h"

/* ---- another daemon ---- */

static void find(void **state, HelperChild *child, const char *name)
{
    g_autofree char *path = helper_world_path(state, name, ".sock");

    assert_true(helper_child_find(child, path));
}

static int connect_to(void **state, const char *name)
{
    g_autofree char *path = helper_world_path(state, name, ".sock");

    return sockets_unix_connect(path);
}

static void later_daemon_finds_an_active_migration(void **state)
{
    g_auto(HelperCouple) couple;
    StreamEnd *ends[2];
    g_autofree char *channels = NULL;

    helper_couple_init_kept(state, &couple, NULL);
    helper_couple_activate(state, &couple);
    helper_child_drop_bus(couple.source);
    helper_child_drop_bus(couple.destination);
    find(state, couple.source, "source");
    find(state, couple.destination, "destination");

    assert_string_equal(couple.source->state, "active");
    assert_string_equal(couple.source->phase, "none");
    assert_string_equal(couple.destination->state, "active");
    channels = g_variant_print(postcopy_migration_get_channels(couple.source->proxy), FALSE);
    assert_contains(channels, "[('main', 'TLS1.3', '");
    assert_contains(channels, "('preempt', 'TLS1.3', '");
    assert_int_equal(postcopy_migration_get_qemu_connections(couple.source->proxy), 1);
    assert_int_equal(postcopy_migration_get_qemu_wanted(couple.destination->proxy), 0);

    helper_couple_start_streams(&couple, 8 * MIB, MIB, ends);
    assert_int_equal(helper_child_wait_exit(couple.source), 0);
    assert_int_equal(helper_child_wait_exit(couple.destination), 0);
    assert_streams_good(ends);
    assert_string_equal(couple.source->history->str, "setup active completed");
    assert_string_equal(couple.destination->history->str, "setup active completed");
    assert_true(helper_child_counter(couple.source, "stream-bytes") == ends[0]->len);
    helper_streams_free(ends);
}

static void later_daemon_can_end_the_migration(void **state)
{
    g_auto(HelperCouple) couple;

    helper_couple_init_kept(state, &couple, NULL);
    helper_couple_activate(state, &couple);
    for (int i = 0; i < 3; i++) {
        helper_child_drop_bus(couple.source);
        find(state, couple.source, "source");
    }
    helper_child_cancel(couple.source, "enough");
    assert_int_equal(helper_child_wait_exit(couple.source), 3);
    assert_string_equal(couple.source->reason, "enough");
    assert_int_equal(helper_child_wait_exit(couple.destination), 3);
}

static gboolean is_closed(gpointer connection)
{
    return g_dbus_connection_is_closed(connection);
}

static void newest_connection_is_the_daemons(void **state)
{
    g_autoptr(HelperChild) child = helper_world_spawn_kept(state, "source");
    g_autoptr(GDBusConnection) first = g_object_ref(child->connection);

    find(state, child, "source");
    wait_until(is_closed, first, "the end of the connection that was replaced");
    /* That was not the daemon's end: a helper in set-up would have ended. */
    helper_configure_psk(child, "source", 1, NULL);
    helper_child_drop_bus(child);
    assert_int_equal(helper_child_wait_exit(child), 3);
}

static void later_daemon_sees_what_was_asked_for(void **state)
{
    g_auto(HelperCouple) couple;

    helper_couple_init_kept(state, &couple, NULL);
    helper_couple_join_main(&couple);
    helper_child_wait_qemu_needed(couple.destination);
    find(state, couple.destination, "destination");
    assert_int_equal(postcopy_migration_get_qemu_wanted(couple.destination->proxy), 1);
    couple.destination_qemu = helper_give_qemu(couple.destination);
    assert_null(helper_child_wait_answer(couple.source, couple.source->calls));
    find(state, couple.destination, "destination");
    assert_int_equal(postcopy_migration_get_qemu_wanted(couple.destination->proxy), 0);
    assert_int_equal(postcopy_migration_get_qemu_connections(couple.source->proxy), 0);
}

static gboolean disk_waits(gpointer child)
{
    return helper_child_unanswered_disks(child) > 0;
}

static void assert_done(HelperChild *child)
{
    const GError *error = helper_child_wait_answer(child, child->calls);

    if (error)
        fail_msg("%s", error->message);
}

static void assert_passes(int from, int to, const char *text)
{
    char buf[64];

    assert_int_equal(send(from, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    assert_int_equal(recv(to, buf, strlen(text), MSG_WAITALL), strlen(text));
    assert_memory_equal(buf, text, strlen(text));
}

/* The source QEMU's end of a disk connection, which waits to be answered. */
static int begin_disk(void **state, HelperChild *source)
{
    g_autofree char *path = helper_world_path(state, "source", ".disks");
    int fd;

    helper_child_listen_disks(source, sockets_unix_listen(path));
    assert_done(source);
    fd = sockets_unix_connect(path);
    unlink(path);
    wait_until(disk_waits, source, "the source's DisksUnanswered");
    return fd;
}

static void later_daemon_answers_for_disks_that_wait(void **state)
{
    g_auto(HelperCouple) couple;
    autofd qemu = -1;
    int tcp[2], server[2];

    helper_couple_init_kept(state, &couple, NULL);
    helper_couple_activate(state, &couple);
    qemu = begin_disk(state, couple.source);
    helper_child_drop_bus(couple.source);
    find(state, couple.source, "source");
    assert_int_equal(helper_child_unanswered_disks(couple.source), 1);

    sockets_tcp_pair(tcp);
    helper_child_accept_peer(couple.destination, tcp[1], "127.0.0.1");
    helper_child_connect_disks(couple.source, tcp[0], "localhost", 1);
    assert_done(couple.source);
    wait_until(disk_waits, couple.destination, "the destination's DisksUnanswered");
    helper_child_drop_bus(couple.destination);
    find(state, couple.destination, "destination");
    assert_int_equal(helper_child_unanswered_disks(couple.destination), 1);
    sockets_unix_pair(server);
    helper_child_attach_disks(couple.destination, server[0], 1);
    assert_done(couple.destination);
    assert_passes(server[1], qemu, "NBDMAGIC");

    /* It goes on without any daemon. */
    helper_child_drop_bus(couple.source);
    helper_child_drop_bus(couple.destination);
    assert_passes(qemu, server[1], "a request");
    find(state, couple.source, "source");
    find(state, couple.destination, "destination");
    assert_int_equal(helper_child_unanswered_disks(couple.source), 0);
    assert_int_equal(helper_child_unanswered_disks(couple.destination), 0);
    assert_passes(server[1], qemu, "a reply");
    helper_child_cancel(couple.source, "enough");
    assert_true(socket_ends_within(qemu, 5000) && socket_ends_within(server[1], 5000));
    assert_int_equal(helper_child_wait_exit(couple.source), 3);
    assert_int_equal(helper_child_wait_exit(couple.destination), 3);
    close(server[1]);
}

static void answers_for_other_disks_are_refused(void **state)
{
    static const guint numbers[] = { 0, 2, 65536 };
    g_auto(HelperCouple) couple;
    autofd qemu = -1;
    int pair[2];

    helper_couple_init_kept(state, &couple, NULL);
    helper_couple_activate(state, &couple);
    qemu = begin_disk(state, couple.source);
    for (gsize i = 0; i < G_N_ELEMENTS(numbers); i++) {
        sockets_unix_pair(pair);
        helper_child_connect_disks(couple.source, pair[0], "localhost", numbers[i]);
        assert_non_null(helper_child_wait_answer(couple.source, couple.source->calls));
        assert_true(socket_ends_within(pair[1], 1000));
        close(pair[1]);
    }
    sockets_unix_pair(pair);
    helper_child_attach_disks(couple.source, pair[0], 1);
    assert_non_null(helper_child_wait_answer(couple.source, couple.source->calls));
    assert_string_equal(couple.source->answer->message, "AttachDisks is for the destination only");
    close(pair[1]);
    assert_int_equal(helper_child_unanswered_disks(couple.source), 1);

    helper_child_refuse_disks(couple.source, 1, "no way");
    assert_done(couple.source);
    assert_true(socket_ends_within(qemu, 5000));
    assert_string_equal(couple.source->state, "active");
    helper_child_cancel(couple.source, "enough");
    assert_int_equal(helper_child_wait_exit(couple.source), 3);
}

/* Each is waited for by itself, and there is a most of them. */
static void clients_that_say_nothing_keep_nobody_out(void **state)
{
    g_autoptr(HelperChild) child = helper_world_spawn_kept(state, "source");
    int silent[12];

    for (gsize i = 0; i < G_N_ELEMENTS(silent); i++)
        silent[i] = connect_to(state, "source");
    find(state, child, "source");
    helper_configure_psk(child, "source", 1, NULL);
    /* The first of them had to make room. */
    while (read(silent[0], (char[64]){ 0 }, 64) > 0)
        ;
    assert_false(socket_ends_within(silent[11], 0));
    for (gsize i = 0; i < G_N_ELEMENTS(silent); i++)
        close(silent[i]);
    assert_string_equal(child->state, "setup");
}

static void bytes_that_are_no_dbus_harm_nobody(void **state)
{
    g_autoptr(HelperChild) child = helper_world_spawn_kept(state, "source");
    autofd other = connect_to(state, "source");

    assert_true(send(other, "\0REJECTED\r\nGET / HTTP/1.1\r\n\r\n", 30, MSG_NOSIGNAL) == 30);
    assert_true(shutdown(other, SHUT_WR) == 0);
    while (read(other, (char[64]){ 0 }, 64) > 0)
        ;
    helper_configure_psk(child, "source", 1, NULL);
    find(state, child, "source");
    assert_string_equal(child->state, "setup");
}

static void other_users_are_sent_away(void **state)
{
    HelperWorld *world = *state;
    g_autoptr(HelperChild) child = NULL;
    g_autofree char *path = helper_world_path(state, "source", ".sock");
    autofd other = -1;
    char byte;

    if (geteuid() != 0)
        skip();
    child = helper_world_spawn_kept(state, "source");
    assert_int_equal(g_chmod(world->dir, 0755), 0);
    assert_int_equal(g_chmod(path, 0666), 0);
    /* The helper's own user: what has taken one helper over does not get another one. */
    assert_int_equal(seteuid((uid_t)strtoul(NOBODY, NULL, 10)), 0);
    other = sockets_unix_connect(path);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(g_chmod(world->dir, 0700), 0);
    /* Not even the byte that begins the authentication. */
    assert_true(read(other, &byte, 1) <= 0);
    find(state, child, "source");
}

/* ---- the outcome ---- */

static GKeyFile *load_outcome(void **state, const char *name)
{
    g_autofree char *path = helper_world_path(state, name, ".outcome");
    g_autofree char *text = NULL;
    GKeyFile *file = g_key_file_new();
    gsize len;

    assert_true(g_file_get_contents(path, &text, &len, NULL));
    assert_int_equal(len, JOB_OUTCOME_LEN);
    assert_true(g_key_file_load_from_data(file, text, len, G_KEY_FILE_NONE, NULL));
    assert_true(g_key_file_get_boolean(file, JOB_OUTCOME_GROUP, JOB_OUTCOME_COMPLETE, NULL));
    return file;
}

/* A value that is NULL: any. */
static void assert_outcome(void **state, const char *name, const char *const values[4])
{
    static const char *const keys[4] = { JOB_OUTCOME_STATE, JOB_OUTCOME_PHASE,
                                         JOB_OUTCOME_ENDED_BY, JOB_OUTCOME_REASON };
    GKeyFile *file = load_outcome(state, name);

    for (gsize i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_autofree char *value =
            g_key_file_get_string(file, JOB_OUTCOME_GROUP, keys[i], NULL);

        assert_non_null(value);
        if (values[i])
            assert_string_equal(value, values[i]);
    }
    g_key_file_unref(file);
}

static void outcome_tells_of_completion(void **state)
{
    g_auto(HelperCouple) couple;
    StreamEnd *ends[2];

    helper_couple_init_kept(state, &couple, NULL);
    assert_outcome(state, "source", (const char *[]){ "setup", "none", "", "" });
    assert_outcome(state, "destination", (const char *[]){ "setup", "none", "", "" });
    helper_couple_activate(state, &couple);
    helper_child_drop_bus(couple.source);
    helper_child_drop_bus(couple.destination);
    helper_couple_start_streams(&couple, MIB, MIB, ends);
    assert_int_equal(helper_child_wait_exit(couple.source), 0);
    assert_int_equal(helper_child_wait_exit(couple.destination), 0);
    assert_streams_good(ends);
    helper_streams_free(ends);
    /* Either QEMU may have ended first. */
    assert_outcome(state, "source", (const char *[]){ "completed", "completed", NULL, "" });
    assert_outcome(state, "destination", (const char *[]){ "completed", "none", NULL, "" });
}

static void outcome_tells_of_cancellation(void **state)
{
    g_auto(HelperCouple) couple;

    helper_couple_init_kept(state, &couple, NULL);
    helper_couple_activate(state, &couple);
    helper_child_cancel(couple.destination, "a\\b");
    assert_int_equal(helper_child_wait_exit(couple.source), 3);
    assert_int_equal(helper_child_wait_exit(couple.destination), 3);
    assert_outcome(state, "source",
                   (const char *[]){ "cancelled", "cancelled", "peer",
                                     "the destination cancelled the migration: a\\b" });
    assert_outcome(state, "destination",
                   (const char *[]){ "cancelled", couple.destination->phase, "cancel", "a\\b" });
}

static void outcome_tells_of_failure(void **state)
{
    g_auto(HelperCouple) couple;

    helper_couple_init_kept(state, &couple, NULL);
    helper_couple_join_main(&couple);
    helper_child_wait_qemu_needed(couple.destination);
    helper_child_refuse_qemu(couple.destination, "cannot connect to QEMU");
    assert_int_equal(helper_child_wait_exit(couple.source), 1);
    assert_int_equal(helper_child_wait_exit(couple.destination), 1);
    assert_outcome(state, "source",
                   (const char *[]){ "failed", "failed", "peer",
                                     "the destination refused: cannot connect to QEMU" });
    assert_outcome(state, "destination",
                   (const char *[]){ "failed", couple.destination->phase, "qemu",
                                     "cannot connect to QEMU" });
}

static void outcome_of_a_killed_helper_is_what_it_said_last(void **state)
{
    g_auto(HelperCouple) couple;

    helper_couple_init_kept(state, &couple, NULL);
    helper_couple_activate(state, &couple);
    assert_true(write(couple.source_qemu, "QEVM\0\0\0\3", 8) == 8);
    helper_child_wait_phase(couple.source, "setup");
    kill(helper_child_pid(couple.source), SIGKILL);
    assert_int_equal(helper_child_wait_exit(couple.source), 128 + SIGKILL);
    assert_outcome(state, "source", (const char *[]){ "active", "setup", "", "" });
}

static void helper_in_setup_ends_with_its_daemon_though_another_may_come(void **state)
{
    g_autoptr(HelperChild) child = helper_world_spawn_kept(state, "source");

    helper_configure_psk(child, "source", 1, NULL);
    helper_child_drop_bus(child);
    assert_int_equal(helper_child_wait_exit(child), 3);
    assert_outcome(state, "source",
                   (const char *[]){ "cancelled", "cancelled", "cancel", "the daemon has gone" });
}

static void outcome_that_cannot_be_written_stops_nothing(void **state)
{
    HelperWorld *world = *state;
    HelperChildKept kept = { -1, memfd_create("outcome", MFD_CLOEXEC | MFD_ALLOW_SEALING) };
    g_auto(HelperCouple) couple;
    StreamEnd *ends[2];

    assert_int_equal(fcntl(kept.outcome_fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    helper_couple_spawn(state, &couple);
    helper_child_free(couple.source);
    couple.source = helper_child_new_kept(world->program, world->options, &kept);
    helper_configure_psk(couple.source, "source", 1, NULL);
    helper_configure_psk(couple.destination, "destination", 1, NULL);
    helper_couple_activate(state, &couple);
    helper_couple_start_streams(&couple, MIB, MIB, ends);
    assert_int_equal(helper_child_wait_exit(couple.source), 0);
    assert_streams_good(ends);
    helper_streams_free(ends);
}

/* ---- descriptors that are no such thing ---- */

/* Runs it with that descriptor as number 4, and what the option says it is. */
static void assert_refused(void **state, const char *option, int fd, const char *message)
{
    HelperWorld *world = *state;
    g_autoptr(GSubprocessLauncher) launcher =
        g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDERR_PIPE);
    g_autoptr(GSubprocess) process = NULL;
    g_autofree char *text = NULL;
    int pair[2];

    sockets_unix_pair(pair);
    g_subprocess_launcher_take_fd(launcher, pair[1], 3);
    g_subprocess_launcher_take_fd(launcher, fd, 4);
    process = g_subprocess_launcher_spawn(launcher, NULL, world->program, "--dbus-fd=3", option,
                                          NULL);
    assert_non_null(process);
    assert_true(g_subprocess_communicate_utf8(process, NULL, NULL, NULL, &text, NULL));
    assert_int_equal(g_subprocess_get_exit_status(process), 1);
    assert_contains(text, message);
    close(pair[0]);
}

static void wrong_descriptors_are_refused_by_name(void **state)
{
    static const char no_listener[] =
        "descriptor 4 (--listen-fd) is no unix stream socket that listens";
    static const char no_file[] =
        "descriptor 4 (--outcome-fd) is no regular file open for writing";
    g_autofree char *path = helper_world_path(state, "file", ".outcome");
    int pair[2], fds[2];

    sockets_unix_pair(pair);
    assert_refused(state, "--listen-fd=4", pair[0], no_listener);
    close(pair[1]);
    sockets_tcp_pair(pair);
    assert_refused(state, "--listen-fd=4", pair[0], no_listener);
    close(pair[1]);
    assert_refused(state, "--listen-fd=4", memfd_create("file", MFD_CLOEXEC), no_listener);

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_refused(state, "--outcome-fd=4", fds[1], no_file);
    close(fds[0]);
    assert_refused(state, "--outcome-fd=4", open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600),
                   no_file);
    assert_refused(state, "--outcome-fd=4", open(path, O_WRONLY | O_APPEND | O_CLOEXEC), no_file);
    assert_refused(state, "--outcome-fd=9", open(path, O_WRONLY | O_CLOEXEC),
                   "descriptor 9 (--outcome-fd): Bad file descriptor");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(later_daemon_finds_an_active_migration),
        cmocka_unit_test(later_daemon_can_end_the_migration),
        cmocka_unit_test(newest_connection_is_the_daemons),
        cmocka_unit_test(later_daemon_sees_what_was_asked_for),
        cmocka_unit_test(later_daemon_answers_for_disks_that_wait),
        cmocka_unit_test(answers_for_other_disks_are_refused),
        cmocka_unit_test(clients_that_say_nothing_keep_nobody_out),
        cmocka_unit_test(bytes_that_are_no_dbus_harm_nobody),
        cmocka_unit_test(other_users_are_sent_away),
        cmocka_unit_test(outcome_tells_of_completion),
        cmocka_unit_test(outcome_tells_of_cancellation),
        cmocka_unit_test(outcome_tells_of_failure),
        cmocka_unit_test(outcome_of_a_killed_helper_is_what_it_said_last),
        cmocka_unit_test(helper_in_setup_ends_with_its_daemon_though_another_may_come),
        cmocka_unit_test(outcome_that_cannot_be_written_stops_nothing),
        cmocka_unit_test(wrong_descriptors_are_refused_by_name),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, helper_world_setup, helper_world_teardown);
}
