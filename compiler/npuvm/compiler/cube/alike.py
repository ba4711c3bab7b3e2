"""Which products may share a chooser of tiles."""

from __future__ import annotations

from typing import Any

from npuvm.compiler.cube.levels import l0c_depths
from npuvm.compiler.cube.measured import are_costs_pinned
from npuvm.compiler.cube.problem import RINGS, TileProblem

__all__ = ["AlikeProblem"]


class AlikeProblem:
    """Compares problems by what their candidates and costs depend on."""

    def __init__(self, problem: TileProblem) -> None:
        self.problem = problem
        depths = tuple(problem.depth(ring) for ring in RINGS) + l0c_depths(problem)
        sides = problem.a.flipped, problem.b.flipped
        pins = problem.pins
        pinned = are_costs_pinned(pins), pins.order, pins.l0c_parts, *sorted(pins.l1_k.items())
        own = (problem.dtype, problem.out_item, problem.bias_item, problem.via_ub)
        self._key: tuple[Any, ...] = (own, sides, depths, pinned, problem.isa.hash)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AlikeProblem) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)
