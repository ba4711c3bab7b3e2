"""Measures of a point from figures of its runs, or from limits of them.

Of one workload a measure is the mean over its runs by their weights; overall it is the mean over all runs, those of a
workload taken as often as the workload's weight says. docs/reference/explore-measures.md has the formulas.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from npuvm.explore.evaluation.record import RunRecord
from npuvm.explore.space import Workload

__all__ = ["Figures", "Weighed", "figures_of", "measures_of"]

_US_PER_S = 1e6


@dataclass(frozen=True)
class Figures:
    """What a run takes: from the first launch to the end, from the end of a run to that of the next, energy, time on the chip.

    Where it is not `exact`, all are lower limits; without any more they are 0.
    """

    latency_us: float = 0.0
    interval_us: float = 0.0
    energy_uj: float = 0.0
    device_us: float = 0.0
    exact: bool = False


@dataclass(frozen=True)
class Weighed:
    """A run's figures with its weight among those that are averaged."""

    weight: float
    figures: Figures


def figures_of(record: RunRecord) -> Figures:
    """The figures of a run that was simulated."""
    return Figures(
        record.latency_us, record.interval_us, sum(record.energy_uj.values()), record.seconds * _US_PER_S, exact=True
    )


def measures_of(
    workloads: Sequence[Workload], runs: Sequence[Sequence[Figures]], static_w: float
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Measures of runs, overall and "of" each workload, and the names of those that are limits and no figures.

    `runs` has the figures of each workload's runs, `static_w` is the power that the chip draws whatever it does.
    """
    measures: dict[str, float] = {}
    bounds: list[str] = []
    every: list[Weighed] = []
    by_name: dict[str, list[Weighed]] = {}
    for workload, figures in zip(workloads, runs, strict=True):
        own = [Weighed(run.weight, each) for run, each in zip(workload.runs, figures, strict=True)]
        by_name[f" of {workload.name}"] = own
        every += [Weighed(workload.weight * each.weight, each.figures) for each in own]
    for name, weighed in {"": every, **by_name}.items():
        found = {f"{measure}{name}": value for measure, value in _means(weighed, static_w).items()}
        measures |= found
        if not all(each.figures.exact for each in weighed):
            bounds += found
    return measures, tuple(bounds)


def _means(runs: Sequence[Weighed], static_w: float) -> Mapping[str, float]:
    weights = sum(run.weight for run in runs)
    latency = _sum((run.weight, run.figures.latency_us) for run in runs) / weights
    interval = _sum((run.weight, run.figures.interval_us) for run in runs) / weights
    energy = _sum((run.weight, run.figures.energy_uj) for run in runs) / weights
    device = _sum((run.weight, run.figures.device_us) for run in runs) / weights
    exact = all(run.figures.exact for run in runs)
    return {
        "latency_us": latency,
        "throughput_per_s": _US_PER_S / interval if interval else float("inf"),
        "energy_uj": energy,
        # Of energy and time only lower limits are known, and so none of their quotient but this one.
        "power_w": (energy / device if device else 0.0) if exact else static_w,
    }


def _sum(products: Iterable[tuple[float, float]]) -> float:
    return sum(weight * value for weight, value in products)
