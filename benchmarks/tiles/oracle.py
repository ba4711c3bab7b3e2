"""Products on the simulator with any tile and order, as they lie or with copied operands, and the best of many ways."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from benchmarks.efficiency.kernels import matmul
from benchmarks.tiles.launches import simulate_kernel
from benchmarks.tiles.report import geomean

from npuvm.compiler import compile_kernel
from npuvm.compiler.cube.chooser import TileChooser
from npuvm.compiler.cube.codegen import problem_of
from npuvm.compiler.cube.family import ProductPrograms, ProductSort
from npuvm.compiler.cube.levels import fitting
from npuvm.compiler.cube.problem import CubeTile, ProductSizes, TileProblem
from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.errors import CompileError
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.program.compiled import CompiledKernel, Launch, TensorSpec
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["Best", "Oracle", "Order", "Way"]

_LONGEST = 32
"""Edges of tiles are up to this many blocks."""

_STEPS = (1, 2, 3, 4, 6, 8, 16, 32)
"""k at L1 is so many times k at L0."""

_ORDERED = 3
"""So many of the fastest tiles are tried in other orders."""

_SPLIT = 8
"""Tiles simulated for each number of parts of k."""

_SHORTEST = 64
"""Parts of k are this long at least."""

_WIDTHS = (2, 3, 4, 6, 8, 12, 16)
"""Rows of tiles in the bands of orders that are tried."""


_GAPS = (1, 3, 5, 9)
"""Gaps before tensors, in units of 512 bytes, that put them at other places."""

_LINE = 512
"""Copies of operands have rows at multiples of so many bytes."""


class Order(NamedTuple):
    """The order in which cores walk tiles, as pins name it; without a name the one that the compiler takes."""

    name: str | None = None
    width: int | None = None
    grid: tuple[int, int] | None = None

    def __str__(self) -> str:
        if self.grid is not None:
            return f" {self.name} grid {self.grid[0]} x {self.grid[1]}"
        return "" if self.name is None else f" {self.name}{'' if self.width is None else f' {self.width}'}"


_OWN = Order()


@dataclass(frozen=True, slots=True)
class Way:
    """A way to run a product; `padded`: operands whose rows begin off blocks are copied first to rows that do not.

    `split`: so many parts of k are products of their own, added up in the same launch.
    """

    tile: CubeTile
    order: Order = _OWN
    padded: bool = False
    split: int = 1

    def __str__(self) -> str:
        m, n, k = self.tile.l1
        split = f", k in {self.split}" if self.split > 1 else ""
        return f"{m} x {n} x {k}/{self.tile.l0[2]}{self.order}{' copied' if self.padded else ''}{split}"


@dataclass(frozen=True, slots=True)
class Best:
    """The fastest way found, its cycles, and how many ways were simulated of how many legal tiles."""

    way: Way
    cycles: int
    tried: int
    space: int


class Oracle:
    """Runs fp16 products, each as one launch with an empty L2, and searches all legal tiles with edges of whole blocks."""

    def __init__(self, chip: NpuConfig, isa: Isa) -> None:
        self._chip, self._isa = chip, isa
        self.cores = chip.cores_with("cube")
        self.problem: TileProblem = problem_of(_product(64, 64, 64), chip, isa, Pins())
        self._programs: dict[tuple[object, ...], ProductPrograms] = {}
        self.space = self._legal()
        self._chooser = TileChooser(self.problem, self.cores, self.space)
        self._known: dict[tuple[ProductSizes, Way], int | None] = {}

    def cycles(self, sizes: ProductSizes, way: Way) -> int:
        """Simulated cycles."""
        cycles = self.cycles_below(sizes, way, None)
        assert cycles is not None
        return cycles

    def cycles_below(self, sizes: ProductSizes, way: Way, limit: int | None) -> int | None:
        """The same; None where they are more than `limit`, or where there is no such program."""
        way = replace(way, tile=replace(way.tile, cycles=0))
        key = sizes, way
        found = self._known.get(key)
        if found is None and (key not in self._known or limit is None):
            made = self._made(sizes, way)
            found = None if made is None else simulate_kernel(made, self._chip, self._isa, limit)
            self._known[key] = found
        return found

    def compiled(self, sizes: ProductSizes) -> tuple[int, str]:
        """Cycles of what the compiler makes of the product, and how many operands it copies."""
        made = compile_kernel(matmul, _shapes(sizes), self._chip, self._isa)
        cycles = simulate_kernel(made, self._chip, self._isa)
        assert cycles is not None
        between = [each.name for each in made.tensors if each.kind == "workspace"]
        return cycles, f"through {', '.join(between)}" if between else "as it lies"

    def elsewhere(self, sizes: ProductSizes, way: Way) -> float:
        """Cycles of `way` over the compiler's with tensors at places for which it was not found, the geometric mean."""
        own, other = compile_kernel(matmul, _shapes(sizes), self._chip, self._isa), self._made(sizes, way)
        assert other is not None
        found = [[simulate_kernel(each, self._chip, self._isa, gap=gap) for each in (other, own)] for gap in _GAPS]
        return geomean([best / cycles for best, cycles in found if best and cycles])

    def may_be_padded(self, sizes: ProductSizes) -> bool:
        """Whether rows begin off blocks of memory where L2 does not keep what is read so."""
        off = any(pitch % BLOCK_BYTES for pitch in (sizes.a_pitch, sizes.b_pitch))
        return off and self._chip.memory.l2.unaligned_reads == "uncached"

    def search(self, sizes: ProductSizes, sample: int, taken: Iterable[Way], *, split: bool = True) -> Best:
        """The best of the ways `taken` and of `sample` others of all legal ones no larger than the product, and near it.

        Half of the sample have the lowest estimates of the formulas, the other half is drawn. From the best of all it goes to
        neighbours, at most `sample` of them, as long as one is better. The fastest are tried in other orders, all that there
        are, or as many as `sample`. Where operands may be copied, all of this is done with and without. Where the best one has
        fewer tiles than there are cores, k may be `split`: for each number of parts the tiles of lowest estimates, then a walk.
        """
        race = _Race(self, sizes)
        taken = list(taken)
        for padded in (False, True) if self.may_be_padded(sizes) else (False,):
            lies = sizes
            if padded:
                lies = sizes._replace(a_pitch=_lined(sizes.a_pitch), b_pitch=_lined(sizes.b_pitch))
            race.enter_all(way for way in taken if way.padded == padded)
            race.enter_all(Way(tile, padded=padded) for tile in self._sampled(lies, sample))
            for _ in range(sample):
                if not race.enter_any(self._neighbours(race.best(padded), sizes)):
                    break
            ways = (each for way in race.places(padded)[:_ORDERED] for each in self._orders(way, sizes))
            race.enter_all(islice(ways, sample))
        numbers = self.splits(sizes, race.best().tile) if split else []
        for number in numbers:
            part = sizes._replace(k=sizes.k // number, batch=number)
            race.enter_all(Way(tile, split=number) for tile in self._sampled(part, _SPLIT))
        for _ in range(sample if numbers else 0):
            if race.best().split == 1 or not race.enter_any(self._neighbours(race.best(), sizes)):
                break
        way = race.best()
        return Best(way, self.cycles(sizes, way), race.entered, len(self._chooser.candidates(sizes)[0]))

    def splits(self, sizes: ProductSizes, tile: CubeTile) -> list[int]:
        """In how many parts k can be cut, where tiles leave at least half of the cores without work."""
        tiles = -(-sizes.m // tile.l1[0]) * -(-sizes.n // tile.l1[1])
        most = min(2 * self.cores // tiles, sizes.k // _SHORTEST)
        return [parts for parts in range(2, most + 1) if sizes.k % parts == 0]

    def _sampled(self, sizes: ProductSizes, sample: int) -> list[CubeTile]:
        table, depths, estimates = self._chooser.candidates(sizes)
        ranked = np.argsort(estimates, kind="stable").tolist()
        first, rest = ranked[: sample // 2], ranked[sample // 2 :]
        drawn = random.Random(str(sizes)).sample(rest, min(len(rest), sample - len(first)))
        return [_tile_of(table[at].tolist(), int(depths[at])) for at in [*first, *drawn]]

    def _neighbours(self, way: Way, sizes: ProductSizes) -> Iterator[Way]:
        """The same with legal tiles: one edge or k at L0 is a block longer or shorter, or there are other steps at L1."""
        tile, cube = way.tile, self._chip.core.cube
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
            yield replace(way, tile=_tile_of(row, depth))

    def _orders(self, way: Way, sizes: ProductSizes) -> Iterator[Way]:
        """The same in rows, columns, rounds of columns, bands of rows, and grids of cores."""
        rows, cols = -(-sizes.m // way.tile.l1[0]), -(-sizes.n // way.tile.l1[1])
        if min(rows, cols) == 1:
            if rows * cols > self.cores > 1:
                yield from (replace(way, order=Order(name)) for name in ("row", "rounds"))
            return
        yield from (replace(way, order=Order(name)) for name in ("row", "column", "rounds"))
        yield from (replace(way, order=Order("swizzle", width)) for width in _WIDTHS if width < rows)
        for down in range(1, self.cores + 1):
            across = self.cores // down
            if down * across == self.cores and down <= rows and across <= cols:
                yield from (replace(way, order=Order(name, None, (down, across))) for name in ("row", "column"))

    def _legal(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Every tile of whole blocks that fits: m and n alike at L1 and L0, k at L1 a multiple of k at L0."""
        cube = self._chip.core.cube
        edges = np.arange(1, _LONGEST + 1)
        block_k = cube.k_bytes // self.problem.item
        m, n, k0, steps = (
            axis.ravel() for axis in np.meshgrid(edges * cube.m, edges * cube.n, edges * block_k, _STEPS)
        )
        return fitting(self.problem, np.stack([m, n, k0 * steps, m, n, k0], axis=1))

    def _made(self, sizes: ProductSizes, way: Way) -> CompiledKernel | None:
        if way != Way(way.tile):
            pins = Pins(
                tile={"l1": way.tile.l1, "l0": way.tile.l0},
                ring_depth={"l0c": way.tile.l0c_depth},
                order=way.order.name,
                swizzle_width=way.order.width,
                grid=way.order.grid,
                pad="always" if way.padded else None,
                split_k=None if way.split == 1 else way.split,
            )
            try:
                return compile_kernel(matmul, _shapes(sizes), self._chip, self._isa, pins)
            except CompileError:
                if way.order.grid is None:
                    raise
                return None  # such a grid of cores does not fit these tiles
        m, n, k, *_ = sizes
        sort = ProductSort(_product(m, n, k))
        programs = self._programs.get(sort.key)
        if programs is None:
            programs = self._programs[sort.key] = ProductPrograms(sort, 3, self._chip, self._isa)
        image = programs.image("product", sort.numbers, (m, n, k, 1), way.tile, sizes.b_pitch)
        tensors = [("param", (m, k)), ("param", (k, n)), ("output", (m, n))]
        named = tuple(TensorSpec(name, kind, "fp16", shape) for name, (kind, shape) in zip("abc", tensors, strict=True))
        return CompiledKernel("product", (Launch("product", "cube", image, tuple("abc")),), named, ("c",), {})


class _Race:
    """Ways that were simulated for one shape."""

    def __init__(self, oracle: Oracle, sizes: ProductSizes) -> None:
        self._oracle, self._sizes = oracle, sizes
        self._places: list[tuple[int, Way]] = []
        self._seen: set[Way] = set()

    @property
    def entered(self) -> int:
        """How many there are."""
        return len(self._seen)

    def places(self, padded: bool) -> list[Way]:
        """Those with or without copies that were not stopped, the fastest first."""
        return [
            way
            for _, way in sorted(self._places, key=lambda place: place[0])
            if way.padded == padded and way.split == 1
        ]

    def best(self, padded: bool | None = None) -> Way:
        """The fastest of all, or of those with or without copies and with k in one."""
        return self.places(padded)[0] if padded is not None else min(self._places, key=lambda place: place[0])[1]

    def enter_all(self, ways: Iterable[Way]) -> None:
        """Simulate ways."""
        for way in ways:
            self._enter(way)

    def enter_any(self, ways: Iterable[Way]) -> bool:
        """Simulate ways up to one that is faster than all before; whether there was one."""
        return any(self._enter(way) for way in ways)

    def _enter(self, way: Way) -> bool:
        if way in self._seen:
            return False
        self._seen.add(way)
        # Those that are far from the best are stopped.
        known = [cycles for cycles, each in self._places if each.padded == way.padded and way.split <= each.split]
        cycles = self._oracle.cycles_below(self._sizes, way, min(known, default=None))
        if cycles is None:
            return False
        self._places.append((cycles, way))
        return cycles < min(known, default=cycles + 1)


def _shapes(sizes: ProductSizes) -> dict[str, tuple[int, int]]:
    return {"a": (sizes.m, sizes.k), "b": (sizes.k, sizes.n)}


def _lined(pitch: int) -> int:
    """The pitch of a copy, as far as estimates look at it."""
    return -(-pitch // _LINE) * _LINE


def _tile_of(row: list[int], depth: int) -> CubeTile:
    m, n, k, m0, n0, k0 = row
    return CubeTile((m, n, k), (m0, n0, k0), depth, 0)


def _product(m: int, n: int, k: int) -> MatmulSpec:
    a, b, c = (MatView(at, "fp16", row, 1) for at, row in enumerate((k, n, n)))
    return MatmulSpec(m, n, k, a, b, c)
