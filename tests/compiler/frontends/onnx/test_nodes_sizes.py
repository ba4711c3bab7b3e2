"""Operators of unknown sizes against onnxruntime: sizes of 0 and 1, parts that do not come out even, all ways to slice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.compiler.frontends.onnx.model_run import Array, Given, check, one_node

F = "float32"
Case = tuple[str, dict[str, Given], dict[str, Any], dict[str, Array]]


def _f(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def _bytes(*shape: int) -> Array:
    return np.random.default_rng(7).integers(0, 255, shape, dtype=np.uint8)


def _ints(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


THREE, NM = {"outputs": ("a", "b", "c")}, (F, ["N", "M"])

CASES: dict[str, Case] = {
    "split unevenly": ("Split", {"x": (F, ["N", 4])}, {**THREE, "num_outputs": 3}, {"x": _f(8, 4)}),
    "split evenly": ("Split", {"x": (F, ["N", 4])}, {**THREE, "num_outputs": 3}, {"x": _f(9, 4)}),
    "split by sizes": ("Split", {"x": NM, "s": _ints(2, 3)}, {"outputs": ("a", "b"), "axis": 1}, {"x": _f(8, 5)}),
    "tile": ("Tile", {"x": NM, "r": _ints(2, 3)}, {}, {"x": _f(3, 4)}),
    "expand": ("Expand", {"x": (F, ["N", 1]), "r": _ints(2, 1, 5)}, {}, {"x": _f(3, 1)}),
    "flatten at 2": ("Flatten", {"x": (F, ["N", "M", "K"])}, {"axis": 2}, {"x": _f(3, 4, 5)}),
    "flatten at 0": ("Flatten", {"x": (F, ["N", "M", "K"])}, {"axis": 0}, {"x": _f(3, 4, 5)}),
    "reshape": ("Reshape", {"x": (F, ["N", 6, "M"]), "s": _ints(0, 2, -1)}, {}, {"x": _f(3, 6, 4)}),
    "blocks to space": ("DepthToSpace", {"x": (F, ["N", 8, "H", "W"])}, {"blocksize": 2, "mode": "CRD"}, {"x": _f(2, 8, 3, 5)}),
    "einsum of a batch": (
        "Einsum", {"a": (F, ["B", "I", "K"]), "b": (F, ["B", "K", "J"])}, {"equation": "bik,bkj->bij"},
        {"a": _f(2, 3, 4), "b": _f(2, 4, 5)},
    ),
    "einsum of heads": (
        "Einsum", {"a": (F, ["B", "N", "H", "D"]), "b": (F, ["B", "M", "H", "D"])}, {"equation": "bnhd,bmhd->bhnm"},
        {"a": _f(2, 3, 4, 5), "b": _f(2, 6, 4, 5)},
    ),
    "einsum over two dims": (
        "Einsum", {"a": (F, ["B", "N", "H", "D"]), "b": (F, ["H", "D", "E"])}, {"equation": "bnhd,hde->bne"},
        {"a": _f(2, 3, 4, 5), "b": _f(4, 5, 6)},
    ),
    "einsum of all pairs": ("Einsum", {"a": (F, ["I"]), "b": (F, ["J"])}, {"equation": "i,j->ij"}, {"a": _f(3), "b": _f(4)}),
    "einsum of one": ("Einsum", {"a": NM}, {"equation": "ij->j"}, {"a": _f(3, 4)}),
    "vector by matrices": ("MatMul", {"a": (F, ["K"]), "b": (F, ["B", "K", "N"])}, {}, {"a": _f(3), "b": _f(2, 3, 4)}),
    "vector by vector": ("MatMul", {"a": (F, ["K"]), "b": (F, ["K"])}, {}, {"a": _f(3), "b": _f(3)}),
    "matrices of two batches": (
        "MatMul", {"a": (F, ["B", 1, "M", "K"]), "b": (F, ["H", "K", "N"])}, {}, {"a": _f(2, 1, 3, 4), "b": _f(5, 4, 6)},
    ),
    "product over nothing": ("MatMul", {"a": (F, ["M", "K"]), "b": (F, ["K", "N"])}, {}, {"a": _f(3, 0), "b": _f(0, 4)}),
    "gemm": (
        "Gemm", {"a": (F, ["K", "M"]), "b": (F, ["N", "K"]), "c": (F, ["M", 1])},
        {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}, {"a": _f(3, 4), "b": _f(5, 3), "c": _f(4, 1)},
    ),
    "quantized product": (
        "MatMulInteger", {"a": ("uint8", ["M", "K"]), "b": ("int8", ["K", "N"]), "z": np.array(12, np.uint8)}, {},
        {"a": _bytes(4, 300), "b": _bytes(300, 6).astype(np.int8)},
    ),
    "neighbouring channels": ("LRN", {"x": (F, ["N", "C", "H", "W"])}, {"size": 5}, {"x": _f(2, 7, 3, 3)}),
    "softmax over rows": ("LogSoftmax", {"x": NM}, {"axis": 0}, {"x": _f(5, 4)}),
    "softmax of nothing": ("Softmax", {"x": NM}, {}, {"x": _f(0, 4)}),
    "hardmax over rows": ("Hardmax", {"x": NM}, {"axis": 0}, {"x": _f(5, 4)}),
    "sum over nothing": ("ReduceSum", {"x": NM, "a": _ints(0)}, {}, {"x": _f(0, 4)}),
    "largest bool": (
        "ReduceMax", {"x": ("bool", ["N", "M"]), "a": _ints(1)}, {"opset": 20, "keepdims": 0}, {"x": _f(5, 4) > 1},
    ),
    "log of a sum of large exponentials": (
        "ReduceLogSumExp", {"x": NM, "a": _ints(0)}, {"keepdims": 0}, {"x": _f(5, 4) * 50},
    ),
    "reflected pads": ("Pad", {"x": (F, ["N", 6]), "p": _ints(0, 2, 0, 3)}, {"mode": "reflect"}, {"x": _f(5, 6)}),
    "repeated pads": ("Pad", {"x": NM, "p": _ints(1, 2, 0, 3)}, {"mode": "edge"}, {"x": _f(5, 6)}),
    "pads below zero": ("Pad", {"x": NM, "p": _ints(1, -2, 0, 3)}, {}, {"x": _f(5, 6)}),
    "pads of a value at run time": (
        "Pad", {"x": NM, "p": _ints(1, 2, 0, 3), "v": (F, [])}, {}, {"x": _f(5, 6), "v": np.array(2.5, np.float32)},
    ),
    "choice of three shapes": (
        "Where", {"c": ("bool", ["N", 1]), "a": (F, ["M"]), "b": (F, [])}, {},
        {"c": _f(3, 1) > 0, "a": _f(4), "b": np.array(1, np.float32)},
    ),
    "limits at run time": (
        "Clip", {"x": (F, ["N"]), "low": (F, []), "high": (F, [])}, {},
        {"x": _f(7), "low": np.array(-0.5, np.float32), "high": np.array(0.4, np.float32)},
    ),
    "bytes one behind the other": (
        "Concat", {"a": ("uint8", ["N", "M"]), "b": ("uint8", ["K", "M"])}, {"axis": 0}, {"a": _bytes(2, 3), "b": _bytes(4, 3)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_unknown_sizes(name: str) -> None:
    op, inputs, attributes, feeds = CASES[name]
    check(one_node(op, inputs, **attributes), feeds, rtol=1e-4, atol=1e-5)


ENDS = 2**63 - 1
BOUNDS = (
    (1, ENDS, 1), (-3, -1, 1), (0, ENDS, 2), (-1, -ENDS, -1), (4, 0, -2), (-2, -(2**31), -1), (100, -100, -3), (2, 2, 1),
    (3, 1, 1),
)  # fmt: skip


@pytest.mark.parametrize("size", [0, 1, 2, 5])
@pytest.mark.parametrize(("start", "stop", "step"), BOUNDS)
def test_slices_of_an_unknown_dim(start: int, stop: int, step: int, size: int) -> None:
    bounds: dict[str, Given] = {"s": _ints(start), "e": _ints(stop), "a": _ints(0), "p": _ints(step)}
    check(one_node("Slice", {"x": (F, ["N", 3]), **bounds}), {"x": _f(size, 3)})
