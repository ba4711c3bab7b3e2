"""Buffers of vector kernels on a chip whose UB has banks: operands that are read together lie half a stripe apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.compiler.graphs import CASTS, build
from tests.compiler.vector_run import run_graph, the_chip, the_isa

from npuvm.compiler import KernelBuilder, Value
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.vector.codegen import VectorKernel, compile_vector
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.expansion.expand import Expansions
from npuvm.hw.expansion.stream import Stream

BANKED = "ascend_910b1"
STRIPE = 16 * 32
"""Bytes of a stripe of its UB: 16 groups, blocks of 32 bytes."""


def add(k: KernelBuilder, x: Value, y: Value) -> None:
    k.store(x + y)


def mixed(k: KernelBuilder, x: Value, y: Value) -> None:
    k.store(k.exp(x - y) * (x + 3.0) + y)


def compiled(body: Any, shape: tuple[int, int], chip: NpuConfig, pins: Pins | None = None) -> VectorKernel:
    (segment,) = make_plan(build(body, x="fp32[M, N]", y="fp32[M, N]"), CASTS).segments
    assert isinstance(segment, VectorSegment)
    made = compile_vector(segment, dict(zip("MN", shape, strict=True)), chip, the_isa(), pins)
    assert made is not None
    return made


def streams(made: VectorKernel, chip: NpuConfig) -> list[Stream]:
    """What the first core dispatches."""
    image = made.image
    found = Expansions(the_isa(), image.words, chip, image.relocs).launch(image.entries, [1 << 20] * image.n_args)[0]
    return [region for region in found if isinstance(region, Stream)]


def conflicts(made: VectorKernel, chip: NpuConfig) -> tuple[int, int]:
    """Cycles of the first core's vector unit that are bank conflicts, and all."""
    vector = [np.array([site.unit_name == "vector" for site in each.sites])[each.site] for each in streams(made, chip)]
    lost = sum(int(each.bank.sum()) for each in streams(made, chip))
    return lost, sum(int(each.occupancy[at].sum()) for each, at in zip(streams(made, chip), vector, strict=True))


def ub_bases(made: VectorKernel, chip: NpuConfig) -> list[set[int]]:
    """Addresses of the vector instruction's operands in UB: result, x, y."""
    found: list[set[int]] = [set(), set(), set()]
    for stream in streams(made, chip):
        for index, row in zip(stream.rows.site, stream.addr_rows, strict=True):
            if stream.sites[index].insn.op == "vadd":
                for operand in range(3):
                    found[operand].add(row[operand])
    return found


@pytest.mark.parametrize("shape", [(96, 1024), (480, 512), (96, 2080), (1000, 71)])
def test_inputs_of_an_addition_are_half_a_stripe_apart(shape: tuple[int, int]) -> None:
    chip = the_chip(BANKED)
    made = compiled(add, shape, chip)
    _, x, y = ub_bases(made, chip)
    assert {(a - b) % STRIPE for a in x for b in y} == {STRIPE // 2}


def test_the_conflicts_are_gone_or_fewer() -> None:
    """The same kernel with its buffers one behind the other, as for a chip without banks, loses to conflicts."""
    chip, plain = the_chip(BANKED), load_chip(BANKED, ["core.ub_banks=null"])
    for body, shape, tile in ((add, (480, 512), (2, 512)), (mixed, (480, 1024), (4, 1024))):
        pins = Pins(tile={"vector": tile})
        lost, _ = conflicts(compiled(body, shape, chip, pins), chip)
        before, cycles = conflicts(compiled(body, shape, plain, pins), chip)
        assert before > 0.1 * cycles
        assert lost < 0.6 * before
    assert conflicts(compiled(add, (480, 512), chip, Pins(tile={"vector": (2, 512)})), chip)[0] == 0


@pytest.mark.parametrize("shape", [(96, 1024), (7, 333), (1000, 71)])
def test_results_are_right(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    inputs = {name: rng.standard_normal(shape).astype(np.float32) for name in ("x", "y")}
    ran = run_graph(build(mixed, x="fp32[M, N]", y="fp32[M, N]"), inputs, the_chip(BANKED))
    (result,) = ran.outputs.values()
    x, y = inputs["x"], inputs["y"]
    np.testing.assert_allclose(result, np.exp(x - y) * (x + 3) + y, rtol=1e-5, atol=1e-5)


def test_a_tile_that_leaves_no_room_lies_without_gaps() -> None:
    """Three rings of two tiles of 8192 fp32 fill the 192 KiB of UB to the last byte."""
    chip = the_chip(BANKED)
    made = compiled(add, (96, 8192), chip, Pins(tile={"vector": (1, 8192)}))
    assert {address % STRIPE for operand in ub_bases(made, chip) for address in operand} == {0}
    assert (made.tile.rows, made.tile.cols) == (1, 8192)


def test_pinned_addresses_are_kept() -> None:
    chip = the_chip(BANKED)
    pins = Pins(tile={"vector": (1, 512)}, address={"x": 0x4000, "y": 0x8000})
    made = compiled(add, (96, 512), chip, pins)
    _, x, y = ub_bases(made, chip)
    assert (min(x), min(y)) == (0x4000, 0x8000)


def test_a_chip_without_banks_gets_its_buffers_one_behind_the_other() -> None:
    chip = the_chip("edge")
    result, x, y = ub_bases(compiled(add, (8, 64), chip, Pins(tile={"vector": (1, 24)})), chip)
    tile = 24 * 4
    assert sorted(result | x | y) == [tile * n for n in range(6)]
