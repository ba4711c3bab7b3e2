"""Operators that stay on the host: the model that a provider gets, and what it makes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import onnx
from onnx import defs, helper

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.attributes import dtype_name, type_proto
from npuvm.compiler.frontends.onnx.entries import Entry
from npuvm.compiler.graph.types import Dim

if TYPE_CHECKING:
    from npuvm.compiler.frontends.onnx.operator import Operator

__all__ = ["host_outputs", "inferred", "no_rule", "single"]


def no_rule(operator: Operator, domain: str) -> str:
    """Why an operator is not on the device that no rule is for."""
    if domain:
        return f"there is no rule for {domain}.{operator.type}"
    if defs.has(operator.type, operator.since):
        return f"there is no rule for {operator.type}"
    newer = f"; it is one of {defs.get_schema(operator.type).since_version}" if defs.has(operator.type) else ""
    return f"{operator.type} is no operator of ONNX's set {operator.since}{newer}"


def single(operator: Operator) -> onnx.ModelProto:
    """A model of this node alone: inputs i0, i1, ..., outputs o0, o1, ..., without shapes."""
    node = onnx.NodeProto()
    node.CopyFrom(operator.node)
    del node.input[:], node.output[:]
    node.input.extend("" if each is None else f"i{at}" for at, each in enumerate(operator.inputs))
    node.output.extend(f"o{at}" if name else "" for at, name in enumerate(operator.node.output))
    inputs = []
    for at, each in enumerate(operator.inputs):
        if each is not None:
            inputs.append(onnx.ValueInfoProto(name=f"i{at}", type=type_proto(each)))
            if inputs[-1].type.HasField("tensor_type"):
                inputs[-1].type.tensor_type.ClearField("shape")
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], operator.type, inputs, outputs)
    opsets = [helper.make_opsetid(domain, version) for domain, version in operator.lowering.opsets.items()]
    functions = list(operator.lowering.functions.values()) if operator.is_function else []
    return helper.make_model(graph, opset_imports=opsets, functions=functions)


def host_outputs(operator: Operator, model: onnx.ModelProto, level: int) -> list[Entry]:
    """Outputs of an operator, their types as ONNX infers them from what is known of its inputs.

    Sizes that follow from data are symbols. `model` is that of `single`. CompileError where inputs do not fit the operator.
    """
    _check_types(operator)
    by_name = {each.name: each.type for each in inferred(operator, model).graph.output}
    return [_output(operator, at, by_name.get(f"o{at}"), level) for at in range(operator.outputs)]


def _check_types(operator: Operator) -> None:
    """CompileError where inputs that must have one dtype have several."""
    domain = operator.node.domain
    if not defs.has(operator.type, operator.since, domain):
        return
    schema = defs.get_schema(operator.type, operator.since, domain)
    variables = {each.type_param_str for each in schema.type_constraints}
    first: dict[str, tuple[int, str]] = {}
    for at, each in enumerate(operator.inputs):
        formal = schema.inputs[min(at, len(schema.inputs) - 1)] if schema.inputs else None
        if each is None or not each.dtype or formal is None or formal.type_str not in variables:
            continue
        if not formal.is_homogeneous:
            continue
        other, dtype = first.setdefault(formal.type_str, (at, each.dtype))
        if dtype != each.dtype:
            kinds = f"inputs {other} and {at} are {dtype} and {each.dtype}"
            raise CompileError(f"{operator.type}: {kinds}; allowed: the same dtype of both", operator.source)


def inferred(operator: Operator, model: onnx.ModelProto, lenient: bool = True) -> onnx.ModelProto:
    """The model of `single` with the types that ONNX infers. CompileError where the operator does not fit its inputs.

    When it is `lenient` shapes with symbols are no reason: ONNX takes some of them for shapes with sizes of 0.
    """
    given = [each for each in operator.inputs if each is not None]
    try:
        return _inferred(operator, model, [type_proto(each) for each in given])
    except onnx.shape_inference.InferenceError as error:
        reason = str(error).split("\n")[0].strip()
    if lenient and any(isinstance(dim, str) for each in given for dim in each.shape or ()):
        with suppress(onnx.shape_inference.InferenceError):
            return _inferred(operator, model, [_without_symbols(each) for each in given])
    raise CompileError(f"{operator.type} does not fit its inputs: {reason}", operator.source)


def _inferred(operator: Operator, model: onnx.ModelProto, types: Sequence[onnx.TypeProto]) -> onnx.ModelProto:
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    for info, kind in zip(typed.graph.input, types, strict=True):
        info.type.CopyFrom(kind)
    strict = defs.has(operator.type, operator.since, operator.node.domain)
    return onnx.shape_inference.infer_shapes(typed, strict_mode=strict, data_prop=True)


def _without_symbols(entry: Entry) -> onnx.TypeProto:
    """The type of a value, without its shape if there are symbols in it."""
    made = onnx.TypeProto()
    made.CopyFrom(type_proto(entry))
    if any(isinstance(dim, str) for dim in entry.shape or ()):
        made.tensor_type.ClearField("shape")
    return made


def _output(operator: Operator, at: int, kind: onnx.TypeProto | None, level: int) -> Entry:
    name = operator.lowering.name(operator.node.output[at])
    if kind is None or kind.WhichOneof("value") != "tensor_type":
        return Entry(name, "", None, level=level, kind=kind if kind is not None and kind.WhichOneof("value") else None)
    tensor = kind.tensor_type
    if not tensor.HasField("shape"):
        return Entry(name, dtype_name(tensor.elem_type), None, level=level)
    known = set(operator.lowering.symbols)
    dims: list[Dim] = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value"):
            dims.append(dim.dim_value)
        elif dim.dim_param in known:
            dims.append(dim.dim_param)
        else:
            dims.append(operator.lowering.late_symbol(f"{name}_{axis}", level))
    return Entry(name, dtype_name(tensor.elem_type), tuple(dims), level=level)
