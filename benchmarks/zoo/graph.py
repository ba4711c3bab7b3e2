"""Builds ONNX graphs node by node, with sizes computed in the graph as exporters write them.

A value is its name. A dimension is an int, or the name of a 0-d int64 value that `GraphBuilder.size` took from a shape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["INT64_MAX", "Array", "Dim", "GraphBuilder", "Value"]

Array = npt.NDArray[Any]
Value = str
Dim = int | str

INT64_MAX = int(np.iinfo(np.int64).max)
"""The end of a slice that goes to the end of its axis."""

_OPSET = 17
_IR_VERSION = 8


class GraphBuilder:
    """An ONNX graph in the making.

    Parameters are drawn from `seed` in the order of their use, or taken from `parameters` by name; with `free` they have no
    values and are inputs of the graph, after those that are declared. `dtype` is that of parameters and of floating-point
    constants: float32 or float16.
    """

    def __init__(
        self,
        name: str,
        *,
        dtype: str = "float32",
        seed: int = 0,
        parameters: Mapping[str, Array] | None = None,
        free: bool = False,
    ) -> None:
        self.dtype = np.dtype(dtype)
        self._name = name
        self._rng = np.random.default_rng(seed)
        self._given = parameters
        self._free: dict[str, onnx.ValueInfoProto] | None = {} if free else None
        self._uses: Counter[str] = Counter()
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, dims: Sequence[Dim], dtype: str | None = None) -> Value:
        """Declare an input; a dimension that is a string is a symbol."""
        self._inputs.append(helper.make_tensor_value_info(name, _element(dtype or self.dtype), dims))
        return name

    def output(self, name: str, value: Value, dims: Sequence[Dim], dtype: str | None = None) -> None:
        """Declare `value`, which a node computes, as the output `name`."""
        for node in self._nodes:
            node.input[:] = [name if each == value else each for each in node.input]
            node.output[:] = [name if each == value else each for each in node.output]
        self._outputs.append(helper.make_tensor_value_info(name, _element(dtype or self.dtype), dims))

    def op(self, kind: str, *inputs: Value, **attributes: Any) -> Value:
        """Add a node with one output."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: Value, **attributes: Any) -> list[Value]:
        """Add a node with `count` outputs."""
        name = f"/{kind}_{self._uses[kind]}"
        self._uses[kind] += 1
        outputs = [f"{name}_output_{index}" for index in range(count)]
        self._nodes.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))
        return outputs

    def constant(self, array: Array) -> Value:
        """A constant, as a node."""
        return self.op("Constant", value=numpy_helper.from_array(np.asarray(array)))

    def ints(self, *numbers: int) -> Value:
        """A constant int64 vector."""
        return self.constant(np.array(numbers, dtype=np.int64))

    def index(self, number: int) -> Value:
        """A constant int64 of no dimensions."""
        return self.constant(np.array(number, dtype=np.int64))

    def scalar(self, number: float) -> Value:
        """A constant of no dimensions in the dtype of the graph."""
        return self.constant(np.array(number, dtype=self.dtype))

    def lowest(self) -> Value:
        """The lowest finite number of the graph's dtype, which masks write."""
        return self.scalar(float(np.finfo(self.dtype).min))

    def table(self, name: str, array: Array) -> Value:
        """An initializer with given values."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def weight(self, name: str, *shape: int, scale: float | None = None, transposed: bool = False) -> Value:
        """A parameter; drawn ones have the standard deviation `scale`, by default 1 / sqrt(length of the first axis).

        A given parameter that is `transposed` is stored with its two axes in the other order.
        """
        if self._free is not None:
            return self._open(self._free, name, shape)
        if self._given is None:
            spread = shape[0] ** -0.5 if scale is None else scale
            array: Array = self._rng.standard_normal(shape, dtype=np.float32) * np.float32(spread)
        else:
            array = self._given[name].T if transposed else self._given[name]
        if array.shape != shape:
            raise ValueError(f"parameter {name} has the shape {array.shape}, the graph takes {shape}")
        return self.table(name, array.astype(self.dtype))

    def gain(self, name: str, *shape: int) -> Value:
        """A parameter that scales: drawn ones lie in 0.5 to 1.5."""
        if self._given is not None or self._free is not None:
            return self.weight(name, *shape)
        return self.table(name, self._rng.uniform(0.5, 1.5, shape).astype(self.dtype))

    def bias(self, name: str, *shape: int) -> Value:
        """A parameter that is added."""
        return self.weight(name, *shape, scale=0.1)

    def cast(self, value: Value, dtype: str | None = None) -> Value:
        """Cast to `dtype`, by default that of the graph."""
        return self.op("Cast", value, to=_element(dtype or self.dtype))

    def size(self, value: Value, axis: int) -> Value:
        """The size of one axis."""
        return self.op("Gather", self.op("Shape", value), self.index(axis), axis=0)

    def pack(self, *dims: Dim) -> Value:
        """The vector of `dims`."""
        if all(isinstance(dim, int) for dim in dims):
            return self.ints(*(int(dim) for dim in dims))
        return self.op("Concat", *(self._vector(dim) for dim in dims), axis=0)

    def reshape(self, value: Value, *dims: Dim) -> Value:
        """Reshape to `dims`, of which one may be -1."""
        return self.op("Reshape", value, self.pack(*dims))

    def unsqueeze(self, value: Value, *axes: int) -> Value:
        """Insert axes of size one."""
        return self.op("Unsqueeze", value, self.ints(*axes))

    def transpose(self, value: Value, *order: int) -> Value:
        """Put the axes in another order."""
        return self.op("Transpose", value, perm=list(order))

    def expand(self, value: Value, *dims: Dim) -> Value:
        """Expand to `dims`, of which -1 keeps a size; written as PyTorch's exporter does."""
        shape = self.pack(*dims)
        one = helper.make_tensor("value", TensorProto.INT64, [1], [1])
        ones = self.op("ConstantOfShape", self.op("Shape", shape), value=one)
        kept = self.op("Equal", shape, self.op("Mul", ones, self.index(-1)))
        return self.op("Expand", value, self.op("Where", kept, ones, shape))

    def slice(self, value: Value, axis: int, start: Dim, end: Dim) -> Value:
        """Cut `start` to `end` out of one axis."""
        return self.op("Slice", value, self._vector(start), self._vector(end), self.ints(axis), self.ints(1))

    def range(self, end: Value) -> Value:
        """int64 vector of 0 to `end`, exclusive."""
        return self.op("Range", self.index(0), end, self.index(1))

    def build(self) -> onnx.ModelProto:
        """The model."""
        inputs = [*self._inputs, *(self._free or {}).values()]
        graph = helper.make_graph(self._nodes, self._name, inputs, self._outputs, [*self._initializers.values()])
        opsets = [helper.make_opsetid("", _OPSET)]
        return helper.make_model(graph, producer_name="npuvm-zoo", opset_imports=opsets, ir_version=_IR_VERSION)

    def _open(self, inputs: dict[str, onnx.ValueInfoProto], name: str, shape: Sequence[int]) -> Value:
        inputs.setdefault(name, helper.make_tensor_value_info(name, _element(self.dtype), shape))
        return name

    def _vector(self, dim: Dim) -> Value:
        return self.ints(dim) if isinstance(dim, int) else self.unsqueeze(dim, 0)


def _element(dtype: npt.DTypeLike) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
