"""What a tile of a matrix product costs: an analytic estimate, for all candidates at once.

The estimate is in core cycles and made of the same rates that the chip's configuration gives the simulator: the busiest unit of
a core over all its tiles, plus the time until the first and after the last tile, and not less than what L2 and main memory need
for all cores together.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube_spec import MatmulSpec, Side
from npuvm.compiler.errors import CompileError
from npuvm.compiler.schedule import Pins, pin_error
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["RINGS", "TileProblem", "estimate_cycles"]

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


class _Tiles:
    """Sizes of the candidates as float columns, and how often each thing happens."""

    def __init__(self, problem: TileProblem, spec: MatmulSpec, table: Ints, cores: int) -> None:
        depth = max(spec.k, 1)
        limits = np.array([spec.m, spec.n, depth] * 2)
        self.m, self.n, self.k, m0, n0, k0 = np.minimum(table, limits).T.astype(np.float64)
        self.batch = float(np.prod(spec.batch)) if spec.batch else 1.0
        self.cuts_m, self.cuts_n = np.ceil(spec.m / self.m), np.ceil(spec.n / self.n)
        self.tiles = self.batch * self.cuts_m * self.cuts_n
        self.waves = np.ceil(self.tiles / cores)
        self.cores = np.minimum(cores, self.tiles)
        self.per_core = self.tiles / self.cores
        self.steps1, self.steps0 = np.ceil(spec.k / self.k), np.ceil(spec.k / k0)
        self.parts_m, self.parts_n = np.ceil(self.m / m0), np.ceil(self.n / n0)


@dataclass(frozen=True, slots=True)
class _Operand:
    """Loads of one operand in one tile: row segments of `row_bytes`, `rows` of them a step, once in `run` tiles.

    `places`: at how many different columns the cores are at one time.
    """

    rows: Floats
    row_bytes: Floats
    pitch: int
    run: Floats
    places: Floats

    @property
    def dense(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.row_bytes == self.pitch)

    def served(self, chip: NpuConfig) -> Floats:
        """Bytes for which a step's rows keep L2 busy: each access to a line costs `access_bytes` at least.

        A row is cut where its requests end and where a line ends. Rows begin at multiples of their own length.
        """
        l2, chunk = chip.memory.l2, chip.core.load.chunk_bytes
        length = np.maximum(self.row_bytes, 1)
        aligned = np.gcd(length.astype(np.int64), l2.line_bytes) / l2.line_bytes
        by_lines = (length / l2.line_bytes) - aligned
        by_requests = (np.ceil(length / chunk) - 1) * (1 - aligned if chunk % l2.line_bytes == 0 else 1)
        pieces = np.where(self.dense, length / min(chunk, l2.line_bytes), 1 + by_lines + by_requests)
        return np.asarray(self.rows * np.maximum(self.row_bytes, pieces * l2.access_bytes))

    def spread(self, unit: int, count: int, hashed: bool) -> Floats:
        """Share of `count` memory servers, interleaved by `unit` bytes, that one step's rows reach.

        Rows that begin a multiple of the interleave apart come back to the same servers, unless addresses are hashed. Cores
        begin at the same k and then drift apart: the share is the geometric mean of what one k reaches and of all.
        """
        if hashed or self.pitch == 0 or self.pitch % unit:
            return np.ones_like(self.rows)
        apart = count // gcd(self.pitch // unit, count)
        reached = np.minimum(apart, self.rows) * np.ceil(self.row_bytes / unit) * self.places
        return np.where(self.dense, 1.0, np.sqrt(np.minimum(reached / count, 1.0)))


def estimate_cycles(problem: TileProblem, spec: MatmulSpec, table: Ints, l0c_depths: Ints, cores: int) -> Floats:
    """Estimated cycles of the whole product for each candidate (m, n, k at L1, m, n, k at L0).

    The next loads are dispatched behind the moves of this L1 tile; where those overflow the queue, loads and moves
    overlap less.
    """
    tiles = _Tiles(problem, spec, table, cores)
    core = problem.chip.core
    compute, move, out = _compute(problem, spec, tiles), _move(problem, spec, tiles), _out(problem, tiles)
    operands = _operands(problem, tiles, cores)
    load = _load(problem, tiles, operands)
    words = tiles.steps0 * tiles.parts_m * tiles.parts_n * _STEP_WORDS + tiles.steps1 * _LOAD_WORDS + _TILE_WORDS
    busy = np.where(l0c_depths > 1, compute, compute + out)
    units = np.stack([busy, move, load, out, words * core.sequencer.decode_cycles_per_word])
    tile = units.max(axis=0) * (1 - _VISIBLE) + units.sum(axis=0) * _VISIBLE
    moves = 2 * tiles.steps0 * tiles.parts_m / np.maximum(tiles.steps1, 1)
    ahead = np.minimum(core.sequencer.queue_depth / np.maximum(moves, 1), 1)
    tile += np.minimum(load, move) * (1 - ahead)
    memory = problem.chip.memory
    first = load / np.maximum(tiles.steps1, 1) + memory.l2.latency_cycles + memory.hbm.latency_cycles
    last = (compute + move) / np.maximum(tiles.steps0, 1) + out
    own = tiles.waves * tile + first + last
    return np.asarray(np.maximum(own, _shared(problem, spec, tiles, operands, cores)) + _VISIBLE * own)


def _compute(problem: TileProblem, spec: MatmulSpec, tiles: _Tiles) -> Floats:
    cube = problem.chip.core.cube
    deep = np.ceil(spec.k / (cube.k_bytes // problem.item))
    blocks = np.ceil(tiles.m / cube.m) * np.ceil(tiles.n / cube.n) * deep
    starts = tiles.steps0 * tiles.parts_m * tiles.parts_n * (cube.startup_cycles + cube.latency_cycles)
    return np.asarray(blocks * cube.cycles_per_block[problem.dtype] + starts)


def _move(problem: TileProblem, spec: MatmulSpec, tiles: _Tiles) -> Floats:
    """L1 to L0: the right operand is moved again for every part of the tile's rows."""
    move = problem.chip.core.move
    left = tiles.m * spec.k * problem.item / move.l0a_bytes_per_cycle
    right = spec.k * tiles.n * problem.item / move.l0b_bytes_per_cycle * tiles.parts_m
    return np.asarray(left + right + tiles.steps0 * tiles.parts_m * 2 * move.startup_cycles)


