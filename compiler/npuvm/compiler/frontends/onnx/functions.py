"""The nodes that ONNX's schemas and functions of a file define operators by, with the attributes of one use put in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import defs, helper

if TYPE_CHECKING:
    from npuvm.compiler.frontends.onnx.operator import Operator

__all__ = ["body_of_function", "body_of_schema"]

_LOOPS = ("Range",)
"""Operators that schemas define by loops over single numbers, which are no gain."""


def body_of_function(operator: Operator, function: onnx.FunctionProto) -> onnx.FunctionProto:
    """A function of the file, for this node."""
    defaults = {each.name: each for each in function.attribute_proto}
    return _bound(operator.node, function, defaults)


def body_of_schema(operator: Operator) -> onnx.FunctionProto | None:
    """What the schema says, for this node, its dtypes and dims; None where it says nothing."""
    domain = operator.node.domain
    if operator.type in _LOOPS or not defs.has(operator.type, operator.since, domain):
        return None
    schema: Any = defs.get_schema(operator.type, operator.since, domain)  # the stubs of onnx lack functions
    defaults = {name: each.default_value for name, each in schema.attributes.items() if each.default_value.name}
    if schema.has_function:
        return _bound(operator.node, schema.function_body, defaults)
    versions = [each for each in schema.context_dependent_function_opset_versions if each <= operator.since]
    if not versions:
        return None
    types = [_type_of(operator, at).SerializeToString() for at in range(len(operator.inputs))]
    text = schema.get_context_dependent_function_with_opset_version(
        max(versions), operator.node.SerializeToString(), types
    )
    function = onnx.FunctionProto()
    function.ParseFromString(text)
    return _bound(operator.node, function, defaults) if function.node else None


def _type_of(operator: Operator, index: int) -> onnx.TypeProto:
    entry = operator.inputs[index]
    if entry is None:
        return onnx.TypeProto()
    if entry.dtype == "string":
        return helper.make_tensor_type_proto(onnx.TensorProto.STRING, entry.shape)
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(np.dtype(entry.dtype)), entry.shape)


def _bound(
    node: onnx.NodeProto, function: onnx.FunctionProto, defaults: Mapping[str, onnx.AttributeProto]
) -> onnx.FunctionProto:
    made = onnx.FunctionProto()
    made.CopyFrom(function)
    given = {**defaults, **{each.name: each for each in node.attribute}}
    _put_in(made.node, given)
    return made


def _put_in(nodes: Iterable[onnx.NodeProto], given: Mapping[str, onnx.AttributeProto]) -> None:
    """Attributes that refer to those of the function become their values, or are left out where there is none."""
    for node in nodes:
        kept = []
        for each in node.attribute:
            if each.ref_attr_name:
                if each.ref_attr_name not in given:
                    continue
                value = onnx.AttributeProto()
                value.CopyFrom(given[each.ref_attr_name])
                value.name = each.name
                each = value
            kept.append(each)
            if each.HasField("g"):
                _put_in(each.g.node, given)
        copies = [onnx.AttributeProto.FromString(each.SerializeToString()) for each in kept]
        del node.attribute[:]
        node.attribute.extend(copies)
