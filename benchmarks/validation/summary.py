"""Figures over many rows: errors, worst rows, order of the variants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.validation.simulation import Outcome

__all__ = ["Summary", "groups", "rank_correlation", "summarise"]


@dataclass(frozen=True, slots=True)
class Summary:
    """Errors of some rows, as fractions: mean absolute, signed mean, and the row that is furthest off."""

    count: int
    mape: float
    signed: float
    worst: Outcome


def summarise(outcomes: Sequence[Outcome]) -> Summary | None:
    """The summary of some rows; None of none."""
    if not outcomes:
        return None
    errors = [each.error for each in outcomes]
    worst = max(outcomes, key=lambda each: abs(each.error))
    return Summary(len(errors), fmean(map(abs, errors)), fmean(errors), worst)


def groups(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Rows that are variants of each other, by the name of their group, in the order of the rows."""
    result: dict[str, list[Outcome]] = {}
    for each in outcomes:
        result.setdefault(str(each.row.within), []).append(each)
    return result


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's: Pearson's correlation of the ranks, ties at their mean rank. None when there is no order."""
    ranks = _ranks(a), _ranks(b)
    spreads = [sum((rank - fmean(each)) ** 2 for rank in each) for each in ranks if each]
    if len(a) < 2 or not all(spreads):
        return None
    middle = fmean(ranks[0])
    shared = sum((x - middle) * (y - middle) for x, y in zip(*ranks, strict=True))
    return float(shared / (spreads[0] * spreads[1]) ** 0.5)


def _ranks(values: Sequence[float]) -> list[float]:
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) - 1) / 2 for value in values
    ]
