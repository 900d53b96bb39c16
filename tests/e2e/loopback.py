# SPDX-License-Identifier: LGPL-2.1-or-later
"""The demonstration where hosts cannot be made: two QEMUs driven over QMP, and two helpers between
them on loopback, without libvirt."""
import contextlib
import json
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import tempfile
import time

import interruption
import pki
import userfaultfd
from account import (CHANGES, DemoFailed, data_size, duration, first_line, guest_words, monitor_words,
                     stall_words, verdict_words)
from guest import KERNEL, Guest, GuestCorrupted
from host import ENVIRONMENT
from qmp import Qemu, QmpClosed, QmpError, die_with_parent
from wait import Timeout, wait_for

PAIR = "tests/support/helper-pair"      # the program that stands in for the two daemons
PROGRAMS = ("qemu-system-x86_64", "certtool")
SOURCE, PEER = "source.test", "localhost"   # the names in the certificates
UNLIMITED = 1 << 40                     # bytes a second
UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
MIGRATION_TIMEOUT = 300


class NothingToShow(DemoFailed):
    """QEMU is not allowed what post-copy needs; the text says how to grant it."""


def bytes_per_second(rate):
    if rate == "none":
        return UNLIMITED
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", rate).groups()
    return int(float(number) * UNITS[unit] / 8)


class Place:
    """One side: a directory for its files and the QEMU in it. Offers what a Guest asks of a host."""

    def __init__(self, top, name):
        self.name = name
        self.directory = pathlib.Path(top) / name
        self.newer = None               # a Newer, for another QEMU than the machine's
        self.qemu = None
        self.path(KERNEL).parent.mkdir(parents=True)

    def path(self, inside):
        return self.directory / str(inside).lstrip("/")

    def log(self, name):
        try:
            return self.path(f"/var/log/libvirt/{name}").read_text(errors="replace")
        except OSError:
            return ""

    def virsh(self, *_args, **_options):
        """Stands in for `virsh domstate`."""
        return self.qemu.qmp.execute("query-status")

    def start_qemu(self, guest, *more):
        serial = self.path(guest.log)
        serial.parent.mkdir(parents=True, exist_ok=True)
        argv = [
            PROGRAMS[0], "-name", guest.name, "-machine", f"{guest.machine},accel=tcg", "-cpu", "qemu64",
            "-m", guest.memory, "-nodefaults", "-no-user-config", "-display", "none", "-kernel", self.path(KERNEL),
            "-append", guest.cmdline, "-serial", f"file:{serial}", *more]
        self.qemu = Qemu(f"the {self.name} QEMU", self.newer.command(argv) if self.newer else argv,
                         self.directory / "qemu.log", ENVIRONMENT)
        return self.qemu.qmp

    def allow_postcopy(self, *more):
        """Turns post-copy on, and more capabilities."""
        self.qemu.qmp.execute("migrate-set-capabilities", capabilities=[
            {"capability": name, "state": True} for name in ("events", "postcopy-ram", *more)])

    def statuses(self):
        return [e["details"]["status"] for e in self.qemu.qmp.find("MIGRATION")]


class Pair:
    """The two helpers, started by a program that does the daemons' part for them. more: options for it."""

    def __init__(self, builddir, directory, listen, connect, certificates, *more):
        self.out, self.log = directory / "helpers.json", directory / "helpers.log"
        argv = [builddir / PAIR, "--helper", builddir / "virt-postcopy-helper", "--listen", listen,
                "--connect", connect, "--pki-source", certificates[0], "--pki-destination", certificates[1],
                "--host", PEER, *more]
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            argv += ["--user", f"{nobody.pw_uid}:{nobody.pw_gid}"]
        with open(self.out, "wb") as out, open(self.log, "wb") as log:
            self.process = subprocess.Popen(            # pylint: disable=consider-using-with
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=ENVIRONMENT,
                start_new_session=True, preexec_fn=die_with_parent)

    def lines(self):
        return [json.loads(line) for line in self.out.read_text().splitlines(keepends=True)
                if line.startswith("{") and line.endswith("\n")]

    def find(self, event):
        return [line for line in self.lines() if line["event"] == event]

    def result(self, side):
        """What that side's helper had to say in the end: state, TLS, counters."""
        results = self.find("result")
        return results[-1][side] if results else {}

    def cuts(self):
        """How many connections were cut on purpose (option --cuts)."""
        results = self.find("result")
        return results[-1]["cuts"] if results else 0

    def complaints(self):
        """The reasons of what went wrong, as one text."""
        found = [line.get("reason") or line.get("message") for line in self.lines()]
        return "; ".join(text for text in found if text) or "nothing"

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def certificates(source, target):
    """Makes the certificates of two Places; returns the directories with the PKI of either."""
    authority = pki.Authority(source.directory.parent / "authority", "Demo CA")
    made = []
    for place, name, ips in ((source, SOURCE, []), (target, PEER, ["127.0.0.1", "::1"])):
        certificate = authority.issue(name, ips, "both")
        made.append(place.directory / "pki")
        pki.install(made[-1], authority, server=certificate, client=certificate)
    return made


