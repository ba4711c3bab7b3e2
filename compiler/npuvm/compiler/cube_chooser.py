"""The choice of a product's tile for one shape: what cores and memory take together, over what a tile takes one core.

What one core takes is known before any shape (`cube_costs`). For a shape, each candidate is charged the rounds that all cores
need for its tiles, and not less than L2 needs to serve them; the best is some twenty array operations away. After MikPoly's
cost of rounds times a pipelined tile (ASPLOS 2024), with a first tile that waits for main memory.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube_core_cost import Layout, layout_of
from npuvm.compiler.cube_costs import GRID, CandidateCosts, CostLines
from npuvm.compiler.cube_levels import Table, grown_tiles, l0c_depths, l0c_slots, product_levels
from npuvm.compiler.cube_problem import RINGS, CubeTile, ProductSizes, TileProblem
from npuvm.compiler.errors import CompileError
from npuvm.compiler.schedule import Pins
from npuvm.compiler.tile_levels import measured_below
from npuvm.compiler.tile_library import Kernels, TileLibrary, find_library

__all__ = ["TileChooser", "chooser_of", "sort_name"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_KEPT_TILES = 256
"""Sizes whose tiles a chooser keeps: a product is asked for as part of one launch and again on its own."""

_TINY = 1e-4
"""Less than what a quotient of whole numbers can be off, and far less than one."""


class _Interval(NamedTuple):
    """Candidates of use between two values of k, ordered by m: inverse edges, inverse k at L1, and costs.

    `tiles` are m, n, k at L1, k at L0 and accumulators. `ends` has, for each edge m that tiles have, the number of
    candidates up to it.
    """

    tiles: list[list[int]]
    per_m: Floats
    per_n: Floats
    per_step: Floats
    ends: list[int]
    costs: CostLines


_Key = tuple[int, Layout, Layout, int]
"""The interval of k, the layouts of both operands, and which edges n are as wide as the operands: all from this number on."""


class TileChooser:
    """Chooses among the tiles that fit for products of one sort, of any sizes with elements; k may be 0.

    `library` is what costs of one core are from; None where they are from formulas. `levels` say so level by level. With
    `given`, tiles and their accumulators, it chooses among these.
    """

    def __init__(self, problem: TileProblem, cores: int, given: tuple[Table, Ints] | None = None) -> None:
        found = _kernels(problem) if given is None else None
        self.library = None if found is None else found[0]
        self.levels = measured_below(product_levels(problem), None if found is None else found[0].measured)
        kernels = None if found is None else found[1]
        if kernels is not None:
            table, depths = kernels.table, kernels.tiles[:, 4]
        else:
            table, depths = given or grown_tiles(problem)
        if not len(table):
            _refuse(problem)
        self._problem = problem
        # A quotient that is whole is never rounded up.
        self._per_core = (1 - 1e-9) / cores
        measured = None if found is None else found[0].measured
        self._costs = CandidateCosts(problem, table, depths, kernels, measured)
        self._useful = self._costs.useful()
        self._edges = np.unique(table[:, 0]).tolist()
        self._widths = np.unique(table[:, 1]).tolist()
        self._found_lines: dict[tuple[int, tuple[Layout, Layout], bool, int], CostLines] = {}
        self._intervals: dict[_Key, _Interval] = {}
        self._known: dict[ProductSizes, CubeTile] = {}
        chip = problem.chip
        memory = chip.memory
        self._per_l2 = 1 / float(chip.l2_bytes_per_cycle)
        self._is_l2_slow = cores * chip.core.load.l1_bytes_per_cycle > chip.l2_bytes_per_cycle
        # Cores that stream from places of their own open a row of main memory for every line.
        line, hbm = memory.l2.line_bytes, memory.hbm
        missed = hbm.row_miss_cycles if hbm.row_bytes else 0
        self._per_hbm = 1 / float(chip.hbm_bytes_per_cycle) + missed / (line * hbm.channels)
        # Past L2 each line is read for one core, and for others in turn.
        self._per_line = line / float(chip.hbm_bytes_per_cycle) + max(missed, hbm.same_line_cycles) / hbm.channels
        self._l2_capacity = chip.capacity_bytes("l2")

    def choose(self, sizes: ProductSizes) -> CubeTile:
        """The tile with the lowest estimate."""
        found = self._known.get(sizes)
        if found is None:
            if len(self._known) == _KEPT_TILES:
                self._known.clear()
            found = self._known[sizes] = self._found(sizes)
        return found

    def estimates(self, sizes: ProductSizes) -> tuple[Table, Ints, Floats]:
        """All tiles with their accumulators and estimated cycles."""
        costs = self._costs
        interval = self._made(self._key(sizes), np.arange(len(costs.table)))
        return costs.table, costs.depths, np.maximum(self._cycles(sizes, interval, None), self._read(sizes))

    def core_cycles(self, sizes: ProductSizes) -> tuple[Table, Ints, Floats, Floats]:
        """All tiles with their accumulators, and the cycles of a core for its first and for each later one."""
        costs = self._costs
        interval = self._made(self._key(sizes), np.arange(len(costs.table)))
        difference, later = _costs_at(interval, sizes.k, None)[:2]
        return costs.table, costs.depths, difference + later, later

    def candidates(self, sizes: ProductSizes) -> tuple[Table, Ints, Floats]:
        """The same for tiles no larger than the matrices. Of those that become equal, the best is kept."""
        table, depths, cycles = self.estimates(sizes)
        table = np.minimum(table, (sizes.m, sizes.n, max(sizes.k, 1)) * 2)
        order = np.argsort(cycles, kind="stable")
        rows = np.concatenate([table, depths[:, None]], axis=1)[order]
        kept = order[np.sort(np.unique(rows, axis=0, return_index=True)[1])]
        return table[kept], depths[kept], cycles[kept]

    def _found(self, sizes: ProductSizes) -> CubeTile:
        key = self._key(sizes)
        interval = self._intervals.get(key)
        if interval is None:
            interval = self._intervals[key] = self._made(key, self._useful[key[0]])
        cycles = self._cycles(sizes, interval, interval.ends[bisect_left(self._edges, sizes.m)])
        best = int(cycles.argmin())
        m, n, k, k0, depth = interval.tiles[best]
        size = max(sizes.k, 1)
        m, n = min(m, sizes.m), min(n, sizes.n)
        estimate = max(float(cycles[best]), self._read(sizes))
        return CubeTile((m, n, min(k, size)), (m, n, min(k0, size)), depth, int(estimate))

    def _cycles(self, sizes: ProductSizes, interval: _Interval, end: int | None) -> Floats:
        """Cycles of cores, and of memory where it may be slower, for the first `end` candidates."""
        m, n, k, batch, *_ = sizes
        costs = _costs_at(interval, k, end)
        tiles = np.ceil(interval.per_m[:end] * (m - _TINY)) * np.ceil(interval.per_n[:end] * (n - _TINY))
        cycles: Floats = costs[0] + costs[1] * np.ceil(tiles * (batch * self._per_core))
        if len(costs) > 2:
            cycles = np.maximum(cycles, tiles * (costs[2] * (batch * self._per_l2)))
        if len(costs) > 3:
            cycles = np.maximum(cycles, tiles * (costs[3] * (batch * self._per_line)) + self._read(sizes))
        return cycles

    def _read(self, sizes: ProductSizes) -> float:
        """Cycles of main memory for operands that are read once, and a result that L2 does not keep."""
        m, n, k, batch, *_ = sizes
        problem = self._problem
        stored = m * n * batch * problem.out_item
        read = (m + n) * k * batch * problem.item
        return (read + (stored if stored > self._l2_capacity else 0)) * self._per_hbm

    def _key(self, sizes: ProductSizes) -> _Key:
        problem, (m, n, k, _, a_pitch, b_pitch) = self._problem, sizes
        at = min(max(bisect_right(GRID, k) - 1, 0), len(GRID) - 2)
        item = problem.item
        a = layout_of(problem, a_pitch, (m if problem.a.flipped else k) * item)
        b = layout_of(problem, b_pitch, (k if problem.b.flipped else n) * item)
        return at, a, b, bisect_left(self._widths, n)

    def _made(self, key: _Key, numbers: Ints) -> _Interval:
        at, a, b, wide = key
        table = self._costs.table[numbers]
        costs = self._lines(at, numbers, (a, b), False)
        if wide < len(self._widths):
            covers = table[:, 1] >= self._widths[wide]
            covering = self._lines(at, numbers, (a, b), True)
            costs = CostLines(*(np.where(covers, yes, no) for yes, no in zip(covering, costs, strict=True)))
        m, n, k = (1.0 / table[:, axis] for axis in range(3))
        ends = np.searchsorted(table[:, 0], self._edges, side="right").tolist()
        tiles = np.column_stack([table[:, [0, 1, 2, 5]], self._costs.depths[numbers]]).tolist()
        return _Interval(tiles, m, n, k, [*ends, len(table)], costs)

    def _lines(self, at: int, numbers: Ints, layouts: tuple[Layout, Layout], covers: bool) -> CostLines:
        """Costs of cycles, of what L2 serves where it may be too slow, and of what is read past it."""
        fields = 2
        if any(layout.off for layout in layouts):
            fields = 4
        elif self._is_l2_slow or any(layout.apart for layout in layouts):
            fields = 3
        else:
            # Only what L2 serves depends on lines.
            layouts = layouts[0]._replace(lined=True), layouts[1]._replace(lined=True)
        key = at, layouts, covers, len(numbers)
        found = self._found_lines.get(key)
        if found is None:
            lines = self._costs.lines(at, numbers, layouts, covers)
            found = self._found_lines[key] = CostLines(*(each[:fields].copy() for each in lines))
        return found


def _costs_at(interval: _Interval, k: int, end: int | None) -> Floats:
    """Costs of the first `end` candidates for k, by field."""
    # Arrays take plain floats in half the time of plain integers.
    depth = float(k)
    base, slope, step = interval.costs
    steps = np.ceil(interval.per_step[:end] * (depth - _TINY))
    costs: Floats = slope[:, :end] * depth + base[:, :end] + step[:, :end] * steps
    return costs


def chooser_of(problem: TileProblem, cores: int) -> TileChooser:
    """The chooser for products of one sort, made once; CompileError when no tile fits the chip's buffers."""
    return _chooser(problem.chip.chip_hash, _Sort(problem), cores)


