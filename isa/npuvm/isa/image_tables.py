"""Tables of an image in the form that they are made and used in: entries of cores that share work evenly, and relocations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn, overload

import numpy as np
import numpy.typing as npt

from npuvm.isa.errors import IsaError
from npuvm.isa.records import quick_record

__all__ = ["ADDRESS_BITS", "Entry", "EntryColumns", "EntryTable", "EvenEntries", "Reloc", "RelocTable"]

ADDRESS_BITS = 48
_END = 1 << ADDRESS_BITS
_HIGH_MASK = (1 << 64) - _END
_HIGH = np.uint64(_HIGH_MASK)
_MOST_TILES = 1 << 62
_FEW = 10
"""Relocations that are written one by one: so many take less time than the array operations for any number of them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one core starts: its type, the word index of its first instruction, and its (start, stop) of each phase."""

    core_type: str
    pc: int
    ranges: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Reloc:
    """The low 48 bits of `word` become the address of argument `arg` plus `addend` bytes."""

    word: int
    arg: int
    addend: int = 0


@dataclass(frozen=True, slots=True)
class EntryColumns:
    """Entries by column: types of cores, first words, how many ranges each has; `ranges` holds starts and stops by core and
    phase, filled up with zeros where a core has fewer than others.
    """

    types: tuple[str, ...]
    pcs: tuple[int, ...]
    phases: tuple[int, ...]
    ranges: npt.NDArray[np.int64]

    @staticmethod
    def of(entries: Sequence[Entry]) -> EntryColumns:
        """Those of any entries; OverflowError when a range does not fit 64 bits."""
        if isinstance(entries, EntryTable):
            return entries.columns()
        return EntryColumns.from_rows(entries)

    @staticmethod
    def from_rows(entries: Iterable[Entry]) -> EntryColumns:
        """Those of entries that are given one by one."""
        rows = [(each.core_type, each.pc, each.ranges) for each in entries]
        phases = tuple([len(each) for *_, each in rows])
        most = max(phases, default=0)
        padded = [(*each, *([(0, 0)] * (most - len(each)))) for *_, each in rows]
        ranges = np.array(padded, dtype=np.int64).reshape(len(rows), most, 2)
        return EntryColumns(tuple([each for each, *_ in rows]), tuple([each for _, each, _ in rows]), phases, ranges)


class EntryTable(Sequence[Entry]):
    """Entries that are made when they are asked for: a subclass has their number, and `entry` for each core from 0 on."""

    __slots__ = ()

    def entry(self, core: int) -> Entry:
        """The entry of a core."""
        raise NotImplementedError

    def columns(self) -> EntryColumns:
        """All entries by column."""
        return EntryColumns.from_rows(map(self.entry, range(len(self))))

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Entry, ...]: ...
    def __getitem__(self, index: int | slice) -> Entry | tuple[Entry, ...]:
        if isinstance(index, slice):
            return tuple(self.entry(core) for core in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"core {index} of {len(self)}")
        return self.entry(index % len(self))


@quick_record
@dataclass(frozen=True, slots=True)
class EvenEntries(EntryTable):
    """Entries of `cores` cores of one type that run one program over grids of `tiles` tiles, put one after another.

    All tiles are cut into one range for each core, the first ones one tile longer; with `by_grid` those of each grid are. With
    `tail` those of the last grid are cut for themselves, the ranges of the last cores one tile longer. An iteration of a grid
    is one of `steps` in which a core works on a tile.
    """

    core_type: str
    cores: int
    tiles: tuple[int, ...]
    steps: int = 1
    by_grid: bool = False
    tail: bool = False

    def __len__(self) -> int:
        return self.cores

    def entry(self, core: int) -> Entry:
        """The entry of a core."""
        last = len(self.tiles) - 1
        start, stop = self._span(core, sum(self.tiles[:-1] if self.tail else self.tiles))
        ranges, base = [], 0
        for phase, count in enumerate(self.tiles):
            if self.by_grid:
                low, high = self._span(core, count)
            elif self.tail and phase == last:
                low, high = self._span(self.cores - 1 - core, count)
            else:
                low, high = max(start - base, 0), min(stop - base, count)
            ranges.append((low * self.steps, high * self.steps) if low < high else (0, 0))
            base += count
        return Entry(self.core_type, 0, tuple(ranges))

    def _span(self, core: int, tiles: int) -> tuple[int, int]:
        """The range of a core when so many tiles are cut for all."""
        short, longer = divmod(tiles, self.cores)
        start = short * core + min(core, longer)
        return start, start + short + (core < longer)

    def columns(self) -> EntryColumns:
        """All entries by column."""
        total, cores, phases = sum(self.tiles), self.cores, len(self.tiles)
        if not -_MOST_TILES < total * self.steps < _MOST_TILES:
            return EntryColumns.from_rows(map(self.entry, range(cores)))
        core = np.arange(cores)

        def spans(tiles: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
            short, longer = divmod(tiles, cores)
            start = core * short + np.minimum(core, longer)
            return start, start + short + (core < longer)

        start, stop = spans(sum(self.tiles[:-1]) if self.tail else total)
        ranges = np.zeros((cores, phases, 2), dtype=np.int64)
        base = 0
        for phase, count in enumerate(self.tiles):
            if self.by_grid:
                low, high = spans(count)
            elif self.tail and phase == phases - 1:
                low, high = (each[::-1] for each in spans(count))
            else:
                low, high = np.maximum(start - base, 0), np.minimum(stop - base, count)
            some = low < high
            ranges[:, phase, 0] = np.where(some, low * self.steps, 0)
            ranges[:, phase, 1] = np.where(some, high * self.steps, 0)
            base += count
        return EntryColumns((self.core_type,) * cores, (0,) * cores, (phases,) * cores, ranges)


class RelocTable(Sequence[Reloc]):
    """Relocations as arrays: `words`, `args` and `addends`, one element each for every relocation."""

    __slots__ = ("addends", "args", "words")

    def __init__(self, words: Sequence[int], args: Sequence[int], addends: Sequence[int]) -> None:
        self.words = np.array(words, dtype=np.int64)
        self.args = np.array(args, dtype=np.int64)
        self.addends = np.array(addends, dtype=np.int64)

    @staticmethod
    def of(relocs: Sequence[Reloc]) -> RelocTable:
        """The table of relocations that are given one by one."""
        if isinstance(relocs, RelocTable):
            return relocs
        return RelocTable([r.word for r in relocs], [r.arg for r in relocs], [r.addend for r in relocs])

    @staticmethod
    def joined(words: npt.NDArray[np.int64], args: npt.NDArray[np.int64], addends: npt.NDArray[np.int64]) -> RelocTable:
        """A table of these columns, which it keeps."""
        made = object.__new__(RelocTable)
        made.words, made.args, made.addends = words, args, addends
        return made

    def moved(self, addends: Sequence[int]) -> RelocTable:
        """The same relocations with other addends."""
        return RelocTable.joined(self.words, self.args, np.array(addends, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.words)

    @overload
    def __getitem__(self, index: int) -> Reloc: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Reloc, ...]: ...
    def __getitem__(self, index: int | slice) -> Reloc | tuple[Reloc, ...]:
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        return Reloc(int(self.words[index]), int(self.args[index]), int(self.addends[index]))

    def __iter__(self) -> Iterator[Reloc]:
        columns = zip(self.words.tolist(), self.args.tolist(), self.addends.tolist(), strict=True)
        return (Reloc(*row) for row in columns)

    def apply(self, words: npt.NDArray[np.uint64], addresses: Sequence[int], where: str) -> None:
        """Write addresses into words; IsaError, with nothing written, when one does not fit 48 bits."""
        if len(self.words) <= _FEW:
            self._apply_few(words, addresses, where)
            return
        try:
            bits = (np.array(addresses, dtype=np.int64)[self.args] + self.addends).view(np.uint64)
        except OverflowError:
            self._refuse(addresses, where)
        if int(np.bitwise_or.reduce(bits)) >= _END:
            self._refuse(addresses, where)
        words[self.words] = words[self.words] & _HIGH | bits

    def _apply_few(self, words: npt.NDArray[np.uint64], addresses: Sequence[int], where: str) -> None:
        places, args, addends = self.words.tolist(), self.args.tolist(), self.addends.tolist()
        found = [int(addresses[arg]) + addend for arg, addend in zip(args, addends, strict=True)]
        if found and not 0 <= min(found) <= max(found) < _END:
            self._refuse(addresses, where)
        view = words.data  # reading and writing its elements takes less time than those of an array
        for place, address in zip(places, found, strict=True):
            view[place] = view[place] & _HIGH_MASK | address

    def _refuse(self, addresses: Sequence[int], where: str) -> NoReturn:
        wrong = ((addresses[each.arg] + each.addend, each.arg) for each in self)
        address, argument = next((value, arg) for value, arg in wrong if not 0 <= value < 1 << ADDRESS_BITS)
        raise IsaError(f"address {address:#x} of argument {argument} does not fit {ADDRESS_BITS} bits", where)
