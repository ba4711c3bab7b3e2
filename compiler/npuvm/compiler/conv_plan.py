"""The choice of tiles of a convolution: a table of candidates that fit the buffers; the cheapest is taken.

A tile is a number of whole rows of the result, or a part of one row, by a number of filters. Its image, the rows of x that its
windows reach, lies in L1 with all channels of its group, or with blocks of them in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from npuvm.compiler.blocks import BLOCK_BYTES, align_up
from npuvm.compiler.conv_spec import ConvSpec
from npuvm.compiler.cube_cost import TileProblem
from npuvm.compiler.cube_plan import CubeTile
from npuvm.compiler.errors import CompileError

__all__ = ["ConvTile", "choose_conv_tile"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32)
_DEPTHS = (1, 2, 4, 8, 16)
_MOST_ROWS = 64
"""Rows of an image in L1: two descriptors each, of 256."""

_VISIBLE = 0.2
"""Share of the work beside the slowest that it does not hide, as in a matrix product."""

_STEP_WORDS, _ROW_WORDS, _TILE_WORDS = 24, 4, 50
"""Words of a step over the kernel's elements, of the load of a row, and of a tile beside those, at most."""


@dataclass(frozen=True, slots=True)
class ConvTile:
    """`rows` x `cols` pixels of the result by `filters`; cols are all of a row, or rows is 1.

    `block` channels lie in L1 at a time; `chunk` elements of the kernels do, and `step` of them are one product. `compact`
    images hold only the rows that the kernel's rows meet, for tiles of one row. `cycles` is an estimate.
    """

    rows: int
    cols: int
    filters: int
    block: int
    chunk: int
    step: int
    l0c_depth: int
    cycles: int

    def __str__(self) -> str:
        channels = f"{self.block} channels, {self.chunk} and {self.step} elements of a kernel"
        return f"{self.rows} x {self.cols} pixels x {self.filters}, {channels}, {self.l0c_depth} accumulators"

    @property
    def compact(self) -> bool:
        return self.rows == 1

    @property
    def cube(self) -> CubeTile:
        """As the tile of a matrix product."""
        m = self.rows * self.cols
        sizes = (m, self.filters, self.step)
        return CubeTile((m, self.filters, self.chunk), sizes, self.l0c_depth, self.cycles)

    def image(self, spec: ConvSpec, item: int) -> tuple[int, int, int]:
        """Rows, pixels of a row, and bytes of a pixel of the image in L1."""
        (kernel_h, kernel_w), (step_h, step_w), (far_h, far_w) = spec.kernel, spec.strides, spec.dilations
        rows = kernel_h if self.compact else (self.rows - 1) * step_h + (kernel_h - 1) * far_h + 1
        return rows, (self.cols - 1) * step_w + (kernel_w - 1) * far_w + 1, align_up(self.block * item)


def choose_conv_tile(problem: TileProblem, spec: ConvSpec, cores: int) -> ConvTile:
    """The cheapest candidate on `cores` cores; CompileError when none fits the chip's buffers."""
    table = np.array(list(_candidates(problem, spec)), dtype=np.int64).reshape(-1, 6)
    best: ConvTile | None = None
    for depth in (2, 1):
        kept = table[_fits(problem, spec, table, depth)]
        if len(kept):
            cycles = _estimate(problem, spec, kept, depth, cores)
            at = int(np.argmin(cycles))
            if best is None or cycles[at] < best.cycles:
                rows, cols, filters, block, chunk, step = kept[at].tolist()
                best = ConvTile(rows, cols, filters, block, chunk, step, depth, int(cycles[at]))
    if best is None:
        core = problem.chip.core
        raise CompileError(
            f"no tile of a convolution with a kernel of {spec.kernel} pixels, stride {spec.strides} and dilation "
            f"{spec.dilations} fits core.l1_kib={core.l1_kib} of {problem.chip.name}",
            spec.name,
        )
    return best


