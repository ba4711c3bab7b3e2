"""Workloads of a space: what is run, at which sizes, how much each counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import exp, log
from pathlib import Path
from statistics import NormalDist
from types import MappingProxyType
from typing import Literal

from npuvm.explore.space.schema import JointSizes, SizeFields, WorkloadFields
from npuvm.runtime.scenarios.schema import ModelScenario

__all__ = ["SizedRun", "Workload", "scenario_runs", "sized_runs"]


@dataclass(frozen=True)
class SizedRun:
    """One set of sizes of a model's symbols; weights of a workload's runs add up to 1.

    A scenario of operators or sentences has one run, without sizes.
    """

    sizes: Mapping[str, int]
    weight: float

    @property
    def label(self) -> str:
        """As reports show it: "batch=1, sequence=9"."""
        return ", ".join(f"{symbol}={size}" for symbol, size in self.sizes.items())


@dataclass(frozen=True)
class Workload:
    """What is run on every chip of a space; `path` is a file of a model or of a scenario.

    A scenario of kind `model` is a workload of its model, and `scenario` is its file; its `fusion` and `buffering` hold at
    points that have none. `where` is the workload's place in the space's file.
    """

    name: str
    kind: Literal["model", "scenario"]
    path: Path
    weight: float
    runs: tuple[SizedRun, ...]
    scenario: Path | None = None
    fusion: str | None = None
    buffering: str | None = None
    where: str = ""


def sized_runs(fields: WorkloadFields) -> tuple[SizedRun, ...]:
    """The sizes of a workload with their weights, equal ones joined; ValueError for a distribution without values."""
    return _weighed(_combinations(fields))


def scenario_runs(scenario: ModelScenario) -> tuple[SizedRun, ...]:
    """The runs of a scenario with their weights, those of equal sizes joined."""
    return _weighed((tuple(run.sizes.items()), run.weight) for run in scenario.runs)


def _weighed(runs: Iterable[tuple[tuple[tuple[str, int], ...], float]]) -> tuple[SizedRun, ...]:
    weights: dict[tuple[tuple[str, int], ...], float] = {}
    for sizes, weight in runs:
        weights[sizes] = weights.get(sizes, 0.0) + weight
    total = sum(weights.values())
    return tuple(SizedRun(MappingProxyType(dict(sizes)), weight / total) for sizes, weight in weights.items())


def _combinations(fields: WorkloadFields) -> Iterator[tuple[tuple[tuple[str, int], ...], float]]:
    if isinstance(fields.sizes, tuple):
        each: JointSizes
        for each in fields.sizes:
            yield tuple(each.at.items()), each.weight
        return
    spreads = []
    for symbol, spread in fields.sizes.items():
        values: tuple[int, ...]
        if isinstance(spread, SizeFields):
            values = tuple(quantiles(spread))
        else:
            values = spread if isinstance(spread, tuple) else (spread,)
        spreads.append([(symbol, value) for value in values])
    for sizes in product(*spreads):
        yield tuple(sizes), 1.0


def quantiles(fields: SizeFields) -> Iterator[int]:
    """Equally likely values of a distribution: the middle of each of `points` parts of equal probability, rounded."""
    for part in range(fields.points):
        share = (part + 0.5) / fields.points
        if fields.uniform is not None:
            low, high = fields.uniform.least, fields.uniform.most
            if high < low:
                raise ValueError(f"uniform: most = {high} is less than least = {low}")
            yield round(low + share * (high - low))
        elif fields.lognormal is not None:
            normal = fields.lognormal
            if normal.most < normal.least:
                raise ValueError(f"lognormal: most = {normal.most} is less than least = {normal.least}")
            value = exp(NormalDist(log(normal.median), log(normal.spread)).inv_cdf(share))
            yield min(normal.most, max(normal.least, round(value)))
