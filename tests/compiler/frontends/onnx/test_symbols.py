"""What is deduced, required and assumed of the symbols of a model, and that it is right at any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.compiler.frontends.onnx.model_run import check, run_model

from npuvm.compiler.deduction import report
from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx import import_model
from npuvm.compiler.graph.model import DeviceStep, Guard, Model
from npuvm.compiler.graph.sums import parse_sum
from npuvm.compiler.plan.plan import make_plan

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Dims = Sequence[int | str | None]
RNG = np.random.default_rng(3)


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Dims],
    outputs: Sequence[str] = ("y",),
    constants: dict[str, Any] | None = None,
    opset: int = 21,
) -> onnx.ModelProto:
    """A model of nodes with fp32 inputs of these dims; results of rank and dtype that ONNX infers."""
    given = [helper.make_tensor_value_info(name, FLOAT, dims) for name, dims in inputs.items()]
    kept = [numpy_helper.from_array(np.asarray(each), name) for name, each in (constants or {}).items()]
    made = helper.make_graph(nodes, "m", given, [onnx.ValueInfoProto(name=name) for name in outputs], kept)
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(proto)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node; inputs and outputs are names with blanks between them."""
    return helper.make_node(kind, inputs.split(), outputs.split(), name=f"{kind}_{outputs.split()[0]}", **attributes)


def random(*shape: int) -> npt.NDArray[np.float32]:
    return RNG.standard_normal(shape).astype(np.float32)


def texts(guards: Sequence[Guard]) -> list[str]:
    return [str(each) for each in guards]


def regions(model: Model) -> list[DeviceStep]:
    return [step for step in model.steps if isinstance(step, DeviceStep)]


def test_what_a_product_needs_is_required_and_named() -> None:
    proto = graph([node("MatMul", "x w", "y")], {"x": ["B", "K"]}, constants={"w": random(4, 5)})
    model = import_model(proto)
    assert texts(model.required) == ["K == 4"]
    assert [(fact.text, fact.origin) for fact in model.facts] == [("K == 4", "MatMul_y")]
    assert not model.guards
    check(proto, {"x": random(3, 4)})


def test_a_length_is_the_sum_of_others() -> None:
    """A mask over what is past and what is new: its length follows, whichever of the inputs comes first."""
    nodes = [node("Concat", "past x", "both", axis=1), node("Add", "both mask", "y")]
    for order in (["past", "x", "mask"], ["mask", "past", "x"]):
        dims: dict[str, Dims] = {"past": [2, "P"], "x": [2, "S"], "mask": [2, "T"]}
        proto = graph(nodes, {name: dims[name] for name in order})
        model = import_model(proto)
        assert texts(model.guards) == ["T == P + S"]
        check(proto, {"past": random(2, 3), "x": random(2, 1), "mask": random(2, 4)})
        check(proto, {"past": random(2, 0), "x": random(2, 2), "mask": random(2, 2)})


def test_a_guard_fails_exactly_where_what_is_assumed_is_wrong() -> None:
    proto = graph([node("Add", "a b", "y")], {"a": ["M"], "b": ["N"]})
    model = import_model(proto)
    (guard,) = model.guards
    for m, n in ((1, 1), (3, 3), (0, 0), (1, 3), (3, 1), (0, 1)):
        assert guard.holds({"M": m, "N": n}) is (m == n)
        fixed = import_model(proto, fixed={"M": m, "N": n})
        feeds = {"a": random(m), "b": random(n)}
        assert not fixed.guards
        np.testing.assert_array_equal(run_model(fixed, feeds)["y"], feeds["a"] + feeds["b"])
    with pytest.raises(CompileError, match="sizes 2 and 3 cannot be broadcast"):
        import_model(proto, fixed={"M": 2, "N": 3})


def test_an_assumption_that_leads_nowhere_is_taken_back() -> None:
    """A dim that meets 3 in one operator and 5 in another can only be 1."""
    nodes = [node("Add", "x three", "a"), node("Add", "x five", "b")]
    constants = {"three": random(3), "five": random(5)}
    proto = graph(nodes, {"x": ["B", "N"]}, ("a", "b"), constants)
    model = import_model(proto)
    assert texts(model.guards) == ["N == 1"]
    check(proto, {"x": random(2, 1)})


