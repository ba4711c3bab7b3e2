"""Poolings over windows and whole images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.compiler.frontends.onnx.model_run import check, node_case, node_cases, one_node

RNG = np.random.default_rng(11)
X = RNG.standard_normal((2, 3, 11, 8, 7)).astype(np.float32)
OPS = ("MaxPool", "AveragePool", "LpPool")
CASES = node_cases(*OPS, "GlobalAveragePool", "GlobalMaxPool")


@pytest.mark.parametrize("name", CASES)
def test_nodes_of_onnx(name: str) -> None:
    proto, feeds, expected = node_case(name)
    check(proto, feeds, expected=expected, host=["MaxPool"] if "argmax" in name else [], rtol=1e-3)


def _case(op: str, dims: int, dtype: str = "float32", opset: int = 22, **attributes: Any) -> None:
    proto = one_node(op, {"x": (dtype, ["N", 3, *"DHW"[:dims]])}, opset=opset, **attributes)
    x = X[..., 0, 0] if dims == 1 else X[..., 0] if dims == 2 else X
    x = (x * 20).astype(np.int8).astype(dtype) if dtype != "float32" else x
    for chip in (None, "ascend_910b1"):
        check(proto, {"x": x}, chip=chip, rtol=1e-4)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_strides_and_pads(op: str, dims: int) -> None:
    pads = [1, 0, 1][:dims] + [0, 1, 1][:dims]
    _case(op, dims, kernel_shape=[3, 2, 3][:dims], strides=[2, 1, 2][:dims], pads=pads)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("ceil", [0, 1])
def test_dilations_and_last_windows(op: str, ceil: int) -> None:
    _case(op, 2, kernel_shape=[3, 2], strides=[3, 2], dilations=[2, 3], ceil_mode=ceil)
    _case(op, 1, kernel_shape=[3], strides=[2], pads=[1, 1], ceil_mode=ceil)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("mode", ["VALID", "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("strides", [[1, 1], [3, 2]])
def test_paddings_that_follow_from_unknown_sizes(op: str, mode: str, strides: list[int]) -> None:
    _case(op, 2, kernel_shape=[4, 3], auto_pad=mode, strides=strides)


@pytest.mark.parametrize(("op", "options"), [("MaxPool", {"dilations": [2]}), ("AveragePool", {"strides": [4]})])
def test_paddings_that_are_read_in_two_ways_are_for_the_host(op: str, options: dict[str, Any]) -> None:
    proto = one_node(op, {"x": ("float32", ["N", 3, "W"])}, kernel_shape=[2], auto_pad="SAME_UPPER", **options)
    check(proto, {"x": X[:, :, :, 0, 0]}, host=[op])


@pytest.mark.parametrize("count_pads", [0, 1])
@pytest.mark.parametrize("pads", [[1, 1, 0, 1], [2, 2, 2, 1]])
def test_means_with_and_without_padding(count_pads: int, pads: list[int]) -> None:
    _case("AveragePool", 2, kernel_shape=[3, 3], pads=pads, count_include_pad=count_pads)


def test_wide_paddings_of_the_largest() -> None:
    _case("MaxPool", 2, kernel_shape=[3, 3], pads=[2, 2, 2, 2])
    proto = one_node("MaxPool", {"x": ("float32", ["N", 3, "W"])}, kernel_shape=[3], pads=[2, 2], ceil_mode=1)
    check(proto, {"x": X[:, :, 0, 0]}, host=["MaxPool"])


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_integers(dtype: str) -> None:
    _case("MaxPool", 2, dtype, kernel_shape=[3, 3], pads=[1] * 4)


@pytest.mark.parametrize("power", [1, 2, 3])
def test_norms(power: int) -> None:
    _case("LpPool", 2, kernel_shape=[2, 2], p=power)
    _case("GlobalLpPool", 2, opset=21, p=power)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_whole_images(op: str, dims: int) -> None:
    _case(op, dims)
