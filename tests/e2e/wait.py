# SPDX-License-Identifier: LGPL-2.1-or-later
"""Waiting for something to become true, never longer than a deadline."""
import time


class Timeout(AssertionError):
    """What was waited for did not happen."""


def wait_for(predicate, what, timeout=10.0, interval=0.05):
    """Calls predicate until it returns something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        result = predicate()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise Timeout(f"after {timeout:g} s still not: {what() if callable(what) else what}")
        time.sleep(interval)
