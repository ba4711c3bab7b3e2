"""What `npuvm simulate` gives beside its table: hazards, timelines, energy, uncertainty, an HTML page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from npuvm.cli.output import write_atomic
from npuvm.hw.energy import Technology
from npuvm.runtime.analysis.energy import energy_json, energy_of_launches, render_energy
from npuvm.runtime.analysis.recording import LaunchRecorder
from npuvm.runtime.analysis.uncertainty import propagate_launches, render_uncertainty, uncertainty_json
from npuvm.runtime.device.device import LaunchObserver
from npuvm.runtime.device.hazard_log import HazardLog
from npuvm.runtime.device.timelines import TimelineRecorder, TimelineSink
from npuvm.runtime.scenarios.report import Progress, ScenarioReport

__all__ = ["Extras", "Wanted"]


@dataclass(frozen=True)
class Wanted:
    """What is asked for: folders of timelines and pages, a technology for energy, samples for uncertainty."""

    trace: Path | None = None
    report: Path | None = None
    technology: Technology | None = None
    samples: int | None = None

    def of(self, scenario: str) -> Extras:
        """For one scenario."""
        return Extras(self, scenario)


class Extras:
    """Observes the launches of one scenario's run, and tells afterwards what was found.

    `observers` go to the run. `tables`, `json` and `notes` (why something that was asked for is not there) follow in `finish`.
    """

    def __init__(self, wanted: Wanted, scenario: str) -> None:
        self.hazards = HazardLog()
        self.observers: list[LaunchObserver] = [self.hazards]
        self.tables: list[RenderableType] = []
        self.json: dict[str, Any] = {}
        self.notes: list[str] = []
        self._wanted = wanted
        self._scenario = scenario
        self._records: LaunchRecorder | None = None
        self._page: Callable[[ScenarioReport, float], str] | None = None
        if wanted.trace is not None:
            self.observers.append(TimelineRecorder(_timeline_writer(wanted.trace / scenario)))
        if wanted.technology is not None or wanted.samples is not None:
            self._records = LaunchRecorder()
            self.observers.append(self._records)
        if wanted.report is not None:
            self._page = self._report_page()

    def finish(self, report: ScenarioReport, host_seconds: float, progress: Progress) -> None:
        """Make what is asked for from the run, which took `host_seconds` (measured)."""
        if self._records is not None and self._records.records:
            self._estimate(self._records, progress)
        if self._wanted.trace is not None and report.calls is not None and report.totals.launches:
            _timeline_writer(self._wanted.trace / self._scenario)("run", report.calls.timeline.chrome_trace())
        if not report.totals.launches and self._wanted != Wanted():
            self.notes.append("nothing was launched, so there is no timeline, page, energy or uncertainty of it")
        elif self._page is not None and self._wanted.report is not None:
            write_atomic(self._wanted.report / f"{self._scenario}.html", self._page(report, host_seconds))

    def _estimate(self, recorder: LaunchRecorder, progress: Progress) -> None:
        records, technology, samples = recorder.records, self._wanted.technology, self._wanted.samples
        if technology is not None:
            energy = energy_of_launches(records, technology)
            self.tables.append(render_energy(energy))
            self.json["energy"] = energy_json(energy)
        if samples is not None:
            uncertainty = propagate_launches(records, samples=samples, progress=progress)
            self.tables.append(render_uncertainty(uncertainty))
            self.json["uncertainty"] = uncertainty_json(uncertainty)

    def _report_page(self) -> Callable[[ScenarioReport, float], str]:
        # Plotly comes with an extra, and takes a while to import.
        from npuvm.runtime.html import ReportRecorder, plotly_script, render_report

        plotly_script()  # that it is missing is told before the run
        recorder = ReportRecorder()
        self.observers.append(recorder)

        def page(report: ScenarioReport, host_seconds: float) -> str:
            measured = {"Run": host_seconds}
            return render_report(recorder.inputs(report, measured, self._wanted.technology))

        return page


def _timeline_writer(folder: Path) -> TimelineSink:
    def write(name: str, timeline: dict[str, Any]) -> None:
        plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
        write_atomic(folder / f"{plain}.json", json.dumps(timeline, separators=(",", ":")))

    return write
