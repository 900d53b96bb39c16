# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records libvirt's events as lines of JSON. Run inside a host with a connection URI.

Each line has "t" (seconds since the epoch), "event" (lifecycle, job-completed,
migration-iteration, qmp, closed, or ready once all are registered), "domain", and
what the event brought.
"""
import json
import sys
import time

import libvirt
import libvirt_qemu

LIFECYCLE = ("DEFINED", "UNDEFINED", "STARTED", "SUSPENDED", "RESUMED", "STOPPED", "SHUTDOWN",
             "PMSUSPENDED", "CRASHED")


def emit(event, domain=None, **rest):
    line = {"t": round(time.time(), 6), "event": event}
    if domain is not None:
        line["domain"] = domain.name()
    print(json.dumps({**line, **rest}), flush=True)


def constant_name(prefix, value):
    """stopped/migrated from VIR_DOMAIN_EVENT_STOPPED_MIGRATED."""
    for name, number in vars(libvirt).items():
        if name.startswith(prefix) and number == value:
            return name.removeprefix(prefix).lower()
    return str(value)


def on_lifecycle(_conn, domain, event, detail, _opaque):
    kind = LIFECYCLE[event] if event < len(LIFECYCLE) else str(event)
    emit("lifecycle", domain, type=kind.lower(),
         detail=constant_name(f"VIR_DOMAIN_EVENT_{kind}_", detail))


def on_job(_conn, domain, params, _opaque):
    emit("job-completed", domain, params=params)


def on_iteration(_conn, domain, iteration, _opaque):
    emit("migration-iteration", domain, iteration=iteration)


def on_qmp(_conn, domain, event, seconds, micros, details, _opaque):
    emit("qmp", domain, type=event, at=seconds + micros / 1e6,
         details=json.loads(details) if details else None)


def on_close(_conn, reason, _opaque):
    emit("closed", reason=reason)


def main(uri):
    libvirt.virEventRegisterDefaultImpl()
    libvirt.registerErrorHandler(lambda *_: None, None)
    conn = libvirt.open(uri)
    conn.registerCloseCallback(on_close, None)
    for kind, callback in ((libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, on_lifecycle),
                           (libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, on_job),
                           (libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, on_iteration)):
        conn.domainEventRegisterAny(None, kind, callback, None)
    libvirt_qemu.qemuMonitorEventRegister(conn, None, None, on_qmp, None)
    conn.setKeepAlive(5, 3)
    emit("ready")
    while conn.isAlive():
        libvirt.virEventRunDefaultImpl()


if __name__ == "__main__":
    main(sys.argv[1])
