/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The driver's table: which procedures it has an opinion on. */
#include "config.h"

#include "driver/driver.h"

#include <glib/gi18n.h>
#include <libvirt/virterror.h>

#include "driver/check_port.h"
#include "driver/driver_priv.h"
#include "driver/driver_events.h"
#include "driver/driver_memory.h"
#include "driver/driver_open.h"
#include "driver/driver_stats.h"
#include "driver/memory_port.h"
#include "driver/recovery.h"
#include "driver/recovery_client.h"
#include "driver/recovery_port.h"
#include "driver/run_dir.h"
#include "util/log.h"

/* Protocols 1 and 2, and tunnelled migration: no stock client of the last decade comes to them with
 * a postcopy: URI, and none can carry a post-copy migration. */
static gboolean migrate_refused(Driver *driver, Proxy *proxy, RpcFrame *frame)
{
    proxy_reply_error(proxy, &frame->header, VIR_ERR_ARGUMENT_UNSUPPORTED, VIR_FROM_QEMU,
                      _("this driver supports neither tunnelled migration nor the migration "
                        "protocols before version 3"));
    rpc_frame_free(frame);
    return TRUE;
}

static const struct {
    gint32 procedure;
    DriverFunc func;
} table[] = {
    { 1, driver_connect_open },       /* CONNECT_OPEN */
    { 110, driver_connect_get_uri },  /* CONNECT_GET_URI */
    { 61, migrate_refused },          /* DOMAIN_MIGRATE_PREPARE */
    { 62, migrate_refused },          /* DOMAIN_MIGRATE_PERFORM */
    { 63, migrate_refused },          /* DOMAIN_MIGRATE_FINISH */
    { 108, migrate_refused },         /* DOMAIN_MIGRATE_PREPARE2 */
    { 109, migrate_refused },         /* DOMAIN_MIGRATE_FINISH2 */
    { 148, migrate_refused },         /* DOMAIN_MIGRATE_PREPARE_TUNNEL */
    { 215, migrate_refused },         /* DOMAIN_MIGRATE_PREPARE_TUNNEL3 */
    { 304, migrate_refused },         /* DOMAIN_MIGRATE_PREPARE_TUNNEL3_PARAMS */
    { 164, driver_abort_job },        /* DOMAIN_ABORT_JOB */
    { 442, driver_abort_job_flags },  /* DOMAIN_ABORT_JOB_FLAGS */
};

/* The same for the calls of migration protocol 3, which are decoded first. */
static const struct {
    gint32 procedure;
    DriverJobFunc func;
} job_table[] = {
    { 213, driver_migrate_begin3 },   /* DOMAIN_MIGRATE_BEGIN3 */
    { 214, driver_migrate_prepare3 }, /* DOMAIN_MIGRATE_PREPARE3 */
    { 216, driver_migrate_perform3 }, /* DOMAIN_MIGRATE_PERFORM3 */
    { 217, driver_migrate_finish3 },  /* DOMAIN_MIGRATE_FINISH3 */
    { 218, driver_migrate_confirm3 }, /* DOMAIN_MIGRATE_CONFIRM3 */
    { 302, driver_migrate_begin3 },   /* DOMAIN_MIGRATE_BEGIN3_PARAMS */
    { 303, driver_migrate_prepare3 }, /* DOMAIN_MIGRATE_PREPARE3_PARAMS */
    { 305, driver_migrate_perform3 }, /* DOMAIN_MIGRATE_PERFORM3_PARAMS */
    { 306, driver_migrate_finish3 },  /* DOMAIN_MIGRATE_FINISH3_PARAMS */
    { 307, driver_migrate_confirm3 }, /* DOMAIN_MIGRATE_CONFIRM3_PARAMS */
};

static gboolean is_open(gint32 procedure)
{
    return procedure == 1 || procedure == 110;
}

/* DOMAIN_GET_JOB_INFO and DOMAIN_GET_JOB_STATS: for read-only clients too. */
static gboolean is_job_question(gint32 procedure)
{
    return procedure == 163 || procedure == 298;
}

static DriverJobFunc find_job_func(gint32 procedure)
{
    for (gsize i = 0; i < G_N_ELEMENTS(job_table); i++) {
        if (job_table[i].procedure == procedure)
            return job_table[i].func;
    }
    return NULL;
}

/* Migrations that do not ask for post-copy are libvirt's own. */
static void run_job(DriverJobFunc func, DriverJob *job)
{
    if (!job)
        return;
    if (driver_job_is_ours(job))
        func(job);
    else
        driver_job_pass(job);
}

