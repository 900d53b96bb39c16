/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the process is asked, one after the other. */
#include "config.h"

#include "client/client_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void client_drop_deferred(PostcopyClient *client)
{
    Deferred *next;

    for (Deferred *d = client->deferred; d; d = next) {
        next = d->next;
        free(d);
    }
    client->deferred = NULL;
    client->deferred_tail = &client->deferred;
}

/* A spare, that checkpoints are loaded into. */
static bool follows(const PostcopyClient *client)
{
    return client->side == POSTCOPY_DESTINATION && client->params.checkpoints;
}

/* ---- answers ---- */

/* Nobody may be there any more. What the helper said before it went is still to be read, and then
 * that it has gone: that decides what becomes of the guest. */
static int tell_if_there(PostcopyClient *client, HandoverMessage *message, const int *fds)
{
    int ret = client_tell(client, message, fds);

    return ret == -EPIPE || ret == -ECONNRESET ? 0 : ret;
}

static int answer(PostcopyClient *client, uint16_t type, const int *fds)
{
    HandoverMessage message = { .type = type };
    int ret = tell_if_there(client, &message, fds);

    return ret < 0 ? client_fail(client, -ret, "%s: %s", handover_type_name(type), strerror(-ret))
                   : 0;
}

/* Something here went wrong: the helper is told, and will say the end. Keeps the sentence. */
static void tell_failure(PostcopyClient *client, int failure)
{
    HandoverMessage message = { .type = HANDOVER_FAILED };

    client->failure = failure;
    message.text = client_line(client->error);
    client_tell(client, &message, NULL);
}

static int callback_failed(PostcopyClient *client, const char *which, int ret)
{
    return client_fail(client, -ret, "%s: %s", which, strerror(-ret));
}

static int send_state(PostcopyClient *client, const uint8_t *state, size_t len)
{
    HandoverMessage message = { .type = HANDOVER_DEVICE };
    size_t piece;
    int ret;

    if (len > POSTCOPY_STATE_MAX)
        return client_fail(client, EMSGSIZE, "A state of %zu bytes: more than %d", len,
                           POSTCOPY_STATE_MAX);
    ret = answer(client, HANDOVER_PAUSED, NULL);
    do {
        piece = len < HANDOVER_DEVICE_PIECE_MAX ? len : HANDOVER_DEVICE_PIECE_MAX;
        message.device.last = piece == len;
        message.device.bytes = state;
        message.device.len = piece;
        if (ret == 0)
            ret = tell_if_there(client, &message, NULL);
        len -= piece;
        if (len > 0)
            state += piece;
    } while (len > 0 && ret == 0);
    return ret < 0 ? client_fail(client, -ret, "The state cannot be sent: %s", strerror(-ret)) : 0;
}

/* ---- requests ---- */

static int prepare(PostcopyClient *client)
{
    int ret = client->callbacks.prepare ? client->callbacks.prepare(client->data) : 0;

    if (ret < 0)
        return callback_failed(client, "prepare", ret);
    if (client->side == POSTCOPY_DESTINATION) {
        ret = client_prepare_mappings(client);
        if (ret == 0 && follows(client))
            ret = client_register_write_protection(client);
        else if (ret == 0 && client->params.postcopy)
            ret = client_check_missing(client);
    } else if (!client_has_own_log(client)) {
        ret = client_register_write_protection(client);
    } else {
        ret = client->callbacks.log_start(client->data);
        if (ret < 0)
            callback_failed(client, "log_start", ret);
        client->log_is_on = ret >= 0;
    }
    return ret < 0 ? ret : answer(client, HANDOVER_ADVISED, NULL);
}

static int pause_guest(PostcopyClient *client)
{
    const void *state = NULL;
    size_t len = 0;
    int ret;

    client->is_paused = true;
    ret = client->callbacks.pause(client->data, &state, &len);
    if (ret < 0)
        return callback_failed(client, "pause", ret);
    if (ret == POSTCOPY_LATER) {
        client->owes = HANDOVER_PAUSE;
        return 0;
    }
    return send_state(client, state, len);
}

/* Until run or resume. */
static int stop_guest(PostcopyClient *client)
{
    int ret;

    if (!follows(client))
        return client_fail(client, EPROTO, "PAUSE is not for a destination without checkpoints");
    client->runs = false;
    ret = client->callbacks.stop(client->data);
    if (ret < 0)
        return callback_failed(client, "stop", ret);
    if (ret == POSTCOPY_LATER) {
        client->owes = HANDOVER_PAUSE;
        return 0;
    }
    return answer(client, HANDOVER_PAUSED, NULL);
}

