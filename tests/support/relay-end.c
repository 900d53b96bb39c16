/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/relay-end.h"

#include <string.h>
#include <unistd.h>

#include "tests/support/psk.h"
#include "tests/support/sockets.h"

static void on_report(const RelayReport *report, gpointer data)
{
    End *end = data;

    switch (report->type) {
    case RELAY_REPORT_STATE:
        end->state = report->state;
        g_free(end->reason);
        end->reason = g_strdup(report->reason);
        end->stats = report->stats;
        g_string_append_printf(end->history, "%s%s", end->history->len ? " " : "",
                               session_state_status(report->state));
        break;
    case RELAY_REPORT_REPLY:
        end->replies++;
        end->wants_preempt |= report->wants_preempt;
        end->wants_bulk = MAX(end->wants_bulk, report->wants_bulk);
        g_clear_error(&end->last_error);
        end->last_error = report->error ? g_error_copy(report->error) : NULL;
        break;
    case RELAY_REPORT_FEATURES:
        end->features = report->features;
        break;
    case RELAY_REPORT_CHANNEL_UP:
        g_free(end->peer);
        end->peer = g_strdup_printf("%s %s", report->tls_version, report->peer_name);
        break;
    case RELAY_REPORT_CHANNEL_LOST:
        end->lost[report->kind]++;
        g_free(end->lost_why);
        end->lost_why = g_strdup(report->reason);
        break;
    case RELAY_REPORT_CHANNEL_RESUMED:
        end->resumed[report->kind]++;
        break;
    case RELAY_REPORT_CHANNEL_REFUSED:
        g_ptr_array_add(end->refused, g_strdup(report->reason));
        break;
    case RELAY_REPORT_QEMU_NEEDED:
        end->qemu_needed = TRUE;
        break;
    case RELAY_REPORT_QEMU_CONNECTED:
        end->qemu_connected = TRUE;
        break;
    case RELAY_REPORT_PHASE:
    case RELAY_REPORT_WARNING:
    case RELAY_REPORT_SOURCE_RATE:
    case RELAY_REPORT_PLACING:
        break;
    case RELAY_REPORT_READING:
        end->reading = report->phase;
        end->reading_before = end->state;
        break;
    case RELAY_REPORT_DISKS_WANTED:
        end->disks_wanted = report->number;
        break;
    case RELAY_REPORT_DISKS_ENDED:
        end->disks_ended++;
        g_free(end->disks_why);
        end->disks_why = g_strdup(report->reason);
        break;
    case RELAY_REPORT_RETURN_PATH:
        end->return_path = TRUE;
        break;
    case RELAY_REPORT_STATS:
        end->stats = report->stats;
        break;
    case RELAY_REPORT_ENDED:
        end->ended = TRUE;
        break;
    }
}

End *end_new(SessionSide side, const EndSpec *spec)
{
    g_autoptr(TlsCredentials) creds = psk_credentials(
        side == SESSION_SOURCE ? TLS_ENDPOINT_CLIENT : TLS_ENDPOINT_SERVER, spec->key);
    g_autoptr(GError) error = NULL;
    RelayConfig config = {
        .session = { .side = side,
                     .window = END_WINDOW,
                     .features = spec->features,
                     .required = spec->required },
        .memory = spec->memory,
        .creds = creds,
        .timeouts = spec->timeouts,
        .recovers = spec->recovers,
        .rekey_records = spec->rekey_records,
        .bulk = spec->bulk,
        .stage = JOB_STAGE_MIN,
        .levels = { { [PAGES_ZSTD] = 1, [PAGES_ZLIB] = 1 } },
        .compression_threads = 1,
    };
    End *end = g_new0(End, 1);

    memset(config.session.token, spec->token, HELLO_TOKEN_LEN);
    end->qemu = -1;
    end->history = g_string_new(NULL);
    end->reason = g_strdup("");
    end->refused = g_ptr_array_new_with_free_func(g_free);
    end->relay = relay_new(&config, on_report, end, &error);
    if (!end->relay)
        g_error("%s", error->message);
    return end;
}

void end_free(End *end)
{
    relay_free(end->relay);
    if (end->qemu >= 0)
        close(end->qemu);
    g_string_free(end->history, TRUE);
    g_free(end->reason);
    g_free(end->peer);
    g_free(end->lost_why);
    g_free(end->disks_why);
    g_ptr_array_unref(end->refused);
    g_clear_error(&end->last_error);
    g_free(end);
}

End *good_end(SessionSide side)
{
    const EndSpec spec = { .key = 1, .token = 1, .timeouts = END_PATIENT };

    return end_new(side, &spec);
}

/* ---- waiting ---- */

gboolean has_ended(gpointer data)
{
    return ((End *)data)->ended;
}

gboolean needs_qemu(gpointer data)
{
    return ((End *)data)->qemu_needed;
}

gboolean has_connected(gpointer data)
{
    return ((End *)data)->qemu_connected;
}

gboolean is_active(gpointer data)
{
    return session_state_is_active(((End *)data)->state);
}

gboolean was_answered(gpointer data)
{
    return ((End *)data)->replies > 0;
}

gboolean has_refused(gpointer data)
{
    return ((End *)data)->refused->len > 0;
}

/* ---- steps ---- */

void join(End *source, End *destination)
{
    int tcp[2];

    sockets_tcp_pair(tcp);
    source->replies = 0;
    relay_command(destination->relay, RELAY_ACCEPT_PEER, tcp[1], "127.0.0.1", NULL);
    relay_command(source->relay, RELAY_CONNECT_PEER, tcp[0], "localhost", source);
}

void attach_destination(End *destination)
{
    int pair[2];

    sockets_unix_pair(pair);
    destination->qemu = pair[1];
    relay_command(destination->relay, RELAY_ATTACH_QEMU, pair[0], NULL, destination);
}

void attach_source(End *source)
{
    g_autofree char *path = g_strdup_printf("%s/relay-test-%d", g_get_tmp_dir(), (int)getpid());

    relay_command(source->relay, RELAY_LISTEN_QEMU, sockets_unix_listen(path), NULL, NULL);
    source->qemu = sockets_unix_connect(path);
    unlink(path);
}

void activate(End *source, End *destination)
{
    join(source, destination);
    wait_until(needs_qemu, destination, "QemuNeeded");
    attach_destination(destination);
    wait_until(was_answered, source, "ConnectPeer's answer");
    if (source->last_error)
        g_error("ConnectPeer: %s", source->last_error->message);
    attach_source(source);
    wait_until(has_connected, source, "QemuConnected");
    wait_until(is_active, source, "source active");
    wait_until(is_active, destination, "destination active");
}
