"""Whether a point can still be on the front, by figures or by limits of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from npuvm.explore.evaluation.record import Evaluation
from npuvm.explore.space import MEASURES, Space

__all__ = ["dominated", "exceeded", "objective_values"]


def objective_values(space: Space, evaluation: Evaluation) -> list[float] | None:
    """A figure, or a limit of it, for each objective in the space's order; None for a point that failed."""
    if evaluation.state == "failed":
        return None
    return [evaluation.measures[objective.name] for objective in space.objectives]


def dominated(values: Sequence[float], front: Sequence[Sequence[float]], signs: Sequence[int]) -> bool:
    """Whether one of the front is at least as good everywhere and better somewhere.

    A sign is 1 where less is better and -1 where more is. Limits that are dominated stand for figures that are, too.
    """
    costs = [sign * value for sign, value in zip(signs, values, strict=True)]
    for each in front:
        others = [sign * value for sign, value in zip(signs, each, strict=True)]
        if others != costs and all(other <= cost for other, cost in zip(others, costs, strict=True)):
            return True
    return False


def exceeded(budgets: Mapping[str, float], measures: Mapping[str, float]) -> str | None:
    """The first budget that a figure, or a limit of one, breaks; budgets of what is not known yet are kept."""
    for name, most in budgets.items():
        sign = MEASURES[name].sign
        if name in measures and sign * measures[name] > sign * most:
            return name
    return None
