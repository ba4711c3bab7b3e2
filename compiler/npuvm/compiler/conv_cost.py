"""What a tile of a convolution costs: an analytic estimate in core cycles, and what L0 has room for.

It is the busiest unit of a core over all its tiles, with a share of the others' work, and the time until the first and after
the last tile. Rates are those that the chip's configuration gives the simulator. All is plain arithmetic on single numbers: few
tiles are looked at, and arrays of so few take longer.
"""

from __future__ import annotations

from typing import NamedTuple

from npuvm.compiler.blocks import BLOCK_BYTES, align_up
from npuvm.compiler.conv_spec import ConvSizes
from npuvm.compiler.cube_problem import TileProblem

__all__ = ["Area", "ConvCost", "Edge", "Pair"]

_VISIBLE = 0.2
"""Share of the work beside the slowest that it does not hide, as in a matrix product."""

_STEP_WORDS, _LOAD_WORDS, _TILE_WORDS = 24, 4, 50
"""Words of a step over the kernel's elements, of a load of the image, and of a tile beside those, at most."""

_MOST_STEP = 16
"""Blocks of the kernels' elements in one product."""


class Edge(NamedTuple):
    """One edge of a tile as m or n of the product: its size, blocks of the kernels' elements that L0 has room for, cycles.

    `compute` is that of the cube as a factor, `moves` that to L0. Of n also the most of m beside it, with one and with two
    accumulators, and the way out of each m; of filters also the least that their loads take.
    """

    size: int
    steps: int
    compute: float
    moves: float
    most: int = 0
    most_of_two: int = 0
    out: float = 0.0
    loads: float = 0.0


class Area(NamedTuple):
    """Pixels of a tile, `rows` x `cols`: `tiles` of them make the results of all images.

    `image` are the pixels of an image, which `loads` instructions bring to L1; with all channels it has `nbytes`, and its
    loads take `cycles`.
    """

    rows: int
    cols: int
    whole: bool
    tiles: int
    image: int
    loads: int
    nbytes: int
    cycles: float
    edge: Edge


class Pair(NamedTuple):
    """A tile: an area and filters, which make `cuts` tiles; a core has `waves` of those.

    `compute`, `moves`, `out` are cycles but for the start of each step; `single`: there is one accumulator.
    """

    area: Area
    filters: Edge
    cuts: int
    waves: int
    steps: int
    compute: float
    moves: float
    out: float
    single: bool


