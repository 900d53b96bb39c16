/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory client beside the session: for it the client is what a QEMU is. */
#include "config.h"

#include <glib/gi18n.h>

#include "ram/relay_priv.h"
#include "util/autofd.h"

void relay_attach_memory(Relay *relay, RelayCommand *command)
{
    g_autoptr(GError) error = NULL;

    if (session_state_is_end(session_state(relay->session))) {
        relay_reply(relay, command->call,
                    relay_wrong_state(relay, _("a memory client cannot be attached")));
        return;
    }
    if (engine_attach_memory(relay->engine, autofd_steal(&command->fd), &error))
        relay_reply(relay, command->call, NULL);
    else
        relay_reply(relay, command->call,
                    g_error_new_literal(JOB_ERROR, JOB_ERROR_WRONG_STATE, error->message));
}

void relay_watch_memory(Relay *relay)
{
    if (session_state(relay->session) != SESSION_AWAIT_QEMU ||
        !engine_memory_is_ready(relay->engine))
        return;
    session_on_qemu_attached(relay->session, NULL);
    relay_act(relay);
}

gboolean relay_memory_has_parted(Relay *relay)
{
    if (!engine_memory_is_parting(relay->engine))
        return TRUE;
    if (!relay->memory_until_us)
        relay->memory_until_us = relay_in_ms(relay->timeouts.linger_ms);
    if (g_get_monotonic_time() < relay->memory_until_us)
        return FALSE;
    engine_drop_memory(relay->engine);
    return TRUE;
}
