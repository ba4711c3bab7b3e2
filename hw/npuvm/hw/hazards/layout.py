"""The instructions of a launch as arrays for the hazard checker: per unit in order, with numbers for what they touch.

Rings bring the same tiles back again and again. Instructions of one site that touch the same regions on chip share a *tile*
number, and which tiles conflict is worked out once. Accesses of global memory get a number only when something between two
barriers of the whole launch conflicts with their bytes; most have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from npuvm.hw.expansion.rows import number_rows
from npuvm.hw.expansion.stream import MAX_OPERANDS, Barrier, Halt, ScalarLoad, SetSemaphores, Site, Stream
from npuvm.hw.hazards.overlaps import Bools, Ints, RegionTable, conflicting

if TYPE_CHECKING:
    from npuvm.hw.hazards.record import CoreRecord

__all__ = ["SEQUENCER", "CoreLayout", "GmRegions", "Layout", "Tiles", "lay_out"]


Step: TypeAlias = SetSemaphores | Barrier | ScalarLoad | Halt
"""What the sequencer does itself."""

SEQUENCER = -1
"""Stands for the sequencer where units are named by their code."""


@dataclass(frozen=True)
class CoreLayout:
    """One core, rows in order of dispatch: `site` indexes `Layout.sites`, `tile` the tiles, `gm` the regions or -1.

    `events` are the steps of the sequencer itself: rows dispatched before, the region, the cycle in which it was done, the
    number of a scalar load's access or -1. `rows_of` gives the rows of each unit, by its code. `sites` are those that occur.
    """

    record: CoreRecord
    site: Ints
    sites: list[int]
    tile: Ints
    gm: Ints
    events: tuple[tuple[int, Step, int, int], ...]
    rows_of: dict[int, Ints]

    def place(self, code: int, number: int) -> int:
        """Orders a unit's instructions, numbered from 1, and the sequencer's steps as they come in the program."""
        if code == SEQUENCER:
            return 2 * self.events[number - 1][0]
        return 2 * int(self.rows_of[code][number - 1]) + 1

    def site_of(self, code: int, number: int) -> int:
        """The site of a unit's instruction."""
        return int(self.site[self.rows_of[code][number - 1]])

    def times(self, code: int, number: int) -> tuple[int, int]:
        """Start and completion of an instruction in this run."""
        if code == SEQUENCER:
            return (self.events[number - 1][2],) * 2
        times = self.record.units[code]
        start = times.starts[number - 1]
        return start, times.completions[number - 1] if number <= len(times.completions) else start


@dataclass(frozen=True)
class Tiles:
    """Regions on chip by tile: those of tile t are rows begin[t] to begin[t + 1] of `regions`. `site` is the site of each.

    `conflicts` maps a tile to tiles with which it shares a byte that one of both writes. A pair in `raw` says that the second
    reads at its start what the first writes; what an instruction also writes it reads at its completion.
    """

    regions: RegionTable
    begin: Ints
    site: Ints
    conflicts: dict[int, list[int]]
    raw: set[tuple[int, int]]

    def pairs(self, one: int, other: int) -> Iterator[tuple[int, int]]:
        """Rows of `regions`, of one tile and of another, that share a byte which one of both writes."""
        mine, theirs = (range(int(self.begin[tile]), int(self.begin[tile + 1])) for tile in (one, other))
        for a in mine:
            for b in theirs:
                if a != b and (self.regions.writes[a] or self.regions.writes[b]) and self.regions.share(a, b):
                    yield a, b


@dataclass(frozen=True)
class GmRegions:
    """Accesses of global memory that conflict with another one of the same stretch between barriers of the whole launch."""

    regions: RegionTable
    conflicts: dict[int, list[int]]

    def reads_after(self, one: int, other: int) -> bool:
        """Whether `other` reads at its start what `one` writes."""
        t = self.regions
        return bool(t.writes[one] and t.reads[other] and not t.writes[other])


@dataclass(frozen=True)
class Layout:
    """A launch laid out. `spaces` names the spaces of the tiles' regions by number."""

    sites: list[Site]
    cores: list[CoreLayout]
    tiles: Tiles
    gm: GmRegions
    spaces: tuple[str, ...]


@dataclass
class _Core:
    """A core on the way: its streams put end to end, and its sequencer's steps."""

    record: CoreRecord
    streams: list[Stream]
    site: Ints
    epoch: Ints
    events: list[tuple[int, Step, int]]
    event_epochs: list[int]


