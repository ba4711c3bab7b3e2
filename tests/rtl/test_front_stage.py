"""The front stage of hw/rtl does in every cycle what the simpy sequencer does: same dispatches, starts, addresses and sizes.

Programs are real compiled kernels and some written by hand. Each runs with the durations that its units take on the chip, and
with random durations on eight other front stages, one for each queue depth from 1 to 8, on both sides.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tests.rtl.front_kernels import CASES, launches, the_isa
from tests.rtl.front_numbers import NUMBERS, random_durations, with_numbers
from tests.rtl.front_programs import hand_written

from npuvm.hw.errors import SimulationError, TrapError
from npuvm.hw.rtl import Simulator
from npuvm.hw.rtl.front_compare import Expected, Launch, differences, expect
from npuvm.hw.rtl.front_files import FrontRun, FrontTrace
from npuvm.hw.rtl.front_run import front_parameters, run_front_stage
from npuvm.isa import Entry, assemble
from npuvm.isa.resources import data_root

SHORT = 4400
"""Cycles after which a launch is cut off, for one that counts as short: twice what it takes, and 1000."""


def found_in(simulator: Simulator, expected: Sequence[Expected]) -> list[str]:
    """Differences over all launches, which run together where their chips' numbers and their groups agree."""
    batches: defaultdict[tuple[object, ...], list[Expected]] = defaultdict(list)
    for each in expected:
        numbers = tuple(front_parameters(each.launch.chip).items())
        batches[numbers, each.launch.group_cores].append(each)
    lines: list[str] = []
    for batch in batches.values():
        launch = batch[0].launch
        parameters = front_parameters(launch.chip)
        runs = run_front_stage(simulator, the_isa(), parameters, [each.run for each in batch], launch.group_cores)
        for each, traces in zip(batch, runs, strict=True):
            lines += differences(each, traces)
    return lines


def every_launch() -> tuple[Launch, ...]:
    return (*launches(), *hand_written())


@cache
def short_launches() -> tuple[Launch, ...]:
    """Those that are over soon. A simulator of Verilog takes its time for each cycle, so the ordinary tests run these alone."""
    return tuple(launch for launch in every_launch() if expect(launch, the_isa()).run.limit < SHORT)


def shortest_of_each_chip() -> dict[tuple[str, int], Launch]:
    """A launch for each chip and number of cores in a group, the one that is over first."""
    launches = sorted(every_launch(), key=lambda launch: expect(launch, the_isa()).run.limit, reverse=True)
    return {(launch.chip.name, launch.group_cores): launch for launch in launches}


def at_depth(depth: int, some: Sequence[Launch], seed: int) -> list[Expected]:
    draw = random_durations(seed)
    return [expect(with_numbers(launch, depth), the_isa(), draw) for launch in some]


def test_there_are_programs_enough() -> None:
    kinds = {(entry.core_type, launch.chip.name) for launch in launches() for entry in launch.image.entries}
    assert len(CASES) >= 20 and len(launches()) >= 20
    assert kinds == {
        ("unified", "edge"), ("unified", "ascend_910a"), ("vector", "ascend_910b1"), ("cube", "ascend_910b1")
    }  # fmt: skip


def test_durations_of_the_chip(icarus: Simulator) -> None:
    shortest = shortest_of_each_chip()
    some = [shortest[each] for each in (("edge", 1), ("ascend_910a", 1), ("ascend_910b1", 1), ("ascend_910b1", 2))]
    assert found_in(icarus, [expect(launch, the_isa()) for launch in (*some, *short_launches()[1::2])]) == []


@pytest.mark.parametrize("depth", [1, 4, 6])
def test_random_durations(icarus: Simulator, depth: int) -> None:
    assert found_in(icarus, at_depth(depth, short_launches()[depth::5], depth)) == []


@pytest.mark.slow
def test_durations_of_the_chip_in_every_launch(icarus: Simulator) -> None:
    expected = [expect(launch, the_isa()) for launch in every_launch()]
    assert sum(each.dispatches for each in expected) > 3000
    assert found_in(icarus, expected) == []


@pytest.mark.slow
@pytest.mark.parametrize("depth", NUMBERS)
def test_random_durations_of_a_third_of_the_launches(icarus: Simulator, depth: int) -> None:
    assert found_in(icarus, at_depth(depth, every_launch()[depth % 3 :: 3], 100 + depth)) == []


