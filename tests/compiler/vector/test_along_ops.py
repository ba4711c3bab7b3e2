"""Operations along an axis: the simulator, with hazards checked and images verified, against numpy and torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.compiler.graphs import CASTS, assert_close, build
from tests.compiler.vector_run import CHIPS, Ran, run_graph, run_plan_on, the_chip, the_isa

from npuvm.compiler import CompileError, Graph, KernelBuilder, Value, interpret, parse_graph, print_graph
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.vector.codegen import compile_vector

SIZES = st.sampled_from([1, 2, 3, 7, 8, 9, 31, 33, 64, 101, 257])
SLOW = [HealthCheck.too_slow]


def run(graph: Graph, inputs: dict[str, Any], chip: str, pins: Pins | None = None) -> Ran:
    """Outputs of the simulator, which agree with the interpreter's."""
    assert print_graph(parse_graph(print_graph(graph))) == print_graph(graph)
    ran = run_graph(graph, inputs, the_chip(chip), pins)
    assert_close(ran.outputs, interpret(graph, inputs), {output.name: output.type for output in graph.outputs})
    return ran


@given(
    a=SIZES, b=SIZES, c=SIZES, axis=st.integers(0, 2), dtype=st.sampled_from(["int32", "fp32", "fp16", "int8", "bf16"]),
    chip=st.sampled_from(CHIPS),
)  # fmt: skip
@settings(max_examples=10, deadline=None, suppress_health_check=SLOW)
def test_iota_numbers_an_axis(a: int, b: int, c: int, axis: int, dtype: str, chip: str) -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        k.store(k.iota("A, B, C", axis, dtype))
        k.store(x + k.iota("A, B, C", axis))
        k.store(k.iota("B") + 1)

    sizes = (a % 5 + 1, b, c)
    x = np.arange(np.prod(sizes), dtype=np.int32).reshape(sizes)
    ran = run(build(body, x="int32[A, B, C]"), {"x": x}, chip)
    numbers = np.arange(sizes[axis]).reshape([-1 if each == axis else 1 for each in range(3)])
    np.testing.assert_array_equal(ran.outputs["out1"], x + numbers)
    np.testing.assert_array_equal(ran.outputs["out2"], np.arange(1, b + 1))
    np.testing.assert_array_equal(ran.outputs["out0"][:1, :1, :1].ravel(), [0])


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("reshaped", [False, True])
def test_a_causal_mask_is_two_iotas(chip: str, reshaped: bool) -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        hidden = k.lt(k.reshape(k.iota("M"), "M, 1") if reshaped else k.iota("M, N", 0), k.iota("N"))
        k.store(k.select(hidden, -1e30, x))

    x = np.random.default_rng(1).standard_normal((300, 517)).astype(np.float32)
    ran = run(build(body, x="fp32[M, N]"), {"x": x}, chip, Pins(tile={"vector": (30, 128)}))
    np.testing.assert_array_equal(ran.outputs["out0"], np.where(np.tri(300, 517, dtype=bool), x, np.float32(-1e30)))
    assert len(ran.kernels) == 1


@given(
    a=SIZES, b=SIZES, axis=st.integers(0, 2), depth=st.sampled_from([1, 2, 7, 33]),
    dtype=st.sampled_from(["fp32", "fp16", "bf16", "int32", "int8", "bool", "fp8_e4m3"]), chip=st.sampled_from(CHIPS),
)  # fmt: skip
@settings(max_examples=8, deadline=None, suppress_health_check=SLOW)
def test_one_hot(a: int, b: int, axis: int, depth: int, dtype: str, chip: str) -> None:
    graph = build(lambda k, x: k.store(k.one_hot(x, depth, dtype, axis)), x="int32[A, B]")
    x = np.random.default_rng(a + b).integers(-1, depth + 1, (a, b)).astype(np.int32)
    ran = run(graph, {"x": x}, chip)
    inside = (x >= 0) & (x < depth)
    assert ran.outputs["out0"].astype(np.float64).sum() == inside.sum()
    want = np.moveaxis(np.eye(depth + 2)[x][..., :depth], -1, axis)
    want = want * np.expand_dims(inside, axis)
    np.testing.assert_array_equal(ran.outputs["out0"].astype(np.float64), want)


