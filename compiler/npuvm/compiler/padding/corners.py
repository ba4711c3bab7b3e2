"""The choice of the corner of a product in panels, by rounds: what is copied for it and multiplied before all else.

Cycles are those of copies before the corner, and then of the longer of products and of copies beside them, panel by panel.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.large import LargeTiles
from npuvm.compiler.cube.lined import LONGER
from npuvm.compiler.cube.problem import CubeTile
from npuvm.compiler.native.loading import Native

__all__ = ["FILLED", "SURE", "Corner", "Whole", "choose_corner", "choose_large_corner", "may_pay", "prepare_corners"]

Floats = npt.NDArray[np.float64]

_JOIN_CYCLES = 1700
"""Cycles of filling the pipeline once more behind a barrier, and of cores that wait for the last one, roughly."""

_WORTH = 1.015
"""How many times as fast a product must be in panels, by estimates."""

_LEAST = 5_000
"""Cycles that panels save at least, by estimates: the host takes as long again for a shape in panels."""

_ROUNDS = (1, 2)
"""Tiles of a corner for each core."""

FILLED = 0.3
"""Share of a round that cores wait for the first tile of the corner."""

SURE = 1.01
"""How many times as fast two rounds must be than one by estimates: more copies before the corner are sure."""

_BETTER = 1.01
"""How many times as fast the corner of a large tile must be than that of the product's own tile, by estimates."""


class Whole(NamedTuple):
    """A product as one: rows and columns of its result, its tile with the estimated cycles, and those of the copies of its
    operands, 0 where one is read as it lies. In panels `barrier` cycles are between these."""

    rows: int
    cols: int
    tile: CubeTile
    copies: tuple[float, float]
    barrier: int

    @property
    def join(self) -> int:
        """Cycles from panel to panel."""
        return _JOIN_CYCLES + self.barrier

    @property
    def most(self) -> float:
        """What panels have to take less than."""
        apart = self.tile.cycles + sum(self.copies)
        return min(apart / _WORTH, apart - _LEAST)


class Corner(NamedTuple):
    """How many rows and columns of the result the corner has, and the estimated cycles of all panels with their copies."""

    rows: int
    cols: int
    cycles: float


def may_pay(copies: tuple[float, float]) -> bool:
    """Whether operands take long enough to copy that a product may be in panels."""
    return sum(copies) > _LEAST


