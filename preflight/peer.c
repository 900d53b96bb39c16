/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "preflight/peer.h"

#include <glib/gi18n.h>
#include <inttypes.h>

/* Certificates and logs of the two hosts are hard to compare beyond that. */
#define CLOCK_TOLERANCE_MS 60000

static char *open_remedy(const PeerOpenFacts *facts)
{
    switch (facts->step) {
    case PEER_STEP_URI:
        return g_strdup(_("give the URI of the other host's virtpostcopyd, such as "
                          "postcopy+tls://HOST/system"));
    case PEER_STEP_NAME:
        return g_strdup_printf(_("add %s to the DNS or to /etc/hosts of this host, or correct the "
                                 "name"),
                               facts->host);
    case PEER_STEP_PORT:
        return g_strdup_printf(
            _("run \"systemctl enable --now virtpostcopyd-tls.socket\" on %1$s and "
              "open port %2$u in the firewalls, or use postcopy+ssh://"),
            facts->host, facts->port);
    case PEER_STEP_TLS:
        return g_strdup_printf(
            _("run \"virt-postcopy check\" on %s, which looks at its certificates, "
              "make both hosts' certificates of one authority and for the names "
              "they are called by, and see tls_allowed_dn_list there"),
            facts->host);
    case PEER_STEP_AUTH:
        return g_strdup_printf(_("let this user or host in on %s (ssh keys, the "
                                 "permissions of its sockets, libvirt's polkit rules)"),
                               facts->host);
    case PEER_STEP_DRIVER:
        return g_strdup_printf(
            _("install libvirt-postcopy on %1$s; if libvirtd itself listens at that "
              "port, give virtpostcopyd another (tls_port) and name it in the URI"),
            facts->host);
    default:
        return g_strdup_printf(_("see the log of virtpostcopyd on %s (\"journalctl -u "
                                 "virtpostcopyd\")"),
                               facts->host ? facts->host : "localhost");
    }
}

void peer_judge_open(GPtrArray *findings, const PeerOpenFacts *facts)
{
    static const PreflightProblem problems[] = {
        [PEER_STEP_URI] = PROBLEM_PEER_URI,      [PEER_STEP_NAME] = PROBLEM_PEER_NAME,
        [PEER_STEP_PORT] = PROBLEM_PEER_RPC_PORT, [PEER_STEP_TLS] = PROBLEM_PEER_RPC_TLS,
        [PEER_STEP_AUTH] = PROBLEM_PEER_RPC_AUTH, [PEER_STEP_DRIVER] = PROBLEM_PEER_RPC_DRIVER,
        [PEER_STEP_OTHER] = PROBLEM_PEER_RPC_FAILED,
    };

    if (facts->step == PEER_STEP_DONE)
        preflight_pass(findings, CHECK_PEER, facts->uri);
    else
        preflight_problem(findings, CHECK_PEER, problems[facts->step], g_strdup(facts->error),
                          open_remedy(facts));
}

void peer_judge_uuid(GPtrArray *findings, const char *ours, const char *theirs)
{
    if (g_strcmp0(ours, theirs) != 0) {
        preflight_pass(findings, CHECK_PEER_UUID, NULL);
        return;
    }
    preflight_problem(
        findings, CHECK_PEER_UUID, PROBLEM_PEER_UUID,
        g_strdup_printf(_("both hosts have the UUID %s, and libvirt refuses to migrate "
                          "from a host to itself"),
                        ours),
        g_strdup(_("if they are two hosts, set host_uuid in the libvirtd.conf or "
                   "virtqemud.conf of one of them to what \"uuidgen\" prints, and "
                   "restart that daemon")));
}

static gboolean has_size(const GArray *pools, guint64 kib)
{
    for (guint i = 0; i < pools->len; i++) {
        if (g_array_index(pools, HugepagePool, i).kib == kib)
            return TRUE;
    }
    return FALSE;
}

void peer_judge_hugepages(GPtrArray *findings, const GArray *ours, const GArray *theirs)
{
    for (guint i = 0; i < ours->len; i++) {
        const HugepagePool *pool = &g_array_index(ours, HugepagePool, i);

        if (pool->total == 0 || has_size(theirs, pool->kib))
            continue;
        preflight_problem(
            findings, CHECK_PEER_HUGEPAGES, PROBLEM_PEER_HUGEPAGE_SIZES,
            g_strdup_printf(_("this host sets huge pages of %" PRIu64 " KiB aside, which the other "
                              "one does not have"),
                            pool->kib),
            g_strdup_printf(_("boot the other host with \"hugepagesz=%" PRIu64
                              "K\" before guests that "
                              "use them migrate there"),
                            pool->kib));
        return;
    }
    preflight_pass(findings, CHECK_PEER_HUGEPAGES, NULL);
}

static void judge_clock(GPtrArray *findings, const PeerPortFacts *facts)
{
    gint64 ms = facts->clock_ms;

    if (ABS(ms) <= CLOCK_TOLERANCE_MS) {
        preflight_pass(findings, CHECK_PEER_CLOCK, NULL);
        return;
    }
    preflight_problem(findings, CHECK_PEER_CLOCK, PROBLEM_PEER_CLOCK,
                      g_strdup_printf(ms > 0
                                          ? _("the clock of %1$s is %2$" PRId64 " s ahead of ours")
                                          : _("the clock of %1$s is %2$" PRId64 " s behind ours"),
                                      facts->host, ABS(ms) / 1000),
                      g_strdup(_("run \"timedatectl set-ntp true\" on both hosts")));
}

void peer_judge_port(GPtrArray *findings, const PeerPortFacts *facts)
{
    g_autofree char *detail = NULL;

    if (!facts->connected) {
        preflight_problem(
            findings, CHECK_PEER_PORT, PROBLEM_PEER_PORT_CLOSED, g_strdup(facts->error),
            g_strdup_printf(_("open port %1$u of %2$s in the firewalls, set its "
                              "migration_address to one that is reached from here, and "
                              "see that virtpostcopyd runs there"),
                            facts->port, facts->host));
        return;
    }
    if (facts->error) {
        preflight_problem(
            findings, CHECK_PEER_PORT, PROBLEM_PEER_PORT_TLS, g_strdup(facts->error),
            g_strdup_printf(_("run \"virt-postcopy check\" on %s as well, make both "
                              "hosts' certificates (or keys) of one authority, and see "
                              "migration_allowed_dn_list there"),
                            facts->host));
        return;
    }
    detail = g_strdup_printf(_("%1$s port %2$u, virtpostcopyd %3$s"), facts->host, facts->port,
                             facts->version);
    preflight_pass(findings, CHECK_PEER_PORT, detail);
    judge_clock(findings, facts);
}
