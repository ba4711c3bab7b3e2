"""What the compiled engine refuses, and that launches which do not finish end alike on both engines."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest
from tests.hw.compiled.same import ISA, Launch, backends, check_same
from tests.hw.engine_kit import ISA as KIT_ISA
from tests.hw.engine_kit import Program, Row, execute, make_chip, regions

from npuvm.hw.compiled import Backend, CompiledMachine, backend, backend_of
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.engine.chip import CoreProgram
from npuvm.hw.errors import ConfigError, DeviceError, SimulationError, TrapError
from npuvm.hw.expansion.stream import Barrier, ScalarLoad, SetSemaphores
from npuvm.hw.functional.execute import GlobalMemory
from npuvm.hw.memory.l2 import L2State
from npuvm.hw.results.stats import RunResult
from npuvm.hw.simulator import l2_state, simulate
from npuvm.isa import assemble
from npuvm.isa.errors import NpuvmError

BACKENDS = backends()
CHIP = make_chip("core.sequencer.queue_depth=200")
EDGE = load_chip("edge")

_TEXT = """
.args 1
.entry unified main
main:
szc size=s0 full=4
szc size=s1 full=16
szc size=s2 full=50
desc desc=d0 space=gm base=@arg0 pitch=32
desc desc=d1 space=ub base=0 pitch=32
sem sem=m0 value={count}
loop loop=l0 trip=s2
  ld.fp16 dst=d1 src=d0 rows=s0 cols=s1 | {wait}
  vexp.fp16 dst=d1 a=d1 rows=s0 cols=s1
