# SPDX-License-Identifier: LGPL-2.1-or-later
"""A migration as a manager asks for it, with python3-libvirt: run inside a host. On its standard input it is told
what to do, a line of JSON for each migration:

    {"source": URI, "target": URI, "domain": NAME, "flags": NUMBER, "params": {NAME: VALUE or [VALUE…]}}

and says with a line of JSON what became of it: {"code": 0} or libvirt's {"code", "domain", "message"}. After the
first pass over memory it asks for post-copy. A migration whose flags have PEER2PEER is left to the source host; of
any other this program is the client of both hosts."""
import json
import sys
import threading

import libvirt


class Switch:
    """Asks for post-copy when the second pass over the domain's memory begins."""

    def __init__(self, conn, domain):
        self.conn, self.domain, self.done = conn, domain, False
        self.callback = conn.domainEventRegisterAny(domain, libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION,
                                                    self.on_iteration, None)

    def on_iteration(self, _conn, _domain, iteration, _opaque):
        if iteration >= 2 and not self.done:
            self.done = True
            # not here, where the answer would have to be read
            threading.Thread(target=self.ask, daemon=True).start()

    def ask(self):
        try:
            self.domain.migrateStartPostCopy(0)
        except libvirt.libvirtError:
            self.done = False           # it was through already

    def end(self):
        self.conn.domainEventDeregisterAny(self.callback)


def migrate(order):
    source = libvirt.open(order["source"])
    domain = source.lookupByName(order["domain"])
    flags, params = order["flags"], order["params"]
    switch = Switch(source, domain)
    try:
        if flags & libvirt.VIR_MIGRATE_PEER2PEER:
            domain.migrateToURI3(order["target"], params, flags)
        else:
            domain.migrate3(libvirt.open(order["target"]), params, flags)
        result = {"code": 0, "domain": 0, "message": ""}
    except libvirt.libvirtError as error:
        result = {"code": error.get_error_code(), "domain": error.get_error_domain(),
                  "message": error.get_error_message()}
    finally:
        switch.end()
    return result


def main():
    libvirt.virEventRegisterDefaultImpl()
    libvirt.registerErrorHandler(lambda *_: None, None)

    def loop():
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=loop, daemon=True).start()
    print(json.dumps({"version": libvirt.getVersion()}), flush=True)
    for line in sys.stdin:
        print(json.dumps(migrate(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
