"""Units, queues and the sequencer, against a recurrence over the program that knows no events."""

from __future__ import annotations

from collections import defaultdict, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hw.engine_kit import ISA, Row, execute, make_chip, regions

from npuvm.hw.config import load_chip
from npuvm.hw.engine import CoreProgram, Machine, Options
from npuvm.hw.errors import SimulationError
from npuvm.hw.simulator import l2_state
from npuvm.hw.stats import core_stats

UNITS = ("vector", "cube", "move", "fixpipe")
DEPTH = 3
CHIP = make_chip(f"core.sequencer.queue_depth={DEPTH}")
VISIBLE = 2


@st.composite
def programs(draw: st.DrawFn) -> list[Row]:
    """Instructions whose waits are all answered by earlier sets: each semaphore has one producer and one consumer."""
    ends = [(draw(st.sampled_from(UNITS)), draw(st.sampled_from(UNITS))) for _ in range(5)]
    pending = [0] * len(ends)
    rows = []
    for _ in range(draw(st.integers(1, 40))):
        unit = draw(st.sampled_from(UNITS))
        waits: list[int] = []
        for s, (_, consumer) in enumerate(ends):
            if consumer == unit and pending[s] and len(waits) < 2 and draw(st.booleans()):
                waits.append(s)
                pending[s] -= 1
        sets = [s for s, (producer, _) in enumerate(ends) if producer == unit and draw(st.booleans())][:2]
        for s in sets:
            pending[s] += 1
        rows.append(
            Row(
                unit,
                draw(st.integers(0, 9)),
                draw(st.integers(0, 12)),
                draw(st.integers(1, 4)),
                tuple(waits),
                tuple(sets),
                draw(st.booleans()),
            )
        )
    return rows


def recurrence(rows: list[Row]) -> tuple[list[tuple[int, int, int]], int]:
    """(start, occupied until, complete) of each instruction in program order, and the cycle of the halt."""
    clock = 0
    free: dict[str, int] = defaultdict(int)
    done: dict[str, int] = defaultdict(int)
    started: dict[str, list[int]] = defaultdict(list)
    tokens: dict[int, deque[int]] = defaultdict(deque)
    times = []
    for row in rows:
        clock += row.gap
        before = started[row.unit]
        if len(before) >= DEPTH:
            clock = max(clock, before[-DEPTH] + 1)
        start = max([clock, free[row.unit], *(tokens[s].popleft() for s in row.waits)])
        if row.order:
            start = max(start, done[row.unit])
        before.append(start)
        free[row.unit] = start + row.occupancy
        done[row.unit] = max(done[row.unit], start + row.occupancy + row.latency)
        for s in row.sets:
            tokens[s].append(done[row.unit] + VISIBLE)
        times.append((start, free[row.unit], done[row.unit]))
    return times, max([clock, *done.values()])


@settings(max_examples=100)
@given(programs())
def test_every_start_and_completion_is_that_of_the_recurrence(rows: list[Row]) -> None:
    run = execute([[rows]], CHIP)
    times, cycles = recurrence(rows)
    assert [run.times()[i] for i in range(len(rows))] == times
    assert run.cycles == cycles


@settings(max_examples=40)
@given(programs(), programs())
def test_cycles_of_every_unit_add_up(first: list[Row], second: list[Row]) -> None:
    run = execute([[first], [second]], CHIP)
    for core in run.machine.cores:
        stats = core_stats(core, run.cycles, {})
        for name, unit in stats.units.items():
            assert unit.total == run.cycles, name
            assert min([unit.busy, *unit.stalls.values()]) >= 0, name


@settings(max_examples=20)
@given(programs())
def test_cores_without_shared_memory_do_not_influence_each_other(rows: list[Row]) -> None:
    alone = execute([[rows]], CHIP)
    together = execute([[rows], [rows], [rows]], CHIP)
    assert together.cycles == alone.cycles
    assert together.times(0) == together.times(1) == together.times(2) == alone.times()


def test_a_full_queue_holds_the_sequencer_until_an_instruction_starts() -> None:
    """Vector 0 starts in 1; 1, 2, 3 fill the queue by 4; 4 gets the place that 1 leaves in 101, in 102; the cube follows."""
    rows = [*(Row("vector", 100) for _ in range(5)), Row("cube")]
    run = execute([[rows]], CHIP)
    assert [run.times()[i][0] for i in range(6)] == [1, 101, 201, 301, 401, 103]
    assert run.machine.cores[0].stalls["queue_full:vector"] == 102 - 5


def test_stalls_name_their_cause() -> None:
    """Move completes in 1 + 10 + 5 = 16, visible in 18. Vector 1 waits from 2; vector 2 is ordered after 18 + 3 + 4 = 25."""
    rows = [Row("move", 10, 5, sets=(0,)), Row("vector", 3, 4, waits=(0,)), Row("vector", 1, order=True)]
    run = execute([[rows]])
    stats = core_stats(run.machine.cores[0], run.cycles, {}).units["vector"]
    assert run.times() == {0: (1, 11, 16), 1: (18, 21, 25), 2: (25, 26, 26)}
    assert (stats.busy, stats.stalls) == (4, {"starved": 2, "wait 0 (move)": 16, "order": 4})


def test_a_completion_never_overtakes_an_earlier_one_of_its_unit() -> None:
    run = execute([[[Row("vector", 2, 50), Row("vector", 2, 0, sets=(1,)), Row("cube", waits=(1,))]]])
    assert run.times() == {0: (1, 3, 53), 1: (3, 5, 53), 2: (55, 56, 56)}


def test_an_instruction_that_waits_twice_on_a_semaphore_needs_two_signals() -> None:
    rows = [Row("move", 10, sets=(0,)), Row("vector", waits=(0, 0)), Row("move", 10, sets=(0,))]
    assert execute([[rows]]).times()[1][0] == 21 + VISIBLE


@pytest.mark.parametrize("unit", UNITS)
def test_an_empty_program_and_an_idle_unit(unit: str) -> None:
    run = execute([[], [[Row(unit, 7)]]])
    assert run.cycles == 8
    stats = core_stats(run.machine.cores[0], 8, {})
    assert stats.cycles == 0
    assert stats.units["seq"].stalls == {"done": 8}
    assert all(stats.units[name].stalls == {"drained": 8} for name in UNITS)


def test_a_unit_that_the_core_does_not_have_is_named() -> None:
    chip = load_chip("ascend_910b1")
    core = CoreProgram("vector", 0, regions([[Row("cube")]]))
    machine = Machine(chip, ISA, [core], l2_state(chip), Options(lambda core, load: 0))
    with pytest.raises(SimulationError, match="a vector core has no cube unit; it has load, vector, store"):
        machine.run()
