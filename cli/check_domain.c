/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One domain of this host: may it migrate, and is there room for it? */
#include "config.h"

#include <glib/gi18n.h>
#include <stdlib.h>
#include <sys/types.h>

#include "cli/check_parts.h"
#include "driver/host_look.h"
#include "preflight/domain_memory.h"
#include "preflight/memory.h"
#include "xml/eligibility.h"

static char *find_xml(Check *check, const char *name, GError **error)
{
    g_autoptr(virDomain) domain = NULL;
    char *xml, *copy;

    if (!check->libvirt) {
        g_set_error(error, LIBVIRT_ERROR, VIR_ERR_NO_CONNECT,
                    _("libvirt cannot be asked for the domain %s"), name);
        return NULL;
    }
    domain = g_uuid_string_is_valid(name) ? virDomainLookupByUUIDString(check->libvirt, name)
                                          : virDomainLookupByName(check->libvirt, name);
    xml = domain ? virDomainGetXMLDesc(domain, 0) : NULL;
    if (!xml) {
        connection_error(error);
        return NULL;
    }
    copy = g_strdup(xml);
    free(xml);
    return copy;
}

static gboolean judge_eligibility(Check *check, const char *xml, GError **error)
{
    g_autofree char *warning = NULL;
    g_autoptr(HostLook) look = host_look_new(HOST_LOOK_QEMU_CONF, &warning);
    GPtrArray *found = eligibility_check(xml, host_look_facts(look), error);

    if (!found)
        return FALSE;
    findings_take(check->findings, found);
    return TRUE;
}

/* A destination needs as many again; of this host there is nothing to say, where it runs. */
static gboolean judge_hugepages(Check *check, const char *xml, GError **error)
{
    g_autoptr(GArray) needs = domain_memory_hugepages(xml, hugepages_default_kib(""), error);
    g_autoptr(GArray) pools = NULL;
    g_autofree char *capabilities = NULL;
    GPtrArray *found;
    char *text;

    if (!needs)
        return FALSE;
    if (!check->peer || needs->len == 0)
        return TRUE;
    text = virConnectGetCapabilities(check->peer);
    capabilities = g_strdup(text);
    free(text);
    if (!capabilities) {
        connection_error(error);
        return FALSE;
    }
    found = findings_new();
    pools = check_host_hugepages(check->peer, capabilities);
    hugepages_judge_domain(found, pools, needs,
                           check->peer_name ? check->peer_name : _("the other host"));
    /* libvirt does not tell of those that the kernel there may add by itself. */
    findings_take_as_warnings(check->findings, found);
    return TRUE;
}

static gboolean judge_locked(Check *check, const char *xml, GError **error)
{
    MemlockFacts facts = { 0 };

    if (!domain_memory_locked(xml, &facts.needed, error))
        return FALSE;
    if (facts.needed > 0 && check->libvirt_pid > 0) {
        memlock_look("", check->libvirt_pid, &facts);
        memlock_judge(check->findings, &facts);
    }
    return TRUE;
}

gboolean check_domain(Check *check, const char *name, GError **error)
{
    g_autofree char *xml = find_xml(check, name, error);

    return xml && judge_eligibility(check, xml, error) && judge_locked(check, xml, error) &&
           judge_hugepages(check, xml, error);
}
