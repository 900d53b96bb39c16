/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/helper-world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/psk.h"
#include "util/autofd.h"

#define SESSION 0xab

int helper_world_setup(void **state)
{
    const PkiSpec ca = { .common_name = "Test CA", .ca = TRUE };
    HelperWorld *world = g_new0(HelperWorld, 1);
    const char *program = g_getenv("VIRT_POSTCOPY_HELPER");

    world->program = program ? program : HELPER_PROGRAM;
    world->options[0] = "--log-level=4";
    if (geteuid() == 0)
        world->options[1] = "--user=" NOBODY ":" NOBODY;
    world->dir = pki_dir_new();
    world->ca = pki_identity_new(&ca);
    *state = world;
    return 0;
}

int helper_world_teardown(void **state)
{
    HelperWorld *world = *state;

    pki_identity_free(world->ca);
    pki_dir_remove(world->dir);
    g_free(world);
    return 0;
}

HelperChild *helper_world_spawn(void **state)
{
    HelperWorld *world = *state;

    return helper_child_new(world->program, world->options);
}

char *helper_world_path(void **state, const char *name, const char *suffix)
{
    HelperWorld *world = *state;
    g_autofree char *base = g_strconcat(name, suffix, NULL);

    return g_build_filename(world->dir, base, NULL);
}

