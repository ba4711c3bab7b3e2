"""Legal forms: accuracy of the activations, safety at extremes, and the shape of the result."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.graphs import CASTS, assert_close, build, random_inputs, vector_graphs

from npuvm.compiler import DTYPES, Graph, KernelBuilder, Value, interpret, print_graph
from npuvm.compiler.selection.legalize import legalize

COMPOSITES = ("tanh", "sigmoid", "silu", "gelu", "erf", "softplus", "sign", "mean")

EXACT: dict[str, Callable[[float], float]] = {
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)) if x > -700 else 0.0,
    "silu": lambda x: x / (1 + math.exp(-x)) if x > -700 else 0.0,
    "gelu": lambda x: 0.5 * x * math.erfc(-x / math.sqrt(2)),
    "erf": math.erf,
    "softplus": lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x))),
}


def legal(graph: Graph, *, wide_sums: bool = False) -> Graph:
    result = legalize(graph, CASTS, wide_sums=wide_sums)
    for node in result.nodes:
        assert node.op not in COMPOSITES
        if node.op == "cast":
            assert (node.inputs[0].type.dtype, node.type.dtype) in CASTS
        if node.op.startswith("reduce"):
            assert node.attrs["keepdims"] is True
            axes = node.axes()
            assert list(axes) == list(range(axes[0], axes[-1] + 1))
    return result


@pytest.mark.parametrize("name", sorted(EXACT))
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_activations_are_accurate(name: str, dtype: str) -> None:
    graph = legal(build(lambda k, x: k.store(getattr(k, name)(x)), x=f"{dtype}[N]"))
    x = np.concatenate([np.linspace(-12, 12, 4001), np.logspace(-6, 0, 200)]).astype(DTYPES[dtype].numpy)
    result = interpret(graph, {"x": x})["out0"].astype(np.float64)
    exact = np.array([EXACT[name](float(each)) for each in x])
    unit = 2e-7 if dtype == "fp32" else 1e-3
    assert np.max(np.abs(result - exact) / (1 + np.abs(exact))) < 3 * unit


@pytest.mark.parametrize("name", sorted(EXACT))
def test_activations_are_safe_at_extremes(name: str) -> None:
    graph = legal(build(lambda k, x: k.store(getattr(k, name)(x)), x="fp32[N]"))
    x = np.array([-3e38, -1e4, -100.0, -0.0, 0.0, 100.0, 1e4, 3e38], np.float32)
    result = interpret(graph, {"x": x})["out0"]
    assert list(result) == pytest.approx([EXACT[name](float(each)) for each in x], abs=1e-6)
    assert math.isnan(interpret(graph, {"x": np.array([math.nan], np.float32)})["out0"][0])


def test_gelu_by_tanh() -> None:
    graph = legal(build(lambda k, x: k.store(k.gelu(x, "tanh")), x="fp32[N]"))
    x = np.array([-3e38, -20.0, -3.0, -0.5, 0.0, 0.5, 3.0, 20.0, 3e38], np.float32)
    exact = [0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in x.astype(float)[1:-1]]
    np.testing.assert_allclose(interpret(graph, {"x": x})["out0"], [0.0, *exact, 3e38], rtol=1e-5, atol=1e-6)


def test_sign_keeps_zeros_and_nan() -> None:
    graph = legal(build(lambda k, x: k.store(k.sign(x)), x="fp32[N]"))
    result = interpret(graph, {"x": np.array([-2.0, -0.0, 0.0, 3.0, math.nan], np.float32)})["out0"]
    np.testing.assert_array_equal(result, [-1, 0, 0, 1, math.nan])


@pytest.mark.parametrize("source", sorted(DTYPES))
@pytest.mark.parametrize("target", sorted(DTYPES))
def test_every_cast_has_a_way(source: str, target: str) -> None:
    graph = build(lambda k, x: k.store(k.cast(x, target)), x=f"{source}[N]")
    inputs = random_inputs(graph, {"N": 50})
    np.testing.assert_array_equal(interpret(legal(graph), inputs)["out0"], interpret(graph, inputs)["out0"])


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_select_of_every_dtype(dtype: str) -> None:
    def body(k: KernelBuilder, c: Value, a: Value, b: Value) -> None:
        k.store(k.select(c, a, b))

    graph = build(body, c="bool[N]", a=f"{dtype}[N]", b=f"{dtype}[N]")
    result = legal(graph)
    assert all(node.type.dtype not in ("bool", "int8") for node in result.nodes if node.op == "select")
    inputs = random_inputs(graph, {"N": 50})
    np.testing.assert_array_equal(interpret(result, inputs)["out0"], interpret(graph, inputs)["out0"])


def test_mean_of_fp16_does_not_overflow() -> None:
    graph = legal(build(lambda k, x: k.store(k.mean(x)), x="fp16[M, N]"))
    assert interpret(graph, {"x": np.full((4, 100), 60000, np.float16)})["out0"] == np.float16(60000)


def test_a_reshape_moves_behind_what_follows() -> None:
    def body(k: KernelBuilder, x: Value, y: Value) -> None:
        k.store(k.tanh(k.sum(x, 1)) * y + 1.0)

    text = print_graph(legal(build(body, x="fp32[M, N]", y="fp32[M]")))
    assert text.splitlines()[-3].endswith("{shape = [M]} : fp32[M]")
    assert text.count("reshape") == 2


def test_constants_fold_and_equal_values_are_shared() -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        scale = k.sqrt(k.const(4.0, "fp32"))
        k.store(k.exp(x * scale) + k.exp(x * 2.0))

    ops = [node.op for node in legal(build(body, x="fp32[N]")).nodes]
    assert ops == ["load", "const", "mul", "exp", "add", "store"]


def test_unused_values_vanish() -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        k.exp(x)
        k.store(x)

    assert [node.op for node in legal(build(body, x="fp32[N]")).nodes] == ["load", "store"]


def test_wide_sums_are_made_in_fp32() -> None:
    graph = build(lambda k, x: k.store(k.sum(x, 1)), x="fp16[M, N]")
    assert [node.type.dtype for node in legal(graph).nodes if node.op == "reduce_sum"] == ["fp16"]
    assert [node.type.dtype for node in legal(graph, wide_sums=True).nodes if node.op == "reduce_sum"] == ["fp32"]


@given(vector_graphs(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_legal_graphs_compute_the_same(case: tuple[Graph, dict[str, int]], wide_sums: bool) -> None:
    graph, binding = case
    inputs = random_inputs(graph, binding)
    kinds = {output.name: output.type for output in graph.outputs}
    assert_close(interpret(legal(graph, wide_sums=wide_sums), inputs), interpret(graph, inputs), kinds)
