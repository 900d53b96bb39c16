/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Properties of ram/org.libvirt.Postcopy1.xml, made from what the relay reports. None of these
 * flushes: changes go out with the next flush of the skeleton, or by themselves a little later. */
#pragma once

#include "ram/postcopy-dbus.h"
#include "ram/relay_report.h"

/* What they all say before anything has happened. */
void job_properties_init(PostcopyMigration *skeleton);

void job_properties_set_statistics(PostcopyMigration *skeleton, const RelayStats *stats);

/* In Channels, in place of one of the same kind, and if it is the main one its own properties. */
void job_properties_put_channel(PostcopyMigration *skeleton, const RelayReport *channel_up);

/* ChannelsLost. */
/* channel: channel_name(). */
void job_properties_set_lost(PostcopyMigration *skeleton, const char *channel, gboolean lost);
/* No other channel is waited for any more. */
void job_properties_main_lost_only(PostcopyMigration *skeleton);
void job_properties_none_lost(PostcopyMigration *skeleton);

/* One less in QemuWanted. */
void job_properties_qemu_answered(PostcopyMigration *skeleton);

/* DisksUnanswered. */
void job_properties_want_disks(PostcopyMigration *skeleton, guint16 number);
void job_properties_disks_answered(PostcopyMigration *skeleton, guint16 number);

/* ChannelsWanted names the preempt channel, and so many bulk channels. */
void job_properties_want_channels(PostcopyMigration *skeleton, guint n_bulk);
