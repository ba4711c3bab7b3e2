"""The choice of tiles of a convolution: the cheapest of those that fit the buffers.

A tile is a number of whole rows of the result, or a part of one row, by a number of filters. Its image, the rows of x that its
windows reach, lies in L1 with all channels of its group, or with blocks of them in turn. Candidates are pixels by filters,
from the largest down as long as that may pay; how much of the kernels' elements lies in L1 and L0 at a time follows from the
room that is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npuvm.compiler.blocks import BLOCK_BYTES, align_up
from npuvm.compiler.conv_cost import Area, ConvCost, Edge, Pair
from npuvm.compiler.conv_spec import ConvSizes, ConvSpec
from npuvm.compiler.cube_problem import CubeTile, TileProblem
from npuvm.compiler.errors import CompileError
from npuvm.compiler.symint import larger

__all__ = ["MOST_LOADS", "ConvTile", "ConvTileChooser"]

_HEIGHTS, _FEWER, _TALLER = 4, 2, 1
"""Numbers of rows that are looked at until there is a tile, for each number of filters after that, and of those that only have
room for blocks of channels."""

_PARTS = (1, 2, 4, 8, 16, 32)
"""Blocks of the cube in a part of a row."""

_CUTS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Into how many times as many tiles as at least the filters are cut."""

_MISSES = 2
"""Numbers of filters, each smaller than the one before, that give no better tile; then there are no more of them."""

_MOST_FILTERS = 32
"""Blocks of the cube in the filters of a tile."""

_SHORT_BYTES = 1024
"""Of each kernel, where its elements lie in L1 part by part: more of them would come later and no faster."""

MOST_LOADS = 100
"""Rows of an image that are loaded one by one: two descriptors each, of 256."""

_KEPT_FILTERS = 64

_Kept = tuple[float, int, int, int]
"""Cycles, and a block of channels, elements of the kernels in L1 and those of a step."""

