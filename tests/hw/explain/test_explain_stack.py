"""The stack of a launch: by hand on made-up counts, exact sums on random ones and on real runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from benchmarks.simulator_speed import cube_program, vector_program
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hw.engine_kit import ISA

from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.errors import SimulationError
from npuvm.hw.explain import KINDS, Cause, advise, break_down, sum_breakdowns, to_json
from npuvm.hw.results.stats import CoreStats, RunResult, UnitStats
from npuvm.hw.simulator import simulate
from npuvm.isa import Entry, Image, Insn, encode_program

CHIP = load_chip("ascend_910b1")
UNITS = ("load", "move", "cube", "fixpipe", "vector", "store")
NO_BOUNDS = {"hbm": Fraction(0), "l2": Fraction(0)}
HALT = Image("halt", ISA.hash, encode_program(ISA, [Insn("halt")]), (Entry("vector", 0, ()),))
EMPTY = simulate(CHIP, ISA, HALT, data=False)


def launch(cycles: int, *cores: CoreStats, bounds: Mapping[str, Fraction] = NO_BOUNDS) -> RunResult:
    """A result with these cores and bounds."""
    return replace(EMPTY, cycles=cycles, cores=cores, bounds=bounds)


def core(cycles: int, **units: UnitStats) -> CoreStats:
    """A core that halts in `cycles`."""
    return CoreStats("unified", cycles, units)


SEQ = UnitStats(30, {"start": 10, "drain": 60}, 3)


def test_the_critical_units_own_causes_stand_and_its_startup_begins_with_the_cores() -> None:
    vector = UnitStats(50, {"startup": 25, "sync": 3, "queue": 4, "decode": 5, "order": 6, "tail": 7}, 9)
    stack = break_down(launch(100, core(100, seq=SEQ, vector=vector))).stack
    assert stack == {
        Cause("vector", "busy"): 50,
        Cause("vector", "startup"): 15,
        Cause("seq", "start"): 10,
        Cause("vector", "tail"): 7,
        Cause("vector", "order"): 6,
        Cause("vector", "decode"): 5,
        Cause("vector", "queue"): 4,
        Cause("vector", "sync"): 3,
    }
    assert list(stack.values()) == sorted(stack.values(), reverse=True)


def test_two_units_that_take_turns_wait_for_what_is_on_its_way() -> None:
    """Period 10 of ten tiles: 2 cycles of vector work, 1 of load, 7 of latency. Vector waits 8 for load, load 9 for vector.

    Of the 9, load may wait 2 while vector works; so of vector's 80 cycles 10 are load's work and 70 are latency.
    """
    vector = UnitStats(20, {"wait 0 (load)": 80}, 10)
    load = UnitStats(10, {"wait 1 (vector)": 90}, 10)
    breakdown = break_down(launch(100, core(100, seq=SEQ, load=load, vector=vector)))
    assert breakdown.critical == {"vector": 1}
    assert breakdown.stack == {
        Cause("vector", "latency", "load"): 70,
        Cause("vector", "busy"): 20,
        Cause("load", "busy"): 10,
    }
    assert breakdown.share("latency") == 0.7


def test_a_wait_is_divided_in_proportion_with_the_largest_remainders_up() -> None:
    """Vector's 10 cycles go to load's busy 3, memory 3, store 1: 4 + 2/7, 4 + 2/7, 1 + 3/7, so the last is rounded up."""
    vector = UnitStats(90, {"wait 0 (load)": 6, "wait 2 (load)": 4}, 10)
    load = UnitStats(3, {"memory": 3, "wait 1 (store)": 1, "startup": 50, "tail": 43}, 10)
    breakdown = break_down(launch(100, core(100, seq=SEQ, load=load, vector=vector)))
    assert {cause: n for cause, n in breakdown.stack.items() if cause.unit == "load"} == {
        Cause("load", "busy"): 4,
        Cause("load", "memory"): 4,
        Cause("load", "wait", "store"): 2,
    }


def test_a_wait_for_a_unit_of_another_core_uses_what_it_does_in_all_of_them() -> None:
    vector = UnitStats(60, {"wait 9 (cube)": 40}, 1)
    cubes = [UnitStats(30, {"wait 3 (move)": 70}, 1), UnitStats(50, {"wait 3 (move)": 50}, 1)]
    result = launch(
        100, core(100, seq=SEQ, vector=vector), core(100, seq=SEQ, cube=cubes[0]), core(100, seq=SEQ, cube=cubes[1])
    )
    stack = break_down(result).stack
    # Own work of the cubes 80; vector's 40 are divided 80 : 120, the cubes' waits for move, which does nothing, stand.
    assert stack[Cause("cube", "busy")] == 80 + 16
    assert stack[Cause("cube", "wait", "move")] == 24 + 120
    assert stack[Cause("vector", "busy")] == 60


def test_a_unit_stalled_by_memory_is_occupied() -> None:
    load = UnitStats(10, {"memory": 60, "tail": 30}, 1)
    vector = UnitStats(40, {"startup": 60}, 1)
    breakdown = break_down(launch(100, core(100, seq=SEQ, vector=vector, load=load)))
    assert breakdown.critical == {"load": 1}
    assert breakdown.stack[Cause("load", "memory")] == 60


def test_a_core_without_work_shows_its_sequencer_and_the_others_imbalance() -> None:
    idle = core(
        20, seq=UnitStats(12, {"drain": 8, "imbalance": 80}, 0), vector=UnitStats(0, {"idle": 20, "imbalance": 80}, 0)
    )
    busy = core(100, seq=UnitStats(12, {"drain": 88}, 0), vector=UnitStats(90, {"startup": 10}, 2))
    breakdown = break_down(launch(100, idle, busy))
    assert breakdown.critical == {"seq": 1, "vector": 1}
    assert breakdown.stack[Cause("", "imbalance")] == 80
    assert breakdown.stack[Cause("seq", "busy")] == 12
    assert breakdown.ends == (20, Fraction(60), 100)
    vector = breakdown.unit("vector")
    assert vector is not None and (vector.cores, vector.working, vector.available) == (2, 1, 200)
    assert vector.of_kind("idle", "imbalance") == 100
    assert breakdown.unit("cube") is None


def test_counts_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(SimulationError, match="vector of core 0 accounts for 99 of 100 cycles"):
        break_down(launch(100, core(100, seq=SEQ, vector=UnitStats(99, {}, 1))))


def test_an_unknown_cause_is_refused() -> None:
    with pytest.raises(KeyError, match="no kind of cause 'sulking'"):
        break_down(launch(100, core(100, seq=SEQ, vector=UnitStats(99, {"sulking": 1}, 1))))


CAUSES = (
    "startup", "sync", "queue", "decode", "order", "memory", "bank", "tail",
    "wait 1 (load)", "wait 2 (vector)", "wait 3 (cube)", "wait 4 (vector)", "wait 5 (set-up)",
)  # fmt: skip


@st.composite
def results(draw: st.DrawFn) -> RunResult:
    """Cores with any mix of units and counts that add up; some halt early."""
    cycles = draw(st.integers(1, 10_000))
    cores = []
    for _ in range(draw(st.integers(1, 4))):
        halt = draw(st.integers(0, cycles))
        units = {"seq": _stats(draw, halt, cycles, ("start", "drain", "barrier", "queue_full:load"))}
        for name in draw(st.lists(st.sampled_from(UNITS), unique=True)):
            units[name] = _stats(draw, halt, cycles, CAUSES)
        cores.append(core(halt, **units))
    return launch(cycles, *cores, bounds={"hbm": Fraction(draw(st.integers(0, cycles)))})


def _stats(draw: st.DrawFn, halt: int, cycles: int, causes: tuple[str, ...]) -> UnitStats:
    stalls, left = {}, halt
    for cause in draw(st.lists(st.sampled_from(causes), unique=True)):
        stalls[cause] = draw(st.integers(0, left))
        left -= stalls[cause]
    return UnitStats(left, {**stalls, "imbalance": cycles - halt}, draw(st.integers(0, 3)))


@settings(max_examples=50)
@given(results())
def test_every_sum_is_exact_on_random_counts(result: RunResult) -> None:
    breakdown = break_down(result)
    assert sum(breakdown.stack.values()) == breakdown.core_cycles == result.cycles * len(result.cores)
    assert all(cycles > 0 for cycles in breakdown.stack.values())
    for unit in breakdown.units:
        cores = [each.units[unit.unit] for each in result.cores if unit.unit in each.units]
        assert sum(unit.parts.values()) == unit.available == result.cycles * len(cores)
        assert unit.of_kind("busy") == sum(stats.busy for stats in cores)
        waits = sum(n for stats in cores for cause, n in stats.stalls.items() if cause.startswith("wait "))
        assert unit.of_kind("wait") == waits
    assert sum(breakdown.critical.values()) == len(result.cores)


@settings(max_examples=15)
@given(st.lists(results(), max_size=4))
def test_launches_add_up(parts: list[RunResult]) -> None:
    whole = sum_breakdowns(break_down(result) for result in parts)
    assert whole.launches == len(parts)
    assert whole.cycles == sum(result.cycles for result in parts)
    assert sum(whole.stack.values()) == whole.core_cycles == sum(r.cycles * len(r.cores) for r in parts)
    assert all(sum(unit.parts.values()) == unit.available for unit in whole.units)
    assert list(whole.stack.values()) == sorted(whole.stack.values(), reverse=True)
    written = to_json(whole, advise(CHIP, whole))
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert sum(part["cycles"] for part in written["stack"]) == written["core_cycles"]
    assert {part["kind"] for unit in written["units"] for part in unit["parts"]} <= set(KINDS)
    assert written["advice"]


@pytest.mark.parametrize(
    ("chip", "image"),
    [
        (load_chip("edge", ["core.count=4"]), vector_program(ISA, "unified", 3, 5)),
        (CHIP, vector_program(ISA, "vector", 5, 5)),
        (CHIP, cube_program(ISA, "cube", 3, 2, 3, (64, 64, 64))),
    ],
)
def test_every_sum_is_exact_on_real_programs(chip: NpuConfig, image: Image) -> None:
    result = simulate(chip, ISA, image, data=False)
    breakdown = break_down(result)
    assert sum(breakdown.stack.values()) == result.cycles * len(image.entries)
    for unit in breakdown.units:
        assert sum(unit.parts.values()) == unit.available
        assert unit.instructions == (result.by_unit.get(unit.unit, 0) if unit.unit != "seq" else result.instructions)


def test_the_reference_page_has_every_kind_of_cause() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/reference/explain.md").read_text(encoding="utf-8")
    told = page.split("## By unit", 1)[1].split("## The critical path", 1)[0]
    assert set(KINDS) <= set(re.findall(r"`(\w+)`", told))
    assert set(re.findall(r"^\| `(\w+)` \|", told, re.MULTILINE)) <= set(KINDS)


def test_every_kind_has_a_label_and_a_meaning() -> None:
    labels = {Cause("vector", kind, "load").label for kind in KINDS}
    assert len(labels) == len(KINDS)
    assert all(meaning for meaning in KINDS.values())
