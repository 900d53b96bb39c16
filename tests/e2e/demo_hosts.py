# SPDX-License-Identifier: LGPL-2.1-or-later
"""The whole demonstration: two hosts, and stock virsh that moves a guest from one to the other."""
import re
import time

import interruption
import userfaultfd
from account import (CHANGES, DemoFailed, data_size, duration, first_line, guest_words, rate_words, stall_words,
                     verdict_words, words)
from guest import Guest, GuestCorrupted
from rig import Rig
from wait import Timeout, wait_for

NAME = "demo"
MIGRATION_TIMEOUT = 300
ERRORS = re.compile(r": (warning|error) : ")
NOISE = re.compile(r": debug : |\\\\$")   # command lines are of no help either


class NotPermitted(Exception):
    """This machine does not let us make hosts; the text says what it refused."""


def make_rig(options):
    try:
        return Rig(options.builddir)
    except (OSError, RuntimeError) as error:
        refusal = str(error).strip().rpartition("\n")[2]
        if re.search("not permitted|permission denied", refusal, re.IGNORECASE):
            raise NotPermitted(refusal) from error
        raise


class Summary(dict):
    """The last log line of virtpostcopyd about a migration: its fields by name."""

    LINE = re.compile(r"side=(?P<side>\w+).*?: summary (?P<fields>.*)")
    FIELD = re.compile(r'([\w-]+)=("[^"]*"|\S*)')

    @classmethod
    def of(cls, host):
        """None if there is none yet."""
        lines = [m for m in map(cls.LINE.search, host.log("virtpostcopyd.out").splitlines()) if m]
        return cls({key: value.strip('"') for key, value in cls.FIELD.findall(lines[-1]["fields"])}) \
            if lines else None

    def number(self, name):
        return int(self.get(name, 0))


