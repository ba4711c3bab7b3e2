"""Which numbers of a chip vary, and which values they may take."""

from __future__ import annotations

from fractions import Fraction

import pytest

from npuvm.hw.config import DEFAULT_ERROR_PCT, load_chip, parse_chip
from npuvm.hw.config.fields import leaves
from npuvm.hw.uncertainty import FIXED, Parameter, chip_at_end, sample_chips, uncertain_parameters
from npuvm.isa.resources import find_resource, list_resources

SPLIT = load_chip("ascend_910b1")


def parameter(value: float, error: float, **given: object) -> Parameter:
    fields: dict[str, object] = {
        "trust": "low",
        "whole": True,
        "least": Fraction(0),
        "most": Fraction(10_000),
        "step": 1,
    }
    return Parameter("core.x", Fraction(str(value)), error, **{**fields, **given})  # type: ignore[arg-type]


def test_the_ends_of_a_bar_are_as_far_as_ratios() -> None:
    assert parameter(100, 0.25).range == (80, 125)
    assert parameter(1490, 0.03, whole=False).range == (1447, 1535)  # 1446.6 and 1534.7 in four digits
    assert parameter(100, 1.0).at(0.0) == 100
    assert parameter(100, 3.0).at(0.5) == 200  # half way to four times as much, in the logarithm


def test_rationals_stay_short() -> None:
    assert parameter(18.52, 0.1, whole=False).at(1.0) == Fraction("20.37")


def test_whole_numbers_are_rounded_and_keep_to_the_schema() -> None:
    assert parameter(3, 0.5).range == (2, 4)
    assert parameter(1, 1.0).range == (1, 2)  # 0.5 would round to 0: nothing instead of little
    assert parameter(512, 0.5, step=32).range == (352, 768)
    assert parameter(64, 1.0, most=Fraction(100)).range == (32, 100)
    assert parameter(8, 1.0, least=Fraction(6)).range == (6, 16)


@pytest.mark.parametrize("path", ["core.load.ub_bytes_per_cycle", "memory.hbm.bandwidth_gbps", "clock_ghz"])
def test_rates_make_a_chip_faster(path: str) -> None:
    assert Parameter(path, Fraction(1), 0.1, "low", True, None, None, 1).faster_when_higher
    assert not Parameter("core.load.startup_cycles", Fraction(1), 0.1, "low", True, None, None, 1).faster_when_higher


def test_every_fixed_path_is_one_of_the_schema() -> None:
    assert set(FIXED) <= {".".join(leaf.path) for leaf in leaves()}


@pytest.mark.parametrize("name", list_resources("chip"))
def test_every_other_number_with_an_origin_varies(name: str) -> None:
    chip = load_chip(name)
    varied = {each.path: each for each in uncertain_parameters(chip)}
    for path, origin in chip.provenance.items():
        if path not in varied:
            value: object = chip.model_dump()
            for key in path.split("."):
                assert isinstance(value, dict)
                value = value[key]
            assert path in FIXED or value == 0 or origin.error_pct == 0, path
        else:
            assert varied[path].error == origin.error_pct / 100
    assert not set(varied) & set(FIXED)
    assert "memory.hbm.bandwidth_gbps" in varied
    assert "core.vector.classes.valu.cycles_per_repeat" in varied


def test_bounds_are_those_of_the_schema() -> None:
    varied = {each.path: each for each in uncertain_parameters(SPLIT)}
    outstanding, block = varied["core.load.outstanding"], varied["core.cube.cycles_per_block.fp32"]
    assert (outstanding.least, outstanding.most, outstanding.whole) == (Fraction(1), Fraction(4096), True)
    assert (block.least, block.most) == (Fraction(1), Fraction(1024))
    assert not varied["clock_ghz"].whole


