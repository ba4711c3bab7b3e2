"""Formulas of measures, with numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from npuvm.explore.evaluation.counts import Counts, interval_us, latency_us
from npuvm.explore.evaluation.fronts import dominated, exceeded
from npuvm.explore.evaluation.measures import Figures, measures_of
from npuvm.explore.space import SizedRun, Workload
from npuvm.hw.config import load_chip
from npuvm.hw.energy import Work

CHIP = load_chip("edge", ["clock_ghz=1", "host.launch_us=5", "host.start_latency_us=2"])


def workload(name: str, weight: float, *weights: float) -> Workload:
    return Workload(name, "model", Path("none"), weight, tuple(SizedRun({"n": at}, w) for at, w in enumerate(weights)))


def counts(*groups: tuple[int, ...]) -> Counts:
    cycles = tuple(each for group in groups for each in group)
    return Counts(cycles, tuple(len(group) for group in groups), {}, Work(), 0, {}, {})


def test_means_go_by_the_weights_of_runs_and_of_workloads() -> None:
    workloads = (workload("often", 3.0, 0.25, 0.75), workload("seldom", 1.0, 1.0))
    runs = (
        [Figures(10, 8, 100, 4, True), Figures(20, 16, 300, 8, True)],
        [Figures(40, 40, 1000, 20, True)],
    )
    measures, bounds = measures_of(workloads, runs, static_w=1.0)
    assert bounds == ()
    assert measures["latency_us of often"] == 17.5
    assert measures["latency_us"] == (3 * 17.5 + 40) / 4
    assert measures["throughput_per_s of often"] == 1e6 / 14
    assert measures["throughput_per_s"] == 1e6 / ((3 * 14 + 40) / 4)
    assert measures["energy_uj"] == (3 * 250 + 1000) / 4
    assert measures["power_w of often"] == 250 / 7
    assert measures["power_w"] == ((3 * 250 + 1000) / 4) / ((3 * 7 + 20) / 4)


def test_what_one_limit_goes_into_is_a_limit() -> None:
    workloads = (workload("known", 1.0, 1.0), workload("open", 1.0, 0.5, 0.5))
    runs = ([Figures(10, 8, 100, 4, True)], [Figures(20, 16, 300, 8, True), Figures(1, 1, 1, 1)])
    measures, bounds = measures_of(workloads, runs, static_w=0.5)
    assert set(bounds) == {
        f"{measure}{of}"
        for measure in ("latency_us", "throughput_per_s", "energy_uj", "power_w")
        for of in ("", " of open")
    }
    assert measures["power_w"] == measures["power_w of open"] == 0.5
    assert measures["power_w of known"] == 25


def test_latency_counts_dispatch_and_the_waits_of_the_host() -> None:
    assert latency_us(counts((1000,)), CHIP) == 5 + 2 + 1
    assert latency_us(counts((20_000, 1000)), CHIP) == 5 + 2 + 20 + 1
    assert latency_us(counts((20_000,), (1000,)), CHIP) == 5 + 2 + 20 + 5 + 2 + 1
    assert latency_us(counts(()), CHIP) == 0


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (((1000, 1000),), 10),  # the host is slower
        (((20_000, 1000),), 21),  # the device is
        # The host waits in the middle; then it writes two launches, of which the next run begins with the second.
        (((20_000,), (1000,)), 5 + 5 + 2 + 20),
        (((1000,), (1000,)), 5 + 5 + 2 + 1),
    ],
)
def test_runs_one_after_another_take_what_the_slower_of_host_and_device_takes(
    groups: tuple[tuple[int, ...], ...], expected: float
) -> None:
    assert interval_us(counts(*groups), CHIP) == pytest.approx(expected)


def test_domination_needs_one_that_is_nowhere_worse_and_somewhere_better() -> None:
    signs = [1, -1]
    assert dominated([10, 5], [[9, 5]], signs)
    assert dominated([10, 5], [[20, 9], [10, 6]], signs)
    assert not dominated([10, 5], [[10, 5]], signs)
    assert not dominated([10, 5], [[9, 4], [11, 9]], signs)
    assert not dominated([10, 5], [], signs)


def test_budgets_are_the_most_of_a_measure_and_of_throughput_the_least() -> None:
    assert exceeded({"area_mm2": 5.0}, {"area_mm2": 5.0}) is None
    assert exceeded({"area_mm2": 5.0}, {"area_mm2": 5.1}) == "area_mm2"
    assert exceeded({"throughput_per_s": 5.0}, {"throughput_per_s": 4.9}) == "throughput_per_s"
    assert exceeded({"throughput_per_s": 5.0}, {"throughput_per_s": 6.0}) is None
    assert exceeded({"decoder_gates": 5.0}, {"area_mm2": 9.0}) is None
