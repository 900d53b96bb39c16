/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pace of key updates.
 *
 * A gnutls peer ends a connection of which it receives more than 8 of them within a second of its
 * own time: those that we want, those it asked for itself, and those that the network, or a pause
 * of the peer, held up and that come together. So what counts is how many can be on their way.
 *
 * A client always asks for the other direction too, and changes its key three times a second at
 * most, but not before the server's key has changed in answer: one is on its way, and one answer.
 * No answer is a reason to wait, for the peer may be stuck, and after seconds no reason any more,
 * for it may have nothing to say. The server's key follows the client's requests. It cannot ask
 * (tls_channel_update_key() says why) and so never learns how far the client has got: on its own
 * account it changes its key when that was not changed for those seconds. In all that makes three
 * or four in a second in each direction, and a pause of half a minute does no harm. */
#include "config.h"

#include "tls/channel_priv.h"

#define ANSWERED_INTERVAL_US (G_USEC_PER_SEC / 3)
#define BLIND_INTERVAL_US (5 * G_USEC_PER_SEC)

gboolean tls_rekey_allowed(const TlsRekey *rekey, gint64 now_us)
{
    gint64 interval = rekey->answered ? ANSWERED_INTERVAL_US : BLIND_INTERVAL_US;

    if (rekey->owed)
        return FALSE;
    return rekey->updates == 0 || now_us - rekey->changed_us >= interval;
}

gboolean tls_rekey_due(const TlsRekey *rekey)
{
    return rekey->every > 0 && rekey->records >= rekey->every &&
           tls_rekey_allowed(rekey, g_get_monotonic_time());
}

void tls_rekey_note_update(TlsRekey *rekey, gboolean incoming, const gnutls_datum_t *body)
{
    if (incoming) {
        rekey->answered = TRUE;
        /* RFC 8446, section 4.6.3: update_requested */
        rekey->owed = rekey->owed || (body->size == 1 && body->data[0] == 1);
        return;
    }
    rekey->updates++;
    rekey->records = 0;
    rekey->changed_us = g_get_monotonic_time();
    rekey->answered = FALSE;
    rekey->owed = FALSE;
}
