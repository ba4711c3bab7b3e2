"""Products on the simulator with any tile and order, and the best of many for one shape."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from benchmarks.efficiency.search import simulate_alone

from npuvm.compiler.cube_chooser import TileChooser
from npuvm.compiler.cube_codegen import compile_matmul, problem_of
from npuvm.compiler.cube_family import ProductPrograms, ProductSort
from npuvm.compiler.cube_levels import fitting
from npuvm.compiler.cube_problem import CubeTile, ProductSizes, TileProblem
from npuvm.compiler.cube_spec import MatmulSpec, MatView
from npuvm.compiler.errors import CompileError
from npuvm.compiler.schedule import Pins
from npuvm.hw.config import NpuConfig
from npuvm.hw.errors import TrapError
from npuvm.isa import Image, Isa

__all__ = ["OWN", "Best", "Oracle", "Order", "text_of"]

_LONGEST = 32
"""Edges of tiles are up to this many blocks."""

_STEPS = (1, 2, 3, 4, 6, 8, 16, 32)
"""k at L1 is so many times k at L0."""

_ORDERED = 3
"""So many of the fastest tiles are tried in other orders."""

_WIDTHS = (2, 3, 4, 6, 8, 12, 16)
"""Rows of tiles in the bands of orders that are tried."""


class Order(NamedTuple):
    """The order in which cores walk tiles, as pins name it; without a name the one that the compiler takes."""

    name: str | None = None
    width: int | None = None
    grid: tuple[int, int] | None = None

    def __str__(self) -> str:
        if self.grid is not None:
            return f" {self.name} grid {self.grid[0]} x {self.grid[1]}"
        return "" if self.name is None else f" {self.name}{'' if self.width is None else f' {self.width}'}"


OWN = Order()


@dataclass(frozen=True, slots=True)
class Best:
    """The fastest tile found and its order, its cycles, and how many ways were simulated of how many legal tiles."""

    tile: CubeTile
    order: Order
    cycles: int
    tried: int
    space: int


def text_of(tile: CubeTile, order: Order = OWN) -> str:
    """A tile as m x n x k at L1/k at L0, and its order."""
    m, n, k = tile.l1
    return f"{m} x {n} x {k}/{tile.l0[2]}{order}"


class Oracle:
    """Runs fp16 products, each as one launch with an empty L2, and searches all legal tiles with edges of whole blocks."""

    def __init__(self, chip: NpuConfig, isa: Isa) -> None:
        self._chip, self._isa = chip, isa
        self.cores = chip.cores_with("cube")
        self.problem: TileProblem = problem_of(_product(64, 64, 64), chip, isa, Pins())
        self._programs: dict[tuple[object, ...], ProductPrograms] = {}
        self.space = self._legal()
        self._chooser = TileChooser(self.problem, self.cores, self.space)
        self._known: dict[tuple[ProductSizes, tuple[int, ...], Order], int | None] = {}

    def cycles(self, sizes: ProductSizes, tile: CubeTile) -> int:
        """Simulated cycles in the compiler's own order."""
        cycles = self.cycles_below(sizes, tile, None)
        assert cycles is not None
        return cycles

    def cycles_below(self, sizes: ProductSizes, tile: CubeTile, limit: int | None) -> int | None:
        """The same; None where they are more than `limit`."""
        return self._below(sizes, tile, OWN, limit)

    def search(self, sizes: ProductSizes, sample: int, taken: Iterable[CubeTile]) -> Best:
        """The best of the tiles `taken` and of `sample` others of all legal ones no larger than the product, and near it.

        Half of the sample have the lowest estimates of the formulas, the other half is drawn. From the best of all it goes to
        neighbours, at most `sample` of them, as long as one is better. The fastest are tried in other orders, all that there
        are, or as many as `sample`.
        """
        table, depths, estimates = self._chooser.candidates(sizes)
        ranked = np.argsort(estimates, kind="stable").tolist()
        first, rest = ranked[: sample // 2], ranked[sample // 2 :]
        drawn = random.Random(str(sizes)).sample(rest, min(len(rest), sample - len(first)))
        tiles = [_tile_of(table[at].tolist(), int(depths[at])) for at in [*first, *drawn]]
        run = _Race(self, sizes)
        for tile in [*taken, *tiles]:
            run.enter(tile, OWN)
        for _ in range(sample):
            if not any(run.enter(tile, OWN) for tile in self._neighbours(run.best[1], sizes)):
                break
        places = [tile for _, tile, _ in run.places[:_ORDERED]]
        for way in islice(((tile, order) for tile in places for order in self._orders(tile, sizes)), sample):
            run.enter(*way)
        cycles, tile, order = run.best
        return Best(tile, order, cycles, len(run.entered), len(table))

    def _neighbours(self, tile: CubeTile, sizes: ProductSizes) -> Iterator[CubeTile]:
        """Legal tiles with one edge a block longer or shorter, k at L0 likewise, or other steps over k at L1."""
        cube = self._chip.core.cube
        blocks = cube.m, cube.n, cube.k_bytes // self.problem.item
        m, n, k0 = (-(-size // block) for size, block in zip(tile.l0, blocks, strict=True))
        steps = max(1, round(tile.l1[2] / tile.l0[2]))
        at = min(range(len(_STEPS)), key=lambda at: abs(_STEPS[at] - steps))
        moves = [(m + 1, n, k0), (m - 1, n, k0), (m, n + 1, k0), (m, n - 1, k0), (m, n, k0 + 1), (m, n, k0 - 1)]
        around = [(*move, _STEPS[at]) for move in [*moves, (m, n, 2 * k0), (m, n, k0 // 2)]]
        around += [(m, n, k0, _STEPS[other]) for other in (at - 1, at + 1) if 0 <= other < len(_STEPS)]
        rows = [(m, n, k0 * steps, m, n, k0) for m, n, k0, steps in around if min(m, n, k0) > 0]
        table, depths = fitting(self.problem, np.array(rows, dtype=np.int64) * (blocks * 2))
        limits = (sizes.m, sizes.n, max(sizes.k, 1)) * 2
        for row, depth in zip(np.minimum(table, limits).tolist(), depths.tolist(), strict=True):
            yield _tile_of(row, depth)

    def _orders(self, tile: CubeTile, sizes: ProductSizes) -> Iterator[Order]:
        """Rows, columns, bands of rows, and grids of cores."""
        rows, cols = -(-sizes.m // tile.l1[0]), -(-sizes.n // tile.l1[1])
        if min(rows, cols) == 1:
            return
        yield from (Order("row"), Order("column"))
        yield from (Order("swizzle", width) for width in _WIDTHS if width < rows)
        for down in range(1, self.cores + 1):
            across = self.cores // down
            if down * across == self.cores and down <= rows and across <= cols:
                yield from (Order(name, None, (down, across)) for name in ("row", "column"))

    def _legal(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Every tile of whole blocks that fits: m and n alike at L1 and L0, k at L1 a multiple of k at L0."""
        cube = self._chip.core.cube
        edges = np.arange(1, _LONGEST + 1)
        block_k = cube.k_bytes // self.problem.item
        m, n, k0, steps = (
            axis.ravel() for axis in np.meshgrid(edges * cube.m, edges * cube.n, edges * block_k, _STEPS)
        )
        return fitting(self.problem, np.stack([m, n, k0 * steps, m, n, k0], axis=1))

    def _below(self, sizes: ProductSizes, tile: CubeTile, order: Order, limit: int | None) -> int | None:
        """Simulated cycles; None where they are more than `limit`, or where there is no such program."""
        key = sizes, (*tile.l1, tile.l0[2], tile.l0c_depth), order
        found = self._known.get(key)
        if found is None and (key not in self._known or limit is None):
            image = self._image(sizes, tile, order)
            found = self._known[key] = None if image is None else self.simulated(sizes, image, limit)
        return found

    def _image(self, sizes: ProductSizes, tile: CubeTile, order: Order) -> Image | None:
        m, n, k, *_ = sizes
        if order != OWN:
            pins = Pins(
                tile={"l1": tile.l1, "l0": tile.l0},
                ring_depth={"l0c": tile.l0c_depth},
                order=order.name,
                swizzle_width=order.width,
                grid=order.grid,
            )
            try:
                kernel = compile_matmul(_product(m, n, k), 3, self._chip, self._isa, pins)
            except CompileError:  # such a grid does not fit these tiles
                return None
            return None if kernel is None else kernel.image
        sort = ProductSort(_product(m, n, k))
        programs = self._programs.get(sort.key)
        if programs is None:
            programs = self._programs[sort.key] = ProductPrograms(sort, 3, self._chip, self._isa)
        return programs.image("product", sort.numbers, (m, n, k, 1), tile)

    def simulated(self, sizes: ProductSizes, image: Image, limit: int | None) -> int | None:
        """Cycles of a program of the product alone; None where they are more than `limit`."""
        m, n, k, *_ = sizes
        nbytes = {"a": 2 * m * k, "b": 2 * k * n, "c": 2 * m * n}
        try:
            return simulate_alone(image, tuple(nbytes), nbytes, self._chip, self._isa, limit).cycles
        except TrapError:
            return None


class _Race:
    """Ways that were simulated for one shape, the fastest first."""

    def __init__(self, oracle: Oracle, sizes: ProductSizes) -> None:
        self._oracle, self._sizes = oracle, sizes
        self.entered: set[tuple[object, ...]] = set()
        self.places: list[tuple[int, CubeTile, Order]] = []

    @property
    def best(self) -> tuple[int, CubeTile, Order]:
        """Cycles of the fastest, its tile and order."""
        return self.places[0]

    def enter(self, tile: CubeTile, order: Order) -> bool:
        """Simulate a way where it is new; whether it is the fastest so far."""
        key = tile.l1, tile.l0, tile.l0c_depth, order
        if key in self.entered:
            return False
        self.entered.add(key)
        cycles = self._oracle._below(self._sizes, tile, order, self.best[0] if self.places else None)
        if cycles is None:
            return False
        won = not self.places or cycles < self.best[0]
        self.places.append((cycles, tile, order))
        self.places.sort(key=lambda place: place[0])
        return won


def _tile_of(row: list[int], depth: int) -> CubeTile:
    m, n, k, m0, n0, k0 = row
    return CubeTile((m, n, k), (m0, n0, k0), depth, 0)


def _product(m: int, n: int, k: int) -> MatmulSpec:
    a, b, c = (MatView(at, "fp16", row, 1) for at, row in enumerate((k, n, n)))
    return MatmulSpec(m, n, k, a, b, c)