/* A read-only client's calls that change something are refused by libvirtd, in its own words. */
static gboolean driver_call(Proxy *proxy, RpcFrame *frame, gpointer data)
{
    Driver *driver = data;
    DriverJobFunc job_func;

    if (frame->header.program == RPC_PROGRAM_QEMU)
        return driver_events_call(driver->events, proxy, frame);
    if (frame->header.program != RPC_PROGRAM_REMOTE)
        return FALSE;
    if (driver_memory_call(driver->memory_accounts, proxy, frame))
        return TRUE;
    if (is_job_question(frame->header.procedure))
        return driver_stats_call(driver->stats, proxy, frame);
    if (proxy_peer(proxy)->read_only && !is_open(frame->header.procedure))
        return FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(table); i++) {
        if (table[i].procedure == frame->header.procedure)
            return table[i].func(driver, proxy, frame);
    }
    job_func = find_job_func(frame->header.procedure);
    if (!job_func)
        return FALSE;
    run_job(job_func, driver_job_new(driver, proxy, frame));
    return TRUE;
}

/* Events of libvirt's on their way to a client. */
static gboolean driver_message(Proxy *proxy, RpcFrame *frame, gpointer data)
{
    Driver *driver = data;

    return driver_stats_message(driver->stats, proxy, frame);
}

static void driver_closed(Proxy *proxy, gpointer data)
{
    Driver *driver = data;

    driver_events_closed(driver->events, proxy);
    driver_stats_closed(driver->stats, proxy);
}

static const ProxyHooks hooks = { .call = driver_call,
                                  .message = driver_message,
                                  .closed = driver_closed };

const ProxyHooks *driver_hooks(void)
{
    return &hooks;
}

static void on_port_call(int fd, SessionPurpose purpose, const char *address,
                         const guint8 session[MIGRATION_SESSION_LEN], gpointer data)
{
    if (purpose == SESSION_FOR_RPC)
        recovery_port_take(data, fd, address, session);
    else
        check_port_take(data, fd, address);
}

static void on_notice(Migration *migration, MigrationNotice notice, const char *detail,
                      const char *reason, gpointer data)
{
    Driver *driver = data;

    /* Events are of libvirt's domains. */
    if (migration_is_memory(migration)) {
        migration_accounts_notice(driver->memory_accounts, migration, notice, detail);
        return;
    }
    migration_accounts_notice(driver->accounts, migration, notice, detail);
    driver_events_notice(driver->events, migration, notice, detail, reason);
}

static void on_forgotten(MigrationSide side, const char *domain, gpointer data)
{
    Driver *driver = data;

    migration_accounts_give_up(driver->accounts, side, domain);
}

Driver *driver_new(const Settings *settings, GError **error)
{
    g_autoptr(Driver) driver = g_new0(Driver, 1);

    driver->settings = settings;
    driver->stopped = g_cancellable_new();
    driver->recovery_clients = g_ptr_array_new();
    if (!run_dir_prepare(settings->run_dir, error))
        return NULL;
    driver->set = migration_set_new(settings, error);
    if (!driver->set)
        return NULL;
    driver->events = driver_events_new(driver->set);
    driver->accounts = migration_accounts_new();
    driver->memory_accounts = migration_accounts_new();
    driver->stats = driver_stats_new(driver->accounts);
    migration_set_on_notice(driver->set, on_notice, driver);
    migration_set_on_forgotten(driver->set, on_forgotten, driver);
    driver->recoveries = recovery_set_new(driver);
    driver->port = session_port_new(driver->set, on_port_call, driver, error);
    if (!driver->port)
        return NULL;
    driver->memory = memory_port_new(driver->set, error);
    if (!driver->memory)
        return NULL;
    /* Last: the port was free, so no other daemon has these helpers. */
    migration_set_adopt(driver->set);
    return g_steal_pointer(&driver);
}

void driver_free(Driver *driver)
{
    if (!driver)
        return;
    g_cancellable_cancel(driver->stopped);
    session_port_free(driver->port);
    memory_port_free(driver->memory);
    recovery_clients_close(driver);
    recovery_set_free(driver->recoveries);
    if (driver->set) {
        migration_set_on_notice(driver->set, NULL, NULL);
        migration_set_on_forgotten(driver->set, NULL, NULL);
    }
    driver_events_free(driver->events);
    driver_stats_free(driver->stats);
    migration_accounts_free(driver->accounts);
    migration_accounts_free(driver->memory_accounts);
    migration_set_free(driver->set);
    g_ptr_array_unref(driver->recovery_clients);
    g_object_unref(driver->stopped);
    g_free(driver);
}
