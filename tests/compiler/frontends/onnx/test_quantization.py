"""Quantisation, and convolutions of quantised images."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.frontends.onnx.model_run import Array, Given, check, node_case, node_cases, one_node

RNG = np.random.default_rng(9)
CASES = node_cases("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "QLinearConv")
HOST = ("float4e2m1", "e4m3fn_zero_point", "quantizelinear_e4m3fn", "quantizelinear_e5m2")
"""Dtypes that the device has not, and zero points of fp8 that are given at run time."""


@pytest.mark.parametrize("name", CASES)
def test_nodes_of_onnx(name: str) -> None:
    proto, feeds, expected = node_case(name)
    on_host = name.endswith(HOST) and not name.endswith("dequantizelinear_e4m3fn")
    host = [proto.graph.node[0].op_type] if on_host and "dequantizelinear_e5m2" not in name else []
    check(proto, feeds, expected=expected, host=host, chip=None if host else "ascend_910b1")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
def test_rounding_and_limits(dtype: str) -> None:
    """Ties go to even, and what is too large stays at the limit, as far as infinity."""
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 1e30, -1e30, 65534.9, 3e9, -3e9, np.inf, -np.inf], np.float32)
    scale, zero = np.array(0.5, np.float32), np.array(3, dtype)
    proto = one_node("QuantizeLinear", {"x": ("float32", ["N"]), "s": scale, "z": zero})
    made = check(proto, {"x": x}, chip="ascend_910b1")["y"]
    back = one_node("DequantizeLinear", {"x": (dtype, ["N"]), "s": scale, "z": zero})
    check(back, {"x": made}, chip="ascend_910b1")


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_an_axis_of_scales(axis: int) -> None:
    x = (RNG.standard_normal((3, 4, 5)) * 50).astype(np.float32)
    count = (x.shape[axis],)
    scale, zero = RNG.uniform(0.5, 2, count).astype(np.float32), RNG.integers(-5, 5, count).astype(np.int8)
    dims = ["A", "B", "C"]
    given: dict[str, Given] = {"s": ("float32", ["S"]), "z": ("int8", ["S"])}
    proto = one_node("QuantizeLinear", {"x": ("float32", dims), **given}, axis=axis)
    made = check(proto, {"x": x, "s": scale, "z": zero})["y"]
    back = one_node("DequantizeLinear", {"x": ("int8", dims), **given}, axis=axis)
    check(back, {"x": made, "s": scale, "z": zero})


def test_fp8_saturates() -> None:
    import ml_dtypes

    zero = np.zeros((), ml_dtypes.float8_e4m3fn)
    x = np.array([1.0, 1000.0, -1e9, 447.0, 0.07], np.float32)
    proto = one_node("QuantizeLinear", {"x": ("float32", ["N"]), "s": np.array(1, np.float32), "z": zero})
    check(proto, {"x": x}, expected=[np.clip(x, -448, 448).astype(ml_dtypes.float8_e4m3fn)], chip="ascend_910b1")


def test_dynamic_quantisation_of_zeros() -> None:
    proto = one_node("DynamicQuantizeLinear", {"x": ("float32", ["N", 3])}, ["y", "s", "z"])
    for x in (np.zeros((2, 3)), np.full((2, 3), 4.0), RNG.standard_normal((5, 3))):
        check(proto, {"x": x.astype(np.float32)}, chip="ascend_910b1")


def _sums(x: Array, w: Array, x_zero: Array, w_zero: Array, pad: int, groups: int) -> Array:
    """The convolution of ONNX's text, in int64."""
    wide = np.pad(x.astype(np.int64) - x_zero, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    kernels = w.astype(np.int64) - w_zero.reshape(-1, 1, 1, 1)
    high, across = (size - w.shape[2] + 1 for size in wide.shape[2:])
    made = np.zeros((len(x), len(w), high, across), np.int64)
    each = len(w) // groups
    for group in range(groups):
        part = wide[:, group * w.shape[1] : (group + 1) * w.shape[1]]
        windows = np.lib.stride_tricks.sliding_window_view(part, w.shape[2:], (2, 3))
        mine = slice(group * each, (group + 1) * each)
        made[:, mine] = np.einsum("nchwij,ocij->nohw", windows, kernels[mine])
    return made.astype(np.int32)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dtypes", [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")])
@pytest.mark.parametrize("run_time", [False, True])
def test_sums_of_integers_are_exact(groups: int, dtypes: tuple[str, str], run_time: bool) -> None:
    limits = [np.iinfo(each) for each in dtypes]
    x = RNG.integers(limits[0].min, limits[0].max, (2, 8, 6, 5), endpoint=True).astype(dtypes[0])
    w = RNG.integers(limits[1].min, limits[1].max, (4, 8 // groups, 3, 3), endpoint=True).astype(dtypes[1])
    x_zero = np.array(limits[0].max, dtypes[0])
    w_zero = RNG.integers(limits[1].min, limits[1].max, 4).astype(dtypes[1])
    zeros: dict[str, Given] = (
        {"xz": (dtypes[0], []), "wz": (dtypes[1], [4])} if run_time else {"xz": x_zero, "wz": w_zero}
    )
    proto = one_node("ConvInteger", {"x": (dtypes[0], ["N", 8, "H", "W"]), "w": w, **zeros}, pads=[1] * 4, group=groups)
    feeds = {"x": x} | ({"xz": x_zero, "wz": w_zero} if run_time else {})
    check(proto, feeds, expected=[_sums(x, w, x_zero, w_zero, 1, groups)], chip="ascend_910b1")


def test_a_quantised_convolution_with_scales_by_filter() -> None:
    x = RNG.integers(0, 255, (1, 4, 6, 6)).astype(np.uint8)
    w = RNG.integers(-128, 127, (3, 4, 3, 3)).astype(np.int8)
    constants: dict[str, Given] = {
        "xs": np.array(0.02, np.float32), "xz": np.array(120, np.uint8), "w": w,
        "ws": np.array([0.01, 0.02, 0.03], np.float32), "wz": np.zeros(3, np.int8),
        "ys": np.array(0.1, np.float32), "yz": np.array(128, np.uint8), "b": np.array([100, -200, 300], np.int32),
    }  # fmt: skip
    proto = one_node("QLinearConv", {"x": ("uint8", ["N", 4, "H", "W"]), **constants}, pads=[1] * 4)
    check(proto, {"x": x}, chip="ascend_910b1")