static void resume_spare(PostcopyClient *client, const char *reason)
{
    if (!follows(client) || client->runs)
        return;
    client->runs = true;
    client->callbacks.resume(client->data, reason);
}

/* Whoever is not answered has not let it run there: then it is still ours. */
static int give_up_guest(PostcopyClient *client)
{
    HandoverMessage message = { .type = HANDOVER_GIVEN_UP };
    int ret;

    client->may_not_run = true;
    ret = client_tell(client, &message, NULL);
    if (ret < 0)
        client->may_not_run = false;
    if (ret == 0 || ret == -EPIPE || ret == -ECONNRESET)
        return 0;
    return client_fail(client, -ret, "GIVEN_UP: %s", strerror(-ret));
}

static void resume_guest(PostcopyClient *client, const char *reason)
{
    if (!client->is_paused || client->may_not_run)
        return;
    client->is_paused = false;
    client->callbacks.resume(client->data, reason);
}

static int sync_log(PostcopyClient *client)
{
    uint64_t pages;
    int ret;

    if (!client->log_is_on)
        return client_fail(client, EPROTO, "LOG_SYNC, and there is no log");
    for (unsigned i = 0; i < client->n_regions; i++) {
        uint64_t *bitmap = client->bitmaps + client_bitmap_at(client, i, &pages);

        if (client->regions[i].flags & POSTCOPY_REGION_IGNORED)
            continue;
        ret = client->callbacks.log_sync(client->data, i, bitmap, pages);
        if (ret < 0)
            return callback_failed(client, "log_sync", ret);
    }
    return answer(client, HANDOVER_SYNCED, NULL);
}

static int discard(PostcopyClient *client)
{
    const HandoverMessage *m = client->message;
    int ret = client->side == POSTCOPY_DESTINATION ? client_expect_missing(client) : 0;

    for (unsigned i = 0; i < m->ranges.n && ret == 0; i++)
        ret = client_discard(client, m->ranges.block, m->ranges.ranges[i].start,
                             m->ranges.ranges[i].length);
    return ret < 0 ? ret : answer(client, HANDOVER_DISCARDED, NULL);
}

static int listen_for_faults(PostcopyClient *client)
{
    int ret = client_expect_missing(client);

    if (ret == 0)
        ret = client_register_missing(client);
    return ret < 0 ? ret : answer(client, HANDOVER_LISTENING, &client->uffd);
}

static int append_state(PostcopyClient *client)
{
    size_t len = client->message->device.len;
    uint8_t *more;

    /* The next checkpoint's. */
    if (client->state_is_loaded)
        client->state_len = 0;
    client->state_is_loaded = false;
    if (len > POSTCOPY_STATE_MAX - client->state_len)
        return client_fail(client, EMSGSIZE, "A state of more than %d bytes", POSTCOPY_STATE_MAX);
    more = realloc(client->state, client->state_len + len + 1);
    if (!more)
        return client_fail(client, ENOMEM, "Out of memory");
    client->state = more;
    if (len > 0)
        memcpy(more + client->state_len, client->message->device.bytes, len);
    client->state_len += len;
    return 0;
}

static int run_guest(PostcopyClient *client)
{
    int ret;

    client->runs = client->state_is_loaded = true;
    ret = client->callbacks.run(client->data, client->state, client->state_len);
    if (ret < 0) {
        client->runs = false;
        return callback_failed(client, "run", ret);
    }
    if (ret == POSTCOPY_LATER) {
        client->owes = HANDOVER_RUN;
        return 0;
    }
    return answer(client, HANDOVER_RUNNING, NULL);
}

static void say_state(PostcopyClient *client)
{
    char name[HANDOVER_TEXT_MAX + 1];

    if (!client->callbacks.state)
        return;
    memcpy(name, client->message->text.bytes, client->message->text.len);
    name[client->message->text.len] = '\0';
    client->callbacks.state(client->data, name);
}

static void throttle(PostcopyClient *client, unsigned percent)
{
    if (client->callbacks.throttle)
        client->callbacks.throttle(client->data, percent);
}

/* ---- the end ---- */

/* The guest is, or may be, the destination's: from there it cannot be called back. */
static bool has_moved(const PostcopyClient *client)
{
    return client->side == POSTCOPY_SOURCE ? client->may_not_run : client->runs;
}

