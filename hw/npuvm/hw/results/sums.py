"""Sums of counts that have names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import TypeVar

__all__ = ["sum_by_key"]

N = TypeVar("N", int, float, Fraction)


def sum_by_key(parts: Iterable[Mapping[str, N]]) -> dict[str, N]:
    """The sum of each key over all parts that have it, in the order in which keys come first."""
    total: dict[str, N] = {}
    for part in parts:
        for key, value in part.items():
            total[key] = total[key] + value if key in total else value
    return total
