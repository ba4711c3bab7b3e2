"""The interpreter: rounding once per operation, wrapping, saturation, and its checks."""

from __future__ import annotations

import math
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from tests.compiler.graphs import build

from npuvm.compiler import CompileError, KernelBuilder, Value, interpret


def test_low_precision_rounds_after_every_operation() -> None:
    graph = build(lambda k, x: k.store((x + 0.0005) + 0.0005), x="fp16[N]")
    x = np.ones(1, np.float16)
    assert interpret(graph, {"x": x})["out0"][0] == np.float16(np.float16(1.0005) + np.float32(np.float16(0.0005)))


def test_bf16_computes_in_fp32() -> None:
    graph = build(lambda k, x: k.store(x * x), x="bf16[N]")
    x = np.array([1.0078125], dtype=ml_dtypes.bfloat16)
    assert float(interpret(graph, {"x": x})["out0"][0]) == 1.015625


def test_int32_wraps_and_casts_saturate() -> None:
    def body(k: KernelBuilder, x: Value, y: Value) -> None:
        k.store(x + 1)
        k.store(k.cast(y, "int8"))
        k.store(k.cast(y, "bool"))
        k.store(k.cast(y, "int32"))

    graph = build(body, x="int32[N]", y="fp32[M]")
    y = np.array([300.7, -2.9, math.nan, -math.inf, 0.0], np.float32)
    result = interpret(graph, {"x": np.array([2**31 - 1], np.int32), "y": y})
    assert result["out0"][0] == -(2**31)
    assert list(result["out1"]) == [127, -2, 0, -128, 0]
    assert list(result["out2"]) == [True, True, True, True, False]
    assert list(result["out3"]) == [300, -2, 0, -(2**31), 0]


def test_int8_products_sum_in_int32() -> None:
    graph = build(lambda k, a, b: k.store(k.matmul(a, b)), a="int8[M, K]", b="int8[K, N]")
    a, b = np.full((1, 300), 127, np.int8), np.full((300, 1), 127, np.int8)
    assert interpret(graph, {"a": a, "b": b})["out0"][0, 0] == 127 * 127 * 300


def test_activations_against_libm() -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        for name in ("erf", "tanh", "sigmoid", "silu", "softplus", "gelu"):
            k.store(getattr(k, name)(x), name=name)
        k.store(k.gelu(x, "tanh"), name="gelu_tanh")

    points = [-30.0, -3.0, -0.1, 0.0, 0.2, 2.5, 40.0]
    result = interpret(build(body, x="fp32[N]"), {"x": np.array(points, np.float32)})
    expected: dict[str, Callable[[float], float]] = {
        "erf": math.erf,
        "tanh": math.tanh,
        "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
        "silu": lambda x: x / (1 + math.exp(-x)),
        "softplus": lambda x: math.log1p(math.exp(x)),
        "gelu": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
        "gelu_tanh": lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    }
    for name, function in expected.items():
        np.testing.assert_allclose(result[name], [function(x) for x in points], rtol=1e-5, atol=1e-6, err_msg=name)


def test_wrong_inputs_are_refused() -> None:
    graph = build(lambda k, x: k.store(x), x="fp16[N]")
    with pytest.raises(CompileError, match="parameter 'x' is fp16, got float32"):
        interpret(graph, {"x": np.zeros(3, np.float32)})
    with pytest.raises(CompileError, match="no shape for parameter 'x'"):
        interpret(graph, {})


def test_raw_instructions_have_no_meaning_here() -> None:
    graph = build(lambda k, x: k.store(k.asm("vexp.fp16 dst={out} a={0} rows={rows} cols={cols}", x)), x="fp16[N]")
    with pytest.raises(CompileError, match="no meaning for 'asm'"):
        interpret(graph, {"x": np.zeros(3, np.float16)})