/* No page is missing any more. A guest that has all of its memory runs on whatever comes of this;
 * what a migration failed of is said rather than this. */
static void put_memory_back(PostcopyClient *client)
{
    char text[sizeof client->error];

    client_unregister(client);
    memcpy(text, client->error, sizeof text);
    if (client_restore_mappings(client) < 0 && text[0] != '\0')
        memcpy(client->error, text, sizeof text);
}

/* text: one that survives client->error. */
static void end(PostcopyClient *client, PostcopyOutcome outcome, const char *text)
{
    bool was_source = client->side == POSTCOPY_SOURCE;

    /* A recovery that failed can be tried again. A spare has all of its memory, and the source of
     * one has given the guest up. */
    if (outcome != POSTCOPY_COMPLETED && has_moved(client) && !follows(client))
        outcome = client->params.checkpoints ? POSTCOPY_COMPLETED : POSTCOPY_PAUSED;
    else if (outcome == POSTCOPY_PAUSED && !was_source && !follows(client))
        outcome = POSTCOPY_FAILED; /* RUN has not come, or run has failed: nothing to recover */
    client->owes_run_still = client->owes == HANDOVER_RUN;
    client_close(client);
    client->outcome = outcome;
    if (client->failure == 0)
        client_fail(client, 0, "%s", outcome != POSTCOPY_COMPLETED ? text : "");
    if (client->log_is_on && client_has_own_log(client))
        client->callbacks.log_stop(client->data);
    client->log_is_on = false;
    client->owes = 0;
    client_drop_deferred(client);
    if (was_source || outcome != POSTCOPY_PAUSED)
        put_memory_back(client);
    if (was_source && (outcome == POSTCOPY_FAILED || outcome == POSTCOPY_CANCELLED))
        resume_guest(client, text);
}

EXPORT int postcopy_client_take_back(PostcopyClient *client)
{
    if (client->fd >= 0 || client->side != POSTCOPY_SOURCE || client->outcome != POSTCOPY_PAUSED)
        return client_fail(client, EINVAL, "Only a source that is paused takes its guest back");
    client->may_not_run = false;
    client->outcome = POSTCOPY_FAILED;
    resume_guest(client, "The destination has no guest");
    return 0;
}

static void end_as_told(PostcopyClient *client)
{
    char text[HANDOVER_TEXT_MAX + 1];

    memcpy(text, client->message->end.text.bytes, client->message->end.text.len);
    text[client->message->end.text.len] = '\0';
    end(client, (PostcopyOutcome)(POSTCOPY_COMPLETED + client->message->end.outcome), text);
}

/* Nobody says what has become of it; so it is what is safe. */
static void end_alone(PostcopyClient *client, int why)
{
    char text[sizeof client->error];

    memcpy(text, client->error, sizeof text);
    if (client->failure == 0 && !has_moved(client))
        client->failure = why;
    end(client, follows(client) && client->runs ? POSTCOPY_FAILED_OVER : POSTCOPY_FAILED, text);
}

/* ---- dispatching ---- */

static void carry_out_resume(PostcopyClient *client)
{
    char reason[HANDOVER_TEXT_MAX + 1];

    memcpy(reason, client->message->text.bytes, client->message->text.len);
    reason[client->message->text.len] = '\0';
    if (client->side == POSTCOPY_SOURCE) {
        /* The helper knows: the other host was not told to run it. */
        client->may_not_run = false;
        resume_guest(client, reason);
    } else
        resume_spare(client, reason);
}

static int carry_out_as_source(PostcopyClient *client)
{
    switch (client->message->type) {
    case HANDOVER_PAUSE:
        return pause_guest(client);
    case HANDOVER_THROTTLE:
        throttle(client, client->message->percent);
        return 0;
    case HANDOVER_RESUME:
        carry_out_resume(client);
        return 0;
    case HANDOVER_LOG_SYNC:
        return sync_log(client);
    case HANDOVER_NO_RETURN:
        return give_up_guest(client);
    default:
        return client_fail(client, EPROTO, "%s is not for a source",
                           handover_type_name(client->message->type));
    }
}

static int carry_out_as_destination(PostcopyClient *client)
{
    switch (client->message->type) {
    case HANDOVER_LISTEN:
        return listen_for_faults(client);
    case HANDOVER_DEVICE:
        return append_state(client);
    case HANDOVER_RUN:
        return run_guest(client);
    case HANDOVER_PAUSE:
        return stop_guest(client);
    case HANDOVER_RESUME:
        carry_out_resume(client);
        return 0;
    default:
        return client_fail(client, EPROTO, "%s is not for a destination",
                           handover_type_name(client->message->type));
    }
}

