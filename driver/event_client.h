/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A client that has registered for monitor events: what it wants of ours, and what is on its way to
 * it.
 *
 * Before each event the client's own upstream is asked for the domain. So the event has the id that
 * the domain has now, libvirtd's access control has its say, and what libvirtd had sent to this
 * client before is in front of it. Main thread only. */
#pragma once

#include "driver/monitor_event.h"
#include "driver/proxy.h"

typedef struct EventClient EventClient;

EventClient *event_client_new(Proxy *proxy);
/* Nothing is sent any more. */
void event_client_free(EventClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EventClient, event_client_free)

/* Once libvirtd has agreed to a registration, and to its end. */
void event_client_add(EventClient *client, gint32 callback, const MonitorFilter *filter);
void event_client_remove(EventClient *client, gint32 callback);

/* For those of its registrations that it fits then, after all that was pushed before. json is
 * copied. */
void event_client_push(EventClient *client, const char *domain, const MonitorEvent *event);

/* Makes the domain known, for an event that comes when libvirt has it no more. */
void event_client_learn(EventClient *client, const char *domain);
