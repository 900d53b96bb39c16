/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/preflight_config.h"

PreflightConfig preflight_config(const Settings *settings)
{
    return (PreflightConfig){
        .root = "",
        .psk = settings->migration_auth == MIGRATION_AUTH_PSK,
        .psk_file = settings->migration_psk_file,
        .psk_identity = settings->migration_psk_identity,
        .ca_file = settings->ca_file,
        .crl_file = settings->crl_file,
        .crl_required = settings->crl_required,
        .cert_file = settings->cert_file,
        .key_file = settings->key_file,
        .client_cert_file = settings->client_cert_file,
        .client_key_file = settings->client_key_file,
        .host_name = settings_host_name(settings),
        .helper_path = settings->helper_path,
        .helper_user = settings->helper_user,
        .run_dir = settings->run_dir,
    };
}
