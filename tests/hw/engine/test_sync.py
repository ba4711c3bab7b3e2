"""Semaphores of all scopes, barriers, scalar loads, deadlocks and limits; times worked out by hand."""

from __future__ import annotations

import pytest
from tests.hw.engine_kit import Program, Row, execute, make_chip

from npuvm.hw.errors import SimulationError, TrapError
from npuvm.hw.expansion.stream import Barrier, ScalarLoad, SetSemaphores

VISIBLE, GROUP, LAUNCH, BARRIER, SCALAR = 2, 7, 30, 5, 50


@pytest.mark.parametrize(("number", "further"), [(39, None), (40, GROUP), (51, GROUP), (52, LAUNCH), (62, LAUNCH)])
def test_a_signal_reaches_the_cores_of_its_scope_only(number: int, further: int | None) -> None:
    """Core 0 signals in 11; cores 0 and 1 are a group."""
    programs = [[[Row("vector", 10, sets=(number,))]], [[Row("cube", waits=(number,))]]]
    if further is None:
        with pytest.raises(SimulationError, match=rf"core 1: cube waits for semaphore {number} \(core\)"):
            execute(programs, groups=[0, 0])
    else:
        assert execute(programs, groups=[0, 0]).times(1)[0][0] == 11 + VISIBLE + further


def test_a_group_signal_stays_in_the_group() -> None:
    programs = [[[Row("vector", 10, sets=(40,))]], [[Row("cube", waits=(40,))]]]
    with pytest.raises(SimulationError, match=r"deadlock.*core 1: cube waits for semaphore 40 \(group\)"):
        execute(programs, groups=[0, 1])
    assert execute([programs[0], [[Row("cube")]]], groups=[0, 1]).cycles == 11


def test_two_producers_are_taken_in_the_order_of_their_signals() -> None:
    """Core 0 signals in 101, core 1 (later in the launch, sooner in time) in 21: the waiting unit gets that one first."""
    waiter = [Row("vector", waits=(52,)), Row("vector", waits=(52,))]
    programs = [[[Row("cube", 100, sets=(52,))]], [[Row("cube", 1, gap=20, sets=(52,))]], [waiter]]
    run = execute(programs)
    assert [run.times(2)[i][0] for i in range(2)] == [21 + VISIBLE + LAUNCH, 101 + VISIBLE + LAUNCH]


def test_a_unit_that_waits_for_another_signal_too_is_woken_once_all_are_there() -> None:
    rows = [Row("cube", 50, sets=(0,)), Row("move", 10, sets=(1,)), Row("vector", waits=(1, 0))]
    assert execute([[rows]]).times()[2][0] == 51 + VISIBLE


def test_two_consumers_at_a_time_are_an_error() -> None:
    rows = [Row("vector", waits=(3,)), Row("cube", waits=(3,)), Row("move", 9, sets=(3,))]
    with pytest.raises(
        SimulationError, match=r"semaphore 3 \(core scope\) has two consumers, vector of core 0 and cube of core 0"
    ):
        execute([[rows]])


def test_setting_a_count_takes_effect_at_the_sequencers_time() -> None:
    """The count is 2 from 10 on; the third wait needs the signal."""
    rows = [*(Row("vector", waits=(4,)) for _ in range(3)), Row("move", 20, sets=(4,))]
    run = execute([[SetSemaphores(10, ((4, 2),), 0), rows]])
    assert [run.times()[i][0] for i in range(4)] == [11, 12, 34 + VISIBLE, 14]


def test_setting_a_count_wakes_a_unit_of_another_core() -> None:
    run = execute([[[Row("vector", waits=(60,))]], [SetSemaphores(100, ((60, 1),), 0)]])
    assert run.times(0)[0][0] == 100


def test_a_core_barrier_drains_the_units() -> None:
    """The move completes in 1 + 10 + 30; then the barrier. The halt drains the vector instruction, one cycle."""
    run = execute([[[Row("move", 10, 30)], Barrier(1, "core", 0), [Row("vector")]]])
    assert [e.start for e in run.trace] == [1, 41 + BARRIER + 1]
    assert run.machine.cores[0].stalls["drain"] == 41 - 2 + 1
    assert run.machine.cores[0].stalls["barrier"] == BARRIER


