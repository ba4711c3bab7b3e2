"""Vector programs on the simulator, with data and its hazard checker, against the interpreter; every image is verified."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.compiler.graphs import assert_close, build, random_inputs, vector_graphs
from tests.compiler.vector_run import CHIPS, Ran, run_graph, the_chip, the_isa

from npuvm.compiler import DTYPES, CompileError, Graph, KernelBuilder, Value, interpret
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.vector.select import Selector
from npuvm.isa import AsmError

SIZES = st.sampled_from([1, 2, 7, 16, 33, 64, 100, 129])


def check(graph: Graph, binding: dict[str, int], chip: str, pins: Pins | None = None) -> Ran:
    inputs = random_inputs(graph, binding)
    ran = run_graph(graph, inputs, the_chip(chip), pins)
    assert_close(ran.outputs, interpret(graph, inputs), {output.name: output.type for output in graph.outputs})
    return ran


def softmax(k: KernelBuilder, x: Value) -> None:
    wide = k.cast(x, "fp32")
    e = k.exp(wide - k.max(wide, -1, keepdims=True))
    k.store(k.cast(e / k.sum(e, -1, keepdims=True), x.dtype))


def layernorm(k: KernelBuilder, x: Value, gamma: Value, beta: Value) -> None:
    wide = k.cast(x, "fp32")
    centred = wide - k.mean(wide, -1, keepdims=True)
    variance = k.mean(centred * centred, -1, keepdims=True)
    k.store(k.cast(centred * k.rsqrt(variance + 1e-5) * k.cast(gamma, "fp32") + k.cast(beta, "fp32"), "fp16"))


PRIMITIVES = ["neg", "abs", "exp", "relu", "floor", "ceil", "rint", "trunc"]
ACTIVATIONS = ["sign", "tanh", "sigmoid", "silu", "erf", "gelu", "softplus"]


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_unary_operations(chip: str, dtype: str) -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        for name in PRIMITIVES:
            k.store(getattr(k, name)(x), name=name)
        positive = k.abs(x) + 0.5
        k.store(k.log(positive) + k.sqrt(positive) + k.rsqrt(positive) + k.reciprocal(positive))
        k.store(k.isfinite(x))

    check(build(body, x=f"{dtype}[M, N]"), {"M": 5, "N": 33}, chip)

    def activations(k: KernelBuilder, x: Value) -> None:
        for name in ACTIVATIONS:
            k.store(getattr(k, name)(x), name=name)
        k.store(k.gelu(x, "tanh"))

    check(build(activations, x=f"{dtype}[N]"), {"N": 300}, chip)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "int32"])
@pytest.mark.parametrize("shape", ["M, N", "N", "M, 1", "1, 1", ""])
def test_binary_operations_broadcast(dtype: str, shape: str) -> None:
    def body(k: KernelBuilder, x: Value, y: Value) -> None:
        two: Any = 2 if dtype == "int32" else 2.0
        for a, b in ((x, y), (y, x), (x, two), (two, x)):
            k.store(k.maximum(a, b) - k.minimum(b, a) * k.add(a, b))
            k.store(k.select(k.logical_or(k.lt(a, b), k.ge(a, b)), k.sub(a, b), x))
        if dtype != "int32":
            k.store((x / (k.abs(y) + 1.0)) + 3.0 / (k.abs(x) + 1.0) + 1.0 / (k.abs(y) + 2.0))
            k.store(k.pow(k.abs(x) + 1.0, y) + k.pow(2.0, y) + k.pow(k.abs(y), 1.5))

    check(
        build(body, x=f"{dtype}[M, N]", y=f"{dtype}[{shape}]"),
        {"M": 9, "N": 37},
        "ascend_910b1" if dtype == "fp16" else "edge",
    )


@pytest.mark.parametrize("source", sorted(DTYPES))
@pytest.mark.parametrize("target", sorted(DTYPES))
def test_casts(source: str, target: str) -> None:
    check(build(lambda k, x: k.store(k.cast(x, target)), x=f"{source}[M, N]"), {"M": 3, "N": 45}, "edge")


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_select_copy_and_logic(dtype: str) -> None:
    def body(k: KernelBuilder, c: Value, x: Value, y: Value) -> None:
        k.store(k.select(c, x, y))
        k.store(k.permute(x, (1, 0)))
        k.store(x)
        k.store(
            k.broadcast_to(
                k.const(1, dtype) if dtype.startswith("int") else k.const(dtype == "bool" or 1.5, dtype), "M, N"
            )
        )
        k.store(c & ~c | (c ^ True))

    check(build(body, c="bool[M, N]", x=f"{dtype}[M, N]", y=f"{dtype}[M, N]"), {"M": 6, "N": 35}, "edge")


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1, 300), (37, 1), (64, 128), (13, 100), (500, 17)])
def test_softmax(chip: str, rows: int, cols: int) -> None:
    ran = check(build(softmax, x="fp16[M, N]"), {"M": rows, "N": cols}, chip)
    assert len(ran.kernels) == 1


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(("rows", "cols"), [(1, 384), (23, 384), (130, 64), (3, 50)])
def test_layernorm(chip: str, rows: int, cols: int) -> None:
    ran = check(build(layernorm, x="fp16[M, N]", gamma="fp16[N]", beta="fp16[N]"), {"M": rows, "N": cols}, chip)
    assert len(ran.kernels) == 1


@pytest.mark.parametrize("chip", CHIPS)
def test_rows_that_do_not_fit_are_cut(chip: str) -> None:
    ran = check(build(softmax, x="fp16[M, N]"), {"M": 2, "N": 40_001}, chip)
    assert len(ran.kernels) == 3


def test_rows_that_fit_only_without_a_second_slot() -> None:
    ran = check(build(softmax, x="fp16[M, N]"), {"M": 3, "N": 13_500}, "ascend_910b1")
    assert len(ran.kernels) == 1


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int32"])
def test_reduces_over_any_axes(axes: tuple[int, ...], dtype: str) -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        k.store(k.sum(x, axes))
        k.store(k.max(x, axes, keepdims=True))
        k.store(-k.min(x, axes))

    graph = build(body, x=f"{dtype}[A, B, C]")
    check(graph, {"A": 5, "B": 7, "C": 40}, "ascend_910b1" if dtype == "fp16" else "edge")
    check(graph, {"A": 1, "B": 300, "C": 1}, "edge")


def test_a_long_reduce_accumulates_over_tiles_of_both_axes() -> None:
    check(build(lambda k, x: k.store(k.sum(x)), x="fp16[M, N]"), {"M": 700, "N": 300}, "edge")
    check(build(lambda k, x: k.store(k.max(x, 0) * 2.0), x="fp32[M, N]"), {"M": 3000, "N": 20}, "edge")


def test_reduce_of_a_view_with_gaps() -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        k.store(k.sum(k.permute(x, (1, 0, 2)), (1, 2)))
        k.store(k.max(k.permute(x, (2, 1, 0)), (1, 2)))

    check(build(body, x="fp32[A, B, C]"), {"A": 4, "B": 5, "C": 6}, "ascend_910a")


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("chip", CHIPS)
def test_sizes_zero_and_one(size: int, chip: str) -> None:
    def body(k: KernelBuilder, x: Value, y: Value) -> None:
        k.store(k.exp(x) + y)
        k.store(k.sum(x, 1) + 1.0)
        k.store(k.sum(x, 0, keepdims=True) * y)

    graph = build(body, x="fp32[M, N]", y="fp32[N]")
    check(graph, {"M": 3, "N": size}, chip)
    check(graph, {"M": size, "N": 3}, chip)
    check(graph, {"M": size, "N": size}, chip)


def test_nothing_to_write_is_no_program() -> None:
    ran = check(build(lambda k, x: k.store(k.exp(x)), x="fp32[M, N]"), {"M": 0, "N": 5}, "edge")
    assert not ran.kernels


def test_a_maximum_over_nothing_is_an_error() -> None:
    graph = build(lambda k, x: k.store(k.max(x, 1)), x="fp32[M, N]")
    with pytest.raises(CompileError, match="empty axis"):
        check(graph, {"M": 3, "N": 0}, "edge")


def test_raw_instructions_name_only_what_there_is() -> None:
    graph = build(lambda k, x: k.store(k.asm("vexp.fp16 dst={out} a={1} rows={rows} cols={cols}", x)), x="fp16[N]")
    with pytest.raises(CompileError, match=r"names: \{out\}, \{rows\}, \{cols\}, \{0\}"):
        run_graph(graph, random_inputs(graph, {"N": 5}), the_chip("edge"))
    graph = build(lambda k, x: k.store(k.asm("vexp.fp16 dst={out}", x)), x="fp16[N]")
    with pytest.raises(AsmError, match="operand a is missing"):
        run_graph(graph, random_inputs(graph, {"N": 5}), the_chip("edge"))


def test_an_instruction_set_may_lack_an_operation() -> None:
    select = Selector(the_isa())
    with pytest.raises(CompileError, match="no instruction for div of int32"):
        select.join("div", "int32")
    with pytest.raises(CompileError, match="no instruction for reduce_sum over the last axis of bool"):
        select.reduce("reduce_sum", "bool", "last")


def test_views_are_read_and_written_in_place() -> None:
    def body(k: KernelBuilder, x: Value, y: Value) -> None:
        heads = k.permute(k.reshape(x, "S, 4, 8"), (1, 0, 2))
        k.store(k.reshape(k.permute(k.relu(heads) + y, (1, 0, 2)), "S, 32"))
        k.store(k.transpose(x) * 2.0)
        k.store(k.reshape(k.transpose(k.exp(x)), "-1"))

    ran = check(build(body, x="fp16[S, 32]", y="fp16[8]"), {"S": 21}, "ascend_910b1")
    assert all(tensor.kind != "workspace" for tensor in ran.plan.tensors)


def test_a_row_computed_from_a_row_is_computed_once_for_all_rows() -> None:
    def body(k: KernelBuilder, x: Value, row: Value, column: Value) -> None:
        scale = k.exp(row)
        k.store(x * scale + k.sqrt(k.abs(column)))
        k.store(scale)
        k.store(column * 2.0)

    graph = build(body, x="fp32[M, N]", row="fp32[N]", column="fp32[M, 1]")
    check(graph, {"M": 40, "N": 300}, "edge")
    check(graph, {"M": 3, "N": 2}, "ascend_910b1")


def test_mixed_with_matrix_products() -> None:
    def body(k: KernelBuilder, x: Value, w: Value, b: Value) -> None:
        h = k.gelu(k.matmul(x, w, bias=b))
        k.store(k.matmul(h, w, transpose_b=True) + x)

    check(build(body, x="fp16[M, 32]", w="fp16[32, 32]", b="fp16[32]"), {"M": 19}, "ascend_910b1")


def test_raw_instructions() -> None:
    def body(k: KernelBuilder, x: Value, y: Value) -> None:
        text = "vadd.fp16 dst={out} a={0} b={1} rows={rows} cols={cols}\n"
        text += "vexp.fp16 dst={out} a={out} rows={rows} cols={cols} | order"
        k.store(k.asm(text, x * 0.5, y) + 1.0)

    graph = build(body, x="fp16[M, N]", y="fp16[N]")
    inputs = random_inputs(graph, {"M": 20, "N": 40})
    ran = run_graph(graph, inputs, the_chip("edge"))
    half = (inputs["x"].astype(np.float32) * 0.5).astype(np.float16).astype(np.float32)
    total = (half + inputs["y"]).astype(np.float16).astype(np.float32)
    want = np.exp(total).astype(np.float16).astype(np.float32) + 1
    np.testing.assert_allclose(ran.outputs["out0"].astype(np.float32), want, rtol=1e-2)


@pytest.mark.parametrize("chip", CHIPS)
def test_raw_instructions_wait_for_all_their_loads(chip: str) -> None:
    # two rings to read and one to write: one wait more than an instruction holds
    def body(k: KernelBuilder, x: Value, y: Value) -> None:
        k.store(k.asm("vsub.fp16 dst={out} a={0} b={1} rows={rows} cols={cols}", x, y))

    graph = build(body, x="fp16[M, N]", y="fp16[M, N]")
    inputs = random_inputs(graph, {"M": 200, "N": 300})
    ran = run_graph(graph, inputs, the_chip(chip))
    np.testing.assert_array_equal(ran.outputs["out0"], inputs["x"] - inputs["y"])


@pytest.mark.parametrize("chip", CHIPS)
@given(case=vector_graphs())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_generated_kernels(chip: str, case: tuple[Graph, dict[str, int]]) -> None:
    check(*case, chip)


@given(
    case=vector_graphs(),
    sizes=st.tuples(*[st.sampled_from([0, 0, 1, 7, 65])] * 3),
    chip=st.sampled_from(CHIPS),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_generated_kernels_with_empty_sizes(
    case: tuple[Graph, dict[str, int]], sizes: tuple[int, ...], chip: str
) -> None:
    graph, symbols = case
    binding = dict(zip(symbols, sizes, strict=False))
    try:
        graph.bind({param.name: evaluate(param.type.shape, binding) for param in graph.params})
    except CompileError as error:
        assert "empty" in error.message
        return
    check(graph, binding, chip)


@given(
    a=SIZES,
    b=SIZES,
    c=SIZES,
    present=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    chip=st.sampled_from(CHIPS),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_broadcast(a: int, b: int, c: int, present: tuple[bool, bool, bool], chip: str) -> None:
    dims = ", ".join(dim if flag else "1" for dim, flag in zip("ABC", present, strict=True))
    graph = build(lambda k, x, y: k.store(k.exp(y) * x - y), x="fp16[A, B, C]", y=f"fp16[{dims}]")
    check(graph, {"A": a % 5 + 1, "B": b, "C": c}, chip)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("binding", [{"M": 5, "N": 0}, {"M": 0, "N": 7}, {"M": 0, "N": 0}])
def test_outputs_with_elements_beside_empty_ones(chip: str, binding: dict[str, int]) -> None:
    def body(k: KernelBuilder, x: Value, row: Value, scalar: Value) -> None:
        k.store(k.sum(x + row * scalar, -1) + scalar, name="sums")
        k.store(x * scalar, name="all")
        k.store(row + 1.0, name="plus")
        k.store(-scalar, name="minus")

    check(build(body, x="fp32[M, N]", row="fp32[1, N]", scalar="fp32[]"), binding, chip)


@pytest.mark.parametrize("chip", CHIPS)
def test_a_widened_matrix_serves_all_batches(chip: str) -> None:
    def body(k: KernelBuilder, x: Value, y: Value) -> None:
        wide = k.cast(y, "fp32")
        k.store(x + wide)
        k.store(k.sum(wide, -1))

    check(build(body, x="fp32[B, M, N]", y="fp16[M, N]"), {"B": 3, "M": 4, "N": 5}, chip)


@pytest.mark.parametrize("dtype", ["int8", "fp16", "bool", "int32"])
def test_a_size_is_converted_as_a_cast_is(dtype: str) -> None:
    check(build(lambda k, x: k.store(k.size("N", dtype)), x="fp32[N]"), {"N": 300}, "edge")


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_a_size_is_cast_without_an_instruction(dtype: str) -> None:
    check(build(lambda k, x: k.store(x * k.cast(k.size("N", "int32"), dtype)), x=f"{dtype}[N]"), {"N": 300}, "edge")
