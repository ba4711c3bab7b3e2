"""What a tile of a matrix product costs: an analytic estimate, for all candidates at once.

The estimate is in core cycles and made of the same rates that the chip's configuration gives the simulator: the busiest unit of
a core over all its tiles, plus the time until the first and after the last tile, and not less than what L2 and main memory need
for all cores together.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube_spec import Side
from npuvm.compiler.errors import CompileError
from npuvm.compiler.schedule import Pins, pin_error
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["RINGS", "ProductCost", "ProductSizes", "TileProblem"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

RINGS = {"l1.a": 2, "l1.b": 2, "l1.bias": 2, "l0a": 2, "l0b": 2, "l0c": 2, "ub.c": 2}
"""Rings and how many slots they have when nothing is pinned; `l0c` falls back to 1 where 2 do not fit."""

_VISIBLE = 0.2
"""Share of the work beside the slowest that it does not hide, seen in simulated runs; it also decides between equals."""

_STEP_WORDS = 18
"""Words that one step over k at L0 has at most: two moves, two products, a loop, four synchronisations."""

_LOAD_WORDS = 20
"""Words of one step over k at L1 beside those: two loads, two synchronisations, a loop."""

_TILE_WORDS = 40
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

    rows: Floats
    row_bytes: Floats
    pitch: int
    run: Floats | float
    places: Floats | float
    dense: npt.NDArray[np.bool_]


class ProductCost:
    """Estimates for products of one sort on `cores` cores. Tiles are no larger than the matrices."""

    def __init__(self, problem: TileProblem, cores: int) -> None:
        chip = problem.chip
        core, memory = chip.core, chip.memory
        self.problem, self.cores = problem, cores
        self._item, self._out_item = problem.item, problem.out_item
        self._flipped_a, self._flipped_b = problem.a.flipped, problem.b.flipped
        self._columns_first = problem.pins.order in ("column", "swizzle")
        cube, move, load = core.cube, core.move, core.load
        self._blocks = cube.m, cube.n, cube.k_bytes // problem.item
        self._block_cycles = float(cube.cycles_per_block[problem.dtype])
        self._product_start = cube.startup_cycles + cube.latency_cycles
        self._move_rates = float(move.l0a_bytes_per_cycle), float(move.l0b_bytes_per_cycle)
        self._move_start = move.startup_cycles
        self._load_start, self._load_row = load.l1_startup_cycles, float(load.l1_row_cycles)
        self._port, self._burst = float(load.l1_bytes_per_cycle), load.min_burst_bytes
        self._chunk, self._outstanding = load.chunk_bytes, load.outstanding
        self._latency = memory.l2.latency_cycles + memory.hbm.latency_cycles
        self._l2, self._hbm = float(chip.l2_bytes_per_cycle), float(chip.hbm_bytes_per_cycle)
        self._line, self._access = memory.l2.line_bytes, memory.l2.access_bytes
        self._hashed = memory.address_hash
        self._slices = memory.l2.line_bytes, memory.l2.slices
        self._channels = memory.hbm.interleave_bytes, memory.hbm.channels
        self._l2_capacity = chip.capacity_bytes("l2")
        self._decode = core.sequencer.decode_cycles_per_word
        self._queue = core.sequencer.queue_depth
        fixpipe, store = core.fixpipe, core.store
        self._via_ub = problem.via_ub
        self._fix_start = fixpipe.startup_cycles
        self._fix_rate = float(fixpipe.ub_bytes_per_cycle if problem.via_ub else fixpipe.gm_bytes_per_cycle)
        self._out_burst = store.min_burst_bytes
        self._store = store.startup_cycles, float(store.row_cycles), float(store.bytes_per_cycle)

    def cycles(self, sizes: ProductSizes, table: Ints, l0c_depths: Ints) -> Floats:
        """Estimated cycles of the whole product for each candidate (m, n, k at L1, m, n, k at L0).

        The next loads are dispatched behind the moves of this L1 tile; where those overflow the queue, loads and moves
        overlap less.
        """
        m, n, k, m0, n0, k0 = np.ascontiguousarray(table.T, dtype=np.float64)
        depth = sizes.k
        cuts_m, cuts_n = np.ceil(sizes.m / m), np.ceil(sizes.n / n)
        tiles = cuts_m * cuts_n * sizes.batch
        used = np.minimum(self.cores, tiles)
        steps1, steps0 = np.ceil(depth / k), np.ceil(depth / k0)
        parts_m = np.ceil(m / m0)
        moves = steps0 * parts_m
        products = moves * np.ceil(n / n0)
        block_m, block_n, block_k = self._blocks
        blocks = np.ceil(m / block_m) * np.ceil(n / block_n) * -(-depth // block_k)
        compute = blocks * self._block_cycles + products * self._product_start
        move = m * (depth * self._item / self._move_rates[0])
        move = move + n * parts_m * (depth * self._item / self._move_rates[1]) + moves * (2 * self._move_start)
        operands = self._operands(sizes, (m, n, k), (cuts_m, cuts_n), tiles / used, steps1)
        served = [self._served(each) for each in operands]
        load = self._load(operands, served, used, steps1)
        out = self._out(m, n, sizes.n)
        words = products * _STEP_WORDS + steps1 * _LOAD_WORDS + _TILE_WORDS
        busy = np.where(l0c_depths > 1, compute, compute + out)
        decode = words * self._decode
        most = np.maximum(np.maximum(np.maximum(busy, move), np.maximum(load, out)), decode)
        tile = most * (1 - _VISIBLE) + (busy + move + load + out + decode) * _VISIBLE
        per_step = np.maximum(steps1, 1)
        ahead = np.minimum(self._queue / np.maximum(2 * moves / per_step, 1), 1)
        tile += np.minimum(load, move) * (1 - ahead)
        first = load / per_step + self._latency
        last = (compute + move) / np.maximum(steps0, 1) + out
        own = np.ceil(tiles / self.cores) * tile + first + last
        shared = self._shared(sizes, operands, served, (cuts_m, m), steps1, tiles)
        return np.asarray(np.maximum(own, shared) + _VISIBLE * own)

    def _operands(
        self,
        sizes: ProductSizes,
        tile: tuple[Floats, Floats, Floats],
        cuts: tuple[Floats, Floats],
        per_core: Floats,
        steps1: Floats,
    ) -> tuple[_Operand, _Operand]:
        """Both operands. Where all of k is in one L1 tile, the one that the fastest loop does not move is loaded once a run."""
        m, n, k = tile
        cuts_m, cuts_n = cuts
        own = np.maximum(per_core, 1)
        run = np.where(steps1 <= 1, np.maximum(np.minimum(cuts_m if self._columns_first else cuts_n, own), 1), 1.0)
        runs: tuple[Floats | float, Floats | float] = (1.0, run) if self._columns_first else (run, 1.0)
        a_places: Floats | float = np.minimum(cuts_m, self.cores) if self._flipped_a else 1.0
        b_places: Floats | float = 1.0 if self._flipped_b else np.minimum(cuts_n, self.cores)
        if self._columns_first:
            a_places = np.minimum(a_places, cuts_m / _gcd(cuts_m, own))
        else:
            b_places = np.minimum(b_places, cuts_n / _gcd(cuts_n, own))
        a_rows, a_cols = (k, m) if self._flipped_a else (m, k)
        b_rows, b_cols = (n, k) if self._flipped_b else (k, n)
        a_bytes, b_bytes = a_cols * self._item, b_cols * self._item
        return (
            _Operand(a_rows, a_bytes, sizes.a_pitch, runs[0], a_places, a_bytes == sizes.a_pitch),
            _Operand(b_rows, b_bytes, sizes.b_pitch, runs[1], b_places, b_bytes == sizes.b_pitch),
        )

    def _served(self, operand: _Operand) -> Floats:
        """Bytes for which a step's rows keep L2 busy: each access to a line costs `access_bytes` at least.

        A row is cut where its requests end and where a line ends. Rows begin at multiples of their own length.
        """
        length = np.maximum(operand.row_bytes, 1)
        if self._access == 1:
            return np.asarray(operand.rows * length, dtype=np.float64)
        # The lowest bit that is set is what a length has in common with a power of two.
        whole = length.astype(np.int64)
        aligned = np.minimum(whole & -whole, self._line) / self._line
        cut = 1 - aligned if self._chunk % self._line == 0 else 1
        pieces = 1 + length / self._line - aligned + (np.ceil(length / self._chunk) - 1) * cut
        pieces = np.where(operand.dense, length / min(self._chunk, self._line), pieces)
        return np.asarray(operand.rows * np.maximum(operand.row_bytes, pieces * self._access))

    def _spread(self, operand: _Operand, unit: int, count: int) -> Floats | float:
        """Share of `count` memory servers, interleaved by `unit` bytes, that one step's rows reach.

        Rows that begin a multiple of the interleave apart come back to the same servers, unless addresses are hashed. Cores
        begin at the same k and then drift apart: the share is the geometric mean of what one k reaches and of all.
        """
        pitch = operand.pitch
        if self._hashed or pitch == 0 or pitch % unit:
            return 1.0
        apart = count // gcd(pitch // unit, count)
        reached = np.minimum(apart, operand.rows) * np.ceil(operand.row_bytes / unit) * operand.places
        return np.where(operand.dense, 1.0, np.sqrt(np.minimum(reached / count, 1.0)))

    def _load(self, operands: tuple[_Operand, ...], served: list[Floats], used: Floats, steps1: Floats) -> Floats:
        """Cycles of the loads of one tile, operand after operand.

        Each takes the longest of: issue, port, requests in flight, and this core's part of the L2 slices that its rows reach.
        """
        total: Floats | float = 0.0
        for each, busy in zip(operands, served, strict=True):
            issue = np.where(each.dense, 1, each.rows) * self._load_row + self._load_start
            port = (
                each.rows * np.where(each.dense, each.row_bytes, np.maximum(each.row_bytes, self._burst)) / self._port
            )
            chunks = each.row_bytes / self._chunk
            in_flight = each.rows * np.where(each.dense, chunks, np.ceil(chunks)) * (self._latency / self._outstanding)
            shared = busy * used / (self._spread(each, *self._slices) * self._l2)
            step = np.maximum(np.maximum(issue, port), np.maximum(in_flight, shared))
            total = total + step * steps1 / each.run
        return np.asarray(total)

    def _out(self, m: Floats, n: Floats, columns: int) -> Floats:
        """Cycles of a tile's way out. Of `columns` in all, rows of fewer leave one by one, and a short one as a whole burst."""
        nbytes = m * n * self._out_item
        sent = np.where(n < columns, m * np.maximum(n * self._out_item, self._out_burst), nbytes)
        if not self._via_ub:
            return np.asarray(self._fix_start + sent / self._fix_rate)
        startup, per_row, rate = self._store
        return np.asarray(np.maximum(self._fix_start + nbytes / self._fix_rate, startup + m * per_row + sent / rate))

    def _shared(
        self,
        sizes: ProductSizes,
        operands: tuple[_Operand, ...],
        served: list[Floats],
        rows: tuple[Floats, Floats],
        steps1: Floats,
        tiles: Floats,
    ) -> Floats:
        """Cycles that L2 and main memory need for all cores together.

        Loads of the two operands follow each other, so each takes the time of its slower memory. Main memory is read once for
        a, and for b once where L2 keeps it, else once for each round of row strips; results that fit L2 stay there.
        """
        cuts_m, m = rows
        strips = np.minimum(cuts_m, self.cores)
        kept = (strips * m + sizes.n) * (sizes.k * self._item) <= self._l2_capacity
        stored = sizes.m * sizes.n * sizes.batch * self._out_item
        total: Floats | float = stored / (self._l2 if stored <= self._l2_capacity else min(self._l2, self._hbm))
        passes: tuple[Floats | int, ...] = (1, np.where(kept, 1, np.ceil(cuts_m / strips)))
        for each, busy, edge, times in zip(operands, served, (sizes.m, sizes.n), passes, strict=True):
            loaded = busy * steps1 / each.run * tiles
            read = times * (edge * sizes.k * sizes.batch * self._item)
            from_l2 = loaded / (self._spread(each, *self._slices) * self._l2)
            total = total + np.maximum(from_l2, read / (self._spread(each, *self._channels) * self._hbm))
        return np.asarray(total)


def _gcd(a: Floats, b: Floats) -> Ints:
    """Greatest common divisors of whole numbers; `b` may have a fraction, which is left out."""
    return np.asarray(np.gcd(a.astype(np.int64), b.astype(np.int64)))
