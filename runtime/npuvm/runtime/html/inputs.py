"""What a report page is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from npuvm.hw.energy import Technology
from npuvm.runtime.device.device import LaunchRecord
from npuvm.runtime.scenarios.report import ScenarioReport

__all__ = ["LaunchTimeline", "ReportInputs", "Slice"]


@dataclass(frozen=True, slots=True)
class Slice:
    """An instruction on a row of a timeline, all times in cycles.

    `text` indexes `LaunchTimeline.texts`. The unit was `free` since the instruction before (0: since the launch began), the
    instruction was `dispatched`, the last signal that it took was visible in `ready` (0: it took none), it occupied the unit
    from `start` to `until`, and its result was there in `complete`. `nbytes` moved to or from global memory.
    """

    row: int
    text: int
    free: int
    dispatched: int
    ready: int
    start: int
    until: int
    complete: int
    nbytes: int


@dataclass(frozen=True)
class LaunchTimeline:
    """A launch in time, cut to what a page can show.

    `launch` counts the launches of the run from 0. `rows` are (core, type of the core, unit). `instructions` are those of the
    whole launch; `slices` those that are shown, with `texts` as their disassembly; `cut_at` is the cycle in which the
    shown ones end when later instructions of the shown rows were left out.
    The counters cover all cores and all instructions, in steps of `step` cycles: `busy` is the share of its cycles that each
    unit was occupied, `moved` the bytes per cycle to and from global memory by unit.
    """

    launch: int
    cycles: int
    cores: int
    rows: tuple[tuple[int, str, str], ...]
    texts: tuple[str, ...]
    slices: tuple[Slice, ...]
    instructions: int
    cut_at: int | None
    step: int
    busy: Mapping[str, tuple[float, ...]]
    moved: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class ReportInputs:
    """One run of a scenario: its report, its launches in order (without traces), the timelines of some of them.

    `measured` is host time of this machine in seconds, by what it was spent on. With a `technology` the page has estimates of
    energy and area. `generated` is printed when given; nothing else in a page depends on when it was made.
    """

    report: ScenarioReport
    launches: tuple[LaunchRecord, ...]
    timelines: tuple[LaunchTimeline, ...] = ()
    measured: Mapping[str, float] = field(default_factory=dict)
    technology: Technology | None = None
    generated: str | None = None
