# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bare-metal test guest as a libvirt domain: started, migrated, and asked how its memory is."""
import re
import shutil
import subprocess
import time
import uuid

from host import GUEST_LOGS, CommandFailed
from wait import wait_for

KERNEL = "/var/lib/libvirt/images/postcopy-guest.elf"
MARKER = b"PostcopyGuestPg\0"           # in every block of the guest's memory
STALL_US = 200                          # a touch slower than this counts as a stall

XML = """
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  {max_memory}
  <memory unit='MiB'>{memory}</memory>
  {memory_backing}
  <vcpu>{vcpus}</vcpu>
  <cpu mode='custom' match='exact'><model fallback='forbid'>qemu64</model>{numa}</cpu>
  <os>
    <type arch='x86_64' machine='{machine}'>hvm</type>
    <kernel>{kernel}</kernel>
    <cmdline>{cmdline}</cmdline>
  </os>
  <features><acpi/></features>
  <clock offset='utc'/>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <controller type='usb' model='none'/>
    <memballoon model='{balloon_model}'/>
    <serial type='file'><source path='{log}' append='on'/><target port='0'/></serial>
    <serial type='pty'><target port='1'/></serial>
    {devices}
  </devices>
</domain>
"""
VIDEO = """<graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/>
    <video><model type='vga'/></video>"""
HUGEPAGES = "<memoryBacking><hugepages/></memoryBacking>"       # rig.hugepages() must be there, too

# What libvirt wants of a guest that memory can be plugged into, and the memory.
MAX_MEMORY = "<maxMemory slots='4' unit='MiB'>{}</maxMemory>"
NUMA = "<numa><cell id='0' cpus='0-{}' memory='{}' unit='MiB'/></numa>"
DIMM = """
<memory model='dimm'>
  <target><size unit='MiB'>{}</size><node>0</node></target>
</memory>
"""
ABOVE_4G = 4096 << 20


class GuestCorrupted(AssertionError):
    """The guest found memory that is not what it wrote there."""


class Report(dict):
    """One line of the guest: its numbers by name, and hist as {bucket: count}."""

    @classmethod
    def parse(cls, line):
        """None if the line is not a whole report (see the sum in the guest's line_end())."""
        found = re.fullmatch(r"(PCG (?:report=.*)) #([0-9a-f]{8})", line)
        if not found or sum(found.group(1).encode()) & 0xffff != int(found.group(2), 16):
            return None
        report = cls()
        for word in found.group(1).split()[1:]:
            key, _, value = word.partition("=")
            if key == "hist":
                pairs = (item.split(":") for item in value.split(","))
                report[key] = {int(bucket): int(count) for bucket, count in pairs}
            else:
                report[key] = int(value)
        report.setdefault("hist", {})
        return report


def _bucket_us(bucket, khz):
    """The middle of a bucket of the guest's histogram (four for each power of two)."""
    power = bucket // 4
    ticks = bucket if power < 2 else (4.5 + bucket % 4) * 2 ** (power - 2)
    return ticks * 1000 / khz


def stalls(before, after):
    """How long the touches between two reports were held up, those of over STALL_US alone:
    {"count", "p50_us", "p90_us", "p99_us", "max_us"}. Exact to an eighth.

    before None: since the guest's start."""
    earlier = before["hist"] if before else {}
    times = sorted((_bucket_us(bucket, after["khz"]), count - earlier.get(bucket, 0))
                   for bucket, count in after["hist"].items())
    times = [(us, count) for us, count in times if us >= STALL_US and count > 0]
    total = sum(count for _, count in times)
    result = {"count": total}
    for percent in (50, 90, 99, 100):
        rank, seen = total * percent / 100, 0
        at = 0.0
        for us, count in times:
            seen += count
            at = us
            if seen >= rank:
                break
        result["max_us" if percent == 100 else f"p{percent}_us"] = round(at)
    if total and (not before or after["max_us"] > before["max_us"]):
        result["max_us"] = after["max_us"]              # which the guest knows to the microsecond
    return result


