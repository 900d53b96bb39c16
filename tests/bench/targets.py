# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the project wants to reach, beside native QEMU on the same machine in the same run."""
import dataclasses
from typing import Callable

MIB = 1 << 20
STAGE = 256 * MIB                       # migration_stage, if the settings of the run do not say otherwise
BESIDE_STAGE_MIB = 32
ANY = None
CASE = (512, 256)                       # MiB of the guest they were set for, and of its hot part


@dataclasses.dataclass
class Target:
    """limit: of {figure: median} of native and of native-preempt; None if it cannot be told."""
    figure: str
    rate: str
    pattern: str
    words: str
    limit: Callable
    at_least: bool = False

    def concerns(self, figure, rate, pattern):
        return figure == self.figure and self.rate in (ANY, rate) and self.pattern in (ANY, pattern)

    def verdict(self, value, native, preempt):
        """True, False, or None if a median it needs is missing."""
        try:
            limit = self.limit(native, preempt)
            return value >= limit if self.at_least else value <= limit
        except (KeyError, TypeError):
            return None


def _quicker(figure, factor=1.0, more=0.0):
    """Beside the better of the two."""
    return lambda native, preempt: min(native[figure], preempt[figure]) * factor + more


TARGETS = [
    Target("stall p50 ms", "1gbit", "random", "<= 0.5 ms", lambda native, preempt: 0.5),
    Target("stall p99 ms", "1gbit", "random", "<= 3 ms", lambda native, preempt: 3),
    Target("post-copy s", "1gbit", "random", "<= 1.05 x native", _quicker("post-copy s", 1.05)),
    Target("touches/s", "1gbit", "random", ">= 2 x preempt", lambda native, preempt: 2 * preempt["touches/s"], True),
    Target("post-copy s", "1gbit", "half", "<= 0.6 x native", _quicker("post-copy s", 0.6)),
    Target("post-copy s", "none", "random", "<= 1.3 x native", _quicker("post-copy s", 1.3)),
    Target("stall p50 ms", "none", "random", "<= native + 0.06 ms", _quicker("stall p50 ms", more=0.06)),
    Target("dest. helper MiB", ANY, ANY, f"<= {BESIDE_STAGE_MIB} MiB", lambda native, preempt: BESIDE_STAGE_MIB),
]


def all_of(stage):
    """Every target, for helpers that may hold that many bytes of the guest's memory."""
    limit = stage // MIB + BESIDE_STAGE_MIB
    return [*TARGETS, Target("source helper MiB", ANY, ANY, f"<= {limit} MiB", lambda native, preempt: limit)]
