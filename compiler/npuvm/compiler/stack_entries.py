"""Entries of a stack's cores, made of those of its parts when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

from npuvm.compiler.errors import CompileError
from npuvm.isa import Entry, EvenEntries, Image

__all__ = ["Run", "StackedEntries", "busy"]


@dataclass(frozen=True, slots=True)
class Run:
    """Cores `low` to `high` of a type, which run the program at word `pc`; `parts` are entries and the core of the first."""

    low: int
    high: int
    pc: int
    parts: tuple[tuple[Sequence[Entry], int], ...]


@dataclass(frozen=True)
class StackedEntries(Sequence[Entry]):
    """Entries of `groups` core groups, whose cores have the types `order`; `runs` gives, by type, what its cores run."""

    order: tuple[str, ...]
    groups: int
    runs: Mapping[str, tuple[Run, ...]]

    def __len__(self) -> int:
        return self.groups * len(self.order)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Entry, ...]: ...
    def __getitem__(self, index: int | slice) -> Entry | tuple[Entry, ...]:
        if isinstance(index, slice):
            return tuple(self._entry(at) for at in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"core {index} of {len(self)}")
        return self._entry(index % len(self))

    def _entry(self, index: int) -> Entry:
        group, member = divmod(index, len(self.order))
        core_type = self.order[member]
        core = group * self.order.count(core_type) + self.order[:member].count(core_type)
        run = next(each for each in self.runs[core_type] if each.low <= core < each.high)
        ranges = tuple(pair for entries, first in run.parts for pair in entries[core - first].ranges)
        return Entry(core_type, run.pc, ranges)


def busy(image: Image) -> dict[str, tuple[int, Sequence[Entry], int]]:
    """By core type: the first word of its program, its entries, and how many phases they have.

    Cores at the end that have nothing to do are left out where the image has one program. CompileError when cores of one type
    run different programs.
    """
    entries = image.entries
    if isinstance(entries, EvenEntries):
        return {entries.core_type: (0, entries, len(entries.tiles))}
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


def _without_idle(entries: Sequence[Entry]) -> Sequence[Entry]:
    count = len(entries)
    while count > 1 and entries[0].ranges and all(low == high for low, high in entries[count - 1].ranges):
        count -= 1
    return entries[:count]
