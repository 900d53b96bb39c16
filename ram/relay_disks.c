/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The connections that QEMUs make for their disks, and the channels that carry them: until both
 * ends of one are there it waits here, then it has a thread (ram/disk_channel.h). */
#include "config.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <string.h>
#include <sys/socket.h>

#include "ram/relay_priv.h"
#include "util/autofd.h"

/* Source: QEMU's end is there; destination: the peer's. */
typedef struct {
    guint16 number;
    int fd;
    Link *link;
    gint64 deadline_us;
} Waiting;

static void waiting_free(gpointer data)
{
    Waiting *waiting = data;

    autofd_clear(&waiting->fd);
    link_free(waiting->link);
    g_free(waiting);
}

static void channel_free(gpointer data)
{
    disk_channel_free(data);
}

void relay_init_disks(Relay *relay)
{
    relay->disks.listen_fd = -1;
    relay->disks.waiting = g_ptr_array_new_with_free_func(waiting_free);
    relay->disks.channels = g_ptr_array_new_with_free_func(channel_free);
}

void relay_free_disks(Relay *relay)
{
    RelayDisks *disks = &relay->disks;

    autofd_clear(&disks->listen_fd);
    g_ptr_array_unref(disks->waiting);
    /* All at once, and then one after the other is waited for. */
    for (guint i = 0; i < disks->channels->len; i++)
        disk_channel_stop(disks->channels->pdata[i]);
    g_ptr_array_unref(disks->channels);
}

void relay_close_disks(Relay *relay)
{
    RelayDisks *disks = &relay->disks;

    if (disks->closed)
        return;
    disks->closed = TRUE;
    autofd_clear(&disks->listen_fd);
    g_ptr_array_set_size(disks->waiting, 0);
    for (guint i = 0; i < disks->channels->len; i++)
        disk_channel_stop(disks->channels->pdata[i]);
}

void relay_count_disks(const Relay *relay, RelayStats *stats)
{
    const RelayDisks *disks = &relay->disks;

    stats->wire_disks_sent = disks->wire_sent;
    stats->wire_disks_received = disks->wire_received;
    stats->disk_channels = disks->opened;
    for (guint i = 0; i < disks->channels->len; i++) {
        guint64 sent, received;

        disk_channel_wire_bytes(disks->channels->pdata[i], &sent, &received);
        stats->wire_disks_sent += sent;
        stats->wire_disks_received += received;
    }
}

gboolean relay_carries_disks(const Relay *relay)
{
    SessionState state = session_state(relay->session);

    return (state == SESSION_AWAIT_QEMU || session_state_is_active(state)) &&
           !relay->disks.closed && relay->has_key &&
           (session_features(relay->session) & SESSION_FEATURE_DISKS);
}

/* ---- those that wait ---- */

static gboolean is_full(const Relay *relay)
{
    return relay->disks.waiting->len + relay->disks.channels->len >= RELAY_DISKS_MAX;
}

static void report(Relay *relay, RelayReportType type, guint16 number, const char *reason)
{
    RelayReport *report = relay_report_new(type);

    report->number = number;
    report->reason = g_strdup(reason ? reason : "");
    relay_report(relay, report);
}

/* Takes fd and link. */
static void begin_waiting(Relay *relay, guint16 number, int fd, Link *link)
{
    Waiting *waiting = g_new(Waiting, 1);

    *waiting = (Waiting){
        .number = number,
        .fd = fd,
        .link = link,
        .deadline_us = relay_in_ms(relay->timeouts.hello_ack_ms),
    };
    g_ptr_array_add(relay->disks.waiting, waiting);
    report(relay, RELAY_REPORT_DISKS_WANTED, number, NULL);
}

static Waiting *find_waiting(const Relay *relay, guint16 number)
{
    for (guint i = 0; i < relay->disks.waiting->len; i++) {
        Waiting *waiting = relay->disks.waiting->pdata[i];

        if (waiting->number == number)
            return waiting;
    }
    return NULL;
}

/* With a reply if there is none. */
static Waiting *want_waiting(Relay *relay, const RelayCommand *command)
{
    Waiting *waiting = find_waiting(relay, command->number);

    if (!waiting)
        relay_reply(relay, command->call,
                    relay_wrong_state(relay, _("no disk connection of that number waits")));
    return waiting;
}

