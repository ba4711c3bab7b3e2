"""Contexts: iterations of loop bodies as rows of an int64 array, and what depends on them (sizes, predicates, tiles of a grid).

A row has 18 columns: the counters of loops 0 to 7 (0 for a loop that is not open), their trip counts (0 likewise), and two
sets of grid loops, as bits: those whose counter differs from the tile before (`CHANGED`), and from the tile after (`CHANGES`).
The bit `EDGE` stands in them for "there is no such tile".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.errors import SimulationError
from npuvm.hw.expansion.program import SizeDef

__all__ = [
    "LOOPS",
    "Ints",
    "child_contexts",
    "evaluate_size",
    "grid_contexts",
    "grid_slice",
    "predicate_holds",
    "root_context",
    "size_bound",
]

Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

LOOPS = 8
"""Loop counters of the architecture (`limits.loops` of the instruction set)."""

CHANGED, CHANGES = 2 * LOOPS, 2 * LOOPS + 1
EDGE = 1 << LOOPS
_COLUMNS = 2 * LOOPS + 2
_LAST = (1 << 64) - 1


def root_context() -> Ints:
    """The one context outside all loops, shape (1, 18)."""
    return np.zeros((1, _COLUMNS), dtype=np.int64)


def evaluate_size(size: SizeDef, contexts: Ints, registers: Sequence[int]) -> Ints:
    """Value of a size-table entry in every context, shape (n,)."""
    n = len(contexts)
    if size.kind == "const":
        return np.full(n, size.full, dtype=np.int64)
    if size.kind == "reg":
        return np.full(n, max(0, min(size.full, registers[size.reg])), dtype=np.int64)
    if size.kind == "tail":
        last = contexts[:, size.loop_a] == contexts[:, LOOPS + size.loop_a] - 1
        return np.where(last, size.tail, size.full)
    value = size.base + size.step_a * contexts[:, size.loop_a] + size.step_b * contexts[:, size.loop_b]
    clamped: Ints = np.clip(value, 0, size.full)
    return clamped


def size_bound(size: SizeDef, most: Mapping[int, int], registers: Sequence[int]) -> int:
    """A number that a size does not exceed when the counter of loop l does not exceed most[l] (0 where not given)."""
    if size.kind == "const":
        return size.full
    if size.kind == "reg":
        return max(0, min(size.full, registers[size.reg]))
    if size.kind == "tail":
        return max(size.full, size.tail)
    steps = ((size.step_a, size.loop_a), (size.step_b, size.loop_b))
    return max(0, min(size.full, size.base + sum(max(0, step) * most.get(loop, 0) for step, loop in steps)))


def predicate_holds(kind: str, mask: int, contexts: Ints) -> Mask:
    """Whether a predicate over the loops of `mask` switches on, per context; shape (n,)."""
    at: Mask
    if kind in ("changed", "changes"):
        at = contexts[:, CHANGED if kind == "changed" else CHANGES] & (mask | EDGE) != 0
        return at
    loops = [loop for loop in range(LOOPS) if mask >> loop & 1]
    counters = contexts[:, loops]
    if kind in ("first", "not_first"):
        at = (counters == 0).all(axis=1)
    else:
        at = (counters == contexts[:, [LOOPS + loop for loop in loops]] - 1).all(axis=1)
    return ~at if kind.startswith("not_") else at


def child_contexts(contexts: Ints, loop: int, trips: Ints, first: int = 0, last: int | None = None) -> Ints:
    """Contexts of a loop's body: row i repeated trips[i] times with the loop's counter running from 0.

    `first` and `last` (exclusive) cut the iterations of a single context.
    """
    if last is None:
        counts = trips
        starts = np.cumsum(counts) - counts
        counter = np.arange(counts.sum()) - np.repeat(starts, counts)
    else:
        counts = np.full(1, last - first)
        counter = np.arange(first, last)
    child = np.repeat(contexts, counts, axis=0)
    child[:, loop] = counter
    child[:, LOOPS + loop] = np.repeat(trips, counts)
    return child


def grid_contexts(
    trips: Sequence[SizeDef], bounds: Sequence[tuple[int, int]], registers: Sequence[int], where: str
) -> tuple[Ints, Ints]:
    """Contexts of the tiles of several cores, one core after the other, and how many each core has.

    `bounds` are the cores' first tile and the one after their last. Linear tile indices number the iterations of loops 0 to
    len(trips) - 1, the last one fastest. SimulationError when a range does not lie within the grid.
    """
    shape = _GridShape(trips, registers)
    for start, stop in bounds:
        shape.check(start, stop, where)
    rows = shape.rows(np.concatenate([_indices(start, stop) for start, stop in bounds]))
    counts = np.array([stop - start for start, stop in bounds], dtype=np.int64)
    _mark_neighbours(rows, len(trips), counts)
    return rows, counts


def grid_slice(
    trips: Sequence[SizeDef], bounds: tuple[int, int], cut: tuple[int, int], registers: Sequence[int], where: str
) -> Ints:
    """Contexts of tiles cut[0] to cut[1] (exclusive) of one core's range `bounds`; see `grid_contexts`."""
    shape = _GridShape(trips, registers)
    shape.check(*bounds, where)
    low, high = max(bounds[0], cut[0] - 1), min(bounds[1], cut[1] + 1)
    around = shape.rows(_indices(low, high))
    _mark_neighbours(around, len(trips), np.array([len(around)]))
    return around[cut[0] - low : cut[1] - low]


