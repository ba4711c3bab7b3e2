"""How many combinations of a space are points, and what excludes the others."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import sqrt

from npuvm.explore.space import Point, Space
from npuvm.explore.study.candidates import combination
from npuvm.explore.study.errors import StudyError

__all__ = ["LARGEST", "Census", "take_census"]

LARGEST = 20_000
"""Combinations that are looked at one by one; of a larger space a sample is."""

_SAMPLE = 2_000
_NORMAL_95 = 1.96
_CHIP = "the chip's own rules"


@dataclass(frozen=True)
class Census:
    """Of `looked` combinations, `points` are points of the space; all were looked at where `looked` is `size`.

    `excluded` says how many of those looked at each constraint excludes; one that several exclude counts for each. `first` is a
    point, None where none was seen.
    """

    size: int
    looked: int
    points: int
    excluded: Mapping[str, int]
    first: Point | None

    @property
    def exact(self) -> bool:
        """Whether every combination was looked at."""
        return self.looked == self.size

    @property
    def estimate(self) -> tuple[int, int, int]:
        """Points of the whole space: most likely, and the limits of its 95 % interval (Wilson's)."""
        if self.exact:
            return self.points, self.points, self.points
        share, many, z = self.points / self.looked, self.looked, _NORMAL_95
        middle = (share + z * z / (2 * many)) / (1 + z * z / many)
        half = z * sqrt(share * (1 - share) / many + z * z / (4 * many * many)) / (1 + z * z / many)
        low, high = max(0.0, middle - half), min(1.0, middle + half)
        return round(share * self.size), round(low * self.size), round(high * self.size)

    def some_point(self, space: Space) -> Point:
        """A point. StudyError where none was seen: what excludes how many combinations."""
        if self.first is not None:
            return self.first
        reasons = "; ".join(f"{rule} excludes {count}" for rule, count in self.excluded.items())
        looked = f"its {self.size} combinations" if self.exact else f"{self.looked} of its {self.size} combinations"
        raise StudyError(f"none of {looked} is a point: {reasons}", str(space.path))


def take_census(space: Space, progress: Callable[[int, int], None] | None = None, seed: int = 0) -> Census:
    """Look at all combinations of a space, or at a sample of a large one.

    `progress` gets how many were looked at and how many will be.
    """
    places: Iterable[int] = range(space.size)
    looked = space.size
    if space.size > LARGEST:
        generator = random.Random(seed)
        places, looked = (generator.randrange(space.size) for _ in range(_SAMPLE)), _SAMPLE
    excluded: Counter[str] = Counter()
    points, first, example = 0, None, ""
    for done, place in enumerate(places):
        point = combination(space, place)
        if broken := space.broken_rules(point):
            excluded.update(broken)
        elif (contradiction := space.contradiction(point)) is not None:
            excluded[_CHIP] += 1
            example = example or contradiction
        else:
            points += 1
            first = first or point
        if progress is not None:
            progress(done, looked)
    reasons = {f"{name} ({example})" if name == _CHIP else name: count for name, count in excluded.most_common()}
    return Census(space.size, looked, points, reasons, first)
