"""Units, queues and the sequencer, against a recurrence over the program that knows no events."""

from __future__ import annotations

from collections import defaultdict, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hw.engine_kit import ISA, Program, Row, execute, make_chip, regions

from npuvm.hw.config import load_chip
from npuvm.hw.engine.chip import CoreProgram, Machine, Options
from npuvm.hw.errors import SimulationError
from npuvm.hw.expansion.stream import Barrier, ScalarLoad
from npuvm.hw.results.stats import core_stats
from npuvm.hw.simulator import l2_state

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
    fences = (Barrier(1, "launch", 0), ScalarLoad(2, 1, 4, 0, 0))
    run = execute([[first, *fences], [second, *fences, second], [Barrier(0, "launch", 0), *fences[1:]]], CHIP)
    for core in run.machine.cores:
        stats = core_stats(core, run.cycles, {})
        for name, unit in stats.units.items():
            assert unit.total == run.cycles, name
            assert min([unit.busy, *unit.stalls.values()]) >= 0, name


@settings(max_examples=60)
@given(programs())
def test_every_stall_is_that_of_the_recurrence(rows: list[Row]) -> None:
    """The causes of each unit from the definition, with the program's times taken as given."""
    run = execute([[rows]], CHIP)
    times, cycles = recurrence(rows)
    clock = full = 0
    expected: dict[str, dict[str, int]] = {unit: defaultdict(int) for unit in UNITS}
    last: dict[str, tuple[int, int, int]] = {}
    started: dict[str, list[int]] = defaultdict(list)
    signals: dict[int, deque[int]] = defaultdict(deque)
    for row, (start, free, done) in zip(rows, times, strict=True):
        clock += row.gap
        before = started[row.unit]
        if len(before) >= DEPTH and before[-DEPTH] >= clock:
            full += before[-DEPTH] + 1 - clock
            clock = before[-DEPTH] + 1
        before.append(start)
        visible = [(s, signals[s].popleft()) for s in row.waits]
        stalls = expected[row.unit]
        if row.unit not in last:
            stalls["startup"] = start
        else:
            was_free, _, was_full = last[row.unit]
            at = max(clock, was_free)
            queue = min(at - was_free, full - was_full)
            stalls["queue"] += queue
            stalls["decode"] += at - was_free - queue
            for s, cycle in visible:
                producer = next(r.unit for r in rows if s in r.sets)
                stalls[f"wait {s} ({producer})"] += max(0, cycle - at)
                at = max(at, cycle)
            stalls["order"] += start - at
        last[row.unit] = free, done, full
        for s in row.sets:
            signals[s].append(done + VISIBLE)
    for unit, stalls in expected.items():
        stalls["tail" if unit in last else "idle"] = cycles - last.get(unit, (0, 0, 0))[0]
    stats = core_stats(run.machine.cores[0], run.cycles, {}).units
    for unit, stalls in expected.items():
        assert stats[unit].stalls == {cause: n for cause, n in stalls.items() if n}, unit


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
    """Vector 0 starts in 1. Move is dispatched in 2 and completes in 2 + 10 + 5 = 17, visible in 19.

    Vector 2 is dispatched in 3 and waits from there; vector 3 is ordered after 19 + 3 + 4 = 26.
    """
    rows = [
        Row("vector"),
        Row("move", 10, 5, sets=(0,)),
        Row("vector", 3, 4, waits=(0,)),
        Row("vector", 1, order=True),
    ]
    run = execute([[rows]])
    stats = core_stats(run.machine.cores[0], run.cycles, {}).units
    assert run.times() == {0: (1, 2, 2), 1: (2, 12, 17), 2: (19, 22, 26), 3: (26, 27, 27)}
    assert (stats["vector"].busy, stats["vector"].stalls) == (
        1 + 3 + 1,
        {"startup": 1, "decode": 3 - 2, "wait 0 (move)": 19 - 3, "order": 26 - 22},
    )
    assert (stats["move"].busy, stats["move"].stalls) == (10, {"startup": 2, "tail": 27 - 12})
    assert stats["cube"].stalls == {"idle": 27}


