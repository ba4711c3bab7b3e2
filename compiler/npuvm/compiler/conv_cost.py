"""What tiles of convolutions cost: estimates in core cycles, and the bytes they take of each buffer, for many tiles at once.

A core's first tile waits for main memory, which all cores read at once. Each later one takes as long as the slowest of what
works side by side: the cube, the moves to L0, the loads, the way out. Rates are those that the chip's configuration gives the
simulator.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.blocks import BLOCK_BYTES
from npuvm.compiler.conv_loads import ConvLoads, Load, aligned
from npuvm.compiler.conv_spec import ConvSizes
from npuvm.compiler.cube_problem import TileProblem

__all__ = ["Areas", "ConvCost", "Kernels"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_STEP_WORDS = 24.0
"""Words of a step over the kernel's elements at L0."""

_LOAD_WORDS, _TILE_WORDS, _START_WORDS = 16.0, 50.0, 100.0
"""Words of a load of kernels or of a row of the image, of a tile beside those, and before the first load."""

_VISIBLE = 0.12
"""Share of the second slowest unit's work that the slowest does not hide, as in a matrix product."""

_BOTH = 0.2
"""Share of the faster of port and main memory that the slower does not hide while all cores begin."""


class Kernels(NamedTuple):
    """What tiles need of the kernels, whatever the size of images: `filters`, which make `cuts` tiles, `block` channels and
    `chunk` elements in L1, `step` of them a product.

    An image comes in `blocks` of channels, the kernels in `parts`, and there are `steps` products over `elements` with padding.
    `area` are blocks of the cube along the filters, with the cycles of each; `nbytes` those in L1. `load` brings all parts,
    `part` one of them. `started` are cycles of the cube for starts, `moved` those of moves but for pixels; `kept` says that the
    kernels stay for all tiles, `share` is one over parts, `turn` what a load waits for at least, but for moves, in all parts,
    `behind` the share of the work of a part that is done before loads of the next are sent, `words` cycles of the sequencer.
    """

    filters: Floats
    block: Floats
    chunk: Floats
    step: Floats
    cuts: Floats
    blocks: Floats
    parts: Floats
    steps: Floats
    elements: Floats
    area: Floats
    nbytes: Floats
    load: Load
    part: Load
    started: Floats
    moved: Floats
    kept: Flags
    share: Floats
    turn: Floats
    behind: Floats
    words: Floats


class Areas(NamedTuple):
    """Pixels of tiles: `rows` x `cols` of the result, the `image` in L1 for them, `inside` pixels of it in x, its `loads`."""

    rows: Floats
    cols: Floats
    image: Floats
    inside: Floats
    loads: Floats | float


class _Work(NamedTuple):
    """`tiles`, of which a core has `waves`, `images` with an image of their own; cycles of the cube, of moves, of the way
    out, and until accumulators are free."""

    tiles: Floats
    waves: Floats
    images: Floats
    compute: Floats
    move: Floats
    out: Floats
    drained: Floats


