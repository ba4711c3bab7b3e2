"""Chips on which something is free: what each variant frees is gone, the rest of the chip is as before."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from benchmarks.simulator_speed import cube_program, vector_program

from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.errors import ConfigError
from npuvm.hw.explain import LaunchBreakdown, break_down
from npuvm.hw.results.stats import RunResult
from npuvm.hw.simulator import simulate
from npuvm.isa import load_isa
from npuvm.runtime.analysis.idealise import VARIANTS, variant, with_fields

ISA = load_isa()
SCARCE = load_chip(
    "edge",
    [
        "core.count=2", "core.load.outstanding=2", "core.store.outstanding=2", "core.sequencer.queue_depth=2",
        "core.sequencer.decode_cycles_per_word=4", "core.sequencer.start_cycles=100", "core.sync.set_to_visible_cycles=30",
    ],
)  # fmt: skip
"""A chip on which everything is scarce."""

PROGRAMS = (vector_program(ISA, "unified", 2, 6), cube_program(ISA, "unified", 2, 2, 3, (64, 64, 64)))


def run(chip: NpuConfig) -> list[RunResult]:
    """Both programs on a chip, each with an empty L2."""
    return [simulate(chip, ISA, program, data=False) for program in PROGRAMS]


REAL = run(SCARCE)


def seq(breakdown: LaunchBreakdown, *kinds: str) -> int:
    """Cycles of the sequencers."""
    unit = breakdown.unit("seq")
    assert unit is not None
    return unit.of_kind(*kinds)


def total(breakdown: LaunchBreakdown, name: str, *kinds: str) -> int:
    """Cycles of a unit."""
    unit = breakdown.unit(name)
    return 0 if unit is None else unit.of_kind(*kinds)


GONE: dict[str, Callable[[RunResult, LaunchBreakdown], bool]] = {
    "infinite-bandwidth": lambda r, b: max(r.bounds["hbm"], r.bounds["l2"], r.bounds["port"]) < r.cycles / 100,
    "infinite-hbm": lambda r, b: r.bounds["hbm"] < r.cycles / 100,
    "infinite-l2": lambda r, b: r.bounds["l2"] < r.cycles / 100,
    "infinite-ports": lambda r, b: r.bounds["port"] < r.cycles / 100,
    "unlimited-requests": lambda r, b: all(total(b, unit, "memory") == 0 for unit in ("load", "store", "fixpipe")),
    "free-vector": lambda r, b: total(b, "vector", "busy") == r.by_unit.get("vector", 0),
    "free-cube": lambda r, b: total(b, "cube", "busy") == r.by_unit.get("cube", 0),
    "free-decode": lambda r, b: seq(b, "busy") == 0 and r.bounds["dispatch"] <= SCARCE.core.sequencer.start_cycles,
    "deep-queues": lambda r, b: seq(b, "queue") == 0,
    "zero-launch": lambda r, b: seq(b, "start") == 0,
}


@pytest.mark.parametrize("name", [each.name for each in VARIANTS])
def test_what_is_free_is_gone_and_nothing_takes_longer(name: str) -> None:
    chip = variant(name).chip(SCARCE)
    freed = run(chip)
    for real, result in zip(REAL, freed, strict=True):
        assert result.cycles <= real.cycles
        assert result.by_op == real.by_op
        if name in GONE:
            assert GONE[name](result, break_down(result))
    if name in GONE:
        assert not all(GONE[name](real, break_down(real)) for real in REAL)
    if name != "no-bank-conflicts":
        assert sum(result.cycles for result in freed) < sum(real.cycles for real in REAL)


def test_infinite_is_never_less_than_what_the_chip_has() -> None:
    """At 100 Hz 32 GB/s are 320 million bytes a cycle."""
    chip = with_fields(SCARCE, {"clock_ghz": Fraction(1, 10_000_000)})
    freed = variant("infinite-bandwidth").chip(chip)
    assert freed.hbm_bytes_per_cycle >= chip.hbm_bytes_per_cycle > 1 << 16
    assert freed.l2_bytes_per_cycle >= chip.l2_bytes_per_cycle > 1 << 16


def test_fields_are_replaced_and_the_rest_is_kept() -> None:
    rate = SCARCE.hbm_bytes_per_cycle
    assert rate == SCARCE.memory.hbm.bandwidth_gbps / SCARCE.clock_ghz
    changed = with_fields(SCARCE, {"memory.hbm.bandwidth_gbps": 3 * SCARCE.memory.hbm.bandwidth_gbps, "core.count": 7})
    assert changed.hbm_bytes_per_cycle == 3 * rate  # not what the original chip had worked out before
    assert (changed.n_cores, SCARCE.n_cores) == (7, 2)
    assert changed.core.load == SCARCE.core.load
    assert changed.chip_hash != SCARCE.chip_hash
    back = with_fields(changed, {"memory.hbm.bandwidth_gbps": SCARCE.memory.hbm.bandwidth_gbps, "core.count": 2})
    assert back.chip_hash == SCARCE.chip_hash


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(KeyError, match="SyncConfig has no field 'speed'"):
        with_fields(SCARCE, {"core.sync.speed": 1})


def test_a_variant_that_finds_nothing_to_free_gives_the_same_chip() -> None:
    chip = with_fields(SCARCE, {"core.ub_banks": None})
    assert variant("no-bank-conflicts").chip(chip).chip_hash == chip.chip_hash


def test_variants_joined_are_free_together() -> None:
    joined = variant("free-vector+deep-queues")
    both = variant("deep-queues").chip(variant("free-vector").chip(SCARCE))
    assert joined.chip(SCARCE).chip_hash == both.chip_hash
    assert joined.title == "vector instructions take one cycle; the queues of the units are never full"
    with pytest.raises(ConfigError, match="no variant 'free-lunch'"):
        variant("free-vector+free-lunch")


def test_an_unknown_variant_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no variant 'free-lunch'; there are: infinite-bandwidth, "):
        variant("free-lunch")


def test_the_reference_page_has_every_variant() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/reference/explain.md").read_text(encoding="utf-8")
    table = page.split("## What if it were free", 1)[1].split("##", 1)[0]
    assert re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE) == [each.name for each in VARIANTS]
