"""The choice of tiles of a convolution: a table of candidates that fit the buffers; the cheapest is taken.

A tile is a number of whole rows of the result, or a part of one row, by a number of filters. Its image, the rows of x that its
windows reach, lies in L1 with all channels of its group, or with blocks of them in turn. The table has pixels by filters; how
much of the kernels' elements lies in L1 and L0 at a time follows: as much as there is room for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from npuvm.compiler.blocks import BLOCK_BYTES, align_up
from npuvm.compiler.conv_cost import Areas, ConvCost, Kept
from npuvm.compiler.conv_spec import ConvSizes, ConvSpec
from npuvm.compiler.cube_cost import TileProblem
from npuvm.compiler.cube_plan import CubeTile
from npuvm.compiler.errors import CompileError
from npuvm.compiler.symint import larger

__all__ = ["ConvTile", "ConvTileChooser"]

Floats = npt.NDArray[np.float64]

_CUTS = (0, 1, 2, 3, 4, 5, 6, 8, 11, 15)
"""Into how many more tiles than at least the rows of a result are cut."""

_LOW = (1, 2, 3, 4)
"""Rows of a tile that are tried whatever the number of tiles."""

_PARTS = (1, 2, 4, 8, 16, 32)
"""Blocks of the cube in a part of a row."""

_EDGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Blocks of the cube in the filters of a tile."""

_MOST_STEP = 16
"""Blocks of the kernels' elements in one product."""

_SHORT_BYTES = 512
"""Of each kernel, where its elements lie in L1 part by part: more of them would come later and no faster."""

_MOST_LOADS = 100
"""Rows of an image that are loaded one by one: two descriptors each, of 256."""


