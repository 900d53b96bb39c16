/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Limits and defaults of Configure's options that are also settings of the daemon: one place for
 * both ends of the D-Bus interface. Plain numbers, so that a default can be made a string. */
#pragma once

/* "stage": bytes of pages that the source's helper holds until they are sent. */
#define JOB_STAGE_DEFAULT 268435456
#define JOB_STAGE_MIN 16777216
#define JOB_STAGE_MAX 1099511627776

/* The setting migration_compression_level: zstd's. */
#define JOB_COMPRESSION_LEVEL_DEFAULT 1
#define JOB_COMPRESSION_LEVEL_MIN 1
#define JOB_COMPRESSION_LEVEL_MAX 19
/* "compression-level" and "compression-zlib-level": what the libraries take. 0 and -1 are their own defaults. */
#define JOB_ZSTD_LEVEL_MIN 0
#define JOB_ZSTD_LEVEL_MAX 22
#define JOB_ZLIB_LEVEL_DEFAULT 1
#define JOB_ZLIB_LEVEL_MIN -1
#define JOB_ZLIB_LEVEL_MAX 9

/* "compression-threads" */
#define JOB_COMPRESSION_THREADS_DEFAULT 1
#define JOB_COMPRESSION_THREADS_MAX 16

/* "bulk": channels. */
#define JOB_BULK_MAX 16

/* "heartbeat-interval", in seconds, and "heartbeat-count". */
#define JOB_HEARTBEAT_DEFAULT 2
#define JOB_HEARTBEAT_MAX 32767
#define JOB_HEARTBEATS_DEFAULT 4
#define JOB_HEARTBEATS_MAX 127

/* "reconnect-timeout", in seconds; 0: for ever. */
#define JOB_RECONNECT_DEFAULT 60
#define JOB_RECONNECT_MAX 604800

/* "rekey-records", for tests; 0: never. */
#define JOB_REKEY_MAX 16777216