def test_an_override_is_assumed_and_a_plain_number_exact() -> None:
    chip = load_chip("ascend_910b1", ["core.load.outstanding=40"])
    [found] = [each for each in uncertain_parameters(chip) if each.path == "core.load.outstanding"]
    assert (found.value, found.trust, found.error) == (Fraction(40), "assumed", DEFAULT_ERROR_PCT["assumed"] / 100)
    text = find_resource("chip", "edge").read_text(encoding="utf-8")
    old = 'clock_ghz: {value: 0.8, source: "assumed", trust: assumed}'
    assert old in text
    plain = parse_chip(text.replace(old, "clock_ghz: 0.8"))
    assert "clock_ghz" not in {each.path for each in uncertain_parameters(plain)}


def test_samples_are_chips_and_repeat_with_their_seed() -> None:
    parameters = uncertain_parameters(SPLIT)
    first, again, other = ([chip.chip_hash for chip in sample_chips(SPLIT, parameters, 5, seed)] for seed in (1, 1, 2))
    assert first == again
    assert len(set(first + other)) == 10


def test_samples_keep_structure_and_rules() -> None:
    for chip in sample_chips(SPLIT, uncertain_parameters(SPLIT), 30, 7):
        sequencer, load = chip.core.sequencer, chip.core.load
        assert sequencer.loop_cycles >= sequencer.fetch_latency_cycles
        assert load.min_burst_bytes <= load.chunk_bytes
        assert chip.core_types() == SPLIT.core_types()
        assert chip.memory.l2.slices == SPLIT.memory.l2.slices
        assert chip.core.fixpipe.ub_bytes_per_cycle == 0  # no path stays no path


def test_a_field_that_follows_another_follows_its_samples() -> None:
    assert "core.load.l1_startup_cycles" not in load_chip("edge").provenance
    edge = load_chip("edge")
    seen = set()
    for chip in sample_chips(edge, uncertain_parameters(edge), 10, 3):
        assert chip.core.load.l1_startup_cycles == chip.core.load.startup_cycles
        seen.add(chip.core.load.startup_cycles)
    assert len(seen) > 1


def test_one_number_at_an_end_of_its_bar() -> None:
    [latency] = [each for each in uncertain_parameters(SPLIT) if each.path == "memory.l2.latency_cycles"]
    low, high = latency.range
    for end, value in ((-1, low), (1, high)):
        chip = chip_at_end(SPLIT, latency, end)
        assert chip is not None
        assert chip.memory.l2.latency_cycles == value
        assert chip.memory.hbm == SPLIT.memory.hbm


def test_a_rule_shortens_an_end_and_rounding_may_leave_nothing() -> None:
    # fetch takes 6 cycles, a branch at least as many: of 8 x (1/4 .. 4) the low end 2 is out, as is 8 / 4**0.75 = 3
    chip = load_chip(
        "edge", [f"core.sequencer.{text}" for text in ("loop_cycles=8", "fetch_latency_cycles=4", "prefetch_words=64")]
    )
    loop = Parameter("core.sequencer.loop_cycles", Fraction(8), 3.0, "low", True, Fraction(1), Fraction(64), 1)
    shortened = chip_at_end(chip, loop, -1)
    assert shortened is not None
    assert shortened.core.sequencer.loop_cycles == 4  # half of the bar: 8 / 4**0.5
    exact = Parameter("core.sequencer.loop_cycles", Fraction(8), 0.01, "low", True, Fraction(1), Fraction(64), 1)
    assert chip_at_end(chip, exact, 1) is None


def test_no_sample_has_other_grains_of_memory() -> None:
    """What requests, lines, sectors, blocks and rows are made of is no matter of degree."""
    text = find_resource("chip", "edge").read_text(encoding="utf-8")
    given = "    sector_bytes: {value: 64, source: a guess, trust: assumed}"
    found = parse_chip(text.replace("  l2:\n", f"  l2:\n{given}\n", 1))
    assert found.memory.l2.sector_bytes == 64 and "memory.l2.sector_bytes" in found.provenance
    assert [each.path for each in uncertain_parameters(found)] == [
        each.path for each in uncertain_parameters(parse_chip(text))
    ]
