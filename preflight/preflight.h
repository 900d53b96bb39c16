/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Everything about this host that quick looks at local files can tell. The daemon asks before it
 * touches a guest, `virt-postcopy check` whenever it is run. Nothing here waits for anybody. */
#pragma once

#include "preflight/credentials.h"
#include "xml/capabilities.h"

/* What of the settings is looked at; everything is borrowed. */
typedef struct {
    const char *root; /* before every path: "" for this host */
    gboolean psk;
    const char *psk_file;
    const char *psk_identity; /* or NULL */
    const char *ca_file;
    const char *crl_file;
    gboolean crl_required;
    const char *cert_file;
    const char *key_file;
    const char *client_cert_file;
    const char *client_key_file;
    const char *host_name; /* what other hosts call this one, or NULL: not looked at */
    const char *helper_path;
    const char *helper_user;
    gboolean helper_user_known; /* it was found before: nobody is asked for it */
    const char *run_dir;
} PreflightConfig;

/* Can this host send a guest away? */
GPtrArray *preflight_source(const PreflightConfig *config);

/* Can this host take in a guest whose QEMU will run as owner? qemu_version: libvirt's, or 0. A name
 * in the certificate that is not host_name is left to the source, which may have been told another.
 */
GPtrArray *preflight_destination(const PreflightConfig *config, const QemuOwner *owner,
                                 gulong qemu_version);

/* ---- the parts ---- */

void preflight_credentials(GPtrArray *findings, const PreflightConfig *config,
                           TlsEndpoint endpoint, const char *hostname);
void preflight_helper(GPtrArray *findings, const PreflightConfig *config);
void preflight_run_dir(GPtrArray *findings, const PreflightConfig *config, const QemuOwner *owner);
void preflight_confinement(GPtrArray *findings, const PreflightConfig *config);
