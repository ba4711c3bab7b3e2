"""Cutting into segments: what is fused, what is a view, and that the segments compute what the graph says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from tests.compiler.graphs import CASTS, assert_close, build, random_inputs, run_plan, vector_graphs

from npuvm.compiler import Graph, KernelBuilder, Value, interpret
from npuvm.compiler.plan.plan import MAX_TENSORS, make_plan
from npuvm.compiler.plan.segments import CubeSegment, VectorSegment


def softmax(k: KernelBuilder, x: Value) -> None:
    e = k.exp(x - k.max(x, -1, keepdims=True))
    k.store(e / k.sum(e, -1, keepdims=True))


def layernorm(k: KernelBuilder, x: Value, gamma: Value, beta: Value) -> None:
    wide = k.cast(x, "fp32")
    centred = wide - k.mean(wide, -1, keepdims=True)
    variance = k.mean(centred * centred, -1, keepdims=True)
    k.store(k.cast(centred * k.rsqrt(variance + 1e-5), "fp16") * gamma + beta)


def forms(graph: Graph, whole_rows: bool = True) -> list[str]:
    plan = make_plan(graph, CASTS, whole_rows=whole_rows)
    return [each.form if isinstance(each, VectorSegment) else "cube" for each in plan.segments]


def check(graph: Graph, binding: dict[str, int]) -> None:
    inputs = random_inputs(graph, binding)
    expected = interpret(graph, inputs)
    kinds = {output.name: output.type for output in graph.outputs}
    for whole_rows in (True, False):
        assert_close(run_plan(make_plan(graph, CASTS, whole_rows=whole_rows), inputs), expected, kinds)


def test_softmax_and_layernorm_are_one_segment_when_rows_fit() -> None:
    assert forms(build(softmax, x="fp32[M, N]")) == ["row"]
    norm = build(layernorm, x="fp16[M, N]", gamma="fp16[N]", beta="fp16[N]")
    assert forms(norm) == ["row"]
    check(norm, {"M": 3, "N": 40})


def test_softmax_of_long_rows_is_cut_at_its_reduces() -> None:
    graph = build(softmax, x="fp16[M, N]")
    assert forms(graph, whole_rows=False) == ["accumulate", "accumulate", "map"]
    check(graph, {"M": 3, "N": 40})


def test_a_reduce_over_leading_axes_accumulates() -> None:
    graph = build(lambda k, x: k.store(k.sum(k.exp(x), 0) * 2.0), x="fp16[M, N]")
    assert forms(graph) == ["accumulate"]
    check(graph, {"M": 30, "N": 7})


def test_rows_that_are_gone_when_they_are_reduced_may_be_shared_by_cores() -> None:
    graph = build(lambda k, x: k.store(k.sum(k.exp(x), -1) * 2.0), x="fp16[M, N]")
    assert forms(graph) == ["accumulate"]
    check(graph, {"M": 3, "N": 40})


def test_places_and_rows_of_products_are_reduced_whole() -> None:
    assert forms(build(lambda k, x: k.store(k.argmax(x, -1)), x="fp32[M, N]")) == ["row"]
    graph = build(lambda k, a, b: k.store(k.max(k.matmul(a, b), -1)), a="fp16[M, K]", b="fp16[K, N]")
    assert forms(graph)[-1] == "row"


def test_other_axis_sets_are_reduced_run_by_run() -> None:
    graph = build(lambda k, x: k.store(k.max(x, (0, 2))), x="fp32[A, B, C]")
    assert forms(graph) == ["accumulate", "accumulate"]
    check(graph, {"A": 3, "B": 4, "C": 5})


def test_a_row_computed_once_broadcasts_inside_the_segment() -> None:
    graph = build(lambda k, x, y: k.store(x + k.exp(y)), x="fp32[B, M, N]", y="fp32[N]")
    assert forms(graph) == ["map"]


def test_a_whole_matrix_is_not_computed_again_for_every_batch() -> None:
    graph = build(lambda k, x, y: k.store(x + k.exp(y)), x="fp32[B, M, N]", y="fp32[M, N]")
    assert forms(graph) == ["map", "map"]
    check(graph, {"B": 2, "M": 3, "N": 5})


def test_attention_needs_no_copy() -> None:
    def attention(k: KernelBuilder, x: Value, wq: Value, wk: Value, wv: Value, wo: Value) -> None:
        def heads(w: Value) -> Value:
            return k.permute(k.reshape(k.matmul(x, w, transpose_b=True), "B, S, 4, 8"), (0, 2, 1, 3))

        scores = k.cast(k.matmul(heads(wq), heads(wk), transpose_b=True, dtype="fp32"), "fp32") * 0.35
        e = k.exp(scores - k.max(scores, -1, keepdims=True))
        weights = k.cast(e / k.sum(e, -1, keepdims=True), "fp16")
        context = k.reshape(k.permute(k.matmul(weights, heads(wv)), (0, 2, 1, 3)), "B, S, 32")
        k.store(k.matmul(context, wo, transpose_b=True))

    graph = build(attention, x="fp16[B, S, 32]", **dict.fromkeys(("wq", "wk", "wv", "wo"), "fp16[32, 32]"))
    assert forms(graph) == ["cube", "cube", "cube", "row", "cube", "cube", "cube"]
    check(graph, {"B": 2, "S": 5})


def test_a_transposed_operand_is_a_flag_of_the_product() -> None:
    graph = build(
        lambda k, a, b: k.store(k.matmul(k.transpose(a), b, transpose_a=True)), a="fp16[M, K]", b="fp16[K, N]"
    )
    (product,) = make_plan(graph, CASTS).segments
    assert isinstance(product, CubeSegment)
    assert (product.transpose_a, product.transpose_b) == (False, False)
    check(graph, {"M": 3, "K": 4, "N": 5})


def test_what_strides_cannot_express_is_copied() -> None:
    graph = build(lambda k, x: k.store(k.exp(k.reshape(k.transpose(x), "-1"))), x="fp32[M, N]")
    assert forms(graph) == ["map", "map"]
    check(graph, {"M": 3, "N": 4})


def test_a_product_operand_without_adjacent_elements_is_copied() -> None:
    graph = build(lambda k, x, w: k.store(k.permute(x, (1, 2, 0)) @ w), x="fp16[A, B, 4]", w="fp16[A, N]")
    plan = make_plan(graph, CASTS)
    assert [type(each) for each in plan.segments] == [CubeSegment]
    graph = build(lambda k, x, w: k.store(k.permute(x, (3, 0, 2, 1)) @ w), x="fp16[A, B, C, 4]", w="fp16[B, N]")
    assert forms(graph) == ["map", "cube"]
    check(graph, {"A": 2, "B": 3, "C": 5, "N": 4})


def test_a_value_that_is_stored_twice_and_used() -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        y = k.exp(x)
        k.store(y)
        k.store(k.reshape(y, "-1"))
        k.store(k.transpose(y))
        k.store(k.sum(y, 0))
        k.store(x)

    check(build(body, x="fp32[M, N]"), {"M": 3, "N": 4})


def test_a_product_that_is_stored_twice() -> None:
    def body(k: KernelBuilder, x: Value, w: Value) -> None:
        y = x @ w
        k.store(k.reshape(y, "-1"))
        k.store(y)
        k.store(k.transpose(y))
        k.store(k.relu(y))

    graph = build(body, x="fp16[M, K]", w="fp16[K, N]")
    assert forms(graph) == ["cube", "map", "map", "map"]
    check(graph, {"M": 3, "K": 4, "N": 5})


def test_a_crowded_segment_is_cut() -> None:
    def body(k: KernelBuilder, *values: Value) -> None:
        total = values[0]
        for value in values[1:]:
            total = total + value
            k.store(total)

    graph = build(body, **{f"p{i}": "fp32[N]" for i in range(20)})
    plan = make_plan(graph, CASTS)
    assert len(plan.segments) > 1
    for each in plan.segments:
        assert isinstance(each, VectorSegment)
        assert len(each.reads) + len(each.writes) <= MAX_TENSORS
    check(graph, {"N": 6})


def test_a_plan_prints_its_tensors_and_segments() -> None:
    graph = build(lambda k, x, w: k.store(k.relu(x @ w)), x="fp16[M, 4]", w="fp16[4, N]")
    assert str(make_plan(graph, CASTS)).splitlines() == [
        "tensor @x param fp16[M, 4]",
        "tensor @w param fp16[4, N]",
        "tensor @out0 output fp16[M, N]",
        "tensor @ws0 workspace fp16[M, N]",
        "cube c0",
        "  %2 = @x[4, 1] x @w[N, 1] -> @ws0[N, 1]",
        "vector v0 map [M, N]",
        "  %2 <- @ws0[N, 1]",
        "  %3 = relu(%2) : fp16[M, N]",
        "  %3 -> @out0[N, 1]",
    ]


@pytest.mark.parametrize("size", [0, 1])
def test_sizes_zero_and_one(size: int) -> None:
    graph = build(lambda k, x: k.store(k.sum(x, 1) + 1.0), x="fp32[M, N]")
    check(graph, {"M": 3, "N": size})
    check(graph, {"M": size, "N": 3})


@given(vector_graphs())
@settings(max_examples=150, deadline=None)
def test_segments_compute_what_the_graph_says(case: tuple[Graph, dict[str, int]]) -> None:
    check(*case)
