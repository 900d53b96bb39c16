# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stock clients at postcopy:///system get what they get at qemu:///system: answers, errors, events,
streams and descriptors."""
import os
import re
import signal
import subprocess
import termios

from guest import Guest
from harness import note
from usage import no_descriptor_left
from wait import wait_for

ESCAPE = b"\x1d"                        # ^], which ends virsh console
TEXT = b"The quick brown fox jumps over the lazy dog. " * 4
LONG = 3 << 20


def client(host, *args, **options):
    """A client of client.py in the host, run to its end."""
    return host.run(["/usr/bin/python3", host.script("client.py"), *args], **options)


def same(host, *args, status=0):
    """virsh says the same through the proxy as directly; returns that."""
    direct = host.virsh(*args, check=False)
    passed = host.virsh(*args, uri=host.uri(), check=False)
    assert direct.returncode == status, direct
    assert (passed.returncode, passed.stdout, passed.stderr) == \
        (direct.returncode, direct.stdout, direct.stderr), f"{passed} instead of {direct}"
    return passed.stdout


class Listener:
    """virsh that prints events until it is interrupted."""

    def __init__(self, host, uri, *args):
        self.file = host.path(f"/tmp/listener-{host.next_number()}")
        with open(self.file, "wb") as out:
            self.process = host.popen(["stdbuf", "-oL", "virsh", "-q", "-c", uri, *args],
                                      stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def lines(self, name=""):
        """Whole lines that contain the name, without their times."""
        lines = [line for line in self.file.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [re.sub(r" at \d+\.\d+", "", line.strip()) for line in lines if name in line]

    def stop(self):
        """Ends it as ^C does; its status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(10)


def listen_to_both(host, guest, *args):
    """Listeners behind and before the proxy that have begun to hear: suspends and resumes the
    guest until they do."""
    listeners = [Listener(host, uri, *args) for uri in (host.uri(), host.uri(scheme="qemu"))]

    def heard():
        host.virsh("suspend", guest.name)
        host.virsh("resume", guest.name)
        return all(l.lines() for l in listeners)

    wait_for(heard, lambda: f"events; there were {[l.lines() for l in listeners]}")
    return listeners


# -- answers --------------------------------------------------------------------------


def test_virsh_prints_the_same(rig):
    guest = Guest(rig, 32, persistent=True).start(rig.a, ready=False)
    assert guest.name in same(rig.a, "list", "--all")
    assert "<capabilities>" in same(rig.a, "capabilities")
    assert guest.uuid in same(rig.a, "dumpxml", guest.name)
    for args in (["dumpxml", "--inactive", guest.name], ["domstate", "--reason", guest.name], ["nodecpumap"],
                 ["version"], ["hostname"], ["domcapabilities"], ["vcpucount", guest.name],
                 ["domblklist", guest.name], ["net-list", "--all"], ["pool-list", "--all"]):
        same(rig.a, *args)


def test_virsh_fails_the_same(rig):
    guest = Guest(rig, 32).start(rig.a, ready=False)
    for args in (["dominfo", "nobody"], ["start", guest.name], ["undefine", guest.name],
                 ["vol-info", "/nowhere"], ["attach-disk", guest.name, "/nowhere", "vda"],
                 ["domfsinfo", guest.name], ["migrate-postcopy", guest.name],
                 ["migrate", guest.name, "test:///default"]):
        same(rig.a, *args, status=1)


def test_uri_is_postcopy(rig):
    assert rig.a.virsh("uri", uri=rig.a.uri()).stdout.strip() == "postcopy:///system"
    default = {"LIBVIRT_DEFAULT_URI": "postcopy:///system"}
    assert client(rig.a, "uri", env=default).stdout == "postcopy:///system\n"


