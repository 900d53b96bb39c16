/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What both halves of a recovery's connection share: credentials, ALPN, and the proof that the
 * dialling side has the session's token (driver/recovery_port.h). */
#pragma once

#include "driver/settings.h"
#include "tls/channel.h"
#include "xml/migration_uri.h"

#define RECOVERY_ALPN "virt-postcopy-rpc/1"
#define RECOVERY_EXPORTER_LABEL "EXPORTER-virt-postcopy-recovery"
#define RECOVERY_PROOF_LEN 32
/* The other side's answer to a good proof. */
#define RECOVERY_WELCOME 1

/* TLS on a connection of the migration port that the daemon keeps to itself, with the credentials that
 * a helper of that end would use. Takes fd, also when it fails. hostname: a client's, which the
 * certificate must be for; means nothing with a pre-shared key. */
TlsChannel *recovery_channel_new(const Settings *settings, TlsEndpoint endpoint, int fd,
                                 const char *hostname, const char *alpn, GError **error);

/* The channel's handshake is done. The same on both ends, and on no other connection. Fails with
 * TLS_ERROR. */
gboolean recovery_proof(TlsChannel *channel, const guint8 token[MIGRATION_TOKEN_LEN],
                        guint8 ret_proof[RECOVERY_PROOF_LEN], GError **error);
