"""Resizing by repeating, picking and interpolating, against onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from tests.compiler.frontends.onnx.model_run import Given, check, node_case, node_cases, one_node

from npuvm.compiler.frontends.onnx import import_model
from npuvm.compiler.frontends.onnx.resampling import LARGEST_SCALED, fraction_of
from npuvm.compiler.graph.model import DeviceStep

RNG = np.random.default_rng(13)
X = RNG.standard_normal((1, 3, 6, 8)).astype(np.float32)
EMPTY = np.array([], np.float32)
CHIP = "ascend_910b1"


@pytest.mark.parametrize("name", node_cases("Resize"))
def test_nodes_of_onnx_with_known_sizes(name: str) -> None:
    """onnxruntime is asked, since ONNX's data has other results where corners are aligned and sizes are no whole numbers."""
    _, feeds, _ = node_case(name)
    proto, feeds, _ = node_case(name, [each for each in feeds if each != "X"])
    for dim, size in zip(proto.graph.input[0].type.tensor_type.shape.dim, feeds["X"].shape, strict=True):
        dim.dim_value = size
    check(proto, feeds, host=["Resize"] if "crop" in name else [], rtol=1e-4, atol=1e-5)


def _case(
    sizes: Sequence[int | str],
    scales: Sequence[float] = (),
    wanted: Sequence[int] = (),
    dtype: str = "float32",
    **attributes: Any,
) -> None:
    inputs: dict[str, Given] = {"x": (dtype, sizes), "roi": EMPTY, "scales": np.array(scales, np.float32)}
    if wanted:
        inputs |= {"sizes": np.array(wanted)}
    proto = one_node("Resize", inputs, order=["x", "", "", "sizes"] if wanted else None, **attributes)
    x = X if dtype == "float32" else (X * 30).astype(dtype)
    for chip in (None, CHIP):
        check(proto, {"x": x}, chip=chip, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("scale", [2.0, 0.5, 1.5])
def test_nearest_elements_of_unknown_sizes(mode: str, rounding: str, scale: float) -> None:
    options: dict[str, Any] = {"coordinate_transformation_mode": mode, "nearest_mode": rounding}
    _case(["N", 3, "H", "W"], [1, 1, scale, scale], mode="nearest", **options)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("place", ["half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"])
@pytest.mark.parametrize("scale", [2.0, 0.5, 1.25])
def test_interpolation_of_unknown_sizes(mode: str, place: str, scale: float) -> None:
    _case(["N", 3, "H", "W"], [1, 1, scale, scale], mode=mode, coordinate_transformation_mode=place)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("wanted", [[1, 3, 12, 16], [1, 3, 5, 3], [1, 3, 1, 1]])
@pytest.mark.parametrize("sizes", [["N", 3, "H", "W"], [1, 3, 6, 8]])
def test_sizes_that_are_asked_for(mode: str, wanted: list[int], sizes: list[int | str]) -> None:
    _case(sizes, wanted=wanted, mode=mode)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
def test_integers_are_repeated(dtype: str) -> None:
    _case(["N", 3, "H", "W"], [1, 1, 2, 3], dtype=dtype, mode="nearest")


@pytest.mark.parametrize(("height", "guards"), [(3, 0), ("H", 1)])
def test_images_that_keep_their_size_stay_as_they_are(height: int | str, guards: int) -> None:
    """Also at a scale that is not 1; an image that may keep its size or not is assumed to grow."""
    scales = np.array([1, 1, 1.25, 1.25], np.float32)
    inputs: dict[str, Given] = {"x": ("float32", [1, 3, height, 3]), "roi": EMPTY, "s": scales}
    proto = one_node("Resize", inputs, mode="linear")
    assert sum(str(each).startswith("1 + H <= ") for each in import_model(proto).guards) == guards
    check(proto, {"x": X[:, :, : 6 if guards else 3, :3]})


def test_whole_scales_move_nothing_by_index() -> None:
    inputs: dict[str, Given] = {
        "x": ("float32", ["N", 3, "H", "W"]),
        "roi": EMPTY,
        "s": np.array([1, 1, 2, 2], np.float32),
    }
    (step,) = import_model(one_node("Resize", inputs, mode="nearest")).steps
    assert isinstance(step, DeviceStep)
    assert "gather" not in {node.op for node in step.graph.nodes}


def test_scales_of_unknown_sizes_must_be_fractions() -> None:
    scales = np.array([1, 1, 0.6123, 1], np.float32)
    inputs: dict[str, Given] = {"x": ("float32", ["N", 3, "H", 8]), "roi": EMPTY, "s": scales}
    check(one_node("Resize", inputs, mode="nearest"), {"x": X}, host=["Resize"])


@pytest.mark.parametrize("part", ["3/5", "4/5", "23/10", "1/3", "2/3", "1/7", "7/3", "9/10", "1/255", "15/17", "5/64"])
def test_fractions_give_the_sizes_that_products_in_fp32_give(part: str) -> None:
    scale = np.float32(float(Fraction(part)))
    found = fraction_of(scale)
    if found is None:  # a whole product could be rounded down
        assert float(scale) < Fraction(part)
        return
    sizes = np.arange(1, LARGEST_SCALED + 1)
    products = np.floor(sizes.astype(np.float32) * scale).astype(np.int64)
    np.testing.assert_array_equal(products, sizes * found.numerator // found.denominator)


@pytest.mark.parametrize("scale", [0.6, 2.3, 0.8])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_fractions_of_unknown_sizes(scale: float, mode: str) -> None:
    _case(["N", 3, "H", "W"], [1, 1, scale, scale], mode=mode)