class _GridShape:
    """Tiles of a grid by linear index, which may be anything below 2**64.

    Outer loops that the trip count of an inner one follows are listed, all others are calculated. The verifier bounds how many
    iterations that list can have, but nothing else in the size of a grid.
    """

    def __init__(self, trips: Sequence[SizeDef], registers: Sequence[int]) -> None:
        listed = max((loop for loop, size in enumerate(trips) if size.varies), default=0)
        root = outer = root_context()
        for loop, size in enumerate(trips[:listed]):
            outer = child_contexts(outer, loop, evaluate_size(size, outer, registers))
        self._outer = outer
        self._loop = listed
        self._trips = evaluate_size(trips[listed], outer, registers)
        self._inner = [int(evaluate_size(size, root, registers)[0]) for size in trips[listed + 1 :]]
        ends = list(accumulate(trip * prod(self._inner) for trip in self._trips.tolist()))
        self.total: int = ends[-1] if ends else 0
        self._starts = _unsigned([0, *ends])

    def check(self, start: int, stop: int, where: str) -> None:
        if not 0 <= start <= stop <= self.total:
            raise SimulationError(f"the core's tiles {start} to {stop} are not within the grid's {self.total}", where)

    def rows(self, index: NDArray[np.uint64]) -> Ints:
        """Contexts of the tiles with these indices."""
        at = np.searchsorted(self._starts[1:], index, side="right")
        tiles: Ints = self._outer[at]
        left = index - self._starts[at]
        for loop, trip in reversed(list(enumerate(self._inner, self._loop + 1))):
            if trip:
                left, tiles[:, loop] = np.divmod(left, np.uint64(trip))
            tiles[:, LOOPS + loop] = trip
        tiles[:, self._loop] = left
        tiles[:, LOOPS + self._loop] = self._trips[at]
        return tiles


def _unsigned(values: Sequence[int]) -> NDArray[np.uint64]:
    """The values, those that no tile's index reaches as the largest there is."""
    return np.array([min(value, _LAST) for value in values], dtype=np.uint64)


def _indices(start: int, stop: int) -> NDArray[np.uint64]:
    return np.arange(stop - start, dtype=np.uint64) + np.uint64(start)


def _mark_neighbours(tiles: Ints, loops: int, counts: Ints) -> None:
    """Fill the `CHANGED` and `CHANGES` columns of consecutive runs of tiles of these lengths."""
    differ = np.full(len(tiles) + 1, EDGE, dtype=np.int64)
    counters = tiles[:, :loops]
    differ[1:-1] = (counters[1:] != counters[:-1]) @ (1 << np.arange(loops))
    differ[np.cumsum(counts)] = EDGE
    tiles[:, CHANGED] = differ[:-1]
    tiles[:, CHANGES] = differ[1:]
