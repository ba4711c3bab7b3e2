"""What main memory takes for a product where addresses are spread over it: for all that is fetched, and where cores are idle.

A channel opens a row of its memory for what is read of it at about one time. Cores are at the same k, so that is as much of
the rows of the right operand as all of them are at, and of rows of the left one as much of k as a step has. While memory is
the limit all cores wait for it alike; in a last round that only some have a tile for, these may not ask for all that it gives.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.meets import TINY, Edges
from npuvm.compiler.cube.problem import ProductSizes, TileProblem
from npuvm.compiler.tiles.memory_cost import memory_cost

__all__ = ["Fetched", "MainMemory"]

Floats = npt.NDArray[np.float64]


class Fetched(NamedTuple):
    """Cycles of main memory by candidate, for products that differ in m.

    `fixed` for the right operand and until the last tile is done, `per_row` for a row of the left one. `cols` and `rows` for
    what all cores fetch in a round: a column of tiles each, for one row of them, and an element of a row each. A core takes
    `col_time` for a tile with a column of its own, `row_time` for one with rows of its own.
    """

    fixed: Floats
    per_row: Floats
    cols: Floats
    rows: Floats
    col_time: Floats
    row_time: Floats
    heights: Floats

    def cycles(self, m: int, rows: Floats, idle: Floats) -> Floats:
        """Cycles of the first candidates, with so many `rows` of tiles, and `idle` of a round in which cores have no tile."""
        end = len(rows)
        by_col = self.cols[:end] / rows
        by_row = np.minimum(self.heights[:end], m) * self.rows[:end]
        lost = by_col * idle
        by_col -= self.col_time[:end]
        lost -= np.maximum(by_col, 0.0, out=by_col)
        other = by_row * idle
        by_row -= self.row_time[:end]
        other -= np.maximum(by_row, 0.0, out=by_row)
        np.maximum(lost, other, out=lost)
        np.maximum(lost, 0.0, out=lost)
        cycles: Floats = self.per_row[:end] * float(m)
        cycles += self.fixed[:end]
        cycles += lost
        return cycles

    def most(self, m: int, at: int) -> float:
        """No less than the cycles of a candidate: what is lost in a last round is less than a tile takes a core."""
        lost = max(float(self.col_time[at]), float(self.row_time[at]))
        return float(self.per_row[at]) * m + float(self.fixed[at]) + lost


class MainMemory:
    """Main memory of a chip that spreads addresses, for products of one sort on `cores` cores.

    `per_byte` is what a byte takes at least; `rate` and `opened` are what an element takes by itself, and for a row that is
    opened for its line alone, of which there are `page` in a row. `numbers` are these three, and whether operands are flipped.
    `in_turn` is what a line past L2 takes for each of the cores that ask for it at one time.
    """

    def __init__(self, problem: TileProblem, cores: int) -> None:
        chip = problem.chip
        hbm, line = chip.memory.hbm, chip.memory.l2.line_bytes
        self._cores, self.flipped = cores, (problem.a.flipped, problem.b.flipped)
        rate = 1 / float(chip.hbm_bytes_per_cycle)
        opened = memory_cost(chip).missed / (line * hbm.channels)
        self.page = max(hbm.row_bytes / line, 1.0)
        self.per_byte = rate + opened / self.page
        self.rate, self.opened = rate * problem.item, opened * problem.item
        past = chip.memory.l2.unaligned_reads == "uncached"
        self.in_turn = line * hbm.channels * rate + hbm.same_line_cycles if past else 0.0
        self.numbers = np.array((self.rate, self.opened, self.page, *self.flipped))

    def fetched(
        self, sizes: ProductSizes, edges: Edges, later: Floats, new: tuple[Floats, Floats], behind: Floats
    ) -> Fetched:
        """Cycles for products of any m, but where rows of the left operand lie along m.

        `later` is what each further tile takes a core, `new` what it takes longer with new rows and with new columns, and
        `behind` what is left when all of a tile is loaded.
        """
        depth, batch, cores, width = float(sizes.k), float(sizes.batch), float(self._cores), float(sizes.n)
        part = np.minimum(edges.k / max(depth, 1.0), 1.0)
        n = np.minimum(edges.n, width)
        count = np.ceil(edges.per_n * (width - TINY))
        a_near = np.minimum(edges.m * cores / sizes.m, 1.0) if self.flipped[0] else part
        b_near = part if self.flipped[1] else np.minimum(np.minimum(count, cores) * n / width, 1.0)
        a, b = (self.rate + self.opened / np.maximum(near * self.page, 1.0) for near in (a_near, b_near))
        return Fetched(
            b * (width * depth * batch) + behind,
            a * (depth * batch),
            n * b * (depth * cores),
            a * (depth * cores) / count,
            later + new[1],
            later + new[0],
            edges.m,
        )
