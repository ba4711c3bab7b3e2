"""Follows the launches of a run and keeps what a report page needs of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from npuvm.hw.energy import Technology
from npuvm.isa import Image
from npuvm.runtime.device.device import LaunchRecord
from npuvm.runtime.html.inputs import LaunchTimeline, ReportInputs
from npuvm.runtime.html.slices import timeline_of
from npuvm.runtime.scenarios.report import ScenarioReport

__all__ = ["ReportRecorder"]


class ReportRecorder:
    """Observes a device: every launch without its trace, and the timelines of the programs that took longest.

    A timeline is that of the first launch of its program. At most `timelines` are kept, of at most `slices` instructions each.
    """

    def __init__(self, timelines: int = 4, slices: int = 3000) -> None:
        self.launches: list[LaunchRecord] = []
        self._most = timelines
        self._slices = slices
        self._seen: dict[int, Image] = {}  # the images are kept, so that an id stays that of one
        self._timelines: list[LaunchTimeline] = []

    def wants_trace(self, image: Image) -> bool:
        """A launch of a program that was not launched before is traced."""
        return self._most > 0 and id(image) not in self._seen

    def launched(self, record: LaunchRecord) -> None:
        """Keep the launch, and its timeline while it is among the longest."""
        self.launches.append(replace(record, result=replace(record.result, trace=())))
        if id(record.image) in self._seen:
            return
        self._seen[id(record.image)] = record.image
        full = len(self._timelines) >= self._most
        if full and (not self._timelines or record.result.cycles <= self._timelines[-1].cycles):
            return
        self._timelines.append(timeline_of(record, len(self.launches) - 1, self._slices))
        self._timelines.sort(key=lambda timeline: (-timeline.cycles, timeline.launch))
        del self._timelines[self._most :]

    def inputs(
        self,
        report: ScenarioReport,
        measured: Mapping[str, float] | None = None,
        technology: Technology | None = None,
        generated: str | None = None,
    ) -> ReportInputs:
        """What was observed, with the report of the same run; see `ReportInputs`."""
        launches, timelines = tuple(self.launches), tuple(self._timelines)
        return ReportInputs(report, launches, timelines, dict(measured or {}), technology, generated)
