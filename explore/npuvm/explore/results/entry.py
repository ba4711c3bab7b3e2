"""A point of a study with what is known of it."""

from __future__ import annotations

from dataclasses import dataclass

from npuvm.explore.evaluation import Evaluation
from npuvm.explore.space import Point

__all__ = ["Entry"]


@dataclass(frozen=True)
class Entry:
    """A point that was evaluated; `number` is its place in the order of asking, by which people name it."""

    number: int
    point: Point
    evaluation: Evaluation
