/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virt-postcopy-helper as a program: two of them, started and spoken to as the daemon does,
 * joined over loopback TCP, with threads that stand in for the QEMUs. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ram/job_error.h"
#include "tests/support/helper-world.h"
#include "tests/support/pki-gen.h"
#include "tests/support/psk.h"
#include "tests/support/sockets.h"

/* ---- X.509 ---- */

static void open_pem(HelperWorld *world, TlsFiles *files, TlsFileKind kind, const char *host,
                     const char *pem)
{
    g_autofree char *name = g_strdup_printf("%s-%s.pem", host, tls_file_kind_name(kind));
    g_autofree char *path = pki_dir_write(world->dir, name, pem, -1);

    assert_true(tls_files_open(files, kind, path, FALSE, NULL));
}

/* A certificate for that host by issuer; cas: PEM text of who is trusted. */
static void configure_x509_by(HelperWorld *world, HelperChild *child, const char *side,
                              const PkiIdentity *issuer, const char *cas, const char *host)
{
    gboolean server = g_str_equal(side, "destination");
    const PkiSpec spec = { .common_name = host,
                           .issuer = issuer,
                           .dns = { host },
                           .purposes = { server ? GNUTLS_KP_TLS_WWW_SERVER
                                                : GNUTLS_KP_TLS_WWW_CLIENT } };
    g_autoptr(PkiIdentity) own = pki_identity_new(&spec);
    g_autofree char *cert = pki_cert_pem(own);
    g_autofree char *key = pki_key_pem(own);
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    GVariantBuilder options;

    open_pem(world, &files, TLS_FILE_CA_CERT, host, cas);
    open_pem(world, &files, TLS_FILE_CERT, host, cert);
    open_pem(world, &files, TLS_FILE_KEY, host, key);
    helper_options_init(&options, 0xab, 1);
    helper_child_configure(child, side, g_variant_builder_end(&options), &files);
    assert_null(helper_child_wait_answer(child, child->answers + 1));
}

static void configure_x509(void **state, HelperChild *child, const char *side, const char *host)
{
    HelperWorld *world = *state;
    g_autofree char *ca = pki_cert_pem(world->ca);

    configure_x509_by(world, child, side, world->ca, ca, host);
}

/* ---- the ordinary way ---- */

static void hundred_mebibytes_pass_unchanged_over_x509(void **state)
{
    g_auto(HelperCouple) pair;
    StreamEnd *ends[2];

    helper_couple_spawn(state, &pair);
    configure_x509(state, pair.source, "source", "hostA");
    configure_x509(state, pair.destination, "destination", "localhost");
    helper_couple_activate(state, &pair);
    assert_string_equal(postcopy_migration_get_tls_version(pair.source->proxy), "TLS1.3");
    assert_non_null(strstr(postcopy_migration_get_tls_cipher(pair.source->proxy), "GCM"));
    assert_string_equal(postcopy_migration_get_peer_name(pair.source->proxy), "CN=localhost");
    assert_string_equal(postcopy_migration_get_peer_name(pair.destination->proxy), "CN=hostA");
    assert_false(postcopy_migration_get_return_path_opened(pair.source->proxy));

    helper_couple_start_streams(&pair, 128 * MIB + 3, 16 * MIB, ends);
    assert_int_equal(helper_child_wait_exit(pair.source), 0);
    assert_int_equal(helper_child_wait_exit(pair.destination), 0);
    assert_streams_good(ends);
    assert_string_equal(pair.source->history->str, "setup active completed");
    assert_string_equal(pair.destination->history->str, "setup active completed");
    assert_string_equal(postcopy_migration_get_state(pair.source->proxy), "completed");
    assert_string_equal(postcopy_migration_get_last_error(pair.source->proxy), "");
    assert_true(postcopy_migration_get_return_path_opened(pair.source->proxy));
    assert_true(helper_child_counter(pair.source, "stream-bytes") == ends[0]->len);
    assert_true(helper_child_counter(pair.destination, "stream-bytes") == ends[0]->len);
    assert_true(helper_child_counter(pair.source, "return-path-bytes") == ends[1]->len);
    assert_true(helper_child_counter(pair.source, "wire-bytes-sent") > ends[0]->len);
    assert_true(helper_child_counter(pair.destination, "wire-bytes-received") > ends[0]->len);
    assert_true(helper_child_counter(pair.source, "frames-sent") >= 128 * 16);
    assert_true(helper_child_counter(pair.source, "window-high-water") <= 4 * MIB);
    assert_true(helper_child_counter(pair.source, "elapsed-us") > 0);
    helper_streams_free(ends);
}

