"""`simulate` on images: data against numpy, the same cycles without data, reports, scalar loads, what does not fit."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from benchmarks.simulator_speed import cube_program, vector_program
from tests.hw.engine_kit import ISA

from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.errors import DeviceError, SimulationError, TrapError
from npuvm.hw.expansion.stream import Stream
from npuvm.hw.functional.execute import GlobalMemory
from npuvm.hw.simulator import l2_state, simulate
from npuvm.isa import Entry, Image, Insn, encode_program

EDGE = load_chip("edge", ["core.count=4"])
SPLIT = load_chip("ascend_910b1")


def vector_case(
    chip: NpuConfig, cores: int, tiles: int
) -> tuple[Image, GlobalMemory, np.ndarray, list[tuple[int, int]]]:
    """The vector program with its memory, what it must compute and its windows."""
    x = np.random.default_rng(1).standard_normal((cores * tiles * 32, 64)).astype(np.float32)
    memory = GlobalMemory(1 << 26)
    memory.write(0, x)
    half = np.float32(0.5)
    y = x
    for step in range(11):
        y = (y + half, y * half, np.maximum(y, half))[step % 3]
    image = vector_program(ISA, chip.group_core_types[-1], cores, tiles)
    return image, memory, y + np.float32(1), [(0, 2 * x.nbytes)]


@pytest.mark.parametrize(("chip", "cores"), [(EDGE, 1), (EDGE, 4), (SPLIT, 5)])
def test_a_vector_program_is_right_and_takes_the_same_time_without_data(chip: NpuConfig, cores: int) -> None:
    image, memory, expected, windows = vector_case(chip, cores, 5)
    with_data = simulate(chip, ISA, image, memory=memory, windows=windows, trace=True)
    got = memory.read(expected.nbytes, expected.nbytes).view(np.float32).reshape(expected.shape)
    np.testing.assert_array_equal(got, expected)
    without = simulate(chip, ISA, image, data=False, trace=True)
    assert without == with_data
    assert simulate(chip, ISA, image, data=False, hazards="collect", trace=True) == with_data


@pytest.mark.parametrize(("chip", "cores"), [(EDGE, 2), (SPLIT, 3)])
def test_a_cube_program_is_right_and_takes_the_same_time_without_data(chip: NpuConfig, cores: int) -> None:
    tiles, depth, m, k, n = 2, 3, 64, 64, 64
    image = cube_program(ISA, chip.group_core_types[0], cores, tiles, depth, (m, k, n))
    rng = np.random.default_rng(2)
    a = rng.integers(-3, 4, (cores * tiles, depth, m, k)).astype(np.float16)
    b = rng.integers(-3, 4, (depth, k, n)).astype(np.float16)
    memory = GlobalMemory(1 << 26)
    memory.write(0, a)
    memory.write(a.nbytes, b)
    size = cores * tiles * m * n * 2
    windows = [(0, a.nbytes + b.nbytes + size)]
    with_data = simulate(chip, ISA, image, memory=memory, windows=windows, trace=True)
    expected = np.einsum("tdmk,dkn->tmn", a.astype(np.float32), b.astype(np.float32)).astype(np.float16)
    got = memory.read(a.nbytes + b.nbytes, size).view(np.float16).reshape(expected.shape)
    np.testing.assert_array_equal(got, expected)
    assert simulate(chip, ISA, image, data=False, trace=True) == with_data


def test_the_report_counts_what_the_program_does() -> None:
    tiles, tile = 5, 32 * 64 * 4
    result = simulate(EDGE, ISA, vector_program(ISA, "unified", 2, tiles), data=False, trace=True)
    assert result.instructions == 2 * tiles * 14
    assert result.by_unit == {"load": 10, "vector": 120, "store": 10}
    assert Counter(e.op for e in result.trace) == result.by_op
    assert result.by_op["ld"] == result.by_op["st"] == 10
    # A load writes a tile of UB, a vector instruction reads one and writes one, a store reads one.
    assert result.bytes["ub"] == 10 * (1 + 12 * 2 + 1) * tile
    assert result.bytes["hbm_read"] == 10 * tile
    assert result.bytes["hbm_write"] == 0
    assert result.bytes["l2"] == 10 * tile
    assert result.seconds == result.cycles / (EDGE.clock_ghz * 10**9)
    for core in result.cores:
        for name, unit in core.units.items():
            assert unit.total == result.cycles, name
    assert result.bound[1] == max(result.bounds.values())
    assert result.busy_share("vector") == float(result.bounds["vector"] / result.cycles)
    assert result.busy_share("nothing") == 0
    assert sum(result.stalls("vector").values()) + 2 * result.bounds["vector"] == 2 * result.cycles
    assert result.stalls("nothing") == {}


def test_l2_keeps_what_a_launch_left() -> None:
    image = vector_program(ISA, "unified", 1, 4)
    l2 = l2_state(EDGE)
    cold = simulate(EDGE, ISA, image, data=False, l2=l2)
    warm = simulate(EDGE, ISA, image, data=False, l2=l2)
    assert (cold.bytes["hbm_read"], warm.bytes["hbm_read"]) == (4 * 8192, 0)
    assert warm.bounds["hbm"] == 0
    assert warm.cycles < cold.cycles
    assert simulate(EDGE, ISA, image, data=False) == cold


def scalar_program() -> Image:
    """Core c loads the trip count at address 4 c and fills as many rows of 32 bytes with ones, from 1024 + 4096 c."""
    insns = [
        Insn("szc", args={"size": 0, "full": 1}),
        Insn("szc", args={"size": 1, "full": 8}),
        Insn("szr", args={"size": 2, "reg": 3, "full": 100}),
        Insn("szc", args={"size": 3, "full": 2}),
        Insn("desc", args={"desc": 0, "space": 0, "base": 0, "pitch": 0}),
        Insn("dstr", args={"desc": 0, "loop": 0, "stride": 4}),
        Insn("desc", args={"desc": 1, "space": 1, "base": 0, "pitch": 32}),
        Insn("desc", args={"desc": 2, "space": 0, "base": 1024, "pitch": 32}),
        Insn("dstr", args={"desc": 2, "loop": 0, "stride": 4096}),
        Insn("dstr", args={"desc": 2, "loop": 1, "stride": 32}),
        Insn("grid", args={"loops": 1, "phase": 0, "t0": 3}),
        Insn("vdup", dtype="fp32", args={"dst": 1, "rows": 0, "cols": 1, "imm": 0x3F800000}, set=(0,)),
        Insn("usync", args={"unit": 6}, wait=(0,)),
        Insn("lds", dtype="int32", args={"rd": 3, "src": 0}),
        Insn("loop", args={"loop": 1, "trip": 2}),
        Insn("st", dtype="fp32", args={"dst": 2, "src": 1, "rows": 0, "cols": 1}),
        Insn("endloop"),
        Insn("endgrid"),
        Insn("halt"),
    ]
    entries = tuple(Entry("unified", 0, ((core, core + 1),)) for core in range(2))
    return Image("scalar", ISA.hash, encode_program(ISA, insns), entries)


def test_scalar_loads_are_recorded_for_a_run_without_data() -> None:
    memory = GlobalMemory(1 << 20)
    memory.write(0, np.array([3, 7], dtype=np.int32))
    windows = [(0, 1 << 14)]
    result = simulate(EDGE, ISA, scalar_program(), memory=memory, windows=windows)
    assert result.scalar_loads == ((3,), (7,))
    assert result.by_op["st"] == 10
    filled = memory.read(1024, 8192).view(np.float32).reshape(2, 1024)
    assert [int(part.sum()) for part in filled] == [24, 56]
    assert simulate(EDGE, ISA, scalar_program(), data=False, registers=result.scalar_loads) == result
    with pytest.raises(SimulationError, match=r"core 0: the scalar load at word \d+ needs a value"):
        simulate(EDGE, ISA, scalar_program(), data=False)
    with pytest.raises(SimulationError, match="core 1: the scalar load"):
        simulate(EDGE, ISA, scalar_program(), data=False, registers=[[3]])


def test_the_cycle_limit_of_a_launch() -> None:
    image = vector_program(ISA, "unified", 1, 4)
    cycles = simulate(EDGE, ISA, image, data=False).cycles
    assert simulate(EDGE, ISA, image, data=False, cycle_limit=cycles).cycles == cycles
    with pytest.raises(TrapError, match="trap cycle_limit"):
        simulate(EDGE, ISA, image, data=False, cycle_limit=cycles - 1)


def test_a_launch_that_does_not_fit_is_refused() -> None:
    image = vector_program(ISA, "unified", 5, 1)
    with pytest.raises(DeviceError, match=r"speed: a launch on 5 cores \(unified\); edge has up to 4 cores"):
        simulate(EDGE, ISA, image, data=False)
    with pytest.raises(DeviceError, match="up to 72 cores in the order cube, vector, vector, 24 times"):
        simulate(SPLIT, ISA, image, data=False)
    mixed = Image("mix", ISA.hash, image.words, (Entry("vector", 0, ((0, 1),)), Entry("cube", 0, ((0, 1),))))
    with pytest.raises(DeviceError, match=r"2 cores \(cube, vector\)"):
        simulate(SPLIT, ISA, mixed, data=False)
    with pytest.raises(DeviceError, match="needs `memory`"):
        simulate(EDGE, ISA, vector_program(ISA, "unified", 1, 1))
    foreign = Image("old", "0" * 64, image.words, image.entries)
    with pytest.raises(DeviceError, match="old: made for instruction set 000000000000, the chip runs"):
        simulate(EDGE, ISA, foreign, data=False)


def test_durations_replace_what_units_take() -> None:
    image = vector_program(ISA, "unified", 1, 5)

    def durations(core: int, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
        assert core == 0
        return np.arange(1, len(stream) + 1), np.full(len(stream), 7)

    result = simulate(EDGE, ISA, image, data=False, trace=True, durations=durations)
    events = sorted(result.trace, key=lambda event: event.sequence)
    assert len(events) > 5
    assert [e.occupied_until - e.start for e in events] == list(range(1, len(events) + 1))
    before: dict[str, int] = {}
    for event in events:
        assert event.dispatched <= event.start
        assert event.complete == max(event.occupied_until + 7, before.get(event.unit, 0))
        before[event.unit] = event.complete
