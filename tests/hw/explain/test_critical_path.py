"""The critical path: without gaps, and a cycle more on it is a cycle more of the launch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.simulator_speed import cube_program, vector_program
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hw.engine.test_engine import DEPTH, VISIBLE, programs
from tests.hw.engine_kit import ISA, Program, Row, execute, make_chip
from tests.hw.explain.test_explain_rules import stream

from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.errors import SimulationError
from npuvm.hw.expansion.stream import Barrier
from npuvm.hw.explain.shares import PathShare, instruction_shares, path_shares
from npuvm.hw.explain.trace_path import PATH_KINDS, PathStep, PathText, critical_path, path_of_trace
from npuvm.hw.simulator import simulate
from npuvm.isa import Image

CHIP = make_chip(f"core.sequencer.queue_depth={DEPTH}")


def path_of(rows: list[Row]) -> tuple[tuple[PathStep, ...], int]:
    """The path of a program of one core, and its cycles."""
    run = execute([[rows]], CHIP)
    text = PathText(
        lambda pc: rows[pc].sets,
        lambda pc: rows[pc].order,
        lambda core, _: (("core", core), VISIBLE),
        lambda core, before, after: (),
        DEPTH,
    )
    return path_of_trace(run.trace, run.cycles, text), run.cycles


def check(path: Sequence[PathStep], cycles: int) -> None:
    """No gap, no empty step, known kinds."""
    assert [step.begin for step in path] == [0, *(step.end for step in path[:-1])]
    assert path[-1].end == cycles
    assert all(step.end > step.begin for step in path)
    assert {step.kind for step in path} <= set(PATH_KINDS)


@settings(max_examples=40)
@given(programs(), st.data())
def test_an_instruction_on_the_path_that_takes_longer_makes_the_launch_as_much_longer(
    rows: list[Row], data: st.DataObject
) -> None:
    path, cycles = path_of(rows)
    check(path, cycles)
    step = data.draw(st.sampled_from(path))
    if step.pc < 0:
        return
    row = rows[step.pc]
    longer = {
        "busy": replace(row, occupancy=row.occupancy + 7),
        "flight": replace(row, latency=row.latency + 7),
        "dispatch": replace(row, gap=row.gap + 7),
    }
    if step.kind in longer:
        changed = [*rows[: step.pc], longer[step.kind], *rows[step.pc + 1 :]]
        assert execute([[changed]], CHIP).cycles == cycles + 7


def test_a_path_by_hand() -> None:
    """Move is dispatched in 1, busy to 11, complete in 16, visible in 18; vector busy to 21, complete in 25; then 3 of cube."""
    rows = [Row("move", 10, 5, sets=(0,)), Row("vector", 3, 4, waits=(0,), sets=(1,)), Row("cube", 3, waits=(1,))]
    path, cycles = path_of(rows)
    assert cycles == 25 + VISIBLE + 3
    assert [(step.unit, step.kind, step.end, step.pc) for step in path] == [
        ("seq", "dispatch", 1, 0),
        ("move", "busy", 11, 0),
        ("move", "flight", 16, 0),
        ("vector", "signal", 18, 1),
        ("vector", "busy", 21, 1),
        ("vector", "flight", 25, 1),
        ("cube", "signal", 27, 2),
        ("cube", "busy", 30, 2),
    ]


def test_a_full_queue_and_a_barrier_are_on_the_path() -> None:
    rows = [*(Row("vector", 100) for _ in range(5)), Row("cube", 1, 900)]
    path, _ = path_of(rows)
    # Vector 4 gets the place of vector 1 in 102, the cube follows in 103 and ends last.
    assert [(step.kind, step.begin, step.end) for step in path if step.unit == "seq"] == [
        ("dispatch", 0, 1),
        ("queue", 101, 102),
        ("dispatch", 102, 103),
    ]
    first, second = Row("vector", 50, 20), Row("vector", 5)
    cores: list[Program] = [
        [[first], Barrier(1, "launch", 0), [second]],
        [[second], Barrier(1, "launch", 0), [second, second]],
    ]
    run = execute(cores, CHIP)
    by_place = {0: first, 1: second}
    text = PathText(
        lambda pc: by_place[pc].sets,
        lambda pc: False,
        lambda core, _: (("core", core), VISIBLE),
        lambda *_: (0, 1),
        DEPTH,
    )
    path = path_of_trace([event for event in run.trace if event.pc in by_place], run.cycles, text)
    check(path, run.cycles)
    # The path ends in core 1 and goes through the barrier to core 0, which came to it last, in 71.
    assert path[-1].core == 1
    assert [(step.core, step.kind, step.begin) for step in path if step.kind == "barrier"] == [(1, "barrier", 71)]
    assert path[0].core == 0


@pytest.mark.parametrize(
    ("chip", "image", "barriers"),
    [
        (load_chip("edge", ["core.count=4"]), vector_program(ISA, "unified", 3, 5), False),
        (load_chip("edge", ["core.count=4"]), stream(barrier=True), True),
        (load_chip("ascend_910b1"), vector_program(ISA, "vector", 5, 5), False),
        (load_chip("ascend_910b1"), cube_program(ISA, "cube", 3, 2, 3, (64, 64, 64)), False),
    ],
)
def test_real_programs_have_a_path_without_gaps(chip: NpuConfig, image: Image, barriers: bool) -> None:
    result = simulate(chip, ISA, image, data=False, trace=True)
    path = critical_path(chip, ISA, image, result)
    check(path, result.cycles)
    assert ("barrier" in {step.kind for step in path}) == barriers
    assert sum(share.cycles for share in path_shares(path)) == result.cycles
    assert sum(share.cycles for share in instruction_shares(path)) == result.cycles


def test_the_reference_page_has_every_kind_of_step() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/reference/explain.md").read_text(encoding="utf-8")
    table = page.split("## The critical path", 1)[1].split("##", 1)[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(PATH_KINDS)


def test_without_a_trace_there_is_no_path() -> None:
    chip, image = load_chip("edge"), vector_program(ISA, "unified", 1, 1)
    with pytest.raises(SimulationError, match="kept no trace"):
        critical_path(chip, ISA, image, simulate(chip, ISA, image, data=False))


def test_a_launch_without_an_instruction_is_its_end() -> None:
    assert path_of_trace([], 12, path_text_of_nothing()) == (PathStep(0, "seq", "end", 0, 12, -1, ""),)


def path_text_of_nothing() -> PathText:
    """No program at all."""
    return PathText(lambda pc: (), lambda pc: False, lambda core, n: (("core", core), 1), lambda *_: (), 1)


def test_shares_of_a_path() -> None:
    steps = [
        PathStep(0, "load", "busy", 0, 10, 7, "ld"),
        PathStep(0, "load", "flight", 10, 50, 7, "ld"),
        PathStep(1, "load", "busy", 50, 65, 7, "ld"),
        PathStep(1, "vector", "busy", 65, 70, 9, "vadd"),
        PathStep(1, "seq", "end", 70, 72, -1, ""),
    ]
    assert path_shares(steps) == (
        PathShare("load", "flight", -1, "", 40, 1),
        PathShare("load", "busy", -1, "", 25, 2),
        PathShare("vector", "busy", -1, "", 5, 1),
        PathShare("seq", "end", -1, "", 2, 1),
    )
    assert instruction_shares(steps) == (
        PathShare("load", "", 7, "ld", 65, 3),
        PathShare("vector", "", 9, "vadd", 5, 1),
        PathShare("seq", "", -1, "", 2, 1),
    )
