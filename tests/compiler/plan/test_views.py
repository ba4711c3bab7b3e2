"""Layouts against numpy's own strides."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from npuvm.compiler import Graph, Node, Param, parse_type
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.plan.views import Layout, contiguous, through, through_inverse

Dims = tuple[int | str, ...]


def chain_of(shape: Dims, *steps: tuple[str, Dims]) -> list[Node]:
    """Nodes of reshapes and permutes applied to a load."""
    text = f"fp32[{', '.join(map(str, shape))}]"
    graph = Graph("g", (Param("x", parse_type(text)),))
    node = graph.add("load", param="x", dtype="fp32", shape=shape)
    chain = []
    for op, value in steps:
        node = graph.add(op, (node,), axes=value) if op == "permute" else graph.add(op, (node,), shape=value)
        chain.append(node)
    return chain


def test_heads_of_an_attention_are_views() -> None:
    split = chain_of(("B", "S", 384), ("reshape", ("B", "S", 12, 32)), ("permute", (0, 2, 1, 3)))
    layout = through(contiguous(("B", "S", 384)), split)
    assert layout is not None
    assert layout.dims == ("B", 12, "S", 32)
    assert [str(stride) for stride in layout.strides] == ["384 * S", "32", "384", "1"]


def test_merging_permuted_heads_needs_a_copy_but_can_be_written() -> None:
    merge = chain_of(("B", 12, "S", 32), ("permute", (0, 2, 1, 3)), ("reshape", ("B", "S", 384)))
    assert through(contiguous(("B", 12, "S", 32)), merge) is None
    layout = through_inverse(contiguous(("B", "S", 384)), merge)
    assert layout is not None
    assert [str(stride) for stride in layout.strides] == ["384 * S", "32", "384", "1"]


def test_symbols_that_cannot_be_matched_make_one_group() -> None:
    assert contiguous(("M", "N")).reshaped(("P", 4)) is not None
    assert contiguous(("M", "N")).permuted((1, 0)).reshaped(("P", 4)) is None


@st.composite
def shapes_and_steps(draw: st.DrawFn) -> tuple[tuple[int, ...], list[tuple[str, tuple[int, ...]]]]:
    def factor(total: int) -> tuple[int, ...]:
        dims = []
        while total > 1:
            dim = draw(st.sampled_from([d for d in range(2, total + 1) if total % d == 0]))
            dims.append(dim)
            total //= dim
        for _ in range(draw(st.integers(0, 2))):
            dims.insert(draw(st.integers(0, len(dims))), 1)
        return tuple(dims)

    total = draw(st.sampled_from([1, 6, 24, 30]))
    shape, steps = factor(total), []
    rank = len(shape)
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            steps.append(("permute", tuple(draw(st.permutations(range(rank))))))
        else:
            steps.append(("reshape", factor(total)))
            rank = len(steps[-1][1])
    return shape, steps


def values_of(layout: Layout, data: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> list[int]:
    """Elements of flat data in the order of the layout's dims."""
    index = np.zeros(evaluate(layout.dims, {}), dtype=np.int64)
    for axis, (dim, stride) in enumerate(zip(evaluate(layout.dims, {}), layout.stride_values({}), strict=True)):
        index += (np.arange(dim) * stride).reshape([-1 if i == axis else 1 for i in range(len(layout.dims))])
    return list(data[index].ravel())


@given(shapes_and_steps())
@settings(max_examples=200, deadline=None)
def test_layouts_agree_with_numpy(case: tuple[tuple[int, ...], list[tuple[str, tuple[int, ...]]]]) -> None:
    shape, steps = case
    chain = chain_of(shape, *[(op, tuple(value)) for op, value in steps])
    data = np.arange(int(np.prod(shape)))
    expected = data.reshape(shape)
    for op, value in steps:
        expected = expected.transpose(value) if op == "permute" else expected.reshape(value)
    forward = through(contiguous(shape), chain)
    if forward is not None:
        assert values_of(forward, data) == list(expected.ravel())
    backward = through_inverse(contiguous(expected.shape), chain)
    if backward is not None:
        written = np.empty(data.size, dtype=np.int64)
        written[values_of(backward, data)] = data
        assert list(written) == list(expected.ravel())
