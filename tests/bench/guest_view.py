# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the guest itself knows of its post-copy: how long its touches were held up, and how many of
them it got done. Taken from the reports it writes on its serial line, see tests/README.md."""
REPORT_MS = 50                          # between two reports of a guest that is measured
STALL_US = 100                          # no touch of memory that is there takes as long
PERCENTILES = (50, 90, 99)
EARLY = 0.25                            # of the post-copy: most of the hot memory is missing


class Disturbed(AssertionError):
    """The guest began to verify its memory while it was measured: it must rest for longer."""


def bounds_us(bucket, khz):
    """Where a bucket of the guest's histogram begins and ends: four for each power of two."""
    power, quarter = divmod(bucket, 4)
    ticks = (bucket, bucket + 1) if power < 2 else \
        tuple((4 + quarter + more) << (power - 2) for more in (0, 1))
    return tuple(t * 1000 / khz for t in ticks)


def stalls_between(before, after, khz):
    """The touches between two reports that took STALL_US or longer: their number and percentiles
    in µs, within a bucket as if they were spread evenly."""
    counts = sorted((bucket, count - before["hist"].get(bucket, 0)) for bucket, count in after["hist"].items())
    counts = [(bucket, count) for bucket, count in counts
              if count > 0 and bounds_us(bucket, khz)[0] >= STALL_US]
    total = sum(count for _, count in counts)
    # the guest knows its longest to the microsecond, unless it was before
    longest = round(after["max_us"] * after["khz"] / khz) if after["max_us"] > before["max_us"] else \
        _rank_us(counts, total, khz)
    percentiles = {f"p{percent}_us": min(_rank_us(counts, total * percent / 100, khz), longest)
                   for percent in PERCENTILES}
    return {"count": total, **percentiles, "max_us": longest}


def _rank_us(counts, rank, khz):
    seen = 0
    for bucket, count in counts:
        if seen + count >= rank:
            low, high = bounds_us(bucket, khz)
            return round(low + (high - low) * (rank - seen) / count)
        seen += count
    return 0


class Progress:
    """How many touches had been made at what time, from reports and their times."""

    def __init__(self, points):
        self.points = points            # [(time, touches)]

    def at(self, when):
        """As if the touches between two reports were spread evenly."""
        for (t0, n0), (t1, n1) in zip(self.points, self.points[1:]):
            if t0 <= when <= t1:
                return n0 + (n1 - n0) * (when - t0) / (t1 - t0)
        raise ValueError("no report before or after that time")

    def rate(self, begin, end):
        """Touches a second; None if the time is too short for a report."""
        return round((self.at(end) - self.at(begin)) / (end - begin)) if end > begin else None


def view(before, reports, clock, resumed, completed):
    """The guest's view of the time from resumed to completed, by our time of day. before: its last report
    on the source; reports: those on the destination.

    Touches are counted from the first report after it was resumed: that has the last touches before
    it was stopped, of which there may be more than in all of the post-copy."""
    points = [(clock.time_of(r), r["touches"]) for r in reports]
    after = next(r for r, (when, _) in zip(reports, points) if when > completed)
    if after["sweeps"] or after["swept"]:
        raise Disturbed("the guest began to verify its memory before the end of the migration")
    begin = next(when for when, _ in points if when >= resumed)
    progress = Progress(points)
    return {"stalls": stalls_between(before, after, clock.khz),
            "touches_per_s": progress.rate(begin, completed),
            "early_touches_per_s": progress.rate(begin, resumed + (completed - resumed) * EARLY),
            "progress": [(round((when - resumed) * 1000), touches - reports[0]["touches"], r["stalls"])
                         for r, (when, touches) in zip(reports, points) if when <= completed + 0.2]}
