"""Finds instructions that touch on-chip data which an earlier, unfinished instruction still uses: a signal is missing.

An instruction that starts is compared with every instruction of its core that comes earlier in the program and has been
dispatched but not completed. Between units, read after write, write after read and write after write are hazards; within a
unit, which reads and writes in order, only read after write is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from npuvm.hw.errors import SimulationError

if TYPE_CHECKING:
    from npuvm.hw.stream import Site
    from npuvm.hw.units import Batch, Unit

__all__ = ["Access", "Hazard", "HazardChecker", "HazardError", "Region", "overlap"]


class HazardError(SimulationError):
    """A program touches data that an earlier instruction still uses."""


@dataclass(frozen=True)
class Hazard:
    """One hazard: `later` started in `cycle` while `earlier` was not complete, and both touch `space` around byte `address`."""

    kind: Literal["read after write", "write after read", "write after write"]
    core: int
    cycle: int
    space: str
    address: int
    earlier: str
    later: str

    def __str__(self) -> str:
        return (
            f"core {self.core}, cycle {self.cycle}: {self.kind} in {self.space} near byte {self.address}: "
            f"{self.later} starts before {self.earlier} is complete; a semaphore (or the order bit) is missing"
        )


class Region(NamedTuple):
    """Bytes of an on-chip space that an operand covers: `rows` segments of `row_bytes`, `pitch` apart, within [low, high)."""

    space: str
    low: int
    high: int
    rows: int
    row_bytes: int
    pitch: int
    reads: bool
    writes: bool


def overlap(a: Region, b: Region) -> bool:
    """Whether two regions of one space share a byte."""
    if a.low >= b.high or b.low >= a.high:
        return False
    if a.rows > b.rows:
        a, b = b, a
    for row in range(a.rows):
        start = a.low + row * a.pitch
        first = 0 if b.rows == 1 else max(0, -(-(start - b.low - b.row_bytes + 1) // b.pitch))
        if (
            first < b.rows
            and b.low + first * b.pitch < start + a.row_bytes
            and start < b.low + first * b.pitch + b.row_bytes
        ):
            return True
    return False


class Access:
    """A started instruction; `done` is the cycle of its completion once that is known."""

    __slots__ = ("done", "regions", "sequence", "site")

    def __init__(self, sequence: int, site: Site, regions: tuple[Region, ...]) -> None:
        self.sequence = sequence
        self.site = site
        self.regions = regions
        self.done: int | None = None


class HazardChecker:
    """Follows all cores of a launch. With `collect` hazards are gathered in `found`, else the first one raises HazardError."""

    def __init__(self, collect: bool = False) -> None:
        self.collect = collect
        self.found: list[Hazard] = []
        self._units: dict[int, tuple[Unit, ...]] = {}
        self._started: dict[Unit, deque[Access]] = {}
        self._queued: dict[tuple[int, int], tuple[Region, ...]] = {}

    def register(self, core: int, units: Iterable[Unit]) -> None:
        """Make a core's units known."""
        self._units[core] = tuple(units)
        for unit in self._units[core]:
            self._started[unit] = deque()

    def start(self, unit: Unit, batch: Batch, row: int, cycle: int) -> Access:
        """Check an instruction that starts now; the caller sets `done` of what is returned."""
        sequence = batch.base + row
        site = batch.stream.sites[batch.stream.rows.site[row]]
        regions = self._queued.pop((unit.core, sequence), None)
        if regions is None:
            regions = _regions(batch, row, site)
        if regions:
            for other in self._units[unit.core]:
                started, queue = self._started[other], other.queue
                while started and started[0].done is not None and started[0].done <= cycle:
                    started.popleft()
                if started or (queue and queue[0][5].base + queue[0][4] < sequence):
                    for access_site, access_regions in self._earlier(other, sequence):
                        self._compare(unit.core, cycle, (access_site, access_regions), (site, regions), other is unit)
        access = Access(sequence, site, regions)
        if regions:
            self._started[unit].append(access)
        return access

    def _earlier(self, other: Unit, sequence: int) -> Iterator[tuple[Site, tuple[Region, ...]]]:
        """Instructions of a unit before `sequence` that have not completed: those started, then those queued."""
        for access in self._started[other]:
            if access.sequence >= sequence:
                return
            yield access.site, access.regions
        for _, run, _, _, row, batch in other.queue:
            queued = batch.base + row
            if queued >= sequence:
                return
            key = (other.core, queued)
            regions = self._queued.get(key)
            if regions is None:
                regions = self._queued[key] = _regions(batch, row, run.site)
            yield run.site, regions

    def _compare(
        self,
        core: int,
        cycle: int,
        earlier: tuple[Site, tuple[Region, ...]],
        later: tuple[Site, tuple[Region, ...]],
        same_unit: bool,
    ) -> None:
        for mine in later[1]:
            for theirs in earlier[1]:
                if mine.space != theirs.space or not (mine.writes or theirs.writes):
                    continue
                raw = theirs.writes and mine.reads
                # A unit reads accumulators and atomic targets when it completes, in order.
                harmless = same_unit and (not raw or mine.writes)
                if harmless or not overlap(mine, theirs):
                    continue
                kind: Literal["read after write", "write after read", "write after write"]
                kind = "read after write" if raw else "write after write" if theirs.writes else "write after read"
                address = max(mine.low, theirs.low)
                self._report(Hazard(kind, core, cycle, mine.space, address, earlier[0].label, later[0].label))

    def _report(self, hazard: Hazard) -> None:
        self.found.append(hazard)
        if not self.collect:
            raise HazardError(str(hazard))


def _regions(batch: Batch, row: int, site: Site) -> tuple[Region, ...]:
    """On-chip regions of an instruction, without empty ones."""
    regions = []
    stream = batch.stream
    addresses = stream.addr_rows[row]
    for index, operand in enumerate(site.operands):
        if operand.space == "gm":
            continue
        rows, cols = stream.shape_of(row, operand)
        if not rows or not cols:
            continue
        low, row_bytes = addresses[index], cols * operand.itemsize
        if not operand.pitch or operand.pitch == row_bytes:
            row_bytes *= rows if operand.pitch else 1
            rows = 1
        high = low + (rows - 1) * operand.pitch + row_bytes
        regions.append(Region(operand.space, low, high, rows, row_bytes, operand.pitch, operand.reads, operand.writes))
    return tuple(regions)
