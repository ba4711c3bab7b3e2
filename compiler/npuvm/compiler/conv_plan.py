"""The choice of tiles of a convolution: a table of candidates that fit the buffers; the cheapest is taken.

A tile is a number of whole rows of the result, or a part of one row, by a number of filters. Its image, the rows of x that its
windows reach, lies in L1 with all channels of its group, or with blocks of them in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
_MOST_ROWS = 100
"""Rows of an image in L1: two descriptors each, of 256."""

_VISIBLE = 0.2
"""Share of the work beside the slowest that it does not hide, as in a matrix product."""

_STEP_WORDS, _ROW_WORDS, _TILE_WORDS = 24, 4, 50
"""Words of a step over the kernel's elements, of the load of a row, and of a tile beside those, at most."""


@dataclass(frozen=True, slots=True)
class ConvTile:
    """`rows` x `cols` pixels of the result by `filters`; cols are all of a row, or rows is 1.

    `whole`: tiles are made of whole rows, which follow each other. `block` channels lie in L1 at a time; `chunk` elements of
    the kernels do, and `step` of them are one product. `cycles` is an estimate.
    """

    rows: int
    cols: int
    whole: bool
    filters: int
    block: int
    chunk: int
    step: int
    l0c_depth: int
    cycles: int

    def __str__(self) -> str:
        channels = f"{self.block} channels, {self.chunk} and {self.step} elements of a kernel"
        return f"{self.rows} x {self.cols} pixels x {self.filters}, {channels}, {self.l0c_depth} accumulators"

    def compact(self, spec: ConvSpec) -> bool:
        """Whether the image holds only the rows that the kernel's rows meet, for a tile of one row of the result."""
        return not self.whole if spec.planes else self.rows == 1

    def cube(self, spec: ConvSpec) -> CubeTile:
        """As the tile of a matrix product."""
        pixels = self.rows * self.cols
        m, n = (self.filters, pixels) if spec.planes else (pixels, self.filters)
        return CubeTile((m, n, self.chunk), (m, n, self.step), self.l0c_depth, self.cycles)

    def image(self, spec: ConvSpec, item: int) -> tuple[int, int, int]:
        """Rows, pixels of a row, and bytes of a pixel of the image in L1; of planes the bytes of one channel."""
        (kernel_h, kernel_w), (step_h, step_w), (far_h, far_w) = spec.kernel, spec.strides, spec.dilations
        rows = kernel_h if self.compact(spec) else (self.rows - 1) * step_h + (kernel_h - 1) * far_h + 1
        cols = (self.cols - 1) * step_w + (kernel_w - 1) * far_w + 1
        if not spec.planes:
            return rows, cols, align_up(self.block * item)
        cols = max(spec.size[1], 1) if self.whole else align_up(cols * item) // item
        return rows, cols, align_up(rows * cols * item)


def choose_conv_tile(problem: TileProblem, spec: ConvSpec, cores: int) -> ConvTile:
    """The cheapest candidate on `cores` cores; CompileError when none fits the chip's buffers."""
    table = _candidates(problem, spec)
    single = table[_fits(problem, spec, table, 1)]
    double = single[_fits(problem, spec, single, 2)]
    best: ConvTile | None = None
    for depth, kept in ((2, double), (1, single)):
        if len(kept):
            cycles = _estimate(problem, spec, kept, depth, cores)
            at = int(np.argmin(cycles))
            if best is None or cycles[at] < best.cycles:
                rows, cols, whole, filters, block, chunk, step = kept[at].tolist()
                best = ConvTile(rows, cols, bool(whole), filters, block, chunk, step, depth, int(cycles[at]))
    if best is None:
        core = problem.chip.core
        raise CompileError(
            f"no tile of a convolution with a kernel of {spec.kernel} pixels, stride {spec.strides} and dilation "
            f"{spec.dilations} fits core.l1_kib={core.l1_kib} of {problem.chip.name} with {_MOST_ROWS} rows of pixels or less",
            spec.name,
        )
    return best