static int carry_out(PostcopyClient *client)
{
    switch (client->message->type) {
    case HANDOVER_END:
        end_as_told(client);
        return 0;
    case HANDOVER_STATE:
        say_state(client);
        return 0;
    case HANDOVER_ADVISE:
        return prepare(client);
    case HANDOVER_DISCARD:
        return discard(client);
    default:
        return client->side == POSTCOPY_SOURCE ? carry_out_as_source(client)
                                               : carry_out_as_destination(client);
    }
}

/* After a failure only the end is of interest, and that the guest goes on; that it is given up is
 * not answered any more. */
static void carry_out_or_fail(PostcopyClient *client)
{
    int ret;

    if (client->failure < 0 && client->message->type != HANDOVER_END &&
        (client->message->type != HANDOVER_RESUME || client->side != POSTCOPY_SOURCE))
        return;
    ret = carry_out(client);
    if (ret < 0 && client->fd >= 0)
        tell_failure(client, ret);
}

static int defer(PostcopyClient *client, size_t len)
{
    Deferred *d = malloc(sizeof *d + len);

    if (!d)
        return client_fail(client, ENOMEM, "Out of memory");
    d->next = NULL;
    d->len = len;
    memcpy(d->bytes, client->bytes, len);
    *client->deferred_tail = d;
    client->deferred_tail = &d->next;
    return 0;
}

static void carry_out_deferred(PostcopyClient *client)
{
    char problem[HANDOVER_ERROR_MAX];
    Deferred *d;

    while (client->fd >= 0 && client->deferred && !client->owes) {
        d = client->deferred;
        client->deferred = d->next;
        if (!client->deferred)
            client->deferred_tail = &client->deferred;
        memcpy(client->bytes, d->bytes, d->len);
        /* It was decoded when it came. */
        if (handover_decode(client->bytes, d->len, 0, client->message, problem))
            carry_out_or_fail(client);
        free(d);
    }
}

EXPORT int postcopy_client_dispatch(PostcopyClient *client)
{
    size_t len;
    int ret;

    while (client->fd >= 0) {
        ret = client_receive(client, 0, &len);
        if (ret == 0)
            return 1;
        if (ret > 0 && client->owes)
            ret = defer(client, len);
        else if (ret > 0)
            carry_out_or_fail(client);
        if (ret < 0)
            end_alone(client, ret);
    }
    return client->failure;
}

EXPORT int postcopy_client_run(PostcopyClient *client)
{
    int ret;

    while ((ret = postcopy_client_dispatch(client)) == 1)
        if (client_wait(client, -1) < 0)
            return -errno;
    return ret;
}

/* The connection ended while the guest was being made to run; there may be another one, for a
 * recovery, that has an end now as well. */
static int run_failed_late(PostcopyClient *client, int result)
{
    int ret = callback_failed(client, "run", result);

    client->runs = false;
    if (client->fd >= 0) {
        tell_failure(client, ret);
        return ret;
    }
    client->outcome = POSTCOPY_FAILED;
    put_memory_back(client);
    return -ENOTCONN;
}

EXPORT int postcopy_client_answer(PostcopyClient *client, int result, const void *state,
                                  size_t len)
{
    uint16_t owed = client->owes;
    int ret;

    if (client->owes_run_still && !owed) {
        client->owes_run_still = false;
        return result < 0 ? run_failed_late(client, result) : client->fd < 0 ? -ENOTCONN : 0;
    }
    if (client->fd < 0)
        return -ENOTCONN;
    if (!owed)
        return client_fail(client, EINVAL, "No answer is owed");
    client->owes = 0;
    if (result < 0) {
        client->runs = false;
        ret = callback_failed(client, owed == HANDOVER_PAUSE ? "pause" : "run", result);
    } else if (owed == HANDOVER_PAUSE && client->side == POSTCOPY_DESTINATION)
        ret = answer(client, HANDOVER_PAUSED, NULL);
    else if (owed == HANDOVER_PAUSE)
        ret = send_state(client, state, len);
    else
        ret = answer(client, HANDOVER_RUNNING, NULL);
    if (ret < 0)
        tell_failure(client, ret);
    carry_out_deferred(client);
    return ret;
}