static char *channels_text(HelperChild *child)
{
    return g_variant_print(postcopy_migration_get_channels(child->proxy), FALSE);
}

static void assert_features(HelperChild *child, const char *expected)
{
    const char *const *names = postcopy_migration_get_features(child->proxy);
    g_autofree char *text = g_strjoinv(",", (char **)names);

    assert_string_equal(text, expected);
}

static void both_sides_tell_of_both_channels(void **state)
{
    g_auto(HelperCouple) pair;
    g_autofree char *before = NULL, *source = NULL, *destination = NULL;

    helper_couple_init(state, &pair);
    assert_features(pair.source, "");
    assert_features(pair.destination, "");
    before = channels_text(pair.source);
    assert_string_equal(before, "[]");
    assert_false(helper_child_wants_channel(pair.source, "preempt"));
    assert_string_equal(postcopy_migration_get_phase(pair.source->proxy), "none");
    helper_couple_activate(state, &pair);
    source = channels_text(pair.source);
    destination = channels_text(pair.destination);
    assert_contains(source, "[('main', 'TLS1.3', '");
    assert_contains(source, "('preempt', 'TLS1.3', '");
    assert_string_equal(destination, source);
    assert_true(helper_child_counter(pair.source, "wire-preempt-bytes-sent") > 0);
    assert_features(pair.source, "ram,zstd,resume,disks,runs");
    assert_features(pair.destination, "ram,zstd,resume,disks,runs");
}

/* Not more than either side has. What is asked for by name counts whatever the host's settings say. */
static void effective_features_are_known_when_the_peer_has_answered(void **state)
{
    static const struct {
        const char *source; /* more options */
        const char *destination;
        const char *features;
    } rows[] = {
        { "{'compression': <'auto'>}", "{'compression': <'off'>}", "ram,resume,disks,runs" },
        { "{'compression': <'off'>}", "{'compression': <'auto'>}", "ram,resume,disks,runs" },
        { "{'compression-methods': <['zlib']>}", NULL, "ram,resume,zlib,disks,runs" },
        { "{'compression-methods': <['zlib', 'zstd'] >}", NULL, "ram,zstd,resume,zlib,disks,runs" },
        { "{'compression-methods': <['zlib', 'zstd']>}", "{'compression-methods': <['zlib']>}",
          "ram,resume,zlib,disks,runs" },
        { "{'compression-methods': <['zlib']>, 'compression': <'off'>}",
          "{'compression-methods': <['zlib']>, 'compression': <'off'>}", "ram,resume,zlib,disks,runs" },
        { "{'compression-methods': <['zlib']>}", "{'compression': <'off'>}", "ram,resume,disks,runs" },
        { "{'bulk': <uint32 2>}", NULL, "ram,zstd,resume,disks,runs,bulk" },
        { NULL, "{'bulk': <uint32 2>}", "ram,zstd,resume,disks,runs" },
        { "{'compression-methods': <@as []>}", "{'compression-methods': <@as []>}",
          "ram,zstd,resume,disks,runs" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(HelperCouple) pair;

        helper_couple_spawn(state, &pair);
        helper_configure_psk(pair.source, "source", 1, rows[i].source);
        helper_configure_psk(pair.destination, "destination", 1, rows[i].destination);
        assert_features(pair.source, "");
        helper_couple_join_main(&pair);
        pair.destination_qemu = helper_give_qemu(pair.destination);
        assert_features(pair.destination, rows[i].features);
        assert_null(helper_child_wait_answer(pair.source, pair.source->calls));
        assert_features(pair.source, rows[i].features);
    }
}

/* A preempt channel to a peer that hangs up at once. */
static void connect_preempt_in_vain(HelperCouple *pair)
{
    int tcp[2];

    helper_couple_join_main(pair);
    pair->destination_qemu = helper_give_qemu(pair->destination);
    assert_null(helper_child_wait_answer(pair->source, pair->source->calls));
    sockets_tcp_pair(tcp);
    close(tcp[1]);
    helper_child_connect_channel(pair->source, tcp[0], "localhost", "preempt");
    helper_child_wait_lost(pair->source, 1);
    assert_contains(pair->source->lost->pdata[0], "preempt: ");
}

static void preempt_channel_that_breaks_as_it_is_opened_is_dialled_again(void **state)
{
    g_auto(HelperCouple) pair;

    helper_couple_init(state, &pair);
    connect_preempt_in_vain(&pair);
    assert_int_equal(pair.source->answers, pair.source->calls - 1);
    helper_couple_rejoin(&pair, CHANNEL_PREEMPT);
    assert_null(helper_child_wait_answer(pair.source, pair.source->calls));
    pair.source_qemu = helper_connect_qemu(state, pair.source);
    helper_child_wait_state(pair.source, "active");
}

/* What comes of the migration then is the daemon's to say. */
static void preempt_channel_that_cannot_be_opened_is_an_error_of_the_call_alone(void **state)
{
    g_auto(HelperCouple) pair;
    const GError *error;

    helper_couple_spawn(state, &pair);
    helper_configure_psk(pair.source, "source", 1, "{'reconnect-timeout': <uint32 1>}");
    helper_configure_psk(pair.destination, "destination", 1, NULL);
    connect_preempt_in_vain(&pair);
    error = helper_child_wait_answer(pair.source, pair.source->calls);
    assert_contains(error ? error->message : NULL, "it did not come back within 1 second");
    assert_string_equal(pair.source->state, "setup");
    helper_child_cancel(pair.source, "no preempt channel");
    assert_int_equal(helper_child_wait_exit(pair.source), 3);
    assert_int_equal(helper_child_wait_exit(pair.destination), 3);
    assert_contains(pair.destination->reason, "no preempt channel");
}

/* The value of one line of /proc/PID/task/TID/status. */
static char *status_line(int pid, const char *tid, const char *key)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task/%s/status", pid, tid);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (g_str_has_prefix(*line, key) && (*line)[strlen(key)] == ':')
            return g_strstrip(g_strdup(*line + strlen(key) + 1));
    }
    return NULL;
}

