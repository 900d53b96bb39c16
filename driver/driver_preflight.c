/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The domain's XML first, by a call of the daemon's own on the client's upstream connection; then
 * the checks, in a thread of their own, because they look at file systems that may hang. */
#include "config.h"

#include "driver/driver_preflight.h"

#include <glib/gi18n.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <unistd.h>

#include "driver/host_look.h"
#include "driver/preflight_config.h"
#include "driver/rpc_xdr.h"
#include "preflight/domain_memory.h"
#include "util/log.h"
#include "xml/eligibility.h"
#include "xml/ram_blocks.h"

/* A file system whose server is gone never answers, and takes a thread with it. */
#define LOOK_SECONDS 10
#define LOOKS_MAX 4

#define PROC_DOMAIN_GET_XML_DESC 14
#define XML_OF_NOW 0 /* no VIR_DOMAIN_XML_ flag: as it runs, and without secrets */

/* What a thread needs of a job, and what it brings back. */
typedef struct {
    Driver *driver;
    DriverJob *job;    /* NULL: it has gone on without the look */
    guint timer;
    guint64 ram;       /* bytes of what the destination is to run */
    char *running;     /* the domain's XML on this host, or NULL */
    char *destination; /* what the destination is to run, or NULL */
    gboolean here;     /* it is to run on this host */
    gboolean alone;    /* nobody may look at the other host */
    char *warning;     /* about the look itself, or NULL */
} Look;

static void look_free(gpointer data)
{
    Look *look = data;

    g_free(look->running);
    g_free(look->destination);
    g_free(look->warning);
    g_free(look);
}

static LogContext log_context(const DriverJob *job)
{
    gboolean prepare = migrate_call_phase(job->call) == MIGRATE_PHASE_PREPARE;

    return (LogContext){ .client = proxy_name(job->proxy),
                         .side = prepare ? "destination" : "source",
                         .phase = migrate_phase_name(migrate_call_phase(job->call)) };
}

/* ---- the checks ---- */

static gboolean add_eligibility(GPtrArray *findings, const char *xml, const HostFacts *facts,
                                GError **error)
{
    GPtrArray *more = xml ? eligibility_check(xml, facts, error) : findings_new();

    if (!more)
        return FALSE;
    findings_take(findings, more);
    return TRUE;
}

/* This host has to have them free, in addition to those of other guests. */
static void add_hugepages(GPtrArray *findings, const char *xml)
{
    g_autoptr(GArray) needs = domain_memory_hugepages(xml, hugepages_default_kib(""), NULL);
    g_autoptr(GArray) pools = hugepages_look("");

    if (needs) /* else eligibility says what is wrong with the XML */
        hugepages_judge_domain(findings, pools, needs, g_get_host_name());
}

static guint64 expected_ram(const char *xml)
{
    g_autoptr(GPtrArray) blocks = ram_blocks_expected(xml, (guint64)sysconf(_SC_PAGESIZE), NULL);
    guint64 bytes = 0;

    for (guint i = 0; blocks && i < blocks->len; i++)
        bytes += ((const RamBlock *)g_ptr_array_index(blocks, i))->size;
    return bytes;
}

/* In the thread. A destination's file systems can be looked at there alone. */
static void run_checks(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    Look *look = data;
    g_autoptr(HostLook) host = host_look_new(HOST_LOOK_QEMU_CONF, &look->warning);
    HostFacts facts = *host_look_facts(host);
    g_autoptr(GPtrArray) findings = findings_new();
    GError *error = NULL;

    /* Nothing else would save a guest from a destination without this driver. */
    facts.destination = look->here || look->alone;
    if (add_eligibility(findings, look->running, &facts, &error) &&
        add_eligibility(findings, look->destination, look->here ? &facts : NULL, &error)) {
        if (look->here && look->destination) {
            add_hugepages(findings, look->destination);
            look->ram = expected_ram(look->destination);
        }
        g_task_return_pointer(task, g_steal_pointer(&findings), (GDestroyNotify)g_ptr_array_unref);
    } else {
        g_task_return_error(task, error);
    }
}

static void log_findings(const DriverJob *job, const GPtrArray *findings)
{
    LogContext log = log_context(job);

    for (guint i = 0; i < findings->len; i++) {
        const Finding *finding = g_ptr_array_index(findings, i);

        if (finding->verdict == FINDING_WARN)
            log_warning(&log, "%s: %s: %s", finding->id, finding->detail, finding->remedy);
        else if (finding->verdict == FINDING_PASS && finding->detail)
            log_debug(&log, "%s: %s", finding->id, finding->detail);
    }
}

/* NULL: nothing is wrong. With this host's name: who reads it may be on neither host. */
static char *words_of(const DriverJob *job, const GPtrArray *findings)
{
    PreflightConfig config = preflight_config(job->driver->settings);
    g_autofree char *words = findings_error(findings);

    return words ? g_strdup_printf("%s: %s", config.host_name, words) : NULL;
}

gboolean driver_preflight_host(const DriverJob *job, const QemuOwner *owner, GError **error)
{
    PreflightConfig config = preflight_config(job->driver->settings);
    g_autoptr(GPtrArray) findings = NULL;
    g_autofree char *problem = NULL;
    LogContext log = log_context(job);

    /* Without that user the daemon would not have started; helpers get its numbers. */
    config.helper_user_known = TRUE;
    findings = owner ? preflight_destination(&config, owner, /* qemu_version= */ 0)
                     : preflight_source(&config);
    problem = words_of(job, findings);
    log_findings(job, findings);
    /* What goes to a plain destination goes without helpers. */
    if (problem && !owner && job->driver->settings->allow_plain_destination)
        log_warning(&log, "%s", problem);
    else if (problem)
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_FAILED, problem);
    else
        return TRUE;
    return !owner && job->driver->settings->allow_plain_destination;
}

