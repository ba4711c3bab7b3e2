"""What tiles of a matrix product cost one core: formulas with the rates that the chip's configuration gives the simulator."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.problem import TileProblem
from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.tiles.memory_cost import memory_cost

__all__ = ["REFERENCE", "CoreCost", "CoreCycles", "Layout"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_STEP_WORDS = 18
"""Words that one step over k at L0 has at most: two moves, two products, a loop, four synchronisations."""

_LOAD_WORDS = 20
"""Words of one step over k at L1 beside those: two loads, two synchronisations, a loop."""

_TILE_WORDS = 40
"""Words of one tile beside those: the bias, the first and last synchronisation, the result."""

_VISIBLE = 0.12
"""Share of the second slowest unit's work that the slowest does not hide, seen on one core of `ascend_910b1`."""


class Layout(NamedTuple):
    """How rows of an operand lie in memory, as far as their loads depend on it.

    `tight`: one row ends where the next begins. `lined`: rows begin at lines of L2. `off`: they begin off blocks of 32 bytes.
    """

    tight: bool
    lined: bool
    off: bool


REFERENCE = Layout(True, True, False), Layout(False, True, False)
"""The layouts of both operands for which tiles are measured."""


class CoreCycles(NamedTuple):
    """Costs of tiles: cycles until the first one is done, and that each later one takes; bytes that a tile keeps L2 busy for,
    and lines that it reads past L2. And the cycles more that a later one takes whose rows of the left operand, or columns of
    the right one, come from main memory."""

    first: Floats
    later: Floats
    served: Floats
    far: Floats
    rows: Floats
    cols: Floats


class CoreLoads(NamedTuple):
    """What loads of a tile over all of k take, by operand: cycles when it comes from main memory, and of a later tile, to
    which it may have stayed; and the bytes that a later tile keeps L2 busy for. In cycles too: `behind` a tile that is loaded
    until it is done, with its latency; `paced` what loads wait until moves before them have left their queue; `held` how long
    the slots of a tile are, beside its loads."""

    a_new: Floats
    b_new: Floats
    a_again: Floats
    b_again: Floats
    a_served: Floats
    b_served: Floats
    behind: Floats
    paced: Floats
    held: Floats


class _Load(NamedTuple):
    """Cycles of a step's loads from main memory and from where they come from later; the rest as for `CoreCycles`."""

    first: Floats
    later: Floats
    served: Floats
    far: Floats


