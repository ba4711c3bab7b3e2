"""The loop nests of a product's program: which one a shape takes, and the grids that walk its tiles.

Where all of k is in one L1 tile, an operand stays there for as long as its tile serves, and tiles are walked row by row or
column by column, whichever loads less or has fewer cores at the same lines at a time; else k is walked. Products of many tiles
walk them in bands of rows, so that what cores read at a time is little and near; where L2 has no room for the right operand but
for the left one, all rows are one band.
"""

from __future__ import annotations

from math import gcd, inf
from typing import NamedTuple

from npuvm.compiler.cube.problem import CubeTile, Tail
from npuvm.compiler.cube.spec import MatmulSpec
from npuvm.compiler.emit.symint import ceil_div
from npuvm.compiler.emit.walk import Axis, GridWalk
from npuvm.hw.config import NpuConfig

__all__ = [
    "BANDS",
    "COLUMNS",
    "NESTS",
    "ROUNDS",
    "STEPS",
    "TAILED",
    "WHOLE",
    "Nest",
    "NestChooser",
    "nest_grids",
    "nests_of",
]

WHOLE, STEPS, BANDS, ROUNDS, COLUMNS = NESTS = range(5)
"""Loop nests: all of k in one L1 tile; k in steps; k in steps with the tiles in bands; k in steps with the cores at columns
that are side by side in each round; and all of k with the rows fastest."""

_WAVES = 4
"""Tiles for each core from which bands pay: the cores' parts are then larger than a row of tiles or two."""

_FEW = 8
"""Tiles for each core up to which whole columns pay; the parts of cores of more are larger than a column, and bands do."""

TAILED = len(NESTS)
"""The nest of a product in two parts (`cube.tails`): the first in bands, of one row where it has no use for them."""


class Nest(NamedTuple):
    """The loop nest of a shape: its number, rows of tiles in a band or columns of a round, and the tiles of each grid."""

    number: int
    band: int
    tiles: tuple[int, ...]

    @property
    def by_grid(self) -> bool:
        """Whether cores share the tiles of each grid, rather than those of all grids put one after another."""
        return self.number == ROUNDS

    @property
    def is_tailed(self) -> bool:
        """Whether they share those of the last grid for themselves."""
        return self.number == TAILED


_SAVED = 1.15
"""How much more a walk in rows must load to be left; below that, either may be the faster one by chance."""

_FIRST = 2
"""Tiles of each core up to which columns gain nothing where all of k is in one: in either walk all come from main memory."""

_KEPT = 0.85
"""Share of L2 that holds on to operands beside what else goes through it, seen in simulated runs."""


