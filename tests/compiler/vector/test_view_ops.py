"""Slices, concatenation, padding, windows and strided views against numpy, in the interpreter, in plans and on the chips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.compiler.graphs import CASTS, build, random_inputs, run_plan
from tests.compiler.vector_run import CHIPS, run_graph, run_plan_on, the_chip

from npuvm.compiler import CompileError, Graph, KernelBuilder, Value, interpret, parse_graph, print_graph
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.plan.segments import VectorSegment

Array = npt.NDArray[Any]


@dataclass
class Mirror:
    """A kernel's body, and the same on numpy arrays; what it stores is kept in `expected`."""

    steps: list[tuple[int, int]]
    arrays: list[Array] = field(default_factory=list)
    expected: dict[str, Array] = field(default_factory=dict)

    def __call__(self, k: KernelBuilder, x: Value) -> None:
        values = [x]
        for kind, number in self.steps:
            at = number % len(values)
            value, array = _STEPS[kind](k, values[at], self.arrays[at], number // 7)
            values.append(value)
            self.arrays.append(array)
            if number % 3 == 0:
                self.store(k, value, array)
        self.store(k, values[-1], self.arrays[-1])

    def store(self, k: KernelBuilder, value: Value, array: Array) -> None:
        name = f"result{len(self.expected)}"
        self.expected[name] = array
        k.store(value, name=name)


Pair = tuple[Value, Array]


def _axis(array: Array, number: int) -> int:
    return number % array.ndim


def _slice(k: KernelBuilder, x: Value, a: Array, number: int) -> Pair:
    bounds = [None, 0, 1, 2, 5, -1, -3, 40, -40]
    start, stop, step = bounds[number % 9], bounds[number // 9 % 9], (1, 1, 2, 3)[number // 81 % 4]
    at = _axis(a, number // 324)
    place = (*[slice(None)] * at, slice(start, stop, step))
    return k.slice(x, start, stop, step, axes=at), a[place]


def _pad(k: KernelBuilder, x: Value, a: Array, number: int) -> Pair:
    pads = [(number // 4**i % 3, number // 4**i % 2) for i in range(a.ndim)]
    return k.pad(x, pads, 2.0), np.pad(a, pads, constant_values=2)


def _concat(k: KernelBuilder, x: Value, a: Array, number: int) -> Pair:
    at = _axis(a, number)
    other = (x * 2.0, a * 2) if number % 2 else (x, a)
    parts = [(x, a), other, (k.relu(x), np.maximum(a, 0))][: 2 + number // 2 % 2]
    return k.concat([value for value, _ in parts], at), np.concatenate([array for _, array in parts], at)


def _stack(k: KernelBuilder, x: Value, a: Array, number: int) -> Pair:
    at = number % (a.ndim + 1) if a.ndim < 4 else 0
    if a.ndim == 4:
        return k.neg(x), -a
    return k.stack([x, k.neg(x)], at), np.stack([a, -a], at)


def _split(k: KernelBuilder, x: Value, a: Array, number: int) -> Pair:
    at = _axis(a, number)
    if a.shape[at] < 3:
        return k.neg(x), -a
    first, second = k.split(x, (2, -1), at)
    left, right = np.split(a, [2], at)
    return (second, right) if number % 2 else (k.concat((second, first), at), np.concatenate((right, left), at))


def _windows(k: KernelBuilder, x: Value, a: Array, number: int) -> Pair:
    at = _axis(a, number)
    kernel, step, dilation = 1 + number // 3 % 3, 1 + number // 9 % 2, 1 + number // 18 % 2
    span = (kernel - 1) * dilation + 1
    if a.shape[at] < span:
        return k.neg(x), -a
    every = np.lib.stride_tricks.sliding_window_view(a, span, axis=at)
    picked = np.take(every, np.arange(0, every.shape[at], step), at)[..., ::dilation]
    empty = 0 in picked.shape
    if number // 36 % 2 or empty or a.ndim == 4:
        return k.max(k.windows(x, at, kernel, step, dilation), -1), picked.max(-1) if not empty else picked[..., 0]
    return k.windows(x, at, kernel, step, dilation), picked


def _strided(k: KernelBuilder, x: Value, a: Array, number: int) -> Pair:
    strides = (number % 4, number // 4 % 3)
    rest = a.size - 1 - number // 12 % 3
    if rest < 0:
        return k.neg(x), -a
    rows = 1 + min(number // 36 % 5, rest // max(strides[0], 1))
    cols = 1 + min(number // 180 % 5, (rest - (rows - 1) * strides[0]) // max(strides[1], 1))
    offset = a.size - 1 - rest
    places = offset + np.arange(rows)[:, None] * strides[0] + np.arange(cols) * strides[1]
    return k.as_strided(x, (rows, cols), strides, offset), a.reshape(-1)[places]


def _permute(k: KernelBuilder, x: Value, a: Array, number: int) -> Pair:
    order = sorted(range(a.ndim), key=lambda axis: (number >> axis) % 7)
    return k.permute(x, order), a.transpose(order)


def _flat(k: KernelBuilder, x: Value, a: Array, number: int) -> Pair:
    return k.reshape(x, "-1"), a.reshape(-1)


def _relu(k: KernelBuilder, x: Value, a: Array, number: int) -> Pair:
    return k.relu(x), np.maximum(a, 0)


def _sum(k: KernelBuilder, x: Value, a: Array, number: int) -> Pair:
    if 0 in a.shape:
        return k.neg(x), -a
    at = _axis(a, number)
    return k.max(x, at, keepdims=True), a.max(at, keepdims=True)


def _product(k: KernelBuilder, x: Value, a: Array, number: int) -> Pair:
    """Small whole numbers, so that sums are exact in any order."""
    if a.ndim < 2 or a.dtype != np.float16 or 0 in a.shape:
        return k.neg(x), -a
    wide, flipped = a.astype(np.float32), np.swapaxes(a, -1, -2).astype(np.float32)
    result = wide @ flipped if number % 2 else flipped @ wide
    if np.abs(result).max() > 2000:
        return k.neg(x), -a
    value = k.matmul(x, x, transpose_b=True) if number % 2 else k.matmul(x, x, transpose_a=True)
    return value, result.astype(np.float16)


_STEPS: list[Callable[[KernelBuilder, Value, Array, int], Pair]] = [
    _slice, _slice, _pad, _concat, _stack, _split, _windows, _strided, _permute, _flat, _relu, _sum, _product, _product,
]  # fmt: skip


@st.composite
def mirrors(draw: st.DrawFn, largest: int) -> tuple[Graph, dict[str, Array], dict[str, Array]]:
    """A kernel of random data movement, its input, and what numpy makes of it."""
    rank = draw(st.integers(1, 3))
    sizes = draw(st.lists(st.sampled_from([1, 2, 3, 4, 5, 7, 9, 16, 17, largest, 0]), min_size=rank, max_size=rank))
    named = draw(st.booleans())
    steps = draw(st.lists(st.tuples(st.integers(0, len(_STEPS) - 1), st.integers(0, 10**6)), min_size=1, max_size=5))
    text = ", ".join("ABC"[at] if named else str(size) for at, size in enumerate(sizes))
    dtype = draw(st.sampled_from(["fp32", "fp16"]))
    inputs = random_inputs(build(lambda k, x: k.store(x), x=f"{dtype}[{text}]"), dict(zip("ABC", sizes, strict=False)))
    inputs["x"] = np.rint(inputs["x"])
    mirror = Mirror(steps, [inputs["x"]])
    graph = build(mirror, x=f"{dtype}[{text}]")
    return graph, inputs, mirror.expected


def same(actual: dict[str, Array], expected: dict[str, Array]) -> None:
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mirrors(12))
def test_random_movements_in_numpy(case: tuple[Graph, dict[str, Array], dict[str, Array]]) -> None:
    graph, inputs, expected = case
    same(interpret(graph, inputs), expected)
    for whole_rows in (True, False):
        same(run_plan(make_plan(graph, CASTS, whole_rows=whole_rows), inputs), expected)
    text = print_graph(graph)
    again = parse_graph(text)
    assert print_graph(again) == text
    same(interpret(again, inputs), expected)


@pytest.mark.parametrize("chip", CHIPS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=mirrors(67))
def test_random_movements_on_a_chip(chip: str, case: tuple[Graph, dict[str, Array], dict[str, Array]]) -> None:
    graph, inputs, expected = case
    same(run_graph(graph, inputs, the_chip(chip)).outputs, expected)


def vectors(graph: Graph) -> list[VectorSegment]:
    return [each for each in make_plan(graph, CASTS).segments if isinstance(each, VectorSegment)]


def test_computed_parts_are_written_into_their_places() -> None:
    graph = build(lambda k, x, y: k.store(k.concat([k.exp(x), k.relu(y)], 1)), x="fp16[M, N]", y="fp16[M, K]")
    segments = vectors(graph)
    assert [len(each.nodes) for each in segments] == [1, 1]
    assert [str(access) for each in segments for _, access in each.writes] == ["@out0[_0, 1]", "@out0[_0, 1] + N"]


def test_nested_parts_are_written_through_both() -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        inner = k.concat([k.exp(x), k.relu(x)], -1)
        k.store(k.pad(k.stack([inner, k.concat([-x, x], -1)]), {1: (1, 0)}, 3.0))

    graph = build(body, x="fp32[M, N]")
    plan = make_plan(graph, CASTS)
    assert not any(tensor.kind == "workspace" for tensor in plan.tensors)
    assert [len(each.writes) for each in vectors(graph)] == [1, 3, 1]
    inputs = random_inputs(graph, {"M": 3, "N": 20})
    x = inputs["x"]
    expected = np.full((2, 4, 40), 3.0, np.float32)
    expected[0, 1:, :20], expected[0, 1:, 20:] = np.exp(x), np.maximum(x, 0)
    expected[1, 1:, :20], expected[1, 1:, 20:] = -x, x
    out = run_plan_on(plan, inputs, the_chip("edge")).outputs["out0"]
    np.testing.assert_allclose(out, expected, rtol=1e-6)


@pytest.mark.parametrize("chip", CHIPS)
def test_growing_concatenations_lie_in_one_place(chip: str) -> None:
    """As in a dense block: every layer reads all that came before, and its result goes behind it."""

    def body(k: KernelBuilder, x: Value) -> None:
        parts = [k.relu(x)]
        for _ in range(3):
            parts.append(k.max(k.concat(parts, 1), 1, keepdims=True) + x[:, :1])
        k.store(k.concat(parts, 1))

    graph = build(body, x="fp32[N, 4, W]")
    plan = make_plan(graph, CASTS)
    assert [tensor.kind for tensor in plan.tensors] == ["param", "output"]
    assert all(each.nodes for each in vectors(graph))
    x = random_inputs(graph, {"N": 3, "W": 40})["x"]
    expected = np.maximum(x, 0)
    for _ in range(3):
        expected = np.concatenate([expected, expected.max(1, keepdims=True) + x[:, :1]], 1)
    same(run_plan_on(plan, {"x": x}, the_chip(chip)).outputs, {"out0": expected})


def test_slices_are_read_where_they_lie() -> None:
    def rotate(k: KernelBuilder, x: Value, cos: Value) -> None:
        left, right = k.split(x, 2, -1)
        k.store(x * cos + k.concat([-right, left], -1))

    segments = vectors(build(rotate, x="fp16[B, S, 64]", cos="fp16[S, 64]"))
    assert len(segments) == 1
    x = np.random.default_rng(0).standard_normal((2, 5, 64)).astype(np.float16)
    cos = np.ones((5, 64), np.float16)
    graph = build(rotate, x="fp16[B, S, 64]", cos="fp16[S, 64]")
    out = run_graph(graph, {"x": x, "cos": cos}, the_chip("edge")).outputs["out0"]
    np.testing.assert_array_equal(out, x + np.concatenate([-x[..., 32:], x[..., :32]], -1))


@pytest.mark.parametrize("chip", CHIPS)
def test_products_read_and_write_parts(chip: str) -> None:
    """Heads of a joint projection are operands where they lie, and products are written next to each other."""

    def body(k: KernelBuilder, qkv: Value, w: Value) -> None:
        q, key, v = k.split(qkv, (48, 48, -1), -1)
        scores = k.matmul(q, key, transpose_b=True)
        bias = k.slice(w, 1, 2, axes=0)
        k.store(k.concat([k.matmul(scores, v), k.matmul(v, w, bias=k.reshape(bias, "N"))], 1))

    graph = build(body, qkv="fp16[M, 112]", w="fp16[16, N]")
    plan = make_plan(graph, CASTS)
    assert not any(isinstance(each, VectorSegment) for each in plan.segments)
    inputs = {name: array * np.float16(0.25) for name, array in random_inputs(graph, {"M": 37, "N": 24}).items()}
    q, key, v = np.split(inputs["qkv"], [48, 96], 1)
    scores = (q.astype(np.float32) @ key.T.astype(np.float32)).astype(np.float16)
    left = scores.astype(np.float32) @ v.astype(np.float32)
    w = inputs["w"].astype(np.float32)
    expected = np.concatenate([left, v.astype(np.float32) @ w + w[1]], 1)
    out = run_plan_on(plan, inputs, the_chip(chip)).outputs["out0"]
    np.testing.assert_allclose(out.astype(np.float32), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("rank", range(7))
def test_all_ranks(rank: int) -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        k.store(k.pad(x, [(1, 2)] * rank, -1.0))
        k.store(k.stack([x, k.neg(x), x], -1))
        k.store(k.slice(x, -2, steps=1))
        k.store(x[..., None])

    shape = (3, 2, 4, 1, 2, 5)[:rank]
    graph = build(body, x=f"fp32[{', '.join(map(str, shape))}]")
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    expected = {
        "out0": np.pad(x, [(1, 2)] * rank, constant_values=-1) if rank else x,
        "out1": np.stack([x, -x, x], -1),
        "out2": x[(slice(-2, None),) * rank],
        "out3": x[..., None],
    }
    same(run_graph(graph, {"x": x}, the_chip("edge")).outputs, expected)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int32", "int8", "bool"])
@pytest.mark.parametrize("shape", [(7,), (1, 33), (3, 5, 4), (0, 4)])
def test_flips(dtype: str, shape: tuple[int, ...]) -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        k.store(k.flip(x))
        k.store(k.concat([k.flip(x, -1), x], 0))

    graph = build(body, x=f"{dtype}[{', '.join('ABC'[: len(shape)])}]")
    inputs = random_inputs(graph, dict(zip("ABC", shape, strict=False)))
    x = inputs["x"]
    expected = {"out0": np.flip(x), "out1": np.concatenate([np.flip(x, -1), x], 0)}
    same(interpret(graph, inputs), expected)
    same(run_graph(graph, inputs, the_chip("edge")).outputs, expected)


@pytest.mark.parametrize("dtype", ["int8", "bool", "bf16", "int32", "fp8_e4m3"])
def test_all_dtypes_move(dtype: str) -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        k.store(k.pad(x, [(0, 1), (2, 0)]))
        k.store(k.concat([x[:, 1:], x[:, :1]], 1))
        k.store(x[::2, ::3])

    graph = build(body, x=f"{dtype}[5, 33]")
    inputs = random_inputs(graph, {})
    x = inputs["x"]
    expected = {
        "out0": np.pad(x, [(0, 1), (2, 0)]),
        "out1": np.concatenate([x[:, 1:], x[:, :1]], 1),
        "out2": x[::2, ::3],
    }
    same(run_graph(graph, inputs, the_chip("ascend_910b1")).outputs, expected)


@pytest.mark.parametrize("chip", CHIPS)
def test_strided_views_of_a_parameter(chip: str) -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        k.store(k.as_strided(x, ("M", 7), ("P", 1), 3) + 1.0)
        k.store(k.as_strided(x, (4, 5), (2, 1), k.dim("2 * P - 1")))
        k.store(k.as_strided(k.relu(x), (3,), (0,)))

    graph = build(body, x="fp32[M, P]")
    x = np.random.default_rng(2).standard_normal((6, 11)).astype(np.float32)
    flat = x.ravel()
    expected = {
        "out0": np.stack([flat[3 + 11 * i : 10 + 11 * i] for i in range(6)]) + 1,
        "out1": np.stack([flat[21 + 2 * i : 26 + 2 * i] for i in range(4)]),
        "out2": np.full(3, max(flat[0], 0), np.float32),
    }
    same(interpret(graph, {"x": x}), expected)
    same(run_graph(graph, {"x": x}, the_chip(chip)).outputs, expected)


def test_sizes_that_come_from_dims() -> None:
    def body(k: KernelBuilder, x: Value, y: Value) -> None:
        joined = k.concat([k.relu(x), y], 0)
        k.store(k.slice(joined, "A", axes=0) + y)
        k.store(k.slice(joined, "B", axes=0) + x)
        k.store(k.concat([x[:3], x[3:]], 0) + x)
        k.store(x[-2:] + x[:2])
        k.store(k.pad(x, {0: ("B", 1)}, -1.0))
        k.store(x["B":, None, 2])

    graph = build(body, x="fp32[A, N]", y="fp32[B, N]")
    for a, b in ((5, 3), (0, 4), (1, 1), (3, 0)):
        inputs = random_inputs(graph, {"A": a, "B": b, "N": 6})
        x, y = inputs["x"], inputs["y"]
        joined = np.concatenate([np.maximum(x, 0), y])
        expected = {"out0": joined[a:] + y, "out1": joined[b:] + x, "out2": x + x, "out3": x[-2:] + x[:2]}
        expected |= {"out4": np.pad(x, ((b, 1), (0, 0)), constant_values=-1), "out5": x[b:, None, 2]}
        same(interpret(graph, inputs), expected)
        same(run_plan(make_plan(graph, CASTS), inputs), expected)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda k, x: k.slice(x, steps=-1), r"steps -1 must be 2 whole numbers >= 1"),
        (lambda k, x: k.slice(x, 0, 1, axes=2), r"axes \[2\] must be different and within the 2 dims"),
        (lambda k, x: k.slice(x, "Q"), r"unknown dimension 'Q'"),
        (lambda k, x: x["a"], r"allowed are numbers, slices"),
        (lambda k, x: x[0, 0, 0], r"more places than the 2 dims"),
        (lambda k, x: x[:, 9], r"index 9 is outside axis 1"),
        (lambda k, x: k.pad(x, [(0, -1), (0, 0)]), r"must not be below zero; use slice"),
        (lambda k, x: k.pad(x, [(0, 1)]), r"one \(low, high\) for each of the 2 dims"),
        (lambda k, x: k.pad(x, [(0, 1), (0, 0)], "a"), r"is no fp32"),
        (lambda k, x: k.concat([]), r"at least one value"),
        (lambda k, x: k.concat([x, k.cast(x, "fp16")]), r"different dtypes"),
        (lambda k, x: k.concat([x, k.transpose(x)], 0), r"same other dims"),
        (lambda k, x: k.concat([x], 5), r"axes \[5\]"),
        (lambda k, x: k.split(x, 3, 1)[0], r"8 elements cannot be 3 equal parts"),
        (lambda k, x: k.split(x, (3, 4), 1)[0], r"-1 elements off 8"),
        (lambda k, x: k.split(x, (9, -1), 1)[0], r"-1 is no size"),
        (lambda k, x: k.windows(x, 1, 10), r"a window spans 10 elements, there are 8"),
        (lambda k, x: k.as_strided(x, (2, -1), (1, 1)), r"sizes >= 0"),
        (lambda k, x: k.as_strided(x, (2,), (-1,)), r"sizes >= 0"),
        (lambda k, x: k.dim("M +"), r"no sum of products"),
        (lambda k, x: k.flip(x, (0, 2)), r"flip: axes \[0, 2\]"),
        (lambda k, x: k.stack([x], 4), r"outside the 3 dims"),
    ],
)
def test_mistakes(body: Callable[[KernelBuilder, Value], Any], message: str) -> None:
    with pytest.raises(CompileError, match=message) as caught:
        build(body, x="fp32[M, 8]")
    assert caught.value.where is not None
    assert caught.value.where.startswith("test_view_ops.py:")


def test_shapes_that_do_not_fit_are_refused_when_bound() -> None:
    graph = build(lambda k, x: k.store(k.as_strided(x, (4, 5), (3, 1))), x="fp32[N]")
    assert graph.bind({"x": (14,)})["N"] == 14
    with pytest.raises(CompileError, match=r"as_strided: element 13 of a tensor of 13 elements"):
        graph.bind({"x": (13,)})
    graph = build(lambda k, x: k.store(k.split(x, 2, 0)[1]), x="fp32[N]")
    with pytest.raises(CompileError, match="5 is not a multiple of 2"):
        graph.bind({"x": (5,)})
    graph = build(lambda k, x: k.store(k.split(x, (3, -1), 0)[1]), x="fp32[N]")
    with pytest.raises(CompileError, match="-1 is no size"):
        graph.bind({"x": (2,)})
    graph = build(lambda k, x: k.store(k.split(x, (3, 4), 0)[1]), x="fp32[N]")
    with pytest.raises(CompileError, match="shapes disagree"):
        graph.bind({"x": (8,)})
    graph = build(lambda k, x: k.store(x[3]), x="fp32[N]")
    with pytest.raises(CompileError, match="element 3 of axis 0, which has 3"):
        graph.bind({"x": (3,)})
    windows = build(lambda k, x: k.store(k.windows(x, 0, 3, 2)), x="fp32[N]")
    assert windows.output_shapes(windows.bind({"x": (3,)})) == {"out0": (1, 3)}
    with pytest.raises(CompileError, match="-1 is no size"):
        windows.bind({"x": (2,)})
    text = print_graph(graph).replace("starts = [3]", "starts = [-3]")
    with pytest.raises(CompileError, match="'starts' must be sizes"):
        parse_graph(text)