def lay_out(records: Sequence[CoreRecord]) -> Layout:
    """Lay out what a launch did, as far as it came."""
    sites: list[Site] = []
    offsets: dict[tuple[object, ...], int] = {}
    groups = {record.group for record in records}
    everyone = {"launch"} | ({"group"} if len(groups) == 1 else set()) | ({"core"} if len(records) == 1 else set())
    cores = [_gather(record, sites, offsets, everyone) for record in records]
    spaces = tuple(dict.fromkeys(o.space for site in sites for o in site.operands if o.space != "gm"))
    tiles, tile_of = _tiles(cores, _SiteColumns(sites, spaces))
    gm, gm_of, loads = _gm_regions(cores, sites)
    unit_of = np.array([site.unit for site in sites], dtype=np.int64)
    laid = []
    ends = np.cumsum([len(core.site) for core in cores])
    for core, end, answers in zip(cores, ends.tolist(), loads, strict=True):
        part = slice(end - len(core.site), end)
        units = unit_of[core.site]
        rows_of = {code: np.flatnonzero(units == code)[: len(t.starts)] for code, t in core.record.units.items()}
        events = tuple((*event, answer) for event, answer in zip(core.events, answers, strict=True))
        used = np.unique(core.site).tolist()
        laid.append(CoreLayout(core.record, core.site, used, tile_of[part], gm_of[part], events, rows_of))
    return Layout(sites, laid, tiles, gm, spaces)


def _gather(record: CoreRecord, sites: list[Site], offsets: dict[tuple[object, ...], int], everyone: set[str]) -> _Core:
    """Number the sites of a core and put its streams end to end. Cores of one program share the numbers."""
    streams = [region for region, _ in record.steps if isinstance(region, Stream)]
    tables = {id(stream.sites): stream.sites for stream in streams}
    kind = tuple(tables)
    for key, table in tables.items():
        if (kind, key) not in offsets:
            offsets[(kind, key)] = len(sites)
            sites.extend(table)
    columns, epochs = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    events: list[tuple[int, Step, int]] = []
    event_epochs: list[int] = []
    rows = epoch = 0
    for region, cycle in record.steps:
        if isinstance(region, Stream):
            columns.append(region.site + offsets[(kind, id(region.sites))])
            epochs.append(np.full(len(region), epoch, dtype=np.int64))
            rows += len(region)
            continue
        events.append((rows, region, cycle))
        event_epochs.append(epoch)
        epoch += isinstance(region, Barrier) and region.scope in everyone
    return _Core(record, streams, np.concatenate(columns), np.concatenate(epochs), events, event_epochs)


class _SiteColumns:
    """The operands of all sites as arrays of shape (sites, MAX_OPERANDS); absent and global ones have space -1."""

    def __init__(self, sites: Sequence[Site], spaces: Sequence[str]) -> None:
        shape = (len(sites), MAX_OPERANDS)
        self.space = np.full(shape, -1, dtype=np.int64)
        self.itemsize, self.pitch = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        self.shape = np.full((*shape, 2), -1, dtype=np.int64)
        self.reads, self.writes = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
        for index, site in enumerate(sites):
            for k, operand in enumerate(site.operands):
                if operand.space == "gm":
                    continue
                self.space[index, k] = spaces.index(operand.space)
                self.itemsize[index, k], self.pitch[index, k] = operand.itemsize, operand.pitch
                self.shape[index, k] = operand.shape
                self.reads[index, k], self.writes[index, k] = operand.reads, operand.writes


def _tiles(cores: Sequence[_Core], columns: _SiteColumns) -> tuple[Tiles, Ints]:
    """The tiles of a launch, and the tile of every row of all cores."""
    site = np.concatenate([core.site for core in cores])
    streams = [stream for core in cores for stream in core.streams]
    addr = _stack([stream.addr for stream in streams], MAX_OPERANDS) * (columns.space[site] >= 0)
    size = _stack([stream.size for stream in streams], 3)
    first, tile = number_rows(np.concatenate([site[:, None], addr, size], axis=1))
    site, addr, size = site[first], addr[first], size[first]
    rows, cols = (_extent(size, columns.shape[site, :, axis]) for axis in (0, 1))
    pitch, row_bytes = columns.pitch[site], cols * columns.itemsize[site]
    dense = (pitch == row_bytes) & (rows > 0)
    row_bytes = np.where(dense, row_bytes * rows, row_bytes)
    segments = np.where(dense | (pitch == 0), np.minimum(rows, 1), rows)
    owner, k = np.nonzero((columns.space[site] >= 0) & (segments > 0) & (row_bytes > 0))
    reads, writes = columns.reads[site[owner], k], columns.writes[site[owner], k]
    regions = RegionTable(
        owner, columns.space[site[owner], k], addr[owner, k], segments[owner, k], row_bytes[owner, k], pitch[owner, k],
        reads, writes, np.zeros(len(owner), dtype=np.bool_),
    )  # fmt: skip
    one, other = conflicting(regions)
    conflicts = _neighbours(owner[one], owner[other])
    raw = {pair for a, b in ((one, other), (other, one)) for pair in _read_after_write(regions, a, b)}
    begin = np.searchsorted(owner, np.arange(len(first) + 1))
    return Tiles(regions, begin, site, conflicts, raw), tile