def _operands(problem: TileProblem, tiles: _Tiles, cores: int) -> tuple[_Operand, _Operand]:
    """Both operands. Where all of k is in one L1 tile, the one that the fastest loop does not move is loaded once a run."""
    columns_first = problem.pins.order in ("column", "swizzle")
    cuts = tiles.cuts_m if columns_first else tiles.cuts_n
    run = np.where(tiles.steps1 <= 1, np.maximum(np.minimum(cuts, tiles.per_core), 1), 1.0)
    runs = (np.ones_like(run), run) if columns_first else (run, np.ones_like(run))
    a, b = problem.a, problem.b
    a_rows, a_cols = (tiles.k, tiles.m) if a.flipped else (tiles.m, tiles.k)
    b_rows, b_cols = (tiles.n, tiles.k) if b.flipped else (tiles.k, tiles.n)
    one = np.ones_like(run)
    a_places = np.minimum(tiles.cuts_m, cores) if a.flipped else one
    b_places = one if b.flipped else np.minimum(tiles.cuts_n, cores)
    per_core = np.maximum(tiles.per_core, 1).astype(np.int64)
    if columns_first:
        a_places = np.minimum(a_places, tiles.cuts_m / np.gcd(tiles.cuts_m.astype(np.int64), per_core))
    else:
        b_places = np.minimum(b_places, tiles.cuts_n / np.gcd(tiles.cuts_n.astype(np.int64), per_core))
    return (
        _Operand(a_rows, a_cols * problem.item, a.pitch, runs[0], a_places),
        _Operand(b_rows, b_cols * problem.item, b.pitch, runs[1], b_places),
    )


