# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signals that ask a program to end, as an exception, and a way to clean up in spite of them."""
import contextlib
import os
import signal

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal has asked to end. status is the exit status that says so."""

    def __init__(self, signum):
        super().__init__(signal.Signals(signum).name)
        self.status = 128 + signum


def _abandon_children():
    """Lets ended children go without being waited for. Nobody knows of the one that was just being
    started, and the end of a process namespace waits until all in it are gone for good."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _interrupt(signum, _frame):
    ignore()
    _abandon_children()
    raise Interrupted(signum)


def catch():
    """From now on the first of these signals raises Interrupted, and others are ignored then."""
    for signum in SIGNALS:
        signal.signal(signum, _interrupt)


@contextlib.contextmanager
def deferred():
    """While entered, they wait: for what starts a short program that nobody would know of, and ends with it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore():
    """Call it before cleaning up."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