class NestChooser:
    """Chooses for `cores` cores that share the tiles evenly, and an L2 that holds `room` elements of the operands.

    `burst`: loads of shorter rows take as long as of so many elements; without it tiles with all of k are walked in rows. L2
    keeps `line` elements of a row or none of them. `spread`: addresses lie over the parts of memory as if by chance. `crowd`:
    shares of the cores at one column from which on these wait for each other, where all of k is in one L1 tile and in steps.
    """

    def __init__(
        self,
        cores: int,
        room: float,
        burst: float | None = None,
        line: int = 1,
        spread: bool = True,
        crowd: tuple[float, float] = (inf, inf),
    ) -> None:
        self._line, self._spread, self._crowd = line, spread, crowd
        self._cores, self._whole, self._room, self._burst = cores, room, room * _KEPT, burst
        self._shares = [count for count in range(1, cores + 1) if cores % count == 0]

    def choose(
        self,
        m: int,
        n: int,
        k: int,
        batch: int,
        tile: CubeTile,
        *,
        meets: bool = False,
        pitch: int = 0,
        kept: bool = True,
    ) -> Nest:
        """The nest for a product of these sizes.

        `meets`: the rows of its right operand lie in few parts of L2; `pitch`: so many elements apart, where that is known.
        `kept`: L2 keeps what is read of its left operand.
        """
        m1, n1, k1 = tile.l1
        rows, cols = -(-m // m1), -(-n // n1)
        tiles = batch * rows * cols
        if k1 >= k:
            # In rows cores load the same tiles of the right operand at one time, in columns each its own of the left.
            columns = tiles > self._cores and min(rows, cols) > 1
            columns = columns and (
                meets
                or self._loads_less((m, n, k), batch, (rows, cols), (m1, n1))
                or (kept and self._is_crowded(tiles, cols, (m, n, k), batch, self._crowd[0], _FIRST))
            )
            if self._cores == 1 and self._burst is not None and min(rows, cols) > 1 and not columns:
                columns = self._kept_band(rows, n, k, (m1, n1), pitch) == rows
            return Nest(COLUMNS if columns else WHOLE, 1, (tiles,))
        if rows > 1 and cols > 1 and self._cores == 1:
            band = self._kept_band(rows, n, k, (m1, n1), pitch)
            if band > 1:
                return _in_bands(band, rows, cols, batch)
        elif rows > 1 and cols > 1 and self._takes_columns(tiles, batch, n1, (m + n) * k):
            return _in_bands(rows, rows, cols, batch)
        elif rows > 1 and cols > 1 and tiles >= _WAVES * self._cores:
            band = self._band(rows, tiles, n1 / m1)
            if batch == 1 and not self._stays(rows, band, (m, n1, k)):
                band = self._narrower(rows, band, (m, n1, k))
            columns = band == rows and rows > self._cores and n * k > self._room and self._stays(rows, rows, (m, n1, k))
            if band < rows or columns:
                return _in_bands(band, rows, cols, batch)
        if not self._spread and batch == 1 and tiles > self._cores > 1:
            return self._side_by_side(rows, cols, m > n or meets)
        if rows > 1 and cols > 1 and self._is_crowded(tiles, cols, (m, n, k), batch, self._crowd[1]):
            return _in_bands(2, rows, cols, batch)
        return Nest(STEPS, 1, (tiles,))

    def choose_tailed(self, k: int, tail: Tail) -> Nest | None:
        """The nest for a product in two parts; None where cores walk the first one in another way than in bands."""
        first = self.choose(tail.rows, tail.cols, k, 1, tail.main)
        if first.number not in (STEPS, BANDS):
            return None
        m1, n1, _ = tail.main.l1
        rows, cols = -(-tail.rows // m1), -(-tail.cols // n1)
        tiles = first.tiles if first.number == BANDS else ((rows - 1) * cols, cols)
        m2, n2, _ = tail.rest.l1
        return Nest(TAILED, first.band, (*tiles, -(-tail.rest_rows // m2) * -(-tail.rest_cols // n2)))

    def _takes_columns(self, tiles: int, batch: int, n1: int, read: int) -> bool:
        """Whether few tiles, whose rows of the right operand are whole lines, are walked column by column.

        Cores then read all of the right operand with their first tiles, a part of a core's is at one column, and what is new
        of a later tile are rows of the left one. In rows all cores come to columns that nobody has read, at one time.
        """
        if not self._spread or batch > 1 or not self._cores < tiles < _FEW * self._cores:
            return False
        return self._line > 1 and n1 % self._line == 0 and read <= self._room

    def _side_by_side(self, rows: int, cols: int, tall: bool) -> Nest:
        """The nest with which cores are at columns side by side, which lie in as many parts of memory as there can be.

        `tall`: at all columns, each core with the rows of one, so that what is new of the left operand comes in all rounds;
        else rows have cores of their own, where these are as many for each, and what is new of the right one does.
        """
        tiles = rows * cols
        each = -(-tiles // self._cores)
        if tall and each < rows and cols > 1:
            return _in_bands(each, rows, cols, 1)
        if self._cores % rows:
            return Nest(STEPS, 1, (tiles,))
        side = self._cores // rows
        first = rows * ((cols - 1) // side * side)
        return Nest(ROUNDS, side, (first, tiles - first))

    def _loads_less(
        self, sizes: tuple[int, int, int], batch: int, tiles: tuple[int, int], tile: tuple[int, int]
    ) -> bool:
        """Whether in columns the core that loads most loads far less, and L2 keeps the left operand until the next one.

        Each tile loads one operand, and each row or column that a core's tiles lie in the other.
        """
        (m, n, k), (rows, cols), (m1, n1) = sizes, tiles, tile
        wide = max(n1, self._burst or 0)
        # Tiles that leave for longer than they are loaded gain nothing.
        if self._burst is None or k * wide <= m1 * n1:
            return False
        each = -(-batch * rows * cols // self._cores)
        in_rows = each * wide + _spanned(each, cols) * m1
        in_columns = each * m1 + _spanned(each, rows) * wide
        return in_rows > _SAVED * in_columns and batch * ((m + n) * k + m * n) <= self._room

    def _is_crowded(
        self, tiles: int, cols: int, sizes: tuple[int, int, int], batch: int, crowd: float, most: int = 1
    ) -> bool:
        """Whether so large a share of the cores walk rows at one column, and ask for the same lines one after the other.

        Cores that have as many tiles begin at columns that are as far apart, or the same where these tiles are whole rows.
        Other things decide where cores have up to `most` tiles, there are several matrices, or L2 has no room.
        """
        m, n, k = sizes
        if crowd > 1 or batch > 1 or tiles <= most * self._cores or (m + n) * k + m * n > self._room:
            return False
        short, longer = divmod(tiles, self._cores)
        shorter = self._cores - longer
        met = longer * longer * gcd(short + 1, cols) + shorter * shorter * gcd(short, cols)
        return met >= crowd * cols * self._cores * self._cores

    def _band(self, rows: int, tiles: int, wide: float) -> int:
        """Rows of tiles in a band: so that a core's part is about square, and bands begin where the parts of cores do.

        `wide` is a tile's width over its height.
        """
        square = (tiles / self._cores * wide) ** 0.5
        bands = min(self._shares, key=lambda count: (abs(count - rows / square), count))
        return -(-rows // bands)

    def _kept_band(self, rows: int, n: int, k: int, tile: tuple[int, int], pitch: int) -> int:
        """Rows of tiles in the bands of one core, of which L2 keeps the left operand from column to column; 1: it walks rows.

        Until a line is read again all else that is read, two tiles of the operand that changes, and the results come by.
        """
        m1, n1 = tile
        if (n + 2 * m1) * k + n * m1 <= self._whole:
            return 1
        wide = n1 + self._line - gcd(n1, self._line, pitch)
        widest = int((self._whole - 2 * wide * k) / (m1 * (k + n1)))
        return -(-rows // -(-rows // widest)) if widest > 1 else 1

    def _stays(self, rows: int, band: int, sizes: tuple[int, int, int]) -> bool:
        """Whether L2 still has the left operand when the cores come to their next columns of tiles.

        Until then all of it and a column of the right one for each of the cores that share a band go through. `sizes` are those
        of m and k, and between them the width of a tile.
        """
        m, n1, k = sizes
        return (m + self._cores // -(-rows // band) * n1) * k <= self._room

    def _narrower(self, rows: int, band: int, sizes: tuple[int, int, int]) -> int:
        """The widest band that divides the rows with which the left operand stays in L2; the same where it never does."""
        even = (rows // count for count in self._shares if rows % count == 0)
        return next((each for each in even if each < band and self._stays(rows, each, sizes)), band)


def _in_bands(band: int, rows: int, cols: int, batch: int) -> Nest:
    """The nest of so many rows and columns of tiles in bands: all but the last one, and that."""
    first = (rows - 1) // band * band
    return Nest(BANDS, band, (first * cols * batch, (rows - first) * cols * batch))


def _spanned(tiles: int, length: int) -> int:
    """How many lines of `length` tiles a core's tiles lie in at most, when all cores have so many in a row."""
    return 1 if length % tiles == 0 else (tiles + length - 2) // length + 1


def nests_of(chip: NpuConfig) -> tuple[int, ...]:
    """The nests that a chip has a use for."""
    return tuple(nest for nest in NESTS if nest != ROUNDS or not chip.memory.address_hash)


def nest_grids(nest: int, spec: MatmulSpec, m: int, n: int, band: int) -> list[GridWalk]:
    """The grids of a nest for tiles of m x n, in bands of `band` rows of tiles or rounds of `band` columns."""
    batch = [Axis(f"b{at}", size) for at, size in enumerate(spec.batch)]
    rows, cols = ceil_div(spec.m, m), Axis("n", ceil_div(spec.n, n))
    if nest == COLUMNS:
        return [GridWalk((*batch, cols, Axis("m", rows)), {})]
    if nest == ROUNDS:
        rounds = ceil_div(cols.trip, band) - 1
        return [
            GridWalk((*batch, Axis("m", rows), Axis("n", band), Axis("n", rounds, band)), {}),
            GridWalk((*batch, Axis("m", rows), Axis("n", cols.trip - rounds * band)), {"n": rounds * band}),
        ]
    if nest != BANDS:
        return [GridWalk((*batch, Axis("m", rows), cols), {})]
    whole = ceil_div(rows, band) - 1
    return [
        GridWalk((*batch, Axis("m", whole, band), cols, Axis("m", band)), {}),
        GridWalk((*batch, cols, Axis("m", rows - whole * band)), {"m": whole * band}),
    ]