def _candidates(problem: TileProblem, spec: ConvSpec) -> list[tuple[int, int, int, int, int, int]]:
    """(rows, cols, filters, block, chunk, step) of all tiles, whether they fit or not."""
    cube = problem.chip.core.cube
    high, wide = spec.out
    depth, channels = max(spec.depth, 1), max(spec.channels, 1)
    quantum = max(cube.k_bytes, BLOCK_BYTES) // problem.item
    filters = _clipped([each * max(cube.n, BLOCK_BYTES // problem.item) for each in _STEPS], spec.filters)
    areas = [(rows, wide) for rows in _clipped(_STEPS, high)] if spec.y.row == wide * spec.y.pixel or high == 1 else []
    parts = _clipped([each * cube.m for each in (1, 2, 4, 8, 16)], wide)
    areas += [(1, cols) for cols in parts if (1, cols) not in areas]
    inner = []
    for step in _clipped([quantum * each for each in (1, 2, 4, 6, 8, 12, 16)], depth):
        if step == depth:
            inner.append((channels, depth, depth))
            continue
        inner += [(channels, min(step * each, depth), step) for each in (*_DEPTHS, depth) if step * each < 2 * depth]
        blocks = {step * each for each in _DEPTHS if step * each < channels}
        inner += [(block, block, step) for block in blocks]
    tiles = [(*area, each, *rest) for area in areas for each in filters for rest in dict.fromkeys(inner)]
    return [tile for tile in tiles if tile[4] == depth or tile[4] % tile[5] == 0]


def _clipped(sizes: Sequence[int], limit: int) -> list[int]:
    """Sizes up to the limit, and the limit where it is within reach."""
    limit = max(limit, 1)
    return sorted({min(each, limit) for each in sizes})


class _Columns:
    """Sizes of the candidates as columns, and how often things happen."""

    def __init__(self, problem: TileProblem, spec: ConvSpec, table: Ints) -> None:
        self.rows, self.cols, self.filters, self.block, self.chunk, self.step = table.T
        item = problem.item
        (kernel_h, kernel_w), (step_h, step_w), (far_h, far_w) = spec.kernel, spec.strides, spec.dilations
        self.m = self.rows * self.cols
        span_h = (self.rows - 1) * step_h + (kernel_h - 1) * far_h + 1
        self.image_rows = np.where(self.rows == 1, kernel_h, span_h)
        self.image_cols = (self.cols - 1) * step_w + (kernel_w - 1) * far_w + 1
        self.pixel = -(-self.block * item // BLOCK_BYTES) * BLOCK_BYTES
        self.blocks = -(-max(spec.channels, 1) // self.block)
        of_block = np.where(self.blocks > 1, self.block * prod(spec.kernel), max(spec.depth, 1))
        self.chunks = -(-of_block // self.chunk)
        self.steps = self.blocks * self.chunks * -(-self.chunk // self.step)


def _fits(problem: TileProblem, spec: ConvSpec, table: Ints, depth: int) -> npt.NDArray[np.bool_]:
    t, item, chip = _Columns(problem, spec, table), problem.item, problem.chip
    step, bias = _aligned(t.step * item), problem.bias_item
    column = t.m * BLOCK_BYTES if bias else 0
    l1 = 2 * t.image_rows * t.image_cols * t.pixel + 2 * t.filters * _aligned(t.chunk * item)
    if bias:
        l1 = l1 + 2 * _aligned(t.filters * bias) + _aligned(t.m * bias)
    used = {
        "l1": l1,
        "l0a": 2 * np.maximum(t.m * step, column),
        "l0b": 2 * np.maximum(t.step * _aligned(t.filters * item), _aligned(t.filters * bias)),
        "l0c": depth * t.m * _aligned(t.filters * problem.acc_item),
    }
    if problem.via_ub:
        used["ub"] = 2 * t.m * _aligned(t.filters * problem.out_item)
    fits: npt.NDArray[np.bool_] = t.image_rows <= _MOST_ROWS
    for space, nbytes in used.items():
        fits = fits & (nbytes <= chip.capacity_bytes(space))
    return fits


def _aligned(nbytes: Ints) -> Ints:
    return -(-nbytes // BLOCK_BYTES) * BLOCK_BYTES


def _estimate(problem: TileProblem, spec: ConvSpec, table: Ints, depth: int, cores: int) -> Floats:
    """Cycles of the whole convolution: the busiest unit of a core over its tiles, and the share of others that shows."""
    t, core, item = _Columns(problem, spec, table), problem.chip.core, problem.item
    tiles_n = np.ceil(spec.filters / t.filters)
    tiles = spec.images * spec.groups * np.ceil(spec.out[0] / t.rows) * np.ceil(spec.out[1] / t.cols) * tiles_n
    waves = np.ceil(tiles / cores)
    cube, move, load = core.cube, core.move, core.load
    blocks = np.ceil(t.m / cube.m) * np.ceil(t.filters / cube.n) * np.ceil(t.step * item / cube.k_bytes)
    compute = t.steps * (blocks * cube.cycles_per_block[problem.dtype] + cube.startup_cycles + cube.latency_cycles)
    step = _aligned(t.step * item)
    moves = t.steps * (
        2 * move.startup_cycles
        + t.m * step / move.l0a_bytes_per_cycle
        + t.step * _aligned(t.filters * item) / move.l0b_bytes_per_cycle
    )
    kept = np.where(t.blocks > 1, 1.0, tiles_n)
    dense = (spec.x.pixel == t.block) & (t.pixel == t.block * item)
    rows = np.where(dense, 1, t.image_cols) * float(load.l1_row_cycles) + load.l1_startup_cycles
    row_bytes = t.image_cols * np.where(dense, t.pixel, np.maximum(t.block * item, load.min_burst_bytes))
    image = t.image_rows * t.blocks * np.maximum(rows, row_bytes / load.l1_bytes_per_cycle) / kept
    shared = float(problem.chip.l2_bytes_per_cycle) / np.minimum(cores, tiles)
    rate = np.minimum(float(load.l1_bytes_per_cycle), shared)
    once = (t.blocks == 1) & (t.chunks == 1) & (tiles_n == 1)
    weights = (
        t.filters
        * (t.blocks * t.chunks * float(load.l1_row_cycles) + max(spec.depth, 1) * item / rate)
        / np.where(once, np.maximum(waves, 1), 1)
    )
    out_bytes = t.m * t.filters * problem.out_item
    out = core.fixpipe.startup_cycles + out_bytes / (
        core.fixpipe.ub_bytes_per_cycle if problem.via_ub else core.fixpipe.gm_bytes_per_cycle
    )
    words = t.steps * _STEP_WORDS + t.image_rows * t.blocks * _ROW_WORDS + _TILE_WORDS
    busy = compute if depth > 1 else compute + out
    units = np.stack([busy, moves, image + weights, out, words * float(core.sequencer.decode_cycles_per_word)])
    tile = units.max(axis=0) * (1 - _VISIBLE) + units.sum(axis=0) * _VISIBLE
    memory = problem.chip.memory
    ends = (image + weights) / np.maximum(t.chunks, 1) + memory.l2.latency_cycles + memory.hbm.latency_cycles + out
    return np.asarray(waves * tile + ends)
