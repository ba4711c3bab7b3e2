"""What a relay costs: an estimate from the chip's rates, to be held against that of its parts in launches of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from npuvm.compiler.blocks import align_up
from npuvm.compiler.cube_core_cost import layout_of
from npuvm.compiler.cube_problem import TileProblem
from npuvm.compiler.relay_tile import Block, ProductShape, Runs
from npuvm.compiler.vector_cost import TileCost
from npuvm.hw.config import NpuConfig

__all__ = ["RelayCost"]

_VISIBLE = 0.12
"""Share of the second slowest unit's work that the slowest does not hide, as for products."""


_HIDDEN = 0.15
"""Share of what main memory or the cores take beside the slower of both that is not hidden behind it, as for segments."""


class _Rates(NamedTuple):
    """Of a product's units on a core: cycles before each instruction, bytes and blocks a cycle, and slots of its rings."""

    block: tuple[int, int, int]
    block_cycles: float
    multiply_start: int
    move_start: int
    move_a: float
    move_b: float
    load_start: int
    load: float
    burst: int
    fix_start: int
    fix: float
    slots: int
    item: int
    out_item: int


@dataclass(frozen=True)
class RelayCost:
    """Cycles of a relay's launch. `vector` is the estimate of one core's rows of a block of its vector segment."""

    chip: NpuConfig
    problems: tuple[TileProblem, ...]
    vector: TileCost
    cores: int

    def cycles(
        self,
        block: Block,
        rows: int,
        cols: int,
        shapes: Sequence[ProductShape],
        runs: Sequence[tuple[int, Runs]],
        groups: int,
        read: Sequence[int],
    ) -> tuple[float, tuple[float, ...]]:
        """The estimate, and that of each product alone in such blocks, by the same rule.

        `rows` are those of a matrix. `runs` gives for each grid in how many matrices, or batches of them, there are such runs,
        `read` the bytes of the right operand of each product. Products and the vector segment work at the same time where they
        have units of their own cores, on one core one after the other: it issues the instructions of both in order, and only
        the first product waits.
        """
        total, blocks = 0.0, 0
        alike = [0.0] * len(self.problems)
        own, least = block.rows // self.cores, self._memory(read)
        # Runs of both sorts are cut as one list over the groups, those of whole blocks first.
        turns = -(-sum(matrices * each.runs for matrices, each in runs) // groups)
        before, last = 0, 0.0
        for (matrices, each), height in zip(runs, (block.rows, rows % block.rows or block.rows), strict=True):
            if not each.runs:
                continue
            # What only one block of rows reads comes from main memory.
            products = [
                self._product(at, height, rows > block.rows, shape, tile)
                for at, (shape, tile) in enumerate(zip(shapes, block.tiles, strict=True))
            ]
            mine = min(own, height)
            most = min(turns - before, matrices * each.runs)
            first, later = self._vector(mine, min(own // block.parts, mine), cols)
            run = self._run(each.most, sum(products), first, later)
            last = max(last, min(turns, matrices * each.runs) * run)
            total, before = total + most * run, before + most
            blocks += most * each.most
            alike = [max(known, product) for known, product in zip(alike, products, strict=True)]
        together = tuple(max(blocks * each + each, bound) for each, bound in zip(alike, least, strict=True))
        total, bound = max(total, last, self._met(rows, block, shapes, runs)) + self._far, sum(least)
        return max(total, bound) + _HIDDEN * min(total, bound), together

    def _vector(self, rows: int, part: int, cols: int) -> tuple[float, float]:
        """Cycles of one core's rows of a block, by themselves and behind those of the block before."""
        sizes = [1] * (self.vector.rank - 2)
        first = self.vector.cycles((*sizes, rows, cols), part, cols)
        return first, self.vector.cycles((*sizes, 2 * rows, cols), part, cols) - first

    def _run(self, blocks: int, cube: float, first: float, later: float) -> float:
        """Cycles of a run of blocks, in which the products of a block wait for the vector cores two blocks before."""
        if self._alone:
            return blocks * (cube + later) + first - later
        around = (cube + first + 2 * self._near) / 2
        return cube + first + (blocks - 1) * max(cube, later, around)

    def _met(self, rows: int, block: Block, shapes: Sequence[ProductShape], runs: Sequence[tuple[int, Runs]]) -> float:
        """Cycles of L2 for the right operands, where it spreads no addresses: all groups read the same columns at one time."""
        memory = self.chip.memory
        if memory.address_hash:
            return 0.0
        line, slices = memory.l2.line_bytes, memory.l2.slices
        blocks, met = sum(matrices * each.runs * each.most for matrices, each in runs), 0.0
        for problem, shape, (n, k) in zip(self.problems, shapes, block.tiles, strict=True):
            row, part = (shape.k, k) if problem.b.flipped else (shape.n, n)
            pitch, part = row * problem.item, min(part, row) * problem.item
            apart = layout_of(problem, pitch, part).apart or slices
            reached = min(apart * -(-part // line) / slices, 1.0)
            met += shape.n * shape.k * problem.item / reached
        return blocks * met / float(self.chip.l2_bytes_per_cycle)

    def _memory(self, read: Sequence[int]) -> tuple[float, ...]:
        """Cycles in which so many bytes come from memory; none where L2 keeps them from the call before."""
        kept = sum(read) <= self.chip.capacity_bytes("l2")
        return tuple(0.0 if kept else nbytes / float(self.chip.hbm_bytes_per_cycle) for nbytes in read)

    @cached_property
    def _alone(self) -> bool:
        """Whether one core does the work of both."""
        return len(self.chip.group_core_types) == 1

    @cached_property
    def _near(self) -> int:
        """The way to L2 and back."""
        return self.chip.memory.l2.latency_cycles

    @cached_property
    def _far(self) -> int:
        """The way to main memory and back."""
        return self.chip.memory.l2.latency_cycles + self.chip.memory.hbm.latency_cycles

    @cached_property
    def _rates(self) -> tuple[_Rates, ...]:
        """By product."""
        core, found = self.chip.core, []
        cube, move, load, fix = core.cube, core.move, core.load, core.fixpipe
        for each in self.problems:
            found.append(
                _Rates(
                    (cube.m, cube.n, max(1, cube.k_bytes // each.item)),
                    float(cube.cycles_per_block[each.dtype]),
                    cube.startup_cycles + cube.latency_cycles,
                    2 * (move.startup_cycles + move.latency_cycles),
                    float(move.l0a_bytes_per_cycle),
                    float(move.l0b_bytes_per_cycle),
                    load.l1_startup_cycles,
                    float(load.l1_bytes_per_cycle),
                    load.min_burst_bytes,
                    fix.startup_cycles + fix.latency_cycles,
                    float(max(1, fix.ub_bytes_per_cycle if each.via_ub else fix.gm_bytes_per_cycle)),
                    min(each.depth("l1.a"), each.depth("l1.b")),
                    each.item,
                    each.out_item,
                )
            )
        return tuple(found)

    def _product(self, at: int, rows: int, again: bool, shape: ProductShape, tile: tuple[int, int]) -> float:
        """Cycles of one block of rows; `again`: its right operand was read before."""
        rates = self._rates[at]
        n, k = min(tile[0], shape.n), min(tile[1], shape.k)
        columns, steps = -(-shape.n // n), -(-shape.k // k)
        m0, n0, k0 = rates.block
        # Products of the last columns and steps are as much smaller as these are.
        width, depth = shape.n / columns, shape.k / steps
        left, right = rows * align_up(k * rates.item), width * depth * rates.item
        multiply = rates.multiply_start + -(-rows // m0) * (width / n0) * (depth / k0) * rates.block_cycles
        move = rates.move_start + left / rates.move_a + right / rates.move_b
        load = rates.load_start + right / rates.load
        sent = left if steps == 1 else rows * max(k * rates.item, rates.burst)
        of_left = rates.load_start + sent / rates.load
        load += of_left if steps > 1 else of_left / columns
        memory = self._near if again else self._far
        turn = (memory + load + move) / rates.slots
        out = (rates.fix_start + rows * width * rates.out_item / rates.fix) / steps
        slow, slowest = sorted((multiply, move, load, turn, out))[-2:]
        return columns * steps * (slowest + _VISIBLE * slow) + multiply + move + out