endloop
halt
"""


def launch(count: int = 0, wait: str = "order", limit: int | None = None) -> Launch:
    """Fifty loads, each perhaps with a wait."""
    return Launch(EDGE, assemble(ISA, _TEXT.format(count=count, wait=wait), "fifty"), (0,), None, limit)


def run_kit(chip: NpuConfig, programs: list[Program], groups: list[int], limit: int | None, backend: Backend) -> int:
    """Hand-made streams on the compiled engine; nothing is known of their text, so every semaphore is timed."""
    cores = [CoreProgram("unified", group, regions(items)) for group, items in zip(groups, programs, strict=True)]
    l2 = L2State(chip.capacity_bytes("l2"), chip.memory.l2.line_bytes)
    return CompiledMachine(backend, chip, KIT_ISA, cores, l2, lambda _core, load: load.addr).run(limit)


def ends(run: Any) -> tuple[type, str]:
    """How a run ends: the class of its error or of its cycles, and the text.

    At a cycle limit, what the units of a program that the verifier refuses are at may be said in other words.
    """
    try:
        found = run()
    except TrapError as exc:
        return type(exc), str(exc).partition(" cycles: ")[0]
    except NpuvmError as exc:
        return type(exc), str(exc)
    return type(found), str(found)


KITS: dict[str, list[Program]] = {
    "two producers of a launch": [
        [[Row("cube", 100, sets=(52,))]],
        [[Row("cube", 1, gap=20, sets=(52,))]],
        [[Row("vector", waits=(52,)), Row("vector", waits=(52,))]],
    ],
    "two consumers": [[[Row("vector", waits=(3,)), Row("cube", waits=(3,)), Row("move", 9, sets=(3,))]]],
    "two consumers one after the other": [
        [
            [
                Row("move", 5, sets=(3,)),
                Row("vector", waits=(3,)),
                Row("cube", gap=90, waits=(3,)),
                Row("move", 200, sets=(3,)),
            ]
        ]
    ],
    "a count for another core": [[[Row("vector", waits=(60,))]], [SetSemaphores(100, ((60, 1),), 0)]],
    "a count that drops a signal": [
        [
            [Row("vector", 5, sets=(4,)), Row("cube", 2, 40, sets=(4,))],
            SetSemaphores(30, ((4, 0),), 0),
            [Row("move", waits=(4,))],
        ]
    ],
    "a signal that never comes": [
        [[Row("vector", waits=(7,)), Row("load", waits=(8,))]],
        [[Row("move", 5, waits=(41,))]],
    ],
    "a barrier that a core does not reach": [[Barrier(0, "launch", 17)], [[Row("vector")]]],
    "barriers of all scopes": [
        [[Row("move", 20)], Barrier(1, "group", 0), [Row("vector", 9)], Barrier(2, "launch", 0)],
        [[Row("move", 60)], Barrier(1, "group", 0), [Row("vector", 3)], Barrier(2, "launch", 0)],
        [[Row("move", 7, 30)], Barrier(1, "core", 0), [Row("vector", 3)], Barrier(2, "launch", 0)],
    ],
    "more signals than a ring holds": [
        [[Row("move", sets=(5, 5)) for _ in range(90)], [Row("vector", waits=(5, 5)) for _ in range(90)]]
    ],
    "a scalar load between": [[[Row("vector", 100)], ScalarLoad(4, 0x40, 4, 0, 1), [Row("cube")]]],
}
"""Programs by name, most of which the verifier would refuse."""


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@pytest.mark.parametrize("limit", [None, 1, 40, 120, 1000])
@pytest.mark.parametrize("name", KITS)
def test_hand_made_streams_end_alike(name: str, limit: int | None, backend: Backend) -> None:
    """In the same cycle or in the same error."""
    chip, programs = CHIP, KITS[name]
    groups = [0, 0, 1][: len(programs)]
    expected = ends(lambda: execute(programs, chip, groups=groups, limit=limit).cycles)
    assert ends(lambda: run_kit(chip, programs, groups, limit, backend)) == expected


def test_numba_is_tested_and_taken_where_it_is_installed() -> None:
    if len(BACKENDS) < 2:
        pytest.skip("numba is not installed: only the plain backend was tested")
    one = launch()
    result = simulate(EDGE, ISA, one.image, addresses=(0,), data=False, engine="compiled")
    assert result.engine.startswith("compiled (numba 0.")


def test_numba_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr(backend, "_numba", backend._numba.__wrapped__)
    with pytest.raises(DeviceError, match=r"needs numba; install npuvm\[fast\]"):
        backend_of("numba")


@pytest.mark.parametrize("limit", [1, 100, 1000, 2400, 100_000])
def test_the_cycle_limit(limit: int) -> None:
    outcome = check_same(launch(limit=limit), *BACKENDS)
    if limit <= 2400:
        assert isinstance(outcome, TrapError)
        assert outcome.trap == "cycle_limit"


def test_a_deadlock_after_some_waits() -> None:
    outcome = check_same(launch(3, "wait m0"), *BACKENDS)
    assert isinstance(outcome, SimulationError)
    assert "load waits for semaphore 0 (core) in ld at word" in str(outcome)


@pytest.mark.parametrize(
    "more",
    [
        {"data": True, "memory": GlobalMemory(1 << 20)},
        {"trace": True},
        {"hazards": "raise"},
        {"durations": lambda *_: None},
    ],
)
def test_the_compiled_engine_is_timing_only(more: dict[str, Any]) -> None:
    one = launch()
    options: dict[str, Any] = {"addresses": (0,), "data": False, "engine": "compiled"} | more
    with pytest.raises(DeviceError, match="timing only: data=False, no hazards, trace or durations"):
        simulate(one.chip, ISA, one.image, **options)


def test_a_scalar_load_needs_a_value() -> None:
    text = (
        ".args 1\n.entry unified main\nmain:\ndesc desc=d0 space=gm base=@arg0 pitch=32\nlds.int32 rd=r1 src=d0\nhalt\n"
    )
    one = Launch(EDGE, assemble(ISA, text, "one"), (0,))
    outcome = check_same(one, *BACKENDS)
    assert isinstance(outcome, SimulationError)
    assert "needs a value" in str(outcome)


def test_lines_go_from_one_engine_to_the_other_and_are_discarded() -> None:
    """Engines take turns on one L2; the host drops lines between."""
    states = [l2_state(EDGE) for _ in range(3)]
    one = launch()
    orders: list[list[Any]] = [["simpy"] * 4, ["simpy", *BACKENDS, "simpy"], [*BACKENDS, "simpy", BACKENDS[0]]]
    held = []
    for state, engines in zip(states, orders, strict=True):
        for number, engine in enumerate(engines):
            simulate(EDGE, ISA, one.image, addresses=(number * 700,), data=False, l2=state, engine=engine)
            state.discard(300, 500)
        held.append((list(state.lines.items()), state.dirty))
        assert state.is_resident(2100) and not state.is_resident(400)
    assert held[0] == held[1] == held[2]
    assert held[0][0]


@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        (["clock_ghz=1.8333333333333333"], "a slice of L2"),
        (["memory.hbm.bandwidth_gbps=0.000000000000000001"], "a channel of HBM"),
        (["core.load.row_cycles=0.3333333333333333", "core.load.ub_bytes_per_cycle=4093"], "the port of load"),
        (['core.store.row_cycles="1/1000000000000000000"', "core.store.bytes_per_cycle=1"], "the port of store"),
    ],
)
def test_numbers_that_64_bits_cannot_count_are_refused(overrides: list[str], what: str) -> None:
    chip = load_chip("ascend_910b1", overrides)
    image = assemble(ISA, ".args 0\n.entry vector main\nmain:\nhalt\n", "nothing")
    for engine in BACKENDS:
        with pytest.raises(ConfigError, match=f"{what} counts .* outgrow the 64 bits .* allowed are fewer digits of"):
            simulate(chip, ISA, image, data=False, engine=engine)
    assert simulate(chip, ISA, image, data=False).cycles


def test_long_numbers_that_64_bits_can_count_give_the_same_cycles() -> None:
    overrides = ["memory.hbm.bandwidth_gbps=496.6666666666667", "memory.l2.bandwidth_gbps=546.1333333333333"]
    one = launch()
    chip = load_chip("edge", [*overrides, "core.load.row_cycles=0.3333333333333333"])
    assert isinstance(check_same(replace(one, chip=chip), *BACKENDS), RunResult)


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_a_launch_longer_than_the_engine_can_count(backend: Backend) -> None:
    """HBM of 10**-9 bytes a cycle: the second request would be issued beyond 2**38 cycles. simpy counts on."""
    chip = make_chip("memory.hbm.bandwidth_gbps=1e-9", "core.load.outstanding=1")
    program: list[Program] = [[[Row("load", gm=(0, 1, 512, 512))]]]
    with pytest.raises(TrapError, match="not finished after 274877906944 cycles"):
        run_kit(chip, program, [0], None, backend)
    assert execute(program, chip).cycles > 1 << 38