def test_a_drain_waits_for_memory() -> None:
    """Request in 11, line in 15 + 120, visible nowhere before."""
    run = execute([[[Row("load", 10, gm=(0, 1, 128, 128))], Barrier(1, "core", 0), [Row("vector")]]])
    assert run.times()[0][0] == 135 + BARRIER + 1


@pytest.mark.parametrize(("scope", "slowest", "further"), [("group", 61, GROUP), ("launch", 201, LAUNCH)])
def test_cores_meet_at_a_barrier(scope: str, slowest: int, further: int) -> None:
    """Twice, so that the meeting point is used again: cores 0 and 1 are a group; core 2 takes longest."""
    barrier = Barrier(0, scope, 0)  # type: ignore[arg-type] # parametrised
    work = (20, 60, 200)
    programs: list[Program] = [[[Row("move", n)], barrier, [Row("vector", n)], barrier, [Row("cube")]] for n in work]
    run = execute(programs, groups=[0, 0, 1])
    first = slowest + BARRIER + further
    starts = {core: {e.unit: e.start for e in run.trace if e.core == core} for core in range(3)}
    assert starts[0]["vector"] == starts[1]["vector"] == first + 1
    second = first + slowest + BARRIER + further
    assert starts[0]["cube"] == starts[1]["cube"] == second + 1


def test_a_barrier_that_a_core_does_not_reach_is_a_deadlock() -> None:
    with pytest.raises(SimulationError, match=r"deadlock.*core 0: sequencer: launch barrier at word 17"):
        execute([[Barrier(0, "launch", 17)], [[Row("vector")]]])


def test_a_scalar_load_stops_dispatch_only() -> None:
    """The vector instruction goes on meanwhile; the value is there in 1 + 4 + 50."""
    run = execute([[[Row("vector", 100)], ScalarLoad(4, 0x40, 4, 0, 1), [Row("cube")]]])
    assert {e.unit: e.start for e in run.trace} == {"vector": 1, "cube": 1 + 4 + SCALAR + 1}
    assert run.machine.cores[0].stalls["scalar_load"] == SCALAR


def test_a_deadlock_names_units_semaphores_places_and_the_sequencer() -> None:
    rows = [Row("vector", waits=(7,)), *(Row("vector") for _ in range(3)), Row("load", waits=(8,))]
    chip = make_chip("core.sequencer.queue_depth=2")
    with pytest.raises(SimulationError) as caught:
        execute([[rows], [[Row("move", 5, waits=(41,))]]], chip)
    text = str(caught.value)
    assert "vector waits for semaphore 7 (core) in nop at word 0" in text
    assert "sequencer: queue of vector full at nop at word 2" in text
    assert "core 1: move waits for semaphore 41 (group) in nop at word 0" in text
    assert "draining for halt" in text
    assert text.startswith("deadlock in cycle 0")


def test_the_cycle_limit_is_a_trap() -> None:
    rows = [Row("vector", 100) for _ in range(10)]
    assert execute([[rows]], limit=1001).cycles == 1001
    with pytest.raises(
        TrapError, match="trap cycle_limit: not finished after 1000 cycles: core 0: sequencer: draining"
    ):
        execute([[rows]], limit=1000)
    with pytest.raises(TrapError, match="trap cycle_limit"):
        execute([[rows]], limit=10)


def test_a_unit_is_roused_once_by_several_changes_in_one_cycle() -> None:
    """Vector waits for two signals that it knows to be far; in cycle 40 another core sets both counts, and it goes on."""
    waiter = [Row("vector", gap=5, waits=(60, 61)), Row("vector", 5), Row("vector", 5)]
    signals = [Row("cube", 500, sets=(60, 61))]
    run = execute([[waiter], [signals], [SetSemaphores(40, ((60, 1), (61, 1)), 0)]])
    assert [run.times(0)[i][0] for i in range(3)] == [40, 41, 46]