def test_what_is_contradictory_is_an_error_that_names_operator_and_sizes() -> None:
    nodes = [node("MatMul", "x w", "a"), node("MatMul", "x v", "y")]
    proto = graph(nodes, {"x": ["B", "K"]}, constants={"w": random(4, 5), "v": random(6, 5)}, opset=17)
    with pytest.raises(CompileError, match=r"MatMul_y: sizes (4 and 6|6 and 4) must be equal"):
        import_model(proto)


def test_sums_and_products_in_names_of_dims() -> None:
    """`2*S + 1` is a sum where S is a dim by itself; where it is not, the text is a symbol of its own."""
    nodes = [node("Slice", "x one end axis", "cut"), node("Add", "cut z", "y")]
    constants = {"one": np.array([1]), "end": np.array([2**63 - 1]), "axis": np.array([0])}
    proto = graph(nodes, {"s": ["S"], "x": ["2*S + 1"], "z": ["2 * S"]}, constants=constants)
    model = import_model(proto)
    assert not model.guards and not model.required
    feeds = {"s": random(3), "x": random(7), "z": random(6)}
    np.testing.assert_array_equal(run_model(model, feeds)["y"], feeds["x"][1:] + feeds["z"])
    lone = import_model(graph([node("Neg", "x", "y")], {"x": ["2*S + 1", "past_len + seq"]}))
    assert lone.values["x"].shape == ("_2_S___1", "past_len___seq")


def test_a_split_into_heads_needs_a_multiple() -> None:
    """[B, S, D] in 12 heads and back: D is required to be a multiple, and nothing is copied."""
    nodes = [
        node("Reshape", "x heads", "h"),
        node("Transpose", "h", "t", perm=[0, 2, 1, 3]),
        node("Exp", "t", "e"),
        node("Transpose", "e", "u", perm=[0, 2, 1, 3]),
        node("Shape", "x", "shape"),
        node("Reshape", "u shape", "r"),
        node("Add", "r x", "y"),
    ]
    proto = graph(nodes, {"x": ["B", "S", "D"]}, constants={"heads": np.array([0, 0, 12, -1])})
    model = import_model(proto)
    assert texts(model.required) == ["D % 12 == 0"]
    assert texts(model.guards) == ["1 <= 12 * _0"]  # a computed size of 0 would stand for a dim of the input
    for shape in ((2, 3, 24), (1, 1, 12), (2, 1, 36)):
        check(proto, {"x": random(*shape)}, rtol=1e-5)


def test_rows_of_tokens_keep_their_factors() -> None:
    """[B, S, 768] -> [B * S, 768] -> heads: one segment without a tensor of its own between the views."""
    nodes = [
        node("Reshape", "x rows", "r"),
        node("Shape", "x", "shape", start=0, end=2),
        node("Concat", "shape tail", "full", axis=0),
        node("Reshape", "r full", "h"),
        node("Transpose", "h", "t", perm=[0, 2, 1, 3]),
        node("Exp", "t", "y"),
    ]
    constants = {"rows": np.array([-1, 768]), "tail": np.array([12, 64])}
    model = import_model(graph(nodes, {"x": ["B", "S", 768]}, constants=constants))
    (step,) = regions(model)
    views = [each for each in step.graph.nodes if each.op in ("reshape", "permute")]
    assert [str(each.type) for each in views][-1] == "fp32[B, 12, S, 64]"
    assert not step.graph.checks and not model.required
    assert texts(model.guards) == ["1 <= B", "1 <= S"]
    plan = make_plan(step.graph, [], whole_rows=True)
    assert len(plan.segments) == 1 and not [each for each in plan.tensors if each.kind == "workspace"]