class CoreCost:
    """Costs for products of one sort: types, transposes and the way out are those of `problem`."""

    def __init__(self, problem: TileProblem) -> None:
        chip = problem.chip
        core, memory = chip.core, chip.memory
        self._problem = problem
        cube, move, load = core.cube, core.move, core.load
        self._blocks = cube.m, cube.n, cube.k_bytes // problem.item
        self._block_cycles = float(cube.cycles_per_block[problem.dtype])
        self._product_start = cube.startup_cycles + cube.latency_cycles
        self._move_rates = float(move.l0a_bytes_per_cycle), float(move.l0b_bytes_per_cycle)
        self._move_start = move.startup_cycles + move.latency_cycles
        self._load_start, self._load_row = load.l1_startup_cycles, float(load.l1_row_cycles)
        self._port, self._burst, self._chunk = float(load.l1_bytes_per_cycle), load.min_burst_bytes, load.chunk_bytes
        self._outstanding = load.outstanding
        self._near, self._far = memory.l2.latency_cycles, memory.l2.latency_cycles + memory.hbm.latency_cycles
        self._access = memory.l2.access_bytes
        self._line = memory.l2.line_bytes
        self._uncached = memory.l2.unaligned_reads == "uncached"
        # Lines past L2 of rows that many cores read at a time are served to one after the other.
        self._in_turn = 1 + memory.hbm.same_line_cycles / memory.hbm.channels / memory_cost(chip).per_line
        self._slots = min(problem.depth("l1.a"), problem.depth("l1.b"))
        self._moves_in_turn = min(problem.depth("l0a"), problem.depth("l0b")) == 1
        self._stores_in_turn = problem.depth("ub.c") == 1
        self._keeps_b = problem.pins.order in ("column", "swizzle")
        self._decode, self._queue = core.sequencer.decode_cycles_per_word, core.sequencer.queue_depth
        fixpipe, store = core.fixpipe, core.store
        self._fix_start = fixpipe.startup_cycles + fixpipe.latency_cycles
        self._fix_rate = float(fixpipe.ub_bytes_per_cycle if problem.via_ub else fixpipe.gm_bytes_per_cycle)
        self._out_burst = store.min_burst_bytes
        self._store = store.startup_cycles, float(store.row_cycles), float(store.bytes_per_cycle)

    def cycles(
        self,
        tiles: Floats,
        k: Floats,
        layouts: tuple[Layout, Layout],
        covers: Flags | bool,
        inner: Floats | float = 1.0,
    ) -> CoreCycles:
        """Costs of tiles for products over `k`; arrays are broadcast.

        `tiles` has a row for each of m, n, k at L1, m, n, k at L0 and accumulators. `covers`: a tile is as wide as the operands
        whose rows follow its edge, and as the result. `inner` is what the work at L0 takes over what formulas say.
        """
        m, n, k1, m0, n0, k0, depths = tiles
        steps1 = np.ceil(k / k1)
        taken = k / steps1
        steps0 = steps1 * np.ceil(taken / k0)
        parts_m = m / m0
        moves = steps0 * parts_m
        products = moves * (n / n0)
        compute = self._multiplied(m, n, k) + products * self._product_start
        move = self._moved(m, n, k, parts_m) + moves * (2 * self._move_start)
        out = self._out(m, n, covers)
        decode = (products * _STEP_WORDS + steps1 * _LOAD_WORDS + _TILE_WORDS) * self._decode
        compute, move, decode = compute * inner, move * inner, decode * inner
        # With one slot at L0 moves and products take turns; a slot at L1 is held until the last product of its step begins.
        slowest_inside = compute + move if self._moves_in_turn else np.maximum(compute, move)
        held = move + compute * (1 - steps1 / moves) if self._moves_in_turn else move
        busy = (slowest_inside if self._moves_in_turn else compute) + np.where(depths > 1, 0.0, out)
        of_a, of_b = self._again(steps1, covers)
        a, b = self._loads(m, n, taken, steps1 <= 1, layouts, covers)
        # A slot of a ring is free again when its step is moved, so a step takes its part of that time at least.
        moved = held / steps1
        ahead = np.minimum(self._queue / np.maximum(2 * moves / steps1, 1), 1)
        others = (busy, out, decode) if self._moves_in_turn else (busy, move, out, decode)

        def tile(step: Floats, latency: int) -> Floats:
            load = steps1 * np.maximum(step, (latency + step + moved) / self._slots)
            slowest, second = _two_largest(load, *others)
            return np.asarray(slowest + _VISIBLE * second + np.minimum(load, held) * (1 - ahead))

        later = tile(a.later * of_a + b.later * of_b, self._near)
        rows, cols = tile(a.first * of_a + b.later * of_b, self._far), tile(a.later * of_a + b.first * of_b, self._far)
        step = a.first + b.first
        turn = np.maximum(step, (self._far + step + moved) / self._slots)
        # Behind the last load the work of its step is left.
        loaded = (steps1 - 1) * turn + slowest_inside / steps1
        body = np.maximum(slowest_inside, np.maximum(loaded, decode))
        first = self._far + step + body + (compute + move) / steps0 + out
        return CoreCycles(
            first,
            later,
            steps1 * (a.served * of_a + b.served * of_b),
            steps1 * (a.far * self._in_turn * of_a + b.far * of_b),
            np.maximum(rows - later, 0.0),
            np.maximum(cols - later, 0.0),
        )

    def loads(self, tiles: Floats, k: Floats, layouts: tuple[Layout, Layout], covers: Flags | bool) -> CoreLoads:
        """Loads of tiles as `cycles` takes them."""
        m, n, k1, m0, n0, k0, _ = tiles
        steps1 = np.ceil(k / k1)
        taken = k / steps1
        of_a, of_b = self._again(steps1, covers)
        a, b = self._loads(m, n, taken, steps1 <= 1, layouts, covers)
        steps0 = np.ceil(taken / k0)
        moves = steps0 * (m / m0)
        compute = self._multiplied(m, n, taken) + moves * (n / n0) * self._product_start
        move = self._moved(m, n, taken, m / m0) + moves * (2 * self._move_start)
        slowest = compute + move if self._moves_in_turn else np.maximum(compute, move)
        behind = slowest + np.minimum(compute, move) / steps0 + self._far + self._out(m, n, covers)
        paced = slowest * (1 - np.minimum(self._queue / np.maximum(2 * moves, 1), 1))
        return CoreLoads(
            steps1 * a.first,
            steps1 * b.first,
            steps1 * (a.later * of_a),
            steps1 * (b.later * of_b),
            steps1 * (a.served * of_a),
            steps1 * (b.served * of_b),
            behind,
            steps1 * paced,
            steps1 * (self._far + slowest),
        )

    def _again(self, steps1: Floats, covers: Flags | bool) -> tuple[Floats | float, Floats | float]:
        """Whether a later tile loads either operand again.

        Where all of k is in L1, one operand stays there for a row of tiles, and both where that is a single tile.
        """
        stays = np.where(steps1 <= 1, 0.0, 1.0)
        return (1.0, stays) if self._keeps_b else (stays, np.where(covers, stays, 1.0))

    def _moved(self, m: Floats, n: Floats, k: Floats, parts_m: Floats) -> Floats:
        """Cycles of the moves to L0 for their bytes."""
        item = self._problem.item
        return np.asarray(k * (m * (item / self._move_rates[0]) + n * parts_m * (item / self._move_rates[1])))

    def _multiplied(self, m: Floats, n: Floats, k: Floats) -> Floats:
        block_m, block_n, block_k = self._blocks
        return np.asarray(np.ceil(m / block_m) * np.ceil(n / block_n) * (k / block_k) * self._block_cycles)

    def _loads(
        self, m: Floats, n: Floats, k: Floats, whole: Flags, layouts: tuple[Layout, Layout], covers: Flags | bool
    ) -> tuple[_Load, _Load]:
        problem = self._problem
        along_a, along_b = not problem.a.flipped, problem.b.flipped
        return (
            self._load(m, k, whole if along_a else covers, along_a, layouts[0]),
            self._load(n, k, whole if along_b else covers, along_b, layouts[1]),
        )

    def _load(self, edge: Floats, k: Floats, whole: Flags | bool, along: bool, layout: Layout) -> _Load:
        """Loads of one operand for a step over k at L1; its rows lie along k or follow the edge, `whole` of them or parts."""
        item = self._problem.item
        rows, row, dense = np.broadcast_arrays(*((edge, k * item) if along else (k, edge * item)), layout.tight & whole)
        nbytes = rows * row
        pieces = np.where(dense, nbytes / self._chunk, rows * np.ceil(row / self._chunk))
        sent = np.where(dense, nbytes, rows * np.maximum(row, self._burst)) / self._port
        issue = sent + np.where(dense, 1.0, rows) * self._load_row
        first, later = (
            np.maximum(issue, pieces * (latency / self._outstanding)) + self._load_start
            for latency in (self._far, self._near)
        )
        # A row is cut where an access of L2 ends: lined rows at multiples of their own length, others anywhere.
        aligned = np.minimum(_lowest_bit(row), self._access) if layout.lined else min(BLOCK_BYTES, self._access)
        served = np.where(dense, nbytes, rows * (1 + (row - aligned) / self._access) * self._access)
        if not (layout.off and self._uncached):
            return _Load(first, later, served, nbytes * 0.0)
        fetched = rows * (1 + (row - 1) / self._line)
        later, served = np.where(dense, later, first), np.where(dense, served, 0.0)
        return _Load(first, later, served, np.where(dense, 0.0, fetched))

    def _out(self, m: Floats, n: Floats, covers: Flags | bool) -> Floats:
        """Cycles of a tile's way out; rows of a tile that does not cover them leave one by one, short ones as a whole burst."""
        nbytes = m * n * self._problem.out_item
        sent = np.where(covers, nbytes, m * np.maximum(n * self._problem.out_item, self._out_burst))
        if not self._problem.via_ub:
            return np.asarray(self._fix_start + sent / self._fix_rate)
        startup, per_row, rate = self._store
        drained, stored = self._fix_start + nbytes / self._fix_rate, startup + m * per_row + sent / rate
        return np.asarray(drained + stored) if self._stores_in_turn else np.maximum(drained, stored)


def _two_largest(*values: Floats) -> tuple[Floats, Floats]:
    """The largest of some numbers, and the one behind it."""
    largest = values[0]
    second = np.zeros_like(largest)
    for each in values[1:]:
        second = np.maximum(second, np.minimum(largest, each))
        largest = np.maximum(largest, each)
    return largest, second


def _lowest_bit(values: Floats) -> Floats:
    """The largest power of two that divides whole numbers."""
    whole = np.maximum(values, 1).astype(np.int64)
    return (whole & -whole).astype(np.float64)
