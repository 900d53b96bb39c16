/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "preflight/problem.h"

#include <glib/gi18n.h>

static const struct {
    const char *id;
    const char *what;
} checks[] = {
    [CHECK_LIBVIRT] = { "libvirt", N_("libvirt of this host") },
    [CHECK_QEMU] = { "qemu", N_("QEMU of this host") },
    [CHECK_QEMU_CONF] = { "qemu-conf", N_("libvirt's settings for QEMU") },
    [CHECK_USERFAULTFD] = { "userfaultfd", N_("userfaultfd for QEMU's user") },
    [CHECK_MEMLOCK] = { "memlock", N_("limit of locked memory") },
    [CHECK_HUGEPAGES] = { "hugepages", N_("huge pages of this host") },
    [CHECK_SERVER_CREDENTIALS] = { "server-credentials", N_("this host as a destination") },
    [CHECK_CLIENT_CREDENTIALS] = { "client-credentials", N_("this host as a source") },
    [CHECK_DAEMON] = { "daemon", N_("virtpostcopyd") },
    [CHECK_MIGRATION_PORT] = { "migration-port", N_("port for migrations that come in") },
    [CHECK_TLS_PORT] = { "tls-port", N_("port for clients over TLS") },
    [CHECK_RUN_DIR] = { "run-dir", N_("directory of sockets for QEMU") },
    [CHECK_HELPER] = { "helper", N_("helper program") },
    [CHECK_HELPER_USER] = { "helper-user", N_("user of helpers") },
    [CHECK_APPARMOR] = { "apparmor", N_("AppArmor") },
    [CHECK_SELINUX] = { "selinux", N_("SELinux") },
    [CHECK_PEER] = { "peer", N_("connection to the other host") },
    [CHECK_PEER_LIBVIRT] = { "peer-libvirt", N_("libvirt of the other host") },
    [CHECK_PEER_QEMU] = { "peer-qemu", N_("QEMU of the other host") },
    [CHECK_PEER_UUID] = { "peer-uuid", N_("the two hosts are different ones") },
    [CHECK_PEER_HUGEPAGES] = { "peer-hugepages", N_("huge pages of the other host") },
    [CHECK_PEER_PORT] = { "peer-port", N_("migration port of the other host") },
    [CHECK_PEER_CLOCK] = { "peer-clock", N_("clocks of the two hosts") },
    [CHECK_DOMAIN_MEMLOCK] = { "domain-memlock", N_("locked memory of the domain") },
    [CHECK_DOMAIN_HUGEPAGES] = { "domain-hugepages", N_("huge pages for the domain") },
};
G_STATIC_ASSERT(G_N_ELEMENTS(checks) == CHECK_MAX);