class Demonstration:
    """One guest, one migration, and everything that was seen of it."""

    def __init__(self, options, account, rig):
        self.options, self.account, self.rig = options, account, rig
        self.source, self.target = rig.hosts
        self.guest = self.recorders = self.before = self.verdict = None
        self.begin = self.seconds = self.wire = None
        self.summaries = ()
        self.lengths = {}               # of the logs when the migration began, {(host, name): characters}

    def run(self):
        self.prepare()
        self.migrate()
        self.gather()
        self.tell()
        self.check()

    def tails(self):
        """What the logs say of the migration, or of all if there was none: {name: lines}."""
        logs = {}
        for host, name in self.rig.log_files():
            lines = host.log(name)[self.lengths.get((host, name), 0):].splitlines()
            if name == "libvirtd.log":  # which also has all it says to QEMU
                lines = [line for line in lines if ERRORS.search(line)]
            if not name.endswith(".serial"):
                logs[f"{name} of {host.name}"] = [line for line in lines if not NOISE.search(line)]
        return logs

    # -- before -----------------------------------------------------------------------

    def prepare(self):
        say, rate = self.account.step, self.options.rate
        if rate != "none":
            self.rig.shape(rate)
        say(f"made {self.source.name} ({self.source.ip}) and {self.target.name} ({self.target.ip}): each has a "
            "network, a file system, processes, certificates, a libvirtd and a virtpostcopyd of its own; "
            + (f"the link between them carries {rate_words(rate)}" if rate != "none" else "their link is not limited"))
        say(f"programs: {first_line(['libvirtd', '--version'])}, virsh {first_line(['virsh', '--version'])}, "
            f"{first_line(['qemu-system-x86_64', '--version'])}; none of them is changed in any way")
        say("starting the guest...")
        self.guest = Guest(self.rig, self.options.memory, name=NAME, hot=self.options.hot, rate=CHANGES)
        self.guest.start(self.source)
        say(f"guest {NAME} runs on {self.source.name}: {guest_words(self.options)}")
        self.recorders = [host.events(host.uri()) for host in self.rig.hosts]
        self.before = self.guest.next_report(self.source)

    def migrate(self):
        self.lengths = {(host, name): len(host.log(name)) for host, name in self.rig.log_files()}
        wire = self.source.wire_bytes()
        self.begin = time.time()
        migration = self.guest.start_migration(self.source, self.target)
        self.account.say(f"Now, on {self.source.name}, virsh as the distribution ships it:")
        self.account.command(migration.argv)
        migration.finish(check=False, timeout=MIGRATION_TIMEOUT)
        self.seconds = migration.seconds
        self.wire = [now - then for now, then in zip(self.source.wire_bytes(), wire)]
        if migration.status != 0:
            self.explain(migration)
        self.account.say(f"virsh has ended with status 0 after {duration(self.seconds)}.")

    def explain(self, migration):
        said = " ".join((migration.stderr or migration.stdout).split())
        if userfaultfd.QEMU_REFUSAL in said:
            missing, ways = userfaultfd.explain()
            said += f". What is missing: {missing}. Grant one of: {'; '.join(ways)}"
        raise DemoFailed(f"virsh migrate ended with status {migration.status}: {said}")

    # -- after ------------------------------------------------------------------------

    def gather(self):
        self.account.say(f"The guest verifies all of its memory on {self.target.name}...")
        try:
            self.verdict = self.guest.verdict(self.target)
        except GuestCorrupted as error:
            raise DemoFailed(f"the guest's memory is damaged: {error}") from error
        except Timeout as error:
            raise DemoFailed(f"the guest does not run as it should: {error}") from error
        source, target = self.recorders
        source.wait("job-completed", NAME)
        source.wait("lifecycle", NAME, type="stopped")
        target.wait("lifecycle", NAME, type="resumed")
        wait_for(lambda: all(map(Summary.of, self.rig.hosts)),
                 "a summary of the migration in both daemons' logs")
        self.summaries = [Summary.of(host) for host in self.rig.hosts]

    def entries(self):
        """The time line: (time, 0 source or 1 target, text)."""
        found = [(self.begin, 0, "virsh migrate starts"), (self.begin + self.seconds, 0, "virsh migrate ends")]
        for column, recorder in enumerate(self.recorders):
            found += [(event.get("at", event["t"]), column, text) for event in recorder.all()
                      if event["t"] >= self.begin and (text := words(event))]
        return found

    def qmp_time(self, column, name, **details):
        """When that host's QEMU first sent the event."""
        for event in self.recorders[column].find("qmp", NAME, type=name):
            if all((event["details"] or {}).get(k) == v for k, v in details.items()):
                return event["at"]
        return None

    def tell(self):
        self.account.heading("What happened, as libvirt's clients on both hosts heard it")
        self.account.timeline([f"{self.source.name} (source)", f"{self.target.name} (destination)"],
                              self.entries(), self.begin)
        self.account.heading("Results")
        self.account.table(self.results())

    def results(self):
        job = self.recorders[0].find("job-completed", NAME)[0]["params"]
        stopped, resumed = self.qmp_time(0, "STOP"), self.qmp_time(1, "RESUME")
        ours, theirs = self.summaries
        return [
            ("downtime", f"{duration(resumed - stopped)} from STOP on {self.source.name} to RESUME on "
             f"{self.target.name}; libvirt's job statistics say {job.get('downtime', '?')} ms"
             if stopped and resumed else f"{job.get('downtime', '?')} ms (libvirt's job statistics)"),
            ("longest stall", stall_words(self.guest, self.target, self.before)),
            ("total time", f"{duration(job['time_elapsed'] / 1000)} (libvirt's job statistics); "
             f"{duration(self.seconds)} for virsh"),
            ("memory", f"{data_size(job.get('memory_processed', 0))} of QEMU's stream for a guest of "
             f"{data_size(job.get('memory_total', 0))}; {job.get('memory_postcopy_requests', 0)} pages asked for "
             "by the guest before their turn"),
            ("on the wire", f"{data_size(self.wire[1])} to {self.target.name}, {data_size(self.wire[0])} back "
             "(counted on the network card)"),
            ("the helpers", f"{data_size(theirs.number('wire-bytes-received'))} received in "
             f"{theirs.number('frames-received')} frames, TLS included; at most "
             f"{data_size(ours.number('window-high-water'))} sent and not yet acknowledged"),
            ("encryption", f"{ours.get('tls')}, {ours.get('cipher')}"),
            ("certificates", f"{self.source.name} was shown \"{ours.get('peer')}\", {self.target.name} "
             f"\"{theirs.get('peer')}\", and each verified what it was shown"),
            (f"{self.source.name} runs", ", ".join(self.source.domains()) or "no guest"),
            (f"{self.target.name} runs", ", ".join(f"{n}: {self.target.state(n)}" for n in self.target.domains())
             or "no guest"),
            ("the guest says", verdict_words(self.verdict, self.target)),
        ]

    def check(self):
        """Everything that must be so; the first that is not is the reason of the failure."""
        statuses = [[e["details"]["status"] for e in recorder.find("qmp", NAME, type="MIGRATION")]
                    for recorder in self.recorders]
        lifecycles = [recorder.lifecycle(NAME) for recorder in self.recorders]
        received = self.summaries[1].number("wire-bytes-received")
        ended = self.rig.crashed()
        wrong = [
            (self.source.domains(), f"the guest is still on {self.source.name}"),
            (self.target.domains() != [NAME] or not self.target.state(NAME).startswith("running"),
             f"the guest does not run on {self.target.name}"),
            (any("postcopy-active" not in s for s in statuses) or "suspended/postcopy" not in lifecycles[0]
             or "resumed/postcopy" not in lifecycles[1],
             "the migration completed before its post-copy phase began; give the guest more to change (--hot) "
             "or less network (--rate)"),
            (any(s.get("tls") != "TLS1.3" for s in self.summaries), "the hosts did not speak TLS 1.3"),
            (self.source.name not in self.summaries[1].get("peer", "")
             or self.target.name not in self.summaries[0].get("peer", ""), "the hosts' certificates name others"),
            (any(s.get("state") != "completed" for s in self.summaries), "a helper does not say that it completed"),
            (received < self.options.memory << 19, "the guest's memory did not take the way through the helpers"),
            (received > self.wire[1], "the helper has received more than the network card has sent"),
            (ended, "; ".join(ended)),
        ]
        for bad, sentence in wrong:
            if bad:
                raise DemoFailed(sentence)


def run(options, account):
    account.heading("Two hosts on this machine")
    rig = make_rig(options)
    demonstration = Demonstration(options, account, rig)
    try:
        demonstration.run()
    except Exception:
        account.tails(demonstration.tails())
        raise
    finally:
        interruption.ignore()
        rig.close()
