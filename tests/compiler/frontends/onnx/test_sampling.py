"""Images sampled at places that are computed, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.frontends.onnx.model_run import check, node_case, node_cases, one_node

RNG = np.random.default_rng(15)


@pytest.mark.parametrize("name", node_cases("GridSample"))
def test_grids_of_onnx(name: str) -> None:
    proto, feeds, expected = node_case(name)
    check(proto, feeds, expected=expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [0, 1])
def test_places_inside_and_far_outside(mode: str, padding: str, corners: int) -> None:
    proto = one_node(
        "GridSample", {"x": ("float32", ["N", "C", "H", "W"]), "grid": ("float32", ["N", "P", "Q", 2])},
        mode=mode, padding_mode=padding, align_corners=corners,
    )  # fmt: skip
    x = RNG.standard_normal((2, 3, 5, 6)).astype(np.float32)
    grid = RNG.uniform(-2.5, 2.5, (2, 4, 7, 2)).astype(np.float32)
    check(proto, {"x": x, "grid": grid}, chip="ascend_910b1" if mode == "linear" else None, rtol=1e-3, atol=1e-4)


def test_what_is_outside_takes_no_part() -> None:
    """Not even an infinity at the border."""
    proto = one_node("GridSample", {"x": ("float32", [1, 1, "H", "W"]), "grid": ("float32", [1, "P", "Q", 2])})
    x = np.full((1, 1, 3, 3), np.inf, np.float32)
    check(proto, {"x": x, "grid": np.full((1, 1, 1, 2), 5.0, np.float32)})
