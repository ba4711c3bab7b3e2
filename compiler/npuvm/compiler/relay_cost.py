"""What a relay costs: an estimate from the chip's rates, to be held against that of its parts in launches of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npuvm.compiler.blocks import align_up
from npuvm.compiler.cube_problem import TileProblem
from npuvm.compiler.relay_tile import Block, ProductShape, Runs
from npuvm.compiler.vector_cost import TileCost
from npuvm.hw.config import NpuConfig

__all__ = ["RelayCost"]


@dataclass(frozen=True, slots=True)
class RelayCost:
    """Cycles of a relay's launch. `vector` is the estimate of one core's rows of a block of its vector segment."""

    chip: NpuConfig
    problems: tuple[TileProblem, ...]
    vector: TileCost
    cores: int

    def cycles(
        self,
        block: Block,
        cols: int,
        shapes: Sequence[ProductShape],
        runs: Sequence[tuple[int, Runs]],
        groups: int,
        read: Sequence[int],
    ) -> tuple[float, tuple[float, ...]]:
        """The estimate, and that of each product alone in such blocks, by the same rule.

        `runs` gives for each grid in how many matrices, or batches of them, there are such runs, `read` the bytes of the right
        operand of each product. Products and the vector segment work at the same time where they have units of their own
        cores, on one core one after the other: it issues the instructions of both in order, and only the first product waits.
        """
        products = [
            self._product(problem, block.rows, shape, tile)
            for problem, shape, tile in zip(self.problems, shapes, block.tiles, strict=True)
        ]
        cube = sum(products)
        own = block.rows // self.cores
        vector = self.vector.cycles((*(1 for _ in range(self.rank - 2)), own, cols), own // block.parts, cols)
        blocks = sum(-(-matrices * each.runs // groups) * each.most for matrices, each in runs if each.runs)
        alone = len(self.chip.group_core_types) == 1
        total = blocks * (cube + vector) + cube if alone else blocks * max(cube, vector) + cube + vector
        least = self._memory(read)
        alike = tuple(max(blocks * each + each, bound) for each, bound in zip(products, least, strict=True))
        return max(total + self._latency, sum(least)), alike

    def _memory(self, read: Sequence[int]) -> tuple[float, ...]:
        """Cycles in which so many bytes come from memory; none where L2 keeps them from the call before."""
        kept = sum(read) <= self.chip.capacity_bytes("l2")
        return tuple(0.0 if kept else nbytes / float(self.chip.hbm_bytes_per_cycle) for nbytes in read)

    @property
    def rank(self) -> int:
        """Dims of the vector segment's space."""
        return self.vector.rank

    @property
    def _latency(self) -> int:
        """Ways through memory before the first block has gone through all parts."""
        memory = self.chip.memory
        return 2 * (len(self.problems) + 1) * (memory.l2.latency_cycles + memory.hbm.latency_cycles)

    def _product(self, problem: TileProblem, rows: int, shape: ProductShape, tile: tuple[int, int]) -> float:
        """Cycles of one block of rows: of the unit that has most to do."""
        core = self.chip.core
        n, k = tile
        columns, steps = -(-shape.n // n), -(-shape.k // k)
        depth = max(1, core.cube.k_bytes // problem.item)
        blocks = -(-rows // core.cube.m) * -(-n // core.cube.n) * -(-k // depth)
        tiles = columns * steps
        multiply = tiles * (core.cube.startup_cycles + blocks * core.cube.cycles_per_block[problem.dtype])
        loads = tiles if steps > 1 else 1
        left = loads * (core.load.l1_startup_cycles + rows * align_up(k * problem.item) / core.load.l1_bytes_per_cycle)
        right = tiles * (core.load.l1_startup_cycles + n * k * problem.item / core.load.l1_bytes_per_cycle)
        rate = core.fixpipe.ub_bytes_per_cycle if problem.via_ub else core.fixpipe.gm_bytes_per_cycle
        out = columns * (core.fixpipe.startup_cycles + rows * n * problem.out_item / max(1, rate))
        return max(multiply, left + right, out)
