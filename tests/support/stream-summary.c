/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/stream-summary.h"

#include "util/bytes.h"

StreamSummary *stream_summary_new(void)
{
    StreamSummary *summary = g_new0(StreamSummary, 1);

    summary->requests = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    summary->bitmaps = g_string_new(NULL);
    summary->shut = -1;
    return summary;
}

void stream_summary_free(StreamSummary *summary)
{
    if (!summary)
        return;
    g_free(summary->unknown);
    g_free(summary->machine);
    g_hash_table_unref(summary->requests);
    g_string_free(summary->bitmaps, TRUE);
    g_free(summary);
}

/* -- pages --------------------------------------------------------------------------------- */

void page_ledger_init(PageLedger *ledger, RamBlocks *blocks)
{
    *ledger = (PageLedger){ .blocks = blocks };
    ledger->owed = g_ptr_array_new_with_free_func((GDestroyNotify)g_byte_array_unref);
}

void page_ledger_clear(PageLedger *ledger)
{
    g_clear_pointer(&ledger->owed, g_ptr_array_unref);
}

/* NULL if there is no such page: a block whose length is not known has none. */
static guint8 *owed_page(PageLedger *ledger, guint block, guint64 page)
{
    const RamBlock *b = ram_blocks_get(ledger->blocks, block);
    guint64 pages = b ? b->length / ram_blocks_target_page(ledger->blocks) : 0;
    GByteArray *owed;

    if (page >= pages || pages > G_MAXINT)
        return NULL;
    while (ledger->owed->len <= block)
        g_ptr_array_add(ledger->owed, g_byte_array_new());
    owed = ledger->owed->pdata[block];
    if (owed->len < pages) {
        guint before = owed->len;

        g_byte_array_set_size(owed, pages);
        memset(owed->data + before, 0, pages - before);
    }
    return &owed->data[page];
}

static void note_missing(PageLedger *ledger, guint block, guint64 start, guint64 length)
{
    gsize page_size = ram_blocks_target_page(ledger->blocks);

    if (!ram_blocks_check_range(ledger->blocks, block, start, length, NULL))
        return;
    ledger->discarded += length;
    for (guint64 page = start / page_size; page < (start + length) / page_size; page++) {
        guint8 *owed = owed_page(ledger, block, page);

        if (!owed)
            return;
        ledger->missing += !*owed;
        *owed = TRUE;
    }
}

static void note_sent(PageLedger *ledger, const QemuPage *page)
{
    guint64 number = page->offset / ram_blocks_target_page(ledger->blocks);
    guint8 *owed = owed_page(ledger, page->block, number);

    if (owed && *owed) {
        *owed = FALSE;
        ledger->missing--;
    } else {
        ledger->stray++;
    }
}

/* Ranges up to the first that cannot be: for a sound stream, all of them. */
static void note_discard(PageLedger *ledger, const QemuEvent *event)
{
    ByteReader r = byte_reader(event->payload, event->payload_len);
    const guint8 *name;
    guint8 version, len, zero;
    guint block;

    if (!byte_reader_take_u8(&r, "version", &version, NULL) ||
        !byte_reader_take_u8(&r, "length", &len, NULL) ||
        !byte_reader_take(&r, "name", len, &name, NULL) ||
        !byte_reader_take_u8(&r, "zero", &zero, NULL) ||
        !ram_blocks_find(ledger->blocks, name, len, &block))
        return;
    while (r.len > 0) {
        guint64 start, length;

        if (!byte_reader_take_u64(&r, "start", &start, NULL) ||
            !byte_reader_take_u64(&r, "length", &length, NULL))
            return;
        note_missing(ledger, block, start, length);
    }
}

/* -- events -------------------------------------------------------------------------------- */

static void note_common(StreamSummary *summary, guint type, gsize raw_len, gboolean opaque,
                        const char *unknown)
{
    summary->events[type]++;
    if (opaque && !summary->opaque)
        summary->opaque_from = summary->bytes;
    if (opaque)
        summary->opaque += raw_len;
    if (unknown && !summary->unknown)
        summary->unknown = g_strdup(unknown);
    summary->bytes += raw_len;
}

