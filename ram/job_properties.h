/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Properties of ram/org.libvirt.Postcopy1.xml, made from what the relay reports. None of these
 * flushes: changes go out with the next flush of the skeleton, or by themselves a little later. */
#pragma once

#include "ram/postcopy-dbus.h"
#include "ram/relay_report.h"

/* What they all say before anything has happened. */
void job_properties_init(PostcopyMigration *skeleton);

void job_properties_set_statistics(PostcopyMigration *skeleton, const RelayStats *stats);

/* One more in Channels, and if it is the main one its own properties. */
void job_properties_add_channel(PostcopyMigration *skeleton, const RelayReport *channel_up);

/* ChannelsWanted names the preempt channel. */
void job_properties_want_preempt(PostcopyMigration *skeleton);