static void give_up_waiting(Relay *relay, Waiting *waiting, const char *reason)
{
    g_autoptr(GError) why = g_error_new_literal(HELLO_ERROR, HELLO_ERROR_QEMU, reason);
    guint16 number = waiting->number;

    if (waiting->link)
        relay_refuse_link(relay, g_steal_pointer(&waiting->link), why);
    g_ptr_array_remove(relay->disks.waiting, waiting);
    report(relay, RELAY_REPORT_DISKS_ENDED, number, reason);
}

void relay_refuse_disks(Relay *relay, RelayCommand *command)
{
    Waiting *waiting = want_waiting(relay, command);

    if (!waiting)
        return;
    give_up_waiting(relay, waiting, command->text);
    relay_reply(relay, command->call, NULL);
}

gint64 relay_disks_due(const Relay *relay)
{
    gint64 due = G_MAXINT64;

    for (guint i = 0; i < relay->disks.waiting->len; i++) {
        const Waiting *waiting = relay->disks.waiting->pdata[i];

        due = MIN(due, waiting->deadline_us);
    }
    return due;
}

void relay_turn_disks(Relay *relay)
{
    gint64 now_us = g_get_monotonic_time();

    /* Backwards: one that leaves takes its place with it. */
    for (guint i = relay->disks.waiting->len; i-- > 0;) {
        Waiting *waiting = relay->disks.waiting->pdata[i];

        if (waiting->deadline_us <= now_us)
            give_up_waiting(relay, waiting, _("its other end was not there in time"));
    }
}

/* ---- those that have a thread; the handlers are called in it ---- */

static void on_opened(DiskChannel *disk, const Link *link, gpointer data)
{
    relay_report_channel_up(data, link, CHANNEL_DISKS, 0);
}

static void on_ended(DiskChannel *disk, gpointer data)
{
    relay_command(data, RELAY_DISKS_ENDED, -1, NULL, disk);
}

static const DiskChannelHandlers handlers = { .opened = on_opened, .ended = on_ended };

/* Takes link and fd. */
static gboolean start(Relay *relay, guint16 number, Link *link, int fd, GError **error)
{
    DiskChannelConfig config = {
        .side = relay->side,
        .features = session_features(relay->session),
        .window = relay->window,
        .number = number,
        .handshake_ms = relay->timeouts.handshake_ms,
        .answer_ms = relay->timeouts.hello_ack_ms,
    };
    DiskChannel *disk;

    memcpy(config.session, relay->id, sizeof config.session);
    memcpy(config.key, relay->key, sizeof config.key);
    disk = disk_channel_new(&config, link, fd, &handlers, relay, error);
    explicit_bzero(&config, sizeof config);
    if (!disk)
        return FALSE;
    g_ptr_array_add(relay->disks.channels, disk);
    relay->disks.opened++;
    return TRUE;
}

void relay_disks_ended(Relay *relay, gpointer channel)
{
    RelayDisks *disks = &relay->disks;
    DiskChannel *disk = channel;
    guint64 sent, received;

    disk_channel_wire_bytes(disk, &sent, &received);
    disks->wire_sent += sent;
    disks->wire_received += received;
    report(relay, RELAY_REPORT_DISKS_ENDED, disk_channel_number(disk), disk_channel_reason(disk));
    g_ptr_array_remove(disks->channels, disk);
}

/* Takes link and fd. */
static void start_or_tell(Relay *relay, guint16 number, Link *link, int fd, gpointer call)
{
    GError *error = NULL;

    if (start(relay, number, link, fd, &error)) {
        relay_reply(relay, call, NULL);
        return;
    }
    report(relay, RELAY_REPORT_DISKS_ENDED, number, error->message);
    relay_reply(relay, call, g_error_new_literal(JOB_ERROR, JOB_ERROR_FAILED, error->message));
    g_error_free(error);
}

/* ---- source ---- */

