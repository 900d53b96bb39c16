/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The relay as the main thread sees it. */
#include "config.h"

#include "ram/relay.h"

#include <glib-unix.h>
#include <glib/gi18n.h>
#include <string.h>

#include "ram/relay_priv.h"
#include "util/autofd.h"

void relay_command_free(gpointer data)
{
    RelayCommand *command = data;

    autofd_clear(&command->fd);
    if (command->offer)
        autofd_clear(&command->offer->record_fd);
    g_free(command->offer);
    g_free(command->text);
    g_clear_pointer(&command->bytes, g_bytes_unref);
    g_free(command);
}

static gboolean on_reports(gint fd, GIOCondition condition, gpointer data)
{
    Relay *relay = data;
    RelayReport *report = mailbox_receive(relay->reports);

    /* One at a time: the function may free the relay. */
    if (report) {
        relay->func(report, relay->data);
        relay_report_free(report);
    }
    return G_SOURCE_CONTINUE;
}

void relay_dispatch(Relay *relay)
{
    RelayReport *report;

    while ((report = mailbox_receive(relay->reports))) {
        relay->func(report, relay->data);
        relay_report_free(report);
    }
}

static void watch_reports(Relay *relay)
{
    relay->source = g_unix_fd_source_new(mailbox_fd(relay->reports), G_IO_IN);
    g_source_set_callback(relay->source, G_SOURCE_FUNC(on_reports), relay, NULL);
    g_source_attach(relay->source, g_main_context_get_thread_default());
}

static gpointer relay_thread(gpointer data)
{
    Relay *relay = data;

    relay_run(relay);
    relay_report(relay, relay_report_new(RELAY_REPORT_ENDED));
    return NULL;
}

static gboolean make_engine(Relay *relay, const RelayConfig *config, GError **error)
{
    static const PageCompress compress[RELAY_COMPRESSION_MAX] = {
        [RELAY_COMPRESSION_AUTO] = PAGE_COMPRESS_AUTO,
        [RELAY_COMPRESSION_ON] = PAGE_COMPRESS_ON,
        [RELAY_COMPRESSION_OFF] = PAGE_COMPRESS_OFF,
    };
    OutgoingConfig outgoing = {
        .stage = config->stage,
        .paced = config->paced,
        .window = config->session.window,
        .compress = compress[config->compression],
    };
    PageSenderConfig mapped = { .window = outgoing.window, .compress = outgoing.compress };

    if (relay->side == SESSION_SOURCE && config->compression != RELAY_COMPRESSION_OFF &&
        (config->session.features & SESSION_FEATURES_PACK)) {
        CompressConfig compress_config = {
            .levels = config->levels,
            .threads = config->compression_threads,
            .reserve = FRAME_HEADER_LEN,
        };

        relay->worker = compress_worker_new(&compress_config, error);
        if (!relay->worker)
            return FALSE;
    }
    outgoing.worker = relay->worker;
    mapped.worker = relay->worker;
    relay->memory = config->memory;
    relay->engine = config->memory ? engine_new_mapped(relay->session, &mapped)
                                   : engine_new(relay->session, &outgoing);
    return TRUE;
}

/* GLib makes the quark of an error domain when it is first asked for, which two threads must not do at
 * once. */
static void make_quarks(void)
{
    const GQuark made[] = { TLS_ERROR, HELLO_ERROR, SESSION_ERROR, FRAME_ERROR_DOMAIN, RAM_ERROR,
                            JOB_ERROR };

    for (gsize i = 0; i < G_N_ELEMENTS(made); i++)
        g_assert(made[i] != 0);
}