class Migration:
    """A `virsh migrate` under way. After finish(): status, stdout, stderr, seconds."""

    def __init__(self, source, domain, argv):
        self.source, self.domain, self.argv = source, domain, argv
        self.began = time.monotonic()
        self.status = self.stdout = self.stderr = self.seconds = None
        self.process = source.popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE, text=True)

    @property
    def running(self):
        return self.process.poll() is None

    def wait_processed(self, megabytes, timeout=60):
        """Waits until that much memory has been sent: the migration is in the midst of it."""
        def processed():
            if not self.running:
                raise AssertionError(f"virsh migrate ended with status {self.process.returncode}: "
                                     f"{self.process.stderr.read()}")
            return self.source.job(self.domain).get("Memory processed", 0) >= megabytes << 20

        wait_for(processed, f"{megabytes} MiB of {self.domain} sent", timeout)
        return self

    def switch_to_postcopy(self, uri=None, timeout=30):
        """virsh migrate-postcopy; returns when the guest's source has stopped for it."""
        self.source.virsh("migrate-postcopy", self.domain, uri=uri or self.source.uri())
        wait_for(lambda: "paused" in self.source.state(self.domain) or not self.running,
                 f"{self.domain} in post-copy", timeout)
        return self

    def finish(self, check=True, timeout=120):
        """Waits for virsh to end; a failure is an error unless check is False."""
        try:
            self.stdout, self.stderr = self.process.communicate(timeout=timeout)
        except BaseException:
            self.kill()
            raise
        self.seconds = time.monotonic() - self.began
        self.status = self.process.returncode
        if check and self.status != 0:
            raise CommandFailed(self.source.name, subprocess.CompletedProcess(
                self.argv, self.status, self.stdout, self.stderr))
        return self

    def kill(self):
        """Ends virsh with SIGKILL: the client is gone from one moment to the next."""
        self.process.kill()
        self.process.communicate()
        self.status = self.process.returncode


