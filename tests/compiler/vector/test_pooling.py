"""Pooling against windows taken one by one in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.compiler.graphs import CASTS, build, random_inputs, run_plan
from tests.compiler.vector_run import CHIPS, run_graph, the_chip

from npuvm.compiler import CompileError, Graph, KernelBuilder, Value, interpret
from npuvm.compiler.plan.plan import make_plan

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Pool:
    """A pooling; numbers by pooled dim."""

    op: str
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool = False
    include: bool = True

    def build(self, k: KernelBuilder, x: Value) -> Value:
        given = (x, self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode)
        if self.op == "avg_pool":
            return k.avg_pool(*given, count_include_pad=self.include)
        return (k.max_pool if self.op == "max_pool" else k.min_pool)(*given)

    def counts(self, sizes: tuple[int, ...]) -> list[int]:
        """Windows along each dim; with ceil_mode one that begins behind the input does not count."""
        found = []
        for size, kernel, stride, pad, dilation in zip(
            sizes, self.kernel, self.stride, self.padding, self.dilation, strict=True
        ):
            rest = size + 2 * pad - (kernel - 1) * dilation - 1
            count = (-(-rest // stride) if self.ceil_mode else rest // stride) + 1
            found.append(count - (self.ceil_mode and (count - 1) * stride >= size + pad))
        return found

    def expected(self, x: Array) -> Array:
        n = len(self.kernel)
        outer, sizes = x.shape[:-n], x.shape[-n:]
        counts = self.counts(sizes)
        result = np.zeros((*outer, *counts))
        for place in np.ndindex(*counts):
            inside, counted = [], 1
            for at, size in zip(range(n), sizes, strict=True):
                begin = place[at] * self.stride[at] - self.padding[at]
                coords = [begin + i * self.dilation[at] for i in range(self.kernel[at])]
                margin = self.padding[at] if self.include else 0
                counted *= sum(-margin <= each < size + margin for each in coords)
                inside.append([each for each in coords if 0 <= each < size])
            index = np.ix_(*(range(size) for size in outer), *inside)
            values = x[index].astype(np.float64).reshape(*outer, -1)
            if self.op == "avg_pool":
                result[(..., *place)] = values.sum(-1) / counted
            else:
                result[(..., *place)] = values.max(-1) if self.op == "max_pool" else values.min(-1)
        return result


def check(pool: Pool, dtype: str, shape: tuple[int, ...], chip: str | None, named: bool = True) -> None:
    text = ", ".join("ABCDEF"[at] if named else str(size) for at, size in enumerate(shape))
    graph = build(lambda k, x: k.store(pool.build(k, x)), x=f"{dtype}[{text}]")
    inputs = random_inputs(graph, dict(zip("ABCDEF", shape, strict=False)))
    expected = pool.expected(inputs["x"])
    tolerance = 0 if pool.op != "avg_pool" else {"fp32": 1e-5, "fp16": 1e-3, "bf16": 1e-2}[dtype]
    results = [interpret(graph, inputs)]
    if chip is None:
        results.append(run_plan(make_plan(graph, CASTS, whole_rows=False), inputs))
    else:
        results.append(run_graph(graph, inputs, the_chip(chip)).outputs)
    for each in results:
        assert each["out0"].shape == expected.shape
        np.testing.assert_allclose(each["out0"].astype(np.float64), expected, rtol=tolerance, atol=tolerance)


@st.composite
def pools(draw: st.DrawFn) -> tuple[Pool, str, tuple[int, ...]]:
    n = draw(st.integers(1, 2))
    op = draw(st.sampled_from(["max_pool", "min_pool", "avg_pool"]))
    kernel = draw(st.tuples(*[st.sampled_from([1, 2, 3, 4, 9])] * n))
    stride = draw(st.tuples(*[st.integers(1, 4)] * n))
    dilation = draw(st.tuples(*[st.integers(1, 2)] * n))
    spans = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]
    # Dilated windows near a corner may hold nothing but padding, which has no mean.
    padding = tuple(
        draw(st.integers(0, size // 2 if step == 1 else 0)) for size, step in zip(kernel, dilation, strict=True)
    )
    pool = Pool(op, kernel, stride, padding, dilation, draw(st.booleans()), draw(st.booleans()))
    sizes = [draw(st.integers(max(1, span - 2 * pad), 20)) for span, pad in zip(spans, padding, strict=True)]
    outer = draw(st.lists(st.sampled_from([1, 2, 3]), max_size=2))
    dtype = draw(st.sampled_from(["fp32", "fp16"] if op == "avg_pool" else ["fp32", "fp16", "int32"]))
    return pool, dtype, (*outer, *sizes)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pools())
def test_random_pools_in_numpy(case: tuple[Pool, str, tuple[int, ...]]) -> None:
    check(*case, None)
    check(*case, None, named=False)


@pytest.mark.parametrize("chip", CHIPS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=pools())
def test_random_pools_on_a_chip(chip: str, case: tuple[Pool, str, tuple[int, ...]]) -> None:
    check(*case, chip)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(
    "pool",
    [
        Pool("max_pool", (3, 3), (2, 2), (1, 1), (1, 1)),
        Pool("avg_pool", (2, 2), (2, 2), (0, 0), (1, 1)),
        Pool("avg_pool", (3, 3), (1, 1), (1, 1), (1, 1), include=False),
    ],
)
def test_pools_of_networks(chip: str, pool: Pool) -> None:
    check(pool, "fp16", (2, 5, 28, 30), chip)


def test_a_pool_of_three_dims() -> None:
    pool = Pool("max_pool", (2, 3, 2), (2, 1, 2), (1, 1, 0), (1, 1, 1))
    check(pool, "fp32", (2, 3, 5, 6, 7), "edge")
    check(Pool("avg_pool", (2, 2, 2), (2, 2, 2), (1, 1, 1), (1, 1, 1), True, False), "fp32", (2, 5, 6, 7), "edge")


@pytest.mark.parametrize("chip", CHIPS)
def test_channels_last(chip: str) -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        k.store(k.max_pool(x, (3, 2), 2, (1, (0, 1)), axes=(1, 2)))
        k.store(k.avg_pool(x, (2, 11), (2, 3), axes=(-2, -3)))

    graph = build(body, x="fp32[N, H, W, C]")
    x = random_inputs(graph, {"N": 2, "H": 15, "W": 13, "C": 24})["x"]
    first = np.moveaxis(x, 3, 1)
    wide = np.concatenate([first, np.full((2, 24, 15, 1), -np.inf, np.float32)], 3)
    expected = {
        "out0": np.moveaxis(Pool("max_pool", (3, 2), (2, 2), (1, 0), (1, 1)).expected(wide), 1, 3),
        "out1": np.moveaxis(Pool("avg_pool", (11, 2), (3, 2), (0, 0), (1, 1)).expected(first), 1, 3),
    }
    for actual in (interpret(graph, {"x": x}), run_graph(graph, {"x": x}, the_chip(chip)).outputs):
        for name, array in expected.items():
            np.testing.assert_allclose(actual[name], array, rtol=1e-5, atol=1e-5)


def test_a_pool_of_nothing() -> None:
    graph = build(lambda k, x: k.store(k.max_pool(x, (2, 2))), x="fp32[N, H, W]")
    out = run_graph(graph, {"x": np.zeros((0, 4, 4), np.float32)}, the_chip("edge")).outputs["out0"]
    assert out.shape == (0, 2, 2)


def test_mistakes() -> None:
    def graph(**options: Any) -> Graph:
        return build(lambda k, x: k.store(k.max_pool(x, (3, 3), **options)), x="fp32[4, 9]")

    for options, message in (
        ({"padding": 2}, "padding 2 must be 0 to 1"),
        ({"padding": (1,)}, "must be 2 numbers; padding may be one number, or pairs"),
        ({"axes": (1,)}, r"axes \(1,\) must be 2 numbers"),
        ({"axes": (1, 2)}, r"axes \[1, 2\] must be different and within the 2 dims"),
        ({"stride": 0}, "stride 0 must be 2 whole numbers >= 1"),
        ({"dilation": 3}, "axis 0 of .*, padded: a window spans 7 elements, there are 4"),
    ):
        with pytest.raises(CompileError, match=message):
            graph(**options)
    with pytest.raises(CompileError, match="a kernel of 3 dims for"):
        build(lambda k, x: k.store(k.max_pool(x, (3, 3, 3))), x="fp32[4, 9]")
    with pytest.raises(CompileError, match="avg_pool does not take int32"):
        build(lambda k, x: k.store(k.avg_pool(x, 3)), x="int32[9]")
