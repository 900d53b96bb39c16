#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two hosts on one machine, joined by a link whose rate can be set.

    with Rig(builddir) as rig:
        rig.a.virsh("list", uri="postcopy:///system")

Nothing of a rig has a name outside its own namespaces, so several can run at once,
and all of it ends with the program that made it. Run as a program, `rig.py cleanup`
restores the machine's settings if a rig was killed, and `rig.py shell` gives a rig to
play with.
"""
import atexit
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys

import namespace
import pki
import settings
from capture import Capture
from harness import Skip
from host import DAEMON_CONF, GUEST_LOGS, SOURCE, Host
from wait import wait_for

PROGRAMS = ("libvirtd", "virsh", "qemu-system-x86_64", "certtool", "ip", "tc", "tcpdump")
BURST, QUEUE = "256kb", "1mb"


def requirements():
    """What is missing for a rig: a list of sentences, empty if nothing is."""
    missing = [f"{p} is not installed" for p in PROGRAMS
               if not shutil.which(p, path="/usr/sbin:/usr/bin:/sbin:/bin")]
    refused = namespace.supported()
    return missing + ([refused] if refused else [])


def find_builddir(given=None):
    """The build directory: the one given, else $BUILD, else the current one or the source tree."""
    for candidate in (given, os.environ.get("BUILD")):
        if candidate:
            return pathlib.Path(candidate).resolve()
    here = pathlib.Path.cwd()
    return here if (here / "config.status").exists() else SOURCE


class Rig:
    """rig.a and rig.b are the hosts (rig.hosts both); rig.ca is their certificate authority.

    builddir        where the programs were built
    daemon          start virtpostcopyd beside libvirtd
    daemon_command  what to start instead of the built one, as a list
    daemon_conf     settings of virtpostcopyd.conf that differ from the rig's
    qemu_user       the user QEMU runs as; None: the distribution's own
    newer           {"a": Newer, "b": Newer} or one of them: the hosts with other libvirt and QEMU
    """

    def __init__(self, builddir=None, daemon=True, daemon_command=None, daemon_conf=None, qemu_user=None,
                 newer=None):
        self.builddir = find_builddir(builddir)
        self.newer = newer or {}
        self.with_daemon = daemon
        self.a = self.b = self.ca = None
        self.hosts = ()
        self.captures = []
        self.dropping = False
        self._hugepages = []
        self._userfaultfd = settings.USERFAULTFD.hold("1")
        if self._userfaultfd is None and qemu_user is None:
            qemu_user = "root"          # who needs no leave to handle page faults
        self.qemu_user = qemu_user
        atexit.register(self.close)
        try:
            self._build(daemon_command or [Host.built("virtpostcopyd"), "--config", DAEMON_CONF],
                        daemon_conf or {})
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def _build(self, daemon_command, daemon_conf):
        self.a = Host("a", 1, self.builddir, self.qemu_user, self.newer.get("a"))
        self.hosts = (self.a,)
        self.b = Host("b", 2, self.builddir, self.qemu_user, self.newer.get("b"))
        self.hosts = (self.a, self.b)
        self._connect()
        self.ca = self.authority("Test CA")
        for host in self.hosts:
            host.daemon_command = daemon_command
            host.configure(self.hosts, daemon_conf)
            host.certificate = host.install_certificates(self.ca)
        for host in self.hosts:
            host.start_libvirtd()
            if self.with_daemon:
                host.start_daemon()
        # libvirtd looks at what QEMU can do when it is first asked; not in the middle of a test
        probes = [host.popen(["virsh", "domcapabilities"], stdout=subprocess.DEVNULL) for host in self.hosts]
        for probe in probes:
            probe.wait(60)

    def _connect(self):
        # The holder's number is the one seen from outside, as `ip` sees it: it enters the network alone.
        done = subprocess.run(
            ["nsenter", f"--net=/proc/{self.a.ns.pid}/ns/net", "ip", "link", "add", "name", "eth0", "type", "veth",
             "peer", "name", "eth0", "netns", str(self.b.ns.pid)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"cannot make a veth link: {done.stderr.strip()}")
        for host in self.hosts:
            host.run(["ip", "addr", "add", f"{host.ip}/24", "dev", "eth0"])
            host.run(["ip", "addr", "add", f"{host.ip6}/64", "dev", "eth0", "nodad"])
            host.run(["ip", "link", "set", "eth0", "up"])

    def close(self):
        """Ends everything. Safe to call again."""
        atexit.unregister(self.close)
        hosts, self.hosts = self.hosts, ()
        for host in hosts:
            host.close()
        while self._hugepages:
            settings.HUGEPAGES.release(self._hugepages.pop())
        if self._userfaultfd is not None:
            held, self._userfaultfd = self._userfaultfd, None
            settings.USERFAULTFD.release(held)

    def authority(self, name, **dates):
        """Another certificate authority, gone with the rig."""
        return pki.Authority(self.a.path(f"/run/pki/{self.a.next_number()}"), name, **dates)

    def other(self, host):
        return self.b if host is self.a else self.a

    # -- the link ---------------------------------------------------------------------

    def shape(self, rate, burst=BURST, queue=QUEUE):
        """Limits both directions, for instance to "1gbit". burst: what may go faster than that."""
        for host in self.hosts:
            host.run(["tc", "qdisc", "replace", "dev", "eth0", "root", "tbf",
                      "rate", rate, "burst", burst, "limit", queue])

    def unshape(self):
        for host in self.hosts:
            host.run(["tc", "qdisc", "del", "dev", "eth0", "root"], check=False)

    def link(self, up):
        """Plugs the cable in or out: the hosts notice that at once."""
        for host in self.hosts:
            host.run(["ip", "link", "set", "eth0", "up" if up else "down"])
        if up:
            wait_for(lambda: all("LOWER_UP" in h.run(["ip", "link", "show", "eth0"]).stdout for h in self.hosts),
                     "link up")

    def drop(self, on):
        """Loses every packet without a word, as a broken switch would: each host is made to
        address them to a card that is not there."""
        for host in self.hosts:
            peer = self.other(host)
            for address in (peer.ip, peer.ip6):
                if on:
                    host.run(["ip", "neigh", "replace", address, "lladdr", "02:00:00:00:00:99",
                              "nud", "permanent", "dev", "eth0"])
                else:
                    host.run(["ip", "neigh", "del", address, "dev", "eth0"], check=False)
        self.dropping = on

    def capture(self, host=None):
        """Starts tcpdump on one end of the link (both see the same)."""
        capture = Capture(host or self.b)
        self.captures.append(capture)
        return capture

    @contextlib.contextmanager
    def hugepages(self, megabytes):
        """While entered, the machine has huge pages of 2 MiB for that much memory, beside those it has
        anyhow; a guest takes them with guest.HUGEPAGES, and must be gone in the end. Skips the test where
        they cannot be had."""
        held = settings.HUGEPAGES.hold((megabytes << 20) // settings.HUGEPAGE_BYTES)
        if held is None:
            raise Skip(f"the machine cannot set aside {megabytes} MiB of huge pages")
        try:
            yield
        except BaseException:
            self._hugepages.append(held)        # guests may have them until the rig is closed
            raise
        settings.HUGEPAGES.release(held)

    # -- between tests ----------------------------------------------------------------

    def reset(self):
        """Makes the rig as good as new for the next test: no guests, an open link, daemons up.
        Raises if that cannot be had; make a new rig then."""
        for capture in self.captures:
            capture.discard()
        self.captures = []
        if self.dropping:
            self.drop(False)
        self.unshape()
        self.link(True)
        for host in self.hosts:
            if host.libvirtd is None:
                host.start_libvirtd()
            for name in host.domains():
                host.virsh("destroy", name, timeout=40)
            for name in host.virsh("list", "--all", "--name").stdout.split():
                host.virsh("undefine", name)
            wait_for(lambda h=host: not h.pids("qemu-system-x86_64"), f"no QEMU left in {host.name}")
        if self.with_daemon:
            for host in self.hosts:
                if host.daemon is None:
                    host.start_daemon()
                wait_for(lambda h=host: not h.helpers(), f"no helper left in {host.name}", 15)

    def crashed(self):
        return [line for host in self.hosts for line in host.crashed()]

    def log_files(self):
        """(host, name) of every log, the guests' serial lines among them."""
        return [(host, name) for host in self.hosts for name in host.logs()]

    def keep_logs(self, directory):
        """Copies all logs and the daemons' settings out of the hosts."""
        for host in self.hosts:
            target = pathlib.Path(directory) / host.name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copytree(host.path("/var/log/libvirt"), target / "log", dirs_exist_ok=True)
            for name in ("libvirtd.conf", "qemu.conf", "virtpostcopyd.conf"):
                shutil.copyfile(host.path(f"/etc/libvirt/{name}"), target / name)


def main(argv):
    if argv[1:] == ["cleanup"]:
        used = [setting.restore_if_unused() for setting in (settings.USERFAULTFD, settings.HUGEPAGES)]
        print("a rig is at work" if any(used) else "nothing left")
        return 0
    if argv[1:2] == ["shell"]:
        with Rig(daemon="--native" not in argv) as rig:
            print("host a; for host b: nsenter -m -n -u -i -p -t", rig.b.ns.pid)
            print("guests' serial lines:", GUEST_LOGS)
            rig.a.popen([os.environ.get("SHELL", "/bin/sh")], start_new_session=False,
                        env={"TERM": os.environ.get("TERM", "dumb")}).wait()
        return 0
    print("usage: rig.py cleanup | shell [--native]", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
