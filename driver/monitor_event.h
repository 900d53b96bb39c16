/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The events that this driver adds to those of libvirt's QEMU driver, in the shape of QEMU monitor
 * events (virConnectDomainQemuMonitorEventRegister()): their names, their details, who wants them,
 * and the frames of libvirt's qemu program that carry them (facts: libvirt-rpc.md 3.5).
 * virt-postcopy-events(7) describes each. Pure. */
#pragma once

#include "driver/rpc_xdr.h"

/* The qemu program's procedures. */
enum {
    PROC_MONITOR_EVENT_REGISTER = 4,
    PROC_MONITOR_EVENT_DEREGISTER = 5,
    PROC_MONITOR_EVENT = 6,
};

typedef enum {
    MONITOR_EVENT_CHANNEL_OPENED,
    MONITOR_EVENT_LINK_LOST,
    MONITOR_EVENT_LINK_RESTORED,
    MONITOR_EVENT_RECOVERY_STARTED,
    MONITOR_EVENT_RECOVERY_FAILED,
    MONITOR_EVENT_RECOVERY_DONE,
    MONITOR_EVENT_MAX,
} MonitorEventKind;

const char *monitor_event_name(MonitorEventKind kind); /* "POSTCOPY_LINK_LOST" */

/* What the details of an event are made of. Each kind has fields of its own (the table in
 * monitor_event.c), of which those that are not known are left out. */
typedef struct {
    const char *side;    /* "source", "destination" */
    const char *session; /* as in log lines */
    const char *channel;
    const char *tls;
    const char *cipher;
    const char *peer;
    const char *reason;
    gint64 lost_ms;  /* MONITOR_LOST_UNKNOWN: not known */
    guint attempt;   /* 0: not known */
    gint will_retry; /* MONITOR_RETRY_UNKNOWN, or a gboolean */
} MonitorDetails;

#define MONITOR_LOST_UNKNOWN (-1)
#define MONITOR_RETRY_UNKNOWN (-1)
#define MONITOR_DETAILS_INIT                                                                       \
    {                                                                                              \
        .lost_ms = MONITOR_LOST_UNKNOWN, .will_retry = MONITOR_RETRY_UNKNOWN                       \
    }

/* An object in one line of JSON; g_free(). Text that is no UTF-8 is made such. */
char *monitor_event_json(MonitorEventKind kind, const MonitorDetails *details);

/* ---- who wants which ---- */

/* What a client has registered for. */
typedef struct {
    guint kinds; /* 1 << MonitorEventKind: its filter lets these through */
    gboolean any_domain;
    guint8 uuid[REMOTE_UUID_LEN]; /* else */
} MonitorFilter;

/* Longer names and regular expressions than this are not looked at. */
#define MONITOR_PATTERN_MAX 1024

/* What a client asks for in a call of PROC_MONITOR_EVENT_REGISTER. */
typedef struct {
    char *pattern; /* NULL: all events */
    guint32 flags;
    gboolean any_domain;
    guint8 uuid[REMOTE_UUID_LEN]; /* else */
} MonitorRegistration;

void monitor_registration_clear(MonitorRegistration *registration);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(MonitorRegistration, monitor_registration_clear)

/* FALSE: it cannot be read, or its pattern is too long. The pattern is not tried yet. */
gboolean monitor_registration_decode(const RpcFrame *call, MonitorRegistration *ret,
                                     GError **error);

/* Once libvirtd has agreed. FALSE: its regular expression is none. However much that could
 * backtrack, this is soon over; what takes too long matches nothing. */
gboolean monitor_registration_filter(const MonitorRegistration *registration, MonitorFilter *ret,
                                     GError **error);

gboolean monitor_filter_fits(const MonitorFilter *filter, MonitorEventKind kind,
                             const guint8 uuid[REMOTE_UUID_LEN]);

/* The callback's number: in the good reply to a registration, in a call that ends one. */
gboolean monitor_callback_decode(const RpcFrame *frame, gint32 *ret, GError **error);

/* ---- on the wire ---- */

typedef struct {
    MonitorEventKind kind;
    gint64 at; /* microseconds since the epoch */
    const char *json;
} MonitorEvent;

/* As libvirtd would send it to the client that got that callback's number. dom is only read. */
RpcFrame *monitor_event_frame(const MonitorEvent *event, gint32 callback, const remote_dom *dom,
                              GError **error);
