"""Bands and influences against models whose answers are known: functions of a chip's numbers in place of a simulation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

import pytest

from npuvm.hw.config import NpuConfig, load_chip, parse_chip
from npuvm.hw.errors import ConfigError
from npuvm.hw.uncertainty import Band, Parameter, propagate, sample_chips
from npuvm.isa.resources import find_resource

TEXT = find_resource("chip", "edge").read_text(encoding="utf-8")


def chip_with_errors(pct: float) -> NpuConfig:
    """The edge chip, all of its numbers known to so many percent."""
    return parse_chip(re.sub(r"trust: assumed\}", f"trust: assumed, error_pct: {pct}}}", TEXT))


def by_bandwidth(chip: NpuConfig) -> Mapping[str, int]:
    """A thing whose time is 12.8 million bytes over the bandwidth of main memory, and one that nothing moves."""
    seconds = Fraction(12_800_000) / (chip.memory.hbm.bandwidth_gbps * 10**9)
    return {"moved": round(seconds * chip.clock_ghz * 10**9), "still": round(1000 * chip.clock_ghz)}


def test_no_error_bars_give_a_point() -> None:
    chip = chip_with_errors(0)
    found = propagate(chip, by_bandwidth, samples=5)
    nominal = by_bandwidth(chip)["moved"]
    assert found["moved"].cycles == Band(nominal, nominal, nominal)
    assert found["moved"].microseconds.width == 0
    assert found["moved"].influences == ()


def test_the_band_is_that_of_the_distribution() -> None:
    """Of a triangle on -1..1 the 5th percentile is sqrt(2 x 0.05) - 1; time goes with the inverse of the bandwidth."""
    alone = "memory.hbm.bandwidth_gbps"
    found = propagate(chip_with_errors(50), by_bandwidth, samples=400, relevant=lambda path: path == alone)["moved"]
    band = found.microseconds
    at_5_percent = (2 * 0.05) ** 0.5 - 1
    assert band.p50 == pytest.approx(1000, rel=0.04)
    assert band.p5 == pytest.approx(1000 * 1.5**at_5_percent, rel=0.04)
    assert band.p95 == pytest.approx(1000 * 1.5**-at_5_percent, rel=0.04)


def test_wider_bars_give_wider_bands() -> None:
    widths = [
        propagate(chip_with_errors(pct), by_bandwidth, samples=20)["moved"].microseconds.width for pct in (5, 20, 60)
    ]
    assert 0 < widths[0] < widths[1] < widths[2]


def test_the_seed_decides() -> None:
    chip = chip_with_errors(30)
    first, again, other = (propagate(chip, by_bandwidth, samples=10, seed=seed) for seed in (4, 4, 5))
    assert first == again
    assert first["moved"].cycles != other["moved"].cycles


def test_influences_are_those_of_the_numbers_that_matter_most_first() -> None:
    def by_two(chip: NpuConfig) -> Mapping[str, int]:
        memory = chip.memory
        return {"x": 1000 * memory.hbm.latency_cycles + 200 * memory.l2.latency_cycles + 7}

    [first, second, clock] = propagate(chip_with_errors(25), by_two, samples=1)["x"].influences[:3]
    # 90 cycles at 0.8 GHz; the clock moves everything, 97,007 cycles / 0.8 GHz, by -20 % and +25 %
    nominal = 96_007 / 800
    assert [each.parameter.path for each in (first, second, clock)] == [
        "clock_ghz",
        "memory.hbm.latency_cycles",
        "memory.l2.latency_cycles",
    ]
    assert first.nominal_us == pytest.approx(nominal)
    assert first.low_us == pytest.approx(nominal * 1.25, rel=1e-3)
    assert first.high_us == pytest.approx(nominal / 1.25, rel=1e-3)
    assert second.swing_us == pytest.approx((112 - 72) * 1000 / 800)
    assert clock.swing_us == pytest.approx((38 - 24) * 200 / 800)  # 37.5 rounds to the even 38
    assert second.swing_pct == pytest.approx(100 * 50 / nominal)


def test_what_nothing_moves_has_no_influence_but_the_clock() -> None:
    found = propagate(chip_with_errors(20), lambda _: {"fixed": 100}, samples=3)["fixed"]
    assert [influence.parameter.path for influence in found.influences] == ["clock_ghz"]
    assert found.cycles == Band(100, 100, 100)
    assert found.microseconds.width > 0  # each sample has its own clock


def test_the_faster_end_is_left_out_where_the_slower_one_changes_nothing() -> None:
    asked = []

    def measure(chip: NpuConfig) -> Mapping[str, int]:
        asked.append(chip.core.load.startup_cycles)
        return {"x": 1}

    propagate(chip_with_errors(25), measure, samples=0, relevant=lambda path: path == "core.load.startup_cycles")
    assert asked == [16, 20]


def test_only_relevant_numbers_vary() -> None:
    chips = []

    def measure(chip: NpuConfig) -> Mapping[str, int]:
        chips.append(chip)
        return by_bandwidth(chip)

    chip = chip_with_errors(30)
    propagate(chip, measure, samples=5, relevant=lambda path: path == "memory.hbm.bandwidth_gbps")
    assert len(chips) == 1 + 5 + 2
    assert all(each.core == chip.core for each in chips)
    assert len({each.memory.hbm.bandwidth_gbps for each in chips}) == 8


def test_bands_can_be_had_without_influences() -> None:
    asked = []

    def measure(chip: NpuConfig) -> Mapping[str, int]:
        asked.append(chip)
        return by_bandwidth(chip)

    chip = chip_with_errors(30)
    found = propagate(chip, measure, samples=3, influences=False)["moved"]
    assert len(asked) == 1 + 3
    assert found.influences == ()
    assert found.cycles == propagate(chip, by_bandwidth, samples=3)["moved"].cycles


def test_progress_counts_to_its_end() -> None:
    steps: list[tuple[int, int]] = []
    propagate(
        chip_with_errors(10), by_bandwidth, samples=3, progress=lambda done, total, _: steps.append((done, total))
    )
    assert [done for done, _ in steps] == list(range(steps[-1][1] + 1))


def test_percentiles_are_values_of_samples() -> None:
    assert Band.of([7]) == Band(7, 7, 7)
    assert Band.of(list(range(100, 0, -1))) == Band(5, 50, 95)
    assert Band.of([1, 2, 3]) == Band(1, 2, 3)


def test_error_bars_that_contradict_the_rules_are_an_error() -> None:
    chip = load_chip("edge")
    least = chip.core.sequencer.fetch_latency_cycles - 1
    never = Parameter("core.sequencer.loop_cycles", Fraction(least), 0.0, "low", True, Fraction(1), Fraction(64), 1)
    with pytest.raises(ConfigError, match=r"edge: hardly any chip .* rules of core\.sequencer\.loop_cycles"):
        next(iter(sample_chips(chip, [never], 1, 1)))


def test_json_is_plain() -> None:
    document = propagate(chip_with_errors(20), by_bandwidth, samples=4)["moved"].to_json()
    assert document["nominal_cycles"] == 800_000
    assert set(document["cycles"]) == {"p5", "p50", "p95"}
    assert document["influences"][0]["parameter"] == "memory.hbm.bandwidth_gbps"
    assert document["influences"][0]["range"] == [pytest.approx(12.8 / 1.2, rel=1e-3), 15.36]
