"""Index vectors where only time is simulated: recorded in a run with data, or drawn from a declared distribution.

The rows that an instruction like `ldx` moves lie where a vector in UB says. Without data nobody knows that vector, so a
launch has to be told: which rows, or what they are like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.errors import SimulationError
from npuvm.hw.expansion.stream import Picked, Regions, Stream

if TYPE_CHECKING:
    from npuvm.hw.engine.observe import Observer
    from npuvm.hw.expansion.stream import Site

__all__ = ["IndexDistribution", "IndexSource", "row_indices", "with_indices"]

Ints: TypeAlias = NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@dataclass(frozen=True)
class IndexDistribution:
    """What index vectors are like: `uniform` over all rows of their table, different for every `seed`, or `sequential`.

    Sequential indices count up from row to row of a core, and begin where its share of the table would.
    """

    kind: Literal["uniform", "sequential"]
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("uniform", "sequential"):
            raise SimulationError(f"index distribution {self.kind!r}; allowed: 'uniform', 'sequential'")

    def draw(self, core: int, cores: int, before: int, count: Ints) -> Ints:
        """Indices of n consecutive rows of a core: `before` rows came before, `count` (n) are the rows of their tables."""
        number = before + np.arange(len(count), dtype=np.int64)
        if self.kind == "sequential":
            return (count * core // cores + number) % count
        with np.errstate(over="ignore"):
            # SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014), one step a row.
            stream = np.uint64((self.seed * 0x2545F491 + core + 1) & (2**64 - 1)) * _MIX[1]
            mixed = stream + (number.astype(np.uint64) + np.uint64(1)) * _GOLDEN
            mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX[0]
            mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX[1]
            mixed ^= mixed >> np.uint64(31)
        return (mixed >> np.uint64(1)).astype(np.int64) % count


IndexSource: TypeAlias = IndexDistribution | Sequence[Sequence[Sequence[int]]]
"""A distribution, or per core the recorded vectors of its instructions in order (`RunResult.indices` of a run with data)."""


def with_indices(regions: Regions, core: int, cores: int, source: IndexSource | None) -> Regions:
    """The regions of a core, with the indices of all instructions that pick rows by them.

    SimulationError when a source is needed and there is none, and when recorded vectors do not fit.
    """
    supply = _Supply(core, cores, source)
    value: int | None = None
    while True:
        try:
            region = regions.send(value) if value is not None else next(regions)
        except StopIteration:
            return
        if isinstance(region, Stream):
            region = supply.fill(region)
        value = yield region


class _Supply:
    """Hands out the index vectors of one core."""

    def __init__(self, core: int, cores: int, source: IndexSource | None) -> None:
        self._core = core
        self._cores = cores
        self._source = source
        self._rows = self._vectors = 0
        self._tables: dict[int, tuple[object, Ints | None]] = {}

    def fill(self, stream: Stream) -> Stream:
        counts = self._counts(stream)
        if counts is None:
            return stream
        rows = np.where(counts[stream.site] >= 0, stream.gm_rows, 0)
        rows[stream.gm_row_bytes == 0] = 0
        first = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(rows)))
        if not first[-1]:
            return stream
        return replace(stream, picked=Picked(first, self._indices(stream, rows, counts)))

    def _counts(self, stream: Stream) -> Ints | None:
        """By site: rows of the table that it picks from, -1 for one that picks none; None when no site does."""
        found = self._tables.get(id(stream.sites))
        if found is None:
            indexed = [site.dma.indexed if site.dma is not None else None for site in stream.sites]
            counts = None
            if any(each is not None for each in indexed):
                counts = np.array([-1 if each is None else each.count for each in indexed], dtype=np.int64)
            # The sites are kept as well, so that their id stays theirs.
            found = self._tables[id(stream.sites)] = (stream.sites, counts)
        return found[1]

    def _indices(self, stream: Stream, rows: Ints, counts: Ints) -> Ints:
        at = np.flatnonzero(rows)
        if self._source is None:
            label = stream.sites[int(stream.site[at[0]])].label
            raise SimulationError(
                f"{label} picks rows by index; without data pass recorded vectors (`indices`, from `RunResult.indices` "
                "of a run with data) or a distribution, IndexDistribution('uniform') or IndexDistribution('sequential')",
                f"core {self._core}",
            )
        if isinstance(self._source, IndexDistribution):
            empty = at[counts[stream.site[at]] <= 0]
            if len(empty):
                label = stream.sites[int(stream.site[empty[0]])].label
                raise SimulationError(f"{label} picks from a table without rows", f"core {self._core}")
            table = np.repeat(counts[stream.site[at]], rows[at])
            indices = self._source.draw(self._core, self._cores, self._rows, table)
            self._rows += len(indices)
            return indices
        return self._recorded(self._source, stream, at, rows, counts)

    def _recorded(
        self, source: Sequence[Sequence[Sequence[int]]], stream: Stream, at: Ints, rows: Ints, counts: Ints
    ) -> Ints:
        vectors = source[self._core] if self._core < len(source) else ()
        parts = []
        for row in at.tolist():
            label, where = stream.sites[int(stream.site[row])].label, f"core {self._core}"
            if self._vectors == len(vectors):
                raise SimulationError(f"{label}: only {len(vectors)} index vectors were recorded", where)
            vector = np.asarray(vectors[self._vectors], dtype=np.int64)
            count = int(counts[stream.site[row]])
            if len(vector) != rows[row] or (vector < 0).any() or (vector >= count).any():
                raise SimulationError(
                    f"{label}: index vector {self._vectors} does not fit; it must have {rows[row]} indices, 0 to {count - 1}",
                    where,
                )
            self._vectors += 1
            parts.append(vector)
        return np.concatenate(parts)


def row_indices(observer: Observer | None, token: object, stream: Stream, row: int, site: Site) -> Ints:
    """The indices of an instruction that starts: those it has read, or without data what the stream gives for it."""
    read = None if observer is None else observer.indices_of(token)
    if read is not None:
        return read
    if stream.picked is None:
        raise SimulationError(f"{site.label} picks rows by index; without data its stream must hold them")
    return stream.picked.of(row)
