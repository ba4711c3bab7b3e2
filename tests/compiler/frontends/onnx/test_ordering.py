"""Places of extremes, the largest elements, sums and products up to each element, triangles."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.frontends.onnx.model_run import Given, check, node_case, node_cases, one_node

from npuvm.compiler.frontends.onnx import import_model

RNG = np.random.default_rng(8)
X = RNG.standard_normal((3, 4, 7)).astype(np.float32)
CONSTANT = {"TopK": ["k"], "CumSum": ["axis"], "CumProd": ["axis"]}
CASES = node_cases("ArgMax", "ArgMin", "TopK", "CumSum", "Trilu", "EyeLike")


@pytest.mark.parametrize("name", CASES)
def test_nodes_of_onnx_run_on_the_device(name: str) -> None:
    proto, feeds, expected = node_case(name)
    op = proto.graph.node[0].op_type
    proto, feeds, expected = node_case(name, [each for each in feeds if each in CONSTANT.get(op, ())])
    wide = {"float64", "uint64"} & {str(each.dtype) for each in (*feeds.values(), *expected)}
    check(proto, feeds, expected=expected, host=[op] if wide else [])


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "int64", "int32", "int8"])
def test_top_k(axis: int, largest: int, dtype: str) -> None:
    x = (X * 30).astype(dtype)
    if dtype == "int32":
        x[0, 0, 0] = np.iinfo(np.int32).min
    proto = one_node(
        "TopK", {"x": (dtype, ["A", "B", "C"]), "k": np.array([3])}, ["v", "i"], axis=axis, largest=largest
    )
    # onnxruntime has no top-k of int8.
    order = np.argsort(-x.astype(np.int64) if largest else x, axis, kind="stable").take(range(3), axis)
    expected = [np.take_along_axis(x, order, axis), order] if dtype == "int8" else None
    check(proto, {"x": x}, expected=expected, chip="ascend_910b1")


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "float16"])
def test_places_of_equal_extremes(op: str, last: int, dtype: str) -> None:
    x = RNG.integers(0, 3, (3, 4, 7)).astype(dtype)
    find = np.argmax if op == "ArgMax" else np.argmin
    for axis in (0, -1):
        proto = one_node(op, {"x": (dtype, ["A", "B", "C"])}, axis=axis, keepdims=0, select_last_index=last)
        expected = x.shape[axis] - 1 - find(np.flip(x, axis), axis) if last else find(x, axis)
        check(proto, {"x": x}, expected=[expected], chip="ascend_910b1")


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_cumulative_sums_on_the_chip(exclusive: int, reverse: int, axis: int) -> None:
    for dtype in ("float32", "int64"):
        inputs: dict[str, Given] = {"x": (dtype, ["A", "B", "C"]), "axis": np.array(axis)}
        proto = one_node("CumSum", inputs, exclusive=exclusive, reverse=reverse)
        check(proto, {"x": (X * 10).astype(dtype)}, chip="ascend_910b1")


def test_sums_of_int64_that_may_not_fit() -> None:
    """Inputs of the model are taken to be small, and read again where they are not; other integers are for the host."""
    proto = one_node("CumSum", {"x": ("int64", ["A", "B"]), "axis": np.array(1)})
    model = import_model(proto)
    assert not model.host_steps()
    assert model.taken["x"] == (-127, 127)
    assert [str(each) for each in model.guards] == ["B <= 16777216"]
    (step,) = import_model(proto, any_integers=True).host_steps()
    assert (step.op, step.reason) == ("CumSum", "int64 results may not fit int32, in which the device computes")


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("axis", [1, 2])
def test_cumulative_products_of_a_known_length(exclusive: int, reverse: int, axis: int) -> None:
    inputs: dict[str, Given] = {"x": ("float32", ["A", 4, 7]), "axis": np.array(axis)}
    proto = one_node("CumProd", inputs, opset=26, exclusive=exclusive, reverse=reverse)
    x = np.flip(X, axis) if reverse else X
    if exclusive:
        x = np.concatenate([np.ones_like(x.take([0], axis)), x.take(range(x.shape[axis] - 1), axis)], axis)
    found = np.cumprod(x, axis)
    check(proto, {"x": X}, expected=[np.flip(found, axis) if reverse else found], chip="ascend_910b1")


def test_cumulative_products_of_an_unknown_length_are_for_the_host() -> None:
    proto = one_node("CumProd", {"x": ("float32", ["A"]), "axis": np.array(0)}, opset=26)
    check(proto, {"x": X[0, 0]}, expected=[np.cumprod(X[0, 0])], host=["CumProd"])


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "uint8"])
def test_triangles_with_a_diagonal_of_run_time(upper: int, dtype: str) -> None:
    proto = one_node("Trilu", {"x": (dtype, ["A", "B", "C"]), "k": ("int64", [])}, upper=upper)
    x = (X * 20).astype(np.int8).astype(dtype)
    for diagonal in (-2, 0, 3):
        expected = np.triu(x, diagonal) if upper else np.tril(x, diagonal)
        check(proto, {"x": x, "k": np.array(diagonal)}, expected=[expected], chip="ascend_910b1")
