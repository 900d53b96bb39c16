/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A call's flags and parameters under the table of xml/migrate_table.h. */
#include "config.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <libvirt/libvirt.h>

#include "driver/driver_priv.h"
#include "util/log.h"
#include "xml/migrate_table.h"
#include "xml/peer_uri.h"

/* ret_params: to be freed when asked is not needed any more. */
static MigrateAsked asked_of(const MigrateCall *call, MigrateParam **ret_params)
{
    MigrateAsked asked = { .flags = migrate_call_flags(call) };

    asked.peer_perform = migrate_call_phase(call) == MIGRATE_PHASE_PERFORM &&
                         (asked.flags & VIR_MIGRATE_PEER2PEER);
    *ret_params = migrate_call_params(call, &asked.n_params);
    asked.params = *ret_params;
    return asked;
}

gboolean driver_options_check(const DriverJob *job, gboolean given_uri, GError **error)
{
    const char *uri = given_uri ? migrate_call_text(job->call, MIGRATE_TEXT_URI) : NULL;
    g_autofree MigrateParam *params = NULL;
    MigrateAsked asked = asked_of(job->call, &params);
    g_auto(PeerUri) peer = { 0 };

    return migrate_options_check(&asked, error) && (!uri || peer_uri_parse(uri, &peer, error));
}

gboolean driver_options_may_be_plain(const DriverJob *job)
{
    return job->driver->settings->allow_plain_destination &&
           !(migrate_call_flags(job->call) & VIR_MIGRATE_TLS);
}

void driver_options_wishes(const MigrateCall *call, MigrateWishes *ret)
{
    g_autofree MigrateParam *params = NULL;
    MigrateAsked asked = asked_of(call, &params);

    migrate_options_wishes(&asked, ret);
}

void driver_options_strip(DriverJob *job)
{
    g_autofree MigrateParam *params = NULL;
    MigrateAsked asked = asked_of(job->call, &params);
    g_autofree gboolean *taken = g_new0(gboolean, asked.n_params + 1);

    /* All are judged before the first goes: one may depend on another. */
    for (gsize i = 0; i < asked.n_params; i++)
        taken[i] = migrate_options_param_taken(&asked, &params[i]);
    migrate_call_clear_flags(job->call, migrate_options_flags_taken(&asked));
    for (gsize i = asked.n_params; i > 0; i--) {
        if (taken[i - 1])
            migrate_call_remove_param(job->call, i - 1);
    }
}

/* ---- what is worth a line ---- */

static void log_row(const LogContext *log, const MigrateRow *row, gboolean taken)
{
    if (row->disposition == MIGRATE_ADAPTED && row->taking != MIGRATE_TAKEN_METHODS && taken)
        log_info(log, "%s: %s", row->option, _(row->words));
}

static void log_compression(const LogContext *log, const MigrateAsked *asked)
{
    MigrateWishes wishes;
    g_autofree char *methods = NULL;

    migrate_options_wishes(asked, &wishes);
    if (wishes.compression.wish == MIGRATE_COMPRESSION_UNSAID)
        return;
    methods = g_strjoinv(", ", (char **)wishes.compression.methods);
    log_info(log, "the session is asked to compress with %s", *methods ? methods : "nothing");
}

static void log_unknown(const LogContext *log, const MigrateAsked *asked)
{
    guint64 flags = migrate_table_unknown(asked->flags);

    if (flags)
        log_debug(log, "flags 0x%" PRIx64 " are not known here: libvirt decides", flags);
    for (gsize i = 0; i < asked->n_params; i++) {
        if (!migrate_table_param(asked->params[i].name))
            log_debug(log, "parameter %s is not known here: libvirt decides",
                      asked->params[i].name);
    }
}

void driver_options_log(const DriverJob *job)
{
    LogContext log = { .client = proxy_name(job->proxy),
                       .phase = migrate_phase_name(migrate_call_phase(job->call)),
                       .side = "source" };
    g_autofree MigrateParam *params = NULL;
    MigrateAsked asked = asked_of(job->call, &params);
    guint64 taken = migrate_options_flags_taken(&asked);

    for (guint bit = 0; bit < 64; bit++) {
        const MigrateRow *row = migrate_table_flag(bit);

        if (row)
            log_row(&log, row, (taken >> bit & 1) != 0);
    }
    for (gsize i = 0; i < asked.n_params; i++) {
        const MigrateRow *row = migrate_table_param(params[i].name);

        if (row)
            log_row(&log, row, migrate_options_param_taken(&asked, &params[i]));
    }
    log_compression(&log, &asked);
    log_unknown(&log, &asked);
}
