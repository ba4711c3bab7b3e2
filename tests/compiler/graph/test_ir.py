"""The graph: type rules, binding of symbols, and the errors they give."""

from __future__ import annotations

import pytest

from npuvm.compiler import CompileError, Graph, Param, parse_type
from npuvm.compiler.graph.ops import broadcast_shapes
from npuvm.compiler.graph.shaping import infer_reshape
from npuvm.compiler.graph.symbols import Derived, product


def graph_of(*types: str) -> Graph:
    graph = Graph("g", tuple(Param(f"p{i}", parse_type(text)) for i, text in enumerate(types)))
    for param in graph.params:
        graph.add("load", param=param.name, dtype=param.type.dtype, shape=param.type.shape)
    return graph


def test_type_text_round_trips() -> None:
    for text in ("fp32[]", "fp16[M, 768]", "bool[B, 1, N]", "int8[0]"):
        assert str(parse_type(text)) == text


@pytest.mark.parametrize("text", ["fp16", "fp99[M]", "fp16[M,]", "fp16[-1]", "fp16[a b]", "fp16[M] x"])
def test_bad_type_text_is_refused(text: str) -> None:
    with pytest.raises(CompileError):
        parse_type(text)


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([("M", "N"), ("N",)], ("M", "N")),
        ([("M", 1), (1, "N")], ("M", "N")),
        ([(), ("M",)], ("M",)),
        ([("B", 1, "N"), ("M", 1)], ("B", "M", "N")),
        ([(0,), (1,)], (0,)),
    ],
)
def test_broadcast(shapes: list[tuple[int | str, ...]], expected: tuple[int | str, ...]) -> None:
    assert broadcast_shapes("add", shapes) == expected


def test_different_names_do_not_broadcast() -> None:
    with pytest.raises(CompileError, match=r"M against N.*same name"):
        broadcast_shapes("add", [("M",), ("N",)])


def test_type_errors_name_the_operation_and_what_is_allowed() -> None:
    graph = graph_of("int32[M]", "fp16[M]", "fp16[K, N]")
    integer, half, matrix = graph.nodes
    with pytest.raises(CompileError, match="exp does not take int32; allowed: fp32, fp16, bf16"):
        graph.add("exp", (integer,))
    with pytest.raises(CompileError, match="different dtypes; cast one"):
        graph.add("add", (integer, half))
    with pytest.raises(CompileError, match="rank 2 or more"):
        graph.add("matmul", (half, matrix), dtype="fp16")
    with pytest.raises(CompileError, match="no attribute 'axis'"):
        graph.add("reduce_sum", (half,), axis=0)
    with pytest.raises(CompileError, match="line 3"):
        graph.add("nope", (), "line 3")


def test_matmul_types() -> None:
    graph = graph_of("fp16[B, 1, M, K]", "fp16[H, N, K]", "int8[M, K]", "int8[K, N]")
    a, b, c, d = graph.nodes
    assert str(graph.add("matmul", (a, b), transpose_b=True, dtype="fp32").type) == "fp32[B, H, M, N]"
    assert str(graph.add("matmul", (c, d), dtype="int32").type) == "int32[M, N]"
    with pytest.raises(CompileError, match=r"inner dims.*K against N"):
        graph.add("matmul", (a, b), transpose_a=False, transpose_b=False, dtype="fp32")
    with pytest.raises(CompileError, match="int8 cannot give fp16; allowed: int32"):
        graph.add("matmul", (c, d), dtype="fp16")


def test_bind_asserts_equal_names() -> None:
    graph = graph_of("fp16[M, N]", "fp16[N, 4]")
    assert graph.bind({"p0": (3, 5), "p1": (5, 4)}) == {"M": 3, "N": 5}
    with pytest.raises(CompileError, match=r"N is 5 from p0\[1\] but 6 from p1\[0\]"):
        graph.bind({"p0": (3, 5), "p1": (6, 4)})
    with pytest.raises(CompileError, match=r"p1\[1\] must be 4, got 3"):
        graph.bind({"p0": (3, 5), "p1": (5, 3)})
    with pytest.raises(CompileError, match="rank 2"):
        graph.bind({"p0": (3,), "p1": (5, 4)})
    with pytest.raises(CompileError, match="no shape for parameter 'p1'"):
        graph.bind({"p0": (3, 5)})
    with pytest.raises(CompileError, match="no parameter 'q'"):
        graph.bind({"p0": (3, 5), "p1": (5, 4), "q": ()})


def test_reduce_over_nothing_needs_a_neutral_element() -> None:
    graph = graph_of("fp32[M, N]")
    graph.add("reduce_sum", (graph.nodes[0],), axes=(1,), keepdims=False)
    assert graph.bind({"p0": (2, 0)})["N"] == 0
    graph.add("reduce_max", (graph.nodes[0],), axes=(1,), keepdims=False)
    assert graph.bind({"p0": (0, 0)})["N"] == 0
    with pytest.raises(CompileError, match="reduce_max over an empty axis"):
        graph.bind({"p0": (2, 0)})


def test_reshape_cancels_derives_and_checks() -> None:
    known = {"M", "N", "H"}
    assert infer_reshape(("M", 12, 64), ("M", -1), known).shape == ("M", 768)
    assert infer_reshape(("M", "N"), (-1, "M"), known).shape == ("N", "M")
    halves = infer_reshape(("M", "N"), ("P", 2), known)
    assert halves.shape == ("P", 2)
    assert halves.derived == Derived("P", product(("M", "N")), product((2,)))
    assert halves.derived.value({"M": 3, "N": 4}) == 6
    checked = infer_reshape(("M", "N"), ("H", 4), known)
    assert checked.check is not None
    assert str(checked.check) == "M * N == 4 * H"
    checked.check.test({"M": 2, "N": 6, "H": 3})
    with pytest.raises(CompileError, match="shapes disagree"):
        checked.check.test({"M": 2, "N": 6, "H": 4})
    with pytest.raises(CompileError, match="sizes differ"):
        infer_reshape(("M", 12), ("M", 13), known)
    with pytest.raises(CompileError, match="at most one"):
        infer_reshape(("M", 12), ("P", "Q"), known)
    with pytest.raises(CompileError, match="not a multiple"):
        infer_reshape((10,), (-1, 3), known)
    with pytest.raises(CompileError, match="7 is not a multiple of 2"):
        halves.derived.value({"M": 7, "N": 1})
