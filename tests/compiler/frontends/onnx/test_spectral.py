"""Fourier transforms as products with constants."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.frontends.onnx.model_run import Array, Given, check, node_case, node_cases, one_node

RNG = np.random.default_rng(14)


@pytest.mark.parametrize("name", node_cases("DFT", "STFT"))
def test_nodes_of_onnx(name: str) -> None:
    _, feeds, _ = node_case(name)
    proto, feeds, expected = node_case(name, [each for each in feeds if each not in ("x", "signal")])
    for dim, size in zip(proto.graph.input[0].type.tensor_type.shape.dim, _only(feeds).shape, strict=True):
        dim.dim_value = size
    wide = _only(feeds).dtype == np.float64
    host = [proto.graph.node[0].op_type] if wide else []
    check(proto, feeds, expected=expected, host=host, rtol=1e-4, atol=1e-4)


def _only(feeds: dict[str, Array]) -> Array:
    (found,) = feeds.values()
    return found


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize(("parts", "inverse", "onesided"), [(1, 0, 0), (1, 0, 1), (2, 0, 0), (2, 1, 0)])
@pytest.mark.parametrize("length", [None, 6, 12])
def test_axes_lengths_and_directions(axis: int, parts: int, inverse: int, onesided: int, length: int | None) -> None:
    dims: list[int | str] = ["A", 9, "C", parts] if axis == 1 else ["A", "B", 7, parts]
    inputs: dict[str, Given] = {"x": ("float32", dims), "axis": np.array(axis)}
    if length:
        inputs["length"] = np.array(length)
    proto = one_node("DFT", inputs, order=["x", "length" if length else "", "axis"], inverse=inverse, onesided=onesided)
    x = RNG.standard_normal((3, 9, 7, parts)).astype(np.float32)
    check(proto, {"x": x}, chip="ascend_910b1", rtol=1e-4, atol=1e-4)


def test_unknown_lengths_are_for_the_host() -> None:
    proto = one_node("DFT", {"x": ("float32", ["A", "N", 1])})
    check(proto, {"x": RNG.standard_normal((2, 8, 1)).astype(np.float32)}, host=["DFT"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("run_time", [False, True])
@pytest.mark.parametrize("onesided", [0, 1])
def test_frames_of_signals_of_unknown_length(run_time: bool, onesided: int) -> None:
    window = np.hanning(16).astype(np.float32)
    inputs: dict[str, Given] = {
        "x": ("float32", ["B", "L", 1]), "step": np.array(8), "w": ("float32", [16]) if run_time else window,
    }  # fmt: skip
    proto = one_node("STFT", inputs, onesided=onesided)
    feeds = {"x": RNG.standard_normal((2, 100, 1)).astype(np.float32)} | ({"w": window} if run_time else {})
    check(proto, feeds, chip="ascend_910b1", rtol=1e-4, atol=1e-4)
