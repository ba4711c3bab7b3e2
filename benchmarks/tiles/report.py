"""What a comparison of choices of tiles found: one form for all families of operators, its tables, and the time of a choice.

A family is a module of this package with `measure(chip, count, sample) -> Report`: `count` of its shapes, each with every
way to choose and the best of `sample` further ways that a search simulates. `benchmarks/tile_choice.py` lists the families.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

__all__ = ["Report", "Row", "Selection", "geomean", "print_report", "selection_time"]

_Shape = TypeVar("_Shape", bound=Hashable)

_KNOWN = 100
"""Shapes, the last of all, whose choice is timed again."""


@dataclass(frozen=True, slots=True)
class Row:
    """One shape: cycles and tile of each way to choose, and the best that the search found.

    `groups` are the groups of shapes it belongs to, beside that of all. `best_by` is the best tile, `tried` of `space` legal
    ones were simulated. `elsewhere` is the compiler's share of that tile where tensors lie at other places than those for which
    it was found, the geometric mean of some; None where nobody asked.
    """

    shape: str
    groups: tuple[str, ...]
    best: int
    best_by: str
    tried: int
    space: int
    cycles: Mapping[str, int]
    tiles: Mapping[str, str]
    elsewhere: float | None = None

    def share(self, way: str) -> float:
        """The best cycles over those of a way."""
        return self.best / self.cycles[way]


@dataclass(frozen=True, slots=True)
class Selection:
    """CPU microseconds of a choice, medians: for a new shape, a known one, and for a lookup in a dict of Python."""

    cold: float
    known: float
    dict_hit: float


@dataclass(frozen=True, slots=True)
class Report:
    """All shapes of one family on one chip. The first way of a row is the compiler's own; `searched` says how the best was."""

    family: str
    chip: str
    searched: str
    rows: Sequence[Row]
    selection: Selection | None

    def as_json(self) -> dict[str, Any]:
        """Plain data of all that is in it."""
        return asdict(self)


def geomean(values: Sequence[float]) -> float:
    """The geometric mean."""
    return math.exp(statistics.fmean(map(math.log, values)))


def selection_time(choose: Callable[[_Shape], object], shapes: Sequence[_Shape], warm: Sequence[_Shape]) -> Selection:
    """Time `choose`, which remembers what it chose, over shapes it has not seen; `warm` are chosen first.

    Those should need what is made once for many shapes, and be none of `shapes`.
    """
    for shape in warm:
        choose(shape)
    cold = [_clocked(choose, shape, 1) for shape in shapes]
    again = shapes[-_KNOWN:]
    known = dict.fromkeys(again, 0)
    return Selection(
        statistics.median(cold),
        statistics.median(_clocked(choose, shape, 100) for shape in again),
        statistics.median(_clocked(known.__getitem__, shape, 100) for shape in again),
    )


def _clocked(call: Callable[[_Shape], object], shape: _Shape, times: int) -> float:
    start = time.process_time_ns()
    for _ in range(times):
        call(shape)
    return (time.process_time_ns() - start) / 1000 / times


def print_report(report: Report, worst: int) -> None:
    """Shares of the best by way and group, and the `worst` shapes of the compiler's own choice."""
    print(f"\n{report.chip}, {report.family}: {len(report.rows)} shapes; best: {report.searched}")
    for line in _table(report):
        print(line)
    own = next(iter(report.rows[0].cycles))
    for row in sorted(report.rows, key=lambda row: row.share(own))[:worst]:
        print(f"  {row.share(own):.3f} {row.shape}: {row.tiles[own]} takes {row.cycles[own]}, {row.best_by} {row.best}")
    moved = sorted(row.elsewhere for row in report.rows if row.elsewhere is not None)
    if moved:
        print(
            f"with tensors at other places: {geomean(moved):.3f} of the tiles that were best at theirs "
            f"(5 %: {moved[int(0.05 * len(moved))]:.3f}, worst {moved[0]:.3f})"
        )
    if report.selection is not None:
        cold, known, hit = report.selection.cold, report.selection.known, report.selection.dict_hit
        print(f"a choice: {cold:.1f} us for a new shape, {known:.2f} us for a known one; a dict of Python {hit:.2f} us")


def _table(report: Report) -> Iterator[str]:
    ways = list(report.rows[0].cycles)
    groups = dict.fromkeys(group for row in report.rows for group in row.groups)
    yield f"{'':18s} {'shapes':>7s} {'geomean':>8s} {'5 %':>6s} {'worst':>6s} {'slower':>7s}  worst at"
    for group in (None, *groups):
        rows = [row for row in report.rows if group is None or group in row.groups]
        yield group or "all"
        for way in ways:
            ordered = sorted(rows, key=lambda row: row.share(way))
            shares = [row.share(way) for row in ordered]
            slower = geomean([row.cycles[way] / row.cycles[ways[0]] for row in rows])
            yield (
                f"  {way:16s} {len(rows):7d} {geomean(shares):8.3f} {shares[int(0.05 * len(rows))]:6.3f} {shares[0]:6.3f}"
                f" {slower:6.2f}x  {ordered[0].shape}"
            )