def choose_corner(whole: Whole, cores: int) -> Corner | None:
    """The corner of a product, of one or two of its tiles for each of `cores` that share these.

    All rows or columns are in the corner where their operand is not copied. None where copies before the product are no slower.
    """
    m, n, tile, (a, b), _ = whole
    m1, n1, _ = tile.l1
    rows, cols = -(-m // m1), -(-n // n1)
    least, best = whole.most, None
    if tile.cycles > least:
        return None
    per_round, join = tile.cycles / -(-rows * cols // cores), whole.join
    for high, wide in _corners(cores, rows if a == 0 else 0, cols if b == 0 else 0):
        if high > rows or wide > cols or (high == rows and wide == cols):
            continue
        part_a, part_b = a * high / rows, b * wide / cols
        corner, left, right = (-(-each // cores) for each in (high * wide, (rows - high) * wide, rows * (cols - wide)))
        cycles = part_a + part_b + max((corner + FILLED) * per_round, a - part_a if left else b - part_b)
        if left:
            cycles += max(left * per_round, b - part_b) + join
        if right:
            cycles += right * per_round + join
        if corner > 1:
            cycles *= SURE
        if cycles < least:
            least, best = cycles, (high, wide)
    return None if best is None else Corner(min(best[0] * m1, m), min(best[1] * n1, n), least)


def choose_large_corner(whole: Whole, large: LargeTiles, own: Corner | None, native: Native | None) -> Corner | None:
    """The corner of a product whose operands are both copied, of one or two of some `large` tile for each core.

    Other panels take rounds of the large tile that is best for each. The `own` corner of the product's tile stays where no
    other is surely faster.
    """
    whole = whole._replace(copies=(whole.copies[0] * LONGER, whole.copies[1] * LONGER))
    most = whole.most
    if whole.tile.cycles > most or not len(large.each):
        return own
    corners = _large_corners(large.cores, tuple(large.m.tolist()), tuple(large.n.tolist()))
    if own is not None:
        m1, n1, _ = whole.tile.l1
        rounds = -(-(-(-own.rows // m1) * -(-own.cols // n1)) // large.cores)
        kept = np.array([[each] for each in (own.rows, own.cols, rounds, own.rows, own.cols)], dtype=np.float64)
        most = min(most, _best(whole, large, kept, native)[1] / _BETTER)
    best, cycles = _best(whole, large, corners, native)
    if cycles >= most:
        return own
    rows, cols, *_ = corners[:, best].tolist()
    return Corner(int(rows), int(cols), cycles)


def _best(whole: Whole, large: LargeTiles, corners: Floats, native: Native | None) -> tuple[int, float]:
    """The corner with the lowest estimate, by its number, and this estimate; infinite where none is inside the result."""
    m, n, cycles, join = (float(each) for each in (whole.rows, whole.cols, whole.tile.cycles, whole.join))
    a, b = whole.copies
    if native is not None:
        found: tuple[int, float] = native.choose_corner(corners, *large, m, n, cycles, a, b, join)
        return found
    rows, cols, rounds, least_m, least_n = corners
    # What the product is estimated to take more than rounds its panels take too.
    scale = cycles / large.cycles(np.array([m]), np.array([n]))[0]
    part_a, part_b = rows * (a / m), cols * (b / n)
    corner = rows * cols * (cycles / (m * n)) * (1.0 + FILLED / rounds)
    done = np.maximum(corner, np.where(rows < m, a - part_a, b - part_b)) + (part_a + part_b)
    below = np.maximum(large.cycles(m - rows, cols) * scale, (n - cols) * (b / n)) + join
    right = large.cycles(np.full_like(cols, m), n - cols) * scale + join
    done += np.where(rows < m, below, 0.0)
    done += np.where(cols < n, right, 0.0)
    done *= np.where(rounds > 1, SURE, 1.0)
    done[(least_m > m) | (least_n > n)] = np.inf
    best = int(done.argmin())
    return best, float(done[best])


def prepare_corners(cores: int, edges: Floats) -> None:
    """Make the corners of tiles with these edges m and n."""
    _large_corners(cores, *(tuple(each) for each in edges.tolist()))


@lru_cache(64)
def _large_corners(cores: int, m: tuple[float, ...], n: tuple[float, ...]) -> Floats:
    """Corners of tiles with these edges that have whole rounds of the cores: rows, columns, rounds, and the sizes of the
    smallest result that leaves a tile below and one beside them: narrow panels take more than their share of rounds."""
    grids = [(*each, times) for times in _ROUNDS for each in _grids(cores * times)]
    edges = zip(m, n, strict=True)
    found = [
        (high * m1, wide * n1, times, (high + 1) * m1, (wide + 1) * n1)
        for m1, n1 in edges
        for high, wide, times in grids
    ]
    return np.ascontiguousarray(np.array(found, dtype=np.float64).T)


def _grids(tiles: int) -> list[tuple[int, int]]:
    """Rows and columns of so many."""
    return [(high, tiles // high) for high in range(1, tiles + 1) if tiles % high == 0]


@lru_cache(256)
def _corners(cores: int, rows: int, cols: int) -> tuple[tuple[int, int], ...]:
    """Rows and columns of tiles of corners that have whole rounds of the cores; `rows` or `cols` are given where not 0."""
    if rows and cols:
        return ()
    if rows or cols:
        given = rows or cols
        others = sorted({-(-cores * times // given) for times in _ROUNDS})
        return tuple((rows, each) if rows else (each, cols) for each in others)
    return tuple(each for times in _ROUNDS for each in _grids(cores * times))
