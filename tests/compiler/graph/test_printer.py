"""The printed form: golden text, and text -> graph -> text for generated graphs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npuvm.compiler import (
    CompileError,
    Graph,
    KernelBuilder,
    Param,
    ParamRef,
    kernel,
    parse_graph,
    parse_type,
    print_graph,
)
from npuvm.compiler.graph.ops import ARITHMETIC, COMPARES, UNARY
from npuvm.compiler.graph.types import Dim

GOLDEN = """\
kernel softmax {
  param x : fp16[M, N]
  derived P = M * N / 4
  check M * N == 8 * M
  %0 = load @x {cache = "stream"} : fp16[M, N]
  %1 = reduce_max %0 {axes = [1], keepdims = true} : fp16[M, 1]
  %2 = sub %0, %1 : fp16[M, N]
  %3 = const 0.125 : fp16[]
  %4 = mul %2, %3 : fp16[M, N]
  %5 = reshape %4 {shape = [P, 4]} : fp16[P, 4]
  store %5 -> @probs : fp16[P, 4]
  %7 = size [M, N] : fp32[]
  %8 = asm %4 {dtype = "fp16", shape = [M, N], text = "vexp.fp16 {out}, {0}\\nusync vector"} : fp16[M, N]
  store %8 -> @out1 : fp16[M, N]
}
"""


def test_golden_text_is_read_and_printed() -> None:
    graph = parse_graph(GOLDEN)
    assert print_graph(graph) == GOLDEN
    assert graph.bind({"x": (2, 8)}) == {"M": 2, "N": 8, "P": 4}


def test_a_traced_kernel_round_trips() -> None:
    @kernel(x="bf16[B, S, 12]", w="bf16[12, 12]")
    def layer(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
        v = k.load(x)
        y = k.matmul(v, k.load(w), transpose_b=True, dtype="fp32")
        y = k.select(y > float("inf"), 0.0, k.gelu(y, "tanh"))
        k.store(k.permute(k.reshape(k.cast(y, "int32"), "B, S, 3, 4"), (0, 2, 1, 3)))

    text = print_graph(layer.graph)
    assert print_graph(parse_graph(text)) == text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kernel softmax {", "softmax {", "<text>:1: a graph starts with"),
        (
            "%2 = sub %0, %1 : fp16[M, N]",
            "%2 = sub %0, %1 : fp16[M, 1]",
            "<text>:7: sub gives fp16[M, N], the text says fp16[M, 1]",
        ),
        ("%2 = sub %0, %1", "%2 = sub %0, %9", "no value %9 before"),
        ("%2 = sub", "%7 = sub", "must be numbered %2"),
        ("load @x", "load @y", "no parameter 'y'"),
        ("axes = [1]", "axes = 1", "must be a list"),
        ("axes = [1]", "axes [1]", "no value %0 {axes"),
        ("0.125", "zero", "no number"),
        ("}\n", "\n", "the text ends before"),
    ],
)
def test_wrong_text_is_refused_with_its_line(old: str, new: str, message: str) -> None:
    text = GOLDEN.replace(old, new) if old != "}\n" else GOLDEN[:-2]
    with pytest.raises(CompileError) as caught:
        parse_graph(text)
    assert message in str(caught.value)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Random well-typed graphs over one shape, its keepdims reductions and scalars."""
    rank = draw(st.integers(1, 4))
    any_dim: st.SearchStrategy[Dim] = st.one_of(st.sampled_from(["M", "N", "K_1"]), st.sampled_from([1, 0, 7, 1024]))
    dims = [draw(any_dim) for _ in range(rank)]
    dtype = draw(st.sampled_from(["fp32", "fp16", "bf16", "int32"]))
    graph = Graph(
        draw(st.sampled_from(["f", "kernel", "a_1"])),
        (Param("x", parse_type(f"{dtype}[{', '.join(map(str, dims))}]")),),
    )
    values = [graph.add("load", param="x", dtype=dtype, shape=tuple(dims))]
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["unary", "binary", "compare", "reduce", "const", "permute"]))
        value = draw(st.sampled_from(values))
        if kind == "unary":
            op = draw(
                st.sampled_from(
                    [op for op, dtypes in UNARY.items() if dtype in dtypes and op not in ("gelu", "isfinite")]
                )
            )
            values.append(graph.add(op, (value,)))
        elif kind == "binary":
            op = draw(st.sampled_from([op for op, dtypes in ARITHMETIC.items() if dtype in dtypes]))
            values.append(graph.add(op, (value, values[0])))
        elif kind == "compare":
            condition = graph.add(draw(st.sampled_from(sorted(COMPARES))), (value, values[0]))
            values.append(graph.add("select", (condition, value, values[0])))
        elif kind == "reduce" and value.type.rank == rank:
            axes = tuple(sorted(draw(st.sets(st.integers(0, rank - 1)))))
            values.append(graph.add("reduce_sum", (value,), axes=axes, keepdims=True))
        elif kind == "const":
            number = (
                draw(st.integers(-(2**31), 2**31 - 1))
                if dtype == "int32"
                else draw(st.floats(width=16, allow_nan=False))
            )
            values.append(graph.add("const", dtype=dtype, value=number))
        elif kind == "permute":
            axes = tuple(draw(st.permutations(range(value.type.rank))))
            graph.add("store", (graph.add("permute", (value,), axes=axes),), output=f"o{len(graph.nodes)}")
    graph.add("store", (values[-1],), output="out", cache=draw(st.sampled_from(["normal", "stream"])))
    return graph


@given(graphs())
@settings(max_examples=150, deadline=None)
def test_text_of_generated_graphs_round_trips(graph: Graph) -> None:
    text = print_graph(graph)
    again = parse_graph(text)
    assert print_graph(again) == text
    assert again.params == graph.params
    assert [(node.op, dict(node.attrs), node.type) for node in again.nodes] == [
        (node.op, dict(node.attrs), node.type) for node in graph.nodes
    ]
