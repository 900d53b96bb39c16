/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The other host: each step of the way to it, what it says of itself, and its migration port. */
#include "config.h"

#include <glib/gi18n.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/check_parts.h"
#include "driver/check_dial.h"
#include "driver/connect_dial.h"
#include "driver/session_dial.h"
#include "preflight/peer.h"
#include "preflight/versions.h"
#include "xml/connect_uri.h"
#include "xml/peer_uri.h"

#define TLS_PORT 16514
#define TCP_PORT 16509 /* where a client looks that is told none */

/* ---- the way there ---- */

static guint rpc_port(const ConnectUri *uri)
{
    if (uri->transport == CONNECT_TRANSPORT_TLS)
        return uri->port ? uri->port : TLS_PORT;
    if (uri->transport == CONNECT_TRANSPORT_TCP)
        return uri->port ? uri->port : TCP_PORT;
    return 0;
}

static gboolean has_address(const char *host, GError **error)
{
    g_autoptr(GResolver) resolver = g_resolver_get_default();
    GList *addresses = g_resolver_lookup_by_name(resolver, host, NULL, error);
    gboolean found = addresses != NULL;

    g_resolver_free_addresses(addresses);
    return found;
}

static gboolean answers(const Settings *settings, const char *host, guint port, GError **error)
{
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_autoptr(GSocketConnection) connection = NULL;

    g_socket_client_set_timeout(client, settings->connect_timeout);
    g_socket_client_set_enable_proxy(client, FALSE);
    connection = g_socket_client_connect_to_host(client, host, (guint16)port, NULL, error);
    return connection != NULL;
}

typedef struct {
    GMainLoop *loop;
    gboolean good;
} TlsTry;

static void on_tls_tried(GObject *source, GAsyncResult *result, gpointer data)
{
    TlsTry *try = data;
    RpcStream *stream = connect_dial_finish(result, NULL);

    try->good = stream != NULL;
    if (stream) {
        rpc_stream_close(stream, FALSE);
        rpc_stream_unref(stream);
    }
    g_main_loop_quit(try->loop);
}

/* As this host's daemon does for a peer-to-peer migration. */
static gboolean tls_agrees(const Settings *settings, const ConnectUri *uri)
{
    TlsTry try = { .loop = g_main_loop_new(NULL, FALSE) };

    connect_dial(settings, uri, on_tls_tried, &try);
    g_main_loop_run(try.loop);
    g_main_loop_unref(try.loop);
    return try.good;
}

/* libvirt's words say what happened, its codes hardly where: it has the same for a certificate, a
 * password, and a daemon that does not get on. */
static PeerStep failed_step(const Settings *settings, const GError *error, const ConnectUri *uri)
{
    if (error->code == VIR_ERR_NO_CONNECT)
        return PEER_STEP_DRIVER;
    if (uri->transport == CONNECT_TRANSPORT_TLS && !tls_agrees(settings, uri))
        return PEER_STEP_TLS;
    switch (error->code) {
    case VIR_ERR_AUTH_FAILED:
    case VIR_ERR_AUTH_CANCELLED:
    case VIR_ERR_AUTH_UNAVAILABLE:
    case VIR_ERR_ACCESS_DENIED:
        return PEER_STEP_AUTH;
    default:
        return uri->transport == CONNECT_TRANSPORT_SSH ? PEER_STEP_AUTH : PEER_STEP_OTHER;
    }
}

static PeerStep open_peer(Check *check, const char *text, const ConnectUri *uri, GError **error)
{
    guint port = rpc_port(uri);

    if (port && !has_address(uri->host, error))
        return PEER_STEP_NAME;
    if (port && !answers(check->settings, uri->host, port, error)) {
        g_prefix_error(error, _("%1$s, port %2$u: "), uri->host, port);
        return PEER_STEP_PORT;
    }
    check->peer = connection_open(text, TRUE, error);
    return check->peer ? PEER_STEP_DONE : failed_step(check->settings, *error, uri);
}

static void judge_way(Check *check, const char *text)
{
    g_auto(ConnectUri) uri = { 0 };
    g_autoptr(GError) error = NULL;
    PeerOpenFacts facts = { .uri = text, .host = text, .step = PEER_STEP_URI };

    if (connect_uri_parse(text, &uri, &error)) {
        facts.host = uri.host ? uri.host : text;
        facts.port = rpc_port(&uri);
        facts.step = open_peer(check, text, &uri, &error);
    }
    facts.error = error ? error->message : NULL;
    peer_judge_open(check->findings, &facts);
}

/* ---- what it says of itself ---- */

/* All cells together are not to be had, so one by one; one that cannot tell is left out. */
static guint64 pages_of(virConnect *connection, const GArray *cells, guint kib)
{
    guint64 count = 0;

    for (guint i = 0; i < cells->len; i++) {
        unsigned long long here = 0;
        unsigned int size = kib;

        if (virNodeGetFreePages(connection, 1, &size, g_array_index(cells, int, i), 1, &here, 0) ==
            1)
            count += here;
    }
    return count;
}

