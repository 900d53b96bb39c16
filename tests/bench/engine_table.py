# SPDX-License-Identifier: LGPL-2.1-or-later
"""The figures of bench --engine beside what they are to be."""
import statistics

PAGE = 4096
MIB = 1 << 20
OVERHEAD_MIB = 32
BITMAPS = 8                             # of one bit a page, at most, in a helper
LINEAR = 1.5                            # time for a MiB, the largest size beside the others


def _of(runs, case, kind, figure):
    """The median; None without a run."""
    values = [run[figure] for run in runs if run["case"] == case and run["kind"] == kind and figure in run]
    return statistics.median(values) if values else None


def _speed(runs, case, kind):
    memory, seconds = _of(runs, case, kind, "memory"), _of(runs, case, kind, "postcopy_s")
    return memory / seconds if seconds else None


def _over(a, b):
    return a / b if a is not None and b else None


def _engine_over(runs, kind):
    return _over(_speed(runs, "main", "engine"), _speed(runs, "main", kind))


def _memory_over(runs):
    """The most of any helper, less the bitmaps of its guest."""
    found = [run[figure] - run["memory"] * MIB / PAGE / 8 * BITMAPS / MIB
             for run in runs for figure in ("source_helper_mib", "destination_helper_mib") if figure in run]
    return max(found) if found else None


def _linear(runs):
    """The slowest MiB of any size beside the quickest, each beside what the kernel could do at that size: cold memory
    of the machine is slower than what has been used."""
    costs = [_over(_speed(runs, case, "limit"), _speed(runs, case, "engine"))
             for case in sorted({run["case"] for run in runs if run["case"].startswith("size-")})]
    costs = [cost for cost in costs if cost]
    return max(costs) / min(costs) if len(costs) > 1 else None


# what, how it is worked out, target, at least (else at most)
ROWS = [
    ("speed / the kernel's placing limit", lambda r: _engine_over(r, "limit"), 0.7, True),
    ("speed / native", lambda r: _engine_over(r, "native"), 1.3, True),
    ("speed / native with TLS", lambda r: _engine_over(r, "native-tls"), 2.0, True),
    ("a fault, read to placed, p50 µs", lambda r: _of(r, "main", "faults", "local_p50_us"), 120, False),
    ("zero-heavy: time / native's", lambda r: _over(_of(r, "zero-heavy", "engine", "postcopy_s"),
                                                    _of(r, "zero-heavy", "native", "postcopy_s")), 0.2, False),
    ("helper MiB without bitmaps", _memory_over, OVERHEAD_MIB, False),
    ("time for a MiB, worst / best size", _linear, LINEAR, False),
]


def render(runs):
    """(lines, [{"figure", "value", "target", "reached"}])"""
    kinds = ("limit", "native", "native-tls", "engine")
    lines = ["".join([f"{'MiB/s':28}", *(f"{kind:>12}" for kind in kinds)])]
    for case in dict.fromkeys(run["case"] for run in runs):
        speeds = [_speed(runs, case, kind) for kind in kinds]
        lines.append("".join([f"{case:28}", *(f"{speed:12.0f}" if speed else " " * 12 for speed in speeds)]).rstrip())
    figures = []
    lines.append("")
    for words, work_out, target, at_least in ROWS:
        value = work_out(runs)
        if value is None:
            continue
        reached = value >= target if at_least else value <= target
        figures.append({"figure": words, "value": value, "target": target, "reached": reached})
        verdict = f"{'PASS' if reached else 'MISS'} ({'>=' if at_least else '<='} {target:g})"
        lines.append(f"{words:36}{value:10.2f}   {verdict}")
    return lines, figures
