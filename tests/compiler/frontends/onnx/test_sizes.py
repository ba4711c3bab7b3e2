"""Shapes that a model computes are known as sums of its symbols: the values are those of onnxruntime, at any size."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tests.compiler.frontends.onnx.model_run import run_model

from npuvm.compiler.frontends.onnx import import_model
from npuvm.compiler.graph.model import DeviceStep, Model

SHAPES = ((2, 3, 4), (1, 1, 1), (5, 0, 7), (6, 2, 12))
INT64_MAX = 2**63 - 1


class Sizes:
    """A graph in the making that computes integers from the dims of its input `x` [A, B, 4 or C]."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: Any, **attributes: Any) -> str:
        """Add a node; what is no name is a constant."""
        names = []
        for each in inputs:
            if not isinstance(each, str):
                self.constants.append(numpy_helper.from_array(np.asarray(each), f"c{len(self.constants)}"))
                each = self.constants[-1].name
            names.append(each)
        self.nodes.append(
            helper.make_node(kind, names, [f"v{len(self.nodes)}"], name=f"n{len(self.nodes)}", **attributes)
        )
        return f"v{len(self.nodes) - 1}"

    def model(self, result: str) -> onnx.ModelProto:
        """The model that gives one value."""
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["A", "B", "C"])
        made = helper.make_graph(self.nodes, "sizes", [x], [onnx.ValueInfoProto(name=result)], self.constants)
        proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        return onnx.shape_inference.infer_shapes(proto)


