/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every key has its place in one list for writing and one for reading. The last one says that the
 * file is whole. */
#include "config.h"

#include "driver/job_record.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver/run_dir.h"
#include "ram/job_outcome.h"
#include "util/autofd.h"
#include "util/log.h"

#define GROUP "job"
#define RECORD_VERSION 1
#define SUFFIX_RECORD ".conf"
#define SUFFIX_CONTROL ".sock"
#define SUFFIX_OUTCOME ".outcome"

/* libvirt's longest message, in base64, and the rest. */
#define RECORD_MAX (48 * 1024 * 1024)

static const char *const side_words[] = { [MIGRATION_SIDE_SOURCE] = "source",
                                          [MIGRATION_SIDE_DESTINATION] = "destination" };

/* ---- in memory ---- */

JobRecord *job_record_new(void)
{
    return g_new0(JobRecord, 1);
}

JobRecord *job_record_copy(const JobRecord *record)
{
    JobRecord *copy = g_new(JobRecord, 1);

    *copy = *record;
    copy->domain = g_strdup(record->domain);
    copy->uri.host = g_strdup(record->uri.host);
    copy->listen_address = g_strdup(record->listen_address);
    copy->tls_name = g_strdup(record->tls_name);
    copy->socket_path = g_strdup(record->socket_path);
    copy->disks_path = g_strdup(record->disks_path);
    copy->perform_args = record->perform_args ? g_bytes_ref(record->perform_args) : NULL;
    return copy;
}

char *job_record_id(const JobRecord *record)
{
    const guint8 *session = record->uri.session;

    return g_strdup_printf("%02x%02x%02x%02x", session[0], session[1], session[2], session[3]);
}

void job_record_free(JobRecord *record)
{
    if (!record)
        return;
    migration_uri_clear(&record->uri);
    g_clear_pointer(&record->perform_args, g_bytes_unref);
    g_free(record->domain);
    g_free(record->listen_address);
    g_free(record->tls_name);
    g_free(record->socket_path);
    g_free(record->disks_path);
    g_free(record);
}

gboolean job_record_listens_at(const JobRecord *record, const char *address)
{
    return !record->listen_address || g_str_equal(record->listen_address, address);
}

/* ---- names ---- */

static char *to_hex(const guint8 *bytes, gsize len)
{
    g_autoptr(GString) hex = g_string_new(NULL);

    for (gsize i = 0; i < len; i++)
        g_string_append_printf(hex, "%02x", bytes[i]);
    return g_string_free(g_steal_pointer(&hex), FALSE);
}

static gboolean from_hex(const char *hex, guint8 *ret, gsize len)
{
    if (strlen(hex) != 2 * len)
        return FALSE;
    for (gsize i = 0; i < len; i++) {
        int high = g_ascii_xdigit_value(hex[2 * i]);
        int low = g_ascii_xdigit_value(hex[2 * i + 1]);

        if (high < 0 || low < 0)
            return FALSE;
        ret[i] = (guint8)(high << 4 | low);
    }
    return TRUE;
}

static char *path_of(const char *run_dir, const guint8 session[MIGRATION_SESSION_LEN],
                     const char *suffix)
{
    g_autofree char *hex = to_hex(session, MIGRATION_SESSION_LEN);

    return g_strdup_printf("%s/" RUN_DIR_PREFIX_JOB "%s%s", run_dir, hex, suffix);
}

char *job_record_control_path(const char *run_dir, const guint8 session[MIGRATION_SESSION_LEN])
{
    return path_of(run_dir, session, SUFFIX_CONTROL);
}

char *job_record_outcome_path(const char *run_dir, const guint8 session[MIGRATION_SESSION_LEN])
{
    return path_of(run_dir, session, SUFFIX_OUTCOME);
}

