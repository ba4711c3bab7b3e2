"""What tiles of convolutions cost: estimates in core cycles, and the bytes they take of each buffer, for many tiles at once.

A core's first tile waits for main memory, which all cores read at once. Each later one takes as long as the slowest of what
works side by side: the cube, the moves to L0, the loads, the way out. Rates are those that the chip's configuration gives the
simulator.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npuvm.compiler.conv.loads import ConvLoads, Load, aligned, scalar
from npuvm.compiler.conv.spec import ConvSizes
from npuvm.compiler.conv.terms import Areas, Kernels, Room, Sent, Waits, Work
from npuvm.compiler.cube.problem import TileProblem
from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.native.conv_layout import Rate

__all__ = ["ConvCost"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_STEP_WORDS = 24.0
"""Words of a step over the kernel's elements at L0."""

_LOAD_WORDS, _TILE_WORDS, _START_WORDS = 16.0, 50.0, 100.0
"""Words of a load of kernels or of a row of the image, of a tile beside those, and before the first load."""

_VISIBLE = 0.12
"""Share of the second slowest unit's work that the slowest does not hide, as in a matrix product."""


class ConvCost:
    """Estimates for convolutions of one sort on `cores` cores."""

    def __init__(self, problem: TileProblem, planes: bool, cores: int) -> None:
        chip = problem.chip
        core, memory = chip.core, chip.memory
        cube, move, load, fixpipe, store = core.cube, core.move, core.load, core.fixpipe, core.store
        self.planes, self._problem, self._item = planes, problem, problem.item
        self._cores, self._per_core = scalar(cores), scalar((1 - 1e-9) / cores)
        self._loads = ConvLoads(problem, planes)
        self._quantum = max(cube.k_bytes, BLOCK_BYTES) // problem.item
        m, n = scalar(1 / cube.m), scalar(1 / cube.n)
        self._pixel_blocks, self._filter_blocks = (n, m) if planes else (m, n)
        self._depth_blocks = problem.item / cube.k_bytes
        self._block_cycles = float(cube.cycles_per_block[problem.dtype])
        self._product_start = float(cube.startup_cycles + cube.latency_cycles)
        a, b = (problem.item / float(rate) for rate in (move.l0a_bytes_per_cycle, move.l0b_bytes_per_cycle))
        self._move_rates = (b, a) if planes else (a, b)
        self._move_start = float(2 * move.startup_cycles)
        self._near = float(memory.l2.latency_cycles)
        self._far = self._near + memory.hbm.latency_cycles
        self._hit, self._missed, self._beyond = (
            scalar(each) for each in (self._near, self._far, self._far - self._near)
        )
        self._turn, self._outstanding = scalar(self._far / load.outstanding), scalar(load.outstanding)
        self._decode, self._queue = float(core.sequencer.decode_cycles_per_word), float(core.sequencer.queue_depth)
        self._begun = scalar(self._far + _START_WORDS * self._decode)
        self._fix_start = scalar(fixpipe.startup_cycles + fixpipe.latency_cycles)
        self._fix_rate = float(fixpipe.ub_bytes_per_cycle if problem.via_ub else fixpipe.gm_bytes_per_cycle)
        self._out_burst = float(store.min_burst_bytes)
        self._burst_pixels = scalar(self._out_burst / problem.out_item)
        self._store = float(store.startup_cycles), float(store.row_cycles), float(store.bytes_per_cycle)
        self._capacity = {name: chip.capacity_bytes(name) for name in ("l1", "l0a", "l0b", "l0c", "ub")}
        self._per_l2 = scalar(1 / float(chip.l2_bytes_per_cycle))
        self.slots = min(problem.depth(ring) for ring in ("l1.a", "l1.b", "l0a", "l0b", "ub.c"))
        """Slots of the rings, which are as many of all; with one nothing that shares a ring works side by side."""
        self._part = scalar(1 / self.slots)
        self._in_turn = self.slots == 1
        self._doubled = float(chip.capacity_bytes("l0c") // 2) if problem.depth("l0c") > 1 else 0.0

    def rates(self) -> dict[Rate, float]:
        """Numbers of the sort and its chip that all tiles are estimated by, as machine code has them."""
        return self._loads.rates() | {
            Rate.ITEM: self._item,
            Rate.BIAS_ITEM: self._problem.bias_item,
            Rate.IS_PLANES: self.planes,
            Rate.IS_VIA_UB: self._problem.via_ub,
            Rate.IS_IN_TURN: self._in_turn,
            Rate.SLOTS: self.slots,
            Rate.PART: float(self._part),
            Rate.CORES: float(self._cores),
            Rate.PER_CORE: float(self._per_core),
            Rate.PIXEL_BLOCKS: float(self._pixel_blocks),
            Rate.FIX_START: float(self._fix_start),
            Rate.BURST_PIXELS: float(self._burst_pixels),
            Rate.HIT: self._near,
            Rate.MISSED: self._far,
            Rate.TURN: float(self._turn),
            Rate.OUTSTANDING: float(self._outstanding),
            Rate.BEGUN: float(self._begun),
            Rate.DECODE: self._decode,
            Rate.LOAD_WORDS: _LOAD_WORDS,
            Rate.VISIBLE: _VISIBLE,
            Rate.PER_L2: float(self._per_l2),
            Rate.OUT_ITEM: self._problem.out_item,
        }

    def read_cycles(self, sizes: ConvSizes) -> float:
        """Cycles until main memory has given what is read once, at least."""
        return self._far + self._loads.read(sizes)

    # What tiles are.

    def kernels(self, sizes: ConvSizes, filters: Floats, block: Floats, chunk: Floats, step: Floats) -> Kernels:
        """What tiles need of the kernels. Without planes that depends on how far pixels of x and of y are apart."""
        depth, channels, taps = float(max(sizes.depth, 1)), max(sizes.channels, 1), sizes.kernel[0] * sizes.kernel[1]
        blocks, parts = np.ceil(channels / block), np.ceil(depth / chunk)
        elements = np.full_like(parts, depth)
        if not self.planes:
            # Blocks of channels come pixel by pixel of the kernel.
            parts = np.where(blocks > 1, blocks * taps, parts)
            elements = np.where(blocks > 1, float(taps * (-(-channels // self._quantum) * self._quantum)), depth)
        steps = parts * np.ceil(depth / (parts * step))
        blocks_k = np.maximum(np.ceil(elements * self._depth_blocks), steps) * self._block_cycles
        area = np.ceil(filters * self._filter_blocks) * blocks_k
        nbytes = filters * aligned(chunk * self._item)
        if self._problem.bias_item:
            nbytes = nbytes + aligned(filters * self._problem.bias_item)
        load = self._loads.kernels(sizes, filters, parts)
        cuts = np.ceil(sizes.filters / filters)
        part = load.scaled(1 / parts)
        started = steps * self._product_start
        moved = elements * filters * self._move_rates[1] + steps * self._move_start
        kept = (parts == 1) & (cuts == 1)
        words = (steps * _STEP_WORDS + (parts + blocks) * _LOAD_WORDS + _TILE_WORDS) * self._decode
        return Kernels(
            filters, block, chunk, step, cuts, blocks, parts, steps, elements, area, nbytes, load, part, started, moved,
            elements * self._move_rates[0], kept, words, self._room(filters, block, nbytes), self._sent(sizes, filters),
            self._waits(sizes, block, blocks, chunk * parts / elements, parts, steps, cuts, kept, load, part),
        )  # fmt: skip

    def _room(self, filters: Floats, block: Floats, nbytes: Floats) -> Room:
        left, half, acc = self._capacity["l1"] / self.slots - nbytes, self._doubled, self._problem.acc_item
        if not self.planes:
            return Room(left, np.floor(left / aligned(block * self._item)), np.floor(half / aligned(filters * acc)))
        # Pixels of a row take whole blocks of bytes.
        pixels, doubled = (
            np.floor(np.floor(each) / BLOCK_BYTES) * BLOCK_BYTES for each in (left / block, half / filters)
        )
        return Room(left, pixels / self._item, doubled / acc)

    def _sent(self, sizes: ConvSizes, filters: Floats) -> Sent:
        """The way out of tiles of so many filters. Rows that do not follow each other leave one by one, short ones as a whole
        burst."""
        row = filters * float(self._problem.out_item)
        sent = row if self.planes else np.where(filters == sizes.target, row, np.maximum(row, self._out_burst))
        drained = row / self._fix_rate
        if not self._problem.via_ub:
            return Sent(sent / self._fix_rate, self._fix_start, drained)
        startup, per_row, rate = self._store
        if self.planes:
            return Sent(sent / rate, startup + filters * per_row, drained)
        return Sent(per_row + sent / rate, scalar(startup), drained)

    def _waits(
        self,
        sizes: ConvSizes,
        block: Floats,
        blocks: Floats,
        largest: Floats,
        parts: Floats,
        steps: Floats,
        cuts: Floats,
        kept: Flags,
        load: Load,
        part: Load,
    ) -> Waits:
        changes, forgets, slots = (~kept).astype(np.float64), self._loads.forgets(sizes), self.slots
        several, pixel = (blocks > 1).astype(np.float64), block * self._item
        full = np.maximum(np.where(blocks > 1, block * blocks / max(sizes.channels, 1), largest), 1.0)
        behind = np.maximum(1 - parts / steps * (self._queue / 2), 0.0)
        late, whole = changes * (behind > 0), np.floor((parts - 1) / slots)
        # A part behind a new image has a slot when the one as many parts before it is done, and waits for two loads more.
        tiles = np.ceil((slots + 1) * blocks / parts)
        dense = pixel == sizes.adjacent * self._item
        return Waits(
            changes * (load.far if forgets else load.near),
            changes * (load.far - load.near) if changes.any() and not forgets else None,
            cuts.astype(np.int64),
            1 / parts,
            full,
            changes * full / slots,
            changes * (self._near * parts) / slots,
            changes * behind,
            self._near * parts * late,
            late,
            changes * blocks / tiles,
            tiles * parts / blocks - (slots + 1),
            blocks / steps * (self._queue / 2),
            part.requests * self._turn,
            whole,
            parts - 1 - whole * slots,
            blocks * several / parts,
            several,
            bool(np.any((blocks == 1) & (cuts > 1))),
            forgets,
            changes * load.served,
            (1 - changes) * load.served * self._cores,
            pixel,
            dense if dense.any() else None,
        )

    def areas(self, sizes: ConvSizes, rows: Floats, cols: Floats) -> Areas:
        """The images that tiles of the result need: of parts of a row, as many as there are `cols`, and then of whole rows."""
        (kernel_h, kernel_w), (step_h, step_w), (far_h, far_w) = sizes.kernel, sizes.strides, sizes.dilations
        (height, width), line, parts = sizes.size, max(sizes.size[1], 1), len(cols)
        image = rows * scalar(step_h * line) + scalar(((kernel_h - 1) * far_h + 1 - step_h) * line)
        inside, pixels = np.minimum(image, scalar(height * width)), rows * scalar(sizes.out[1])
        # Rows that windows share are read once, and rows that all step over not at all.
        over = scalar(min((kernel_h - 1) * far_h + 1 - step_h, 0))
        fresh = np.minimum(
            rows * scalar(step_h) + over, scalar(height) / np.ceil(scalar(sizes.out[0]) / rows)
        ) * scalar(width)
        if parts:
            right = cols * scalar(step_w) + scalar((kernel_w - 1) * far_w + 1 - step_w)
            if self.planes:
                right = aligned(right * self._item) / self._item
            image[:parts] = right * scalar(kernel_h)
            inside[:parts] = np.minimum(right, scalar(width)) * scalar(min(kernel_h, height))
            pixels[:parts] = cols
            fresh[:parts] /= np.ceil(scalar(sizes.out[1]) / cols)
        return Areas(rows, cols, pixels, image, inside, fresh)

    def accumulators(self, kernels: Kernels, areas: Areas) -> tuple[Flags, Flags]:
        """Which tiles that fit L0 fit L1 too, and of which one accumulator fits, not two."""
        problem, item, room = self._problem, self._item, kernels.room
        single: Flags = areas.pixels > room.doubled
        if not problem.bias_item:
            return areas.image <= room.pixels, single
        bias = aligned(areas.pixels * (item if self.planes else problem.bias_item))
        image = (
            kernels.block * aligned(areas.image * item) if self.planes else areas.image * aligned(kernels.block * item)
        )
        return image + bias / self.slots <= room.nbytes, single

    def fits_l0(self, kernels: Kernels, areas: Areas) -> Flags:
        """Which tiles fit L0, and UB where results leave through it; those that were grown do."""
        problem, item, size = self._problem, self._item, self._capacity
        pixels = areas.pixels
        m, n = (kernels.filters, pixels) if self.planes else (pixels, kernels.filters)
        row = aligned(n * (item if self.planes else problem.bias_item)) if problem.bias_item else 0.0
        fits: Flags = self.slots * m * aligned(kernels.step * item) <= size["l0a"]
        fits &= self.slots * np.maximum(kernels.step * aligned(n * item), row) <= size["l0b"]
        fits &= m * aligned(n * problem.acc_item) <= size["l0c"]
        return fits & (self.slots * m * aligned(n * problem.out_item) <= size["ub"]) if problem.via_ub else fits

    # What tiles cost.

    def cycles(self, sizes: ConvSizes, kernels: Kernels, areas: Areas, single: Flags) -> Floats:
        """Estimated cycles of the convolution with each tile, `single` ones with one accumulator."""
        work, image = self._work(sizes, kernels, areas), self._image(sizes, kernels, areas)
        weights = kernels.load
        later = self._later(sizes, kernels, areas, work, single, image)
        tail = (work.compute + work.move) / kernels.steps + work.out
        total = self._first(kernels, work, image) + tail + (work.waves - _ONE) * later
        # Memory serves no faster than that, whatever cores do.
        images = work.tiles * kernels.blocks * work.loaded
        served = images * image.served + work.tiles * kernels.waits.served + kernels.waits.served_once
        total = np.maximum(total, served * self._per_l2)
        least: Floats | None = None
        if kernels.waits.forgets:
            # Cores that are at the same kernels read them once for all.
            least = np.where(kernels.kept, 0.0, (work.images - _ONE) * kernels.cuts * weights.fetched)
        if image.past is not None:
            past = images * image.past
            least = past if least is None else np.maximum(least, past)
        if weights.past is not None:
            past = np.where(kernels.kept, self._cores, work.tiles) * weights.past
            least = past if least is None else np.maximum(least, past)
        read = scalar(self.read_cycles(sizes))
        return np.maximum(total, (tail if least is None else tail + least) + read)

    def later_cycles(self, sizes: ConvSizes, kernels: Kernels, areas: Areas, single: Flags) -> tuple[Floats, Floats]:
        """How many tiles there are, and what each but the first takes a core."""
        work, image = self._work(sizes, kernels, areas), self._image(sizes, kernels, areas)
        return work.tiles, self._later(sizes, kernels, areas, work, single, image)

    def _image(self, sizes: ConvSizes, kernels: Kernels, areas: Areas) -> Load:
        waits = kernels.waits
        return self._loads.image(
            sizes, areas.rows, areas.inside, areas.fresh, len(areas.cols), kernels.block, waits.pixel, waits.dense
        )

    def _work(self, sizes: ConvSizes, kernels: Kernels, areas: Areas) -> Work:
        (high, wide), pixels, parts = sizes.out, areas.pixels, len(areas.cols)
        tiles = np.ceil(scalar(high) / areas.rows) * kernels.cuts
        if sizes.images > 1:
            tiles *= scalar(sizes.images)
        if parts:
            tiles[:parts] *= np.ceil(scalar(wide) / areas.cols)
        waves = np.ceil(tiles * self._per_core)
        images = np.ceil(waves / kernels.cuts)
        share = images / waves
        # An image stays for all filters of a tile, if it is there with all its channels.
        loaded = np.maximum(share, kernels.waits.several)
        compute = np.ceil(pixels * self._pixel_blocks) * kernels.area + kernels.started
        move = pixels * kernels.per_pixel + kernels.moved
        out, drained = self._out(sizes, kernels.sent, pixels)
        return Work(tiles, waves, images, share, loaded, compute, move, out, drained)

    def _out(self, sizes: ConvSizes, sent: Sent, pixels: Floats) -> tuple[Floats, Floats]:
        """Cycles of a tile's way out, and until its accumulators are free."""
        each = pixels
        if self.planes:
            each = np.maximum(pixels, self._burst_pixels)
            if sizes.target < self._burst_pixels:
                each = np.where(pixels == sizes.target, pixels, each)
        out = each * sent.per_pixel + sent.rest
        if not self._problem.via_ub:
            return out, out
        drained = pixels * sent.drained + self._fix_start
        return drained + out if self._in_turn else np.maximum(drained, out), drained

    def _later(
        self, sizes: ConvSizes, kernels: Kernels, areas: Areas, work: Work, single: Flags, image: Load
    ) -> Floats:
        """Cycles of a tile behind another one."""
        blocks, waits, of_kernels = kernels.blocks, kernels.waits, kernels.waits.near
        if waits.further is not None:
            # Cores begin at other filters where their tiles end within those of an image, and find later what others read.
            apart = np.gcd(waits.cuts, work.waves.astype(np.int64)) / work.waves
            of_kernels = of_kernels + waits.further * apart
        busy = work.compute + work.drained * single
        if self._in_turn:
            # Moves wait for the product that has the only slot.
            busy = busy + work.move
        paced = np.maximum(busy, work.move)
        words, parts, loads = kernels.words, len(areas.cols), sizes.kernel[0]
        if parts and loads > 1:
            words = words.copy()
            words[:parts] += blocks[:parts] * ((loads - 1) * _LOAD_WORDS * self._decode)
        low, high = np.minimum(busy, work.move), np.maximum(work.out, words)
        unit, second = np.maximum(paced, high), np.maximum(low, np.minimum(paced, high))
        # A slot of a ring is free again when its part is moved, and loads are sent when the queue of moves has room again.
        turn = (of_kernels + paced) * waits.slot + waits.turn
        behind = paced * waits.behind + waits.issued + of_kernels * waits.late
        least = np.maximum(turn, behind)

        def tile(load: Floats) -> Floats:
            taken = np.maximum(unit, load) + _SEEN * np.maximum(second, np.minimum(unit, load))
            return np.maximum(taken, least)

        # Tiles whose image is another one.
        new = work.share / work.loaded
        of_block, delay = image.near + (image.far - image.near) * new, self._hit + self._beyond * new
        of_part, of_work = of_kernels * waits.share, paced * waits.share
        slot = np.maximum(of_work, (of_part + of_work + self._hit) * self._part)
        moved = tile(of_block * blocks + of_kernels)
        moved = np.maximum(moved, (_TWO * of_part + of_block + delay + of_work + slot * waits.more) * waits.turns)
        moved = np.maximum(moved, ((of_block + delay) * blocks + paced) * self._part)
        moved = np.maximum(moved, paced + ((of_block + of_part + delay) * blocks - paced * waits.ahead))
        if not waits.stays:
            return moved
        # Tiles whose image is there; loads are no more than a tile ahead.
        stays = tile(of_kernels)
        return stays + work.loaded * (moved - stays)

    def _first(self, kernels: Kernels, work: Work, image: Load) -> Floats:
        """Cycles until the last product of the first tile; all cores at once read what their first tiles need."""
        part, waits = kernels.part, kernels.waits
        working = np.minimum(work.tiles, self._cores)
        # What cores read beside each other comes from main memory once; what is read past L2 waits for what others read there.
        of_images = np.minimum(working, np.ceil(working * work.waves / kernels.cuts)) * image.fetched
        of_kernels = np.minimum(kernels.cuts, working) * part.fetched
        if image.past is not None:
            of_images = np.maximum(of_images, working * image.past)
        if part.past is not None:
            of_kernels = np.maximum(of_kernels, working * part.past)
        # Requests are sent side by side up to those that may be in flight, and later ones when earlier ones are back.
        window = np.minimum(image.issue, image.issue * (self._outstanding / np.maximum(image.requests, _ONE)))
        late = image.requests * self._turn - self._missed + window
        fill = np.maximum(np.maximum(image.issue, of_images), late)
        fill = fill + np.maximum(np.maximum(part.issue, of_kernels), waits.requests)
        # Further parts come while others are multiplied, as slots are free and the queue of moves has room.
        load = np.maximum(part.far, of_kernels) + np.maximum(image.far, of_images) * waits.again
        slowest = work.compute + work.move if self._in_turn else np.maximum(work.compute, work.move)
        of_work, others = slowest * waits.share, kernels.parts - _ONE
        pace = np.maximum(load, of_work)
        run = np.maximum(
            pace * others, pace * waits.rest + ((load + of_work) * waits.full + self._missed) * waits.whole
        )
        run = np.maximum(run, (of_work * waits.behind + (load + self._missed) * waits.late) * others)
        return fill + run + of_work + self._begun


_ONE, _TWO, _SEEN = (scalar(value) for value in (1, 2, _VISIBLE))