static void every_thread_is_confined(void **state)
{
    g_auto(HelperCouple) pair;
    g_autofree char *path = NULL;
    g_autoptr(GDir) dir = NULL;
    const char *tid;
    guint threads = 0;
    int pid;

    helper_couple_init(state, &pair);
    helper_couple_activate(state, &pair);
    pid = helper_child_pid(pair.source);
    path = g_strdup_printf("/proc/%d/task", pid);
    dir = g_dir_open(path, 0, NULL);
    while ((tid = g_dir_read_name(dir))) {
        g_autofree char *seccomp = status_line(pid, tid, "Seccomp");
        g_autofree char *nnp = status_line(pid, tid, "NoNewPrivs");
        g_autofree char *uid = status_line(pid, tid, "Uid");
        g_autofree char *gid = status_line(pid, tid, "Gid");
        g_autofree char *groups = status_line(pid, tid, "Groups");
        g_autofree char *caps = status_line(pid, tid, "CapEff");

        assert_string_equal(seccomp, "2");
        assert_string_equal(nnp, "1");
        if (geteuid() == 0) {
            assert_string_equal(uid, NOBODY "\t" NOBODY "\t" NOBODY "\t" NOBODY);
            assert_string_equal(gid, NOBODY "\t" NOBODY "\t" NOBODY "\t" NOBODY);
            assert_string_equal(groups, "");
        }
        assert_string_equal(caps, "0000000000000000");
        threads++;
    }
    assert_true(threads >= 3);
}

/* ---- refusals ---- */