class Guest:
    """A guest of `memory` MiB whose name and UUID nobody else has.

    hot             MiB touched at random (None: all)
    rate            touches per second, each of which dirties a page (0: as many as possible)
    sweep           pages per second of the verifying sweep (0: as many as possible)
    zero            percentage of the pages outside the hot part left zero
    pattern         "random", or "text", which compresses well
    vcpus           processors, all of which work
    ram             MiB to use of the memory below 4 GiB (None: all)
    extra           (address, MiB) to use above it, at once or when they are there
    balloon         MiB that the guest gives back by its balloon before it begins
    room            MiB that may be plugged in later, see plug()
    video           give it a screen (VNC)
    memory_backing  XML of <memoryBacking>, devices: XML of more devices
    machine         default: q35; i440fx for more memory than q35 has below 4 GiB, and for a balloon
                    that the guest's small driver knows
    """

    def __init__(self, rig, memory=256, name=None, hot=None, rate=20000, sweep=40000, zero=0, pattern="random",
                 vcpus=1, ram=None, extra=None, balloon=None, room=0,
                 video=False, memory_backing="", devices="", machine=None, persistent=False):
        self.rig = rig
        self.memory = memory
        self.uuid = str(uuid.uuid4())
        self.name = name or f"guest-{self.uuid[:8]}"
        self.persistent = persistent
        self.machine = machine or ("q35" if memory <= 2048 and not balloon else "pc")
        self.log = f"{GUEST_LOGS}/{self.name}.serial"
        self.vcpus = vcpus
        options = {"hot": hot, "rate": rate, "sweep": sweep, "zero": zero, "pattern": pattern, "cpus": vcpus,
                   "ram": ram, "balloon": balloon, "extra": extra and f"{extra[0]:x}:{extra[1]}"}
        self.cmdline = " ".join(f"{k}={v}" for k, v in options.items() if v is not None)
        self.balloon_model = "virtio" if balloon else "none"
        self.max_memory = MAX_MEMORY.format(memory + room) if room else ""
        self.numa = NUMA.format(vcpus - 1, memory) if room else ""
        self.memory_backing = memory_backing
        self.devices = "\n".join([VIDEO] * video + [devices])
        self._install_kernel()

    def _install_kernel(self):
        source = self.rig.builddir / "tests/guest/postcopy-guest.elf"
        if not source.exists():
            raise RuntimeError(f"{source} is missing: run make in the build directory")
        for host in self.rig.hosts:
            target = host.path(KERNEL)
            if not target.exists():
                shutil.copyfile(source, target)
                target.chmod(0o644)

    def xml(self):
        return XML.format(kernel=KERNEL, **vars(self))

    def start(self, host, uri="qemu:///system", ready=True):
        """Starts it on a host (defines it first if it is persistent); waits until it runs."""
        file = f"/tmp/{self.name}.xml"
        host.path(file).write_text(self.xml())
        if self.persistent:
            host.virsh("define", file, uri=uri)
            host.virsh("start", self.name, uri=uri)
        else:
            host.virsh("create", file, uri=uri)
        if ready:
            wait_for(lambda: self.reports(host), f"{self.name} running", 30 + self.memory / 20)
        return self

    def destroy(self, host):
        host.virsh("destroy", self.name)

    def plug(self, host, megabytes):
        """Plugs that much memory into it while it runs, and returns its address in the guest."""
        file = f"/tmp/{self.name}.dimm.xml"
        host.path(file).write_text(DIMM.format(megabytes))
        host.virsh("attach-device", self.name, file, "--live")
        bases = re.findall(r"<address type='dimm' slot='\d+' base='(0x[0-9a-f]+)'/>",
                           host.virsh("dumpxml", self.name).stdout)
        return int(bases[-1], 16)

    def wait_extra(self, host):
        """Waits until it has taken its extra memory into use."""
        wait_for(lambda: any("PCG EXTRA" in line for line in self.lines(host)),
                 f"{self.name} using its extra memory", 30)
        return self

    # -- what it says -----------------------------------------------------------------

    def lines(self, host):
        """The whole lines it has written on that host."""
        text = host.log(self.log.removeprefix("/var/log/libvirt/"))
        return [line.rstrip("\r\n") for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def reports(self, host):
        return [r for r in map(Report.parse, self.lines(host)) if r]

    def report(self, host):
        """The newest report made on that host, None before the first."""
        reports = self.reports(host)
        return reports[-1] if reports else None

    def next_report(self, host, timeout=20):
        """The first report made on that host from now on."""
        seen = len(self.reports(host))
        return wait_for(lambda: self.reports(host)[seen:], lambda: f"a report of {self.name} on {host.name}; "
                        f"domain state: {host.virsh('domstate', '--reason', self.name, check=False)}",
                        timeout)[0]

    def complaints(self):
        """Lines about wrong memory, from either host."""
        return [line for host in self.rig.hosts for line in self.lines(host)
                if "PCG BAD" in line or "PCG ERROR" in line]

    def check_clean(self):
        """Raises GuestCorrupted if it ever found its memory wrong, or began anew."""
        complaints = self.complaints()
        if complaints:
            raise GuestCorrupted(f"{self.name}: {len(complaints)} lines, the first: {complaints[0]}")
        boots = sum("PCG BOOT" in line for host in self.rig.hosts for line in self.lines(host))
        if boots > 1:
            raise GuestCorrupted(f"{self.name} was reset")

    def verdict(self, host, timeout=None):
        """Waits until the guest, on that host, has verified all of its memory in a sweep that
        began after this call, and still touches it.

        Returns {"touches", "sweeps", "bad", "pages", "stalls": stalls() over its life}; raises
        GuestCorrupted if a page was wrong and wait.Timeout if the guest does not get on."""
        timeout = timeout or 30 + self.memory / 8
        first = self.next_report(host, timeout)

        def swept():
            self.check_clean()
            newest = self.report(host)
            return newest if newest["bad"] or newest["sweeps"] >= first["sweeps"] + 2 else None

        last = wait_for(swept, lambda: f"{self.name} verified its memory on {host.name} "
                        f"(from {first} it got to {self.report(host)})", timeout, 0.2)
        self.check_clean()
        if last["bad"]:
            raise GuestCorrupted(f"{self.name}: {last['bad']} wrong pages")
        assert last["touches"] > first["touches"], f"{self.name} does not touch its memory any more"
        return {"touches": last["touches"], "sweeps": last["sweeps"], "bad": last["bad"],
                "pages": self.pages(), "stalls": stalls(None, last)}

    def pages(self):
        """Those it began with, and those that came later."""
        return sum(int(found.group(1)) for host in self.rig.hosts for line in self.lines(host)
                   if (found := re.match(r"PCG (?:READY|EXTRA) pages=(\d+)", line)))

    # -- migration --------------------------------------------------------------------

    def start_migration(self, source, target, *options, uri=None, target_uri=None, transport="tls"):
        """Starts `virsh migrate` in the source host and returns the Migration.

        options         virsh's; default: --live --postcopy --postcopy-after-precopy
        uri             where virsh connects [postcopy:///system]
        target_uri      where the guest goes [postcopy+TRANSPORT://TARGET/system]"""
        options = options or ("--live", "--postcopy", "--postcopy-after-precopy")
        return Migration(source, self.name, ["virsh", "-c", uri or source.uri(), "migrate", *options, self.name,
                                  target_uri or target.uri(transport)])

    def migrate(self, source, target, *options, check=True, timeout=120, **where):
        """start_migration() and finish()."""
        return self.start_migration(source, target, *options, **where).finish(check, timeout)

    def start_native_migration(self, source, target, *options):
        """The same without this project's daemon: libvirt and QEMU alone."""
        return self.start_migration(source, target, *options, uri=source.uri(scheme="qemu"),
                                    target_uri=target.uri("tcp", "qemu"))
