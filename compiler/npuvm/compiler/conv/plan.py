"""The choice of tiles of a convolution: the cheapest of those that fit the buffers.

A tile is a number of whole rows of the result, or a part of one row, by a number of filters. Its image, the rows of x that its
windows reach, lies in L1 with all channels of its group, or with blocks of them in turn. Candidates are grown without a shape
(`conv.levels`): pixels by filters that fit L0. For a shape each becomes the largest tile within it that gives no core more work
than another: rows, parts of rows, filters and steps are cut evenly.
"""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.conv.cost import ConvCost
from npuvm.compiler.conv.levels import CHUNKS, conv_block, conv_levels, grown_conv_tiles, longest_steps
from npuvm.compiler.conv.loads import scalar
from npuvm.compiler.conv.native import NativeChoice, Tables, tables_of
from npuvm.compiler.conv.spec import ConvSizes, ConvSpec
from npuvm.compiler.conv.terms import Kernels
from npuvm.compiler.cube.problem import CubeTile, TileProblem
from npuvm.compiler.emit.blocks import BLOCK_BYTES, align_up
from npuvm.compiler.emit.symint import larger
from npuvm.compiler.errors import CompileError
from npuvm.compiler.native.conv_layout import NONE
from npuvm.compiler.native.loading import loaded