static void wrong_host_name_is_refused_by_the_source(void **state)
{
    g_auto(HelperCouple) pair;
    const GError *error;

    helper_couple_spawn(state, &pair);
    configure_x509(state, pair.source, "source", "hostA");
    configure_x509(state, pair.destination, "destination", "hostB");
    helper_join(pair.source, pair.destination, "hostC");
    error = helper_child_wait_answer(pair.source, 2);
    assert_true(g_error_matches(error, JOB_ERROR, JOB_ERROR_TLS));
    assert_contains(error->message, "hostC");
    assert_int_equal(helper_child_wait_exit(pair.source), 1);
    assert_string_equal(pair.source->history->str, "setup failed");
    helper_child_wait_refused(pair.destination, 1);
    assert_string_equal(pair.destination->state, "setup");
}

static void client_of_an_unknown_ca_is_refused_by_the_destination(void **state)
{
    HelperWorld *world = *state;
    const PkiSpec spec = { .common_name = "Other CA", .ca = TRUE };
    g_autoptr(PkiIdentity) other = pki_identity_new(&spec);
    g_autofree char *known = pki_cert_pem(world->ca);
    g_autofree char *unknown = pki_cert_pem(other);
    g_autofree char *both = g_strconcat(known, unknown, NULL);
    g_auto(HelperCouple) pair;
    const GError *error;

    helper_couple_spawn(state, &pair);
    /* The source trusts both, or it would refuse the destination first. */
    configure_x509_by(world, pair.source, "source", other, both, "hostX");
    configure_x509(state, pair.destination, "destination", "localhost");
    helper_join(pair.source, pair.destination, "localhost");
    helper_child_wait_refused(pair.destination, 1);
    assert_contains(pair.destination->refused->pdata[0], "127.0.0.1: ");
    error = helper_child_wait_answer(pair.source, 2);
    assert_true(g_error_matches(error, JOB_ERROR, JOB_ERROR_TLS));
    assert_contains(error->message, "refused our certificate");
    assert_int_equal(helper_child_wait_exit(pair.source), 1);
    assert_int_equal(pair.destination->qemu_needed, 0);
    assert_string_equal(pair.destination->state, "setup");
}

static void wrong_and_reused_tokens_are_refused_with_a_reason(void **state)
{
    g_auto(HelperCouple) pair;
    g_autoptr(HelperChild) wrong = helper_world_spawn(state);
    g_autoptr(HelperChild) again = helper_world_spawn(state);
    const GError *error;

    helper_couple_init(state, &pair);
    helper_configure_psk(wrong, "source", 2, NULL);
    helper_configure_psk(again, "source", 1, NULL);

    helper_join(wrong, pair.destination, "localhost");
    error = helper_child_wait_answer(wrong, 2);
    assert_true(g_error_matches(error, JOB_ERROR, JOB_ERROR_REFUSED));
    assert_string_equal(wrong->answer_name, "org.libvirt.Postcopy1.Error.Refused");
    assert_string_equal(error->message, "the destination refused: wrong token");
    assert_int_equal(helper_child_wait_exit(wrong), 1);

    helper_couple_activate(state, &pair);
    helper_join(again, pair.destination, "localhost");
    error = helper_child_wait_answer(again, 2);
    assert_string_equal(error->message, "the destination refused: token already used");
    assert_int_equal(helper_child_wait_exit(again), 1);
    helper_child_wait_refused(pair.destination, 2);
    assert_string_equal(pair.destination->refused->pdata[1], "127.0.0.1: token already used");
    assert_string_equal(pair.destination->state, "active");
}

static void missing_qemu_is_told_to_the_source(void **state)
{
    g_auto(HelperCouple) pair;
    const GError *error;

    helper_couple_init(state, &pair);
    helper_join(pair.source, pair.destination, "localhost");
    helper_child_wait_qemu_needed(pair.destination);
    helper_child_refuse_qemu(pair.destination, "cannot connect to QEMU");
    error = helper_child_wait_answer(pair.source, 2);
    assert_string_equal(error->message, "the destination refused: cannot connect to QEMU");
    assert_int_equal(helper_child_wait_exit(pair.source), 1);
    assert_int_equal(helper_child_wait_exit(pair.destination), 1);
    assert_string_equal(pair.destination->reason, "cannot connect to QEMU");
}

/* ---- arguments ---- */

