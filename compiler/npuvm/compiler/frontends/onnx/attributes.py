"""Attributes and dtypes of ONNX in Python's and numpy's terms."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from npuvm.compiler.frontends.onnx.entries import Entry

__all__ = ["attributes_of", "dtype_name", "type_proto"]


def dtype_name(elem_type: int) -> str:
    """The name that numpy, or ml_dtypes, gives a dtype of ONNX; "string" for text, "" for none."""
    if elem_type == onnx.TensorProto.UNDEFINED:
        return ""
    if elem_type == onnx.TensorProto.STRING:
        return "string"
    return str(helper.tensor_dtype_to_np_dtype(elem_type))


def type_proto(entry: Entry) -> onnx.TypeProto:
    """The type of a value as ONNX has it; without one where it is not known, without shape where that is not."""
    if entry.kind is not None:
        return entry.kind
    made = onnx.TypeProto()
    if entry.dtype == "string":
        made.tensor_type.elem_type = onnx.TensorProto.STRING
    elif entry.dtype:
        made.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(entry.dtype))
    else:
        return made
    if entry.shape is not None:
        made.tensor_type.shape.SetInParent()
        for dim in entry.shape:
            made.tensor_type.shape.dim.add(**({"dim_param": dim} if isinstance(dim, str) else {"dim_value": dim}))
    return made


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes by name: text decoded, lists as lists, tensors and graphs as they are."""
    found: dict[str, Any] = {}
    for each in node.attribute:
        value = helper.get_attribute_value(each)
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, list) and value and isinstance(value[0], bytes):
            value = [text.decode() for text in value]
        found[each.name] = value
    return found