static void note_command(StreamSummary *summary, PageLedger *ledger, const QemuEvent *event)
{
    if (event->value < SUMMARY_COMMANDS)
        summary->commands[event->value]++;
    if (event->value == QEMU_CMD_POSTCOPY_RAM_DISCARD)
        note_discard(ledger, event);
    if (event->value == QEMU_CMD_PACKAGED)
        summary->postcopy = TRUE;
}

void stream_summary_note(StreamSummary *summary, PageLedger *ledger, const QemuEvent *event)
{
    gboolean unknown = event->type == QEMU_EV_UNKNOWN;

    note_common(summary, event->type, event->raw_len, event->type == QEMU_EV_OPAQUE,
                unknown ? event->text : NULL);
    switch (event->type) {
    case QEMU_EV_CONFIGURATION:
        g_free(summary->machine);
        summary->machine = g_strdup(event->name);
        break;
    case QEMU_EV_COMMAND:
        note_command(summary, ledger, event);
        break;
    case QEMU_EV_PACKAGE_DATA:
        summary->package_bytes += event->raw_len;
        break;
    case QEMU_EV_PAGE:
        summary->pages[event->page.kind]++;
        if (summary->postcopy)
            note_sent(ledger, &event->page);
        break;
    default: /* counted above */
        break;
    }
}

static void note_request(StreamSummary *summary, const RamBlocks *blocks,
                         const QemuReturnEvent *event)
{
    guint block;

    if (!ram_blocks_find(blocks, (const guint8 *)event->name, event->name_len, &block) ||
        !ram_blocks_check_range(blocks, block, event->start, event->length, NULL))
        summary->strange_requests++;
    g_hash_table_add(summary->requests,
                     g_strdup_printf("%s %" G_GUINT64_FORMAT, event->name, event->start));
}

static void print_string(GString *out, const char *text);

void stream_summary_note_return(StreamSummary *summary, const RamBlocks *blocks,
                                const QemuReturnEvent *event)
{
    gboolean unknown = event->type == QEMU_RETURN_UNKNOWN;

    note_common(summary, event->type, event->raw_len, event->type == QEMU_RETURN_OPAQUE,
                unknown ? event->text : NULL);
    switch (event->type) {
    case QEMU_RETURN_REQ_PAGES:
        note_request(summary, blocks, event);
        break;
    case QEMU_RETURN_BITMAP:
        g_string_append(summary->bitmaps, summary->bitmaps->len ? ", " : "");
        g_string_append(summary->bitmaps, "{\"name\": ");
        print_string(summary->bitmaps, event->name);
        g_string_append_printf(summary->bitmaps, ", \"bytes\": %" G_GUINT64_FORMAT "}",
                               event->length);
        break;
    case QEMU_RETURN_SHUT:
        summary->shut = event->value;
        break;
    default: /* counted above */
        break;
    }
}

/* -- JSON ---------------------------------------------------------------------------------- */

static void print_string(GString *out, const char *text)
{
    if (!text) {
        g_string_append(out, "null");
        return;
    }
    g_string_append_c(out, '"');
    for (const guchar *p = (const guchar *)text; *p; p++) {
        if (*p < 0x20 || *p > 0x7e || *p == '"' || *p == '\\')
            g_string_append_printf(out, "\\u%04x", *p);
        else
            g_string_append_c(out, *p);
    }
    g_string_append_c(out, '"');
}

static void print_number(GString *out, const char *key, guint64 value)
{
    g_string_append_printf(out, "\"%s\": %" G_GUINT64_FORMAT ", ", key, value);
}

/* Those that are not 0, by name. */
static void print_counts(GString *out, const char *key, const guint64 *counts, guint n,
                         const char *(*name)(guint))
{
    const char *between = "";

    g_string_append_printf(out, ", \"%s\": {", key);
    for (guint i = 0; i < n; i++) {
        if (!counts[i])
            continue;
        g_string_append_printf(out, "%s\"%s\": %" G_GUINT64_FORMAT, between, name(i), counts[i]);
        between = ", ";
    }
    g_string_append_c(out, '}');
}

static const char *stream_event(guint i)
{
    return qemu_event_name(i);
}

static const char *return_event(guint i)
{
    return qemu_return_event_name(i);
}