static const struct {
    const char *side;
    const char *key; /* put in addition, or instead */
    const char *value; /* GVariant text */
    gboolean bare;   /* without the good options */
    JobError code;
    const char *names;
} bad_arguments[] = {
    { "middle", NULL, NULL, FALSE, JOB_ERROR_INVALID_ARGUMENT, "side is \"middle\"" },
    { "source", NULL, NULL, TRUE, JOB_ERROR_INVALID_ARGUMENT, "option \"session\" is missing" },
    { "source", "session", "b'short'", TRUE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"session\" has 6 bytes, must have 16" },
    { "source", "token", "'text'", TRUE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"token\" has type \"s\", must have \"ay\"" },
    { "source", "window", "uint64 1", TRUE, JOB_ERROR_INVALID_ARGUMENT, "option \"window\" is 1" },
    { "source", "window", "uint64 9999999999", TRUE, JOB_ERROR_INVALID_ARGUMENT, "\"window\"" },
    { "source", "window", "uint32 1000000", TRUE, JOB_ERROR_INVALID_ARGUMENT, "\"window\"" },
    { "source", "windows", "uint64 1000000", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "unknown option \"windows\"" },
    { "source", "domain", "'twice'", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"domain\" is given twice" },
    { "source", "auth", "'kerberos'", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"auth\" is \"kerberos\"" },
    { "source", "stage", "uint64 16777215", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"stage\" is 16777215, must be from 16777216 to 1099511627776" },
    { "source", "stage", "uint64 1099511627777", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"stage\" is 1099511627777" },
    { "source", "stage", "268435456", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"stage\" has type \"i\", must have \"t\"" },
    { "destination", "compression", "'maybe'", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"compression\" is \"maybe\", must be \"auto\", \"on\" or \"off\"" },
    { "source", "compression", "true", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"compression\" has type \"b\"" },
    { "source", "compression-level", "-1", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"compression-level\" is -1, must be from 0 to 22" },
    { "source", "compression-level", "23", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"compression-level\" is 23" },
    { "source", "compression-level", "uint32 3", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"compression-level\" has type \"u\", must have \"i\"" },
    { "source", "compression-zlib-level", "-2", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"compression-zlib-level\" is -2, must be from -1 to 9" },
    { "source", "compression-zlib-level", "10", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"compression-zlib-level\" is 10" },
    { "source", "compression-threads", "uint32 0", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"compression-threads\" is 0, must be from 1 to 16" },
    { "source", "compression-threads", "uint32 17", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"compression-threads\" is 17" },
    { "source", "compression-methods", "['zstd', 'xbzrle']", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"compression-methods\" has \"xbzrle\", may have \"zstd\" and \"zlib\"" },
    { "destination", "compression-methods", "['none']", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"compression-methods\" has \"none\"" },
    { "source", "compression-methods", "'zstd'", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"compression-methods\" has type \"s\", must have \"as\"" },
    { "source", "reconnect-timeout", "uint32 604801", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"reconnect-timeout\" is 604801, must be from 0 to 604800" },
    { "source", "reconnect-timeout", "60", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"reconnect-timeout\" has type \"i\", must have \"u\"" },
    { "source", "heartbeat-interval", "uint32 0", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"heartbeat-interval\" is 0, must be from 1 to 32767" },
    { "destination", "heartbeat-interval", "uint32 32768", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"heartbeat-interval\" is 32768" },
    { "source", "heartbeat-count", "uint32 0", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"heartbeat-count\" is 0, must be from 1 to 127" },
    { "destination", "heartbeat-count", "uint32 128", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"heartbeat-count\" is 128" },
    { "source", "heartbeat-count", "uint64 4", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"heartbeat-count\" has type \"t\", must have \"u\"" },
    { "source", "rekey-records", "uint32 16777217", FALSE, JOB_ERROR_INVALID_ARGUMENT,
      "option \"rekey-records\" is 16777217, must be from 0 to 16777216" },
    { "source", "auth", "'x509'", FALSE, JOB_ERROR_TLS, "" },
    { "destination", "auth", "'x509'", FALSE, JOB_ERROR_TLS, "" },
};