def _load(problem: TileProblem, tiles: _Tiles, operands: tuple[_Operand, ...]) -> Floats:
    """Cycles of the loads of one tile, operand after operand.

    Each takes the longest of: issue, port, requests in flight, and this core's part of the L2 slices that its rows reach.
    """
    dma, memory = problem.chip.core.load, problem.chip.memory
    latency = memory.l2.latency_cycles + memory.hbm.latency_cycles
    l2_rate = float(problem.chip.l2_bytes_per_cycle)
    cycles = np.zeros_like(tiles.m)
    for each in operands:
        dense = each.dense
        issue = np.where(dense, 1, each.rows) * float(dma.l1_row_cycles) + dma.l1_startup_cycles
        port_bytes = each.rows * np.where(dense, each.row_bytes, np.maximum(each.row_bytes, dma.min_burst_bytes))
        chunks = np.where(dense, each.row_bytes / dma.chunk_bytes, np.ceil(each.row_bytes / dma.chunk_bytes))
        in_flight = each.rows * chunks * latency / dma.outstanding
        spread = each.spread(memory.l2.line_bytes, memory.l2.slices, memory.address_hash)
        shared = each.served(problem.chip) * tiles.cores / (spread * l2_rate)
        step = np.maximum.reduce([issue, port_bytes / dma.l1_bytes_per_cycle, in_flight, shared])
        cycles += step * tiles.steps1 / each.run
    return np.asarray(cycles)


def _out(problem: TileProblem, tiles: _Tiles) -> Floats:
    core = problem.chip.core
    nbytes = tiles.m * tiles.n * problem.out_item
    if not problem.via_ub:
        return np.asarray(core.fixpipe.startup_cycles + nbytes / core.fixpipe.gm_bytes_per_cycle)
    fix = core.fixpipe.startup_cycles + nbytes / core.fixpipe.ub_bytes_per_cycle
    store = core.store.startup_cycles + tiles.m * float(core.store.row_cycles) + nbytes / core.store.bytes_per_cycle
    return np.asarray(np.maximum(fix, store))


def _shared(
    problem: TileProblem, spec: MatmulSpec, tiles: _Tiles, operands: tuple[_Operand, _Operand], cores: int
) -> Floats:
    """Cycles that L2 and main memory need for all cores together.

    Loads of the two operands follow each other, so each takes the time of its slower memory. Main memory is read once for a,
    and for b once where L2 keeps it, else once for each round of row strips; results that fit L2 stay there.
    """
    l2, hbm, hashed = problem.chip.memory.l2, problem.chip.memory.hbm, problem.chip.memory.address_hash
    l2_rate, hbm_rate = float(problem.chip.l2_bytes_per_cycle), float(problem.chip.hbm_bytes_per_cycle)
    strips = np.minimum(tiles.cuts_m, cores)
    kept = (strips * tiles.m + spec.n) * spec.k * problem.item <= problem.chip.capacity_bytes("l2")
    passes = (np.ones_like(tiles.m), np.where(kept, 1.0, np.ceil(tiles.cuts_m / strips)))
    stored = float(spec.m) * spec.n * tiles.batch * problem.out_item
    stays = stored <= problem.chip.capacity_bytes("l2")
    cycles = np.full_like(tiles.m, stored / (l2_rate if stays else min(l2_rate, hbm_rate)))
    for each, edge, times in zip(operands, (spec.m, spec.n), passes, strict=True):
        loaded = each.served(problem.chip) * tiles.steps1 / each.run * tiles.tiles
        read = times * float(edge) * spec.k * tiles.batch * problem.item
        from_l2 = loaded / (each.spread(l2.line_bytes, l2.slices, hashed) * l2_rate)
        from_hbm = read / (each.spread(hbm.interleave_bytes, hbm.channels, hashed) * hbm_rate)
        cycles += np.maximum(from_l2, from_hbm)
    return np.asarray(cycles)
