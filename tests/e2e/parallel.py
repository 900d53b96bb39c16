# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several test files at the same time: a process each, with rigs of its own.

A file is never divided, because its tests share a rig. The long ones begin first. Files that say
ALONE = True change or measure the machine as a whole: they come last, one after the other."""
import contextlib
import io
import multiprocessing
import sys

from harness import Interrupted

ORDINARY = 30                           # seconds that a test without a deadline of its own is taken for
OUTCOMES = ("ok", "FAIL", "skip")


def length(tests):
    """Of a file's tests, as far as it can be guessed: long ones have deadlines of their own."""
    return sum(getattr(function, "deadline", ORDINARY) for _, _, function in tests)


def by_file(tests):
    """[[test, ...] of one file, ...]: those that may run beside others, those that may not."""
    files = {}
    for test in tests:
        files.setdefault(test[1].__name__, []).append(test)
    groups = sorted(files.values(), key=length, reverse=True)
    return ([g for g in groups if not getattr(g[0][1], "ALONE", False)],
            [g for g in groups if getattr(g[0][1], "ALONE", False)])


@contextlib.contextmanager
def in_one_piece(lock):
    """What is printed meanwhile comes out together, whoever else prints."""
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            yield
    finally:
        with lock:
            sys.__stdout__.write(text.getvalue())
            sys.__stdout__.flush()


def work(groups, lock, results, run_group):
    """In a process of its own, until no file is left."""
    while True:
        group = groups.get()
        if group is None:
            return
        counts = dict.fromkeys(OUTCOMES, 0)
        try:
            run_group(group, counts, lambda: in_one_piece(lock))
        except Interrupted:
            sys.exit(130)
        finally:
            results.put(counts)


def run(tests, jobs, run_group):
    """run_group(tests, counts, frame) runs the tests of one file, each inside a frame(), and cleans up
    whatever happens. Returns the counts of all."""
    beside, alone = by_file(tests)
    counts = dict.fromkeys(OUTCOMES, 0)
    for groups, workers in ((beside, min(jobs, len(beside))), (alone, min(1, len(alone)))):
        for part in _run_side_by_side(groups, workers, run_group):
            for outcome, number in part.items():
                counts[outcome] += number
    return counts


def _run_side_by_side(groups, workers, run_group):
    context = multiprocessing.get_context("fork")
    # Modules do not pass through a queue: their places in the list do.
    places, results, lock = context.SimpleQueue(), context.SimpleQueue(), context.Lock()
    for place in [*range(len(groups)), *[None] * workers]:
        places.put(place)

    class Groups:
        @staticmethod
        def get():
            place = places.get()
            return None if place is None else groups[place]

    sys.stdout.flush()
    processes = [context.Process(target=work, args=(Groups, lock, results, run_group))
                 for _ in range(workers)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join()
    except BaseException:
        for process in processes:
            if process.is_alive():
                process.terminate()             # it cleans up by itself
        for process in processes:
            process.join()
        raise
    parts = []
    while not results.empty():
        parts.append(results.get())
    lost = sum(process.exitcode != 0 for process in processes) + len(groups) - len(parts)
    if lost > 0:
        print(f"FAIL: {lost} test files or their processes ended before their time")
        parts.append({"ok": 0, "FAIL": lost, "skip": 0})
    return parts