static const struct {
    const char *id;
    FindingVerdict verdict;
} problems[] = {
    [PROBLEM_LIBVIRT_UNREACHABLE] = { "libvirt-unreachable", FINDING_FAIL },
    [PROBLEM_LIBVIRT_OLD] = { "libvirt-old", FINDING_FAIL },
    [PROBLEM_LIBVIRT_RESUME_CRASH] = { "libvirt-resume-crash", FINDING_WARN },
    [PROBLEM_QEMU_MISSING] = { "qemu-missing", FINDING_FAIL },
    [PROBLEM_QEMU_UNTRIED] = { "qemu-untried", FINDING_WARN },
    [PROBLEM_QEMU_TLS_FORCE] = { "qemu-tls-force", FINDING_FAIL },
    [PROBLEM_QEMU_CONF_UNREADABLE] = { "qemu-conf-unreadable", FINDING_WARN },
    [PROBLEM_USERFAULTFD_KERNEL] = { "userfaultfd-kernel", FINDING_FAIL },
    [PROBLEM_USERFAULTFD_FORBIDDEN] = { "userfaultfd-forbidden", FINDING_FAIL },
    [PROBLEM_USERFAULTFD_ROOT] = { "userfaultfd-root", FINDING_WARN },
    [PROBLEM_USERFAULTFD_FILTERED] = { "userfaultfd-filtered", FINDING_FAIL },
    [PROBLEM_USERFAULTFD_FEATURES] = { "userfaultfd-features", FINDING_WARN },
    [PROBLEM_MEMLOCK_LIMIT] = { "memlock-limit", FINDING_WARN },
    [PROBLEM_CREDENTIAL_FILE] = { "credential-file", FINDING_FAIL },
    [PROBLEM_CREDENTIAL_MALFORMED] = { "credential-malformed", FINDING_FAIL },
    [PROBLEM_CA_INVALID] = { "ca-invalid", FINDING_FAIL },
    [PROBLEM_CA_EXPIRED] = { "ca-expired", FINDING_FAIL },
    [PROBLEM_CERTIFICATE_EXPIRED] = { "certificate-expired", FINDING_FAIL },
    [PROBLEM_CERTIFICATE_EARLY] = { "certificate-early", FINDING_FAIL },
    [PROBLEM_CERTIFICATE_EXPIRES_SOON] = { "certificate-expires-soon", FINDING_WARN },
    [PROBLEM_CERTIFICATE_PURPOSE] = { "certificate-purpose", FINDING_FAIL },
    [PROBLEM_CERTIFICATE_UNTRUSTED] = { "certificate-untrusted", FINDING_FAIL },
    [PROBLEM_CERTIFICATE_REVOKED] = { "certificate-revoked", FINDING_FAIL },
    [PROBLEM_CERTIFICATE_NAME] = { "certificate-name", FINDING_FAIL },
    [PROBLEM_CRL_INVALID] = { "crl-invalid", FINDING_FAIL },
    [PROBLEM_CRL_OUTDATED] = { "crl-outdated", FINDING_WARN },
    [PROBLEM_KEY_MISMATCH] = { "key-mismatch", FINDING_FAIL },
    [PROBLEM_KEY_PERMISSIONS] = { "key-permissions", FINDING_WARN },
    [PROBLEM_PSK_IDENTITY] = { "psk-identity", FINDING_FAIL },
    [PROBLEM_DAEMON_DOWN] = { "daemon-down", FINDING_FAIL },
    [PROBLEM_MIGRATION_PORT_TAKEN] = { "migration-port-taken", FINDING_FAIL },
    [PROBLEM_MIGRATION_PORT_SILENT] = { "migration-port-silent", FINDING_FAIL },
    [PROBLEM_MIGRATION_ADDRESS] = { "migration-address", FINDING_FAIL },
    [PROBLEM_TLS_PORT_CLOSED] = { "tls-port-closed", FINDING_WARN },
    [PROBLEM_RUN_DIR_MISSING] = { "run-dir-missing", FINDING_FAIL },
    [PROBLEM_RUN_DIR_ACCESS] = { "run-dir-access", FINDING_FAIL },
    [PROBLEM_HELPER_MISSING] = { "helper-missing", FINDING_FAIL },
    [PROBLEM_HELPER_MODE] = { "helper-mode", FINDING_FAIL },
    [PROBLEM_HELPER_USER] = { "helper-user-missing", FINDING_FAIL },
    [PROBLEM_APPARMOR_RULE] = { "apparmor-rule", FINDING_WARN },
    [PROBLEM_SELINUX_ENFORCING] = { "selinux-enforcing", FINDING_WARN },
    [PROBLEM_PEER_URI] = { "peer-uri", FINDING_FAIL },
    [PROBLEM_PEER_NAME] = { "peer-name", FINDING_FAIL },
    [PROBLEM_PEER_RPC_PORT] = { "peer-rpc-port", FINDING_FAIL },
    [PROBLEM_PEER_RPC_TLS] = { "peer-rpc-tls", FINDING_FAIL },
    [PROBLEM_PEER_RPC_AUTH] = { "peer-rpc-auth", FINDING_FAIL },
    [PROBLEM_PEER_RPC_DRIVER] = { "peer-rpc-driver", FINDING_FAIL },
    [PROBLEM_PEER_RPC_FAILED] = { "peer-rpc-failed", FINDING_FAIL },
    [PROBLEM_PEER_UUID] = { "peer-uuid-equal", FINDING_FAIL },
    [PROBLEM_PEER_HUGEPAGE_SIZES] = { "peer-hugepage-sizes", FINDING_WARN },
    [PROBLEM_PEER_PORT_CLOSED] = { "peer-port-closed", FINDING_FAIL },
    [PROBLEM_PEER_PORT_TLS] = { "peer-port-tls", FINDING_FAIL },
    [PROBLEM_PEER_CLOCK] = { "peer-clock-differs", FINDING_WARN },
    [PROBLEM_DOMAIN_MEMLOCK] = { "domain-memlock-limit", FINDING_FAIL },
    [PROBLEM_DOMAIN_HUGEPAGES] = { "domain-hugepages-missing", FINDING_FAIL },
    [PROBLEM_DOMAIN_HUGEPAGES_SIZE] = { "domain-hugepages-size", FINDING_WARN },
};
G_STATIC_ASSERT(G_N_ELEMENTS(problems) == PROBLEM_MAX);

const char *preflight_problem_id(PreflightProblem problem)
{
    return problems[problem].id;
}

FindingVerdict preflight_problem_verdict(PreflightProblem problem)
{
    return problems[problem].verdict;
}

const char *preflight_check_id(PreflightCheck check)
{
    return checks[check].id;
}

void preflight_pass(GPtrArray *findings, PreflightCheck check, const char *detail)
{
    findings_add(findings, FINDING_PASS, checks[check].id, _(checks[check].what), detail, NULL);
}

void preflight_problem(GPtrArray *findings, PreflightCheck check, PreflightProblem problem,
                       char *detail, char *remedy)
{
    g_autofree char *owned_detail = detail;
    g_autofree char *owned_remedy = remedy;

    findings_add(findings, problems[problem].verdict, problems[problem].id, _(checks[check].what),
                 owned_detail, owned_remedy);
}
