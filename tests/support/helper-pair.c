/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* helper-pair: a migration through two helpers on one machine, without libvirtd.
 *
 * Does what two daemons do: starts a source and a destination helper, joins them over loopback TCP
 * with TLS (by a second connection too if they want a preempt channel), listens for the source QEMU
 * on one unix socket and connects to the destination QEMU on another when it is needed.
 *
 *     helper-pair --helper ./virt-postcopy-helper --pki-source DIR --pki-destination DIR \
 *                 --host NAME --listen /run/src.sock --connect /run/dst.sock \
 *                 [--stage BYTES] [--compression auto|on|off] [--compression-method zstd|zlib]
 *                 [--compression-level N] [--compression-threads N]
 *                 [--rekey-records N] [--cuts N --cut-interval MS]
 *     (QEMU) migrate unix:/run/src.sock
 *
 * A connection that is lost is made again at once. With --cuts it makes that happen: once the migration is
 * active, so many times, about so far apart, to either channel or both.
 *
 * DIR is in libvirt's layout: CA/cacert.pem, libvirt/clientcert.pem and private/clientkey.pem for
 * the source, servercert.pem and serverkey.pem for the destination. Prints a JSON object per line:
 * {"event":"ready"} when QEMU may connect, each change, and in the end the result with both sides'
 * statistics. Exit status 0: completed, 1: failed, 2: usage, 3: cancelled. */
#include "config.h"

#include <errno.h>
#include <gio/gunixfdlist.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/helper-process.h"
#include "tests/support/sockets.h"
#include "util/autofd.h"

typedef struct {
    char *helper;
    char *pki_source;
    char *pki_destination;
    char *host;
    char *listen;
    char *connect;
    char *user;
    int log_level;
    gint64 stage;      /* these five: 0 or NULL, the helper's default */
    char *compression;
    char *compression_method;
    int compression_level;
    int compression_threads;
    int rekey_records;
    int cuts;
    int cut_interval; /* milliseconds, on average */
} PairOptions;

enum { MAIN, PREEMPT, CHANNELS };

static const char *const channel_names[CHANNELS] = { "main", "preempt" };

typedef struct {
    const PairOptions *options;
    HelperChild *source;
    HelperChild *destination;
    GMainLoop *loop; /* NULL while they are joined */
    int wires[CHANNELS]; /* the source's end of each connection, once more, to cut it with; or -1 */
    int cuts;            /* made */
    guint cut_timer;
} HelperPair;

/* ---- JSON ---- */

static void json_add_string(GString *out, const char *key, const char *value)
{
    g_string_append_printf(out, ",\"%s\":\"", key);
    for (; *value; value++) {
        if (*value == '"' || *value == '\\')
            g_string_append_printf(out, "\\%c", *value);
        else if ((guchar)*value < 0x20)
            g_string_append_printf(out, "\\u%04x", *value);
        else
            g_string_append_c(out, *value);
    }
    g_string_append_c(out, '"');
}

static void json_print(GString *out)
{
    printf("{%s}\n", out->str + 1);
    fflush(stdout);
}

static void print_event(const char *side, const char *event, const char *key, const char *value)
{
    g_autoptr(GString) out = g_string_new(NULL);

    json_add_string(out, "event", event);
    if (side)
        json_add_string(out, "side", side);
    if (key)
        json_add_string(out, key, value);
    json_print(out);
}

/* value: t, at or s. */
static void json_add_counter(GString *out, const char *key, GVariant *value)
{
    const guint64 *numbers;
    gsize n;

    if (g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64)) {
        g_string_append_printf(out, ",\"%s\":%" G_GUINT64_FORMAT, key, g_variant_get_uint64(value));
        return;
    }
    if (g_variant_is_of_type(value, G_VARIANT_TYPE_STRING)) {
        json_add_string(out, key, g_variant_get_string(value, NULL));
        return;
    }
    numbers = g_variant_get_fixed_array(value, &n, sizeof *numbers);
    g_string_append_printf(out, ",\"%s\":[", key);
    for (gsize i = 0; i < n; i++)
        g_string_append_printf(out, "%s%" G_GUINT64_FORMAT, i ? "," : "", numbers[i]);
    g_string_append_c(out, ']');
}

