"""Kernels to launches: arguments, workspace, pins by segment, plans kept, and whole kernels run against the interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.compiler.cube.cube_run import CHIPS, the_isa
from tests.compiler.vector_run import the_chip

from npuvm.compiler import CompiledKernel, Kernel, KernelBuilder, ParamRef, compile_kernel, interpret, kernel
from npuvm.compiler.errors import CompileError
from npuvm.compiler.language.pins import Events, Pins
from npuvm.hw.functional.state import GlobalMemory
from npuvm.hw.simulator import simulate
from npuvm.isa import decode_program

Array = npt.NDArray[Any]


@kernel(x="fp16[S, K]", weight="fp16[N, K]", bias="fp16[N]")
def project(k: KernelBuilder, x: ParamRef, weight: ParamRef, bias: ParamRef) -> None:
    k.store(k.matmul(k.load(x), k.load(weight), transpose_b=True, bias=k.load(bias)))


@kernel(query="fp16[S, 24]", key="fp16[T, 24]", value="fp16[T, 24]")
def attend(k: KernelBuilder, query: ParamRef, key: ParamRef, value: ParamRef) -> None:
    """Three heads of eight columns, as views."""
    heads = [k.permute(k.reshape(k.load(p), f"{p.shape[0]}, 3, 8"), (1, 0, 2)) for p in (query, key, value)]
    scores = k.cast(k.matmul(heads[0], heads[1], transpose_b=True), "fp32")
    powers = k.exp(scores - k.max(scores, axes=-1, keepdims=True))
    weights = k.cast(powers / k.sum(powers, axes=-1, keepdims=True), "fp16")
    k.store(k.reshape(k.permute(k.matmul(weights, heads[2]), (1, 0, 2)), "S, 24"))


def compiled(
    made: Kernel, pins: Pins | None = None, chip: str = "ascend_910b1", **shapes: tuple[int, ...]
) -> CompiledKernel:
    return compile_kernel(made, shapes, the_chip(chip), the_isa(), pins)


def run(made: Kernel, inputs: Mapping[str, Array], chip: str) -> dict[str, Array]:
    """Compile for the inputs' shapes, launch everything in order, return the outputs."""
    program = compiled(made, None, chip, **{name: array.shape for name, array in inputs.items()})
    memory, places, at = GlobalMemory(1 << 24), {}, 512
    for spec in program.tensors:
        places[spec.name] = (at, spec)
        memory.reserve(at + spec.nbytes)
        if spec.kind == "param":
            memory.write(at, inputs[spec.name])
        at += -(-spec.nbytes // 512) * 512 + 512
    for launch in program.launches:
        spans = [(places[name][0], places[name][1].nbytes) for name in launch.args]
        addresses = [base for base, _ in spans]
        simulate(the_chip(chip), the_isa(), launch.image, memory=memory, addresses=addresses, windows=spans)
    outputs = {}
    for name in program.outputs:
        base, spec = places[name]
        raw = memory.read(base, spec.nbytes)
        outputs[name] = raw.view(the_isa().dtypes[spec.dtype].numpy).reshape(spec.shape)
    return outputs


def numbers(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float16)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("tokens", [1, 19, 40])
def test_views_of_heads_go_through_products_and_vectors(chip: str, tokens: int) -> None:
    inputs = {"query": numbers(tokens, 24), "key": numbers(tokens + 1, 24), "value": numbers(tokens + 1, 24)}
    (got,) = run(attend, inputs, chip).values()
    q, k, v = (x.astype(np.float64).reshape(len(x), 3, 8).swapaxes(0, 1) for x in inputs.values())
    powers = np.exp(q @ k.swapaxes(1, 2))
    want = (powers / powers.sum(-1, keepdims=True)) @ v
    np.testing.assert_allclose(got.astype(np.float64), want.swapaxes(0, 1).reshape(tokens, 24), atol=6e-3, rtol=6e-3)


@pytest.mark.parametrize("chip", CHIPS)
def test_a_projection_equals_the_interpreter(chip: str) -> None:
    inputs = {"x": numbers(33, 50), "weight": numbers(70, 50), "bias": numbers(70)}
    (got,) = run(project, inputs, chip).values()
    (want,) = interpret(project.graph, inputs).values()
    np.testing.assert_allclose(got.astype(np.float32), want.astype(np.float32), atol=2e-2, rtol=2e-3)


def test_launches_name_their_tensors() -> None:
    program = compiled(project, x=(8, 50), weight=(70, 50), bias=(70,))
    (launch,) = program.launches
    assert (launch.kind, launch.args) == ("cube", ("x", "weight", program.outputs[0], "bias"))
    assert [(t.name, t.kind, t.shape, t.nbytes) for t in program.tensors][-1][2:] == ((8, 70), 1120)
    assert program.seconds["instance"] > 0


def test_a_graph_is_planned_once() -> None:
    @kernel(x="fp16[S, 8]")
    def square(k: KernelBuilder, x: ParamRef) -> None:
        k.store(k.matmul(k.load(x), k.load(x), transpose_b=True))

    assert "plan" in compiled(square, x=(4, 8)).seconds
    assert "plan" not in compiled(square, x=(5, 8)).seconds


def test_an_empty_result_has_no_launch_but_an_output() -> None:
    program = compiled(project, x=(0, 50), weight=(70, 50), bias=(70,))
    assert program.launches == ()
    assert [t.shape for t in program.tensors if t.kind == "output"] == [(0, 70)]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CompileError, match="K is 50 from x"):
        compiled(project, x=(8, 50), weight=(70, 51), bias=(70,))


def test_pins_find_their_segments() -> None:
    pins = Pins(tile={"l1": (16, 16, 16), "vector": (4, 20)}, ring_depth={"c1.l0a": 1, "l0b": 3})
    program = compiled(attend, pins, query=(19, 24), key=(20, 24), value=(20, 24))
    kinds = [launch.kind for launch in program.launches]
    assert kinds == ["cube", "vector", "cube"]
    slots = [
        [insn.args["slots"] for _, insn in decode_program(the_isa(), launch.image.words) if insn.op == "ring"]
        for launch in program.launches
    ]
    assert [s[3:5] for s in (slots[0], slots[2])] == [[2, 3], [1, 3]], "l0a and l0b of the two products"


@pytest.mark.parametrize(
    ("pins", "message"),
    [
        (
            Pins(ring_depth={"c7.l0a": 1}),
            r"pin ring_depth.c7.l0a = 1 cannot be honoured; allowed: operands of segments c0, c1, v0",
        ),
        (Pins(ring_depth={"c0.l2": 1}), r"pin ring_depth.l2 = 1 cannot be honoured"),
        (Pins(events=Events(("l0a",))), "a kernel of one segment; this one has c0, v0, c1"),
    ],
)
def test_pins_for_no_segment_are_refused(pins: Pins, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        compiled(attend, pins, query=(19, 24), key=(20, 24), value=(20, 24))


def test_rows_too_long_for_ub_are_planned_again_in_pieces() -> None:
    @kernel(x="fp32[S, N]")
    def total(k: KernelBuilder, x: ParamRef) -> None:
        k.store(k.sum(k.load(x), axes=-1))

    values = np.ones((2, 70_000), dtype=np.float32)
    (got,) = run(total, {"x": values}, "ascend_910b1").values()
    np.testing.assert_array_equal(got, [70_000, 70_000])
