/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tls/proof.h"

#include <glib/gi18n.h>
#include <gnutls/crypto.h>
#include <string.h>

/* kind, channel number, binding */
#define PROOF_TEXT_LEN (1 + 2 + 32)

G_STATIC_ASSERT(CHANNEL_KEY_LEN == 32); /* what tls_channel_export() makes */

gboolean channel_key(TlsChannel *main_channel, guint8 ret_key[CHANNEL_KEY_LEN], GError **error)
{
    return tls_channel_export(main_channel, HELLO_EXPORTER_LABEL, ret_key, error);
}

gboolean channel_proof(const guint8 key[CHANNEL_KEY_LEN], TlsChannel *channel, ChannelKind kind,
                       guint16 number, guint8 ret_proof[HELLO_PROOF_LEN], GError **error)
{
    guint8 text[PROOF_TEXT_LEN] = { kind, number >> 8, number & 0xff };
    int ret;

    if (!tls_channel_export(channel, HELLO_EXPORTER_LABEL, text + 3, error))
        return FALSE;
    ret = gnutls_hmac_fast(GNUTLS_MAC_SHA256, key, CHANNEL_KEY_LEN, text, sizeof text, ret_proof);
    explicit_bzero(text, sizeof text);
    if (ret < 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_HANDSHAKE, _("no proof can be made: %s"),
                    gnutls_strerror(ret));
        return FALSE;
    }
    return TRUE;
}