static void remove_file(const char *run_dir, const guint8 session[MIGRATION_SESSION_LEN],
                        const char *suffix)
{
    g_autofree char *path = path_of(run_dir, session, suffix);

    if (unlink(path) < 0 && errno != ENOENT)
        log_warning(NULL, "cannot remove %s: %s", path, g_strerror(errno));
}

void job_record_helper_ended(const char *run_dir, const guint8 session[MIGRATION_SESSION_LEN])
{
    remove_file(run_dir, session, SUFFIX_CONTROL);
    remove_file(run_dir, session, SUFFIX_OUTCOME);
}

void job_record_remove(const char *run_dir, const guint8 session[MIGRATION_SESSION_LEN])
{
    job_record_helper_ended(run_dir, session);
    remove_file(run_dir, session, SUFFIX_RECORD);
}

int job_record_make_outcome(const char *run_dir, const guint8 session[MIGRATION_SESSION_LEN],
                            GError **error)
{
    g_autofree char *path = job_record_outcome_path(run_dir, session);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(errno),
                    _("cannot make %s: %s"), path, g_strerror(errno));
    return fd;
}

/* ---- to disk ---- */

static void set_text(GKeyFile *file, const char *key, const char *text)
{
    if (text)
        g_key_file_set_string(file, GROUP, key, text);
}

static void set_hex(GKeyFile *file, const char *key, const guint8 *bytes, gsize len)
{
    g_autofree char *hex = to_hex(bytes, len);

    g_key_file_set_string(file, GROUP, key, hex);
    explicit_bzero(hex, strlen(hex));
}

static void set_args(GKeyFile *file, GBytes *args)
{
    gsize len;
    const guint8 *data = args ? g_bytes_get_data(args, &len) : NULL;
    g_autofree char *text = data ? g_base64_encode(data, len) : NULL;

    set_text(file, "perform-args", text);
}

static GKeyFile *to_key_file(const JobRecord *record)
{
    GKeyFile *file = g_key_file_new();

    g_key_file_set_uint64(file, GROUP, "version", RECORD_VERSION);
    set_text(file, "side", side_words[record->side]);
    set_text(file, "domain", record->domain);
    set_text(file, "host", record->uri.host);
    g_key_file_set_uint64(file, GROUP, "port", record->uri.port);
    set_hex(file, "session", record->uri.session, MIGRATION_SESSION_LEN);
    set_hex(file, "token", record->uri.token, MIGRATION_TOKEN_LEN);
    set_text(file, "listen-address", record->listen_address);
    set_text(file, "tls-name", record->tls_name);
    g_key_file_set_int64(file, GROUP, "helper-pid", record->helper_pid);
    set_text(file, "socket-path", record->socket_path);
    set_text(file, "disks-path", record->disks_path);
    g_key_file_set_uint64(file, GROUP, "qemu-connections", record->qemu_connections);
    g_key_file_set_boolean(file, GROUP, "streaming", record->streaming);
    g_key_file_set_boolean(file, GROUP, "postcopy", record->postcopy);
    g_key_file_set_boolean(file, GROUP, "on-purpose", record->on_purpose);
    g_key_file_set_uint64(file, GROUP, "speed-user", record->speed_limit.user);
    g_key_file_set_boolean(file, GROUP, "speed-again", record->speed_limit.again);
    g_key_file_set_boolean(file, GROUP, "recovers", record->recovers);
    g_key_file_set_boolean(file, GROUP, "reading-failed", record->reading_failed);
    g_key_file_set_boolean(file, GROUP, "memory", record->memory);
    g_key_file_set_uint64(file, GROUP, "memory-uid", record->memory_uid);
    g_key_file_set_int64(file, GROUP, "perform-procedure", record->perform_procedure);
    set_args(file, record->perform_args);
    g_key_file_set_int64(file, GROUP, "begun-us", record->begun);
    g_key_file_set_uint64(file, GROUP, "expected-ram", record->expected_ram);
    g_key_file_set_int64(file, GROUP, "first-begun-us", record->history.begun);
    g_key_file_set_uint64(file, GROUP, "recoveries", record->history.recoveries);
    g_key_file_set_int64(file, GROUP, "link-lost-us", record->history.lost_us);
    g_key_file_set_int64(file, GROUP, "broken", record->broken);
    g_key_file_set_boolean(file, GROUP, "complete", TRUE);
    return file;
}

