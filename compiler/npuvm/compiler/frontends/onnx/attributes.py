"""Attributes and dtypes of ONNX in Python's and numpy's terms."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import helper

__all__ = ["attributes_of", "dtype_name"]


def dtype_name(elem_type: int) -> str:
    """The name that numpy, or ml_dtypes, gives a dtype of ONNX; "string" for text."""
    if elem_type == onnx.TensorProto.STRING:
        return "string"
    return str(helper.tensor_dtype_to_np_dtype(elem_type))


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