static void json_add_side(GString *out, const char *side, HelperChild *child)
{
    GVariant *statistics = postcopy_migration_get_statistics(child->proxy);
    g_autoptr(GString) inner = g_string_new(NULL);
    GVariantIter iter;
    const char *name;
    GVariant *value;

    json_add_string(inner, "state", child->state);
    json_add_string(inner, "reason", child->reason);
    json_add_string(inner, "tls-version", postcopy_migration_get_tls_version(child->proxy));
    json_add_string(inner, "tls-cipher", postcopy_migration_get_tls_cipher(child->proxy));
    json_add_string(inner, "peer-name", postcopy_migration_get_peer_name(child->proxy));
    json_add_string(inner, "phase", child->phase);
    g_variant_iter_init(&iter, statistics);
    while (g_variant_iter_loop(&iter, "{&sv}", &name, &value))
        json_add_counter(inner, name, value);
    g_string_append_printf(out, ",\"%s\":{%s}", side, inner->str + 1);
}

/* ---- connections, and how they end ---- */

/* One TCP connection between the two; the source's end is returned. */
static int accept_one(HelperPair *pair, guint channel)
{
    int tcp[2];

    sockets_tcp_pair(tcp);
    autofd_clear(&pair->wires[channel]);
    pair->wires[channel] = dup(tcp[0]);
    helper_child_accept_peer(pair->destination, tcp[1], "127.0.0.1");
    return tcp[0];
}

static void on_channel_lost(PostcopyMigration *source, const char *kind, const char *reason,
                            HelperPair *pair)
{
    guint channel = g_str_equal(kind, channel_names[MAIN]) ? MAIN : PREEMPT;
    int fd = accept_one(pair, channel);
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new_from_array(&fd, 1);

    postcopy_migration_call_reconnect_channel(source, g_variant_new_handle(0), pair->options->host,
                                              kind, fds, NULL, NULL, NULL);
}

static gboolean cut_something(gpointer data);

static void cut_later(HelperPair *pair)
{
    gint ms = pair->options->cut_interval;

    if (!pair->cut_timer && pair->cuts < pair->options->cuts)
        pair->cut_timer =
            g_timeout_add((guint)g_random_int_range(ms / 2 + 1, ms * 3 / 2 + 2), cut_something,
                          pair);
}

static gboolean cut_something(gpointer data)
{
    HelperPair *pair = data;
    guint which = (guint)g_random_int_range(0, 3);

    pair->cut_timer = 0;
    pair->cuts++;
    for (guint i = 0; i < CHANNELS; i++) {
        if ((which == i || which == CHANNELS) && pair->wires[i] >= 0)
            shutdown(pair->wires[i], SHUT_RDWR);
    }
    cut_later(pair);
    return G_SOURCE_REMOVE;
}

/* ---- what the helpers say ---- */

static void fetch_qemu(HelperPair *pair)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    autofd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_autofree char *reason = NULL;

    g_strlcpy(address.sun_path, pair->options->connect, sizeof address.sun_path);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
        helper_child_attach_qemu(pair->destination, autofd_steal(&fd));
        return;
    }
    reason = g_strdup_printf("cannot connect to QEMU at %s: %s", pair->options->connect,
                             g_strerror(errno));
    helper_child_refuse_qemu(pair->destination, reason);
}

static gboolean both_are_gone(const HelperPair *pair)
{
    return pair->source->exited && pair->destination->exited && pair->source->bus_closed &&
           pair->destination->bus_closed;
}

static void on_change(HelperChild *child, const char *what, gpointer data)
{
    HelperPair *pair = data;
    const char *side = child == pair->source ? "source" : "destination";

    if (g_str_equal(what, "state")) {
        g_autoptr(GString) out = g_string_new(NULL);

        json_add_string(out, "event", "state");
        json_add_string(out, "side", side);
        json_add_string(out, "state", child->state);
        json_add_string(out, "reason", child->reason);
        json_print(out);
        if (g_str_equal(child->state, "active"))
            cut_later(pair);
    } else if (g_str_equal(what, "phase")) {
        print_event(side, what, "phase", child->phase);
    } else if (g_str_equal(what, "qemu-needed")) {
        fetch_qemu(pair);
    } else if (g_str_equal(what, "qemu-connected")) {
        print_event(side, what, NULL, NULL);
    } else if (g_str_equal(what, "channel-refused")) {
        print_event(side, what, "reason", child->refused->pdata[child->refused->len - 1]);
    } else if (g_str_equal(what, "answer") && child->answer) {
        print_event(side, "error", "message", child->answer->message);
    }
    if (pair->loop && both_are_gone(pair))
        g_main_loop_quit(pair->loop);
}

static void cancel_both(HelperPair *pair, const char *reason)
{
    helper_child_cancel(pair->source, reason);
    helper_child_cancel(pair->destination, reason);
}

static gboolean on_signal(gpointer data)
{
    cancel_both(data, "helper-pair was interrupted");
    return G_SOURCE_CONTINUE;
}

/* ---- steps ---- */

