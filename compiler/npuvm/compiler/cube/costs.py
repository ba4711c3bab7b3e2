"""Costs of a product's candidates over a grid of k: measured for one core where the chip has a library, by formulas else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.core_cost import REFERENCE, CoreCost, CoreCycles, Layout
from npuvm.compiler.cube.levels import Table
from npuvm.compiler.cube.problem import TileProblem
from npuvm.compiler.cube.resident import resident_chip
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.tiles.library import STEPS, Kernels

__all__ = ["GRID", "CandidateCosts", "CostLines", "reference_cost"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

GRID = (0, *(k << power for power in range(12) for k in (16, 24)))
"""Values of k that intervals of costs end at, each with its upper end; the last one goes on.

Costs jump where another step at L1 is needed. Those of the first few steps are at such values, where k at L1 is among them;
between two of them costs are lines.
"""

_GRID = np.array(GRID, dtype=np.float64)

_LATER = (0.0, 8.0)
"""Later tiles for the first one, for which candidates beside the same pair of edges are held against each other."""

_NEAR = 0.02
"""A candidate is of no use where others beside its edges are never slower by more than this share."""

_TIE = 1e-6
"""What decides between candidates that are alike otherwise."""

_EXTREMES = (
    (REFERENCE[0], False),
    (Layout(True, False, True), False),
    (Layout(True, False, True), True),
    (REFERENCE[1], False),
)
"""Layouts of both operands, and whether tiles cover them, for which candidates are of use: rows at lines, off blocks, or all in
one slice of L2, where long parts of them are served by more."""

_NEW = slice(CoreCycles._fields.index("rows"), None)
"""Costs that are shares of what a later tile takes."""

_SIZES = [0, 1, 2, 5, 6]
"""Rows of tiles that tell them apart: m, n, k at L1 and at L0, accumulators."""

_EITHER = np.array([[[False]], [[True]]])
"""Whether tiles cover operands, one case after the other."""


class CostLines(NamedTuple):
    """Costs of some candidates as lines over k: `coefficients` are their bases and slopes, by field and candidate.

    Fields are those of `CoreCycles`, with the cycles of a later tile taken out of those of the first, and behind them those of
    `CoreLoads`.
    """

    coefficients: Floats

    def at(self, k: int) -> Floats:
        """Costs for k, by field and candidate."""
        bases, slopes = self.coefficients
        costs: Floats = slopes * float(k)
        costs += bases
        return costs

    def times(self, fields: Sequence[int], factors: Floats) -> CostLines:
        """Some fields of the costs, multiplied."""
        return CostLines(self.coefficients[:, fields] * factors[:, None])


class CandidateCosts:
    """Costs of the candidates of one sort of product: rows of `table` with `depths` accumulators, ordered by m and n.

    The first ones are those of `kernels`, where there are any.
    """

    def __init__(
        self, problem: TileProblem, table: Table, depths: Ints, kernels: Kernels | None, measured: str | None = None
    ) -> None:
        order = np.lexsort((table[:, 1], table[:, 0]))
        self.table, self.depths = table[order], depths[order]
        self._core = CoreCost(problem)
        self._per_line = problem.item / problem.chip.memory.l2.line_bytes
        self._tiles = np.concatenate([self.table, self.depths[:, None]], axis=1).T.astype(np.float64)
        self._over: Floats | None = None
        self._inner: Floats | None = None
        if kernels is not None:
            over = self._corrections(reference_cost(problem, measured), kernels)
            self._over, self._inner = (None, over[:, 1]) if measured == "l0" else (over, None)

    def useful(self) -> tuple[Ints, ...]:
        """For each interval of the grid, candidates of which one is near the best beside its edges, however operands lie.

        In cycles of cores for any number of tiles and whatever is new of them, in what L2 serves, or in what is read past it.
        """
        pairs = _by_pair(self.table)
        kept = np.zeros((len(GRID) - 1, *pairs.shape), dtype=bool)
        for layout, covers in _EXTREMES:
            first, later, served, far, *new = self._cycles(slice(None), _GRID[1:, None], (layout, layout), covers)
            lines = np.ceil(np.minimum(self._tiles[2], _GRID[1:, None]) * self._per_line)
            meets = layout == REFERENCE[1]
            # Of those that L2 serves alike the one that takes a core the least is of use.
            served = served / np.sqrt(lines) + _TIE * later
            bounds = [*([served] if meets else []), *([far] if layout.off else [])]
            many = (first + _LATER[-1] * (later + more) for more in new)
            for cost in (*(first + tiles * later for tiles in _LATER), *many, *bounds):
                # One behind the last candidate is never the best.
                beside = np.append(cost, np.full((len(cost), 1), np.inf), axis=1)[:, pairs]
                known = np.where(kept, beside, np.inf).min(axis=2)
                best = beside.argmin(axis=2)[..., None]
                wanted = known[..., None] > (1 + _NEAR) * np.take_along_axis(beside, best, axis=2)
                np.put_along_axis(kept, best, np.take_along_axis(kept, best, axis=2) | wanted, axis=2)
        return tuple(np.sort(pairs[each]) for each in kept)

    def lines(self, at: Ints, numbers: Ints, layouts: tuple[Layout, Layout]) -> tuple[CostLines, CostLines]:
        """Costs of candidates, each between the numbers `at` and `at` + 1 of the grid.

        The second ones are for tiles that are as wide as the operands whose rows follow their edge, and as the result.
        """
        k = np.stack([_GRID[at] + 1, _GRID[at + 1]])
        costs = self._cycles(numbers, k, layouts, _EITHER)
        loads = self._core.loads(self._tiles[:, numbers], k, layouts, _EITHER)
        costs = np.concatenate([costs, np.stack(np.broadcast_arrays(*loads, costs[0])[:-1])])
        costs[0] -= costs[1]
        slope = (costs[:, :, 1] - costs[:, :, 0]) / (k[1] - k[0])
        lines = np.stack([costs[:, :, 1] - slope * k[1], slope])
        return CostLines(lines[:, :, 0]), CostLines(lines[:, :, 1])

    def _cycles(self, numbers: Ints | slice, k: Floats, layouts: tuple[Layout, Layout], covers: Flags | bool) -> Floats:
        """Costs by field, whether tiles cover operands if both are asked for, k, and candidate."""
        tiles = self._tiles[:, numbers]
        steps = k / tiles[2]
        inner = 1.0 if self._inner is None else _at_steps(self._inner[..., numbers], steps)
        costs = np.stack(np.broadcast_arrays(*self._core.cycles(tiles, k, layouts, covers, inner)))
        if self._over is not None:
            over = _at_steps(self._over[:, :, None, numbers], steps)
            over = over if costs.ndim == over.ndim else over[:, None]
            costs[:2] *= over
            costs[_NEW] *= over[1]
        return costs

    def _corrections(self, core: CoreCost, kernels: Kernels) -> Floats:
        """Measured cycles over those of the formulas at the first of `STEPS`, and how much larger they are at each further one.

        By field and candidate. Those of a tile that was not measured are those of the one that is most like it.
        """
        tiles = np.concatenate([kernels.table, kernels.tiles[:, 4:]], axis=1).T.astype(np.float64)
        measured = np.stack([kernels.first, kernels.later], axis=1)
        points = np.stack([core.cycles(tiles, tiles[2] * times, REFERENCE, False)[:2] for times in STEPS])
        over: Floats = np.diff(measured / points, axis=0, prepend=0)
        return over[..., _most_like(self._tiles, tiles)]


def _at_steps(corrections: Floats, steps: Floats) -> Floats:
    """Corrections for a number of steps over k, between those measured."""
    found: Floats = corrections[0]
    for more, low, high in zip(corrections[1:], STEPS, STEPS[1:], strict=False):
        found = found + more * np.clip((steps - low) / (high - low), 0, 1)
    return found


def reference_cost(problem: TileProblem, measured: str | None) -> CoreCost:
    """Formulas for what is measured of all products that multiply alike, up to the level `measured`.

    Operands lie row by row, and results have their type.
    """
    a, b = (replace(side, flipped=False) for side in (problem.a, problem.b))
    reference = replace(problem, a=a, b=b, out_item=problem.item, bias_item=0, pins=Pins())
    if measured == "l0":
        reference = replace(reference, chip=resident_chip(problem.chip), via_ub=False)
    return CoreCost(reference)


def _by_pair(table: Table) -> Ints:
    """Numbers of the rows with the same m and n, a line for each pair, filled up with the number behind the last."""
    starts = np.flatnonzero(np.append(True, (np.diff(table[:, :2], axis=0) != 0).any(axis=1)))
    ends = np.append(starts[1:], len(table))
    numbers = starts[:, None] + np.arange((ends - starts).max())
    return np.where(numbers < ends[:, None], numbers, len(table))


def _most_like(tiles: Floats, others: Floats) -> Ints:
    """For each tile, a column, the number of the one of the others whose edges and k are off by the smallest factors."""
    apart = np.zeros((tiles.shape[1], others.shape[1]))
    for own, other in zip(np.log2(tiles[_SIZES]), np.log2(others[_SIZES]), strict=True):
        apart += (own[:, None] - other) ** 2
    return np.asarray(apart.argmin(axis=1))
