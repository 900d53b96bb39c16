# SPDX-License-Identifier: LGPL-2.1-or-later
"""The demonstration, where it may not do all it wants, and when it is interrupted. (That it works
where it may is shown by running it: scripts/demo.)"""
import errno
import json
import os
import pathlib
import platform
import pwd
import re
import signal
import subprocess
import tempfile
import time

import settings
import userfaultfd
from harness import Skip, deadline, note
from host import INSIDE_BUILD, Host
from wait import wait_for

ALONE = True
RIG = {"daemon": False}
DEMO = pathlib.Path(__file__).with_name("demo.py")
UNSHARE = {"x86_64": 272, "aarch64": 97}
LEAVES = 20                             # seconds to clean up after a signal

# What a container does to its processes: some system calls fail. Then, with those arguments, DEMO.
CONFINE = """
import ctypes, json, os, sys
denied, uid, argv = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
LOAD, EQUAL, RETURN, EPERM, ALLOW = 0x20, 0x15, 0x06, 0x00050001, 0x7fff0000
class Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]
class Program(ctypes.Structure):
    _fields_ = [("count", ctypes.c_uint16), ("at", ctypes.POINTER(Instruction))]
steps = [Instruction(LOAD, 0, 0, 0)]
for number in denied:
    steps += [Instruction(EQUAL, 0, 1, number), Instruction(RETURN, 0, 0, EPERM)]
steps.append(Instruction(RETURN, 0, 0, ALLOW))
program = Program(len(steps), (Instruction * len(steps))(*steps))
if uid:
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
os.execv(argv[0], argv)
"""


def confined(host, denied, *options, user="root"):
    """Runs the demonstration in a host, without those system calls; returns CompletedProcess."""
    numbers = [number.get(platform.machine()) for number in denied]
    if None in numbers:
        raise Skip(f"the numbers of system calls on {platform.machine()} are not known to this test")
    return host.run(["/usr/bin/python3", "-c", CONFINE, json.dumps(numbers), pwd.getpwnam(user).pw_uid,
                     "/usr/bin/python3", Host.script(DEMO.name), "--builddir", INSIDE_BUILD, "--memory", "128",
                     *options], check=False, timeout=100)


def unfolded(text):
    """Without the ends of lines, where sentences are searched for."""
    return " ".join(text.split())