static void bad_configuration_is_named_and_can_be_repeated(void **state)
{
    g_autoptr(HelperChild) child = helper_world_spawn(state);

    for (gsize i = 0; i < G_N_ELEMENTS(bad_arguments); i++) {
        g_auto(TlsFiles) files = TLS_FILES_INIT;
        GVariantBuilder options;
        const GError *error;

        psk_files(1, &files);
        if (bad_arguments[i].bare)
            g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
        else
            helper_options_init(&options, 0xab, 1);
        if (bad_arguments[i].key)
            g_variant_builder_add(&options, "{sv}", bad_arguments[i].key,
                                  g_variant_new_parsed(bad_arguments[i].value));
        helper_child_configure(child, bad_arguments[i].side, g_variant_builder_end(&options),
                               &files);
        error = helper_child_wait_answer(child, child->answers + 1);
        assert_non_null(error);
        assert_true(g_error_matches(error, JOB_ERROR, bad_arguments[i].code));
        assert_contains(error->message, bad_arguments[i].names);
        assert_string_equal(child->state, "none");
    }
    helper_configure_psk(child, "source", 1, NULL);
}

static void calls_out_of_order_are_refused(void **state)
{
    g_autoptr(HelperChild) child = helper_world_spawn(state);
    int pair[2];
    int file;

    sockets_unix_pair(pair);
    helper_child_connect_peer(child, pair[0], "localhost");
    helper_child_wait_answer(child, 1);
    assert_true(g_error_matches(child->answer, JOB_ERROR, JOB_ERROR_WRONG_STATE));
    assert_string_equal(child->answer->message, "Configure must come first");
    close(pair[1]);

    helper_configure_psk(child, "source", 1, NULL);
    sockets_unix_pair(pair);
    helper_child_attach_qemu(child, pair[0]);
    helper_child_wait_answer(child, 3);
    assert_string_equal(child->answer->message, "AttachQemu is for the destination only");
    close(pair[1]);

    sockets_unix_pair(pair);
    helper_child_connect_channel(child, pair[0], "localhost", "spare");
    helper_child_wait_answer(child, 4);
    assert_true(g_error_matches(child->answer, JOB_ERROR, JOB_ERROR_INVALID_ARGUMENT));
    assert_string_equal(child->answer->message, "there is no channel \"spare\" to be connected so");
    close(pair[1]);

    sockets_unix_pair(pair);
    helper_child_connect_channel(child, pair[0], "localhost", "preempt");
    helper_child_wait_answer(child, 5);
    assert_true(g_error_matches(child->answer, JOB_ERROR, JOB_ERROR_WRONG_STATE));
    close(pair[1]);

    sockets_unix_pair(pair);
    helper_child_reconnect(child, pair[0], "localhost", "spare");
    helper_child_wait_answer(child, 6);
    assert_true(g_error_matches(child->answer, JOB_ERROR, JOB_ERROR_INVALID_ARGUMENT));
    assert_string_equal(child->answer->message,
                        "there is no channel \"spare\" to be connected so");
    close(pair[1]);

    file = memfd_create("not-a-socket", 0);
    helper_child_connect_peer(child, file, "localhost");
    helper_child_wait_answer(child, 7);
    assert_true(g_error_matches(child->answer, JOB_ERROR, JOB_ERROR_INVALID_ARGUMENT));
    assert_string_equal(child->answer->message, "the descriptor is no stream socket");
    assert_string_equal(child->state, "setup");
}

static void bad_command_line_is_a_usage_error(void **state)
{
    HelperWorld *world = *state;
    static const char *const rows[][3] = {
        { NULL },
        { "--dbus-fd=x" },
        { "--dbus-fd=3", "--user=root" },
        { "--dbus-fd=3", "--user=0:0" },
        { "--dbus-fd=3", "--user=1:4294967295" },
        { "--dbus-fd=3", "--log-level=9" },
        { "--dbus-fd=3", "--listen-fd=x" },
        { "--dbus-fd=3", "--outcome-fd=x" },
        { "--dbus-fd=3", "extra" },
        { "--unknown" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        const char *argv[] = { world->program, rows[i][0], rows[i][1], NULL };
        g_autofree char *text = NULL;
        int status = 0;

        assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL,
                                 &text, &status, NULL));
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 2);
        assert_contains(text, "virt-postcopy-helper: ");
    }
}

/* ---- what goes away ---- */