def test_products_of_sums_are_told_apart_and_together() -> None:
    """B * (P + S) rows are those of B batches of P + S, computed or not."""
    nodes = [
        node("Concat", "past x", "both", axis=1),
        node("Reshape", "both rows", "r"),
        node("Shape", "x", "shape"),
        node("Shape", "past", "other"),
        node("Add", "shape other", "added"),
        node("Gather", "added one", "length"),
        node("Gather", "shape zero", "batch"),
        node("Mul", "length batch", "count"),
        node("Concat", "count eight", "target", axis=0),
        node("Reshape", "both target", "s"),
        node("Add", "r s", "y"),
    ]
    constants = {"rows": np.array([-1, 8]), "one": np.array([1]), "zero": np.array([0]), "eight": np.array([8])}
    proto = graph(nodes, {"past": ["B", "P", 8], "x": ["B", "S", 8]}, constants=constants)
    model = import_model(proto)
    assert texts(model.guards) == ["1 <= B * P + B * S"] and not model.required
    for p, s in ((2, 1), (0, 3)):
        check(proto, {"past": random(2, p, 8), "x": random(2, s, 8)})


def test_the_smaller_of_two_is_assumed_where_a_table_has_an_end() -> None:
    nodes = [
        node("Shape", "x", "s", start=1, end=2),
        node("Slice", "table zero s zero", "part"),
        node("Add", "x part", "y"),
    ]
    proto = graph(nodes, {"x": ["B", "S", 4]}, constants={"zero": np.array([0]), "table": random(6, 4)})
    model = import_model(proto)
    assert texts(model.guards) == ["S <= 6"]
    for size in (0, 1, 5, 6):
        check(proto, {"x": random(2, size, 4)})
    with pytest.raises(CompileError, match="sizes 7 and 6 cannot be broadcast"):
        import_model(proto, fixed={"B": 2, "S": 7})


def test_halves_and_their_doubles_meet_where_the_whole_is_even() -> None:
    nodes = [
        node("Slice", "x zero end one two", "half"),
        node("Concat", "half half", "doubled", axis=1),
        node("Add", "doubled x", "y"),
    ]
    constants = {"zero": np.array([0]), "end": np.array([2**31 - 1]), "one": np.array([1]), "two": np.array([2])}
    proto = graph(nodes, {"x": ["N", "W"]}, constants=constants)
    model = import_model(proto)
    assert texts(model.guards) == ["W % 2 == 0"]
    check(proto, {"x": random(2, 8)})
    check(proto, {"x": random(2, 0)})


def test_sizes_as_data_are_bounded_by_guards() -> None:
    nodes = [
        node("Shape", "x", "s"),
        node("ReduceProd", "s", "n", keepdims=0),
        node("Cast", "n", "f", to=FLOAT),
        node("Mul", "x f", "y"),
    ]
    proto = graph(nodes, {"x": ["B", "S"]})
    model = import_model(proto)
    assert texts(model.guards) == ["B <= 16777216", "S <= 16777216", "B * S <= 2147483647"]
    for shape in ((3, 5), (0, 4), (1, 1)):
        check(proto, {"x": random(*shape)})


def test_a_difference_of_sizes_may_be_below_zero() -> None:
    nodes = [
        node("Shape", "x", "s"),
        node("Shape", "z", "t"),
        node("Sub", "s t", "d"),
        node("Squeeze", "d", "n"),
        node("Cast", "n", "f", to=FLOAT),
        node("Mul", "x f", "y"),
    ]
    proto = graph(nodes, {"x": ["M"], "z": ["N"]})
    check(proto, {"x": random(3), "z": random(5)})
    check(proto, {"x": random(5), "z": random(3)})


def test_sizes_that_follow_from_data_are_not_assumed() -> None:
    """Whether as many elements are not zero as a dim has cannot be known: the sum is computed on the host."""
    nodes = [
        node("NonZero", "x", "places"),
        node("Cast", "places", "f", to=FLOAT),
        node("Squeeze", "f zero", "g"),
        node("Add", "g z", "y"),
    ]
    proto = graph(nodes, {"x": ["M"], "z": ["N"]}, constants={"zero": np.array([0])})
    model = import_model(proto)
    assert not model.guards
    (reason,) = [step.reason for step in model.host_steps() if step.op == "Add"]
    assert "follows from data" in reason
    x = np.array([0, 2, 0, 3, 4], np.float32)
    for count in (1, 3):
        check(proto, {"x": x, "z": random(count)}, host=["Add", "NonZero"])