def same_as_onnxruntime(proto: onnx.ModelProto) -> Model:
    """Import once, compare at several sizes."""
    model = import_model(proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for shape in SHAPES:
        feeds = {"x": np.zeros(shape, np.float32)}
        try:
            (expected,) = session.run(None, feeds)
        except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
            continue  # a division by a size of 0
        (found,) = run_model(model, feeds).values()
        assert found.dtype == expected.dtype and found.shape == expected.shape, (shape, found, expected)
        np.testing.assert_array_equal(found, expected, err_msg=str(shape))
    return model


def on_sizes_alone(model: Model) -> None:
    assert not model.host_steps() and not any(isinstance(step, DeviceStep) for step in model.steps)


def of_shape(kind: str, *inputs: Any, **attributes: Any) -> onnx.ModelProto:
    """A model of one operator on the shape of x."""
    made = Sizes()
    return made.model(made.op(kind, made.op("Shape", "x"), *inputs, **attributes))


CASES: dict[str, onnx.ModelProto] = {
    "identity": of_shape("Identity"),
    "cast": of_shape("Cast", to=TensorProto.INT32),
    "gather": of_shape("Gather", np.array([2, 0])),
    "gather-one": of_shape("Gather", np.array(-1)),
    "gather-matrix": of_shape("Gather", np.array([[2, 0], [1, 1]])),
    "slice": of_shape("Slice", np.array([1]), np.array([INT64_MAX])),
    "slice-negative": of_shape("Slice", np.array([-2]), np.array([-1]), np.array([0])),
    "slice-back": of_shape("Slice", np.array([-1]), np.array([-INT64_MAX]), np.array([0]), np.array([-1])),
    "slice-steps": of_shape("Slice", np.array([0]), np.array([3]), np.array([0]), np.array([2])),
    "unsqueeze": of_shape("Unsqueeze", np.array([0, 2])),
    "reshape": of_shape("Reshape", np.array([1, -1])),
    "reshape-zero": of_shape("Reshape", np.array([0, 1])),
    "flatten": of_shape("Flatten", axis=0),
    "expand": of_shape("Expand", np.array([2, 1])),
    "tile": of_shape("Tile", np.array([2])),
    "add": of_shape("Add", np.array([1, 2, 3])),
    "add-one": of_shape("Add", np.array(-1)),
    "sub": of_shape("Sub", np.array([5])),
    "mul": of_shape("Mul", np.array([-2])),
    "div": of_shape("Div", np.array([2])),
    "div-three": of_shape("Div", np.array([1, 2, 4])),
    "mod": of_shape("Mod", np.array([3])),
    "min": of_shape("Min", np.array([3])),
    "max": of_shape("Max", np.array([3])),
    "max-zero": of_shape("Max", np.array([0])),
    "neg": of_shape("Neg"),
    "abs": of_shape("Abs"),
    "prod": of_shape("ReduceProd", keepdims=0),
    "prod-kept": of_shape("ReduceProd", keepdims=1),
    "sum": of_shape("ReduceSum", np.array([0]), keepdims=1),
    "largest": of_shape("ReduceMax", keepdims=0),
    "smallest": of_shape("ReduceMin", keepdims=0),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_on_sizes(name: str) -> None:
    on_sizes_alone(same_as_onnxruntime(CASES[name]))


@pytest.mark.parametrize(("start", "end"), [(0, None), (1, None), (-2, None), (0, -1), (1, 2), (2, 1), (-9, 9)])
def test_a_part_of_a_shape(start: int, end: int | None) -> None:
    made = Sizes()
    attributes = {"start": start} | ({} if end is None else {"end": end})
    on_sizes_alone(same_as_onnxruntime(made.model(made.op("Shape", "x", **attributes))))


def test_the_number_of_elements() -> None:
    made = Sizes()
    on_sizes_alone(same_as_onnxruntime(made.model(made.op("Size", "x"))))


def test_parts_of_a_shape() -> None:
    made = Sizes()
    shape = made.op("Shape", "x")
    made.nodes.append(helper.make_node("Split", [shape], ["a", "b"], name="split", num_outputs=2))
    on_sizes_alone(same_as_onnxruntime(made.model(made.op("Concat", "b", "a", axis=0))))


def test_an_expansion_as_exporters_write_it() -> None:
    """Where(Equal(shape, -1), ones, shape): no size is -1, so that the comparison has one answer for all sizes."""
    made = Sizes()
    shape = made.op("Shape", "x")
    kept = made.op("Equal", shape, made.op("Mul", made.op("ConstantOfShape", made.op("Shape", shape)), np.array(-1)))
    made.nodes[-3].attribute.append(
        helper.make_attribute("value", helper.make_tensor("v", TensorProto.INT64, [1], [1]))
    )
    on_sizes_alone(same_as_onnxruntime(made.model(made.op("Where", kept, np.array([1]), shape))))


def test_a_comparison_that_depends_on_the_size_is_made_by_the_device() -> None:
    made = Sizes()
    model = same_as_onnxruntime(made.model(made.op("Equal", made.op("Shape", "x"), np.array([3, 3, 3]))))
    assert any(isinstance(step, DeviceStep) for step in model.steps)


def test_integers_keep_their_dtype() -> None:
    made = Sizes()
    size = made.op("Cast", made.op("Gather", made.op("Shape", "x"), np.array(0)), to=TensorProto.INT32)
    three = np.array(3, np.int32)
    on_sizes_alone(same_as_onnxruntime(made.model(made.op("Mul", made.op("Div", size, three), three))))


def test_few_numbers_from_a_size_on() -> None:
    made = Sizes()
    size = made.op("Gather", made.op("Shape", "x"), np.array(0))
    on_sizes_alone(
        same_as_onnxruntime(made.model(made.op("Range", size, made.op("Add", size, np.array(7)), np.array(3))))
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_expressions_of_sizes(data: st.DataObject) -> None:
    """Random sums, products, quotients and extremes of dims."""
    made = Sizes()
    shape = made.op("Shape", "x")
    known = [made.op("Gather", shape, np.array(at)) for at in range(3)]
    for _ in range(data.draw(st.integers(1, 6))):
        kind = data.draw(st.sampled_from(["Add", "Sub", "Mul", "Min", "Max", "Div"]))
        left = data.draw(st.sampled_from(known))
        right: Any = data.draw(st.one_of(st.sampled_from(known), st.integers(1, 9).map(np.array)))
        if kind == "Div":
            right = data.draw(st.integers(1, 5).map(np.array))
        known.append(made.op(kind, left, right))
    same_as_onnxruntime(made.model(known[-1]))
