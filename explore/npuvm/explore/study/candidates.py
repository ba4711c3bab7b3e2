"""Which combinations of a space can be evaluated next: points of the space that nobody has asked for yet."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from math import gcd

from npuvm.explore.space import Point, Space, Value
from npuvm.explore.study.screen import Screen

__all__ = ["MOST_REFUSED", "Candidates", "combination"]

MOST_REFUSED = 20_000
"""Combinations in a row that may be refused before a search gives up looking for another point."""


class Candidates:
    """The points of a space that are left: nobody has asked for them, and the screen keeps them where there is one.

    `spare` is the next of them in an order of its own: that of `Space.points` without a seed, else one that the seed gives.
    `ended` is whether every combination was looked at, so that none is left when there is no spare one.
    """

    def __init__(self, space: Space, seed: int | None, screen: Screen | None = None) -> None:
        self.ended = False
        self._space = space
        self._screen = screen
        self._taken: set[tuple[Value, ...]] = set()
        self._faults: dict[tuple[Value, ...], str | None] = {}
        self._limit = None if seed is None else MOST_REFUSED
        self._walk = _walk(space.size, seed)
        self._next: Point | None = None

    def take(self, point: Point) -> None:
        """A point is asked for: it is left no longer."""
        self._taken.add(self._space.key(point))

    def left(self, point: Point) -> bool:
        """Whether a combination is a point of the space that is left."""
        key = self._space.key(point)
        if key in self._taken:
            return False
        if key not in self._faults:
            self._faults[key] = self._space.fault(point)
        return self._faults[key] is None and (self._screen is None or self._screen.keeps(point))

    def spare(self) -> Point | None:
        """A point that is left; None where there is none, or none was found among `MOST_REFUSED` combinations."""
        if self._next is not None and self.left(self._next):
            return self._next
        self._next = None
        refused = 0
        for index in self._walk:
            point = combination(self._space, index)
            if self.left(point):
                self._next = point
                break
            refused = 0 if self._space.key(point) in self._taken else refused + 1
            if self._limit is not None and refused >= self._limit:
                break
        else:
            self.ended = True
        return self._next


def combination(space: Space, index: int) -> Mapping[str, Value]:
    """The combination with an index in the order of `Space.points`."""
    values: dict[str, Value] = {}
    for parameter in reversed(space.parameters):
        index, at = divmod(index, len(parameter.values))
        values[parameter.name] = parameter.values[at]
    return {parameter.name: values[parameter.name] for parameter in space.parameters}


def _walk(size: int, seed: int | None) -> Iterator[int]:
    """Every index once: rising without a seed, else by steps of a length that has no divisor in common with the size."""
    start, step = 0, 1
    if seed is not None:
        generator = random.Random(seed)
        start = generator.randrange(size)
        step = next(each for each in iter(lambda: generator.randrange(1, size + 1), None) if gcd(each, size) == 1)
    return ((start + step * at) % size for at in range(size))