def test_definition_of_megabytes(rig):
    """Calls and replies far larger than a socket's buffer."""
    guest = Guest(rig, 32)
    text = "".join(f"{i:07d}\n" for i in range(LONG // 8)).strip()
    rig.a.path("/tmp/long.xml").write_text(
        guest.xml().replace("<memory", f"<description>{text}</description><memory"))
    rig.a.virsh("define", "/tmp/long.xml", uri=rig.a.uri())
    assert text in same(rig.a, "dumpxml", guest.name)


# -- streams --------------------------------------------------------------------------


class Console:
    """virsh console on a terminal of its own."""

    def __init__(self, host, uri, name):
        self.master, self.slave = os.openpty()
        os.set_blocking(self.master, False)
        self.seen = b""
        self.process = host.popen(["virsh", "-c", uri, "console", name, "--devname", "serial1"],
                                  stdin=self.slave, stdout=self.slave, stderr=self.slave, env={"TERM": "dumb"})

    def wait(self, text):
        def read():
            try:
                self.seen += os.read(self.master, 65536)
            except BlockingIOError:
                pass
            return text in self.seen

        wait_for(read, lambda: f"{text} on the console; there is {self.seen}, status {self.process.poll()}")

    def wait_open(self):
        """From then on only the guest echoes: the terminal does no more."""
        self.wait(b"Escape character")
        wait_for(lambda: not termios.tcgetattr(self.slave)[3] & termios.ECHO, "the terminal raw")

    def write(self, data):
        os.write(self.master, data)

    def leave(self):
        self.write(ESCAPE)
        status = self.process.wait(10)
        os.close(self.master)
        os.close(self.slave)
        return status


def test_console_echoes(rig):
    guest = Guest(rig, 32).start(rig.a, ready=False)
    for _ in range(2):                  # leaving it must free it for the next
        console = Console(rig.a, rig.a.uri(), guest.name)
        console.wait_open()
        console.write(TEXT)
        console.wait(TEXT)
        assert console.leave() == 0


def test_screenshot(rig):
    guest = Guest(rig, 32, video=True).start(rig.a)         # its firmware writes no more
    pictures = []
    for uri in (rig.a.uri(), rig.a.uri(scheme="qemu")):
        file = f"/tmp/screenshot-{rig.a.next_number()}"
        rig.a.virsh("screenshot", guest.name, file, uri=uri)
        pictures.append(rig.a.path(file).read_bytes())
    assert pictures[0][:4] in (b"\x89PNG", b"P6\n7"), pictures[0][:8]
    # a cursor may blink
    assert pictures[0][:24] == pictures[1][:24] and abs(len(pictures[0]) - len(pictures[1])) < 200
    note(f"{len(pictures[0])} bytes")


# -- events ---------------------------------------------------------------------------


def test_event_all(rig):
    first = Guest(rig, 32).start(rig.a, ready=False)
    passed, direct = listen_to_both(rig.a, first, "event", "--all", "--loop")
    guest = Guest(rig, 32).start(rig.a, uri=rig.a.uri(), ready=False)
    rig.a.virsh("suspend", guest.name)
    rig.a.virsh("resume", guest.name, uri=rig.a.uri())
    rig.a.virsh("destroy", guest.name)
    for listener in passed, direct:
        wait_for(lambda l=listener: any("Stopped" in line for line in l.lines(guest.name)),
                 lambda l=listener: f"the last event; there were {l.lines()}")
        assert listener.stop() == 0
    assert passed.lines(guest.name) == direct.lines(guest.name)
    assert any("Suspended Paused" in line for line in passed.lines(guest.name)), passed.lines()


def test_qemu_monitor_event(rig):
    guest = Guest(rig, 32).start(rig.a, ready=False)
    listeners = listen_to_both(rig.a, guest, "qemu-monitor-event", "--loop", guest.name)
    rig.a.virsh("destroy", guest.name)
    for listener in listeners:
        wait_for(lambda l=listener: any("SHUTDOWN" in line for line in l.lines()),
                 lambda l=listener: f"SHUTDOWN; there were {l.lines()}")
        assert any("RESUME" in line for line in listener.lines()), listener.lines()
        assert listener.stop() == 0


def start_watch(host, uri, interval, count):
    process = host.popen(["/usr/bin/python3", host.script("client.py"), "watch", uri, interval, count],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def test_consumer_with_keepalive(rig):
    """It outlives its own pings while nothing happens, hears an event after that, and finds out
    when libvirtd, not the daemon between them, has stopped answering."""
    guest = Guest(rig, 32).start(rig.a, ready=False)
    consumers = [start_watch(rig.a, rig.a.uri(), 1, 2), start_watch(rig.b, rig.a.uri("tcp"), 1, 2)]
    try:
        for consumer in consumers:      # three seconds are more than it waits for an answer
            try:
                consumer.wait(2)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"it ended: {consumer.stdout.read()}")
        rig.a.virsh("suspend", guest.name)
        for consumer in consumers:
            assert consumer.stdout.readline() == f"event {guest.name} 3 0\n"
        rig.a.libvirtd.send_signal(signal.SIGSTOP)
        for consumer in consumers:
            assert consumer.stdout.readline() == "closed 2\n"           # keepalive
    finally:
        rig.a.libvirtd.send_signal(signal.SIGCONT)
        for consumer in consumers:
            consumer.kill()
            consumer.communicate()


# -- descriptors ----------------------------------------------------------------------


def add_descriptor(host, uri, name, fd):
    """Gives QEMU a descriptor of ours as number 7 of its sets: virsh's status and what it said."""
    process = host.popen(["virsh", "-q", "-c", uri, "qemu-monitor-command", "--pass-fds", str(fd), name,
                          '{"execute": "add-fd", "arguments": {"fdset-id": 7}}'],
                         pass_fds=(fd,), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    answer, _ = process.communicate(timeout=20)
    return process.returncode, answer


def test_descriptor_reaches_qemu(rig):
    guest = Guest(rig, 32).start(rig.a, ready=False)
    qemu, = rig.a.pids("qemu-system-x86_64")
    ends = os.pipe()
    try:
        status, answer = add_descriptor(rig.a, rig.a.uri(), guest.name, ends[1])
        assert status == 0, answer
        fd = re.search(r'"fd":(\d+)', answer).group(1)
        assert os.readlink(f"/proc/{qemu}/fd/{fd}") == os.readlink(f"/proc/self/fd/{ends[1]}")
        # ours and QEMU's are the only ones: nobody between keeps one
        os.close(ends[1])
        ends = ends[:1]
        rig.a.virsh("qemu-monitor-command", guest.name,
                    '{"execute": "remove-fd", "arguments": {"fdset-id": 7}}')
        os.set_blocking(ends[0], False)
        wait_for(lambda: is_closed(ends[0]), "the end of the pipe")
    finally:
        for fd in ends:
            os.close(fd)


def is_closed(pipe):
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False


def test_descriptors_of_graphics(rig):
    guest = Guest(rig, 32, video=True).start(rig.a, ready=False)
    assert client(rig.a, "graphics", rig.a.uri(), guest.name).stdout == "RFB 003.008\n" * 2


def test_descriptors_do_not_go_over_tcp(rig):
    """Whoever asks for some is told so, nobody is left with one."""
    guest = Guest(rig, 32, video=True).start(rig.a, ready=False)
    holders = rig.a.daemon.pid, rig.a.libvirtd.pid, *rig.a.pids("qemu-system-x86_64")
    with no_descriptor_left(*holders), open(os.devnull, "rb") as null:
        refused = client(rig.b, "graphics", rig.a.uri("tcp"), guest.name, check=False)
        note(refused.stderr.splitlines()[-1])
        assert refused.returncode == 1 and "file descriptors cannot be passed" in refused.stderr
        # the other way libvirt's own client refuses, having sent half of the call
        status, answer = add_descriptor(rig.b, rig.a.uri("tcp"), guest.name, null.fileno())
        note(answer.splitlines()[-1])
        assert status == 1 and "file descriptors is not supported" in answer, answer
