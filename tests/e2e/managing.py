# SPDX-License-Identifier: LGPL-2.1-or-later
"""The other end of manager.py: a manager in a host, told what to do, and what it has heard."""
import json
import subprocess

from wait import wait_for


class Manager:
    """A manager of that domain, connected to the host's own daemon unless uri says otherwise."""

    def __init__(self, host, name, uri=None):
        self.host, self.name = host, name
        self.file = host.path(f"/tmp/manager-{host.next_number()}.json")
        with open(self.file, "wb") as out:
            self.process = host.popen(["/usr/bin/python3", host.script("manager.py"), uri or host.uri(), name],
                                      stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, text=True)
        self.wait("ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def tell(self, what, **rest):
        self.process.stdin.write(json.dumps({"do": what, **rest}) + "\n")
        self.process.stdin.flush()

    def all(self, event):
        lines = self.file.read_text().splitlines(keepends=True)
        if self.process.poll() is not None:
            raise AssertionError(f"the manager in {self.host.name} ended: {''.join(lines[-20:])}")
        heard = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
        return [e for e in heard if e["event"] == event]

    def wait(self, event, timeout=60):
        """The last such event, waited for if there is none yet."""
        return wait_for(lambda: self.all(event), f"{event} of the manager in {self.host.name}", timeout)[-1]

    def answers(self):
        """Answers to polls: those with parameters."""
        return [e for e in self.all("answer") if e.get("params")]

    def last(self):
        """The parameters of the last answer, {} before the first."""
        answers = self.answers()
        return answers[-1]["params"] if answers else {}

    def wait_answer(self, predicate, what, timeout=60):
        """The first answer with postcopy.* whose parameters are so."""
        def look():
            return [e for e in self.answers() if "postcopy.state" in e["params"] and predicate(e["params"])]

        return wait_for(look, lambda: f"{what}; the last answer of {self.host.name}: {self.last()}", timeout)[0]

    def wait_more(self, count, timeout=60):
        """So many answers with postcopy.* from now on; returns them."""
        seen = len(self.answers())

        def look():
            more = [e for e in self.answers()[seen:] if "postcopy.state" in e["params"]]
            return more if len(more) >= count else None

        return wait_for(look, f"{count} more answers in {self.host.name}", timeout)

    def completed(self, flags):
        """The completed statistics, asked for now."""
        before = len(self.all("completed"))
        self.tell("completed", flags=flags)
        return wait_for(lambda: self.all("completed")[before:], "completed statistics", 20)[0]
