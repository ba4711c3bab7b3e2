"""Entries of a stack's cores, made of those of its parts when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from npuvm.compiler.errors import CompileError
from npuvm.isa import Entry, EvenEntries, Image
from npuvm.isa.image_tables import EntryColumns, EntryTable
from npuvm.isa.records import quick_record

__all__ = ["GroupTable", "Programs", "Run", "StackedEntries", "busy"]

Programs = Mapping[str, tuple[int, Sequence[Entry], int]]
"""By core type: the first word of its program, its entries, and how many phases they have."""

_MOST_TILES = 1 << 62


@dataclass(frozen=True, slots=True)
class GroupTable(EntryTable):
    """Entries of whole core groups whose cores have the types `order`, a cube core before vector cores where there are two.

    The cores of a type run the program at their word of `starts`. A group works on the tiles of its entry in `groups`.
    """

    order: tuple[str, ...]
    groups: EvenEntries
    starts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.groups) * len(self.order)

    def start(self, member: int) -> int:
        """The first word of a core's program, by its place in the group."""
        return self.starts[min(member, 1)]

    def moved(self, ranges: npt.NDArray[np.int64], member: int) -> npt.NDArray[np.int64]:
        """The ranges of a member of each group, of those by group and phase."""
        raise NotImplementedError

    def columns(self) -> EntryColumns:
        """All entries by column."""
        groups = self.groups
        if sum(groups.tiles) * groups.steps * len(self) >= _MOST_TILES:
            return EntryTable.columns(self)
        own = groups.columns().ranges
        members = range(len(self.order))
        ranges = np.stack([self.moved(own, member) for member in members], axis=1).reshape(len(self), own.shape[1], 2)
        pcs = tuple([self.start(member) for member in members]) * len(groups)
        return EntryColumns(self.order * len(groups), pcs, (len(groups.tiles),) * len(self), ranges)


@quick_record
@dataclass(frozen=True, slots=True)
class _Members(EntryTable):
    """Of a table of whole groups those entries that `places` in each group have."""

    table: GroupTable
    places: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.table.groups) * len(self.places)

    def entry(self, core: int) -> Entry:
        """The entry of a core among those."""
        group, at = divmod(core, len(self.places))
        return self.table.entry(group * len(self.table.order) + self.places[at])


@quick_record
@dataclass(frozen=True, slots=True)
class Run:
    """Cores `low` to `high` of a type, which run the program at word `pc`; `parts` are entries and the core of the first."""

    low: int
    high: int
    pc: int
    parts: tuple[tuple[Sequence[Entry], int], ...]


@quick_record
@dataclass(frozen=True, slots=True)
class StackedEntries(EntryTable):
    """Entries of `groups` core groups, whose cores have the types `order`; `runs` gives, by type, what its cores run."""

    order: tuple[str, ...]
    groups: int
    runs: Mapping[str, tuple[Run, ...]]

    def __len__(self) -> int:
        return self.groups * len(self.order)

    def entry(self, core: int) -> Entry:
        """The entry of a core of the launch."""
        group, member = divmod(core, len(self.order))
        core_type = self.order[member]
        own = group * self.order.count(core_type) + self.order[:member].count(core_type)
        run = next(each for each in self.runs[core_type] if each.low <= own < each.high)
        ranges = tuple(pair for entries, first in run.parts for pair in entries[own - first].ranges)
        return Entry(core_type, run.pc, ranges)


def busy(image: Image) -> Programs:
    """What the cores of an image run.

    Cores at the end that have nothing to do are left out where the image has one program. CompileError when cores of one type
    run different programs.
    """
    entries = image.entries
    if isinstance(entries, EvenEntries):
        return {entries.core_type: (0, entries, len(entries.tiles))}
    if isinstance(entries, GroupTable) and len(entries.order) > 1:
        phases = len(entries.groups.tiles)
        places = _places(entries.order)
        return {core: (entries.start(each[0]), _Members(entries, each), phases) for core, each in places}
    starts = {(entry.core_type, entry.pc) for entry in entries}
    if len(starts) == 1:
        ((core_type, start),) = starts
        return {core_type: (start, _without_idle(entries), len(entries[0].ranges))}
    if len({core_type for core_type, _ in starts}) < len(starts):
        raise CompileError(
            "cores of one type run different programs; a part of a stack has one for each type", image.name
        )
    own = {core_type: [entry for entry in entries if entry.core_type == core_type] for core_type, _ in starts}
    return {core_type: (start, own[core_type], len(own[core_type][0].ranges)) for core_type, start in starts}


@lru_cache(64)
def _places(order: tuple[str, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """By core type, the places in a group of cores with the types `order`."""
    return [(core, tuple([at for at, each in enumerate(order) if each == core])) for core in dict.fromkeys(order)]


def _without_idle(entries: Sequence[Entry]) -> Sequence[Entry]:
    count = len(entries)
    while count > 1 and entries[0].ranges and all(low == high for low, high in entries[count - 1].ranges):
        count -= 1
    return entries[:count]
