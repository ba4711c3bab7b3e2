"""The untimed interpreter: legal programs in any order of turns, faults that an order shows, compiled kernels, errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npuvm.compiler import Kernel, KernelBuilder, ParamRef, kernel
from npuvm.compiler.program.kinds import compile_kernel
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.errors import DeviceError, SimulationError, TrapError
from npuvm.hw.functional.interpreter import Interpreted, interpret
from npuvm.hw.functional.state import GlobalMemory
from npuvm.hw.simulator import simulate
from npuvm.isa import Image, assemble, load_isa
from npuvm.isa.conformance import ProgramCase
from npuvm.isa.conformance.chips import chip_cases
from npuvm.isa.conformance.sequence_programs import legal_programs

ISA = load_isa()
EDGE = load_chip("edge")
Array = NDArray[Any]

LEGAL = {case.id: case for case in legal_programs()}
SEVERAL_CORES = {
    case.id: case
    for case in chip_cases(ISA, ["ascend_910a", "ascend_910b1"])
    if case.id.split("/", 2)[2] in ("tiles/two-cores", "matmul/two-cores", "exchange/two-cores", "group/one-group")
}


def launched(
    chip: NpuConfig, image: Image, arguments: Sequence[Array], run: Callable[..., Any] = interpret, **options: Any
) -> tuple[Any, list[bytes]]:
    """The result of a run, and the arguments afterwards."""
    memory, windows, at = GlobalMemory(1 << 24), [], 512
    for array in arguments:
        windows.append((at, array.nbytes))
        memory.write(at, array)
        at += -(-array.nbytes // 512) * 512 + 512
    addresses = [base for base, _ in windows]
    result = run(chip, ISA, image, memory=memory, addresses=addresses, windows=windows, **options)
    return result, [memory.read(base, size).tobytes() for base, size in windows]


def after(case: ProgramCase, text: str | None = None, **options: Any) -> dict[int, bytes]:
    image = assemble(ISA, case.text if text is None else text, case.id)
    _, found = launched(load_chip(case.chip), image, case.arguments, **options)
    return {index: found[index] for index in case.expected}


def expected(case: ProgramCase) -> dict[int, bytes]:
    return {index: array.tobytes() for index, array in case.expected.items()}


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
@pytest.mark.parametrize("case", [*LEGAL.values(), *SEVERAL_CORES.values()], ids=[*LEGAL, *SEVERAL_CORES])
def test_legal_programs_give_the_same_in_any_order_of_turns(case: ProgramCase, seed: int | None) -> None:
    assert after(case, seed=seed) == expected(case)


@pytest.mark.parametrize(
    ("program", "old", "new"),
    [
        ("phases", " | wait m0 set m1\nst.int32 dst=d1", " | set m1\nst.int32 dst=d1"),
        ("phases", "src=d4 rows=s0 cols=s1 | wait m1", "src=d4 rows=s0 cols=s1"),
        ("tiles", " order\n", "\n"),
        ("tiles", "wait m1 set m0", "set m0"),
    ],
    ids=["reader does not wait", "store does not wait", "no order bit", "slot is taken before it is free"],
)
def test_missing_synchronisation_shows_in_the_data_of_some_order(program: str, old: str, new: str) -> None:
    case = LEGAL[f"sequences/legal/{program}"]
    assert case.text.count(old) == 1
    text = case.text.replace(old, new)
    results = [after(case, text, seed=seed) for seed in range(8)]
    assert any(result != expected(case) for result in results)


def test_without_a_seed_every_run_is_the_same() -> None:
    case = LEGAL["sequences/legal/tiles"]
    text = case.text.replace("wait m1 set m0", "set m0")
    assert after(case, text) == after(case, text)


def test_a_seed_repeats_its_order() -> None:
    case = LEGAL["sequences/legal/tiles"]
    text = case.text.replace(" order\n", "\n")
    assert [after(case, text, seed=seed) for seed in range(4)] == [after(case, text, seed=seed) for seed in range(4)]


@kernel(x="fp16[M, N]")
def softmax(k: KernelBuilder, x: ParamRef) -> None:
    wide = k.cast(k.load(x), "fp32")
    powers = k.exp(wide - k.max(wide, axes=-1, keepdims=True))
    k.store(k.cast(powers / k.sum(powers, axes=-1, keepdims=True), "fp16"))


@kernel(a="fp16[M, K]", b="fp16[K, N]")
def product(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    k.store(k.relu(k.matmul(k.load(a), k.load(b))))


@pytest.mark.parametrize("chip", ["edge", "ascend_910a", "ascend_910b1"])
@pytest.mark.parametrize(("made", "shapes"), [(softmax, {"x": (37, 91)}), (product, {"a": (70, 33), "b": (33, 50)})])
def test_compiled_kernels_give_the_bits_of_the_timed_model(
    chip: str, made: Kernel, shapes: dict[str, tuple[int, ...]]
) -> None:
    config = load_chip(chip)
    program = compile_kernel(made, shapes, config, ISA)
    random = np.random.default_rng(1)
    tensors = [random.standard_normal(spec.nbytes // 2).astype(np.float16) for spec in program.tensors]
    by_name = {spec.name: tensor for spec, tensor in zip(program.tensors, tensors, strict=True)}
    for launch in program.launches:
        arguments = [by_name[name] for name in launch.args]
        timed, expected_bytes = launched(config, launch.image, arguments, simulate)
        found, got = launched(config, launch.image, arguments)
        assert got == expected_bytes
        assert found.instructions == timed.instructions
        assert launched(config, launch.image, arguments, seed=4)[1] == expected_bytes
        by_name |= {name: np.frombuffer(raw, np.float16) for name, raw in zip(launch.args, expected_bytes, strict=True)}


def test_scalar_loads_are_told() -> None:
    case = LEGAL["sequences/legal/registers"]
    found, _ = launched(EDGE, assemble(ISA, case.text, "registers"), case.arguments)
    assert isinstance(found, Interpreted)
    assert found.scalar_loads == ((3, -1, 4, 2),)
    assert (
        found.instructions == case.text.count("\nst.") + case.text.count("\nld.") + 1 + 4
    )  # a usync; 4 stores in the loop


HEAD = ".args 0\n.entry unified 0\nsem sem=m0 value=0\nsem sem=m1 value=0\n"


@pytest.mark.parametrize("seed", [None, 3])
def test_deadlock_names_what_each_unit_waits_for(seed: int | None) -> None:
    text = f"{HEAD}usync unit=load | wait m0 set m1\nusync unit=store | wait m1 set m0\nbarrier scope=core\nhalt\n"
    with pytest.raises(
        SimulationError, match=r"deadlock: core 0: .*load waits for semaphore 0 in usync at word 2"
    ) as caught:
        launched(EDGE, assemble(ISA, text, "k"), [], seed=seed)
    assert "store waits for semaphore 1 in usync at word 3" in str(caught.value)
    assert "the sequencer is at the core barrier of word 4" in str(caught.value)


def test_a_barrier_that_not_all_cores_reach_is_a_deadlock() -> None:
    text = ".args 0\n.entry unified 0\n.entry unified other\nbarrier scope=launch\nother: halt\n"
    with pytest.raises(SimulationError, match="core 0: the sequencer is at the launch barrier of word 0"):
        launched(load_chip("ascend_910a"), assemble(ISA, text, "k"), [])


@pytest.mark.parametrize("seed", [None, 0])
def test_two_signals_of_one_semaphore_are_counted(seed: int | None) -> None:
    """A wait for the same semaphore twice takes two counts, and blocks at one."""
    one = f"{HEAD}usync unit=load | set m0\nusync unit=store | wait m0 m0\nhalt\n"
    with pytest.raises(SimulationError, match="store waits for semaphore 0"):
        launched(EDGE, assemble(ISA, one, "k"), [], seed=seed)
    two = one.replace("usync unit=store", "usync unit=load | set m0\nusync unit=store")
    found, _ = launched(EDGE, assemble(ISA, two, "k"), [], seed=seed)
    assert found.instructions == 3


@pytest.mark.parametrize("seed", [None, 0])
def test_long_queues_do_not_stop_the_sequencer(seed: int | None) -> None:
    """The signal stands a hundred instructions behind its wait: queues have no end here."""
    waits = "usync unit=store | wait m0\n" + "usync unit=store\n" * 100
    found, _ = launched(EDGE, assemble(ISA, f"{HEAD}{waits}usync unit=load | set m0\nhalt\n", "k"), [], seed=seed)
    assert found.instructions == 102


def test_cycle_limit_counts_the_sequencer() -> None:
    text = ".args 0\n.entry unified 0\nszc size=s0 full=100\nloop loop=l0 trip=s0\nnop\nendloop\nhalt\n"
    image = assemble(ISA, text, "k")
    sequencer = EDGE.core.sequencer
    # szc 2 words; entering the loop; per iteration nop and endloop; halt.
    words = (2 + 1 + 100 * 2 + 1) * sequencer.decode_cycles_per_word
    cycles = sequencer.start_cycles + words + 101 * sequencer.loop_cycles
    launched(EDGE, image, [], cycle_limit=cycles)
    with pytest.raises(TrapError) as caught:
        launched(EDGE, image, [], cycle_limit=cycles - 1)
    assert caught.value.trap == "cycle_limit"
    timed, _ = launched(EDGE, image, [], simulate)
    assert timed.cycles == cycles


def test_traps_name_core_unit_and_instruction() -> None:
    text = """.args 1
.entry unified 0
szc size=s0 full=1
szc size=s1 full=9
desc desc=d0 space=gm base=@arg0
desc desc=d1 space=ub base=0
ld.fp32 dst=d1 src=d0 rows=s0 cols=s1
halt
"""
    with pytest.raises(
        TrapError, match=r"core 0, unit load, ld at word 10: operand src is .* the launch may touch"
    ) as caught:
        launched(EDGE, assemble(ISA, text, "k"), [np.zeros(8, np.float32)])
    assert caught.value.trap == "gm_range"


def test_wrong_launches_are_refused() -> None:
    case = LEGAL["sequences/legal/phases"]
    image = assemble(ISA, case.text, "k")
    with pytest.raises(DeviceError, match="made for instruction set"):
        launched(EDGE, replace(image, isa_hash="ab" * 32), case.arguments)
    with pytest.raises(DeviceError, match="2 addresses given, the image takes 3"):
        launched(EDGE, image, case.arguments[:2])
    with pytest.raises(DeviceError, match="a launch on 1 cores"):
        launched(load_chip("ascend_910b1"), image, case.arguments)
