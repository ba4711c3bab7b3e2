"""Products in two parts: whole rounds of one tile on all cores, and behind them rows or columns in tiles of their own.

One tile for all leaves cores without work in its last round, or is smaller than the one that does most in a cycle. Both parts
are one program, in which the second one's loads begin while the first is computed, and add up k in the same steps.
"""

from __future__ import annotations

from math import gcd, inf

from npuvm.compiler.cube.candidates import Asked, By, Costed
from npuvm.compiler.cube.chooser import TileChooser
from npuvm.compiler.cube.problem import CubeTile, ProductSizes, Tail

__all__ = ["TailChooser"]

_WORTH = 1.01
"""How many times as fast a product must be with a tail, by estimates."""

_OTHER = 1.03
"""The same where its tile is another one than that without a tail."""

_LEAST = 4000
"""Cycles that a product takes at least for which a tail is asked."""

_BY_MEMORY = 0.8
"""Share of a product that main memory takes from which on cores wait for it in all rounds; fewer of these gain nothing."""

_KEPT = 256


class TailChooser:
    """Chooses tails for the products of a tile chooser, which are shared by `cores` cores."""

    def __init__(self, chooser: TileChooser, cores: int) -> None:
        self._chooser, self._cores = chooser, cores
        self._known: dict[tuple[ProductSizes, int], Tail | None] = {}

    def choose(self, sizes: ProductSizes, tile: CubeTile) -> Tail | None:
        """The tail of a product that takes `tile` without one; None where that is no slower.

        k is added up in the same steps either way.
        """
        if sizes.batch != 1 or tile.cycles < _LEAST or self._cores == 1 or tile.l1[2] >= sizes.k:
            return None
        # The second part would read one operand past L2 once more.
        if self._chooser.is_off(sizes):
            return None
        key = sizes, tile.l0[2]
        if key not in self._known:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = self._found(sizes, tile)
        return self._known[key]

    def _found(self, sizes: ProductSizes, tile: CubeTile) -> Tail | None:
        """The better of both cuts for the tile that is the best if smaller ones do what its whole rounds leave.

        Where neither is worth it, the same with fewer rows or columns, so that all cores have as many tiles of the first part.
        """
        main = self._chooser.part(sizes, Asked(By.TAILED, tile.l0[2], sizes.m, sizes.n, tile.cycles / _WORTH))
        if main is None:
            return None
        for even in (False, True):
            cuts = [self._cut(sizes, main, by_rows=by_rows, even=even) for by_rows in (True, False)]
            found = min((each for each in cuts if each is not None), key=lambda each: each.cycles, default=None)
            if found is not None:
                worth = _WORTH if found.main.l1 == tile.l1 else _OTHER
                if found.cycles * worth < tile.cycles:
                    return found
        return None

    def _cut(self, sizes: ProductSizes, main: Costed, *, by_rows: bool, even: bool) -> Tail | None:
        """Whole rounds of the tile, and the best tile for the rows or columns behind them.

        Rows and columns of tiles are whole, so some of the last round of tiles may be missing; of `even` cuts none is.
        """
        m, n = sizes.m, sizes.n
        tile_m, tile_n, l1_k, l0_k, _ = main.tile
        rows, cols = -(-m // tile_m), -(-n // tile_n)
        across = cols if by_rows else rows
        whole = rows * cols // self._cores * self._cores // across
        if even:
            step = self._cores // gcd(self._cores, across)
            if whole % step == 0:
                return None
            whole = whole // step * step
        if not 0 < whole < (rows if by_rows else cols):
            return None
        size = (whole * tile_m, n) if by_rows else (m, whole * tile_n)
        left = (m - size[0], n) if by_rows else (m, n - size[1])
        behind = sizes._replace(m=left[0], n=left[1])
        rest = self._chooser.part(behind, Asked(By.ROUNDS, l0_k, min(tile_m, left[0]), tile_n, inf))
        if rest is None:
            return None
        rounds = -(-whole * across // self._cores)
        # Of operands that L2 has no room for, the last round reads one whole from main memory.
        again = self._chooser.read(behind) if self._chooser.is_vast(sizes) else 0.0
        last_rounds = rest.measure + rest.measure / rest.later * (rest.new_rows if by_rows else rest.new_cols)
        cycles = main.once + rounds * main.later + max(last_rounds, again)
        if main.fetched > _BY_MEMORY * cycles:
            return None
        first = self._chooser.tile(sizes._replace(m=size[0], n=size[1]), main.tile, cycles)
        last = self._chooser.tile(behind, [*rest.tile[:2], l1_k, *rest.tile[3:]], cycles)
        if last.l1[0] > first.l1[0] or last.l1[1] > first.l1[1]:
            return None
        return Tail(first, *size, last, *left, int(cycles))
