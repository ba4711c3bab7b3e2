"""The choice of a product's tile for one shape: what cores and memory take together, over what a tile takes one core.

What one core takes is known before any shape (`cube.costs`). For a shape, each candidate is charged the rounds that all cores
need for its tiles, and not less than L2 needs to serve them; the best is some twenty array operations away. After MikPoly's
cost of rounds times a pipelined tile (ASPLOS 2024), with a first tile that waits for main memory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from math import inf

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.alike import AlikeProblem
from npuvm.compiler.cube.candidates import Asked, By, Costed, Grid, Interval, Weighed, beyond_one
from npuvm.compiler.cube.large import LargeTiles
from npuvm.compiler.cube.levels import Table, finer_tiles, grown_tiles, product_levels, refuse
from npuvm.compiler.cube.measured import measured_tiles
from npuvm.compiler.cube.meets import TINY
from npuvm.compiler.cube.native import NativeChoice, NativeMet
from npuvm.compiler.cube.problem import CubeTile, ProductSizes, TileProblem
from npuvm.compiler.cube.tables import EXACT, CostTables
from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.errors import CompileError
from npuvm.compiler.native.loading import Native, loaded
from npuvm.compiler.tiles.levels import measured_below

__all__ = ["TileChooser", "chooser_of"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_KEPT_TILES = 256
"""Sizes whose tiles a chooser keeps: a product is asked for as part of one launch and again on its own."""

_KEPT_LAYERS = 64
"""Layers, of which n and k stay while the number of rows changes, whose costs a chooser keeps: some 60 KB for each."""

_FINER = 1.03
"""How many times their estimates finer candidates of a product of many rounds take: these lack some of what cores wait for."""

_LARGE = 1 << 48
"""Sizes and pitches below this are exact as floats, in bytes too."""


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
        self._tables = CostTables(problem, cores, (table, depths), kernels, measured, are_given=given is not None)
        self._edges, self._few, self._one_round = self._tables.edges, self._tables.few, self._tables.one_round
        self._memory, self._per_byte = self._tables.memory, self._tables.memory.per_byte
        self._weighed: dict[tuple[int, ...], Weighed] = {}
        self._last: tuple[tuple[int, int, int], Interval | None, Grid] = (
            (0, 0, 0),
            None,
            Grid(np.zeros(0), np.zeros(0), np.zeros(0)),
        )
        self._known: OrderedDict[ProductSizes, CubeTile] = OrderedDict()
        self._estimated: OrderedDict[ProductSizes, tuple[Sequence[int], float]] = OrderedDict()
        self._met: dict[ProductSizes, float] = {}
        self._l2_capacity = problem.chip.capacity_bytes("l2")
        native, shared, sides = loaded(), self._tables.shared, (self._one_round, self._tables.one_round_wide)
        self._native: NativeChoice | None = None
        self._native_met: NativeMet | None = None
        if native is not None and shared is not None:
            self._native_met = NativeMet(native, cores, shared.numbers)
        elif native is not None:
            room = np.empty(max(len(each.tiles) for each in self._tables.intervals))
            self._native = NativeChoice(native, cores, self._per_core, *sides, self._memory.numbers, room)

    def choose(self, sizes: ProductSizes) -> CubeTile:
        """The tile with the lowest estimate."""
        found = self._known.get(sizes)
        if found is None:
            best = self._estimated.pop(sizes, None) or self._kept(sizes)
            found = self._known[sizes] = self.tile(sizes, *best)
        return found

    def cycles(self, sizes: ProductSizes) -> int:
        """The estimate of the tile that `choose` gives, which many are asked for that are not taken."""
        known = self._known.get(sizes)
        if known is not None:
            return known.cycles
        best = self._estimated.get(sizes)
        if best is None:
            best = self._estimated[sizes] = self._kept(sizes)
        return self._estimate(sizes, best[1])

    def choose_in_steps(self, sizes: ProductSizes, l0_k: int) -> CubeTile | None:
        """The same among tiles whose steps over k at L0 are `l0_k` long; None where none is of use."""
        best = self._of_steps(sizes, l0_k)
        if self._may_be_finer(sizes):
            finer = self._of_steps(sizes, l0_k, finer=True)
            if finer is not None and (best is None or finer[1] * _FINER < best[1]):
                best = finer[0], finer[1] * _FINER
        return None if best is None else self.tile(sizes, *best)

    def part(self, sizes: ProductSizes, asked: Asked) -> Costed | None:
        """The best candidate of those asked for, for one product whose operands lie at blocks, or a part of it.

        None where none is of use. Addresses must be spread over the parts of memory.
        """
        end = bisect_left(self._edges, asked.most_m)
        if self._native is not None and self._is_native(sizes):
            interval, lines, _ = self._tables.costed(sizes)
            return self._native.part(lines, interval, sizes, interval.ends[end], self._tables.bounds[False][0], asked)
        weighed = self._tables.useful_at(self._tables.key(sizes)).at(sizes)
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

    def prepare_large(self) -> list[Floats]:
        """Make what `large` needs of operands that are copied; edges m and n of the tiles, those of each list once."""
        return self._tables.large_edges

    def large(self, sizes: ProductSizes, l0_k: int) -> LargeTiles:
        """Large tiles whose steps over k at L0 are `l0_k` long; see `CostTables.large`."""
        m, n, each = self._tables.large(sizes, l0_k)
        high, wide = self._blocks
        return LargeTiles(m, n, each * (high * wide) / (m * n), self._cores, high, wide)

    def is_vast(self, sizes: ProductSizes) -> bool:
        """Whether L2 has no room for operands and result."""
        m, n, k, batch, *_ = sizes
        return batch * ((m + n) * k + m * n) * self._item > self._l2_capacity

    def is_off(self, sizes: ProductSizes) -> bool:
        """Whether rows of an operand lie off the blocks of memory, which are read past L2 where it keeps no such reads."""
        return sizes.a_pitch % BLOCK_BYTES != 0 or sizes.b_pitch % BLOCK_BYTES != 0

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
        return max(met, self.read(sizes))

    def prepare(self) -> None:
        """Make what operands need whose rows follow each other or are copied, where there are few ways to lie."""
        self._tables.prepare()

    def prepare_parts(self) -> None:
        """The same for parts of k of operands whose rows follow each other."""
        self._tables.prepare_parts()

    def estimates(self, sizes: ProductSizes) -> tuple[Table, Ints, Floats]:
        """All tiles with their accumulators and estimated cycles."""
        costs = self._tables.costs
        every = self._tables.every(sizes).at(sizes)
        cycles = self._cycles(sizes, every, len(every.interval.tiles))
        return costs.table, costs.depths, np.maximum(cycles, self.read(sizes))

    def core_cycles(self, sizes: ProductSizes) -> tuple[Table, Ints, Floats, Floats]:
        """All tiles with their accumulators, and the cycles of a core for its first and for each later one."""
        costs = self._tables.costs
        every = self._tables.every(sizes).at(sizes)
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

    def _kept(self, sizes: ProductSizes) -> tuple[Sequence[int], float]:
        """The best candidate and its cycles for sizes that are going to be known."""
        known, estimated = self._known, self._estimated
        if len(known) + len(estimated) >= _KEPT_TILES:
            # One by one, so that no shape waits until all are dropped.
            oldest = known.popitem(last=False)[0] if len(known) > len(estimated) else estimated.popitem(last=False)[0]
            self._met.pop(oldest, None)
        return self._chosen(sizes)

    def _chosen(self, sizes: ProductSizes) -> tuple[Sequence[int], float]:
        candidate, cycles, met = self._best(sizes)
        if self._may_be_finer(sizes):
            finer = self._best(sizes, finer=True)
            if finer[1] * _FINER < cycles:
                candidate, cycles, met = finer[0], finer[1] * _FINER, finer[2]
        if met is not None:
            self._met[sizes] = met
        return candidate, cycles

    def _may_be_finer(self, sizes: ProductSizes) -> bool:
        """Whether finer candidates are asked for a product of many rounds: not where estimates lack what L2 has no room for."""
        return self._tables.has_many_rounds(sizes) and not self.is_vast(sizes)

    def _best(self, sizes: ProductSizes, *, finer: bool = False) -> tuple[Sequence[int], float, float | None]:
        """The best candidate, its cycles, and what `kept_cycles` asks for of rows that may meet."""
        if self._is_native(sizes):
            interval, best, least, kept = self._by_machine_code(sizes, finer=finer)
            return interval.tiles[best], least, kept
        # The rows of a transposed are as long as there are rows of the result.
        key = self._tables.key(sizes, finer=finer)
        layer = key[0], *(sizes if self._problem.a.flipped else sizes[1:])
        weighed = self._weighed.get(layer)
        if weighed is None:
            if len(self._weighed) >= _KEPT_LAYERS:
                del self._weighed[next(iter(self._weighed))]
            weighed = self._weighed[layer] = self._tables.useful_at(key).at(sizes)
        interval = weighed.interval
        cycles = self._cycles(sizes, weighed, interval.ends[bisect_left(self._edges, sizes.m)], lazily=True)
        best = int(cycles.argmin())
        met = None if weighed.met is None else weighed.met.kept(sizes.m, best)
        return interval.tiles[best], float(cycles[best]), met

    def _of_steps(self, sizes: ProductSizes, l0_k: int, *, finer: bool = False) -> tuple[Sequence[int], float] | None:
        """The best candidate with such steps over k at L0 and its cycles; None where none is of use."""
        if self._is_native(sizes):
            interval, best, least, _ = self._by_machine_code(sizes, l0_k, finer=finer)
            return None if best < 0 else (interval.tiles[best], least)
        weighed = self._tables.useful_at(self._tables.key(sizes, finer=finer)).at(sizes)
        interval = weighed.interval
        cycles = self._cycles(sizes, weighed, interval.ends[bisect_left(self._edges, sizes.m)])
        at = np.flatnonzero(np.minimum(interval.whole[1, : len(cycles)], max(sizes.k, 1)) == l0_k)
        at = at[cycles[at] < inf]
        if not len(at):
            return None
        best = int(at[cycles[at].argmin()])
        return interval.tiles[best], float(cycles[best])

    def _is_native(self, sizes: ProductSizes) -> bool:
        if self._native_met is not None:
            return max(sizes) < _LARGE and sizes.n * sizes.batch < EXACT
        return self._native is not None and sizes.n * sizes.batch < EXACT

    def _by_machine_code(
        self, sizes: ProductSizes, l0_k: int = 0, *, finer: bool = False
    ) -> tuple[Interval, int, float, float | None]:
        """The candidates, which one is the best, and its cycles, those of `_cycles`; and what `kept_cycles` asks for of rows
        that may meet."""
        interval, lines, bounds = self._tables.costed(sizes, finer=finer)
        end = interval.ends[bisect_left(self._edges, sizes.m)]
        if self._native_met is not None:
            return interval, *self._native_met.tile(lines, interval, sizes, end, bounds[1], l0_k)
        assert self._native is not None
        best, least = self._native.tile(lines, interval, sizes, end, bounds, l0_k, self._ended(sizes))
        return interval, best, least, None

    def tile(self, sizes: ProductSizes, candidate: Sequence[int], cycles: float) -> CubeTile:
        """A candidate (m, n, k at L1, k at L0, accumulators) of these estimated cycles, cut to the sizes."""
        m, n, k, _, _, _ = sizes
        tile_m, tile_n, l1_k, l0_k, depth = candidate
        if self._cores == 1:
            rows, cols = tile_m if tile_m < m else m, tile_n if tile_n < n else n
        else:
            rows, cols = _even(m, tile_m, self._blocks[0]), _even(n, tile_n, self._blocks[1])
        size = k or 1
        l1 = rows, cols, l1_k if l1_k < size else size
        l0 = rows, cols, l0_k if l0_k < size else size
        return CubeTile(l1, l0, depth, self._estimate(sizes, cycles))

    def _estimate(self, sizes: ProductSizes, cycles: float) -> int:
        read = self.read(sizes)
        return int(cycles if cycles > read else read)

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
        m, n, k, batch, _, _ = sizes
        moved = (m + n) * k * batch * self._item
        beyond = m * n * batch * self._out_item - self._l2_capacity
        return (moved + beyond if beyond > 0 else moved) * self._per_byte


def _even(size: int, edge: int, block: int) -> int:
    """An edge of tiles that are as many, but alike: on many cores the largest one decides."""
    if edge >= size:
        return size
    alike = -(-size // -(-size // edge))
    return min(-(-alike // block) * block, edge)


def chooser_of(problem: TileProblem, cores: int, where: str | None = None) -> TileChooser:
    """The chooser for products of one sort, made once; CompileError, at `where`, when no tile fits the chip's buffers."""
    try:
        return _chooser(problem.chip.chip_hash, AlikeProblem(problem), cores, loaded())
    except CompileError as error:
        raise CompileError(error.message, where) from None


@lru_cache(maxsize=64)
def _chooser(chip_hash: str, sort: AlikeProblem, cores: int, native: Native | None) -> TileChooser:
    return TileChooser(sort.problem, cores)
