/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/workload/commands.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/workload/say.h"

static void answer(World *world, int result)
{
    if (result >= 0)
        say("done", NULL, NULL);
    else
        say("error", "reason", postcopy_client_error(world->client));
}

/* ---- the migration ---- */

static void do_connect(World *world, char **words)
{
    const char *socket = world->options.socket;
    JsonBuilder *line;

    if (postcopy_client_connect(world->client, socket, words[1]) < 0) {
        say("refused", "reason", postcopy_client_error(world->client));
        return;
    }
    world->connected = TRUE;
    line = say_begin("connected");
    say_text(line, "uri", postcopy_client_uri(world->client));
    say_text(line, "session", postcopy_client_session(world->client));
    say_end(line);
}

static void do_start_postcopy(World *world, char **words)
{
    (void)words;
    answer(world, postcopy_client_start_postcopy(world->client));
}

static void do_continue(World *world, char **words)
{
    (void)words;
    answer(world, postcopy_client_continue(world->client));
}

static void do_cancel(World *world, char **words)
{
    (void)words;
    answer(world, postcopy_client_cancel(world->client));
}

static void do_checkpoint(World *world, char **words)
{
    (void)words;
    answer(world, postcopy_client_checkpoint(world->client));
}

static void do_failover(World *world, char **words)
{
    (void)words;
    answer(world, postcopy_client_failover(world->client));
}

static void do_fail(World *world, char **words)
{
    answer(world, postcopy_client_fail(world->client, words[1] ? words[1] : "no reason"));
}

gboolean commands_set(World *world, const char *assignment)
{
    static const struct {
        const char *name;
        PostcopyOption option;
    } known[] = {
        { "max-bandwidth", POSTCOPY_MAX_BANDWIDTH },
        { "max-postcopy-bandwidth", POSTCOPY_MAX_POSTCOPY_BANDWIDTH },
        { "downtime-limit", POSTCOPY_DOWNTIME_LIMIT },
        { "allowed", POSTCOPY_ALLOWED },
        { "pause-before-switchover", POSTCOPY_PAUSE_BEFORE_SWITCHOVER },
        { "auto-converge", POSTCOPY_AUTO_CONVERGE },
        { "throttle-initial", POSTCOPY_THROTTLE_INITIAL },
        { "throttle-increment", POSTCOPY_THROTTLE_INCREMENT },
        { "throttle-max", POSTCOPY_THROTTLE_MAX },
        { "release-ram", POSTCOPY_RELEASE_RAM },
        { "xbzrle-cache", POSTCOPY_XBZRLE_CACHE },
        { "bulk-channels", POSTCOPY_BULK_CHANNELS },
        { "compress", POSTCOPY_COMPRESS },
        { "user-faults-only", POSTCOPY_USER_FAULTS_ONLY },
        { "checkpoints", POSTCOPY_CHECKPOINTS },
        { "checkpoint-interval", POSTCOPY_CHECKPOINT_INTERVAL },
    };
    g_auto(GStrv) words = g_strsplit(assignment, "=", 2);
    guint64 value;

    for (guint i = 0; words[0] && words[1] && i < G_N_ELEMENTS(known); i++) {
        if (strcmp(words[0], known[i].name) != 0 ||
            !g_ascii_string_to_unsigned(words[1], 10, 0, G_MAXUINT64, &value, NULL))
            continue;
        if (postcopy_client_set(world->client, known[i].option, value) >= 0)
            return TRUE;
    }
    say("error", "reason", assignment);
    return FALSE;
}

static void do_set(World *world, char **words)
{
    if (words[1] && commands_set(world, words[1]))
        say("done", NULL, NULL);
}

/* ---- memory ---- */

typedef struct {
    guint region;
    guint64 start;
    guint64 length;
    guint8 *at;
} Piece;

/* "REGION START LENGTH": bytes, whole pages. */
static gboolean piece_of(World *world, char **words, Piece *ret_piece)
{
    const Region *region;
    guint64 index;

    if (g_strv_length(words) == 4 &&
        g_ascii_string_to_unsigned(words[1], 10, 0, world->options.memory->regions->len - 1,
                                   &index, NULL)) {
        region = memory_region(world->options.memory, (guint)index);
        ret_piece->region = (guint)index;
        if (g_ascii_string_to_unsigned(words[2], 10, 0, region->length, &ret_piece->start, NULL) &&
            g_ascii_string_to_unsigned(words[3], 10, 1, region->length - ret_piece->start,
                                       &ret_piece->length, NULL) &&
            (ret_piece->start | ret_piece->length) % CONTENTS_PAGE == 0) {
            ret_piece->at = region->address + ret_piece->start;
            return TRUE;
        }
    }
    say("error", "reason", "say REGION START LENGTH, within the region and whole pages");
    return FALSE;
}

static void exclude(World *world, const Piece *piece)
{
    const Region *region = memory_region(world->options.memory, piece->region);

    guest_exclude(world->guest, region->first_page + piece->start / CONTENTS_PAGE,
                  piece->length / CONTENTS_PAGE);
}

static void do_hint(World *world, char **words)
{
    Piece piece;

    if (!piece_of(world, words, &piece))
        return;
    exclude(world, &piece);
    answer(world, postcopy_client_free_hint(world->client, piece.region, piece.start,
                                            piece.length));
}

