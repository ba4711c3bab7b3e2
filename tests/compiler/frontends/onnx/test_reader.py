"""Files, operator sets, functions and initialisers of ONNX models; what is malformed is refused with its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.compiler.frontends.onnx.model_run import check, run_model

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx import import_model, load_model
from npuvm.compiler.graph.model import DeviceStep

FLOAT = TensorProto.FLOAT
RNG = np.random.default_rng(5)
X = RNG.standard_normal((3, 4)).astype(np.float32)


def x_of(*dims: int | str, name: str = "x", dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, dims)


def proto_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto] = (x_of("M", 4),),
    outputs: Sequence[onnx.ValueInfoProto] = (x_of("M", 4, name="y"),),
    opset: int = 21,
    **more: Any,
) -> onnx.ModelProto:
    constants = [numpy_helper.from_array(each, name) for name, each in more.pop("constants", {}).items()]
    graph = helper.make_graph(nodes, "m", inputs, outputs, constants)
    sets = [helper.make_opsetid("", opset), *more.pop("sets", ())]
    return helper.make_model(graph, opset_imports=sets, ir_version=10, **more)


RELU = helper.make_node("Relu", ["x"], ["y"], name="relu")


def refused(proto: onnx.ModelProto, text: str) -> None:
    with pytest.raises(CompileError, match=text):
        import_model(proto)


def test_a_file_and_its_external_data(tmp_path: Path) -> None:
    weight = RNG.standard_normal((4, 64)).astype(np.float32)
    proto = proto_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], outputs=[x_of("M", 64, name="y")], constants={"w": weight}
    )
    onnx.save(
        proto,
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="m.data",
        size_threshold=0,
        convert_attribute=True,
    )
    assert (tmp_path / "m.data").stat().st_size >= weight.nbytes
    model = import_model(load_model(tmp_path / "m.onnx"))
    np.testing.assert_allclose(run_model(model, {"x": X})["y"], X @ weight, rtol=1e-5)
    with pytest.raises(CompileError, match="w: its data lies in a file"):
        import_model(onnx.load(tmp_path / "m.onnx", load_external_data=False))
    (tmp_path / "m.data").write_bytes(b"short")
    with pytest.raises(CompileError, match=r"that lies in other files cannot be read: .*'w'"):
        load_model(tmp_path / "m.onnx")
    (tmp_path / "m.data").unlink()
    with pytest.raises(
        CompileError, match=r"the data of .*m\.onnx' that lies in other files cannot be read: .*m\.data"
    ):
        load_model(tmp_path / "m.onnx")


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"\xff\xfeno model")
    with pytest.raises(CompileError, match="is no ONNX model"):
        load_model(tmp_path / "no.onnx")
    with pytest.raises(CompileError, match="no file"):
        load_model(tmp_path / "missing.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    refused(load_model(tmp_path / "empty.onnx"), "the model has no outputs; allowed: one at least")


def test_inputs_of_several_dtypes_where_one_is_asked_for() -> None:
    inputs = x_of("M", 4), x_of("M", 4, name="i", dtype=TensorProto.INT64)
    mixed = proto_of([helper.make_node("Add", ["x", "i"], ["y"])], inputs)
    refused(mixed, "Add_y: Add: inputs 0 and 1 are float32 and int64; allowed: the same dtype of both")


@pytest.mark.parametrize("opset", [13, 17, 21, onnx.defs.onnx_opset_version()])
def test_operator_sets_from_13_on(opset: int) -> None:
    check(proto_of([RELU], opset=min(opset, 23)), {"x": X})
    import_model(proto_of([RELU], opset=opset))


def test_an_older_operator_set_is_converted() -> None:
    node = helper.make_node("Squeeze", ["x"], ["y"], axes=[1])
    proto = proto_of([node], [x_of("M", 1, 4)], opset=11)
    assert len(import_model(proto).steps) == 1
    np.testing.assert_array_equal(run_model(import_model(proto), {"x": X[:, None]})["y"], X)


def test_an_operator_set_that_is_not_known() -> None:
    refused(proto_of([RELU], opset=999), "operator set 999 is unknown; allowed: 13 to")
    scan = helper.make_node("Scan", ["", "x", "x"], ["y", "z"], num_scan_inputs=1)
    refused(
        proto_of([scan], opset=8), "Scan of operator set 8 scans batches; allowed: Scan of operator set 9 and later"
    )


def test_sparse_initialisers_are_filled_with_zeros() -> None:
    values = numpy_helper.from_array(np.array([1.5, -2.0], np.float32), "w")
    for places in (np.array([1, 6]), np.array([[0, 1], [1, 2]])):
        proto = proto_of([helper.make_node("MatMul", ["x", "w"], ["y"])])
        sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(places), [4, 4])
        proto.graph.sparse_initializer.append(sparse)
        dense = np.zeros((4, 4), np.float32)
        dense.ravel()[[1, 6]] = [1.5, -2.0]
        np.testing.assert_allclose(run_model(import_model(proto), {"x": X})["y"], X @ dense, rtol=1e-6)


def test_an_initialiser_that_is_an_input_too_is_a_constant() -> None:
    proto = proto_of(
        [helper.make_node("Add", ["x", "w"], ["y"])], [x_of("M", 4), x_of(4, name="w")], constants={"w": X[0]}
    )
    model = import_model(proto)
    assert model.inputs == ("x",)
    np.testing.assert_array_equal(run_model(model, {"x": X})["y"], X + X[0])


def test_functions_of_the_file_with_attributes_and_functions_in_them() -> None:
    """Attributes by reference, their defaults, inputs that are left out, and names that are used again inside."""
    inner = helper.make_function(
        "own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 21)]
    )
    slope = helper.make_node("LeakyRelu", ["t"], ["o"])
    slope.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    outer = helper.make_function(
        "own",
        "Leaky",
        ["x", "unused"],
        ["o"],
        [helper.make_node("Twice", ["x"], ["t"], domain="own"), slope],
        [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)],
        attribute_protos=[helper.make_attribute("slope", 0.5)],
    )
    nodes = [
        helper.make_node("Leaky", ["x"], ["t"], domain="own"),
        helper.make_node("Leaky", ["t", ""], ["y"], domain="own", slope=0.25),
    ]
    proto = proto_of(nodes, functions=[inner, outer], sets=[helper.make_opsetid("own", 1)])
    model = import_model(proto)
    assert [type(step) for step in model.steps] == [DeviceStep]
    check(proto, {"x": X})


def test_functions_that_call_themselves() -> None:
    call = helper.make_node("Own", ["a"], ["b"], domain="own")
    branch = helper.make_graph([call], "then", [], [onnx.ValueInfoProto(name="b")])
    nodes = [
        helper.make_node("ReduceMax", ["a"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["c"], to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["b"], name="if", then_branch=branch, else_branch=branch),
    ]
    sets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    for body, place in (([call], "Own_y/Own_b"), (nodes, "Own_y/if/then/Own_b")):
        function = helper.make_function("own", "Own", ["a"], ["b"], body, sets)
        proto = proto_of([helper.make_node("Own", ["x"], ["y"], domain="own")], functions=[function], sets=sets[1:])
        refused(proto, f"{place}: Own calls itself; allowed: functions without recursion")


def test_operators_that_their_schema_defines_are_expanded() -> None:
    nodes = [
        helper.make_node("Celu", ["x"], ["t"], alpha=0.75),
        helper.make_node("MeanVarianceNormalization", ["t"], ["y"], axes=[1]),
    ]
    check(proto_of(nodes), {"x": X}, rtol=1e-4)


def test_nodes_without_names_and_outputs_that_are_inputs_or_constants() -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    outputs = [x_of("M", 4, name="y"), x_of("M", 4, name="z"), x_of(4, name="c")]
    model = import_model(proto_of(nodes, outputs=outputs, constants={"c": X[0]}))
    found = run_model(model, {"x": X})
    for name, wanted in {"y": X, "z": -X, "c": X[0]}.items():
        np.testing.assert_array_equal(found[name], wanted)


def test_dims_without_names_are_symbols_of_their_own() -> None:
    info = x_of("M", 4)
    info.type.tensor_type.shape.dim[0].ClearField("value")
    other = x_of(-1, "x_0", name="z")
    model = import_model(proto_of([RELU], [info, other]))
    assert model.values["x"].shape == ("x_0_", 4)
    assert model.values["z"].shape == ("z_0", "x_0")


def test_what_nothing_uses_is_not_in_the_model() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["t"]), RELU]
    model = import_model(proto_of(nodes, constants={"w": RNG.standard_normal((4, 9)).astype(np.float32)}))
    (step,) = model.steps
    assert isinstance(step, DeviceStep)
    assert not model.constants and [each.op for each in step.graph.nodes] == ["load", "relu", "store"]


def test_an_operator_that_fails_on_the_device_leaves_nothing_behind() -> None:
    """What a rule has put into a region before it gives up is taken back."""
    nodes = [helper.make_node("Mod", ["x", "x"], ["t"], fmod=1), helper.make_node("Abs", ["t"], ["y"])]
    model = import_model(proto_of(nodes))
    (step,) = [each for each in model.steps if isinstance(each, DeviceStep)]
    assert [each.op for each in step.graph.nodes] == ["load", "abs", "store"]


def test_a_weight_is_turned_by_strides_and_not_copied() -> None:
    weight = RNG.standard_normal((200, 100)).astype(np.float32)
    nodes = [helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]), helper.make_node("MatMul", ["x", "t"], ["y"])]
    proto = proto_of(nodes, [x_of("M", 100)], [x_of("M", 200, name="y")], constants={"w": weight})
    model = import_model(proto)
    assert list(model.constants) == ["w"]
    check(proto, {"x": RNG.standard_normal((3, 100)).astype(np.float32)}, rtol=1e-4, atol=1e-4)


# What is malformed.


def test_values_that_nobody_makes() -> None:
    refused(
        proto_of([helper.make_node("Relu", ["nothing"], ["y"], name="relu")]), "Relu relu: 'nothing' is read before"
    )
    refused(
        proto_of([RELU], outputs=[x_of("M", 4, name="lost")]), "outputs of m: 'lost' is read before anything makes it"
    )


def test_values_that_are_made_twice() -> None:
    refused(proto_of([RELU, RELU]), "Relu relu: 'y' is made twice")
    refused(proto_of([RELU], [x_of("M", 4), x_of("N", name="x")]), "two inputs 'x'")


def test_inputs_that_are_no_tensors() -> None:
    info = helper.make_tensor_sequence_value_info("x", FLOAT, None)
    refused(proto_of([RELU], [info]), "m: input 'x' is no tensor; allowed: tensors")


def test_an_output_of_another_dtype_than_it_is_declared() -> None:
    outputs = [x_of("M", 4, name="y", dtype=TensorProto.INT64)]
    refused(proto_of([RELU], outputs=outputs), "output y: it is declared int64; allowed: float32, as it is made")


def test_data_that_does_not_fill_its_dims() -> None:
    proto = proto_of([helper.make_node("Add", ["x", "w"], ["y"])], constants={"w": X[0]})
    proto.graph.initializer[0].dims[0] = 7
    refused(proto, "w: its data is no tensor of its type and dims")


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (helper.make_node("Transpose", ["x"], ["y"], name="turn", perm=[0, 0]), "turn"),
        (helper.make_node("Concat", ["x", "v"], ["y"], name="join", axis=0), "join"),
        (helper.make_node("Reshape", ["x", "five"], ["y"], name="shape"), "shape"),
        (helper.make_node("Reshape", ["x", "open"], ["y"], name="r"), "r: Reshape: 2 sizes are -1; allowed: one"),
        (helper.make_node("Softmax", ["x"], ["y"], name="soft", axis=7), "soft"),
        (helper.make_node("Gemm", ["x", "v"], ["y"], name="gemm"), "gemm: sizes 4 and 3 must be equal"),
        (helper.make_node("Conv", ["x", "v"], ["y"], name="conv"), "conv"),
        (helper.make_node("Gather", ["x", "five"], ["y"], name="pick", axis=9), "pick"),
        (helper.make_node("Squeeze", ["x", "five"], ["y"], name="squeeze"), "squeeze"),
        (helper.make_node("Slice", ["x", "five"], ["y"], name="slice"), "slice"),
        (helper.make_node("Add", ["x"], ["y"], name="one"), "one: Add has 1 inputs; allowed: 2"),
        (
            helper.make_node("Clip", ["x", "v", "v", "v"], ["y"], name="four"),
            "four: Clip has 4 inputs; allowed: 1 to 3",
        ),
        (helper.make_node("Identity", [""], ["y"], name="no"), "no: Identity needs input 0, which is left out"),
        (helper.make_node("Max", [], ["y"], name="none"), "none: Max has 0 inputs; allowed: 1 at least"),
        (helper.make_node("Relu", ["x"], ["y", "z"], name="two"), "two: Relu has 2 outputs; allowed: 1"),
        (
            helper.make_node("Relu", ["x"], ["y"], name="r", alpha=1.0),
            "r: Relu has no attribute 'alpha'; allowed: none",
        ),
        (helper.make_node("Concat", ["x"], ["y"], name="c"), "c: Concat has no attribute 'axis', which it needs"),
        (
            helper.make_node("Concat", ["x"], ["y"], name="c", axis=0.5),
            "c: Concat: attribute 'axis' is FLOAT; allowed: INT",
        ),
        (helper.make_node("If", ["x"], ["y"], name="if"), "if: If has no attribute 'else_branch', which it needs"),
        (
            helper.make_node("Transpose", ["x"], ["y"], name="t", perm=[1]),
            r"t: Transpose: perm \[1\] is no order of the 2",
        ),
        (
            helper.make_node("Einsum", ["x"], ["y"], name="e", equation="zzz"),
            "e: 'zzz' has 3 labels for input 0 of rank 2",
        ),
        (
            helper.make_node("Einsum", ["x"], ["y"], name="e", equation="a,b"),
            "e: the equation 'a,b' is not of 1 inputs",
        ),
    ],
)
def test_operators_that_do_not_fit_their_inputs(node: onnx.NodeProto, text: str) -> None:
    constants = {"v": np.zeros((3, 3), np.float32), "five": np.array([5, 5]), "open": np.array([-1, -1])}
    refused(proto_of([node], [x_of(3, 4)], constants=constants), text)
