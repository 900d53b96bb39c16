/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two virt-postcopy-helpers, started and spoken to as their daemons do, joined over loopback
 * TCP, with the test in the place of the QEMUs. For cmocka tests: what goes wrong here fails
 * the test. */
#pragma once

#include "tests/support/helper-process.h"
#include "tests/support/pki-gen.h"
#include "tests/support/sockets.h"
#include "tls/hello.h"

#define MIB (1024 * 1024)
/* Whom the helpers run as if the test is root. */
#define NOBODY "65534"

/* What a program's helpers are given. The cmocka state. */
typedef struct {
    const char *program;
    const char *options[3];
    char *dir; /* of PEM files, sockets and outcomes */
    PkiIdentity *ca;
} HelperWorld;

int helper_world_setup(void **state);
int helper_world_teardown(void **state);

HelperChild *helper_world_spawn(void **state);
/* One that another daemon can find, at helper_world_path(name, ".sock"), and that writes its
 * outcome to helper_world_path(name, ".outcome"). */
HelperChild *helper_world_spawn_kept(void **state, const char *name);
char *helper_world_path(void **state, const char *name, const char *suffix);

/* With a shared key; extra: more options as a{sv} in GVariant's text format, or NULL. */
void helper_configure_psk(HelperChild *child, const char *side, guint8 token, const char *extra);
/* Both calls for a new main channel; ConnectPeer is the last call of the source. */
void helper_join(HelperChild *source, HelperChild *destination, const char *host);
/* Answers QemuNeeded; returns the test's end. */
int helper_give_qemu(HelperChild *destination);
/* ListenQemu, and a connection to it. */
int helper_connect_qemu(void **state, HelperChild *source);

typedef struct {
    HelperChild *source;
    HelperChild *destination;
    int source_qemu; /* the test's ends */
    int destination_qemu;
    gboolean keeps_wires; /* set before they are joined: to be able to cut */
    int wires[CHANNEL_BULK]; /* by ChannelKind: a copy of the source's TCP socket, or -1 */
} HelperCouple;

void helper_couple_spawn(void **state, HelperCouple *couple);
/* And configured with a shared key. kept: as helper_world_spawn_kept(), "source" and
 * "destination". */
void helper_couple_init(void **state, HelperCouple *couple);
void helper_couple_init_kept(void **state, HelperCouple *couple, const char *extra);
void helper_couple_clear(HelperCouple *couple);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HelperCouple, helper_couple_clear)

void helper_couple_join_main(HelperCouple *couple);
void helper_couple_join_preempt(HelperCouple *couple);
/* From setup to active, both channels up and both QEMUs connected. */
void helper_couple_activate(void **state, HelperCouple *couple);
/* Ends the TCP connection of that channel, in both directions, as far as it was kept. */
void helper_couple_cut(HelperCouple *couple, ChannelKind kind);
/* Its copies keep the connection of a helper that is killed. */
void helper_couple_forget_wires(HelperCouple *couple);
/* AcceptPeer and ReconnectChannel with a new one. */
void helper_couple_rejoin(HelperCouple *couple, ChannelKind kind);

/* The QEMUs send so many bytes each and then end. */
void helper_couple_start_streams(HelperCouple *couple, guint64 forth, guint64 back,
                                 StreamEnd *ret_ends[2]);
void assert_streams_good(StreamEnd *ends[2]);
void helper_streams_free(StreamEnd *ends[2]);

void assert_contains(const char *text, const char *part);
