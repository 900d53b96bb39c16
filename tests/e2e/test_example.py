# SPDX-License-Identifier: LGPL-2.1-or-later
"""The program in docs/handover.md does what is said of it there."""
import subprocess

from harness import deadline
from host import INSIDE_BUILD

PROGRAM = f"{INSIDE_BUILD}/client/example"
ENVIRONMENT = {"LD_LIBRARY_PATH": f"{INSIDE_BUILD}/client/.libs"}


def start(host, *arguments):
    return host.popen([PROGRAM, *arguments], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                      text=True)


@deadline(120)
def test_a_guest_moves_by_a_page_of_code(rig):
    programs = []
    try:
        programs.append(start(rig.b))
        uri = programs[0].stdout.readline().strip()
        assert uri.startswith("postcopy:///?peer="), programs[0].stderr.read()
        programs.append(start(rig.a, uri))
        said, complaints = programs[1].communicate(timeout=60)
        assert (programs[1].returncode, said, complaints) == (0, "", "")
        said, complaints = programs[0].communicate(timeout=60)
        assert (programs[0].returncode, complaints) == (0, ""), complaints
        assert said.startswith("it runs here, at "), said
        assert int(said.split()[-1]) > 2 * 16384
    finally:
        for program in programs:
            if program.poll() is None:
                program.kill()
            program.wait()


@deadline(60)
def test_a_uri_that_is_none_is_refused_with_a_reason(rig):
    program = start(rig.a, "tcp://b:1234")
    said, complaints = program.communicate(timeout=60)
    assert program.returncode == 1 and said == ""
    assert complaints.strip(), "it says why"
