/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tickets on the client's side: what gnutls needs to resume a session, behind a seal.
 *
 * The seal is an HMAC by the secret of the credentials over host name, protocol and contents.
 * Without it a ticket that was damaged would fail the handshake instead of being passed over, and
 * one of other credentials would let us in under the name they have. */
#include "config.h"

#include <gnutls/crypto.h>
#include <string.h>

#include "tls/channel_priv.h"

#define SEAL_LEN 32

/* In memory that is wiped: with it anybody could be us. */
typedef struct {
    gsize len;
    guint8 bytes[];
} Sealed;

static void sealed_free(gpointer data)
{
    Sealed *sealed = data;

    gnutls_memset(sealed->bytes, 0, sealed->len);
    g_free(sealed);
}

static gboolean seal(const TlsChannel *channel, const guint8 *data, gsize len,
                     guint8 ret_seal[SEAL_LEN])
{
    const gnutls_datum_t *secret = tls_credentials_secret(channel->creds);
    const char *const texts[] = { channel->hostname ? channel->hostname : "",
                                  channel->alpn ? channel->alpn : "" };
    gnutls_hmac_hd_t hmac;

    if (gnutls_hmac_init(&hmac, GNUTLS_MAC_SHA256, secret->data, secret->size) < 0)
        return FALSE;
    /* With the NUL that parts them. */
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++)
        gnutls_hmac(hmac, texts[i], strlen(texts[i]) + 1);
    gnutls_hmac(hmac, data, len);
    gnutls_hmac_deinit(hmac, ret_seal);
    return TRUE;
}

GBytes *tls_ticket_take(const TlsChannel *channel)
{
    gnutls_datum_t data = { NULL, 0 };
    Sealed *sealed;
    gsize len;

    if (!(gnutls_session_get_flags(channel->session) & GNUTLS_SFLAGS_SESSION_TICKET) ||
        gnutls_session_get_data2(channel->session, &data) < 0)
        return NULL;
    len = SEAL_LEN + data.size;
    sealed = g_malloc(sizeof(*sealed) + len);
    sealed->len = len;
    memcpy(sealed->bytes + SEAL_LEN, data.data, data.size);
    gnutls_memset(data.data, 0, data.size);
    gnutls_free(data.data);
    if (!seal(channel, sealed->bytes + SEAL_LEN, len - SEAL_LEN, sealed->bytes)) {
        sealed_free(sealed);
        return NULL;
    }
    return g_bytes_new_with_free_func(sealed->bytes, len, sealed_free, sealed);
}

void tls_ticket_show(TlsChannel *channel, GBytes *ticket)
{
    gsize len;
    const guint8 *bytes = g_bytes_get_data(ticket, &len);
    guint8 expected[SEAL_LEN];

    if (len <= SEAL_LEN || !seal(channel, bytes + SEAL_LEN, len - SEAL_LEN, expected) ||
        gnutls_memcmp(bytes, expected, SEAL_LEN) != 0)
        return;
    /* It is gnutls' own work: what may fail is memory, and a full handshake is left. */
    gnutls_session_set_data(channel->session, bytes + SEAL_LEN, len - SEAL_LEN);
}