@pytest.mark.campaign
@pytest.mark.parametrize("depth", NUMBERS)
def test_random_durations_of_every_launch(icarus: Simulator, depth: int) -> None:
    assert found_in(icarus, at_depth(depth, every_launch(), 100 + depth)) == []


@pytest.mark.campaign
def test_every_launch_in_verilator(verilator: Simulator) -> None:
    assert found_in(verilator, at_depth(4, every_launch(), 204)) == []


# The comparison finds what differs.


@pytest.mark.parametrize(
    ("parameter", "what"),
    [
        ("DECODE_CYCLES", "dispatch 0"),
        ("DISPATCH_CYCLES", "dispatch 0"),
        ("LOOP_CYCLES", "dispatch"),
        ("SET_TO_VISIBLE", "start on unit"),
    ],
)
def test_another_number_is_noticed(icarus: Simulator, parameter: str, what: str) -> None:
    expected = expect(launches()[2], the_isa())
    parameters = front_parameters(expected.launch.chip)
    parameters[parameter] += 1
    run = run_front_stage(icarus, the_isa(), parameters, [expected.run], expected.launch.group_cores)[0]
    assert any(what in line for line in differences(expected, run))


FAULTS = {
    "changes of a loop of one trip": ("front_loops.sv", "moves[l+1] & ~single[l]", "moves[l+1]", "predicates"),
    "first tile not marked": ("front_loops.sv", "first_tile <= 1'b1;", "first_tile <= 1'b0;", "predicates"),
    "consumer moved by ready": ("front_rings.sv", "is_set(free_of[i]", "is_set(ready_of[i]", "predicates"),
    "one token for two waits": ("front_queue.sv", "same ? have_two", "same ? have_one", "sync"),
    "order bit ignored": ("front_queue.sv", "(~oldest.order | completed)", "1'b1", "sync"),
    "a place is free too late": ("front_queue.sv", "(count != SIZE) | start;", "count != SIZE;", "grid"),
    "tail on every iteration": ("front_size.sv", "last[entry.loop_a] ?", "~last[entry.loop_a] ?", "skipped"),
    "quotient rounded down": ("front_registers.sv", "quotient + {63'd0, ~exact}", "quotient", "registers"),
    "skipped loop not counted": ("front_control.sv", "(is_loop | is_grid) skipping", "(is_grid) skipping", "skipped"),
    "barrier of the group early": ("front_shared.sv", "BARRIER_CYCLES + GROUP_CYCLES)", "BARRIER_CYCLES)", "cores"),
    "a signal outlives a count": ("front_semaphores.sv", "<= without(stages[i], set, set_number);", "<= stages[i];", "reset"),
}  # fmt: skip
"""A fault by name: file, text, text instead, and the program that must notice."""


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_noticed(icarus: Simulator, name: str, tmp_path: Path) -> None:
    file, text, instead, program = FAULTS[name]
    rtl = tmp_path / "rtl"
    shutil.copytree(data_root() / "hw" / "rtl", rtl)
    source = (rtl / file).read_text(encoding="utf-8")
    assert source.count(text) == 1
    (rtl / file).write_text(source.replace(text, instead), encoding="utf-8")
    launch = next(launch for launch in hand_written() if launch.name == program)
    # Durations long enough for queues to be full; the seventh set lets a signal be on its way past a barrier.
    depth = 7 if program == "reset" else 2
    expected = expect(with_numbers(launch, depth), the_isa(), lambda count: (np.full(count, 30), np.arange(count) % 9))
    parameters = front_parameters(expected.launch.chip)
    found = run_front_stage(icarus, the_isa(), parameters, [expected.run], launch.group_cores, folder=rtl)[0]
    assert differences(expected, found)


# What must not run stops, in hardware and in the simpy model.

