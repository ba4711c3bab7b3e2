"""The choice of a product's tile for one shape: what cores and memory take together, over what a tile takes one core.

What one core takes is known before any shape (`cube.costs`). For a shape, each candidate is charged the rounds that all cores
need for its tiles, and not less than L2 needs to serve them; the best is some twenty array operations away. After MikPoly's
cost of rounds times a pipelined tile (ASPLOS 2024), with a first tile that waits for main memory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from math import inf

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.alike import AlikeProblem
from npuvm.compiler.cube.candidates import (
    Asked,
    By,
    Candidates,
    Costed,
    Grid,
    Interval,
    Weighed,
    beyond_one,
)
from npuvm.compiler.cube.core_cost import CoreCycles, CoreLoads, Layout, layout_of
from npuvm.compiler.cube.costs import GRID, CandidateCosts, CostLines
from npuvm.compiler.cube.fetched import MainMemory
from npuvm.compiler.cube.levels import Table, are_finer, are_wide, finer_tiles, grown_tiles, product_levels, refuse
from npuvm.compiler.cube.measured import measured_tiles
from npuvm.compiler.cube.meets import TINY, Edges, Met, MetByCores, Shared
from npuvm.compiler.cube.native import NativeChoice
from npuvm.compiler.cube.problem import CubeTile, ProductSizes, TileProblem
from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.native.loading import Native, loaded
from npuvm.compiler.tiles.levels import measured_below
from npuvm.compiler.tiles.memory_cost import memory_cost

__all__ = ["TileChooser", "chooser_of"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_KEPT_TILES = 256
"""Sizes whose tiles a chooser keeps: a product is asked for as part of one launch and again on its own. And of layers, of which
n and k stay while the number of rows changes."""

_ALIKE_LINES = tuple(Layout(tight, True, off) for off in (False, True) for tight in (False, True))
"""Layouts by whether rows follow each other, and whether they lie off blocks."""

_TIGHT = tuple(Layout(True, True, off) for off in (False, True))
"""Layouts of operands whose rows follow each other."""

_APART = Layout(False, True, False)
"""The layout of copies: rows begin at blocks."""

_CUT = _APART, Layout(False, True, True)
"""Layouts of operands whose rows are cut in parts of k."""

_FIELDS = (*CoreCycles._fields, *CoreLoads._fields)
"""Costs of candidates, those of loads only where they matter."""

_MANY_ROUNDS = 8
"""Rounds of the largest tiles from which the last one counts less than what estimates of alike tiles are wrong by."""

_EXACT = 1 << 53
"""Whole numbers below this are exact as floats; products with more columns are for Python, whose integers have no end."""


_Lines = Floats
"""`CostLines` of candidates, and behind them of the same where they are as wide as the operands."""

_Key = tuple[int, int, Layout, Layout]
"""The interval of k, behind all of them those for products of many rounds; the number of the first edge n that is as wide as
the operands; and the layouts of both."""


class TileChooser:
    """Chooses among the tiles that fit for products of one sort, of any sizes with elements; k may be 0.

    `library` is what costs of one core are from; None where they are from formulas. `levels` say so level by level. With
    `given`, tiles and their accumulators, it chooses among these.
    """

    def __init__(self, problem: TileProblem, cores: int, given: tuple[Table, Ints] | None = None) -> None:
        found = measured_tiles(problem) if given is None else None
        self.library = None if found is None else found[0]
        self.levels = measured_below(product_levels(problem), None if found is None else found[0].measured)
        kernels = None if found is None else found[1]
        if kernels is not None:
            table, depths = kernels.table, kernels.tiles[:, 4]
        else:
            table, depths = given or grown_tiles(problem)
        if given is None:
            # What cores leave without work decides more than what is measured of a tile that is nearly alike.
            table, depths = (np.concatenate(each) for each in zip((table, depths), finer_tiles(problem), strict=True))
        if not len(table):
            refuse(problem)
        self._problem, self._item, self._out_item = problem, problem.item, problem.out_item
        cube = problem.chip.core.cube
        # Columns that are cut where a line of L2 ends share none, which counts where rows meet.
        block = BLOCK_BYTES if problem.chip.memory.address_hash else problem.chip.memory.l2.line_bytes
        self._cores, self._blocks = cores, (cube.m, max(cube.n, block // problem.item))
        # A quotient that is whole is never rounded up.
        self._per_core = (1 - 1e-9) / cores
        measured = None if found is None else found[0].measured
        self._costs = CandidateCosts(problem, table, depths, kernels, measured)
        self._edges = np.unique(table[:, 0]).tolist()
        # Tiles that are given are of use for any rows.
        self._few = _EXACT if given else int(min(table[are_wide(problem, table), 0], default=_EXACT))
        self._widths = np.unique(table[:, 1]).tolist()
        # In products of so many rows none are new behind the first round.
        self._one_round, self._one_round_wide = cores * self._edges[0], cores * self._widths[0]
        is_cut = given is None and cores > 1
        useful = self._costs.useful()
        # For products of many rounds estimates say too little of what cores read again past L2; the edges that the formulas
        # were tried with do better there.
        self._coarser = [~are_finer(problem, self._costs.table[numbers]) for numbers in useful] if is_cut else []
        coarser = (numbers[kept] for numbers, kept in zip(useful, self._coarser, strict=False))
        self._intervals = [self._interval(numbers) for numbers in (*useful, *coarser)]
        self._lines: dict[tuple[int, Layout, Layout], _Lines] = {}
        self._candidates: dict[_Key, Candidates] = {}
        self._weighed: dict[tuple[int, ...], Weighed] = {}
        self._last: tuple[tuple[int, int, int], Interval | None, Grid] = (
            (0, 0, 0),
            None,
            Grid(np.zeros(0), np.zeros(0), np.zeros(0)),
        )
        self._known: dict[ProductSizes, CubeTile] = {}
        self._met: dict[ProductSizes, tuple[Met | MetByCores, int]] = {}
        chip = problem.chip
        memory = chip.memory
        self._per_l2 = 1 / float(chip.l2_bytes_per_cycle)
        self._is_l2_slow = cores * chip.core.load.l1_bytes_per_cycle > chip.l2_bytes_per_cycle
        self._are_lines_alike = memory.address_hash and not self._is_l2_slow
        self._shared = None if memory.address_hash else Shared(problem, cores)
        self._memory = MainMemory(problem, cores)
        # Past L2 a line is read whole.
        self._per_line = memory_cost(chip).per_line
        self._l2_capacity = chip.capacity_bytes("l2")
        self._vast = _MANY_ROUNDS * cores * chip.capacity_bytes("l0c") / problem.acc_item if is_cut else inf
        self._bounds = {is_off: self._bound_fields(is_off) for is_off in (False, True)}
        native, sides = loaded() if self._shared is None else None, (self._one_round, self._one_round_wide)
        numbers = cores, self._per_core, *sides, self._memory.numbers
        self._native = None if native is None else NativeChoice(native, *numbers)
        for a, b in product(_TIGHT, repeat=2):
            self._prepare_lines(a, b)

    def choose(self, sizes: ProductSizes) -> CubeTile:
        """The tile with the lowest estimate."""
        found = self._known.get(sizes)
        if found is None:
            if len(self._known) >= _KEPT_TILES:
                self._known.clear()
                self._met.clear()
            found = self._known[sizes] = self._chosen(sizes)
        return found

    def choose_in_steps(self, sizes: ProductSizes, l0_k: int) -> CubeTile | None:
        """The same among tiles whose steps over k at L0 are `l0_k` long; None where none is of use."""
        if self._is_native(sizes):
            interval, best, least = self._by_machine_code(sizes, l0_k)
            return None if best < 0 else self.tile(sizes, interval.tiles[best], least)
        weighed = self._useful_at(self._key(sizes)).at(sizes)
        interval = weighed.interval
        cycles = self._cycles(sizes, weighed, interval.ends[bisect_left(self._edges, sizes.m)])
        at = np.flatnonzero(np.minimum(interval.whole[1, : len(cycles)], max(sizes.k, 1)) == l0_k)
        at = at[cycles[at] < inf]
        if not len(at):
            return None
        best = int(at[cycles[at].argmin()])
        return self.tile(sizes, interval.tiles[best], float(cycles[best]))

    def part(self, sizes: ProductSizes, asked: Asked) -> Costed | None:
        """The best candidate of those asked for, for one product whose operands lie at blocks, or a part of it.

        None where none is of use. Addresses must be spread over the parts of memory.
        """
        end = bisect_left(self._edges, asked.most_m)
        if self._native is not None and self._is_native(sizes):
            at, a, b = self._layouts(sizes)
            interval, lines = self._intervals[at], self._lines_at(at, a, b)
            return self._native.part(lines, interval, sizes, interval.ends[end], self._bounds[False][0], asked)
        weighed = self._useful_at(self._key(sizes)).at(sizes)
        interval, fetched, end = weighed.interval, weighed.fetched, weighed.interval.ends[end]
        assert fetched is not None
        grid, later, (n, l0_k, l1_k, most) = (
            self._grid(sizes, interval, end),
            weighed.later[:end],
            interval.whole[:, :end],
        )
        cycles, rounds, measure = self._by_cores(sizes, weighed, end), grid.rounds, grid.rounds * later
        least = fetched.per_row[:end] * float(sizes.m) + fetched.fixed[:end]
        if asked.by == By.TAILED:
            measure = np.maximum(cycles + (grid.tailed(self._cores, self._per_core) - rounds) * later, least)
        measure[
            (l0_k != asked.l0_k) | (n > asked.most_n) | (l1_k >= sizes.k) | (measure >= asked.limit) | (most < sizes.m)
        ] = np.inf
        best = int(measure.argmin())
        if measure[best] == np.inf:
            return None
        assert weighed.new is not None
        assert weighed.new_cols is not None
        found = measure, cycles - rounds * later, later, weighed.new_cols, weighed.new, least
        return Costed(interval.tiles[best], *(float(each[best]) for each in found))

    def is_vast(self, sizes: ProductSizes) -> bool:
        """Whether L2 has no room for operands and result."""
        m, n, k, batch, *_ = sizes
        return batch * ((m + n) * k + m * n) * self._item > self._l2_capacity

    def is_off(self, sizes: ProductSizes) -> bool:
        """Whether rows of an operand lie off the blocks of memory, which are read past L2 where it keeps no such reads."""
        _, a, b = self._layouts(sizes)
        return a.off or b.off

    def kept_cycles(self, sizes: ProductSizes) -> float:
        """The estimate of the chosen tile where L2 has the operands that it has room for, as launches before may leave it.

        0 for a result without elements.
        """
        m, n, _, batch, *_ = sizes
        if m * n * batch == 0:
            return 0.0
        tile = self.choose(sizes)
        met = self._met.get(sizes)
        if met is None or self.is_vast(sizes):
            return tile.cycles
        return max(met[0].kept(m, met[1]), self.read(sizes))

    def prepare(self) -> None:
        """Make what operands need whose rows follow each other or are copied, where there are few ways to lie."""
        if self._are_lines_alike:
            for a, b in product((*_TIGHT, _APART), repeat=2):
                self._prepare_lines(a, b)

    def prepare_parts(self) -> None:
        """The same for parts of k of operands whose rows follow each other."""
        if self._are_lines_alike:
            sides = self._problem.a.flipped, not self._problem.b.flipped
            for a, b in product(*(_TIGHT if along else _CUT for along in sides)):
                self._prepare_lines(a, b)

    def estimates(self, sizes: ProductSizes) -> tuple[Table, Ints, Floats]:
        """All tiles with their accumulators and estimated cycles."""
        costs = self._costs
        every = self._every(sizes).at(sizes)
        cycles = self._cycles(sizes, every, len(every.interval.tiles))
        return costs.table, costs.depths, np.maximum(cycles, self.read(sizes))

    def core_cycles(self, sizes: ProductSizes) -> tuple[Table, Ints, Floats, Floats]:
        """All tiles with their accumulators, and the cycles of a core for its first and for each later one."""
        costs = self._costs
        every = self._every(sizes).at(sizes)
        return costs.table, costs.depths, every.first + every.later, every.later

    def candidates(self, sizes: ProductSizes) -> tuple[Table, Ints, Floats]:
        """The same for tiles no larger than the matrices. Of those that become equal, the best is kept."""
        table, depths, cycles = self.estimates(sizes)
        table = np.minimum(table, (sizes.m, sizes.n, max(sizes.k, 1)) * 2)
        order = np.argsort(cycles, kind="stable")
        rows = np.concatenate([table, depths[:, None]], axis=1)[order]
        kept = order[np.sort(np.unique(rows, axis=0, return_index=True)[1])]
        kept = kept[cycles[kept] < inf]
        return table[kept], depths[kept], cycles[kept]

    def _chosen(self, sizes: ProductSizes) -> CubeTile:
        if self._is_native(sizes):
            interval, best, least = self._by_machine_code(sizes)
            return self.tile(sizes, interval.tiles[best], least)
        # The rows of a transposed are as long as there are rows of the result.
        key = self._key(sizes)
        layer = key[0], *(sizes if self._problem.a.flipped else sizes[1:])
        weighed = self._weighed.get(layer)
        if weighed is None:
            if len(self._weighed) >= _KEPT_TILES:
                self._weighed.clear()
            weighed = self._weighed[layer] = self._useful_at(key).at(sizes)
        interval = weighed.interval
        cycles = self._cycles(sizes, weighed, interval.ends[bisect_left(self._edges, sizes.m)], lazily=True)
        best = int(cycles.argmin())
        if weighed.met is not None:
            self._met[sizes] = weighed.met, best
        return self.tile(sizes, interval.tiles[best], float(cycles[best]))

    def _is_native(self, sizes: ProductSizes) -> bool:
        return self._native is not None and sizes.n * sizes.batch < _EXACT

    def _by_machine_code(self, sizes: ProductSizes, l0_k: int = 0) -> tuple[Interval, int, float]:
        """The candidates, which one is the best, and its cycles: what `_cycles` gives, where rows do not meet."""
        assert self._native is not None
        at, a, b = self._layouts(sizes)
        interval, lines, bounds = self._intervals[at], self._lines_at(at, a, b), self._bounds[a.off or b.off]
        end = interval.ends[bisect_left(self._edges, sizes.m)]
        return interval, *self._native.tile(lines, interval, sizes, end, bounds, l0_k, self._ended(sizes))

    def tile(self, sizes: ProductSizes, candidate: Sequence[int], cycles: float) -> CubeTile:
        """A candidate (m, n, k at L1, k at L0, accumulators) of these estimated cycles, cut to the sizes."""
        m, n, k, *_ = sizes
        tile_m, tile_n, l1_k, l0_k, depth = candidate
        size, (block_m, block_n) = max(k, 1), self._blocks
        rows, cols = self._even(m, tile_m, block_m), self._even(n, tile_n, block_n)
        estimate = int(max(cycles, self.read(sizes)))
        return CubeTile((rows, cols, min(l1_k, size)), (rows, cols, min(l0_k, size)), depth, estimate)

    def _even(self, size: int, edge: int, block: int) -> int:
        """An edge of tiles that are as many, but alike: on many cores the largest one decides."""
        if self._cores == 1:
            return min(edge, size)
        alike = -(-size // -(-size // edge))
        return min(-(-alike // block) * block, edge, size)

    def _grid(self, sizes: ProductSizes, interval: Interval, end: int) -> Grid:
        """The grid of the first `end` candidates; the same is asked for as operands lie in several ways."""
        m, n, _, batch, *_ = sizes
        size, known, grid = self._last
        if size == (m, n, batch) and known is interval and len(grid.tiles) == end:
            return grid
        # Arrays take plain floats in half the time of plain integers.
        rows, tiles = interval.sides[0, :end] * (m - TINY), interval.sides[1, :end] * (n - TINY)
        np.ceil(tiles, out=tiles)
        if batch != 1:
            tiles *= float(batch)
        tiles *= np.ceil(rows, out=rows)
        rounds = tiles * self._per_core
        grid = Grid(rows, tiles, np.ceil(rounds, out=rounds))
        self._last = (m, n, batch), interval, grid
        return grid

    def _cycles(self, sizes: ProductSizes, weighed: Weighed, end: int, *, lazily: bool = False) -> Floats:
        """Cycles of cores, and of memory where it may be slower, for the first `end` candidates.

        `lazily`: those that are not the least may be too low.
        """
        interval, *_, far, _, _, fetched, met = weighed
        cycles: Floats
        if met is None or far is not None:
            rows, tiles, rounds = self._grid(sizes, interval, end)
        cycles = self._by_cores(sizes, weighed, end) if met is None else met.cycles(sizes.m, end)
        if sizes.m > self._few:
            cycles[interval.whole[3, :end] < sizes.m] = np.inf
        if met is None:
            best = int(cycles.argmin()) if lazily and far is None else -1
            if fetched is not None and (best < 0 or cycles[best] < fetched.most(sizes.m, best)):
                np.maximum(cycles, fetched.cycles(sizes.m, rows, rounds - tiles * self._per_core), out=cycles)
        if far is not None:
            # The more is read past L2, the less of it is hidden.
            np.hypot(cycles, tiles * far[:end], out=cycles)
        return cycles

    def _by_cores(self, sizes: ProductSizes, weighed: Weighed, end: int) -> Floats:
        """Cycles of cores and of L2, where rows do not meet."""
        interval, first, later, served, _, new, *_ = weighed
        rows, tiles, rounds = self._grid(sizes, interval, end)
        cycles: Floats = rounds * later[:end]
        cycles += first[:end]
        ended = self._ended(sizes)
        if ended:
            count = np.minimum(np.ceil(interval.sides[1, :end] * (sizes.n - TINY)), self._cores)
            cycles += count * ended / rows
        if new is not None and sizes.m * sizes.batch > self._one_round:
            cycles += beyond_one(rows * (sizes.batch / self._cores), new[:end])
        if served is not None:
            np.maximum(cycles, tiles * served[:end], out=cycles)
        return cycles

    def _ended(self, sizes: ProductSizes) -> float:
        """Cycles for each core that reads the end of the left operand past L2, which rows of tiles before the last do not."""
        is_tight = not self._problem.a.flipped and sizes.a_pitch == sizes.k * self._item
        return self._memory.in_turn if is_tight and sizes.m * sizes.a_pitch % BLOCK_BYTES else 0.0

    def read(self, sizes: ProductSizes) -> float:
        """Cycles of main memory for operands that are read once, and what L2 does not keep of a result."""
        m, n, k, batch, *_ = sizes
        stored = m * n * batch * self._out_item
        read = (m + n) * k * batch * self._item
        return (read + max(stored - self._l2_capacity, 0)) * self._memory.per_byte

    def _key(self, sizes: ProductSizes) -> _Key:
        at, a, b = self._layouts(sizes)
        return at, bisect_left(self._widths, sizes.n), a, b

    def _layouts(self, sizes: ProductSizes) -> tuple[int, Layout, Layout]:
        """Which candidates are for k, and how the operands lie."""
        problem, (m, n, k, batch, a_pitch, b_pitch) = self._problem, sizes
        at = min(max(bisect_left(GRID, k) - 1, 0), len(GRID) - 2)
        if m * n * batch > self._vast:
            at += len(GRID) - 1
        item, layout = self._item, self._layout
        a = layout(a_pitch, (m if problem.a.flipped else k) * item)
        b = layout(b_pitch, (k if problem.b.flipped else n) * item)
        return at, a, b

    def _layout(self, pitch: int, row_bytes: int) -> Layout:
        """The layout of an operand; where L2 is fast and its lines are spread, how rows lie in lines is of no matter."""
        if self._are_lines_alike:
            return _ALIKE_LINES[(pitch == row_bytes) + 2 * (pitch % BLOCK_BYTES != 0)]
        return layout_of(self._problem, pitch, row_bytes)

    def _useful_at(self, key: _Key) -> Candidates:
        """The candidates of use for an interval of k."""
        found = self._candidates.get(key)
        if found is None:
            at, wide, a, b = key
            found = self._candidates[key] = self._made(self._intervals[at], self._lines_at(at, a, b), wide, a, b)
        return found

    def _every(self, sizes: ProductSizes) -> Candidates:
        """All tiles, also those that are never the best."""
        at, wide, a, b = self._key(sizes)
        interval = self._interval(np.arange(len(self._costs.table)))
        (lines,) = self._with_bounds([at % (len(GRID) - 1)], [interval], a, b)
        return self._made(interval, lines, wide, a, b)

    def _interval(self, numbers: Ints) -> Interval:
        table = self._costs.table[numbers]
        ends = np.searchsorted(table[:, 0], self._edges, side="right").tolist()
        tiles = np.column_stack([table[:, [0, 1, 2, 5]], self._costs.depths[numbers]]).tolist()
        m, n, k = table[:, :3].T.astype(np.float64)
        sides = np.stack([1.0 / m, 1.0 / n, m, n, k])
        edges = Edges(m, n, k, sides[0], sides[1])
        most = np.where(are_wide(self._problem, table) & (self._few < _EXACT), table[:, 0], _EXACT)
        whole = np.stack([*table[:, [1, 5, 2]].T, most])
        return Interval(numbers, tiles, [*ends, len(table)], whole, sides, edges)

    def _made(self, interval: Interval, both: _Lines, wide: int, a: Layout, b: Layout) -> Candidates:
        plain, covering = both
        if wide < len(self._widths):
            plain = np.where(interval.whole[0] >= self._widths[wide], covering, plain)
        is_off = a.off or b.off
        (served, far), loads = self._bounds[is_off], len(self._fields(is_off)) - len(CoreLoads._fields)
        return Candidates(
            *(interval, CostLines(plain), served, far, self._cores, self._one_round_wide, loads),
            *(self._memory, self._shared),
        )

    def _lines_at(self, at: int, a: Layout, b: Layout) -> _Lines:
        """Costs of the candidates of use in an interval."""
        found = self._lines.get((at, a, b))
        if found is None:
            if at < len(GRID) - 1:
                (found,) = self._with_bounds([at], [self._intervals[at]], a, b)
            else:
                at_all = at - len(GRID) + 1
                found = np.ascontiguousarray(self._lines_at(at_all, a, b)[..., self._coarser[at_all]])
            self._lines[at, a, b] = found
        return found

    def _prepare_lines(self, a: Layout, b: Layout) -> None:
        """The same for all intervals, in less time than one after the other."""
        if (0, a, b) not in self._lines:
            first = self._intervals[: len(GRID) - 1]
            lines = self._with_bounds(range(len(first)), first, a, b)
            self._lines.update({(at, a, b): each for at, each in enumerate(lines)})

    def _with_bounds(self, at: Sequence[int], intervals: Sequence[Interval], a: Layout, b: Layout) -> list[_Lines]:
        """Costs in cycles, by interval."""
        fields = self._fields(a.off or b.off)
        per = np.array((1.0, 1.0, self._per_l2, self._per_line, 1.0, 1.0, *(1.0 for _ in CoreLoads._fields)))[fields]
        counts = [len(interval.numbers) for interval in intervals]
        numbers = np.concatenate([interval.numbers for interval in intervals])
        plain, covering = self._costs.lines(np.repeat(at, counts), numbers, (a, b))
        both = np.stack([each.times(fields, per).coefficients for each in (plain, covering)])
        return [np.ascontiguousarray(each) for each in np.split(both, np.cumsum(counts)[:-1], axis=3)]

    def _fields(self, is_off: bool) -> list[int]:
        """Fields of costs that matter for operands of which one is off blocks or none: of cores, and of memory that is slow."""
        is_shared = self._shared is not None
        wanted = (
            True,
            True,
            self._is_l2_slow and not is_shared,
            is_off,
            not is_shared,
            not is_shared,
            *(is_shared or each == "behind" for each in CoreLoads._fields),
        )
        return [at for at, each in enumerate(wanted) if each]

    def _bound_fields(self, is_off: bool) -> tuple[int, int]:
        """Where among these are what L2 serves and what is read past it; -1 where they do not matter."""
        fields = [_FIELDS[at] for at in self._fields(is_off)]
        served, far = (fields.index(name) if name in fields else -1 for name in ("served", "far"))
        return served, far


def chooser_of(problem: TileProblem, cores: int) -> TileChooser:
    """The chooser for products of one sort, made once; CompileError when no tile fits the chip's buffers."""
    return _chooser(problem.chip.chip_hash, AlikeProblem(problem), cores, loaded())


@lru_cache(maxsize=64)
def _chooser(chip_hash: str, sort: AlikeProblem, cores: int, native: Native | None) -> TileChooser:
    return TileChooser(sort.problem, cores)