def _candidates(problem: TileProblem, spec: ConvSpec) -> Ints:
    """(rows, cols, whole, filters, block, chunk, step) of all tiles, one a row, whether they fit or not."""
    cube, item = problem.chip.core.cube, problem.item
    high, wide = spec.out
    units = (cube.n, cube.m) if spec.planes else (cube.m, cube.n)
    units = max(units[0], BLOCK_BYTES // item) if spec.planes else units[0], max(units[1], BLOCK_BYTES // item)
    filters = _clipped([each * units[1] for each in _STEPS], spec.filters)
    areas = [(rows, wide, 1) for rows in _clipped(_STEPS, high)] if spec.merges_rows else []
    parts = [(1, cols, 0) for cols in _clipped([each * units[0] for each in (1, 2, 4, 8, 16, 32)], wide)]
    areas += [each for each in parts if spec.planes or (1, each[1], 1) not in areas]
    inner = np.array(list(dict.fromkeys(_inner(spec, max(cube.k_bytes, BLOCK_BYTES) // item))), dtype=np.int64)
    area, each, rest = np.indices((len(areas), len(filters), len(inner))).reshape(3, -1)
    return np.column_stack(
        [np.array(areas, dtype=np.int64)[area], np.array(filters, dtype=np.int64)[each], inner[rest]]
    )


def _inner(spec: ConvSpec, quantum: int) -> Iterator[tuple[int, int, int]]:
    """(block, chunk, step): all channels and a part of the kernels, or a block of channels and its part of them."""
    depth, channels = max(spec.depth, 1), max(spec.channels, 1)
    taps = prod(spec.kernel)
    for step in _clipped([quantum * each for each in (1, 2, 4, 6, 8, 12, 16)], depth):
        if step == depth:
            yield channels, depth, depth
            continue
        for times in _DEPTHS:
            if step * times < depth:
                yield channels, step * times, step
            if step * times < channels:
                block = step * times
                yield block, block * taps if spec.planes else block, step
        yield channels, depth, step


def _clipped(sizes: Sequence[int], limit: int) -> list[int]:
    """Sizes up to the limit, and the limit where it is within reach."""
    limit = max(limit, 1)
    return sorted({min(each, limit) for each in sizes})


class _Columns:
    """Sizes of the candidates as columns, and how often things happen."""

    def __init__(self, problem: TileProblem, spec: ConvSpec, table: Ints) -> None:
        self.rows, self.cols, self.whole, self.filters, self.block, self.chunk, self.step = table.T
        item = problem.item
        (kernel_h, kernel_w), (step_h, step_w), (far_h, far_w) = spec.kernel, spec.strides, spec.dilations
        self.pixels = self.rows * self.cols
        self.m, self.n = (self.filters, self.pixels) if spec.planes else (self.pixels, self.filters)
        compact = self.whole == 0 if spec.planes else self.rows == 1
        self.image_rows = np.where(compact, kernel_h, (self.rows - 1) * step_h + (kernel_h - 1) * far_h + 1)
        self.image_cols = (self.cols - 1) * step_w + (kernel_w - 1) * far_w + 1
        if spec.planes:
            self.image_cols = np.where(self.whole, max(spec.size[1], 1), _aligned(self.image_cols * item) // item)
            self.image = self.block * _aligned(self.image_rows * self.image_cols * item)
            self.loads = np.where(self.whole, 1, self.image_rows)
            self.load_rows, self.load_bytes = self.block, self.image_rows * self.image_cols * item // self.loads
        else:
            pixel = _aligned(self.block * item)
            self.image = self.image_rows * self.image_cols * pixel
            self.loads = self.image_rows
            dense = self.block == spec.x.pixel
            self.load_rows = np.where(dense, 1, self.image_cols)
            self.load_bytes = np.where(dense, self.image_cols, 1) * self.block * item
        self.blocks = -(-max(spec.channels, 1) // self.block)
        of_block = np.where(self.blocks > 1, self.block * prod(spec.kernel), max(spec.depth, 1))
        self.chunks = -(-of_block // self.chunk)
        self.steps = self.blocks * self.chunks * -(-self.chunk // self.step)


def _fits(problem: TileProblem, spec: ConvSpec, table: Ints, depth: int) -> npt.NDArray[np.bool_]:
    t, item, chip = _Columns(problem, spec, table), problem.item, problem.chip
    step, bias = _aligned(t.step * item), problem.bias_item
    l1 = 2 * t.image + 2 * t.filters * _aligned(t.chunk * item)
    if bias:
        l1 = l1 + 2 * _aligned(t.filters * bias) + _aligned(np.maximum(t.m, t.n) * bias)
    used = {
        "l1": l1,
        "l0a": 2 * np.maximum(t.m * step, t.m * BLOCK_BYTES if bias else 0),
        "l0b": 2 * np.maximum(t.step * _aligned(t.n * item), _aligned(t.n * bias)),
        "l0c": depth * t.m * _aligned(t.n * problem.acc_item),
    }
    if problem.via_ub:
        used["ub"] = 2 * t.m * _aligned(t.n * problem.out_item)
    # With planes a block's part of the kernels is cut into whole steps.
    fits: npt.NDArray[np.bool_] = (t.loads <= _MOST_ROWS) & (
        (t.chunks == 1) & (t.blocks == 1) | (t.chunk % t.step == 0)
    )
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
    blocks = np.ceil(t.m / cube.m) * np.ceil(t.n / cube.n) * np.ceil(t.step * item / cube.k_bytes)
    compute = t.steps * (blocks * cube.cycles_per_block[problem.dtype] + cube.startup_cycles + cube.latency_cycles)
    step = _aligned(t.step * item)
    moves = t.steps * (
        2 * move.startup_cycles
        + t.m * step / move.l0a_bytes_per_cycle
        + t.step * _aligned(t.n * item) / move.l0b_bytes_per_cycle
    )
    kept = np.where(t.blocks > 1, 1.0, tiles_n)
    issue = t.load_rows * float(load.l1_row_cycles) + load.l1_startup_cycles
    moved = t.load_rows * np.maximum(t.load_bytes, load.min_burst_bytes) / load.l1_bytes_per_cycle
    image = t.loads * t.blocks * np.maximum(issue, moved) / kept
    shared = float(problem.chip.l2_bytes_per_cycle) / np.minimum(cores, tiles)
    rate = np.minimum(float(load.l1_bytes_per_cycle), shared)
    once = (t.blocks == 1) & (t.chunks == 1) & (tiles_n == 1)
    # Rows of kernels are requests of their own, unless the kernels are loaded whole.
    piece = np.where(t.chunk == max(spec.depth, 1), t.chunk * item, np.maximum(t.chunk * item, load.min_burst_bytes))
    of_block = np.where(t.blocks > 1, t.block * prod(spec.kernel), max(spec.depth, 1))
    pieces = t.filters * t.blocks * np.ceil(of_block / t.chunk)
    latency = problem.chip.memory.l2.latency_cycles + problem.chip.memory.hbm.latency_cycles
    flight = np.ceil(piece / load.chunk_bytes) * latency / load.outstanding
    weights = pieces * np.maximum(piece / rate + float(load.l1_row_cycles), flight)
    weights = weights / np.where(once, np.maximum(waves, 1), 1)
    target = spec.y.channel if spec.planes else spec.y.pixel
    line = np.where(
        t.n == target, t.n * problem.out_item, np.maximum(t.n * problem.out_item, core.store.min_burst_bytes)
    )
    via_ub = core.fixpipe.ub_bytes_per_cycle
    out = core.fixpipe.startup_cycles + np.where(
        problem.via_ub,
        np.maximum(t.m * t.n * problem.out_item / max(via_ub, 1), t.m * line / max(core.store.bytes_per_cycle, 1)),
        t.m * line / max(core.fixpipe.gm_bytes_per_cycle, 1),
    )
    words = t.steps * _STEP_WORDS + t.loads * t.blocks * _ROW_WORDS + _TILE_WORDS
    busy = compute if depth > 1 else compute + out
    units = np.stack([busy, moves, image + weights, out, words * float(core.sequencer.decode_cycles_per_word)])
    tile = units.max(axis=0) * (1 - _VISIBLE) + units.sum(axis=0) * _VISIBLE
    memory = problem.chip.memory
    ends = (image + weights) / np.maximum(t.chunks, 1) + memory.l2.latency_cycles + memory.hbm.latency_cycles + out
    return np.asarray(waves * tile + ends)