void relay_listen_disks(Relay *relay, RelayCommand *command)
{
    if (relay->disks.listen_fd >= 0 || !relay_carries_disks(relay)) {
        relay_reply(relay, command->call,
                    relay_wrong_state(relay, _("disks cannot be listened for")));
        return;
    }
    relay->disks.listen_fd = autofd_steal(&command->fd);
    relay_reply(relay, command->call, NULL);
}

static gboolean is_used(const Relay *relay, guint16 number)
{
    for (guint i = 0; i < relay->disks.channels->len; i++) {
        if (disk_channel_number(relay->disks.channels->pdata[i]) == number)
            return TRUE;
    }
    return find_waiting(relay, number) != NULL;
}

/* There are fewer connections than numbers. */
static guint16 next_number(Relay *relay)
{
    do {
        relay->disks.last_number++;
    } while (relay->disks.last_number == 0 || is_used(relay, relay->disks.last_number));
    return relay->disks.last_number;
}

void relay_accept_disks(Relay *relay)
{
    autofd fd = accept4(relay->disks.listen_fd, NULL, NULL, SOCK_CLOEXEC);
    g_autofree char *reason = NULL;

    if (fd >= 0 && !is_full(relay)) {
        begin_waiting(relay, next_number(relay), autofd_steal(&fd), NULL);
        return;
    }
    if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
        return;
    /* Whoever waits for its disk there is better told. */
    reason = fd < 0 ? g_strdup_printf(_("QEMU's disk connection cannot be accepted: %s"),
                                      g_strerror(errno))
                    : g_strdup_printf(_("%d disk connections are open already"), RELAY_DISKS_MAX);
    if (fd < 0)
        autofd_clear(&relay->disks.listen_fd);
    report(relay, RELAY_REPORT_DISKS_ENDED, 0, reason);
}

void relay_connect_disks(Relay *relay, RelayCommand *command)
{
    Waiting *waiting = want_waiting(relay, command);
    g_autoptr(GError) error = NULL;
    Link *link;
    int fd;

    if (!waiting)
        return;
    link = relay_dial(relay, command, NULL, &error);
    if (!link) {
        give_up_waiting(relay, waiting, error->message);
        relay_reply(relay, command->call,
                    g_error_new_literal(JOB_ERROR, JOB_ERROR_TLS, error->message));
        return;
    }
    fd = autofd_steal(&waiting->fd);
    g_ptr_array_remove(relay->disks.waiting, waiting);
    start_or_tell(relay, command->number, link, fd, command->call);
}

/* ---- destination ---- */

gboolean relay_judge_disks(Relay *relay, Link *link, const HelloBody *hello, GError **error)
{
    guint64 features = session_features(relay->session);
    guint8 proof[HELLO_PROOF_LEN];
    gboolean good;

    if (!hello_judge(hello, relay->id, CHANNEL_DISKS, hello->channel, error))
        return FALSE;
    if (hello->channel == 0 || is_full(relay)) {
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_KIND,
                    hello->channel == 0
                        ? _("channel number 0 is not offered, those of disks channels begin at 1")
                        : _("no other disks channel is offered: too many are open"));
        return FALSE;
    }
    if ((hello->features & features) != features || hello->resume) {
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_PROTOCOL,
                    hello->resume ? _("HELLO resumes what was not agreed on")
                                  : _("HELLO features are not those of the main channel"));
        return FALSE;
    }
    if (!channel_proof(relay->key, link->channel, CHANNEL_DISKS, hello->channel, proof, error))
        return FALSE;
    good = hello_auth_equal(hello, proof);
    explicit_bzero(proof, sizeof proof);
    if (!good)
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_TOKEN, _("wrong proof"));
    else if (is_used(relay, hello->channel))
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_TOKEN_USED,
                    _("the session has its disks channel %u"), hello->channel);
    return good && !is_used(relay, hello->channel);
}

void relay_take_disks(Relay *relay, Link *link, guint16 number)
{
    begin_waiting(relay, number, -1, link);
}

void relay_attach_disks(Relay *relay, RelayCommand *command)
{
    Waiting *waiting = want_waiting(relay, command);
    Link *link;

    if (!waiting)
        return;
    link = g_steal_pointer(&waiting->link);
    g_ptr_array_remove(relay->disks.waiting, waiting);
    start_or_tell(relay, command->number, link, autofd_steal(&command->fd), command->call);
}