HelperChild *helper_world_spawn_kept(void **state, const char *name)
{
    HelperWorld *world = *state;
    g_autofree char *socket_path = helper_world_path(state, name, ".sock");
    g_autofree char *outcome_path = helper_world_path(state, name, ".outcome");
    HelperChildKept kept = { .listen_fd = sockets_unix_listen(socket_path) };

    kept.outcome_fd = open(outcome_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(kept.outcome_fd >= 0);
    return helper_child_new_kept(world->program, world->options, &kept);
}

/* ---- steps ---- */

static void add_options(GVariantBuilder *builder, const char *extra)
{
    g_autoptr(GVariant) dict =
        g_variant_ref_sink(g_variant_new_parsed(extra ? extra : "@a{sv} {}"));
    GVariantIter iter;
    const char *name;
    GVariant *value;

    g_variant_iter_init(&iter, dict);
    while (g_variant_iter_next(&iter, "{&sv}", &name, &value)) {
        g_variant_builder_add(builder, "{sv}", name, value);
        g_variant_unref(value);
    }
}

void helper_configure_psk(HelperChild *child, const char *side, guint8 token, const char *extra)
{
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    GVariantBuilder options;

    psk_files(1, &files);
    helper_options_init(&options, SESSION, token);
    g_variant_builder_add(&options, "{sv}", "auth", g_variant_new_string("psk"));
    add_options(&options, extra);
    helper_child_configure(child, side, g_variant_builder_end(&options), &files);
    assert_null(helper_child_wait_answer(child, child->answers + 1));
    assert_string_equal(child->state, "setup");
}

void helper_join(HelperChild *source, HelperChild *destination, const char *host)
{
    int tcp[2];

    sockets_tcp_pair(tcp);
    helper_child_accept_peer(destination, tcp[1], "127.0.0.1");
    helper_child_connect_peer(source, tcp[0], host);
}

int helper_give_qemu(HelperChild *destination)
{
    int pair[2];

    sockets_unix_pair(pair);
    helper_child_wait_qemu_needed(destination);
    helper_child_attach_qemu(destination, pair[0]);
    return pair[1];
}

int helper_connect_qemu(void **state, HelperChild *source)
{
    g_autofree char *path = helper_world_path(state, "qemu", ".sock");
    int fd;

    helper_child_listen_qemu(source, sockets_unix_listen(path));
    fd = sockets_unix_connect(path);
    g_unlink(path);
    return fd;
}

/* ---- two of them ---- */

static const HelperCouple unjoined = {
    .source_qemu = -1,
    .destination_qemu = -1,
    .wires = { -1, -1 },
};

void helper_couple_spawn(void **state, HelperCouple *couple)
{
    *couple = unjoined;
    couple->source = helper_world_spawn(state);
    couple->destination = helper_world_spawn(state);
}

void helper_couple_init(void **state, HelperCouple *couple)
{
    helper_couple_spawn(state, couple);
    helper_configure_psk(couple->source, "source", 1, NULL);
    helper_configure_psk(couple->destination, "destination", 1, NULL);
}

void helper_couple_init_kept(void **state, HelperCouple *couple, const char *extra)
{
    *couple = unjoined;
    couple->source = helper_world_spawn_kept(state, "source");
    couple->destination = helper_world_spawn_kept(state, "destination");
    helper_configure_psk(couple->source, "source", 1, extra);
    helper_configure_psk(couple->destination, "destination", 1, extra);
}

void helper_couple_clear(HelperCouple *couple)
{
    helper_child_free(couple->source);
    helper_child_free(couple->destination);
    autofd_clear(&couple->source_qemu);
    autofd_clear(&couple->destination_qemu);
    helper_couple_forget_wires(couple);
}

void helper_couple_forget_wires(HelperCouple *couple)
{
    for (gsize i = 0; i < G_N_ELEMENTS(couple->wires); i++)
        autofd_clear(&couple->wires[i]);
}

/* A new connection: the destination has its end, the source's is returned. */
static int new_wire(HelperCouple *couple, ChannelKind kind)
{
    int tcp[2];

    sockets_tcp_pair(tcp);
    autofd_clear(&couple->wires[kind]);
    if (couple->keeps_wires)
        couple->wires[kind] = fcntl(tcp[0], F_DUPFD_CLOEXEC, 3);
    helper_child_accept_peer(couple->destination, tcp[1], "127.0.0.1");
    return tcp[0];
}

void helper_couple_join_main(HelperCouple *couple)
{
    helper_child_connect_peer(couple->source, new_wire(couple, CHANNEL_MAIN), "localhost");
}

static gboolean has_both_channels(gpointer data)
{
    return helper_child_channels(data) == 2;
}

/* Both helpers are this version: they have a preempt channel. */
void helper_couple_join_preempt(HelperCouple *couple)
{
    assert_true(helper_child_wants_channel(couple->source, "preempt"));
    helper_child_connect_channel(couple->source, new_wire(couple, CHANNEL_PREEMPT), "localhost",
                                 "preempt");
    assert_null(helper_child_wait_answer(couple->source, couple->source->calls));
    wait_until(has_both_channels, couple->destination, "the destination's second channel");
}

void helper_couple_activate(void **state, HelperCouple *couple)
{
    helper_couple_join_main(couple);
    couple->destination_qemu = helper_give_qemu(couple->destination);
    assert_null(helper_child_wait_answer(couple->source, couple->source->calls));
    helper_couple_join_preempt(couple);
    couple->source_qemu = helper_connect_qemu(state, couple->source);
    helper_child_wait_qemu_connected(couple->source);
    helper_child_wait_state(couple->source, "active");
    helper_child_wait_state(couple->destination, "active");
}

void helper_couple_cut(HelperCouple *couple, ChannelKind kind)
{
    assert_int_equal(shutdown(couple->wires[kind], SHUT_RDWR), 0);
}

void helper_couple_rejoin(HelperCouple *couple, ChannelKind kind)
{
    helper_child_reconnect(couple->source, new_wire(couple, kind), "localhost",
                           channel_kind_name(kind));
}

/* ---- what the QEMUs say ---- */

void helper_couple_start_streams(HelperCouple *couple, guint64 forth, guint64 back,
                                 StreamEnd *ret_ends[2])
{
    ret_ends[0] = stream_end_start(autofd_steal(&couple->source_qemu), 1, forth, 2);
    ret_ends[1] = stream_end_start(autofd_steal(&couple->destination_qemu), 2, back, 1);
}

void assert_streams_good(StreamEnd *ends[2])
{
    stream_end_wait(ends[0]);
    stream_end_wait(ends[1]);
    assert_true(stream_end_is_good(ends[0], ends[1]->len));
    assert_true(stream_end_is_good(ends[1], ends[0]->len));
}

void helper_streams_free(StreamEnd *ends[2])
{
    stream_end_free(ends[0]);
    stream_end_free(ends[1]);
}

void assert_contains(const char *text, const char *part)
{
    if (!text || !strstr(text, part))
        fail_msg("\"%s\" does not contain \"%s\"", text ? text : "(null)", part);
}