def test_everything_before_a_units_first_start_is_its_startup() -> None:
    rows = [Row("move", 10, 5, sets=(0,)), Row("vector", 3, waits=(0,))]
    stats = core_stats(execute([[rows]]).machine.cores[0], 21, {}).units["vector"]
    assert (stats.busy, stats.stalls) == (3, {"startup": 16 + VISIBLE})


def test_a_unit_without_instructions_for_a_while_names_what_its_sequencer_did() -> None:
    """The first vector is free in 2. Each later one: what the sequencer spent since the vector before, synchronisation first.

    Barrier: gap 3 to 4, drained by then, 5 cycles to 9; scalar load to 59, gap 4: dispatched in 63, 61 cycles starved.
    Then 64: full queues of the move unit from 64 + 10 on, see below; then gap 7.
    """
    moves = [Row("move", 100) for _ in range(10)]
    program: Program = [
        [Row("vector")],
        Barrier(3, "core", 0),
        ScalarLoad(0, 1, 4, 0, 0),
        [Row("vector", gap=4), *moves, Row("vector", gap=7)],
    ]
    run = execute([program])
    # Move 0 is dispatched and starts in 64. 1 to 8 fill the queue by 72; 9 would come in 73, and does in 165.
    assert run.times()[0][0] == 63
    times = {event.sequence: event.start for event in run.trace if event.unit == "vector"}
    assert times == {0: 1, 1: 63, 12: 165 + 7}
    stats = core_stats(run.machine.cores[0], run.cycles, {})
    # Third vector: free from 64, dispatched in 172: 108 cycles, of which 165 - 73 at the full queue.
    assert stats.units["vector"].stalls == {
        "startup": 1,
        "sync": 5 + 50,
        "queue": 92,
        "decode": 61 - 55 + 108 - 92,
        "tail": run.cycles - 173,
    }
    assert stats.units["seq"].stalls == {"barrier": 5, "scalar_load": 50, "queue_full:move": 92, "drain": 1064 - 172}


def test_a_unit_that_starved_for_less_than_its_sequencer_spent() -> None:
    """Vector 0 is busy from 1 to 61; the scalar load lasts to 51, so the next one, dispatched in 52, is never missed."""
    program: Program = [[Row("vector", 60)], ScalarLoad(0, 1, 4, 0, 0), [Row("vector", 3)]]
    stats = core_stats(execute([program]).machine.cores[0], 64, {}).units["vector"]
    assert (stats.busy, stats.stalls) == (63, {"startup": 1})
    # With 40 cycles it is free in 41 and starves for 11: all of them count as the load, which took 50.
    program = [[Row("vector", 40)], ScalarLoad(0, 1, 4, 0, 0), [Row("vector", 3)]]
    stats = core_stats(execute([program]).machine.cores[0], 55, {}).units["vector"]
    assert (stats.busy, stats.stalls) == (43, {"startup": 1, "sync": 11})


def test_bank_conflicts_are_no_work() -> None:
    """Two vector instructions of 10 and 5 cycles, of which 4 and 1 are conflicts; a cube instruction has none."""
    run = execute([[[Row("vector", 10, bank=4), Row("cube", 3), Row("vector", 5, bank=1)]]])
    core = run.machine.cores[0]
    stats = core_stats(core, run.cycles, {}, core.tally.bank).units
    assert run.times() == {0: (1, 11, 11), 1: (2, 5, 5), 2: (11, 16, 16)}
    assert (stats["vector"].busy, stats["vector"].stalls) == (15 - 5, {"startup": 1, "bank": 5})
    assert (stats["cube"].busy, stats["cube"].stalls) == (3, {"startup": 2, "tail": 11})


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
    assert stats.units["seq"].stalls == {"imbalance": 8}
    assert all(stats.units[name].stalls == {"imbalance": 8} for name in UNITS)
    stats = core_stats(run.machine.cores[1], 8, {})
    assert all(stats.units[name].stalls == ({"startup": 1} if name == unit else {"idle": 8}) for name in UNITS)


def test_a_unit_that_the_core_does_not_have_is_named() -> None:
    chip = load_chip("ascend_910b1")
    core = CoreProgram("vector", 0, regions([[Row("cube")]]))
    machine = Machine(chip, ISA, [core], l2_state(chip), Options(lambda core, load: 0))
    with pytest.raises(SimulationError, match="a vector core has no cube unit; it has load, vector, store"):
        machine.run()
