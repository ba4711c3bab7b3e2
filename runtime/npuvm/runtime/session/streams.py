"""Independent runs side by side on one device: each has a host of its own, and the device does one launch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npuvm.hw.config import NpuConfig
from npuvm.runtime.device.operations import Operation
from npuvm.runtime.device.run_timeline import run_timeline
from npuvm.runtime.session.errors import SessionError
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


def side_by_side(chip: NpuConfig, reports: Sequence[RunReport], *, transfers: bool = False) -> StreamTimes:
    """Times of runs that begin together, each on a stream of its own.

    A stream's host issues launches one after another, `launch_us` of the chip each, and waits where it reads results. Launches
    wait for those of their stream, and for the device, which takes them as they become ready. Each takes as long as in its
    report: what runs do to each other's data in L2 is not in it. With `transfers` the runs share the link to the host too, and
    a run ends when its outputs are there; constants are on the device before. SessionError where a report has no transfers.
    """
    if transfers and any(each.calls is None for each in reports):
        raise SessionError("a run without simulated time has no transfers; allowed: another engine than 'functional'")
    timeline = run_timeline(chip, *(_called(each, transfers) for each in reports))
    return StreamTimes(timeline.ends_us, timeline.busy_us("launch"))


def _called(report: RunReport, transfers: bool) -> list[Operation]:
    """What the host of a run asks for."""
    if transfers:
        assert report.calls is not None
        return [each for each in report.calls.operations if not each.resident]
    found = []
    for group in report.launch_groups_us:
        found += [Operation("launch", "", us) for us in group]
        found.append(Operation("wait", ""))
    return found
