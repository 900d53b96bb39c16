/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads recorded migration streams of QEMU as the helpers would; says in JSON what is in them.
 *
 *     stream-dump [OPTION]... MAIN [RESUMED]...
 *
 * MAIN is what the source QEMU has sent, RESUMED what it has sent after an interruption. All is
 * read in pieces of random sizes. Exit status: 0; 1 if bytes were lost or added on the way, or with
 * --strict if there was something unknown; 2 if there is nothing to read. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/stream-summary.h"

#define PIECE_BITS 18 /* the largest piece: 256 KiB */
#define NEAR 4096     /* half of the damage is done in the first bytes, where most structure is */

typedef struct {
    char **preempt;
    char **returned;
    char **main;
    gboolean strict;
    gint mangle;
    gboolean truncate_all;
    gint seed;
} Options;

static void options_clear(Options *options)
{
    g_strfreev(options->preempt);
    g_strfreev(options->returned);
    g_strfreev(options->main);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

typedef struct {
    GByteArray *bytes;
    const char *name;
} Recording;

typedef struct {
    GPtrArray *main; /* of Recording */
    GPtrArray *preempt;
    GPtrArray *returned;
} Recordings;

/* One reading of everything. */
typedef struct {
    GRand *rand;
    RamBlocks *blocks;
    PageLedger ledger;
    GPtrArray *main; /* of StreamSummary */
    GPtrArray *preempt;
    GPtrArray *returned;
} Reading;

static void reading_init(Reading *reading, GRand *rand)
{
    *reading = (Reading){ .rand = rand, .blocks = ram_blocks_new() };
    page_ledger_init(&reading->ledger, reading->blocks);
    reading->main = g_ptr_array_new_with_free_func((GDestroyNotify)stream_summary_free);
    reading->preempt = g_ptr_array_new_with_free_func((GDestroyNotify)stream_summary_free);
    reading->returned = g_ptr_array_new_with_free_func((GDestroyNotify)stream_summary_free);
}

static void reading_clear(Reading *reading)
{
    page_ledger_clear(&reading->ledger);
    ram_blocks_free(reading->blocks);
    g_ptr_array_unref(reading->main);
    g_ptr_array_unref(reading->preempt);
    g_ptr_array_unref(reading->returned);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Reading, reading_clear)

/* -- one recording ------------------------------------------------------------------------- */

typedef struct {
    Reading *reading;
    StreamSummary *summary;
    QemuStream *stream; /* or */
    QemuReturn *path;
    guint64 out; /* bytes that were raw bytes of events */
} Reader;

/* One step of either reader. FALSE: more input is needed. */
static gboolean read_event(Reader *reader, const guint8 *bytes, gsize len, gsize *ret_taken,
                           const guint8 **ret_raw, gsize *ret_raw_len)
{
    if (reader->stream) {
        QemuEvent event;

        *ret_taken = qemu_stream_read(reader->stream, bytes, len, &event);
        *ret_raw = event.raw;
        *ret_raw_len = event.raw_len;
        if (event.type == QEMU_EV_MORE)
            return FALSE;
        stream_summary_note(reader->summary, &reader->reading->ledger, &event);
    } else {
        QemuReturnEvent event;

        *ret_taken = qemu_return_read(reader->path, bytes, len, &event);
        *ret_raw = event.raw;
        *ret_raw_len = event.raw_len;
        if (event.type == QEMU_RETURN_MORE)
            return FALSE;
        stream_summary_note_return(reader->summary, reader->reading->blocks, &event);
    }
    return TRUE;
}

/* Reads a piece; FALSE if what comes out is not what went in. */
static gboolean read_piece(Reader *reader, const Recording *recording, gsize at, gsize len)
{
    g_autofree guint8 *piece = g_malloc(len);
    const guint8 *raw;
    gsize done = 0, taken, raw_len;

    memcpy(piece, recording->bytes->data + at, len);
    while (read_event(reader, piece + done, len - done, &taken, &raw, &raw_len)) {
        done += taken;
        if (done > len || reader->out + raw_len > at + done ||
            memcmp(raw, recording->bytes->data + reader->out, raw_len) != 0)
            return FALSE;
        reader->out += raw_len;
    }
    return raw_len == 0 && done + taken == len;
}

static gsize piece_len(GRand *rand)
{
    guint bits = g_rand_int_range(rand, 0, PIECE_BITS);

    return g_rand_int_range(rand, 1 << bits, 2 << bits);
}

static gsize held(const Reader *reader, const guint8 **ret_bytes)
{
    return reader->stream ? qemu_stream_held(reader->stream, ret_bytes)
                          : qemu_return_held(reader->path, ret_bytes);
}

static gboolean read_recording(Reader *reader, const Recording *recording)
{
    gsize len = recording->bytes->len;
    const guint8 *rest;

    for (gsize at = 0, n; at < len; at += n) {
        n = piece_len(reader->reading->rand);
        n = MIN(n, len - at);
        if (!read_piece(reader, recording, at, n)) {
            g_printerr("%s: the reader lost or added bytes at %" G_GUINT64_FORMAT "\n",
                       recording->name, reader->out);
            return FALSE;
        }
    }
    reader->summary->held = held(reader, &rest);
    if (reader->out + reader->summary->held != len ||
        (reader->summary->held > 0 &&
         memcmp(rest, recording->bytes->data + reader->out, reader->summary->held) != 0)) {
        g_printerr("%s: the reader has lost its last bytes\n", recording->name);
        return FALSE;
    }
    return TRUE;
}

static gboolean read_stream(Reading *reading, const Recording *recording, gboolean preempt)
{
    g_autoptr(QemuStream) stream =
        preempt ? qemu_stream_new_preempt(reading->blocks) : qemu_stream_new(reading->blocks);
    StreamSummary *summary = stream_summary_new();
    Reader reader = { reading, summary, stream, NULL, 0 };
    gboolean ok;

    g_ptr_array_add(preempt ? reading->preempt : reading->main, summary);
    /* Not the first connection: that was in post-copy before. */
    summary->postcopy = preempt || reading->main->len > 1;
    ok = read_recording(&reader, recording);
    summary->resumed = qemu_stream_is_resumed(stream);
    if (ok && qemu_stream_position(stream) != recording->bytes->len) {
        g_printerr("%s: the reader has lost its position\n", recording->name);
        return FALSE;
    }
    return ok;
}

static gboolean read_return_path(Reading *reading, const Recording *recording)
{
    g_autoptr(QemuReturn) path = qemu_return_new();
    Reader reader = { reading, stream_summary_new(), NULL, path, 0 };

    g_ptr_array_add(reading->returned, reader.summary);
    return read_recording(&reader, recording);
}

/* The blocks become known on the first connection. */
static gboolean read_all(Reading *reading, const Recordings *recordings)
{
    for (guint i = 0; i < recordings->main->len; i++) {
        if (!read_stream(reading, recordings->main->pdata[i], FALSE))
            return FALSE;
    }
    for (guint i = 0; i < recordings->preempt->len; i++) {
        if (!read_stream(reading, recordings->preempt->pdata[i], TRUE))
            return FALSE;
    }
    for (guint i = 0; i < recordings->returned->len; i++) {
        if (!read_return_path(reading, recordings->returned->pdata[i]))
            return FALSE;
    }
    return TRUE;
}

/* -- damage -------------------------------------------------------------------------------- */

static gsize somewhere(GRand *rand, gsize len)
{
    if (g_rand_boolean(rand))
        len = MIN(len, NEAR);
    return g_rand_int_range(rand, 0, MIN(len, G_MAXINT32));
}

/* A copy with a few bytes changed, often cut short. */
static Recording *damaged(GRand *rand, const Recording *recording)
{
    Recording *copy = g_new0(Recording, 1);
    gsize len = recording->bytes->len;

    if (len > 0 && g_rand_boolean(rand))
        len = somewhere(rand, len);
    copy->name = recording->name;
    copy->bytes = g_byte_array_sized_new(len);
    g_byte_array_append(copy->bytes, recording->bytes->data, len);
    for (gint n = len > 0 ? g_rand_int_range(rand, 0, 6) : 0; n > 0; n--)
        copy->bytes->data[somewhere(rand, len)] ^= 1 << g_rand_int_range(rand, 0, 8);
    return copy;
}

static void recording_free(Recording *recording)
{
    g_byte_array_unref(recording->bytes);
    g_free(recording);
}

static GPtrArray *damaged_list(GRand *rand, GPtrArray *list)
{
    GPtrArray *copies = g_ptr_array_new_with_free_func((GDestroyNotify)recording_free);

    for (guint i = 0; i < list->len; i++)
        g_ptr_array_add(copies, damaged(rand, list->pdata[i]));
    return copies;
}

static gboolean read_damaged(const Recordings *recordings, GRand *rand)
{
    g_autoptr(GPtrArray) main_list = damaged_list(rand, recordings->main);
    g_autoptr(GPtrArray) preempt_list = damaged_list(rand, recordings->preempt);
    g_autoptr(GPtrArray) return_list = damaged_list(rand, recordings->returned);
    Recordings copies = { main_list, preempt_list, return_list };
    g_auto(Reading) reading;

    reading_init(&reading, rand);
    return read_all(&reading, &copies);
}

/* The first main recording ended at each of its bytes. */
static gboolean read_truncated(const Recordings *recordings, GRand *rand)
{
    const Recording *whole = recordings->main->pdata[0];

    for (guint len = 0; len < whole->bytes->len; len++) {
        g_autoptr(GByteArray) bytes = g_byte_array_sized_new(len + 1);
        Recording cut = { bytes, whole->name };
        g_auto(Reading) reading;

        g_byte_array_append(bytes, whole->bytes->data, len);
        reading_init(&reading, rand);
        if (!read_stream(&reading, &cut, FALSE))
            return FALSE;
    }
    return TRUE;
}

/* -- the program --------------------------------------------------------------------------- */

typedef void (*Printer)(const StreamSummary *summary, GString *out);

static void print_list(GString *out, const char *key, GPtrArray *list, Printer print)
{
    g_string_append_printf(out, ", \"%s\": [", key);
    for (guint i = 0; i < list->len; i++) {
        g_string_append(out, i ? ",\n " : "\n ");
        print(list->pdata[i], out);
    }
    g_string_append_c(out, ']');
}

static void print_reading(const Reading *reading)
{
    g_autoptr(GString) out = g_string_new("{");

    page_ledger_print(&reading->ledger, out);
    print_list(out, "main", reading->main, stream_summary_print);
    print_list(out, "preempt", reading->preempt, stream_summary_print);
    print_list(out, "return", reading->returned, stream_summary_print_return);
    g_print("%s}\n", out->str);
}

static gboolean all_is_known(GPtrArray *list)
{
    for (guint i = 0; i < list->len; i++) {
        if (((StreamSummary *)list->pdata[i])->unknown)
            return FALSE;
    }
    return TRUE;
}

static gboolean load(char **names, GPtrArray **ret_list, GError **error)
{
    g_autoptr(GPtrArray) list =
        g_ptr_array_new_with_free_func((GDestroyNotify)recording_free);

    for (; names && *names; names++) {
        Recording *recording;
        char *bytes;
        gsize len;

        if (!g_file_get_contents(*names, &bytes, &len, error))
            return FALSE;
        recording = g_new0(Recording, 1);
        recording->bytes = g_byte_array_new_take((guint8 *)bytes, len);
        recording->name = *names;
        g_ptr_array_add(list, recording);
    }
    *ret_list = g_steal_pointer(&list);
    return TRUE;
}

static gboolean parse_options(Options *options, int *argc, char ***argv, GError **error)
{
    const GOptionEntry entries[] = {
        { "preempt", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &options->preempt,
          "a connection of postcopy-preempt", "FILE" },
        { "return", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &options->returned,
          "what the destination QEMU has sent", "FILE" },
        { "strict", 0, 0, G_OPTION_ARG_NONE, &options->strict,
          "fail if a reader does not understand something", NULL },
        { "mangle", 0, 0, G_OPTION_ARG_INT, &options->mangle,
          "also read everything N times with damage at random places", "N" },
        { "truncate-all", 0, 0, G_OPTION_ARG_NONE, &options->truncate_all,
          "also read MAIN cut off at every byte; for small ones", NULL },
        { "seed", 0, 0, G_OPTION_ARG_INT, &options->seed, "of what is random [1]", "N" },
        { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &options->main, NULL, NULL },
        { 0 },
    };
    g_autoptr(GOptionContext) context = g_option_context_new("MAIN [RESUMED]...");

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, error))
        return FALSE;
    if (options->main)
        return TRUE;
    g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "no recording given");
    return FALSE;
}

static gboolean run(const Options *options, const Recordings *recordings)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(options->seed);
    g_auto(Reading) reading;

    reading_init(&reading, rand);
    if (!read_all(&reading, recordings))
        return FALSE;
    print_reading(&reading);
    for (gint i = 0; i < options->mangle; i++) {
        if (!read_damaged(recordings, rand))
            return FALSE;
    }
    if (options->truncate_all && !read_truncated(recordings, rand))
        return FALSE;
    return !options->strict || (all_is_known(reading.main) && all_is_known(reading.preempt) &&
                                all_is_known(reading.returned));
}

int main(int argc, char **argv)
{
    g_auto(Options) options = { .seed = 1 };
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) main_list = NULL, preempt_list = NULL, return_list = NULL;

    if (!parse_options(&options, &argc, &argv, &error) ||
        !load(options.main, &main_list, &error) ||
        !load(options.preempt, &preempt_list, &error) ||
        !load(options.returned, &return_list, &error)) {
        g_printerr("stream-dump: %s\n", error->message);
        return 2;
    }
    return run(&options, &(Recordings){ main_list, preempt_list, return_list }) ? EXIT_SUCCESS
                                                                                : EXIT_FAILURE;
}
