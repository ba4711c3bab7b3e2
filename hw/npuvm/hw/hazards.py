"""Finds instructions that touch on-chip data which an earlier, unfinished instruction still uses: a signal is missing.

An instruction that starts is compared with every instruction of its core that comes earlier in the program and has been
dispatched but not completed. Between units, read after write, write after read and write after write are hazards; within a
unit, which reads and writes in order, only read after write is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.errors import SimulationError
from npuvm.hw.stream import MAX_OPERANDS, MAX_SIZES
from npuvm.isa.regions import share_a_byte

if TYPE_CHECKING:
    from npuvm.hw.stream import Site, Stream
    from npuvm.hw.units import Batch, Unit

__all__ = ["Access", "Hazard", "HazardChecker", "HazardError", "Region"]


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


class Access:
    """A started instruction; `tile` numbers the regions it touches, `done` is the cycle of its completion once known."""

    __slots__ = ("done", "sequence", "site", "tile")

    def __init__(self, sequence: int, site: Site, tile: int) -> None:
        self.sequence = sequence
        self.site = site
        self.tile = tile
        self.done: int | None = None


class HazardChecker:
    """Follows all cores of a launch. With `collect` hazards are gathered in `found`, else the first one raises HazardError.

    Rings bring the same tiles back again and again, so instructions that touch the same regions in the same way share a number,
    and what two such numbers mean for each other is worked out once.
    """

    def __init__(self, collect: bool = False) -> None:
        self.collect = collect
        self.found: list[Hazard] = []
        self._started: dict[int, dict[Unit, deque[Access]]] = {}
        self._streams: dict[int, tuple[Stream, list[int]]] = {}
        self._tables: dict[int, tuple[Sequence[Site], NDArray[np.int64], dict[tuple[int, ...], int]]] = {}
        self._regions: list[tuple[Region, ...]] = []
        self._conflicts: dict[tuple[int, int, bool], Conflict | None] = {}

    def register(self, core: int, units: Iterable[Unit]) -> None:
        """Make a core's units known."""
        self._started[core] = {unit: deque() for unit in units}

    def start(self, unit: Unit, batch: Batch, row: int, cycle: int) -> Access | None:
        """Check an instruction that starts now; the caller sets `done` of what is returned. None when it touches nothing."""
        tiles = self._tiles(batch.stream)
        tile = tiles[row]
        if not self._regions[tile]:
            return None
        sequence = batch.base + row
        access = Access(sequence, batch.stream.sites[batch.stream.rows.site[row]], tile)
        by_unit = self._started[unit.core]
        for other, started in by_unit.items():
            while started and started[0].done is not None and started[0].done <= cycle:
                started.popleft()
            same = other is unit
            for earlier in started:
                if earlier.sequence >= sequence:
                    break
                self._check(unit.core, cycle, earlier.tile, earlier.site, access, same)
            for _, run, _, _, queued, its_batch, _, _ in other.queue:
                if its_batch.base + queued >= sequence:
                    break
                its_tiles = tiles if its_batch is batch else self._tiles(its_batch.stream)
                self._check(unit.core, cycle, its_tiles[queued], run.site, access, same)
        by_unit[unit].append(access)
        return access

    def _check(self, core: int, cycle: int, tile: int, site: Site, later: Access, same_unit: bool) -> None:
        key = (tile, later.tile, same_unit)
        if key not in self._conflicts:
            self._conflicts[key] = conflict(self._regions[tile], self._regions[later.tile], same_unit)
        found = self._conflicts[key]
        if found is None:
            return
        hazard = Hazard(found.kind, core, cycle, found.space, found.address, site.label, later.site.label)
        self.found.append(hazard)
        if not self.collect:
            raise HazardError(str(hazard))

    def _tiles(self, stream: Stream) -> list[int]:
        """The number of the regions of each instruction of a stream."""
        known = self._streams.get(id(stream))
        if known is None:
            known = self._streams[id(stream)] = (stream, self._number(stream))
        return known[1]

    def _number(self, stream: Stream) -> list[int]:
        table = self._tables.get(id(stream.sites))
        if table is None:
            on_chip = np.zeros((len(stream.sites), MAX_OPERANDS), dtype=np.int64)
            for index, site in enumerate(stream.sites):
                for k, operand in enumerate(site.operands):
                    on_chip[index, k] = operand.space != "gm"
            table = self._tables[id(stream.sites)] = (stream.sites, on_chip, {})
        sites, on_chip, numbers = table
        addresses = stream.addr * on_chip[stream.site]
        # What a row's regions depend on: its site, its addresses on chip, its sizes.
        keys = np.concatenate([stream.site[:, None], addresses, stream.size], axis=1).tolist()
        result = []
        for key in map(tuple, keys):
            number = numbers.get(key)
            if number is None:
                site = sites[key[0]]
                number = numbers[key] = len(self._regions)
                self._regions.append(tuple(_regions(site, key[1 : len(site.operands) + 1], key[-MAX_SIZES:])))
            result.append(number)
        return result


class Conflict(NamedTuple):
    """What is wrong between two instructions, and the first byte of it."""

    kind: Literal["read after write", "write after read", "write after write"]
    space: str
    address: int


def conflict(earlier: Sequence[Region], later: Sequence[Region], same_unit: bool) -> Conflict | None:
    """The first hazard when `later` starts while `earlier` is not complete, None when they may overlap in time."""
    for mine in later:
        for theirs in earlier:
            raw = theirs.writes and mine.reads
            # A unit reads accumulators and atomic targets when it completes, in order.
            harmless = (same_unit and (not raw or mine.writes)) or not (mine.writes or theirs.writes)
            if harmless or mine.space != theirs.space or not share_a_byte(mine, theirs):
                continue
            address = max(mine.low, theirs.low)
            if raw:
                return Conflict("read after write", mine.space, address)
            return Conflict("write after write" if theirs.writes else "write after read", mine.space, address)
    return None


def _regions(site: Site, addresses: Sequence[int], sizes: Sequence[int]) -> Iterator[Region]:
    """On-chip regions of an instruction, without empty ones."""
    for low, operand in zip(addresses, site.operands, strict=True):
        rows, cols = (1 if k < 0 else sizes[k] for k in operand.shape)
        if operand.space == "gm" or not rows or not cols:
            continue
        row_bytes = cols * operand.itemsize
        if not operand.pitch or operand.pitch == row_bytes:
            row_bytes *= rows if operand.pitch else 1
            rows = 1
        high = low + (rows - 1) * operand.pitch + row_bytes
        yield Region(operand.space, low, high, rows, row_bytes, operand.pitch, operand.reads, operand.writes)