Relay *relay_new(const RelayConfig *config, RelayReportFunc func, gpointer data, GError **error)
{
    g_autoptr(Relay) relay = g_new0(Relay, 1);

    make_quarks();

    relay->listen_fd = relay->leaving_fd = -1;
    relay->side = config->session.side;
    relay->window = config->session.window;
    memcpy(relay->id, config->session.id, sizeof relay->id);
    for (guint i = 0; i < QEMU_CONNECTION_MAX; i++)
        relay->qemu[i] = (PumpQemu){ .fd = -1, .connection = i };
    relay->buf = g_malloc(PUMP_QEMU_BUF);
    relay->creds = tls_credentials_ref(config->creds);
    relay->check_host = config->check_host;
    relay->allowed_dns = g_strdupv((char **)config->allowed_dns);
    relay->timeouts = config->timeouts;
    relay->rekey_records = config->rekey_records;
    /* Memory clients can begin anew at any time: there is no need to wait for ever. */
    relay->recovers = config->recovers && !config->memory;
    relay->func = func;
    relay->data = data;
    relay->candidates = g_ptr_array_new_with_free_func((GDestroyNotify)link_free);
    relay_init_disks(relay);
    relay->session = session_new(&config->session);
    relay->main = (RelayChannel){ .kind = CHANNEL_MAIN };
    relay->main.pump.session = relay->session;
    relay->n_bulk = config->bulk;
    for (guint i = 0; i < RELAY_LANES_MAX; i++) {
        relay->lanes[i] = (RelayChannel){ .kind = CHANNEL_BULK, .number = (guint16)i };
        relay->lanes[i].pump.session = relay->session;
    }
    relay->lanes[RELAY_PREEMPT].kind = CHANNEL_PREEMPT;
    relay->lanes[RELAY_PREEMPT].number = RELAY_PREEMPT_CHANNEL;
    if (!make_engine(relay, config, error))
        return NULL;
    relay->commands = mailbox_new(relay_command_free, error);
    if (!relay->commands)
        return NULL;
    relay->reports = mailbox_new(relay_report_free, error);
    if (!relay->reports)
        return NULL;

    watch_reports(relay);
    session_start(relay->session, NULL);
    relay_act(relay); /* reports "setup" */
    relay->thread = g_thread_try_new("relay", relay_thread, relay, error);
    return relay->thread ? g_steal_pointer(&relay) : NULL;
}

static void channel_clear(RelayChannel *channel)
{
    pump_channel_clear(&channel->pump);
    g_clear_pointer(&channel->ticket, g_bytes_unref);
}

void relay_free(Relay *relay)
{
    if (!relay)
        return;
    if (relay->thread) {
        relay_command(relay, RELAY_STOP, -1, NULL, NULL);
        g_thread_join(relay->thread);
    }
    if (relay->source) {
        g_source_destroy(relay->source);
        g_source_unref(relay->source);
    }
    if (relay->disks.waiting)
        relay_free_disks(relay);
    channel_clear(&relay->main);
    for (guint i = 0; i < RELAY_LANES_MAX; i++)
        channel_clear(&relay->lanes[i]);
    explicit_bzero(relay->key, sizeof relay->key);
    g_ptr_array_unref(relay->candidates);
    for (guint i = 0; i < QEMU_CONNECTION_MAX; i++)
        autofd_clear(&relay->qemu[i].fd);
    autofd_clear(&relay->listen_fd);
    autofd_clear(&relay->leaving_fd);
    g_free(relay->buf);
    engine_free(relay->engine);
    compress_worker_free(relay->worker);
    for (guint i = 0; i < RELAY_LANES_MAX; i++)
        lane_free(relay->lanes[i].pump.lane);
    session_free(relay->session);
    mailbox_free(relay->commands);
    mailbox_free(relay->reports);
    tls_credentials_unref(relay->creds);
    g_strfreev(relay->allowed_dns);
    g_free(relay);
}

static void post(Relay *relay, const RelayCommand *command)
{
    RelayCommand *copy = g_new(RelayCommand, 1);

    *copy = *command;
    copy->text = g_strdup(command->text);
    mailbox_post(relay->commands, copy);
}

void relay_command(Relay *relay, RelayCommandType type, int fd, const char *text, gpointer call)
{
    RelayCommand command = { .type = type, .fd = fd, .text = (char *)text, .call = call };

    post(relay, &command);
}

void relay_channel_command(Relay *relay, RelayCommandType type, ChannelKind kind, guint16 number,
                           int fd, const char *host, gpointer call)
{
    RelayCommand command = { .type = type,
                             .fd = fd,
                             .text = (char *)host,
                             .call = call,
                             .kind = kind,
                             .number = number };

    post(relay, &command);
}

void relay_disks_command(Relay *relay, RelayCommandType type, guint16 number, int fd,
                         const char *text, gpointer call)
{
    RelayCommand command = {
        .type = type, .fd = fd, .text = (char *)text, .call = call, .number = number
    };

    post(relay, &command);
}

void relay_set_reading(Relay *relay, int fd, const MemoryRange *ranges, gsize n_ranges, gpointer call)
{
    RelayCommand command = {
        .type = RELAY_SET_READING,
        .fd = fd,
        .call = call,
        .bytes = g_bytes_new(ranges, n_ranges * sizeof(MemoryRange)),
    };

    post(relay, &command);
}

void relay_set_placing(Relay *relay, int uffd, int record_fd, const PlacingRange *ranges,
                       gsize n_ranges, gpointer call)
{
    RelayCommand command = { .type = RELAY_SET_PLACING, .fd = uffd, .call = call };

    command.offer = g_malloc(sizeof(PlacingOffer) + n_ranges * sizeof *ranges);
    command.offer->record_fd = record_fd;
    command.offer->n = n_ranges;
    if (n_ranges)
        memcpy(command.offer->ranges, ranges, n_ranges * sizeof *ranges);
    post(relay, &command);
}