class Demonstration:
    """One guest, one migration, and everything that was seen of it.

    builddir and hosts are what a Guest asks of a rig."""

    def __init__(self, options, account, directory):
        self.options, self.account = options, account
        self.directory = pathlib.Path(directory)
        self.builddir = options.builddir
        self.source, self.target = self.hosts = [Place(directory, name) for name in ("source", "destination")]
        self.guest = self.pair = self.before = self.begin = self.started_postcopy = self.verdict = None

    def run(self):
        self.prepare()
        self.migrate()
        self.gather()
        self.tell()
        self.check()

    def close(self):
        for place in self.hosts:
            if place.qemu:
                place.qemu.close()
        if self.pair:
            self.pair.close()

    def tails(self):
        """The ends of the logs, as far as there are any."""
        files = [place.directory / "qemu.log" for place in self.hosts]
        if self.pair:
            files += [self.pair.log, self.pair.out]
        return {file.relative_to(self.directory): file.read_text(errors="replace").splitlines()
                for file in files if file.exists()}

    # -- before -----------------------------------------------------------------------

    def prepare(self):
        say = self.account.step
        self.guest = Guest(self, self.options.memory, name="demo", hot=self.options.hot, rate=CHANGES)
        incoming, outgoing = self.directory / "in.sock", self.directory / "out.sock"
        target = self.target.start_qemu(self.guest, "-incoming", "defer")
        try:
            self.target.allow_postcopy()
        except QmpError as refusal:
            self.explain(refusal)
        target.execute("migrate-incoming", uri=f"unix:{incoming}")
        say(f"{first_line([PROGRAMS[0], '--version'])}, one for the source and one for the destination, which waits "
            f"on a unix socket")
        source = self.source.start_qemu(self.guest)
        self.source.allow_postcopy()
        speed = bytes_per_second(self.options.rate)
        source.execute("migrate-set-parameters", max_bandwidth=speed, max_postcopy_bandwidth=speed)
        wait_for(lambda: self.guest.reports(self.source), "the guest running", 30 + self.options.memory / 20)
        say(f"the guest runs on the source: {guest_words(self.options)}")
        self.pair = Pair(self.builddir, self.directory, outgoing, incoming, certificates(*self.hosts))
        wait_for(lambda: self.pair.find("ready") or self.pair.process.poll() is not None, "the helpers ready", 20)
        if self.pair.process.poll() is not None:
            raise DemoFailed("the helpers do not start")
        say("two virt-postcopy-helpers stand between them, joined by TCP on loopback; each has a certificate made "
            "for this run")
        self.before = self.guest.next_report(self.source)

    @staticmethod
    def explain(refusal):
        """Raises what to say when QEMU refuses post-copy, or the refusal if it is of something else."""
        if not any(sign in str(refusal) for sign in (userfaultfd.QEMU_REFUSAL, "userfaultfd")):
            raise refusal
        missing, ways = userfaultfd.explain()
        raise NothingToShow(f"nothing can be shown here: QEMU refuses post-copy. What is missing: {missing}. "
                            f"To grant it, {'; or '.join(ways)}.") from refusal

    def explain_end(self, closed):
        """The same when a QEMU has ended by itself: its log says why."""
        complaints = [f"{place.qemu.name}: {text}" for place in self.hosts
                      if place.qemu and (text := place.qemu.complaints())]
        self.explain(DemoFailed(f"{closed}. {'; '.join(complaints)}" if complaints else str(closed)))

    # -- the migration ----------------------------------------------------------------

    def migrate(self):
        """As libvirt would: pre-copy first, post-copy after the first pass."""
        qmp = self.source.qemu.qmp
        self.begin = time.time()
        qmp.execute("migrate", uri=f"unix:{self.directory / 'out.sock'}")
        self.account.say("The source QEMU is told to migrate; after its first pass over the memory, to go on in "
                         "post-copy.")
        deadline = time.monotonic() + MIGRATION_TIMEOUT
        while not all("completed" in place.statuses() for place in self.hosts):
            if time.monotonic() > deadline:
                raise Timeout(f"after {MIGRATION_TIMEOUT} s the migration had come to "
                              f"{[place.statuses()[-1:] for place in self.hosts]}")
            for place in self.hosts:
                place.qemu.qmp.read_events(0.02)
            self.raise_failure()
            if not self.started_postcopy and any(e["details"]["pass"] > 1 for e in qmp.find("MIGRATION_PASS")):
                self.started_postcopy = time.time()
                qmp.execute("migrate-start-postcopy")

    def raise_failure(self):
        for place in self.hosts:
            for status in ("failed", "cancelled", "postcopy-paused"):
                if status in place.statuses():
                    reason = place.qemu.qmp.execute("query-migrate").get("error-desc", "no reason given")
                    raise DemoFailed(f"the migration is {status} on the {place.name} QEMU: {reason}; the helpers "
                                     f"say: {self.pair.complaints()}")

    def gather(self):
        self.account.say("The guest verifies all of its memory on the destination...")
        try:
            self.verdict = self.guest.verdict(self.target)
        except GuestCorrupted as error:
            raise DemoFailed(f"the guest's memory is damaged: {error}") from error
        except Timeout as error:
            raise DemoFailed(f"the guest does not run as it should: {error}") from error
        wait_for(lambda: self.pair.process.poll() is not None, "the helpers' end", 20)
        if not self.pair.find("result"):
            raise DemoFailed(f"the helpers ended without a result; they say: {self.pair.complaints()}")
        for place in self.hosts:
            place.qemu.qmp.read_events()

    # -- after ------------------------------------------------------------------------

    def entries(self):
        found = [(self.begin, 0, "migrate")]
        if self.started_postcopy:
            found.append((self.started_postcopy, 0, "migrate-start-postcopy"))
        for column, place in enumerate(self.hosts):
            found += [(event["t"], column, text) for event in place.qemu.qmp.events
                      if event["t"] >= self.begin and (text := monitor_words(event["type"], event["details"]))]
        return found

    def time_of(self, place, name):
        """When that side's QEMU sent the event, None if it did not."""
        events = place.qemu.qmp.find(name)
        return events[0]["t"] if events else None

    def tell(self):
        self.account.heading("What happened, as the two QEMUs tell it")
        self.account.timeline(["source", "destination"], self.entries(), self.begin)
        self.account.heading("Results")
        self.account.table(self.results())

    def results(self):
        job = self.source.qemu.qmp.execute("query-migrate")
        stopped, resumed = self.time_of(self.source, "STOP"), self.time_of(self.target, "RESUME")
        ours, theirs = (self.pair.result(place.name) for place in self.hosts)
        return [
            ("downtime", f"{duration(resumed - stopped)} from the source's STOP to the destination's RESUME; QEMU "
             f"itself says {job['downtime']} ms" if stopped and resumed else f"{job['downtime']} ms (by QEMU)"),
            ("longest stall", stall_words(self.guest, self.target, self.before)),
            ("total time", f"{duration(job['total-time'] / 1000)} (by QEMU)"),
            ("memory", f"{data_size(job['ram']['transferred'])} of QEMU's stream for a guest of "
             f"{data_size(job['ram']['total'])}; {job['ram']['postcopy-requests']} pages asked for by the guest before "
             "their turn"),
            ("on the wire", f"{data_size(theirs['wire-bytes-received'])} to the destination, "
             f"{data_size(theirs['wire-bytes-sent'])} back, TLS included; {theirs['frames-received']} frames; at most "
             f"{data_size(ours['window-high-water'])} sent and not yet acknowledged"),
            ("encryption", f"{ours['tls-version']}, {ours['tls-cipher']}"),
            ("certificates", f"the source was shown \"{ours['peer-name']}\", the destination "
             f"\"{theirs['peer-name']}\", and each verified what it was shown"),
            *((f"the {place.name}", place.qemu.qmp.execute("query-status")["status"]) for place in self.hosts),
            ("the guest says", verdict_words(self.verdict, self.target)),
        ]

    def check(self):
        """Everything that must be so; the first that is not is the reason of the failure."""
        final = [self.pair.result(place.name) for place in self.hosts]
        status = [place.qemu.qmp.execute("query-status")["status"] for place in self.hosts]
        wrong = [
            (status != ["postmigrate", "running"], f"the QEMUs are {status[0]} and {status[1]}"),
            (any("postcopy-active" not in place.statuses() for place in self.hosts),
             "the migration completed before its post-copy phase began; give the guest more to change (--hot) "
             "or less network (--rate)"),
            (any(f.get("tls-version") != "TLS1.3" for f in final), "the helpers did not speak TLS 1.3"),
            (PEER not in final[0]["peer-name"] or SOURCE not in final[1]["peer-name"], "the certificates name others"),
            (any(f.get("state") != "completed" for f in final), "a helper does not say that it completed"),
            (self.pair.process.returncode != 0, "a helper ended with a failure"),
            (final[1]["wire-bytes-received"] < self.options.memory << 19,
             "the guest's memory did not take the way through the helpers"),
        ]
        for bad, sentence in wrong:
            if bad:
                raise DemoFailed(sentence)


def run(options, account):
    missing = [program for program in PROGRAMS if not shutil.which(program, path=ENVIRONMENT["PATH"])]
    if missing:
        raise DemoFailed(f"{' and '.join(missing)} must be installed first")
    account.heading("Two QEMUs and two helpers on this machine")
    directory = tempfile.mkdtemp(prefix="postcopy-demo-")
    demonstration = None
    try:
        demonstration = Demonstration(options, account, directory)
        demonstration.run()
    except Exception as error:
        if demonstration and not isinstance(error, NothingToShow):
            account.tails(demonstration.tails())
        if isinstance(error, QmpClosed):
            demonstration.explain_end(error)
        if isinstance(error, QmpError):
            raise DemoFailed(str(error)) from error
        raise
    finally:
        interruption.ignore()
        if demonstration:
            demonstration.close()
        shutil.rmtree(directory, ignore_errors=True)
