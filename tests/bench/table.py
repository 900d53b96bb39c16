# SPDX-License-Identifier: LGPL-2.1-or-later
"""The figures of many runs as medians, and those as a table."""
import re
import statistics

MIB = 1 << 20
NATIVE, PREEMPT = "native", "native-preempt"
LABEL, COLUMN = 19, 15

# of the helpers' own, those that tell most
COUNTERS = {
    "source": ("pages-background", "pages-urgent", "pages-zero", "pages-read", "requests", "requests-staged", "requests-read",
               "requests-asked", "requests-late", "stage-high-water", "rate", "rtt-us", "rtt-min-us", "in-flight-limit",
               "compression"),
    "destination": ("requests", "request-latency-p50-us", "request-latency-p90-us", "request-latency-p99-us",
                    "request-latency-max-us", "duplicates"),
}


def _process(run, *labels, key="cpu_s"):
    """The sum over those of the processes that the run had, None if it had none of them."""
    found = [run["processes"][label][key] for label in labels if label in run["processes"]]
    return sum(found) if found else None


def _qemu_without_guest(run, label):
    found = run["processes"].get(label)
    return found["cpu_s"] - found["vcpu_s"] if found else None


def _mib(value):
    return None if value is None else value / MIB


# name: (digits, what it is of a run)
FIGURES = {
    "post-copy s": (2, lambda r: r["postcopy_s"]),
    "total s": (2, lambda r: r["total_s"]),
    "downtime ms": (1, lambda r: r["downtime_ms"]),
    "stall p50 ms": (3, lambda r: r["stalls"]["p50_us"] / 1000),
    "stall p90 ms": (3, lambda r: r["stalls"]["p90_us"] / 1000),
    "stall p99 ms": (3, lambda r: r["stalls"]["p99_us"] / 1000),
    "stall max ms": (3, lambda r: r["stalls"]["max_us"] / 1000),
    "stalls": (0, lambda r: r["stalls"]["count"]),
    "requests": (0, lambda r: r["requests"]),
    "touches/s": (0, lambda r: r["touches_per_s"]),
    "early touches/s": (0, lambda r: r["early_touches_per_s"]),
    "sent MiB": (1, lambda r: _mib(r["wire_sent"])),
    "received MiB": (2, lambda r: _mib(r["wire_received"])),
    "source QEMU CPU s": (2, lambda r: _qemu_without_guest(r, "qemu-source")),
    "dest. QEMU CPU s": (2, lambda r: _qemu_without_guest(r, "qemu-destination")),
    "source helper CPU s": (2, lambda r: _process(r, "helper-source")),
    "dest. helper CPU s": (2, lambda r: _process(r, "helper-destination")),
    "daemons CPU s": (2, lambda r: _process(r, "daemon-source", "daemon-destination")),
    "others CPU s": (2, lambda r: r["others_cpu_s"]),
    "source helper MiB": (1, lambda r: _mib(_process(r, "helper-source", key="peak_bytes"))),
    "dest. helper MiB": (1, lambda r: _mib(_process(r, "helper-destination", key="peak_bytes"))),
}


def medians(runs):
    """{figure: median} of runs of one kind; a figure that they do not have is left out."""
    found = {}
    for name, (_, figure) in FIGURES.items():
        values = [value for value in map(figure, runs) if value is not None]
        if values:
            found[name] = statistics.median(values)
    return found


def counters(runs):
    """{side: {name: median}} of all the numbers in the helpers' statistics."""
    found = {}
    for run in runs:
        for side, statistic in run.get("statistics", {}).items():
            for name, text in statistic.items():
                if re.fullmatch(r"\d+(\.\d+)?", text):
                    found.setdefault(side, {}).setdefault(name, []).append(float(text))
    return {side: {name: statistics.median(values) for name, values in names.items()}
            for side, names in found.items()}


def summarize(runs):
    """[{rate, pattern, kinds: {kind: {"runs": n, "medians": …, "counters": …}}}] in the order of the runs."""
    groups = {}
    for run in runs:
        kinds = groups.setdefault((run["rate"], run["pattern"]), {})
        kinds.setdefault(run["kind"], []).append(run)
    return [{"rate": rate, "pattern": pattern,
             "kinds": {kind: {"runs": len(found), "medians": medians(found), "counters": counters(found)}
                       for kind, found in kinds.items()}}
            for (rate, pattern), kinds in groups.items()]


def verdicts(group, targets, kind="ours"):
    """[(figure, target in words, True or False)] of the targets that can be told in a group."""
    of = {name: found["medians"] for name, found in group["kinds"].items()}
    found = []
    for target in targets:
        value = of.get(kind, {}).get(target.figure)
        if value is not None and target.concerns(target.figure, group["rate"], group["pattern"]):
            reached = target.verdict(value, of.get(NATIVE, {}), of.get(PREEMPT, {}))
            if reached is not None:
                found.append((target.figure, target.words, reached))
    return found


def _ratio(value, beside):
    return f"{value / beside:.2f}" if value is not None and beside else ""


def _row(name, of):
    digits = FIGURES[name][0]
    cells = [f"{found[name]:.{digits}f}" if name in found else "" for found in of.values()]
    ours = of.get("ours", {}).get(name)
    cells += [_ratio(ours, of.get(kind, {}).get(name)) for kind in (NATIVE, PREEMPT)] if "ours" in of else []
    return cells


def render(group, targets):
    """The table of one rate and pattern, as lines."""
    of = {kind: found["medians"] for kind, found in group["kinds"].items()}
    heads = list(of) + (["ours/native", "ours/preempt"] if "ours" in of else [])
    counts = sorted({found["runs"] for found in group["kinds"].values()})
    rate = "no limit" if group["rate"] == "none" else group["rate"]
    lines = [f"{rate}, {group['pattern']} memory; median of {'-'.join(map(str, counts))}",
             "".join([" " * LABEL, *(f"{head:>{COLUMN}}" for head in heads)])]
    judged = {figure: (words, reached) for figure, words, reached in verdicts(group, targets)}
    for name in FIGURES:
        if not any(name in found for found in of.values()):
            continue
        line = "".join([f"{name:{LABEL}}", *(f"{cell:>{COLUMN}}" for cell in _row(name, of))])
        if name in judged:
            words, reached = judged[name]
            line += f"   {'PASS' if reached else 'MISS'} ({words})"
        lines.append(line.rstrip())
    return lines + _counters(group)


def _counters(group):
    """What the helpers counted themselves, where they did."""
    lines = []
    for side, names in COUNTERS.items():
        found = group["kinds"].get("ours", {}).get("counters", {}).get(side, {})
        words = [f"{name} {found[name]:.10g}" for name in names if name in found]
        if words:
            lines.append(f"our {side} helper: {', '.join(words)}")
    return lines
