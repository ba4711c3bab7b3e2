"""Which points cannot be of the front, by what is known of them before anything is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from npuvm.explore.evaluation import StoreError, dominated, exceeded
from npuvm.explore.space import Point, Space, Value
from npuvm.explore.study.executors import Front

__all__ = ["Foresee", "Screen"]

Foresee: TypeAlias = Callable[[Point], Mapping[str, float]]
"""Measures of a point, figures or limits of them, that are known before anything is run."""

_Reason: TypeAlias = Literal["over_budget", "beaten"]


class Screen:
    """Tells which points are out before they are run: over a budget, or beaten by a point of the front, by their limits.

    What is out stays out, since a front only gets better. `out` counts the points that were looked at and are out, by reason.
    """

    def __init__(self, space: Space, foresee: Foresee) -> None:
        self.out: Counter[_Reason] = Counter()
        self._space = space
        self._foresee = foresee
        self._signs = [objective.measure.sign for objective in space.objectives]
        self._limits: dict[tuple[Value, ...], list[float] | None] = {}
        self._gone: set[tuple[Value, ...]] = set()
        self._front: Front = ()

    def see(self, front: Front) -> None:
        """The front of the points that are done by now."""
        self._front = front

    def keeps(self, point: Point) -> bool:
        """Whether a point can be of the front as far as anybody knows, or cannot be looked at: evaluating it tells why."""
        key = self._space.key(point)
        if key in self._gone:
            return False
        if key not in self._limits:
            self._limits[key] = self._look(point)
        limits = self._limits[key]
        if limits is not None and dominated(limits, self._front, self._signs):
            self.out["beaten"] += 1
            self._gone.add(key)
        return key not in self._gone

    def _look(self, point: Point) -> list[float] | None:
        """Limits of the objectives; None where there are none or the point is out by them alone."""
        try:
            measures = self._foresee(point)
        except StoreError:
            raise
        except Exception:  # noqa: BLE001 - a study must not be lost with one point; its evaluation keeps the error
            return None
        if exceeded(self._space.budgets, measures) is not None:
            self.out["over_budget"] += 1
            self._gone.add(self._space.key(point))
            return None
        return [measures[objective.name] for objective in self._space.objectives]