@lru_cache(maxsize=64)
def _chooser(chip_hash: str, sort: _Sort, cores: int) -> TileChooser:
    return TileChooser(sort.problem, cores)


class _Sort:
    """Compares problems by what their candidates and costs depend on."""

    def __init__(self, problem: TileProblem) -> None:
        self.problem = problem
        depths = tuple(problem.depth(ring) for ring in RINGS) + l0c_depths(problem)
        sides = problem.a.flipped, problem.b.flipped
        pins = problem.pins
        pinned = _are_costs_pinned(pins), pins.order, pins.l0c_parts, *sorted(pins.l1_k.items())
        own = (problem.dtype, problem.out_item, problem.bias_item, problem.via_ub)
        self._key: tuple[Any, ...] = (own, sides, depths, pinned, problem.isa.hash)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Sort) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def _are_costs_pinned(pins: Pins) -> bool:
    """Whether pins change what tiles take one core."""
    rings = pins.l1_depth, pins.l1_k, pins.l0c_parts, pins.ring_depth
    return any((pins.tile, pins.order, pins.cache, pins.transfer, *rings))


def sort_name(problem: TileProblem) -> str:
    """What products have in common whose tiles are measured once: bytes of an element, and cycles of a block."""
    block = float(problem.chip.core.cube.cycles_per_block[problem.dtype])
    return f"products of {problem.item}-byte elements, {block:g} cycles a block"


def _kernels(problem: TileProblem) -> tuple[TileLibrary, Kernels] | None:
    """The chip's library and the measured tiles that fit, where it has such products and no pin changes what they cost."""
    library = None if _are_costs_pinned(problem.pins) else find_library(problem.chip, problem.isa)
    found = None if library is None else library.sorts.get(sort_name(problem))
    if library is None or found is None:
        return None
    room = found.tiles[:, 4] <= l0c_slots(problem, found.table)
    return (library, Kernels(found.tiles[room], found.first[:, room], found.later[:, room])) if room.any() else None


def _refuse(problem: TileProblem) -> NoReturn:
    core = problem.chip.core
    sizes = ", ".join(f"core.{name}={getattr(core, name)}" for name in ("l1_kib", "l0a_kib", "l0b_kib", "l0c_kib"))
    raise CompileError(f"no tile of a matrix product fits {sizes} of {problem.chip.name} with these ring depths")