static void helper_killed_in_setup_is_noticed_by_its_peer(void **state)
{
    g_auto(HelperCouple) pair;

    helper_couple_spawn(state, &pair);
    helper_configure_psk(pair.source, "source", 1, NULL);
    helper_configure_psk(pair.destination, "destination", 1, "{'reconnect-timeout': <uint32 1>}");
    helper_join(pair.source, pair.destination, "localhost");
    helper_child_wait_qemu_needed(pair.destination);
    kill(helper_child_pid(pair.source), SIGKILL);
    assert_int_equal(helper_child_wait_exit(pair.destination), 1);
    assert_string_equal(pair.destination->history->str, "setup failed");
}

static void active_stream_outlives_the_daemon(void **state)
{
    g_auto(HelperCouple) pair;
    StreamEnd *ends[2];

    helper_couple_init(state, &pair);
    helper_couple_activate(state, &pair);
    helper_child_drop_bus(pair.source);
    helper_child_drop_bus(pair.destination);
    helper_couple_start_streams(&pair, 32 * MIB, MIB, ends);
    assert_int_equal(helper_child_wait_exit(pair.source), 0);
    assert_int_equal(helper_child_wait_exit(pair.destination), 0);
    assert_streams_good(ends);
    helper_streams_free(ends);
}

static void helper_in_setup_ends_with_its_daemon(void **state)
{
    g_auto(HelperCouple) pair;

    helper_couple_init(state, &pair);
    helper_join(pair.source, pair.destination, "localhost");
    helper_child_wait_qemu_needed(pair.destination);
    helper_child_drop_bus(pair.source);
    assert_int_equal(helper_child_wait_exit(pair.source), 3);
    assert_int_equal(helper_child_wait_exit(pair.destination), 3);
    assert_string_equal(pair.destination->reason,
                        "the source cancelled the migration: the daemon has gone");
}

static void unconfigured_helper_ends_with_its_daemon(void **state)
{
    g_autoptr(HelperChild) child = helper_world_spawn(state);

    helper_child_drop_bus(child);
    assert_int_equal(helper_child_wait_exit(child), 3);
}

static void sigterm_ends_what_is_not_active(void **state)
{
    g_auto(HelperCouple) pair;
    StreamEnd *ends[2];

    helper_couple_init(state, &pair);
    helper_couple_activate(state, &pair);
    kill(helper_child_pid(pair.source), SIGTERM);
    kill(helper_child_pid(pair.source), SIGINT);
    kill(helper_child_pid(pair.source), SIGHUP);
    helper_couple_start_streams(&pair, 8 * MIB, MIB, ends);
    assert_int_equal(helper_child_wait_exit(pair.source), 0);
    assert_streams_good(ends);
    helper_streams_free(ends);

    {
        g_autoptr(HelperChild) idle = helper_world_spawn(state);

        helper_configure_psk(idle, "source", 1, NULL);
        kill(helper_child_pid(idle), SIGTERM);
        assert_int_equal(helper_child_wait_exit(idle), 3);
        assert_string_equal(idle->history->str, "setup cancelled");
        assert_contains(idle->reason, "SIGTERM");
    }
}

static void cancel_closes_both_qemus(void **state)
{
    g_auto(HelperCouple) pair;

    helper_couple_init(state, &pair);
    helper_couple_activate(state, &pair);
    helper_child_cancel(pair.destination, "aborted");
    assert_true(socket_ends_within(pair.source_qemu, 1000));
    assert_true(socket_ends_within(pair.destination_qemu, 1000));
    assert_int_equal(helper_child_wait_exit(pair.source), 3);
    assert_int_equal(helper_child_wait_exit(pair.destination), 3);
    assert_string_equal(pair.source->history->str, "setup active cancelled");
    assert_string_equal(pair.source->reason,
                        "the destination cancelled the migration: aborted");
    assert_string_equal(postcopy_migration_get_last_error(pair.source->proxy),
                        pair.source->reason);
}

static gboolean connection_ends(const char *path)
{
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
    g_autoptr(GSocketConnection) connection =
        g_socket_client_connect(client, G_SOCKET_CONNECTABLE(address), NULL, NULL);

    return !connection ||
           socket_ends_within(g_socket_get_fd(g_socket_connection_get_socket(connection)), 1000);
}