GArray *check_host_hugepages(virConnect *connection, const char *capabilities)
{
    GArray *pools = g_array_new(FALSE, FALSE, sizeof(HugepagePool));
    g_autoptr(GArray) sizes = capabilities_page_sizes(capabilities, NULL);
    g_autoptr(GArray) cells = capabilities_cells(capabilities, NULL);

    for (guint i = 0; sizes && cells && i < sizes->len; i++) {
        HugepagePool pool = { .kib = g_array_index(sizes, guint64, i) };

        if (pool.kib * 1024 <= (guint64)sysconf(_SC_PAGESIZE))
            continue;
        pool.free = pages_of(connection, cells, (guint)pool.kib);
        g_array_append_val(pools, pool);
    }
    return pools;
}

static void judge_versions(Check *check)
{
    gulong libvirt = 0, qemu = 0;

    if (virConnectGetLibVersion(check->peer, &libvirt) == 0)
        versions_judge_libvirt(check->findings, CHECK_PEER_LIBVIRT, libvirt);
    if (virConnectGetVersion(check->peer, &qemu) < 0)
        qemu = 0;
    versions_judge_qemu(check->findings, CHECK_PEER_QEMU, qemu);
}

static void judge_host(Check *check)
{
    char *text = virConnectGetCapabilities(check->peer);
    g_autofree char *capabilities = g_strdup(text);
    g_autofree char *ours =
        check->capabilities ? capabilities_host_uuid(check->capabilities, NULL) : NULL;
    g_autofree char *theirs = capabilities ? capabilities_host_uuid(capabilities, NULL) : NULL;
    g_autoptr(GArray) our_pools = hugepages_look("");
    g_autoptr(GArray) their_pools = NULL;

    free(text);
    if (ours && theirs)
        peer_judge_uuid(check->findings, ours, theirs);
    if (!capabilities)
        return;
    their_pools = check_host_hugepages(check->peer, capabilities);
    peer_judge_hugepages(check->findings, our_pools, their_pools);
}

/* ---- its migration port ---- */

typedef struct {
    GMainLoop *loop;
    CheckAnswer answer;
    gboolean good;
    GError *error;
} Dialled;

static void on_dialled(GObject *source, GAsyncResult *result, gpointer data)
{
    Dialled *dialled = data;

    dialled->good = check_dial_finish(result, &dialled->answer, &dialled->error);
    g_main_loop_quit(dialled->loop);
}

static void dialled_clear(Dialled *dialled)
{
    check_answer_clear(&dialled->answer);
    g_clear_error(&dialled->error);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Dialled, dialled_clear)

static void dial(Check *check, const char *host, guint16 port, Dialled *ret_dialled)
{
    ret_dialled->loop = g_main_loop_new(NULL, FALSE);
    check_dial(check->settings, host, port, on_dialled, ret_dialled);
    g_main_loop_run(ret_dialled->loop);
    g_main_loop_unref(ret_dialled->loop);
}

static void judge_dialled(Check *check, const char *host, guint16 port, const Dialled *dialled)
{
    PeerPortFacts facts = { .host = host, .port = port };

    if (dialled->good) {
        facts.version = dialled->answer.version;
        facts.clock_ms = dialled->answer.time_ms - g_get_real_time() / 1000;
    } else {
        facts.error = dialled->error->message;
    }
    facts.connected = dialled->good || dialled->error->domain != SESSION_DIAL_ERROR;
    peer_judge_port(check->findings, &facts);
}

static void judge_port(Check *check, const char *host, guint16 port)
{
    g_auto(Dialled) dialled = { NULL };

    dial(check, host, port, &dialled);
    judge_dialled(check, host, port, &dialled);
}

/* The other daemon says where it has migrations come in; to hear that, it is called by the name that
 * libvirt has for that host, or by the one that has led there. */
static void judge_own_port(Check *check, const char *called)
{
    const char *names[] = { check->peer_name, called };
    guint16 port = check->settings->migration_port;

    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_auto(Dialled) dialled = { NULL };
        const char *host = NULL;
        guint16 told;

        if (!names[i] || (i > 0 && g_strcmp0(names[i], names[0]) == 0))
            continue;
        dial(check, names[i], port, &dialled);
        if (!dialled.good)
            continue;
        host = dialled.answer.host ? dialled.answer.host : names[i];
        told = dialled.answer.port ? dialled.answer.port : port;
        if (g_str_equal(host, names[i]) && told == port)
            judge_dialled(check, host, port, &dialled);
        else
            judge_port(check, host, told);
        return;
    }
    if (names[0] || names[1])
        judge_port(check, names[0] ? names[0] : names[1], port);
}

/* The name and port that the other daemon would give the source. */
static void check_migration_port(Check *check, const char *text, const char *migrate_uri)
{
    g_auto(ConnectUri) connect_uri = { 0 };
    g_auto(PeerUri) uri = { NULL };

    check->peer_name = connection_host(check->peer);
    if (migrate_uri)
        peer_uri_parse(migrate_uri, &uri, NULL); /* it was parsed before */
    if (uri.host || (uri.port && check->peer_name))
        judge_port(check, uri.host ? uri.host : check->peer_name,
                   uri.port ? uri.port : check->settings->migration_port);
    else if (connect_uri_parse(text, &connect_uri, NULL))
        judge_own_port(check, connect_uri.host);
}

void check_peer(Check *check, const char *uri, const char *migrate_uri)
{
    judge_way(check, uri);
    if (!check->peer)
        return;
    judge_versions(check);
    judge_host(check);
    check_migration_port(check, uri, migrate_uri);
}