class ConvCost:
    """Estimates for convolutions of one sort on `cores` cores."""

    def __init__(self, problem: TileProblem, planes: bool, cores: int) -> None:
        chip = problem.chip
        core, memory = chip.core, chip.memory
        cube, move, load, fixpipe, store = core.cube, core.move, core.load, core.fixpipe, core.store
        self.planes, self._problem, self._item = planes, problem, problem.item
        self._cores, self._per_core = float(cores), (1 - 1e-9) / cores
        self._loads = ConvLoads(problem, planes)
        self._quantum = max(cube.k_bytes, BLOCK_BYTES) // problem.item
        self._blocks = 1 / cube.m, 1 / cube.n, problem.item / cube.k_bytes
        self._block_cycles = float(cube.cycles_per_block[problem.dtype])
        self._product_start = float(cube.startup_cycles + cube.latency_cycles)
        a, b = (problem.item / float(rate) for rate in (move.l0a_bytes_per_cycle, move.l0b_bytes_per_cycle))
        self._move_rates = (b, a) if planes else (a, b)
        self._move_start = float(2 * move.startup_cycles)
        self._near = float(memory.l2.latency_cycles)
        self._far = self._near + memory.hbm.latency_cycles
        self._turn = self._far / load.outstanding
        self._decode, self._queue = float(core.sequencer.decode_cycles_per_word), float(core.sequencer.queue_depth)
        self._fix_start = float(fixpipe.startup_cycles + fixpipe.latency_cycles)
        self._fix_rate = float(fixpipe.ub_bytes_per_cycle if problem.via_ub else fixpipe.gm_bytes_per_cycle)
        self._out_burst = float(store.min_burst_bytes)
        self._store = float(store.startup_cycles), float(store.row_cycles), float(store.bytes_per_cycle)
        self._capacity = {name: chip.capacity_bytes(name) for name in ("l1", "l0a", "l0b", "l0c", "ub")}
        self._per_l2 = 1 / float(chip.l2_bytes_per_cycle)

    # What tiles are.

    def kernels(self, sizes: ConvSizes, filters: Floats, block: Floats, chunk: Floats, step: Floats) -> Kernels:
        """What tiles need of the kernels."""
        depth, channels, taps = float(max(sizes.depth, 1)), max(sizes.channels, 1), sizes.kernel[0] * sizes.kernel[1]
        blocks, parts = np.ceil(channels / block), np.ceil(depth / chunk)
        elements = np.full_like(parts, depth)
        if not self.planes:
            # Blocks of channels come pixel by pixel of the kernel.
            parts = np.where(blocks > 1, blocks * taps, parts)
            elements = np.where(blocks > 1, float(taps * (-(-channels // self._quantum) * self._quantum)), depth)
        steps = parts * np.ceil(depth / (parts * step))
        blocks_k = np.maximum(np.ceil(elements * self._blocks[2]), steps) * self._block_cycles
        area = np.ceil(filters * self._blocks[0 if self.planes else 1]) * blocks_k
        nbytes = filters * aligned(chunk * self._item)
        if self._problem.bias_item:
            nbytes = nbytes + aligned(filters * self._problem.bias_item)
        load = self._loads.kernels(sizes, filters, parts)
        cuts = np.ceil(sizes.filters / filters)
        share = 1 / parts
        part = load.scaled(share)
        started = steps * self._product_start
        moved = elements * filters * self._move_rates[1] + steps * self._move_start
        kept = (parts == 1) & (cuts == 1)
        turn = self._near * parts + load.near
        behind = np.maximum(1 - parts / steps * (self._queue / 2), 0.0)
        words = (steps * _STEP_WORDS + (parts + blocks) * _LOAD_WORDS + _TILE_WORDS) * self._decode
        return Kernels(
            filters, block, chunk, step, cuts, blocks, parts, steps, elements, area, nbytes, load, part, started, moved, kept,
            share, turn, behind, words,
        )  # fmt: skip

    def areas(self, sizes: ConvSizes, rows: Floats, cols: Floats, whole: Flags) -> Areas:
        """The images that tiles of the result need, `whole` rows of it or parts of one."""
        (kernel_h, kernel_w), (step_h, step_w), (far_h, far_w) = sizes.kernel, sizes.strides, sizes.dilations
        height, width = sizes.size
        down = (rows - 1) * float(step_h) + float((kernel_h - 1) * far_h + 1)
        if whole.all():
            return Areas(rows, cols, down * float(max(width, 1)), np.minimum(down, height) * float(width), 1.0)
        right = (cols - 1) * step_w + float((kernel_w - 1) * far_w + 1)
        right = aligned(right * self._item) / self._item if self.planes else right
        image = np.where(whole, down * max(width, 1), right * kernel_h)
        inside = np.where(whole, np.minimum(down, height) * width, np.minimum(right, width) * min(kernel_h, height))
        return Areas(rows, cols, image, inside, np.where(whole, 1.0, float(kernel_h)))

    def accumulators(self, kernels: Kernels, areas: Areas) -> Floats:
        """How many accumulators, 2 or 1, fit beside each tile that fits L0; 0 where L1 has no room for it."""
        problem, item = self._problem, self._item
        pixels = areas.rows * areas.cols
        image = (
            kernels.block * aligned(areas.image * item) if self.planes else areas.image * aligned(kernels.block * item)
        )
        used = 2 * (image + kernels.nbytes)
        if problem.bias_item:
            used = used + aligned(pixels * (item if self.planes else problem.bias_item))
        m, n = (kernels.filters, pixels) if self.planes else (pixels, kernels.filters)
        double = m * aligned(n * problem.acc_item) <= self._capacity["l0c"] // 2
        return (used <= self._capacity["l1"]) * (double + 1.0)

    def fits_l0(self, kernels: Kernels, areas: Areas) -> Flags:
        """Which tiles fit L0, and UB where results leave through it; those that were grown do."""
        problem, item, size = self._problem, self._item, self._capacity
        pixels = areas.rows * areas.cols
        m, n = (kernels.filters, pixels) if self.planes else (pixels, kernels.filters)
        row = aligned(n * (item if self.planes else problem.bias_item)) if problem.bias_item else 0.0
        fits: Flags = 2 * m * aligned(kernels.step * item) <= size["l0a"]
        fits &= 2 * np.maximum(kernels.step * aligned(n * item), row) <= size["l0b"]
        fits &= m * aligned(n * problem.acc_item) <= size["l0c"]
        return fits & (2 * m * aligned(n * problem.out_item) <= size["ub"]) if problem.via_ub else fits

    # What tiles cost.

    def cycles(self, sizes: ConvSizes, kernels: Kernels, areas: Areas, depths: Floats) -> Floats:
        """Estimated cycles of the convolution with each tile and so many accumulators."""
        work, image = self._work(sizes, kernels, areas), self._image(sizes, kernels, areas)
        weights, loaded = kernels.load, _loaded(kernels, work)
        later = self._later(sizes, kernels, areas, work, loaded, depths, image)
        tail = (work.compute + work.move) / kernels.steps + work.out
        total = self._first(kernels, work, image) + tail + (work.waves - 1) * later
        # Memory serves no faster than that, whatever cores do.
        images, times = work.tiles * kernels.blocks * loaded, np.where(kernels.kept, self._cores, work.tiles)
        total = np.maximum(total, (images * image.served + times * weights.served) * self._per_l2)
        least: Floats | float = 0.0
        if self._loads.forgets(sizes):
            # Cores that are at the same kernels read them once for all.
            least = np.where(kernels.kept, 0.0, (work.images - 1) * kernels.cuts * weights.fetched)
        for load, many in ((image, images), (weights, times)):
            if load.past is not None:
                least = np.maximum(least, many * load.past)
        return np.maximum(total, tail + least + (self._far + self._loads.read(sizes)))

    def later_cycles(self, sizes: ConvSizes, kernels: Kernels, areas: Areas, depths: Floats) -> tuple[Floats, Floats]:
        """How many tiles there are, and what each but the first takes a core."""
        work, image = self._work(sizes, kernels, areas), self._image(sizes, kernels, areas)
        return work.tiles, self._later(sizes, kernels, areas, work, _loaded(kernels, work), depths, image)

    def _image(self, sizes: ConvSizes, kernels: Kernels, areas: Areas) -> Load:
        return self._loads.image(sizes, areas.rows, areas.inside, kernels.block, areas.loads)

    def _work(self, sizes: ConvSizes, kernels: Kernels, areas: Areas) -> _Work:
        (high, wide), pixels = sizes.out, areas.rows * areas.cols
        tiles = np.ceil(high / areas.rows) * np.ceil(wide / areas.cols) * (kernels.cuts * float(sizes.images))
        waves = np.ceil(tiles * self._per_core)
        compute = np.ceil(pixels * self._blocks[1 if self.planes else 0]) * kernels.area + kernels.started
        move = kernels.elements * pixels * self._move_rates[0] + kernels.moved
        m, n = (kernels.filters, pixels) if self.planes else (pixels, kernels.filters)
        out, drained = self._out(sizes, m, n)
        return _Work(tiles, waves, np.ceil(waves / kernels.cuts), compute, move, out, drained)

    def _out(self, sizes: ConvSizes, m: Floats, n: Floats) -> tuple[Floats, Floats]:
        """Cycles of a tile's way out, and until its accumulators are free.

        Rows that do not follow each other leave one by one, short ones as a whole burst.
        """
        row = n * float(self._problem.out_item)
        sent = m * np.where(n == sizes.target, row, np.maximum(row, self._out_burst))
        if not self._problem.via_ub:
            out = self._fix_start + sent / self._fix_rate
            return out, out
        startup, per_row, rate = self._store
        drained = self._fix_start + m * row / self._fix_rate
        return np.maximum(drained, startup + m * per_row + sent / rate), drained

    def _later(
        self, sizes: ConvSizes, kernels: Kernels, areas: Areas, work: _Work, loaded: Floats, depths: Floats, image: Load
    ) -> Floats:
        """Cycles of a tile behind another one; `loaded` of them have an image to load."""
        blocks, weights = kernels.blocks, kernels.load
        # Cores begin at other filters where their tiles end within those of an image, and find later what others read.
        apart = np.gcd(kernels.cuts.astype(np.int64), work.waves.astype(np.int64))
        if self._loads.forgets(sizes):
            apart = work.waves
        changes = ~kernels.kept
        of_kernels = changes * (weights.near + (weights.far - weights.near) * (apart / work.waves))
        of_image = (image.near + (image.far - image.near) * (work.images / (work.waves * loaded))) * blocks
        busy = work.compute + (2 - depths) * work.drained
        # A slot of a ring is free again when its part is moved.
        turn = changes * (kernels.turn + work.move) * 0.5
        turn_of_image = np.maximum(turn, ((self._far + image.far) * blocks + work.move) * 0.5)
        # Loads are sent when the queue of moves has room again.
        paced = np.maximum(busy, work.move)
        issued = paced * kernels.behind + self._near * kernels.parts * (kernels.behind > 0)
        words = kernels.words + (areas.loads - 1) * blocks * (_LOAD_WORDS * self._decode)
        low, high = np.minimum(busy, work.move), np.maximum(work.out, words)
        unit, second = np.maximum(paced, high), np.maximum(low, np.minimum(paced, high))
        # A tile whose image is another one, and one whose image is there; loads are no more than a tile ahead.
        found: list[Floats] = []
        for load, least in ((of_image + of_kernels, turn_of_image), (of_kernels, turn)):
            waits = np.maximum(load, least)
            tile = np.maximum(unit, waits) + _VISIBLE * np.maximum(second, np.minimum(unit, waits))
            found.append(np.maximum(tile, load + issued))
        moved, stays = found
        return stays + loaded * (moved - stays)

    def _first(self, kernels: Kernels, work: _Work, image: Load) -> Floats:
        """Cycles until the last product of the first tile; all cores at once read what their first tiles need."""
        part, share = kernels.part, kernels.share
        working = np.minimum(work.tiles, self._cores)
        images = np.minimum(working, np.ceil(working * work.waves / kernels.cuts))
        fetched = images * image.fetched + np.minimum(kernels.cuts, working) * part.fetched
        for load in (image, part):
            if load.past is not None:
                fetched = np.maximum(fetched, working * load.past)
        in_flight = (image.requests + part.requests) * self._turn - self._far
        fill = np.maximum(image.issue + part.issue, in_flight)
        fill = np.maximum(fill, fetched) + _BOTH * np.minimum(fill, fetched)
        of_image = image.far
        if image.past is not None:
            # What is read past L2 waits for what other cores read there.
            of_image = of_image + image.past * working
        loads = kernels.load.far + of_image * kernels.blocks * (kernels.blocks > 1)
        # What cores read beside each other comes from main memory once.
        once = images * image.fetched * kernels.blocks + np.minimum(kernels.cuts, working) * kernels.load.fetched
        loads = np.maximum(loads, once)
        rest = (1 - share) * np.maximum(loads, (self._far * kernels.parts + loads + work.move) * 0.5)
        slowest = np.maximum(work.compute, work.move)
        return fill + np.maximum(slowest, rest + slowest * share) + (self._far + _START_WORDS * self._decode)


def _loaded(kernels: Kernels, work: _Work) -> Floats:
    """The share of tiles that load an image: it stays for all filters of a tile, if it is there with all its channels."""
    return np.maximum(work.images / work.waves, kernels.blocks > 1)