/* Two are QEMU's stream and its preempt connection; there is no third. */
static void third_qemu_connection_is_not_taken(void **state)
{
    HelperWorld *world = *state;
    g_auto(HelperCouple) pair;
    g_autofree char *path = g_build_filename(world->dir, "third.sock", NULL);
    int listener, second;

    helper_couple_init(state, &pair);
    helper_join(pair.source, pair.destination, "localhost");
    pair.destination_qemu = helper_give_qemu(pair.destination);
    assert_null(helper_child_wait_answer(pair.source, 2));
    helper_couple_join_preempt(&pair);
    listener = sockets_unix_listen(path);
    pair.source_qemu = sockets_unix_connect(path);
    second = sockets_unix_connect(path);
    helper_child_listen_qemu(pair.source, listener);
    helper_child_wait_state(pair.source, "active");
    assert_true(connection_ends(path));
    assert_false(socket_ends_within(second, 100));
    close(second);
    g_unlink(path);
}

static int own_memory(void)
{
    return open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
}

static void assert_reading_refused(HelperChild *child, guint64 start, guint64 end, const char *says)
{
    const GError *error;

    helper_child_set_reading(child, own_memory(), start, end);
    error = helper_child_wait_answer(child, child->answers + 1);
    assert_non_null(error);
    assert_contains(error->message, says);
    assert_string_equal(postcopy_migration_get_reading(child->proxy), "off");
}

static void memory_to_read_is_the_sources_and_taken_once(void **state)
{
    g_auto(HelperCouple) pair;
    const GError *error;

    helper_couple_init(state, &pair);
    helper_join(pair.source, pair.destination, "localhost");
    pair.destination_qemu = helper_give_qemu(pair.destination);
    assert_null(helper_child_wait_answer(pair.source, 2));
    helper_couple_join_preempt(&pair);
    assert_reading_refused(pair.destination, 4096, 8192, "source");
    assert_reading_refused(pair.source, 8192, 4096, "0x2000");
    assert_reading_refused(pair.source, 4096, 5000, "pages");
    helper_child_set_reading(pair.source, own_memory(), 4096, 8192);
    assert_null(helper_child_wait_answer(pair.source, pair.source->answers + 1));
    helper_child_set_reading(pair.source, own_memory(), 4096, 8192);
    error = helper_child_wait_answer(pair.source, pair.source->answers + 1);
    assert_non_null(error);
    assert_contains(error->message, "already");
    assert_string_equal(postcopy_migration_get_reading(pair.source->proxy), "proving");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hundred_mebibytes_pass_unchanged_over_x509),
        cmocka_unit_test(memory_to_read_is_the_sources_and_taken_once),
        cmocka_unit_test(both_sides_tell_of_both_channels),
        cmocka_unit_test(effective_features_are_known_when_the_peer_has_answered),
        cmocka_unit_test(preempt_channel_that_breaks_as_it_is_opened_is_dialled_again),
        cmocka_unit_test(preempt_channel_that_cannot_be_opened_is_an_error_of_the_call_alone),
        cmocka_unit_test(every_thread_is_confined),
        cmocka_unit_test(wrong_host_name_is_refused_by_the_source),
        cmocka_unit_test(client_of_an_unknown_ca_is_refused_by_the_destination),
        cmocka_unit_test(wrong_and_reused_tokens_are_refused_with_a_reason),
        cmocka_unit_test(missing_qemu_is_told_to_the_source),
        cmocka_unit_test(bad_configuration_is_named_and_can_be_repeated),
        cmocka_unit_test(calls_out_of_order_are_refused),
        cmocka_unit_test(bad_command_line_is_a_usage_error),
        cmocka_unit_test(helper_killed_in_setup_is_noticed_by_its_peer),
        cmocka_unit_test(active_stream_outlives_the_daemon),
        cmocka_unit_test(helper_in_setup_ends_with_its_daemon),
        cmocka_unit_test(unconfigured_helper_ends_with_its_daemon),
        cmocka_unit_test(sigterm_ends_what_is_not_active),
        cmocka_unit_test(cancel_closes_both_qemus),
        cmocka_unit_test(third_qemu_connection_is_not_taken),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, helper_world_setup, helper_world_teardown);
}
