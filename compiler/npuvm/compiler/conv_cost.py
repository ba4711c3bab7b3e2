"""What a tile of a convolution costs: an analytic estimate in core cycles, for a table of pixels by filters at once.

It is the busiest unit of a core over all its tiles, with a share of the others' work, and the time until the first and after
the last tile. Rates are those that the chip's configuration gives the simulator.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.blocks import BLOCK_BYTES, align_up
from npuvm.compiler.conv_spec import ConvSizes
from npuvm.compiler.cube_cost import TileProblem

__all__ = ["Areas", "ConvCost", "Kept"]

Floats = npt.NDArray[np.float64]

_VISIBLE = 0.2
"""Share of the work beside the slowest that it does not hide, as in a matrix product."""

_STEP_WORDS, _LOAD_WORDS, _TILE_WORDS = 24, 4, 50
"""Words of a step over the kernel's elements, of a load of the image, and of a tile beside those, at most."""


class Areas(NamedTuple):
    """Candidates for the pixels of a tile: `rows` x `cols`, the first `whole` of them whole rows.

    `image` are the pixels of its image, which `loads` instructions bring to L1.
    """

    rows: Floats
    cols: Floats
    pixels: Floats
    image: Floats
    loads: Floats
    whole: int


class Kept(NamedTuple):
    """How many blocks of how many channels lie in L1 in turn, elements of the kernels there and in L0; step 0: none fit."""

    blocks: Floats | float
    block: Floats | float
    chunk: Floats
    step: Floats


