# SPDX-License-Identifier: LGPL-2.1-or-later
"""OpenStack Nova's own code (Debian's python3-nova) live-migrates a guest by way of this driver: its libvirt
driver starts the migration, watches it, and forces it to its end or aborts it."""
import json
import subprocess

from guest import Guest
from harness import Skip, deadline, note
from migrating import arrived, stayed, went_through_helpers
from wait import wait_for

MIB = 1 << 20
UNBOUNDED = 2                           # libvirt's type of a job that runs


class NovaCompute:
    """nova_compute.py in a host, and what it has printed."""

    def __init__(self, host, uri="postcopy:///system", **options):
        self.host = host
        self.file = host.path(f"/tmp/nova-{host.next_number()}.json")
        argument = json.dumps({"connection_uri": uri, "live_migration_uri": "postcopy+tls://%s/system", **options})
        with open(self.file, "wb") as out:
            self.process = host.popen(["/usr/bin/python3", host.script("nova_compute.py"), argument],
                                      stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT)

    def said(self):
        """The end of what it said beside that."""
        lines = [line for line in self.file.read_text().splitlines() if not line.startswith("{")]
        return "\n".join(lines[-15:])

    def all(self, what, **fields):
        lines = self.file.read_text().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
        return [f for f in found if f["what"] == what and all(f.get(k) == v for k, v in fields.items())]

    def wait(self, what, timeout=60, **fields):
        def come():
            found = self.all(what, **fields)
            if not found and self.process.poll() is not None:
                raise AssertionError(f"nova ended without {what} {fields}: {self.said()}")
            return found
        return wait_for(come, lambda: f"{what} {fields} of nova; it says {self.said()}", timeout)[0]

    def finish(self, timeout=60):
        """Waits until it has ended well."""
        wait_for(lambda: self.process.poll() is not None, lambda: f"nova's end; {self.said()}",
                 timeout)
        assert self.process.returncode == 0, self.said()

    def stop(self):
        self.process.stdin.close()
        self.finish()


def nova_is_there(host):
    if host.run(["/usr/bin/python3", "-c", "import nova.virt.libvirt"], check=False).returncode != 0:
        raise Skip("python3-nova is not installed")


def guest_of_nova(rig):
    """One that is never through with pre-copy."""
    nova_is_there(rig.a)
    rig.shape("150mbit")
    return Guest(rig, 64, rate=0, persistent=True).start(rig.a)


def migration(rig, guest, force_after=None, timeout_action=None, inbound_addr=None):
    return NovaCompute(rig.a, uuid=guest.uuid, memory=guest.memory, destination=rig.b.name,
                       force_after=force_after, timeout_action=timeout_action, inbound_addr=inbound_addr)


def was_post_copy(rig, guest, nova):
    """Nova has switched it, has noted that, has seen the guest leave, and did what follows a migration that was
    good."""
    nova.finish()
    done, = nova.all("done")
    assert done["method"] == "post", done
    arrived(rig, guest)
    went_through_helpers(rig, guest)
    names = [e["name"] for e in nova.all("event", uuid=guest.uuid)]
    assert "Postcopy started" in names, names
    saved = [s["changes"] for s in nova.all("saved", object="Migration")]
    assert [s["status"] for s in saved if "status" in s] == ["running (post-copy)"], saved
    # as Nova's flags ask for: it has moved for good
    assert guest.name in rig.b.virsh("list", "--all", "--name", "--persistent").stdout.split()
    assert guest.name not in rig.a.virsh("list", "--all", "--name").stdout.split()
    note(f"events: {', '.join(names)}")


@deadline(120)
def test_force_complete_is_post_copy(rig):
    """As an operator asks for it; the destination's Nova hears of the guest as well."""
    guest = guest_of_nova(rig)
    other = NovaCompute(rig.b, watch=True)
    other.wait("ready")
    nova = migration(rig, guest, force_after=8 * MIB)
    nova.wait("forced")
    was_post_copy(rig, guest, nova)
    looks = nova.all("progress", type=UNBOUNDED)
    assert looks and looks[-1]["total"] >= guest.memory * MIB and looks[-1]["processed"] >= 8 * MIB, looks
    names = [e["name"] for e in other.all("event", uuid=guest.uuid)]
    assert names[0] == "Started" and "Resumed" in names, names
    other.stop()


@deadline(120)
def test_nova_forces_what_takes_too_long(rig):
    """By itself, when live_migration_completion_timeout is over; and to the address that the destination is
    reached at for migrations (live_migration_inbound_addr), for which Nova gives the URI tcp://HOST."""
    guest = guest_of_nova(rig)
    nova = migration(rig, guest, timeout_action="force_complete", inbound_addr=rig.b.name)
    was_post_copy(rig, guest, nova)
    # Nova notes how far it is at every tenth look: a migration that is forced soon has only the first of them
    saved = [s["changes"] for s in nova.all("saved", object="Migration")]
    assert any(int(s.get("memory_total", 0)) >= guest.memory * MIB for s in saved), saved


@deadline(120)
def test_nova_aborts_what_takes_too_long(rig):
    guest = guest_of_nova(rig)
    nova = migration(rig, guest, timeout_action="abort")
    nova.finish()
    done, = nova.all("done")
    assert done["method"] == "recover", done
    assert not [e for e in nova.all("event") if e["name"] == "Postcopy started"]
    stayed(rig, guest)
