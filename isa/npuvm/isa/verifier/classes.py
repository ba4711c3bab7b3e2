"""Ranges of tiles by what a program can tell of them: which tiles are first and last in their loops, and which loops change.

The walk of a grid whose trip counts are constants visits, at each level, the first counter that it may have, the next one and
the last (`npuvm.isa.verifier.walk`). What it sees of them is whether they are the first or the last of their loop. All of this
is known by six numbers for each level, none above 2, so ranges of any length in grids of any size fall into few classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from npuvm.isa.verifier.tables import Const, Tables
from npuvm.isa.verifier.walk import changed_loops, grid_tiles

__all__ = ["EMPTY", "alike", "class_tiles", "range_classes"]

EMPTY = -1
"""The class of a range without tiles."""


_LEVEL = 324
_LARGEST = 5
"""Loops up to this trip count show every class of a level."""


def range_classes(trips: Sequence[int], ranges: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The classes of ranges, one row of start and stop each, within a grid of at most 7 loops."""
    starts, stops = ranges[:, 0], ranges[:, 1]
    full = starts < stops
    if not full.any():
        return np.full(len(ranges), EMPTY)
    inner = [1]
    for trip in reversed(trips[1:]):
        inner.insert(0, inner[0] * trip)
    count, step = np.array(trips, dtype=np.int64), np.array(inner, dtype=np.int64)
    first = starts[:, None] // step % count
    last = (stops - 1)[:, None] // step % count
    level = _level(count, first, last)
    weights = np.array([_LEVEL**at for at in range(len(trips))], dtype=np.int64)
    return np.where(full, level @ weights, EMPTY)


def _level(
    trip: npt.NDArray[np.int64], first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The class of each level of ranges, by the counters of their first and their last tile."""
    code: npt.NDArray[np.int64] = (
        (np.minimum(trip, 3) - 1) * 108 + (first == 0) * 54 + np.minimum(trip - 1 - first, 2) * 18
    )
    code += np.minimum(last, 2) * 6 + (last == trip - 1) * 3 + np.minimum(np.maximum(last - first, 0), 2)
    return code


@cache
def _examples() -> dict[int, tuple[int, int, int]]:
    """A trip count, a first and a last counter of each class of a level."""
    found: dict[int, tuple[int, int, int]] = {}
    for trip in range(1, _LARGEST + 1):
        for first in range(trip):
            for last in range(trip):
                columns = (np.array([each], dtype=np.int64) for each in (trip, first, last))
                found.setdefault(int(_level(*columns)[0]), (trip, first, last))
    return found


@cache
def _first_alike() -> dict[tuple[object, ...], int]:
    """The first class that was met of those that look the same."""
    return {}


@lru_cache(65536)
def alike(code: int, levels: int, seen: int) -> int:
    """A class whose tiles a program cannot tell from those of `code`, one for all of these: it asks for first and last tiles of
    the loops with a bit in `seen` only, and for the loops that change.
    """
    tiles = class_tiles(code, levels)
    flags = [tuple((c == 0, c == trip - 1) for loop, (c, trip) in tile.items() if seen >> loop & 1) for tile in tiles]
    changes = [changed_loops(one, other) for one, other in pairwise(tiles)]
    return _first_alike().setdefault((levels, seen, tuple(flags), tuple(changes)), code)


@lru_cache(4096)
def class_tiles(code: int, levels: int) -> tuple[dict[int, tuple[int, int]], ...]:
    """The tiles that the walk visits of a range of a class, in a small grid that looks the same to a program."""
    if code == EMPTY:
        return ()
    trips, start, stop = [], 0, 0
    for _ in range(levels):
        code, level = divmod(code, _LEVEL)
        trip, first, last = _examples()[level]
        trips.append(trip)
        start, stop = start * trip + first, stop * trip + last
    return tuple(grid_tiles(Tables({}, {}, {}, {}), [Const(trip) for trip in trips], start, stop + 1, ()))
