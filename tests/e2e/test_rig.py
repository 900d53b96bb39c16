# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rig itself: that it leaves nothing behind, however it ends, and is alone in its network."""
import os
import pathlib
import signal
import subprocess
import sys

import settings
from guest import Guest
from harness import Skip
from rig import Rig
from wait import wait_for

ALONE = True
RIG = {"daemon": False}

VICTIM = """
import signal, sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
from guest import Guest
from rig import Rig
with Rig(sys.argv[2], daemon=False) as rig:
    Guest(rig, 16).start(rig.a)
    print(*(pid for host in rig.hosts for pid in (host.ns.pid, *host.ns.pids())), flush=True)
    signal.pause()
"""


def end_a_rig_by(signum, builddir):
    """Returns once a rig in another program was ended by the signal and its processes are gone."""
    victim = subprocess.Popen([sys.executable, "-c", VICTIM, str(pathlib.Path(__file__).parent), str(builddir)],
                              stdout=subprocess.PIPE, text=True)
    try:
        pids = list(map(int, victim.stdout.readline().split()))
        assert len(pids) >= 5, f"two holders, two libvirtd and a QEMU expected: {pids}"
    finally:
        victim.send_signal(signum)
        victim.communicate(timeout=30)
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "processes of the rig gone")


def machine():
    """What a rig could leave on the machine."""
    return {"links": sorted(os.listdir("/sys/class/net")),
            "mounts": pathlib.Path("/proc/self/mountinfo").read_text().splitlines(),
            "run": sorted(os.listdir("/run")),
            "tmp": sorted(n for n in os.listdir("/tmp") if "rig" in n),
            "setting": settings.SETTING.read_text() if settings.SETTING.exists() else None}


def changes(before):
    after = machine()
    return {key: (value, after[key]) for key, value in before.items() if after[key] != value}


def test_terminated_rig_leaves_nothing(rig):
    before = machine()
    end_a_rig_by(signal.SIGTERM, rig.builddir)
    assert not changes(before), changes(before)


def test_killed_rig_leaves_nothing(rig):
    before = machine()
    end_a_rig_by(signal.SIGKILL, rig.builddir)
    settings.USERFAULTFD.restore_if_unused()
    assert not changes(before), changes(before)


HOLDER = """
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import settings
shared = settings.SharedSetting(*sys.argv[2:])
held = shared.hold("1")
print("held", flush=True)
if sys.stdin.read() == "release":
    shared.release(held)
"""


def hold_in_another_program(shared):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, pathlib.Path(__file__).parent, shared.setting,
                               shared.record], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    return holder


def test_setting_comes_back_with_the_last_who_needs_it(rig):
    """Also when the first one is killed, and when all are."""
    directory = rig.a.path("/tmp/setting")
    directory.mkdir()
    shared = settings.SharedSetting(directory / "value", directory / "record")
    for ends in (("release", "release"), ("", "release"), ("", "")):
        shared.setting.write_text("0\n")
        holders = [hold_in_another_program(shared) for _ in ends]
        for holder, end in zip(holders, ends):
            assert shared.setting.read_text() == "1"
            assert shared.restore_if_unused() and shared.record.exists()
            holder.communicate(end)
        if not any(ends):
            assert shared.setting.read_text() == "1"
            assert not shared.restore_if_unused()
        assert shared.setting.read_text() == "0\n" and not shared.record.exists()


def test_rigs_do_not_see_each_other(rig):
    guest = Guest(rig, 16).start(rig.a)
    with Rig(rig.builddir, daemon=False) as other:
        assert other.a.domains() == []
        twin = Guest(other, 16, name=guest.name).start(other.a)
        twin.start_native_migration(other.a, other.b, "--live").finish()
        assert other.b.domains() == rig.a.domains() == [guest.name]
    guest.verdict(rig.a)


def test_reset_takes_everything_a_test_may_leave(rig):
    Guest(rig, 16, persistent=True).start(rig.a)
    Guest(rig, 16).start(rig.b)
    rig.shape("10mbit")
    rig.drop(True)
    rig.link(False)
    rig.reset()
    assert rig.a.domains() == rig.b.domains() == []
    assert "tbf" not in rig.a.run(["tc", "qdisc", "show", "dev", "eth0"]).stdout
    rig.a.virsh("uri", uri=rig.b.uri("tcp", "qemu"), timeout=10)


def test_both_addresses_reach_the_other_host(rig):
    for v6 in (False, True):
        rig.a.virsh("uri", uri=rig.b.uri("tcp", "qemu", v6=v6), timeout=10)


def test_qemu_runs_as_its_ordinary_user(rig):
    if rig.qemu_user == "root":
        raise Skip("vm.unprivileged_userfaultfd cannot be set here")
    Guest(rig, 16).start(rig.a)
    pid, = rig.a.pids("qemu-system-x86_64")
    assert os.stat(f"/proc/{pid}").st_uid != 0
