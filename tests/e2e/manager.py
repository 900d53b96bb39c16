# SPDX-License-Identifier: LGPL-2.1-or-later
"""A manager of guests made with python3-libvirt, to be run inside a host: `manager.py URI DOMAIN`.

It asks for the domain's job statistics ten times a second, from a thread of its own, on the connection that
migrates, with an event loop running; and it does what lines of JSON on its standard input say:

    {"do": "migrate", "to": URI, "params": {…}, "flags": N}    peer-to-peer, virDomainMigrateToURI3()
    {"do": "migrate-direct", …}                                virDomainMigrate3(), which connects there itself
    {"do": "postcopy"}                                         switches it over
    {"do": "completed", "flags": N}                            the completed statistics

What comes of it are lines of JSON on standard output, each with "t" (seconds since the epoch) and "event":
ready, answer (of a poll: "ms" it took; "type" and "params", or "code" and "error"), migrated ("error" or
null), completed (as answer), job-completed ("params").
"""
import json
import sys
import threading
import time

import libvirt

INTERVAL = 0.1
_printing = threading.Lock()


def emit(event, **rest):
    with _printing:
        print(json.dumps({"t": round(time.time(), 6), "event": event, **rest}), flush=True)


class Manager:
    def __init__(self, uri, name):
        self.name, self.domain = name, None
        self.conn = libvirt.open(uri)
        self.conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, self.on_job, None)
        self.conn.setKeepAlive(5, 3)

    def on_job(self, _conn, domain, params, _opaque):
        emit("job-completed", domain=domain.name(), params=params)

    def find(self):
        """The same object all the time: one of a domain that has left is good for what it has left behind."""
        if self.domain is None:
            self.domain = self.conn.lookupByName(self.name)
        return self.domain

    def ask(self, event, flags):
        began = time.perf_counter()
        result = {}
        try:
            stats = self.find().jobStats(flags)
            result = {"type": stats.pop("type"), "params": stats}
        except libvirt.libvirtError as error:
            result = {"code": error.get_error_code(), "error": str(error)}
        emit(event, ms=round((time.perf_counter() - began) * 1e3, 3), **result)

    def poll(self):
        while True:
            self.ask("answer", 0)
            time.sleep(INTERVAL)

    def run(self, function):
        error = None
        try:
            function()
        except libvirt.libvirtError as failure:
            error = str(failure)
        emit("migrated", error=error)

    def migrate(self, command, direct):
        flags, params = command["flags"], command.get("params", {})
        domain = self.conn.lookupByName(self.name)
        if direct:
            target = libvirt.open(command["to"])
            self.run(lambda: domain.migrate3(target, params, flags))
            target.close()
        else:
            self.run(lambda: domain.migrateToURI3(command["to"], params, flags | libvirt.VIR_MIGRATE_PEER2PEER))

    def do(self, command):
        what = command["do"]
        if what.startswith("migrate"):
            threading.Thread(target=self.migrate, args=(command, what == "migrate-direct"), daemon=True).start()
        elif what == "postcopy":
            self.domain.migrateStartPostCopy()
        elif what == "completed":
            self.ask("completed", command["flags"])


def main(uri, name):
    libvirt.registerErrorHandler(lambda *_: None, None)
    libvirt.virEventRegisterDefaultImpl()

    def loop():
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=loop, daemon=True).start()
    manager = Manager(uri, name)
    threading.Thread(target=manager.poll, daemon=True).start()
    emit("ready")
    for line in sys.stdin:
        manager.do(json.loads(line))


if __name__ == "__main__":
    main(*sys.argv[1:])