static const char *command_name(guint i)
{
    static const char *const names[SUMMARY_COMMANDS] = {
        [0] = "0",
        [QEMU_CMD_OPEN_RETURN_PATH] = "OPEN_RETURN_PATH",
        [QEMU_CMD_PING] = "PING",
        [QEMU_CMD_POSTCOPY_ADVISE] = "POSTCOPY_ADVISE",
        [QEMU_CMD_POSTCOPY_LISTEN] = "POSTCOPY_LISTEN",
        [QEMU_CMD_POSTCOPY_RUN] = "POSTCOPY_RUN",
        [QEMU_CMD_POSTCOPY_RAM_DISCARD] = "POSTCOPY_RAM_DISCARD",
        [QEMU_CMD_PACKAGED] = "PACKAGED",
        [QEMU_CMD_ENABLE_COLO] = "ENABLE_COLO",
        [QEMU_CMD_POSTCOPY_RESUME] = "POSTCOPY_RESUME",
        [QEMU_CMD_RECV_BITMAP] = "RECV_BITMAP",
        [QEMU_CMD_SWITCHOVER_START] = "SWITCHOVER_START",
    };

    return names[i];
}

static const char *page_kind(guint i)
{
    static const char *const names[QEMU_PAGE_KIND_MAX] = {
        [QEMU_PAGE_RAW] = "raw",
        [QEMU_PAGE_ZERO] = "zero",
        [QEMU_PAGE_XBZRLE] = "xbzrle",
        [QEMU_PAGE_COMPRESSED] = "compressed",
    };

    return names[i];
}

static void print_common(const StreamSummary *summary, GString *out)
{
    print_number(out, "bytes", summary->bytes);
    print_number(out, "held", summary->held);
    print_number(out, "opaque", summary->opaque);
    print_number(out, "opaque_from", summary->opaque_from);
    g_string_append(out, "\"unknown\": ");
    print_string(out, summary->unknown);
}

void stream_summary_print(const StreamSummary *summary, GString *out)
{
    g_string_append_c(out, '{');
    print_common(summary, out);
    g_string_append_printf(out, ", \"resumed\": %s, \"machine\": ",
                           summary->resumed ? "true" : "false");
    print_string(out, summary->machine);
    g_string_append(out, ", ");
    print_number(out, "package_bytes", summary->package_bytes);
    g_string_truncate(out, out->len - 2);
    print_counts(out, "events", summary->events, QEMU_EV_MAX, stream_event);
    print_counts(out, "commands", summary->commands, SUMMARY_COMMANDS, command_name);
    print_counts(out, "pages", summary->pages, QEMU_PAGE_KIND_MAX, page_kind);
    g_string_append_c(out, '}');
}

void stream_summary_print_return(const StreamSummary *summary, GString *out)
{
    g_string_append_c(out, '{');
    print_common(summary, out);
    g_string_append(out, ", ");
    print_number(out, "distinct_requests", g_hash_table_size(summary->requests));
    print_number(out, "strange_requests", summary->strange_requests);
    g_string_append_printf(out, "\"shut\": %" G_GINT64_FORMAT ", \"bitmaps\": [%s]", summary->shut,
                           summary->bitmaps->str);
    print_counts(out, "events", summary->events, QEMU_RETURN_MAX, return_event);
    g_string_append_c(out, '}');
}

void page_ledger_print(const PageLedger *ledger, GString *out)
{
    g_string_append(out, "\"blocks\": [");
    for (guint i = 0; i < ram_blocks_count(ledger->blocks); i++) {
        const RamBlock *block = ram_blocks_get(ledger->blocks, i);

        g_string_append(out, i ? ", {\"name\": " : "{\"name\": ");
        print_string(out, block->name);
        g_string_append(out, ", ");
        print_number(out, "length", block->length);
        print_number(out, "page_size", block->page_size);
        g_string_truncate(out, out->len - 2);
        g_string_append_c(out, '}');
    }
    g_string_append(out, "], ");
    print_number(out, "discarded", ledger->discarded);
    print_number(out, "missing", ledger->missing);
    print_number(out, "stray", ledger->stray);
    g_string_truncate(out, out->len - 2);
}
