# SPDX-License-Identifier: LGPL-2.1-or-later
"""The reading side of events.py: the events of one host, as they come."""
import json
import subprocess

from wait import wait_for


class Recorder:
    """Events a libvirt client inside the host received, oldest first."""

    def __init__(self, host, uri):
        self.host = host
        self.file = host.path(f"/tmp/events-{host.next_number()}.json")
        with open(self.file, "wb") as out:
            self.process = host.popen(["/usr/bin/python3", host.script("events.py"), uri],
                                      stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        wait_for(lambda: self.find("ready") or self.process.poll() is not None,
                 "event recorder ready", 20)
        if self.process.poll() is not None:
            raise RuntimeError(f"the event recorder ended: {self.file.read_text()}")

    def all(self):
        events = []
        for line in self.file.read_text().splitlines(keepends=True):
            if line.startswith("{") and line.endswith("\n"):
                events.append(json.loads(line))
        return events

    def find(self, event, domain=None, **fields):
        """Events of that kind whose fields are as given."""
        return [e for e in self.all()
                if e["event"] == event and (domain is None or e.get("domain") == domain)
                and all(e.get(k) == v for k, v in fields.items())]

    def wait(self, event, domain=None, timeout=30, **fields):
        """The first such event, waited for if it has not come yet."""
        return wait_for(lambda: self.find(event, domain, **fields),
                        lambda: f"event {event} {fields} on {self.host.name}; there were: {self.all()}",
                        timeout)[0]

    def lifecycle(self, domain=None):
        """["resumed/postcopy", …] in order."""
        return [f"{e['type']}/{e['detail']}" for e in self.find("lifecycle", domain)]

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
