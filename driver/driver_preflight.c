/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The domain's XML first, by a call of the daemon's own on the client's upstream connection; then
 * the checks, in a thread of their own, because they look at file systems that may hang. */
#include "config.h"

#include "driver/driver_preflight.h"

#include <glib/gi18n.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "driver/host_look.h"
#include "driver/preflight_config.h"
#include "driver/rpc_xdr.h"
#include "preflight/domain_memory.h"
#include "util/log.h"
#include "xml/eligibility.h"

#define PROC_DOMAIN_GET_XML_DESC 14
#define XML_OF_NOW 0 /* no VIR_DOMAIN_XML_ flag: as it runs, and without secrets */

/* What a thread needs of a job, and what it brings back. */
typedef struct {
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
        if (look->here && look->destination)
            add_hugepages(findings, look->destination);
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

gboolean driver_preflight_host(const DriverJob *job, const QemuOwner *owner, GError **error)
{
    PreflightConfig config = preflight_config(job->driver->settings);
    g_autoptr(GPtrArray) findings =
        owner ? preflight_destination(&config, owner, /* qemu_version= */ 0)
              : preflight_source(&config);
    g_autofree char *problem = findings_error(findings);
    LogContext log = log_context(job);

    log_findings(job, findings);
    /* What goes to a plain destination goes without helpers. */
    if (problem && !owner && job->driver->settings->allow_plain_destination)
        log_warning(&log, "%s", problem);
    else if (problem) /* who reads it may be on neither host */
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s: %s", config.host_name, problem);
    else
        return TRUE;
    return !owner && job->driver->settings->allow_plain_destination;
}

/* Who reads it may be on neither host. */
static char *words_of(const DriverJob *job, const GPtrArray *findings)
{
    PreflightConfig config = preflight_config(job->driver->settings);
    g_autofree char *words = findings_error(findings);

    return words ? g_strdup_printf("%s: %s", config.host_name, words) : NULL;
}

static void on_checked(GObject *source, GAsyncResult *result, gpointer data)
{
    DriverJob *job = data;
    const Look *look = g_task_get_task_data(G_TASK(result));
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) findings = g_task_propagate_pointer(G_TASK(result), &error);
    g_autofree char *problem = NULL;
    LogContext log = log_context(job);

    if (proxy_is_closed(job->proxy)) {
        driver_job_free(job);
        return;
    }
    if (look->warning)
        log_warning(&log, "%s", look->warning);
    if (findings) {
        log_findings(job, findings);
        problem = words_of(job, findings);
    } else {
        log_warning(&log, _("the domain was not looked at: %s"), error->message);
    }
    if (problem)
        driver_job_refuse(job, VIR_ERR_OPERATION_UNSUPPORTED, problem);
    else
        job->next(job);
}

static void check(DriverJob *job, char *running)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, on_checked, job);
    Look *look = g_new0(Look, 1);

    look->running = running;
    look->destination = g_strdup(migrate_call_text(job->call, MIGRATE_TEXT_DOMAIN_XML));
    look->here = migrate_call_phase(job->call) == MIGRATE_PHASE_PREPARE;
    look->alone = job->driver->settings->allow_plain_destination;
    g_task_set_task_data(task, look, look_free);
    g_task_run_in_thread(task, run_checks);
}

/* ---- the domain as it runs ---- */

static char *domain_xml(const RpcFrame *reply, GError **error)
{
    RPC_XDR_AUTO(remote_text_ret, ret) = { 0 };
    gsize len;
    const guint8 *payload = rpc_frame_payload(reply, &len);

    if (reply->header.status != RPC_STATUS_OK) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, _("libvirt does not tell its XML"));
        return NULL;
    }
    if (!rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_text_ret, &ret, sizeof ret,
                        "the domain's XML", error))
        return NULL;
    return g_strdup(ret.text);
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
