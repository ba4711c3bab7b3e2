"""Why two points of a space differ: parameters, measures, and where each workload's time, bytes and energy went."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeAlias

from npuvm.explore.evaluation import RunRecord
from npuvm.explore.results.comparison import Comparison, MeasurePair, Pair, WorkloadPair
from npuvm.explore.results.conclusions import conclusions
from npuvm.explore.results.entry import Entry
from npuvm.explore.results.words import known_figure, measures_seen, without_repeats
from npuvm.explore.space import Space, Workload
from npuvm.hw.config import NpuConfig

__all__ = ["compare"]

_WAIT = re.compile(r"wait \d+ \((\w+)\)")
_IDLE = ("tail", "idle", "imbalance")
"""Causes of a unit that has done its part of a launch, or has none."""
_START = ("start", "startup")

Runs: TypeAlias = tuple[RunRecord, ...]


def compare(space: Space, a: Entry, b: Entry) -> Comparison:
    """Two points side by side, and what accounts for their differences.

    Workloads are compared where both points have runs of them: points that were pruned or failed have fewer.
    """
    first, second = a.evaluation, b.evaluation
    found = Comparison(
        space.name,
        a.number,
        b.number,
        (first.state, second.state),
        (first.error, second.error),
        {
            parameter.name: (a.point[parameter.name], b.point[parameter.name])
            for parameter in space.parameters
            if a.point[parameter.name] != b.point[parameter.name]
        },
        tuple(
            MeasurePair(
                name,
                known_figure(first, name),
                known_figure(second, name),
                (name in first.bounds, name in second.bounds),
            )
            for name in without_repeats(space, measures_seen(space, (first, second)))
        ),
        tuple(_workloads(space, a, b)),
        _pairs(first.area_mm2, second.area_mm2),
        (first.code, second.code),
    )
    return replace(found, conclusions=conclusions(space, found))


def _workloads(space: Space, a: Entry, b: Entry) -> Iterable[WorkloadPair]:
    chips: tuple[NpuConfig, NpuConfig] | None = None
    for workload in space.workloads:
        sides = [tuple(run for run in entry.evaluation.runs if run.workload == workload.name) for entry in (a, b)]
        # A point may have stopped between the sizes of a workload.
        if len(sides[0]) == len(sides[1]) > 0:
            chips = chips or (space.chip(a.point), space.chip(b.point))
            yield _workload(workload, sides[0], sides[1], chips)


def _workload(workload: Workload, a: Runs, b: Runs, chips: tuple[NpuConfig, NpuConfig]) -> WorkloadPair:
    def pair(name: str, figure: Callable[[RunRecord], float]) -> Pair:
        return Pair(name, _mean(a, figure), _mean(b, figure))

    latency = pair("latency_us", lambda run: run.latency_us)
    units = _unit_us(a, chips[0]), _unit_us(b, chips[1])
    slower = units[0] if latency.a > latency.b else units[1]
    busy = {key.removesuffix(": busy"): us for key, us in slower.items() if key.endswith(": busy")}
    return WorkloadPair(
        workload.name,
        workload.weight,
        latency,
        pair("interval_us", lambda run: run.interval_us),
        pair("host_us", lambda run: run.latency_us - run.seconds * 1e6),
        pair("device_us", lambda run: run.seconds * 1e6),
        pair("cycles", lambda run: run.cycles),
        pair("launches", lambda run: run.launches),
        max(busy, key=lambda unit: busy[unit], default=""),
        _pairs(*units),
        _pairs(_means(a, lambda run: run.bytes), _means(b, lambda run: run.bytes)),
        _pairs(_means(a, lambda run: run.energy_uj), _means(b, lambda run: run.energy_uj)),
    )


def _mean(runs: Runs, figure: Callable[[RunRecord], float]) -> float:
    """The mean of a figure over the sizes of a workload, by their weights."""
    return sum(run.weight * figure(run) for run in runs) / sum(run.weight for run in runs)


def _means(runs: Runs, figures: Callable[[RunRecord], Mapping[str, float]]) -> dict[str, float]:
    found = [(run.weight, figures(run)) for run in runs]
    weight = sum(each for each, _ in found)
    names = dict.fromkeys(name for _, each in found for name in each)
    return {name: sum(share * each.get(name, 0.0) for share, each in found) / weight for name in names}


def _unit_us(runs: Runs, chip: NpuConfig) -> dict[str, float]:
    """Microseconds of a mean core by what each of its units did; those of a unit add up to the time on the device."""

    def of_run(run: RunRecord) -> dict[str, float]:
        us_per_cycle = run.seconds * 1e6 / run.cycles if run.cycles else 0.0
        found: dict[str, float] = {}
        for key, cycles in (*((f"{unit}: busy", count) for unit, count in run.busy.items()), *run.stalls.items()):
            unit, _, cause = key.partition(": ")
            name = f"{unit}: {_cause(cause)}"
            found[name] = found.get(name, 0.0) + cycles * us_per_cycle / max(1, chip.cores_with(unit))
        return found

    return _means(runs, of_run)


def _cause(cause: str) -> str:
    """A cause of `UnitStats` in words that mean the same in every program."""
    if wait := _WAIT.fullmatch(cause):
        return f"waits for {wait[1]}"
    if cause.startswith("queue_full:"):
        return f"queue of {cause.removeprefix('queue_full:')} full"
    return "idle" if cause in _IDLE else "starting" if cause in _START else cause.replace("_", " ")


def _pairs(a: Mapping[str, float], b: Mapping[str, float]) -> tuple[Pair, ...]:
    """Parts of a sum: one that a point does not name is nothing."""
    return tuple(Pair(name, a.get(name, 0.0), b.get(name, 0.0)) for name in dict.fromkeys((*a, *b)))