class ConvCost:
    """Estimates for convolutions of one sort on `cores` cores."""

    def __init__(self, problem: TileProblem, planes: bool, cores: int) -> None:
        chip, core = problem.chip, problem.chip.core
        cube, move, load = core.cube, core.move, core.load
        self._planes, self._cores = planes, cores
        self._item, self._out_item, self._via_ub = problem.item, problem.out_item, problem.via_ub
        self._block = cube.m, cube.n, cube.k_bytes
        self._block_cycles = float(cube.cycles_per_block[problem.dtype])
        self._product_start = cube.startup_cycles + cube.latency_cycles
        self._moves = 2.0 * move.startup_cycles, float(move.l0a_bytes_per_cycle), float(move.l0b_bytes_per_cycle)
        self._load_start, self._load_row = load.l1_startup_cycles, float(load.l1_row_cycles)
        self._port, self._burst = float(load.l1_bytes_per_cycle), load.min_burst_bytes
        self._latency = chip.memory.l2.latency_cycles + chip.memory.hbm.latency_cycles
        self._chunk, self._in_flight = load.chunk_bytes, self._latency / load.outstanding
        self._l2 = float(chip.l2_bytes_per_cycle)
        self._fix = core.fixpipe.startup_cycles, max(float(core.fixpipe.ub_bytes_per_cycle), 1.0)
        to_memory = core.store.bytes_per_cycle if problem.via_ub else core.fixpipe.gm_bytes_per_cycle
        self._out = max(float(to_memory), 1.0)
        self._out_burst = core.store.min_burst_bytes
        self._queue = core.sequencer.queue_depth / 2
        self._decode = float(core.sequencer.decode_cycles_per_word)

    def cycles(
        self,
        sizes: ConvSizes,
        areas: Areas,
        filters: Floats,
        product: tuple[Floats, Floats],
        kept: Kept,
        double: npt.NDArray[np.bool_],
    ) -> Floats:
        """Estimated cycles of the whole convolution, by areas and filters.

        `product` are m and n; `double` says where there are two accumulators, so that results leave beside the next tile.
        """
        m, n = product
        cuts = np.ceil(sizes.filters / filters)
        high, wide = sizes.out
        tiles = (sizes.images * np.ceil(high / areas.rows) * np.ceil(wide / areas.cols))[:, None] * cuts
        waves = np.ceil(tiles / self._cores)
        in_block = kept.block * (sizes.kernel[0] * sizes.kernel[1])
        chunks = np.ceil(in_block / kept.chunk)
        step = np.maximum(kept.step, 1)
        steps = kept.blocks * chunks * np.ceil(kept.chunk / step)
        compute, moves = self._products(m, n, steps, max(sizes.depth, 1))
        image = self._image(sizes, areas, kept) / (1.0 if isinstance(kept.blocks, np.ndarray) else cuts)
        weights = self._weights(sizes, filters, kept, kept.blocks * chunks, np.minimum(tiles, self._cores))
        # Kernels that all lie in L1 stay there, as long as their filters do.
        weights = weights / np.where((kept.chunk >= sizes.depth) & (cuts == 1), np.maximum(waves, 1), 1)
        out = self._result(sizes, m, n)
        words = (steps * _STEP_WORDS + (areas.loads[:, None] * kept.blocks * _LOAD_WORDS + _TILE_WORDS)) * self._decode
        loads = image + weights
        busy = np.where(double, compute, compute + out)
        most = np.maximum(np.maximum(np.maximum(busy, moves), np.maximum(loads, out)), words)
        tile = most * (1 - _VISIBLE) + (busy + moves + loads + out + words) * _VISIBLE
        # The next loads are dispatched behind the moves of this part: where those overflow the queue, the two overlap less.
        ahead = np.minimum(self._queue * (kept.blocks * chunks) / steps, 1)
        tile = tile + np.minimum(loads, moves) * (1 - ahead)
        cycles: Floats = waves * tile + loads / chunks + out + self._latency
        return cycles

    def _products(self, m: Floats, n: Floats, steps: Floats, depth: int) -> tuple[Floats, Floats]:
        """Cycles of the cube and of the moves to L0 for one tile."""
        block_m, block_n, block_k = self._block
        nbytes = align_up(depth * self._item, block_k)
        blocks = np.ceil(m / block_m) * np.ceil(n / block_n) * (nbytes // block_k)
        start, rate_a, rate_b = self._moves
        moved = m * (nbytes / rate_a) + _aligned(n * self._item) * (depth / rate_b)
        return blocks * self._block_cycles + steps * self._product_start, moved + steps * start

    def _image(self, sizes: ConvSizes, areas: Areas, kept: Kept) -> Floats:
        """Cycles of the loads of an image. A load is as many rows as it has pixels, or channels where those are planes."""
        loads, pixels = areas.loads[:, None], (areas.image / areas.loads)[:, None]
        rows: Floats | float
        row_bytes: Floats | float
        if self._planes:
            rows, row_bytes = kept.block, pixels * self._item
        elif not isinstance(kept.block, np.ndarray) and kept.block == sizes.adjacent:
            rows, row_bytes = 1.0, pixels * (kept.block * self._item)
        else:
            rows, row_bytes = pixels, kept.block * self._item
        issue = rows * self._load_row + self._load_start
        moved = rows * (np.maximum(row_bytes, self._burst) / self._port)
        return np.asarray(loads * kept.blocks * np.maximum(issue, moved))

    def _weights(self, sizes: ConvSizes, filters: Floats, kept: Kept, times: Floats | float, cores: Floats) -> Floats:
        """Cycles of the loads of kernels for one tile. Their rows are requests of their own, unless they are loaded whole."""
        nbytes = kept.chunk * self._item
        piece = np.where(kept.chunk >= sizes.depth, nbytes, np.maximum(nbytes, self._burst))
        rate = np.minimum(self._port, self._l2 / cores)
        flight = np.ceil(piece / self._chunk) * self._in_flight
        return np.asarray(filters * times * np.maximum(piece / rate + self._load_row, flight))

    def _result(self, sizes: ConvSizes, m: Floats, n: Floats) -> Floats:
        """Cycles of a tile's way out. Rows that do not follow each other leave one by one, a short one as a whole burst."""
        nbytes = n * self._out_item
        lines = m * np.where(n == sizes.target, nbytes, np.maximum(nbytes, self._out_burst))
        start, rate = self._fix
        if self._via_ub:
            return np.asarray(start + np.maximum(m * nbytes / rate, lines / self._out))
        return np.asarray(start + lines / self._out)


def _aligned(nbytes: Floats) -> Floats:
    return np.ceil(nbytes / BLOCK_BYTES) * BLOCK_BYTES
