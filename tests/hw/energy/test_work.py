"""Work counts of launches against what the operators' shapes say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from benchmarks.simulator_speed import cube_program
from tests.hw.engine_kit import ISA

from npuvm.compiler import KernelBuilder, ParamRef, kernel
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.energy import Work, work_of
from npuvm.hw.errors import SimulationError
from npuvm.hw.expansion.stream import Site, Stream
from npuvm.hw.expansion.tally import Tally, unite
from npuvm.hw.simulator import simulate
from npuvm.isa import Insn
from npuvm.runtime import Device

SPLIT = load_chip("ascend_910b1")


@kernel(a="fp16[M, K]", b="fp16[N, K]")
def product(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    k.store(k.matmul(k.load(a), k.load(b), transpose_b=True))


@kernel(x="fp16[M, N]", y="fp16[M, N]")
def added(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    k.store(k.load(x) + k.load(y))


@kernel(x="fp32[M, N]")
def exponents(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.exp(k.load(x)))


def work(made: object, **shapes: tuple[int, int]) -> Work:
    """The work of one run of a kernel on inputs of these shapes, all launches together."""
    device = Device(SPLIT, timing_only=True, engine="simpy")
    dtype = "fp32" if made is exponents else "fp16"
    device.run(made, {name: device.empty(shape, dtype) for name, shape in shapes.items()})  # type: ignore[arg-type]
    return Work.sum(launch.result.work for launch in device.launches)


@pytest.mark.parametrize(("m", "n", "k"), [(64, 96, 128), (130, 70, 50)])
def test_a_product_has_the_multiply_adds_of_its_shape(m: int, n: int, k: int) -> None:
    got = work(product, a=(m, k), b=(n, k))
    assert got.multiply_adds == {"fp16": m * n * k}
    assert set(got.operations) == {"copy"}  # the fixpipe's conversions: every accumulator leaves once
    assert got.operations["copy"] == {"fp32": m * n}
    assert got.flops == 2 * m * n * k
    assert got.gm_bytes >= 2 * (m * k + k * n + m * n)


def test_element_operations_are_those_of_the_expression() -> None:
    got = work(added, x=(40, 100), y=(40, 100))
    assert got.operations == {"add": {"fp32": 4000}}  # fp16 is calculated in fp32
    assert got.multiply_adds == {}
    assert got.gm_bytes == 3 * 4000 * 2
    assert work(exponents, x=(7, 33)).operations == {"exp": {"fp32": 7 * 33}}


@pytest.mark.parametrize(
    ("chip", "block"), [(SPLIT, (16, 16, 32)), (load_chip("edge", ["core.cube.n=16"]), (8, 16, 32))]
)
def test_the_cube_reads_its_operands_block_by_block(chip: NpuConfig, block: tuple[int, int, int]) -> None:
    m, k, n, tiles, depth = 64, 64, 32, 2, 3
    image = cube_program(ISA, chip.group_core_types[0], 1, tiles, depth, (m, k, n))
    got = simulate(chip, ISA, image, data=False).work
    products = tiles * depth
    assert got.multiply_adds == {"fp16": products * m * k * n}
    steps = (m // block[0]) * (n // block[1]) * (k * 2 // block[2])
    assert got.rereads == {
        "l0a": products * (steps * block[0] * block[2] - m * k * 2),
        "l0b": products * (steps * block[1] * block[2] - k * n * 2),
    }


def test_words_are_those_of_what_was_dispatched() -> None:
    image = cube_program(ISA, "cube", 1, 2, 3, (64, 64, 64))
    result = simulate(SPLIT, ISA, image, data=False)
    assert result.work.words == sum(ISA.instruction(op).words * n for op, n in result.by_op.items())


def test_parts_add_up() -> None:
    first = Work({"fp16": 1}, {"add": {"fp32": 2}}, {"l0a": 3}, 4, 5)
    second = Work({"int8": 10}, {"add": {"int32": 20}, "mul": {"fp32": 7}}, {"l0a": 30}, 40, 50)
    expected = Work({"fp16": 1, "int8": 10}, {"add": {"fp32": 2, "int32": 20}, "mul": {"fp32": 7}}, {"l0a": 33}, 44, 55)
    assert Work.sum([first, second]) == expected
    assert Work.sum([]) == Work()
    assert expected.flops == 2 * 11 + 29


def one_instruction(site: Site, gm_rows: int = 0, gm_row_bytes: int = 0) -> Stream:
    """A stream of one instruction of sizes 1."""
    columns = {name: np.zeros(1, dtype=np.int64) for name in (each.name for each in dataclasses.fields(Stream))}
    wide = {"addr": np.zeros((1, 4), dtype=np.int64), "origin": np.zeros((1, 2), dtype=np.int64)}
    moved = {"gm_rows": np.array([gm_rows]), "gm_row_bytes": np.array([gm_row_bytes])}
    given = {**columns, **wide, **moved, "size": np.ones((1, 3), dtype=np.int64)}
    return Stream(**{**given, "sites": (site,)})  # type: ignore[arg-type]


def site_of(op: str, unit: str, function: str) -> Site:
    instruction = dataclasses.replace(ISA.instruction(op), function=function)
    names = tuple(spec.name for spec in instruction.sizes)
    return Site(0, 7, 3, unit, Insn(op, "fp16"), instruction, (), (), False, False, (), names, None)


def test_bytes_are_those_of_all_rows() -> None:
    stream = one_instruction(site_of("ld", "load", "copy_tile"), gm_rows=3, gm_row_bytes=64)
    got = work_of(SPLIT, ISA, unite([Tally.of([stream])]))
    assert got == Work({}, {}, {"l0a": 0, "l0b": 0}, 192, ISA.instruction("ld").words)


def test_an_unknown_function_is_an_error_and_not_free() -> None:
    with pytest.raises(
        SimulationError, match=r"mma at word 7: the operations of 'dream' are not known; known are: copy"
    ):
        work_of(SPLIT, ISA, unite([Tally.of([one_instruction(site_of("mma", "load", "dream"))])]))
