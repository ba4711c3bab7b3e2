"""What `npuvm explore --dry-run` says: how large a space is, and what a search of it takes."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from npuvm.cli.output import DelayedBar
from npuvm.explore.space import Point, Space

if TYPE_CHECKING:
    from npuvm.explore.study.census import Census

__all__ = ["Plan", "plan_of"]

_SHOWN_VALUES = 8


@dataclass(frozen=True)
class Plan:
    """A search that was not begun. `point` took `seconds` on this host (measured) and came out as `state`."""

    space: Space
    census: Census
    evaluations: int
    processes: int
    point: Point
    seconds: float
    state: str
    error: str | None
    runs: int

    @property
    def estimated_seconds(self) -> float:
        """Of the whole search, if no two points share a run and none is pruned."""
        return self.seconds * self.evaluations / self.processes

    def table(self) -> Table:
        """The parameters with their values."""
        title = Text(f"{self.space.name}: {self.space.title}", "table.title")
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        table.add_column("parameter")
        table.add_column("values", justify="right")
        table.add_column("")
        for parameter in self.space.parameters:
            values = [str(value).lower() if isinstance(value, bool) else str(value) for value in parameter.values]
            shown = values if len(values) <= _SHOWN_VALUES else [*values[: _SHOWN_VALUES - 2], "..", values[-1]]
            table.add_row(escape(parameter.name), str(len(values)), escape(", ".join(shown)))
        return table

    def lines(self) -> list[str]:
        """What stands under the table."""
        census = self.census
        likely, low, high = census.estimate
        if census.exact:
            size = f"{census.size} combinations, {likely} of them points"
        else:
            size = f"{census.size} combinations, about {likely} of them points"
            size += f" (95 %: {low} to {high}, by a sample of {census.looked})"
        excluded = [f"  {reason} excludes {count} of {census.looked}" for reason, count in census.excluded.items()]
        runs = f"{self.runs} run{'s' if self.runs != 1 else ''}"
        cost = f"one point took {_time(self.seconds)} here (measured): {runs}, {self.state.replace('_', ' ')}"
        if self.error is not None:
            cost += f": {self.error}"
        wanted = min(self.evaluations, high)
        processes = f"{self.processes} process{'es' if self.processes > 1 else ''}"
        total = self.estimated_seconds * wanted / self.evaluations
        search = f"{wanted} points on {processes} take about {_time(total)}; less where points share runs or are pruned"
        return [size, *excluded, cost, search]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        likely, low, high = self.census.estimate
        return {
            "space": self.space.name,
            "parameters": {parameter.name: list(parameter.values) for parameter in self.space.parameters},
            **{key: value for key, value in asdict(self.census).items() if key != "first"},
            "points": {"likely": likely, "low": low, "high": high},
            "point": dict(self.point),
            "state": self.state,
            "error": self.error,
            "host_seconds_measured": self.seconds,
            "evaluations": self.evaluations,
            "processes": self.processes,
            "host_seconds_estimated": self.estimated_seconds,
        }


def plan_of(space: Space, evaluations: int | None, processes: int | None, quiet: bool) -> Plan:
    """Count the points of a space, and time one of them. StudyError where none was found."""
    from npuvm.explore.evaluation import Evaluator
    from npuvm.explore.study.census import take_census

    with DelayedBar(f"combinations of {space.name}", enabled=not quiet) as bar:
        census = take_census(space, lambda done, total: bar.update(done, total, f"combinations of {space.name}"))
    point = census.some_point(space)
    # What is compiled for this host the first time is not the point's.
    Evaluator(space, sharing=False, bounds=False).evaluate(point)
    evaluator = Evaluator(space, sharing=False, bounds=False)
    began = time.perf_counter()
    found = evaluator.evaluate(point)
    seconds = time.perf_counter() - began
    runs = sum(len(workload.runs) for workload in space.workloads)
    workers = processes or os.cpu_count() or 1
    wanted = evaluations or space.search.evaluations
    return Plan(space, census, wanted, workers, point, seconds, found.state, found.error, runs)


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
