"""Pins of vector kernels: each is seen in the program, and one that cannot be honoured is an error that names it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.compiler.graphs import CASTS, assert_close, build, random_inputs
from tests.compiler.vector_run import Ran, run_graph, the_chip, the_isa

from npuvm.compiler import CompileError, Graph, KernelBuilder, Value, interpret
from npuvm.compiler.language.pins import Events, Pins
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.vector.codegen import VectorKernel, compile_vector
from npuvm.isa import Insn, decode_program

BINDING = {"M": 100, "N": 300}


def scaled(k: KernelBuilder, x: Value, y: Value) -> None:
    k.store(k.exp(x) * y)


def row_sum(k: KernelBuilder, x: Value, y: Value) -> None:
    k.store(k.sum(x + y, -1))


def shares(k: KernelBuilder, x: Value, y: Value) -> None:
    k.store(x / k.sum(x + y, -1, keepdims=True))


def kernel(body: Any = scaled) -> Graph:
    return build(body, x="fp16[M, N]", y="fp16[N]")


def run(pins: Pins, body: Any = scaled, chip: str = "ascend_910b1") -> Ran:
    graph = kernel(body)
    inputs = random_inputs(graph, BINDING)
    ran = run_graph(graph, inputs, the_chip(chip), pins)
    assert_close(ran.outputs, interpret(graph, inputs), {output.name: output.type for output in graph.outputs})
    return ran


def compiled(pins: Pins, body: Any = scaled, chip: str = "ascend_910b1") -> VectorKernel:
    segment = make_plan(kernel(body), CASTS).segments[0]
    assert isinstance(segment, VectorSegment)
    result = compile_vector(segment, BINDING, the_chip(chip), the_isa(), pins)
    assert result is not None
    return result


def insns(made: VectorKernel, op: str) -> list[Insn]:
    return [insn for _, insn in decode_program(the_isa(), made.image.words) if insn.op == op]


@pytest.mark.parametrize("tile", [(1, 300), (7, 300), (16, 64), (100, 1), (40, 320)])
def test_tile(tile: tuple[int, int]) -> None:
    made = run(Pins(tile={"vector": tile})).kernels[0]
    assert (made.tile.rows, made.tile.cols) == tile


def test_flat_values_have_no_rows() -> None:
    graph = build(lambda k, x: k.store(x + 1.0), x="fp16[M, N]")
    made = run_graph(graph, random_inputs(graph, BINDING), the_chip("edge"), Pins(tile={"vector": (40, 100)})).kernels[
        0
    ]
    assert (made.tile.rows, made.tile.cols) == (1, 100)
    assert sum(stop - start for each in made.image.entries for start, stop in each.ranges) == 300


def test_cores_and_their_starts() -> None:
    ran = run(Pins(tile={"vector": (10, 100)}, cores=4, start=2))
    made = ran.kernels[0]
    assert len(made.image.entries) == 4
    assert made.image.entries[0].ranges == ((0, 8), (0, 0))
    first = [entry.ranges[0][0] for entry in made.image.entries]
    assert first[1:] == [8 + 2, 16 + 4, 23 + 6]


def test_grid_of_cores() -> None:
    made = run(Pins(tile={"vector": (10, 100)}, grid=(2, 3))).kernels[0]
    assert len(made.image.entries) == 6


@pytest.mark.parametrize(
    ("pins", "dims"),
    [
        ({"order": "row"}, ["d0", "d1"]),
        ({"order": "column"}, ["d1", "d0"]),
        ({"order": "swizzle", "swizzle_width": 2}, ["d0", "d1", "d0"]),
    ],
)
def test_order_of_tiles(pins: dict[str, Any], dims: list[str]) -> None:
    made = run(Pins(tile={"vector": (10, 100)}, **pins)).kernels[0]
    assert [axis.dim for axis in made.walk.grids[0].axes] == dims


@pytest.mark.parametrize("body", [scaled, row_sum])
def test_ring_depth(body: Any) -> None:
    made = run(Pins(ring_depth={"x": 3, "out0": 1}), body).kernels[0]
    assert sorted(insn.args["slots"] for insn in insns(made, "ring")) == [1, 2, 3]


def test_addresses() -> None:
    made = run(Pins(tile={"vector": (4, 300)}, address={"x": 65536, "tmp0": 32768})).kernels[0]
    bases = {insn.args["base"] for insn in insns(made, "desc")}
    assert {65536, 32768} <= bases


def test_cache_policies() -> None:
    made = run(Pins(cache={"y": "stream", "out0": "stream"})).kernels[0]
    assert sorted(insn.args["cache"] for insn in insns(made, "ld")) == [0, 1]
    assert [insn.args["cache"] for insn in insns(made, "st")] == [1]


def test_transfer_shape() -> None:
    made = run(Pins(tile={"vector": (10, 300)}, transfer={"x": (4, 128), "y": (1, 128)})).kernels[0]
    assert len(insns(made, "ld")) == 3 * 3 + 3


def test_repeat_count() -> None:
    assert len(insns(run(Pins(tile={"vector": (8, 300)}, repeat=6)).kernels[0], "vexp")) == 4
    assert len(insns(run(Pins(tile={"vector": (8, 300)}, repeat=2)).kernels[0], "vexp")) == 16
    made = run(Pins(tile={"vector": (32, 300)}, repeat=48), row_sum).kernels[0]
    assert len(insns(made, "vsuml")) == 2


def test_events_by_hand() -> None:
    events = Events(
        operands=("x",),
        waits={"load.x": ("x.free",), "vector.acquire": ("x.ready", "go")},
        sets={"load.x": ("x.ready",), "vector.release": ("x.free",), "store.out0": ("go",)},
        semaphores={"go": 1},
    )
    made = run(Pins(events=events, tile={"vector": (10, 300)})).kernels[0]
    assert len(insns(made, "sem")) == 1


@pytest.mark.parametrize(
    ("pins", "message"),
    [
        (Pins(tile={"vector": (4096, 300)}), r"tile.vector = \(4096, 300\).*fit UB"),
        (Pins(tile={"l1": (16, 16, 16)}), r"tile.l1.*tile.vector for a vector kernel"),
        (Pins(l1_depth=2), "pin l1_depth = 2 .* no matrix product"),
        (Pins(l1_k={"a": 64}), "pin l1_k .* no matrix product"),
        (Pins(l0c_parts=2), "pin l0c_parts = 2 .* no matrix product"),
        (Pins(grid=(1, 1), part=(64, 64)), "pin part .* no matrix product"),
        (Pins(cores=49), "at most 48 cores with a vector unit"),
        (Pins(grid=(7, 7)), "at most 48 cores"),
        (Pins(ring_depth={"z": 2}), "ring_depth.z = 2.*operands x, y, out0|operands y, x, out0"),
        (Pins(ring_depth={"x": 255}, tile={"vector": (100, 300)}), "fit UB"),
        (Pins(address={"nothing": 0}), "address.nothing"),
        (Pins(address={"x": 3}), "multiple of 32"),
        (Pins(address={"x": 192 * 1024}), "past the"),
        (Pins(cache={"z": "stream"}), "cache.z"),
        (Pins(transfer={"out0": (1, 1)}), "transfer.out0"),
        (Pins(transfer={"x": (1, 100)}, tile={"vector": (4, 300)}), "transfer.x.*columns in multiples of 16"),
        (Pins(events=Events(operands=("z",))), "events.operands = 'z'"),
        (Pins(events=Events(waits={"mma": ()})), "events.waits = 'mma'"),
        (Pins(events=Events(sets={"load.x": ("gone",)})), "events.sets.load.x = 'gone'"),
    ],
)
def test_what_cannot_be_honoured(pins: Pins, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        compiled(pins)


def test_whole_rows_and_whole_reduces() -> None:
    with pytest.raises(CompileError, match="at least 1 x 300, all that is reduced"):
        compiled(Pins(tile={"vector": (4, 100)}), shares)
    with pytest.raises(CompileError, match=r"repeat = 1.*vsuml cannot be cut"):
        compiled(Pins(repeat=1), row_sum)
