/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every check that this folder knows, and every problem that one of them can find. Each problem has
 * an id that stays (for scripts), and a remedy of its own; the tests have a case for each. */
#pragma once

#include "util/finding.h"

/* What is looked at. */
typedef enum {
    CHECK_LIBVIRT,
    CHECK_QEMU,
    CHECK_QEMU_CONF,
    CHECK_USERFAULTFD,
    CHECK_MEMLOCK,
    CHECK_HUGEPAGES,
    CHECK_SERVER_CREDENTIALS,
    CHECK_CLIENT_CREDENTIALS,
    CHECK_DAEMON,
    CHECK_MIGRATION_PORT,
    CHECK_TLS_PORT,
    CHECK_RUN_DIR,
    CHECK_HELPER,
    CHECK_HELPER_USER,
    CHECK_APPARMOR,
    CHECK_SELINUX,
    CHECK_PEER,
    CHECK_PEER_LIBVIRT,
    CHECK_PEER_QEMU,
    CHECK_PEER_UUID,
    CHECK_PEER_HUGEPAGES,
    CHECK_PEER_PORT,
    CHECK_PEER_CLOCK,
    CHECK_DOMAIN_MEMLOCK,
    CHECK_DOMAIN_HUGEPAGES,
    CHECK_MAX
} PreflightCheck;

typedef enum {
    PROBLEM_LIBVIRT_UNREACHABLE,
    PROBLEM_LIBVIRT_OLD,
    PROBLEM_LIBVIRT_RESUME_CRASH,
    PROBLEM_QEMU_MISSING,
    PROBLEM_QEMU_UNTRIED,
    PROBLEM_QEMU_TLS_FORCE,
    PROBLEM_QEMU_CONF_UNREADABLE,
    PROBLEM_USERFAULTFD_KERNEL,
    PROBLEM_USERFAULTFD_FORBIDDEN,
    PROBLEM_USERFAULTFD_ROOT,
    PROBLEM_USERFAULTFD_FILTERED,
    PROBLEM_USERFAULTFD_FEATURES,
    PROBLEM_MEMLOCK_LIMIT,
    PROBLEM_CREDENTIAL_FILE,
    PROBLEM_CREDENTIAL_MALFORMED,
    PROBLEM_CA_INVALID,
    PROBLEM_CA_EXPIRED,
    PROBLEM_CERTIFICATE_EXPIRED,
    PROBLEM_CERTIFICATE_EARLY,
    PROBLEM_CERTIFICATE_EXPIRES_SOON,
    PROBLEM_CERTIFICATE_PURPOSE,
    PROBLEM_CERTIFICATE_UNTRUSTED,
    PROBLEM_CERTIFICATE_REVOKED,
    PROBLEM_CERTIFICATE_NAME,
    PROBLEM_CRL_INVALID,
    PROBLEM_CRL_OUTDATED,
    PROBLEM_KEY_MISMATCH,
    PROBLEM_KEY_PERMISSIONS,
    PROBLEM_PSK_IDENTITY,
    PROBLEM_DAEMON_DOWN,
    PROBLEM_MIGRATION_PORT_TAKEN,
    PROBLEM_MIGRATION_PORT_SILENT,
    PROBLEM_MIGRATION_ADDRESS,
    PROBLEM_TLS_PORT_CLOSED,
    PROBLEM_RUN_DIR_MISSING,
    PROBLEM_RUN_DIR_ACCESS,
    PROBLEM_HELPER_MISSING,
    PROBLEM_HELPER_MODE,
    PROBLEM_HELPER_USER,
    PROBLEM_APPARMOR_RULE,
    PROBLEM_SELINUX_ENFORCING,
    PROBLEM_PEER_URI,
    PROBLEM_PEER_NAME,
    PROBLEM_PEER_RPC_PORT,
    PROBLEM_PEER_RPC_TLS,
    PROBLEM_PEER_RPC_AUTH,
    PROBLEM_PEER_RPC_DRIVER,
    PROBLEM_PEER_RPC_FAILED,
    PROBLEM_PEER_UUID,
    PROBLEM_PEER_HUGEPAGE_SIZES,
    PROBLEM_PEER_PORT_CLOSED,
    PROBLEM_PEER_PORT_TLS,
    PROBLEM_PEER_CLOCK,
    PROBLEM_DOMAIN_MEMLOCK,
    PROBLEM_DOMAIN_HUGEPAGES,
    PROBLEM_DOMAIN_HUGEPAGES_SIZE,
    PROBLEM_MAX
} PreflightProblem;

/* Stable words: "userfaultfd-forbidden". */
const char *preflight_problem_id(PreflightProblem problem);
FindingVerdict preflight_problem_verdict(PreflightProblem problem); /* WARN or FAIL */

/* Stable words as well ("userfaultfd"): the id of a finding that passed. */
const char *preflight_check_id(PreflightCheck check);

/* detail (or NULL) is copied. */
void preflight_pass(GPtrArray *findings, PreflightCheck check, const char *detail);

/* detail and remedy are taken, and translated already. */
void preflight_problem(GPtrArray *findings, PreflightCheck check, PreflightProblem problem,
                       char *detail, char *remedy);
