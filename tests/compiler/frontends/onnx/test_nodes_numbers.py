"""Numbers where the device has no dtype of its own for them: what wraps, what stays on the host, how exact functions are."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper
from tests.compiler.frontends.onnx.model_run import Array, check, one_node, run_model

from npuvm.compiler.frontends.onnx import import_model

INTEGERS = ("int8", "uint8", "int16", "uint16", "int32")


def _extremes(dtype: str, rng: np.random.Generator, count: int = 200) -> Array:
    info = np.iinfo(dtype)
    numbers = rng.integers(info.min, info.max, count, dtype=np.dtype(dtype), endpoint=True)
    numbers[:6] = [info.min, info.max, 0, 1, info.max - 1, info.min + 1]
    return numbers


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
def test_integers_wrap(op: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    a, b = _extremes(dtype, rng), rng.permutation(_extremes(dtype, rng))
    with np.errstate(over="ignore"):
        wanted = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}[op](a, b)
    check(one_node(op, {"a": (dtype, ["N"]), "b": (dtype, ["N"])}), {"a": a, "b": b}, expected=[wanted])


@pytest.mark.parametrize("dtype", INTEGERS)
def test_division_rounds_towards_zero(dtype: str) -> None:
    rng = np.random.default_rng(1)
    a, b = _extremes(dtype, rng, 2000), _extremes(dtype, rng, 2000)
    b[::3] = rng.integers(1, 12, len(b[::3]))
    b[(b == 0) | (b.astype(np.int64) == -1)] = 3
    quotient = (
        np.sign(a.astype(np.int64)) * np.sign(b.astype(np.int64)) * (abs(a.astype(np.int64)) // abs(b.astype(np.int64)))
    )
    proto = one_node("Div", {"a": (dtype, ["N"]), "b": (dtype, ["N"])})
    check(proto, {"a": a, "b": b}, expected=[quotient.astype(dtype)])


@pytest.mark.parametrize("fmod", [0, 1])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_remainders_have_the_sign_of_the_divisor_or_with_fmod_of_the_dividend(dtype: str, fmod: int) -> None:
    rng = np.random.default_rng(2)
    a, b = _extremes(dtype, rng, 2000), _extremes(dtype, rng, 2000)
    b[::3] = rng.integers(1, 12, len(b[::3]))
    b[b == 0] = 7
    proto = one_node("Mod", {"a": (dtype, ["N"]), "b": (dtype, ["N"])}, fmod=fmod)
    wanted = (np.fmod if fmod else np.mod)(a.astype(np.int64), b.astype(np.int64)).astype(dtype)
    check(proto, {"a": a, "b": b}, expected=[wanted])


@pytest.mark.parametrize(("op", "feeds"), [("Add", 2), ("Mul", 2), ("ReduceSum", 1)])
def test_int64_that_int32_may_not_hold_stays_on_the_host(op: str, feeds: int) -> None:
    names = ["a", "b"][:feeds]
    model = import_model(one_node(op, {name: ("int64", ["N"]) for name in names}), any_integers=True)
    (left,) = model.host_steps()
    assert left.reason == "int64 results may not fit int32, in which the device computes"


def test_int64_inputs_are_taken_to_hold_what_sums_of_them_need() -> None:
    model = import_model(one_node("Sub", {"a": ("int64", ["N"]), "b": ("int64", ["N"])}))
    assert model.taken == dict.fromkeys("ab", (-(1 << 24), 1 << 24))
    assert not model.host_steps()


def test_limits_that_int32_does_not_hold_clip_nothing() -> None:
    limits = {"low": np.array(3), "high": np.array(2**63 - 1)}
    check(one_node("Clip", {"x": ("int64", ["N"]), **limits}), {"x": np.array([-9, 3, 70])})


def test_int64_runs_on_the_device_where_bounds_are_known() -> None:
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["c"]),
        helper.make_node("Mul", ["c", "c"], ["m"]),
        helper.make_node("Sub", ["m", "high"], ["y"]),
    ]
    limits = [onnx.numpy_helper.from_array(np.array(each), name) for each, name in ((-1000, "low"), (40000, "high"))]
    proto = _model(nodes, {"x": onnx.TensorProto.INT64}, {"y": onnx.TensorProto.INT64}, limits)
    x = np.array([-(2**24), -5, 0, 7, 39999, 40000, 2**24])
    clipped = np.clip(x, -1000, 40000)
    check(proto, {"x": x}, expected=[clipped * clipped - 40000])


def _model(
    nodes: list[onnx.NodeProto], inputs: dict[str, int], outputs: dict[str, int], constants: list[onnx.TensorProto]
) -> onnx.ModelProto:
    given = [helper.make_tensor_value_info(name, kind, ["N"]) for name, kind in inputs.items()]
    made = [helper.make_tensor_value_info(name, kind, ["N"]) for name, kind in outputs.items()]
    graph = helper.make_graph(nodes, "numbers", given, made, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_a_float_becomes_int64_on_the_device_only_where_it_cannot_be_too_large() -> None:
    cast = helper.make_node("Cast", ["l"], ["y"], to=onnx.TensorProto.INT64)
    bounded = [helper.make_node("Log", ["x"], ["l"]), cast]
    kinds: tuple[dict[str, int], dict[str, int]] = {"x": onnx.TensorProto.FLOAT}, {"y": onnx.TensorProto.INT64}
    x = np.array([1e-40, 0.5, 1.0, 20.0, 3e38], np.float32)
    check(_model(bounded, *kinds, []), {"x": x}, expected=[np.log(x).astype(np.int64)])
    (left,) = import_model(_model([helper.make_node("Neg", ["x"], ["l"]), cast], *kinds, [])).host_steps()
    assert left.op == "Cast"


@pytest.mark.parametrize("target", ["int8", "uint8", "int16", "uint16", "int32", "bool", "float16", "float32"])
@pytest.mark.parametrize("source", ["int8", "uint8", "int16", "uint16", "int32", "bool"])
def test_casts_of_integers_keep_the_low_bits(source: str, target: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2, 50).astype(bool) if source == "bool" else _extremes(source, rng)
    proto = one_node("Cast", {"x": (source, ["N"])}, to=helper.np_dtype_to_tensor_dtype(np.dtype(target)))
    with np.errstate(over="ignore"):  # of fp16
        wanted = x.astype(target)
    check(proto, {"x": x}, expected=[wanted])


@pytest.mark.parametrize("divisor", [8.0, -0.25, 1.0, 3.0, 0.0, 1e-30])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_quotients_by_constants_are_those_of_numpy(dtype: str, divisor: float) -> None:
    x = np.array([0.0, -0.0, 1.0, 7.3, -6e-5, 6e4, np.inf, np.nan], dtype)
    by = np.array([divisor], dtype)
    proto = one_node("Div", {"x": (dtype, ["N"]), "by": by})
    with np.errstate(all="ignore"):
        wanted = (x.astype(np.float32) / by.astype(np.float32)).astype(dtype)
    check(proto, {"x": x}, expected=[wanted], rtol=0, atol=0)


FUNCTIONS = {
    "Acos": np.arccos,
    "Acosh": np.arccosh,
    "Asin": np.arcsin,
    "Asinh": np.arcsinh,
    "Atan": np.arctan,
    "Atanh": np.arctanh,
    "Cos": np.cos,
    "Cosh": np.cosh,
    "Sin": np.sin,
    "Sinh": np.sinh,
    "Tan": np.tan,
}


@pytest.mark.parametrize("op", sorted(FUNCTIONS))
def test_functions_are_exact_to_a_few_units_in_the_last_place_wherever_they_are_finite(op: str) -> None:
    rng = np.random.default_rng(4)
    signs = rng.choice([-1.0, 1.0], 3000)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, 88.8, 89.4, 8191.9, 8192.1]
    x = np.concatenate([rng.uniform(-1, 1, 500), signs * 10 ** rng.uniform(-30, 38, 3000), special]).astype(np.float32)
    model = import_model(one_node(op, {"x": ("float32", ["N"])}))
    assert not model.host_steps()
    found = run_model(model, {"x": x})["y"]
    with np.errstate(all="ignore"):
        wanted = FUNCTIONS[op](x.astype(np.longdouble)).astype(np.float32)
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    np.testing.assert_array_equal(found[np.isinf(wanted)], wanted[np.isinf(wanted)])
    np.testing.assert_allclose(found[finite], wanted[finite], rtol=6e-7, atol=1e-37)


@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize(("target", "largest"), [("float8_e4m3fn", 448.0), ("float8_e5m2", 57344.0)])
def test_floats_of_eight_bits_saturate_when_asked(target: str, largest: float, saturate: int) -> None:
    x = np.array([0.0, 1.06, -447.0, 449.0, 1e6, -1e6, np.inf, -np.inf, np.nan], np.float32)
    kind = np.dtype(getattr(ml_dtypes, target))
    proto = one_node("Cast", {"x": ("float32", ["N"])}, to=helper.np_dtype_to_tensor_dtype(kind), saturate=saturate)
    wanted = (np.clip(x, -largest, largest) if saturate else x).astype(kind)
    check(proto, {"x": x}, expected=[wanted])


@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize(
    ("target", "largest"), [("float8_e4m3fnuz", 240.0), ("float8_e5m2fnuz", 57344.0), ("float4_e2m1fn", 6.0)]
)
def test_small_floats_that_the_device_does_not_have_are_rounded_as_numpy_does(
    target: str, largest: float, saturate: int
) -> None:
    kind = np.dtype(getattr(ml_dtypes, target))
    every = np.arange(256, dtype=np.uint8)[: 16 if "float4" in target else 256].view(kind).astype(np.float32)
    numbers = np.unique(np.abs(every[np.isfinite(every)]))
    between = np.concatenate([(numbers[1:] + numbers[:-1]) / 2, numbers, numbers * 1.01, [largest * 1.02]])
    x = np.concatenate([between, -between]).astype(np.float32)
    if saturate or "float4" in target:
        x = np.concatenate([x, np.array([1e9, np.inf, -np.inf], np.float32)])
    proto = one_node("Cast", {"x": ("float32", ["N"])}, to=helper.np_dtype_to_tensor_dtype(kind), saturate=saturate)
    wanted = (np.clip(x, -largest, largest) if saturate or "float4" in target else x).astype(kind)
    check(proto, {"x": x}, expected=[wanted])
    back = one_node("Cast", {"x": (target, ["N"])}, to=onnx.TensorProto.FLOAT)
    check(back, {"x": wanted}, expected=[wanted.astype(np.float32)])