gboolean job_record_save(const JobRecord *record, const char *run_dir, GError **error)
{
    g_autofree char *path = path_of(run_dir, record->uri.session, SUFFIX_RECORD);
    g_autoptr(GKeyFile) file = to_key_file(record);
    gsize len;
    char *text = g_key_file_to_data(file, &len, NULL);
    gboolean saved = g_file_set_contents_full(path, text, (gssize)len,
                                              G_FILE_SET_CONTENTS_CONSISTENT, 0600, error);

    explicit_bzero(text, len);
    g_free(text);
    if (!saved)
        g_prefix_error(error, _("cannot record a migration: "));
    return saved;
}

/* ---- from disk ---- */

/* Reads key after key; what is wrong first is kept. */
typedef struct {
    GKeyFile *file;
    GError *error;
} Reader;

static void reader_bad(Reader *reader, const char *key, const char *what)
{
    if (!reader->error)
        reader->error = g_error_new(G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "%s: %s", key, what);
}

/* NULL: it is not there, or there was an error. */
static char *read_text(Reader *reader, const char *key, gboolean needed)
{
    g_autoptr(GError) error = NULL;
    char *text = NULL;

    if (g_key_file_has_key(reader->file, GROUP, key, NULL)) {
        text = g_key_file_get_string(reader->file, GROUP, key, &error);
        if (!text)
            reader_bad(reader, key, error->message);
    } else if (needed) {
        reader_bad(reader, key, _("it is missing"));
    }
    return text;
}

static void read_hex(Reader *reader, const char *key, guint8 *ret, gsize len)
{
    char *text = read_text(reader, key, TRUE);

    if (text && !from_hex(text, ret, len))
        reader_bad(reader, key, _("not so many hexadecimal digits as it must have"));
    if (text)
        explicit_bzero(text, strlen(text));
    g_free(text);
}

/* 0: it is not there. */
static guint64 read_number(Reader *reader, const char *key, guint64 max)
{
    g_autofree char *text = read_text(reader, key, FALSE);
    guint64 number = 0;

    if (text && !g_ascii_string_to_unsigned(text, 10, 0, max, &number, NULL))
        reader_bad(reader, key, _("not a number that it can be"));
    return number;
}

/* FALSE: it is not there. */
static gboolean read_flag(Reader *reader, const char *key)
{
    g_autofree char *text = read_text(reader, key, FALSE);

    if (text && !g_str_equal(text, "true") && !g_str_equal(text, "false"))
        reader_bad(reader, key, _("neither true nor false"));
    return text && g_str_equal(text, "true");
}

static MigrationSide read_side(Reader *reader)
{
    g_autofree char *text = read_text(reader, "side", TRUE);

    if (g_strcmp0(text, side_words[MIGRATION_SIDE_DESTINATION]) == 0)
        return MIGRATION_SIDE_DESTINATION;
    if (g_strcmp0(text, side_words[MIGRATION_SIDE_SOURCE]) != 0)
        reader_bad(reader, "side", _("neither source nor destination"));
    return MIGRATION_SIDE_SOURCE;
}

static GBytes *read_args(Reader *reader)
{
    g_autofree char *text = read_text(reader, "perform-args", FALSE);
    guint8 *data;
    gsize len;

    if (!text)
        return NULL;
    data = g_base64_decode(text, &len);
    return g_bytes_new_take(data, len);
}

static char *read_socket_path(Reader *reader, const char *key, const char *run_dir)
{
    char *path = read_text(reader, key, FALSE);

    /* It is for removing: nothing else may stand there. */
    if (path && !run_dir_owns(run_dir, path))
        reader_bad(reader, key, _("no name of a socket in the run directory"));
    return path;
}