static void done_or_errno(int result)
{
    if (result == 0)
        say("done", NULL, NULL);
    else
        say("error", "reason", g_strerror(errno));
}

static void do_unmap(World *world, char **words)
{
    Piece piece;

    if (!piece_of(world, words, &piece))
        return;
    exclude(world, &piece);
    done_or_errno(munmap(piece.at, piece.length));
}

static void do_forget(World *world, char **words)
{
    Piece piece;

    if (!piece_of(world, words, &piece))
        return;
    exclude(world, &piece);
    done_or_errno(madvise(piece.at, piece.length,
                          memory_region(world->options.memory, piece.region)->fd < 0
                              ? MADV_DONTNEED : MADV_REMOVE));
}

static gpointer touch_main(gpointer data)
{
    Piece *piece = data;
    guint64 zeros = 0;
    JsonBuilder *line;

    for (guint64 at = 0; at < piece->length; at += CONTENTS_PAGE)
        zeros += __atomic_load_n(piece->at + at, __ATOMIC_RELAXED) == 0;
    line = say_begin("touched");
    say_number(line, "pages", piece->length / CONTENTS_PAGE);
    say_number(line, "zeros", zeros);
    say_end(line);
    g_free(piece);
    return NULL;
}

static void do_touch(World *world, char **words)
{
    g_autofree Piece *piece = g_new(Piece, 1);

    if (piece_of(world, words, piece))
        g_thread_unref(g_thread_new("touch", touch_main, g_steal_pointer(&piece)));
}

/* ---- the guest ---- */

static void do_stop(World *world, char **words)
{
    (void)words;
    guest_pause(world->guest);
    say("done", NULL, NULL);
}

static void do_go(World *world, char **words)
{
    (void)words;
    guest_run(world->guest);
    say("done", NULL, NULL);
}

static void do_verify(World *world, char **words)
{
    gboolean ran = guest_is_running(world->guest);
    GuestVerdict verdict;
    JsonBuilder *line;

    (void)words;
    guest_pause(world->guest);
    guest_verify(world->guest, &verdict);
    line = say_begin("verified");
    say_number(line, "pages", verdict.pages);
    say_number(line, "unwritten", verdict.unwritten);
    say_number(line, "bad", verdict.bad);
    say_text(line, "first-bad", verdict.first_bad);
    say_end(line);
    g_free(verdict.first_bad);
    if (ran)
        guest_run(world->guest);
}

static void do_stats(World *world, char **words)
{
    JsonBuilder *line = say_begin("stats");
    GuestProgress progress;

    (void)words;
    guest_get_progress(world->guest, &progress);
    say_number(line, "touches", progress.touches);
    say_number(line, "writes", progress.writes);
    say_number(line, "bad", progress.bad);
    say_number(line, "stalls", progress.stalls.count);
    say_number(line, "stall-sum-ns", progress.stalls.sum_ns);
    say_number(line, "stall-p50-ns", stalls_percentile(&progress.stalls, 0.5));
    say_number(line, "stall-p90-ns", stalls_percentile(&progress.stalls, 0.9));
    say_number(line, "stall-p99-ns", stalls_percentile(&progress.stalls, 0.99));
    say_number(line, "stall-max-ns", progress.stalls.max_ns);
    say_end(line);
}

/* ---- lines ---- */

typedef struct {
    const char *name;
    void (*run)(World *world, char **words);
    gint words; /* at most; the last one goes to the end of the line */
} Command;

static const Command commands[] = {
    { "connect", do_connect, 2 },
    { "start-postcopy", do_start_postcopy, 1 },
    { "continue", do_continue, 1 },
    { "cancel", do_cancel, 1 },
    { "fail", do_fail, 2 },
    { "checkpoint", do_checkpoint, 1 },
    { "failover", do_failover, 1 },
    { "set", do_set, 2 },
    { "hint", do_hint, 4 },
    { "stop", do_stop, 1 },
    { "go", do_go, 1 },
    { "verify", do_verify, 1 },
    { "stats", do_stats, 1 },
    { "unmap", do_unmap, 4 },
    { "forget", do_forget, 4 },
    { "touch", do_touch, 4 },
};

static void run_line(World *world, const char *text)
{
    for (guint i = 0; i < G_N_ELEMENTS(commands); i++) {
        g_auto(GStrv) words = g_strsplit(text, " ", commands[i].words);

        if (words[0] && strcmp(words[0], commands[i].name) == 0) {
            commands[i].run(world, words);
            return;
        }
    }
    say("error", "reason", "no such command");
}

gboolean commands_read(World *world)
{
    char bytes[4096];
    ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
    const char *end;

    if (n <= 0)
        return n < 0 && errno == EINTR;
    if (!world->input)
        world->input = g_string_new(NULL);
    g_string_append_len(world->input, bytes, n);
    while ((end = strchr(world->input->str, '\n'))) {
        g_autofree char *line = g_strndup(world->input->str, (gsize)(end - world->input->str));

        g_string_erase(world->input, 0, (gssize)strlen(line) + 1);
        if (strcmp(line, "quit") == 0)
            return FALSE;
        run_line(world, line);
    }
    return TRUE;
}