__all__ = ["MOST_LOADS", "ConvTile", "ConvTileChooser"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

MOST_LOADS = 100
"""Rows of an image that are loaded one by one: two descriptors each, of 256."""

_TINY = 1e-12

_KEPT_LAYERS = 64
"""Layers whose candidates a chooser keeps."""

_KEPT_TILES = 256
"""Sizes whose tiles a chooser keeps."""


class ConvTile(NamedTuple):
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


class _Layer(NamedTuple):
    """Candidates for all sizes of images: the most pixels of each, from the fewest up, and what it needs of the kernels.

    `waves` is what of the filters one core of all takes, `apart` the inverse. `tables` are what machine code reads, where
    it chooses.
    """

    pixels: Floats
    waves: Floats
    apart: Floats
    kernels: Kernels
    tables: Tables | None


_LayerKey = tuple[int, int, tuple[int, int], int, int]


class ConvTileChooser:
    """Chooses tiles of convolutions of one sort, for any sizes, on `cores` cores. `levels` say how costs are known.

    With `prefers_rows` they are whole rows of the result wherever such fit.
    """

    def __init__(self, problem: TileProblem, planes: bool, cores: int, prefers_rows: bool = False) -> None:
        self._prefers_rows = prefers_rows
        self._chip, self._planes, self._item, self._cores = problem.chip, planes, problem.item, float(cores)
        self.levels = conv_levels(problem)
        self.cost = ConvCost(problem, planes, cores)
        self._block = conv_block(problem, planes)
        self._pixel_unit = scalar(self._block[0])
        grown = grown_conv_tiles(problem, planes)
        pairs = np.unique(grown[:, :2], axis=0)
        self._grown, self._pairs = grown.astype(np.float64), pairs.astype(np.float64)
        self._longest = longest_steps(problem, planes, pairs).astype(np.float64)
        self._layers: dict[_LayerKey, _Layer] = {}
        self._known: dict[ConvSizes, ConvTile] = {}
        native = loaded()
        self._native = None if native is None else NativeChoice(native, self.cost, self._block[0])

    def choose(self, sizes: ConvSizes, where: str) -> ConvTile:
        """The candidate with the lowest estimate; CompileError, about `where`, when none fits the chip's buffers."""
        found = self._known.get(sizes)
        if found is None:
            if len(self._known) == _KEPT_TILES:
                self._known.clear()
            found = self._known[sizes] = self._found(sizes, where)
        return found

    def _found(self, sizes: ConvSizes, where: str) -> ConvTile:
        found = self._best(sizes, self._layer(sizes), sizes.merges_rows)
        if found is None:
            # A kernel that is as good as too large: the least of it at a time, and at last parts of a row.
            least = self._made(sizes, self._grown[:, :2], np.full(len(self._grown), float(self._block[2])))
            found = self._best(sizes, least, sizes.merges_rows) or self._best(sizes, least, False)
        if found is None:
            raise CompileError(
                f"no tile of a convolution with a kernel of {sizes.kernel} pixels, stride {sizes.strides} and dilation "
                f"{sizes.dilations} fits core.l1_kib={self._chip.core.l1_kib} of {self._chip.name} "
                f"with {MOST_LOADS} rows of pixels or less",
                where,
            )
        return found

    def _best(self, sizes: ConvSizes, layer: _Layer | None, whole_rows: bool) -> ConvTile | None:
        """The best of some candidates; None when none fits."""
        if layer is None:
            return None
        takes_parts = sizes.kernel[0] <= MOST_LOADS and not (self._prefers_rows and whole_rows)
        if self._native is not None and layer.tables is not None:
            tile = ConvTile._make(self._native.best(sizes, layer.tables, whole_rows, takes_parts))
            if tile.cycles >= 0:
                return tile
            if tile.cycles == NONE:
                return None
        rows, cols = self._shaped(sizes, layer, whole_rows)
        kernels, areas, parts = layer.kernels, self.cost.areas(sizes, rows, cols), len(cols)
        fits, single = self.cost.accumulators(kernels, areas)
        if not takes_parts:
            fits[:parts] = False
        cycles = self.cost.cycles(sizes, kernels, areas, single)
        np.putmask(cycles, ~fits, np.inf)
        best = int(cycles.argmin())
        if not fits[best]:
            return None
        wide = sizes.out[1] if best >= parts else int(cols[best])
        filters, block, chunk, step = (
            int(each[best]) for each in (kernels.filters, kernels.block, kernels.chunk, kernels.step)
        )
        depth, least = 1 if single[best] else 2, int(cycles[best])
        return ConvTile(int(rows[best]), wide, best >= parts, filters, block, chunk, step, depth, least)

    # Candidates for a layer.

    def _layer(self, sizes: ConvSizes) -> _Layer | None:
        """The longest steps of each pair of pixels and filters, for channels, filters and kernel; None where none is left."""
        # Planes are as far apart as images are large.
        apart = (0, 0) if self._planes else (sizes.adjacent, sizes.target)
        key = sizes.channels, sizes.filters, sizes.kernel, *apart
        found = self._layers.get(key)
        if found is None:
            found = self._made(sizes, self._pairs, self._longest)
            if found is None:
                return None
            if len(self._layers) == _KEPT_LAYERS:
                # One at a time: each consists of some forty arrays.
                del self._layers[next(iter(self._layers))]
            self._layers[key] = found
        return found

    def _made(self, sizes: ConvSizes, pairs: Floats, step: Floats) -> _Layer | None:
        """Candidates from pixels and filters and elements of a step, without those that are alike or have no room in L1.

        None where none is left.
        """
        if len(pairs) == 0:
            return None
        pixels, filters = pairs.T
        filters = _even(sizes.filters, filters, self._block[1])
        ways = self._kept(sizes, step)
        every = np.empty((5, len(ways), len(pixels)))
        every[0], every[1] = pixels, filters
        for at, way in enumerate(ways):
            every[2:, at] = way
        found = every.reshape(5, -1)
        # Of those that differ in the length of a step the longest.
        found = found[:, np.lexsort((-found[4], found[3], found[2], found[1], found[0]))]
        found = found[:, np.append(True, np.any(found[:4, 1:] != found[:4, :-1], axis=0))]
        # The steps of a part of the kernels have one length, of whole blocks.
        whole_steps = (found[3] % found[4] == 0) & (found[4] % self._block[2] == 0)
        least = found[0] * np.minimum(found[2], self._block[2]) + found[1] * found[3]
        is_room = self.cost.slots * self._item * least <= self._chip.capacity_bytes("l1")
        found = found[:, is_room & ((found[3] == max(sizes.depth, 1)) | whole_steps)]
        if found.shape[1] == 0:
            return None
        pixels, filters, block, chunk, length = np.ascontiguousarray(found)
        kernels = self.cost.kernels(sizes, filters, block, chunk, length)
        # A quotient that is whole is never rounded up, nor down.
        waves, apart = kernels.cuts * ((1 - _TINY) / self._cores), self._cores * (1 + _TINY) / kernels.cuts
        tables = None if self._native is None else tables_of(pixels, waves, apart, kernels)
        return _Layer(pixels, waves, apart, kernels, tables)

    def _kept(self, sizes: ConvSizes, longest: Floats) -> list[tuple[Floats, Floats, Floats]]:
        """Channels and elements of the kernels in L1, and those of a step, for each way to lie there.

        All of them; all channels, and some steps over the kernels; blocks of channels, and the steps that go with those.
        """
        depth, channels, quantum = float(max(sizes.depth, 1)), float(max(sizes.channels, 1)), self._block[2]
        everything, step = np.full_like(longest, channels), _even(depth, longest, quantum)
        ways = [(everything, np.full_like(step, depth), step)]
        ways += [(everything, _even(depth, step * times, step), step) for times in CHUNKS]
        taps = sizes.kernel[0] * sizes.kernel[1]
        for times in CHUNKS if channels > quantum else ():
            if self._planes:
                block = _even(
                    channels, np.maximum(np.floor(longest * (times / (taps * quantum))), times - 1) * quantum, quantum
                )
                chunk = block * taps
                step = _dividing(chunk, longest, quantum)
            else:
                chunk = block = _even(channels, np.minimum(longest * times, channels), quantum * times)
                step = block / times
            ways.append((block, chunk, step))
        return ways

    # Candidates for a shape.

    def _shaped(self, sizes: ConvSizes, layer: _Layer, whole_rows: bool) -> tuple[Floats, Floats]:
        """Rows of the tile that each candidate becomes, and columns of the first ones, which are parts of a row."""
        high, wide = scalar(sizes.out[0]), scalar(sizes.out[1])
        if not whole_rows:
            return np.ones_like(layer.pixels), _even(wide, layer.pixels, self._pixel_unit)
        parts, unit = int(layer.pixels.searchsorted(sizes.out[1])), self._row_unit(sizes)
        rows = np.minimum(np.floor(layer.pixels * scalar((1 + 1e-9) / sizes.out[1])), high)
        rows[:parts] = 1.0
        if unit > 1:
            rows = np.where((rows < high) & (rows >= unit), np.floor(rows / unit) * unit, rows)
        # As many rows as make no core work longer.
        rounds = np.ceil(np.ceil(high / rows) * (layer.waves * scalar(sizes.images)))
        down = np.ceil(high / np.floor(rounds * (layer.apart * scalar(1 / sizes.images))))
        rows = down if unit == 1 else np.minimum(rows, np.ceil(down * (1 / unit)) * unit)
        return rows, _even(wide, layer.pixels[:parts], self._pixel_unit) if parts else layer.pixels[:0]

    def _row_unit(self, sizes: ConvSizes) -> int:
        """Rows of the result whose rows of x end where blocks of bytes of a plane do, if there are such."""
        if not self._planes or sizes.kernel[0] > 1 or sizes.adjacent * self._item % BLOCK_BYTES:
            return 1
        return BLOCK_BYTES // gcd(sizes.strides[0] * sizes.size[1] * self._item, BLOCK_BYTES)


def _dividing(chunk: Floats, most: Floats, unit: int) -> Floats:
    """The most whole units, at most `most`, that each chunk is a multiple of; it is one of the unit."""
    whole, limits = (chunk / unit).astype(np.int64), (most / unit).astype(np.int64)
    units = np.arange(1, limits.max() + 1)[:, None]
    divides = (whole % units == 0) & (units <= limits)
    found: Floats = (divides * units).max(axis=0).astype(np.float64) * unit
    return found


def _even(size: Floats | float, most: Floats, unit: Floats | int) -> Floats:
    """The least whole units of which no more are needed than of `most` to cover a size; all of it where that is one."""
    found: Floats = np.minimum(np.ceil(size / np.ceil(size / most) / unit) * unit, size)
    return found