def few_values(shape: tuple[int, ...], dtype: Any, seed: int, nans: bool) -> Any:
    """Values with many equal ones, and infinities and NaN among floats."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-3, 4, shape).astype(dtype)
    if nans and np.dtype(dtype).kind == "f":
        values[rng.random(shape) < 0.1] = -np.inf
        values[rng.random(shape) < 0.02] = np.nan
    return values


@given(
    a=SIZES, b=SIZES, axis=st.integers(0, 2), dtype=st.sampled_from(["fp32", "fp16", "int32", "int8"]), nans=st.booleans(),
    keepdims=st.booleans(), seed=st.integers(0, 99), chip=st.sampled_from(CHIPS),
)  # fmt: skip
@settings(max_examples=10, deadline=None, suppress_health_check=SLOW)
def test_argmax_and_argmin_are_first_places(
    a: int, b: int, axis: int, dtype: str, nans: bool, keepdims: bool, seed: int, chip: str
) -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        k.store(k.argmax(x, axis, keepdims))
        k.store(k.argmin(x, axis, keepdims))

    names = {"fp32": np.float32, "fp16": np.float16, "int32": np.int32, "int8": np.int8}
    x = few_values((3, a, b), names[dtype], seed, nans)
    ran = run(build(body, x=f"{dtype}[A, B, C]"), {"x": x}, chip)
    np.testing.assert_array_equal(ran.outputs["out0"], np.argmax(x, axis=axis, keepdims=keepdims))
    np.testing.assert_array_equal(ran.outputs["out1"], np.argmin(x, axis=axis, keepdims=keepdims))


@pytest.mark.parametrize("chip", CHIPS)
def test_argmax_of_all_and_of_rows_that_do_not_fit(chip: str) -> None:
    x = few_values((3, 40_001), np.float32, 5, nans=False)
    x[:, 30_000] = 9
    ran = run(build(lambda k, x: k.store(k.argmax(x, -1)), x="fp32[M, N]"), {"x": x}, chip)
    assert ran.outputs["out0"].tolist() == [30_000] * 3
    graph = build(lambda k, x: k.store(k.argmax(x)), x="fp32[M, N]")
    assert run(graph, {"x": x[::-1, :3000]}, chip).outputs["out0"] == np.argmax(x[::-1, :3000])
    graph = build(lambda k, x: k.store(k.argmax(x, 0)), x="fp32[M, N]")
    with pytest.raises(CompileError, match=r"argmax over an empty axis of shape \[0, 2\]"):
        graph.bind({"x": (0, 2)})
    assert run(graph, {"x": x[:, :0]}, chip).outputs["out0"].shape == (0,)


@given(
    a=SIZES, b=SIZES, axes=st.sampled_from([(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)]),
    dtype=st.sampled_from(["fp32", "fp16", "bf16", "int32"]), seed=st.integers(0, 99), chip=st.sampled_from(CHIPS),
)  # fmt: skip
@settings(max_examples=10, deadline=None, suppress_health_check=SLOW)
def test_products(a: int, b: int, axes: tuple[int, ...], dtype: str, seed: int, chip: str) -> None:
    graph = build(lambda k, x: k.store(k.prod(x, axes)), x=f"{dtype}[A, B, C]")
    rng = np.random.default_rng(seed)
    x = (1 + rng.standard_normal((3, a, b)) / (3 * a * b) ** 0.5).astype(np.float32)
    x = rng.choice([-3, 1, 2], x.shape) if dtype == "int32" else x
    ran = run(graph, {"x": x.astype(graph.params[0].type.info.numpy)}, chip)
    if dtype == "int32":
        np.testing.assert_array_equal(ran.outputs["out0"], np.prod(x.astype(np.int32), axes, dtype=np.int32))


@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (0, 0)])
def test_a_product_of_nothing_is_one(shape: tuple[int, int]) -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        k.store(k.prod(x, -1) + 1.0)
        k.store(k.cumsum(x, 0))

    ran = run(build(body, x="fp32[M, N]"), {"x": np.ones(shape, np.float32)}, "edge")
    np.testing.assert_array_equal(ran.outputs["out0"], np.full(shape[0], 2.0))


def test_a_long_product_is_joined_over_tiles() -> None:
    x = np.where(np.random.default_rng(3).random((2, 50_001)) < 0.5, -1, 1).astype(np.int32)
    ran = run(build(lambda k, x: k.store(k.prod(x, 1)), x="int32[M, N]"), {"x": x}, "edge")
    np.testing.assert_array_equal(ran.outputs["out0"], np.prod(x, axis=1))


@given(
    a=SIZES, b=SIZES, axis=st.integers(0, 2), dtype=st.sampled_from(["fp32", "fp16", "bf16", "int32"]),
    cut=st.booleans(), seed=st.integers(0, 99), chip=st.sampled_from(CHIPS),
)  # fmt: skip
@settings(max_examples=12, deadline=None, suppress_health_check=SLOW)
def test_prefix_sums(a: int, b: int, axis: int, dtype: str, cut: bool, seed: int, chip: str) -> None:
    graph = build(lambda k, x: k.store(k.cumsum(x, axis)), x=f"{dtype}[A, B, C]")
    a, b = (a % 40 + 9, b % 40 + 9) if cut else (a, b)
    x = np.random.default_rng(seed).integers(-4, 5, (3, a, b)).astype(graph.params[0].type.info.numpy)
    pins = Pins(tile={"vector": (2 if axis != 2 else 3, 8)}) if cut else None
    ran = run(graph, {"x": x}, chip, pins)
    want = np.cumsum(x.astype(np.int64), axis).astype(x.dtype)
    np.testing.assert_array_equal(ran.outputs["out0"].astype(np.float64), want.astype(np.float64))


@pytest.mark.parametrize("chip", CHIPS)
def test_prefix_sums_of_rows_that_do_not_fit(chip: str) -> None:
    def body(k: KernelBuilder, x: Value, y: Value) -> None:
        k.store(k.cumsum(x * 2 + 1, -1) - y)
        k.store(k.cumsum(k.cumsum(x, 0), 1))

    x = np.random.default_rng(2).integers(-9, 9, (5, 30_011)).astype(np.int32)
    y = np.arange(30_011, dtype=np.int32)
    ran = run(build(body, x="int32[M, N]", y="int32[N]"), {"x": x, "y": y}, chip)
    np.testing.assert_array_equal(ran.outputs["out0"], np.cumsum(x * 2 + 1, -1) - y)
    np.testing.assert_array_equal(ran.outputs["out1"], np.cumsum(np.cumsum(x, 0), 1))


@pytest.mark.parametrize("axis", [0, 1])
def test_prefix_sums_beside_reduces(axis: int) -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        shares = x / k.sum(x, axis, keepdims=True)
        sums = k.cumsum(shares, axis)
        k.store(sums)
        k.store(k.max(sums, axis))

    x = np.random.default_rng(2).random((70, 130)).astype(np.float32)
    run(build(body, x="fp32[M, N]"), {"x": x}, "edge")


@given(
    a=SIZES, b=SIZES, k=st.integers(0, 9), symbolic=st.booleans(), dtype=st.sampled_from(["fp32", "fp16", "bf16", "int32"]),
    nans=st.booleans(), seed=st.integers(0, 99), chip=st.sampled_from(CHIPS),
)  # fmt: skip
@settings(max_examples=8, deadline=None, suppress_health_check=SLOW)
def test_the_largest_elements(
    a: int, b: int, k: int, symbolic: bool, dtype: str, nans: bool, seed: int, chip: str
) -> None:
    count = min(k, b)

    def body(k: KernelBuilder, x: Value, like: Value) -> None:
        values, places = k.topk(x, "K" if symbolic else count)
        k.store(values)
        k.store(places)

    graph = build(body, x=f"{dtype}[2, M, N]", like="int8[K]")
    x = few_values((2, a, b), graph.params[0].type.info.numpy, seed, nans)
    if dtype == "int32":
        x[..., ::3] = -(1 << 31)
    ran = run(graph, {"x": x, "like": np.zeros(count, np.int8)}, chip)
    wide = x.astype(np.float64)
    rank = np.lexsort((np.broadcast_to(np.arange(b), x.shape), -wide, ~np.isnan(wide)), axis=-1)[..., :count]
    np.testing.assert_array_equal(ran.outputs["out1"], rank)
    np.testing.assert_array_equal(ran.outputs["out0"], np.take_along_axis(x, rank, -1))


@pytest.mark.parametrize("chip", CHIPS)
def test_the_largest_of_what_is_computed(chip: str) -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        e = k.exp(x - k.max(x, -1, keepdims=True))
        values, places = k.topk(e / k.sum(e, -1, keepdims=True), 2)
        k.store(values / k.sum(values, -1, keepdims=True), name="weights")
        k.store(k.one_hot(places, "E", "fp16"), name="routes")

    x = np.random.default_rng(4).permutation(40 * 16).reshape(40, 16).astype(np.float32) / 64
    ran = run(build(body, x="fp32[T, E]"), {"x": x}, chip)
    assert (ran.outputs["routes"].argmax(-1) == np.argsort(-x, -1)[:, :2]).all()
    np.testing.assert_allclose(ran.outputs["weights"].sum(-1), 1, rtol=1e-6)


def test_what_top_k_refuses() -> None:
    graph = build(lambda k, x: k.store(k.topk(x, 3)[0]), x="fp32[M, N]")
    with pytest.raises(CompileError, match="top_values: k is 3, but the last axis has 2 elements"):
        graph.bind({"x": (4, 2)})
    with pytest.raises(CompileError, match="k is 9, but the last axis of"):
        build(lambda k, x: k.store(k.topk(x, 9)[1]), x="fp32[M, 8]")
    graph = build(lambda k, x: k.store(k.topk(x, 5000)[1]), x="fp32[M, N]")
    plan = make_plan(graph, CASTS, whole_rows=False)
    binding = plan.graph.bind({"x": (1, 60_000)})
    with pytest.raises(CompileError, match=r"61440 needs .* bytes of UB"):
        for segment in plan.segments:
            assert isinstance(segment, VectorSegment)
            compile_vector(segment, binding, the_chip("edge"), the_isa())


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(("size", "count"), [(30_011, 3), (20_480, 1), (9_000, 11)])
def test_the_largest_of_rows_that_do_not_fit(chip: str, size: int, count: int) -> None:
    def body(k: KernelBuilder, x: Value, like: Value) -> None:
        values, places = k.topk(x, "K")
        k.store(places)
        k.store(values)

    rng = np.random.default_rng(size)
    x = rng.integers(0, 500, (2, size)).astype(np.float32)
    x[1] = np.where(rng.random(size) < 0.0002, np.nan, -np.inf)
    graph = build(body, x="fp32[M, N]", like="int8[K]")
    ran = run(graph, {"x": x, "like": np.zeros(count, np.int8)}, chip)
    rank = np.lexsort((np.broadcast_to(np.arange(size), x.shape), -x, ~np.isnan(x)), axis=-1)[..., :count]
    np.testing.assert_array_equal(ran.outputs["out0"], rank)
    np.testing.assert_array_equal(ran.outputs["out1"], np.take_along_axis(x, rank, -1))


@pytest.mark.parametrize("chip", CHIPS)
def test_a_place_in_whole_rows_is_one_instruction(chip: str) -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        wide = k.cast(x, "fp32")
        k.store(k.argmax(wide, -1))
        k.store(k.argmin(wide * 2.0, -1, keepdims=True))

    x = few_values((33, 100), np.float16, 7, nans=True)
    ran = run(build(body, x="fp16[M, N]"), {"x": x}, chip)
    assert len(ran.plan.segments) == 1
    np.testing.assert_array_equal(ran.outputs["out0"], np.argmax(x, -1))
    np.testing.assert_array_equal(ran.outputs["out1"], np.argmin(x, -1, keepdims=True))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(5, 70), (1, 1), (40, 3), (0, 3), (3, 0)])
def test_exclusive_prefix_sums(axis: int, shape: tuple[int, int]) -> None:
    graph = build(lambda k, x: k.store(k.cumsum(x, axis, exclusive=True) * 2), x="int32[M, N]")
    assert graph.outputs[0].type.shape == ("M", "N")
    x = np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape)
    ran = run(graph, {"x": x}, "edge")
    np.testing.assert_array_equal(ran.outputs["out0"], (np.cumsum(x, axis) - x) * 2)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(("shape", "axis"), [((5, 70), 1), ((40, 3), 0), ((1, 1), 0), ((0, 3), 0), ((3, 0), 1)])
def test_suffix_sums(shape: tuple[int, int], axis: int, chip: str) -> None:
    graph = build(
        lambda k, x: (
            k.store(k.cumsum(x, axis, reverse=True)),
            k.store(k.cumsum(x, axis, exclusive=True, reverse=True)),
        ),
        x="int32[M, N]",
    )
    x = np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape) - 7
    ran = run(graph, {"x": x}, chip)
    want = np.flip(np.cumsum(np.flip(x, axis), axis), axis)
    np.testing.assert_array_equal(ran.outputs["out0"], want)
    np.testing.assert_array_equal(ran.outputs["out1"], want - x)


@st.composite
def mixed_graphs(draw: st.DrawFn) -> tuple[Graph, dict[str, int]]:
    """Kernels that mix operations along axes with element-wise ones, reduces and views; all values are whole numbers."""
    binding = {dim: draw(st.sampled_from([1, 2, 5, 17])) for dim in "ABC"}
    steps = draw(st.lists(st.integers(0, 10**6), min_size=2, max_size=7))
    dtype = draw(st.sampled_from(["int32", "fp32"]))

    def body(k: KernelBuilder, x: Value) -> None:
        values = [x]
        for step in steps:
            value, axis, pick = values[step // 13 % len(values)], step // 100 % 3, step // 300
            match step % 9:
                case 0:
                    sums = k.cumsum(value, axis, exclusive=pick % 3 == 0)
                    values.append(k.minimum(k.maximum(sums, -50), 50))
                case 1:
                    place = (k.argmax, k.argmin)[pick % 2](value, axis, keepdims=True)
                    values.append(k.cast(k.broadcast_to(place, "A, B, C"), dtype) - value)
                case 2:
                    values.append(k.select(k.lt(k.iota("A, B, C", axis), k.iota("A, B, C", pick % 3)), value, x))
                case 3:
                    values.append(value + k.cast(k.iota("A, B, C", axis), dtype))
                case 4:
                    values.append(value - k.max(value, axis, keepdims=True))
                case 5:
                    k.store(k.prod(k.minimum(k.maximum(value, -1), 1), (axis,)))
                case 6:
                    k.store(k.permute(value, ((0, 2, 1), (2, 1, 0), (1, 0, 2))[pick % 3]))
                case 7:
                    found, places = k.topk(value, 1 + pick % min(3, binding["C"]))
                    k.store(found)
                    k.store(places)
                case _:
                    hot = k.one_hot(k.cast(k.sum(k.minimum(k.maximum(value, 0), 1), axis), "int32"), 7)
                    k.store(hot)
        k.store(values[-1], name="result")

    return build(body, x=f"{dtype}[A, B, C]"), binding


@pytest.mark.slow
@given(case=mixed_graphs(), chip=st.sampled_from(CHIPS), whole=st.booleans(), seed=st.integers(0, 9))
@settings(max_examples=10, deadline=None, suppress_health_check=SLOW)
def test_operations_along_axes_mix(case: tuple[Graph, dict[str, int]], chip: str, whole: bool, seed: int) -> None:
    graph, binding = case
    shape = tuple(binding.values())
    x = np.random.default_rng(seed).integers(-9, 10, shape).astype(graph.params[0].type.info.numpy)
    expected = interpret(graph, {"x": x})
    plan = make_plan(graph, CASTS, whole_rows=whole)
    ran = run_plan_on(plan, {"x": x}, the_chip(chip))
    for name, value in expected.items():
        np.testing.assert_array_equal(ran.outputs[name], value, err_msg=name)


@given(
    a=st.sampled_from([1, 2, 5, 33]), b=SIZES, dtype=st.sampled_from(["fp32", "fp16", "int32", "int8"]), nans=st.booleans(),
    seed=st.integers(0, 99), chip=st.sampled_from(CHIPS),
)  # fmt: skip
@settings(max_examples=4, deadline=None, suppress_health_check=SLOW)
def test_the_place_in_all_elements(a: int, b: int, dtype: str, nans: bool, seed: int, chip: str) -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        k.store(k.argmax(x))
        k.store(k.argmin(x, keepdims=True))
        k.store(k.argmax(k.reshape(x, (-1,))))
        k.store(k.argmin(k.max(k.cast(x, "fp32"))))

    graph = build(body, x=f"{dtype}[3, A, B]")
    x = few_values((3, a, b), graph.params[0].type.info.numpy, seed, nans)
    ran = run(graph, {"x": x}, chip)
    assert [ran.outputs[f"out{at}"].item() for at in range(4)] == [x.argmax(), x.argmin(), x.argmax(), 0]
    assert ran.outputs["out1"].shape == (1, 1, 1)
