"""Picking and placing elements by index."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.frontends.onnx.model_run import Array, Given, check, node_case, node_cases, one_node, run_model

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx import import_model

RNG = np.random.default_rng(7)
X = RNG.standard_normal((4, 5, 6)).astype(np.float32)
CASES = node_cases("Gather", "GatherElements", "OneHot", "ReverseSequence", "TensorScatter")


@pytest.mark.parametrize("name", CASES)
def test_nodes_of_onnx_run_on_the_device(name: str) -> None:
    proto, feeds, expected = node_case(name, ["depth"] if "onehot" in name else [])
    check(proto, feeds, expected=expected)


@pytest.mark.parametrize("name", node_cases("ScatterElements"))
def test_scatters_of_elements_set_and_add(name: str) -> None:
    proto, feeds, expected = node_case(name)
    other = name.endswith(("_mul", "_max", "_min"))
    check(proto, feeds, expected=expected, host=["ScatterElements"] if other else [])


@pytest.mark.parametrize("name", node_cases("Compress", "NonZero", "Unique"))
def test_sizes_that_follow_from_data_are_for_the_host(name: str) -> None:
    proto, feeds, expected = node_case(name)
    check(proto, feeds, expected=expected, host=[proto.graph.node[0].op_type])


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "int32", "int8", "uint8", "int16", "uint16", "bool"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_takes_all_carried_dtypes(dtype: str, axis: int) -> None:
    x = (X * 40).astype(np.int8).astype(dtype)
    proto = one_node("Gather", {"x": (dtype, ["A", 5, "C"]), "i": ("int64", ["N", 2])}, axis=axis)
    check(proto, {"x": x, "i": np.array([[0, -1], [3, 2], [-3, 3]])}, chip="ascend_910b1" if axis == 1 else None)


@pytest.mark.parametrize("index", [2, -1, [1, 2, 3], [0, 2, 4], [4, 2, 0], [[0, 1], [2, 3]], [3], [], [1, 1]])
@pytest.mark.parametrize("size", [5, "B"])
def test_constant_indices(index: object, size: int | str) -> None:
    proto = one_node("Gather", {"x": ("float32", ["A", size, 6]), "i": np.array(index, np.int64)}, axis=1)
    check(proto, {"x": X})


def test_regular_constant_indices_are_slices() -> None:
    proto = one_node("Gather", {"x": ("float32", ["A", 5, 6]), "i": np.array([1, 3])}, axis=1)
    (step,) = import_model(proto).steps
    assert "gather" not in {node.op for node in step.graph.nodes}  # type: ignore[union-attr]


@pytest.mark.parametrize("index", [5, -6])
def test_constant_indices_outside_are_refused(index: int) -> None:
    proto = one_node("Gather", {"x": ("float32", ["A", 5, 6]), "i": np.array(index)}, axis=1)
    with pytest.raises(CompileError, match=rf"index {index} is outside axis 1 of 5 elements"):
        import_model(proto)


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("Gather", {"x": X, "i": np.array([7])}),
        ("GatherElements", {"x": X, "i": np.full((1, 1, 1), 4)}),
        ("GatherElements", {"x": X, "i": np.full((1, 1, 1), -5)}),
        ("GatherND", {"x": X, "i": np.array([[0, 5]])}),
        ("ScatterND", {"x": X, "i": np.array([[0, -6]]), "u": X[0, :1]}),
        ("ScatterElements", {"x": X, "i": np.full((1, 1, 1), 4), "u": X[:1, :1, :1]}),
    ],
)
def test_indices_outside_trap(op: str, inputs: dict[str, Array]) -> None:
    """Also those that a row-major number would let into another row."""
    kinds: dict[str, Given] = {name: (str(each.dtype), each.shape) for name, each in inputs.items()}
    kinds["x"] = ("float32", [4, 5, "C"])
    model = import_model(one_node(op, kinds))
    assert not model.host_steps()
    with pytest.raises(CompileError, match="is outside an axis"):
        run_model(model, inputs)


@pytest.mark.parametrize("batches", [0, 1])
@pytest.mark.parametrize("depth", [1, 2])
def test_gather_nd(batches: int, depth: int) -> None:
    index = RNG.integers(-4, 4, (4, 3, depth))
    proto = one_node(
        "GatherND", {"x": ("float32", ["A", "B", "C"]), "i": ("int64", ["A", "N", depth])}, batch_dims=batches
    )
    check(proto, {"x": X, "i": index}, chip="ascend_910b1")


@pytest.mark.parametrize("reduction", ["none", "add"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_scatter_nd(reduction: str, depth: int) -> None:
    index = np.array([[3, 1, 2], [-1, 2, 0], [0, -2, 5]])[:, :depth]
    index[:, 0] = [3, 1, 0]
    updates = RNG.standard_normal((3, *X.shape[depth:])).astype(np.float32)
    proto = one_node(
        "ScatterND",
        {"x": ("float32", ["A", "B", "C"]), "i": ("int64", ["N", depth]), "u": ("float32", ["N", *"BC"[depth - 1 :]])},
        reduction=reduction,
    )
    check(proto, {"x": X, "i": index, "u": updates}, chip="ascend_910b1")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_elements_by_index_on_the_chip(axis: int) -> None:
    index = RNG.integers(-4, 4, (3, 4, 4))
    names = {"x": ("float32", ["A", "B", "C"]), "i": ("int64", ["P", "Q", "R"])}
    check(one_node("GatherElements", names, axis=axis), {"x": X, "i": index}, chip="ascend_910b1")
    for each in np.ndindex(index.shape[1:]):
        index[(slice(None), *each)] = RNG.permutation(4)[:3]
    updates = RNG.standard_normal(index.shape).astype(np.float32)
    proto = one_node("ScatterElements", {**names, "u": ("float32", ["P", "Q", "R"])}, axis=0, reduction="add")
    check(proto, {"x": X, "i": index, "u": updates}, chip="ascend_910b1")


def test_an_index_longer_than_its_tensor_is_refused() -> None:
    proto = one_node("GatherElements", {"x": ("float32", [2, 3]), "i": ("int64", [2, 4])}, axis=0)
    with pytest.raises(CompileError, match="4 elements along an axis of 3"):
        import_model(proto)


@pytest.mark.parametrize("dtype", ["int64", "float32", "int32"])
def test_one_hot_of_indices_below_zero_and_outside(dtype: str) -> None:
    values = np.array([2, 5], np.float32)
    proto = one_node("OneHot", {"i": (dtype, ["N"]), "d": np.array(4), "v": values}, axis=0)
    given = np.array([0, -1, 9, -4], dtype)
    hot = (given + 4 * (given < 0)) == np.arange(4)[:, None]
    check(proto, {"i": given}, expected=[np.where(hot, values[1], values[0])], chip="ascend_910b1")
