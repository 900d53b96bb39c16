# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ways to cut the connections between the helpers, or the whole link, and to mend them again.

    with cut(rig, "stall"):
        ...                             # nothing comes through
"""
import contextlib
import re
import shutil

from harness import Skip
from host import MIGRATION_PORT

PORT = f":{MIGRATION_PORT}"
TO_PORT = ("-p", "tcp", "--dport", str(MIGRATION_PORT))
FROM_PORT = ("-p", "tcp", "--sport", str(MIGRATION_PORT))


def connections(rig, source=None):
    """The source's ports of the connections that its helper has to the migration port. They come in the
    order they were made, as long as none was replaced: the main channel is the first."""
    listed = (source or rig.a).run(["ss", "-Htnp", "state", "established", "dport", "=", PORT]).stdout
    found = re.findall(r":(\d+)\s+\S+%s\s+users:.*\(\"virt-postcopy-h\",pid=\d+,fd=(\d+)" % PORT, listed)
    return [int(port) for port, _ in sorted(found, key=lambda pair: int(pair[1]))]


def reset(rig, ports, source=None):
    """Ends the connections from these ports of the source, with a RST for either end."""
    for port in ports:
        (source or rig.a).run(["ss", "-K", "-Htn", "dport", "=", PORT, "and", "sport", "=", f":{port}"])


class Filter:
    """Rules by which a host throws packets away that have come."""

    def __init__(self, host):
        if not shutil.which("iptables", path="/usr/sbin:/sbin"):
            raise Skip("iptables is not installed")
        self.host, self.rules = host, []

    def drop(self, *match, how=("DROP",)):
        rule = [*match, "-j", *how]
        self.host.run(["iptables", "-w", "-I", "INPUT", *rule])
        self.rules.append(rule)

    def clear(self):
        while self.rules:
            self.host.run(["iptables", "-w", "-D", "INPUT", *self.rules.pop()])


# -- the kinds -----------------------------------------------------------------------------
# Each begins when entered and ends when left.

@contextlib.contextmanager
def link_down(rig):
    """The cable is out: both hosts see that."""
    rig.link(False)
    try:
        yield
    finally:
        rig.link(True)


@contextlib.contextmanager
def black_hole(rig):
    """No packet comes through, and nobody says so."""
    rig.drop(True)
    try:
        yield
    finally:
        rig.drop(False)


@contextlib.contextmanager
def _filtered(host, *match, how=("DROP",)):
    rules = Filter(host)
    rules.drop(*match, how=how)
    try:
        yield
    finally:
        rules.clear()


def stall(rig):
    """Nothing that the source sends on the migration port comes through; all the rest does."""
    return _filtered(rig.b, *TO_PORT)


def stall_back(rig):
    """Nothing that the destination answers there comes through."""
    return _filtered(rig.a, *FROM_PORT)


@contextlib.contextmanager
def half_open(rig):
    """The source loses its connections, and the destination does not hear of it; others can be made."""
    rules = Filter(rig.b)
    ports = connections(rig)
    for port in ports:
        rules.drop(*TO_PORT, "--sport", str(port))
    reset(rig, ports)
    try:
        yield
    finally:
        rules.clear()


@contextlib.contextmanager
def refused(rig):
    """Connections end with a RST, and new ones are refused."""
    with _filtered(rig.b, *TO_PORT, "--syn", how=("REJECT", "--reject-with", "tcp-reset")):
        reset(rig, connections(rig))
        yield


@contextlib.contextmanager
def reset_all(rig):
    reset(rig, connections(rig))
    yield


@contextlib.contextmanager
def reset_main(rig):
    reset(rig, connections(rig)[:1])
    yield


@contextlib.contextmanager
def reset_preempt(rig):
    reset(rig, connections(rig)[1:2])
    yield


# Those that end at once: the connections can be made again before the cut is over.
MOMENTARY = {"reset": reset_all, "reset of the main channel": reset_main,
             "reset of the preempt channel": reset_preempt, "half-open": half_open}
LASTING = {"link down": link_down, "black hole": black_hole, "stall": stall, "stall back": stall_back,
           "refused": refused}
KINDS = MOMENTARY | LASTING


def cut(rig, kind):
    """A context manager: the cut lasts while it is entered."""
    return KINDS[kind](rig)

