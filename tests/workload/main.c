/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A memory client for the tests: a process with threads that use its memory, moved from one of
 * these to another by libpostcopy-client. It takes commands on standard input, a line each, and
 * says what happens on standard output (tests/workload/say.h); tests/e2e/workload.py drives two of
 * them. */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/workload/commands.h"
#include "tests/workload/say.h"

/* ---- what the library asks ---- */

static void on_state(void *data, const char *name)
{
    (void)data;
    say("state", "name", name);
}

static int on_pause(void *data, const void **ret_state, size_t *ret_len)
{
    World *world = data;
    gsize len;

    guest_pause(world->guest);
    g_clear_pointer(&world->saved, g_bytes_unref);
    world->saved = guest_save(world->guest, world->options.hashes);
    *ret_state = g_bytes_get_data(world->saved, &len);
    *ret_len = len;
    say("paused", NULL, NULL);
    return 0;
}

static void on_resume(void *data, const char *reason)
{
    World *world = data;

    say("resumed", "reason", reason);
    if (!world->options.idle || world->options.side == POSTCOPY_DESTINATION)
        guest_run(world->guest);
}

static void on_throttle(void *data, unsigned percent)
{
    World *world = data;
    JsonBuilder *line = say_begin("throttle");

    say_number(line, "percent", percent);
    say_end(line);
    guest_throttle(world->guest, percent);
}

static int on_log_start(void *data)
{
    guest_log_start(((World *)data)->guest);
    return 0;
}

static int on_log_sync(void *data, unsigned region, uint64_t *bitmap, uint64_t n_pages)
{
    guest_log_sync(((World *)data)->guest, region, bitmap, n_pages);
    return 0;
}

static void on_log_stop(void *data)
{
    (void)data;
}

/* Whoever waits by then is one of them already. */
static int tell_threads(World *world)
{
    guint n;
    g_autofree guint32 *ids = guest_get_threads(world->guest, &n);

    return postcopy_client_set_vcpus(world->client, ids, n);
}

static int on_run(void *data, const void *state, size_t len)
{
    World *world = data;
    g_autoptr(GError) error = NULL;
    int ret;

    if (!guest_load(world->guest, state, len, &error)) {
        say("broken", "reason", error->message);
        return -EINVAL;
    }
    guest_run(world->guest);
    say("running", NULL, NULL);
    ret = tell_threads(world);
    /* The helper is gone: dispatch says what that means. */
    return ret == -EPIPE || ret == -ECONNRESET || ret == -ENOTCONN ? 0 : ret;
}

/* What follows by checkpoints is stopped for each. */
static int on_stop(void *data)
{
    guest_pause(((World *)data)->guest);
    say("stopped", NULL, NULL);
    return 0;
}

static PostcopyClient *make_client(World *world)
{
    PostcopyCallbacks callbacks = {
        .size = sizeof(callbacks),
        .state = on_state,
        .pause = on_pause,
        .resume = on_resume,
        .throttle = on_throttle,
        .run = on_run,
        .stop = on_stop,
    };

    if (world->options.own_log) {
        callbacks.log_start = on_log_start;
        callbacks.log_sync = on_log_sync;
        callbacks.log_stop = on_log_stop;
    }
    return postcopy_client_new(world->options.side, world->options.name, &callbacks, world);
}

static gboolean add_regions(World *world)
{
    const Options *options = &world->options;

    for (guint i = 0; i < options->memory->regions->len; i++) {
        const Region *region = memory_region(options->memory, i);
        const PostcopyRegion told = { .name = region->name,
                                      .address = region->address,
                                      .length = region->length,
                                      .page_size = region->page_size,
                                      .flags = g_array_index(options->region_flags, uint32_t, i),
                                      .fd = region->fd };

        if (postcopy_client_add_region(world->client, &told) < 0)
            return FALSE;
    }
    for (guint i = 0; options->settings && options->settings[i]; i++)
        if (!commands_set(world, options->settings[i]))
            return FALSE;
    return TRUE;
}

/* ---- its loop ---- */

static void dispatch(World *world)
{
    static const char *const outcomes[] = { "running", "completed", "failed", "cancelled",
                                            "paused", "failed-over" };
    int result = postcopy_client_dispatch(world->client);
    JsonBuilder *line;

    if (result > 0)
        return;
    world->connected = FALSE;
    line = say_begin("ended");
    say_text(line, "outcome", outcomes[postcopy_client_outcome(world->client)]);
    say_text(line, "error", postcopy_client_error(world->client));
    say_number(line, "result", (guint64)-(gint64)result);
    say_end(line);
}

static void loop(World *world)
{
    gboolean goes_on = TRUE;

    while (goes_on) {
        struct pollfd fds[2] = { { .fd = STDIN_FILENO, .events = POLLIN },
                                 { .fd = world->connected ? postcopy_client_fd(world->client) : -1,
                                   .events = POLLIN } };

        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return;
        if (fds[1].revents != 0)
            dispatch(world);
        if (fds[0].revents != 0)
            goes_on = commands_read(world);
    }
}

int main(int argc, char **argv)
{
    World world = { 0 };
    g_autoptr(GError) error = NULL;

    if (!options_parse(argc, argv, &world.options, &error)) {
        fprintf(stderr, "workload: %s\n", error->message);
        return 2;
    }
    world.guest = guest_new(&world.options.guest, world.options.memory);
    world.client = make_client(&world);
    if (!world.client || !add_regions(&world)) {
        fprintf(stderr, "workload: %s\n",
                world.client ? postcopy_client_error(world.client) : "no client");
        return 1;
    }
    if (world.options.side == POSTCOPY_SOURCE) {
        guest_fill(world.guest);
        if (!world.options.idle)
            guest_run(world.guest);
    }
    say("ready", NULL, NULL);
    loop(&world);
    /* Threads may wait for memory that never comes: nothing is waited for, or cleaned up. */
    _exit(0);
}
