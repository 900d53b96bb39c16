# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's clock, set against ours. The guest measures the rate of its processor's counter when it
starts, which a busy machine can spoil; watched for some seconds later, the rate is known well."""
import time

REPORTS = 6                             # for one look
ROUNDS = 4                              # of fitting; the second is good to some µs


class GuestClock:
    """Look twice, some seconds apart, while the guest is at its ease: the time until a line has arrived
    is taken for nothing. khz is the rate then, and time_of() tells when a report was made, by our time
    of day, if the guest has not stood still since."""

    def __init__(self, guest, host):
        self.guest, self.host = guest, host
        self.looks = []
        self.khz = self.offset = None

    def look(self):
        seen, points = len(self.guest.reports(self.host)), []
        deadline = time.monotonic() + 20
        while len(points) < REPORTS:
            reports, now = self.guest.reports(self.host), time.time()
            if len(reports) > seen:
                seen = len(reports)
                points.append((self._ticks(reports[-1]), now))
                self.khz = self.khz or reports[-1]["khz"]
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.guest.name} has stopped to report")
            time.sleep(0.001)
        self.looks.append(points)
        if len(self.looks) > 1:
            self._fit()

    @staticmethod
    def _ticks(report):
        return report["ms"] * report["khz"]

    def _begin(self, point):
        """When the guest started, by one report."""
        ticks, seen = point
        return seen - ticks / self.khz / 1000

    def _fit(self):
        for _ in range(ROUNDS):
            first, last = (min(look, key=self._begin) for look in (self.looks[0], self.looks[-1]))
            self.khz = (last[0] - first[0]) / (last[1] - first[1]) / 1000
        self.offset = min(map(self._begin, (first, last)))

    def time_of(self, report):
        return self.offset + self._ticks(report) / self.khz / 1000
