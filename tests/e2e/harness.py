# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a test module needs of the runner: deadlines, skips, and notes on what was measured."""

DEADLINE = 120

_notes = []


class Skip(Exception):
    """This machine cannot run the test; the text says why."""


class Interrupted(BaseException):
    """SIGTERM or SIGINT: end, but clean up."""


class DeadlineExceeded(Exception):
    """The test took longer than it may."""


def deadline(seconds):
    """Decorator: how long the test may take, if not DEADLINE."""
    def mark(function):
        function.deadline = seconds
        return function
    return mark


def own_rig(function):
    """Decorator: the test leaves its rig in a state no other test should get."""
    function.own_rig = True
    return function


def soak(function):
    """Decorator: a long form of other tests, which runs if it is asked for (`run --soak`)."""
    function.soak = True
    return function


def note(text):
    """Prints a line below the test's own, for numbers that are shown and not asserted."""
    _notes.append(text)


def take_notes():
    taken = _notes[:]
    _notes.clear()
    return taken