def test_loopback_is_used_and_said_where_namespaces_are_forbidden(rig):
    done = confined(rig.a, [UNSHARE])
    said = unfolded(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Two hosts cannot be made here (namespaces are not allowed here" in said, said
    for wanted in (r"MIGRATION postcopy-active", r"migrate-start-postcopy", r"downtime +\d+(\.\d)? ms",
                   r"on the wire +\d{3}\.\d MB", r"encryption +TLS1\.3, AES", r"the guest says +0 wrong pages"):
        assert re.search(wanted, done.stdout), f"{wanted} is not in:\n{done.stdout}"
    wide = [line for line in done.stdout.splitlines() if len(line) > 80]
    assert not wide and "\033" not in done.stdout, f"not fit for a file: {wide}"
    note(re.search("the guest says.*", said).group().split(",")[0])


def test_missing_right_to_userfaultfd_is_named(rig):
    done = confined(rig.a, [userfaultfd.SYSCALL], user="nobody")
    said = unfolded(done.stderr)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "needs root" in unfolded(done.stdout), done.stdout
    assert "QEMU refuses post-copy" in said and "a seccomp profile that allows userfaultfd" in said, done.stderr
    assert not list(rig.a.path("/tmp").glob("postcopy-demo-*"))


def test_remedy_fits_what_is_missing(_rig):
    nothing, tracing, filtered = "0", f"{1 << userfaultfd.CAP_SYS_PTRACE:x}", {"Seccomp": "2"}
    before = userfaultfd.try_it, userfaultfd.status, userfaultfd.setting
    try:
        for error, status, setting, wanted, unwanted in (
                (errno.EPERM, {"CapEff": nothing}, "0", "sysctl vm.unprivileged_userfaultfd=1", "seccomp"),
                (errno.EPERM, {"CapEff": nothing, **filtered}, "0", "CAP_SYS_PTRACE", "CONFIG_USERFAULTFD"),
                (errno.EPERM, {"CapEff": nothing, **filtered}, "1", "seccomp profile", "sysctl"),
                (errno.EPERM, {"CapEff": tracing, **filtered}, "0", "seccomp profile", "sysctl"),
                (errno.ENOSYS, {"CapEff": tracing}, None, "CONFIG_USERFAULTFD", "sysctl")):
            userfaultfd.try_it = lambda error=error: error
            userfaultfd.status = lambda status=status: status
            userfaultfd.setting = lambda setting=setting: setting
            missing, ways = userfaultfd.explain()
            text = "; ".join([missing, *ways])
            assert wanted in text and unwanted not in text, f"{errno.errorcode[error]}, {status}, {setting}: {text}"
    finally:
        userfaultfd.try_it, userfaultfd.status, userfaultfd.setting = before


def test_bad_options_are_refused_by_name(rig):
    for options, wanted in ((["--rate", "fast"], "'fast' is not a rate"), (["--memory", "8"], "a guest of 8 MiB"),
                            (["--memory", "2G"], "'2G' is not a number of MiB"),
                            (["--memory", "64", "--hot", "65"], "cannot change 65"),
                            (["--mode", "cloud"], "invalid choice: 'cloud'"), (["more"], "more")):
        done = rig.a.run(["/usr/bin/python3", Host.script(DEMO.name), *options], check=False)
        assert done.returncode == 2 and wanted in done.stderr, f"{options}: {done.stderr}"


def test_missing_programs_are_named(rig):
    done = rig.a.run(["/usr/bin/python3", Host.script(DEMO.name), "--mode", "loopback", "--builddir", "/run/home"],
                     check=False)
    assert done.returncode == 1 and "not built in /run/home: virt-postcopy-helper" in unfolded(done.stderr), done.stderr


# -- interrupted ------------------------------------------------------------------------------


def processes():
    """{pid: (parent, process namespace, name)} of all that can be seen."""
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            name, _, rest = pathlib.Path(f"/proc/{entry}/stat").read_text().partition("(")[2].rpartition(")")
            found[int(entry)] = (int(rest.split()[1]), os.stat(f"/proc/{entry}/ns/pid").st_ino, name)
        except OSError:
            pass                                        # ended meanwhile
    return found


def family(pid):
    """{(pid, start): name} of all below a process, and of all in their process namespaces."""
    everything = processes()
    ours = everything[pid][1]
    members = {pid}
    while True:
        spaces = {everything[m][1] for m in members} - {ours}
        more = {p for p, (parent, space, _) in everything.items() if parent in members or space in spaces} - members
        if not more:
            return {(p, settings.started(p)): everything[p][2] for p in members}
        members |= more


def traces():
    """What a demonstration could leave behind, apart from processes."""
    return {
        "mounts": pathlib.Path("/proc/self/mountinfo").read_text(),
        "networks": sorted(os.listdir("/sys/class/net")),
        "files": sorted(p.name for p in pathlib.Path(tempfile.gettempdir()).glob("postcopy-demo-*")),
    }


def check_gone(members, before):
    """Nothing of the demonstration whose processes were these is left."""
    left = {pid: name for (pid, start), name in members.items() if settings.started(pid) == start}
    assert not left, f"still running: {left}"
    assert traces() == before, (traces(), before)


def interrupt(rig, mode, signum):
    """Starts a demonstration, sends it the signal once the helpers are at work, and looks
    whether anything is left."""
    before = traces()
    with subprocess.Popen(["/usr/bin/python3", DEMO, "--builddir", rig.builddir, "--mode", mode, "--memory", "128",
                           "--rate", "100mbit"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        try:
            while "migrate" not in demo.stdout.readline():
                assert demo.poll() is None, demo.stderr.read()
            wait_for(lambda: sum(n.startswith("virt-postcopy-h") for n in family(demo.pid).values()) == 2,
                     "two helpers at work", 30)
            members = family(demo.pid)
            assert sum(n.startswith("qemu") for n in members.values()) >= 2, members
            demo.send_signal(signum)
            _, errors = demo.communicate(timeout=LEAVES)
        finally:
            demo.kill()
    assert demo.returncode == 128 + signum, (demo.returncode, errors)
    assert f"interrupted by {signum.name}" in errors and "Traceback" not in errors, errors
    check_gone(members, before)
    note(f"{len(members)} processes were ended")


@deadline(120)
def test_interrupted_while_hosts_are_made_leaves_nothing(rig):
    before = traces()
    for tenths in range(8):
        with subprocess.Popen(["/usr/bin/python3", DEMO, "--builddir", rig.builddir, "--mode", "hosts"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
            try:
                while "Two hosts" not in demo.stdout.readline():
                    assert demo.poll() is None, demo.stderr.read()
                time.sleep(tenths / 10)                 # somewhere in between
                members = family(demo.pid)
                demo.send_signal(signal.SIGINT)
                _, errors = demo.communicate(timeout=LEAVES)
            finally:
                demo.kill()
        assert demo.returncode == 128 + signal.SIGINT and "Traceback" not in errors, (demo.returncode, errors)
        check_gone(members, before)


@deadline(90)
def test_interrupted_between_hosts_leaves_nothing(rig):
    interrupt(rig, "hosts", signal.SIGINT)


@deadline(90)
def test_terminated_between_hosts_leaves_nothing(rig):
    interrupt(rig, "hosts", signal.SIGTERM)


@deadline(90)
def test_interrupted_on_loopback_leaves_nothing(rig):
    interrupt(rig, "loopback", signal.SIGINT)
