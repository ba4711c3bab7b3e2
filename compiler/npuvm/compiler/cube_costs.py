"""Costs of a product's candidates over a grid of k: measured for one core where the chip has a library, by formulas else."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube_core_cost import REFERENCE, CoreCost, Layout
from npuvm.compiler.cube_levels import Table
from npuvm.compiler.cube_problem import TileProblem
from npuvm.compiler.cube_resident import resident_chip
from npuvm.compiler.schedule import Pins
from npuvm.compiler.tile_library import STEPS, Kernels

__all__ = ["GRID", "CandidateCosts", "CostLines", "reference_problem"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

GRID = (1, *(16 << power for power in range(12)))
"""Values of k at which costs are known; they are interpolated between two of them, and go on behind the last as before it."""

_LATER = (0.0, 1.0, 8.0, 64.0)
"""Later tiles for the first one, for which the best candidate beside each pair of edges is of use."""


_ALIKE = 0.15
"""Share of a first tile's cycles that are like those of a later one: cores read alike. Seen on `ascend_910b1`."""


class CostLines(NamedTuple):
    """Costs of some candidates as base + slope * k + step * (steps over k at L1).

    The rows of each are the fields of `CoreCycles`, with the cycles of a later tile taken out of those of the first.
    """

    base: Floats
    slope: Floats
    step: Floats


class CandidateCosts:
    """Costs of the candidates of one sort of product: rows of `table` with `depths` accumulators, ordered by m and n."""

    def __init__(
        self, problem: TileProblem, table: Table, depths: Ints, kernels: Kernels | None, measured: str | None = None
    ) -> None:
        order = np.lexsort((table[:, 1], table[:, 0]))
        self.table, self.depths = table[order], depths[order]
        self._core = CoreCost(problem)
        self._tiles = np.concatenate([self.table, self.depths[:, None]], axis=1).T.astype(np.float64)
        # Launches on all cores have seen how alike they read.
        self._alike = 0.0 if measured == "core" else _ALIKE
        reference = reference_problem(problem)
        self._over: Floats | None = None
        self._inner: Floats | None = None
        if kernels is not None and measured == "l0":
            reference = replace(reference, chip=resident_chip(reference.chip), via_ub=False)
            self._inner = self._corrections(CoreCost(reference), kernels, order)[1]
        elif kernels is not None:
            self._over = self._corrections(CoreCost(reference), kernels, order)

    def useful(self) -> tuple[Ints, ...]:
        """For each interval of the grid, the candidates that are best beside their edges for some number of tiles."""
        pairs = _by_pair(self.table)
        best = []
        for covers in (False, True):
            first, later = self._cycles(slice(None), slice(None), REFERENCE, covers)[:2]
            for tiles in _LATER:
                # One behind the last candidate is never the best.
                cost = np.append(first + tiles * later, np.full((len(first), 1), np.inf), axis=1)
                best.append(np.take_along_axis(pairs, cost[:, pairs].argmin(axis=2).T, axis=1))
        kept = np.concatenate(best)
        return tuple(np.unique(kept[:, at : at + 2]) for at in range(len(GRID) - 1))

    def lines(self, at: int, numbers: Ints, layouts: tuple[Layout, Layout], covers: bool) -> CostLines:
        """Costs of candidates between the numbers `at` and `at` + 1 of the grid."""
        ends = np.array(GRID[at : at + 2], dtype=np.float64)[:, None]
        whole, finer = np.moveaxis(
            self._cycles(slice(at, at + 2), numbers, layouts, covers, np.array([0.0, 1.0])[:, None, None]), 1, 0
        )
        step = (finer - whole).mean(axis=1)
        rows = whole - step[:, None] * np.ceil(ends / self._tiles[2, numbers])
        slope = (rows[:, 1] - rows[:, 0]) / (ends[1] - ends[0])
        lines = CostLines(rows[:, 0] - slope * ends[0], slope, step)
        for each in lines:
            each[0] = (1 - self._alike) * (each[0] - each[1])
        return lines

    def _cycles(
        self,
        grid: slice,
        numbers: slice | Ints,
        layouts: tuple[Layout, Layout],
        covers: bool,
        more: Floats | int = 0,
    ) -> Floats:
        """Costs by field, k of the grid, and candidate; as many more of these as there are in `more`, between the first two."""
        k = np.array(GRID[grid], dtype=np.float64)[:, None]
        inner = 1.0 if self._inner is None else self._inner[grid, numbers]
        costs = np.stack(self._core.cycles(self._tiles[:, numbers], k, layouts, covers, more, inner))
        if self._over is not None:
            over = self._over[:, grid, numbers]
            costs[:2] *= over if costs.ndim == over.ndim else over[:, None]
        return costs

    def _corrections(self, core: CoreCost, kernels: Kernels, order: Ints) -> Floats:
        """Measured cycles over those of the formulas, by field, k of the grid, and candidate."""
        k1 = self._tiles[2]
        measured = np.stack([kernels.first, kernels.later])[:, :, order]
        points = np.stack([core.cycles(self._tiles, k1 * times, REFERENCE, False)[:2] for times in STEPS], axis=1)
        over = measured / points
        low, high = STEPS
        k = np.array(GRID, dtype=np.float64)[:, None]
        share = np.clip((k / k1 - low) / (high - low), 0, 1)
        found: Floats = over[:, :1] + share * (over[:, 1:] - over[:, :1])
        return found


def reference_problem(problem: TileProblem) -> TileProblem:
    """The products that are measured of all that multiply alike: operands lie row by row, and results have their type."""
    a, b = (replace(side, flipped=False) for side in (problem.a, problem.b))
    return replace(problem, a=a, b=b, out_item=problem.item, bias_item=0, pins=Pins())


def _by_pair(table: Table) -> Ints:
    """Numbers of the rows with the same m and n, a line for each pair, filled up with the number behind the last."""
    starts = np.flatnonzero(np.append(True, (np.diff(table[:, :2], axis=0) != 0).any(axis=1)))
    ends = np.append(starts[1:], len(table))
    numbers = starts[:, None] + np.arange((ends - starts).max())
    return np.where(numbers < ends[:, None], numbers, len(table))