static void judge(DriverJob *job, const Look *look, const GPtrArray *findings, const char *error)
{
    g_autofree char *problem = NULL;
    LogContext log = log_context(job);

    if (look->warning)
        log_warning(&log, "%s", look->warning);
    if (findings) {
        log_findings(job, findings);
        problem = words_of(job, findings);
    } else {
        log_warning(&log, _("the domain was not looked at: %s"), error);
    }
    job->expected_ram = look->ram;
    if (problem)
        driver_job_refuse(job, VIR_ERR_OPERATION_UNSUPPORTED, problem);
    else
        job->next(job);
}

/* ---- looks, a few at a time ---- */

static void start(Look *look);

/* The thread is done with it; the job may have gone on long ago. */
static void on_checked(GObject *source, GAsyncResult *result, gpointer data)
{
    Look *look = data;
    Driver *driver = look->driver;
    DriverJob *job = g_steal_pointer(&look->job);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) findings = g_task_propagate_pointer(G_TASK(result), &error);
    Look *next = g_queue_pop_head(&driver->looks_waiting);

    driver->looks--;
    if (next)
        start(next);
    if (!job)
        return;
    g_source_remove(look->timer);
    if (proxy_is_closed(job->proxy))
        driver_job_free(job);
    else
        judge(job, look, findings, error ? error->message : NULL);
}

static void start(Look *look)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, on_checked, look);

    look->driver->looks++;
    g_task_set_task_data(task, look, look_free);
    g_task_run_in_thread(task, run_checks);
}

/* The destination's QEMU would have to find a tmpfs where nobody could look for one. */
static gboolean is_in_files(const char *xml)
{
    g_autoptr(GPtrArray) blocks =
        xml ? ram_blocks_expected(xml, (guint64)sysconf(_SC_PAGESIZE), NULL) : NULL;

    for (guint i = 0; blocks && i < blocks->len; i++) {
        const RamBlock *block = g_ptr_array_index(blocks, i);

        if (block->backing == RAM_BACKING_FILE || block->backing == RAM_BACKING_PATH)
            return TRUE;
    }
    return FALSE;
}

static void go_on_without(DriverJob *job, gboolean in_files)
{
    g_autofree char *words =
        g_strdup_printf(_("the domain was not looked at: a file system has not answered for %u s"),
                        LOOK_SECONDS);
    LogContext log = log_context(job);

    if (in_files) {
        driver_job_refuse(job, VIR_ERR_OPERATION_FAILED, words);
        return;
    }
    log_warning(&log, "%s", words);
    job->next(job);
}

static gboolean on_too_long(gpointer data)
{
    Look *look = data;
    DriverJob *job = g_steal_pointer(&look->job);
    gboolean in_files = look->here && is_in_files(look->destination);

    look->timer = 0;
    if (g_queue_remove(&look->driver->looks_waiting, look)) /* else its thread has it */
        look_free(look);
    if (proxy_is_closed(job->proxy)) {
        driver_job_free(job);
    } else {
        go_on_without(job, in_files);
    }
    return G_SOURCE_REMOVE;
}

static void check(DriverJob *job, char *running)
{
    Look *look = g_new0(Look, 1);

    look->driver = job->driver;
    look->job = job;
    look->running = running;
    look->destination = g_strdup(migrate_call_text(job->call, MIGRATE_TEXT_DOMAIN_XML));
    look->here = migrate_call_phase(job->call) == MIGRATE_PHASE_PREPARE;
    look->alone = job->driver->settings->allow_plain_destination;
    look->timer = g_timeout_add_seconds(LOOK_SECONDS, on_too_long, look);
    if (job->driver->looks < LOOKS_MAX)
        start(look);
    else
        g_queue_push_tail(&job->driver->looks_waiting, look);
}

/* ---- the domain as it runs ---- */

static char *domain_xml(const RpcFrame *reply, GError **error)
{
    if (reply->header.status == RPC_STATUS_OK)
        return rpc_xdr_reply_text(reply, "the domain's XML", error);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, _("libvirt does not tell its XML"));
    return NULL;
}

static void on_domain_xml(Proxy *proxy, RpcFrame *reply, gpointer data)
{
    DriverJob *job = data;
    g_autoptr(RpcFrame) frame = reply;
    g_autoptr(GError) error = NULL;
    LogContext log = log_context(job);
    char *xml;

    if (!frame) {
        driver_job_free(job);
        return;
    }
    xml = domain_xml(frame, &error);
    if (xml) {
        check(job, xml);
        return;
    }
    /* No such domain, or nothing this client may see: libvirtd will say so to the call itself. */
    log_info(&log, _("the domain was not looked at: %s"), error->message);
    job->next(job);
}

void driver_preflight(DriverJob *job, DriverJobFunc next)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) args = NULL;

    if (driver_job_is_resume(job) || (migrate_call_flags(job->call) & VIR_MIGRATE_OFFLINE)) {
        next(job);
        return;
    }
    job->next = next;
    if (migrate_call_phase(job->call) == MIGRATE_PHASE_PREPARE) {
        check(job, NULL);
        return;
    }
    if (!driver_preflight_host(job, NULL, &error)) {
        driver_job_refuse(job, VIR_ERR_OPERATION_FAILED, error->message);
        return;
    }
    args = migrate_call_domain_args(job->call, XML_OF_NOW, &error);
    if (args)
        proxy_call(job->proxy, RPC_PROGRAM_REMOTE, PROC_DOMAIN_GET_XML_DESC, args->data, args->len,
                   on_domain_xml, job);
    else
        driver_job_refuse(job, VIR_ERR_RPC, error->message);
}