static void read_rest(Reader *reader, JobRecord *record)
{
    record->helper_pid = (pid_t)read_number(reader, "helper-pid", G_MAXINT32);
    record->qemu_connections = (guint)read_number(reader, "qemu-connections", G_MAXUINT32);
    record->streaming = read_flag(reader, "streaming");
    record->postcopy = read_flag(reader, "postcopy");
    record->on_purpose = read_flag(reader, "on-purpose");
    record->speed_limit.user = read_number(reader, "speed-user", G_MAXUINT64);
    record->speed_limit.again = read_flag(reader, "speed-again");
    record->recovers = read_flag(reader, "recovers");
    record->reading_failed = read_flag(reader, "reading-failed");
    record->memory = read_flag(reader, "memory");
    record->memory_uid = (uid_t)read_number(reader, "memory-uid", G_MAXUINT32);
    record->perform_procedure = (gint32)read_number(reader, "perform-procedure", G_MAXINT32);
    record->perform_args = read_args(reader);
    record->begun = (gint64)read_number(reader, "begun-us", G_MAXINT64);
    record->expected_ram = read_number(reader, "expected-ram", G_MAXUINT64);
    record->history.begun = (gint64)read_number(reader, "first-begun-us", G_MAXINT64);
    record->history.recoveries = (guint)read_number(reader, "recoveries", G_MAXUINT);
    record->history.lost_us = (gint64)read_number(reader, "link-lost-us", G_MAXINT64);
    record->broken = (gint64)read_number(reader, "broken", G_MAXINT64);
    if (!read_flag(reader, "complete"))
        reader_bad(reader, "complete", _("it is not"));
}

static void read_version(Reader *reader)
{
    if (read_number(reader, "version", G_MAXUINT) > RECORD_VERSION)
        reader_bad(reader, "version", _("of a later release of virtpostcopyd"));
}

static JobRecord *from_key_file(GKeyFile *file, const char *run_dir, GError **error)
{
    g_autoptr(JobRecord) record = job_record_new();
    Reader reader = { .file = file };

    read_version(&reader);
    record->side = read_side(&reader);
    record->domain = read_text(&reader, "domain", TRUE);
    record->uri.host = read_text(&reader, "host", TRUE);
    record->uri.port = (guint16)read_number(&reader, "port", G_MAXUINT16);
    read_hex(&reader, "session", record->uri.session, MIGRATION_SESSION_LEN);
    read_hex(&reader, "token", record->uri.token, MIGRATION_TOKEN_LEN);
    record->listen_address = read_text(&reader, "listen-address", FALSE);
    record->tls_name = read_text(&reader, "tls-name", FALSE);
    record->socket_path = read_socket_path(&reader, "socket-path", run_dir);
    record->disks_path = read_socket_path(&reader, "disks-path", run_dir);
    read_rest(&reader, record);
    if (reader.error) {
        g_propagate_error(error, reader.error);
        return NULL;
    }
    return g_steal_pointer(&record);
}

static int open_private(const char *path, gsize max, GError **error)
{
    autofd fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(errno), "%s", g_strerror(errno));
        return -1;
    }
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077)) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
                            _("it is not a file of this user alone"));
        return -1;
    }
    if (st.st_size < 0 || (guint64)st.st_size > max) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, _("it is too long"));
        return -1;
    }
    return autofd_steal(&fd);
}

