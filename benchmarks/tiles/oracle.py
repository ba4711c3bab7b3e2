"""Products on the simulator with any tile, and the best of many tiles for one shape."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from benchmarks.efficiency.search import simulate_alone

from npuvm.compiler.cube_chooser import TileChooser
from npuvm.compiler.cube_codegen import problem_of
from npuvm.compiler.cube_family import ProductPrograms, ProductSort
from npuvm.compiler.cube_levels import fitting
from npuvm.compiler.cube_problem import CubeTile, ProductSizes, TileProblem
from npuvm.compiler.cube_spec import MatmulSpec, MatView
from npuvm.compiler.schedule import Pins
from npuvm.hw.config import NpuConfig
from npuvm.hw.errors import TrapError
from npuvm.isa import Isa

__all__ = ["Best", "Oracle"]

_LONGEST = 32
"""Edges of tiles are up to this many blocks."""


@dataclass(frozen=True, slots=True)
class Best:
    """The fastest tile found, its cycles, and how many of how many legal tiles were simulated."""

    tile: CubeTile
    cycles: int
    tried: int
    space: int


class Oracle:
    """Runs fp16 products, each as one launch with an empty L2, and searches all legal tiles with edges of whole blocks."""

    def __init__(self, chip: NpuConfig, isa: Isa) -> None:
        self._chip, self._isa = chip, isa
        self._cores = chip.cores_with("cube")
        spec = _product(64, 64, 64)
        self.problem: TileProblem = problem_of(spec, chip, isa, Pins())
        self._programs: dict[tuple[object, ...], ProductPrograms] = {}
        self._space = self._legal()
        self._chooser = TileChooser(self.problem, self._cores, self._space)
        self._known: dict[tuple[ProductSizes, tuple[int, ...]], int | None] = {}

    def cycles(self, sizes: ProductSizes, tile: CubeTile) -> int:
        """Simulated cycles."""
        cycles = self._below(sizes, tile, None)
        assert cycles is not None
        return cycles

    def _below(self, sizes: ProductSizes, tile: CubeTile, limit: int | None) -> int | None:
        """Simulated cycles; None where they are more than `limit`."""
        key = sizes, (*tile.l1, tile.l0[2], tile.l0c_depth)
        found = self._known.get(key)
        if found is None and (key not in self._known or limit is None):
            found = self._known[key] = self._simulated(sizes, tile, limit)
        return found

    def search(self, sizes: ProductSizes, sample: int, taken: Iterable[CubeTile]) -> Best:
        """The best of the tiles `taken` and of `sample` others of all legal ones no larger than the product.

        Half of the sample have the lowest estimates of the formulas, the other half is drawn.
        """
        table, depths, estimates = self._chooser.candidates(sizes)
        order = np.argsort(estimates, kind="stable")
        first, rest = order[: sample // 2], order[sample // 2 :].tolist()
        drawn = random.Random(str(sizes)).sample(rest, min(len(rest), sample - len(first)))
        tiles = {(*tile.l1, tile.l0[2], tile.l0c_depth): tile for tile in taken}
        for at in [*first.tolist(), *drawn]:
            m, n, k, m0, n0, k0 = table[at].tolist()
            tiles.setdefault((m, n, k, k0, int(depths[at])), CubeTile((m, n, k), (m0, n0, k0), int(depths[at]), 0))
        best: tuple[CubeTile, int] | None = None
        for tile in tiles.values():
            cycles = self._below(sizes, tile, None if best is None else best[1])
            if cycles is not None and (best is None or cycles < best[1]):
                best = tile, cycles
        assert best is not None
        return Best(*best, len(tiles), len(table))

    def _legal(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Every tile of whole blocks that fits: m and n alike at L1 and L0, k at L1 a multiple of k at L0."""
        cube = self._chip.core.cube
        edges = np.arange(1, _LONGEST + 1)
        block_k = cube.k_bytes // self.problem.item
        m, n, k0, steps = (
            axis.ravel()
            for axis in np.meshgrid(edges * cube.m, edges * cube.n, edges * block_k, (1, 2, 3, 4, 6, 8, 16, 32))
        )
        return fitting(self.problem, np.stack([m, n, k0 * steps, m, n, k0], axis=1))

    def _simulated(self, sizes: ProductSizes, tile: CubeTile, limit: int | None) -> int | None:
        m, n, k, *_ = sizes
        sort = ProductSort(_product(m, n, k))
        programs = self._programs.get(sort.key)
        if programs is None:
            programs = self._programs[sort.key] = ProductPrograms(sort, 3, self._chip, self._isa)
        image = programs.image("product", sort.numbers, (m, n, k, 1), tile)
        nbytes = {"a": 2 * m * k, "b": 2 * k * n, "c": 2 * m * n}
        try:
            return simulate_alone(image, tuple(nbytes), nbytes, self._chip, self._isa, limit).cycles
        except TrapError:
            return None


def _product(m: int, n: int, k: int) -> MatmulSpec:
    a, b, c = (MatView(at, "fp16", row, 1) for at, row in enumerate((k, n, n)))
    return MatmulSpec(m, n, k, a, b, c)
