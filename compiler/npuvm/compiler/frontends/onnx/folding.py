"""What is known while a graph is read: operators of constants, and operators that functions define."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import onnx
from npuvm.compiler.frontends.onnx.functions import body_of_function, body_of_schema
from onnx import helper
from onnx.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from npuvm.compiler.frontends.onnx.operator import Operator

__all__ = ["expand", "fold"]

_LARGEST = 1 << 26
"""Most elements of a constant that is computed while the graph is read."""

_REFUSALS = (
    ArithmeticError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What the reference raises for operators that it does not have, or not for these dtypes and attributes."""

_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
_CONTROL = {"If", "Loop", "Scan", "SequenceMap"}


def fold(operator: Operator) -> list[npt.NDArray[Any]] | None:
    """Results of an operator whose inputs are all constants, as ONNX's reference computes them; None where they are not."""
    if operator.type in _RANDOM | _CONTROL or (operator.type == "Dropout" and len(operator.inputs) > 2):
        return None
    feeds = {
        f"i{at}": each.const for at, each in enumerate(operator.inputs) if each is not None and each.const is not None
    }
    if len(feeds) < sum(each is not None for each in operator.inputs):
        return None
    model = single(operator)
    try:
        results = ReferenceEvaluator(model).run(None, feeds)
    except _REFUSALS:  # what the reference cannot compute is left to the device or the host
        return None
    if any(not isinstance(each, (np.ndarray, np.generic)) or np.size(each) > _LARGEST for each in results):
        return None
    return [np.asarray(each) for each in results]


def single(operator: Operator) -> onnx.ModelProto:
    """A model of this node alone: inputs i0, i1, ..., outputs o0, o1, ..., without shapes."""
    node = onnx.NodeProto()
    node.CopyFrom(operator.node)
    del node.input[:], node.output[:]
    node.input.extend("" if each is None else f"i{at}" for at, each in enumerate(operator.inputs))
    node.output.extend(f"o{at}" if name else "" for at, name in enumerate(operator.node.output))
    inputs = [
        helper.make_tensor_value_info(f"i{at}", _elem_type(each.dtype), None)
        for at, each in enumerate(operator.inputs)
        if each is not None
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], operator.type, inputs, outputs)
    opsets = [helper.make_opsetid(domain, version) for domain, version in operator.lowering.opsets.items()]
    return helper.make_model(graph, opset_imports=opsets, functions=list(operator.lowering.functions.values()))


def _elem_type(dtype: str) -> int:
    if dtype == "string":
        return int(onnx.TensorProto.STRING)
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def expand(operator: Operator, functions: Mapping[tuple[str, str], onnx.FunctionProto]) -> onnx.FunctionProto | None:
    """The nodes that define an operator, its attributes put in: a function of the file, or of ONNX's own schema."""
    key = (operator.node.domain, operator.type)
    return body_of_function(operator, functions[key]) if key in functions else body_of_schema(operator)
