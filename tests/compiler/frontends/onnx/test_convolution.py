"""Convolutions and their transposes, of one, two and three dims."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.compiler.frontends.onnx.model_run import Given, check, node_case, node_cases, one_node

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx import import_model

RNG = np.random.default_rng(10)


@pytest.mark.parametrize("name", node_cases("Conv"))
def test_convolutions_of_onnx_run_on_the_device(name: str) -> None:
    proto, feeds, expected = node_case(name)
    check(proto, feeds, expected=expected, rtol=1e-4)


@pytest.mark.parametrize("name", node_cases("ConvTranspose"))
def test_transposes_of_onnx_run_on_the_device(name: str) -> None:
    proto, feeds, expected = node_case(name, ["W"])
    shaped = any(each.name == "output_shape" for each in proto.graph.node[0].attribute)
    if shaped:  # how much is cut away follows from the size of the image
        check(proto, feeds, expected=expected, host=["ConvTranspose"], rtol=1e-4)
    for dim, size in zip(proto.graph.input[0].type.tensor_type.shape.dim, feeds["X"].shape, strict=True):
        dim.dim_value = size
    check(proto, feeds, expected=expected, rtol=1e-4)


def _case(op: str, dims: int, groups: int, dtype: str = "float32", bias: bool = True, **attributes: Any) -> None:
    """A random one, of sizes that are known when it runs, on the interpreter and on a chip."""
    sizes = (9, 8, 7)[:dims]
    filters = (6, 4 // groups) if op == "Conv" else (4, 6 // groups)
    w = (RNG.standard_normal((*filters, *(3, 2, 3)[:dims])) / 4).astype(dtype)
    inputs: dict[str, Given] = {"x": (dtype, ["N", "C", *"DHW"[:dims]]), "w": w}
    if bias:
        inputs["b"] = RNG.standard_normal(6).astype(dtype)
    proto = one_node(op, inputs, group=groups, **attributes)
    x = RNG.standard_normal((2, 4, *sizes)).astype(dtype)
    tolerance = 1e-2 if dtype == "float16" else 1e-4
    for chip in (None, "ascend_910b1"):
        check(proto, {"x": x}, chip=chip, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_strides_pads_and_dilations(dims: int, groups: int, bias: bool) -> None:
    _case(
        "Conv", dims, groups, bias=bias, strides=[2, 1, 2][:dims], dilations=[1, 2, 1][:dims],
        pads=[1, 0, 2][:dims] + [0, 2, 1][:dims],
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["VALID", "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("strides", [[1, 1], [2, 3]])
def test_paddings_that_follow_from_unknown_sizes(mode: str, strides: list[int]) -> None:
    _case("Conv", 2, 1, auto_pad=mode, strides=strides)


def test_half_precision() -> None:
    _case("Conv", 2, 1, "float16", pads=[1] * 4)
    _case("ConvTranspose", 1, 1, "float16", strides=[2])


def test_a_kernel_for_each_channel() -> None:
    w = RNG.standard_normal((4, 1, 3, 3)).astype(np.float32)
    proto = one_node("Conv", {"x": ("float32", ["N", 4, "H", "W"]), "w": w}, group=4, pads=[1] * 4, strides=[2, 2])
    check(proto, {"x": RNG.standard_normal((2, 4, 9, 7)).astype(np.float32)}, chip="ascend_910b1", rtol=1e-4)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("strides", [[1, 1, 1], [2, 3, 2]])
def test_transposes(dims: int, groups: int, strides: list[int]) -> None:
    extra = [each - 1 for each in strides][:dims]
    pads = [1, 0, 2][:dims] + [2, 1, 0][:dims]
    _case("ConvTranspose", dims, groups, strides=strides[:dims], output_padding=extra, pads=pads)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_transposes_that_multiply_sizes(mode: str) -> None:
    _case("ConvTranspose", 2, 1, strides=[2, 3], auto_pad=mode)
    _case("ConvTranspose", 2, 1, strides=[4, 4], auto_pad=mode)


def test_transposes_with_kernels_of_run_time() -> None:
    proto = one_node("ConvTranspose", {"x": ("float32", ["N", 4, "H"]), "w": ("float32", [4, 3, 3])}, group=2)
    x, w = (RNG.standard_normal(each).astype(np.float32) for each in ((2, 4, 5), (4, 3, 3)))
    check(proto, {"x": x, "w": w}, chip="ascend_910b1", rtol=1e-4)


def test_channels_are_deduced_from_kernels() -> None:
    w = np.zeros((6, 2, 3), np.float32)
    model = import_model(one_node("Conv", {"x": ("float32", ["N", "C", "W"]), "w": w}, group=2))
    assert "C == 4" in [each.text for each in model.facts]
    with pytest.raises(CompileError, match="5"):
        import_model(one_node("Conv", {"x": ("float32", ["N", 5, "W"]), "w": w}, group=2))