@dataclass(frozen=True, slots=True)
class ConvTile:
    """`rows` x `cols` pixels of the result by `filters`; with `whole` cols are all of a row, else rows is 1.

    `block` channels lie in L1 at a time; `chunk` elements of the kernels do, and `step` of them are one product. `cycles` is an
    estimate.
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

    def cube(self, spec: ConvSpec) -> CubeTile:
        """As the tile of a matrix product."""
        pixels = self.rows * self.cols
        m, n = (self.filters, pixels) if spec.planes else (pixels, self.filters)
        return CubeTile((m, n, self.chunk), (m, n, self.step), self.l0c_depth, self.cycles)

    def image(self, spec: ConvSpec, item: int) -> tuple[int, int, int]:
        """Rows, pixels of a row, and bytes of a pixel of the image in L1; of planes the bytes of one channel.

        For a part of a row of the result the image has only the rows that the kernel's rows meet, with their padding.
        """
        (kernel_h, kernel_w), (step_h, step_w), (far_h, far_w) = spec.kernel, spec.strides, spec.dilations
        if self.whole:
            rows, cols = (self.rows - 1) * step_h + (kernel_h - 1) * far_h + 1, larger(spec.size[1], 1)
        else:
            rows, cols = kernel_h, (self.cols - 1) * step_w + (kernel_w - 1) * far_w + 1
        if not spec.planes:
            return rows, cols, align_up(self.block * item)
        if not self.whole:
            cols = align_up(cols * item) // item
        return rows, cols, align_up(rows * cols * item)


class ConvTileChooser:
    """Chooses tiles of convolutions of one sort, for any sizes, on `cores` cores."""

    def __init__(self, problem: TileProblem, planes: bool, cores: int) -> None:
        chip, cube = problem.chip, problem.chip.core.cube
        self._chip, self._planes, self._item = chip, planes, problem.item
        self._cost = ConvCost(problem, planes, cores)
        self._bias_item, self._acc_item = problem.bias_item, problem.acc_item
        self._out_item = problem.out_item if problem.via_ub else 0
        spaces = ("l1", "l0a", "l0b", "l0c", *(("ub",) if problem.via_ub else ()))
        self._capacity = {space: chip.capacity_bytes(space) for space in spaces}
        least, block = BLOCK_BYTES // self._item, max(cube.k_bytes, BLOCK_BYTES)
        self._unit = max(cube.n, least) if planes else cube.m
        self._edges = [each * max(cube.m if planes else cube.n, least) for each in _EDGES]
        self._quantum = block // self._item
        # A step of the least elements stands there twice: pixels are rows of L0A, or columns of L0B.
        self._most_pixels = (
            self._capacity["l0b"] // (2 * self._quantum * self._item)
            if planes
            else self._capacity["l0a"] // (2 * block)
        )

    def choose(self, sizes: ConvSizes, where: str) -> ConvTile:
        """The candidate with the lowest estimate; CompileError, about `where`, when none fits the chip's buffers."""
        areas, filters = self._areas(sizes), np.array(_clipped(self._edges, sizes.filters) * 2, dtype=np.float64)
        best = self._best(sizes, areas, filters, in_blocks=False)
        if (best is None or best.chunk < sizes.depth) and sizes.channels > self._quantum:
            other = self._best(sizes, areas, filters, in_blocks=True)
            if other is not None and (best is None or other.cycles < best.cycles):
                best = other
        if best is None:
            raise CompileError(
                f"no tile of a convolution with a kernel of {sizes.kernel} pixels, stride {sizes.strides} and dilation "
                f"{sizes.dilations} fits core.l1_kib={self._chip.core.l1_kib} of {self._chip.name} "
                f"with {_MOST_LOADS} rows of pixels or less",
                where,
            )
        return best

    def _areas(self, sizes: ConvSizes) -> Areas:
        """Numbers of whole rows, where rows follow each other, and parts of one row."""
        high, wide = sizes.out
        heights: list[int] = []
        if sizes.merges_rows:
            least = min(max(sizes.depth, 1), self._quantum) if self._planes else self._quantum
            most = min(max(self._most_pixels * self._quantum // least // wide, 1), high)
            cuts = -(-high // most)
            heights = sorted({*(-(-high // (cuts + more)) for more in _CUTS), *(each for each in _LOW if each <= most)})
        parts = _clipped([each * self._unit for each in _PARTS], wide)
        (kernel_h, kernel_w), (step_h, step_w), (far_h, far_w) = sizes.kernel, sizes.strides, sizes.dilations
        whole, count = len(heights), len(heights) + len(parts)
        rows, cols = np.ones(count), np.full(count, float(wide))
        rows[:whole], cols[whole:] = heights, parts
        loads = np.ones(count)
        loads[whole:] = kernel_h
        image_rows = (rows - 1) * step_h + ((kernel_h - 1) * far_h + 1)
        image_rows[whole:] = kernel_h
        image_cols = (cols - 1) * step_w + ((kernel_w - 1) * far_w + 1)
        image_cols[:whole] = max(sizes.size[1], 1)
        if self._planes:
            image_cols[whole:] = _aligned(image_cols[whole:] * self._item) / self._item
        return Areas(rows, cols, rows * cols, image_rows * image_cols, loads, whole)

    def _best(self, sizes: ConvSizes, areas: Areas, filters: Floats, *, in_blocks: bool) -> ConvTile | None:
        """The best tile with all channels of an image in L1, or with blocks of them; None when none fits."""
        pixels = areas.pixels[:, None]
        m, n = (filters, pixels) if self._planes else (pixels, filters)
        sums = m * _aligned(n * self._acc_item)
        double = 2 * sums <= self._capacity["l0c"]
        fits = sums <= self._capacity["l0c"]
        if self._out_item:
            fits = fits & (2 * m * _aligned(n * self._out_item) <= self._capacity["ub"])
        room = np.full(1, float(self._capacity["l1"]))
        if self._bias_item:
            room = room - 2 * _aligned(filters * self._bias_item) - _aligned(pixels * max(self._bias_item, self._item))
        kept = (self._blocks if in_blocks else self._chunks)(sizes, areas, filters, room, self._most_step(sizes, m, n))
        fits = fits & (kept.step > 0) & (areas.loads <= _MOST_LOADS)[:, None]
        if not fits.any():
            return None
        cycles = self._cost.cycles(sizes, areas, filters, (m, n), kept, double)
        at = int(np.where(fits, cycles, np.inf).argmin())
        row, col = divmod(at, len(filters))
        block, chunk, step = (int(each[row, col] if isinstance(each, np.ndarray) else each) for each in kept[1:])
        depth = 2 if double[row, col] else 1
        return ConvTile(
            int(areas.rows[row]), int(areas.cols[row]), row < areas.whole, int(filters[col]), block, chunk, step, depth,
            int(cycles[row, col]),
        )  # fmt: skip

    def _most_step(self, sizes: ConvSizes, m: Floats, n: Floats) -> Floats:
        """How many elements of the kernels both L0 have room for twice: all, or whole blocks of the cube; 0 for none."""
        quantum, depth = self._quantum, max(sizes.depth, 1)
        most = np.minimum(
            np.floor(self._capacity["l0a"] / (2 * quantum * self._item * m)) * quantum,
            self._capacity["l0b"] / (2 * _aligned(n * self._item)),
        )
        if self._bias_item:
            wide = (2 * m * BLOCK_BYTES > self._capacity["l0a"]) | (
                2 * _aligned(n * self._bias_item) > self._capacity["l0b"]
            )
            most = np.where(wide, 0, most)
        blocks = np.where(most >= depth, -(-depth // quantum), np.floor(most / quantum))
        return np.minimum(blocks, _MOST_STEP) * quantum

    def _chunks(self, sizes: ConvSizes, areas: Areas, filters: Floats, room: Floats, most: Floats) -> Kept:
        """All channels of the image, and of the kernels' elements all or whole steps."""
        item, channels, depth = self._item, max(sizes.channels, 1), max(sizes.depth, 1)
        if self._planes:
            image = channels * _aligned(areas.image * item)
        else:
            image = areas.image * align_up(channels * item)
        at_l1 = np.floor((room - 2 * image[:, None]) / (2 * item * filters))
        whole = at_l1 >= align_up(depth * item) // item
        # The second half of the candidates has short parts.
        half = len(filters) // 2
        whole[:, half:] &= depth * item <= _SHORT_BYTES
        at_l1[:, half:] = np.minimum(at_l1[:, half:], np.maximum(_SHORT_BYTES // item, most[:, half:]))
        quantum = self._quantum
        step = np.minimum(most, np.where(whole, most, np.floor(at_l1 / quantum) * quantum))
        some = np.maximum(step, quantum)
        # Steps of about the same length.
        even = np.minimum(np.ceil(np.ceil(depth / np.ceil(depth / some)) / quantum) * quantum, depth)
        part = np.maximum(np.floor(at_l1 / np.maximum(even, 1)) * even, even)
        part = np.ceil(np.ceil(depth / np.ceil(depth / part)) / even) * even
        return Kept(1.0, channels, np.where(whole, depth, part), np.where(step > 0, even, 0))

    def _blocks(self, sizes: ConvSizes, areas: Areas, filters: Floats, room: Floats, most: Floats) -> Kept:
        """Blocks of channels, of whole steps, and the part of the kernels' elements that goes with one."""
        item, quantum, taps = self._item, self._quantum, sizes.kernel[0] * sizes.kernel[1]
        if self._planes:
            channel = 2 * _aligned(areas.image * item)[:, None] + 2 * item * taps * filters
        else:
            channel = 2 * item * areas.image[:, None] + 2 * item * filters
        at_l1 = np.floor(room / channel / quantum) * quantum
        step = np.minimum(most, at_l1)
        some = np.maximum(step, quantum)
        block = np.maximum(np.floor(at_l1 / some) * some, quantum)
        each = np.ceil(sizes.channels / np.ceil(sizes.channels / block))
        steps = np.ceil(each / some)
        even = np.ceil(each / steps / quantum) * quantum
        block = even * steps
        used = np.where((step > 0) & (block < sizes.channels), even, 0)
        return Kept(np.ceil(sizes.channels / block), block, block * taps if self._planes else block, used)


def _clipped(sizes: Sequence[int], limit: int) -> list[int]:
    """Sizes up to the limit, and the limit where it is within reach."""
    limit = max(limit, 1)
    return sorted({min(each, limit) for each in sizes})


def _aligned(nbytes: Floats) -> Floats:
    return np.ceil(nbytes / BLOCK_BYTES) * BLOCK_BYTES