def _read_after_write(t: RegionTable, one: Ints, other: Ints) -> Iterator[tuple[int, int]]:
    """Owners of pairs of regions of which the second is read at the start, the first written."""
    chosen = t.writes[one] & t.reads[other] & ~t.writes[other]
    return zip(t.owner[one[chosen]].tolist(), t.owner[other[chosen]].tolist(), strict=True)


def _extent(size: Ints, index: Ints) -> Ints:
    """Size operands by index, n for index -n; shape (n, MAX_OPERANDS)."""
    return np.where(index < 0, -index, np.take_along_axis(size, np.maximum(index, 0), axis=1))


def _gm_regions(cores: Sequence[_Core], sites: Sequence[Site]) -> tuple[GmRegions, Ints, list[list[int]]]:
    """Conflicting accesses of global memory, their numbers for every row of all cores, and for every step of each sequencer."""
    site = np.concatenate([core.site for core in cores])
    streams = [stream for core in cores for stream in core.streams]
    address, rows, row_bytes = (
        _stack([getattr(s, name)[:, None] for s in streams], 1)[:, 0] for name in ("gm_addr", "gm_rows", "gm_row_bytes")
    )
    dma = np.array([_dma_columns(site) for site in sites], dtype=np.int64)
    moving = np.flatnonzero((rows > 0) & (row_bytes > 0))
    epoch = np.concatenate([core.epoch for core in cores])
    details = dma.reshape(-1, 4)[site[moving]]
    pitch = details[:, 0]
    # Rows by index may be any of their table.
    segments = np.where(pitch == 0, 1, np.where(details[:, 3] > 0, details[:, 3], rows[moving]))
    parts = [np.stack([epoch[moving], address[moving], segments, row_bytes[moving], pitch], axis=1)]
    loads = [
        (number, place, [core.event_epochs[place], step.addr, 1, step.itemsize, step.itemsize])
        for number, core in enumerate(cores)
        for place, (_, step, _) in enumerate(core.events)
        if isinstance(step, ScalarLoad)
    ]
    parts.append(np.array([region for *_, region in loads], dtype=np.int64).reshape(-1, 5))
    roles = np.concatenate([details[:, 1:3], np.zeros((len(loads), 2), dtype=np.int64)])
    keys = np.concatenate([np.concatenate(parts), roles], axis=1)
    gm, numbers = _conflicting_gm(keys)
    of_rows = np.full(len(site), -1, dtype=np.int64)
    of_rows[moving] = numbers[: len(moving)]
    of_events = [[-1] * len(core.events) for core in cores]
    for (number, place, _), answer in zip(loads, numbers[len(moving) :].tolist(), strict=True):
        of_events[number][place] = answer
    return gm, of_rows, of_events


def _dma_columns(site: Site) -> tuple[int, int, int, int]:
    """Bytes between rows, whether the site writes and adds, and how many rows it picks from by index, 0 without indices."""
    dma = site.dma
    if dma is None:
        return 0, 0, 0, 0
    if dma.indexed is not None:
        return dma.indexed.stride, dma.write, dma.atomic, dma.indexed.count
    return dma.pitch, dma.write, dma.atomic, 0


def _conflicting_gm(keys: Ints) -> tuple[GmRegions, Ints]:
    """Regions of rows (epoch, address, rows, row bytes, pitch, write, atomic); and that of each row, -1 without a conflict."""
    first, numbers = number_rows(keys)
    unique, count = keys[first], np.bincount(numbers, minlength=len(first))
    single = unique[:, 2] == 1
    dense = ~single & (unique[:, 4] == unique[:, 3])
    unique[dense, 3] *= unique[dense, 2]
    unique[dense, 2] = 1
    epoch, address, rows, row_bytes, pitch, write, atomic = unique.T
    written: Bools = write == 1
    regions = RegionTable(
        np.arange(len(unique)), epoch, address, rows, row_bytes, pitch, ~written | (atomic == 1), written, atomic == 1
    )
    one, other = conflicting(regions)
    again = np.flatnonzero((count > 1) & written & (atomic == 0))
    conflicts = _neighbours(np.concatenate([one, again]), np.concatenate([other, again]))
    involved = np.zeros(len(unique), dtype=np.bool_)
    involved[list(conflicts)] = True
    return GmRegions(regions, conflicts), np.where(involved[numbers], numbers, -1)


def _neighbours(one: Ints, other: Ints) -> dict[int, list[int]]:
    """Who is paired with whom, both ways, each once."""
    pairs = np.unique(np.stack([np.concatenate([one, other]), np.concatenate([other, one])], axis=1), axis=0)
    found: dict[int, list[int]] = {}
    for a, b in pairs.tolist():
        found.setdefault(a, []).append(b)
    return found


def _stack(parts: Sequence[Ints], width: int) -> Ints:
    return np.concatenate([np.zeros((0, width), dtype=np.int64), *parts])
