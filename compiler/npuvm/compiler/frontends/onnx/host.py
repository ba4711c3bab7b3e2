"""Operators that stay on the host: the model that a provider gets, and the types of what it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from npuvm.compiler.frontends.onnx.attributes import dtype_name
from npuvm.compiler.model import ValueType
from npuvm.compiler.types import Dim

if TYPE_CHECKING:
    from npuvm.compiler.frontends.onnx.operator import Operator

__all__ = ["host_types"]


def host_types(operator: Operator, model: onnx.ModelProto) -> list[ValueType]:
    """Types of an operator's outputs, as ONNX infers them from what is known of its inputs.

    Sizes that follow from data are symbols.     `model` is that of `single`, and gets its inputs' shapes.
    """
    for info, entry in zip(model.graph.input, (each for each in operator.inputs if each is not None), strict=True):
        if entry.shape is not None:
            shape = info.type.tensor_type.shape
            for dim in entry.shape:
                shape.dim.add(**({"dim_param": dim} if isinstance(dim, str) else {"dim_value": dim}))
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    by_name = {each.name: each for each in inferred.graph.output}
    return [_type(operator, at, by_name.get(f"o{at}")) for at in range(operator.outputs)]


def _type(operator: Operator, at: int, info: onnx.ValueInfoProto | None) -> ValueType:
    if info is None or info.type.WhichOneof("value") != "tensor_type":
        return ValueType("", None)
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return ValueType(dtype_name(tensor.elem_type), None)
    known = set(operator.lowering.symbols)
    dims: list[Dim] = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value"):
            dims.append(dim.dim_value)
        elif dim.dim_param in known:
            dims.append(dim.dim_param)
        else:
            dims.append(operator.lowering.symbol(f"{operator.node.output[at]}_{axis}"))
    return ValueType(dtype_name(tensor.elem_type), tuple(dims))