_Found = tuple[Pair, _Kept]


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
        cube = problem.chip.core.cube
        self._chip, self._planes, self._item, self._cores = problem.chip, planes, problem.item, cores
        self._cost = ConvCost(problem, planes, cores)
        self._l1, self._bias_item = problem.chip.capacity_bytes("l1"), problem.bias_item
        self._quantum = max(cube.k_bytes, BLOCK_BYTES) // self._item
        least = BLOCK_BYTES // self._item
        self._parts = [each * (max(cube.n, least) if planes else cube.m) for each in _PARTS]
        self._unit = max(cube.m if planes else cube.n, least)
        self._most_steps = max(problem.chip.core.sequencer.queue_depth // 2, 1)
        self._short = -(-_SHORT_BYTES // (self._quantum * self._item))
        self._known: dict[tuple[int, int, int], list[tuple[Edge, int]]] = {}

    def choose(self, sizes: ConvSizes, where: str) -> ConvTile:
        """The candidate with the lowest estimate; CompileError, about `where`, when none fits the chip's buffers."""
        best = self._whole_rows(sizes) if sizes.merges_rows else None
        if best is None or best[0].area.rows == 1:
            best = self._parts_of_rows(sizes, best)
        if best is None:
            raise CompileError(
                f"no tile of a convolution with a kernel of {sizes.kernel} pixels, stride {sizes.strides} and dilation "
                f"{sizes.dilations} fits core.l1_kib={self._chip.core.l1_kib} of {self._chip.name} "
                f"with {MOST_LOADS} rows of pixels or less",
                where,
            )
        (area, filters, *_, single), (cycles, block, chunk, step) = best
        return ConvTile(
            area.rows, area.cols, area.whole, filters.size, block, chunk, step, 1 if single else 2, int(cycles)
        )

    # Candidates.

    def _better(self, sizes: ConvSizes, area: Area, filters: Edge, cuts: int, best: _Found | None) -> _Found | None:
        """The tile if it is better than the best so far, else that."""
        limit = float("inf") if best is None else best[1][0]
        pair = self._cost.pair(area, filters, cuts, -(-sizes.depth // self._quantum), limit)
        if pair is None:
            return best
        kept = self._kept(sizes, pair)
        return best if kept is None or kept[0] >= limit else (pair, kept)

    def _filters(self, sizes: ConvSizes) -> list[tuple[Edge, int]]:
        """Numbers of filters from the largest down, and into how many tiles they cut all of them."""
        key = sizes.filters, sizes.depth, sizes.target
        found = self._known.get(key)
        if found is None:
            unit, least = self._unit, -(-sizes.filters // (self._unit * _MOST_FILTERS))
            listed = {min(align_up(-(-sizes.filters // (least * cuts)), unit), sizes.filters) for cuts in _CUTS}
            found = [(self._cost.filters(each, sizes), -(-sizes.filters // each)) for each in sorted(listed)[::-1]]
            if len(self._known) >= _KEPT_FILTERS:
                self._known.clear()
            self._known[key] = found
        return found

    def _whole_rows(self, sizes: ConvSizes) -> _Found | None:
        """The best tile of whole rows."""
        high, wide = sizes.out
        width, step, channels = max(sizes.size[1], 1), sizes.strides[0], max(sizes.channels, 1)
        reach = (sizes.kernel[0] - 1) * sizes.dilations[0] + 1
        # Of an image all channels may lie in L1, or the least block of them.
        low, tall = (
            min((self._l1 // (2 * align_up(each * self._item) * width) - reach) // step + 1, high)
            for each in (channels, min(channels, self._quantum))
        )
        areas: dict[int, Area] = {}
        best: _Found | None = None
        pixels, misses = self._cost.pixels_at_l0(sizes), 0
        for filters, cuts in self._filters(sizes):
            before = best
            most = min(self._cost.most_pixels(filters), pixels) // wide
            for rows in self._heights(sizes, cuts, min(low, most), min(tall, most), best is None):
                area = areas.get(rows)
                if area is None:
                    tiles, image = -(-high // rows) * sizes.images, ((rows - 1) * step + reach) * width
                    area = areas[rows] = self._cost.area(sizes, rows, wide, True, tiles, image, 1)
                best = self._better(sizes, area, filters, cuts, best)
            misses = misses + 1 if best is before else 0
            if best is not None and misses == _MISSES:
                break
        return best

    def _heights(self, sizes: ConvSizes, cuts: int, low: int, tall: int, first: bool) -> list[int]:
        """Numbers of rows from `tall` and from `low` down: the lowest ones for each number of tiles that a core gets.

        As long as nothing fits (`first`) there are more of them, with a single row at last.
        """
        high, columns = sizes.out[0], sizes.images * cuts
        count = _HEIGHTS if first else _FEWER
        found: list[int] = []
        for rows, times in ((tall if tall > low else 0, _TALLER if low > 0 else count), (low, count)):
            if rows <= 0:
                continue
            for _ in range(times):
                # As many tiles as make no core work longer.
                tiles = -(-high // rows)
                tiles = max(-(-tiles * columns // self._cores) * self._cores // columns, tiles)
                rows = -(-high // tiles)
                found.append(rows)
                if rows == 1:
                    break
                rows -= 1
        return [*found, 1] if first and found and found[-1] > 1 else found

    def _parts_of_rows(self, sizes: ConvSizes, best: _Found | None) -> _Found | None:
        """The best tile of a part of a row, if it is better than the best of whole rows."""
        (high, wide), (loads, kernel_w) = sizes.out, sizes.kernel
        if loads > MOST_LOADS:
            return best
        for cols in reversed(_clipped(self._parts, wide)):
            width = (cols - 1) * sizes.strides[1] + (kernel_w - 1) * sizes.dilations[1] + 1
            if self._planes:
                width = align_up(width * self._item) // self._item
            tiles = -(-wide // cols) * high * sizes.images
            area = self._cost.area(sizes, 1, cols, False, tiles, loads * width, loads)
            for filters, cuts in self._filters(sizes):
                best = self._better(sizes, area, filters, cuts, best)
        return best

    # What of the kernels lies where.

    def _kept(self, sizes: ConvSizes, pair: Pair) -> _Kept | None:
        """With all channels of an image in L1 or with blocks of them; None when there is room for neither."""
        room = self._l1
        if self._bias_item:
            room -= 2 * align_up(pair.filters.size * self._bias_item)
            room -= align_up(pair.area.edge.size * max(self._bias_item, self._item))
        found, cramped = self._in_parts(sizes, pair, room)
        # Blocks of channels take less room, but are loaded again for other filters.
        if cramped and sizes.channels > self._quantum:
            other = self._in_blocks(sizes, pair, room)
            if found is None or (other is not None and other[0] < found[0]):
                return other
        return found

    def _in_parts(self, sizes: ConvSizes, pair: Pair, room: int) -> tuple[_Kept | None, bool]:
        """With all channels of the image in L1, and the kernels whole or in parts; and whether those had to be shorter.

        Kernels stay in L1 where a core has several tiles of the same filters.
        """
        quantum, depth = self._quantum, max(sizes.depth, 1)
        needed = -(-depth // quantum)
        at_l1 = (room - 2 * pair.area.nbytes) // (2 * self._item * quantum * pair.filters.size)
        step = min(pair.steps, at_l1, needed)
        if step < 1:
            return None, True
        steps = -(-needed // step)
        several = pair.cuts == 1 and pair.waves > 1
        chunk, parts = depth, 1
        if at_l1 < needed or not (several or needed <= self._short):
            together = min(max(min(at_l1, self._short) // step, 1), self._most_steps)
            parts = -(-steps // together)
            chunk = depth if parts == 1 else together * step * quantum
        loads = pair.area.cycles / pair.cuts
        cycles = self._cost.cycles(sizes, pair, steps, parts, loads, several and parts == 1)
        return (cycles, max(sizes.channels, 1), chunk, min(step * quantum, depth)), at_l1 < min(needed, pair.steps)

    def _in_blocks(self, sizes: ConvSizes, pair: Pair, room: int) -> _Kept | None:
        """With blocks of channels in L1, of whole steps, and the part of the kernels that goes with one."""
        item, quantum, taps = self._item, self._quantum, sizes.kernel[0] * sizes.kernel[1]
        channels, per_filter = -(-sizes.channels // quantum), taps if self._planes else 1
        image = align_up(pair.area.image * item) if self._planes else pair.area.image * item
        at_l1 = room // (2 * quantum * (image + item * per_filter * pair.filters.size))
        step = min(pair.steps, at_l1)
        if step < 1:
            return None
        blocks = -(-channels // (at_l1 // step * step))
        together = -(-channels // (blocks * step))
        blocks = -(-channels // (together * step))
        if blocks == 1:
            return None
        block = together * step * quantum
        loads = self._cost.image(sizes, pair.area.image, pair.area.loads, block, blocks)
        parts = blocks if self._planes else blocks * taps
        cycles = self._cost.cycles(sizes, pair, blocks * taps * together, parts, loads, False)
        return cycles, block, block * per_filter, step * quantum


def _clipped(sizes: Sequence[int], limit: int) -> list[int]:
    """Sizes up to the limit, and the limit where it is within reach."""
    limit = max(limit, 1)
    return [each for each in sizes if each < limit] + ([limit] if limit <= sizes[-1] else [])