def test_the_report_tells_symbols_facts_and_where_they_come_from() -> None:
    nodes = [node("MatMul", "x w", "p"), node("Add", "p z", "q"), node("Concat", "q x", "y", axis=1)]
    proto = graph(nodes, {"x": ["B", "K"], "z": ["C", 5]}, constants={"w": random(4, 5)})
    assert (
        report(import_model(proto))
        == """\
model m
  input x: float32[B, K]
  input z: float32[C, 5]
  output y: float32[B, 9]
  symbol B: >= 0
  symbol K: = 4
  symbol C: >= 0
  fact K == 4  # MatMul_p
  fact C == B (assumed)  # Add_q
  required K == 4  # MatMul_p
  guard C == B  # Add_q
"""
    )


def test_guards_print_and_hold() -> None:
    guard = Guard(parse_sum("2 * S + 2"), "%", parse_sum("4"), "op")
    assert str(guard) == "2 + 2 * S % 4 == 0" and guard.text({"S": 3}) == "8 % 4"
    assert guard.holds({"S": 3}) and not guard.holds({"S": 2})


def _declared(proto: onnx.ModelProto, *dims: int | str) -> onnx.ModelProto:
    """The model with an output of these dims by declaration."""
    kind = proto.graph.output[0].type.tensor_type
    kind.elem_type = FLOAT
    kind.ClearField("shape")
    kind.shape.CopyFrom(helper.make_tensor_type_proto(FLOAT, dims).tensor_type.shape)
    return proto


@pytest.mark.parametrize(
    ("dims", "claims"),
    [
        (("N", "M", "K"), []),
        (("N", "2*M - M", "rows"), []),
        (("M", "M", "K"), ["y[0] == M, but it is N"]),
        (("N", "N + 1", 7), ["y[1] == 1 + N, but it is M", "y[2] == 7, but it is K"]),
        (("N", "M"), ["rank of y == 2, but it is 3"]),
    ],
)
def test_what_is_declared_of_outputs_is_a_claim(dims: Sequence[int | str], claims: list[str]) -> None:
    proto = graph([node("Relu", "x", "y")], {"x": ["N", "M", "K"]})
    model = import_model(_declared(proto, *dims))
    assert [each.text for each in model.claims] == claims
    assert [line for line in report(model).splitlines() if "claim" in line] == [
        f"  claim {each}  # output y" for each in claims
    ]
    assert not model.guards and not model.required


def test_a_claim_that_follows_from_what_an_operator_requires_is_none() -> None:
    proto = graph(
        [node("MatMul", "x w", "z"), node("Add", "z v", "y")], {"x": ["A", "B"], "w": ["B", "C"], "v": ["D", 1]}
    )
    model = import_model(_declared(proto, "D", "C"))
    assert texts(model.guards) == ["D == A"] and not model.claims


@pytest.mark.parametrize(
    ("sizes", "outputs", "attributes", "told"),
    [
        ([2, 3, 1], "y z", {}, "3 sizes, with 2 outputs"),
        ([2, 4], "y z u", {}, "2 sizes, with 3 outputs"),
        (None, "y z", {"num_outputs": 3}, "num_outputs is 3, with 2 outputs"),
    ],
)
def test_a_split_has_an_output_for_each_part(
    sizes: list[int] | None, outputs: str, attributes: dict[str, int], told: str
) -> None:
    constants = {} if sizes is None else {"s": np.array(sizes, np.int64)}
    split = node("Split", "x" if sizes is None else "x s", outputs, **attributes)
    given = helper.make_graph(
        [split],
        "m",
        [helper.make_tensor_value_info("x", FLOAT, [6, "N"])],
        [onnx.ValueInfoProto(name=name) for name in outputs.split()],
        [numpy_helper.from_array(each, name) for name, each in constants.items()],
    )
    with pytest.raises(CompileError, match=f"Split: {told}; allowed: one output for each part"):
        import_model(helper.make_model(given, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
