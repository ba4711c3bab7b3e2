"""Other ways to choose a tile of a matrix product, as functions of its sizes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from benchmarks.tiles.oracle import Way

from npuvm.compiler.cube.chooser import TileChooser
from npuvm.compiler.cube.levels import finer_tiles, grown_tiles, l0c_slots
from npuvm.compiler.cube.problem import CubeTile, ProductSizes, TileProblem

__all__ = ["Choice", "rivals"]

Choice = Callable[[ProductSizes], Way]
Ints = npt.NDArray[np.int64]

_CATLASS_EDGES = ((128, 256), (256, 128))
"""m and n of the default tiles of CATLASS's DynamicOptimizedMatmul."""

_CATLASS_K0 = 64

_CATLASS_LONG, _CATLASS_LEAST = 5120, 1024
"""k from which it is split where tiles are at most half as many as cores, and where there are one or two."""


def rivals(problem: TileProblem, cores: int) -> dict[str, Choice]:
    """Ways to choose, by name.

    `formulas` is the compiler's own without measurements. `rounds only` takes the fewest rounds of tiles; `pipe only` charges
    every tile what a later one takes a core, with no rounding to rounds (the terms of MikPoly, ASPLOS 2024, each alone).
    `hand rules` are those of CATLASS's example 102: 128 x 256 or 256 x 128, k at L1 as large as fits, edges cut down until the
    cores have about as many tiles each; where these are few and k is long, k is split. Its stream-K is left out.
    """
    chooser = TileChooser(problem, cores)
    tiles, finer = grown_tiles(problem), finer_tiles(problem)
    formulas = TileChooser(problem, cores, (np.concatenate([tiles[0], finer[0]]), np.concatenate([tiles[1], finer[1]])))

    def rounds(sizes: ProductSizes) -> Way:
        tiles, depths, _, _ = chooser.core_cycles(sizes)
        m, n, k = tiles[:, 0], tiles[:, 1], tiles[:, 2]
        # Of as many rounds the smallest tile, with the longest steps.
        return _taken(tiles, depths, -(-_count(tiles, sizes) // cores) + 1e-6 * m * n - 1e-12 * k, sizes)

    def pipe(sizes: ProductSizes) -> Way:
        tiles, depths, _, later = chooser.core_cycles(sizes)
        return _taken(tiles, depths, _count(tiles, sizes) * later, sizes)

    return {
        "library" if chooser.library else "no library": lambda sizes: Way(chooser.choose(sizes)),
        "formulas": lambda sizes: Way(formulas.choose(sizes)),
        "rounds only": rounds,
        "pipe only": pipe,
        "hand rules": lambda sizes: _by_hand(problem, cores, sizes),
    }


def _count(tiles: Ints, sizes: ProductSizes) -> Ints:
    """How many tiles the result has."""
    return np.asarray(-(-sizes.m // tiles[:, 0]) * -(-sizes.n // tiles[:, 1]) * sizes.batch)


def _taken(tiles: Ints, depths: Ints, cost: npt.NDArray[np.float64], sizes: ProductSizes) -> Way:
    best = int(np.argmin(cost))
    return Way(_cut(tiles[best].tolist(), int(depths[best]), sizes))


def _cut(tile: list[int], depth: int, sizes: ProductSizes) -> CubeTile:
    m, n, k, _, _, k0 = tile
    m, n, size = min(m, sizes.m), min(n, sizes.n), max(sizes.k, 1)
    return CubeTile((m, n, min(k, size)), (m, n, min(k0, size)), depth, 0)


def _by_hand(problem: TileProblem, cores: int, sizes: ProductSizes) -> Way:
    m, n = _CATLASS_EDGES[0] if sizes.m <= sizes.n else _CATLASS_EDGES[1]
    m, n = min(m, -(-sizes.m // 16) * 16), min(n, -(-sizes.n // 16) * 16)

    def load(m: int, n: int) -> tuple[int, int]:
        tiles = -(-sizes.m // m) * -(-sizes.n // n) * sizes.batch
        return -(-tiles // cores) * m * n, m + n

    while min(m, n) > 16:
        smaller = min((max(16, m - 16), n), (m, max(16, n - 16)), key=lambda edges: load(*edges))
        if load(*smaller) >= load(m, n):
            break
        m, n = smaller
    while not (
        k0s := [k0 for k0 in (_CATLASS_K0, 32, 16) if l0c_slots(problem, np.array([[m, n, k0, m, n, k0]])).any()]
    ):
        m, n = (m // 2, n) if m > n else (m, n // 2)  # the rules are for larger buffers
    ladder = np.array([[m, n, k0s[0] * times, m, n, k0s[0]] for times in range(1, 65)])
    slots = l0c_slots(problem, ladder)
    last = int(np.flatnonzero(slots)[-1])
    return Way(_cut(ladder[last].tolist(), int(slots[last]), sizes), split=_parts_by_hand(cores, (m, n), sizes))


def _parts_by_hand(cores: int, edges: tuple[int, int], sizes: ProductSizes) -> int:
    """Parts of k: as many as leave a core for each tile, of those that divide k."""
    tiles = -(-sizes.m // edges[0]) * -(-sizes.n // edges[1])
    if not ((tiles <= cores // 2 and sizes.k > _CATLASS_LONG) or (tiles <= 2 and sizes.k > _CATLASS_LEAST)):
        return 1
    parts = (2, 4, 8, 16, cores)
    return max((each for each in parts if each * tiles <= cores and sizes.k % each == 0), default=1)
