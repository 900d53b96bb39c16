# SPDX-License-Identifier: LGPL-2.1-or-later
"""virt-postcopy check where a setting of the whole machine is what is wrong. It is wrong for a moment only,
and put back whatever happens."""
import contextlib

import settings
from checking import case, check, ids, run_cases
from guest import HUGEPAGES, Guest
from harness import Skip, deadline, note
from migrating import POSTCOPY, arrived, stayed

ALONE = True


@contextlib.contextmanager
def forbidden():
    """QEMU's user may not handle page faults."""
    if settings.SETTING.read_text().strip() != "1":
        raise Skip("QEMU runs as root here, which no setting keeps from userfaultfd")
    with settings.USERFAULTFD.withdrawn("0"):
        yield


@case("userfaultfd-forbidden", r'run "echo (vm\.unprivileged_userfaultfd=1) > /etc/sysctl.d/60-postcopy.conf')
def userfaultfd_forbidden(rig):
    with forbidden():
        remedy = yield
        rig.a.path("/etc/sysctl.d/60-postcopy.conf").write_text(f"{remedy[1]}\n")
        rig.a.run(["sysctl", "-p", "/etc/sysctl.d/60-postcopy.conf"])
        assert settings.SETTING.read_text().strip() == "1"
        yield


def test_userfaultfd_of_qemus_user(rig):
    run_cases(rig, "userfaultfd-forbidden")


@deadline(200)
def test_a_migration_says_the_sysctl(rig):
    """In place of libvirt's "Postcopy is not supported"."""
    guest = Guest(rig, 64, hot=2, rate=500).start(rig.a)
    for options in ((), ("--p2p",)):
        with forbidden():
            finding = next(f for f in check(rig.b)[1] if f["id"] == "userfaultfd-forbidden")
            migration = guest.migrate(rig.a, rig.b, *POSTCOPY, "--postcopy-after-precopy", *options, check=False)
        assert migration.status != 0
        assert f"{rig.b.name}: {finding['detail']}: run \"echo vm.unprivileged_userfaultfd=1" in migration.stderr, \
            migration.stderr
        note(migration.stderr.strip())
        stayed(rig, guest)
    assert "userfaultfd-forbidden" not in ids(check(rig.b)[1])
    guest.migrate(rig.a, rig.b)
    arrived(rig, guest)


@deadline(200)
def test_a_migration_that_lacks_huge_pages_is_refused(rig):
    """The guest takes all there are; the other host has the machine's as well."""
    free = settings.HUGEPAGE_POOL.with_name("free_hugepages")
    guest = Guest(rig, 64, hot=2, rate=500, memory_backing=HUGEPAGES)
    with rig.hugepages(64):
        guest.start(rig.a)
        if int(free.read_text()) >= 32:
            raise Skip("somebody else on this machine has set huge pages aside")
        migration = guest.migrate(rig.a, rig.b, check=False)
        assert migration.status != 0
        assert f"{rig.b.name}: the domain takes 32 huge pages of 2048 KiB, and {rig.b.name} has" in migration.stderr, \
            migration.stderr
        note(migration.stderr.strip())
        stayed(rig, guest)
        with rig.hugepages(64):
            guest.migrate(rig.a, rig.b)
            arrived(rig, guest)
            guest.destroy(rig.b)
