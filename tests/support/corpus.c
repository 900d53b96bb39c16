/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/corpus.h"

#include <string.h>

#include "xml/eligibility.h"
#include "xml/ram_blocks.h"

#define PAGE 4096

static char *read_file(const char *name)
{
    g_autofree char *path = g_build_filename(CORPUS_DIR, name, NULL);
    g_autoptr(GError) error = NULL;
    char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, &error))
        g_error("%s", error->message);
    return text;
}

static void row_free(gpointer data)
{
    CorpusRow *row = data;

    g_free(row->name);
    g_free(row->judgement);
    g_free(row);
}

static void add_row(GPtrArray *rows, const char *line)
{
    g_auto(GStrv) words = g_regex_split_simple(" +", line, 0, 0);
    CorpusRow *row;

    if (line[0] == '\0' || line[0] == '#')
        return;
    g_assert(g_strv_length(words) >= 4);
    row = g_new0(CorpusRow, 1);
    row->name = g_strdup(words[0]);
    row->judgement = g_strjoinv(" ", words + 1);
    g_ptr_array_add(rows, row);
}

GPtrArray *corpus_rows(void)
{
    g_autofree char *text = read_file("EXPECTED");
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    GPtrArray *rows = g_ptr_array_new_with_free_func(row_free);

    for (char **line = lines; *line; line++)
        add_row(rows, g_strchomp(*line));
    return rows;
}

char *corpus_document(const char *name)
{
    g_autofree char *file = g_strconcat(name, ".xml", NULL);

    return read_file(file);
}

static HostFiles files(const char *path, char **ret_name, gpointer data)
{
    if (g_str_has_prefix(path, "/dev/dax")) {
        *ret_name = g_strdup("a device");
        return HOST_FILES_DISK;
    }
    if (g_str_has_prefix(path, "/dev/shm/"))
        return HOST_FILES_MEMORY;
    *ret_name = g_strdup("ext4");
    return HOST_FILES_DISK;
}

const HostFacts *corpus_host(void)
{
    static const HostFacts host = { .memory_backing_dir = "/var/lib/libvirt/qemu/ram",
                                    .page_size = PAGE,
                                    .files = files,
                                    .destination = TRUE };

    return &host;
}

static int compare(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void append_ids(GString *line, const GPtrArray *findings)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    const char *last = NULL;

    for (guint i = 0; i < findings->len; i++) {
        const Finding *finding = g_ptr_array_index(findings, i);

        if (finding->verdict != FINDING_PASS)
            g_ptr_array_add(ids, finding->id);
    }
    if (ids->len == 0) {
        g_string_append_c(line, '-');
        return;
    }
    g_ptr_array_sort(ids, compare);
    for (guint i = 0; i < ids->len; i++) {
        const char *id = g_ptr_array_index(ids, i);

        if (g_strcmp0(id, last) != 0)
            g_string_append_printf(line, "%s%s", last ? "," : "", id);
        last = id;
    }
}

static void append_size(GString *line, guint64 bytes)
{
    if (bytes % (1 << 20) == 0)
        g_string_append_printf(line, "%" G_GUINT64_FORMAT "M", bytes >> 20);
    else
        g_string_append_printf(line, "%" G_GUINT64_FORMAT "B", bytes);
}

static void append_block(GString *line, const RamBlock *block)
{
    static const char *const backings[] = {
        [RAM_BACKING_ANONYMOUS] = "anonymous", [RAM_BACKING_MEMFD] = "memfd",
        [RAM_BACKING_FILE] = "file",           [RAM_BACKING_HUGETLBFS] = "hugetlbfs",
        [RAM_BACKING_PATH] = "path",
    };

    g_string_append_c(line, ' ');
    append_size(line, block->size);
    g_string_append_printf(line, ":%s%s", backings[block->backing],
                           block->shared ? ":shared" : "");
    if (block->huge && block->page_size == 0)
        g_string_append(line, ":huge");
    else if (block->huge)
        g_string_append_printf(line, ":%" G_GUINT64_FORMAT "K", block->page_size >> 10);
}

char *corpus_judge(const char *xml, GError **error)
{
    g_autoptr(GPtrArray) findings = eligibility_check(xml, corpus_host(), error);
    g_autoptr(GPtrArray) blocks = findings ? ram_blocks_expected(xml, PAGE, error) : NULL;
    g_autoptr(GString) line = g_string_new(NULL);

    if (!blocks)
        return NULL;
    g_string_append_printf(line, "%s ", finding_verdict_name(findings_verdict(findings)));
    append_ids(line, findings);
    for (guint i = 0; i < blocks->len; i++)
        append_block(line, g_ptr_array_index(blocks, i));
    return g_string_free(g_steal_pointer(&line), FALSE);
}
