# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process that is killed costs no guest, but for the QEMU it runs in: docs/failures.md says what
becomes of it, and is right."""
from course import MOMENTS
from failures import DAEMON_CONF, as_expected, read, try_all, try_one
from harness import deadline, note, own_rig, soak
from losses import PROCESSES

RIG = {"daemon_conf": DAEMON_CONF}


def as_documented(rig, *cells):
    expected = read()
    for moment, process in cells:
        outcome = try_one(rig, moment, process)
        assert as_expected(expected[moment, process], outcome), \
            f"{process} killed, {moment}: {outcome}, where the file says {expected[moment, process]}"


@deadline(60)
def test_source_helper_in_precopy(rig):
    as_documented(rig, ("pre-copy", "source helper"))


@deadline(60)
def test_destination_helper_just_after_the_switch(rig):
    as_documented(rig, ("first requests", "destination helper"))


@deadline(90)
def test_both_helpers_in_postcopy(rig):
    as_documented(rig, ("mid post-copy", "both helpers"))


@deadline(90)
def test_source_daemon_in_postcopy(rig):
    as_documented(rig, ("mid post-copy", "source virtpostcopyd"))


@deadline(90)
def test_destination_daemon_in_a_recovery(rig):
    as_documented(rig, ("recovery", "destination virtpostcopyd"))


@own_rig
@deadline(90)
def test_destination_qemu_in_postcopy(rig):
    """The one that costs the guest: both hosts say so plainly, and what the source has is kept."""
    as_documented(rig, ("mid post-copy", "destination QEMU"))


@soak
@deadline(3600)
def test_every_process_at_every_moment(rig):
    """All of docs/failures.md."""
    note(f"{len(PROCESSES) * len(MOMENTS)} migrations")
    outcomes, expected = try_all(rig.builddir), read()
    differ = [f"{process} killed, {moment}: {outcome or 'it failed'}, where the file says {expected[moment, process]}"
              for (moment, process), outcome in outcomes.items()
              if not outcome or not as_expected(expected[moment, process], outcome)]
    assert not differ, "; ".join(differ)
