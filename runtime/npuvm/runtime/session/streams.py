"""Independent runs side by side on one device: each has a host of its own, and the device does one launch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npuvm.hw.config import NpuConfig
from npuvm.runtime.session.report import RunReport

__all__ = ["StreamTimes", "side_by_side"]


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """Simulated microseconds since all runs began: when each ended, and how long the device was busy."""

    ends_us: tuple[float, ...]
    busy_us: float

    @property
    def total_us(self) -> float:
        """When the last run ended."""
        return max(self.ends_us, default=0.0)


@dataclass(slots=True)
class _Stream:
    """A run on its way: what is left of it, when its host is free, and when its last launch ended."""

    groups: list[list[float]]
    host_us: float = 0.0
    end_us: float = 0.0

    def settle(self) -> bool:
        """Wait where the host needs results; whether there is a launch left."""
        while self.groups and not self.groups[0]:
            self.groups.pop(0)
            self.host_us = max(self.host_us, self.end_us)
        return bool(self.groups)


def side_by_side(chip: NpuConfig, reports: Sequence[RunReport]) -> StreamTimes:
    """Times of runs that begin together, each on a stream of its own.

    A stream's host issues launches one after another, `launch_us` of the chip each, and waits where it reads results. Launches
    wait for those of their stream, and for the device, which takes them as they arrive. Each takes as long as in its report:
    what runs do to each other's data in L2 is not in it.
    """
    issue_us, latency_us = float(chip.host.launch_us), float(chip.host.start_latency_us)
    streams = [_Stream([list(group) for group in each.launch_groups_us]) for each in reports]
    free_us = busy_us = 0.0
    while waiting := [each for each in streams if each.settle()]:
        stream = min(waiting, key=lambda each: each.host_us)
        duration = stream.groups[0].pop(0)
        stream.host_us += issue_us
        free_us = stream.end_us = max(stream.host_us + latency_us, free_us) + duration
        busy_us += duration
    return StreamTimes(tuple(max(each.end_us, each.host_us) for each in streams), busy_us)