static gboolean open_files(const char *dir, const char *who, TlsFiles *files, GError **error)
{
    g_autofree char *ca = g_build_filename(dir, "CA", "cacert.pem", NULL);
    g_autofree char *crl = g_build_filename(dir, "CA", "cacrl.pem", NULL);
    g_autofree char *cert = g_strdup_printf("%s/libvirt/%scert.pem", dir, who);
    g_autofree char *key = g_strdup_printf("%s/libvirt/private/%skey.pem", dir, who);

    return tls_files_open(files, TLS_FILE_CA_CERT, ca, FALSE, error) &&
           tls_files_open(files, TLS_FILE_CA_CRL, crl, TRUE, error) &&
           tls_files_open(files, TLS_FILE_CERT, cert, FALSE, error) &&
           tls_files_open(files, TLS_FILE_KEY, key, FALSE, error);
}

static HelperChild *start(HelperPair *pair, const char *side, const char *dir, const char *who,
                          GVariant *options, GError **error)
{
    g_autofree char *level = g_strdup_printf("--log-level=%d", pair->options->log_level);
    g_autofree char *user =
        pair->options->user ? g_strdup_printf("--user=%s", pair->options->user) : NULL;
    const char *argv[] = { level, user, NULL };
    g_autoptr(GVariant) owned = g_variant_ref_sink(options);
    g_autoptr(HelperChild) child = NULL;
    g_auto(TlsFiles) files = TLS_FILES_INIT;

    if (!open_files(dir, who, &files, error))
        return NULL;
    child = helper_child_new(pair->options->helper, argv);
    if (!child->proxy) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "the %s helper does not start", side);
        return NULL;
    }
    helper_child_configure(child, side, owned, &files);
    if (helper_child_wait_answer(child, 1)) {
        g_propagate_error(error, g_error_copy(child->answer));
        return NULL;
    }
    child->func = on_change;
    child->data = pair;
    return g_steal_pointer(&child);
}

/* Session id and token are the same at both ends, and new each time. */
static GVariant *session_options(const PairOptions *o)
{
    guint32 random[12];
    GVariantBuilder builder;

    for (gsize i = 0; i < G_N_ELEMENTS(random); i++)
        random[i] = g_random_int();
    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&builder, "{sv}", "session",
                          g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, random, 16, 1));
    g_variant_builder_add(&builder, "{sv}", "token",
                          g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, random + 4, 32, 1));
    g_variant_builder_add(&builder, "{sv}", "domain", g_variant_new_string("helper-pair"));
    if (o->stage)
        g_variant_builder_add(&builder, "{sv}", "stage", g_variant_new_uint64((guint64)o->stage));
    if (o->compression)
        g_variant_builder_add(&builder, "{sv}", "compression",
                              g_variant_new_string(o->compression));
    if (o->compression_method)
        g_variant_builder_add(&builder, "{sv}", "compression-methods",
                              g_variant_new_strv((const char *const[]){ o->compression_method }, 1));
    if (o->compression_level)
        g_variant_builder_add(&builder, "{sv}",
                              g_strcmp0(o->compression_method, "zlib") == 0
                                  ? "compression-zlib-level"
                                  : "compression-level",
                              g_variant_new_int32(o->compression_level));
    if (o->compression_threads)
        g_variant_builder_add(&builder, "{sv}", "compression-threads",
                              g_variant_new_uint32((guint32)o->compression_threads));
    if (o->rekey_records)
        g_variant_builder_add(&builder, "{sv}", "rekey-records",
                              g_variant_new_uint32((guint32)o->rekey_records));
    return g_variant_builder_end(&builder);
}

/* As virtpostcopyd of the source: main channel, preempt channel if it is wanted, and only then
 * QEMU. FALSE if the helpers do not agree; the event was printed. */
static gboolean join(HelperPair *pair)
{
    HelperChild *source = pair->source;
    const char *host = pair->options->host;

    helper_child_connect_peer(source, accept_one(pair, MAIN), host);
    if (helper_child_wait_answer(source, source->calls))
        return FALSE;
    if (helper_child_wants_channel(source, "preempt")) {
        helper_child_connect_channel(source, accept_one(pair, PREEMPT), host, "preempt");
        if (helper_child_wait_answer(source, source->calls))
            return FALSE;
    }
    helper_child_listen_qemu(source, sockets_unix_listen(pair->options->listen));
    return helper_child_wait_answer(source, source->calls) == NULL;
}

static gboolean start_both(HelperPair *pair, GError **error)
{
    const PairOptions *o = pair->options;
    g_autoptr(GVariant) options = g_variant_ref_sink(session_options(o));

    pair->source = start(pair, "source", o->pki_source, "client", options, error);
    if (!pair->source)
        return FALSE;
    pair->destination = start(pair, "destination", o->pki_destination, "server", options, error);
    return pair->destination != NULL;
}