STOPS = {
    "an end of nothing": ("endloop", 3),
    "a loop number twice": ("loop loop=l1 trip=s1\nloop loop=l1 trip=s1\nendloop\nendloop", 4),
    "a grid in a loop": ("loop loop=l1 trip=s1\ngrid loops=1 phase=0 t0=s1\nendgrid\nendloop", 3),
    "set-up in a loop": ("loop loop=l1 trip=s1\nszc size=s2 full=1\nendloop", 3),
    "ends crossed": ("grid loops=1 phase=0 t0=s1\nendloop\nendgrid", 3),
    "a size that was never set": ("loop loop=l1 trip=s9\nendloop", 5),
    "a descriptor that was never set": ("ld.fp16 dst=d1 src=d7 rows=s1 cols=s1", 5),
    "a ring that was never set": (
        "desc desc=d2 space=ub base=0 ring=g1 role=producer\nld.fp16 dst=d2 src=d0 rows=s1 cols=s1",
        5,
    ),
    "a predicate on a closed loop": ("ld.fp16 dst=d1 src=d0 rows=s1 cols=s1 | if first(l3)", 4),
    "a tail of a closed loop": ("szt size=s2 loop=l1 full=2 tail=1\nld.fp16 dst=d1 src=d0 rows=s2 cols=s1", 4),
    "a phase without tiles": ("grid loops=1 phase=1 t0=s1\nendgrid", 6),
    "tiles past the grid": ("szc size=s2 full=1\ngrid loops=1 phase=0 t0=s2\nendgrid", 6),
    "division by zero": ("scdiv rd=r1 ra=r1 rb=r2", 8),
    "a scalar from UB": ("lds.int32 rd=r1 src=d1", 9),
    "a window on UB": ("dwin desc=d1 rows=1 cols=1", 9),
    "a wait of the sequencer": ("nop | wait m1", 2),
}  # fmt: skip
"""A program after its set-up, and the code of the fault."""

SET_UP = """
.args 0
.entry unified main 0:2
main:
szc size=s1 full=2
desc desc=d0 space=gm base=256
desc desc=d1 space=ub base=0 pitch=32
"""


@pytest.fixture(scope="module")
def stopped(icarus: Simulator) -> dict[str, FrontTrace]:
    """What the hardware makes of every one of them, in one build."""
    images = [assemble(the_isa(), f"{SET_UP}{text}\nhalt\n", name) for name, (text, _) in STOPS.items()]
    runs = [FrontRun(image.words, image.entries, {}, limit=1000) for image in images]
    found = run_front_stage(icarus, the_isa(), front_parameters(launches()[0].chip), runs, 1)
    return dict(zip(STOPS, (traces[0] for traces in found), strict=True))


@pytest.mark.parametrize("name", STOPS)
def test_what_must_not_run_stops(name: str, stopped: dict[str, FrontTrace]) -> None:
    text, fault = STOPS[name]
    assert (at := stopped[name].stopped) is not None and at[1] == fault
    image = assemble(the_isa(), f"{SET_UP}{text}\nhalt\n", name)
    with pytest.raises((SimulationError, TrapError)) as raised:
        expect(Launch(name, launches()[0].chip, image, (), ((1,),)), the_isa())
    if "in a loop" not in name and name != "ends crossed":
        assert f"word {at[2]} " in str(raised.value), "both name the same instruction"


def test_trip_counts_that_vary_within_a_grid_are_a_fault(icarus: Simulator) -> None:
    """The one thing that the simpy model runs and the hardware does not."""
    body = "sza size=s2 loop_a=l0 full=2 base=1 step_a=1\ngrid loops=2 phase=0 t0=s1 t1=s2\nendgrid"
    image = assemble(the_isa(), f"{SET_UP}{body}\nhalt\n", "varying")
    expected = expect(Launch("varying", launches()[0].chip, image), the_isa())
    run = run_front_stage(icarus, the_isa(), front_parameters(expected.launch.chip), [expected.run], 1)[0]
    assert run[0].stopped is not None and run[0].stopped[1] == 7


def test_what_is_no_instruction_is_a_fault(icarus: Simulator) -> None:
    """Unallocated, reserved bits set, cut off by the end of the program, and the end itself."""
    parameters = front_parameters(launches()[0].chip)
    entries = (Entry("unified", 0),)
    nop, halt, szc = 0x01, 0x02, 0x108
    programs = ([0], [nop, 0xFF], [nop, nop, halt | 1 << 51], [nop, nop, nop, szc], [nop] * 4)
    runs = [FrontRun(np.array(words, dtype=np.uint64), entries, {}, limit=200) for words in programs]
    found = run_front_stage(icarus, the_isa(), parameters, runs, 1)
    assert [traces[0].stopped and traces[0].stopped[1:] for traces in found] == [(1, pc) for pc in range(5)]