/* At most max bytes, whatever the size said. */
static GKeyFile *load_key_file(const char *path, gsize max, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GByteArray) text = g_byte_array_new();
    guint8 chunk[4096];
    ssize_t n = 0;
    gboolean good;
    autofd fd = open_private(path, max, error);

    if (fd < 0)
        return NULL;
    while (text->len <= max && (n = read(fd, chunk, sizeof chunk)) > 0)
        g_byte_array_append(text, chunk, (guint)n);
    if (n < 0) {
        g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(errno), "%s", g_strerror(errno));
        return NULL;
    }
    g_byte_array_append(text, (const guint8 *)"", 1);
    good = g_key_file_load_from_data(file, (const char *)text->data, text->len - 1,
                                     G_KEY_FILE_NONE, error);
    explicit_bzero(text->data, text->len);
    explicit_bzero(chunk, sizeof chunk);
    return good ? g_steal_pointer(&file) : NULL;
}

static JobRecord *load(const char *run_dir, const char *name, GError **error)
{
    g_autofree char *path = g_build_filename(run_dir, name, NULL);
    g_autofree char *expected = NULL;
    g_autoptr(GKeyFile) file = load_key_file(path, RECORD_MAX, error);
    g_autoptr(JobRecord) record = file ? from_key_file(file, run_dir, error) : NULL;

    if (!record)
        return NULL;
    expected = path_of(run_dir, record->uri.session, SUFFIX_RECORD);
    if (!g_str_equal(path, expected)) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                            _("it is the record of another session"));
        return NULL;
    }
    return g_steal_pointer(&record);
}

static gint by_age(gconstpointer a, gconstpointer b)
{
    const JobRecord *first = *(const JobRecord *const *)a;
    const JobRecord *second = *(const JobRecord *const *)b;

    return (first->begun > second->begun) - (first->begun < second->begun);
}

GPtrArray *job_record_load_all(const char *run_dir)
{
    GPtrArray *records = g_ptr_array_new_with_free_func((GDestroyNotify)job_record_free);
    g_autoptr(GDir) dir = g_dir_open(run_dir, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autoptr(GError) error = NULL;
        JobRecord *record;

        if (!g_str_has_prefix(name, RUN_DIR_PREFIX_JOB) || !g_str_has_suffix(name, SUFFIX_RECORD))
            continue;
        record = load(run_dir, name, &error);
        if (record)
            g_ptr_array_add(records, record);
        else
            log_warning(NULL, "the record of a migration, %s/%s, cannot be used: %s", run_dir, name,
                        error->message);
    }
    g_ptr_array_sort(records, by_age);
    return records;
}

/* ---- the outcome ---- */

gboolean job_record_load_outcome(const char *run_dir, const guint8 session[MIGRATION_SESSION_LEN],
                                 JobOutcomeText *ret_outcome)
{
    g_autofree char *path = job_record_outcome_path(run_dir, session);
    g_autoptr(GKeyFile) file = load_key_file(path, JOB_OUTCOME_LEN, NULL);
    g_auto(JobOutcomeText) outcome = { 0 };

    if (!file || !g_key_file_get_boolean(file, JOB_OUTCOME_GROUP, JOB_OUTCOME_COMPLETE, NULL))
        return FALSE;
    outcome.state = g_key_file_get_string(file, JOB_OUTCOME_GROUP, JOB_OUTCOME_STATE, NULL);
    outcome.phase = g_key_file_get_string(file, JOB_OUTCOME_GROUP, JOB_OUTCOME_PHASE, NULL);
    outcome.ended_by = g_key_file_get_string(file, JOB_OUTCOME_GROUP, JOB_OUTCOME_ENDED_BY, NULL);
    outcome.reason = g_key_file_get_string(file, JOB_OUTCOME_GROUP, JOB_OUTCOME_REASON, NULL);
    if (!outcome.state || !outcome.phase || !outcome.ended_by || !outcome.reason)
        return FALSE;
    *ret_outcome = outcome;
    outcome = (JobOutcomeText){ 0 };
    return TRUE;
}

void job_outcome_text_clear(JobOutcomeText *outcome)
{
    g_free(outcome->state);
    g_free(outcome->phase);
    g_free(outcome->ended_by);
    g_free(outcome->reason);
    *outcome = (JobOutcomeText){ 0 };
}
