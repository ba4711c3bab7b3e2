"""What stands before and behind convolutions of ONNX models shares their programs, and agrees with onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper
from tests.compiler.frontends.onnx.model_run import check
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler import Kernel, Pins, compile_kernel
from npuvm.compiler.frontends.onnx import import_model
from npuvm.compiler.graph.model import DeviceStep

Array = npt.NDArray[Any]

_CONV = helper.make_node("Conv", ["h", "w", "b"], ["y"], pads=[1, 1, 1, 1], strides=[2, 1])
_NORM = ("scale", "offset", "mean", "variance")


def _model(nodes: list[onnx.NodeProto], constants: dict[str, Array], dtype: str) -> onnx.ModelProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x = helper.make_tensor_value_info("x", kind, ["N", 16, "H", "W"])
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "layer", [x], [onnx.ValueInfoProto(name="y")], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return onnx.shape_inference.infer_shapes(made)


def _case(name: str, dtype: str) -> tuple[onnx.ModelProto, Array]:
    """A model and its input. What stands before the convolution makes other numbers than 0 of 0."""
    rng = np.random.default_rng(5)

    def some(*shape: int) -> Array:
        return (rng.random(shape) + 0.5).astype(dtype)

    constants = {"w": (rng.standard_normal((24, 16, 3, 3)) / 4).astype(dtype), "b": some(24)}
    x = rng.standard_normal((2, 16, 12, 9)).astype(dtype)
    whole = (x * 8).astype(np.int8)
    if name == "BatchNormalization and Relu":
        norm = helper.make_node("BatchNormalization", ["x", *_NORM], ["n"])
        nodes = [norm, helper.make_node("Relu", ["n"], ["h"]), _CONV]
        return _model(nodes, {**constants, **{each: some(16) for each in _NORM}}, dtype), x
    if name == "Mul":
        nodes = [helper.make_node("Mul", ["x", "scale"], ["h"]), _CONV]
        return _model(nodes, {**constants, "scale": some(16, 1, 1)}, dtype), x
    if name == "Cast":
        to = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return _model([helper.make_node("Cast", ["x"], ["h"], to=to), _CONV], constants, "int8"), whole
    dequantise = helper.make_node("DequantizeLinear", ["x", "step", "zero"], ["h"])
    quantised = {**constants, "step": np.array(0.125, dtype), "zero": np.array(3, np.int8)}
    return _model([dequantise, _CONV], quantised, "int8"), whole


def _kinds(proto: onnx.ModelProto, x: Array, chip: str, stack: str) -> list[str]:
    (step,) = import_model(proto).steps
    assert isinstance(step, DeviceStep)
    sizes = dict(zip(("N", "C", "H", "W"), x.shape, strict=True))
    shapes = {
        each.name: tuple(sizes[dim] if isinstance(dim, str) else dim for dim in each.type.shape)
        for each in step.graph.params
    }
    made = compile_kernel(Kernel(step.graph), shapes, the_chip(chip), the_isa(), Pins(stack=stack))
    return [launch.kind for launch in made.launches]


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("name", ["BatchNormalization and Relu", "Mul", "Cast", "DequantizeLinear"])
def test_what_stands_before_a_convolution_is_in_its_launch(name: str, dtype: str, chip: str) -> None:
    proto, x = _case(name, dtype)
    assert _kinds(proto, x, chip, "launches") == ["vector", "cube"]
    assert _kinds(proto, x, chip, "mix") == ["mix"]
    tolerance = 2e-2 if dtype == "float16" else 1e-3
    check(proto, {"x": x}, chip=chip, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_batch_normalisation_behind_a_convolution_is_in_its_launch(dtype: str, chip: str) -> None:
    rng = np.random.default_rng(5)
    constants = {each: (rng.random(24) + 0.5).astype(dtype) for each in ("b", *_NORM)}
    constants["w"] = (rng.standard_normal((24, 16, 3, 3)) / 4).astype(dtype)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", *_NORM], ["n"]),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    proto, x = _model(nodes, constants, dtype), rng.standard_normal((2, 16, 12, 9)).astype(dtype)
    assert _kinds(proto, x, chip, "mix") == ["mix"]
    tolerance = 2e-2 if dtype == "float16" else 1e-3
    check(proto, {"x": x}, chip=chip, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("count", [1, 4, 5, 7])
def test_operands_that_one_program_has_no_rings_for_get_programs_of_their_own(chip: str, count: int) -> None:
    """One core has the rings of the convolution and of both vector parts, sixteen at most."""
    rng = np.random.default_rng(7)
    nodes = [helper.make_node("Mul", [f"h{at}" if at else "x", f"p{at}"], [f"h{at + 1}"]) for at in range(count)]
    nodes.append(helper.make_node("Conv", [f"h{count}", "w"], ["y0"], pads=[1, 1, 1, 1]))
    nodes += [helper.make_node("Add", [f"y{at}", f"q{at}"], [f"y{at + 1}"]) for at in range(count)]
    nodes[-1].output[0] = "y"
    constants = {"w": (rng.standard_normal((16, 16, 3, 3)) / 4).astype("float16")}
    for at in range(count):
        constants[f"p{at}"] = (rng.random((16, 6, 10)) / 2 + 0.75).astype("float16")
        constants[f"q{at}"] = rng.standard_normal((16, 6, 10)).astype("float16")
    proto = _model(nodes, constants, "float16")
    x = rng.standard_normal((1, 16, 6, 10)).astype("float16")
    check(proto, {"x": x}, chip=chip, rtol=2e-2, atol=5e-2)
    kinds = _kinds(proto, x, chip, "mix")
    assert (len(kinds) == 1) == (count < 4 or (count < 7 and chip == "ascend_910b1"))
