/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "preflight/preflight.h"

#include "preflight/confinement.h"
#include "preflight/places.h"
#include "preflight/qemu_conf.h"
#include "preflight/userfaultfd.h"

void preflight_credentials(GPtrArray *findings, const PreflightConfig *config,
                           TlsEndpoint endpoint, const char *hostname)
{
    gboolean server = endpoint == TLS_ENDPOINT_SERVER;
    g_auto(CredentialFacts) facts = {
        .endpoint = endpoint,
        .psk = config->psk,
        .psk_file = { .path = config->psk_file },
        .psk_identity = config->psk_identity,
        .ca = { .path = config->ca_file },
        .crl = { .path = config->crl_file, .optional = !config->crl_required },
        .cert = { .path = server ? config->cert_file : config->client_cert_file },
        .key = { .path = server ? config->key_file : config->client_key_file },
        .hostname = hostname,
        .now = time(NULL),
    };

    credentials_read(config->root, &facts);
    credentials_judge(findings, &facts);
}

void preflight_helper(GPtrArray *findings, const PreflightConfig *config)
{
    HelperFacts facts;

    helper_look(config->root, config->helper_path, config->helper_user,
                config->helper_user_known, &facts);
    helper_judge(findings, &facts);
}

void preflight_run_dir(GPtrArray *findings, const PreflightConfig *config, const QemuOwner *owner)
{
    g_auto(RunDirFacts) facts = { NULL };

    run_dir_look(config->root, config->run_dir, owner, &facts);
    run_dir_judge(findings, &facts);
}

void preflight_confinement(GPtrArray *findings, const PreflightConfig *config)
{
    g_auto(ConfinementFacts) facts = { NULL };

    confinement_look(config->root, config->run_dir, &facts);
    confinement_judge(findings, &facts);
}

GPtrArray *preflight_source(const PreflightConfig *config)
{
    GPtrArray *findings = findings_new();

    preflight_credentials(findings, config, TLS_ENDPOINT_CLIENT, NULL);
    preflight_helper(findings, config);
    qemu_conf_look(findings, config->root);
    return findings;
}

GPtrArray *preflight_destination(const PreflightConfig *config, const QemuOwner *owner,
                                 gulong qemu_version)
{
    GPtrArray *findings = findings_new();
    UserfaultfdFacts facts;

    preflight_credentials(findings, config, TLS_ENDPOINT_SERVER, NULL);
    preflight_helper(findings, config);
    qemu_conf_look(findings, config->root);
    preflight_run_dir(findings, config, owner);
    userfaultfd_look(config->root, owner, qemu_version, &facts);
    userfaultfd_judge(findings, &facts);
    return findings;
}