class ConvCost:
    """Estimates for convolutions of one sort on `cores` cores."""

    def __init__(self, problem: TileProblem, planes: bool, cores: int) -> None:
        chip, core = problem.chip, problem.chip.core
        cube, move, load = core.cube, core.move, core.load
        self._planes, self._cores = planes, cores
        self._item, self._acc_item, self._bias_item = problem.item, problem.acc_item, problem.bias_item
        self._out_item, self._via_ub = problem.out_item, problem.via_ub
        self._block_m, self._block_n, self._block_k = cube.m, cube.n, cube.k_bytes
        self._quantum = max(cube.k_bytes, BLOCK_BYTES) // self._item
        self._l0a, self._l0b, self._l0c = (chip.capacity_bytes(space) for space in ("l0a", "l0b", "l0c"))
        self._ub = chip.capacity_bytes("ub") if problem.via_ub else 0
        self._block_cycles = float(cube.cycles_per_block[problem.dtype])
        self._product_start = float(cube.startup_cycles + cube.latency_cycles)
        self._move_start = 2.0 * move.startup_cycles
        self._step_start = self._product_start + self._move_start
        self._move_a, self._move_b = float(move.l0a_bytes_per_cycle), float(move.l0b_bytes_per_cycle)
        self._load_start, self._load_row = float(load.l1_startup_cycles), float(load.l1_row_cycles)
        self._port, self._burst = float(load.l1_bytes_per_cycle), load.min_burst_bytes
        self._latency = chip.memory.l2.latency_cycles + chip.memory.hbm.latency_cycles
        self._chunk, self._in_flight = load.chunk_bytes, self._latency / load.outstanding
        self._l2 = float(chip.l2_bytes_per_cycle)
        to_memory = core.store.bytes_per_cycle if problem.via_ub else core.fixpipe.gm_bytes_per_cycle
        self._fix_start = float(core.fixpipe.startup_cycles)
        self._to_ub, self._to_memory = max(float(core.fixpipe.ub_bytes_per_cycle), 1.0), max(float(to_memory), 1.0)
        self._out_burst = core.store.min_burst_bytes
        self._decode = float(core.sequencer.decode_cycles_per_word)

    # What L0 has room for.

    def most_pixels(self, filters: Edge) -> int:
        """Pixels of a tile beside these filters that the accumulators have room for, once."""
        if self._planes:
            return self._l0c // (filters.size * self._acc_item)
        return filters.most

    def pixels_at_l0(self, sizes: ConvSizes) -> int:
        """Pixels of a tile for whose least step L0 has room."""
        least = min(max(sizes.depth, 1), self._quantum)
        return self._l0b // (2 * least * self._item) if self._planes else self._l0a // (2 * self._quantum * self._item)

    def area(self, sizes: ConvSizes, rows: int, cols: int, whole: bool, tiles: int, image: int, loads: int) -> Area:
        """Pixels of a tile, with what an image of so many pixels and its loads take."""
        channels, size = max(sizes.channels, 1), rows * cols
        if self._planes:
            nbytes, edge = channels * align_up(image * self._item), self._as_n(size, sizes)
        else:
            nbytes, edge = image * align_up(channels * self._item), self._as_m(size, sizes)
        cycles = self.image(sizes, image, loads, channels, 1)
        return Area(rows, cols, whole, tiles, image, loads, nbytes, cycles, edge)

    def filters(self, size: int, sizes: ConvSizes) -> Edge:
        """The edge of a tile along its filters."""
        edge = self._as_m(size, sizes) if self._planes else self._as_n(size, sizes)
        nbytes = max(sizes.depth, 1) * self._item
        return edge._replace(loads=size * max(nbytes / self._port, nbytes / self._chunk * self._in_flight))

    def _as_m(self, size: int, sizes: ConvSizes) -> Edge:
        quantum = self._quantum * self._item
        steps = min(self._l0a // (2 * quantum * size), _MOST_STEP)
        row = align_up(max(sizes.depth, 1) * self._item)
        return Edge(size, steps, -(-size // self._block_m) * self._block_cycles, size * row / self._move_a)

    def _as_n(self, size: int, sizes: ConvSizes) -> Edge:
        depth, row, sums = max(sizes.depth, 1), align_up(size * self._item), align_up(size * self._acc_item)
        room = self._l0b // (2 * row)
        steps = min(-(-depth // self._quantum) if room >= depth else room // self._quantum, _MOST_STEP)
        if self._bias_item and 2 * align_up(size * self._bias_item) > self._l0b:
            steps = 0
        # Rows that do not follow each other leave one by one, a short one as a whole burst.
        nbytes = size * self._out_item
        out = (nbytes if size == sizes.target else max(nbytes, self._out_burst)) / self._to_memory
        most = self._l0c // sums
        if self._via_ub:
            out = max(out, nbytes / self._to_ub)
            most = min(most, self._ub // (2 * align_up(nbytes)))
        blocks = -(-size // self._block_n) * -(-depth * self._item // self._block_k)
        return Edge(size, steps, blocks, row * depth / self._move_b, most, self._l0c // (2 * sums), out)

    # What tiles cost.

    def pair(self, area: Area, filters: Edge, cuts: int, needed: int, limit: float) -> Pair | None:
        """Both together; None when L0 has no room for them, or they take more than `limit` cycles whatever lies in L1.

        A kernel has `needed` blocks of elements.
        """
        m, n = (filters, area.edge) if self._planes else (area.edge, filters)
        size, steps = m.size, m.steps if m.steps < n.steps else n.steps
        if size > n.most or steps < 1:
            return None
        waves = -(-area.tiles * cuts // self._cores)
        compute, moves, out = m.compute * n.compute, m.moves + n.moves, size * n.out + self._fix_start
        # Sums of a tile begin in the accumulators that the tile before has left.
        single = size > n.most_of_two
        busy = compute + out if single else compute
        loads = area.cycles / cuts + (filters.loads / waves if cuts == 1 else filters.loads)
        total = busy + moves + out + loads + -(-needed // steps) * self._step_start
        if waves * (max(busy, moves, out, loads) * (1 - _VISIBLE) + total * _VISIBLE) >= limit:
            return None
        return Pair(area, filters, cuts, waves, steps, compute, moves, out, single)

    def cycles(self, sizes: ConvSizes, pair: Pair, steps: int, parts: int, image: float, kept: bool) -> float:
        """Estimated cycles of the whole convolution.

        A tile takes `steps` products and loads its kernels in `parts`, unless they are `kept` from tile to tile; `image`
        are the cycles of the loads of its image.
        """
        compute, moves = pair.compute + steps * self._product_start, pair.moves + steps * self._move_start
        loads = image + self._weights(sizes, pair, parts) / (pair.waves if kept else 1)
        words = (steps * _STEP_WORDS + pair.area.loads * _LOAD_WORDS + _TILE_WORDS) * self._decode
        out = pair.out
        busy = compute + out if pair.single else compute
        most = max(busy, moves, loads, out, words)
        tile = most * (1 - _VISIBLE) + (busy + moves + loads + out + words) * _VISIBLE
        return pair.waves * tile + loads / parts + out + self._latency

    def _weights(self, sizes: ConvSizes, pair: Pair, parts: int) -> float:
        """Cycles of the loads of kernels for one tile. Parts of them are requests of their own."""
        nbytes = max(sizes.depth, 1) * self._item
        rate = min(self._port, self._l2 / min(self._cores, pair.area.tiles * pair.cuts))
        flights: float = nbytes / self._chunk
        if parts > 1:
            flights = parts * -(-nbytes // (parts * self._chunk))
            nbytes = max(nbytes, parts * self._burst)
        return pair.filters.size * max(parts * self._load_row + nbytes / rate, flights * self._in_flight)

    def image(self, sizes: ConvSizes, image: int, loads: int, block: int, blocks: int) -> float:
        """Cycles of the loads of an image of so many pixels in blocks of channels.

        A load has a row for each pixel, or channel where those are planes. Pixels that follow each other are one row.
        """
        pixels = image / loads
        rows, row_bytes = (block, pixels * self._item) if self._planes else (pixels, block * self._item)
        if not self._planes and sizes.adjacent == block:
            rows, row_bytes = 1, pixels * row_bytes
        moved = rows * max(row_bytes, self._burst) / self._port
        return loads * blocks * max(moved, rows * self._load_row + self._load_start)
