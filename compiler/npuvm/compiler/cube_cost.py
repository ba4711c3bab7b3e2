"""What a tile of a matrix product costs: an analytic estimate, for all candidates at once.

The estimate is in core cycles and made of the same rates that the chip's configuration gives the simulator: the busiest unit of
a core over all its tiles, plus the time until the first and after the last tile, and not less than what L2 and main memory need
for all cores together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube_choice_terms import Value, common, integer, largest, least, parts, pick, root, same
from npuvm.compiler.cube_spec import Side
from npuvm.compiler.errors import CompileError
from npuvm.compiler.schedule import Pins, pin_error
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["LOAD_WORDS", "RINGS", "STEP_WORDS", "TILE_WORDS", "VISIBLE", "ProductCost", "ProductSizes", "TileProblem"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

RINGS = {"l1.a": 2, "l1.b": 2, "l1.bias": 2, "l0a": 2, "l0b": 2, "l0c": 2, "ub.c": 2}
"""Rings and how many slots they have when nothing is pinned; `l0c` falls back to 1 where 2 do not fit."""

VISIBLE = 0.2
"""Share of the work beside the slowest that it does not hide, seen in simulated runs; it also decides between equals."""

STEP_WORDS = 18
"""Words that one step over k at L0 has at most: two moves, two products, a loop, four synchronisations."""

LOAD_WORDS = 20
"""Words of one step over k at L1 beside those: two loads, two synchronisations, a loop."""

TILE_WORDS = 40
"""Words of one tile beside those: the bias, the first and last synchronisation, the result."""


@dataclass(frozen=True, slots=True)
class TileProblem:
    """What the choice depends on besides the sizes: the chip, types, layouts and pins."""

    isa: Isa
    chip: NpuConfig
    dtype: str
    out_item: int
    bias_item: int
    a: Side
    b: Side
    via_ub: bool
    pins: Pins

    @property
    def item(self) -> int:
        """Bytes of an element of the two operands."""
        return self.isa.dtypes[self.dtype].itemsize

    @property
    def acc_item(self) -> int:
        """Bytes of an accumulator in L0C. Raises CompileError for a dtype that the cube does not take."""
        acc = self.isa.dtypes[self.dtype].acc
        if acc is None:
            raise CompileError(f"{self.dtype} has no accumulator in {self.isa.name}")
        return self.isa.dtypes[acc].itemsize

    def depth(self, ring: str) -> int:
        """Slots of a ring: pinned, or the default."""
        if ring in ("l1.a", "l1.b") and self.pins.l1_depth is not None:
            given = self.pins.ring_depth.get(ring)
            if given not in (None, self.pins.l1_depth):
                pin_error(f"ring_depth.{ring}", given, f"{self.pins.l1_depth}, which pin l1_depth gives")
            return self.pins.l1_depth
        return self.pins.ring_depth.get(ring, RINGS[ring])


class ProductSizes(NamedTuple):
    """What changes from shape to shape: m, n, k, the number of matrices, and bytes between rows in memory of both operands."""

    m: int
    n: int
    k: int
    batch: int
    a_pitch: int
    b_pitch: int


class _Operand(NamedTuple):
    """Loads of one operand in one tile: row segments of `row_bytes`, `rows` of them a step, once in `run` tiles.

    `places`: at how many different columns the cores are at one time.
    """

    rows: Value
    row_bytes: Value
    pitch: Value
    run: Value
    places: Value
    dense: Value


class ProductCost:
    """Estimates for products of one sort on `cores` cores. Tiles are no larger than the matrices."""

    def __init__(self, problem: TileProblem, cores: int) -> None:
        chip = problem.chip
        core, memory = chip.core, chip.memory
        self.problem, self.cores = problem, cores
        self.item, self.out_item = problem.item, problem.out_item
        self.flipped_a, self.flipped_b = problem.a.flipped, problem.b.flipped
        self.columns_first = problem.pins.order in ("column", "swizzle")
        cube, move, load = core.cube, core.move, core.load
        self.blocks = cube.m, cube.n, cube.k_bytes // problem.item
        self.block_cycles = float(cube.cycles_per_block[problem.dtype])
        self.product_start = cube.startup_cycles + cube.latency_cycles
        self.move_rates = float(move.l0a_bytes_per_cycle), float(move.l0b_bytes_per_cycle)
        self.move_start = move.startup_cycles
        self.load_start, self.load_row = load.l1_startup_cycles, float(load.l1_row_cycles)
        self.port, self.burst = float(load.l1_bytes_per_cycle), load.min_burst_bytes
        self.chunk = load.chunk_bytes
        self.latency = memory.l2.latency_cycles + memory.hbm.latency_cycles
        self.in_flight = self.latency / load.outstanding
        self.l2, self.hbm = float(chip.l2_bytes_per_cycle), float(chip.hbm_bytes_per_cycle)
        self.line, self.access = memory.l2.line_bytes, memory.l2.access_bytes
        self.hashed = memory.address_hash
        self.slices = memory.l2.line_bytes, memory.l2.slices
        self.channels = memory.hbm.interleave_bytes, memory.hbm.channels
        self.l2_capacity = chip.capacity_bytes("l2")
        self.decode = core.sequencer.decode_cycles_per_word
        self.queue = core.sequencer.queue_depth
        fixpipe, store = core.fixpipe, core.store
        self.via_ub = problem.via_ub
        self.fix_start = fixpipe.startup_cycles
        self.fix_rate = float(fixpipe.ub_bytes_per_cycle if problem.via_ub else fixpipe.gm_bytes_per_cycle)
        self.out_burst = store.min_burst_bytes
        self.store = store.startup_cycles, float(store.row_cycles), float(store.bytes_per_cycle)

    def cycles(self, sizes: ProductSizes, table: Ints, l0c_depths: Ints) -> Floats:
        """Estimated cycles of the whole product for each candidate (m, n, k at L1, m, n, k at L0)."""
        m, n, k, m0, n0, k0 = np.ascontiguousarray(table.T, dtype=np.float64)
        return np.asarray(self.estimate(sizes, (m, n, k), (m0, n0, k0), l0c_depths), dtype=np.float64)

    def estimate(self, sizes: ProductSizes, l1: Sequence[Value], l0: Sequence[Value], l0c_depth: Value) -> Value:
        """The same for tiles (m, n, k) at L1 and at L0, given as arrays, or as terms as the sizes are then too.

        The next loads are dispatched behind the moves of this L1 tile; where those overflow the queue, loads and moves
        overlap less.
        """
        (m, n, k), (m0, n0, k0), depth = l1, l0, sizes.k
        cuts_m, cuts_n = parts(sizes.m, m), parts(sizes.n, n)
        tiles = cuts_m * cuts_n * sizes.batch
        used = least(self.cores, tiles)
        steps1, steps0 = parts(depth, k), parts(depth, k0)
        parts_m = parts(m, m0)
        moves = steps0 * parts_m
        products = moves * parts(n, n0)
        block_m, block_n, block_k = self.blocks
        blocks = parts(m, block_m) * parts(n, block_n) * parts(depth, block_k)
        compute = blocks * self.block_cycles + products * self.product_start
        move = m * (depth * self.item / self.move_rates[0])
        move = move + n * parts_m * (depth * self.item / self.move_rates[1]) + moves * (2 * self.move_start)
        operands = self._operands(sizes, (m, n, k), (cuts_m, cuts_n), tiles / used, steps1)
        served = [self._served(each) for each in operands]
        load = self._load(operands, served, used, steps1)
        out = self.out(m, n, sizes.n)
        words = products * STEP_WORDS + steps1 * LOAD_WORDS + TILE_WORDS
        busy = pick(l0c_depth > 1, compute, compute + out)
        decode = words * self.decode
        slowest = largest(largest(largest(busy, move), largest(load, out)), decode)
        tile = slowest * (1 - VISIBLE) + (busy + move + load + out + decode) * VISIBLE
        per_step = largest(steps1, 1)
        ahead = least(self.queue / largest(2 * moves / per_step, 1), 1)
        tile = tile + least(load, move) * (1 - ahead)
        first = load / per_step + self.latency
        last = (compute + move) / largest(steps0, 1) + out
        own = parts(tiles, self.cores) * tile + first + last
        shared = self._shared(sizes, operands, served, (cuts_m, m), steps1, tiles)
        return largest(own, shared) + VISIBLE * own

    def _operands(
        self,
        sizes: ProductSizes,
        tile: tuple[Value, Value, Value],
        cuts: tuple[Value, Value],
        per_core: Value,
        steps1: Value,
    ) -> tuple[_Operand, _Operand]:
        """Both operands. Where all of k is in one L1 tile, the one that the fastest loop does not move is loaded once a run."""
        m, n, k = tile
        cuts_m, cuts_n = cuts
        own = largest(per_core, 1)
        run = pick(steps1 <= 1, largest(least(cuts_m if self.columns_first else cuts_n, own), 1), 1.0)
        runs: tuple[Value, Value] = (1.0, run) if self.columns_first else (run, 1.0)
        a_places = least(cuts_m, self.cores) if self.flipped_a else 1.0
        b_places = 1.0 if self.flipped_b else least(cuts_n, self.cores)
        if self.columns_first:
            a_places = least(a_places, cuts_m / common(cuts_m, own))
        else:
            b_places = least(b_places, cuts_n / common(cuts_n, own))
        a_rows, a_cols = (k, m) if self.flipped_a else (m, k)
        b_rows, b_cols = (n, k) if self.flipped_b else (k, n)
        a_bytes, b_bytes = a_cols * self.item, b_cols * self.item
        return (
            _Operand(a_rows, a_bytes, sizes.a_pitch, runs[0], a_places, same(a_bytes, sizes.a_pitch)),
            _Operand(b_rows, b_bytes, sizes.b_pitch, runs[1], b_places, same(b_bytes, sizes.b_pitch)),
        )

    def _served(self, operand: _Operand) -> Value:
        """Bytes for which a step's rows keep L2 busy: each access to a line costs `access_bytes` at least.

        A row is cut where its requests end and where a line ends. Rows begin at multiples of their own length.
        """
        length = largest(operand.row_bytes, 1)
        if self.access == 1:
            return operand.rows * length
        # The lowest bit that is set is what a length has in common with a power of two.
        whole = integer(length)
        aligned = least(whole & -whole, self.line) / self.line
        cut = 1 - aligned if self.chunk % self.line == 0 else 1
        pieces = 1 + length / self.line - aligned + (parts(length, self.chunk) - 1) * cut
        pieces = pick(operand.dense, length / min(self.chunk, self.line), pieces)
        return operand.rows * largest(operand.row_bytes, pieces * self.access)

    def _spread(self, operand: _Operand, unit: int, count: int) -> Value:
        """Share of `count` memory servers, interleaved by `unit` bytes, that one step's rows reach.

        Rows that begin a multiple of the interleave apart come back to the same servers, unless addresses are hashed. Cores
        begin at the same k and then drift apart: the share is the geometric mean of what one k reaches and of all.
        """
        if self.hashed:
            return 1.0
        apart = count // common(operand.pitch // unit, count)
        reached = least(apart, operand.rows) * parts(operand.row_bytes, unit) * operand.places
        spread = pick(operand.dense, 1.0, root(least(reached / count, 1.0)))
        return pick(operand.pitch % unit, 1.0, pick(operand.pitch, spread, 1.0))

    def _load(self, operands: tuple[_Operand, ...], served: list[Value], used: Value, steps1: Value) -> Value:
        """Cycles of the loads of one tile, operand after operand.

        Each takes the longest of: issue, port, requests in flight, and this core's part of the L2 slices that its rows reach.
        """
        total: Value = 0.0
        for each, busy in zip(operands, served, strict=True):
            issue = pick(each.dense, 1, each.rows) * self.load_row + self.load_start
            wide = pick(each.dense, each.row_bytes, largest(each.row_bytes, self.burst))
            port = each.rows * wide / self.port
            chunks = pick(each.dense, each.row_bytes / self.chunk, parts(each.row_bytes, self.chunk))
            in_flight = each.rows * chunks * self.in_flight
            shared = busy * used / (self._spread(each, *self.slices) * self.l2)
            step = largest(largest(issue, port), largest(in_flight, shared))
            total = total + step * steps1 / each.run
        return total

    def out(self, m: Value, n: Value, columns: Value) -> Value:
        """Cycles of a tile's way out. Of `columns` in all, rows of fewer leave one by one, and a short one as a whole burst."""
        nbytes = m * n * self.out_item
        sent = pick(n < columns, m * largest(n * self.out_item, self.out_burst), nbytes)
        if not self.via_ub:
            return self.fix_start + sent / self.fix_rate
        startup, per_row, rate = self.store
        return largest(self.fix_start + nbytes / self.fix_rate, startup + m * per_row + sent / rate)

    def _shared(
        self,
        sizes: ProductSizes,
        operands: tuple[_Operand, ...],
        served: list[Value],
        rows: tuple[Value, Value],
        steps1: Value,
        tiles: Value,
    ) -> Value:
        """Cycles that L2 and main memory need for all cores together.

        Loads of the two operands follow each other, so each takes the time of its slower memory. Main memory is read once for
        a, and for b once where L2 keeps it, else once for each round of row strips; results that fit L2 stay there.
        """
        cuts_m, m = rows
        strips = least(cuts_m, self.cores)
        kept = (strips * m + sizes.n) * (sizes.k * self.item) <= self.l2_capacity
        stored = sizes.m * sizes.n * sizes.batch * self.out_item
        total = stored / pick(stored <= self.l2_capacity, self.l2, min(self.l2, self.hbm))
        passes: tuple[Value, Value] = (1, pick(kept, 1, parts(cuts_m, strips)))
        for each, busy, edge, times in zip(operands, served, (sizes.m, sizes.n), passes, strict=True):
            loaded = busy * steps1 / each.run * tiles
            read = times * (edge * sizes.k * sizes.batch * self.item)
            from_l2 = loaded / (self._spread(each, *self.slices) * self.l2)
            total = total + largest(from_l2, read / (self._spread(each, *self.channels) * self.hbm))
        return total