static int run(const PairOptions *options, GError **error)
{
    HelperPair pair = { .options = options, .wires = { -1, -1 } };
    g_autoptr(GString) out = g_string_new(NULL);
    int status = EXIT_FAILURE;

    if (start_both(&pair, error)) {
        g_unix_signal_add(SIGINT, on_signal, &pair);
        g_unix_signal_add(SIGTERM, on_signal, &pair);
        g_signal_connect(pair.source->proxy, "channel-lost", G_CALLBACK(on_channel_lost), &pair);
        if (join(&pair))
            print_event(NULL, "ready", "listen", options->listen);
        else
            cancel_both(&pair, "the helpers cannot be joined");
        pair.loop = g_main_loop_new(NULL, FALSE);
        if (!both_are_gone(&pair))
            g_main_loop_run(pair.loop);
        g_main_loop_unref(pair.loop);
        status = MAX(pair.source->status, pair.destination->status);
        json_add_string(out, "event", "result");
        g_string_append_printf(out, ",\"cuts\":%d", pair.cuts);
        json_add_side(out, "source", pair.source);
        json_add_side(out, "destination", pair.destination);
        json_print(out);
    }
    if (pair.cut_timer)
        g_source_remove(pair.cut_timer);
    for (guint i = 0; i < CHANNELS; i++)
        autofd_clear(&pair.wires[i]);
    helper_child_free(pair.source);
    helper_child_free(pair.destination);
    unlink(options->listen);
    return status;
}

static gboolean parse(int argc, char **argv, PairOptions *o, GError **error)
{
    const GOptionEntry entries[] = {
        { "helper", 0, 0, G_OPTION_ARG_FILENAME, &o->helper, "virt-postcopy-helper", "PROGRAM" },
        { "pki-source", 0, 0, G_OPTION_ARG_FILENAME, &o->pki_source, "client certificate", "DIR" },
        { "pki-destination", 0, 0, G_OPTION_ARG_FILENAME, &o->pki_destination,
          "server certificate", "DIR" },
        { "host", 0, 0, G_OPTION_ARG_STRING, &o->host, "name in the server certificate", "NAME" },
        { "listen", 0, 0, G_OPTION_ARG_FILENAME, &o->listen, "for the source QEMU", "PATH" },
        { "connect", 0, 0, G_OPTION_ARG_FILENAME, &o->connect, "to the destination QEMU", "PATH" },
        { "user", 0, 0, G_OPTION_ARG_STRING, &o->user, "whom the helpers run as", "UID:GID" },
        { "log-level", 0, 0, G_OPTION_ARG_INT, &o->log_level, "of the helpers", "N" },
        { "stage", 0, 0, G_OPTION_ARG_INT64, &o->stage, "the helpers' option", "BYTES" },
        { "compression", 0, 0, G_OPTION_ARG_STRING, &o->compression, "the same", "auto|on|off" },
        { "compression-method", 0, 0, G_OPTION_ARG_STRING, &o->compression_method, "the same",
          "zstd|zlib" },
        { "compression-level", 0, 0, G_OPTION_ARG_INT, &o->compression_level, "the same", "N" },
        { "compression-threads", 0, 0, G_OPTION_ARG_INT, &o->compression_threads, "the same",
          "N" },
        { "rekey-records", 0, 0, G_OPTION_ARG_INT, &o->rekey_records, "the same", "N" },
        { "cuts", 0, 0, G_OPTION_ARG_INT, &o->cuts, "how often connections are cut", "N" },
        { "cut-interval", 0, 0, G_OPTION_ARG_INT, &o->cut_interval, "time between two", "MS" },
        { NULL },
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, error))
        return FALSE;
    if (argc > 1 || !o->pki_source || !o->pki_destination || !o->host || !o->listen ||
        !o->connect) {
        g_set_error_literal(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED,
                            "all of --pki-source, --pki-destination, --host, --listen and "
                            "--connect are needed, and nothing else");
        return FALSE;
    }
    return TRUE;
}

int main(int argc, char **argv)
{
    PairOptions options = { .log_level = 2 };
    g_autoptr(GError) error = NULL;
    int status = 2;

    signal(SIGPIPE, SIG_IGN);
    if (parse(argc, argv, &options, &error)) {
        if (!options.helper)
            options.helper = g_strdup("./virt-postcopy-helper");
        status = run(&options, &error);
    }
    if (error)
        fprintf(stderr, "helper-pair: %s\n", error->message);
    g_free(options.helper);
    g_free(options.pki_source);
    g_free(options.pki_destination);
    g_free(options.host);
    g_free(options.listen);
    g_free(options.connect);
    g_free(options.user);
    g_free(options.compression);
    g_free(options.compression_method);
    return status;
}
