# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every flag and every parameter of a post-copy migration, direct and peer-to-peer, comes to what the
driver's table says of it (docs/flags.md), with the code and the words that a manager sees."""
import json
import subprocess
import threading

from guest import Guest
from harness import deadline, note
from matrix import BASE, CASES, NO_SUCH_PARAMETER, P2P, UNSUPPORTED
from migrating import nothing_left, summaries

# Small, and yet more of it is written to during a pass than QEMU would send while the guest stands still: each
# migration has a second pass, and so post-copy.
GUEST = {"memory": 64, "ram": 24, "rate": 20000}
LINK = "400mbit"


def load_table(rig):
    """The rows of xml/migrate_table.c, by name."""
    dump = subprocess.run([rig.builddir / "tests/support/migrate-table-dump", "--json"], check=True,
                          capture_output=True, text=True)
    return {row["name"]: row for row in json.loads(dump.stdout)}


class Client:
    """A migrate_client.py in a host."""

    def __init__(self, host):
        self.process = host.popen(["/usr/bin/python3", host.script("migrate_client.py")], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        self.version = self._answer()["version"]

    def _answer(self):
        line = self.process.stdout.readline()
        assert line, "the client has ended"
        return json.loads(line)

    def migrate(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)


class Matrix:
    """All cases of one mode, with one guest that goes to and fro."""

    def __init__(self, rig, table, mode, cases):
        self.rig, self.table, self.mode = rig, table, mode
        self.cases = [case for case in cases if mode in case.modes]
        self.guest = Guest(rig, **GUEST)
        self.at = rig.a
        self.clients = {}
        self.wrong = []
        self.accepted = self.refused = 0
        self.error = None

    def run(self):
        """Each case; what is not as it must be comes to self.wrong."""
        try:
            self.guest.start(self.at)
            self.clients = {host: Client(host) for host in self.rig.hosts}
            for case in self.cases:
                self._try(case)
            self.guest.verdict(self.at)
        except Exception as error:                      # pylint: disable=broad-except
            self.error = error                          # of another thread: raised by the test
        finally:
            for client in self.clients.values():
                client.close()

    def _order(self, case, target):
        bit = self.table[case.row]["bit"] if case.row else None
        flags = BASE | case.flags | (0 if bit is None else 1 << bit) | (P2P if self.mode == "p2p" else 0)
        params = {name: value(self, self.at, target) if callable(value) else value
                  for name, value in case.params.items()}
        return {"source": self.at.uri(), "target": target.uri("tls"), "domain": self.guest.name,
                "flags": flags, "params": params}

    def _expected(self, case):
        """(code, words)"""
        row = self.table.get(case.row)
        version = min(client.version for client in self.clients.values())
        if case.since > version:
            return UNSUPPORTED, NO_SUCH_PARAMETER
        if case.later and version >= case.later[0]:
            return case.later[1:]
        if not case.code and row and row["disposition"] == "refused":
            return row["code"], row["words"]
        return case.code, case.words

    def _try(self, case):
        target = self.rig.other(self.at)
        order = self._order(case, target)
        code, words = self._expected(case)
        answer = self.clients[self.at].migrate(**order)
        if answer["code"] != code or words not in answer["message"]:
            shown = {name: str(value)[:40] for name, value in order["params"].items()}
            self.wrong.append(f"{self.mode} {case.row} {shown} flags {order['flags']:#x}: "
                              f"{answer['code']} {answer['message']!r} instead of {code} {words!r}")
        self.accepted += not answer["code"]
        self.refused += bool(answer["code"])
        if answer["code"] == 0:
            self.at = target
        running = [host.name for host in self.rig.hosts if self.guest.name in host.domains()]
        assert running == [self.at.name], f"after {case} the guest is on {running}, and not on {self.at.name}"


def in_postcopy(matrix):
    """How many of its migrations moved memory after the switch-over."""
    return sum(int(s["pages-background"]) + int(s["pages-urgent"]) > 0
               for host in matrix.rig.hosts for s in summaries(host)
               if s["domain"] == matrix.guest.name and s["state"] == "completed" and s["side"] == "source")


def try_all(rig, cases):
    table = load_table(rig)
    rig.shape(LINK)
    matrices = [Matrix(rig, table, mode, cases) for mode in ("direct", "p2p")]
    threads = [threading.Thread(target=matrix.run) for matrix in matrices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for matrix in matrices:
        note(f"{matrix.mode}: {matrix.accepted} accepted, {in_postcopy(matrix)} of them through post-copy, "
             f"{matrix.refused} refused")
        for line in matrix.wrong:
            note(line)
    for matrix in matrices:
        if matrix.error:
            raise matrix.error
    assert not [line for matrix in matrices for line in matrix.wrong], "see above"
    return matrices


@deadline(900)
def test_every_flag_and_parameter(rig):
    table = load_table(rig)
    tried = {case.row for case in CASES}
    assert tried - {None} == set(table), f"without a case: {set(table) - tried}; without a row: {tried - set(table)}"
    matrices = try_all(rig, CASES)
    assert all(in_postcopy(matrix) > 10 for matrix in matrices), "there was hardly any post-copy"
    nothing_left(rig)
